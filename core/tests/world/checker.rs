//! The outside checker: it carries the product's promise. At every read true time lies in `[earliest, latest]`, and
//! publications of one epoch never contradict each other.

use truebound_client::page::Publication;
use truebound_client::{Edges, Reason, Status};

/// What a host's page said, against the truth.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// The page.
    pub(crate) page: Option<Publication>,
    /// Reads, and how many of them gave an interval.
    pub(crate) reads: u64,
    pub(crate) answered: u64,
    pub(crate) violations: u64,
    pub(crate) first_violation: Option<String>,
    /// Rules of publication that were broken.
    pub(crate) faults: Vec<String>,
    pub(crate) publications: u64,
    /// Status, reason and epoch whenever one of them changed, with true time.
    pub(crate) history: Vec<(i64, Status, Reason, u64)>,
    /// Half-width of the last read and the widest, ns.
    pub(crate) half_width_ns: i64,
    pub(crate) widest_ns: i64,
    /// Largest |middle − truth|, ns.
    pub(crate) worst_error_ns: i64,
    /// Distance of truth from the nearer edge, in half-widths, at its least. Negative: outside.
    pub(crate) least_margin: Option<f64>,
    /// Planted fault: half-widths are multiplied by this.
    pub(crate) shrink: Option<f64>,
}

impl Checker {
    /// Starts counting anew; the page stays.
    pub(crate) fn reset_figures(&mut self) {
        (self.widest_ns, self.worst_error_ns, self.least_margin) = (0, 0, None);
    }

    pub(crate) fn status(&self) -> Option<Status> {
        self.page.as_ref().map(|page| page.status)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.page.as_ref().map_or(0, |page| page.epoch)
    }

    /// Was this ever published?
    pub(crate) fn saw(&self, status: Status, reason: Reason) -> bool {
        self.history.iter().any(|&(_, s, r, _)| (s, r) == (status, reason))
    }

    /// An application reads at true time `t`.
    pub(crate) fn read(&mut self, t: i64, raw_ns: i64, suspended_ns: i64) {
        let Some(page) = &self.page else { return };
        self.reads += 1;
        if !page.status.has_bound() || page.suspended_ns != suspended_ns {
            return;
        }
        let Ok(edges) = page.bound.edges_at(raw_ns) else { return };
        self.answered += 1;
        let Edges { lo_ns, hi_ns } = self.shrunk(edges);
        // The reading was truncated: true raw time lies in [raw, raw + 1).
        let (earliest, latest) = (raw_ns + lo_ns, raw_ns + 1 + hi_ns);
        let (half, middle) = ((latest - earliest + 1) / 2, earliest + (latest - earliest) / 2);
        self.half_width_ns = half;
        self.widest_ns = self.widest_ns.max(half);
        self.worst_error_ns = self.worst_error_ns.max((middle - t).abs());
        let margin_ns = (t - earliest).min(latest - t);
        let margin = margin_ns as f64 / half as f64;
        self.least_margin = Some(self.least_margin.map_or(margin, |least| least.min(margin)));
        if margin_ns < 0 {
            self.violations += 1;
            let what = || format!("outside by {} ns of ±{half} ns at true time {t}, page {:?}", -margin_ns, self.page);
            self.first_violation.get_or_insert_with(what);
        }
    }

    fn shrunk(&self, edges: Edges) -> Edges {
        let Some(factor) = self.shrink else { return edges };
        let half = (edges.hi_ns - edges.lo_ns) / 2;
        let (middle, half) = (edges.lo_ns + half, (half as f64 * factor) as i64);
        Edges { lo_ns: middle - half, hi_ns: middle + half }
    }

    /// The agent publishes at true time `t`; `raw` one ns before and now.
    pub(crate) fn publish(&mut self, t: i64, raw: [i64; 2], suspended_ns: i64, new: Publication) {
        self.read(t - 1, raw[0], suspended_ns);
        self.publications += 1;
        if let Some(fault) = self.page.as_ref().and_then(|old| fault(old, &new, raw[1])) {
            self.faults.push(format!("{fault} at true time {t}: {:?} then {new:?}", self.page));
        }
        let said = (new.status, new.reason, new.epoch);
        if self.history.last().is_none_or(|&(_, status, reason, epoch)| (status, reason, epoch) != said) {
            self.history.push((t, new.status, new.reason, new.epoch));
        }
        self.page = Some(new);
        self.read(t, raw[1], suspended_ns);
    }
}

fn fault(old: &Publication, new: &Publication, raw_ns: i64) -> Option<&'static str> {
    if new.epoch < old.epoch {
        return Some("the epoch went back");
    }
    if !new.status.has_bound() {
        return None;
    }
    let bound = &new.bound;
    if bound.theta_lo_ns > bound.theta_hi_ns || bound.omega_lo > bound.omega_hi {
        return Some("the bound is inside out");
    }
    if bound.t_ref_ns > raw_ns {
        return Some("the bound is from the future");
    }
    if !old.status.has_bound() {
        return None;
    }
    if new.epoch != old.epoch {
        return Some("an epoch was withdrawn without a publication that said so");
    }
    let aged = old.bound.edges_at(bound.t_ref_ns).ok()?;
    let is_inside = aged.lo_ns <= bound.theta_lo_ns && bound.theta_hi_ns <= aged.hi_ns;
    (!is_inside).then_some("an update lies outside the previous one")
}
