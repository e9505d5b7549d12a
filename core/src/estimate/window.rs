//! The sliding separator: the soft-margin line between all forward and all reverse points of the last seconds, as
//! HUYGENS draws it.
//!
//! The window is long enough for the rate of probes and short enough for the wander of the crystal. Every step the line
//! is drawn anew, with a small share of the points tolerated on its wrong side. The line *is* the state: successive
//! windows share most of their points, so averaging lines would count them twice.

use std::collections::VecDeque;

use super::Exchange;
use super::kalman::{Covariance, Kalman};
use super::separator::{Line, Point, Scratch, separate};
use crate::time::RawTime;
use crate::units::to_f64;

/// Points per direction that a window should hold, and its limits, s.
const WINDOW_POINTS: f64 = 32.0;
const WINDOW_S: (f64, f64) = (8.0, 32.0);
/// Points kept per direction.
const POINTS_MAX: usize = 2048;
/// One point in so many is tolerated on the wrong side (ν).
const TOLERATED_SHARE: usize = 64;
/// A line is drawn this often, ns.
const STEP_NS: i64 = 250_000_000;
/// Points and seconds before the first line.
const START_POINTS: usize = 8;
const START_S: f64 = 2.0;
/// Slopes considered: ±Ω at first, ± this around the last one later.
const SLOPES: f64 = 1e-3;
const SLOPES_LATER: f64 = 2e-5;
/// Noise of a line is this share of how much its strip exceeds the narrowest.
const EXCESS_SHARE: f64 = 0.3;
/// Noise of the narrowest line: that of its stamps, between these, s.
const SIGMA_MIN: f64 = 5e-9;
const SIGMA_MAX: f64 = 30e-9;

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    sigma: f64,
    upper: VecDeque<(RawTime, i64)>,
    lower: VecDeque<(RawTime, i64)>,
    next_step: Option<RawTime>,
    kalman: Option<Kalman>,
    narrowest: f64,
    scratch: Scratch,
    lines: u32,
}

impl Window {
    pub(crate) fn new() -> Self {
        Window {
            sigma: SIGMA_MAX,
            upper: VecDeque::new(),
            lower: VecDeque::new(),
            next_step: None,
            kalman: None,
            narrowest: f64::INFINITY,
            scratch: Scratch::default(),
            lines: 0,
        }
    }

    pub(crate) fn insert(&mut self, exchange: &Exchange) {
        self.sigma = (to_f64(exchange.stamp_ns) * 1e-9).clamp(SIGMA_MIN, SIGMA_MAX);
        keep(&mut self.upper, exchange.t1, exchange.upper_ns);
        keep(&mut self.lower, exchange.t4, exchange.lower_ns);
    }

    pub(crate) fn settle(&mut self, t: RawTime) {
        if self.next_step.is_some_and(|at| t < at) {
            return;
        }
        let Some(since) = self.upper.front().zip(self.lower.front()).map(|(u, l)| u.0.max(l.0)) else { return };
        if self.upper.len().min(self.lower.len()) < START_POINTS || to_f64(t.ns_since(since)) * 1e-9 < START_S {
            return;
        }
        self.forget(t);
        self.draw(t);
        self.next_step = Some(t.plus_ns(STEP_NS));
    }

    /// Points older than the window go, as long as enough stay.
    fn forget(&mut self, t: RawTime) {
        for points in [&mut self.upper, &mut self.lower] {
            while let Some(&(front, _)) = points.front() {
                let age = to_f64(t.ns_since(front)) * 1e-9;
                let count = to_f64(i64::try_from(points.len()).unwrap_or(i64::MAX));
                let is_old = age > WINDOW_S.1 || (age > WINDOW_S.0 && count > WINDOW_POINTS * 2.0);
                if !is_old || points.len() <= START_POINTS {
                    break;
                }
                points.pop_front();
            }
        }
    }

    fn draw(&mut self, t: RawTime) {
        let Some(&(_, base_ns)) = self.upper.back() else { return };
        let point = |&(at, ns): &(RawTime, i64)| Point {
            t_s: -to_f64(t.ns_since(at)) * 1e-9,
            y_s: to_f64(ns.saturating_sub(base_ns)) * 1e-9,
        };
        let upper: Vec<Point> = self.upper.iter().map(point).collect();
        let lower: Vec<Point> = self.lower.iter().map(point).collect();
        let tolerated = (upper.len().min(lower.len()) / TOLERATED_SHARE).max(1);
        let slopes = self.kalman.as_ref().map_or(-SLOPES..=SLOPES, |kalman| {
            let doubt = SLOPES_LATER.max(6.0 * kalman.p.p11.max(0.0).sqrt());
            (kalman.omega - doubt).max(-SLOPES)..=(kalman.omega + doubt).min(SLOPES)
        });
        let Some(line) = separate(&upper, &lower, tolerated, slopes, &mut self.scratch) else { return };
        let span = upper.first().map_or(START_S, |first| -first.t_s).max(to_f64(STEP_NS) * 1e-9);
        self.take(t, base_ns, &line, span);
    }

    fn take(&mut self, t: RawTime, base_ns: i64, line: &Line, span: f64) {
        self.lines = self.lines.saturating_add(1);
        self.narrowest = self.narrowest.min(line.margin_s);
        let excess = EXCESS_SHARE * (line.margin_s - self.narrowest).max(0.0);
        let noise = (self.sigma * self.sigma + excess * excess).sqrt();
        let rate_noise = 2.0 * noise / span;
        self.kalman = Some(Kalman {
            t,
            base_ns,
            theta: line.offset_s,
            omega: line.slope,
            p: Covariance { p00: noise * noise, p01: 0.5 * noise * rate_noise, p11: rate_noise * rate_noise },
            q: 2e-18,
        });
    }

    pub(crate) fn kalman(&self) -> Option<&Kalman> {
        self.kalman.as_ref()
    }

    pub(crate) fn kalman_mut(&mut self) -> Option<&mut Kalman> {
        self.kalman.as_mut()
    }

    pub(crate) fn lines(&self) -> u32 {
        self.lines
    }
}

fn keep(points: &mut VecDeque<(RawTime, i64)>, t: RawTime, ns: i64) {
    if points.len() == POINTS_MAX {
        points.pop_front();
    }
    points.push_back((t, ns));
}
