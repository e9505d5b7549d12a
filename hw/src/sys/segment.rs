//! A file of ClockBound's, mapped for writing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Bytes before the body: magic (two words), size, then version and generation in one word.
pub(crate) const HEADER_BYTES: usize = 16;
const HEADER_WORDS: usize = 4;

/// The first bytes of a file, shared with its readers. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Segment {
    start: NonNull<AtomicU64>,
    body_words: usize,
}

// SAFETY: the mapping is plain shared memory that is only touched through atomics, and it lives until the drop.
unsafe impl Send for Segment {}

impl Segment {
    /// Maps header and body. The file must be long enough, and never be made shorter.
    pub(crate) fn map(file: &File, body_words: usize) -> io::Result<Segment> {
        let bytes = HEADER_BYTES + 8 * body_words;
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; `file` is open for the call.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start: NonNull<AtomicU64> = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        // A page that was swapped out would make an update last milliseconds. Not everybody may lock memory.
        // SAFETY: a range that was mapped just now; locking reads and writes nothing.
        let _ = unsafe { libc::mlock(start.as_ptr().cast(), bytes) };
        Ok(Segment { start, body_words })
    }

    /// The header. Its words are 32 bits wide for every access of this process.
    pub(crate) fn header(&self) -> &[AtomicU32; HEADER_WORDS] {
        // SAFETY: `start` is page aligned and HEADER_BYTES are mapped until the drop; every bit pattern is a valid
        // AtomicU32, and whoever shares the memory touches it by atomics of aligned words.
        unsafe { self.start.cast().as_ref() }
    }

    /// The body. Its words are 64 bits wide for every access of this process.
    pub(crate) fn body(&self) -> &[AtomicU64] {
        // SAFETY: the body begins inside the mapping, HEADER_BYTES after a page's start.
        let body = unsafe { self.start.add(HEADER_BYTES / 8) };
        // SAFETY: `body` is aligned, 8 · `body_words` bytes from it are mapped until the drop; the rest as in `header`.
        unsafe { std::slice::from_raw_parts(body.as_ptr(), self.body_words) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` mapped; no reference into it outlives `self`.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), HEADER_BYTES + 8 * self.body_words) };
    }
}
