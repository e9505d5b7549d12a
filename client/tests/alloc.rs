//! A read makes no allocation and no system call; a strict one and a tick make no allocation.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use truebound_client::host::HostIdentity;
use truebound_client::page::Publication;
use truebound_client::{MonotonicRaw, Publisher, RawClock, Reader};

mod world;

use world::{Dir, here};

const READS: u32 = 1_000_000;
/// Strict reads and ticks make system calls.
const SLOW_READS: u32 = 10_000;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    ALLOCATIONS.with(|n| n.set(n.get() + 1));
}

// SAFETY: every method hands its arguments to the system allocator unchanged; counting touches a const thread-local.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count();
        // SAFETY: `start` came from `System` by way of this allocator, with this layout.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `start` came from `System` by way of this allocator, with this layout.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A page, its writer and a reader.
struct World {
    publisher: Publisher,
    reader: Reader,
    _dir: Dir,
}

impl World {
    fn new() -> World {
        let dir = Dir::new();
        let publisher = dir.publisher(&HostIdentity::here(None));
        publisher.publish(&here());
        let reader = Reader::open(dir.page()).expect("just published");
        World { publisher, reader, _dir: dir }
    }
}

#[test]
fn reads_and_publications_allocate_nothing() {
    let world = World::new();
    let publication = here();
    let before = ALLOCATIONS.get();
    let mut good = 0;
    for i in 0..READS {
        good += u32::from(world.reader.now().is_ok());
        if i % 1_000 == 0 {
            world.publisher.publish(&publication);
        }
    }
    let during = ALLOCATIONS.get() - before;
    assert_eq!((good, during), (READS, 0));
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 2, "the counter works");
}

#[test]
fn strict_reads_and_ticks_allocate_nothing() {
    let world = World::new();
    let asleep = Publication { suspended_ns: i64::MAX, ..here() };
    for (publication, is_fine) in [(here(), true), (asleep, false)] {
        world.publisher.publish(&publication);
        let before = ALLOCATIONS.get();
        let (mut strict, mut ticks) = (0, 0);
        for _ in 0..SLOW_READS {
            strict += u32::from(world.reader.now_strict().is_ok() == is_fine);
            ticks += u32::from(world.reader.tick().is_ok() == is_fine);
        }
        let during = ALLOCATIONS.get() - before;
        assert_eq!((strict, ticks, during), (SLOW_READS, SLOW_READS, 0), "accepted: {is_fine}");
    }
}

/// How a child of [`without_system_calls`] ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The work was done without a system call, and it said yes.
    Well,
    /// It said no.
    Badly,
    /// The kernel killed it for a system call.
    Killed,
    /// This kernel or container does not allow seccomp.
    NoSeccomp,
}

/// Loads the number of the system call; lets `exit` pass and kills for anything else. (Seccomp's strict mode would not
/// do: it takes the time-stamp counter away as well.)
fn only_exit() -> [libc::sock_filter; 4] {
    let step = |code: u32, jf, k| libc::sock_filter { code: u16::try_from(code).expect("16 bits"), jt: 0, jf, k };
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::try_from(libc::SYS_exit).expect("small")),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}

/// Runs `work` in a forked child that may make no system call but its exit. `work` must not allocate.
fn without_system_calls(work: impl FnOnce() -> bool) -> Ended {
    let mut filter = only_exit();
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the child calls nothing but prctl, `work` (which neither allocates nor locks) and exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: takes integers and no pointer.
        let _ = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: `program` and the four steps it points at are alive; the kernel copies them.
        let refused = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        let code = if refused != 0 { 3 } else { i32::from(!work()) };
        // SAFETY: ends this thread, the child's only one, and returns to nobody; exit_group would be forbidden.
        let _ = unsafe { libc::syscall(libc::SYS_exit, code) };
    }
    let mut status = 0;
    // SAFETY: `status` is a live integer; `child` is ours and not yet waited for.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ended::Well,
        (true, 3) => Ended::NoSeccomp,
        (true, _) => Ended::Badly,
        (false, _) => Ended::Killed,
    }
}

#[test]
fn a_read_makes_no_system_call() {
    match without_system_calls(|| MonotonicRaw.now_ns() > 0) {
        Ended::Well => {}
        ended => return println!("skipped: no seccomp, or no vDSO for this clocksource: {ended:?}"),
    }
    let world = World::new();
    assert_eq!(without_system_calls(|| (0..READS).all(|_| world.reader.now().is_ok())), Ended::Well);
    // SAFETY: takes nothing, gives a number.
    assert_eq!(without_system_calls(|| unsafe { libc::getppid() } > 0), Ended::Killed, "the trap works");
}
