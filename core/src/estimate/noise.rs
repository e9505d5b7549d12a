//! Seeded noise for the tests of the estimate.

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

pub(crate) struct Noise(ChaCha12Rng);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(ChaCha12Rng::seed_from_u64(seed))
    }

    /// In (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (f64::from(self.0.next_u32()) + 0.5) / 4_294_967_296.0
    }

    /// Of mean 1: what a queue adds.
    #[expect(clippy::disallowed_methods, reason = "another last digit elsewhere makes no other test")]
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Nearly normal, of standard deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}
