//! What a page said when: an agent works ahead of the world, and who reads the page must not see its future.

use std::collections::VecDeque;

use truebound_client::page::Publication;

/// Pages are kept for so long after the next one, ns: as far back as a lease's end is looked for.
const KEPT_NS: i64 = 4_000_000_000;

/// The pages of one host, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Pages(VecDeque<(i64, Option<Publication>)>);

impl Pages {
    /// What the page says at true time `t`.
    #[must_use]
    pub fn at(&self, t: i64) -> Option<&Publication> {
        self.0.iter().rev().find(|(from, _)| *from <= t).and_then(|(_, page)| page.as_ref())
    }

    pub(super) fn push(&mut self, from: i64, page: Option<Publication>) {
        while self.0.get(1).is_some_and(|(next, _)| *next < from - KEPT_NS) {
            self.0.pop_front();
        }
        self.0.push_back((from, page));
    }
}
