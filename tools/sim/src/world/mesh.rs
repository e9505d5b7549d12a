//! A large network: roots, relays and clients in three layers, each host with several neighbours in the layer above.

use super::settings::{basis, root, serving, source};
use super::{HostSpec, US, World};
use crate::link::networks;
use crate::oscillator::{OscillatorSpec, Preset};
use crate::rng::Rng;

/// What a root of the mesh claims.
const ROOT_ERROR_NS: i64 = 5 * US;

/// About `nodes` hosts, of which one in a hundred is a root and one in ten a relay; each follows `neighbours` hosts of
/// the layer above, or all of them if they are fewer.
#[must_use]
pub fn mesh(seed: u64, nodes: usize, neighbours: usize) -> World {
    let mut world = World::new(seed);
    let mut rng = Rng::new(seed).fork(0x6d65_7368);
    world.default_link = networks::bursts(0.3);
    let roots = (nodes / 100).max(neighbours.min(nodes));
    let relays = (nodes / 10).max(1);
    for index in 0..nodes {
        if index < roots {
            let spec = HostSpec { realtime_error_ns: rng.between(-4 * US, 4 * US), is_checked: true, ..HostSpec::ROOT };
            world.add(spec, root(0, ROOT_ERROR_NS));
            continue;
        }
        let is_relay = index < roots + relays;
        let above = if is_relay { 0..roots } else { roots..roots + relays };
        let mut settings = if is_relay { serving() } else { basis() };
        let mut servers: Vec<usize> = above.collect();
        while servers.len() > neighbours {
            let unlucky = rng.below(servers.len());
            servers.swap_remove(unlucky);
        }
        settings.sources = servers.into_iter().map(source).collect();
        let oscillator = OscillatorSpec { ppm: rng.uniform(-50.0, 50.0), ..Preset::Xo.spec() };
        world.add(HostSpec { oscillator, ..HostSpec::CLIENT }, settings);
    }
    world
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::outcome_of;

    #[test]
    fn every_host_of_a_mesh_finds_a_bound_that_is_true() {
        let mut world = mesh(1, 60, 4);
        world.run_s(20);
        let outcome = outcome_of(&world, 1, &[]);
        assert_eq!((outcome.violations, outcome.faults.len()), (0, 0), "{:?}", outcome.first_violation);
        assert!(outcome.hosts.iter().all(|host| host.status == "locked"), "{:?}", outcome.hosts);
    }
}
