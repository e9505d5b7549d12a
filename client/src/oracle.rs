//! A timestamp oracle: strictly increasing timestamps for everybody, through crashes and failover.
//!
//! Source: the oracle of Percolator (D. Peng, F. Dabek, OSDI 2010, section 2.3), which stores the highest timestamp of a
//! window before it gives any of it out; a successor starts above. There, two oracles alive at once are prevented by a
//! lock service. Here the bound does it: a window is also a time, and the store is asked once a window.
//!
//! An oracle owns a window below a *ceiling*, which is stored before. It gives out timestamps t (TAI, ns) with
//!
//! ```text
//! floor <= t,  earliest <= t <= latest < ceiling        by one strict reading, taken during the call
//! ```
//! and whoever finds that ceiling in the store takes it for its floor, gives nothing until `earliest >= floor`, and
//! stores a ceiling of its own first.
//!
//! **Guarantee:** no timestamp is given twice; and a call that ends before another begins, at whichever oracle, gives
//! the lower timestamps. **Proof.** One oracle: it counts up. Two: the store keeps a ceiling only from an oracle that
//! knew the one before, so windows form a chain, and one of the two is the later; its floor is at or above the other's
//! ceiling, which gives uniqueness. Let the earlier give at its reading's true instant α, the later at β: α <= latest <
//! ceiling <= floor <= earliest <= β. A call of the earlier oracle that began after the later one's had ended would need
//! α > β. (One that retires lowers its ceiling, after its last call.) No confirmation is needed: an oracle that stalls between its reading and its reply gives a timestamp that was
//! right at the reading, which lies within the call.
//!
//! **Commit wait.** t <= latest, so `earliest > t` comes about within the width of the interval; after it, t has passed
//! everywhere. t begins at `earliest` and not at `latest`, so that this wait is short and a width of ns is in stock.
//!
//! **Cost:** one store write for each half window; a failover waits until the window has passed, as does a crash; at
//! most one timestamp for each ns of true time, and a burst of as many as the interval is wide.
//!
//! **The store.** For one host [`crate::lease::FileStore`], which has one owner. Oracles on several hosts share a
//! linearizable store whose `save` must refuse a record unless its [`Record::fence`](crate::lease::Record::fence) is one
//! more than the stored one's (1 where nothing is stored): a conditional put. Without that, two successors of one
//! predecessor take the same window.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::high_water::HighWater;
use crate::interval::{Span, Unavailable};
use crate::lease::{Kind, Record, Store};
use crate::source::TimeSource;

/// Consecutive timestamps, both ends included, TAI ns. All were taken at the instant of the call: a cache of them serves
/// requests that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The lowest.
    pub first_ns: i64,
    /// The highest.
    pub last_ns: i64,
}

impl Batch {
    /// How many there are: at least one.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.last_ns.abs_diff(self.first_ns).saturating_add(1)
    }
}

/// Why there is no timestamp now.
#[derive(Debug)]
#[non_exhaustive]
pub enum OracleError {
    /// There is no bound now, or the reading was inverted.
    Unavailable(Unavailable),
    /// An earlier oracle may still give timestamps, until this TAI instant, ns, has certainly passed. Try again then.
    PredecessorMayLive(i64),
    /// All timestamps until our latest are taken: the next comes in this many ns.
    TooFast(i64),
    /// The ceiling could not be stored, or a successor has stored its own. This oracle is a successor itself from now
    /// on: try again.
    Store(io::Error),
}

impl fmt::Display for OracleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OracleError::Unavailable(why) => why.fmt(f),
            OracleError::PredecessorMayLive(until) => {
                write!(f, "an earlier oracle may give timestamps until {until} ns TAI: try again then")
            }
            OracleError::TooFast(ns) => write!(f, "all timestamps are taken: the next comes in {ns} ns"),
            OracleError::Store(error) => write!(f, "the ceiling could not be stored: {error}; try again"),
        }
    }
}

impl std::error::Error for OracleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OracleError::Unavailable(why) => Some(why),
            OracleError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Unavailable> for OracleError {
    fn from(why: Unavailable) -> Self {
        OracleError::Unavailable(why)
    }
}

/// One oracle. Any number may live; the store's ceiling and the clock decide which gives.
#[derive(Debug)]
pub struct Oracle<T, S> {
    time: T,
    /// The ceiling, as this oracle knows it.
    ceiling: HighWater<S>,
    window_ns: i64,
    /// The ceiling is this oracle's own.
    is_owner: bool,
    /// Nothing below is given again, or ever by this oracle, ns.
    floor_ns: i64,
}

impl<T: TimeSource, S: Store> Oracle<T, S> {
    /// A successor of whoever used `store` before. Windows are `window_ns` long, at least 2: a failover waits for one,
    /// and the store is written twice in one.
    ///
    /// # Errors
    /// The store's.
    pub fn open(time: T, store: S, window_ns: i64) -> io::Result<Self> {
        let ceiling = HighWater::open(store, Kind::Oracle)?;
        let floor_ns = ceiling.mark_ns();
        Ok(Oracle { time, ceiling, window_ns: window_ns.max(2), is_owner: false, floor_ns })
    }

    /// At least one and at most `count` timestamps (0 counts as 1), above all that were given before.
    ///
    /// # Errors
    /// [`OracleError`]; nothing was taken.
    pub fn allocate(&mut self, count: u32) -> Result<Batch, OracleError> {
        let now = self.reading()?;
        if !self.is_owner && now.earliest_ns < self.floor_ns {
            return Err(OracleError::PredecessorMayLive(self.floor_ns));
        }
        if self.must_extend(now) {
            self.extend(now)?;
        }
        // Now latest < ceiling. However long the store took, this reading is the one of the proof.
        let first_ns = self.floor_ns.max(now.earliest_ns);
        if first_ns > now.latest_ns {
            return Err(OracleError::TooFast(first_ns.saturating_sub(now.latest_ns)));
        }
        let last_ns = first_ns.saturating_add(i64::from(count.max(1)) - 1).min(now.latest_ns);
        self.floor_ns = last_ns.saturating_add(1);
        Ok(Batch { first_ns, last_ns })
    }

    /// Ends this oracle and gives the rest of its window back: a successor waits for a width, not for a window.
    ///
    /// # Errors
    /// The store's; then a successor waits for the window.
    pub fn retire(mut self) -> io::Result<()> {
        if self.is_owner { self.ceiling.put(self.floor_ns) } else { Ok(()) }
    }

    fn reading(&self) -> Result<Span, OracleError> {
        let now = self.time.now_strict()?.tai;
        if now.is_valid() { Ok(now) } else { Err(Unavailable::Malformed.into()) }
    }

    /// Less than half a window is left.
    fn must_extend(&self, now: Span) -> bool {
        !self.is_owner || self.ceiling.mark_ns().saturating_sub(now.latest_ns) < self.window_ns / 2
    }

    /// Stores the next ceiling. If that fails, the window in hand is good while `latest` is below its ceiling: nobody
    /// else gives timestamps before it has passed.
    fn extend(&mut self, now: Span) -> Result<(), OracleError> {
        let ceiling_ns = now.latest_ns.max(self.floor_ns).saturating_add(self.window_ns);
        let Err(error) = self.ceiling.put(ceiling_ns) else {
            self.is_owner = true;
            return Ok(());
        };
        if self.is_owner && now.latest_ns < self.ceiling.mark_ns() {
            return Ok(());
        }
        self.become_successor()?;
        Err(OracleError::Store(error))
    }

    /// Of whoever stored the ceiling that is there now, this oracle itself perhaps.
    fn become_successor(&mut self) -> Result<(), OracleError> {
        self.is_owner = false;
        self.ceiling.reload().map_err(OracleError::Store)?;
        let stored_ns = self.ceiling.mark_ns();
        if stored_ns != Record::NOTHING {
            self.floor_ns = self.floor_ns.max(stored_ns);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
