//! Status and reason: one pure function of what the synthesis found.

use truebound_client::{Reason, Status};

/// What is known when the status is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Independence groups configured.
    pub(crate) groups: usize,
    /// Groups that may lie.
    pub(crate) max_liars: usize,
    /// Groups that have answered lately.
    pub(crate) live_groups: usize,
    /// A bound can be published.
    pub(crate) has_bound: bool,
    /// Something is asserted.
    pub(crate) has_asserted: bool,
    /// A bound was published in this run, or is left over from the previous one.
    pub(crate) had_bound: bool,
    /// The region relies on a trusted source.
    pub(crate) uses_trust: bool,
    /// The kernel's clocksource is of no class that was stated.
    pub(crate) has_unknown_clocksource: bool,
    /// Something broke and is not mended yet.
    pub(crate) broken: Option<Broken>,
}

/// What broke, until a new region is earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Sources contradict each other or themselves: nobody can say who is right.
    Void(Reason),
    /// This host changed under us; the sources are fine.
    Disrupted(Reason),
}

/// The status and its reason.
pub(crate) fn decide(findings: &Findings) -> (Status, Reason) {
    let Findings { groups, max_liars, live_groups, has_bound, had_bound, uses_trust, .. } = *findings;
    if findings.has_unknown_clocksource {
        return (Status::FreeRunning, Reason::UnknownClocksource);
    }
    match findings.broken {
        Some(Broken::Void(reason)) => return (Status::Void, reason),
        Some(Broken::Disrupted(reason)) => return (Status::Disrupted, reason),
        None => {}
    }
    if !has_bound {
        if findings.has_asserted && !had_bound {
            return (Status::Starting, Reason::AssertedOnly);
        }
        return match (groups, had_bound) {
            (0, _) => (Status::FreeRunning, Reason::NoSources),
            (_, true) => (Status::FreeRunning, Reason::BoundExpired),
            (_, false) => (Status::Starting, Reason::NoAnswerYet),
        };
    }
    if live_groups == 0 || live_groups + max_liars < groups {
        return (Status::Holdover, Reason::SourcesSilent);
    }
    let reason = if uses_trust {
        Reason::AssumesTrust
    } else if max_liars == 0 {
        Reason::NoLiarTolerated
    } else {
        Reason::Majority
    };
    (Status::Locked, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Findings = Findings {
        has_asserted: false,
        groups: 3,
        max_liars: 1,
        live_groups: 3,
        has_bound: true,
        had_bound: true,
        uses_trust: false,
        has_unknown_clocksource: false,
        broken: None,
    };

    #[test]
    fn a_quorum_locks_and_one_less_holds_over() {
        assert_eq!(decide(&THREE), (Status::Locked, Reason::Majority));
        assert_eq!(decide(&Findings { live_groups: 2, ..THREE }).0, Status::Locked);
        assert_eq!(decide(&Findings { live_groups: 1, ..THREE }), (Status::Holdover, Reason::SourcesSilent));
    }

    #[test]
    fn few_groups_are_said_to_tolerate_no_liar() {
        let two = Findings { groups: 2, max_liars: 0, live_groups: 2, ..THREE };
        assert_eq!(decide(&two), (Status::Locked, Reason::NoLiarTolerated));
        assert_eq!(decide(&Findings { uses_trust: true, ..two }), (Status::Locked, Reason::AssumesTrust));
    }

    #[test]
    fn no_bound_is_starting_then_free_running() {
        let none = Findings { has_bound: false, had_bound: false, ..THREE };
        assert_eq!(decide(&none), (Status::Starting, Reason::NoAnswerYet));
        assert_eq!(decide(&Findings { had_bound: true, ..none }), (Status::FreeRunning, Reason::BoundExpired));
        assert_eq!(decide(&Findings { groups: 0, ..none }), (Status::FreeRunning, Reason::NoSources));
    }

    #[test]
    fn an_assertion_is_no_bound() {
        let asserted = Findings { has_bound: false, had_bound: false, has_asserted: true, ..THREE };
        assert_eq!(decide(&asserted), (Status::Starting, Reason::AssertedOnly));
        assert_eq!(decide(&Findings { has_bound: true, ..asserted }), (Status::Locked, Reason::Majority));
    }

    #[test]
    fn what_broke_outranks_everything() {
        let broken = Findings { broken: Some(Broken::Void(Reason::SourceJumped)), ..THREE };
        assert_eq!(decide(&broken), (Status::Void, Reason::SourceJumped));
    }
}
