//! What will happen, in order of (true time, sequence). Entries are small; what they carry lies in slots beside the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use truebound_core::time::RealTime;

use super::action::{Action, Change};
use super::flight::Flight;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The process wakes for its deadline, unless a newer one was set.
    Wake { host: u32, generation: u32 },
    /// A datagram reaches the kernel.
    Arrive { host: u32, packet: u32 },
    /// The process receives it.
    Deliver { host: u32, packet: u32 },
    /// A name was looked up.
    Resolved { slot: u32 },
    /// Something befalls a host.
    Act { slot: u32 },
    /// Something befalls a path.
    Change { slot: u32 },
}

/// A datagram and its receive stamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) flight: Flight,
    pub(super) kernel: Option<RealTime>,
}

/// See the module's page.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(i64, u64, What)>>,
    sequence: u64,
    packets: Vec<Packet>,
    free: Vec<u32>,
    lookups: Vec<(usize, u32, Vec<SocketAddr>)>,
    actions: Vec<(usize, Action)>,
    changes: Vec<(usize, usize, Change)>,
}

impl Queue {
    pub(super) fn push(&mut self, at: i64, what: What) {
        self.heap.push(Reverse((at, self.sequence, what)));
        self.sequence += 1;
    }

    /// The next thing that happens not after `end`.
    pub(super) fn pop_until(&mut self, end: i64) -> Option<(i64, What)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > end {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, what))| (at, what))
    }

    pub(super) fn arrive(&mut self, at: i64, host: usize, flight: Flight) {
        let packet = Packet { flight, kernel: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.packets[slot as usize] = packet;
                slot
            }
            None => {
                self.packets.push(packet);
                self.packets.len() as u32 - 1
            }
        };
        self.push(at, What::Arrive { host: host as u32, packet: slot });
    }

    pub(super) fn packet(&mut self, slot: u32) -> &mut Packet {
        &mut self.packets[slot as usize]
    }

    /// The packet, which is over with this.
    pub(super) fn take(&mut self, slot: u32) -> Packet {
        self.free.push(slot);
        self.packets[slot as usize]
    }

    pub(super) fn resolve(&mut self, at: i64, host: usize, source: u32, addresses: Vec<SocketAddr>) {
        self.lookups.push((host, source, addresses));
        let slot = self.lookups.len() as u32 - 1;
        self.push(at, What::Resolved { slot });
    }

    pub(super) fn resolved(&mut self, slot: u32) -> (usize, u32, Vec<SocketAddr>) {
        let (host, source, addresses) = &mut self.lookups[slot as usize];
        (*host, *source, std::mem::take(addresses))
    }

    pub(super) fn act(&mut self, at: i64, host: usize, action: Action) {
        self.actions.push((host, action));
        let slot = self.actions.len() as u32 - 1;
        self.push(at, What::Act { slot });
    }

    pub(super) fn actor(&self, slot: u32) -> usize {
        self.actions[slot as usize].0
    }

    pub(super) fn action(&self, slot: u32) -> Action {
        self.actions[slot as usize].1.clone()
    }

    pub(super) fn change(&mut self, at: i64, from: usize, to: usize, change: Change) {
        self.changes.push((from, to, change));
        let slot = self.changes.len() as u32 - 1;
        self.push(at, What::Change { slot });
    }

    pub(super) fn changed(&self, slot: u32) -> (usize, usize, Change) {
        self.changes[slot as usize].clone()
    }
}
