//! A page of ours, as an agent with a server on the network publishes it.

use std::path::{Path, PathBuf};

use truebound_client::host::{ClocksourceFile, HostIdentity};
use truebound_client::page::{Publication, UtcOffset};
use truebound_client::{Bound, MonotonicRaw, Publisher, RawClock, Reason, Status};

use crate::Outcome;

/// Publishes once; the path of the page.
pub(crate) fn publish(room: &Path) -> Outcome<PathBuf> {
    let path = room.join("bound");
    Publisher::open(&path, None, &HostIdentity::here(None))?.publish(&publication());
    Ok(path)
}

const PPM: i64 = (1 << 40) / 1_000_000;

fn publication() -> Publication {
    let bound = Bound {
        t_ref_ns: MonotonicRaw.now_ns(),
        void_after_ns: i64::MAX,
        theta_lo_ns: 1_700_000_000_000_000_000,
        theta_hi_ns: 1_700_000_000_000_200_000,
        omega_lo: -11 * PPM,
        omega_hi: -9 * PPM,
        cap_lo: -60 * PPM,
        cap_hi: 40 * PPM,
        // A = 1e-7 /s.
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
        groups: (4, 4),
        ..Publication::default()
    }
}

/// CLOCK_BOOTTIME − CLOCK_MONOTONIC, to a few microseconds.
fn slept_ns() -> i64 {
    use nix::time::{ClockId, clock_gettime};
    let read = |clock| clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
    read(ClockId::CLOCK_BOOTTIME) - read(ClockId::CLOCK_MONOTONIC)
}
