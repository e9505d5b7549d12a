//! The two clocks of a host: raw time against true time, CLOCK_REALTIME against raw time.

use truebound_client::VirtualClock;
use truebound_client::bound::RATE_BITS;
use truebound_core::io::{CrossReading, KernelRate};
use truebound_core::time::{RawTime, RealTime};

use super::S;

/// A crystal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockSpec {
    /// Constant frequency error; positive runs fast.
    pub(crate) ppm: i64,
    /// Greatest change of frequency, 1/s: a triangle wave.
    pub(crate) wander_per_s: f64,
    /// Its period.
    pub(crate) period_s: i64,
}

impl ClockSpec {
    pub(crate) const PERFECT: ClockSpec = ClockSpec::ppm(0);

    pub(crate) const fn ppm(ppm: i64) -> Self {
        ClockSpec { ppm, wander_per_s: 0.0, period_s: 0 }
    }

    /// The map from true time to a raw time that shows `raw_ns` at true time `t`.
    pub(crate) fn start(&self, t: i64, raw_ns: i64, phase: f64) -> VirtualClock {
        let unit = (1i64 << RATE_BITS) as f64;
        let period_ns = self.period_s * S;
        VirtualClock {
            origin_ns: t,
            offset_ns: raw_ns - t,
            freq: (self.ppm << RATE_BITS) / 1_000_000,
            wander: (self.wander_per_s * self.period_s as f64 / 4.0 * unit) as i64,
            period_ns,
            phase_ns: (phase * period_ns as f64) as i64,
        }
    }
}

/// The first true instant at which `clock` shows `raw_ns`.
pub(crate) fn when(clock: &VirtualClock, raw_ns: i64) -> i64 {
    let mut t = raw_ns - clock.offset_ns;
    for _ in 0..8 {
        t += raw_ns - clock.at(t);
    }
    while clock.at(t) < raw_ns {
        t += 1;
    }
    t
}

/// CLOCK_REALTIME: linear in raw time at the rate that adjtimex(2) reports, and anybody may change it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Realtime {
    raw_ns: i64,
    pub(crate) real_ns: i64,
    ppb: i64,
    was_set: bool,
}

impl Realtime {
    pub(crate) fn new(raw_ns: i64, real_ns: i64, ppb: i64) -> Self {
        Realtime { raw_ns, real_ns, ppb, was_set: false }
    }

    pub(crate) fn at(&self, raw_ns: i64) -> i64 {
        let elapsed = i128::from(raw_ns - self.raw_ns);
        self.real_ns + (elapsed + (elapsed * i128::from(self.ppb)).div_euclid(1_000_000_000)) as i64
    }

    pub(crate) fn slew(&mut self, raw_ns: i64, ppb: i64) {
        *self = Realtime { raw_ns, real_ns: self.at(raw_ns), ppb, was_set: self.was_set };
    }

    pub(crate) fn step(&mut self, raw_ns: i64, ns: i64, is_noticed: bool) {
        self.slew(raw_ns, self.ppb);
        self.real_ns += ns;
        self.was_set |= is_noticed;
    }

    /// What the shell makes of three readings.
    pub(crate) fn reading(&mut self, before: RawTime, real: RealTime, after: RawTime) -> CrossReading {
        let was_set = std::mem::take(&mut self.was_set);
        CrossReading { before, real, after, rate: KernelRate::Steady { ppb: self.ppb }, was_set }
    }
}
