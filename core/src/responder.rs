//! The NTPv4 responder: tells a client what this host's bound says, never more (RFC 5905, RFC 9769).
//!
//! It serves θ's midpoint; the root dispersion is the half-width, rounded up, so a client that adds it stays right. The
//! receive timestamp is the *late* end of the raw interval of our receive stamp and the transmit timestamp the early end
//! of our transmit stamp: both only make a client's constraints looser. In interleaved mode a client gets the kernel's
//! stamp of the previous answer; an answer without a stamp falls back to basic mode. A stamp costs as much as an answer,
//! so it is asked for only where the request shows that its client may want it: one that uses interleaved mode sends
//! receive and transmit fields that differ, and a client of ours does so from its first request on. One that shows it
//! only by naming our last answer gets basic mode once more.

mod answers;
mod throttle;

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, VecDeque};

use truebound_client::bound::Bound;

use crate::bound::edges_before;
use crate::correlation::{Correlation, Mapped};
use crate::io::{Datagram, Received, Transmit, TxToken};
use crate::leap::LeapTable;
use crate::settings::{Prefix, ServerSettings};
use crate::time::{NS_PER_S, RawSpan, RawTime, RealTime, TaiTime};
use crate::wire::claim::{ClaimField, EXACT_CLAIM, ExactClaim, FINE_ROOT, FineRoot, FineTime};
use crate::wire::ntp::{self, Extensions, Leap, Mode, NtpTimestamp, Packet, Rounding, ShortTime};
pub(crate) use answers::TOKEN_BIT;
use answers::{Answers, KEPT};
use throttle::{Throttle, Verdict};

/// Own addresses remembered.
const MAX_OWN_ADDRESSES: usize = 64;
/// What we claim of our readings, log2 s: 30 ns.
const PRECISION: i8 = -25;
/// Where the receive timestamp lies in an answer: unique, so it names the answer in the error queue.
const COOKIE_AT: usize = 32;

/// What the responder tells about the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served<'a> {
    /// The published bound, if a client may rely on it.
    pub(crate) bound: Option<&'a Bound>,
    /// Our stratum.
    pub(crate) stratum: u8,
    /// Whom we follow.
    pub(crate) reference_id: [u8; 4],
    pub(crate) correlation: &'a Correlation,
    pub(crate) leap: &'a LeapTable,
}

/// Counters for status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Requests answered.
    pub answered: u64,
    /// Of these, in interleaved mode.
    pub interleaved: u64,
    /// Requests from addresses that are not allowed.
    pub denied: u64,
    /// Requests of clients that ask too often.
    pub limited: u64,
    /// Of these, told so.
    pub kissed: u64,
    /// Datagrams that are no requests.
    pub malformed: u64,
}

/// A kernel stamp of an answer, until a reading of both clocks follows it.
#[derive(Clone, Copy, Debug)]
struct Unbracketed {
    token: TxToken,
    user: RawSpan,
    kernel: RealTime,
}

/// What every answer says that is composed at one instant from one bound.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now: RawTime,
    bound: Bound,
    /// Our time then, and how wrong it may be, ns.
    told: Option<(NtpTimestamp, i64)>,
    leap: Leap,
}

/// The responder's state.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    settings: ServerSettings,
    /// e: how early or late our kernel stamps may be (BOUND §2).
    stamp_error_ns: i64,
    throttle: Option<Throttle>,
    answers: Answers,
    unbracketed: VecDeque<Unbracketed>,
    /// Requests come in batches, which are answered at one instant.
    moment: Option<Moment>,
    /// Addresses of ours that were asked: a server that follows one of them echoes us.
    pub(crate) asked_at: BTreeSet<IpAddr>,
    pub(crate) counters: ServerCounters,
}

impl Responder {
    /// Equal seeds give equal answers.
    pub(crate) fn new(settings: ServerSettings, stamp_error_ns: i64, seed: u64) -> Self {
        Responder {
            throttle: settings.rate_limit.map(|limit| Throttle::new(limit, seed)),
            settings,
            stamp_error_ns,
            answers: Answers::new(),
            unbracketed: VecDeque::new(),
            moment: None,
            asked_at: BTreeSet::new(),
            counters: ServerCounters::default(),
        }
    }

    /// Answers a request, or not.
    pub(crate) fn received(&mut self, now: RawTime, received: &Received<'_>, served: &Served<'_>) -> Option<Transmit> {
        let client = received.from.ip();
        if !is_allowed(&self.settings, client) {
            self.counters.denied += 1;
            return None;
        }
        let request = ntp::parse(received.data).ok().filter(|(packet, _)| packet.mode == Mode::Client);
        let Some((request, extensions)) = request else {
            self.counters.malformed += 1;
            return None;
        };
        match self.throttle.as_mut().map_or(Verdict::Answer, |throttle| throttle.asked(now, client)) {
            Verdict::Answer => {}
            verdict => return self.refused(received, &request, verdict),
        }
        if let Some(to) = received.to.filter(|_| self.asked_at.len() < MAX_OWN_ADDRESSES) {
            self.asked_at.insert(to.to_canonical());
        }
        let arrived = self.arrival(received, served.correlation);
        let (packet, claim_ns) = self.answer(now, &request, client, arrived, served);
        self.counters.answered += 1;
        // Without a name there is nothing to ask for later.
        let wants_stamp = packet.receive != NtpTimestamp::ZERO && shows_interest_in_stamps(&request);
        let token = if wants_stamp { self.answers.keep(client, packet.receive) } else { self.answers.unkept() };
        let data = packet.datagram(claim_ns.and_then(|claim_ns| asked_claim(&extensions, claim_ns)));
        Some(reply(received, data, token, wants_stamp))
    }

    /// Tells a client that it asks too often, or does not even do that. As others do, the kiss repeats the request's
    /// transmit timestamp in every place: clients refuse packets without timestamps, and these say nothing.
    fn refused(&mut self, received: &Received<'_>, request: &Packet, verdict: Verdict) -> Option<Transmit> {
        self.counters.limited += 1;
        let limit = self.settings.rate_limit.filter(|_| verdict == Verdict::Kiss)?;
        self.counters.kissed += 1;
        let kiss = Packet {
            poll: request.poll.max(poll_of(limit.min_interval_ns)),
            reference_id: *b"RATE",
            receive: request.transmit,
            transmit: request.transmit,
            ..unsynchronised(request)
        };
        Some(reply(received, kiss.datagram(None), self.answers.unkept(), false))
    }

    /// The answer with this token left. Without a kernel stamp there is nothing better to tell than basic mode does.
    pub(crate) fn sent(&mut self, token: TxToken, user: RawSpan, kernel: Option<RealTime>) {
        let Some(kernel) = kernel else { return };
        if self.unbracketed.len() == KEPT {
            self.unbracketed.pop_front();
        }
        self.unbracketed.push_back(Unbracketed { token, user, kernel });
    }

    /// Both clocks were read: stamps taken before that can be mapped to raw time now.
    pub(crate) fn bracketed(&mut self, correlation: &Correlation) {
        for stamp in self.unbracketed.drain(..) {
            if let Mapped::Span(span) = correlation.map(stamp.kernel, stamp.user) {
                self.answers.left(stamp.token, span.widened(self.stamp_error_ns, stamp.user));
            }
        }
    }

    /// From now on kernel stamps may err by `e` ns, and so they may have before.
    pub(crate) fn stamps_may_err(&mut self, e: i64) {
        self.stamp_error_ns = e;
        self.forget();
    }

    /// Not before the request really arrived, in raw time.
    ///
    /// A stamp from before the last reading is not used: a request that waited has one, but so has one that came after
    /// the clock was set back, and while the clock's rate is unknown no reading tells the two apart.
    fn arrival(&self, received: &Received<'_>, correlation: &Correlation) -> RawTime {
        let late = received.user_after;
        let user = RawSpan { early: correlation.last_before(late).map_or(late, |last| last.after), late };
        let mapped = received.kernel.and_then(|stamp| correlation.map(stamp, user).span());
        mapped.map_or(late, |span| span.widened(self.stamp_error_ns, user).late)
    }

    /// Forgets when answers left: raw time is another clock now.
    pub(crate) fn forget(&mut self) {
        self.answers.forget();
        self.unbracketed.clear();
        self.moment = None;
    }

    fn answer(
        &mut self,
        now: RawTime,
        request: &Packet,
        client: IpAddr,
        arrived: RawTime,
        served: &Served<'_>,
    ) -> (Packet, Option<i64>) {
        let mut packet = unsynchronised(request);
        // Nothing arrives after it is answered; a caller who says so gets no answer that tells of the future.
        let told_at = self.moment(now.max(arrived), served).and_then(|moment| Some((moment.leap, moment.told?)));
        let Some((leap, (t3, claim3))) = told_at else { return (packet, None) };
        let Some((t2, claim2)) = told(arrived, served, Rounding::Up) else { return (packet, None) };
        let mut claim_ns = claim2.max(claim3);
        packet.leap = leap;
        packet.stratum = served.stratum;
        packet.reference_id = served.reference_id;
        packet.reference = t3;
        packet.receive = self.answers.name(t2);
        packet.transmit = t3;
        if let Some(left) = self.when_left(request, client).and_then(|span| told(span.early, served, Rounding::Down)) {
            packet.origin = request.receive;
            packet.transmit = left.0;
            claim_ns = claim_ns.max(left.1);
            self.counters.interleaved += 1;
        }
        packet.root_dispersion = ShortTime::from_ns_up(claim_ns);
        (packet, Some(claim_ns))
    }

    /// What is told at `now`, which the answers of one batch have in common.
    fn moment(&mut self, now: RawTime, served: &Served<'_>) -> Option<Moment> {
        let bound = *served.bound?;
        if let Some(moment) = self.moment.filter(|moment| moment.now == now && moment.bound == bound) {
            return Some(moment);
        }
        let moment = Moment { now, bound, told: told(now, served, Rounding::Down), leap: announced_leap(now, served) };
        self.moment = Some(moment);
        Some(moment)
    }

    /// When the answer left that an interleaved request names.
    fn when_left(&self, request: &Packet, client: IpAddr) -> Option<RawSpan> {
        let asks = request.origin != NtpTimestamp::ZERO && request.receive != request.transmit;
        if asks { self.answers.when_left(client, request.origin) } else { None }
    }
}

/// May the client want to know when its answer leaves? In interleaved mode the receive and transmit fields of a request
/// differ (RFC 9769); a client that never uses it has nothing to say in the receive and origin fields.
fn shows_interest_in_stamps(request: &Packet) -> bool {
    let is_blank = request.origin == NtpTimestamp::ZERO && request.receive == NtpTimestamp::ZERO;
    request.receive != request.transmit && !is_blank
}

fn reply(received: &Received<'_>, data: Datagram, token: TxToken, wants_stamp: bool) -> Transmit {
    let (socket, to, from) = (received.socket, received.from, received.to);
    Transmit { socket, to, from, data, token, cookie_at: COOKIE_AT, wants_stamp }
}

/// The poll exponent of an interval, log2 s, rounded up.
fn poll_of(interval_ns: i64) -> i8 {
    let fits = |exponent: &i8| NS_PER_S.saturating_mul(1 << exponent.clamp(&0, &30)) >= interval_ns;
    (0..=17).find(fits).unwrap_or(17)
}

/// The longest matching prefix decides; a tie is a denial, and so is no match.
fn is_allowed(settings: &ServerSettings, client: IpAddr) -> bool {
    let longest =
        |list: &[Prefix]| list.iter().filter(|prefix| prefix.contains(client)).map(|prefix| prefix.bits).max();
    match (longest(&settings.allow), longest(&settings.deny)) {
        (Some(allow), Some(deny)) => allow > deny,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Our time at raw `at` and how wrong it may be, ns.
fn told(at: RawTime, served: &Served<'_>, rounding: Rounding) -> Option<(NtpTimestamp, i64)> {
    let bound = served.bound?;
    // Stamps are often older than the newest publication.
    let edges = match at.as_ns() < bound.t_ref_ns {
        true => edges_before(bound, at),
        false => bound.edges_at(at.as_ns()).ok()?,
    };
    let width = edges.hi_ns.saturating_sub(edges.lo_ns);
    let middle = edges.lo_ns.saturating_add(width / 2);
    let tai = TaiTime::from_ns(at.as_ns().saturating_add(middle));
    let around = served.leap.around(tai);
    // Past what the table knows, UTC is in doubt by a second for each leap that was possible (BOUND §6).
    let doubt_s = around.doubt_s().filter(|_| tai.as_ns() >= around.change_at_ns).unwrap_or(0);
    let doubt_ns = i64::from(doubt_s).saturating_mul(NS_PER_S);
    let utc = served.leap.to_utc(tai);
    Some((NtpTimestamp::from_utc(utc, rounding), (width / 2 + 2).saturating_add(doubt_ns)))
}

/// The leap indicator: a leap second ends the present day (UTC).
fn announced_leap(now: RawTime, served: &Served<'_>) -> Leap {
    let Some(edges) = served.bound.and_then(|bound| bound.edges_at(now.as_ns()).ok()) else { return Leap::None };
    let tai_ns = now.as_ns().saturating_add(edges.lo_ns);
    let around = served.leap.around(TaiTime::from_ns(tai_ns));
    let is_today = around.change_at_ns.saturating_sub(tai_ns) <= 86_400 * NS_PER_S;
    match around.after_s.checked_sub(around.offset_s) {
        Some(1) if is_today => Leap::Add,
        Some(-1) if is_today => Leap::Delete,
        _ => Leap::None,
    }
}

fn unsynchronised(request: &Packet) -> Packet {
    Packet {
        leap: Leap::Unsynchronised,
        version: request.version,
        mode: Mode::Server,
        stratum: 0,
        poll: request.poll,
        precision: PRECISION,
        root_delay: ShortTime(0),
        root_dispersion: ShortTime(0),
        reference_id: [0; 4],
        reference: NtpTimestamp::ZERO,
        origin: request.transmit,
        receive: NtpTimestamp::ZERO,
        transmit: NtpTimestamp::ZERO,
    }
}

/// The claim, ns, in the finer format that the request asks for, if any.
fn asked_claim(extensions: &Extensions<'_>, claim_ns: i64) -> Option<ClaimField> {
    if extensions.find(EXACT_CLAIM).and_then(ExactClaim::parse).is_some() {
        return Some(ExactClaim { half_width_ns: u64::try_from(claim_ns).ok()? }.write());
    }
    extensions.find(FINE_ROOT).and_then(FineRoot::parse)?;
    Some(FineRoot { delay: FineTime(0), dispersion: FineTime::from_ns_up(claim_ns) }.write())
}

/// The reference id of a server that follows `upstream` (RFC 5905 §7.3; an IPv6 address is folded, not hashed).
pub(crate) fn reference_id_of(upstream: SocketAddr) -> [u8; 4] {
    match upstream.ip().to_canonical() {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let mut folded = [0; 4];
            address.octets().iter().enumerate().for_each(|(i, byte)| folded[i % 4] ^= byte);
            folded
        }
    }
}

#[cfg(test)]
mod tests;
