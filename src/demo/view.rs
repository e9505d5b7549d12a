//! What a person sees while the demonstration runs, and at its end.

use std::io::Write;

use serde_json::Value;

use crate::recorder::{show_ns, show_signed_ns};

/// Width of the drawn interval, characters.
const WIDTH: i64 = 61;

pub(crate) struct View {
    is_on: bool,
    is_terminal: bool,
    painted: usize,
    frame: u32,
}

impl View {
    pub(crate) fn new(is_on: bool, is_terminal: bool) -> Self {
        View { is_on, is_terminal, painted: 0, frame: 0 }
    }

    /// Paints over the last frame on a terminal; elsewhere one line a second.
    pub(crate) fn paint(&mut self, line: &Value, status: &Value) {
        self.frame += 1;
        if !self.is_on || (!self.is_terminal && !self.frame.is_multiple_of(4)) {
            return;
        }
        let lines = frame(line, status);
        let mut out = std::io::stdout().lock();
        // A closed pipe is nobody's concern here.
        if self.is_terminal {
            if self.painted > 0 {
                let _ = write!(out, "\x1b[{}A", self.painted);
            }
            let _ = lines.iter().try_for_each(|line| writeln!(out, "\x1b[2K{line}"));
            self.painted = lines.len();
        } else {
            let _ = writeln!(out, "{}", one_line(line, status));
        }
        let _ = out.flush();
    }

    /// The histograms and the verdict.
    pub(crate) fn sum_up(&self, summary: &Value, last: &Value) {
        println!("\n{}", last["text"].as_str().unwrap_or_default());
        let violations = summary["violations"].as_u64().unwrap_or(0);
        println!(
            "{} reads through the client, {violations} violations{}; first bound after {:.0} ms; seed {}",
            summary["reads"],
            if violations > 0 { format!(", worst miss {}", show(&last["worst_miss_ns"])) } else { String::new() },
            summary["first_bound_ms"].as_f64().unwrap_or(f64::NAN),
            summary["seed"],
        );
        println!(
            "disciplined clock: |error| p50 {}, p99 {}; frequency error {:+.3} ppm",
            show(&summary["clock_error_ns"]["p50"]),
            show(&summary["clock_error_ns"]["p99"]),
            summary["freq_error_ppm"].as_f64().unwrap_or(f64::NAN),
        );
    }
}

fn show(value: &Value) -> String {
    value.as_i64().map_or("-".to_owned(), |ns| show_ns(ns.unsigned_abs()))
}

fn frame(line: &Value, status: &Value) -> Vec<String> {
    let now = &line["now"];
    vec![
        format!(
            "status      {} ({})",
            status["status"].as_str().unwrap_or("starting"),
            status["reason"].as_str().unwrap_or("-")
        ),
        format!("half-width  {}", show(&now["half_width_ns"])),
        format!("truth       {} from the middle", now["truth_ns"].as_i64().map_or("-".to_owned(), show_signed_ns)),
        format!("            {}", ruler(now["half_width_ns"].as_i64(), now["truth_ns"].as_i64())),
        format!("reads       {}, violations {}", line["reads"], line["violations"]),
        format!("error p99   {} of the estimate", show(&line["error_ns"]["p99"])),
        format!("frequency   {:+.3} ppm", status["freq_error_ppm"].as_f64().unwrap_or(f64::NAN)),
    ]
}

/// The interval as a ruler with truth on it: `[────────◆─────|──────]`.
fn ruler(half_width: Option<i64>, truth: Option<i64>) -> String {
    let (Some(half_width), Some(truth)) = (half_width, truth) else { return String::new() };
    let position = (WIDTH / 2 + truth.saturating_mul(WIDTH / 2) / half_width.max(1)).clamp(0, WIDTH - 1);
    let cell = |at: i64| {
        if at == position {
            '◆'
        } else if at == WIDTH / 2 {
            '┼'
        } else {
            '─'
        }
    };
    format!("[{}]", (0..WIDTH).map(cell).collect::<String>())
}

fn one_line(line: &Value, status: &Value) -> String {
    let now = &line["now"];
    format!(
        "{:<12} half-width {:>9}  truth {:>10} from the middle  reads {:>7}  violations {}",
        status["status"].as_str().unwrap_or("starting"),
        show(&now["half_width_ns"]),
        now["truth_ns"].as_i64().map_or("-".to_owned(), show_signed_ns),
        line["reads"],
        line["violations"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ruler_shows_truth_where_it_is() {
        let at = |truth| ruler(Some(1000), Some(truth)).chars().position(|c| c == '◆');
        assert_eq!(at(0), Some(31));
        assert_eq!(at(-1000), Some(1));
        assert_eq!(at(1000), Some(61));
        assert_eq!(at(5000), Some(61));
    }
}
