//! ClockBound's segments, made by hand, for its own clients to read: layout 2 (`shm0`) and layout 3 (`shm1`).
//!
//! Offsets are those of PROTOCOL.md and of the clients' own structures; everything in the host's byte order.

use std::path::{Path, PathBuf};

use clock_bound::{Client as Client3, ClockStatus as Status3};
use clock_bound_client::{ClockBoundClient as Client2, ClockStatus as Status2};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use truebound_hw::counter;

use crate::Outcome;
use crate::contest::Contestant;

const MAGIC: [u32; 2] = [0x414D_5A4E, 0x4342_0200];
const SYNCHRONIZED: i32 = 1;
const GENERATION: u16 = 2;
const VALID_S: i64 = 1_000;
const BOUND_NS: i64 = 100_000;
const DRIFT_PPB: u32 = 15_000;
/// No hypervisor's page: neither client looks at one.
const NO_VMCLOCK: &str = "/nonexistent/vmclock0";

/// Both clients, each with a segment of its own.
pub(crate) fn clients(room: &Path, names: [&'static str; 2], reads: u32) -> Outcome<Vec<Contestant>> {
    let text = |path: PathBuf| path.into_os_string().into_string().map_err(|_| "the temporary directory is not UTF-8");
    let two = text(write(room, "shm0", &layout_2()?)?)?;
    let mut two = Client2::new_with_paths(&two, NO_VMCLOCK).map_err(|error| format!("ClockBound 2: {error:?}"))?;
    expect_synchronized(names[0], two.now().is_ok_and(|now| now.clock_status == Status2::Synchronized))?;
    let mut all = vec![Contestant::new(names[0], reads, move || two.now(), Result::is_ok)];
    if let Some(segment) = layout_3()? {
        let three = text(write(room, "shm1", &segment)?)?;
        let mut three =
            Client3::new_with_paths(&three, NO_VMCLOCK).map_err(|error| format!("ClockBound 3: {error:?}"))?;
        expect_synchronized(names[1], three.now().is_ok_and(|now| now.clock_status == Status3::Synchronized))?;
        all.push(Contestant::new(names[1], reads, move || three.now(), Result::is_ok));
    }
    Ok(all)
}

/// At first: a contestant that sees no good segment would run another race.
fn expect_synchronized(name: &str, is_so: bool) -> Outcome<()> {
    if is_so { Ok(()) } else { Err(format!("{name} does not find its segment synchronised").into()) }
}

/// The counter alone, ordered as ClockBound 3 reads it; nothing where this architecture has none.
pub(crate) fn counter(reads: u32) -> Option<Contestant> {
    counter::read().map(|_| Contestant::new("counter, ordered", reads, counter::read, Option::is_some))
}

/// Valid for longer than the contest, by the clock that 2.x clients compare.
fn layout_2() -> Outcome<Vec<u8>> {
    let as_of = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    let mut segment = header(80, 2);
    for instant in [as_of, later(as_of)] {
        segment.extend(instant.tv_sec().to_ne_bytes());
        segment.extend(instant.tv_nsec().to_ne_bytes());
    }
    segment.extend(BOUND_NS.to_ne_bytes());
    segment.extend(0_u64.to_ne_bytes()); // disruption_marker
    segment.extend(DRIFT_PPB.to_ne_bytes());
    segment.extend(SYNCHRONIZED.to_ne_bytes());
    segment.extend([0; 8]); // clock_disruption_support_enabled, padding
    Ok(segment)
}

/// `None` where the counter cannot be read.
fn layout_3() -> Outcome<Option<Vec<u8>>> {
    let Some((as_of_counter, hertz)) = counter_and_rate()? else { return Ok(None) };
    let as_of = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let (period_frac, period_shift) = fraction(hertz);
    let mut segment = header(104, 0x0303);
    segment.extend(as_of_counter.to_ne_bytes());
    for instant in [as_of, later(as_of)] {
        segment.extend(instant.tv_sec().to_ne_bytes());
        segment.extend(instant.tv_nsec().to_ne_bytes());
    }
    segment.extend(period_frac.to_ne_bytes());
    segment.extend(0_u64.to_ne_bytes()); // period_err_frac
    segment.extend(BOUND_NS.to_ne_bytes());
    segment.extend(0_u64.to_ne_bytes()); // disruption_marker
    segment.extend(DRIFT_PPB.to_ne_bytes());
    segment.extend(SYNCHRONIZED.to_ne_bytes());
    segment.extend([0, period_shift, 0, 0, 0, 0, 0, 0]); // no disruption support, shifts, padding
    Ok(Some(segment))
}

fn header(bytes: u32, version: u16) -> Vec<u8> {
    let words = MAGIC.into_iter().chain([bytes]).flat_map(u32::to_ne_bytes);
    words.chain(version.to_ne_bytes()).chain(GENERATION.to_ne_bytes()).collect()
}

fn later(as_of: TimeSpec) -> TimeSpec {
    TimeSpec::new(as_of.tv_sec() + VALID_S, as_of.tv_nsec())
}

fn write(room: &Path, name: &str, bytes: &[u8]) -> Outcome<PathBuf> {
    let path = room.join(name);
    std::fs::write(&path, bytes)?;
    Ok(path)
}

/// The counter now, and how often it counts in a second, to a few ppm: good enough to be read by.
fn counter_and_rate() -> Outcome<Option<(u64, u64)>> {
    const LONG_ENOUGH_NS: u64 = 50_000_000;
    let read_ns = || -> Outcome<u64> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW)?;
        Ok(u64::try_from(now.tv_sec() * 1_000_000_000 + now.tv_nsec())?)
    };
    let (start_ns, Some(start)) = (read_ns()?, counter::read()) else { return Ok(None) };
    loop {
        let (now_ns, Some(now)) = (read_ns()?, counter::read()) else { return Ok(None) };
        let taken_ns = now_ns - start_ns;
        if taken_ns >= LONG_ENOUGH_NS {
            let hertz = u128::from(now - start) * 1_000_000_000 / u128::from(taken_ns);
            return Ok(Some((now, u64::try_from(hertz)?)));
        }
    }
}

/// 1 / hertz as frac / 2^(64 + shift), with as many bits as fit.
fn fraction(hertz: u64) -> (u64, u8) {
    let shift = hertz.max(2).ilog2().min(63);
    let scaled = (1_u128 << (64 + shift)) / u128::from(hertz.max(2));
    (u64::try_from(scaled).unwrap_or(u64::MAX), u8::try_from(shift).unwrap_or(63))
}
