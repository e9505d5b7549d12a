//! Smears: servers that hide a leap second in a day of slightly long (or short) seconds.
//!
//! A smeared timescale is UTC outside its windows and nobody's inside: up to half a second off, or a whole one. It is
//! told by no packet, so it is the operator's word for a source. With that word a smeared timestamp is as good as any:
//! the smear is undone exactly, to TAI, where leap seconds do not exist and all sources meet.
//!
//! From noon to noon (UTC), as Google and AWS do it: with D = 86 400 s, a leap by k = ±1 s at Unix time L, and TAI − UTC
//! = a before it, the source shows s while
//!
//! ```text
//! TAI = s + a + (s − (L − D/2)) · k/D      for s in [L − D/2, L + D/2]
//! ```
//! which is s + a at the begin and s + a + k at the end. Rounded outward by a nanosecond at the most.
//!
//! Past what the table of leap seconds knows, a window may or may not be there. Then the timestamp is worth its second
//! less: TAI is within ±1 s of what the table says, from the begin of the possible window on (±2 s from the next one's
//! on). Such a source goes on
//! having a vote, and proves nothing finer; UTC itself is in the same doubt, and its bound wider by the second.

use crate::leap::LeapTable;
use crate::time::{NS_PER_S, TaiTime, UtcTime};

/// D: how long a smear lasts, s of the smeared timescale.
const LENGTH_S: i64 = 86_400;

/// What a source makes of a leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Smear {
    /// UTC as it is: the leap second is repeated, or frozen, or skipped.
    #[default]
    None,
    /// Linear over the day around it, from noon to noon.
    NoonToNoon,
}

impl Smear {
    /// The word used in the configuration and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Smear::None => "none",
            Smear::NoonToNoon => "noon-to-noon",
        }
    }

    /// The least and the greatest TAI that a source means which shows `unix`.
    #[must_use]
    pub fn to_tai(self, unix: UtcTime, leap: &LeapTable) -> (TaiTime, TaiTime) {
        let (earliest, latest) = match self {
            Smear::None => (leap.to_tai(unix), leap.to_tai(unix)),
            Smear::NoonToNoon => unsmeared(unix, leap).unwrap_or((leap.to_tai(unix), leap.to_tai(unix))),
        };
        let doubt_ns = i64::from(leap.doubt_s(unix, self.early_ns())).saturating_mul(NS_PER_S);
        (earliest.plus_ns(-doubt_ns), latest.plus_ns(doubt_ns))
    }

    /// A source's claim, ns, in TAI: within a window its seconds are longer or shorter than TAI's.
    #[must_use]
    pub fn claim_ns(self, claim_ns: i64) -> i64 {
        match self {
            Smear::None => claim_ns,
            Smear::NoonToNoon => claim_ns.saturating_add(claim_ns / LENGTH_S).saturating_add(1),
        }
    }

    /// Is a timestamp ambiguous, because a leap second is near that the source does not smear?
    #[must_use]
    pub fn is_ambiguous(self, unix: UtcTime, leap: &LeapTable) -> bool {
        self == Smear::None && leap.is_ambiguous(unix)
    }

    /// How long before a leap second the source leaves UTC, ns.
    fn early_ns(self) -> i64 {
        match self {
            Smear::None => 0,
            Smear::NoonToNoon => LENGTH_S / 2 * NS_PER_S,
        }
    }
}

/// Within a window of the table, the TAI of a smeared `unix`.
fn unsmeared(unix: UtcTime, leap: &LeapTable) -> Option<(TaiTime, TaiTime)> {
    const LENGTH_NS: i64 = LENGTH_S * NS_PER_S;
    leap.changes().find_map(|(from_unix_s, before_s, after_s)| {
        let begin = UtcTime::from_ns(from_unix_s.saturating_sub(LENGTH_S / 2).saturating_mul(NS_PER_S));
        let since_ns = unix.ns_since(begin);
        if !(0..LENGTH_NS).contains(&since_ns) {
            return None;
        }
        // At most a day times what a leap can be: far from overflow.
        let hidden = since_ns.saturating_mul(i64::from(after_s.saturating_sub(before_s)));
        let (floor_ns, is_exact) = (hidden.div_euclid(LENGTH_S), hidden.rem_euclid(LENGTH_S) == 0);
        let base = TaiTime::from_ns(unix.as_ns().saturating_add(i64::from(before_s).saturating_mul(NS_PER_S)));
        let earliest = base.plus_ns(floor_ns);
        Some((earliest, if is_exact { earliest } else { earliest.plus_ns(1) }))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2027-01-01T00:00:00Z, s.
    const LEAP_S: i64 = 1_798_761_600;
    const NTP_TO_UNIX_S: i64 = 2_208_988_800;

    /// 37 s until the leap, then `after_s`.
    fn table(after_s: i32) -> LeapTable {
        let at = LEAP_S + NTP_TO_UNIX_S;
        LeapTable::parse(&format!("#@ 6311433600\n3692217600 37\n{at} {after_s}\n")).expect("a list of leap seconds")
    }

    /// A smearing server's clock at a TAI instant, exactly, in units of 1/(86 400 + k) ns: the other direction, written
    /// down independently.
    fn smeared(tai_ns: i128, k: i128) -> (i128, i128) {
        let d = i128::from(LENGTH_S);
        let second = i128::from(NS_PER_S);
        let begin_tai = (i128::from(LEAP_S) - d / 2 + 37) * second;
        let since = tai_ns - begin_tai;
        let unit = d + k;
        let begin = (i128::from(LEAP_S) - d / 2) * second;
        let shown = if since < 0 {
            (tai_ns - 37 * second) * unit
        } else if since < unit * second {
            begin * unit + since * d
        } else {
            (tai_ns - (37 + k) * second) * unit
        };
        (shown.div_euclid(unit), shown.rem_euclid(unit))
    }

    proptest! {
        /// Over the whole window and beyond, for a leap second that is inserted and one that is left out: what the server
        /// meant lies in the answer, and the answer is as narrow as its nanosecond.
        #[test]
        fn a_smear_is_undone_to_the_nanosecond(
            since_ns in -60_000 * NS_PER_S..60_000 * NS_PER_S,
            k in prop_oneof![Just(1i32), Just(-1i32)],
        ) {
            let tai_ns = (LEAP_S + 37) * NS_PER_S + since_ns;
            let (floor, rest) = smeared(i128::from(tai_ns), i128::from(k));
            let floor = i64::try_from(floor).expect("an instant of this century");
            let ceil = if rest == 0 { floor } else { floor + 1 };
            let leap = table(37 + k);
            let (earliest, _) = Smear::NoonToNoon.to_tai(UtcTime::from_ns(floor), &leap);
            let (_, latest) = Smear::NoonToNoon.to_tai(UtcTime::from_ns(ceil), &leap);
            prop_assert!(earliest.as_ns() <= tai_ns && tai_ns <= latest.as_ns(), "{earliest:?} {tai_ns} {latest:?}");
            prop_assert!(latest.ns_since(earliest) <= 3, "{earliest:?} {latest:?}");
        }
    }

    #[test]
    fn noon_before_and_noon_after_are_utc() {
        for (after_s, k) in [(38, 1), (36, -1)] {
            let leap = table(after_s);
            let tai = |unix_s: i64| {
                let (earliest, latest) = Smear::NoonToNoon.to_tai(UtcTime::from_ns(unix_s * NS_PER_S), &leap);
                assert_eq!(earliest, latest);
                earliest.as_ns() - unix_s * NS_PER_S
            };
            assert_eq!(tai(LEAP_S - LENGTH_S / 2), 37 * NS_PER_S);
            assert_eq!(tai(LEAP_S), 37 * NS_PER_S + k * NS_PER_S / 2, "half of it is hidden");
            assert_eq!(tai(LEAP_S + LENGTH_S / 2), (37 + k) * NS_PER_S);
        }
    }

    #[test]
    fn without_a_smear_only_the_leap_itself_is_ambiguous() {
        let leap = table(38);
        let at = |s: i64| UtcTime::from_ns((LEAP_S + s) * NS_PER_S);
        assert!(Smear::None.is_ambiguous(at(2), &leap) && !Smear::None.is_ambiguous(at(3), &leap));
        assert!(!Smear::NoonToNoon.is_ambiguous(at(0), &leap));
    }

    #[test]
    fn past_the_expiry_a_possible_window_is_worth_a_second_less_from_its_begin_on() {
        // Expires on 2026-12-28: the next possible leap is that of the new year.
        let expiry = LEAP_S - 4 * 86_400 + NTP_TO_UNIX_S;
        let leap = LeapTable::parse(&format!("#@ {expiry}\n3692217600 37\n")).expect("a list of leap seconds");
        let width_s = |smear: Smear, s: i64| {
            let (earliest, latest) = smear.to_tai(UtcTime::from_ns((LEAP_S + s) * NS_PER_S), &leap);
            latest.ns_since(earliest) / NS_PER_S
        };
        assert_eq!((width_s(Smear::None, -1), width_s(Smear::None, 0)), (0, 2));
        let noon = -LENGTH_S / 2;
        assert_eq!((width_s(Smear::NoonToNoon, noon - 1), width_s(Smear::NoonToNoon, noon)), (0, 2));
        assert_eq!(width_s(Smear::NoonToNoon, 10 * LENGTH_S), 2, "until a newer list is read");
    }

    #[test]
    fn claims_grow_by_what_smeared_seconds_are_longer() {
        assert_eq!(Smear::None.claim_ns(1_000), 1_000);
        assert_eq!(Smear::NoonToNoon.claim_ns(864_000_000), 864_010_001);
        assert_eq!(Smear::NoonToNoon.claim_ns(i64::MAX), i64::MAX);
    }

    #[test]
    fn no_timestamp_is_too_far() {
        let leap = table(38);
        for ns in [i64::MIN, i64::MAX] {
            let (earliest, latest) = Smear::NoonToNoon.to_tai(UtcTime::from_ns(ns), &leap);
            assert!(earliest <= latest);
        }
    }
}
