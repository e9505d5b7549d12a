//! Engines on one link, in memory: exact clocks, fixed delays, and a hand on every packet.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use crate::io::{PtpChannel, PtpLink, PtpPort, PtpTransmit, TxToken};
use crate::ptp::{Action, Counters, Engine, Finding, PortState, Quality, When};
use crate::settings::{DelayMechanism, PtpRole, PtpSettings};
use crate::stamps::Stamps;
use crate::time::{NS_PER_S, RawSpan, RawTime, TaiTime};

/// TAI when the world begins, ns.
pub(super) const EPOCH_NS: i64 = 1_800_000_000 * NS_PER_S;
pub(super) const PORT: PtpPort = PtpPort(0);

pub(super) const QUALITY: Quality = Quality {
    clock_class: 6,
    clock_accuracy: 0x22,
    time_source: 0x20,
    utc_offset_s: Some(37),
    leap: 1,
    is_traceable: true,
};

/// An engine with its raw clock, which is right but for where it began.
pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) raw_shift_ns: i64,
    /// Its stamps tell TAI.
    pub(super) has_bound: bool,
    /// Nothing reaches it, nothing leaves it.
    pub(super) is_cut: bool,
    /// Transmit stamps come so late; `None`: never.
    pub(super) stamp_lag_ns: Option<i64>,
    pub(super) findings: Vec<Finding>,
    rng: ChaCha12Rng,
}

type Wire = dyn FnMut(usize, &PtpTransmit) -> Vec<(i64, Vec<u8>)>;

enum Event {
    Arrival { to: usize, channel: PtpChannel, data: Vec<u8> },
    Stamp { node: usize, token: TxToken, left_ns: i64 },
}

pub(super) struct World {
    pub(super) now_ns: i64,
    pub(super) nodes: Vec<Node>,
    pub(super) sent: Vec<(i64, usize, PtpTransmit)>,
    /// One way, ns, by sender and receiver.
    pub(super) delay_ns: fn(usize, usize) -> i64,
    /// What becomes of a packet between two nodes: (delay beyond the usual, bytes), any number of times.
    pub(super) wire: Box<Wire>,
    queue: BTreeMap<(i64, u64), Event>,
    count: u64,
}

/// A port for tests: quick, so that a few seconds show everything.
pub(super) fn settings(role: PtpRole, delay: DelayMechanism) -> PtpSettings {
    PtpSettings { role, delay, log_sync: -3, log_delay: -3, log_announce: -1, ..PtpSettings::new("eth0") }
}

pub(super) fn identity(node: usize) -> [u8; 8] {
    let last = u8::try_from(node + 1).expect("few nodes");
    [2, 0, 0, 0xff, 0xfe, 0, 0, last]
}

impl Node {
    pub(super) fn counters(&self) -> &Counters {
        self.engine.counters(PORT)
    }

    pub(super) fn state(&self) -> PortState {
        self.engine.state(PORT)
    }
}

impl World {
    /// One node per set of ports, all ports linked; every master has a bound.
    pub(super) fn new(nodes: &[&[PtpSettings]]) -> Self {
        let mut world = World {
            now_ns: 0,
            nodes: Vec::new(),
            sent: Vec::new(),
            delay_ns: |from, _| if from == 0 { 1_000_000 } else { 3_000_001 },
            wire: Box::new(|_, packet| vec![(0, packet.data.clone())]),
            queue: BTreeMap::new(),
            count: 0,
        };
        for (index, ports) in nodes.iter().enumerate() {
            let mut engine = Engine::new(ports);
            engine.serve(Some(QUALITY));
            world.nodes.push(Node {
                engine,
                raw_shift_ns: 7 * NS_PER_S * (1 + i64::try_from(index).expect("few nodes")),
                has_bound: true,
                is_cut: false,
                stamp_lag_ns: Some(50_000),
                findings: Vec::new(),
                rng: ChaCha12Rng::seed_from_u64(index as u64),
            });
            for port in 0..ports.len() {
                world.link(index, port, true);
            }
        }
        world
    }

    pub(super) fn link(&mut self, node: usize, port: usize, is_up: bool) {
        let now = self.raw(node, self.now_ns);
        let link = is_up.then_some(PtpLink { identity: identity(node), phc: None });
        let Node { engine, rng, .. } = &mut self.nodes[node];
        engine.link(now, PtpPort(u16::try_from(port).expect("few ports")), link, rng);
        self.drain(node);
    }

    pub(super) fn raw(&self, node: usize, at_ns: i64) -> RawTime {
        RawTime::from_ns(at_ns + self.nodes[node].raw_shift_ns)
    }

    pub(super) fn when(&self, node: usize, at_ns: i64) -> When {
        let point = self.raw(node, at_ns);
        When {
            stamps: Stamps { user: RawSpan { early: point, late: point }, kernel: None, nic_error_ns: None },
            point,
            told: self.nodes[node].has_bound.then(|| TaiTime::from_ns(EPOCH_NS + at_ns)),
        }
    }

    /// Hands a packet to a node now.
    pub(super) fn deliver(&mut self, to: usize, channel: PtpChannel, data: &[u8]) {
        let now = self.raw(to, self.now_ns);
        let when = (channel == PtpChannel::Event).then(|| self.when(to, self.now_ns));
        self.nodes[to].engine.received(now, PORT, channel, data, when);
        self.drain(to);
    }

    pub(super) fn run_for(&mut self, ns: i64) {
        let end_ns = self.now_ns + ns;
        while let Some(next_ns) = self.next().filter(|next| *next <= end_ns) {
            assert!(next_ns >= self.now_ns || self.next_event().is_none(), "events lie ahead");
            self.now_ns = self.now_ns.max(next_ns);
            self.step();
        }
        self.now_ns = end_ns;
    }

    fn next_event(&self) -> Option<i64> {
        self.queue.keys().next().map(|(at_ns, _)| *at_ns)
    }

    fn next(&self) -> Option<i64> {
        let deadlines = self
            .nodes
            .iter()
            .filter_map(|node| node.engine.next_deadline().map(|deadline| deadline.as_ns() - node.raw_shift_ns));
        deadlines.chain(self.next_event()).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now_ns) {
            match entry.remove() {
                Event::Arrival { to, .. } if self.nodes[to].is_cut => {}
                Event::Arrival { to, channel, data } => self.deliver(to, channel, &data),
                Event::Stamp { node, token, left_ns } => {
                    let (now, when) = (self.raw(node, self.now_ns), self.when(node, left_ns));
                    let when = self.nodes[node].stamp_lag_ns.map(|_| when);
                    self.nodes[node].engine.sent(now, token, when);
                    self.drain(node);
                }
            }
        }
        for node in 0..self.nodes.len() {
            let now = self.raw(node, self.now_ns);
            self.nodes[node].engine.wake(now);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].engine.poll() {
            match action {
                Action::Found(_, finding) => self.nodes[node].findings.push(finding),
                Action::Transmit(packet) => self.transmit(node, packet),
            }
        }
    }

    fn transmit(&mut self, from: usize, packet: PtpTransmit) {
        if packet.channel == PtpChannel::Event {
            let lag_ns = self.nodes[from].stamp_lag_ns.unwrap_or(0);
            self.push(lag_ns, Event::Stamp { node: from, token: packet.token, left_ns: self.now_ns });
        }
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if self.nodes[from].is_cut {
                continue;
            }
            for (extra_ns, data) in (self.wire)(from, &packet) {
                let delay_ns = (self.delay_ns)(from, to) + extra_ns;
                self.push(delay_ns, Event::Arrival { to, channel: packet.channel, data });
            }
        }
        self.sent.push((self.now_ns, from, packet));
    }

    fn push(&mut self, delay_ns: i64, event: Event) {
        self.count += 1;
        self.queue.insert((self.now_ns + delay_ns, self.count), event);
    }
}
