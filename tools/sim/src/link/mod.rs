//! One direction of a network path: when a packet that departs now arrives, if it does, and how often.
//!
//! A link is a fixed delay, a queue (`queue`), perhaps a standing queue on top, and accidents: loss, duplicates and
//! stragglers. Nobody overtakes in it except stragglers, so packets sent close together arrive at least a packet's
//! length apart. Asymmetry is two links with different specifications; a change of route is [`Link::set`].

mod chance;
pub mod networks;
mod queue;
mod spec;
mod trace;

pub use queue::{Alpha, Bursts, Exponential, Incast, Md1, Mixture, Normal, Pareto, Queue, Tail};
pub use spec::{LinkSpec, Standing};
pub use trace::{Direction, Trace, TraceError};

use crate::rng::Rng;
use queue::Waits;

/// The least distance of two arrivals: a small packet's length at 10 Gb/s.
const PACKET_NS: i64 = 70;
/// A duplicate follows the packet it repeats by this on the average.
const DUPLICATE_BEHIND_NS: f64 = 20e3;

/// One direction of a path, with the state of its queues.
#[derive(Clone, Debug)]
pub struct Link {
    spec: LinkSpec,
    waits: Waits,
    rng: Rng,
    last: Option<Last>,
}

/// What the packet before left behind.
#[derive(Clone, Copy, Debug)]
struct Last {
    departs_ns: i64,
    arrives_ns: i64,
}

impl Link {
    /// An empty path whose queues are as long as they usually are.
    #[must_use]
    pub fn new(spec: &LinkSpec, rng: Rng) -> Self {
        Link { spec: spec.clone(), waits: Waits::new(&spec.queue), rng, last: None }
    }

    /// The specification in force.
    #[must_use]
    pub fn spec(&self) -> &LinkSpec {
        &self.spec
    }

    /// Another route from the next packet on: it may overtake those under way. The queues are kept if they are the
    /// same.
    pub fn set(&mut self, spec: LinkSpec) {
        if spec.queue != self.spec.queue {
            self.waits = Waits::new(&spec.queue);
        }
        if let Some(last) = &mut self.last {
            last.arrives_ns = i64::MIN;
        }
        self.spec = spec;
    }

    /// The instants of true time at which a packet that departs at `departs_ns` arrives: none, one or two.
    ///
    /// Calls are expected in order of departure. One that is late finds the queue as the packet before it found it
    /// and is held up by nobody.
    pub fn carry(&mut self, departs_ns: i64) -> Arrivals {
        let late = self.last.is_some_and(|last| departs_ns < last.departs_ns);
        let gap_ns = self.last.map_or(f64::INFINITY, |last| (departs_ns - last.departs_ns).max(0) as f64);
        let wait_ns = self.waits.next(departs_ns, gap_ns, &mut self.rng);
        let delay_ns = self.spec.base_us * 1e3 + self.spec.standing.extra_ns(departs_ns) + wait_ns;
        let mut arrives_ns = departs_ns + delay_ns.max(0.0).round() as i64;
        if let Some(last) = self.last.filter(|_| !late) {
            arrives_ns = arrives_ns.max(last.arrives_ns.saturating_add(PACKET_NS));
        }
        if !late {
            self.last = Some(Last { departs_ns, arrives_ns });
        }
        self.accidents(arrives_ns)
    }

    /// Every packet draws the same number of chances, so that a loss changes no other packet's fate.
    fn accidents(&mut self, arrives_ns: i64) -> Arrivals {
        let [lost, doubled, straggles] =
            [self.spec.loss, self.spec.duplicate, self.spec.reorder].map(|p| self.rng.chance(p));
        let behind_ns = self.rng.unit() * self.spec.straggle_us * 1e3;
        let double_ns = self.rng.exponential() * DUPLICATE_BEHIND_NS;
        let arrives_ns = arrives_ns + if straggles { behind_ns.round() as i64 } else { 0 };
        Arrivals {
            first: (!lost).then_some(arrives_ns),
            second: doubled.then_some(arrives_ns + PACKET_NS + double_ns.round() as i64),
        }
    }
}

/// The arrivals of one packet, in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    first: Option<i64>,
    second: Option<i64>,
}

impl Iterator for Arrivals {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        self.first.take().or_else(|| self.second.take())
    }
}

#[cfg(test)]
mod tests;
