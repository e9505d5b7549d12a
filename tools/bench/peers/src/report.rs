//! The figures as one table, and what is claimed of them.

use truebound_sim::table::Table;

use crate::claims::Claim;
use crate::figures::Figures;

/// Microseconds, with as many decimals as still say something.
fn us(ns: i64) -> String {
    let decimals = match ns.unsigned_abs() {
        0..10_000 => 2,
        10_000..1_000_000 => 1,
        _ => 0,
    };
    format!("{:.decimals$}", truebound_core::units::to_f64(ns) / 1e3)
}

/// All medians. A column that a contestant has no figure for is empty.
pub(crate) fn table(medians: &[Figures]) -> Table {
    let mut table = Table::new([
        "scenario, contestant (µs)",
        "p50",
        "p95",
        "p99",
        "max",
        "half-width p50",
        "max",
        "E",
        "p50 − E",
        "root dist. p50",
        "max",
        "reads",
        "violations",
        "CPU s/min",
        "peak MiB",
    ]);
    for figures in medians {
        let error = figures.error_ns;
        let mut cells = vec![format!("{}: {}", figures.scenario.name(), figures.contestant.name())];
        cells.extend([error.p50, error.p95, error.p99, error.max].map(us));
        let none = || vec![String::new(); 4];
        let is_ours = figures.contestant.is_ours();
        let (mut ours, mut theirs) = (none(), vec![String::new(); 2]);
        match &figures.half_width_ns {
            Some(width) if is_ours => {
                ours = [width.said.p50, width.said.max, width.claim, width.proved_p50()].map(us).into();
            }
            Some(width) => theirs = [width.said.p50, width.said.max].map(us).into(),
            None => {}
        }
        cells.extend(ours);
        cells.extend(theirs);
        cells.extend(if is_ours {
            [figures.reads, figures.violations].map(|n| n.to_string())
        } else {
            [const { String::new() }; 2]
        });
        cells.push(format!("{:.3}", figures.cpu_s_per_min));
        let mebibytes = u32::try_from(figures.peak_rss_kib).map_or(f64::INFINITY, f64::from) / 1024.0;
        cells.push(format!("{mebibytes:.1}"));
        table.row(cells);
    }
    table
}

/// The claims, each with the figure that decides it.
pub(crate) fn verdicts(claims: &[Claim]) -> Table {
    let mut table = Table::new(["scenario, contestant", "target", "is", "at most", "holds"]);
    for claim in claims {
        let holds = match (claim.holds, claim.is_claimed) {
            (true, _) => "yes",
            (false, true) => "NO",
            (false, false) => "no, nor is it claimed",
        };
        let who = format!("{}: {}", claim.scenario.name(), claim.contestant.name());
        table.row([who, claim.claim.to_owned(), short(claim.value), short(claim.limit), holds.to_owned()]);
    }
    table
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// In words.
pub(crate) fn summary(claims: &[Claim]) -> String {
    let held = claims.iter().filter(|claim| claim.holds).count();
    let broken = claims.iter().filter(|claim| claim.is_broken()).count();
    let all = claims.len();
    format!("{held} of {all} targets are met; {broken} of those missed are claimed in the README")
}
