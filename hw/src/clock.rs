//! Reading this host's clocks, and CLOCK_REALTIME against raw time.
//!
//! Raw time is CLOCK_MONOTONIC_RAW, or a virtual clock that is a pure function f of it. The kernel stamps packets in
//! CLOCK_REALTIME, so the core needs to know what that clock showed when: [`HostClock::cross`] reads RAW, REALTIME, RAW
//! a few times, keeps the narrowest triple and adds what the kernel says of REALTIME's rate and of anybody setting it.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use truebound_client::bound::RATE_BITS;
use truebound_client::clock::{MonotonicRaw, RawClock, VirtualClock};
use truebound_client::host::{ClocksourceFile, VmMark, VmPage};
pub use truebound_client::tick::SUSPEND_RESOLUTION_NS;
use truebound_core::io::{CrossReading, HostState, KernelRate, PhcReading, Setting};
use truebound_core::time::{NS_PER_S, RawTime, RealTime};

use crate::phc::Phc;
use crate::sys;

/// Triples per reading at the most: an interrupt hits one of four, hardly all.
const MAX_TRIES: usize = 4;
/// A triple this much wider than the best of late is good enough, ns: a fourth of what one vDSO call costs.
const GOOD_ENOUGH_NS: i64 = 10;
/// Microseconds per tick when the kernel runs CLOCK_REALTIME at its nominal rate.
pub(crate) const NOMINAL_TICK_US: i64 = 10_000;
/// One microsecond per tick is 100 ppm.
const PPB_PER_TICK_US: i64 = 100_000;

/// Reads the clocks of this host. What the kernel lacks is absent from the readings.
pub struct HostClock {
    virtual_clock: Option<VirtualClock>,
    step_watch: Option<StepWatch>,
    /// Some simulated kernels do not have it.
    has_boottime: bool,
    /// The narrowest triple of late, ns; 0 before the first.
    usual_width_ns: i64,
    /// CLOCK_REALTIME's rate after the last triple.
    last_rate: KernelRate,
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC as last reported, ns.
    suspended_ns: AtomicI64,
    /// The hypervisor's page, if it is watched.
    vm: Option<VmPage>,
}

impl HostClock {
    /// A clock that shows CLOCK_MONOTONIC_RAW, or `virtual_clock` in its place. With `watch_steps` it asks the kernel
    /// to tell when CLOCK_REALTIME is set (some simulated kernels abort on that question).
    #[must_use]
    pub fn new(virtual_clock: Option<VirtualClock>, watch_steps: bool) -> Self {
        let step_watch = if watch_steps { StepWatch::new().ok() } else { None };
        let has_boottime = clock_ns(ClockId::CLOCK_BOOTTIME).is_some();
        let suspended_ns = AtomicI64::new(0);
        let last_rate = KernelRate::Unknown;
        HostClock { virtual_clock, step_watch, has_boottime, usual_width_ns: 0, last_rate, suspended_ns, vm: None }
    }

    /// The same, watching the hypervisor's page too.
    #[must_use]
    pub fn watching(self, vm: Option<VmPage>) -> Self {
        HostClock { vm, ..self }
    }

    /// Raw time now.
    #[inline]
    #[must_use]
    pub fn raw_now(&self) -> RawTime {
        self.raw(MonotonicRaw.now_ns())
    }

    /// CLOCK_REALTIME against raw time.
    ///
    /// The rate is read after the triple. One that is not what it was after the reading before may have changed before
    /// or after this triple: then another triple is read, and the rate is unknown if it changes once more. The step watch
    /// is read last: what happened to the clock before the triple is told with it. The rate is the kernel's word, so
    /// against CLOCK_MONOTONIC_RAW: a virtual clock's own deviation is not in it, and one of more than some ppm, which
    /// the core's margin does not cover, makes it unknown. It stays exactly the same for as long as nobody steers, which
    /// the core relies on.
    pub fn cross(&mut self) -> CrossReading {
        let mut triple = self.narrowest_triple();
        let mut rate = kernel_rate();
        if rate != self.last_rate {
            triple = self.narrowest_triple();
            self.last_rate = kernel_rate();
            if rate != self.last_rate {
                rate = KernelRate::Unknown;
            }
        }
        if self.virtual_clock.is_some_and(runs_far_off) {
            rate = KernelRate::Unknown;
        }
        let setting = match self.step_watch.as_mut().map(StepWatch::fired) {
            None => Setting::Untold,
            Some(false) => Setting::Unset,
            Some(true) => Setting::Set,
        };
        let before = self.raw(triple.before_ns);
        // f is floored twice, so it may fall by 1 ns where it should stand still.
        let after = self.raw(triple.after_ns).max(before);
        CrossReading { before, real: RealTime::from_ns(triple.real_ns), after, rate, setting }
    }

    /// A PHC against raw time.
    ///
    /// As in [`HostClock::cross`] the rate is read around the reading, and unknown if somebody changed it meanwhile.
    /// What the driver states of its error is asked afterwards: it is that of its last reading.
    pub fn cross_phc(&self, phc: &Phc) -> io::Result<PhcReading> {
        let rate_before = phc.rate();
        let bracket = phc.read_between()?;
        let rate = if phc.rate() == rate_before { rate_before } else { KernelRate::Unknown };
        let before = self.raw(bracket.before_ns);
        let after = self.raw(bracket.after_ns).max(before); // as in cross()
        let cross = CrossReading { before, real: bracket.phc, after, rate, setting: Setting::Untold };
        let stated_error_ns = phc.stated_error_ns(bracket.phc);
        Ok(PhcReading { phc: phc.id(), cross, max_adj_ppb: phc.caps().max_adj_ppb, stated_error_ns })
    }

    /// The clock was set by ourselves: the next readings need not tell.
    pub fn forget_step(&mut self) {
        if let Some(watch) = &mut self.step_watch {
            watch.fired();
            watch.fired_before = false;
        }
    }

    /// What the host is, as far as raw time depends on it.
    #[must_use]
    pub fn host_state(&self) -> HostState {
        HostState {
            clocksource: read_clocksource(),
            suspended_ns: self.suspended_ns(),
            vm_mark: self.vm_mark(),
            foretold: self.vm.as_ref().map(VmPage::foretold).unwrap_or_default(),
        }
    }

    /// What changes when the hypervisor moves or restores this VM; zero for ever if its page is not watched. Cheap
    /// enough for every event: a few loads.
    #[inline]
    #[must_use]
    pub fn vm_mark(&self) -> VmMark {
        self.vm.as_ref().map(VmPage::mark).unwrap_or_default()
    }

    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC, ns: time spent suspended. 0 for ever if the kernel lacks CLOCK_BOOTTIME.
    ///
    /// Cheap enough for every event: two readings of clocks. They are never taken at the same instant, so a difference
    /// below [`SUSPEND_RESOLUTION_NS`] is reading noise, and the value stays what it was. The first reading is the
    /// earlier one, so noise makes a sleep longer, never shorter: none is overlooked, and what looks like one is read
    /// again with care.
    #[must_use]
    pub fn suspended_ns(&self) -> i64 {
        let last = self.suspended_ns.load(Ordering::Relaxed);
        if !self.has_boottime {
            return last;
        }
        let monotonic = clock_ns(ClockId::CLOCK_MONOTONIC);
        let boot = clock_ns(ClockId::CLOCK_BOOTTIME);
        let at_most = boot.zip(monotonic).map(|(boot, monotonic)| boot.saturating_sub(monotonic));
        if at_most.is_none_or(|at_most| is_same_sleep(at_most, last)) {
            return last;
        }
        let now = after_look(last, read_suspended_ns());
        self.suspended_ns.store(now, Ordering::Relaxed);
        now
    }

    /// How many of the kernel's ns to sleep until `until`; 0 if that has passed.
    #[must_use]
    pub fn sleep_ns(&self, until: RawTime) -> u64 {
        let now_ns = MonotonicRaw.now_ns();
        let mut sleep_ns = until.ns_since(self.raw(now_ns));
        // A virtual clock's rate is near 1: each round divides what is missing by the inverse of its deviation.
        for _ in 0..if self.virtual_clock.is_some() { 3 } else { 0 } {
            let reached = self.raw(now_ns.saturating_add(sleep_ns));
            sleep_ns = sleep_ns.saturating_add(until.ns_since(reached));
        }
        u64::try_from(sleep_ns).unwrap_or(0)
    }

    /// Raw time at CLOCK_MONOTONIC_RAW `kernel_ns`.
    fn raw(&self, kernel_ns: i64) -> RawTime {
        RawTime::from_ns(self.virtual_clock.map_or(kernel_ns, |f| f.at(kernel_ns)))
    }

    /// The narrowest of up to [`MAX_TRIES`] triples. It stops at the first that is about as narrow as usual.
    fn narrowest_triple(&mut self) -> Triple {
        let mut best = Triple::read();
        for _ in 1..MAX_TRIES {
            if best.width_ns() <= self.usual_width_ns.saturating_add(GOOD_ENOUGH_NS) {
                break;
            }
            let next = Triple::read();
            if next.width_ns() < best.width_ns() {
                best = next;
            }
        }
        self.usual_width_ns = adapted(self.usual_width_ns, best.width_ns());
        best
    }
}

/// What to say after a careful look: a change that suspending cannot explain is none.
fn after_look(last: i64, found: Option<i64>) -> i64 {
    found.filter(|&found| !is_same_sleep(found, last)).unwrap_or(last)
}

fn is_same_sleep(one: i64, other: i64) -> bool {
    one.saturating_sub(other).saturating_abs() < SUSPEND_RESOLUTION_NS
}

/// The usual width follows narrower readings at once and wider ones by a sixteenth: a host that has become slower must
/// not pay for four tries for ever.
fn adapted(usual_ns: i64, width_ns: i64) -> i64 {
    if usual_ns == 0 { width_ns } else { width_ns.min(usual_ns.saturating_add(usual_ns / 16 + 1)) }
}

/// CLOCK_REALTIME showed `real_ns` while CLOCK_MONOTONIC_RAW was in `[before_ns, after_ns]`.
#[derive(Clone, Copy, Debug)]
struct Triple {
    before_ns: i64,
    real_ns: i64,
    after_ns: i64,
}

impl Triple {
    fn read() -> Self {
        let before_ns = MonotonicRaw.now_ns();
        let real_ns = clock_ns(ClockId::CLOCK_REALTIME).unwrap_or(0); // this clock is never missing
        // A reading is truncated to ns: the instant was before the next one.
        let after_ns = MonotonicRaw.now_ns().saturating_add(1);
        Triple { before_ns, real_ns, after_ns }
    }

    fn width_ns(&self) -> i64 {
        self.after_ns.saturating_sub(self.before_ns)
    }
}

/// A clock through libc; `None` if the kernel does not have it.
fn clock_ns(clock: ClockId) -> Option<i64> {
    let now = clock_gettime(clock).ok()?;
    Some(now.tv_sec().saturating_mul(NS_PER_S).saturating_add(now.tv_nsec()))
}

/// Does a virtual clock leave CLOCK_MONOTONIC_RAW by more than 50 ppm? The core allows 600, adjtime(3) takes 500.
fn runs_far_off(clock: VirtualClock) -> bool {
    const MOST: u64 = 50 * (1 << RATE_BITS) / 1_000_000;
    clock.freq.unsigned_abs().saturating_add(clock.wander.unsigned_abs()) > MOST
}

/// How fast CLOCK_REALTIME runs, by adjtimex(2).
fn kernel_rate() -> KernelRate {
    sys::read_timex().map_or(KernelRate::Unknown, |(timex, state)| rate_of(&timex, state))
}

/// The rate is known if tick and frequency make it, and nothing else does:
///
/// * a remaining `offset` is being slewed by the PLL (its status bit alone, with nothing left to slew, is harmless);
/// * with a PPS signal the kernel steers by itself;
/// * while a leap second is inserted the clock is about to be stepped.
///
/// A slew by adjtime(3) is not visible here. It is at most 500 ppm, which the core's margin covers.
fn rate_of(timex: &libc::timex, state: libc::c_int) -> KernelRate {
    let kernel_steers = timex.status & (libc::STA_PPSFREQ | libc::STA_PPSTIME) != 0;
    if timex.offset != 0 || kernel_steers || state == libc::TIME_OOP || timex.tick <= 0 {
        return KernelRate::Unknown;
    }
    // freq is ppm · 2¹⁶; rounded to the nearest ppb.
    let freq_ppb = (timex.freq.saturating_mul(1_000).saturating_add(1 << 15)) >> 16;
    let tick_ppb = (timex.tick - NOMINAL_TICK_US).saturating_mul(PPB_PER_TICK_US);
    KernelRate::Steady { ppb: tick_ppb.saturating_add(freq_ppb) }
}

/// Tells whether CLOCK_REALTIME was set: a timer that never expires and that the kernel cancels in that case.
#[derive(Debug)]
struct StepWatch {
    timer: TimerFd,
    /// The last reading saw it fire.
    fired_before: bool,
}

impl StepWatch {
    fn new() -> nix::Result<Self> {
        let timer = TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let mut watch = StepWatch { timer, fired_before: false };
        watch.arm()?;
        Ok(watch)
    }

    /// Arms the timer. If the clock was set meanwhile the timer is armed as well, and that counts as fired.
    fn arm(&mut self) -> nix::Result<()> {
        let never = Expiration::OneShot(TimeSpec::new(i64::MAX / NS_PER_S, 0));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        match self.timer.set(never, flags) {
            Err(Errno::ECANCELED) => {
                self.fired_before = true;
                Ok(())
            }
            other => other,
        }
    }

    /// The clock was set since the previous call but one.
    ///
    /// One that fires may have done so before or after the triple just read. In the second case it concerns the next
    /// reading as well, so it is told with both.
    fn fired(&mut self) -> bool {
        let mut expirations = [0; 8];
        let fires = nix::unistd::read(self.timer.as_fd(), &mut expirations) == Err(Errno::ECANCELED);
        let told = fires || self.fired_before;
        self.fired_before = fires;
        if fires {
            // The kernel goes on watching after it has told; arming anew is for those that do not.
            let _ = self.arm();
        }
        told
    }
}

/// The kernel's clocksource; empty if it cannot be read.
fn read_clocksource() -> [u8; 16] {
    ClocksourceFile::open().name()
}

/// CLOCK_BOOTTIME − CLOCK_MONOTONIC by the narrowest of three brackets; `None` if the kernel lacks one of them, or if
/// the brackets are too wide to tell.
fn read_suspended_ns() -> Option<i64> {
    let mut narrowest: Option<(i64, i64)> = None;
    for _ in 0..3 {
        let before = clock_ns(ClockId::CLOCK_MONOTONIC)?;
        let boot = clock_ns(ClockId::CLOCK_BOOTTIME)?;
        let width = clock_ns(ClockId::CLOCK_MONOTONIC)?.saturating_sub(before);
        if narrowest.is_none_or(|(least, _)| width < least) {
            narrowest = Some((width, boot.saturating_sub(before.saturating_add(width / 2))));
        }
    }
    narrowest.filter(|&(width, _)| width < SUSPEND_RESOLUTION_NS).map(|(_, suspended)| suspended)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPM: i64 = (1 << 40) / 1_000_000;

    fn fast_clock() -> VirtualClock {
        let origin_ns = MonotonicRaw.now_ns();
        VirtualClock { origin_ns, offset_ns: 200_000, freq: 10 * PPM, wander: PPM, period_ns: NS_PER_S, phase_ns: 0 }
    }

    fn timex(tick: i64, freq: i64, offset: i64, status: libc::c_int) -> libc::timex {
        let (mut timex, _) = sys::read_timex().expect("adjtimex can be read");
        (timex.tick, timex.freq, timex.offset, timex.status) = (tick, freq, offset, status);
        timex
    }

    #[test]
    fn a_cross_reading_lies_between_readings_around_it() {
        let mut clock = HostClock::new(None, true);
        for _ in 0..100 {
            let real_before = clock_ns(ClockId::CLOCK_REALTIME).expect("a clock");
            let raw_before = clock.raw_now();
            let reading = clock.cross();
            let raw_after = clock.raw_now();
            let real_after = clock_ns(ClockId::CLOCK_REALTIME).expect("a clock");
            assert!(raw_before <= reading.before && reading.before <= reading.after, "{reading:?}");
            assert!(reading.after <= raw_after.plus_ns(1), "{reading:?} {raw_after:?}");
            if reading.setting != Setting::Set {
                assert!((real_before..=real_after).contains(&reading.real.as_ns()), "{reading:?}");
            }
        }
    }

    #[test]
    fn without_a_watch_nothing_is_told() {
        let mut clock = HostClock::new(None, false);
        assert!((0..10).all(|_| clock.cross().setting == Setting::Untold));
    }

    #[test]
    fn a_step_watch_is_quiet_while_nobody_sets_the_clock() {
        match StepWatch::new() {
            Ok(mut watch) => assert!(!watch.fired() && !watch.fired()),
            Err(error) => println!("skipped: no timerfd with TFD_TIMER_CANCEL_ON_SET: {error}"),
        }
    }

    #[test]
    fn a_step_is_told_with_two_readings() {
        let Ok(mut watch) = StepWatch::new() else {
            println!("skipped: no timerfd with TFD_TIMER_CANCEL_ON_SET");
            return;
        };
        watch.fired_before = true; // as after a call that saw it fire
        assert!(watch.fired());
        assert!(!watch.fired());
    }

    #[test]
    fn readings_go_through_the_virtual_clock() {
        let f = fast_clock();
        let mut clock = HostClock::new(Some(f), false);
        for _ in 0..100 {
            let early = f.at(MonotonicRaw.now_ns());
            let reading = clock.cross();
            let now = clock.raw_now().as_ns();
            let late = f.at(MonotonicRaw.now_ns()) + 2;
            assert!(reading.before <= reading.after);
            assert!(early - 1 <= reading.before.as_ns() && reading.after.as_ns() <= late, "{early} {reading:?} {late}");
            assert!(early - 1 <= now && now <= late);
        }
    }

    #[test]
    fn sleeping_reaches_the_instant_and_not_much_more() {
        let f = fast_clock();
        let clock = HostClock::new(Some(f), false);
        let until = clock.raw_now().plus_ns(100 * NS_PER_S);
        let before = MonotonicRaw.now_ns();
        let sleep = i64::try_from(clock.sleep_ns(until)).expect("a short sleep");
        let after = MonotonicRaw.now_ns();
        assert!(f.at(before + sleep) <= until.as_ns() + 2);
        assert!(f.at(after + sleep) >= until.as_ns() - 2);
    }

    #[test]
    fn a_passed_instant_needs_no_sleep() {
        for virtual_clock in [None, Some(fast_clock())] {
            let clock = HostClock::new(virtual_clock, false);
            assert_eq!(clock.sleep_ns(clock.raw_now()), 0);
            assert_eq!(clock.sleep_ns(RawTime::from_ns(i64::MIN)), 0);
            assert!(clock.sleep_ns(RawTime::MAX) > 0);
        }
    }

    #[test]
    fn tick_and_frequency_make_the_rate() {
        let rate = |tick, freq| rate_of(&timex(tick, freq, 0, 0), libc::TIME_OK);
        assert_eq!(rate(10_000, 0), KernelRate::Steady { ppb: 0 });
        assert_eq!(rate(10_001, 0), KernelRate::Steady { ppb: 100_000 });
        assert_eq!(rate(9_999, 65_536), KernelRate::Steady { ppb: -99_000 });
        assert_eq!(rate(10_000, -32_768_000), KernelRate::Steady { ppb: -500_000 });
        assert_eq!(rate(10_000, 98), KernelRate::Steady { ppb: 1 }, "1.495 ppb");
        assert_eq!(rate(0, 0), KernelRate::Unknown);
    }

    #[test]
    fn a_slew_hides_the_rate_and_the_pll_alone_does_not() {
        let rate = |offset, status, state| rate_of(&timex(10_000, 0, offset, status), state);
        let steady = KernelRate::Steady { ppb: 0 };
        assert_eq!(rate(0, libc::STA_PLL | libc::STA_NANO, libc::TIME_OK), steady);
        assert_eq!(rate(0, libc::STA_UNSYNC, libc::TIME_ERROR), steady);
        assert_eq!(rate(0, libc::STA_INS, libc::TIME_INS), steady);
        assert_eq!(rate(-1, libc::STA_PLL, libc::TIME_OK), KernelRate::Unknown);
        assert_eq!(rate(0, libc::STA_PPSFREQ, libc::TIME_OK), KernelRate::Unknown);
        assert_eq!(rate(0, libc::STA_INS, libc::TIME_OOP), KernelRate::Unknown);
    }

    #[test]
    fn the_usual_width_falls_at_once_and_rises_slowly() {
        assert_eq!(adapted(0, 90), 90);
        assert_eq!(adapted(90, 40), 40);
        assert_eq!(adapted(40, 1_000), 43);
    }

    #[test]
    fn the_host_state_is_stable() {
        let clock = HostClock::new(None, false);
        assert_eq!(clock.host_state(), clock.host_state());
    }

    #[test]
    fn time_asleep_changes_only_by_what_suspending_explains() {
        const MS: i64 = 1_000_000;
        assert_eq!(after_look(5 * MS, None), 5 * MS, "no CLOCK_BOOTTIME, or brackets too wide");
        assert_eq!(after_look(5 * MS, Some(5 * MS + SUSPEND_RESOLUTION_NS - 1)), 5 * MS);
        assert_eq!(after_look(5 * MS, Some(5 * MS - SUSPEND_RESOLUTION_NS + 1)), 5 * MS);
        assert_eq!(after_look(5 * MS, Some(6 * MS)), 6 * MS);
        assert_eq!(after_look(5 * MS, Some(4 * MS)), 4 * MS);
    }

    #[test]
    fn a_sleep_since_the_last_look_is_seen_once() {
        let clock = HostClock::new(None, false);
        if !clock.has_boottime {
            println!("skipped: no CLOCK_BOOTTIME");
            return;
        }
        let asleep = clock.suspended_ns();
        assert_eq!(clock.suspended_ns(), asleep, "nobody slept");
        // As if the last look had been before a sleep of ten seconds.
        clock.suspended_ns.store(asleep - 10 * NS_PER_S, Ordering::Relaxed);
        let after = clock.suspended_ns();
        assert!(is_same_sleep(after, asleep), "{after} {asleep}");
        assert_eq!(clock.suspended_ns(), after);
        assert_eq!(clock.host_state().suspended_ns, after);
        // Noise below the resolution changes nothing.
        clock.suspended_ns.store(after + SUSPEND_RESOLUTION_NS / 2, Ordering::Relaxed);
        assert_eq!(clock.suspended_ns(), after + SUSPEND_RESOLUTION_NS / 2);
    }

    #[test]
    fn a_watched_page_gives_its_mark_and_what_it_foretells_and_without_one_nothing_changes() {
        use std::os::unix::fs::FileExt;
        use truebound_client::host::Foretold;

        let path = std::env::temp_dir().join(format!("truebound-hw-vmclock-{}", std::process::id()));
        let mut page = vec![0; 4096];
        page[..10].copy_from_slice(b"VCLK\0\x10\0\0\x01\0");
        std::fs::write(&path, page).expect("a scratch file");
        let clock = HostClock::new(None, false).watching(Some(VmPage::open(&path).expect("such a page")));
        let file = std::fs::File::options().write(true).open(&path).expect("ours");
        let _ = std::fs::remove_file(&path);
        assert_eq!(clock.vm_mark(), VmMark::default());
        // VMCLOCK_FLAG_DISRUPTION_IMMINENT; then the marker, as after a migration.
        file.write_all_at(&[4], 24).expect("written");
        assert_eq!((clock.host_state().foretold, clock.vm_mark()), (Foretold::Imminent, VmMark::default()));
        file.write_all_at(&[9], 16).expect("written");
        let mark = VmMark { disruption_marker: 9, generation: 0 };
        assert_eq!((clock.vm_mark(), clock.host_state().vm_mark), (mark, mark));
        assert_eq!(HostClock::new(None, false).host_state().vm_mark, VmMark::default());
    }

    #[test]
    fn without_boottime_nobody_ever_slept() {
        let clock = HostClock { has_boottime: false, ..HostClock::new(None, false) };
        assert_eq!(clock.suspended_ns(), 0);
    }
}
