//! The segments of ClockBound in shared memory, written so that its clients, which map a file once and never look
//! again, never see half an update, another inode, or a shorter file.
//!
//! A file that is there is continued: its inode, its generation. What is no segment of this layout is made one in place,
//! and only after its version is 0, by which clients know that a writer is at work. A new file appears whole, under its
//! name at once, and only where there is none. One writer at a time holds a lock beside the files.
//!
//! Clients keep what they read for as long as the generation (16 bits) is the same. So no generation comes again soon
//! after a break: one that was in force when the clock was set, or the status changed, is passed over.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use nix::time::{ClockId, clock_getres, clock_gettime};
use truebound_core::clockbound::Marker;
use truebound_core::time::NS_PER_S;

use crate::sys::segment;

/// Two native words; in a file of x86 the bytes 4E 5A 4D 41 00 02 42 43.
const MAGIC: [u32; 2] = [0x414D_5A4E, 0x4342_0200];
const LOCK: &str = "truebound.lock";
/// A snapshot older than this is void to every client, ns.
const MEMORY_NS: i64 = 1_000 * NS_PER_S;
/// Breaks within that time after which no generation is kept free any more: the oldest first.
const AVOIDED: usize = 64;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which of ClockBound's layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The file's name.
    pub name: &'static str,
    /// Of the header.
    pub version: u16,
    /// Words of 8 bytes after the header.
    pub words: usize,
}

/// Layout 2, for clients 2.x.
pub const SHM0: Layout = Layout { name: "shm0", version: 2, words: truebound_core::clockbound::realtime::WORDS };
/// Layout 3, for clients 3.x: the least and the greatest version that may read it.
pub const SHM1: Layout = Layout { name: "shm1", version: 0x0303, words: truebound_core::clockbound::counter::WORDS };

/// Why a segment cannot be written.
#[derive(Debug)]
pub enum SegmentError {
    /// A file operation failed.
    Io(PathBuf, io::Error),
    /// Another agent holds the lock.
    AnotherWriter(PathBuf),
    /// The directory or file is not what it has to be: what, and what to do.
    Unfit(PathBuf, String, &'static str),
    /// Somebody else writes to the segment, a ClockBound daemon perhaps.
    Overwritten(PathBuf),
}

impl std::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SegmentError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            SegmentError::AnotherWriter(path) => {
                write!(f, "{} is locked: another agent writes ClockBound's segments there; stop it", path.display())
            }
            SegmentError::Unfit(path, what, fix) => write!(f, "{}: {what}; {fix}", path.display()),
            SegmentError::Overwritten(path) => {
                write!(
                    f,
                    "{}: somebody else writes to it: stop the ClockBound daemon, then start again",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for SegmentError {}

/// The directory of the segments, locked for one writer.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    lock: File,
    boot: String,
    /// What the lock file says: this boot, and whether clients watch the hypervisor's page.
    said: Option<bool>,
}

impl Directory {
    /// Opens it, or makes it (0755).
    ///
    /// # Errors
    /// [`SegmentError`]; a directory that others may write to is refused, since they could put files of theirs there.
    pub fn open(path: &Path) -> Result<Directory, SegmentError> {
        let failed = |error| SegmentError::Io(path.to_owned(), error);
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
            std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed)?;
        }
        expect_ours(path, &std::fs::metadata(path).map_err(failed)?, "chown it to root and chmod it to 755")?;
        let lock_path = path.join(LOCK);
        let failed = |error| SegmentError::Io(lock_path.clone(), error);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let lock = options.open(&lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SegmentError::AnotherWriter(lock_path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let boot = std::fs::read_to_string(BOOT_ID).map_err(|error| SegmentError::Io(BOOT_ID.into(), error))?;
        let mut words = [0; 128];
        let read = lock.read_at(&mut words, 0).map_err(failed)?;
        let said = [false, true].into_iter().find(|&watched| words[..read] == *words_of(&boot, watched).as_bytes());
        Ok(Directory { path: path.to_owned(), lock, boot, said })
    }

    /// Should clients compare the hypervisor's page? What was said first since this boot: clients 3.x fail for ever
    /// when that changes under them.
    ///
    /// # Errors
    /// [`SegmentError`]: the lock file could not be written.
    pub fn is_vmclock_watched(&self, wanted: bool) -> Result<bool, SegmentError> {
        if let Some(watched) = self.said {
            return Ok(watched);
        }
        let failed = |error| SegmentError::Io(self.path.join(LOCK), error);
        self.lock.set_len(0).map_err(failed)?;
        self.lock.write_all_at(words_of(&self.boot, wanted).as_bytes(), 0).map_err(failed)?;
        Ok(wanted)
    }

    /// The segment of that layout, ready to be written. What another boot left is closed to new clients: its clocks are
    /// gone.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn segment(&self, layout: Layout) -> Result<Segment, SegmentError> {
        remove_leftovers(&self.path, layout);
        Segment::open(&self.path.join(layout.name), layout, self.said.is_some())
    }
}

/// The content of the lock file.
fn words_of(boot: &str, is_watched: bool) -> String {
    format!("boot {} vmclock {}\n", boot.trim(), u8::from(is_watched))
}

/// A segment of which we are the only writer.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    /// The mapped file, and how long it has to be.
    file: File,
    bytes: u64,
    mapping: segment::Segment,
    version: u16,
    /// On the file; version 0: closed to new clients, and those who know it keep what they have.
    head: (u16, u16),
    /// Generations in force when something broke, and when that was, ns of a clock that does not go back.
    avoided: Vec<(u16, i64)>,
}

impl Segment {
    fn open(path: &Path, layout: Layout, is_of_this_boot: bool) -> Result<Segment, SegmentError> {
        let failed = |error| SegmentError::Io(path.to_owned(), error);
        let bytes = (segment::HEADER_BYTES + 8 * layout.words) as u64;
        let file = match open_existing(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, layout, bytes).map_err(failed)?;
                open_existing(path).map_err(failed)?
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let what = "a symbolic link".to_owned();
                return Err(SegmentError::Unfit(path.to_owned(), what, "remove it: the file has to be here"));
            }
            other => other.map_err(failed)?,
        };
        let facts = file.metadata().map_err(failed)?;
        expect_ours(path, &facts, "chown it to root and chmod it to 644: its readers stay attached")?;
        if !facts.is_file() || facts.nlink() != 1 {
            let what = "not a file of its own (a device, a FIFO, or a file with two names)".to_owned();
            return Err(SegmentError::Unfit(path.to_owned(), what, "remove it"));
        }
        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
        if facts.len() < bytes {
            // Longer only: whoever mapped the file has a page at least, and keeps it.
            file.set_len(bytes).map_err(failed)?;
        }
        let mapping = segment::Segment::map(&file, layout.words).map_err(failed)?;
        let (path, version) = (path.to_owned(), layout.version);
        let mut segment = Segment { path, file, bytes, mapping, version, head: (0, 0), avoided: Vec::new() };
        segment.adopt(u32::try_from(bytes).unwrap_or(u32::MAX), facts.len(), is_of_this_boot);
        Ok(segment)
    }

    /// Continues the segment that is there, or makes one of what is there.
    fn adopt(&mut self, bytes: u32, file_bytes: u64, is_of_this_boot: bool) {
        let [magic0, magic1, size, head] = self.mapping.header();
        let (version, generation) = split(head.load(Ordering::Acquire));
        let magic = [magic0.load(Ordering::Relaxed), magic1.load(Ordering::Relaxed)];
        let said = size.load(Ordering::Relaxed);
        let is_sound = magic == MAGIC && said >= bytes && u64::from(said) <= file_bytes.max(bytes.into());
        let is_ours = is_sound && version == self.version && generation != 0;
        // A run that ended while it was closed (version 0): its clients still compare this generation.
        let kept = if magic == MAGIC { generation } else { 0 };
        if is_ours && is_of_this_boot {
            self.head = (version, generation);
            return;
        }
        // Version 0 first: a client that knows the file keeps what it has.
        self.head = (0, kept);
        head.store(joined(self.head), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !is_ours {
            self.mapping.body().iter().for_each(|word| word.store(0, Ordering::Relaxed));
            size.store(bytes, Ordering::Relaxed);
            magic0.store(MAGIC[0], Ordering::Relaxed);
            magic1.store(MAGIC[1], Ordering::Relaxed);
        }
    }

    /// Publishes `words`, storing them in `order`. `is_break`: what clients have of the segment now must not be used
    /// again; its generation stays away for as long as any client could. `now_ns` is of a clock that does not go back.
    ///
    /// # Errors
    /// [`SegmentError::Overwritten`]: somebody else wrote to it, or made it shorter, which would be the end of us too.
    /// Nothing was stored.
    pub fn publish(&mut self, words: &[u64], order: &[usize], is_break: bool, now_ns: i64) -> Result<(), SegmentError> {
        let is_whole = self.file.metadata().is_ok_and(|facts| facts.len() >= self.bytes);
        if !is_whole || split(self.mapping.header()[3].load(Ordering::Relaxed)) != self.head {
            return Err(SegmentError::Overwritten(self.path.clone()));
        }
        if is_break && self.head.1 != 0 {
            self.avoid(self.head.1 & !1, now_ns);
        }
        self.begin();
        order.iter().for_each(|&index| self.store(index, words));
        self.end(self.next_generation(now_ns));
        Ok(())
    }

    /// From here on clients see that an update is under way: by an odd generation, or still by version 0.
    fn begin(&mut self) {
        let (version, generation) = self.head;
        if version != 0 {
            self.show((version, generation | 1), Ordering::Relaxed);
        }
        // The odd number before anything of the update.
        fence(Ordering::SeqCst);
    }

    fn show(&mut self, head: (u16, u16), order: Ordering) {
        self.head = head;
        self.mapping.header()[3].store(joined(head), order);
    }

    fn store(&self, index: usize, words: &[u64]) {
        if let (Some(word), Some(&value)) = (self.mapping.body().get(index), words.get(index)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn end(&mut self, generation: u16) {
        self.show((self.version, generation), Ordering::Release);
    }

    fn avoid(&mut self, generation: u16, now_ns: i64) {
        self.avoided.retain(|&(_, since_ns)| now_ns.saturating_sub(since_ns) < MEMORY_NS);
        if self.avoided.len() >= AVOIDED {
            self.avoided.remove(0);
        }
        self.avoided.push((generation, now_ns));
    }

    /// The next even number, never 0, that is not to be avoided.
    fn next_generation(&self, now_ns: i64) -> u16 {
        let is_avoided = |generation: u16| {
            self.avoided.iter().any(|&(value, at_ns)| value == generation && now_ns.saturating_sub(at_ns) < MEMORY_NS)
        };
        let after = |generation: u16| match (generation | 1).wrapping_add(1) {
            0 => 2,
            next => next,
        };
        let mut next = after(self.head.1);
        while is_avoided(next) {
            next = after(next);
        }
        next
    }
}

/// Version and generation as they lie in the file, side by side, in one word.
fn joined((version, generation): (u16, u16)) -> u32 {
    let (version, generation) = (version.to_ne_bytes(), generation.to_ne_bytes());
    u32::from_ne_bytes([version[0], version[1], generation[0], generation[1]])
}

fn split(head: u32) -> (u16, u16) {
    let bytes = head.to_ne_bytes();
    (u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]]))
}

fn open_existing(path: &Path) -> io::Result<File> {
    // A FIFO or device is not waited for.
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// A whole file, with version and generation 0, under its name at once and only if there is none.
fn create(path: &Path, layout: Layout, bytes: u64) -> io::Result<()> {
    let fresh = path.with_file_name(format!("{}.{}.new", layout.name, std::process::id()));
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let size = u32::try_from(bytes).unwrap_or(u32::MAX);
    for (place, word) in content.chunks_exact_mut(4).zip([MAGIC[0], MAGIC[1], size]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    let _ = std::fs::remove_file(&fresh); // of a run that was killed here
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o644).open(&fresh)?;
    let written = file.write_all(&content).and_then(|()| match std::fs::hard_link(&fresh, path) {
        // Somebody was faster; the file that is there is looked at like any other.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    std::fs::remove_file(&fresh)?;
    written
}

/// Second names that runs left which were killed in [`create`]: with one the file would be refused for ever.
fn remove_leftovers(directory: &Path, layout: Layout) {
    let is_leftover = |name: &str| {
        let pid = name.strip_prefix(layout.name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".new"));
        pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_leftover) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Owned by root or by us, and nobody else may write to it.
fn expect_ours(path: &Path, facts: &Metadata, fix: &'static str) -> Result<(), SegmentError> {
    let (owner, us) = (facts.uid(), nix::unistd::geteuid().as_raw());
    let what = if owner != 0 && owner != us {
        format!("owned by uid {owner}, who could forge it")
    } else if facts.mode() & 0o022 != 0 {
        format!("others may write to it (mode {:o})", facts.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(SegmentError::Unfit(path.to_owned(), what, fix))
}

/// CLOCK_MONOTONIC_COARSE, ns: what clients 2.x measure age by.
#[must_use]
pub fn coarse_ns() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(0, |now| now.tv_sec().saturating_mul(NS_PER_S).saturating_add(now.tv_nsec()))
}

/// How far that clock moves at once, ns: 1/HZ. 10 ms, the longest that Linux has, if it does not say.
#[must_use]
pub fn coarse_tick_ns() -> i64 {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(10_000_000, |tick| tick.tv_nsec())
}

/// The hypervisor's page as ClockBound's clients read it.
#[derive(Debug)]
pub struct MarkerFile(File);

impl MarkerFile {
    /// Opens it.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> io::Result<MarkerFile> {
        Ok(MarkerFile(File::open(path)?))
    }

    /// The marker now. Clients take it for 0 for as long as `seq_count` is 0: their cache begins with that number.
    ///
    /// # Errors
    /// As read(2); `InvalidData` if it is no such page, or is always being changed.
    pub fn read(&self) -> io::Result<Marker> {
        let (mut last, mut bytes) = ([0; 24], [0; 24]);
        for _ in 0..100 {
            self.0.read_exact_at(&mut bytes, 0)?;
            if bytes == last && bytes.starts_with(b"VCLK") && bytes[12] & 1 == 0 {
                let real = u64::from_le_bytes(std::array::from_fn(|i| bytes[16 + i]));
                let seen = if bytes[12..16] == [0; 4] { 0 } else { real };
                return Ok(Marker { is_watched: true, real, seen });
            }
            last = bytes;
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests;
