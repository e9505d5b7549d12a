//! `matrix`: prints it, keeps it, or compares it with the one that was reviewed.

use truebound_sim::matrix::{Section, Sheet, sections};

use super::{Mistake, print, print_json};
use crate::cli::MatrixArgs;

pub(crate) fn run(args: &MatrixArgs) -> Result<bool, Mistake> {
    let wanted: Vec<Section> = sections()
        .into_iter()
        .filter(|section| args.section.is_empty() || args.section.contains(&section.number))
        .collect();
    if wanted.is_empty() {
        return Err(format!("no such section, use 1 to {}", sections().len()));
    }
    let sheets = truebound_sim::matrix::run(&wanted);
    let text: String = sheets.iter().map(Sheet::text).collect();
    if args.json {
        print_json(&sheets)?;
    } else {
        print(&text);
    }
    if let Some(path) = &args.write {
        std::fs::write(path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let Some(path) = &args.check else { return Ok(true) };
    let reviewed = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(compare(&reviewed, &text))
}

/// Says which lines differ.
fn compare(reviewed: &str, now: &str) -> bool {
    if reviewed == now {
        eprintln!("matrix: as reviewed");
        return true;
    }
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (old, new) = (lines(reviewed), lines(now));
    for index in 0..old.len().max(new.len()) {
        let (old, new) = (old.get(index), new.get(index));
        if old != new {
            old.into_iter().for_each(|line| eprintln!("- {line}"));
            new.into_iter().for_each(|line| eprintln!("+ {line}"));
        }
    }
    eprintln!(
        "matrix: not as reviewed. If the change is meant, run again with --write in place of --check and review the diff"
    );
    false
}
