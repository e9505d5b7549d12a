//! CLOCK_REALTIME: linear in raw time at the rate that adjtimex(2) reports, and anybody may change it.

use truebound_core::io::{CrossReading, KernelRate, Setting};
use truebound_core::time::{RawTime, RealTime};

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct Realtime {
    raw_ns: i64,
    real_ns: i64,
    ppb: i64,
    /// How many readings tell that it was set: the kernel's word may be of before or after the first of two.
    told: u8,
}

impl Realtime {
    /// Shows `real_ns` at raw time `raw_ns` and runs at 1 + `ppb` of its rate.
    #[must_use]
    pub fn new(raw_ns: i64, real_ns: i64, ppb: i64) -> Self {
        Realtime { raw_ns, real_ns, ppb, told: 0 }
    }

    /// What it shows at raw time `raw_ns`.
    #[must_use]
    pub fn at(&self, raw_ns: i64) -> i64 {
        let elapsed = raw_ns - self.raw_ns;
        if self.ppb == 0 {
            return self.real_ns + elapsed;
        }
        let gained = match elapsed.checked_mul(self.ppb) {
            Some(product) => product.div_euclid(1_000_000_000),
            None => (i128::from(elapsed) * i128::from(self.ppb)).div_euclid(1_000_000_000) as i64,
        };
        self.real_ns + elapsed + gained
    }

    /// Runs at another rate from raw time `raw_ns` on.
    pub fn slew(&mut self, raw_ns: i64, ppb: i64) {
        *self = Realtime { raw_ns, real_ns: self.at(raw_ns), ppb, told: self.told };
    }

    /// Is set to another time; timerfd notices or does not.
    pub fn step(&mut self, raw_ns: i64, ns: i64, is_noticed: bool) {
        self.slew(raw_ns, self.ppb);
        self.real_ns += ns;
        if is_noticed {
            self.told = 2;
        }
    }

    /// What the shell makes of three readings.
    pub fn reading(&mut self, before: RawTime, real: RealTime, after: RawTime) -> CrossReading {
        // Some steps go unnoticed, so silence tells nothing.
        let setting = if self.told > 0 { Setting::Set } else { Setting::Untold };
        self.told = self.told.saturating_sub(1);
        CrossReading { before, real, after, rate: KernelRate::Steady { ppb: self.ppb }, setting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_at_its_rate_and_steps() {
        let mut clock = Realtime::new(1_000, 5_000, 500_000);
        assert_eq!(clock.at(1_000 + 2_000_000), 5_000 + 2_000_000 + 1_000);
        clock.slew(1_000 + 2_000_000, 0);
        clock.step(1_000 + 3_000_000, -50, true);
        assert_eq!(clock.at(1_000 + 4_000_000), 5_000 + 4_000_000 + 1_000 - 50);
        let reading =
            |clock: &mut Realtime| clock.reading(RawTime::from_ns(0), RealTime::from_ns(0), RawTime::from_ns(1));
        let mut is_set = || reading(&mut clock).setting == Setting::Set;
        assert!(is_set() && is_set() && !is_set());
    }
}
