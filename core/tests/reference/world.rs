//! One agent, its clocks, NTP servers that answer at once, and reference clocks beside it: mocks of what the shell finds
//! in segments, sockets and devices. Truth is known exactly.

use core::net::SocketAddr;

use truebound_core::Agent;
use truebound_core::event::Event;
use truebound_core::io::{
    AssociationId, CrossReading, FeedSample, Found, HostState, Input, KernelRate, Output, Received, ReferenceRead,
    Setting, SocketId, Transmit,
};
use truebound_core::report::SourceReport;
use truebound_core::settings::{ReferenceClock, Settings, SourceKind, SourceSettings};
use truebound_core::time::{RawTime, RealTime, UtcTime};
use truebound_core::wire::ntp::{HEADER_BYTES, Leap, Mode, NtpTimestamp, Packet, Rounding, ShortTime, parse};
use truebound_core::wire::reference::{SHM_BYTES, SHM_COUNT_AT, SHM_VALID_AT, shm_segment, sock_datagram};

pub(crate) const US: i64 = 1_000;
pub(crate) const MS: i64 = 1_000_000;
pub(crate) const S: i64 = 1_000_000_000;
/// TAI − UTC.
const LEAPS: i64 = 37 * S;
/// UTC at raw 0: some second of 2026.
const EPOCH: i64 = 1_790_000_000 * S + 123_456_789;
/// CLOCK_REALTIME's rate against raw time, ppb.
const REAL_PPB: i64 = 12_000;

/// A reference clock, or an NTP server: how it errs.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// It tells true time plus this, ns.
    pub(crate) lie_ns: i64,
    /// And up to so much at random, to either side.
    pub(crate) noise_ns: i64,
    /// It stamps so long after each true second, ns.
    pub(crate) phase_ns: i64,
    /// And publishes so long after its stamp, ns.
    pub(crate) latency_ns: i64,
    /// It says nothing.
    pub(crate) is_silent: bool,
    /// The second of the sample that its socket sent last.
    pub(crate) sent: i64,
}

impl Clock {
    pub(crate) const HONEST: Clock =
        Clock { lie_ns: 0, noise_ns: 0, phase_ns: 0, latency_ns: MS, is_silent: false, sent: i64::MIN };
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) now: i64,
    pub(crate) clocks: Vec<Clock>,
    /// CLOCK_REALTIME − UTC from a raw instant on, ns.
    real_ahead: Vec<(i64, i64)>,
    was_set: u32,
    /// Nobody tells that the clock was set.
    pub(crate) hides_steps: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) fed: Vec<(i64, FeedSample)>,
    wake_at: i64,
    /// Reads of the bound that missed the truth.
    pub(crate) violations: u64,
    pub(crate) reads: u64,
    random: u64,
}

pub(crate) fn shm(name: &str, error_ns: i64) -> SourceSettings {
    reference(name, ReferenceClock::Shm { unit: 0 }, error_ns)
}

pub(crate) fn reference(name: &str, clock: ReferenceClock, error_ns: i64) -> SourceSettings {
    let timescale = truebound_core::settings::Timescale::Utc;
    let kind = SourceKind::Reference { clock, error_ns, timescale };
    SourceSettings { poll_min_ns: Some(S), ..SourceSettings::new(name, kind) }
}

pub(crate) fn server(host: &str) -> SourceSettings {
    let kind = SourceKind::Server { host: host.to_owned(), port: 123 };
    SourceSettings { interleaved: false, ..SourceSettings::new(host, kind) }
}

impl World {
    pub(crate) fn new(sources: &[(SourceSettings, Clock)], change: impl FnOnce(&mut Settings)) -> World {
        let lines = sources.iter().map(|(source, _)| source.clone()).collect();
        let mut settings = Settings { sources: lines, ..Settings::default() };
        change(&mut settings);
        let now = 1_000 * S;
        let mut world = World {
            agent: Agent::new(RawTime::from_ns(now), settings, [3; 32]),
            now,
            clocks: sources.iter().map(|(_, clock)| clock.clone()).collect(),
            real_ahead: vec![(i64::MIN, 250 * MS)],
            was_set: 0,
            hides_steps: false,
            events: Vec::new(),
            fed: Vec::new(),
            wake_at: now,
            violations: 0,
            reads: 0,
            random: 7,
        };
        let host = HostState { clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0", ..HostState::default() };
        world.input(Input::Host(host));
        world
    }

    /// UTC at a raw instant: raw time runs 20 ppm slow.
    pub(crate) fn utc(raw: i64) -> i64 {
        EPOCH + raw + raw / 50_000
    }

    /// The raw instant at which UTC is `utc`.
    fn raw_at(utc: i64) -> i64 {
        let guess = utc - EPOCH;
        guess - guess / 50_001
    }

    pub(crate) fn real(&self, raw: i64) -> i64 {
        let ahead = self.real_ahead.iter().rev().find(|(since, _)| *since <= raw).expect("from the beginning");
        EPOCH + raw + raw / S * REAL_PPB + raw % S * REAL_PPB / S + ahead.1
    }

    /// Sets CLOCK_REALTIME forward.
    pub(crate) fn set_real(&mut self, by_ns: i64) {
        let (_, ahead) = *self.real_ahead.last().expect("from the beginning");
        self.real_ahead.push((self.now, ahead + by_ns));
        self.was_set = if self.hides_steps { 0 } else { 2 };
    }

    pub(crate) fn run(&mut self, ns: i64) {
        let end = self.now + ns;
        while self.now < end {
            let next = self.next_datagram().min(self.wake_at.max(self.now + 20 * US)).min(end);
            self.now = next;
            self.judge();
            self.datagrams();
            if self.wake_at <= self.now {
                self.input(Input::Wakeup);
            }
        }
    }

    pub(crate) fn source(&self, name: &str) -> SourceReport {
        let report = self.agent.report(RawTime::from_ns(self.now));
        report.sources.into_iter().find(|source| source.name == name).expect("configured")
    }

    /// Half the width of the bound now, ns.
    pub(crate) fn half_width(&self) -> Option<i64> {
        let bound = self.agent.report(RawTime::from_ns(self.now)).bound?;
        let edges = bound.edges_at(self.now).ok()?;
        Some((edges.hi_ns - edges.lo_ns) / 2)
    }

    /// How far the estimate is from the truth, ns.
    pub(crate) fn error(&self) -> Option<i64> {
        let estimate = self.agent.estimate_at(RawTime::from_ns(self.now))?;
        Some(self.now + estimate.theta_ns - LEAPS - Self::utc(self.now))
    }

    fn judge(&mut self) {
        let Some(bound) = self.agent.report(RawTime::from_ns(self.now)).bound else { return };
        let Ok(edges) = bound.edges_at(self.now) else { return };
        let theta = Self::utc(self.now) + LEAPS - self.now;
        self.reads += 1;
        self.violations += u64::from(!(edges.lo_ns..=edges.hi_ns).contains(&theta));
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.agent.handle(RawTime::from_ns(self.now), input);
        let mut transmits = Vec::new();
        let mut reads = Vec::new();
        let mut wants_cross = false;
        loop {
            match self.agent.poll() {
                Output::Transmit(transmit) => transmits.push(transmit),
                Output::ReadReference(id, clock) => reads.push((id, clock)),
                Output::ReadCross => wants_cross = true,
                Output::Feed(sample) => self.fed.push((self.now, sample)),
                Output::Event(event) => self.events.push(event),
                Output::WakeAt(at) => {
                    self.wake_at = at.as_ns();
                    break;
                }
                _ => {}
            }
        }
        if wants_cross {
            self.cross();
        }
        reads.into_iter().for_each(|(id, clock)| self.look(id, &clock));
        transmits.iter().for_each(|transmit| self.exchange(transmit));
    }

    fn cross(&mut self) {
        let before = self.now;
        self.now += 40;
        let reading = CrossReading {
            before: RawTime::from_ns(before),
            real: RealTime::from_ns(self.real(before + 17)),
            after: RawTime::from_ns(self.now),
            rate: KernelRate::Steady { ppb: REAL_PPB },
            setting: match self.was_set {
                0 if self.hides_steps => Setting::Untold,
                0 => Setting::Unset,
                _ => Setting::Set,
            },
        };
        self.was_set = self.was_set.saturating_sub(1);
        self.input(Input::CrossStamped(reading));
    }

    /// As the shell does: looks, reads the clocks, tells.
    fn look(&mut self, id: AssociationId, clock: &ReferenceClock) {
        let own = self.clocks[id.0 as usize].clone();
        match clock {
            ReferenceClock::Sock { .. } => {}
            _ if own.is_silent => self.tell(id, Found::Absent),
            ReferenceClock::Shm { .. } => {
                let segment = self.segment(id);
                self.tell(id, Found::Segment(&segment));
            }
            ReferenceClock::Pps { .. } => {
                let second = self.second_of(&own);
                // It comes when the clock shows the second.
                let at = self.real(Self::raw_at(second * S + own.phase_ns - own.lie_ns - noise_of(&own, second)));
                let sequence = u32::try_from(second - EPOCH / S).expect("counted from the start");
                self.tell(id, Found::Pulse { sequence, at: RealTime::from_ns(at) });
            }
        }
    }

    /// What was found, after CLOCK_REALTIME was read.
    pub(crate) fn tell(&mut self, association: AssociationId, found: Found<'_>) {
        let user_after = RawTime::from_ns(self.now);
        self.cross();
        self.input(Input::Reference(ReferenceRead { association, user_after, found }));
    }

    pub(crate) fn segment(&mut self, id: AssociationId) -> [u8; SHM_BYTES] {
        let own = self.clocks[id.0 as usize].clone();
        let second = self.second_of(&own);
        let (at, ahead_ns) = self.sample(&own, second);
        let mut segment = shm_segment(&FeedSample { at, ahead_ns, leap: 0 });
        let count = u32::try_from(second % 1_000_000).expect("small");
        segment[SHM_COUNT_AT..][..4].copy_from_slice(&count.to_ne_bytes());
        segment[SHM_VALID_AT] = 1;
        segment
    }

    /// The second of its newest sample that was published.
    fn second_of(&self, clock: &Clock) -> i64 {
        (Self::utc(self.now - clock.latency_ns) - clock.phase_ns).div_euclid(S)
    }

    /// What CLOCK_REALTIME showed then, and how far the clock says that it is off. The noise is the second's.
    fn sample(&self, clock: &Clock, second: i64) -> (RealTime, i64) {
        let utc = second * S + clock.phase_ns;
        let real = self.real(Self::raw_at(utc));
        (RealTime::from_ns(real), utc - real + clock.lie_ns + noise_of(clock, second))
    }

    fn sockets(&self) -> Vec<usize> {
        let sources = self.agent.settings().sources.iter().enumerate();
        let is_sock =
            |kind: &SourceKind| matches!(kind, SourceKind::Reference { clock: ReferenceClock::Sock { .. }, .. });
        sources.filter(|(_, source)| is_sock(&source.kind)).map(|(at, _)| at).collect()
    }

    fn next_datagram(&self) -> i64 {
        let of = |at: usize| {
            let clock = &self.clocks[at];
            let next = (self.second_of(clock) + 1) * S + clock.phase_ns;
            Self::raw_at(next) + clock.latency_ns + 10
        };
        self.sockets().into_iter().map(of).min().unwrap_or(i64::MAX)
    }

    fn datagrams(&mut self) {
        for at in self.sockets() {
            let clock = self.clocks[at].clone();
            let second = self.second_of(&clock);
            if second == clock.sent || clock.is_silent {
                continue;
            }
            self.clocks[at].sent = second;
            let (real, ahead_ns) = self.sample(&clock, second);
            let datagram = sock_datagram(&FeedSample { at: real, ahead_ns, leap: 0 });
            self.tell(AssociationId(u32::try_from(at).expect("few")), Found::Datagram(&datagram));
        }
    }

    /// A request and its answer: up to 300 µs each way, the server right but for its lie.
    fn exchange(&mut self, transmit: &Transmit) {
        let SocketId::Client(id) = transmit.socket else { return };
        let clock = self.clocks[id.0 as usize].clone();
        let sent = RawTime::from_ns(self.now);
        self.now += 5 * US;
        let user_after = RawTime::from_ns(self.now);
        let token = transmit.token;
        self.input(Input::Sent { token, user_before: sent, user_after, kernel: None, hardware: None });
        if clock.is_silent {
            return;
        }
        self.now += 100 * US + self.below(200 * US);
        let t2 = Self::utc(self.now) + clock.lie_ns;
        self.now += 20 * US;
        let t3 = Self::utc(self.now) + clock.lie_ns;
        self.now += 100 * US + self.below(200 * US);
        let (request, _) = parse(transmit.data.as_slice()).expect("a request");
        let stamp = |ns| NtpTimestamp::from_utc(UtcTime::from_ns(ns), Rounding::Down);
        let answer = Packet {
            leap: Leap::None,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 0,
            precision: -24,
            root_delay: ShortTime(0),
            root_dispersion: ShortTime(1),
            reference_id: *b"GPS\0",
            reference: stamp(t2),
            origin: request.transmit,
            receive: stamp(t2),
            transmit: stamp(t3),
        };
        let mut data = [0; HEADER_BYTES];
        answer.write(&mut data);
        let from: SocketAddr = transmit.to;
        let user_after = RawTime::from_ns(self.now);
        let socket = SocketId::Client(id);
        self.input(Input::Received(Received {
            socket,
            from,
            to: None,
            data: &data,
            kernel: None,
            hardware: None,
            user_after,
        }));
    }

    fn below(&mut self, limit: i64) -> i64 {
        self.random = self.random.wrapping_add(1);
        hash(i64::try_from(self.random).expect("counted")) % limit
    }
}

fn noise_of(clock: &Clock, second: i64) -> i64 {
    hash(second) % (2 * clock.noise_ns + 1) - clock.noise_ns
}

/// A number that looks random, from 0.
pub(crate) fn hash(of: i64) -> i64 {
    let mut z = of.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    i64::try_from((z ^ (z >> 31)) >> 1).expect("63 bits")
}
