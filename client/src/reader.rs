//! The reader: opens a page once, then reads it without system call, allocation, lock or panic.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::bound::{Bound, Edges, RATE_BITS, sum};
use crate::clock::{ClockKind, MonotonicRaw, RawClock, VirtualClock};
use crate::host::{self, ClocksourceFile, VmPage};
use crate::interval::{Interval, Span, Unavailable};
use crate::page::{
    self, Fields, LAYOUT_VERSION, LiveSlot, MAGIC, MAX_TRIES, PAGE_BYTES, Page, Publication, UtcOffset, header,
};
use crate::source::TimeSource;
use crate::status::{Reason, Status};
use crate::sys::{self, Mapping};
use crate::tick::{SUSPEND_RESOLUTION_NS, Tick};

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
    /// This process's raw clock is shifted against the agent's by a time namespace.
    OtherTimeNamespace(PathBuf),
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
            OpenError::OtherTimeNamespace(path) => write!(
                f,
                "{}: the agent runs in another time namespace, so this process's raw clock is shifted against its; run the reader in the agent's",
                path.display()
            ),
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
    /// The mapped file, to ask whether it still has a name.
    file: File,
    clock: C,
    /// The agent watches a hypervisor's page; `None` in it: this process cannot.
    vm: Option<Option<VmPage>>,
    /// Inode of the agent's time namespace; 0: the kernel has none.
    time_namespace: u64,
    clocksource: ClocksourceFile,
}

impl Reader<MonotonicRaw> {
    /// Opens the page at `path`, which ages by CLOCK_MONOTONIC_RAW.
    ///
    /// # Errors
    /// [`OpenError`] names what is wrong with the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let (file, mapping) = map(path)?;
        expect_clock(path, &mapping, ClockKind::MonotonicRaw)?;
        Reader::over(path, file, mapping, MonotonicRaw)
    }
}

impl Reader<VirtualClock> {
    /// Opens the page of an agent that runs on a virtual clock; the clock's parameters are on the page.
    ///
    /// # Errors
    /// [`OpenError`] names what is wrong with the file.
    pub fn open_virtual(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let (file, mapping) = map(path)?;
        expect_clock(path, &mapping, ClockKind::Virtual)?;
        let page = page_of(path, &mapping)?;
        let parameters = std::array::from_fn(|i| page.header(header::VIRTUAL_CLOCK + i).cast_signed());
        Reader::over(path, file, mapping, VirtualClock::from_words(parameters))
    }
}

impl<C: RawClock> Reader<C> {
    fn over(path: &Path, file: File, mapping: Mapping, clock: C) -> Result<Self, OpenError> {
        let page = page_of(path, &mapping)?;
        let time_namespace = page.header(header::TIME_NAMESPACE);
        if time_namespace != host::time_namespace() {
            return Err(OpenError::OtherTimeNamespace(path.to_owned()));
        }
        let vmclock = host::path_from(&std::array::from_fn(|i| page.header(header::VMCLOCK + i)));
        let vm = vmclock.map(|path| VmPage::open(&path).ok());
        Ok(Reader { mapping, file, clock, vm, time_namespace, clocksource: ClocksourceFile::open() })
    }

    /// The interval that contains true time at some instant during this call.
    ///
    /// A break that the agent has not noticed yet is not noticed here either, but for one that the hypervisor tells:
    /// `client/GUARANTEES.md` has the window of each. [`Reader::now_strict`] closes them.
    ///
    /// # Errors
    /// [`Unavailable`] says why there is none.
    #[inline]
    pub fn now(&self) -> Result<Interval, Unavailable> {
        self.read(interval_from)
    }

    /// As [`Reader::now`], and nothing that this process can see speaks against the page: the host did not sleep, nor
    /// change its clocksource, nor was the VM moved since it was published, the page is still the one that agents write,
    /// and this process is in the agent's time namespace. Three system calls and some reads of clocks: microseconds. What leases stand on.
    ///
    /// # Errors
    /// [`Unavailable`] says why there is none.
    pub fn now_strict(&self) -> Result<Interval, Unavailable> {
        let (interval, publication) = self.strict_snapshot()?;
        self.expect_same_host(&publication)?;
        Ok(interval)
    }

    /// Raw time, and what is proved of its rate: by the bound, or else by the oscillator's class.
    ///
    /// # Errors
    /// [`Unavailable`] if the class itself is in doubt, if this process's raw clock is not the agent's, or if anything
    /// that it can see speaks against the page: as strict as [`Reader::now_strict`].
    pub fn tick(&self) -> Result<Tick, Unavailable> {
        let (publication, raw_ns, suspended_ns) = self.tick_snapshot()?;
        self.expect_time_namespace()?;
        self.expect_to_see_vm()?;
        self.expect_in_place()?;
        if self.clocksource.name() != publication.clocksource {
            return Err(Unavailable::ClocksourceChanged);
        }
        publication.tick_at(raw_ns, suspended_ns)
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

    /// Reads the clock, looks at the hypervisor's page, lets `evaluate` make something of the newest publication, and
    /// gives it away if that publication was the newest all the while.
    ///
    /// Of a slot that is being overwritten `evaluate` makes nonsense, which nobody sees. Its words are not copied first:
    /// none has to outlive the call into the vDSO, and each is read where it is used.
    #[inline]
    fn read<T>(
        &self,
        evaluate: impl Fn(&Fields<LiveSlot<'_>>, i64) -> Result<T, Unavailable>,
    ) -> Result<T, Unavailable> {
        let page = Page::new(self.mapping.words()).ok_or(Unavailable::Malformed)?;
        for _ in 0..MAX_TRIES {
            let generation = page.generation();
            if generation == 0 {
                return Err(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet));
            }
            let raw_ns = self.clock.now_ns();
            let vm_mark = self.seen_vm().map(VmPage::mark);
            let fields = page.fields(generation);
            let has_moved = vm_mark.is_some_and(|mark| mark != fields.vm_mark());
            let result = if has_moved { Err(Unavailable::VmMoved) } else { evaluate(&fields, raw_ns) };
            if page.is_still(generation) {
                return result;
            }
            std::hint::spin_loop();
        }
        Err(Unavailable::Contended)
    }

    /// An interval, and the publication it came from.
    fn strict_snapshot(&self) -> Result<(Interval, Publication), Unavailable> {
        for _ in 0..MAX_TRIES {
            let (interval, bound) = self.read(|fields, raw_ns| Ok((interval_from(fields, raw_ns)?, fields.bound())))?;
            let Some(publication) = self.publication() else { continue };
            // Overtaken between the two: again.
            if publication.bound == bound && publication.epoch == interval.epoch {
                return Ok((interval, publication));
            }
        }
        Err(Unavailable::Contended)
    }

    /// A publication that was still the newest after raw time and the suspend counter were read.
    fn tick_snapshot(&self) -> Result<(Publication, i64, i64), Unavailable> {
        let page = Page::new(self.mapping.words()).ok_or(Unavailable::Malformed)?;
        for _ in 0..MAX_TRIES {
            let generation = page.generation();
            if generation == 0 {
                return Err(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet));
            }
            let publication = page.publication();
            let (raw_ns, suspended_ns) = self.raw_and_suspended()?;
            let vm_mark = self.seen_vm().map(VmPage::mark);
            if page.is_still(generation) {
                let publication = publication.ok_or(Unavailable::Malformed)?;
                let has_moved = vm_mark.is_some_and(|mark| mark != publication.vm_mark);
                return if has_moved { Err(Unavailable::VmMoved) } else { Ok((publication, raw_ns, suspended_ns)) };
            }
        }
        Err(Unavailable::Contended)
    }

    /// Both at one instant. A sleep between them would be missing from one end or the other of a span between ticks.
    fn raw_and_suspended(&self) -> Result<(i64, i64), Unavailable> {
        for _ in 0..MAX_TRIES {
            let before_ns = sys::suspended_ns();
            let raw_ns = self.clock.now_ns();
            if sys::suspended_ns().saturating_sub(before_ns).saturating_abs() < SUSPEND_RESOLUTION_NS {
                return Ok((raw_ns, before_ns));
            }
        }
        Err(Unavailable::Contended)
    }

    /// After the clock was read: what happened before that reading is seen here.
    fn expect_same_host(&self, publication: &Publication) -> Result<(), Unavailable> {
        // First: in another namespace the suspend counter may differ as well, and would be the wrong reason.
        self.expect_time_namespace()?;
        self.expect_to_see_vm()?;
        self.expect_in_place()?;
        publication.expect_awake(sys::suspended_ns())?;
        if self.clocksource.name() != publication.clocksource {
            return Err(Unavailable::ClocksourceChanged);
        }
        Ok(())
    }

    /// Not if the agent watches the hypervisor's page and this process could not open it.
    fn expect_to_see_vm(&self) -> Result<(), Unavailable> {
        if matches!(self.vm, Some(None)) { Err(Unavailable::VmClockHidden) } else { Ok(()) }
    }

    /// Whoever removed the file, or its directory, cut this reader off from the next agent's withdrawals.
    fn expect_in_place(&self) -> Result<(), Unavailable> {
        let has_name = self.file.metadata().is_ok_and(|facts| facts.nlink() > 0);
        if has_name { Ok(()) } else { Err(Unavailable::Replaced) }
    }

    fn expect_time_namespace(&self) -> Result<(), Unavailable> {
        let is_same = host::time_namespace() == self.time_namespace;
        if is_same { Ok(()) } else { Err(Unavailable::OtherTimeNamespace) }
    }

    #[inline]
    fn seen_vm(&self) -> Option<&VmPage> {
        self.vm.as_ref().and_then(Option::as_ref)
    }
}

impl<C: RawClock> TimeSource for Reader<C> {
    fn now(&self) -> Result<Interval, Unavailable> {
        Reader::now(self)
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        Reader::now_strict(self)
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        Reader::tick(self)
    }
}

/// The rates of the bound; without one ±Ω, unless the class itself is what broke or was never stated.
fn rates_of(publication: &Publication, raw_ns: i64) -> Result<Bound, Unavailable> {
    let bound = publication.bound;
    if publication.status.has_bound() && raw_ns < bound.void_after_ns {
        return Ok(bound);
    }
    let is_class_in_doubt = matches!(
        publication.reason,
        Reason::Unknown | Reason::OscillatorBroke | Reason::FrequencyAudit | Reason::UnknownClocksource
    );
    if is_class_in_doubt || publication.omega_limit <= 0 {
        return Err(Unavailable::NoBound(publication.status, publication.reason));
    }
    let omega = publication.omega_limit;
    // phase_rate is 0 where there is no bound: a hundred times that of the default class, and nothing beside Ω.
    let stated = (u128::from(publication.phase_noise_fs) << (RATE_BITS + 2)).div_ceil(1_000_000_000_000_000);
    let phase_rate = bound.phase_rate.max(LARGEST_PHASE_RATE).max(i64::try_from(stated).unwrap_or(i64::MAX));
    Ok(Bound {
        t_ref_ns: raw_ns,
        omega_lo: -omega,
        omega_hi: omega,
        cap_lo: -omega,
        cap_hi: omega,
        half_wander: 0,
        phase_rate,
        ..bound
    })
}

/// 12 ppm, 2⁻⁴⁰ s/s: J = 3e-6 s/√s under its tangent.
const LARGEST_PHASE_RATE: i64 = 12 * (1 << RATE_BITS) / 1_000_000;

/// TAI edges aged to `raw_ns`, then UTC by the offsets of the page; everything outward.
#[inline]
fn interval_from(fields: &Fields<LiveSlot<'_>>, raw_ns: i64) -> Result<Interval, Unavailable> {
    let status = fields.status().ok_or(Unavailable::Malformed)?;
    if !status.has_bound() {
        return Err(Unavailable::NoBound(status, fields.reason()));
    }
    let tai = tai_at(&fields.bound(), raw_ns)?;
    let (earliest_ns, latest_ns, tai_offset_s) = unix_edges(tai, fields.utc());
    Ok(Interval { earliest_ns, latest_ns, tai, epoch: fields.epoch(), status, tai_offset_s })
}

/// True time (TAI) at raw time `raw_ns`. No agent publishes edges in the wrong order: such a page says nothing.
#[inline]
fn tai_at(bound: &Bound, raw_ns: i64) -> Result<Span, Unavailable> {
    let tai = tai_edges(bound.edges_at(raw_ns)?, raw_ns);
    let is_in_order = bound.theta_lo_ns <= bound.theta_hi_ns && tai.is_valid();
    if is_in_order { Ok(tai) } else { Err(Unavailable::Malformed) }
}

/// True time (TAI) at raw time `raw_ns`.
#[inline]
fn tai_edges(edges: Edges, raw_ns: i64) -> Span {
    // The reading was truncated: the instant may be up to a nanosecond later.
    Span::new(sum(raw_ns, edges.lo_ns), sum(sum(raw_ns, 1), edges.hi_ns))
}

/// Earliest and latest Unix time, and the offset to show.
#[inline]
fn unix_edges(tai: Span, utc: UtcOffset) -> (i64, i64, i32) {
    let (least_s, most_s, offset_s) = utc_offsets(utc, tai.earliest_ns, tai.latest_ns);
    (sum(tai.earliest_ns, -seconds(most_s)), sum(tai.latest_ns, -seconds(least_s)), offset_s)
}

impl Publication {
    /// What a reader of this publication gets at raw time `raw_ns`: for worlds without a page.
    ///
    /// # Errors
    /// As [`Reader::now`].
    pub fn interval_at(&self, raw_ns: i64) -> Result<Interval, Unavailable> {
        if !self.status.has_bound() {
            return Err(Unavailable::NoBound(self.status, self.reason));
        }
        let tai = tai_at(&self.bound, raw_ns)?;
        let (earliest_ns, latest_ns, tai_offset_s) = unix_edges(tai, self.utc);
        Ok(Interval { earliest_ns, latest_ns, tai, epoch: self.epoch, status: self.status, tai_offset_s })
    }

    /// The tick of a reader of this publication at raw time `raw_ns`, on a host that has slept for `suspended_ns`.
    ///
    /// # Errors
    /// As [`Reader::tick`].
    pub fn tick_at(&self, raw_ns: i64, suspended_ns: i64) -> Result<Tick, Unavailable> {
        // Raw time stood still while the frequency wandered on: the published rates have aged more than raw time says.
        self.expect_awake(suspended_ns)?;
        Ok(Tick::new(raw_ns, suspended_ns, self.epoch, &rates_of(self, raw_ns)?))
    }

    /// Earliest and latest Unix time, ns, at raw time `raw_ns`, if the operator's word holds too. No guarantee;
    /// `None` where nothing is asserted, or it is void by now.
    #[must_use]
    pub fn asserted_at(&self, raw_ns: i64) -> Option<(i64, i64)> {
        let tai = tai_at(&self.asserted_bound()?, raw_ns).ok()?;
        let (earliest_ns, latest_ns, _) = unix_edges(tai, self.utc);
        Some((earliest_ns, latest_ns))
    }

    /// The host has not slept since this was published, if it has slept for `suspended_ns` in all by now.
    fn expect_awake(&self, suspended_ns: i64) -> Result<(), Unavailable> {
        let slept_ns = suspended_ns.saturating_sub(self.suspended_ns);
        let is_awake = slept_ns.saturating_abs() < SUSPEND_RESOLUTION_NS;
        if is_awake { Ok(()) } else { Err(Unavailable::Slept) }
    }
}

/// Least and greatest TAI − UTC that may hold in [earliest, latest], and the one to show.
#[inline]
fn utc_offsets(utc: UtcOffset, earliest_tai: i64, latest_tai: i64) -> (i32, i32, i32) {
    if latest_tai < utc.change_at_ns {
        return (utc.offset_s, utc.offset_s, utc.offset_s);
    }
    if let Some(doubt_s) = utc.doubt_s() {
        return (utc.offset_s.saturating_sub(doubt_s), utc.offset_s.saturating_add(doubt_s), utc.offset_s);
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

fn map(path: &Path) -> Result<(File, Mapping), OpenError> {
    let io_error = |error| OpenError::Io(path.to_owned(), error);
    let file = sys::open_at_once(path).map_err(io_error)?;
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
    Ok((file, mapping))
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
