//! A recording of a real agent as a link: `fixtures/loopback.csv` is what `truebound replay --delays` wrote of 25 s
//! with a server on the same host, ten requests a second.

use std::path::{Path, PathBuf};

use truebound_sim::link::{Direction, Link, LinkSpec, Queue, Trace};
use truebound_sim::rng::Rng;
use truebound_sim::scenario::{Outcome, Scenario, judge};

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/loopback.csv")
}

/// Departure and both delays of every line, ns, without floats: digits as they are written.
fn lines() -> Vec<[i64; 3]> {
    let text = std::fs::read_to_string(recording()).expect("the recording");
    let numbers = |line: &str| {
        let fields: Vec<i64> = line.split(',').map(|x| x.replace('.', "").parse().expect("a number")).collect();
        <[i64; 3]>::try_from(fields).expect("three fields")
    };
    text.lines().skip_while(|line| !line.starts_with('0')).map(numbers).collect()
}

/// A client behind the recording, with these directions of it there and back.
fn scenario(there: &str, back: &str) -> Scenario {
    let file = recording();
    let text = format!(
        r#"
        name = "loopback"
        about = "The recorded delays of a loopback interface."
        duration-s = 60
        assumptions = ["A1", "A2", "A3", "A4"]

        [[hosts]]
        name = "server"
        oscillator = "perfect"
        nic = "prompt"
        root.error-us = 1.0

        [[hosts]]
        name = "client"
        oscillator = "xo"
        ppm = 23.0
        nic = "prompt"
        realtime-error-us = 3000.0
        sources = [{{ host = "server", poll-s = 0.1 }}]

        [[links]]
        between = ["client", "server"]
        there = {{ base-us = 0.0, queue.trace = {{ file = {file:?}, direction = "{there}" }} }}
        back = {{ base-us = 0.0, queue.trace = {{ file = {file:?}, direction = "{back}" }} }}

        [expect]
        status = "locked"
        "#
    );
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_packet_is_as_late_as_the_recorded_one() {
    let lines = lines();
    assert!(lines.len() > 200, "{} lines", lines.len());
    for (direction, column) in [(Direction::Forward, 1), (Direction::Back, 2)] {
        let trace = Trace::load(&recording(), direction).expect("the simulator reads what the agent wrote");
        let spec = LinkSpec { base_us: 0.0, queue: Queue::Trace(trace), ..LinkSpec::default() };
        let mut link = Link::new(&spec, Rng::new(1));
        for line in &lines {
            let arrivals: Vec<i64> = link.carry(line[0]).collect();
            assert_eq!(arrivals, [line[0] + line[column]], "{direction:?} at {} ns", line[0]);
        }
    }
}

#[test]
fn a_world_behind_the_recording_keeps_the_promise_and_is_its_seed() {
    let run = |there, back, seed| -> Outcome {
        let scenario = scenario(there, back);
        let outcome = scenario.run(seed);
        println!("{there}/{back}, seed {seed}: {} reads, digest {}", outcome.reads, outcome.digest);
        assert_eq!(judge(&scenario, &outcome), Vec::<String>::new(), "{there}/{back}, seed {seed}");
        assert!(outcome.answered > 0 && outcome.violations == 0, "{there}/{back}, seed {seed}");
        outcome
    };
    let [one, again, other] = [5, 5, 6].map(|seed| run("forward", "back", seed));
    assert_eq!((&one.digest, one.reads), (&again.digest, again.reads));
    assert_ne!(one.digest, other.digest);
    let swapped = run("back", "forward", 5);
    assert_ne!(one.digest, swapped.digest, "the recording does not matter");
}
