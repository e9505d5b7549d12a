//! What the agent says beside its interval, held against the truth: its estimate, the clock it steers, and whether its
//! half-width ever grew by more than its own last publication foretold.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use truebound_client::bound::{Bound, RATE_BITS};
use truebound_client::{MonotonicRaw, RawClock, Reader, VirtualClock};

use super::agent::Agent;
use super::checker::realtime_ns;
use super::lab::Lab;

/// A reading of two clocks takes less, unless the judge lost the processor between them.
const NARROW_NS: i64 = 2_000;
/// How often the bound's growth is looked at.
const PAUSE: Duration = Duration::from_millis(1);
/// How long twenty publications may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two edges, each rounded outward when it is carried forward and again when it is read.
const ROUNDING_NS: i64 = 4;

/// How far the best estimate is ahead of true time now, ns; `None` if there is none or the judge was interrupted.
pub(crate) fn estimate_error_ns<C: RawClock>(reader: &Reader<C>) -> Option<i64> {
    let publication = reader.publication().filter(|publication| publication.status.has_bound())?;
    let before_ns = realtime_ns();
    let raw_ns = reader.clock().now_ns();
    let after_ns = realtime_ns();
    let drift = (i128::from(raw_ns - publication.bound.t_ref_ns) * i128::from(publication.estimate_omega)) >> RATE_BITS;
    let tai_ns = raw_ns + publication.estimate_theta_ns + i64::try_from(drift).ok()?;
    let utc_ns = tai_ns - i64::from(publication.utc.offset_s) * 1_000_000_000;
    (after_ns - before_ns <= NARROW_NS).then_some(utc_ns - i64::midpoint(before_ns, after_ns))
}

/// How far the virtual clock that the agent steers is ahead of true time, ns: it shows TAI.
pub(crate) fn steered_error_ns(agent: &Agent, reader: &Reader<VirtualClock>) -> Option<i64> {
    let status = agent.ask("status")?;
    let (raw_ns, offset_ns) = (status["raw_ns"].as_i64()?, status["disciplined_minus_raw_ns"].as_i64()?);
    let tai_offset_ns = i64::from(reader.publication()?.utc.offset_s) * 1_000_000_000;
    Some(raw_ns + offset_ns - tai_offset_ns - realtime_at(reader.clock(), raw_ns)?)
}

/// True time when the virtual clock showed `raw_ns`, a moment ago.
fn realtime_at(clock: &VirtualClock, raw_ns: i64) -> Option<i64> {
    let before_ns = realtime_ns();
    let now_ns = MonotonicRaw.now_ns();
    let after_ns = realtime_ns();
    let mut kernel_raw_ns = now_ns;
    // Each turn leaves the frequency error's share of what was missing: three are below a nanosecond.
    for _ in 0..3 {
        kernel_raw_ns += raw_ns - clock.at(kernel_raw_ns);
    }
    (after_ns - before_ns <= NARROW_NS).then_some(i64::midpoint(before_ns, after_ns) - (now_ns - kernel_raw_ns))
}

/// What was seen of the bound's growth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Publications that were compared with the one before them.
    pub(crate) compared: u64,
    /// The most by which one was wider than its predecessor foretold, ns.
    pub(crate) worst_ns: i64,
    /// Changes of the epoch: earlier intervals were withdrawn.
    pub(crate) epochs: u64,
}

/// Compares every publication with its predecessor, in a thread of its own until dropped.
pub(crate) struct GrowthJudge {
    seen: Arc<Mutex<Growth>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GrowthJudge {
    /// Begins with the page as it is.
    pub(crate) fn start(page: &Path) -> GrowthJudge {
        let reader = Reader::open(page).expect("the agent publishes");
        let (seen, stop) = (Arc::new(Mutex::new(Growth::default())), Arc::new(AtomicBool::new(false)));
        let (shared, ended) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut last: Option<(u64, Bound)> = None;
            while !ended.load(Ordering::Relaxed) {
                if let Some(now) = reader.publication().filter(|now| now.status.has_bound()) {
                    let this = (now.epoch, now.bound);
                    if let Some(last) = last.replace(this).filter(|last| *last != this) {
                        let raw_ns = reader.clock().now_ns();
                        shared.lock().unwrap_or_else(PoisonError::into_inner).compare(last, this, raw_ns);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        GrowthJudge { seen, stop, thread: Some(thread) }
    }

    pub(crate) fn growth(&self) -> Growth {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No publication was wider than foretold, and none was withdrawn.
    #[track_caller]
    pub(crate) fn expect_no_more_than_foretold(&self, lab: &Lab) {
        lab.wait("publications", PATIENCE, || self.growth().compared >= 20);
        let growth = self.growth();
        assert_eq!(growth.epochs, 0, "the bound was withdrawn: {growth:?}");
        assert!(growth.worst_ns <= ROUNDING_NS, "wider than holdover would be: {growth:?}");
    }
}

impl Drop for GrowthJudge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Growth {
    fn compare(&mut self, (old_epoch, old): (u64, Bound), (epoch, new): (u64, Bound), raw_ns: i64) {
        self.compared += 1;
        self.epochs += u64::from(epoch != old_epoch);
        // The reader may be a little before the newer reference instant, never long after the older one.
        let raw_ns = raw_ns.max(new.t_ref_ns);
        if let (Some(foretold), Some(width)) = (width(&old, raw_ns), width(&new, raw_ns)) {
            self.worst_ns = self.worst_ns.max((width - foretold).div_euclid(2));
        }
    }
}

fn width(bound: &Bound, raw_ns: i64) -> Option<i64> {
    bound.edges_at(raw_ns).ok().map(|edges| edges.hi_ns - edges.lo_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(t_ref_ns: i64, half_width_ns: i64) -> Bound {
        Bound {
            t_ref_ns,
            void_after_ns: i64::MAX,
            theta_lo_ns: -half_width_ns,
            theta_hi_ns: half_width_ns,
            omega_lo: -(1 << 30),
            omega_hi: 1 << 30,
            cap_lo: -(1 << 30),
            cap_hi: 1 << 30,
            ..Bound::default()
        }
    }

    /// After a second the first bound has grown by 2³⁰·2⁻⁴⁰ s, that is 976 562.5 ns.
    #[test]
    fn a_bound_wider_than_foretold_is_found_out() {
        let mut growth = Growth::default();
        growth.compare((1, bound(0, 1000)), (1, bound(1_000_000_000, 977_562)), 1_000_000_000);
        assert!(growth.worst_ns <= ROUNDING_NS, "{growth:?}");
        growth.compare((1, bound(0, 1000)), (1, bound(1_000_000_000, 977_662)), 1_000_000_000);
        assert!((90..=110).contains(&growth.worst_ns), "{growth:?}");
        assert_eq!((growth.compared, growth.epochs), (2, 0));
    }
}
