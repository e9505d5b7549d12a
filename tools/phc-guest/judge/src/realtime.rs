//! CLOCK_REALTIME against the true clock, and whether what the kernel tells of its error is true.

use std::io;

use truebound_client::clock::{MonotonicRaw, RawClock};
use truebound_core::time::NS_PER_S;
use truebound_hw::discipline;

use crate::phc::Crossing;
use crate::samples::Samples;

/// Readings of which the tightest is taken.
const TRIES: usize = 5;

/// See the module.
#[derive(Default)]
pub(crate) struct Realtime {
    error: Samples,
    kernel_reads: u64,
    kernel_violations: u64,
    max_error_ns: i64,
}

/// CLOCK_REALTIME between two readings of raw time, and what the kernel told just before.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    real_ns: i64,
    before_ns: i64,
    after_ns: i64,
    told: discipline::Told,
}

impl Reading {
    /// The tightest of a few.
    pub(crate) fn now() -> io::Result<Reading> {
        let mut tightest: Option<Reading> = None;
        for _ in 0..TRIES {
            let told = discipline::told()?;
            let before_ns = MonotonicRaw.now_ns();
            let real_ns = discipline::realtime_ns()?;
            let after_ns = MonotonicRaw.now_ns();
            let reading = Reading { real_ns, before_ns, after_ns, told };
            if tightest.is_none_or(|least| reading.window_ns() < least.window_ns()) {
                tightest = Some(reading);
            }
        }
        tightest.ok_or_else(|| io::ErrorKind::Other.into())
    }

    fn window_ns(&self) -> i64 {
        self.after_ns - self.before_ns
    }

    fn raw_ns(&self) -> i64 {
        self.before_ns + self.window_ns() / 2
    }
}

impl Realtime {
    /// Judges a reading between two of the true clock; gives words for a line.
    pub(crate) fn judge(&mut self, reading: &Reading, before: &Crossing, after: &Crossing, settled: bool) -> String {
        let raw_ns = reading.raw_ns();
        let true_tai_ns = raw_ns + before.theta_at(after, raw_ns);
        let told = reading.told;
        let error_ns = reading.real_ns + i64::from(told.tai_offset_s) * NS_PER_S - true_tai_ns;
        if settled {
            self.error.push(error_ns);
        }
        if told.is_synchronised {
            self.kernel_reads += 1;
            self.max_error_ns = self.max_error_ns.max(told.max_error_ns);
            // The judge itself errs by the windows of its readings.
            let judge_errs_ns = reading.window_ns() + before.window_ns() + after.window_ns();
            self.kernel_violations += u64::from(error_ns.abs() > told.max_error_ns + judge_errs_ns);
        }
        format!("realtime_ns={error_ns}")
    }

    pub(crate) fn summary(&self) -> String {
        let Realtime { error, kernel_reads, kernel_violations, max_error_ns } = self;
        let figures = error.figures("realtime");
        format!(
            "{figures} kernel_reads={kernel_reads} kernel_violations={kernel_violations} kernel_max_error_ns={max_error_ns}"
        )
    }
}
