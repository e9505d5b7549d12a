//! This crate's only unsafe code: reading clocks and mapping the page, ours and the hypervisor's.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::page::{PAGE_BYTES, PAGE_WORDS};

/// CLOCK_MONOTONIC_RAW in ns, through the vDSO.
#[inline]
pub(crate) fn monotonic_raw_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live, aligned timespec that the call may write; it reads nothing of ours.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) };
    // The only failures are a bad pointer and an unknown clock; this clock exists since Linux 2.6.28.
    let whole_ns = now.tv_sec.checked_mul(1_000_000_000);
    whole_ns.and_then(|ns| ns.checked_add(now.tv_nsec)).unwrap_or(i64::MAX)
}

/// CLOCK_BOOTTIME − CLOCK_MONOTONIC, ns: time spent suspended, by the narrowest of a few brackets, each a few reads of
/// the vDSO. 0 if the kernel lacks one of them.
pub(crate) fn suspended_ns() -> i64 {
    let mut best: Option<(i64, i64)> = None;
    for _ in 0..SUSPEND_TRIES {
        let Some((before, boot, after)) = clock_ns(libc::CLOCK_MONOTONIC)
            .and_then(|before| Some((before, clock_ns(libc::CLOCK_BOOTTIME)?, clock_ns(libc::CLOCK_MONOTONIC)?)))
        else {
            return 0;
        };
        let width = after.saturating_sub(before);
        if best.is_none_or(|(least, _)| width < least) {
            // The first reading is the earlier one: a preemption in between makes a sleep longer, never shorter.
            best = Some((width, boot.saturating_sub(before)));
        }
        if width < SUSPEND_GOOD_NS {
            break;
        }
    }
    best.map_or(0, |(_, suspended)| suspended)
}

/// Brackets per look at the suspend counter: it is told apart from its last value by a millisecond.
const SUSPEND_TRIES: u32 = 8;
const SUSPEND_GOOD_NS: i64 = 100_000;

fn clock_ns(clock: libc::clockid_t) -> Option<i64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as in `monotonic_raw_ns`.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut now) };
    (outcome == 0).then(|| now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec))
}

/// Opens for reading; a FIFO without a writer is not waited for.
pub(crate) fn open_at_once(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// A shared mapping of one page file. Unmapped when dropped.
pub(crate) struct Mapping {
    start: NonNull<AtomicU64>,
}

// SAFETY: the mapping is plain shared memory that is only touched through atomics, and it lives until the drop.
unsafe impl Send for Mapping {}
// SAFETY: as above; all access through `&self` is atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first page of `file`, for reading or for reading and writing.
    pub(crate) fn new(file: &File, writable: bool) -> io::Result<Mapping> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a fresh mapping at an address of the kernel's choice; `file` is open for the call.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), PAGE_BYTES, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Mapping { start })
    }

    /// The mapped words. A reader's mapping is never stored to: its `Page` has no writing method.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page aligned, PAGE_WORDS * 8 bytes are mapped until the drop, every bit pattern is a
        // valid AtomicU64, and other processes touch the same memory only by aligned 64-bit atomics. The file was at
        // least this long when it was mapped, and the agent never truncates it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), PAGE_WORDS) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; no reference into it outlives `self`.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// 64 random bits of the kernel's.
pub(crate) fn random() -> u64 {
    let mut word = 0u64;
    loop {
        // SAFETY: eight bytes of `word` may be written.
        let got = unsafe { libc::getrandom((&raw mut word).cast(), size_of::<u64>(), 0) };
        if got == 8 {
            return word;
        }
    }
}
