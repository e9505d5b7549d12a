//! The command line: what a person may ask for, in clap's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use truebound_sim::lease::Break;

/// Real agents in a simulated world, and a checker that knows the truth.
#[derive(Debug, Parser)]
#[command(name = "truebound-sim", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario, or all of them; exit 1 if one is not as its file expects
    Run(RunArgs),
    /// Hunt for violations in worlds drawn at random within the assumptions; exit 1 if there is one
    Seeds(SeedsArgs),
    /// Figures of the estimate and the bound beside what others make of the same exchanges
    Matrix(MatrixArgs),
    /// Time two hosts and a large mesh on one core; exit 1 if there was a violation
    Speed(SpeedArgs),
    /// Leases by the library, judged by who knows true time; exit 1 if there were ever two holders
    Leases(LeasesArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LeasesArgs {
    /// Terms to grant, of all kinds together
    #[arg(long, default_value_t = 100_000)]
    pub(crate) terms: u64,
    /// The first seed; a world has one
    #[arg(long, alias = "seed", default_value_t = 1)]
    pub(crate) from: u64,
    /// Which leases
    #[arg(long, value_enum, default_value_t = KindWord::All)]
    pub(crate) kind: KindWord,
    /// Plant a fault, to see the judge catch it
    #[arg(long = "break", value_enum, value_name = "WHAT")]
    pub(crate) fault: Option<Break>,
    /// Tell what happened to the object of the first violation
    #[arg(long)]
    pub(crate) timeline: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KindWord {
    /// Expiry at an instant, by the bound
    Clock,
    /// Expiry after a term, by proved rates
    Rate,
    /// Promised by enough of several backups
    Primary,
    /// Each of them
    All,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MatrixArgs {
    /// Only these sections
    #[arg(long, value_name = "NUMBER", num_args = 1..)]
    pub(crate) section: Vec<u32>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the text to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Compare the text with this file; exit 1 if they differ
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    pub(crate) check: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// A scenario file, or the name of one in tests/scenarios
    #[arg(conflicts_with = "all")]
    pub(crate) scenario: Option<String>,
    /// Every scenario of tests/scenarios, as a table
    #[arg(long, conflicts_with = "html")]
    pub(crate) all: bool,
    /// The seed; with --all the first one
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seeds for each scenario
    #[arg(long, requires = "all", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// Print one JSON object (with --all an array) instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with figures to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Believe only this share of every half-width, to see the checker catch it
    #[arg(long, value_name = "SHARE")]
    pub(crate) shrink: Option<f64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SeedsArgs {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    pub(crate) count: u64,
    /// How long each world lasts, in seconds of all its hosts together, at least 60
    #[arg(long, value_name = "SECONDS", default_value_t = 10_000.0)]
    pub(crate) node_seconds: f64,
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Append a line for every 100 seeds to this file, so that an interrupted hunt counts
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sum", "shrink"])]
    pub(crate) tally: Option<PathBuf>,
    /// Add up tallies instead of hunting; exit 2 if a seed is counted twice
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["from", "count", "node_seconds", "shrink"])]
    pub(crate) sum: Vec<PathBuf>,
    /// Believe only this share of every half-width, to see the checker catch it
    #[arg(long, value_name = "SHARE")]
    pub(crate) shrink: Option<f64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SpeedArgs {
    /// Simulated seconds of two hosts at one exchange a second; a twentieth of it at 64
    #[arg(long, default_value_t = 20_000)]
    pub(crate) seconds: u32,
    /// Hosts of the mesh
    #[arg(long, default_value_t = 1000)]
    pub(crate) nodes: usize,
    /// How many hosts each of them follows
    #[arg(long, default_value_t = 10)]
    pub(crate) neighbours: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}
