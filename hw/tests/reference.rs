//! Reference clocks with real segments and sockets: written as gpsd writes them, read as chrony and ntpd read them.

use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use truebound_core::io::FeedSample;
use truebound_core::time::RealTime;
use truebound_core::wire::reference::{SHM_BYTES, SHM_KEY, SOCK_BYTES, shm_segment, sock_datagram};
use truebound_hw::reference::shm::{Look, ShmClock, ShmFeed};
use truebound_hw::reference::sock::{SockClock, SockFeed};

/// struct shmTime, as C has it.
#[derive(Clone, Copy)]
#[repr(C)]
struct ShmTime {
    mode: i32,
    count: i32,
    clock_s: i64,
    clock_us: i32,
    real_s: i64,
    real_us: i32,
    leap: i32,
    precision: i32,
    samples: i32,
    valid: i32,
    clock_ns: u32,
    real_ns: u32,
    dummy: [i32; 8],
}

const _: () = assert!(size_of::<ShmTime>() == SHM_BYTES);

/// A daemon that owns a segment of this host; the segment goes with it.
struct Writer {
    id: i32,
    time: *mut ShmTime,
}

// SAFETY: the pointer is to shared memory that stays attached until the drop, wherever that happens.
unsafe impl Send for Writer {}

impl Writer {
    fn new(unit: u8, mode: i32, permissions: i32) -> Writer {
        // SAFETY: the call takes and returns integers only.
        let id = unsafe { libc::shmget(SHM_KEY + i32::from(unit), SHM_BYTES, libc::IPC_CREAT | permissions) };
        assert!(id >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let time: *mut ShmTime = unsafe { libc::shmat(id, ptr::null(), 0) }.cast();
        assert!(time.addr() != usize::MAX, "{}", std::io::Error::last_os_error());
        let writer = Writer { id, time };
        writer.set(offset_of!(ShmTime, mode), mode);
        writer
    }

    /// Volatile accesses with fences between them, as the C programs have them.
    fn set<T: Copy>(&self, offset: usize, value: T) {
        // SAFETY: `offset` is that of a field of type T in the structure, which is attached and aligned.
        unsafe { self.time.wrapping_byte_add(offset).cast::<T>().write_volatile(value) };
    }

    fn get(&self, offset: usize) -> i32 {
        // SAFETY: as above.
        unsafe { self.time.wrapping_byte_add(offset).cast::<i32>().read_volatile() }
    }

    fn count(&self) -> i32 {
        self.get(offset_of!(ShmTime, count))
    }

    fn valid(&self) -> i32 {
        self.get(offset_of!(ShmTime, valid))
    }

    /// CLOCK_REALTIME showed `s`.`ns` when the clock said three seconds more.
    fn write(&self, s: i64, ns: u32) {
        self.set(offset_of!(ShmTime, valid), 0);
        self.set(offset_of!(ShmTime, count), self.count().wrapping_add(1));
        fence(Ordering::SeqCst);
        let us = i32::try_from(ns / 1_000).expect("below a million");
        self.set(offset_of!(ShmTime, clock_s), s + 3);
        self.set(offset_of!(ShmTime, clock_us), us);
        self.set(offset_of!(ShmTime, clock_ns), ns);
        self.set(offset_of!(ShmTime, real_s), s);
        self.set(offset_of!(ShmTime, real_us), us);
        self.set(offset_of!(ShmTime, real_ns), ns);
        fence(Ordering::SeqCst);
        self.set(offset_of!(ShmTime, count), self.count().wrapping_add(1));
        self.set(offset_of!(ShmTime, valid), 1);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: attached by `new`, and nobody has a reference into it.
        unsafe { libc::shmdt(self.time.cast()) };
        // SAFETY: takes integers and a pointer that this command ignores.
        unsafe { libc::shmctl(self.id, libc::IPC_RMID, ptr::null_mut()) };
    }
}

fn whole(clock: &mut ShmClock) -> [u8; SHM_BYTES] {
    match clock.look().expect("a segment") {
        Look::Whole(bytes) => bytes,
        Look::Torn => panic!("nobody writes"),
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("inside")
}

/// Seconds and ns of both stamps.
fn stamps(bytes: &[u8]) -> [(i64, u32); 2] {
    [(8, 52), (24, 56)].map(|(s, ns)| (i64::from_ne_bytes(field(bytes, s)), u32::from_ne_bytes(field(bytes, ns))))
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("truebound-reference-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_segment_is_read_as_it_was_written_and_is_not_touched() {
    let mut clock = ShmClock::new(201);
    assert!(clock.look().is_err(), "absent");
    let writer = Writer::new(201, 1, 0o600);
    writer.write(1_790_000_000, 123_456_789);
    assert_eq!(stamps(&whole(&mut clock)), [(1_790_000_003, 123_456_789), (1_790_000_000, 123_456_789)]);
    assert_eq!(writer.valid(), 1, "in mode 1 the count is enough");
    assert!(!clock.is_exposed());
    // The daemon ends, and another one begins: its segment has another number.
    drop(writer);
    assert!(clock.look().is_err(), "removed");
    let writer = Writer::new(201, 1, 0o666);
    writer.write(1_790_000_009, 1_000);
    assert_eq!(stamps(&whole(&mut clock))[1], (1_790_000_009, 1_000));
    assert!(clock.is_exposed(), "everybody may write");
}

#[test]
fn without_a_count_the_reader_answers() {
    let writer = Writer::new(202, 0, 0o600);
    writer.write(5, 0);
    let mut clock = ShmClock::new(202);
    assert_eq!(field::<4>(&whole(&mut clock), 48), 1i32.to_ne_bytes());
    assert_eq!(writer.valid(), 0, "the writer may go on");
    assert_eq!(field::<4>(&whole(&mut clock), 48), 0i32.to_ne_bytes(), "and there is nothing new");
}

#[test]
fn a_copy_is_never_torn_however_often_somebody_writes() {
    let writer = Writer::new(203, 1, 0o600);
    writer.write(1, 1);
    let (mut clock, ends) = (ShmClock::new(203), Ends(AtomicBool::new(false)));
    let mut seen = 0u64;
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| {
            let writer = writer;
            let mut n = 0u32;
            while !ends.0.load(Ordering::Relaxed) {
                n = (n + 1) % 999_999_999;
                writer.write(i64::from(n), n);
                (0..n % 512).for_each(|_| std::hint::spin_loop());
            }
            // It goes with its segment, after the reader.
            writer
        });
        for _ in 0..20_000 {
            let Look::Whole(bytes) = clock.look().expect("a segment") else { continue };
            let [(clock_s, clock_ns), (real_s, real_ns)] = stamps(&bytes);
            assert_eq!((clock_s - 3, clock_ns), (real_s, real_ns));
            assert_eq!(real_s, i64::from(real_ns));
            seen += 1;
        }
        ends.0.store(true, Ordering::Relaxed);
        drop(writes.join().expect("no panic"));
    });
    assert!(seen > 0, "some copies were whole");
}

#[test]
fn what_we_write_is_what_we_read() {
    let sample = FeedSample { at: RealTime::from_ns(1_790_000_000_123_456_789), ahead_ns: -5_000, leap: 1 };
    let mut feed = ShmFeed::new(204);
    feed.write(&shm_segment(&sample)).expect("a segment of our own");
    // Owns it from here on.
    let owner = Writer::new(204, 1, 0o600);
    let mut clock = ShmClock::new(204);
    let bytes = whole(&mut clock);
    assert_eq!(stamps(&bytes), [(1_790_000_000, 123_451_789), (1_790_000_000, 123_456_789)]);
    assert_eq!((owner.count(), owner.valid()), (2, 1));
    feed.write(&shm_segment(&sample)).expect("again");
    assert_eq!(owner.count(), 4);
}

#[test]
fn a_socket_is_its_owners_and_goes_with_it() {
    let dir = Dir::new("owner");
    let path = dir.0.join("gps.sock");
    let clock = SockClock::bind(&path, 0o600).expect("a socket");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let mut buffer = [0; 64];
    assert_eq!(clock.receive(&mut buffer).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    let sample = FeedSample { at: RealTime::from_ns(1_790_000_000_123_456_789), ahead_ns: -5_000, leap: 0 };
    let feed = SockFeed::new(&path).expect("a socket");
    feed.send(&sock_datagram(&sample)).expect("somebody is there");
    assert_eq!(clock.receive(&mut buffer).expect("a datagram"), SOCK_BYTES);
    assert_eq!(buffer[..SOCK_BYTES], sock_datagram(&sample));
    assert_eq!(SockClock::bind(&path, 0o600).map_err(|e| e.kind()).err(), Some(std::io::ErrorKind::AddrInUse));
    drop(clock);
    assert!(!path.exists());
    assert!(feed.send(&[1]).is_err(), "nobody is there");
    let again = SockClock::bind(&path, 0o666).expect("a socket");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o666);
    feed.send(&[1]).expect("the other one came back");
    assert_eq!(again.receive(&mut buffer).expect("a datagram"), 1);
}

#[test]
fn a_socket_that_nobody_reads_takes_no_time() {
    let dir = Dir::new("full");
    let path = dir.0.join("full.sock");
    let _clock = SockClock::bind(&path, 0o600).expect("a socket");
    let feed = SockFeed::new(&path).expect("a socket");
    let refused = (0..100_000).find_map(|_| feed.send(&[0; SOCK_BYTES]).err()).expect("a queue has an end");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn what_is_left_of_a_daemon_that_is_gone_is_removed_and_nothing_else() {
    let dir = Dir::new("left");
    let path = dir.0.join("gps.sock");
    drop(UnixDatagram::bind(&path).expect("a socket"));
    assert!(path.exists(), "its file stays");
    drop(SockClock::bind(&path, 0o600).expect("nobody's"));
    fs::write(&path, "a file of somebody's").expect("written");
    let refused = SockClock::bind(&path, 0o600).map_err(|error| error.kind()).err();
    assert_eq!(refused, Some(std::io::ErrorKind::AlreadyExists));
    assert!(path.exists());
}

/// Tells the other thread that this one ended, however it ended.
struct Ends(AtomicBool);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
