//! At-most-once delivery without a handshake: a receiver that survives a crash.
//!
//! Source: B. Liskov, L. Shrira, J. Wroclawski, "Efficient at-most-once messages based on synchronized clocks", ACM TOCS
//! 9(2), 1991. A message carries its sender, a number, and a stamp of its sender's clock; every copy carries the same.
//! The receiver remembers what it accepted lately, and a *bound* (the paper's `upper`): at or below it a message may be
//! forgotten, so it is refused. What is forgotten raises the bound, and so does a crash: accepted stamps lie at or below
//! a mark that was stored before, and a restart takes that mark for its bound.
//!
//! **Guarantee:** no message is accepted twice, whatever clocks do, network and crashes included. It rests on the store
//! alone. Accepted is not done: a crash between [`AtMostOnce::accept`] and the effect loses the message; that is the
//! price of *at most*.
//!
//! **What true bounds add:** an honest message is accepted, once, if it arrives within ρ − w of being sent (w: the width
//! of its sender's interval) and after the last restart's mark has passed, while at most `capacity` messages arrive
//! within ρ. The stamp is the sender's `earliest`: it is not after the sending, hence not after the receiver's `latest`,
//! so an honest message never looks like one from the future, and no sender can raise the mark beyond `latest` plus a
//! step.
//!
//! **Cost:** messages older than ρ are refused; after a restart, all that were stamped up to a step after the last one
//! accepted; memory is 24 bytes and the tree's share for each of `capacity` messages. A full memory forgets the oldest:
//! one sender that floods makes the receiver forget sooner, so admit known senders only.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use crate::high_water::HighWater;
use crate::interval::Span;
use crate::lease::{Kind, Store};

/// What tells one message from all others. A copy has all three the same; a new stamp makes a new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// `earliest` (TAI, ns) of the sender when it first sent it.
    pub sent_ns: i64,
    /// The sender.
    pub sender: u64,
    /// A sequence number or a nonce: differs between messages of one sender and one stamp.
    pub number: u64,
}

/// Why a message must not be delivered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It was delivered before.
    Duplicate,
    /// Its stamp is this many ns at or below the bound, so it may have been delivered before. The sender must ask
    /// whether it was, before it sends it as a new message.
    TooOld(i64),
    /// Its stamp is this many ns beyond our latest: its sender's clock lies.
    FromFuture(i64),
    /// The reading is inverted: there is no time to judge by.
    NoTime,
    /// The mark could not be stored. A copy may be accepted later.
    Store(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Duplicate => f.write_str("delivered before"),
            Refusal::TooOld(ns) => {
                write!(f, "{ns} ns too old to know whether it was delivered: ask before sending it as a new message")
            }
            Refusal::FromFuture(ns) => write!(f, "stamped {ns} ns beyond our latest: the sender's clock lies"),
            Refusal::NoTime => f.write_str("the reading is inverted"),
            Refusal::Store(error) => write!(f, "the mark could not be stored: {error}"),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Refusal::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// How much a receiver remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// ρ: messages older than this are refused, ns. Not below 0.
    pub age_ns: i64,
    /// Messages that are remembered at most.
    pub capacity: usize,
    /// How far ahead of the stamps the mark is stored, ns: a write for each such time, and a restart refuses messages
    /// for as long at most.
    pub step_ns: i64,
}

/// The filter of one receiver.
#[derive(Debug)]
pub struct AtMostOnce<S> {
    memory: Memory,
    /// Accepted, and above the bound; by stamp.
    accepted: BTreeSet<MessageId>,
    /// At or below it nothing is accepted, ns. Never goes back.
    bound_ns: i64,
    mark: HighWater<S>,
}

impl<S: Store> AtMostOnce<S> {
    /// After a start or a crash: all that may have been accepted before is refused.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: S, memory: Memory) -> io::Result<Self> {
        let mark = HighWater::open(store, Kind::Once)?;
        Ok(AtMostOnce { memory, accepted: BTreeSet::new(), bound_ns: mark.mark_ns(), mark })
    }

    /// Deliver this message? `Ok` once at most for every id. `now` is TAI, read after the message had arrived.
    ///
    /// # Errors
    /// [`Refusal`] says why it must not be delivered.
    pub fn accept(&mut self, id: MessageId, now: Span) -> Result<(), Refusal> {
        if !now.is_valid() {
            return Err(Refusal::NoTime);
        }
        self.forget(now.earliest_ns.saturating_sub(self.memory.age_ns.max(0)));
        if id.sent_ns <= self.bound_ns {
            return Err(Refusal::TooOld(self.bound_ns.saturating_sub(id.sent_ns)));
        }
        if self.accepted.contains(&id) {
            return Err(Refusal::Duplicate);
        }
        if id.sent_ns > now.latest_ns {
            return Err(Refusal::FromFuture(id.sent_ns.saturating_sub(now.latest_ns)));
        }
        // Before it is delivered: a crash right after must find it.
        self.mark.reach(id.sent_ns, self.memory.step_ns).map_err(Refusal::Store)?;
        self.accepted.insert(id);
        if let Some(oldest) = self.accepted.first().filter(|_| self.accepted.len() > self.memory.capacity) {
            self.forget(oldest.sent_ns);
        }
        Ok(())
    }

    /// At or below this stamp everything is refused, TAI ns.
    #[must_use]
    pub const fn bound_ns(&self) -> i64 {
        self.bound_ns
    }

    /// Messages that are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.accepted.len()
    }

    /// Refuses from now on all that were stamped until `bound_ns`, so that nobody needs to remember them.
    fn forget(&mut self, bound_ns: i64) {
        self.bound_ns = self.bound_ns.max(bound_ns);
        while self.accepted.first().is_some_and(|oldest| oldest.sent_ns <= self.bound_ns) {
            self.accepted.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{MemoryStore, Record};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Where the receiver's process ends.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Crash {
        Never,
        BeforeSave,
        /// The store kept it, and nobody heard.
        AfterSave,
        AfterAccept,
    }

    /// Ends the process, so to speak, in the middle of a save.
    struct Crashing<'a>(&'a mut MemoryStore, Crash);

    impl Store for Crashing<'_> {
        fn load(&mut self) -> io::Result<Option<Record>> {
            self.0.load()
        }

        fn save(&mut self, record: &Record) -> io::Result<()> {
            if self.1 != Crash::BeforeSave {
                self.0.save(record)?;
            }
            match self.1 {
                Crash::BeforeSave | Crash::AfterSave => Err(io::ErrorKind::Interrupted.into()),
                Crash::Never | Crash::AfterAccept => Ok(()),
            }
        }
    }

    /// One arrival: which message (few, so that copies are common), how much later than the last arrival, by a clock
    /// how wrong.
    #[derive(Clone, Debug)]
    struct Arrival {
        message: MessageId,
        pause_ns: i64,
        below_ns: i64,
        above_ns: i64,
        crash: Crash,
    }

    fn arrival(is_any_clock: bool) -> impl Strategy<Value = Arrival> {
        let crash = prop_oneof![
            8 => Just(Crash::Never),
            1 => Just(Crash::BeforeSave),
            1 => Just(Crash::AfterSave),
            1 => Just(Crash::AfterAccept),
        ];
        // A clock that breaks its promise goes back, ahead and inverts; a true one does not.
        let edge = if is_any_clock { -300i64..300 } else { 0..30 };
        let message = (0i64..400, 0u64..2, 0u64..2);
        (message, 0i64..40, edge.clone(), edge, crash).prop_map(|(message, pause_ns, below_ns, above_ns, crash)| {
            let (sent_ns, sender, number) = message;
            Arrival {
                message: MessageId { sent_ns: sent_ns / 7 * 7, sender, number },
                pause_ns,
                below_ns,
                above_ns,
                crash,
            }
        })
    }

    fn memory() -> impl Strategy<Value = Memory> {
        (0i64..200, 0usize..12, 0i64..60).prop_map(|(age_ns, capacity, step_ns)| Memory { age_ns, capacity, step_ns })
    }

    /// A process that lives until its crash, then the next one.
    fn deliveries(arrivals: &[Arrival], memory: Memory) -> Result<BTreeMap<MessageId, u32>, TestCaseError> {
        let mut delivered = BTreeMap::new();
        let mut store = MemoryStore::default();
        let mut true_ns = 0;
        let mut rest = arrivals;
        while !rest.is_empty() {
            let life = rest.iter().position(|arrival| arrival.crash != Crash::Never).map_or(rest.len(), |at| at + 1);
            let (this_life, after) = rest.split_at(life);
            rest = after;
            let mut filter = AtMostOnce::open(Crashing(&mut store, Crash::Never), memory).expect("loads");
            for arrival in this_life {
                true_ns += arrival.pause_ns;
                filter.mark_mut().1 = arrival.crash;
                let now = Span::new(true_ns - arrival.below_ns, true_ns + arrival.above_ns);
                let bound_ns = filter.bound_ns();
                if filter.accept(arrival.message, now).is_ok() {
                    *delivered.entry(arrival.message).or_insert(0) += 1;
                    prop_assert!(arrival.message.sent_ns > bound_ns && arrival.message.sent_ns <= now.latest_ns);
                }
                prop_assert!(filter.remembered() <= memory.capacity && filter.bound_ns() >= bound_ns);
            }
        }
        Ok(delivered)
    }

    impl<S: Store> AtMostOnce<S> {
        fn mark_mut(&mut self) -> &mut S {
            self.mark.store_mut()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn nothing_is_accepted_twice_whatever_clocks_and_crashes_do(
            arrivals in prop::collection::vec(arrival(true), 1..80), memory in memory()
        ) {
            for (message, times) in deliveries(&arrivals, memory)? {
                prop_assert_eq!(times, 1, "{:?}", message);
            }
        }

        /// The first copy that arrives in time, by true clocks, is delivered.
        #[test]
        fn honest_messages_in_time_are_accepted(
            sent in prop::collection::vec((0i64..50, 0i64..30, 0i64..90, 0i64..20, 0i64..20), 1..40)
        ) {
            let memory = Memory { age_ns: 150, capacity: 1_000, step_ns: 20 };
            let mut filter = AtMostOnce::open(MemoryStore::default(), memory).expect("memory");
            let mut sending_ns = 0;
            let mut arrivals: Vec<(i64, MessageId, Span)> = Vec::new();
            for (number, (pause_ns, sender_below, delay_ns, below, above)) in (0..).zip(sent) {
                sending_ns += pause_ns;
                // ρ − w: 150 − 30 − (the width below) is above the longest delay.
                let id = MessageId { sent_ns: sending_ns - sender_below, sender: 1, number };
                let at_ns = sending_ns + delay_ns;
                arrivals.push((at_ns, id, Span::new(at_ns - below, at_ns + above)));
            }
            arrivals.sort_by_key(|(at_ns, ..)| *at_ns);
            for (_, id, now) in arrivals {
                prop_assert!(filter.accept(id, now).is_ok(), "{:?} at {:?}", id, now);
                prop_assert!(matches!(filter.accept(id, now), Err(Refusal::Duplicate)));
            }
        }
    }

    fn id(sent_ns: i64) -> MessageId {
        MessageId { sent_ns, sender: 1, number: 1 }
    }

    #[test]
    fn age_future_and_marks_begin_where_they_say() {
        let mut store = MemoryStore::default();
        let memory = Memory { age_ns: 10, capacity: 9, step_ns: 5 };
        let mut filter = AtMostOnce::open(&mut store, memory).expect("memory");
        let now = Span::new(100, 110);
        assert!(matches!(filter.accept(id(90), now), Err(Refusal::TooOld(0))));
        assert!(filter.accept(id(91), now).is_ok());
        assert!(filter.accept(id(110), now).is_ok());
        assert!(matches!(filter.accept(id(111), now), Err(Refusal::FromFuture(1))));
        assert!(matches!(filter.accept(id(100), Span::new(1, 0)), Err(Refusal::NoTime)));
        let mut again = AtMostOnce::open(&mut store, memory).expect("memory");
        let now = Span::new(115, 120);
        assert!(matches!(again.accept(id(115), now), Err(Refusal::TooOld(0))), "110 and its step");
        assert!(again.accept(id(116), now).is_ok());
    }

    #[test]
    fn a_full_memory_forgets_the_oldest_and_refuses_its_copies() {
        let memory = Memory { age_ns: 1_000, capacity: 2, step_ns: 0 };
        let mut filter = AtMostOnce::open(MemoryStore::default(), memory).expect("memory");
        let now = Span::new(100, 110);
        for sent_ns in [50, 60, 70] {
            assert!(filter.accept(id(sent_ns), now).is_ok());
        }
        assert_eq!((filter.remembered(), filter.bound_ns()), (2, 50));
        assert!(matches!(filter.accept(id(50), now), Err(Refusal::TooOld(0))));
        assert!(matches!(filter.accept(id(60), now), Err(Refusal::Duplicate)));
        // Forgotten as soon as it is delivered, and still delivered once.
        assert!(filter.accept(id(55), now).is_ok());
        assert!(matches!(filter.accept(id(55), now), Err(Refusal::TooOld(_))));
    }
}
