//! The promise, in worlds that try to break it: at every read true time lies inside the interval, publications of one
//! epoch never contradict each other, and what broke is said before anything new is.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "worlds are small: ns of some years and probabilities"
)]

use std::cell::Cell;
use std::rc::Rc;

use truebound_client::{Reason, Status};
use truebound_core::association::ntp::Discard;
use truebound_core::event::{Audit, Event};
use truebound_core::io::{Control, Input};
use truebound_core::leap::LeapTable;
use truebound_core::report::Standing;
use truebound_core::settings::{Settings, SourceSettings};
use truebound_core::wire::ntp::{self, ExactClaim, ShortTime};
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

// ---- links and clocks ----------------------------------------------------------------------------------------------

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
        // The point estimate may be misled by queues and led back; nothing that bounds may be in doubt.
        let is_alarm = |event: &Event| matches!(event, Event::Audit { what, .. } if *what != Audit::Estimate);
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

// ---- stamps --------------------------------------------------------------------------------------------------------

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

// ---- eras ----------------------------------------------------------------------------------------------------------

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

// ---- this host -----------------------------------------------------------------------------------------------------

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

// ---- several sources -----------------------------------------------------------------------------------------------

const HONEST: (i64, i64) = (0, 50 * US);
const LIAR: (i64, i64) = (50 * MS, 50 * US);

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
            let Some(claim) = extensions.find(ntp::EXACT_CLAIM).and_then(ExactClaim::parse) else { return };
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

// ---- silence -------------------------------------------------------------------------------------------------------

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

// ---- the operator --------------------------------------------------------------------------------------------------

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

// ---- the checker itself --------------------------------------------------------------------------------------------

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
