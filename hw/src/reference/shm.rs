//! ntpd's shared memory (driver 28): segments of System V, found by their keys.
//!
//! In mode 1 the writer counts up before and after it writes, so a copy between two equal counts is whole, and nothing
//! need be written by the reader: the segment is attached for reading only. In mode 0 there is no count. Then two equal
//! copies are all that can be asked for, and the reader clears `valid` so that the writer may go on; who may not write to
//! the segment leaves it. A segment that was removed and made again has another number, so that is looked at each time.

use std::io;
use std::sync::atomic::{Ordering, fence};

use truebound_core::wire::reference::{SHM_BYTES, SHM_COUNT_AT, SHM_KEY, SHM_MODE_AT, SHM_VALID_AT};

use crate::sys::shm::{SharedWords, WORDS, find, find_or_make, permissions};

const MODE: usize = SHM_MODE_AT / 4;
const COUNT: usize = SHM_COUNT_AT / 4;
const VALID: usize = SHM_VALID_AT / 4;
const _: () = assert!(4 * WORDS == SHM_BYTES);
/// Copies until one is whole. A writer is done within a microsecond.
const MAX_COPIES: usize = 8;
/// Group and others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

type Words = [u32; WORDS];

/// A segment that others write.
#[derive(Debug)]
pub struct ShmClock {
    key: i32,
    attached: Option<Attached>,
}

#[derive(Debug)]
struct Attached {
    id: i32,
    words: SharedWords,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The segment's bytes.
    Whole([u8; SHM_BYTES]),
    /// Somebody wrote whenever it was copied.
    Torn,
}

impl ShmClock {
    /// The segment of this unit, whether it is there yet or not.
    #[must_use]
    pub fn new(unit: u8) -> Self {
        ShmClock { key: SHM_KEY + i32::from(unit), attached: None }
    }

    /// Copies it. An error: there is none, or we may not.
    pub fn look(&mut self) -> io::Result<Look> {
        let words = &self.attach()?.words;
        let is_counted = words.load(MODE, Ordering::Relaxed) == 1;
        for _ in 0..MAX_COPIES {
            let count = words.load(COUNT, Ordering::Acquire);
            let copy = copy_of(words);
            fence(Ordering::Acquire);
            let is_whole =
                if is_counted { words.load(COUNT, Ordering::Relaxed) == count } else { copy_of(words) == copy };
            if is_whole && copy[COUNT] == count && (copy[MODE] == 1) == is_counted {
                if !is_counted && copy[VALID] != 0 {
                    words.store(VALID, 0, Ordering::Release);
                }
                return Ok(Look::Whole(bytes_of(&copy)));
            }
        }
        Ok(Look::Torn)
    }

    /// Others than root and we may write to it.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let facts = self.attached.as_ref().and_then(|attached| permissions(attached.id).ok());
        let we = nix::unistd::geteuid().as_raw();
        facts.is_some_and(|(owner, mode)| (owner != 0 && owner != we) || mode & WRITABLE_BY_OTHERS != 0)
    }

    fn attach(&mut self) -> io::Result<&Attached> {
        let id = find(self.key).inspect_err(|_| self.attached = None)?;
        let known = self.attached.take().filter(|attached| attached.id == id);
        let known = match known {
            Some(known) => known,
            None => Attached { id, words: SharedWords::attach(id, false)? },
        };
        // Without a count the reader has to answer.
        let wants_to_write = known.words.load(MODE, Ordering::Relaxed) == 0 && !known.words.is_writable();
        let writable = if wants_to_write { SharedWords::attach(id, true).ok() } else { None };
        Ok(self.attached.insert(writable.map_or(known, |words| Attached { id, words })))
    }
}

/// A segment that we write, in mode 1, for one reader.
#[derive(Debug)]
pub struct ShmFeed {
    key: i32,
    attached: Option<Attached>,
}

impl ShmFeed {
    /// The segment of this unit.
    #[must_use]
    pub fn new(unit: u8) -> Self {
        ShmFeed { key: SHM_KEY + i32::from(unit), attached: None }
    }

    /// Writes `segment` but for its count and whether it is valid. The segment is made if there is none.
    pub fn write(&mut self, segment: &[u8; SHM_BYTES]) -> io::Result<()> {
        let id = find_or_make(self.key)?;
        let attached = match self.attached.take().filter(|attached| attached.id == id) {
            Some(attached) => attached,
            None => Attached { id, words: SharedWords::attach(id, true)? },
        };
        let words = &attached.words;
        let count = words.load(COUNT, Ordering::Relaxed);
        words.store(VALID, 0, Ordering::Relaxed);
        words.store(COUNT, count.wrapping_add(1), Ordering::Relaxed);
        // No word of the sample is seen before these two.
        fence(Ordering::Release);
        for (word, value) in segment.as_chunks().0.iter().enumerate() {
            if word != COUNT && word != VALID {
                words.store(word, u32::from_ne_bytes(*value), Ordering::Relaxed);
            }
        }
        words.store(COUNT, count.wrapping_add(2), Ordering::Release);
        words.store(VALID, 1, Ordering::Release);
        self.attached = Some(attached);
        Ok(())
    }
}

fn copy_of(words: &SharedWords) -> Words {
    std::array::from_fn(|word| words.load(word, Ordering::Relaxed))
}

fn bytes_of(words: &Words) -> [u8; SHM_BYTES] {
    let mut bytes = [0; SHM_BYTES];
    for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    bytes
}
