//! What came of a world, and whether it is what was expected.

use hdrhistogram::Histogram;
use serde::Serialize;
use truebound_client::Status;
use truebound_core::event::{Audit, Event};

use super::{Break, Scenario};
use crate::checker::{Quantiles, Samples};
use crate::world::{Host, NS_PER_S, World};

/// A host that asks this often counts as a fast one, requests per second.
const FAST_PER_S: f64 = 64.0;
/// Bursts and jitter: a host at 64 requests a second sends a little less.
const FAST_SHARE: f64 = 0.9;

/// What came of a world.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The seed that gives it again.
    pub seed: u64,
    /// A digest of everything that came out of every agent.
    pub digest: String,
    /// Reads of checked pages.
    pub reads: u64,
    /// Reads that gave an interval.
    pub answered: u64,
    /// Intervals without true time in them.
    pub violations: u64,
    /// Intervals of plain reads without true time in them, where a strict read refused.
    pub fooled: u64,
    /// The first violation in words.
    pub first_violation: Option<String>,
    /// Rules of publication that were broken.
    pub faults: Vec<String>,
    /// From the first break to the first notice, s.
    pub notice_s: Option<f64>,
    /// Violations in between, or from the break on if nobody noticed.
    pub violations_before_notice: u64,
    /// And later ones.
    pub violations_after_notice: u64,
    /// |estimate − truth|, µs.
    pub error_us: Quantiles,
    /// Half-widths, µs.
    pub half_width_us: Quantiles,
    /// |ω̂ − ω|.
    pub freq_error: FreqError,
    /// The latest first bound of a checked host, ms after its start.
    pub first_bound_ms: Option<f64>,
    /// Simulated seconds of all hosts.
    pub node_seconds: f64,
    /// Of checked hosts that follow others.
    pub client_seconds: f64,
    /// Of hosts that send 64 requests a second or more.
    pub node_seconds_fast: f64,
    /// Requests sent.
    pub probes: u64,
    /// The checked hosts.
    pub hosts: Vec<HostOutcome>,
}

/// |ω̂ − ω| where there was a bound.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FreqError {
    /// 99 %, ppm.
    pub p99_ppm: f64,
    /// Greatest, ppm.
    pub max_ppm: f64,
    /// Samples whose true ω was outside the proved interval.
    pub omega_outside: u64,
}

/// One checked host.
#[derive(Clone, Debug, Serialize)]
pub struct HostOutcome {
    /// Its name.
    pub name: String,
    /// What its page says at the end.
    pub status: String,
    /// And why.
    pub reason: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its violations.
    pub violations: u64,
    /// Half-width of the last read, µs.
    pub half_width_us: f64,
    /// Does it follow others?
    pub is_client: bool,
    /// Reasons it gave, in order.
    pub reasons: Vec<String>,
}

impl Scenario {
    /// Runs it with this seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Outcome {
        let mut world = self.world(seed);
        world.run((self.duration_s * NS_PER_S as f64) as i64);
        outcome_of(&world, seed, &self.breaks)
    }
}

/// What came of `world`.
#[must_use]
pub fn outcome_of(world: &World, seed: u64, breaks: &[Break]) -> Outcome {
    let checked = || world.hosts.iter().filter(|host| host.spec.is_checked);
    let sum = |of: fn(&Host) -> u64| checked().map(of).sum::<u64>();
    let seconds = |is_meant: &dyn Fn(&Host) -> bool| -> f64 {
        world.hosts.iter().filter(|host| is_meant(host)).map(|host| host.seconds(world.now)).sum()
    };
    let samples = merged(world);
    let (p99, max) = (samples.freq_error_fs.value_at_quantile(0.99), samples.freq_error_fs.max());
    let first = checked().filter_map(|host| Some((host.checker.first_bound? - host.started) as f64 * 1e-6));
    let (notice_s, before, after) = notice(world, breaks);
    Outcome {
        seed,
        digest: format!("{:016x}", world.digest()),
        reads: sum(|host| host.checker.reads),
        answered: sum(|host| host.checker.answered),
        violations: sum(|host| host.checker.violations),
        fooled: sum(|host| host.checker.fooled),
        first_violation: checked().find_map(|host| host.checker.first_violation.clone()),
        faults: checked().flat_map(|host| host.checker.faults.iter().cloned()).collect(),
        notice_s,
        violations_before_notice: before,
        violations_after_notice: after,
        error_us: Quantiles::of(&samples.error_ns, 1e-3),
        half_width_us: Quantiles::of(&samples.half_width_ns, 1e-3),
        freq_error: FreqError {
            p99_ppm: p99 as f64 * 1e-9,
            max_ppm: max as f64 * 1e-9,
            omega_outside: samples.omega_outside,
        },
        first_bound_ms: first.reduce(f64::max),
        node_seconds: seconds(&|_| true),
        client_seconds: seconds(&|host| host.spec.is_checked && is_client(host)),
        node_seconds_fast: seconds(&|host| host.probes as f64 >= FAST_SHARE * FAST_PER_S * host.seconds(world.now)),
        probes: world.hosts.iter().map(|host| host.probes).sum(),
        hosts: checked().map(host_outcome).collect(),
    }
}

fn is_client(host: &Host) -> bool {
    host.probes > 0
}

fn host_outcome(host: &Host) -> HostOutcome {
    let page = host.checker.page.as_ref();
    HostOutcome {
        name: host.name.clone(),
        status: page.map_or("none".to_owned(), |page| page.status.to_string()),
        reason: page.map_or("none".to_owned(), |page| page.reason.to_string()),
        epoch: host.checker.epoch(),
        violations: host.checker.violations,
        half_width_us: host.checker.half_width_ns as f64 * 1e-3,
        is_client: is_client(host),
        reasons: host.checker.history.iter().map(|(_, _, reason, _)| reason.to_string()).collect(),
    }
}

/// All clients' samples: a root's estimate is itself.
#[must_use]
pub fn merged(world: &World) -> Samples {
    let mut all = Samples::default();
    let clients = world.hosts.iter().filter(|host| is_client(host));
    for samples in clients.filter_map(|host| host.checker.samples.as_ref()) {
        let add = |to: &mut Histogram<u32>, from: &Histogram<u32>| to.add(from).expect("of the same bounds");
        add(&mut all.error_ns, &samples.error_ns);
        add(&mut all.half_width_ns, &samples.half_width_ns);
        add(&mut all.freq_error_fs, &samples.freq_error_fs);
        all.omega_outside += samples.omega_outside;
    }
    all
}

/// From the first break to the first notice, s, and the violations from the break to the notice and after it.
fn notice(world: &World, breaks: &[Break]) -> (Option<f64>, u64, u64) {
    let first = breaks.iter().min_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let Some(first) = first else { return (None, 0, 0) };
    let broke = world.start() + (first.at_s * NS_PER_S as f64) as i64;
    let is_meant =
        |host: &&Host| host.spec.is_checked && first.host.as_ref().map_or(is_client(host), |name| host.name == *name);
    let noticed = world.hosts.iter().filter(is_meant).filter_map(|host| noticed_at(host, broke)).min();
    let count = |from: i64, to: i64| {
        let of = |host: &Host| host.checker.violated_at.iter().filter(|at| (from..to).contains(*at)).count() as u64;
        world.hosts.iter().filter(is_meant).map(of).sum()
    };
    let until = noticed.unwrap_or(i64::MAX);
    (noticed.map(|at| (at - broke) as f64 * 1e-9), count(broke, until), count(until, i64::MAX))
}

/// The first thing a host said after `broke` that says that something is wrong. Before its first bound it only starts;
/// and a point estimate that is led back puts nothing in doubt.
fn noticed_at(host: &Host, broke: i64) -> Option<i64> {
    let first_bound = host.checker.first_bound.unwrap_or(i64::MAX);
    let is_alarm = |at: i64, event: &Event| match event {
        Event::Verdict { falseticker: true, .. } | Event::SelfContradiction { .. } | Event::StampDropped { .. } => true,
        Event::Audit { what, .. } => *what != Audit::Estimate,
        Event::NewEpoch { epoch, .. } => *epoch > 1 && at > first_bound,
        Event::Status { status, .. } => at > first_bound && *status != Status::Locked,
        _ => false,
    };
    let mut alarms = host.events.iter().filter(|(at, event)| *at >= broke && is_alarm(*at, event));
    alarms.next().map(|&(at, _)| at)
}

/// Everything that is wrong with an outcome of `scenario`.
#[must_use]
pub fn judge(scenario: &Scenario, outcome: &Outcome) -> Vec<String> {
    let expect = &scenario.expect;
    let mut wrong: Vec<String> = Vec::new();
    let mut demand = |is_met: bool, what: String| {
        if !is_met {
            wrong.push(what);
        }
    };
    demand(outcome.faults.is_empty(), format!("faults: {:?}", outcome.faults.first()));
    demand(outcome.answered > 0, "nobody ever had a bound".to_owned());
    let is_broken = !scenario.breaks.is_empty();
    if expect.violations {
        demand(outcome.violations > 0, "no violation, though one was planted".to_owned());
    } else if !is_broken {
        demand(outcome.violations == 0, format!("{} violations: {:?}", outcome.violations, outcome.first_violation));
    }
    let is_detectable = is_broken && scenario.breaks.iter().all(|b| b.detectable);
    if is_detectable {
        demand(outcome.notice_s.is_some(), "the break was not noticed".to_owned());
        let after = outcome.violations_after_notice;
        demand(expect.violations || expect.still_wrong || after == 0, format!("{after} violations after the notice"));
    }
    if let (Some(limit_s), Some(notice_s)) = (expect.notice_s, outcome.notice_s) {
        demand(notice_s <= limit_s, format!("noticed after {notice_s} s, not within {limit_s} s"));
    }
    let clients: Vec<&HostOutcome> = outcome.hosts.iter().filter(|host| host.is_client).collect();
    if !expect.reasons.is_empty() {
        let is_given = |host: &&HostOutcome| host.reasons.iter().any(|reason| expect.reasons.contains(reason));
        demand(clients.iter().any(is_given), format!("none of {:?} was said", expect.reasons));
    }
    for host in clients {
        let HostOutcome { name, status, reason, epoch, half_width_us, .. } = host;
        if let Some(expected) = &expect.status {
            demand(status == expected, format!("{name} is {status} ({reason}), not {expected}"));
        }
        demand(!expect.calm || *epoch <= 1, format!("{name} is in epoch {epoch}: {:?}", host.reasons));
        if let Some(limit) = expect.half_width_us {
            demand(*half_width_us <= limit, format!("{name}'s half-width is {half_width_us} µs, not {limit} µs"));
        }
    }
    wrong
}
