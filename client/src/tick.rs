//! Elapsed time that is proved, without knowing what time it is: what rate leases stand on.
//!
//! A [`Tick`] is a reading of raw time with what is proved of its rate from then on. Between two ticks of one host, Δ of
//! raw time apart, true time advanced by
//!
//! ```text
//! at least  Δ + ⌊Δ · (max(ω_min − ½AΔ, cap_lo) − phase)⌋ − margin
//! at most   Δ + ⌈Δ · (min(ω_max + ½AΔ, cap_hi) + phase)⌉ + margin + 1
//! ```
//! which is [`Bound::edges_at`] with both edges of θ at ∓margin: the phase noise's constant and the raw clocks of two
//! CPUs. Never CLOCK_MONOTONIC: whoever may call adjtimex(2) moves its rate by more than 20 %.

use crate::bound::{Bound, RATE_BITS};

/// Raw clocks of different CPUs differ by less, ns; five times what several sockets need.
pub const CPU_SKEW_NS: i64 = 1_000;
/// Δ₀: where the published `phase_rate` J/(2√Δ₀) is tangent to J√h, ns. Its constant J√Δ₀/2 is `phase_rate`·Δ₀.
pub const PHASE_TANGENT_NS: i64 = 15_625_000;
/// A host does not suspend and resume within this, ns, and reading two clocks is far better than this.
pub const SUSPEND_RESOLUTION_NS: i64 = 1_000_000;

/// A reading of raw time, and how fast true time runs against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Raw time, ns.
    pub raw_ns: i64,
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC, ns: time that the host slept and raw time stood still.
    pub suspended_ns: i64,
    /// The page's epoch: between ticks of two epochs nothing is proved.
    pub epoch: u64,
    /// Rates from `raw_ns` on. θ is 0 at that instant, and it is never void.
    pub rates: Bound,
}

/// How much true time passed between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// At least this, ns.
    pub least_ns: i64,
    /// At most this, ns; `None` if nobody can say: the host slept, or an assumption broke in between.
    pub most_ns: Option<i64>,
}

impl Tick {
    /// A tick at `raw_ns` with the rates that `bound` proves from then on; nothing but its rates is used.
    #[must_use]
    pub fn new(raw_ns: i64, suspended_ns: i64, epoch: u64, bound: &Bound) -> Self {
        let timeless = Bound { void_after_ns: i64::MAX, ..*bound };
        // Before its reference a bound proves nothing of the rate: its caps then.
        let rates = timeless.carried_to(raw_ns).unwrap_or(timeless.capped());
        Tick { raw_ns, suspended_ns, epoch, rates: Bound { t_ref_ns: raw_ns, theta_lo_ns: 0, theta_hi_ns: 0, ..rates } }
    }

    /// True time from `earlier` to this tick of the same host.
    #[must_use]
    pub fn since(&self, earlier: &Tick) -> Elapsed {
        let margin_ns = CPU_SKEW_NS.saturating_add(earlier.rates.phase_margin_ns());
        let slept_ns = self.suspended_ns.saturating_sub(earlier.suspended_ns);
        let has_slept = slept_ns.saturating_abs() >= SUSPEND_RESOLUTION_NS;
        // The oscillator wandered on while raw time stood still: only the caps hold then.
        let rates = if has_slept { earlier.rates.capped() } else { earlier.rates };
        let rates = Bound { theta_lo_ns: -margin_ns, theta_hi_ns: margin_ns, ..rates };
        let delta_ns = self.raw_ns.saturating_sub(earlier.raw_ns);
        let Some(edges) = rates.edges_at(self.raw_ns).ok().filter(|_| self.epoch == earlier.epoch) else {
            return Elapsed { least_ns: 0, most_ns: None };
        };
        // Both readings were truncated.
        let most_ns = delta_ns.saturating_add(1).saturating_add(edges.hi_ns);
        let least_ns = delta_ns.saturating_sub(1).saturating_add(edges.lo_ns).max(0);
        Elapsed { least_ns, most_ns: (!has_slept).then_some(most_ns.max(least_ns)) }
    }
}

impl Bound {
    /// The same with nothing known of the rate but its caps.
    const fn capped(self) -> Bound {
        Bound { omega_lo: self.cap_lo, omega_hi: self.cap_hi, ..self }
    }

    /// The constant of the folded phase noise, ns, rounded up: J√h ≤ this + `phase_rate`·h.
    fn phase_margin_ns(&self) -> i64 {
        let scaled = i128::from(self.phase_rate.max(0)) * i128::from(PHASE_TANGENT_NS);
        i64::try_from((scaled >> RATE_BITS) + 1).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPM: i64 = (1 << RATE_BITS) / 1_000_000;
    const S: i64 = 1_000_000_000;

    fn bound() -> Bound {
        Bound {
            t_ref_ns: 5 * S,
            void_after_ns: 6 * S,
            theta_lo_ns: 7,
            theta_hi_ns: 9,
            omega_lo: 10 * PPM,
            omega_hi: 20 * PPM,
            cap_lo: -50 * PPM,
            cap_hi: 50 * PPM,
            half_wander: 0,
            phase_rate: 0,
        }
    }

    fn tick(raw_ns: i64) -> Tick {
        Tick::new(raw_ns, 0, 1, &bound())
    }

    #[test]
    fn elapsed_time_follows_the_proved_rates_rounded_outward() {
        let elapsed = tick(20 * S).since(&tick(10 * S));
        // 10 s at +10 to +20 ppm, less and plus 1 µs of CPUs, 1 ns of phase and 1 ns of truncation.
        let (least, most) = (10 * S + 100_000 - 1_002, 10 * S + 200_000 + 1_002);
        assert!((least - 2..=least).contains(&elapsed.least_ns), "{elapsed:?}");
        assert!((most..=most + 2).contains(&elapsed.most_ns.expect("nothing broke")), "{elapsed:?}");
    }

    #[test]
    fn a_sleep_leaves_only_the_lower_limit() {
        let asleep = Tick { suspended_ns: SUSPEND_RESOLUTION_NS, ..tick(20 * S) };
        let elapsed = asleep.since(&tick(10 * S));
        // At the cap of -50 ppm.
        assert!(
            elapsed.most_ns.is_none() && (10 * S - 501_100..10 * S - 501_000).contains(&elapsed.least_ns),
            "{elapsed:?}"
        );
        let noise = Tick { suspended_ns: SUSPEND_RESOLUTION_NS - 1, ..tick(20 * S) };
        assert!(noise.since(&tick(10 * S)).most_ns.is_some());
    }

    #[test]
    fn nothing_is_proved_across_epochs_or_backwards() {
        let other = Tick { epoch: 2, ..tick(20 * S) };
        assert_eq!(other.since(&tick(10 * S)), Elapsed { least_ns: 0, most_ns: None });
        assert_eq!(tick(10 * S).since(&tick(20 * S)), Elapsed { least_ns: 0, most_ns: None });
    }

    #[test]
    fn rates_before_the_reference_are_the_caps() {
        let elapsed = tick(2 * S).since(&tick(S));
        assert!(elapsed.least_ns < S - 49_000, "{elapsed:?}");
    }
}
