//! The networks that figures are given for, each direction alike.

use super::queue::{Bursts, Exponential, Incast, Mixture, Normal, Queue, Tail};
use super::spec::LinkSpec;

/// A: 100 µs and Exp(30 µs).
#[must_use]
pub fn exponential() -> LinkSpec {
    LinkSpec { base_us: 100.0, queue: Queue::Exponential(Exponential::default()), ..LinkSpec::default() }
}

/// C: 2 µs and Normal(100 ns).
#[must_use]
pub fn normal() -> LinkSpec {
    LinkSpec { base_us: 2.0, queue: Queue::Normal(Normal::default()), ..LinkSpec::default() }
}

/// D: 100 µs and Exp(30 µs), and for 20 % of the packets Exp(500 µs) on top.
#[must_use]
pub fn mixture() -> LinkSpec {
    LinkSpec { base_us: 100.0, queue: Queue::Mixture(Mixture::default()), ..LinkSpec::default() }
}

/// Three hops with bursts of 6 µs, 10 µs of cable, rare Pareto incast: the one estimators are tuned on.
#[must_use]
pub fn bursts(load: f64) -> LinkSpec {
    LinkSpec { queue: Queue::Bursts(Bursts { load, ..Bursts::default() }), ..LinkSpec::default() }
}

/// Held out: five hops with bursts of 12 µs, 25 µs of cable, more incast with a milder tail.
#[must_use]
pub fn long_path(load: f64) -> LinkSpec {
    let incast = Incast { chance: 0.02, scale_us: 60.0, cap_us: 5000.0, tail: Tail::Product };
    LinkSpec {
        base_us: 25.0,
        queue: Queue::Bursts(Bursts { load, hops: 5, burst_us: 12.0, incast }),
        ..LinkSpec::default()
    }
}

/// Held out: two hops with bursts of 4 µs, 5 µs of cable.
#[must_use]
pub fn short_path(load: f64) -> LinkSpec {
    LinkSpec {
        base_us: 5.0,
        queue: Queue::Bursts(Bursts { load, hops: 2, burst_us: 4.0, incast: Incast::default() }),
        ..LinkSpec::default()
    }
}
