//! Samples in nanoseconds, how they are taken, their percentiles, and how a table shows them.

use std::time::{Duration, Instant};

/// A bag of samples, ns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<i64>);

impl Samples {
    pub(crate) fn push(&mut self, ns: i64) {
        self.0.push(ns);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn last(&self) -> Option<i64> {
        self.0.last().copied()
    }

    pub(crate) fn median(&self) -> i64 {
        self.percentile(50)
    }

    pub(crate) fn max(&self) -> i64 {
        self.percentile(100)
    }

    /// The sample that `percent` of all samples do not exceed; 0 of an empty bag.
    pub(crate) fn percentile(&self, percent: usize) -> i64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(0)
    }
}

/// Microseconds with three decimals, right-aligned in a column of the tables.
pub(crate) fn us(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{:>12}", format!("{sign}{}.{:03}", ns / 1000, ns % 1000))
}

/// The head of a table of [`row`]s.
pub(crate) fn heading() {
    println!("{:<36}{:>12} {:>12} {:>12}", "µs", "p50", "p99", "max");
}

pub(crate) fn row(name: &str, samples: &Samples) {
    println!("{name:<36}{} {} {}", us(samples.median()), us(samples.percentile(99)), us(samples.max()));
}

/// Calls `sample` once per `period` for `duration`.
pub(crate) fn every(period: Duration, duration: Duration, mut sample: impl FnMut()) {
    let end = Instant::now() + duration;
    let mut due = Instant::now();
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sample();
        due += period;
    }
}

/// Half, rounded up: a bound is never rounded down.
pub(crate) fn half(ns: i64) -> i64 {
    (ns + 1).div_euclid(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample() {
        let mut samples = Samples::default();
        (1..=200).for_each(|ns| samples.push(ns));
        assert_eq!([50, 99, 100].map(|percent| samples.percentile(percent)), [100, 198, 200]);
    }
}
