//! From a region to the published bound: its terms by name, everything rounded outward, and never outside the
//! previous one.
//!
//! A fresh region at `now` becomes the function F of client::bound with
//!
//! ```text
//! θ_hi + e_cpu + J√Δ₀/2  at h = 0,  then  ω_hi + ½A·h  and  J/(2√Δ₀)  per second       (J√h under its tangent at Δ₀)
//! ```
//! The previous publication, carried to `now`, is the function P: valid under the same assumptions, from older
//! constraints. The new publication takes, per edge, whichever function is tighter at `now`, as a whole: mixing P's
//! value with F's slope would lose P's allowance for phase noise. So each update lies inside the previous one, aged, or
//! the epoch changes.

use truebound_client::bound::{Bound, Edges, RATE_BITS, WANDER_BITS};
use truebound_client::tick::PHASE_TANGENT_NS;

use crate::region::Region;
use crate::settings::{BoundSettings, Oscillator};
use crate::time::RawTime;
use crate::units::{FreqError, half_wander, to_f64, to_i64};

/// Δ₀ of the tangent under which J√h is folded, s: J of the default class gives 2 ns and 0.12 ppm.
#[expect(clippy::cast_precision_loss, reason = "a small number")]
const PHASE_TANGENT_S: f64 = PHASE_TANGENT_NS as f64 / 1e9;

/// The bound's parts, for status and reports; they sum to the half-width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Half the least round trip: the limit of what two-way exchanges can prove.
    pub path_ns: i64,
    /// E: what the source claims of itself.
    pub claim_ns: i64,
    /// e_cpu: raw clocks of different CPUs.
    pub cpu_ns: i64,
    /// The constant of the phase noise.
    pub phase_ns: i64,
    /// Everything else: stamp widths, the oscillator's wander since the constraints, several sources.
    pub wander_ns: i64,
}

/// What turns regions into bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Composer {
    pub(crate) oscillator: Oscillator,
    pub(crate) settings: BoundSettings,
}

/// The range in which the rate stayed so far in this boot, widened by D: caps of every extrapolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateCaps {
    pub(crate) lo: i64,
    pub(crate) hi: i64,
}

impl RateCaps {
    /// Nothing proved yet: ±Ω.
    pub(crate) fn of(oscillator: &Oscillator) -> Self {
        let limit = oscillator.freq_limit.to_rate_up();
        RateCaps { lo: -limit, hi: limit }
    }

    /// The rate was proved to be in the region's interval: for the rest of this boot it stays within D of it. `None` if
    /// that contradicts what was proved before.
    pub(crate) fn narrowed(self, region: &Region, spread: FreqError) -> Option<Self> {
        let d = spread.to_rate_up();
        let caps = RateCaps {
            lo: self.lo.max(region.omega_lo.saturating_sub(d)),
            hi: self.hi.min(region.omega_hi.saturating_add(d)),
        };
        (region.omega_lo <= caps.hi && region.omega_hi >= caps.lo).then_some(caps)
    }
}

impl Composer {
    /// J√Δ₀/2, ns, rounded up.
    pub(crate) fn phase_ns(&self) -> i64 {
        to_i64((self.oscillator.phase_noise_s * 1e9 * PHASE_TANGENT_S.sqrt() / 2.0).ceil())
    }

    /// The function F of a fresh region.
    pub(crate) fn fresh(&self, now: RawTime, region: &Region, caps: RateCaps) -> Bound {
        let margin_ns = self.settings.cpu_error_ns.saturating_add(self.phase_ns());
        let phase = FreqError::from_fraction(self.oscillator.phase_noise_s / (2.0 * PHASE_TANGENT_S.sqrt()));
        Bound {
            t_ref_ns: now.as_ns(),
            void_after_ns: now.as_ns().saturating_add(self.settings.max_holdover_ns),
            theta_lo_ns: region.theta_lo_ns.saturating_sub(margin_ns),
            theta_hi_ns: region.theta_hi_ns.saturating_add(margin_ns),
            omega_lo: region.omega_lo.max(caps.lo),
            omega_hi: region.omega_hi.min(caps.hi),
            cap_lo: caps.lo,
            cap_hi: caps.hi,
            half_wander: half_wander(self.oscillator.wander_per_s),
            phase_rate: phase.to_rate_up(),
        }
    }
}

/// What joining the fresh bound with the previous one gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Per edge the tighter of the two.
    Inside(Bound),
    /// They exclude each other.
    Disjoint,
}

/// A publication is written at most so long after its instant, unless the agent loses its processor for longer, ns: for
/// so long it stays inside the one before it.
const LATE_NS: i64 = 10_000_000;

/// Joins F with P, both at the same instant. F brings its validity and its caps.
///
/// F counts where it is the tighter one now and will be when it is written: tighter now by less than its slope takes back
/// until then, it would let a reader's earliest go back.
pub(crate) fn join(fresh: &Bound, previous: &Bound) -> Joined {
    let mut joined = *fresh;
    let written_ns = fresh.t_ref_ns.saturating_add(LATE_NS);
    let later = |bound: &Bound| bound.edges_at(written_ns).unwrap_or(Edges { lo_ns: i64::MIN, hi_ns: i64::MAX });
    let (fresh_then, previous_then) = (later(fresh), later(previous));
    if previous.theta_hi_ns < fresh.theta_hi_ns || previous_then.hi_ns < fresh_then.hi_ns {
        (joined.theta_hi_ns, joined.omega_hi) = (previous.theta_hi_ns, previous.omega_hi.min(joined.cap_hi));
    }
    if previous.theta_lo_ns > fresh.theta_lo_ns || previous_then.lo_ns > fresh_then.lo_ns {
        (joined.theta_lo_ns, joined.omega_lo) = (previous.theta_lo_ns, previous.omega_lo.max(joined.cap_lo));
    }
    let rates_meet = previous.omega_lo <= fresh.omega_hi && fresh.omega_lo <= previous.omega_hi;
    if joined.theta_lo_ns > joined.theta_hi_ns || !rates_meet {
        return Joined::Disjoint;
    }
    Joined::Inside(joined)
}

/// The edges of θ at a raw instant before the reference: θ(t_ref − d) = θ(t_ref) − ∫ω, and the rate was inside the same
/// limits then. Equal to the published edges at d = 0, rounded outward.
pub(crate) fn edges_before(bound: &Bound, at: RawTime) -> Edges {
    let d = i128::from(bound.t_ref_ns.saturating_sub(at.as_ns()).max(0));
    let wander = ((d * i128::from(bound.half_wander)) >> (WANDER_BITS - RATE_BITS)) + 1;
    let rate_hi = (i128::from(bound.omega_hi) + wander).min(bound.cap_hi.into()) + i128::from(bound.phase_rate);
    let rate_lo = (i128::from(bound.omega_lo) - wander).max(bound.cap_lo.into()) - i128::from(bound.phase_rate);
    let moved = |rate: i128| i64::try_from((d * rate) >> RATE_BITS).unwrap_or(i64::MAX);
    Edges {
        lo_ns: bound.theta_lo_ns.saturating_sub(moved(rate_hi).saturating_add(1)),
        hi_ns: bound.theta_hi_ns.saturating_sub(moved(rate_lo)),
    }
}

/// Width at the reference instant, ns.
pub(crate) fn width_ns(bound: &Bound) -> i64 {
    bound.theta_hi_ns.saturating_sub(bound.theta_lo_ns)
}

/// By how much the half-width grows in the first second, ns.
pub(crate) fn growth_per_s_ns(bound: &Bound) -> i64 {
    let spread = FreqError::from_rate(bound.omega_hi.saturating_sub(bound.omega_lo)).as_fraction();
    to_i64(spread * 0.5e9) + to_i64(to_f64(bound.phase_rate) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: Region = Region { theta_lo_ns: -1000, theta_hi_ns: 1000, omega_lo: -5_000_000, omega_hi: 5_000_000 };

    fn composer() -> Composer {
        Composer { oscillator: Oscillator::XO, settings: BoundSettings::default() }
    }

    fn fresh(region: Region) -> Bound {
        composer().fresh(RawTime::from_ns(0), &region, RateCaps::of(&Oscillator::XO))
    }

    #[test]
    fn a_fresh_bound_adds_its_margins_on_both_sides() {
        let bound = fresh(REGION);
        assert_eq!((bound.theta_lo_ns, bound.theta_hi_ns), (-1052, 1052));
        // J/(2√Δ₀) = 3e-8/0.25 = 0.12 ppm.
        assert!((FreqError::from_rate(bound.phase_rate).as_ppm() - 0.12).abs() < 1e-6);
    }

    #[test]
    fn the_folded_phase_noise_covers_the_square_root() {
        let (constant, rate) = (to_f64(composer().phase_ns()), FreqError::from_rate(fresh(REGION).phase_rate));
        for h_s in [0.0, 1e-4, 1e-3, 1.0 / 64.0, 0.1, 1.0, 100.0f64] {
            let folded = constant + rate.as_fraction() * h_s * 1e9;
            assert!(folded >= 3e-8 * h_s.sqrt() * 1e9, "after {h_s} s");
        }
    }

    #[test]
    fn each_edge_takes_the_tighter_function_whole() {
        let previous = Bound { theta_hi_ns: 500, omega_hi: 7_000_000, ..fresh(REGION) };
        let Joined::Inside(joined) = join(&fresh(REGION), &previous) else { panic!("they overlap") };
        assert_eq!((joined.theta_hi_ns, joined.omega_hi), (500, 7_000_000));
        assert_eq!((joined.theta_lo_ns, joined.omega_lo), (-1052, -5_000_000));
    }

    #[test]
    fn a_steeper_function_counts_only_if_it_is_still_the_tighter_one_when_it_is_written() {
        let ppm = FreqError::from_ppm(1.0).to_rate_up();
        let previous = fresh(REGION);
        // Steeper by 1 ppm: 10 ns in 10 ms.
        for (by_ns, is_taken) in [(9, false), (11, true)] {
            let steeper = Bound {
                theta_hi_ns: previous.theta_hi_ns - by_ns,
                theta_lo_ns: previous.theta_lo_ns + by_ns,
                omega_hi: previous.omega_hi + ppm,
                omega_lo: previous.omega_lo - ppm,
                ..previous
            };
            let Joined::Inside(joined) = join(&steeper, &previous) else { panic!("they overlap") };
            assert_eq!((joined == steeper, joined == previous), (is_taken, !is_taken), "{by_ns} ns");
        }
    }

    #[test]
    fn disjoint_bounds_are_told_apart_from_touching_ones() {
        let above = |by: i64| Bound { theta_lo_ns: by, theta_hi_ns: by + 2104, ..fresh(REGION) };
        assert!(matches!(join(&fresh(REGION), &above(1052)), Joined::Inside(_)));
        assert_eq!(join(&fresh(REGION), &above(1053)), Joined::Disjoint);
    }

    #[test]
    fn rates_stay_within_the_spread_of_this_boot() {
        let caps = RateCaps::of(&Oscillator::XO).narrowed(&REGION, FreqError::from_ppm(50.0)).expect("first");
        assert_eq!(caps.hi, 5_000_000 + FreqError::from_ppm(50.0).to_rate_up());
        let elsewhere = Region { omega_lo: caps.hi + 1, omega_hi: caps.hi + 2, ..REGION };
        assert_eq!(caps.narrowed(&elsewhere, FreqError::from_ppm(50.0)), None);
    }
}
