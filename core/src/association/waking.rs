//! Is it worth asking in pairs? How much sooner the second of a pair is there and back than the first.
//!
//! The first request after a pause wakes processors on its way out, and its answer finds them awake on the way back: the
//! path is longer one way, by microseconds that no stamp shows. The second of a pair, sent with the first or upon its
//! answer, finds everybody awake both ways. But pairs come half as often, so where nobody sleeps they only cost: the clock
//! has twice as long to wander. What a pair saves is read from its own two round trips, and a few pairs decide.

use std::collections::VecDeque;

use crate::time::RawTime;

/// Pairs remembered, and how many of them have to agree.
const PAIRS: usize = 16;
const AGREEING: usize = 12;
/// Before so many pairs nothing is decided.
const ENOUGH: usize = 8;
/// What the second has to save, ns.
const WORTH_NS: i64 = 500;
/// Where pairs are not worth it, one poll in so many is a pair all the same, to see whether that is still so.
const LOOKS_EVERY: u32 = 64;

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waking {
    /// The latest exchange of a pair: the pair, when it left, its round trip, ns.
    latest: Option<(u32, RawTime, i64)>,
    /// What the second of each pair saved, ns.
    saved: VecDeque<i64>,
}

impl Waking {
    /// An exchange of a pair: when its request left, and its round trip without the server's part, ns.
    pub(crate) fn exchanged(&mut self, pair: u32, left: RawTime, round_trip_ns: i64) {
        match self.latest {
            // Told once more.
            Some(latest) if latest == (pair, left, round_trip_ns) => {}
            Some((latest, before, first_ns)) if latest == pair && before <= left => {
                if self.saved.len() == PAIRS {
                    self.saved.pop_front();
                }
                self.saved.push_back(first_ns.saturating_sub(round_trip_ns));
                self.latest = None;
            }
            _ => self.latest = Some((pair, left, round_trip_ns)),
        }
    }

    /// Is the `polls`-th poll to be a pair?
    pub(crate) fn wants_pair(&self, polls: u32) -> bool {
        let worth = self.saved.iter().filter(|&&ns| ns > WORTH_NS).count();
        self.saved.len() < ENOUGH || worth * PAIRS >= AGREEING * self.saved.len() || polls.is_multiple_of(LOOKS_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pairs: u32, saved_ns: impl Fn(u32) -> i64) -> Waking {
        let mut waking = Waking::default();
        for pair in 0..pairs {
            let left = i64::from(pair) * 2_000_000_000;
            waking.exchanged(pair, RawTime::from_ns(left), 12_000);
            // One that was told twice, and a lone one.
            waking.exchanged(pair, RawTime::from_ns(left), 12_000);
            waking.exchanged(pair, RawTime::from_ns(left + 30_000), 12_000 - saved_ns(pair));
            waking.exchanged(1_000 + pair, RawTime::from_ns(left + 900_000), 90_000);
        }
        waking
    }

    #[test]
    fn pairs_are_tried_and_kept_where_the_second_is_faster() {
        assert!(after(7, |_| 0).wants_pair(1), "nothing is known yet");
        assert!(after(40, |_| 3_000).wants_pair(1));
        // A queue in every fourth.
        assert!(after(40, |pair| if pair % 4 == 0 { -50_000 } else { 3_000 }).wants_pair(1));
        for none in [after(40, |_| 0), after(40, |_| 400), after(40, |pair| if pair % 2 == 0 { -9_000 } else { 9_000 })]
        {
            assert!(!none.wants_pair(1) && none.wants_pair(LOOKS_EVERY), "{none:?}");
        }
    }
}
