//! `truebound-sim leases`: is there ever a second holder? Worlds by seed until enough terms were granted.

use std::time::Instant;

use serde::Serialize;
use truebound_client::lease::rate::Margin;
use truebound_sim::lease::{self, Break, Cost, Kind, Settings, Tally};
use truebound_sim::parallel;
use truebound_sim::progress::Progress;
use truebound_sim::table::{Table, time};

use super::{Mistake, print, print_json};
use crate::cli::{KindWord, LeasesArgs};

/// Terms of one world: few, so that there are many worlds.
const WORLD_TERMS: u64 = 5_000;

/// What came of one kind of leases.
#[derive(Serialize)]
struct Part {
    kind: Kind,
    /// Worlds.
    worlds: u64,
    #[serde(flatten)]
    tally: Tally,
    violations: u64,
    availability: f64,
    /// Seeds of worlds with a violation.
    violated: Vec<u64>,
    panics: u64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Leases {
    fault: Option<Break>,
    from: u64,
    kinds: Vec<Part>,
    terms: u64,
    violations: u64,
    wall_s: f64,
}

/// The command.
pub(crate) fn run(args: &LeasesArgs) -> Result<bool, Mistake> {
    if args.terms == 0 {
        return Err("no terms, no leases; choose --terms above 0".to_owned());
    }
    let begin = Instant::now();
    let kinds = kinds(args.kind);
    let fault = args.fault;
    // Each kind has its share, and one world where one was named.
    let share = args.terms.div_ceil(kinds.len() as u64);
    let parts: Vec<Part> = kinds.iter().map(|&kind| part(kind, fault, share, args)).collect();
    let (terms, violations) = (sum(&parts, |part| part.tally.terms), sum(&parts, |part| part.violations));
    let is_clean = violations == 0 && sum(&parts, |part| part.panics) == 0;
    let wall_s = begin.elapsed().as_secs_f64();
    let leases = Leases { fault, from: args.from, kinds: parts, terms, violations, wall_s };
    match args.json {
        true => print_json(&leases)?,
        false => print(&text(&leases, args)),
    }
    Ok(is_clean)
}

fn sum(parts: &[Part], of: impl Fn(&Part) -> u64) -> u64 {
    parts.iter().map(of).sum()
}

fn kinds(word: KindWord) -> Vec<Kind> {
    match word {
        KindWord::Clock => vec![Kind::Clock],
        KindWord::Rate => vec![Kind::Rate],
        KindWord::Primary => vec![Kind::Primary],
        KindWord::All => Kind::ALL.to_vec(),
    }
}

/// Worlds from the first seed on, until there are enough terms. Not every world grants its share.
fn part(kind: Kind, fault: Option<Break>, terms: u64, args: &LeasesArgs) -> Part {
    let (mut tally, mut violated, mut panics, mut worlds) = (Tally::default(), Vec::new(), 0, 0);
    let mut progress = Progress::new(&format!("{} leases", kind.name()), terms);
    let settings = Settings { kind, fault, terms: WORLD_TERMS.min(terms), is_told: args.timeline };
    while tally.terms < terms && panics == 0 {
        let from = args.from + worlds;
        let count = (terms - tally.terms).div_ceil(settings.terms);
        let again = move |number| format!("truebound-sim leases --kind {} --from {}", kind.name(), from + number);
        let job = |number| lease::run(from + number, settings);
        parallel::in_order(count, again, job, |number, result| match result {
            Ok(world) => {
                progress.advance(world.terms);
                if world.violations() > 0 {
                    violated.push(from + number);
                }
                tally.merge(&world);
                progress.note(format!("{} violations", tally.violations()));
            }
            Err(words) => {
                panics += 1;
                tally.first.get_or_insert_with(|| format!("seed {}: {words}", from + number));
            }
        });
        worlds += count;
    }
    let (violations, availability) = (tally.violations(), tally.availability());
    Part { kind, worlds, tally, violations, availability, violated, panics }
}

fn text(leases: &Leases, args: &LeasesArgs) -> String {
    let mut text = format!("{}\n{}", safety(leases), cost(leases));
    text += "lost: true time at the end of a term in which neither its holder nor another could act, beyond what its\n";
    text +=
        "messages took, by what the less certain host knew. 1.0021: what the blanket rule loses of the same term.\n";
    for part in leases.kinds.iter().filter(|part| !part.violated.is_empty() || part.panics > 0) {
        let seeds: Vec<String> = part.violated.iter().take(20).map(u64::to_string).collect();
        text += &format!("\n{} worlds with violations, seeds {}\n", part.violated.len(), seeds.join(" "));
        text += part.tally.first.as_deref().unwrap_or("");
        text += "\n";
    }
    let verdict = if leases.violations == 0 { "no violation" } else { "VIOLATED" };
    text + &format!("\n{} terms, seeds from {}, {:.1} s: {verdict}\n", leases.terms, args.from, leases.wall_s)
}

fn safety(leases: &Leases) -> Table {
    let mut table = Table::new([
        "leases",
        "worlds",
        "terms",
        "actions",
        "not confirmed",
        "fenced off",
        "probes",
        "two holders",
        "free while held",
        "late effects",
        "available",
    ]);
    for Part { kind, worlds, tally, availability, .. } in &leases.kinds {
        let counts = [*worlds, tally.terms, tally.actions, tally.unconfirmed, tally.fenced_off, tally.probes];
        let found = [tally.two_holders, tally.free_while_held, tally.late_effects];
        let mut cells = vec![kind.name().to_owned()];
        cells.extend(counts.iter().chain(&found).map(u64::to_string));
        cells.push(format!("{:.1} %", 100.0 * availability));
        table.row(cells);
    }
    table
}

fn cost(leases: &Leases) -> Table {
    let mut table = Table::new([
        "leases",
        "term",
        "measured",
        "±100 µs: mean",
        "max",
        "wider: mean",
        "max",
        "±1000 ppm: mean",
        "max",
        "1.0021",
    ]);
    for Part { kind, tally, .. } in &leases.kinds {
        for (term_ns, costs) in &tally.cost {
            let of = |cost: &Cost| match cost.count {
                0 => ["-".to_owned(), "-".to_owned()],
                _ => [time(cost.mean_ns()), time(cost.max_ns as f64)],
            };
            let measured: u64 = costs.iter().map(|cost| cost.count).sum();
            let mut cells = vec![kind.name().to_owned(), time(*term_ns as f64), measured.to_string()];
            cells.extend(costs.iter().flat_map(of));
            cells.push(time(Margin::blanket_idle_ns(*term_ns) as f64));
            table.row(cells);
        }
    }
    table
}
