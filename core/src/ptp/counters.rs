//! What a port counts: every message that was not used is named somewhere here.

use super::gate::Gated;
use crate::wire::ptp::MessageType;

/// Counts of one port since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that passed the gate, by messageType ([`Counters::RECEIVED_NAMES`]).
    pub received: [u64; 16],
    /// Messages that did not, by reason ([`Gated::NAMES`]).
    pub gated: [u64; Gated::COUNT],
    /// Event messages, ours or received, that have no stamp.
    pub unstamped: u64,
    /// Follow_Ups without their Sync, Syncs without their Follow_Up, responses that nobody asked for or too late.
    pub unmatched: u64,
    /// Messages that were there before: duplicates, replays, Syncs older than the last one used.
    pub repeated: u64,
    /// Messages of masters that are not the parent, answers to others.
    pub foreign: u64,
    /// Peer delay requests that more than one port answered.
    pub many_responders: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages of a master that were not sent, for we have no bound or may be a slave only.
    pub silenced: u64,
}

impl Counters {
    /// The names of the messageTypes, in order of their numbers; unused numbers are `reserved-N`.
    pub const RECEIVED_NAMES: [&'static str; 16] = MessageType::NAMES;

    pub(crate) fn count_received(&mut self, kind: MessageType) {
        self.received[kind as usize] += 1;
    }

    pub(crate) fn count_gated(&mut self, reason: Gated) {
        self.gated[reason as usize] += 1;
    }
}
