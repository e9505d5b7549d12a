//! PTP in the agent: stamps are placed in raw time before the protocol engine sees a message, and what the engine finds
//! becomes associations, constraints and exchanges. As master it tells what the bound says, never more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use truebound_client::Status;

use super::Agent;
use crate::association::ptp::{Master, accuracy_of, interval_ns};
use crate::association::{Association, Peer, Upstream};
use crate::clocks::{Calibration, Placed};
use crate::event::Event;
use crate::io::{
    HardwareStamp, Output, PhcId, PhcReading, PtpChannel, PtpLink, PtpPort, PtpReceived, PtpTransmit, Steer, TxToken,
};
use crate::phc::Phc;
use crate::phc_servo::{PhcServo, PhcState};
use crate::ptp::{Action, Announced, Finding, PortIdentity, PortState, Quality, When, folded};
use crate::report::{PtpPortReport, StampKind};
use crate::settings::{PtpRole, PtpSettings, SourceKind};
use crate::time::{NS_PER_S, RawSpan, RawTime, RealTime, TaiTime};
use crate::units::{to_f64, to_i64};

/// A transmit stamp that takes longer than this does not come any more, ns.
const STAMP_WAIT_NS: i64 = 100_000_000;
/// A message that the shell says nothing of for so long was never sent, ns.
const SEND_WAIT_NS: i64 = NS_PER_S;
/// PHCs are read at least this often, ns.
const READING_NS: i64 = NS_PER_S / 4;
/// Messages under way.
const MAX_OUTGOING: usize = 256;
/// timeSource (IEEE 1588-2019 Table 6).
const FROM_PTP: u8 = 0x40;
const FROM_NTP: u8 = 0x50;
const FROM_OTHER: u8 = 0x90;
const FROM_OSCILLATOR: u8 = 0xa0;

/// What is known of one port.
#[derive(Clone, Debug, Default)]
struct Port {
    link: Option<PtpLink>,
    /// Of its last link: we may have steered it.
    last_phc: Option<PhcId>,
    state: PortState,
    /// Event messages whose stamp was missing: transmit, receive.
    missing: (u64, u64),
    contradicted: u64,
    /// Of the last event message.
    stamps: Option<StampKind>,
    /// A UTC offset that was complained of.
    complained_s: Option<i16>,
}

/// An event message of ours whose stamp is still to come.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    port: PtpPort,
    user: Option<RawSpan>,
    kernel: Option<RealTime>,
    hardware: Option<HardwareStamp>,
    deadline: RawTime,
}

/// The ports, and what is under way.
#[derive(Debug)]
pub(super) struct Ports {
    ports: Vec<Port>,
    outgoing: BTreeMap<TxToken, Outgoing>,
    /// Of the PHCs that we steer.
    servos: BTreeMap<PhcId, PhcServo>,
    /// When the PHCs are read again, whatever comes or goes.
    next_reading: RawTime,
    /// The clocks that our ports are, or were.
    pub(super) identities: BTreeSet<[u8; 8]>,
    /// How wrong what we told lately may be, ns: the greatest, then what came after it, each with its instant.
    told_ns: VecDeque<(RawTime, i64)>,
}

impl Ports {
    pub(super) fn new(settings: &[PtpSettings]) -> Self {
        Ports {
            ports: vec![Port::default(); settings.len()],
            outgoing: BTreeMap::new(),
            servos: BTreeMap::new(),
            next_reading: RawTime::MAX,
            identities: BTreeSet::new(),
            told_ns: VecDeque::new(),
        }
    }

    /// After a reload: ports that did not change keep their links.
    pub(super) fn renewed(&self, old: &[PtpSettings], new: &[PtpSettings]) -> Self {
        let mut ports = Ports { identities: self.identities.clone(), ..Ports::new(new) };
        for (at, port) in ports.ports.iter_mut().enumerate() {
            if old.get(at) == new.get(at) {
                port.link = self.ports.get(at).and_then(|port| port.link);
                port.last_phc = self.ports.get(at).and_then(|port| port.last_phc);
            }
        }
        ports
    }

    /// Raw time is another clock now: what was sent in the old one is lost.
    pub(super) fn forget(&mut self) {
        self.outgoing.clear();
        // A PHC may have been set as well.
        self.servos.clear();
    }

    pub(super) fn next_deadline(&self) -> Option<RawTime> {
        self.outgoing.values().map(|outgoing| outgoing.deadline).chain([self.next_reading]).min()
    }

    fn get(&self, port: PtpPort) -> Option<&Port> {
        self.ports.get(usize::from(port.0))
    }

    fn get_mut(&mut self, port: PtpPort) -> Option<&mut Port> {
        self.ports.get_mut(usize::from(port.0))
    }

    /// The clock of the port's hardware stamps.
    fn phc_of(&self, port: PtpPort) -> Option<PhcId> {
        self.get(port)?.link?.phc
    }
}

impl Port {
    fn count(&mut self, placed: &Placed) {
        self.contradicted += u64::from(placed.contradicted);
        self.stamps = Some(match placed.stamps.kernel {
            Some(_) if placed.stamps.is_hardware() => StampKind::Hardware,
            Some(_) => StampKind::Kernel,
            None => StampKind::User,
        });
    }
}

impl Agent {
    // ---- in ------------------------------------------------------------------------------------------------------

    pub(super) fn phc_crossed(&mut self, reading: &PhcReading) {
        let freq_limit = self.settings.oscillator.freq_limit.as_fraction();
        let is_ours = self.steers(reading.phc);
        self.clocks.phc_read(reading, freq_limit, is_ours);
        if is_ours {
            // A clock that follows us proves nothing.
            return self.steer_phc(reading.phc);
        }
        let wander = self.synthesis.wander(&self.settings);
        let leap = &self.settings.leap;
        let mut proves = false;
        for association in &mut self.associations {
            if matches!(&association.peer, Peer::Phc(source) if source.phc == reading.phc) {
                proves |= association.phc_read(&reading.cross, reading.stated_error_ns, leap, &wander);
            }
        }
        if proves {
            self.synthesise();
        }
    }

    /// A PHC of ours was read: corrects it, if it is time to.
    fn steer_phc(&mut self, phc: PhcId) {
        if !self.status.0.has_bound() {
            return;
        }
        let Some((dialled_ppb, rate)) = self.clocks.phc(phc).and_then(Phc::rates) else { return };
        let Some(estimate) = self.estimate_at(self.now) else { return };
        let Some(offset_ns) = self.clocks.phc(phc).and_then(|phc| phc.reads_at(self.now)) else { return };
        let offset_ns = offset_ns.saturating_sub(self.now.as_ns()).saturating_sub(estimate.theta_ns);
        let state = PhcState { offset_ns, dialled_ppb, rate, omega: estimate.omega };
        let now = self.now;
        let servo = self.ports.servos.entry(phc).or_insert_with(|| PhcServo::new(now));
        if let Some(steer) = servo.update(now, &state, &self.settings.servo) {
            if let Steer::Step { ns } = steer {
                self.events.push(Event::PhcStepped { phc, ns });
            }
            self.outputs.push_back(Output::SteerPhc(phc, steer));
        }
    }

    fn steers(&self, phc: PhcId) -> bool {
        let mut ports = self.settings.ptp.iter().zip(&self.ports.ports);
        // Also without a link: it still shows what we made of it.
        ports.any(|(settings, port)| settings.steers_phc && port.last_phc == Some(phc))
    }

    pub(super) fn link_changed(&mut self, port: PtpPort, link: Option<PtpLink>) {
        let Some(known) = self.ports.get_mut(port).filter(|known| known.link != link) else { return };
        known.link = link;
        match link {
            None => self.ports.outgoing.retain(|_, outgoing| outgoing.port != port),
            Some(link) => {
                known.last_phc = link.phc;
                self.ports.identities.insert(link.identity);
                // Drivers set the PHC anew when a link comes up, and its number may be another device's.
                if let Some(phc) = link.phc {
                    self.clocks.forget_phc(phc);
                    self.ports.servos.remove(&phc);
                }
            }
        }
        self.calibrate();
        let name = self.port_name(port);
        let is_hardware = link.is_some_and(|link| link.phc.is_some());
        self.events.push(Event::PtpLink { port: name, is_up: link.is_some(), is_hardware });
        self.engine.link(self.now, port, link, &mut self.rng);
        self.ports.next_reading = self.now;
    }

    /// The line through a PHC's readings must not break off while nothing comes or goes.
    fn read_phcs(&mut self) {
        if self.now < self.ports.next_reading {
            return;
        }
        let phcs: BTreeSet<PhcId> = self.ports.ports.iter().filter_map(|port| port.link?.phc).collect();
        self.ports.next_reading = if phcs.is_empty() { RawTime::MAX } else { self.now.plus_ns(READING_NS) };
        self.outputs.extend(phcs.into_iter().map(Output::ReadPhc));
    }

    /// Tells what the configuration says of the NICs behind the ports.
    pub(super) fn calibrate(&mut self) {
        self.clocks.uncalibrate();
        for (settings, port) in self.settings.ptp.iter().zip(&self.ports.ports) {
            if let Some(phc) = port.last_phc {
                let calibration = Calibration {
                    error_ns: settings.stamp_error_ns,
                    ingress_ns: settings.ingress_latency_ns,
                    egress_ns: settings.egress_latency_ns,
                };
                self.clocks.calibrate(phc, calibration);
            }
        }
    }

    /// After a reload some ports' masters have no association any more.
    pub(super) fn introduce_masters(&mut self) {
        for at in 0..u16::try_from(self.settings.ptp.len()).unwrap_or(u16::MAX) {
            let port = PtpPort(at);
            if !self.associations.iter().filter_map(Association::master).any(|master| master.port == port) {
                self.engine.introduce(port);
            }
        }
    }

    /// After the engine was replaced: it does not know the links yet.
    pub(super) fn open_ports(&mut self) {
        for (at, port) in (0u16..).zip(&self.ports.ports) {
            if port.link.is_some() {
                self.engine.link(self.now, PtpPort(at), port.link, &mut self.rng);
            }
        }
    }

    pub(super) fn ptp_received(&mut self, received: &PtpReceived<'_>) {
        let is_event = received.channel == PtpChannel::Event;
        let when = is_event.then(|| {
            let placed = self.clocks.came(received.user_after, received.kernel, received.hardware);
            let expects_nic = self.ports.phc_of(received.port).is_some();
            if let Some(port) = self.ports.get_mut(received.port) {
                port.count(&placed);
                let is_missing = if expects_nic { received.hardware.is_none() } else { received.kernel.is_none() };
                port.missing.1 += u64::from(is_missing);
            }
            self.when(&placed)
        });
        self.engine.received(self.now, received.port, received.channel, received.data, when);
    }

    pub(super) fn ptp_sent(
        &mut self,
        token: TxToken,
        user: RawSpan,
        kernel: Option<RealTime>,
        hardware: Option<HardwareStamp>,
    ) {
        let Some(outgoing) = self.ports.outgoing.get_mut(&token) else { return };
        let first = outgoing.user.unwrap_or(user);
        outgoing.user = Some(RawSpan { early: first.early, late: first.late.max(user.late) });
        outgoing.kernel = outgoing.kernel.or(kernel);
        outgoing.hardware = outgoing.hardware.or(hardware);
        outgoing.deadline = outgoing.deadline.min(self.now.plus_ns(STAMP_WAIT_NS));
        let (has_kernel, has_nic) = (outgoing.kernel.is_some(), outgoing.hardware.is_some());
        let expects_nic = self.ports.outgoing.get(&token).and_then(|o| self.ports.phc_of(o.port)).is_some();
        if has_nic || (has_kernel && !expects_nic) {
            self.conclude(token);
        }
    }

    pub(super) fn ptp_unsent(&mut self, token: TxToken) {
        if self.ports.outgoing.remove(&token).is_some() {
            self.engine.sent(self.now, token, None);
        }
    }

    /// An event message left: tells the engine when, as well as it is known.
    fn conclude(&mut self, token: TxToken) {
        let Some(outgoing) = self.ports.outgoing.remove(&token) else { return };
        let Some(user) = outgoing.user else { return self.engine.sent(self.now, token, None) };
        let placed = self.clocks.sent(user, outgoing.kernel, outgoing.hardware);
        let expects_nic = self.ports.phc_of(outgoing.port).is_some();
        if let Some(port) = self.ports.get_mut(outgoing.port) {
            port.count(&placed);
            let is_missing = if expects_nic { outgoing.hardware.is_none() } else { outgoing.kernel.is_none() };
            port.missing.0 += u64::from(is_missing);
        }
        let when = self.when(&placed);
        self.engine.sent(self.now, token, Some(when));
    }

    fn when(&self, placed: &Placed) -> When {
        When { stamps: placed.stamps, point: placed.point, told: self.tai_at(placed.point) }
    }

    /// What our bound says of true time at raw `at`, which is about now; `None` without one.
    fn tai_at(&self, at: RawTime) -> Option<TaiTime> {
        if !self.status.0.has_bound() || self.ports.ports.is_empty() {
            return None;
        }
        let estimate = self.estimate_at(self.now)?;
        let run_ns = to_i64((estimate.omega.as_fraction() * to_f64(at.ns_since(self.now))).round());
        Some(TaiTime::from_ns(at.as_ns().saturating_add(estimate.theta_ns).saturating_add(run_ns)))
    }

    // ---- out -----------------------------------------------------------------------------------------------------

    /// Timers of the ports, stamps that do not come any more, and everything that the engine wants.
    pub(super) fn run_ports(&mut self) {
        if self.settings.ptp.is_empty() {
            return;
        }
        let now = self.now;
        while let Some(token) = self.ports.outgoing.iter().find(|(_, o)| o.deadline <= now).map(|(&token, _)| token) {
            self.conclude(token);
        }
        if self.settings.ptp.iter().any(|port| port.role != PtpRole::Slave) {
            let quality = self.quality();
            self.engine.serve(quality);
        }
        self.read_phcs();
        self.engine.wake(now);
        while let Some(action) = self.engine.poll() {
            match action {
                Action::Transmit(transmit) => self.ptp_transmit(transmit),
                Action::Found(port, finding) => self.found(port, finding),
            }
        }
    }

    fn ptp_transmit(&mut self, transmit: PtpTransmit) {
        if transmit.channel == PtpChannel::Event {
            if self.ports.outgoing.len() == MAX_OUTGOING {
                self.ports.outgoing.pop_first();
            }
            let deadline = self.now.plus_ns(SEND_WAIT_NS);
            let outgoing = Outgoing { port: transmit.port, user: None, kernel: None, hardware: None, deadline };
            self.ports.outgoing.insert(transmit.token, outgoing);
        }
        self.outputs.push_back(Output::PtpTransmit(Box::new(transmit)));
    }

    /// What we may say of ourselves as a grandmaster: never better than the bound.
    fn quality(&mut self) -> Option<Quality> {
        let error_ns = self.worst_told_ns()?;
        let edges = self.synthesis.previous?.edges_at(self.now.as_ns()).ok()?;
        let stamp_ns = self.settings.ptp.iter().map(|port| port.stamp_error_ns).max().unwrap_or(0);
        let tai = TaiTime::from_ns(self.now.as_ns().saturating_add(edges.lo_ns));
        let around = self.settings.leap.around(tai);
        let is_today = around.change_at_ns.saturating_sub(tai.as_ns()) <= 86_400 * NS_PER_S;
        let leap = around.after_s.checked_sub(around.offset_s).filter(|&by| is_today && by.abs() == 1);
        let is_root = self.local.is_some();
        let is_locked = self.status.0 == Status::Locked;
        Some(Quality {
            clock_class: match (is_root, is_locked) {
                (false, true) => 6,
                (false, false) => 7,
                (true, true) => 13,
                (true, false) => 14,
            },
            clock_accuracy: accuracy_of(error_ns.saturating_add(stamp_ns)),
            time_source: match self.best().map(|best| &best.peer) {
                Some(Peer::Ptp(_)) => FROM_PTP,
                Some(Peer::Ntp { .. }) => FROM_NTP,
                Some(Peer::Phc(_) | Peer::Reference(_)) => FROM_OTHER,
                None => FROM_OSCILLATOR,
            },
            utc_offset_s: i16::try_from(around.offset_s).ok(),
            leap: leap.and_then(|by| i8::try_from(by).ok()).unwrap_or(0),
            is_traceable: !is_root,
        })
    }

    /// How wrong what a master tells may be, ns: the worst since the Announce before the next, because a slave takes what
    /// was announced around a Sync for its error.
    fn worst_told_ns(&mut self) -> Option<i64> {
        let bound = self.synthesis.previous.filter(|_| self.status.0.has_bound())?;
        let edges = bound.edges_at(self.now.as_ns()).ok()?;
        let theta_ns = self.estimate_at(self.now)?.theta_ns;
        let error_ns = edges.hi_ns.saturating_sub(theta_ns).max(theta_ns.saturating_sub(edges.lo_ns));
        let longest = self.settings.ptp.iter().map(|port| port.log_announce).max().unwrap_or(0);
        let since = self.now.plus_ns(interval_ns(longest).saturating_mul(-2));
        let told = &mut self.ports.told_ns;
        // What was better before it says nothing any more.
        while told.back().is_some_and(|&(_, before_ns)| before_ns <= error_ns) {
            told.pop_back();
        }
        told.push_back((self.now, error_ns));
        while told.front().is_some_and(|&(at, _)| at < since) {
            told.pop_front();
        }
        told.front().map(|&(_, worst_ns)| worst_ns)
    }

    // ---- what the ports learnt -----------------------------------------------------------------------------------

    fn found(&mut self, port: PtpPort, finding: Finding) {
        match finding {
            Finding::State(state) => {
                if let Some(known) = self.ports.get_mut(port) {
                    known.state = state;
                }
                let port = self.port_name(port);
                self.events.push(Event::PtpState { port, state });
            }
            Finding::Parent(parent) => self.parent_changed(port, parent),
            Finding::Announced(announced) => self.master_announced(port, announced),
            Finding::Synced { arrived, origin, correction, least } => {
                let (now, nic_doubt_ns) = (self.now, self.nic_doubt_ns(port));
                let Some((association, leap)) = master_of(&mut self.associations, &self.settings, port) else { return };
                association.synced(now, arrived.stamps);
                let Some(master) = association.master_mut() else { return };
                master.nic_doubt_ns = nic_doubt_ns;
                if let Some(exchange) = master.synced(&arrived, origin, (correction, least), leap) {
                    association.take_exchange(&exchange);
                }
            }
            Finding::Delayed { left, received, correction, least } => {
                let Some((association, leap)) = master_of(&mut self.associations, &self.settings, port) else { return };
                if let Some(master) = association.master_mut() {
                    let _ = master.delayed(&left, received, (correction, least), leap);
                }
            }
            Finding::PeerDelayed { left, received, sent, arrived, correction } => {
                let now = self.now;
                let Some((association, _)) = master_of(&mut self.associations, &self.settings, port) else { return };
                let omega = association.estimator.at(now).map_or(0.0, |estimate| estimate.omega.as_fraction());
                if let Some(master) = association.master_mut() {
                    master.peer_delayed(&left, (received, sent), &arrived, correction, omega);
                }
            }
        }
    }

    fn nic_doubt_ns(&self, port: PtpPort) -> i64 {
        let relation = self.ports.phc_of(port).and_then(|phc| self.clocks.phc(phc)?.relation());
        relation.map_or(i64::MAX, |relation| relation.error_ns.max(1))
    }

    /// The port follows another master, or none: the one before goes only when another one comes.
    fn parent_changed(&mut self, port: PtpPort, parent: Option<PortIdentity>) {
        self.events.push(Event::PtpParent { port: self.port_name(port), parent });
        let Some(source) = self.source_of(port) else { return };
        let known = self.associations.iter_mut().find(|a| a.source == source).and_then(Association::master_mut);
        match (known, parent) {
            (Some(master), parent) if parent.is_none_or(|parent| parent == master.identity) => {
                master.is_parent = parent.is_some();
            }
            (_, Some(parent)) => {
                self.dissociate(|association| association.source == source);
                let Some(settings) = self.settings.ptp.get(usize::from(port.0)) else { return };
                let master = Master::new(port, parent, settings);
                self.adopt(source, |_, id, line, e| Association::ptp(id, source, master, line, e));
            }
            (_, None) => {}
        }
    }

    fn master_announced(&mut self, port: PtpPort, announced: Announced) {
        let (now, wander) = (self.now, self.synthesis.wander(&self.settings));
        let name = self.port_name(port);
        self.check_utc_offset(port, &announced);
        let Some((association, _)) = master_of(&mut self.associations, &self.settings, port) else { return };
        let Some(master) = association.master_mut() else { return };
        let before = master.vote;
        let admitted = master.announced(now, announced);
        let (vote, claim_ns) = (master.vote, master.claim_ns);
        association.upstream = Upstream {
            stratum: u8::try_from(announced.steps_removed.saturating_add(1)).unwrap_or(u8::MAX).min(15),
            reference_id: folded(announced.grandmaster),
            claim_ns,
        };
        association.admitted(now, &admitted, &wander);
        if vote != before {
            self.events.push(Event::PtpVote { port: name, vote });
        }
        if !admitted.asserted.is_empty() {
            self.synthesise();
        }
    }

    /// The announced offset is a second opinion only: θ is TAI, and the list of leap seconds makes UTC of it.
    fn check_utc_offset(&mut self, port: PtpPort, announced: &Announced) {
        let Some(announced_s) = announced.utc_offset_s else { return };
        let Some(edges) = self.synthesis.previous.and_then(|bound| bound.edges_at(self.now.as_ns()).ok()) else {
            return;
        };
        let around = |theta_ns: i64| {
            self.settings.leap.around(TaiTime::from_ns(self.now.as_ns().saturating_add(theta_ns))).offset_s
        };
        let listed_s = around(edges.lo_ns);
        let is_sure = listed_s == around(edges.hi_ns);
        let Some(known) = self.ports.get_mut(port) else { return };
        let differs = is_sure && i32::from(announced_s) != listed_s;
        if differs && known.complained_s != Some(announced_s) {
            known.complained_s = Some(announced_s);
            let port = self.port_name(port);
            self.events.push(Event::UtcOffset { port, announced_s: i32::from(announced_s), listed_s });
        } else if !differs {
            known.complained_s = None;
        }
    }

    // ---- words ---------------------------------------------------------------------------------------------------

    fn port_name(&self, port: PtpPort) -> String {
        self.settings.ptp.get(usize::from(port.0)).map(|port| port.name.clone()).unwrap_or_default()
    }

    fn source_of(&self, port: PtpPort) -> Option<u32> {
        let is_it = |kind: &SourceKind| *kind == SourceKind::Ptp { port: port.0 };
        let at = self.settings.sources.iter().position(|line| is_it(&line.kind))?;
        u32::try_from(at).ok()
    }

    pub(super) fn port_reports(&self) -> Vec<PtpPortReport> {
        let ports = (0u16..).zip(&self.settings.ptp);
        ports.filter_map(|(at, line)| self.port_report(PtpPort(at), line)).collect()
    }

    fn port_report(&self, port: PtpPort, line: &PtpSettings) -> Option<PtpPortReport> {
        let known = self.ports.get(port)?;
        let master = self.associations.iter().filter_map(Association::master).find(|master| master.port == port);
        let parent = master.filter(|master| master.is_parent);
        let expected = known.link.map(|link| if link.phc.is_some() { StampKind::Hardware } else { StampKind::Kernel });
        Some(PtpPortReport {
            name: line.name.clone(),
            interface: line.interface.clone(),
            domain: line.domain,
            is_up: known.link.is_some(),
            state: known.state,
            parent: parent.map(|master| master.identity),
            announced: parent.and_then(|master| master.announced),
            stamps: known.stamps.or(expected).unwrap_or(StampKind::User),
            vote: parent.map(|master| master.vote).unwrap_or_default(),
            peer_delay_ns: parent.and_then(Master::peer_delay_ns),
            missing_stamps: known.missing,
            contradicted_stamps: known.contradicted,
            counters: self.engine.counters(port).clone(),
        })
    }

    pub(super) fn missing_stamps_of(&self, association: &Association) -> (u64, u64) {
        match &association.peer {
            Peer::Ntp { client, .. } => client.missing_stamps,
            Peer::Ptp(master) => self.ports.get(master.port).map_or((0, 0), |port| port.missing),
            Peer::Phc(_) | Peer::Reference(_) => (0, 0),
        }
    }

    pub(super) fn contradicted_stamps_of(&self, association: &Association) -> u64 {
        match &association.peer {
            Peer::Ntp { client, .. } => client.contradicted_stamps,
            Peer::Ptp(master) => self.ports.get(master.port).map_or(0, |port| port.contradicted),
            Peer::Phc(_) => 0,
            Peer::Reference(reference) => reference.contradicted,
        }
    }
}

/// The association with the master of `port`, and what it needs to read timestamps.
fn master_of<'a>(
    associations: &'a mut [Association],
    settings: &'a crate::settings::Settings,
    port: PtpPort,
) -> Option<(&'a mut Association, &'a crate::leap::LeapTable)> {
    let is_it = |association: &&mut Association| association.master().is_some_and(|master| master.port == port);
    Some((associations.iter_mut().find(is_it)?, &settings.leap))
}
