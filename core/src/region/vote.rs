//! Several sources, some of which may lie: what at least n − f independence groups allow (BOUND §4).
//!
//! θ and ω are common to all sources, so Marzullo's intersection applies to the θ-intervals and to the ω-intervals
//! separately. A silent group counts as (−∞, ∞). The result is the hull of the points that n − f groups cover: if at
//! most f groups lie, the truth is one of them.

use crate::region::Region;

/// What the groups agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    /// So many are silent that any value has enough supporters.
    Unbounded,
    /// No value has enough supporters.
    Empty,
    /// At least n − f groups allow only this.
    Region(Region),
}

/// Votes among `n` groups of which `regions` are heard, tolerating `f` liars.
pub(crate) fn vote(regions: &[Region], n: usize, f: usize) -> Vote {
    let silent = n.saturating_sub(regions.len());
    let Some(needed) = n.checked_sub(f).and_then(|quorum| quorum.checked_sub(silent)).filter(|&needed| needed > 0)
    else {
        return Vote::Unbounded;
    };
    let theta = covered(regions.iter().map(|r| (r.theta_lo_ns, r.theta_hi_ns)), needed);
    let omega = covered(regions.iter().map(|r| (r.omega_lo, r.omega_hi)), needed);
    match (theta, omega) {
        (Some((theta_lo_ns, theta_hi_ns)), Some((omega_lo, omega_hi))) => {
            Vote::Region(Region { theta_lo_ns, theta_hi_ns, omega_lo, omega_hi })
        }
        _ => Vote::Empty,
    }
}

/// The hull of the points that at least `needed` of the closed intervals cover: sweeps inward from either side.
fn covered(intervals: impl Iterator<Item = (i64, i64)>, needed: usize) -> Option<(i64, i64)> {
    let (mut lows, mut highs): (Vec<i64>, Vec<i64>) = intervals.unzip();
    lows.sort_unstable();
    highs.sort_unstable();
    // At the k-th low from below, k have begun, less those that ended before it; from above likewise.
    let ended = |x: i64| highs.partition_point(|&high| high < x);
    let begin = |x: i64| lows.len() - lows.partition_point(|&low| low <= x);
    let low = (1..).zip(&lows).find(|&(begun, &x)| begun >= needed + ended(x)).map(|(_, &x)| x)?;
    let high = (1..).zip(highs.iter().rev()).find(|&(begun, &x)| begun >= needed + begin(x)).map(|(_, &x)| x)?;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(lo: i64, hi: i64) -> Region {
        Region { theta_lo_ns: lo, theta_hi_ns: hi, omega_lo: -10, omega_hi: 10 }
    }

    fn theta(vote: Vote) -> Option<(i64, i64)> {
        match vote {
            Vote::Region(r) => Some((r.theta_lo_ns, r.theta_hi_ns)),
            _ => None,
        }
    }

    #[test]
    fn two_of_three_outvote_a_liar() {
        let regions = [region(0, 10), region(5, 12), region(1000, 1010)];
        assert_eq!(theta(vote(&regions, 3, 1)), Some((5, 10)));
    }

    #[test]
    fn a_liar_that_touches_can_widen_but_not_move_the_vote_off_the_truth() {
        let regions = [region(0, 10), region(5, 12), region(9, 40)];
        let (lo, hi) = theta(vote(&regions, 3, 1)).expect("a majority");
        assert_eq!((lo, hi), (5, 12));
    }

    #[test]
    fn silent_groups_count_as_allowing_everything() {
        assert_eq!(vote(&[region(0, 10)], 3, 1), Vote::Unbounded);
        assert_eq!(theta(vote(&[region(0, 10), region(5, 20)], 3, 1)), Some((0, 20)));
        assert_eq!(theta(vote(&[region(0, 10)], 1, 0)), Some((0, 10)));
        assert_eq!(vote(&[], 0, 0), Vote::Unbounded);
    }

    #[test]
    fn two_groups_that_disagree_leave_nothing() {
        assert_eq!(vote(&[region(0, 10), region(11, 20)], 2, 0), Vote::Empty);
        assert_eq!(theta(vote(&[region(0, 10), region(10, 20)], 2, 0)), Some((10, 10)));
    }

    proptest! {
        #[test]
        fn the_sweep_finds_the_outermost_points_that_enough_cover(
            intervals in prop::collection::vec((-20i64..20, 0i64..20), 0..9), needed in 1usize..6,
        ) {
            let intervals: Vec<(i64, i64)> = intervals.into_iter().map(|(low, width)| (low, low + width)).collect();
            let covers = |x: &i64| intervals.iter().filter(|&&(low, high)| low <= *x && *x <= high).count() >= needed;
            let points: Vec<i64> = (-20..40).filter(covers).collect();
            let expected = points.first().copied().zip(points.last().copied());
            prop_assert_eq!(covered(intervals.iter().copied(), needed), expected);
        }

        #[test]
        fn truth_stays_inside_while_at_most_f_groups_lie(
            truthful in prop::collection::vec((0i64..1000, 0i64..1000), 1..8),
            lies in prop::collection::vec((-5000i64..5000, 0i64..1000), 0..4),
            silent in 0usize..3,
        ) {
            let mut regions: Vec<Region> = truthful.iter().map(|&(a, b)| region(-a, b)).collect();
            regions.extend(lies.iter().map(|&(lo, width)| region(lo, lo + width)));
            let n = regions.len() + silent;
            let f = n.saturating_sub(1) / 2;
            prop_assume!(lies.len() <= f);
            match vote(&regions, n, f) {
                Vote::Unbounded => {}
                Vote::Empty => prop_assert!(false, "truth has n - f supporters"),
                Vote::Region(r) => prop_assert!(r.theta_lo_ns <= 0 && 0 <= r.theta_hi_ns),
            }
        }
    }
}
