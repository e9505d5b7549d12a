//! A read makes no allocation and no system call.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;

use truebound_client::host::{Foretold, HostIdentity, VmMark};
use truebound_client::page::{Publication, UtcOffset};
use truebound_client::{Bound, MonotonicRaw, Publisher, RawClock, Reader, Reason, Status};

const READS: u32 = 100_000;

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

/// A page in a directory of its own, which goes with it.
struct World {
    dir: PathBuf,
    publisher: Publisher,
    reader: Reader,
}

impl World {
    fn new(name: &str) -> World {
        let dir = std::env::temp_dir().join(format!("truebound-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        let publisher = Publisher::open(&dir.join("bound"), None, &HostIdentity::here(None)).expect("a fresh page");
        publisher.publish(&publication());
        let reader = Reader::open(dir.join("bound")).expect("just published");
        World { dir, publisher, reader }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn publication() -> Publication {
    let t_ref_ns = MonotonicRaw.now_ns();
    let bound = Bound {
        t_ref_ns,
        void_after_ns: i64::MAX,
        theta_lo_ns: -500,
        theta_hi_ns: 700,
        omega_lo: -1_000,
        omega_hi: 1_000,
        cap_lo: -50_000_000,
        cap_hi: 50_000_000,
        half_wander: 60_446_291,
        phase_rate: 7,
    };
    Publication {
        status: Status::Locked,
        reason: Reason::Majority,
        epoch: 1,
        bound,
        utc: UtcOffset { offset_s: 37, after_s: UtcOffset::UNKNOWN, change_at_ns: i64::MAX },
        wander_fs_per_s2: 0,
        phase_noise_fs: 0,
        spread: 0,
        omega_limit: 0,
        clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0",
        suspended_ns: 0,
        vm_mark: VmMark::default(),
        foretold: Foretold::Nothing,
        leap_expiry_ns: 0,
        asserted: None,
        estimate_theta_ns: 0,
        estimate_omega: 0,
        estimate_sigma_ns: 0,
        source: [0; 32],
        groups: (4, 4),
        assumptions: 0,
    }
}

#[test]
fn reads_and_publications_allocate_nothing() {
    let world = World::new("alloc");
    let publication = publication();
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
    let world = World::new("seccomp");
    assert_eq!(without_system_calls(|| (0..READS).all(|_| world.reader.now().is_ok())), Ended::Well);
    // SAFETY: takes nothing, gives a number.
    assert_eq!(without_system_calls(|| unsafe { libc::getppid() } > 0), Ended::Killed, "the trap works");
}
