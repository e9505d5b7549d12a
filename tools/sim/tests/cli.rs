//! The command line as a stranger meets it: exit codes, JSON, the same output for the same seed, tallies that nobody
//! counts twice.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn sim(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_truebound-sim"));
    command.args(args).output().expect("the program starts")
}

/// Its exit code, what it says and what it complains of.
fn told(args: &[&str]) -> (Option<i32>, String, String) {
    let output = sim(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(args: &[&str]) -> (Option<i32>, Value, String) {
    let (code, out, _) = told(args);
    let value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error} in {out}"));
    (code, value, out)
}

/// An empty folder of its own for each test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

/// The only server is trusted, and half a millisecond off though it claims 50 µs; the file knows of no break.
const TRUSTED_LIAR: &str = r#"
    name = "unexpected"
    about = "a trusted liar"
    duration-s = 20
    assumptions = ["A1", "A2", "A3", "A4"]
    [[hosts]]
    name = "server"
    oscillator = "perfect"
    realtime-error-us = 500.0
    root.error-us = 50.0
    [[hosts]]
    name = "client"
    ppm = 23.0
    sources = [{ host = "server", poll-s = 1.0, trust = true }]
    [[links]]
    between = ["client", "server"]
    both.base-us = 50.0
"#;

/// The fields that our contract ends with are the last ones.
fn ends_with_the_figures(text: &str) {
    let fields = ["reads", "violations", "error_ns", "half_width_ns", "freq_error_ppm", "first_bound_ms", "seed"];
    let places: Vec<usize> = fields
        .iter()
        .map(|field| text.rfind(&format!("\"{field}\":")).unwrap_or_else(|| panic!("{field} in {text}")))
        .collect();
    assert!(places.is_sorted(), "{places:?} in {text}");
    let value: Value = serde_json::from_str(text).expect("an object");
    for (of, quantile) in ["error_ns", "half_width_ns"]
        .iter()
        .flat_map(|of| ["p50", "p90", "p99", "p999", "max"].map(|quantile| (of, quantile)))
    {
        assert!(value[of][quantile].is_u64(), "{of} {quantile} in {text}");
    }
    let seed = text.rfind("\"seed\":").expect("checked above");
    assert!(!text[seed + 7..].contains(','), "{text}");
}

#[test]
fn a_scenario_as_expected_is_a_yes() {
    let (code, value, text) = json(&["run", "pair", "--seed", "7", "--json"]);
    assert_eq!(
        (code, &value["as_expected"], &value["violations"], &value["seed"]),
        (Some(0), &true.into(), &0.into(), &7.into())
    );
    ends_with_the_figures(&text);
    let (code, text, _) = told(&["run", "pair"]);
    assert!(code == Some(0) && text.starts_with("as expected: true time was outside 0 of "), "{text}");
}

#[test]
fn a_planted_violation_is_a_no() {
    let file = folder("planted").join("unexpected.toml");
    std::fs::write(&file, TRUSTED_LIAR).expect("a file");
    let (code, value, _) = json(&["run", path(&file), "--json"]);
    assert_eq!((code, &value["as_expected"]), (Some(1), &false.into()));
    assert!(value["violations"].as_u64() > Some(10), "{value}");
    let (code, text, _) = told(&["run", path(&file)]);
    assert!(code == Some(1) && text.starts_with("NOT as expected"), "{text}");
    // The same world without the lie is a yes, so it was the lie.
    std::fs::write(&file, TRUSTED_LIAR.replace("500.0", "5.0")).expect("a file");
    assert_eq!(told(&["run", path(&file)]).0, Some(0));
    // Where truth stands near an edge, less than the whole half-width is not enough.
    assert_eq!(told(&["run", "small-asymmetry"]).0, Some(0));
    assert_eq!(told(&["run", "small-asymmetry", "--shrink", "0.5"]).0, Some(1));
}

#[test]
fn mistakes_say_what_to_do() {
    let folder = folder("mistakes");
    let file = folder.join("typo.toml");
    std::fs::write(&file, TRUSTED_LIAR.replace("poll-s", "pol-s")).expect("a file");
    let torn = folder.join("torn");
    std::fs::write(&torn, "{\"from\":0,\"to\":").expect("a file");
    for (args, expected) in [
        (&["run"][..], "or say --all"),
        (&["run", "pear"], "these are: bad-network, "),
        (&["run", path(&file)], "line 14"),
        (&["run", "pair", "--all"], "cannot be used with"),
        (&["seeds", "--count", "0"], "choose --count"),
        (&["seeds", "--node-seconds", "59"], "--node-seconds 60 or more"),
        (&["seeds", "--sum", path(&torn)], "torn line 1"),
        (&["seeds", "--sum", path(&torn), "--count", "3"], "cannot be used with"),
        (&["seeds", "--tally", path(&torn), "--shrink", "0.5"], "cannot be used with"),
    ] {
        let (code, _, complaint) = told(args);
        assert!(code == Some(2) && complaint.contains(expected), "{args:?}: {code:?} {complaint}");
    }
}

#[test]
fn the_same_seed_gives_the_same_output() {
    for args in [&["run", "bad-network", "--seed", "3", "--json"][..], &["run", "liar-constant", "--seed", "3"]] {
        assert_eq!(told(args).1, told(args).1, "{args:?}");
    }
    assert_ne!(told(&["run", "liar-constant", "--seed", "3"]).1, told(&["run", "liar-constant", "--seed", "4"]).1);
    let hunt = || {
        let (code, mut value, text) = json(&["seeds", "--from", "5", "--count", "7", "--node-seconds", "60", "--json"]);
        ends_with_the_figures(&text);
        let fields = value.as_object_mut().expect("an object");
        fields.retain(|name, _| name != "wall_s" && name != "node_seconds_per_wall_s");
        (code, value)
    };
    let (code, value) = hunt();
    assert_eq!((code, &value["worlds"], &value["failed"]), (Some(0), &7.into(), &Value::Array(Vec::new())), "{value}");
    assert_eq!(value, hunt().1);
}

#[test]
fn a_hunt_tells_which_seed_failed_and_how_to_see_it_again() {
    let args = ["seeds", "--from", "2", "--count", "6", "--node-seconds", "60", "--shrink", "0.2", "--json"];
    let (code, value, _) = json(&args);
    assert_eq!(code, Some(1), "{value}");
    let failure = &value["failures"][0];
    let (seed, again) = (failure["seed"].as_u64().expect("a seed"), failure["again"].as_str().expect("a command"));
    assert!((2..8).contains(&seed) && failure["what"].as_str().is_some_and(|what| what.contains("outside by")));
    let again: Vec<&str> = again.split(' ').skip(1).chain(["--json"]).collect();
    let (code, value, _) = json(&again);
    assert_eq!((code, &value["failed"][0], &value["failures"][0]["what"]), (Some(1), &seed.into(), &failure["what"]));
}

#[test]
fn tallies_add_up_and_count_no_seed_twice() {
    let folder = folder("tallies");
    let (one, other, copy) = (folder.join("one"), folder.join("other"), folder.join("copy"));
    let hunt = |from: &str, count: &str, file: &Path| {
        told(&["seeds", "--from", from, "--count", count, "--node-seconds", "60", "--json", "--tally", path(file)])
    };
    let (code, hunted, complaint) = hunt("0", "103", &one);
    assert_eq!(code, Some(0), "{complaint}");
    let lines = std::fs::read_to_string(&one).expect("a tally");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let (_, sum, _) = json(&["seeds", "--json", "--sum", path(&one)]);
    let hunted: Value = serde_json::from_str(&hunted).expect("an object");
    for field in ["worlds", "probes", "reads", "answered", "violations", "failed"] {
        assert_eq!(sum[field], hunted[field], "{field}");
    }
    assert_eq!(hunt("103", "2", &other).0, Some(0));
    let (code, sum, _) = json(&["seeds", "--json", "--sum", path(&other), path(&one)]);
    assert_eq!((code, &sum["worlds"], &sum["seeds"]), (Some(0), &105.into(), &serde_json::json!([[0, 104]])));
    // The first hundred seeds are in two files.
    std::fs::write(&copy, lines.lines().next().expect("a line")).expect("a file");
    let (code, _, complaint) = told(&["seeds", "--sum", path(&one), path(&copy)]);
    assert!(code == Some(2) && complaint.contains("seeds 0 to 99 are counted twice"), "{complaint}");
    let (code, _, complaint) = told(&["seeds", "--sum", path(&other), path(&other)]);
    assert!(code == Some(2) && complaint.contains("seeds 103 to 104 are counted twice"), "{complaint}");
    // Neither may a tally be continued where it has already been; elsewhere it may.
    let (code, _, complaint) = hunt("102", "5", &one);
    assert!(code == Some(2) && complaint.contains("--from 103"), "{complaint}");
    assert_eq!((hunt("103", "2", &one).0, told(&["seeds", "--sum", path(&one)]).0), (Some(0), Some(0)));
}

#[test]
fn a_page_shows_the_run() {
    let file = folder("page").join("page.html");
    assert_eq!(told(&["run", "suspend-reader-first", "--html", path(&file)]).0, Some(0));
    let page = std::fs::read_to_string(&file).expect("a page");
    for part in ["As expected", "sleeps for 30.0 s", "truebound-sim run suspend-reader-first --seed 1", "<svg "] {
        assert!(page.contains(part), "{part}");
    }
    // The second run, with more readers, was the same run.
    assert!(page.contains("the same to the byte") && !page.contains("BUT"), "the figures show another run");
    assert!(!page.contains("class=\"miss\"") && !page.contains("NaN"));
    assert_eq!(told(&["run", "trusted-liar", "--html", path(&file)]).0, Some(0));
    assert!(std::fs::read_to_string(&file).expect("a page").contains("class=\"miss\""));
}

#[test]
fn speed_tells_its_figures_and_finds_no_violation() {
    let (code, value, _) = json(&["speed", "--seconds", "40", "--nodes", "30", "--neighbours", "3", "--json"]);
    assert_eq!(code, Some(0), "{value}");
    for (world, simulated_s) in [("pair_1_per_s", 40), ("pair_64_per_s", 2), ("mesh", 20)] {
        let of = &value[world];
        assert_eq!((&of["simulated_s"], &of["violations"]), (&simulated_s.into(), &0.into()), "{world} in {value}");
        assert!(of["wall_s"].is_f64() && of["simulated_s_per_wall_s"].is_f64(), "{world} in {value}");
        assert!(of["probes"].as_u64() > Some(20) && of["answered"].as_u64() > Some(0), "{world} in {value}");
    }
    let mesh = &value["mesh"];
    assert_eq!((&mesh["nodes"], &mesh["neighbours"]), (&30.into(), &3.into()), "{value}");
    for field in ["peak_mib", "bytes_per_node"] {
        assert!(mesh[field].is_f64(), "{field} in {value}");
    }
    let (code, text, _) = told(&["speed", "--seconds", "20", "--nodes", "20", "--neighbours", "2"]);
    assert!(code == Some(0) && text.contains("mesh, 20 hosts, 2 neighbours"), "{text}");
    assert_eq!(told(&["speed", "--seconds", "0"]).0, Some(2));
}
