//! The two-state filter that all estimators end in: θ and ω, with a random walk of frequency.
//!
//! State x = (θ, ω):  θ(t + δ) = θ + ω·δ. Between measurements the covariance grows by white frequency noise and by the
//! random walk q of ω,
//!
//! ```text
//! P₀₀ += 2δ·P₀₁ + δ²·P₁₁ + σ_f²·δ + q·δ³/3      P₀₁ += δ·P₁₁ + q·δ²/2      P₁₁ += q·δ
//! ```
//! and a measurement z of θ with variance R corrects by K = (P₀₀, P₀₁)/(P₀₀ + R).

use crate::time::RawTime;
use crate::units::{to_f64, to_i64};

/// White frequency noise of a common crystal, s per √s.
pub(crate) const WHITE_FM: f64 = 1e-9;

/// The greatest doubt of ω that a surprise can raise: Ω.
const RATE_DOUBT_MAX: f64 = 1e-3;

/// Covariance of (θ, ω), s and s/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Covariance {
    pub(crate) p00: f64,
    pub(crate) p01: f64,
    pub(crate) p11: f64,
}

/// See the module's page. θ = `base_ns` + `theta`: the base keeps what f64 has to carry small.
#[derive(Clone, Debug)]
pub(crate) struct Kalman {
    pub(crate) t: RawTime,
    pub(crate) base_ns: i64,
    pub(crate) theta: f64,
    pub(crate) omega: f64,
    pub(crate) p: Covariance,
    /// Random walk of frequency, (s/s)²/s.
    pub(crate) q: f64,
}

impl Kalman {
    /// Seconds from the state's instant to `t`.
    pub(crate) fn since(&self, t: RawTime) -> f64 {
        to_f64(t.ns_since(self.t)) * 1e-9
    }

    /// `ns` of θ relative to the base, s.
    pub(crate) fn residual(&self, ns: i64) -> f64 {
        to_f64(ns.saturating_sub(self.base_ns)) * 1e-9
    }

    /// θ at `t` relative to the base, s.
    pub(crate) fn theta_at(&self, t: RawTime) -> f64 {
        self.theta + self.omega * self.since(t)
    }

    /// θ at `t`, ns.
    pub(crate) fn theta_ns_at(&self, t: RawTime) -> i64 {
        self.base_ns.saturating_add(to_i64((self.theta_at(t) * 1e9).round()))
    }

    /// The covariance after δ more seconds.
    pub(crate) fn covariance_after(&self, delta: f64) -> Covariance {
        let (Covariance { p00, p01, p11 }, q) = (self.p, self.q);
        let walk = WHITE_FM * WHITE_FM * delta + q * delta * delta * delta / 3.0;
        Covariance {
            p00: p00 + 2.0 * delta * p01 + delta * delta * p11 + walk,
            p01: p01 + delta * p11 + q * delta * delta / 2.0,
            p11: p11 + q * delta,
        }
    }

    /// Lets time pass until `t`.
    pub(crate) fn predict(&mut self, t: RawTime) {
        let delta = self.since(t);
        self.p = self.covariance_after(delta);
        self.theta += self.omega * delta;
        self.t = t;
    }

    /// Takes z − θ with variance R.
    pub(crate) fn correct(&mut self, innovation: f64, r: f64) {
        let Covariance { p00, p01, p11 } = self.p;
        let variance = p00 + r;
        if !(variance > 0.0 && innovation.is_finite()) {
            return; // nothing that could be learnt from
        }
        let (k0, k1) = (p00 / variance, p01 / variance);
        self.theta += k0 * innovation;
        self.omega += k1 * innovation;
        self.p = Covariance { p00: (1.0 - k0) * p00, p01: (1.0 - k0) * p01, p11: p11 - k1 * p01 };
    }

    /// ω may be wrong by this much more, though never by more than an oscillator can be.
    pub(crate) fn doubt_rate(&mut self, by: f64) {
        self.p.p11 = self.p.p11.max((self.p.p11 + by * by).min(RATE_DOUBT_MAX * RATE_DOUBT_MAX));
    }

    /// θ may have moved by this much, at this rate.
    pub(crate) fn open(&mut self, by: f64, rate: f64) {
        let rate = rate.clamp(-RATE_DOUBT_MAX, RATE_DOUBT_MAX);
        self.p.p00 += by * by;
        self.p.p01 += by * rate;
        self.p.p11 += rate * rate;
    }

    /// Moves whole ns of θ into the base. Not while residuals to the old base are kept.
    pub(crate) fn rebase(&mut self) {
        let whole_ns = to_i64((self.theta * 1e9).trunc());
        self.base_ns = self.base_ns.saturating_add(whole_ns);
        self.theta -= to_f64(whole_ns) * 1e-9;
    }
}
