//! The engine: every PTP port of this host, domain by domain. Packets, stamps and deadlines in; messages and findings
//! out.
//!
//! A packet passes the gate, then the tap, then statime; what statime wants sent passes the speaker. The ports of a
//! domain are one instance of PTP with one clockIdentity, that of the first port that got a link. When a link comes or
//! goes the domain begins anew, its ports listening, because a port of statime cannot be told that it was away.

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha12Rng;
use statime::port::TimestampContext;

use super::counters::Counters;
use super::gate::{Gate, Gated};
use super::protocol::{Protocol, Timer, Want, interval_ns, raw_time, told_time};
use super::speech::Speaker;
use super::tap::Tap;
use super::{Action, Announced, Finding, PortIdentity, PortState, Quality, TOKEN_BIT, When};
use crate::io::{PtpChannel, PtpLink, PtpPort, PtpTransmit, TxToken};
use crate::settings::{PtpRole, PtpSettings};
use crate::time::RawTime;
use crate::wire::ptp::{self, Body, Message, MessageType, flag};

/// Event messages of a port that may wait for their stamps; the oldest is forgotten.
const MAX_UNSTAMPED: usize = 64;
/// Masters per port whose last Announce is kept: as many as statime compares.
const MAX_MASTERS: usize = 8;
/// An Announce so far behind the last one is a restarted master's, not an old one.
const MAX_BEHIND: u16 = 64;
/// Announce intervals of silence after which any Announce is news: as many as statime remembers one.
const RESTART_INTERVALS: i64 = 4;
/// Timers that are due again at once get so many turns in one wake; then the world has its turn.
const MAX_TURNS: usize = 4;

/// All PTP ports.
pub(crate) struct Engine {
    domains: Vec<Domain>,
    ports: Vec<Port>,
    quality: Option<Quality>,
    actions: VecDeque<Action>,
    next_token: u32,
}

/// The ports of one domainNumber.
struct Domain {
    number: u8,
    /// Places in [`Engine::ports`].
    members: Vec<usize>,
    identity: Option<[u8; 8]>,
    /// While any of its ports has a link.
    protocol: Option<Protocol>,
    next_bmca: Option<RawTime>,
}

struct Port {
    settings: PtpSettings,
    /// Places in [`Engine::domains`] and [`Domain::members`].
    domain: usize,
    place: usize,
    is_up: bool,
    timers: [Option<RawTime>; Timer::ALL.len()],
    tap: Tap,
    unstamped: VecDeque<Unstamped>,
    masters: Vec<Master>,
    state: PortState,
    parent: Option<PortIdentity>,
    counters: Counters,
}

/// An event message of ours on its way out.
struct Unstamped {
    token: TxToken,
    context: TimestampContext,
    kind: MessageType,
    sequence: u16,
}

/// A master as it last announced itself.
struct Master {
    port: PortIdentity,
    sequence: u16,
    at: RawTime,
    announced: Announced,
}

impl Master {
    /// Is an Announce with this number one that it sent before? After a silence it may be a restarted master's first.
    fn has_sent(&self, now: RawTime, sequence: u16, settings: &PtpSettings) -> bool {
        let silence_ns = now.ns_since(self.at);
        let is_behind = self.sequence.wrapping_sub(sequence) < MAX_BEHIND;
        is_behind && silence_ns <= interval_ns(settings.log_announce).saturating_mul(RESTART_INTERVALS)
    }
}

impl Engine {
    /// Ports without links: they do nothing.
    pub(crate) fn new(settings: &[PtpSettings]) -> Engine {
        let mut members: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, port) in settings.iter().enumerate() {
            members.entry(port.domain).or_default().push(index);
        }
        let domains: Vec<Domain> = members
            .into_iter()
            .map(|(number, members)| Domain { number, members, identity: None, protocol: None, next_bmca: None })
            .collect();
        let ports = settings.iter().enumerate().map(|(index, settings)| Port::new(index, settings, &domains)).collect();
        Engine { domains, ports, quality: None, actions: VecDeque::new(), next_token: 0 }
    }

    /// The engine of other settings: ports begin anew, but no token is used twice.
    pub(crate) fn renewed(&self, settings: &[PtpSettings]) -> Engine {
        Engine { next_token: self.next_token, ..Engine::new(settings) }
    }

    /// A port's sockets are open, or gone. Told the same twice, it stays as it is.
    pub(crate) fn link(&mut self, now: RawTime, port: PtpPort, link: Option<PtpLink>, rng: &mut ChaCha12Rng) {
        let index = usize::from(port.0);
        let Some(port) = self.ports.get_mut(index).filter(|port| port.is_up != link.is_some()) else { return };
        port.is_up = link.is_some();
        let domain_index = port.domain;
        let domain = &mut self.domains[domain_index];
        domain.identity = domain.identity.or(link.map(|link| link.identity));
        self.begin(now, domain_index, rng);
    }

    /// Begins a domain anew, with the links that it has.
    fn begin(&mut self, now: RawTime, domain_index: usize, rng: &mut ChaCha12Rng) {
        let domain = &mut self.domains[domain_index];
        (domain.protocol, domain.next_bmca) = (None, None);
        let members = domain.members.clone();
        for &index in &members {
            self.ports[index].reset(domain.identity.unwrap_or_default());
        }
        let has_links = members.iter().any(|&index| self.ports[index].is_up);
        let mut wants = Vec::new();
        if let Some(identity) = domain.identity.filter(|_| has_links) {
            let settings: Vec<_> = members.iter().map(|&index| &self.ports[index].settings).collect();
            let (protocol, first) = Protocol::new(identity, &settings, rng);
            domain.next_bmca = Some(now.plus_ns(protocol.bmca_interval_ns()));
            domain.protocol = Some(protocol);
            wants = first;
        }
        self.fulfil_all(now, domain_index, wants);
        members.into_iter().for_each(|index| self.observe(index));
    }

    /// A message arrived; `when` for those of the event channel.
    pub(crate) fn received(
        &mut self,
        now: RawTime,
        port: PtpPort,
        channel: PtpChannel,
        data: &[u8],
        when: Option<When>,
    ) {
        let index = usize::from(port.0);
        let Some(message) = self.admit(index, channel, data) else { return };
        let port = &mut self.ports[index];
        if message.header.kind.is_event() && when.is_none() {
            port.counters.unstamped += 1;
            return;
        }
        if let Body::Announce(announce) = message.body
            && !port.remember(now, &message, announce)
        {
            port.counters.repeated += 1;
            return;
        }
        let finding = match message.body {
            Body::Announce(_) => port.parent.filter(|parent| *parent == message.header.source).and(port.announced()),
            _ => None,
        };
        let finding = finding.map(Finding::Announced).or_else(|| {
            let parent = port.parent;
            port.tap.received(now, &message, when, parent, &mut port.counters)
        });
        self.found(index, finding);
        let wants = self.tell_protocol(index, &message, when);
        self.fulfil(now, index, wants);
        self.observe(index);
    }

    /// Counts and drops what cannot be used.
    fn admit(&mut self, index: usize, channel: PtpChannel, data: &[u8]) -> Option<Message> {
        let port = self.ports.get_mut(index)?;
        let domain = &self.domains[port.domain];
        let verdict = match domain.identity.filter(|_| port.is_up) {
            None => Err(Gated::NoLink),
            Some(identity) => Gate { domain: domain.number, identity }.admit(data, channel == PtpChannel::Event),
        };
        match verdict {
            Ok(message) => {
                port.counters.count_received(message.header.kind);
                Some(message)
            }
            Err(reason) => {
                port.counters.count_gated(reason);
                None
            }
        }
    }

    /// Hands statime the message as we read it, without what follows it: TLVs that it would stumble over.
    fn tell_protocol(&mut self, index: usize, message: &Message, when: Option<When>) -> Vec<Want> {
        let port = &mut self.ports[index];
        let Some(protocol) = &mut self.domains[port.domain].protocol else { return Vec::new() };
        let data = message.write();
        let Some(when) = when.filter(|_| message.header.kind.is_event()) else {
            return protocol.general(port.place, &data);
        };
        if message.header.kind != MessageType::DelayReq {
            return protocol.event(port.place, &data, raw_time(when.point.as_ns()));
        }
        match when.told.and_then(|told| told_time(told.as_ns())) {
            Some(time) => protocol.event(port.place, &data, time),
            None => {
                port.counters.silenced += u64::from(port.state == PortState::Master);
                Vec::new()
            }
        }
    }

    /// An event message of ours left; `None`: it did not, or its stamp is missing for good.
    ///
    /// Of the messages that tell our bound's time, the stamp is its `told`. Peer delay answers tell raw time instead:
    /// the neighbour takes differences, and raw time does not move when the bound does.
    pub(crate) fn sent(&mut self, now: RawTime, token: TxToken, when: Option<When>) {
        let index = usize::try_from(token.0 >> 32 & 0xffff).unwrap_or(usize::MAX);
        let Some(port) = self.ports.get_mut(index) else { return };
        let Some(found) = port.unstamped.iter().position(|unstamped| unstamped.token == token) else { return };
        let Some(Unstamped { context, kind, sequence, .. }) = port.unstamped.remove(found) else { return };
        port.counters.unstamped += u64::from(when.is_none());
        let finding = match kind {
            MessageType::DelayReq => port.tap.delay_left(sequence, when),
            MessageType::PdelayReq => port.tap.peer_left(sequence, when),
            _ => None,
        };
        let time = when.and_then(|when| match kind {
            MessageType::Sync => when.told.and_then(|told| told_time(told.as_ns())),
            _ => Some(raw_time(when.point.as_ns())),
        });
        let place = port.place;
        let wants = match (&mut self.domains[port.domain].protocol, time) {
            (Some(protocol), Some(time)) => protocol.left(place, context, time),
            _ => Vec::new(),
        };
        self.found(index, finding);
        self.fulfil(now, index, wants);
        self.observe(index);
    }

    /// Does all that is due.
    pub(crate) fn wake(&mut self, now: RawTime) {
        for domain in 0..self.domains.len() {
            self.run_bmca(now, domain);
        }
        for _ in 0..MAX_TURNS {
            for index in 0..self.ports.len() {
                Timer::ALL.into_iter().for_each(|timer| self.run_timer(now, index, timer));
            }
        }
    }

    fn run_bmca(&mut self, now: RawTime, domain_index: usize) {
        let domain = &mut self.domains[domain_index];
        let (Some(protocol), Some(due)) = (&mut domain.protocol, domain.next_bmca.filter(|due| *due <= now)) else {
            return;
        };
        // Ages of Announces count these runs, so they keep their beat; after a pause they do not catch up.
        let interval_ns = protocol.bmca_interval_ns();
        let next = due.plus_ns(interval_ns);
        domain.next_bmca = Some(if next > now { next } else { now.plus_ns(interval_ns) });
        let wants = protocol.bmca();
        let members = domain.members.clone();
        self.fulfil_all(now, domain_index, wants);
        members.into_iter().for_each(|index| self.observe(index));
    }

    fn run_timer(&mut self, now: RawTime, index: usize, timer: Timer) {
        let port = &mut self.ports[index];
        let slot = &mut port.timers[timer as usize];
        if slot.is_none_or(|due| due > now) {
            return;
        }
        *slot = None;
        let Some(protocol) = &mut self.domains[port.domain].protocol else { return };
        let wants = protocol.timer(port.place, timer);
        self.fulfil(now, index, wants);
        self.observe(index);
    }

    /// When to wake it next, at the latest.
    pub(crate) fn next_deadline(&self) -> Option<RawTime> {
        let timers = self.ports.iter().flat_map(|port| port.timers.iter().flatten());
        timers.chain(self.domains.iter().filter_map(|domain| domain.next_bmca.as_ref())).min().copied()
    }

    /// What we say as a master; `None`: we have no bound, and masters keep silent.
    pub(crate) fn serve(&mut self, quality: Option<Quality>) {
        self.quality = quality;
    }

    /// Tells of a port's parent again: whoever listens has forgotten it.
    pub(crate) fn introduce(&mut self, port: PtpPort) {
        let index = usize::from(port.0);
        let Some(known) = self.ports.get(index) else { return };
        let (parent, announced) = (known.parent, known.announced());
        self.found(index, parent.map(|parent| Finding::Parent(Some(parent))));
        self.found(index, announced.map(Finding::Announced));
    }

    /// The next thing to do or to learn.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What a port of the settings counted.
    pub(crate) fn counters(&self, port: PtpPort) -> &Counters {
        &self.ports[usize::from(port.0)].counters
    }

    /// Its state.
    #[cfg(test)]
    pub(crate) fn state(&self, port: PtpPort) -> PortState {
        self.ports[usize::from(port.0)].state
    }

    /// Whom it follows, and what that one last announced.
    #[cfg(test)]
    pub(crate) fn parent(&self, port: PtpPort) -> Option<(PortIdentity, Announced)> {
        let port = &self.ports[usize::from(port.0)];
        port.parent.zip(port.announced())
    }

    fn fulfil_all(&mut self, now: RawTime, domain_index: usize, wants: Vec<(usize, Want)>) {
        for (place, want) in wants {
            let index = self.domains[domain_index].members[place];
            self.fulfil(now, index, vec![want]);
        }
    }

    /// Does what statime wants of a port with a link. Ports without one wait.
    fn fulfil(&mut self, now: RawTime, index: usize, wants: Vec<Want>) {
        for want in wants {
            let port = &mut self.ports[index];
            match want {
                _ if !port.is_up => {}
                Want::Arm(timer, ns) => port.timers[timer as usize] = Some(now.plus_ns(ns)),
                Want::Send { context, is_link_local, data } => self.send(index, context, is_link_local, &data),
            }
        }
    }

    fn send(&mut self, index: usize, context: Option<TimestampContext>, is_link_local: bool, data: &[u8]) {
        let Ok(message) = ptp::parse(data) else { return };
        let port = &self.ports[index];
        let domain = &self.domains[port.domain];
        let speaker = Speaker {
            settings: &port.settings,
            identity: domain.identity.unwrap_or_default(),
            quality: self.quality,
            follows: domain.members.iter().any(|&member| self.ports[member].parent.is_some()),
        };
        let spoken = speaker.say(message);
        let port = &mut self.ports[index];
        let Some(message) = spoken else {
            port.counters.silenced += 1;
            return;
        };
        let token = TxToken(TOKEN_BIT | u64::try_from(index).unwrap_or(0) << 32 | u64::from(self.next_token));
        self.next_token = self.next_token.wrapping_add(1);
        let channel = if context.is_some() { PtpChannel::Event } else { PtpChannel::General };
        port.expect_stamp(token, &message, context);
        port.counters.sent += 1;
        let port = PtpPort(u16::try_from(index).unwrap_or(u16::MAX));
        let data = message.write();
        self.actions.push_back(Action::Transmit(PtpTransmit { port, channel, is_link_local, data, token }));
    }

    /// Tells what changed: the state, then the parent, then what the new parent last announced.
    fn observe(&mut self, index: usize) {
        let port = &self.ports[index];
        let (mut state, mut parent) = (PortState::Initializing, None);
        if let Some(protocol) = self.domains[port.domain].protocol.as_ref().filter(|_| port.is_up) {
            state = protocol.state(port.place);
            parent = (state == PortState::Slave).then(|| protocol.parent());
        }
        // A slave beside ports of other roles: statime makes it a master, the speaker keeps it silent.
        if state == PortState::Master && port.settings.role == PtpRole::Slave {
            state = PortState::Listening;
        }
        let port = &mut self.ports[index];
        let is_new_state = core::mem::replace(&mut port.state, state) != state;
        let is_new_parent = core::mem::replace(&mut port.parent, parent) != parent;
        if is_new_parent {
            port.tap.forget_parent();
        }
        let announced = if is_new_parent { port.announced() } else { None };
        self.found(index, is_new_state.then_some(Finding::State(state)));
        self.found(index, is_new_parent.then_some(Finding::Parent(parent)));
        self.found(index, announced.map(Finding::Announced));
    }

    fn found(&mut self, index: usize, finding: Option<Finding>) {
        let port = PtpPort(u16::try_from(index).unwrap_or(u16::MAX));
        self.actions.extend(finding.map(|finding| Action::Found(port, finding)));
    }
}

impl Port {
    fn new(index: usize, settings: &PtpSettings, domains: &[Domain]) -> Self {
        let domain = domains.iter().position(|domain| domain.number == settings.domain).unwrap_or(0);
        let place = domains[domain].members.iter().position(|&member| member == index).unwrap_or(0);
        Port {
            settings: settings.clone(),
            domain,
            place,
            is_up: false,
            timers: [None; Timer::ALL.len()],
            tap: Tap::new(PortIdentity { clock: [0; 8], port: 0 }),
            unstamped: VecDeque::new(),
            masters: Vec::new(),
            state: PortState::default(),
            parent: None,
            counters: Counters::default(),
        }
    }

    /// As new, but for its counts. What it knew of its parent goes when the engine observes that it has none.
    fn reset(&mut self, clock: [u8; 8]) {
        let number = u16::try_from(self.place + 1).unwrap_or(u16::MAX);
        self.tap = Tap::new(PortIdentity { clock, port: number });
        self.timers = [None; Timer::ALL.len()];
        self.unstamped.clear();
        self.masters.clear();
    }

    /// What the parent last announced.
    fn announced(&self) -> Option<Announced> {
        let parent = self.parent?;
        self.masters.iter().find(|master| master.port == parent).map(|master| master.announced)
    }

    /// Keeps what a master announced; false: it is old news. Who was silent longest is forgotten, but never the parent.
    fn remember(&mut self, now: RawTime, message: &Message, announce: ptp::Announce) -> bool {
        let (source, sequence) = (message.header.source, message.header.sequence);
        let known = self.masters.iter().position(|master| master.port == source);
        if known.is_some_and(|known| self.masters[known].has_sent(now, sequence, &self.settings)) {
            return false;
        }
        let oldest = || self.masters.iter().position(|master| Some(master.port) != self.parent);
        let leaves = known.or_else(|| if self.masters.len() < MAX_MASTERS { None } else { oldest() });
        leaves.map(|place| self.masters.remove(place));
        self.masters.push(Master { port: source, sequence, at: now, announced: announced(message, announce) });
        true
    }

    /// Remembers what is about to leave, so that its stamp finds back to it.
    fn expect_stamp(&mut self, token: TxToken, message: &Message, context: Option<TimestampContext>) {
        let (kind, sequence) = (message.header.kind, message.header.sequence);
        match kind {
            MessageType::DelayReq => self.tap.delay_asked(sequence),
            MessageType::PdelayReq => self.tap.peer_asked(sequence),
            _ => {}
        }
        let Some(context) = context else { return };
        if self.unstamped.len() == MAX_UNSTAMPED {
            self.unstamped.pop_front();
            self.counters.unstamped += 1;
        }
        self.unstamped.push_back(Unstamped { token, context, kind, sequence });
    }
}

fn announced(message: &Message, announce: ptp::Announce) -> Announced {
    let header = &message.header;
    Announced {
        grandmaster: announce.grandmaster,
        steps_removed: announce.steps_removed,
        clock_class: announce.clock_class,
        clock_accuracy: announce.clock_accuracy,
        priority: (announce.priority1, announce.priority2),
        time_source: announce.time_source,
        is_tai: header.has(flag::PTP_TIMESCALE),
        utc_offset_s: header.has(flag::UTC_OFFSET_VALID).then_some(announce.utc_offset_s),
        leap: i8::from(header.has(flag::LEAP_61)) - i8::from(header.has(flag::LEAP_59)),
        traceable: (header.has(flag::TIME_TRACEABLE), header.has(flag::FREQUENCY_TRACEABLE)),
    }
}
