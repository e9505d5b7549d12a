//! Cache leases: many clients keep copies of what a server owns, and none of them is ever stale (Gray and Cheriton,
//! SOSP 1989). A key is leased to many readers or to one writer.
//!
//! ```text
//! client                                     server
//! Client::ask             ── Request ──►     read:  refused while somebody writes, or waits to
//! Client::granted         ◄── Lease, data ──
//! begin, use the copy, confirm
//! Client::revoke          ◄── Revocation ──  write: waits until every other lease on the key
//!                         ── Given ──►       given: … was given back, or has certainly expired
//! ```
//! While a writer waits for a key, nobody gets or renews a lease on it: the writer's turn comes after one term at the
//! latest, whoever does not answer. Writers take turns in the order in which they came.
//!
//! **By the clock, not by rates** ([`clock`](super::clock) has rule and proof): an expiry is one number that means the
//! same to every client, may be passed on to caches behind caches, and needs no tick per client; and after a crash one
//! stored number, the latest expiry that ever left, stands for all keys and clients. The price: without a bound no
//! copy is used, and reads go to the server.
//!
//! **Giving back.** A [`Given`] names one lease by its fence, so that a late or repeated one cannot end a newer lease.
//! The client forgets the key *before* it says so, and with it what it asked: an answer that is under way finds no
//! question any more. Therefore a nonce is never used twice by one client id, not even after a crash. A lost [`Given`]
//! costs time, never truth.
//!
//! **Reading and writing.** The server reads the datum after it has granted the lease that goes with it. The holder of a
//! write lease may change its copy, and sends the change under its fence; the server applies what [`Server::admits`],
//! in one step with asking. It gives the lease back once its last change was applied.
#![forbid(unsafe_code)]

mod client;

use std::collections::{BTreeMap, VecDeque};

use super::{Fence, HolderId, Kind, Record, Refused, Store, expect_term, expiry_after, strict};
use crate::interval::{Interval, Span};
use crate::source::TimeSource;

pub use client::{Client, Guard};

/// What a lease lets its client do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Use a copy.
    Read,
    /// Use and change it.
    Write,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is about: the application's name for a datum, or a hash of it (keys that collide share leases).
    pub key: u64,
    /// Who asks.
    pub client: HolderId,
    /// Never used before by this client.
    pub nonce: u64,
}

/// What the server promised. Plain data: it may arrive late or twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of the request.
    pub key: u64,
    /// Of the request.
    pub client: HolderId,
    /// Of the request.
    pub nonce: u64,
    /// For what.
    pub mode: Mode,
    /// Its name, and what changes carry.
    pub fence: Fence,
    /// Nobody else changes the datum before this instant has certainly passed, TAI ns; nor reads it, if this one writes.
    pub expires_tai_ns: i64,
}

/// The server asks a client to give a lease back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Of the lease.
    pub key: u64,
    /// Whom to ask.
    pub client: HolderId,
    /// Of the lease.
    pub fence: Fence,
}

/// A client gave a lease back: it does not use it any more, and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Of the lease.
    pub key: u64,
    /// Whose it was.
    pub client: HolderId,
    /// Of the lease.
    pub fence: Fence,
}

/// What becomes of a wish to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The client is alone.
    Granted(Lease),
    /// Not yet: ask these clients, and ask the server again when they have answered, or once this instant has passed.
    Wait {
        /// What is in the way.
        revoke: Vec<Revocation>,
        /// After this TAI instant, ns, none of it is in the way any more.
        until_tai_ns: i64,
    },
}

/// How much a server promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest term, ns: what a writer waits at most.
    pub longest_ns: i64,
    /// Expiries are stored so much later than promised, ns: fewer writes to the store, a longer wait after a crash.
    pub reserve_ns: i64,
    /// So many leases and waiting writers in all.
    pub leases: usize,
}

/// A lease that is out.
#[derive(Clone, Copy, Debug)]
struct Out {
    client: HolderId,
    mode: Mode,
    fence: Fence,
    expires_tai_ns: i64,
}

/// A writer in the queue. Its claim lapses if it does not ask again.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    client: HolderId,
    until_tai_ns: i64,
}

/// At most one lease per client.
#[derive(Debug, Default)]
struct Key {
    out: Vec<Out>,
    waiting: VecDeque<Waiting>,
}

impl Key {
    /// Forgets what has certainly ended.
    fn sweep(&mut self, now: Span) {
        self.out.retain(|out| out.expires_tai_ns >= now.earliest_ns);
        self.waiting.retain(|waiting| waiting.until_tai_ns >= now.earliest_ns);
    }

    fn len(&self) -> usize {
        self.out.len() + self.waiting.len()
    }

    fn others(&self, client: HolderId) -> impl Iterator<Item = &Out> {
        self.out.iter().filter(move |out| out.client != client)
    }

    /// What was promised to `client` here stays promised under its new lease.
    fn replace(&mut self, lease: &Lease) {
        self.out.retain(|out| out.client != lease.client);
        let Lease { client, mode, fence, expires_tai_ns, .. } = *lease;
        self.out.push(Out { client, mode, fence, expires_tai_ns });
    }
}

/// Owns the data, and says who may have copies.
#[derive(Debug)]
pub struct Server<S> {
    store: S,
    /// At least all that left this host; `None`: a save failed, nobody knows.
    stored: Option<Record>,
    last_fence: Fence,
    /// The latest expiry that left this host.
    last_until_ns: i64,
    /// Leases of before a crash are out until then.
    inherited_until_ns: i64,
    limits: Limits,
    keys: BTreeMap<u64, Key>,
    /// Leases and waiting writers, of all keys.
    count: usize,
    /// Before this instant nothing of all that ends.
    first_end_ns: i64,
}

/// So many fences are stored ahead.
const FENCES_AHEAD: u64 = 1 << 16;

impl<S: Store> Server<S> {
    /// Begins with the store's record: leases of before are waited for, all together.
    ///
    /// # Errors
    /// [`Refused::Store`] if it cannot be told what was promised before; [`Refused::Term`] if the longest term is not
    /// above 0.
    pub fn open(mut store: S, limits: Limits) -> Result<Self, Refused> {
        expect_term(limits.longest_ns, i64::MAX)?;
        let stored = super::load(&mut store, Kind::Cache)?;
        Ok(Server {
            store,
            stored: Some(stored),
            last_fence: stored.fence,
            last_until_ns: stored.until_ns,
            inherited_until_ns: stored.until_ns,
            limits,
            keys: BTreeMap::new(),
            count: 0,
            first_end_ns: i64::MAX,
        })
    }

    /// Promises that nobody changes the datum for at least `term_ns` from now. Send it along with the lease.
    ///
    /// # Errors
    /// [`Refused::WriterWaits`], [`Refused::Held`] while somebody writes, or for leases of before a crash,
    /// [`Refused::Full`]: read it without a lease then, or later. [`Refused::Unavailable`], [`Refused::Term`],
    /// [`Refused::Store`].
    pub fn read(&mut self, time: &impl TimeSource, request: Request, term_ns: i64) -> Result<Lease, Refused> {
        let now = self.settle(time, request.key)?;
        let key = self.keys.get(&request.key);
        if key.is_some_and(|key| !key.waiting.is_empty()) {
            return Err(Refused::WriterWaits);
        }
        if let Some(writer) = key.and_then(|key| key.out.iter().find(|out| out.mode == Mode::Write)) {
            return Err(held(writer));
        }
        self.grant(&now, request, Mode::Read, term_ns)
    }

    /// Promises a lease that is out for at least `term_ns` from now, never for less than it was. It keeps its fence, so
    /// the copy stays good. The reply carries `nonce`.
    ///
    /// # Errors
    /// [`Refused::Expired`] if it is not out any more: ask anew, for the datum too. [`Refused::WriterWaits`]; else as
    /// [`Server::read`].
    pub fn renew(&mut self, time: &impl TimeSource, lease: &Lease, nonce: u64, term_ns: i64) -> Result<Lease, Refused> {
        let now = self.settle(time, lease.key)?;
        let key = self.keys.get(&lease.key).ok_or(Refused::Expired)?;
        let is_it = |out: &&Out| out.client == lease.client && out.fence == lease.fence;
        let out = *key.out.iter().find(is_it).ok_or(Refused::Expired)?;
        if !key.waiting.is_empty() {
            return Err(Refused::WriterWaits);
        }
        let expires_tai_ns = expiry_after(&now, term_ns, self.limits.longest_ns)?.max(out.expires_tai_ns);
        let request = Request { key: lease.key, client: lease.client, nonce };
        self.promise(request, out.mode, out.fence, expires_tai_ns)
    }

    /// Promises to be alone with the datum for at least `term_ns` from now; or says what is in the way. A writer that
    /// has to wait asks again, and keeps its place unless it is late by more than a term.
    ///
    /// # Errors
    /// [`Refused::Held`] for leases of before a crash, [`Refused::Full`], [`Refused::Unavailable`], [`Refused::Term`],
    /// [`Refused::Store`].
    pub fn write(&mut self, time: &impl TimeSource, request: Request, term_ns: i64) -> Result<Turn, Refused> {
        let now = self.settle(time, request.key)?;
        let Request { key, client, .. } = request;
        let claim_ns = expiry_after(&now, term_ns, self.limits.longest_ns)?;
        let (is_first, until_tai_ns) = self.keys.get(&key).map_or((true, i64::MIN), |key| {
            let is_first = key.waiting.front().is_none_or(|first| first.client == client);
            (is_first, key.others(client).map(|out| out.expires_tai_ns).max().unwrap_or(i64::MIN))
        });
        if is_first && until_tai_ns == i64::MIN {
            let lease = self.grant(&now, request, Mode::Write, term_ns)?;
            self.cancel_write(key, client);
            return Ok(Turn::Granted(lease));
        }
        let claim_ns = claim_ns.max(until_tai_ns.saturating_add(term_ns));
        self.queue(&now, key, Waiting { client, until_tai_ns: claim_ns })?;
        let others = self.keys.get(&key).into_iter().flat_map(|key| key.others(client));
        let revoke = others.map(|out| Revocation { key, client: out.client, fence: out.fence }).collect();
        Ok(Turn::Wait { revoke, until_tai_ns: until_tai_ns.max(now.tai.latest_ns) })
    }

    /// A writer does not wait any more.
    pub fn cancel_write(&mut self, key: u64, client: HolderId) {
        self.change(key, |key| key.waiting.retain(|waiting| waiting.client != client));
    }

    /// A client gave a lease back.
    pub fn given(&mut self, given: &Given) {
        let is_it = |out: &Out| out.client == given.client && out.fence == given.fence;
        self.change(given.key, |key| key.out.retain(|out| !is_it(out)));
    }

    /// Nobody else was given a lease on `key` since the write lease with `fence`: what was changed under it may be
    /// applied. It may have expired meanwhile; nobody has missed the change.
    ///
    /// # Errors
    /// [`Refused::Superseded`]: the change must not be applied.
    pub fn admits(&self, key: u64, fence: Fence) -> Result<(), Refused> {
        let mut out = self.keys.get(&key).into_iter().flat_map(|key| key.out.iter());
        let is_out = out.any(|out| out.fence == fence && out.mode == Mode::Write);
        if is_out { Ok(()) } else { Err(Refused::Superseded(self.last_fence)) }
    }

    /// How many leases are out, and writers waiting, as far as is known: at most [`Limits::leases`].
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The store: what survives.
    pub fn into_store(self) -> S {
        self.store
    }

    /// A reading at which nothing inherited is out, and all that is out on `key` may still be held.
    fn settle(&mut self, time: &impl TimeSource, key: u64) -> Result<Interval, Refused> {
        let now = strict(time)?;
        if self.inherited_until_ns != Record::NOTHING && self.inherited_until_ns >= now.tai.earliest_ns {
            return Err(Refused::Held { holder: None, until_tai_ns: Some(self.inherited_until_ns) });
        }
        self.change(key, |key| key.sweep(now.tai));
        Ok(now)
    }

    /// With a new fence, and for no less than the client has.
    fn grant(&mut self, now: &Interval, request: Request, mode: Mode, term_ns: i64) -> Result<Lease, Refused> {
        let expires_tai_ns = expiry_after(now, term_ns, self.limits.longest_ns)?;
        let mut outs = self.keys.get(&request.key).into_iter().flat_map(|key| key.out.iter());
        let has_ns = outs.find(|out| out.client == request.client).map(|out| out.expires_tai_ns);
        // Whoever waited leaves its place for its lease.
        let waits = self.is_waiting(request.key, request.client);
        if has_ns.is_none() && !waits {
            self.make_room(now.tai)?;
        }
        let expires_tai_ns = has_ns.map_or(expires_tai_ns, |has| has.max(expires_tai_ns));
        self.promise(request, mode, self.last_fence.next()?, expires_tai_ns)
    }

    /// Stores what the lease says, then lets it out.
    fn promise(&mut self, request: Request, mode: Mode, fence: Fence, expires_tai_ns: i64) -> Result<Lease, Refused> {
        let is_covered = self.stored.is_some_and(|stored| fence <= stored.fence && expires_tai_ns <= stored.until_ns);
        if !is_covered {
            self.save(self.last_fence.max(fence), self.last_until_ns.max(expires_tai_ns))?;
        }
        self.last_fence = self.last_fence.max(fence);
        self.last_until_ns = self.last_until_ns.max(expires_tai_ns);
        self.first_end_ns = self.first_end_ns.min(expires_tai_ns);
        let Request { key, client, nonce } = request;
        let lease = Lease { key, client, nonce, mode, fence, expires_tai_ns };
        self.change(key, |key| key.replace(&lease));
        Ok(lease)
    }

    /// Both with something to spare.
    fn save(&mut self, fence: Fence, until_ns: i64) -> Result<(), Refused> {
        let record = Record {
            kind: Kind::Cache,
            fence: Fence(fence.0.saturating_add(FENCES_AHEAD)),
            holder: HolderId(0),
            until_ns: until_ns.saturating_add(self.limits.reserve_ns.max(0)),
        };
        // Until it is known to be kept, nothing is known to be.
        self.stored = None;
        self.store.save(&record).map_err(Refused::Store)?;
        self.stored = Some(record);
        Ok(())
    }

    fn is_waiting(&self, key: u64, client: HolderId) -> bool {
        self.keys.get(&key).is_some_and(|key| key.waiting.iter().any(|waiting| waiting.client == client))
    }

    /// Last in the queue; who is there already keeps its place.
    fn queue(&mut self, now: &Interval, key: u64, claim: Waiting) -> Result<(), Refused> {
        if !self.is_waiting(key, claim.client) {
            self.make_room(now.tai)?;
        }
        self.first_end_ns = self.first_end_ns.min(claim.until_tai_ns);
        self.change(key, |key| match key.waiting.iter_mut().find(|waiting| waiting.client == claim.client) {
            Some(waiting) => waiting.until_tai_ns = claim.until_tai_ns.max(waiting.until_tai_ns),
            None => key.waiting.push_back(claim),
        });
        Ok(())
    }

    /// Room for one more. Looks through everything only if something may have ended.
    fn make_room(&mut self, now: Span) -> Result<(), Refused> {
        if self.count >= self.limits.leases && self.first_end_ns < now.earliest_ns {
            self.keys.retain(|_, key| {
                key.sweep(now);
                key.len() > 0
            });
            self.count = self.keys.values().map(Key::len).sum();
            let leases = self.keys.values().flat_map(|key| &key.out).map(|out| out.expires_tai_ns);
            let claims = self.keys.values().flat_map(|key| &key.waiting).map(|waiting| waiting.until_tai_ns);
            self.first_end_ns = leases.chain(claims).min().unwrap_or(i64::MAX);
        }
        if self.count < self.limits.leases { Ok(()) } else { Err(Refused::Full) }
    }

    /// Keeps the count, and no key of which nothing is known.
    fn change(&mut self, key: u64, change: impl FnOnce(&mut Key)) {
        let mut state = self.keys.remove(&key).unwrap_or_default();
        self.count -= state.len();
        change(&mut state);
        self.count += state.len();
        if state.len() > 0 {
            self.keys.insert(key, state);
        }
    }
}

fn held(by: &Out) -> Refused {
    Refused::Held { holder: Some(by.client), until_tai_ns: Some(by.expires_tai_ns) }
}
