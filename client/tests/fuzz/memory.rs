//! A page's memory from a writer's side, word by word: what no agent writes.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::oracle::{WORDS, Words};

/// A writable mapping of the file.
pub(crate) struct Memory(NonNull<AtomicU64>);

impl Memory {
    pub(crate) fn map(file: &File) -> Memory {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; the file is open for the call.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), WORDS * 8, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Memory(NonNull::new(start.cast()).expect("mapped"))
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: 512 words are mapped until the drop, and only atomics touch them.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), WORDS) }
    }

    /// The generation and both slots. An open reader looks at nothing else.
    pub(crate) fn store(&self, words: &Words) {
        let all = self.words();
        all[2].store(words[2], Ordering::Relaxed);
        for index in 64..192 {
            all[index].store(words[index], Ordering::Relaxed);
        }
    }

    pub(crate) fn load(&self) -> Words {
        std::array::from_fn(|index| self.words()[index].load(Ordering::Relaxed))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; no reference outlives `self`.
        let _ = unsafe { libc::munmap(self.0.as_ptr().cast(), WORDS * 8) };
    }
}
