//! One block of exchanges: per direction the few smallest one-way points, de-skewed by the present ω.
//!
//! With b = T − (start of the block), u = U − ω·b ≥ θ₀ and v = −(L − ω·b) ≥ −θ₀, so the least u and the least v are the
//! purest points of each direction, and u + v is the *strip*: the shortest round trip that the block can put together
//! from two different exchanges.

/// Points kept per direction: enough to veto a few that came too early.
const KEPT: usize = 8;

/// The smallest few values, ascending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smallest {
    values: [f64; KEPT],
    len: usize,
}

impl Smallest {
    pub(crate) const EMPTY: Smallest = Smallest { values: [f64::INFINITY; KEPT], len: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn insert(&mut self, value: f64) {
        let at = self.values[..self.len].partition_point(|&known| known <= value);
        if at == KEPT {
            return;
        }
        self.values.copy_within(at..KEPT - 1, at + 1);
        self.values[at] = value;
        self.len = (self.len + 1).min(KEPT);
    }

    fn known(&self) -> &[f64] {
        &self.values[..self.len]
    }

    /// Has the value at `index` two followers within `width`? Then it is no lone stamp that came too early.
    fn has_company(&self, index: usize, width: f64) -> bool {
        self.known().get(index + 2).is_some_and(|third| third - self.values[index] <= width)
    }

    fn gap_after(&self, index: usize) -> Option<f64> {
        self.known().get(index + 1).map(|next| next - self.values[index])
    }
}

/// What must not be believed at once: strips shorter than the shortest known path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Veto {
    /// Strips from here on are possible, s.
    pub(crate) least: f64,
    /// Strips below this are no glitch but another path, s.
    pub(crate) glitch_floor: f64,
    /// Stamps this close to each other confirm each other, s.
    pub(crate) company: f64,
}

/// The smallest pair (u, v) whose strip is not shorter than the known path. Pairs below it are skipped, the side with
/// the larger gap to its next value first, unless both sides have company.
pub(crate) fn purest(upper: &Smallest, lower: &Smallest, veto: &Veto) -> (f64, f64) {
    let (mut i, mut j) = (0, 0);
    loop {
        let pair = (upper.values[i], lower.values[j]);
        let strip = pair.0 + pair.1;
        if strip >= veto.least || strip < veto.glitch_floor {
            return pair;
        }
        let company = (upper.has_company(i, veto.company), lower.has_company(j, veto.company));
        if company == (true, true) {
            return pair;
        }
        // A side with company is skipped only when the other one cannot be.
        let rank = |gap: Option<f64>, has_company: bool| gap.map(|gap| if has_company { -0.5 } else { gap });
        match (rank(upper.gap_after(i), company.0), rank(lower.gap_after(j), company.1)) {
            (None, None) => return pair,
            (Some(_), None) => i += 1,
            (None, Some(_)) => j += 1,
            (Some(a), Some(b)) if a >= b => i += 1,
            _ => j += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smallest(values: &[f64]) -> Smallest {
        let mut smallest = Smallest::EMPTY;
        values.iter().for_each(|&value| smallest.insert(value));
        smallest
    }

    #[test]
    fn the_smallest_eight_are_kept_in_order() {
        let kept = smallest(&[9.0, 3.0, 7.0, 1.0, 8.0, 2.0, 6.0, 5.0, 4.0, 0.0, 99.0]);
        assert_eq!(kept.known(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }

    const VETO: Veto = Veto { least: 20.0, glitch_floor: 10.0, company: 0.5 };

    #[test]
    fn a_lone_early_stamp_is_skipped() {
        let (u, v) = purest(&smallest(&[8.0, 10.0, 10.1, 10.2]), &smallest(&[10.0, 10.1, 10.2]), &VETO);
        assert_eq!((u, v), (10.0, 10.0));
    }

    #[test]
    fn early_stamps_with_company_on_both_sides_are_a_shorter_path() {
        let (u, v) = purest(&smallest(&[9.0, 9.1, 9.2]), &smallest(&[9.0, 9.1, 9.2]), &VETO);
        assert_eq!((u, v), (9.0, 9.0));
    }

    #[test]
    fn a_strip_below_every_glitch_is_another_path() {
        let (u, v) = purest(&smallest(&[4.0, 10.0]), &smallest(&[4.0, 10.0]), &VETO);
        assert_eq!((u, v), (4.0, 4.0));
    }
}
