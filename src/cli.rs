//! The command line: what a person may ask for, in clap's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Synchronises this host's clock and publishes an interval that contains true time.
#[derive(Debug, Parser)]
#[command(name = "truebound", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where a running agent is found.
#[derive(Debug, Clone, Args)]
pub(crate) struct Running {
    /// Directory of the page and the control socket
    #[arg(long, global = true, default_value = "/run/truebound")]
    pub(crate) runtime_dir: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent in the foreground
    Run {
        /// Configuration file; every default without one
        #[arg(long)]
        config: Option<PathBuf>,
        /// Directory of the page and the control socket, instead of the file's
        #[arg(long)]
        runtime_dir: Option<PathBuf>,
        /// Record every input and a digest of the outputs in this file
        #[arg(long)]
        journal: Option<PathBuf>,
        /// Fix the agent's seed: packets become predictable, for experiments only
        #[arg(long)]
        seed: Option<u64>,
    },
    /// No root, no network: loopback servers, a skewed virtual clock, a checked bound; exit 1 on any violation
    Demo(DemoArgs),
    /// One interval from the published bound
    Now {
        #[command(flatten)]
        running: Running,
        /// Look at the host too, and give nothing if it slept, was moved or changed its clock since: what leases need
        #[arg(long)]
        strict: bool,
    },
    /// What the agent believes, and why
    Status(Running),
    /// The sources, one by one
    Sources(Running),
    /// Wait until the published half-width is small enough; exit 1 if it is not in time
    Wait {
        #[command(flatten)]
        running: Running,
        /// Half-width to wait for, for example 100us
        #[arg(long, value_parser = parse_duration_ns, default_value = "10ms")]
        max_error: i64,
        /// How long to wait, for example 60s
        #[arg(long, value_parser = parse_duration_ns, default_value = "60s")]
        timeout: i64,
    },
    /// Measure servers once, steer and publish nothing
    Probe {
        /// Names or addresses, with an optional :port
        #[arg(required = true)]
        hosts: Vec<String>,
        /// Print a JSON array instead of text
        #[arg(long)]
        json: bool,
        /// How long to measure, for example 2s
        #[arg(long, value_parser = parse_duration_ns, default_value = "2s")]
        duration: i64,
    },
    /// What this host can do, what would be used and what is missing, each with the fix; exit 1 if there can be no bound
    Doctor(DoctorArgs),
    /// Histograms of half-width, offset and delays since the agent started
    Report(Running),
    /// Run-time control of a running agent
    Control {
        #[command(flatten)]
        running: Running,
        #[command(subcommand)]
        action: ControlAction,
    },
    /// Check a configuration file; exit 2 with line, column and the fix if it is refused
    CheckConfig {
        /// The file
        file: PathBuf,
        /// Print a JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Feed a recorded journal to the core and compare its outputs, byte for byte
    Replay(ReplayArgs),
    /// Reads the page and compares with truth; used by `demo` and the tests
    #[command(hide = true)]
    Check(CheckArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControlAction {
    /// Send a burst to every source now
    Burst,
    /// Step the disciplined clock onto the estimate
    Makestep,
    /// Read the configuration file again
    Reload,
    /// Add a source: the lines of its [[source]] table
    AddSource {
        /// For example: server="192.0.2.1" poll-min="1s"
        #[arg(required = true)]
        lines: Vec<String>,
    },
    /// Remove the source of this name
    RemoveSource {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// How long to run
    #[arg(long, value_parser = parse_duration_ns, default_value = "30s")]
    pub(crate) duration: i64,
    /// Print one JSON object at the end and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// What the world is like
    #[arg(long, value_enum, default_value = "fair")]
    pub(crate) world: DemoWorld,
    /// Break something on purpose, to see the checker catch it
    #[arg(long = "break", value_enum)]
    pub(crate) fault: Option<DemoFault>,
    /// Seed of the virtual clock and of the agents
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DemoWorld {
    /// Three servers that keep their word
    Fair,
    /// One server that leans by almost all of its claim, behind a path as asymmetric as it can be
    Edge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DemoFault {
    /// The checker believes a hundredth of the half-width
    HalfWidth,
    /// The only server lies by twice the half-width
    LyingServer,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Network interface; without one, every interface that is up, except lo
    #[arg(value_name = "IFACE")]
    pub(crate) interface: Option<String>,
    #[command(flatten)]
    pub(crate) running: Running,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayArgs {
    /// The journal
    pub(crate) journal: PathBuf,
    /// Print a JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the one-way delays here, as a link for the simulator (queue.trace.file)
    ///
    /// Lines t_s,forward_ns,back_ns, one per complete exchange. The sum of both delays is measured; its division rests
    /// on the agent's estimate of the time, which assumes that the shortest path is as long there as back. Exchanges
    /// before the estimate had converged (standard uncertainty above twice the median of the recording) are left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) delays: Option<PathBuf>,
    /// Whose delays; without it, of the association with the most exchanges
    #[arg(long, value_name = "NAME", requires = "delays")]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    /// Page under test
    #[arg(long)]
    pub(crate) page: PathBuf,
    /// Page of a local root that defines truth
    #[arg(long)]
    pub(crate) truth: PathBuf,
    /// How far that root was shifted from truth, ns
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) shift_ns: i64,
    /// What that root claims as its error, ns: the rest of its width is doubt about truth
    #[arg(long)]
    pub(crate) claim_ns: i64,
    /// Believe this much of the half-width, percent
    #[arg(long, default_value_t = 100)]
    pub(crate) believe_percent: i64,
    /// How long to read, ns
    #[arg(long)]
    pub(crate) duration_ns: i64,
}

/// A duration such as 100us or 1.5s, in ns.
fn parse_duration_ns(text: &str) -> Result<i64, String> {
    crate::config::quantity::duration_ns(text)
}
