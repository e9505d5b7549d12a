//! What an error was over a run and over seeds: percentiles of its magnitude, the greatest, the root mean square.

use hdrhistogram::Histogram;

/// Collects errors in little memory: magnitudes are kept to 0.1 %, the greatest exactly.
#[derive(Clone, Debug)]
pub struct Errors {
    magnitudes: Histogram<u64>,
    max_ns: u64,
    squares: f64,
}

impl Default for Errors {
    fn default() -> Self {
        let magnitudes = Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are between 0 and 5"));
        Errors { magnitudes, max_ns: 0, squares: 0.0 }
    }
}

impl Errors {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One error, of either sign.
    pub fn record(&mut self, error_ns: i64) {
        let magnitude_ns = error_ns.unsigned_abs();
        self.magnitudes.record(magnitude_ns).unwrap_or_else(|_| unreachable!("a growing histogram takes any value"));
        self.max_ns = self.max_ns.max(magnitude_ns);
        self.squares += magnitude_ns as f64 * magnitude_ns as f64;
    }

    /// Those of another run as well.
    pub fn add(&mut self, other: &Errors) {
        self.magnitudes.add(&other.magnitudes).unwrap_or_else(|_| unreachable!("a growing histogram takes any value"));
        self.max_ns = self.max_ns.max(other.max_ns);
        self.squares += other.squares;
    }

    /// None if nothing was recorded.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let count = self.magnitudes.len();
        let quantile = |q| self.magnitudes.value_at_quantile(q).min(self.max_ns) as f64;
        (count > 0).then(|| Summary {
            count,
            p50_ns: quantile(0.5),
            p90_ns: quantile(0.9),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns: self.max_ns as f64,
            rms_ns: (self.squares / count as f64).sqrt(),
        })
    }
}

impl Extend<i64> for Errors {
    fn extend<I: IntoIterator<Item = i64>>(&mut self, errors_ns: I) {
        errors_ns.into_iter().for_each(|error_ns| self.record(error_ns));
    }
}

/// The magnitude of an error, in figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many errors.
    pub count: u64,
    /// Half of them are at most this.
    pub p50_ns: f64,
    /// 90 % are.
    pub p90_ns: f64,
    /// 99 % are.
    pub p99_ns: f64,
    /// 99.9 % are.
    pub p999_ns: f64,
    /// All are.
    pub max_ns: f64,
    /// Root mean square.
    pub rms_ns: f64,
}

impl Summary {
    /// Over seeds: the median of each figure, but the worst seed's maximum and the number of all errors.
    #[must_use]
    pub fn over_seeds(seeds: &[Summary]) -> Option<Summary> {
        let of = |figure: fn(&Summary) -> f64| median(seeds.iter().map(figure).collect());
        Some(Summary {
            count: seeds.iter().map(|seed| seed.count).sum(),
            p50_ns: of(|seed| seed.p50_ns)?,
            p90_ns: of(|seed| seed.p90_ns)?,
            p99_ns: of(|seed| seed.p99_ns)?,
            p999_ns: of(|seed| seed.p999_ns)?,
            max_ns: seeds.iter().map(|seed| seed.max_ns).fold(0.0, f64::max),
            rms_ns: of(|seed| seed.rms_ns)?,
        })
    }
}

/// The middle value; of an even number the mean of the two in the middle; None of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| 0.5 * (values[(n - 1) / 2] + values[n / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_errors() {
        assert_eq!(Errors::new().summary(), None);
        let (mut errors, mut rest) = (Errors::new(), Errors::new());
        errors.extend((1..=600).map(|n: i64| if n % 2 == 0 { n * 1000 } else { -n * 1000 }));
        rest.extend((601..=1000).map(|n: i64| n * 1000));
        errors.add(&rest);
        let summary = errors.summary().expect("errors");
        assert_eq!((summary.count, summary.max_ns), (1000, 1e6));
        for (figure, expected) in [
            (summary.p50_ns, 500e3),
            (summary.p90_ns, 900e3),
            (summary.p99_ns, 990e3),
            (summary.p999_ns, 999e3),
            (summary.rms_ns, (1001.0f64 * 2001.0 / 6.0).sqrt() * 1e3),
        ] {
            assert!((figure / expected - 1.0).abs() < 1.1e-3, "{figure}, not {expected}");
        }
    }

    #[test]
    fn over_seeds_medians_and_the_worst_maximum() {
        let seed = |x: f64| Summary {
            count: 10,
            p50_ns: x,
            p90_ns: x,
            p99_ns: 2.0 * x,
            p999_ns: x,
            max_ns: 3.0 * x,
            rms_ns: x,
        };
        let all = Summary::over_seeds(&[seed(5.0), seed(1.0), seed(100.0), seed(2.0)]).expect("seeds");
        assert_eq!((all.count, all.p50_ns, all.p99_ns, all.max_ns), (40, 3.5, 7.0, 300.0));
        assert_eq!(Summary::over_seeds(&[]), None);
    }
}
