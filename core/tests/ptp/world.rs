//! A small world for PTP: hosts with crystals, NICs with clocks of their own, one link, true time known exactly.
//!
//! True time t is TAI in ns. A host's raw time is (t − boot)·(1 + f); its NIC's clock and CLOCK_REALTIME are functions of
//! t as well. Hosts do what a shell does: clocks are read against raw time before a message is sent and after a stamp
//! came, and only then is the stamp handed in.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use truebound_client::page::Publication;
use truebound_core::Agent;
use truebound_core::event::Event;
use truebound_core::io::{
    CrossReading, HardwareStamp, HostState, Input, KernelRate, Output, PhcId, PhcReading, PtpChannel, PtpLink, PtpPort,
    PtpReceived, PtpTransmit, Received, Setting, SocketId, Steer, Transmit, TxToken,
};
use truebound_core::settings::Settings;
use truebound_core::time::{PhcTime, RawTime, RealTime};

/// 2026-01-01T00:00:37 TAI.
pub(crate) const EPOCH: i64 = 1_767_225_637_000_000_000;
pub(crate) const S: i64 = 1_000_000_000;
pub(crate) const US: i64 = 1_000;
/// What two readings of raw time around one of a PHC take.
const WINDOW_NS: i64 = 154;
const REAL_WINDOW_NS: i64 = 60;
/// Messages remembered for forgers.
const OVERHEARD: usize = 32;

/// How long a message takes: from a host to another, of `bytes`, by chance.
pub(crate) type Delay = Box<dyn FnMut(usize, usize, &mut ChaCha12Rng) -> i64>;
/// May change a message in flight, or drop it: from, to, bytes.
pub(crate) type Meddler = Box<dyn FnMut(usize, usize, &mut Vec<u8>, &mut ChaCha12Rng) -> bool>;

pub(crate) struct Host {
    pub(crate) agent: Agent,
    boot: i64,
    /// Frequency error of raw time.
    freq: f64,
    /// The NIC's clock at EPOCH and its frequency error; `None`: no NIC clock.
    pub(crate) phc: Option<(i64, f64)>,
    phc_dialled_ppb: i64,
    address: IpAddr,
    is_dead: bool,
    wake_generation: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) page: Option<Publication>,
    /// Publications, by true time.
    pub(crate) published: Vec<(i64, Publication)>,
}

impl Host {
    pub(crate) fn raw(&self, t: i64) -> RawTime {
        let since = (t - self.boot) as f64;
        RawTime::from_ns(t - self.boot + (since * self.freq).floor() as i64)
    }

    fn when(&self, raw: RawTime) -> i64 {
        let ns = raw.as_ns() as f64 / (1.0 + self.freq);
        self.boot.saturating_add(ns.ceil().min(9e18) as i64)
    }

    pub(crate) fn phc_at(&self, t: i64) -> PhcTime {
        let (at_epoch, freq) = self.phc.expect("a NIC with a clock");
        let since = (t - EPOCH) as f64;
        PhcTime::from_ns(at_epoch + (t - EPOCH) + (since * freq).round() as i64)
    }

    /// True θ at t: TAI − raw.
    pub(crate) fn theta(&self, t: i64) -> i64 {
        t - self.raw(t).as_ns()
    }

    fn real(t: i64) -> RealTime {
        RealTime::from_ns(t - 37 * S)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake { host: usize, generation: u64 },
    Message { to: usize, channel: PtpChannel, data: Vec<u8>, arrived: i64 },
    Stamped { host: usize, token: u64, before: i64, left: i64 },
    Datagram { to: usize, socket: SocketId, from: SocketAddr, data: Vec<u8>, arrived: i64 },
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: i64,
    queue: BinaryHeap<Reverse<(i64, u64, What)>>,
    order: u64,
    rng: ChaCha12Rng,
    pub(crate) delay: Delay,
    pub(crate) meddle: Meddler,
    /// The last messages sent, for whoever wants to forge some.
    pub(crate) overheard: Vec<(PtpChannel, Vec<u8>)>,
    /// One transmit stamp in so many does not come; 0: all come.
    pub(crate) lost_stamps: u32,
    /// CLOCK_REALTIME is read for something else between a message's arrival and its being fetched.
    pub(crate) is_busy: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World {
            hosts: Vec::new(),
            now: EPOCH,
            queue: BinaryHeap::new(),
            order: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
            delay: Box::new(|_, _, _| 2 * US),
            meddle: Box::new(|_, _, _, _| true),
            overheard: Vec::new(),
            lost_stamps: 0,
            is_busy: false,
        }
    }

    /// A host whose crystal is off by `ppm` and whose NIC's clock shows `phc` = (offset from true time, its ppm).
    pub(crate) fn host(&mut self, settings: Settings, ppm: f64, phc: Option<(i64, f64)>) -> usize {
        let index = self.hosts.len();
        let boot = self.now - 1000 * S;
        let raw = RawTime::from_ns(((self.now - boot) as f64 * (1.0 + ppm * 1e-6)) as i64);
        let ports = settings.ptp.len();
        let host = Host {
            agent: Agent::new(raw, settings, [index as u8 + 1; 32]),
            boot,
            freq: ppm * 1e-6,
            phc: phc.map(|(offset, ppm)| (EPOCH + offset, ppm * 1e-6)),
            phc_dialled_ppb: 0,
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, index as u8 + 1)),
            is_dead: false,
            wake_generation: 0,
            events: Vec::new(),
            page: None,
            published: Vec::new(),
        };
        self.hosts.push(host);
        let mut t = self.now;
        self.handle(
            index,
            t,
            Input::Host(HostState { clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0", ..HostState::default() }),
        );
        self.drain(index, &mut t);
        for port in 0..ports {
            let identity = [2, 0, 0, 0xff, 0xfe, 0, 0, index as u8 + 1];
            let link = Some(PtpLink { identity, phc: self.hosts[index].phc.map(|_| PhcId(index as u32)) });
            self.cross(index, &mut t);
            self.handle(index, t, Input::Link { port: PtpPort(port as u16), link });
            self.drain(index, &mut t);
        }
        index
    }

    /// The operator changed the configuration; ports that changed lose their link meanwhile.
    pub(crate) fn reload(&mut self, index: usize, settings: Settings) {
        let mut t = self.now;
        let has_changed = settings.ptp != self.hosts[index].agent.settings().ptp;
        let identity = [2, 0, 0, 0xff, 0xfe, 0, 0, index as u8 + 1];
        let link = Some(PtpLink { identity, phc: self.hosts[index].phc.map(|_| PhcId(index as u32)) });
        if has_changed {
            self.handle(index, t, Input::Link { port: PtpPort(0), link: None });
        }
        self.handle(index, t, Input::Reconfigured(Box::new(settings)));
        self.drain(index, &mut t);
        self.cross(index, &mut t);
        if has_changed {
            self.handle(index, t, Input::Link { port: PtpPort(0), link });
        }
        self.drain(index, &mut t);
    }

    /// The host slept, and its NIC's clock was set by `phc_ns` meanwhile.
    pub(crate) fn suspend(&mut self, index: usize, phc_ns: i64) {
        if let Some((at_epoch, _)) = &mut self.hosts[index].phc {
            *at_epoch += phc_ns;
        }
        let mut t = self.now;
        let host =
            HostState { clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0", suspended_ns: 1, ..HostState::default() };
        self.handle(index, t, Input::Host(host));
        self.drain(index, &mut t);
    }

    pub(crate) fn kill(&mut self, index: usize) {
        self.hosts[index].is_dead = true;
    }

    pub(crate) fn revive(&mut self, index: usize) {
        self.hosts[index].is_dead = false;
        let mut t = self.now;
        self.handle(index, t, Input::Wakeup);
        self.drain(index, &mut t);
    }

    /// Hands a message to a host as if it had come from the link now, stamped now.
    pub(crate) fn inject(&mut self, to: usize, channel: PtpChannel, data: &[u8]) {
        let (host, mut t) = (&self.hosts[to], self.now);
        let is_event = channel == PtpChannel::Event;
        let stamp = |_| HardwareStamp { phc: PhcId(to as u32), time: host.phc_at(t - US) };
        let hardware = host.phc.filter(|_| is_event).map(stamp);
        let kernel = is_event.then(|| Host::real(t - US / 2));
        let received = PtpReceived { port: PtpPort(0), channel, data, kernel, hardware, user_after: host.raw(t) };
        self.handle(to, t, Input::PtpReceived(received));
        self.drain(to, &mut t);
    }

    fn push(&mut self, at: i64, what: What) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, what)));
    }

    fn handle(&mut self, index: usize, t: i64, input: Input<'_>) {
        let now = self.hosts[index].raw(t);
        self.hosts[index].agent.handle(now, input);
    }

    /// Runs until true time `end`; `look` sees the world once per `period`.
    pub(crate) fn run(&mut self, end: i64, period: i64, mut look: impl FnMut(&World, i64)) {
        let mut next_look = self.now + period;
        loop {
            let at = self.queue.peek().map_or(i64::MAX, |Reverse((at, ..))| *at);
            while next_look <= end.min(at) {
                look(self, next_look);
                next_look += period;
            }
            if at > end {
                break;
            }
            let Some(Reverse((at, _, what))) = self.queue.pop() else { break };
            self.now = at;
            self.happen(at, what);
        }
        self.now = end;
    }

    fn happen(&mut self, at: i64, what: What) {
        let mut t = at;
        let index = match what {
            What::Wake { host, generation } => {
                if self.hosts[host].wake_generation != generation || self.hosts[host].is_dead {
                    return;
                }
                self.handle(host, t, Input::Wakeup);
                host
            }
            What::Message { to, channel, data, arrived } => {
                if self.hosts[to].is_dead {
                    return;
                }
                if self.is_busy {
                    self.cross(to, &mut t);
                    t += US;
                }
                let user_after = self.hosts[to].raw(t);
                self.read_clocks(to, &mut t);
                let is_event = channel == PtpChannel::Event;
                let kernel = is_event.then(|| Host::real(arrived + 500));
                let hardware = self.hosts[to]
                    .phc
                    .filter(|_| is_event)
                    .map(|_| HardwareStamp { phc: PhcId(to as u32), time: self.hosts[to].phc_at(arrived) });
                let received = PtpReceived { port: PtpPort(0), channel, data: &data, kernel, hardware, user_after };
                let now = self.hosts[to].raw(t);
                self.hosts[to].agent.handle(now, Input::PtpReceived(received));
                to
            }
            What::Stamped { host, token, before, left } => {
                if self.hosts[host].is_dead {
                    return;
                }
                let user_after = self.hosts[host].raw(t);
                self.read_clocks(host, &mut t);
                let user_before = self.hosts[host].raw(before);
                let hardware = self.hosts[host]
                    .phc
                    .map(|_| HardwareStamp { phc: PhcId(host as u32), time: self.hosts[host].phc_at(left) });
                let kernel = Some(Host::real(left - 400));
                let sent = Input::Sent { token: TxToken(token), user_before, user_after, kernel, hardware };
                self.handle(host, t, sent);
                host
            }
            What::Datagram { to, socket, from, data, arrived } => {
                if self.hosts[to].is_dead {
                    return;
                }
                let user_after = self.hosts[to].raw(t);
                self.cross(to, &mut t);
                let kernel = Some(Host::real(arrived));
                let received = Received { socket, from, to: None, data: &data, kernel, hardware: None, user_after };
                let now = self.hosts[to].raw(t);
                self.hosts[to].agent.handle(now, Input::Received(received));
                to
            }
        };
        self.drain(index, &mut t);
    }

    fn read_clocks(&mut self, index: usize, t: &mut i64) {
        self.cross(index, t);
        if self.hosts[index].phc.is_some() {
            self.cross_phc(index, t);
        }
    }

    fn cross(&mut self, index: usize, t: &mut i64) {
        let host = &self.hosts[index];
        let (before, after) = (host.raw(*t), host.raw(*t + REAL_WINDOW_NS).plus_ns(1));
        let rate = KernelRate::Steady { ppb: 0 };
        let reading =
            CrossReading { before, real: Host::real(*t + REAL_WINDOW_NS / 2), after, rate, setting: Setting::Unset };
        *t += REAL_WINDOW_NS;
        self.handle(index, *t, Input::CrossStamped(reading));
    }

    fn cross_phc(&mut self, index: usize, t: &mut i64) {
        let host = &self.hosts[index];
        let (before, after) = (host.raw(*t), host.raw(*t + WINDOW_NS).plus_ns(1));
        let rate = KernelRate::Steady { ppb: host.phc_dialled_ppb };
        let cross =
            CrossReading { before, real: host.phc_at(*t + WINDOW_NS / 2), after, rate, setting: Setting::Unset };
        let phc = PhcId(index as u32);
        *t += WINDOW_NS;
        let reading = PhcReading { phc, cross, max_adj_ppb: 1_000_000, stated_error_ns: None };
        self.handle(index, *t, Input::PhcCrossed(reading));
    }

    fn drain(&mut self, index: usize, t: &mut i64) {
        loop {
            match self.hosts[index].agent.poll() {
                Output::PtpTransmit(transmit) => self.send(index, t, &transmit),
                Output::Transmit(transmit) => self.send_datagram(index, t, &transmit),
                Output::ReadCross => self.cross(index, t),
                Output::ReadPhc(phc) if phc == PhcId(index as u32) => self.cross_phc(index, t),
                Output::SteerPhc(_, steer) => self.steer(index, *t, steer),
                Output::Publish(publication) => {
                    self.hosts[index].published.push((*t, (*publication).clone()));
                    self.hosts[index].page = Some(*publication);
                }
                Output::Event(event) => self.hosts[index].events.push(event),
                Output::ReadPhc(_)
                | Output::ReadReference(..)
                | Output::Feed(_)
                | Output::Resolve { .. }
                | Output::Close(_)
                | Output::Steer(_)
                | Output::Declare(_) => {}
                Output::WakeAt(at) => {
                    let host = &mut self.hosts[index];
                    host.wake_generation += 1;
                    let generation = host.wake_generation;
                    if at < RawTime::MAX {
                        let at = host.when(at).max(*t) + 20 * US;
                        self.push(at, What::Wake { host: index, generation });
                    }
                    return;
                }
            }
        }
    }

    fn steer(&mut self, index: usize, t: i64, steer: Steer) {
        let host = &mut self.hosts[index];
        let shown = host.phc_at(t).as_ns();
        let Some((at_epoch, freq)) = &mut host.phc else { return };
        match steer {
            Steer::Step { ns } => *at_epoch += ns,
            Steer::Rate { rate } => {
                let dialled = rate as f64 / (1u64 << 40) as f64;
                *freq += dialled - host.phc_dialled_ppb as f64 * 1e-9;
                host.phc_dialled_ppb = (dialled * 1e9).round() as i64;
                *at_epoch = shown - (t - EPOCH) - ((t - EPOCH) as f64 * *freq).round() as i64;
            }
        }
    }

    fn send(&mut self, index: usize, t: &mut i64, transmit: &PtpTransmit) {
        if self.overheard.len() == OVERHEARD {
            self.overheard.remove(0);
        }
        self.overheard.push((transmit.channel, transmit.data.clone()));
        let is_event = transmit.channel == PtpChannel::Event;
        let before = *t;
        if is_event {
            self.read_clocks(index, t);
        }
        let before = before.max(*t);
        let left = *t + 5 * US;
        if is_event {
            let (user_before, user_after) = (self.hosts[index].raw(before), self.hosts[index].raw(*t + 3 * US));
            let sent = Input::Sent { token: transmit.token, user_before, user_after, kernel: None, hardware: None };
            self.handle(index, *t + 3 * US, sent);
            if self.lost_stamps == 0 || !self.rng.next_u32().is_multiple_of(self.lost_stamps) {
                self.push(left + 40 * US, What::Stamped { host: index, token: transmit.token.0, before, left });
            }
        }
        *t += 3 * US;
        for to in (0..self.hosts.len()).filter(|&to| to != index) {
            let mut data = transmit.data.clone();
            if !(self.meddle)(index, to, &mut data, &mut self.rng) {
                continue;
            }
            let arrived = left + (self.delay)(index, to, &mut self.rng);
            let channel = transmit.channel;
            let until_fetched = if self.is_busy { 7 * US } else { 25 * US };
            self.push(arrived + until_fetched, What::Message { to, channel, data, arrived });
        }
    }

    fn send_datagram(&mut self, index: usize, t: &mut i64, transmit: &Transmit) {
        self.cross(index, t);
        let before = *t;
        let left = *t + 4 * US;
        let (user_before, user_after) = (self.hosts[index].raw(before), self.hosts[index].raw(*t + 3 * US));
        let sent = Input::Sent { token: transmit.token, user_before, user_after, kernel: None, hardware: None };
        self.handle(index, *t + 3 * US, sent);
        self.push(left + 40 * US, What::Stamped { host: index, token: transmit.token.0, before, left });
        *t += 3 * US;
        let Some(to) = self.hosts.iter().position(|host| host.address == transmit.to.ip()) else { return };
        let (socket, from) = match transmit.socket {
            SocketId::Client(_) => (SocketId::Server(0), SocketAddr::new(self.hosts[index].address, 40_000)),
            SocketId::Server(_) => {
                // Associations are numbered as the sources of the test's client stand.
                let id = truebound_core::io::AssociationId(u32::from(index == 3));
                (SocketId::Client(id), SocketAddr::new(self.hosts[index].address, 123))
            }
        };
        let arrived = left + (self.delay)(index, to, &mut self.rng);
        let data = transmit.data.as_slice().to_vec();
        self.push(arrived + 25 * US, What::Datagram { to, socket, from, data, arrived });
    }
}

/// What a reader of a host's page sees, against the truth.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reads: u64,
    pub(crate) violations: u64,
    pub(crate) asserted_reads: u64,
    pub(crate) asserted_violations: u64,
    pub(crate) errors_ns: Vec<i64>,
    pub(crate) half_widths_ns: Vec<i64>,
    pub(crate) asserted_half_widths_ns: Vec<i64>,
}

impl Tally {
    pub(crate) fn read(&mut self, world: &World, index: usize, t: i64) {
        let host = &world.hosts[index];
        let (raw, theta) = (host.raw(t).as_ns(), host.theta(t));
        let Some(page) = &host.page else { return };
        if page.status.has_bound()
            && let Ok(edges) = page.bound.edges_at(raw)
        {
            self.reads += 1;
            // Raw time is truncated to ns: the reader adds one.
            self.violations += u64::from(theta < edges.lo_ns - 1 || theta > edges.hi_ns + 1);
            self.half_widths_ns.push((edges.hi_ns - edges.lo_ns) / 2);
        }
        if let Some(edges) = page.asserted_bound().and_then(|bound| bound.edges_at(raw).ok()) {
            self.asserted_reads += 1;
            self.asserted_violations += u64::from(theta < edges.lo_ns - 1 || theta > edges.hi_ns + 1);
            self.asserted_half_widths_ns.push((edges.hi_ns - edges.lo_ns) / 2);
        }
        if let Some(estimate) = host.agent.estimate_at(host.raw(t)) {
            self.errors_ns.push(estimate.theta_ns - theta);
        }
    }

    pub(crate) fn percentile(values: &[i64], percent: usize) -> i64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        sorted.get((sorted.len().max(1) - 1) * percent / 100).copied().unwrap_or(i64::MAX)
    }

    pub(crate) fn error_percentile(&self, percent: usize) -> i64 {
        let sizes: Vec<i64> = self.errors_ns.iter().map(|error| error.abs()).collect();
        Tally::percentile(&sizes, percent)
    }
}
