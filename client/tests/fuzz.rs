//! Pages that no agent writes: random, mutated, torn, truncated, replaced, of other versions. A reader never panics,
//! never hangs, and whatever interval it gives is that of a page that was there, by PAGE.md's formula evaluated
//! independently (`fuzz/oracle.rs`). Ten million pages in release, a hundred thousand in debug.
//!
//! Truncation to nothing under a live mapping is a bus error, by the kernel's rule for mappings. Only the file's owner can
//! do that, and the agent never does: it never truncates a page (PAGE.md, life cycle).
#![cfg(not(loom))]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use truebound_client::host::HostIdentity;
use truebound_client::page::{PAGE_BYTES, Publication, UtcOffset};
use truebound_client::{Bound, Publisher, Reader, Status, Unavailable, VirtualClock};

#[path = "fuzz/memory.rs"]
mod memory;
#[path = "fuzz/oracle.rs"]
mod oracle;
mod world;

use memory::Memory;
use oracle::{Words, evaluate, newest_slot};
use world::{Dir, PPM, Random, S, frozen, here};

/// Raw time in these worlds.
const AT: i64 = 1_000 * S;
/// Pages of all tests together.
const PAGES: usize = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };

/// A page, a reader that opened it when it was whole, and the power to write anything into it.
struct Prey {
    dir: Dir,
    file: File,
    memory: Memory,
    reader: Reader<VirtualClock>,
    /// Whole pages that differ in every word that means anything.
    whole: [Words; 2],
    /// The suspend counter on them.
    slept_ns: i64,
    /// The file still has a name.
    is_in_place: bool,
    tally: Tally,
}

/// How the reads ended: a fuzzer that only ever meets one branch finds nothing.
#[derive(Debug, Default)]
struct Tally {
    intervals: usize,
    strict: usize,
    ticks: usize,
    without: usize,
}

impl Prey {
    fn new() -> Prey {
        let dir = Dir::new();
        let publisher =
            Publisher::open(&dir.page(), Some(frozen(AT)), &HostIdentity::here(None)).expect("a fresh page");
        let file = OpenOptions::new().read(true).write(true).open(dir.page()).expect("ours");
        let memory = Memory::map(&file);
        let whole = [[1, 2], [3, 4]].map(|pair| {
            pair.into_iter().for_each(|n| publisher.publish(&numbered(n)));
            memory.load()
        });
        let reader = Reader::open_virtual(dir.page()).expect("a whole page");
        let slept_ns = numbered(1).suspended_ns;
        Prey { dir, file, memory, reader, whole, slept_ns, is_in_place: true, tally: Tally::default() }
    }

    /// Puts `words` there and reads them in every way.
    fn check(&mut self, words: &Words) {
        self.memory.store(words);
        self.check_as_it_is(words);
    }

    /// The page holds `words` by now.
    fn check_as_it_is(&mut self, words: &Words) {
        let expected = evaluate(words, AT);
        assert_eq!(self.reader.now(), expected, "{words:x?}");
        let is_as_published = self.is_as_published(words);
        let strict = self.reader.now_strict();
        match is_as_published {
            Some(true) => assert_eq!(strict, expected, "{words:x?}"),
            Some(false) => assert!(strict.is_err(), "{words:x?}"),
            None => {}
        }
        let publication = self.reader.publication();
        let seen = publication.as_ref().map(|publication| publication.interval_at(AT));
        let is_readable = words[2] != 0 && Status::from_number(words[newest_slot(words)].to_ne_bytes()[0]).is_some();
        assert_eq!(seen.is_some(), is_readable, "{words:x?}");
        assert!(seen.is_none_or(|seen| seen == expected), "{words:x?}");
        let _ = publication.as_ref().map(|publication| publication.asserted_at(AT));
        let tick = self.reader.tick();
        assert!(tick.is_err() || is_as_published != Some(false), "{words:x?}");
        if let Ok(tick) = tick {
            let elapsed = tick.since(&tick);
            assert!(elapsed.most_ns.is_none_or(|most_ns| elapsed.least_ns <= most_ns));
        }
        self.tally.intervals += usize::from(expected.is_ok());
        self.tally.strict += usize::from(strict.is_ok());
        self.tally.ticks += usize::from(tick.is_ok());
        self.tally.without += usize::from(expected.is_err());
    }

    /// Does the page name this host's clocksource and suspend counter, and is it in its place? `None` near the limit of a millisecond.
    fn is_as_published(&self, words: &Words) -> Option<bool> {
        let (now, then) = (&words[newest_slot(words)..], &self.whole[0][newest_slot(&self.whole[0])..]);
        let slept_us = (now[22].cast_signed().saturating_sub(self.slept_ns) / 1_000).saturating_abs();
        if (900..1_100).contains(&slept_us) {
            return None;
        }
        Some(now[20..22] == then[20..22] && slept_us < 1_000 && self.is_in_place)
    }

    fn expect_a_mixed_bag(&self) {
        println!("{:?}", self.tally);
        let Tally { intervals, strict, ticks, without } = self.tally;
        assert!([intervals, strict, ticks, without].into_iter().all(|count| count > 100), "{:?}", self.tally);
    }
}

/// Publication number `n`: every hot word follows from `n`, and a strict read accepts it.
fn numbered(n: i64) -> Publication {
    static HERE: std::sync::OnceLock<Publication> = std::sync::OnceLock::new();
    let here = HERE.get_or_init(here);
    let bound = Bound {
        t_ref_ns: AT - n % 1_000 * S / 2,
        void_after_ns: AT + n,
        theta_lo_ns: 1_000_000 * S - 3 * n,
        theta_hi_ns: 1_000_000 * S + 7 * n,
        omega_lo: -n % (20 * PPM),
        omega_hi: 5 * n % (30 * PPM),
        cap_lo: -50 * PPM - n,
        cap_hi: 50 * PPM + n,
        half_wander: n.unsigned_abs() % 1_000_000_000,
        phase_rate: n % 1_000,
    };
    let status = if n % 7 == 6 { Status::ALL[usize::try_from(n / 7 % 6).unwrap_or(0)] } else { Status::Locked };
    // Around the instant, so that each of the four cases of PAGE.md is met.
    let utc = UtcOffset {
        offset_s: 37,
        after_s: if n % 3 == 0 { UtcOffset::unknown(i32::try_from(n % 1_200).unwrap_or(1)) } else { 38 },
        change_at_ns: 1_000_000 * S + AT + (n % 5 - 2) * n,
    };
    Publication { status, epoch: n.unsigned_abs(), bound, utc, estimate_sigma_ns: n, ..here.clone() }
}

/// Changes one to eight words, each wholly or in one bit.
fn mutate(words: &mut Words, random: &mut Random) {
    for _ in 0..=random.below(8) {
        // Mostly where a read looks: the first words of the newest slot.
        let index = match random.below(10) {
            0 => 2,
            1 => 64 + random.below(128),
            2 => newest_slot(words) + random.below(38),
            _ => newest_slot(words) + random.below(16),
        };
        match random.below(3) {
            0 => words[index] = random.any_size(),
            1 => words[index] = words[index].wrapping_add((random.any_size().cast_signed() >> 40).cast_unsigned()),
            _ => words[index] ^= 1 << random.below(64),
        }
    }
}

#[test]
fn random_pages() {
    let (mut prey, mut random) = (Prey::new(), Random::new(0x7261_6e64));
    for _ in 0..PAGES / 5 {
        let mut words = prey.whole[0];
        words[2] = random.any_size();
        let slot = newest_slot(&words);
        // The words that a strict read compares stay, half the time.
        let kept = if random.below(2) == 0 { 20..23 } else { 0..0 };
        for index in (0..64).filter(|index| !kept.contains(index)) {
            words[slot + index] = random.any_size();
        }
        words[slot] = (words[slot] & !0xff) | (random.word() % 8);
        if random.below(2) == 0 {
            words[slot + 3] = i64::MAX.cast_unsigned();
        }
        prey.check(&words);
    }
    prey.expect_a_mixed_bag();
}

#[test]
fn mutated_pages() {
    let (mut prey, mut random) = (Prey::new(), Random::new(0x6d75_7461));
    for n in 0..PAGES / 2 {
        let mut words = prey.whole[n % 2];
        mutate(&mut words, &mut random);
        prey.check(&words);
    }
    prey.expect_a_mixed_bag();
}

#[test]
fn torn_pages() {
    let (mut prey, mut random) = (Prey::new(), Random::new(0x746f_726e));
    for n in 0..PAGES / 5 {
        let [mut words, other] = prey.whole;
        for mask in [random.word(), random.word()] {
            let slot = 64 + 64 * random.below(2);
            (0..64).filter(|bit| mask >> bit & 1 == 1).for_each(|bit| words[slot + bit] = other[slot + bit]);
        }
        words[2] += n as u64;
        prey.check(&words);
    }
    // Both halves are sound: torn ones mostly give intervals, and that is why the generation is checked.
    assert!(prey.tally.intervals > PAGES / 10, "{:?}", prey.tally);
}

#[test]
fn truncated_pages() {
    let (mut prey, mut random) = (Prey::new(), Random::new(0x7472_756e));
    for n in 0..PAGES / 20 {
        let mut words = prey.whole[n % 2];
        prey.memory.store(&words);
        // Mostly in the two slots, or before them.
        let most = if random.below(4) == 0 { PAGE_BYTES - 1 } else { 1_600 };
        let length = 1 + random.below(most);
        prey.file.set_len(length as u64).expect("ours");
        for (index, word) in words.iter_mut().enumerate() {
            let left = length.saturating_sub(index * 8).min(8);
            let mut bytes = word.to_ne_bytes();
            bytes[left..].fill(0);
            *word = u64::from_ne_bytes(bytes);
        }
        prey.check_as_it_is(&words);
        prey.file.set_len(PAGE_BYTES as u64).expect("ours");
    }
    prey.expect_a_mixed_bag();
}

/// A header that lies is refused, or opened and then read like any other; a page that is renamed over stays what it was
/// for those who have it open, but for strict reads.
#[test]
fn replaced_pages_and_other_headers() {
    let (mut prey, mut random) = (Prey::new(), Random::new(0x6865_6164));
    let (fresh, mut opened, mut refused) = (prey.dir.0.join("other"), 0, 0);
    for n in 0..PAGES / 20 {
        let kept = prey.whole[n % 2];
        prey.memory.store(&kept);
        let mut words = kept;
        for _ in 0..random.below(3) {
            let index = [random.below(21), 6 + random.below(6)][random.below(2)];
            words[index] = [random.any_size(), words[index] ^ 1 << random.below(64)][random.below(2)];
        }
        if n % 16 == 0 {
            // A new inode each time; otherwise the file of last time, which no reader has open any more.
            let _ = std::fs::remove_file(&fresh);
        }
        write_page(&fresh, &words);
        match Reader::open_virtual(&fresh) {
            Ok(other) => {
                opened += 1;
                assert!([0, 1, 3, 4, 5, 12].iter().all(|&index| words[index] == kept[index]), "{words:x?}");
                let _ = (other.now(), other.now_strict(), other.tick(), other.publication());
            }
            Err(_) => refused += 1,
        }
        if n % 16 == 0 {
            std::fs::rename(&fresh, prey.dir.page()).expect("ours");
            prey.is_in_place = false;
            prey.check_as_it_is(&kept);
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened.min(refused) > PAGES / 200);
}

fn write_page(path: &std::path::Path, words: &Words) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("ours");
    file.write_all_at(&bytes, 0).expect("ours");
}

#[test]
fn readers_beside_a_hasty_writer_only_see_whole_publications() {
    let reads = PAGES / 10;
    let dir = Dir::new();
    let publisher = Publisher::open(&dir.page(), Some(frozen(AT)), &HostIdentity::here(None)).expect("a fresh page");
    publisher.publish(&numbered(1));
    let reader = Reader::open_virtual(dir.page()).expect("a whole page");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 2.. {
                publisher.publish(&numbered(n));
                if is_over.load(Ordering::Relaxed) {
                    println!("{n} publications beside {reads} reads");
                    break;
                }
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read_whole_ones(&reader, reads)));
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Every interval and every publication is one that was published; a reader sees them in order.
fn read_whole_ones(reader: &Reader<VirtualClock>, reads: usize) {
    let (mut newest, mut contended) = (0, 0);
    for _ in 0..reads {
        match reader.now() {
            Ok(interval) => {
                let n = interval.epoch.cast_signed();
                assert_eq!(Ok(interval), numbered(n).interval_at(AT), "a mixture");
                assert!(n >= newest, "{n} after {newest}");
                newest = n;
            }
            Err(Unavailable::Contended) => contended += 1,
            Err(error) => assert!(matches!(error, Unavailable::NoBound(..)), "{error}"),
        }
        if let Some(publication) = reader.publication() {
            assert_eq!(publication, numbered(publication.epoch.cast_signed()), "a mixture");
        }
    }
    assert!(newest > 1 && contended < reads / 100, "newest {newest}, {contended} contended");
}

#[test]
fn truncation_to_nothing_is_a_bus_error_and_only_the_owner_can_do_it() {
    let prey = Prey::new();
    let descriptor = prey.file.as_raw_fd();
    // SAFETY: the child calls nothing but ftruncate, `now` (which neither allocates nor locks) and _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: takes integers.
        let truncated = unsafe { libc::ftruncate(descriptor, 0) };
        let code = i32::from(truncated == 0 && prey.reader.now().is_err());
        // SAFETY: ends the child and returns to nobody.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is a live integer; the child is ours and not yet waited for.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGBUS, "{status:#x}");
}
