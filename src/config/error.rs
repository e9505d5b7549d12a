//! What an operator sees when the configuration is refused: where, what is wrong, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

/// Why a configuration is refused. As text it is the whole report with the line and a caret; serialised (for
/// `check-config --json`) it has the fields `path`, `line`, `column`, `message` and `fix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct ConfigError(Box<Report>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Report {
    path: String,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    fix: String,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// The line in question; `indent` is as wide as what stands before the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt {
    text: String,
    indent: String,
    carets: usize,
}

impl ConfigError {
    /// The file as a whole is at fault.
    pub(crate) fn of_file(path: &Path, message: String, fix: &str) -> Self {
        ConfigError(Box::new(Report {
            path: path.display().to_string(),
            line: None,
            column: None,
            message,
            fix: fix.to_owned(),
            excerpt: Excerpt::default(),
        }))
    }

    /// The line, counted from 1; `None` if the file as a whole is at fault.
    pub(crate) fn line(&self) -> Option<usize> {
        self.0.line
    }

    /// The column in characters, counted from 1; `None` if the file as a whole is at fault.
    pub(crate) fn column(&self) -> Option<usize> {
        self.0.column
    }

    /// What is wrong, in one line.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What to write instead.
    pub(crate) fn fix(&self) -> &str {
        &self.0.fix
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { path, excerpt, .. } = &*self.0;
        let (Some(line), Some(column)) = (self.line(), self.column()) else {
            return write!(f, "error: {path}: {}\n  {}", self.message(), self.fix());
        };
        let gutter = line.to_string().len();
        writeln!(f, "error: {path}:{line}:{column}: {}", self.message())?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{line} | {}", excerpt.text)?;
        write!(f, "{:gutter$} | {}{} {}", "", excerpt.indent, "^".repeat(excerpt.carets), self.fix())
    }
}

/// The text of a configuration file, and where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl<'a> Document<'a> {
    /// The text at `span`; the empty text if there is none.
    pub(crate) fn slice(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or("")
    }

    /// The line, from 1, in which byte `at` stands.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        let at = self.text.floor_char_boundary(at);
        1 + self.text[..at].matches('\n').count()
    }

    /// An error at the bytes `span`; a span of several lines is marked to the end of its first.
    pub(crate) fn error(&self, span: Range<usize>, message: String, fix: impl Into<String>) -> ConfigError {
        let start = self.text.floor_char_boundary(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let (before, rest) = line.split_at(start.saturating_sub(line_start).min(line.len()));
        let marked = rest.floor_char_boundary(span.end.saturating_sub(start));
        ConfigError(Box::new(Report {
            path: self.path.display().to_string(),
            line: Some(self.line_of(start)),
            column: Some(1 + before.chars().count()),
            message,
            fix: fix.into(),
            excerpt: Excerpt {
                text: line.chars().map(printable).collect(),
                indent: before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect(),
                carets: rest[..marked].chars().count().max(1),
            },
        }))
    }
}

/// Control characters would move the caret, or worse.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}
