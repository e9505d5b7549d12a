//! What holds if the operator's word does too (BOUND §5): boundary clocks, peer delays, whole corrections. The same vote
//! as for the guaranteed region, with the asserted constraints of those sources that have any; published beside the
//! guaranteed bound and never mixed into it. Where it contradicts the guaranteed one, there is none.

use truebound_client::bound::Bound;

use crate::association::Association;
use crate::bound::{Composer, Joined, RateCaps, join};
use crate::event::Event;
use crate::io::AssociationId;
use crate::region::Region;
use crate::region::polygon::{Limits, Verdict};
use crate::region::vote::{Vote, vote};
use crate::time::RawTime;

use super::{Regions, Voter};

/// The asserted bound, and what it rests on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asserted {
    /// What was published last; `None`: nothing is asserted, or not without contradiction.
    pub(crate) bound: Option<Bound>,
    /// Region of each association, asserted where it asserts something.
    pub(crate) regions: Regions,
}

/// What surrounds it.
pub(crate) struct Round<'a> {
    pub(crate) now: RawTime,
    pub(crate) limits: Limits,
    pub(crate) memory_ns: i64,
    pub(crate) composer: Composer,
    /// How many groups there are, and how many may lie.
    pub(crate) groups: usize,
    pub(crate) max_liars: usize,
    /// What was guaranteed: regions by association, and the bound.
    pub(crate) guaranteed: &'a Regions,
    pub(crate) bound: Option<Bound>,
}

impl Asserted {
    /// Everything that was asserted is forgotten.
    pub(crate) fn clear(&mut self) {
        *self = Asserted::default();
    }

    /// Works it out anew. `voices` has for each association the group that it speaks for, below `slots`; `None`: it only
    /// echoes us.
    pub(crate) fn update(
        &mut self,
        round: &Round<'_>,
        associations: &mut [Association],
        voices: impl Iterator<Item = Option<usize>>,
        slots: usize,
        events: &mut Vec<Event>,
    ) {
        self.regions.clear();
        if associations.iter().all(|association| !association.asserts()) {
            *self = Asserted::default();
            return;
        }
        let mut voters = vec![Voter::default(); slots];
        for (association, voice) in associations.iter_mut().zip(voices) {
            let Some(voter) = voice.and_then(|voice| voters.get_mut(voice)) else { continue };
            match region_of(association, round) {
                Asserts::Nothing => {}
                Asserts::Region(region) => {
                    voter.hears(region);
                    self.regions.push(association.id, region);
                }
                Asserts::Nonsense { by_ns } => {
                    // What was published rests on it.
                    self.bound = None;
                    association.forget_asserted();
                    events.push(Event::AssertedContradiction { association: association.id, by_ns });
                }
            }
        }
        let regions: Vec<Region> = voters.iter().filter_map(|voter| voter.region).collect();
        let heard = associations.iter().filter(|association| self.regions.get(association.id).is_some());
        let last_heard = heard.filter_map(|association| association.last_answer).max();
        self.bound = match vote(&regions, round.groups, round.max_liars) {
            Vote::Region(region) => self.joined(round, &region, last_heard.unwrap_or(round.now)),
            Vote::Unbounded => self.bound.and_then(|bound| bound.carried_to(round.now.as_ns()).ok()),
            Vote::Empty => None,
        };
    }

    /// Joined with what was asserted before, and with what is guaranteed now.
    fn joined(&self, round: &Round<'_>, region: &Region, last_heard: RawTime) -> Option<Bound> {
        let caps = RateCaps::of(&round.composer.oscillator);
        let mut bound = round.composer.fresh(round.now, region, caps);
        bound.void_after_ns = last_heard.plus_ns(round.composer.settings.max_holdover_ns).as_ns();
        let before = self.bound.and_then(|before| before.carried_to(round.now.as_ns()).ok());
        let guaranteed = round.bound.and_then(|bound| bound.carried_to(round.now.as_ns()).ok());
        if let Some(Joined::Inside(joined)) = before.map(|before| join(&bound, &before)) {
            bound = joined;
        }
        match guaranteed.map(|guaranteed| join(&bound, &guaranteed)) {
            None => Some(bound),
            Some(Joined::Inside(joined)) => Some(joined),
            Some(Joined::Disjoint) => None,
        }
    }

    pub(crate) fn region(&self, id: AssociationId) -> Option<&Region> {
        self.regions.get(id)
    }
}

/// What an association says.
enum Asserts {
    Nothing,
    Region(Region),
    /// Its constraints exclude each other.
    Nonsense {
        by_ns: i64,
    },
}

/// What the association asserts; where it asserts nothing beyond what it guarantees, that.
fn region_of(association: &mut Association, round: &Round<'_>) -> Asserts {
    match association.asserted_verdict(round.now, &round.limits, round.memory_ns) {
        Some(Verdict::Region(region)) => Asserts::Region(region),
        Some(Verdict::Empty { by_ns }) => Asserts::Nonsense { by_ns },
        Some(Verdict::Silent) => Asserts::Nothing,
        None => round.guaranteed.get(association.id).map_or(Asserts::Nothing, |&region| Asserts::Region(region)),
    }
}
