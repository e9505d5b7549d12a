//! Asking, granting, taking up, giving back; and crashes, after which only the disk is left.

use truebound_client::lease::HolderId;

use super::{Event, Granted, Lab};
use crate::lease::rules::{Granter, Holding, Offer, Outlook, Request, Wish, word};
use crate::lease::{Break, Settings};

impl<'a> Lab<'a> {
    pub(super) fn ask(&mut self, object: usize, holder: usize) {
        let term_ns = self.objects[object].term_ns;
        let (id, holding, now) = (self.objects[object].holders[holder].id, self.holding(object, holder), self.now());
        let is_able = self.is_able(object, holder, now);
        let next = self.after(if is_able { 0.6 } else { 1.5 } * term_ns as f64 * 1e-9);
        self.agenda.push(next, Event::Ask { object, holder });
        // A lease in hand is renewed, but sometimes its holder has forgotten it, and sometimes it is a late one's turn.
        let is_renewal = self.rng.chance(if is_able { 0.9 } else { 0.4 });
        let wish = holding.filter(|_| is_renewal).map_or(Wish::New, |holding| holding.wish(id));
        let request = Request { holder: id, nonce: self.rng.next(), term_ns, wish };
        match (self.objects[object].quorums, wish) {
            (None, _) => self.question(object, holder, request),
            (Some(_), Wish::Promise(_)) => self.ask_all(object, holder, request),
            (Some(_), _) => self.stand(object, holder, request),
        }
    }

    /// What a process has for this object, for its whole life.
    fn holding(&mut self, object: usize, holder: usize) -> Option<&'a Holding> {
        let Settings { kind, fault, .. } = self.settings;
        let seat = &mut self.objects[object].holders[holder];
        if seat.holding.is_none() {
            seat.holding = Holding::new(kind, fault, seat.id).map(|holding| self.keeper.keep(holding));
        }
        seat.holding
    }

    fn question(&mut self, object: usize, holder: usize, request: Request) {
        let seat = &self.objects[object].holders[holder];
        let (node, Some(holding)) = (seat.node, seat.holding) else { return };
        let (asked_at, nonce) = (self.now(), request.nonce);
        match self.call(node, |_, desk| holding.ask(desk, nonce)) {
            Some(Ok(())) => {
                self.objects[object].holders[holder].asked = Some((nonce, asked_at));
                self.ask_all(object, holder, request);
            }
            Some(Err(refused)) => self.tally.refuse("ask", word(&refused)),
            None => {}
        }
    }

    /// The same request to everybody who grants.
    pub(super) fn ask_all(&mut self, object: usize, holder: usize, request: Request) {
        let from = self.objects[object].holders[holder].node;
        for member in 0..self.objects[object].members.len() {
            let to = self.objects[object].members[member].node;
            self.send(from, to, || Event::Request { object, member, holder, request });
        }
    }

    /// One process sends to another: the message arrives never, once or twice.
    fn send(&mut self, from: usize, to: usize, event: impl Fn() -> Event) {
        let now = self.now();
        for at in self.net.carry(now, from, to) {
            self.agenda.push(at, event());
        }
    }

    pub(super) fn request(&mut self, object: usize, member: usize, holder: usize, request: Request) {
        if !self.has_granter(object, member) {
            return;
        }
        let node = self.objects[object].members[member].node;
        let result = self.call(node, |lab, desk| {
            let granter = lab.objects[object].members[member].granter.as_mut();
            granter.map(|granter| granter.grant(desk, &request))
        });
        match result {
            Some(Some(Ok(offer))) => self.granted(object, member, holder, request, offer),
            Some(Some(Err(refused))) => {
                self.tally.refuse("grant", word(&refused));
                self.tell(object, || format!("{member} refuses {holder}: {refused}"));
            }
            Some(None) | None => {}
        }
    }

    /// A granter whose process could not start tries again.
    pub(super) fn has_granter(&mut self, object: usize, member: usize) -> bool {
        let member = &mut self.objects[object].members[member];
        if member.granter.is_none() {
            member.granter = Granter::open(&member.terms, &member.disk).ok();
        }
        member.granter.is_some()
    }

    fn granted(&mut self, object: usize, member: usize, holder: usize, request: Request, offer: Offer) {
        let now = self.now();
        self.tell(object, || format!("{member} grants to {holder}: {offer:?}"));
        self.objects[object].grants += 1;
        let grant = self.objects[object].grants;
        let from = self.objects[object].members[member].node;
        if self.objects[object].quorums.is_none() {
            self.tally.terms += 1;
            self.tally.renewals += u64::from(matches!(request.wish, Wish::Renewal(_)));
            let outlook = Outlook::new(&offer, &self.reading(from, now), self.settings.fault);
            let before = self.objects[object].granted;
            // Whoever grants to another thinks expired all that was granted before.
            if before.is_some_and(|before| before.holder != holder) {
                self.freed(object, now, grant - 1, Some(holder));
            }
            self.objects[object].granted =
                Some(Granted { holder, grant, at: now, outlook, foreseen: 0, is_over: false });
            self.plan_check(object);
        } else if matches!(offer, Offer::Promise(_)) {
            let outlook = Outlook::new(&offer, &self.reading(from, now), None);
            let at = self.foreseen(object, member, outlook);
            self.agenda.push(at, Event::Check { object, member, grant });
        }
        let to = self.objects[object].holders[holder].node;
        self.send(from, to, || Event::Answer { object, holder, request, offer, grant });
    }

    pub(super) fn answer(&mut self, object: usize, holder: usize, request: &Request, offer: Offer, grant: u64) {
        let seat = &mut self.objects[object].holders[holder];
        // To a process that is no more.
        if seat.id != request.holder {
            return;
        }
        match offer {
            Offer::Vote(vote) => return self.voted(object, holder, request, vote),
            Offer::Promise(_) => return self.promised(object, holder, request, &offer, grant),
            _ => {}
        }
        let Some(holding) = seat.holding else { return };
        match holding.granted(request, &offer) {
            Ok(()) => {
                let asked_at = seat.asked.filter(|(nonce, _)| *nonce == request.nonce).map_or(0, |(_, at)| at);
                (seat.asked_at, seat.grant) = (asked_at, grant);
                self.taken_up(object, holder, offer.fence().0);
            }
            Err(refused) => self.tally.refuse("take-up", word(&refused)),
        }
    }

    /// From now on it may act: so nobody else may.
    pub(super) fn taken_up(&mut self, object: usize, holder: usize, fence: u64) {
        self.tell(object, || format!("taken up by {holder}, fence {fence}"));
        self.probe(object);
        let term_s = self.objects[object].term_ns as f64 * 1e-9;
        let at = self.after(term_s / 6.0);
        self.agenda.push(at, Event::Begin { object, holder, fence });
        if self.rng.chance(0.1) {
            let at = self.after(term_s / 2.0);
            self.agenda.push(at, Event::Release { object, holder });
        }
    }

    /// No guard outlives the lease: what is in work is given up with it.
    pub(super) fn release(&mut self, object: usize, holder: usize) {
        let seat = &mut self.objects[object].holders[holder];
        let Some(offer) = seat.holding.and_then(|holding| holding.offer(seat.id)) else { return };
        // As it was before it asked for the first time.
        seat.forget();
        let (from, id) = (seat.node, seat.id);
        self.tell(object, || format!("{holder} gives back: {offer:?}"));
        for member in 0..self.objects[object].members.len() {
            let to = self.objects[object].members[member].node;
            self.send(from, to, || Event::Released { object, member, holder: id, offer });
        }
    }

    pub(super) fn released(&mut self, object: usize, member: usize, holder: HolderId, offer: &Offer) {
        if let Some(granter) = &mut self.objects[object].members[member].granter
            && let Err(refused) = granter.release(holder, offer)
        {
            self.tally.refuse("release", word(&refused));
        }
        self.tell(object, || format!("{member} hears that {holder} gave back fence {}", offer.fence()));
    }

    /// Nothing is left of its processes but what is on its disk.
    pub(super) fn crash(&mut self, node: usize, is_boot: bool) {
        let now = self.now();
        let reading = self.reading(node, now);
        for object in 0..self.objects.len() {
            let term_ns = self.objects[object].term_ns;
            for member in self.objects[object].members.iter_mut().filter(|member| member.node == node) {
                if self.settings.fault == Some(Break::NoPersist) {
                    member.disk.forget();
                }
                match &mut member.granter {
                    Some(Granter::Naive(granter)) if is_boot => granter.booted(&reading, term_ns),
                    Some(Granter::Naive(_)) => {}
                    granter => *granter = Granter::open(&member.terms, &member.disk).ok(),
                }
            }
            for seat in self.objects[object].holders.iter_mut().filter(|seat| seat.node == node) {
                seat.forget();
                // A process may go by the name of the one before it, which is gone.
                seat.id.0 += u64::from(self.rng.chance(0.5));
            }
            self.tell(object, || format!("crash on host {node}, of the host itself: {is_boot}"));
        }
    }
}
