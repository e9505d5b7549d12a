//! The NTPv4 client of one server: requests with random cookies, answers checked against them (RFC 5905, RFC 9769).
//!
//! A request carries two random 64-bit cookies, in the transmit and the receive field. A server in basic mode returns
//! the first as origin, one in interleaved mode the second, so an answer is accepted only if it knows a cookie that
//! went to this server once and was not answered yet: replays, duplicates and blind spoofing change nothing.
//!
//! In interleaved mode the answer's transmit field is the server's *kernel* stamp of its previous answer. It belongs to
//! the previous exchange only if the request named that answer (origin field = its receive stamp) and the answer
//! confirms it (origin field = our second cookie), and if it lies between the server's two receive stamps.

use std::collections::VecDeque;

use rand_core::RngCore;

use crate::clocks::{Clocks, Placed};
use crate::io::{Datagram, HardwareStamp, Received};
use crate::leap::LeapTable;
use crate::smear::Smear;
use crate::stamps::Stamps;
use crate::time::{NS_PER_S, RawSpan, RealTime, TaiTime, UtcTime};
use crate::wire::claim::{ClaimField, EXACT_CLAIM, ExactClaim, FINE_ROOT, FineRoot, FineTime};
use crate::wire::ntp::{self, Extensions, Leap, Mode, NtpTimestamp, Packet, ShortTime};

/// Requests that may be unanswered at one time; the oldest is forgotten. Half a second at the fastest rate.
const MAX_PENDING: usize = 64;
/// Servers randomise the bits below their precision, and stamp with two clocks: so much disorder is no lie, ns.
const STAMP_NOISE_NS: i64 = 2_000;
/// Where the transmit cookie lies in a request.
pub(crate) const COOKIE_AT: usize = 40;

/// True time at one end of an exchange, as the server tells it: in [floor, ceil] ± claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Not before this.
    pub(crate) floor: TaiTime,
    /// Not after this.
    pub(crate) ceil: TaiTime,
    /// E: how wrong the server may be, ns.
    pub(crate) claim_ns: i64,
}

/// One end of an exchange: our stamps and the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) ours: Stamps,
    pub(crate) told: Told,
}

/// A whole exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchanged {
    pub(crate) out: End,
    pub(crate) back: End,
    /// The pair of requests that its request was sent in.
    pub(crate) pair: Option<u32>,
    /// It was not a whole exchange before.
    pub(crate) is_new: bool,
}

/// What one answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Our request left (T1), the server received it (t2).
    pub(crate) out: End,
    /// The server answered (t3, or t2 where t3 is not known yet), we received it (T4).
    pub(crate) back: End,
    /// Interleaved mode: the previous exchange, complete with the server's kernel stamp.
    pub(crate) previous: Option<Exchanged>,
    /// Is `back` this exchange's own t3?
    pub(crate) is_complete: bool,
    /// The pair of requests that this one was sent in.
    pub(crate) pair: Option<u32>,
    /// The server's words about itself.
    pub(crate) packet: Packet,
}

/// Why a datagram, or a sample of a reference clock, was not used. Counted per association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Not an NTP packet of version 3 or 4, or too short.
    Malformed = 0,
    /// Not a server's answer.
    NotAnAnswer = 1,
    /// No request of ours had that origin.
    WrongOrigin = 2,
    /// A timestamp is zero, or the server answered before it received.
    BadStamps = 3,
    /// The server says that it is not synchronised.
    Unsynchronised = 4,
    /// The server's root distance is beyond the limit.
    TooDistant = 5,
    /// A kiss-o'-death.
    Kiss = 6,
    /// Its timestamps are so near a leap second that they are ambiguous.
    NearLeap = 7,
    /// A sample that does not lie between two readings of CLOCK_REALTIME, or is too old.
    Stale = 8,
    /// There is no such segment, socket or device.
    Absent = 9,
    /// Whenever it was looked at somebody wrote.
    Torn = 10,
    /// A pulse of which the other sources do not say which second it marks.
    Unnumbered = 11,
}

impl Discard {
    /// How many reasons there are.
    pub const COUNT: usize = 12;
    /// Their names, in order of their numbers.
    pub const NAMES: [&'static str; Discard::COUNT] = [
        "malformed",
        "not-an-answer",
        "wrong-origin",
        "bad-stamps",
        "unsynchronised",
        "too-distant",
        "kiss",
        "near-leap",
        "stale",
        "absent",
        "torn",
        "unnumbered",
    ];
}

/// What came of a datagram.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// A usable answer.
    Answer(Answer),
    /// The server spoke, but has nothing for us.
    Useless(Discard),
    /// A kiss-o'-death with its code.
    Kiss([u8; 4]),
    /// Not an answer to us: nothing may change.
    Ignored(Discard),
}

/// A request that is under way.
#[derive(Clone, Copy, Debug)]
struct Request {
    sequence: u32,
    transmit_cookie: NtpTimestamp,
    receive_cookie: NtpTimestamp,
    /// The receive stamp that it named in its origin field.
    names: NtpTimestamp,
    sent: Option<RawSpan>,
    kernel: Option<RealTime>,
    hardware: Option<HardwareStamp>,
    pair: Option<u32>,
}

/// An exchange that waits for the server's kernel stamp.
#[derive(Clone, Copy, Debug)]
struct Unstamped {
    receive: NtpTimestamp,
    out: End,
    received: Stamps,
    pair: Option<u32>,
    /// Its answer was a basic one and told a t3 of its own.
    was_complete: bool,
}

/// How a server says what it claims of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimFormat {
    /// Root delay and dispersion of the header.
    Header,
    /// Those of a [`FineRoot`], or of the header where the answer has none.
    Fine,
    /// An [`ExactClaim`], or the header where the answer has none.
    Exact,
}

impl ClaimFormat {
    /// What a request carries to ask for it.
    fn request(self) -> Option<ClaimField> {
        match self {
            ClaimFormat::Header => None,
            ClaimFormat::Fine => Some(FineRoot::REQUEST.write()),
            ClaimFormat::Exact => Some(ExactClaim::REQUEST.write()),
        }
    }

    /// Of E, what the server says of its own way to true time, ns (BOUND §2): (rootdelay + 1 lsb)/2 + rootdisp + 1 lsb.
    /// Servers round down or to nearest, hence the least significant bits.
    fn root_ns(self, packet: &Packet, extensions: &Extensions<'_>) -> i64 {
        let root_ns = |delay: i64, dispersion: i64, lsb: i64| {
            let half_delay = delay.saturating_add(lsb).saturating_add(1) / 2;
            half_delay.saturating_add(dispersion).saturating_add(lsb)
        };
        let told = match self {
            ClaimFormat::Header => None,
            ClaimFormat::Fine => extensions
                .find(FINE_ROOT)
                .and_then(FineRoot::parse)
                .filter(|root| *root != FineRoot::REQUEST)
                .map(|root| root_ns(root.delay.to_ns_up(), root.dispersion.to_ns_up(), FineTime::LSB_NS_UP)),
            ClaimFormat::Exact => extensions
                .find(EXACT_CLAIM)
                .and_then(ExactClaim::parse)
                .and_then(|claim| i64::try_from(claim.half_width_ns).ok()),
        };
        told.unwrap_or_else(|| {
            root_ns(packet.root_delay.to_ns_up(), packet.root_dispersion.to_ns_up(), ShortTime::LSB_NS_UP)
        })
    }
}

/// The client's half of the protocol with one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    interleaved: bool,
    claims: ClaimFormat,
    claim_floor_ns: i64,
    max_distance_ns: i64,
    smear: Smear,
    pending: VecDeque<Request>,
    /// Exchanges whose t3 is known only as "not before t2", oldest first.
    unstamped: VecDeque<Unstamped>,
    next_sequence: u32,
    /// Kernel stamps that were missing or unusable: (transmit, receive).
    pub(crate) missing_stamps: (u64, u64),
    /// Kernel stamps dropped because REALTIME was stepped or slewed under them.
    pub(crate) contradicted_stamps: u64,
}

/// What surrounds an answer.
pub(crate) struct Context<'a> {
    pub(crate) clocks: &'a Clocks,
    pub(crate) leap: &'a LeapTable,
    /// Near the present, to choose the NTP era.
    pub(crate) pivot: UtcTime,
}

impl Client {
    pub(crate) fn new(interleaved: bool, claims: ClaimFormat, claim_floor_ns: i64, max_distance_ns: i64) -> Self {
        Client {
            interleaved,
            claims,
            claim_floor_ns,
            max_distance_ns,
            smear: Smear::None,
            pending: VecDeque::new(),
            unstamped: VecDeque::new(),
            next_sequence: 0,
            missing_stamps: (0, 0),
            contradicted_stamps: 0,
        }
    }

    /// The same, of a server that smears leap seconds.
    pub(crate) fn smeared(self, smear: Smear) -> Self {
        Client { smear, ..self }
    }

    /// Forgets every exchange: raw time is another clock now.
    pub(crate) fn reset(&mut self) {
        self.pending.clear();
        self.unstamped.clear();
    }

    /// The next request, perhaps one of a pair: its bytes and the number that names it in [`Client::sent`].
    pub(crate) fn request(&mut self, pair: Option<u32>, rng: &mut impl RngCore) -> (Datagram, u32) {
        let names = self.newest_unnamed(pair).filter(|_| self.interleaved).unwrap_or(NtpTimestamp::ZERO);
        let request = Request {
            sequence: self.next_sequence,
            transmit_cookie: cookie(rng),
            receive_cookie: if self.interleaved { cookie(rng) } else { NtpTimestamp::ZERO },
            names,
            sent: None,
            kernel: None,
            hardware: None,
            pair,
        };
        self.next_sequence = self.next_sequence.wrapping_add(1);
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(request);
        (self.encode(&request), request.sequence)
    }

    /// The newest answer whose kernel stamp no pending request asks for. The first request of a pair leaves it to the
    /// second and asks for the one before, so that the stamps come in the order of the exchanges.
    fn newest_unnamed(&self, pair: Option<u32>) -> Option<NtpTimestamp> {
        let is_named = |receive: NtpTimestamp| self.pending.iter().any(|request| request.names == receive);
        let is_first = pair.is_some() && self.pending.iter().all(|request| request.pair != pair);
        let mut unnamed = self.unstamped.iter().rev().map(|last| last.receive).filter(|&receive| !is_named(receive));
        let newest = unnamed.next();
        if is_first { unnamed.next().or(newest) } else { newest }
    }

    fn encode(&self, request: &Request) -> Datagram {
        let packet = Packet {
            leap: Leap::None,
            version: 4,
            mode: Mode::Client,
            stratum: 0,
            poll: 0,
            precision: 0,
            root_delay: ShortTime(0),
            root_dispersion: ShortTime(0),
            reference_id: [0; 4],
            reference: NtpTimestamp::ZERO,
            origin: request.names,
            receive: request.receive_cookie,
            transmit: request.transmit_cookie,
        };
        packet.datagram(self.claims.request())
    }

    /// Request `sequence` left within `sent`, perhaps with stamps. Later calls add what was missing.
    pub(crate) fn sent(
        &mut self,
        sequence: u32,
        sent: RawSpan,
        kernel: Option<RealTime>,
        hardware: Option<HardwareStamp>,
    ) {
        if let Some(request) = self.pending.iter_mut().find(|request| request.sequence == sequence) {
            let first = request.sent.unwrap_or(sent);
            request.sent = Some(RawSpan { early: first.early, late: first.late.max(sent.late) });
            request.kernel = request.kernel.or(kernel);
            request.hardware = request.hardware.or(hardware);
        }
    }

    /// Request `sequence` never left.
    pub(crate) fn unsent(&mut self, sequence: u32) {
        self.pending.retain(|request| request.sequence != sequence);
    }

    /// A datagram from the server's address.
    pub(crate) fn received(&mut self, received: &Received<'_>, context: &Context<'_>) -> Outcome {
        let (packet, extensions) = match ntp::parse(received.data) {
            Ok(parsed) => parsed,
            Err(_) => return Outcome::Ignored(Discard::Malformed),
        };
        if packet.mode != Mode::Server {
            return Outcome::Ignored(Discard::NotAnAnswer);
        }
        let Some((request, is_interleaved)) = self.take_request(&packet) else {
            return Outcome::Ignored(Discard::WrongOrigin);
        };
        if packet.stratum == 0 && packet.leap == Leap::Unsynchronised && packet.reference_id != [0; 4] {
            return Outcome::Kiss(packet.reference_id);
        }
        match self.answer(&request, is_interleaved, &packet, &extensions, received, context) {
            Ok(answer) => Outcome::Answer(answer),
            Err(discard) => Outcome::Useless(discard),
        }
    }

    /// The request whose cookie is the packet's origin, and whether the answer is interleaved. It is answered now.
    fn take_request(&mut self, packet: &Packet) -> Option<(Request, bool)> {
        let origin = packet.origin;
        if origin == NtpTimestamp::ZERO {
            return None;
        }
        let index = self.pending.iter().position(|request| {
            request.sent.is_some()
                && (request.transmit_cookie == origin
                    || (request.names != NtpTimestamp::ZERO && request.receive_cookie == origin))
        })?;
        let request = self.pending.remove(index)?;
        Some((request, request.transmit_cookie != origin))
    }

    fn answer(
        &mut self,
        request: &Request,
        is_interleaved: bool,
        packet: &Packet,
        extensions: &Extensions<'_>,
        received: &Received<'_>,
        context: &Context<'_>,
    ) -> Result<Answer, Discard> {
        let named = self.take_named(request.names);
        if packet.leap == Leap::Unsynchronised || packet.stratum == 0 || packet.stratum > 15 {
            return Err(Discard::Unsynchronised);
        }
        if packet.receive == NtpTimestamp::ZERO || packet.transmit == NtpTimestamp::ZERO {
            return Err(Discard::BadStamps);
        }
        let is_ambiguous = |t: &NtpTimestamp| self.smear.is_ambiguous(t.to_utc_near(context.pivot).0, context.leap);
        if [packet.receive, packet.transmit].iter().any(is_ambiguous) {
            return Err(Discard::NearLeap);
        }
        let claim_ns = self.claim(packet, extensions);
        if claim_ns > self.max_distance_ns {
            return Err(Discard::TooDistant);
        }
        let (smear, claim_ns) = (self.smear, self.smear.claim_ns(claim_ns));
        let told = |stamp| told(stamp, claim_ns, smear, context);
        let (t2, transmit) = (told(packet.receive), told(packet.transmit));
        let (sent, arrived) = self.stamps(request, received, context);
        let out = End { ours: sent, told: t2 };
        let previous = if is_interleaved { previous_exchange(named, transmit, t2)? } else { None };
        if !is_interleaved && is_before(transmit, t2) {
            return Err(Discard::BadStamps);
        }
        // Of an interleaved exchange's t3 we know so far only that it is not before t2.
        let back = End { ours: arrived, told: if is_interleaved { t2 } else { transmit } };
        if self.unstamped.len() == MAX_PENDING {
            self.unstamped.pop_front();
        }
        self.unstamped.push_back(Unstamped {
            receive: packet.receive,
            out,
            received: arrived,
            pair: request.pair,
            was_complete: !is_interleaved,
        });
        Ok(Answer { out, back, previous, is_complete: !is_interleaved, pair: request.pair, packet: *packet })
    }

    /// The exchange that a request named by the server's receive stamp.
    fn take_named(&mut self, receive: NtpTimestamp) -> Option<Unstamped> {
        let index = self.unstamped.iter().position(|exchange| exchange.receive == receive)?;
        self.unstamped.remove(index)
    }

    /// Our stamps of both ends, in raw time.
    fn stamps(&mut self, request: &Request, received: &Received<'_>, context: &Context<'_>) -> (Stamps, Stamps) {
        let sent = request.sent.unwrap_or(RawSpan { early: received.user_after, late: received.user_after });
        // A request cannot have left after its answer arrived, nor an answer arrived before its request left.
        let sent = RawSpan { early: sent.early, late: sent.late.min(received.user_after).max(sent.early) };
        let arrived = RawSpan { early: sent.early, late: received.user_after.max(sent.early) };
        self.missing_stamps.0 += u64::from(request.kernel.is_none() && request.hardware.is_none());
        self.missing_stamps.1 += u64::from(received.kernel.is_none() && received.hardware.is_none());
        let left = context.clocks.sent(sent, request.kernel, request.hardware);
        let came = context.clocks.answered(arrived, received.kernel, received.hardware);
        self.contradicted_stamps +=
            [left, came].iter().map(|Placed { contradicted, .. }| u64::from(*contradicted)).sum::<u64>();
        (left.stamps, came.stamps)
    }

    /// E (BOUND §2): what the server says of its way to true time + 2^(precision + 1) + floor.
    fn claim(&self, packet: &Packet, extensions: &Extensions<'_>) -> i64 {
        let precision_ns = power_of_two_ns_up(packet.precision.saturating_add(1));
        let root_ns = self.claims.root_ns(packet, extensions);
        root_ns.saturating_add(precision_ns).saturating_add(self.claim_floor_ns)
    }
}

/// The previous exchange, now with the server's own stamp of its answer. An answer whose stamp does not fit is a lie
/// or a mix-up: nothing of it is used.
fn previous_exchange(named: Option<Unstamped>, transmit: Told, t2: Told) -> Result<Option<Exchanged>, Discard> {
    let Some(last) = named else { return Ok(None) };
    if is_before(transmit, last.out.told) || is_before(t2, transmit) {
        return Err(Discard::BadStamps);
    }
    let claim_ns = transmit.claim_ns.max(last.out.told.claim_ns);
    let back = End { ours: last.received, told: Told { claim_ns, ..transmit } };
    Ok(Some(Exchanged { out: last.out, back, pair: last.pair, is_new: !last.was_complete }))
}

/// Is `a` before `b` by more than the noise of a server's stamps?
fn is_before(a: Told, b: Told) -> bool {
    a.ceil.plus_ns(STAMP_NOISE_NS) < b.floor
}

fn told(stamp: NtpTimestamp, claim_ns: i64, smear: Smear, context: &Context<'_>) -> Told {
    let (floor, ceil) = stamp.to_utc_near(context.pivot);
    Told { floor: smear.to_tai(floor, context.leap).0, ceil: smear.to_tai(ceil, context.leap).1, claim_ns }
}

fn cookie(rng: &mut impl RngCore) -> NtpTimestamp {
    NtpTimestamp(rng.next_u64().max(1))
}

/// 2^exponent s in ns, rounded up; saturates at an hour.
fn power_of_two_ns_up(exponent: i8) -> i64 {
    match exponent {
        12.. => 3600 * NS_PER_S,
        0..12 => NS_PER_S << exponent,
        -40..0 => (NS_PER_S >> -i32::from(exponent)).saturating_add(1),
        _ => 1,
    }
}

/// The pivot of the NTP era: timestamps are of 2001 to 2137, whatever CLOCK_REALTIME says. A real-time clock without
/// power shows 1970 as easily as 2099.
pub(crate) const ERA_PIVOT: UtcTime = {
    const YEAR_2001_UNIX_S: i64 = 978_307_200;
    UtcTime::from_ns((YEAR_2001_UNIX_S + (1 << 31)) * NS_PER_S)
};

/// The middle of what the server told.
pub(crate) fn middle_told(told: Told) -> TaiTime {
    told.floor.plus_ns(told.ceil.ns_since(told.floor) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stratum 1 server says whose clock is perfect, in the header and in `field`.
    fn claim_of_perfect_server(claims: ClaimFormat, floor_ns: i64, field: Option<ClaimField>) -> i64 {
        let packet = Packet {
            leap: Leap::None,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 0,
            precision: -25,
            root_delay: ShortTime(0),
            root_dispersion: ShortTime(0),
            reference_id: [127, 127, 1, 1],
            reference: NtpTimestamp::ZERO,
            origin: NtpTimestamp::ZERO,
            receive: NtpTimestamp(1),
            transmit: NtpTimestamp(1),
        };
        let answer = packet.datagram(field);
        let (packet, extensions) = ntp::parse(answer.as_slice()).expect("our own");
        Client::new(true, claims, floor_ns, NS_PER_S).claim(&packet, &extensions)
    }

    #[test]
    fn a_perfect_chrony_server_claims_48_microseconds() {
        // BOUND §2: two short-format lsb, precision and the floor of software stamps.
        let claim = claim_of_perfect_server(ClaimFormat::Header, 25_000, None);
        assert!((47_900..=48_000).contains(&claim), "{claim}");
    }

    #[test]
    fn a_finer_claim_counts_where_it_was_asked_for_and_answered() {
        let fine = |delay, dispersion| FineRoot { delay: FineTime(delay), dispersion: FineTime(dispersion) }.write();
        let exact = ExactClaim { half_width_ns: 1_000 }.write();
        let precision_ns = 60;
        let of = |claims, field| claim_of_perfect_server(claims, 0, field) - precision_ns;
        let header_ns = of(ClaimFormat::Header, None);
        assert!(header_ns > 22_800, "{header_ns}");
        // (delay + 4)/2 + dispersion + 4, each rounded up: of 0 and 0, of 1,002.1 and 502.9 ns, of all that is too much.
        assert_eq!(of(ClaimFormat::Fine, Some(fine(0, 0))), 6);
        assert_eq!(of(ClaimFormat::Fine, Some(fine(269, 135))), 504 + 503 + 4);
        assert_eq!(of(ClaimFormat::Exact, Some(exact)), 1_000);
        assert_eq!(claim_of_perfect_server(ClaimFormat::Fine, 0, Some(fine(u32::MAX, 0))), i64::MAX / 2 + 64);
        assert_eq!(claim_of_perfect_server(ClaimFormat::Fine, 0, Some(fine(0, u32::MAX))), i64::MAX);
        for (claims, field) in [
            (ClaimFormat::Header, Some(exact)),
            (ClaimFormat::Header, Some(fine(0, 0))),
            (ClaimFormat::Fine, None),
            (ClaimFormat::Fine, Some(exact)),
            (ClaimFormat::Fine, Some(FineRoot::REQUEST.write())),
            (ClaimFormat::Exact, None),
            (ClaimFormat::Exact, Some(fine(0, 0))),
            (ClaimFormat::Exact, Some(ExactClaim::REQUEST.write())),
        ] {
            assert_eq!(of(claims, field), header_ns, "{claims:?} {field:?}");
        }
    }

    #[test]
    fn a_server_that_randomises_below_its_precision_tells_no_lie() {
        let at = |ns: i64| Told { floor: TaiTime::from_ns(ns), ceil: TaiTime::from_ns(ns), claim_ns: 0 };
        assert!(!is_before(at(0), at(STAMP_NOISE_NS)));
        assert!(is_before(at(0), at(STAMP_NOISE_NS + 1)));
    }

    #[test]
    fn precision_rounds_up() {
        assert_eq!(power_of_two_ns_up(0), NS_PER_S);
        assert_eq!(power_of_two_ns_up(-1), 500_000_001);
        assert_eq!(power_of_two_ns_up(-128), 1);
        assert_eq!(power_of_two_ns_up(127), 3600 * NS_PER_S);
    }
}
