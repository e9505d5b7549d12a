//! The estimators for comparison give what the reference implementations give on the same exchanges.
//!
//! A fixture is a line of parameters, then in order of time lines `x t1 t4 upper lower` and `e t` with seven figures:
//! last exchange, least of 8, chrony and its half-width, chrony of triples below the 30 % quantile and its half-width, PI.

#![allow(clippy::cast_precision_loss, reason = "θ of some ms in ns")]

use std::str::FromStr;
use truebound_sim::baseline::{Baseline, ChronySettings, Sample};

fn parameter<T: FromStr>(header: &str, name: &str) -> T {
    let value = header.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {header}"))
}

struct Contestants {
    raw: Baseline,
    min_of_8: Baseline,
    chrony: Baseline,
    filtered: Baseline,
    pi: Baseline,
}

impl Contestants {
    fn new(header: &str) -> Self {
        let (drift, hardware) = (parameter(header, "drift"), parameter::<u8>(header, "hw") == 1);
        let settings = ChronySettings { precision_s: parameter(header, "precision-s"), ..ChronySettings::default() };
        Contestants {
            raw: Baseline::raw(drift),
            min_of_8: Baseline::min_of_8(drift),
            chrony: Baseline::chrony(settings),
            filtered: Baseline::chrony(ChronySettings { filter: 3, delay_quantile: 0.3, ..settings }),
            pi: Baseline::pi(parameter(header, "rate"), hardware, drift),
        }
    }

    fn push(&mut self, sample: &Sample) {
        let all = [&mut self.raw, &mut self.min_of_8, &mut self.chrony, &mut self.filtered, &mut self.pi];
        all.into_iter().for_each(|baseline| baseline.push(sample));
    }

    fn at(&self, raw_ns: i64) -> [Option<i64>; 7] {
        [
            self.raw.at(raw_ns),
            self.min_of_8.at(raw_ns),
            self.chrony.at(raw_ns),
            self.chrony.half_width_at(raw_ns),
            self.filtered.at(raw_ns),
            self.filtered.half_width_at(raw_ns),
            self.pi.at(raw_ns),
        ]
    }
}

/// θ is held to 1 ns, a half-width to 1 ns and 0.1 %.
fn compare(text: &str) {
    let (header, lines) = text.split_once('\n').expect("a header");
    let mut contestants = Contestants::new(header);
    let mut compared = 0;
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let integer = |i: usize| words[i].parse::<i64>().expect("an integer");
        if words[0] == "x" {
            let [t1_ns, t4_ns, upper_ns, lower_ns] = [1, 2, 3, 4].map(integer);
            contestants.push(&Sample { t1_ns, t4_ns, upper_ns, lower_ns });
            continue;
        }
        for (column, ours) in contestants.at(integer(1)).into_iter().enumerate() {
            let theirs = words[2 + column].parse::<f64>().ok();
            assert_eq!(ours.is_some(), theirs.is_some(), "column {column}: {line}");
            let (Some(ours_ns), Some(theirs_ns)) = (ours, theirs) else { continue };
            let within_ns = 1.0 + if [3, 5].contains(&column) { 1e-3 * theirs_ns } else { 0.0 };
            assert!((ours_ns as f64 - theirs_ns).abs() <= within_ns, "column {column}: {ours_ns}, not in {line}");
            compared += 1;
        }
    }
    assert!(compared > 1300, "{compared}");
}

#[test]
fn hardware_stamps_at_60_percent_load() {
    compare(include_str!("fixtures/baselines-hw-8-load60.txt"));
}

#[test]
fn software_stamps_at_30_percent_load() {
    compare(include_str!("fixtures/baselines-sw-1-load30.txt"));
}
