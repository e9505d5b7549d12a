//! The real agent beside the real chrony, in network namespaces over veth (tools/netns draws the network).
//!
//! Truth is known: the namespaces share one kernel clock, which nobody steers. Every test lets a judge read the
//! published interval over a thousand times a second and asks for no violation.
//!
//! `cargo test --release --test netns -- --test-threads=1 --nocapture`; as root, or where user namespaces are allowed.

#[allow(dead_code, reason = "tests/ptp.rs uses the rest")]
mod netns {
    pub(crate) mod agent;
    pub(crate) mod checker;
    pub(crate) mod chrony;
    pub(crate) mod lab;
    pub(crate) mod ping;
    pub(crate) mod place;
    pub(crate) mod sandbox;
    pub(crate) mod stats;
    pub(crate) mod tracking;
    pub(crate) mod traffic;
}

use std::time::{Duration, Instant};

use netns::agent::{Agent, following, serving_shifted};
use netns::checker::{Checker, Tally};
use netns::chrony::Chrony;
use netns::lab::Lab;
use netns::ping::round_trips;
use netns::stats::{Samples, every, heading, row, us};
use netns::traffic::Traffic;

/// How long a comparison lasts.
const COMPARISON: Duration = Duration::from_secs(60);
/// How often both are asked what they believe during a comparison.
const SAMPLING: Duration = Duration::from_millis(500);
/// chrony's words for 64 questions a second with interleaved answers: what our clients do here.
const CHRONY_64: &str = "minpoll -6 maxpoll -6 xleave";

/// Less than the worst twentieth of round trips waits at 60 % load, more than a busy machine adds.
const QUEUED_NS: i64 = 500_000;

/// How long anything may take that ought to happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_topology_carries_ntp() {
    let Some(lab) = Lab::open("the_topology_carries_ntp") else { return };
    let _server = Chrony::serve(&lab, "srv0");
    let client = Chrony::follow(&lab, "cli1", "10.77.0.1", CHRONY_64);
    lab.wait("chronyd selects its server", PATIENCE, || client.follows("10.77.0.1"));
    lab.wait("chronyd gets kernel stamps", PATIENCE, || client.measurements().iter().any(|m| m.stamps == ('K', 'K')));

    let idle = round_trips(&lab, "cli0", 200);
    let idle_distance = root_distances(&client, Duration::from_secs(10));
    let idle_delays = client.delays(0);

    let traffic = Traffic::start(&lab, "load", "sink", 60);
    let start = Instant::now();
    let loaded = round_trips(&lab, "cli0", 200);
    let loaded_distance = root_distances(&client, Duration::from_secs(10));
    let percent = u128::from(traffic.sent()) * 100 * 100 / start.elapsed().as_micros();

    let loaded_delays = client.delays(idle_delays.len());

    heading();
    row("round trip, idle", &idle);
    row("round trip at 60 % load", &loaded);
    row("chronyd delay by stamps, idle", &idle_delays);
    row("chronyd delay by stamps at 60 % load", &loaded_delays);
    row("chronyd root distance, idle", &idle_distance);
    row("chronyd root distance at 60 % load", &loaded_distance);
    println!("offered load {percent} %");
    assert!((55..=65).contains(&percent), "the traffic is not what was asked for");
    assert!(loaded.percentile(95) > idle.percentile(95) + QUEUED_NS, "the load does not queue with the probes");
    let seen = loaded_delays.percentile(95) - idle_delays.percentile(95);
    assert!(seen > QUEUED_NS, "the kernel's stamps do not see the queue: {seen} ns");
}

#[test]
fn idle_beside_chrony() {
    let Some(lab) = Lab::open("idle_beside_chrony") else { return };
    let comparison = compare(&lab, None);
    comparison.print();
    comparison.expect_at_most_percent_of_chrony(105);
}

#[test]
fn loaded_beside_chrony() {
    let Some(lab) = Lab::open("loaded_beside_chrony") else { return };
    let comparison = compare(&lab, Some(60));
    comparison.print();
    comparison.expect_at_most_percent_of_chrony(100);
}

#[test]
fn a_liar_among_three_is_outvoted() {
    let Some(lab) = Lab::open("a_liar_among_three_is_outvoted") else { return };
    let _honest = (Chrony::serve(&lab, "srv0"), Chrony::serve(&lab, "srv1"));
    let _liar = shifted_server(&lab, "srv2", "liar", "50ms");
    let sources = [("s0", "10.77.0.1"), ("s1", "10.77.0.2"), ("s2", "10.77.0.3")];
    let mut voter = Agent::start(&lab, "cli0", "voter", &following(&sources, ""));
    let trusting = following(&sources[..1], "trust = true") + &following(&sources[1..], "");
    let mut truster = Agent::start(&lab, "cli1", "truster", &trusting);
    let checkers = [Checker::start(voter.page()), Checker::start(truster.page())];

    voter.expect(&lab, "locked by majority", |now| now.status == "locked" && now.reason == "majority");
    truster.expect(&lab, "locked by trust", |now| now.status == "locked" && now.reason == "assumes-trust");
    for agent in [&voter, &truster] {
        lab.wait("the liar is flagged", PATIENCE, || agent.source("s2", "status") == "falseticker");
        lab.wait("the honest are not", PATIENCE, || {
            ["s0", "s1"].iter().all(|name| agent.source(name, "status") == "truechimer")
        });
    }
    for checker in checkers {
        wait_for_reads(&lab, &checker, 5000);
        checker.tally().expect_unbroken();
    }
}

#[test]
fn a_sole_source_that_jumps_is_announced() {
    let Some(lab) = Lab::open("a_sole_source_that_jumps_is_announced") else { return };
    let honest = shifted_server(&lab, "srv0", "honest", "0ns");
    let mut client = Agent::start(&lab, "cli0", "client", &following(&[("s0", "10.77.0.1")], ""));
    let checker = Checker::start(client.page());
    client
        .expect(&lab, "locked, tolerating no liar", |now| now.status == "locked" && now.reason == "no-liar-tolerated");
    let epoch = client.status().expect("it has just answered").epoch;
    wait_for_reads(&lab, &checker, 1000);

    honest.kill();
    let _jumped = shifted_server(&lab, "srv0", "jumped", "20ms");
    // The reason may be replaced soon: whoever read the page meanwhile has seen it.
    client.expect(&lab, "reason source-jumped", |now| {
        now.reason == "source-jumped" || checker.tally().refused.keys().any(|refusal| refusal.contains("source-jumped"))
    });
    client.expect(&lab, "a new epoch", |now| now.epoch != epoch);

    let tally = checker.tally();
    let broken = tally.violations.get(&epoch).copied().unwrap_or(0);
    assert_eq!(broken, 0, "the old epoch followed the jump; the worst read missed by {} ns", tally.worst_miss_ns);
}

#[test]
fn link_down_and_up() {
    let Some(lab) = Lab::open("link_down_and_up") else { return };
    let _server = Chrony::serve(&lab, "srv0");
    let (mut client, checker) = locked_client(&lab, "10.77.0.1");

    lab.set_cable("cli0", false);
    expect_honest_holdover(&lab, &mut client, &checker);
    lab.set_cable("cli0", true);
    expect_recovery(&lab, &mut client, &checker);
}

#[test]
fn server_killed_and_restarted() {
    let Some(lab) = Lab::open("server_killed_and_restarted") else { return };
    let server = Chrony::serve(&lab, "srv0");
    let (mut client, checker) = locked_client(&lab, "10.77.0.1");

    server.kill();
    expect_honest_holdover(&lab, &mut client, &checker);
    let _server = Chrony::serve(&lab, "srv0");
    expect_recovery(&lab, &mut client, &checker);
}

#[test]
fn agent_sigkilled() {
    let Some(lab) = Lab::open("agent_sigkilled") else { return };
    let _server = Chrony::serve(&lab, "srv0");
    let (client, checker) = locked_client(&lab, "10.77.0.1");

    client.kill();
    expect_growth(&lab, &checker);
    let mut again = Agent::start(&lab, "cli0", "client", &following(&[("s0", "10.77.0.1")], ""));
    // The checker's reader mapped the page of the first run: it must see the second one's bounds there.
    expect_recovery(&lab, &mut again, &checker);
}

#[test]
fn chrony_follows_our_server() {
    let Some(lab) = Lab::open("chrony_follows_our_server") else { return };
    let _server = shifted_server(&lab, "srv0", "server", "1ms");
    let client = Chrony::follow(&lab, "cli0", "10.77.0.1", CHRONY_64);

    lab.wait("chronyd selects our server", PATIENCE, || client.follows("10.77.0.1"));
    lab.wait("chronyd logs kernel stamps of our answers", PATIENCE, || {
        client.measurements().iter().filter(|m| m.address == "10.77.0.1" && m.stamps == ('K', 'K')).count() >= 100
    });
    let tracking = client.tracking().expect("chronyd answers");
    let distance = tracking.root_distance_ns();
    println!("stratum {}, root distance {} µs", tracking.stratum, us(distance).trim());
    assert!((1_000..10_000_000).contains(&distance), "root distance {distance} ns");
    // All of the server's shift is error of chronyd's clock: what it says of itself is what comparisons measure.
    lab.wait("chronyd's clock is as wrong as its server's", PATIENCE, || {
        client.tracking().is_some_and(|now| (now.error_ns - 1_000_000).abs() < 100_000)
    });
}

/// In the header the same claims take 15 µs each at least: one unit.
#[test]
fn finer_claims_are_exchanged_with_chrony() {
    let Some(lab) = Lab::open("finer_claims_are_exchanged_with_chrony") else { return };
    let _chrony = Chrony::serve(&lab, "srv0");
    let _ours = shifted_server(&lab, "srv1", "server", "0ns");

    // Both of chronyd's stamps are the kernel's, so nothing need be added to what it claims.
    let follows = |extra: &str| following(&[("s0", "10.77.0.1")], &format!("claim-floor = \"0ns\"\n{extra}"));
    let mut fine = Agent::start(&lab, "cli0", "fine", &follows("extfield = \"F323\""));
    let mut coarse = Agent::start(&lab, "cli0", "coarse", &follows(""));
    let checkers = [Checker::start(fine.page()), Checker::start(coarse.page())];
    fine.expect_status(&lab, "locked");
    coarse.expect_status(&lab, "locked");
    let claims = [&fine, &coarse].map(|agent| agent.source("s0", "claim_ns").as_i64().expect("locked on it"));
    println!("chronyd's claim, F323 and header: {claims:?} ns");
    assert!(claims[0] < 1_000 && claims[1] > 22_000, "{claims:?}");
    for checker in checkers {
        wait_for_reads(&lab, &checker, 5000);
        checker.tally().expect_unbroken();
    }

    let asking = Chrony::follow(&lab, "cli1", "10.77.0.2", &format!("{CHRONY_64} extfield F323"));
    let plain = Chrony::follow(&lab, "cli0", "10.77.0.2", CHRONY_64);
    let told = [&asking, &plain].map(|client| {
        lab.wait("chronyd measures", PATIENCE, || client.measurements().len() >= 20);
        client.measurements().iter().map(|answer| answer.root_dispersion_ns).max().expect("twenty")
    });
    println!("our claim to chronyd, F323 and header, at most: {told:?} ns");
    assert!((1_000..10_000).contains(&told[0]) && told[1] > 15_000, "{told:?}");
}

#[test]
fn ipv6_source_works() {
    let Some(lab) = Lab::open("ipv6_source_works") else { return };
    let _server = Chrony::serve(&lab, "srv0");
    let (client, checker) = locked_client(&lab, "fd77::1");
    assert!(client.gate("1ms", "10s"), "truebound wait says no");
    wait_for_reads(&lab, &checker, 5000);
    checker.tally().expect_unbroken();
}

/// An agent that serves the kernel's clock, shifted, and is ready to.
#[track_caller]
fn shifted_server(lab: &Lab, host: &str, name: &str, shift: &str) -> Agent {
    let mut server = Agent::start(lab, host, name, &serving_shifted(shift));
    server.expect_status(lab, "locked");
    server
}

/// An agent on cli0 that follows one server and is locked, and its judge.
#[track_caller]
fn locked_client(lab: &Lab, server: &str) -> (Agent, Checker) {
    let mut client = Agent::start(lab, "cli0", "client", &following(&[("s0", server)], ""));
    let checker = Checker::start(client.page());
    client.expect_status(lab, "locked");
    wait_for_reads(lab, &checker, 1000);
    (client, checker)
}

#[track_caller]
fn wait_for_reads(lab: &Lab, checker: &Checker, count: u64) {
    let goal = checker.tally().reads + count;
    lab.wait("the judge reads", PATIENCE, || checker.tally().reads >= goal);
}

#[track_caller]
fn expect_honest_holdover(lab: &Lab, client: &mut Agent, checker: &Checker) {
    client.expect_status(lab, "holdover");
    expect_growth(lab, checker);
}

/// Without news the interval grows, and still contains true time.
#[track_caller]
fn expect_growth(lab: &Lab, checker: &Checker) {
    let first = checker.half_width();
    wait_for_reads(lab, checker, 3000);
    let last = checker.half_width();
    println!("half-width without news: {} -> {} µs", us(first).trim(), us(last).trim());
    assert!(last > first, "no news, and yet no growth: {first} -> {last} ns");
    checker.tally().expect_unbroken();
}

#[track_caller]
fn expect_recovery(lab: &Lab, client: &mut Agent, checker: &Checker) {
    let wide = checker.half_width();
    client.expect_status(lab, "locked");
    lab.wait("the interval shrinks again", PATIENCE, || checker.half_width() < wide);
    wait_for_reads(lab, checker, 3000);
    checker.tally().expect_unbroken();
}

/// One run of our client (cli0) and chronyd (cli1), at the same rate, of the same server.
struct Comparison {
    load_percent: u32,
    frames: u64,
    start_up: Tally,
    steady: Tally,
    claims: Samples,
    chrony_errors: Samples,
    chrony_distances: Samples,
}

fn compare(lab: &Lab, load_percent: Option<u32>) -> Comparison {
    let _server = Chrony::serve(lab, "srv0");
    let traffic = load_percent.map(|percent| Traffic::start(lab, "load", "sink", percent));
    let chrony = Chrony::follow(lab, "cli1", "10.77.0.1", CHRONY_64);
    let (client, checker) = locked_client(lab, "10.77.0.1");
    lab.wait("chronyd selects its server", PATIENCE, || chrony.follows("10.77.0.1"));

    let start_up = checker.take();
    let (mut claims, mut errors, mut distances) = (Samples::default(), Samples::default(), Samples::default());
    every(SAMPLING, COMPARISON, || {
        let tracking = chrony.tracking().expect("chronyd answers");
        errors.push(tracking.error_ns.abs());
        distances.push(tracking.root_distance_ns());
        claims.push(client.source("s0", "claim_ns").as_i64().expect("a source that answers has a claim"));
    });
    Comparison {
        load_percent: load_percent.unwrap_or(0),
        frames: traffic.map_or(0, |traffic| traffic.sent()),
        start_up,
        steady: checker.take(),
        claims,
        chrony_errors: errors,
        chrony_distances: distances,
    }
}

impl Comparison {
    fn print(&self) {
        let seconds = COMPARISON.as_secs();
        println!("{} % load ({} frames), {seconds} s, 64 probes/s each", self.load_percent, self.frames);
        heading();
        row("truebound |error|", &self.steady.errors);
        row("truebound half-width", &self.steady.half_widths);
        row("truebound E (claim of the server)", &self.claims);
        println!("{:<36}{}", "truebound half-width − E", us(self.proved_ns()));
        row("chronyd |error|", &self.chrony_errors);
        row("chronyd root distance", &self.chrony_distances);
        println!("{} reads, {} violations", self.steady.reads, self.steady.all_violations());
    }

    /// What the exchanges themselves prove: the server's claim is the same for both and only ours counts it.
    fn proved_ns(&self) -> i64 {
        self.steady.half_widths.median() - self.claims.median()
    }

    #[track_caller]
    fn expect_at_most_percent_of_chrony(&self, percent: i64) {
        self.start_up.expect_unbroken();
        self.steady.expect_unbroken();
        let (ours, theirs) = (self.proved_ns(), self.chrony_distances.median());
        assert!(self.steady.reads > 1000 * COMPARISON.as_secs(), "only {} reads", self.steady.reads);
        assert!(ours * 100 <= theirs * percent, "half-width − E {ours} ns, chronyd's root distance {theirs} ns");
    }
}

fn root_distances(client: &Chrony, duration: Duration) -> Samples {
    let mut samples = Samples::default();
    every(SAMPLING, duration, || {
        samples.push(client.tracking().expect("chronyd answers").root_distance_ns());
    });
    samples
}
