//! The guaranteed region: what the exchanges prove of θ = true time − raw time and of its rate ω (BOUND §3, §4).
//!
//! [`hull`] keeps one direction's constraints of one source, [`polygon`] turns two directions into the extreme edges,
//! [`vote`] combines the sources.

pub(crate) mod hull;
pub(crate) mod polygon;
pub(crate) mod vote;

/// θ and ω at one instant, each between two ends: θ in ns, ω in 2⁻⁴⁰ s/s. Rounded outward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Least θ, ns.
    pub theta_lo_ns: i64,
    /// Greatest θ, ns.
    pub theta_hi_ns: i64,
    /// Least ω, 2⁻⁴⁰ s/s.
    pub omega_lo: i64,
    /// Greatest ω, 2⁻⁴⁰ s/s.
    pub omega_hi: i64,
}

impl Region {
    /// Half the width in θ, rounded up, ns.
    #[must_use]
    pub fn half_width_ns(&self) -> i64 {
        self.theta_hi_ns.saturating_sub(self.theta_lo_ns).saturating_add(1) / 2
    }

    /// The smallest region that contains both.
    #[must_use]
    pub fn hull(self, other: Region) -> Region {
        Region {
            theta_lo_ns: self.theta_lo_ns.min(other.theta_lo_ns),
            theta_hi_ns: self.theta_hi_ns.max(other.theta_hi_ns),
            omega_lo: self.omega_lo.min(other.omega_lo),
            omega_hi: self.omega_hi.max(other.omega_hi),
        }
    }

    /// What both allow; `None` if nothing.
    #[must_use]
    pub fn intersect(self, other: Region) -> Option<Region> {
        let both = Region {
            theta_lo_ns: self.theta_lo_ns.max(other.theta_lo_ns),
            theta_hi_ns: self.theta_hi_ns.min(other.theta_hi_ns),
            omega_lo: self.omega_lo.max(other.omega_lo),
            omega_hi: self.omega_hi.min(other.omega_hi),
        };
        (both.theta_lo_ns <= both.theta_hi_ns && both.omega_lo <= both.omega_hi).then_some(both)
    }
}
