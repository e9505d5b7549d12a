//! Coded probes (HUYGENS): two requests sent s apart are *pure* in a direction if they arrive s apart.
//!
//! With d the one-way delay of each packet, (arrival gap) − (departure gap) = d₂ − d₁ (+ ω·s, negligible). Equal delays
//! mean that neither met a queue, or both met the same one; either way the pair says little against itself. Forward
//! purity compares the server's receive stamps with our transmit stamps, reverse purity our receive stamps with the
//! server's transmit stamps, so any standard server with good stamps will do. U = t2 − T1 and L = t3 − T4 hold just these
//! gaps: U₂ − U₁ forward, L₁ − L₂ back.
//!
//! What counts as equal is learned from the stamps: the lowest tenth of all |differences| is noise rather than queues even
//! where few pairs are pure, and the threshold is a multiple of it.

use super::Exchange;
use super::recent::Recent;
use crate::units::to_f64;

/// Differences remembered per direction.
const REMEMBERED: usize = 128;
/// Pairs before the threshold is learned.
const ENOUGH: usize = 32;
/// Pairs between two lessons.
const LEARNED_EVERY: u32 = 16;
/// The threshold in units of the lower decile of |differences|, which is 0.126 σ for normal noise: 1.5 σ.
const DECILES: f64 = 12.0;
/// The threshold is between these, s: the resolution of good stamps, and HUYGENS' scale of software stamps.
const THRESHOLD_MIN: f64 = 24e-9;
const THRESHOLD_MAX: f64 = 2e-6;
/// Before anything is learned, s.
const THRESHOLD_FIRST: f64 = 40e-9;
/// Weight of the newest verdict in the pure ratio.
const RATIO_WEIGHT: f64 = 1.0 / 64.0;

/// Which directions of a pair were pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purity {
    /// From us to the server.
    pub forward: bool,
    /// From the server to us.
    pub reverse: bool,
}

impl Purity {
    /// Met no queue either way.
    pub(crate) const BOTH: Purity = Purity { forward: true, reverse: true };
}

/// Differences of one direction.
#[derive(Clone, Debug)]
struct Learner {
    recent: Recent<REMEMBERED>,
    threshold: f64,
}

impl Learner {
    fn judge(&mut self, difference: f64) -> bool {
        let size = difference.abs();
        if let Some(sorted) = self.recent.push(size, ENOUGH, LEARNED_EVERY) {
            self.threshold = (DECILES * sorted[sorted.len() / 10]).clamp(THRESHOLD_MIN, THRESHOLD_MAX);
        }
        size <= self.threshold
    }
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    forward: Learner,
    reverse: Learner,
}

impl Codes {
    pub(crate) fn new() -> Self {
        let learner = Learner { recent: Recent::new(), threshold: THRESHOLD_FIRST };
        Codes { forward: learner.clone(), reverse: learner }
    }

    /// Judges a pair, first and second.
    pub(crate) fn judge(&mut self, first: &Exchange, second: &Exchange) -> Purity {
        let seconds = |ns: i64| to_f64(ns) * 1e-9;
        Purity {
            forward: self.forward.judge(seconds(second.upper_ns.saturating_sub(first.upper_ns))),
            reverse: self.reverse.judge(seconds(first.lower_ns.saturating_sub(second.lower_ns))),
        }
    }
}

/// The share of one-way probes that met no queue, smoothed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PureRatio {
    weight: f64,
    sum: f64,
}

impl PureRatio {
    pub(crate) fn count(&mut self, is_pure: bool) {
        self.weight += RATIO_WEIGHT * (1.0 - self.weight);
        self.sum += RATIO_WEIGHT * (f64::from(u8::from(is_pure)) - self.sum);
    }

    /// In 0..=1; `None` before the first probe.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::RawTime;

    fn exchange(forward_ns: i64, back_ns: i64) -> Exchange {
        let t = RawTime::from_ns(0);
        Exchange { t1: t, t4: t, upper_ns: forward_ns, lower_ns: -back_ns, stamp_ns: 4, pair: Some(1) }
    }

    #[test]
    fn a_queue_in_one_direction_spoils_that_direction_only() {
        let mut codes = Codes::new();
        let purity = codes.judge(&exchange(10_000, 10_000), &exchange(10_010, 14_000));
        assert_eq!(purity, Purity { forward: true, reverse: false });
    }

    #[test]
    fn the_threshold_follows_the_noise_of_the_stamps() {
        let mut codes = Codes::new();
        // Software stamps: differences up to ±1.5 µs are noise.
        for k in 0..200i64 {
            codes.judge(&exchange(10_000, 10_000), &exchange(10_000 + k * 7919 % 3_000 - 1_500, 10_000));
        }
        assert!(codes.judge(&exchange(10_000, 10_000), &exchange(11_000, 10_000)).forward);
        assert!(!codes.judge(&exchange(10_000, 10_000), &exchange(13_000, 10_000)).forward);
    }

    #[test]
    fn the_ratio_is_a_share_from_the_first_probe_on() {
        let mut ratio = PureRatio::default();
        assert_eq!(ratio.value(), None);
        ratio.count(true);
        assert_eq!(ratio.value(), Some(1.0));
        (0..1000).for_each(|k| ratio.count(k % 4 == 0));
        assert!((ratio.value().expect("counted") - 0.25).abs() < 0.1);
    }
}
