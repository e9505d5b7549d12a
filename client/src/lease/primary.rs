//! Primary leases: one of several replicas acts alone while enough of the others have promised not to elect a rival
//! (Oki and Liskov's viewstamped replication with Harp's leases, SOSP 1991; Lin et al., PacificA, 2008), with quorums
//! that need not be majorities (Howard et al., Flexible Paxos, OPODIS 2016).
//!
//! Of `n` members, a candidate needs the votes of `elect` of them, for a ballot number; it then acts while at least
//! `grant` of them have promised it an instant that is still to come. A member that promised votes for nobody else
//! before that instant has certainly passed. The constructor checks the one condition:
//!
//! ```text
//! grant + elect > n,   1 <= grant <= n,   1 <= elect <= n
//! ```
//! so every electing quorum has a member in common with every granting one. `grant` may be a minority: with n = 5 and
//! elect = 4, two promises serve, and an election waits for whoever gave them.
//!
//! **Proof.** Say P₁ with ballot b₁ and P₂ with b₂ both hold at true time τ. *If b₁ < b₂:* some member m voted for b₂
//! at v ≤ τ and has a promise to P₁ out that ends after τ. m made it before v, for after its vote it refuses ballots
//! below b₂. So at v it was out, to another, and m voted only because `earliest` had passed it: it ended before
//! v ≤ τ. *If b₁ = b₂:* either 2·elect > n, and a member voted for both, which it does not; or elect ≤ n/2, so
//! grant > n/2, and a member has promises to both out at τ, of which it made the second after the first had certainly
//! ended. Each is a contradiction. Crashes change nothing: a member stores its votes and promises before they leave.
//! As with [`clock`](super::clock), a promise holds for its holder by `latest` and for its member by `earliest`.
//!
//! The fence of everything the primary does is its ballot: by the same argument nobody holds with a ballot after *another*
//! held with a later one (the same holder may, with two ballots of its own: the gate tells them apart, and giving back the
//! later one does not free what the earlier one was promised). A primary that crashed, or stepped down, holds another election, with a new ballot:
//! one election, one [`Primary`]. How ballots are chosen, and state is brought up to date before acting, is the
//! application's protocol; [`Backup::vote`] is asked where that protocol would say yes.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

use super::{Fence, HolderId, Kind, Record, Refused, Store, expect_term, expiry_after, strict};
use crate::interval::Span;
use crate::source::TimeSource;

/// How many members there are, and how many it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    n: usize,
    grant: usize,
    elect: usize,
}

impl Quorums {
    /// `n` members, `grant` of whose promises make a lease, `elect` of whose votes make a primary. `None` unless
    /// `grant + elect > n` and each is between 1 and `n`: there could be two primaries, or none ever.
    #[must_use]
    pub const fn new(n: usize, grant: usize, elect: usize) -> Option<Self> {
        let is_possible = 1 <= grant && grant <= n && 1 <= elect && elect <= n;
        // grant + elect > n, without overflow.
        if is_possible && grant > n - elect { Some(Quorums { n, grant, elect }) } else { None }
    }
}

/// A member's vote. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Whose, below n.
    pub member: usize,
    /// For whom.
    pub candidate: HolderId,
    /// In which election.
    pub ballot: Fence,
}

/// A member's promise to vote for nobody else for a while. Plain data: it may arrive late or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Whose, below n.
    pub member: usize,
    /// To whom.
    pub holder: HolderId,
    /// In which election it was elected.
    pub ballot: Fence,
    /// Until this instant has certainly passed, TAI ns.
    pub expires_tai_ns: i64,
}

/// A member's side: votes and promises. The primary's own host has one too.
#[derive(Debug)]
pub struct Backup<S> {
    store: S,
    member: usize,
    /// The highest ballot it heard of, whose it is, and until when it is promised.
    promised: Record,
    /// Until when it is promised with ballots below the one that it heard of last: no release of that one ends it.
    earlier_until_ns: i64,
    longest_ns: i64,
}

impl<S: Store> Backup<S> {
    /// Member number `member`, from 0. It begins where it ended. Promises are for at most `longest_ns`.
    ///
    /// # Errors
    /// [`Refused::Store`] if it cannot be told what was promised before; [`Refused::Term`] if `longest_ns` is not
    /// above 0.
    pub fn open(member: usize, mut store: S, longest_ns: i64) -> Result<Self, Refused> {
        expect_term(longest_ns, i64::MAX)?;
        let promised = super::load(&mut store, Kind::Primary)?;
        Ok(Backup { store, member, promised, earlier_until_ns: promised.until_ns, longest_ns })
    }

    /// Votes for `candidate`. The same vote again is given again.
    ///
    /// # Errors
    /// [`Refused::Superseded`] if it heard of this ballot or a later one for another; [`Refused::Held`] while it is
    /// promised to another; [`Refused::Unavailable`], [`Refused::Store`].
    pub fn vote(&mut self, time: &impl TimeSource, candidate: HolderId, ballot: Fence) -> Result<Vote, Refused> {
        self.hear_of(time, candidate, ballot)?;
        if ballot > self.promised.fence {
            // To the same candidate what was promised stays promised.
            self.save(Record { fence: ballot, holder: candidate, ..self.promised })?;
        }
        Ok(Vote { member: self.member, candidate, ballot })
    }

    /// Promises `holder`, elected with `ballot` (by this member or by others), to vote for nobody else for at least
    /// `term_ns` from now, and never for less than it did.
    ///
    /// # Errors
    /// As [`Backup::vote`], and [`Refused::Term`].
    pub fn promise(
        &mut self,
        time: &impl TimeSource,
        holder: HolderId,
        ballot: Fence,
        term_ns: i64,
    ) -> Result<Promise, Refused> {
        let now = self.hear_of(time, holder, ballot)?;
        let until_ns = expiry_after(&now, term_ns, self.longest_ns)?.max(self.promised.until_ns);
        let record = Record { fence: ballot, holder, until_ns, ..self.promised };
        if record != self.promised {
            self.save(record)?;
        }
        Ok(Promise { member: self.member, holder, ballot, expires_tai_ns: until_ns })
    }

    /// Takes back what it promised to a primary that gave it up with [`Primary::release`]. Of an earlier ballot:
    /// nothing happens.
    ///
    /// # Errors
    /// [`Refused::Store`]: it is free now, but after a crash it may wait.
    pub fn release(&mut self, holder: HolderId, ballot: Fence) -> Result<(), Refused> {
        if ballot != self.promised.fence || holder != self.promised.holder {
            return Ok(());
        }
        self.promised.until_ns = self.earlier_until_ns;
        self.save(self.promised)
    }

    /// It has promised nothing that may still be relied on. Within an epoch that is stable until it promises, which it may
    /// do with the same ballot again: who acts on this votes for a ballot of its own first.
    ///
    /// # Errors
    /// [`Refused::Held`] while it has, [`Refused::Unavailable`] if that cannot be told.
    pub fn expect_free(&self, time: &impl TimeSource) -> Result<(), Refused> {
        self.expect_passed(strict(time)?.tai)
    }

    /// The store: what survives.
    pub fn into_store(self) -> S {
        self.store
    }

    /// May `holder` with `ballot` be listened to now?
    fn hear_of(
        &self,
        time: &impl TimeSource,
        holder: HolderId,
        ballot: Fence,
    ) -> Result<crate::interval::Interval, Refused> {
        let Record { fence, holder: heard, .. } = self.promised;
        // Ballot 0 is nobody's: it is what a new store has heard of.
        let is_known = ballot == fence && holder == heard && ballot > Fence(0);
        if ballot <= fence && !is_known {
            return Err(Refused::Superseded(fence));
        }
        let now = strict(time)?;
        if holder != heard {
            self.expect_passed(now.tai)?;
        }
        Ok(now)
    }

    fn expect_passed(&self, now: Span) -> Result<(), Refused> {
        let until_ns = self.promised.until_ns;
        if until_ns == Record::NOTHING || until_ns < now.earliest_ns {
            return Ok(());
        }
        Err(Refused::Held { holder: Some(self.promised.holder), until_tai_ns: Some(until_ns) })
    }

    fn save(&mut self, record: Record) -> Result<(), Refused> {
        self.store.save(&record).map_err(Refused::Store)?;
        if record.fence != self.promised.fence {
            self.earlier_until_ns = self.promised.until_ns;
        }
        self.promised = record;
        Ok(())
    }
}

/// The primary's side. `Sync`: many threads may work under it while one takes up promises.
#[derive(Debug)]
pub struct Primary {
    quorums: Quorums,
    holder: HolderId,
    ballot: Fence,
    /// By member: until when it is promised.
    expires_tai_ns: Mutex<Vec<i64>>,
}

impl Primary {
    /// `holder`, elected with `ballot` by these votes. It holds nothing yet: [`Primary::promised`].
    ///
    /// # Errors
    /// [`Refused::NotElected`] if fewer than `elect` distinct members voted for this candidate and ballot.
    pub fn new(quorums: Quorums, holder: HolderId, ballot: Fence, votes: &[Vote]) -> Result<Self, Refused> {
        let mut voted = vec![false; quorums.n];
        for vote in votes.iter().filter(|vote| vote.candidate == holder && vote.ballot == ballot) {
            if let Some(voted) = voted.get_mut(vote.member) {
                *voted = true;
            }
        }
        if voted.iter().filter(|&&voted| voted).count() < quorums.elect {
            return Err(Refused::NotElected);
        }
        let expires_tai_ns = Mutex::new(vec![Record::NOTHING; quorums.n]);
        Ok(Primary { quorums, holder, ballot, expires_tai_ns })
    }

    /// Takes up a promise, also for the work that goes on. An older one changes nothing.
    ///
    /// # Errors
    /// [`Refused::NotMine`]: to another, with another ballot, or from a member that there is not.
    pub fn promised(&self, promise: &Promise) -> Result<(), Refused> {
        let mut expires = self.expires_tai_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let known = expires.get_mut(promise.member);
        let Some(known) = known.filter(|_| promise.holder == self.holder && promise.ballot == self.ballot) else {
            return Err(Refused::NotMine);
        };
        *known = promise.expires_tai_ns.max(*known);
        Ok(())
    }

    /// Until when `grant` members are promised: the `grant`-th latest expiry, TAI ns. `None`: so many never were.
    #[must_use]
    pub fn expires_tai_ns(&self) -> Option<i64> {
        let mut expires = self.expires_tai_ns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        expires.sort_unstable_by(|a, b| b.cmp(a));
        expires.get(self.quorums.grant - 1).copied().filter(|&it| it != Record::NOTHING)
    }

    /// Before the protected work: is there any point in beginning?
    ///
    /// # Errors
    /// [`Refused::Expired`] if it cannot be proved to be held now; [`Refused::Unavailable`] without a bound.
    pub fn begin(&self, time: &impl TimeSource) -> Result<Guard<'_>, Refused> {
        let now = strict(time)?;
        self.expect_held(now.tai)?;
        Ok(Guard { primary: self, epoch: now.epoch })
    }

    /// What every effect carries that the work has elsewhere: the ballot.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.ballot
    }

    /// Steps down, for [`Backup::release`] at every member. No guard outlives it.
    #[must_use = "the members wait for it, or for what they promised"]
    pub fn release(self) -> (HolderId, Fence) {
        (self.holder, self.ballot)
    }

    fn expect_held(&self, now: Span) -> Result<(), Refused> {
        let is_held = self.expires_tai_ns().is_some_and(|expires| now.latest_ns < expires);
        if is_held { Ok(()) } else { Err(Refused::Expired) }
    }
}

/// Protected work that goes on. It proves nothing before [`Guard::confirm`].
#[derive(Debug)]
#[must_use = "work that is not confirmed proves nothing"]
pub struct Guard<'a> {
    primary: &'a Primary,
    epoch: u64,
}

impl Guard<'_> {
    /// **After** the work and **before** its result leaves: this was the primary from before [`Primary::begin`] until
    /// an instant in the span that this returns (TAI, ns). Nothing is said about later.
    ///
    /// # Errors
    /// [`Refused::Expired`], [`Refused::NewEpoch`], [`Refused::Unavailable`]: the result must not leave.
    pub fn confirm(self, time: &impl TimeSource) -> Result<Span, Refused> {
        let now = strict(time)?;
        if now.epoch != self.epoch {
            return Err(Refused::NewEpoch);
        }
        self.primary.expect_held(now.tai)?;
        Ok(now.tai)
    }
}
