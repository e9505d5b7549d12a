//! The agent: takes inputs, keeps associations, responder and synthesis, and says what is to be done.
//!
//! The caller's contract: hand over one input with [`Agent::handle`], then drain [`Agent::poll`] until it returns
//! [`Output::WakeAt`]. `now` never goes back; an input that says otherwise counts as happening now.

mod ptp;
mod queries;
mod reference;
mod steering;

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use truebound_client::bound::Bound;
use truebound_client::page::{Asserted, Publication};
use truebound_client::{Reason, Status};

use crate::association::ntp::{Context, ERA_PIVOT, Outcome};
use crate::association::{Association, Peer, PhcSource, ntp};
use crate::clocks::Clocks;
use crate::estimate::Estimate;
use crate::event::Event;
use crate::foreign::RealtimeWatch;
use crate::io::{
    AssociationId, Control, CrossReading, HardwareStamp, HostState, Input, Output, Received, SocketId, Transmit,
    TxToken,
};
use crate::ptp::{Engine, is_ptp};
use crate::region::Region;
use crate::responder::{Responder, Served, TOKEN_BIT, reference_id_of};
use crate::settings::{FNV_OFFSET, Settings, SourceKind, SourceSettings, fnv1a};
use crate::status::{self, Broken};
use crate::synthesis::{LocalSource, Synthesis, World};
use crate::time::{NS_PER_S, RawSpan, RawTime, RealTime};
use crate::units::to_i64;

/// Clocksources that A1's classes speak of (BOUND A2).
const KNOWN_CLOCKSOURCES: [&[u8]; 2] = [b"tsc\0", b"arch_sys_counter"];
/// First wait after a name could not be resolved; doubles up to [`RESOLVE_WAIT_MAX_NS`].
const RESOLVE_WAIT_NS: i64 = 4 * NS_PER_S;
const RESOLVE_WAIT_MAX_NS: i64 = 256 * NS_PER_S;

/// See the module's page.
pub struct Agent {
    settings: Settings,
    now: RawTime,
    rng: ChaCha12Rng,
    outputs: VecDeque<Output>,
    events: Vec<Event>,
    clocks: Clocks,
    /// What others do to CLOCK_REALTIME.
    realtime: RealtimeWatch,
    /// The PTP ports.
    engine: Engine,
    /// What is known of them and of their messages under way.
    ports: ptp::Ports,
    host: Option<HostState>,
    associations: Vec<Association>,
    names: Vec<NameLookup>,
    local: Option<LocalSource>,
    responder: Option<Responder>,
    responder_seed: u64,
    synthesis: Synthesis,
    disciplined: steering::Disciplined,
    next_association: u32,
    status: (Status, Reason),
    next_publication: RawTime,
    /// [`Settings::digest`] of the settings in force: it costs more than a publication.
    assumptions: u64,
    /// Another daemon of this host, that is told our estimate.
    feed: reference::Feed,
    /// Exchanges are kept for [`Agent::take_exchanges`].
    is_tapped: bool,
}

/// When to look up a source's name (again).
#[derive(Clone, Copy, Debug)]
struct NameLookup {
    at: Option<RawTime>,
    wait_ns: i64,
}

impl NameLookup {
    const IDLE: NameLookup = NameLookup { at: None, wait_ns: RESOLVE_WAIT_NS };
}

impl Agent {
    /// An agent at rest at `now`. Equal settings, seeds and inputs give equal outputs, byte for byte.
    #[must_use]
    pub fn new(now: RawTime, settings: Settings, seed: [u8; 32]) -> Self {
        let mut agent = Agent {
            synthesis: Synthesis::new(&settings),
            responder: None,
            responder_seed: fnv1a(FNV_OFFSET, seed.iter().copied()),
            disciplined: steering::Disciplined::new(settings.discipline),
            settings: Settings { sources: Vec::new(), ..settings.clone() },
            now,
            rng: ChaCha12Rng::from_seed(seed),
            outputs: VecDeque::new(),
            events: Vec::new(),
            clocks: Clocks::new(),
            realtime: RealtimeWatch::default(),
            engine: Engine::new(&settings.ptp),
            ports: ptp::Ports::new(&settings.ptp),
            host: None,
            associations: Vec::new(),
            names: Vec::new(),
            local: None,
            next_association: 0,
            status: (Status::Starting, Reason::NoAnswerYet),
            next_publication: now.plus_ns(settings.bound.publish_interval_ns),
            assumptions: 0,
            feed: reference::Feed::beginning(now, settings.feed_interval_ns),
            is_tapped: false,
        };
        agent.settings_changed();
        agent.renew_responder();
        agent.outputs.push_back(Output::ReadCross);
        for source in settings.sources {
            agent.add_source(source);
        }
        agent
    }

    /// Takes one input. Poll until [`Output::WakeAt`] before the next one.
    pub fn handle(&mut self, now: RawTime, input: Input<'_>) {
        self.now = self.now.max(now);
        match input {
            Input::Received(received) => self.received(&received),
            Input::Sent { token, user_before, user_after, kernel, hardware } => {
                let user = RawSpan { early: user_before, late: user_after.max(user_before) };
                self.sent(token, user, kernel, hardware);
            }
            Input::Unsent { token } => self.unsent(token),
            Input::CrossStamped(reading) => self.cross_stamped(reading),
            Input::PhcCrossed(reading) => self.phc_crossed(&reading),
            Input::Reference(read) => self.referenced(&read),
            Input::Link { port, link } => self.link_changed(port, link),
            Input::PtpReceived(received) => self.ptp_received(&received),
            Input::Host(host) => self.host_changed(host),
            Input::Resolved { source, addresses } => self.resolved(source, &addresses),
            Input::Reconfigured(settings) => self.reconfigured(*settings),
            // Nothing is published before the host is known: a page of no host is refused by every reader.
            Input::Restored { bound, epoch } => return self.synthesis.restore(bound, epoch, &mut self.events),
            Input::Drift(drift) => self.drifts(drift),
            Input::Steered { steer, is_done } => self.steered(steer, is_done),
            Input::Control(control) => self.control(control),
            Input::Wakeup => {}
        }
        self.run_timers();
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        Output::WakeAt(self.next_deadline())
    }

    fn next_deadline(&self) -> RawTime {
        let polls = self.associations.iter().filter(|a| !a.is_forbidden).map(|a| a.next_poll);
        let names = self.names.iter().filter_map(|lookup| lookup.at);
        let ports = self.engine.next_deadline().into_iter().chain(self.ports.next_deadline());
        let others = self.next_steering().into_iter().chain([self.next_publication, self.feed.next]);
        polls.chain(names).chain(ports).chain(others).min().unwrap_or(RawTime::MAX)
    }

    fn run_timers(&mut self) {
        self.poll_sources();
        self.look_up_names();
        if self.now >= self.next_publication && self.find_bound() {
            self.steer_on();
        }
        self.run_ports();
        self.end_slew();
        self.run_feed();
        self.flush_events();
    }

    fn flush_events(&mut self) {
        self.outputs.extend(self.events.drain(..).map(Output::Event));
    }

    // ---- sources -------------------------------------------------------------------------------------------------

    fn add_source(&mut self, source: SourceSettings) {
        let index = u32::try_from(self.settings.sources.len()).unwrap_or(u32::MAX);
        self.settings.sources.push(source);
        self.settings_changed();
        self.names.push(NameLookup::IDLE);
        self.start_source(index);
    }

    /// Begins what a source still lacks: an association, a look-up, or a reading of the local clock.
    fn start_source(&mut self, index: u32) {
        let Some(line) = self.settings.sources.get(index as usize) else { return };
        let present = self.associations.iter().filter(|association| association.source == index).count();
        match &line.kind {
            SourceKind::Local { .. } => self.outputs.push_back(Output::ReadCross),
            SourceKind::Server { host, port } => match (host.parse(), present) {
                (Ok(ip), 0) => self.associate(index, SocketAddr::new(ip, *port)),
                (Err(_), 0) => self.look_up_at(index, self.now),
                _ => {}
            },
            SourceKind::Pool { count, .. } if present < usize::from(*count) => self.look_up_at(index, self.now),
            SourceKind::Phc { phc, error_ns, timescale } if present == 0 => {
                let phc = PhcSource::new(*phc, *error_ns, *timescale);
                self.adopt(index, |now, id, line, _| Association::phc(now, id, index, phc, line));
            }
            SourceKind::Reference { clock, error_ns, timescale } if present == 0 => {
                let told = (clock.clone(), *error_ns, *timescale);
                self.adopt(index, |now, id, line, _| Association::reference(now, id, index, told, line));
            }
            // A PTP port's master introduces itself.
            SourceKind::Pool { .. }
            | SourceKind::Ptp { .. }
            | SourceKind::Phc { .. }
            | SourceKind::Reference { .. } => {}
        }
    }

    fn look_up_at(&mut self, index: u32, at: RawTime) {
        if let Some(lookup) = self.names.get_mut(index as usize) {
            lookup.at = Some(at);
        }
    }

    fn associate(&mut self, source: u32, address: SocketAddr) {
        self.adopt(source, |now, id, line, e| Association::ntp(now, id, source, address, line, e));
    }

    /// Makes an association from (now, its number, the source's line, e of kernel stamps).
    fn adopt(&mut self, source: u32, make: impl FnOnce(RawTime, AssociationId, &SourceSettings, i64) -> Association) {
        let Some(line) = self.settings.sources.get(source as usize) else { return };
        let id = AssociationId(self.next_association);
        self.next_association += 1;
        let mut association = make(self.now, id, line, self.settings.stamp_error_ns);
        association.exchanges = self.is_tapped.then(Vec::new);
        let address = association.address();
        self.associations.push(association);
        self.events.push(Event::Added { association: id, name: line.name.clone(), address });
    }

    fn dissociate(&mut self, is_leaving: impl Fn(&Association) -> bool) {
        for association in self.associations.extract_if(.., |a| is_leaving(a)) {
            self.outputs.push_back(Output::Close(association.id));
            self.events.push(Event::Removed { association: association.id });
        }
    }

    fn look_up_names(&mut self) {
        for (source, lookup) in (0u32..).zip(&mut self.names) {
            if lookup.at.is_none_or(|at| at > self.now) {
                continue;
            }
            lookup.at = None;
            let Some(line) = self.settings.sources.get(source as usize) else { continue };
            if let SourceKind::Server { host, port } | SourceKind::Pool { host, port, .. } = &line.kind {
                self.outputs.push_back(Output::Resolve { source, host: host.clone(), port: *port });
            }
        }
    }

    fn resolved(&mut self, source: u32, addresses: &[SocketAddr]) {
        let Some(line) = self.settings.sources.get(source as usize) else { return };
        let wanted = match line.kind {
            SourceKind::Pool { count, .. } => usize::from(count),
            SourceKind::Server { .. } => 1,
            SourceKind::Local { .. }
            | SourceKind::Ptp { .. }
            | SourceKind::Phc { .. }
            | SourceKind::Reference { .. } => 0,
        };
        let name = line.name.clone();
        let (now, reachable_for) = (self.now, |a: &Association| a.last_answer.is_none() || !a.is_reachable(self.now));
        // An address that does not answer makes room for one that may.
        let stale: Vec<AssociationId> = self
            .associations
            .iter()
            .filter(|a| a.source == source && a.reach == 0 && a.counters.sent > 8 && reachable_for(a))
            .filter(|a| a.address().is_none_or(|address| !addresses.contains(&address)))
            .map(|a| a.id)
            .collect();
        self.dissociate(|a| stale.contains(&a.id));
        for &address in addresses {
            let used = self.associations.iter().filter(|a| a.source == source).count();
            if used < wanted && !self.associations.iter().any(|a| a.address() == Some(address)) {
                self.associate(source, address);
            }
        }
        let is_short = self.associations.iter().filter(|a| a.source == source).count() < wanted;
        if addresses.is_empty() {
            self.events.push(Event::Unresolved { name });
        }
        if let Some(lookup) = self.names.get_mut(source as usize).filter(|_| is_short) {
            lookup.at = Some(now.plus_ns(lookup.wait_ns));
            lookup.wait_ns = (lookup.wait_ns * 2).min(RESOLVE_WAIT_MAX_NS);
        }
    }

    fn poll_sources(&mut self) {
        let now = self.now;
        for index in 0..self.associations.len() {
            let association = &mut self.associations[index];
            if association.is_forbidden || association.next_poll > now {
                continue;
            }
            let was_reachable = association.reach != 0;
            let requests = association.begin_poll(now, self.rng.next_u32());
            if was_reachable && association.reach == 0 {
                self.events.push(Event::Reachable { association: association.id, reachable: false });
                let source = association.source;
                if self.has_name(source) {
                    self.look_up_at(source, now);
                }
            }
            (0..requests).for_each(|_| self.request(index));
        }
    }

    /// Is the source given by a name, which may have other addresses?
    fn has_name(&self, source: u32) -> bool {
        match self.settings.sources.get(source as usize).map(|line| &line.kind) {
            Some(SourceKind::Server { host, .. }) => host.parse::<IpAddr>().is_err(),
            Some(SourceKind::Pool { .. }) => true,
            Some(
                SourceKind::Local { .. }
                | SourceKind::Ptp { .. }
                | SourceKind::Phc { .. }
                | SourceKind::Reference { .. },
            )
            | None => false,
        }
    }

    fn request(&mut self, index: usize) {
        let association = &mut self.associations[index];
        match &mut association.peer {
            Peer::Ntp { address, client } => {
                let (data, sequence) = client.request(association.pair, &mut self.rng);
                self.outputs.push_back(Output::Transmit(Transmit {
                    socket: SocketId::Client(association.id),
                    to: *address,
                    from: None,
                    data,
                    token: TxToken(u64::from(association.id.0) << 32 | u64::from(sequence)),
                    cookie_at: ntp::COOKIE_AT,
                    wants_stamp: true,
                }));
            }
            Peer::Phc(source) => {
                source.ask();
                self.outputs.push_back(Output::ReadPhc(source.phc));
            }
            Peer::Reference(reference) => {
                self.outputs.push_back(Output::ReadReference(association.id, reference.clock.clone()));
            }
            Peer::Ptp(_) => {}
        }
    }

    fn request_of(&mut self, id: AssociationId) {
        if let Some(index) = self.associations.iter().position(|association| association.id == id) {
            self.request(index);
        }
    }

    // ---- packets -------------------------------------------------------------------------------------------------

    fn received(&mut self, received: &Received<'_>) {
        match received.socket {
            SocketId::Client(id) => self.answered(id, received),
            SocketId::Server(_) => self.asked(received),
        }
    }

    fn answered(&mut self, id: AssociationId, received: &Received<'_>) {
        let wander = self.synthesis.wander(&self.settings);
        let context = Context { clocks: &self.clocks, leap: &self.settings.leap, pivot: ERA_PIVOT };
        let Some(association) = self.associations.iter_mut().find(|a| a.id == id) else { return };
        let Peer::Ntp { address, client } = &mut association.peer else { return };
        if received.from.ip().to_canonical() != address.ip().to_canonical() {
            association.counters.discarded[ntp::Discard::WrongOrigin as usize] += 1;
            return;
        }
        let contradicted_before = client.contradicted_stamps;
        let outcome = client.received(received, &context);
        let is_contradicted = client.contradicted_stamps > contradicted_before;
        let follows_up = match outcome {
            Outcome::Ignored(discard) | Outcome::Useless(discard) => {
                association.counters.discarded[discard as usize] += 1;
                return;
            }
            Outcome::Kiss(code) => {
                association.counters.discarded[ntp::Discard::Kiss as usize] += 1;
                match &code {
                    b"RATE" => association.slow_down(self.now),
                    b"DENY" | b"RSTR" => association.is_forbidden = true,
                    _ => {}
                }
                self.events.push(Event::KissOfDeath { association: id, code });
                return;
            }
            Outcome::Answer(answer) => {
                if association.reach == 0 || association.counters.answers == 0 {
                    self.events.push(Event::Reachable { association: id, reachable: true });
                }
                association.local_address = received.to.or(association.local_address);
                association.answered(self.now, &answer, &wander);
                association.follows_up(answer.pair)
            }
        };
        if is_contradicted {
            self.events.push(Event::StampDropped { association: id });
        }
        if follows_up {
            // No command while a packet is under way: the clock is steered when the second one is answered.
            self.request_of(id);
            self.find_bound();
        } else {
            self.synthesise();
        }
        self.adapt_poll(id);
    }

    fn adapt_poll(&mut self, id: AssociationId) {
        let (growth, region) = (self.synthesis.growth_per_s_ns(), self.synthesis.findings.regions.get(id));
        let half_width_ns = region.map_or(0, Region::half_width_ns);
        if let Some(association) = self.associations.iter_mut().find(|a| a.id == id) {
            association.adapt_poll(half_width_ns, growth);
        }
    }

    fn asked(&mut self, received: &Received<'_>) {
        let (stratum, reference_id) = self.upstream();
        let has_bound = self.status.0.has_bound();
        let served = Served {
            bound: self.synthesis.previous.as_ref().filter(|_| has_bound),
            stratum,
            reference_id,
            correlation: &self.clocks.real,
            leap: &self.settings.leap,
        };
        let Some(responder) = &mut self.responder else { return };
        if let Some(answer) = responder.received(self.now, received, &served) {
            self.outputs.push_back(Output::Transmit(answer));
        }
    }

    /// Our stratum and whom we follow.
    fn upstream(&self) -> (u8, [u8; 4]) {
        let best = self.best();
        match best {
            Some(best) => (best.upstream.stratum.saturating_add(1).min(15), identifier_of(best)),
            None if self.local.is_some() => (1, *b"LOCL"),
            None => (15, *b"HOLD"),
        }
    }

    fn sent(&mut self, token: TxToken, user: RawSpan, kernel: Option<RealTime>, hardware: Option<HardwareStamp>) {
        if is_ptp(token) {
            self.ptp_sent(token, user, kernel, hardware);
        } else if token.0 & TOKEN_BIT != 0 {
            if let Some(responder) = &mut self.responder {
                responder.sent(token, user, kernel);
            }
        } else if let Some((client, sequence)) = self.client_of(token) {
            client.sent(sequence, user, kernel, hardware);
        }
    }

    fn unsent(&mut self, token: TxToken) {
        if is_ptp(token) {
            return self.ptp_unsent(token);
        }
        let Some(association) = self.associations.iter_mut().find(|a| u64::from(a.id.0) == token.0 >> 32) else {
            return;
        };
        association.counters.unsent += 1;
        if let Peer::Ntp { client, .. } = &mut association.peer {
            client.unsent(sequence_of(token));
        }
    }

    fn client_of(&mut self, token: TxToken) -> Option<(&mut ntp::Client, u32)> {
        let association = self.associations.iter_mut().find(|a| u64::from(a.id.0) == token.0 >> 32)?;
        let Peer::Ntp { client, .. } = &mut association.peer else { return None };
        Some((client, sequence_of(token)))
    }

    // ---- this host -----------------------------------------------------------------------------------------------

    /// A local source is CLOCK_REALTIME as it stands now, and raw time from then on.
    fn adopt_local_clock(&mut self, reading: &CrossReading) {
        let lines = (0u32..).zip(&self.settings.sources);
        let local = lines.filter_map(|(index, line)| match line.kind {
            SourceKind::Local { shift_ns, error_ns } => Some((index, shift_ns, error_ns)),
            _ => None,
        });
        let Some((source, shift_ns, error_ns)) = local.last() else { return };
        let tai = self.settings.leap.to_tai(crate::time::UtcTime::from_ns(reading.real.as_ns())).as_ns();
        let told = tai.saturating_add(shift_ns);
        let region = Region {
            theta_lo_ns: told.saturating_sub(reading.after.as_ns()).saturating_sub(error_ns),
            theta_hi_ns: told.saturating_add(1).saturating_sub(reading.before.as_ns()).saturating_add(error_ns),
            omega_lo: 0,
            omega_hi: 0,
        };
        self.local = Some(LocalSource { source, region });
        self.synthesise();
    }

    /// A2: raw time is the TSC or the ARM counter, or the operator said what else it is. A name that cannot be read
    /// proves nothing.
    fn has_unknown_clocksource(&self) -> bool {
        let name = self.host.map_or([0; 16], |host| host.clocksource);
        let is_known = name == [0; 16] || KNOWN_CLOCKSOURCES.iter().any(|known| name.starts_with(known));
        !is_known && !self.settings.oscillator_is_stated
    }

    fn host_changed(&mut self, host: HostState) {
        let reason = match self.host.replace(host) {
            None => return self.synthesise(),
            Some(before) if before.clocksource != host.clocksource => Reason::ClocksourceChanged,
            Some(before) if before.suspended_ns != host.suspended_ns => Reason::Suspended,
            Some(before) if before.vm_mark != host.vm_mark => Reason::VmMoved,
            Some(before) if before.foretold != host.foretold => {
                self.events.push(Event::Foretold { what: host.foretold });
                return self.publish();
            }
            _ => return,
        };
        self.disrupted(reason);
    }

    /// Raw time is not what it was: withdraw first, then measure again.
    fn disrupted(&mut self, reason: Reason) {
        self.associations.iter_mut().for_each(Association::forget);
        self.associations.iter_mut().for_each(|association| association.burst(self.now));
        if let Some(responder) = &mut self.responder {
            responder.forget();
        }
        self.clocks.clear();
        self.realtime.clear();
        self.ports.forget();
        self.local = None;
        self.disciplined.forget();
        self.outputs.push_back(Output::ReadCross);
        self.synthesis.disrupt(reason, &mut self.events);
        self.publish();
    }

    // ---- control -------------------------------------------------------------------------------------------------

    fn control(&mut self, control: Control) {
        match control {
            Control::Burst => self.associations.iter_mut().for_each(|association| association.burst(self.now)),
            Control::MakeStep => self.make_step(),
            Control::AddSource(source) => self.add_source(*source),
            Control::RemoveSource(name) => {
                let sources = self.settings.sources.iter().filter(|line| line.name != name).cloned().collect();
                self.reconfigured(Settings { sources, ..self.settings.clone() });
            }
        }
    }

    /// What is derived from the settings and kept.
    fn settings_changed(&mut self) {
        self.assumptions = self.settings.digest();
        self.synthesis.forget_roster();
    }

    fn renew_responder(&mut self) {
        let (e, seed) = (self.settings.stamp_error_ns, self.responder_seed);
        self.responder = self.settings.server.clone().map(|server| Responder::new(server, e, seed));
    }

    /// Keeps what did not change. Anything but a mere addition starts a new epoch: what was published relied on it.
    fn reconfigured(&mut self, settings: Settings) {
        let old = std::mem::replace(&mut self.settings, settings);
        self.settings_changed();
        if self.settings.server != old.server {
            self.renew_responder();
        }
        if self.settings.ptp != old.ptp {
            self.engine = self.engine.renewed(&self.settings.ptp);
            self.ports = self.ports.renewed(&old.ptp, &self.settings.ptp);
        }
        self.disciplined.adopt(self.settings.servo);
        self.calibrate();
        self.open_ports();
        self.keep_associations_of(&old);
        self.introduce_masters();
        self.names = vec![NameLookup::IDLE; self.settings.sources.len()];
        (0u32..).zip(0..self.settings.sources.len()).for_each(|(index, _)| self.start_source(index));
        if !is_addition(&old, &self.settings) {
            self.local = None;
            let is_other_past = old.oscillator != self.settings.oscillator
                || old.leap != self.settings.leap
                || old.stamp_error_ns != self.settings.stamp_error_ns;
            if is_other_past {
                let e = self.settings.stamp_error_ns;
                self.associations.iter_mut().for_each(|association| association.stamps_may_err(e));
                if let Some(responder) = &mut self.responder {
                    responder.stamps_may_err(e);
                }
                self.synthesis = self.synthesis.restarted(&self.settings);
            }
            self.synthesis.new_epoch(Reason::NewEpoch, &mut self.events);
            self.synthesis.broken = Some(Broken::Disrupted(Reason::NewEpoch));
            self.publish();
        }
        self.feed = reference::Feed::beginning(self.now, self.settings.feed_interval_ns);
        self.outputs.push_back(Output::ReadCross);
        self.synthesise();
    }

    /// Associations of sources that are still configured, word for word, go on; the others end.
    fn keep_associations_of(&mut self, old: &Settings) {
        let new_index: Vec<Option<u32>> = old
            .sources
            .iter()
            .map(|line| self.settings.sources.iter().position(|new| new == line))
            .map(|index| index.and_then(|index| u32::try_from(index).ok()))
            .collect();
        let index_of = |source: u32| new_index.get(source as usize).copied().flatten();
        let ports = self.settings.ptp.clone();
        // What a master proved rests on its port's settings as well.
        let has_other_port = |association: &Association| {
            let port = association.master().map(|master| usize::from(master.port.0));
            port.is_some_and(|port| old.ptp.get(port) != ports.get(port))
        };
        self.dissociate(|association| index_of(association.source).is_none() || has_other_port(association));
        self.associations.iter_mut().for_each(|a| a.source = index_of(a.source).unwrap_or(a.source));
    }

    // ---- the bound -----------------------------------------------------------------------------------------------

    /// Something was learnt: publishes what follows, then steers.
    fn synthesise(&mut self) {
        // Nothing is to delay what readers wait for.
        if self.find_bound() {
            self.steer();
        }
    }

    /// Publishes what the constraints give now; false if raw time is no clock that could be known.
    fn find_bound(&mut self) -> bool {
        self.next_publication = self.now.plus_ns(self.settings.bound.publish_interval_ns);
        if self.has_unknown_clocksource() {
            self.synthesis.previous = None;
            self.publish();
            return false;
        }
        let mut world = World {
            asked_at: self.responder.as_ref().map(|responder| &responder.asked_at),
            identities: &self.ports.identities,
            now: self.now,
            settings: &self.settings,
            associations: &mut self.associations,
            local: self.local,
            events: &mut self.events,
        };
        if self.synthesis.update(&mut world) && self.status.0.has_bound() {
            // Withdraw first: a reader must not combine the old bound with the new epoch.
            let reason = match self.synthesis.broken {
                Some(Broken::Void(reason) | Broken::Disrupted(reason)) => reason,
                None => self.synthesis.epoch_reason,
            };
            self.say(Status::Disrupted, reason);
            self.publish_as(Status::Disrupted, reason);
        }
        self.publish();
        true
    }

    /// The best source's estimate, kept inside the bound.
    fn estimate(&self) -> Option<Estimate> {
        self.estimate_at(self.now)
    }

    fn publish(&mut self) {
        let findings = &self.synthesis.findings;
        let (status, reason) = status::decide(&status::Findings {
            groups: findings.groups,
            max_liars: findings.max_liars,
            live_groups: findings.live_groups,
            has_bound: self.synthesis.previous.is_some(),
            has_asserted: self.synthesis.asserted.bound.is_some(),
            had_bound: self.synthesis.had_bound,
            uses_trust: findings.uses_trust || self.synthesis.carries_trust,
            has_unknown_clocksource: self.has_unknown_clocksource(),
            broken: self.synthesis.broken,
        });
        let reason = if self.synthesis.is_restored && status == Status::Holdover { Reason::Restarted } else { reason };
        self.say(status, reason);
        self.publish_as(status, reason);
    }

    fn say(&mut self, status: Status, reason: Reason) {
        if self.status != (status, reason) {
            self.status = (status, reason);
            self.events.push(Event::Status { status, reason });
        }
    }

    fn publish_as(&mut self, status: Status, reason: Reason) {
        let bound = self.synthesis.previous.filter(|_| status.has_bound());
        let asserted = self.synthesis.asserted.bound.and_then(|asserted| asserted.carried_to(self.now.as_ns()).ok());
        let oscillator = self.settings.oscillator;
        let believed = bound.or(asserted);
        let edges = believed.and_then(|bound| bound.edges_at(self.now.as_ns()).ok());
        let estimate = believed.zip(edges).and_then(|(bound, edges)| self.estimate_within(self.now, &bound, edges));
        let middle_ns = edges.map_or(0, |edges| edges.lo_ns.midpoint(edges.hi_ns));
        let theta_ns = estimate.map_or(middle_ns, |estimate| estimate.theta_ns);
        // A reader must know the offset before a leap for as long as the leap may still be ahead: the lower edge decides.
        let earliest_ns = edges.map_or(theta_ns, |edges| edges.lo_ns);
        let tai = crate::time::TaiTime::from_ns(self.now.as_ns().saturating_add(earliest_ns));
        let host = self.host.unwrap_or_default();
        let mut source = [0; 32];
        let name = self.source_name().unwrap_or_default();
        let length = name.floor_char_boundary(source.len());
        source[..length].copy_from_slice(&name.as_bytes()[..length]);
        let count = |groups: usize| u32::try_from(groups).unwrap_or(u32::MAX);
        let utc = self.settings.leap.around(tai);
        self.declare(status, bound.as_ref(), utc);
        self.outputs.push_back(Output::Publish(Box::new(Publication {
            status,
            reason,
            epoch: self.synthesis.epoch,
            bound: published_bound(bound, asserted),
            utc,
            wander_fs_per_s2: to_i64(self.synthesis.wander_per_s(&self.settings) * 1e15).unsigned_abs(),
            phase_noise_fs: to_i64(oscillator.phase_noise_s * 1e15).unsigned_abs(),
            spread: oscillator.freq_spread.to_rate_up(),
            omega_limit: oscillator.freq_limit.to_rate_up(),
            clocksource: host.clocksource,
            suspended_ns: host.suspended_ns,
            vm_mark: host.vm_mark,
            foretold: host.foretold,
            leap_expiry_ns: self.settings.leap.expiry().as_ns(),
            asserted: asserted_beside(bound, asserted),
            estimate_theta_ns: theta_ns,
            estimate_omega: estimate.map_or(0, |estimate| estimate.omega.to_rate_down()),
            estimate_sigma_ns: estimate.map_or(0, |estimate| estimate.theta_sigma_ns),
            source,
            assumptions: self.assumptions,
            groups: (count(self.synthesis.findings.groups), count(self.synthesis.findings.live_groups)),
        })));
    }

    /// The association that carries the estimate.
    fn best(&self) -> Option<&Association> {
        let id = self.synthesis.carrier()?;
        self.associations.iter().find(|association| association.id == id)
    }

    /// Addresses by which others may know us.
    fn own_addresses(&self) -> Vec<IpAddr> {
        let asked_at = self.responder.iter().flat_map(|responder| responder.asked_at.iter().copied());
        self.associations.iter().filter_map(|association| association.local_address).chain(asked_at).collect()
    }

    fn source_name(&self) -> Option<&str> {
        let best = self.best();
        let index = best.map(|best| best.source).or(self.local.map(|local| local.source))?;
        self.settings.sources.get(index as usize).map(|line| line.name.as_str())
    }
}

/// The page's bound. Without one, only what an asserted one grows by: its instant, wander, caps and expiry.
fn published_bound(bound: Option<Bound>, asserted: Option<Bound>) -> Bound {
    let growth = |asserted: Bound| Bound { theta_lo_ns: 0, theta_hi_ns: 0, omega_lo: 0, omega_hi: 0, ..asserted };
    bound.or(asserted.map(growth)).unwrap_or_default()
}

/// The asserted edges at the instant of the page's bound.
fn asserted_beside(bound: Option<Bound>, asserted: Option<Bound>) -> Option<Asserted> {
    let asserted = asserted?;
    let at_ns = bound.map_or(asserted.t_ref_ns, |bound| bound.t_ref_ns.max(asserted.t_ref_ns));
    let Bound { t_ref_ns, theta_lo_ns, theta_hi_ns, omega_lo, omega_hi, .. } = asserted.carried_to(at_ns).ok()?;
    let is_beside = bound.is_none_or(|bound| bound.t_ref_ns == t_ref_ns);
    is_beside.then_some(Asserted { theta_lo_ns, theta_hi_ns, omega_lo, omega_hi })
}

/// Does `new` only add sources to `old`?
fn is_addition(old: &Settings, new: &Settings) -> bool {
    new.sources.starts_with(&old.sources)
        && new.ptp.starts_with(&old.ptp)
        && new.oscillator == old.oscillator
        && new.bound == old.bound
        && new.max_liars == old.max_liars
        && new.leap == old.leap
        && new.stamp_error_ns == old.stamp_error_ns
        && new.oscillator_is_stated == old.oscillator_is_stated
}

/// Four bytes that name whom we follow: by the server's address, by what is left of a clock's name.
fn identifier_of(association: &Association) -> [u8; 4] {
    match &association.peer {
        Peer::Ntp { address, .. } => reference_id_of(*address),
        Peer::Ptp(master) => master.identity.folded(),
        Peer::Phc(_) => *b"PHC\0",
        Peer::Reference(reference) => reference.name(),
    }
}

/// The request's number within its association.
fn sequence_of(token: TxToken) -> u32 {
    let [.., a, b, c, d] = token.0.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
