//! The responder alone: what it answers, to whom, and what it asks of the socket.

use crate::correlation::Margins;
use crate::io::{CrossReading, KernelRate, Setting, SocketId};
use crate::settings::RateLimit;
use crate::units::to_i64;
use crate::wire::claim::CLAIM_FIELD_BYTES;
use crate::wire::ntp::HEADER_BYTES;

use super::*;

const MS: i64 = 1_000_000;
/// REALTIME − raw, ns.
const REAL_NS: i64 = 1_700_000_000_000_000_000;
/// A blank one shows no interest in stamps.
const BLANK: (u64, u64) = (0, 0);

fn at(ns: i64) -> RawTime {
    RawTime::from_ns(ns)
}

fn prefix(text: &str, bits: u8) -> Prefix {
    Prefix { address: text.parse().expect("an address"), bits }
}

/// A host whose bound, clocks and leap seconds never change.
struct Host {
    responder: Responder,
    bound: Bound,
    correlation: Correlation,
    leap: LeapTable,
}

impl Host {
    fn new(rate_limit: Option<RateLimit>) -> Self {
        let settings =
            ServerSettings { listen: Vec::new(), allow: vec![prefix("10.0.0.0", 8)], deny: Vec::new(), rate_limit };
        let (theta_lo_ns, theta_hi_ns) = (REAL_NS - 20_000, REAL_NS + 20_000);
        let bound = Bound { theta_lo_ns, theta_hi_ns, void_after_ns: i64::MAX, ..Bound::default() };
        let correlation = Correlation::new(Margins::REALTIME);
        Host { responder: Responder::new(settings, 0, 7), bound, correlation, leap: LeapTable::default() }
    }

    /// Both clocks are read at `now`.
    fn read(&mut self, now: i64) {
        self.correlation.push(reading(now));
        self.responder.bracketed(&self.correlation);
    }

    /// A request that is received at `now`, with a kernel stamp of `stamp` in raw time.
    fn asked(&mut self, now: i64, stamp: Option<i64>, transmit: u64, fields: (u64, u64)) -> Option<Transmit> {
        self.asked_for(None, now, stamp, transmit, fields)
    }

    /// As `asked`, with a field that asks for a finer claim.
    fn asked_for(
        &mut self,
        claim: Option<ClaimField>,
        now: i64,
        stamp: Option<i64>,
        transmit: u64,
        (origin, receive): (u64, u64),
    ) -> Option<Transmit> {
        let mut header = [0; HEADER_BYTES];
        header[0] = 4 << 3 | Mode::Client as u8;
        let (origin, receive, transmit) = (NtpTimestamp(origin), NtpTimestamp(receive), NtpTimestamp(transmit));
        let data = Packet { origin, receive, transmit, ..parsed(&header) }.datagram(claim);
        let received = Received {
            socket: SocketId::Server(0),
            from: "10.0.0.1:1234".parse().expect("an address"),
            to: None,
            data: data.as_slice(),
            kernel: stamp.map(|ns| RealTime::from_ns(REAL_NS + ns)),
            hardware: None,
            user_after: at(now),
        };
        let served = Served {
            bound: Some(&self.bound),
            stratum: 2,
            reference_id: *b"TEST",
            correlation: &self.correlation,
            leap: &self.leap,
        };
        self.responder.received(at(now), &received, &served)
    }

    /// The answer leaves 1 µs after `now` with its stamp, and both clocks are read 10 µs later.
    fn leaves(&mut self, answer: &Transmit, now: i64) {
        let user = RawSpan { early: at(now), late: at(now + 5_000) };
        self.responder.sent(answer.token, user, Some(RealTime::from_ns(REAL_NS + now + 1_000)));
        self.read(now + 10_000);
    }

    /// The raw instant that a timestamp means to a client: the middle of the bound is right.
    fn raw_of(&self, stamp: NtpTimestamp) -> i64 {
        let pivot = crate::time::UtcTime::from_ns(REAL_NS);
        let tai = self.leap.to_tai(stamp.to_utc_near(pivot).0);
        tai.as_ns() - REAL_NS
    }
}

/// REALTIME is read within 20 ns of `now`.
fn reading(now: i64) -> CrossReading {
    let (real, rate) = (RealTime::from_ns(REAL_NS + now), KernelRate::Steady { ppb: 0 });
    CrossReading { before: at(now - 20), real, after: at(now + 20), rate, setting: Setting::Unset }
}

fn parsed(bytes: &[u8]) -> Packet {
    ntp::parse(bytes).expect("well-formed").0
}

fn packet(answer: &Transmit) -> Packet {
    parsed(answer.data.as_slice())
}

#[test]
fn the_longest_prefix_decides_and_silence_is_denial() {
    let settings = ServerSettings {
        listen: Vec::new(),
        allow: vec![prefix("10.0.0.0", 8), prefix("10.1.2.3", 32)],
        deny: vec![prefix("10.1.0.0", 16)],
        rate_limit: None,
    };
    let allowed = |text: &str| is_allowed(&settings, text.parse().expect("an address"));
    assert!(allowed("10.0.0.1") && allowed("10.1.2.3") && allowed("::ffff:10.0.0.1"));
    assert!(!allowed("10.1.2.4") && !allowed("192.0.2.1") && !allowed("2001:db8::1"));
}

#[test]
fn a_claim_is_told_as_finely_as_it_is_asked_for() {
    let mut host = Host::new(None);
    host.read(0);
    let mut told = |claim: Option<ClaimField>| host.asked_for(claim, MS, None, 5, BLANK).expect("allowed");
    let found = |answer: &Transmit, kind| {
        let (packet, extensions) = ntp::parse(answer.data.as_slice()).expect("well-formed");
        assert_eq!((packet.root_delay, packet.root_dispersion), (ShortTime(0), ShortTime::from_ns_up(20_002)));
        assert!(extensions.iter().count() <= 1);
        extensions.find(kind).map(<[u8]>::to_vec)
    };
    let plain = told(None);
    assert_eq!((found(&plain, EXACT_CLAIM), found(&plain, FINE_ROOT)), (None, None));
    let exact = found(&told(Some(ExactClaim::REQUEST.write())), EXACT_CLAIM);
    let ExactClaim { half_width_ns } = exact.and_then(|value| ExactClaim::parse(&value)).expect("asked for");
    let fine = found(&told(Some(FineRoot::REQUEST.write())), FINE_ROOT);
    let FineRoot { delay, dispersion } = fine.and_then(|value| FineRoot::parse(&value)).expect("asked for");
    // A ns for each rounding of an edge.
    assert_eq!((half_width_ns, delay), (20_002, FineTime(0)));
    assert_eq!(dispersion, FineTime::from_ns_up(20_002));
    // Neither is asked for by a field of that type that is another's.
    for kind in [EXACT_CLAIM, FINE_ROOT] {
        let mut other = [0; CLAIM_FIELD_BYTES];
        other[..2].copy_from_slice(&kind.to_be_bytes());
        other[3] = 28;
        assert_eq!(found(&told(Some(other)), kind), None);
    }
}

#[test]
fn a_stamp_is_asked_for_where_the_request_shows_interest() {
    let mut host = Host::new(None);
    host.read(0);
    for (fields, wants) in
        [(BLANK, false), ((0, 9), true), ((9, 0), true), ((9, 9), true), ((0, 5), false), ((9, 5), false)]
    {
        // The transmit field is 5.
        let answer = host.asked(MS, None, 5, fields).expect("allowed");
        assert_eq!(answer.wants_stamp, wants, "{fields:?}");
    }
}

#[test]
fn a_client_that_shows_interest_at_once_gets_the_stamp_of_its_first_answer() {
    let mut host = Host::new(None);
    host.read(0);
    let first = host.asked(MS, None, 5, (0, 6)).expect("allowed");
    host.leaves(&first, MS);
    let name = packet(&first).receive;
    let second = packet(&host.asked(2 * MS, None, 7, (name.0, 8)).expect("allowed"));
    assert_eq!(second.origin, NtpTimestamp(8), "interleaved");
    let left = host.raw_of(second.transmit);
    assert!(
        (MS + 800..=MS + 1_000).contains(&left),
        "{left}: not later than it left, and no more than the readings allow"
    );
    assert_eq!(host.responder.counters.interleaved, 1);
}

#[test]
fn a_client_that_shows_it_by_naming_an_answer_gets_basic_mode_once_more() {
    let mut host = Host::new(None);
    host.read(0);
    let first = host.asked(MS, None, 5, BLANK).expect("allowed");
    assert!(!first.wants_stamp);
    let second = host.asked(2 * MS, None, 7, (packet(&first).receive.0, 8)).expect("allowed");
    assert_eq!((packet(&second).origin, second.wants_stamp), (NtpTimestamp(7), true), "basic, with a stamp");
    host.leaves(&second, 2 * MS);
    let third = packet(&host.asked(3 * MS, None, 9, (packet(&second).receive.0, 10)).expect("allowed"));
    assert_eq!(third.origin, NtpTimestamp(10), "interleaved");
}

#[test]
fn a_request_that_seems_to_have_waited_is_told_when_it_was_received() {
    let mut host = Host::new(None);
    (0..7).for_each(|n| host.read(n * MS));
    host.read(7 * MS + 50);
    // Its stamp is of 2.5 ms: it waited since, or the clock was set back.
    let answer = packet(&host.asked(7 * MS, Some(5 * MS / 2), 5, BLANK).expect("allowed"));
    assert!((7 * MS..7 * MS + 2).contains(&host.raw_of(answer.receive)));
}

#[test]
fn answers_of_one_batch_share_an_instant_and_no_name() {
    let mut host = Host::new(None);
    host.read(0);
    let answers: Vec<Packet> = (0..64).map(|n| packet(&host.asked(MS, None, n + 1, BLANK).expect("allowed"))).collect();
    let mut names: Vec<u64> = answers.iter().map(|answer| answer.receive.0).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 64);
    assert!(answers.iter().all(|answer| answer.transmit == answers[0].transmit));
    // A bound that changed at the same instant is told.
    host.bound.theta_hi_ns += 2 * MS;
    let wider = packet(&host.asked(MS, None, 99, BLANK).expect("allowed"));
    let by_ns = |packet: &Packet| packet.root_dispersion.to_ns_up();
    assert!(by_ns(&wider) >= by_ns(&answers[0]) + to_i64(0.9e6));
    assert!(host.raw_of(wider.transmit) > host.raw_of(answers[0].transmit));
}

#[test]
fn who_asks_too_often_is_told_so_and_then_dropped() {
    let mut host = Host::new(Some(RateLimit { min_interval_ns: 3_000 * MS, burst: 4 }));
    host.read(0);
    for n in 0..4 {
        let answer = host.asked(MS, None, n + 1, BLANK).expect("within the burst");
        assert_eq!(packet(&answer).stratum, 2);
    }
    let kiss = host.asked(MS, None, 77, (0, 6)).expect("told at once");
    assert!(!kiss.wants_stamp);
    let kiss = packet(&kiss);
    assert_eq!((kiss.leap, kiss.stratum, &kiss.reference_id), (Leap::Unsynchronised, 0, b"RATE"));
    assert_eq!((kiss.mode, kiss.version, kiss.poll), (Mode::Server, 4, 2), "3 s are at most 2^2 s");
    let echo = NtpTimestamp(77);
    assert_eq!((kiss.origin, kiss.receive, kiss.transmit), (echo, echo, echo));
    let told = (0..79).filter(|n| host.asked(MS, None, 100 + n, BLANK).is_some()).count();
    assert_eq!(told, 9, "one in eight");
    let counters = host.responder.counters;
    assert_eq!((counters.answered, counters.limited, counters.kissed), (4, 80, 10));
    assert_eq!(packet(&host.asked(MS + 3_000 * MS, None, 5, BLANK).expect("once an interval")).stratum, 2);
}

#[test]
fn poll_exponents_cover_the_interval() {
    let s = NS_PER_S;
    for (interval_ns, poll) in [(1, 0), (s, 0), (s + 1, 1), (2 * s, 1), (60 * s, 6), (64 * s, 6), (64 * s + 1, 7)] {
        assert_eq!(poll_of(interval_ns), poll, "{interval_ns}");
    }
}
