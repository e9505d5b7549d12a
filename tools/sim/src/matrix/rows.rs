//! The rows of the matrix.

use super::{Cell, Kind, Row, Section};
use crate::link::{LinkSpec, networks};
use crate::oscillator::{OscillatorSpec, Preset};

/// Everything, in order.
pub(super) fn all() -> Vec<Section> {
    vec![field(), network(), held_out(), special()]
}

/// A crystal with 1 ppb/√s of wander and nothing else, 10 ppm fast: the field's simulator.
fn wandering() -> OscillatorSpec {
    OscillatorSpec { ppm: 10.0, random_walk: 1e-9, ..OscillatorSpec::CONSTANT }
}

/// The prototype's crystal, 7.3 ppm fast.
fn crystal(preset: Preset) -> OscillatorSpec {
    OscillatorSpec { ppm: 7.3, ..preset.spec() }
}

fn cell(link: LinkSpec, kind: Kind, rate_hz: f64, pairs: bool) -> Cell {
    let (duration_s, from_s) = if rate_hz > 1.0 { (400, 100) } else { (1800, 600) };
    Cell {
        there: link.clone(),
        back: link,
        kind,
        oscillator: crystal(Preset::Xo),
        rate_hz,
        pairs,
        duration_s,
        from_s,
        samples_hz: 16,
        detour_ns: 0,
        step_ppm: 0.0,
    }
}

fn field() -> Section {
    let row = |name: &str, link: LinkSpec, step_ppm: f64, best: [f64; 3]| Row {
        labels: vec![name.to_owned()],
        cell: Cell {
            oscillator: wandering(),
            duration_s: 6 * 3600,
            from_s: 3600,
            samples_hz: 1,
            step_ppm,
            ..cell(link, Kind::Exact, 1.0, false)
        },
        seeds: 201..206,
        field: Some(best),
    };
    Section {
        number: 1,
        title: "1. The field's scenarios at one exchange a second, µs",
        about: "rms and p99: median over seeds; max: the worst seed; from 1 h to 6 h. Peers: the best of seven daemons in each\n\
                column in the field's own simulator (steered clocks). chrony here: its regression on the same exchanges.",
        labels: &["scenario"],
        rows: vec![
            row("A  100 µs + Exp(30 µs)", networks::exponential(), 0.0, [3.3, 9.3, 34.0]),
            row("C  2 µs + N(100 ns)", networks::normal(), 0.0, [0.048, 0.13, 0.23]),
            row("D  A, 20 % + Exp(500 µs)", networks::mixture(), 0.0, [4.3, 11.0, 90.0]),
            row("E1 A, 10 ppm step", networks::exponential(), 10.0, [3.5, 9.6, 74.0]),
        ],
    }
}

const LABELS: &[&str] = &["stamps", "rate", "load"];

fn labelled(kind: Kind, rate_hz: f64, pairs: bool, load: f64, cell: Cell, seeds: std::ops::Range<u64>) -> Row {
    let stamps = match kind {
        Kind::Software => "software".to_owned(),
        Kind::Glitches(share) => format!("hw, {} % late", share * 100.0),
        Kind::Exact => "exact".to_owned(),
        Kind::Hardware => "hardware".to_owned(),
    };
    let rate = format!("{rate_hz}/s{}", if pairs { " pairs" } else { "" });
    Row { labels: vec![stamps, rate, format!("{:.0} %", load * 100.0)], cell, seeds, field: None }
}

fn network() -> Section {
    let mut rows = Vec::new();
    let mut add = |kind, rate_hz: f64, pairs, loads: &[f64]| {
        for &load in loads {
            let seeds = if rate_hz > 8.0 { 301..309 } else { 301..341 };
            rows.push(labelled(kind, rate_hz, pairs, load, cell(networks::bursts(load), kind, rate_hz, pairs), seeds));
        }
    };
    add(Kind::Hardware, 1.0, false, &[0.0, 0.3, 0.6, 0.9]);
    add(Kind::Hardware, 8.0, false, &[0.0, 0.3, 0.6, 0.9]);
    add(Kind::Hardware, 8.0, true, &[0.6, 0.9]);
    add(Kind::Hardware, 64.0, false, &[0.3, 0.6, 0.9]);
    add(Kind::Software, 1.0, false, &[0.3, 0.9]);
    add(Kind::Software, 8.0, false, &[0.0, 0.3, 0.6, 0.9]);
    add(Kind::Software, 64.0, false, &[0.3, 0.9]);
    Section {
        number: 2,
        title: "2. The network that the estimator was tuned on, other seeds: |estimate − truth|, p50 / p99",
        about: "10 µs of cable, three hops with bursts of 6 µs, a crystal with 1 ppb/√s and 0.1 ppm in 20 min. Medians over seeds.\n\
                agent: a real one, with what it publishes. Others on the same exchanges. Floor: RTTmin/2 + E + e.",
        labels: LABELS,
        rows,
    }
}

fn held_out() -> Section {
    let mut rows = Vec::new();
    for (name, link) in [("long", networks::long_path as fn(f64) -> LinkSpec), ("short", networks::short_path)] {
        let cases: [(Kind, f64, &[f64]); 4] = [
            (Kind::Hardware, 1.0, &[0.3, 0.9]),
            (Kind::Hardware, 8.0, &[0.3, 0.6, 0.9]),
            (Kind::Hardware, 64.0, &[0.9]),
            (Kind::Software, 8.0, &[0.6, 0.9]),
        ];
        for (kind, rate_hz, loads) in cases {
            for &load in loads {
                let mut row = labelled(kind, rate_hz, false, load, cell(link(load), kind, rate_hz, false), 401..409);
                row.labels.insert(0, name.to_owned());
                rows.push(row);
            }
        }
    }
    Section {
        number: 3,
        title: "3. Networks that were not used for tuning",
        about: "long: 25 µs of cable, five hops with bursts of 12 µs, 2 % incast. short: 5 µs, two hops with bursts of 4 µs.",
        labels: &["network", "stamps", "rate", "load"],
        rows,
    }
}

fn special() -> Section {
    let mut rows = Vec::new();
    let mut add = |name: &str, kind, rate_hz: f64, pairs, load: f64, change: &dyn Fn(&mut Cell)| {
        let mut cell = cell(networks::bursts(load), kind, rate_hz, pairs);
        change(&mut cell);
        let mut row = labelled(kind, rate_hz, pairs, load, cell, 501..509);
        row.labels.insert(0, name.to_owned());
        rows.push(row);
    };
    for rate_hz in [8.0, 64.0] {
        add("late stamps", Kind::Glitches(0.002), rate_hz, true, 0.3, &|_| ());
        add("late stamps", Kind::Glitches(0.02), rate_hz, true, 0.3, &|_| ());
    }
    let detour = |cell: &mut Cell| (cell.detour_ns, cell.from_s) = (3_000, 210);
    add("+3 µs one way", Kind::Hardware, 64.0, false, 0.3, &detour);
    add("+3 µs one way", Kind::Hardware, 64.0, false, 0.6, &detour);
    add("load one way", Kind::Hardware, 8.0, false, 0.6, &|cell| cell.back = networks::bursts(0.1));
    add("two warmings", Kind::Hardware, 8.0, false, 0.3, &|cell| cell.oscillator = crystal(Preset::Therm));
    add("good crystal", Kind::Hardware, 8.0, false, 0.6, &|cell| cell.oscillator = crystal(Preset::Good));
    Section {
        number: 4,
        title: "4. Special cases on the network of table 2",
        about: "Late stamps: transmit stamps of the NIC 50 to 300 ns late. +3 µs one way: from half of the time on, counted after it.",
        labels: &["case", "stamps", "rate", "load"],
        rows,
    }
}
