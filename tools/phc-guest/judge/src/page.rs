//! What an agent publishes, held against the truth.
//!
//! Let θ = TAI − raw. A crossing of the true clock encloses θ at its instant: `[PHC − after, PHC − before]`. What is
//! published is wrong if it does not meet that enclosure, at the same raw time; there is no other slack.

use std::path::{Path, PathBuf};

use truebound_client::bound::RATE_BITS;
use truebound_client::page::Publication;
use truebound_client::{Edges, Interval, Reader};

use crate::phc::Crossing;
use crate::samples::{Samples, Shown};

/// TAI − UTC in this guest's year, s.
const TAI_UTC_S: i64 = 37;

pub(crate) struct Judged {
    path: PathBuf,
    reader: Option<Reader>,
    reads: u32,
    guaranteed: Tally,
    asserted: Tally,
    error: Samples,
}

/// One of the page's two intervals.
#[derive(Default)]
struct Tally {
    reads: u32,
    violations: u32,
    half_width: Samples,
}

impl Judged {
    pub(crate) fn new(path: PathBuf) -> Self {
        let (guaranteed, asserted) = (Tally::default(), Tally::default());
        Judged { path, reader: None, reads: 0, guaranteed, asserted, error: Samples::default() }
    }

    /// The interval as an application gets it; to be asked for between two crossings.
    pub(crate) fn now(&mut self) -> Option<Interval> {
        if self.reader.is_none() {
            self.reader = Reader::open(&self.path).ok();
        }
        self.reads += 1;
        self.reader.as_ref()?.now().ok()
    }

    /// Judges what stands on the page, and the interval that was read between the crossings. Says it in a few words.
    pub(crate) fn judge(
        &mut self,
        read: Option<Interval>,
        before: &Crossing,
        after: &Crossing,
        settled: bool,
    ) -> String {
        let Some(publication) = self.reader.as_ref().and_then(Reader::publication) else {
            return format!("page={}", page_state(&self.path));
        };
        let guaranteed = guaranteed_edges(&publication, after);
        let broken = read.is_some_and(|interval| excludes_utc(interval, before, after));
        self.guaranteed.count(guaranteed, broken, after, settled);
        let asserted = asserted_edges(&publication, after);
        self.asserted.count(asserted, false, after, settled);
        let estimated = guaranteed.is_some() || asserted.is_some();
        let error = estimated.then(|| estimate_error_ns(&publication, after));
        if let (Some(error), true) = (error, settled) {
            self.error.push(error);
        }
        format!(
            "status={} reason={} error_ns={} half_ns={} asserted_half_ns={} violations={} asserted_violations={}",
            publication.status.name(),
            publication.reason.name(),
            Shown(error),
            Shown(guaranteed.map(half_width)),
            Shown(asserted.map(half_width)),
            self.guaranteed.violations,
            self.asserted.violations,
        )
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "reads={} {} {} {}",
            self.reads,
            self.guaranteed.summary("guaranteed"),
            self.asserted.summary("asserted"),
            self.error.figures("error"),
        )
    }
}

impl Tally {
    fn count(&mut self, edges: Option<Edges>, broken: bool, truth: &Crossing, settled: bool) {
        if let Some(edges) = edges {
            self.reads += 1;
            self.violations += u32::from(broken || excludes(edges, truth));
            if settled {
                self.half_width.push(half_width(edges));
            }
        }
    }

    fn summary(&self, name: &str) -> String {
        format!(
            "{name}_reads={} {name}_violations={} {name}_half_median_ns={}",
            self.reads,
            self.violations,
            Shown(self.half_width.median()),
        )
    }
}

fn page_state(path: &Path) -> &'static str {
    if path.exists() { "empty" } else { "missing" }
}

fn guaranteed_edges(publication: &Publication, at: &Crossing) -> Option<Edges> {
    let edges = publication.bound.edges_at(at.raw_ns()).ok();
    edges.filter(|_| publication.status.has_bound())
}

/// Ages like the guaranteed bound, from the same instant.
fn asserted_edges(publication: &Publication, at: &Crossing) -> Option<Edges> {
    publication.asserted_bound()?.edges_at(at.raw_ns()).ok()
}

fn excludes(edges: Edges, truth: &Crossing) -> bool {
    edges.hi_ns < truth.least_theta_ns() || truth.greatest_theta_ns() < edges.lo_ns
}

/// The read happened between the crossings: so did the instant at which its interval is good.
fn excludes_utc(interval: Interval, before: &Crossing, after: &Crossing) -> bool {
    let utc = |crossing: &Crossing| crossing.phc_ns - TAI_UTC_S * 1_000_000_000;
    interval.latest_ns < utc(before) || utc(after) < interval.earliest_ns
}

/// Estimate − truth.
fn estimate_error_ns(publication: &Publication, at: &Crossing) -> i64 {
    let age = i128::from(at.raw_ns() - publication.bound.t_ref_ns);
    let change = (age * i128::from(publication.estimate_omega)) >> RATE_BITS;
    publication.estimate_theta_ns + i64::try_from(change).unwrap_or(0) - at.theta_ns()
}

fn half_width(edges: Edges) -> i64 {
    (edges.hi_ns - edges.lo_ns + 1) / 2
}
