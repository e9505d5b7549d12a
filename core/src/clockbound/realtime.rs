//! Layout 2 (`shm0`): how far CLOCK_REALTIME is from true time, for clients that read CLOCK_REALTIME and then
//! CLOCK_MONOTONIC_COARSE.
//!
//! CLOCK_REALTIME showed R at a raw instant in [before, after], true time (UTC) was in [earliest(before), latest(after)]
//! then, and CLOCK_MONOTONIC_COARSE showed `as_of` before all that. Nobody runs CLOCK_REALTIME faster or slower than s
//! against true time: that is the operator's word, which [`SlewWatch`] holds against every pair of readings. Then
//!
//! ```text
//! bound_nsec    = max(R + 1 − earliest, latest − R) + 2·tick·drift + rounding
//! max_drift_ppb = (s + g)/(1 − s)
//! ```
//! 1/(1 − s), because CLOCK_MONOTONIC is slewed with CLOCK_REALTIME: of a second it may show 1 − s. Two ticks, because
//! the coarse clock stands still between ticks, and the CPU that moves it may be late. g is how fast our edges part:
//! the word need not be better than what the sources prove.

use truebound_client::bound::RATE_BITS;
use truebound_client::page::Publication;

use super::{
    BOUND_LIMIT_NS, ClockStatus, Common, Marker, ROUNDING_NS, horizon_ns, middle_rate, packed, ppb_up, share_up,
    status_of, timespec,
};
use crate::io::{CrossReading, HostState, Setting};
use crate::time::NS_PER_S;
use crate::units::FreqError;

/// Clients look at `void_after` only when `as_of` is this old, ns: a snapshot that ends sooner must not be live.
const GRACE_NS: i64 = 5 * NS_PER_S;
/// Words of the body, 16 bytes into the file.
pub const WORDS: usize = 8;
/// The order of storing: what a snapshot may lack of a newer one must only make it wider. With an older `as_of` any
/// bound is wide enough, so that comes last, and of it the seconds.
pub const STORE_ORDER: [usize; WORDS] = [6, 4, 5, 7, 3, 2, 1, 0];

/// What a client of layout 2 reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shm0 {
    /// CLOCK_MONOTONIC_COARSE before the measurement, ns.
    pub as_of_ns: i64,
    /// CLOCK_MONOTONIC_COARSE from which the interval means nothing, ns.
    pub void_after_ns: i64,
    /// The interval's width and worth.
    pub common: Common,
}

/// The clocks, read in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// CLOCK_MONOTONIC_COARSE, ns.
    pub coarse_ns: i64,
    /// Then CLOCK_REALTIME between two readings of raw time.
    pub cross: CrossReading,
    /// How far CLOCK_MONOTONIC_COARSE moves at once, ns.
    pub tick_ns: i64,
}

/// The operator's word: nobody runs CLOCK_REALTIME faster or slower than this against true time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Word(pub FreqError);

impl Shm0 {
    /// The segment at the sample. `broken`: [`SlewWatch`] says that the word does not hold.
    #[must_use]
    pub fn new(
        publication: &Publication,
        sample: &Sample,
        host: &HostState,
        marker: Marker,
        word: Word,
        broken: bool,
    ) -> Self {
        let status = status_of(publication, host, marker);
        let nothing = |status| Shm0 {
            as_of_ns: sample.coarse_ns,
            void_after_ns: sample.coarse_ns,
            common: Common::nothing(status, marker),
        };
        match status {
            ClockStatus::Unknown | ClockStatus::Disrupted => nothing(status),
            _ if broken => nothing(ClockStatus::Disrupted),
            _ => Shm0::live(publication, sample, word, status, marker).unwrap_or(nothing(ClockStatus::Unknown)),
        }
    }

    fn live(
        publication: &Publication,
        sample: &Sample,
        word: Word,
        status: ClockStatus,
        marker: Marker,
    ) -> Option<Self> {
        let (before_ns, real_ns) = (sample.cross.before.as_ns(), sample.cross.real.as_ns());
        let after_ns = sample.cross.after.as_ns();
        let earliest_ns = publication.interval_at(before_ns).ok()?.earliest_ns;
        let latest_ns = publication.interval_at(after_ns).ok()?.latest_ns;
        let bound = publication.bound.carried_to(before_ns).ok()?;
        let slew = word.0.to_rate_up();
        let parting = bound.omega_hi.saturating_sub(middle_rate(&bound)).saturating_add(bound.phase_rate);
        let max_drift_ppb =
            ppb_up((i128::from(slew.saturating_add(parting)) << RATE_BITS).div_euclid(one_less(slew)?) + 1)?;
        // Raw time may run ahead of CLOCK_MONOTONIC by both.
        let horizon_ns = horizon_ns(publication, after_ns)?;
        let caps = bound.cap_hi.max(bound.cap_lo.saturating_neg()).saturating_add(bound.phase_rate);
        let horizon_ns = horizon_ns.saturating_sub(share_up(horizon_ns, slew.saturating_add(caps)));
        let apart_ns = real_ns.saturating_add(1).saturating_sub(earliest_ns).max(latest_ns.saturating_sub(real_ns));
        // ns · ppb / 10⁹, rounded up.
        let lag_ns = sample.tick_ns.saturating_mul(2).saturating_mul(i64::from(max_drift_ppb)) / NS_PER_S + 1;
        let bound_ns = apart_ns.max(0).saturating_add(lag_ns).saturating_add(ROUNDING_NS);
        (horizon_ns >= GRACE_NS && bound_ns <= BOUND_LIMIT_NS).then_some(Shm0 {
            as_of_ns: sample.coarse_ns,
            void_after_ns: sample.coarse_ns.saturating_add(horizon_ns),
            common: Common { max_drift_ppb, bound_ns, status, marker },
        })
    }

    /// The body as words of the file.
    #[must_use]
    pub fn words(&self) -> [u64; WORDS] {
        let ([as_of_s, as_of_ns], [void_s, void_ns]) = (timespec(self.as_of_ns), timespec(self.void_after_ns));
        let Common { bound_ns, marker, .. } = self.common;
        let supports = packed([u8::from(marker.is_watched), 0, 0, 0, 0, 0, 0, 0]);
        let common = self.common.drift_and_status();
        [as_of_s, as_of_ns, void_s, void_ns, bound_ns.cast_unsigned(), marker.seen, common, supports]
    }
}

/// 1 − rate in 2⁻⁴⁰, if that is more than half.
fn one_less(rate: i64) -> Option<i128> {
    let rest = (1_i128 << RATE_BITS) - i128::from(rate);
    (rest > 1 << (RATE_BITS - 1)).then_some(rest)
}

/// Holds the operator's word against CLOCK_REALTIME: is it set, or run faster or slower than was said?
///
/// Between two readings true time advanced by Δ·(1 + ω), Δ of raw time within both brackets and ω as far as it is
/// proved; CLOCK_REALTIME may advance by (1 ± s) of that. Within one pair a clock that ran too fast and then too slow
/// is not seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlewWatch {
    last: Option<CrossReading>,
    expects_step: bool,
}

/// A bound's rates held this long before its reference too, ppb beside: 10⁻⁶ is the wander of 3 s at 3·10⁻⁷/s.
const EARLIER: i64 = (1 << RATE_BITS) / 1_000_000;

impl SlewWatch {
    /// The clock is about to be stepped: the next reading counts as broken.
    pub fn expect_step(&mut self) {
        self.expects_step = true;
    }

    /// Takes a reading: is the word broken since the one before?
    pub fn is_broken(&mut self, publication: &Publication, reading: &CrossReading, word: Word) -> bool {
        let last = self.last.replace(*reading);
        std::mem::take(&mut self.expects_step)
            || reading.setting == Setting::Set
            || last.is_some_and(|last| is_beyond(publication, &last, reading, word))
    }
}

fn is_beyond(publication: &Publication, last: &CrossReading, now: &CrossReading, word: Word) -> bool {
    let limit = publication.omega_limit;
    let proved = publication.bound.carried_to(now.before.as_ns()).ok().filter(|_| publication.status.has_bound());
    let (lo, hi) = proved.map_or((-limit, limit), |bound| {
        let margin = bound.phase_rate.saturating_add(EARLIER);
        (bound.omega_lo.saturating_sub(margin), bound.omega_hi.saturating_add(margin))
    });
    let slew = word.0.to_rate_up();
    let moved_ns = now.real.ns_since(last.real);
    let least = product(now.before.ns_since(last.after).max(0), lo, slew.saturating_neg());
    let most = product(now.after.ns_since(last.before), hi, slew);
    i128::from(moved_ns) < least - 2 || i128::from(moved_ns) > most + 2
}

/// ns·(1 + one)·(1 + other), to within 1 ns.
fn product(ns: i64, one: i64, other: i64) -> i128 {
    let unit = 1_i128 << RATE_BITS;
    let first = (i128::from(ns) * (unit + i128::from(one))) >> RATE_BITS;
    (first * (unit + i128::from(other))) >> RATE_BITS
}
