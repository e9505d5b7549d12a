//! Clock leases: the promise ends at an instant of TAI (Gray and Cheriton, SOSP 1989, with the clocks' errors proved
//! instead of assumed).
//!
//! ```text
//! holder                                  granter
//! Holder::ask       ── id, nonce ──►      grant: expires = latest + term, stored
//! Holder::granted   ◄──── lease ────      free once earliest > expires
//! begin:   latest < expires
//! … the protected work …
//! confirm: latest < expires, same epoch; then reply
//! ```
//! The proof is in [`lease`](super). The lease lasts at least its term from the grant on. It costs, beyond the term, at
//! most the width of the granter's interval when it grants, and again that of either side's at the end.
//!
//! An expiry is an absolute instant: an answer that is late promises nothing new, and one number in the store stands for
//! the past. But an answer that was under way when the holder gave its lease back must not revive it, nor one that was
//! sent to its predecessor. So a holder takes only the answer to its last request, by the request's nonce.
//!
//! **Fences.** A grant takes a new fence, also to the same holder, which may be a new process under the old id. A
//! renewal keeps it, and is refused once this granter thought the lease expired, and after its crash, when nobody knows
//! what it thought. So under one fence the holding is unbroken, and a confirmation holds since its `begin`.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Fence, HolderId, Kind, Record, Refused, Store, expect_term, expiry_after, strict};
use crate::interval::Span;
use crate::source::TimeSource;

/// What the granter promised. Plain data: it travels as the application likes, and may arrive late or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To whom.
    pub holder: HolderId,
    /// Of the request that this answers.
    pub nonce: u64,
    /// What the holder's effects carry.
    pub fence: Fence,
    /// Nobody else is given the lease before this instant has certainly passed, TAI ns.
    pub expires_tai_ns: i64,
}

/// Gives one lease to one holder at a time.
#[derive(Debug)]
pub struct Granter<S> {
    store: S,
    /// What left this host, at most: the lease that is out, or was last.
    promised: Record,
    /// What a crash would leave at least; `None`: a save failed, nobody knows.
    stored_until_ns: Option<i64>,
    longest_ns: i64,
    /// This process granted it, and has never thought it expired: then it may be renewed under its fence.
    is_unbroken: bool,
    reserve_ns: i64,
}

impl<S: Store> Granter<S> {
    /// Begins where the store's last granter ended; a lease that was out then is out now. Terms are at most
    /// `longest_ns`: nobody can block the resource for longer.
    ///
    /// # Errors
    /// [`Refused::Store`] if it cannot be told what was promised before; [`Refused::Term`] if `longest_ns` is not
    /// above 0.
    pub fn open(mut store: S, longest_ns: i64) -> Result<Self, Refused> {
        expect_term(longest_ns, i64::MAX)?;
        let promised = super::load(&mut store, Kind::Clock)?;
        let stored_until_ns = Some(promised.until_ns);
        Ok(Granter { store, promised, stored_until_ns, longest_ns, is_unbroken: false, reserve_ns: 0 })
    }

    /// Stores expiries `reserve_ns` later than promised, so that renewals within it need no write. After a crash the
    /// lease is free that much later, unless its holder asks.
    #[must_use]
    pub fn reserving(self, reserve_ns: i64) -> Self {
        Granter { reserve_ns: reserve_ns.max(0), ..self }
    }

    /// Promises the lease to `holder`, who asked with `nonce`, for at least `term_ns` from now, with a new fence. To the
    /// holder that has it already, too: its former fence is superseded.
    ///
    /// # Errors
    /// [`Refused::Held`] while another may hold it, [`Refused::Unavailable`] without a bound, [`Refused::Term`],
    /// [`Refused::Store`]. Nothing was promised then.
    pub fn grant(
        &mut self,
        time: &impl TimeSource,
        holder: HolderId,
        nonce: u64,
        term_ns: i64,
    ) -> Result<Lease, Refused> {
        let now = strict(time)?;
        if holder != self.promised.holder {
            self.expect_passed(now.tai)?;
        }
        let until_ns = expiry_after(&now, term_ns, self.longest_ns)?.max(self.promised.until_ns);
        self.promise(nonce, Record { fence: self.promised.fence.next()?, holder, until_ns, ..self.promised })
    }

    /// Promises a lease that is out for at least `term_ns` from now, never for less than it was. It keeps its fence. The
    /// answer carries `nonce`.
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
        let now = strict(time)?;
        if self.expect_passed(now.tai).is_ok() {
            return Err(Refused::Expired);
        }
        let until_ns = expiry_after(&now, term_ns, self.longest_ns)?.max(self.promised.until_ns);
        self.promise(nonce, Record { until_ns, ..self.promised })
    }

    /// Takes back a lease that its holder gave up with [`Holder::release`]: free at once. Of an older lease: nothing
    /// happens.
    ///
    /// # Errors
    /// [`Refused::Store`]: it is free now, but after a crash it may be held until it expires.
    pub fn release(&mut self, lease: &Lease) -> Result<(), Refused> {
        if self.expect_last(lease).is_err() || self.promised.until_ns == Record::NOTHING {
            return Ok(());
        }
        self.promised.until_ns = Record::NOTHING;
        self.save(self.promised)
    }

    /// Nobody holds it. Within an epoch that is stable: once true, it is so until this granter grants.
    ///
    /// # Errors
    /// [`Refused::Held`] while somebody may hold it, [`Refused::Unavailable`] if that cannot be told.
    pub fn expect_free(&mut self, time: &impl TimeSource) -> Result<(), Refused> {
        self.expect_passed(strict(time)?.tai)
    }

    /// The store: what survives.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Only `earliest` proves that an instant has passed.
    fn expect_passed(&mut self, now: Span) -> Result<(), Refused> {
        let until_ns = self.promised.until_ns;
        if until_ns == Record::NOTHING || until_ns < now.earliest_ns {
            self.is_unbroken = false;
            return Ok(());
        }
        Err(Refused::Held { holder: Some(self.promised.holder), until_tai_ns: Some(until_ns) })
    }

    fn expect_last(&self, lease: &Lease) -> Result<(), Refused> {
        let is_last = lease.fence == self.promised.fence && lease.holder == self.promised.holder;
        if is_last { Ok(()) } else { Err(Refused::Superseded(self.promised.fence)) }
    }

    /// Stores what the lease says, then lets it out.
    fn promise(&mut self, nonce: u64, record: Record) -> Result<Lease, Refused> {
        let is_covered = self.stored_until_ns.is_some_and(|stored| record.until_ns <= stored);
        if record.fence != self.promised.fence || !is_covered {
            self.save(Record { until_ns: record.until_ns.saturating_add(self.reserve_ns), ..record })?;
        }
        self.promised = record;
        self.is_unbroken = true;
        Ok(Lease { holder: record.holder, nonce, fence: record.fence, expires_tai_ns: record.until_ns })
    }

    fn save(&mut self, record: Record) -> Result<(), Refused> {
        // Until it is known to be kept, nothing is known to be.
        self.stored_until_ns = None;
        self.store.save(&record).map_err(Refused::Store)?;
        self.stored_until_ns = Some(record.until_ns);
        Ok(())
    }
}

/// The holder's side: what it asked for, and what it has. `Sync`: many threads may work under a lease while one renews.
#[derive(Debug)]
pub struct Holder {
    id: HolderId,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The nonce of the last request: only its answer is taken.
    asked: Option<u64>,
    lease: Option<Lease>,
    /// Given back with this fence, or a lower one: never held again.
    given: Option<Fence>,
}

impl Holder {
    /// Has nothing yet. One resource, one `Holder` in the whole process.
    #[must_use]
    pub const fn new(id: HolderId) -> Self {
        Holder { id, state: Mutex::new(State { asked: None, lease: None, given: None }) }
    }

    /// **Before** a request leaves, for a lease or for a renewal. What was asked before goes unanswered. `nonce` is one
    /// that this id never used before, not even before a crash: 64 random bits, say.
    pub fn ask(&self, nonce: u64) {
        self.state().asked = Some(nonce);
    }

    /// Takes up the answer to the last request; a renewal also serves the work that goes on.
    ///
    /// # Errors
    /// [`Refused::NotMine`] if it answers another request, or was answered already.
    pub fn granted(&self, lease: &Lease) -> Result<(), Refused> {
        let mut state = self.state();
        if lease.holder != self.id || state.asked != Some(lease.nonce) || state.given >= Some(lease.fence) {
            return Err(Refused::NotMine);
        }
        *state = State { asked: None, lease: Some(*lease), ..*state };
        Ok(())
    }

    /// Before the protected work: is there any point in beginning?
    ///
    /// # Errors
    /// [`Refused::Expired`] if no lease can be proved to be held now; [`Refused::Unavailable`] without a bound.
    pub fn begin(&self, time: &impl TimeSource) -> Result<Guard<'_>, Refused> {
        let lease = self.lease().ok_or(Refused::Expired)?;
        let now = strict(time)?;
        expect_held(&lease, now.tai)?;
        Ok(Guard { holder: self, fence: lease.fence, epoch: now.epoch })
    }

    /// What it has, to renew it with: it may have expired.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.state().lease
    }

    /// Gives up what it has, for [`Granter::release`], and what it asked for. No guard outlives it, and no answer that
    /// is under way revives it:
    ///
    /// ```compile_fail,E0502
    /// # use truebound_client::{lease::clock::Holder, TimeSource};
    /// fn too_late(mut holder: Holder, time: impl TimeSource) {
    ///     let guard = holder.begin(&time).expect("held");
    ///     let _ = holder.release();
    ///     let _ = guard.confirm(&time);
    /// }
    /// ```
    #[must_use = "the granter waits for it, or for the expiry"]
    pub fn release(&mut self) -> Option<Lease> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.asked = None;
        let lease = state.lease.take();
        state.given = state.given.max(lease.map(|lease| lease.fence));
        lease
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only `latest` proves that an instant is still to come.
fn expect_held(lease: &Lease, now: Span) -> Result<(), Refused> {
    if now.latest_ns < lease.expires_tai_ns { Ok(()) } else { Err(Refused::Expired) }
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

    /// **After** the work and **before** its result leaves: the lease was held from before [`Holder::begin`] until an
    /// instant in the span that this returns (TAI, ns). Nothing is said about later.
    ///
    /// # Errors
    /// [`Refused::Expired`], [`Refused::NewEpoch`], [`Refused::Unavailable`]: the result must not leave.
    pub fn confirm(self, time: &impl TimeSource) -> Result<Span, Refused> {
        let lease = self.holder.lease().filter(|lease| lease.fence == self.fence).ok_or(Refused::Expired)?;
        let now = strict(time)?;
        if now.epoch != self.epoch {
            return Err(Refused::NewEpoch);
        }
        expect_held(&lease, now.tai)?;
        Ok(now.tai)
    }
}
