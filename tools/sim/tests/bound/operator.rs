//! Silence, restarts, and what the operator changes at run time.

use super::*;

#[test]
fn without_sources_the_bound_grows_and_stays_true() {
    for (seed, period_s) in SEEDS.zip([200, 600, 2000, 4000, 10_000]) {
        let clock = wandering(-30.0, CLASS_LIMIT, period_s);
        let (mut world, client) = pair(seed, 2 * US, 0.99, HostSpec { oscillator: clock, ..HostSpec::CLIENT }, |_| ());
        world.run_s(100);
        world.cut(client, true);
        let mut last = world.checker(client).half_width_ns;
        for _ in 0..5 {
            world.run_s(60);
            let checker = world.checker(client);
            assert_eq!(checker.status(), Some(Status::Holdover), "seed {seed}");
            assert!(checker.half_width_ns > last, "seed {seed}: it does not grow");
            last = checker.half_width_ns;
        }
        world.cut(client, false);
        world.run_s(30);
        assert_sound(&world, client, seed);
        let checker = world.checker(client);
        assert_eq!((checker.status(), checker.epoch()), (Some(Status::Locked), 1), "seed {seed}");
    }
}

#[test]
fn holdover_ends_with_max_holdover() {
    for seed in SEEDS {
        let (mut world, client) =
            pair(seed, 20 * US, 0.9, HostSpec::CLIENT, |settings| settings.bound.max_holdover_ns = 120 * S);
        world.run_s(60);
        world.cut(client, true);
        world.run_s(115);
        assert_eq!(world.checker(client).status(), Some(Status::Holdover), "seed {seed}");
        world.run_s(20);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::FreeRunning, Reason::BoundExpired), "seed {seed}");
        world.cut(client, false);
        world.run_s(60);
        assert_sound(&world, client, seed);
        assert_eq!(world.checker(client).status(), Some(Status::Locked), "seed {seed}");
    }
}

#[test]
fn holdover_ends_at_last_even_with_a_long_memory() {
    let (mut world, client) =
        pair(1, 20 * US, 0.9, HostSpec::CLIENT, |settings| settings.bound.max_holdover_ns = 120 * S);
    world.run_s(60);
    world.cut(client, true);
    world.run_s(1024 + 120 + 20);
    let page = world.checker(client).page.as_ref().expect("published");
    assert_eq!((page.status, page.reason), (Status::FreeRunning, Reason::BoundExpired));
    assert_sound(&world, client, 1);
}

/// From now on, the next answer is a kiss with this code.
fn kiss(world: &mut World, code: [u8; 4]) {
    let mut is_pending = true;
    world.tamper = Some(Box::new(move |flight| {
        if is_pending && flight.from.port() == 123 {
            flight.data[0] |= 0xc0;
            flight.data[1] = 0;
            flight.data[12..16].copy_from_slice(&code);
            is_pending = false;
        }
    }));
}

#[test]
fn rate_doubles_the_poll_and_deny_stops_it() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, 0.9, HostSpec::CLIENT, |_| ());
        world.run_s(20);
        let poll_ns = world.report(client).sources[0].poll_ns;
        kiss(&mut world, *b"RATE");
        world.run_s(20);
        assert_eq!(world.report(client).sources[0].poll_ns, 2 * poll_ns, "seed {seed}");
        assert_calm(&world, client, seed);
        kiss(&mut world, *b"DENY");
        world.run_s(10);
        let report = world.report(client);
        assert_eq!(report.sources[0].standing, Standing::Forbidden, "seed {seed}");
        world.run_s(60);
        assert_eq!(world.report(client).sources[0].counters.sent, report.sources[0].counters.sent, "seed {seed}");
        assert_sound(&world, client, seed);
        assert_eq!(world.checker(client).status(), Some(Status::Holdover), "seed {seed}");
    }
}

#[test]
fn a_restored_bound_ages_until_the_first_own_one() {
    for seed in SEEDS {
        let (mut world, client) = pair(seed, 20 * US, 0.9, HostSpec::CLIENT, |_| ());
        world.run_s(60);
        let epoch = world.checker(client).epoch();
        world.cut(client, true);
        let settings = following(&[source(0)]);
        world.restart(client, settings, true);
        world.run_s(30);
        let page = world.checker(client).page.clone().expect("published");
        assert_eq!((page.status, page.reason), (Status::Holdover, Reason::Restarted), "seed {seed}");
        assert_eq!(page.epoch, epoch, "seed {seed}");
        world.cut(client, false);
        world.run_s(30);
        assert_sound(&world, client, seed);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.epoch), (Status::Locked, epoch + 1), "seed {seed}");
    }
}

#[test]
fn sources_come_and_go_at_run_time() {
    for seed in SEEDS {
        let (mut world, client) = several(seed, &[HONEST, HONEST, HONEST], |settings| settings.sources.truncate(1));
        world.run_s(20);
        for server in [1, 2] {
            world.input(client, Input::Control(Control::AddSource(Box::new(source(server)))));
            world.run_s(10);
        }
        let page = world.checker(client).page.clone().expect("published");
        assert_eq!((page.status, page.reason), (Status::Locked, Reason::Majority), "seed {seed}");
        assert_eq!(page.epoch, 1, "seed {seed}: an addition withdraws nothing");
        world.input(client, Input::Control(Control::RemoveSource("s0".to_owned())));
        assert_eq!(world.report(client).sources.len(), 2, "seed {seed}");
        world.run_s(20);
        assert_sound(&world, client, seed);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Locked, Reason::NoLiarTolerated), "seed {seed}");
        assert_eq!(page.epoch, 2, "seed {seed}: what was published relied on it");
    }
}

#[test]
fn a_liar_leaves_nothing_behind_when_it_is_removed() {
    // 300 ppm off for a minute, then replaced by an honest source.
    for seed in SEEDS {
        let mut world = new_world(seed, TODAY_UNIX_S);
        let clock = OscillatorSpec::ppm(300.0);
        let liar = world.add(HostSpec { oscillator: clock, ..HostSpec::ROOT }, root(0, US));
        let honest = world.add(HostSpec::ROOT, root(0, US));
        let client = world.add(HostSpec::CLIENT, following(&[source(liar)]));
        let near = idle(5.0);
        world.connect(honest, client, &near, &near);
        world.run_s(60);
        world.input(client, Input::Reconfigured(Box::new(following(&[source(honest)]))));
        let before = world.checker(client).violations;
        assert!(before > 0, "seed {seed}: a sole liar is believed");
        world.run_s(60);
        let checker = world.checker(client);
        assert_eq!(checker.violations, before, "seed {seed}: {:?}", checker.history);
        assert_eq!(
            (checker.status(), checker.epoch()),
            (Some(Status::Locked), 2),
            "seed {seed}: {:?}",
            checker.history
        );
        assert!(checker.faults.is_empty(), "seed {seed}: {:?}", checker.faults);
    }
}

#[test]
fn a_pool_with_fewer_addresses_than_wanted() {
    for seed in SEEDS {
        let mut world = new_world(seed, TODAY_UNIX_S);
        let servers: Vec<usize> = (0..3).map(|_| world.add(HostSpec::ROOT, root(0, 50 * US))).collect();
        world.names.insert("pool.test".to_owned(), servers[..2].iter().map(|&server| address(server)).collect());
        let client = world.add(HostSpec::CLIENT, following(&[pool("pool.test", 3)]));
        world.run_s(30);
        assert_sound(&world, client, seed);
        // The missing one is a silent group: two of three, of which one may lie.
        assert_eq!(world.report(client).groups, (3, 2, 1), "seed {seed}");
        assert_eq!(world.checker(client).status(), Some(Status::Locked), "seed {seed}");
        // The name has more addresses later, and more than are wanted.
        world.names.insert("pool.test".to_owned(), (0..9).map(address).collect());
        world.run_s(300);
        assert_eq!(world.report(client).groups.0, 3, "seed {seed}");
        assert_eq!(world.report(client).sources.len(), 3, "seed {seed}");
        assert_sound(&world, client, seed);
    }
}

#[test]
fn a_short_pool_is_still_looked_up_after_a_reconfiguration() {
    let mut world = new_world(1, TODAY_UNIX_S);
    let servers: Vec<usize> = (0..3).map(|_| world.add(HostSpec::ROOT, root(0, 50 * US))).collect();
    world.names.insert("pool.test".to_owned(), servers[..2].iter().map(|&server| address(server)).collect());
    let settings = following(&[pool("pool.test", 3)]);
    let client = world.add(HostSpec::CLIENT, settings.clone());
    world.run_s(3);
    let again = Settings { max_liars: Some(1), ..settings };
    world.input(client, Input::Reconfigured(Box::new(again)));
    world.names.insert("pool.test".to_owned(), servers.iter().map(|&server| address(server)).collect());
    world.run_s(600);
    assert_eq!(world.report(client).groups, (3, 3, 1));
}
