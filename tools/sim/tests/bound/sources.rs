//! Several sources: votes, trust, lies, chains of servers.

use super::*;

fn standings(world: &World, client: usize) -> Vec<Standing> {
    world.report(client).sources.iter().map(|source| source.standing).collect()
}

#[test]
fn one_liar_among_three_is_outvoted() {
    for seed in SEEDS {
        let (mut world, client) = several(seed, &[HONEST, LIAR, HONEST], |_| ());
        world.run_s(5);
        assert_eq!(standings(&world, client), [Standing::Truechimer, Standing::Falseticker, Standing::Truechimer]);
        world.run_s(115);
        assert_sound(&world, client, seed);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Locked, Reason::Majority), "seed {seed}");
    }
}

#[test]
fn a_clocksource_that_nobody_vouched_for_gives_no_bound() {
    for (is_stated, status) in [(true, Status::Locked), (false, Status::FreeRunning)] {
        let change = |settings: &mut Settings| settings.oscillator_is_stated = is_stated;
        let (mut world, client) = pair(1, US, 0.0, HostSpec::CLIENT, change);
        world.run_s(30);
        assert_eq!(world.checker(client).status(), Some(Status::Locked), "the TSC needs no word");
        world.change_clocksource(client, &OscillatorSpec::ppm(10.0));
        world.run_s(30);
        assert_eq!(world.checker(client).status(), Some(status), "stated: {is_stated}");
        assert_eq!(world.checker(client).violations, 0);
    }
}

#[test]
fn a_leap_second_that_the_table_announces_moves_nothing() {
    let leap_ntp_s = TODAY_UNIX_S + 2_208_988_800 + 60;
    let text = format!("#@ 6311433600\n3692217600 37\n{leap_ntp_s} 38\n");
    let leap = LeapTable::parse(&text).expect("a list of leap seconds");
    for seed in SEEDS {
        let mut world = new_world(seed, TODAY_UNIX_S);
        let server = world.add(HostSpec::ROOT, Settings { leap: leap.clone(), ..root(0, 20 * US) });
        let follow = Settings { leap: leap.clone(), ..following(&[source(server)]) };
        let client = world.add(HostSpec::CLIENT, follow);
        world.run_s(120);
        let report = world.report(client);
        assert_eq!(report.status, Status::Locked, "seed {seed}");
        assert!(report.sources[0].counters.discarded[Discard::NearLeap as usize] > 0, "seed {seed}");
        assert_sound(&world, client, seed);
        assert_calm(&world, client, seed);
        assert_eq!(world.checker(client).page.as_ref().map(|page| page.utc.offset_s), Some(38), "seed {seed}");
    }
}

#[test]
fn a_liar_and_the_server_that_follows_it_are_one_voice() {
    for seed in SEEDS {
        let mut world = new_world(seed, TODAY_UNIX_S);
        let liar = world.add(HostSpec::ROOT, root(50 * MS, 20 * US));
        let echo = world.add(
            HostSpec { is_checked: false, ..HostSpec::CLIENT },
            Settings { sources: vec![source(liar)], ..serving() },
        );
        let honest = world.add(HostSpec::ROOT, root(0, 20 * US));
        let client = world.add(HostSpec::CLIENT, following(&[source(liar), source(echo), source(honest)]));
        world.run_s(30);
        assert_sound(&world, client, seed);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Void, Reason::SourcesDisagree), "seed {seed}");
    }
}

#[test]
fn a_restored_page_tells_utc_as_before() {
    for seed in SEEDS {
        let (mut world, client) = several(seed, &[HONEST], |_| ());
        world.run_s(30);
        let settings = following(&[source(0)]);
        world.cut(client, true);
        world.restart(client, settings, true);
        world.run_s(5);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Holdover, Reason::Restarted), "seed {seed}");
        assert_eq!(page.utc.offset_s, 37, "seed {seed}");
        assert!(page.utc.change_at_ns > page.bound.theta_hi_ns, "seed {seed}: the next change lies ahead");
        assert_sound(&world, client, seed);
    }
}

#[test]
fn a_trusted_source_narrows_the_vote_and_it_is_said() {
    for seed in SEEDS {
        let roots = [(3 * MS, 5 * MS), (0, 20 * US), (-4 * MS, 5 * MS)];
        let (mut world, client) = several(seed, &roots, |settings| settings.sources[1].trust = true);
        world.run_s(60);
        assert_sound(&world, client, seed);
        let checker = world.checker(client);
        let page = checker.page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Locked, Reason::AssumesTrust), "seed {seed}");
        assert!(checker.half_width_ns < 100 * US, "seed {seed}: ±{} ns", checker.half_width_ns);
        // Without the operator's word the tight one might be the liar.
        let (mut world, client) = several(seed, &roots, |_| ());
        world.run_s(60);
        assert_sound(&world, client, seed);
        assert!(world.checker(client).half_width_ns > 500 * US, "seed {seed}");
    }
}

#[test]
fn a_trusted_liar_voids_the_bound() {
    for seed in SEEDS {
        let roots = [HONEST, LIAR, HONEST];
        let (mut world, client) = several(seed, &roots, |settings| settings.sources[1].trust = true);
        world.run_s(30);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Void, Reason::TrustContradicted), "seed {seed}");
        assert!(world.checker(client).faults.is_empty(), "seed {seed}: {:?}", world.checker(client).faults);
    }
}

#[test]
fn two_groups_that_disagree_leave_nothing() {
    for seed in SEEDS {
        let (mut world, client) = several(seed, &[HONEST, LIAR], |_| ());
        world.run_s(30);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!((page.status, page.reason), (Status::Void, Reason::SourcesDisagree), "seed {seed}");
        assert!(world.checker(client).faults.is_empty(), "seed {seed}: {:?}", world.checker(client).faults);
    }
}

#[test]
fn two_groups_that_agree_again_lock() {
    for seed in SEEDS {
        let (mut world, client) = several(seed, &[HONEST, HONEST], |_| ());
        world.run_s(20);
        world.input(1, Input::Reconfigured(Box::new(root(LIAR.0, LIAR.1))));
        world.run_s(30);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!(page.status, Status::Void, "seed {seed}: {:?}", page.reason);
        let epoch = page.epoch;
        world.input(1, Input::Reconfigured(Box::new(root(0, 50 * US))));
        world.run_s(60);
        let page = world.checker(client).page.as_ref().expect("published");
        assert_eq!(page.status, Status::Locked, "seed {seed}: {:?}", page.reason);
        assert!(page.epoch >= epoch, "seed {seed}");
        assert!(world.checker(client).faults.is_empty(), "seed {seed}: {:?}", world.checker(client).faults);
    }
}

#[test]
fn one_answer_of_three_is_no_bound() {
    for seed in SEEDS {
        let mut world = new_world(seed, TODAY_UNIX_S);
        let server = world.add(HostSpec::ROOT, root(0, 50 * US));
        let client = world.add(HostSpec::CLIENT, following(&[source(server), source(77), source(78)]));
        world.run_s(30);
        let checker = world.checker(client);
        assert_eq!((checker.status(), checker.answered), (Some(Status::Starting), 0), "seed {seed}");
        assert_eq!(world.report(client).groups, (3, 1, 1), "seed {seed}");
    }
}

#[test]
fn a_sole_source_that_jumps_has_to_prove_itself() {
    for seed in SEEDS {
        let (mut world, client) = several(seed, &[HONEST], |_| ());
        world.run_s(30);
        let epoch = world.checker(client).epoch();
        // It was right before and is wrong after: no promise, but the break must be said and lived down.
        world.input(0, Input::Reconfigured(Box::new(root(20 * MS, 50 * US))));
        let void = world.run_until(10, |world| world.checker(client).status() == Some(Status::Void));
        assert!(void.is_some(), "seed {seed}: {:?}", world.checker(client).history);
        assert!(world.checker(client).saw(Status::Void, Reason::SourceJumped), "seed {seed}");
        let answers_at_void = answers(&world, client);
        let locked = world.run_until(60, |world| world.checker(client).status() == Some(Status::Locked));
        assert!(locked.is_some(), "seed {seed}: {:?}", world.checker(client).history);
        let proof = answers(&world, client) - answers_at_void;
        assert!(proof >= 8, "seed {seed}: locked after {proof} answers");
        let checker = world.checker(client);
        assert!(checker.epoch() > epoch && checker.faults.is_empty(), "seed {seed}: {:?}", checker.faults);
        // The read that found it out was the last wrong one: at most the time between two polls is wrong.
        let before = checker.violations;
        world.input(0, Input::Reconfigured(Box::new(root(0, 50 * US))));
        world.run_until(60, |world| world.checker(client).status() == Some(Status::Void)).expect("void again");
        world.run_until(60, |world| world.checker(client).status() == Some(Status::Locked)).expect("locked again");
        let locked = world.checker(client).violations;
        world.run_s(60);
        assert_eq!(world.checker(client).violations, locked, "seed {seed}: (before: {before})");
    }
}

#[test]
fn servers_in_a_chain_stay_inside_what_they_claim() {
    for seed in SEEDS {
        let mut world = new_world(seed, TODAY_UNIX_S);
        let top = world.add(HostSpec { realtime_error_ns: 990, ..HostSpec::ROOT }, root(0, US));
        let relay = |ppm| HostSpec { oscillator: wandering(ppm, CLASS_LIMIT, 60), ..HostSpec::CLIENT };
        let middle = world.add(relay(-700.0), Settings { sources: vec![source(top)], ..serving() });
        let client = world.add(relay(400.0), following(&[source(middle)]));
        let quick = idle(0.0);
        world.connect(middle, top, &idle(30.0), &quick);
        world.connect(client, middle, &idle(30.0), &quick);
        world.run_s(120);
        assert_sound(&world, middle, seed);
        assert_sound(&world, client, seed);
        assert_eq!(world.checker(client).status(), Some(Status::Locked), "seed {seed}");
    }
}

/// A root, a relay that wakes up late, and a client that asks often; counts answers by what they carry.
fn behind_a_busy_relay(seed: u64, on_answer: impl FnMut(&[u8]) + 'static) -> (World, usize) {
    let mut world = new_world(seed, TODAY_UNIX_S);
    let top = world.add(HostSpec { realtime_error_ns: 19 * US, ..HostSpec::ROOT }, root(0, 20 * US));
    let spec = HostSpec { oscillator: OscillatorSpec::ppm(-700.0), wake_ns: 3 * MS, ..HostSpec::CLIENT };
    let relay = world.add(spec, Settings { sources: vec![source(top)], ..serving() });
    world.run_s(10);
    let often = SourceSettings { poll_min_ns: Some(S / 8), ..source(relay) };
    let client =
        world.add(HostSpec { oscillator: OscillatorSpec::ppm(700.0), ..HostSpec::CLIENT }, following(&[often]));
    let (mut on_answer, asked) = (on_answer, address(client));
    world.tamper = Some(Box::new(move |flight| {
        if flight.to.ip() == asked {
            on_answer(&flight.data);
        }
    }));
    world.run_s(120);
    assert_sound(&world, relay, seed);
    // The client started ten seconds late.
    assert_eq!(world.checker(client).violations, 0, "seed {seed}: {:?}", world.checker(client).first_violation);
    assert!(world.checker(client).faults.is_empty(), "seed {seed}: {:?}", world.checker(client).faults);
    (world, client)
}

#[test]
fn a_request_older_than_the_publication_is_answered() {
    for seed in SEEDS {
        let (world, client) = behind_a_busy_relay(seed, |_| ());
        let counters = world.report(client).sources[0].counters;
        let unsynchronised = counters.discarded[Discard::Unsynchronised as usize];
        assert_eq!(unsynchronised, 0, "seed {seed}: the relay was locked all the time, {counters:?}");
    }
}

#[test]
fn the_exact_claim_is_what_the_header_rounds() {
    for seed in SEEDS {
        let compared = Rc::new(Cell::new(0));
        let count = Rc::clone(&compared);
        behind_a_busy_relay(seed, move |data| {
            let (packet, extensions) = ntp::parse(data).expect("our own answers");
            let Some(claim) = extensions.find(EXACT_CLAIM).and_then(ExactClaim::parse) else { return };
            let exact = ShortTime::from_ns_up(claim.half_width_ns.cast_signed());
            assert_eq!(exact, packet.root_dispersion, "seed {seed}: {claim:?} {packet:?}");
            count.set(count.get() + 1);
        });
        assert!(compared.get() > 500, "seed {seed}: {}", compared.get());
    }
}

#[test]
fn a_report_compares_at_one_instant() {
    let (mut world, client) = pair(1, 20 * US, 0.3, HostSpec::CLIENT, |_| ());
    world.run_s(30);
    for _ in 0..20 {
        world.run(90 * MS);
        let offset_ns = world.report(client).sources[0].offset_ns.expect("a sole source");
        assert!(offset_ns.abs() < US, "{offset_ns} ns from the only source that the estimate has");
    }
}
