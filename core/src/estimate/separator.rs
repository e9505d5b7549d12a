//! The line that parts two clouds of points, exactly: a support vector machine whose margin is measured along y.
//!
//! Upper points say U_i ≥ θ(t_i), lower points L_j ≤ θ(t_j). HUYGENS (Geng et al., NSDI 2018) takes for θ the line
//! βt + α in the middle of the widest empty strip between them: queueing only moves points away from the strip, so the
//! pure ones draw its two borders. Frequency differences are parts per million, so a strip is as wide along y as across,
//! and measuring it along y makes the answer follow when one line is added to all points.
//!
//! For a given slope β the residuals u_i = U_i − β·t_i and l_j = L_j − β·t_j are numbers, and the strip of a machine
//! that tolerates k points on the wrong side of a border (ν-form, ν = k/n, the same k in both classes) is
//!
//! ```text
//! G(β) = max_u [ u − (1/k)·Σ_i (u − u_i)⁺ ] − min_l [ l + (1/k)·Σ_j (l_j − l)⁺ ]
//!      = mean of the k smallest u_i − mean of the k largest l_j
//! ```
//! (the conditional value at risk of Rockafellar and Uryasev: the maximum over u is at the k-th smallest, and its value
//! is the mean up to there). The mean of the k smallest is the least mean of any k, each linear in β; a minimum of linear
//! functions is concave, and so is their sum G. It is piecewise linear, with the slope
//!
//! ```text
//! G′(β) = mean t of those k lower points − mean t of those k upper points
//! ```
//! The answer is the β with the greatest G, and the middle between the borders as α. k = 1 is the separator of the
//! convex hulls, found here without building them; sorting for a hull costs more than the few passes below.
//!
//! The search keeps two tangents of G, one rising at a and one falling at b > a. G lies under both, so where they cross
//! is as high as G can be; when G reaches that crossing it is the maximum, exactly, and otherwise its tangent there
//! replaces one of the two. A step costs one pass, O(n), and a bisection goes between when crossings close in slowly.
//! If G has a flat top, every β of which is as good, the answer is its middle.

use std::ops::RangeInclusive;

/// Relative rounding error granted to a residual and to a mean of instants.
const ROUNDING: f64 = 16.0 * f64::EPSILON;
/// Steps at most. Of any two in a row one halves the bracket, so 128 of them exhaust the digits of an f64.
const MAX_STEPS: u32 = 128;

/// What one stamp pair says about θ at one instant. Both relative to an origin near the points: the caller's duty, for
/// an f64 holds 16 digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// t, s.
    pub t_s: f64,
    /// U or L, s.
    pub y_s: f64,
}

/// θ(t) = slope·t + offset, in the middle of its strip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// β, s/s.
    pub slope: f64,
    /// α, the line at t = 0, s.
    pub offset_s: f64,
    /// Width of the whole strip along y, s. Negative if the clouds overlap by that much.
    pub margin_s: f64,
}

/// The buffer of [`separate`], kept so that nothing is allocated again. Says nothing from one call to the next.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    residuals: Vec<Residual>,
}

/// The line in the widest strip of a slope in `slopes` that tolerates `tolerated` points, k, in each cloud: k = 1 is
/// the hard margin. k counts from 1 and no further than the points of a cloud go.
///
/// None if there is no such line: a cloud is empty, a number is not finite, or the widest strip is at the end of
/// `slopes` or everywhere, as when all points share one instant. The same points in another order give the same bits.
#[must_use]
pub fn separate(
    upper: &[Point],
    lower: &[Point],
    tolerated: usize,
    slopes: RangeInclusive<f64>,
    scratch: &mut Scratch,
) -> Option<Line> {
    let (first, last) = slopes.into_inner();
    let mut points = upper.iter().chain(lower);
    if upper.is_empty() || lower.is_empty() || !points.all(|p| p.t_s.is_finite() && p.y_s.is_finite()) {
        return None;
    }
    let mut strips = Strips::new(upper, lower, tolerated, scratch);
    let (a, b) = (strips.at(first), strips.at(last));
    let well_posed = first < last && strips.turn(a) == Turn::Rising && strips.turn(b) == Turn::Falling;
    if !well_posed || !a.gap_s().is_finite() || !b.gap_s().is_finite() {
        return None;
    }
    let (mut best, flat) = strips.climb(a, b, Turn::Rising);
    if flat {
        let (first_best, _) = strips.climb(a, b, Turn::Falling);
        best = strips.at(first_best.slope + 0.5 * (best.slope - first_best.slope));
    }
    let offset_s = best.lower_s + 0.5 * best.gap_s();
    let line = Line { slope: best.slope, offset_s, margin_s: best.gap_s() };
    [line.slope, line.offset_s, line.margin_s].iter().all(|x| x.is_finite()).then_some(line)
}

/// G, as a function that can be asked for its value and slope.
struct Strips<'a> {
    upper: &'a [Point],
    lower: &'a [Point],
    k: usize,
    /// Greatest |t|, s.
    reach_s: f64,
    residuals: &'a mut Vec<Residual>,
}

/// G at one β, with the slope of one of its pieces there.
#[derive(Clone, Copy, Debug)]
struct Strip {
    /// β.
    slope: f64,
    /// Mean of the k smallest u_i.
    upper_s: f64,
    /// Mean of the k largest l_j.
    lower_s: f64,
    /// G′, s.
    rise_s: f64,
}

impl Strip {
    /// G.
    fn gap_s(self) -> f64 {
        self.upper_s - self.lower_s
    }
}

/// Where G is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Rising,
    Flat,
    Falling,
}

impl<'a> Strips<'a> {
    fn new(upper: &'a [Point], lower: &'a [Point], tolerated: usize, scratch: &'a mut Scratch) -> Self {
        let reach_s = upper.iter().chain(lower).fold(0.0_f64, |reach, point| reach.max(point.t_s.abs()));
        Strips { upper, lower, k: tolerated.max(1), reach_s, residuals: &mut scratch.residuals }
    }

    fn at(&mut self, slope: f64) -> Strip {
        let above = nearest(self.upper.iter().map(|p| Residual { y_s: p.y_s - slope * p.t_s, t_s: p.t_s }), self);
        let below = nearest(self.lower.iter().map(|p| Residual { y_s: slope * p.t_s - p.y_s, t_s: p.t_s }), self);
        Strip { slope, upper_s: above.y_s, lower_s: -below.y_s, rise_s: below.t_s - above.t_s }
    }

    fn turn(&self, strip: Strip) -> Turn {
        let rounding_s = ROUNDING * self.reach_s;
        match strip.rise_s {
            rise_s if rise_s > rounding_s => Turn::Rising,
            rise_s if rise_s < -rounding_s => Turn::Falling,
            _ => Turn::Flat,
        }
    }

    /// The greatest G between a, where it rises, and b, where it falls, and whether its top was found flat: then it is
    /// that end of the top to which `flat_is` leads.
    fn climb(&mut self, mut a: Strip, mut b: Strip, flat_is: Turn) -> (Strip, bool) {
        let (mut best, mut flat, mut width_before) = (a, false, f64::INFINITY);
        for _ in 0..MAX_STEPS {
            let width = b.slope - a.slope;
            let crossing = (b.gap_s() - a.gap_s() - b.rise_s * width) / (a.rise_s - b.rise_s);
            let bisect = width > 0.5 * width_before;
            let step = if bisect { 0.5 * width } else { crossing.max(0.0).min(width) };
            best = self.at(a.slope + step);
            let ceiling_s = a.gap_s() + a.rise_s * step;
            if best.slope <= a.slope || best.slope >= b.slope || !bisect && self.reaches(best, ceiling_s, a, b) {
                break;
            }
            let turn = self.turn(best);
            flat |= turn == Turn::Flat;
            if turn == Turn::Rising || turn == Turn::Flat && flat_is == Turn::Rising {
                a = best;
            } else {
                b = best;
            }
            width_before = if bisect { f64::INFINITY } else { width };
        }
        (best, flat)
    }

    /// Whether G is at its ceiling, as far as the residuals at a and b can tell.
    fn reaches(&self, strip: Strip, ceiling_s: f64, a: Strip, b: Strip) -> bool {
        let leverage_s = a.slope.abs().max(b.slope.abs()) * self.reach_s;
        let size_s = strip.upper_s.abs() + strip.lower_s.abs() + leverage_s;
        strip.gap_s() >= ceiling_s - ROUNDING * size_s
    }
}

/// How far a point is behind the line of slope β through the origin.
#[derive(Clone, Copy, Debug)]
struct Residual {
    y_s: f64,
    t_s: f64,
}

impl Residual {
    /// A total order, so that which points are the k first, and the bits of their mean, do not depend on their order.
    fn order(&self, other: &Residual) -> std::cmp::Ordering {
        self.y_s.total_cmp(&other.y_s).then(self.t_s.total_cmp(&other.t_s))
    }
}

/// The mean of the k smallest residuals, and of their instants.
fn nearest(residuals: impl Iterator<Item = Residual>, strips: &mut Strips) -> Residual {
    if strips.k == 1 {
        return least(residuals);
    }
    let buffer = &mut *strips.residuals;
    buffer.clear();
    buffer.extend(residuals);
    if strips.k < buffer.len() {
        buffer.select_nth_unstable_by(strips.k - 1, Residual::order);
        buffer.truncate(strips.k);
    }
    buffer.sort_unstable_by(Residual::order);
    let (mut count, mut y_s, mut t_s) = (0.0, 0.0, 0.0);
    for residual in buffer.iter() {
        count += 1.0;
        y_s += residual.y_s;
        t_s += residual.t_s;
    }
    Residual { y_s: y_s / count, t_s: t_s / count }
}

fn least(residuals: impl Iterator<Item = Residual>) -> Residual {
    let none = Residual { y_s: f64::INFINITY, t_s: 0.0 };
    residuals.fold(none, |least, next| {
        let sooner = next.y_s < least.y_s || next.y_s == least.y_s && next.t_s < least.t_s;
        if sooner { next } else { least }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: RangeInclusive<f64> = -1e-3..=1e-3;

    fn points(points: &[(f64, f64)]) -> Vec<Point> {
        points.iter().map(|&(t_s, y_s)| Point { t_s, y_s }).collect()
    }

    fn line(upper: &[(f64, f64)], lower: &[(f64, f64)], k: usize) -> Option<Line> {
        separate(&points(upper), &points(lower), k, WIDE, &mut Scratch::default())
    }

    #[test]
    fn middle_of_the_widest_strip() {
        // Borders through (0, 10 µs), (2, 30 µs) and (1, 0 µs): 10 ppm, the strip from −10 µs to 10 µs at t = 0.
        let found = line(&[(0.0, 10e-6), (2.0, 30e-6), (1.0, 90e-6)], &[(1.0, 0.0), (0.0, -50e-6)], 1).expect("a line");
        assert!((found.slope - 10e-6).abs() < 1e-18, "{found:?}");
        assert!(found.offset_s.abs() < 1e-18, "{found:?}");
        assert!((found.margin_s - 20e-6).abs() < 1e-18, "{found:?}");
    }

    #[test]
    fn a_tolerated_point_does_not_draw_the_border() {
        let upper = [(0.0, 10e-6), (1.0, 10e-6), (2.0, 10e-6), (3.0, 10e-6), (1.5, -90e-6)];
        let lower = [(0.0, -10e-6), (1.0, -10e-6), (2.0, -10e-6), (3.0, -10e-6), (1.6, -10e-6)];
        let found = line(&upper, &lower, 3).expect("a line");
        assert!(found.slope.abs() < 10e-6, "{found:?}");
        // Two of three at 10 µs, the third at −90 µs, less −10 µs.
        assert!((found.margin_s - (-70e-6 / 3.0 + 10e-6)).abs() < 10e-6, "{found:?}");
    }

    #[test]
    fn overlap_is_a_negative_margin() {
        let found = line(&[(0.0, -1e-6), (2.0, -1e-6)], &[(0.5, 1e-6), (1.5, 1e-6)], 1).expect("a line");
        assert!((found.margin_s + 2e-6).abs() < 1e-18, "{found:?}");
    }

    #[test]
    fn a_flat_top_gives_its_middle() {
        // (1, ±5 µs) alone hold the strip while the slope is within 4 and −6 ppm.
        let upper = [(1.0, 5e-6), (2.0, 9e-6), (0.0, 11e-6)];
        let lower = [(1.0, -5e-6), (2.0, -100e-6), (0.0, -100e-6)];
        let found = line(&upper, &lower, 1).expect("a line");
        assert!((found.slope + 1e-6).abs() < 1e-16, "{found:?}");
        assert!((found.margin_s - 10e-6).abs() < 1e-18, "{found:?}");
    }

    #[test]
    fn without_an_answer_none() {
        let (up, down) = ([(0.0, 1e-6), (2.0, 1e-6)], [(0.0, -1e-6), (2.0, -1e-6)]);
        assert!(line(&up, &down, 1).is_some());
        assert_eq!(line(&[], &down, 1), None);
        assert_eq!(line(&up, &[], 1), None);
        assert_eq!(line(&[(0.0, 1e-6)], &[(0.0, -1e-6)], 1), None, "one point each");
        assert_eq!(line(&[(0.0, 1e-6)], &[(1.0, -1e-6)], 1), None, "one point each, apart");
        assert_eq!(line(&[(1.0, 1e-6), (1.0, 2e-6)], &[(1.0, -1e-6), (1.0, -2e-6)], 1), None, "one instant");
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(line(&[(bad, 1e-6), (2.0, 1e-6)], &down, 1), None);
            assert_eq!(line(&up, &[(0.0, bad), (2.0, -1e-6)], 1), None);
        }
        assert_eq!(line(&[(0.0, 1.0), (2.0, 1.1)], &[(0.0, -1.0), (2.0, -0.9)], 1), None, "steeper than allowed");
        assert_eq!(line(&[(-1e300, f64::MAX), (2.0, 1.0)], &[(1e300, f64::MIN), (2.0, 0.0)], 1), None, "overflow");
    }

    #[test]
    fn ranges_without_an_inside_give_none() {
        let (upper, lower) = (points(&[(0.0, 1e-6), (2.0, 1e-6)]), points(&[(0.0, -1e-6), (2.0, -1e-6)]));
        let mut scratch = Scratch::default();
        for (first, last) in [(0.0, 0.0), (1e-6, -1e-6), (f64::NAN, 1.0), (-1.0, f64::INFINITY)] {
            assert_eq!(separate(&upper, &lower, 1, first..=last, &mut scratch), None, "{first} to {last}");
        }
    }

    #[test]
    fn k_is_held_to_the_cloud() {
        let (up, down) = ([(0.0, 1e-6), (2.0, 1e-6), (1.0, 3e-6)], [(0.0, -1e-6), (1.0, -1e-6), (2.0, -1e-6)]);
        assert_eq!(line(&up, &down, 0), line(&up, &down, 1));
        // All points of both clouds: G is linear and has no top.
        assert_eq!(line(&up, &down, 3), None);
        assert_eq!(line(&up, &down, usize::MAX), None);
    }
}
