//! What a read gives: two instants with true time between them, or why there are none.

use std::fmt;

use crate::status::{Reason, Status};

/// `earliest_ns <= true time <= latest_ns`, at some instant during the read. Unix time (UTC), ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// True time is not before this: ns since 1970-01-01T00:00:00Z.
    pub earliest_ns: i64,
    /// True time is not after this: ns since 1970-01-01T00:00:00Z.
    pub latest_ns: i64,
    /// Changes when the agent withdrew its earlier bounds; intervals of one epoch never contradict each other.
    pub epoch: u64,
    /// [`Status::Locked`] or [`Status::Holdover`].
    pub status: Status,
    /// TAI − UTC in seconds, as used for this reading.
    pub tai_offset_s: i32,
}

impl Interval {
    /// Half the width, rounded up, ns.
    #[must_use]
    pub fn half_width_ns(&self) -> i64 {
        let width = i128::from(self.latest_ns) - i128::from(self.earliest_ns);
        i64::try_from((width + 1) / 2).unwrap_or(i64::MAX)
    }

    /// The middle, rounded down, ns. Not the time: only the interval is.
    #[must_use]
    pub fn midpoint_ns(&self) -> i64 {
        let sum = i128::from(self.latest_ns) + i128::from(self.earliest_ns);
        i64::try_from(sum.div_euclid(2)).unwrap_or(i64::MAX)
    }

    /// Could `instant_ns` (Unix time, ns) be the true time of this reading?
    #[must_use]
    pub fn contains(&self, instant_ns: i64) -> bool {
        (self.earliest_ns..=self.latest_ns).contains(&instant_ns)
    }

    /// Every instant of `self` is before every instant of `other`.
    #[must_use]
    pub fn is_certainly_before(&self, other: &Interval) -> bool {
        self.latest_ns < other.earliest_ns
    }
}

/// Why there is no interval now. None of these is a panic, and none is a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The agent has no bound: its status and the reason.
    NoBound(Status, Reason),
    /// The bound has expired: nothing was published for longer than `max-holdover`.
    Stale,
    /// The reference instant lies more than a millisecond ahead of this host's raw clock.
    BeforeReference,
    /// Publications overtook the read a thousand times.
    Contended,
    /// The page says something that this client does not understand.
    Malformed,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NoBound(status, reason) => {
                write!(f, "no bound: {status} ({reason}: {})", reason.meaning())
            }
            Unavailable::Stale => f.write_str("the bound has expired: is the agent running?"),
            Unavailable::BeforeReference => f.write_str("the raw clock is before the bound's reference instant"),
            Unavailable::Contended => f.write_str("publications kept overtaking the read"),
            Unavailable::Malformed => f.write_str("the page holds a status this client does not know"),
        }
    }
}

impl std::error::Error for Unavailable {}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(earliest_ns: i64, latest_ns: i64) -> Interval {
        Interval { earliest_ns, latest_ns, epoch: 1, status: Status::Locked, tai_offset_s: 37 }
    }

    #[test]
    fn half_width_rounds_up() {
        assert_eq!(interval(10, 13).half_width_ns(), 2);
        assert_eq!(interval(10, 12).half_width_ns(), 1);
        assert_eq!(interval(i64::MIN, i64::MAX).half_width_ns(), i64::MAX);
    }

    #[test]
    fn both_ends_belong_to_the_interval() {
        assert!(interval(10, 13).contains(10) && interval(10, 13).contains(13));
        assert!(!interval(10, 13).contains(9) && !interval(10, 13).contains(14));
    }

    #[test]
    fn touching_intervals_are_not_ordered() {
        assert!(!interval(1, 5).is_certainly_before(&interval(5, 6)));
        assert!(interval(1, 4).is_certainly_before(&interval(5, 6)));
    }
}
