//! Figures as SVG text. Colours and fonts are classes that the page around them defines (`html`), so that one figure is
//! readable on light and on dark.

mod axis;
mod distribution;
mod interval;
mod ranges;

pub use distribution::{Distribution, Errors};
pub use interval::{Interval, Line, Mark};
pub use ranges::{Range, Ranges};

use axis::Axis;
use std::fmt::Write;

/// All figures are this wide.
const WIDTH: f64 = 920.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
/// Series beyond this many share colours.
const COLOURS: usize = 5;

/// The rectangle data are drawn in, with its axes.
struct Panel {
    x: Axis,
    y: Axis,
}

impl Panel {
    /// Grid, tick labels and the title above the vertical axis.
    fn frame(&self, svg: &mut String, title: &str, with_x_labels: bool) {
        let (left, right) = (self.x.from_px, self.x.to_px);
        let (bottom, top) = (self.y.from_px, self.y.to_px);
        for (value, label) in self.y.ticks(7) {
            let y = self.y.px(value);
            let class = if value == 0.0 { "zero" } else { "grid" };
            line(svg, class, (left, y), (right, y));
            text(svg, "tick end", (left - 8.0, y + 4.0), &label);
        }
        for (value, label) in self.x.ticks(9) {
            let x = self.x.px(value);
            line(svg, "grid", (x, bottom), (x, top));
            if with_x_labels {
                text(svg, "tick mid", (x, bottom + 18.0), &label);
            }
        }
        line(svg, "axis", (left, bottom), (right, bottom));
        text(svg, "label", (left, top - 10.0), title);
        if with_x_labels {
            text(svg, "label mid", ((left + right) / 2.0, bottom + 38.0), &self.x.title());
        }
    }

    /// What is drawn inside stays inside. Figures on one page share the names, and what they stand for.
    fn clipped(&self, svg: &mut String, id: &str, inside: impl FnOnce(&mut String)) {
        let (x, y) = (self.x.from_px, self.y.to_px);
        let (width, height) = (self.x.to_px - x, self.y.from_px - y);
        push(
            svg,
            format_args!(
                "<clipPath id=\"{id}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/></clipPath>\
                 <g clip-path=\"url(#{id})\">\n"
            ),
        );
        inside(svg);
        svg.push_str("</g>\n");
    }
}

/// Room for an entry of a legend: letters are about half as wide as the line is high.
fn entry_px(name: &str) -> f64 {
    22.0 + 6.0 * name.chars().count() as f64 + 16.0
}

/// Names, each behind a swatch of its class, from `left` on.
fn legend(svg: &mut String, (left, y): (f64, f64), entries: &[(String, String)]) {
    let mut x = left;
    for (class, name) in entries {
        let top = y - 9.0;
        push(svg, format_args!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"16\" height=\"9\"/>\n"));
        text(svg, "tick", (x + 22.0, y), name);
        x += entry_px(name);
    }
}

/// The same, so that it ends at the right edge.
fn legend_at_right(svg: &mut String, y: f64, entries: &[(String, String)]) {
    let width: f64 = entries.iter().map(|(_, name)| entry_px(name)).sum();
    legend(svg, (WIDTH - RIGHT - width + 16.0, y), entries);
}

fn document(height: f64, description: &str, body: &str) -> String {
    let description = escape(description);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{description}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n{body}</svg>\n"
    )
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    push(svg, format_args!("<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>\n"));
}

fn text(svg: &mut String, class: &str, at: (f64, f64), words: &str) {
    let ((x, y), words) = (at, escape(words));
    push(svg, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>\n"));
}

/// A path through points.
fn path(svg: &mut String, class: &str, points: &[(f64, f64)], closed: bool) {
    if points.is_empty() {
        return;
    }
    push(svg, format_args!("<path class=\"{class}\" d=\""));
    for (index, (x, y)) in points.iter().enumerate() {
        push(svg, format_args!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' }));
    }
    svg.push_str(if closed { "Z\"/>\n" } else { "\"/>\n" });
}

fn push(svg: &mut String, what: std::fmt::Arguments<'_>) {
    svg.write_fmt(what).unwrap_or_else(|_| unreachable!("a string takes any text"));
}

/// Text as it may stand in HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
