//! The last few values, looked at as a distribution now and then.

/// The last `CAPACITY` values.
#[derive(Clone, Debug)]
pub(crate) struct Recent<const CAPACITY: usize> {
    values: Vec<f64>,
    next: usize,
    unseen: u32,
}

impl<const CAPACITY: usize> Recent<CAPACITY> {
    pub(crate) const fn new() -> Self {
        Recent { values: Vec::new(), next: 0, unseen: 0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// All of them, the oldest first.
    pub(crate) fn by_age(&self) -> impl Iterator<Item = f64> + '_ {
        let (newer, older) = self.values.split_at(self.next.min(self.values.len()));
        older.iter().chain(newer).copied()
    }

    /// Remembers a value. All of them in order, where there are `enough` and `every` of them came since the last look.
    pub(crate) fn push(&mut self, value: f64, enough: usize, every: u32) -> Option<Vec<f64>> {
        if self.values.len() < CAPACITY {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
        }
        self.next = (self.next + 1) % CAPACITY;
        self.unseen += 1;
        if self.unseen < every || self.values.len() < enough {
            return None;
        }
        self.unseen = 0;
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(sorted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_looks_are_rare() {
        let mut recent = Recent::<4>::new();
        let looks: Vec<Option<Vec<f64>>> = [5.0, 9.0, 1.0, 7.0, 3.0, 8.0].map(|value| recent.push(value, 3, 3)).into();
        assert_eq!(looks[2], Some(vec![1.0, 5.0, 9.0]));
        assert_eq!(looks[5], Some(vec![1.0, 3.0, 7.0, 8.0]));
        assert_eq!(looks.iter().flatten().count(), 2);
        assert_eq!(recent.by_age().collect::<Vec<_>>(), [1.0, 7.0, 3.0, 8.0]);
    }
}
