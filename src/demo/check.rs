//! The outside checker: reads a page through the real client, thousands of times a second, and holds every interval
//! against truth.
//!
//! Truth is the midpoint of a local root's page, less what that root was shifted; the root's own reading of the clocks
//! is some tens of ns wide, and so much doubt is left to it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use truebound_client::page::Publication;

use crate::cli::CheckArgs;
use crate::commands::{AnyReader, Failure, raw_ns};
use crate::discipline::splitmix;
use crate::log;
use crate::recorder::Ns;

/// How often a line is printed.
const LINE: Duration = Duration::from_millis(250);
/// Between reads, at random up to twice this.
const PAUSE_US: u64 = 250;

/// True time as a function of CLOCK_MONOTONIC_RAW.
struct Truth {
    theta_ns: i64,
    doubt_ns: i64,
    utc_offset_ns: i64,
}

impl Truth {
    fn of(publication: &Publication, shift_ns: i64, claim_ns: i64) -> Self {
        let bound = &publication.bound;
        let half_width = (bound.theta_hi_ns - bound.theta_lo_ns) / 2;
        Truth {
            theta_ns: bound.theta_lo_ns.midpoint(bound.theta_hi_ns) - shift_ns,
            doubt_ns: (half_width - claim_ns).max(0),
            utc_offset_ns: i64::from(publication.utc.offset_s) * 1_000_000_000,
        }
    }

    fn utc_at(&self, raw_ns: i64) -> i64 {
        raw_ns + self.theta_ns - self.utc_offset_ns
    }
}

/// What was seen so far.
struct Tally {
    reads: u64,
    violations: u64,
    unavailable: u64,
    worst_miss_ns: i64,
    error: Ns,
    half_width: Ns,
    least_edge_percent: f64,
    first_bound: Option<Duration>,
    last: Option<(i64, i64)>,
}

/// `truebound check`.
pub(crate) fn check(args: &CheckArgs) -> Result<bool, Failure> {
    let start = Instant::now();
    let truth_page = AnyReader::open(&args.truth).map_err(|error| error.to_string())?;
    let publication = truth_page.publication().ok_or("the root has published nothing")?;
    let truth = Truth::of(&publication, args.shift_ns, args.claim_ns);
    let mut tally = Tally::new();
    let end = start + Duration::from_nanos(args.duration_ns.unsigned_abs());
    let reader = loop {
        match AnyReader::open(&args.page) {
            Ok(reader) => break reader,
            Err(error) if Instant::now() > end => return Err(error.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let (mut next_line, mut random) = (start + LINE, 1);
    while Instant::now() < end {
        tally.read(&reader, &truth, args.believe_percent, start);
        random = splitmix(random);
        std::thread::sleep(Duration::from_micros(random % (2 * PAUSE_US)));
        if Instant::now() >= next_line {
            next_line += LINE;
            log::print(tally.to_json(false));
        }
    }
    log::print(tally.to_json(true));
    Ok(tally.violations == 0)
}

impl Tally {
    fn new() -> Self {
        Tally {
            reads: 0,
            violations: 0,
            unavailable: 0,
            worst_miss_ns: 0,
            error: Ns::new(),
            half_width: Ns::new(),
            least_edge_percent: 100.0,
            first_bound: None,
            last: None,
        }
    }

    /// One read between two readings of raw time: some instant between them must have its true time inside.
    fn read(&mut self, reader: &AnyReader, truth: &Truth, believe_percent: i64, start: Instant) {
        let before = raw_ns();
        let interval = reader.now();
        let after = raw_ns();
        let Ok(interval) = interval else {
            self.unavailable += 1;
            return;
        };
        self.first_bound.get_or_insert_with(|| start.elapsed());
        self.reads += 1;
        let half_width = interval.half_width_ns();
        let cut = half_width - half_width * believe_percent / 100;
        let (earliest, latest) = (interval.earliest_ns + cut, interval.latest_ns - cut);
        let (true_before, true_after) = (truth.utc_at(before), truth.utc_at(after) + 1);
        let miss = (true_before - latest).max(earliest - true_after) - truth.doubt_ns;
        if miss > 0 {
            self.violations += 1;
            self.worst_miss_ns = self.worst_miss_ns.max(miss);
        }
        self.half_width.record(half_width);
        let middle = true_before.midpoint(true_after);
        // Of the instants between the two readings the one that suits best, as above: a pause there is no error.
        let to_edge = (latest - true_before).min(true_after - earliest);
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let percent = 100.0 * to_edge as f64 / half_width.max(1) as f64;
        self.least_edge_percent = self.least_edge_percent.min(percent);
        self.last = Some((half_width, middle - interval.midpoint_ns()));
        if self.reads.is_multiple_of(4) {
            self.record_estimate(reader, truth);
        }
    }

    /// The point estimate that is published beside the bound.
    fn record_estimate(&mut self, reader: &AnyReader, truth: &Truth) {
        let Some(publication) = reader.publication() else { return };
        let kernel_raw = raw_ns();
        let raw = reader.raw_at(kernel_raw);
        let age = raw - publication.bound.t_ref_ns;
        let drift = (i128::from(age) * i128::from(publication.estimate_omega)) >> truebound_client::bound::RATE_BITS;
        let drift = i64::try_from(drift).unwrap_or(0);
        let estimate = raw + publication.estimate_theta_ns + drift;
        self.error.record(estimate - (kernel_raw + truth.theta_ns));
    }

    fn to_json(&self, is_final: bool) -> Value {
        json!({
            "final": is_final,
            "reads": self.reads,
            "violations": self.violations,
            "worst_miss_ns": self.worst_miss_ns,
            "unavailable": self.unavailable,
            "error_ns": self.error.to_json(),
            "half_width_ns": self.half_width.to_json(),
            "edge_distance_percent": self.least_edge_percent,
            "first_bound_ms": self.first_bound.map(|after| after.as_secs_f64() * 1e3),
            "now": self.last.map(|(half_width, truth)| json!({ "half_width_ns": half_width, "truth_ns": truth })),
            "text": is_final.then(|| {
                crate::recorder::section("error of the estimate", &self.error)
                    + &crate::recorder::section("half-width of the bound", &self.half_width)
            }),
        })
    }
}

/// CLOCK_MONOTONIC_RAW at which the page's clock showed `raw_ns`. The clock is nearly the identity: two steps do.
pub(crate) fn invert(reader: &AnyReader, raw_ns: i64) -> i64 {
    let mut kernel = raw_ns;
    for _ in 0..4 {
        kernel -= reader.raw_at(kernel) - raw_ns;
    }
    kernel
}
