//! Lamport's logical clock: one number that grows along every chain of messages.
//!
//! Source: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", CACM 21(7), 1978, rules IR1
//! and IR2. **Guarantee:** e → f implies `stamp(e) < stamp(f)`; stamps of different nodes are never equal, so they are
//! one total order. A node that restarts without its count takes a new number. **Not** the reverse: a lower stamp may belong to a later event.
//!
//! Whoever may send here can push the clock as far as it likes: it knows no truth to measure a stamp against.
//! [`super::hlc`] does.
#![forbid(unsafe_code)]

use std::fmt;

use super::ParseError;

/// A Lamport timestamp; ties between nodes go by the node's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LamportStamp {
    /// Counts events along the longest chain that led here; from 1.
    pub count: u64,
    /// Who made it.
    pub node: u64,
}

impl LamportStamp {
    /// Length of [`LamportStamp::to_bytes`].
    pub const BYTES: usize = 16;

    /// `count`, then `node`, both little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        (u128::from(self.count) | u128::from(self.node) << 64).to_le_bytes()
    }

    /// From exactly [`LamportStamp::BYTES`] bytes.
    ///
    /// # Errors
    /// [`ParseError::Length`]; [`ParseError::NotCanonical`] for a count of 0, which no event has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let wrong_length = ParseError::Length { found: bytes.len(), expected: Self::BYTES };
        let (count, node) = bytes.split_first_chunk().ok_or(wrong_length)?;
        let node = node.try_into().map_err(|_| wrong_length)?;
        let stamp = LamportStamp { count: u64::from_le_bytes(*count), node: u64::from_le_bytes(node) };
        if stamp.count == 0 { Err(ParseError::NotCanonical) } else { Ok(stamp) }
    }
}

/// The count has reached its end: only a forged stamp gets there. Start anew under another node number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountExhausted;

impl fmt::Display for CountExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the logical count is at its end, so a peer's stamp is forged: drop it, and find the peer")
    }
}

impl std::error::Error for CountExhausted {}

/// The clock of one node.
#[derive(Clone, Debug)]
pub struct LamportClock {
    last: LamportStamp,
}

impl LamportClock {
    /// Before its first event. No two nodes may have one number.
    #[must_use]
    pub const fn new(node: u64) -> Self {
        LamportClock { last: LamportStamp { count: 0, node } }
    }

    /// The next event of this node that receives nothing: a local one, or the sending of a message that carries the
    /// stamp (IR1).
    ///
    /// # Errors
    /// [`CountExhausted`] at 2⁶⁴ events.
    pub fn tick(&mut self) -> Result<LamportStamp, CountExhausted> {
        self.last.count = self.last.count.checked_add(1).ok_or(CountExhausted)?;
        Ok(self.last)
    }

    /// The event of receiving a message that carries `remote` (IR2).
    ///
    /// # Errors
    /// [`CountExhausted`]: `remote` leaves no stamp after it. The clock is as before.
    pub fn receive(&mut self, remote: LamportStamp) -> Result<LamportStamp, CountExhausted> {
        self.last.count = self.last.count.max(remote.count).checked_add(1).ok_or(CountExhausted)?;
        Ok(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_count_at_its_end_is_refused_and_changes_nothing() {
        let mut clock = LamportClock::new(1);
        assert_eq!(clock.receive(LamportStamp { count: u64::MAX, node: 2 }), Err(CountExhausted));
        assert_eq!(clock.tick().map(|s| s.count), Ok(1));
        assert_eq!(clock.receive(LamportStamp { count: u64::MAX - 1, node: 2 }).map(|s| s.count), Ok(u64::MAX));
        assert_eq!(clock.tick(), Err(CountExhausted));
    }

    proptest! {
        #[test]
        fn stamps_survive_their_bytes(count in 1u64.., node: u64) {
            let stamp = LamportStamp { count, node };
            prop_assert_eq!(LamportStamp::from_bytes(&stamp.to_bytes()), Ok(stamp));
        }

        #[test]
        fn any_bytes_are_a_stamp_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            match LamportStamp::from_bytes(&bytes) {
                Ok(stamp) => prop_assert_eq!(stamp.to_bytes().to_vec(), bytes),
                Err(error) => prop_assert!(bytes.len() != 16 || error == ParseError::NotCanonical),
            }
        }
    }
}
