//! What the kernel writes beside a datagram: control messages (cmsg(3)) and socket addresses, read as plain bytes.
//!
//! A control message is `{ size_t len; int level; int type; data }`, the next one starting at the next multiple of
//! eight. Reading bytes instead of following the CMSG macros needs no unsafe code and cannot run off a short buffer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use truebound_core::time::{NS_PER_S, PhcTime, RealTime};

/// `{ size_t len; int level; int type }`.
const HEADER_BYTES: usize = 16;
/// Control messages start at multiples of this.
const ALIGNMENT: usize = 8;

const _: () = assert!(size_of::<libc::cmsghdr>() == HEADER_BYTES);
const _: () = assert!(size_of::<libc::in_pktinfo>() == 12);
const _: () = assert!(size_of::<libc::in6_pktinfo>() == 20);
const _: () = assert!(size_of::<libc::sock_extended_err>() == 16);

/// linux/errqueue.h: the packet was handed to the device, as opposed to the scheduler (1) or acknowledged (2).
const SCM_TSTAMP_SND: u32 = 0;

/// linux/if_packet.h: the level's option that carries the extended error of a packet socket's stamp.
const PACKET_TX_TIMESTAMP: i32 = 16;

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlMessage<'a> {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) data: &'a [u8],
}

/// The control messages in `bytes`; ends at the first malformed one.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = ControlMessage<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(field(rest, 0)?);
        let data = rest.get(HEADER_BYTES..len)?;
        let message = ControlMessage {
            level: i32::from_ne_bytes(field(rest, 8)?),
            kind: i32::from_ne_bytes(field(rest, 12)?),
            data,
        };
        // The last message may end without its padding.
        rest = rest.get(len.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(message)
    })
}

/// The software stamp: the first of SCM_TIMESTAMPING's three timespecs. Zero means that there is none.
pub(crate) fn software_stamp(control: &[u8]) -> Option<RealTime> {
    stamp_ns(control, 0).map(RealTime::from_ns)
}

/// The NIC's own stamp: the last of the three. (The one between was the same in system time; nobody fills it now.)
pub(crate) fn hardware_stamp(control: &[u8]) -> Option<PhcTime> {
    stamp_ns(control, 2).map(PhcTime::from_ns)
}

fn stamp_ns(control: &[u8], which: usize) -> Option<i64> {
    const TIMESPEC_BYTES: usize = 16;
    let stamps = messages(control)
        .find(|message| (message.level, message.kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING))?;
    let at = which * TIMESPEC_BYTES;
    time_ns(i64::from_ne_bytes(field(stamps.data, at)?), i64::from_ne_bytes(field(stamps.data, at + 8)?))
}

/// A timespec in ns, unless it is 0/0 or no time at all.
fn time_ns(sec: i64, nsec: i64) -> Option<i64> {
    if (sec, nsec) == (0, 0) || sec < 0 || !(0..NS_PER_S).contains(&nsec) {
        return None;
    }
    sec.checked_mul(NS_PER_S)?.checked_add(nsec)
}

/// The local address that the datagram was sent to (the destination in its IP header).
pub(crate) fn destination(control: &[u8]) -> Option<IpAddr> {
    messages(control).find_map(|message| match (message.level, message.kind) {
        // struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => Some(Ipv4Addr::from(field::<4>(message.data, 8)?).into()),
        // struct in6_pktinfo { in6_addr addr; unsigned ifindex }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => Some(Ipv6Addr::from(field::<16>(message.data, 0)?).into()),
        _ => None,
    })
}

/// The error-queue entry with this control data is the stamp of a packet that went to the device, rather than of
/// another stage, or an ICMP error.
pub(crate) fn is_sent_stamp(control: &[u8]) -> bool {
    messages(control).any(|message| {
        let is_error = matches!(
            (message.level, message.kind),
            (libc::SOL_IP, libc::IP_RECVERR)
                | (libc::SOL_IPV6, libc::IPV6_RECVERR)
                | (libc::SOL_PACKET, PACKET_TX_TIMESTAMP)
        );
        // struct sock_extended_err { u32 errno; u8 origin, type, code, pad; u32 info; u32 data }
        let origin = message.data.get(4).copied();
        let info = field(message.data, 8).map(u32::from_ne_bytes);
        is_error && origin == Some(libc::SO_EE_ORIGIN_TIMESTAMPING) && info == Some(SCM_TSTAMP_SND)
    })
}

/// Control messages for one datagram to send, in the words that [`crate::sys::send`] takes.
#[derive(Clone, Copy)]
pub(crate) struct Ancillary {
    words: [u64; Ancillary::WORDS],
    used: usize,
}

impl Ancillary {
    /// An in6_pktinfo (40 bytes with its header), then a word of flags (24).
    const WORDS: usize = 8;

    /// None.
    pub(crate) const EMPTY: Ancillary = Ancillary { words: [0; Ancillary::WORDS], used: 0 };

    /// Sets the datagram's source address. Leaves the interface to the routing table (a link-local destination names it
    /// by its scope).
    pub(crate) fn sourced_at(mut self, source: IpAddr) -> Self {
        let mut data = [0; 24];
        match source {
            IpAddr::V4(v4) => {
                data[4..8].copy_from_slice(&v4.octets()); // spec_dst: the source of what is sent
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data[..size_of::<libc::in_pktinfo>()]);
            }
            IpAddr::V6(v6) => {
                data[..16].copy_from_slice(&v6.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data[..size_of::<libc::in6_pktinfo>()]);
            }
        }
        self
    }

    /// Asks for this datagram's software transmit stamp, whatever the socket asks for.
    pub(crate) fn stamped(mut self) -> Self {
        self.push(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &libc::SOF_TIMESTAMPING_TX_SOFTWARE.to_ne_bytes());
        self
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = HEADER_BYTES + data.len();
        let mut bytes = [0; HEADER_BYTES + 24];
        bytes[..8].copy_from_slice(&len.to_ne_bytes());
        bytes[8..12].copy_from_slice(&level.to_ne_bytes());
        bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
        bytes[HEADER_BYTES..len].copy_from_slice(data);
        let count = len.div_ceil(ALIGNMENT);
        for (word, bytes) in self.words[self.used..][..count].iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        self.used += count;
    }

    /// The control messages.
    pub(crate) fn as_words(&self) -> &[u64] {
        &self.words[..self.used]
    }
}

/// The address in a sockaddr_in or sockaddr_in6.
pub(crate) fn socket_address(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(field(name, 0)?));
    let port = u16::from_be_bytes(field(name, 2)?);
    match family {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(field::<4>(name, 4)?), port).into()),
        libc::AF_INET6 => {
            let address = Ipv6Addr::from(field::<16>(name, 8)?);
            let flow = u32::from_ne_bytes(field(name, 4)?);
            let scope = u32::from_ne_bytes(field(name, 24)?);
            Some(SocketAddrV6::new(address, port, flow, scope).into())
        }
        _ => None,
    }
}

/// A packet socket says of this sender's address that the packet is none for this port: this host sent it, or it is for
/// another host (a NIC that is promiscuous shows those of other VLANs, too).
pub(crate) fn is_outgoing(name: &[u8]) -> bool {
    // struct sockaddr_ll { u16 family, protocol; int ifindex; u16 hatype; u8 pkttype, .. }
    matches!(name.get(10), Some(&(libc::PACKET_OUTGOING | libc::PACKET_OTHERHOST)))
}

/// The `N` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control_message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }

    fn stamps(words: [i64; 6]) -> Vec<u8> {
        let data: Vec<u8> = words.into_iter().flat_map(i64::to_ne_bytes).collect();
        control_message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &data)
    }

    fn stamp(sec: i64, nsec: i64) -> Vec<u8> {
        stamps([sec, nsec, 0, 0, 0, 0])
    }

    fn extended_error(origin: u8, info: u32) -> Vec<u8> {
        extended_error_of((libc::SOL_IP, libc::IP_RECVERR), origin, info)
    }

    fn extended_error_of((level, kind): (i32, i32), origin: u8, info: u32) -> Vec<u8> {
        let mut data = 42_u32.to_ne_bytes().to_vec();
        data.extend([origin, 0, 0, 0]);
        data.extend(info.to_ne_bytes());
        data.extend([0; 4]);
        control_message(level, kind, &data)
    }

    #[test]
    fn a_stamp_is_found_behind_another_message() {
        let mut control =
            control_message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[1, 0, 0, 0, 127, 0, 0, 1, 127, 0, 0, 5]);
        control.extend(stamp(1_700_000_000, 999_999_999));
        assert_eq!(software_stamp(&control), Some(RealTime::from_ns(1_700_000_000_999_999_999)));
        assert_eq!(destination(&control), Some(Ipv4Addr::new(127, 0, 0, 5).into()));
        control.truncate(control.len() - 40);
        assert_eq!(software_stamp(&control), None, "a cut message is not read");
    }

    #[test]
    fn a_zero_or_impossible_stamp_is_none() {
        for (sec, nsec) in [(0, 0), (-1, 5), (1, -1), (1, NS_PER_S), (i64::MAX, 1), (9_223_372_036, 854_775_808)] {
            assert_eq!(software_stamp(&stamp(sec, nsec)), None, "{sec} {nsec}");
        }
        assert_eq!(software_stamp(&stamp(9_223_372_036, 854_775_807)), Some(RealTime::MAX));
        assert_eq!(software_stamp(&stamp(0, 1)), Some(RealTime::from_ns(1)));
    }

    #[test]
    fn the_last_stamp_is_the_nics_and_the_first_is_the_kernels() {
        let both = stamps([1_700_000_000, 5, 0, 0, 1_700_000_037, 999_999_999]);
        assert_eq!(software_stamp(&both), Some(RealTime::from_ns(1_700_000_000_000_000_005)));
        assert_eq!(hardware_stamp(&both), Some(PhcTime::from_ns(1_700_000_037_999_999_999)));
        let hardware = stamps([0, 0, 0, 0, 12, 34]);
        assert_eq!(
            (software_stamp(&hardware), hardware_stamp(&hardware).map(PhcTime::as_ns)),
            (None, Some(12 * NS_PER_S + 34))
        );
        assert_eq!(hardware_stamp(&stamps([1, 1, 7, 7, 0, 0])), None, "not the one between");
        assert_eq!(hardware_stamp(&stamps([0, 0, 0, 0, -1, 5])), None);
        assert_eq!(hardware_stamp(&both[..HEADER_BYTES + 40]), None, "a cut message is not read");
    }

    #[test]
    fn malformed_lengths_end_the_messages() {
        for len in [0, 1, 15, 17, usize::MAX] {
            let mut bytes = [0_u8; 16];
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{len}");
        }
        assert_eq!(messages(&[]).count(), 0);
        assert_eq!(messages(&control_message(1, 2, &[])).count(), 1);
    }

    #[test]
    fn only_the_device_stage_counts_as_sent() {
        assert!(is_sent_stamp(&extended_error(libc::SO_EE_ORIGIN_TIMESTAMPING, SCM_TSTAMP_SND)));
        for other in [(libc::SOL_IPV6, libc::IPV6_RECVERR), (libc::SOL_PACKET, PACKET_TX_TIMESTAMP)] {
            let control = extended_error_of(other, libc::SO_EE_ORIGIN_TIMESTAMPING, SCM_TSTAMP_SND);
            assert!(is_sent_stamp(&control), "{other:?}");
        }
        assert!(!is_sent_stamp(&extended_error(libc::SO_EE_ORIGIN_TIMESTAMPING, 1)), "scheduler");
        assert!(!is_sent_stamp(&extended_error(libc::SO_EE_ORIGIN_ICMP, 0)), "ICMP");
        assert!(!is_sent_stamp(&stamp(1, 1)), "no extended error");
    }

    #[test]
    fn what_is_sent_beside_a_datagram_is_read_back_as_written() {
        let bytes_of =
            |sent: &Ancillary| sent.as_words().iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let v6 = IpAddr::V6("fe80::1:2".parse().expect("an address"));
        let bytes = bytes_of(&Ancillary::EMPTY.sourced_at(v6));
        assert_eq!((bytes.len(), destination(&bytes)), (40, Some(v6)));

        let bytes = bytes_of(&Ancillary::EMPTY.sourced_at(Ipv4Addr::new(10, 1, 2, 3).into()));
        assert_eq!((bytes.len(), &bytes[20..24]), (32, &[10, 1, 2, 3][..]));

        // The longest: the flags stand behind the address.
        let bytes = bytes_of(&Ancillary::EMPTY.sourced_at(v6).stamped());
        let (level, kind) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
        let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE.to_ne_bytes();
        assert_eq!((bytes.len(), destination(&bytes)), (64, Some(v6)));
        assert_eq!(messages(&bytes).nth(1), Some(ControlMessage { level, kind, data: &flags }));
        assert!(Ancillary::EMPTY.as_words().is_empty());
    }

    #[test]
    fn packets_of_this_host_are_told_from_others() {
        let mut name = [0; 20];
        assert!(!is_outgoing(&name), "PACKET_HOST");
        name[10] = libc::PACKET_OUTGOING;
        assert!(is_outgoing(&name));
        assert!(!is_outgoing(&name[..10]));
        name[10] = libc::PACKET_OTHERHOST;
        assert!(is_outgoing(&name));
    }

    #[test]
    fn an_address_of_another_family_is_none() {
        assert_eq!(socket_address(&[]), None);
        assert_eq!(socket_address(&[1, 0, 0, 123, 127, 0, 0, 1]), None);
        assert_eq!(socket_address(&[2, 0, 0, 123, 127, 0, 0]), None);
    }
}
