//! Two directions of one source: the extreme θ and ω that satisfy all constraints (BOUND §3).
//!
//! At `now`, with up(ω) the least upper bound on θ for a given ω and low(ω) the greatest lower one, the feasible set is
//! {(θ, ω): low(ω) ≤ θ ≤ up(ω), |ω| ≤ Ω}. Every constraint has Δ ≥ 0, so both functions rise with ω, componentwise
//! maxima of feasible points are feasible, and the extremes are attained together:
//!
//! ```text
//! ω_max = sup{ω ≤ Ω : up(ω) ≥ low(ω)}      θ_max = up(ω_max)        ω_min, θ_min likewise
//! ```
//! up is concave and low convex, so the feasible ω are an interval, and Newton's iteration finds its ends. At some ω
//! take the tightest constraint of each direction, two lines in ω with slopes Δ_up and Δ_low. Where their difference
//! falls, Δ_up < Δ_low, no rate beyond its zero satisfies both: **each step is a proof by two constraints**, whatever
//! came before it and whether or not the search found the very tightest ones. So the iteration may begin anywhere (where
//! the last one ended) and stop at any time; from a proved end it moves inward only, one pair of lines a step, and is
//! there when the lines at the end are those that gave it. As Δ_up ≥ 0, its line at ω_max is θ_max.
//! The zero is that of the difference plus [`SLACK_NS`], and the end moves out by [`OUTWARD`]: outward by construction.
//! If the lines at a proved end ask for rates beyond it, there are none.

use crate::region::Region;
use crate::region::hull::{Hull, Least, Seats, Wander};
use crate::time::RawTime;
use crate::units::{FreqError, to_i64};

/// Covers the rounding of every sum below, generously: residuals are far below 2⁴⁰ ns.
const SLACK_NS: f64 = 1.0;
/// Half a unit of a published rate, 2⁻⁴¹: covers the rounding of a step's quotient, s/s.
const OUTWARD: f64 = 0.5 / 1_099_511_627_776.0;
/// Two or three are usual from the last end; there is a proof after every one.
const MAX_STEPS: u32 = 64;
/// 2·1000 ppm / 2⁶⁴: as near to the closest approach as f64 can tell.
const BISECTIONS: u32 = 64;

/// The constraints of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Polygon {
    /// θ(t) ≤ v.
    upper: Hull,
    /// −θ(t) ≤ −v.
    lower: Hull,
    /// Where to look first for ω_max and for ω_min.
    fastest: Start,
    slowest: Start,
}

/// Where the search for one end of the rates ended last time.
#[derive(Clone, Copy, Debug, Default)]
struct Start {
    omega: f64,
    upper: Seats,
    lower: Seats,
}

/// Which end of the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Fastest,
    Slowest,
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

/// The tightest constraint of each direction at some ω: θ relative to the reference, and dθ/dω.
struct Gap {
    up: Least,
    low: Least,
}

impl Gap {
    fn width_ns(&self) -> f64 {
        self.up.value_ns - self.low.value_ns
    }

    /// How the width changes with ω, ns.
    fn slope_ns(&self) -> f64 {
        self.up.age_ns - self.low.age_ns
    }

    /// Does it close towards `side`?
    fn closes(&self, side: Side) -> bool {
        match side {
            Side::Fastest => self.slope_ns() < 0.0,
            Side::Slowest => self.slope_ns() > 0.0,
        }
    }
}

/// One end of the rates, and θ there.
struct End {
    omega: f64,
    theta_ns: f64,
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
        (self.fastest, self.slowest) = (Start::default(), Start::default());
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
        let reference_ns = self.reference();
        let view = View { upper: &self.upper, lower: &self.lower, now, reference_ns, limits };
        let fastest = view.end(Side::Fastest, &mut self.fastest);
        let slowest = view.end(Side::Slowest, &mut self.slowest);
        match (fastest, slowest) {
            (Some(fastest), Some(slowest)) if slowest.omega <= fastest.omega => Verdict::Region(Region {
                theta_hi_ns: reference_ns.saturating_add(to_i64(fastest.theta_ns.ceil())),
                theta_lo_ns: reference_ns.saturating_add(to_i64(slowest.theta_ns.floor())),
                omega_hi: FreqError::from_fraction(fastest.omega).to_rate_up().saturating_add(1),
                omega_lo: FreqError::from_fraction(slowest.omega).to_rate_down().saturating_sub(1),
            }),
            _ => Verdict::Empty { by_ns: view.miss_ns() },
        }
    }

    /// A θ near all of them, so that residuals are small numbers.
    fn reference(&self) -> i64 {
        self.upper.newest_value().unwrap_or(0)
    }
}

/// A polygon seen from one instant.
struct View<'a> {
    upper: &'a Hull,
    lower: &'a Hull,
    now: RawTime,
    reference_ns: i64,
    limits: &'a Limits,
}

impl View<'_> {
    fn gap(&self, omega: f64, start: &mut Start) -> Gap {
        let wander = &self.limits.wander;
        let nothing = Least { value_ns: f64::INFINITY, age_ns: 0.0 };
        let up = self.upper.least(self.now, self.reference_ns, omega, wander, &mut start.upper).unwrap_or(nothing);
        let mirrored = self.reference_ns.saturating_neg();
        let low = self.lower.least(self.now, mirrored, -omega, wander, &mut start.lower).unwrap_or(nothing);
        Gap { up, low: Least { value_ns: -low.value_ns, ..low } }
    }

    /// What the constraints say that the search ended with last time.
    fn remembered(&self, start: &Start) -> Option<Gap> {
        let (wander, omega) = (&self.limits.wander, start.omega);
        let up = self.upper.seated(self.now, self.reference_ns, omega, wander, &start.upper)?;
        let low = self.lower.seated(self.now, self.reference_ns.saturating_neg(), -omega, wander, &start.lower)?;
        Some(Gap { up, low: Least { value_ns: -low.value_ns, ..low } })
    }

    /// The outermost rate that the constraints allow, and θ there; `None` if they allow none.
    fn end(&self, side: Side, start: &mut Start) -> Option<End> {
        let limit = if side == Side::Fastest { self.limits.omega } else { -self.limits.omega };
        let mut omega = limit;
        if let Some(gap) = self.remembered(start).filter(|gap| gap.closes(side)) {
            omega = inner(side, limit, zero(start.omega, &gap));
        }
        let mut gap = self.gap(omega, start);
        for _ in 0..MAX_STEPS {
            if gap.width_ns() >= -SLACK_NS {
                break;
            }
            if !gap.closes(side) {
                return None;
            }
            let before = omega;
            omega = inner(side, omega, zero(omega, &gap));
            if (omega - before).abs() <= OUTWARD {
                break;
            }
            gap = self.gap(omega, start);
        }
        start.omega = omega;
        // θ is the line's at its own rate; the end moves out along it.
        Some(match side {
            Side::Fastest => End {
                omega: (omega + OUTWARD).min(limit),
                theta_ns: gap.up.value_ns + gap.up.age_ns * OUTWARD + SLACK_NS,
            },
            Side::Slowest => End {
                omega: (omega - OUTWARD).max(limit),
                theta_ns: gap.low.value_ns - gap.low.age_ns * OUTWARD - SLACK_NS,
            },
        })
    }

    /// By how much the constraints miss each other where they come closest: the slope of the gap, concave in ω, says on
    /// which side to look.
    fn miss_ns(&self) -> i64 {
        let (mut low, mut high) = (-self.limits.omega, self.limits.omega);
        let mut closest = f64::NEG_INFINITY;
        let mut start = Start::default();
        for _ in 0..BISECTIONS {
            let omega = f64::midpoint(low, high);
            let gap = self.gap(omega, &mut start);
            closest = closest.max(gap.width_ns());
            if gap.slope_ns() > 0.0 {
                low = omega;
            } else {
                high = omega;
            }
        }
        to_i64(-closest)
    }
}

/// Where the two lines of a gap that closes miss each other by the slack.
fn zero(omega: f64, gap: &Gap) -> f64 {
    omega - (gap.width_ns() + SLACK_NS) / gap.slope_ns()
}

/// The inner one of two ends.
fn inner(side: Side, a: f64, b: f64) -> f64 {
    match side {
        Side::Fastest => a.min(b),
        Side::Slowest => a.max(b),
    }
}

#[cfg(test)]
mod lp;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    fn limits() -> Limits {
        Limits { wander: Wander::new(1e-7, 3e-8), omega: 1e-3 }
    }

    fn view<'a>(polygon: &'a Polygon, now: i64, limits: &'a Limits) -> View<'a> {
        let (upper, lower, now) = (&polygon.upper, &polygon.lower, RawTime::from_ns(now));
        View { upper, lower, now, reference_ns: polygon.reference(), limits }
    }

    impl View<'_> {
        fn is_feasible(&self, omega: f64) -> bool {
            self.gap(omega, &mut Start::default()).width_ns() >= -SLACK_NS
        }

        /// The plain way: some feasible rate, then halving towards both limits; the infeasible end is kept.
        fn bisected(&self) -> Option<Region> {
            let limit = self.limits.omega;
            let (mut low, mut high) = (-limit, limit);
            let mut feasible = None;
            for _ in 0..64 {
                let omega = f64::midpoint(low, high);
                if self.is_feasible(omega) {
                    feasible = Some(omega);
                    break;
                }
                let rises = self.gap(omega, &mut Start::default()).slope_ns() > 0.0;
                (low, high) = if rises { (omega, high) } else { (low, omega) };
            }
            let (slowest, fastest) = (self.last_feasible(feasible?, -limit), self.last_feasible(feasible?, limit));
            let (bottom, top) = (self.gap(slowest, &mut Start::default()), self.gap(fastest, &mut Start::default()));
            Some(Region {
                theta_lo_ns: self.reference_ns + to_i64((bottom.low.value_ns - SLACK_NS).floor()),
                theta_hi_ns: self.reference_ns + to_i64((top.up.value_ns + SLACK_NS).ceil()),
                omega_lo: FreqError::from_fraction(slowest).to_rate_down(),
                omega_hi: FreqError::from_fraction(fastest).to_rate_up(),
            })
        }

        fn last_feasible(&self, mut inside: f64, mut outside: f64) -> f64 {
            if self.is_feasible(outside) {
                return outside;
            }
            // As near as an f64 can tell.
            for _ in 0..64 {
                let middle = f64::midpoint(inside, outside);
                (inside, outside) = if self.is_feasible(middle) { (middle, outside) } else { (inside, middle) };
            }
            outside
        }
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
            let limits = limits();
            let view = view(&polygon, t, &limits);
            let mut best = f64::NEG_INFINITY;
            for step in -2000..=2000 {
                let gap = view.gap(f64::from(step) * 0.5e-6, &mut Start::default());
                if gap.width_ns() >= 0.0 { best = best.max(gap.up.value_ns); }
            }
            if best.is_finite() {
                prop_assert!(crate::units::to_f64(found.theta_hi_ns - view.reference_ns) >= best);
            }
        }

        /// Each verdict begins where the last one ended, in worlds with and without a jump of the source. It is what
        /// bisection finds from nothing, or looser by three units at most.
        #[test]
        fn verdicts_are_those_of_bisection_and_never_tighter(
            exchanges in prop::collection::vec(
                (10_000_000i64..3_000_000_000, 0i64..400_000, 0i64..400_000, 0i64..5_000_000_000), 1..60),
            omega_ppm in -990.0..990.0f64, drift_per_s in -1e-7..1e-7f64, jump in -2_000_000i64..2_000_000, jumps_at in 0usize..120,
        ) {
            let limits = limits();
            let mut polygon = Polygon::default();
            let (mut t, mut late) = (0i64, 0);
            for (k, (wait, forward, back, idle)) in exchanges.into_iter().enumerate() {
                t = (t + wait).max(late);
                let theta = |at: i64| {
                    let (at, step) = (crate::units::to_f64(at), if k >= jumps_at { jump } else { 0 });
                    step + to_i64((omega_ppm * 1e-6 * at + 0.5e-9 * drift_per_s * at * at).round())
                };
                polygon.add_upper(RawTime::from_ns(t), theta(t) + forward + 1, &limits.wander);
                t += forward + back;
                polygon.add_lower(RawTime::from_ns(t), theta(t) - back - 1, &limits.wander);
                for now in [t, t + idle] {
                    late = now;
                    let expected = view(&polygon, now, &limits).bisected();
                    let found = match polygon.verdict(RawTime::from_ns(now), &limits) {
                        Verdict::Region(region) => Some(region),
                        _ => None,
                    };
                    prop_assert_eq!(found.is_some(), expected.is_some(), "after {} exchanges", k + 1);
                    let Some((found, old)) = found.zip(expected) else { continue };
                    let looser = [
                        found.theta_hi_ns - old.theta_hi_ns,
                        old.theta_lo_ns - found.theta_lo_ns,
                        found.omega_hi - old.omega_hi,
                        old.omega_lo - found.omega_lo,
                    ];
                    prop_assert!(looser.iter().all(|by| (0..=3).contains(by)), "{looser:?} after {} exchanges", k + 1);
                }
            }
        }
    }
}
