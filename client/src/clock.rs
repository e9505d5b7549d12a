//! The clock that ages a bound: this host's CLOCK_MONOTONIC_RAW, or a virtual clock derived from it.

use crate::bound::RATE_BITS;
use crate::sys;

/// A clock that nobody slews or steps, in ns. The agent and its readers must use the same one.
pub trait RawClock {
    /// The reading now, truncated to ns.
    fn now_ns(&self) -> i64;

    /// Which clock this is, as written on the page.
    fn kind(&self) -> ClockKind;
}

/// Names a clock on the page, so that a reader with another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ClockKind {
    /// CLOCK_MONOTONIC_RAW.
    MonotonicRaw = 1,
    /// [`VirtualClock`].
    Virtual = 2,
}

/// CLOCK_MONOTONIC_RAW: not slewed, not stepped, stands still during suspend. Read through the vDSO.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicRaw;

impl RawClock for MonotonicRaw {
    #[inline]
    fn now_ns(&self) -> i64 {
        sys::monotonic_raw_ns()
    }

    fn kind(&self) -> ClockKind {
        ClockKind::MonotonicRaw
    }
}

/// A raw clock with a known frequency error and wander: a pure function of CLOCK_MONOTONIC_RAW, so every process that
/// knows the parameters reads the same clock, and truth stays known.
///
/// With t the raw time since `origin`,
/// `raw′ = raw + offset + freq·t + G(t + phase) − G(phase)`, where G is the integral of a triangle wave of amplitude
/// `wander` and period `period`: the frequency moves at its largest rate 4·wander/period all the time, which is the
/// worst that an oscillator of that class may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualClock {
    /// CLOCK_MONOTONIC_RAW at which the deviation starts, ns.
    pub origin_ns: i64,
    /// Initial deviation from CLOCK_MONOTONIC_RAW, ns.
    pub offset_ns: i64,
    /// Constant frequency error, 2⁻⁴⁰ s/s; positive runs fast.
    pub freq: i64,
    /// Amplitude of the triangle wave of frequency, 2⁻⁴⁰ s/s.
    pub wander: i64,
    /// Its period, ns; 0 means no wander.
    pub period_ns: i64,
    /// Where in the period the origin lies, ns.
    pub phase_ns: i64,
}

impl VirtualClock {
    /// The virtual reading at CLOCK_MONOTONIC_RAW `raw_ns`.
    #[must_use]
    pub fn at(&self, raw_ns: i64) -> i64 {
        let t = i128::from(raw_ns) - i128::from(self.origin_ns);
        // The parameters come from a page: absurd ones may read anything, but must not overflow.
        let drift = t.saturating_mul(self.freq.into()) >> RATE_BITS;
        let wander = self.wander_integral(t + i128::from(self.phase_ns)) - self.wander_integral(self.phase_ns.into());
        let reading = (i128::from(raw_ns) + i128::from(self.offset_ns)).saturating_add(drift).saturating_add(wander);
        i64::try_from(reading).unwrap_or(if reading < 0 { i64::MIN } else { i64::MAX })
    }

    /// G(u): in the first quarter 2·wander·u²/period, mirrored into a smooth hump over half a period, then back.
    fn wander_integral(&self, u: i128) -> i128 {
        let period = i128::from(self.period_ns);
        if period < 4 {
            return 0;
        }
        let u = u.rem_euclid(period);
        let u = u.min(period - u); // G is even about half a period
        let parabola = |x: i128| (2 * i128::from(self.wander)).saturating_mul(x * x) / period;
        let hump = if u <= period / 4 {
            parabola(u)
        } else {
            parabola(period / 4).saturating_mul(2).saturating_sub(parabola(period / 2 - u))
        };
        hump >> RATE_BITS
    }

    /// The parameters as words of the page.
    #[must_use]
    pub fn to_words(self) -> [i64; 6] {
        [self.origin_ns, self.offset_ns, self.freq, self.wander, self.period_ns, self.phase_ns]
    }

    /// The parameters from words of the page.
    #[must_use]
    pub fn from_words(words: [i64; 6]) -> Self {
        let [origin_ns, offset_ns, freq, wander, period_ns, phase_ns] = words;
        VirtualClock { origin_ns, offset_ns, freq, wander, period_ns, phase_ns }
    }
}

impl RawClock for VirtualClock {
    #[inline]
    fn now_ns(&self) -> i64 {
        self.at(sys::monotonic_raw_ns())
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Virtual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPM: i64 = (1 << RATE_BITS) / 1_000_000;
    const S: i64 = 1_000_000_000;

    fn clock() -> VirtualClock {
        VirtualClock {
            origin_ns: 5 * S,
            offset_ns: 200_000,
            freq: 10 * PPM,
            wander: PPM,
            period_ns: 40 * S,
            phase_ns: 3 * S,
        }
    }

    #[test]
    fn it_starts_at_its_offset_and_keeps_its_mean_frequency() {
        assert_eq!(clock().at(5 * S), 5 * S + 200_000);
        let after_ten_periods = clock().at(405 * S) - 405 * S - 200_000;
        assert!((4_000_000 - 5..=4_000_000 + 5).contains(&after_ten_periods), "{after_ten_periods}");
    }

    #[test]
    fn its_frequency_never_moves_faster_than_four_wanders_a_period() {
        // Over steps of 0.1 s the second difference is at most A·0.01 s² = 1e-7·0.01 s = 1 ns, plus rounding.
        let step = S / 10;
        for k in 1..1_000 {
            let at = |i: i64| clock().at(5 * S + i * step);
            let second_difference = at(k + 1) - 2 * at(k) + at(k - 1);
            assert!(second_difference.abs() <= 4, "step {k}: {second_difference}");
        }
    }
}
