//! The one extrapolation formula: how far true time can be from raw time, `h` after the reference instant.
//!
//! Let θ(T) = true time − T at raw time T. The agent proves, at `t_ref`, that θ lies in `[theta_lo, theta_hi]` and its
//! rate in `[omega_lo, omega_hi]`; the rate changes by at most A per second, and never leaves `[cap_lo, cap_hi]` within
//! this boot; phase noise adds at most `phase_rate` (the square-root law folded by a tangent, its constant already in
//! the edges). Hence, for h ≥ 0,
//!
//! ```text
//! hi(h) = theta_hi + h · (min(omega_hi + ½A·h, cap_hi) + phase_rate)        rounded up
//! lo(h) = theta_lo + h · (max(omega_lo − ½A·h, cap_lo) − phase_rate)        rounded down
//! ```
//!
//! The same function serves the reader, the agent (which carries its own bound forward with it, so that an update is
//! inside the aged previous one by construction) and every test.

use crate::interval::Unavailable;

/// Fraction bits of a published rate: one unit is 2⁻⁴⁰ s/s, about 0.9 parts per trillion.
pub const RATE_BITS: u32 = 40;

/// Fraction bits of `half_wander`: one unit is 2⁻⁸⁰ per ns.
pub const WANDER_BITS: u32 = 80;

/// How far a reader on another CPU may seem to be before the reference instant, in ns.
pub const MAX_NEGATIVE_AGE_NS: i64 = 1_000_000;

/// A published bound on θ = true time (TAI) − raw time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Raw time at which the edges hold, ns.
    pub t_ref_ns: i64,
    /// Raw time from which the bound says nothing, ns.
    pub void_after_ns: i64,
    /// Lower edge of θ at `t_ref`, ns.
    pub theta_lo_ns: i64,
    /// Upper edge of θ at `t_ref`, ns.
    pub theta_hi_ns: i64,
    /// Lower edge of dθ/dT at `t_ref`, 2⁻⁴⁰ s/s.
    pub omega_lo: i64,
    /// Upper edge of dθ/dT at `t_ref`, 2⁻⁴⁰ s/s.
    pub omega_hi: i64,
    /// dθ/dT is never below this within this boot, 2⁻⁴⁰ s/s.
    pub cap_lo: i64,
    /// dθ/dT is never above this within this boot, 2⁻⁴⁰ s/s.
    pub cap_hi: i64,
    /// ½A, half the largest change of rate: 2⁻⁸⁰ per ns.
    pub half_wander: u64,
    /// Allowance for phase noise, 2⁻⁴⁰ s/s.
    pub phase_rate: i64,
}

/// Lower and upper edge of θ at one instant, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    /// Lower edge, rounded down.
    pub lo_ns: i64,
    /// Upper edge, rounded up.
    pub hi_ns: i64,
}

impl Bound {
    /// The edges of θ at raw time `raw_ns`, rounded outward.
    ///
    /// # Errors
    /// [`Unavailable::Stale`] from `void_after` on, [`Unavailable::BeforeReference`] more than a millisecond before
    /// the reference instant (a smaller negative age is another CPU's view and counts as zero).
    #[inline]
    pub fn edges_at(&self, raw_ns: i64) -> Result<Edges, Unavailable> {
        match self.edges_soon(raw_ns) {
            Some(edges) => Ok(edges),
            None => self.edges_anytime(raw_ns),
        }
    }

    /// [`Bound::edges_anytime`] at ages below nine minutes where nothing saturates: what almost every read takes.
    ///
    /// ⌊age · rate / 2⁴⁰⌋ is the upper half of the 128-bit product 2²⁴·age · rate, which is one multiplication. What does
    /// not fit is a branch never taken, where a saturating addition would be waited for.
    #[inline]
    fn edges_soon(&self, raw_ns: i64) -> Option<Edges> {
        let age = raw_ns.checked_sub(self.t_ref_ns)?;
        if raw_ns >= self.void_after_ns || !(0..SOON_NS).contains(&age) {
            return None;
        }
        let scaled_age = age << SOON_SHIFT;
        let (wander, rest) = halves(u128::from(scaled_age.unsigned_abs()) * u128::from(self.half_wander));
        // Below 2⁶³, for the scaled age is.
        let wander = wander.cast_signed() + i64::from(rest != 0);
        let rate_hi = self.omega_hi.checked_add(wander)?.min(self.cap_hi).checked_add(self.phase_rate)?;
        let rate_lo = self.omega_lo.checked_sub(wander)?.max(self.cap_lo).checked_sub(self.phase_rate)?;
        let (hi, rest) = halves((i128::from(scaled_age) * i128::from(rate_hi)).cast_unsigned());
        let (lo, _) = halves((i128::from(scaled_age) * i128::from(rate_lo)).cast_unsigned());
        Some(Edges {
            lo_ns: self.theta_lo_ns.checked_add(lo.cast_signed())?,
            hi_ns: self.theta_hi_ns.checked_add(hi.cast_signed() + i64::from(rest != 0))?,
        })
    }

    /// As [`Bound::edges_at`], for every page that there can be.
    #[cold]
    fn edges_anytime(&self, raw_ns: i64) -> Result<Edges, Unavailable> {
        if raw_ns >= self.void_after_ns {
            return Err(Unavailable::Stale);
        }
        let age = raw_ns.saturating_sub(self.t_ref_ns);
        if age < -MAX_NEGATIVE_AGE_NS {
            return Err(Unavailable::BeforeReference);
        }
        let age = age.max(0);
        let half_wander = self.half_wander_over(age);
        let rate_hi = self.omega_hi.saturating_add(half_wander).min(self.cap_hi).saturating_add(self.phase_rate);
        let rate_lo = self.omega_lo.saturating_sub(half_wander).max(self.cap_lo).saturating_sub(self.phase_rate);
        Ok(Edges {
            lo_ns: self.theta_lo_ns.saturating_add(scaled_floor(age, rate_lo)),
            hi_ns: self.theta_hi_ns.saturating_add(scaled_ceil(age, rate_hi)),
        })
    }

    /// The same bound with `t_ref` moved to `raw_ns`: equal to the original at that instant, and later as tight as the
    /// caps allow (the original does not know when its quadratic met them).
    ///
    /// With H the distance moved: θ_hi becomes hi(H), and the rate at the new reference is at most ω_hi + A·H.
    ///
    /// # Errors
    /// As [`Bound::edges_at`].
    pub fn carried_to(&self, raw_ns: i64) -> Result<Bound, Unavailable> {
        let edges = self.edges_at(raw_ns)?;
        let raw_ns = raw_ns.max(self.t_ref_ns);
        let wander = self.half_wander_over(raw_ns.saturating_sub(self.t_ref_ns)).saturating_mul(2);
        Ok(Bound {
            t_ref_ns: raw_ns,
            theta_lo_ns: edges.lo_ns,
            theta_hi_ns: edges.hi_ns,
            omega_lo: self.omega_lo.saturating_sub(wander).max(self.cap_lo),
            omega_hi: self.omega_hi.saturating_add(wander).min(self.cap_hi),
            ..*self
        })
    }

    /// ½A·age in units of 2⁻⁴⁰, rounded up.
    #[inline]
    fn half_wander_over(&self, age_ns: i64) -> i64 {
        let product = u128::from(age_ns.unsigned_abs()) * u128::from(self.half_wander);
        let shift = WANDER_BITS - RATE_BITS;
        let rounded_up = (product + ((1 << shift) - 1)) >> shift;
        i64::try_from(rounded_up).unwrap_or(i64::MAX)
    }
}

/// Ages below this, ns, keep their sign when shifted by [`SOON_SHIFT`]: nine minutes.
const SOON_NS: i64 = 1 << (63 - SOON_SHIFT);
/// Moves a product's 2⁻⁴⁰ to its upper half.
const SOON_SHIFT: u32 = 64 - RATE_BITS;

/// a + b, saturating; where it fits, which is always in practice, nothing waits for the other case.
#[inline]
pub(crate) fn sum(a: i64, b: i64) -> i64 {
    a.checked_add(b).unwrap_or_else(|| saturated(b))
}

#[cold]
fn saturated(toward: i64) -> i64 {
    if toward < 0 { i64::MIN } else { i64::MAX }
}

/// Upper and lower 64 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "that is what halves are")]
fn halves(wide: u128) -> (u64, u64) {
    ((wide >> 64) as u64, wide as u64)
}

#[inline]
fn scaled_floor(age_ns: i64, rate: i64) -> i64 {
    saturate((i128::from(age_ns) * i128::from(rate)) >> RATE_BITS)
}

#[inline]
fn scaled_ceil(age_ns: i64, rate: i64) -> i64 {
    saturate(-((-(i128::from(age_ns) * i128::from(rate))) >> RATE_BITS))
}

#[inline]
fn saturate(wide: i128) -> i64 {
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PPM: i64 = (1 << RATE_BITS) / 1_000_000;

    fn bound() -> Bound {
        Bound {
            t_ref_ns: 1_000_000_000,
            void_after_ns: 3_600_000_000_000,
            theta_lo_ns: -500,
            theta_hi_ns: 700,
            omega_lo: -PPM,
            omega_hi: 2 * PPM,
            cap_lo: -50 * PPM,
            cap_hi: 50 * PPM,
            // A = 1e-7 /s: half is 5e-17 per ns.
            half_wander: 60_446_291,
            phase_rate: 0,
        }
    }

    #[test]
    fn edges_at_the_reference_are_the_published_ones() {
        assert_eq!(bound().edges_at(1_000_000_000), Ok(Edges { lo_ns: -500, hi_ns: 700 }));
    }

    #[test]
    fn growth_rounds_outward_by_at_most_a_nanosecond() {
        // After one second: 2 ppm is 2,000 ns and half the wander 50 ns above, 1,000 ns and 50 ns below.
        let edges = bound().edges_at(2_000_000_000).expect("inside validity");
        assert!((2750..=2752).contains(&edges.hi_ns), "{edges:?}");
        assert!((-1552..=-1550).contains(&edges.lo_ns), "{edges:?}");
    }

    #[test]
    fn validity_ends_exactly_at_void_after() {
        assert!(bound().edges_at(3_599_999_999_999).is_ok());
        assert_eq!(bound().edges_at(3_600_000_000_000), Err(Unavailable::Stale));
    }

    #[test]
    fn a_small_negative_age_counts_as_zero_and_a_large_one_is_refused() {
        let edges = bound().edges_at(1_000_000_000 - MAX_NEGATIVE_AGE_NS).expect("another CPU's view");
        assert_eq!(edges, Edges { lo_ns: -500, hi_ns: 700 });
        assert_eq!(bound().edges_at(1_000_000_000 - MAX_NEGATIVE_AGE_NS - 1), Err(Unavailable::BeforeReference));
    }

    #[test]
    fn the_cap_stops_the_quadratic() {
        let far = bound().edges_at(3_000_000_000_000).expect("inside validity");
        // 2,999 s at 50 ppm is 149.95 ms; the quadratic alone would give 456 ms.
        assert!((149_950_000..=149_951_000).contains(&far.hi_ns), "{far:?}");
    }

    proptest! {
        #[test]
        fn carrying_forward_keeps_what_the_oscillator_may_do(
            first in 0i64..2_000_000_000_000, then in 0i64..1_000_000_000_000,
            omega in -40i64..40, wander in 0u64..1_000_000_000,
        ) {
            let bound = Bound { omega_hi: omega * PPM, half_wander: wander, void_after_ns: i64::MAX, ..bound() };
            let carried = bound.carried_to(bound.t_ref_ns + first).expect("valid");
            let edges = carried.edges_at(bound.t_ref_ns + first + then).expect("valid");
            // The worst oscillator: its frequency rises by A per second from omega until it meets the cap.
            #[expect(clippy::cast_precision_loss, reason = "a nanosecond in an hour is far inside 52 bits")]
            let worst = {
                let unit = (1u64 << RATE_BITS) as f64;
                let (t, slope) = ((first + then) as f64, 2.0 * wander as f64 / unit / unit);
                let (omega, cap) = (bound.omega_hi as f64 / unit, bound.cap_hi as f64 / unit);
                let rising = if slope == 0.0 { t } else { ((cap - omega) / slope).min(t) };
                700.0 + omega * rising + 0.5 * slope * rising * rising + cap * (t - rising)
            };
            #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
            let published = edges.hi_ns as f64;
            prop_assert!(published >= worst - 0.01, "published {published}, an oscillator inside its class reaches {worst}");
        }

        #[test]
        fn no_input_panics_or_wraps(words in prop::array::uniform9(any::<i64>()), half_wander: u64, raw: i64) {
            let [t_ref_ns, void_after_ns, theta_lo_ns, theta_hi_ns, omega_lo, omega_hi, cap_lo, cap_hi, phase_rate] = words;
            let bound = Bound { t_ref_ns, void_after_ns, theta_lo_ns, theta_hi_ns, omega_lo, omega_hi, cap_lo, cap_hi,
                half_wander, phase_rate };
            let _ = bound.edges_at(raw);
            let _ = bound.carried_to(raw);
        }
    }
}
