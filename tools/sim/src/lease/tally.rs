//! What came of leases: terms and actions, violations, refusals, and what the margin of a term cost.

use std::collections::BTreeMap;

use serde::Serialize;

/// Time in which nobody could act at the end of terms that ran out, beyond what messages took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Terms that were measured.
    pub count: u64,
    /// Of all of them, ns.
    pub sum_ns: i64,
    /// The most, ns.
    pub max_ns: i64,
}

impl Cost {
    /// One more term.
    pub fn add(&mut self, lost_ns: i64) {
        self.merge(&Cost { count: 1, sum_ns: lost_ns, max_ns: lost_ns });
    }

    /// Those of another world as well.
    pub fn merge(&mut self, other: &Cost) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Mean, ns.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.count.max(1) as f64
    }
}

/// A world's leases, or those of many worlds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Granted, renewals among them.
    pub terms: u64,
    /// Of those, renewals.
    pub renewals: u64,
    /// Confirmed.
    pub actions: u64,
    /// Begun and not confirmed.
    pub unconfirmed: u64,
    /// Instants at which everybody was asked at once.
    pub probes: u64,
    /// Two holders at one true instant.
    pub two_holders: u64,
    /// A granter thought expired what a holder thought held.
    pub free_while_held: u64,
    /// Effects that took place behind a later holder's.
    pub late_effects: u64,
    /// Effects that the gate refused.
    pub fenced_off: u64,
    /// Intervals on the hosts' pages that did not contain true time.
    pub bound_violations: u64,
    /// Instants at random, and those of them at which somebody could act.
    pub instants: u64,
    /// See above.
    pub able: u64,
    /// True time, object by object, s.
    pub object_seconds: f64,
    /// Refusals by who refused and why.
    pub refused: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// What the margin cost, by the length of the term, ns, and by [`Certainty`](super::Certainty).
    pub cost: BTreeMap<i64, [Cost; 3]>,
    /// The first violation, and the history of its object if that was kept.
    pub first: Option<String>,
}

impl Tally {
    /// All violations.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.two_holders + self.free_while_held + self.late_effects
    }

    /// One more refusal: who, and why.
    pub(super) fn refuse(&mut self, who: &'static str, why: &'static str) {
        *self.refused.entry(who).or_default().entry(why).or_default() += 1;
    }

    /// Share of the instants at which somebody could act.
    #[must_use]
    pub fn availability(&self) -> f64 {
        self.able as f64 / self.instants.max(1) as f64
    }

    /// Those of another world as well.
    pub fn merge(&mut self, other: &Tally) {
        self.terms += other.terms;
        self.renewals += other.renewals;
        self.actions += other.actions;
        self.unconfirmed += other.unconfirmed;
        self.probes += other.probes;
        self.two_holders += other.two_holders;
        self.free_while_held += other.free_while_held;
        self.late_effects += other.late_effects;
        self.fenced_off += other.fenced_off;
        self.bound_violations += other.bound_violations;
        self.instants += other.instants;
        self.able += other.able;
        self.object_seconds += other.object_seconds;
        for (who, words) in &other.refused {
            let mine = self.refused.entry(who).or_default();
            words.iter().for_each(|(why, count)| *mine.entry(why).or_default() += count);
        }
        for (term_ns, costs) in &other.cost {
            let mine = self.cost.entry(*term_ns).or_default();
            mine.iter_mut().zip(costs).for_each(|(mine, other)| mine.merge(other));
        }
        if self.first.is_none() {
            self.first.clone_from(&other.first);
        }
    }
}
