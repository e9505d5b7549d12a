//! A PTP hardware clock (/dev/ptpN): reading it between two readings of CLOCK_MONOTONIC_RAW, and steering it.
//!
//! The narrower the bracket the better, so there is a ladder of ways to read, each sound by itself:
//!
//! * PTP_SYS_OFFSET_PRECISE: hardware latches both clocks at one instant (PTM, ART, a hypervisor's page);
//! * PTP_SYS_OFFSET_EXTENDED with CLOCK_MONOTONIC_RAW (Linux 6.12): the driver reads the system clock right around the
//!   register that latches the device;
//! * clock_gettime(2) of raw time, the PHC, raw time. Older kernels offer EXTENDED in CLOCK_REALTIME only; mapping that
//!   to raw time would need the assumption that nobody sets the clock meanwhile.
//!
//! A driver's word is checked against a bracket read here: what it says to be raw time must lie between two readings of
//! raw time around the call. (Some drivers answer in CLOCK_REALTIME whatever they are asked for.)

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use truebound_client::clock::{MonotonicRaw, RawClock};
use truebound_core::io::{KernelRate, PhcId};
use truebound_core::time::{NS_PER_S, PhcTime};

use crate::sys::device;
use crate::vmclock::VmClock;

/// Readings of which the narrowest is taken.
const SAMPLES: usize = 5;
/// How far apart "at one instant" may be, ns: what PTM's own measurements of its way are off by, generously.
const LATCH_NS: i64 = 50;
/// Binary digits of a timex frequency below 1 ppm, and of a rate below 1.
const TIMEX_BITS: u32 = 16;
const RATE_BITS: u32 = 40;

/// An open PHC.
#[derive(Debug)]
pub struct Phc {
    id: PhcId,
    file: File,
    clock: libc::clockid_t,
    caps: PhcCaps,
    method: Cell<Method>,
    statement: Statement,
}

/// What a PHC can do (PTP_CLOCK_GETCAPS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhcCaps {
    /// The most that its frequency can be moved, ppb; 0 if it cannot be steered.
    pub max_adj_ppb: i64,
    /// It can make the kernel tell pulses per second.
    pub has_pps: bool,
    /// Pins that can be given a function.
    pub pins: u32,
    /// Channels that stamp outside events.
    pub external_stamps: u32,
    /// Hardware latches it together with the system's clock.
    pub has_precise: bool,
}

/// How it is read against raw time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// PTP_SYS_OFFSET_PRECISE.
    Precise,
    /// PTP_SYS_OFFSET_EXTENDED in raw time.
    Extended,
    /// clock_gettime(2).
    Sandwich,
}

/// The PHC showed `phc` while CLOCK_MONOTONIC_RAW was in `[before_ns, after_ns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bracket {
    pub(crate) before_ns: i64,
    pub(crate) phc: PhcTime,
    pub(crate) after_ns: i64,
}

/// Who states how wrong the clock may be.
#[derive(Debug)]
enum Statement {
    Nobody,
    /// A sysfs file with a number of ns (ENA).
    File(File),
    /// The hypervisor's page.
    Page(VmClock),
}

impl Phc {
    /// Opens /dev/ptpN, for steering too where that is permitted. (Kernels before 6.15 do not tell its frequency to
    /// those who may not steer it.)
    pub fn open(id: PhcId) -> io::Result<Phc> {
        let path = format!("/dev/ptp{}", id.0);
        let file = File::options().read(true).write(true).open(&path).or_else(|_| File::open(&path))?;
        let mut caps: libc::ptp_clock_caps = device::zeroed();
        device::clock_ioctl(file.as_fd(), &device::CLOCK_CAPS, &mut caps)?;
        let caps = PhcCaps::from(&caps);
        let method = Cell::new(if caps.has_precise { Method::Precise } else { Method::Extended });
        Ok(Phc { id, clock: device::clock_of(file.as_fd()), file, caps, method, statement: Statement::about(id) })
    }

    /// N of /dev/ptpN.
    #[must_use]
    pub fn id(&self) -> PhcId {
        self.id
    }

    /// What it can do.
    #[must_use]
    pub fn caps(&self) -> PhcCaps {
        self.caps
    }

    /// How it is read; after the first reading this is what works.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method.get()
    }

    /// What it shows.
    pub fn time(&self) -> io::Result<PhcTime> {
        clock_time(self.clock)
    }

    /// The frequency last dialled into it.
    #[must_use]
    pub fn rate(&self) -> KernelRate {
        let mut timex = device::empty_timex();
        match device::adjust_clock(self.clock, &mut timex) {
            Ok(_) => KernelRate::Steady { ppb: ppb_of(timex.freq) },
            Err(_) => KernelRate::Unknown,
        }
    }

    /// What its driver states of its error, having read `shown` of it.
    #[must_use]
    pub fn stated_error_ns(&self, shown: PhcTime) -> Option<i64> {
        match &self.statement {
            Statement::Nobody => None,
            Statement::File(file) => {
                let mut bytes = [0; 32];
                let read = file.read_at(&mut bytes, 0).ok()?;
                error_in(bytes.get(..read)?)
            }
            Statement::Page(page) => page.read().ok()?.error_ns(shown),
        }
    }

    /// It between two readings of CLOCK_MONOTONIC_RAW, the best way that works.
    pub(crate) fn read_between(&self) -> io::Result<Bracket> {
        if self.method.get() == Method::Precise {
            match self.checked(Self::read_precise) {
                Ok(bracket) => return Ok(bracket),
                Err(error) => self.give_up(Method::Precise, Method::Extended, &error),
            }
        }
        // Where PRECISE failed just this once, this is the next best.
        if self.method.get() != Method::Sandwich {
            match self.checked(Self::read_extended) {
                Ok(bracket) => return Ok(bracket),
                Err(error) => self.give_up(Method::Extended, Method::Sandwich, &error),
            }
        }
        narrowest((0..SAMPLES).map(|_| read_sandwich(self.clock)))
    }

    /// A reading, if it lies between two of ours.
    fn checked(&self, read: impl Fn(&Self) -> io::Result<Bracket>) -> io::Result<Bracket> {
        let before_ns = MonotonicRaw.now_ns();
        let bracket = read(self)?;
        let after_ns = MonotonicRaw.now_ns().saturating_add(1);
        bracket.within(before_ns, after_ns).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// A way that the kernel or the driver does not know is not tried again; one that failed is.
    fn give_up(&self, failed: Method, next: Method, error: &io::Error) {
        let is_unknown = matches!(
            error.raw_os_error(),
            None | Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENODEV | libc::ENOSYS | libc::EPERM)
        );
        if is_unknown && self.method.get() == failed {
            self.method.set(next);
        }
    }

    /// Both clocks at one instant, as well as the hardware knows it.
    fn read_precise(&self) -> io::Result<Bracket> {
        let mut answer: libc::ptp_sys_offset_precise = device::zeroed();
        device::clock_ioctl(self.file.as_fd(), &device::OFFSET_PRECISE, &mut answer)?;
        let (raw_ns, phc_ns) = (nanoseconds(&answer.sys_monoraw), nanoseconds(&answer.device));
        let (before_ns, after_ns) = (raw_ns.saturating_sub(LATCH_NS), raw_ns.saturating_add(LATCH_NS));
        Ok(Bracket { before_ns, phc: PhcTime::from_ns(phc_ns), after_ns })
    }

    /// PTP_SYS_OFFSET_EXTENDED as the driver answers it, ns: raw time, the PHC, raw time. What that is worth is for the
    /// caller to say.
    pub fn samples(&self) -> io::Result<[[i64; 3]; SAMPLES]> {
        let mut answer: libc::ptp_sys_offset_extended = device::zeroed();
        answer.n_samples = u32::try_from(SAMPLES).unwrap_or(1);
        answer.clockid = libc::CLOCK_MONOTONIC_RAW;
        device::clock_ioctl(self.file.as_fd(), &device::OFFSET_EXTENDED, &mut answer)?;
        Ok(std::array::from_fn(|at| answer.ts[at].each_ref().map(nanoseconds)))
    }

    /// The narrowest of several readings of the driver's.
    fn read_extended(&self) -> io::Result<Bracket> {
        narrowest(self.samples()?.into_iter().map(|[before_ns, phc_ns, after_ns]| {
            Ok(Bracket { before_ns, phc: PhcTime::from_ns(phc_ns), after_ns: after_ns.saturating_add(1) })
        }))
    }

    /// Sets it.
    pub fn set_time(&self, time: PhcTime) -> io::Result<()> {
        let ns = time.as_ns();
        let time = TimeSpec::new(ns.div_euclid(NS_PER_S), ns.rem_euclid(NS_PER_S));
        Ok(clock_settime(ClockId::from_raw(self.clock), time)?)
    }

    /// Dials a frequency against its own crystal, 2⁻⁴⁰ (not beyond what it can), and gives what the kernel took. That
    /// is not what the hardware makes of it: the 82576 rounds to 119 ppb, and nobody tells.
    pub fn set_rate(&self, rate: i64) -> io::Result<i64> {
        let mut timex = device::empty_timex();
        timex.modes = libc::ADJ_FREQUENCY;
        timex.freq = timex_freq(rate, self.caps.max_adj_ppb);
        device::adjust_clock(self.clock, &mut timex)?;
        Ok(rate_of_freq(timex.freq))
    }

    /// Adds `ns` to it at once.
    pub fn step_ns(&self, ns: i64) -> io::Result<()> {
        device::add_to_clock(self.clock, ns)
    }
}

impl From<&libc::ptp_clock_caps> for PhcCaps {
    fn from(caps: &libc::ptp_clock_caps) -> Self {
        let count = |n: libc::c_int| u32::try_from(n).unwrap_or(0);
        PhcCaps {
            max_adj_ppb: i64::from(caps.max_adj).max(0),
            has_pps: caps.pps != 0,
            pins: count(caps.n_pins),
            external_stamps: count(caps.n_ext_ts),
            has_precise: caps.cross_timestamping != 0,
        }
    }
}

impl Bracket {
    fn width_ns(&self) -> i64 {
        self.after_ns.saturating_sub(self.before_ns)
    }

    /// Itself, if it has its ends in order and lies in `[before_ns, after_ns]`, give or take the rounding.
    fn within(self, before_ns: i64, after_ns: i64) -> Option<Bracket> {
        let is_in_order = self.before_ns <= self.after_ns;
        (is_in_order
            && before_ns.saturating_sub(LATCH_NS) <= self.before_ns
            && self.after_ns <= after_ns.saturating_add(LATCH_NS))
        .then_some(self)
    }
}

/// The narrowest; an error only if there is none. One whose ends are not in order is none.
fn narrowest(brackets: impl Iterator<Item = io::Result<Bracket>>) -> io::Result<Bracket> {
    let mut best: io::Result<Bracket> = Err(io::ErrorKind::InvalidData.into());
    for bracket in brackets {
        match (&best, bracket) {
            (Err(_), Err(error)) => best = Err(error),
            (_, Ok(next)) if next.width_ns() < 0 => {}
            (Ok(least), Ok(next)) if next.width_ns() >= least.width_ns() => {}
            (_, Ok(next)) => best = Ok(next),
            (Ok(_), Err(_)) => {}
        }
    }
    best
}

fn read_sandwich(clock: libc::clockid_t) -> io::Result<Bracket> {
    let before_ns = MonotonicRaw.now_ns();
    let phc = clock_time(clock)?;
    let after_ns = MonotonicRaw.now_ns().saturating_add(1);
    Ok(Bracket { before_ns, phc, after_ns })
}

fn clock_time(clock: libc::clockid_t) -> io::Result<PhcTime> {
    let now = clock_gettime(ClockId::from_raw(clock))?;
    Ok(PhcTime::from_ns(now.tv_sec().saturating_mul(NS_PER_S).saturating_add(now.tv_nsec())))
}

fn nanoseconds(time: &libc::ptp_clock_time) -> i64 {
    time.sec.saturating_mul(NS_PER_S).saturating_add(i64::from(time.nsec))
}

/// A timex frequency in ppb, rounded to the nearest.
fn ppb_of(freq: i64) -> i64 {
    freq.saturating_mul(1_000).saturating_add(1 << (TIMEX_BITS - 1)) >> TIMEX_BITS
}

/// A rate as a timex frequency, within `most_ppb`.
fn timex_freq(rate: i64, most_ppb: i64) -> i64 {
    let most = (i128::from(most_ppb) << TIMEX_BITS) / 1_000;
    let freq = (i128::from(rate) * 1_000_000) >> (RATE_BITS - TIMEX_BITS);
    i64::try_from(freq.clamp(-most, most)).unwrap_or(0)
}

fn rate_of_freq(freq: i64) -> i64 {
    i64::try_from((i128::from(freq) << (RATE_BITS - TIMEX_BITS)) / 1_000_000).unwrap_or(0)
}

/// The error in the text of a sysfs file. A clock that is never wrong at all is one that says nothing.
fn error_in(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok().filter(|&ns| ns > 0)
}

impl Statement {
    fn about(id: PhcId) -> Statement {
        if let Ok(file) = File::open(sysfs(id).join("device/phc_error_bound")) {
            return Statement::File(file);
        }
        // The driver gives the clock the name of its page's device.
        match clock_name(id).filter(|name| name.starts_with("vmclock")).map(|name| VmClock::open(&name)) {
            Some(Ok(page)) => Statement::Page(page),
            _ => Statement::Nobody,
        }
    }
}

/// The name that its driver gave it.
#[must_use]
pub fn clock_name(id: PhcId) -> Option<String> {
    let name = fs::read_to_string(sysfs(id).join("clock_name")).ok()?;
    Some(name.trim().to_owned())
}

/// Every PHC of this host, in order.
#[must_use]
pub fn list() -> Vec<PhcId> {
    let entries = fs::read_dir("/sys/class/ptp").into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("ptp")?.parse().ok();
    let mut found: Vec<PhcId> = entries.filter_map(number).map(PhcId).collect();
    found.sort_unstable();
    found
}

fn sysfs(id: PhcId) -> PathBuf {
    PathBuf::from(format!("/sys/class/ptp/ptp{}", id.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bracket(before_ns: i64, after_ns: i64) -> Bracket {
        Bracket { before_ns, phc: PhcTime::from_ns(before_ns), after_ns }
    }

    fn failure() -> io::Result<Bracket> {
        Err(io::ErrorKind::TimedOut.into())
    }

    #[test]
    fn the_narrowest_of_what_could_be_read_is_taken() {
        let all =
            [failure(), Ok(bracket(0, 9)), Ok(bracket(10, 15)), failure(), Ok(bracket(20, 18)), Ok(bracket(30, 35))];
        assert_eq!(narrowest(all.into_iter()).expect("some"), bracket(10, 15));
        let none = narrowest([Ok(bracket(5, 4)), failure()].into_iter());
        assert_eq!(none.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(narrowest([Ok(bracket(5, 4))].into_iter()).is_err());
    }

    #[test]
    fn a_driver_that_answers_in_another_clock_is_not_believed() {
        assert!(bracket(100, 200).within(100, 200).is_some());
        assert!(bracket(100 - LATCH_NS, 200 + LATCH_NS).within(100, 200).is_some(), "as well as the hardware knows");
        for (before_ns, after_ns) in
            [(99 - LATCH_NS, 150), (150, 201 + LATCH_NS), (150, 149), (1_700_000_000 * NS_PER_S, i64::MAX)]
        {
            assert!(bracket(before_ns, after_ns).within(100, 200).is_none(), "{before_ns} {after_ns}");
        }
    }

    #[test]
    fn a_sandwich_lies_between_readings_around_it() {
        for _ in 0..100 {
            let before_ns = MonotonicRaw.now_ns();
            let shown_before = clock_time(libc::CLOCK_MONOTONIC).expect("a clock");
            let reading = read_sandwich(libc::CLOCK_MONOTONIC).expect("a clock");
            let shown_after = clock_time(libc::CLOCK_MONOTONIC).expect("a clock");
            let after_ns = MonotonicRaw.now_ns();
            assert!(reading.within(before_ns, after_ns).is_some(), "{reading:?}");
            assert!(shown_before <= reading.phc && reading.phc <= shown_after);
        }
    }

    #[test]
    fn frequencies_keep_their_value_and_their_limits() {
        const PPB: i64 = (1 << 40) / 1_000_000_000;
        assert_eq!((ppb_of(65_536), ppb_of(-65_536_000), ppb_of(98)), (1_000, -1_000_000, 1));
        assert_eq!(timex_freq(1_000 * PPB, 1_000_000), 65_505, "PPB is cut");
        assert_eq!(timex_freq(i64::MAX, 500), 32_768);
        assert_eq!(timex_freq(i64::MIN, 500), -32_768);
        assert_eq!(timex_freq(12_345, 0), 0, "cannot be steered");
        for rate in [0, 1 << 20, -(1 << 30), 123_456_789] {
            let back = rate_of_freq(timex_freq(rate, 1_000_000_000));
            assert!((back - rate).abs() <= 17, "{rate} {back}");
        }
    }

    #[test]
    fn a_stated_error_is_a_positive_number() {
        assert_eq!(error_in(b"25000\n"), Some(25_000));
        for text in [&b""[..], b"0\n", b"-5", b"n/a", b"\xff"] {
            assert_eq!(error_in(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_absent_clock_is_an_error_and_has_no_name() {
        let absent = PhcId(u32::MAX);
        assert_eq!(Phc::open(absent).map(drop).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        assert_eq!(clock_name(absent), None);
        assert!(!list().contains(&absent));
    }
}
