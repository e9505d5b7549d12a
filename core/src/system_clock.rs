//! CLOCK_REALTIME while we steer it (`discipline = "system"`): who else turns it, and what the kernel is to tell of it.
//!
//! **Rivals.** After each command the kernel says the commanded rate at every reading, until somebody else gives it
//! another one, lets it slew a phase away, or moves it by adjtime(3), which shows only in the clock itself. Each such
//! act is an offence. We turn the clock back to what it should be; at the third within an hour the other one means it,
//! and `rival` decides who gives way. Somebody who sets the clock once (date(1)) is no rival: what he did is an offset.
//!
//! **What the kernel tells** (adjtimex(2)) must be true at every instant until we say it anew, and goes on to be so if
//! we die. The kernel adds 500 µs to `maxerror` at every second. With the edges lo, hi of true time and C the clock:
//!
//! ```text
//! maxerror(h) ≥ max(hi(h) − C(h), C(h) − lo(h))     for 0 ≤ h ≤ H,   H the time until the kernel's additions count
//! ```
//! Each side is at its greatest at an end of [0, H], since C is a line and the edges bend outward; and where C will be slewed
//! to counts too, for the estimate may be at an edge. So what is still to be slewed is in it. After H the additions outrun rates of up to 500 ppm, which `max-slew` stays below by default.

use truebound_client::bound::Bound;

use crate::io::{Declaration, KernelRate, LeapSecond};
use crate::settings::RivalPolicy;
use crate::time::{NS_PER_S, RawTime};
use crate::units::{FreqError, to_i64};

/// How far the kernel's word may be from the rate that it was given: both are rounded, ppb.
const SAME_PPB: u64 = 2;
/// adjtime(3) slews at 500 ppm; the clock's own deviation from what the kernel says is far below this.
const UNSEEN_SLEW: f64 = 50e-6;
/// Readings closer than this prove no slew, ns.
const SHORTEST_NS: i64 = NS_PER_S / 10;
/// Offences within [`WINDOW_NS`] that make a rival.
const PATIENCE: usize = 3;
const WINDOW_NS: i64 = 3600 * NS_PER_S;
/// H: a declaration holds by itself for so long, ns.
const HOLDS_NS: i64 = 2 * NS_PER_S;
/// Declared again after this at the latest, ns.
const REFRESH_NS: i64 = NS_PER_S;
/// The kernel's greatest maxerror (NTP_PHASE_LIMIT), ns: nothing is known.
pub(crate) const UNKNOWN_NS: i64 = 16 * NS_PER_S;

/// What somebody else did to the clock that we steer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It has another rate than we gave it, ppb.
    Rate {
        /// Now.
        ppb: i64,
    },
    /// The kernel slews a phase away.
    Phase,
    /// It moved though the kernel says no such rate (adjtime(3)), ns.
    Moved {
        /// By so much since the reading before.
        by_ns: i64,
    },
}

/// Who steers the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// Nobody yet: there is no estimate.
    #[default]
    Waiting,
    /// We do.
    Ours,
    /// Somebody else does, and we gave way.
    Yielded,
}

impl Steering {
    /// The word used in JSON, logs and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Steering::Waiting => "waiting",
            Steering::Ours => "ours",
            Steering::Yielded => "yielded",
        }
    }
}

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(crate) struct SystemClock {
    pub(crate) steering: Steering,
    /// The rate given last, ppb.
    commanded_ppb: Option<i64>,
    /// What was seen at the last reading that was not ours: told once.
    known: Option<KernelRate>,
    offences: Vec<RawTime>,
    pub(crate) offence_count: u64,
    pub(crate) declared: Option<(RawTime, Declaration)>,
}

impl SystemClock {
    /// The kernel was given this rate.
    pub(crate) fn commanded(&mut self, rate: i64) {
        self.commanded_ppb = Some(to_i64((FreqError::from_rate(rate).as_fraction() * 1e9).round()));
        self.known = None;
        // A command that was under way when we yielded takes nothing back.
        if self.steering == Steering::Waiting {
            self.steering = Steering::Ours;
        }
    }

    /// Is this the rate that we gave? Before the first command any rate is, but none is ours.
    pub(crate) fn is_ours(&self, rate: KernelRate) -> bool {
        match (self.steering, self.commanded_ppb, rate) {
            (Steering::Ours, Some(ours), KernelRate::Steady { ppb }) => ours.abs_diff(ppb) <= SAME_PPB,
            _ => false,
        }
    }

    /// The clock was read at `at`, `elapsed_ns` after the reading before, `beyond_ns` away from what its rate explains.
    /// Gives what somebody else did to it, once.
    pub(crate) fn read(&mut self, at: RawTime, rate: KernelRate, elapsed_ns: i64, beyond_ns: i64) -> Option<Offence> {
        if self.steering != Steering::Ours {
            return None;
        }
        let offence = if !self.is_ours(rate) {
            if self.known == Some(rate) {
                return None;
            }
            self.known = Some(rate);
            match rate {
                KernelRate::Steady { ppb } => Offence::Rate { ppb },
                KernelRate::Unknown => Offence::Phase,
            }
        } else if elapsed_ns >= SHORTEST_NS && beyond_ns.saturating_abs() > share(elapsed_ns, UNSEEN_SLEW) {
            Offence::Moved { by_ns: beyond_ns }
        } else {
            return None;
        };
        self.offence_count += 1;
        self.offences.retain(|&then| at.ns_since(then) < WINDOW_NS);
        self.offences.push(at);
        Some(offence)
    }

    /// Gives way if there is a rival and the policy says so: true at the moment it does.
    pub(crate) fn yields(&mut self, policy: RivalPolicy) -> bool {
        let has_rival = self.offences.len() >= PATIENCE;
        let yields = has_rival && policy == RivalPolicy::Yield && self.steering == Steering::Ours;
        if yields {
            self.steering = Steering::Yielded;
            self.declared = None;
        } else if has_rival {
            self.offences.clear();
        }
        yields
    }

    /// The operator wants us to steer again.
    pub(crate) fn resume(&mut self) {
        if self.steering == Steering::Yielded {
            *self = SystemClock { offence_count: self.offence_count, ..SystemClock::default() };
        }
    }

    /// The declaration, if it says more than the kernel would by itself, or the last one is old.
    pub(crate) fn declare(&mut self, now: RawTime, declaration: Declaration) -> Option<Declaration> {
        if self.steering == Steering::Yielded {
            return None;
        }
        let is_needed = self.declared.is_none_or(|(then, last)| {
            let age_ns = now.ns_since(then);
            let same = Declaration { max_error_ns: 0, est_error_ns: 0, ..last }
                == Declaration { max_error_ns: 0, est_error_ns: 0, ..declaration };
            !same || age_ns >= REFRESH_NS || declaration.max_error_ns > last.max_error_ns
        });
        is_needed.then(|| {
            self.declared = Some((now, declaration));
            declaration
        })
    }
}

/// How far C may be from true time until the kernel's additions count, ns, rounded up: `lines` are where C is and where it
/// is to be, each as C − T at `now` and a rate, 2⁻⁴⁰. `None` if the bound ends before.
pub(crate) fn max_error_ns(bound: &Bound, now: RawTime, lines: [(i64, i64); 2]) -> Option<i64> {
    let mut worst_ns = 0;
    for h_ns in [0, HOLDS_NS] {
        let edges = bound.edges_at(now.as_ns().saturating_add(h_ns)).ok()?;
        for (c_ns, rate) in lines {
            let moved_ns = share(HOLDS_NS, FreqError::from_rate(rate).as_fraction());
            for c_ns in [c_ns, c_ns.saturating_add(moved_ns)] {
                let apart_ns = edges.hi_ns.saturating_sub(c_ns).max(c_ns.saturating_sub(edges.lo_ns));
                worst_ns = worst_ns.max(apart_ns);
            }
        }
    }
    Some(worst_ns.saturating_add(2))
}

/// Which leap second the kernel is to make at the end of this day (UTC).
pub(crate) fn leap_today(change_s: Option<i32>, ns_to_change: i64) -> LeapSecond {
    const DAY_NS: i64 = 86_400 * NS_PER_S;
    match change_s {
        Some(1) if (0..DAY_NS).contains(&ns_to_change) => LeapSecond::Insert,
        Some(-1) if (0..DAY_NS).contains(&ns_to_change) => LeapSecond::Delete,
        _ => LeapSecond::None,
    }
}

/// ns · share, rounded away from zero.
fn share(ns: i64, share: f64) -> i64 {
    let product = crate::units::to_f64(ns) * share;
    to_i64(if product < 0.0 { product.floor() } else { product.ceil() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel adds to maxerror at each of its seconds, ns.
    const ADDED_NS_PER_S: i64 = 500_000;

    fn at_s(second: i64) -> RawTime {
        RawTime::from_ns(second * NS_PER_S)
    }

    fn steered() -> SystemClock {
        let mut clock = SystemClock::default();
        clock.commanded(FreqError::from_ppm(10.0).to_rate_down());
        clock
    }

    fn rate(ppb: i64) -> KernelRate {
        KernelRate::Steady { ppb }
    }

    #[test]
    fn a_rate_that_we_gave_is_no_offence_and_another_is_one_told_once() {
        let mut clock = steered();
        assert_eq!(clock.read(at_s(1), rate(10_002), NS_PER_S, 0), None);
        assert_eq!(clock.read(at_s(2), rate(10_003), NS_PER_S, 0), Some(Offence::Rate { ppb: 10_003 }));
        assert_eq!(clock.read(at_s(3), rate(10_003), NS_PER_S, 0), None);
        assert_eq!(clock.read(at_s(4), KernelRate::Unknown, NS_PER_S, 0), Some(Offence::Phase));
        assert_eq!(clock.offence_count, 2);
    }

    #[test]
    fn what_the_rate_does_not_explain_is_an_offence_from_fifty_ppm_on() {
        let mut clock = steered();
        assert_eq!(clock.read(at_s(1), rate(10_000), NS_PER_S, 50_000), None);
        assert_eq!(clock.read(at_s(2), rate(10_000), NS_PER_S, -50_001), Some(Offence::Moved { by_ns: -50_001 }));
        assert_eq!(clock.read(at_s(2), rate(10_000), SHORTEST_NS - 1, 50_001), None, "too short to tell");
    }

    #[test]
    fn the_third_offence_within_an_hour_makes_a_rival_and_the_policy_decides() {
        for (policy, yields) in [(RivalPolicy::Yield, true), (RivalPolicy::Insist, false)] {
            let mut clock = steered();
            for second in [0, 10, 3_599] {
                assert!(!clock.yields(policy), "after {second} s");
                assert!(clock.read(at_s(second), rate(second), NS_PER_S, 0).is_some());
            }
            assert_eq!((clock.yields(policy), clock.steering == Steering::Yielded), (yields, yields));
            assert!(!clock.yields(policy), "told once");
        }
        let mut clock = steered();
        for second in [0, 10, 3_600] {
            assert!(clock.read(at_s(second), rate(second), NS_PER_S, 0).is_some());
        }
        assert!(!clock.yields(RivalPolicy::Yield), "the first was an hour ago");
    }

    #[test]
    fn whoever_yielded_says_nothing_until_the_operator_resumes() {
        let mut clock = steered();
        (0..3).for_each(|second| assert!(clock.read(at_s(second), rate(second), NS_PER_S, 0).is_some()));
        assert!(clock.yields(RivalPolicy::Yield));
        assert_eq!(clock.declare(at_s(4), Declaration::UNKNOWN), None);
        assert_eq!(clock.read(at_s(5), rate(7), NS_PER_S, 0), None);
        clock.commanded(0);
        assert_eq!(clock.steering, Steering::Yielded, "a late command");
        clock.resume();
        assert_eq!(clock.steering, Steering::Waiting);
        assert!(clock.declare(at_s(6), Declaration::UNKNOWN).is_some());
    }

    #[test]
    fn a_declaration_is_said_again_when_it_is_old_or_says_more() {
        let said = Declaration { max_error_ns: 1_000, is_synchronised: true, ..Declaration::UNKNOWN };
        let mut clock = steered();
        assert!(clock.declare(at_s(0), said).is_some());
        assert!(clock.declare(at_s(0), Declaration { max_error_ns: 900, ..said }).is_none());
        assert!(clock.declare(at_s(0), Declaration { max_error_ns: 1_001, ..said }).is_some());
        assert!(clock.declare(at_s(0), Declaration { is_synchronised: false, ..said }).is_some());
        assert!(clock.declare(at_s(1), Declaration { is_synchronised: false, ..said }).is_some());
    }

    /// The kernel: maxerror as declared, and 500 µs more at each of its seconds, the first up to a second late.
    #[test]
    fn the_kernels_maxerror_covers_the_clock_for_as_long_as_nobody_says_it_anew() {
        let ppm = |ppm: f64| FreqError::from_ppm(ppm).to_rate_down();
        for (ahead_ns, rate_ppm) in [(0, 0.0), (10_000_000, -400.0), (-10_000_000, 400.0), (0, 400.0), (0, -400.0)] {
            let bound = Bound {
                void_after_ns: i64::MAX,
                theta_lo_ns: -50_000,
                theta_hi_ns: 50_000,
                omega_lo: -ppm(20.0),
                omega_hi: ppm(20.0),
                cap_lo: -ppm(70.0),
                cap_hi: ppm(70.0),
                half_wander: crate::units::half_wander(1e-7),
                phase_rate: ppm(0.12),
                ..Bound::default()
            };
            let lines = [(ahead_ns, ppm(rate_ppm)), (0, 0)];
            let declared_ns = max_error_ns(&bound, at_s(0), lines).expect("a bound");
            for tenth in 0..10_000 {
                let h_ns = tenth * NS_PER_S / 10;
                let edges = bound.edges_at(h_ns).expect("it holds");
                let c_ns = ahead_ns + share(h_ns, rate_ppm * 1e-6);
                let apart_ns = (edges.hi_ns - c_ns).max(c_ns - edges.lo_ns);
                let told_ns = declared_ns + ADDED_NS_PER_S * (h_ns / NS_PER_S - 1).max(0);
                assert!(
                    apart_ns <= told_ns,
                    "{ahead_ns} ns ahead at {rate_ppm} ppm, after {h_ns} ns: {apart_ns}, told {told_ns}"
                );
            }
        }
    }

    #[test]
    fn where_the_clock_is_slewed_to_counts_as_well() {
        let bound = Bound { void_after_ns: i64::MAX, theta_lo_ns: -500, theta_hi_ns: 500, ..Bound::default() };
        let told_ns = |to_ns| max_error_ns(&bound, at_s(0), [(0, 0), (to_ns, 0)]).expect("a bound");
        assert_eq!((told_ns(0), told_ns(500), told_ns(-500)), (502, 1002, 1002));
    }

    #[test]
    fn a_leap_second_is_announced_on_its_day_only() {
        assert_eq!(leap_today(Some(1), 86_400 * NS_PER_S), LeapSecond::None);
        assert_eq!(leap_today(Some(1), 86_400 * NS_PER_S - 1), LeapSecond::Insert);
        assert_eq!(leap_today(Some(-1), 0), LeapSecond::Delete);
        assert_eq!(leap_today(Some(1), -1), LeapSecond::None);
        assert_eq!(leap_today(None, 0), LeapSecond::None);
    }
}
