//! What a guest printed, and the questions that tests ask of it.

use std::process::Output;

/// How much of it a failed test shows.
const TAIL: usize = 60;

/// What linuxptp and our agent say of a stamp that did not come, or was of no use.
const LOST_STAMPS: [&str; 3] = ["timed out while polling for tx timestamp", "without timestamp", "event=stamp-dropped"];

pub(crate) struct Console {
    title: String,
    text: String,
}

impl Console {
    pub(crate) fn new(title: String, output: &Output) -> Self {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            text += &String::from_utf8_lossy(&output.stderr);
        }
        Console { title, text }
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The scenario ran to its end, and no stamp was lost on the way.
    pub(crate) fn expect_done(&self) {
        self.expect(self.lines_with("guest: done") == 1, "the guest did not come to its end");
        self.expect(self.lines_with("guest: stamps that the cards lost: 0") == 1, "the driver lost stamps");
        for complaint in LOST_STAMPS {
            self.expect(self.lines_with(complaint) == 0, complaint);
        }
    }

    /// A figure of the judge's summary.
    pub(crate) fn figure(&self, key: &str) -> i64 {
        let value = self.summary().split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let number = value.and_then(|value| value.parse().ok());
        self.expect(number.is_some(), &format!("the judge has no figure {key}"));
        number.unwrap_or_default()
    }

    /// All figures of the judge.
    pub(crate) fn summary(&self) -> &str {
        let line = self.text.lines().find_map(|line| line.trim().strip_prefix("judge-summary: "));
        self.expect(line.is_some(), "the judge gave no summary");
        line.unwrap_or_default()
    }

    /// Exactly this, but for the ends of the line.
    pub(crate) fn has_line(&self, wanted: &str) -> bool {
        self.text.lines().any(|line| line.trim() == wanted)
    }

    fn lines_with(&self, words: &str) -> usize {
        self.text.lines().filter(|line| line.contains(words)).count()
    }

    /// Fails the test with the end of the console.
    #[track_caller]
    pub(crate) fn expect(&self, condition: bool, complaint: &str) {
        if !condition {
            let lines: Vec<&str> = self.text.lines().collect();
            println!("── {}", self.title);
            lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| println!("   {line}"));
            panic!("{}: {complaint}", self.title);
        }
    }
}
