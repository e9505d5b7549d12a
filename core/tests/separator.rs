//! The two separators against a general convex solver on clouds shaped like those of HUYGENS, and what must hold of any
//! line between two clouds.

#![allow(clippy::cast_precision_loss, reason = "clouds have thousands of points")]

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettings, DefaultSolution, DefaultSolver, IPSolver, SolverStatus, SupportedConeT};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use truebound_core::estimate::separator::{Line, Point, Scratch, separate};
use truebound_core::estimate::svm::svm_line;

const PPM: f64 = 1e-6;
const US: f64 = 1e-6;

/// What makes points differ from the line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    /// Every other packet is queued.
    Half,
    /// Nine of ten are.
    Heavy,
    /// Half are, and one of twenty is on the wrong side: stamps gone wrong.
    Outliers,
}

const LOADS: [Load; 3] = [Load::Half, Load::Heavy, Load::Outliers];

#[derive(Clone, Debug)]
struct Clouds {
    upper: Vec<Point>,
    lower: Vec<Point>,
}

/// Evenly in [0, 1).
fn uniform(random: &mut ChaCha12Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// `n` points within 2 s about a line of some ppm, 10 µs away from it, stamped to 8 ns.
fn clouds(n: usize, load: Load, seed: u64) -> Clouds {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let (slope, offset_s) = (20.0 * PPM * (uniform(&mut random) - 0.5), 120.0 * US);
    let mut cloud = |side: f64| -> Vec<Point> {
        let mut point = || {
            let t_s = 2.0 * uniform(&mut random) - 1.0;
            let tail = uniform(&mut random);
            let queued = uniform(&mut random) < if load == Load::Heavy { 0.9 } else { 0.5 };
            let wrong = load == Load::Outliers && uniform(&mut random) < 0.05;
            let queue_us = if queued { 3.0 * tail / (1.02 - tail) } else { 0.0 };
            let early_us = if wrong { 40.0 * uniform(&mut random) } else { 0.0 };
            let stamp_us = 0.016 * (uniform(&mut random) - 0.5);
            Point { t_s, y_s: offset_s + slope * t_s + side * (10.0 + queue_us - early_us + stamp_us) * US }
        };
        (0..n / 2).map(|_| point()).collect()
    };
    Clouds { upper: cloud(1.0), lower: cloud(-1.0) }
}

impl Clouds {
    fn separate(&self, k: usize) -> Line {
        separate(&self.upper, &self.lower, k, -1e-3..=1e-3, &mut Scratch::default()).expect("a line")
    }

    /// G(β), sorted out in full.
    fn gap_s(&self, k: usize, slope: f64) -> f64 {
        let nearest = |points: &[Point], side: f64| {
            let mut residuals: Vec<f64> = points.iter().map(|p| side * (p.y_s - slope * p.t_s)).collect();
            residuals.sort_by(f64::total_cmp);
            residuals.iter().take(k).sum::<f64>() / k as f64
        };
        nearest(&self.upper, 1.0) + nearest(&self.lower, -1.0)
    }

    /// Every point with its class.
    fn classified(&self) -> impl Iterator<Item = (f64, &Point)> {
        self.upper.iter().map(|p| (1.0, p)).chain(self.lower.iter().map(|p| (-1.0, p)))
    }

    /// Both clouds with y as `change` has it.
    fn map(&self, change: impl Fn(&Point) -> f64) -> Clouds {
        let cloud = |points: &[Point]| points.iter().map(|p| Point { t_s: p.t_s, y_s: change(p) }).collect();
        Clouds { upper: cloud(&self.upper), lower: cloud(&self.lower) }
    }

    /// Upside down, so that each cloud is the other.
    fn mirrored(&self) -> Clouds {
        let Clouds { upper, lower } = self.map(|p| -p.y_s);
        Clouds { upper: lower, lower: upper }
    }

    fn shuffled(&self, seed: u64) -> Clouds {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut shuffle = |points: &[Point]| {
            let mut keyed: Vec<(u64, Point)> = points.iter().map(|&p| (random.next_u64(), p)).collect();
            keyed.sort_by_key(|&(key, _)| key);
            keyed.into_iter().map(|(_, p)| p).collect()
        };
        Clouds { upper: shuffle(&self.upper), lower: shuffle(&self.lower) }
    }
}

/// min ½·x·P·x + q·x, rows·x ≥ bounds, P diagonal.
struct Program {
    squares: Vec<f64>,
    costs: Vec<f64>,
    rows: Vec<Vec<(usize, f64)>>,
    bounds: Vec<f64>,
}

impl Program {
    /// With three variables and a non-negative slack for each point, whose cost is `slack_cost`.
    fn new(points: usize, squares: [f64; 3], costs: [f64; 3], slack_cost: f64) -> Self {
        let mut program = Program {
            squares: squares.into_iter().chain((0..points).map(|_| 0.0)).collect(),
            costs: costs.into_iter().chain((0..points).map(|_| slack_cost)).collect(),
            rows: vec![],
            bounds: vec![],
        };
        for slack in 3..points + 3 {
            program.demand(vec![(slack, 1.0)], 0.0);
        }
        program
    }

    fn demand(&mut self, row: Vec<(usize, f64)>, bound: f64) {
        self.rows.push(row);
        self.bounds.push(bound);
    }

    fn solve(&self) -> DefaultSolution<f64> {
        let variables = self.costs.len();
        let diagonal: Vec<usize> = (0..variables).collect();
        let p = CscMatrix::new_from_triplets(variables, variables, diagonal.clone(), diagonal, self.squares.clone());
        let (mut at_row, mut at_column, mut values) = (vec![], vec![], vec![]);
        for (number, row) in self.rows.iter().enumerate() {
            for &(column, value) in row {
                at_row.push(number);
                at_column.push(column);
                values.push(-value);
            }
        }
        let a = CscMatrix::new_from_triplets(self.rows.len(), variables, at_row, at_column, values);
        let b: Vec<f64> = self.bounds.iter().map(|bound| -bound).collect();
        let cones = [SupportedConeT::NonnegativeConeT(b.len())];
        let settings = DefaultSettings {
            verbose: false,
            tol_gap_abs: 1e-11,
            tol_gap_rel: 1e-11,
            tol_feas: 1e-11,
            ..DefaultSettings::default()
        };
        let mut solver = DefaultSolver::new(&p, &self.costs, &a, &b, &cones, settings).expect("a valid program");
        solver.solve();
        let status = solver.solution.status;
        assert!(matches!(status, SolverStatus::Solved | SolverStatus::AlmostSolved), "{status:?}");
        solver.solution
    }
}

/// Sizes, and how many seeds of each.
const SIZES: [(usize, u64); 4] = [(20, 8), (100, 4), (500, 2), (2000, 1)];

fn each_problem(mut check: impl FnMut(&Clouds, usize, &str)) {
    for (n, seeds) in SIZES {
        for load in LOADS {
            for seed in 1..=seeds {
                check(&clouds(n, load, seed), n, &format!("n {n}, {load:?}, seed {seed}"));
            }
        }
    }
}

/// The ν-form as a linear program: max u − l − (1/k)·Σ ξ with U − β·t ≥ u − ξ and L − β·t ≤ l + ξ; ppm and µs.
fn linear_program(clouds: &Clouds, k: usize) -> DefaultSolution<f64> {
    let points = clouds.upper.len() + clouds.lower.len();
    let mut program = Program::new(points, [0.0; 3], [0.0, -1.0, 1.0], 1.0 / k as f64);
    for (number, (class, point)) in clouds.classified().enumerate() {
        let border = if class > 0.0 { 1 } else { 2 };
        let row = vec![(0, -class * point.t_s), (border, -class), (number + 3, 1.0)];
        program.demand(row, -class * point.y_s / US);
    }
    program.solve()
}

#[test]
fn vertical_margin_is_that_of_the_linear_program() {
    let (mut worst_ppm, mut worst_us) = (0.0_f64, 0.0_f64);
    each_problem(|clouds, n, problem| {
        for k in [1, 2, n / 40] {
            let k = k.max(1);
            let found = clouds.separate(k);
            let solution = linear_program(clouds, k);
            let slope = solution.x[0] * PPM;
            let excess_us = found.margin_s / US + solution.obj_val;
            assert!((clouds.gap_s(k, found.slope) - found.margin_s).abs() < 1e-17, "{problem}, k {k}: {found:?}");
            assert!(found.margin_s >= clouds.gap_s(k, slope) - 1e-18, "{problem}, k {k}: {found:?}, slope {slope:e}");
            assert!(excess_us.abs() < 1e-7, "{problem}, k {k}: {found:?}, margin differs by {excess_us:e} µs");
            let off_ppm = (found.slope - slope).abs() / PPM;
            assert!(off_ppm < 1e-6, "{problem}, k {k}: {found:?}, slope off by {off_ppm:e} ppm");
            worst_ppm = worst_ppm.max(off_ppm);
            worst_us = worst_us.max(excess_us.abs());
        }
    });
    println!("worst slope {worst_ppm:e} ppm, margin {worst_us:e} µs");
}

/// Points on the whitened axes of `svm_line`, with what leads back: scales and slope.
struct White {
    points: Vec<(f64, [f64; 2])>,
    t_scale_s: f64,
    y_scale_s: f64,
    slope: f64,
    centre: Point,
}

fn whiten(clouds: &Clouds) -> White {
    let n = clouds.classified().count() as f64;
    let mean = |of: &dyn Fn(&Point) -> f64| clouds.classified().map(|(_, p)| of(p)).sum::<f64>() / n;
    let centre = Point { t_s: mean(&|p| p.t_s), y_s: mean(&|p| p.y_s) };
    let variance = mean(&|p| (p.t_s - centre.t_s) * (p.t_s - centre.t_s));
    let slope = mean(&|p| (p.t_s - centre.t_s) * (p.y_s - centre.y_s)) / variance;
    let residual = |p: &Point| p.y_s - centre.y_s - slope * (p.t_s - centre.t_s);
    let t_scale_s = variance.sqrt();
    let y_scale_s = mean(&|p| residual(p) * residual(p)).sqrt();
    let white = |p: &Point| [(p.t_s - centre.t_s) / t_scale_s, residual(p) / y_scale_s];
    let points = clouds.classified().map(|(class, p)| (class, white(p))).collect();
    White { points, t_scale_s, y_scale_s, slope, centre }
}

impl White {
    /// The machine's primal as a quadratic program.
    fn quadratic_program(&self, c: f64) -> DefaultSolution<f64> {
        let mut program = Program::new(self.points.len(), [1.0, 1.0, 0.0], [0.0; 3], c);
        for (number, (class, x)) in self.points.iter().enumerate() {
            program.demand(vec![(0, class * x[0]), (1, class * x[1]), (2, *class), (number + 3, 1.0)], 1.0);
        }
        program.solve()
    }

    /// ½|w|² + C·Σ ξ of a line.
    fn objective(&self, line: &Line, c: f64) -> f64 {
        let w_y = 2.0 * self.y_scale_s / line.margin_s;
        let w_t = -w_y * (line.slope - self.slope) * self.t_scale_s / self.y_scale_s;
        let b = -w_y * (line.offset_s + line.slope * self.centre.t_s - self.centre.y_s) / self.y_scale_s;
        let slack = |(class, x): &(f64, [f64; 2])| (1.0 - class * (w_t * x[0] + w_y * x[1] + b)).max(0.0);
        0.5 * (w_t * w_t + w_y * w_y) + c * self.points.iter().map(slack).sum::<f64>()
    }
}

#[test]
fn geometric_margin_is_that_of_the_quadratic_program() {
    let (mut worst_ppm, mut worst) = (0.0_f64, 0.0_f64);
    each_problem(|clouds, _, problem| {
        let white = whiten(clouds);
        for c in [0.5, 10.0, 200.0] {
            let found =
                svm_line(&clouds.upper, &clouds.lower, c).unwrap_or_else(|| panic!("{problem}, C {c}: no convergence"));
            let solution = white.quadratic_program(c);
            let slope = white.slope - solution.x[0] / solution.x[1] * white.y_scale_s / white.t_scale_s;
            let excess = white.objective(&found, c) / solution.obj_val - 1.0;
            let off_ppm = (found.slope - slope).abs() / PPM;
            assert!(excess < 1e-8, "{problem}, C {c}: {found:?}, objective worse by {excess:e}");
            assert!(off_ppm < 1e-6, "{problem}, C {c}: {found:?}, slope off by {off_ppm:e} ppm");
            worst_ppm = worst_ppm.max(off_ppm);
            worst = worst.max(excess);
        }
    });
    println!("worst slope {worst_ppm:e} ppm, objective {worst:e}");
}

fn assert_close(found: Line, expected: Line, tolerance: f64) -> Result<(), TestCaseError> {
    let off = [found.slope - expected.slope, found.offset_s - expected.offset_s, found.margin_s - expected.margin_s];
    prop_assert!(off.iter().all(|x| x.abs() < tolerance), "{:?}\nin place of\n{:?}", found, expected);
    Ok(())
}

/// Large enough that eight points a cloud fix a slope.
fn any_clouds() -> impl Strategy<Value = Clouds> {
    (80..400_usize, prop::sample::select(&LOADS[..]), any::<u64>()).prop_map(|(n, load, seed)| clouds(n, load, seed))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_slope_is_better(clouds in any_clouds(), k in 1..8_usize, steps in prop::collection::vec(-1.0..1.0_f64, 16)) {
        let found = clouds.separate(k);
        for step in steps {
            // From 100 ppm away to 1e-10 ppm away.
            let mut away = step * 100.0 * PPM;
            for _ in 0..12 {
                let gap_s = clouds.gap_s(k, found.slope + away);
                prop_assert!(gap_s <= found.margin_s + 1e-17, "{away:e} away {gap_s:e}, {found:?}");
                away /= 10.0;
            }
        }
    }

    #[test]
    fn a_line_added_to_all_points_is_added_to_the_answer(
        clouds in any_clouds(), k in 1..8_usize, slope in -50e-6..50e-6_f64, offset_s in -1e-3..1e-3_f64
    ) {
        let moved = clouds.map(|p| p.y_s + offset_s + slope * p.t_s);
        let expect = |line: Line| Line { slope: line.slope + slope, offset_s: line.offset_s + offset_s, ..line };
        assert_close(moved.separate(k), expect(clouds.separate(k)), 1e-11)?;
        let machine = |clouds: &Clouds| svm_line(&clouds.upper, &clouds.lower, 10.0).expect("convergence");
        assert_close(machine(&moved), expect(machine(&clouds)), 1e-11)?;
    }

    #[test]
    fn another_order_gives_the_same_bits(clouds in any_clouds(), k in 1..8_usize, seed in any::<u64>()) {
        let shuffled = clouds.shuffled(seed);
        prop_assert_eq!(shuffled.separate(k), clouds.separate(k));
        let machine = |clouds: &Clouds| svm_line(&clouds.upper, &clouds.lower, 10.0).expect("convergence");
        assert_close(machine(&shuffled), machine(&clouds), 1e-11)?;
    }

    #[test]
    fn long_queues_change_nothing(clouds in any_clouds(), k in 1..8_usize, queue_s in 0.01..10.0_f64) {
        let mut queued = clouds.clone();
        queued.upper.extend(clouds.upper.iter().map(|p| Point { t_s: p.t_s, y_s: p.y_s + queue_s }));
        queued.lower.extend(clouds.lower.iter().map(|p| Point { t_s: p.t_s, y_s: p.y_s - queue_s }));
        prop_assert_eq!(queued.separate(k), clouds.separate(k));
    }

    #[test]
    fn upside_down_is_the_mirror_image(clouds in any_clouds(), k in 1..8_usize) {
        let mirror = |line: Line| Line { slope: -line.slope, offset_s: -line.offset_s, margin_s: line.margin_s };
        assert_close(clouds.mirrored().separate(k), mirror(clouds.separate(k)), 1e-11)?;
        let machine = |clouds: &Clouds| svm_line(&clouds.upper, &clouds.lower, 10.0).expect("convergence");
        assert_close(machine(&clouds.mirrored()), mirror(machine(&clouds)), 1e-11)?;
    }

    /// Whatever the points: ends, and a line is within the range and as wide as it says.
    #[test]
    fn any_points_end(
        upper in prop::collection::vec((-4..4_i8, -4..4_i8), 0..12),
        lower in prop::collection::vec((-4..4_i8, -4..4_i8), 0..12),
        k in 0..14_usize,
    ) {
        let cloud = |points: &[(i8, i8)]| -> Vec<Point> {
            points.iter().map(|&(t, y)| Point { t_s: f64::from(t), y_s: f64::from(y) }).collect()
        };
        let clouds = Clouds { upper: cloud(&upper), lower: cloud(&lower) };
        let k_held = k.clamp(1, upper.len().min(lower.len()).max(1));
        if let Some(line) = separate(&clouds.upper, &clouds.lower, k_held, -2.0..=2.0, &mut Scratch::default()) {
            prop_assert!((-2.0..=2.0).contains(&line.slope));
            prop_assert!((clouds.gap_s(k_held, line.slope) - line.margin_s).abs() < 1e-12);
            for step in -20..=20_i8 {
                prop_assert!(clouds.gap_s(k_held, f64::from(step) / 10.0) <= line.margin_s + 1e-12);
            }
        }
        // Many residuals are equal here, so this needs more than sorting by them.
        let reversed = |points: &[Point]| -> Vec<Point> { points.iter().rev().copied().collect() };
        let found = separate(&clouds.upper, &clouds.lower, k, -2.0..=2.0, &mut Scratch::default());
        let again = separate(&reversed(&clouds.upper), &reversed(&clouds.lower), k, -2.0..=2.0, &mut Scratch::default());
        prop_assert_eq!(found, again);
        let _ = svm_line(&clouds.upper, &clouds.lower, 10.0);
    }
}
