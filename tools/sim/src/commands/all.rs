//! `truebound-sim run --all`: every scenario with several seeds, as a table.

use serde::Serialize;
use truebound_sim::parallel;
use truebound_sim::progress::Progress;
use truebound_sim::scenario::{Outcome, Scenario, judge, outcome_of};
use truebound_sim::stats::median;
use truebound_sim::table::{Table, time};

use super::run::run_world;
use super::{Mistake, find, print, print_json, words};
use crate::cli::RunArgs;

/// What came of one scenario over its seeds: the worst of each, but the middle half-width.
#[derive(Serialize)]
struct Row<'a> {
    scenario: &'a str,
    assumptions: String,
    breaks: String,
    /// Every seed's break was noticed, the last after this.
    notice_s: Option<f64>,
    violations_before_notice: u64,
    violations_after_notice: u64,
    violations: u64,
    /// Plain reads, where a strict one refused.
    fooled: u64,
    half_width_p50_ns: f64,
    error_p99_ns: f64,
    as_expected: bool,
    wrong: Vec<String>,
    #[serde(skip)]
    is_broken: bool,
}

/// The command with `--all`.
pub(super) fn run(args: &RunArgs) -> Result<bool, Mistake> {
    let scenarios = find::all()?;
    let mut results: Vec<Vec<Result<Outcome, String>>> = scenarios.iter().map(|_| Vec::new()).collect();
    let (first, seeds, shrink) = (args.seed, args.seeds, args.shrink);
    let count = scenarios.len() as u64 * seeds;
    let place = move |number: u64| ((number / seeds) as usize, first + number % seeds);
    let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let again = move |number| {
        let (scenario, seed) = place(number);
        format!("truebound-sim run {} --seed {seed}", names[scenario])
    };
    let job = |number| {
        let (scenario, seed) = (&scenarios[place(number).0], place(number).1);
        outcome_of(&run_world(scenario, seed, |checker| checker.shrink = shrink), seed, &scenario.breaks)
    };
    let mut progress = Progress::new("scenarios", count);
    parallel::in_order(count, again, job, |number, result| {
        progress.advance(1);
        results[place(number).0].push(result);
    });
    drop(progress);
    let rows: Vec<Row<'_>> = scenarios.iter().zip(&results).map(|(scenario, of)| row(scenario, first, of)).collect();
    match args.json {
        true => print_json(&rows)?,
        false => print(&text(&scenarios, &rows, seeds)),
    }
    Ok(rows.iter().all(|row| row.as_expected))
}

fn row<'a>(scenario: &'a Scenario, first: u64, results: &[Result<Outcome, String>]) -> Row<'a> {
    let outcomes: Vec<&Outcome> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let mut wrong = Vec::new();
    for (seed, result) in (first..).zip(results) {
        let of_seed = match result {
            Ok(outcome) => judge(scenario, outcome),
            Err(panic) => vec![panic.clone()],
        };
        wrong.extend(of_seed.into_iter().map(|what| format!("seed {seed}: {what}")));
    }
    let notices: Option<Vec<f64>> = outcomes.iter().map(|outcome| outcome.notice_s).collect();
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(|outcome| of(outcome)).sum();
    Row {
        scenario: &scenario.name,
        assumptions: words::assumptions(scenario),
        breaks: words::breaks(scenario),
        notice_s: notices.and_then(|notices| notices.into_iter().reduce(f64::max)),
        violations_before_notice: sum(|outcome| outcome.violations_before_notice),
        violations_after_notice: sum(|outcome| outcome.violations_after_notice),
        violations: sum(|outcome| outcome.violations),
        fooled: sum(|outcome| outcome.fooled),
        half_width_p50_ns: median(outcomes.iter().map(|outcome| outcome.half_width_us.p50 * 1e3).collect())
            .unwrap_or_default(),
        error_p99_ns: outcomes.iter().map(|outcome| outcome.error_us.p99 * 1e3).fold(0.0, f64::max),
        as_expected: wrong.is_empty(),
        wrong,
        is_broken: !scenario.breaks.is_empty(),
    }
}

fn text(scenarios: &[Scenario], rows: &[Row<'_>], seeds: u64) -> String {
    let mut table = Table::new([
        "scenario",
        "assumes",
        "breaks",
        "noticed after",
        "violations before/after",
        "plain now() fooled",
        "half-width p50",
        "error p99",
        "verdict",
    ]);
    for row in rows {
        let noticed = match (row.is_broken, row.notice_s) {
            (false, _) => "-".to_owned(),
            (true, Some(notice_s)) => format!("{notice_s:.3} s"),
            (true, None) => "never".to_owned(),
        };
        let violations = match row.is_broken {
            true => format!("{}/{}", row.violations_before_notice, row.violations_after_notice),
            false => row.violations.to_string(),
        };
        let verdict = if row.as_expected { "as expected" } else { "WRONG" };
        table.row([
            row.scenario.to_owned(),
            row.assumptions.clone(),
            row.breaks.clone(),
            noticed,
            violations,
            row.fooled.to_string(),
            time(row.half_width_p50_ns),
            time(row.error_p99_ns),
            verdict.to_owned(),
        ]);
    }
    let as_expected = rows.iter().filter(|row| row.as_expected).count();
    let mut text = format!("{table}\n{as_expected} of {} scenarios as expected, with {seeds} seeds\n", rows.len());
    for row in rows {
        row.wrong.iter().for_each(|what| text += &format!("  {}, {}\n", row.scenario, words::brief(what)));
    }
    let undetectable = |scenario: &Scenario| {
        let of = scenario.breaks.iter().filter(|b| !b.detectable);
        of.map(|b| format!("  {}, {:?}: {}\n", scenario.name, b.assumption, b.why)).collect::<String>()
    };
    let listed: String = scenarios.iter().map(undetectable).collect();
    if !listed.is_empty() {
        text += &format!("\nbreaks that nobody could detect in time\n{listed}");
    }
    text
}
