//! Primaries: a candidate is elected by votes, and is the primary while enough members have promised.

use truebound_client::lease::primary::{Primary, Vote};
use truebound_client::lease::{Fence, Refused};

use super::{Lab, Object};
use crate::lease::rules::{Holding, Offer, Request, Wish, word};

impl Lab<'_> {
    /// Stands for election, mostly with a ballot of its own: sometimes with that of the last candidate.
    pub(super) fn stand(&mut self, object: usize, holder: usize, request: Request) {
        let is_copied = self.rng.chance(0.1);
        let Object { ballot, holders, .. } = &mut self.objects[object];
        if !is_copied || ballot.1 == holder || ballot.0 == 0 {
            ballot.0 += 1;
        }
        // It was the candidate of its last ballot; to stand twice with one would be to forge its own past.
        *ballot = (ballot.0, holder);
        let fence = Fence(ballot.0);
        let seat = &mut holders[holder];
        if seat.stood >= fence.0 {
            return;
        }
        (seat.stood, seat.election) = (fence.0, Some((fence, Vec::new())));
        self.ask_all(object, holder, Request { wish: Wish::Vote(fence), ..request });
    }

    pub(super) fn voted(&mut self, object: usize, holder: usize, request: &Request, vote: Vote) {
        let Object { quorums, holders, .. } = &mut self.objects[object];
        let (seat, Some((quorums, _))) = (&mut holders[holder], *quorums) else { return };
        let Some((ballot, votes)) = seat.election.as_mut().filter(|(ballot, _)| *ballot == vote.ballot) else { return };
        votes.push(vote);
        match Primary::new(quorums, seat.id, *ballot, votes) {
            Ok(primary) => {
                let ballot = *ballot;
                (seat.election, seat.work) = (None, None);
                seat.holding = Some(self.keeper.keep(Holding::Primary(primary)));
                self.tell(object, || format!("{holder} is elected with ballot {ballot}"));
                self.ask_all(object, holder, Request { wish: Wish::Promise(ballot), ..*request });
            }
            Err(Refused::NotElected) => {}
            Err(refused) => self.tally.refuse("election", word(&refused)),
        }
    }

    pub(super) fn promised(&mut self, object: usize, holder: usize, request: &Request, offer: &Offer, grant: u64) {
        let seat = &mut self.objects[object].holders[holder];
        let Some(holding @ Holding::Primary(primary)) = seat.holding else { return };
        let before = primary.expires_tai_ns();
        if let Err(refused) = holding.granted(request, offer) {
            return self.tally.refuse("take-up", word(&refused));
        }
        if primary.expires_tai_ns() > before {
            self.tally.terms += 1;
            self.tally.renewals += u64::from(before.is_some());
            seat.grant = grant;
            self.taken_up(object, holder, offer.fence().0);
        }
    }
}
