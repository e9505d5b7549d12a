//! Rounds of batches, and their medians.

use std::hint::black_box;
use std::time::Instant;

/// One way to read the time.
pub(crate) struct Contestant {
    name: &'static str,
    reads: u32,
    /// A batch of this many reads: ns each; `None` if one failed.
    batch: Box<dyn FnMut(u32) -> Option<f64>>,
}

impl Contestant {
    /// `reads` of `read` make a batch, of which each must be good. Results are computed to the last word and not copied.
    pub(crate) fn new<T>(
        name: &'static str,
        reads: u32,
        mut read: impl FnMut() -> T + 'static,
        is_good: impl Fn(&T) -> bool + 'static,
    ) -> Self {
        let batch = move |reads: u32| {
            let start = Instant::now();
            let mut good = 0;
            for _ in 0..reads {
                let result = read();
                good += u32::from(is_good(black_box(&result)));
            }
            let taken_ns = start.elapsed().as_secs_f64() * 1e9;
            (good == reads).then(|| taken_ns / f64::from(reads))
        };
        Contestant { name, reads, batch: Box::new(batch) }
    }
}

/// What a read of one contestant costs.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    pub(crate) median_ns: f64,
    pub(crate) p10_ns: f64,
    pub(crate) p90_ns: f64,
    /// Median over the rounds of its cost by that of the reference in the same round.
    pub(crate) ratio: f64,
}

/// All contestants in every round, each round beginning with another one.
pub(crate) fn run(mut all: Vec<Contestant>, rounds: usize, reference: &str) -> crate::Outcome<Vec<Cost>> {
    let mut costs = vec![Vec::with_capacity(rounds); all.len()];
    for round in 0..=rounds {
        for turn in 0..all.len() {
            let index = (round + turn) % all.len();
            let contestant = &mut all[index];
            let cost =
                (contestant.batch)(contestant.reads).ok_or_else(|| format!("{}: a read failed", contestant.name))?;
            // The first round only warms up.
            if round > 0 {
                costs[index].push(cost);
            }
        }
    }
    let reference = all.iter().position(|contestant| contestant.name == reference).ok_or("no reference")?;
    let reference = costs[reference].clone();
    let cost = |(contestant, costs): (&Contestant, &Vec<f64>)| Cost {
        name: contestant.name,
        median_ns: quantile(costs.clone(), 0.5),
        p10_ns: quantile(costs.clone(), 0.1),
        p90_ns: quantile(costs.clone(), 0.9),
        ratio: quantile(costs.iter().zip(&reference).map(|(cost, raw)| cost / raw).collect(), 0.5),
    };
    Ok(all.iter().zip(&costs).map(cost).collect())
}

/// The value below which this part of `values` lies; there is at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small index"
)]
fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
