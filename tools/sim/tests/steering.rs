//! CLOCK_REALTIME steered in the simulated world: it comes to true time and stays there, what the kernel tells of it is
//! true at every read, and a rival is noticed, and yielded to or not.
//!
//! That the kernel's word is true is checked in every seed of `truebound-sim seeds` too. Here is also that it can be found
//! to be false.

use truebound_core::event::Event;
use truebound_core::io::{Control, Input};
use truebound_core::settings::{Discipline, RivalPolicy, ServoSettings, StepPolicy};
use truebound_core::system_clock::Steering;
use truebound_core::time::TaiTime;
use truebound_sim::world::{HostSpec, NS_PER_S, World, following, root, source};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;
const MS: i64 = 1_000_000;

/// A client whose clock is off by `error_ns` and runs at `ppb`, beside a server that is right within 20 µs.
fn steering(seed: u64, error_ns: i64, ppb: i64, change: impl Fn(&mut ServoSettings)) -> (World, usize) {
    let mut world = World::new(seed);
    let server = world.add(HostSpec { is_checked: false, ..HostSpec::ROOT }, root(0, 20_000));
    let mut settings = following(&[source(server)]);
    settings.discipline = Discipline::System;
    change(&mut settings.servo);
    let spec = HostSpec { realtime_error_ns: error_ns, realtime_ppb: ppb, ..HostSpec::CLIENT };
    let client = world.add(spec, settings);
    (world, client)
}

/// How far CLOCK_REALTIME is ahead of true time, ns.
fn error_ns(world: &mut World, host: usize) -> i64 {
    let t = world.now;
    let utc = world.hosts[host].settings.leap.to_utc(TaiTime::from_ns(t));
    world.hosts[host].real(t).as_ns() - utc.as_ns()
}

#[track_caller]
fn assert_sound(world: &World, host: usize, seed: u64) {
    let checker = &world.hosts[host].checker;
    assert!(checker.faults.is_empty() && checker.violations == 0, "seed {seed}: {:?}", checker.faults);
    assert!(checker.kernel_reads > 10, "seed {seed}: the kernel was asked {} times", checker.kernel_reads);
}

#[test]
fn it_comes_to_true_time_and_what_the_kernel_tells_is_true() {
    for seed in SEEDS {
        for (off_ns, ppb) in [(0, 0), (100 * NS_PER_S, 500_000), (-100 * NS_PER_S, -500_000), (10 * MS, 10_000)] {
            let (mut world, client) = steering(seed, off_ns, ppb, |_| ());
            world.run(60 * NS_PER_S);
            let far_ns = error_ns(&mut world, client).abs();
            assert!(far_ns < 20_000, "seed {seed}, from {off_ns} ns and {ppb} ppb: off by {far_ns} ns");
            let steps = world.hosts[client].count(|event| matches!(event, Event::Stepped { .. }));
            assert_eq!(steps, usize::from(off_ns.abs() > MS), "seed {seed}");
            assert_sound(&world, client, seed);
        }
    }
}

/// Once, the publication that fell due a moment before every answer steered by what was known already, and the answer,
/// so soon after a command, had to wait for the next one: a second.
#[test]
fn what_an_answer_teaches_is_steered_by_at_once() {
    for seed in SEEDS {
        let (mut world, client) = steering(seed, 0, 0, |_| ());
        world.run(60 * NS_PER_S);
        for _ in 0..60 {
            let answers = |world: &World| world.report(client).sources[0].counters.answers;
            let before = answers(&world);
            while answers(&world) == before {
                world.run(MS);
            }
            // A time constant and a little.
            world.run(300 * MS);
            let ahead_ns = world.report(client).system.and_then(|system| system.ahead_ns).expect("it is steered");
            assert!(ahead_ns.abs() <= 10, "seed {seed}: {ahead_ns} ns from what is known");
        }
    }
}

#[test]
fn without_steps_an_offset_is_slewed_at_the_cap_and_counted_until_it_is_gone() {
    for seed in SEEDS {
        let (mut world, client) = steering(seed, 8 * MS, 0, |servo| servo.step = StepPolicy::Never);
        world.run(10 * NS_PER_S);
        // 400 ppm for 10 s.
        let left_ns = error_ns(&mut world, client);
        assert!((3 * MS..6 * MS).contains(&left_ns), "seed {seed}: {left_ns} ns left");
        let told = world.hosts[client].told.expect("it is steered").1;
        assert!(told.is_synchronised && told.max_error_ns >= left_ns, "seed {seed}: {told:?}");
        world.run(20 * NS_PER_S);
        assert!(error_ns(&mut world, client).abs() < 20_000, "seed {seed}");
        assert_sound(&world, client, seed);
    }
}

#[test]
fn what_the_kernel_tells_stays_true_when_the_agent_is_killed_in_the_middle_of_a_slew() {
    for (seed, off_ns) in SEEDS.flat_map(|seed| [(seed, 8 * MS), (seed, -8 * MS)]) {
        let (mut world, client) = steering(seed, off_ns, 0, |servo| servo.step = StepPolicy::Never);
        world.run(5 * NS_PER_S);
        let reads = world.hosts[client].checker.kernel_reads;
        // Nothing on it runs any more but readers: the kernel is left with the rate of the slew.
        world.kill(client);
        world.run(1000 * NS_PER_S);
        assert!(error_ns(&mut world, client).abs() > 100 * MS, "seed {seed}: it did not go on slewing");
        assert_sound(&world, client, seed);
        assert!(world.hosts[client].checker.kernel_reads > reads + 500, "seed {seed}");
    }
}

#[test]
fn whoever_sets_the_clock_once_is_told_and_undone() {
    for seed in SEEDS {
        let (mut world, client) = steering(seed, 0, 0, |servo| servo.step = StepPolicy::Always);
        world.run(20 * NS_PER_S);
        world.hosts[client].has_rival = true; // until it is noticed the kernel's word is false
        world.step_realtime(client, 50 * MS, true);
        world.run(20 * NS_PER_S);
        assert!(error_ns(&mut world, client).abs() < 20_000, "seed {seed}");
        assert_eq!(world.hosts[client].count(|event| matches!(event, Event::RealtimeSet { .. })), 1, "seed {seed}");
        assert_eq!(world.report(client).system.map(|system| system.steering), Some(Steering::Ours), "seed {seed}");
        assert_sound(&world, client, seed);
    }
}

/// Somebody turns the clock by 80 ppm, again and again; gives how far off it is in the end, and who steers it.
fn rivalry(seed: u64, policy: RivalPolicy) -> (i64, Steering, usize, World, usize) {
    let (mut world, client) = steering(seed, 0, 0, |servo| servo.rival = policy);
    world.run(20 * NS_PER_S);
    world.hosts[client].has_rival = true;
    for turn in 0..6 {
        world.slew_realtime(client, 80_000 + turn);
        world.run(10 * NS_PER_S);
    }
    let steering = world.report(client).system.expect("it is steered").steering;
    let told = world.hosts[client].count(|event| matches!(event, Event::Rival { .. }));
    (error_ns(&mut world, client), steering, told, world, client)
}

#[test]
fn a_rival_is_told_and_given_way_to_and_a_makestep_takes_the_clock_back() {
    for seed in SEEDS {
        let (off_ns, who, told, mut world, client) = rivalry(seed, RivalPolicy::Yield);
        assert_eq!((who, told), (Steering::Yielded, 3), "seed {seed}");
        assert!(off_ns.abs() > MS, "seed {seed}: the rival's rate was not left alone: {off_ns} ns");
        world.input(client, Input::Control(Control::MakeStep));
        world.run(20 * NS_PER_S);
        assert!(error_ns(&mut world, client).abs() < 20_000, "seed {seed}");
        assert_eq!(world.hosts[client].checker.violations, 0, "seed {seed}");
    }
}

#[test]
fn whoever_insists_keeps_the_clock() {
    for seed in SEEDS {
        let (off_ns, who, told, world, client) = rivalry(seed, RivalPolicy::Insist);
        assert_eq!((who, told), (Steering::Ours, 6), "seed {seed}");
        assert!(off_ns.abs() < 20_000, "seed {seed}: off by {off_ns} ns");
        assert_eq!(world.hosts[client].checker.violations, 0, "seed {seed}");
    }
}

#[test]
fn a_false_word_of_the_kernel_is_found() {
    for seed in SEEDS {
        let (mut world, client) = steering(seed, 0, 0, |_| ());
        world.run(20 * NS_PER_S);
        // Steps that nobody tells: false until they are noticed.
        for _ in 0..20 {
            world.step_realtime(client, 50 * MS, false);
            world.run(2 * NS_PER_S);
        }
        let faults = &world.hosts[client].checker.faults;
        assert!(faults.iter().any(|fault| fault.starts_with("CLOCK_REALTIME is off by")), "seed {seed}: {faults:?}");
    }
}
