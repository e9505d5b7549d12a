//! The agent: takes inputs, keeps associations, responder and synthesis, and says what is to be done.
//!
//! The caller's contract: hand over one input with [`Agent::handle`], then drain [`Agent::poll`] until it returns
//! [`Output::WakeAt`]. `now` never goes back; an input that says otherwise counts as happening now.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use truebound_client::page::Publication;
use truebound_client::{Reason, Status};

use crate::association::ntp::{Context, ERA_PIVOT, Outcome};
use crate::association::{Association, ntp};
use crate::bound::Terms;
use crate::correlation::Correlation;
use crate::estimate::Estimate;
use crate::event::Event;
use crate::io::{
    AssociationId, Control, CrossReading, HostState, Input, Output, Received, SocketId, Transmit, TxToken,
};
use crate::region::Region;
use crate::report::{AgentReport, SourceReport, Standing};
use crate::responder::{Responder, Served, TOKEN_BIT, reference_id_of};
use crate::servo::Servo;
use crate::settings::{Discipline, Settings, SourceKind, SourceSettings};
use crate::status::{self, Broken};
use crate::synthesis::{LocalSource, Synthesis, World, follows_us, group_of};
use crate::time::{NS_PER_S, RawSpan, RawTime, RealTime};
use crate::units::to_i64;

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
    correlation: Correlation,
    host: Option<HostState>,
    associations: Vec<Association>,
    names: Vec<NameLookup>,
    local: Option<LocalSource>,
    responder: Option<Responder>,
    synthesis: Synthesis,
    servo: Option<Servo>,
    next_association: u32,
    status: (Status, Reason),
    next_publication: RawTime,
}

/// When to look up a source's name (again).
#[derive(Clone, Copy, Debug)]
struct NameLookup {
    at: Option<RawTime>,
    wait_ns: i64,
}

impl Agent {
    /// An agent at rest at `now`. Equal settings, seeds and inputs give equal outputs, byte for byte.
    #[must_use]
    pub fn new(now: RawTime, settings: Settings, seed: [u8; 32]) -> Self {
        let mut agent = Agent {
            synthesis: Synthesis::new(&settings),
            responder: settings.server.clone().map(Responder::new),
            servo: None,
            settings: Settings { sources: Vec::new(), ..settings.clone() },
            now,
            rng: ChaCha12Rng::from_seed(seed),
            outputs: VecDeque::new(),
            events: Vec::new(),
            correlation: Correlation::default(),
            host: None,
            associations: Vec::new(),
            names: Vec::new(),
            local: None,
            next_association: 0,
            status: (Status::Starting, Reason::NoAnswerYet),
            next_publication: now.plus_ns(settings.bound.publish_interval_ns),
        };
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
            Input::Sent { token, user_before, user_after, kernel } => {
                self.sent(token, RawSpan { early: user_before, late: user_after.max(user_before) }, kernel);
            }
            Input::Unsent { token } => self.unsent(token),
            Input::CrossStamped(reading) => self.cross_stamped(reading),
            Input::Host(host) => self.host_changed(host),
            Input::Resolved { source, addresses } => self.resolved(source, &addresses),
            Input::Reconfigured(settings) => self.reconfigured(*settings),
            Input::Restored { bound, epoch } => self.synthesis.restore(bound, epoch),
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
        polls.chain(names).chain([self.next_publication]).min().unwrap_or(RawTime::MAX)
    }

    fn run_timers(&mut self) {
        self.poll_sources();
        self.look_up_names();
        if self.now >= self.next_publication {
            self.synthesise();
        }
        self.flush_events();
    }

    fn flush_events(&mut self) {
        self.outputs.extend(self.events.drain(..).map(Output::Event));
    }

    // ---- sources -------------------------------------------------------------------------------------------------

    fn add_source(&mut self, source: SourceSettings) {
        let index = u32::try_from(self.settings.sources.len()).unwrap_or(u32::MAX);
        let lookup = |at| NameLookup { at, wait_ns: RESOLVE_WAIT_NS };
        let literal = match &source.kind {
            SourceKind::Server { host, port } => host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            SourceKind::Pool { .. } | SourceKind::Local { .. } => None,
        };
        let is_local = matches!(source.kind, SourceKind::Local { .. });
        self.names.push(lookup((literal.is_none() && !is_local).then_some(self.now)));
        self.settings.sources.push(source);
        if let Some(address) = literal {
            self.associate(index, address);
        }
        if is_local {
            self.outputs.push_back(Output::ReadCross);
        }
    }

    fn associate(&mut self, source: u32, address: SocketAddr) {
        let Some(line) = self.settings.sources.get(source as usize) else { return };
        let id = AssociationId(self.next_association);
        self.next_association += 1;
        self.associations.push(Association::new(self.now, id, source, address, line));
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
            SourceKind::Local { .. } => 0,
        };
        let name = line.name.clone();
        let (now, reachable_for) = (self.now, |a: &Association| a.last_answer.is_none() || !a.is_reachable(self.now));
        // An address that does not answer makes room for one that may.
        let stale: Vec<AssociationId> = self
            .associations
            .iter()
            .filter(|a| a.source == source && a.reach == 0 && a.counters.sent > 8 && reachable_for(a))
            .filter(|a| !addresses.contains(&a.address))
            .map(|a| a.id)
            .collect();
        self.dissociate(|a| stale.contains(&a.id));
        for &address in addresses {
            let used = self.associations.iter().filter(|a| a.source == source).count();
            if used < wanted && !self.associations.iter().any(|a| a.address == address) {
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
                if let Some(lookup) = self.names.get_mut(association.source as usize) {
                    let is_name = matches!(&self.settings.sources[association.source as usize].kind,
                        SourceKind::Server { host, .. } if host.parse::<std::net::IpAddr>().is_err());
                    let is_pool =
                        matches!(self.settings.sources[association.source as usize].kind, SourceKind::Pool { .. });
                    lookup.at = (is_name || is_pool).then_some(now);
                }
            }
            (0..requests).for_each(|_| self.request(index));
        }
    }

    fn request(&mut self, index: usize) {
        let association = &mut self.associations[index];
        let (data, sequence) = association.client.request(&mut self.rng);
        self.outputs.push_back(Output::Transmit(Transmit {
            socket: SocketId::Client(association.id),
            to: association.address,
            from: None,
            data,
            token: TxToken(u64::from(association.id.0) << 32 | u64::from(sequence)),
            cookie_at: ntp::COOKIE_AT,
        }));
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
        let context = Context { correlation: &self.correlation, leap: &self.settings.leap, pivot: ERA_PIVOT };
        let Some(association) = self.associations.iter_mut().find(|a| a.id == id) else { return };
        if received.from.ip().to_canonical() != association.address.ip().to_canonical() {
            association.counters.discarded[ntp::Discard::WrongOrigin as usize] += 1;
            return;
        }
        let contradicted_before = association.client.contradicted_stamps;
        match association.client.received(received, &context) {
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
            }
        }
        if association.client.contradicted_stamps > contradicted_before {
            self.events.push(Event::StampDropped { association: id });
        }
        self.synthesise();
        self.adapt_poll(id);
    }

    fn adapt_poll(&mut self, id: AssociationId) {
        let (growth, region) = (self.synthesis.growth_per_s_ns(), self.synthesis.findings.regions.get(&id));
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
            correlation: &self.correlation,
            leap: &self.settings.leap,
        };
        let Some(responder) = &mut self.responder else { return };
        if let Some(answer) = responder.received(self.now, received, &served) {
            self.outputs.push_back(Output::Transmit(answer));
        }
    }

    /// Our stratum and whom we follow.
    fn upstream(&self) -> (u8, [u8; 4]) {
        let best = self.synthesis.findings.best.and_then(|id| self.associations.iter().find(|a| a.id == id));
        match best {
            Some(best) => (best.upstream.stratum.saturating_add(1).min(15), reference_id_of(best.address)),
            None if self.local.is_some() => (1, *b"LOCL"),
            None => (15, *b"HOLD"),
        }
    }

    fn sent(&mut self, token: TxToken, user: RawSpan, kernel: Option<RealTime>) {
        if token.0 & TOKEN_BIT != 0 {
            if let Some(responder) = &mut self.responder {
                responder.sent(token, user, kernel);
            }
        } else if let Some((client, sequence)) = self.client_of(token) {
            client.sent(sequence, user, kernel);
        }
    }

    fn unsent(&mut self, token: TxToken) {
        let Some(association) = self.associations.iter_mut().find(|a| u64::from(a.id.0) == token.0 >> 32) else {
            return;
        };
        association.counters.unsent += 1;
        association.client.unsent(sequence_of(token));
    }

    fn client_of(&mut self, token: TxToken) -> Option<(&mut ntp::Client, u32)> {
        let association = self.associations.iter_mut().find(|a| u64::from(a.id.0) == token.0 >> 32)?;
        Some((&mut association.client, sequence_of(token)))
    }

    // ---- this host -----------------------------------------------------------------------------------------------

    fn cross_stamped(&mut self, reading: CrossReading) {
        self.correlation.push(reading);
        if let Some(responder) = &mut self.responder {
            responder.bracketed(&self.correlation);
        }
        if self.local.is_none() {
            self.adopt_local_clock(&reading);
        }
        if self.servo.is_none()
            && let Discipline::Virtual { offset_ns: ahead_ns } = self.settings.discipline
        {
            let tai = self.settings.leap.to_tai(crate::time::UtcTime::from_ns(reading.real.as_ns()));
            let offset_ns = tai.as_ns().saturating_sub(reading.before.as_ns()).saturating_add(ahead_ns);
            self.servo = Some(Servo::new(self.now, offset_ns, self.settings.servo));
            self.outputs.push_back(Output::Steer(crate::io::Steer::Step { ns: offset_ns }));
        }
    }

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

    fn host_changed(&mut self, host: HostState) {
        let reason = match self.host.replace(host) {
            None => return self.synthesise(),
            Some(before) if before.clocksource != host.clocksource => Reason::ClocksourceChanged,
            Some(before) if before.suspended_ns != host.suspended_ns => Reason::Suspended,
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
        self.correlation.clear();
        self.local = None;
        self.servo = None;
        self.outputs.push_back(Output::ReadCross);
        self.synthesis.new_epoch(reason, &mut self.events);
        self.synthesis.broken = Some(Broken::Disrupted(reason));
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

    fn make_step(&mut self) {
        let (now, estimate) = (self.now, self.estimate());
        if let (Some(servo), Some(estimate)) = (&mut self.servo, estimate) {
            let step = servo.make_step(now, &estimate);
            if let crate::io::Steer::Step { ns } = step {
                self.events.push(Event::Stepped { ns });
            }
            self.outputs.push_back(Output::Steer(step));
        }
    }

    /// Keeps what did not change. Anything but a mere addition starts a new epoch: what was published relied on it.
    fn reconfigured(&mut self, settings: Settings) {
        let old = std::mem::replace(&mut self.settings, Settings { sources: Vec::new(), ..settings.clone() });
        let is_addition = settings.sources.starts_with(&old.sources)
            && settings.oscillator == old.oscillator
            && settings.bound == old.bound
            && settings.max_liars == old.max_liars
            && settings.leap == old.leap;
        if settings.server != old.server {
            self.responder = settings.server.clone().map(Responder::new);
        }
        let new_index = |source: u32| {
            let line = old.sources.get(source as usize)?;
            settings.sources.iter().position(|new| new == line).and_then(|index| u32::try_from(index).ok())
        };
        self.dissociate(|association| new_index(association.source).is_none());
        self.associations.iter_mut().for_each(|a| a.source = new_index(a.source).unwrap_or(a.source));
        self.names.clear();
        for (index, line) in (0u32..).zip(&settings.sources) {
            let is_literal =
                matches!(&line.kind, SourceKind::Server { host, .. } if host.parse::<std::net::IpAddr>().is_ok());
            let wanted = if let SourceKind::Pool { count, .. } = line.kind { usize::from(count) } else { 1 };
            let is_short = self.associations.iter().filter(|a| a.source == index).count() < wanted;
            let is_name = !is_literal && !matches!(line.kind, SourceKind::Local { .. });
            self.names.push(NameLookup { at: (is_name && is_short).then_some(self.now), wait_ns: RESOLVE_WAIT_NS });
        }
        self.settings.sources.clone_from(&settings.sources);
        for (index, line) in (0u32..).zip(&settings.sources) {
            if let SourceKind::Server { host, port } = &line.kind
                && let Ok(ip) = host.parse()
                && !self.associations.iter().any(|a| a.source == index)
            {
                self.associate(index, SocketAddr::new(ip, *port));
            }
        }
        if !is_addition {
            self.local = None;
            if old.oscillator != settings.oscillator || old.leap != settings.leap {
                self.associations.iter_mut().for_each(Association::forget);
                self.synthesis = self.synthesis.restarted(&settings);
            }
            self.synthesis.new_epoch(Reason::NewEpoch, &mut self.events);
            self.synthesis.broken = Some(Broken::Disrupted(Reason::NewEpoch));
            self.publish();
        }
        self.outputs.push_back(Output::ReadCross);
        self.synthesise();
    }

    // ---- the bound -----------------------------------------------------------------------------------------------

    fn synthesise(&mut self) {
        let mut world = World {
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
            let withdrawn = self.synthesis.previous.take();
            self.say(Status::Disrupted, reason);
            self.publish_as(Status::Disrupted, reason);
            self.synthesis.previous = withdrawn;
        }
        self.steer();
        self.publish();
        self.next_publication = self.now.plus_ns(self.settings.bound.publish_interval_ns);
    }

    fn steer(&mut self) {
        let (now, estimate) = (self.now, self.estimate());
        if let (Some(servo), Some(estimate)) = (&mut self.servo, estimate) {
            let action = servo.update(now, &estimate);
            if let Some(crate::io::Steer::Step { ns }) = action.step {
                self.events.push(Event::Stepped { ns });
            }
            self.outputs.extend([action.step, action.rate].into_iter().flatten().map(Output::Steer));
        }
    }

    /// The best source's estimate, kept inside the bound.
    fn estimate(&self) -> Option<Estimate> {
        self.estimate_at(self.now)
    }

    fn estimate_at(&self, now: RawTime) -> Option<Estimate> {
        let edges = self.synthesis.previous?.edges_at(now.as_ns()).ok()?;
        let best = self.synthesis.findings.best.and_then(|id| self.associations.iter().find(|a| a.id == id));
        let middle = edges.lo_ns.saturating_add(edges.hi_ns.saturating_sub(edges.lo_ns) / 2);
        let estimate = match (best.and_then(|best| best.estimator.at(now)), self.local) {
            (Some(estimate), _) => estimate,
            (None, Some(_)) => Estimate { theta_ns: middle, ..Estimate::exact() },
            (None, None) => return None,
        };
        Some(Estimate { theta_ns: estimate.theta_ns.clamp(edges.lo_ns, edges.hi_ns), ..estimate })
    }

    fn publish(&mut self) {
        let findings = &self.synthesis.findings;
        let (status, reason) = status::decide(&status::Findings {
            groups: findings.groups,
            max_liars: findings.max_liars,
            live_groups: findings.live_groups,
            has_bound: self.synthesis.previous.is_some(),
            had_bound: self.synthesis.had_bound,
            uses_trust: findings.uses_trust,
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
        let estimate = self.estimate();
        let oscillator = self.settings.oscillator;
        let theta_ns = estimate.map_or(0, |estimate| estimate.theta_ns);
        let tai = crate::time::TaiTime::from_ns(self.now.as_ns().saturating_add(theta_ns));
        let host = self.host.unwrap_or_default();
        let mut source = [0; 32];
        let name = self.source_name().unwrap_or_default();
        let length = name.floor_char_boundary(source.len());
        source[..length].copy_from_slice(&name.as_bytes()[..length]);
        let count = |groups: usize| u32::try_from(groups).unwrap_or(u32::MAX);
        self.outputs.push_back(Output::Publish(Box::new(Publication {
            status,
            reason,
            epoch: self.synthesis.epoch,
            bound: self.synthesis.previous.unwrap_or_default(),
            utc: self.settings.leap.around(tai),
            wander_fs_per_s2: to_i64(self.synthesis.wander_per_s(&self.settings) * 1e15).unsigned_abs(),
            phase_noise_fs: to_i64(oscillator.phase_noise_s * 1e15).unsigned_abs(),
            spread: oscillator.freq_spread.to_rate_up(),
            omega_limit: oscillator.freq_limit.to_rate_up(),
            clocksource: host.clocksource,
            suspended_ns: host.suspended_ns,
            leap_expiry_ns: self.settings.leap.expiry().as_ns(),
            asserted: None,
            estimate_theta_ns: theta_ns,
            estimate_omega: estimate.map_or(0, |estimate| estimate.omega.to_rate_down()),
            estimate_sigma_ns: estimate.map_or(0, |estimate| estimate.theta_sigma_ns),
            source,
            groups: (count(self.synthesis.findings.groups), count(self.synthesis.findings.live_groups)),
        })));
    }

    fn source_name(&self) -> Option<&str> {
        let best = self.synthesis.findings.best.and_then(|id| self.associations.iter().find(|a| a.id == id));
        let index = best.map(|best| best.source).or(self.local.map(|local| local.source))?;
        self.settings.sources.get(index as usize).map(|line| line.name.as_str())
    }

    // ---- queries -------------------------------------------------------------------------------------------------

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the agent believes at `now`.
    #[must_use]
    pub fn report(&self, now: RawTime) -> AgentReport {
        let findings = &self.synthesis.findings;
        AgentReport {
            at: now,
            status: self.status.0,
            reason: self.status.1,
            epoch: self.synthesis.epoch,
            bound: self.synthesis.previous.filter(|_| self.status.0.has_bound()),
            terms: self.terms(),
            estimate: self.estimate_at(now),
            source: self.source_name().map(str::to_owned),
            groups: (findings.groups, findings.live_groups, findings.max_liars),
            sources: self.source_reports(now),
            server: self.responder.as_ref().map(|responder| responder.counters),
        }
    }

    fn terms(&self) -> Terms {
        let Some(bound) = self.synthesis.previous else { return Terms::default() };
        let half_width_ns = bound.theta_hi_ns.saturating_sub(bound.theta_lo_ns).saturating_add(1) / 2;
        let best = self.synthesis.findings.best.and_then(|id| self.associations.iter().find(|a| a.id == id));
        let path_ns = best.and_then(|best| best.estimator.least_strip_ns()).map_or(0, |strip| strip / 2);
        let claim_ns = best.map_or(0, |best| best.upstream.claim_ns);
        let cpu_ns = self.settings.bound.cpu_error_ns;
        let phase_ns = to_i64((self.settings.oscillator.phase_noise_s * 1e9 / 16.0).ceil());
        let wander_ns = half_width_ns - path_ns - claim_ns - cpu_ns - phase_ns;
        Terms { path_ns, claim_ns, cpu_ns, phase_ns, wander_ns }
    }

    fn source_reports(&self, now: RawTime) -> Vec<SourceReport> {
        let mut reports = Vec::new();
        for (index, line) in (0u32..).zip(&self.settings.sources) {
            let mut associations = self.associations.iter().filter(|a| a.source == index).peekable();
            if associations.peek().is_none() {
                reports.push(self.report_without_address(index, line));
            }
            reports.extend(associations.map(|association| self.report_of(now, association, line)));
        }
        reports
    }

    fn report_without_address(&self, index: u32, line: &SourceSettings) -> SourceReport {
        let local = self.local.filter(|local| local.source == index);
        SourceReport {
            association: None,
            name: line.name.clone(),
            address: None,
            standing: if local.is_some() { Standing::Truechimer } else { Standing::Waiting },
            trust: line.trust,
            carries: local.is_some() && self.synthesis.findings.best.is_none(),
            group: line.group.clone().unwrap_or_default(),
            stratum: 0,
            reach: 0,
            poll_ns: 0,
            age_ns: None,
            offset_ns: local.map(|_| 0),
            delay_ns: 0,
            delay_min_ns: None,
            claim_ns: 0,
            half_width_ns: local.map(|local| local.region.half_width_ns()),
            has_kernel_stamps: false,
            missing_stamps: (0, 0),
            contradicted_stamps: 0,
            counters: crate::association::Counters::default(),
        }
    }

    fn report_of(&self, now: RawTime, association: &Association, line: &SourceSettings) -> SourceReport {
        let estimate = association.estimator.at(now);
        let own = self.estimate_at(now);
        SourceReport {
            association: Some(association.id),
            name: line.name.clone(),
            address: Some(association.address),
            standing: self.standing(now, association),
            trust: line.trust,
            carries: self.synthesis.findings.best == Some(association.id),
            group: group_of(association, &self.settings).to_string(),
            stratum: association.upstream.stratum,
            reach: association.reach,
            poll_ns: association.poll.now_ns,
            age_ns: association.last_answer.map(|at| now.ns_since(at)),
            offset_ns: own.zip(estimate).map(|(own, theirs)| own.theta_ns.saturating_sub(theirs.theta_ns)),
            delay_ns: association.delay_ns,
            delay_min_ns: association.estimator.least_strip_ns(),
            claim_ns: association.upstream.claim_ns,
            half_width_ns: self.synthesis.findings.regions.get(&association.id).map(Region::half_width_ns),
            has_kernel_stamps: association.has_kernel_stamps,
            missing_stamps: association.client.missing_stamps,
            contradicted_stamps: association.client.contradicted_stamps,
            counters: association.counters,
        }
    }

    fn standing(&self, now: RawTime, association: &Association) -> Standing {
        let own: Vec<_> = self.associations.iter().filter_map(|a| a.local_address).collect();
        if association.is_forbidden {
            Standing::Forbidden
        } else if association.counters.answers == 0 {
            Standing::Waiting
        } else if association.is_proving_itself() {
            Standing::Proving
        } else if !association.is_reachable(now) {
            Standing::Unreachable
        } else if follows_us(association, &own) {
            Standing::NoVote
        } else if association.is_falseticker {
            Standing::Falseticker
        } else {
            Standing::Truechimer
        }
    }
}

/// The request's number within its association.
fn sequence_of(token: TxToken) -> u32 {
    let [.., a, b, c, d] = token.0.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
