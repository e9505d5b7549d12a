//! Reference clocks in the whole core: what they prove, who may number a pulse, and what becomes of bad samples.

#[path = "reference/world.rs"]
mod world;

use truebound_core::association::ntp::Discard;
use truebound_core::event::Event;
use truebound_core::io::{AssociationId, Found};
use truebound_core::leap::LeapTable;
use truebound_core::report::Standing;
use truebound_core::settings::{PpsEdge, ReferenceClock, SockAccess, SourceSettings};
use truebound_core::wire::reference::{SHM_BYTES, SOCK_BYTES};

use world::{Clock, MS, S, US, World, hash, reference, server, shm};

fn pps(error_ns: i64) -> SourceSettings {
    let clock = ReferenceClock::Pps { device: "/dev/pps0".to_owned(), edge: PpsEdge::Assert };
    SourceSettings { trust: true, ..reference("pps", clock, error_ns) }
}

fn sock(error_ns: i64) -> SourceSettings {
    let clock = ReferenceClock::Sock { path: "/run/x".to_owned(), access: SockAccess::Owner };
    reference("sock", clock, error_ns)
}

fn lying(lie_ns: i64) -> Clock {
    Clock { lie_ns, ..Clock::HONEST }
}

fn discards(world: &World, name: &str, discard: Discard) -> u64 {
    world.source(name).counters.discarded[discard as usize]
}

#[track_caller]
fn expect_sound(world: &World) {
    assert!(world.reads > 0, "no bound at all");
    assert_eq!(world.violations, 0, "of {} reads", world.reads);
}

#[test]
fn a_segment_proves_the_time_within_its_error_whatever_its_noise() {
    let clock = Clock { noise_ns: 900 * US, latency_ns: 30 * MS, ..Clock::HONEST };
    let mut world = World::new(&[(shm("gps", MS), clock)], |_| ());
    world.run(600 * S);
    expect_sound(&world);
    assert!(world.half_width().expect("a bound") < MS, "many samples are better than one");
    assert!(world.error().expect("an estimate").abs() < 300 * US, "{:?}", world.error());
    let audits =
        world.events.iter().filter(|event| matches!(event, Event::Audit { .. } | Event::SelfContradiction { .. }));
    assert_eq!(audits.count(), 0, "{:?}", world.events);
    let source = world.source("gps");
    assert_eq!((source.standing, source.reach), (Standing::Truechimer, 0xff));
    // One answer for each sample, but for the first ones; looked at close behind its publication.
    assert!((595..=600).contains(&source.counters.answers), "{source:?}");
    assert!(source.delay_ns < 2 * 60 * 600, "mapped within 600 ppm of 60 ms: {} ns", source.delay_ns);
}

#[test]
fn a_datagram_proves_it_too() {
    let mut world = World::new(&[(sock(10 * US), Clock { noise_ns: 9 * US, ..Clock::HONEST })], |_| ());
    world.run(120 * S);
    expect_sound(&world);
    assert!(world.half_width().expect("a bound") < 12 * US, "{:?}", world.half_width());
    assert!(world.source("sock").counters.answers >= 116);
}

#[test]
fn a_liar_beside_two_honest_servers_is_outvoted() {
    for lie_ns in [5 * MS, -5 * MS, 3 * S] {
        let honest = [(server("10.0.0.1"), Clock::HONEST), (server("10.0.0.2"), Clock::HONEST)];
        let mut world = World::new(&[&honest[..], &[(shm("gps", MS), lying(lie_ns))]].concat(), |_| ());
        world.run(60 * S);
        expect_sound(&world);
        assert_eq!(world.source("gps").standing, Standing::Falseticker, "{lie_ns}");
        assert!(world.half_width().expect("a bound") < MS);
    }
}

#[test]
fn a_pulse_alone_proves_nothing() {
    let mut world = World::new(&[(pps(US), Clock::HONEST)], |_| ());
    world.run(30 * S);
    assert_eq!((world.reads, world.half_width()), (0, None));
    assert!(discards(&world, "pps", Discard::Unnumbered) >= 25);
}

#[test]
fn a_pulse_that_others_number_narrows_the_bound_to_its_own_error() {
    for second in [shm("nmea", 300 * MS), server("10.0.0.1")] {
        let pulse = Clock { noise_ns: US, ..Clock::HONEST };
        let noisy = Clock { noise_ns: 200 * MS, ..Clock::HONEST };
        let clock = if second.name == "nmea" { noisy } else { Clock::HONEST };
        let mut world = World::new(&[(pps(2 * US), pulse), (second, clock)], |_| ());
        world.run(120 * S);
        expect_sound(&world);
        assert!(world.half_width().expect("a bound") < 4 * US, "{:?}", world.half_width());
        assert!(world.error().expect("an estimate").abs() < 2 * US, "{:?}", world.error());
    }
}

#[test]
fn a_pulse_is_not_used_where_the_others_leave_two_seconds() {
    // Of ±E around the second; 1 ms for what the oscillator does between the pulse and the look, and for the stamps.
    for (error_ns, is_used) in [(S / 2 - 3 * MS, true), (S / 2, false), (S, false)] {
        let mut world = World::new(&[(pps(MS), Clock::HONEST), (shm("nmea", error_ns), Clock::HONEST)], |_| ());
        world.run(10 * S);
        expect_sound(&world);
        let unnumbered = discards(&world, "pps", Discard::Unnumbered);
        assert_eq!(world.source("pps").counters.answers > 0, is_used, "{error_ns}: {unnumbered} unnumbered");
        assert_eq!(world.half_width().expect("a bound") < 10 * MS, is_used, "{error_ns}");
    }
}

#[test]
fn a_pulse_that_marks_no_second_is_counted() {
    let off = Clock { phase_ns: 300 * MS, ..Clock::HONEST };
    let mut world = World::new(&[(pps(MS), off), (shm("nmea", 10 * MS), Clock::HONEST)], |_| ());
    world.run(20 * S);
    expect_sound(&world);
    assert_eq!(world.source("pps").counters.answers, 0);
    assert!(discards(&world, "pps", Discard::Unnumbered) >= 15);
}

#[test]
fn one_liar_of_three_cannot_misnumber_a_pulse_and_a_majority_can() {
    let world = |lies: [i64; 3]| {
        let servers = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].into_iter().zip(lies);
        let servers = servers.map(|(host, lie_ns)| (server(host), lying(lie_ns)));
        let mut world = World::new(&[(pps(US), Clock::HONEST)].into_iter().chain(servers).collect::<Vec<_>>(), |_| ());
        world.run(60 * S);
        world
    };
    let one = world([0, 0, S]);
    expect_sound(&one);
    assert!(one.half_width().expect("a bound") < 3 * US);
    // What the page of assumptions says: its numbering rests on the vote of the others.
    let most = world([0, S, S]);
    assert!(most.violations > 0 || most.reads == 0, "nobody can know");
}

#[test]
fn a_pulse_does_not_number_itself_for_ever() {
    let mut world = World::new(&[(pps(US), Clock::HONEST), (server("10.0.0.1"), Clock::HONEST)], |s| {
        s.bound.memory_ns = 60 * S;
    });
    world.run(30 * S);
    assert!(world.half_width().expect("a bound") < 6 * US, "{:?}", world.half_width());
    let numbered = world.source("pps").counters.answers;
    world.clocks[1].is_silent = true;
    world.run(90 * S);
    let answers = world.source("pps").counters.answers;
    assert!(answers > numbered, "the others' region still holds, and grows");
    world.run(60 * S);
    assert_eq!(world.source("pps").counters.answers, answers, "until it is forgotten");
    expect_sound(&world);
}

#[test]
fn a_sample_under_which_the_clock_was_set_is_dropped_and_the_next_are_not() {
    for hides_steps in [false, true] {
        for by_ns in [-7 * S, -150 * MS, -20 * MS, 20 * MS, 7 * S] {
            let clock = Clock { latency_ns: 200 * MS, phase_ns: 400 * MS, ..Clock::HONEST };
            let mut world = World::new(&[(shm("gps", MS), clock)], |_| ());
            world.hides_steps = hides_steps;
            // Between a stamp and its publication.
            let past = World::utc(world.now).rem_euclid(S);
            world.run(10 * S + 500 * MS - past);
            world.set_real(by_ns);
            world.run(S);
            let source = world.source("gps");
            let dropped = source.contradicted_stamps + source.counters.discarded[Discard::Stale as usize];
            assert!(dropped > 0, "{by_ns}, {hides_steps}: {source:?}");
            let before = source.counters.answers;
            world.run(10 * S);
            expect_sound(&world);
            assert!(world.source("gps").counters.answers >= before + 4, "{by_ns}, {hides_steps}");
        }
    }
}

#[test]
fn a_stale_sample_proves_nothing() {
    for (latency_ns, is_used) in [(S, true), (S + 500 * MS, true), (2 * S + 500 * MS, false), (6 * S, false)] {
        let mut world = World::new(&[(shm("gps", 10 * MS), Clock { latency_ns, ..Clock::HONEST })], |_| ());
        world.run(30 * S);
        let stale = discards(&world, "gps", Discard::Stale);
        assert_eq!(world.source("gps").counters.answers > 20, is_used, "{latency_ns}: {stale} stale");
        // The first ones were stamped before anybody read the clock.
        assert_eq!(stale > 20, !is_used, "{latency_ns}: {stale} stale");
        assert_eq!(world.violations, 0);
    }
}

#[test]
fn what_lay_there_at_the_first_look_is_not_used_and_what_repeats_counts_once() {
    let mut world = World::new(&[(shm("gps", MS), Clock { is_silent: true, ..Clock::HONEST })], |_| ());
    world.run(2 * S);
    let id = AssociationId(0);
    let segment = world.segment(id);
    for _ in 0..5 {
        world.tell(id, Found::Segment(&segment));
    }
    assert_eq!(world.source("gps").counters.answers, 0, "nobody knows how old it is");
    world.run(S / 2);
    world.clocks[0].is_silent = false;
    world.run(10 * S);
    let answers = world.source("gps").counters.answers;
    assert!((8..=10).contains(&answers), "{answers}");
    let segment = world.segment(id);
    world.tell(id, Found::Segment(&segment));
    let answers = world.source("gps").counters.answers;
    for _ in 0..5 {
        world.tell(id, Found::Segment(&segment));
    }
    assert_eq!(world.source("gps").counters.answers, answers);
}

#[test]
fn absence_is_counted_and_survived() {
    let absent = Clock { is_silent: true, ..Clock::HONEST };
    let mut world = World::new(&[(shm("gps", MS), absent), (server("10.0.0.1"), Clock::HONEST)], |_| ());
    world.run(20 * S);
    expect_sound(&world);
    let count = discards(&world, "gps", Discard::Absent);
    assert!((15..=40).contains(&count), "tried again each second: {count}");
    world.clocks[0].is_silent = false;
    world.run(20 * S);
    assert_eq!(world.source("gps").standing, Standing::Truechimer);
}

#[test]
fn samples_near_a_leap_second_are_dropped() {
    // The world begins 1000 s after its epoch; the leap comes 30 s later.
    let leap_ntp = 1_790_000_000 + 1_000 + 30 + 2_208_988_800i64;
    let list = format!("#@ {}\n3692217600 37\n{leap_ntp} 38\n", leap_ntp + 100_000_000);
    let mut world = World::new(&[(shm("gps", MS), Clock::HONEST), (pps(MS), Clock::HONEST)], |settings| {
        settings.leap = LeapTable::parse(&list).expect("well formed");
    });
    world.run(27 * S);
    expect_sound(&world);
    let answers = world.source("gps").counters.answers;
    assert!(answers >= 20);
    // Until just before the leap: what this world's clocks show after it is no UTC any more.
    world.run(2 * S);
    for name in ["gps", "pps"] {
        assert!(discards(&world, name, Discard::NearLeap) > 0, "{name}");
    }
    assert!(world.source("gps").counters.answers <= answers + 1);
}

#[test]
fn random_segments_and_datagrams_change_nothing_that_honest_servers_prove() {
    let honest = [(server("10.0.0.1"), Clock::HONEST), (server("10.0.0.2"), Clock::HONEST)];
    let silent = Clock { is_silent: true, ..Clock::HONEST };
    let hostile = [(shm("shm", MS), silent.clone()), (sock(MS), silent)];
    let mut world = World::new(&[&honest[..], &hostile[..]].concat(), |settings| settings.max_liars = Some(2));
    world.run(10 * S);
    let good = world.segment(AssociationId(0));
    for round in 0..100_000i64 {
        // Every kind of damage: noise everywhere, in one word, or none but the stamps of now.
        let mut segment: [u8; SHM_BYTES] =
            if round % 3 == 0 { [0; SHM_BYTES] } else { world.segment(AssociationId(0)) };
        let words = if round % 3 == 0 { SHM_BYTES / 8 } else { usize::try_from(round % 4).expect("small") };
        for word in 0..words {
            let at = usize::try_from(hash(round * 31 + 7)).expect("positive") % (SHM_BYTES / 8) * 8;
            let at = if words == SHM_BYTES / 8 { word * 8 } else { at };
            segment[at..at + 8].copy_from_slice(&hash(round * 131 + i64::try_from(word).expect("small")).to_ne_bytes());
        }
        if round % 3 == 0 {
            segment[0..4].copy_from_slice(&good[0..4]);
        }
        world.tell(AssociationId(2), Found::Segment(&segment));
        let mut datagram = [0; SOCK_BYTES];
        for word in 0..5i64 {
            let at = usize::try_from(word * 8).expect("small");
            datagram[at..at + 8].copy_from_slice(&hash(round * 17 + word).to_ne_bytes());
        }
        datagram[36..40].copy_from_slice(&0x534f_434bi32.to_ne_bytes());
        if round % 2 == 0 {
            datagram[24..32].copy_from_slice(&[0; 8]);
        }
        world.tell(AssociationId(3), Found::Datagram(&datagram));
        if round % 100 == 0 {
            world.run(10 * MS);
        }
    }
    expect_sound(&world);
    let source = world.source("shm");
    assert!(source.counters.discarded.iter().sum::<u64>() > 1_000, "{source:?}");
}

#[test]
fn another_daemon_is_told_how_far_the_clock_is_off_once_a_second_and_only_within_a_bound() {
    let silent = Clock { is_silent: true, ..Clock::HONEST };
    let mut world = World::new(&[(server("10.0.0.1"), silent)], |s| s.feed_interval_ns = Some(S));
    world.run(10 * S);
    assert!(world.fed.is_empty(), "nothing is known");
    world.clocks[0].is_silent = false;
    world.run(30 * S);
    assert!((27..=31).contains(&world.fed.len()), "{}", world.fed.len());
    let half_width = world.half_width().expect("a bound");
    let (raw, sample) = world.fed.last().expect("fed");
    let truth = World::utc(*raw) - world.real(*raw);
    assert!((sample.ahead_ns - truth).abs() <= half_width, "{sample:?}, truth {truth} ± {half_width}");
    assert!((world.real(*raw) - sample.at.as_ns()).abs() < 100 * US, "of now");
    world.clocks[0].is_silent = true;
    world.run(7_200 * S);
    let fed = world.fed.len();
    world.run(10 * S);
    assert_eq!(world.fed.len(), fed, "the bound expired");
}
