//! What was measured of one contestant, and medians over rounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::netns::stats::Samples;
use crate::scenario::Scenario;

/// Who runs, at which rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contestant {
    Truebound1,
    Chrony1,
    Truebound64,
    Chrony64,
    TrueboundPtp,
    Ptp4l,
}

impl Contestant {
    /// Ours and the peer that asks as often by the same protocol.
    pub(crate) const PAIRS: [(Contestant, Contestant); 3] = [
        (Contestant::Truebound1, Contestant::Chrony1),
        (Contestant::Truebound64, Contestant::Chrony64),
        (Contestant::TrueboundPtp, Contestant::Ptp4l),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Truebound1 => "truebound, NTP 1/s",
            Contestant::Chrony1 => "chronyd, NTP 1/s",
            Contestant::Truebound64 => "truebound, NTP 64/s",
            Contestant::Chrony64 => "chronyd, NTP 64/s",
            Contestant::TrueboundPtp => "truebound, PTP 16/s",
            Contestant::Ptp4l => "ptp4l, PTP 16/s",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Contestant::Truebound1 | Contestant::Truebound64 | Contestant::TrueboundPtp)
    }
}

/// Of magnitudes, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) p50: i64,
    pub(crate) p95: i64,
    pub(crate) p99: i64,
    pub(crate) max: i64,
}

impl Spread {
    pub(crate) fn of(samples: &Samples) -> Spread {
        let [p50, p95, p99, max] = [50, 95, 99, 100].map(|percent| samples.percentile(percent));
        Spread { p50, p95, p99, max }
    }
}

/// What a contestant says of its own error, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Width {
    /// Half-width of our interval; chronyd's root distance.
    pub(crate) said: Spread,
    /// E, the part of it that is the server's own claim. chronyd's has none.
    pub(crate) claim: i64,
}

impl Width {
    /// What the exchanges themselves prove.
    pub(crate) fn proved_p50(&self) -> i64 {
        self.said.p50 - self.claim
    }
}

/// One contestant in one round of one scenario, or the medians of several rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) scenario: Scenario,
    pub(crate) contestant: Contestant,
    pub(crate) error_ns: Spread,
    pub(crate) half_width_ns: Option<Width>,
    pub(crate) reads: u64,
    pub(crate) violations: u64,
    pub(crate) cpu_s_per_min: f64,
    pub(crate) peak_rss_kib: u64,
    /// What the traffic offered, per cent of the hop; the flow's share of it in bulk.
    pub(crate) offered_percent: f64,
    pub(crate) rounds: usize,
}

/// Medians of each scenario and contestant; reads and violations are summed, memory is the greatest.
pub(crate) fn medians(all: &[Figures]) -> Vec<Figures> {
    let mut groups: BTreeMap<(Scenario, Contestant), Vec<&Figures>> = BTreeMap::new();
    for figures in all {
        groups.entry((figures.scenario, figures.contestant)).or_default().push(figures);
    }
    groups.into_values().map(|rounds| of_rounds(&rounds)).collect()
}

fn of_rounds(rounds: &[&Figures]) -> Figures {
    let spread = |of: &dyn Fn(&Figures) -> Spread| {
        let part = |part: fn(Spread) -> i64| median(rounds.iter().map(|figures| part(of(figures))).collect());
        Spread { p50: part(|s| s.p50), p95: part(|s| s.p95), p99: part(|s| s.p99), max: part(|s| s.max) }
    };
    let width = rounds[0].half_width_ns.map(|_| Width {
        said: spread(&|figures| figures.half_width_ns.map_or(Spread::default(), |width| width.said)),
        claim: median(rounds.iter().filter_map(|figures| figures.half_width_ns).map(|width| width.claim).collect()),
    });
    Figures {
        error_ns: spread(&|figures| figures.error_ns),
        half_width_ns: width,
        reads: rounds.iter().map(|figures| figures.reads).sum(),
        violations: rounds.iter().map(|figures| figures.violations).sum(),
        cpu_s_per_min: median_f64(rounds.iter().map(|figures| figures.cpu_s_per_min).collect()),
        peak_rss_kib: rounds.iter().map(|figures| figures.peak_rss_kib).max().unwrap_or(0),
        offered_percent: median_f64(rounds.iter().map(|figures| figures.offered_percent).collect()),
        rounds: rounds.iter().map(|figures| figures.rounds).sum(),
        ..rounds[0].clone()
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0,
        (half, 0) => i64::midpoint(values[half - 1], values[half]),
        (half, _) => values[half],
    }
}

fn median_f64(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (half, 0) => f64::midpoint(values[half - 1], values[half]),
        (half, _) => values[half],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn figures(scenario: Scenario, contestant: Contestant, p50: i64) -> Figures {
        let error_ns = Spread { p50, p95: 2 * p50, p99: 3 * p50, max: 4 * p50 };
        let said = Spread { p50: 10_000, p95: 10_000, p99: 10_000, max: 11_000 };
        let claim = if contestant.is_ours() { 6_000 } else { 0 };
        Figures {
            scenario,
            contestant,
            error_ns,
            half_width_ns: (contestant != Contestant::Ptp4l).then_some(Width { said, claim }),
            reads: 100,
            violations: 0,
            cpu_s_per_min: 0.5,
            peak_rss_kib: 4_000,
            offered_percent: f64::from(scenario.percent()),
            rounds: 1,
        }
    }

    #[test]
    fn medians_are_of_one_scenario_and_contestant() {
        let (idle, ours) = (Scenario::Idle, Contestant::Truebound1);
        let mut all: Vec<Figures> = [10, 30, 20].map(|p50| figures(idle, ours, p50)).into();
        all[1].violations = 2;
        all.push(figures(Scenario::Bulk, ours, 70));
        let medians = medians(&all);
        assert_eq!(medians.len(), 2);
        assert_eq!((medians[0].error_ns.p50, medians[0].error_ns.max, medians[0].rounds), (20, 80, 3));
        assert_eq!((medians[0].reads, medians[0].violations), (300, 2));
        assert_eq!(medians[1].error_ns.p50, 70);
        assert_eq!(median(vec![1, 4]), 2);
    }
}
