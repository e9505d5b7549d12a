//! PTP sockets and interfaces, on loopback and on a veth pair, in network namespaces that the test makes for itself.
//!
//! Where namespaces are not permitted, or `ip` is missing, the test says so and passes. Nothing outside is touched.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::time::{ClockId, clock_gettime};
use truebound_core::io::PtpChannel;
use truebound_core::settings::PtpTransport;
use truebound_core::time::{NS_PER_S, RealTime};
use truebound_hw::hwtstamp::{HardwareStamps, Refusal};
use truebound_hw::nic::{Interface, Kind, LinkState, clock_identity};
use truebound_hw::phc;
use truebound_hw::ptp_socket::{PtpSocket, carries};
use truebound_hw::socket::Batch;

const TRANSPORTS: [PtpTransport; 3] = [PtpTransport::Udp4, PtpTransport::Udp6, PtpTransport::Ethernet];
const TIMEOUT_MS: u16 = 2_000;
/// The kernel starts stamping receipts from a work queue: the first messages may lack the stamp.
const MAX_MESSAGES: u16 = 1_000;

/// Runs `test` on a thread in a network namespace of its own.
fn in_namespace(test: fn() -> Result<(), String>) {
    let outcome = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no network namespace: {error}"))?;
        ip("link set lo up")?;
        test()
    });
    if let Err(reason) = outcome.join().expect("the test") {
        println!("skipped: {reason}");
    }
}

/// Runs `ip` in the calling thread's namespace.
fn ip(arguments: &str) -> Result<(), String> {
    let ran = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip {arguments}: {status}")),
        Err(error) => Err(format!("ip: {error}")),
    }
}

fn here() -> File {
    File::open("/proc/thread-self/ns/net").expect("a namespace")
}

fn enter(namespace: &File) {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("a namespace of ours");
}

/// A veth pair between this namespace and a new one, with addresses; gives both namespaces.
fn veth_pair() -> Result<[File; 2], String> {
    let near = here();
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
    let far = here();
    enter(&near);
    let far_path = format!("/proc/{}/fd/{}", std::process::id(), far.as_raw_fd());
    ip(&format!("link add tbhw0 type veth peer name tbhw1 netns {far_path}"))?;
    for (namespace, name, host) in [(&near, "tbhw0", 1), (&far, "tbhw1", 2)] {
        enter(namespace);
        ip(&format!("link set {name} addrgenmode none"))?;
        ip(&format!("link set {name} up"))?;
        ip(&format!("addr add 192.0.2.{host}/24 dev {name}"))?;
        ip(&format!("addr add fe80::{host}/64 dev {name} nodad"))?;
    }
    Ok([near, far])
}

fn real_now() -> RealTime {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock");
    RealTime::from_ns(now.tv_sec() * NS_PER_S + now.tv_nsec())
}

/// A Sync or (`is_general`) a Follow_Up, of which only type, version, length and number matter here.
fn message(is_general: bool, sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0; 44];
    bytes[..4].copy_from_slice(&[if is_general { 8 } else { 0 }, 2, 0, 44]);
    bytes[20..30].copy_from_slice(&[2, 0, 0, 0xff, 0xfe, 0, 0, 1, 0, 1]);
    bytes[30..32].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// An end of a link: the sockets of one port.
struct End {
    transport: PtpTransport,
    event: PtpSocket,
    general: PtpSocket,
    batch: Batch,
}

impl End {
    fn open(interface: &str, transport: PtpTransport) -> End {
        let interface = Interface::new(interface).expect("a name");
        let open = |channel| PtpSocket::open(&interface, transport, channel, true).expect("a socket");
        let [event, general] = [PtpChannel::Event, PtpChannel::General].map(open);
        End { transport, event, general, batch: Batch::new(8) }
    }

    /// Over Ethernet everything comes in through one socket.
    fn receiver(&self, is_general: bool) -> &PtpSocket {
        if is_general && self.transport != PtpTransport::Ethernet { &self.general } else { &self.event }
    }

    /// The next messages: their channel, kernel stamp and bytes. Waits.
    fn receive(&mut self, is_general: bool) -> Vec<(PtpChannel, Option<RealTime>, Vec<u8>)> {
        wait(self.receiver(is_general), PollFlags::POLLIN);
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(1));
        let socket = self.receiver(is_general);
        socket.receive(&mut batch).expect("there is one");
        let all = socket.messages(&batch).map(|message| {
            assert_eq!(message.hardware, None);
            (message.channel, message.kernel, message.data.to_vec())
        });
        let all = all.collect();
        self.batch = batch;
        all
    }

    /// The kernel's stamp of what was sent; waits for it.
    fn sent_stamp(&self, sent: &[u8]) -> RealTime {
        wait(&self.event, PollFlags::empty()); // POLLERR is always polled for
        let mut found = Vec::new();
        let visit = &mut |stamp: truebound_hw::socket::SentStamp<'_>| {
            assert!(stamp.packet.len() > sent.len(), "with headers");
            assert_eq!(stamp.hardware, None);
            found.extend(stamp.kernel.filter(|_| carries(stamp.packet, sent)));
        };
        // General messages are not stamped.
        assert_eq!(self.event.sent_stamps(visit).expect("error queue"), 1);
        assert_eq!((found.len(), self.event.skipped()), (1, 0));
        found[0]
    }
}

fn wait(socket: &PtpSocket, events: PollFlags) {
    let mut fds = [PollFd::new(socket.as_fd(), events)];
    assert_eq!(poll(&mut fds, PollTimeout::from(TIMEOUT_MS)), Ok(1), "nothing within {TIMEOUT_MS} ms");
}

/// Sends event messages from one end to the other until one has both stamps, and checks what both ends make of them.
fn exchange(from: &mut End, to: &mut End, is_link_local: bool) {
    if !from.event.stamping().tx || !to.event.stamping().rx {
        println!("skipped: no software stamps");
        return;
    }
    let has_both = (0..MAX_MESSAGES).any(|sequence| {
        let sent = message(false, sequence);
        let before = real_now();
        from.event.send(&sent, is_link_local).expect("send");
        let left = from.sent_stamp(&sent);
        let received = to.receive(false);
        let after = real_now();
        let [(channel, arrived, data)] = received.as_slice() else { panic!("one message: {received:?}") };
        assert_eq!((*channel, &data[..44]), (PtpChannel::Event, sent.as_slice()));
        assert!(before <= left && left <= after, "{before:?} {left:?} {after:?}");
        assert!(arrived.is_none_or(|arrived| left <= arrived && arrived <= after), "{left:?} {arrived:?} {after:?}");
        arrived.is_some()
    });
    assert!(has_both, "no receive stamp in {MAX_MESSAGES} messages");

    let general = message(true, 7);
    from.general.send(&general, is_link_local).expect("send");
    let received = to.receive(true);
    let [(channel, _, data)] = received.as_slice() else { panic!("one message: {received:?}") };
    assert_eq!((*channel, &data[..44]), (PtpChannel::General, general.as_slice()));
    // Nobody stamps what nobody asks the stamp of.
    assert_eq!(from.general.sent_stamps(&mut |_| {}).expect("error queue"), 0);
    // Nobody hears himself.
    let mut batch = Batch::new(1);
    for socket in [&from.event, &from.general] {
        assert!(socket.receive(&mut batch).is_err(), "its own message came back");
    }
}

#[test]
fn all_transports_carry_messages_both_ways_over_a_veth_pair() {
    in_namespace(|| {
        let [near, far] = veth_pair()?;
        for transport in TRANSPORTS {
            enter(&near);
            let mut one = End::open("tbhw0", transport);
            enter(&far);
            let mut other = End::open("tbhw1", transport);
            println!("{transport:?}");
            for is_link_local in [false, true] {
                exchange(&mut one, &mut other, is_link_local);
                exchange(&mut other, &mut one, is_link_local);
            }
        }
        Ok(())
    });
}

#[test]
fn two_ports_of_one_interface_hear_the_same() {
    in_namespace(|| {
        let [near, far] = veth_pair()?;
        for transport in TRANSPORTS {
            enter(&near);
            let one = End::open("tbhw0", transport);
            enter(&far);
            let mut others = [End::open("tbhw1", transport), End::open("tbhw1", transport)];
            one.event.send(&message(false, 1), false).expect("send");
            for other in &mut others {
                assert_eq!(other.receive(false).len(), 1, "{transport:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn ipv4_and_ethernet_work_on_loopback() {
    in_namespace(|| {
        // IPv6 has no route for multicast there.
        for transport in [PtpTransport::Udp4, PtpTransport::Ethernet] {
            let mut end = End::open("lo", transport);
            let sent = message(false, 3);
            // Loopback brings back what is sent, whatever IP_MULTICAST_LOOP says.
            end.event.send(&sent, false).expect("send");
            let received = end.receive(false);
            assert!(received.iter().any(|(_, _, data)| data.starts_with(&sent)), "{transport:?} {received:?}");
            end.sent_stamp(&sent);
        }
        Ok(())
    });
}

#[test]
fn a_veth_says_what_it_is_and_that_it_stamps_in_software_only() {
    in_namespace(|| {
        let [near, far] = veth_pair()?;
        enter(&near);
        let veth = Interface::new("tbhw0").expect("a name");
        let facts = veth.facts().expect("it is there");
        let mac = facts.mac.expect("Ethernet");
        assert_eq!((facts.kind, facts.driver.as_deref(), facts.is_bond_member), (Kind::Veth, Some("veth"), false));
        assert_eq!(facts.link, LinkState { is_up: true, is_running: true });
        assert_eq!(clock_identity(mac)[3..5], [0xff, 0xfe]);
        let caps = veth.stamp_caps().expect("it tells");
        assert!(caps.software_rx() && caps.software_tx() && !caps.hardware(), "{caps:?}");
        assert_eq!(caps.phc, None);
        let refused = HardwareStamps::enable(veth, &caps, PtpTransport::Udp4);
        assert!(matches!(refused, Err(Refusal::Incapable)), "{refused:?}");

        // The carrier goes with the other end's.
        enter(&far);
        ip("link set tbhw1 down")?;
        enter(&near);
        let veth = Interface::new("tbhw0").expect("a name");
        assert_eq!(veth.link_state().expect("it is there"), LinkState { is_up: true, is_running: false });
        ip("link del tbhw0")?;
        assert!(veth.index().is_err() && PtpSocket::open(&veth, PtpTransport::Udp4, PtpChannel::Event, false).is_err());
        Ok(())
    });
}

#[test]
fn loopback_says_what_it_is() {
    in_namespace(|| {
        let lo = Interface::new("lo").expect("a name");
        let facts = lo.facts().expect("it is there");
        assert_eq!((facts.kind, facts.mac), (Kind::Loopback, Some([0; 6])));
        assert!(facts.link.is_running);
        let caps = lo.stamp_caps().expect("it tells");
        assert!(caps.software_rx() && !caps.hardware() && caps.phc.is_none(), "{caps:?}");
        Ok(())
    });
}

#[test]
fn vlans_and_bonds_are_known() {
    in_namespace(|| {
        let [near, _far] = veth_pair()?;
        enter(&near);
        let kind = |name| Interface::new(name).expect("a name").facts().expect("it is there").kind;
        for (add, name, want) in [
            ("link add link tbhw0 name tbhw0.5 type vlan id 5", "tbhw0.5", Kind::Vlan { below: Some("tbhw0".into()) }),
            ("link add tbhw2 type bond", "tbhw2", Kind::Bond),
            ("link add tbhw3 type bridge", "tbhw3", Kind::Bridge),
        ] {
            match ip(add) {
                Ok(()) => assert_eq!(kind(name), want),
                Err(reason) => println!("skipped: {reason}"),
            }
        }
        Ok(())
    });
}

#[test]
fn every_clock_that_is_listed_can_be_read_against_raw_time() {
    let clock = truebound_hw::clock::HostClock::new(None, false);
    for id in phc::list() {
        let Ok(phc) = phc::Phc::open(id) else {
            println!("skipped: {id:?} cannot be opened");
            continue;
        };
        let before = clock.raw_now();
        let reading = clock.cross_phc(&phc).expect("it can be read");
        let after = clock.raw_now();
        assert!(before.plus_ns(-2) <= reading.cross.before && reading.cross.after <= after.plus_ns(2), "{reading:?}");
        println!("{id:?}: {:?} {:?} {reading:?}", phc::clock_name(id), phc.method());
    }
}
