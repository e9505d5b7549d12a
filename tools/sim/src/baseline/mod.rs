//! What others would have made of the same exchanges: the estimators every figure is compared with.
//!
//! Each is causal, knows the raw clock only and steers nothing: it is given exchanges as they end and asked for
//! θ = true − raw at any later instant.

mod chrony;
mod pi;

pub use chrony::ChronySettings;

use chrony::Chrony;
use pi::Pi;
use std::collections::VecDeque;

/// One exchange against the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Departure of the request, raw.
    pub t1_ns: i64,
    /// Arrival of the reply, raw.
    pub t4_ns: i64,
    /// θ at `t1` and the way there: t2 − t1.
    pub upper_ns: i64,
    /// θ at `t4` less the way back: t3 − t4.
    pub lower_ns: i64,
}

/// An exchange in seconds since the first and θ relative to its.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    t1_s: f64,
    t4_s: f64,
    upper_s: f64,
    lower_s: f64,
}

impl Exchange {
    fn middle_s(&self) -> f64 {
        0.5 * (self.t1_s + self.t4_s)
    }

    fn theta_s(&self) -> f64 {
        0.5 * (self.upper_s + self.lower_s)
    }

    /// Round trip without the time at the server.
    fn delay_s(&self) -> f64 {
        self.upper_s - self.lower_s
    }
}

/// The estimator behind a [`Baseline`].
trait Law: std::fmt::Debug {
    fn push(&mut self, exchange: &Exchange);
    fn at(&self, raw_s: f64) -> Option<f64>;
    fn half_width_at(&self, _raw_s: f64) -> Option<f64> {
        None
    }
}

/// An estimator others use.
#[derive(Debug)]
pub struct Baseline {
    name: &'static str,
    origin: Option<Origin>,
    law: Box<dyn Law>,
}

#[derive(Clone, Copy, Debug)]
struct Origin {
    raw_ns: i64,
    theta_ns: i64,
}

impl Baseline {
    /// The last exchange, carried on at `drift`, the nominal rate of θ.
    #[must_use]
    pub fn raw(drift: f64) -> Self {
        Self::new("last exchange", ClockFilter { keep: 1, drift, kept: VecDeque::new() })
    }

    /// The clock filter: of the last 8 exchanges the one with the least delay, carried on at `drift`.
    #[must_use]
    pub fn min_of_8(drift: f64) -> Self {
        Self::new("least delay of 8", ClockFilter { keep: 8, drift, kept: VecDeque::new() })
    }

    /// chrony's weighted regression over up to 64 samples.
    #[must_use]
    pub fn chrony(settings: ChronySettings) -> Self {
        Self::new("chrony", Chrony::new(settings))
    }

    /// A PI servo with the gains of ptp4l and a median of 10 delays, at `rate` exchanges a second, started at `drift`.
    #[must_use]
    pub fn pi(rate: f64, hardware: bool, drift: f64) -> Self {
        Self::new("PI servo", Pi::new(rate, hardware, drift))
    }

    fn new(name: &'static str, law: impl Law + 'static) -> Self {
        Baseline { name, origin: None, law: Box::new(law) }
    }

    /// What a table calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// An exchange has ended.
    pub fn push(&mut self, sample: &Sample) {
        let origin = *self.origin.get_or_insert(Origin { raw_ns: sample.t1_ns, theta_ns: sample.upper_ns });
        let seconds = |ns: i64, from_ns: i64| (ns - from_ns) as f64 / 1e9;
        self.law.push(&Exchange {
            t1_s: seconds(sample.t1_ns, origin.raw_ns),
            t4_s: seconds(sample.t4_ns, origin.raw_ns),
            upper_s: seconds(sample.upper_ns, origin.theta_ns),
            lower_s: seconds(sample.lower_ns, origin.theta_ns),
        });
    }

    /// The estimate of θ at a raw instant, ns.
    #[must_use]
    pub fn at(&self, raw_ns: i64) -> Option<i64> {
        let origin = self.origin?;
        let theta_s = self.law.at((raw_ns - origin.raw_ns) as f64 / 1e9)?;
        Some(origin.theta_ns + (theta_s * 1e9).round() as i64)
    }

    /// The half-width it would claim there, ns; chrony alone claims one: its root distance.
    #[must_use]
    pub fn half_width_at(&self, raw_ns: i64) -> Option<i64> {
        let half_s = self.law.half_width_at((raw_ns - self.origin?.raw_ns) as f64 / 1e9)?;
        Some((half_s * 1e9).round() as i64)
    }
}

/// Of the last exchanges the one with the least delay.
#[derive(Debug)]
struct ClockFilter {
    keep: usize,
    drift: f64,
    kept: VecDeque<Exchange>,
}

impl Law for ClockFilter {
    fn push(&mut self, exchange: &Exchange) {
        if self.kept.len() == self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(*exchange);
    }

    fn at(&self, raw_s: f64) -> Option<f64> {
        let newest = *self.kept.back()?;
        let best =
            self.kept.iter().fold(newest, |best, next| if next.delay_s() < best.delay_s() { *next } else { best });
        Some(best.theta_s() + self.drift * (raw_s - best.middle_s()))
    }
}
