//! Heavy tails from roots alone: a Pareto variable is u^(−1/α), and for α = 3/2 and 2 that needs a cube root and a
//! square root, the same bits on every machine.

use crate::rng::Rng;

/// The cube root of x in (0, 1], by Newton's iteration from above, where it descends without overshooting.
pub(super) fn cube_root(x: f64) -> f64 {
    let mut y = 1.0;
    loop {
        let next = (2.0 * y + x / (y * y)) / 3.0;
        if next >= y {
            return y;
        }
        y = next;
    }
}

/// In (0, 1].
fn open_unit(rng: &mut Rng) -> f64 {
    1.0 - rng.unit()
}

/// Pareto with α = 3/2 and minimum 1: mean 3, no variance.
pub(super) fn pareto_three_halves(rng: &mut Rng) -> f64 {
    let root = cube_root(open_unit(rng));
    1.0 / (root * root)
}

/// Pareto with α = 2 and minimum 1: mean 2, no variance.
pub(super) fn pareto_two(rng: &mut Rng) -> f64 {
    1.0 / open_unit(rng).sqrt()
}

/// In place of a lognormal variable, which needs an exponential function: the product of two exponential ones, mean 1,
/// whose logarithm has a standard deviation of 1.8.
pub(super) fn product(rng: &mut Rng) -> f64 {
    rng.exponential() * rng.exponential()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_root_inverts_the_cube() {
        for i in 1..=1000 {
            let x = f64::from(i) / 1000.0;
            let cube = x * x * x;
            assert!((cube_root(cube) - x).abs() < 1e-15 + x * 1e-14, "{x}");
        }
        assert!((cube_root(1e-15) - 1e-5).abs() < 1e-18);
    }

    /// P(X > x) = x^(−α).
    #[test]
    fn tails_are_as_heavy_as_named() {
        let (mut rng, n) = (Rng::new(11), 200_000);
        let beyond = |draw: &dyn Fn(&mut Rng) -> f64, x: f64, rng: &mut Rng| {
            (0..n).filter(|_| draw(rng) > x).count() as f64 / f64::from(n)
        };
        for (draw, x, expected) in
            [(&pareto_three_halves as &dyn Fn(&mut Rng) -> f64, 4.0, 0.125), (&pareto_two, 4.0, 0.0625)]
        {
            let p = beyond(draw, x, &mut rng);
            assert!((p - expected).abs() < 0.05 * expected, "{p} for {expected}");
        }
        let mean: f64 = (0..n).map(|_| product(&mut rng)).sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
