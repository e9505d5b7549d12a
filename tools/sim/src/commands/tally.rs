//! Tallies of a hunt: what so many seeds in a row came to, one JSON object on a line, so that hunts can be interrupted,
//! resumed and added up. Nobody counts a seed twice.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Mistake;

/// Seeds of one line.
pub(super) const SEEDS_PER_LINE: u64 = 100;

/// What came of some worlds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) worlds: u64,
    pub(super) node_seconds: f64,
    /// Of hosts that send 64 requests a second and more.
    pub(super) node_seconds_fast: f64,
    pub(super) client_seconds: f64,
    pub(super) probes: u64,
    pub(super) reads: u64,
    pub(super) answered: u64,
    pub(super) violations: u64,
    /// Rules of publication that were broken.
    pub(super) faults: u64,
    /// Samples whose true rate was outside the proved interval.
    pub(super) rate_outside: u64,
    pub(super) panics: u64,
    /// Seeds of which any of these four happened.
    pub(super) failed: Vec<u64>,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Sums) {
        self.worlds += other.worlds;
        self.node_seconds += other.node_seconds;
        self.node_seconds_fast += other.node_seconds_fast;
        self.client_seconds += other.client_seconds;
        self.probes += other.probes;
        self.reads += other.reads;
        self.answered += other.answered;
        self.violations += other.violations;
        self.faults += other.faults;
        self.rate_outside += other.rate_outside;
        self.panics += other.panics;
        self.failed.extend(&other.failed);
    }

    pub(super) fn fast_share(&self) -> f64 {
        if self.node_seconds > 0.0 { self.node_seconds_fast / self.node_seconds } else { 0.0 }
    }

    /// In words, a line each.
    pub(super) fn text(&self) -> String {
        let Sums { worlds, node_seconds, client_seconds, probes, reads, answered, .. } = self;
        let Sums { violations, faults, rate_outside, panics, .. } = self;
        let fast = 1e2 * self.fast_share();
        format!(
            "violations      {violations} in {answered} intervals of {reads} reads\n\
             faults          {faults} of publication, {rate_outside} rates outside the proved interval, {panics} panics\n\
             worlds          {worlds}\n\
             node-seconds    {node_seconds:.0}, {fast:.1} % of them at 64 requests a second or more\n\
             client-seconds  {client_seconds:.0}\n\
             requests        {probes}\n"
        )
    }
}

/// A line of a tally.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// The first seed.
    pub(super) from: u64,
    /// The last one.
    pub(super) to: u64,
    #[serde(flatten)]
    pub(super) sums: Sums,
}

/// A tally that is being written.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    line: Option<Line>,
}

impl Writer {
    /// Goes on with the file, unless it has one of these seeds.
    pub(super) fn open(path: &Path, from: u64, count: u64) -> Result<Self, Mistake> {
        let known = if path.exists() { read(path)? } else { Vec::new() };
        let last = from.saturating_add(count.saturating_sub(1));
        if known.iter().any(|line| line.from <= last && from <= line.to) {
            let free = known.iter().map(|line| line.to + 1).max().unwrap_or(0);
            let path = path.display();
            return Err(format!("{path} already counts seeds of {from} to {last}; go on with --from {free}"));
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| explain(path, &e))?;
        Ok(Writer { path: path.to_owned(), file, line: None })
    }

    /// What came of the next seed.
    pub(super) fn add(&mut self, seed: u64, sums: &Sums) -> Result<(), Mistake> {
        let line = self.line.get_or_insert_with(|| Line { from: seed, to: seed, sums: Sums::default() });
        line.to = seed;
        line.sums.add(sums);
        if line.to - line.from + 1 >= SEEDS_PER_LINE { self.flush() } else { Ok(()) }
    }

    /// Writes what is left; each line in one piece.
    pub(super) fn flush(&mut self) -> Result<(), Mistake> {
        let Some(line) = self.line.take() else { return Ok(()) };
        let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(|error| explain(&self.path, &error))
    }
}

/// The sum of tallies, and the ranges of seeds in them.
pub(super) fn sum(files: &[PathBuf]) -> Result<(Sums, Vec<[u64; 2]>), Mistake> {
    let mut lines: Vec<(Line, &Path)> = Vec::new();
    for file in files {
        lines.extend(read(file)?.into_iter().map(|line| (line, file.as_path())));
    }
    lines.sort_by_key(|(line, _)| (line.from, line.to));
    for pair in lines.windows(2) {
        let [(one, in_one), (other, in_other)] = [&pair[0], &pair[1]];
        if other.from <= one.to {
            let (first, last) = (other.from, one.to.min(other.to));
            let (one, other) = (in_one.display(), in_other.display());
            return Err(format!("seeds {first} to {last} are counted twice, in {one} and in {other}; leave one out"));
        }
    }
    let (mut sums, mut ranges) = (Sums::default(), Vec::<[u64; 2]>::new());
    for (line, _) in &lines {
        sums.add(&line.sums);
        match ranges.last_mut() {
            Some([_, to]) if *to + 1 == line.from => *to = line.to,
            _ => ranges.push([line.from, line.to]),
        }
    }
    Ok((sums, ranges))
}

fn read(path: &Path) -> Result<Vec<Line>, Mistake> {
    let text = std::fs::read_to_string(path).map_err(|error| explain(path, &error))?;
    let of_line = |(index, line): (usize, &str)| {
        let place = format!("{} line {}", path.display(), index + 1);
        let line: Line = serde_json::from_str(line).map_err(|error| format!("{place}: {error}; delete the line"))?;
        let worlds = line.sums.worlds;
        match line.from <= line.to && line.to - line.from == worlds.wrapping_sub(1) {
            true => Ok(line),
            false => Err(format!("{place}: seeds {} to {} are not {worlds}; delete the line", line.from, line.to)),
        }
    };
    text.lines().enumerate().map(of_line).collect()
}

fn explain(path: &Path, error: &std::io::Error) -> Mistake {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, ranges: &[[u64; 2]]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("truebound-tally-{}-{name}", std::process::id()));
        let line = |&[from, to]: &[u64; 2]| {
            let sums = Sums { worlds: to - from + 1, reads: 1, ..Sums::default() };
            serde_json::to_string(&Line { from, to, sums }).expect("a line") + "\n"
        };
        std::fs::write(&path, ranges.iter().map(line).collect::<String>()).expect("a file");
        path
    }

    #[test]
    fn neighbours_join_and_a_single_common_seed_is_refused() {
        let files = [file("a", &[[10, 19], [30, 39]]), file("b", &[[0, 9]])];
        let (sums, ranges) = sum(&files).expect("disjoint");
        assert_eq!((sums.worlds, sums.reads, ranges), (30, 3, vec![[0, 19], [30, 39]]));
        let common = file("c", &[[39, 50]]);
        let refusal = sum(&[files[0].clone(), common.clone()]).expect_err("39 is in both");
        assert!(refusal.starts_with("seeds 39 to 39 are counted twice"), "{refusal}");
        let may_go_on = |from, count| Writer::open(&common, from, count).map(drop);
        assert_eq!(may_go_on(51, 10).and(may_go_on(29, 10)), Ok(()));
        assert!(may_go_on(50, 10).is_err_and(|refusal| refusal.ends_with("--from 51")));
        assert!(may_go_on(30, 10).is_err());
        files.iter().chain([&common]).for_each(|file| drop(std::fs::remove_file(file)));
    }
}
