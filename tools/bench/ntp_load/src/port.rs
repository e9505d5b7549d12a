//! A source port and the clients behind it, who send and receive in batches.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::time::{ClockId, clock_gettime};
use truebound_core::time::{NS_PER_S, RealTime};
use truebound_core::wire::ntp::{self, HEADER_BYTES, Mode};
use truebound_hw::socket::{Batch, Outgoing, StampSocket};

use crate::client::{Client, LANE_BITS};
use crate::tally::Tally;

/// Answers received and requests sent at once.
const BATCH: usize = 16;

/// How the clients ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// They name the last answer's receive stamp.
    pub(crate) interleaved: bool,
    /// They do not wait for answers.
    pub(crate) flood: bool,
}

/// See the module's page.
pub(crate) struct Port {
    socket: StampSocket,
    habit: Habit,
    clients: Vec<Client>,
    /// Whose turn it is to ask.
    next: usize,
    answers: Batch,
}

impl Port {
    pub(crate) fn open(server: SocketAddr, number: usize, lanes: usize, habit: Habit) -> io::Result<Port> {
        let client = |lane| Client::new(lane, (number << 8 | lane) as u64, habit.interleaved);
        Ok(Port {
            socket: StampSocket::unstamped_client(server)?,
            habit,
            clients: (0..lanes).map(client).collect(),
            next: 0,
            answers: Batch::new(BATCH),
        })
    }

    /// Takes the answers that are there, then asks what there is to ask. True if there was anything to do.
    pub(crate) fn turn(&mut self, tally: &mut Tally) -> bool {
        let received = self.receive(tally);
        let sent = self.send(tally);
        received + sent > 0
    }

    fn receive(&mut self, tally: &mut Tally) -> usize {
        // An error is that of a datagram sent: what it is does not matter to a client that counts answers.
        let received = self.socket.receive(&mut self.answers).unwrap_or(0);
        let now = real_now();
        for datagram in self.answers.datagrams() {
            let parsed = ntp::parse(datagram.data).ok().filter(|(packet, _)| packet.mode == Mode::Server);
            let client = parsed.and_then(|(packet, _)| {
                let lane = usize::try_from(packet.origin.0 & LANE_BITS).ok()?;
                Some((self.clients.get_mut(lane)?, packet))
            });
            match client {
                Some((client, packet)) => tally.add(client.answered(now, &packet), &packet),
                None => tally.malformed += 1,
            }
        }
        received
    }

    /// Up to a batch of requests, in turn.
    fn send(&mut self, tally: &mut Tally) -> usize {
        let now = real_now();
        let mut requests = [[0; HEADER_BYTES]; BATCH];
        let (mut count, lanes) = (0, self.clients.len());
        for _ in 0..lanes {
            let Some(request) = requests.get_mut(count) else { break };
            let client = &mut self.clients[self.next];
            self.next = if self.next + 1 < lanes { self.next + 1 } else { 0 };
            if !self.habit.flood && client.is_waiting(now) {
                continue;
            }
            tally.lost += u64::from(client.request(now, request));
            count += 1;
        }
        let outgoing: Vec<Outgoing<'_>> = requests[..count].iter().map(|data| Outgoing::to_peer(data)).collect();
        // What does not leave is lost.
        tally.requests += self.socket.send_many(&outgoing).len() as u64;
        count
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// CLOCK_REALTIME: the truth.
pub(crate) fn real_now() -> RealTime {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(RealTime::from_ns(0), |now| {
        RealTime::from_ns(now.tv_sec().saturating_mul(NS_PER_S).saturating_add(now.tv_nsec()))
    })
}
