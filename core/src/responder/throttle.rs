//! How often each client may ask: a bounded table of who asked when.
//!
//! A client may ask once per interval, and `burst` times at once after a rest (RFC 5905 §7.4, RFC 8633). One number
//! per client tells it: the instant at which it would be back at rest. An IPv6 client is its /64, of which it has every
//! address. The table has sets of [`WAYS`] places; a newcomer takes the place of the one in its set that is at rest soonest.
//! One at rest already loses nothing by it. Of the others each loses only a count against it, so that a flood from more
//! addresses than there are places gets more answers, and never stops those of anybody who keeps to the rate.

use core::net::IpAddr;

use crate::settings::RateLimit;
use crate::time::RawTime;

/// Places in a set.
const WAYS: usize = 4;
/// Sets: with [`WAYS`] 4096 clients in 96 KiB.
const SETS: usize = 1 << SET_BITS;
const SET_BITS: u32 = 10;
/// Of so many requests of a client beyond the rate one is told so; the others are not answered. What it is told is no
/// longer than its request, so a flood under a stolen address reaches the address's owner eight times weaker.
const TOLD_ONE_IN: u32 = 8;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Answer,
    /// It is told that it asks too often.
    Kiss,
    /// Nothing.
    Drop,
}

/// One client.
#[derive(Clone, Copy, Debug)]
struct Client {
    key: u64,
    /// When it will be at rest: all that it was allowed is allowed again.
    rests_at: RawTime,
    /// Its requests beyond the rate.
    excess: u32,
}

/// A place that nobody has; at rest for ever.
const NOBODY: Client = Client { key: 0, rests_at: RawTime::from_ns(i64::MIN), excess: 0 };

/// See the module's page.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    limit: RateLimit,
    /// Nobody can choose addresses that meet in one set.
    seed: u64,
    clients: Vec<Client>,
}

impl Throttle {
    pub(super) fn new(limit: RateLimit, seed: u64) -> Self {
        Throttle { limit, seed, clients: vec![NOBODY; SETS * WAYS] }
    }

    /// A request of `address` at `now`.
    pub(super) fn asked(&mut self, now: RawTime, address: IpAddr) -> Verdict {
        let interval_ns = self.limit.min_interval_ns;
        let ahead_ns = interval_ns.saturating_mul(i64::from(self.limit.burst.saturating_sub(1)));
        let client = self.client(address);
        let rests_at = client.rests_at.max(now);
        if rests_at.ns_since(now) <= ahead_ns {
            client.rests_at = rests_at.plus_ns(interval_ns);
            return Verdict::Answer;
        }
        client.excess = client.excess.wrapping_add(1);
        if client.excess % TOLD_ONE_IN == 1 { Verdict::Kiss } else { Verdict::Drop }
    }

    /// Its place, or that of whom it displaces.
    fn client(&mut self, address: IpAddr) -> &mut Client {
        let key = key_of(address);
        let first = self.set(key) * WAYS;
        let set = &mut self.clients[first..first + WAYS];
        let is_its_own = |client: &Client| client.key == key && client.rests_at != NOBODY.rests_at;
        let way = set.iter().position(is_its_own).unwrap_or_else(|| {
            let soonest = (0..WAYS).min_by_key(|&way| set[way].rests_at).unwrap_or(0);
            set[soonest] = Client { key, ..NOBODY };
            soonest
        });
        &mut set[way]
    }

    fn set(&self, key: u64) -> usize {
        // Two rounds of multiplication and folding: every bit of key and seed reaches the high ones.
        let mixed = (key ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32 ^ self.seed.rotate_left(32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> (64 - SET_BITS)) as usize
    }
}

/// An IPv4 address, or the upper half of an IPv6 one. (They meet in 0:ffff::/32, which belongs to nobody.)
fn key_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => 0xffff << 32 | u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const MS: i64 = 1_000_000;

    fn throttle(burst: u32) -> Throttle {
        Throttle::new(RateLimit { min_interval_ns: 10 * MS, burst }, 42)
    }

    fn at(ns: i64) -> RawTime {
        RawTime::from_ns(ns)
    }

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn the_interval_is_exact_on_both_sides() {
        let mut throttle = throttle(1);
        assert_eq!(throttle.asked(at(0), v4(1)), Verdict::Answer);
        assert_ne!(throttle.asked(at(10 * MS - 1), v4(1)), Verdict::Answer);
        assert_eq!(throttle.asked(at(10 * MS), v4(1)), Verdict::Answer, "a refusal costs nothing");
        assert_eq!(throttle.asked(at(10 * MS), v4(2)), Verdict::Answer, "each for itself");
    }

    #[test]
    fn a_burst_is_allowed_after_a_rest_and_only_then() {
        let mut throttle = throttle(4);
        let allowed = |throttle: &mut Throttle, now: i64| {
            (0..20).filter(|_| throttle.asked(at(now), v4(1)) == Verdict::Answer).count()
        };
        assert_eq!(allowed(&mut throttle, 0), 4);
        assert_eq!(allowed(&mut throttle, 10 * MS - 1), 0);
        assert_eq!(allowed(&mut throttle, 10 * MS), 1);
        assert_eq!(allowed(&mut throttle, 30 * MS), 2);
        assert_eq!(allowed(&mut throttle, 69 * MS), 3, "one is not earned back yet");
        assert_eq!(allowed(&mut throttle, 200 * MS), 4);
    }

    #[test]
    fn one_in_eight_is_told_and_the_others_are_dropped() {
        let mut throttle = throttle(1);
        throttle.asked(at(0), v4(1));
        let verdicts: Vec<Verdict> = (0..80).map(|n| throttle.asked(at(n), v4(1))).collect();
        assert_eq!(verdicts[0], Verdict::Kiss, "the first to know at once");
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Kiss).count(), 10);
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Drop).count(), 70);
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_address_is_ipv4() {
        let mut throttle = throttle(1);
        let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().expect("an address"));
        assert_eq!(throttle.asked(at(0), v6("2001:db8::1")), Verdict::Answer);
        assert_ne!(throttle.asked(at(0), v6("2001:db8::ffff:1")), Verdict::Answer);
        assert_eq!(throttle.asked(at(0), v6("2001:db8:0:1::1")), Verdict::Answer);
        assert_eq!(throttle.asked(at(0), v4(1)), Verdict::Answer);
        assert_ne!(throttle.asked(at(0), v6("::ffff:10.0.0.1")), Verdict::Answer);
    }

    #[test]
    fn the_table_is_bounded_and_a_flood_never_stops_who_keeps_to_the_rate() {
        let mut throttle = throttle(2);
        let size = throttle.clients.len();
        for n in 0..100_000 {
            let now = at(i64::from(n) * 10 * MS / 1_000);
            throttle.asked(now, v4(1_000 + n));
            // One of them asks every 10 ms.
            assert!(n % 1_000 != 0 || throttle.asked(now, v4(1)) == Verdict::Answer, "{n}");
        }
        assert_eq!((throttle.clients.len(), throttle.clients.capacity()), (size, size));
    }

    #[test]
    fn whoever_is_not_at_rest_keeps_its_place_against_those_who_are() {
        let mut throttle = throttle(3);
        // More than there are places. Each is at rest 10 ms later, this one 30 ms later.
        (0..3).for_each(|_| assert_eq!(throttle.asked(at(0), v4(1)), Verdict::Answer));
        (0..50_000).for_each(|n| assert_eq!(throttle.asked(at(1), v4(1_000 + n)), Verdict::Answer));
        assert_ne!(throttle.asked(at(2), v4(1)), Verdict::Answer);
    }
}
