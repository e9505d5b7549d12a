//! A run is its seed and its inputs: equal ones give equal outputs, byte for byte, and nobody can guess the cookies of
//! another seed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "worlds are small: ns of some years and probabilities"
)]

use std::collections::BTreeSet;

use truebound_core::Agent;
use truebound_core::io::{Input, Output};
use truebound_core::time::RawTime;
use truebound_sim::link::{LinkSpec, Mixture, Queue};
use truebound_sim::world::{HostSpec, MS, NS_PER_S as S, US, World, following, root, source};

/// FNV-1a of everything that came out of every host.
fn digest(world: &World) -> u64 {
    let bytes = world.hosts.iter().flat_map(|host| &host.outputs).flat_map(|output| output.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A minute with everything in it: queues, losses, duplicates, a liar, steps, a suspend.
fn eventful_minute(seed: u64) -> World {
    let mut world = World::new(seed);
    let servers = [0, 50 * MS, 0].map(|shift| world.add(HostSpec::ROOT, root(shift, 50 * US)));
    let client = world.add(HostSpec::CLIENT, following(&servers.map(source)));
    let queue = Queue::Mixture(Mixture { mean_us: 0.0, chance: 0.7, tail_us: 300.0 });
    let bad = LinkSpec {
        base_us: 50.0,
        queue,
        loss: 0.1,
        duplicate: 0.1,
        reorder: 0.05,
        straggle_us: 2e6,
        ..LinkSpec::default()
    };
    for server in servers {
        world.connect(server, client, &bad, &bad);
    }
    world.hosts.iter_mut().for_each(|host| host.is_recorded = true);
    world.run_s(20);
    world.step_realtime(client, 50 * MS, true);
    world.run_s(20);
    world.suspend(client, 5 * S);
    world.run_s(20);
    world
}

#[test]
fn equal_seeds_give_equal_outputs() {
    for seed in 1..=3 {
        let (one, other) = (eventful_minute(seed), eventful_minute(seed));
        assert!(one.hosts[3].outputs.len() > 500, "{} outputs", one.hosts[3].outputs.len());
        for (a, b) in one.hosts.iter().zip(&other.hosts) {
            let difference = a.outputs.iter().zip(&b.outputs).find(|(a, b)| a != b);
            assert_eq!(difference, None, "seed {seed}");
        }
        assert_eq!(digest(&one), digest(&other), "seed {seed}");
        assert_eq!(one.digest(), other.digest(), "seed {seed}");
        println!("seed {seed}: {:016x}", one.digest());
    }
    assert_ne!(eventful_minute(1).digest(), eventful_minute(2).digest());
}

/// What an agent with this seed sends, when its wake-ups are the only inputs.
fn requests(seed: [u8; 32]) -> Vec<Vec<u8>> {
    let mut agent = Agent::new(RawTime::from_ns(S), following(&[source(1)]), seed);
    let mut requests = Vec::new();
    let mut now = RawTime::from_ns(S);
    for _ in 0..32 {
        agent.handle(now, Input::Wakeup);
        loop {
            match agent.poll() {
                Output::Transmit(transmit) => requests.push(transmit.data.as_slice().to_vec()),
                Output::WakeAt(deadline) => {
                    now = now.max(deadline);
                    break;
                }
                _ => {}
            }
        }
    }
    requests
}

#[test]
fn another_seed_has_other_cookies() {
    let (one, again, other) = (requests([1; 32]), requests([1; 32]), requests([2; 32]));
    assert!(one.len() >= 16, "{} requests", one.len());
    assert_eq!(one, again);
    let fields = |requests: &[Vec<u8>]| -> BTreeSet<[u8; 8]> {
        let of = |request: &Vec<u8>| [32, 40].map(|at| request[at..at + 8].try_into().expect("a whole packet"));
        requests.iter().flat_map(of).collect()
    };
    assert_eq!(fields(&one).len(), 2 * one.len(), "a cookie came twice");
    assert!(fields(&one).is_disjoint(&fields(&other)));
}
