//! The servo of the disciplined clock, feed-forward: the estimate of raw time gives the rate, and a phase error is
//! removed in a time that is stated, by a slew that is capped.
//!
//! The disciplined clock C runs at rate 1 + r against raw time and should show TAI. With the estimate θ̂, ω̂ and the
//! phase error x = C − (T + θ̂), positive when the clock is ahead:
//!
//! ```text
//! r = ω̂ − s for |x/s| seconds, then r = ω̂        s = clamp(x/τ, ±max_slew)
//! ```
//! So after τ, or after |x|/max_slew where that is longer, C shows the estimate: the servo adds no error of its own.
//!
//! Where C is the kernel's clock it is read as well ([`Servo::observe`]); a reading moves what the servo knows of C only
//! as far as the reading proves, so its noise does not become the clock's.

use crate::estimate::Estimate;
use crate::io::{Drift, Steer};
use crate::settings::{ServoSettings, StepPolicy};
use crate::time::RawTime;
use crate::units::{FreqError, to_f64, to_i64};

/// The disciplined clock as the servo knows it: C(T) = T + `offset_ns` + rate·(T − t).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Servo {
    settings: ServoSettings,
    t: RawTime,
    offset_ns: i64,
    rate: i64,
    /// When the slew that is under way ends, and the rate from then on.
    slew: Option<(RawTime, FreqError)>,
    /// Steps count when they are confirmed: the clock may be read before they are made.
    confirms: bool,
    is_first: bool,
}

/// What to tell the clock: at most one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Action {
    pub(crate) step: Option<Steer>,
    pub(crate) rate: Option<Steer>,
}

impl Servo {
    /// A clock that shows raw time + `offset_ns` at `now` and runs at `rate`, 2⁻⁴⁰.
    pub(crate) fn new(now: RawTime, offset_ns: i64, rate: i64, settings: ServoSettings) -> Self {
        Servo { settings, t: now, offset_ns, rate, slew: None, confirms: false, is_first: true }
    }

    /// The same for a clock that is read, and whose steps are confirmed ([`Servo::stepped`]).
    pub(crate) fn confirmed(self) -> Self {
        Servo { confirms: true, ..self }
    }

    /// C was stepped by `ns`.
    pub(crate) fn stepped(&mut self, now: RawTime, ns: i64) {
        (self.offset_ns, self.t) = (self.offset_at(now).saturating_add(ns), now);
    }

    /// From now on with these settings.
    pub(crate) fn adopt(&mut self, settings: ServoSettings) {
        self.settings = settings;
    }

    /// C − T at `now`, ns.
    pub(crate) fn offset_at(&self, now: RawTime) -> i64 {
        let elapsed = to_f64(now.ns_since(self.t));
        self.offset_ns.saturating_add(to_i64((elapsed * FreqError::from_rate(self.rate).as_fraction()).round()))
    }

    /// The rate of C against raw time, minus one, 2⁻⁴⁰.
    pub(crate) fn rate(&self) -> i64 {
        self.rate
    }

    /// When it was last read or steered.
    pub(crate) fn known_at(&self) -> RawTime {
        self.t
    }

    /// C − T was in `[least_ns, most_ns]` at `at`. Gives how far that is from what the servo thought, ns.
    pub(crate) fn observe(&mut self, at: RawTime, least_ns: i64, most_ns: i64) -> i64 {
        let thought_ns = self.offset_at(at);
        self.t = at;
        self.offset_ns = thought_ns.clamp(least_ns.min(most_ns), most_ns);
        self.offset_ns.saturating_sub(thought_ns)
    }

    /// Somebody else gave C this rate, 2⁻⁴⁰.
    pub(crate) fn runs_at(&mut self, now: RawTime, rate: i64) {
        (self.offset_ns, self.t) = (self.offset_at(now), now);
        (self.rate, self.slew) = (rate, None);
    }

    /// C runs at the rate that was asked for, 2⁻⁴⁰.
    pub(crate) fn obeyed(&mut self, now: RawTime, rate: i64) {
        (self.offset_ns, self.t) = (self.offset_at(now), now);
        self.rate = rate;
    }

    /// Steers towards `estimate`; `drift` is what an earlier run knew of the rate.
    pub(crate) fn update(&mut self, now: RawTime, estimate: &Estimate, drift: Option<Drift>) -> Action {
        let mut action = Action::default();
        (self.offset_ns, self.t) = (self.offset_at(now), now);
        let mut error_ns = self.offset_ns.saturating_sub(estimate.theta_ns);
        let is_far = error_ns.saturating_abs() > self.settings.step_threshold_ns;
        let may_step = match self.settings.step {
            StepPolicy::First => self.is_first,
            StepPolicy::Always => true,
            StepPolicy::Never => false,
        };
        if is_far && may_step {
            action.step = Some(self.step(error_ns));
            error_ns = 0;
        }
        self.is_first = false;
        let omega =
            drift.filter(|drift| drift.sigma < estimate.omega_sigma).map_or(estimate.omega, |drift| drift.omega);
        action.rate = self.remove(now, error_ns, omega);
        action
    }

    /// Removes the phase error x, then runs at ω.
    fn remove(&mut self, now: RawTime, x_ns: i64, omega: FreqError) -> Option<Steer> {
        let limit = self.settings.max_slew.as_fraction();
        let slew = (to_f64(x_ns) / to_f64(self.settings.time_constant_ns)).clamp(-limit, limit);
        self.slew = (x_ns != 0).then(|| (now.plus_ns(to_i64((to_f64(x_ns) / slew).ceil())), omega));
        self.turn(FreqError::from_fraction(omega.as_fraction() - slew))
    }

    /// When the slew under way ends.
    pub(crate) fn slew_end(&self) -> Option<RawTime> {
        self.slew.map(|(end, _)| end)
    }

    /// Ends the slew whose time has come.
    pub(crate) fn end_slew(&mut self, now: RawTime) -> Option<Steer> {
        let (_, omega) = self.slew.filter(|&(end, _)| end <= now)?;
        self.hold(now, omega)
    }

    /// Runs at true time's rate, as far as that is known, and removes no phase.
    pub(crate) fn hold(&mut self, now: RawTime, omega: FreqError) -> Option<Steer> {
        (self.offset_ns, self.t) = (self.offset_at(now), now);
        self.slew = None;
        self.turn(omega)
    }

    fn turn(&mut self, rate: FreqError) -> Option<Steer> {
        let rate = rate.to_rate_down();
        (rate != self.rate).then(|| {
            self.rate = rate;
            Steer::Rate { rate }
        })
    }

    /// Steps onto the estimate at the operator's request.
    pub(crate) fn make_step(&mut self, now: RawTime, estimate: &Estimate) -> Steer {
        (self.offset_ns, self.t) = (self.offset_at(now), now);
        self.step(self.offset_ns.saturating_sub(estimate.theta_ns))
    }

    fn step(&mut self, error_ns: i64) -> Steer {
        self.slew = None;
        if !self.confirms {
            self.offset_ns = self.offset_ns.saturating_sub(error_ns);
        }
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

    fn servo(step: StepPolicy) -> Servo {
        Servo::new(RawTime::from_ns(0), 0, 0, ServoSettings { step, ..ServoSettings::default() })
    }

    #[test]
    fn a_phase_error_is_gone_when_its_slew_ends_and_the_slew_ends_by_itself() {
        for (x_ns, ends_after_ns) in [(40_000, ServoSettings::default().time_constant_ns), (-800_000, 2 * NS_PER_S)] {
            let mut servo = Servo::new(RawTime::from_ns(0), x_ns, 0, ServoSettings::default());
            servo.update(RawTime::from_ns(0), &estimate(0, 0.0), None);
            let end = servo.slew_end().expect("a slew");
            assert!((end.as_ns() - ends_after_ns).abs() <= 1, "{end:?}");
            assert_eq!(servo.end_slew(RawTime::from_ns(end.as_ns() - 1)), None);
            assert_eq!(servo.end_slew(end), Some(Steer::Rate { rate: 0 }));
            assert!(servo.offset_at(RawTime::from_ns(100 * NS_PER_S)).abs() <= 1);
            assert_eq!(servo.slew_end(), None);
        }
    }

    #[test]
    fn a_phase_error_fades_within_a_few_time_constants() {
        let mut servo = servo(StepPolicy::First);
        // Truth: θ = 200 µs + 10 ppm·T.
        for k in 0..200i64 {
            let now = k * NS_PER_S / 10;
            servo.update(RawTime::from_ns(now), &estimate(200_000 + now / 100_000, 10.0), None);
        }
        let end = RawTime::from_ns(20 * NS_PER_S);
        let error = servo.offset_at(end) - (200_000 + 20 * NS_PER_S / 100_000);
        assert!(error.abs() < 200, "{error} ns");
    }

    #[test]
    fn a_large_error_is_stepped_once_and_then_slewed_within_the_cap() {
        let mut servo = servo(StepPolicy::First);
        let first = servo.update(RawTime::from_ns(0), &estimate(5_000_000, 0.0), None);
        assert_eq!(first.step, Some(Steer::Step { ns: 5_000_000 }));
        let second = servo.update(RawTime::from_ns(NS_PER_S), &estimate(50_000_000, 0.0), None);
        assert_eq!(second.step, None);
        let Some(Steer::Rate { rate }) = second.rate else { panic!("it slews") };
        let most = ServoSettings::default().max_slew.as_ppm();
        assert!((FreqError::from_rate(rate).as_ppm() - most).abs() < 0.01);
    }

    #[test]
    fn the_policy_decides_whether_it_steps() {
        let threshold_ns = ServoSettings::default().step_threshold_ns;
        for (policy, steps) in [(StepPolicy::First, 1), (StepPolicy::Always, 2), (StepPolicy::Never, 0)] {
            let mut servo = servo(policy);
            let mut stepped = 0;
            for (second, theta_ns) in [(0, threshold_ns + 1), (1, 3 * threshold_ns + 3)] {
                let now = RawTime::from_ns(second * NS_PER_S);
                stepped += u32::from(servo.update(now, &estimate(theta_ns, 0.0), None).step.is_some());
            }
            assert_eq!(stepped, steps, "{policy:?}");
        }
        assert_eq!(
            servo(StepPolicy::Always).update(RawTime::from_ns(0), &estimate(threshold_ns, 0.0), None).step,
            None
        );
    }

    #[test]
    fn a_reading_moves_the_servo_no_further_than_it_proves() {
        let mut servo = Servo::new(RawTime::from_ns(0), 1_000, 0, ServoSettings::default());
        let at = RawTime::from_ns(NS_PER_S);
        assert_eq!(servo.observe(at, 900, 1_100), 0);
        assert_eq!((servo.observe(at, 1_050, 1_250), servo.offset_at(at)), (50, 1_050));
        assert_eq!((servo.observe(at, 700, 900), servo.offset_at(at)), (-150, 900));
    }

    #[test]
    fn a_clock_that_is_read_before_its_step_is_stepped_once() {
        let now = RawTime::from_ns(0);
        let mut servo = Servo::new(now, 5_000_000, 0, ServoSettings::default()).confirmed();
        let Some(Steer::Step { ns }) = servo.update(now, &estimate(0, 0.0), None).step else { panic!("it is far") };
        servo.observe(now, 5_000_000, 5_000_000);
        servo.stepped(now, ns);
        assert_eq!(servo.offset_at(now), 0);
    }

    #[test]
    fn what_an_earlier_run_knew_of_the_rate_holds_until_the_estimate_knows_it_better() {
        let drift = Drift { omega: FreqError::from_ppm(-20.0), sigma: FreqError::from_ppm(0.5) };
        for (sigma_ppm, expected_ppm) in [(0.6, -20.0), (0.4, 3.0)] {
            let estimate = Estimate { omega_sigma: FreqError::from_ppm(sigma_ppm), ..estimate(0, 3.0) };
            let action = servo(StepPolicy::First).update(RawTime::from_ns(0), &estimate, Some(drift));
            let Some(Steer::Rate { rate }) = action.rate else { panic!("a rate") };
            assert!((FreqError::from_rate(rate).as_ppm() - expected_ppm).abs() < 0.001);
        }
    }
}
