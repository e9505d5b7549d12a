//! Extension fields in which a server says how good its time is more finely than the header can, to clients that ask.
//!
//! The header's short format has units of 15 µs (RFC 5905 section 6), twice rounded: more than a whole path on a LAN.

use crate::time::NS_PER_S;

/// Length of either field, its header included: the shortest that may be a packet's last (RFC 7822 section 7.5.1.4).
pub const CLAIM_FIELD_BYTES: usize = LENGTH as usize;
const LENGTH: u16 = 28;

/// Either field, whole.
pub type ClaimField = [u8; CLAIM_FIELD_BYTES];

/// Type of the extension field that carries an [`ExactClaim`]: experimental range (RFC 9748 section 4.3).
pub const EXACT_CLAIM: u16 = 0xF7B1;

/// "truebound exact claim": the sender's guaranteed half-width in ns. A request asks for it by sending
/// [`ExactClaim::REQUEST`].
///
/// Value: `"TBX1"`, u64 big-endian, 12 bytes of zero; longer than 24 bytes or with other padding it is another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactClaim {
    /// Half-width at the transmit timestamp, ns; `u64::MAX` in a request.
    pub half_width_ns: u64,
}

impl ExactClaim {
    /// "Please tell."
    pub const REQUEST: ExactClaim = ExactClaim { half_width_ns: u64::MAX };

    const MAGIC: [u8; 4] = *b"TBX1";

    /// The whole field, header included.
    #[must_use]
    pub fn write(&self) -> ClaimField {
        let mut field = started(EXACT_CLAIM, Self::MAGIC);
        field[8..16].copy_from_slice(&self.half_width_ns.to_be_bytes());
        field
    }

    /// From a field's value, as [`super::ntp::Extensions::find`] gives it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<ExactClaim> {
        let (half_width, padding) = value.strip_prefix(&Self::MAGIC)?.split_first_chunk()?;
        (*padding == [0; 12]).then_some(ExactClaim { half_width_ns: u64::from_be_bytes(*half_width) })
    }
}

/// Type of the extension field that carries a [`FineRoot`].
pub const FINE_ROOT: u16 = 0xF323;

/// What chrony calls `extfield F323` (since 4.2, experimental): root delay and dispersion in units of 2⁻²⁸ s. A request
/// asks for it by sending [`FineRoot::REQUEST`].
///
/// Value: f5 be dd 9a, root delay, root dispersion, then a receive timestamp of a monotonic clock (64 bits) and that
/// clock's epoch (32 bits). We read neither and send zeros there, which says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FineRoot {
    /// Round trip to the reference clock.
    pub delay: FineTime,
    /// Dispersion to the reference clock.
    pub dispersion: FineTime,
}

impl FineRoot {
    /// "Please tell." Nobody reads the values; a server that merely sends the field back is not to seem perfect.
    pub const REQUEST: FineRoot = FineRoot { delay: FineTime(u32::MAX), dispersion: FineTime(u32::MAX) };

    const MAGIC: [u8; 4] = [0xf5, 0xbe, 0xdd, 0x9a];

    /// The whole field, header included.
    #[must_use]
    pub fn write(&self) -> ClaimField {
        let mut field = started(FINE_ROOT, Self::MAGIC);
        field[8..12].copy_from_slice(&self.delay.0.to_be_bytes());
        field[12..16].copy_from_slice(&self.dispersion.0.to_be_bytes());
        field
    }

    /// From a field's value, as [`super::ntp::Extensions::find`] gives it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<FineRoot> {
        let (delay, rest) = value.strip_prefix(&Self::MAGIC)?.split_first_chunk()?;
        let (dispersion, monotonic) = rest.split_first_chunk()?;
        let time = |bytes: &[u8; 4]| FineTime(u32::from_be_bytes(*bytes));
        (monotonic.len() == 12).then(|| FineRoot { delay: time(delay), dispersion: time(dispersion) })
    }
}

/// 4.28 seconds, never negative; [`u32::MAX`] is all that is too much. Bounds of errors, so it only rounds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FineTime(pub u32);

impl FineTime {
    /// One unit, 2⁻²⁸ s, rounded up, ns.
    pub const LSB_NS_UP: i64 = 4;

    /// In ns, rounded up; [`i64::MAX`] for what is too much.
    #[must_use]
    pub fn to_ns_up(self) -> i64 {
        match self.0 {
            u32::MAX => i64::MAX,
            units => (u64::from(units) * NS_PER_S.unsigned_abs()).div_ceil(1 << 28).cast_signed(),
        }
    }

    /// From ns, rounded up. Negative gives 0.
    #[must_use]
    pub fn from_ns_up(ns: i64) -> Self {
        // Up to 2³² units, so that the product fits.
        let ns = ns.clamp(0, NS_PER_S << 4).unsigned_abs();
        let units = (ns << 28).div_ceil(NS_PER_S.unsigned_abs());
        FineTime(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

/// A field's type, its length and the word that tells it from others of that type.
fn started(kind: u16, magic: [u8; 4]) -> ClaimField {
    let mut field = [0; CLAIM_FIELD_BYTES];
    field[0..2].copy_from_slice(&kind.to_be_bytes());
    field[2..4].copy_from_slice(&LENGTH.to_be_bytes());
    field[4..8].copy_from_slice(&magic);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_claim_is_a_whole_field() {
        let claim = ExactClaim { half_width_ns: 0x0102_0304_0506_0708 };
        let field = claim.write();
        assert_eq!(field[..16], [0xf7, 0xb1, 0, 28, b'T', b'B', b'X', b'1', 1, 2, 3, 4, 5, 6, 7, 8]);
        let value = &field[4..];
        assert_eq!(ExactClaim::parse(value), Some(claim));
        for i in (0..4).chain(12..24) {
            let mut other = value.to_vec();
            other[i] ^= 1;
            assert_eq!(ExactClaim::parse(&other), None, "byte {i}");
        }
        assert_eq!(ExactClaim::parse(&value[..23]), None);
        assert_eq!(ExactClaim::parse(&[value, &[0; 4]].concat()), None);
    }

    #[test]
    fn a_fine_root_is_a_whole_field_whose_monotonic_part_is_not_read() {
        let root = FineRoot { delay: FineTime(0x0102_0304), dispersion: FineTime(0x0506_0708) };
        let field = root.write();
        assert_eq!(field[..16], [0xf3, 0x23, 0, 28, 0xf5, 0xbe, 0xdd, 0x9a, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(field[16..], [0; 12]);
        let value = &field[4..];
        for i in 0..24 {
            let mut other = value.to_vec();
            other[i] ^= 1;
            let expected = match i {
                0..4 => None,
                4..12 => Some(false),
                _ => Some(true),
            };
            assert_eq!(FineRoot::parse(&other).map(|parsed| parsed == root), expected, "byte {i}");
        }
        assert_eq!(FineRoot::parse(&value[..23]), None);
        assert_eq!(FineRoot::parse(&[value, &[0; 4]].concat()), None);
    }

    #[test]
    fn fine_time_rounds_up_and_saturates() {
        assert_eq!(FineTime(1).to_ns_up(), FineTime::LSB_NS_UP);
        assert_eq!(FineTime(1 << 28).to_ns_up(), NS_PER_S);
        assert_eq!(FineTime(u32::MAX - 1).to_ns_up(), 15_999_999_993);
        assert_eq!(FineTime(u32::MAX).to_ns_up(), i64::MAX);
        assert_eq!(FineTime::from_ns_up(i64::MIN), FineTime(0));
        assert_eq!(FineTime::from_ns_up(0), FineTime(0));
        assert_eq!(FineTime::from_ns_up(1), FineTime(1));
        assert_eq!(FineTime::from_ns_up(4), FineTime(2), "2^-28 s is 3.7 ns");
        assert_eq!(FineTime::from_ns_up(15_999_999_992), FineTime(u32::MAX - 1));
        assert_eq!(FineTime::from_ns_up(15_999_999_997), FineTime(u32::MAX));
        assert_eq!(FineTime::from_ns_up(i64::MAX), FineTime(u32::MAX));
    }
}
