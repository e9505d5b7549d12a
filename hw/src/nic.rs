//! What a network interface is and what its NIC can stamp, as the kernel tells it.
//!
//! Everything is asked by ioctl through a socket of the interface's network namespace: sysfs shows the namespace of
//! whoever mounted it. What the kernel does not tell is absent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use truebound_core::io::PhcId;

use crate::sys::device::{self, DriverInfo, LinkInfo, NAME_BYTES, Question, TsInfo, VlanRequest};

/// An interface by its name. It may come and go: each question is asked anew.
#[derive(Debug)]
pub struct Interface {
    name: String,
    padded: [u8; NAME_BYTES],
    socket: OwnedFd,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `lo`.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A VLAN: its stamps are those of the interface below.
    Vlan {
        /// The interface below.
        below: Option<String>,
    },
    /// A bond: its stamps are those of the active member, and they change with it.
    Bond,
    /// A bridge.
    Bridge,
    /// A NIC, or what the kernel has no word for.
    Other,
}

/// What is known of an interface, for the doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Its driver, where the kernel knows one.
    pub driver: Option<String>,
    /// It is a member of a bond.
    pub is_bond_member: bool,
    /// The link.
    pub link: LinkState,
    /// Its hardware address, if it is of six bytes.
    pub mac: Option<[u8; 6]>,
}

/// Whether packets can pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Somebody set it up.
    pub is_up: bool,
    /// It is up and has a carrier.
    pub is_running: bool,
}

impl Interface {
    /// The interface of this name, in the calling thread's network namespace. It need not exist yet.
    pub fn new(name: &str) -> io::Result<Interface> {
        let mut padded = [0; NAME_BYTES];
        let is_name =
            !name.is_empty() && name.len() < NAME_BYTES && !name.bytes().any(|byte| byte == 0 || byte == b'/');
        if !is_name {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of an interface"));
        }
        padded[..name.len()].copy_from_slice(name.as_bytes());
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Interface { name: name.to_owned(), padded, socket })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn padded_name(&self) -> [u8; NAME_BYTES] {
        self.padded
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The kernel's number of it; a new one if it was removed and came back.
    pub fn index(&self) -> io::Result<i32> {
        let [a, b, c, d, ..] = self.ask(Question::Index)?;
        Ok(i32::from_ne_bytes([a, b, c, d]))
    }

    /// Its hardware address; an error if it has none of Ethernet's kind.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        // struct sockaddr { u16 family; u8 data[14] }, of which the family is the kind of hardware
        let [family_a, family_b, a, b, c, d, e, f, ..] = self.ask(Question::HardwareAddress)?;
        match u16::from_ne_bytes([family_a, family_b]) {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok([a, b, c, d, e, f]),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "no Ethernet address")),
        }
    }

    /// Whether packets can pass. The driver knows of its carrier at once, IFF_RUNNING follows within a second.
    pub fn link_state(&self) -> io::Result<LinkState> {
        let flags = self.flags()?;
        let is_up = flags & libc::IFF_UP != 0;
        let mut link = LinkInfo::new();
        let has_carrier = match device::ask_ethtool(self.socket(), self.padded, &mut link) {
            Ok(()) => link.has_carrier != 0,
            Err(_) => flags & libc::IFF_RUNNING != 0,
        };
        Ok(LinkState { is_up, is_running: is_up && has_carrier })
    }

    /// What it can stamp. One that knows nothing of stamps (or is not Ethernet) can stamp nothing.
    pub fn stamp_caps(&self) -> io::Result<StampCaps> {
        let mut info = TsInfo::new();
        match device::ask_ethtool(self.socket(), self.padded, &mut info) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(StampCaps::default()),
            Err(error) => Err(error),
            Ok(()) => Ok(StampCaps {
                flags: info.so_timestamping,
                phc: u32::try_from(info.phc_index).ok().map(PhcId),
                tx_types: info.tx_types,
                rx_filters: info.rx_filters,
            }),
        }
    }

    /// What it is.
    pub fn facts(&self) -> io::Result<Facts> {
        let flags = self.flags()?;
        let driver = self.driver();
        let kind = match driver.as_deref() {
            _ if flags & libc::IFF_LOOPBACK != 0 => Kind::Loopback,
            Some("veth") => Kind::Veth,
            Some("bonding") => Kind::Bond,
            Some("bridge") => Kind::Bridge,
            Some("802.1Q VLAN Support") => Kind::Vlan { below: self.below() },
            _ if flags & libc::IFF_MASTER != 0 => Kind::Bond,
            _ => Kind::Other,
        };
        let is_bond_member = flags & libc::IFF_SLAVE != 0;
        Ok(Facts { kind, driver, is_bond_member, link: self.link_state()?, mac: self.mac().ok() })
    }

    fn driver(&self) -> Option<String> {
        let mut info = DriverInfo::new();
        device::ask_ethtool(self.socket(), self.padded, &mut info).ok()?;
        text(&info.driver)
    }

    /// What a VLAN lies on.
    fn below(&self) -> Option<String> {
        let mut request = VlanRequest::device_below(self.padded);
        device::ask_vlan(self.socket(), &mut request).ok()?;
        text(&request.device)
    }

    fn flags(&self) -> io::Result<libc::c_int> {
        let [a, b, ..] = self.ask(Question::Flags)?;
        Ok(i32::from(u16::from_ne_bytes([a, b])))
    }

    fn ask(&self, what: Question) -> io::Result<[u8; 24]> {
        device::ask_interface(self.socket(), self.padded, what)
    }
}

/// Up to the first zero; `None` if that is nothing.
fn text(bytes: &[u8]) -> Option<String> {
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

/// The EUI-64 of a hardware address, which is the clockIdentity of a clock behind it (IEEE 1588-2019 §7.5.2.2.2).
#[must_use]
pub fn clock_identity([a, b, c, d, e, f]: [u8; 6]) -> [u8; 8] {
    [a, b, c, 0xff, 0xfe, d, e, f]
}

/// What an interface can stamp (ETHTOOL_GET_TS_INFO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StampCaps {
    /// SOF_TIMESTAMPING_*.
    pub flags: u32,
    /// The clock of its hardware stamps.
    pub phc: Option<PhcId>,
    /// A bit for each HWTSTAMP_TX_* that it knows.
    pub tx_types: u32,
    /// A bit for each HWTSTAMP_FILTER_* that it knows; some drivers tell none and know some.
    pub rx_filters: u32,
}

impl StampCaps {
    /// The kernel stamps what comes.
    #[must_use]
    pub fn software_rx(&self) -> bool {
        self.has(libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE)
    }

    /// The driver stamps what goes.
    #[must_use]
    pub fn software_tx(&self) -> bool {
        self.has(libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE)
    }

    /// The NIC stamps what comes and what goes, by a clock that can be read.
    #[must_use]
    pub fn hardware(&self) -> bool {
        const BOTH: u32 = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_TX_HARDWARE;
        self.has(BOTH | libc::SOF_TIMESTAMPING_RAW_HARDWARE) && self.phc.is_some()
    }

    /// It knows this filter, or does not tell which it knows.
    #[must_use]
    pub fn may_know_filter(&self, filter: u32) -> bool {
        self.rx_filters == 0 || self.rx_filters & bit(filter) != 0
    }

    /// The names of its transmit types, as ethtool has them.
    #[must_use]
    pub fn tx_type_names(&self) -> Vec<&'static str> {
        names(self.tx_types, &TX_TYPES)
    }

    /// The names of its filters, as ethtool has them.
    #[must_use]
    pub fn rx_filter_names(&self) -> Vec<&'static str> {
        names(self.rx_filters, &RX_FILTERS)
    }

    fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}

/// HWTSTAMP_TX_* in order.
const TX_TYPES: [&str; 4] = ["off", "on", "onestep-sync", "onestep-p2p"];

/// HWTSTAMP_FILTER_* in order.
const RX_FILTERS: [&str; 16] = [
    "none",
    "all",
    "some",
    "ptpv1-l4-event",
    "ptpv1-l4-sync",
    "ptpv1-l4-delay-req",
    "ptpv2-l4-event",
    "ptpv2-l4-sync",
    "ptpv2-l4-delay-req",
    "ptpv2-l2-event",
    "ptpv2-l2-sync",
    "ptpv2-l2-delay-req",
    "ptpv2-event",
    "ptpv2-sync",
    "ptpv2-delay-req",
    "ntp-all",
];

/// The name of a filter, as ethtool has it.
#[must_use]
pub fn rx_filter_name(filter: u32) -> &'static str {
    usize::try_from(filter).ok().and_then(|at| RX_FILTERS.get(at)).copied().unwrap_or("unknown")
}

fn names(bits: u32, table: &[&'static str]) -> Vec<&'static str> {
    (0..).zip(table).filter(|&(n, _)| bits & bit(n) != 0).map(|(_, &name)| name).collect()
}

fn bit(n: u32) -> u32 {
    1_u32.checked_shl(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ethtool -T` shows of an 82576.
    const IGB: StampCaps = StampCaps { flags: 0x5f, phc: Some(PhcId(0)), tx_types: 0b11, rx_filters: 0x1031 };

    #[test]
    fn caps_are_decoded_as_ethtool_does() {
        assert!(IGB.hardware() && IGB.software_rx() && IGB.software_tx());
        assert_eq!(IGB.tx_type_names(), ["off", "on"]);
        assert_eq!(IGB.rx_filter_names(), ["none", "ptpv1-l4-sync", "ptpv1-l4-delay-req", "ptpv2-event"]);
        assert!(IGB.may_know_filter(libc::HWTSTAMP_FILTER_PTP_V2_EVENT));
        assert!(!IGB.may_know_filter(libc::HWTSTAMP_FILTER_ALL));
    }

    #[test]
    fn hardware_stamps_need_both_ways_raw_time_and_a_clock() {
        assert!(!StampCaps { phc: None, ..IGB }.hardware());
        for missing in [1, 4, 0x40] {
            assert!(!StampCaps { flags: IGB.flags & !missing, ..IGB }.hardware(), "{missing}");
        }
        let veth = StampCaps { flags: 0x1a, ..StampCaps::default() };
        assert!(veth.software_rx() && veth.software_tx() && !veth.hardware());
        assert!(veth.may_know_filter(1), "it does not say");
    }

    #[test]
    fn the_identity_is_the_eui64() {
        assert_eq!(clock_identity([1, 2, 3, 4, 5, 6]), [1, 2, 3, 0xff, 0xfe, 4, 5, 6]);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for name in ["", "sixteen-is-a-lot", "a/b", "a\0b"] {
            assert!(Interface::new(name).is_err(), "{name:?}");
        }
        assert!(Interface::new("fifteen-is-good").is_ok());
    }

    #[test]
    fn an_absent_interface_is_an_error_everywhere() {
        let absent = Interface::new("tb-absent").expect("a name");
        assert!(absent.index().is_err() && absent.mac().is_err() && absent.link_state().is_err());
        assert!(absent.stamp_caps().is_err() && absent.facts().is_err());
    }
}
