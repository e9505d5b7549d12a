//! The world: hosts with their own raw clock and CLOCK_REALTIME, paths with queues and losses, real agents at both ends,
//! and a checker that knows the truth.
//!
//! True time is TAI in ns, an `i64` that only the world sees. Everything that happens is an entry of one queue, ordered
//! by (true time, sequence); every host and every path has a stream of chance of its own, forked from one seed; so a seed
//! is a run.

mod action;
mod exchange;
mod flight;
mod host;
mod mesh;
mod pages;
mod queue;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use truebound_core::Agent;
use truebound_core::estimate::Exchange;
use truebound_core::io::{AssociationId, HostState, Input};
use truebound_core::report::AgentReport;
use truebound_core::settings::Settings;

pub use action::{Action, Change};
pub use flight::{Bytes, Flight, Shift};
pub use host::{Host, HostSpec};
pub use mesh::mesh;
pub use pages::Pages;
pub use settings::{address, basis, following, pool, root, serving, source};

use crate::checker::Checker;
use crate::link::{Link, LinkSpec};
use crate::oscillator::Oscillator;
use crate::realtime::Realtime;
use crate::rng::Rng;
use host::Readers;
use queue::{Queue, What};

/// One microsecond, ns.
pub const US: i64 = 1_000;
/// One millisecond, ns.
pub const MS: i64 = 1_000_000;
/// One second, ns.
pub const NS_PER_S: i64 = 1_000_000_000;
/// TAI − UTC in every world: the leap table knows no leap after 2017.
pub const TAI_UTC_NS: i64 = 37 * NS_PER_S;
/// 2026-12-01T00:00:00Z.
pub const TODAY_UNIX_S: i64 = 1_796_083_200;
/// Where servers listen.
pub const NTP_PORT: u16 = 123;
/// Streams of chance: hosts, readers and paths.
const HOSTS: u64 = 1 << 40;
const READERS: u64 = 2 << 40;
const PATHS: u64 = 3 << 40;

/// Looks at every datagram that leaves, and may change it.
pub type Tamper = Box<dyn FnMut(&mut Flight)>;

/// One direction between two hosts.
struct Path {
    link: Link,
    /// Somebody holds every packet back, ns.
    delay_ns: i64,
    /// Or drops it, with this probability.
    drop: f64,
    rng: Rng,
}

/// See the module's page.
pub struct World {
    /// True time, ns.
    pub now: i64,
    /// The hosts, by number.
    pub hosts: Vec<Host>,
    /// Chance for whoever drives the world.
    pub rng: Rng,
    /// Looks at every datagram.
    pub tamper: Option<Tamper>,
    /// Addresses by name.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Pages of hosts added from now on are read at random, this far apart on average.
    pub read_every_ns: i64,
    /// And their estimates compared with the truth this often.
    pub sample_every_ns: i64,
    /// What lies between two hosts that were never connected.
    pub default_link: LinkSpec,
    start: i64,
    seed: Rng,
    paths: Vec<Path>,
    queue: Queue,
}

impl World {
    /// A world of today.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        World::starting_at(seed, TODAY_UNIX_S)
    }

    /// A world that begins at this Unix time.
    #[must_use]
    pub fn starting_at(seed: u64, unix_s: i64) -> Self {
        let start = unix_s * NS_PER_S + TAI_UTC_NS;
        World {
            now: start,
            hosts: Vec::new(),
            rng: Rng::new(seed).fork(0),
            tamper: None,
            names: BTreeMap::new(),
            read_every_ns: NS_PER_S,
            sample_every_ns: NS_PER_S,
            default_link: LinkSpec { base_us: 50.0, ..LinkSpec::default() },
            start,
            seed: Rng::new(seed),
            paths: Vec::new(),
            queue: Queue::default(),
        }
    }

    /// Starts a host; its number is its address.
    pub fn add(&mut self, spec: HostSpec, settings: Settings) -> usize {
        let index = self.hosts.len();
        let mut rng = self.seed.fork(HOSTS | index as u64);
        let boot_ns = rng.between(100 * NS_PER_S, 10_000 * NS_PER_S);
        let mut clock = Oscillator::new(&spec.oscillator, self.now, boot_ns, rng.fork(1));
        let raw = clock.at(self.now);
        let mut seed = [0; 32];
        seed.fill_with(|| rng.next() as u8);
        let realtime = Realtime::new(raw, self.now - TAI_UTC_NS + spec.realtime_error_ns, spec.realtime_ppb);
        let realtime_ppb = spec.realtime_ppb;
        let state = HostState { clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0", ..HostState::default() };
        let readers = Readers {
            rng: self.seed.fork(READERS | index as u64),
            every_ns: self.read_every_ns,
            next: self.now,
            sample_every_ns: self.sample_every_ns,
            next_sample: self.now + self.sample_every_ns,
        };
        self.hosts.push(Host {
            name: format!("h{index}"),
            agent: Agent::new(truebound_core::time::RawTime::from_ns(raw), settings.clone(), seed),
            spec,
            settings,
            clock,
            realtime,
            monotonic: Realtime::new(raw, raw, realtime_ppb),
            has_rival: false,
            told: None,
            state,
            checker: Checker::default(),
            pages: None,
            events: Vec::new(),
            outputs: Vec::new(),
            is_recorded: false,
            digest: 0xcbf2_9ce4_8422_2325,
            probes: 0,
            started: self.now,
            boots: 0,
            is_tapped: false,
            rng,
            busy_until: self.now,
            wake_generation: 0,
            is_cut: false,
            last_left: i64::MIN,
            last_stamp: None,
            shift: None,
            smears: false,
            paths: Vec::new(),
            asleep: (0, 0),
            readers,
        });
        self.input(index, Input::Host(state));
        index
    }

    /// Sets both directions between two hosts.
    pub fn connect(&mut self, a: usize, b: usize, there: &LinkSpec, back: &LinkSpec) {
        self.change(a, b, &Change::Link(there.clone()));
        self.change(b, a, &Change::Link(back.clone()));
    }

    /// The path between two hosts.
    fn path(&mut self, from: usize, to: usize) -> usize {
        let paths = &mut self.hosts[from].paths;
        match paths.binary_search_by_key(&(to as u32), |&(to, _)| to) {
            Ok(found) => paths[found].1 as usize,
            Err(place) => {
                paths.insert(place, (to as u32, self.paths.len() as u32));
                let rng = self.seed.fork(PATHS | (from as u64) << 20 | to as u64);
                let link = Link::new(&self.default_link, rng.fork(1));
                self.paths.push(Path { link, delay_ns: 0, drop: 0.0, rng });
                self.paths.len() - 1
            }
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        (self.now - self.start) as f64 * 1e-9
    }

    /// True time at the start, ns.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Lets `ns` pass.
    pub fn run(&mut self, ns: i64) {
        let end = self.now + ns;
        while let Some((at, what)) = self.queue.pop_until(end) {
            self.now = self.now.max(at);
            self.happen(what);
        }
        self.now = end;
        for host in &mut self.hosts {
            host.catch_up(end);
        }
    }

    /// Lets so many seconds pass.
    pub fn run_s(&mut self, s: i64) {
        self.run(s * NS_PER_S);
    }

    /// Lets time pass until `is_done` or `limit_s` are over; says when, in s since the start.
    pub fn run_until(&mut self, limit_s: i64, is_done: impl Fn(&World) -> bool) -> Option<f64> {
        let end = self.now + limit_s * NS_PER_S;
        while self.now < end {
            if is_done(self) {
                return Some(self.elapsed_s());
            }
            self.run(20 * MS);
        }
        None
    }

    /// Lets something befall a host at true time `at`.
    pub fn act_at(&mut self, at: i64, host: usize, action: Action) {
        self.queue.act(at, host, action);
    }

    /// Lets something befall a path at true time `at`.
    pub fn change_at(&mut self, at: i64, from: usize, to: usize, change: Change) {
        self.queue.change(at, from, to, change);
    }

    /// Hands an input to a host, now or as soon as it is free.
    pub fn input(&mut self, host: usize, input: Input<'_>) {
        let mut t = self.now.max(self.hosts[host].busy_until);
        self.hosts[host].catch_up(t);
        self.handle(host, t, input);
        self.drain(host, &mut t);
    }

    /// Moves the world on until the host has nothing in hand, so that a change does not rewrite its past, and lets its
    /// readers read.
    fn when_free(&mut self, host: usize) -> i64 {
        while self.hosts[host].busy_until > self.now {
            self.run(self.hosts[host].busy_until - self.now);
        }
        self.hosts[host].catch_up(self.now);
        self.now
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Wake { host, generation } => {
                if self.hosts[host as usize].wake_generation == generation {
                    self.input(host as usize, Input::Wakeup);
                }
            }
            What::Arrive { host, packet } => self.arrive(host as usize, packet),
            What::Deliver { host, packet } => self.deliver(host as usize, packet),
            What::Resolved { slot } => {
                let (host, source, addresses) = self.queue.resolved(slot);
                self.input(host, Input::Resolved { source, addresses });
            }
            What::Act { slot } => {
                let host = self.queue.actor(slot);
                let busy_until = self.hosts[host].busy_until;
                if busy_until > self.now {
                    self.queue.push(busy_until, What::Act { slot });
                } else {
                    let action = self.queue.action(slot);
                    self.act(host, &action);
                }
            }
            What::Change { slot } => {
                let (from, to, change) = self.queue.changed(slot);
                self.change(from, to, &change);
            }
        }
    }

    /// What host `index` believes now.
    #[must_use]
    pub fn report(&self, index: usize) -> AgentReport {
        let host = &self.hosts[index];
        let raw = host.clock.known(self.now.max(host.busy_until));
        host.agent.report(truebound_core::time::RawTime::from_ns(raw))
    }

    /// From now on the agent of host `index` keeps the exchanges that its estimators take.
    pub fn tap(&mut self, index: usize) {
        self.hosts[index].is_tapped = true;
        self.hosts[index].agent.tap();
    }

    /// Those exchanges since the last call; empty without [`World::tap`].
    pub fn take_exchanges(&mut self, index: usize) -> Vec<(AssociationId, Exchange)> {
        self.hosts[index].agent.take_exchanges()
    }

    /// The judge of host `index`.
    #[must_use]
    pub fn checker(&self, index: usize) -> &Checker {
        &self.hosts[index].checker
    }

    /// The same, to plant faults.
    pub fn checker_mut(&mut self, index: usize) -> &mut Checker {
        &mut self.hosts[index].checker
    }

    /// The host of this name.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|host| host.name == name)
    }

    /// A digest of everything that came out of every agent.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let words = self.hosts.iter().map(|host| host.digest);
        words.fold(0, |digest: u64, word| digest.rotate_left(7).wrapping_mul(0x0100_0000_01b3) ^ word)
    }

    fn resolve(&mut self, at: i64, host: usize, source: u32, name: &str, port: u16) {
        let addresses = self.names.get(name).map_or(&[][..], Vec::as_slice);
        let addresses = addresses.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        self.queue.resolve(at, host, source, addresses);
    }
}
