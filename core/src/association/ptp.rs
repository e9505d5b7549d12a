//! The grandmaster that a PTP port follows: what its messages prove, and to whom (BOUND §2, §5).
//!
//! A Sync that left the master at t1 and reached us at T2 proves θ(T2) ≥ t1 − T2 − E; a Delay_Req that left us at T3 and
//! reached the master at t4 proves θ(T3) ≤ t4 − T3 + E. Both hold one by one: nothing needs pairing but the estimate.
//!
//! *Guaranteed*: end to end, from the grandmaster itself (stepsRemoved 0) of a class that means locked or in holdover
//! inside its specification, with a stated accuracy; of a correction only its negative part counts, so that what a
//! transparent clock claims can only loosen. *Asserted*: boundary clocks, peer delays and whole corrections as well, each
//! hop with the error that the operator allows it.
//!
//! E is the worst of the Announces around a stamp, so a constraint waits for the next one. The estimate does not.

use std::collections::VecDeque;

use crate::estimate::Exchange;
use crate::io::PtpPort;
use crate::leap::LeapTable;
use crate::ptp::{Announced, Correction, PortIdentity, PtpTime, When};
use crate::settings::{DelayMechanism, PtpSettings, Timescale};
use crate::time::{NS_PER_S, RawTime, TaiTime, UtcTime};
use crate::units::{to_f64, to_i64};

use super::ntp::{End, Told};

/// An Announce that comes so soon after a stamp may have been sent before it, ns.
const UNDER_WAY_NS: i64 = NS_PER_S / 16;
/// Announces remembered.
const MAX_HEARD: usize = 8;
/// Constraints that may wait for an Announce.
const MAX_WAITING: usize = 2048;
/// Peer delays of which the least counts: a link's queues are short, its stamps noisy.
const PEER_DELAYS: usize = 32;
/// The worst clockAccuracy with a meaning (IEEE 1588-2019 Table 5): within 1 s.
const WORST_ACCURACY: u8 = 0x2f;
/// clockClass of a grandmaster that is locked (6, 13) or in holdover within its specification (7, 14).
const GOOD_CLASSES: [u8; 4] = [6, 7, 13, 14];

/// What a master's messages may enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PtpVote {
    /// The guaranteed region, and the asserted one.
    Guaranteed,
    /// The asserted region only, for this reason.
    Asserted(PtpDoubt),
    /// Nothing, for this reason.
    None(PtpDoubt),
    /// It has not said anything of itself yet.
    #[default]
    Unknown,
}

/// Why a master's word does not count, or not fully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtpDoubt {
    /// Boundary clocks on the way: nothing bounds their own error.
    BoundaryClock,
    /// Peer delays: no constraint from end to end.
    PeerDelay,
    /// Its clockClass does not mean that it is locked to a reference.
    ClockClass,
    /// Its clockAccuracy says nothing.
    ClockAccuracy,
    /// Its timestamps are of an arbitrary timescale, and the operator did not say of which.
    Timescale,
}

impl PtpDoubt {
    /// One sentence for an operator.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            PtpDoubt::BoundaryClock => "a boundary clock is on the way, and nothing bounds its own error",
            PtpDoubt::PeerDelay => "peer delays give no constraint from end to end",
            PtpDoubt::ClockClass => "its clockClass does not mean that it is locked to a reference",
            PtpDoubt::ClockAccuracy => "it does not state its accuracy",
            PtpDoubt::Timescale => "it tells an arbitrary timescale; set timescale = \"utc\" if that is UTC",
        }
    }
}

/// clockAccuracy in ns, rounded up (IEEE 1588-2019 Table 5); `None` where it says nothing.
#[must_use]
pub fn accuracy_ns(code: u8) -> Option<i64> {
    /// From 0x17 (1 ps) on; all below 1 ns count as 1 ns.
    const NS: [i64; 25] = [
        1,
        1,
        1,
        1,
        1,
        1,
        1,
        3,
        10,
        25,
        100,
        250,
        1_000,
        2_500,
        10_000,
        25_000,
        100_000,
        250_000,
        1_000_000,
        2_500_000,
        10_000_000,
        25_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
    ];
    code.checked_sub(0x17).filter(|_| code <= WORST_ACCURACY).and_then(|at| NS.get(usize::from(at)).copied())
}

/// The best clockAccuracy that is not better than `ns`: what a master with this bound may say of itself.
#[must_use]
pub fn accuracy_of(ns: i64) -> u8 {
    (0x17..=WORST_ACCURACY).find(|&code| accuracy_ns(code).is_some_and(|stated| stated >= ns)).unwrap_or(0xfe)
}

/// One direction's constraint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Constraint {
    /// θ at the early end of our stamp is at most what was told.
    Upper(End),
    /// θ at the late end of our stamp is at least what was told.
    Lower(End),
}

/// A constraint that waits for the next Announce: as guaranteed, and as asserted.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// When our stamp was taken.
    at: RawTime,
    guaranteed: Option<Constraint>,
    asserted: Constraint,
    /// Clocks on the way that corrected it.
    corrected: bool,
}

/// What an Announce set free.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) guaranteed: Vec<Constraint>,
    pub(crate) asserted: Vec<Constraint>,
}

/// The port's relation with its master.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    pub(crate) port: PtpPort,
    pub(crate) identity: PortIdentity,
    pub(crate) announced: Option<Announced>,
    pub(crate) vote: PtpVote,
    /// The present parent, as opposed to the last one.
    pub(crate) is_parent: bool,
    /// E after the last Announce, and the remote stamps' e.
    pub(crate) claim_ns: i64,
    /// Messages whose timestamps are so near a leap second that they are ambiguous.
    pub(crate) near_leap: u64,
    /// How well the NIC's clock is known against raw time, ns.
    pub(crate) nic_doubt_ns: i64,
    settings: PtpSettings,
    waiting: VecDeque<Waiting>,
    /// The last Announces, oldest first: a message may be complete long after its stamp was taken.
    heard: VecDeque<(RawTime, Announced)>,
    /// The newest delay request: the next Sync makes an exchange of it.
    asked: Option<(RawTime, i64, i64)>,
    peer_delays: VecDeque<i64>,
}

impl Master {
    pub(crate) fn new(port: PtpPort, identity: PortIdentity, settings: &PtpSettings) -> Self {
        Master {
            port,
            identity,
            announced: None,
            vote: PtpVote::Unknown,
            is_parent: true,
            claim_ns: 0,
            near_leap: 0,
            nic_doubt_ns: i64::MAX,
            settings: settings.clone(),
            waiting: VecDeque::new(),
            heard: VecDeque::new(),
            asked: None,
            peer_delays: VecDeque::new(),
        }
    }

    /// How long the master may be silent, ns.
    pub(crate) fn patience_ns(&self) -> i64 {
        let interval_ns = interval_ns(self.settings.log_announce.max(self.settings.log_sync));
        interval_ns.saturating_mul(i64::from(self.settings.announce_timeout.max(2)) + 1)
    }

    /// The interval between Syncs, ns.
    pub(crate) fn sync_interval_ns(&self) -> i64 {
        interval_ns(self.settings.log_sync)
    }

    /// Raw time is another clock now, or what was proved was wrong.
    pub(crate) fn reset(&mut self) {
        self.waiting.clear();
        self.heard.clear();
        self.asked = None;
        self.peer_delays.clear();
    }

    /// The master announced itself: what was stamped before is free now.
    pub(crate) fn announced(&mut self, now: RawTime, announced: Announced) -> Admitted {
        let before = self.announced.replace(announced);
        self.vote = self.judge(&announced);
        self.claim_ns = self.claim_of(&announced).unwrap_or(0);
        if before.is_some_and(|before| before.is_tai != announced.is_tai) {
            self.waiting.clear();
        }
        if self.heard.len() == MAX_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((now, announced));
        let mut admitted = Admitted::default();
        for waiting in std::mem::take(&mut self.waiting) {
            if now.ns_since(waiting.at) < UNDER_WAY_NS {
                self.waiting.push_back(waiting);
            } else {
                self.admit(&waiting, &mut admitted);
            }
        }
        admitted
    }

    /// With the worst of what was announced around its stamp, from the last Announce before it on.
    fn admit(&self, waiting: &Waiting, admitted: &mut Admitted) {
        // Of what came before the first Announce nothing was said.
        let Some(first) = self.heard.iter().rposition(|&(at, _)| at <= waiting.at) else { return };
        let around = || self.heard.range(first..).map(|(_, announced)| announced);
        let claims = around().map(|announced| self.claim_of(announced));
        let Some(claim_ns) = claims.reduce(|a, b| a.zip(b).map(|(a, b)| a.max(b))).flatten() else { return };
        if around().any(|announced| matches!(self.judge(announced), PtpVote::None(_) | PtpVote::Unknown)) {
            return;
        }
        // Nobody knows of which timescale its timestamp was.
        if around().any(|announced| around().any(|other| announced.is_tai != other.is_tai)) {
            return;
        }
        let hops = around().map(|announced| announced.steps_removed).max().unwrap_or(0);
        let hops = i64::from(hops) + i64::from(waiting.corrected);
        let asserted_ns = claim_ns.saturating_add(self.settings.hop_error_ns.saturating_mul(hops));
        admitted.asserted.push(waiting.asserted.claimed(asserted_ns));
        if around().all(|announced| self.judge(announced) == PtpVote::Guaranteed) {
            admitted.guaranteed.extend(waiting.guaranteed.map(|constraint| constraint.claimed(claim_ns)));
        }
    }

    /// E and the remote stamps' e; `None`: unbounded.
    fn claim_of(&self, announced: &Announced) -> Option<i64> {
        accuracy_ns(announced.clock_accuracy).map(|ns| ns.saturating_add(self.settings.remote_stamp_error_ns))
    }

    fn judge(&self, announced: &Announced) -> PtpVote {
        if !announced.is_tai && self.settings.timescale == Timescale::Tai {
            PtpVote::None(PtpDoubt::Timescale)
        } else if !GOOD_CLASSES.contains(&announced.clock_class) {
            PtpVote::None(PtpDoubt::ClockClass)
        } else if accuracy_ns(announced.clock_accuracy).is_none() {
            PtpVote::None(PtpDoubt::ClockAccuracy)
        } else if announced.steps_removed > 0 {
            PtpVote::Asserted(PtpDoubt::BoundaryClock)
        } else if self.settings.delay == DelayMechanism::PeerToPeer {
            PtpVote::Asserted(PtpDoubt::PeerDelay)
        } else {
            PtpVote::Guaranteed
        }
    }

    /// A Sync arrived. Gives the exchange that it completes.
    pub(crate) fn synced(
        &mut self,
        arrived: &When,
        origin: PtpTime,
        (whole, least): (Correction, Correction),
        leap: &LeapTable,
    ) -> Option<Exchange> {
        let (guaranteed, asserted) = (self.told(origin, least, leap)?, self.told(origin, whole, leap)?);
        let end = |told| Constraint::Lower(End { ours: arrived.stamps, told });
        let is_end_to_end = self.settings.delay == DelayMechanism::EndToEnd;
        self.wait(Waiting {
            at: arrived.point,
            guaranteed: is_end_to_end.then(|| end(guaranteed)),
            asserted: end(asserted),
            corrected: whole > Correction(1 << 16),
        });
        let lower_ns = midpoint(asserted).ns_since(TaiTime::from_ns(arrived.point.as_ns()));
        let stamp_ns = self.doubt_ns(arrived);
        match self.settings.delay {
            DelayMechanism::EndToEnd => {
                let (asked_at, upper_ns, asked_ns) = self.asked.take().filter(|(at, ..)| *at < arrived.point)?;
                let lower_ns = lower_ns.saturating_add(self.settings.delay_asymmetry_ns);
                let stamp_ns = stamp_ns.midpoint(asked_ns);
                Some(Exchange { t1: asked_at, t4: arrived.point, upper_ns, lower_ns, stamp_ns, pair: None })
            }
            DelayMechanism::PeerToPeer => self.peer_exchange(arrived, asserted, lower_ns, stamp_ns),
        }
    }

    /// Peer to peer: the link's delay takes the place of the way back, so that the exchange's middle is the Sync less
    /// the delay. That a Sync takes no longer than the longest round trip of late is an assumption: it is asserted only.
    fn peer_exchange(&mut self, arrived: &When, told: Told, lower_ns: i64, stamp_ns: i64) -> Option<Exchange> {
        let delay_ns = self.peer_delay_ns()?;
        let longest_ns = self.peer_delays.iter().copied().max().unwrap_or(delay_ns);
        // What was measured of the link may be short by the stamps' errors, and kernel stamps come late.
        let errors_ns = self.settings.stamp_error_ns.saturating_add(self.settings.remote_stamp_error_ns);
        let lateness_ns = if arrived.stamps.is_hardware() { 0 } else { self.settings.hop_error_ns };
        let allowed_ns = errors_ns.saturating_mul(2).saturating_add(lateness_ns).saturating_add(1);
        let ceil = told.ceil.plus_ns(longest_ns.saturating_mul(2).saturating_add(allowed_ns));
        let corrected = self.waiting.back().is_some_and(|waiting| waiting.corrected);
        let ours = arrived.stamps;
        let asserted = Constraint::Upper(End { ours, told: Told { floor: ceil, ceil, claim_ns: 0 } });
        self.wait(Waiting { at: arrived.point, guaranteed: None, asserted, corrected });
        let lower_ns = lower_ns.saturating_add(self.settings.delay_asymmetry_ns);
        let upper_ns = lower_ns.saturating_add(delay_ns.saturating_mul(2));
        Some(Exchange { t1: arrived.point, t4: arrived.point, upper_ns, lower_ns, stamp_ns, pair: None })
    }

    /// The master received our delay request.
    pub(crate) fn delayed(
        &mut self,
        left: &When,
        received: PtpTime,
        (whole, least): (Correction, Correction),
        leap: &LeapTable,
    ) -> Option<()> {
        // A residence time is subtracted: the request reached the master later than it would have without it.
        let negated = |correction: Correction| Correction(correction.0.saturating_neg());
        let (guaranteed, asserted) =
            (self.told(received, negated(least), leap)?, self.told(received, negated(whole), leap)?);
        let end = |told| Constraint::Upper(End { ours: left.stamps, told });
        let corrected = whole > Correction(1 << 16);
        self.wait(Waiting { at: left.point, guaranteed: Some(end(guaranteed)), asserted: end(asserted), corrected });
        let upper_ns = midpoint(asserted).ns_since(TaiTime::from_ns(left.point.as_ns()));
        self.asked = Some((left.point, upper_ns.saturating_add(self.settings.delay_asymmetry_ns), self.doubt_ns(left)));
        Some(())
    }

    /// The neighbour answered: (t4 − t1 − (t3 − t2) − corrections)/2 is the link's mean delay.
    pub(crate) fn peer_delayed(
        &mut self,
        left: &When,
        (received, sent): (PtpTime, PtpTime),
        arrived: &When,
        correction: Correction,
        omega: f64,
    ) {
        let there = sent.0.saturating_sub(received.0).saturating_add(correction.0 >> 16);
        // The neighbour's ns are true ones, ours are raw.
        let there_raw = there.saturating_sub(to_i64((omega * to_f64(there)).round()));
        let round_trip = arrived.point.ns_since(left.point).saturating_sub(there_raw);
        if there < 0 {
            return;
        }
        if self.peer_delays.len() == PEER_DELAYS {
            self.peer_delays.pop_front();
        }
        // A short link's delay may come out negative by what the stamps err.
        self.peer_delays.push_back(round_trip.max(0) / 2);
    }

    /// The link's mean delay, ns: the least of late.
    pub(crate) fn peer_delay_ns(&self) -> Option<i64> {
        self.peer_delays.iter().copied().min()
    }

    /// How much in doubt our stamp's best guess is, ns: half of where it was taken, or what the line through many readings
    /// of the NIC's clock leaves.
    fn doubt_ns(&self, when: &When) -> i64 {
        let span = when.stamps.best();
        let half_ns = span.late.ns_since(span.early) / 2;
        if when.stamps.is_hardware() { half_ns.min(self.nic_doubt_ns) } else { half_ns }
    }

    fn wait(&mut self, waiting: Waiting) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(waiting);
    }

    /// A timestamp with its correction, as TAI; `None` near a leap second, where UTC is ambiguous.
    fn told(&mut self, time: PtpTime, correction: Correction, leap: &LeapTable) -> Option<Told> {
        let floor_ns = time.0.saturating_add(correction.0 >> 16);
        let ceil_ns = if correction.0 & 0xffff == 0 { floor_ns } else { floor_ns.saturating_add(1) };
        let is_tai = self.announced.is_some_and(|announced| announced.is_tai);
        let tai = |ns: i64| {
            if is_tai { (TaiTime::from_ns(ns), TaiTime::from_ns(ns)) } else { leap.tai_span(UtcTime::from_ns(ns)) }
        };
        if !is_tai && leap.is_ambiguous(UtcTime::from_ns(time.0)) {
            self.near_leap += 1;
            return None;
        }
        self.announced?;
        Some(Told { floor: tai(floor_ns).0, ceil: tai(ceil_ns).1, claim_ns: 0 })
    }
}

impl Constraint {
    /// The same with E = `claim_ns`.
    fn claimed(self, claim_ns: i64) -> Constraint {
        let with = |end: End| End { told: Told { claim_ns, ..end.told }, ..end };
        match self {
            Constraint::Upper(end) => Constraint::Upper(with(end)),
            Constraint::Lower(end) => Constraint::Lower(with(end)),
        }
    }
}

/// 2^log s in ns.
pub(crate) fn interval_ns(log: i8) -> i64 {
    if log >= 0 { NS_PER_S << log.min(20) } else { NS_PER_S >> log.unsigned_abs().min(20) }
}

fn midpoint(told: Told) -> TaiTime {
    told.floor.plus_ns(told.ceil.ns_since(told.floor) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamps::Stamps;
    use crate::time::RawSpan;

    const GOOD: Announced = Announced {
        grandmaster: [1; 8],
        steps_removed: 0,
        clock_class: 6,
        clock_accuracy: 0x21,
        priority: (128, 128),
        time_source: 0x20,
        is_tai: true,
        utc_offset_s: None,
        leap: 0,
        traceable: (true, true),
    };

    fn master() -> Master {
        let settings = PtpSettings { remote_stamp_error_ns: 7, hop_error_ns: 1_000, ..PtpSettings::new("eth0") };
        Master::new(PtpPort(0), PortIdentity { clock: [1; 8], port: 1 }, &settings)
    }

    /// Instants of these tests are in tenths of a second.
    fn at(tenths: i64) -> RawTime {
        RawTime::from_ns(tenths * NS_PER_S / 10)
    }

    fn sync(master: &mut Master, tenths: i64) {
        let at = at(tenths);
        let stamps = Stamps::user(RawSpan { early: at, late: at });
        let when = When { stamps, point: at, told: None };
        let none = (Correction(0), Correction(0));
        let _ = master.synced(&when, PtpTime(at.as_ns() + 5), none, &LeapTable::default());
    }

    fn claims(admitted: &[Constraint]) -> Vec<i64> {
        let end = |constraint: &Constraint| match constraint {
            Constraint::Upper(end) | Constraint::Lower(end) => end.told.claim_ns,
        };
        admitted.iter().map(end).collect()
    }

    #[test]
    fn accuracies_are_those_of_the_standard_rounded_up() {
        let pairs =
            [(0x17, 1), (0x1e, 3), (0x20, 25), (0x21, 100), (0x23, 1_000), (0x25, 10_000), (0x2f, 1_000_000_000)];
        for (code, ns) in pairs {
            assert_eq!(accuracy_ns(code), Some(ns), "{code:#x}");
        }
        for code in [0, 0x16, 0x30, 0x31, 0xfe, 0xff] {
            assert_eq!(accuracy_ns(code), None, "{code:#x}");
        }
        assert_eq!((accuracy_of(100), accuracy_of(101), accuracy_of(0)), (0x21, 0x22, 0x17));
        assert_eq!((accuracy_of(1_000_000_000), accuracy_of(1_000_000_001)), (0x2f, 0xfe));
    }

    #[test]
    fn a_constraint_waits_for_the_next_announce_and_takes_the_worst_of_both() {
        let mut master = master();
        sync(&mut master, 5);
        assert!(master.announced(at(10), GOOD).guaranteed.is_empty(), "nothing was said of it");
        sync(&mut master, 15);
        let worse = Announced { clock_accuracy: 0x23, ..GOOD };
        let admitted = master.announced(at(20), worse);
        assert_eq!(claims(&admitted.guaranteed), [1_007]);
        sync(&mut master, 25);
        assert_eq!(claims(&master.announced(at(30), GOOD).guaranteed), [1_007]);
        // Complete only now, but stamped while the accuracy was the worse one.
        sync(&mut master, 25);
        sync(&mut master, 35);
        assert_eq!(claims(&master.announced(at(40), GOOD).guaranteed), [1_007, 107]);
    }

    #[test]
    fn who_may_vote() {
        let guaranteed = |announced: Announced| {
            let mut master = master();
            master.announced(at(0), announced);
            sync(&mut master, 1);
            let admitted = master.announced(at(2), announced);
            (admitted.guaranteed.len(), claims(&admitted.asserted), master.vote)
        };
        assert_eq!(guaranteed(GOOD), (1, vec![107], PtpVote::Guaranteed));
        for class in [7, 13, 14] {
            assert_eq!(guaranteed(Announced { clock_class: class, ..GOOD }).0, 1, "class {class}");
        }
        for class in [0, 52, 135, 187, 248, 255] {
            let (votes, asserts, vote) = guaranteed(Announced { clock_class: class, ..GOOD });
            assert_eq!((votes, asserts.len(), vote), (0, 0, PtpVote::None(PtpDoubt::ClockClass)), "class {class}");
        }
        let behind = guaranteed(Announced { steps_removed: 2, ..GOOD });
        assert_eq!(behind, (0, vec![2_107], PtpVote::Asserted(PtpDoubt::BoundaryClock)));
        let vague = guaranteed(Announced { clock_accuracy: 0xfe, ..GOOD });
        assert_eq!((vague.0, vague.2), (0, PtpVote::None(PtpDoubt::ClockAccuracy)));
        let arbitrary = guaranteed(Announced { is_tai: false, ..GOOD });
        assert_eq!((arbitrary.0, arbitrary.2), (0, PtpVote::None(PtpDoubt::Timescale)));
    }
}
