//! Axes: from values to pixels, ticks at round values, units that keep the labels short.

/// What values on an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Values in ns, shown in ns, µs, ms or s.
    Nanoseconds,
    /// Values in s, shown in s, min, h or d.
    Seconds,
    /// A share, shown in per cent.
    Percent,
}

impl Unit {
    /// By what to divide and what to write.
    fn shown(self, greatest: f64) -> (f64, &'static str) {
        match (self, greatest) {
            (Unit::Nanoseconds, x) if x < 2e3 => (1.0, "ns"),
            (Unit::Nanoseconds, x) if x < 2e6 => (1e3, "µs"),
            (Unit::Nanoseconds, x) if x < 2e9 => (1e6, "ms"),
            (Unit::Nanoseconds, _) => (1e9, "s"),
            (Unit::Seconds, x) if x <= 300.0 => (1.0, "s"),
            (Unit::Seconds, x) if x <= 10_800.0 => (60.0, "min"),
            (Unit::Seconds, x) if x <= 259_200.0 => (3600.0, "h"),
            (Unit::Seconds, _) => (86_400.0, "d"),
            (Unit::Percent, _) => (0.01, "%"),
        }
    }
}

/// One axis: the values at its ends and where they are.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) from_px: f64,
    pub(super) to_px: f64,
    pub(super) unit: Unit,
    /// Equal ratios are equally long; `low` is above 0.
    pub(super) logarithmic: bool,
    pub(super) name: String,
}

impl Axis {
    pub(super) fn px(&self, value: f64) -> f64 {
        let of = |x: f64| if self.logarithmic { x.max(self.low * 1e-3).log10() } else { x };
        let share = (of(value) - of(self.low)) / (of(self.high) - of(self.low));
        self.from_px + share * (self.to_px - self.from_px)
    }

    /// Name and unit.
    pub(super) fn title(&self) -> String {
        if self.logarithmic { self.name.clone() } else { format!("{}, {}", self.name, self.shown().1) }
    }

    /// Round values with their labels, about so many.
    pub(super) fn ticks(&self, about: usize) -> Vec<(f64, String)> {
        if self.logarithmic { self.decades() } else { self.steps(about) }
    }

    fn shown(&self) -> (f64, &'static str) {
        self.unit.shown(self.low.abs().max(self.high.abs()))
    }

    fn steps(&self, about: usize) -> Vec<(f64, String)> {
        let (scale, _) = self.shown();
        let (low, high) = (self.low / scale, self.high / scale);
        let step = round_step((high - low) / about as f64, self.unit == Unit::Seconds && scale > 1.0);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let label = |value: f64| format!("{value:.decimals$}").replace('-', "−");
        (first..=last).map(|i| i as f64 * step).map(|value| (value * scale, label(value))).collect()
    }

    /// Powers of ten; where they are few, 2 and 5 times them as well.
    fn decades(&self) -> Vec<(f64, String)> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().floor() as i32);
        let digits: &[f64] = if self.high / self.low < 1e3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let label = |value: f64| {
            let (scale, unit) = self.unit.shown(2.0 * value);
            format!("{} {unit}", value / scale)
        };
        let values = (first..=last).flat_map(|exponent| digits.iter().map(move |digit| digit * 10f64.powi(exponent)));
        values.filter(|value| (self.low..=self.high).contains(value)).map(|value| (value, label(value))).collect()
    }
}

/// The round number next above: 1, 2 or 5 times a power of ten, or for minutes and hours a part of 60 or 24.
fn round_step(least: f64, of_clock: bool) -> f64 {
    const CLOCK: [f64; 8] = [1.0, 2.0, 3.0, 6.0, 12.0, 15.0, 30.0, 60.0];
    if of_clock && (0.5..=60.0).contains(&least) {
        let above = CLOCK.into_iter().find(|step| *step >= least);
        return above.unwrap_or(60.0);
    }
    if least <= 0.0 || !least.is_finite() {
        return 1.0;
    }
    let power = 10f64.powi(least.log10().floor() as i32);
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= least * 0.999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64, unit: Unit, logarithmic: bool) -> Axis {
        Axis { low, high, from_px: 0.0, to_px: 100.0, unit, logarithmic, name: "x".to_owned() }
    }

    fn labels(axis: &Axis) -> String {
        axis.ticks(5).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_few() {
        use Unit::{Nanoseconds, Percent, Seconds};
        for (axis, title, expected) in [
            (axis(-25_000.0, 25_000.0, Nanoseconds, false), "x, µs", "−20 −10 0 10 20"),
            (axis(-0.4, 1.1, Nanoseconds, false), "x, ns", "0.0 0.5 1.0"),
            (axis(0.0, 3600.0, Seconds, false), "x, min", "0 12 24 36 48 60"),
            (axis(0.0, 86_400.0, Seconds, false), "x, h", "0 6 12 18 24"),
            (axis(0.0, 0.42, Percent, false), "x, %", "0 10 20 30 40"),
            (axis(0.5, 3e4, Nanoseconds, true), "x", "1 ns 10 ns 100 ns 1 µs 10 µs"),
            (axis(3e5, 4e6, Nanoseconds, true), "x", "500 µs 1 ms 2 ms"),
        ] {
            assert_eq!((axis.title().as_str(), labels(&axis).as_str()), (title, expected));
        }
    }

    #[test]
    fn equal_ratios_are_equally_long_on_a_logarithmic_axis() {
        let axis = axis(1.0, 1e4, Unit::Nanoseconds, true);
        for (value, px) in [(1.0, 0.0), (10.0, 25.0), (1e3, 75.0), (1e4, 100.0)] {
            assert!((axis.px(value) - px).abs() < 1e-9);
        }
    }
}
