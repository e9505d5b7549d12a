//! Layout 3 (`shm1`): true time (UTC) by the CPU's counter, for clients that read nothing else.
//!
//! Where the kernel's clocksource is that counter, raw time is linear in it: raw = a + p·c with constant a and p.
//! [`CounterLine`] confines p by brackets (raw, counter, raw), each against an earlier one. At the newest bracket UTC is
//! in [E, L]; then the segment says as_of = the middle of both, and lets time run on by P = p·(1 + ω) per tick, with p
//! and ω in the middle of what is proved. Raw time h later
//!
//! ```text
//! |as_of + P·n − UTC| ≤ (L − E)/2 + h·g + P·n·ρ
//! ```
//! ρ is how wrong p may be, relatively: `period_err`. g is how fast our edges leave that line, wander and phase noise
//! included. An edge is convex in h, so its mean rate up to the horizon is at least that up to any earlier instant:
//! `max_drift_ppb` is g at the horizon.

use truebound_client::bound::{Bound, RATE_BITS};
use truebound_client::page::Publication;

use super::{
    BOUND_LIMIT_NS, ClockStatus, Common, Marker, ROUNDING_NS, horizon_ns, middle_rate, packed, ppb_up, status_of,
    timespec,
};
use crate::io::HostState;
use crate::time::{RawTime, RealTime};

/// Words of the body, 16 bytes into the file.
pub const WORDS: usize = 11;
/// The order of storing. No order makes a mix of two snapshots right here (the instant is two fields); the lock does.
pub const STORE_ORDER: [usize; WORDS] = [9, 10, 7, 8, 6, 5, 4, 3, 2, 1, 0];

/// Fraction bits of a period in ns.
const PERIOD_BITS: u32 = 64;
/// Brackets that are this far apart, ns, tell the period.
const LEAST_SPAN_NS: i64 = 50_000_000;
/// A period that is known no better than 2⁻¹⁰, 1 per mille, is none.
const PERIOD_DOUBT_BITS: u32 = 10;

/// Is the kernel's clocksource the counter that clients read?
#[must_use]
pub fn is_counter(clocksource: &[u8; 16]) -> bool {
    [&b"tsc\0"[..], b"arch_sys_counter"].iter().any(|name| clocksource.starts_with(name))
}

/// The counter, read between two readings of raw time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// Raw time before.
    pub before: RawTime,
    /// Ticks.
    pub counter: u64,
    /// Raw time after, rounded up.
    pub after: RawTime,
}

impl CounterReading {
    /// Counters of two CPUs may be this far apart, and so may the counter and the raw time of one bracket.
    #[must_use]
    pub fn widened(self, cpu_error_ns: i64) -> Self {
        let (before, after) = (self.before.plus_ns(cpu_error_ns.saturating_neg()), self.after.plus_ns(cpu_error_ns));
        CounterReading { before, after, ..self }
    }

    fn width_ns(&self) -> i64 {
        self.after.ns_since(self.before)
    }
}

/// What is proved of the counter's period, in 2⁻⁶⁴ ns of raw time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    lo: u128,
    hi: u128,
}

impl Period {
    fn middle(self) -> u128 {
        self.lo.midpoint(self.hi)
    }

    /// hi/middle − 1 and 1 − lo/middle are at most this; against what was measured with the middle, in 2⁻⁶⁴, rounded up.
    fn doubt(self) -> Option<u64> {
        let half = self.hi - self.middle();
        let half = half.max(self.middle() - self.lo);
        u64::try_from(half.checked_mul(1 << 64)?.checked_div(self.lo)?).ok()?.checked_add(1)
    }
}

/// Raw time as a line in the counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct CounterLine {
    anchor: Option<CounterReading>,
    period: Option<Period>,
}

impl CounterLine {
    /// Takes a bracket. False: raw time is not linear in the counter, and whatever was known of it is forgotten.
    pub fn push(&mut self, reading: CounterReading) -> bool {
        let Some(anchor) = self.anchor else {
            self.anchor = Some(reading);
            return true;
        };
        let Some(period) = slope(&anchor, &reading) else {
            *self = CounterLine { anchor: Some(reading), period: None };
            return false;
        };
        let (lo, hi) = self.period.map_or((period.lo, period.hi), |old| (old.lo.max(period.lo), old.hi.min(period.hi)));
        if lo > hi {
            *self = CounterLine { anchor: Some(reading), period: None };
            return false;
        }
        if reading.before.ns_since(anchor.after) >= LEAST_SPAN_NS {
            self.period = Some(Period { lo, hi });
            // An anchor that was read in a hurry is replaced; what it proved stays.
            if reading.width_ns() < anchor.width_ns() / 2 {
                self.anchor = Some(reading);
            }
        }
        true
    }

    /// The period, once it is known.
    #[must_use]
    pub fn period(&self) -> Option<Period> {
        self.period.filter(|period| period.hi - period.lo <= period.lo >> PERIOD_DOUBT_BITS)
    }
}

/// What two brackets prove of the period; `None`: the counter does not go forward with raw time.
fn slope(first: &CounterReading, then: &CounterReading) -> Option<Period> {
    let ticks = u128::from(then.counter.checked_sub(first.counter).filter(|&ticks| ticks > 0)?);
    let least_ns = u128::try_from(then.before.ns_since(first.after).max(0)).ok()?;
    let most_ns = u128::try_from(then.after.ns_since(first.before)).ok()?;
    let lo = (least_ns << PERIOD_BITS) / ticks;
    let hi = (most_ns << PERIOD_BITS).div_ceil(ticks);
    Some(Period { lo, hi })
}

/// What a client of layout 3 reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shm1 {
    /// The counter at the instant of the segment.
    pub as_of_counter: u64,
    /// Unix time at that instant, the middle, ns.
    pub as_of_ns: i64,
    /// Unix time, as clients compute it, after which the interval means nothing, ns.
    pub void_after_ns: i64,
    /// Seconds of true time per tick · 2^(64 + shift).
    pub period_frac: u64,
    /// See `period_frac`.
    pub period_shift: u8,
    /// How wrong the period may be, relatively, 2⁻⁶⁴.
    pub period_err_frac: u64,
    /// The interval's width and worth.
    pub common: Common,
}

impl Shm1 {
    /// The segment at `reading`, which the line has taken already. `real`, CLOCK_REALTIME at about that time, is shown
    /// where there is no bound, and claimed for nothing.
    #[must_use]
    pub fn new(
        publication: &Publication,
        reading: &CounterReading,
        line: &CounterLine,
        host: &HostState,
        marker: Marker,
        real: RealTime,
    ) -> Self {
        let status = status_of(publication, host, marker);
        let nothing = |status| Shm1 {
            as_of_counter: reading.counter,
            as_of_ns: real.as_ns(),
            void_after_ns: real.as_ns(),
            period_frac: 0,
            period_shift: 0,
            period_err_frac: 0,
            common: Common::nothing(status, marker),
        };
        match status {
            ClockStatus::Unknown | ClockStatus::Disrupted => nothing(status),
            _ if !is_counter(&host.clocksource) => nothing(ClockStatus::Unknown),
            _ => Shm1::live(publication, reading, line, status, marker).unwrap_or(nothing(ClockStatus::Unknown)),
        }
    }

    fn live(
        publication: &Publication,
        reading: &CounterReading,
        line: &CounterLine,
        status: ClockStatus,
        marker: Marker,
    ) -> Option<Self> {
        let period = line.period()?;
        let (before_ns, after_ns) = (reading.before.as_ns(), reading.after.as_ns());
        let earliest_ns = publication.interval_at(before_ns).ok()?.earliest_ns;
        let latest_ns = publication.interval_at(after_ns).ok()?.latest_ns;
        let bound = publication.bound.carried_to(before_ns).ok()?;
        let omega = middle_rate(&bound);
        let horizon_ns = horizon_ns(publication, after_ns)?;
        let doubt = period.doubt()?;
        let max_drift_ppb = drift_ppb(&bound, after_ns, horizon_ns, omega, doubt)?;
        let (period_frac, period_shift) = period_of(period.middle(), omega)?;
        // Rates are taken from `before` on, the instant is somewhere in the bracket: no rate reaches 1/8.
        let half_ns = latest_ns.saturating_sub(earliest_ns).saturating_add(1) / 2;
        let bound_ns = half_ns.saturating_add(reading.width_ns() / 8).saturating_add(ROUNDING_NS);
        let as_of_ns = earliest_ns.midpoint(latest_ns);
        // Clients multiply by P, which may be too large by the doubt: they must not arrive later than the horizon.
        let shown_ns = scaled(horizon_ns, omega).saturating_sub(doubt_of(horizon_ns, doubt));
        (shown_ns > 0 && (0..=BOUND_LIMIT_NS).contains(&bound_ns)).then_some(Shm1 {
            as_of_counter: reading.counter,
            as_of_ns,
            void_after_ns: as_of_ns.saturating_add(shown_ns),
            period_frac,
            period_shift,
            period_err_frac: doubt,
            common: Common { max_drift_ppb, bound_ns, status, marker },
        })
    }

    /// The body as words of the file.
    #[must_use]
    pub fn words(&self) -> [u64; WORDS] {
        let ([as_of_s, as_of_ns], [void_s, void_ns]) = (timespec(self.as_of_ns), timespec(self.void_after_ns));
        let Common { bound_ns, marker, .. } = self.common;
        [
            self.as_of_counter,
            as_of_s,
            as_of_ns,
            void_s,
            void_ns,
            self.period_frac,
            self.period_err_frac,
            bound_ns.cast_unsigned(),
            marker.seen,
            self.common.drift_and_status(),
            packed([u8::from(marker.is_watched), self.period_shift, 0, 0, 0, 0, 0, 0]),
        ]
    }
}

/// g at the horizon H, per second of the clients' time: the edges' way beyond ω·H, over H·(1 + ω)·(1 − ρ).
fn drift_ppb(bound: &Bound, from_ns: i64, horizon_ns: i64, omega: i64, doubt: u64) -> Option<u32> {
    let ends = bound.edges_at(from_ns.saturating_add(horizon_ns)).ok()?;
    let straight_ns = scaled(horizon_ns, omega).saturating_sub(horizon_ns);
    let above_ns = ends.hi_ns.saturating_sub(bound.theta_hi_ns).saturating_sub(straight_ns);
    let below_ns = bound.theta_lo_ns.saturating_sub(ends.lo_ns).saturating_add(straight_ns);
    // `straight_ns` and the reference are a nanosecond or two off.
    let way_ns = i128::from(above_ns.max(below_ns).max(0)) + 3;
    let time_ns = i128::from(scaled(horizon_ns, omega).saturating_sub(doubt_of(horizon_ns, doubt)).max(1));
    ppb_up((way_ns << RATE_BITS) / time_ns + 1)
}

/// ns·(1 + rate), rounded down.
fn scaled(ns: i64, rate: i64) -> i64 {
    let product = i128::from(ns) * ((1_i128 << RATE_BITS) + i128::from(rate));
    i64::try_from(product >> RATE_BITS).unwrap_or(i64::MAX)
}

/// Twice ns·doubt, rounded up: 1 + ω is below 2.
fn doubt_of(ns: i64, doubt: u64) -> i64 {
    let product = 2 * u128::from(ns.unsigned_abs()) * u128::from(doubt);
    i64::try_from(product >> 64).unwrap_or(i64::MAX).saturating_add(1)
}

/// Seconds of true time per tick as (frac, shift) with frac/2^(64 + shift), to 64 significant bits as ClockBound does.
fn period_of(period: u128, omega: i64) -> Option<(u64, u8)> {
    let rate = u128::try_from((1_i128 << RATE_BITS) + i128::from(omega)).ok()?;
    // 2^-104 ns, then seconds.
    let seconds = period.checked_mul(rate)? / 1_000_000_000;
    let frequency = (1_u128 << (PERIOD_BITS + RATE_BITS)).checked_div(seconds)?;
    let shift = frequency.checked_ilog2()?;
    // 2^64 itself, of a power of two, is the only value that is too large.
    let frac = u64::try_from(seconds.checked_mul(1 << shift)? >> RATE_BITS).unwrap_or(u64::MAX);
    Some((frac, u8::try_from(shift).ok()?))
}
