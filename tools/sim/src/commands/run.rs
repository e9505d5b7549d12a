//! `truebound-sim run`: one scenario, its verdict and what came of it.

use serde::Serialize;
use truebound_sim::checker::Checker;
use truebound_sim::scenario::{Assumption, HostOutcome, Outcome, Scenario, judge, outcome_of};
use truebound_sim::table::{Table, time};
use truebound_sim::world::{NS_PER_S, World};

use super::figures::{Figures, QuantilesNs};
use super::timeline::{self, Happening};
use super::{Mistake, all, find, print, print_json, report, words};
use crate::cli::RunArgs;

/// Rows of the table of events on a terminal.
const EVENTS: usize = 40;

/// A scenario that was run.
pub(super) struct Run {
    pub(super) scenario: Scenario,
    pub(super) outcome: Outcome,
    /// What is not as the file expects.
    pub(super) wrong: Vec<String>,
    pub(super) happenings: Vec<Happening>,
    /// The command that gives it again.
    pub(super) again: String,
}

/// The command.
pub(crate) fn run(args: &RunArgs) -> Result<bool, Mistake> {
    if args.all {
        return all::run(args);
    }
    let name = args.scenario.as_ref().ok_or("run what? Name a scenario or its file, or say --all")?;
    let scenario = find::one(name)?;
    let world = run_world(&scenario, args.seed, |checker| checker.shrink = args.shrink);
    let outcome = outcome_of(&world, args.seed, &scenario.breaks);
    let (wrong, happenings) = (judge(&scenario, &outcome), timeline::of(&scenario, &world));
    let shrink = args.shrink.map_or(String::new(), |share| format!(" --shrink {share}"));
    let again = format!("truebound-sim run {name} --seed {}{shrink}", args.seed);
    let run = Run { scenario, outcome, wrong, happenings, again };
    if let Some(file) = &args.html {
        let page = report::page(&run, args.shrink);
        std::fs::write(file, page).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    match args.json {
        true => print_json(&Json::of(&run))?,
        false => print(&text(&run)),
    }
    Ok(run.wrong.is_empty())
}

/// The world of a scenario, at its end, with checkers that were prepared before it began.
pub(super) fn run_world(scenario: &Scenario, seed: u64, prepare: impl Fn(&mut Checker)) -> World {
    let mut world = scenario.world(seed);
    world.hosts.iter_mut().for_each(|host| prepare(&mut host.checker));
    world.run((scenario.duration_s * NS_PER_S as f64) as i64);
    world
}

/// One sentence: is it as expected, and how often was true time outside?
pub(super) fn verdict(scenario: &Scenario, outcome: &Outcome, wrong: &[String]) -> String {
    let Outcome { violations, answered, .. } = outcome;
    let promise = format!("true time was outside {violations} of {answered} intervals");
    let notice = match (scenario.breaks.is_empty(), outcome.notice_s) {
        (true, _) => String::new(),
        (false, Some(notice_s)) => format!(
            "; the break was noticed after {}, {} violations before and {} after",
            time(notice_s * 1e9),
            outcome.violations_before_notice,
            outcome.violations_after_notice
        ),
        (false, None) if scenario.breaks.iter().any(|b| !b.detectable) => {
            "; nobody could have noticed the break".to_owned()
        }
        (false, None) => "; the break was not noticed".to_owned(),
    };
    let word = if wrong.is_empty() { "as expected" } else { "NOT as expected" };
    format!("{word}: {promise}{notice}")
}

fn text(run: &Run) -> String {
    let Run { scenario, outcome, wrong, .. } = run;
    let mut text = format!("{}\n", verdict(scenario, outcome, wrong));
    wrong.iter().for_each(|what| text += &format!("  {}\n", words::brief(what)));
    text += &format!("\n{}, seed {}: {}\n", scenario.name, outcome.seed, scenario.about);
    text += &format!("assumes {}; breaks {}\n", words::assumptions(scenario), words::breaks(scenario));
    text += &format!("expects {}\n", words::expected(scenario));
    for b in scenario.breaks.iter().filter(|b| !b.why.is_empty()) {
        text += &format!("  {:?}: {}\n", b.assumption, b.why);
    }
    text += "\n";
    for [at, who, what] in timeline::rows(&run.happenings, EVENTS) {
        text += &format!("{at:>12}  {who:<10} {what}\n");
    }
    text += &format!("\n{}\n{}", hosts(&outcome.hosts), quantiles(&Figures::of(outcome)));
    text +=
        &format!("\n{:.0} node-seconds, {} requests, digest {}", outcome.node_seconds, outcome.probes, outcome.digest);
    text
}

/// The checked clients at the end.
pub(super) fn hosts(hosts: &[HostOutcome]) -> Table {
    let mut table = Table::new(["at the end", "status", "reason", "epoch", "half-width", "violations"]);
    for host in hosts.iter().filter(|host| host.is_client) {
        let HostOutcome { name, status, reason, epoch, violations, half_width_us, .. } = host;
        let half_width = time(half_width_us * 1e3);
        table.row([name, status, reason, &epoch.to_string(), &half_width, &violations.to_string()]);
    }
    table
}

/// Error and half-width.
pub(super) fn quantiles(figures: &Figures) -> Table {
    let mut table = Table::new(["all clients", "p50", "p90", "p99", "p99.9", "max"]);
    let mut row = |name: &str, of: &QuantilesNs| {
        let cells = [of.p50, of.p90, of.p99, of.p999, of.max].map(|ns| time(ns as f64));
        table.row(std::iter::once(name.to_owned()).chain(cells));
    };
    row("error of the estimate", &figures.error_ns);
    row("half-width", &figures.half_width_ns);
    table
}

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    scenario: &'a str,
    about: &'a str,
    as_expected: bool,
    wrong: &'a [String],
    assumptions: &'a [Assumption],
    breaks: Vec<BreakJson<'a>>,
    notice_s: Option<f64>,
    violations_before_notice: u64,
    violations_after_notice: u64,
    answered: u64,
    first_violation: Option<&'a str>,
    faults: &'a [String],
    rate_outside: u64,
    node_seconds: f64,
    client_seconds: f64,
    probes: u64,
    digest: &'a str,
    hosts: Vec<HostJson<'a>>,
    events: &'a [Happening],
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct BreakJson<'a> {
    assumption: Assumption,
    at_s: f64,
    detectable: bool,
    why: &'a str,
}

#[derive(Serialize)]
struct HostJson<'a> {
    name: &'a str,
    status: &'a str,
    reason: &'a str,
    epoch: u64,
    violations: u64,
    half_width_ns: f64,
    is_client: bool,
}

impl<'a> Json<'a> {
    fn of(run: &'a Run) -> Self {
        let Run { scenario, outcome, wrong, happenings, .. } = run;
        let break_of = |b: &'a truebound_sim::scenario::Break| BreakJson {
            assumption: b.assumption,
            at_s: b.at_s,
            detectable: b.detectable,
            why: &b.why,
        };
        let host_of = |host: &'a HostOutcome| HostJson {
            name: &host.name,
            status: &host.status,
            reason: &host.reason,
            epoch: host.epoch,
            violations: host.violations,
            half_width_ns: (host.half_width_us * 1e3).round(),
            is_client: host.is_client,
        };
        Json {
            scenario: &scenario.name,
            about: &scenario.about,
            as_expected: wrong.is_empty(),
            wrong,
            assumptions: &scenario.assumptions,
            breaks: scenario.breaks.iter().map(break_of).collect(),
            notice_s: outcome.notice_s,
            violations_before_notice: outcome.violations_before_notice,
            violations_after_notice: outcome.violations_after_notice,
            answered: outcome.answered,
            first_violation: outcome.first_violation.as_deref(),
            faults: &outcome.faults,
            rate_outside: outcome.freq_error.omega_outside,
            node_seconds: outcome.node_seconds,
            client_seconds: outcome.client_seconds,
            probes: outcome.probes,
            digest: &outcome.digest,
            hosts: outcome.hosts.iter().map(host_of).collect(),
            events: happenings,
            figures: Figures::of(outcome),
        }
    }
}
