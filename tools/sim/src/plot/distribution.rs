//! How large errors are: histograms of magnitudes over a logarithmic axis, laid over each other.
//!
//! The height is the share of samples per decade, so that equal areas are equal shares. Magnitudes are whole nanoseconds:
//! bins below 10 ns are a nanosecond wide, lest the histogram be a comb.

use super::axis::{Axis, Unit};
use super::{COLOURS, LEFT, Panel, RIGHT, WIDTH, document, legend, path};
use crate::stats;
use crate::table::time;

const PLOT_PX: f64 = 216.0;
const ROW_PX: f64 = 20.0;
const ENTRIES_PER_ROW: usize = 3;
const BINS_PER_DECADE: i32 = 12;

/// Errors of one estimator.
#[derive(Clone, Copy, Debug)]
pub struct Errors<'a> {
    /// What the legend calls it.
    pub name: &'a str,
    /// Errors of either sign.
    pub error_ns: &'a [i64],
}

/// The figure.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    /// What the horizontal axis is called: "magnitude of the error".
    pub quantity: &'a str,
    /// The estimators to compare, the first of them ours.
    pub series: &'a [Errors<'a>],
}

impl Distribution<'_> {
    /// The figure as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let edges = self.edges();
        let heights: Vec<Vec<f64>> = self.series.iter().map(|series| density(series.error_ns, &edges)).collect();
        let panel = self.panel(&edges, heights.iter().flatten().copied().fold(0.01, f64::max));
        let mut svg = String::new();
        panel.frame(&mut svg, "share of samples per decade, %", true);
        for (number, heights) in heights.iter().enumerate().rev() {
            let points = outline(&panel, &edges, heights);
            path(&mut svg, &format!("c{} area", number % COLOURS), &points, true);
            path(&mut svg, &format!("c{} line", number % COLOURS), &points, false);
        }
        let entry = |(number, series)| (format!("c{} swatch", number % COLOURS), described(series));
        let entries: Vec<_> = self.series.iter().enumerate().map(entry).collect();
        for (row, entries) in entries.chunks(ENTRIES_PER_ROW).enumerate() {
            legend(&mut svg, (LEFT, ROW_PX * (row as f64 + 0.75)), entries);
        }
        document(self.top() + PLOT_PX + 50.0, &format!("distribution of the {}", self.quantity), &svg)
    }

    /// Below the rows of the legend and the title of the axis.
    fn top(&self) -> f64 {
        ROW_PX * self.series.len().div_ceil(ENTRIES_PER_ROW) as f64 + 34.0
    }

    /// Borders of the bins, each at half a nanosecond, from the least to the greatest magnitude.
    fn edges(&self) -> Vec<f64> {
        let magnitudes =
            || self.series.iter().flat_map(|series| series.error_ns).map(|x| x.unsigned_abs().max(1) as f64);
        let (least, greatest) = (magnitudes().fold(f64::INFINITY, f64::min), magnitudes().fold(10.0, f64::max));
        let least = least.min(greatest / 10.0);
        let step = |x: f64| x.log10() * f64::from(BINS_PER_DECADE);
        let (first, last) = (step(least).floor() as i32, step(greatest).ceil() as i32 + 1);
        let edge = |i: i32| 10f64.powf(f64::from(i) / f64::from(BINS_PER_DECADE)).round().max(1.0) - 0.5;
        let mut edges: Vec<f64> = (first..=last).map(edge).collect();
        edges.dedup();
        edges
    }

    fn panel(&self, edges: &[f64], tallest: f64) -> Panel {
        let (low, high) = (edges.first().copied().unwrap_or(0.5), edges.last().copied().unwrap_or(10.0));
        let x = Axis {
            low,
            high,
            from_px: LEFT,
            to_px: WIDTH - RIGHT,
            unit: Unit::Nanoseconds,
            logarithmic: true,
            name: self.quantity.to_owned(),
        };
        let y = Axis {
            low: 0.0,
            high: 1.05 * tallest,
            from_px: self.top() + PLOT_PX,
            to_px: self.top(),
            unit: Unit::Percent,
            logarithmic: false,
            name: String::new(),
        };
        Panel { x, y }
    }
}

/// Share per decade in each bin.
fn density(error_ns: &[i64], edges: &[f64]) -> Vec<f64> {
    let mut counts = vec![0u64; edges.len().saturating_sub(1)];
    for error_ns in error_ns {
        let magnitude_ns = error_ns.unsigned_abs().max(1) as f64;
        let bin = edges.partition_point(|edge| *edge <= magnitude_ns).saturating_sub(1);
        if let Some(count) = counts.get_mut(bin) {
            *count += 1;
        }
    }
    let all = error_ns.len().max(1) as f64;
    counts.iter().zip(edges.windows(2)).map(|(count, bin)| *count as f64 / all / (bin[1] / bin[0]).log10()).collect()
}

fn outline(panel: &Panel, edges: &[f64], heights: &[f64]) -> Vec<(f64, f64)> {
    let Some(first) = heights.iter().position(|height| *height > 0.0) else { return Vec::new() };
    let last = heights.iter().rposition(|height| *height > 0.0).unwrap_or(first);
    let at = |edge: f64, height: f64| (panel.x.px(edge), panel.y.px(height));
    let mut points = vec![at(edges[first], 0.0)];
    for bin in first..=last {
        points.extend([at(edges[bin], heights[bin]), at(edges[bin + 1], heights[bin])]);
    }
    points.push(at(edges[last + 1], 0.0));
    points
}

fn described(series: &Errors<'_>) -> String {
    let mut errors = stats::Errors::new();
    errors.extend(series.error_ns.iter().copied());
    let figures = errors.summary().map(|s| format!(": p50 {}, p99 {}", time(s.p50_ns), time(s.p99_ns)));
    format!("{}{}", series.name, figures.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_shares() {
        let error_ns: Vec<i64> = (0..10_000).map(|i| if i % 4 == 0 { 1 } else { -(i + 20) }).collect();
        let figure = Distribution { quantity: "error", series: &[Errors { name: "x", error_ns: &error_ns }] };
        let edges = figure.edges();
        let heights = density(&error_ns, &edges);
        let area = |bins: std::ops::Range<usize>| -> f64 {
            bins.map(|bin| heights[bin] * (edges[bin + 1] / edges[bin]).log10()).sum()
        };
        assert!(edges.is_sorted_by(|a, b| a < b) && edges[..2] == [0.5, 1.5], "{edges:?}");
        assert!((area(0..heights.len()) - 1.0).abs() < 1e-9);
        assert!((area(0..1) - 0.25).abs() < 1e-9);
        let below = edges.iter().position(|edge| *edge > 1000.0).expect("an edge");
        let expected = error_ns.iter().filter(|x| (x.unsigned_abs() as f64) < edges[below]).count() as f64 / 1e4;
        assert!((area(0..below) - expected).abs() < 1e-9);
    }
}
