//! Working under a lease: begin, be preempted, confirm, and an effect elsewhere at last.

use truebound_client::lease::Fence;

use super::{Event, InWork, Lab, Object};
use crate::lease::Break;
use crate::lease::judge::Action;
use crate::lease::rules::{Holding, word};

impl Lab<'_> {
    pub(super) fn begin(&mut self, object: usize, holder: usize, fence: u64) {
        let Object { holders, term_ns, .. } = &self.objects[object];
        let (seat, term_ns) = (&holders[holder], *term_ns);
        // One piece of work at a time, under the lease that this chain of work belongs to.
        let is_free = seat.work.is_none();
        let is_it = |holding: &&Holding| is_free && holding.fence() == Some(Fence(fence));
        let Some(holding) = seat.holding.filter(is_it) else { return };
        match self.call(seat.node, |_, desk| holding.begin(desk)) {
            Some(Ok(work)) => {
                self.works += 1;
                let (number, began) = (self.works, self.now());
                self.objects[object].holders[holder].work = Some(InWork { number, began, fence, work });
                let preempted_ns = self.preemption_ns(term_ns);
                self.agenda.push(began + preempted_ns, Event::Confirm { object, holder, work: number });
            }
            Some(Err(refused)) => self.tally.refuse("begin", word(&refused)),
            None => {}
        }
    }

    /// Between any two steps of a process: mostly nothing, sometimes more than a term.
    fn preemption_ns(&mut self, term_ns: i64) -> i64 {
        match self.rng.below(10) {
            0 => self.rng.between(1, 2 * term_ns),
            1 | 2 => self.rng.between(1, term_ns / 2),
            _ => (self.rng.exponential() * 50e3) as i64 + 1,
        }
    }

    pub(super) fn confirm(&mut self, object: usize, holder: usize, number: u64) {
        let Object { holders, term_ns, .. } = &mut self.objects[object];
        let (seat, term_ns) = (&mut holders[holder], *term_ns);
        let Some(InWork { began, fence, work, .. }) = seat.work.take_if(|work| work.number == number) else { return };
        let (node, grant) = (seat.node, seat.grant);
        let is_confirmed = match self.settings.fault {
            Some(Break::NoConfirm) => Some(Ok(())),
            _ => self.call(node, |_, desk| work.confirm(desk)),
        };
        let now = self.now();
        match is_confirmed {
            Some(Ok(())) => {
                self.tally.actions += 1;
                self.tell(object, || format!("{holder} acted by fence {fence} from {began}"));
                let action = Action { holder, grant, began, ended: now };
                let found = self.objects[object].judge.act(action);
                found.into_iter().for_each(|(rule, what)| self.violated(object, rule, &what));
                let at = now + self.preemption_ns(term_ns);
                self.agenda.push(at, Event::Effect { object, fence });
            }
            Some(Err(refused)) => {
                self.tally.unconfirmed += 1;
                self.tally.refuse("confirm", word(&refused));
            }
            None => {}
        }
        let at = self.after(term_ns as f64 * 1e-9 / 6.0);
        self.agenda.push(at, Event::Begin { object, holder, fence });
    }

    pub(super) fn effect(&mut self, object: usize, fence: u64) {
        let Object { gate, judge, .. } = &mut self.objects[object];
        if gate.admit(Fence(fence)).is_err() {
            self.tally.fenced_off += 1;
        } else if let Some((rule, what)) = judge.effect(fence) {
            self.violated(object, rule, &what);
        }
    }
}
