//! Vector clocks: causality itself, for a bounded number of members.
//!
//! Sources: C. J. Fidge, "Timestamps in Message-Passing Systems That Preserve the Partial Ordering", 1988; F. Mattern,
//! "Virtual Time and Global States of Distributed Systems", 1988. **Guarantee:** e → f exactly when
//! `stamp(e).compare(&stamp(f))` is [`Causality::Before`], as long as a
//! node that restarts without its clock takes a new number. **Cost:** 16 bytes for each member that ever had an event.
//!
//! Bytes: number of members (u16), then for each its number and its count (u64, u64), all little-endian, members in
//! strictly ascending order, counts from 1. So a clock has one encoding, and equal bytes are equal clocks.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use super::ParseError;

/// How two events relate by messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Causality {
    /// The first happened before the second.
    Before,
    /// The second happened before the first.
    After,
    /// The same events are known to both.
    Equal,
    /// Neither can have caused the other.
    Concurrent,
}

/// Why a clock did not advance; it is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorError {
    /// More members than this clock was made for.
    TooManyMembers {
        /// The limit it was made with.
        limit: usize,
    },
    /// This node's count is at its end: a peer claims to know of events of ours that never were.
    CountExhausted,
}

impl fmt::Display for VectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VectorError::TooManyMembers { limit } => {
                write!(f, "more than {limit} members: raise the limit of this clock, or retire members")
            }
            VectorError::CountExhausted => f.write_str("a peer's stamp is forged: it leaves this node no count"),
        }
    }
}

impl std::error::Error for VectorError {}

/// How many events of each member are known. A member that is not there has had none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VectorStamp {
    counts: BTreeMap<u64, u64>,
}

impl VectorStamp {
    /// Events of `member` that are known here.
    #[must_use]
    pub fn count(&self, member: u64) -> u64 {
        self.counts.get(&member).copied().unwrap_or(0)
    }

    /// Members with at least one event.
    #[must_use]
    pub fn members(&self) -> usize {
        self.counts.len()
    }

    /// The causal relation of the events that have these stamps.
    #[must_use]
    pub fn compare(&self, other: &VectorStamp) -> Causality {
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::Before,
            (false, true) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Everything known here is known there.
    fn is_within(&self, other: &VectorStamp) -> bool {
        self.counts.iter().all(|(member, count)| *count <= other.count(*member))
    }

    /// The encoding at the top of this file. At most 2¹⁶ − 1 members, which [`VectorClock`] sees to.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let members = u16::try_from(self.counts.len()).unwrap_or(u16::MAX);
        let mut bytes = members.to_le_bytes().to_vec();
        for (member, count) in self.counts.iter().take(usize::from(members)) {
            bytes.extend_from_slice(&member.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// From exactly the bytes of one stamp with at most `limit` members. Allocates nothing before both are known.
    ///
    /// # Errors
    /// [`ParseError`] says what is wrong with them.
    pub fn from_bytes(bytes: &[u8], limit: usize) -> Result<Self, ParseError> {
        let (head, entries) =
            bytes.split_first_chunk().ok_or(ParseError::Length { found: bytes.len(), expected: HEAD_BYTES })?;
        let members = usize::from(u16::from_le_bytes(*head));
        let expected = HEAD_BYTES + members * ENTRY_BYTES;
        if bytes.len() != expected {
            return Err(ParseError::Length { found: bytes.len(), expected });
        }
        if members > limit {
            return Err(ParseError::TooManyMembers { found: members, limit });
        }
        let mut counts = BTreeMap::new();
        let mut last = None;
        for (member, count) in entries.chunks_exact(ENTRY_BYTES).filter_map(entry) {
            if count == 0 || last.is_some_and(|last| last >= member) {
                return Err(ParseError::NotCanonical);
            }
            counts.insert(member, count);
            last = Some(member);
        }
        Ok(VectorStamp { counts })
    }
}

const HEAD_BYTES: usize = 2;
const ENTRY_BYTES: usize = 16;

fn entry(bytes: &[u8]) -> Option<(u64, u64)> {
    let (member, count) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*member), u64::from_le_bytes(count.try_into().ok()?)))
}

/// The clock of one member.
#[derive(Clone, Debug)]
pub struct VectorClock {
    node: u64,
    limit: u16,
    known: VectorStamp,
}

impl VectorClock {
    /// Before the first event of `node`. No two nodes may have one number. The clock will know `limit` members, itself
    /// among them, and no more.
    #[must_use]
    pub fn new(node: u64, limit: u16) -> Self {
        VectorClock { node, limit, known: VectorStamp::default() }
    }

    /// The next event of this node that receives nothing: a local one, or the sending of a message that carries the
    /// stamp.
    ///
    /// # Errors
    /// [`VectorError`]; the clock is as before.
    pub fn tick(&mut self) -> Result<VectorStamp, VectorError> {
        self.receive(&VectorStamp::default())
    }

    /// The event of receiving a message that carries `remote`.
    ///
    /// # Errors
    /// [`VectorError`]; the clock is as before.
    pub fn receive(&mut self, remote: &VectorStamp) -> Result<VectorStamp, VectorError> {
        let own = self.known.count(self.node).max(remote.count(self.node));
        let own = own.checked_add(1).ok_or(VectorError::CountExhausted)?;
        let is_new = |member: &&u64| !self.known.counts.contains_key(member) && **member != self.node;
        let self_is_new = usize::from(!self.known.counts.contains_key(&self.node));
        let members = self.known.members() + self_is_new + remote.counts.keys().filter(is_new).count();
        if members > usize::from(self.limit) {
            return Err(VectorError::TooManyMembers { limit: usize::from(self.limit) });
        }
        for (member, count) in &remote.counts {
            let known = self.known.counts.entry(*member).or_default();
            *known = (*known).max(*count);
        }
        self.known.counts.insert(self.node, own);
        Ok(self.known.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::lamport::{LamportClock, LamportStamp};
    use proptest::prelude::*;

    const NODES: usize = 4;
    const LIMIT: u16 = 4;

    /// One event: of which node, and which earlier event's message it receives, if any.
    type Step = (usize, Option<prop::sample::Index>);

    struct Happened {
        lamport: LamportStamp,
        vector: VectorStamp,
        /// Indices of all events that happened before this one.
        past: std::collections::BTreeSet<usize>,
    }

    fn history(steps: &[Step]) -> Vec<Happened> {
        let mut lamports: Vec<_> = (0..NODES as u64).map(LamportClock::new).collect();
        let mut vectors: Vec<_> = (0..NODES as u64).map(|node| VectorClock::new(node, LIMIT)).collect();
        let mut last = [None; NODES];
        let mut events: Vec<Happened> = Vec::new();
        for (number, (node, from)) in steps.iter().enumerate() {
            let cause = from.filter(|_| number > 0).map(|from| from.index(number));
            let (lamport, vector) = match cause {
                Some(cause) => (
                    lamports[*node].receive(events[cause].lamport).expect("few events"),
                    vectors[*node].receive(&events[cause].vector).expect("few members"),
                ),
                None => (lamports[*node].tick().expect("few events"), vectors[*node].tick().expect("few members")),
            };
            let causes = [cause, last[*node]].into_iter().flatten();
            let past = causes.flat_map(|cause| events[cause].past.iter().copied().chain([cause])).collect();
            events.push(Happened { lamport, vector, past });
            last[*node] = Some(number);
        }
        events
    }

    proptest! {
        #[test]
        fn vectors_are_causality_and_lamport_follows_it(
            steps in prop::collection::vec((0..NODES, any::<Option<prop::sample::Index>>()), 1..60)
        ) {
            let events = history(&steps);
            for (i, e) in events.iter().enumerate() {
                for (j, f) in events.iter().enumerate() {
                    let expected = match (f.past.contains(&i), e.past.contains(&j)) {
                        _ if i == j => Causality::Equal,
                        (true, _) => Causality::Before,
                        (_, true) => Causality::After,
                        _ => Causality::Concurrent,
                    };
                    prop_assert_eq!(e.vector.compare(&f.vector), expected);
                    prop_assert!(expected != Causality::Before || e.lamport < f.lamport);
                    prop_assert!(i == j || e.lamport != f.lamport);
                }
            }
        }

        #[test]
        fn stamps_survive_their_bytes(counts in prop::collection::btree_map(any::<u64>(), 1u64.., 0..20)) {
            let stamp = VectorStamp { counts };
            prop_assert_eq!(VectorStamp::from_bytes(&stamp.to_bytes(), 20), Ok(stamp));
        }

        #[test]
        fn any_bytes_are_one_stamp_or_an_error(
            members in 0u16..4, body in prop::collection::vec(0u8..3, 0..80), limit in 0usize..4
        ) {
            let bytes = [members.to_le_bytes().to_vec(), body].concat();
            if let Ok(stamp) = VectorStamp::from_bytes(&bytes, limit) {
                prop_assert!(stamp.members() <= limit);
                prop_assert_eq!(stamp.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn hostile_bytes_are_refused_by_name() {
        let stamp = |entries: &[(u64, u64)]| {
            let mut bytes = u16::try_from(entries.len()).expect("few").to_le_bytes().to_vec();
            entries.iter().for_each(|(m, c)| bytes.extend([m.to_le_bytes(), c.to_le_bytes()].concat()));
            bytes
        };
        let parse = |bytes: &[u8]| VectorStamp::from_bytes(bytes, 2);
        assert_eq!(parse(&[]), Err(ParseError::Length { found: 0, expected: 2 }));
        assert_eq!(parse(&[255, 255]), Err(ParseError::Length { found: 2, expected: 2 + 65_535 * 16 }));
        assert_eq!(parse(&stamp(&[(1, 1), (1, 2)])), Err(ParseError::NotCanonical));
        assert_eq!(parse(&stamp(&[(2, 1), (1, 2)])), Err(ParseError::NotCanonical));
        assert_eq!(parse(&stamp(&[(1, 0)])), Err(ParseError::NotCanonical));
        assert_eq!(parse(&stamp(&[(1, 1), (2, 1), (3, 1)])), Err(ParseError::TooManyMembers { found: 3, limit: 2 }));
        assert_eq!(parse(&stamp(&[(1, 1), (2, u64::MAX)])).map(|s| s.members()), Ok(2));
    }

    #[test]
    fn membership_is_bounded_and_a_refusal_changes_nothing() {
        let mut clock = VectorClock::new(1, 2);
        let of = |entries: &[(u64, u64)]| VectorStamp { counts: entries.iter().copied().collect() };
        assert_eq!(clock.receive(&of(&[(2, 1), (3, 1)])), Err(VectorError::TooManyMembers { limit: 2 }));
        assert_eq!(clock.receive(&of(&[(1, u64::MAX)])), Err(VectorError::CountExhausted));
        assert_eq!(clock.tick(), Ok(of(&[(1, 1)])));
        assert_eq!(clock.receive(&of(&[(2, 7)])), Ok(of(&[(1, 2), (2, 7)])));
        assert_eq!(clock.receive(&of(&[(3, 1)])), Err(VectorError::TooManyMembers { limit: 2 }));
        assert_eq!(VectorClock::new(1, 0).tick(), Err(VectorError::TooManyMembers { limit: 0 }));
    }
}
