//! What a read gives: two instants with true time between them, or why there are none.
//!
//! An [`Interval`] is one reading. A [`Span`] is two instants on one timescale and the algebra of such pairs: what is
//! certain, what is possible. Protocols that outlive a reading (leases, tokens, logs) keep spans of TAI, which knows no
//! leap second; a Unix time repeats one.

use std::fmt;

use crate::status::{Reason, Status};

/// Two instants, both included, ns since 1970 on one timescale. The caller keeps to one: TAI wherever an instant is
/// stored or sent, for Unix time goes back at a leap second.
///
/// `earliest_ns <= latest_ns` for every span of this crate. A span that came from elsewhere may be inverted; it then
/// contains nothing, and nothing is certain about it: see [`Span::is_valid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Not before this.
    pub earliest_ns: i64,
    /// Not after this.
    pub latest_ns: i64,
}

/// What two spans say about the order of their instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Every instant of the first is before every instant of the second.
    Before,
    /// Every instant of the first is after every instant of the second.
    After,
    /// They share instants (or one is inverted): either order is possible.
    Uncertain,
}

impl Span {
    /// From `earliest_ns` to `latest_ns`.
    #[must_use]
    pub const fn new(earliest_ns: i64, latest_ns: i64) -> Self {
        Span { earliest_ns, latest_ns }
    }

    /// The ends are in order.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.earliest_ns <= self.latest_ns
    }

    /// latest − earliest, ns; saturates.
    #[must_use]
    pub const fn width_ns(self) -> i64 {
        self.latest_ns.saturating_sub(self.earliest_ns)
    }

    /// Half the width, rounded up, ns.
    #[must_use]
    pub fn half_width_ns(self) -> i64 {
        let width = i128::from(self.latest_ns) - i128::from(self.earliest_ns);
        i64::try_from((width + 1) / 2).unwrap_or(i64::MAX)
    }

    /// The middle, rounded down, ns. Not the time: only the span is.
    #[must_use]
    pub const fn midpoint_ns(self) -> i64 {
        self.earliest_ns.midpoint(self.latest_ns)
    }

    /// Is `instant_ns` between the ends, or at one?
    #[must_use]
    pub const fn contains(self, instant_ns: i64) -> bool {
        self.earliest_ns <= instant_ns && instant_ns <= self.latest_ns
    }

    /// Every instant of `self` is before every instant of `other`.
    #[must_use]
    pub const fn is_certainly_before(self, other: Span) -> bool {
        self.is_valid() && other.is_valid() && self.latest_ns < other.earliest_ns
    }

    /// Every instant of `self` is after every instant of `other`.
    #[must_use]
    pub const fn is_certainly_after(self, other: Span) -> bool {
        other.is_certainly_before(self)
    }

    /// They share an instant.
    #[must_use]
    pub const fn overlaps(self, other: Span) -> bool {
        self.intersection(other).is_some()
    }

    /// What is certain of their order.
    #[must_use]
    pub const fn order(self, other: Span) -> Order {
        if self.is_certainly_before(other) {
            Order::Before
        } else if self.is_certainly_after(other) {
            Order::After
        } else {
            Order::Uncertain
        }
    }

    /// The instants of both: where two spans each contain one instant, it is here. `None`: they cannot both be right.
    #[must_use]
    pub const fn intersection(self, other: Span) -> Option<Span> {
        let earliest_ns = if self.earliest_ns > other.earliest_ns { self.earliest_ns } else { other.earliest_ns };
        let latest_ns = if self.latest_ns < other.latest_ns { self.latest_ns } else { other.latest_ns };
        if earliest_ns <= latest_ns { Some(Span { earliest_ns, latest_ns }) } else { None }
    }

    /// The least span with the instants of either.
    #[must_use]
    pub const fn hull(self, other: Span) -> Span {
        let earliest_ns = if self.earliest_ns < other.earliest_ns { self.earliest_ns } else { other.earliest_ns };
        let latest_ns = if self.latest_ns > other.latest_ns { self.latest_ns } else { other.latest_ns };
        Span { earliest_ns, latest_ns }
    }

    /// Both ends moved, the lower by `least_ns`, the upper by `most_ns`; saturates.
    #[must_use]
    pub const fn plus(self, least_ns: i64, most_ns: i64) -> Span {
        Span {
            earliest_ns: self.earliest_ns.saturating_add(least_ns),
            latest_ns: self.latest_ns.saturating_add(most_ns),
        }
    }
}

/// `earliest_ns <= true time <= latest_ns`, at some instant during the read. Unix time (UTC), ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// True time is not before this: ns since 1970-01-01T00:00:00Z.
    pub earliest_ns: i64,
    /// True time is not after this: ns since 1970-01-01T00:00:00Z.
    pub latest_ns: i64,
    /// The same on TAI, where no leap second widens or repeats it. Within an epoch its `earliest_ns` never goes back.
    pub tai: Span,
    /// Changes when the agent withdrew its earlier bounds; intervals of one epoch never contradict each other.
    pub epoch: u64,
    /// [`Status::Locked`] or [`Status::Holdover`].
    pub status: Status,
    /// TAI − UTC in seconds, as used for this reading.
    pub tai_offset_s: i32,
}

impl Interval {
    /// The Unix times as a span.
    #[must_use]
    pub const fn utc(&self) -> Span {
        Span { earliest_ns: self.earliest_ns, latest_ns: self.latest_ns }
    }

    /// Half the width, rounded up, ns.
    #[must_use]
    pub fn half_width_ns(&self) -> i64 {
        self.utc().half_width_ns()
    }

    /// The middle, rounded down, ns. Not the time: only the interval is.
    #[must_use]
    pub fn midpoint_ns(&self) -> i64 {
        self.utc().midpoint_ns()
    }

    /// Could `instant_ns` (Unix time, ns) be the true time of this reading?
    #[must_use]
    pub fn contains(&self, instant_ns: i64) -> bool {
        self.utc().contains(instant_ns)
    }

    /// This reading was taken before `other`, on this host or on another, whatever the clocks do within their bounds.
    #[must_use]
    pub fn is_certainly_before(&self, other: &Interval) -> bool {
        self.tai.is_certainly_before(other.tai)
    }

    /// This reading was taken after `other`.
    #[must_use]
    pub fn is_certainly_after(&self, other: &Interval) -> bool {
        self.tai.is_certainly_after(other.tai)
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
    /// The page says something that no agent says: an unknown status, or edges in the wrong order.
    Malformed,
    /// The host slept since the page was published, and the agent has not noticed yet.
    Slept,
    /// The hypervisor paused, moved or restored this VM since the page was published.
    VmMoved,
    /// The agent watches the hypervisor's page (/dev/vmclock0) and this process cannot: only a strict read minds.
    VmClockHidden,
    /// The kernel's clocksource is another one than when the page was published.
    ClocksourceChanged,
    /// This process's raw clock is shifted against the agent's by a time namespace.
    OtherTimeNamespace,
    /// The page's file was removed or replaced: no agent writes it any more. Open the path again.
    Replaced,
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
            Unavailable::Malformed => f.write_str("the page says something that no agent of this version says"),
            Unavailable::Slept => f.write_str("the host slept since the page was published; the agent measures anew"),
            Unavailable::VmMoved => f.write_str("the VM was paused, moved or restored; the agent measures anew"),
            Unavailable::VmClockHidden => f.write_str(
                "the agent watches the hypervisor's page and this process cannot open it: let it read /dev/vmclock0",
            ),
            Unavailable::ClocksourceChanged => {
                f.write_str("the kernel changed its clocksource; the agent measures anew")
            }
            Unavailable::Replaced => f.write_str("the page's file was removed or replaced: open the path again"),
            Unavailable::OtherTimeNamespace => f.write_str(
                "this process runs in another time namespace than the agent, so its raw clock is shifted; run it in the agent's",
            ),
        }
    }
}

impl std::error::Error for Unavailable {}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(earliest_ns: i64, latest_ns: i64) -> Interval {
        let tai = Span::new(earliest_ns, latest_ns).plus(37, 37);
        Interval { earliest_ns, latest_ns, tai, epoch: 1, status: Status::Locked, tai_offset_s: 37 }
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
