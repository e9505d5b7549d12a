//! Strict reads: each thing that a process can see speak against the page makes `now_strict` and `tick` refuse, and
//! nothing else does. Both sides of every limit; the hypervisor's page is a mock, time namespaces are real.
#![cfg(not(loom))]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use truebound_client::host::{HostIdentity, VmMark};
use truebound_client::page::Publication;
use truebound_client::tick::SUSPEND_RESOLUTION_NS;
use truebound_client::{OpenError, Publisher, Reader, Reason, Status, Unavailable};

mod world;

use world::{Dir, PPM, S, here};

/// A page that a strict read accepts, its writer and a reader.
struct World {
    dir: Dir,
    publisher: Publisher,
    reader: Reader,
}

impl World {
    fn new() -> World {
        World::on(Dir::new(), None, VmMark::default())
    }

    /// On a host whose agent watches `vmclock`, which now says `vm_mark`.
    fn on(dir: Dir, vmclock: Option<PathBuf>, vm_mark: VmMark) -> World {
        let publisher = dir.publisher(&HostIdentity::here(vmclock));
        publisher.publish(&Publication { vm_mark, ..here() });
        let reader = Reader::open(dir.page()).expect("just published");
        World { dir, publisher, reader }
    }

    /// How `now`, `now_strict` and `tick` end.
    fn reads(&self) -> [Option<Unavailable>; 3] {
        [self.reader.now().err(), self.reader.now_strict().err(), self.reader.tick().err()]
    }

    fn reads_of(&self, publication: &Publication) -> [Option<Unavailable>; 3] {
        self.publisher.publish(publication);
        self.reads()
    }
}

/// What every read gives while nothing is wrong.
const FINE: [Option<Unavailable>; 3] = [None; 3];

/// What only strict reads notice.
fn only_strictly(why: Unavailable) -> [Option<Unavailable>; 3] {
    [None, Some(why), Some(why)]
}

#[test]
fn a_strict_read_is_the_plain_one_while_nothing_is_wrong() {
    let world = World::new();
    assert_eq!(world.reads(), FINE);
    let (before, strict, after) = (world.reader.now(), world.reader.now_strict(), world.reader.now());
    let (before, strict, after) = (before.expect("fine"), strict.expect("fine"), after.expect("fine"));
    assert!(before.tai.earliest_ns <= strict.tai.earliest_ns && strict.tai.latest_ns <= after.tai.latest_ns);
    assert_eq!((strict.epoch, strict.status), (before.epoch, before.status));
}

#[test]
fn a_sleep_that_the_page_does_not_know_of_is_noticed_from_a_millisecond_on() {
    let world = World::new();
    let page = here();
    // Reading two clocks is not exact: a tenth of a millisecond on either side of the limit.
    let slack_ns = 100_000;
    for sign in [1, -1] {
        let with = |gap_ns| Publication { suspended_ns: page.suspended_ns + sign * gap_ns, ..page.clone() };
        assert_eq!(world.reads_of(&with(SUSPEND_RESOLUTION_NS - slack_ns)), FINE);
        let slept = only_strictly(Unavailable::Slept);
        assert_eq!(world.reads_of(&with(SUSPEND_RESOLUTION_NS + slack_ns)), slept);
        assert_eq!(world.reads_of(&with(8 * 3600 * S)), slept);
    }
    for extreme in [i64::MIN, i64::MAX] {
        let asleep = Publication { suspended_ns: extreme, ..page.clone() };
        assert_eq!(world.reads_of(&asleep), only_strictly(Unavailable::Slept));
    }
    assert_eq!(world.reads_of(&page), FINE);
}

#[test]
fn another_clocksource_is_noticed_by_its_name() {
    let world = World::new();
    let page = here();
    for at in [0, 15] {
        let mut clocksource = page.clocksource;
        clocksource[at] ^= 1;
        let changed = Publication { clocksource, ..page.clone() };
        assert_eq!(world.reads_of(&changed), only_strictly(Unavailable::ClocksourceChanged));
    }
    assert_eq!(world.reads_of(&page), FINE);
}

#[test]
fn a_withdrawn_bound_is_no_strict_bound_but_a_tick_needs_none() {
    let world = World::new();
    for (status, reason) in [(Status::Void, Reason::SourcesDisagree), (Status::FreeRunning, Reason::BoundExpired)] {
        let why = Some(Unavailable::NoBound(status, reason));
        assert_eq!(world.reads_of(&Publication { status, reason, ..here() }), [why, why, None]);
        assert_eq!(world.reader.tick().expect("by its class").rates.omega_hi, 1_000 * PPM);
    }
    let doubt = Publication { status: Status::Disrupted, reason: Reason::OscillatorBroke, ..here() };
    let why = Some(Unavailable::NoBound(Status::Disrupted, Reason::OscillatorBroke));
    assert_eq!(world.reads_of(&doubt), [why; 3], "the class itself is in doubt");
}

// The hypervisor's page.

/// A mock of the hypervisor's page: a file with what its fields say (struct vmclock_abi), which is not a device.
struct MockVm {
    file: File,
    path: PathBuf,
}

const DISRUPTION_MARKER: u64 = 16;
const FLAGS: u64 = 24;
const GENERATION: u64 = 104;
const HAS_GENERATION: u64 = 1 << 8;

impl MockVm {
    fn new(dir: &Dir) -> MockVm {
        let path = dir.0.join("vmclock0");
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(b"VCLK");
        bytes[4..8].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[8..10].copy_from_slice(&1_u16.to_le_bytes());
        std::fs::write(&path, bytes).expect("ours");
        MockVm { file: OpenOptions::new().write(true).open(&path).expect("ours"), path }
    }

    fn set(&self, at: u64, word: u64) {
        self.file.write_all_at(&word.to_le_bytes(), at).expect("ours");
    }
}

/// A world whose agent watches a mock that says `mark`.
fn watched(mark: VmMark) -> (World, MockVm) {
    let dir = Dir::new();
    let vm = MockVm::new(&dir);
    vm.set(DISRUPTION_MARKER, mark.disruption_marker);
    vm.set(FLAGS, HAS_GENERATION);
    vm.set(GENERATION, mark.generation);
    (World::on(dir, Some(vm.path.clone()), mark), vm)
}

const MARK: VmMark = VmMark { disruption_marker: 7, generation: 3 };

#[test]
fn every_read_notices_that_the_vm_was_moved() {
    let (world, vm) = watched(MARK);
    assert_eq!(world.reads(), FINE);
    let moved = [Some(Unavailable::VmMoved); 3];
    for (at, mark) in [(DISRUPTION_MARKER, MARK.disruption_marker), (GENERATION, MARK.generation)] {
        for other in [mark + 1, mark - 1, 0, u64::MAX] {
            vm.set(at, other);
            assert_eq!(world.reads(), moved, "{at}: {other}");
        }
        vm.set(at, mark);
        assert_eq!(world.reads(), FINE);
    }
    // The agent has seen the move and measured anew.
    vm.set(DISRUPTION_MARKER, 8);
    let again = Publication { vm_mark: VmMark { disruption_marker: 8, ..MARK }, ..here() };
    assert_eq!(world.reads_of(&again), FINE);
}

#[test]
fn without_a_generation_counter_its_field_is_not_looked_at() {
    let (world, vm) = watched(MARK);
    vm.set(FLAGS, 0);
    assert_eq!(world.reads(), [Some(Unavailable::VmMoved); 3], "the counter that was there is gone");
    let without = Publication { vm_mark: VmMark { generation: 0, ..MARK }, ..here() };
    assert_eq!(world.reads_of(&without), FINE);
    vm.set(GENERATION, 99);
    assert_eq!(world.reads(), FINE);
}

#[test]
fn strict_reads_refuse_where_the_watched_page_cannot_be_opened() {
    let absent = |dir: &Dir| dir.0.join("absent");
    let empty = |dir: &Dir| {
        std::fs::write(dir.0.join("empty"), b"").expect("ours");
        dir.0.join("empty")
    };
    let foreign = |dir: &Dir| {
        std::fs::write(dir.0.join("foreign"), [0; 4096]).expect("ours");
        dir.0.join("foreign")
    };
    for path in [&absent as &dyn Fn(&Dir) -> PathBuf, &empty, &foreign] {
        let dir = Dir::new();
        let path = path(&dir);
        let world = World::on(dir, Some(path.clone()), MARK);
        assert_eq!(world.reads(), only_strictly(Unavailable::VmClockHidden), "{}", path.display());
    }
}

#[test]
fn a_mark_means_nothing_where_no_hypervisors_page_is_named() {
    let world = World::new();
    assert_eq!(world.reads_of(&Publication { vm_mark: MARK, ..here() }), FINE);
}

// Time namespaces: real ones, in children.

const ROLE: &str = "TRUEBOUND_TEST_OPENS";

/// Not a test by itself: what the next one runs in another time namespace.
#[test]
fn child_that_opens_a_page() {
    if let Some(path) = std::env::var_os(ROLE) {
        match Reader::open(Path::new(&path)) {
            Ok(_) => println!("opened"),
            Err(OpenError::OtherTimeNamespace(_)) => println!("refused"),
            Err(error) => println!("{error}"),
        }
    }
}

/// What a child that opens the page says, started by `wrapper`.
fn opened_by(wrapper: &[&str], page: &Path) -> String {
    let program = std::env::current_exe().expect("this test");
    let mut words = wrapper.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().expect("a program"));
    let arguments = ["--exact", "child_that_opens_a_page", "--nocapture"];
    let output = command.args(words).args(arguments).env(ROLE, page).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How to start a program in a new time namespace: as root, or else in a user namespace.
fn unshare_time() -> Option<&'static [&'static str]> {
    let offered: [&[&str]; 2] =
        [&["unshare", "-T", "--monotonic", "1000"], &["unshare", "-U", "-r", "-T", "--monotonic", "1000"]];
    offered.into_iter().find(|words| {
        Command::new(words[0]).args(&words[1..]).arg("true").output().is_ok_and(|output| output.status.success())
    })
}

#[test]
fn a_page_of_another_time_namespace_is_not_opened() {
    let world = World::new();
    let page = world.dir.page();
    assert!(opened_by(&[], &page).contains("opened"));
    let Some(unshare) = unshare_time() else {
        return println!("skipped: no time namespace can be made here (kernel before 5.6, or not permitted)");
    };
    assert!(opened_by(unshare, &page).contains("refused"));
}

/// Ends this process, a fork's child.
fn leave(code: i32) -> ! {
    // SAFETY: ends the child and returns to nobody.
    unsafe { libc::_exit(code) }
}

/// The exit code of a forked child that runs `work`, which must neither allocate nor lock.
fn code_of_child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child does nothing but `work`, and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        leave(work());
    }
    let mut status = 0;
    // SAFETY: `status` is a live integer; `child` is ours, or −1 where fork failed.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if waited == child && libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
}

/// Children of this process will be in a new time namespace, 1000 s ahead. False where that is not permitted.
fn unshare_time_of_children() -> bool {
    let is_permitted = [libc::CLONE_NEWTIME, libc::CLONE_NEWUSER | libc::CLONE_NEWTIME].into_iter().any(|namespaces| {
        // SAFETY: takes an integer.
        unsafe { libc::unshare(namespaces) == 0 }
    });
    if !is_permitted {
        return false;
    }
    let offsets = b"monotonic 1000 0\n";
    // SAFETY: a C string.
    let file = unsafe { libc::open(c"/proc/self/timens_offsets".as_ptr(), libc::O_WRONLY) };
    // SAFETY: as many bytes as stated are there.
    let written = unsafe { libc::write(file, offsets.as_ptr().cast(), offsets.len()) };
    usize::try_from(written) == Ok(offsets.len())
}

#[test]
fn a_page_that_lost_its_name_is_refused_strictly() {
    let world = World::new();
    let other = world.dir.0.join("other");
    std::fs::hard_link(world.dir.page(), &other).expect("ours");
    std::fs::remove_file(world.dir.page()).expect("ours");
    assert_eq!(world.reads(), FINE, "it is still somewhere");
    std::fs::write(world.dir.0.join("next"), b"another file").expect("ours");
    std::fs::rename(world.dir.0.join("next"), other).expect("ours");
    assert_eq!(world.reads(), only_strictly(Unavailable::Replaced));
}

/// J = 1e-4 s per root s, as an operator stated it: in a second θ may move by Ω and by 100 µs.
#[test]
fn a_tick_without_a_bound_knows_the_stated_phase_noise() {
    let page = Publication {
        status: Status::Starting,
        reason: Reason::NoAnswerYet,
        phase_noise_fs: 100_000_000_000,
        bound: truebound_client::Bound::default(),
        ..here()
    };
    let tick = |raw_ns| page.tick_at(raw_ns, page.suspended_ns).expect("the class is stated");
    let omega_ns = i64::try_from((i128::from(S) * i128::from(page.omega_limit)) >> 40).expect("small");
    let most_ns = tick(S).since(&tick(0)).most_ns.expect("nothing broke");
    assert!(most_ns >= S + omega_ns + 100_000, "{most_ns}");
}

#[test]
fn a_reader_carried_by_fork_into_another_time_namespace_refuses_strictly() {
    const NOT_PERMITTED: i32 = 77;
    let world = World::new();
    let refuses = |refusal: Option<Unavailable>| {
        let reads = [world.reader.now_strict().err(), world.reader.tick().err()];
        i32::from(reads != [refusal; 2])
    };
    assert_eq!(code_of_child(|| code_of_child(|| refuses(None))), 0, "a fork alone changes nothing");
    let elsewhere = code_of_child(|| {
        let is_done = unshare_time_of_children();
        if is_done { code_of_child(|| refuses(Some(Unavailable::OtherTimeNamespace))) } else { NOT_PERMITTED }
    });
    if elsewhere == NOT_PERMITTED {
        return println!("skipped: no time namespace can be made here (kernel before 5.6, or not permitted)");
    }
    assert_eq!(elsewhere, 0);
}
