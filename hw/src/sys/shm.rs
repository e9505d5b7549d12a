//! A System V shared memory segment, as words of 32 bits.

use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words that are used of it: sizeof(struct shmTime).
pub(crate) const WORDS: usize = 24;
const BYTES: usize = 4 * WORDS;

/// An attached segment. Detached when dropped.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU32>,
    is_writable: bool,
}

// SAFETY: the segment is plain shared memory that is only touched through atomics, and it stays attached until the drop.
unsafe impl Send for SharedWords {}

/// The number of the segment of this key, if there is one.
pub(crate) fn find(key: i32) -> io::Result<i32> {
    // SAFETY: the call takes and returns integers only.
    let id = unsafe { libc::shmget(key, 0, 0) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// The same; it is made, for its owner only, if there is none.
pub(crate) fn find_or_make(key: i32) -> io::Result<i32> {
    // SAFETY: the call takes and returns integers only.
    let id = unsafe { libc::shmget(key, BYTES, libc::IPC_CREAT | 0o600) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// Its owner and its mode.
pub(crate) fn permissions(id: i32) -> io::Result<(u32, u32)> {
    // SAFETY: shmid_ds is a C struct of integers only, so all zeroes is a value of it.
    let mut facts: libc::shmid_ds = unsafe { mem::zeroed() };
    // SAFETY: IPC_STAT writes one shmid_ds, which `facts` is, ours alone; the number need not be one of a segment.
    let done = unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut facts) };
    #[allow(clippy::useless_conversion, reason = "a short on some machines")]
    let mode = u32::from(facts.shm_perm.mode);
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok((facts.shm_perm.uid, mode)) }
}

impl SharedWords {
    /// Attaches the segment of this number.
    pub(crate) fn attach(id: i32, is_writable: bool) -> io::Result<SharedWords> {
        let flags = if is_writable { 0 } else { libc::SHM_RDONLY };
        // SAFETY: a fresh mapping at an address of the kernel's choice; the number need not be one of a segment.
        let start = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        // (void *) −1 is the error.
        if start.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(SharedWords { start, is_writable })
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.is_writable
    }

    pub(crate) fn load(&self, word: usize, ordering: Ordering) -> u32 {
        self.words()[word].load(ordering)
    }

    /// Nothing happens where we may only read.
    pub(crate) fn store(&self, word: usize, value: u32, ordering: Ordering) {
        if self.is_writable {
            self.words()[word].store(value, ordering);
        }
    }

    fn words(&self) -> &[AtomicU32; WORDS] {
        // SAFETY: `start` is page aligned and stays attached until the drop; a segment has one page at least, whatever
        // size its maker asked for, and it cannot shrink, so that 96 bytes are there. Every bit pattern is a valid
        // AtomicU32. Where it is attached for reading only, `store`, the one writer, does not get here. Other processes
        // touch it by whatever means they like: to this one every access is an atomic load or store of a word.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: exactly what `attach` attached; no reference into it outlives `self`.
        let _ = unsafe { libc::shmdt(self.start.as_ptr().cast()) };
    }
}
