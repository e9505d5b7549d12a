//! The page in which a hypervisor tells a guest the time (/dev/vmclockN, linux/vmclock-abi.h): what it states of its own
//! error, and whether the guest was moved.
//!
//! The kernel's read(2) of the device copies the page between two equal values of its sequence count. It is done again
//! here, because other devices may bear the name: what is read twice the same, with an even count, was read whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use truebound_core::time::{NS_PER_S, PhcTime};

const MAGIC: &[u8; 4] = b"VCLK";
const VERSION: u16 = 1;
/// struct vmclock_abi, without what later versions appended.
const PAGE_BYTES: usize = 104;
/// The page says that it is being changed; a hypervisor that never ends is given up.
const MAX_TRIES: usize = 100;

/// An open page.
#[derive(Debug)]
pub struct VmClock {
    file: File,
}

/// What a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmClockPage {
    /// Changes whenever the counter was disrupted, as by live migration.
    pub disruption_marker: u64,
    /// VMCLOCK_FLAG_*.
    pub flags: u64,
    /// How the hypervisor's clock is.
    pub status: VmClockStatus,
    /// What its time counts.
    pub time_type: TimeType,
    /// TAI − UTC, s, if it tells.
    pub tai_offset_s: Option<i16>,
    /// The time at which the page was written, ns since the epoch of its type.
    pub time_ns: i64,
    /// How wrong that time was at the most, ns, if it tells.
    pub max_error_ns: Option<u64>,
    /// How much that grows at the most, ns per s, rounded up, if it tells.
    pub max_error_growth: Option<u64>,
}

/// VMCLOCK_STATUS_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmClockStatus {
    /// It does not say.
    Unknown,
    /// Not yet.
    Initializing,
    /// Good.
    Synchronized,
    /// Was good; its error grows.
    FreeRunning,
    /// Not to be used.
    Unreliable,
}

/// VMCLOCK_TIME_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeType {
    /// UTC, never smeared.
    Utc,
    /// TAI.
    Tai,
    /// Since whenever, or smeared.
    Other,
}

impl VmClock {
    /// Opens /dev/`name`.
    pub fn open(name: &str) -> io::Result<VmClock> {
        Ok(VmClock { file: File::open(Path::new("/dev").join(name))? })
    }

    /// What the page says now.
    pub fn read(&self) -> io::Result<VmClockPage> {
        let mut last = [0; PAGE_BYTES];
        for _ in 0..MAX_TRIES {
            let mut bytes = [0; PAGE_BYTES];
            self.file.read_exact_at(&mut bytes, 0)?;
            if bytes == last && is_settled(&bytes) {
                return VmClockPage::parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            last = bytes;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// The sequence count is even: nobody is writing.
fn is_settled(bytes: &[u8; PAGE_BYTES]) -> bool {
    bytes[12] & 1 == 0
}

/// Flags that say which fields hold.
const TAI_OFFSET_VALID: u64 = 1;
const PERIOD_MAXERROR_VALID: u64 = 1 << 4;
const TIME_MAXERROR_VALID: u64 = 1 << 6;

impl VmClockPage {
    /// The page in `bytes`; `None` if they are no page of version 1 with all its fields.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<VmClockPage> {
        let page: &[u8; PAGE_BYTES] = bytes.first_chunk()?;
        let size = usize::try_from(word32(page, 4)).ok()?;
        if !page.starts_with(MAGIC) || size < PAGE_BYTES || word16(page, 8) != VERSION {
            return None;
        }
        let flags = word64(page, 24);
        let has = |flag: u64| flags & flag != 0;
        let sec = i64::try_from(word64(page, 72)).ok()?;
        let frac_ns = (u128::from(word64(page, 80)) * u128::from(NS_PER_S.cast_unsigned())) >> 64;
        let growth = growth(word64(page, 64), word64(page, 48));
        Some(VmClockPage {
            disruption_marker: word64(page, 16),
            flags,
            status: VmClockStatus::of(page[34]),
            time_type: TimeType::of(page[11]),
            tai_offset_s: has(TAI_OFFSET_VALID).then(|| word16(page, 36).cast_signed()),
            time_ns: sec.checked_mul(NS_PER_S)?.checked_add(i64::try_from(frac_ns).ok()?)?,
            max_error_ns: has(TIME_MAXERROR_VALID).then(|| word64(page, 96)),
            max_error_growth: growth.filter(|_| has(PERIOD_MAXERROR_VALID)),
        })
    }

    /// How wrong the clock is at the most when it shows `shown`, ns; `None` if the hypervisor does not say, or says that
    /// it should not be used.
    ///
    /// The kernel's PHC shows this page's time as it is or moved by TAI − UTC, depending on the kernel. The error grows
    /// with the age of the page, so that the age is never taken for less than it is, TAI − UTC is added to it.
    #[must_use]
    pub fn error_ns(&self, shown: PhcTime) -> Option<i64> {
        let is_good = matches!(self.status, VmClockStatus::Synchronized | VmClockStatus::FreeRunning);
        let is_time = matches!(self.time_type, TimeType::Utc | TimeType::Tai);
        if !is_good || !is_time {
            return None;
        }
        let offset_ns = i64::from(self.tai_offset_s.unwrap_or(0)).saturating_mul(NS_PER_S).saturating_abs();
        let age_ns = shown.as_ns().saturating_sub(self.time_ns).max(0).saturating_add(offset_ns);
        let age_s = u64::try_from(age_ns.div_euclid(NS_PER_S) + 1).ok()?;
        let grown = self.max_error_growth?.saturating_mul(age_s);
        i64::try_from(self.max_error_ns?.saturating_add(grown)).ok()
    }
}

/// The growth of the error, ns/s, rounded up: how wrong the counter's period may be over the period itself. `None` if
/// there is no period.
fn growth(period_error: u64, period: u64) -> Option<u64> {
    let scaled = u128::from(period_error) * u128::from(NS_PER_S.cast_unsigned());
    (period != 0).then(|| u64::try_from(scaled.div_ceil(u128::from(period))).ok()).flatten()
}

impl VmClockStatus {
    fn of(byte: u8) -> Self {
        match byte {
            1 => VmClockStatus::Initializing,
            2 => VmClockStatus::Synchronized,
            3 => VmClockStatus::FreeRunning,
            4 => VmClockStatus::Unreliable,
            _ => VmClockStatus::Unknown,
        }
    }
}

impl TimeType {
    fn of(byte: u8) -> Self {
        match byte {
            0 => TimeType::Utc,
            1 => TimeType::Tai,
            _ => TimeType::Other,
        }
    }
}

fn word16(page: &[u8; PAGE_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn word32(page: &[u8; PAGE_BYTES], at: usize) -> u32 {
    u32::from(word16(page, at)) | u32::from(word16(page, at + 2)) << 16
}

fn word64(page: &[u8; PAGE_BYTES], at: usize) -> u64 {
    u64::from(word32(page, at)) | u64::from(word32(page, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TAI_S: i64 = 1_795_000_037;

    /// A page of a synchronised hypervisor: a counter of 1 GHz that is wrong by at most 2 ppm, 5 µs when written.
    fn page() -> [u8; PAGE_BYTES] {
        const PERIOD: u64 = 1 << 60; // with shift 26 or so; only the ratio matters here
        let mut page = [0; PAGE_BYTES];
        page[..4].copy_from_slice(MAGIC);
        page[4..8].copy_from_slice(&4096_u32.to_le_bytes());
        page[8] = 1; // version
        page[10] = 1; // TSC
        page[11] = 1; // TAI
        page[12..16].copy_from_slice(&6_u32.to_le_bytes());
        page[16..24].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
        page[24..32].copy_from_slice(&(TAI_OFFSET_VALID | PERIOD_MAXERROR_VALID | TIME_MAXERROR_VALID).to_le_bytes());
        page[34] = 2; // synchronised
        page[36..38].copy_from_slice(&37_i16.to_le_bytes());
        page[48..56].copy_from_slice(&PERIOD.to_le_bytes());
        page[64..72].copy_from_slice(&(PERIOD / 500_000).to_le_bytes());
        page[72..80].copy_from_slice(&TAI_S.to_le_bytes());
        page[80..88].copy_from_slice(&(1_u64 << 63).to_le_bytes()); // half a second
        page[96..104].copy_from_slice(&5_000_u64.to_le_bytes());
        page
    }

    fn parsed(change: impl Fn(&mut [u8; PAGE_BYTES])) -> Option<VmClockPage> {
        let mut page = page();
        change(&mut page);
        VmClockPage::parse(&page)
    }

    fn good() -> VmClockPage {
        parsed(|_| {}).expect("a page")
    }

    #[test]
    fn a_page_is_read_field_by_field() {
        let page = good();
        assert_eq!(page.disruption_marker, 0x1122_3344_5566_7788);
        assert_eq!((page.status, page.time_type), (VmClockStatus::Synchronized, TimeType::Tai));
        assert_eq!((page.tai_offset_s, page.max_error_ns), (Some(37), Some(5_000)));
        assert_eq!(page.time_ns, TAI_S * NS_PER_S + NS_PER_S / 2);
        assert_eq!(page.max_error_growth, Some(2_000), "2 ppm");
    }

    #[test]
    fn what_is_no_page_of_this_version_is_none() {
        assert!(parsed(|page| page[0] = b'v').is_none());
        assert!(parsed(|page| page[8] = 2).is_none());
        assert!(parsed(|page| page[4..8].copy_from_slice(&103_u32.to_le_bytes())).is_none(), "too short a structure");
        assert!(parsed(|page| page[79] = 0xff).is_none(), "no time that can be");
        assert_eq!(VmClockPage::parse(&page()[..PAGE_BYTES - 1]), None);
    }

    #[test]
    fn what_no_flag_confirms_is_absent() {
        let page = parsed(|page| page[24] = 0).expect("a page");
        assert_eq!((page.tai_offset_s, page.max_error_ns, page.max_error_growth), (None, None, None));
        assert_eq!(page.error_ns(PhcTime::from_ns(page.time_ns)), None);
    }

    #[test]
    fn the_error_grows_with_age_and_never_shrinks() {
        let page = good();
        let at = |age_s: i64| page.error_ns(PhcTime::from_ns(page.time_ns + age_s * NS_PER_S));
        assert_eq!(at(0), Some(5_000 + 2_000 * 38));
        assert_eq!(at(10), Some(5_000 + 2_000 * 48));
        assert_eq!(at(-37), at(0), "a kernel that shows UTC");
        let true_error_ns = |age_s: i64| 5_000 + 2_000 * age_s;
        for shown_off_s in [-37, 0, 37] {
            for age_s in [0, 1, 36, 37, 38, 1_000] {
                assert!(at(age_s + shown_off_s) >= Some(true_error_ns(age_s)), "{shown_off_s} {age_s}");
            }
        }
        assert_eq!(page.error_ns(PhcTime::MAX).map(|ns| ns > 0), Some(true));
    }

    #[test]
    fn only_a_clock_that_says_it_is_good_states_an_error() {
        for (status, states) in [(0, false), (1, false), (2, true), (3, true), (4, false), (9, false)] {
            let page = parsed(|page| page[34] = status).expect("a page");
            assert_eq!(page.error_ns(PhcTime::from_ns(page.time_ns)).is_some(), states, "{status}");
        }
        let smeared = parsed(|page| page[11] = 3).expect("a page");
        assert_eq!(smeared.error_ns(PhcTime::from_ns(smeared.time_ns)), None);
        let no_period = parsed(|page| page[48..56].fill(0)).expect("a page");
        assert_eq!(no_period.error_ns(PhcTime::from_ns(no_period.time_ns)), None);
    }

    #[test]
    fn a_page_that_is_being_written_is_not_read() {
        let dir = std::env::temp_dir().join(format!("truebound-vmclock-{}", std::process::id()));
        let read = |bytes: &[u8]| {
            fs::write(&dir, bytes).expect("a file");
            VmClock { file: File::open(&dir).expect("a file") }.read().map_err(|error| error.kind())
        };
        assert_eq!(read(&page()), Ok(good()));
        let mut writing = page();
        writing[12] = 7;
        assert_eq!(read(&writing), Err(io::ErrorKind::TimedOut));
        assert_eq!(read(&page()[..50]), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(read(&[0; PAGE_BYTES]), Err(io::ErrorKind::InvalidData));
        fs::remove_file(&dir).expect("it was there");
        assert!(VmClock::open("vmclock-absent").is_err());
    }
}
