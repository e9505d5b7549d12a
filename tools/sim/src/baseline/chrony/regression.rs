//! A weighted line through samples whose oldest are dropped until the residuals look random: the number of runs of equal
//! sign is not improbably small. Older samples outside the line's window take part in that test.

/// y = level + slope · x, with standard errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) level: f64,
    pub(super) slope: f64,
    pub(super) level_error: f64,
    pub(super) slope_error: f64,
    pub(super) variance: f64,
    pub(super) freedom: usize,
}

impl Line {
    pub(super) fn at(&self, x: f64) -> f64 {
        self.level + self.slope * x
    }
}

/// A window of this many is not cut.
const SAMPLES_MIN: usize = 6;
/// Residuals of fewer than this many are always random enough.
const RUNS_MIN: usize = 8;
/// The line through the samples from `older` on, and how many of these were dropped. `weights` are inverse weights, one
/// for each sample from `older` on.
pub(super) fn regress(x: &[f64], y: &[f64], weights: &[f64], older: usize) -> Option<(Line, usize)> {
    let n = weights.len();
    if n < 3 {
        return None;
    }
    let mut start = 0;
    loop {
        let (line, normalised) = fit(&x[older + start..], &y[older + start..], &weights[start..]);
        let tested = (2 * (n - start)).min(n + older);
        let first = n + older - tested;
        let residuals = x[first..].iter().zip(&y[first..]).map(|(x, y)| y - line.at(*x));
        if runs(residuals) > critical_runs(tested) || n - start <= SAMPLES_MIN {
            return Some((normalised, start));
        }
        start += 1;
    }
}

/// The line, and the same with its errors worked out.
fn fit(x: &[f64], y: &[f64], weights: &[f64]) -> (Line, Line) {
    let sum = |of: &dyn Fn(usize) -> f64| (0..weights.len()).map(|i| of(i) / weights[i]).sum::<f64>();
    let total = sum(&|_| 1.0);
    let middle = sum(&|i| x[i]) / total;
    let spread = sum(&|i| (x[i] - middle) * (x[i] - middle));
    let slope = sum(&|i| y[i] * (x[i] - middle)) / spread;
    let level = sum(&|i| y[i]) / total - slope * middle;
    let bare = Line { level, slope, level_error: 0.0, slope_error: 0.0, variance: 0.0, freedom: weights.len() - 2 };
    let residual = |i: usize| y[i] - bare.at(x[i]);
    let variance = sum(&|i| residual(i) * residual(i)) / bare.freedom as f64;
    let slope_error = (variance / spread).sqrt();
    let lever = middle * slope_error;
    let level_error = (variance / total + lever * lever).sqrt();
    (bare, Line { level_error, slope_error, variance: variance * weights.len() as f64 / total, ..bare })
}

fn runs(residuals: impl Iterator<Item = f64>) -> usize {
    let signs: Vec<i8> = residuals
        .map(|r| {
            if r > 0.0 {
                1
            } else if r < 0.0 {
                -1
            } else {
                0
            }
        })
        .collect();
    1 + signs.windows(2).filter(|pair| pair[0] * pair[1] != 1).count()
}

/// The largest number of runs r such that fewer than r among n random signs are improbable. The number of changes of
/// sign is binomial. Improbable is nominally 5 %; the table in use is that of 4.915 %, and at 120 residuals of 4.93 %.
fn critical_runs(n: usize) -> usize {
    if n < RUNS_MIN {
        return 0;
    }
    let mut term = (1..n).fold(1.0, |power, _| power / 2.0);
    let (mut sum, mut changes) = (term, 0);
    let improbable = if n == 120 { 0.0493 } else { 0.04915 };
    while sum <= improbable {
        changes += 1;
        term *= (n - changes) as f64 / changes as f64;
        sum += term;
    }
    changes + 1
}

/// The coefficient of `b` in y ≈ c + s·a + k·b by least squares, None where a and b are too much alike.
pub(super) fn slope_on_second(a: &[f64], b: &[f64], y: &[f64]) -> Option<f64> {
    let scale_a = (-a.first()?).max(1e-9);
    let scale_b = b.iter().copied().fold(1e-12, f64::max);
    let newest = *y.last()?;
    let (mut m, mut v) = ([[0.0; 3]; 3], [0.0; 3]);
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        let row = [1.0, a / scale_a, b / scale_b];
        for i in 0..3 {
            v[i] += row[i] * (y - newest);
            (0..3).for_each(|j| m[i][j] += row[i] * row[j]);
        }
    }
    let determinant = |m: &[[f64; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(&m);
    (0..3).for_each(|i| m[i][2] = v[i]);
    (whole.abs() > 1e-12).then(|| determinant(&m) / whole / scale_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_runs_are_those_in_the_tables() {
        for (n, expected) in [
            (7, 0),
            (8, 2),
            (9, 3),
            (11, 3),
            (12, 4),
            (31, 11),
            (54, 21),
            (64, 26),
            (100, 42),
            (107, 46),
            (120, 52),
            (129, 56),
        ] {
            assert_eq!(critical_runs(n), expected, "{n} residuals");
        }
    }

    #[test]
    fn what_is_no_line_at_all_is_cut_to_the_least() {
        let x: Vec<f64> = (-39..=0).map(f64::from).collect();
        let y: Vec<f64> = x.iter().map(|x| x * x).collect();
        assert_eq!(regress(&x, &y, &[1.0; 40], 0).map(|(_, start)| start), Some(40 - SAMPLES_MIN));
        assert!(regress(&x[..2], &y[..2], &[1.0; 2], 0).is_none());
    }

    #[test]
    fn a_bend_cuts_the_old_samples() {
        let x: Vec<f64> = (-39..=0).map(f64::from).collect();
        let noise = |i: usize| if i.is_multiple_of(2) { 1e-3 } else { -1e-3 };
        let y: Vec<f64> = x.iter().enumerate().map(|(i, x)| (x + 20.0).max(0.0) + noise(i)).collect();
        let (line, start) = regress(&x, &y, &[1.0; 40], 0).expect("enough samples");
        assert!(start >= 10 && (line.slope - 1.0).abs() < 0.1, "{line:?} from {start}");
        let (line, start) = regress(&x[20..], &y[20..], &[1.0; 20], 0).expect("enough samples");
        assert!(start == 0 && (line.slope - 1.0).abs() < 1e-3, "{line:?} from {start}");
    }
}
