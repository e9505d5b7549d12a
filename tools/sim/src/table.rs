//! Tables: columns as wide as their widest cell, the first to the left, figures to the right. The same table is text for a
//! terminal and, in `html`, a table of a page.

use std::fmt;

/// A heading and rows of cells.
#[derive(Clone, Debug, Default)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        Table { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Another row; missing cells are empty.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The headings.
    #[must_use]
    pub fn headings(&self) -> &[String] {
        &self.headings
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.headings).chain(&self.rows)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.lines().map(Vec::len).max().unwrap_or(0);
        let cell = |line: &Vec<String>, column: usize| line.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> =
            (0..columns).map(|c| self.lines().map(|line| cell(line, c).chars().count()).max().unwrap_or(0)).collect();
        for (number, line) in self.lines().enumerate() {
            let mut text = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = cell(line, column);
                text += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            }
            writeln!(f, "{}", text.trim_end())?;
            if number == 0 {
                writeln!(f, "{}", "─".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)))?;
            }
        }
        Ok(())
    }
}

/// A time with three digits and the unit that suits it: `4.20 ns`, `31.5 µs`, `1.25 s`.
#[must_use]
pub fn time(ns: f64) -> String {
    let (scale, unit) = match ns.abs() {
        x if x < 999.5 => (1.0, "ns"),
        x if x < 999.5e3 => (1e3, "µs"),
        x if x < 999.5e6 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = ns / scale;
    let decimals = match value.abs() {
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut table = Table::new(["network", "p50", "p99"]);
        table.row(["A", "4.20 ns", "1 µs"]);
        table.row(["held out", "-"]);
        let expected = "network       p50   p99\n───────────────────────\nA         4.20 ns  1 µs\nheld out        -\n";
        assert_eq!(table.to_string(), expected);
        assert_eq!(Table::default().to_string(), "\n\n");
    }

    #[test]
    fn times_have_three_digits() {
        for (ns, text) in [
            (0.0, "0.00 ns"),
            (4.2, "4.20 ns"),
            (-99.96, "-100 ns"),
            (999.6, "1.00 µs"),
            (31_540.0, "31.5 µs"),
            (999_499.0, "999 µs"),
            (1.25e9, "1.25 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }
}
