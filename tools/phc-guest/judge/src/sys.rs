//! The three system calls on a PHC. All unsafe code of this program is here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Readings in one request: the best of them counts.
const READINGS: usize = 5;

/// One reading of a PHC with CLOCK_MONOTONIC_RAW before and after it, ns.
pub(crate) type Reading = [i64; 3];

/// PTP_SYS_OFFSET_EXTENDED against CLOCK_MONOTONIC_RAW, which Linux knows since 6.12.
pub(crate) fn read_against_raw(fd: BorrowedFd<'_>) -> io::Result<[Reading; READINGS]> {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut request: libc::ptp_sys_offset_extended = unsafe { std::mem::zeroed() };
    request.n_samples = u32::try_from(READINGS).expect("a few");
    request.clockid = libc::CLOCK_MONOTONIC_RAW;
    // SAFETY: fd is open for the call; request is live, aligned, and of the size that the request's number states.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::PTP_SYS_OFFSET_EXTENDED, &raw mut request) };
    checked(result)?;
    let ns = |time: libc::ptp_clock_time| time.sec * 1_000_000_000 + i64::from(time.nsec);
    Ok(std::array::from_fn(|i| request.ts[i].map(ns)))
}

pub(crate) fn set(fd: BorrowedFd<'_>, seconds: i64) -> io::Result<()> {
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    // SAFETY: time is live for the call and the kernel only reads it.
    let result = unsafe { libc::clock_settime(clock_of(fd), &raw const time) };
    checked(result)
}

pub(crate) fn set_frequency(fd: BorrowedFd<'_>, ppb: i64) -> io::Result<()> {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_FREQUENCY;
    // The kernel counts in 2^-16 ppm.
    request.freq = ppb * 65_536 / 1000;
    // SAFETY: request is live, aligned and ours alone for the call.
    let result = unsafe { libc::clock_adjtime(clock_of(fd), &raw mut request) };
    checked(result)
}

/// FD_TO_CLOCKID of the kernel's documentation.
fn clock_of(fd: BorrowedFd<'_>) -> libc::clockid_t {
    (!fd.as_raw_fd() << 3) | 3
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
