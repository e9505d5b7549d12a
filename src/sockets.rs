//! The agent's NTP sockets: opened when first used, watched for readiness, their stamps matched by cookie.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::mpsc::UnboundedSender;
use truebound_core::io::{SocketId, Transmit, TxToken};
use truebound_core::time::{RawTime, RealTime};
use truebound_hw::socket::{Batch, SentStamp, StampSocket};

use crate::watch::{Ready, Watch};

/// Transmissions of one socket whose stamp may still come; beyond it the oldest is given up.
const MAX_AWAITED: usize = 256;

/// A stamp that comes after those of so many later transmissions does not come.
const MAX_DISORDER: usize = 32;

/// A transmission whose stamp may still come.
struct Awaited {
    token: TxToken,
    cookie: [u8; 8],
    /// Where the cookie lies, counted from the end of the datagram.
    from_end: usize,
    user_before: RawTime,
}

/// A stamp that found back to its transmission.
pub(crate) struct Stamped {
    pub(crate) token: TxToken,
    pub(crate) user_before: RawTime,
    pub(crate) kernel: RealTime,
}

/// A socket of NTP, and what was sent through it.
pub(crate) struct Watched {
    watch: Watch<StampSocket>,
    /// Its own address, if there is one only.
    pub(crate) local: Option<IpAddr>,
    awaited: VecDeque<Awaited>,
}

impl Watched {
    fn new(id: SocketId, socket: StampSocket, ready: UnboundedSender<Ready>) -> io::Result<Self> {
        Ok(Watched::from(Watch::new(Ready::Ntp(id), socket, ready)?))
    }

    /// The same socket under another name. Stamps that are still to come are given up.
    fn under(&self, id: SocketId, ready: UnboundedSender<Ready>) -> Self {
        Watched::from(self.watch.under(Ready::Ntp(id), ready))
    }

    fn from(watch: Watch<StampSocket>) -> Self {
        let local = watch.get().local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
        Watched { watch, local, awaited: VecDeque::new() }
    }

    pub(crate) fn get(&self) -> &StampSocket {
        self.watch.get()
    }

    /// The agent looks now: what comes from now on is announced again.
    pub(crate) fn look(&self) {
        self.watch.look();
    }

    /// The agent stopped looking before the socket was empty, and nothing else would say so.
    pub(crate) fn look_again(&self) {
        self.watch.look_again();
    }

    /// Remembers a transmission, to find its stamps.
    pub(crate) fn await_stamps(&mut self, transmit: &Transmit, user_before: RawTime) {
        let bytes = transmit.data.as_slice();
        let Some(&cookie) = bytes.get(transmit.cookie_at..).and_then(|rest| rest.first_chunk()) else { return };
        if self.awaited.len() == MAX_AWAITED {
            self.awaited.pop_front();
        }
        let from_end = bytes.len() - transmit.cookie_at;
        self.awaited.push_back(Awaited { token: transmit.token, cookie, from_end, user_before });
    }

    /// The stamps that came, of those that are awaited: what else the queue holds is looked through with the next of
    /// them. The kernel gives the whole packet back; its tail is our datagram.
    pub(crate) fn stamps(&mut self, batch: &mut Batch) -> Vec<Stamped> {
        let mut found = Vec::new();
        let Watched { watch, awaited, .. } = self;
        while !awaited.is_empty() {
            match watch.get().some_stamps(batch, &mut |stamp| found.extend(matched(awaited, &stamp))) {
                Ok(1..) => {}
                // An error means no stamps: the core knows what that means.
                Ok(0) | Err(_) => break,
            }
        }
        found
    }
}

/// The transmission of a packet gets its stamp. Stamps come about in the order of the packets: one that is long overdue
/// is given up, or those that never come would be looked at for each that does.
fn matched(awaited: &mut VecDeque<Awaited>, stamp: &SentStamp<'_>) -> Option<Stamped> {
    let is_of = |wait: &Awaited| {
        let tail = stamp.packet.len().checked_sub(wait.from_end).and_then(|at| stamp.packet.get(at..));
        tail.is_some_and(|tail| tail.starts_with(&wait.cookie))
    };
    let kernel = stamp.kernel?;
    let index = awaited.iter().position(is_of)?;
    let wait = awaited.remove(index)?;
    awaited.drain(..index.saturating_sub(MAX_DISORDER));
    Some(Stamped { token: wait.token, user_before: wait.user_before, kernel })
}

/// All sockets.
pub(crate) struct Sockets {
    open: BTreeMap<SocketId, Watched>,
    /// Where the servers among them listen, by their index.
    listening: Vec<SocketAddr>,
    ready: UnboundedSender<Ready>,
}

impl Sockets {
    pub(crate) fn new(ready: UnboundedSender<Ready>) -> Self {
        Sockets { open: BTreeMap::new(), listening: Vec::new(), ready }
    }

    /// Lets the responder listen there and nowhere else. A socket that listens there already is kept; after an error
    /// all are as they were.
    pub(crate) fn listen(&mut self, addresses: &[SocketAddr]) -> Result<(), (SocketAddr, io::Error)> {
        let mut next = Vec::new();
        for (index, &address) in (0u16..).zip(addresses) {
            let id = SocketId::Server(index);
            let known = self.listening.iter().position(|&known| known == address).and_then(|at| u16::try_from(at).ok());
            let watched = match known.and_then(|at| self.open.get(&SocketId::Server(at))) {
                Some(old) => Ok(old.under(id, self.ready.clone())),
                None => StampSocket::server(address).and_then(|socket| Watched::new(id, socket, self.ready.clone())),
            };
            next.push((id, watched.map_err(|error| (address, error))?));
        }
        self.open.retain(|id, _| matches!(id, SocketId::Client(_)));
        self.open.extend(next);
        self.listening = addresses.to_vec();
        Ok(())
    }

    /// The socket for `id`; a client's is opened towards `to` when it is first used.
    pub(crate) fn get_or_open(&mut self, id: SocketId, to: SocketAddr) -> io::Result<&mut Watched> {
        use std::collections::btree_map::Entry;
        match self.open.entry(id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => match id {
                SocketId::Client(_) => {
                    Ok(entry.insert(Watched::new(id, StampSocket::client(to)?, self.ready.clone())?))
                }
                SocketId::Server(_) => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Watched> {
        self.open.get_mut(&id)
    }

    pub(crate) fn close(&mut self, id: SocketId) {
        self.open.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(n: u8) -> Awaited {
        let user_before = RawTime::from_ns(i64::from(n));
        Awaited { token: TxToken(u64::from(n)), cookie: [n; 8], from_end: 8, user_before }
    }

    fn stamp(packet: &[u8], kernel: Option<i64>) -> SentStamp<'_> {
        SentStamp { packet, kernel: kernel.map(RealTime::from_ns), hardware: None }
    }

    #[test]
    fn stamps_find_back_to_their_transmission_each_once() {
        let mut awaited: VecDeque<Awaited> = [wait(1), wait(2)].into();
        let (first, second) = ([[0xee; 42].as_slice(), &[1; 8]].concat(), [[0xee; 42].as_slice(), &[2; 8]].concat());
        let found = matched(&mut awaited, &stamp(&second, Some(5))).expect("it is awaited");
        assert_eq!((found.token, found.kernel), (TxToken(2), RealTime::from_ns(5)));
        assert!(matched(&mut awaited, &stamp(&second, Some(5))).is_none());
        assert!(matched(&mut awaited, &stamp(&first, None)).is_none(), "a stamp that says nothing");
        assert!(matched(&mut awaited, &stamp(&first, Some(7))).is_some());
        assert!(awaited.is_empty());
    }
}
