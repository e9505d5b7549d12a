//! A mark that is stored before it is reached: after a crash it is at or above everything that was used.
//!
//! Storing each use would cost a disk's time each; so the mark is stored a step ahead, and a restart finds it at most
//! one step above what was used. Skipping to it is always safe, and costs that step.
#![forbid(unsafe_code)]

use std::io;

use crate::lease::{Fence, HolderId, Kind, Record, Store};

/// TAI instants that may have been used, all at or below [`HighWater::mark_ns`].
#[derive(Debug)]
pub(crate) struct HighWater<S> {
    store: S,
    stored: Record,
}

impl<S: Store> HighWater<S> {
    /// Where the last process left it.
    ///
    /// # Errors
    /// The store's; or it is another module's store.
    pub(crate) fn open(store: S, kind: Kind) -> io::Result<Self> {
        let stored = Record { kind, fence: Fence(0), holder: HolderId(0), until_ns: Record::NOTHING };
        let mut mark = HighWater { store, stored };
        mark.reload()?;
        Ok(mark)
    }

    /// As it is in the store now.
    pub(crate) fn reload(&mut self) -> io::Result<()> {
        let Some(stored) = self.store.load()? else { return Ok(()) };
        if stored.kind != self.stored.kind {
            let what =
                format!("the store holds a {:?} record, not {:?}: give each its own", stored.kind, self.stored.kind);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.stored = stored;
        Ok(())
    }

    /// Stored, ns; [`Record::NOTHING`] if nothing ever was.
    pub(crate) const fn mark_ns(&self) -> i64 {
        self.stored.until_ns
    }

    /// The store, for tests that break it.
    #[cfg(test)]
    pub(crate) const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Makes it at least `used_ns`: one `step_ns` further, if it has to be stored.
    pub(crate) fn reach(&mut self, used_ns: i64, step_ns: i64) -> io::Result<()> {
        if used_ns <= self.mark_ns() { Ok(()) } else { self.put(used_ns.saturating_add(step_ns.max(0))) }
    }

    /// Stores `mark_ns` as the next record after the one that is known: in a shared store nobody came between.
    pub(crate) fn put(&mut self, mark_ns: i64) -> io::Result<()> {
        let next = self.stored.fence.next().map_err(io::Error::other)?;
        let record = Record { fence: next, until_ns: mark_ns, ..self.stored };
        self.store.save(&record)?;
        self.stored = record;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::MemoryStore;

    #[test]
    fn the_mark_is_stored_a_step_ahead_and_found_again() {
        let mut store = MemoryStore::default();
        let mut mark = HighWater::open(&mut store, Kind::Once).expect("memory");
        assert_eq!(mark.mark_ns(), Record::NOTHING);
        for used_ns in [5, 6, 15] {
            mark.reach(used_ns, 10).expect("memory");
        }
        mark.reach(16, 10).expect("memory");
        assert_eq!(mark.mark_ns(), 26);
        assert_eq!(store.saves, 2);
        assert_eq!(HighWater::open(&mut store, Kind::Once).expect("memory").mark_ns(), 26);
        let other = HighWater::open(&mut store, Kind::Hlc);
        assert_eq!(other.expect_err("another module's").kind(), io::ErrorKind::InvalidData);
    }
}
