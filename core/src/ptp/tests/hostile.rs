//! Packets that nobody honest would send: whatever arrives, the engine neither panics nor says what it would not accept
//! itself.
//!
//! Honest pairs talk, and before each of their packets reaches its receiver, mutants of it do. The mutants that live
//! longest are those that pass the gate, so some changes keep a packet legal on purpose.

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::world::{PORT, World, identity, settings};
use crate::io::PtpChannel;
use crate::ptp::gate::Gate;
use crate::settings::DelayMechanism::{EndToEnd, PeerToPeer};
use crate::settings::PtpRole::{Auto, Master, Slave};
use crate::settings::PtpSettings;
use crate::time::NS_PER_S;

/// Mutants of each honest packet.
const LITTER: usize = 32;

/// Mutants in a plain `cargo test`; a release build hunts.
const MUTANTS: u64 = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 };

/// What a hunt saw.
#[derive(Debug, Default)]
struct Hunt {
    mutants: u64,
    admitted: u64,
    findings: usize,
}

#[test]
fn mutants_are_survived() {
    let mut hunt = Hunt::default();
    let mut seed = 0;
    while hunt.mutants < MUTANTS {
        run(seed, &mut hunt);
        seed += 1;
    }
    println!("{seed} worlds, {hunt:?}");
    assert!(hunt.admitted * 10 > hunt.mutants, "most of what is tried reaches statime and the tap: {hunt:?}");
    assert!(hunt.findings > 0, "{hunt:?}");
}

fn run(seed: u64, hunt: &mut Hunt) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut world = world(&mut rng);
    for _ in 0..60 {
        let start = world.sent.len();
        world.run_for(NS_PER_S / 4);
        let packets: Vec<_> = world.sent[start..].iter().map(|(_, from, packet)| (*from, packet.clone())).collect();
        for (from, packet) in &packets {
            let gate = Gate { domain: 0, identity: [0; 8] };
            let is_legal = gate.admit(&packet.data, packet.channel == PtpChannel::Event).is_ok();
            assert!(is_legal, "seed {seed}: said {packet:?}");
            let to = (from + 1) % world.nodes.len();
            for _ in 0..LITTER {
                let mut data = packet.data.clone();
                mutate(&mut rng, &mut data);
                let channel = if one_in(&mut rng, 8) { other(packet.channel) } else { packet.channel };
                world.deliver(to, channel, &data);
                hunt.mutants += 1;
            }
        }
        if one_in(&mut rng, 16) {
            let node = below(&mut rng, world.nodes.len());
            world.link(node, 0, false);
            world.link(node, 0, true);
        }
    }
    for node in &world.nodes {
        hunt.admitted += node.engine.counters(PORT).received.iter().sum::<u64>();
        hunt.findings += node.findings.len();
    }
}

fn world(rng: &mut ChaCha12Rng) -> World {
    let delay = if one_in(rng, 3) { PeerToPeer } else { EndToEnd };
    let (first, second) = match below(rng, 3) {
        0 => (Master, Slave),
        1 => (Auto, Slave),
        _ => (Auto, Auto),
    };
    let better = PtpSettings { priority1: 100, ..settings(first, delay) };
    let mut world = World::new(&[&[better], &[settings(second, delay)]]);
    world.nodes[1].stamp_lag_ns = [Some(0), Some(50_000), None][below(rng, 3)];
    world
}

fn mutate(rng: &mut ChaCha12Rng, data: &mut Vec<u8>) {
    for _ in 0..=below(rng, 3) {
        let place = below(rng, data.len().max(1));
        match below(rng, 12) {
            0 => put(data, place, &[rng.next_u32().to_le_bytes()[0]]),
            1 => {
                let bit = 1 << below(rng, 8);
                let byte = data.get(place).map_or(0, |byte| byte ^ bit);
                put(data, place, &[byte]);
            }
            2 => put(data, 8, &pick(rng, &CORRECTIONS).to_be_bytes()),
            3 => put(data, 34, &[*pick(rng, &[0, 0xff]); 10]),
            4 => put(data, 34, &pick(rng, &SECONDS).to_be_bytes()[2..]),
            5 => put(data, 61, &pick(rng, &[0_u16, 1, 254, 255, 0xffff]).to_be_bytes()),
            6 => put(data, 53, &identity(below(rng, 3))),
            7 => extend_with_tlv(rng, data),
            8 => put(data, 30, &pick(rng, &[0_u16, 1, 2, 3, 0x7fff, 0x8000, 0xffff]).to_be_bytes()),
            9 => put(data, 20, &identity(below(rng, 3))),
            10 => put(data, 44, &[identity(below(rng, 3)), [0, 1, 0, 1, 0, 1, 0, 1]].concat()),
            _ => data.truncate(below(rng, data.len() + 1)),
        }
    }
    // Else a byte of the header would hide what was done to the rest.
    if one_in(rng, 2) {
        put(data, 1, &[0x12]);
        put(data, 4, &[0, 0]);
    }
}

const CORRECTIONS: [i64; 7] = [i64::MAX, i64::MIN, -1, 1, 1_000_000_000 << 16, -1_000_000_000 << 16, -1 << 40];
const SECONDS: [u64; 8] = [0, 1, 2, 3, 1_800_000_000, 9_199_999_999, 9_200_000_000, (1 << 48) - 1];

/// A TLV, sometimes PATH_TRACE, sometimes of a length it does not have.
fn extend_with_tlv(rng: &mut ChaCha12Rng, data: &mut Vec<u8>) {
    let kind: u16 = *pick(rng, &[3, 8, 0x4000, 0x7f00]);
    let length = below(rng, 600);
    data.extend(kind.to_be_bytes());
    data.extend(u16::try_from(length + below(rng, 2)).expect("short").to_be_bytes());
    data.resize(data.len() + length, 0x5a);
    let whole = u16::try_from(data.len()).unwrap_or(u16::MAX);
    put(data, 2, &whole.to_be_bytes());
}

/// Overwrites what is there.
fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    data.iter_mut().skip(at).zip(bytes).for_each(|(byte, value)| *byte = *value);
}

fn other(channel: PtpChannel) -> PtpChannel {
    match channel {
        PtpChannel::Event => PtpChannel::General,
        PtpChannel::General => PtpChannel::Event,
    }
}

fn below(rng: &mut ChaCha12Rng, end: usize) -> usize {
    let end = u64::try_from(end).expect("small");
    usize::try_from(rng.next_u64() % end).expect("small")
}

fn one_in(rng: &mut ChaCha12Rng, n: usize) -> bool {
    below(rng, n) == 0
}

fn pick<'a, T>(rng: &mut ChaCha12Rng, from: &'a [T]) -> &'a T {
    &from[below(rng, from.len())]
}
