//! Hostile bytes: a million mutated packets through a client with pending requests and through a responder. Nothing
//! panics, and what does not know a cookie changes nothing but a counter of discarded datagrams.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "worlds are small: ns of some years and probabilities"
)]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use truebound_core::Agent;
use truebound_core::io::{AssociationId, Input, Output, Received, SocketId};
use truebound_core::report::AgentReport;
use truebound_core::time::{RawTime, RealTime};
use truebound_sim::link::LinkSpec;
use truebound_sim::rng::Rng;
use truebound_sim::world::{Flight, HostSpec, MS, NS_PER_S as S, US, World, address, following, root, source};

const SEED: u64 = 0x7275_6562_6f75_6e64;
/// Half of them to the client, half to the responder.
const PACKETS: usize = 1_000_000;
/// Reports are compared this often: they cost more than the packet.
const COMPARED_EVERY: usize = 64;
const ORIGIN: std::ops::Range<usize> = 24..32;

/// A client and its server after some exchanges, and every datagram between them.
struct Scene {
    world: World,
    client: usize,
    server: usize,
    corpus: Vec<Flight>,
    now: RawTime,
}

fn scene() -> Scene {
    let mut world = World::new(SEED);
    let server = world.add(HostSpec::ROOT, root(0, 20 * US));
    let client = world.add(HostSpec::CLIENT, following(&[source(server)]));
    let seen: Rc<RefCell<Vec<Flight>>> = Rc::default();
    let tap = Rc::clone(&seen);
    world.tamper = Some(Box::new(move |flight| tap.borrow_mut().push(*flight)));
    world.run_s(10);
    // From here on requests stay pending: the answers are lost, but heard by the attacker.
    let idle = LinkSpec { base_us: 50.0, ..LinkSpec::default() };
    world.connect(server, client, &LinkSpec { loss: 1.0, ..idle.clone() }, &idle);
    world.run_s(3);
    let corpus = seen.borrow().clone();
    assert!(corpus.len() > 20);
    let now = world.hosts[client].raw(world.now);
    Scene { world, client, server, corpus, now }
}

/// Bit flips, truncations, splices, noise; sometimes the packet as it was.
fn mutate(rng: &mut Rng, corpus: &[Flight]) -> Vec<u8> {
    let pick = |rng: &mut Rng| corpus[rng.below(corpus.len())].data.to_vec();
    let mut data = pick(rng);
    match rng.below(8) {
        0 => {}
        1 => data.truncate(rng.below(data.len() + 1)),
        2 => {
            let other = pick(rng);
            let cut = rng.below(data.len().min(other.len()));
            data.truncate(cut);
            data.extend_from_slice(&other[cut..]);
        }
        3 => {
            data = vec![0; rng.below(200)];
            data.fill_with(|| rng.next() as u8);
        }
        4 => {
            for _ in 0..rng.below(64) {
                data.push(rng.next() as u8);
            }
        }
        5 => {
            // A field set to one of its ends.
            let at = 8 * rng.below(data.len() / 8);
            let value = [0, u8::MAX, 0x80, 0x7f][rng.below(4)];
            data[at..at + 8].fill(value);
        }
        _ => {
            for _ in 0..=rng.below(8) {
                let at = rng.below(data.len());
                data[at] ^= 1 << rng.below(8);
            }
        }
    }
    data
}

/// Hands over a datagram and drains; the outputs as text, if they are wanted.
fn receive(agent: &mut Agent, now: RawTime, received: Received<'_>, wants_text: bool) -> Vec<String> {
    agent.handle(now, Input::Received(received));
    let mut outputs = Vec::new();
    loop {
        let output = agent.poll();
        let is_last = matches!(output, Output::WakeAt(_));
        if wants_text {
            outputs.push(format!("{output:?}"));
        }
        if is_last {
            return outputs;
        }
    }
}

/// What may differ after a datagram that proves nothing: the counters of discarded ones.
fn without_discards(mut report: AgentReport) -> AgentReport {
    for source in &mut report.sources {
        source.counters.discarded = Default::default();
    }
    report
}

fn discards(report: &AgentReport) -> u64 {
    report.sources.iter().flat_map(|source| source.counters.discarded).sum()
}

/// A datagram from the server without a kernel stamp.
fn to_client<'a>(scene: &Scene, data: &'a [u8], at: RawTime) -> Received<'a> {
    let from = SocketAddr::new(address(scene.server), 123);
    let to = Some(address(scene.client));
    Received {
        socket: SocketId::Client(AssociationId(0)),
        from,
        to,
        data,
        kernel: None,
        hardware: None,
        user_after: at,
    }
}

#[test]
fn nothing_that_knows_no_cookie_changes_the_client() {
    println!("seed {SEED:#x}");
    let mut scene = scene();
    let mut rng = Rng::new(SEED);
    // Whoever heard the requests on the wire knows their cookies; this one did not.
    let mut known: Vec<[u8; 8]> = Vec::new();
    for flight in scene.corpus.iter().filter(|flight| flight.to.port() == 123) {
        known.extend([32, 40].map(|at| <[u8; 8]>::try_from(&flight.data[at..at + 8]).expect("a whole packet")));
    }
    let from = SocketAddr::new(address(scene.server), 123);
    let now = scene.now;
    let deadline = receive_nothing(&mut scene, now);
    let quiet = without_discards(scene.world.hosts[scene.client].agent.report(now));
    let mut reached = 0;
    for k in 0..PACKETS / 2 {
        let mut data = mutate(&mut rng, &scene.corpus);
        if data.len() >= ORIGIN.end && known.iter().any(|cookie| *cookie == data[ORIGIN]) {
            data[ORIGIN.start + rng.below(8)] ^= 1 << rng.below(8);
            reached += 1;
        }
        let kernel = rng.chance(0.5).then(|| RealTime::from_ns(rng.next().cast_signed()));
        let socket = SocketId::Client(AssociationId(if rng.chance(0.99) { 0 } else { rng.next() as u32 }));
        let from = if rng.chance(0.99) { from } else { SocketAddr::new(address(rng.below(256)), 123) };
        let received = Received { socket, from, to: None, data: &data, kernel, hardware: None, user_after: now };
        let agent = &mut scene.world.hosts[scene.client].agent;
        let is_compared = k % COMPARED_EVERY == 0;
        let outputs = receive(agent, now, received, is_compared);
        if is_compared {
            assert_eq!(outputs, deadline, "packet {k}: {data:02x?}");
            assert_eq!(without_discards(agent.report(now)), quiet, "packet {k}: {data:02x?}");
        }
    }
    assert!(reached > 10_000, "only {reached} packets were answers but for their origin");
    let report = scene.world.hosts[scene.client].agent.report(now);
    assert_eq!(without_discards(report.clone()), quiet);
    assert!(discards(&report) > PACKETS as u64 / 4, "{:?}", report.sources[0].counters);
}

/// What comes out of an input that means nothing at `now`.
fn receive_nothing(scene: &mut Scene, now: RawTime) -> Vec<String> {
    let received = to_client(scene, &[], now);
    receive(&mut scene.world.hosts[scene.client].agent, now, received, true)
}

#[test]
fn an_attacker_who_knows_the_cookies_panics_nothing() {
    // On-path, so no promise about the bound (it may even forbid us to ask); but the agent stays up.
    println!("seed {SEED:#x}");
    let mut scene = scene();
    let mut rng = Rng::new(SEED);
    let client = scene.client;
    let heard: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let tap = Rc::clone(&heard);
    scene.world.tamper = Some(Box::new(move |flight| {
        if flight.to.port() == 123 {
            tap.borrow_mut().push(flight.data.to_vec());
        }
    }));
    let from = SocketAddr::new(address(scene.server), 123);
    for _ in 0..300 {
        scene.world.run(500 * MS);
        let now = scene.world.hosts[client].raw(scene.world.now).plus_ns(MS);
        for request in heard.borrow_mut().drain(..) {
            for cookie in [40, 32] {
                let mut data = mutate(&mut rng, &scene.corpus);
                if data.len() >= ORIGIN.end {
                    data[ORIGIN].copy_from_slice(&request[cookie..cookie + 8]);
                    data[0] = data[0] & 0xc0 | 0x24;
                }
                let kernel = rng.chance(0.5).then(|| RealTime::from_ns(rng.next().cast_signed()));
                let socket = SocketId::Client(AssociationId(0));
                let received =
                    Received { socket, from, to: None, data: &data, kernel, hardware: None, user_after: now };
                receive(&mut scene.world.hosts[client].agent, now, received, false);
                let _ = scene.world.hosts[client].agent.report(now);
            }
        }
    }
}

#[test]
fn replays_change_nothing() {
    println!("seed {SEED:#x}");
    let mut scene = scene();
    let now = scene.now;
    let deadline = receive_nothing(&mut scene, now);
    let quiet = without_discards(scene.world.hosts[scene.client].agent.report(now));
    // All that were accepted once: those before the link went down.
    let answers: Vec<Flight> = scene.corpus.iter().filter(|flight| flight.from.port() == 123).copied().collect();
    let pending = 4;
    assert!(answers.len() > 2 * pending);
    for answer in &answers[..answers.len() - pending] {
        let received = to_client(&scene, &answer.data, now);
        let agent = &mut scene.world.hosts[scene.client].agent;
        assert_eq!(receive(agent, now, received, true), deadline);
        assert_eq!(without_discards(agent.report(now)), quiet);
    }
    // The last ones are still expected: each counts once, and a copy of it never.
    let last = &answers[answers.len() - 1];
    let later = now.plus_ns(US);
    let received = to_client(&scene, &last.data, later);
    let agent = &mut scene.world.hosts[scene.client].agent;
    receive(agent, later, received, false);
    let once = agent.report(later);
    assert_eq!(once.sources[0].counters.answers, quiet.sources[0].counters.answers + 1);
    for _ in 0..3 {
        receive(agent, later, received, false);
        assert_eq!(without_discards(agent.report(later)), without_discards(once.clone()));
    }
}

#[test]
fn nothing_panics_the_responder() {
    println!("seed {SEED:#x}");
    let mut scene = scene();
    let mut rng = Rng::new(!SEED);
    let now = scene.world.hosts[scene.server].raw(scene.world.now);
    let client = SocketAddr::new(address(scene.client), 10_000);
    let before = scene.world.hosts[scene.server].agent.report(now);
    let mut answered = 0;
    for k in 0..PACKETS / 2 {
        let data = mutate(&mut rng, &scene.corpus);
        let kernel = rng.chance(0.5).then(|| RealTime::from_ns(rng.next().cast_signed()));
        let received = Received {
            socket: SocketId::Server(0),
            from: client,
            to: None,
            data: &data,
            kernel,
            hardware: None,
            user_after: now,
        };
        let agent = &mut scene.world.hosts[scene.server].agent;
        agent.handle(now, Input::Received(received));
        loop {
            match agent.poll() {
                Output::Transmit(answer) => {
                    answered += 1;
                    assert_eq!(answer.to, client, "an answer goes where the request came from");
                    // No amplification: an answer is at most as long as its request.
                    assert!(answer.data.as_slice().len() <= data.len().max(48), "packet {k}: {data:02x?}");
                    assert_eq!(answer.data.as_slice()[0] & 7, 4, "packet {k}");
                    let (user_before, user_after) = (now, now.plus_ns(rng.between(0, 1_000)));
                    let kernel = rng.chance(0.5).then(|| RealTime::from_ns(rng.next().cast_signed()));
                    agent.handle(
                        now,
                        Input::Sent { token: answer.token, user_before, user_after, kernel, hardware: None },
                    );
                }
                Output::WakeAt(_) => break,
                _ => {}
            }
        }
        if k % COMPARED_EVERY == 0 {
            let report = agent.report(now);
            assert_eq!((report.status, report.epoch, report.bound), (before.status, before.epoch, before.bound));
        }
    }
    let counters = scene.world.hosts[scene.server].agent.report(now).server.expect("it serves");
    println!("{counters:?}");
    assert!(answered > 50_000, "{answered}");
}

#[test]
fn strangers_are_not_answered() {
    let mut scene = scene();
    let now = scene.world.hosts[scene.server].raw(scene.world.now);
    let settings = {
        let mut settings = root(0, 20 * US);
        if let Some(server) = &mut settings.server {
            server.allow[0].address = IpAddr::from([10, 0, 0, 0]);
            server.allow[0].bits = 8;
        }
        settings
    };
    scene.world.input(scene.server, Input::Reconfigured(Box::new(settings)));
    let request = scene.corpus.iter().find(|flight| flight.to.port() == 123).expect("requests");
    let now = now.plus_ns(S / 100);
    for (ip, is_answered) in [([10, 1, 2, 3], true), ([192, 0, 2, 1], false)] {
        let from = SocketAddr::new(IpAddr::from(ip), 123);
        let socket = SocketId::Server(0);
        let received =
            Received { socket, from, to: None, data: &request.data, kernel: None, hardware: None, user_after: now };
        let outputs = receive(&mut scene.world.hosts[scene.server].agent, now, received, true);
        assert_eq!(outputs.iter().any(|output| output.starts_with("Transmit")), is_answered, "{from}");
    }
}
