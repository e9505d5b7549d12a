//! One direction's constraints, θ(tᵢ) ≤ vᵢ, kept as the few that can ever matter.
//!
//! Seen from T ≥ tᵢ, with Δᵢ = T − tᵢ and the wander allowance of A1, constraint i says for the present θ and ω
//!
//! ```text
//! θ ≤ vᵢ + ω·Δᵢ + ½A·Δᵢ² + J√Δᵢ
//! ```
//! Lifted to pᵢ = vᵢ + ½A·tᵢ², the first three terms become linear in tᵢ, so the constraints that are tightest for
//! some ω at some T are the vertices of the lower convex hull of the points (tᵢ, pᵢ), and they stay so for ever: a
//! point is compared when it arrives and never again (ALGORITHM §4.5). Dropping a point only loosens, so every
//! numerical doubt here errs outward.
//!
//! Lower constraints, θ(t) ≥ v, are kept in the same structure mirrored: −θ ≤ −v with slope −ω.

use std::collections::VecDeque;

use crate::time::RawTime;
use crate::units::to_f64;

/// Hull vertices kept at most; beyond it the oldest goes.
const MAX_VERTICES: usize = 512;

/// J√Δ lies under each of its tangents: J√Δ ≤ J·(√Δ₀/2 + Δ/(2√Δ₀)). One for exchanges a moment ago, one for old ones.
const TANGENTS_S: [f64; 2] = [1.0 / 16.0, 16.0];

/// θ(t) ≤ v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Constraint {
    t: RawTime,
    v_ns: i64,
}

/// What the oscillator may do, in the units of this module: ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wander {
    /// ½A, 1/ns.
    half_a: f64,
    /// The tangents of J√Δ: constant in ns, slope in ns/ns.
    tangents: [(f64, f64); TANGENTS_S.len()],
}

impl Wander {
    /// From A in 1/s and J in s/√s.
    pub(crate) fn new(wander_per_s: f64, phase_noise_s: f64) -> Self {
        let tangent = |at_s: f64| (phase_noise_s * 1e9 * at_s.sqrt() / 2.0, phase_noise_s / (2.0 * at_s.sqrt()));
        Wander { half_a: 0.5 * wander_per_s * 1e-9, tangents: TANGENTS_S.map(tangent) }
    }
}

/// Where a search along the hull ended: the next one begins there. Any seat is right; a near one is fast.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seats {
    /// A vertex per tangent.
    at: [usize; TANGENTS_S.len()],
    /// The tangent that gave the least.
    best: usize,
}

/// The tightest upper bound found, and the age of the constraint that gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Least {
    /// Relative to the reference that was asked for, ns.
    pub(crate) value_ns: f64,
    /// Δ of that constraint: the slope of the bound in ω, ns.
    pub(crate) age_ns: f64,
}

/// The constraints of one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hull {
    vertices: VecDeque<Constraint>,
}

impl Hull {
    pub(crate) fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.vertices.clear();
    }

    /// The newest constraint's instant.
    pub(crate) fn newest(&self) -> Option<RawTime> {
        self.vertices.back().map(|vertex| vertex.t)
    }

    /// The newest constraint's bound, ns.
    pub(crate) fn newest_value(&self) -> Option<i64> {
        self.vertices.back().map(|vertex| vertex.v_ns)
    }

    /// Adds θ(t) ≤ v. Amortised O(1) in order of time; one that comes late costs a rebuild.
    pub(crate) fn push(&mut self, t: RawTime, v_ns: i64, wander: &Wander) {
        let mut later: Vec<Constraint> = Vec::new();
        while let Some(&last) = self.vertices.back() {
            if last.t < t {
                break;
            }
            self.vertices.pop_back();
            later.push(last);
        }
        self.push_newest(Constraint { t, v_ns }, wander);
        for constraint in later.into_iter().rev() {
            self.push_newest(constraint, wander);
        }
    }

    fn push_newest(&mut self, new: Constraint, wander: &Wander) {
        if let Some(last) = self.vertices.back_mut()
            && last.t == new.t
        {
            if last.v_ns <= new.v_ns {
                return;
            }
            self.vertices.pop_back();
        }
        while let [Some(a), Some(b)] = self.newest_two()
            && lies_above_chord(a, b, new, wander)
        {
            self.vertices.pop_back();
        }
        if self.vertices.len() == MAX_VERTICES {
            self.vertices.pop_front();
        }
        self.vertices.push_back(new);
    }

    fn newest_two(&self) -> [Option<Constraint>; 2] {
        let n = self.vertices.len();
        [self.vertices.get(n.wrapping_sub(2)).copied(), self.vertices.get(n.wrapping_sub(1)).copied()]
    }

    /// Forgets vertices more than `memory_ns` older than the newest one; two always stay.
    pub(crate) fn expire(&mut self, memory_ns: i64) {
        let Some(newest) = self.newest() else { return };
        while self.vertices.len() > 2 && self.vertices.front().is_some_and(|v| newest.ns_since(v.t) > memory_ns) {
            self.vertices.pop_front();
        }
    }

    /// min over i of vᵢ − reference + ω·Δᵢ + W(Δᵢ) at `now`; `None` without constraints. Concave in ω.
    pub(crate) fn least(
        &self,
        now: RawTime,
        reference_ns: i64,
        omega: f64,
        wander: &Wander,
        seats: &mut Seats,
    ) -> Option<Least> {
        let view = View { hull: self, now, reference_ns, half_a: wander.half_a };
        let mut least: Option<Least> = None;
        for (k, (&(constant, slope), seat)) in wander.tangents.iter().zip(&mut seats.at).enumerate() {
            let found = view.least(omega + slope, seat)?;
            let value_ns = found.value_ns + constant;
            if least.is_none_or(|least| value_ns < least.value_ns) {
                least = Some(Least { value_ns, ..found });
                seats.best = k;
            }
        }
        least
    }

    /// What the constraint says that was least when `seats` were taken, or another one that has its place now.
    pub(crate) fn seated(
        &self,
        now: RawTime,
        reference_ns: i64,
        omega: f64,
        wander: &Wander,
        seats: &Seats,
    ) -> Option<Least> {
        let view = View { hull: self, now, reference_ns, half_a: wander.half_a };
        let (constant, slope) = wander.tangents.get(seats.best)?;
        let seat = seats.at.get(seats.best)?;
        let found = view.value(omega + slope, (*seat).min(self.vertices.len().checked_sub(1)?));
        Some(Least { value_ns: found.value_ns + constant, ..found })
    }
}

/// A hull seen from one instant, without J.
struct View<'a> {
    hull: &'a Hull,
    now: RawTime,
    reference_ns: i64,
    half_a: f64,
}

impl View<'_> {
    fn value(&self, omega: f64, i: usize) -> Least {
        let Constraint { t, v_ns } = self.hull.vertices[i];
        let age_ns = to_f64(self.now.ns_since(t).max(0));
        let value_ns = to_f64(v_ns.saturating_sub(self.reference_ns)) + (omega + self.half_a * age_ns) * age_ns;
        Least { value_ns, age_ns }
    }

    /// The values along the hull fall, then rise, so a walk downhill from any seat finds the least. Where rounding hides
    /// the slope it stops early, at another constraint: looser, never tighter.
    fn least(&self, omega: f64, seat: &mut usize) -> Option<Least> {
        let last = self.hull.vertices.len().checked_sub(1)?;
        let mut i = (*seat).min(last);
        let mut here = self.value(omega, i);
        while i < last {
            let newer = self.value(omega, i + 1);
            if newer.value_ns >= here.value_ns {
                break;
            }
            (i, here) = (i + 1, newer);
        }
        while i > 0 {
            let older = self.value(omega, i - 1);
            if older.value_ns > here.value_ns {
                break;
            }
            (i, here) = (i - 1, older);
        }
        *seat = i;
        Some(here)
    }
}

/// Is b, lifted, on or above the chord from a to c? Then no (ω, T) needs it.
///
/// (p_b − p_a)/(t_b − t_a) ≥ (p_c − p_b)/(t_c − t_b), with p = v + ½A·t² and t counted from c.
fn lies_above_chord(a: Constraint, b: Constraint, c: Constraint, wander: &Wander) -> bool {
    let (ab, bc) = (to_f64(b.t.ns_since(a.t)), to_f64(c.t.ns_since(b.t)));
    let lift_ab = -wander.half_a * ab * (ab + 2.0 * bc); // t_b² − t_a² with t_c = 0
    let lift_bc = -wander.half_a * bc * bc;
    let rise_ab = to_f64(b.v_ns.saturating_sub(a.v_ns)) + lift_ab;
    let rise_bc = to_f64(c.v_ns.saturating_sub(b.v_ns)) + lift_bc;
    rise_ab * bc >= rise_bc * ab
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute_force(points: &[(i64, i64)], now: i64, omega: f64, wander: &Wander) -> f64 {
        let of_tangent = |&(constant, slope): &(f64, f64)| {
            let of_point = |&(t, v): &(i64, i64)| {
                let age = to_f64(now - t);
                to_f64(v) + (omega + slope + wander.half_a * age) * age + constant
            };
            points.iter().map(of_point).fold(f64::INFINITY, f64::min)
        };
        wander.tangents.iter().map(of_tangent).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn the_hull_gives_what_all_points_give(
            steps in prop::collection::vec((1_000i64..2_000_000_000, 0i64..100_000), 1..200),
            omega_ppm in -1000.0..1000.0f64, ahead in 0i64..60_000_000_000, swap in any::<bool>(),
            at in prop::array::uniform2(0usize..250),
        ) {
            let wander = Wander::new(1e-7, 3e-8);
            let mut t = 0;
            let mut points: Vec<(i64, i64)> = steps.iter().map(|&(step, v)| { t += step; (t, v) }).collect();
            let now = t + ahead;
            if swap && points.len() > 3 {
                let last = points.len() - 1;
                points.swap(last, last - 2); // an answer that comes late
            }
            let mut hull = Hull::default();
            points.iter().for_each(|&(t, v)| hull.push(RawTime::from_ns(t), v, &wander));
            let (omega, mut seats) = (omega_ppm * 1e-6, Seats { at, best: 0 });
            let least = hull.least(RawTime::from_ns(now), 0, omega, &wander, &mut seats).expect("not empty").value_ns;
            let expected = brute_force(&points, now, omega, &wander);
            prop_assert!(least >= expected - 1e-3, "tighter than the constraints: {least} < {expected}");
            prop_assert!(least <= expected + 1e-3, "a constraint was lost: {least} > {expected}");
        }
    }

    #[test]
    fn expiry_counts_from_the_newest_and_keeps_two() {
        let wander = Wander::new(1e-7, 0.0);
        let mut hull = Hull::default();
        for second in 0..10 {
            hull.push(RawTime::from_ns(second * 1_000_000_000), second * second, &wander);
        }
        hull.expire(0);
        assert_eq!(hull.vertices.len(), 2);
        assert_eq!(hull.newest(), Some(RawTime::from_ns(9_000_000_000)));
    }

    #[test]
    fn of_two_constraints_at_one_instant_the_tighter_stays() {
        let wander = Wander::new(1e-7, 0.0);
        let mut hull = Hull::default();
        for v in [70, 50, 60] {
            hull.push(RawTime::from_ns(5), v, &wander);
        }
        assert_eq!(
            hull.least(RawTime::from_ns(5), 0, 0.0, &wander, &mut Seats::default()).expect("one").value_ns,
            50.0
        );
    }
}
