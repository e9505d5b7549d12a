//! What the clients of ClockBound are told: the contents of its two segments, from a publication and a reading of the
//! clocks. Pure; `truebound_hw::clockbound` puts them in shared memory.
//!
//! * [`realtime`]: layout 2 (`shm0`, clients 2.x), an interval around CLOCK_REALTIME, which others steer;
//! * [`counter`]: layout 3 (`shm1`, clients 3.x), an interval by the CPU's counter, like our own page.
//!
//! Both formats have one half-width that grows by one constant rate from an instant on, and clients that never look
//! again between their copy and their clock. So everything that may happen until the next publication, or until
//! `void_after` if there is none, is in that rate; and what the format cannot carry (a leap second, a break of an
//! assumption) is a status without a bound.

pub mod counter;
pub mod realtime;

use truebound_client::Status;
use truebound_client::bound::{Bound, RATE_BITS};
use truebound_client::page::Publication;

use crate::io::HostState;
use crate::time::NS_PER_S;

/// No client may use a snapshot that is older than this, ns: ClockBound's own limit.
const HORIZON_NS: i64 = 1_000 * NS_PER_S;
/// A longer half-width is published as this, ns: clients panic where their arithmetic overflows.
const BOUND_LIMIT_NS: i64 = 1_000_000_000_000_000;
/// Clients refuse more, ppb.
const DRIFT_LIMIT_PPB: u32 = 999_999_999;
/// Clients round towards zero three times and compute in doubles (0.6 ns over the horizon); and ours of the growth.
const ROUNDING_NS: i64 = 6;
/// UTC is in doubt this long before a leap second that is known or possible, ns: what servers do around it differs.
const LEAP_MARGIN_NS: i64 = 2 * NS_PER_S;
/// A host did not sleep if its suspend counter moved by less, ns.
const SLEEP_NS: i64 = truebound_client::tick::SUSPEND_RESOLUTION_NS;

/// ClockBound's `ClockStatus`, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ClockStatus {
    /// The interval means nothing.
    Unknown = 0,
    /// The bound is live: enough sources answer.
    Synchronized = 1,
    /// The bound is sound and grows, without news.
    FreeRunning = 2,
    /// An assumption broke; a new bound is being earned.
    Disrupted = 3,
}

/// Whether clients are to compare the hypervisor's page (/dev/vmclock0) with the segment, and what they see there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// They are: then they must be able to open that page.
    pub is_watched: bool,
    /// `disruption_marker` as the page has it.
    pub real: u64,
    /// The same as ClockBound's clients read it: 0 for as long as the page's `seq_count` is 0.
    pub seen: u64,
}

/// What [`realtime`] and [`counter`] say besides their interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// Growth of the half-width, ns per s.
    pub max_drift_ppb: u32,
    /// Half-width at the instant of the segment, ns.
    pub bound_ns: i64,
    /// May the interval be used?
    pub status: ClockStatus,
    /// As clients see it.
    pub marker: Marker,
}

/// The status that the publication allows on this host now. The page's own is not enough: what the host shows may be
/// newer than what the agent has made of it.
#[must_use]
pub fn status_of(publication: &Publication, host: &HostState, marker: Marker) -> ClockStatus {
    let slept_ns = host.suspended_ns.saturating_sub(publication.suspended_ns);
    let is_same_host = host.clocksource == publication.clocksource
        && host.vm_mark == publication.vm_mark
        && slept_ns.saturating_abs() < SLEEP_NS
        && (!marker.is_watched || marker.real == publication.vm_mark.disruption_marker);
    match publication.status {
        Status::Locked if is_same_host => ClockStatus::Synchronized,
        Status::Holdover if is_same_host => ClockStatus::FreeRunning,
        Status::Locked | Status::Holdover | Status::Disrupted => ClockStatus::Disrupted,
        Status::Starting | Status::FreeRunning | Status::Void => ClockStatus::Unknown,
    }
}

impl Common {
    /// As wide as clients can bear, and not to be used.
    fn nothing(status: ClockStatus, marker: Marker) -> Self {
        Common { max_drift_ppb: DRIFT_LIMIT_PPB, bound_ns: BOUND_LIMIT_NS, status, marker }
    }

    /// The word with `max_drift_ppb` and `clock_status`.
    fn drift_and_status(&self) -> u64 {
        let (drift, status) = (self.max_drift_ppb.to_ne_bytes(), (self.status as i32).to_ne_bytes());
        packed([drift[0], drift[1], drift[2], drift[3], status[0], status[1], status[2], status[3]])
    }
}

/// Eight bytes in the order of the file.
fn packed(bytes: [u8; 8]) -> u64 {
    u64::from_ne_bytes(bytes)
}

/// A timespec: seconds, then 0 to 999 999 999 ns.
fn timespec(ns: i64) -> [u64; 2] {
    [ns.div_euclid(NS_PER_S).cast_unsigned(), ns.rem_euclid(NS_PER_S).cast_unsigned()]
}

/// How much raw time from `raw_ns` on the bound and the offset of UTC will hold, ns, at most [`HORIZON_NS`]; `None`
/// if they do not now.
///
/// True time runs at 1 + ω against raw time, ω ≤ cap, so a leap T of true time ahead is at least T·(1 − cap) of raw
/// time ahead: 1/(1 + x) ≥ 1 − x.
fn horizon_ns(publication: &Publication, raw_ns: i64) -> Option<i64> {
    let latest_ns = publication.interval_at(raw_ns).ok()?.tai.latest_ns;
    let bound = &publication.bound;
    let leap_ns = publication.utc.change_at_ns.saturating_sub(LEAP_MARGIN_NS).saturating_sub(latest_ns);
    let leap_ns = leap_ns.saturating_sub(share_up(leap_ns, bound.cap_hi.saturating_add(bound.phase_rate)));
    // The last instant of validity is before void_after.
    let void_ns = bound.void_after_ns.saturating_sub(1).saturating_sub(raw_ns);
    let horizon_ns = HORIZON_NS.min(leap_ns).min(void_ns);
    (horizon_ns > 0).then_some(horizon_ns)
}

/// `ns`·rate for a rate in 2⁻⁴⁰, rounded up, not below 0.
fn share_up(ns: i64, rate: i64) -> i64 {
    let product = i128::from(ns.max(0)) * i128::from(rate.max(0));
    i64::try_from((product + ((1 << RATE_BITS) - 1)) >> RATE_BITS).unwrap_or(i64::MAX)
}

/// A rate in 2⁻⁴⁰ as ppb, rounded up; `None` beyond what clients take.
fn ppb_up(rate: i128) -> Option<u32> {
    let product = rate.checked_mul(1_000_000_000)?;
    let ppb = product.checked_add((1 << RATE_BITS) - 1)? >> RATE_BITS;
    u32::try_from(ppb.max(0)).ok().filter(|&ppb| ppb <= DRIFT_LIMIT_PPB)
}

/// The rate in the middle of what is proved, 2⁻⁴⁰ s/s.
fn middle_rate(bound: &Bound) -> i64 {
    bound.omega_lo.midpoint(bound.omega_hi)
}

#[cfg(test)]
mod tests;
