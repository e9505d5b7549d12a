//! Signed samples in ns and the three figures a table shows of them.

use std::fmt;

#[derive(Default)]
pub(crate) struct Samples(Vec<i64>);

impl Samples {
    pub(crate) fn push(&mut self, ns: i64) {
        self.0.push(ns);
    }

    /// The middle one, with its sign.
    pub(crate) fn median(&self) -> Option<i64> {
        rank(&self.0, 50)
    }

    /// Regardless of sign.
    fn largest(&self, percent: usize) -> Option<i64> {
        let sizes: Vec<i64> = self.0.iter().map(|ns| ns.abs()).collect();
        rank(&sizes, percent)
    }

    /// `NAME_median_ns=… NAME_p99_ns=… NAME_max_ns=…`; the last two regardless of sign.
    pub(crate) fn figures(&self, name: &str) -> String {
        let [median, p99, max] = [self.median(), self.largest(99), self.largest(100)].map(Shown);
        format!("{name}_median_ns={median} {name}_p99_ns={p99} {name}_max_ns={max}")
    }
}

/// The sample that `percent` of all samples do not exceed.
fn rank(samples: &[i64], percent: usize) -> Option<i64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// `-` where there is nothing.
pub(crate) struct Shown(pub(crate) Option<i64>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ns) => write!(f, "{ns}"),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_keeps_its_sign_and_the_extremes_do_not() {
        let mut samples = Samples::default();
        (-200..=-1).for_each(|ns| samples.push(ns));
        assert_eq!(samples.figures("x"), "x_median_ns=-101 x_p99_ns=198 x_max_ns=200");
    }

    #[test]
    fn nothing_is_a_dash() {
        assert_eq!(Samples::default().figures("x"), "x_median_ns=- x_p99_ns=- x_max_ns=-");
    }
}
