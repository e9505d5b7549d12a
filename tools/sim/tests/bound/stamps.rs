//! Kernel stamps that are missing, late or stepped under, and the eras of NTP timestamps.

use super::*;

#[test]
fn missing_kernel_stamps() {
    for (seed, (tx, rx)) in SEEDS.zip([(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.5, 0.5), (0.9, 0.1)]) {
        let nic = NicSpec { tx_lost: 1.0 - tx, rx_lost: 1.0 - rx, ..NicSpec::PROMPT };
        let spec = HostSpec { nic, ..HostSpec::CLIENT };
        let (mut world, client) = pair(seed, 20 * US, 0.99, spec, |_| ());
        world.run_s(120);
        assert_calm(&world, client, seed);
        let (missing_tx, missing_rx) = world.report(client).sources[0].missing_stamps;
        assert_eq!((missing_tx > 0, missing_rx > 0), (tx < 1.0, rx < 1.0), "seed {seed}");
    }
}

#[test]
fn stamps_that_come_late() {
    for seed in SEEDS {
        let spec = HostSpec { nic: NicSpec { is_late: true, ..NicSpec::PROMPT }, ..HostSpec::CLIENT };
        let (mut world, client) = pair(seed, 20 * US, -0.99, spec, |_| ());
        world.run_s(120);
        assert_calm(&world, client, seed);
        assert!(world.report(client).sources[0].has_kernel_stamps, "seed {seed}");
    }
}

#[test]
fn an_operator_who_learns_that_stamps_err_gets_a_wider_bound_at_once() {
    for seed in SEEDS {
        let slow_process = HostSpec { wake_ns: 400 * US, ..HostSpec::CLIENT };
        let (mut world, client) = pair(seed, 20 * US, 0.5, slow_process, |_| ());
        world.run_s(60);
        let (before_ns, epoch) = (world.checker(client).half_width_ns, world.checker(client).epoch());
        let settings = Settings { stamp_error_ns: 100 * US, ..world.hosts[client].settings.clone() };
        world.input(client, Input::Reconfigured(Box::new(settings)));
        world.run_s(60);
        assert_sound(&world, client, seed);
        assert!(world.checker(client).epoch() > epoch, "seed {seed}: what was published relied on better stamps");
        // User stamps limit what bad kernel stamps can cost.
        let after_ns = world.checker(client).half_width_ns;
        assert!(after_ns > before_ns + 3 * US, "seed {seed}: {before_ns} to {after_ns} ns");
    }
}

/// The round trip is 4 ms, so that many changes fall between its stamps.
fn long_path(seed: u64, spec: HostSpec) -> (World, usize) {
    let (mut world, client) = pair(seed, 5 * US, 0.99, spec, |settings| {
        settings.sources[0].poll_min_ns = Some(S / 8);
    });
    world.connect(client, 0, &idle(4000.0), &idle(0.0));
    (world, client)
}

#[test]
fn realtime_stepped_under_the_stamps() {
    for (seed, is_noticed) in SEEDS.flat_map(|seed| [(seed, true), (seed, false)]) {
        let (mut world, client) = long_path(seed, HostSpec::CLIENT);
        while world.elapsed_s() < 60.0 {
            let wait = world.rng.between(0, 60 * MS);
            world.run(wait);
            let ns = if world.rng.chance(0.5) { 50 * MS } else { -50 * MS };
            world.step_realtime(client, ns, is_noticed);
        }
        assert_calm(&world, client, seed);
        assert!(world.report(client).sources[0].contradicted_stamps > 10, "seed {seed}: steps met stamps");
    }
}

#[test]
fn realtime_slewed_under_the_stamps() {
    for seed in SEEDS {
        let (mut world, client) = long_path(seed, HostSpec::CLIENT);
        while world.elapsed_s() < 120.0 {
            // There and back within one exchange is outside A3; so a slew lasts longer than an exchange.
            let wait = world.rng.between(20 * MS, 400 * MS);
            world.run(wait);
            let ppb = [0, 83_333_000, -83_333_000, 500_000][world.rng.below(4)];
            world.slew_realtime(client, ppb);
        }
        assert_calm(&world, client, seed);
    }
}

/// A server whose send call takes half a millisecond, and its client's half-width after a while.
fn behind_a_slow_server(seed: u64, is_interleaved: bool, is_stamp_late: bool) -> (World, usize, u64) {
    let mut world = new_world(seed, TODAY_UNIX_S);
    let nic = NicSpec { is_late: is_stamp_late, ..NicSpec::PROMPT };
    let spec = HostSpec { send_ns: 500 * US, nic, realtime_error_ns: -4 * US, ..HostSpec::ROOT };
    let server = world.add(spec, root(0, 5 * US));
    let sources = [SourceSettings { interleaved: is_interleaved, ..source(server) }];
    let client = world.add(HostSpec::CLIENT, following(&sources));
    // Interleaved answers return the request's receive field, which basic ones never do.
    let (interleaved, asked) = (Rc::new(Cell::new(0)), Cell::new([0; 8]));
    let count = Rc::clone(&interleaved);
    world.tamper = Some(Box::new(move |flight| {
        let field = |at: usize| <[u8; 8]>::try_from(&flight.data[at..at + 8]).expect("a whole packet");
        if flight.to.port() == 123 {
            asked.set(field(32));
        } else if field(24) == asked.get() {
            count.set(count.get() + 1);
        }
    }));
    world.run_s(60);
    (world, client, interleaved.get())
}

#[test]
fn basic_mode_where_it_is_asked_for() {
    for seed in SEEDS {
        let (world, client, interleaved) = behind_a_slow_server(seed, false, false);
        assert_calm(&world, client, seed);
        assert_eq!(interleaved, 0, "seed {seed}");
    }
}

#[test]
fn interleaved_mode_sees_past_a_slow_server() {
    for (seed, is_stamp_late) in SEEDS.flat_map(|seed| [(seed, false), (seed, true)]) {
        let (basic, client, _) = behind_a_slow_server(seed, false, is_stamp_late);
        let (world, _, interleaved) = behind_a_slow_server(seed, true, is_stamp_late);
        assert_calm(&world, client, seed);
        assert!(interleaved > 30, "seed {seed}: {interleaved} interleaved answers in a minute");
        let (basic_ns, interleaved_ns) = (basic.checker(client).half_width_ns, world.checker(client).half_width_ns);
        assert!(interleaved_ns + 200 * US < basic_ns, "seed {seed}: ±{interleaved_ns} ns, basic ±{basic_ns} ns");
    }
}

/// 2036-02-07T06:28:16Z: NTP's era 1 begins.
const ERA_1_UNIX_S: i64 = 2_085_978_496;

fn starting_at(seed: u64, unix_s: i64, realtime_error_ns: i64) -> (World, usize) {
    let mut world = new_world(seed, unix_s);
    let server = world.add(HostSpec { realtime_error_ns: 15 * US, ..HostSpec::ROOT }, root(0, 20 * US));
    let spec = HostSpec { realtime_error_ns, ..HostSpec::CLIENT };
    let client = world.add(spec, following(&[source(server)]));
    (world, client)
}

#[test]
fn ntp_eras() {
    for seed in SEEDS {
        for unix_s in [ERA_1_UNIX_S - 30, 2_208_988_800, TODAY_UNIX_S] {
            let (mut world, client) = starting_at(seed, unix_s, 3 * MS);
            world.run_s(60);
            assert_calm(&world, client, seed);
        }
    }
}

#[test]
fn a_clock_that_lost_its_battery_names_no_era() {
    // A real-time clock without power shows the epoch, or the far end of its two digits.
    for unix_s in [ERA_1_UNIX_S - 30, TODAY_UNIX_S] {
        for shown_unix_s in [0, 946_684_800, 4_070_908_800] {
            let (mut world, client) = starting_at(1, unix_s, (shown_unix_s - unix_s) * S);
            world.run_s(60);
            assert_calm(&world, client, 1);
        }
    }
}
