//! Chance: one seed, many independent streams, the same numbers on every machine (no library logarithm, sine or
//! exponential is used, only what IEEE 754 defines exactly).

/// splitmix64: short, seedable, good enough for a world.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    /// Another stream, independent of this one, that does not depend on how much of this one was used: `label` names it.
    #[must_use]
    pub fn fork(&self, label: u64) -> Self {
        let mut child = Rng(self.0 ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93));
        child.next();
        Rng(child.next())
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "a generator is not an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In [low, high).
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.unit() * (high - low).max(1) as f64) as i64
    }

    /// In [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// In 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with mean 1, by von Neumann's comparisons.
    pub fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut run) = (first, 1);
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                (last, run) = (next, run + 1);
            }
            if run % 2 == 1 {
                return whole + first;
            }
            whole += 1.0;
        }
    }

    /// Normal with mean 0 and variance 1: the half-normal by von Neumann's rejection from an exponential x, accepted
    /// where another exponential y ≥ (x − 1)²/2, and a random sign.
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (self.exponential(), self.exponential());
            if y >= (x - 1.0) * (x - 1.0) / 2.0 {
                return if self.next() & 1 == 0 { x } else { -x };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_exponential_and_normal() {
        let (mut rng, n) = (Rng::new(7), 200_000);
        let exponential: f64 = (0..n).map(|_| rng.exponential()).sum::<f64>() / f64::from(n);
        let normals: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!((exponential - 1.0).abs() < 0.01, "{exponential}");
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
