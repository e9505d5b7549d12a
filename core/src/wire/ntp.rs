//! NTPv4 packets (RFC 5905 7.3) with extension fields (RFC 7822): every byte checked, nothing interpreted.
//!
//! Timestamps are 32.32 seconds modulo 2³² s. A conversion to ns therefore needs to be told roughly when, and which way
//! to round; both are parameters. All arithmetic is in integers: with off = seconds from 1900 to 1970,
//!
//! ```text
//! value = (utc_ns + off·10⁹) · 2³² / 10⁹   (mod 2⁶⁴)        utc_ns = value · 10⁹ / 2³² − off·10⁹
//! ```

use super::claim::{CLAIM_FIELD_BYTES, ClaimField};
use crate::io::Datagram;
use crate::time::{NS_PER_S, UtcTime};

/// Length of a packet without extension fields.
pub const HEADER_BYTES: usize = 48;

/// 1900-01-01 to 1970-01-01, s (RFC 5905 figure 4).
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
const NS_PER_S_WIDE: i128 = NS_PER_S as i128;
const NTP_TO_UNIX_NS: i128 = NTP_TO_UNIX_S as i128 * NS_PER_S_WIDE;
/// Ticks of a timestamp in a second.
const TICKS_PER_S: i128 = 1 << 32;

/// Which way a value goes that has no exact counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards −∞.
    Down,
    /// Towards +∞.
    Up,
}

impl Rounding {
    /// `dividend / divisor`; the divisor is positive.
    fn divide(self, dividend: i128, divisor: i128) -> i128 {
        match self {
            Rounding::Down => dividend.div_euclid(divisor),
            Rounding::Up => -(-dividend).div_euclid(divisor),
        }
    }
}

/// NTP timestamp format (RFC 5905 section 6): 32.32 seconds since the start of an era that the packet does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTimestamp(pub u64);

impl NtpTimestamp {
    /// "Unknown or unsynchronised". Also the first 0.2 ns of every era: such an instant is taken for unknown.
    pub const ZERO: NtpTimestamp = NtpTimestamp(0);

    /// `utc` in its era, rounded to 2⁻³² s as asked. `to_utc_near` gives `utc` back on the other side: `.1` of a value
    /// rounded down, `.0` of one rounded up.
    #[must_use]
    pub fn from_utc(utc: UtcTime, rounding: Rounding) -> Self {
        // As `ticks`, of the seconds and of the rest, which fit in a register each: a server does this for every answer.
        let seconds = utc.as_ns().div_euclid(NS_PER_S).wrapping_add(NTP_TO_UNIX_S).cast_unsigned();
        let rest = utc.as_ns().rem_euclid(NS_PER_S).unsigned_abs() << 32;
        let fraction = match rounding {
            Rounding::Down => rest / NS_PER_S.unsigned_abs(),
            Rounding::Up => rest.div_ceil(NS_PER_S.unsigned_abs()),
        };
        NtpTimestamp((seconds << 32).wrapping_add(fraction))
    }

    /// The instant in the era that puts it within 2³¹ s of `pivot`, rounded down and rounded up to ns. Saturates where
    /// [`UtcTime`] ends, in 2262.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the difference is taken modulo 2^64")]
    pub fn to_utc_near(self, pivot: UtcTime) -> (UtcTime, UtcTime) {
        let pivot = ticks(pivot, Rounding::Down);
        let ahead = self.0.wrapping_sub(pivot as u64).cast_signed();
        let instant = (pivot + i128::from(ahead)) * NS_PER_S_WIDE;
        let ns = |rounding: Rounding| saturate(rounding.divide(instant, TICKS_PER_S) - NTP_TO_UNIX_NS);
        (ns(Rounding::Down), ns(Rounding::Up))
    }
}

/// 2⁻³² s since 1900-01-01, all eras in one. At most 2⁶⁴ ns, so the product stays below 2⁹⁷.
fn ticks(utc: UtcTime, rounding: Rounding) -> i128 {
    rounding.divide((i128::from(utc.as_ns()) + NTP_TO_UNIX_NS) * TICKS_PER_S, NS_PER_S_WIDE)
}

fn saturate(ns: i128) -> UtcTime {
    UtcTime::from_ns(i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX }))
}

/// NTP short format (RFC 5905 section 6): 16.16 seconds, never negative. Bounds of errors, so it only rounds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortTime(pub u32);

impl ShortTime {
    /// One unit, 2⁻¹⁶ s, rounded up, ns.
    pub const LSB_NS_UP: i64 = 15_259;

    /// In ns, rounded up.
    #[must_use]
    pub fn to_ns_up(self) -> i64 {
        (u64::from(self.0) * NS_PER_S.unsigned_abs()).div_ceil(1 << 16).cast_signed()
    }

    /// From ns, rounded up. Negative gives 0; more than 18 hours gives [`u32::MAX`], which no client accepts.
    #[must_use]
    pub fn from_ns_up(ns: i64) -> Self {
        // Up to 2³² units, so that the product fits.
        let ns = ns.clamp(0, NS_PER_S << 16).unsigned_abs();
        let units = (ns << 16).div_ceil(NS_PER_S.unsigned_abs());
        ShortTime(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

/// Leap indicator (RFC 5905 figure 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Leap {
    /// No warning.
    None = 0,
    /// The last minute of the month has 61 seconds.
    Add = 1,
    /// The last minute of the month has 59 seconds.
    Delete = 2,
    /// The clock was never synchronised.
    Unsynchronised = 3,
}

impl Leap {
    fn from_bits(byte: u8) -> Leap {
        match byte >> 6 {
            0 => Leap::None,
            1 => Leap::Add,
            2 => Leap::Delete,
            _ => Leap::Unsynchronised,
        }
    }
}

/// Association mode (RFC 5905 figure 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Reserved.
    Reserved = 0,
    /// Symmetric active.
    SymmetricActive = 1,
    /// Symmetric passive.
    SymmetricPassive = 2,
    /// A request.
    Client = 3,
    /// An answer.
    Server = 4,
    /// Broadcast.
    Broadcast = 5,
    /// NTP control message: another format, of which only the first byte means what [`Packet`] says.
    Control = 6,
    /// Private use: as above.
    Private = 7,
}

impl Mode {
    fn from_bits(byte: u8) -> Mode {
        match byte & 7 {
            0 => Mode::Reserved,
            1 => Mode::SymmetricActive,
            2 => Mode::SymmetricPassive,
            3 => Mode::Client,
            4 => Mode::Server,
            5 => Mode::Broadcast,
            6 => Mode::Control,
            _ => Mode::Private,
        }
    }
}

/// The header (RFC 5905 figure 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Leap indicator.
    pub leap: Leap,
    /// Version number, 3 bits.
    pub version: u8,
    /// Mode.
    pub mode: Mode,
    /// Stratum: 0 unspecified or a kiss code, 1 to 15 synchronised.
    pub stratum: u8,
    /// Largest poll interval, log₂ s.
    pub poll: i8,
    /// Precision of the clock, log₂ s.
    pub precision: i8,
    /// Round trip to the reference clock.
    pub root_delay: ShortTime,
    /// Dispersion to the reference clock.
    pub root_dispersion: ShortTime,
    /// Where the time comes from, or a kiss code.
    pub reference_id: [u8; 4],
    /// When the clock was last set.
    pub reference: NtpTimestamp,
    /// The request's transmit timestamp, as the server saw it.
    pub origin: NtpTimestamp,
    /// When the request arrived.
    pub receive: NtpTimestamp,
    /// When this packet left.
    pub transmit: NtpTimestamp,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer than 48 bytes: how many.
    Truncated(usize),
    /// Neither version 3 nor 4.
    Version(u8),
    /// What follows the header is malformed.
    Extension(ExtensionError),
}

/// What is wrong with the bytes behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionError {
    /// Neither an extension field nor a MAC: how many bytes are left over.
    Remainder(usize),
    /// A field's length is not a multiple of 4, below 16, or beyond the packet: which field, and its length.
    Length(u16, u16),
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParseError::Truncated(length) => write!(f, "{length} bytes, a packet has at least {HEADER_BYTES}"),
            ParseError::Version(version) => write!(f, "version {version}, expected 3 or 4"),
            ParseError::Extension(ExtensionError::Remainder(length)) => {
                write!(f, "{length} bytes at the end are neither an extension field nor a MAC")
            }
            ParseError::Extension(ExtensionError::Length(kind, length)) => {
                write!(f, "extension field {kind:#06x} cannot be {length} bytes long")
            }
        }
    }
}

impl std::error::Error for ParseError {}

/// Header and extension fields of one datagram. Any mode is parsed: the caller expects one and refuses the others.
///
/// # Errors
/// [`ParseError`] names what is wrong; nothing of such a datagram may be used.
pub fn parse(bytes: &[u8]) -> Result<(Packet, Extensions<'_>), ParseError> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ParseError::Truncated(bytes.len()))?;
    let packet = Packet::read(header);
    let extensions = match packet.version {
        3 => legacy_trailer(rest),
        4 => Extensions::check(rest),
        version => return Err(ParseError::Version(version)),
    };
    Ok((packet, extensions.map_err(ParseError::Extension)?))
}

/// Version 3 has no extension fields, only a MAC: a key number and a digest of DES, MD5 or SHA-1.
fn legacy_trailer(rest: &[u8]) -> Result<Extensions<'_>, ExtensionError> {
    match rest.len() {
        0 | 12 | 20 | 24 => Ok(Extensions { fields: &[], mac: rest }),
        length => Err(ExtensionError::Remainder(length)),
    }
}

impl Packet {
    fn read(header: &[u8; HEADER_BYTES]) -> Packet {
        let word = |i: usize| u32::from_be_bytes(four(header, i));
        let stamp = |i: usize| NtpTimestamp(u64::from(word(i)) << 32 | u64::from(word(i + 4)));
        Packet {
            leap: Leap::from_bits(header[0]),
            version: header[0] >> 3 & 7,
            mode: Mode::from_bits(header[0]),
            stratum: header[1],
            poll: header[2].cast_signed(),
            precision: header[3].cast_signed(),
            root_delay: ShortTime(word(4)),
            root_dispersion: ShortTime(word(8)),
            reference_id: four(header, 12),
            reference: stamp(16),
            origin: stamp(24),
            receive: stamp(32),
            transmit: stamp(40),
        }
    }

    /// Writes the header. Of `version`, the low three bits.
    pub fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        out[0] = (self.leap as u8) << 6 | (self.version & 7) << 3 | self.mode as u8;
        out[1] = self.stratum;
        out[2] = self.poll.cast_unsigned();
        out[3] = self.precision.cast_unsigned();
        out[4..8].copy_from_slice(&self.root_delay.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.root_dispersion.0.to_be_bytes());
        out[12..16].copy_from_slice(&self.reference_id);
        out[16..24].copy_from_slice(&self.reference.0.to_be_bytes());
        out[24..32].copy_from_slice(&self.origin.0.to_be_bytes());
        out[32..40].copy_from_slice(&self.receive.0.to_be_bytes());
        out[40..48].copy_from_slice(&self.transmit.0.to_be_bytes());
    }

    /// The packet on the wire, perhaps with a field.
    pub(crate) fn datagram(&self, field: Option<ClaimField>) -> Datagram {
        let mut header = [0; HEADER_BYTES];
        self.write(&mut header);
        let Some(field) = field else { return Datagram::new(&header) };
        let mut bytes = [0; HEADER_BYTES + CLAIM_FIELD_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        bytes[HEADER_BYTES..].copy_from_slice(&field);
        Datagram::new(&bytes)
    }
}

fn four(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

/// The checked extension fields of a packet, and the MAC behind them.
///
/// A field is type (16 bits), length including these four bytes (16 bits, a multiple of 4, at least 16), value. The
/// last field has at least 28 bytes if no MAC follows (RFC 7822 7.5.1.4): whatever is shorter than that is a MAC (20
/// bytes with MD5 or a truncated digest, 24 with SHA-1) or a crypto-NAK (4 bytes). We authenticate by other means, so
/// a MAC is reported by [`Extensions::legacy_mac`] and otherwise ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions<'a> {
    fields: &'a [u8],
    mac: &'a [u8],
}

/// The shortest remainder that is an extension field and not a MAC.
const SHORTEST_LAST_FIELD: usize = 28;
/// The shortest field.
const SHORTEST_FIELD: usize = 16;

impl<'a> Extensions<'a> {
    /// No field, no MAC.
    pub const EMPTY: Extensions<'static> = Extensions { fields: &[], mac: &[] };

    /// Value of the first field of type `kind`, padding included.
    #[must_use]
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|&(found, _)| found == kind).map(|(_, value)| value)
    }

    /// Type and value of every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let (kind, value, after) = split_field(rest).ok()?;
            rest = after;
            Some((kind, value))
        })
    }

    /// A MAC of 20 or 24 bytes (12 too in version 3), or a crypto-NAK of 4. Nobody checked it.
    #[must_use]
    pub fn legacy_mac(&self) -> Option<&'a [u8]> {
        (!self.mac.is_empty()).then_some(self.mac)
    }

    fn check(bytes: &'a [u8]) -> Result<Self, ExtensionError> {
        let mut rest = bytes;
        while rest.len() >= SHORTEST_LAST_FIELD {
            (_, _, rest) = split_field(rest)?;
        }
        match rest.len() {
            0 | 4 | 20 | 24 => Ok(Extensions { fields: &bytes[..bytes.len() - rest.len()], mac: rest }),
            length => Err(ExtensionError::Remainder(length)),
        }
    }
}

/// Type, value, and what follows the field.
fn split_field(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), ExtensionError> {
    let (&[a, b, c, d], _) = bytes.split_first_chunk().ok_or(ExtensionError::Remainder(bytes.len()))?;
    let (kind, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let bytes_long = usize::from(length);
    if bytes_long < SHORTEST_FIELD || !bytes_long.is_multiple_of(4) {
        return Err(ExtensionError::Length(kind, length));
    }
    let (field, after) = bytes.split_at_checked(bytes_long).ok_or(ExtensionError::Length(kind, length))?;
    Ok((kind, &field[4..], after))
}

#[cfg(test)]
mod tests {
    use super::super::claim::{EXACT_CLAIM, ExactClaim, FINE_ROOT, FineRoot};
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{RngCore, SeedableRng};

    /// 2036-02-07T06:28:16Z, the start of era 1.
    const ERA_1_UNIX_S: i64 = (1 << 32) - NTP_TO_UNIX_S;
    /// 2100-01-01T00:00:00Z.
    const YEAR_2100_UNIX_S: i64 = 4_102_444_800;

    fn utc(s: i64, ns: i64) -> UtcTime {
        UtcTime::from_ns(s * NS_PER_S + ns)
    }

    fn packet() -> Packet {
        Packet {
            leap: Leap::Add,
            version: 4,
            mode: Mode::Server,
            stratum: 1,
            poll: 6,
            precision: -24,
            root_delay: ShortTime(0x0000_0a01),
            root_dispersion: ShortTime(0x0102_0304),
            reference_id: *b"GPS\0",
            reference: NtpTimestamp(0x83aa_7e80_0000_0000),
            origin: NtpTimestamp(0x0123_4567_89ab_cdef),
            receive: NtpTimestamp(0xfedc_ba98_7654_3210),
            transmit: NtpTimestamp(0x83aa_7e80_8000_0001),
        }
    }

    #[rustfmt::skip]
    const GOLDEN: [u8; 48] = [
        0x64, 1, 6, 0xe8, 0x00, 0x00, 0x0a, 0x01, 0x01, 0x02, 0x03, 0x04, b'G', b'P', b'S', 0,
        0x83, 0xaa, 0x7e, 0x80, 0, 0, 0, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
        0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10, 0x83, 0xaa, 0x7e, 0x80, 0x80, 0, 0, 0x01,
    ];

    /// The golden packet, then fields of these types and lengths, then `mac` bytes.
    fn datagram(fields: &[(u16, usize)], mac: usize) -> Vec<u8> {
        let mut bytes = GOLDEN.to_vec();
        for &(kind, length) in fields {
            let declared = u16::try_from(length).expect("short fields");
            bytes.extend(kind.to_be_bytes().into_iter().chain(declared.to_be_bytes()));
            bytes.extend((4..length).map(|i| u8::try_from(i & 0xff).expect("masked")));
        }
        bytes.extend(vec![0xa5; mac]);
        bytes
    }

    #[test]
    fn golden_packet() {
        let mut out = [0; 48];
        packet().write(&mut out);
        assert_eq!(out, GOLDEN);
        assert_eq!(parse(&GOLDEN), Ok((packet(), Extensions::EMPTY)));
    }

    #[test]
    fn every_first_byte_keeps_its_three_fields() {
        for first in 0..=u8::MAX {
            let mut bytes = GOLDEN;
            bytes[0] = first;
            let version = first >> 3 & 7;
            match parse(&bytes) {
                Ok((packet, _)) => {
                    let mut out = [0; 48];
                    packet.write(&mut out);
                    assert_eq!(out, bytes);
                    assert!(version == 3 || version == 4);
                }
                Err(error) => assert!(error == ParseError::Version(version) && version != 3 && version != 4),
            }
        }
    }

    #[test]
    fn every_truncation_of_the_header_is_refused() {
        for length in 0..48 {
            assert_eq!(parse(&GOLDEN[..length]), Err(ParseError::Truncated(length)));
        }
    }

    #[test]
    fn every_truncation_of_extension_fields_is_refused_or_gives_fewer_fields() {
        let whole = datagram(&[(0x0104, 36), (EXACT_CLAIM, 28)], 0);
        assert_eq!(parse(&whole).expect("valid").1.iter().count(), 2);
        for length in 48..whole.len() {
            match (parse(&whole[..length]), length - 48) {
                (Ok((_, extensions)), 0) => assert_eq!(extensions, Extensions::EMPTY),
                // Cut where the first field ends, or where what is left has the length of a MAC: nobody can tell.
                (Ok((_, extensions)), left @ (4 | 20 | 24)) => {
                    assert_eq!((extensions.iter().count(), extensions.legacy_mac().map(<[u8]>::len)), (0, Some(left)));
                }
                (Ok((_, extensions)), left @ (36 | 40 | 56 | 60)) => {
                    assert_eq!(
                        (extensions.iter().count(), extensions.legacy_mac().map_or(0, <[u8]>::len)),
                        (1, left - 36)
                    );
                }
                (result, left) => assert!(matches!(result, Err(ParseError::Extension(_))), "{left}: {result:?}"),
            }
        }
    }

    #[test]
    fn fields_are_found_by_type_without_their_header() {
        let bytes = datagram(&[(0x0104, 16), (0x0204, 32), (0x0104, 28)], 20);
        let (_, extensions) = parse(&bytes).expect("valid");
        assert_eq!(extensions.find(0x0104).map(<[u8]>::len), Some(12), "the first of two");
        assert_eq!(extensions.find(0x0204).expect("there")[..3], [4, 5, 6]);
        assert_eq!(extensions.find(0x0304), None);
        assert_eq!(extensions.legacy_mac(), Some(&[0xa5; 20][..]));
    }

    #[test]
    fn a_last_field_without_mac_has_at_least_28_bytes() {
        // Alone, 16 is no length of a MAC either; 20 and 24 are, and 28 is a field.
        let remainder = |n| Err(ParseError::Extension(ExtensionError::Remainder(n)));
        assert_eq!(parse(&datagram(&[(1, 16)], 0)), remainder(16));
        assert!(parse(&datagram(&[(1, 24)], 0)).expect("a MAC").1.find(1).is_none());
        assert!(parse(&datagram(&[(1, 28)], 0)).expect("a field").1.find(1).is_some());
        // Before a MAC, a shorter one is a field.
        assert!(parse(&datagram(&[(1, 16)], 24)).expect("field and MAC").1.find(1).is_some());
        assert_eq!(parse(&datagram(&[(1, 28), (2, 16)], 0)), remainder(16));
    }

    #[test]
    fn bad_lengths_are_refused_by_name() {
        for (declared, padded) in [(0, 28), (4, 28), (12, 28), (15, 28), (30, 32), (29, 28), (32, 28), (65_535, 28)] {
            let mut bytes = datagram(&[(7, padded)], 0);
            bytes[50..52].copy_from_slice(&u16::to_be_bytes(declared));
            assert_eq!(parse(&bytes), Err(ParseError::Extension(ExtensionError::Length(7, declared))));
        }
    }

    #[test]
    fn version_3_has_a_mac_or_nothing() {
        for trailing in 0..100 {
            let mut bytes = datagram(&[], trailing);
            bytes[0] = 0x1b;
            assert_eq!(parse(&bytes).is_ok(), [0, 12, 20, 24].contains(&trailing), "{trailing}");
        }
    }

    #[test]
    fn known_instants() {
        let second = |s: u64| NtpTimestamp(s << 32);
        assert_eq!(NtpTimestamp::from_utc(utc(0, 0), Rounding::Up), second(2_208_988_800));
        assert_eq!(NtpTimestamp::from_utc(utc(ERA_1_UNIX_S - 1, 0), Rounding::Up), second((1 << 32) - 1));
        assert_eq!(NtpTimestamp::from_utc(utc(ERA_1_UNIX_S, 0), Rounding::Down), NtpTimestamp::ZERO);
        assert_eq!(NtpTimestamp::from_utc(utc(YEAR_2100_UNIX_S, 0), Rounding::Up), second(2_016_466_304));
        let since_1970 =
            |ns, rounding| NtpTimestamp::from_utc(utc(0, ns), rounding).0 - (NTP_TO_UNIX_S.unsigned_abs() << 32);
        assert_eq!(since_1970(500_000_000, Rounding::Up), 1 << 31);
        // One ns is 4.29 units; the last ns of era 0 ends in it, rounded up or not.
        assert_eq!(since_1970(1, Rounding::Down), 4);
        assert_eq!(since_1970(1, Rounding::Up), 5);
        assert_eq!(NtpTimestamp::from_utc(utc(ERA_1_UNIX_S, -1), Rounding::Up).0, u64::MAX - 3);
        assert_eq!(NtpTimestamp::from_utc(utc(ERA_1_UNIX_S, -1), Rounding::Down).0, u64::MAX - 4);
    }

    #[test]
    fn the_pivot_chooses_the_era_on_both_sides_of_2036() {
        for pivot_s in [-1, 0, 1] {
            for instant_s in [-1, 0, 1, 1_000_000, -1_000_000] {
                let (pivot, instant) = (utc(ERA_1_UNIX_S + pivot_s, 0), utc(ERA_1_UNIX_S + instant_s, 0));
                let stamp = NtpTimestamp::from_utc(instant, Rounding::Down);
                assert_eq!(stamp.to_utc_near(pivot), (instant, instant), "pivot {pivot_s}, instant {instant_s}");
            }
        }
        // 68 years away is the edge: half an era ahead is taken for half an era behind.
        let pivot = utc(ERA_1_UNIX_S, 0);
        let stamp = |s: i64| NtpTimestamp::from_utc(utc(ERA_1_UNIX_S + s, 0), Rounding::Down).to_utc_near(pivot).0;
        assert_eq!(stamp((1 << 31) - 1), utc(ERA_1_UNIX_S + (1 << 31) - 1, 0));
        assert_eq!(stamp(1 << 31), utc(ERA_1_UNIX_S - (1 << 31), 0));
        assert_eq!(stamp(-(1 << 31)), utc(ERA_1_UNIX_S - (1 << 31), 0));
    }

    #[test]
    fn the_ends_of_time_saturate() {
        let (floor, ceil) = NtpTimestamp(u64::MAX).to_utc_near(UtcTime::MAX);
        assert!(floor <= ceil && ceil == UtcTime::MAX, "{floor:?} {ceil:?}");
        let (floor, ceil) = NtpTimestamp(0).to_utc_near(UtcTime::from_ns(i64::MIN));
        assert!(floor <= ceil, "{floor:?} {ceil:?}");
        for rounding in [Rounding::Down, Rounding::Up] {
            let _ = NtpTimestamp::from_utc(UtcTime::from_ns(i64::MIN), rounding);
            let _ = NtpTimestamp::from_utc(UtcTime::MAX, rounding);
        }
    }

    #[test]
    fn short_time_rounds_up_and_saturates() {
        assert_eq!(ShortTime(1).to_ns_up(), ShortTime::LSB_NS_UP);
        assert_eq!(ShortTime(1 << 16).to_ns_up(), NS_PER_S);
        assert_eq!(ShortTime(u32::MAX).to_ns_up(), 65_535_999_984_742);
        assert_eq!(ShortTime::from_ns_up(i64::MIN), ShortTime(0));
        assert_eq!(ShortTime::from_ns_up(-1), ShortTime(0));
        assert_eq!(ShortTime::from_ns_up(0), ShortTime(0));
        assert_eq!(ShortTime::from_ns_up(1), ShortTime(1));
        assert_eq!(ShortTime::from_ns_up(15_258), ShortTime(1));
        assert_eq!(ShortTime::from_ns_up(15_259), ShortTime(2), "2^-16 s is 15,258.8 ns");
        assert_eq!(ShortTime::from_ns_up(65_535_999_984_741), ShortTime(u32::MAX));
        assert_eq!(ShortTime::from_ns_up(i64::MAX), ShortTime(u32::MAX));
    }

    #[test]
    fn mutated_packets_never_panic() {
        let seed = 0x0074_7275_6562_6f75;
        println!("seed {seed:#x}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |n: usize| random.next_u32() as usize % n;
        let valid = [
            GOLDEN.to_vec(),
            datagram(&[(0x0104, 36), (EXACT_CLAIM, 28)], 0),
            [&GOLDEN[..], &FineRoot::REQUEST.write()].concat(),
            datagram(&[(0x0104, 16), (0x0204, 104), (0x0404, 28)], 24),
        ];
        let mut parsed = 0;
        for _ in 0..100_000 {
            let mut bytes = valid[below(valid.len())].clone();
            bytes.truncate(bytes.len() - below(2) * below(bytes.len()));
            for _ in 0..below(4) {
                let at = below(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(below(256)).expect("a byte");
                }
            }
            if let Ok((packet, extensions)) = parse(&bytes) {
                parsed += 1;
                let fields: usize = extensions.iter().map(|(_, value)| value.len() + 4).sum();
                assert_eq!(48 + fields + extensions.legacy_mac().map_or(0, <[u8]>::len), bytes.len());
                let _ = extensions.find(EXACT_CLAIM).and_then(ExactClaim::parse);
                let _ = extensions.find(FINE_ROOT).and_then(FineRoot::parse);
                let mut out = [0; 48];
                packet.write(&mut out);
                assert_eq!(out, bytes[..48]);
            }
        }
        assert!(parsed > 10_000, "{parsed}");
    }

    proptest! {
        #[test]
        fn instants_round_trip_through_either_rounding(ns: i64, away_s in -2_000_000_000i64..2_000_000_000) {
            let (instant, pivot) = (UtcTime::from_ns(ns), UtcTime::from_ns(ns).plus_ns(away_s * NS_PER_S));
            let (down, up) =
                (NtpTimestamp::from_utc(instant, Rounding::Down), NtpTimestamp::from_utc(instant, Rounding::Up));
            prop_assert_eq!(down.to_utc_near(pivot).1, instant);
            prop_assert_eq!(up.to_utc_near(pivot).0, instant);
            prop_assert!(down.to_utc_near(pivot).0 <= instant && instant <= up.to_utc_near(pivot).1);
            prop_assert!(up.0.wrapping_sub(down.0) <= 1);
            prop_assert_eq!(i128::from(down.0), ticks(instant, Rounding::Down).rem_euclid(1 << 64));
            prop_assert_eq!(i128::from(up.0), ticks(instant, Rounding::Up).rem_euclid(1 << 64));
        }

        #[test]
        fn a_stamp_lies_between_floor_and_ceil(stamp: u64, pivot_s in 0i64..YEAR_2100_UNIX_S) {
            let pivot = utc(pivot_s, 0);
            let (floor, ceil) = NtpTimestamp(stamp).to_utc_near(pivot);
            prop_assert!((0..=1).contains(&ceil.ns_since(floor)));
            prop_assert!(floor.ns_since(pivot).abs() <= (1i64 << 31) * NS_PER_S);
            let behind = stamp.wrapping_sub(NtpTimestamp::from_utc(floor, Rounding::Up).0);
            let ahead = NtpTimestamp::from_utc(ceil, Rounding::Down).0.wrapping_sub(stamp);
            prop_assert!(behind < 5 && ahead < 5, "{} {}", behind, ahead);
        }

        #[test]
        fn short_times_are_the_least_that_suffice(ns in 0i64..65_535_000_000_000) {
            let short = ShortTime::from_ns_up(ns);
            prop_assert!(short.to_ns_up() >= ns);
            prop_assert!(short.0 == 0 || ShortTime(short.0 - 1).to_ns_up() <= ns);
        }

        #[test]
        fn any_header_round_trips(mut bytes in prop::collection::vec(any::<u8>(), 48), version in 3u8..=4) {
            bytes[0] = bytes[0] & 0b1100_0111 | version << 3;
            let mut out = [0; 48];
            parse(&bytes).expect("48 bytes of a known version").0.write(&mut out);
            prop_assert_eq!(&out[..], &bytes[..]);
        }
    }
}
