//! The loop: the true clock, whatever is to be judged, the true clock again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::page::Judged;
use crate::phc::{Crossing, Phc};
use crate::realtime::{Reading, Realtime};
use crate::samples::Samples;

pub(crate) struct Watch {
    truth: Phc,
    others: Vec<Watched>,
    page: Option<Judged>,
    realtime: Option<Realtime>,
    /// Every reading of the true clock.
    line: Vec<Crossing>,
}

/// Another clock.
pub(crate) struct Watched {
    name: String,
    phc: Phc,
    error: Samples,
}

impl Watched {
    pub(crate) fn new(name: String, phc: Phc) -> Self {
        Watched { name, phc, error: Samples::default() }
    }
}

impl Watch {
    pub(crate) fn new(truth: Phc, others: Vec<Watched>, page: Option<PathBuf>, realtime: bool) -> Self {
        let realtime = realtime.then(Realtime::default);
        Watch { truth, others, page: page.map(Judged::new), realtime, line: Vec::new() }
    }

    pub(crate) fn run(&mut self, seconds: u32, settle: u32, every_ms: u32) -> io::Result<()> {
        let start_ns = self.truth.against_raw()?.raw_ns();
        let mut due_s = 0;
        loop {
            let elapsed_ns = self.truth.against_raw()?.raw_ns() - start_ns;
            let words = self.read(elapsed_ns >= i64::from(settle) * 1_000_000_000)?;
            if elapsed_ns >= due_s * 1_000_000_000 {
                println!("judge: at_s={due_s} {words}");
                due_s += 1;
            }
            if elapsed_ns >= i64::from(seconds) * 1_000_000_000 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(every_ms.into()));
        }
    }

    fn read(&mut self, settled: bool) -> io::Result<String> {
        let before = self.truth.against_raw()?;
        let mut crossings = Vec::new();
        for other in &self.others {
            crossings.push(other.phc.against_raw()?);
        }
        let interval = self.page.as_mut().and_then(Judged::now);
        let realtime = self.realtime.as_ref().map(|_| Reading::now()).transpose()?;
        let after = self.truth.against_raw()?;
        self.line.extend([before, after]);

        let mut words = Vec::new();
        if let Some(page) = &mut self.page {
            words.push(page.judge(interval, &before, &after, settled));
        }
        if let Some((judge, reading)) = self.realtime.as_mut().zip(realtime) {
            words.push(judge.judge(&reading, &before, &after, settled));
        }
        for (other, crossing) in self.others.iter_mut().zip(crossings) {
            let error = crossing.theta_ns() - before.theta_at(&after, crossing.raw_ns());
            if settled {
                other.error.push(error);
            }
            words.push(format!("{}_ns={error}", other.name));
        }
        Ok(words.join(" "))
    }

    pub(crate) fn summary(&self) -> String {
        let mut words: Vec<String> = self.page.iter().map(Judged::summary).collect();
        words.extend(self.realtime.iter().map(Realtime::summary));
        words.extend(self.others.iter().map(|other| other.error.figures(&other.name)));
        words.extend(truth_against_raw(&self.line));
        words.join(" ")
    }
}

/// What the guest's own clock is like: how fast the truth runs of it, how far from a line, how well it is read.
fn truth_against_raw(line: &[Crossing]) -> Option<String> {
    let (first, last) = (line.first()?, line.last()?);
    let bend = line.iter().map(|at| (at.theta_ns() - first.theta_at(last, at.raw_ns())).abs()).max()?;
    let window = line.iter().map(Crossing::window_ns).max()?;
    Some(format!("truth_fast_ppb={} truth_bend_ns={bend} window_max_ns={window}", rate_ppb(first, last)))
}

/// How fast the true clock runs of raw time.
fn rate_ppb(first: &Crossing, last: &Crossing) -> i64 {
    let span = i128::from(last.raw_ns() - first.raw_ns()).max(1);
    let gained = i128::from(last.theta_ns() - first.theta_ns());
    i64::try_from(gained * 1_000_000_000 / span).unwrap_or(0)
}
