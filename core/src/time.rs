//! Instants, each with its timescale in the type: subtracting across timescales does not compile.
//!
//! ```compile_fail
//! use truebound_core::time::{RawTime, TaiTime};
//! let _ = TaiTime::from_ns(1).ns_since(RawTime::from_ns(1));
//! ```

macro_rules! timescale {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// The last instant there is.
            pub const MAX: $name = $name(i64::MAX);

            /// From ns on this timescale.
            #[must_use]
            pub const fn from_ns(ns: i64) -> Self {
                $name(ns)
            }

            /// In ns on this timescale.
            #[must_use]
            pub const fn as_ns(self) -> i64 {
                self.0
            }

            /// `self − earlier`, ns; saturates.
            #[must_use]
            pub const fn ns_since(self, earlier: Self) -> i64 {
                self.0.saturating_sub(earlier.0)
            }

            /// This instant moved by `ns`; saturates.
            #[must_use]
            pub const fn plus_ns(self, ns: i64) -> Self {
                $name(self.0.saturating_add(ns))
            }
        }
    };
}

timescale! {
    /// This host's CLOCK_MONOTONIC_RAW (or the virtual clock in its place). All estimation happens here.
    RawTime
}
timescale! {
    /// International Atomic Time, ns since 1970-01-01T00:00:00 TAI. What θ refers to.
    TaiTime
}
timescale! {
    /// A reading of this host's CLOCK_REALTIME, ns since 1970-01-01T00:00:00Z. Anybody may have stepped or slewed it.
    RealTime
}
timescale! {
    /// A reading of a PTP hardware clock, ns since whatever epoch its owner gave it (1970 TAI by custom).
    PhcTime
}
timescale! {
    /// Unix time as a source tells it, ns since 1970-01-01T00:00:00Z.
    UtcTime
}

/// A clock that stamps packets and is read against raw time: CLOCK_REALTIME, or a PHC.
pub trait StampTime: Copy {
    /// `self − earlier`, ns; saturates.
    fn ns_since(self, earlier: Self) -> i64;
}

impl StampTime for RealTime {
    fn ns_since(self, earlier: Self) -> i64 {
        RealTime::ns_since(self, earlier)
    }
}

impl StampTime for PhcTime {
    fn ns_since(self, earlier: Self) -> i64 {
        PhcTime::ns_since(self, earlier)
    }
}

/// Nanoseconds in a second.
pub const NS_PER_S: i64 = 1_000_000_000;

/// A span that is known only to lie between two ends: `early <= instant <= late`, raw time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSpan {
    /// Not before this.
    pub early: RawTime,
    /// Not after this.
    pub late: RawTime,
}

impl RawSpan {
    /// Wider by `e` ns on both sides, but not beyond `limits`, which hold whatever e is.
    #[must_use]
    pub fn widened(self, e: i64, limits: RawSpan) -> RawSpan {
        let (early, late) = (self.early.plus_ns(e.saturating_neg()), self.late.plus_ns(e));
        RawSpan { early: early.max(limits.early), late: late.min(limits.late) }
    }

    /// Halfway between the ends.
    #[must_use]
    pub fn middle(self) -> RawTime {
        self.early.plus_ns(self.late.ns_since(self.early) / 2)
    }

    /// What both spans allow; `None` if they contradict each other.
    #[must_use]
    pub fn intersect(self, other: RawSpan) -> Option<RawSpan> {
        let both = RawSpan { early: self.early.max(other.early), late: self.late.min(other.late) };
        (both.early <= both.late).then_some(both)
    }
}
