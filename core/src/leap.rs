//! TAI − UTC: the table of leap seconds, and how far it can be trusted.
//!
//! A table has an expiry: beyond it, the next *possible* leap is the end of the next June or December (UTC). From that
//! instant on the offset is in doubt by one second, from the next but one on by two, and so on, which a reader of the page
//! sees as [`UtcOffset::unknown`].

use truebound_client::page::UtcOffset;

use crate::smear::Smear;
use crate::time::{NS_PER_S, TaiTime, UtcTime};

/// One line of the table: from this instant on, TAI − UTC is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeapEntry {
    /// Unix time at which the offset begins to hold, s.
    pub from_unix_s: i64,
    /// TAI − UTC, s.
    pub offset_s: i32,
}

/// TAI − UTC over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeapTable {
    entries: Vec<LeapEntry>,
    expires_unix_s: i64,
    /// [`next_possible_leap`] after the expiry, which every timestamp is compared with.
    next_possible_unix_s: i64,
}

/// From the NTP epoch of 1900 to the Unix epoch, s.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// 2017-01-01T00:00:00Z, the last leap second before this was written.
const LAST_LEAP: LeapEntry = LeapEntry { from_unix_s: 1_483_228_800, offset_s: 37 };
/// 2027-06-28T00:00:00Z: the expiry of the leap-seconds.list in tzdata 2026f, which announces none until then.
const BUILT_IN_EXPIRY_UNIX_S: i64 = 1_814_140_800;

impl Default for LeapTable {
    fn default() -> Self {
        LeapTable::new(vec![LAST_LEAP], BUILT_IN_EXPIRY_UNIX_S)
    }
}

impl LeapTable {
    fn new(entries: Vec<LeapEntry>, expires_unix_s: i64) -> Self {
        LeapTable { entries, expires_unix_s, next_possible_unix_s: next_possible_leap(expires_unix_s) }
    }

    /// Reads the text of a `leap-seconds.list` (NTP seconds and offsets, `#@` is the expiry). `None` if it has no
    /// entry, no expiry, or a line that is not of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<LeapTable> {
        let mut entries: Vec<LeapEntry> = Vec::new();
        let mut expires_unix_s = None;
        for line in text.lines() {
            if let Some(expiry) = line.strip_prefix("#@") {
                expires_unix_s = Some(expiry.trim().parse::<i64>().ok()?.checked_sub(NTP_TO_UNIX_S)?);
                continue;
            }
            let mut fields = line.split('#').next()?.split_whitespace();
            let Some(from) = fields.next() else { continue };
            let from_unix_s = from.parse::<i64>().ok()?.checked_sub(NTP_TO_UNIX_S)?;
            let offset_s = fields.next()?.parse().ok().filter(|offset| (0..1000).contains(offset))?;
            if entries.last().is_some_and(|last| last.from_unix_s >= from_unix_s) {
                return None;
            }
            entries.push(LeapEntry { from_unix_s, offset_s });
        }
        if entries.is_empty() {
            return None;
        }
        Some(LeapTable::new(entries, expires_unix_s?))
    }

    /// As the text of a `leap-seconds.list` that [`LeapTable::parse`] reads back.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("#@ {}\n", self.expires_unix_s.saturating_add(NTP_TO_UNIX_S));
        for entry in &self.entries {
            text += &format!("{} {}\n", entry.from_unix_s.saturating_add(NTP_TO_UNIX_S), entry.offset_s);
        }
        text
    }

    /// Is a Unix timestamp near `utc` ambiguous, because a leap second is or may be there? Servers repeat, smear or
    /// freeze that second; two seconds on either side cover their claims.
    #[must_use]
    pub fn is_ambiguous(&self, utc: UtcTime) -> bool {
        const NEAR_NS: i64 = 2 * NS_PER_S;
        let known = self.entries.iter().map(|entry| entry.from_unix_s);
        // Far from the present any difference saturates: that is not near either.
        let is_near = |unix_s: i64| utc.ns_since(UtcTime::from_ns(unix_s.saturating_mul(NS_PER_S))).abs() <= NEAR_NS;
        known.chain([self.next_possible_unix_s]).any(is_near)
    }

    /// The leap seconds of the table: Unix time from which on the new offset holds, s, TAI − UTC before and after, s.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (i64, i32, i32)> {
        self.entries.windows(2).map(|pair| (pair[1].from_unix_s, pair[0].offset_s, pair[1].offset_s))
    }

    /// How many leap seconds there may have been at the most, without standing in the table, until `early_ns` after `utc`:
    /// by so many seconds an offset is in doubt then.
    pub(crate) fn doubt_s(&self, utc: UtcTime, early_ns: i64) -> i32 {
        let first = UtcTime::from_ns(self.next_possible_unix_s.saturating_mul(NS_PER_S));
        let since_ns = utc.ns_since(first).saturating_add(early_ns);
        if since_ns < 0 {
            return 0;
        }
        i32::try_from(since_ns / SHORTEST_HALF_YEAR_NS).unwrap_or(i32::MAX).saturating_add(1)
    }

    /// The least and the greatest TAI that may be meant by a source's Unix time: by this table, and in doubt by a second
    /// for each leap that was possible since.
    #[must_use]
    pub fn tai_span(&self, utc: UtcTime) -> (TaiTime, TaiTime) {
        Smear::None.to_tai(utc, self)
    }

    /// The TAI instant of the table's expiry.
    #[must_use]
    pub fn expiry(&self) -> TaiTime {
        self.to_tai(UtcTime::from_ns(self.expires_unix_s.saturating_mul(NS_PER_S)))
    }

    /// TAI − UTC in force at `utc`, s. Before the first entry, the first entry's.
    #[must_use]
    pub fn offset_s(&self, utc: UtcTime) -> i32 {
        let unix_s = utc.as_ns().div_euclid(NS_PER_S);
        let after = self.entries.partition_point(|entry| entry.from_unix_s <= unix_s);
        self.entries[after.saturating_sub(1)].offset_s
    }

    /// A source's Unix time on TAI, by this table.
    #[must_use]
    pub fn to_tai(&self, utc: UtcTime) -> TaiTime {
        TaiTime::from_ns(utc.as_ns().saturating_add(i64::from(self.offset_s(utc)) * NS_PER_S))
    }

    /// A TAI instant as Unix time, by this table.
    #[must_use]
    pub fn to_utc(&self, tai: TaiTime) -> UtcTime {
        let by = |offset_s: i32| UtcTime::from_ns(tai.as_ns().saturating_sub(i64::from(offset_s) * NS_PER_S));
        let last = self
            .entries
            .iter()
            .rev()
            .find(|entry| by(entry.offset_s).as_ns() >= entry.from_unix_s.saturating_mul(NS_PER_S));
        by(last.unwrap_or(&self.entries[0]).offset_s)
    }

    /// The offset now, and the next known or possible change, for the page.
    #[must_use]
    pub fn around(&self, tai: TaiTime) -> UtcOffset {
        let utc = self.to_utc(tai);
        let offset_s = self.offset_s(utc);
        let unix_s = utc.as_ns().div_euclid(NS_PER_S);
        // The second before `at_unix_s` is the one that is left out, if one is: the change comes at its begin. Nobody
        // knows that of a leap which is only possible.
        let change = |at_unix_s: i64, after_s: i32| {
            let is_known = UtcOffset { offset_s, after_s, change_at_ns: 0 }.doubt_s().is_none();
            let least_s = if is_known { after_s.min(offset_s) } else { offset_s.saturating_sub(1) };
            let change_at_ns = at_unix_s.saturating_add(i64::from(least_s)).saturating_mul(NS_PER_S);
            UtcOffset { offset_s, after_s, change_at_ns }
        };
        match self.entries.iter().find(|entry| entry.from_unix_s > unix_s) {
            Some(next) => change(next.from_unix_s, next.offset_s),
            // For as long as anybody may read it.
            None => change(self.next_possible_unix_s, UtcOffset::unknown(self.doubt_s(utc, LONGEST_READ_NS))),
        }
    }
}

/// From January to July of a common year, ns.
const SHORTEST_HALF_YEAR_NS: i64 = 181 * DAY_NS;
/// Longer than any `max-holdover`, ns: after it nobody reads a page any more.
const LONGEST_READ_NS: i64 = 8 * DAY_NS;
const DAY_NS: i64 = 86_400 * NS_PER_S;

/// The end of the June or December in or after which `unix_s` lies: the first instant of July or January.
fn next_possible_leap(unix_s: i64) -> i64 {
    let mut year = 1970;
    loop {
        for half_year in [days_before(year) + days_to_july(year), days_before(year + 1)] {
            if half_year * 86_400 >= unix_s {
                return half_year * 86_400;
            }
        }
        year += 1;
        if year > 9999 {
            return i64::MAX / NS_PER_S;
        }
    }
}

/// Days from 1970-01-01 to the first of January of `year` (Gregorian).
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    (year - 1970) * 365 + (y / 4 - 492) - (y / 100 - 19) + (y / 400 - 4)
}

fn days_to_july(year: i64) -> i64 {
    let is_leap_year = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    181 + i64::from(is_leap_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#\tcomment\n#@\t3991593600\n2272060800\t10\t# 1 Jan 1972\n2287785600\t11\t# 1 Jul 1972\n";

    #[test]
    fn a_list_is_read_with_its_expiry() {
        let table = LeapTable::parse(LIST).expect("well formed");
        assert_eq!(table.expires_unix_s, 3_991_593_600 - 2_208_988_800);
        let july_1972 = 2_287_785_600 - 2_208_988_800;
        assert_eq!(table.offset_s(UtcTime::from_ns((july_1972 - 1) * NS_PER_S)), 10);
        assert_eq!(table.offset_s(UtcTime::from_ns(july_1972 * NS_PER_S)), 11);
    }

    #[test]
    fn a_broken_list_is_refused() {
        for broken in [
            "",
            "#@ 3991593600\n",
            "2272060800 10\n",
            "#@ x\n2272060800 10\n",
            "#@ 1\n2272060800 ten\n",
            "#@ 1\n2287785600 11\n2272060800 10\n",
        ] {
            assert_eq!(LeapTable::parse(broken), None, "{broken:?}");
        }
    }

    /// Two leap seconds that nobody's table told: the doubt holds them, eight days before the second as well.
    #[test]
    fn each_possible_leap_beyond_the_table_is_a_second_of_doubt() {
        let table = LeapTable::default();
        let at = |unix_s: i64| UtcTime::from_ns(unix_s * NS_PER_S);
        let (july_2027, january_2028, january_2031) = (1_814_400_000, 1_830_297_600, 1_924_992_000);
        let page = |unix_s: i64| table.around(TaiTime::from_ns(at(unix_s + 37).as_ns())).doubt_s();
        for (unix_s, told, shown) in [
            (july_2027 - 9 * 86_400, 0, Some(1)),
            (july_2027 - 1, 0, Some(1)),
            (july_2027, 1, Some(1)),
            (january_2028 - 12 * 86_400, 1, Some(1)),
            (january_2028, 2, Some(2)),
            (january_2031, 8, Some(8)),
        ] {
            assert_eq!((table.doubt_s(at(unix_s), 0), page(unix_s)), (told, shown), "{unix_s}");
        }
        assert_eq!(page(january_2028 - 8 * 86_400), Some(2), "pages of today are read then");
        assert_eq!(UtcOffset::unknown(1), UtcOffset::UNKNOWN);
    }

    #[test]
    fn tai_and_utc_convert_back_and_forth_around_a_leap() {
        let table = LeapTable::parse(LIST).expect("well formed");
        let leap_s = 2_287_785_600 - 2_208_988_800;
        for unix_s in [leap_s - 2, leap_s, leap_s + 1] {
            let utc = UtcTime::from_ns(unix_s * NS_PER_S + 5);
            assert_eq!(table.to_utc(table.to_tai(utc)), utc);
        }
    }

    #[test]
    fn a_second_that_is_left_out_is_a_gap_of_utc_and_none_of_tai() {
        let leap_s = 2_287_785_600 - 2_208_988_800;
        let table = LeapTable::parse("#@ 3991593600\n2272060800 10\n2287785600 9\n").expect("well formed");
        let utc_ns = |tai_ns: i64| table.to_utc(TaiTime::from_ns(tai_ns)).as_ns();
        let change_ns = (leap_s + 9) * NS_PER_S;
        assert_eq!(utc_ns(change_ns), leap_s * NS_PER_S);
        assert_eq!(utc_ns(change_ns - 1), (leap_s - 1) * NS_PER_S - 1, "23:59:58 is the last second");
        for unix_s in [leap_s - 2, leap_s, leap_s + 1] {
            let utc = UtcTime::from_ns(unix_s * NS_PER_S);
            assert_eq!(table.to_utc(table.to_tai(utc)), utc);
        }
        let around = table.around(TaiTime::from_ns(change_ns - NS_PER_S));
        assert_eq!(around, UtcOffset { offset_s: 10, after_s: 9, change_at_ns: change_ns });
    }

    #[test]
    fn sources_of_utc_are_in_doubt_from_the_next_possible_leap_on() {
        let table = LeapTable::default();
        let possible_ns = 1_814_400_000 * NS_PER_S;
        let width_ns = |utc_ns: i64| {
            let (earliest, latest) = table.tai_span(UtcTime::from_ns(utc_ns));
            latest.ns_since(earliest)
        };
        assert_eq!((width_ns(possible_ns - 1), width_ns(possible_ns)), (0, 2 * NS_PER_S));
    }

    #[test]
    fn after_the_expiry_the_next_half_year_is_in_doubt() {
        // 2027-07-01T00:00:00Z is the first possible leap after the built-in expiry.
        let table = LeapTable::default();
        let now = table.to_tai(UtcTime::from_ns(1_790_000_000 * NS_PER_S));
        let around = table.around(now);
        assert_eq!((around.offset_s, around.after_s), (37, UtcOffset::UNKNOWN));
        assert_eq!(around.change_at_ns, (1_814_400_000 + 36) * NS_PER_S, "a second may be left out");
    }

    #[test]
    fn a_table_survives_its_own_text() {
        let table = LeapTable::parse(LIST).expect("well formed");
        assert_eq!(LeapTable::parse(&table.to_text()), Some(table));
    }

    #[test]
    fn timestamps_near_a_leap_are_ambiguous_and_others_are_not() {
        let table = LeapTable::parse(LIST).expect("well formed");
        let leap_s = 2_287_785_600 - 2_208_988_800;
        let at = |s: i64| table.is_ambiguous(UtcTime::from_ns(s * NS_PER_S));
        assert!(at(leap_s - 2) && at(leap_s) && at(leap_s + 2));
        assert!(!at(leap_s - 3) && !at(leap_s + 3));
    }

    #[test]
    fn a_known_leap_is_announced() {
        let table = LeapTable::parse(LIST).expect("well formed");
        let leap_s = 2_287_785_600 - 2_208_988_800;
        let around = table.around(table.to_tai(UtcTime::from_ns((leap_s - 100) * NS_PER_S)));
        assert_eq!(around, UtcOffset { offset_s: 10, after_s: 11, change_at_ns: (leap_s + 10) * NS_PER_S });
    }
}
