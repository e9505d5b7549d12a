//! Steering CLOCK_REALTIME and saying what the kernel tells of it: clock_adjtime(2).
//!
//! A rate is given as tick and frequency together. The kernel takes ±500 ppm as a frequency; beyond that, ticks of
//! 100 ppm each make the rest. Both are in force at once, and for as long as nobody gives others.

use std::io;

use nix::time::{ClockId, clock_gettime};
use truebound_client::bound::RATE_BITS;
use truebound_core::io::{Declaration, LeapSecond};
use truebound_core::time::NS_PER_S;

use crate::clock::NOMINAL_TICK_US;
use crate::sys::{self, device};

/// Binary digits of a timex frequency below 1 ppm.
const TIMEX_BITS: u32 = 16;
/// The greatest frequency of the kernel, and what one µs of a tick is, in its units.
const MAX_FREQ: i64 = 500 << TIMEX_BITS;
const TICK_FREQ: i64 = 100 << TIMEX_BITS;
/// The kernel takes ticks within a tenth of the nominal one, µs.
const MAX_TICK_OFFSET_US: i64 = 1_000;
/// NTP_PHASE_LIMIT, µs.
const MAX_ERROR_US: i64 = 16_000_000;

/// CLOCK_REALTIME, to be steered by us alone.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(());

impl SystemClock {
    /// Takes the clock over: from now on the kernel slews nothing by itself (PLL, PPS, adjtime(3)). Its rate stays.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] without CAP_SYS_TIME.
    pub fn take() -> io::Result<SystemClock> {
        let mut singleshot = device::empty_timex();
        singleshot.modes = libc::ADJ_OFFSET_SINGLESHOT;
        device::adjust_clock(libc::CLOCK_REALTIME, &mut singleshot)?;
        // An offset is taken only while the PLL runs, and goes on to be slewed after it ends: so it is zeroed first.
        let mut timex = device::empty_timex();
        (timex.modes, timex.status) = (libc::ADJ_STATUS | libc::ADJ_OFFSET, libc::STA_PLL | libc::STA_UNSYNC);
        device::adjust_clock(libc::CLOCK_REALTIME, &mut timex)?;
        let mut timex = device::empty_timex();
        (timex.modes, timex.status) = (libc::ADJ_STATUS, libc::STA_UNSYNC);
        device::adjust_clock(libc::CLOCK_REALTIME, &mut timex)?;
        Ok(SystemClock(()))
    }

    /// Lets it run at `rate` against CLOCK_MONOTONIC_RAW, minus one, 2⁻⁴⁰; not beyond ±10 %.
    pub fn set_rate(&self, rate: i64) -> io::Result<()> {
        let mut timex = device::empty_timex();
        timex.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
        (timex.tick, timex.freq) = tick_and_freq(rate);
        device::adjust_clock(libc::CLOCK_REALTIME, &mut timex).map(drop)
    }

    /// Adds `ns` to it at once. The kernel then forgets what it was told to tell.
    pub fn step_ns(&self, ns: i64) -> io::Result<()> {
        device::add_to_clock(libc::CLOCK_REALTIME, ns)
    }

    /// Lets the kernel tell this. It adds 500 µs to the greatest error at each second, until it is told anew.
    pub fn declare(&self, declaration: &Declaration) -> io::Result<()> {
        let mut timex = device::empty_timex();
        timex.modes = libc::ADJ_MAXERROR | libc::ADJ_ESTERROR | libc::ADJ_STATUS;
        timex.maxerror = microseconds_up(declaration.max_error_ns);
        timex.esterror = microseconds_up(declaration.est_error_ns);
        timex.status = match declaration.leap {
            LeapSecond::None => 0,
            LeapSecond::Insert => libc::STA_INS,
            LeapSecond::Delete => libc::STA_DEL,
        };
        if !declaration.is_synchronised {
            timex.status |= libc::STA_UNSYNC;
        }
        device::adjust_clock(libc::CLOCK_REALTIME, &mut timex)?;
        if declaration.tai_offset_s > 0 && timex.tai != declaration.tai_offset_s {
            timex = device::empty_timex();
            timex.modes = libc::ADJ_TAI;
            timex.constant = declaration.tai_offset_s.into();
            device::adjust_clock(libc::CLOCK_REALTIME, &mut timex)?;
        }
        Ok(())
    }
}

/// What the kernel tells of CLOCK_REALTIME to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// maxerror, ns.
    pub max_error_ns: i64,
    /// Not STA_UNSYNC.
    pub is_synchronised: bool,
    /// TAI − UTC, s; 0 if nobody told it.
    pub tai_offset_s: i32,
}

/// Asks the kernel what it tells of CLOCK_REALTIME.
///
/// # Errors
///
/// adjtimex(2) is refused.
pub fn told() -> io::Result<Told> {
    let (timex, _) = sys::read_timex()?;
    Ok(Told {
        max_error_ns: timex.maxerror.saturating_mul(1_000),
        is_synchronised: timex.status & libc::STA_UNSYNC == 0,
        tai_offset_s: timex.tai,
    })
}

/// CLOCK_REALTIME, ns since 1970.
///
/// # Errors
///
/// Never on Linux.
pub fn realtime_ns() -> io::Result<i64> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    Ok(now.tv_sec().saturating_mul(NS_PER_S).saturating_add(now.tv_nsec()))
}

/// A rate as the kernel takes it: µs of a tick, and a frequency.
fn tick_and_freq(rate: i64) -> (i64, i64) {
    const SHIFT: u32 = RATE_BITS - TIMEX_BITS;
    let half = 1_i128 << (SHIFT - 1);
    let whole = i64::try_from((i128::from(rate) * 1_000_000 + half) >> SHIFT).unwrap_or(i64::MAX);
    if whole.saturating_abs() <= MAX_FREQ {
        return (NOMINAL_TICK_US, whole);
    }
    let ticks = ((whole / (TICK_FREQ / 2) + whole.signum()) / 2).clamp(-MAX_TICK_OFFSET_US, MAX_TICK_OFFSET_US);
    (NOMINAL_TICK_US + ticks, (whole - ticks * TICK_FREQ).clamp(-MAX_FREQ, MAX_FREQ))
}

fn microseconds_up(ns: i64) -> i64 {
    (ns.max(0) / 1_000 + 1).min(MAX_ERROR_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPM: f64 = 1_099_511.627_776; // 2⁴⁰ / 10⁶

    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    fn of_ppm(ppm: f64) -> (i64, i64) {
        tick_and_freq((ppm * PPM) as i64)
    }

    #[test]
    fn up_to_five_hundred_ppm_the_tick_stays_nominal() {
        assert_eq!(of_ppm(0.0), (10_000, 0));
        assert_eq!(of_ppm(10.0), (10_000, 655_360));
        assert_eq!(of_ppm(-500.0), (10_000, -32_768_000));
        assert_eq!(of_ppm(500.1), (10_005, 6_554));
        assert_eq!(of_ppm(-930.0), (9_991, -1_966_080));
    }

    #[test]
    fn tick_and_frequency_make_the_rate_that_was_asked_for() {
        for step in -99_000..=99_000_i64 {
            let rate = step * 1_099_511;
            let (tick, freq) = tick_and_freq(rate);
            let made = (i128::from((tick - NOMINAL_TICK_US) * TICK_FREQ + freq)) << (RATE_BITS - TIMEX_BITS);
            let error = made - i128::from(rate) * 1_000_000;
            assert!(error.abs() <= 1 << (RATE_BITS - TIMEX_BITS - 1), "{rate}: {tick} {freq}");
            assert!(freq.abs() <= MAX_FREQ && (9_000..=11_000).contains(&tick));
        }
    }

    #[test]
    fn beyond_what_the_kernel_takes_it_is_the_most_that_it_takes() {
        assert_eq!(tick_and_freq(i64::MAX), (11_000, MAX_FREQ));
        assert_eq!(tick_and_freq(i64::MIN), (9_000, -MAX_FREQ));
    }

    #[test]
    fn errors_are_rounded_up_and_end_at_the_kernels_limit() {
        assert_eq!((microseconds_up(0), microseconds_up(999), microseconds_up(1_000)), (1, 1, 2));
        assert_eq!((microseconds_up(-5), microseconds_up(i64::MAX)), (1, MAX_ERROR_US));
    }
}
