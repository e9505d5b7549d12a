//! Leases by the library, in worlds whose clocks are as wrong as they may be: never a second holder, and the judge who
//! says so catches every planted fault.

use std::process::Command;

use serde_json::Value;
use truebound_sim::lease::{Break, Kind, Settings, Tally, run};

/// As many as a debug build does in a moment; `tools/test sim` has a million.
const TERMS: u64 = 400;

fn leases(kind: Kind, fault: Option<Break>, seed: u64) -> Tally {
    run(seed, Settings { kind, fault, terms: TERMS, is_told: true })
}

#[test]
fn there_is_never_a_second_holder_and_never_a_granter_that_thinks_expired_what_is_held() {
    for kind in Kind::ALL {
        for seed in 1..=3 {
            let tally = leases(kind, None, seed);
            assert_eq!(tally.violations(), 0, "{}", tally.first.unwrap_or_default());
            assert_eq!(tally.bound_violations, 0, "{kind:?}, seed {seed}");
            assert!(tally.terms >= TERMS && tally.actions > TERMS / 4, "{kind:?}, seed {seed}: {tally:?}");
        }
    }
}

/// Each of them in every kind of leases, but for those that are not by the library at all.
#[test]
fn every_planted_fault_is_caught() {
    let of_library = [Break::Rate, Break::NoConfirm, Break::NoPersist, Break::IgnoreSuspend];
    let cases = of_library.into_iter().flat_map(|fault| Kind::ALL.map(|kind| (fault, kind)));
    for (fault, kind) in cases.chain([(Break::Monotonic, Kind::Rate), (Break::Realtime, Kind::Clock)]) {
        let settings = Settings { kind, fault: Some(fault), terms: 5 * TERMS, is_told: false };
        let seed = (1..=20).find(|&seed| run(seed, settings).violations() > 0);
        assert!(seed.is_some(), "{fault:?} in {kind:?} leases goes unseen in seeds 1 to 20");
    }
}

#[test]
fn a_seed_is_a_run() {
    for kind in Kind::ALL {
        let [one, again, other] = [5, 5, 6].map(|seed| leases(kind, None, seed));
        assert_eq!(one, again);
        assert_ne!(one, other);
    }
}

#[test]
fn the_command_says_yes_and_no_and_counts_in_json() {
    let told = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_truebound-sim")).arg("leases").args(args).output();
        let output = output.expect("the program starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, out) = told(&["--terms", "90", "--json"]);
    let value: Value = serde_json::from_str(&out).expect("an object");
    assert_eq!((code, &value["violations"]), (Some(0), &Value::from(0)), "{out}");
    assert!(value["terms"].as_u64().is_some_and(|terms| terms >= 90), "{out}");
    let (code, out) = told(&["--terms", "500", "--kind", "clock", "--break", "realtime", "--timeline"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("VIOLATED") && out.contains("grants to"), "{out}");
    assert_eq!(told(&["--terms", "0"]).0, Some(2));
}
