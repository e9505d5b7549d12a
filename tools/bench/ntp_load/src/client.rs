//! One client: a request under way, and what its answer must say to be honest.
//!
//! Its cookies are unguessable enough for an honest server: what counts is that an answer finds back to its request.

use truebound_core::time::{RealTime, UtcTime};
use truebound_core::wire::ntp::{HEADER_BYTES, Leap, Mode, NtpTimestamp, Packet, ShortTime};

/// The low bits of a cookie tell whose it is.
pub(crate) const LANE_BITS: u64 = 0xff;
/// A receive cookie differs from its transmit cookie in this bit.
const RECEIVE_BIT: u64 = 1 << 63;
/// A request without an answer is given up after this long, ns.
const PATIENCE_NS: i64 = 200_000_000;

/// When a request left and when its answer was there.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    sent: RealTime,
    received: RealTime,
    /// The server's receive stamp, which names the answer.
    name: NtpTimestamp,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    lane: u64,
    random: u64,
    interleaved: bool,
    under_way: Option<(u64, RealTime)>,
    previous: Option<Exchange>,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is honest; interleaved or not.
    Honest {
        interleaved: bool,
    },
    /// It tells a time that cannot be, beyond its own claim by so many ns.
    Dishonest {
        by_ns: i64,
    },
    /// The server says that it does not know the time, or that we ask too often.
    Unsynchronised,
    Kiss,
    /// To none of the requests under way: it was given up, or answered before.
    Late,
}

impl Client {
    pub(crate) fn new(lane: usize, seed: u64, interleaved: bool) -> Self {
        Client { lane: lane as u64 & LANE_BITS, random: seed, interleaved, under_way: None, previous: None }
    }

    /// Waits for an answer that may still come.
    pub(crate) fn is_waiting(&self, now: RealTime) -> bool {
        self.under_way.is_some_and(|(_, sent)| now.ns_since(sent) < PATIENCE_NS)
    }

    /// The next request, which leaves after `now`. True with it: the last one was given up.
    pub(crate) fn request(&mut self, now: RealTime, bytes: &mut [u8; HEADER_BYTES]) -> bool {
        // The step of a Weyl sequence, mixed: never the same twice.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let cookie = ((mixed ^ mixed >> 27) & !(LANE_BITS | RECEIVE_BIT)) | self.lane;
        let is_lost = self.under_way.replace((cookie, now)).is_some();
        if is_lost {
            self.previous = None;
        }
        let named = self.previous.filter(|_| self.interleaved);
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
            origin: named.map_or(NtpTimestamp::ZERO, |exchange| exchange.name),
            receive: named.map_or(NtpTimestamp::ZERO, |_| NtpTimestamp(cookie | RECEIVE_BIT)),
            transmit: NtpTimestamp(cookie),
        };
        packet.write(bytes);
        is_lost
    }

    /// An answer that came before `now`.
    pub(crate) fn answered(&mut self, now: RealTime, answer: &Packet) -> Verdict {
        let is_interleaved = answer.origin.0 & RECEIVE_BIT != 0;
        let Some((_, sent)) = self.under_way.filter(|(cookie, _)| *cookie == answer.origin.0 & !RECEIVE_BIT) else {
            return Verdict::Late;
        };
        self.under_way = None;
        if answer.leap == Leap::Unsynchronised {
            self.previous = None;
            return if answer.reference_id == *b"RATE" { Verdict::Kiss } else { Verdict::Unsynchronised };
        }
        let this = Exchange { sent, received: now, name: answer.receive };
        // In interleaved mode the transmit stamp is that of the answer before.
        let left_in = if is_interleaved { self.previous } else { Some(this) };
        self.previous = Some(this);
        let Some(left_in) = left_in else { return Verdict::Dishonest { by_ns: i64::MAX } };
        let distance_ns = root_distance_ns(answer);
        let excess_ns = excess_ns(answer.receive, &this).max(excess_ns(answer.transmit, &left_in));
        match excess_ns.saturating_sub(distance_ns) {
            by_ns @ 1.. => Verdict::Dishonest { by_ns },
            _ => Verdict::Honest { interleaved: is_interleaved },
        }
    }
}

/// How far a stamp lies outside its exchange, ns.
fn excess_ns(stamp: NtpTimestamp, exchange: &Exchange) -> i64 {
    let (floor, ceil) = stamp.to_utc_near(UtcTime::from_ns(exchange.received.as_ns()));
    let before = exchange.sent.as_ns().saturating_sub(ceil.as_ns());
    let after = floor.as_ns().saturating_sub(exchange.received.as_ns());
    before.max(after).max(0)
}

/// How wrong the server may be by its own words: half its root delay, its root dispersion, and its precision (log2 s).
pub(crate) fn root_distance_ns(packet: &Packet) -> i64 {
    let precision_ns = 1_000_000_000_i64 >> packet.precision.unsigned_abs().min(30);
    packet.root_delay.to_ns_up() / 2 + packet.root_dispersion.to_ns_up() + precision_ns + 1
}

#[cfg(test)]
mod tests {
    use truebound_core::wire::ntp::Rounding;

    use super::*;

    const NOW: RealTime = RealTime::from_ns(1_700_000_000_000_000_000);

    fn at(ns: i64) -> RealTime {
        NOW.plus_ns(ns)
    }

    fn stamp(ns: i64) -> NtpTimestamp {
        NtpTimestamp::from_utc(UtcTime::from_ns(at(ns).as_ns()), Rounding::Down)
    }

    fn asked(client: &mut Client, ns: i64) -> Packet {
        let mut bytes = [0; HEADER_BYTES];
        client.request(at(ns), &mut bytes);
        truebound_core::wire::ntp::parse(&bytes).expect("well-formed").0
    }

    /// An answer that claims one unit of dispersion (15.26 µs) and 1 ns of precision.
    fn answer(origin: NtpTimestamp, receive_ns: i64, transmit_ns: i64) -> Packet {
        Packet {
            leap: Leap::None,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 0,
            precision: -30,
            root_delay: ShortTime(0),
            root_dispersion: ShortTime(1),
            reference_id: [0; 4],
            reference: NtpTimestamp::ZERO,
            origin,
            receive: stamp(receive_ns),
            transmit: stamp(transmit_ns),
        }
    }

    #[test]
    fn an_answer_is_honest_within_its_claim_and_not_beyond() {
        let honest = Verdict::Honest { interleaved: false };
        for (receive_ns, transmit_ns, is_honest) in [
            (10, 90, true),
            (-15_200, 90, true),
            (-15_300, 90, false),
            (10, 100 + 15_200, true),
            (10, 100 + 15_300, false),
        ] {
            let mut client = Client::new(3, 7, false);
            let request = asked(&mut client, 0);
            let verdict = client.answered(at(100), &answer(request.transmit, receive_ns, transmit_ns));
            assert_eq!(verdict == honest, is_honest, "{receive_ns} {transmit_ns} {verdict:?}");
        }
    }

    #[test]
    fn an_answer_counts_once_and_only_to_its_request() {
        let mut client = Client::new(3, 7, false);
        let first = asked(&mut client, 0);
        let second = asked(&mut client, 50);
        assert_eq!(client.answered(at(100), &answer(first.transmit, 10, 20)), Verdict::Late);
        let reply = answer(second.transmit, 60, 70);
        assert_eq!(client.answered(at(100), &reply), Verdict::Honest { interleaved: false });
        assert_eq!(client.answered(at(100), &reply), Verdict::Late);
    }

    #[test]
    fn an_interleaved_stamp_is_of_the_exchange_before() {
        for (transmit_ns, is_honest) in [(30, true), (40_000, false)] {
            let mut client = Client::new(3, 7, true);
            let first = asked(&mut client, 0);
            assert_eq!((first.origin, first.receive), (NtpTimestamp::ZERO, NtpTimestamp::ZERO));
            client.answered(at(100), &answer(first.transmit, 10, 20));
            let second = asked(&mut client, 40_000);
            assert_eq!(second.origin, stamp(10));
            let verdict = client.answered(at(40_100), &answer(second.receive, 40_010, transmit_ns));
            assert_eq!(verdict == Verdict::Honest { interleaved: true }, is_honest, "{transmit_ns} {verdict:?}");
        }
    }
}
