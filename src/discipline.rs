//! The virtual disciplined clock: what the agent steers when it must not touch the kernel's.
//!
//! C(T) = T + offset + rate·(T − t) over raw time T. Readings vary at random by a configured amount, as a real clock's
//! do; the clock itself does not.

use truebound_core::io::Steer;
use truebound_core::time::RawTime;
use truebound_core::units::{FreqError, to_f64, to_i64};

/// A clock beside the kernel's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VirtualDiscipline {
    t: RawTime,
    offset_ns: i64,
    rate: i64,
    jitter_ns: i64,
    noise: u64,
}

impl VirtualDiscipline {
    /// A clock that shows raw time and whose readings vary by ±`jitter_ns`.
    pub(crate) fn new(now: RawTime, jitter_ns: i64, seed: u64) -> Self {
        VirtualDiscipline { t: now, offset_ns: 0, rate: 0, jitter_ns, noise: seed }
    }

    /// Does as the agent says.
    pub(crate) fn steer(&mut self, now: RawTime, steer: Steer) {
        self.offset_ns = self.exact_offset_at(now);
        self.t = now;
        match steer {
            Steer::Rate { rate } => self.rate = rate,
            Steer::Step { ns } => self.offset_ns = self.offset_ns.saturating_add(ns),
        }
    }

    /// A reading, less raw time: TAI − T as this clock has it, ns.
    pub(crate) fn offset_at(&mut self, now: RawTime) -> i64 {
        self.noise = splitmix(self.noise);
        let span = self.jitter_ns.unsigned_abs().saturating_mul(2).saturating_add(1);
        let jitter = i64::try_from(self.noise % span).unwrap_or(0) - self.jitter_ns;
        self.exact_offset_at(now).saturating_add(jitter)
    }

    fn exact_offset_at(&self, now: RawTime) -> i64 {
        let drift = to_f64(now.ns_since(self.t)) * FreqError::from_rate(self.rate).as_fraction();
        self.offset_ns.saturating_add(to_i64(drift.round()))
    }
}

/// One step of splitmix64.
pub(crate) fn splitmix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_rates_add_up_and_jitter_stays_within_its_limit() {
        let mut clock = VirtualDiscipline::new(RawTime::from_ns(0), 100, 1);
        clock.steer(RawTime::from_ns(0), Steer::Step { ns: 5_000 });
        clock.steer(RawTime::from_ns(0), Steer::Rate { rate: FreqError::from_ppm(10.0).to_rate_up() });
        for _ in 0..1000 {
            let reading = clock.offset_at(RawTime::from_ns(1_000_000_000));
            assert!((14_899..=15_101).contains(&reading), "{reading}");
        }
    }
}
