//! Two directions of one source: the extreme θ and ω that satisfy all constraints (BOUND §3).
//!
//! At `now`, with up(ω) the least upper bound on θ for a given ω and low(ω) the greatest lower one, the feasible set is
//! {(θ, ω): low(ω) ≤ θ ≤ up(ω), |ω| ≤ Ω}. Every constraint has Δ ≥ 0, so both functions rise with ω, componentwise
//! maxima of feasible points are feasible, and the extremes are attained together:
//!
//! ```text
//! ω_max = sup{ω ≤ Ω : up(ω) ≥ low(ω)}      θ_max = up(ω_max)        ω_min, θ_min likewise
//! ```
//! up is concave and low convex, so the feasible ω are an interval. Bisection keeps the *infeasible* end, and a rate
//! counts as infeasible only when it is so by more than [`SLACK_NS`]: outward by construction.

use crate::region::Region;
use crate::region::hull::{Hull, Least, Wander};
use crate::time::RawTime;
use crate::units::{FreqError, to_i64};

/// Covers the rounding of every sum below, generously: residuals are far below 2⁴⁰ ns.
const SLACK_NS: f64 = 1.0;
/// 2·1000 ppm / 2³² is below half a unit of a published rate.
const BISECTIONS: u32 = 32;

/// The constraints of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Polygon {
    /// θ(t) ≤ v.
    upper: Hull,
    /// −θ(t) ≤ −v.
    lower: Hull,
    /// A rate that was feasible last time: where to look first.
    hint: f64,
}

/// What a source's constraints say now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// One direction has no constraint yet: anything is possible.
    Silent,
    /// They exclude each other, at best by this many ns.
    Empty { by_ns: i64 },
    /// θ and ω lie in here.
    Region(Region),
}

/// What limits the rate, beside the constraints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) wander: Wander,
    /// Ω, s/s.
    pub(crate) omega: f64,
}

/// up(ω) and low(ω) relative to the reference, and the slope of their difference.
struct Gap {
    up_ns: f64,
    low_ns: f64,
    slope: f64,
}

impl Gap {
    fn is_feasible(&self) -> bool {
        self.up_ns - self.low_ns >= -SLACK_NS
    }
}

impl Polygon {
    /// θ(t) ≤ v.
    pub(crate) fn add_upper(&mut self, t: RawTime, v_ns: i64, wander: &Wander) {
        self.upper.push(t, v_ns, wander);
    }

    /// θ(t) ≥ v.
    pub(crate) fn add_lower(&mut self, t: RawTime, v_ns: i64, wander: &Wander) {
        self.lower.push(t, v_ns.saturating_neg(), wander);
    }

    pub(crate) fn clear(&mut self) {
        self.upper.clear();
        self.lower.clear();
        self.hint = 0.0;
    }

    pub(crate) fn expire(&mut self, memory_ns: i64) {
        self.upper.expire(memory_ns);
        self.lower.expire(memory_ns);
    }

    /// The extremes at `now`, which is not before any constraint.
    pub(crate) fn verdict(&mut self, now: RawTime, limits: &Limits) -> Verdict {
        if self.upper.is_empty() || self.lower.is_empty() {
            return Verdict::Silent;
        }
        let view = View { polygon: self, now, reference_ns: self.reference(), limits };
        match view.feasible_rate() {
            Ok(omega) => {
                let region = view.extremes(omega);
                self.hint = omega;
                Verdict::Region(region)
            }
            Err(by_ns) => Verdict::Empty { by_ns },
        }
    }

    /// A θ near all of them, so that residuals are small numbers.
    fn reference(&self) -> i64 {
        self.upper.newest_value().unwrap_or(0)
    }
}

/// A polygon seen from one instant.
struct View<'a> {
    polygon: &'a Polygon,
    now: RawTime,
    reference_ns: i64,
    limits: &'a Limits,
}

impl View<'_> {
    fn gap(&self, omega: f64) -> Gap {
        let wander = &self.limits.wander;
        let nothing = Least { value_ns: f64::INFINITY, age_ns: 0.0 };
        let up = self.polygon.upper.least(self.now, self.reference_ns, omega, wander).unwrap_or(nothing);
        let mirrored = self.reference_ns.saturating_neg();
        let low = self.polygon.lower.least(self.now, mirrored, -omega, wander).unwrap_or(nothing);
        Gap { up_ns: up.value_ns, low_ns: -low.value_ns, slope: up.age_ns - low.age_ns }
    }

    /// Some rate at which the constraints agree, or by how much they miss each other where they come closest. The gap
    /// is concave in ω: its slope says on which side to look.
    fn feasible_rate(&self) -> Result<f64, i64> {
        let limit = self.limits.omega;
        let (mut low, mut high) = (-limit, limit);
        let mut omega = self.polygon.hint.clamp(low, high);
        let mut closest = f64::NEG_INFINITY;
        for _ in 0..=2 * BISECTIONS {
            let gap = self.gap(omega);
            if gap.is_feasible() {
                return Ok(omega);
            }
            closest = closest.max(gap.up_ns - gap.low_ns);
            if gap.slope > 0.0 {
                low = omega;
            } else {
                high = omega;
            }
            omega = f64::midpoint(low, high);
        }
        Err(to_i64(-closest))
    }

    /// Bisects from a feasible rate to both ends; the infeasible end is kept.
    fn extremes(&self, feasible: f64) -> Region {
        let omega_max = self.last_feasible(feasible, self.limits.omega);
        let omega_min = self.last_feasible(feasible, -self.limits.omega);
        let outward = SLACK_NS;
        Region {
            theta_hi_ns: self.reference_ns.saturating_add(to_i64((self.gap(omega_max).up_ns + outward).ceil())),
            theta_lo_ns: self.reference_ns.saturating_add(to_i64((self.gap(omega_min).low_ns - outward).floor())),
            omega_hi: FreqError::from_fraction(omega_max).to_rate_up().saturating_add(1),
            omega_lo: FreqError::from_fraction(omega_min).to_rate_down().saturating_sub(1),
        }
    }

    fn last_feasible(&self, feasible: f64, limit: f64) -> f64 {
        if self.gap(limit).is_feasible() {
            return limit;
        }
        let (mut inside, mut outside) = (feasible, limit);
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(inside, outside);
            if self.gap(middle).is_feasible() {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    fn limits() -> Limits {
        Limits { wander: Wander::new(1e-7, 3e-8), omega: 1e-3 }
    }

    fn region(polygon: &mut Polygon, now: i64) -> Region {
        match polygon.verdict(RawTime::from_ns(now), &limits()) {
            Verdict::Region(region) => region,
            other => panic!("{other:?}"),
        }
    }

    /// Exchanges with a true θ(T) = 5 ms + 20 ppm·T and 100 µs each way.
    fn steady(seconds: i64) -> Polygon {
        let mut polygon = Polygon::default();
        let wander = limits().wander;
        for k in 0..=seconds {
            let theta = |t: i64| 5_000_000 + t / 50_000;
            polygon.add_upper(RawTime::from_ns(k * S), theta(k * S) + 100_000, &wander);
            polygon.add_lower(RawTime::from_ns(k * S + 200_000), theta(k * S + 200_000) - 100_000, &wander);
        }
        polygon
    }

    #[test]
    fn one_direction_alone_says_nothing() {
        let mut polygon = Polygon::default();
        polygon.add_upper(RawTime::from_ns(0), 5, &limits().wander);
        assert_eq!(polygon.verdict(RawTime::from_ns(1), &limits()), Verdict::Silent);
    }

    #[test]
    fn a_first_exchange_gives_half_the_round_trip_and_the_whole_rate() {
        let region = region(&mut steady(0), 200_000);
        assert!((100_000..=100_400).contains(&region.half_width_ns()), "{region:?}");
        assert!(FreqError::from_rate(region.omega_hi).as_ppm() >= 1000.0);
    }

    #[test]
    fn the_rate_is_proved_over_time() {
        let region = region(&mut steady(60), 60 * S + 200_000);
        let (lo, hi) = (FreqError::from_rate(region.omega_lo).as_ppm(), FreqError::from_rate(region.omega_hi).as_ppm());
        assert!(lo < 20.0 && hi > 20.0 && hi - lo < 15.0, "{lo} .. {hi} ppm");
        assert!((100_000..=100_500).contains(&region.half_width_ns()), "{region:?}");
    }

    #[test]
    fn a_jump_of_the_source_leaves_nothing() {
        let mut polygon = steady(10);
        polygon.add_lower(RawTime::from_ns(11 * S), 30_000_000, &limits().wander);
        let verdict = polygon.verdict(RawTime::from_ns(11 * S), &limits());
        assert!(matches!(verdict, Verdict::Empty { by_ns } if by_ns > 20_000_000), "{verdict:?}");
    }

    proptest! {
        /// The lattice form against every constraint at once, over random worlds that satisfy them: truth is inside,
        /// and each edge is attained: moving it inward by a little more than the slack is infeasible.
        #[test]
        fn truth_is_inside_and_the_edges_are_tight(
            exchanges in prop::collection::vec((10_000_000i64..3_000_000_000, 0i64..400_000, 0i64..400_000), 1..120),
            omega_ppm in -900.0..900.0f64, theta in -1_000_000_000i64..1_000_000_000,
        ) {
            let (omega, wander) = (omega_ppm * 1e-6, limits().wander);
            let mut polygon = Polygon::default();
            let (mut t, mut points) = (0i64, Vec::new());
            for (gap, forward, back) in exchanges {
                t += gap;
                let truth = |at: i64| theta + to_i64((crate::units::to_f64(at) * omega).round());
                points.push((t, truth(t) + forward + 1, t + forward + back, truth(t + forward + back) - back - 1));
                t += forward + back;
            }
            for &(t1, upper, t4, lower) in &points {
                polygon.add_upper(RawTime::from_ns(t1), upper, &wander);
                polygon.add_lower(RawTime::from_ns(t4), lower, &wander);
            }
            let truth = theta + to_i64((crate::units::to_f64(t) * omega).round());
            let found = region(&mut polygon, t);
            prop_assert!(found.theta_lo_ns <= truth && truth <= found.theta_hi_ns, "{truth} outside {found:?}");
            let rate = FreqError::from_fraction(omega);
            prop_assert!(found.omega_lo <= rate.to_rate_down() && rate.to_rate_up() <= found.omega_hi);
            // Brute force over rates: no feasible (θ, ω) lies outside by more than the slack and a grid step.
            let view = View { polygon: &polygon, now: RawTime::from_ns(t), reference_ns: polygon.reference(), limits: &limits() };
            let mut best = f64::NEG_INFINITY;
            for step in -2000..=2000 {
                let gap = view.gap(f64::from(step) * 0.5e-6);
                if gap.up_ns >= gap.low_ns { best = best.max(gap.up_ns); }
            }
            if best.is_finite() {
                prop_assert!(crate::units::to_f64(found.theta_hi_ns - view.reference_ns) >= best);
            }
        }
    }
}
