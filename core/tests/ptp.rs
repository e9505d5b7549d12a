//! Two and more agents over PTP in a small world where true time is known: what is guaranteed, what is asserted, and how
//! good the estimate is. Every seed is printed; nothing here depends on a clock.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a world of known sizes"
)]

#[path = "ptp/world.rs"]
mod world;

use rand_core::RngCore;
use truebound_client::{Reason, Status};
use truebound_core::association::ptp::{PtpDoubt, PtpVote};
use truebound_core::event::Event;
use truebound_core::io::{PhcId, PtpChannel};
use truebound_core::leap::LeapTable;
use truebound_core::ptp::PortState;
use truebound_core::settings::{
    DelayMechanism, Oscillator, PtpRole, PtpSettings, ServerSettings, Settings, SourceKind, SourceSettings, Timescale,
};
use truebound_core::smear::Smear;

use world::{EPOCH, S, Tally, US, World};

/// The grandmaster: its NIC's clock is true time, within 10 ns by its operator's word.
fn grandmaster(phc: u32, priority1: u8) -> Settings {
    let mut port = port(PtpRole::Master);
    port.priority1 = priority1;
    let error_ns = Some(10);
    let kind = SourceKind::Phc { phc: PhcId(phc), error_ns, timescale: Timescale::Tai };
    let mut source = SourceSettings::new("phc", kind);
    source.poll_min_ns = Some(S / 4);
    source.poll_max_ns = Some(S / 4);
    Settings { sources: vec![source], ptp: vec![port], ..settings() }
}

fn settings() -> Settings {
    Settings {
        oscillator: Oscillator::XO,
        oscillator_is_stated: true,
        leap: LeapTable::default(),
        ..Settings::default()
    }
}

fn port(role: PtpRole) -> PtpSettings {
    let mut port = PtpSettings::new("eth0");
    port.role = role;
    (port.log_sync, port.log_delay) = (-3, -3);
    port
}

fn slave(change: impl FnOnce(&mut PtpSettings)) -> Settings {
    let mut port = port(PtpRole::Slave);
    change(&mut port);
    let source = SourceSettings::new("eth0", SourceKind::Ptp { port: 0 });
    Settings { sources: vec![source], ptp: vec![port], ..settings() }
}

/// A grandmaster and a slave whose clocks are off; host 1 is the slave.
fn pair(seed: u64, change: impl FnOnce(&mut PtpSettings)) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.host(grandmaster(0, 10), -3.0, Some((0, 0.0)));
    world.host(slave(change), 7.0, Some((5 * S, 20.0)));
    world
}

/// Lets the world run for `seconds` and reads host `index`'s page; what it was in the first `skip` seconds counts for
/// violations only.
fn watch(world: &mut World, index: usize, skip: i64, seconds: i64) -> Tally {
    let mut tally = Tally::default();
    let start = world.now;
    world.run(start + skip * S, S / 50, |world, t| tally.read(world, index, t));
    tally.errors_ns.clear();
    tally.half_widths_ns.clear();
    tally.asserted_half_widths_ns.clear();
    world.run(start + (skip + seconds) * S, S / 50, |world, t| tally.read(world, index, t));
    println!(
        "{} reads, {} violations; asserted {} and {}; |error| p50 {} p99 {} max {} ns; half-width {} ns, asserted {} ns",
        tally.reads,
        tally.violations,
        tally.asserted_reads,
        tally.asserted_violations,
        tally.error_percentile(50),
        tally.error_percentile(99),
        tally.error_percentile(100),
        Tally::percentile(&tally.half_widths_ns, 50),
        Tally::percentile(&tally.asserted_half_widths_ns, 50),
    );
    tally
}

#[test]
fn end_to_end_proves_an_interval_and_estimates_to_nanoseconds() {
    let mut world = pair(1, |_| ());
    let tally = watch(&mut world, 1, 10, 60);
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    let port = &report.ptp[0];
    assert_eq!((port.state, port.vote), (PortState::Slave, PtpVote::Guaranteed), "{port:?}");
    assert_eq!((report.status, report.reason), (Status::Locked, Reason::NoLiarTolerated));
    assert!(tally.reads > 2_900 && tally.violations == 0 && tally.asserted_violations == 0, "{tally:?}");
    assert!(tally.error_percentile(99) <= 20, "p99 {} ns", tally.error_percentile(99));
    // Half the round trip, the grandmaster's 10 + 1000 ns, e of both ends, and little else.
    assert!(Tally::percentile(&tally.half_widths_ns, 50) < 8_000, "{}", Tally::percentile(&tally.half_widths_ns, 50));
    assert_eq!((port.missing_stamps, port.contradicted_stamps), ((0, 0), 0));
}

#[test]
fn an_asymmetric_path_with_outliers_biases_the_estimate_but_not_the_bound() {
    for seed in [2, 3] {
        let mut world = pair(seed, |_| ());
        world.delay = Box::new(|from, _, rng| {
            let outlier = if rng.next_u32() % 200 == 0 { i64::from(rng.next_u32() % 180_000) } else { 0 };
            let base = if from == 0 { 500 } else { 100 };
            base * US + i64::from(rng.next_u32() % 300) + outlier
        });
        let tally = watch(&mut world, 1, 20, 60);
        assert!(tally.violations == 0 && tally.reads > 2_900, "{tally:?}");
        let mut errors = tally.errors_ns.clone();
        errors.sort_unstable();
        let median = errors[errors.len() / 2];
        // θ is believed too small by half of what the way down takes longer.
        assert!((median + 200_000).abs() < 500, "median error {median} ns");
    }
}

#[test]
fn the_asymmetry_that_the_operator_states_moves_the_estimate_only() {
    let mut world = pair(4, |port| port.delay_asymmetry_ns = 200_000);
    world.delay =
        Box::new(|from, _, rng| if from == 0 { 500 * US } else { 100 * US } + i64::from(rng.next_u32() % 300));
    let tally = watch(&mut world, 1, 20, 40);
    assert!(tally.violations == 0 && tally.error_percentile(99) < 500, "{tally:?}");
    let half_width = Tally::percentile(&tally.half_widths_ns, 50);
    assert!((300_000..330_000).contains(&half_width), "{half_width}");
}

#[test]
fn peer_delays_are_asserted_and_never_guaranteed() {
    let mut world = World::new(5);
    let mut master = grandmaster(0, 10);
    master.ptp[0].delay = DelayMechanism::PeerToPeer;
    world.host(master, -3.0, Some((0, 0.0)));
    world.host(slave(|port| port.delay = DelayMechanism::PeerToPeer), 7.0, Some((5 * S, 20.0)));
    let tally = watch(&mut world, 1, 10, 60);
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    assert_eq!(report.ptp[0].vote, PtpVote::Asserted(PtpDoubt::PeerDelay));
    assert_eq!((report.status, report.reason), (Status::Starting, Reason::AssertedOnly));
    assert_eq!(tally.reads, 0, "nothing is guaranteed");
    assert!(tally.asserted_reads > 2_500 && tally.asserted_violations == 0, "{tally:?}");
    assert!(tally.error_percentile(99) <= 50, "p99 {} ns", tally.error_percentile(99));
}

/// Makes the master of `from` 0 look like a boundary clock behind another grandmaster, and shifts what it tells.
fn as_boundary_clock(data: &mut [u8], hidden_error_ns: i64) {
    match data[0] & 15 {
        0xb => data[61..63].copy_from_slice(&1u16.to_be_bytes()),
        // preciseOriginTimestamp and receiveTimestamp.
        8 | 9 => shift(data, hidden_error_ns),
        _ => {}
    }
}

fn shift(data: &mut [u8], by_ns: i64) {
    let seconds = i64::from_be_bytes([0, 0, data[34], data[35], data[36], data[37], data[38], data[39]]);
    let nanos = i64::from(u32::from_be_bytes([data[40], data[41], data[42], data[43]]));
    let shifted = seconds * S + nanos + by_ns;
    data[34..40].copy_from_slice(&(shifted / S).to_be_bytes()[2..]);
    data[40..44].copy_from_slice(&((shifted % S) as u32).to_be_bytes());
}

#[test]
fn a_boundary_clock_with_a_hidden_error_has_no_guaranteed_vote() {
    let mut world = pair(6, |_| ());
    world.meddle = Box::new(|from, _, data, _| {
        if from == 0 {
            as_boundary_clock(data, 40_000);
        }
        true
    });
    let tally = watch(&mut world, 1, 10, 20);
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    assert_eq!(report.ptp[0].vote, PtpVote::Asserted(PtpDoubt::BoundaryClock));
    assert_eq!(tally.reads, 0, "nothing is guaranteed");
    // What the operator asserts (1 µs a hop) is wrong here, and that shows: it was not mixed into anything.
    assert!(tally.asserted_violations > 0);
}

#[test]
fn an_overstated_correction_loosens_and_never_tightens_the_guarantee() {
    let mut world = pair(7, |_| ());
    // A transparent clock claims 50 µs of residence where there was none: trusting it would move t1 past the truth.
    world.meddle = Box::new(|from, _, data, _| {
        if from == 0 && data[0] & 15 == 0 {
            data[8..16].copy_from_slice(&((50 * US) << 16).to_be_bytes());
        }
        true
    });
    let tally = watch(&mut world, 1, 10, 20);
    assert!(tally.violations == 0 && tally.reads > 900, "{tally:?}");
    assert!(tally.asserted_violations > 0 || tally.asserted_reads == 0, "the asserted region trusts it: {tally:?}");
}

/// Slave 1 of grandmaster 0 and client of NTP server 2.
fn with_ntp(seed: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.host(grandmaster(0, 10), -3.0, Some((0, 0.0)));
    let mut both = slave(|_| ());
    let mut ntp = SourceSettings::new("ntp", SourceKind::Server { host: "10.0.0.3".to_owned(), port: 123 });
    (ntp.poll_min_ns, ntp.poll_max_ns, ntp.agent) = (Some(S / 8), Some(S / 8), true);
    both.sources.insert(0, ntp);
    world.host(both, 7.0, Some((5 * S, 20.0)));
    let mut server = grandmaster(2, 200);
    server.ptp.clear();
    server.server = Some(serving("10.0.0.3:123"));
    world.host(server, 1.0, Some((0, 0.0)));
    world.delay = Box::new(|from, to, rng| {
        let is_ntp = from == 2 || to == 2;
        if is_ntp { 60 * US + i64::from(rng.next_u32() % 40_000) } else { 2 * US + i64::from(rng.next_u32() % 100) }
    });
    world
}

#[test]
fn when_the_grandmaster_dies_ntp_carries_on_within_holdover_growth() {
    let mut world = with_ntp(8);
    let mut tally = Tally::default();
    let settle = world.now + 20 * S;
    world.run(settle, S / 50, |world, t| tally.read(world, 1, t));
    let narrow = Tally::percentile(&tally.half_widths_ns[tally.half_widths_ns.len() / 2..], 50);
    assert_eq!(world.hosts[1].agent.report(world.hosts[1].raw(world.now)).source.as_deref(), Some("eth0"));
    world.hosts[1].published.clear();
    world.kill(0);
    let end = world.now + 60 * S;
    world.run(end, S / 50, |world, t| tally.read(world, 1, t));
    assert_eq!(tally.violations, 0, "{tally:?}");
    expect_no_jump(&world, 1);
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    // One of two groups is silent: holdover, in which the other one's interval has become the narrower.
    assert_eq!((report.ptp[0].parent, report.status), (None, Status::Holdover));
    assert_eq!(report.source.as_deref(), Some("ntp"));
    world.revive(0);
    let end = world.now + 30 * S;
    world.run(end, S / 50, |world, t| tally.read(world, 1, t));
    let back = *tally.half_widths_ns.last().expect("reads");
    assert!(tally.violations == 0 && back < 2 * narrow, "{narrow} ns before, {back} ns after");
    let parents = world.hosts[1].events.iter().filter(|event| matches!(event, Event::PtpParent { .. })).count();
    assert_eq!(parents, 3, "found, lost, found again");
}

/// Each publication lies inside the one before, aged to the same instant.
fn expect_no_jump(world: &World, index: usize) {
    let published = &world.hosts[index].published;
    for pair in published.windows(2) {
        let [(_, before), (_, after)] = pair else { continue };
        assert!(after.status.has_bound() && after.epoch == before.epoch, "{:?}: {:?}", after.status, after.reason);
        let aged = before.bound.edges_at(after.bound.t_ref_ns).expect("it still holds");
        let inside = after.bound.theta_lo_ns >= aged.lo_ns - 1 && after.bound.theta_hi_ns <= aged.hi_ns + 1;
        assert!(inside, "{:?} is not inside {aged:?}", after.bound);
    }
}

#[test]
fn a_better_master_takes_over_without_a_jump() {
    println!("seed 9");
    let mut world = World::new(9);
    world.host(grandmaster(0, 10), -3.0, Some((0, 0.0)));
    world.host(slave(|_| ()), 7.0, Some((5 * S, 20.0)));
    world.host(grandmaster(2, 20), 4.0, Some((0, 0.0)));
    let mut tally = watch(&mut world, 1, 10, 10);
    let parent = |world: &World| world.hosts[1].agent.report(world.hosts[1].raw(world.now)).ptp[0].parent;
    let first = parent(&world).expect("a parent");
    world.hosts[1].published.clear();
    world.kill(0);
    let end = world.now + 30 * S;
    world.run(end, S / 50, |world, t| tally.read(world, 1, t));
    assert_ne!(parent(&world).expect("a parent"), first);
    assert_eq!(tally.violations, 0, "{tally:?}");
    expect_no_jump(&world, 1);
}

#[test]
fn a_lying_grandmaster_beside_one_honest_server_voids_the_bound() {
    let mut world = with_ntp(10);
    let start = world.now;
    world.meddle = Box::new(|from, _, data, _| {
        if from == 0 && matches!(data[0] & 15, 8 | 9) {
            shift(data, 5_000_000);
        }
        true
    });
    world.run(start + 20 * S, S, |_, _| ());
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    assert_eq!((report.status, report.reason), (Status::Void, Reason::SourcesDisagree));
}

#[test]
fn a_missing_stamp_is_counted_and_widens() {
    let mut world = pair(11, |_| ());
    world.lost_stamps = 4;
    let tally = watch(&mut world, 1, 20, 40);
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    assert!(report.ptp[0].missing_stamps.0 > 50, "{:?}", report.ptp[0].missing_stamps);
    assert!(tally.violations == 0 && tally.reads > 1_900, "{tally:?}");
}

#[test]
fn a_steered_phc_follows_true_time_and_enters_nothing() {
    let mut world = pair(12, |port| port.steers_phc = true);
    let tally = watch(&mut world, 1, 30, 30);
    assert_eq!(tally.violations, 0, "{tally:?}");
    let off = world.hosts[1].phc_at(world.now).as_ns() - world.now;
    assert!(off.abs() < 500, "the PHC is off by {off} ns");
}

#[test]
fn without_a_nic_clock_kernel_stamps_do() {
    let mut world = World::new(13);
    world.host(grandmaster(0, 10), -3.0, Some((0, 0.0)));
    world.host(slave(|_| ()), 7.0, None);
    let tally = watch(&mut world, 1, 10, 40);
    let report = world.hosts[1].agent.report(world.hosts[1].raw(world.now));
    assert_eq!(report.ptp[0].stamps, truebound_core::report::StampKind::Kernel);
    assert!(tally.violations == 0 && tally.reads > 1_900 && tally.error_percentile(99) < 2_000, "{tally:?}");
}

/// Forged messages between honest ones, a hundred times as many: nothing panics and no bound breaks. The forger copies
/// what it overhears and changes bytes, but is neither the grandmaster (a liar is the vote's business) nor elected.
#[test]
fn forged_messages_break_no_bound() {
    let (seeds, per_step) = if cfg!(debug_assertions) { (14..16, 20) } else { (14..56, 400) };
    let mut forged = 0;
    for seed in seeds {
        let mut world = pair(seed, |port| {
            if seed % 3 == 0 {
                port.delay = DelayMechanism::PeerToPeer;
            }
        });
        let mut rng = <rand_chacha::ChaCha12Rng as rand_core::SeedableRng>::seed_from_u64(seed);
        // The first who speaks is believed: the grandmaster is elected before the forger begins.
        let mut tally = watch(&mut world, 1, 5, 1);
        for _ in 0..600 {
            let end = world.now + S / 20;
            world.run(end, S / 50, |world, t| tally.read(world, 1, t));
            for _ in 0..per_step {
                let Some((channel, data)) = forge(&world, &mut rng) else { continue };
                world.inject(1, channel, &data);
                forged += 1;
            }
        }
        assert_eq!((tally.violations, tally.asserted_violations), (0, 0), "seed {seed}");
        assert!(tally.reads + tally.asserted_reads > 0, "seed {seed}");
    }
    println!("{forged} forged messages");
}

fn forge(world: &World, rng: &mut rand_chacha::ChaCha12Rng) -> Option<(PtpChannel, Vec<u8>)> {
    let mut pick = |n: usize| rng.next_u32() as usize % n.max(1);
    let (channel, data) = world.overheard.get(pick(world.overheard.len()))?;
    let mut data = data.clone();
    for _ in 0..=pick(4) {
        let at = pick(data.len());
        match pick(8) {
            0..4 => data[at] = pick(256) as u8,
            4 | 5 => data[at] ^= 1 << pick(8),
            // correctionField.
            6 => data[8..16].copy_from_slice(&((pick(1 << 31) as i64) << pick(33)).to_be_bytes()),
            _ => data.resize(44 + pick(64), 0),
        }
    }
    if pick(16) == 0 {
        data.truncate(pick(data.len()));
    }
    if let Some(identity) = data.get_mut(20..28) {
        identity.copy_from_slice(&[6, 6, 6, 0xff, 0xfe, pick(4) as u8, 6, 6]);
    }
    // Not elected: the worst priority1 there is.
    if data.first().is_some_and(|kind| kind & 15 == 0xb)
        && let Some(priority1) = data.get_mut(47)
    {
        *priority1 = 255;
    }
    Some((*channel, data))
}

#[test]
fn a_reload_takes_new_settings_of_a_port() {
    let mut world = pair(18, |_| ());
    world.meddle = Box::new(|from, _, data, _| {
        if from == 0 && matches!(data[0] & 15, 8 | 9) {
            shift(data, 50_000);
        }
        true
    });
    let end = world.now + 10 * S;
    world.run(end, S, |_, _| ());
    // The operator learns that the grandmaster's stamps are poor, and says so.
    world.reload(1, slave(|port| port.remote_stamp_error_ns = 200_000));
    let tally = watch(&mut world, 1, 15, 20);
    assert!(tally.half_widths_ns.iter().all(|&half| half > 100_000) && tally.violations == 0, "{}", tally.violations);
}

#[test]
fn a_reload_of_the_sources_line_keeps_the_master() {
    let mut world = pair(19, |_| ());
    let end = world.now + 15 * S;
    world.run(end, S, |_, _| ());
    let mut settings = slave(|_| ());
    settings.sources[0].trust = true;
    world.reload(1, settings);
    let tally = watch(&mut world, 1, 10, 20);
    assert!(tally.half_widths_ns.len() > 900 && tally.violations == 0, "no bound after the reload");
}

#[test]
fn a_message_that_waited_in_its_socket_is_no_younger_for_it() {
    let mut world = World::new(20);
    let mut master = grandmaster(0, 10);
    master.ptp[0].delay = DelayMechanism::PeerToPeer;
    world.host(master, -3.0, Some((0, 0.0)));
    world.host(slave(|port| port.delay = DelayMechanism::PeerToPeer), 7.0, Some((5 * S, 20.0)));
    world.is_busy = true;
    let tally = watch(&mut world, 1, 10, 20);
    assert!(tally.asserted_violations == 0 && tally.asserted_reads > 900, "{}", tally.asserted_violations);
}

#[test]
fn kernel_stamps_of_peer_delays_may_be_as_late_as_the_operator_allows_a_hop() {
    let mut world = World::new(21);
    let mut master = grandmaster(0, 10);
    master.ptp[0].delay = DelayMechanism::PeerToPeer;
    world.host(master, -3.0, Some((0, 0.0)));
    let late = |port: &mut PtpSettings| (port.delay, port.hop_error_ns) = (DelayMechanism::PeerToPeer, 10_000);
    world.host(slave(late), 7.0, None);
    world.delay = Box::new(|_, _, rng| if rng.next_u32() % 100 == 0 { 10 * US } else { 2 * US });
    let tally = watch(&mut world, 1, 10, 120);
    assert!(tally.asserted_violations == 0 && tally.asserted_reads > 5_000, "{}", tally.asserted_violations);
}

/// The Follow_Up of one Sync is lost with the master that was to send it; the next one counts that number again.
#[test]
fn a_restarted_masters_follow_up_never_meets_an_old_sync() {
    let mut world = World::new(22);
    let fast = |port: &mut PtpSettings| (port.log_sync, port.log_delay) = (-7, -7);
    let mut master = grandmaster(0, 10);
    fast(&mut master.ptp[0]);
    world.host(master, -3.0, Some((0, 0.0)));
    world.host(slave(fast), 7.0, Some((5 * S, 20.0)));
    world.delay = Box::new(|from, _, _| if from == 0 { 2 * US } else { 30_000 * US });
    let end = world.now + 10 * S;
    world.run(end, S, |_, _| ());
    let (mut seen, mut is_restarted) = (0, false);
    world.meddle = Box::new(move |from, _, data, _| {
        if from != 0 || !matches!(data[0] & 15, 0 | 8) {
            return true;
        }
        seen += 1;
        let sequence = u16::from_be_bytes([data[30], data[31]]);
        if !is_restarted && seen > 10 && data[0] & 15 == 8 {
            is_restarted = true;
            return false;
        }
        if is_restarted {
            data[30..32].copy_from_slice(&sequence.wrapping_sub(1).to_be_bytes());
        }
        true
    });
    let tally = watch(&mut world, 1, 1, 5);
    assert!(tally.violations == 0 && tally.reads > 200, "{}", tally.violations);
}

#[test]
fn a_master_that_lost_its_reference_is_held_over_until_the_bound_expires() {
    println!("seed 23");
    let mut world = World::new(23);
    world.host(grandmaster(0, 10), -3.0, Some((0, 0.0)));
    let mut settings = slave(|_| ());
    settings.bound.max_holdover_ns = 10 * S;
    world.host(settings, 7.0, Some((5 * S, 20.0)));
    let end = world.now + 15 * S;
    world.run(end, S, |_, _| ());
    // clockClass 248, and its Syncs go on.
    world.meddle = Box::new(|from, _, data, _| {
        if from == 0 && data[0] & 15 == 0xb {
            data[48] = 248;
        }
        true
    });
    let status = |world: &World| world.hosts[1].page.as_ref().map(|page| page.status);
    let end = world.now + 7 * S;
    world.run(end, S, |_, _| ());
    assert_eq!(status(&world), Some(Status::Holdover));
    let end = world.now + 20 * S;
    world.run(end, S, |_, _| ());
    assert_eq!(status(&world), Some(Status::FreeRunning));
}

#[test]
fn what_is_asserted_is_withdrawn_when_it_is_contradicted() {
    let mut world = with_ntp(24);
    let start = world.now;
    let with_error = |error_ns: i64| -> world::Meddler {
        Box::new(move |from, _, data, _| {
            if from == 0 {
                as_boundary_clock(data, error_ns);
            }
            true
        })
    };
    let asserts = |world: &World| world.hosts[1].page.as_ref().is_some_and(|page| page.asserted_bound().is_some());
    world.meddle = with_error(0);
    world.run(start + 20 * S, S, |_, _| ());
    assert!(asserts(&world), "asserted at first");
    world.meddle = with_error(5_000_000);
    world.run(start + 60 * S, S, |_, _| ());
    assert!(!asserts(&world), "40 s of disagreement");
}

#[test]
fn a_phc_that_was_set_while_the_host_slept_is_stepped_again() {
    let mut world = pair(25, |port| port.steers_phc = true);
    let end = world.now + 30 * S;
    world.run(end, S, |_, _| ());
    world.suspend(1, -3600 * S);
    let end = world.now + 60 * S;
    world.run(end, S, |_, _| ());
    let off = world.hosts[1].phc_at(world.now).as_ns() - world.now;
    assert!(off.abs() < 1_000, "the PHC is off by {off} ns");
}

/// What it smears says nothing of whom it follows.
#[test]
fn a_server_that_follows_the_liar_has_no_voice_of_its_own() {
    [Smear::None, Smear::NoonToNoon].into_iter().for_each(expect_echo_without_voice);
}

/// 0: a grandmaster that lies; 1: us; 2: an honest NTP server; 3: one that follows the liar over PTP, and says so.
fn expect_echo_without_voice(smear: Smear) {
    println!("seed 26, smear {smear:?}");
    let mut world = World::new(26);
    world.host(grandmaster(0, 10), -3.0, Some((0, 0.0)));
    let mut us = slave(|_| ());
    for at in [3, 4] {
        let host = format!("10.0.0.{at}");
        let mut ntp = SourceSettings::new(host.clone(), SourceKind::Server { host, port: 123 });
        (ntp.poll_min_ns, ntp.poll_max_ns, ntp.agent) = (Some(S / 8), Some(S / 8), true);
        ntp.smear = if at == 4 { smear } else { Smear::None };
        us.sources.push(ntp);
    }
    world.host(us, 7.0, Some((5 * S, 20.0)));
    let mut honest = grandmaster(2, 200);
    honest.ptp.clear();
    honest.server = Some(serving("10.0.0.3:123"));
    world.host(honest, 1.0, Some((0, 0.0)));
    let mut echo = slave(|_| ());
    echo.server = Some(serving("10.0.0.4:123"));
    world.host(echo, 2.0, Some((9 * S, -11.0)));
    world.delay = Box::new(|_, _, rng| 60 * US + i64::from(rng.next_u32() % 4_000));
    world.meddle = Box::new(|from, _, data, _| {
        if from == 0 && matches!(data[0] & 15, 8 | 9) {
            shift(data, 5_000_000);
        }
        true
    });
    let tally = watch(&mut world, 1, 20, 20);
    assert_eq!(tally.violations, 0);
}

fn serving(listen: &str) -> ServerSettings {
    let allow = vec![truebound_core::settings::Prefix { address: "10.0.0.0".parse().expect("an address"), bits: 8 }];
    ServerSettings { listen: vec![listen.parse().expect("an address")], allow, deny: Vec::new(), rate_limit: None }
}

#[test]
fn the_world_is_one_and_the_same_for_a_seed() {
    let run = || {
        let mut world = pair(17, |_| ());
        let mut pages = Vec::new();
        let end = EPOCH + 8 * S;
        world.run(end, S, |world, _| pages.push(format!("{:?}", world.hosts[1].page)));
        pages
    };
    assert_eq!(run(), run());
}
