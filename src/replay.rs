//! `truebound replay`: runs the core again on a recorded journal and compares its outputs, byte for byte.

mod delays;

use std::path::Path;

use serde_json::json;
use truebound_core::Agent;
use truebound_core::io::{Control, Input, Output};
use truebound_core::journal::{Digest, Entry, Reader};
use truebound_core::leap::LeapTable;
use truebound_core::report::AgentReport;
use truebound_core::settings::Settings;
use truebound_core::time::RawTime;

use crate::cli::ReplayArgs;
use crate::commands::Failure;
use crate::config::Config;
use crate::control::parse_source;
use crate::log;
use crate::view;
use delays::Recording;

/// What a replay found.
struct Tally {
    inputs: u64,
    /// Number of the first input after which the outputs differed.
    first_difference: Option<u64>,
    is_whole: bool,
    /// What the agent believed at the end.
    last: AgentReport,
}

pub(crate) fn run(args: &ReplayArgs) -> Result<bool, Failure> {
    let explain = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = std::fs::read(&args.journal).map_err(|error| explain(&args.journal, &error))?;
    let mut recording = args.delays.is_some().then(Recording::default);
    let tally = replay(&bytes, recording.as_mut()).map_err(|error| explain(&args.journal, &error))?;
    let table = recording.map(|recording| recording.into_table(args.source.as_deref())).transpose();
    let table = table.map_err(|error| explain(&args.journal, &error))?;
    if let (Some(path), Some(table)) = (&args.delays, &table) {
        std::fs::write(path, &table.text).map_err(|error| explain(path, &error))?;
    }
    let is_equal = tally.first_difference.is_none();
    if args.json {
        let (inputs, whole, first) = (tally.inputs, tally.is_whole, tally.first_difference);
        let (status, sources) = (view::status(&tally.last, None), view::sources(&tally.last));
        let delays = table.map(|t| json!({ "source": t.source, "lines": t.lines, "left_out": t.left_out }));
        log::print(
            json!({ "inputs": inputs, "equal": is_equal, "whole": whole, "first_difference": first, "status": status,
                "sources": sources, "delays": delays }),
        );
    } else {
        say(&tally);
        if let Some(t) = table {
            log::print(format_args!("{} delays of {}, {} at the start left out", t.lines, t.source, t.left_out));
        }
    }
    Ok(is_equal)
}

fn say(tally: &Tally) {
    let end = if tally.is_whole { "" } else { "; the journal is cut off" };
    match tally.first_difference {
        None => log::print(format_args!("{} inputs, outputs equal byte for byte{end}", tally.inputs)),
        Some(input) => log::print(format_args!("{} inputs, outputs differ from input {input} on{end}", tally.inputs)),
    }
}

/// Replays, and records exchanges if somebody wants them.
fn replay(bytes: &[u8], mut recording: Option<&mut Recording>) -> Result<Tally, String> {
    let (header, mut reader) = Reader::new(bytes).ok_or("not a journal")?;
    let mut agent = Agent::new(header.start, settings_of(&header.config, &header.leap)?, header.seed);
    if recording.is_some() {
        agent.tap();
    }
    let mut tally = Tally { inputs: 0, first_difference: None, is_whole: true, last: agent.report(header.start) };
    let mut at = header.start;
    let mut digest = Digest::default();
    while let Some(entry) = reader.next_entry() {
        match entry {
            Entry::Outputs(recorded) => {
                if std::mem::take(&mut digest).value() != recorded && tally.first_difference.is_none() {
                    tally.first_difference = Some(tally.inputs);
                }
                continue;
            }
            Entry::Input(now, input) => {
                at = now;
                feed(&mut agent, now, input.as_input(), &mut digest);
            }
            Entry::Reconfigured(now, text, leap) => {
                at = now;
                // As the shell does: the clock that is steered stays what it was.
                let discipline = agent.settings().discipline;
                let settings = Settings { discipline, ..settings_of(&text, &leap)? };
                feed(&mut agent, now, Input::Reconfigured(Box::new(settings)), &mut digest);
            }
            Entry::AddSource(now, text) => {
                at = now;
                let source = Control::AddSource(Box::new(parse_source(&text)?));
                feed(&mut agent, now, Input::Control(source), &mut digest);
            }
        }
        if let Some(recording) = &mut recording {
            recording.take(&mut agent, at);
        }
        tally.inputs += 1;
    }
    tally.is_whole = reader.is_at_end();
    tally.last = agent.report(at);
    Ok(tally)
}

/// The settings as they were: a list of leap seconds on this host does not count.
fn settings_of(config: &str, leap: &str) -> Result<Settings, String> {
    let leap = LeapTable::parse(leap).ok_or("the journal's leap seconds are damaged")?;
    let config = Config::parse_with(config, Path::new("journal"), Some(leap)).map_err(|error| error.to_string())?;
    Ok(config.settings)
}

fn feed(agent: &mut Agent, now: RawTime, input: Input<'_>, digest: &mut Digest) {
    agent.handle(now, input);
    loop {
        let output = agent.poll();
        digest.add(&output);
        if matches!(output, Output::WakeAt(_)) {
            return;
        }
    }
}
