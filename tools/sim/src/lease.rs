//! Leases in the simulated world: the library under test, worst-case clocks inside their assumptions, a hostile network,
//! and a judge who knows the truth.
//!
//! A [`lab`] is one world (`place`) with many objects; each has a granter on one host (a primary lease: backups on all)
//! and holders on the others, who ask, renew, act, are preempted between `begin` and `confirm` for any time, give back,
//! crash and start again with what was stored. Messages are lost, repeated, late, out of order; hosts are cut off from
//! each other. The `judge` sees every action with its true instants, and asks everybody at the sharpest ones.
//!
//! The same lab with a planted fault ([`Break`]) finds violations, so that none without it says something.

mod agenda;
mod arena;
mod judge;
mod lab;
mod naive;
mod net;
mod place;
mod rules;
mod source;
mod tally;

pub use tally::{Cost, Tally};

use serde::Serialize;

/// Which leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Expiry at an instant.
    Clock,
    /// Expiry after a term of raw time.
    Rate,
    /// Promised by enough of several backups.
    Primary,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Clock, Kind::Rate, Kind::Primary];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Clock => "clock",
            Kind::Rate => "rate",
            Kind::Primary => "primary",
        }
    }
}

/// What the less certain of a lease's two hosts knew when its term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// A bound within ±100 µs.
    Tight,
    /// A wider one: a root far off its time, a cut, a restart.
    Wide,
    /// No bound: of its rate only that it is within ±Ω.
    None,
}

/// A planted fault, which must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// Leases believe in half of every proved uncertainty, of instants and of rates: ε below the real error.
    Rate,
    /// Holders act by what `begin` said, without `confirm`.
    NoConfirm,
    /// Leases by CLOCK_MONOTONIC, which a rival slews.
    Monotonic,
    /// Leases by CLOCK_REALTIME, without a bound.
    Realtime,
    /// Granters forget in a crash.
    NoPersist,
    /// Nobody looks at the time that a host slept.
    IgnoreSuspend,
}

/// One world's worth of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which leases.
    pub kind: Kind,
    /// With which fault.
    pub fault: Option<Break>,
    /// Granted terms after which it ends.
    pub terms: u64,
    /// Keep what happened to an object, for the timeline of its first violation.
    pub is_told: bool,
}

/// Runs the world of `seed` until so many terms were granted, and says what came of it.
#[must_use]
pub fn run(seed: u64, settings: Settings) -> Tally {
    let mut arena = arena::Arena::new();
    lab::Lab::new(seed, settings, arena.keeper()).run()
}
