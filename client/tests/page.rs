//! The page from both sides: what is published is read, and what must be refused is refused by name.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use truebound_client::bound::RATE_BITS;
use truebound_client::host::{Foretold, HostIdentity, VmMark};
use truebound_client::page::{Asserted, PAGE_BYTES, PAGE_WORDS, Publication, UtcOffset, header};
use truebound_client::{
    Bound, MonotonicRaw, OpenError, PublishError, Publisher, RawClock, Reader, Reason, Status, Unavailable,
    VirtualClock,
};

const S: i64 = 1_000_000_000;

/// A directory of one test, removed after it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("truebound-page-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Dir(dir)
    }

    fn page(&self) -> PathBuf {
        self.0.join("bound")
    }

    fn publisher(&self) -> Publisher {
        Publisher::open(&self.page(), None, &HostIdentity::here(None)).expect("nobody else publishes here")
    }

    /// A page with one publication.
    fn published(&self, publication: &Publication) -> Publisher {
        let publisher = self.publisher();
        publisher.publish(publication);
        publisher
    }

    fn open_error(&self) -> OpenError {
        Reader::open(self.page()).err().expect("must be refused")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// No two fields have the same bytes.
fn distinct() -> Publication {
    Publication {
        status: Status::Holdover,
        reason: Reason::AssumesTrust,
        epoch: 0x0102_0304_0506_0708,
        bound: Bound {
            t_ref_ns: 1_001,
            void_after_ns: i64::MAX - 1,
            theta_lo_ns: -1_002,
            theta_hi_ns: 1_003,
            omega_lo: -1_004,
            omega_hi: 1_005,
            cap_lo: -1_006,
            cap_hi: 1_007,
            half_wander: u64::MAX - 1_008,
            phase_rate: 1_009,
        },
        utc: UtcOffset { offset_s: -37, after_s: 38, change_at_ns: 1_010 },
        wander_fs_per_s2: 1_011,
        phase_noise_fs: 1_012,
        spread: -1_013,
        omega_limit: 1_014,
        clocksource: *b"arch_sys_counter",
        suspended_ns: -1_015,
        vm_mark: VmMark { disruption_marker: 1_016, generation: 1_017 },
        foretold: Foretold::Soon,
        leap_expiry_ns: 1_016,
        asserted: Some(Asserted { theta_lo_ns: -1_017, theta_hi_ns: 1_018, omega_lo: -1_019, omega_hi: 1_020 }),
        estimate_theta_ns: -1_021,
        estimate_omega: 1_022,
        estimate_sigma_ns: 1_023,
        source: *b"ntp1.example.org:123 of group 4!",
        groups: (1_024, 1_025),
        assumptions: 0x1112_1314_1516_1718,
    }
}

/// A bound that holds now, of a width of 1.2 µs, that does not grow.
fn locked() -> Publication {
    let bound = Bound {
        t_ref_ns: MonotonicRaw.now_ns(),
        void_after_ns: i64::MAX,
        theta_lo_ns: -500,
        theta_hi_ns: 700,
        ..Bound::default()
    };
    Publication { status: Status::Locked, utc: never_changing(), bound, ..distinct() }
}

fn never_changing() -> UtcOffset {
    UtcOffset { offset_s: 37, after_s: UtcOffset::UNKNOWN, change_at_ns: i64::MAX }
}

/// Publication number `n`: every number in it follows from `n`.
fn numbered(n: i64) -> Publication {
    let bound = Bound {
        t_ref_ns: n,
        void_after_ns: i64::MAX,
        theta_lo_ns: n,
        theta_hi_ns: n + 1,
        omega_lo: -n,
        omega_hi: n,
        cap_lo: -n,
        cap_hi: n,
        half_wander: n.cast_unsigned(),
        phase_rate: n,
    };
    Publication {
        status: if n % 2 == 0 { Status::Locked } else { Status::Holdover },
        epoch: n.cast_unsigned(),
        bound,
        spread: n,
        estimate_sigma_ns: n,
        ..distinct()
    }
}

/// A virtual clock that always reads `at_ns`: it runs slow by exactly 1 s/s.
fn frozen(at_ns: i64) -> VirtualClock {
    VirtualClock { origin_ns: 0, offset_ns: at_ns, freq: -(1 << RATE_BITS), wander: 0, period_ns: 0, phase_ns: 0 }
}

/// A deterministic source of words (splitmix64). Prints its seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        println!("seed {seed:#x}");
        Random(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Writes one word of the file, as only the agent should.
fn poke(path: &Path, index: usize, word: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("there");
    file.write_all_at(&word.to_ne_bytes(), index as u64 * 8).expect("writable");
}

fn peek(path: &Path, index: usize) -> u64 {
    let mut bytes = [0; 8];
    File::open(path).expect("there").read_exact_at(&mut bytes, index as u64 * 8).expect("long enough");
    u64::from_ne_bytes(bytes)
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

// What is published is read.

#[test]
fn every_field_round_trips() {
    let dir = Dir::new();
    let publisher = dir.publisher();
    let reader = Reader::open(dir.page()).expect("an empty page is a page");
    assert_eq!((reader.publication(), publisher.last()), (None, None));
    for publication in [distinct(), Publication { asserted: None, ..distinct() }, locked(), numbered(7)] {
        publisher.publish(&publication);
        assert_eq!(reader.publication(), Some(publication.clone()));
        assert_eq!(publisher.last(), Some(publication));
    }
    for status in Status::ALL {
        for &reason in Reason::ALL {
            publisher.publish(&Publication { status, reason, ..distinct() });
            assert_eq!(reader.publication(), Some(Publication { status, reason, ..distinct() }));
        }
    }
}

#[test]
fn a_read_is_the_aged_bound_in_utc() {
    let dir = Dir::new();
    let publisher =
        Publisher::open(&dir.page(), Some(frozen(5_000 * S)), &HostIdentity::here(None)).expect("a fresh page");
    let reader = Reader::open_virtual(dir.page()).expect("a virtual page");
    assert_eq!(reader.clock(), &frozen(5_000 * S));
    let bound = Bound { t_ref_ns: 4_990 * S, omega_lo: 0, omega_hi: (1 << RATE_BITS) / 1_000_000, ..locked().bound };
    publisher.publish(&Publication { bound: Bound { cap_hi: i64::MAX, ..bound }, epoch: 9, ..locked() });
    let interval = reader.now().expect("locked");
    // Ten seconds at 1 ppm, cut to 2⁻⁴⁰: 9,999.99… ns, rounded up; one more for the truncated reading of the clock.
    assert_eq!((interval.earliest_ns, interval.latest_ns), (4_963 * S - 500, 4_963 * S + 700 + 10_000 + 1));
    assert_eq!((interval.epoch, interval.status, interval.tai_offset_s), (9, Status::Locked, 37));
}

#[test]
fn what_is_asserted_ages_like_the_bound_and_needs_none() {
    let asserted = Asserted { theta_lo_ns: -50, theta_hi_ns: 70, omega_lo: 0, omega_hi: (1 << RATE_BITS) / 1_000_000 };
    let bound = Bound { t_ref_ns: 4_990 * S, void_after_ns: 5_001 * S, cap_hi: i64::MAX, ..locked().bound };
    for status in [Status::Locked, Status::Starting] {
        let page = Publication { status, bound, asserted: Some(asserted), ..locked() };
        assert_eq!(page.asserted_at(5_000 * S), Some((4_963 * S - 50, 4_963 * S + 70 + 10_000 + 1)));
        assert_eq!(page.asserted_at(5_001 * S), None, "void");
        assert_eq!(Publication { asserted: None, ..page }.asserted_at(5_000 * S), None);
    }
}

#[test]
fn a_read_by_this_hosts_clock_lies_between_two_readings_of_it() {
    let dir = Dir::new();
    let _publisher = dir.published(&locked());
    let reader = Reader::open(dir.page()).expect("just published");
    let before = MonotonicRaw.now_ns();
    let interval = reader.now().expect("locked");
    let after = MonotonicRaw.now_ns();
    assert!((before - 500..=after - 500).contains(&(interval.earliest_ns + 37 * S)));
    assert!((before + 701..=after + 701).contains(&(interval.latest_ns + 37 * S)));
}

#[test]
fn utc_offsets_around_a_change() {
    let dir = Dir::new();
    let now = 1_000 * S;
    let publisher = Publisher::open(&dir.page(), Some(frozen(now)), &HostIdentity::here(None)).expect("a fresh page");
    let reader = Reader::open_virtual(dir.page()).expect("a virtual page");
    // True time (TAI) is somewhere in [now − 500, now + 701].
    let offsets = |after_s, change_at_ns| {
        let utc = UtcOffset { offset_s: 37, after_s, change_at_ns };
        publisher.publish(&Publication { bound: Bound { t_ref_ns: now, ..locked().bound }, utc, ..locked() });
        let interval = reader.now().expect("locked");
        ((now - 500 - interval.earliest_ns) / S, (now + 701 - interval.latest_ns) / S, interval.tai_offset_s)
    };
    // Taken from the earliest and from the latest, and shown; a known change by one second, either way.
    for after_s in [36, 38] {
        let (most, least) = (after_s.max(37).into(), after_s.min(37).into());
        assert_eq!(offsets(after_s, now + 702), (37, 37, 37), "certainly before");
        assert_eq!(offsets(after_s, now + 701), (most, least, 37), "perhaps after");
        assert_eq!(offsets(after_s, now), (most, least, 37));
        assert_eq!(offsets(after_s, now - 499), (most, least, 37), "perhaps before");
        assert_eq!(offsets(after_s, now - 500), (after_s.into(), after_s.into(), after_s), "certainly after");
    }
    assert_eq!(offsets(UtcOffset::UNKNOWN, now + 702), (37, 37, 37));
    for perhaps_after in [now + 701, now, now - 500, i64::MIN] {
        assert_eq!(offsets(UtcOffset::UNKNOWN, perhaps_after), (38, 36, 37), "a second of doubt on either side");
        assert_eq!(offsets(UtcOffset::unknown(3), perhaps_after), (40, 34, 37));
        assert_eq!(
            offsets(UtcOffset::unknown(1_001), perhaps_after),
            (1_037, -963, 37),
            "the most there is a number for"
        );
    }
}

#[test]
fn one_reader_serves_all_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Reader>();
    is_send_and_sync::<Reader<VirtualClock>>();
}

// What must be refused.

#[test]
fn a_missing_file_is_refused() {
    assert!(matches!(Dir::new().open_error(), OpenError::Io(_, error) if error.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn a_short_file_is_refused() {
    let dir = Dir::new();
    drop(dir.published(&locked()));
    let file = OpenOptions::new().write(true).open(dir.page()).expect("there");
    for length in [0, 8, PAGE_BYTES as u64 - 1] {
        file.set_len(length).expect("writable");
        assert!(matches!(dir.open_error(), OpenError::Truncated(_, found) if found == length));
    }
}

#[test]
fn a_directory_is_refused() {
    let dir = Dir::new();
    std::fs::create_dir(dir.page()).expect("writable");
    assert!(matches!(dir.open_error(), OpenError::Truncated(..)));
}

#[test]
fn a_page_that_others_can_write_is_refused() {
    let dir = Dir::new();
    let _publisher = dir.published(&locked());
    for mode in [0o666, 0o664, 0o646, 0o622] {
        set_mode(&dir.page(), mode);
        assert!(matches!(dir.open_error(), OpenError::WritableByOthers(_, found) if found & 0o777 == mode));
    }
    set_mode(&dir.page(), 0o644);
    assert!(Reader::open(dir.page()).is_ok());
}

#[test]
fn a_page_of_another_user_is_refused() {
    let dir = Dir::new();
    let _publisher = dir.published(&locked());
    if std::os::unix::fs::chown(dir.page(), Some(65_534), None).is_err() {
        println!("skipped: only root can give a file away");
        return;
    }
    assert!(matches!(dir.open_error(), OpenError::ForeignOwner(_, 65_534)));
}

#[test]
fn foreign_headers_are_refused_by_name() {
    let dir = Dir::new();
    let _publisher = dir.published(&locked());
    let with = |index: usize, word: u64| {
        let before = peek(&dir.page(), index);
        poke(&dir.page(), index, word);
        let error = dir.open_error();
        poke(&dir.page(), index, before);
        assert!(Reader::open(dir.page()).is_ok());
        error
    };
    assert!(matches!(with(header::MAGIC, 0), OpenError::NotAPage(_)));
    assert!(matches!(with(header::VERSION, 1), OpenError::LayoutVersion(_, 1)));
    assert!(matches!(with(header::VERSION, 3), OpenError::LayoutVersion(_, 3)));
    assert!(matches!(with(header::BOOT_ID, 1), OpenError::OtherBoot(_)));
    assert!(matches!(with(header::BOOT_ID + 1, 1), OpenError::OtherBoot(_)));
    assert!(matches!(with(header::CLOCK, 2), OpenError::OtherClock(_)));
    assert!(matches!(with(header::CLOCK, 3), OpenError::OtherClock(_)));
    assert!(matches!(with(header::TIME_NAMESPACE, 4), OpenError::OtherTimeNamespace(_)));
}

#[test]
fn a_reader_with_another_clock_is_refused() {
    let dir = Dir::new();
    drop(dir.published(&locked()));
    assert!(matches!(Reader::open_virtual(dir.page()), Err(OpenError::OtherClock(_))));
    drop(Publisher::open(&dir.page(), Some(frozen(1)), &HostIdentity::here(None)).expect("nobody else publishes here"));
    assert!(matches!(dir.open_error(), OpenError::OtherClock(_)));
    assert!(Reader::open_virtual(dir.page()).is_ok());
}

// Why there is no interval.

#[test]
fn before_the_first_publication_there_is_no_bound() {
    let dir = Dir::new();
    let _publisher = dir.publisher();
    let reader = Reader::open(dir.page()).expect("an empty page is a page");
    assert_eq!(reader.now(), Err(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet)));
}

#[test]
fn a_status_without_bound_says_so_with_its_reason() {
    let dir = Dir::new();
    let publisher = dir.publisher();
    let reader = Reader::open(dir.page()).expect("an empty page is a page");
    for status in Status::ALL {
        publisher.publish(&Publication { status, reason: Reason::SourcesDisagree, ..locked() });
        let expected = Unavailable::NoBound(status, Reason::SourcesDisagree);
        assert_eq!(reader.now().err(), (!status.has_bound()).then_some(expected));
    }
}

#[test]
fn an_unknown_status_is_malformed_and_an_unknown_reason_is_unknown() {
    let dir = Dir::new();
    let _publisher = dir.published(&locked());
    let reader = Reader::open(dir.page()).expect("just published");
    let status_of_slot_1 = 128;
    poke(&dir.page(), status_of_slot_1, u64::from_ne_bytes([6, 0, 3, 0, 0, 0, 0, 0]));
    assert_eq!(reader.now(), Err(Unavailable::Malformed));
    assert_eq!(reader.publication(), None);
    poke(&dir.page(), status_of_slot_1, u64::from_ne_bytes([5, 0, 255, 255, 0, 0, 0, 0]));
    assert_eq!(reader.now(), Err(Unavailable::NoBound(Status::Void, Reason::Unknown)));
}

#[test]
fn a_bound_ends_at_void_after_and_starts_at_its_reference() {
    let dir = Dir::new();
    let now = 1_000 * S;
    let publisher = Publisher::open(&dir.page(), Some(frozen(now)), &HostIdentity::here(None)).expect("a fresh page");
    let reader = Reader::open_virtual(dir.page()).expect("a virtual page");
    let read = |t_ref_ns, void_after_ns| {
        publisher.publish(&Publication { bound: Bound { t_ref_ns, void_after_ns, ..locked().bound }, ..locked() });
        reader.now().err()
    };
    assert_eq!(read(now, now + 1), None);
    assert_eq!(read(now, now), Some(Unavailable::Stale));
    assert_eq!(read(now + 1_000_000, i64::MAX), None);
    assert_eq!(read(now + 1_000_001, i64::MAX), Some(Unavailable::BeforeReference));
}

// The life of a page.

/// What a second writer is told.
fn is_taken(page: &Path) -> bool {
    match Publisher::open(page, None, &HostIdentity::here(None)) {
        Ok(_) => false,
        Err(PublishError::AnotherWriter(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

/// A child of this process, with a copy of all that it holds, until it is told to go or to drop its `publisher` and go.
fn fork_with(publisher: Publisher) -> (Publisher, impl FnOnce(bool)) {
    let (mut told, mut tell) = std::io::pipe().expect("two files");
    // SAFETY: the child reads a byte, closes files and mappings, and leaves: it neither allocates nor takes a lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut drops = [0];
        if told.read(&mut drops).is_ok() && drops == [1] {
            drop(publisher);
        }
        // SAFETY: ends the child and returns to nobody.
        unsafe { libc::_exit(0) }
    }
    (publisher, move |drops| {
        tell.write_all(&[u8::from(drops)]).expect("the child listens");
        // SAFETY: waits for a child of ours; no status is wanted.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    })
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let dir = Dir::new();
    let first = dir.publisher();
    assert!(is_taken(&dir.page()));
    drop(first);
    assert!(!is_taken(&dir.page()));
}

/// Once, a test that started a child kept the others' pages taken, until the child ran its program.
#[test]
fn a_dropped_page_is_free_though_a_child_still_holds_its_files() {
    let dir = Dir::new();
    let (first, end) = fork_with(dir.publisher());
    drop(first);
    let is_taken = is_taken(&dir.page());
    end(false);
    assert!(!is_taken);
}

#[test]
fn a_child_that_drops_its_copy_does_not_free_the_page() {
    let dir = Dir::new();
    let (_first, end) = fork_with(dir.publisher());
    end(true);
    assert!(is_taken(&dir.page()));
}

#[test]
fn a_restart_continues_the_same_file() {
    let dir = Dir::new();
    drop(dir.published(&numbered(1)));
    let inode = || std::fs::metadata(dir.page()).expect("there").ino();
    let (first_inode, reader) = (inode(), Reader::open(dir.page()).expect("just published"));
    for n in 2..10 {
        let publisher = dir.publisher();
        assert_eq!(publisher.last(), Some(numbered(n - 1)), "the last run's words are still there");
        assert_eq!(reader.publication(), Some(numbered(n - 1)));
        publisher.publish(&numbered(n));
        assert_eq!((inode(), peek(&dir.page(), header::GENERATION)), (first_inode, n.cast_unsigned()));
        assert_eq!(reader.publication(), Some(numbered(n)), "a reader that is open sees the new run");
    }
    let left: BTreeSet<_> =
        std::fs::read_dir(&dir.0).expect("there").map(|entry| entry.expect("readable").file_name()).collect();
    assert_eq!(left, ["bound".into(), "bound.lock".into()].into());
}

/// Once, the generation was reset in place and the new clock's bounds followed: an open reader aged them by the old
/// clock.
#[test]
fn an_open_reader_never_ages_a_bound_by_another_clock() {
    let dir = Dir::new();
    drop(dir.published(&locked()));
    let raw = Reader::open(dir.page()).expect("just published");
    let mut virtual_readers = Vec::new();
    for at_ns in [S, 2 * S] {
        let publisher = Publisher::open(&dir.page(), Some(frozen(at_ns)), &HostIdentity::here(None))
            .expect("nobody else publishes here");
        assert_eq!(publisher.last(), None, "another clock's bound is no bound");
        publisher.publish(&locked());
        virtual_readers.push(Reader::open_virtual(dir.page()).expect("just published"));
    }
    let retired = Some(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet));
    assert_eq!(raw.now().err(), retired);
    assert_eq!(virtual_readers[0].now().err(), retired);
    assert!(virtual_readers[1].publication().is_some());
}

#[test]
fn a_page_of_another_boot_is_replaced() {
    let dir = Dir::new();
    drop(dir.published(&locked()));
    poke(&dir.page(), header::BOOT_ID, 1);
    let publisher = dir.publisher();
    assert_eq!(publisher.last(), None);
    assert!(Reader::open(dir.page()).is_ok());
}

#[test]
fn whatever_else_lies_there_is_replaced() {
    let dir = Dir::new();
    for content in [vec![], b"hello".to_vec(), vec![0xff; PAGE_BYTES], vec![0; 3 * PAGE_BYTES]] {
        std::fs::write(dir.page(), content).expect("writable");
        drop(dir.published(&numbered(1)));
        assert_eq!(Reader::open(dir.page()).expect("just published").publication(), Some(numbered(1)));
        std::fs::remove_file(dir.page()).expect("there");
    }
}

/// Somebody may still hold such a page open for writing: taking the permission back would not help.
#[test]
fn a_page_that_others_could_write_is_not_continued() {
    let dir = Dir::new();
    drop(dir.published(&numbered(1)));
    set_mode(&dir.page(), 0o666);
    let theirs = OpenOptions::new().write(true).open(dir.page()).expect("anybody may");
    let publisher = dir.published(&numbered(2));
    theirs.write_all_at(&[0xff; PAGE_BYTES], 0).expect("still open");
    assert_eq!(publisher.last(), Some(numbered(2)));
    assert_eq!(Reader::open(dir.page()).expect("0644").publication(), Some(numbered(2)));
}

// A writer that dies. (Pages that lie: fuzz.rs.)

const ROLE: &str = "TRUEBOUND_TEST_PUBLISHES_AT";

/// Not a test by itself: the child of the test below.
#[test]
fn child_that_publishes_until_it_is_killed() {
    let Some(path) = std::env::var_os(ROLE) else {
        return;
    };
    let publisher = Publisher::open(Path::new(&path), None, &HostIdentity::here(None)).expect("the last child is dead");
    let first = publisher.last().map_or(1, |last| last.bound.t_ref_ns + 1);
    for n in first.. {
        publisher.publish(&numbered(n));
    }
}

/// Number of the newest publication; panics if it is a mixture of two.
fn whole(reader: &Reader) -> i64 {
    reader.publication().map_or(0, |publication| {
        let n = publication.bound.t_ref_ns;
        assert_eq!(publication, numbered(n), "a mixture");
        n
    })
}

#[test]
fn a_writer_killed_at_any_instant_strands_nobody() {
    let dir = Dir::new();
    drop(dir.publisher());
    let reader = Reader::open(dir.page()).expect("an empty page is a page");
    let mut random = Random::new(0x6b69_6c6c);
    let mut newest = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_that_publishes_until_it_is_killed"])
            .env(ROLE, dir.page())
            .stdout(Stdio::null())
            .spawn()
            .expect("this test can be run again");
        let enough = newest + 1 + i64::try_from(random.word() % 50_000).expect("small");
        let started = std::time::Instant::now();
        while newest < enough {
            assert!(started.elapsed().as_secs() < 60, "round {round}: the child publishes nothing");
            let n = whole(&reader);
            assert!(n >= newest, "round {round}: {n} after {newest}");
            newest = n;
        }
        child.kill().expect("SIGKILL to our own child");
        child.wait().expect("our own child");
        let n = whole(&reader);
        assert!(n >= newest && n == whole(&reader), "round {round}: {n} after {newest}");
        let interval = reader.now().expect("the last whole publication is still good");
        assert_eq!((interval.epoch, interval.status), (n.cast_unsigned(), numbered(n).status));
        newest = n;
    }
}

// The document.

/// Rows of PAGE.md's table under `heading`: offset, length and name of a field.
fn rows(heading: &str) -> Vec<(usize, usize, String)> {
    let text = include_str!("../PAGE.md");
    let section = text.split(heading).nth(1).expect("PAGE.md has this section");
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = |i: usize| cells[i].parse().expect("a number");
        (number(1), number(2), cells[4].trim_matches('`').to_owned())
    };
    table.skip(2).map(row).collect()
}

fn bytes_of(publication: &Publication, field: &str) -> Vec<u8> {
    let (bound, utc) = (&publication.bound, &publication.utc);
    let asserted = publication.asserted.unwrap_or_default();
    let signed = |value: i64| value.to_ne_bytes().to_vec();
    match field {
        "status" => vec![publication.status as u8],
        "reason" => (publication.reason as u16).to_ne_bytes().to_vec(),
        "epoch" => publication.epoch.to_ne_bytes().to_vec(),
        "t_ref" => signed(bound.t_ref_ns),
        "void_after" => signed(bound.void_after_ns),
        "theta_lo" => signed(bound.theta_lo_ns),
        "theta_hi" => signed(bound.theta_hi_ns),
        "omega_lo" => signed(bound.omega_lo),
        "omega_hi" => signed(bound.omega_hi),
        "cap_lo" => signed(bound.cap_lo),
        "cap_hi" => signed(bound.cap_hi),
        "half_wander" => bound.half_wander.to_ne_bytes().to_vec(),
        "phase_rate" => signed(bound.phase_rate),
        "utc_offset" => utc.offset_s.to_ne_bytes().to_vec(),
        "utc_after" => utc.after_s.to_ne_bytes().to_vec(),
        "utc_change_at" => signed(utc.change_at_ns),
        "wander" => publication.wander_fs_per_s2.to_ne_bytes().to_vec(),
        "phase_noise" => publication.phase_noise_fs.to_ne_bytes().to_vec(),
        "spread" => signed(publication.spread),
        "omega_limit" => signed(publication.omega_limit),
        "clocksource" => publication.clocksource.to_vec(),
        "foretold" => vec![publication.foretold as u8],
        "vm_marker" => publication.vm_mark.disruption_marker.to_ne_bytes().to_vec(),
        "vm_generation" => publication.vm_mark.generation.to_ne_bytes().to_vec(),
        "suspended" => signed(publication.suspended_ns),
        "leap_expiry" => signed(publication.leap_expiry_ns),
        "asserted_theta_lo" => signed(asserted.theta_lo_ns),
        "asserted_theta_hi" => signed(asserted.theta_hi_ns),
        "asserted_omega_lo" => signed(asserted.omega_lo),
        "asserted_omega_hi" => signed(asserted.omega_hi),
        "asserted_present" => 1u64.to_ne_bytes().to_vec(),
        "estimate_theta" => signed(publication.estimate_theta_ns),
        "estimate_omega" => signed(publication.estimate_omega),
        "estimate_sigma" => signed(publication.estimate_sigma_ns),
        "source" => publication.source.to_vec(),
        "groups_configured" => publication.groups.0.to_ne_bytes().to_vec(),
        "groups_answering" => publication.groups.1.to_ne_bytes().to_vec(),
        "assumptions" => publication.assumptions.to_ne_bytes().to_vec(),
        reserved => panic!("PAGE.md has a row `{reserved}` that this test does not know"),
    }
}

/// Every byte that is not zero belongs to a row of PAGE.md, and every row is what it says.
#[test]
fn the_document_describes_every_byte() {
    let dir = Dir::new();
    let clock = VirtualClock { origin_ns: 11, offset_ns: 12, freq: 13, wander: 14, period_ns: 15, phase_ns: 16 };
    let host = HostIdentity { time_namespace: 17, vmclock: Some("/dev/vmclock0".into()) };
    let publisher = Publisher::open(&dir.page(), Some(clock), &host).expect("a fresh page");
    (0..3).for_each(|_| publisher.publish(&distinct()));
    let mut page = std::fs::read(dir.page()).expect("there");
    assert_eq!(page.len(), PAGE_WORDS * 8);
    let mut take = |at: usize, length: usize, name: &str, expected: Vec<u8>| {
        assert_eq!(page[at..at + length], expected, "`{name}` at byte {at}");
        page[at..at + length].fill(0);
    };
    for (slot, start) in [(0, 512), (1, 1024)] {
        for (offset, length, name) in rows("## Slot").into_iter().filter(|(_, _, name)| name != "reserved") {
            take(start + offset, length, &format!("{name} of slot {slot}"), bytes_of(&distinct(), &name));
        }
    }
    let words = |words: &[i64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    for (offset, length, name) in rows("## Header").into_iter().filter(|(_, _, name)| name != "reserved") {
        let expected = match name.as_str() {
            "magic" => b"TRUBOUND".to_vec(),
            "version" => words(&[2]),
            "generation" => words(&[3]),
            "boot_id" => boot_id(),
            "clock" => words(&[2]),
            "virtual_clock" => words(&[11, 12, 13, 14, 15, 16]),
            "time_namespace" => words(&[17]),
            "vmclock" => b"/dev/vmclock0".iter().copied().chain([0; 51]).collect(),
            other => panic!("PAGE.md has a row `{other}` that this test does not know"),
        };
        take(offset, length, &name, expected);
    }
    assert!(page.iter().all(|&byte| byte == 0), "a byte that PAGE.md does not describe");
}

fn boot_id() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    (0..16).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect()
}
