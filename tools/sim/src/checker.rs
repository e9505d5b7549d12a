//! The outside checker: it carries the product's promise. At every read true time lies in `[earliest, latest]`, nothing
//! is said from void-after on, status and bound fit together, and publications of one epoch never contradict each other:
//! each lies inside the one before it aged to its own instant, and no reader whose raw time goes on ever gets an earlier
//! `earliest`.
//!
//! The reads that count are strict ones, as leases use them: they refuse what was published before the host last slept.
//! How often a plain read was fooled there, before the agent woke, is counted beside them.
//!
//! Beside the verdict it keeps figures: how wide the interval was and how far estimate and frequency were off, sampled at
//! instants of their own.

use hdrhistogram::Histogram;
use serde::Serialize;
use truebound_client::bound::{RATE_BITS, WANDER_BITS};
use truebound_client::page::Publication;
use truebound_client::{Edges, Reason, Status};

/// Instants of violations remembered; beyond, they are only counted.
const REMEMBERED: usize = 1 << 16;

/// What a host's page said, against the truth.
#[derive(Debug, Default)]
pub struct Checker {
    /// The page.
    pub page: Option<Publication>,
    /// Reads.
    pub reads: u64,
    /// Reads that gave an interval.
    pub answered: u64,
    /// Reads whose interval did not contain true time.
    pub violations: u64,
    /// Plain reads that gave an interval without true time in it where a strict one refused.
    pub fooled: u64,
    /// Looks at what the kernel tells of CLOCK_REALTIME, while the agent says that it is synchronised.
    pub kernel_reads: u64,
    /// Largest share of maxerror by which CLOCK_REALTIME was off.
    pub worst_kernel_share: f64,
    /// When the first violations were.
    pub violated_at: Vec<i64>,
    /// The first one in words.
    pub first_violation: Option<String>,
    /// Rules of publication that were broken.
    pub faults: Vec<String>,
    /// Publications.
    pub publications: u64,
    /// Status, reason and epoch whenever one of them changed, with true time.
    pub history: Vec<(i64, Status, Reason, u64)>,
    /// When the page first gave an interval.
    pub first_bound: Option<i64>,
    /// Half-width of the last read, ns.
    pub half_width_ns: i64,
    /// And the widest, ns.
    pub widest_ns: i64,
    /// Largest distance of the middle from the truth, ns.
    pub worst_error_ns: i64,
    /// Distance of truth from the nearer edge, in half-widths, at its least. Negative: outside.
    pub least_margin: Option<f64>,
    /// The last publication with a bound, whatever came after it.
    last_bound: Option<Publication>,
    /// The greatest `earliest` that was given, when in raw time, and its epoch.
    high_water: Option<HighWater>,
    /// Planted fault: half-widths are multiplied by this.
    pub shrink: Option<f64>,
    /// The last interval given under this bound was followed up to its end.
    was_void_checked: bool,
    /// Samples of the estimate.
    pub samples: Option<Box<Samples>>,
    /// Every read, for figures; none are kept while this is none.
    pub trace: Option<Vec<Reading>>,
}

/// An edge that was carried to a new publication was rounded outward once more: two reads a nanosecond of raw time apart,
/// one of each page, may show it.
const ROUNDING_NS: i64 = 1;

/// What no later read of the same epoch may fall below.
#[derive(Clone, Copy, Debug)]
struct HighWater {
    epoch: u64,
    raw_ns: i64,
    earliest_ns: i64,
}

/// What one read gave, against the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// True time, ns.
    pub t: i64,
    /// What the interval and the estimate in it were; none where the page said nothing.
    pub given: Option<Given>,
}

/// An interval and an estimate, less true time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Its begin, ns.
    pub earliest_ns: i64,
    /// Its end, ns.
    pub latest_ns: i64,
    /// The estimate, ns.
    pub estimate_ns: i64,
}

/// Figures of the estimate, sampled while there is a bound.
#[derive(Debug)]
pub struct Samples {
    /// |estimate − truth|, ns.
    pub error_ns: Histogram<u32>,
    /// Half-width of the interval, ns.
    pub half_width_ns: Histogram<u32>,
    /// |ω̂ − ω|, 10⁻¹⁵.
    pub freq_error_fs: Histogram<u32>,
    /// Samples whose true ω was outside the proved interval.
    pub omega_outside: u64,
}

/// Some quantiles of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Samples.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Greatest.
    pub max: f64,
}

impl Quantiles {
    /// Of `histogram`, in units of `unit`.
    #[must_use]
    pub fn of(histogram: &Histogram<u32>, unit: f64) -> Self {
        let at = |share: f64| histogram.value_at_quantile(share) as f64 * unit;
        let max = histogram.max() as f64 * unit;
        Quantiles { count: histogram.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl Default for Samples {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 1 << 50, 2).expect("two digits of 2^50 fit");
        Samples { error_ns: histogram(), half_width_ns: histogram(), freq_error_fs: histogram(), omega_outside: 0 }
    }
}

impl Checker {
    /// Starts counting anew; the page stays.
    pub fn reset_figures(&mut self) {
        (self.widest_ns, self.worst_error_ns, self.least_margin) = (0, 0, None);
    }

    /// What the page says now.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.page.as_ref().map(|page| page.status)
    }

    /// The page's epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.page.as_ref().map_or(0, |page| page.epoch)
    }

    /// Was this ever published?
    #[must_use]
    pub fn saw(&self, status: Status, reason: Reason) -> bool {
        self.history.iter().any(|&(_, s, r, _)| (s, r) == (status, reason))
    }

    /// The host rebooted: its page is gone.
    pub fn reboot(&mut self) {
        self.page = None;
        self.last_bound = None;
        self.high_water = None;
    }

    /// Raw time from which the page says nothing, if nobody has looked there yet.
    pub(crate) fn unchecked_void_after(&self) -> Option<i64> {
        let page = self.page.as_ref().filter(|page| page.status.has_bound() && !self.was_void_checked)?;
        Some(page.bound.void_after_ns)
    }

    /// True time `t` is the first instant at which void-after is reached.
    pub(crate) fn read_at_void_after(&mut self, t: i64, raw: [i64; 2], suspended_ns: i64) {
        self.was_void_checked = true;
        self.read(t - 1, raw[0], suspended_ns);
        let answered = self.answered;
        self.read(t, raw[1], suspended_ns);
        if self.answered != answered {
            self.fault(|| format!("an interval was given after void-after, true time {t}"));
        }
    }

    /// CLOCK_REALTIME was off by `error_ns` at true time `t`, and the kernel told `max_error_ns`.
    pub fn judge_kernel(&mut self, t: i64, error_ns: i64, max_error_ns: i64) {
        self.kernel_reads += 1;
        self.worst_kernel_share = self.worst_kernel_share.max(error_ns as f64 / max_error_ns as f64);
        if error_ns > max_error_ns {
            self.fault(|| format!("CLOCK_REALTIME is off by {error_ns} ns, maxerror {max_error_ns} ns, true time {t}"));
        }
    }

    /// An application reads at true time `t`.
    pub fn read(&mut self, t: i64, raw_ns: i64, suspended_ns: i64) {
        let Some(page) = &self.page else { return };
        self.reads += 1;
        let edges = page.bound.edges_at(raw_ns).ok();
        let is_said = page.status.has_bound() && page.suspended_ns == suspended_ns;
        let is_outside = |edges: &Edges| t < raw_ns + edges.lo_ns || t > raw_ns + 1 + edges.hi_ns;
        if !is_said && page.status.has_bound() && edges.as_ref().is_some_and(is_outside) {
            self.fooled += 1;
        }
        let Some(edges) = edges.filter(|_| is_said) else { return self.keep(Reading { t, given: None }) };
        let estimate_ns = raw_ns + estimated_theta_ns(page, raw_ns) - t;
        self.expect_no_earlier(t, page.epoch, raw_ns, raw_ns + edges.lo_ns);
        self.answered += 1;
        let Edges { lo_ns, hi_ns } = self.shrunk(edges);
        // The reading was truncated: true raw time lies in [raw, raw + 1).
        let (earliest, latest) = (raw_ns + lo_ns, raw_ns + 1 + hi_ns);
        let given = Given { earliest_ns: earliest - t, latest_ns: latest - t, estimate_ns };
        self.keep(Reading { t, given: Some(given) });
        let (half, middle) = ((latest - earliest + 1) / 2, earliest + (latest - earliest) / 2);
        self.half_width_ns = half;
        self.widest_ns = self.widest_ns.max(half);
        self.worst_error_ns = self.worst_error_ns.max((middle - t).abs());
        let margin_ns = (t - earliest).min(latest - t);
        let margin = margin_ns as f64 / half as f64;
        self.least_margin = Some(self.least_margin.map_or(margin, |least| least.min(margin)));
        if margin_ns < 0 {
            self.violations += 1;
            if self.violated_at.len() < REMEMBERED {
                self.violated_at.push(t);
            }
            let what = || format!("outside by {} ns of ±{half} ns at true time {t}, page {:?}", -margin_ns, self.page);
            self.first_violation.get_or_insert_with(what);
        }
    }

    /// `earliest` is monotone within an epoch, for everybody whose raw time is.
    fn expect_no_earlier(&mut self, t: i64, epoch: u64, raw_ns: i64, earliest_ns: i64) {
        let before = self.high_water.filter(|before| before.epoch == epoch);
        if let Some(before) = before.filter(|before| raw_ns >= before.raw_ns) {
            let by_ns = before.earliest_ns - earliest_ns;
            if by_ns > ROUNDING_NS {
                self.fault(|| format!("`earliest` went back by {by_ns} ns at true time {t}, epoch {epoch}"));
            }
        }
        if before.is_none_or(|before| earliest_ns >= before.earliest_ns) {
            self.high_water = Some(HighWater { epoch, raw_ns, earliest_ns });
        }
    }

    fn keep(&mut self, reading: Reading) {
        if let Some(trace) = &mut self.trace {
            trace.push(reading);
        }
    }

    fn shrunk(&self, edges: Edges) -> Edges {
        let Some(factor) = self.shrink else { return edges };
        let half = (edges.hi_ns - edges.lo_ns) / 2;
        let (middle, half) = (edges.lo_ns + half, (half as f64 * factor) as i64);
        Edges { lo_ns: middle - half, hi_ns: middle + half }
    }

    /// Compares the estimate on the page with the truth at true time `t`.
    pub(crate) fn sample(&mut self, t: i64, raw_ns: i64, suspended_ns: i64, omega: f64) {
        let speaks = |page: &&Publication| page.status.has_bound() && page.suspended_ns == suspended_ns;
        let Some(page) = self.page.as_ref().filter(speaks) else { return };
        let Ok(Edges { lo_ns, hi_ns }) = page.bound.edges_at(raw_ns) else { return };
        let unit = (1i64 << RATE_BITS) as f64;
        let theta_ns = estimated_theta_ns(page, raw_ns);
        // What was proved of the rate at the bound's instant ages by A a second (half of A is what is published).
        let age_ns = (raw_ns - page.bound.t_ref_ns).max(0) as f64;
        let aged = 1.0 + 2.0 * age_ns * page.bound.half_wander as f64 / (1u64 << (WANDER_BITS - RATE_BITS)) as f64;
        let is_outside =
            omega * unit < page.bound.omega_lo as f64 - aged || omega * unit > page.bound.omega_hi as f64 + aged;
        let freq_error = (page.estimate_omega as f64 / unit - omega).abs();
        let samples = self.samples.get_or_insert_default();
        samples.error_ns.saturating_record((theta_ns - (t - raw_ns)).unsigned_abs());
        samples.half_width_ns.saturating_record(((hi_ns - lo_ns + 1) / 2).unsigned_abs());
        samples.freq_error_fs.saturating_record((freq_error * 1e15) as u64);
        samples.omega_outside += u64::from(is_outside);
    }

    /// The agent publishes at true time `t`; `raw` one ns before and now.
    pub fn publish(&mut self, t: i64, raw: [i64; 2], suspended_ns: i64, new: Publication) {
        self.read(t - 1, raw[0], suspended_ns);
        self.publications += 1;
        let fault = legal(&new, raw[1])
            .or_else(|| self.page.as_ref().and_then(|old| contradiction(old, &new)))
            .or_else(|| self.last_bound.as_ref().and_then(|old| escape(old, &new)));
        if let Some(fault) = fault {
            let old = self.page.clone();
            self.fault(|| format!("{fault} at true time {t}: {old:?} then {new:?}"));
        }
        let said = (new.status, new.reason, new.epoch);
        if self.history.last().is_none_or(|&(_, status, reason, epoch)| (status, reason, epoch) != said) {
            self.history.push((t, new.status, new.reason, new.epoch));
        }
        if new.status.has_bound() {
            self.first_bound.get_or_insert(t);
            self.last_bound = Some(new.clone());
        }
        self.was_void_checked = false;
        self.page = Some(new);
        self.read(t, raw[1], suspended_ns);
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        if self.faults.len() < 100 {
            self.faults.push(what());
        }
    }
}

/// θ̂ when raw time is `raw_ns`.
fn estimated_theta_ns(page: &Publication, raw_ns: i64) -> i64 {
    let unit = (1i64 << RATE_BITS) as f64;
    let h = (raw_ns - page.bound.t_ref_ns) as f64;
    page.estimate_theta_ns + (page.estimate_omega as f64 / unit * h).round() as i64
}

/// Is the publication legal by itself?
fn legal(new: &Publication, raw_ns: i64) -> Option<&'static str> {
    let bound = &new.bound;
    if !new.status.has_bound() {
        let says_something = bound.void_after_ns != 0 || bound.theta_lo_ns != 0 || bound.theta_hi_ns != 0;
        return says_something.then_some("a bound without a status that has one");
    }
    if bound.theta_lo_ns > bound.theta_hi_ns || bound.omega_lo > bound.omega_hi {
        return Some("the bound is inside out");
    }
    if bound.t_ref_ns > raw_ns {
        return Some("the bound is from the future");
    }
    (bound.void_after_ns <= bound.t_ref_ns).then_some("the bound is void from its beginning")
}

/// Does it contradict the one before?
fn contradiction(old: &Publication, new: &Publication) -> Option<&'static str> {
    if new.epoch < old.epoch {
        return Some("the epoch went back");
    }
    if !new.status.has_bound() || !old.status.has_bound() {
        return None;
    }
    (new.epoch != old.epoch).then_some("an epoch was withdrawn without a publication that said so")
}

/// Does it lie outside the last bound of its epoch, aged? A page that said nothing in between takes nothing back.
fn escape(old: &Publication, new: &Publication) -> Option<&'static str> {
    if new.epoch != old.epoch || !new.status.has_bound() {
        return None;
    }
    let aged = old.bound.edges_at(new.bound.t_ref_ns).ok()?;
    let is_inside = aged.lo_ns <= new.bound.theta_lo_ns && new.bound.theta_hi_ns <= aged.hi_ns;
    (!is_inside).then_some("an update lies outside the previous one")
}
