//! The promise over time: the interval less the truth, which ought to lie on both sides of zero, the estimate inside it,
//! and below the same errors at their own scale.
//!
//! Thousands of instants share a column of pixels: each column shows the extremes, so no excursion is lost. Instants at
//! which the interval missed the truth are marked at the bottom.

use super::axis::{Axis, Unit};
use super::{COLOURS, LEFT, Panel, RIGHT, WIDTH, document, legend_at_right, line, path, text};

const COLUMNS: usize = 834;
const BAND_PX: (f64, f64) = (34.0, 264.0);
const ERRORS_PX: (f64, f64) = (318.0, 458.0);
const HEIGHT: f64 = 508.0;
/// The scale follows this share of the columns: the rest, such as the first seconds, may leave the panel.
const SHOWN: f64 = 0.97;

/// An estimate's error over time.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What the legend calls it.
    pub name: &'a str,
    /// Estimate less truth at each instant; not a number where there was none.
    pub error_ns: &'a [f64],
}

/// An instant to point at in both panels.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When.
    pub t_s: f64,
    /// What is written beside it, where there is room.
    pub label: String,
    /// The world did something; else somebody said something.
    pub is_cause: bool,
}

/// The figure. All slices are as long as `t_s`; a value that is not finite leaves a gap.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// True time of each instant, ascending.
    pub t_s: &'a [f64],
    /// The interval's begin less the truth.
    pub earliest_ns: &'a [f64],
    /// The interval's end less the truth.
    pub latest_ns: &'a [f64],
    /// The estimates to compare, the first of them ours.
    pub lines: &'a [Line<'a>],
}

impl Interval<'_> {
    /// The figure as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        self.svg_with(&[])
    }

    /// The same with marks, ascending.
    #[must_use]
    pub fn svg_with(&self, marks: &[Mark]) -> String {
        let (earliest, latest) = (self.columns(self.earliest_ns), self.columns(self.latest_ns));
        let errors: Vec<Vec<Column>> = self.lines.iter().map(|line| self.columns(line.error_ns)).collect();
        let mut svg = String::new();
        let band = self.panel(BAND_PX, reach(earliest.iter().chain(&latest)), "interval less truth");
        band.frame(&mut svg, &band.y.title(), false);
        band.clipped(&mut svg, "band", |svg| {
            draw_band(svg, &band, &earliest, &latest);
            if let Some(ours) = errors.first() {
                draw_line(svg, &band, ours, 0);
            }
        });
        draw_marks(&mut svg, &band, marks);
        label_marks(&mut svg, &band, marks);
        self.mark_misses(&mut svg, &band);
        legend_at_right(&mut svg, BAND_PX.0 - 10.0, &[("band swatch".to_owned(), "[earliest, latest]".to_owned())]);
        let panel = self.panel(ERRORS_PX, reach(errors.iter().flatten()), "estimate less truth");
        panel.frame(&mut svg, &panel.y.title(), true);
        draw_marks(&mut svg, &panel, marks);
        panel.clipped(&mut svg, "errors", |svg| {
            for (number, columns) in errors.iter().enumerate().rev() {
                draw_line(svg, &panel, columns, number);
            }
        });
        let name = |(number, line): (usize, &Line<'_>)| (format!("c{} swatch", number % COLOURS), line.name.to_owned());
        legend_at_right(&mut svg, ERRORS_PX.0 - 10.0, &self.lines.iter().enumerate().map(name).collect::<Vec<_>>());
        document(HEIGHT, "interval and error of the estimate over time", &svg)
    }

    fn panel(&self, (top, bottom): (f64, f64), (low, high): (f64, f64), name: &str) -> Panel {
        let (first, last) = self.span_s();
        let x = Axis {
            low: first,
            high: last,
            from_px: LEFT,
            to_px: WIDTH - RIGHT,
            unit: Unit::Seconds,
            logarithmic: false,
            name: "time".to_owned(),
        };
        let y = Axis {
            low,
            high,
            from_px: bottom,
            to_px: top,
            unit: Unit::Nanoseconds,
            logarithmic: false,
            name: name.to_owned(),
        };
        Panel { x, y }
    }

    /// From the first to the last instant, or from 0 if the first is near it.
    fn span_s(&self) -> (f64, f64) {
        match (self.t_s.first(), self.t_s.last()) {
            (Some(first), Some(last)) if (0.0..0.02 * last).contains(first) => (0.0, *last),
            (Some(first), Some(last)) if last > first => (*first, *last),
            (Some(first), _) => (*first, first + 1.0),
            _ => (0.0, 1.0),
        }
    }

    /// The extremes of a slice in each column of pixels, columns without a value left out.
    fn columns(&self, values: &[f64]) -> Vec<Column> {
        let (first, last) = self.span_s();
        let mut columns: Vec<Column> = Vec::new();
        for (t_s, value) in self.t_s.iter().zip(values).filter(|(_, value)| value.is_finite()) {
            let index = (((t_s - first) / (last - first) * COLUMNS as f64) as usize).min(COLUMNS - 1);
            match columns.last_mut() {
                Some(column) if column.index == index => {
                    column.low = column.low.min(*value);
                    column.high = column.high.max(*value);
                }
                _ => columns.push(Column { index, t_s: *t_s, low: *value, high: *value }),
            }
        }
        columns
    }

    fn mark_misses(&self, svg: &mut String, panel: &Panel) {
        let bottom = panel.y.from_px;
        let mut marked = f64::NEG_INFINITY;
        for ((t_s, earliest), latest) in self.t_s.iter().zip(self.earliest_ns).zip(self.latest_ns) {
            let x = panel.x.px(*t_s);
            if (*earliest > 0.0 || *latest < 0.0) && x >= marked + 1.0 {
                line(svg, "miss", (x, bottom), (x, bottom - 10.0));
                marked = x;
            }
        }
    }
}

/// The values of one column of pixels.
#[derive(Clone, Copy, Debug)]
struct Column {
    index: usize,
    t_s: f64,
    low: f64,
    high: f64,
}

/// A range around zero that shows most columns, with some air.
fn reach<'a>(columns: impl Iterator<Item = &'a Column>) -> (f64, f64) {
    let (mut lows, mut highs): (Vec<f64>, Vec<f64>) = columns.map(|column| (-column.low, column.high)).unzip();
    let most = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let index = ((values.len() as f64 * SHOWN) as usize).min(values.len().saturating_sub(1));
        values.get(index).copied().unwrap_or(1.0).max(0.0)
    };
    let (low, high) = (most(&mut lows), most(&mut highs));
    let air = 0.15 * (low + high).max(1.0);
    (-low - air, high + air)
}

/// Columns that follow each other: a gap of more than a few ends a run.
fn unbroken(columns: &[Column]) -> impl Iterator<Item = &[Column]> {
    let usual = columns.windows(2).map(|pair| pair[1].index - pair[0].index).min().unwrap_or(1);
    columns.chunk_by(move |a, b| b.index - a.index <= 4 * usual)
}

/// Both edges have the same columns, so their runs are the same; where nothing was said there is nothing.
fn draw_band(svg: &mut String, panel: &Panel, earliest: &[Column], latest: &[Column]) {
    let at = |column: &Column, value: f64| (panel.x.px(column.t_s), panel.y.px(value));
    for (earliest, latest) in unbroken(earliest).zip(unbroken(latest)) {
        let lower: Vec<_> = earliest.iter().map(|column| at(column, column.low)).collect();
        let upper: Vec<_> = latest.iter().map(|column| at(column, column.high)).collect();
        let around: Vec<_> = upper.iter().chain(lower.iter().rev()).copied().collect();
        path(svg, "band", &around, true);
        path(svg, "edge", &upper, false);
        path(svg, "edge", &lower, false);
    }
}

/// A line for each instant, one at most for each pixel.
fn draw_marks(svg: &mut String, panel: &Panel, marks: &[Mark]) {
    let mut drawn = f64::NEG_INFINITY;
    for mark in marks {
        let x = panel.x.px(mark.t_s);
        if mark.is_cause || x >= drawn + 1.0 {
            line(svg, if mark.is_cause { "mark cause" } else { "mark" }, (x, panel.y.from_px), (x, panel.y.to_px));
            drawn = x;
        }
    }
}

/// The label of each instant, unless it would stand in that of another; what was done to the world comes first.
fn label_marks(svg: &mut String, panel: &Panel, marks: &[Mark]) {
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let (causes, others) = marks.iter().partition::<Vec<_>, _>(|mark| mark.is_cause);
    for mark in causes.into_iter().chain(others) {
        let from = panel.x.px(mark.t_s) + 3.0;
        let to = from + 5.0 + 7.0 * mark.label.chars().count() as f64;
        if taken.iter().all(|&(begin, end)| to <= begin || from >= end) {
            text(svg, "tick number", (from, panel.y.to_px + 10.0), &mark.label);
            taken.push((from, to));
        }
    }
}

fn draw_line(svg: &mut String, panel: &Panel, columns: &[Column], number: usize) {
    let class = format!("c{} line", number % COLOURS);
    for run in unbroken(columns) {
        let mut points = Vec::new();
        for column in run {
            let x = panel.x.px(column.t_s);
            points.push((x, panel.y.px(column.low)));
            if column.high > column.low {
                points.push((x, panel.y.px(column.high)));
            }
        }
        path(svg, &class, &points, false);
    }
}
