//! The floor of each direction: queueing only delays.
//!
//! A packet that was faster than the path allows says that θ is not where it is believed to be, whatever its answer met on
//! the way back; a block's midpoint would say so only when that is beyond what queues on both ways explain. By how much
//! it fell short of the floor is the least by which θ moved, and the last packet that came close to the floor found it in
//! its place, which tells since when and so how fast. For some sub-blocks after that whatever comes short corrects the
//! state, for the first one was late itself by what it met.

use crate::time::RawTime;

/// Short by so many standard deviations of θ and so much of the slack: a surprise, and while a surprise is followed.
const SIGMAS: f64 = 5.0;
const SIGMAS_FOLLOWING: f64 = 1.0;
const SLACK_FOLLOWING: f64 = 1.0 / 3.0;
/// Sub-blocks for which a surprise is followed.
const FOLLOWING: u8 = 16;

/// A packet came short of its floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Short {
    /// By so much, s: positive if θ is less than believed.
    pub(super) by: f64,
    /// Since this instant at the earliest, if it is a surprise.
    pub(super) since: Option<RawTime>,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    /// When a packet last came close to it, forward and back.
    near: [RawTime; 2],
    following: u8,
}

impl Floor {
    pub(super) fn new(t: RawTime) -> Self {
        Floor { near: [t; 2], following: 0 }
    }

    /// A sub-block ended, whose fastest packets were this much below their floors, s (negative: above). `sigma` is the
    /// standard deviation of θ, `slack` how well the floor is known.
    pub(super) fn watch(&mut self, t: RawTime, forward: f64, back: f64, sigma: f64, slack: f64) -> Option<Short> {
        let is_following = self.following > 0;
        self.following = self.following.saturating_sub(1);
        let surprise = SIGMAS * sigma + slack;
        let limit = if is_following { SIGMAS_FOLLOWING * sigma + SLACK_FOLLOWING * slack } else { surprise };
        for (near, below) in self.near.iter_mut().zip([forward, back]) {
            if below.abs() <= limit {
                *near = t;
            }
        }
        let (below, sign, near) =
            if forward > back { (forward, 1.0, self.near[0]) } else { (back, -1.0, self.near[1]) };
        let by = sign * below;
        if below > surprise {
            self.following = FOLLOWING;
            return Some(Short { by, since: Some(near) });
        }
        (below > limit).then_some(Short { by, since: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::to_i64;

    const SIGMA: f64 = 1e-6;
    const SLACK: f64 = 2e-6;

    /// By how many ns, and since when.
    fn told(short: Option<Short>) -> Option<(i64, Option<RawTime>)> {
        short.map(|short| (to_i64((short.by * 1e9).round()), short.since))
    }

    fn at(s: i64) -> RawTime {
        RawTime::from_ns(s * 1_000_000_000)
    }

    #[test]
    fn a_packet_below_its_floor_is_a_surprise_since_the_last_that_met_it() {
        let mut floor = Floor::new(at(0));
        assert_eq!(floor.watch(at(1), -40e-6, -1e-6, SIGMA, SLACK), None, "queues, and one that met none");
        assert_eq!(floor.watch(at(2), -1e-6, -90e-6, SIGMA, SLACK), None);
        assert_eq!(floor.watch(at(3), 6.9e-6, -90e-6, SIGMA, SLACK), None, "within five sigmas and the slack");
        assert_eq!(told(floor.watch(at(4), -50e-6, 7.1e-6, SIGMA, SLACK)), Some((-7_100, Some(at(1)))));
        assert_eq!(told(floor.watch(at(5), 20e-6, -9e-6, SIGMA, SLACK)), Some((20_000, Some(at(3)))));
    }

    #[test]
    fn what_comes_short_after_a_surprise_counts_for_a_while() {
        let mut floor = Floor::new(at(0));
        assert!(floor.watch(at(1), 30e-6, -1e-6, SIGMA, SLACK).is_some());
        for s in 2..=1 + i64::from(FOLLOWING) {
            assert_eq!(told(floor.watch(at(s), 1.7e-6, 0.0, SIGMA, SLACK)), Some((1_700, None)), "{s}");
        }
        assert_eq!(floor.watch(at(60), 3.1e-6, 0.0, SIGMA, SLACK), None);
    }
}
