//! A regression like chrony's: a register of up to 64 samples and as many older ones for the test of the residuals,
//! weighted by delay, cut at the old end until the residuals change sign often enough; samples whose delay stands out
//! are refused; a lasting correlation of offset and delay is taken out. Its claim is chrony's root distance.

mod regression;

use super::{Exchange, Law};
use crate::stats::median;
use regression::{Line, regress};
use std::collections::VecDeque;

/// What chrony.conf would say.
#[derive(Clone, Copy, Debug)]
pub struct ChronySettings {
    /// The error assumed of every sample, s.
    pub precision_s: f64,
    /// Exchanges combined into one sample; 1: none (`filter`).
    pub filter: usize,
    /// Only exchanges whose delay is below this quantile are taken; 0: those whose delay does not stand out instead
    /// (`maxdelayquant`, `maxdelaydevratio 10`).
    pub delay_quantile: f64,
    /// Whether a lasting asymmetry of the queues is estimated (`asymmetry`).
    pub asymmetry: bool,
    /// The error of rate assumed of every clock (`maxclockerror`).
    pub max_clock_error: f64,
}

impl Default for ChronySettings {
    /// With hardware stamps.
    fn default() -> Self {
        ChronySettings { precision_s: 10e-9, filter: 1, delay_quantile: 0.0, asymmetry: true, max_clock_error: 1e-6 }
    }
}

const REGISTER: usize = 64;
const HISTORY: usize = 3 * REGISTER;
const DELAY_DEVIATIONS: f64 = 10.0;
/// So many samples in a row must show the correlation before it is believed.
const ASYMMETRY_RUN: i32 = 10;
/// Upper 0.05 % points of Student's t for 1, 2, … degrees of freedom, and beyond.
const STUDENT: [f64; 40] = [
    636.6, 31.6, 12.92, 8.61, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587, 4.437, 4.318, 4.221, 4.140, 4.073, 4.015,
    3.965, 3.922, 3.883, 3.850, 3.819, 3.792, 3.768, 3.745, 3.725, 3.707, 3.690, 3.674, 3.659, 3.646, 3.633, 3.622,
    3.611, 3.601, 3.591, 3.582, 3.574, 3.566, 3.558, 3.551,
];
const STUDENT_BEYOND: f64 = 3.5;

#[derive(Clone, Copy, Debug)]
struct Point {
    t_s: f64,
    theta_s: f64,
    delay_s: f64,
    dispersion_s: f64,
}

impl Point {
    fn distance_s(&self) -> f64 {
        0.5 * self.delay_s + self.dispersion_s
    }
}

/// The state of the regression.
#[derive(Debug)]
pub(super) struct Chrony {
    settings: ChronySettings,
    quantile: Quantile,
    combiner: Combiner,
    history: VecDeque<Point>,
    /// How many of the youngest the regression uses.
    used: usize,
    asymmetry_run: i32,
    fit: Option<Fit>,
}

#[derive(Clone, Copy, Debug)]
struct Fit {
    line: Line,
    at_s: f64,
    skew: f64,
    deviation_s: f64,
    best: Point,
}

impl Chrony {
    pub(super) fn new(settings: ChronySettings) -> Self {
        Chrony {
            settings,
            quantile: Quantile::default(),
            combiner: Combiner::default(),
            history: VecDeque::new(),
            used: 0,
            asymmetry_run: 0,
            fit: None,
        }
    }

    /// chrony's test of the delay's deviation, and the exception for a clock that is off by more than the delay explains.
    fn stands_out(&self, point: &Point) -> bool {
        let (Some(fit), Some(last)) = (&self.fit, self.history.back()) else { return false };
        let least_s = self.history.iter().fold(f64::INFINITY, |least, point| least.min(point.delay_s));
        let allowed_s =
            fit.deviation_s * DELAY_DEVIATIONS + (point.t_s - last.t_s) * (fit.skew + self.settings.max_clock_error);
        let excess_s = 0.5 * (point.delay_s - least_s);
        let error_s = point.theta_s - fit.line.at(point.t_s - fit.at_s);
        excess_s > allowed_s && error_s.abs() - excess_s <= allowed_s
    }

    fn append(&mut self, point: Point) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(point);
        self.used = (self.used + 1).min(REGISTER);
        let older = (self.history.len() - self.used).min(self.used);
        let window: Vec<Point> = self.history.iter().skip(self.history.len() - self.used - older).copied().collect();
        let x: Vec<f64> = window.iter().map(|p| p.t_s - point.t_s).collect();
        let mut y: Vec<f64> = window.iter().map(|p| p.theta_s).collect();
        let weights = self.weights(&window[older..]);
        if self.settings.asymmetry && self.used > 4 {
            self.take_out_asymmetry(&window, &x, &mut y);
        }
        if let Some((line, start)) = regress(&x, &y, &weights, older) {
            self.used -= start;
            self.refit(line, &window[older + start..], point.t_s);
        }
    }

    /// The inverse weights of the samples: 1 for the nearest, growing with the square of the distance.
    fn weights(&self, points: &[Point]) -> Vec<f64> {
        let distances_s: Vec<f64> = points.iter().map(Point::distance_s).collect();
        let least_s = distances_s.iter().copied().fold(f64::INFINITY, f64::min);
        let precision_s = self.settings.precision_s;
        let scale_s = ((median(distances_s.clone()).unwrap_or(least_s) - least_s) / 0.7).max(precision_s).min(least_s);
        let weight = |distance_s: &f64| {
            let beyond_s = (distance_s - least_s - precision_s).max(0.0);
            let root = 1.0 + beyond_s / scale_s;
            root * root
        };
        distances_s.iter().map(weight).collect()
    }

    /// Offset against time and delay; a coefficient near ±1/2 that lasts means that one direction alone queues.
    fn take_out_asymmetry(&mut self, window: &[Point], x: &[f64], y: &mut [f64]) {
        let least_s = window.iter().map(|p| p.delay_s).fold(f64::INFINITY, f64::min);
        let excess: Vec<f64> = window.iter().map(|p| p.delay_s - least_s).collect();
        let Some(slope) = regression::slope_on_second(x, &excess, y) else {
            self.asymmetry_run = 0;
            return;
        };
        if slope * f64::from(self.asymmetry_run) < 0.0 {
            self.asymmetry_run = 0;
            return;
        }
        if slope.abs() >= 0.45 {
            self.asymmetry_run += if slope > 0.0 { 1 } else { -1 };
        }
        if self.asymmetry_run.abs() >= ASYMMETRY_RUN {
            let slope = slope.clamp(-0.5, 0.5);
            y.iter_mut().zip(&excess).for_each(|(y, excess)| *y -= slope * excess);
        }
    }

    fn refit(&mut self, line: Line, points: &[Point], at_s: f64) {
        let student = line.freedom.checked_sub(1).and_then(|i| STUDENT.get(i)).copied().unwrap_or(STUDENT_BEYOND);
        let skew = line.slope_error * student;
        let distance_s = |point: &Point| point.distance_s() + (at_s - point.t_s) * skew;
        let best = points.iter().copied().reduce(|a, b| if distance_s(&b) < distance_s(&a) { b } else { a });
        let deviation_s = line.variance.sqrt().max(1e-9);
        self.fit = best.map(|best| Fit { line, at_s, skew, deviation_s, best });
    }
}

impl Law for Chrony {
    fn push(&mut self, exchange: &Exchange) {
        let point = Point {
            t_s: exchange.middle_s(),
            theta_s: exchange.theta_s(),
            delay_s: exchange.delay_s(),
            dispersion_s: self.settings.precision_s,
        };
        let by_quantile = self.settings.delay_quantile > 0.0;
        if by_quantile && !self.quantile.takes(point.delay_s, self.settings.delay_quantile) {
            return;
        }
        let point = if self.settings.filter > 1 {
            let slope = self.fit.map_or(0.0, |fit| fit.line.slope);
            let Some(point) = self.combiner.take(point, self.settings.filter, slope) else { return };
            point
        } else {
            point
        };
        if by_quantile || !self.stands_out(&point) {
            self.append(point);
        }
    }

    fn at(&self, raw_s: f64) -> Option<f64> {
        self.fit.map(|fit| fit.line.at(raw_s - fit.at_s))
    }

    fn half_width_at(&self, raw_s: f64) -> Option<f64> {
        let fit = self.fit?;
        let grown_s = (fit.skew + self.settings.max_clock_error) * (raw_s - fit.at_s);
        Some(fit.best.distance_s() + fit.skew * (fit.at_s - fit.best.t_s) + fit.line.level_error + grown_s)
    }
}

/// A running quantile of the delay, moved by small steps.
#[derive(Debug, Default)]
struct Quantile {
    value_s: f64,
    count: u32,
}

impl Quantile {
    fn takes(&mut self, delay_s: f64, quantile: f64) -> bool {
        if self.count == 0 {
            self.value_s = delay_s;
        }
        self.count += 1;
        let step_s = (0.02 * self.value_s.abs() / (1.0 + 0.02 * f64::from(self.count)).sqrt()).max(1e-9);
        self.value_s += if delay_s > self.value_s { step_s * quantile } else { -step_s * (1.0 - quantile) };
        delay_s <= self.value_s + 1e-9 || self.count <= 10
    }
}

/// Several exchanges as one sample: the mean of the middle 60 % by offset.
#[derive(Debug, Default)]
struct Combiner {
    kept: Vec<Point>,
    variance: Option<f64>,
}

impl Combiner {
    fn take(&mut self, point: Point, number: usize, slope: f64) -> Option<Point> {
        let precision_s = point.dispersion_s;
        self.kept.push(point);
        if self.kept.len() < number {
            return None;
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by(|a, b| a.theta_s.total_cmp(&b.theta_s));
        let n = kept.len();
        let cut = if n <= 2 { 0 } else { ((n as f64 * (1.0 - 0.6) / 2.0) as usize).max(1).min((n - 1) / 2) };
        let middle = &kept[cut..n - cut];
        let count = middle.len() as f64;
        let mean = |of: fn(&Point) -> f64| middle.iter().map(of).sum::<f64>() / count;
        let (t_s, theta_s, delay_s) = (mean(|p| p.t_s), mean(|p| p.theta_s), mean(|p| p.delay_s));
        let residual = |p: &Point| p.theta_s - theta_s - slope * (p.t_s - t_s);
        let now = middle.iter().map(|p| residual(p) * residual(p)).sum::<f64>() / (count - 2.0).max(1.0);
        let variance = self.variance.map_or(now, |before| before + 0.04 * (now - before));
        self.variance = Some(variance);
        let dispersion_s = (variance.max(1e-20) / count).sqrt().max(precision_s);
        Some(Point { t_s, theta_s, delay_s, dispersion_s })
    }
}
