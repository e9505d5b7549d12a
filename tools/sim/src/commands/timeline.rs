//! What happened in a run, in order: what befell the world and what the agents said of it.

use std::collections::BTreeMap;

use serde::Serialize;
use truebound_core::event::Event;
use truebound_sim::scenario::Scenario;
use truebound_sim::world::{Host, World};

use super::words;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Happening {
    /// After the start.
    pub(super) at_s: f64,
    /// To whom, or who says so.
    pub(super) who: String,
    /// What.
    pub(super) what: String,
    /// The world did it; else an agent says it.
    pub(super) is_cause: bool,
}

/// Everything, ascending. Of hosts that are not checked only what befell them.
pub(super) fn of(scenario: &Scenario, world: &World) -> Vec<Happening> {
    let mut all: Vec<Happening> = scenario
        .events
        .iter()
        .map(|event| {
            let (who, what) = words::befalls(event);
            Happening { at_s: event.at_s, who, what, is_cause: true }
        })
        .collect();
    all.extend(scenario.leap_after_s.map(|at_s| Happening {
        at_s: at_s as f64,
        who: "everybody".to_owned(),
        what: "a second is inserted".to_owned(),
        is_cause: true,
    }));
    for host in world.hosts.iter().filter(|host| host.spec.is_checked && host.probes > 0) {
        all.extend(said(host, world));
    }
    all.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    all.retain(|happening| happening.at_s <= world.elapsed_s());
    without_repeats(all)
}

/// Of the same in a row the first stays, and says how often it came.
fn without_repeats(all: Vec<Happening>) -> Vec<Happening> {
    let is_same = |a: &Happening, b: &Happening| (&a.who, &a.what) == (&b.who, &b.what);
    let fold = |run: &[Happening]| match run {
        [one] => one.clone(),
        [one, ..] => {
            let (count, last) = (run.len(), run.last().map_or(one.at_s, |last| last.at_s));
            Happening { what: format!("{} ({count} times until {last:.1} s)", one.what), ..one.clone() }
        }
        [] => unreachable!("no run is empty"),
    };
    all.chunk_by(is_same).map(fold).collect()
}

fn said(host: &Host, world: &World) -> Vec<Happening> {
    let mut names: BTreeMap<u32, &str> = BTreeMap::new();
    let mut all: Vec<Happening> = Vec::new();
    for (at, event) in &host.events {
        if let Event::Added { association, name, .. } = event {
            names.insert(association.0, name);
        }
        let name = |number: u32| names.get(&number).map_or(format!("source {number}"), |name| (*name).to_owned());
        if let Some(what) = words::said(event, name) {
            let at_s = (at - world.start()) as f64 * 1e-9;
            all.push(Happening { at_s, who: host.name.clone(), what, is_cause: false });
        }
    }
    all
}

/// The first `limit` happenings as rows (time, who, what), and a row that says how many were left out.
pub(super) fn rows(all: &[Happening], limit: usize) -> Vec<[String; 3]> {
    let row =
        |happening: &Happening| [format!("{:.3} s", happening.at_s), happening.who.clone(), happening.what.clone()];
    let mut rows: Vec<_> = all.iter().take(limit).map(row).collect();
    if all.len() > limit {
        rows.push([String::new(), String::new(), format!("and {} more", all.len() - limit)]);
    }
    rows
}
