//! What we aim at, whether it was reached, and whether the README claims it.
//!
//! Claimed is everything but the half-width at one exchange a second through a hop whose queue is hardly ever empty: at
//! 90 % load, or beside a bulk flow. An oscillator may change by 1e-7 a second (A1), so the last packet that met no queue
//! is soon too long ago to prove much. chronyd's root distance has no such term; it is no proof.

use serde::Serialize;

use crate::figures::{Contestant, Figures};
use crate::scenario::Scenario;

/// On an idle hop ours may err by so many times the peer's error at the same rate.
const IDLE_TIMES: f64 = 1.1;
/// How much nearer than ptp4l we are from this load on.
const PTP_TIMES: f64 = 20.0;
const PTP_PERCENT: u32 = 60;
/// From this load on the hop's queue is hardly ever empty.
const FULL_PERCENT: u32 = 90;
/// Half-width − E over chronyd's root distance, idle and loaded.
const IDLE_WIDTH: f64 = 1.05;
const LOADED_WIDTH: f64 = 1.0;
const MAX_RSS_KIB: u64 = 10_240;

/// One claim, and the figures that decide it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Claim {
    pub(crate) scenario: Scenario,
    pub(crate) contestant: Contestant,
    pub(crate) claim: &'static str,
    /// The ratio, or the number, that decides.
    pub(crate) value: f64,
    /// What it may be at most.
    pub(crate) limit: f64,
    pub(crate) holds: bool,
    /// By the README. What is not claimed is shown all the same.
    pub(crate) is_claimed: bool,
}

impl Claim {
    pub(crate) fn is_broken(&self) -> bool {
        self.is_claimed && !self.holds
    }
}

/// All claims about these medians.
pub(crate) fn claims(medians: &[Figures]) -> Vec<Claim> {
    let find = |scenario: Scenario, contestant: Contestant| {
        medians.iter().find(move |figures| figures.scenario == scenario && figures.contestant == contestant)
    };
    let pairs = Scenario::ALL.into_iter().flat_map(|scenario| Contestant::PAIRS.map(|pair| (scenario, pair)));
    pairs
        .filter_map(|(scenario, (ours, peer))| Some((find(scenario, ours)?, find(scenario, peer)?)))
        .flat_map(of_pair)
        .collect()
}

fn of_pair((ours, peer): (&Figures, &Figures)) -> Vec<Claim> {
    let claim = |is_claimed, claim, value: f64, limit: f64| Claim {
        scenario: ours.scenario,
        contestant: ours.contestant,
        claim,
        value,
        limit,
        holds: value <= limit,
        is_claimed,
    };
    let is_idle = ours.scenario == Scenario::Idle;
    let is_ptp = ours.contestant == Contestant::TrueboundPtp;
    let far_ahead = is_ptp && ours.scenario.percent() >= PTP_PERCENT;
    let errors = if is_idle {
        IDLE_TIMES
    } else if far_ahead {
        1.0 / PTP_TIMES
    } else {
        1.0
    };
    let mut all = vec![
        claim(true, "error p50 / the peer's", ratio(ours.error_ns.p50, peer.error_ns.p50), errors),
        claim(true, "error p99 / the peer's", ratio(ours.error_ns.p99, peer.error_ns.p99), errors),
        claim(true, "violations", count(ours.violations), 0.0),
        claim(true, "peak memory, KiB", count(ours.peak_rss_kib), count(MAX_RSS_KIB)),
    ];
    if let (Some(width), Some(distance)) = (ours.half_width_ns, peer.half_width_ns) {
        let limit = if is_idle { IDLE_WIDTH } else { LOADED_WIDTH };
        let is_full = ours.scenario == Scenario::Bulk || ours.scenario.percent() >= FULL_PERCENT;
        let is_claimed = ours.contestant != Contestant::Truebound1 || !is_full;
        all.push(claim(
            is_claimed,
            "half-width − E, p50 / root distance",
            ratio(width.proved_p50(), distance.said.p50),
            limit,
        ));
    }
    // At one packet a second, or under traffic, both cost too little beside what the machine does for others.
    if is_idle && ours.contestant == Contestant::Truebound64 {
        all.push(claim(true, "processor time / the peer's", ours.cpu_s_per_min / peer.cpu_s_per_min, 1.0));
    }
    all
}

fn ratio(ours: i64, theirs: i64) -> f64 {
    let of = |ns: i64| i32::try_from(ns).map_or(f64::INFINITY, f64::from);
    of(ours) / of(theirs).max(1.0)
}

fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::figures;

    /// The claims of the PTP pair that do not hold, where the peer errs by 1 µs.
    fn broken(scenario: Scenario, ours_ns: i64) -> Vec<&'static str> {
        let pair = [figures(scenario, Contestant::TrueboundPtp, ours_ns), figures(scenario, Contestant::Ptp4l, 1_000)];
        claims(&pair).into_iter().filter(Claim::is_broken).map(|claim| claim.claim).collect()
    }

    #[test]
    fn errors_are_claimed_to_the_edge_and_no_further() {
        let both = ["error p50 / the peer's", "error p99 / the peer's"];
        for (scenario, limit_ns) in [(Scenario::Idle, 1_100), (Scenario::Bulk, 1_000), (Scenario::Down60, 50)] {
            assert!(broken(scenario, limit_ns).is_empty(), "{scenario:?}");
            assert_eq!(broken(scenario, limit_ns + 1), both, "{scenario:?}");
        }
    }

    #[test]
    fn a_violation_or_a_wide_bound_breaks_a_claim() {
        let mut pair = [Contestant::Truebound64, Contestant::Chrony64].map(|who| figures(Scenario::Down30, who, 100));
        assert!(claims(&pair).iter().all(|claim| claim.holds));
        pair[0].violations = 1;
        pair[0].half_width_ns.as_mut().expect("ours has one").claim = -1;
        let broken: Vec<_> = claims(&pair).into_iter().filter(Claim::is_broken).map(|claim| claim.claim).collect();
        assert_eq!(broken, ["violations", "half-width − E, p50 / root distance"]);
        for (figures, who) in pair.iter_mut().zip([Contestant::Truebound1, Contestant::Chrony1]) {
            (figures.scenario, figures.contestant) = (Scenario::Bulk, who);
        }
        let missed = |claims: &[Claim]| claims.iter().filter(|claim| !claim.holds).count();
        let all = claims(&pair);
        assert_eq!((missed(&all), all.iter().filter(|claim| claim.is_broken()).count()), (2, 1), "{all:?}");
    }
}
