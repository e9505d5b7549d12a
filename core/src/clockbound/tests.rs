//! The clients' formulas, written down again from their sources' behaviour, against worst-case clocks.

use proptest::prelude::*;
use truebound_client::Reason;
use truebound_client::page::UtcOffset;

use super::counter::{CounterLine, CounterReading, Shm1};
use super::realtime::{Sample, Shm0, SlewWatch, Word};
use super::*;
use crate::io::{CrossReading, KernelRate, Setting};
use crate::time::{RawTime, RealTime};
use crate::units::{FreqError, half_wander};

const S: i64 = NS_PER_S;
const PPM: i64 = (1 << RATE_BITS) / 1_000_000;
/// Raw time of the publication, and θ: TAI at raw 0.
const T_REF: i64 = 5_000 * S;
const THETA: i64 = 1_790_000_037 * S;
const TICK: i64 = 4_000_000;
const WORD: Word = Word(FreqError::from_ppm(500.0));
const TSC: [u8; 16] = *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn publication() -> Publication {
    Publication {
        status: Status::Locked,
        reason: Reason::Majority,
        epoch: 1,
        bound: Bound {
            t_ref_ns: T_REF,
            void_after_ns: T_REF + 3_600 * S,
            theta_lo_ns: THETA - 20_000,
            theta_hi_ns: THETA + 30_000,
            omega_lo: 9 * PPM,
            omega_hi: 11 * PPM,
            cap_lo: -40 * PPM,
            cap_hi: 60 * PPM,
            half_wander: half_wander(1e-7),
            phase_rate: PPM / 8,
        },
        utc: UtcOffset { offset_s: 37, after_s: UtcOffset::UNKNOWN, change_at_ns: i64::MAX },
        spread: 50 * PPM,
        omega_limit: 1_000 * PPM,
        clocksource: TSC,
        suspended_ns: 7,
        estimate_theta_ns: THETA,
        groups: (1, 1),
        ..Publication::default()
    }
}

/// The same of an oscillator that is known exactly and never changes: no slack hides what else is missing.
fn ideal() -> Publication {
    let rate = 10 * PPM;
    let exact = Bound { omega_lo: rate, omega_hi: rate, cap_lo: rate, cap_hi: rate, ..publication().bound };
    Publication { bound: Bound { half_wander: 0, phase_rate: 0, ..exact }, ..publication() }
}

fn host() -> HostState {
    HostState { clocksource: TSC, suspended_ns: 7, ..HostState::default() }
}

/// True time (UTC) at raw `raw_ns` if everything is as early, or as late, as the publication allows from `from_ns` on.
fn truth_ns(publication: &Publication, from_ns: i64, raw_ns: i64, late: bool) -> i64 {
    let edges = publication.bound.carried_to(from_ns).expect("valid").edges_at(raw_ns).expect("valid");
    raw_ns + if late { edges.hi_ns } else { edges.lo_ns } - 37 * S
}

fn cross(raw_ns: i64, real_ns: i64) -> CrossReading {
    CrossReading {
        before: RawTime::from_ns(raw_ns - 40),
        real: RealTime::from_ns(real_ns),
        after: RawTime::from_ns(raw_ns + 45),
        rate: KernelRate::Steady { ppb: 0 },
        setting: Setting::Unset,
    }
}

fn shm0_at(publication: &Publication, raw_ns: i64, real_ns: i64, coarse_ns: i64) -> Shm0 {
    let sample = Sample { coarse_ns, cross: cross(raw_ns, real_ns), tick_ns: TICK };
    Shm0::new(publication, &sample, &host(), Marker::default(), WORD, false)
}

/// What a client of layout 2 computes from the words of the file: earliest, latest, status.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as the client does")]
fn client2(words: &[u64; 8], real_ns: i64, coarse_ns: i64) -> (i64, i64, u8) {
    let at = |i: usize| words[i].cast_signed() * S + words[i + 1].cast_signed();
    let (as_of, void_after, bound_ns) = (at(0), at(2), words[4].cast_signed());
    let tail = words[6].to_ne_bytes();
    let drift = u32::from_ne_bytes([tail[0], tail[1], tail[2], tail[3]]);
    assert!(drift < 1_000_000_000 && coarse_ns > as_of - 1_000, "an error at the client");
    let dur = (coarse_ns - as_of).max(0);
    let ceb = bound_ns + (dur as f64 / 1e9 * f64::from(drift)) as i64;
    let status = match tail[4] {
        live @ 1..=2 if coarse_ns < as_of + 5 * S => live,
        1..=2 if coarse_ns < void_after => 2,
        1..=2 => 0,
        other => other,
    };
    (real_ns - ceb, real_ns + ceb, status)
}

/// The same of layout 3 at a counter.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as the client does")]
fn client3(words: &[u64; 11], counter: u64) -> (i64, i64, u8) {
    let (tail, shifts) = (words[9].to_ne_bytes(), words[10].to_ne_bytes());
    let drift = u32::from_ne_bytes([tail[0], tail[1], tail[2], tail[3]]);
    assert!(drift < 1_000_000_000);
    let fraction = |frac: u64, shift: u8| frac as f64 / (1_u128 << (64 + shift)) as f64;
    let (period, error) = (fraction(words[5], shifts[1]), fraction(words[6], shifts[2]));
    let ticks = counter.saturating_sub(words[0]);
    let (dt, dt_ns) = (ticks as f64 * period, ticks as f64 * period * 1e9);
    let at = |i: usize| words[i].cast_signed() * S + words[i + 1].cast_signed();
    let now = at(1) + dt_ns as i64;
    let ceb = (words[7].cast_signed() as f64 + dt * f64::from(drift) + dt_ns * error) as i64;
    let status = match tail[4] {
        1..=2 if now > at(3) => 0,
        1..=2 if now > at(1) + 60 * S => 2,
        other => other,
    };
    (now - ceb, now + ceb, status)
}

/// A counter that runs `hz` ticks per second of raw time, from `start` at raw 0.
#[derive(Clone, Copy)]
struct Counter {
    hz: i128,
    start: i128,
}

impl Counter {
    fn at(self, raw_ns: i64) -> u64 {
        u64::try_from(self.start + i128::from(raw_ns) * self.hz / i128::from(S)).expect("in range")
    }

    fn read(self, raw_ns: i64, early: i64, late: i64) -> CounterReading {
        let (before, after) = (RawTime::from_ns(raw_ns - early), RawTime::from_ns(raw_ns + late));
        CounterReading { before, counter: self.at(raw_ns), after }
    }

    /// A line from readings `span_s` apart that end at `raw_ns`, and the newest.
    fn line(self, raw_ns: i64, span_s: f64, early: i64, late: i64) -> (CounterLine, CounterReading) {
        let mut line = CounterLine::default();
        assert!(line.push(self.read(raw_ns - crate::units::to_i64(span_s * 1e9), late, early)));
        let newest = self.read(raw_ns, early, late);
        assert!(line.push(newest));
        (line, newest)
    }
}

const CPU: Counter = Counter { hz: 2_595_919_100, start: 77_000_000_000 };

fn shm1_at(publication: &Publication, raw_ns: i64, counter: Counter) -> Shm1 {
    let (line, reading) = counter.line(raw_ns, 2.0, 60, 60);
    Shm1::new(publication, &reading, &line, &host(), Marker::default(), RealTime::from_ns(3 * S))
}

proptest! {
    /// The operator's word holds, the sources' do, and the clocks are at their worst: true time is in the interval.
    #[test]
    fn a_client_of_layout_2_has_true_time(
        age in 0..2_000_000_000i64, off in -3_000_000..3_000_000i64,
        slew in prop_oneof![Just(-500i64), -500..=500i64, Just(500i64)],
        slew_now in prop_oneof![Just(-500i64), -500..=500i64, Just(500i64)],
        wait in prop_oneof![0..100_000_000i64, 0..1_100_000_000_000i64], lag in 0..2 * TICK, phase in 0..TICK,
        late: bool, is_ideal: bool,
    ) {
        let publication = if is_ideal { ideal() } else { publication() };
        let (sampled, sample_truth) = (T_REF + age, truth_ns(&publication, T_REF + age, T_REF + age, late));
        let mono = 900 * S; // CLOCK_MONOTONIC at the sample; the coarse clock may be a tick behind
        let shm0 = shm0_at(&publication, sampled, sample_truth + off, mono - phase);
        prop_assert_eq!(shm0.common.status, ClockStatus::Synchronized);
        // True time runs on by `wait`; CLOCK_REALTIME and CLOCK_MONOTONIC together at another rate, in two parts.
        let steps = |ppm: i64, ns: i64| ns + i64::try_from(i128::from(ns) * i128::from(ppm) / 1_000_000).expect("small");
        let moved = steps(slew, wait / 3) + steps(slew_now, wait - wait / 3);
        let truth = sample_truth + wait;
        let (earliest, latest, status) =
            client2(&shm0.words(), sample_truth + off + moved, (mono + moved - lag).max(mono - phase));
        if status == 1 || status == 2 {
            prop_assert!((earliest..=latest).contains(&truth), "{} {} {}", earliest, truth, latest);
        } else {
            prop_assert!(wait > 990 * S);
        }
    }

    /// The same by the counter, whatever the oscillator does within its class.
    #[test]
    fn a_client_of_layout_3_has_true_time(
        age in 0..2_000_000_000i64, wait in prop_oneof![0..100_000_000i64, 0..1_100_000_000_000i64],
        span in 0.06f64..1000.0, early in 0..400i64, width in 1..400i64, hz in prop_oneof![
            Just(2_595_919_100i128), Just(1i128 << 31), 1_000_000..6_000_000_000i128],
        late: bool, void_s in 1..4_000i64, is_ideal: bool,
    ) {
        let mut publication = if is_ideal { ideal() } else { publication() };
        publication.bound.void_after_ns = T_REF + age + 200_000 + void_s * S;
        let counter = Counter { hz, start: 99 << 40 };
        let sampled = T_REF + age;
        let early = early.min(width);
        let late_ns = width - early;
        // A slow counter is read up to a tick after it was true.
        let grain = i64::try_from(i128::from(S) / hz).expect("small") + 1;
        let (line, reading) = counter.line(sampled, span, early + grain, late_ns + grain);
        let shm1 = Shm1::new(&publication, &reading, &line, &host(), Marker::default(), RealTime::from_ns(3));
        prop_assert_eq!(shm1.common.status, ClockStatus::Synchronized);
        let now = sampled + wait;
        let (earliest, latest, status) = client3(&shm1.words(), counter.at(now));
        if status == 1 || status == 2 {
            prop_assert!(now < publication.bound.void_after_ns, "used beyond void_after");
            let truth = truth_ns(&publication, sampled - early - grain, now, late);
            prop_assert!((earliest..=latest).contains(&truth), "{} {} {}", earliest, truth, latest);
        } else {
            prop_assert!(wait > 990 * S || wait > void_s * S - S / 100, "unknown after {}", wait);
        }
    }

    #[test]
    fn no_input_panics_or_breaks_the_clients_limits(
        words in prop::array::uniform9(any::<i64>()), wander: u64, raw: i64, real: i64, coarse: i64, counter: u64,
        change_at_ns: i64,
    ) {
        let [t_ref_ns, void_after_ns, theta_lo_ns, theta_hi_ns, omega_lo, omega_hi, cap_lo, cap_hi, phase_rate] = words;
        let bound = Bound { t_ref_ns, void_after_ns, theta_lo_ns, theta_hi_ns, omega_lo, omega_hi, cap_lo, cap_hi,
            half_wander: wander, phase_rate };
        let utc = UtcOffset { offset_s: 37, after_s: 38, change_at_ns };
        let publication = Publication { bound, utc, ..publication() };
        let raw = RawTime::from_ns(raw);
        let cross = CrossReading { before: raw, real: RealTime::from_ns(real), after: raw.plus_ns(9), ..cross(0, 0) };
        let sample = Sample { coarse_ns: coarse, cross, tick_ns: TICK };
        let shm0 = Shm0::new(&publication, &sample, &host(), Marker::default(), WORD, false);
        let mut line = CounterLine::default();
        line.push(CounterReading { before: raw, counter, after: raw.plus_ns(1) });
        let reading = CounterReading { before: raw.plus_ns(S), counter: counter.saturating_add(1 << 30), after: raw.plus_ns(S + 1) };
        line.push(reading);
        let shm1 = Shm1::new(&publication, &reading, &line, &host(), Marker::default(), RealTime::from_ns(real));
        SlewWatch::default().is_broken(&publication, &cross, WORD);
        for common in [shm0.common, shm1.common] {
            prop_assert!((0..=BOUND_LIMIT_NS).contains(&common.bound_ns) && common.max_drift_ppb < 1_000_000_000);
        }
        for nanos in [shm0.words()[1], shm0.words()[3], shm1.words()[2], shm1.words()[4]] {
            prop_assert!(nanos < 1_000_000_000);
        }
    }
}

#[test]
fn a_live_bound_is_little_wider_than_the_page() {
    let publication = publication();
    let raw = T_REF + S;
    let page = publication.interval_at(raw).expect("valid").half_width_ns();
    let by_counter = shm1_at(&publication, raw, CPU).common;
    assert!((page..page + 200).contains(&by_counter.bound_ns), "{page} {by_counter:?}");
    // In 1000 s the frequency may wander to its cap, 50 ppm from the middle; an eighth for phase noise.
    assert!((50_125..50_130).contains(&by_counter.max_drift_ppb), "{by_counter:?}");
    let by_realtime = shm0_at(&publication, raw, truth_ns(&publication, raw, raw, true), 0).common;
    assert!(by_realtime.bound_ns < 2 * page + 4_500, "two ticks at the word are 4 µs: {by_realtime:?}");
}

#[test]
fn only_a_live_bound_on_the_same_host_is_synchronized() {
    let marker = Marker::default();
    let of = |publication: &Publication| status_of(publication, &host(), marker);
    let with = |status| Publication { status, ..publication() };
    assert_eq!(of(&publication()), ClockStatus::Synchronized);
    assert_eq!(of(&with(Status::Holdover)), ClockStatus::FreeRunning);
    assert_eq!(of(&with(Status::Disrupted)), ClockStatus::Disrupted);
    for status in [Status::Starting, Status::FreeRunning, Status::Void] {
        assert_eq!(of(&with(status)), ClockStatus::Unknown);
    }
    let slept = Publication { suspended_ns: 7 + SLEEP_NS, ..publication() };
    let changed = Publication { clocksource: [b'x'; 16], ..publication() };
    let mut moved = publication();
    moved.vm_mark.disruption_marker = 1;
    for elsewhere in [&slept, &changed, &moved] {
        assert_eq!(of(elsewhere), ClockStatus::Disrupted);
    }
    assert_eq!(of(&Publication { suspended_ns: 6 + SLEEP_NS, ..publication() }), ClockStatus::Synchronized);
    let ahead = Marker { is_watched: true, real: 1, seen: 1 };
    assert_eq!(status_of(&publication(), &host(), ahead), ClockStatus::Disrupted, "a marker the agent has not handled");
}

#[test]
fn what_is_void_or_not_live_has_no_bound() {
    let mut late = publication();
    late.bound.void_after_ns = T_REF + S + 40;
    assert_eq!(shm0_at(&late, T_REF + S, 0, 0).common.status, ClockStatus::Unknown);
    assert_eq!(shm1_at(&late, T_REF + S, CPU).common.status, ClockStatus::Unknown);
    let broken = Publication { status: Status::Disrupted, ..publication() };
    let shm1 = shm1_at(&broken, T_REF + S, CPU);
    assert_eq!((shm1.common.bound_ns, shm1.as_of_ns), (BOUND_LIMIT_NS, 3 * S));
    let (line, reading) = CPU.line(T_REF, 0.049, 60, 60);
    let early = Shm1::new(&publication(), &reading, &line, &host(), Marker::default(), RealTime::from_ns(0));
    assert_eq!(early.common.status, ClockStatus::Unknown, "50 ms tell no period");
}

#[test]
fn a_counter_that_is_not_the_kernels_clocksource_says_nothing() {
    let mut publication = publication();
    publication.clocksource = *b"kvm-clock\0\0\0\0\0\0\0";
    let host = HostState { clocksource: publication.clocksource, ..host() };
    let (line, reading) = CPU.line(T_REF + S, 2.0, 60, 60);
    let shm1 = Shm1::new(&publication, &reading, &line, &host, Marker::default(), RealTime::from_ns(0));
    assert_eq!(shm1.common.status, ClockStatus::Unknown);
}

#[test]
fn nothing_reaches_across_a_leap_second() {
    let at_leap = |left_ns: i64| {
        let mut publication = publication();
        let latest = publication.interval_at(T_REF + S + 60).expect("valid").tai.latest_ns;
        publication.utc.change_at_ns = latest + LEAP_MARGIN_NS + left_ns;
        (shm0_at(&publication, T_REF + S, 1_790_005_001 * S, 0), shm1_at(&publication, T_REF + S, CPU))
    };
    let (shm0, shm1) = at_leap(100 * S);
    assert!((99 * S..100 * S).contains(&shm0.void_after_ns), "{shm0:?}");
    assert!((99 * S..100 * S).contains(&(shm1.void_after_ns - shm1.as_of_ns)), "{shm1:?}");
    let (shm0, shm1) = at_leap(-20);
    assert_eq!((shm0.common.status, shm1.common.status), (ClockStatus::Unknown, ClockStatus::Unknown));
}

#[test]
fn a_counter_that_raw_time_does_not_follow_is_forgotten() {
    let (mut line, _) = CPU.line(T_REF, 2.0, 60, 60);
    assert!(line.push(CPU.read(T_REF + S, 60, 60)) && line.period().is_some());
    let faster = Counter { hz: CPU.hz + CPU.hz / 1_000_000, ..CPU };
    assert!(!line.push(faster.read(T_REF + 2 * S, 60, 60)), "a ppm is seen after a second");
    assert!(line.period().is_none());
    assert!(line.push(faster.read(T_REF + 3 * S, 60, 60)) && line.period().is_some(), "and learnt anew");
    let back = CounterReading { counter: 5, ..faster.read(T_REF + 4 * S, 60, 60) };
    assert!(!line.push(back));
}

/// A second later CLOCK_REALTIME moved by `moved_ns`.
fn is_broken_by(moved_ns: i64, was_set: bool) -> bool {
    let (mut watch, publication) = (SlewWatch::default(), publication());
    assert!(!watch.is_broken(&publication, &cross(T_REF, 0), WORD));
    let next =
        CrossReading { setting: if was_set { Setting::Set } else { Setting::Unset }, ..cross(T_REF + S, moved_ns) };
    watch.is_broken(&publication, &next, WORD)
}

#[test]
fn the_word_is_broken_by_a_step_a_setting_and_a_slew_beyond_it() {
    // Raw time is 9 to 11 ppm slow, and 1.1 ppm are for phase and wander: 500 ppm of true time are 509 to 511 of raw.
    assert!(!is_broken_by(S + 10_000, false));
    assert!(!is_broken_by(S + 510_000, false) && !is_broken_by(S - 490_000, false));
    assert!(is_broken_by(S + 514_000, false) && is_broken_by(S - 494_000, false));
    assert!(is_broken_by(S + 10_000, true), "set, says the kernel");
    assert!(is_broken_by(2 * S, false) && is_broken_by(0, false));
    let sample = Sample { coarse_ns: 0, cross: cross(T_REF, 1_790_005_000 * S), tick_ns: TICK };
    let shm0 = Shm0::new(&publication(), &sample, &host(), Marker::default(), WORD, true);
    assert_eq!(shm0.common.status, ClockStatus::Disrupted);
}

#[test]
fn a_snapshot_that_lacks_the_last_stores_is_wide_enough() {
    let publication = publication();
    let truth = |raw| truth_ns(&publication, T_REF, raw, true);
    // CLOCK_REALTIME leaves true time, so the bound grows; and it comes back, so it shrinks.
    for (off, then) in [(0, 90_000_000), (90_000_000, 0)] {
        let (old_raw, new_raw) = (T_REF + S, T_REF + 181 * S + S / 3);
        let (old, new) = (
            shm0_at(&publication, old_raw, truth(old_raw) + off, 10 * S + S / 2),
            shm0_at(&publication, new_raw, truth(new_raw) + then, 190 * S + S / 2 + S / 3),
        );
        for stored in 0..=super::realtime::WORDS {
            let mut words = old.words();
            for &index in &super::realtime::STORE_ORDER[..stored] {
                words[index] = new.words()[index];
            }
            let (earliest, latest, _) = client2(&words, truth(new_raw) + then, new.as_of_ns);
            assert!((earliest..=latest).contains(&truth(new_raw)), "{stored} words stored");
        }
    }
}

#[test]
fn words_are_where_the_clients_look() {
    let marker = Marker { is_watched: true, real: 0, seen: 0x1122 };
    let common = Common { max_drift_ppb: 50_000, bound_ns: 77, status: ClockStatus::FreeRunning, marker };
    let shm0 = Shm0 { as_of_ns: 2 * S + 3, void_after_ns: 5 * S - 1, common };
    let drift_and_status = packed([0x50, 0xc3, 0, 0, 2, 0, 0, 0]);
    assert_eq!(shm0.words(), [2, 3, 4, 999_999_999, 77, 0x1122, drift_and_status, packed([1, 0, 0, 0, 0, 0, 0, 0])]);
    let shm1 = Shm1 {
        as_of_counter: 9,
        as_of_ns: -1,
        void_after_ns: S,
        period_frac: 10,
        period_shift: 31,
        period_err_frac: 11,
        common,
    };
    let words =
        [9, u64::MAX, 999_999_999, 1, 0, 10, 11, 77, 0x1122, drift_and_status, packed([1, 31, 0, 0, 0, 0, 0, 0])];
    assert_eq!(shm1.words(), words);
}

#[test]
fn no_client_of_layout_2_uses_a_snapshot_beyond_its_validity() {
    // The last refresh a second before `void_after` (here: of a leap second, whose margin is 2 s); then the agent stops.
    let mut publication = publication();
    let raw = T_REF + S;
    let latest = publication.interval_at(raw + 45).expect("valid").tai.latest_ns;
    publication.utc = UtcOffset { offset_s: 37, after_s: 38, change_at_ns: latest + LEAP_MARGIN_NS + S };
    let truth = truth_ns(&publication, raw, raw, true);
    let mono = 900 * S;
    let shm0 = shm0_at(&publication, raw, truth, mono);
    for wait in [S / 2, 3 * S / 2, 4 * S] {
        // Nobody touches CLOCK_REALTIME; UTC inserts its second 3 s after the refresh.
        let leapt = if wait > 3 * S + S / 100 { S } else { 0 };
        let (earliest, latest, status) = client2(&shm0.words(), truth + wait, mono + wait);
        let inside = (earliest..=latest).contains(&(truth + wait - leapt));
        assert!(
            status == 0 || inside,
            "{} s after as_of: status {status}, {} ns wide, truth is off",
            wait / S,
            latest - earliest
        );
        assert!(
            status == 0 || mono + wait < shm0.void_after_ns,
            "used {} ns beyond void_after",
            mono + wait - shm0.void_after_ns
        );
    }
}

#[test]
fn a_snapshot_of_layout_2_that_ends_within_the_clients_grace_is_not_live() {
    let mut publication = publication();
    publication.bound.void_after_ns = T_REF + 2 * S;
    let mono = 900 * S;
    let raw = T_REF + S;
    let truth = truth_ns(&publication, raw, raw, true);
    let shm0 = shm0_at(&publication, raw, truth, mono);
    let (_, _, status) = client2(&shm0.words(), truth + 4 * S, mono + 4 * S);
    assert_eq!(status, 0, "3 s after the bound became void");
}
