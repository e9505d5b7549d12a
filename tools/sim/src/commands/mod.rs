//! The commands. Each says yes or no; a mistake is worded for the person who made it.

pub(crate) mod all;
pub(crate) mod figures;
mod find;
pub(crate) mod leases;
pub(crate) mod matrix;
mod report;
pub(crate) mod run;
pub(crate) mod seeds;
pub(crate) mod speed;
mod tally;
mod timeline;
mod words;

use std::io::Write;

/// What is wrong with the question, and what to do about it.
pub(crate) type Mistake = String;

/// Prints a result.
fn print(text: &str) {
    // Whoever reads us may have closed the pipe; then there is nobody to tell.
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
}

/// Prints a value as JSON on one line, its fields in the order they were declared in.
fn print_json(value: &impl serde::Serialize) -> Result<(), Mistake> {
    let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    print(&text);
    Ok(())
}
