//! Numbers with a unit, as an operator writes them: "15.625ms", "50ppm", "1e-7/s", "30ns/sqrt(s)".
//!
//! Durations are decimal and exact: what is not a whole number of nanoseconds is refused, not rounded.

use truebound_core::units::FreqError;

pub(crate) const US: i64 = 1_000;
pub(crate) const MS: i64 = 1_000 * US;
pub(crate) const S: i64 = 1_000 * MS;
pub(crate) const MIN: i64 = 60 * S;
pub(crate) const H: i64 = 60 * MIN;
pub(crate) const DAY: i64 = 24 * H;

/// What a quantity is called, and how it is written.
pub(crate) struct Notation {
    pub(crate) noun: &'static str,
    pub(crate) usage: &'static str,
}

pub(crate) const DURATION: Notation =
    Notation { noun: "a duration", usage: r#"use ns, us, ms, s, min or h, for example "16s""# };
pub(crate) const FREQUENCY: Notation =
    Notation { noun: "a frequency", usage: r#"use ppm or ppb, for example "50ppm""# };
pub(crate) const WANDER: Notation =
    Notation { noun: "a change of frequency", usage: r#"use /s, ppm/s or ppb/s, for example "1e-7/s""# };
pub(crate) const PHASE_NOISE: Notation = Notation {
    noun: "a phase noise",
    usage: r#"use ns/sqrt(s), us/sqrt(s) or ms/sqrt(s), for example "30ns/sqrt(s)""#,
};

const DURATION_UNITS: [(&str, i64); 6] = [("ns", 1), ("us", US), ("ms", MS), ("s", S), ("min", MIN), ("h", H)];
/// Divisors, since 50 / 10⁶ is the nearest number to 50 ppm and 50 · 10⁻⁶ need not be.
const WANDER_UNITS: [(&str, f64); 3] = [("/s", 1.0), ("ppm/s", 1e6), ("ppb/s", 1e9)];
const PHASE_NOISE_UNITS: [(&str, f64); 3] = [("ns/sqrt(s)", 1e9), ("us/sqrt(s)", 1e6), ("ms/sqrt(s)", 1e3)];

/// A duration in ns; saturates.
pub(crate) fn duration_ns(text: &str) -> Result<i64, String> {
    let (number, unit) = split(text)?;
    let unit_ns = i128::from(find(&DURATION_UNITS, unit)?);
    let magnitude = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let all_digits = [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if !all_digits || number.len() - magnitude.len() > 1 || whole.len() + fraction.len() == 0 {
        return Err(format!("`{number}` is not a decimal number"));
    }
    let fraction = fraction.trim_end_matches('0');
    // The longest fraction that is a whole number of ns, that of hours, has 13 digits.
    let fraction_ns = digits(fraction).filter(|_| fraction.len() < 18).map(|value| {
        let per_unit = fraction.bytes().fold(1, |power, _| power * 10);
        (value * unit_ns / per_unit, value * unit_ns % per_unit)
    });
    let Some((fraction_ns, 0)) = fraction_ns else {
        return Err("finer than 1 ns".to_owned());
    };
    let Some(whole) = digits(whole.trim_start_matches('0')) else {
        return Ok(if number.starts_with('-') { i64::MIN } else { i64::MAX });
    };
    let ns = whole * unit_ns + fraction_ns;
    let signed = if number.starts_with('-') { -ns } else { ns };
    Ok(i64::try_from(signed).unwrap_or(if signed < 0 { i64::MIN } else { i64::MAX }))
}

/// Decimal digits as a number; the empty text is 0, and more than 18 digits are `None`.
fn digits(text: &str) -> Option<i128> {
    (text.len() <= 18).then(|| text.bytes().fold(0, |value, digit| value * 10 + i128::from(digit - b'0')))
}

/// A frequency error.
pub(crate) fn frequency(text: &str) -> Result<FreqError, String> {
    let (number, unit) = split(text)?;
    let ppm = float(number)? / find(&[("ppm", 1.0), ("ppb", 1e3)], unit)?;
    Ok(FreqError::from_ppm(ppm))
}

/// A change of frequency, 1/s.
pub(crate) fn wander_per_s(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    Ok(float(number)? / find(&WANDER_UNITS, unit)?)
}

/// A phase noise, s per √s.
pub(crate) fn phase_noise_s(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    Ok(float(number)? / find(&PHASE_NOISE_UNITS, unit)?)
}

/// The number, then the unit.
fn split(text: &str) -> Result<(&str, &str), String> {
    let bytes = text.as_bytes();
    let in_number = |at: usize| match bytes[at] {
        b'0'..=b'9' | b'.' | b'+' | b'-' => true,
        b'e' | b'E' => at > 0 && matches!(bytes.get(at + 1), Some(b'0'..=b'9' | b'+' | b'-')),
        _ => false,
    };
    let end = (0..bytes.len()).find(|&at| !in_number(at)).unwrap_or(bytes.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    match (number, unit) {
        ("", _) => Err("does not start with a number".to_owned()),
        (_, "") => Err("the unit is missing".to_owned()),
        both => Ok(both),
    }
}

fn float(number: &str) -> Result<f64, String> {
    number.parse().map_err(|_| format!("`{number}` is not a number"))
}

fn find<T: Copy>(units: &[(&str, T)], unit: &str) -> Result<T, String> {
    let known = units.iter().find(|(name, _)| *name == unit);
    known.map(|(_, scale)| *scale).ok_or_else(|| format!("unknown unit `{unit}`"))
}

/// A duration in the largest unit that fits: "7.8125ms", "90s", "24h".
pub(crate) fn show_duration(ns: i64) -> String {
    let magnitude = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    for (unit, unit_ns) in DURATION_UNITS.into_iter().rev() {
        let unit_ns = unit_ns.unsigned_abs();
        let (whole, rest) = (magnitude / unit_ns, magnitude % unit_ns);
        if whole == 0 {
            continue;
        }
        if rest == 0 {
            return format!("{sign}{whole}{unit}");
        }
        if unit_ns <= S.unsigned_abs() {
            let width = unit_ns.ilog10() as usize;
            let fraction = format!("{rest:0width$}");
            return format!("{sign}{whole}.{}{unit}", fraction.trim_end_matches('0'));
        }
    }
    "0ns".to_owned()
}

/// A frequency error in ppm, to a part in 10¹².
pub(crate) fn show_frequency(freq: FreqError) -> String {
    format!("{}ppm", (freq.as_ppm() * 1e6).round() / 1e6)
}
