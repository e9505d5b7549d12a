//! One relation with one address: when to ask, what its answers prove, whether it may vote.

pub mod ntp;
pub mod ptp;
pub(crate) mod reference;
mod waking;

use core::net::{IpAddr, SocketAddr};

use crate::estimate::{Estimator, Exchange, Filter};
use crate::io::{AssociationId, CrossReading, PhcId};
use crate::region::hull::Wander;
use crate::region::polygon::{Limits, Polygon, Verdict};
use crate::settings::{ReferenceClock, SourceSettings, Timescale};
use crate::stamps::Stamps;
use crate::time::{NS_PER_S, PhcTime, RawSpan, RawTime, TaiTime, UtcTime};

use crate::leap::LeapTable;

use ntp::{Answer, ClaimFormat, Client, Discard, End, Exchanged, Told};
use ptp::{Admitted, Constraint, Master, PtpVote};
use reference::Reference;
use waking::Waking;

/// A source that contradicted itself has to be consistent for so many answers before it votes again.
const PROOF_ANSWERS: u32 = 8;
/// Polls without an answer after which a source counts as unreachable.
const SILENT_POLLS: i64 = 4;
/// Floor of the claim of a server whose stamps we do not know (BOUND §2).
const SOFTWARE_CLAIM_FLOOR_NS: i64 = 25_000;
/// Sources that are asked at least this often are asked in pairs.
const PAIRS_POLL_NS: i64 = NS_PER_S / 16;
/// And those that are asked at least this often while no round trip is as long as this, if the second of a pair is faster:
/// there the hosts' waking up is a good part of it. On longer paths queues count, and asking twice as often.
const NEAR_PAIRS_POLL_NS: i64 = NS_PER_S;
const NEAR_NS: i64 = 100_000;
/// Spacing of the requests of a burst: at most this, on private addresses.
const BURST_SPACING_NS: i64 = NS_PER_S / 8;
/// And this elsewhere (RFC 5905 asks for 2 s).
const PUBLIC_BURST_SPACING_NS: i64 = 2 * NS_PER_S;
/// After so long without an exchange, and so many polls, an estimator begins anew.
const SILENCE_NS: i64 = 600 * NS_PER_S;
const SILENCE_POLLS: i64 = 16;

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll {
    pub(crate) min_ns: i64,
    pub(crate) max_ns: i64,
    pub(crate) now_ns: i64,
    burst_left: u8,
    burst_spacing_ns: i64,
    pairs: Pairs,
}

/// Are requests sent in pairs?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairs {
    /// Back to back: their spacing is a code, too.
    Always,
    /// The second when the first is answered, while the server is near and they are worth it.
    Near,
    Never,
}

/// What a poll sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requests {
    One,
    /// Two back to back.
    Pair,
    /// One, and a second when it is answered, or else at the next poll a new first one. By then the server knows when its
    /// answer left, so both ends of the path are known at once, and each from a packet that found everybody awake: the
    /// first one's way back, the second one's way there.
    Chain,
}

impl Poll {
    fn new(settings: &SourceSettings, address: Option<SocketAddr>) -> Self {
        let is_near = address.is_none_or(|address| is_private(address.ip()));
        let default_ns = if is_near { NS_PER_S } else { 16 * NS_PER_S };
        let min_ns = settings.poll_min_ns.unwrap_or(default_ns.min(settings.poll_max_ns.unwrap_or(default_ns)));
        let max_ns = settings.poll_max_ns.unwrap_or(min_ns).max(min_ns);
        let spacing = if is_near { BURST_SPACING_NS } else { PUBLIC_BURST_SPACING_NS };
        // Only a source that was configured to take so many requests, or codes, is sent pairs unasked.
        let is_frequent = settings.poll_min_ns.is_some_and(|ns| ns <= PAIRS_POLL_NS);
        let pairs = match settings.pairs {
            Some(true) => Pairs::Always,
            Some(false) => Pairs::Never,
            None if is_frequent || settings.filter == Filter::Coded => Pairs::Always,
            None if min_ns <= NEAR_PAIRS_POLL_NS => Pairs::Near,
            None => Pairs::Never,
        };
        let burst_spacing_ns = spacing.min(min_ns);
        Poll { min_ns, max_ns, now_ns: min_ns, burst_left: settings.burst, burst_spacing_ns, pairs }
    }

    /// What to send now, and how long to wait after it.
    fn next(&mut self, wants_pair: bool) -> (Requests, i64) {
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return (Requests::One, self.burst_spacing_ns);
        }
        match self.pairs {
            Pairs::Always => (Requests::Pair, self.now_ns.saturating_mul(2)),
            Pairs::Near if wants_pair => (Requests::Chain, self.now_ns),
            Pairs::Near | Pairs::Never => (Requests::One, self.now_ns),
        }
    }

    /// Polls less while the edges hardly move between polls, more when they do: at most a tenth of the half-width may
    /// come from waiting.
    fn adapt(&mut self, half_width_ns: i64, growth_per_poll_ns: i64) {
        if growth_per_poll_ns.saturating_mul(20) < half_width_ns {
            self.now_ns = self.now_ns.saturating_mul(2).min(self.max_ns);
        } else if growth_per_poll_ns.saturating_mul(10) > half_width_ns {
            self.now_ns = (self.now_ns / 2).max(self.min_ns);
        }
    }
}

/// What the last usable answer said of the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Upstream {
    pub(crate) stratum: u8,
    pub(crate) reference_id: [u8; 4],
    pub(crate) claim_ns: i64,
}

/// Counters for status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent.
    pub sent: u64,
    /// Usable answers.
    pub answers: u64,
    /// Datagrams not used, by [`Discard`].
    pub discarded: [u64; Discard::COUNT],
    /// Requests that could not be sent.
    pub unsent: u64,
    /// Times that the source contradicted itself.
    pub contradictions: u64,
}

/// Whom the relation is with.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// An NTP server.
    Ntp { address: SocketAddr, client: Box<Client> },
    /// The grandmaster of a PTP port, or the boundary clock before it.
    Ptp(Box<Master>),
    /// A PTP hardware clock that somebody else keeps right.
    Phc(PhcSource),
    /// A reference clock that another program reads, or the kernel.
    Reference(Box<Reference>),
}

/// A PHC as a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhcSource {
    pub(crate) phc: PhcId,
    error_ns: Option<i64>,
    timescale: Timescale,
    /// A poll waits for its reading.
    is_asked: bool,
}

/// One relation with one server, master or clock.
#[derive(Clone, Debug)]
pub(crate) struct Association {
    pub(crate) id: AssociationId,
    /// Index into the settings' sources.
    pub(crate) source: u32,
    pub(crate) peer: Peer,
    pub(crate) poll: Poll,
    pub(crate) next_poll: RawTime,
    /// Shift register of RFC 5905: one bit a poll, newest lowest.
    pub(crate) reach: u8,
    pub(crate) last_answer: Option<RawTime>,
    /// The last answer that proved something.
    pub(crate) last_proof: Option<RawTime>,
    pub(crate) upstream: Upstream,
    pub(crate) counters: Counters,
    pub(crate) estimator: Estimator,
    /// Names the pair of the present poll, where it sends one.
    pub(crate) pair: Option<u32>,
    /// The pair whose second request is due when the first is answered.
    follow_up: Option<u32>,
    /// What pairs save.
    waking: Waking,
    /// What the estimator took, for tools that ask for it.
    pub(crate) exchanges: Option<Vec<Exchange>>,
    pub(crate) local_address: Option<IpAddr>,
    /// Last round trip, ns.
    pub(crate) delay_ns: i64,
    /// Both ends of the last exchange had kernel stamps, or the NIC's.
    pub(crate) has_kernel_stamps: bool,
    /// They were the NIC's.
    pub(crate) has_hardware_stamps: bool,
    pub(crate) is_falseticker: bool,
    /// The server forbade us to ask (DENY, RSTR).
    pub(crate) is_forbidden: bool,
    /// All constraints, by the best stamps.
    polygon: Polygon,
    /// The same by user stamps alone: needs no assumption about stamps.
    kernel_free: Polygon,
    /// What holds if the operator's word does too, where that is more than is guaranteed.
    asserted: Option<Polygon>,
    /// Answers still missing until it may vote again.
    proof_left: u32,
    polls: u32,
    /// e: how early or late our kernel stamps may be.
    stamp_error_ns: i64,
    settings: SourceSettings,
}

impl Association {
    pub(crate) fn ntp(
        now: RawTime,
        id: AssociationId,
        source: u32,
        address: SocketAddr,
        settings: &SourceSettings,
        stamp_error_ns: i64,
    ) -> Self {
        let is_loopback = address.ip().to_canonical().is_loopback();
        let floor = if is_loopback || settings.agent { 0 } else { SOFTWARE_CLAIM_FLOOR_NS };
        let claim_floor_ns = settings.claim_floor_ns.unwrap_or(floor);
        let claims = match (settings.agent, settings.fine_root) {
            (true, _) => ClaimFormat::Exact,
            (false, true) => ClaimFormat::Fine,
            (false, false) => ClaimFormat::Header,
        };
        let client =
            Client::new(settings.interleaved, claims, claim_floor_ns, settings.max_distance_ns).smeared(settings.smear);
        let poll = Poll::new(settings, Some(address));
        Association::new(
            now,
            id,
            source,
            Peer::Ntp { address, client: Box::new(client) },
            poll,
            settings,
            stamp_error_ns,
        )
    }

    pub(crate) fn ptp(
        id: AssociationId,
        source: u32,
        master: Master,
        settings: &SourceSettings,
        stamp_error_ns: i64,
    ) -> Self {
        let mut poll = Poll::new(settings, None);
        poll.now_ns = master.sync_interval_ns();
        // Masters speak unasked.
        let never = RawTime::MAX;
        let peer = Peer::Ptp(Box::new(master));
        let association = Association::new(never, id, source, peer, poll, settings, stamp_error_ns);
        Association { asserted: Some(Polygon::default()), ..association }
    }

    pub(crate) fn phc(now: RawTime, id: AssociationId, source: u32, phc: PhcSource, settings: &SourceSettings) -> Self {
        Association::new(now, id, source, Peer::Phc(phc), Poll::new(settings, None), settings, 0)
    }

    pub(crate) fn reference(
        now: RawTime,
        id: AssociationId,
        source: u32,
        (clock, error_ns, timescale): (ReferenceClock, i64, Timescale),
        settings: &SourceSettings,
    ) -> Self {
        let poll = Poll::new(settings, None);
        let peer = Peer::Reference(Box::new(Reference::new(clock, error_ns, timescale, poll.now_ns)));
        Association::new(now, id, source, peer, poll, settings, 0)
    }

    fn new(
        next_poll: RawTime,
        id: AssociationId,
        source: u32,
        peer: Peer,
        poll: Poll,
        settings: &SourceSettings,
        stamp_error_ns: i64,
    ) -> Self {
        Association {
            id,
            source,
            peer,
            poll,
            next_poll,
            reach: 0,
            last_answer: None,
            last_proof: None,
            upstream: Upstream::default(),
            counters: Counters::default(),
            estimator: Estimator::new(settings.filter),
            pair: None,
            follow_up: None,
            waking: Waking::default(),
            exchanges: None,
            local_address: None,
            delay_ns: 0,
            has_kernel_stamps: false,
            has_hardware_stamps: false,
            is_falseticker: false,
            is_forbidden: false,
            polygon: Polygon::default(),
            kernel_free: Polygon::default(),
            asserted: None,
            proof_left: 0,
            polls: 0,
            stamp_error_ns,
            settings: settings.clone(),
        }
    }

    /// Its address, where it has one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.peer {
            Peer::Ntp { address, .. } => Some(address),
            Peer::Ptp(_) | Peer::Phc(_) | Peer::Reference(_) => None,
        }
    }

    /// The master, if it is one.
    pub(crate) fn master(&self) -> Option<&Master> {
        match &self.peer {
            Peer::Ptp(master) => Some(master),
            Peer::Ntp { .. } | Peer::Phc(_) | Peer::Reference(_) => None,
        }
    }

    pub(crate) fn master_mut(&mut self) -> Option<&mut Master> {
        match &mut self.peer {
            Peer::Ptp(master) => Some(master),
            Peer::Ntp { .. } | Peer::Phc(_) | Peer::Reference(_) => None,
        }
    }

    /// Does it say when seconds begin, but not which?
    pub(crate) fn is_pulse(&self) -> bool {
        matches!(&self.peer, Peer::Reference(reference) if reference.is_pulse)
    }

    /// The least round trip of its packets, or the least width of its stamps, ns.
    pub(crate) fn least_round_trip_ns(&self, now: RawTime) -> Option<i64> {
        let noise_ns = if matches!(self.peer, Peer::Reference(_)) { self.upstream.claim_ns } else { 0 };
        Some(self.estimator.least_strip_ns(now)?.saturating_sub(noise_ns.saturating_mul(2)).max(0))
    }

    /// The next request is due: moves the reachability register on and schedules the one after, a little at random so
    /// that hosts started together do not stay in step. Gives how many requests to send back to back.
    pub(crate) fn begin_poll(&mut self, now: RawTime, random: u32) -> u32 {
        if let Peer::Reference(reference) = &mut self.peer {
            if reference.pace.begins(now) {
                self.reach <<= 1;
                self.counters.sent += 1;
            }
            self.next_poll = reference.pace.unless_told(now);
            return 1;
        }
        self.reach <<= 1;
        let is_near = self.least_round_trip_ns(now).is_some_and(|ns| ns < NEAR_NS);
        let (requests, wait) = self.poll.next(is_near && self.waking.wants_pair(self.polls));
        self.polls = self.polls.wrapping_add(1);
        self.pair = (requests != Requests::One).then_some(self.polls);
        self.follow_up = self.pair.filter(|_| requests == Requests::Chain);
        let now_due = if requests == Requests::Pair { 2 } else { 1 };
        self.counters.sent += u64::from(now_due);
        let jitter = wait / 64 * i64::from(random % 64) / 64;
        // Counted from when this poll was due, so that late wake-ups do not add up; not if it was missed altogether.
        let due = if now.ns_since(self.next_poll) < wait { self.next_poll } else { now };
        self.next_poll = due.plus_ns(wait.saturating_add(jitter).max(1));
        now_due
    }

    /// A request was answered: is the second one of its pair due? It takes the next poll's turn.
    pub(crate) fn follows_up(&mut self, answered: Option<u32>) -> bool {
        let is_due = answered.is_some() && self.follow_up == answered;
        if is_due {
            self.follow_up = None;
            self.counters.sent += 1;
            self.next_poll = self.next_poll.plus_ns(self.poll.now_ns);
        }
        is_due
    }

    /// Start a burst now.
    pub(crate) fn burst(&mut self, now: RawTime) {
        self.poll.burst_left = self.settings.burst.max(1);
        self.next_poll = now;
    }

    /// How long the source may be silent before it counts as unreachable, ns.
    pub(crate) fn patience_ns(&self) -> i64 {
        match &self.peer {
            Peer::Ptp(master) => master.patience_ns(),
            _ => self.poll.now_ns.saturating_mul(SILENT_POLLS).saturating_add(NS_PER_S),
        }
    }

    /// Has it answered lately?
    pub(crate) fn is_reachable(&self, now: RawTime) -> bool {
        self.last_answer.is_some_and(|at| now.ns_since(at) <= self.patience_ns())
    }

    /// Has it proved something lately?
    pub(crate) fn proves(&self, now: RawTime) -> bool {
        self.last_proof.is_some_and(|at| now.ns_since(at) <= self.patience_ns())
    }

    /// Can what it says prove anything? A boundary clock's cannot, nor can a PHC's whose error nobody states.
    pub(crate) fn may_vote(&self) -> bool {
        match &self.peer {
            Peer::Ntp { .. } | Peer::Reference(_) => true,
            Peer::Ptp(master) => matches!(master.vote, PtpVote::Guaranteed | PtpVote::Unknown),
            Peer::Phc(source) => source.error_ns.is_some() || self.upstream.claim_ns > 0,
        }
    }

    /// May its polygon vote?
    pub(crate) fn is_proving_itself(&self) -> bool {
        self.proof_left > 0
    }

    /// Takes a usable answer: its constraints, its sample, its words about the server.
    pub(crate) fn answered(&mut self, now: RawTime, answer: &Answer, wander: &Wander) {
        self.reach |= 1;
        self.last_answer = Some(now);
        self.last_proof = Some(now);
        self.counters.answers += 1;
        self.proof_left = self.proof_left.saturating_sub(1);
        self.has_kernel_stamps = answer.out.ours.kernel.is_some() && answer.back.ours.kernel.is_some();
        self.has_hardware_stamps = answer.out.ours.is_hardware() && answer.back.ours.is_hardware();
        self.upstream = Upstream {
            stratum: answer.packet.stratum,
            reference_id: answer.packet.reference_id,
            claim_ns: answer.out.told.claim_ns,
        };
        if let Some(Exchanged { out, back, pair, is_new }) = answer.previous {
            self.add_lower(&back, wander);
            if is_new {
                self.add_exchange(&out, &back, pair);
            }
        }
        self.add_upper(&answer.out, wander);
        self.add_lower(&answer.back, wander);
        if answer.is_complete {
            self.add_exchange(&answer.out, &answer.back, answer.pair);
        }
    }

    /// Takes what the master's Announce set free.
    pub(crate) fn admitted(&mut self, now: RawTime, admitted: &Admitted, wander: &Wander) {
        if !admitted.guaranteed.is_empty() {
            self.last_proof = Some(now);
        }
        for constraint in &admitted.guaranteed {
            match constraint {
                Constraint::Upper(end) => self.add_upper(end, wander),
                Constraint::Lower(end) => self.add_lower(end, wander),
            }
        }
        for constraint in &admitted.asserted {
            let (Constraint::Upper(end) | Constraint::Lower(end)) = constraint;
            let best = self.widened(end.ours);
            let Some(asserted) = &mut self.asserted else { continue };
            match constraint {
                Constraint::Upper(end) => asserted.add_upper(best.early, upper_ns(end, best.early), wander),
                Constraint::Lower(end) => asserted.add_lower(best.late, lower_ns(end, best.late), wander),
            }
        }
        self.proof_left = self.proof_left.saturating_sub(u32::from(!admitted.asserted.is_empty()));
    }

    /// The master's Syncs arrive.
    pub(crate) fn synced(&mut self, now: RawTime, stamps: Stamps) {
        self.reach = self.reach << 1 | 1;
        self.last_answer = Some(now);
        self.counters.answers += 1;
        self.has_kernel_stamps = stamps.kernel.is_some();
        self.has_hardware_stamps = stamps.is_hardware();
    }

    /// A PHC that is a source was read. Returns whether it proves something.
    pub(crate) fn phc_read(
        &mut self,
        cross: &CrossReading<PhcTime>,
        stated_error_ns: Option<i64>,
        leap: &LeapTable,
        wander: &Wander,
    ) -> bool {
        let Peer::Phc(source) = &mut self.peer else { return false };
        if !std::mem::take(&mut source.is_asked) {
            return false;
        }
        let ns = cross.real.as_ns();
        let tai = match source.timescale {
            Timescale::Tai => (TaiTime::from_ns(ns), TaiTime::from_ns(ns)),
            Timescale::Utc if leap.is_ambiguous(UtcTime::from_ns(ns)) => return false,
            Timescale::Utc => leap.tai_span(UtcTime::from_ns(ns)),
        };
        let claim_ns = source.error_ns.or(stated_error_ns);
        let told = Told { floor: tai.0, ceil: tai.1.plus_ns(1), claim_ns: claim_ns.unwrap_or(0) };
        let at = RawSpan { early: cross.before, late: cross.after };
        self.saw(at, &told, 0);
        if claim_ns.is_some() {
            self.proved(at, &told, wander);
        }
        claim_ns.is_some()
    }

    /// A reference clock showed `told` some time within `at`.
    pub(crate) fn referenced(&mut self, at: RawSpan, told: &Told, wander: &Wander) {
        // Unlike a PHC's, its claim is mostly noise, which the estimator has to know of.
        self.saw(at, told, told.claim_ns);
        self.delay_ns = at.late.ns_since(at.early);
        self.proved(at, told, wander);
    }

    /// A clock on this host showed `told` some time within `at`: both constraints.
    fn proved(&mut self, at: RawSpan, told: &Told, wander: &Wander) {
        self.last_proof = Some(at.late);
        self.proof_left = self.proof_left.saturating_sub(1);
        let end = End { ours: Stamps::user(at), told: *told };
        self.add_upper(&end, wander);
        self.add_lower(&end, wander);
    }

    /// The same for the estimate; it may be off by `noise_ns` to either side.
    fn saw(&mut self, at: RawSpan, told: &Told, noise_ns: i64) {
        self.reach |= 1;
        self.last_answer = Some(at.late);
        self.counters.answers += 1;
        self.upstream.claim_ns = told.claim_ns;
        let tai = ntp::middle_told(*told);
        self.take_exchange(&Exchange {
            t1: at.early,
            t4: at.late,
            upper_ns: tai.plus_ns(noise_ns).ns_since(TaiTime::from_ns(at.early.as_ns())),
            lower_ns: tai.plus_ns(noise_ns.saturating_neg()).ns_since(TaiTime::from_ns(at.late.as_ns())),
            stamp_ns: noise_ns,
            pair: None,
        });
    }

    /// θ(T1) ≤ t2 − T1 + E, at the early end of T1: true time is not earlier there than at T1 itself.
    fn add_upper(&mut self, end: &End, wander: &Wander) {
        let (best, user) = (self.widened(end.ours).early, end.ours.user.early);
        self.polygon.add_upper(best, upper_ns(end, best), wander);
        self.kernel_free.add_upper(user, upper_ns(end, user), wander);
    }

    /// θ(T4) ≥ t3 − T4 − E, at the late end of T4.
    fn add_lower(&mut self, end: &End, wander: &Wander) {
        let (best, user) = (self.widened(end.ours).late, end.ours.user.late);
        self.polygon.add_lower(best, lower_ns(end, best), wander);
        self.kernel_free.add_lower(user, lower_ns(end, user), wander);
    }

    /// Where our stamp was taken, if stamps may err by e; user stamps never do.
    fn widened(&self, ours: Stamps) -> RawSpan {
        let e = ours.nic_error_ns.unwrap_or(self.stamp_error_ns);
        ours.kernel.map_or(ours.user, |kernel| kernel.widened(e, ours.user))
    }

    fn add_exchange(&mut self, out: &End, back: &End, pair: Option<u32>) {
        let (t1, t4) = (out.ours.best(), back.ours.best());
        let (t1_mid, t4_mid) = (t1.middle(), t4.middle());
        let exchange = Exchange {
            t1: t1_mid,
            t4: t4_mid,
            upper_ns: ntp::middle_told(out.told).ns_since(TaiTime::from_ns(t1_mid.as_ns())),
            lower_ns: ntp::middle_told(back.told).ns_since(TaiTime::from_ns(t4_mid.as_ns())),
            stamp_ns: t1.late.ns_since(t1.early).saturating_add(t4.late.ns_since(t4.early)) / 4,
            pair: pair.filter(|_| self.poll.pairs == Pairs::Always),
        };
        if let Some(pair) = pair {
            self.waking.exchanged(pair, exchange.t1, exchange.strip_ns());
        }
        self.take_exchange(&exchange);
    }

    /// What the estimator gets.
    pub(crate) fn take_exchange(&mut self, exchange: &Exchange) {
        // The two ends of PTP's exchanges are far apart, and the clocks run differently meanwhile.
        let omega = self.estimator.at(exchange.t4).map_or(0.0, |estimate| estimate.omega.as_fraction());
        let run_ns = crate::units::to_i64((omega * crate::units::to_f64(exchange.t4.ns_since(exchange.t1))).round());
        self.delay_ns = exchange.strip_ns().saturating_add(run_ns);
        self.estimator.renew_after(SILENCE_NS.max(self.poll.now_ns.saturating_mul(SILENCE_POLLS)), exchange.t4);
        self.estimator.push(exchange);
        if let Some(exchanges) = &mut self.exchanges {
            exchanges.push(*exchange);
        }
    }

    /// What its constraints say now.
    pub(crate) fn verdict(&mut self, now: RawTime, limits: &Limits, memory_ns: i64) -> Verdict {
        self.polygon.expire(memory_ns);
        if is_forgotten(self.last_proof, now, memory_ns) {
            return Verdict::Silent;
        }
        self.polygon.verdict(now, limits)
    }

    /// The same if the operator's word holds; `None` where that adds nothing to [`Association::verdict`].
    pub(crate) fn asserted_verdict(&mut self, now: RawTime, limits: &Limits, memory_ns: i64) -> Option<Verdict> {
        let is_forgotten = is_forgotten(self.last_answer, now, memory_ns);
        let asserted = self.asserted.as_mut()?;
        asserted.expire(memory_ns);
        Some(if is_forgotten { Verdict::Silent } else { asserted.verdict(now, limits) })
    }

    /// Does it assert more than it guarantees?
    pub(crate) fn asserts(&self) -> bool {
        self.asserted.is_some()
    }

    /// What it asserts contradicts itself: forgotten. The guarantees stand on their own.
    pub(crate) fn forget_asserted(&mut self) {
        self.asserted.iter_mut().for_each(Polygon::clear);
    }

    /// The same from user stamps alone.
    pub(crate) fn kernel_free_verdict(&mut self, now: RawTime, limits: &Limits, memory_ns: i64) -> Verdict {
        self.kernel_free.expire(memory_ns);
        if is_forgotten(self.last_proof, now, memory_ns) {
            return Verdict::Silent;
        }
        self.kernel_free.verdict(now, limits)
    }

    /// Its constraints exclude each other: forgets them, and has to prove itself before it votes again.
    pub(crate) fn contradicted_itself(&mut self) {
        self.counters.contradictions += 1;
        self.proof_left = PROOF_ANSWERS;
        self.forget_proofs();
    }

    /// From now on kernel stamps may err by `e` ns, and so they may have before.
    pub(crate) fn stamps_may_err(&mut self, e: i64) {
        self.stamp_error_ns = e;
        self.forget();
    }

    /// Forgets everything it learnt: raw time is another clock now.
    pub(crate) fn forget(&mut self) {
        self.forget_proofs();
        self.estimator.clear();
    }

    /// Forgets what it proved, because some of what it rests on was not true. The estimate proves nothing, and adapts.
    pub(crate) fn forget_proofs(&mut self) {
        self.polygon.clear();
        self.kernel_free.clear();
        self.forget_asserted();
        match &mut self.peer {
            Peer::Ntp { client, .. } => client.reset(),
            Peer::Ptp(master) => master.reset(),
            Peer::Phc(source) => source.is_asked = false,
            Peer::Reference(_) => {}
        }
    }

    /// The server asked for fewer requests.
    pub(crate) fn slow_down(&mut self, now: RawTime) {
        self.poll.burst_left = 0;
        self.poll.pairs = Pairs::Never;
        self.poll.min_ns = self.poll.min_ns.saturating_mul(2).min(36 * 3600 * NS_PER_S);
        self.poll.max_ns = self.poll.max_ns.max(self.poll.min_ns);
        self.poll.now_ns = self.poll.now_ns.max(self.poll.min_ns);
        self.next_poll = now.plus_ns(self.poll.now_ns);
    }

    /// Adapts the polling interval to what waiting costs, within its limits.
    pub(crate) fn adapt_poll(&mut self, half_width_ns: i64, growth_per_s_ns: i64) {
        if self.poll.min_ns < self.poll.max_ns {
            let growth = i128::from(growth_per_s_ns) * i128::from(self.poll.now_ns) / i128::from(NS_PER_S);
            self.poll.adapt(half_width_ns, i64::try_from(growth).unwrap_or(i64::MAX));
        }
    }
}

impl PhcSource {
    pub(crate) fn new(phc: PhcId, error_ns: Option<i64>, timescale: Timescale) -> Self {
        PhcSource { phc, error_ns, timescale, is_asked: false }
    }

    /// A poll is due: the next reading counts.
    pub(crate) fn ask(&mut self) {
        self.is_asked = true;
    }
}

/// Is it so long ago that nothing of it counts any more?
fn is_forgotten(last: Option<RawTime>, now: RawTime, memory_ns: i64) -> bool {
    last.is_none_or(|at| now.ns_since(at) > memory_ns)
}

/// What an upper constraint says of θ at `at`, ns.
fn upper_ns(end: &End, at: RawTime) -> i64 {
    end.told.ceil.as_ns().saturating_add(end.told.claim_ns).saturating_sub(at.as_ns())
}

/// What a lower constraint says of θ at `at`, ns.
fn lower_ns(end: &End, at: RawTime) -> i64 {
    end.told.floor.as_ns().saturating_sub(end.told.claim_ns).saturating_sub(at.as_ns())
}

/// Addresses that only somebody near us can have.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            let is_shared = a.octets()[0] == 100 && (64..128).contains(&a.octets()[1]); // RFC 6598
            a.is_private() || a.is_loopback() || a.is_link_local() || is_shared
        }
        IpAddr::V6(a) => a.is_loopback() || a.is_unique_local() || a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SourceKind;

    fn poll(address: &str, change: impl FnOnce(&mut SourceSettings)) -> Poll {
        let kind = SourceKind::Server { host: address.to_owned(), port: 123 };
        let mut settings = SourceSettings::new("s", kind);
        change(&mut settings);
        Poll::new(&settings, Some(SocketAddr::new(address.parse().expect("an address"), 123)))
    }

    #[test]
    fn near_servers_are_asked_every_second_and_others_every_sixteen() {
        for near in ["10.0.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", "fd00::1", "fe80::1", "::1"] {
            assert_eq!(poll(near, |_| ()).now_ns, NS_PER_S, "{near}");
        }
        for far in ["192.0.2.1", "100.128.0.1", "2001:db8::1"] {
            assert_eq!(poll(far, |_| ()).now_ns, 16 * NS_PER_S, "{far}");
        }
    }

    /// A near server, known by 20 exchanges of 10 µs there and back, one a second until `now`.
    fn near_server(now: RawTime) -> Association {
        let address = SocketAddr::from(([10, 0, 0, 1], 123));
        let kind = SourceKind::Server { host: address.ip().to_string(), port: 123 };
        let settings = SourceSettings { burst: 0, ..SourceSettings::new("s", kind) };
        let mut server = Association::ntp(now, AssociationId(0), 0, address, &settings, 0);
        for k in (1..=20).rev() {
            let t1 = now.plus_ns(-k * NS_PER_S);
            let t4 = t1.plus_ns(10_000);
            server.take_exchange(&Exchange { t1, t4, upper_ns: 5_000, lower_ns: -5_000, stamp_ns: 0, pair: None });
        }
        server
    }

    #[test]
    fn the_second_of_a_pair_is_due_when_the_first_is_answered_and_takes_the_turn_of_a_poll() {
        let start = RawTime::from_ns(100 * NS_PER_S);
        let mut server = near_server(start);
        assert_eq!((server.begin_poll(start, 0), server.next_poll), (1, start.plus_ns(NS_PER_S)));
        let pair = server.pair.expect("pairs are tried");
        assert!(!server.follows_up(None) && !server.follows_up(Some(pair + 1)), "that is another request's answer");
        assert!(server.follows_up(Some(pair)) && !server.follows_up(Some(pair)), "once");
        assert_eq!((server.next_poll, server.counters.sent), (start.plus_ns(2 * NS_PER_S), 2));

        // Unanswered, it is followed by nothing; the next one comes in its own time.
        let next = server.next_poll;
        assert_eq!((server.begin_poll(next, 0), server.next_poll), (1, next.plus_ns(NS_PER_S)));
        let lost = server.pair.expect("as above");
        assert_eq!(server.begin_poll(server.next_poll, 0), 1);
        assert!(server.pair != Some(lost) && !server.follows_up(Some(lost)), "too late");
    }

    #[test]
    fn polls_adapt_within_their_limits_only() {
        let mut poll = poll("10.0.0.1", |s| s.poll_max_ns = Some(4 * NS_PER_S));
        poll.adapt(100_000, 1_000);
        poll.adapt(100_000, 1_000);
        poll.adapt(100_000, 1_000);
        assert_eq!(poll.now_ns, 4 * NS_PER_S);
        poll.adapt(100_000, 50_000);
        poll.adapt(100_000, 50_000);
        poll.adapt(100_000, 50_000);
        assert_eq!(poll.now_ns, NS_PER_S);
    }
}
