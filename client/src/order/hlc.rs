//! The hybrid logical clock: logical stamps that are also the time, within the interval.
//!
//! Source: S. Kulkarni, M. Demirbas, D. Madappa, B. Avva, M. Leone, "Logical Physical Clocks", OPODIS 2014. A stamp is
//! 64 bits: 52 of µs (TAI since 1970, until 2112) above 12 of a logical count; stamps compare as numbers.
//!
//! ```text
//! next = max(max(last, remote) + 1, ⌊earliest⌋_µs · 2¹²)      refused where its µs would be above latest
//! ```
//! which is the paper's rule: where the µs of `last` or `remote` prevail the count grows by one, else it starts at 0. A
//! full count carries into the µs.
//!
//! **Why `earliest`.** The paper takes the clock as it is. `earliest` is the one point that is never after true time, so
//! an honest stamp, the maximum of `earliest`s read before it, is not after true time at its event, nor later; and
//! `latest` at any honest receiver is not before. So an honest message is never refused, however much narrower the
//! receiver's interval is, and a stamp beyond `latest` is certainly from the future: forged, or made under a bound that
//! was false. With `latest` or the middle instead, a receiver with a good clock would refuse senders with a poor one.
//!
//! **Guarantees:** (1) e → f implies hlc(e) < hlc(f), across restarts too, whatever the clocks do. With true bounds also:
//! (2) at its event a stamp's µs is within the interval, rounded down to µs at the lower end; (3) no peer, whatever it
//! sends, moves this clock beyond `latest`; (4) where `earliest` at f is in a later µs than `latest` at e, hlc(e) <
//! hlc(f), message or not.
//!
//! **Cost.** More than 4096 events that outrun `earliest` carry, and a restart skips to the stored mark: such stamps may
//! lie above true time, never above their maker's `latest`. A receiver with a narrower interval then refuses them for
//! at most the maker's width. Where even `latest` is reached the clock refuses to stamp, and says for how long.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::high_water::HighWater;
use crate::interval::Span;
use crate::lease::{Kind, Record, Store};

const LOGICAL_BITS: u32 = 12;
const NS_PER_US: i64 = 1_000;
/// 2⁵² µs: the first instant that has no stamp.
const END_US: u64 = 1 << (64 - LOGICAL_BITS);

/// A hybrid timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HlcStamp(u64);

impl HlcStamp {
    /// Of these 64 bits, every one of which is a stamp. [`Hlc::receive`] judges whether it can be honest.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        HlcStamp(bits)
    }

    /// To store, send and compare.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// µs of TAI since 1970.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The count among events of one µs.
    #[must_use]
    pub const fn logical(self) -> u64 {
        self.0 & ((1 << LOGICAL_BITS) - 1)
    }

    /// Its µs as TAI, ns.
    #[must_use]
    pub fn tai_ns(self) -> i64 {
        i64::try_from(self.micros()).map_or(i64::MAX, |us| us.saturating_mul(NS_PER_US))
    }
}

impl fmt::Display for HlcStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}+{}", self.micros() / 1_000_000, self.micros() % 1_000_000, self.logical())
    }
}

/// Why there is no stamp; the clock is as before.
#[derive(Debug)]
#[non_exhaustive]
pub enum HlcError {
    /// The remote stamp is this many ns beyond our latest: it cannot have been made yet. Drop the message and note the
    /// sender; one that carried in a burst or has just restarted may be accepted so much later.
    FromFuture(i64),
    /// The next stamp would be this many ns beyond our latest: try again then. The logical count is full, or an earlier
    /// run of this node may have used the stamps until there.
    Ahead(i64),
    /// The reading is inverted, before 1970, or after 2112.
    OutOfRange(Span),
    /// The mark could not be stored, so no stamp may be used.
    Store(io::Error),
}

impl fmt::Display for HlcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HlcError::FromFuture(ns) => write!(f, "the stamp is {ns} ns beyond our latest: drop the message"),
            HlcError::Ahead(ns) => write!(f, "the next stamp is {ns} ns beyond our latest: try again then"),
            HlcError::OutOfRange(span) => write!(f, "no stamp for {} to {} ns TAI", span.earliest_ns, span.latest_ns),
            HlcError::Store(error) => write!(f, "the mark could not be stored: {error}"),
        }
    }
}

impl std::error::Error for HlcError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HlcError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for HlcError {
    fn from(error: io::Error) -> Self {
        HlcError::Store(error)
    }
}

/// The clock of one node.
///
/// Every reading it is given is TAI ([`crate::Interval::tai`]), taken after the event began: for a receipt, after the
/// message had arrived. `Reader::now` is enough: a sleep that the agent has not noticed yet makes a reading too early,
/// never too late, so stamps stay below true time, and honest ones may be refused until it is noticed.
#[derive(Debug)]
pub struct Hlc<S> {
    last: HlcStamp,
    mark: HighWater<S>,
    step_ns: i64,
}

impl<S: Store> Hlc<S> {
    /// Goes on where the last run stopped. The mark is stored `step_ns` ahead: the store is written once in that time,
    /// and a restart within it waits for as long at most. With a new [`crate::lease::MemoryStore`] stamps may repeat
    /// after a restart, by carries and by a clock that was false.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: S, step_ns: i64) -> io::Result<Self> {
        let mark = HighWater::open(store, Kind::Hlc)?;
        // Every stamp within the mark's µs may have been used.
        let last = match mark.mark_ns() {
            Record::NOTHING => HlcStamp(0),
            mark_ns => HlcStamp(stamp_at(mark_ns).unwrap_or(u64::MAX) | ((1 << LOGICAL_BITS) - 1)),
        };
        Ok(Hlc { last, mark, step_ns })
    }

    /// The stamp of an event that receives nothing: a local one, or the sending of a message that carries the stamp.
    ///
    /// # Errors
    /// [`HlcError`], and the clock is as before.
    pub fn send(&mut self, now: Span) -> Result<HlcStamp, HlcError> {
        self.advance(self.last, now)
    }

    /// The stamp of receiving a message that carries `remote`.
    ///
    /// # Errors
    /// [`HlcError::FromFuture`] for a stamp that cannot be honest, and the others; the clock is as before.
    pub fn receive(&mut self, remote: HlcStamp, now: Span) -> Result<HlcStamp, HlcError> {
        if !now.is_valid() {
            return Err(HlcError::OutOfRange(now));
        }
        if remote.tai_ns() > now.latest_ns {
            return Err(HlcError::FromFuture(remote.tai_ns().saturating_sub(now.latest_ns)));
        }
        self.advance(self.last.max(remote), now)
    }

    /// The last stamp that was made; after a restart, one that is at least as great.
    #[must_use]
    pub const fn last(&self) -> HlcStamp {
        self.last
    }

    /// The formula at the top of the file.
    fn advance(&mut self, after: HlcStamp, now: Span) -> Result<HlcStamp, HlcError> {
        let out_of_range = HlcError::OutOfRange(now);
        let Some(earliest) = stamp_at(now.earliest_ns).filter(|_| now.is_valid()) else { return Err(out_of_range) };
        let Some(next) = after.0.checked_add(1) else { return Err(out_of_range) };
        let next = HlcStamp(next.max(earliest));
        if next.tai_ns() > now.latest_ns {
            return Err(HlcError::Ahead(next.tai_ns().saturating_sub(now.latest_ns)));
        }
        self.mark.reach(next.tai_ns(), self.step_ns)?;
        self.last = next;
        Ok(next)
    }
}

/// The first stamp of the µs of this instant, as bits; `None` before 1970 and after 2112.
fn stamp_at(tai_ns: i64) -> Option<u64> {
    u64::try_from(tai_ns.div_euclid(NS_PER_US)).ok().filter(|us| *us < END_US).map(|us| us << LOGICAL_BITS)
}

#[cfg(test)]
mod tests;
