//! A small deterministic world for the core: hosts with their own raw clock and CLOCK_REALTIME, links with queues and
//! losses, real agents at both ends, and a checker that knows the truth.
//!
//! True time is TAI in ns, an `i64` that only the world sees. Everything that happens is an entry of one queue, ordered
//! by (true time, sequence); all chance comes from one seeded generator; so a seed is a run.
//!
//! A host is single-threaded: while it works its own cursor runs ahead of the world (every clock reading and every
//! system call takes time), and whatever happens to it meanwhile waits until it is done.

#![allow(dead_code, reason = "each test crate uses its part of the world")]

mod checker;
mod clock;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use truebound_core::Agent;
use truebound_core::event::Event;
use truebound_core::io::{AssociationId, HostState, Input, Output, Received, SocketId, Transmit};
use truebound_core::leap::LeapTable;
use truebound_core::settings::{Prefix, ServerSettings, Settings, SourceKind, SourceSettings};
use truebound_core::time::{RawTime, RealTime};

pub(crate) use checker::Checker;
pub(crate) use clock::{ClockSpec, Realtime};

pub(crate) const US: i64 = 1_000;
pub(crate) const MS: i64 = 1_000_000;
pub(crate) const S: i64 = 1_000_000_000;
/// TAI − UTC in every world: the leap table knows no leap after 2017.
pub(crate) const TAI_UTC_NS: i64 = 37 * S;
/// 2026-12-01T00:00:00Z.
pub(crate) const TODAY_UNIX_S: i64 = 1_796_083_200;
const NTP_PORT: u16 = 123;
/// Association n of a host sends from this port + n.
const CLIENT_PORTS: u16 = 10_000;
/// Reads of every page: at random, on average this far apart.
const READ_EVERY_NS: i64 = 5 * MS;

/// splitmix64: short, seedable, good enough for a world.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In [low, high).
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.unit() * (high - low).max(1) as f64) as i64
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with mean 1, by von Neumann's comparisons: no logarithm, so equal on every machine.
    pub(crate) fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut run) = (first, 1);
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                (last, run) = (next, run + 1);
            }
            if run % 2 == 1 {
                return whole + first;
            }
            whole += 1.0;
        }
    }
}

/// One direction between two hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Delay of a packet that meets no queue.
    pub(crate) base_ns: i64,
    /// Mean of the exponential queueing delay, where there is any.
    pub(crate) queue_ns: i64,
    /// Probability of meeting a queue.
    pub(crate) queueing: f64,
    pub(crate) loss: f64,
    /// Probability of a second copy, some ms later.
    pub(crate) duplication: f64,
    /// Probability of being overtaken by the next polls: up to two seconds late.
    pub(crate) straggling: f64,
}

impl Link {
    pub(crate) const IDLE: Link =
        Link { base_ns: 50 * US, queue_ns: 0, queueing: 0.0, loss: 0.0, duplication: 0.0, straggling: 0.0 };
    pub(crate) const LOADED: Link = Link { queue_ns: 300 * US, queueing: 0.7, ..Link::IDLE };
    pub(crate) const DOWN: Link = Link { loss: 1.0, ..Link::IDLE };

    fn delay(&self, rng: &mut Rng) -> i64 {
        let queue = if rng.chance(self.queueing) { rng.exponential() * self.queue_ns as f64 } else { 0.0 };
        let straggle = if rng.chance(self.straggling) { rng.between(0, 2 * S) } else { 0 };
        self.base_ns + queue as i64 + straggle
    }
}

/// What the kernel and the scheduler of a host do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostSpec {
    pub(crate) clock: ClockSpec,
    /// CLOCK_REALTIME − UTC at the start.
    pub(crate) realtime_error_ns: i64,
    /// Rate of CLOCK_REALTIME against raw time, as adjtimex(2) says.
    pub(crate) realtime_ppb: i64,
    /// Probability that a transmit or receive stamp of the kernel is there.
    pub(crate) tx_stamps: f64,
    pub(crate) rx_stamps: f64,
    /// The transmit stamp comes in a second [`Input::Sent`].
    pub(crate) is_stamp_late: bool,
    /// From the send call to the kernel's stamp: a slow server.
    pub(crate) send_ns: i64,
    /// From arrival to the process: mean of an exponential.
    pub(crate) wake_ns: i64,
    /// Its page is read and checked.
    pub(crate) is_checked: bool,
}

impl HostSpec {
    /// A server whose raw time runs true: a root can promise its error for ever.
    pub(crate) const ROOT: HostSpec = HostSpec {
        clock: ClockSpec::PERFECT,
        realtime_error_ns: 0,
        realtime_ppb: 0,
        tx_stamps: 1.0,
        rx_stamps: 1.0,
        is_stamp_late: false,
        send_ns: 2 * US,
        wake_ns: 10 * US,
        is_checked: false,
    };
    /// A host with a common crystal.
    pub(crate) const CLIENT: HostSpec =
        HostSpec { clock: ClockSpec::ppm(23), realtime_error_ns: 3 * MS, is_checked: true, ..HostSpec::ROOT };
}

/// One host.
pub(crate) struct Host {
    pub(crate) agent: Agent,
    pub(crate) address: IpAddr,
    pub(crate) spec: HostSpec,
    pub(crate) clock: truebound_client::VirtualClock,
    pub(crate) realtime: Realtime,
    pub(crate) state: HostState,
    pub(crate) checker: Checker,
    pub(crate) events: Vec<(i64, Event)>,
    /// Everything that came out, when it is recorded.
    pub(crate) outputs: Vec<String>,
    pub(crate) is_recorded: bool,
    /// True time until which it is busy.
    busy_until: i64,
    wake_generation: u64,
}

impl Host {
    /// Its raw time at true time `t`.
    pub(crate) fn raw(&self, t: i64) -> RawTime {
        RawTime::from_ns(self.clock.at(t))
    }

    fn real(&self, t: i64) -> RealTime {
        RealTime::from_ns(self.realtime.at(self.clock.at(t)))
    }

    /// How often an event of this kind happened.
    pub(crate) fn count(&self, is_meant: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is_meant(event)).count()
    }
}

/// A datagram on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Vec<u8>,
}

enum Happening {
    /// The process wakes for its deadline, unless a newer one was set.
    Wake { host: usize, generation: u64 },
    /// A datagram reaches the kernel.
    Arrive { host: usize, flight: Flight },
    /// The process receives it.
    Deliver { host: usize, flight: Flight, kernel: Option<RealTime> },
    /// A name was looked up.
    Resolved { host: usize, source: u32, addresses: Vec<SocketAddr> },
    /// Somebody reads the pages.
    Read,
}

/// Looks at every datagram that leaves, and may change it.
pub(crate) type Tamper = Box<dyn FnMut(&mut Flight)>;

/// See the module's page.
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) rng: Rng,
    pub(crate) tamper: Option<Tamper>,
    /// Addresses by name.
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    start: i64,
    links: BTreeMap<(usize, usize), Link>,
    queue: BTreeMap<(i64, u64), Happening>,
    sequence: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        World::starting_at(seed, TODAY_UNIX_S)
    }

    pub(crate) fn starting_at(seed: u64, unix_s: i64) -> Self {
        let start = unix_s * S + TAI_UTC_NS;
        let mut world = World {
            now: start,
            hosts: Vec::new(),
            rng: Rng::new(seed),
            tamper: None,
            names: BTreeMap::new(),
            start,
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
        };
        world.schedule(start, Happening::Read);
        world
    }

    /// Starts a host; its number is the last byte of its address.
    pub(crate) fn add(&mut self, spec: HostSpec, settings: Settings) -> usize {
        let index = self.hosts.len();
        let boot_ns = self.rng.between(100 * S, 10_000 * S);
        let phase = self.rng.unit();
        let clock = spec.clock.start(self.now, boot_ns, phase);
        let raw = RawTime::from_ns(clock.at(self.now));
        let mut seed = [0; 32];
        seed.fill_with(|| self.rng.next() as u8);
        let realtime = Realtime::new(raw.as_ns(), self.now - TAI_UTC_NS + spec.realtime_error_ns, spec.realtime_ppb);
        let state = HostState { clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0", suspended_ns: 0 };
        self.hosts.push(Host {
            agent: Agent::new(raw, settings, seed),
            address: address(index),
            spec,
            clock,
            realtime,
            state,
            checker: Checker::default(),
            events: Vec::new(),
            outputs: Vec::new(),
            is_recorded: false,
            busy_until: self.now,
            wake_generation: 0,
        });
        self.input(index, Input::Host(state));
        index
    }

    /// Sets both directions between two hosts.
    pub(crate) fn connect(&mut self, a: usize, b: usize, there: Link, back: Link) {
        self.links.insert((a, b), there);
        self.links.insert((b, a), back);
    }

    /// Seconds since the start.
    pub(crate) fn elapsed_s(&self) -> f64 {
        (self.now - self.start) as f64 * 1e-9
    }

    /// Lets `ns` pass.
    pub(crate) fn run(&mut self, ns: i64) {
        let end = self.now + ns;
        while let Some(entry) = self.queue.first_entry() {
            let at = entry.key().0;
            if at > end {
                break;
            }
            let happening = entry.remove();
            self.now = self.now.max(at);
            self.happen(happening);
        }
        self.now = end;
    }

    pub(crate) fn run_s(&mut self, s: i64) {
        self.run(s * S);
    }

    /// Lets time pass until `is_done` or `limit_s` are over; says when, in s since the start.
    pub(crate) fn run_until(&mut self, limit_s: i64, is_done: impl Fn(&World) -> bool) -> Option<f64> {
        let end = self.now + limit_s * S;
        while self.now < end {
            if is_done(self) {
                return Some(self.elapsed_s());
            }
            self.run(20 * MS);
        }
        None
    }

    /// Hands an input to a host, now or as soon as it is free.
    pub(crate) fn input(&mut self, host: usize, input: Input<'_>) {
        let mut t = self.now.max(self.hosts[host].busy_until);
        self.handle(host, t, input);
        self.drain(host, &mut t);
    }

    // ---- what scenarios do to a host ------------------------------------------------------------------------------

    /// Steps CLOCK_REALTIME; timerfd notices or does not.
    pub(crate) fn step_realtime(&mut self, host: usize, ns: i64, is_noticed: bool) {
        let t = self.when_free(host);
        let host = &mut self.hosts[host];
        host.realtime.step(host.clock.at(t), ns, is_noticed);
    }

    /// Changes the rate of CLOCK_REALTIME against raw time.
    pub(crate) fn slew_realtime(&mut self, host: usize, ppb: i64) {
        let t = self.when_free(host);
        let host = &mut self.hosts[host];
        host.realtime.slew(host.clock.at(t), ppb);
    }

    /// The host sleeps: raw time stands still, CLOCK_REALTIME does not.
    pub(crate) fn suspend(&mut self, index: usize, ns: i64) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        host.clock.offset_ns -= ns;
        host.realtime.real_ns += ns;
        host.busy_until = t + ns;
        host.state.suspended_ns += ns;
        let state = host.state;
        self.input(index, Input::Host(state));
    }

    /// Raw time goes on from here with another crystal.
    pub(crate) fn change_clocksource(&mut self, index: usize, spec: ClockSpec) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        host.clock = spec.start(t, host.clock.at(t), 0.0);
        host.state.clocksource = *b"hpet\0\0\0\0\0\0\0\0\0\0\0\0";
        let state = host.state;
        self.input(index, Input::Host(state));
    }

    /// Moves the world on until the host has nothing in hand, so that a change does not rewrite its past.
    fn when_free(&mut self, host: usize) -> i64 {
        while self.hosts[host].busy_until > self.now {
            self.run(self.hosts[host].busy_until - self.now);
        }
        self.now
    }

    // ---- what happens ---------------------------------------------------------------------------------------------

    fn schedule(&mut self, at: i64, happening: Happening) {
        self.queue.insert((at, self.sequence), happening);
        self.sequence += 1;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { host, generation } => {
                if self.hosts[host].wake_generation == generation {
                    self.input(host, Input::Wakeup);
                }
            }
            Happening::Arrive { host, flight } => self.arrive(host, flight),
            Happening::Deliver { host, flight, kernel } => self.deliver(host, &flight, kernel),
            Happening::Resolved { host, source, addresses } => {
                self.input(host, Input::Resolved { source, addresses });
            }
            Happening::Read => {
                for host in &mut self.hosts {
                    let t = self.now.max(host.busy_until);
                    host.checker.read(t, host.clock.at(t), host.state.suspended_ns);
                }
                let next = self.now + self.rng.between(1, 2 * READ_EVERY_NS);
                self.schedule(next, Happening::Read);
            }
        }
    }

    fn arrive(&mut self, index: usize, flight: Flight) {
        let host = &self.hosts[index];
        let has_stamp = self.rng.chance(host.spec.rx_stamps);
        let kernel = has_stamp.then(|| host.real(self.now));
        let wake = 2 * US + (self.rng.exponential() * host.spec.wake_ns as f64) as i64;
        self.schedule(self.now + wake, Happening::Deliver { host: index, flight, kernel });
    }

    fn deliver(&mut self, index: usize, flight: &Flight, kernel: Option<RealTime>) {
        let mut t = self.now.max(self.hosts[index].busy_until);
        let user_after = self.hosts[index].raw(t);
        self.cross(index, &mut t);
        let port = flight.to.port();
        let socket = match port {
            NTP_PORT => SocketId::Server(0),
            _ => SocketId::Client(AssociationId(u32::from(port - CLIENT_PORTS))),
        };
        let (from, to) = (flight.from, Some(flight.to.ip()));
        let received = Received { socket, from, to, data: &flight.data, kernel, user_after };
        self.handle(index, t, Input::Received(received));
        self.drain(index, &mut t);
    }

    fn handle(&mut self, index: usize, t: i64, input: Input<'_>) {
        let host = &mut self.hosts[index];
        let now = host.raw(t);
        host.agent.handle(now, input);
    }

    /// RAW, REALTIME, RAW.
    fn cross(&mut self, index: usize, t: &mut i64) {
        let host = &mut self.hosts[index];
        let before = host.raw(*t);
        *t += self.rng.between(15, 25);
        let real = host.real(*t);
        *t += self.rng.between(15, 25);
        let after = host.raw(*t).plus_ns(1);
        *t += 10;
        let reading = host.realtime.reading(before, real, after);
        self.handle(index, *t, Input::CrossStamped(reading));
    }

    /// Does what the agent wants done.
    fn drain(&mut self, index: usize, t: &mut i64) {
        loop {
            let output = self.hosts[index].agent.poll();
            if self.hosts[index].is_recorded {
                let record = match &output {
                    Output::Transmit(transmit) => format!("{transmit:?} {:?}", transmit.data.as_slice()),
                    other => format!("{other:?}"),
                };
                self.hosts[index].outputs.push(record);
            }
            match output {
                Output::Transmit(transmit) => self.transmit(index, t, &transmit),
                Output::ReadCross => self.cross(index, t),
                Output::Resolve { source, host, port } => {
                    let addresses = self.names.get(&host).map_or(&[][..], Vec::as_slice);
                    let addresses = addresses.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
                    self.schedule(*t + MS, Happening::Resolved { host: index, source, addresses });
                }
                Output::Close(_) | Output::Steer(_) => {}
                Output::Publish(publication) => {
                    let host = &mut self.hosts[index];
                    if host.spec.is_checked {
                        let raw = [host.clock.at(*t - 1), host.clock.at(*t)];
                        host.checker.publish(*t, raw, host.state.suspended_ns, *publication);
                    }
                    *t += 100;
                }
                Output::Event(event) => self.hosts[index].events.push((*t, event)),
                Output::WakeAt(deadline) => {
                    self.sleep_until(index, *t, deadline);
                    return;
                }
            }
        }
    }

    fn sleep_until(&mut self, index: usize, t: i64, deadline: RawTime) {
        let latency = self.rng.between(US, 60 * US);
        let host = &mut self.hosts[index];
        host.busy_until = t;
        host.wake_generation += 1;
        let generation = host.wake_generation;
        if deadline < RawTime::MAX {
            let at = clock::when(&host.clock, deadline.as_ns()).max(t) + latency;
            self.schedule(at, Happening::Wake { host: index, generation });
        }
    }

    fn transmit(&mut self, index: usize, t: &mut i64, transmit: &Transmit) {
        self.cross(index, t);
        let spec = self.hosts[index].spec;
        let user_before = self.hosts[index].raw(*t);
        *t += spec.send_ns + self.rng.between(200, 2_000);
        let kernel = self.rng.chance(spec.tx_stamps).then(|| self.hosts[index].real(*t));
        *t += self.rng.between(100, 2_000);
        self.fly(index, *t, transmit);
        *t += self.rng.between(200, 1_500);
        let user_after = self.hosts[index].raw(*t);
        if spec.is_stamp_late || kernel.is_none() {
            let input = Input::Sent { token: transmit.token, user_before, user_after, kernel: None };
            self.handle(index, *t, input);
        }
        if kernel.is_some() {
            self.cross(index, t);
            let user_after = self.hosts[index].raw(*t);
            self.handle(index, *t, Input::Sent { token: transmit.token, user_before, user_after, kernel });
        }
    }

    fn fly(&mut self, from: usize, t: i64, transmit: &Transmit) {
        let Some(to) = self.hosts.iter().position(|host| host.address == transmit.to.ip()) else { return };
        let port = match transmit.socket {
            SocketId::Server(_) => NTP_PORT,
            SocketId::Client(id) => CLIENT_PORTS + id.0 as u16,
        };
        let source = SocketAddr::new(self.hosts[from].address, port);
        let mut flight = Flight { from: source, to: transmit.to, data: transmit.data.as_slice().to_vec() };
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut flight);
        }
        let link = self.links.get(&(from, to)).copied().unwrap_or(Link::IDLE);
        let copies = 1 + usize::from(self.rng.chance(link.duplication));
        for copy in 0..copies {
            if self.rng.chance(link.loss) {
                continue;
            }
            let later = if copy == 0 { 0 } else { self.rng.between(0, 20 * MS) };
            // The receiver's kernel stamps a little after the wire.
            let at = t + link.delay(&mut self.rng) + later + self.rng.between(200, 2_000);
            self.schedule(at, Happening::Arrive { host: to, flight: flight.clone() });
        }
    }
}

/// The address of host `index`.
pub(crate) fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, index as u8))
}

/// An isolated root: its CLOCK_REALTIME plus `shift_ns`, wrong by at most `error_ns`. It answers everybody.
pub(crate) fn root(shift_ns: i64, error_ns: i64) -> Settings {
    let kind = SourceKind::Local { shift_ns, error_ns };
    Settings { sources: vec![SourceSettings::new("clock", kind)], ..serving() }
}

/// Answers everybody.
pub(crate) fn serving() -> Settings {
    let everybody = Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), bits: 0 };
    let server = ServerSettings { listen: Vec::new(), allow: vec![everybody], deny: Vec::new() };
    Settings { server: Some(server), ..basis() }
}

/// Follows these sources.
pub(crate) fn following(sources: &[SourceSettings]) -> Settings {
    Settings { sources: sources.to_vec(), ..basis() }
}

/// The defaults, with a list of leap seconds that reaches into the next century, and the operator's word that the
/// oscillator is of its class whatever the kernel calls its clocksource.
fn basis() -> Settings {
    let leap = LeapTable::parse("#@ 6311433600\n2272060800 10\n3692217600 37\n").expect("a list of leap seconds");
    Settings { leap, oscillator_is_stated: true, ..Settings::default() }
}

/// Host `index` as a source, believed to the nanosecond: no floor, the exact claim.
pub(crate) fn source(index: usize) -> SourceSettings {
    let kind = SourceKind::Server { host: address(index).to_string(), port: NTP_PORT };
    let name = format!("s{index}");
    SourceSettings { agent: true, claim_floor_ns: Some(0), ..SourceSettings::new(name, kind) }
}

/// A pool of up to `count` addresses.
pub(crate) fn pool(name: &str, count: u8) -> SourceSettings {
    let kind = SourceKind::Pool { host: name.to_owned(), port: NTP_PORT, count };
    SourceSettings { agent: true, claim_floor_ns: Some(0), ..SourceSettings::new(name, kind) }
}

impl World {
    /// The process dies and another one starts, with the page's bound or without.
    pub(crate) fn restart(&mut self, index: usize, settings: Settings, keeps_page: bool) {
        let t = self.when_free(index);
        let mut seed = [0; 32];
        seed.fill_with(|| self.rng.next() as u8);
        let host = &mut self.hosts[index];
        host.agent = Agent::new(host.raw(t), settings, seed);
        let restored =
            host.checker.page.as_ref().map(|page| Input::Restored { bound: Some(page.bound), epoch: page.epoch });
        let state = host.state;
        if let Some(restored) = restored.filter(|_| keeps_page) {
            self.handle(index, t, restored);
        }
        self.input(index, Input::Host(state));
    }

    /// Cuts a host off, or lets it back.
    pub(crate) fn cut(&mut self, index: usize, is_cut: bool) {
        for other in 0..self.hosts.len() {
            let link = if is_cut { Link::DOWN } else { Link::IDLE };
            self.connect(index, other, link, link);
        }
    }

    /// What host `index` believes now.
    pub(crate) fn report(&self, index: usize) -> truebound_core::report::AgentReport {
        let host = &self.hosts[index];
        host.agent.report(host.raw(self.now.max(host.busy_until)))
    }

    pub(crate) fn checker(&self, index: usize) -> &Checker {
        &self.hosts[index].checker
    }

    pub(crate) fn checker_mut(&mut self, index: usize) -> &mut Checker {
        &mut self.hosts[index].checker
    }
}
