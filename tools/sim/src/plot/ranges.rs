//! Percentiles side by side: one row for each contestant, from its median to its worst, on one logarithmic axis.

use super::axis::{Axis, Unit};
use super::{COLOURS, RIGHT, WIDTH, document, legend, line, path, text};

const NAMES_PX: f64 = 190.0;
const ROW_PX: f64 = 17.0;
const GROUP_PX: f64 = 30.0;
const TOP_PX: f64 = 28.0;

/// One contestant.
#[derive(Clone, Debug)]
pub struct Range {
    /// What it is called.
    pub name: String,
    /// Those of one colour are the same kind.
    pub colour: usize,
    /// A dot, ns.
    pub p50_ns: i64,
    /// The end of the bar.
    pub p99_ns: i64,
    /// The end of the whisker.
    pub max_ns: i64,
}

/// The figure.
#[derive(Clone, Debug)]
pub struct Ranges<'a> {
    /// What the axis is called.
    pub quantity: &'a str,
    /// What the colours are, in their order; those that occur are in the legend.
    pub kinds: &'a [&'a str],
    /// Rows under a title each.
    pub groups: &'a [(String, Vec<Range>)],
}

impl Ranges<'_> {
    /// The figure as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let rows = self.rows().count();
        let bottom = TOP_PX + GROUP_PX * self.groups.len() as f64 + ROW_PX * rows as f64 + 6.0;
        let axis = self.axis();
        let mut svg = String::new();
        for (value, label) in axis.ticks(9) {
            let x = axis.px(value);
            line(&mut svg, "grid", (x, bottom), (x, TOP_PX));
            text(&mut svg, "tick mid", (x, bottom + 18.0), &label);
        }
        line(&mut svg, "axis", (axis.from_px, bottom), (axis.to_px, bottom));
        text(&mut svg, "label mid", ((axis.from_px + axis.to_px) / 2.0, bottom + 38.0), &axis.title());
        let occurs = |(number, _): &(usize, &&str)| self.rows().any(|row| row.colour == *number);
        let kind = |(number, name): (usize, &&str)| (format!("c{} swatch", number % COLOURS), (*name).to_owned());
        let kinds: Vec<_> = self.kinds.iter().enumerate().filter(occurs).map(kind).collect();
        legend(&mut svg, (NAMES_PX, 12.0), &kinds);
        let mut y = TOP_PX;
        for (title, rows) in self.groups {
            y += GROUP_PX;
            text(&mut svg, "label", (0.0, y - 8.0), title);
            for row in rows {
                y += ROW_PX;
                draw(&mut svg, &axis, y - 8.0, row);
            }
        }
        document(bottom + 50.0, self.quantity, &svg)
    }

    fn rows(&self) -> impl Iterator<Item = &Range> {
        self.groups.iter().flat_map(|(_, rows)| rows)
    }

    /// From below the least median to above the greatest of all.
    fn axis(&self) -> Axis {
        let low = self.rows().map(|row| row.p50_ns.max(1) as f64).fold(f64::INFINITY, f64::min);
        let high = self.rows().map(|row| row.max_ns as f64).fold(10.0, f64::max);
        Axis {
            low: 0.8 * low.min(high / 10.0),
            high: 1.2 * high,
            from_px: NAMES_PX,
            to_px: WIDTH - RIGHT,
            unit: Unit::Nanoseconds,
            logarithmic: true,
            name: self.quantity.to_owned(),
        }
    }
}

fn draw(svg: &mut String, axis: &Axis, y: f64, row: &Range) {
    let [p50, p99, max] = [row.p50_ns, row.p99_ns, row.max_ns].map(|ns| axis.px((ns as f64).max(axis.low)));
    let class = format!("c{}", row.colour % COLOURS);
    text(svg, "tick end", (NAMES_PX - 10.0, y + 4.0), &row.name);
    line(svg, &format!("{class} line"), (p99, y), (max, y));
    line(svg, &format!("{class} line"), (max, y - 4.0), (max, y + 4.0));
    let bar = [(p50, y - 2.5), (p99, y - 2.5), (p99, y + 2.5), (p50, y + 2.5)];
    path(svg, &format!("{class} swatch"), &bar, true);
    let dot = [(p50 - 4.5, y), (p50, y - 4.5), (p50 + 4.5, y), (p50, y + 4.5)];
    path(svg, &format!("{class} swatch"), &dot, true);
}
