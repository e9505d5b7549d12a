//! The structures of `truebound.h`, from and to the client's own.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use truebound_client::{Bound, Elapsed, Interval, Reader, Status, Tick, Unavailable};

/// `struct truebound_interval`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CInterval {
    /// Unix time, ns.
    pub earliest_ns: i64,
    /// Unix time, ns.
    pub latest_ns: i64,
    /// TAI, ns.
    pub tai_earliest_ns: i64,
    /// TAI, ns.
    pub tai_latest_ns: i64,
    /// The page's epoch.
    pub epoch: u64,
    /// TAI − UTC, s.
    pub tai_offset_s: i32,
    /// A status' number.
    pub status: u32,
    /// A reason's number, or 0.
    pub reason: u32,
    /// 0.
    pub reserved: u32,
}

impl CInterval {
    /// All of time.
    pub(crate) const NOTHING: CInterval = CInterval {
        earliest_ns: i64::MIN,
        latest_ns: i64::MAX,
        tai_earliest_ns: i64::MIN,
        tai_latest_ns: i64::MAX,
        epoch: 0,
        tai_offset_s: 0,
        status: 0,
        reason: 0,
        reserved: 0,
    };

    #[cold]
    pub(crate) fn without(error: Unavailable) -> Self {
        match error {
            Unavailable::NoBound(status, reason) => {
                CInterval { status: status as u32, reason: reason as u32, ..CInterval::NOTHING }
            }
            _ => CInterval::NOTHING,
        }
    }
}

impl From<&Interval> for CInterval {
    #[inline]
    fn from(now: &Interval) -> Self {
        CInterval {
            earliest_ns: now.earliest_ns,
            latest_ns: now.latest_ns,
            tai_earliest_ns: now.tai.earliest_ns,
            tai_latest_ns: now.tai.latest_ns,
            epoch: now.epoch,
            tai_offset_s: now.tai_offset_s,
            status: now.status as u32,
            reason: 0,
            reserved: 0,
        }
    }
}

/// `struct truebound_tick`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CTick {
    /// CLOCK_MONOTONIC_RAW, ns.
    pub raw_ns: i64,
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC, ns.
    pub suspended_ns: i64,
    /// The page's epoch.
    pub epoch: u64,
    /// Lower limit of the rate at `raw_ns`, 2⁻⁴⁰ s/s.
    pub omega_lo: i64,
    /// Upper limit of the rate at `raw_ns`, 2⁻⁴⁰ s/s.
    pub omega_hi: i64,
    /// Lower limit of the rate in this boot, 2⁻⁴⁰ s/s.
    pub cap_lo: i64,
    /// Upper limit of the rate in this boot, 2⁻⁴⁰ s/s.
    pub cap_hi: i64,
    /// Allowance for phase noise, 2⁻⁴⁰ s/s.
    pub phase_rate: i64,
    /// Half the largest change of rate, 2⁻⁸⁰ per ns.
    pub half_wander: u64,
}

impl From<&Tick> for CTick {
    fn from(tick: &Tick) -> Self {
        let rates = &tick.rates;
        CTick {
            raw_ns: tick.raw_ns,
            suspended_ns: tick.suspended_ns,
            epoch: tick.epoch,
            omega_lo: rates.omega_lo,
            omega_hi: rates.omega_hi,
            cap_lo: rates.cap_lo,
            cap_hi: rates.cap_hi,
            phase_rate: rates.phase_rate,
            half_wander: rates.half_wander,
        }
    }
}

impl From<&CTick> for Tick {
    fn from(tick: &CTick) -> Self {
        // What `Tick` says of these two: θ is 0 at `raw_ns`, and they are never void.
        let rates = Bound {
            t_ref_ns: tick.raw_ns,
            void_after_ns: i64::MAX,
            theta_lo_ns: 0,
            theta_hi_ns: 0,
            omega_lo: tick.omega_lo,
            omega_hi: tick.omega_hi,
            cap_lo: tick.cap_lo,
            cap_hi: tick.cap_hi,
            half_wander: tick.half_wander,
            phase_rate: tick.phase_rate,
        };
        Tick { raw_ns: tick.raw_ns, suspended_ns: tick.suspended_ns, epoch: tick.epoch, rates }
    }
}

/// `struct truebound_elapsed`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CElapsed {
    /// At least this, ns.
    pub least_ns: i64,
    /// At most this, ns; `i64::MAX` if nobody can say.
    pub most_ns: i64,
}

impl CElapsed {
    pub(crate) const UNKNOWN: CElapsed = CElapsed { least_ns: 0, most_ns: i64::MAX };
}

impl From<Elapsed> for CElapsed {
    fn from(elapsed: Elapsed) -> Self {
        CElapsed { least_ns: elapsed.least_ns, most_ns: elapsed.most_ns.unwrap_or(i64::MAX) }
    }
}

const SOURCE_BYTES: usize = 36;

/// `struct truebound_publication`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CPublication {
    /// A status' number.
    pub status: u32,
    /// A reason's number.
    pub reason: u32,
    /// The page's epoch.
    pub epoch: u64,
    /// Half the width of the interval now, ns; `i64::MAX` without one.
    pub half_width_ns: i64,
    /// Independence groups configured.
    pub groups_configured: u32,
    /// Independence groups that answer now.
    pub groups_answering: u32,
    /// What the hypervisor foretells: 0, 1 or 2.
    pub foretold: u32,
    /// Which source carries the bound; ends with a zero.
    pub source: [u8; SOURCE_BYTES],
}

impl CPublication {
    pub(crate) const NOTHING: CPublication = CPublication {
        status: 0,
        reason: 0,
        epoch: 0,
        half_width_ns: i64::MAX,
        groups_configured: 0,
        groups_answering: 0,
        foretold: 0,
        source: [0; SOURCE_BYTES],
    };

    /// What the agent said last; `None` before its first word.
    pub(crate) fn newest(reader: &Reader) -> Option<Self> {
        let publication = reader.publication()?;
        let half_width_ns = reader.now().map_or(i64::MAX, |now| now.half_width_ns());
        let mut source = [0; SOURCE_BYTES];
        // The last four stay zero.
        source.iter_mut().zip(publication.source).for_each(|(to, from)| *to = from);
        Some(CPublication {
            status: publication.status as u32,
            reason: publication.reason as u32,
            epoch: publication.epoch,
            half_width_ns,
            groups_configured: publication.groups.0,
            groups_answering: publication.groups.1,
            foretold: publication.foretold as u32,
            source,
        })
    }
}

/// [`Status::name`] with a zero at its end.
pub(crate) fn status_name(number: u32) -> &'static CStr {
    match u8::try_from(number).ok().and_then(Status::from_number) {
        Some(Status::Starting) => c"starting",
        Some(Status::Locked) => c"locked",
        Some(Status::Holdover) => c"holdover",
        Some(Status::FreeRunning) => c"free-running",
        Some(Status::Disrupted) => c"disrupted",
        Some(Status::Void) => c"void",
        None => c"unknown",
    }
}
