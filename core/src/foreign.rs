//! What others do to CLOCK_REALTIME: how often somebody set it, by about how much, and how often its rate jumped.
//!
//! No bound rests on this. Raw time knows nothing of CLOCK_REALTIME, and a kernel stamp that was taken while somebody
//! turned that clock is dropped ([`crate::correlation`]). It is told because an operator wants to know who else is at
//! work, and because applications that read CLOCK_REALTIME were hit.

use crate::io::{CrossReading, KernelRate, Setting};
use crate::time::{NS_PER_S, RawTime};
use crate::units::{to_f64, to_i64};

/// adjtime(3) slews at 500 ppm and is not visible in the kernel's rate; the rest is for dithering.
const STEADY_MARGIN: f64 = 600e-6;
/// The kernel's limit for tick and phase slews together.
const UNKNOWN_MARGIN: f64 = 0.25;
/// A daemon that is locked moves the rate by less, ppb; one that slews an offset away moves it by more.
const SLEW_PPB: i64 = 50_000;
/// One line in so long for each kind; what came between is in the counters.
const QUIET_NS: i64 = 60 * NS_PER_S;

/// What was done to CLOCK_REALTIME since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealtimeReport {
    /// How often somebody set it.
    pub sets: u64,
    /// By about how much at the last time, ns.
    pub last_set_ns: i64,
    /// How often its rate jumped by more than 50 ppm, or the kernel began to slew a phase away.
    pub slews: u64,
    /// The rate that the kernel gives it against raw time, ppb; `None` while a phase is slewed away, or without a
    /// reading.
    pub rate_ppb: Option<i64>,
}

/// Something that was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It was set, by about so many ns.
    Set { by_ns: i64 },
    /// It runs at another rate, ppb; `None`: a phase is slewed away.
    Slewed { ppb: Option<i64> },
}

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(crate) struct RealtimeWatch {
    previous: Option<CrossReading>,
    /// Of a setting that the kernel has told with one reading, and will tell with the next: what was seen so far, ns.
    told_ns: i64,
    pub(crate) report: RealtimeReport,
    /// When a setting and a slew were last put into words.
    said: [Option<RawTime>; 2],
}

impl RealtimeWatch {
    /// Raw time is another clock now: readings across the break say nothing.
    pub(crate) fn clear(&mut self) {
        self.previous = None;
        self.told_ns = 0;
    }

    /// We set the clock ourselves: readings across that say nothing. Gives what somebody else did just before.
    pub(crate) fn set_by_us(&mut self) -> Option<Foreign> {
        let previous = self.previous.take().filter(|previous| previous.setting == Setting::Set);
        let by_ns = std::mem::take(&mut self.told_ns);
        let at = previous?.after;
        self.report.sets += 1;
        self.report.last_set_ns = by_ns;
        unless_said(&mut self.said[0], at, Some(Foreign::Set { by_ns }))
    }

    /// Takes a reading; gives what is to be put into words. `is_ours`: we gave the clock its rate.
    pub(crate) fn push(&mut self, reading: CrossReading, is_ours: bool) -> [Option<Foreign>; 2] {
        // A setting that is told with the first reading was before it, as at every resume.
        let is_first = self.previous.is_none();
        let setting = if is_first { Setting::Untold } else { reading.setting };
        let kept = CrossReading { setting, ..reading };
        let previous = self.previous.replace(kept);
        self.report.rate_ppb = ppb_of(reading.rate);
        let Some(previous) = previous else { return [None, None] };
        let set = self.was_set(&previous, &reading).map(|by_ns| Foreign::Set { by_ns });
        let slewed =
            (!is_ours && is_slew(previous.rate, reading.rate)).then(|| Foreign::Slewed { ppb: ppb_of(reading.rate) });
        self.report.slews += u64::from(slewed.is_some());
        let [said_set, said_slew] = &mut self.said;
        [unless_said(said_set, reading.after, set), unless_said(said_slew, reading.after, slewed)]
    }

    /// By how much the clock was set, once that is known.
    ///
    /// The kernel's word comes with two readings, since the setting may have been before or after the first of them:
    /// what both show beyond the rate is its size. Without that word (no timerfd) only what no rate explains is seen.
    fn was_set(&mut self, previous: &CrossReading, reading: &CrossReading) -> Option<i64> {
        let (by_ns, noise_ns) = beyond_rate(previous, reading);
        let was_set = |reading: &CrossReading| reading.setting == Setting::Set;
        if !was_set(reading) {
            self.told_ns = 0;
        }
        let by_ns = if was_set(reading) {
            self.told_ns = self.told_ns.saturating_add(by_ns);
            if !was_set(previous) {
                return None;
            }
            std::mem::take(&mut self.told_ns)
        } else if by_ns.saturating_abs() > noise_ns {
            by_ns
        } else {
            return None;
        };
        self.report.sets += 1;
        self.report.last_set_ns = by_ns;
        Some(by_ns)
    }
}

/// `event`, unless one of its kind was told a short while ago.
fn unless_said(said: &mut Option<RawTime>, now: RawTime, event: Option<Foreign>) -> Option<Foreign> {
    if event.is_none() || said.is_some_and(|at| now.ns_since(at) < QUIET_NS) {
        return None;
    }
    *said = Some(now);
    event
}

fn ppb_of(rate: KernelRate) -> Option<i64> {
    match rate {
        KernelRate::Steady { ppb } => Some(ppb),
        KernelRate::Unknown => None,
    }
}

fn is_slew(before: KernelRate, after: KernelRate) -> bool {
    match (before, after) {
        (KernelRate::Steady { ppb: one }, KernelRate::Steady { ppb: other }) => {
            one.abs_diff(other) > SLEW_PPB.unsigned_abs()
        }
        (KernelRate::Steady { .. }, KernelRate::Unknown) => true,
        (KernelRate::Unknown, _) => false,
    }
}

/// How far the clock moved between two readings beyond its rate, ns, and how much of that may be no setting.
fn beyond_rate(one: &CrossReading, two: &CrossReading) -> (i64, i64) {
    let middle = |reading: &CrossReading| reading.before.plus_ns(reading.after.ns_since(reading.before) / 2);
    let elapsed_ns = middle(two).ns_since(middle(one));
    let real_ns = two.real.ns_since(one.real);
    let width_ns = two.after.ns_since(two.before).saturating_add(one.after.ns_since(one.before));
    let (rate, margin) = match (one.rate, two.rate) {
        (KernelRate::Steady { ppb }, KernelRate::Steady { ppb: other }) if ppb == other => {
            (to_f64(ppb) * 1e-9, STEADY_MARGIN)
        }
        _ => (0.0, UNKNOWN_MARGIN),
    };
    let by_rate_ns = to_i64((to_f64(elapsed_ns) * rate).round());
    let by_ns = real_ns.saturating_sub(elapsed_ns).saturating_sub(by_rate_ns);
    (by_ns, width_ns.saturating_add(to_i64((to_f64(elapsed_ns) * margin).abs().ceil())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::RealTime;

    const MS: i64 = 1_000_000;
    const STEADY: KernelRate = KernelRate::Steady { ppb: 0 };

    fn reading(raw_ns: i64, ahead_ns: i64, rate: KernelRate, was_set: bool) -> CrossReading {
        CrossReading {
            before: RawTime::from_ns(raw_ns - 20),
            real: RealTime::from_ns(raw_ns + ahead_ns),
            after: RawTime::from_ns(raw_ns + 20),
            rate,
            setting: if was_set { Setting::Set } else { Setting::Untold },
        }
    }

    fn sets(readings: &[CrossReading]) -> (Vec<Foreign>, RealtimeReport) {
        let mut watch = RealtimeWatch::default();
        let told = readings.iter().flat_map(|&reading| watch.push(reading, false)).flatten().collect();
        (told, watch.report)
    }

    #[test]
    fn a_step_is_told_once_with_its_size_wherever_it_was_within_the_two_readings() {
        // Before the first reading that the kernel tells it with, or after it.
        for ahead_at_first in [0, 5 * MS] {
            let (told, report) = sets(&[
                reading(0, 0, STEADY, false),
                reading(NS_PER_S, ahead_at_first, STEADY, true),
                reading(2 * NS_PER_S, 5 * MS, STEADY, true),
                reading(3 * NS_PER_S, 5 * MS, STEADY, false),
            ]);
            assert_eq!(told, [Foreign::Set { by_ns: 5 * MS }]);
            assert_eq!((report.sets, report.last_set_ns, report.slews), (1, 5 * MS, 0));
        }
    }

    #[test]
    fn a_step_that_nobody_tells_is_seen_where_no_rate_explains_it_and_not_below() {
        let step = |by_ns| sets(&[reading(0, 0, STEADY, false), reading(NS_PER_S, by_ns, STEADY, false)]).1.sets;
        // 600 ppm of a second and both widths.
        assert_eq!(step(600_000 + 80), 0);
        assert_eq!(step(600_000 + 81), 1);
        assert_eq!(step(-600_000 - 81), 1);
    }

    #[test]
    fn a_rate_that_jumps_is_a_slew_and_a_daemons_small_change_is_none() {
        let slews = |rate| sets(&[reading(0, 0, STEADY, false), reading(MS, 0, rate, false)]).1.slews;
        assert_eq!(slews(KernelRate::Steady { ppb: SLEW_PPB }), 0);
        assert_eq!(slews(KernelRate::Steady { ppb: -SLEW_PPB - 1 }), 1);
        assert_eq!(slews(KernelRate::Unknown), 1);
    }

    #[test]
    fn whoever_sets_the_clock_all_the_time_fills_no_log() {
        let mut watch = RealtimeWatch::default();
        let steps = (0..600).map(|i| reading(i * NS_PER_S / 5, i * MS, STEADY, true));
        let told: usize = steps.map(|reading| watch.push(reading, false).into_iter().flatten().count()).sum();
        // The first one was told of what came before.
        assert_eq!((told, watch.report.sets), (2, 598), "two minutes");
    }

    #[test]
    fn nothing_is_said_across_a_break_of_raw_time() {
        let mut watch = RealtimeWatch::default();
        watch.push(reading(0, 0, STEADY, false), false);
        watch.clear();
        assert_eq!(watch.push(reading(NS_PER_S, NS_PER_S, STEADY, false), false), [None, None]);
    }

    #[test]
    fn a_step_that_we_undo_at_once_is_told_and_ours_is_not() {
        let mut watch = RealtimeWatch::default();
        watch.push(reading(0, 0, STEADY, false), true);
        assert_eq!(watch.set_by_us(), None);
        watch.push(reading(MS, 0, STEADY, false), true);
        watch.push(reading(2 * MS, 5 * MS, STEADY, true), true);
        assert_eq!(watch.set_by_us(), Some(Foreign::Set { by_ns: 5 * MS }));
        assert_eq!(watch.push(reading(3 * MS, 0, STEADY, false), true), [None, None]);
        assert_eq!((watch.report.sets, watch.report.last_set_ns), (1, 5 * MS));
    }

    #[test]
    fn a_sleep_is_no_setting() {
        // On resume the kernel cancels such timers: the two readings after the break are told as set.
        let mut watch = RealtimeWatch::default();
        watch.push(reading(0, 0, STEADY, false), false);
        watch.clear();
        assert_eq!(watch.push(reading(NS_PER_S, 9 * NS_PER_S, STEADY, true), false), [None, None]);
        assert_eq!(watch.push(reading(2 * NS_PER_S, 9 * NS_PER_S, STEADY, true), false), [None, None]);
        assert_eq!(watch.report.sets, 0);
    }
}
