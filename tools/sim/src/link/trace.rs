//! Recorded one-way delays played back: lines `t_s,forward_ns,back_ns`, in order of time, repeated from the start when
//! they end. Empty lines, lines that begin with `#` and one line of column names at the top are passed over.

use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A recording and the column to play. It is read when the scenario is parsed, so an unreadable one is an error of the
/// scenario; a relative path starts at the working directory.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(try_from = "Named")]
pub struct Trace {
    file: PathBuf,
    points: Arc<[Point]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at_ns: i64,
    delay_ns: i64,
}

/// Which column is this link's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The second column.
    #[default]
    Forward,
    /// The third column.
    Back,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Named {
    file: PathBuf,
    #[serde(default)]
    direction: Direction,
}

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// A line is not three numbers.
    #[error("{file}:{line}: expected t_s,forward_ns,back_ns")]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Time does not increase.
    #[error("{file}:{line}: not later than the line before")]
    Order {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A loop needs two points.
    #[error("{0}: fewer than two points")]
    Short(PathBuf),
}

impl TryFrom<Named> for Trace {
    type Error = TraceError;

    fn try_from(named: Named) -> Result<Self, TraceError> {
        Trace::load(&named.file, named.direction)
    }
}

impl Trace {
    /// Reads a recording.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn load(file: &Path, direction: Direction) -> Result<Self, TraceError> {
        let text = std::fs::read_to_string(file).map_err(|error| TraceError::Read(file.to_owned(), error))?;
        Self::parse(&text, file, direction)
    }

    fn parse(text: &str, file: &Path, direction: Direction) -> Result<Self, TraceError> {
        let mut points: Vec<Point> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(point) = point(line, direction) else {
                if points.is_empty() && line.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    continue;
                }
                return Err(TraceError::Line { file: file.to_owned(), line: number });
            };
            if points.last().is_some_and(|last| last.at_ns >= point.at_ns) {
                return Err(TraceError::Order { file: file.to_owned(), line: number });
            }
            points.push(point);
        }
        if points.len() < 2 {
            return Err(TraceError::Short(file.to_owned()));
        }
        Ok(Trace { file: file.to_owned(), points: points.into() })
    }

    /// The delay in force at an instant: that of the last point not after it. The last point holds as long as the points
    /// are apart on the average.
    pub(super) fn delay_ns(&self, at_ns: i64) -> i64 {
        let (first, last) = (self.points[0], self.points[self.points.len() - 1]);
        let span_ns = last.at_ns - first.at_ns;
        let period_ns = span_ns + (span_ns / (self.points.len() as i64 - 1)).max(1);
        let at_ns = first.at_ns + (at_ns - first.at_ns).rem_euclid(period_ns);
        self.points[self.points.partition_point(|point| point.at_ns <= at_ns) - 1].delay_ns
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}, {} points)", self.file.display(), self.points.len())
    }
}

fn point(line: &str, direction: Direction) -> Option<Point> {
    let mut fields = line.split(',').map(|field| field.trim().parse::<f64>().ok().filter(|x| x.is_finite()));
    let (at_s, forward_ns, back_ns) = (fields.next()??, fields.next()??, fields.next()??);
    let delay_ns = if direction == Direction::Forward { forward_ns } else { back_ns };
    fields.next().is_none().then_some(Point { at_ns: (at_s * 1e9).round() as i64, delay_ns: delay_ns.round() as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, direction: Direction) -> Result<Trace, TraceError> {
        Trace::parse(text, Path::new("x.csv"), direction)
    }

    #[test]
    fn plays_steps_in_a_loop() {
        let text = "t_s,forward_ns,back_ns\n# a comment\n10,100,900\n\n11.5, 200, 800\n13,300,700\n";
        let [forward, back] = [Direction::Forward, Direction::Back].map(|d| parsed(text, d).expect("well formed"));
        // three points 1.5 s apart: a loop of 4.5 s that begins at 10 s
        for (at_s, expected) in
            [(10.0, 100), (11.4, 100), (11.5, 200), (14.4, 300), (14.5, 100), (9.9, 300), (0.9, 300)]
        {
            let at_ns = (at_s * 1e9) as i64;
            assert_eq!((forward.delay_ns(at_ns), back.delay_ns(at_ns)), (expected, 1000 - expected), "at {at_s} s");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let message = |text: &str| parsed(text, Direction::Forward).expect_err(text).to_string();
        assert_eq!(message("1,2,3\n2,x,4\n"), "x.csv:2: expected t_s,forward_ns,back_ns");
        assert_eq!(message("1,2,3\n2,4\n"), "x.csv:2: expected t_s,forward_ns,back_ns");
        assert_eq!(message("1,2,3\n2,4,5,6\n"), "x.csv:2: expected t_s,forward_ns,back_ns");
        assert_eq!(message("1,2,3\n1,4,5\n"), "x.csv:2: not later than the line before");
        assert_eq!(message("1,2,3\n"), "x.csv: fewer than two points");
        assert!(Trace::load(Path::new("/nonexistent/x.csv"), Direction::Forward).is_err());
    }
}
