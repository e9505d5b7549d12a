//! What a port counts: every message that was not used is named somewhere here.

use super::gate::Gated;
use crate::wire::ptp::MessageType;

/// Counts of one port since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Messages that passed the gate, by messageType ([`MessageType::NAMES`]).
    pub(crate) received: [u64; 16],
    /// Messages that did not, by reason ([`Gated::NAMES`]).
    pub(crate) gated: [u64; Gated::COUNT],
    /// Event messages, ours or received, that have no stamp.
    pub(crate) unstamped: u64,
    /// Follow_Ups without their Sync, Syncs without their Follow_Up, responses that nobody asked for or too late.
    pub(crate) unmatched: u64,
    /// Messages that were there before: duplicates, replays, Syncs older than the last one used.
    pub(crate) repeated: u64,
    /// Messages of masters that are not the parent, answers to others.
    pub(crate) foreign: u64,
    /// Peer delay requests that more than one port answered.
    pub(crate) many_responders: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages of a master that were not sent, for we have no bound or may be a slave only.
    pub(crate) silenced: u64,
}

impl Counters {
    pub(crate) fn count_received(&mut self, kind: MessageType) {
        self.received[kind as usize] += 1;
    }

    pub(crate) fn count_gated(&mut self, reason: Gated) {
        self.gated[reason as usize] += 1;
    }
}
