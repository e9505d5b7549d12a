//! How far a long job is, on standard error: a bar that redraws itself on a terminal, else a line for every tenth.

use std::io::{IsTerminal, Stderr, Write};
use std::time::{Duration, Instant};

const BAR: usize = 30;
const REDRAW: Duration = Duration::from_millis(100);

/// A job of a known number of steps.
#[derive(Debug)]
pub struct Progress<W: Write = Stderr> {
    out: W,
    terminal: bool,
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    drawn: Option<Instant>,
    tenths: u64,
    note: String,
}

impl Progress {
    /// A job of `total` steps called `what`, on standard error.
    #[must_use]
    pub fn new(what: &str, total: u64) -> Self {
        let out = std::io::stderr();
        let terminal = out.is_terminal();
        Progress::to(out, terminal, what, total)
    }
}

impl<W: Write> Progress<W> {
    fn to(out: W, terminal: bool, what: &str, total: u64) -> Self {
        let what = what.to_owned();
        Progress {
            out,
            terminal,
            what,
            total,
            done: 0,
            started: Instant::now(),
            drawn: None,
            tenths: 0,
            note: String::new(),
        }
    }

    /// What to say beside from now on.
    pub fn note(&mut self, note: String) {
        self.note = note;
    }

    /// So many steps more are done.
    pub fn advance(&mut self, steps: u64) {
        self.done = (self.done + steps).min(self.total);
        let now = Instant::now();
        let tenths = 10 * self.done / self.total.max(1);
        let due = if self.terminal {
            self.done == self.total || self.drawn.is_none_or(|drawn| now - drawn >= REDRAW)
        } else {
            tenths > self.tenths
        };
        if due {
            (self.drawn, self.tenths) = (Some(now), tenths);
            self.draw(now - self.started);
        }
    }

    /// A failure to tell how far it is does not stop the job.
    fn draw(&mut self, elapsed: Duration) {
        let text = self.text(elapsed);
        let _ = if self.terminal {
            let filled = (BAR as u64 * self.done / self.total.max(1)) as usize;
            write!(self.out, "\r\x1b[K{}{} {text}", "█".repeat(filled), "░".repeat(BAR - filled))
        } else {
            writeln!(self.out, "{text}")
        };
        let _ = self.out.flush();
    }

    fn text(&self, elapsed: Duration) -> String {
        let rate = self.done as f64 / elapsed.as_secs_f64().max(1e-9);
        let left_s = if self.done == 0 { f64::INFINITY } else { (self.total - self.done) as f64 / rate };
        let Progress { what, done, total, note, .. } = self;
        let comma = if note.is_empty() { "" } else { ", " };
        format!("{what} {done}/{total}, {}/s, {} left{comma}{note}", short(rate), clock(left_s))
    }
}

/// The bar goes when the job does, finished or not.
impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        if self.terminal && self.drawn.is_some() {
            let _ = write!(self.out, "\r\x1b[K");
            let _ = self.out.flush();
        }
    }
}

/// A rate in few characters.
fn short(rate: f64) -> String {
    match rate {
        x if x < 9.95 => format!("{x:.1}"),
        x if x < 9_999.5 => format!("{x:.0}"),
        x if x < 9_999.5e3 => format!("{:.0}k", x / 1e3),
        x => format!("{:.0}M", x / 1e6),
    }
}

/// A time left: `42 s`, `3:07 min`, `1:12 h`.
fn clock(seconds: f64) -> String {
    if seconds >= 360_000.0 {
        return "?".to_owned();
    }
    let whole = seconds.ceil() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_line_for_every_tenth() {
        let mut out = Vec::new();
        let mut progress = Progress::to(&mut out, false, "seeds", 1000);
        (0..1000).for_each(|_| progress.advance(1));
        drop(progress);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.lines().last().is_some_and(|line| line.starts_with("seeds 1000/1000, ")), "{text}");
        assert!(text.ends_with("0 s left\n"), "{text}");
    }

    #[test]
    fn on_a_terminal_a_bar_that_goes_away() {
        let mut out = Vec::new();
        let mut progress = Progress::to(&mut out, true, "seeds", 4);
        progress.advance(1);
        progress.advance(9);
        drop(progress);
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains(&"█".repeat(BAR)) && text.ends_with("\r\x1b[K") && !text.contains('\n'), "{text:?}");
    }

    #[test]
    fn words_for_rates_and_times() {
        let mut progress = Progress::to(Vec::new(), false, "worlds", 1000);
        progress.done = 250;
        assert_eq!(progress.text(Duration::from_secs(50)), "worlds 250/1000, 5.0/s, 2:30 min left");
        assert_eq!([0.25, 42.0, 12_345.0, 5e7].map(short), ["0.2", "42", "12k", "50M"]);
        assert_eq!(
            [0.0, 59.5, 187.0, 4320.0, f64::INFINITY].map(clock),
            ["0 s", "1:00 min", "3:07 min", "1:12 h", "?"]
        );
    }
}
