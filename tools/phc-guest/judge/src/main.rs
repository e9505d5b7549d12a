//! Runs inside the guest. Sets the cards' clocks apart, then judges: one card's clock is true time, and everything else
//! (an agent's page, other cards' clocks) is held against it.
//!
//! With the agent it shares the system call alone. What the answer is worth it works out by itself: an error in the
//! agent's way of doing so would otherwise be in the truth as well.
//!
//! Everything printed is `key=value`, times in ns. A line a second, one `judge-summary:` at the end.
#![forbid(unsafe_code)]

mod page;
mod phc;
mod realtime;
mod samples;
mod watch;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use truebound_core::io::PhcId;

use phc::Phc;
use watch::{Watch, Watched};

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set a PHC to whole seconds
    Set {
        #[arg(value_parser = phc::device)]
        device: PhcId,
        seconds: i64,
    },
    /// Let a PHC run fast by this many parts per billion
    Freq {
        #[arg(value_parser = phc::device)]
        device: PhcId,
        #[arg(allow_negative_numbers = true)]
        ppb: i64,
    },
    /// Judge for a while
    Watch(WatchArgs),
}

#[derive(clap::Args)]
struct WatchArgs {
    /// The PHC that shows TAI
    #[arg(long, value_parser = phc::device)]
    truth: PhcId,
    /// An agent's page
    #[arg(long)]
    page: Option<PathBuf>,
    /// Another clock to hold against the truth
    #[arg(long, value_name = "NAME=DEVICE", value_parser = named_device)]
    phc: Vec<(String, PhcId)>,
    /// Hold CLOCK_REALTIME against the truth as well, and what the kernel tells of it
    #[arg(long)]
    realtime: bool,
    /// How long
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Errors count from here on; violations always do
    #[arg(long, default_value_t = 10)]
    settle: u32,
    /// Milliseconds between readings
    #[arg(long, default_value_t = 20)]
    every: u32,
}

fn named_device(text: &str) -> Result<(String, PhcId), String> {
    let (name, device) = text.split_once('=').ok_or("expected NAME=DEVICE")?;
    Ok((name.to_owned(), phc::device(device)?))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phc-judge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Set { device, seconds } => Phc::open(device)?.set(seconds),
        Command::Freq { device, ppb } => Phc::open(device)?.set_frequency(ppb),
        Command::Watch(args) => watch(args),
    }
}

fn watch(args: WatchArgs) -> io::Result<()> {
    let mut others = Vec::new();
    for (name, device) in args.phc {
        others.push(Watched::new(name, Phc::open(device)?));
    }
    let mut watch = Watch::new(Phc::open(args.truth)?, others, args.page, args.realtime);
    watch.run(args.seconds, args.settle, args.every)?;
    println!("judge-summary: {}", watch.summary());
    Ok(())
}
