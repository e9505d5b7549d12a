//! The engine as others see it: what two or three of them say and learn on one link.

mod hostile;
mod world;

use world::{EPOCH_NS, PORT, QUALITY, World, identity, settings};

use super::{Announced, Correction, Finding, Gated, PortIdentity, PortState, PtpTime, Quality, is_ptp};
use crate::io::{PtpChannel, PtpTransmit};
use crate::settings::DelayMechanism::{EndToEnd, PeerToPeer};
use crate::settings::PtpRole::{Auto, Master, Slave};
use crate::settings::PtpSettings;
use crate::time::NS_PER_S;
use crate::wire::ptp::{Announce, Body, Message, MessageType, Timestamp, flag, parse};

const S: i64 = NS_PER_S;
/// Added to raw time in what peers are told.
const PEER_SHIFT_NS: i64 = 1_000 * S;

fn pair(delay: crate::settings::DelayMechanism) -> World {
    World::new(&[&[settings(Master, delay)], &[settings(Slave, delay)]])
}

fn port_of(node: usize) -> PortIdentity {
    PortIdentity { clock: identity(node), port: 1 }
}

fn measured(world: &World, node: usize) -> Vec<Finding> {
    let is_measured = |finding: &&Finding| {
        matches!(finding, Finding::Synced { .. } | Finding::Delayed { .. } | Finding::PeerDelayed { .. })
    };
    world.nodes[node].findings.iter().filter(is_measured).cloned().collect()
}

fn parents(world: &World, node: usize) -> Vec<Option<PortIdentity>> {
    let parent = |finding: &Finding| if let Finding::Parent(parent) = finding { Some(*parent) } else { None };
    world.nodes[node].findings.iter().filter_map(parent).collect()
}

fn states(world: &World, node: usize) -> Vec<PortState> {
    let state = |finding: &Finding| if let Finding::State(state) = finding { Some(*state) } else { None };
    world.nodes[node].findings.iter().filter_map(state).collect()
}

fn said(world: &World, node: usize, kind: MessageType) -> Vec<(i64, Message)> {
    let messages = world.sent.iter().filter(|(_, from, _)| *from == node);
    let messages = messages.map(|(at_ns, _, packet)| (*at_ns, parse(&packet.data).expect("we speak PTP")));
    messages.filter(|(_, message)| message.header.kind == kind).collect()
}

#[test]
fn end_to_end_recovers_every_stamp_exactly() {
    let mut world = pair(EndToEnd);
    world.run_for(10 * S);
    assert_eq!(states(&world, 0), [PortState::Listening, PortState::Master]);
    assert_eq!(states(&world, 1), [PortState::Listening, PortState::Slave]);
    assert_eq!(parents(&world, 1), [Some(port_of(0))]);
    let (mut syncs, mut delays) = (0, 0);
    for finding in measured(&world, 1) {
        match finding {
            Finding::Synced { arrived, origin, correction, least } => {
                let arrived_ns = arrived.point.as_ns() - world.nodes[1].raw_shift_ns;
                assert_eq!(origin.0 - EPOCH_NS + 1_000_000, arrived_ns);
                assert_eq!((correction, least), (Correction(0), Correction(0)));
                syncs += 1;
            }
            Finding::Delayed { left, received, .. } => {
                let left_ns = left.point.as_ns() - world.nodes[1].raw_shift_ns;
                assert_eq!(received.0 - EPOCH_NS, left_ns + 3_000_001);
                delays += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(syncs > 30 && delays > 20, "{syncs} {delays}");
    assert!(world.sent.iter().all(|(_, _, packet)| is_ptp(packet.token)));
    assert_eq!(world.nodes[1].counters().gated, [0; Gated::COUNT]);
}

#[test]
fn peer_to_peer_recovers_every_stamp_exactly() {
    let mut world = pair(PeerToPeer);
    world.run_for(10 * S);
    let peers = measured(&world, 1);
    let peers: Vec<_> = peers.iter().filter(|finding| matches!(finding, Finding::PeerDelayed { .. })).collect();
    assert!(peers.len() > 20, "{}", peers.len());
    for finding in peers {
        let Finding::PeerDelayed { left, received, sent, arrived, correction } = finding else { continue };
        let [theirs, ours] = [world.nodes[0].raw_shift_ns + PEER_SHIFT_NS, world.nodes[1].raw_shift_ns];
        assert_eq!(received.0 - theirs, left.point.as_ns() - ours + 3_000_001);
        assert_eq!(arrived.point.as_ns() - ours, sent.0 - theirs + 1_000_000);
        assert_eq!(*correction, Correction(0));
    }
}

#[test]
fn corrections_are_summed_and_their_negative_parts_too() {
    let mut world = pair(EndToEnd);
    world.wire = Box::new(|_, packet| {
        let mut message = parse(&packet.data).expect("we speak PTP");
        message.header.correction.0 += match message.header.kind {
            MessageType::Sync => 700,
            MessageType::FollowUp => -300,
            MessageType::DelayReq => 50,
            MessageType::DelayResp => 20,
            _ => 0,
        };
        vec![(0, message.write())]
    });
    world.run_for(6 * S);
    let corrections = |finding: &Finding| match finding {
        Finding::Synced { correction, least, .. } => Some((true, correction.0, least.0)),
        Finding::Delayed { correction, least, .. } => Some((false, correction.0, least.0)),
        _ => None,
    };
    let mut seen: Vec<_> = world.nodes[1].findings.iter().filter_map(corrections).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [(false, 70, 0), (true, 400, -300)]);
}

#[test]
fn a_grandmaster_says_what_its_bound_is_worth() {
    let mut world = pair(EndToEnd);
    world.run_for(8 * S);
    let expected = Announced {
        grandmaster: identity(0),
        steps_removed: 0,
        clock_class: 6,
        clock_accuracy: 0x22,
        priority: (128, 128),
        time_source: 0x20,
        is_tai: true,
        utc_offset_s: Some(37),
        leap: 1,
        traceable: (true, true),
    };
    assert_eq!(world.nodes[1].engine.parent(PORT), Some((port_of(0), expected)));
    let announces = world.nodes[1].findings.iter().filter(|finding| **finding == Finding::Announced(expected)).count();
    assert!(announces > 5, "one with the parent, one with every Announce: {announces}");
    let intervals = [(MessageType::Sync, -3), (MessageType::FollowUp, -3), (MessageType::Announce, -1)];
    for (kind, log) in intervals.into_iter().chain([(MessageType::DelayResp, -3)]) {
        let messages = said(&world, 0, kind);
        assert!(!messages.is_empty() && messages.iter().all(|(_, message)| message.header.log_interval == log));
    }
    world.nodes[0].engine.serve(Some(Quality { utc_offset_s: None, leap: -1, is_traceable: false, ..QUALITY }));
    world.run_for(S);
    let (_, announced) = world.nodes[1].engine.parent(PORT).expect("still there");
    assert_eq!((announced.utc_offset_s, announced.leap, announced.traceable), (None, -1, (false, false)));
}

#[test]
fn a_silent_parent_is_lost_and_found_again() {
    let mut world = pair(EndToEnd);
    world.run_for(6 * S);
    world.nodes[0].is_cut = true;
    world.run_for(6 * S);
    assert_eq!(parents(&world, 1), [Some(port_of(0)), None]);
    assert_eq!(world.nodes[1].state(), PortState::Listening);
    assert_eq!(world.nodes[1].engine.parent(PORT), None);
    world.nodes[0].is_cut = false;
    world.run_for(6 * S);
    assert_eq!(parents(&world, 1), [Some(port_of(0)), None, Some(port_of(0))]);
}

#[test]
fn a_port_works_again_after_its_link_was_away() {
    for node in [0, 1] {
        let mut world = pair(EndToEnd);
        world.run_for(6 * S);
        world.link(node, 0, false);
        assert_eq!(world.nodes[node].state(), PortState::Initializing);
        assert_eq!(world.nodes[node].engine.next_deadline(), None);
        world.run_for(6 * S);
        assert_eq!(parents(&world, 1), [Some(port_of(0)), None], "{node}");
        let before = measured(&world, 1).len();
        world.link(node, 0, true);
        world.run_for(10 * S);
        assert_eq!(parents(&world, 1), [Some(port_of(0)), None, Some(port_of(0))], "{node}");
        assert!(measured(&world, 1).len() > before + 40, "{node}");
    }
}

#[test]
fn a_short_outage_of_a_masters_link_is_survived() {
    let mut world = pair(EndToEnd);
    world.run_for(8 * S);
    world.link(0, 0, false);
    world.link(0, 0, true);
    world.run_for(8 * S);
    let before = measured(&world, 1).len();
    world.run_for(S);
    assert_eq!(world.nodes[1].state(), PortState::Slave);
    assert!(measured(&world, 1).len() > before + 7, "it counts from 0 again, but its time goes on");
}

#[test]
fn the_better_of_two_masters_is_followed() {
    let better = PtpSettings { priority1: 100, ..settings(Master, EndToEnd) };
    let mut world = World::new(&[&[settings(Master, EndToEnd)], &[better], &[settings(Slave, EndToEnd)]]);
    world.nodes[1].is_cut = true;
    world.run_for(6 * S);
    world.nodes[1].is_cut = false;
    world.run_for(6 * S);
    world.nodes[1].is_cut = true;
    world.run_for(6 * S);
    assert_eq!(parents(&world, 2), [Some(port_of(0)), Some(port_of(1)), Some(port_of(0))]);
    for finding in measured(&world, 2) {
        // Both tell the same time; what tells them apart is how far away they are.
        let Finding::Synced { arrived, origin, .. } = finding else { continue };
        let arrived_ns = arrived.point.as_ns() - world.nodes[2].raw_shift_ns;
        let delay_ns = arrived_ns - (origin.0 - EPOCH_NS);
        let from_second = (6 * S..13 * S).contains(&arrived_ns) && delay_ns == 3_000_001;
        assert!(from_second || delay_ns == 1_000_000, "a Sync of one is never paired with the other's Follow_Up");
    }
    assert!(world.nodes[2].counters().foreign > 0);
}

#[test]
fn two_that_compete_agree_whatever_their_bounds_are_worth() {
    for better in [0, 1] {
        let mut world = World::new(&[&[settings(Auto, EndToEnd)], &[settings(Auto, EndToEnd)]]);
        world.nodes[better].engine.serve(Some(Quality { clock_class: 248, clock_accuracy: 0x31, ..QUALITY }));
        world.run_for(20 * S);
        // Equal in all that is compared: the lower identity decides.
        let end = [world.nodes[0].state(), world.nodes[1].state()];
        assert_eq!(end, [PortState::Master, PortState::Slave], "{better}");
        assert_eq!(parents(&world, 1), [Some(port_of(0))], "{better}");
        let (_, announced) = world.nodes[1].engine.parent(PORT).expect("follows");
        assert_eq!((announced.clock_class, announced.utc_offset_s), (248, Some(37)));
    }
}

#[test]
fn who_competes_takes_over_and_never_speaks_for_one_that_is_gone() {
    // With so short a timeout statime makes itself master before it forgets the old one.
    let quick = PtpSettings { announce_timeout: 1, ..settings(Auto, EndToEnd) };
    let mut world = World::new(&[&[settings(Auto, EndToEnd)], &[quick]]);
    world.run_for(10 * S);
    world.nodes[0].is_cut = true;
    world.run_for(10 * S);
    assert_eq!(world.nodes[1].state(), PortState::Master);
    let announces = said(&world, 1, MessageType::Announce);
    assert!(!announces.is_empty());
    for (_, message) in announces {
        let Body::Announce(announce) = message.body else { panic!("an Announce") };
        assert_eq!(announce.grandmaster, identity(1));
    }
}

fn crafted(kind: MessageType, sequence: u16, body: Body) -> Message {
    let header = crate::wire::ptp::Header {
        kind,
        sdo: 0,
        version: (2, 1),
        domain: 0,
        flags: 0,
        correction: Correction(-9 << 16),
        source: port_of(0),
        sequence,
        log_interval: 0,
    };
    Message { header, body }
}

fn at(at_ns: i64) -> Timestamp {
    let whole = u64::try_from(at_ns + EPOCH_NS).expect("positive");
    Timestamp { seconds: whole / 1_000_000_000, nanos: u32::try_from(whole % 1_000_000_000).expect("below a second") }
}

/// A slave with a parent whose cable was just cut, nothing in flight.
fn orphan() -> World {
    let mut world = pair(EndToEnd);
    world.run_for(6 * S);
    world.nodes[0].is_cut = true;
    world.run_for(S / 10);
    world.nodes[1].findings.clear();
    world
}

#[test]
fn a_one_step_sync_is_whole() {
    let mut world = orphan();
    let sync = crafted(MessageType::Sync, 60_000, Body::Origin(at(world.now_ns)));
    let when = world.when(1, world.now_ns);
    world.deliver(1, PtpChannel::Event, &sync.write());
    let origin = PtpTime(EPOCH_NS + world.now_ns);
    let correction = Correction(-9 << 16);
    assert_eq!(measured(&world, 1), [Finding::Synced { arrived: when, origin, correction, least: correction }]);
    world.run_for(1_000);
    world.deliver(1, PtpChannel::Event, &sync.write());
    assert_eq!(measured(&world, 1).len(), 1, "not twice");
}

#[test]
fn halves_meet_in_any_order_and_once() {
    for first in [true, false] {
        let mut world = orphan();
        let repeated = world.nodes[1].counters().repeated;
        let mut sync = crafted(MessageType::Sync, 60_000, Body::Origin(Timestamp::default()));
        sync.header.flags = flag::TWO_STEP;
        let follow_up = crafted(MessageType::FollowUp, 60_000, Body::Origin(at(world.now_ns)));
        let halves = [(PtpChannel::Event, sync.write()), (PtpChannel::General, follow_up.write())];
        let order = if first { [0, 1] } else { [1, 0] };
        for place in order {
            let (channel, data) = &halves[place];
            world.deliver(1, *channel, data);
            if place == order[0] {
                world.deliver(1, *channel, data);
                assert_eq!(world.nodes[1].counters().repeated, repeated + 1);
            }
        }
        let least = Correction(-18 << 16);
        let [Finding::Synced { correction, least: found, .. }] = measured(&world, 1)[..] else { panic!("one finding") };
        assert_eq!((correction, found), (least, least));
        world.deliver(1, PtpChannel::General, &halves[1].1);
        world.deliver(1, PtpChannel::Event, &halves[0].1);
        assert_eq!(measured(&world, 1).len(), 1, "a replay of both is old");
    }
}

#[test]
fn halves_of_two_parents_do_not_meet() {
    let mut world = orphan();
    let mut sync = crafted(MessageType::Sync, 60_000, Body::Origin(Timestamp::default()));
    sync.header.flags = flag::TWO_STEP;
    world.deliver(1, PtpChannel::Event, &sync.write());
    let better = Announce { priority1: 1, grandmaster: identity(5), ..Announce::default() };
    for sequence in 0..3 {
        let mut announce = crafted(MessageType::Announce, sequence, Body::Announce(better));
        announce.header.source = port_of(5);
        world.deliver(1, PtpChannel::General, &announce.write());
    }
    world.run_for(S);
    assert_eq!(parents(&world, 1), [Some(port_of(5))]);
    let mut follow_up = crafted(MessageType::FollowUp, 60_000, Body::Origin(at(world.now_ns)));
    follow_up.header.source = port_of(5);
    world.deliver(1, PtpChannel::General, &follow_up.write());
    assert_eq!(measured(&world, 1), []);
}

#[test]
fn halves_do_not_wait_for_the_next_round_of_numbers() {
    let mut world = orphan();
    let follow_up = crafted(MessageType::FollowUp, 60_000, Body::Origin(at(world.now_ns)));
    world.deliver(1, PtpChannel::General, &follow_up.write());
    let mut sync = crafted(MessageType::Sync, 60_000, Body::Origin(Timestamp::default()));
    sync.header.flags = flag::TWO_STEP;
    world.nodes[0].is_cut = false;
    world.run_for(3 * S);
    let (before, unmatched) = (measured(&world, 1).len(), world.nodes[1].counters().unmatched);
    world.deliver(1, PtpChannel::Event, &sync.write());
    assert_eq!(measured(&world, 1).len(), before);
    assert_eq!(unmatched, 1);
}

#[test]
fn replays_change_counts_only() {
    for delay in [EndToEnd, PeerToPeer] {
        let [mut honest, mut world] = [pair(delay), pair(delay)];
        honest.run_for(12 * S);
        world.run_for(6 * S);
        world.wire = Box::new(|from, packet: &PtpTransmit| {
            // Requests are not repeated: a second answer to the same request is another matter.
            let copies: &[i64] = if from == 0 { &[0, 70_001, 333_333_333] } else { &[0] };
            copies.iter().map(|extra_ns| (*extra_ns, packet.data.clone())).collect()
        });
        world.run_for(6 * S);
        assert_eq!(world.nodes[1].findings, honest.nodes[1].findings);
        assert!(world.nodes[1].counters().repeated > 100);
    }
}

#[test]
fn foreign_domains_are_counted_and_ignored() {
    let elsewhere = PtpSettings { domain: 24, ..settings(Slave, EndToEnd) };
    let mut world = World::new(&[&[settings(Master, EndToEnd)], &[elsewhere]]);
    world.run_for(6 * S);
    assert_eq!(states(&world, 1), [PortState::Listening]);
    assert!(world.nodes[1].counters().gated[Gated::ForeignDomain as usize] > 20);
    assert_eq!(world.nodes[1].counters().received, [0; 16]);
}

#[test]
fn domains_of_one_engine_are_apart() {
    let other = PtpSettings { domain: 1, ..settings(Slave, EndToEnd) };
    let mut world = World::new(&[&[settings(Slave, EndToEnd), other], &[settings(Master, EndToEnd)]]);
    world.run_for(6 * S);
    assert_eq!(world.nodes[0].state(), PortState::Slave);
    assert_eq!(world.nodes[0].engine.state(crate::io::PtpPort(1)), PortState::Listening);
}

#[test]
fn without_a_bound_masters_are_silent_and_peers_answer() {
    let mut world = pair(PeerToPeer);
    world.run_for(6 * S);
    world.nodes[0].engine.serve(None);
    world.nodes[0].has_bound = false;
    world.run_for(S / 100);
    let (now_ns, masters) = (world.now_ns, [MessageType::Sync, MessageType::FollowUp, MessageType::Announce]);
    world.run_for(S);
    for kind in masters.into_iter().chain([MessageType::DelayResp]) {
        assert!(said(&world, 0, kind).iter().all(|(at_ns, _)| *at_ns < now_ns), "{kind:?}");
    }
    assert!(said(&world, 0, MessageType::PdelayRespFollowUp).iter().any(|(at_ns, _)| *at_ns > now_ns));
    assert!(world.nodes[0].counters().silenced > 4);
    world.run_for(6 * S);
    assert_eq!(parents(&world, 1), [Some(port_of(0)), None]);
}

#[test]
fn what_the_bound_does_not_tell_is_not_said() {
    let mut world = pair(EndToEnd);
    world.run_for(6 * S);
    world.nodes[0].has_bound = false;
    let now_ns = world.now_ns;
    world.run_for(S);
    for kind in [MessageType::FollowUp, MessageType::DelayResp] {
        assert!(said(&world, 0, kind).iter().all(|(at_ns, _)| *at_ns <= now_ns), "{kind:?} needs an instant");
    }
    assert!(said(&world, 0, MessageType::Sync).iter().any(|(at_ns, _)| *at_ns > now_ns));
}

#[test]
fn a_stamp_after_the_answer_is_as_good() {
    for lag_ns in [0, 20_000_000] {
        let mut world = pair(EndToEnd);
        world.nodes[1].stamp_lag_ns = Some(lag_ns);
        world.run_for(8 * S);
        let delays = measured(&world, 1).iter().filter(|finding| matches!(finding, Finding::Delayed { .. })).count();
        assert!(delays > 10, "{lag_ns}: {delays}");
    }
}

#[test]
fn without_a_stamp_there_is_no_finding() {
    let mut world = pair(EndToEnd);
    world.nodes[1].stamp_lag_ns = None;
    world.run_for(8 * S);
    assert!(measured(&world, 1).iter().all(|finding| matches!(finding, Finding::Synced { .. })));
    assert!(world.nodes[1].counters().unstamped > 10);
    world.nodes[0].stamp_lag_ns = None;
    world.run_for(S / 10);
    let before = measured(&world, 1).len();
    world.run_for(S);
    assert_eq!(measured(&world, 1).len(), before, "a Sync whose stamp is lost has no Follow_Up");
}

#[test]
fn two_responders_void_an_exchange() {
    let silent = settings(Slave, PeerToPeer);
    let mut world = World::new(&[&[settings(Master, PeerToPeer)], &[settings(Slave, PeerToPeer)], &[silent]]);
    world.run_for(10 * S);
    let peers = |world: &World| {
        measured(world, 1).iter().filter(|finding| matches!(finding, Finding::PeerDelayed { .. })).count()
    };
    assert!(peers(&world) <= 1, "only what was whole before the first rival spoke");
    assert!(world.nodes[1].counters().many_responders > 0);
    assert!(states(&world, 1).contains(&PortState::Faulty));
    world.nodes[2].is_cut = true;
    world.run_for(10 * S);
    assert!(peers(&world) > 10, "and all is well when the rival is gone");
}

#[test]
fn a_slave_beside_a_master_keeps_silent() {
    let ports = [settings(Slave, EndToEnd), settings(Master, EndToEnd)];
    let mut world = World::new(&[&ports, &[settings(Slave, EndToEnd)]]);
    world.run_for(6 * S);
    assert_eq!(world.nodes[0].state(), PortState::Listening);
    let masters = world.sent.iter().filter(|(_, from, _)| *from == 0);
    assert!(masters.clone().count() > 20);
    assert!(masters.into_iter().all(|(_, _, packet)| packet.port.0 == 1));
}

#[test]
fn our_own_identity_is_not_believed() {
    let mut world = pair(EndToEnd);
    world.run_for(6 * S);
    let mut echo = said(&world, 0, MessageType::Announce)[0].1;
    echo.header.source.port = 0;
    world.deliver(0, PtpChannel::General, &echo.write());
    assert_eq!(world.nodes[0].state(), PortState::Master);
    assert_eq!(world.nodes[0].counters().gated[Gated::OwnIdentity as usize], 1);
}

#[test]
fn equal_seeds_say_equal_things() {
    let run = || {
        let mut world = pair(PeerToPeer);
        world.run_for(5 * S);
        format!("{:?} {:?}", world.sent, world.nodes[1].findings)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_long_pause_is_not_caught_up() {
    let mut world = pair(EndToEnd);
    world.run_for(6 * S);
    let before = world.sent.len();
    let later = world.raw(0, world.now_ns + 3_600 * S);
    world.nodes[0].engine.wake(later);
    let mut actions = 0;
    while world.nodes[0].engine.poll().is_some() {
        actions += 1;
    }
    assert!(actions <= 4 && before > 0, "{actions}");
    assert!(world.nodes[0].engine.next_deadline().is_some_and(|deadline| deadline > later));
}

#[test]
fn an_engine_may_change_threads() {
    fn is_send<T: Send>() {}
    is_send::<super::Engine>();
}
