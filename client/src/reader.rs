//! The reader: opens a page once, then reads it without system call, allocation, lock or panic.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::bound::Edges;
use crate::clock::{ClockKind, MonotonicRaw, RawClock, VirtualClock};
use crate::interval::{Interval, Unavailable};
use crate::page::{self, Hot, LAYOUT_VERSION, MAGIC, MAX_TRIES, PAGE_BYTES, Page, Publication, UtcOffset, header};
use crate::status::{Reason, Status};
use crate::sys::Mapping;

/// Why a page cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be opened or mapped.
    Io(PathBuf, io::Error),
    /// Not a regular file, or shorter than a page.
    Truncated(PathBuf, u64),
    /// Group or others may write to it (its mode): anybody could forge the bound.
    WritableByOthers(PathBuf, u32),
    /// Owned by neither root nor the reading user (the owner's uid).
    ForeignOwner(PathBuf, u32),
    /// Does not begin with the page's magic bytes.
    NotAPage(PathBuf),
    /// Another version of the layout.
    LayoutVersion(PathBuf, u64),
    /// Written during another boot: its raw clock is gone.
    OtherBoot(PathBuf),
    /// The page ages by another clock than this reader's.
    OtherClock(PathBuf),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(path, error) => {
                write!(f, "{}: {error}; is the agent running?", path.display())
            }
            OpenError::Truncated(path, length) => {
                write!(f, "{}: {length} bytes, a page has {PAGE_BYTES}", path.display())
            }
            OpenError::WritableByOthers(path, mode) => {
                write!(f, "{}: mode {:o} lets others write to it; expected 0644", path.display(), mode & 0o7777)
            }
            OpenError::ForeignOwner(path, uid) => {
                write!(f, "{}: owned by uid {uid}, neither root nor this user", path.display())
            }
            OpenError::NotAPage(path) => write!(f, "{}: not a truebound page", path.display()),
            OpenError::LayoutVersion(path, version) => {
                write!(f, "{}: layout {version}, this client reads layout {LAYOUT_VERSION}", path.display())
            }
            OpenError::OtherBoot(path) => {
                write!(f, "{}: written before this host was booted; start the agent", path.display())
            }
            OpenError::OtherClock(path) => {
                write!(f, "{}: ages by another clock (virtual or raw) than this reader", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// An open page. `Send + Sync`; one serves all threads of a process.
pub struct Reader<C: RawClock = MonotonicRaw> {
    mapping: Mapping,
    clock: C,
}

impl Reader<MonotonicRaw> {
    /// Opens the page at `path`, which ages by CLOCK_MONOTONIC_RAW.
    ///
    /// # Errors
    /// [`OpenError`] names what is wrong with the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let mapping = map(path)?;
        expect_clock(path, &mapping, ClockKind::MonotonicRaw)?;
        Ok(Reader { mapping, clock: MonotonicRaw })
    }
}

impl Reader<VirtualClock> {
    /// Opens the page of an agent that runs on a virtual clock; the clock's parameters are on the page.
    ///
    /// # Errors
    /// [`OpenError`] names what is wrong with the file.
    pub fn open_virtual(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let mapping = map(path)?;
        expect_clock(path, &mapping, ClockKind::Virtual)?;
        let page = page_of(path, &mapping)?;
        let parameters = std::array::from_fn(|i| page.header(header::VIRTUAL_CLOCK + i).cast_signed());
        Ok(Reader { mapping, clock: VirtualClock::from_words(parameters) })
    }
}

impl<C: RawClock> Reader<C> {
    /// The interval that contains true time at some instant during this call.
    ///
    /// # Errors
    /// [`Unavailable`] says why there is none.
    #[inline]
    pub fn now(&self) -> Result<Interval, Unavailable> {
        let (hot, raw_ns) = self.snapshot()?;
        interval_from(&hot, raw_ns)
    }

    /// The clock by which this page ages.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// All that the agent published last, for tools; `None` before the first publication.
    #[must_use]
    pub fn publication(&self) -> Option<Publication> {
        Page::new(self.mapping.words())?.publication()
    }

    /// Copy, read the clock, check that the copy is still the newest.
    #[inline]
    fn snapshot(&self) -> Result<(Hot, i64), Unavailable> {
        let page = Page::new(self.mapping.words()).ok_or(Unavailable::Malformed)?;
        for _ in 0..MAX_TRIES {
            let generation = page.generation();
            if generation == 0 {
                return Err(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet));
            }
            let hot = page.copy_hot(generation);
            let raw_ns = self.clock.now_ns();
            if page.is_still(generation) {
                return Ok((hot, raw_ns));
            }
            std::hint::spin_loop();
        }
        Err(Unavailable::Contended)
    }
}

/// TAI edges aged to `raw_ns`, then UTC by the offsets of the page; everything outward.
#[inline]
fn interval_from(hot: &Hot, raw_ns: i64) -> Result<Interval, Unavailable> {
    let status = hot.status().ok_or(Unavailable::Malformed)?;
    if !status.has_bound() {
        return Err(Unavailable::NoBound(status, hot.reason()));
    }
    let edges = hot.bound().edges_at(raw_ns)?;
    let (earliest_ns, latest_ns, tai_offset_s) = unix_edges(edges, hot.utc(), raw_ns);
    Ok(Interval { earliest_ns, latest_ns, epoch: hot.epoch(), status, tai_offset_s })
}

/// Earliest and latest Unix time at raw time `raw_ns`, and the offset to show.
#[inline]
fn unix_edges(edges: Edges, utc: UtcOffset, raw_ns: i64) -> (i64, i64, i32) {
    let earliest_tai = raw_ns.saturating_add(edges.lo_ns);
    // The reading was truncated: the instant may be up to a nanosecond later.
    let latest_tai = raw_ns.saturating_add(1).saturating_add(edges.hi_ns);
    let (least_s, most_s, offset_s) = utc_offsets(utc, earliest_tai, latest_tai);
    (earliest_tai.saturating_sub(seconds(most_s)), latest_tai.saturating_sub(seconds(least_s)), offset_s)
}

impl Publication {
    /// Earliest and latest Unix time, ns, at raw time `raw_ns`, if the operator's word holds too. No guarantee;
    /// `None` where nothing is asserted, or it is void by now.
    #[must_use]
    pub fn asserted_at(&self, raw_ns: i64) -> Option<(i64, i64)> {
        let edges = self.asserted_bound()?.edges_at(raw_ns).ok()?;
        let (earliest_ns, latest_ns, _) = unix_edges(edges, self.utc, raw_ns);
        Some((earliest_ns, latest_ns))
    }
}

/// Least and greatest TAI − UTC that may hold in [earliest, latest], and the one to show.
#[inline]
fn utc_offsets(utc: UtcOffset, earliest_tai: i64, latest_tai: i64) -> (i32, i32, i32) {
    if latest_tai < utc.change_at_ns {
        return (utc.offset_s, utc.offset_s, utc.offset_s);
    }
    if utc.after_s == UtcOffset::UNKNOWN {
        return (utc.offset_s.saturating_sub(1), utc.offset_s.saturating_add(1), utc.offset_s);
    }
    if earliest_tai >= utc.change_at_ns {
        return (utc.after_s, utc.after_s, utc.after_s);
    }
    (utc.offset_s.min(utc.after_s), utc.offset_s.max(utc.after_s), utc.offset_s)
}

#[inline]
fn seconds(s: i32) -> i64 {
    i64::from(s) * 1_000_000_000
}

fn map(path: &Path) -> Result<Mapping, OpenError> {
    let io_error = |error| OpenError::Io(path.to_owned(), error);
    let file = open_at_once(path).map_err(io_error)?;
    let facts = file.metadata().map_err(io_error)?;
    if !facts.is_file() || facts.len() < PAGE_BYTES as u64 {
        return Err(OpenError::Truncated(path.to_owned(), facts.len()));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(OpenError::WritableByOthers(path.to_owned(), facts.mode()));
    }
    // The process's own directory in /proc belongs to its effective user.
    let me = std::fs::metadata("/proc/self").map_or(0, |facts| facts.uid());
    if facts.uid() != 0 && facts.uid() != me {
        return Err(OpenError::ForeignOwner(path.to_owned(), facts.uid()));
    }
    let mapping = Mapping::new(&file, false).map_err(io_error)?;
    expect_page_of_this_boot(path, &mapping)?;
    Ok(mapping)
}

/// Opens for reading; a FIFO without a writer is not waited for.
pub(crate) fn open_at_once(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn page_of<'a>(path: &Path, mapping: &'a Mapping) -> Result<Page<'a>, OpenError> {
    Page::new(mapping.words()).ok_or_else(|| OpenError::NotAPage(path.to_owned()))
}

fn expect_page_of_this_boot(path: &Path, mapping: &Mapping) -> Result<(), OpenError> {
    let page = page_of(path, mapping)?;
    if page.header(header::MAGIC) != MAGIC {
        return Err(OpenError::NotAPage(path.to_owned()));
    }
    let version = page.header(header::VERSION);
    if version != LAYOUT_VERSION {
        return Err(OpenError::LayoutVersion(path.to_owned(), version));
    }
    let written = [page.header(header::BOOT_ID), page.header(header::BOOT_ID + 1)];
    let here = boot_id().map_err(|error| OpenError::Io("/proc/sys/kernel/random/boot_id".into(), error))?;
    if written == here { Ok(()) } else { Err(OpenError::OtherBoot(path.to_owned())) }
}

fn expect_clock(path: &Path, mapping: &Mapping, kind: ClockKind) -> Result<(), OpenError> {
    let page = page_of(path, mapping)?;
    match page::clock_kind(page.header(header::CLOCK)) {
        Some(found) if found == kind => Ok(()),
        _ => Err(OpenError::OtherClock(path.to_owned())),
    }
}

/// The kernel's boot id as two words, its 16 bytes in order.
pub(crate) fn boot_id() -> io::Result<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: Vec<u8> =
        text.bytes().filter_map(|c| char::from(c).to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    Ok([u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)])
}
