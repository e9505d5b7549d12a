//! UDP sockets whose datagrams the kernel stamps when they come and when they go.
//!
//! A receive stamp arrives beside its datagram. A transmit stamp comes back later, through the socket's error queue,
//! together with the packet it belongs to as it went to the device, link header first. The payload is that packet's
//! tail, so the sender finds its own cookie in it: matching does not depend on counting, on which the kernel, the
//! device and a lost packet may disagree.
//!
//! The kernel's stamps are CLOCK_REALTIME; those of a NIC, where it was asked for them, are what its own clock showed. The
//! two stamps of one transmission come back one by one. A missing one is data: the first datagrams after the kernel starts stamping lack it, as
//! do those that a device or a filter drops.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, TimestampingFlag, bind, connect, getsockname, setsockopt,
    socket, sockopt,
};
use truebound_core::time::{PhcTime, RealTime};

use crate::control::{self, Ancillary};
use crate::inbox::Inbox;
use crate::sys::{self, Message, Parcel};

/// A nonblocking UDP socket with kernel stamps. Readiness is the caller's business: readable for datagrams, error for
/// transmit stamps (and ICMP errors on a connected socket).
#[derive(Debug)]
pub struct StampSocket {
    fd: OwnedFd,
    is_ipv4: bool,
    /// The one local address of a server that listens there only: datagrams need not say where they come from or go to.
    bound: Option<IpAddr>,
    stamping: StampSupport,
    /// What is sent is stamped without being asked for.
    stamps_all: bool,
    inbox: Inbox,
    /// The kernel (or the world in its place) lacks sendmmsg(2).
    sends_one_by_one: AtomicBool,
}

/// Which stamps the kernel agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StampSupport {
    /// Of datagrams received.
    pub rx: bool,
    /// Of datagrams sent: of all of them on a client's socket, of those that ask for it on a server's.
    pub tx: bool,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its bytes.
    pub data: &'a [u8],
    /// To whom; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// Sets the source address.
    pub from: Option<IpAddr>,
    /// Asks for a transmit stamp, which costs about as much as the datagram itself. A client's socket stamps them all.
    pub wants_stamp: bool,
}

impl<'a> Outgoing<'a> {
    /// For the peer of a connected socket.
    #[must_use]
    pub fn to_peer(data: &'a [u8]) -> Self {
        Outgoing { data, to: None, from: None, wants_stamp: false }
    }
}

/// A datagram as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// The local address it was sent to, on a server's socket that listens at several.
    pub to: Option<IpAddr>,
    /// Its bytes, as many as fit.
    pub data: &'a [u8],
    /// The kernel's receive stamp, if there is one.
    pub kernel: Option<RealTime>,
    /// The NIC's receive stamp, if there is one.
    pub hardware: Option<PhcTime>,
    /// It was longer than the buffer.
    pub truncated: bool,
}

/// A transmit stamp and the packet it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct SentStamp<'a> {
    /// The packet with its headers; the UDP payload is its tail.
    pub packet: &'a [u8],
    /// When the packet was handed to the device.
    pub kernel: Option<RealTime>,
    /// When the NIC sent it, by its clock. It comes in an entry of its own.
    pub hardware: Option<PhcTime>,
}

impl StampSocket {
    /// A socket on an ephemeral port, connected to `peer`: it receives from there only, and ICMP errors show as
    /// [`io::ErrorKind::ConnectionRefused`] and its like.
    pub fn client(peer: SocketAddr) -> io::Result<StampSocket> {
        let socket = StampSocket::open(peer, true)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(peer))?;
        Ok(socket)
    }

    /// The same, which stamps of what is sent only what asks for it.
    pub fn unstamped_client(peer: SocketAddr) -> io::Result<StampSocket> {
        let socket = StampSocket::open(peer, false)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(peer))?;
        Ok(socket)
    }

    /// A socket bound to `listen` alone: an address in use is an error, and IPv6 does not serve IPv4 as well. Of what is
    /// sent it stamps what asks for it.
    pub fn server(listen: SocketAddr) -> io::Result<StampSocket> {
        let mut socket = StampSocket::open(listen, false)?;
        if listen.is_ipv6() {
            setsockopt(&socket.fd, sockopt::Ipv6V6Only, &true)?;
        }
        match listen.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => setsockopt(&socket.fd, sockopt::Ipv4PacketInfo, &true)?,
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => setsockopt(&socket.fd, sockopt::Ipv6RecvPacketInfo, &true)?,
            only => socket.bound = Some(only),
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(listen))?;
        Ok(socket)
    }

    /// A socket of the family of `address`, stamping before the first packet can arrive: all that is sent, or what asks.
    fn open(address: SocketAddr, stamps_all: bool) -> io::Result<StampSocket> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
        let stamping = enable_stamps(&fd, false).0;
        if stamping.tx && !stamps_all {
            // What the kernel agreed to for all datagrams it does for single ones.
            setsockopt(&fd, sockopt::Timestamping, &(RX_STAMPS | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID))?;
        }
        Ok(StampSocket {
            fd,
            is_ipv4: address.is_ipv4(),
            bound: None,
            stamping,
            stamps_all,
            inbox: Inbox::default(),
            sends_one_by_one: AtomicBool::new(false),
        })
    }

    /// Its own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let name: SockaddrStorage = getsockname(self.as_raw_fd())?;
        if let Some(v4) = name.as_sockaddr_in() {
            Ok(SocketAddrV4::from(*v4).into())
        } else if let Some(v6) = name.as_sockaddr_in6() {
            Ok(SocketAddrV6::from(*v6).into())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Which stamps the kernel agreed to.
    #[must_use]
    pub fn stamping(&self) -> StampSupport {
        self.stamping
    }

    /// Entries of the error queue so far that were no transmit stamp: ICMP errors, other stages, cut packets.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.inbox.skipped()
    }

    /// Sends one datagram without waiting.
    ///
    /// On a connected socket this may return the error of an *earlier* datagram; then nothing was sent.
    pub fn send(&self, datagram: &Outgoing<'_>) -> io::Result<()> {
        sys::send_one(self.as_fd(), &self.parcel(datagram)?)
    }

    /// Sends several in their order without waiting. Gives the places of those that left; what does not leave keeps no
    /// other back.
    pub fn send_many(&self, datagrams: &[Outgoing<'_>]) -> Vec<usize> {
        let (mut next, mut left) = (0, Vec::with_capacity(datagrams.len()));
        while let Some(first) = datagrams.get(next) {
            let together = self.send_some(&datagrams[next..]);
            left.extend(next..next + together);
            next += together;
            if together == 0 {
                left.extend(self.send(first).is_ok().then_some(next));
                next += 1;
            }
        }
        left
    }

    /// How many of the first `datagrams` went together; 0: the first one has to go alone.
    fn send_some(&self, datagrams: &[Outgoing<'_>]) -> usize {
        if datagrams.len() == 1 || self.sends_one_by_one.load(Ordering::Relaxed) {
            return 0;
        }
        let parcels: Vec<Parcel<'_>> =
            datagrams.iter().take(sys::MAX_SENT).map_while(|datagram| self.parcel(datagram).ok()).collect();
        match sys::send_many(self.as_fd(), &parcels) {
            Ok(sent) => sent,
            Err(error) => {
                if is_unknown_call(&error) {
                    self.sends_one_by_one.store(true, Ordering::Relaxed);
                }
                0
            }
        }
    }

    fn parcel<'a>(&self, datagram: &Outgoing<'a>) -> io::Result<Parcel<'a>> {
        let mut control = Ancillary::EMPTY;
        if let Some(source) = datagram.from.filter(|source| self.bound != Some(*source)) {
            // The kernel would ignore a source of the other family and choose one itself.
            if source.is_ipv4() != self.is_ipv4 {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            control = control.sourced_at(source);
        }
        if datagram.wants_stamp && self.stamping.tx && !self.stamps_all {
            control = control.stamped();
        }
        Ok(Parcel { data: datagram.data, to: datagram.to.map(SockaddrStorage::from), control })
    }

    /// Receives what is there, up to the batch's capacity, and returns how many; [`io::ErrorKind::WouldBlock`] if
    /// nothing is. Fewer than the capacity does not mean that no more is there. After an error the batch is empty.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        self.inbox.receive(self.as_fd(), batch)
    }

    /// Drains the error queue through `batch`, shows each transmit stamp to `visit` and returns how many there were.
    /// Everything else on the queue is counted in [`StampSocket::skipped`].
    ///
    /// A datagram of more than about 950 bytes does not fit with its headers, so its stamp is skipped.
    pub fn sent_stamps(&self, batch: &mut Batch, visit: &mut dyn FnMut(SentStamp<'_>)) -> io::Result<usize> {
        self.inbox.all_stamps(self.as_fd(), batch, visit)
    }

    /// The same for one batch. Gives how many entries the queue held, up to the batch's capacity: 0 if it was empty.
    pub fn some_stamps(&self, batch: &mut Batch, visit: &mut dyn FnMut(SentStamp<'_>)) -> io::Result<usize> {
        self.inbox.some_stamps(self.as_fd(), batch, visit)
    }
}

impl AsFd for StampSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for StampSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The kernel lacks a call; or the world in its place lends sockets that only it knows, and does not know that call.
fn is_unknown_call(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EBADF | libc::ENOTSOCK))
}

/// Stamps of what is received, and the kernel's stamps to be told at all.
const RX_STAMPS: TimestampingFlag =
    TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE.union(TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE);

/// Asks for software stamps both ways, or for those on receipt, or does without; with `hardware` for the NIC's as well,
/// and tells whether the kernel agreed. No OPT_TSONLY: the packet must come back with its stamp, for its cookie.
pub(crate) fn enable_stamps(fd: &OwnedFd, hardware: bool) -> (StampSupport, bool) {
    const NIC: u32 = libc::SOF_TIMESTAMPING_RX_HARDWARE
        | libc::SOF_TIMESTAMPING_TX_HARDWARE
        | libc::SOF_TIMESTAMPING_RAW_HARDWARE
        | libc::SOF_TIMESTAMPING_OPT_TX_SWHW; // or the kernel would leave its own out
    let rx = RX_STAMPS;
    let tx = TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID;
    let accepts = |flags| setsockopt(fd, sockopt::Timestamping, &flags).is_ok();
    let both = StampSupport { rx: true, tx: true };
    if hardware && accepts(rx | tx | TimestampingFlag::from_bits_retain(NIC)) {
        (both, true)
    } else if accepts(rx | tx) {
        (both, false)
    } else {
        (StampSupport { rx: accepts(rx), tx: false }, false)
    }
}

/// Buffers for several datagrams, allocated once.
pub struct Batch {
    messages: Vec<Message>,
    filled: usize,
}

impl Batch {
    /// Room for `capacity` datagrams of up to 1024 bytes, at least for one and at most for 64.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Batch { messages: vec![Message::new(); capacity.clamp(1, sys::MAX_BATCH)], filled: 0 }
    }

    /// How many datagrams fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.messages.len()
    }

    /// Lets `receive` fill the first of the buffers; it gives how many. After an error the batch is empty.
    pub(crate) fn fill(&mut self, receive: impl FnOnce(&mut [Message]) -> io::Result<usize>) -> io::Result<usize> {
        self.filled = 0;
        self.filled = receive(&mut self.messages)?;
        Ok(self.filled)
    }

    /// What the last receipt brought.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages[..self.filled]
    }

    /// The datagrams of the last [`StampSocket::receive`], in order.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.messages().iter().filter_map(|message| {
            Some(Datagram {
                from: control::socket_address(message.name())?, // a UDP socket always knows it
                to: control::destination(message.control()),
                data: message.data(),
                kernel: control::software_stamp(message.control()),
                hardware: control::hardware_stamp(message.control()),
                truncated: message.is_truncated(),
            })
        })
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} of {})", self.filled, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn without_recvmmsg_datagrams_come_one_by_one() {
        let server = StampSocket::server((Ipv4Addr::LOCALHOST, 0).into()).expect("a server socket");
        let client = StampSocket::client(server.local_addr().expect("bound")).expect("a client socket");
        server.inbox.one_by_one.store(true, Ordering::Relaxed); // as after ENOSYS
        let mut batch = Batch::new(3);
        let error = server.receive(&mut batch).expect_err("nothing there");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut seen = Vec::new();
        for n in 0..5 {
            client.send(&Outgoing::to_peer(&[n])).expect("send");
        }
        while seen.len() < 5 {
            let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(2_000_u16)), Ok(1));
            assert!(server.receive(&mut batch).expect("receive") <= 3);
            seen.extend(batch.datagrams().map(|datagram| datagram.data[0]));
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn without_sendmmsg_datagrams_leave_one_by_one() {
        let server = StampSocket::server((Ipv4Addr::LOCALHOST, 0).into()).expect("a server socket");
        let client = StampSocket::client(server.local_addr().expect("bound")).expect("a client socket");
        client.sends_one_by_one.store(true, Ordering::Relaxed); // as after ENOSYS
        let payloads: Vec<[u8; 1]> = (0..40).map(|n| [n]).collect();
        let datagrams: Vec<Outgoing<'_>> = payloads.iter().map(|payload| Outgoing::to_peer(payload)).collect();
        assert_eq!(client.send_many(&datagrams), (0..40).collect::<Vec<usize>>());
        let mut batch = Batch::new(64);
        let mut seen = Vec::new();
        while seen.len() < 40 {
            let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(2_000_u16)), Ok(1));
            server.receive(&mut batch).expect("receive");
            seen.extend(batch.datagrams().map(|datagram| datagram.data[0]));
        }
        assert_eq!(seen, (0..40).collect::<Vec<u8>>());
    }

    #[test]
    fn only_a_call_that_nobody_knows_is_given_up() {
        for (code, is_unknown) in [
            (libc::ENOSYS, true),
            (libc::EBADF, true),
            (libc::ENOTSOCK, true),
            (libc::EAGAIN, false),
            (libc::EPERM, false),
        ] {
            assert_eq!(is_unknown_call(&io::Error::from_raw_os_error(code)), is_unknown, "{code}");
        }
    }
}
