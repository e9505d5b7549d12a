//! A datagram on the wire, and what servers do to the truth in it.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use serde::Deserialize;
use truebound_core::io::MAX_DATAGRAM;
use truebound_core::leap::LeapTable;
use truebound_core::time::{TaiTime, UtcTime};

use super::NS_PER_S;

/// A datagram on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What is in it.
    pub data: Bytes,
}

/// Bytes of a datagram, inline.
#[derive(Clone, Copy)]
pub struct Bytes {
    bytes: [u8; MAX_DATAGRAM],
    len: u8,
}

impl Bytes {
    /// A copy; what does not fit is cut off.
    #[must_use]
    pub fn new(data: &[u8]) -> Self {
        let len = data.len().min(MAX_DATAGRAM);
        let mut bytes = [0; MAX_DATAGRAM];
        bytes[..len].copy_from_slice(&data[..len]);
        Bytes { bytes, len: len as u8 }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a server adds to the time it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Shift {
    /// Always, µs.
    pub constant_us: f64,
    /// In every other half period, µs.
    pub alternating_us: f64,
    /// That period, s.
    pub period_s: f64,
    /// More and more, ppm.
    pub ramp_ppm: f64,
    /// But only up to this, µs, and then back again.
    pub ramp_limit_us: f64,
}

impl Shift {
    /// The shift `since_ns` after it began, ns.
    #[must_use]
    pub fn at(&self, since_ns: i64) -> i64 {
        let s = since_ns as f64 * 1e-9;
        let half = (self.period_s * 0.5).max(1e-3);
        let is_second = self.period_s > 0.0 && (s / half).floor() % 2.0 >= 1.0;
        let alternating = if is_second { self.alternating_us } else { 0.0 };
        let mut ramp = self.ramp_ppm * s;
        if self.ramp_limit_us > 0.0 {
            // A triangle between 0 and the limit.
            let turns = (ramp / self.ramp_limit_us).abs();
            let part = turns - 2.0 * (turns / 2.0).floor();
            ramp = self.ramp_limit_us * if part < 1.0 { part } else { 2.0 - part };
        }
        ((self.constant_us + alternating + ramp) * 1e3).round() as i64
    }
}

/// What a server that smears from noon to noon adds to UTC at true time (TAI) `t`, ns.
///
/// Around a leap by k at Unix time L, D + k seconds of TAI pass while it shows D = 86 400 of them.
pub(super) fn smear_ns(leap: &LeapTable, t: i64) -> i64 {
    const DAY_NS: i64 = 86_400 * NS_PER_S;
    let utc = leap.to_utc(TaiTime::from_ns(t)).as_ns();
    let offset_ns = |unix: i64| i64::from(leap.offset_s(UtcTime::from_ns(unix))) * NS_PER_S;
    // A second more on either side: the leap second itself is told twice.
    let (mut before, mut at) = (utc - DAY_NS / 2 - NS_PER_S, utc + DAY_NS / 2 + NS_PER_S);
    let (before_ns, after_ns) = (offset_ns(before), offset_ns(at));
    if before_ns == after_ns {
        return 0;
    }
    while at - before > 1 {
        let middle = before + (at - before) / 2;
        if offset_ns(middle) == before_ns { before = middle } else { at = middle }
    }
    let k_ns = after_ns - before_ns;
    let since_ns = (t - (at - DAY_NS / 2 + before_ns)).clamp(0, DAY_NS + k_ns);
    let hidden_ns = (i128::from(since_ns) * i128::from(k_ns) / i128::from(DAY_NS + k_ns)) as i64;
    t - before_ns - hidden_ns - utc
}

const ROOT_DISPERSION: usize = 8;
const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;

/// Moves the server's two stamps.
pub(super) fn shift_answer(data: &mut [u8], ns: i64) {
    for at in [RECEIVE, TRANSMIT] {
        add(data, at, units(ns));
    }
}

/// Undoes it in a request that names an earlier answer.
pub(super) fn unshift_request(data: &mut [u8], ns: i64) {
    add(data, ORIGIN, units(ns).wrapping_neg());
}

/// As a server does that truncates its dispersion.
pub(super) fn round_down_header(data: &mut [u8]) {
    if let Some(field) = data.get_mut(ROOT_DISPERSION..ROOT_DISPERSION + 4) {
        let value = u32::from_be_bytes([field[0], field[1], field[2], field[3]]).saturating_sub(1);
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// ns in units of NTP timestamps, 2⁻³² s.
fn units(ns: i64) -> u64 {
    ((i128::from(ns) << 32) / 1_000_000_000) as u64
}

fn add(data: &mut [u8], at: usize, units: u64) {
    let Some(field) = data.get_mut(at..at + 8) else { return };
    let mut word = [0; 8];
    word.copy_from_slice(field);
    let value = u64::from_be_bytes(word);
    if value != 0 {
        field.copy_from_slice(&value.wrapping_add(units).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn shifts_alternate_and_ramp_within_their_limits() {
        let alternating = Shift { alternating_us: 50.0, period_s: 10.0, ..Shift::default() };
        assert_eq!([0, 4, 6, 9, 11].map(|s| alternating.at(s * S)), [0, 0, 50_000, 50_000, 0]);
        let ramp = Shift { ramp_ppm: 10.0, ramp_limit_us: 100.0, ..Shift::default() };
        assert_eq!([0, 5, 10, 15].map(|s| ramp.at(s * S)), [0, 50_000, 100_000, 50_000]);
    }

    #[test]
    fn a_request_that_names_a_shifted_answer_is_unshifted_exactly() {
        let mut data = [0x5a; 48];
        let before = data;
        shift_answer(&mut data, -123_456_789);
        data.copy_within(RECEIVE..RECEIVE + 8, ORIGIN);
        unshift_request(&mut data, -123_456_789);
        assert_eq!(data[ORIGIN..RECEIVE], before[RECEIVE..TRANSMIT]);
    }
}
