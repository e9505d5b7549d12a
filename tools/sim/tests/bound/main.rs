//! The promise, in worlds that try to break it: at every read true time lies inside the interval, publications of one
//! epoch never contradict each other, and what broke is said before anything new is.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "worlds are small: ns of some years and probabilities"
)]

mod host;
mod operator;
mod sources;
mod stamps;

use std::cell::Cell;
use std::rc::Rc;

use truebound_client::{Reason, Status};
use truebound_core::association::ntp::Discard;
use truebound_core::event::Event;
use truebound_core::io::{Control, Input};
use truebound_core::leap::LeapTable;
use truebound_core::report::Standing;
use truebound_core::settings::{Settings, SourceSettings};
use truebound_core::wire::claim::{EXACT_CLAIM, ExactClaim};
use truebound_core::wire::ntp::{self, ShortTime};
use truebound_sim::checker::Checker;
use truebound_sim::link::{LinkSpec, Mixture, Queue};
use truebound_sim::nic::NicSpec;
use truebound_sim::oscillator::OscillatorSpec;
use truebound_sim::world::{
    Action, HostSpec, MS, NS_PER_S as S, TODAY_UNIX_S, US, World, address, following, pool, root, serving, source,
};

/// Each scenario is run with these.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
/// A of the default class, less what the curvature in raw time adds at 1000 ppm.
const CLASS_LIMIT: f64 = 0.995e-7;
/// Shift and error of roots that are right, and of one that lies.
const HONEST: (i64, i64) = (0, 50 * US);
const LIAR: (i64, i64) = (50 * MS, 50 * US);

/// A path of `base_us` that nobody else uses.
fn idle(base_us: f64) -> LinkSpec {
    LinkSpec { base_us, ..LinkSpec::default() }
}

/// Seven packets of ten meet a queue.
fn loaded() -> LinkSpec {
    let queue = Queue::Mixture(Mixture { mean_us: 0.0, chance: 0.7, tail_us: 300.0 });
    LinkSpec { queue, ..idle(50.0) }
}

/// The frequency changes as fast as it may, up and down.
fn wandering(ppm: f64, per_s: f64, period_s: i64) -> OscillatorSpec {
    let triangle_period_s = period_s as f64;
    OscillatorSpec { triangle_per_s: per_s, triangle_period_s, ..OscillatorSpec::ppm(ppm) }
}

fn new_world(seed: u64, unix_s: i64) -> World {
    let mut world = World::starting_at(seed, unix_s);
    world.read_every_ns = 5 * MS;
    world
}

/// No violation, no broken rule, and enough reads to mean something.
fn assert_sound(world: &World, client: usize, seed: u64) {
    let checker = world.checker(client);
    let Checker { reads, answered, violations, half_width_ns, worst_error_ns, least_margin, .. } = checker;
    println!(
        "seed {seed}: {:.0} s, {reads} reads, {answered} answered, {violations} violations, half-width {half_width_ns} ns, \
         worst error {worst_error_ns} ns, least margin {:.3}, epoch {}",
        world.elapsed_s(),
        least_margin.unwrap_or(f64::NAN),
        checker.epoch()
    );
    assert_eq!(checker.violations, 0, "seed {seed}: {:?}", checker.first_violation);
    assert!(checker.faults.is_empty(), "seed {seed}: {} faults, first {:?}", checker.faults.len(), checker.faults[0]);
    assert!(*reads as f64 >= 100.0 * world.elapsed_s(), "seed {seed}: only {reads} reads");
}

/// Sound, locked, and never disturbed.
fn assert_calm(world: &World, client: usize, seed: u64) {
    assert_sound(world, client, seed);
    let checker = world.checker(client);
    let epochs: Vec<_> = checker.history.iter().filter(|(_, status, ..)| !status.has_bound()).skip(1).collect();
    assert!(checker.epoch() == 1, "seed {seed}: disturbed for nothing: {epochs:?}");
    assert_eq!(checker.status(), Some(Status::Locked), "seed {seed}");
}

/// One root at its `lean` within ±`error_ns`, one client.
fn pair(seed: u64, error_ns: i64, lean: f64, spec: HostSpec, change: impl FnOnce(&mut Settings)) -> (World, usize) {
    let mut world = new_world(seed, TODAY_UNIX_S);
    let lean = HostSpec { realtime_error_ns: (error_ns as f64 * lean) as i64, ..HostSpec::ROOT };
    let server = world.add(lean, root(0, error_ns));
    let mut settings = following(&[source(server)]);
    change(&mut settings);
    let client = world.add(spec, settings);
    (world, client)
}

/// Roots with these shifts, each within ±`error_ns` of what it says, and one client of all of them.
fn several(seed: u64, roots: &[(i64, i64)], change: impl FnOnce(&mut Settings)) -> (World, usize) {
    let mut world = new_world(seed, TODAY_UNIX_S);
    let sources: Vec<SourceSettings> =
        roots.iter().map(|&(shift, error)| source(world.add(HostSpec::ROOT, root(shift, error)))).collect();
    let mut settings = following(&sources);
    change(&mut settings);
    let client = world.add(HostSpec::CLIENT, settings);
    (world, client)
}

fn answers(world: &World, client: usize) -> u64 {
    world.report(client).sources.iter().map(|source| source.counters.answers).sum()
}

// ---- links and clocks -------------------------------------------------------------------------------------------------

#[test]
fn idle_links() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, 0.3, HostSpec::CLIENT, |_| ());
        world.run_s(120);
        assert_calm(&world, client, seed);
        assert!(world.checker(client).half_width_ns < 90 * US, "20 µs claimed, 50 µs of path, some stamps");
    }
}

#[test]
fn loaded_links() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, -0.9, HostSpec::CLIENT, |_| ());
        world.connect(0, client, &loaded(), &loaded());
        world.run_s(120);
        assert_sound(&world, client, seed);
        assert!(world.checker(client).half_width_ns < 130 * US, "old pure exchanges still count");
    }
}

#[test]
fn load_alone_raises_no_alarm() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, -0.9, HostSpec::CLIENT, |_| ());
        world.connect(0, client, &loaded(), &loaded());
        world.run_s(120);
        let is_alarm = |event: &Event| matches!(event, Event::Audit { .. });
        let alarms = world.hosts[client].count(is_alarm);
        assert_eq!(alarms, 0, "seed {seed}: {:?}", world.hosts[client].events);
        assert_calm(&world, client, seed);
    }
}

/// All the delay in one direction, the server at 99 % of its claim: truth is where the edge is.
fn leaning(seed: u64, is_fast: bool) -> (World, usize) {
    let lean = if is_fast { 0.99 } else { -0.99 };
    let (mut world, client) = pair(seed, 200 * US, lean, HostSpec::CLIENT, |_| ());
    let (slow, quick) = (idle(200.0), idle(0.0));
    let (there, back) = if is_fast { (slow, quick) } else { (quick, slow) };
    world.connect(client, 0, &there, &back);
    (world, client)
}

#[test]
fn a_server_at_the_end_of_its_claim_behind_an_asymmetric_path() {
    for (seed, is_fast) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let (mut world, client) = leaning(seed, is_fast);
        world.run_s(120);
        assert_calm(&world, client, seed);
        let margin = world.checker(client).least_margin.expect("it has read");
        assert!(margin <= 0.05, "seed {seed}: truth is only within {margin} of an edge");
    }
}

#[test]
fn wander_at_the_limit_of_its_class() {
    for (seed, period_s) in SEEDS.zip([20, 60, 200, 600, 2000]) {
        for poll_s in [1, 16] {
            let clock = wandering(40.0, CLASS_LIMIT, period_s);
            let (mut world, client) =
                pair(seed, 2 * US, 0.99, HostSpec { oscillator: clock, ..HostSpec::CLIENT }, |settings| {
                    settings.sources[0].poll_min_ns = Some(poll_s * S);
                });
            world.connect(client, 0, &idle(40.0), &idle(0.0));
            world.run_s(400);
            assert_sound(&world, client, seed);
        }
    }
}

#[test]
fn wander_within_the_class_raises_no_alarm() {
    // A triangle of this period swings by A·period/2: 990 s stay within D, the 50 ppm of one boot.
    for (seed, period_s) in SEEDS.zip([20, 60, 200, 600, 990]) {
        for poll_s in [1, 16] {
            let clock = wandering(40.0, CLASS_LIMIT, period_s);
            let (mut world, client) =
                pair(seed, 2 * US, 0.99, HostSpec { oscillator: clock, ..HostSpec::CLIENT }, |settings| {
                    settings.sources[0].poll_min_ns = Some(poll_s * S);
                });
            world.run_s(1000);
            assert_calm(&world, client, seed);
        }
    }
}

#[test]
fn cold_starts_at_900_ppm() {
    for (seed, ppm) in SEEDS.flat_map(|seed| [(seed, 900.0), (seed, -900.0)]) {
        let spec = HostSpec { oscillator: OscillatorSpec::ppm(ppm), ..HostSpec::CLIENT };
        let (mut world, client) = pair(seed, 5 * US, 0.9, spec, |_| ());
        world.run_s(60);
        assert_calm(&world, client, seed);
    }
}

#[test]
fn a_first_bound_within_two_seconds() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, 0.3, HostSpec::CLIENT, |_| ());
        let first = world.run_until(2, |world| world.checker(client).status() == Some(Status::Locked));
        assert!(first.is_some_and(|s| s < 2.0), "seed {seed}: {first:?}");
    }
}

#[test]
fn before_the_first_answer_the_status_is_starting() {
    let (mut world, client) = pair(1, 20 * US, 0.3, HostSpec::CLIENT, |_| ());
    world.cut(client, true);
    world.run_s(5);
    for (_, status, reason, _) in &world.checker(client).history {
        assert_eq!((*status, *reason), (Status::Starting, Reason::NoAnswerYet), "a source is configured");
    }
}

#[test]
fn loss_duplicates_and_stragglers() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, 0.99, HostSpec::CLIENT, |_| ());
        let bad = LinkSpec { loss: 0.3, duplicate: 0.2, reorder: 0.1, straggle_us: 2e6, ..loaded() };
        world.connect(0, client, &bad, &bad);
        world.run_s(300);
        assert!(answers(&world, client) > 100, "seed {seed}");
        // Five losses in a row happen, and are a holdover.
        let locked = world.run_until(60, |world| world.checker(client).status() == Some(Status::Locked));
        assert!(locked.is_some(), "seed {seed}");
        assert_sound(&world, client, seed);
    }
}

// ---- the checker itself -----------------------------------------------------------------------------------------------

#[test]
fn a_planted_fault_is_seen() {
    for seed in SEEDS {
        let (mut world, client) = leaning(seed, true);
        world.checker_mut(client).shrink = Some(0.01);
        world.run_s(60);
        assert!(world.checker(client).violations > 1000, "seed {seed}: {}", world.checker(client).violations);
    }
}

#[test]
fn a_sole_liar_is_seen() {
    for seed in SEEDS {
        // Half-width about 110 µs: twice that beyond the claim.
        let (mut world, client) = several(seed, &[(270 * US, 50 * US)], |_| ());
        world.run_s(60);
        assert!(world.checker(client).violations > 1000, "seed {seed}: {}", world.checker(client).violations);
    }
}
