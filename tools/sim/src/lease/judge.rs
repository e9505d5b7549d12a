//! Who knows the truth judges: two holders at one true instant, a granter that thinks expired while a holder thinks held.
//!
//! A holder *acted* from the true instant at which `begin` succeeded to that of the reading by which `confirm` succeeded:
//! it says that it was the holder all the while. Actions of two holders of one object must not share an instant, and
//! none may end after the instant from which its granter thought that lease expired. Beside the actions, which come when
//! they come, holders are asked at the sharpest instants: all at once, and at the very first one at which the granter
//! thinks expired.

/// What was violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Two holders acted, or could have acted, at one true instant.
    TwoHolders,
    /// The granter thought expired what a holder thought held.
    FreeWhileHeld,
    /// An effect took place behind a later holder's.
    LateEffect,
}

/// The judge of one object.
#[derive(Debug)]
pub(super) struct Judge {
    /// When each holder's last action ended.
    acted: Vec<Option<i64>>,
    /// When the granter began to think each holder's leases expired: the last few instants, and up to which grant.
    freed: Vec<Vec<(i64, u64)>>,
    /// The greatest fence that had an effect.
    fence: u64,
}

/// Instants remembered for each holder: as far back as an action may begin.
const REMEMBERED: usize = 64;

/// What a holder claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) holder: usize,
    /// By which grant: they are counted over all holders.
    pub(super) grant: u64,
    /// From when on it was the holder.
    pub(super) began: i64,
    /// Until when.
    pub(super) ended: i64,
}

impl Judge {
    pub(super) fn new(holders: usize) -> Self {
        Judge { acted: vec![None; holders], freed: vec![Vec::new(); holders], fence: 0 }
    }

    /// The granter thinks, at true time `at`, that all is over that this holder had by grants up to `grant`.
    pub(super) fn free(&mut self, holder: usize, at: i64, grant: u64) {
        let freed = &mut self.freed[holder];
        if freed.last().is_none_or(|&(_, known)| known < grant) {
            if freed.len() == REMEMBERED {
                freed.remove(0);
            }
            freed.push((at, grant));
        }
    }

    /// A holder acted.
    pub(super) fn act(&mut self, action: Action) -> Vec<(Rule, String)> {
        let Action { holder, grant, began, ended } = action;
        let mut found = Vec::new();
        for (other, last) in self.acted.iter().enumerate() {
            if let Some(last) = last.filter(|&last| other != holder && last >= began) {
                found.push((Rule::TwoHolders, format!("{action:?}, holder {other} until {last}")));
            }
        }
        // By a grant that was over, or across an instant at which all was over.
        let is_over = |&&(at, known): &&(i64, u64)| ended > at && (began <= at || grant <= known);
        if let Some((at, known)) = self.freed[holder].iter().find(is_over) {
            found.push((Rule::FreeWhileHeld, format!("{action:?}, free at {at} of grants up to {known}")));
        }
        let last = &mut self.acted[holder];
        *last = Some(last.map_or(ended, |last| last.max(ended)));
        found
    }

    /// An effect with this fence was let through where it takes place.
    pub(super) fn effect(&mut self, fence: u64) -> Option<(Rule, String)> {
        let before = self.fence;
        self.fence = self.fence.max(fence);
        let what = || (Rule::LateEffect, format!("an effect with fence {fence} after one with {before}"));
        (fence < before).then(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(found: &[(Rule, String)]) -> Vec<Rule> {
        found.iter().map(|(rule, _)| *rule).collect()
    }

    fn action(holder: usize, grant: u64, began: i64, ended: i64) -> Action {
        Action { holder, grant, began, ended }
    }

    #[test]
    fn one_shared_instant_is_two_holders_and_the_next_is_not() {
        let mut judge = Judge::new(2);
        assert!(judge.act(action(0, 1, 10, 20)).is_empty());
        assert!(judge.act(action(0, 1, 5, 25)).is_empty(), "one holder may do many things at once");
        assert_eq!(rules(&judge.act(action(1, 2, 25, 30))), [Rule::TwoHolders]);
        let mut judge = Judge::new(2);
        judge.act(action(0, 1, 10, 25));
        assert!(judge.act(action(1, 2, 26, 30)).is_empty());
    }

    #[test]
    fn a_holder_may_act_until_the_granter_thinks_expired_and_by_a_later_grant_again() {
        let mut judge = Judge::new(1);
        judge.free(0, 20, 1);
        judge.free(0, 25, 1);
        assert!(judge.act(action(0, 1, 10, 20)).is_empty());
        assert_eq!(rules(&judge.act(action(0, 1, 10, 21))), [Rule::FreeWhileHeld]);
        assert_eq!(rules(&judge.act(action(0, 1, 21, 22))), [Rule::FreeWhileHeld]);
        assert!(judge.act(action(0, 2, 21, 30)).is_empty());
        assert_eq!(rules(&judge.act(action(0, 2, 20, 30))), [Rule::FreeWhileHeld], "not held all the while");
    }

    #[test]
    fn effects_never_go_back() {
        let mut judge = Judge::new(1);
        let seen = [1, 3, 3, 2].map(|fence| judge.effect(fence).map(|(rule, _)| rule));
        assert_eq!(seen, [None, None, None, Some(Rule::LateEffect)]);
    }
}
