//! Where a granter keeps its [`Record`]: before anything that relies on it leaves the host, and until after a crash.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Fence, HolderId, Kind, Record};

/// Keeps one record. Crashes and loss of power it survives; a disk that is set back to an earlier state (a snapshot, a
/// backup) forgets what was promised since, and nobody can tell: then start anew, once the longest term has passed.
pub trait Store {
    /// What was saved last; `None` if nothing ever was. Of a save that failed, either the record before or that one.
    ///
    /// # Errors
    /// If it cannot be told what was saved last: the granter must not start.
    fn load(&mut self) -> io::Result<Option<Record>>;

    /// Keeps `record` in the place of what was there. Once this has returned `Ok`, no crash makes it unsaid.
    ///
    /// # Errors
    /// If it may not have been kept. What was there before may be there still.
    fn save(&mut self, record: &Record) -> io::Result<()>;
}

impl<S: Store + ?Sized> Store for &mut S {
    fn load(&mut self) -> io::Result<Option<Record>> {
        (**self).load()
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        (**self).save(record)
    }
}

/// Keeps it in memory: for tests and simulations, where it is what survives a crash. **Not for leases that matter.**
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    /// What was saved last.
    pub record: Option<Record>,
    /// How often something was saved.
    pub saves: u64,
}

impl Store for MemoryStore {
    fn load(&mut self) -> io::Result<Option<Record>> {
        Ok(self.record)
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        self.record = Some(*record);
        self.saves += 1;
        Ok(())
    }
}

/// Keeps it in a file: a line of text in a new file that replaces the old one, both the file and its directory synced.
///
/// While the store lives no other may open the same file: `PATH.lock` is locked. Whoever deletes the file makes the
/// granter forget; a damaged one is an error, never an empty store.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    directory: File,
    lock: File,
}

impl FileStore {
    /// Opens the store at `path`, whose directory exists; the file need not.
    ///
    /// # Errors
    /// If the directory cannot be opened, or another process has this store ([`io::ErrorKind::WouldBlock`]).
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Where it is now, by its own name, wherever the process goes.
        let parent = parent.canonicalize()?;
        let path = parent.join(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        if path.is_symlink() {
            let what = format!("{} is a symbolic link: a second name would be a second lock", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let directory = File::open(parent)?;
        let lock = File::options().create(true).truncate(false).write(true).open(beside(&path, "lock"))?;
        lock.try_lock()?;
        Ok(FileStore { path, directory, lock })
    }

    /// Whoever deleted the lock let another owner in.
    fn expect_locked(&self) -> io::Result<()> {
        if self.lock.metadata()?.nlink() > 0 {
            return Ok(());
        }
        let what = format!("{}: its lock was deleted, so another may own it; open it again", self.path.display());
        Err(io::Error::other(what))
    }
}

impl Store for FileStore {
    fn load(&mut self) -> io::Result<Option<Record>> {
        // A process that ended between its rename and its sync left a record that a loss of power would unsay.
        self.directory.sync_all()?;
        let mut text = String::new();
        match File::open(&self.path) {
            // One byte more than any record: a longer file is damaged.
            Ok(file) => file.take(LONGEST_LINE + 1).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{}: damaged", self.path.display()));
        parse(&text).map(Some).ok_or_else(damaged)
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        self.expect_locked()?;
        let new = beside(&self.path, "new");
        let mut file = File::create(&new)?;
        file.write_all(line(record).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.directory.sync_all()
    }
}

const MAGIC: &str = "truebound-record-1";
const LONGEST_LINE: u64 = 128;

/// `PATH.suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// `truebound-record-1 KIND FENCE HOLDER UNTIL_NS CHECK`, and a newline.
fn line(record: &Record) -> String {
    let words = words(record);
    format!("{words} {:016x}\n", check(&words))
}

fn words(record: &Record) -> String {
    format!("{MAGIC} {} {} {} {}", name(record.kind), record.fence.0, record.holder.0, record.until_ns)
}

/// The record whose line this is, exactly.
fn parse(text: &str) -> Option<Record> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[_, kind, fence, holder, until_ns, _] = words.as_slice() else { return None };
    let kind = KINDS.into_iter().find(|&it| name(it) == kind)?;
    let record = Record {
        kind,
        fence: Fence(fence.parse().ok()?),
        holder: HolderId(holder.parse().ok()?),
        until_ns: until_ns.parse().ok()?,
    };
    (line(&record) == text).then_some(record)
}

const KINDS: [Kind; 7] = [Kind::Clock, Kind::Rate, Kind::Cache, Kind::Primary, Kind::Hlc, Kind::Once, Kind::Oracle];

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Clock => "clock",
        Kind::Rate => "rate",
        Kind::Cache => "cache",
        Kind::Primary => "primary",
        Kind::Hlc => "hlc",
        Kind::Once => "once",
        Kind::Oracle => "oracle",
    }
}

/// FNV-1a, 64 bits: notices damage, not malice.
fn check(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(fence: u64, holder: u64, until_ns: i64) -> Record {
        Record { kind: Kind::Clock, fence: Fence(fence), holder: HolderId(holder), until_ns }
    }

    /// A directory of this test's own, gone afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("truebound-store-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory for the test");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_saved_last_is_what_the_next_process_loads() {
        let scratch = Scratch::new("last");
        let path = scratch.0.join("lease");
        let mut store = FileStore::open(&path).expect("opens");
        assert_eq!(store.load().expect("a new store"), None);
        for saved in [record(1, 7, 5), record(u64::MAX, u64::MAX, Record::NOTHING)] {
            store.save(&saved).expect("saves");
            assert_eq!(store.load().expect("loads"), Some(saved));
        }
        drop(store);
        let mut store = FileStore::open(&path).expect("opens again");
        assert_eq!(store.load().expect("loads"), Some(record(u64::MAX, u64::MAX, Record::NOTHING)));
    }

    #[test]
    fn a_store_has_one_owner() {
        let scratch = Scratch::new("owner");
        let first = FileStore::open(scratch.0.join("lease")).expect("opens");
        let second = FileStore::open(scratch.0.join("lease"));
        assert_eq!(second.expect_err("one owner").kind(), io::ErrorKind::WouldBlock);
        drop(first);
        FileStore::open(scratch.0.join("lease")).expect("free again");
    }

    #[test]
    fn a_second_name_or_a_deleted_lock_lets_no_second_owner_in() {
        let scratch = Scratch::new("names");
        let path = scratch.0.join("lease");
        let mut store = FileStore::open(&path).expect("opens");
        store.save(&record(1, 7, 5)).expect("saves");
        std::os::unix::fs::symlink(&path, scratch.0.join("alias")).expect("a link");
        assert_eq!(FileStore::open(scratch.0.join("alias")).expect_err("a link").kind(), io::ErrorKind::InvalidInput);
        fs::remove_file(beside(&path, "lock")).expect("ours");
        store.save(&record(2, 7, 6)).expect_err("another may own it");
        assert_eq!(store.load().expect("loads"), Some(record(1, 7, 5)));
    }

    #[test]
    fn a_relative_path_is_that_of_the_moment() {
        let store = FileStore::open("Cargo.toml").expect("this package's directory can be written");
        assert!(store.path.is_absolute());
        let _ = fs::remove_file(beside(&store.path, "lock"));
    }

    #[test]
    fn a_half_written_new_file_is_not_the_record() {
        let scratch = Scratch::new("torn");
        let path = scratch.0.join("lease");
        let mut store = FileStore::open(&path).expect("opens");
        store.save(&record(3, 7, 5)).expect("saves");
        fs::write(beside(&path, "new"), "truebound-record-1 clock 4").expect("writes");
        assert_eq!(store.load().expect("loads"), Some(record(3, 7, 5)));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_store() {
        let scratch = Scratch::new("damaged");
        let path = scratch.0.join("lease");
        let mut store = FileStore::open(&path).expect("opens");
        for text in ["", "\n", "truebound-record-1 clock 3 7 5 0000000000000000\n", &"x".repeat(1 << 16)] {
            fs::write(&path, text).expect("writes");
            assert_eq!(store.load().expect_err("damaged").kind(), io::ErrorKind::InvalidData, "{text:.40}");
        }
    }

    proptest! {
        #[test]
        fn every_record_survives_its_line(fence: u64, holder: u64, until_ns: i64, kind in 0..KINDS.len()) {
            let kind = KINDS[kind];
            let record = Record { kind, ..record(fence, holder, until_ns) };
            prop_assert!(line(&record).len() as u64 <= LONGEST_LINE);
            prop_assert_eq!(parse(&line(&record)), Some(record));
        }

        #[test]
        fn a_flipped_bit_is_noticed(fence: u64, holder: u64, until_ns: i64, at in 0usize..60, bit in 0u8..7) {
            let mut bytes = line(&record(fence, holder, until_ns)).into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(String::from_utf8(bytes).ok().and_then(|text| parse(&text)), None);
        }
    }
}
