//! Quantities with their unit in the name of every constructor and accessor.

use truebound_client::bound::{RATE_BITS, WANDER_BITS};

/// A fractional frequency error or a rate of true time against raw time, s/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct FreqError(f64);

/// One unit of a published rate, s/s.
#[expect(clippy::cast_precision_loss, reason = "a power of two")]
const RATE_UNIT: f64 = 1.0 / (1u64 << RATE_BITS) as f64;

impl FreqError {
    /// From s/s.
    #[must_use]
    pub const fn from_fraction(fraction: f64) -> Self {
        FreqError(fraction)
    }

    /// From parts per million.
    #[must_use]
    pub const fn from_ppm(ppm: f64) -> Self {
        FreqError(ppm * 1e-6)
    }

    /// In s/s.
    #[must_use]
    pub const fn as_fraction(self) -> f64 {
        self.0
    }

    /// In parts per million.
    #[must_use]
    pub const fn as_ppm(self) -> f64 {
        self.0 * 1e6
    }

    /// In units of 2⁻⁴⁰, rounded towards +∞.
    #[must_use]
    pub fn to_rate_up(self) -> i64 {
        to_i64((self.0 / RATE_UNIT).ceil())
    }

    /// In units of 2⁻⁴⁰, rounded towards −∞.
    #[must_use]
    pub fn to_rate_down(self) -> i64 {
        to_i64((self.0 / RATE_UNIT).floor())
    }

    /// From units of 2⁻⁴⁰.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rates are below 2^52 units")]
    pub fn from_rate(rate: i64) -> Self {
        FreqError(rate as f64 * RATE_UNIT)
    }
}

/// Half of a wander of `wander_per_s` (A, 1/s) in units of 2⁻⁸⁰ per ns, rounded up.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a power of two")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and A is not negative")]
pub fn half_wander(wander_per_s: f64) -> u64 {
    (0.5 * wander_per_s * 1e-9 * (1u128 << WANDER_BITS) as f64).ceil() as u64
}

/// To the integer part; saturates, NaN gives 0.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
pub fn to_i64(value: f64) -> i64 {
    value as i64
}

/// An i64 of moderate size as f64.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "callers pass differences, far below 2^52")]
pub fn to_f64(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_round_outward() {
        let one_unit_and_a_bit = FreqError::from_fraction(RATE_UNIT * 1.25);
        assert_eq!((one_unit_and_a_bit.to_rate_down(), one_unit_and_a_bit.to_rate_up()), (1, 2));
        let negative = FreqError::from_fraction(-RATE_UNIT * 1.25);
        assert_eq!((negative.to_rate_down(), negative.to_rate_up()), (-2, -1));
    }

    #[test]
    fn half_wander_of_the_server_oscillator() {
        // A = 1e-7 /s is 1e-16 per ns; half of it times 2^80 is 60,446,290.98.
        assert_eq!(half_wander(1e-7), 60_446_291);
    }
}
