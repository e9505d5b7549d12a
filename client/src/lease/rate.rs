//! Rate leases: the promise ends a term after it was made, and nobody needs to know what time it is (the Timer Rule:
//! who promised waits longer than who was promised).
//!
//! ```text
//! holder                                          granter
//! Holder::ask takes a tick  ──── id, nonce ─────► grant: term stored; then takes a tick
//! Holder::granted           ◄────── lease ──────  free once least(since its tick) >= term
//! begin, work, confirm: most(since its tick) < term; then reply
//! ```
//! The proof is in [`lease`](super). Elapsed time is [`Tick::since`]: of CLOCK_MONOTONIC_RAW, with the rate interval
//! that was *proved* on each side, instead of one blanket factor for the worst clock; [`Margin`] tells the difference.
//! It needs no bound, only a page: without sources the oscillator's class serves.
//!
//! **What breaks a tick.** The holder: a sleep, a new epoch, a reboot; then `most` is unknown and the lease has expired.
//! The granter: a sleep makes it wait longer. A new epoch proves nothing of the time before, so the wait begins again.
//! So it does after a crash: the longest term that may be out is stored, and waited for from the first tick.
//!
//! **Answers belong to their request.** A term counts from the tick of *its* request: an old answer must not be taken
//! for that to a new one, nor revive what was given back. So a holder takes only the answer to its last request, by the
//! request's nonce.
//!
//! Fences: as for [`clock`](super::clock): new with every grant, kept by renewals, one unbroken holding under each.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Fence, HolderId, Kind, Record, Refused, Store, expect_term};
use crate::source::TimeSource;
use crate::tick::{Elapsed, Tick};

/// What the granter promised. Plain data; worth something only to the request that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To whom.
    pub holder: HolderId,
    /// What the holder's effects carry.
    pub fence: Fence,
    /// Of the request that this answers.
    pub nonce: u64,
    /// True time for which nobody else is given the lease, from the request on, ns.
    pub term_ns: i64,
}

/// How long this host owes somebody its silence.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// Counted from here; `None`: from the first tick that can be had.
    since: Option<Tick>,
    term_ns: i64,
}

impl Owed {
    const NOTHING: Owed = Owed { since: None, term_ns: 0 };

    /// What is left at `now`, at most, ns. From a tick of another epoch on nothing is proved: it begins again.
    fn left_at(&mut self, now: &Tick) -> i64 {
        if self.term_ns <= 0 {
            return 0;
        }
        match self.since {
            Some(since) if since.epoch == now.epoch => self.term_ns.saturating_sub(now.since(&since).least_ns).max(0),
            _ => {
                self.since = Some(*now);
                self.term_ns
            }
        }
    }
}

/// Gives one lease to one holder at a time.
#[derive(Debug)]
pub struct Granter<S> {
    store: S,
    /// What left this host: fence and holder, and the longest term that a crash would leave in the store.
    promised: Record,
    /// The last save failed: what is stored is not known.
    is_unsure: bool,
    owed: Owed,
    longest_ns: i64,
    /// This process granted it, and has never thought it expired: then it may be renewed under its fence.
    is_unbroken: bool,
}

impl<S: Store> Granter<S> {
    /// Begins where the store's last granter ended: what was out then is owed for its whole term from the first tick
    /// on. Terms are at most `longest_ns`.
    ///
    /// # Errors
    /// [`Refused::Store`] if it cannot be told what was promised before; [`Refused::Term`] if `longest_ns` is not
    /// above 0.
    pub fn open(mut store: S, longest_ns: i64) -> Result<Self, Refused> {
        expect_term(longest_ns, i64::MAX)?;
        let promised = super::load(&mut store, Kind::Rate)?;
        let owed = Owed { since: None, term_ns: promised.until_ns.max(0) };
        Ok(Granter { store, promised, is_unsure: false, owed, longest_ns, is_unbroken: false })
    }

    /// Promises the lease to `holder`, who asked with `nonce`, for `term_ns`, with a new fence. To the holder that has
    /// it already, too: its former fence is superseded.
    ///
    /// # Errors
    /// [`Refused::Held`] while another may hold it, [`Refused::Unavailable`] without a tick, [`Refused::Term`],
    /// [`Refused::Store`]. Nothing was promised then.
    pub fn grant(
        &mut self,
        time: &impl TimeSource,
        holder: HolderId,
        nonce: u64,
        term_ns: i64,
    ) -> Result<Lease, Refused> {
        let term_ns = expect_term(term_ns, self.longest_ns)?;
        let left_ns = self.owed.left_at(&time.tick()?);
        self.is_unbroken &= left_ns > 0;
        if left_ns > 0 && holder != self.promised.holder {
            return Err(self.held());
        }
        self.promise(time, self.promised.fence.next()?, holder, nonce, term_ns, left_ns)
    }

    /// Promises a lease that is out for `term_ns` from the request with `nonce` on, never for less than it was. It
    /// keeps its fence.
    ///
    /// # Errors
    /// [`Refused::Superseded`] if it is not the last one granted, [`Refused::Expired`] if this granter thought it
    /// expired, if it was given back, or after a crash: ask for a grant then; else as [`Granter::grant`]. The lease is what
    /// it was before.
    pub fn renew(&mut self, time: &impl TimeSource, lease: &Lease, nonce: u64, term_ns: i64) -> Result<Lease, Refused> {
        self.expect_last(lease)?;
        if !self.is_unbroken {
            return Err(Refused::Expired);
        }
        let term_ns = expect_term(term_ns, self.longest_ns)?;
        let left_ns = self.owed.left_at(&time.tick()?);
        self.is_unbroken &= left_ns > 0;
        if left_ns == 0 {
            return Err(Refused::Expired);
        }
        self.promise(time, lease.fence, lease.holder, nonce, term_ns, left_ns)
    }

    /// Takes back a lease that its holder gave up with [`Holder::release`]: free at once. Of an older lease: nothing
    /// happens.
    ///
    /// # Errors
    /// [`Refused::Store`]: it is free now, but after a crash its term is waited for.
    pub fn release(&mut self, lease: &Lease) -> Result<(), Refused> {
        if self.expect_last(lease).is_err() || self.promised.until_ns == Record::NOTHING {
            return Ok(());
        }
        self.owed = Owed::NOTHING;
        self.promised.until_ns = Record::NOTHING;
        self.save(self.promised)
    }

    /// Nobody holds it. Stable: once true, it is so until this granter grants. Called now and then it also notices a new
    /// epoch early, from which on the wait begins again.
    ///
    /// # Errors
    /// [`Refused::Held`] while somebody may hold it, [`Refused::Unavailable`] if that cannot be told.
    pub fn expect_free(&mut self, time: &impl TimeSource) -> Result<(), Refused> {
        let now = time.tick()?;
        if self.owed.left_at(&now) > 0 {
            return Err(self.held());
        }
        self.owed = Owed::NOTHING;
        self.is_unbroken = false;
        Ok(())
    }

    /// The store: what survives.
    pub fn into_store(self) -> S {
        self.store
    }

    fn held(&self) -> Refused {
        Refused::Held { holder: Some(self.promised.holder), until_tai_ns: None }
    }

    fn expect_last(&self, lease: &Lease) -> Result<(), Refused> {
        let is_last = lease.fence == self.promised.fence && lease.holder == self.promised.holder;
        if is_last { Ok(()) } else { Err(Refused::Superseded(self.promised.fence)) }
    }

    /// Stores what the lease says, then begins to count, then lets it out. Of an earlier promise `left_ns` were left
    /// at a tick before this one.
    fn promise(
        &mut self,
        time: &impl TimeSource,
        fence: Fence,
        holder: HolderId,
        nonce: u64,
        term_ns: i64,
        left_ns: i64,
    ) -> Result<Lease, Refused> {
        let owed_ns = term_ns.max(left_ns);
        let record = Record { kind: Kind::Rate, fence, holder, until_ns: owed_ns };
        if self.is_unsure || fence != self.promised.fence || owed_ns > self.promised.until_ns {
            self.save(record)?;
            self.promised = record;
        }
        self.is_unbroken = true;
        // Without a tick now the first one to come is later, and as good.
        self.owed = Owed { since: time.tick().ok(), term_ns: owed_ns };
        Ok(Lease { holder, fence, nonce, term_ns })
    }

    fn save(&mut self, record: Record) -> Result<(), Refused> {
        // Until it is known to be kept, nothing is known to be.
        self.is_unsure = true;
        self.store.save(&record).map_err(Refused::Store)?;
        self.is_unsure = false;
        Ok(())
    }
}

/// Held while less than the term has passed since the tick.
#[derive(Clone, Copy, Debug)]
struct Held {
    since: Tick,
    lease: Lease,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Tick,
    nonce: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The last request: only its answer is taken.
    asked: Option<Asked>,
    /// Of the last request, answered or not.
    last_nonce: Option<u64>,
    held: Option<Held>,
    /// Given back with this fence, or a lower one: never held again.
    given: Option<Fence>,
}

/// The holder's side: what it asked for, and what it has. `Sync`: many threads may work under a lease while one renews.
#[derive(Debug)]
pub struct Holder {
    id: HolderId,
    state: Mutex<State>,
}

impl Holder {
    /// Has nothing yet. One resource, one `Holder` in the whole process.
    #[must_use]
    pub const fn new(id: HolderId) -> Self {
        Holder { id, state: Mutex::new(State { asked: None, last_nonce: None, held: None, given: None }) }
    }

    /// **Before** a request leaves, for a lease or for a renewal: the term counts from here. What was asked before goes
    /// unanswered. `nonce` is one that this id never used before, not even before a crash: 64 random bits, say. Before
    /// the last request is sent once more, with the same nonce: nothing happens. A nonce of before the last is never used
    /// again.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] without a tick.
    pub fn ask(&self, time: &impl TimeSource, nonce: u64) -> Result<(), Refused> {
        let since = time.tick()?;
        let mut state = self.state();
        if state.last_nonce != Some(nonce) {
            state.last_nonce = Some(nonce);
            state.asked = Some(Asked { since, nonce });
        }
        Ok(())
    }

    /// Takes up the answer to the last request; a renewal also serves the work that goes on.
    ///
    /// # Errors
    /// [`Refused::NotMine`] if it answers another request, or was answered already.
    pub fn granted(&self, lease: &Lease) -> Result<(), Refused> {
        let mut state = self.state();
        let is_given = state.given >= Some(lease.fence);
        let asked = state.asked.filter(|asked| asked.nonce == lease.nonce && lease.holder == self.id && !is_given);
        let Asked { since, .. } = asked.ok_or(Refused::NotMine)?;
        // A renewal and what it renews are both promises: keep the one that ends later.
        let is_outlived = |held: &Held| {
            let spent_ns = since.since(&held.since).most_ns;
            spent_ns.is_some_and(|spent| lease.term_ns < held.lease.term_ns.saturating_sub(spent))
        };
        let outlives = state.held.filter(|held| held.lease.fence == lease.fence && is_outlived(held));
        *state = State { asked: None, held: outlives.or(Some(Held { since, lease: *lease })), ..*state };
        Ok(())
    }

    /// Before the protected work: is there any point in beginning?
    ///
    /// # Errors
    /// [`Refused::Expired`] if no lease can be proved to be held now; [`Refused::Unavailable`] without a tick.
    pub fn begin(&self, time: &impl TimeSource) -> Result<Guard<'_>, Refused> {
        let held = self.state().held.ok_or(Refused::Expired)?;
        let now = time.tick()?;
        expect_held(&held, &now)?;
        Ok(Guard { holder: self, fence: held.lease.fence, epoch: now.epoch })
    }

    /// What it has, to renew it with: it may have expired.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.state().held.map(|held| held.lease)
    }

    /// Gives up what it has, for [`Granter::release`], and what it asked for. No guard outlives it, and no answer that
    /// is under way revives it.
    #[must_use = "the granter waits for it, or for the term"]
    pub fn release(&mut self) -> Option<Lease> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.asked = None;
        let lease = state.held.take().map(|held| held.lease);
        state.given = state.given.max(lease.map(|lease| lease.fence));
        lease
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only `most` proves that a term has not passed.
fn expect_held(held: &Held, now: &Tick) -> Result<(), Refused> {
    let is_held = now.since(&held.since).most_ns.is_some_and(|most| most < held.lease.term_ns);
    if is_held { Ok(()) } else { Err(Refused::Expired) }
}

/// Protected work that goes on. It proves nothing before [`Guard::confirm`].
#[derive(Debug)]
#[must_use = "work that is not confirmed proves nothing"]
pub struct Guard<'a> {
    holder: &'a Holder,
    fence: Fence,
    epoch: u64,
}

impl Guard<'_> {
    /// What every effect carries that the work has elsewhere.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// **After** the work and **before** its result leaves: the lease was held from before [`Holder::begin`] until
    /// some instant during this call. Nothing is said about later.
    ///
    /// # Errors
    /// [`Refused::Expired`], [`Refused::NewEpoch`], [`Refused::Unavailable`]: the result must not leave.
    pub fn confirm(self, time: &impl TimeSource) -> Result<(), Refused> {
        let held = self.holder.state().held.filter(|held| held.lease.fence == self.fence).ok_or(Refused::Expired)?;
        let now = time.tick()?;
        if now.epoch != self.epoch {
            return Err(Refused::NewEpoch);
        }
        expect_held(&held, &now)
    }
}

/// What a term costs beyond itself: raw time that the granter waits and the holder may not use, though the lease is
/// the holder's. With the same rates on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margin {
    /// The holder can confirm for so long by its raw clock, at most, ns.
    pub holder_raw_ns: i64,
    /// The granter frees after so long by its raw clock, ns.
    pub granter_raw_ns: i64,
}

impl Margin {
    /// The blanket rule: the holder counts the term by any clock, the granter 1.0021 times as long by any other.
    pub const BLANKET_PPM: i64 = 2_100;

    /// Of a term under the rates of `tick`; `None` if not even twice the term and a second prove that it has passed.
    #[must_use]
    pub fn of(tick: &Tick, term_ns: i64) -> Option<Margin> {
        let elapsed = |raw_ns: i64| Tick { raw_ns: tick.raw_ns.saturating_add(raw_ns), ..*tick }.since(tick);
        let far_ns = term_ns.checked_mul(2)?.checked_add(1_000_000_000)?;
        let first = |is_past: &dyn Fn(Elapsed) -> bool| {
            let (mut before, mut after) = (-1, far_ns);
            while after - before > 1 {
                let middle = before.midpoint(after);
                if is_past(elapsed(middle)) { after = middle } else { before = middle }
            }
            after
        };
        let is_proved_past = |elapsed: Elapsed| elapsed.least_ns >= term_ns;
        let is_maybe_past = |elapsed: Elapsed| elapsed.most_ns.is_none_or(|most| most >= term_ns);
        let granter_raw_ns = first(&is_proved_past);
        is_proved_past(elapsed(granter_raw_ns))
            .then(|| Margin { holder_raw_ns: (first(&is_maybe_past) - 1).max(0), granter_raw_ns })
    }

    /// Raw time in which nobody may act, ns.
    #[must_use]
    pub const fn idle_ns(&self) -> i64 {
        self.granter_raw_ns.saturating_sub(self.holder_raw_ns)
    }

    /// The same under the blanket rule, ns.
    #[must_use]
    pub fn blanket_idle_ns(term_ns: i64) -> i64 {
        let idle = (i128::from(term_ns) * i128::from(Margin::BLANKET_PPM) + 999_999) / 1_000_000;
        i64::try_from(idle).unwrap_or(i64::MAX)
    }
}
