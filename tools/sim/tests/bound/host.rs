//! What happens to the host itself: sleep, another clocksource, an oscillator that leaves its class.

use super::*;

#[test]
fn suspend_withdraws_and_starts_anew() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, 0.9, HostSpec::CLIENT, |_| ());
        world.run_s(20);
        let before = world.checker(client).epoch();
        let gap = world.rng.between(0, S);
        world.run(gap);
        world.suspend(client, 30 * S);
        assert_eq!(world.checker(client).status(), Some(Status::Disrupted), "seed {seed}");
        world.run_s(60);
        assert_sound(&world, client, seed);
        let checker = world.checker(client);
        assert!(checker.saw(Status::Disrupted, Reason::Suspended), "seed {seed}: {:?}", checker.history);
        assert_eq!((checker.status(), checker.epoch()), (Some(Status::Locked), before + 1), "seed {seed}");
    }
}

fn with_another_clocksource(seed: u64, ppm: f64) -> (World, usize) {
    let (mut world, client) = pair(seed, US, 0.99, HostSpec::CLIENT, |_| ());
    let near = idle(5.0);
    world.connect(0, client, &near, &near);
    world.run_s(60);
    world.change_clocksource(client, &OscillatorSpec::ppm(ppm));
    world.run_s(60);
    (world, client)
}

#[test]
fn another_clocksource_of_about_the_same_rate() {
    for seed in SEEDS {
        let (world, client) = with_another_clocksource(seed, 10.0);
        assert_sound(&world, client, seed);
        let checker = world.checker(client);
        assert!(checker.saw(Status::Disrupted, Reason::ClocksourceChanged), "seed {seed}: {:?}", checker.history);
        assert_eq!((checker.status(), checker.epoch()), (Some(Status::Locked), 2), "seed {seed}");
    }
}

#[test]
fn another_clocksource_is_another_oscillator() {
    for (seed, ppm) in SEEDS.zip([600.0, -600.0, 250.0, 900.0, -900.0]) {
        let (world, client) = with_another_clocksource(seed, ppm);
        assert_sound(&world, client, seed);
        let checker = world.checker(client);
        assert_eq!(
            (checker.status(), checker.epoch()),
            (Some(Status::Locked), 2),
            "seed {seed}: {:?}",
            checker.history
        );
    }
}

#[test]
fn an_oscillator_that_leaves_its_class_gets_a_wider_one() {
    // 20 ppm at once: outside A1, so nothing is promised until it is noticed; then it must be over.
    for seed in SEEDS {
        let (mut world, client) = pair(seed, US, 0.0, HostSpec::CLIENT, |_| ());
        world.run_s(60);
        world.act(client, &Action::FrequencyStep { ppm: 20.0 });
        let noticed = world.run_until(60, |world| world.checker(client).epoch() > 1);
        assert!(noticed.is_some_and(|s| s < 60.0 + 20.0), "seed {seed}: noticed at {noticed:?}");
        let so_far = world.checker(client).violations;
        world.run_s(60);
        let checker = world.checker(client);
        assert_eq!(checker.violations, so_far, "seed {seed}: still wrong after it was noticed");
        assert_eq!(checker.status(), Some(Status::Locked), "seed {seed}");
        assert!(checker.faults.is_empty(), "seed {seed}: {:?}", checker.faults);
    }
}
