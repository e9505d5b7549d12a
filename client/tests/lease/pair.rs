//! One granter, several holders, for both kinds of lease: never two holders at one true instant, never a granter that
//! thinks expired while a holder thinks held; and each way to get it wrong is found out.

use std::cell::Cell;
use std::rc::Rc;

use truebound_client::TimeSource;
use truebound_client::lease::{HolderId, Refused, clock, rate};

use crate::world::{Clock, Dice, Disk, Fault, stride};

/// What both kinds have in common.
pub trait Kind {
    type Granter;
    type Holder;
    type Lease: Copy;
    /// Of a term, and half the width of a clock's interval, ns.
    const TERM_NS: i64;
    const CLAIM_NS: i64;

    fn open(disk: Disk, reserve_ns: i64) -> Self::Granter;
    fn grant(g: &mut Self::Granter, t: &Clock, id: u64, nonce: u64, term_ns: i64) -> Result<Self::Lease, Refused>;
    fn renew(
        g: &mut Self::Granter,
        t: &Clock,
        l: &Self::Lease,
        nonce: u64,
        term_ns: i64,
    ) -> Result<Self::Lease, Refused>;
    fn take_back(g: &mut Self::Granter, l: &Self::Lease);
    fn is_free(g: &mut Self::Granter, t: &Clock) -> bool;
    fn holder(id: u64) -> Self::Holder;
    fn ask(h: &Self::Holder, t: &Clock, nonce: u64) -> bool;
    fn granted(h: &Self::Holder, l: &Self::Lease) -> bool;
    fn nonce(l: &Self::Lease) -> u64;
    fn id(l: &Self::Lease) -> u64;
    fn lease(h: &Self::Holder) -> Option<Self::Lease>;
    fn give_up(h: &mut Self::Holder) -> Option<Self::Lease>;
    fn holds(h: &Self::Holder, t: &impl TimeSource) -> bool;
}

pub struct ByClock;
pub struct ByRate;

macro_rules! common {
    ($kind:ident) => {
        type Granter = $kind::Granter<Disk>;
        type Holder = $kind::Holder;
        type Lease = $kind::Lease;

        fn grant(g: &mut Self::Granter, t: &Clock, id: u64, nonce: u64, term_ns: i64) -> Result<Self::Lease, Refused> {
            g.grant(t, HolderId(id), nonce, term_ns)
        }
        fn renew(
            g: &mut Self::Granter,
            t: &Clock,
            l: &Self::Lease,
            nonce: u64,
            term_ns: i64,
        ) -> Result<Self::Lease, Refused> {
            g.renew(t, l, nonce, term_ns)
        }
        fn take_back(g: &mut Self::Granter, l: &Self::Lease) {
            let _ = g.release(l);
        }
        fn is_free(g: &mut Self::Granter, t: &Clock) -> bool {
            g.expect_free(t).is_ok()
        }
        fn holder(id: u64) -> Self::Holder {
            $kind::Holder::new(HolderId(id))
        }
        fn granted(h: &Self::Holder, l: &Self::Lease) -> bool {
            h.granted(l).is_ok()
        }
        fn nonce(l: &Self::Lease) -> u64 {
            l.nonce
        }
        fn id(l: &Self::Lease) -> u64 {
            l.holder.0
        }
        fn lease(h: &Self::Holder) -> Option<Self::Lease> {
            h.lease()
        }
        fn give_up(h: &mut Self::Holder) -> Option<Self::Lease> {
            h.release()
        }
        fn holds(h: &Self::Holder, t: &impl TimeSource) -> bool {
            h.begin(t).is_ok_and(|guard| guard.confirm(t).is_ok())
        }
    };
}

impl Kind for ByClock {
    const TERM_NS: i64 = 1_000;
    const CLAIM_NS: i64 = 100;
    common!(clock);

    fn open(disk: Disk, reserve_ns: i64) -> Self::Granter {
        clock::Granter::open(disk, 2 * Self::TERM_NS).expect("a store that loads").reserving(reserve_ns)
    }
    fn ask(h: &Self::Holder, _: &Clock, nonce: u64) -> bool {
        h.ask(nonce);
        true
    }
}

impl Kind for ByRate {
    const TERM_NS: i64 = 1_000_000_000;
    const CLAIM_NS: i64 = 20_000_000;
    common!(rate);

    fn open(disk: Disk, _: i64) -> Self::Granter {
        rate::Granter::open(disk, 2 * Self::TERM_NS).expect("a store that loads")
    }
    fn ask(h: &Self::Holder, t: &Clock, nonce: u64) -> bool {
        h.ask(t, nonce).is_ok()
    }
}

/// What is wrong, on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    granter: Fault,
    holder: Fault,
    /// The granter's store is empty after a crash.
    forgets: bool,
    /// Every request has the same nonce.
    repeats_nonces: bool,
}

const NO_FAULT: Faults = Faults { granter: Fault::None, holder: Fault::None, forgets: false, repeats_nonces: false };

/// So that a world in which nothing happens is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    granted: u64,
    renewed: u64,
    held: u64,
    free: u64,
}

struct World<K: Kind> {
    truth: Rc<Cell<i64>>,
    dice: Dice,
    faults: Faults,
    disk: Disk,
    granter: K::Granter,
    granter_clock: Clock,
    holders: Vec<(K::Holder, Clock)>,
    nonce: u64,
    /// Answers and releases under way: late, lost, twice.
    answers: Vec<K::Lease>,
    released: Vec<K::Lease>,
    seen: Seen,
}

const HOLDERS: u64 = 3;

impl<K: Kind> World<K> {
    fn new(seed: u64, faults: Faults) -> Self {
        let truth = Rc::new(Cell::new(1_000_000));
        let disk = Disk::default();
        let clock = |fault| Clock::new(&truth, K::CLAIM_NS, fault);
        World {
            granter: K::open(disk.clone(), 0),
            granter_clock: clock(faults.granter),
            holders: (0..HOLDERS).map(|id| (K::holder(id), clock(faults.holder))).collect(),
            truth,
            dice: Dice(seed),
            faults,
            disk,
            nonce: 0,
            answers: Vec::new(),
            released: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// `Err`: what nobody may ever see.
    fn run(mut self, steps: u32) -> Result<Seen, String> {
        for step in 0..steps {
            self.step();
            let holding: Vec<usize> = (0..self.holders.len()).filter(|&i| self.holds(i)).collect();
            let is_free = K::is_free(&mut self.granter, &self.granter_clock);
            self.seen.held += u64::from(!holding.is_empty());
            self.seen.free += u64::from(is_free);
            if holding.len() > 1 || (is_free && !holding.is_empty()) {
                return Err(format!("step {step}: {holding:?} hold, granter thinks free: {is_free}"));
            }
        }
        Ok(self.seen)
    }

    /// A host that sleeps does nothing.
    fn holds(&self, i: usize) -> bool {
        let (holder, clock) = &self.holders[i];
        !clock.is_asleep() && K::holds(holder, clock)
    }

    fn step(&mut self) {
        let i = self.dice.index(self.holders.len());
        match self.dice.below(24) {
            0..8 => self.truth.set(self.truth.get() + stride(&mut self.dice, K::TERM_NS, K::CLAIM_NS)),
            8..12 if !self.holders[i].1.is_asleep() => self.request(i),
            12..16 => self.answer(),
            16 => self.give_up(i),
            17 => self.take_back(),
            18 => self.crash(i),
            19 => self.disk.fails.set(Some(self.dice.chance(2))),
            20 => self.clock(i).nod(),
            21 => self.unsettle(i),
            _ => {
                let node = self.dice.index(self.holders.len() + 1);
                let mut dice = Dice(self.dice.next());
                self.clock(node).jump(&mut dice);
            }
        }
        for node in 0..=self.holders.len() {
            self.clock(node).catch_up();
        }
    }

    /// The granter's is the last one; it never sleeps, which would only make it wait.
    fn clock(&self, node: usize) -> &Clock {
        self.holders.get(node).map_or(&self.granter_clock, |(_, clock)| clock)
    }

    fn request(&mut self, i: usize) {
        self.nonce += u64::from(!self.faults.repeats_nonces || self.nonce == 0);
        let (nonce, term_ns) = (self.nonce, 1 + self.dice.below(2 * K::TERM_NS));
        let (holder, clock) = &self.holders[i];
        if !K::ask(holder, clock, nonce) {
            return;
        }
        // The way there takes time, in which others may be heard.
        self.truth.set(self.truth.get() + self.dice.pick(&[0, 1, K::CLAIM_NS / 4]));
        let former = K::lease(holder).filter(|_| !self.dice.chance(4));
        let id = u64::try_from(i).expect("small");
        let reply = match former {
            Some(lease) => K::renew(&mut self.granter, &self.granter_clock, &lease, nonce, term_ns),
            None => K::grant(&mut self.granter, &self.granter_clock, id, nonce, term_ns),
        };
        if let Ok(lease) = reply {
            let count = if former.is_some() { &mut self.seen.renewed } else { &mut self.seen.granted };
            *count += 1;
            self.answers.push(lease);
        }
    }

    /// Any of those under way, perhaps not for the last time.
    fn answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let at = self.dice.index(self.answers.len());
        let lease = if self.dice.chance(4) { self.answers[at] } else { self.answers.swap_remove(at) };
        let (holder, _) = &self.holders[usize::try_from(K::id(&lease)).expect("small")];
        assert!(!K::granted(holder, &lease) || K::nonce(&lease) > 0);
    }

    fn give_up(&mut self, i: usize) {
        self.released.extend(K::give_up(&mut self.holders[i].0));
    }

    fn take_back(&mut self) {
        if self.released.is_empty() {
            return;
        }
        let at = self.dice.index(self.released.len());
        let lease = if self.dice.chance(4) { self.released[at] } else { self.released.swap_remove(at) };
        K::take_back(&mut self.granter, &lease);
    }

    /// Of the granter, or of a holder, whose id a new process takes over.
    fn crash(&mut self, i: usize) {
        if self.dice.chance(2) {
            self.holders[i].0 = K::holder(u64::try_from(i).expect("small"));
            return;
        }
        if self.faults.forgets {
            self.disk.forget();
        }
        let reserve_ns = self.dice.pick(&[0, K::TERM_NS]);
        self.granter = K::open(self.disk.clone(), reserve_ns);
    }

    /// An outage, or its end, or a new epoch, of a holder or of the granter.
    fn unsettle(&mut self, i: usize) {
        let node = if self.dice.chance(2) { i } else { self.holders.len() };
        let mut dice = Dice(self.dice.next());
        let clock = self.clock(node);
        if dice.chance(2) || clock.is_out.get() {
            clock.is_out.set(!clock.is_out.get());
        } else if !clock.is_asleep() {
            clock.new_epoch(&mut dice);
        }
    }
}

fn is_found<K: Kind>(faults: Faults) -> bool {
    (0..2_000).any(|seed| World::<K>::new(seed, faults).run(400).is_err())
}

fn expect_safe<K: Kind>() {
    let mut all = Seen::default();
    for seed in 0..500 {
        match World::<K>::new(seed, NO_FAULT).run(1_000) {
            Err(violation) => panic!("seed {seed}: {violation}"),
            Ok(Seen { granted, renewed, held, free }) => {
                all.granted += granted;
                all.renewed += renewed;
                all.held += held;
                all.free += free;
            }
        }
    }
    println!("{all:?}");
    assert!(all.granted > 4_000 && all.renewed > 500 && all.held > 10_000 && all.free > 10_000, "{all:?}");
}

#[test]
fn clock_leases_never_overlap_at_a_true_instant() {
    expect_safe::<ByClock>();
}

#[test]
fn rate_leases_never_overlap_at_a_true_instant() {
    expect_safe::<ByRate>();
}

#[test]
fn a_granter_that_frees_at_the_latest_instant_is_found_out() {
    assert!(is_found::<ByClock>(Faults { granter: Fault::LatestForEarliest, ..NO_FAULT }));
    assert!(is_found::<ByRate>(Faults { granter: Fault::LatestForEarliest, ..NO_FAULT }));
}

#[test]
fn a_holder_that_holds_by_the_earliest_instant_is_found_out() {
    assert!(is_found::<ByClock>(Faults { holder: Fault::EarliestForLatest, ..NO_FAULT }));
    assert!(is_found::<ByRate>(Faults { holder: Fault::EarliestForLatest, ..NO_FAULT }));
}

#[test]
fn a_clock_worse_than_it_claims_is_found_out() {
    for role in [
        Faults { holder: Fault::WorseThanClaimed, ..NO_FAULT },
        Faults { granter: Fault::WorseThanClaimed, ..NO_FAULT },
    ] {
        assert!(is_found::<ByClock>(role), "{role:?}");
        assert!(is_found::<ByRate>(role), "{role:?}");
    }
}

#[test]
fn a_granter_that_forgets_in_a_crash_is_found_out() {
    assert!(is_found::<ByClock>(Faults { forgets: true, ..NO_FAULT }));
    assert!(is_found::<ByRate>(Faults { forgets: true, ..NO_FAULT }));
}

/// Of clock leases an old answer promises nothing new, and what was given back is known by its fence.
#[test]
fn a_holder_that_uses_nonces_again_is_found_out() {
    assert!(is_found::<ByRate>(Faults { repeats_nonces: true, ..NO_FAULT }));
}

#[test]
fn ticks_that_hide_an_epoch_or_a_sleep_are_found_out() {
    assert!(is_found::<ByRate>(Faults { holder: Fault::BlindToEpochs, ..NO_FAULT }));
    assert!(is_found::<ByRate>(Faults { granter: Fault::BlindToEpochs, ..NO_FAULT }));
    assert!(is_found::<ByRate>(Faults { holder: Fault::BlindToSleep, ..NO_FAULT }));
}
