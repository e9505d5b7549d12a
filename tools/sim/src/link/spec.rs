//! A link as a scenario file states it.
//!
//! ```toml
//! base-us = 10.0
//! queue.bursts.load = 0.6
//! loss = 0.001
//! ```

use super::queue::Queue;
use serde::Deserialize;

/// One direction of a path. The default is 10 µs of cable and an empty queue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkSpec {
    /// The delay of a packet that waits for nothing, µs.
    pub base_us: f64,
    /// How packets wait.
    pub queue: Queue,
    /// A queue that does not drain.
    pub standing: Standing,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet straggles: those behind may overtake it.
    pub reorder: f64,
    /// A straggler is late by up to this, µs.
    pub straggle_us: f64,
}

impl Default for LinkSpec {
    fn default() -> Self {
        LinkSpec {
            base_us: 10.0,
            queue: Queue::None,
            standing: Standing::default(),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            straggle_us: 1000.0,
        }
    }
}

/// A standing queue: a delay that every packet sees for a long time, which no minimum over a short time can tell from
/// a longer cable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Standing {
    /// The extra delay when it stands, µs.
    pub depth_us: f64,
    /// It stands for half of each period and is gone for the other half, s; 0: it always stands.
    pub period_s: f64,
    /// It grows and shrinks over this time, at most half a period, s.
    pub ramp_s: f64,
}

impl Standing {
    /// The extra delay at an instant, ns.
    pub(super) fn extra_ns(&self, at_ns: i64) -> f64 {
        if self.period_s <= 0.0 {
            return self.depth_us * 1e3;
        }
        let half_ns = (self.period_s * 0.5e9).max(1.0) as i64;
        let phase_ns = at_ns.rem_euclid(2 * half_ns);
        let ramp_ns = self.ramp_s * 1e9;
        let grown = |since_ns: i64| if since_ns as f64 >= ramp_ns { 1.0 } else { since_ns as f64 / ramp_ns };
        let share = if phase_ns < half_ns { grown(phase_ns) } else { 1.0 - grown(phase_ns - half_ns) };
        share * self.depth_us * 1e3
    }
}
