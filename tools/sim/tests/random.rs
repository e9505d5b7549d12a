//! The hunt: worlds drawn at random within the assumptions. A violation here is a bug, of the core or of the world.

use truebound_sim::random::RandomWorld;

/// TRUEBOUND_SEEDS=10000 for the long hunt.
const SEEDS: u64 = 20;
const NODE_SECONDS: f64 = 600.0;

fn seeds() -> u64 {
    std::env::var("TRUEBOUND_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn no_random_world_has_a_violation() {
    let (mut node_seconds, mut fast) = (0.0, 0.0);
    for seed in 0..seeds() {
        let outcome = RandomWorld::new(seed, NODE_SECONDS).run();
        assert_eq!(outcome.violations, 0, "seed {seed}: {:?}", outcome.first_violation);
        assert!(outcome.faults.is_empty(), "seed {seed}: {:?}", outcome.faults);
        assert_eq!(outcome.freq_error.omega_outside, 0, "seed {seed}: the true rate left the proved interval");
        node_seconds += outcome.node_seconds;
        fast += outcome.node_seconds_fast;
    }
    println!("{node_seconds:.0} node-seconds, {fast:.0} of them at 64 requests a second or more");
    // 13 % over many seeds; a few may have less.
    let share = if seeds() < 60 { 0.05 } else { 0.1 };
    assert!(fast >= share * node_seconds, "{fast} of {node_seconds}");
}

#[test]
fn a_random_world_is_its_seed() {
    for seed in [3, 4] {
        let [one, again] = [0, 1].map(|_| RandomWorld::new(seed, 200.0).run().digest);
        println!("seed {seed}: {one} {again}");
        assert_eq!(one, again, "seed {seed}");
    }
}
