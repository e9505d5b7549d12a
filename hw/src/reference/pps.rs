//! Pulses that the kernel stamps (RFC 2783, Linux's /dev/ppsN). It keeps the last one of each edge, so it is asked for
//! that, and nobody waits.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use truebound_core::settings::PpsEdge;
use truebound_core::time::{NS_PER_S, RealTime};

use crate::sys::device::{PPS_FETCH, PPS_GETPARAMS, PPS_SETPARAMS, PpsInfo, PpsTime, clock_ioctl, zeroed};

const CAPTURE_ASSERT: i32 = 0x01;
const CAPTURE_CLEAR: i32 = 0x02;
const OFFSET_ASSERT: i32 = 0x10;
const OFFSET_CLEAR: i32 = 0x20;
/// Stamps are seconds and ns.
const FORMAT_TIMESPEC: i32 = 0x1000;
const API_VERSION: i32 = 1;

/// An open device.
#[derive(Debug)]
pub struct PpsClock {
    device: File,
    edge: PpsEdge,
}

/// The last pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Its number; 0 before the first.
    pub sequence: u32,
    /// CLOCK_REALTIME when it came.
    pub at: RealTime,
}

impl PpsClock {
    /// Opens a device, and has its edge stamped if it is not.
    pub fn open(device: &Path, edge: PpsEdge) -> io::Result<PpsClock> {
        let device = OpenOptions::new().read(true).write(true).open(device)?;
        let mut params = zeroed();
        clock_ioctl(device.as_fd(), &PPS_GETPARAMS, &mut params)?;
        let wanted = FORMAT_TIMESPEC | capture(edge);
        if params.mode & wanted != wanted {
            params.api_version = API_VERSION;
            params.mode |= wanted;
            clock_ioctl(device.as_fd(), &PPS_SETPARAMS, &mut params)?;
        }
        Ok(PpsClock { device, edge })
    }

    /// The last pulse, without waiting for one.
    pub fn last(&self) -> io::Result<Pulse> {
        let mut data = zeroed(); // a timeout of zero
        clock_ioctl(self.device.as_fd(), &PPS_FETCH, &mut data)?;
        last_of(&data.info, self.edge).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "somebody had its stamps shifted, or they are none")
        })
    }
}

fn capture(edge: PpsEdge) -> i32 {
    match edge {
        PpsEdge::Assert => CAPTURE_ASSERT,
        PpsEdge::Clear => CAPTURE_CLEAR,
    }
}

/// `None` where somebody had the kernel add an offset to its stamps.
fn last_of(info: &PpsInfo, edge: PpsEdge) -> Option<Pulse> {
    let (sequence, time, offset) = match edge {
        PpsEdge::Assert => (info.assert_sequence, info.assert, OFFSET_ASSERT),
        PpsEdge::Clear => (info.clear_sequence, info.clear, OFFSET_CLEAR),
    };
    if info.mode & offset != 0 {
        return None;
    }
    Some(Pulse { sequence, at: stamp(time)? })
}

fn stamp(time: PpsTime) -> Option<RealTime> {
    let ns = time.s.checked_mul(NS_PER_S)?.checked_add(i64::from(time.ns))?;
    Some(RealTime::from_ns(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> PpsInfo {
        let time = |s, ns| PpsTime { s, ns, flags: 0 };
        let mode = CAPTURE_ASSERT | CAPTURE_CLEAR | FORMAT_TIMESPEC;
        PpsInfo {
            assert_sequence: 7,
            clear_sequence: 9,
            assert: time(5, 6),
            clear: time(5, 100_000_006),
            mode,
            padding: 0,
        }
    }

    #[test]
    fn the_edge_that_was_asked_for_is_the_pulse() {
        let pulse = |edge| last_of(&info(), edge).map(|pulse| (pulse.sequence, pulse.at.as_ns()));
        assert_eq!(pulse(PpsEdge::Assert), Some((7, 5_000_000_006)));
        assert_eq!(pulse(PpsEdge::Clear), Some((9, 5_100_000_006)));
    }

    #[test]
    fn stamps_that_somebody_had_shifted_are_not_used() {
        let shifted = PpsInfo { mode: info().mode | OFFSET_ASSERT, ..info() };
        assert_eq!(last_of(&shifted, PpsEdge::Assert), None);
        assert!(last_of(&shifted, PpsEdge::Clear).is_some());
    }

    #[test]
    fn stamps_beyond_an_i64_are_none() {
        let absurd = PpsInfo { assert: PpsTime { s: i64::MAX, ns: 0, flags: 0 }, ..info() };
        assert_eq!(last_of(&absurd, PpsEdge::Assert), None);
    }

    #[test]
    fn a_device_of_this_host_tells_its_last_pulse() {
        match PpsClock::open(Path::new("/dev/pps0"), PpsEdge::Assert) {
            Ok(clock) => drop(clock.last().expect("the last pulse, or none with number 0")),
            Err(error) => println!("skipped: a_device_of_this_host_tells_its_last_pulse: /dev/pps0: {error}"),
        }
    }

    #[test]
    fn what_is_no_such_device_is_refused() {
        assert!(PpsClock::open(Path::new("/dev/null"), PpsEdge::Assert).is_err());
        assert!(PpsClock::open(Path::new("/nonexistent"), PpsEdge::Assert).is_err());
    }
}
