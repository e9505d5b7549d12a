//! Every scenario of the repository, with several seeds: what assumptions promise holds, what breaks is noticed, and what
//! is planted is caught.

use std::path::{Path, PathBuf};

use truebound_sim::scenario::{Outcome, Scenario, judge};
use truebound_sim::world::NS_PER_S;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let entries = std::fs::read_dir(folder).expect("the folder of scenarios");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

fn read(file: &Path) -> Scenario {
    let text = std::fs::read_to_string(file).expect("a readable file");
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn named(name: &str) -> Scenario {
    let file = files().into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == name));
    read(&file.unwrap_or_else(|| panic!("no scenario {name}")))
}

fn say(name: &str, outcome: &Outcome) {
    let Outcome { seed, reads, violations, violations_before_notice, notice_s, .. } = outcome;
    let (error, half) = (outcome.error_us.p50, outcome.half_width_us.p50);
    println!(
        "{name}, seed {seed}: {reads} reads, {violations} violations ({violations_before_notice} before the notice after \
         {notice_s:?} s), error {error:.2} us, half-width {half:.1} us, digest {}",
        outcome.digest
    );
}

#[test]
fn every_scenario_does_what_it_says() {
    let files = files();
    assert!(files.len() >= 30, "only {} scenarios", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let scenario = read(&file);
        assert_eq!(file.file_stem().and_then(|stem| stem.to_str()), Some(&scenario.name[..]));
        for seed in SEEDS {
            let outcome = scenario.run(seed);
            say(&scenario.name, &outcome);
            wrong.extend(
                judge(&scenario, &outcome).into_iter().map(|what| format!("{}, seed {seed}: {what}", scenario.name)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for name in ["bad-network", "liar-alternating-within-memory", "chain"] {
        let [one, again, other] = [5, 5, 6].map(|seed| named(name).run(seed));
        println!("{name}: {} {}", one.digest, again.digest);
        assert_eq!((&one.digest, one.reads, one.violations), (&again.digest, again.reads, again.violations), "{name}");
        assert_ne!(one.digest, other.digest, "{name}");
    }
}

/// Half-widths halved: where truth leans towards an edge the checker must see it.
#[test]
fn halved_half_widths_are_caught() {
    for seed in SEEDS {
        let mut world = named("small-asymmetry").world(seed);
        world.hosts.iter_mut().for_each(|host| host.checker.shrink = Some(0.5));
        world.run(60 * NS_PER_S);
        let client = world.host_named("client").expect("it has one");
        let checker = world.checker(client);
        assert!(checker.violations > 50, "seed {seed}: {} violations of {} reads", checker.violations, checker.reads);
    }
}
