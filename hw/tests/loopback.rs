//! Stamping sockets over the loopback interface, IPv4 and IPv6.
//!
//! Readiness is awaited with poll(2); a test waits for nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use truebound_core::time::{NS_PER_S, RealTime};
use truebound_hw::socket::{Batch, Datagram, Outgoing, SentStamp, StampSocket, StampSupport};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const TIMEOUT_MS: u16 = 2_000;

fn real_now() -> RealTime {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock");
    RealTime::from_ns(now.tv_sec() * NS_PER_S + now.tv_nsec())
}

/// The loopback addresses that this host has.
fn loopbacks() -> Vec<IpAddr> {
    let usable = |address: &IpAddr| match UdpSocket::bind((*address, 0)) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {address} cannot be bound: {error}");
            false
        }
    };
    [V4, V6].into_iter().filter(usable).collect()
}

fn pair(address: IpAddr) -> (StampSocket, StampSocket) {
    let server = StampSocket::server(SocketAddr::new(address, 0)).expect("a server socket");
    let client = StampSocket::client(server.local_addr().expect("bound")).expect("a client socket");
    (client, server)
}

/// "answer", from where the question was sent to, with a stamp.
fn answer_to(question: &Datagram<'_>) -> Outgoing<'static> {
    Outgoing { data: b"answer", to: Some(question.from), from: question.to, wants_stamp: true }
}

fn wait(socket: &StampSocket, events: PollFlags) {
    let mut fds = [PollFd::new(socket.as_fd(), events)];
    let ready = poll(&mut fds, PollTimeout::from(TIMEOUT_MS)).expect("poll");
    assert_eq!(ready, 1, "nothing within {TIMEOUT_MS} ms");
}

/// The transmit stamp of the datagram that ends in `payload`; waits for it.
fn sent_stamp(socket: &StampSocket, payload: &[u8]) -> Option<RealTime> {
    wait(socket, PollFlags::empty()); // POLLERR is always polled for
    let mut found = Vec::new();
    let count = socket
        .sent_stamps(&mut Batch::new(2), &mut |sent| {
            assert!(sent.packet.len() > payload.len(), "with headers");
            if sent.packet.ends_with(payload) {
                found.push(sent.kernel);
            }
        })
        .expect("error queue");
    assert_eq!((count, found.len(), socket.skipped()), (1, 1, 0));
    found[0]
}

#[test]
fn stamps_both_ways_bracket_the_packet() {
    for address in loopbacks() {
        let (client, server) = pair(address);
        if client.stamping() != (StampSupport { rx: true, tx: true }) {
            println!("skipped: no software stamps: {:?}", client.stamping());
            return;
        }
        let mut batch = Batch::new(4);
        // The kernel starts stamping receipts from a work queue: the first datagrams may lack the stamp.
        let stamped = (0_u64..1_000).find_map(|n| {
            let mut payload = [0x5a; 48];
            payload[40..].copy_from_slice(&(0xfeed_0000_0000_0000 | n).to_be_bytes());
            let before = real_now();
            client.send(&Outgoing::to_peer(&payload)).expect("send");
            let after = real_now();
            let sent = sent_stamp(&client, &payload).expect("a TX stamp");
            assert!(before <= sent && sent <= after, "{before:?} {sent:?} {after:?}");

            wait(&server, PollFlags::POLLIN);
            assert_eq!(server.receive(&mut batch).expect("receive"), 1);
            let datagram = batch.datagrams().next().expect("one");
            assert_eq!(datagram.data, payload);
            assert_eq!(datagram.from, client.local_addr().expect("connected"));
            assert_eq!(datagram.to, None, "it has one address only");
            assert!(!datagram.truncated);
            datagram.kernel.map(|received| (sent, received, real_now()))
        });
        let (sent, received, now) = stamped.expect("an RX stamp");
        assert!(sent <= received && received <= now, "{sent:?} {received:?} {now:?}");
    }
}

#[test]
fn a_server_answers_from_the_address_it_was_asked_at() {
    for address in loopbacks() {
        let (client, server) = pair(address);
        let mut batch = Batch::new(1);
        client.send(&Outgoing::to_peer(b"question")).expect("send");
        wait(&server, PollFlags::POLLIN);
        server.receive(&mut batch).expect("receive");
        let question = batch.datagrams().next().expect("one");
        server.send(&answer_to(&question)).expect("answer");
        if server.stamping().tx {
            assert!(sent_stamp(&server, b"answer").is_some());
        }

        // The client is connected to the address it asked: an answer from elsewhere would not arrive.
        let mut answers = Batch::new(1);
        wait(&client, PollFlags::POLLIN);
        // Without the question's own stamp in the way: POLLERR wakes as well.
        client.sent_stamps(&mut Batch::new(2), &mut |_| {}).expect("error queue");
        wait(&client, PollFlags::POLLIN);
        client.receive(&mut answers).expect("receive");
        let answer = answers.datagrams().next().expect("one");
        assert_eq!((answer.data, answer.from), (&b"answer"[..], server.local_addr().expect("bound")));
    }
}

#[test]
fn a_wildcard_server_knows_and_sets_the_local_address() {
    let server = StampSocket::server(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)).expect("a server socket");
    let port = server.local_addr().expect("bound").port();
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
    let client = StampSocket::client(SocketAddr::new(other, port)).expect("a client socket");
    client.send(&Outgoing::to_peer(b"question")).expect("send");
    let mut batch = Batch::new(1);
    wait(&server, PollFlags::POLLIN);
    server.receive(&mut batch).expect("receive");
    let question = batch.datagrams().next().expect("one");
    assert_eq!(question.to, Some(other));
    server.send(&answer_to(&question)).expect("answer");
    client.sent_stamps(&mut Batch::new(2), &mut |_| {}).expect("error queue");
    wait(&client, PollFlags::POLLIN);
    client.receive(&mut batch).expect("receive");
    assert_eq!(batch.datagrams().next().expect("one").from, SocketAddr::new(other, port));
}

#[test]
fn a_batch_receives_several_datagrams_in_order() {
    for address in loopbacks() {
        let (client, server) = pair(address);
        for n in 0..10_u8 {
            client.send(&Outgoing::to_peer(&[n; 20])).expect("send");
        }
        let mut batch = Batch::new(4);
        assert_eq!(batch.capacity(), 4);
        let mut received = Vec::new();
        while received.len() < 10 {
            wait(&server, PollFlags::POLLIN);
            let count = server.receive(&mut batch).expect("receive");
            assert!((1..=4).contains(&count) && batch.datagrams().count() == count);
            received.extend(batch.datagrams().map(|datagram| datagram.data[0]));
        }
        assert_eq!(received, (0..10).collect::<Vec<u8>>());
        let error = server.receive(&mut batch).expect_err("drained");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.datagrams().count(), 0, "nothing stale after an error");
        let stamps = client.sent_stamps(&mut Batch::new(2), &mut |_| {}).expect("error queue");
        assert_eq!(stamps, if client.stamping().tx { 10 } else { 0 });
    }
}

#[test]
fn a_batch_leaves_in_order_and_past_what_cannot_leave() {
    for address in loopbacks() {
        let server = StampSocket::server(SocketAddr::new(unspecified(address), 0)).expect("a server socket");
        let port = server.local_addr().expect("bound").port();
        let client = StampSocket::unstamped_client(SocketAddr::new(address, port)).expect("a client socket");
        let to = client.local_addr().expect("connected");
        let foreign: IpAddr = if address.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().expect("an address");
        let payloads: Vec<[u8; 4]> = (0..50).map(|n| [n; 4]).collect();
        // The kernel refuses a source that is not ours; the library one of the other family.
        let other = if address.is_ipv4() { V6 } else { V4 };
        let source = |n: usize| match n {
            0 | 20 | 49 => foreign,
            21 | 33 => other,
            _ => address,
        };
        let datagrams: Vec<Outgoing<'_>> = (0..50)
            .map(|n| Outgoing { data: &payloads[n], to: Some(to), from: Some(source(n)), wants_stamp: false })
            .collect();
        let expected: Vec<usize> = (0..50).filter(|&n| source(n) == address).collect();
        assert_eq!(server.send_many(&datagrams), expected, "{address}");
        let mut batch = Batch::new(64);
        let mut received = Vec::new();
        while received.len() < expected.len() {
            wait(&client, PollFlags::POLLIN);
            client.receive(&mut batch).expect("receive");
            received.extend(batch.datagrams().map(|datagram| usize::from(datagram.data[0])));
        }
        assert_eq!(received, expected);
        assert!(server.send_many(&[]).is_empty());
    }
}

fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[test]
fn a_server_stamps_what_asks_for_it_and_nothing_else() {
    for address in loopbacks() {
        let (client, server) = pair(address);
        if !server.stamping().tx {
            println!("skipped: no software stamps: {:?}", server.stamping());
            return;
        }
        let to = client.local_addr().expect("connected");
        let payloads: Vec<[u8; 48]> = (0..40).map(|n| [n; 48]).collect();
        let asks = |n: usize| n % 3 == 1;
        let datagrams: Vec<Outgoing<'_>> = (0..40)
            .map(|n| Outgoing { data: &payloads[n], to: Some(to), from: Some(address), wants_stamp: asks(n) })
            .collect();
        let before = real_now();
        assert_eq!(server.send_many(&datagrams).len(), 40);
        let after = real_now();
        let (mut stamped, mut batch) = (Vec::new(), Batch::new(4));
        while stamped.len() < 13 {
            wait(&server, PollFlags::empty());
            let visit = &mut |sent: SentStamp<'_>| {
                let at = sent.kernel.expect("a stamp");
                assert!(before <= at && at <= after, "{before:?} {at:?} {after:?}");
                stamped.push(usize::from(*sent.packet.last().expect("a payload")));
            };
            server.sent_stamps(&mut batch, visit).expect("error queue");
        }
        assert_eq!(stamped, (0..40).filter(|&n| asks(n)).collect::<Vec<usize>>());
        assert_eq!(server.skipped(), 0);
    }
}

#[test]
fn an_oversized_datagram_says_that_it_was_cut() {
    let (client, server) = pair(V4);
    client.send(&Outgoing::to_peer(&[7; 1_025])).expect("send");
    client.send(&Outgoing::to_peer(&[8; 1_024])).expect("send");
    let mut batch = Batch::new(2);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        wait(&server, PollFlags::POLLIN);
        server.receive(&mut batch).expect("receive");
        seen.extend(batch.datagrams().map(|datagram| (datagram.data.len(), datagram.data[0], datagram.truncated)));
    }
    assert_eq!(seen, [(1_024, 7, true), (1_024, 8, false)]);
    if client.stamping().tx {
        assert_eq!(
            client.sent_stamps(&mut Batch::new(2), &mut |_| panic!("no tail to match")).expect("error queue"),
            0
        );
        assert_eq!(client.skipped(), 2);
    }
}

#[test]
fn a_refused_datagram_is_an_error() {
    for address in loopbacks() {
        // Connected to itself, this socket takes nothing from anybody else, and nobody else takes its port.
        let deaf = UdpSocket::bind((address, 0)).expect("a free port");
        let port = deaf.local_addr().expect("bound");
        deaf.connect(port).expect("connect");
        let client = StampSocket::client(port).expect("a client socket");
        client.send(&Outgoing::to_peer(b"anybody there?")).expect("send");
        client.sent_stamps(&mut Batch::new(2), &mut |_| {}).expect("error queue");
        wait(&client, PollFlags::POLLIN);
        let error = client.receive(&mut Batch::new(2)).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }
}

#[test]
fn an_address_in_use_is_an_error() {
    let (_client, server) = pair(V4);
    let error = StampSocket::server(server.local_addr().expect("bound")).expect_err("in use");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_source_that_is_not_ours_is_an_error() {
    for address in loopbacks() {
        let (_client, server) = pair(address);
        let to = server.local_addr().expect("bound");
        for source in ["192.0.2.1", "2001:db8::1"] {
            let source = source.parse().expect("an address");
            assert!(
                server.send(&Outgoing { to: Some(to), from: Some(source), ..Outgoing::to_peer(b"x") }).is_err(),
                "{address} from {source}"
            );
        }
    }
}
