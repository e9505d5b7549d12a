//! Asking everybody at the sharpest instants, and what the margin of a term cost.

use super::{Event, Granted, Lab};
use crate::lease::judge::Rule;
use crate::lease::rules::Outlook;
use crate::lease::source::Reading;
use crate::lease::{Certainty, Kind};
use crate::world::{MS, NS_PER_S};

/// How far ahead a granter's instant is looked for, ns, and how far back a holder's: within an oscillator's memory.
const AHEAD_NS: i64 = 2 * NS_PER_S;
const BACK_NS: i64 = NS_PER_S;

impl Lab<'_> {
    /// Asks the granter at the very instant at which it will think expired, if that can be foreseen.
    pub(super) fn plan_check(&mut self, object: usize) {
        let Some(granted) = self.objects[object].granted else { return };
        let at = self.foreseen(object, 0, granted.outlook);
        self.objects[object].granted = Some(Granted { foreseen: at, ..granted });
        self.agenda.push(at, Event::Check { object, member: 0, grant: granted.grant });
    }

    /// The first instant at which this member will think expired, or one at which to look again.
    pub(super) fn foreseen(&mut self, object: usize, member: usize, outlook: Option<Outlook>) -> i64 {
        let node = self.objects[object].members[member].node;
        let (now, term_ns) = (self.now(), self.objects[object].term_ns);
        let ahead_ns = (2 * term_ns + 50 * MS).min(AHEAD_NS);
        match outlook {
            Some(outlook) if outlook.is_free(&self.reading(node, now + ahead_ns)) => {
                self.first(node, now, now + ahead_ns, |at| outlook.is_free(at))
            }
            Some(_) => now + ahead_ns,
            None => now + term_ns / 8,
        }
    }

    /// The first instant in (`not_yet`, `already`] at which it is so on a host, if nothing befalls it until then.
    fn first(&mut self, node: usize, not_yet: i64, already: i64, is_so: impl Fn(&Reading) -> bool) -> i64 {
        let (mut before, mut after) = (not_yet, already);
        while after - before > 1 {
            let middle = before.midpoint(after);
            if is_so(&self.reading(node, middle)) { after = middle } else { before = middle }
        }
        after
    }

    pub(super) fn check(&mut self, object: usize, member: usize, grant: u64) {
        if self.objects[object].quorums.is_some() {
            return self.count_members(object);
        }
        let term_ns = self.objects[object].term_ns;
        let is_last = |granted: &Granted| granted.grant == grant && !granted.is_over;
        let Some(granted) = self.objects[object].granted.filter(is_last) else { return };
        if !self.has_granter(object, member) {
            return;
        }
        let (node, now) = (self.objects[object].members[member].node, self.now());
        let is_free = self.call(node, |lab, desk| {
            let granter = lab.objects[object].members[member].granter.as_mut();
            granter.is_some_and(|granter| granter.is_free(desk))
        });
        if is_free == Some(true) {
            self.objects[object].granted = Some(Granted { is_over: true, ..granted });
            let decided = self.now();
            self.tell(object, || format!("free after grant {grant}"));
            self.freed(object, decided, grant, None);
            self.measure(object, &granted, decided);
        } else if now < granted.at + 3 * term_ns + NS_PER_S {
            match granted.outlook {
                Some(outlook) if !outlook.is_free(&self.reading(node, now)) => self.plan_check(object),
                // It crashed since, or a save failed: it waits longer than it must.
                _ => self.agenda.push(now + (term_ns / 16).max(MS), Event::Check { object, member, grant }),
            }
        }
    }

    /// The granter thinks, at true time `at`, that all grants up to this one are over; but for one holder's own.
    pub(super) fn freed(&mut self, object: usize, at: i64, grant: u64, but: Option<usize>) {
        self.tally.probes += 1;
        for holder in (0..self.objects[object].holders.len()).filter(|&holder| Some(holder) != but) {
            self.objects[object].judge.free(holder, at, grant);
            if self.is_able(object, holder, at) {
                self.violated(object, Rule::FreeWhileHeld, &format!("holder {holder} could act when it was free"));
            }
        }
    }

    /// Could this holder act at true time `t`?
    pub(super) fn is_able(&mut self, object: usize, holder: usize, t: i64) -> bool {
        let seat = &self.objects[object].holders[holder];
        let (node, Some(held)) = (seat.node, seat.holding) else { return false };
        self.is_up(node, t) && held.is_able(&self.reading(node, t))
    }

    /// Who could act now? There must not be two.
    pub(super) fn probe(&mut self, object: usize) -> Option<usize> {
        let now = self.now();
        let holders = 0..self.objects[object].holders.len();
        let able: Vec<usize> = holders.filter(|&holder| self.is_able(object, holder, now)).collect();
        self.tally.probes += 1;
        if able.len() > 1 {
            self.violated(object, Rule::TwoHolders, &format!("holders {able:?} could act"));
        }
        able.first().copied()
    }

    pub(super) fn probe_at_random(&mut self, object: usize) {
        let next = self.after(self.objects[object].term_ns as f64 * 1e-9);
        self.agenda.push(next, Event::Probe { object });
        let able = self.probe(object);
        self.tally.instants += 1;
        self.tally.able += u64::from(able.is_some());
        if self.objects[object].quorums.is_some() {
            return self.count_members(object);
        }
        if let Some(holder) = able.filter(|_| self.thinks_free(object, 0)) {
            self.violated(object, Rule::FreeWhileHeld, &format!("free, and holder {holder} could act"));
        }
    }

    /// Does this member think now, that nothing is out?
    fn thinks_free(&mut self, object: usize, member: usize) -> bool {
        let (now, node) = (self.now(), self.objects[object].members[member].node);
        if !self.is_up(node, now) {
            return false;
        }
        let reading = self.reading(node, now);
        let granter = self.objects[object].members[member].granter.as_mut();
        granter.is_some_and(|granter| granter.is_free(&reading))
    }

    /// Who could act must be promised by enough members that do not think it over.
    fn count_members(&mut self, object: usize) {
        let Some(quorums) = self.objects[object].quorums else { return };
        self.tally.probes += 1;
        let free = (0..self.objects[object].members.len()).filter(|&member| self.thinks_free(object, member)).count();
        let bound = self.objects[object].members.len() - free;
        if bound >= quorums.1 {
            return;
        }
        let now = self.now();
        for holder in 0..self.objects[object].holders.len() {
            if self.is_able(object, holder, now) {
                let what = format!("holder {holder} could act, {free} members think that nothing is out");
                self.violated(object, Rule::FreeWhileHeld, &what);
            }
        }
    }

    /// A term ran out: how long before `freed_at` could its holder act for the last time?
    fn measure(&mut self, object: usize, granted: &Granted, freed_at: i64) {
        let term_ns = self.objects[object].term_ns;
        let granter = self.objects[object].members[0].node;
        let seat = &self.objects[object].holders[granted.holder];
        let (node, asked_at) = (seat.node, seat.asked_at);
        let from = (freed_at - BACK_NS).max(granted.at);
        // Only of a grant that arrived, and of a granter that was not disturbed.
        let is_plain = seat.grant == granted.grant && granted.foreseen == freed_at;
        let Some(held) = seat.holding.filter(|_| is_plain) else { return };
        if from >= freed_at || !self.is_able(object, granted.holder, from) {
            return;
        }
        let last = self.first(node, from, freed_at, |at| !held.is_able(at)) - 1;
        // What is not the clocks' doing: a rate lease counts from before the asking.
        let under_way_ns = if self.settings.kind == Kind::Rate { granted.at - asked_at } else { 0 };
        let epochs = [from, freed_at].map(|t| [granter, node].map(|node| self.reading(node, t).epoch()));
        if epochs[0] != epochs[1] {
            return;
        }
        let certainty = [granter, node].map(|node| self.reading(node, freed_at).certainty());
        let certainty = certainty.into_iter().max().unwrap_or(Certainty::None);
        let costs = self.tally.cost.entry(term_ns).or_default();
        costs[certainty as usize].add(freed_at - last - under_way_ns);
    }
}
