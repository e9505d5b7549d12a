//! Samples of reference clocks, as the programs of one host hand them to each other: the shared memory of ntpd's
//! driver 28, and the datagram of chrony's SOCK. Both pair a reading of CLOCK_REALTIME with what the reference clock
//! said then.
//!
//! Both are C structures of this machine's own ABI, so all integers have its byte order:
//!
//! ```text
//! struct shmTime, 96 bytes              struct sock_sample, 40 bytes
//!  0 int    mode    1: by count          0 timeval tv        CLOCK_REALTIME
//!  4 int    count   (mode 1)            16 double  offset    reference − tv, s
//!  8 time_t clock s, 16 int clock µs    24 int     pulse     1: the offset counts modulo one second
//! 24 time_t real s,  32 int real µs     28 int     leap
//! 36 int    leap    3: not synchronised 32 int     padding
//! 40 int    precision, 44 int nsamples  36 int     magic
//! 48 int    valid
//! 52 unsigned clock ns, 56 unsigned real ns    (within the second; zero from writers that do not know them)
//! 60 int    dummy[8]
//! ```
//! Anybody may have written them. What is out of range is no sample.

use crate::association::ntp::Discard;
use crate::io::FeedSample;
use crate::time::{NS_PER_S, RealTime};
use crate::units::to_i64;

/// Key of unit 0; the others follow.
pub const SHM_KEY: i32 = 0x4e54_5030;
/// sizeof(struct shmTime).
pub const SHM_BYTES: usize = 96;
/// sizeof(struct sock_sample).
pub const SOCK_BYTES: usize = 40;

/// Where the fields lie that reader and writer shake hands by.
pub const SHM_MODE_AT: usize = 0;
/// See [`SHM_MODE_AT`].
pub const SHM_COUNT_AT: usize = 4;
/// See [`SHM_MODE_AT`].
pub const SHM_VALID_AT: usize = 48;

const SOCK_MAGIC: i32 = 0x534f_434b;
/// Not synchronised.
const NO_LEAP_KNOWN: i32 = 3;
/// By how much CLOCK_REALTIME may run away from the reference within one µs, at the kernel's limit of a fourth, ns.
const SLEWED_NS: i64 = 334;
/// The greatest whole second whose ns fit into an i64.
const MAX_S: i64 = i64::MAX / NS_PER_S - 1;

/// What a reference clock said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The time, ns since 1970.
    Time(i64),
    /// How far the second had gone, ns, but not which.
    Second(i64),
}

/// A sample: when CLOCK_REALTIME showed `at`, the reference clock `said` so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at: RealTime,
    pub(crate) said: Said,
    /// CLOCK_REALTIME may have shown up to so much more: the stamp was cut off, ns.
    pub(crate) cut_ns: i64,
    /// What was said may be off by so much to either side, ns.
    pub(crate) doubt_ns: i64,
}

/// Reads a segment; `None`: it holds no sample now.
pub(crate) fn parse_shm(bytes: &[u8]) -> Result<Option<Sample>, Discard> {
    let bytes: &[u8; SHM_BYTES] = bytes.try_into().map_err(|_| Discard::Malformed)?;
    let int = |at| i32::from_ne_bytes(field(bytes, at));
    if !matches!(int(SHM_MODE_AT), 0 | 1) {
        return Err(Discard::Malformed);
    }
    if int(SHM_VALID_AT) == 0 {
        return Ok(None);
    }
    if int(36) == NO_LEAP_KNOWN {
        return Err(Discard::Unsynchronised);
    }
    let second = |at| i64::from_ne_bytes(field(bytes, at));
    let fraction = |us_at, ns_at| (int(us_at), u32::from_ne_bytes(field(bytes, ns_at)));
    let (clock, real) = (fraction(16, 52), fraction(32, 56));
    // Who knows ns has them in some stamp at least, and they agree with the µs.
    let agrees = |(us, ns): (i32, u32)| u32::try_from(us) == Ok(ns / 1_000);
    let has_ns = (clock.1, real.1) != (0, 0) && agrees(clock) && agrees(real);
    let stamp = |s: i64, (us, ns): (i32, u32)| {
        let us = i64::from(us);
        let is_legal = (0..=MAX_S).contains(&s) && (0..1_000_000).contains(&us);
        is_legal.then(|| s * NS_PER_S + if has_ns { i64::from(ns) } else { us * 1_000 })
    };
    let (clock, real) = stamp(second(8), clock).zip(stamp(second(24), real)).ok_or(Discard::BadStamps)?;
    let cut_ns = if has_ns { 1 } else { 1_000 };
    let (at, said) = (RealTime::from_ns(real), Said::Time(clock));
    Ok(Some(Sample { at, said, cut_ns, doubt_ns: cut_ns }))
}

/// Reads a datagram.
pub(crate) fn parse_sock(bytes: &[u8]) -> Result<Sample, Discard> {
    let bytes: &[u8; SOCK_BYTES] = bytes.try_into().map_err(|_| Discard::Malformed)?;
    let int = |at| i32::from_ne_bytes(field(bytes, at));
    if int(36) != SOCK_MAGIC {
        return Err(Discard::Malformed);
    }
    if !(0..NO_LEAP_KNOWN).contains(&int(28)) {
        return Err(Discard::Unsynchronised);
    }
    let [s, us] = [0, 8].map(|at| i64::from_ne_bytes(field(bytes, at)));
    let offset_ns = f64::from_ne_bytes(field(bytes, 16)) * 1e9;
    let most_ns = crate::units::to_f64(MAX_S * NS_PER_S);
    if !(0..=MAX_S).contains(&s) || !(0..1_000_000).contains(&us) || !offset_ns.is_finite() || offset_ns.abs() > most_ns
    {
        return Err(Discard::BadStamps);
    }
    let at = s * NS_PER_S + us * 1_000;
    let told = at.checked_add(to_i64(offset_ns.round())).filter(|&told| told >= 0).ok_or(Discard::BadStamps)?;
    let said = if int(24) == 0 { Said::Time(told) } else { Said::Second(told % NS_PER_S) };
    // A double has 53 bits: of years it tells hundreds of ns. That `tv` is cut off to µs does little harm: the offset is
    // what was measured, and it was nearly the same that much earlier.
    let doubt_ns = to_i64((offset_ns.abs() * f64::EPSILON).ceil()).saturating_add(1 + SLEWED_NS);
    Ok(Sample { at: RealTime::from_ns(at), said, cut_ns: 0, doubt_ns })
}

/// A sample for chrony's SOCK.
#[must_use]
pub fn sock_datagram(sample: &FeedSample) -> [u8; SOCK_BYTES] {
    let (s, us) = (sample.at.as_ns().div_euclid(NS_PER_S), sample.at.as_ns().rem_euclid(NS_PER_S) / 1_000);
    let offset_s = crate::units::to_f64(sample.ahead_ns) / 1e9;
    let mut bytes = [0; SOCK_BYTES];
    put(&mut bytes, 0, s.to_ne_bytes());
    put(&mut bytes, 8, us.to_ne_bytes());
    put(&mut bytes, 16, offset_s.to_ne_bytes());
    put(&mut bytes, 28, i32::from(sample.leap).to_ne_bytes());
    put(&mut bytes, 36, SOCK_MAGIC.to_ne_bytes());
    bytes
}

/// A sample for a segment in mode 1. Its count and whether it is valid are the writer's.
#[must_use]
pub fn shm_segment(sample: &FeedSample) -> [u8; SHM_BYTES] {
    let real_ns = sample.at.as_ns();
    let clock_ns = real_ns.saturating_add(sample.ahead_ns);
    let mut bytes = [0; SHM_BYTES];
    put(&mut bytes, SHM_MODE_AT, 1i32.to_ne_bytes());
    for (ns, s_at, us_at, ns_at) in [(clock_ns, 8, 16, 52), (real_ns, 24, 32, 56)] {
        // A remainder of a second fits into 32 bits.
        let fraction_ns = u32::try_from(ns.rem_euclid(NS_PER_S)).unwrap_or(0);
        put(&mut bytes, s_at, ns.div_euclid(NS_PER_S).to_ne_bytes());
        put(&mut bytes, us_at, (fraction_ns / 1_000).to_ne_bytes());
        put(&mut bytes, ns_at, fraction_ns.to_ne_bytes());
    }
    put(&mut bytes, 36, i32::from(sample.leap).to_ne_bytes());
    // 2⁻²⁰ s: about a microsecond.
    put(&mut bytes, 40, (-20i32).to_ne_bytes());
    bytes
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().unwrap_or([0; N])
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: FeedSample =
        FeedSample { at: RealTime::from_ns(1_790_000_000_123_456_789), ahead_ns: -2_345, leap: 0 };

    fn segment() -> [u8; SHM_BYTES] {
        let mut bytes = shm_segment(&SAMPLE);
        put(&mut bytes, SHM_COUNT_AT, 7u32.to_ne_bytes());
        put(&mut bytes, SHM_VALID_AT, 1i32.to_ne_bytes());
        bytes
    }

    fn with<const N: usize>(at: usize, value: [u8; N]) -> Result<Option<Sample>, Discard> {
        let mut bytes = segment();
        put(&mut bytes, at, value);
        parse_shm(&bytes)
    }

    fn datagram_with<const N: usize>(at: usize, value: [u8; N]) -> Result<Sample, Discard> {
        let mut bytes = sock_datagram(&SAMPLE);
        put(&mut bytes, at, value);
        parse_sock(&bytes)
    }

    #[test]
    fn a_segment_says_what_was_written() {
        let said = Said::Time(SAMPLE.at.as_ns() - 2_345);
        let sample = Sample { at: SAMPLE.at, said, cut_ns: 1, doubt_ns: 1 };
        assert_eq!(parse_shm(&segment()), Ok(Some(sample)));
        assert_eq!(parse_shm(&shm_segment(&SAMPLE)), Ok(None), "not valid yet");
        assert_eq!(parse_shm(&segment()[1..]), Err(Discard::Malformed));
    }

    #[test]
    fn ns_that_contradict_the_us_are_not_believed_and_the_us_are() {
        // Of 123,456 µs; an old writer leaves both zero.
        for (ns, is_fine) in [(123_456_000u32, true), (123_456_999, true), (123_457_000, false), (123_455_999, false)] {
            let sample = with(56, ns.to_ne_bytes()).expect("legal").expect("valid");
            let expected = if is_fine { i64::from(ns) } else { 123_456_000 };
            assert_eq!(sample.at.as_ns() % NS_PER_S, expected, "{ns}");
            let grain_ns = if is_fine { 1 } else { 1_000 };
            assert_eq!((sample.cut_ns, sample.doubt_ns), (grain_ns, grain_ns), "{ns}");
        }
        let mut old = segment();
        put(&mut old, 52, [0; 8]);
        let old = parse_shm(&old).expect("legal").expect("valid");
        assert_eq!((old.at.as_ns() % NS_PER_S, old.cut_ns), (123_456_000, 1_000));
    }

    #[test]
    fn what_is_out_of_range_is_no_sample() {
        for us in [-1, 1_000_000, i32::MIN] {
            assert_eq!(with(16, us.to_ne_bytes()), Err(Discard::BadStamps), "{us}");
            assert_eq!(with(32, us.to_ne_bytes()), Err(Discard::BadStamps), "{us}");
        }
        for s in [-1, MAX_S + 1, i64::MAX, i64::MIN] {
            assert_eq!(with(8, s.to_ne_bytes()), Err(Discard::BadStamps), "{s}");
            assert_eq!(with(24, s.to_ne_bytes()), Err(Discard::BadStamps), "{s}");
            assert_eq!(datagram_with(0, s.to_ne_bytes()), Err(Discard::BadStamps), "{s}");
        }
        assert!(with(8, MAX_S.to_ne_bytes()).is_ok());
        assert_eq!(with(0, 2i32.to_ne_bytes()), Err(Discard::Malformed));
        assert_eq!(with(36, 3i32.to_ne_bytes()), Err(Discard::Unsynchronised));
    }

    #[test]
    fn a_datagram_says_what_was_sent_to_the_microsecond_of_its_stamp() {
        let sample = parse_sock(&sock_datagram(&SAMPLE)).expect("legal");
        let at = SAMPLE.at.as_ns() / 1_000 * 1_000;
        assert_eq!((sample.at.as_ns(), sample.said), (at, Said::Time(at - 2_345)));
        // Of 2.3 µs a double tells all; of fifty years 360 ns.
        assert_eq!(sample.doubt_ns, 2 + SLEWED_NS);
        let years = datagram_with(16, 1.6e9f64.to_ne_bytes()).expect("legal");
        assert_eq!(years.doubt_ns, 357 + SLEWED_NS);
    }

    #[test]
    fn a_pulse_says_how_far_a_second_had_gone() {
        let pulse = datagram_with(24, 1i32.to_ne_bytes()).expect("legal");
        assert_eq!(pulse.said, Said::Second(123_456_000 - 2_345));
    }

    #[test]
    fn hostile_datagrams_are_dropped() {
        for offset in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10, -1e10, -1.8e9] {
            assert_eq!(datagram_with(16, offset.to_ne_bytes()), Err(Discard::BadStamps), "{offset}");
        }
        for us in [-1, 1_000_000, i64::MIN] {
            assert_eq!(datagram_with(8, us.to_ne_bytes()), Err(Discard::BadStamps), "{us}");
        }
        for leap in [-1i32, 3, 4] {
            assert_eq!(datagram_with(28, leap.to_ne_bytes()), Err(Discard::Unsynchronised), "{leap}");
        }
        assert_eq!(datagram_with(36, 0i32.to_ne_bytes()), Err(Discard::Malformed));
        let whole = sock_datagram(&SAMPLE);
        for length in 0..SOCK_BYTES {
            assert_eq!(parse_sock(&whole[..length]), Err(Discard::Malformed), "{length} bytes");
        }
        assert_eq!(parse_sock(&[&whole[..], &[0]].concat()), Err(Discard::Malformed));
    }
}
