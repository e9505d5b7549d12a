//! The writer against hostile files and its own death, as a client of either layout sees them.

use std::os::unix::fs::symlink;

use super::*;

/// A directory of its own, removed at the end.
struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Room {
        let path = std::env::temp_dir().join(format!("truebound-cb-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Room(path)
    }

    /// Where segments are of this boot.
    fn directory(&self) -> Directory {
        let _ = Directory::open(&self.0).expect("ours").is_vmclock_watched(false).expect("writable");
        Directory::open(&self.0).expect("ours")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A client as its sources have it: maps (here: opens) once, caches by the generation.
struct Client {
    file: File,
    layout: Layout,
    cached: (u16, Vec<u64>),
}

impl Client {
    fn open(room: &Room, layout: Layout) -> Option<Client> {
        let client = Client { file: File::open(room.at(layout.name)).ok()?, layout, cached: (0, Vec::new()) };
        let bytes = client.bytes();
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let is_whole = bytes.len() >= word(8) as usize && word(8) as usize >= 16 + 8 * layout.words;
        (is_whole && [word(0), word(4)] == MAGIC && split(word(12)).0 == layout.version && split(word(12)).1 != 0)
            .then_some(client)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata().expect("open").len()).expect("small")];
        self.file.read_exact_at(&mut bytes, 0).expect("as long as it says");
        bytes
    }

    /// The words that a read uses.
    fn read(&mut self) -> &[u64] {
        let bytes = self.bytes();
        let (version, generation) = split(u32::from_ne_bytes(std::array::from_fn(|i| bytes[12 + i])));
        assert!(version == 0 || version == self.layout.version, "an error at the client");
        if version != 0 && generation != 0 && generation % 2 == 0 && generation != self.cached.0 {
            let body = bytes[16..16 + 8 * self.layout.words].as_chunks::<8>().0;
            self.cached = (generation, body.iter().map(|word| u64::from_ne_bytes(*word)).collect());
        }
        &self.cached.1
    }
}

fn words(layout: Layout, value: u64) -> Vec<u64> {
    vec![value; layout.words]
}

fn order(layout: Layout) -> Vec<usize> {
    (0..layout.words).rev().collect()
}

fn publish(segment: &mut Segment, layout: Layout, value: u64) {
    segment.publish(&words(layout, value), &order(layout), false, 0).expect("nobody else writes");
}

#[test]
fn a_new_segment_is_refused_until_its_first_content() {
    let room = Room::new("new");
    for layout in [SHM0, SHM1] {
        let mut segment = room.directory().segment(layout).expect("a new file");
        assert!(Client::open(&room, layout).is_none(), "version 0: not ready");
        publish(&mut segment, layout, 5);
        assert_eq!(Client::open(&room, layout).expect("ready").read(), words(layout, 5));
        let bytes = std::fs::read(room.at(layout.name)).expect("there");
        #[cfg(target_endian = "little")]
        assert_eq!(bytes[..8], [0x4E, 0x5A, 0x4D, 0x41, 0, 2, 0x42, 0x43]);
        assert_eq!(bytes.len(), 16 + 8 * layout.words);
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&room.0), mode(&room.at(layout.name)), mode(&room.at(LOCK))), (0o755, 0o644, 0o600));
    }
    let names = std::fs::read_dir(&room.0).expect("there").count();
    assert_eq!(names, 3, "no file under a temporary name is left");
}

#[test]
fn a_restart_continues_inode_and_generation() {
    let room = Room::new("restart");
    let mut segment = room.directory().segment(SHM0).expect("a new file");
    publish(&mut segment, SHM0, 1);
    let mut client = Client::open(&room, SHM0).expect("ready");
    client.read();
    let before = segment.head.1;
    drop(segment);
    let mut segment = room.directory().segment(SHM0).expect("the same file");
    assert_eq!(segment.head.1, before);
    assert_eq!(client.read(), words(SHM0, 1), "what is there stays until the first content");
    publish(&mut segment, SHM0, 2);
    assert_eq!(client.read(), words(SHM0, 2), "a client of the first run sees the second");
}

#[test]
fn a_writer_killed_at_any_store_leaves_clients_what_they_had() {
    for layout in [SHM0, SHM1] {
        for stored in 0..=layout.words + 1 {
            let room = Room::new("killed");
            let mut segment = room.directory().segment(layout).expect("a new file");
            publish(&mut segment, layout, 1);
            let mut client = Client::open(&room, layout).expect("ready");
            client.read();
            // The process ends here: nothing of it runs any more.
            segment.begin();
            order(layout).iter().take(stored).for_each(|&index| segment.store(index, &words(layout, 2)));
            if stored > layout.words {
                segment.end(segment.next_generation(0));
            }
            std::mem::forget(segment);
            let expected = if stored > layout.words { 2 } else { 1 };
            assert_eq!(client.read(), words(layout, expected), "{stored} stores");

            let mut segment = room.directory().segment(layout).expect("the same file");
            assert_eq!(client.read(), words(layout, expected), "{stored} stores, and a new writer that said nothing");
            publish(&mut segment, layout, 3);
            assert_eq!(client.read(), words(layout, 3), "{stored} stores, then the next writer's");
            assert_eq!(Client::open(&room, layout).expect("ready").read(), words(layout, 3));
        }
    }
}

#[test]
fn the_generation_wraps_to_2_and_passes_over_what_was_in_force_at_a_break() {
    let room = Room::new("wrap");
    let mut segment = room.directory().segment(SHM0).expect("a new file");
    publish(&mut segment, SHM0, 1);
    assert_eq!(segment.head.1, 2);
    publish(&mut segment, SHM0, 1);
    let mut slow = Client::open(&room, SHM0).expect("ready");
    slow.read();
    // The clock was set: the snapshot of generation 4 must never seem to be the newest.
    segment.publish(&words(SHM0, 2), &order(SHM0), true, 0).expect("nobody else writes");
    segment.show((2, u16::MAX - 1), Ordering::Relaxed);
    publish(&mut segment, SHM0, 3);
    assert_eq!(segment.head.1, 2, "never 0");
    segment.publish(&words(SHM0, 4), &order(SHM0), false, MEMORY_NS - 1).expect("nobody else writes");
    assert_eq!(segment.head.1, 6);
    assert_eq!(slow.read(), words(SHM0, 4));
    segment.show((2, 2), Ordering::Relaxed);
    segment.publish(&words(SHM0, 5), &order(SHM0), false, MEMORY_NS).expect("nobody else writes");
    assert_eq!(segment.head.1, 4, "void to every client by then");
}

#[test]
fn what_is_no_segment_is_made_one_in_place() {
    let whole = {
        let room = Room::new("whole");
        publish(&mut room.directory().segment(SHM0).expect("new"), SHM0, 1);
        std::fs::read(room.at("shm0")).expect("there")
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let longer = [whole.clone(), vec![0xaa; 4000]].concat();
    let hostile = [
        Vec::new(),
        vec![7; 3],
        vec![0xff; 200],
        changed(0, 1),
        changed(8, 79),
        changed(11, 0x7f),
        changed(12, 3),
        changed(12, 0),
        whole[..16].to_vec(),
        whole[..79].to_vec(),
    ];
    for bytes in hostile {
        let room = Room::new("hostile");
        let directory = room.directory();
        std::fs::write(room.at("shm0"), &bytes).expect("ours");
        let inode = std::fs::metadata(room.at("shm0")).expect("there").ino();
        let mut segment = directory.segment(SHM0).expect("made one");
        publish(&mut segment, SHM0, 9);
        assert_eq!(Client::open(&room, SHM0).expect("ready").read(), words(SHM0, 9), "{bytes:?}");
        let facts = std::fs::metadata(room.at("shm0")).expect("there");
        assert_eq!(facts.ino(), inode, "another file");
        assert!(facts.len() >= bytes.len() as u64, "shorter");
    }
    let room = Room::new("longer");
    let directory = room.directory();
    std::fs::write(room.at("shm0"), &longer).expect("ours");
    let segment = directory.segment(SHM0).expect("a sound one");
    assert_eq!(segment.head.1, 2, "continued");
    assert_eq!(std::fs::metadata(room.at("shm0")).expect("there").len(), longer.len() as u64);
}

#[test]
fn files_that_others_could_turn_against_us_are_refused() {
    let room = Room::new("refused");
    let directory = room.directory();
    let path = room.at("shm0");
    let refused = |what: &str| {
        let error = directory.segment(SHM0).expect_err(what);
        assert!(matches!(error, SegmentError::Unfit(..) | SegmentError::Io(..)), "{what}: {error}");
        error.to_string()
    };
    let other = room.at("other");
    std::fs::write(&other, "precious").expect("ours");
    symlink(&other, &path).expect("a link");
    assert!(refused("a symbolic link").contains("symbolic link"));
    std::fs::remove_file(&path).expect("there");
    std::fs::hard_link(&other, &path).expect("a link");
    assert!(refused("a second name").contains("two names"));
    std::fs::remove_file(&path).expect("there");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a FIFO");
    refused("a FIFO");
    std::fs::remove_file(&path).expect("there");
    std::fs::create_dir(&path).expect("a directory");
    refused("a directory");
    std::fs::remove_dir(&path).expect("there");
    std::fs::write(&path, [0; 80]).expect("ours");
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("ours");
    assert!(refused("writable by others").contains("chmod it to 644"));
    assert_eq!(std::fs::read(&other).expect("there"), b"precious");
    drop(directory);
    std::fs::set_permissions(&room.0, Permissions::from_mode(0o777)).expect("ours");
    assert!(matches!(Directory::open(&room.0), Err(SegmentError::Unfit(..))), "a directory that others may write to");
}

#[test]
fn there_is_one_writer() {
    let room = Room::new("one");
    let directory = room.directory();
    assert!(matches!(Directory::open(&room.0), Err(SegmentError::AnotherWriter(_))));
    let mut segment = directory.segment(SHM0).expect("a new file");
    publish(&mut segment, SHM0, 1);
    // A ClockBound daemon knows nothing of our lock.
    segment.mapping.header()[3].store(joined((2, 8)), Ordering::Relaxed);
    let error = segment.publish(&words(SHM0, 2), &order(SHM0), false, 0).expect_err("somebody else wrote");
    assert!(error.to_string().contains("ClockBound daemon"), "{error}");
    assert!(segment.mapping.body().iter().all(|word| word.load(Ordering::Relaxed) == 1), "nothing was stored");
}

#[test]
fn watching_the_hypervisor_is_decided_once_per_boot() {
    let room = Room::new("vmclock");
    let says = |wanted| Directory::open(&room.0).expect("ours").is_vmclock_watched(wanted).expect("writable");
    assert!(says(true));
    assert!(says(false), "clients of this boot watch it");
    std::fs::write(room.at(LOCK), "boot 0000 vmclock 1\n").expect("ours");
    assert!(!says(false), "of another boot");
    assert!(!says(true));
}

#[test]
fn a_segment_of_another_boot_is_closed_until_its_first_content() {
    let room = Room::new("boot");
    let mut segment = room.directory().segment(SHM1).expect("a new file");
    publish(&mut segment, SHM1, 1);
    let mut client = Client::open(&room, SHM1).expect("ready");
    client.read();
    drop(segment);
    std::fs::write(room.at(LOCK), "boot 0000 vmclock 0\n").expect("ours");
    let directory = Directory::open(&room.0).expect("ours");
    let mut segment = directory.segment(SHM1).expect("the same file");
    assert!(Client::open(&room, SHM1).is_none());
    assert_eq!(client.read(), words(SHM1, 1), "whoever is attached (to a file whose lock was lost) keeps what it has");
    publish(&mut segment, SHM1, 2);
    assert_eq!(client.read(), words(SHM1, 2), "and sees the next generation");
    assert_eq!(segment.head, (0x0303, 4));
}

#[test]
fn the_marker_is_what_clients_see() {
    let room = Room::new("marker");
    drop(room.directory());
    let mut page = [0; 104];
    page[..4].copy_from_slice(b"VCLK");
    page[16] = 9;
    let read = |page: &[u8]| {
        std::fs::write(room.at("vmclock0"), page).expect("ours");
        MarkerFile::open(&room.at("vmclock0")).expect("there").read()
    };
    let marker = read(&page).expect("a page");
    assert_eq!((marker.real, marker.seen), (9, 0), "their cache begins with number 0");
    page[12] = 4;
    assert_eq!(read(&page).expect("a page").seen, 9);
    page[12] = 5;
    assert!(read(&page).is_err(), "always being changed");
    assert!(read(b"short").is_err() && read(&[0; 104]).is_err());
}

#[test]
fn a_death_between_the_two_names_does_not_stop_the_next_run() {
    let room = Room::new("link");
    let directory = room.directory();
    drop(directory.segment(SHM0).expect("a new file"));
    // As left by a run that was killed after link(2) and before unlink(2) in `create`.
    std::fs::hard_link(room.at("shm0"), room.at("shm0.4711.new")).expect("a link");
    directory.segment(SHM0).expect("the next run starts");
}

#[test]
fn a_start_that_ends_before_all_segments_are_open_leaves_them_another_boots() {
    let room = Room::new("half-open");
    let mut segment = room.directory().segment(SHM1).expect("a new file");
    publish(&mut segment, SHM1, 1);
    drop(segment);
    std::fs::write(room.at(LOCK), "boot 0000 vmclock 0\n").expect("ours");
    // First start of this boot: segments first, and the lock's word last; it ends in between.
    let directory = Directory::open(&room.0).expect("ours");
    drop(directory.segment(SHM0).expect("a new file"));
    drop(directory);
    let directory = Directory::open(&room.0).expect("ours");
    let _segment = directory.segment(SHM1).expect("the same file");
    assert!(Client::open(&room, SHM1).is_none(), "another boot's snapshot is offered to new clients");
}

#[test]
fn the_generation_survives_version_0() {
    let room = Room::new("gen");
    let mut segment = room.directory().segment(SHM0).expect("a new file");
    publish(&mut segment, SHM0, 1);
    let mut client = Client::open(&room, SHM0).expect("ready");
    client.read(); // generation 2
    drop(segment);
    std::fs::write(room.at(LOCK), "").expect("ours"); // the lock is lost
    let directory = Directory::open(&room.0).expect("ours");
    directory.is_vmclock_watched(false).expect("writable");
    drop(directory.segment(SHM0).expect("closed: version 0")); // and the run is killed here
    drop(directory);
    let directory = Directory::open(&room.0).expect("ours");
    let mut segment = directory.segment(SHM0).expect("the same file");
    publish(&mut segment, SHM0, 2);
    assert_eq!(client.read(), words(SHM0, 2), "same generation as before: the client keeps the old content");
}

/// What ClockBound's daemon does to the file when it starts: File::create, before it writes a header of its own.
#[test]
fn a_file_that_somebody_truncates_is_given_up_and_does_not_kill_us() {
    let room = Room::new("truncated");
    let mut segment = room.directory().segment(SHM0).expect("a new file");
    publish(&mut segment, SHM0, 1);
    drop(File::create(room.at("shm0")).expect("ours"));
    let outcome = segment.publish(&words(SHM0, 2), &order(SHM0), false, 0);
    assert!(matches!(outcome, Err(SegmentError::Overwritten(_))));
}
