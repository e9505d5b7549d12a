//! From a CLOCK_REALTIME stamp to an interval of raw time (BOUND §2).
//!
//! The kernel stamps packets in CLOCK_REALTIME, which anybody may step or slew. So every stamp is bracketed by readings
//! of both clocks, before and after it. Reading i says: REALTIME showed `real` at a raw instant in `[before, after]`.
//! If REALTIME runs at rate 1 + r against raw time, a stamp S was taken at
//!
//! ```text
//! T ∈ [before_i + (S − real_i)/(1 + r),  after_i + (S − real_i)/(1 + r)]        for some r in the range in force
//! ```
//! and T lies in the intersection over the readings on both sides. The range in force is what the kernel itself reports
//! (frequency and tick, the same at every reading used, no phase slew under way) with 600 ppm to spare for adjtime(3)
//! and the kernel's own dithering; in any other case ±25 %, the kernel's hard limit. An empty intersection means that
//! somebody stepped or slewed REALTIME under the stamp: the stamp is dropped. So it is when the clock was set between
//! the readings. What remains undetected is a slew there *and back* within one exchange, by two adjtimex(2) calls; a
//! process that does that is outside assumption A3.

use std::collections::VecDeque;
use std::ops::Range;

use crate::io::{CrossReading, KernelRate, Setting};
use crate::time::{RawSpan, RawTime, RealTime, StampTime};
use crate::units::{to_f64, to_i64};

/// Readings kept: at most so many are between a request and its answer.
const KEPT: usize = 64;
/// Readings used on each side of a stamp: more narrow the interval by a few ns only.
const USED_PER_SIDE: usize = 3;
/// adjtime(3) slews at 500 ppm; the rest is for the kernel's dithering of its multiplier.
const STEADY_MARGIN: f64 = 600e-6;
/// The kernel's limit for tick and phase slews together.
const UNKNOWN_MARGIN: f64 = 0.25;

/// What a stamp is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// It was taken in this span of raw time.
    Span(RawSpan),
    /// There is no reading on one of its sides.
    Unbracketed,
    /// The readings contradict each other or the user stamps: not used.
    Contradicted,
}

impl Mapped {
    /// The span, if there is one.
    pub(crate) fn span(self) -> Option<RawSpan> {
        match self {
            Mapped::Span(span) => Some(span),
            Mapped::Unbracketed | Mapped::Contradicted => None,
        }
    }
}

/// The readings around a stamp, by their places: the used ones before and after it.
struct Around {
    before: Range<usize>,
    after: Range<usize>,
}

/// How far the clock's rate may be from raw time's, beyond what the kernel says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Margins {
    /// While the kernel says the same rate all the time.
    pub(crate) steady: f64,
    /// In any other case.
    pub(crate) unknown: f64,
    /// Nobody but us steers the clock, so that between two rates it ran at one of them.
    pub(crate) is_ours: bool,
}

impl Margins {
    /// CLOCK_REALTIME's.
    pub(crate) const REALTIME: Margins = Margins { steady: STEADY_MARGIN, unknown: UNKNOWN_MARGIN, is_ours: false };
}

/// Recent readings of a clock against raw time, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Correlation<T = RealTime> {
    readings: VecDeque<CrossReading<T>>,
    margins: Margins,
    /// When the first reading since [`Correlation::clear`] was over.
    read_since: Option<RawTime>,
    /// The same of the first one since which nothing tells that the clock was set.
    unset_since: Option<RawTime>,
}

impl<T: StampTime> Correlation<T> {
    /// Without readings.
    pub(crate) fn new(margins: Margins) -> Self {
        Correlation { readings: VecDeque::new(), margins, read_since: None, unset_since: None }
    }

    /// The clock's limits are these from now on.
    pub(crate) fn limit(&mut self, margins: Margins) {
        self.margins = margins;
    }

    /// Remembers a reading.
    pub(crate) fn push(&mut self, reading: CrossReading<T>) {
        self.compare(&reading);
        self.keep(reading);
    }

    /// The same for stamps that are seconds old, whoever reads the clock how often: of readings within `spacing_ns` only
    /// the first and the last are kept. The last tells what they all tell of settings and rates.
    pub(crate) fn push_thinned(&mut self, mut reading: CrossReading<T>, spacing_ns: i64) {
        self.compare(&reading);
        let last_but_one =
            self.readings.len().checked_sub(2).and_then(|at| self.readings.get(at)).map(|one| one.before);
        if let Some((last_but_one, other)) = last_but_one.zip(self.readings.back_mut())
            && reading.before.ns_since(last_but_one) < spacing_ns
            // Between two rates of our own a clock ran at one of them: that is worth keeping apart.
            && (other.rate == reading.rate || !self.margins.is_ours)
        {
            reading.setting = reading.setting.max(other.setting);
            if other.rate != reading.rate {
                reading.rate = KernelRate::Unknown;
            }
            *other = reading;
            return;
        }
        self.keep(reading);
    }

    /// Does anything tell that the clock was set since the reading before?
    fn compare(&mut self, reading: &CrossReading<T>) {
        self.read_since = self.read_since.or(Some(reading.after));
        if self.readings.back().is_none_or(|last| !self.continues(last, reading)) {
            self.unset_since = Some(reading.after);
        }
    }

    fn keep(&mut self, reading: CrossReading<T>) {
        if self.readings.len() == KEPT {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    /// The last reading that was over before `at`.
    pub(crate) fn last_before(&self, at: RawTime) -> Option<&CrossReading<T>> {
        self.readings.iter().rev().find(|reading| reading.after <= at)
    }

    /// Forgets everything: raw time is another clock now.
    pub(crate) fn clear(&mut self) {
        self.readings.clear();
        self.read_since = None;
        self.unset_since = None;
    }

    /// Where in raw time `stamp` was taken, knowing from user-space readings that it was in `user`.
    pub(crate) fn map(&self, stamp: T, user: RawSpan) -> Mapped {
        let Around { before, after } = self.around(user);
        if before.is_empty() || after.is_empty() {
            return Mapped::Unbracketed;
        }
        // Those between the used ones count too: the rate may have changed there, or the clock been set.
        if self.readings.range(before.start + 1..after.end).any(|reading| reading.setting == Setting::Set) {
            return Mapped::Contradicted;
        }
        let rates = rates_in_force(self.readings.range(before.start..after.end), self.margins);
        let mut span = user;
        for reading in self.readings.range(before).chain(self.readings.range(after)) {
            match span.intersect(by_reading(reading, stamp, rates)) {
                Some(narrower) => span = narrower,
                None => return Mapped::Contradicted,
            }
        }
        Mapped::Span(span)
    }

    /// Where in raw time a stamp was taken of which only an end is known: that of a packet that nobody asked for. It is
    /// not older than `age_ns`.
    ///
    /// The stamp itself tells after which reading to look: a clock that was not set since shows more later. A clock that
    /// *was* set back may show a stamp twice, and readings around the second time agree with each other: nothing but
    /// readings from the first on tells. So nothing may have happened for as long as the stamp can be old.
    pub(crate) fn map_until(&self, stamp: T, late: RawTime, age_ns: i64) -> Mapped {
        let earliest = late.plus_ns(age_ns.saturating_neg());
        match self.is_unset_since(earliest) {
            None => return Mapped::Unbracketed,
            Some(false) => return Mapped::Contradicted,
            Some(true) => {}
        }
        let mut earlier = self.readings.iter().rev().filter(|reading| reading.after <= late);
        let first = earlier.find(|reading| stamp.ns_since(reading.real) >= 0);
        match first.map(|reading| self.map(stamp, RawSpan { early: reading.before, late })) {
            Some(mapped) if mapped.span().is_none_or(|span| span.early >= earliest) => mapped,
            _ => Mapped::Unbracketed,
        }
    }

    /// Did nobody set the clock, as far as readings tell, from `since` on? `None` if they do not reach back so far.
    fn is_unset_since(&self, since: RawTime) -> Option<bool> {
        self.read_since.filter(|&first| first <= since)?;
        self.unset_since.map(|unset| unset <= since)
    }

    /// Does nothing tell that the clock was set between these two readings?
    ///
    /// Where the kernel does not tell, the readings themselves must, and they do while the rate is known: what is less
    /// than the margin makes of the time between them goes unnoticed (README, A3).
    fn continues(&self, one: &CrossReading<T>, next: &CrossReading<T>) -> bool {
        let is_told = match next.setting {
            Setting::Set => return false,
            Setting::Unset => true,
            Setting::Untold => rates_of([one, next].into_iter(), self.margins).is_some(),
        };
        is_told && self.agree(one, next)
    }

    /// Can the clock have run from one reading to the next?
    fn agree(&self, one: &CrossReading<T>, next: &CrossReading<T>) -> bool {
        let rates = rates_in_force([one, next].into_iter(), self.margins);
        let shown = RawSpan { early: next.before, late: next.after };
        by_reading(one, next.real, rates).intersect(shown).is_some()
    }

    /// The last readings that ended before `user`, and the first that began after it. Stamps are young: it looks from
    /// the newest backwards.
    fn around(&self, user: RawSpan) -> Around {
        let newest = || self.readings.iter().rev();
        let first_inside = self.readings.len() - newest().take_while(|reading| reading.after > user.early).count();
        let first_after = self.readings.len() - newest().take_while(|reading| reading.before >= user.late).count();
        // No reading is on both sides, whatever order they came in.
        let first_after = first_after.max(first_inside);
        Around {
            before: first_inside.saturating_sub(USED_PER_SIDE)..first_inside,
            after: first_after..(first_after + USED_PER_SIDE).min(self.readings.len()),
        }
    }
}

/// Least and greatest r, with 1 + r the rate of REALTIME against raw time.
fn rates_in_force<'a, T: StampTime + 'a>(
    readings: impl Iterator<Item = &'a CrossReading<T>>,
    margins: Margins,
) -> (f64, f64) {
    rates_of(readings, margins).unwrap_or((-margins.unknown, margins.unknown))
}

/// The same, if what the kernel said at each of the readings tells.
fn rates_of<'a, T: StampTime + 'a>(
    readings: impl Iterator<Item = &'a CrossReading<T>>,
    Margins { steady, unknown, is_ours }: Margins,
) -> Option<(f64, f64)> {
    let (mut least, mut most) = (i64::MAX, i64::MIN);
    for reading in readings {
        let KernelRate::Steady { ppb } = reading.rate else { return None };
        (least, most) = (least.min(ppb), most.max(ppb));
    }
    let is_known = least == most || (is_ours && least < most);
    is_known.then(|| ((to_f64(least) * 1e-9 - steady).max(-unknown), (to_f64(most) * 1e-9 + steady).min(unknown)))
}

fn by_reading<T: StampTime>(reading: &CrossReading<T>, stamp: T, (slow, fast): (f64, f64)) -> RawSpan {
    let elapsed = to_f64(stamp.ns_since(reading.real));
    let (a, b) = (elapsed / (1.0 + slow), elapsed / (1.0 + fast));
    RawSpan {
        early: reading.before.plus_ns(to_i64(a.min(b).floor()).saturating_sub(1)),
        late: reading.after.plus_ns(to_i64(a.max(b).ceil()).saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEADY: KernelRate = KernelRate::Steady { ppb: 0 };

    fn reading(raw: i64, real: i64, rate: KernelRate) -> CrossReading {
        CrossReading {
            before: RawTime::from_ns(raw - 20),
            real: RealTime::from_ns(real),
            after: RawTime::from_ns(raw + 20),
            rate,
            setting: Setting::Unset,
        }
    }

    fn span(early: i64, late: i64) -> RawSpan {
        RawSpan { early: RawTime::from_ns(early), late: RawTime::from_ns(late) }
    }

    fn correlation(readings: &[CrossReading]) -> Correlation {
        let mut correlation = Correlation::new(Margins::REALTIME);
        readings.iter().for_each(|&reading| correlation.push(reading));
        correlation
    }

    #[test]
    fn a_steady_clock_maps_a_stamp_to_the_width_of_the_readings() {
        // REALTIME = raw + 5,000,000; the stamp is 100 µs after the first reading.
        let correlation = correlation(&[reading(0, 5_000_000, STEADY), reading(300_000, 5_300_000, STEADY)]);
        let Mapped::Span(at) = correlation.map(RealTime::from_ns(5_100_000), span(1_000, 290_000)) else {
            panic!("bracketed and steady");
        };
        assert!(at.early <= RawTime::from_ns(100_000) && at.late >= RawTime::from_ns(100_000), "{at:?}");
        assert!(at.late.ns_since(at.early) < 200, "{at:?}");
    }

    #[test]
    fn a_step_under_the_stamp_drops_it() {
        let correlation = correlation(&[reading(0, 5_000_000, STEADY), reading(300_000, 6_300_000, STEADY)]);
        assert_eq!(correlation.map(RealTime::from_ns(5_100_000), span(1_000, 290_000)), Mapped::Contradicted);
    }

    #[test]
    fn a_change_of_rate_widens_to_the_kernels_limit() {
        // chrony's fastest slew begins between the readings: 83,333 ppm over at most 300 µs.
        let fast = KernelRate::Steady { ppb: 83_333_000 };
        let correlation = correlation(&[reading(0, 5_000_000, STEADY), reading(300_000, 5_310_000, fast)]);
        let Mapped::Span(at) = correlation.map(RealTime::from_ns(5_150_000), span(1_000, 290_000)) else {
            panic!("bracketed");
        };
        // The stamp may have been taken anywhere between the slew starting at once and starting at its end.
        assert!(at.early <= RawTime::from_ns(140_000) && at.late >= RawTime::from_ns(150_000), "{at:?}");
    }

    #[test]
    fn a_set_clock_drops_the_stamp_even_if_it_was_set_back() {
        let mut after = reading(300_000, 5_300_000, STEADY);
        after.setting = Setting::Set;
        let correlation = correlation(&[reading(0, 5_000_000, STEADY), after]);
        assert_eq!(correlation.map(RealTime::from_ns(5_100_000), span(1_000, 290_000)), Mapped::Contradicted);
    }

    #[test]
    fn a_clock_that_was_set_back_shows_an_old_stamp_once_more_and_the_readings_before_tell() {
        const MS: i64 = 1_000_000;
        // Set back by 400 ms at 100 ms; read every 50 ms, which is told with the readings at 100 and 150 ms, or not.
        for is_told in [true, false] {
            let at = |raw: i64| CrossReading {
                setting: match raw {
                    _ if !is_told => Setting::Untold,
                    100_000_000 | 150_000_000 => Setting::Set,
                    _ => Setting::Unset,
                },
                ..reading(raw, raw - if raw < 100 * MS { 0 } else { 400 * MS }, STEADY)
            };
            let mut correlation = correlation(&[]);
            (0..=500).step_by(50).for_each(|ms| correlation.push(at(ms * MS)));
            correlation.push(at(600 * MS));
            // Stamped at 75 ms, found at 550 ms: 475 ms after the start the clock shows the same.
            let (stamp, late) = (RealTime::from_ns(75 * MS), RawTime::from_ns(550 * MS));
            let Mapped::Span(wrong) = correlation.map(stamp, span(450 * MS, 550 * MS)) else {
                panic!("readings agree around it")
            };
            assert!(wrong.early > RawTime::from_ns(400 * MS), "{wrong:?}");
            assert_eq!(correlation.map_until(stamp, late, 500 * MS), Mapped::Contradicted, "told: {is_told}");
            // From the second reading that tells it on, nothing happened.
            let Mapped::Span(young) = correlation.map_until(stamp, late, 390 * MS) else { panic!("told: {is_told}") };
            assert_eq!(young, wrong);
            // It cannot be older than it may be, and nobody read the clock before the start.
            assert_eq!(correlation.map_until(stamp, late, 50 * MS), Mapped::Unbracketed);
            assert_eq!(correlation.map_until(stamp, late, 551 * MS), Mapped::Unbracketed);
        }
    }

    #[test]
    fn without_a_word_of_settings_a_stamp_of_unknown_age_needs_a_known_rate() {
        const MS: i64 = 1_000_000;
        let other = KernelRate::Steady { ppb: 1 };
        for (setting, rate, is_ours, is_placed) in [
            (Setting::Untold, STEADY, false, true),
            (Setting::Untold, other, false, false),
            (Setting::Untold, other, true, true),
            (Setting::Untold, KernelRate::Unknown, false, false),
            (Setting::Unset, other, false, true),
            (Setting::Unset, KernelRate::Unknown, false, true),
        ] {
            let mut correlation = Correlation::new(Margins { is_ours, ..Margins::REALTIME });
            for ms in 0..10 {
                let rate = if ms == 5 { rate } else { STEADY };
                correlation.push(CrossReading { setting, ..reading(ms * MS, ms * MS, rate) });
            }
            let mapped = correlation.map_until(RealTime::from_ns(8 * MS - 1), RawTime::from_ns(8 * MS + 100), 4 * MS);
            assert_eq!(mapped.span().is_some(), is_placed, "{setting:?} {rate:?} {is_ours}: {mapped:?}");
        }
    }

    #[test]
    fn thinned_readings_tell_what_they_all_told() {
        let other = KernelRate::Steady { ppb: 1 };
        let mut thinned = Correlation::new(Margins::REALTIME);
        for (raw, rate, setting) in [
            (0, STEADY, Setting::Unset),
            (100, other, Setting::Set),
            (200, STEADY, Setting::Unset),
            (2_000, STEADY, Setting::Unset),
        ] {
            thinned.push_thinned(CrossReading { setting, ..reading(raw, raw, rate) }, 1_000);
        }
        let kept: Vec<(i64, KernelRate, Setting)> =
            thinned.readings.iter().map(|r| (r.real.as_ns(), r.rate, r.setting)).collect();
        // The one at 200 stands for that at 100 too.
        let expected =
            [(0, STEADY, Setting::Unset), (200, KernelRate::Unknown, Setting::Set), (2_000, STEADY, Setting::Unset)];
        assert_eq!(kept, expected);
        let is_unset = |raw: i64| thinned.is_unset_since(RawTime::from_ns(raw));
        assert_eq!((is_unset(19), is_unset(119), is_unset(120)), (None, Some(false), Some(true)));
    }

    #[test]
    fn without_a_reading_on_both_sides_there_is_no_span() {
        let correlation = correlation(&[reading(0, 5_000_000, STEADY)]);
        assert_eq!(correlation.map(RealTime::from_ns(5_100_000), span(1_000, 290_000)), Mapped::Unbracketed);
    }

    #[test]
    fn a_stamp_outside_the_user_stamps_is_dropped() {
        let correlation = correlation(&[reading(0, 5_000_000, STEADY), reading(300_000, 5_300_000, STEADY)]);
        assert_eq!(correlation.map(RealTime::from_ns(5_295_000), span(1_000, 290_000)), Mapped::Contradicted);
    }
}
