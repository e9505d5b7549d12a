//! The network between lease processes: it delays, loses, repeats, lets stragglers overtake, and is cut in two.

use crate::rng::Rng;
use crate::world::{MS, NS_PER_S, US};

/// Share of messages that are lost, repeated, or straggle.
const LOST: f64 = 0.02;
const REPEATED: f64 = 0.03;
const STRAGGLES: f64 = 0.02;
/// A straggler is late by up to this, ns.
const LATE_NS: i64 = 4 * NS_PER_S;

/// Nothing passes from one side to the other for a while.
#[derive(Clone, Copy, Debug)]
struct Partition {
    from: i64,
    until: i64,
    /// Bit n: node n is on the far side.
    far: u32,
    /// Messages to the far side pass.
    is_half: bool,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Net {
    rng: Rng,
    mean_ns: i64,
    partitions: Vec<Partition>,
}

impl Net {
    /// A network between `nodes` from true time `start` on.
    pub(super) fn new(mut rng: Rng, nodes: usize, start: i64, duration_ns: i64) -> Self {
        let mean_ns = [50 * US, 500 * US, 5 * MS][rng.below(3)];
        let mut partitions = Vec::new();
        let mut from = start;
        while from < start + duration_ns {
            from += (rng.exponential() * 8.0 * NS_PER_S as f64) as i64;
            let until = from + rng.between(10 * MS, 4 * NS_PER_S);
            let far = rng.below((1 << nodes) - 2) as u32 + 1;
            partitions.push(Partition { from, until, far, is_half: rng.chance(0.3) });
            from = until;
        }
        Net { rng, mean_ns, partitions }
    }

    /// When a message that leaves at true time `at` arrives: never, once, or twice.
    pub(super) fn carry(&mut self, at: i64, from: usize, to: usize) -> impl Iterator<Item = i64> {
        let is_cut = self.partitions.iter().any(|cut| {
            let [sends, receives] = [from, to].map(|node| cut.far >> node & 1 == 1);
            (cut.from..cut.until).contains(&at) && sends != receives && !(cut.is_half && receives)
        });
        let is_lost = is_cut || self.rng.chance(LOST);
        let first = (!is_lost).then(|| at + self.delay_ns());
        let second = (!is_lost && self.rng.chance(REPEATED)).then(|| at + self.delay_ns());
        first.into_iter().chain(second)
    }

    fn delay_ns(&mut self) -> i64 {
        let usual_ns = US + (self.rng.exponential() * self.mean_ns as f64) as i64;
        if self.rng.chance(STRAGGLES) { usual_ns + self.rng.between(0, LATE_NS) } else { usual_ns }
    }
}
