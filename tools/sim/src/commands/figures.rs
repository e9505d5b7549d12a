//! The figures that every run ends with, under the names and in the units of our contract.

use hdrhistogram::Histogram;
use serde::Serialize;
use truebound_sim::checker::{Quantiles, Samples};
use truebound_sim::scenario::Outcome;

/// See the module's page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) reads: u64,
    pub(crate) violations: u64,
    pub(crate) error_ns: QuantilesNs,
    pub(crate) half_width_ns: QuantilesNs,
    /// 99 % of |ω̂ − ω|.
    pub(crate) freq_error_ppm: f64,
    pub(crate) first_bound_ms: Option<f64>,
    pub(crate) seed: u64,
}

/// Quantiles in whole nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct QuantilesNs {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl QuantilesNs {
    fn of_us(us: &Quantiles) -> Self {
        let ns = |us: f64| (us * 1e3).round() as u64;
        QuantilesNs { p50: ns(us.p50), p90: ns(us.p90), p99: ns(us.p99), p999: ns(us.p999), max: ns(us.max) }
    }

    fn of(ns: &Histogram<u64>) -> Self {
        let at = |share: f64| ns.value_at_quantile(share);
        QuantilesNs { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: ns.max() }
    }
}

impl Figures {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        Figures {
            reads: outcome.reads,
            violations: outcome.violations,
            error_ns: QuantilesNs::of_us(&outcome.error_us),
            half_width_ns: QuantilesNs::of_us(&outcome.half_width_us),
            freq_error_ppm: outcome.freq_error.p99_ppm,
            first_bound_ms: outcome.first_bound_ms,
            seed: outcome.seed,
        }
    }
}

/// Samples of many worlds: more of them than a world's own counters hold.
pub(crate) struct Many {
    error_ns: Histogram<u64>,
    half_width_ns: Histogram<u64>,
    freq_error_fs: Histogram<u64>,
    first_bound_ms: Option<f64>,
}

impl Many {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 1 << 50, 2).expect("two digits of 2^50 fit");
        Many { error_ns: histogram(), half_width_ns: histogram(), freq_error_fs: histogram(), first_bound_ms: None }
    }

    pub(crate) fn add(&mut self, samples: &Samples, first_bound_ms: Option<f64>) {
        add(&mut self.error_ns, &samples.error_ns);
        add(&mut self.half_width_ns, &samples.half_width_ns);
        add(&mut self.freq_error_fs, &samples.freq_error_fs);
        self.first_bound_ms = self.first_bound_ms.into_iter().chain(first_bound_ms).reduce(f64::max);
    }

    pub(crate) fn figures(&self, reads: u64, violations: u64, seed: u64) -> Figures {
        Figures {
            reads,
            violations,
            error_ns: QuantilesNs::of(&self.error_ns),
            half_width_ns: QuantilesNs::of(&self.half_width_ns),
            freq_error_ppm: self.freq_error_fs.value_at_quantile(0.99) as f64 * 1e-9,
            first_bound_ms: self.first_bound_ms,
            seed,
        }
    }
}

fn add(all: &mut Histogram<u64>, some: &Histogram<u32>) {
    for value in some.iter_recorded() {
        all.saturating_record_n(value.value_iterated_to(), u64::from(value.count_at_value()));
    }
}
