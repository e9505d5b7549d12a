//! A reference clock: a GNSS receiver, a radio, a pulse per second, read by another program of this host or by the
//! kernel, which pair what the clock said with a reading of CLOCK_REALTIME.
//!
//! That reading is a stamp like a packet's: it is mapped to the interval of raw time in which CLOCK_REALTIME showed it
//! ([`crate::correlation`]), or dropped; so it is if anybody set that clock within the time for which a sample may be
//! under way. At that instant true time was what the clock said ± E, the operator's word, and
//! that is an upper and a lower constraint. What was found at the first look is only remembered: nobody knows how old
//! it is. From then on each sample counts once.
//!
//! A pulse says that a second began, but not which. With [lo, hi] true time at the pulse by all the *other* sources (TAI,
//! of whole seconds as UTC is) it must have been the second s with
//!
//! ```text
//! lo − E ≤ s ≤ hi + E,    and hi − lo + 2E < 1 s, so that there is one at the most
//! ```
//! If there is none, or there may be two, the pulse is not used. So a pulse alone proves nothing, and where more sources
//! lie than may, it lies with them.

use crate::association::ntp::{Discard, Told};
use crate::io::{Found, ReferenceRead};
use crate::leap::LeapTable;
use crate::settings::{ReferenceClock, Timescale};
use crate::time::{NS_PER_S, RawSpan, RawTime, RealTime, TaiTime, UtcTime};
use crate::wire::reference::{Said, Sample, parse_shm, parse_sock};

/// The oldest sample that is used, ns: whoever publishes samples does so within this (A4).
pub(crate) const MAX_AGE_NS: i64 = 2 * NS_PER_S;
/// The shortest wait before it is looked again, ns.
const LEAST_WAIT_NS: i64 = 500_000;

/// What is known of a reference clock.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) clock: ReferenceClock,
    pub(crate) error_ns: i64,
    pub(crate) timescale: Timescale,
    /// What was found last; `None`: nobody looked yet, or there was nothing to look at.
    seen: Option<Seen>,
    /// It says when seconds begin, not which: so it cannot number those of others.
    pub(crate) is_pulse: bool,
    pub(crate) pace: Pace,
    /// Samples dropped because CLOCK_REALTIME was set or slewed under them.
    pub(crate) contradicted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Sample(Sample),
}

impl Reference {
    pub(crate) fn new(clock: ReferenceClock, error_ns: i64, timescale: Timescale, interval_ns: i64) -> Self {
        let is_pulse = matches!(clock, ReferenceClock::Pps { .. });
        let pace = Pace { interval_ns, lag_ns: interval_ns, retries: 0, began: RawTime::from_ns(i64::MIN) };
        Reference { clock, error_ns, timescale, seen: None, is_pulse, pace, contradicted: 0 }
    }

    /// As NTP names such clocks to those who follow us.
    pub(crate) fn name(&self) -> [u8; 4] {
        match self.clock {
            ReferenceClock::Shm { .. } => *b"SHM\0",
            ReferenceClock::Sock { .. } => *b"SOCK",
            ReferenceClock::Pps { .. } => *b"PPS\0",
        }
    }

    /// The sample that was found, if it is a new one.
    pub(crate) fn take(&mut self, read: &ReferenceRead<'_>) -> Result<Option<Sample>, Discard> {
        let found = match read.found {
            Found::Segment(bytes) => parse_shm(bytes)?,
            // Whatever is sent is new; what is sent twice is not.
            Found::Datagram(bytes) => {
                self.seen.get_or_insert(Seen::Nothing);
                Some(parse_sock(bytes)?)
            }
            Found::Pulse { sequence, at } => pulse(sequence, at),
            Found::Torn => return Err(Discard::Torn),
            Found::Absent => {
                self.seen = None;
                return Err(Discard::Absent);
            }
        };
        let Some(sample) = found else {
            // Whatever is valid at the next look came after this one.
            self.seen.get_or_insert(Seen::Nothing);
            return Ok(None);
        };
        self.is_pulse |= matches!(sample.said, Said::Second(_));
        let before = self.seen.replace(Seen::Sample(sample));
        Ok(before.is_some_and(|before| before != Seen::Sample(sample)).then_some(sample))
    }

    /// What the clock said on a timescale, ± a doubt, in TAI; `None` near a leap second.
    pub(crate) fn told(&self, said_ns: i64, timescale: Timescale, doubt_ns: i64, leap: &LeapTable) -> Option<Told> {
        let (utc, (floor, ceil)) = match timescale {
            Timescale::Tai => {
                (leap.to_utc(TaiTime::from_ns(said_ns)), (TaiTime::from_ns(said_ns), TaiTime::from_ns(said_ns)))
            }
            Timescale::Utc => (UtcTime::from_ns(said_ns), leap.tai_span(UtcTime::from_ns(said_ns))),
        };
        let told = Told { floor: floor.plus_ns(-doubt_ns), ceil: ceil.plus_ns(doubt_ns), claim_ns: self.error_ns };
        (!leap.is_ambiguous(utc)).then_some(told)
    }
}

/// Before the first pulse the kernel's counter is 0.
fn pulse(sequence: u32, at: RealTime) -> Option<Sample> {
    let sample = Sample { at, said: Said::Second(0), cut_ns: 1, doubt_ns: 0 };
    (sequence != 0).then_some(sample)
}

/// Where in raw time the stamp was, if CLOCK_REALTIME was cut off to it: a fourth more, at the kernel's limit of its rate.
pub(crate) fn uncut(span: RawSpan, cut_ns: i64) -> RawSpan {
    RawSpan { early: span.early, late: span.late.plus_ns(cut_ns.saturating_add(cut_ns / 2)) }
}

/// The one instant of TAI at which a second had gone so far, `second_ns`, within E of [lo, hi], all in ns; `None` if there
/// is none, or if there may be two.
pub(crate) fn only_second(lo_ns: i64, hi_ns: i64, error_ns: i64, second_ns: i64) -> Option<i64> {
    let (lo, hi) = (lo_ns.checked_sub(error_ns)?, hi_ns.checked_add(error_ns)?);
    if lo > hi || hi.checked_sub(lo)? >= NS_PER_S {
        return None;
    }
    // The first at or after lo.
    let told = lo.checked_add(second_ns.checked_sub(lo)?.rem_euclid(NS_PER_S))?;
    (told <= hi).then_some(told)
}

/// When to look for the next sample: right after it was published, since the sooner CLOCK_REALTIME is read after a stamp,
/// the better the stamp is mapped. Nobody tells when, but samples come at a steady interval. So it looks an eighth earlier
/// than the last one was found after its stamp, or twice as early if that was at the first look, and if nothing is there
/// yet, again and again, less and less often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    interval_ns: i64,
    /// From the last sample's stamp until it was found.
    lag_ns: i64,
    /// Looks in vain.
    retries: u32,
    /// When the present interval began.
    began: RawTime,
}

impl Pace {
    /// It is looked at `now`: does another interval begin?
    pub(crate) fn begins(&mut self, now: RawTime) -> bool {
        let begins = now.ns_since(self.began) >= self.interval_ns - self.interval_ns / 4;
        if begins {
            self.began = now;
        }
        begins
    }

    /// If nobody says what was found.
    pub(crate) fn unless_told(&self, now: RawTime) -> RawTime {
        now.plus_ns(self.interval_ns)
    }

    /// A sample that was stamped at `stamped` was found at `now`.
    pub(crate) fn found(&mut self, now: RawTime, stamped: RawTime) -> RawTime {
        self.lag_ns = now.ns_since(stamped).clamp(LEAST_WAIT_NS, self.interval_ns);
        let earlier_ns = if std::mem::take(&mut self.retries) == 0 { self.lag_ns / 2 } else { self.lag_ns / 8 };
        let next = stamped.plus_ns(self.interval_ns.saturating_add(self.lag_ns - earlier_ns));
        next.max(now.plus_ns(self.interval_ns / 2))
    }

    /// Nothing new was found.
    pub(crate) fn missed(&mut self, now: RawTime) -> RawTime {
        let wait = (self.lag_ns / 4).max(LEAST_WAIT_NS).saturating_mul(1 << self.retries.min(16)).min(self.interval_ns);
        self.retries = self.retries.saturating_add(1);
        now.plus_ns(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::AssociationId;

    const MS: i64 = 1_000_000;

    #[test]
    fn the_second_of_a_pulse_is_known_only_if_one_alone_is_possible() {
        let s = |n: i64| n * NS_PER_S;
        // In the middle, and at both edges of the region and of E.
        assert_eq!(only_second(s(7) - 100, s(7) + 100, 0, 0), Some(s(7)));
        assert_eq!(only_second(s(7), s(7) + 200, 0, 0), Some(s(7)));
        assert_eq!(only_second(s(7) - 200, s(7), 0, 0), Some(s(7)));
        assert_eq!(only_second(s(7) + 10, s(7) + 200, 10, 0), Some(s(7)));
        assert_eq!(only_second(s(7) - 200, s(7) - 10, 10, 0), Some(s(7)));
        // One ns beyond either edge no second is possible.
        assert_eq!(only_second(s(7) + 11, s(7) + 200, 10, 0), None);
        assert_eq!(only_second(s(7) - 200, s(7) - 11, 10, 0), None);
        // A width of one second less one ns, E on both sides included, and of one second.
        assert_eq!(only_second(s(7) - s(1) / 2, s(7) + s(1) / 2 - 1, 0, 0), Some(s(7)));
        assert_eq!(only_second(s(7) - s(1) / 2, s(7) + s(1) / 2, 0, 0), None);
        assert_eq!(only_second(s(7) - s(1) / 2 + 10, s(7) + s(1) / 2 - 11, 10, 0), Some(s(7)));
        assert_eq!(only_second(s(7) - s(1) / 2 + 10, s(7) + s(1) / 2 - 10, 10, 0), None);
        // Before the epoch, and where nothing fits into an i64.
        assert_eq!(only_second(-s(7) - 1, -s(7) + 1, 0, 0), Some(-s(7)));
        assert_eq!(only_second(i64::MIN, i64::MIN, 1, 0), None);
        assert_eq!(only_second(i64::MAX - 1, i64::MAX, 0, 5), None);
        // A pulse that is stamped a quarter of a second late.
        assert_eq!(only_second(s(7) + 240 * MS, s(7) + 260 * MS, 0, 250 * MS), Some(s(7) + 250 * MS));
    }

    #[test]
    fn the_only_second_is_the_true_one_wherever_truth_lies() {
        let mut state = 1u64;
        let mut random = |below: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from(state >> 33).expect("31 bits") % below
        };
        let mut used = 0;
        for _ in 0..100_000 {
            // The pulse is right within E, the others' region holds true time.
            let (second, error) = (random(1_000) * NS_PER_S, random(NS_PER_S / 2));
            let truth = second + random(2 * error + 1) - error;
            let (below, above) = (random(NS_PER_S), random(NS_PER_S));
            if let Some(found) = only_second(truth - below, truth + above, error, 0) {
                assert_eq!(found, second, "truth {truth}, -{below}, +{above}, E {error}");
                used += 1;
            }
        }
        assert!(used > 10_000, "{used}");
    }

    #[test]
    fn looks_come_close_behind_a_clock_that_publishes_late() {
        // It stamps every second and publishes 30 ms later; an agent that begins anywhere in the second.
        let mut pace = Reference::new(ReferenceClock::Shm { unit: 0 }, 0, Timescale::Utc, NS_PER_S).pace;
        let (mut now, mut seen, mut looks) = (RawTime::from_ns(640 * MS), -1, 0);
        let mut lags = Vec::new();
        while now < RawTime::from_ns(60 * NS_PER_S) {
            let newest = (now.as_ns() - 30 * MS).div_euclid(NS_PER_S);
            looks += 1;
            now = if newest > seen {
                seen = newest;
                lags.push(now.as_ns() - newest * NS_PER_S);
                pace.found(now, RawTime::from_ns(newest * NS_PER_S))
            } else {
                pace.missed(now)
            };
        }
        assert_eq!(lags.len(), 60, "none is overlooked");
        let worst = lags[30..].iter().max().expect("sixty");
        assert!(*worst <= 60 * MS, "{lags:?}");
        assert!(looks <= 60 * 3, "{looks} looks for 60 samples");
    }

    #[test]
    fn a_clock_that_is_silent_is_looked_at_once_in_an_interval() {
        let mut pace = Reference::new(ReferenceClock::Shm { unit: 0 }, 0, Timescale::Utc, NS_PER_S).pace;
        let mut now = pace.found(RawTime::from_ns(MS), RawTime::from_ns(0));
        let mut looks = 0;
        while now < RawTime::from_ns(60 * NS_PER_S) {
            now = pace.missed(now);
            looks += 1;
        }
        assert!(looks <= 75, "{looks}");
    }

    fn taken(reference: &mut Reference, found: Found<'_>) -> Result<Option<Sample>, Discard> {
        reference.take(&ReferenceRead { association: AssociationId(0), user_after: RawTime::from_ns(0), found })
    }

    #[test]
    fn the_first_pulse_found_is_only_remembered_and_each_later_one_counts_once() {
        let clock = ReferenceClock::Pps { device: "/dev/pps0".to_owned(), edge: crate::settings::PpsEdge::Assert };
        let mut reference = Reference::new(clock, 0, Timescale::Utc, NS_PER_S);
        let mut take = |sequence| {
            let found = Found::Pulse { sequence, at: RealTime::from_ns(i64::from(sequence)) };
            taken(&mut reference, found).expect("a pulse").map(|sample| sample.at.as_ns())
        };
        assert_eq!((take(5), take(5), take(6), take(6), take(7)), (None, None, Some(6), None, Some(7)));
        assert_eq!(taken(&mut reference, Found::Absent), Err(Discard::Absent));
        let again = Found::Pulse { sequence: 9, at: RealTime::from_ns(9) };
        assert_eq!(taken(&mut reference, again), Ok(None), "of another device, perhaps");
    }

    #[test]
    fn before_the_first_pulse_there_is_none_and_then_it_counts() {
        let clock = ReferenceClock::Pps { device: "/dev/pps0".to_owned(), edge: crate::settings::PpsEdge::Assert };
        let mut reference = Reference::new(clock, 0, Timescale::Utc, NS_PER_S);
        let at = RealTime::from_ns(0);
        assert_eq!(taken(&mut reference, Found::Pulse { sequence: 0, at }), Ok(None));
        assert!(taken(&mut reference, Found::Pulse { sequence: 1, at }).expect("a pulse").is_some());
    }
}
