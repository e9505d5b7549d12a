//! What the agent has seen since it started, as histograms; `truebound report` prints them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use truebound_core::report::AgentReport;

/// Largest value kept, ns: an hour.
const MAX_NS: u64 = 3_600_000_000_000;

/// A histogram of ns, two significant digits.
#[derive(Debug, Clone)]
pub(crate) struct Ns(Histogram<u64>);

impl Ns {
    pub(crate) fn new() -> Self {
        // Bounds and digits are constants that the library accepts.
        Ns(Histogram::new_with_bounds(1, MAX_NS, 2).unwrap_or_else(|_| unreachable!("legal histogram bounds")))
    }

    /// Adds a value; its sign is dropped.
    pub(crate) fn record(&mut self, ns: i64) {
        self.0.saturating_record(ns.unsigned_abs().max(1));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn at(&self, percent: f64) -> u64 {
        self.0.value_at_quantile(percent / 100.0)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "p50": self.at(50.0), "p90": self.at(90.0), "p99": self.at(99.0), "p999": self.at(99.9),
            "max": self.0.max(), "count": self.count(),
        })
    }

    /// Bars over powers of two, the widest `width` characters long.
    pub(crate) fn bars(&self, width: usize) -> String {
        let buckets = self.buckets();
        let most = buckets.iter().map(|&(_, count)| count).max().unwrap_or(1).max(1);
        let mut text = String::new();
        for (upper, count) in buckets {
            let length = usize::try_from(count.saturating_mul(width as u64).div_ceil(most)).unwrap_or(width);
            text += &format!("  ≤ {:>9} {:>9}  {}\n", show_ns(upper), count, "█".repeat(length));
        }
        text
    }

    /// Counts between powers of two of ns, from the first to the last that are not empty.
    fn buckets(&self) -> Vec<(u64, u64)> {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for value in self.0.iter_recorded() {
            let upper = value.value_iterated_to().next_power_of_two();
            *counts.entry(upper).or_insert(0) += value.count_at_value();
        }
        let (Some((&first, _)), Some((&last, _))) = (counts.first_key_value(), counts.last_key_value()) else {
            return Vec::new();
        };
        let uppers =
            std::iter::successors(Some(first), |upper| upper.checked_mul(2)).take_while(|&upper| upper <= last);
        uppers.map(|upper| (upper, counts.get(&upper).copied().unwrap_or(0))).collect()
    }
}

/// A number of ns for people.
pub(crate) fn show_ns(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = ns as f64;
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} µs", value / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.1} s", value / 1e9),
    }
}

/// A signed number of ns for people.
pub(crate) fn show_signed_ns(ns: i64) -> String {
    format!("{}{}", if ns < 0 { '-' } else { '+' }, show_ns(ns.unsigned_abs()))
}

/// Histograms of one source.
#[derive(Debug, Clone)]
struct OfSource {
    delay: Ns,
    local_ahead: Ns,
    local_behind: Ns,
    half_width: Ns,
}

/// Everything that is recorded.
#[derive(Debug)]
pub(crate) struct Recorder {
    half_width: Ns,
    sigma: Ns,
    sources: BTreeMap<String, OfSource>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Recorder { half_width: Ns::new(), sigma: Ns::new(), sources: BTreeMap::new() }
    }

    /// Takes a sample of what the agent believes.
    pub(crate) fn sample(&mut self, report: &AgentReport) {
        if let Some(edges) = report.bound.and_then(|bound| bound.edges_at(report.at.as_ns()).ok()) {
            self.half_width.record((edges.hi_ns - edges.lo_ns) / 2);
        }
        if let Some(estimate) = report.estimate {
            self.sigma.record(estimate.theta_sigma_ns);
        }
        for source in report.sources.iter().filter(|source| source.age_ns.is_some()) {
            let fresh = || OfSource {
                delay: Ns::new(),
                local_ahead: Ns::new(),
                local_behind: Ns::new(),
                half_width: Ns::new(),
            };
            let of_source = self.sources.entry(source.name.clone()).or_insert_with(fresh);
            of_source.delay.record(source.delay_ns);
            match source.offset_ns {
                Some(offset) if offset >= 0 => of_source.local_ahead.record(offset),
                Some(offset) => of_source.local_behind.record(offset),
                None => {}
            }
            source.half_width_ns.into_iter().for_each(|half_width| of_source.half_width.record(half_width));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let sources: serde_json::Map<String, Value> = self
            .sources
            .iter()
            .map(|(name, of)| {
                let value = json!({
                    "delay_ns": of.delay.to_json(), "local_ahead_ns": of.local_ahead.to_json(),
                    "local_behind_ns": of.local_behind.to_json(), "half_width_ns": of.half_width.to_json(),
                });
                (name.clone(), value)
            })
            .collect();
        json!({
            "half_width_ns": self.half_width.to_json(), "estimate_sigma_ns": self.sigma.to_json(),
            "sources": sources, "text": self.to_text(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = section("half-width of the published bound", &self.half_width);
        text += &section("standard uncertainty of the estimate", &self.sigma);
        for (name, of) in &self.sources {
            text += &section(&format!("{name}: round trip"), &of.delay);
            text += &section(&format!("{name}: offset, local ahead"), &of.local_ahead);
            text += &section(&format!("{name}: offset, local behind"), &of.local_behind);
            text += &section(&format!("{name}: half-width of its own region"), &of.half_width);
        }
        text
    }
}

/// A titled histogram, or nothing if it is empty.
pub(crate) fn section(title: &str, histogram: &Ns) -> String {
    if histogram.count() == 0 {
        return String::new();
    }
    let percentile = |percent: f64| show_ns(histogram.at(percent));
    format!(
        "{title}: {} samples, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}\n{}",
        histogram.count(),
        percentile(50.0),
        percentile(90.0),
        percentile(99.0),
        percentile(99.9),
        percentile(100.0),
        histogram.bars(50),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_run_from_the_first_to_the_last_bucket_without_gaps() {
        let mut histogram = Ns::new();
        [3, 3, 3, 100].into_iter().for_each(|ns| histogram.record(ns));
        let bars = histogram.bars(30);
        let lines: Vec<&str> = bars.lines().collect();
        assert_eq!(lines.len(), 6, "4, 8, 16, 32, 64, 128:\n{bars}");
        assert_eq!(lines[0].matches('█').count(), 30);
        assert_eq!(lines[1].matches('█').count(), 0);
        assert_eq!(lines[5].matches('█').count(), 10);
    }

    #[test]
    fn numbers_are_shown_with_three_digits_or_so() {
        assert_eq!(show_ns(999), "999 ns");
        assert_eq!(show_ns(12_345), "12.3 µs");
        assert_eq!(show_signed_ns(-12_345_678), "-12.3 ms");
    }
}
