//! What one read of the time costs: truebound's reader, ClockBound's clients of both generations, the vDSO's clocks and
//! the bare counter.
//!
//!   cargo run --release -p truebound-read-cost -- [--json] [--rounds N] [--check]
//!
//! Every contestant reads a page or segment that was made for it and does not change, on one thread. In every round
//! each reads a batch, in an order that rotates, so that a busy neighbour or a changing frequency hits all alike. Shown
//! is the median over the rounds of a batch's mean, and of its ratio to CLOCK_MONOTONIC_RAW in the same round.
//!
//! Exit 1 with `--check` where `now` costs more than 1.3 reads of CLOCK_MONOTONIC_RAW, or more than a ClockBound client.
#![forbid(unsafe_code)]

mod contest;
mod pages;
mod segments;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use truebound::called::Opened;
use truebound_client::{MonotonicRaw, RawClock, Reader};

use contest::{Contestant, Cost};

/// `now` may cost this many reads of CLOCK_MONOTONIC_RAW.
const MOST_RAW_READS: f64 = 1.3;

const OURS: &str = "truebound now";
const RAW: &str = "vDSO MONOTONIC_RAW";
const CLOCK_BOUND: [&str; 2] = ["ClockBound 2.0.3 now", "ClockBound 3.0.0-rc.0 now"];

#[derive(Parser)]
#[command(about = "What one read of the time costs")]
struct Arguments {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// How often each contestant reads a batch
    #[arg(long, default_value_t = 1_001)]
    rounds: usize,
    /// Exit 1 when `now` costs too much
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let room = Room::new();
    let costs = contestants(&room.0).and_then(|all| contest::run(all, arguments.rounds.max(1), RAW));
    let costs = match costs {
        Ok(costs) => costs,
        Err(error) => {
            eprintln!("read_cost: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        println!("{}", as_json(&costs))
    } else {
        print_table(&costs)
    }
    match complaint(&costs).filter(|_| arguments.check) {
        Some(complaint) => {
            eprintln!("read_cost: {complaint}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// A directory that goes away.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        Room(std::env::temp_dir().join(format!("truebound-read-cost-{}", std::process::id())))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn contestants(room: &std::path::Path) -> Outcome<Vec<Contestant>> {
    std::fs::create_dir_all(room)?;
    let page = pages::publish(room)?;
    let (fast, slow) = (2_000, 100);
    let reader = || Reader::open(&page);
    let (now, strict, tick) = (reader()?, reader()?, reader()?);
    let c = Opened::open(&page).map_err(|code| format!("truebound_open_at: error {code}"))?;
    let vdso = |name, clock: ClockId| Contestant::new(name, fast, move || clock_gettime(clock), Result::is_ok);
    let mut all = vec![
        Contestant::new(OURS, fast, move || now.now(), Result::is_ok),
        Contestant::new("truebound now_strict", slow, move || strict.now_strict(), Result::is_ok),
        Contestant::new("truebound tick", slow, move || tick.tick(), Result::is_ok),
        Contestant::new("truebound C truebound_now", fast, move || c.now(), |(code, _)| *code == 0),
        vdso(RAW, ClockId::CLOCK_MONOTONIC_RAW),
        Contestant::new("  the same, as one i64 of ns", fast, || MonotonicRaw.now_ns(), |&now_ns| now_ns > 0),
        vdso("vDSO REALTIME", ClockId::CLOCK_REALTIME),
        vdso("vDSO MONOTONIC_COARSE", ClockId::CLOCK_MONOTONIC_COARSE),
    ];
    all.extend(segments::clients(room, CLOCK_BOUND, fast)?);
    all.extend(segments::counter(fast));
    Ok(all)
}

fn print_table(costs: &[Cost]) {
    println!("{:<28} {:>10} {:>10} {:>10} {:>18}", "one read", "median ns", "p10 ns", "p90 ns", "of MONOTONIC_RAW");
    for cost in costs {
        println!(
            "{:<28} {:>10.1} {:>10.1} {:>10.1} {:>18.2}",
            cost.name, cost.median_ns, cost.p10_ns, cost.p90_ns, cost.ratio
        );
    }
}

fn as_json(costs: &[Cost]) -> Value {
    let row = |cost: &Cost| {
        json!({ "read": cost.name, "median_ns": cost.median_ns, "p10_ns": cost.p10_ns, "p90_ns": cost.p90_ns,
            "ratio_to_monotonic_raw": cost.ratio })
    };
    json!({ "reads": costs.iter().map(row).collect::<Vec<_>>(), "complaint": complaint(costs) })
}

/// What is too slow, if anything is.
fn complaint(costs: &[Cost]) -> Option<String> {
    let find = |name| costs.iter().find(|cost| cost.name == name);
    let ours = find(OURS)?;
    if ours.ratio > MOST_RAW_READS {
        return Some(format!("{OURS} costs {:.2} reads of {RAW}, may cost {MOST_RAW_READS}", ours.ratio));
    }
    let dearer = CLOCK_BOUND.into_iter().filter_map(find).find(|theirs| theirs.median_ns <= ours.median_ns)?;
    Some(format!("{OURS} costs {:.1} ns, {} {:.1} ns", ours.median_ns, dearer.name, dearer.median_ns))
}
