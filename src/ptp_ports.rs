//! The PTP ports' hands: sockets that open when the interface is there and close when it goes, NICs that are made to
//! stamp, and what was sent and waits for its stamps.

mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::io;

use tokio::sync::mpsc::UnboundedSender;
use truebound_core::io::{PhcId, PtpChannel, PtpLink, PtpPort, PtpTransmit, TxToken};
use truebound_core::settings::{PtpSettings, PtpTransport};
use truebound_core::time::{PhcTime, RawTime, RealTime};
use truebound_hw::hwtstamp::HardwareStamps;
use truebound_hw::nic::{Facts, Interface, Kind, StampCaps, clock_identity};
use truebound_hw::ptp_socket::{PtpSocket, carries};

use self::turn::Turn;
use crate::watch::{Ready, Watch};

/// Transmissions of one port whose stamps may still come; beyond it the oldest is given up.
const MAX_AWAITED: usize = 64;

/// A transmission whose stamps may still come.
#[derive(Debug)]
struct Awaited {
    token: TxToken,
    message: Vec<u8>,
    user_before: RawTime,
    user_after: RawTime,
    wants_kernel: bool,
    wants_hardware: bool,
}

/// A stamp that found back to its transmission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamped {
    pub(crate) token: TxToken,
    pub(crate) user_before: RawTime,
    pub(crate) kernel: Option<RealTime>,
    pub(crate) hardware: Option<PhcTime>,
}

/// An event message left, and its stamp did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overdue {
    pub(crate) token: TxToken,
    pub(crate) user_before: RawTime,
    pub(crate) user_after: RawTime,
}

/// Looks at the interfaces between two tries to get hardware stamps that were refused.
const RETRY_LOOKS: u32 = 20;
/// VLANs on top of each other that are followed down to a NIC.
const MAX_VLANS: usize = 4;

/// An open port.
pub(crate) struct OpenPort {
    index: i32,
    /// The interface below, whose stamps they are.
    nic: String,
    link: PtpLink,
    event: Watch<PtpSocket>,
    general: Watch<PtpSocket>,
    awaited: VecDeque<Awaited>,
}

impl OpenPort {
    /// Its socket for this kind of messages.
    pub(crate) fn watch(&self, channel: PtpChannel) -> &Watch<PtpSocket> {
        match channel {
            PtpChannel::Event => &self.event,
            PtpChannel::General => &self.general,
        }
    }

    /// The clock of its hardware stamps.
    pub(crate) fn phc(&self) -> Option<PhcId> {
        self.link.phc
    }

    /// Remembers an event message that left, to find its stamps.
    pub(crate) fn await_stamps(&mut self, sent: &PtpTransmit, user: (RawTime, RawTime), wants_kernel: bool) {
        if self.awaited.len() == MAX_AWAITED {
            self.awaited.pop_front();
        }
        let wants_kernel = wants_kernel && self.event.get().stamping().tx;
        let wants_hardware = self.link.phc.is_some();
        if wants_kernel || wants_hardware {
            let (user_before, user_after) = user;
            let (token, message) = (sent.token, sent.data.clone());
            self.awaited.push_back(Awaited { token, message, user_before, user_after, wants_kernel, wants_hardware });
        }
    }

    /// The stamps that came.
    pub(crate) fn stamps(&mut self) -> Vec<Stamped> {
        let mut found = Vec::new();
        let awaited = &mut self.awaited;
        let visited = self.event.get().sent_stamps(&mut |stamp| {
            found.extend(matched(awaited, stamp.packet, stamp.kernel, stamp.hardware));
        });
        // An error here means no stamps: the core knows what that means.
        let _ = visited;
        found
    }
}

/// The transmission of `packet` gets its stamps; with all that it wants it is forgotten.
fn matched(
    awaited: &mut VecDeque<Awaited>,
    packet: &[u8],
    kernel: Option<RealTime>,
    hardware: Option<PhcTime>,
) -> Option<Stamped> {
    let index = awaited.iter().position(|wait| carries(packet, &wait.message))?;
    let wait = awaited.get_mut(index)?;
    let kernel = kernel.filter(|_| std::mem::take(&mut wait.wants_kernel));
    let hardware = hardware.filter(|_| std::mem::take(&mut wait.wants_hardware));
    let (token, user_before) = (wait.token, wait.user_before);
    if !wait.wants_kernel && !wait.wants_hardware {
        awaited.remove(index);
    }
    (kernel.is_some() || hardware.is_some()).then_some(Stamped { token, user_before, kernel, hardware })
}

/// A NIC that stamps for one or more ports.
struct Nic {
    stamps: HardwareStamps,
    turn: Turn,
}

/// A line of the settings, and its port if that is open.
struct Port {
    settings: PtpSettings,
    open: Option<OpenPort>,
    /// The core was told of its link, or that there is none.
    is_told: bool,
    /// What was last complained of.
    complaint: String,
}

/// All ports.
pub(crate) struct PtpPorts {
    ports: Vec<Port>,
    /// By the lowest interface: VLANs of one NIC share its stamps.
    nics: BTreeMap<String, Nic>,
    looks: u32,
    ready: UnboundedSender<Ready>,
}

/// What a look at the interfaces found.
#[derive(Default)]
pub(crate) struct Changes {
    /// Links that came or went.
    pub(crate) links: Vec<(PtpPort, Option<PtpLink>)>,
    /// Messages that will not be sent.
    pub(crate) lost: Vec<TxToken>,
    /// What an operator should know: the port's name, and what is wrong.
    pub(crate) complaints: Vec<(String, String)>,
}

impl PtpPorts {
    pub(crate) fn new(settings: &[PtpSettings], ready: UnboundedSender<Ready>) -> Self {
        let ports = settings.iter().cloned().map(Port::new).collect();
        PtpPorts { ports, nics: BTreeMap::new(), looks: 0, ready }
    }

    pub(crate) fn get_mut(&mut self, port: PtpPort) -> Option<&mut OpenPort> {
        self.ports.get_mut(usize::from(port.0))?.open.as_mut()
    }

    pub(crate) fn get(&self, port: PtpPort) -> Option<&OpenPort> {
        self.ports.get(usize::from(port.0))?.open.as_ref()
    }

    /// Opens the ports whose interface is there, closes those whose interface went.
    pub(crate) fn tend(&mut self) -> Changes {
        let mut changes = Changes::default();
        self.looks = self.looks.wrapping_add(1);
        for at in 0..self.ports.len() {
            let Ok(port) = u16::try_from(at).map(PtpPort) else { break };
            let is_open = self.get(port).is_some();
            let is_outdone = || self.looks.is_multiple_of(RETRY_LOOKS) && self.could_stamp(port);
            if is_open && (!self.is_alive(port) || is_outdone()) {
                self.close(port, &mut changes);
            } else if !is_open {
                self.try_open(port, &mut changes);
            }
        }
        changes
    }

    /// Other settings: ports that are not as they were are closed. [`PtpPorts::tend`] opens them anew.
    pub(crate) fn configure(&mut self, settings: &[PtpSettings]) -> Changes {
        let mut changes = Changes::default();
        for at in 0..self.ports.len() {
            let Ok(port) = u16::try_from(at).map(PtpPort) else { break };
            if self.ports.get(at).map(|port| &port.settings) != settings.get(at) && self.get(port).is_some() {
                self.close(port, &mut changes);
            }
        }
        self.ports.truncate(settings.len());
        for (at, new) in settings.iter().enumerate() {
            match self.ports.get_mut(at) {
                Some(old) if old.settings == *new => {}
                Some(old) => *old = Port::new(new.clone()),
                None => self.ports.push(Port::new(new.clone())),
            }
        }
        // A NIC that nobody wants any more is put back as it was. One whose carrier went is not: there are drivers that
        // drop the carrier whenever they are told what to stamp.
        let wanted: Vec<String> =
            settings.iter().filter(|line| line.hardware).map(|line| nic_of(&line.interface)).collect();
        self.nics.retain(|name, _| wanted.contains(name));
        changes
    }

    /// Its interface is still the same, has a carrier and stamps as it did. (A bond's clock is that of its active
    /// member; and other daemons may set a NIC's filter.)
    fn is_alive(&self, port: PtpPort) -> bool {
        let Some(Port { settings, open: Some(open), .. }) = self.ports.get(usize::from(port.0)) else { return false };
        let Ok(interface) = Interface::new(&settings.interface) else { return false };
        let is_running = interface.link_state().is_ok_and(|link| link.is_running);
        let is_same = interface.index().is_ok_and(|index| index == open.index);
        let stamps = open.link.phc.is_none_or(|phc| {
            let nic = self.nics.get(&open.nic);
            nic.is_some_and(|nic| nic.stamps.holds(settings.transport))
                && interface.stamp_caps().is_ok_and(|caps| caps.phc == Some(phc))
        });
        is_running && is_same && stamps
    }

    /// It has kernel stamps, and by now its NIC could do better: whoever was in the way is gone.
    fn could_stamp(&self, port: PtpPort) -> bool {
        let Some(Port { settings, open: Some(open), .. }) = self.ports.get(usize::from(port.0)) else { return false };
        if open.link.phc.is_some() || !settings.hardware || is_bond(&settings.interface) {
            return false;
        }
        let Ok(interface) = Interface::new(&settings.interface) else { return false };
        let Ok(caps) = interface.stamp_caps() else { return false };
        // Tried for a moment, and put back: the port is to be opened anew.
        HardwareStamps::enable(interface, &caps, settings.transport).is_ok()
    }

    fn close(&mut self, port: PtpPort, changes: &mut Changes) {
        let Some(line) = self.ports.get_mut(usize::from(port.0)) else { return };
        let Some(open) = line.open.take() else { return };
        if let Some(nic) = self.nics.get_mut(&open.nic) {
            changes.lost.extend(nic.turn.leave(port));
        }
        changes.links.push((port, None));
    }

    fn try_open(&mut self, port: PtpPort, changes: &mut Changes) {
        let Some(line) = self.ports.get(usize::from(port.0)) else { return };
        let settings = line.settings.clone();
        let opened = self.open(port, &settings);
        let Some(line) = self.ports.get_mut(usize::from(port.0)) else { return };
        let complaint = match opened {
            Ok((open, complaint)) => {
                changes.links.push((port, Some(open.link)));
                line.open = Some(open);
                complaint.unwrap_or_default()
            }
            Err(complaint) => {
                if !line.is_told {
                    changes.links.push((port, None));
                }
                complaint
            }
        };
        line.is_told = true;
        if !complaint.is_empty() && line.complaint != complaint {
            changes.complaints.push((settings.name, complaint.clone()));
        }
        line.complaint = complaint;
    }

    /// The port, and what is not as it was asked for.
    fn open(&mut self, port: PtpPort, settings: &PtpSettings) -> Result<(OpenPort, Option<String>), String> {
        let name = &settings.interface;
        let interface = Interface::new(name).map_err(|error| format!("{name}: {error}"))?;
        let absent = |error: io::Error| format!("waiting for interface {name}: {error}");
        let index = interface.index().map_err(absent)?;
        if !interface.link_state().map_err(absent)?.is_running {
            return Err(format!("waiting for interface {name}: it is down, or has no carrier"));
        }
        let identity = clock_identity(interface.mac().map_err(|error| format!("{name}: {error}"))?);
        let caps = interface.stamp_caps().unwrap_or_default();
        let is_bond = is_bond(name);
        let wants_hardware = settings.hardware && caps.hardware() && !is_bond;
        let ready = self.ready.clone();
        let open = |channel, wants_hardware| {
            let socket = PtpSocket::open(&interface, settings.transport, channel, wants_hardware)?;
            Watch::new(Ready::Ptp(port, channel), socket, ready.clone())
        };
        let refused =
            |error: io::Error| format!("cannot open its sockets: {error}{}", hint(settings.transport, &error));
        let mut event = open(PtpChannel::Event, wants_hardware).map_err(refused)?;
        let general = open(PtpChannel::General, wants_hardware).map_err(refused)?;
        // The NIC is set last: whatever fails before must not set and reset it time and again.
        let (phc, complaint) =
            match (wants_hardware && event.get().has_hardware()).then(|| self.set_nic(settings, &caps)) {
                None => (None, obstacle(name, settings, is_bond)),
                Some(Ok(())) => (caps.phc, None),
                Some(Err(refusal)) => {
                    // Whoever has the NIC needs its stamps: ours must not ask for any.
                    event = open(PtpChannel::Event, false).map_err(refused)?;
                    (None, Some(format!("kernel stamps only: {refusal}")))
                }
            };
        let link = PtpLink { identity, phc };
        Ok((OpenPort { index, nic: nic_of(name), link, event, general, awaited: VecDeque::new() }, complaint))
    }

    /// Makes the NIC stamp.
    fn set_nic(&mut self, settings: &PtpSettings, caps: &StampCaps) -> Result<(), String> {
        let transport = settings.transport;
        let name = nic_of(&settings.interface);
        if let Some(nic) = self.nics.get_mut(&name) {
            return nic.stamps.add(caps, transport).map_err(|refusal| refusal.to_string());
        }
        let interface = Interface::new(&settings.interface).map_err(|error| error.to_string())?;
        let stamps = HardwareStamps::enable(interface, caps, transport).map_err(|refusal| refusal.to_string())?;
        self.nics.insert(name, Nic { stamps, turn: Turn::default() });
        Ok(())
    }

    // ---- one at a time -----------------------------------------------------------------------------------------------

    /// The event message, if it may go now; otherwise it waits for its turn, or is an error if it will not be sent.
    pub(crate) fn take_turn(&mut self, transmit: Box<PtpTransmit>) -> Result<Option<Box<PtpTransmit>>, TxToken> {
        match self.turn_of(transmit.port) {
            None => Ok(Some(transmit)),
            Some(turn) => turn.take(transmit).map_err(|transmit| transmit.token),
        }
    }

    /// Did another one leave through the same NIC a moment ago?
    pub(crate) fn is_close(&mut self, port: PtpPort, now: RawTime) -> bool {
        self.turn_of(port).is_some_and(|turn| turn.is_close(now))
    }

    /// It left.
    pub(crate) fn began(&mut self, port: PtpPort, token: TxToken, now: RawTime) {
        if let Some(turn) = self.turn_of(port) {
            turn.begin(port, token, now);
        }
    }

    /// Its hardware stamp came, or it did not leave: gives who is next.
    pub(crate) fn ended(&mut self, port: PtpPort, token: TxToken) -> Option<Box<PtpTransmit>> {
        match self.turn_of(port) {
            Some(turn) => turn.end(token),
            None => self.nics.values_mut().find_map(|nic| nic.turn.stranded()),
        }
    }

    /// When the first stamp under way will be too late.
    pub(crate) fn deadline(&self) -> Option<RawTime> {
        self.nics.values().filter_map(|nic| nic.turn.deadline()).min()
    }

    /// The ports whose stamps are too late.
    pub(crate) fn late_ports(&self, now: RawTime) -> Vec<PtpPort> {
        self.nics.values().filter_map(|nic| nic.turn.overdue(now)).map(|(port, _)| port).collect()
    }

    /// Gives up a stamp that is too late: what left without it, and who is next.
    pub(crate) fn give_up(&mut self, now: RawTime) -> Option<(Option<Overdue>, Option<Box<PtpTransmit>>)> {
        let (nic, port, token) = self.nics.values_mut().find_map(|nic| {
            let (port, token) = nic.turn.overdue(now)?;
            Some((nic, port, token))
        })?;
        let next = nic.turn.end(token);
        let overdue = self.get(port).and_then(|open| {
            let wait = open.awaited.iter().find(|wait| wait.token == token)?;
            Some(Overdue { token, user_before: wait.user_before, user_after: wait.user_after })
        });
        Some((overdue, next))
    }

    fn turn_of(&mut self, port: PtpPort) -> Option<&mut Turn> {
        let line = self.ports.get(usize::from(port.0))?;
        let open = line.open.as_ref()?;
        open.link.phc?;
        self.nics.get_mut(&open.nic).map(|nic| &mut nic.turn)
    }
}

/// The lowest interface under this one.
fn nic_of(name: &str) -> String {
    let mut name = name.to_owned();
    for _ in 0..MAX_VLANS {
        let facts = Interface::new(&name).and_then(|interface| interface.facts());
        let Ok(Facts { kind: Kind::Vlan { below: Some(below) }, .. }) = facts else { break };
        name = below;
    }
    name
}

/// Is the lowest interface a bond? Its clock is that of its active member, and another one after a failover.
fn is_bond(name: &str) -> bool {
    let facts = Interface::new(&nic_of(name)).and_then(|interface| interface.facts());
    facts.is_ok_and(|facts| facts.kind == Kind::Bond)
}

/// What keeps a port from what it was asked for, though nobody refused anything.
fn obstacle(name: &str, settings: &PtpSettings, is_bond: bool) -> Option<String> {
    let facts = Interface::new(name).and_then(|interface| interface.facts());
    let is_member = facts.is_ok_and(|facts| facts.is_bond_member);
    if is_bond && settings.hardware {
        return Some(format!(
            "kernel stamps only: {name} is a bond, whose clock changes at failover; give each member a [[ptp]] of its own \
             with transport = \"ethernet\""
        ));
    }
    let is_deaf = is_member && settings.transport != PtpTransport::Ethernet;
    is_deaf
        .then(|| format!("{name} is a member of a bond, which takes what comes by UDP; use transport = \"ethernet\""))
}

impl Port {
    fn new(settings: PtpSettings) -> Self {
        Port { settings, open: None, is_told: false, complaint: String::new() }
    }
}

fn hint(transport: PtpTransport, error: &io::Error) -> &'static str {
    match (error.kind(), transport) {
        (io::ErrorKind::PermissionDenied, PtpTransport::Ethernet) => "; it needs CAP_NET_RAW",
        (io::ErrorKind::PermissionDenied, _) => "; ports 319 and 320 need CAP_NET_BIND_SERVICE",
        (io::ErrorKind::AddrInUse, _) => {
            "; another PTP daemon holds port 319 or 320: stop it, or use another interface"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::turn::tests::{at, message};
    use super::*;

    /// Runs `test` in a network namespace of its own, where `lo` is down. Skipped where that is not permitted, or nobody
    /// could set it up.
    fn in_namespace(test: fn()) {
        if std::process::Command::new("ip").arg("-V").output().is_err() {
            println!("skipped: no ip");
            return;
        }
        let ran = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async { test() });
            Ok::<(), nix::Error>(())
        });
        if let Err(error) = ran.join().expect("the test") {
            println!("skipped: no network namespace: {error}");
        }
    }

    fn ip(arguments: &str) {
        let status = std::process::Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.is_ok_and(|status| status.success()), "ip {arguments}");
    }

    fn lo(transport: PtpTransport) -> PtpSettings {
        PtpSettings { transport, ..PtpSettings::new("lo") }
    }

    #[test]
    fn ports_come_and_go_with_their_interface() {
        in_namespace(|| {
            let settings = [lo(PtpTransport::Udp4), lo(PtpTransport::Ethernet), PtpSettings::new("tb-absent")];
            let (ready, _inbox) = tokio::sync::mpsc::unbounded_channel();
            let mut ports = PtpPorts::new(&settings, ready);
            let first = ports.tend();
            assert_eq!(first.links, [0, 1, 2].map(|n| (PtpPort(n), None)));
            assert_eq!(first.complaints.len(), 3, "{:?}", first.complaints);
            let again = ports.tend();
            assert_eq!((again.links.len(), again.complaints.len()), (0, 0), "told once");

            ip("link set lo up");
            let link = PtpLink { identity: [0, 0, 0, 0xff, 0xfe, 0, 0, 0], phc: None };
            assert_eq!(ports.tend().links, [0, 1].map(|n| (PtpPort(n), Some(link))));
            assert_eq!(ports.tend().links, []);
            ip("link set lo down");
            assert_eq!(ports.tend().links, [0, 1].map(|n| (PtpPort(n), None)));
            assert!(ports.get(PtpPort(0)).is_none());
        });
    }

    #[test]
    fn other_settings_close_what_they_change_and_nothing_else() {
        in_namespace(|| {
            ip("link set lo up");
            let (ready, _inbox) = tokio::sync::mpsc::unbounded_channel();
            let mut ports = PtpPorts::new(&[lo(PtpTransport::Udp4), lo(PtpTransport::Ethernet)], ready);
            assert_eq!(ports.tend().links.len(), 2);
            let other = PtpSettings { domain: 7, ..lo(PtpTransport::Ethernet) };
            assert_eq!(ports.configure(&[lo(PtpTransport::Udp4), other]).links, [(PtpPort(1), None)]);
            assert!(matches!(ports.tend().links.as_slice(), [(PtpPort(1), Some(_))]));
            assert_eq!(ports.configure(&[]).links, [0, 1].map(|n| (PtpPort(n), None)));
            assert_eq!(ports.tend().links, []);
        });
    }

    #[test]
    fn both_stamps_of_a_message_find_back_to_it() {
        let user = (at(1), at(2));
        let wait = |n| {
            let PtpTransmit { token, data, .. } = *message(0, n);
            let (user_before, user_after) = user;
            Awaited { token, message: data, user_before, user_after, wants_kernel: true, wants_hardware: true }
        };
        let mut awaited: VecDeque<Awaited> = [wait(1), wait(2)].into();
        let packet = |n| [vec![0xee; 42], message(0, n).data, vec![0; 2]].concat();
        let (kernel, nic) = (Some(RealTime::from_ns(5)), Some(PhcTime::from_ns(6)));
        let first = matched(&mut awaited, &packet(2), None, nic).expect("it is awaited");
        assert_eq!((first.token, first.kernel, first.hardware), (TxToken(2), None, nic));
        assert_eq!(awaited.len(), 2, "the kernel's may still come");
        assert!(matched(&mut awaited, &packet(2), None, nic).is_none(), "each comes once");
        let second = matched(&mut awaited, &packet(2), kernel, None).expect("it is awaited");
        assert_eq!((second.token, second.kernel, second.hardware), (TxToken(2), kernel, None));
        assert_eq!(awaited.len(), 1);
        assert!(matched(&mut awaited, &packet(2), kernel, None).is_none());
        assert!(matched(&mut awaited, &packet(9), kernel, None).is_none(), "nobody's");
    }
}
