//! The judge: reads the published interval as an application does and compares it with the truth.
//!
//! All namespaces share one kernel and nobody steers its clock, so the honest servers' time is CLOCK_REALTIME. It is
//! read before and after each read of the page: true time at the read lies between those two readings, so the
//! interval must reach from the later of them down to the earlier.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use truebound_client::{Interval, Reader};

use super::stats::Samples;

/// With the read itself, well over 1000 reads a second.
const PAUSE: Duration = Duration::from_micros(400);

/// A wider bracket means that the judge lost the processor between its readings: it still convicts, as such a bracket
/// only ever favours the accused, but it says nothing about an error of microseconds.
const NARROW_NS: i64 = 2_000;

/// What the judge saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) reads: u64,
    /// Reads whose interval missed true time, by epoch.
    pub(crate) violations: BTreeMap<u64, u64>,
    /// By how much the worst of them missed it, ns.
    pub(crate) worst_miss_ns: i64,
    /// Reads without an interval, by the reason given.
    pub(crate) refused: BTreeMap<String, u64>,
    /// |midpoint − true time|, where the bracket is narrow enough to say so.
    pub(crate) errors: Samples,
    pub(crate) half_widths: Samples,
}

impl Tally {
    pub(crate) fn all_violations(&self) -> u64 {
        self.violations.values().sum()
    }

    #[track_caller]
    pub(crate) fn expect_unbroken(&self) {
        assert!(self.reads > 0, "nothing was read; refused: {:?}", self.refused);
        let (count, worst) = (self.all_violations(), self.worst_miss_ns);
        assert_eq!(count, 0, "{count} of {} reads missed true time, the worst by {worst} ns", self.reads);
    }

    fn add(&mut self, before_ns: i64, interval: &Interval, after_ns: i64) {
        self.reads += 1;
        if after_ns - before_ns <= NARROW_NS {
            let middle = i64::midpoint(before_ns, after_ns);
            self.errors.push((interval.midpoint_ns() - middle).abs());
        }
        self.half_widths.push(interval.half_width_ns());
        let miss = (interval.earliest_ns - after_ns).max(before_ns - interval.latest_ns);
        if miss > 0 {
            *self.violations.entry(interval.epoch).or_default() += 1;
            self.worst_miss_ns = self.worst_miss_ns.max(miss);
        }
    }
}

/// Reads in a thread of its own until dropped.
pub(crate) struct Checker {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    /// Begins as soon as the page exists.
    pub(crate) fn start(page: PathBuf) -> Checker {
        let (tally, stop) = (Arc::new(Mutex::new(Tally::default())), Arc::new(AtomicBool::new(false)));
        let (shared, ended) = (Arc::clone(&tally), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut reader = None;
            while !ended.load(Ordering::Relaxed) {
                match &reader {
                    None => reader = open(&page, &shared),
                    Some(reader) => read(reader, &shared),
                }
                std::thread::sleep(PAUSE);
            }
        });
        Checker { tally, stop, thread: Some(thread) }
    }

    /// What was seen so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was seen so far; counting begins again.
    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The half-width of the newest interval, ns.
    pub(crate) fn half_width(&self) -> i64 {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).half_widths.last().unwrap_or(i64::MAX)
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(page: &PathBuf, shared: &Mutex<Tally>) -> Option<Reader> {
    Reader::open(page).map_err(|error| refuse(shared, error.to_string())).ok()
}

fn read(reader: &Reader, shared: &Mutex<Tally>) {
    let before_ns = realtime_ns();
    let interval = reader.now();
    let after_ns = realtime_ns();
    match interval {
        Ok(interval) => shared.lock().unwrap_or_else(PoisonError::into_inner).add(before_ns, &interval, after_ns),
        Err(error) => refuse(shared, error.to_string()),
    }
}

fn refuse(shared: &Mutex<Tally>, reason: String) {
    *shared.lock().unwrap_or_else(PoisonError::into_inner).refused.entry(reason).or_default() += 1;
}

/// True time in a lab, ns.
pub(crate) fn realtime_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use truebound_client::{Span, Status};

    /// The verdict on an interval when true time was between 1000 and 1010.
    fn miss_of(earliest_ns: i64, latest_ns: i64) -> (u64, i64) {
        let tai = Span::new(earliest_ns, latest_ns).plus(37_000_000_000, 37_000_000_000);
        let interval = Interval { earliest_ns, latest_ns, tai, epoch: 7, status: Status::Locked, tai_offset_s: 37 };
        let mut tally = Tally::default();
        tally.add(1000, &interval, 1010);
        (tally.all_violations(), tally.worst_miss_ns)
    }

    #[test]
    fn the_judge_finds_against_an_interval_beside_true_time() {
        assert_eq!(miss_of(900, 999), (1, 1));
        assert_eq!(miss_of(1015, 1100), (1, 5));
    }

    #[test]
    fn the_judge_accepts_an_interval_that_reaches_true_time() {
        assert_eq!(miss_of(900, 1000), (0, 0));
        assert_eq!(miss_of(1010, 1100), (0, 0));
        assert_eq!(miss_of(1003, 1005), (0, 0));
    }
}
