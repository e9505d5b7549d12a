//! Keeps a PHC on our bound's time (`phc = "steer"`), feed-forward: its rate against raw time and true time's rate
//! against raw time are both known, so the frequency to dial is too; only what is left of the offset is fed back.
//!
//! With d the dialled frequency at which the PHC runs at ρ against raw time, true time at ω, and x = PHC − true time:
//!
//! ```text
//! d' = d − (ρ − ω) − x/τ        τ a few times the interval between corrections, the second part limited
//! ```
//! The PHC is never a source of ours while we do this, and stamps taken by it are placed by readings around them, so what
//! it shows enters nothing.

use crate::io::Steer;
use crate::settings::ServoSettings;
use crate::time::{NS_PER_S, RawTime};
use crate::units::{FreqError, to_f64};

/// Corrections are this far apart, ns: each needs a line through readings since the one before.
const INTERVAL_NS: i64 = NS_PER_S;

/// What is known when a correction is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhcState {
    /// PHC − true time, ns.
    pub(crate) offset_ns: i64,
    /// Dialled frequency, ppb.
    pub(crate) dialled_ppb: i64,
    /// PHC against raw time.
    pub(crate) rate: FreqError,
    /// True time against raw time.
    pub(crate) omega: FreqError,
}

/// The servo of one PHC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhcServo {
    next: RawTime,
    has_stepped: bool,
}

impl PhcServo {
    pub(crate) fn new(now: RawTime) -> Self {
        PhcServo { next: now, has_stepped: false }
    }

    /// A step first, if the PHC is far off; then a frequency at every interval.
    pub(crate) fn update(&mut self, now: RawTime, state: &PhcState, settings: &ServoSettings) -> Option<Steer> {
        if now < self.next {
            return None;
        }
        self.next = now.plus_ns(INTERVAL_NS);
        if !self.has_stepped && state.offset_ns.saturating_abs() > settings.step_threshold_ns {
            self.has_stepped = true;
            return Some(Steer::Step { ns: state.offset_ns.saturating_neg() });
        }
        let tau_ns = settings.time_constant_ns.max(2 * INTERVAL_NS);
        let slew_max = settings.max_slew.as_fraction();
        let slew = (to_f64(state.offset_ns) / to_f64(tau_ns)).clamp(-slew_max, slew_max);
        let runs_off = state.rate.as_fraction() - state.omega.as_fraction();
        let dialled = to_f64(state.dialled_ppb) * 1e-9 - runs_off - slew;
        Some(Steer::Rate { rate: FreqError::from_fraction(dialled).to_rate_down() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detuned_phc_is_stepped_once_and_then_held() {
        let settings = ServoSettings::default();
        let (crystal, omega) = (20e-6, 5e-6);
        let (mut dialled, mut phc, mut truth) = (0.0, 7e9, 0.0);
        let mut servo = PhcServo::new(RawTime::from_ns(0));
        let mut steps = 0;
        for second in 0..120_i64 {
            let rate = (1.0 + crystal) * (1.0 + dialled) - 1.0;
            (phc, truth) = (phc + 1e9 * (1.0 + rate), truth + 1e9 * (1.0 + omega));
            let state = PhcState {
                offset_ns: crate::units::to_i64(phc - truth),
                dialled_ppb: crate::units::to_i64((dialled * 1e9_f64).round()),
                rate: FreqError::from_fraction(rate),
                omega: FreqError::from_fraction(omega),
            };
            match servo.update(RawTime::from_ns(second * NS_PER_S), &state, &settings) {
                Some(Steer::Step { ns }) => {
                    steps += 1;
                    phc += to_f64(ns);
                }
                // igb's granularity.
                Some(Steer::Rate { rate }) => {
                    dialled = (FreqError::from_rate(rate).as_fraction() / 119.2e-9).trunc() * 119.2e-9;
                }
                None => panic!("a correction is due every second"),
            }
        }
        assert_eq!(steps, 1);
        assert!((phc - truth).abs() < 500.0, "off by {} ns", phc - truth);
    }
}
