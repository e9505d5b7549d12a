//! One PTP hardware clock against raw time: a relation of its own, with its error and its drift.
//!
//! Every reading says: the PHC showed P at a raw instant in [before, after]. For proofs a stamp is mapped by
//! [`Correlation`], with the PHC's rate known only as far as assumptions go: its crystal and the one under raw time
//! against each other while nobody steers it (the dialled frequency stays the same), its driver's limits otherwise. For
//! the estimate a line through the readings is better: with p = PHC − origin and r = middle of the reading,
//!
//! ```text
//! r − p = a + b·p      weighted by 1/width², so that b is the drift and the residuals are the error
//! ```
//! A PHC that was stepped or steered starts a new line.

use std::collections::VecDeque;

use crate::correlation::{Correlation, Mapped, Margins};
use crate::io::{CrossReading, KernelRate, PhcReading, Setting};
use crate::time::{NS_PER_S, PhcTime, RawSpan, RawTime};
use crate::units::{FreqError, to_f64, to_i64};

/// Readings that the line goes through, and how old they may be, ns.
const LINE_READINGS: usize = 64;
const LINE_SPAN_NS: i64 = 8 * NS_PER_S;
/// Two readings this far apart, ns, tell the drift; before that it counts as none.
const DRIFT_SPAN_NS: i64 = NS_PER_S / 2;
/// A NIC's crystal is within 100 ppm (IEEE 802.3), and drivers dial in steps of some tens of ppm at worst.
const NIC_CRYSTAL: f64 = 150e-6;
/// A reading this far off the line, beyond its own width and what drifting explains, means that somebody set the PHC, ns.
const STEP_NS: i64 = 5_000;
/// What a known drift may be off by.
const DRIFT_DOUBT: f64 = 1e-6;

/// What is known of a PHC, for status.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhcRelation {
    /// PHC − raw time at its newest reading, ns.
    pub offset_ns: i64,
    /// How fast it runs against raw time.
    pub drift: FreqError,
    /// Root mean square of the readings' residuals, ns.
    pub error_ns: i64,
    /// Width of the newest reading, ns.
    pub window_ns: i64,
    /// Readings that the line goes through.
    pub readings: usize,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Phc {
    correlation: Correlation<PhcTime>,
    line: VecDeque<(PhcTime, RawTime, i64)>,
    dialled: KernelRate,
    fit: Option<Fit>,
}

/// r = p₀-relative line: raw = base + (p − origin) + a + b·(p − origin).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fit {
    origin: PhcTime,
    base: RawTime,
    a: f64,
    b: f64,
    rms_ns: f64,
    /// b is known.
    is_long: bool,
}

impl Fit {
    fn at(&self, time: PhcTime) -> RawTime {
        let p = time.ns_since(self.origin);
        self.base.plus_ns(p).plus_ns(to_i64((self.a + self.b * to_f64(p)).round()))
    }
}

impl Phc {
    pub(crate) fn new() -> Self {
        Phc {
            correlation: Correlation::new(Margins { steady: NIC_CRYSTAL, unknown: 1.0, is_ours: false }),
            line: VecDeque::new(),
            dialled: KernelRate::Unknown,
            fit: None,
        }
    }

    /// Takes a reading. `freq_limit` is Ω; `is_ours`: nobody but us steers the PHC.
    pub(crate) fn push(&mut self, reading: &PhcReading, freq_limit: f64, is_ours: bool) {
        let cross = reading.cross;
        // Rates multiply: (1 + dialled)(1 + crystal)/(1 ∓ Ω).
        let crystals = (1.0 + NIC_CRYSTAL) / (1.0 - freq_limit.min(0.5)) - 1.0;
        let steered = |by: f64| crystals * (1.0 + by.abs());
        let max_adj = to_f64(reading.max_adj_ppb).abs() * 1e-9;
        let dialled = if let KernelRate::Steady { ppb } = cross.rate { to_f64(ppb) * 1e-9 } else { 0.0 };
        let unknown = (max_adj + steered(max_adj)).min(0.999);
        self.correlation.limit(Margins { steady: steered(dialled), unknown, is_ours });
        let (middle, width_ns) =
            (RawSpan { early: cross.before, late: cross.after }.middle(), cross.after.ns_since(cross.before));
        let is_far = self.fit.is_some_and(|fit| {
            let doubt = if fit.is_long { DRIFT_DOUBT } else { NIC_CRYSTAL + freq_limit };
            let drifted_ns = to_i64((doubt * to_f64(middle.ns_since(fit.base))).ceil());
            fit.at(cross.real).ns_since(middle).saturating_abs() > STEP_NS + width_ns + drifted_ns
        });
        if is_far {
            // Whatever was read before tells nothing of stamps to come, and nothing in between can be trusted.
            self.correlation.clear();
        }
        if is_far || cross.rate != self.dialled {
            self.line.clear();
        }
        self.dialled = cross.rate;
        // Nobody tells that a PHC was set; `is_far` did.
        self.correlation.push(CrossReading { setting: Setting::Unset, ..cross });
        self.line.push_back((cross.real, middle, width_ns.max(1)));
        while self.line.len() > LINE_READINGS
            || self.line.front().is_some_and(|&(first, ..)| cross.real.ns_since(first) > LINE_SPAN_NS)
        {
            self.line.pop_front();
        }
        self.fit = fit(&self.line);
    }

    /// Where in raw time `stamp` was taken, knowing that it was in `user`.
    pub(crate) fn map(&self, stamp: PhcTime, user: RawSpan) -> Mapped {
        self.correlation.map(stamp, user)
    }

    /// The same, knowing only that it was before `late`, by at most `age_ns`.
    pub(crate) fn map_until(&self, stamp: PhcTime, late: RawTime, age_ns: i64) -> Mapped {
        self.correlation.map_until(stamp, late, age_ns)
    }

    /// The best guess of when the PHC showed `time`.
    pub(crate) fn point(&self, time: PhcTime) -> Option<RawTime> {
        self.fit.map(|fit| fit.at(time))
    }

    /// What it shows at raw `at`, ns: the line the other way round.
    pub(crate) fn reads_at(&self, at: RawTime) -> Option<i64> {
        let fit = self.fit?;
        let r = to_f64(at.ns_since(fit.base)) - fit.a;
        Some(fit.origin.as_ns().saturating_add(to_i64((r / (1.0 + fit.b)).round())))
    }

    /// What is dialled into it, ppb, and how fast it runs against raw time, once a line tells.
    pub(crate) fn rates(&self) -> Option<(i64, FreqError)> {
        let fit = self.fit.filter(|fit| fit.is_long)?;
        let KernelRate::Steady { ppb } = self.dialled else { return None };
        Some((ppb, FreqError::from_fraction(1.0 / (1.0 + fit.b) - 1.0)))
    }

    /// The relation as it stands.
    pub(crate) fn relation(&self) -> Option<PhcRelation> {
        let (fit, &(real, at, window_ns)) = (self.fit?, self.line.back()?);
        Some(PhcRelation {
            offset_ns: real.as_ns().saturating_sub(at.as_ns()),
            // raw per PHC is 1 + b, so PHC per raw is 1/(1 + b).
            drift: FreqError::from_fraction(1.0 / (1.0 + fit.b) - 1.0),
            error_ns: to_i64(fit.rms_ns.ceil()),
            window_ns,
            readings: self.line.len(),
        })
    }
}

/// Weighted least squares, from the newest reading's point of view.
fn fit(line: &VecDeque<(PhcTime, RawTime, i64)>) -> Option<Fit> {
    let &(origin, base, _) = line.back()?;
    let is_long = line.front().is_some_and(|&(first, ..)| origin.ns_since(first) >= DRIFT_SPAN_NS);
    let (mut w, mut wp, mut wr, mut wpp, mut wpr) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let points = line.iter().map(|&(time, raw, width_ns)| {
        let (p, r) = (time.ns_since(origin), raw.ns_since(base));
        (to_f64(p), to_f64(r.saturating_sub(p)), 1.0 / (to_f64(width_ns) * to_f64(width_ns)))
    });
    for (p, r, weight) in points.clone() {
        w += weight;
        wp += weight * p;
        wr += weight * r;
        wpp += weight * p * p;
        wpr += weight * p * r;
    }
    let spread = w * wpp - wp * wp;
    let b = if is_long && spread > 0.0 { (w * wpr - wp * wr) / spread } else { 0.0 };
    // Too short for a drift, the newest reading alone counts: older ones would be off by it.
    let a = if is_long { (wr - b * wp) / w } else { 0.0 };
    let squares: f64 = points.map(|(p, r, _)| (r - a - b * p) * (r - a - b * p)).sum();
    let count = to_f64(i64::try_from(line.len()).unwrap_or(i64::MAX));
    Some(Fit { origin, base, a, b, rms_ns: (squares / count).sqrt(), is_long })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{CrossReading, PhcId};

    fn reading(raw: i64, phc: i64, width_ns: i64, ppb: i64) -> PhcReading {
        let (before, after) = (RawTime::from_ns(raw - width_ns / 2), RawTime::from_ns(raw + width_ns - width_ns / 2));
        let rate = KernelRate::Steady { ppb };
        let cross = CrossReading { before, real: PhcTime::from_ns(phc), after, rate, setting: Setting::Unset };
        PhcReading { phc: PhcId(0), cross, max_adj_ppb: 1_000_000, stated_error_ns: None }
    }

    /// A PHC that is 5 s ahead and runs 20 ppm fast, at raw time `t`.
    fn fast(t: i64) -> i64 {
        t + 5_000_000_000 + t / 50_000
    }

    #[test]
    fn the_line_finds_drift_and_offset() {
        let mut phc = Phc::new();
        for t in (0..8_000_000_000).step_by(125_000_000) {
            phc.push(&reading(t, fast(t), 1_000 + t % 7 * 300, 0), 1e-3, false);
        }
        let relation = phc.relation().expect("readings");
        assert!((relation.drift.as_ppm() - 20.0).abs() < 0.001, "{relation:?}");
        assert!(relation.error_ns <= 2, "{relation:?}");
        let at = phc.point(PhcTime::from_ns(fast(7_900_000_000))).expect("a line");
        assert!(at.ns_since(RawTime::from_ns(7_900_000_000)).abs() <= 1, "{at:?}");
    }

    #[test]
    fn a_steered_phc_starts_a_new_line() {
        let mut phc = Phc::new();
        for t in (0..2_000_000_000).step_by(125_000_000) {
            phc.push(&reading(t, fast(t), 1_000, 0), 1e-3, false);
        }
        phc.push(&reading(2_000_000_000, fast(2_000_000_000), 1_000, 7), 1e-3, false);
        assert_eq!(phc.relation().expect("a reading").readings, 1);
    }

    #[test]
    fn a_step_forgets_what_was_read_before() {
        let mut phc = Phc::new();
        for t in (0..2_000_000_000).step_by(125_000_000) {
            phc.push(&reading(t, fast(t), 1_000, 0), 1e-3, false);
        }
        let t = 2_000_000_000;
        let user = RawSpan { early: RawTime::from_ns(t - 100_000_000), late: RawTime::from_ns(t - 1_000) };
        phc.push(&reading(t, fast(t), 1_000, 0), 1e-3, false);
        assert!(matches!(phc.map(PhcTime::from_ns(fast(t - 50_000_000)), user), Mapped::Span(_)));
        phc.push(&reading(t + 125_000_000, fast(t) + 40_000_000_000, 1_000, 0), 1e-3, false);
        assert_eq!(phc.map(PhcTime::from_ns(fast(t - 50_000_000)), user), Mapped::Unbracketed);
    }
}
