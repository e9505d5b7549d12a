//! Sockets for PTP messages on one interface, by multicast: UDP over IPv4 or IPv6, or Ethernet frames.
//!
//! Messages are stamped by the kernel, and by the NIC where it was made to ([`crate::hwtstamp`]). A transmit stamp comes
//! back through the error queue with the packet as it left, link header first, and on some devices padded: the message's
//! own header is found in it ([`carries`]). The two stamps of one message come back one by one.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};
use truebound_core::io::PtpChannel;
use truebound_core::settings::PtpTransport;
use truebound_core::time::{PhcTime, RealTime};

use crate::control::{self, Ancillary};
use crate::inbox::Inbox;
use crate::nic::Interface;
use crate::socket::{Batch, SentStamp, StampSupport, enable_stamps};
use crate::sys::{self, device};

/// EtherType of PTP.
const ETHERTYPE: u16 = 0x88f7;
/// To everybody, and to the peers on the link (IEEE 1588-2019 Annexes C, D and E).
const IPV4_GROUPS: [Ipv4Addr; 2] = [Ipv4Addr::new(224, 0, 1, 129), Ipv4Addr::new(224, 0, 0, 107)];
const IPV6_GROUPS: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x181), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6b)];
const ETHERNET_GROUPS: [[u8; 6]; 2] = [[0x01, 0x1b, 0x19, 0, 0, 0], [0x01, 0x80, 0xc2, 0, 0, 0x0e]];
/// PACKET_MR_MULTICAST as the kernel's structure has it.
const MULTICAST: libc::c_ushort = 0;
const _: () = assert!(MULTICAST as libc::c_int == libc::PACKET_MR_MULTICAST);
/// Over IPv6 a message has two bytes more, with which a transparent clock corrects the checksum (Annex D).
const IPV6_TRAILER: usize = 2;
/// Bytes of a PTP header: they tell one message from the next.
const HEADER_BYTES: usize = 34;
/// Message types from this on are general.
const FIRST_GENERAL_TYPE: u8 = 8;
/// Longer messages are not sent.
const MAX_MESSAGE: usize = 512;

/// A nonblocking PTP socket with stamps. Readiness is the caller's business, as with [`crate::socket::StampSocket`].
#[derive(Debug)]
pub struct PtpSocket {
    fd: OwnedFd,
    transport: PtpTransport,
    channel: PtpChannel,
    /// To everybody, and to the peers on the link.
    groups: [SockaddrStorage; 2],
    stamping: StampSupport,
    has_hardware: bool,
    inbox: Inbox,
}

/// A PTP message as it was received.
#[derive(Clone, Copy, Debug)]
pub struct PtpMessage<'a> {
    /// From the PTP header on, with whatever padding there was.
    pub data: &'a [u8],
    /// Through which socket; over Ethernet by its message type.
    pub channel: PtpChannel,
    /// The kernel's receive stamp, if there is one.
    pub kernel: Option<RealTime>,
    /// The NIC's receive stamp, if there is one.
    pub hardware: Option<PhcTime>,
}

impl PtpSocket {
    /// A socket on `interface` for the messages of `channel`, of which those for events are stamped; with `hardware` by the
    /// NIC too. Over Ethernet everything comes in through the socket for events, and the other one only sends: a general
    /// message must not take the one stamp that some NICs hold.
    pub fn open(
        interface: &Interface,
        transport: PtpTransport,
        channel: PtpChannel,
        hardware: bool,
    ) -> io::Result<PtpSocket> {
        let index = interface.index()?;
        let (family, kind) = match transport {
            PtpTransport::Udp4 => (AddressFamily::Inet, SockType::Datagram),
            PtpTransport::Udp6 => (AddressFamily::Inet6, SockType::Datagram),
            PtpTransport::Ethernet => (AddressFamily::Packet, SockType::Datagram),
        };
        // A packet socket of protocol 0 receives nothing before it is bound.
        let fd = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
        let (stamping, has_hardware) = match channel {
            PtpChannel::Event => enable_stamps(&fd, hardware),
            PtpChannel::General => (StampSupport::default(), false),
        };
        let groups = match transport {
            PtpTransport::Udp4 => join_ipv4(&fd, interface, index, port(channel))?,
            PtpTransport::Udp6 => join_ipv6(&fd, interface, index, port(channel))?,
            PtpTransport::Ethernet => join_ethernet(&fd, index, channel)?,
        };
        Ok(PtpSocket { fd, transport, channel, groups, stamping, has_hardware, inbox: Inbox::default() })
    }

    /// Which of the kernel's stamps it agreed to.
    #[must_use]
    pub fn stamping(&self) -> StampSupport {
        self.stamping
    }

    /// The kernel agreed to tell the NIC's stamps.
    #[must_use]
    pub fn has_hardware(&self) -> bool {
        self.has_hardware
    }

    /// Entries of the error queue so far that were no transmit stamp.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.inbox.skipped()
    }

    /// Sends a message to the peers on the link or to everybody, without waiting.
    pub fn send(&self, message: &[u8], is_link_local: bool) -> io::Result<()> {
        let mut padded = [0; MAX_MESSAGE + IPV6_TRAILER];
        let trailer = if self.transport == PtpTransport::Udp6 { IPV6_TRAILER } else { 0 };
        if message.len() > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        padded[..message.len()].copy_from_slice(message);
        let [everybody, peers] = &self.groups;
        let to = if is_link_local { peers } else { everybody };
        let data = &padded[..message.len() + trailer];
        sys::send_one(self.as_fd(), &sys::Parcel { data, to: Some(*to), control: Ancillary::EMPTY })
    }

    /// Receives what is there; see [`crate::socket::StampSocket::receive`]. [`PtpSocket::messages`] shows it.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        self.inbox.receive(self.as_fd(), batch)
    }

    /// The messages that the last receipt brought, in order: whole ones, and none that this host sent itself.
    pub fn messages<'a>(&self, batch: &'a Batch) -> impl Iterator<Item = PtpMessage<'a>> + use<'a> {
        let (is_ethernet, channel) = (self.transport == PtpTransport::Ethernet, self.channel);
        let is_foreign = move |message: &&sys::Message| !(is_ethernet && control::is_outgoing(message.name()));
        batch.messages().iter().filter(|message| !message.is_truncated()).filter(is_foreign).map(move |message| {
            PtpMessage {
                data: message.data(),
                channel: if is_ethernet { channel_of(message.data()) } else { channel },
                kernel: control::software_stamp(message.control()),
                hardware: control::hardware_stamp(message.control()),
            }
        })
    }

    /// Drains the error queue; see [`crate::socket::StampSocket::sent_stamps`].
    pub fn sent_stamps(&self, visit: &mut dyn FnMut(SentStamp<'_>)) -> io::Result<usize> {
        self.inbox.all_stamps(self.as_fd(), &mut Batch::new(1), visit)
    }
}

impl AsFd for PtpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PtpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A packet that came back with its stamp is that of `message`.
#[must_use]
pub fn carries(packet: &[u8], message: &[u8]) -> bool {
    message
        .first_chunk::<HEADER_BYTES>()
        .is_some_and(|header| packet.windows(HEADER_BYTES).any(|window| window == header))
}

/// The messages that are stamped are those of the lower types.
#[must_use]
pub fn channel_of(message: &[u8]) -> PtpChannel {
    match message.first().map(|byte| byte & 0x0f) {
        Some(0..FIRST_GENERAL_TYPE) => PtpChannel::Event,
        _ => PtpChannel::General,
    }
}

fn port(channel: PtpChannel) -> u16 {
    match channel {
        PtpChannel::Event => 319,
        PtpChannel::General => 320,
    }
}

/// Several ports of ours, or other daemons on other interfaces, share 319 and 320. Binding to the device keeps what
/// comes elsewhere away; where it is not permitted, multicast comes from the joined interface all the same.
fn share_port(fd: &OwnedFd, interface: &Interface) -> io::Result<()> {
    setsockopt(fd, sockopt::ReuseAddr, &true)?;
    let _ = setsockopt(fd, sockopt::BindToDevice, &interface.name().into());
    Ok(())
}

/// Joins both groups on the interface, sends to them by it, one hop, not to this host itself.
fn join_ipv4(fd: &OwnedFd, interface: &Interface, index: i32, port: u16) -> io::Result<[SockaddrStorage; 2]> {
    let option = |name, value: libc::c_int| device::set_option(fd.as_fd(), libc::IPPROTO_IP, name, &value);
    let any = libc::in_addr { s_addr: 0 };
    let request = |group: Ipv4Addr| libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes(group.octets()) },
        imr_address: any,
        imr_ifindex: index,
    };
    share_port(fd, interface)?;
    option(libc::IP_MULTICAST_ALL, 0)?;
    option(libc::IP_MULTICAST_LOOP, 0)?;
    option(libc::IP_MULTICAST_TTL, 1)?;
    device::set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request(Ipv4Addr::UNSPECIFIED))?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
    for group in IPV4_GROUPS {
        device::set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request(group))?;
    }
    Ok(IPV4_GROUPS.map(|group| SockaddrStorage::from(SocketAddr::from((group, port)))))
}

/// The same for IPv6.
fn join_ipv6(fd: &OwnedFd, interface: &Interface, index: i32, port: u16) -> io::Result<[SockaddrStorage; 2]> {
    let option = |name, value: libc::c_int| device::set_option(fd.as_fd(), libc::IPPROTO_IPV6, name, &value);
    let scope = u32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    share_port(fd, interface)?;
    setsockopt(fd, sockopt::Ipv6V6Only, &true)?;
    // Linux 4.20; before, every group that anybody joined comes in, which binding to the device mends.
    let _ = option(libc::IPV6_MULTICAST_ALL, 0);
    option(libc::IPV6_MULTICAST_LOOP, 0)?;
    option(libc::IPV6_MULTICAST_HOPS, 1)?;
    option(libc::IPV6_MULTICAST_IF, index)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))?;
    for group in IPV6_GROUPS {
        let request =
            libc::ipv6_mreq { ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() }, ipv6mr_interface: scope };
        device::set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request)?;
    }
    Ok(IPV6_GROUPS.map(|group| SockaddrStorage::from(SocketAddr::from(SocketAddrV6::new(group, port, 0, scope)))))
}

/// Frames of PTP's EtherType to both groups; the kernel makes the link header.
fn join_ethernet(fd: &OwnedFd, index: i32, channel: PtpChannel) -> io::Result<[SockaddrStorage; 2]> {
    let address = |mac| device::link_address(index, ETHERTYPE, mac).ok_or(io::ErrorKind::InvalidInput);
    let [everybody, peers] = ETHERNET_GROUPS.map(address);
    let groups = [everybody?, peers?];
    if channel == PtpChannel::General {
        return Ok(groups);
    }
    for group in ETHERNET_GROUPS {
        let mut mr_address = [0; 8];
        mr_address[..6].copy_from_slice(&group);
        let request = libc::packet_mreq { mr_ifindex: index, mr_type: MULTICAST, mr_alen: 6, mr_address };
        device::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)?;
    }
    bind(fd.as_raw_fd(), &address([0; 6])?)?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_wherever_it_lies_in_its_packet() {
        let message: Vec<u8> = (0..44).collect();
        for headers in [0, 14, 42, 62] {
            let packet = [vec![0xee; headers], message.clone(), vec![0; 2]].concat();
            assert!(carries(&packet, &message), "{headers}");
            assert!(!carries(&packet[..headers + HEADER_BYTES - 1], &message), "cut");
        }
        let mut other = message.clone();
        other[31] ^= 1; // sequenceId
        assert!(!carries(&message, &other));
        assert!(!carries(&message, &message[..33]), "no header");
    }

    #[test]
    fn the_message_type_tells_the_channel() {
        for (first, channel) in [
            (0x00, PtpChannel::Event),
            (0x13, PtpChannel::Event),
            (0x08, PtpChannel::General),
            (0x1b, PtpChannel::General),
        ] {
            assert_eq!(channel_of(&[first, 2]), channel);
        }
        assert_eq!(channel_of(&[]), PtpChannel::General);
    }
}
