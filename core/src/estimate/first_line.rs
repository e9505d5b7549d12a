//! The first minutes: one line through all exchanges so far, and how well it is known.
//!
//! Blocks forget their exchanges; for as long as a crystal keeps its rate, the line that parts all of them (ALGORITHM §1,
//! k = 1) is the better estimate. The purest points draw the borders of its strip, and how close to a border the next
//! ones come tells how sharp it is: with r the residual of the second purest point of each direction in each half of the
//! time, the greatest of the four, θ at the end has a standard deviation s of about r/2, and so the slope over the span T
//! one of 2s/T. (From 16 to 128 exchanges: of exponential queues 0.25 to 0.45 r, of normal noise 0.5 to 0.6 r; the slope
//! 1.7 to 1.8 s/T.) A half that met no pure packet has a wide r, and the line is in doubt as it should be.

use super::Exchange;
use super::kalman::{Covariance, Kalman};
use super::separator::{Line, Point, Scratch, separate};
use crate::time::RawTime;
use crate::units::to_f64;

/// Slopes considered: ±Ω.
const SLOPES: f64 = 1e-3;
/// s in shares of r, and the slope's in shares of s/T.
const THETA_SHARE: f64 = 0.5;
const SLOPE_SHARE: f64 = 2.0;
/// θ at the end and the slope err together.
const CORRELATION: f64 = 0.8;

/// See the module's page.
pub(super) struct FirstLine {
    /// The state at the end. Its q is for the caller to say.
    pub(super) kalman: Kalman,
    /// The strip, s.
    pub(super) margin_s: f64,
    /// From the first exchange to the end, s.
    pub(super) span_s: f64,
}

impl FirstLine {
    /// The line at `t`, after the exchanges; `sigma` is the noise of the purest points, s, `q` the random walk of
    /// frequency.
    pub(super) fn new(exchanges: &[Exchange], t: RawTime, sigma: f64, q: f64) -> Option<Self> {
        let first = exchanges.first()?;
        let span_s = to_f64(t.ns_since(first.t1)) * 1e-9;
        let base_ns = first.upper_ns;
        let point = |t: RawTime, ns: i64| Point {
            t_s: to_f64(t.ns_since(first.t1)) * 1e-9,
            y_s: to_f64(ns.saturating_sub(base_ns)) * 1e-9,
        };
        let upper: Vec<Point> = exchanges.iter().map(|e| point(e.t1, e.upper_ns)).collect();
        let lower: Vec<Point> = exchanges.iter().map(|e| point(e.t4, e.lower_ns)).collect();
        let line = separate(&upper, &lower, 1, -SLOPES..=SLOPES, &mut Scratch::default())?;
        let Line { slope, offset_s, margin_s } = line;
        let r = sharpness(&upper, &line, span_s).max(sharpness(&lower, &line, span_s));
        let s = (THETA_SHARE * r).min(margin_s.abs() / 4.0);
        let wander = q * span_s * span_s * span_s / 3.0;
        let slopes = (SLOPE_SHARE * SLOPE_SHARE * s * s + sigma * sigma) / (span_s * span_s);
        let (p00, p11) = (s * s + sigma * sigma + wander, slopes + q * span_s);
        let p = Covariance { p00, p01: CORRELATION * (p00 * p11).sqrt(), p11 };
        let mut kalman = Kalman { t, base_ns, theta: offset_s + slope * span_s, omega: slope, p, q };
        kalman.rebase();
        Some(FirstLine { kalman, margin_s, span_s })
    }
}

/// The greater of the second least residuals of both halves, s.
fn sharpness(points: &[Point], line: &Line, span_s: f64) -> f64 {
    let of_half = |is_late: bool| {
        let residuals = points
            .iter()
            .filter(|point| (point.t_s >= span_s / 2.0) == is_late)
            .map(|point| (point.y_s - line.offset_s - line.slope * point.t_s).abs() - line.margin_s / 2.0);
        let (mut least, mut second) = (f64::INFINITY, f64::INFINITY);
        for residual in residuals {
            (least, second) = (least.min(residual), second.min(residual.max(least)));
        }
        second
    };
    of_half(false).max(of_half(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::noise::Noise;
    use crate::units::to_i64;

    const S: i64 = 1_000_000_000;
    /// θ(t) = 3 ms + 12 ppm·t.
    const OMEGA: f64 = 12e-6;

    /// Root mean squares of the errors of θ and ω in standard deviations that the line states, over 200 seeds.
    fn in_stated_sigmas(count: i64, delay_ns: impl Fn(&mut Noise) -> f64) -> (f64, f64) {
        let (mut of_theta, mut of_omega) = (0.0, 0.0);
        for seed in 0..200 {
            let mut noise = Noise::new(seed);
            let theta = |t: i64| 3_000_000 + to_i64(to_f64(t) * OMEGA);
            let exchanges: Vec<Exchange> = (0..count)
                .map(|k| {
                    let (t, mut delay) = (k * S, || to_i64(delay_ns(&mut noise)));
                    let (upper_ns, lower_ns) = (theta(t) + delay(), theta(t) - delay());
                    Exchange {
                        t1: RawTime::from_ns(t),
                        t4: RawTime::from_ns(t),
                        upper_ns,
                        lower_ns,
                        stamp_ns: 0,
                        pair: None,
                    }
                })
                .collect();
            let line = FirstLine::new(&exchanges, RawTime::from_ns(count * S), 1e-9, 0.0).expect("a line");
            let error = to_f64(line.kalman.theta_ns_at(line.kalman.t) - theta(count * S)) * 1e-9;
            of_theta += error * error / line.kalman.p.p00 / 200.0;
            of_omega += (line.kalman.omega - OMEGA) * (line.kalman.omega - OMEGA) / line.kalman.p.p11 / 200.0;
        }
        (of_theta.sqrt(), of_omega.sqrt())
    }

    #[test]
    fn a_line_errs_by_about_as_much_as_it_says_whatever_the_noise() {
        for count in [16, 32, 64, 128] {
            let queue = in_stated_sigmas(count, |noise| 100_000.0 + 30_000.0 * noise.exponential());
            let stamp = in_stated_sigmas(count, |noise| 2_000.0 + 100.0 * noise.normal());
            for (of_theta, of_omega) in [queue, stamp] {
                assert!((0.4..1.7).contains(&of_theta), "{count}: {queue:?} {stamp:?}");
                assert!((0.3..1.7).contains(&of_omega), "{count}: {queue:?} {stamp:?}");
            }
        }
    }

    #[test]
    fn a_half_without_a_pure_packet_leaves_the_line_in_doubt() {
        let delay = |k: i64| if k < 32 { 50_000 } else { 50_000 + (k * 37 % 32) * 10_000 + 100_000 };
        let exchanges: Vec<Exchange> = (0..64)
            .map(|k| {
                let t = RawTime::from_ns(k * S);
                Exchange { t1: t, t4: t, upper_ns: delay(k), lower_ns: -delay(k), stamp_ns: 0, pair: None }
            })
            .collect();
        let doubt = |exchanges: &[Exchange]| {
            let end = exchanges.last().expect("some").t4;
            FirstLine::new(exchanges, end, 1e-9, 0.0).expect("a line").kalman.p.p00.sqrt()
        };
        assert!(doubt(&exchanges[..32]) < 2e-9, "the first half alone is pure");
        assert!(doubt(&exchanges) > 5e-6, "{}", doubt(&exchanges));
    }
}
