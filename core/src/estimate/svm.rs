//! The soft-margin support vector machine of HUYGENS as published, with the geometric margin: kept to be compared with
//! the vertical one of [`super::separator`], which it approaches as slopes go to zero.
//!
//! Points x_i with class y_i = +1 (upper) or −1 (lower), and v_i = y_i·x_i:
//!
//! ```text
//! primal   min ½|w|² + C·Σ ξ_i       v_i·w + y_i·b ≥ 1 − ξ_i,  ξ_i ≥ 0
//! dual     min ½|Σ a_i·v_i|² − Σ a_i    0 ≤ a_i ≤ C,  Σ y_i·a_i = 0,   w = Σ a_i·v_i
//! ```
//! The geometric margin depends on the units of the axes. So the points are first whitened: t centred and scaled by its
//! standard deviation, y freed of the common regression line, whose slope is s, and scaled likewise. With that the line
//! found follows when a line is added to all points, its slope relative to s is small, and C has no unit.
//!
//! **Interior point.** With multipliers z_i of a_i ≥ 0 and s_i of c_i = C − a_i ≥ 0 the optimum is where
//!
//! ```text
//! r_i = v_i·w + y_i·b − 1 − z_i + s_i = 0,   e = Σ y_i·a_i = 0,   a_i·z_i = 0,   c_i·s_i = 0
//! ```
//! and the path to it has a_i·z_i = c_i·s_i = τ instead, τ → 0. Newton's equations for that, with Δz_i and Δs_i
//! eliminated and d_i = 1/(z_i/a_i + s_i/c_i), are
//!
//! ```text
//! Δa_i = d_i·(g_i − v_i·Δw − y_i·Δb),     g_i = −r_i + (τ − p_i)/a_i − z_i − (τ + q_i)/c_i + s_i
//! ```
//! (p_i = Δa_i·Δz_i and q_i = Δa_i·Δs_i of the predictor, Mehrotra's correction of second order). Put into
//! Δw = Σ Δa_i·v_i and Σ y_i·Δa_i = −e, they leave three equations for (Δw, Δb). The weights d_i grow without limit near
//! the optimum, so Δb is eliminated by centring, with D = Σ d_i, m = Σ d_i·x_i / D and u_i = v_i − y_i·m:
//!
//! ```text
//! [ I + Σ d_i·u_i·u_iᵀ ]·Δw = Σ d_i·g_i·u_i − e·m,     Δb = (Σ d_i·g_i·y_i + e) / D − m·Δw
//! ```
//! whose matrix stays above I whatever the weights. An iteration is O(n). The start satisfies r = 0 and e = 0, and one
//! step length for all variables keeps it so.

use super::separator::{Line, Point};

/// Iterations at most; 7 to 30 are usual.
const MAX_ITERATIONS: u32 = 80;
/// How far of the way to the nearest bound a step goes.
const TO_THE_BOUNDARY: f64 = 0.995;
/// Done when the duality gap is less than this part of the objective.
const GAP: f64 = 1e-12;

/// The line of the machine with the penalty C = `c` on whitened axes. Its margin is the distance along y of the lines
/// w·x + b = ±1.
///
/// None without one: an empty cloud, a number that is not finite, all points at one instant or on one line, the upper
/// cloud below the lower, or no convergence.
#[must_use]
pub fn svm_line(upper: &[Point], lower: &[Point], c: f64) -> Option<Line> {
    if upper.is_empty() || lower.is_empty() || !c.is_finite() || c <= 0.0 {
        return None;
    }
    let axes = Axes::of(upper, lower)?;
    let mut machine = Machine::new(&axes, upper, lower, c);
    let [w_t, w_y, b] = machine.solve()?;
    // Where the line w·x + b = 0 has no y to speak of it separates nothing.
    if w_y <= f64::EPSILON * w_t.abs() {
        return None;
    }
    let slope = axes.slope - w_t / w_y * axes.y_scale_s / axes.t_scale_s;
    let offset_s = axes.y_centre_s - b / w_y * axes.y_scale_s - slope * axes.t_centre_s;
    let margin_s = 2.0 / w_y * axes.y_scale_s;
    [slope, offset_s, margin_s].iter().all(|x| x.is_finite()).then_some(Line { slope, offset_s, margin_s })
}

/// The whitened axes of both clouds together.
struct Axes {
    t_centre_s: f64,
    y_centre_s: f64,
    t_scale_s: f64,
    y_scale_s: f64,
    /// s, of the common regression line.
    slope: f64,
}

impl Axes {
    fn of(upper: &[Point], lower: &[Point]) -> Option<Self> {
        let points = || upper.iter().chain(lower);
        let (mut n, mut t_sum, mut y_sum) = (0.0, 0.0, 0.0);
        for point in points() {
            n += 1.0;
            t_sum += point.t_s;
            y_sum += point.y_s;
        }
        let (t_centre_s, y_centre_s) = (t_sum / n, y_sum / n);
        let (mut tt, mut ty) = (0.0, 0.0);
        for point in points() {
            let t_s = point.t_s - t_centre_s;
            tt += t_s * t_s;
            ty += t_s * (point.y_s - y_centre_s);
        }
        let slope = ty / tt;
        let mut yy = 0.0;
        for point in points() {
            let y_s = point.y_s - y_centre_s - slope * (point.t_s - t_centre_s);
            yy += y_s * y_s;
        }
        let axes = Axes { t_centre_s, y_centre_s, t_scale_s: (tt / n).sqrt(), y_scale_s: (yy / n).sqrt(), slope };
        // NaN and ∞ anywhere in the input end in these two.
        let usable = |scale: f64| scale.is_finite() && scale > 0.0;
        (usable(axes.t_scale_s) && usable(axes.y_scale_s)).then_some(axes)
    }

    /// x.
    fn whiten(&self, point: &Point) -> [f64; 2] {
        let t_s = point.t_s - self.t_centre_s;
        [t_s / self.t_scale_s, (point.y_s - self.y_centre_s - self.slope * t_s) / self.y_scale_s]
    }
}

/// One point with its multipliers and their present direction.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// (v, y).
    x: [f64; 3],
    /// a and c = C − a; c on its own, for near the bound the difference has no digits.
    a: f64,
    c: f64,
    z: f64,
    s: f64,
    delta_a: f64,
    delta_z: f64,
    delta_s: f64,
}

impl Row {
    fn new(class: f64, x: [f64; 2], a: f64, c: f64) -> Self {
        let x = [class * x[0], class * x[1], class];
        Row { x, a, c: c - a, z: 0.0, s: 0.0, delta_a: 0.0, delta_z: 0.0, delta_s: 0.0 }
    }

    /// v·w + y·b.
    fn dot(&self, w: [f64; 3]) -> f64 {
        self.x[0] * w[0] + self.x[1] * w[1] + self.x[2] * w[2]
    }

    /// d.
    fn weight(&self) -> f64 {
        1.0 / (self.z / self.a + self.s / self.c)
    }

    /// g, and with it what Δz and Δs would be if Δa were 0.
    fn pull(&self, w: [f64; 3], tau: f64) -> (f64, f64, f64) {
        let residual = self.dot(w) - 1.0 - self.z + self.s;
        let z = (tau - self.delta_a * self.delta_z) / self.a - self.z;
        let s = (tau + self.delta_a * self.delta_s) / self.c - self.s;
        (z - s - residual, z, s)
    }

    /// a·z + c·s, this point's part of the duality gap.
    fn gap(&self) -> f64 {
        self.a * self.z + self.c * self.s
    }

    fn moved(mut self, step: f64) -> Row {
        self.a += step * self.delta_a;
        self.c -= step * self.delta_a;
        self.z += step * self.delta_z;
        self.s += step * self.delta_s;
        self
    }

    /// The longest step, up to 1, that leaves all four positive.
    fn room(&self) -> f64 {
        let until = |value: f64, delta: f64| if delta < 0.0 { -value / delta } else { 1.0 };
        let dual = until(self.a, self.delta_a).min(until(self.c, -self.delta_a));
        dual.min(until(self.z, self.delta_z)).min(until(self.s, self.delta_s))
    }
}

/// The dual problem and a point inside it.
struct Machine {
    rows: Vec<Row>,
    penalty: f64,
    count: f64,
    /// (w, b).
    w: [f64; 3],
}

impl Machine {
    /// a as large in one class as in the other, together halfway to C in the smaller; z and s make r = 0.
    fn new(axes: &Axes, upper: &[Point], lower: &[Point], penalty: f64) -> Self {
        let count = |points: &[Point]| points.iter().fold(0.0, |count, _| count + 1.0);
        let (above, below): (f64, f64) = (count(upper), count(lower));
        let half = 0.5 * penalty * above.min(below);
        let rows = upper.iter().map(|point| Row::new(1.0, axes.whiten(point), half / above, penalty));
        let rows = rows.chain(lower.iter().map(|point| Row::new(-1.0, axes.whiten(point), half / below, penalty)));
        let mut machine = Machine { rows: rows.collect(), penalty, count: above + below, w: [0.0; 3] };
        machine.set_normal();
        for row in &mut machine.rows {
            let excess = row.dot(machine.w) - 1.0;
            row.z = 1.0 + excess.max(0.0);
            row.s = row.z - excess;
        }
        machine
    }

    /// w = Σ a·v, as the variables have it.
    fn set_normal(&mut self) {
        let (mut w_t, mut w_y) = (0.0, 0.0);
        for row in &self.rows {
            w_t += row.a * row.x[0];
            w_y += row.a * row.x[1];
        }
        self.w = [w_t, w_y, self.w[2]];
    }

    fn solve(&mut self) -> Option<[f64; 3]> {
        for _ in 0..MAX_ITERATIONS {
            let gap = self.gap(0.0);
            if gap <= GAP * (1.0 + self.objective()) {
                return Some(self.w);
            }
            let normal = Normal::of(&self.rows);
            for row in &mut self.rows {
                (row.delta_a, row.delta_z, row.delta_s) = (0.0, 0.0, 0.0);
            }
            // How much of the gap the plain Newton step leaves says how much to stay off the bounds.
            self.direct(&normal, 0.0);
            let left = self.gap(self.room()) / gap;
            let delta_b = self.direct(&normal, left * left * left * gap / (2.0 * self.count));
            let step = TO_THE_BOUNDARY * self.room();
            for row in &mut self.rows {
                *row = row.moved(step);
            }
            self.w[2] += step * delta_b;
            self.set_normal();
        }
        None
    }

    /// Duality gap after a step.
    fn gap(&self, step: f64) -> f64 {
        self.rows.iter().map(|row| row.moved(step).gap()).sum()
    }

    fn room(&self) -> f64 {
        self.rows.iter().fold(1.0, |room, row| room.min(row.room()))
    }

    /// ½|w|² + C·Σ ξ.
    fn objective(&self) -> f64 {
        let slack: f64 = self.rows.iter().map(|row| (1.0 - row.dot(self.w)).max(0.0)).sum();
        0.5 * (self.w[0] * self.w[0] + self.w[1] * self.w[1]) + self.penalty * slack
    }

    /// Sets every row's direction towards a·z = c·s = τ, corrected by the direction it had, and returns Δb.
    fn direct(&mut self, normal: &Normal, tau: f64) -> f64 {
        let w = self.w;
        let (mut pulls, mut tilt, mut imbalance) = ([0.0; 2], 0.0, 0.0);
        for row in &self.rows {
            let pull = row.weight() * row.pull(w, tau).0;
            let u = normal.centred(row);
            pulls = [pulls[0] + pull * u[0], pulls[1] + pull * u[1]];
            tilt += pull * row.x[2];
            imbalance += row.x[2] * row.a;
        }
        let delta_w = normal.solve(pulls, tilt, imbalance);
        for row in &mut self.rows {
            let (pull, z, s) = row.pull(w, tau);
            row.delta_a = row.weight() * (pull - row.dot(delta_w));
            row.delta_z = z - row.z / row.a * row.delta_a;
            row.delta_s = s + row.s / row.c * row.delta_a;
        }
        delta_w[2]
    }
}

/// The equations for (Δw, Δb), factored.
struct Normal {
    /// D.
    weight: f64,
    /// m.
    centre: [f64; 2],
    /// I + Σ d·u·uᵀ = L·Lᵀ, as l₀₀², l₁₀·l₀₀ and l₁₁².
    matrix: [f64; 3],
}

impl Normal {
    fn of(rows: &[Row]) -> Self {
        let (mut weight, mut sums) = (0.0, [0.0; 2]);
        for row in rows {
            let weighted = row.weight() * row.x[2];
            weight += row.weight();
            sums = [sums[0] + weighted * row.x[0], sums[1] + weighted * row.x[1]];
        }
        let mut normal = Normal { weight, centre: sums.map(|sum| sum / weight), matrix: [1.0, 0.0, 1.0] };
        let [mut m00, mut m10, mut m11] = normal.matrix;
        for row in rows {
            let (d, u) = (row.weight(), normal.centred(row));
            m00 += d * u[0] * u[0];
            m10 += d * u[0] * u[1];
            m11 += d * u[1] * u[1];
        }
        // A matrix above I has no pivot below 1, whatever rounding says.
        normal.matrix = [m00, m10, (m11 - m10 / m00 * m10).max(1.0)];
        normal
    }

    /// u.
    fn centred(&self, row: &Row) -> [f64; 2] {
        [row.x[0] - row.x[2] * self.centre[0], row.x[1] - row.x[2] * self.centre[1]]
    }

    /// (Δw, Δb) of Σ d·g·u, Σ d·g·y and e.
    fn solve(&self, pulls: [f64; 2], tilt: f64, imbalance: f64) -> [f64; 3] {
        let ([m00, m10, pivot], m) = (self.matrix, self.centre);
        let right = [pulls[0] - imbalance * m[0], pulls[1] - imbalance * m[1]];
        let delta_w_y = (right[1] - m10 / m00 * right[0]) / pivot;
        let delta_w_t = (right[0] - m10 * delta_w_y) / m00;
        [delta_w_t, delta_w_y, (tilt + imbalance) / self.weight - m[0] * delta_w_t - m[1] * delta_w_y]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(points: &[(f64, f64)]) -> Vec<Point> {
        points.iter().map(|&(t_s, y_s)| Point { t_s, y_s }).collect()
    }

    fn line(upper: &[(f64, f64)], lower: &[(f64, f64)], c: f64) -> Option<Line> {
        svm_line(&points(upper), &points(lower), c)
    }

    #[test]
    fn middle_of_parallel_borders() {
        let upper = [(0.0, 11e-6), (1.0, 12e-6), (2.0, 13e-6), (1.0, 15e-6)];
        let lower = [(0.0, 1e-6), (1.0, 2e-6), (2.0, 3e-6), (1.0, -1e-6)];
        let found = line(&upper, &lower, 1e3).expect("a line");
        assert!((found.slope - 1e-6).abs() < 1e-12, "{found:?}");
        assert!((found.offset_s - 6e-6).abs() < 1e-12, "{found:?}");
        assert!((found.margin_s - 10e-6).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn without_an_answer_none() {
        let (up, down) = ([(0.0, 1e-6), (2.0, 1e-6)], [(0.0, -1e-6), (2.0, -1e-6)]);
        assert!(line(&up, &down, 10.0).is_some());
        assert_eq!(line(&[], &down, 10.0), None);
        assert_eq!(line(&up, &[], 10.0), None);
        assert_eq!(line(&down, &up, 10.0), None, "the upper cloud below");
        assert_eq!(line(&[(1.0, 1e-6)], &[(1.0, -1e-6)], 10.0), None, "one instant");
        assert_eq!(line(&[(0.0, 0.0), (1.0, 0.0)], &[(2.0, 0.0)], 10.0), None, "one line");
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(line(&[(bad, 1e-6), (2.0, 1e-6)], &down, 10.0), None);
            assert_eq!(line(&up, &[(0.0, bad), (2.0, 1e-6)], 10.0), None);
        }
        for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(line(&up, &down, c), None);
        }
    }
}
