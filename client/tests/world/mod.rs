//! What several tests need: a directory with a page, publications that a strict read accepts, and a source of chance.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use truebound_client::bound::RATE_BITS;
use truebound_client::host::{ClocksourceFile, HostIdentity};
use truebound_client::page::{Publication, UtcOffset};
use truebound_client::{Bound, MonotonicRaw, Publisher, RawClock, Reason, Status, VirtualClock};

pub(crate) const S: i64 = 1_000_000_000;
pub(crate) const PPM: i64 = (1 << RATE_BITS) / 1_000_000;

/// A directory of one test, removed after it.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let program = std::env::current_exe().expect("this test");
        let name = program.file_name().expect("a name").to_string_lossy().into_owned();
        let dir = std::env::temp_dir().join(format!("truebound-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Dir(dir)
    }

    pub(crate) fn page(&self) -> PathBuf {
        self.0.join("bound")
    }

    /// An empty page that ages by CLOCK_MONOTONIC_RAW.
    pub(crate) fn publisher(&self, host: &HostIdentity) -> Publisher {
        Publisher::open(&self.page(), None, host).expect("nobody else publishes here")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A virtual clock that always reads `at_ns`: it runs slow by exactly 1 s/s.
pub(crate) fn frozen(at_ns: i64) -> VirtualClock {
    VirtualClock { origin_ns: 0, offset_ns: at_ns, freq: -(1 << RATE_BITS), wander: 0, period_ns: 0, phase_ns: 0 }
}

/// CLOCK_BOOTTIME − CLOCK_MONOTONIC, ns, to a few microseconds.
pub(crate) fn slept_ns() -> i64 {
    let read = |clock| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a live timespec that the call may write.
        assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut now) }, 0);
        now.tv_sec * S + now.tv_nsec
    };
    let gap = || read(libc::CLOCK_BOOTTIME) - read(libc::CLOCK_MONOTONIC);
    // The two are read one after the other: the least gap is the nearest.
    (0..100).map(|_| gap()).min_by_key(|gap| gap.abs()).unwrap_or(0)
}

/// A bound that holds now, as this host's agent would publish it: a strict read accepts it.
pub(crate) fn here() -> Publication {
    let bound = Bound {
        t_ref_ns: MonotonicRaw.now_ns(),
        void_after_ns: i64::MAX,
        theta_lo_ns: -500,
        theta_hi_ns: 700,
        omega_lo: -PPM,
        omega_hi: PPM,
        cap_lo: -50 * PPM,
        cap_hi: 50 * PPM,
        half_wander: 60_446_291,
        phase_rate: 132,
    };
    Publication {
        status: Status::Locked,
        reason: Reason::Majority,
        epoch: 1,
        bound,
        utc: UtcOffset { offset_s: 37, after_s: UtcOffset::UNKNOWN, change_at_ns: i64::MAX },
        wander_fs_per_s2: 100_000_000,
        phase_noise_fs: 30_000_000,
        spread: 50 * PPM,
        omega_limit: 1_000 * PPM,
        clocksource: ClocksourceFile::open().name(),
        suspended_ns: slept_ns(),
        estimate_theta_ns: 100,
        estimate_sigma_ns: 50,
        source: *b"a source of a test\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        groups: (4, 4),
        ..Publication::default()
    }
}

/// A deterministic source of words (splitmix64). Prints its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        println!("seed {seed:#x}");
        Random(seed)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is small.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.word() % limit as u64).expect("below a usize")
    }

    /// Of every magnitude, of either sign, now and then an extreme.
    pub(crate) fn any_size(&mut self) -> u64 {
        match self.word() % 16 {
            0 => u64::MAX,
            1 => i64::MAX.cast_unsigned(),
            2 => i64::MIN.cast_unsigned(),
            3 => 0,
            _ => {
                let shift = self.word() % 64;
                (self.word().cast_signed() >> shift).cast_unsigned()
            }
        }
    }
}
