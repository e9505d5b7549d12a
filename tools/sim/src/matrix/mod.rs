//! The matrix: scenarios × loads × stamps × rates, each figure beside what others make of the same exchanges.
//!
//! Its text is kept in `tests/matrix.txt` and reviewed: a change of accuracy is a diff. Seeds are not those that the
//! estimator was tuned on; the networks of the third table were never used for tuning.

mod cell;
mod rows;

use serde::Serialize;

pub use cell::{CHRONY, CONTENDERS, Cell, Kind, Run};

use crate::parallel::in_order;
use crate::progress::Progress;
use crate::stats::{Summary, median};
use crate::table::{Table, time};

/// A row of a table: a cell, and how its seeds are summed up.
#[derive(Clone, Debug)]
pub struct Row {
    /// What distinguishes it, by column.
    pub labels: Vec<String>,
    /// The experiment.
    pub cell: Cell,
    /// Its seeds.
    pub seeds: std::ops::Range<u64>,
    /// rms, p99 and greatest error of the best peer in the field's simulator, µs (three peers, perhaps).
    pub field: Option<[f64; 3]>,
}

/// A table of rows.
#[derive(Clone, Debug)]
pub struct Section {
    /// Names it.
    pub number: u32,
    /// What it shows.
    pub title: &'static str,
    /// In a few lines, how to read it.
    pub about: &'static str,
    /// Headings of the labels.
    pub labels: &'static [&'static str],
    /// Its rows.
    pub rows: Vec<Row>,
}

/// Everything in it, in order.
#[must_use]
pub fn sections() -> Vec<Section> {
    rows::all()
}

/// A section with its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Sheet {
    /// Its title.
    pub title: &'static str,
    /// How to read it.
    pub about: &'static str,
    /// Headings of the columns.
    pub headings: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Sheet {
    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new(self.headings.iter().cloned());
        self.rows.iter().for_each(|row| table.row(row.iter().cloned()));
        format!("{}\n{}\n\n{table}\n", self.title, self.about)
    }
}

/// Runs `sections` on all cores; the figures do not depend on how many there are.
///
/// # Panics
/// If a cell does: that is a bug.
#[must_use]
pub fn run(sections: &[Section]) -> Vec<Sheet> {
    let rows = sections.iter().flat_map(|section| &section.rows);
    let jobs: Vec<(&Row, u64)> = rows.flat_map(|row| row.seeds.clone().map(move |seed| (row, seed))).collect();
    let mut progress = Progress::new("matrix", jobs.len() as u64);
    let mut results = Vec::new();
    let job = |number: u64| jobs[number as usize].0.cell.run(jobs[number as usize].1);
    in_order(
        jobs.len() as u64,
        |number| format!("job {number} of the matrix"),
        job,
        |_, run| {
            results.push(run.expect("no cell panics"));
            progress.advance(1);
        },
    );
    let mut results = results.into_iter();
    sections.iter().map(|section| sheet(section, &mut results)).collect()
}

fn sheet(section: &Section, results: &mut impl Iterator<Item = Run>) -> Sheet {
    let is_field = section.rows.iter().any(|row| row.field.is_some());
    let labels = section.labels.iter().copied();
    let headings: Vec<&str> =
        if is_field { labels.chain(FIELD).collect() } else { labels.chain(CONTENDERS).chain(FIGURES).collect() };
    let rows = section.rows.iter().map(|row| {
        let runs: Vec<Run> = results.by_ref().take(row.seeds.clone().count()).collect();
        let cells = if is_field { field_cells(row, &runs) } else { network_cells(&runs) };
        row.labels.iter().cloned().chain(cells).collect()
    });
    let rows = rows.collect();
    let headings = headings.into_iter().map(str::to_owned).collect();
    Sheet { title: section.title, about: section.about, headings, rows }
}

const FIELD: [&str; 9] = ["rms", "p99", "max", "peers' rms", "p99", "max", "chrony here: rms", "p99", "violations"];
const FIGURES: [&str; 6] = ["chrony/agent", "half-width", "/floor", "freq p99 ppb", "pure", "violations"];

/// Medians over seeds of everybody's error; the worst maximum.
fn over_seeds(runs: &[Run]) -> Vec<Option<Summary>> {
    let of = |index: usize| {
        let seeds: Vec<Summary> = runs.iter().filter_map(|run| run.errors[index]).collect();
        Summary::over_seeds(&seeds).filter(|_| seeds.len() == runs.len())
    };
    (0..CONTENDERS.len()).map(of).collect()
}

fn violations(runs: &[Run]) -> String {
    runs.iter().map(|run| run.violations).sum::<u64>().to_string()
}

fn field_cells(row: &Row, runs: &[Run]) -> Vec<String> {
    let errors = over_seeds(runs);
    let us = |ns: f64| format!("{:.3}", ns * 1e-3);
    let of = |summary: Option<Summary>, figures: &[fn(&Summary) -> f64]| -> Vec<String> {
        figures.iter().map(|figure| summary.as_ref().map_or("-".to_owned(), |summary| us(figure(summary)))).collect()
    };
    let mut cells = of(errors[0], &[|s| s.rms_ns, |s| s.p99_ns, |s| s.max_ns]);
    cells.extend(row.field.iter().flatten().map(|figure| format!("{figure}")));
    cells.extend(of(errors[CHRONY], &[|s| s.rms_ns, |s| s.p99_ns]));
    cells.push(violations(runs));
    cells
}

fn network_cells(runs: &[Run]) -> Vec<String> {
    let errors = over_seeds(runs);
    let pair = |summary: &Option<Summary>| {
        summary.as_ref().map_or("-".to_owned(), |s| format!("{} / {}", time(s.p50_ns), time(s.p99_ns)))
    };
    let mut cells: Vec<String> = errors.iter().map(pair).collect();
    let ratio = errors[CHRONY].zip(errors[0]).map(|(chrony, agent)| chrony.p99_ns / agent.p99_ns);
    cells.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}")));
    let over = |of: fn(&Run) -> f64| median(runs.iter().map(of).collect()).unwrap_or(f64::NAN);
    cells.push(time(over(|run| run.half_width_ns)));
    cells.push(format!("{:.3}", over(|run| run.half_width_ns / run.floor_ns)));
    let outside: u64 = runs.iter().map(|run| run.freq_outside).sum();
    let mark = if outside > 0 { format!(" ({outside} outside)") } else { String::new() };
    cells.push(format!("{:.1}{mark}", over(|run| run.freq_p99_ppm) * 1e3));
    cells.push(format!("{:.0} %", over(|run| run.pure_ratio.unwrap_or(f64::NAN)) * 100.0));
    cells.push(violations(runs));
    cells
}
