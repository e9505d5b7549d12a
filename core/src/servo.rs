//! The servo of the disciplined clock, feed-forward: the estimate of raw time gives the rate, and a phase error is
//! removed with a time constant, by a slew that is capped.
//!
//! The disciplined clock C runs at rate 1 + r against raw time and should show TAI. With the estimate θ̂, ω̂ and the
//! phase error x = C − (T + θ̂), positive when the clock is ahead:  r = ω̂ − clamp(x/τ, ±max_slew).

use crate::estimate::Estimate;
use crate::io::Steer;
use crate::settings::ServoSettings;
use crate::time::RawTime;
use crate::units::{FreqError, to_f64, to_i64};

/// The disciplined clock as the servo knows it: C(T) = T + `offset_ns` + rate·(T − t).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Servo {
    settings: ServoSettings,
    t: RawTime,
    offset_ns: i64,
    rate: i64,
    has_stepped: bool,
}

/// What to tell the clock: at most one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Action {
    pub(crate) step: Option<Steer>,
    pub(crate) rate: Option<Steer>,
}

impl Servo {
    /// A clock that shows raw time + `offset_ns` at `now`.
    pub(crate) fn new(now: RawTime, offset_ns: i64, settings: ServoSettings) -> Self {
        Servo { settings, t: now, offset_ns, rate: 0, has_stepped: false }
    }

    /// C − T at `now`, ns.
    pub(crate) fn offset_at(&self, now: RawTime) -> i64 {
        let elapsed = to_f64(now.ns_since(self.t));
        self.offset_ns.saturating_add(to_i64((elapsed * FreqError::from_rate(self.rate).as_fraction()).round()))
    }

    /// Steers towards `estimate`.
    pub(crate) fn update(&mut self, now: RawTime, estimate: &Estimate) -> Action {
        let mut action = Action::default();
        self.offset_ns = self.offset_at(now);
        self.t = now;
        let mut error_ns = self.offset_ns.saturating_sub(estimate.theta_ns);
        if !self.has_stepped && error_ns.saturating_abs() > self.settings.step_threshold_ns {
            action.step = Some(self.step(error_ns));
            error_ns = 0;
        }
        self.has_stepped = true;
        let tau_ns = to_f64(self.settings.time_constant_ns);
        let limit = self.settings.max_slew.as_fraction();
        let slew = (to_f64(error_ns) / tau_ns).clamp(-limit, limit);
        let rate = FreqError::from_fraction(estimate.omega.as_fraction() - slew).to_rate_down();
        if rate != self.rate {
            self.rate = rate;
            action.rate = Some(Steer::Rate { rate });
        }
        action
    }

    /// Steps onto the estimate at the operator's request.
    pub(crate) fn make_step(&mut self, now: RawTime, estimate: &Estimate) -> Steer {
        self.offset_ns = self.offset_at(now);
        self.t = now;
        self.step(self.offset_ns.saturating_sub(estimate.theta_ns))
    }

    fn step(&mut self, error_ns: i64) -> Steer {
        self.offset_ns = self.offset_ns.saturating_sub(error_ns);
        Steer::Step { ns: error_ns.saturating_neg() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::NS_PER_S;

    fn estimate(theta_ns: i64, ppm: f64) -> Estimate {
        Estimate { theta_ns, theta_sigma_ns: 0, omega: FreqError::from_ppm(ppm), omega_sigma: FreqError::from_ppm(0.0) }
    }

    #[test]
    fn a_phase_error_fades_within_a_few_time_constants() {
        let mut servo = Servo::new(RawTime::from_ns(0), 0, ServoSettings::default());
        // Truth: θ = 200 µs + 10 ppm·T.
        for k in 0..200i64 {
            let now = k * NS_PER_S / 10;
            servo.update(RawTime::from_ns(now), &estimate(200_000 + now / 100_000, 10.0));
        }
        let end = RawTime::from_ns(20 * NS_PER_S);
        let error = servo.offset_at(end) - (200_000 + 20 * NS_PER_S / 100_000);
        assert!(error.abs() < 200, "{error} ns");
    }

    #[test]
    fn a_large_error_is_stepped_once_and_then_slewed_within_the_cap() {
        let mut servo = Servo::new(RawTime::from_ns(0), 0, ServoSettings::default());
        let first = servo.update(RawTime::from_ns(0), &estimate(5_000_000, 0.0));
        assert_eq!(first.step, Some(Steer::Step { ns: 5_000_000 }));
        let second = servo.update(RawTime::from_ns(NS_PER_S), &estimate(50_000_000, 0.0));
        assert_eq!(second.step, None);
        let Some(Steer::Rate { rate }) = second.rate else { panic!("it slews") };
        assert!((FreqError::from_rate(rate).as_ppm() - 500.0).abs() < 0.01);
    }
}
