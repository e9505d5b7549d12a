//! The lattice form against a general linear program, in worlds at random whose source keeps its word and in worlds
//! whose source jumps.
//!
//! The program knows nothing of hulls, seats or Newton: the greatest and the least θ + ωh over
//!
//! ```text
//! θ − ωΔ ≤ u + W(Δ),   θ − ωΔ ≥ l − W(Δ),   |ω| ≤ Ω        W(Δ) = ½AΔ² + the lesser of the two tangents of J√Δ
//! ```
//! (As rows the tangents differ in their constants only, so the lesser one is both.) An edge must not lie inside the
//! optimum, and outside only by roundings and by the optimum's price for the [`SLACK_NS`] that the search gives to the
//! upper constraints: the sum of their duals. No fixed distance would do: where the two constraints that meet in a corner
//! are nearly of one age, 1 ns there is any distance in ω.
//! θ and ω are counted from the truth, and ω in µs over the oldest age, so that the solver sees numbers of one size.

#![expect(clippy::cast_precision_loss, reason = "53 bits of chance")]

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettings, DefaultSolver, IPSolver, SolverStatus, SupportedConeT};
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::*;
use crate::bound::{Composer, RateCaps};
use crate::settings::{BoundSettings, Oscillator};
use crate::units::to_f64;

const STEADY_SEEDS: std::ops::Range<u64> = 0..200;
const JUMPING_SEEDS: std::ops::Range<u64> = 1000..1200;

/// Where the tangents of J√Δ touch it, s.
const TANGENTS_S: [f64; 2] = [1.0 / 16.0, 16.0];

/// How far ahead a reader asks, s: one of them in each world.
const HORIZONS_S: [f64; 4] = [0.1, 1.0, 10.0, 60.0];

/// The solver's, of an optimum; where it cannot do better, ten times that.
const TOLERANCE: f64 = 1e-9;

/// What it may miss an optimum by: those are within some ms of the truth.
const SOLVER_NS: f64 = 0.02;

/// θ moves out by the slack and up to a whole ns, and along its line by twice [`OUTWARD`], once on purpose and once for a
/// last step too short to be taken: 0.11 ns at an age of 120 s.
const THETA_OUT_NS: f64 = SLACK_NS + 1.0 + 0.11;

/// ω moves out by the same two halves of a unit, up to a whole unit, and by one more, s/s.
const OMEGA_OUT: f64 = 6.0 * OUTWARD;

/// Ahead, the published numbers are rounded again: the edge to 1 ns, its rate by a unit for A and by one for Ω, s/s.
const AHEAD_OUT: f64 = 4.0 * OUTWARD;

struct Chance(ChaCha12Rng);

impl Chance {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.0.next_u64() % count
    }

    /// From `low` to low·2ⁿ, each power alike.
    fn of_any_size(&mut self, low: f64, n: u64) -> f64 {
        low * (1u64 << self.below(n)) as f64 * self.between(1.0, 2.0)
    }

    /// Half the packets wait, some of them long.
    fn queue_ns(&mut self, path_ns: f64) -> f64 {
        match self.below(4) {
            0 | 1 => 0.0,
            2 => self.between(0.0, path_ns),
            _ => self.between(0.0, 20.0 * path_ns),
        }
    }
}

/// θ − ωΔ ≤ v, or ≥ v, with W and from the truth.
struct Row {
    age_ns: f64,
    v_ns: f64,
}

/// One source's exchanges, and the truth now.
struct World {
    polygon: Polygon,
    oscillator: Oscillator,
    limits: Limits,
    now: RawTime,
    theta_ns: i64,
    omega: f64,
    upper: Vec<Row>,
    lower: Vec<Row>,
    /// The oldest age.
    span_ns: f64,
}

/// θ of an oscillator that wanders within A.
struct Walk {
    at_ns: i64,
    theta_ns: f64,
    omega: f64,
    wander_per_ns: f64,
}

impl Walk {
    fn forward(&mut self, by_ns: f64, chance: &mut Chance) {
        let by_ns = by_ns.ceil();
        let bend = chance.between(-self.wander_per_ns, self.wander_per_ns);
        self.at_ns += to_i64(by_ns);
        self.theta_ns += (self.omega + 0.5 * bend * by_ns) * by_ns;
        self.omega += bend * by_ns;
    }
}

impl World {
    /// 2 to 60 exchanges, rather few, within up to 90 s, seen at once or up to 30 s later; raw time and θ as large as
    /// they get.
    fn new(seed: u64, jumps: bool) -> Self {
        let mut chance = Chance(ChaCha12Rng::seed_from_u64(seed));
        let classes = [Oscillator::XO, Oscillator::TCXO, Oscillator::VM];
        let oscillator = classes[usize::try_from(chance.below(3)).expect("small")];
        let limits = Limits {
            wander: Wander::new(oscillator.wander_per_s, oscillator.phase_noise_s),
            omega: oscillator.freq_limit.as_fraction(),
        };
        let boot_ns = to_i64(chance.between(0.0, 1e16));
        let base_ns = 1_800_000_000 * 1_000_000_000 + to_i64(chance.between(0.0, 1e9));
        let mut walk = Walk {
            at_ns: 0,
            theta_ns: 0.0,
            omega: chance.between(-950e-6, 950e-6),
            wander_per_ns: oscillator.wander_per_s * 1e-9,
        };
        let exchanges = 2 + chance.below(59).min(chance.below(59));
        let (wait_ns, path_ns) = (chance.of_any_size(1e7, 12) / exchanges as f64, chance.of_any_size(1e3, 10));
        let jump_ns = chance.of_any_size(1e3, 10) * chance.between(-1.0, 1.0).signum();
        let jump_at = if jumps { chance.below(exchanges) } else { exchanges };
        let mut points = [vec![], vec![]];
        for k in 0..exchanges {
            walk.forward(chance.between(0.0, 2.0 * wait_ns), &mut chance);
            let lie_ns = if k >= jump_at { jump_ns } else { 0.0 };
            let there_ns = path_ns + chance.queue_ns(path_ns);
            points[0].push((walk.at_ns, to_i64((walk.theta_ns + lie_ns + there_ns).ceil())));
            let back_ns = path_ns + chance.queue_ns(path_ns);
            walk.forward(there_ns + back_ns, &mut chance);
            points[1].push((walk.at_ns, to_i64((walk.theta_ns + lie_ns - back_ns).floor())));
        }
        let idle_ns = chance.of_any_size(1e6, 14);
        walk.forward(if chance.below(2) == 0 { 0.0 } else { idle_ns }, &mut chance);
        let mut polygon = Polygon::default();
        let at = |t: i64| RawTime::from_ns(boot_ns + t);
        points[0].iter().for_each(|&(t, v)| polygon.add_upper(at(t), base_ns + v, &limits.wander));
        points[1].iter().for_each(|&(t, v)| polygon.add_lower(at(t), base_ns + v, &limits.wander));
        let theta_ns = to_i64(walk.theta_ns.round());
        let rows = |points: &[(i64, i64)], side: f64| -> Vec<Row> {
            let row = |&(t, v): &(i64, i64)| {
                let age_ns = to_f64(walk.at_ns - t);
                let wander_ns = side * allowance_ns(&oscillator, age_ns);
                Row { age_ns, v_ns: to_f64(v - theta_ns) + walk.omega * age_ns + wander_ns }
            };
            points.iter().map(row).collect()
        };
        let (upper, lower) = (rows(&points[0], 1.0), rows(&points[1], -1.0));
        let (now, theta_ns, span_ns) = (at(walk.at_ns), base_ns + theta_ns, upper[0].age_ns);
        World { polygon, oscillator, limits, now, theta_ns, omega: walk.omega, upper, lower, span_ns }
    }

    /// The constraints as rows·(θ, ω) ≤ bound, in µs, the upper ones first.
    fn rows(&self) -> Vec<([f64; 2], f64)> {
        let upper = self.upper.iter().map(|row| ([1.0, -row.age_ns / self.span_ns], row.v_ns / 1e3));
        let lower = self.lower.iter().map(|row| ([-1.0, row.age_ns / self.span_ns], -row.v_ns / 1e3));
        let rate = [1.0, -1.0].map(|side| ([0.0, side], (self.limits.omega - side * self.omega) * self.span_ns / 1e3));
        upper.chain(lower).chain(rate).collect()
    }

    /// By how much the constraints overlap at the best ω; negative: by how much they miss each other.
    fn overlap_ns(&self) -> f64 {
        let widened = |(row, bound): ([f64; 2], f64)| ([row[0], row[1], if row[0] < 0.0 { 1.0 } else { 0.0 }], bound);
        let rows: Vec<_> = self.rows().into_iter().map(widened).collect();
        greatest(&rows, [0.0, 0.0, 1.0]).expect("some distance does").value * 1e3
    }

    /// Each edge, now and ahead, against its optimum; how far out of it θ and ω (ppm) are at most.
    fn check(&self, region: &Region, h_s: f64, seed: u64) -> (f64, f64) {
        let program = self.rows();
        // The optimum in ns, and with the price of the slack.
        let optima = |direction: [f64; 2]| {
            let Optimum { value, prices } = greatest(&program, direction).expect("the truth satisfies them");
            [value * 1e3, value * 1e3 + SLACK_NS * prices.iter().take(self.upper.len()).sum::<f64>()]
        };
        let between = |what: &str, edge_ns: f64, [tight_ns, loose_ns]: [f64; 2], out_ns: f64| {
            let (inside_ns, outside_ns) = (tight_ns - edge_ns, edge_ns - loose_ns - out_ns);
            assert!(inside_ns <= SOLVER_NS, "seed {seed}: {what} is {inside_ns} ns inside the program's");
            assert!(outside_ns <= SOLVER_NS, "seed {seed}: {what} is {outside_ns} ns further out than explained");
            edge_ns - tight_ns
        };
        let silent = Oscillator { phase_noise_s: 0.0, ..self.oscillator };
        let settings = BoundSettings { cpu_error_ns: 0, ..BoundSettings::default() };
        let composer = Composer { oscillator: silent, settings };
        let bound = composer.fresh(self.now, region, RateCaps::of(&self.oscillator));
        let (mut worst_ns, mut worst_ppm) = (0.0_f64, 0.0_f64);
        for side in [1.0, -1.0] {
            let is_high = side > 0.0;
            let (theta, rate) =
                if is_high { (region.theta_hi_ns, region.omega_hi) } else { (region.theta_lo_ns, region.omega_lo) };
            let now = optima([side, 0.0]);
            worst_ns = worst_ns.max(between("θ", side * to_f64(theta - self.theta_ns), now, THETA_OUT_NS));
            let drift_ns = side * (FreqError::from_rate(rate).as_fraction() - self.omega) * self.span_ns;
            let out_ns = between("ω", drift_ns, optima([0.0, side]), OMEGA_OUT * self.span_ns);
            worst_ppm = worst_ppm.max(out_ns / self.span_ns * 1e6);
            let h_ns = h_s * 1e9;
            let wander_ns = 0.5e-9 * self.oscillator.wander_per_s * h_ns * h_ns;
            let limit_ns = (self.limits.omega - side * self.omega) * h_ns;
            let straight = optima([side, side * h_ns / self.span_ns]);
            let ahead = [0, 1].map(|i| (straight[i] + wander_ns).min(now[i] + limit_ns));
            let edges = bound.edges_at(self.now.as_ns() + to_i64(h_ns)).expect("within holdover");
            let edge = to_f64(if is_high { edges.hi_ns } else { edges.lo_ns } - self.theta_ns);
            let out_ns = THETA_OUT_NS + 1.0 + (OMEGA_OUT + AHEAD_OUT) * h_ns;
            between(&format!("θ {h_s} s later"), side * (edge - self.omega * h_ns), ahead, out_ns);
        }
        (worst_ns, worst_ppm)
    }
}

/// W(Δ), ns.
fn allowance_ns(oscillator: &Oscillator, age_ns: f64) -> f64 {
    let age_s = age_ns * 1e-9;
    let under = |at_s: f64| oscillator.phase_noise_s * (at_s.sqrt() / 2.0 + age_s / (2.0 * at_s.sqrt()));
    (0.5 * oscillator.wander_per_s * age_s * age_s + under(TANGENTS_S[0]).min(under(TANGENTS_S[1]))) * 1e9
}

/// What a program comes to.
struct Optimum {
    value: f64,
    /// By how much it would rise if a row's bound did: its dual. Never too little, as the optimum is concave in them.
    prices: Vec<f64>,
}

/// max direction·x with rows·x ≤ bounds; `None` if nothing satisfies them.
fn greatest<const N: usize>(rows: &[([f64; N], f64)], direction: [f64; N]) -> Option<Optimum> {
    let entries =
        || rows.iter().enumerate().flat_map(|(i, (row, _))| row.iter().enumerate().map(move |(j, &a)| (i, j, a)));
    let (at_row, (at_column, values)) = entries().map(|(i, j, a)| (i, (j, a))).unzip();
    let a = CscMatrix::new_from_triplets(rows.len(), N, at_row, at_column, values);
    let b: Vec<f64> = rows.iter().map(|&(_, bound)| bound).collect();
    let cones = [SupportedConeT::NonnegativeConeT(b.len())];
    let settings = DefaultSettings {
        verbose: false,
        tol_gap_abs: TOLERANCE,
        tol_gap_rel: TOLERANCE,
        tol_feas: TOLERANCE,
        reduced_tol_gap_abs: 10.0 * TOLERANCE,
        reduced_tol_gap_rel: 10.0 * TOLERANCE,
        reduced_tol_feas: 10.0 * TOLERANCE,
        ..DefaultSettings::default()
    };
    let p = CscMatrix::zeros((N, N));
    let mut solver = DefaultSolver::new(&p, &direction.map(|c| -c), &a, &b, &cones, settings).expect("a valid program");
    solver.solve();
    match solver.solution.status {
        SolverStatus::Solved | SolverStatus::AlmostSolved => {
            Some(Optimum { value: -solver.solution.obj_val, prices: solver.solution.z })
        }
        SolverStatus::PrimalInfeasible => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn edges_are_those_of_the_linear_program() {
    let (mut worst_ns, mut worst_ppm) = (0.0_f64, 0.0_f64);
    for seed in STEADY_SEEDS {
        let mut world = World::new(seed, false);
        let verdict = world.polygon.verdict(world.now, &world.limits);
        let Verdict::Region(region) = verdict else { panic!("seed {seed}: {verdict:?}") };
        let h_s = HORIZONS_S[usize::try_from(seed).expect("small") % HORIZONS_S.len()];
        let (out_ns, out_ppm) = world.check(&region, h_s, seed);
        (worst_ns, worst_ppm) = (worst_ns.max(out_ns), worst_ppm.max(out_ppm));
    }
    println!("seeds {STEADY_SEEDS:?}: θ at most {worst_ns:.3} ns outside the program's, ω {worst_ppm:.6} ppm");
}

#[test]
fn empty_is_what_no_linear_program_satisfies() {
    let (mut empty, mut full) = (0, 0);
    for seed in JUMPING_SEEDS {
        let mut world = World::new(seed, true);
        let overlap_ns = world.overlap_ns();
        let verdict = world.polygon.verdict(world.now, &world.limits);
        let is_satisfiable = greatest(&world.rows(), [1.0, 0.0]).is_some();
        match verdict {
            // Within the slack either word is right.
            _ if (-SLACK_NS - 0.2..=SOLVER_NS).contains(&overlap_ns) => {}
            Verdict::Empty { by_ns } => {
                assert!(
                    !is_satisfiable && overlap_ns < 0.0,
                    "seed {seed}: {verdict:?}, but they overlap by {overlap_ns} ns"
                );
                assert!(
                    (to_f64(by_ns) + overlap_ns).abs() <= 1.0 + SOLVER_NS,
                    "seed {seed}: {verdict:?}, {overlap_ns} ns"
                );
                empty += 1;
            }
            Verdict::Region(_) => {
                assert!(
                    is_satisfiable && overlap_ns > 0.0,
                    "seed {seed}: {verdict:?}, but they miss by {} ns",
                    -overlap_ns
                );
                full += 1;
            }
            Verdict::Silent => panic!("seed {seed}: {verdict:?}"),
        }
    }
    println!("seeds {JUMPING_SEEDS:?}: {empty} empty, {full} not");
    assert!(empty >= 60 && full >= 60, "{empty} empty, {full} not");
}
