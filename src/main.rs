//! `truebound`: the agent and its command line. Exit 0 is yes, 1 is no, 2 is a mistake in usage or configuration.
#![forbid(unsafe_code)]

mod cli;
mod clockbound;
mod commands;
mod config;
mod control;
mod demo;
mod discipline;
mod doctor;
mod drift;
mod feed;
mod log;
mod phcs;
mod ptp_ports;
mod recorder;
mod references;
mod replay;
mod shell;
mod sockets;
mod view;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::task::LocalSet;
use truebound_core::report::AgentReport;
use truebound_core::settings::SourceSettings;

use cli::{Cli, Command};
use config::Config;
use discipline::splitmix;
use shell::Plan;

const NO: u8 = 1;
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run { config, runtime_dir, journal, seed } => return run(config, runtime_dir, journal, seed),
        Command::CheckConfig { file, json } => return check_config(&file, json),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => demo::check(&args),
        Command::Now { running, strict } => commands::now(&running, strict),
        Command::Status(running) => commands::status(&running),
        Command::Sources(running) => commands::sources(&running),
        Command::Doctor(args) => doctor::run(&args),
        Command::Report(running) => commands::report(&running),
        Command::Wait { running, max_error, timeout } => commands::wait(&running, max_error, timeout),
        Command::Control { running, action } => commands::control(&running, &action),
        Command::Probe { hosts, json, duration } => probe(&hosts, json, duration),
        Command::Replay(args) => replay::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        Err(failure) => {
            log::say(format_args!("truebound: {failure}"));
            ExitCode::from(NO)
        }
    }
}

fn run(path: Option<PathBuf>, runtime_dir: Option<PathBuf>, journal: Option<PathBuf>, seed: Option<u64>) -> ExitCode {
    let (mut config, text) = match load(path.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => {
            log::say(error);
            return ExitCode::from(MISTAKE);
        }
    };
    let as_written = config.agent.clone();
    config.agent.runtime_dir = runtime_dir.unwrap_or(config.agent.runtime_dir);
    config.agent.journal = journal.or(config.agent.journal);
    let seed = match seed.or(config.agent.seed).map_or_else(random_seed, |seed| Ok(seed_from(seed))) {
        Ok(seed) => seed,
        Err(error) => {
            log::say(format_args!("truebound: /dev/urandom: {error}"));
            return ExitCode::from(NO);
        }
    };
    match block_on(shell::run(Plan { config, text, path, as_written, seed, is_agent: true, duration: None })) {
        Ok(Ok(_)) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log::say(format_args!("truebound: {error}"));
            ExitCode::from(NO)
        }
        Err(error) => {
            log::say(format_args!("truebound: {error}"));
            ExitCode::from(NO)
        }
    }
}

/// One thread, one runtime: the agent's whole world.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

fn load(path: Option<&Path>) -> Result<(Config, String), config::ConfigError> {
    path.map_or_else(|| Ok((Config::default(), String::new())), Config::load_text)
}

/// Cookies must not be guessable: the kernel's randomness.
pub(crate) fn random_seed() -> std::io::Result<[u8; 32]> {
    use std::io::Read;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

/// A whole seed from a number, for experiments.
fn seed_from(number: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    let mut state = number;
    for chunk in seed.chunks_exact_mut(8) {
        state = splitmix(state);
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    seed
}

fn check_config(file: &Path, json: bool) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            let (sources, ports) = (config.settings.sources.len(), config.settings.ptp.len());
            if json {
                log::print(json!({ "ok": true, "sources": sources, "ptp_ports": ports }));
            } else {
                log::print(format_args!("{}: good, {sources} source(s), {ports} PTP port(s)", file.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if json {
                log::print(json!({ "ok": false, "error": error }));
            } else {
                log::say(error);
            }
            ExitCode::from(MISTAKE)
        }
    }
}

/// Measures servers once: an agent that publishes nothing, for a while.
fn probe(hosts: &[String], json: bool, duration_ns: i64) -> Result<bool, commands::Failure> {
    let sources: Result<Vec<SourceSettings>, String> =
        hosts.iter().map(|host| control::parse_source(&format!("server = {}", json!(host)))).collect();
    let mut config = Config::default();
    config.settings.sources = sources?;
    let seed = random_seed().map_err(|error| error.to_string())?;
    let duration = Some(Duration::from_nanos(duration_ns.unsigned_abs()));
    let as_written = config.agent.clone();
    let plan = Plan { config, text: String::new(), path: None, as_written, seed, is_agent: false, duration };
    let report = block_on(shell::run(plan)).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let value = view::sources(&report);
    if json {
        log::print(value);
    } else {
        log::print(commands::sources_text(&value).trim_end());
    }
    Ok(is_answered(&report))
}

fn is_answered(report: &AgentReport) -> bool {
    report.sources.iter().all(|source| source.counters.answers > 0)
}
