//! Truebound beside Debian's chronyd and ptp4l: error, bound and cost, through one hop of 100 Mbit/s in network
//! namespaces (tools/netns), idle and under load. The kernel's clock, which nobody steers, is the truth.
//!
//!   cargo run --release -p truebound-peers -- [--only SCENARIO] [--rounds N] [--seconds N] ... [--json] [--html FILE]
//!   cargo run --release -p truebound-peers -- --from EARLIER.json,...    what was measured before, as one report
//!
//! A round of a scenario takes about 65 s and the seconds that are measured (`contest.rs` says why, and what is
//! compared). Exit 1 where a claim of the README does not hold (`claims.rs`). Needs root or user namespaces.
#![forbid(unsafe_code)]

mod claims;
mod contest;
mod figures;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../../../tests/netns"]
mod netns {
    pub(crate) mod agent;
    pub(crate) mod checker;
    pub(crate) mod chrony;
    pub(crate) mod lab;
    #[path = "../../tools/bench/peers/src/place.rs"]
    pub(crate) mod place;
    pub(crate) mod port;
    pub(crate) mod ptp4l;
    pub(crate) mod sandbox;
    pub(crate) mod stats;
    pub(crate) mod tracking;
    pub(crate) mod traffic;
    pub(crate) mod truth;
    pub(crate) mod virtual_clock;
}
mod page;
mod report;
mod scenario;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

use claims::{Claim, claims};
use figures::{Figures, medians};
use netns::{place, sandbox};
use scenario::Scenario;

#[derive(Parser)]
#[command(about = "Truebound beside chronyd and ptp4l through one loaded hop: error, bound, cost")]
struct Arguments {
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Rounds of every scenario; an even number puts everybody on either host as often
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// The number of the first round: odd ones swap the hosts
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: usize,
    /// How long errors are measured in a round, s
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Only these scenarios
    #[arg(long, value_name = "SCENARIO", value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Measure nothing: the rounds that earlier runs printed with --json
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    from: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let rounds = if arguments.from.is_empty() { measure(&arguments) } else { read(&arguments.from) };
    let rounds = match rounds {
        Ok(rounds) => rounds,
        Err(error) => return refuse(&error),
    };
    let medians = medians(&rounds);
    let claims = claims(&medians);
    if arguments.json {
        println!("{}", as_json(&rounds, &medians, &claims));
    } else {
        println!("{}\n{}\n{}", report::table(&medians), report::verdicts(&claims), report::summary(&claims));
    }
    if let Some(file) = &arguments.html
        && let Err(error) = fs::write(file, page::html(&medians, &claims))
    {
        return refuse(&format!("{}: {error}", file.display()));
    }
    if claims.iter().any(Claim::is_broken) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn refuse(error: &str) -> ExitCode {
    eprintln!("peers: {error}");
    ExitCode::from(2)
}

/// Rounds are the outer loop: what changes on this machine meanwhile hits all scenarios.
fn measure(arguments: &Arguments) -> Result<Vec<Figures>, String> {
    if sandbox::is_outside() {
        place::build()?;
    }
    sandbox::become_root()?;
    let scenarios = if arguments.only.is_empty() { &Scenario::ALL[..] } else { &arguments.only };
    let mut all = Vec::new();
    for round in (arguments.first..).take(arguments.rounds.max(1)) {
        for scenario in scenarios {
            eprintln!("peers: round {round}, {}", scenario.name());
            all.extend(contest::run(*scenario, round, arguments.seconds.max(1)).ok_or("no namespaces here")?);
        }
    }
    Ok(all)
}

/// The rounds of earlier runs.
fn read(files: &[PathBuf]) -> Result<Vec<Figures>, String> {
    let rounds = |file: &PathBuf| -> Result<Vec<Figures>, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(|error| said(&error))?;
        let mut whole: Value = serde_json::from_str(&text).map_err(|error| said(&error))?;
        serde_json::from_value(whole["rounds"].take()).map_err(|error| said(&error))
    };
    let all: Result<Vec<_>, _> = files.iter().map(rounds).collect();
    Ok(all?.concat())
}

fn as_json(rounds: &[Figures], medians: &[Figures], claims: &[Claim]) -> Value {
    json!({
        "rounds": rounds,
        "median": medians,
        "claims": claims,
        "holds": !claims.iter().any(Claim::is_broken),
    })
}
