//! `truebound-sim seeds`: the hunt. Worlds at random within the assumptions, so every violation is a bug.

use std::time::Instant;

use serde::Serialize;
use truebound_sim::checker::Samples;
use truebound_sim::parallel;
use truebound_sim::progress::Progress;
use truebound_sim::random::RandomWorld;
use truebound_sim::scenario::{Outcome, merged, outcome_of};

use super::figures::{Figures, Many};
use super::tally::{self, Sums};
use super::{Mistake, print, print_json, words};
use crate::cli::SeedsArgs;

/// Failures told in full; beyond, they are only counted.
const TOLD: usize = 20;

/// Shorter worlds may begin in the middle of their leap second.
const LEAST_NODE_SECONDS: f64 = 60.0;

/// A seed that failed.
#[derive(Clone, Debug, Serialize)]
struct Failure {
    seed: u64,
    /// The first thing that was wrong.
    what: String,
    /// The command that shows it again.
    again: String,
}

/// What the hunt came to.
#[derive(Serialize)]
struct Hunt {
    from: u64,
    to: u64,
    node_seconds_each: f64,
    /// First those that fill a screen.
    failures: Vec<Failure>,
    #[serde(flatten)]
    tally: Tally,
    wall_s: f64,
    node_seconds_per_wall_s: f64,
    #[serde(flatten)]
    figures: Figures,
}

/// [`Sums`] without what [`Figures`] has.
#[derive(Serialize)]
struct Tally {
    worlds: u64,
    node_seconds: f64,
    node_seconds_fast: f64,
    fast_share: f64,
    client_seconds: f64,
    probes: u64,
    answered: u64,
    faults: u64,
    rate_outside: u64,
    panics: u64,
    failed: Vec<u64>,
}

impl Tally {
    fn of(sums: &Sums) -> Self {
        Tally {
            worlds: sums.worlds,
            node_seconds: sums.node_seconds,
            node_seconds_fast: sums.node_seconds_fast,
            fast_share: sums.fast_share(),
            client_seconds: sums.client_seconds,
            probes: sums.probes,
            answered: sums.answered,
            faults: sums.faults,
            rate_outside: sums.rate_outside,
            panics: sums.panics,
            failed: sums.failed.clone(),
        }
    }
}

/// The command.
pub(crate) fn run(args: &SeedsArgs) -> Result<bool, Mistake> {
    if !args.sum.is_empty() {
        return sum(args);
    }
    let hunt = hunt(args)?;
    match args.json {
        true => print_json(&hunt.0)?,
        false => print(&text(&hunt.0, &hunt.1)),
    }
    Ok(hunt.1.failed.is_empty())
}

fn hunt(args: &SeedsArgs) -> Result<(Hunt, Sums), Mistake> {
    let (from, count) = (args.from, args.count);
    let to =
        from.checked_add(count.saturating_sub(1)).ok_or("there are no seeds beyond 2^64; choose a lower --from")?;
    if count == 0 || args.node_seconds.is_nan() || args.node_seconds < LEAST_NODE_SECONDS {
        return Err(format!("nothing to hunt in; choose --count above 0, --node-seconds {LEAST_NODE_SECONDS} or more"));
    }
    let mut writer = args.tally.as_deref().map(|path| tally::Writer::open(path, from, count)).transpose()?;
    let mut trouble = Ok(());
    let (mut sums, mut many, mut failures) = (Sums::default(), Many::new(), Vec::new());
    let mut progress = Progress::new("seeds", count);
    let begin = Instant::now();
    let command = again(args);
    let job = |number| world(from + number, args);
    parallel::in_order(count, command.clone(), job, |number, result| {
        let seed = from + number;
        if let Ok((outcome, samples)) = &result {
            many.add(samples, outcome.first_bound_ms);
        }
        let (of_seed, wrong) = judged(seed, result);
        sums.add(&of_seed);
        failures.extend(
            wrong.map(|what| Failure { seed, what, again: command(number) }).filter(|_| sums.failed.len() <= TOLD),
        );
        if let Some(writer) = writer.as_mut().filter(|_| trouble.is_ok()) {
            trouble = writer.add(seed, &of_seed);
        }
        let rate = sums.node_seconds / begin.elapsed().as_secs_f64();
        progress.note(format!("{rate:.2e} node-s/s, {} violations, {} failed", sums.violations, sums.failed.len()));
        progress.advance(1);
    });
    drop(progress);
    trouble.and_then(|()| writer.as_mut().map_or(Ok(()), tally::Writer::flush))?;
    let wall_s = begin.elapsed().as_secs_f64();
    let hunt = Hunt {
        from,
        to,
        node_seconds_each: args.node_seconds,
        failures,
        tally: Tally::of(&sums),
        wall_s,
        node_seconds_per_wall_s: sums.node_seconds / wall_s.max(1e-9),
        figures: many.figures(sums.reads, sums.violations, from),
    };
    Ok((hunt, sums))
}

fn world(seed: u64, args: &SeedsArgs) -> (Outcome, Samples) {
    let RandomWorld { mut world, duration_ns, .. } = RandomWorld::new(seed, args.node_seconds);
    world.hosts.iter_mut().for_each(|host| host.checker.shrink = args.shrink);
    world.run(duration_ns);
    (outcome_of(&world, seed, &[]), merged(&world))
}

/// The command that shows what a seed did, by its number in the hunt.
fn again(args: &SeedsArgs) -> impl Fn(u64) -> String + Clone + Send + Sync + 'static {
    let (from, node_seconds) = (args.from, args.node_seconds);
    let shrink = args.shrink.map_or(String::new(), |share| format!(" --shrink {share}"));
    move |number| {
        let seed = from + number;
        format!("truebound-sim seeds --from {seed} --count 1 --node-seconds {node_seconds}{shrink}")
    }
}

/// What a seed adds to the tally, and what was wrong with it.
fn judged(seed: u64, result: Result<(Outcome, Samples), String>) -> (Sums, Option<String>) {
    let (outcome, _) = match result {
        Ok(result) => result,
        Err(words) => return (Sums { worlds: 1, panics: 1, failed: vec![seed], ..Sums::default() }, Some(words)),
    };
    let rate_outside = outcome.freq_error.omega_outside;
    let wrong = outcome.first_violation.or_else(|| outcome.faults.first().cloned());
    let wrong =
        wrong.or_else(|| (rate_outside > 0).then(|| format!("{rate_outside} rates outside the proved interval")));
    let sums = Sums {
        worlds: 1,
        node_seconds: outcome.node_seconds,
        node_seconds_fast: outcome.node_seconds_fast,
        client_seconds: outcome.client_seconds,
        probes: outcome.probes,
        reads: outcome.reads,
        answered: outcome.answered,
        violations: outcome.violations,
        faults: outcome.faults.len() as u64,
        rate_outside,
        panics: 0,
        failed: wrong.iter().map(|_| seed).collect(),
    };
    (sums, wrong)
}

fn text(hunt: &Hunt, sums: &Sums) -> String {
    let Hunt { from, to, node_seconds_each, wall_s, node_seconds_per_wall_s, .. } = hunt;
    let figures = super::run::quantiles(&hunt.figures);
    let mut text = format!("seeds {from} to {to}, {node_seconds_each} node-seconds each\n\n{}", sums.text());
    text +=
        &format!("wall time       {wall_s:.1} s, {node_seconds_per_wall_s:.0} node-seconds per second\n\n{figures}");
    for Failure { seed, what, again } in &hunt.failures {
        text += &format!("\nseed {seed}: {}\n  again: {again}\n", words::brief(what));
    }
    match sums.failed.len().saturating_sub(hunt.failures.len()) {
        0 => text,
        more => text + &format!("\nand {more} seeds more\n"),
    }
}

/// What `--sum --json` prints.
#[derive(Serialize)]
struct SumJson {
    seeds: Vec<[u64; 2]>,
    #[serde(flatten)]
    sums: Sums,
}

fn sum(args: &SeedsArgs) -> Result<bool, Mistake> {
    let (sums, seeds) = tally::sum(&args.sum)?;
    let is_clean = sums.failed.is_empty();
    if args.json {
        print_json(&SumJson { seeds, sums })?;
        return Ok(is_clean);
    }
    let ranges: Vec<String> = seeds.iter().map(|[from, to]| format!("{from} to {to}")).collect();
    let failed: Vec<String> = sums.failed.iter().map(u64::to_string).collect();
    let failed = if is_clean { String::new() } else { format!("failed seeds    {}\n", failed.join(" ")) };
    print(&format!("seeds {}\n\n{}{failed}", ranges.join(", "), sums.text()));
    Ok(is_clean)
}
