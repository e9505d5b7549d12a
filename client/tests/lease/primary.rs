//! Several members, several candidates, every pair of quorums that the constructor allows: never two primaries at one
//! true instant.

use std::cell::Cell;
use std::rc::Rc;

use truebound_client::lease::primary::{Backup, Primary, Promise, Quorums, Vote};
use truebound_client::lease::{Fence, HolderId, MemoryStore, Refused};

use crate::edges::Shown;
use crate::world::{Clock, Dice, Disk, Fault, stride};

const TERM_NS: i64 = 1_000;
const CLAIM_NS: i64 = 100;
const CANDIDATES: usize = 3;

/// What is wrong, on purpose.
#[derive(Clone, Copy, Debug)]
struct Faults {
    member: Fault,
    primary: Fault,
    /// Members' stores are empty after a crash.
    forgets: bool,
    /// So many members more than the quorums were made for.
    strangers: usize,
}

const NO_FAULT: Faults = Faults { member: Fault::None, primary: Fault::None, forgets: false, strangers: 0 };

struct Member {
    backup: Backup<Disk>,
    disk: Disk,
    clock: Clock,
}

/// A process that wants to be primary.
struct Candidate {
    clock: Clock,
    ballot: Fence,
    votes: Vec<Vote>,
    primary: Option<Primary>,
}

struct World {
    truth: Rc<Cell<i64>>,
    dice: Dice,
    faults: Faults,
    quorums: Quorums,
    members: Vec<Member>,
    candidates: Vec<Candidate>,
    promises: Vec<Promise>,
    released: Vec<(usize, HolderId, Fence)>,
}

/// Instants at which somebody was primary, and how many there were.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    elected: u64,
    held: u64,
}

impl World {
    fn new(seed: u64, (n, grant, elect): (usize, usize, usize), faults: Faults) -> Self {
        let truth = Rc::new(Cell::new(1_000_000));
        let member = |number| {
            let disk = Disk::default();
            let backup = Backup::open(number, disk.clone(), 2 * TERM_NS).expect("a store that loads");
            Member { backup, disk, clock: Clock::new(&truth, CLAIM_NS, faults.member) }
        };
        let candidate = |_| Candidate {
            clock: Clock::new(&truth, CLAIM_NS, faults.primary),
            ballot: Fence(0),
            votes: Vec::new(),
            primary: None,
        };
        World {
            members: (0..n + faults.strangers).map(member).collect(),
            candidates: (0..CANDIDATES).map(candidate).collect(),
            quorums: Quorums::new(n, grant, elect).expect("they intersect"),
            dice: Dice(seed),
            faults,
            promises: Vec::new(),
            released: Vec::new(),
            truth,
        }
    }

    fn run(mut self, steps: u32) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for step in 0..steps {
            seen.elected += u64::from(self.step());
            let holds = |candidate: &&Candidate| {
                let primary = candidate.primary.as_ref();
                let guard = primary.and_then(|primary| primary.begin(&candidate.clock).ok());
                guard.is_some_and(|guard| guard.confirm(&candidate.clock).is_ok())
            };
            let primaries = self.candidates.iter().filter(holds).count();
            seen.held += u64::from(primaries > 0);
            if primaries > 1 {
                return Err(format!("step {step}: {primaries} primaries"));
            }
        }
        Ok(seen)
    }

    /// Returns whether somebody was elected.
    fn step(&mut self) -> bool {
        let member = self.dice.index(self.members.len());
        let candidate = self.dice.index(CANDIDATES);
        match self.dice.below(20) {
            0..5 => self.truth.set(self.truth.get() + stride(&mut self.dice, TERM_NS, CLAIM_NS)),
            5..8 => return self.stand(candidate),
            8 => return self.vote(member, candidate),
            9..13 => self.promises(candidate),
            13..17 => self.hear(),
            17 if self.dice.chance(2) => self.step_down(candidate),
            17 => self.crash(member, candidate),
            18 => self.members[member].disk.fails.set(Some(self.dice.chance(2))),
            _ => {
                let mut dice = Dice(self.dice.next());
                self.members[member].clock.jump(&mut dice);
                self.candidates[candidate].clock.jump(&mut dice);
                if dice.chance(8) {
                    self.candidates[candidate].clock.new_epoch(&mut dice);
                }
            }
        }
        false
    }

    /// For election, with a ballot that may be somebody else's too.
    fn stand(&mut self, candidate: usize) -> bool {
        if self.candidates[candidate].primary.is_some() && !self.dice.chance(8) {
            return false;
        }
        let highest = self.candidates.iter().map(|it| it.ballot.0).max().unwrap_or(0);
        let ballot = Fence(highest.max(self.candidates[candidate].ballot.0 + 1) + u64::from(self.dice.chance(2)));
        let it = &mut self.candidates[candidate];
        if ballot > it.ballot {
            (it.ballot, it.votes, it.primary) = (ballot, Vec::new(), None);
        }
        // Most members hear of it.
        let asked: Vec<usize> = (0..self.members.len()).filter(|_| !self.dice.chance(8)).collect();
        asked.into_iter().filter(|&member| self.vote(member, candidate)).count() > 0
    }

    fn vote(&mut self, member: usize, candidate: usize) -> bool {
        let n = self.quorums_n();
        let (id, it) = (id(candidate), &mut self.candidates[candidate]);
        let Member { backup, clock, .. } = &mut self.members[member];
        let Ok(vote) = backup.vote(clock, id, it.ballot) else { return false };
        // Every member calls itself one of the n, the strangers too.
        it.votes.push(Vote { member: member % n, ..vote });
        if it.primary.is_none() {
            it.primary = Primary::new(self.quorums, id, it.ballot, &it.votes).ok();
            return it.primary.is_some();
        }
        false
    }

    fn quorums_n(&self) -> usize {
        self.members.len() - self.faults.strangers
    }

    fn promises(&mut self, candidate: usize) {
        for member in 0..self.members.len() {
            if !self.dice.chance(8) {
                self.promise(member, candidate);
            }
        }
    }

    fn promise(&mut self, member: usize, candidate: usize) {
        let it = &self.candidates[candidate];
        if it.primary.is_none() {
            return;
        }
        let Member { backup, clock, .. } = &mut self.members[member];
        let term_ns = 1 + self.dice.below(2 * TERM_NS);
        if let Ok(promise) = backup.promise(clock, id(candidate), it.ballot, term_ns) {
            let member = member % self.quorums_n();
            self.promises.push(Promise { member, ..promise });
        }
    }

    /// Late, out of order, twice, or never.
    fn hear(&mut self) {
        for _ in 0..self.dice.index(2 * self.members.len()).min(self.promises.len()) {
            let at = self.dice.index(self.promises.len());
            let promise = if self.dice.chance(8) { self.promises[at] } else { self.promises.swap_remove(at) };
            if let Some(primary) = &self.candidates[usize::try_from(promise.holder.0).expect("small")].primary {
                let _ = primary.promised(&promise);
            }
        }
        let released = self.released.pop().filter(|_| self.dice.chance(2));
        if let Some((member, holder, ballot)) = released {
            let _ = self.members[member].backup.release(holder, ballot);
        }
    }

    fn step_down(&mut self, candidate: usize) {
        let it = &mut self.candidates[candidate];
        if let Some((holder, ballot)) = it.primary.take().map(Primary::release) {
            // One election, one primary.
            it.votes.clear();
            it.ballot = Fence(it.ballot.0 + 1);
            self.released.extend((0..self.members.len()).map(|member| (member, holder, ballot)));
        }
    }

    fn crash(&mut self, member: usize, candidate: usize) {
        if self.dice.chance(2) {
            let it = &mut self.candidates[candidate];
            (it.primary, it.votes, it.ballot) = (None, Vec::new(), Fence(it.ballot.0 + 1));
            return;
        }
        let it = &mut self.members[member];
        if self.faults.forgets {
            it.disk.forget();
        }
        it.backup = Backup::open(member, it.disk.clone(), 2 * TERM_NS).expect("a store that loads");
    }
}

fn id(candidate: usize) -> HolderId {
    HolderId(candidate as u64)
}

fn allowed(n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let pairs = (1..=n).flat_map(move |grant| (1..=n).map(move |elect| (n, grant, elect)));
    pairs.filter(|&(n, grant, elect)| Quorums::new(n, grant, elect).is_some())
}

fn is_found(faults: Faults) -> bool {
    (0..4_000).any(|seed| World::new(seed, (3, 2, 2), faults).run(300).is_err())
}

#[test]
fn quorums_must_intersect_and_be_possible() {
    assert!(Quorums::new(5, 2, 4).is_some() && Quorums::new(5, 2, 3).is_none());
    assert!(Quorums::new(1, 1, 1).is_some() && Quorums::new(0, 0, 0).is_none());
    assert!(Quorums::new(3, 0, 4).is_none() && Quorums::new(3, 4, 0).is_none());
    assert!(Quorums::new(3, 1, 4).is_none() && Quorums::new(3, 3, 0).is_none());
    assert!(Quorums::new(usize::MAX, usize::MAX, usize::MAX).is_some());
    // Either quorum is a majority, which is what the proof needs when ballots are equal.
    assert!((1..=7).flat_map(allowed).all(|(n, grant, elect)| 2 * grant > n || 2 * elect > n));
}

#[test]
fn there_are_never_two_primaries_at_a_true_instant() {
    for quorums in (1..=5).flat_map(allowed) {
        let mut all = Seen::default();
        for seed in 0..30 {
            match World::new(seed, quorums, NO_FAULT).run(2_000) {
                Err(violation) => panic!("seed {seed}, n grant elect {quorums:?}: {violation}"),
                Ok(Seen { elected, held }) => {
                    all.elected += elected;
                    all.held += held;
                }
            }
        }
        assert!(all.elected > 20 && all.held > 20, "{quorums:?}: {all:?}");
    }
}

#[test]
fn members_that_forget_in_a_crash_are_found_out() {
    assert!(is_found(Faults { forgets: true, ..NO_FAULT }));
}

#[test]
fn clocks_that_lie_are_found_out() {
    assert!(is_found(Faults { member: Fault::LatestForEarliest, ..NO_FAULT }));
    assert!(is_found(Faults { primary: Fault::EarliestForLatest, ..NO_FAULT }));
    assert!(is_found(Faults { member: Fault::WorseThanClaimed, primary: Fault::WorseThanClaimed, ..NO_FAULT }));
}

#[test]
fn quorums_that_do_not_intersect_are_found_out() {
    assert!(is_found(Faults { strangers: 2, ..NO_FAULT }));
}

#[test]
fn one_member_does_not_count_twice() {
    let vote = |member| Vote { member, candidate: HolderId(1), ballot: Fence(1) };
    let quorums = Quorums::new(3, 2, 2).expect("they intersect");
    let elected = |votes: &[Vote]| Primary::new(quorums, HolderId(1), Fence(1), votes);
    assert!(elected(&[vote(1), vote(1)]).is_err() && elected(&[vote(1), vote(3)]).is_err());
    let primary = elected(&[vote(1), vote(2)]).expect("two of three");
    let promise = Promise { member: 0, holder: HolderId(1), ballot: Fence(1), expires_tai_ns: 50 };
    primary.promised(&promise).expect("its own");
    primary.promised(&promise).expect("again");
    assert_eq!(primary.expires_tai_ns(), None);
    primary.promised(&Promise { member: 2, expires_tai_ns: 40, ..promise }).expect("its own");
    primary.promised(&Promise { member: 1, expires_tai_ns: 30, ..promise }).expect("its own");
    assert_eq!(primary.expires_tai_ns(), Some(40), "the second latest");
    primary.promised(&Promise { member: 2, expires_tai_ns: 20, ..promise }).expect("late, and nothing new");
    assert_eq!(primary.expires_tai_ns(), Some(40));
    for wrong in [
        Promise { member: 3, ..promise },
        Promise { ballot: Fence(2), ..promise },
        Promise { holder: HolderId(2), ..promise },
    ] {
        assert!(primary.promised(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_primary_is_one_until_latest_and_its_members_are_free_after_earliest() {
    let (time, me, ballot, rival) = (Shown::new(), HolderId(1), Fence(1), HolderId(2));
    let mut backup = Backup::open(0, MemoryStore::default(), TERM_NS).expect("a new store");
    let votes = [backup.vote(&time, me, ballot).expect("promised to nobody")];
    let quorums = Quorums::new(1, 1, 1).expect("they intersect");
    let primary = Primary::new(quorums, me, ballot, &votes).expect("elected");
    assert!(matches!(primary.begin(&time), Err(Refused::Expired)), "nothing is promised yet");
    primary.promised(&backup.promise(&time, me, ballot, 500).expect("elected")).expect("its own");
    time.show(0, 1_499); // latest was 1000, and 500 ns of term.
    primary.begin(&time).expect("held").confirm(&time).expect("held");
    let guard = primary.begin(&time).expect("held");
    time.epoch.set(2);
    assert!(matches!(guard.confirm(&time), Err(Refused::NewEpoch)));
    let guard = primary.begin(&time).expect("held");
    time.show(0, 1_500);
    assert!(matches!(guard.confirm(&time), Err(Refused::Expired)));
    assert!(matches!(primary.begin(&time), Err(Refused::Expired)));
    time.show(1_500, 1_600);
    assert!(matches!(backup.vote(&time, rival, Fence(2)), Err(Refused::Held { holder: Some(HolderId(1)), .. })));
    time.show(1_501, 1_600);
    assert!(matches!(backup.vote(&time, rival, ballot), Err(Refused::Superseded(Fence(1)))), "one vote per ballot");
    backup.vote(&time, rival, Fence(2)).expect("it has passed");
    assert!(matches!(backup.promise(&time, me, ballot, 500), Err(Refused::Superseded(Fence(2)))));
}
