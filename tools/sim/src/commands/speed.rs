//! `truebound-sim speed`: how fast the simulated world runs, and how much memory it takes, on one core.

use std::time::Instant;

use serde::Serialize;
use truebound_sim::scenario::{Outcome, outcome_of};
use truebound_sim::table::Table;
use truebound_sim::world::{HostSpec, NS_PER_S, US, World, following, mesh, root, source};

use super::{Mistake, print, print_json};
use crate::cli::SpeedArgs;

const SEED: u64 = 1;
/// What the server of a pair claims.
const ROOT_ERROR_NS: i64 = 5 * US;
/// Enough for every host of a mesh to be locked.
const MESH_S: u32 = 20;

/// What `--json` prints.
#[derive(Serialize)]
struct Speed {
    pair_1_per_s: Pace,
    pair_64_per_s: Pace,
    mesh: Mesh,
}

/// A world and how long it took.
#[derive(Serialize)]
struct Pace {
    simulated_s: u32,
    wall_s: f64,
    simulated_s_per_wall_s: f64,
    probes: u64,
    answered: u64,
    violations: u64,
}

impl Pace {
    fn of(world: &mut World, simulated_s: u32) -> Pace {
        let begin = Instant::now();
        world.run_s(simulated_s.into());
        let wall_s = begin.elapsed().as_secs_f64();
        let Outcome { probes, answered, violations, .. } = outcome_of(world, SEED, &[]);
        let simulated_s_per_wall_s = f64::from(simulated_s) / wall_s.max(1e-9);
        Pace { simulated_s, wall_s, simulated_s_per_wall_s, probes, answered, violations }
    }
}

/// A large network.
#[derive(Serialize)]
struct Mesh {
    nodes: usize,
    neighbours: usize,
    #[serde(flatten)]
    pace: Pace,
    /// The most that the process had until then, and what of it came with the mesh; `None` where the kernel does not say.
    peak_mib: Option<f64>,
    bytes_per_node: Option<f64>,
}

/// The command.
pub(crate) fn run(args: &SpeedArgs) -> Result<bool, Mistake> {
    if args.seconds == 0 || args.nodes < 2 || args.neighbours == 0 {
        return Err("nothing to time; choose --seconds and --neighbours above 0, --nodes 2 or more".to_owned());
    }
    // First, so that all the memory is its own.
    let mesh = mesh_of(args.nodes, args.neighbours);
    let speed = Speed {
        pair_1_per_s: Pace::of(&mut pair(1), args.seconds),
        pair_64_per_s: Pace::of(&mut pair(64), (args.seconds / 20).max(1)),
        mesh,
    };
    match args.json {
        true => print_json(&speed)?,
        false => print(&text(&speed)),
    }
    Ok(speed.paces().iter().all(|(_, pace)| pace.violations == 0))
}

/// A server and a client that asks it so many times a second.
fn pair(exchanges_per_s: i64) -> World {
    let mut world = World::new(SEED);
    let server = world.add(HostSpec::ROOT, root(0, ROOT_ERROR_NS));
    let mut upstream = source(server);
    upstream.poll_min_ns = Some(NS_PER_S / exchanges_per_s);
    world.add(HostSpec::CLIENT, following(&[upstream]));
    world
}

fn mesh_of(nodes: usize, neighbours: usize) -> Mesh {
    let before = peak_kib();
    let mut world = mesh(SEED, nodes, neighbours);
    let pace = Pace::of(&mut world, MESH_S);
    let after = peak_kib();
    let grown = after.zip(before).map(|(after, before)| (after - before) as f64 * 1024.0);
    Mesh {
        nodes,
        neighbours,
        pace,
        peak_mib: after.map(|kib| kib as f64 / 1024.0),
        bytes_per_node: grown.map(|bytes| (bytes / nodes as f64).round()),
    }
}

/// The most memory that this process ever had resident.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

impl Speed {
    fn paces(&self) -> [(String, &Pace); 3] {
        let Mesh { nodes, neighbours, pace, .. } = &self.mesh;
        [
            ("pair, 1 exchange/s".to_owned(), &self.pair_1_per_s),
            ("pair, 64 exchanges/s".to_owned(), &self.pair_64_per_s),
            (format!("mesh, {nodes} hosts, {neighbours} neighbours"), pace),
        ]
    }
}

fn text(speed: &Speed) -> String {
    let mut table = Table::new(["one core", "simulated", "wall", "simulated per wall", "requests", "violations"]);
    for (name, pace) in speed.paces() {
        table.row([
            name,
            format!("{} s", pace.simulated_s),
            format!("{:.2} s", pace.wall_s),
            format!("{:.1}", pace.simulated_s_per_wall_s),
            pace.probes.to_string(),
            pace.violations.to_string(),
        ]);
    }
    let memory = |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.0}"));
    let (peak_mib, per_node) = (memory(speed.mesh.peak_mib), memory(speed.mesh.bytes_per_node));
    format!("{table}\npeak memory {peak_mib} MiB, {per_node} bytes per host of the mesh\n")
}
