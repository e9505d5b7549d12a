//! How a host stamps its packets, and what its drivers get wrong.
//!
//! Software stamps are one-sided: the kernel stamps a packet before it leaves and after it arrived, and the time between
//! stamp and wire is what the driver needs. Hardware stamps are taken at the wire, with an error of both signs and a
//! quantum; they reach the agent as kernel stamps whose clock was read within `cross-ns`, which is what a cross
//! timestamp of a PHC is good for.

use serde::Deserialize;

use crate::rng::Rng;

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NicSpec {
    /// Where stamps come from.
    pub stamps: Stamps,
    /// Probability that a transmit stamp is lost.
    pub tx_lost: f64,
    /// Probability that a receive stamp is lost.
    pub rx_lost: f64,
    /// Transmit stamps come in a message of their own.
    pub is_late: bool,
    /// Probability that a transmit stamp is the one of the packet before: a driver that counts wrongly.
    pub swapped: f64,
    /// One reading of the kernel's clock against raw time takes from twice to four times this, ns.
    pub cross_ns: i64,
}

/// Where stamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stamps {
    /// The kernel.
    Software(Software),
    /// The NIC.
    Hardware(Hardware),
}

/// The time between stamp and wire: a constant, an exponential, and sometimes much more.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Software {
    /// At least, ns.
    pub least_ns: f64,
    /// Mean of the exponential on top, ns.
    pub mean_ns: f64,
    /// Probability of an interruption.
    pub slow: f64,
    /// Its least and greatest length, ns.
    pub slow_ns: [f64; 2],
}

/// The error of a stamp taken at the wire.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hardware {
    /// Uniform within ± this, ns.
    pub noise_ns: i64,
    /// Rounded down to a multiple of this, ns.
    pub quantum_ns: i64,
    /// Probability that a transmit stamp is late by 50 to 300 ns.
    pub glitch: f64,
}

impl Default for Software {
    fn default() -> Self {
        Software { least_ns: 2e3, mean_ns: 3e3, slow: 0.02, slow_ns: [10e3, 60e3] }
    }
}

impl Default for Hardware {
    fn default() -> Self {
        Hardware { noise_ns: 8, quantum_ns: 1, glitch: 0.0 }
    }
}

impl Default for NicSpec {
    fn default() -> Self {
        NicSpec { stamps: Stamps::Software(Software::default()), ..NicSpec::PROMPT }
    }
}

impl NicSpec {
    /// Software stamps a microsecond from the wire, and never lost.
    pub const PROMPT: NicSpec = NicSpec {
        stamps: Stamps::Software(Software { least_ns: 200.0, mean_ns: 900.0, slow: 0.0, slow_ns: [0.0, 0.0] }),
        tx_lost: 0.0,
        rx_lost: 0.0,
        is_late: false,
        swapped: 0.0,
        cross_ns: 13,
    };

    /// Stamps at the wire, and a cross timestamp of some nanoseconds.
    pub const HARDWARE: NicSpec = NicSpec {
        stamps: Stamps::Hardware(Hardware { noise_ns: 8, quantum_ns: 1, glitch: 0.0 }),
        cross_ns: 1,
        ..NicSpec::PROMPT
    };

    /// The greatest error of a stamp in the direction that narrows a constraint, ns: late when it left, early when it
    /// arrived.
    #[must_use]
    pub fn error_ns(&self) -> i64 {
        match self.stamps {
            Stamps::Software(_) => 0,
            Stamps::Hardware(Hardware { noise_ns, quantum_ns, glitch }) => {
                noise_ns + quantum_ns.max(1) - 1 + if glitch > 0.0 { 300 } else { 0 }
            }
        }
    }

    /// From the stamp to the wire, or from the wire to the stamp, ns.
    pub(crate) fn wire_distance_ns(&self, rng: &mut Rng) -> i64 {
        match self.stamps {
            Stamps::Hardware(_) => 0,
            Stamps::Software(Software { least_ns, mean_ns, slow, slow_ns: [from, to] }) => {
                let extra = if slow > 0.0 && rng.chance(slow) { rng.uniform(from, to) } else { 0.0 };
                (least_ns + mean_ns * rng.exponential() + extra) as i64
            }
        }
    }

    /// The error of a stamp at the wire, ns: positive is late.
    pub(crate) fn noise_ns(&self, is_tx: bool, rng: &mut Rng) -> i64 {
        match self.stamps {
            Stamps::Software(_) => 0,
            Stamps::Hardware(Hardware { noise_ns, glitch, .. }) => {
                let glitch = if is_tx && glitch > 0.0 && rng.chance(glitch) { rng.between(50, 301) } else { 0 };
                rng.between(-noise_ns, noise_ns + 1) + glitch
            }
        }
    }

    /// What a counter of this quantum shows.
    pub(crate) fn quantised(&self, ns: i64) -> i64 {
        match self.stamps {
            Stamps::Hardware(Hardware { quantum_ns, .. }) if quantum_ns > 1 => ns - ns.rem_euclid(quantum_ns),
            _ => ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_within_what_is_said_of_them() {
        let mut rng = Rng::new(1);
        let spec = NicSpec {
            stamps: Stamps::Hardware(Hardware { noise_ns: 8, quantum_ns: 8, glitch: 0.5 }),
            ..NicSpec::HARDWARE
        };
        for _ in 0..10_000 {
            let early = -spec.noise_ns(false, &mut rng) + 7;
            assert!(early <= spec.error_ns() && spec.noise_ns(true, &mut rng) <= spec.error_ns());
            assert!(NicSpec::default().wire_distance_ns(&mut rng) >= 2_000);
        }
        assert_eq!(NicSpec::default().error_ns(), 0);
    }
}
