//! The tap: messages that belong together become one finding, with the stamps and corrections of each.
//!
//! Halves may arrive in any order (over UDP, Sync and Follow_Up come through two sockets) and a transmit stamp may come
//! after the answer it belongs to. Every memory is bounded; what is forgotten, repeated or was never asked for changes
//! a count and nothing else.

use std::collections::VecDeque;

use super::counters::Counters;
use super::gate::{negative_part, time_of};
use super::{Correction, Finding, PortIdentity, PtpTime, When};
use crate::time::{NS_PER_S, RawTime};
use crate::wire::ptp::{Body, Message, MessageType, flag};

/// Syncs (and Follow_Ups) that wait for their other half.
const MAX_HALVES: usize = 8;
/// A half waits so long: more than any master takes to read its stamp, less than one takes to restart.
const HALF_LIFE_NS: i64 = NS_PER_S / 2;
/// Requests of ours that may be open; the oldest is forgotten.
const MAX_REQUESTS: usize = 16;
/// Without a Sync for so long, the next one is a new beginning: the longest Sync interval is 16 s.
const RESTART_NS: i64 = 20 * NS_PER_S;
/// Syncs that may be lost in a row before a later sequenceId alone no longer tells new from old.
const MAX_GAP: u16 = 64;

/// What one port waits for.
#[derive(Debug)]
pub(super) struct Tap {
    /// Who we are: answers name their requester.
    us: PortIdentity,
    syncs: VecDeque<Half<When>>,
    follow_ups: VecDeque<Half<PtpTime>>,
    last: Option<LastSync>,
    /// The number of the newest Sync, used or not.
    newest: Option<u16>,
    delays: VecDeque<DelayRequest>,
    peers: VecDeque<PeerRequest>,
    /// More than one port answered lately: what lies between is no link (§11.4.4), and no exchange counts until one
    /// request got one answer only.
    is_shared: bool,
}

/// A Sync without its Follow_Up (value: when it arrived), or the other way round (value: when it was sent).
#[derive(Clone, Copy, Debug)]
struct Half<T> {
    sequence: u16,
    since: RawTime,
    value: T,
    correction: Correction,
}

/// The last Sync that was used.
#[derive(Clone, Copy, Debug)]
struct LastSync {
    sequence: u16,
    origin: PtpTime,
    at: RawTime,
}

impl LastSync {
    /// Could a Sync like this follow? A restarted master counts anew, but its time went on; one whose clock was set
    /// back counts on. A replay does neither.
    fn precedes(&self, now: RawTime, sequence: u16, origin: PtpTime) -> bool {
        let counts_on = (1..=MAX_GAP).contains(&sequence.wrapping_sub(self.sequence));
        counts_on || origin > self.origin || now.ns_since(self.at) > RESTART_NS
    }
}

/// A Delay_Req of ours.
#[derive(Clone, Copy, Debug)]
struct DelayRequest {
    sequence: u16,
    left: Option<When>,
    answer: Option<(PtpTime, Correction)>,
}

/// A Pdelay_Req of ours. It stays when it is over, so that a second responder is noticed.
#[derive(Clone, Copy, Debug)]
struct PeerRequest {
    sequence: u16,
    left: Option<When>,
    responder: Option<PortIdentity>,
    response: Option<PeerResponse>,
    follow_up: Option<(PtpTime, Correction)>,
    is_over: bool,
    has_rivals: bool,
}

#[derive(Clone, Copy, Debug)]
struct PeerResponse {
    received: PtpTime,
    arrived: When,
    correction: Correction,
    is_two_step: bool,
}

impl Tap {
    pub(super) fn new(us: PortIdentity) -> Self {
        Tap {
            us,
            syncs: VecDeque::new(),
            follow_ups: VecDeque::new(),
            last: None,
            newest: None,
            delays: VecDeque::new(),
            peers: VecDeque::new(),
            is_shared: false,
        }
    }

    /// The parent changed: nothing of the old one may meet the new one's. The neighbour on the link stays.
    pub(super) fn forget_parent(&mut self) {
        self.syncs.clear();
        self.follow_ups.clear();
        self.last = None;
        self.newest = None;
        self.delays.clear();
    }

    /// A message passed the gate; `when` for event messages.
    pub(super) fn received(
        &mut self,
        now: RawTime,
        message: &Message,
        when: Option<When>,
        parent: Option<PortIdentity>,
        counters: &mut Counters,
    ) -> Option<Finding> {
        let header = &message.header;
        let is_for_us = match message.body {
            Body::Answer(_, requester) => requester == self.us,
            _ => true,
        };
        let is_peers = matches!(header.kind, MessageType::PdelayResp | MessageType::PdelayRespFollowUp);
        if !is_for_us || (header.kind.is_masters() && parent != Some(header.source)) {
            counters.foreign += 1;
            return None;
        }
        match (header.kind, message.body) {
            (MessageType::Sync, Body::Origin(origin)) => {
                self.expire_halves(now, counters);
                self.synced(now, message, time_of(origin), when?, counters)
            }
            (MessageType::FollowUp, Body::Origin(origin)) => {
                self.expire_halves(now, counters);
                self.followed_up(now, message, time_of(origin), counters)
            }
            (MessageType::DelayResp, Body::Answer(received, _)) => {
                self.delay_answered(header.sequence, time_of(received), header.correction, counters)
            }
            (_, Body::Answer(..)) if is_peers => self.peer_answered(message, when, counters),
            _ => None,
        }
    }

    fn synced(
        &mut self,
        now: RawTime,
        message: &Message,
        origin: PtpTime,
        arrived: When,
        counters: &mut Counters,
    ) -> Option<Finding> {
        let (sequence, correction) = (message.header.sequence, message.header.correction);
        let half = Half { sequence, since: now, value: arrived, correction };
        if !message.header.has(flag::TWO_STEP) {
            let whole = Half { sequence, since: now, value: origin, correction: Correction(0) };
            return self.complete(now, half, whole, counters);
        }
        // A restarted master counts anew: what waits is of another life, and its number may come again.
        let counts_on = self.newest.is_none_or(|newest| (1..=MAX_GAP).contains(&sequence.wrapping_sub(newest)));
        if !counts_on {
            counters.repeated += u64::try_from(self.syncs.len()).unwrap_or(0);
            self.syncs.clear();
        }
        self.newest = Some(sequence);
        match take(&mut self.follow_ups, sequence) {
            Some(follow_up) => self.complete(now, half, follow_up, counters),
            None => {
                keep(&mut self.syncs, half, counters);
                None
            }
        }
    }

    fn followed_up(
        &mut self,
        now: RawTime,
        message: &Message,
        origin: PtpTime,
        counters: &mut Counters,
    ) -> Option<Finding> {
        let (sequence, correction) = (message.header.sequence, message.header.correction);
        let half = Half { sequence, since: now, value: origin, correction };
        if self.follow_ups.iter().any(|waiting| waiting.sequence == sequence) {
            counters.repeated += 1;
            return None;
        }
        match take(&mut self.syncs, sequence) {
            Some(sync) => self.complete(now, sync, half, counters),
            None => {
                keep(&mut self.follow_ups, half, counters);
                None
            }
        }
    }

    fn complete(
        &mut self,
        now: RawTime,
        sync: Half<When>,
        follow_up: Half<PtpTime>,
        counters: &mut Counters,
    ) -> Option<Finding> {
        let (sequence, origin) = (sync.sequence, follow_up.value);
        if self.last.is_some_and(|last| !last.precedes(now, sequence, origin)) {
            counters.repeated += 1;
            return None;
        }
        self.last = Some(LastSync { sequence, origin, at: now });
        Some(Finding::Synced {
            arrived: sync.value,
            origin,
            correction: sum(sync.correction, follow_up.correction),
            least: sum(negative_part(sync.correction), negative_part(follow_up.correction)),
        })
    }

    fn expire_halves(&mut self, now: RawTime, counters: &mut Counters) {
        expire(&mut self.syncs, now, counters);
        expire(&mut self.follow_ups, now, counters);
    }

    /// A Delay_Req is about to be sent.
    pub(super) fn delay_asked(&mut self, sequence: u16) {
        if self.delays.len() == MAX_REQUESTS {
            self.delays.pop_front();
        }
        self.delays.push_back(DelayRequest { sequence, left: None, answer: None });
    }

    /// It left, or nobody will ever know when (`None`).
    pub(super) fn delay_left(&mut self, sequence: u16, when: Option<When>) -> Option<Finding> {
        let place = self.delays.iter().position(|request| request.sequence == sequence)?;
        if when.is_none() {
            self.delays.remove(place);
            return None;
        }
        self.delays[place].left = when;
        self.delay_finding(place)
    }

    fn delay_answered(
        &mut self,
        sequence: u16,
        received: PtpTime,
        correction: Correction,
        counters: &mut Counters,
    ) -> Option<Finding> {
        let Some(place) = self.delays.iter().position(|request| request.sequence == sequence) else {
            counters.unmatched += 1;
            return None;
        };
        if self.delays[place].answer.is_some() {
            counters.repeated += 1;
            return None;
        }
        self.delays[place].answer = Some((received, correction));
        self.delay_finding(place)
    }

    /// Once only: the request is forgotten with it.
    fn delay_finding(&mut self, place: usize) -> Option<Finding> {
        let DelayRequest { left: Some(left), answer: Some((received, correction)), .. } = self.delays[place] else {
            return None;
        };
        self.delays.remove(place);
        Some(Finding::Delayed { left, received, correction, least: negative_part(correction) })
    }

    /// A Pdelay_Req is about to be sent.
    pub(super) fn peer_asked(&mut self, sequence: u16) {
        let is_exclusive = |request: &PeerRequest| request.responder.is_some() && !request.has_rivals;
        if self.peers.back().is_some_and(is_exclusive) {
            self.is_shared = false;
        }
        if self.peers.len() == MAX_REQUESTS {
            self.peers.pop_front();
        }
        self.peers.push_back(PeerRequest {
            sequence,
            left: None,
            responder: None,
            response: None,
            follow_up: None,
            is_over: false,
            has_rivals: false,
        });
    }

    /// It left, or nobody will ever know when (`None`).
    pub(super) fn peer_left(&mut self, sequence: u16, when: Option<When>) -> Option<Finding> {
        let request = self.peers.iter_mut().find(|request| request.sequence == sequence)?;
        request.left = when;
        request.is_over |= when.is_none();
        request.finding().filter(|_| !self.is_shared)
    }

    fn peer_answered(&mut self, message: &Message, when: Option<When>, counters: &mut Counters) -> Option<Finding> {
        let (header, Body::Answer(told, _)) = (&message.header, message.body) else { return None };
        let Some(request) = self.peers.iter_mut().find(|request| request.sequence == header.sequence) else {
            counters.unmatched += 1;
            return None;
        };
        if *request.responder.get_or_insert(header.source) != header.source {
            counters.many_responders += u64::from(!request.has_rivals);
            (request.is_over, request.has_rivals, self.is_shared) = (true, true, true);
            return None;
        }
        let is_response = header.kind == MessageType::PdelayResp;
        let is_there = if is_response { request.response.is_some() } else { request.follow_up.is_some() };
        if request.is_over || is_there {
            counters.repeated += 1;
            return None;
        }
        if is_response {
            request.response = Some(PeerResponse {
                received: time_of(told),
                arrived: when?,
                correction: header.correction,
                is_two_step: header.has(flag::TWO_STEP),
            });
        } else {
            request.follow_up = Some((time_of(told), header.correction));
        }
        request.finding().filter(|_| !self.is_shared)
    }
}

impl PeerRequest {
    fn finding(&mut self) -> Option<Finding> {
        let (left, response) = (self.left?, self.response?);
        // One-step: the correction holds the whole turnaround.
        let (sent, correction) =
            if response.is_two_step { self.follow_up? } else { (response.received, Correction(0)) };
        if self.is_over {
            return None;
        }
        self.is_over = true;
        Some(Finding::PeerDelayed {
            left,
            received: response.received,
            sent,
            arrived: response.arrived,
            correction: sum(response.correction, correction),
        })
    }
}

fn sum(a: Correction, b: Correction) -> Correction {
    Correction(a.0.saturating_add(b.0))
}

fn keep<T>(halves: &mut VecDeque<Half<T>>, half: Half<T>, counters: &mut Counters) {
    if halves.len() == MAX_HALVES {
        halves.pop_front();
        counters.unmatched += 1;
    }
    halves.push_back(half);
}

fn take<T>(halves: &mut VecDeque<Half<T>>, sequence: u16) -> Option<Half<T>> {
    let place = halves.iter().position(|half| half.sequence == sequence)?;
    halves.remove(place)
}

fn expire<T>(halves: &mut VecDeque<Half<T>>, now: RawTime, counters: &mut Counters) {
    while halves.front().is_some_and(|half| now.ns_since(half.since) > HALF_LIFE_NS) {
        halves.pop_front();
        counters.unmatched += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamps::Stamps;
    use crate::time::RawSpan;
    use crate::wire::ptp::{Header, Timestamp};

    const US: PortIdentity = PortIdentity { clock: [1; 8], port: 1 };
    const OLD: PortIdentity = PortIdentity { clock: [2; 8], port: 1 };
    const NEW: PortIdentity = PortIdentity { clock: [3; 8], port: 1 };
    const TOLD: Timestamp = Timestamp { seconds: 1_000, nanos: 0 };

    fn message(kind: MessageType, source: PortIdentity, requester: PortIdentity) -> Message {
        let header = Header {
            kind,
            sdo: 0,
            version: (2, 1),
            domain: 0,
            flags: flag::TWO_STEP,
            correction: Correction(0),
            source,
            sequence: 7,
            log_interval: 0,
        };
        let body = if kind.length() == 54 { Body::Answer(TOLD, requester) } else { Body::Origin(TOLD) };
        Message { header, body }
    }

    fn when(ns: i64) -> When {
        let point = RawTime::from_ns(ns);
        let user = RawSpan { early: point, late: point };
        When { stamps: Stamps { user, kernel: None, nic_error_ns: None }, point, told: None }
    }

    struct Bench(Tap, Counters);

    impl Bench {
        fn new() -> Self {
            Bench(Tap::new(US), Counters::default())
        }

        fn hears(&mut self, message: Message, parent: PortIdentity) -> Option<Finding> {
            let stamp = message.header.kind.is_event().then(|| when(5));
            self.0.received(RawTime::from_ns(5), &message, stamp, Some(parent), &mut self.1)
        }
    }

    #[test]
    fn two_parents_never_make_one_finding() {
        let (sync, follow_up) = (MessageType::Sync, MessageType::FollowUp);
        for (first, second) in [(sync, follow_up), (follow_up, sync)] {
            let mut bench = Bench::new();
            assert_eq!(bench.hears(message(first, OLD, US), OLD), None);
            bench.0.forget_parent();
            assert_eq!(bench.hears(message(second, NEW, US), NEW), None);
            assert!(bench.hears(message(first, NEW, US), NEW).is_some());
        }
        let mut bench = Bench::new();
        bench.0.delay_asked(7);
        assert_eq!(bench.0.delay_left(7, Some(when(1))), None);
        bench.0.forget_parent();
        assert_eq!(bench.hears(message(MessageType::DelayResp, NEW, US), NEW), None);
        assert_eq!(bench.1.unmatched, 1);
    }

    #[test]
    fn answers_count_once_and_only_ours() {
        let mut bench = Bench::new();
        bench.0.delay_asked(7);
        bench.0.delay_left(7, Some(when(1)));
        assert_eq!(bench.hears(message(MessageType::DelayResp, OLD, NEW), OLD), None);
        assert_eq!(bench.hears(message(MessageType::DelayResp, NEW, US), OLD), None);
        assert_eq!(bench.1.foreign, 2);
        assert!(bench.hears(message(MessageType::DelayResp, OLD, US), OLD).is_some());
        assert_eq!(bench.hears(message(MessageType::DelayResp, OLD, US), OLD), None);
        assert_eq!((bench.1.unmatched, bench.1.repeated), (1, 0), "who was answered is forgotten");
    }

    #[test]
    fn a_one_step_response_is_its_own_follow_up() {
        let mut bench = Bench::new();
        bench.0.peer_asked(7);
        bench.0.peer_left(7, Some(when(1)));
        let mut response = message(MessageType::PdelayResp, OLD, US);
        (response.header.flags, response.header.correction) = (0, Correction(99));
        let told = time_of(TOLD);
        let expected = Finding::PeerDelayed {
            left: when(1),
            received: told,
            sent: told,
            arrived: when(5),
            correction: Correction(99),
        };
        assert_eq!(bench.hears(response, NEW), Some(expected));
        assert_eq!(bench.hears(response, NEW), None);
        assert_eq!(bench.1.repeated, 1);
    }

    #[test]
    fn a_rival_in_time_voids_the_exchange() {
        let mut bench = Bench::new();
        bench.0.peer_asked(7);
        assert_eq!(bench.hears(message(MessageType::PdelayResp, OLD, US), OLD), None);
        assert_eq!(bench.hears(message(MessageType::PdelayResp, NEW, US), OLD), None);
        assert_eq!(bench.hears(message(MessageType::PdelayRespFollowUp, OLD, US), OLD), None);
        assert_eq!(bench.0.peer_left(7, Some(when(1))), None);
        assert_eq!(bench.1.many_responders, 1);
    }

    #[test]
    fn memories_are_bounded() {
        let mut bench = Bench::new();
        for sequence in 0..1_000 {
            bench.0.delay_asked(sequence);
            bench.0.peer_asked(sequence);
            for kind in [MessageType::Sync, MessageType::FollowUp] {
                let mut half = message(kind, OLD, US);
                half.header.sequence = 2 * sequence + u16::from(kind == MessageType::Sync);
                bench.hears(half, OLD);
            }
        }
        let Bench(tap, counters) = bench;
        assert_eq!((tap.delays.len(), tap.peers.len()), (MAX_REQUESTS, MAX_REQUESTS));
        assert_eq!((tap.syncs.len(), tap.follow_ups.len()), (MAX_HALVES, MAX_HALVES));
        assert_eq!(counters.unmatched, 2_000 - 16);
    }
}
