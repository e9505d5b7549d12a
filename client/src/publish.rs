//! The writer's side of the page: one inode for ever, one writer at a time.
//!
//! Readers map the file once and never look again, so the file is never truncated, renamed over or unlinked while it
//! is a page of this layout, this boot and this clock. Otherwise it is retired: its generation becomes 0 for ever, so
//! that whoever still maps it has no bound to age by the wrong clock, and a new file, prepared under another name, is
//! renamed into place whole.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::clock::{ClockKind, VirtualClock};
use crate::host::{HostIdentity, path_words};
use crate::page::{LAYOUT_VERSION, MAGIC, PAGE_BYTES, Page, Publication, header};
use crate::reader::boot_id;
use crate::sys::{Mapping, open_at_once};

/// Why the page cannot be published.
#[derive(Debug)]
pub enum PublishError {
    /// A file operation failed: what was tried, and how it failed.
    Io(PathBuf, io::Error),
    /// Another agent holds the lock beside the page.
    AnotherWriter(PathBuf),
}

impl std::fmt::Display for PublishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PublishError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            PublishError::AnotherWriter(path) => {
                write!(
                    f,
                    "{} is locked: another agent publishes there; stop it or use another --runtime-dir",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for PublishError {}

/// Owns a page for writing. Dropping it leaves the last publication in place and frees the page for another writer.
pub struct Publisher {
    mapping: Mapping,
    lock: File,
    /// The process that opened it: what a fork copied is not the fork's to free.
    owner: u32,
}

impl Drop for Publisher {
    /// Closing the file would do, but for children that are about to run another program: they share the lock until
    /// then.
    fn drop(&mut self) {
        if std::process::id() == self.owner {
            let _ = self.lock.unlock();
        }
    }
}

impl Publisher {
    /// Creates the page at `path`, or continues the one that is there. `virtual_clock` is `None` for
    /// CLOCK_MONOTONIC_RAW.
    ///
    /// # Errors
    /// [`PublishError`]: no permission, or another agent.
    pub fn open(path: &Path, virtual_clock: Option<VirtualClock>, host: &HostIdentity) -> Result<Self, PublishError> {
        let lock = take_lock(&path.with_extension("lock"))?;
        let failed = |error| PublishError::Io(path.to_owned(), error);
        let identity = identity(boot_id().map_err(failed)?, virtual_clock, host)
            .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "the vmclock's path is too long")))?;
        if !is_usable(path, &identity) {
            retire(path).map_err(failed)?;
            create(path, &identity).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        file.set_permissions(PermissionsExt::from_mode(0o644)).map_err(failed)?;
        let mapping = Mapping::new(&file, true).map_err(failed)?;
        Ok(Publisher { mapping, lock, owner: std::process::id() })
    }

    /// Publishes.
    pub fn publish(&self, publication: &Publication) {
        if let Some(page) = Page::new(self.mapping.words()) {
            page.publish(publication);
        }
    }

    /// What the page says now: the last words of the previous run right after [`Publisher::open`].
    #[must_use]
    pub fn last(&self) -> Option<Publication> {
        Page::new(self.mapping.words())?.publication()
    }
}

/// The words of the header that must never change under a reader: index and value.
/// `None`: a path does not fit.
fn identity(boot: [u64; 2], virtual_clock: Option<VirtualClock>, host: &HostIdentity) -> Option<Vec<(usize, u64)>> {
    let kind = if virtual_clock.is_some() { ClockKind::Virtual } else { ClockKind::MonotonicRaw };
    let parameters = virtual_clock.map_or([0; 6], VirtualClock::to_words);
    let mut words = vec![
        (header::MAGIC, MAGIC),
        (header::VERSION, LAYOUT_VERSION),
        (header::BOOT_ID, boot[0]),
        (header::BOOT_ID + 1, boot[1]),
        (header::CLOCK, kind as u64),
        (header::TIME_NAMESPACE, host.time_namespace),
    ];
    words.extend((header::VIRTUAL_CLOCK..).zip(parameters.map(i64::cast_unsigned)));
    words.extend((header::VMCLOCK..).zip(path_words(host.vmclock.as_deref().unwrap_or(Path::new("")))?));
    Some(words)
}

fn take_lock(path: &Path) -> Result<File, PublishError> {
    let failed = |error| PublishError::Io(path.to_owned(), error);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
    // Whoever may open it may lock it, and so keep the agent from starting: nobody else may.
    lock.set_permissions(PermissionsExt::from_mode(0o600)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(PublishError::AnotherWriter(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A page with this identity, long enough, that nobody else could have opened for writing.
fn is_usable(path: &Path, identity: &[(usize, u64)]) -> bool {
    let Ok(file) = open_at_once(path) else {
        return false;
    };
    file.metadata().is_ok_and(|facts| is_long_enough(&facts) && facts.mode() & 0o022 == 0)
        && Mapping::new(&file, false).is_ok_and(|mapping| {
            Page::new(mapping.words())
                .is_some_and(|page| identity.iter().all(|&(index, word)| page.header(index) == word))
        })
}

/// Takes the bound from those who map the file at `path`, if it is a page of this layout.
fn retire(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_long_enough(&file.metadata()?) {
        return Ok(());
    }
    let mapping = Mapping::new(&file, true)?;
    if let Some(page) = Page::new(mapping.words())
        && page.header(header::MAGIC) == MAGIC
        && page.header(header::VERSION) == LAYOUT_VERSION
    {
        page.set_header(header::GENERATION, 0);
    }
    Ok(())
}

fn is_long_enough(facts: &Metadata) -> bool {
    facts.is_file() && facts.size() >= PAGE_BYTES as u64
}

/// Puts a whole page without publications in place of whatever is at `path`.
fn create(path: &Path, identity: &[(usize, u64)]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o644).open(&fresh)?;
    let mut bytes = vec![0; PAGE_BYTES];
    for &(index, word) in identity {
        bytes[index * 8..][..8].copy_from_slice(&word.to_ne_bytes());
    }
    file.write_all(&bytes)?;
    std::fs::rename(&fresh, path)
}
