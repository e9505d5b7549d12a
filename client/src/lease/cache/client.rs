//! The client's side: which keys it has leases on, and what it asked for.

use std::collections::BTreeMap;

use super::super::{Fence, HolderId, Refused, strict};
use super::{Given, Lease, Mode, Request, Revocation};
use crate::interval::Span;
use crate::source::TimeSource;

/// What a client knows of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The nonce of what was asked last: only its answer is taken.
    asked: Option<u64>,
    lease: Option<Lease>,
}

/// The leases of one client at one server.
#[derive(Debug)]
pub struct Client {
    id: HolderId,
    keys: BTreeMap<u64, Known>,
    most_keys: usize,
    /// The highest fence that was given back, of any key: what is granted afterwards has a higher one.
    given: Fence,
}

impl Client {
    /// `id` at the server, with at most `most_keys` keys at a time.
    #[must_use]
    pub const fn new(id: HolderId, most_keys: usize) -> Self {
        Client { id, keys: BTreeMap::new(), most_keys, given: Fence(0) }
    }

    /// **Before** a request leaves, for a lease or for a renewal. What was asked of this key before goes unanswered.
    ///
    /// # Errors
    /// [`Refused::Full`]: give another key back first, with [`Client::release`].
    pub fn ask(&mut self, key: u64, nonce: u64) -> Result<Request, Refused> {
        if self.keys.len() >= self.most_keys && !self.keys.contains_key(&key) {
            return Err(Refused::Full);
        }
        self.keys.entry(key).or_default().asked = Some(nonce);
        Ok(Request { key, client: self.id, nonce })
    }

    /// Takes up what answers the last request for its key. With a fence that is new here, the copy that came with the
    /// lease is the copy to use, and no other.
    ///
    /// # Errors
    /// [`Refused::NotMine`] if it answers another request, or one that a revocation made void.
    pub fn granted(&mut self, lease: &Lease) -> Result<(), Refused> {
        let known = self.keys.get_mut(&lease.key).filter(|known| known.asked == Some(lease.nonce));
        let known = known.filter(|_| lease.client == self.id).ok_or(Refused::NotMine)?;
        // A renewal of what was given back revives nothing.
        let has_it = known.lease.is_some_and(|held| held.fence == lease.fence);
        if !has_it && lease.fence <= self.given {
            return Err(Refused::NotMine);
        }
        *known = Known { asked: None, lease: Some(*lease) };
        Ok(())
    }

    /// The server wants a key back: forgets it, and what was asked of it. A writer first has its last changes
    /// applied; then the answer is sent.
    #[must_use = "the server waits for it, or for the expiry"]
    pub fn revoke(&mut self, revocation: &Revocation) -> Given {
        let held = self.keys.remove(&revocation.key).and_then(|known| known.lease);
        self.given = self.given.max(revocation.fence).max(held.map_or(Fence(0), |lease| lease.fence));
        Given { key: revocation.key, client: self.id, fence: revocation.fence }
    }

    /// Gives a key back unasked. `None`: there was no lease on it.
    #[must_use = "the server waits for it, or for the expiry"]
    pub fn release(&mut self, key: u64) -> Option<Given> {
        let lease = self.keys.remove(&key)?.lease?;
        self.given = self.given.max(lease.fence);
        Some(Given { key, client: self.id, fence: lease.fence })
    }

    /// The lease on `key`, to renew it with.
    #[must_use]
    pub fn lease(&self, key: u64) -> Option<&Lease> {
        self.keys.get(&key)?.lease.as_ref()
    }

    /// Before a copy is used ([`Mode::Read`]) or changed ([`Mode::Write`]): is there any point in it?
    ///
    /// # Errors
    /// [`Refused::Expired`] if no such lease can be proved to be held now: go to the server.
    /// [`Refused::Unavailable`] without a bound.
    pub fn begin(&self, time: &impl TimeSource, key: u64, mode: Mode) -> Result<Guard, Refused> {
        let lease = self.lease(key).filter(|lease| lease.mode >= mode).ok_or(Refused::Expired)?;
        let now = strict(time)?;
        expect_held(lease, now.tai)?;
        Ok(Guard { key, fence: lease.fence, epoch: now.epoch })
    }

    /// **After** the copy was used and **before** the result leaves: the copy was good from before [`Client::begin`]
    /// until an instant in the span that this returns (TAI, ns). Nothing is said about later.
    ///
    /// # Errors
    /// [`Refused::Expired`] (or given back meanwhile), [`Refused::NewEpoch`], [`Refused::Unavailable`]: the result must
    /// not leave.
    #[expect(clippy::needless_pass_by_value, reason = "a guard is confirmed once")]
    pub fn confirm(&self, time: &impl TimeSource, guard: Guard) -> Result<Span, Refused> {
        let lease = self.lease(guard.key).filter(|lease| lease.fence == guard.fence).ok_or(Refused::Expired)?;
        let now = strict(time)?;
        if now.epoch != guard.epoch {
            return Err(Refused::NewEpoch);
        }
        expect_held(lease, now.tai)?;
        Ok(now.tai)
    }
}

/// Only `latest` proves that an instant is still to come.
fn expect_held(lease: &Lease, now: Span) -> Result<(), Refused> {
    if now.latest_ns < lease.expires_tai_ns { Ok(()) } else { Err(Refused::Expired) }
}

/// A copy in use. It proves nothing before [`Client::confirm`].
#[derive(Debug)]
#[must_use = "use that is not confirmed proves nothing"]
pub struct Guard {
    key: u64,
    fence: Fence,
    epoch: u64,
}

impl Guard {
    /// What changes carry.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }
}
