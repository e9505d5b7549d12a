//! Which way the noise points: one-sided (queues: minima are best) or two-sided (stamps: means are best).
//!
//! The strip s = U − L of an exchange does not contain θ, so its distribution can be learnt whatever the clock does.
//! Queueing skews it to the right; symmetric stamp noise does not. Bowley's skewness over the outer twentieths,
//!
//! ```text
//! B = (s₉₅ + s₀₅ − 2·s₅₀)/(s₉₅ − s₀₅)
//! ```
//! is 0 for a symmetric distribution, 0.28 for the sum of four exponentials, 0.40 for two. From 512 normal strips it is
//! known within 0.05, so the two limits below are four of these from either side. Where noise is two-sided, U and L err
//! independently and z = (U + L)/2 has half the standard deviation of s.
//!
//! At one exchange a second that takes eight minutes. From fewer it is known within 1/√n only, and two more witnesses are
//! asked: queues have a floor, so the least strip is near, D = (s₅₀ − s₀)/(s₉₅ − s₅₀) < 1 while 48 normal ones say
//! 1.57 ± 0.49; and the moments' skewness. Of 48 normal strips two in three pass, of sums of four exponentials one in 40,
//! of two one in 500.
//!
//! A queue that never empties, as a bulk flow keeps one, is symmetric too: its saw spends as long at the bottom as at the
//! top. But it is not white. Successive stamps err independently, so successive strips lie on the same side of the median
//! as often as not; successive packets meet almost the same queue, and then they nearly always do.

use super::recent::Recent;

/// Strips remembered.
const REMEMBERED: usize = 1024;
/// Strips before anything is said, and before it is said by the first witness alone.
const FEW: usize = 48;
const ENOUGH: usize = 512;
/// Strips between two judgements, of few and of enough.
const FEW_JUDGED_EVERY: u32 = 16;
const JUDGED_EVERY: u32 = 64;
/// Two-sided below the first, one-sided again above the second.
const SKEWNESS: (f64, f64) = (0.08, 0.2);
/// From few strips: greatest B, least D, greatest skewness of moments.
const OF_FEW: (f64, f64, f64) = (0.1, 1.15, 0.25);
/// s₉₅ − s₀₅ of a normal distribution in standard deviations.
const WIDTH_IN_SIGMAS: f64 = 3.29;
/// Share of successive strips on the same side of the median beyond which they are no noise of stamps: of 512 independent
/// ones it is ½ ± 0.022.
const SAME_SIDE: f64 = 0.65;
/// Strips further from the median than this many standard deviations are queues, whatever the rest is.
const OUTLIER_SIGMAS: f64 = 3.5;

/// What the strips say when their noise is two-sided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TwoSided {
    /// Their median, s.
    pub(crate) median: f64,
    /// Their standard deviation, s.
    pub(crate) sigma: f64,
}

impl TwoSided {
    /// Does this strip belong to the noise, and not to a queue?
    pub(crate) fn is_ordinary(&self, strip: f64) -> bool {
        (strip - self.median).abs() <= OUTLIER_SIGMAS * self.sigma
    }
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Strips {
    recent: Recent<REMEMBERED>,
    verdict: Option<TwoSided>,
}

impl Strips {
    pub(crate) const fn new() -> Self {
        Strips { recent: Recent::new(), verdict: None }
    }

    /// The path is another one now.
    pub(crate) fn clear(&mut self) {
        *self = Strips::new();
    }

    pub(crate) fn push(&mut self, strip: f64) {
        let every = if self.recent.len() < ENOUGH { FEW_JUDGED_EVERY } else { JUDGED_EVERY };
        if let Some(sorted) = self.recent.push(strip, FEW, every) {
            self.judge(&sorted);
        }
    }

    pub(crate) fn two_sided(&self) -> Option<&TwoSided> {
        self.verdict.as_ref()
    }

    fn judge(&mut self, sorted: &[f64]) {
        let twentieth = |k: usize| sorted[(sorted.len() - 1) * k / 20];
        let (s05, s50, s95) = (twentieth(1), twentieth(10), twentieth(19));
        let skewness = (s95 + s05 - 2.0 * s50) / (s95 - s05);
        let is_symmetric = if self.verdict.is_some() {
            skewness < SKEWNESS.1
        } else if sorted.len() < ENOUGH {
            let (most, least, moments) = OF_FEW;
            let depth = (s50 - sorted[0]) / (s95 - s50);
            skewness < most && depth > least && moment_skewness(sorted) < moments
        } else {
            skewness < SKEWNESS.0
        };
        // Without any spread 0/0 is no number and no verdict.
        self.verdict = (is_symmetric && self.is_white(s50))
            .then(|| TwoSided { median: s50, sigma: (s95 - s05) / WIDTH_IN_SIGMAS });
    }

    /// Do successive strips not know of each other?
    fn is_white(&self, median: f64) -> bool {
        let sides: Vec<bool> = self.recent.by_age().map(|strip| strip > median).collect();
        let (mut pairs, mut same) = (0.0, 0.0);
        for pair in sides.windows(2) {
            pairs += 1.0;
            same += f64::from(u8::from(pair[0] == pair[1]));
        }
        same <= SAME_SIDE * pairs
    }
}

/// Third central moment over σ³.
fn moment_skewness(values: &[f64]) -> f64 {
    let n = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
    let mean = values.iter().sum::<f64>() / n;
    let (mut second, mut third) = (0.0, 0.0);
    for value in values {
        let d = value - mean;
        second += d * d / n;
        third += d * d * d / n;
    }
    third / (second * second.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::noise::Noise;

    /// What a law of strips makes of `count` of them, in how many of 400 seeds: two-sided or not.
    fn two_sided_in(count: usize, law: impl Fn(&mut Noise) -> f64) -> usize {
        (0..400)
            .filter(|&seed| {
                let (mut noise, mut strips) = (Noise::new(seed), Strips::new());
                (0..count).for_each(|_| strips.push(law(&mut noise)));
                strips.two_sided().is_some()
            })
            .count()
    }

    #[test]
    fn few_strips_tell_noise_of_stamps_from_queues() {
        let normal = Noise::normal;
        let exponentials = |count: usize| move |noise: &mut Noise| (0..count).map(|_| noise.exponential()).sum::<f64>();
        assert_eq!(two_sided_in(FEW - 1, normal), 0);
        // Nine in ten are found out within twice as many, all with enough.
        let found = (two_sided_in(2 * FEW, normal), two_sided_in(1024, normal));
        assert!(found.0 > 320 && found.1 > 395, "{found:?}");
        // Two queues hardly ever pass, four seldom, and not for long.
        let passed = (two_sided_in(2 * FEW, exponentials(2)), two_sided_in(2 * FEW, exponentials(4)));
        assert!(passed.0 <= 4 && passed.1 <= 40, "{passed:?}");
        let passed = (two_sided_in(1024, exponentials(2)), two_sided_in(1024, exponentials(4)));
        assert_eq!(passed, (0, 0));
    }
}
