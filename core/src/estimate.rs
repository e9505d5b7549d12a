//! A plain point estimate of θ and ω for one source, with an honest standard uncertainty. Not a bound: it chooses the
//! midpoint that tools show and what the servo steers to, never an edge.
//!
//! State x = (θ, ω), random-walk frequency:  θ(t + δ) = θ + ω·δ,  P grows by (q·δ³/3, q·δ²/2, q·δ) and white frequency
//! noise σ_f²·δ. An exchange measures z = (U + L)/2 with U = t2 − T1 ≥ θ and L = t3 − T4 ≤ θ; queueing can only make the
//! strip s = U − L wider than the least one, and moves z by at most half the excess. Hence the noise of an exchange is
//! R = σ² + (c·(s − s_min))²: loaded exchanges say little, pure ones say much (ALGORITHM §6.2, without its blocks).

use crate::region::Region;
use crate::time::RawTime;
use crate::units::{FreqError, to_f64, to_i64};

/// How much of the excess strip counts as noise of one exchange.
const EXCESS_WEIGHT: f64 = 0.3;
/// White frequency noise, s per √s.
const WHITE_FM: f64 = 1e-9;
/// Least and greatest random walk of frequency, s²/s³.
const RANDOM_WALK: (f64, f64) = (2e-18, 1e-13);
/// Pure exchanges before the frequency is audited.
const AUDIT_AFTER_PURE: u32 = 16;
/// The known minimum of the strip rises by this much per second, so that a longer route is learnt.
const STRIP_LEAK: f64 = 1e-8;

/// One complete exchange, in the words of the derivation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Middle of the exchange.
    pub(crate) t: RawTime,
    /// U = t2 − T1, ns.
    pub(crate) upper_ns: i64,
    /// L = t3 − T4, ns.
    pub(crate) lower_ns: i64,
    /// Width of the stamps themselves, ns.
    pub(crate) stamp_ns: i64,
}

/// θ and ω with their uncertainty, at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// θ, ns.
    pub theta_ns: i64,
    /// Standard uncertainty of θ, ns.
    pub theta_sigma_ns: i64,
    /// ω.
    pub omega: FreqError,
    /// Standard uncertainty of ω.
    pub omega_sigma: FreqError,
}

impl Estimate {
    /// Raw time itself, without doubt.
    pub(crate) const fn exact() -> Self {
        let none = FreqError::from_fraction(0.0);
        Estimate { theta_ns: 0, theta_sigma_ns: 0, omega: none, omega_sigma: none }
    }
}

/// Two-state Kalman filter; seconds inside.
#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    state: Option<State>,
}

#[derive(Clone, Debug)]
struct State {
    t: RawTime,
    /// θ is `base_ns` + `theta`: the base keeps residuals small.
    base_ns: i64,
    theta: f64,
    omega: f64,
    p00: f64,
    p01: f64,
    p11: f64,
    least_strip: f64,
    random_walk: f64,
    /// Smoothed normalised innovation squared: 1 when the model fits.
    surprise: f64,
    samples: u32,
    /// Exchanges in a row of time that met no more than the least strip known then.
    pure: u32,
}

impl Estimator {
    pub(crate) fn new() -> Self {
        Estimator { state: None }
    }

    pub(crate) fn clear(&mut self) {
        self.state = None;
    }

    /// Takes one exchange.
    pub(crate) fn push(&mut self, sample: &Sample) {
        let strip = to_f64(sample.upper_ns.saturating_sub(sample.lower_ns)).max(0.0) * 1e-9;
        let middle_ns = sample.lower_ns.saturating_add(sample.upper_ns.saturating_sub(sample.lower_ns) / 2);
        let sigma = 30e-9 + to_f64(sample.stamp_ns) * 1e-9;
        match &mut self.state {
            Some(state) if sample.t > state.t => state.update(sample.t, middle_ns, strip, sigma),
            Some(_) => {}
            none => *none = Some(State::first(sample.t, middle_ns, strip, sigma)),
        }
    }

    /// The estimate at `now`; `None` before the first exchange.
    pub(crate) fn at(&self, now: RawTime) -> Option<Estimate> {
        let state = self.state.as_ref()?;
        let dt = to_f64(now.ns_since(state.t)) * 1e-9;
        let (p00, _, p11) = state.predicted_covariance(dt.max(0.0));
        Some(Estimate {
            theta_ns: state.base_ns.saturating_add(to_i64(((state.theta + state.omega * dt) * 1e9).round())),
            theta_sigma_ns: to_i64((p00.max(0.0).sqrt() * 1e9).ceil()),
            omega: FreqError::from_fraction(state.omega),
            omega_sigma: FreqError::from_fraction(p11.max(0.0).sqrt()),
        })
    }

    /// What is proved outranks what is likely: an estimate outside the region at `now` moves to the nearer edge, in θ
    /// and in ω, with half the width as its uncertainty. Returns how far outside θ was, ns.
    pub(crate) fn confine(&mut self, now: RawTime, region: &Region) -> i64 {
        let Some(estimate) = self.at(now) else { return 0 };
        let Region { theta_lo_ns: lo_ns, theta_hi_ns: hi_ns, .. } = *region;
        let outside_ns = lo_ns.saturating_sub(estimate.theta_ns).max(estimate.theta_ns.saturating_sub(hi_ns));
        let [slow, fast] = [region.omega_lo, region.omega_hi].map(|rate| FreqError::from_rate(rate).as_fraction());
        let omega = estimate.omega.as_fraction();
        let Some(state) = self.state.as_mut().filter(|state| now >= state.t && slow <= fast) else { return 0 };
        if omega < slow || omega > fast {
            state.omega = omega.clamp(slow, fast);
            state.p11 = state.p11.max((fast - slow) * (fast - slow) / 4.0);
        }
        if outside_ns > 0 {
            // The state stays at its own instant, the last exchange's: only what it says of `now` moves.
            let moved_ns = to_i64((state.omega * to_f64(now.ns_since(state.t))).round());
            let half_width = to_f64(hi_ns.saturating_sub(lo_ns)) * 0.5e-9;
            state.base_ns = estimate.theta_ns.clamp(lo_ns, hi_ns).saturating_sub(moved_ns);
            state.theta = 0.0;
            state.p00 = state.p00.max(half_width * half_width);
        }
        outside_ns.max(0)
    }

    /// The rate at `now` that the audit of BOUND §7 compares: ω̂ ± (6σ + A·lag), where lag = P₀₀/P₀₁ is how far the filter
    /// trails a steadily changing frequency (α/β of an α-β filter). `None` until enough exchanges were pure: before that
    /// σ does not know the queues.
    pub(crate) fn rates_for_audit(&self, now: RawTime, wander_per_s: f64) -> Option<(f64, f64)> {
        let state = self.state.as_ref().filter(|state| state.pure >= AUDIT_AFTER_PURE && state.p01 > 0.0)?;
        let dt = to_f64(now.ns_since(state.t)) * 1e-9;
        let (_, _, p11) = state.predicted_covariance(dt.max(0.0));
        let lag = state.p00 / state.p01 + dt.max(0.0);
        let doubt = 6.0 * p11.max(0.0).sqrt() + wander_per_s * lag;
        Some((state.omega - doubt, state.omega + doubt))
    }

    /// The least strip seen, ns: the minimum round trip as the stamps saw it.
    pub(crate) fn least_strip_ns(&self) -> Option<i64> {
        self.state.as_ref().map(|state| to_i64((state.least_strip * 1e9).round()))
    }
}

impl State {
    fn first(t: RawTime, middle_ns: i64, strip: f64, sigma: f64) -> Self {
        State {
            t,
            base_ns: middle_ns,
            theta: 0.0,
            omega: 0.0,
            p00: sigma * sigma + strip * strip / 4.0,
            p01: 0.0,
            p11: 1e-6, // (1000 ppm)²
            least_strip: strip,
            random_walk: RANDOM_WALK.0,
            surprise: 1.0,
            samples: 1,
            pure: 0,
        }
    }

    fn predicted_covariance(&self, dt: f64) -> (f64, f64, f64) {
        let q = self.random_walk;
        let p00 =
            self.p00 + 2.0 * dt * self.p01 + dt * dt * self.p11 + q * dt * dt * dt / 3.0 + WHITE_FM * WHITE_FM * dt;
        let p01 = self.p01 + dt * self.p11 + q * dt * dt / 2.0;
        (p00, p01, self.p11 + q * dt)
    }

    fn update(&mut self, t: RawTime, middle_ns: i64, strip: f64, sigma: f64) {
        let dt = to_f64(t.ns_since(self.t)) * 1e-9;
        (self.p00, self.p01, self.p11) = self.predicted_covariance(dt);
        self.theta += self.omega * dt;
        self.t = t;
        if strip < self.least_strip - 3.0 * sigma {
            // What counted as pure was not: it may have been wrong by half of what it queued.
            let surplus = (self.least_strip - strip) / 2.0;
            self.p00 += surplus * surplus;
            self.p11 = 1e-6;
            self.pure = 0;
        }
        self.least_strip = strip.min(self.least_strip + STRIP_LEAK * dt);
        let excess = EXCESS_WEIGHT * (strip - self.least_strip);
        self.pure = self.pure.saturating_add(u32::from(excess <= 3.0 * sigma));
        let r = sigma * sigma + excess * excess;
        let innovation = to_f64(middle_ns.saturating_sub(self.base_ns)) * 1e-9 - self.theta;
        let variance = self.p00 + r;
        self.samples = self.samples.saturating_add(1);
        // Only pure exchanges tell the oscillator from the queues.
        if self.samples > 16 && excess <= 3.0 * sigma {
            self.adapt(innovation * innovation / variance);
        }
        let (k0, k1) = (self.p00 / variance, self.p01 / variance);
        self.theta += k0 * innovation;
        self.omega += k1 * innovation;
        let p01 = self.p01;
        self.p00 *= 1.0 - k0;
        self.p01 *= 1.0 - k0;
        self.p11 -= k1 * p01;
        self.rebase();
    }

    /// Learns how restless the oscillator is from how surprising the exchanges are.
    fn adapt(&mut self, normalised: f64) {
        self.surprise += 0.1 * (normalised.min(25.0) - self.surprise);
        if self.surprise > 2.0 {
            self.random_walk = (self.random_walk * 1.5).min(RANDOM_WALK.1);
        } else if self.surprise < 0.7 {
            self.random_walk = (self.random_walk * 0.98).max(RANDOM_WALK.0);
        }
    }

    fn rebase(&mut self) {
        let whole_ns = to_i64((self.theta * 1e9).trunc());
        self.base_ns = self.base_ns.saturating_add(whole_ns);
        self.theta -= to_f64(whole_ns) * 1e-9;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seeded, uniform number in [0, 1).
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(self.0 >> 32).expect("32 bits")) / 4_294_967_296.0
        }
    }

    #[test]
    fn offset_and_frequency_are_found_under_queueing() {
        for seed in 1..=5 {
            let mut noise = Noise(seed);
            let mut estimator = Estimator::new();
            let theta = |t: i64| 7_000_000 + t / 50_000; // 20 ppm
            for k in 0..600i64 {
                let t = k * 1_000_000_000;
                // Half of the packets meet a queue of up to 200 µs.
                let mut queue = || if noise.next() < 0.5 { 0 } else { to_i64(noise.next() * 200_000.0) };
                let (forward, back) = (50_000 + queue(), 50_000 + queue());
                estimator.push(&Sample {
                    t: RawTime::from_ns(t),
                    upper_ns: theta(t) + forward,
                    lower_ns: theta(t) - back,
                    stamp_ns: 20,
                });
            }
            let now = 600_000_000_000;
            let estimate = estimator.at(RawTime::from_ns(now)).expect("600 samples");
            let error = estimate.theta_ns - theta(now);
            assert!(error.abs() < 3_000, "seed {seed}: {error} ns");
            assert!((estimate.omega.as_ppm() - 20.0).abs() < 0.1, "seed {seed}: {:?}", estimate.omega);
        }
    }

    #[test]
    fn an_estimate_outside_what_is_proved_moves_to_the_edge() {
        let mut estimator = Estimator::new();
        estimator.push(&Sample { t: RawTime::from_ns(0), upper_ns: 50_000, lower_ns: -50_000, stamp_ns: 20 });
        let now = RawTime::from_ns(10);
        let region = |lo, hi, slow| Region { theta_lo_ns: lo, theta_hi_ns: hi, omega_lo: slow, omega_hi: 1 << 30 };
        assert_eq!(estimator.confine(now, &region(-100, 100, -1)), 0);
        assert_eq!(estimator.confine(now, &region(1_000, 3_000, 1 << 20)), 1_000);
        let estimate = estimator.at(now).expect("a sample");
        assert_eq!((estimate.theta_ns, estimate.omega.to_rate_up()), (1_000, 1 << 20));
    }

    #[test]
    fn uncertainty_grows_without_exchanges() {
        let mut estimator = Estimator::new();
        for k in 0..20i64 {
            let sample =
                Sample { t: RawTime::from_ns(k * 1_000_000_000), upper_ns: 50_000, lower_ns: -50_000, stamp_ns: 20 };
            estimator.push(&sample);
        }
        let at = |s: i64| estimator.at(RawTime::from_ns(s * 1_000_000_000)).expect("20 samples").theta_sigma_ns;
        assert!(at(20) < at(60) && at(60) < at(600));
    }
}
