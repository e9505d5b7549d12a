//! The library under test, one shape for all its kinds of leases: what granters decide, what travels, what holders hold.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use truebound_client::lease::{Fence, HolderId, MemoryStore, Record, Refused, Store, clock, primary, rate};
use truebound_client::{Tick, TimeSource};

use super::naive;
use super::source::{Desk, Reading};
use super::{Break, Kind};
use crate::rng::Rng;

/// Who can read all clocks of a host, the bad ones too.
pub(super) trait Process: TimeSource {
    fn look(&self) -> Reading;
}

impl Process for Reading {
    fn look(&self) -> Reading {
        self.clone()
    }
}

impl Process for Desk<'_> {
    fn look(&self) -> Reading {
        Desk::look(self)
    }
}

/// A disk: it survives its host, and sometimes says that a write failed that did not, or did.
#[derive(Clone, Debug)]
pub(super) struct Disk(Rc<RefCell<(MemoryStore, Rng)>>);

/// Share of writes that fail.
const FAILURES: f64 = 0.01;

impl Disk {
    pub(super) fn new(rng: Rng) -> Self {
        Disk(Rc::new(RefCell::new((MemoryStore::default(), rng))))
    }

    /// The planted fault.
    pub(super) fn forget(&self) {
        self.0.borrow_mut().0 = MemoryStore::default();
    }
}

impl Store for Disk {
    fn load(&mut self) -> io::Result<Option<Record>> {
        self.0.borrow_mut().0.load()
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        let (store, rng) = &mut *self.0.borrow_mut();
        let fails = rng.chance(FAILURES);
        if !fails || rng.chance(0.5) {
            store.save(record)?;
        }
        if fails { Err(io::Error::other("the disk")) } else { Ok(()) }
    }
}

/// A request as it travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) holder: HolderId,
    pub(super) nonce: u64,
    pub(super) term_ns: i64,
    pub(super) wish: Wish,
}

/// For what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// A lease.
    New,
    /// More of this one.
    Renewal(Offer),
    /// To be elected with this ballot.
    Vote(Fence),
    /// That nobody else is, who is elected with this ballot.
    Promise(Fence),
}

/// What a granter promised, as it travels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Offer {
    Clock(clock::Lease),
    Rate(rate::Lease),
    Vote(primary::Vote),
    Promise(primary::Promise),
    Naive { until_ns: i64, fence: Fence },
}

impl Offer {
    pub(super) fn fence(&self) -> Fence {
        match self {
            Offer::Clock(lease) => lease.fence,
            Offer::Rate(lease) => lease.fence,
            Offer::Vote(vote) => vote.ballot,
            Offer::Promise(promise) => promise.ballot,
            Offer::Naive { fence, .. } => *fence,
        }
    }
}

/// When the granter will think expired what it promised, for the instant to ask at; its own word is what counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outlook {
    After(i64),
    Elapsed(Tick, i64),
    Bare(naive::Clock, i64),
}

impl Outlook {
    pub(super) fn new(offer: &Offer, granted: &Reading, fault: Option<Break>) -> Option<Self> {
        Some(match offer {
            Offer::Clock(lease) => Outlook::After(lease.expires_tai_ns),
            Offer::Rate(lease) => Outlook::Elapsed(granted.tick().ok()?, lease.term_ns),
            Offer::Promise(promise) => Outlook::After(promise.expires_tai_ns),
            Offer::Vote(_) => return None,
            Offer::Naive { until_ns, .. } => Outlook::Bare(naive_clock(fault)?, *until_ns),
        })
    }

    /// Has it expired at the instant of this reading?
    pub(super) fn is_free(&self, at: &Reading) -> bool {
        match self {
            Outlook::After(until_ns) => at.now_strict().is_ok_and(|now| now.tai.earliest_ns > *until_ns),
            Outlook::Elapsed(since, term_ns) => at.tick().is_ok_and(|now| now.since(since).least_ns >= *term_ns),
            Outlook::Bare(clock, until_ns) => clock.now_ns(at) > *until_ns,
        }
    }
}

/// Grants one object, alone or as a member of several.
#[derive(Debug)]
pub(super) enum Granter {
    Clock(clock::Granter<Disk>),
    Rate(rate::Granter<Disk>),
    Backup(primary::Backup<Disk>),
    Naive(naive::Granter),
}

/// How a granter begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) kind: Kind,
    pub(super) fault: Option<Break>,
    pub(super) longest_ns: i64,
    pub(super) reserve_ns: i64,
    pub(super) member: usize,
}

/// The clock that a fault puts in the place of the library.
pub(super) fn naive_clock(fault: Option<Break>) -> Option<naive::Clock> {
    match fault {
        Some(Break::Monotonic) => Some(naive::Clock::Monotonic),
        Some(Break::Realtime) => Some(naive::Clock::Realtime),
        _ => None,
    }
}

impl Granter {
    /// Begins where the disk says that another one ended.
    pub(super) fn open(terms: &Terms, disk: &Disk) -> Result<Self, Refused> {
        let Terms { kind, fault, longest_ns, reserve_ns, member } = *terms;
        if let Some(clock) = naive_clock(fault) {
            return Ok(Granter::Naive(naive::Granter::new(clock)));
        }
        let disk = disk.clone();
        Ok(match kind {
            Kind::Clock => Granter::Clock(clock::Granter::open(disk, longest_ns)?.reserving(reserve_ns)),
            Kind::Rate => Granter::Rate(rate::Granter::open(disk, longest_ns)?),
            Kind::Primary => Granter::Backup(primary::Backup::open(member, disk, longest_ns)?),
        })
    }

    pub(super) fn grant(&mut self, time: &impl Process, request: &Request) -> Result<Offer, Refused> {
        let Request { holder, nonce, term_ns, wish } = *request;
        match (self, wish) {
            (Granter::Clock(granter), Wish::Renewal(Offer::Clock(lease))) => {
                granter.renew(time, &lease, nonce, term_ns).map(Offer::Clock)
            }
            (Granter::Clock(granter), _) => granter.grant(time, holder, nonce, term_ns).map(Offer::Clock),
            (Granter::Rate(granter), Wish::Renewal(Offer::Rate(lease))) => {
                granter.renew(time, &lease, nonce, term_ns).map(Offer::Rate)
            }
            (Granter::Rate(granter), _) => granter.grant(time, holder, nonce, term_ns).map(Offer::Rate),
            (Granter::Backup(member), Wish::Vote(ballot)) => member.vote(time, holder, ballot).map(Offer::Vote),
            (Granter::Backup(member), Wish::Promise(ballot)) => {
                member.promise(time, holder, ballot, term_ns).map(Offer::Promise)
            }
            (Granter::Backup(_), _) => Err(Refused::NotMine),
            (Granter::Naive(granter), _) => {
                let (until_ns, fence) = granter.grant(&time.look(), holder.0, term_ns).ok_or(Refused::Expired)?;
                Ok(Offer::Naive { until_ns, fence: Fence(fence) })
            }
        }
    }

    pub(super) fn release(&mut self, holder: HolderId, offer: &Offer) -> Result<(), Refused> {
        match (self, offer) {
            (Granter::Clock(granter), Offer::Clock(lease)) => granter.release(lease),
            (Granter::Rate(granter), Offer::Rate(lease)) => granter.release(lease),
            (Granter::Backup(member), offer) => member.release(holder, offer.fence()),
            (Granter::Naive(granter), Offer::Naive { fence, .. }) => {
                granter.give_back(holder.0, fence.0);
                Ok(())
            }
            _ => Err(Refused::NotMine),
        }
    }

    pub(super) fn is_free(&mut self, time: &impl Process) -> bool {
        match self {
            Granter::Clock(granter) => granter.expect_free(time).is_ok(),
            Granter::Rate(granter) => granter.expect_free(time).is_ok(),
            Granter::Backup(member) => member.expect_free(time).is_ok(),
            Granter::Naive(granter) => granter.is_free(&time.look()),
        }
    }
}

/// The holder's side in one process.
#[derive(Debug)]
pub(super) enum Holding {
    Clock(clock::Holder),
    Rate(Box<rate::Holder>),
    Primary(primary::Primary),
    Naive(naive::Holder),
}

/// Work under a lease.
#[derive(Debug)]
pub(super) enum Work<'a> {
    Clock(clock::Guard<'a>),
    Rate(rate::Guard<'a>),
    Primary(primary::Guard<'a>),
    Naive(&'a naive::Holder),
}

impl Holding {
    /// Has nothing yet. `None`: a primary is elected first.
    pub(super) fn new(kind: Kind, fault: Option<Break>, id: HolderId) -> Option<Self> {
        match (naive_clock(fault), kind) {
            (Some(clock), _) => Some(Holding::Naive(naive::Holder::new(clock))),
            (None, Kind::Clock) => Some(Holding::Clock(clock::Holder::new(id))),
            (None, Kind::Rate) => Some(Holding::Rate(Box::new(rate::Holder::new(id)))),
            (None, Kind::Primary) => None,
        }
    }

    /// Before a request leaves.
    pub(super) fn ask(&self, time: &impl Process, nonce: u64) -> Result<(), Refused> {
        match self {
            Holding::Clock(holder) => holder.ask(nonce),
            Holding::Rate(holder) => holder.ask(time, nonce)?,
            Holding::Primary(_) => {}
            Holding::Naive(holder) => holder.ask(&time.look(), nonce),
        }
        Ok(())
    }

    /// Takes up an answer.
    pub(super) fn granted(&self, request: &Request, offer: &Offer) -> Result<(), Refused> {
        match (self, offer) {
            (Holding::Clock(holder), Offer::Clock(lease)) => holder.granted(lease),
            (Holding::Rate(holder), Offer::Rate(lease)) => holder.granted(lease),
            (Holding::Primary(primary), Offer::Promise(promise)) => primary.promised(promise),
            (Holding::Naive(holder), Offer::Naive { until_ns, fence }) => {
                let is_mine = holder.granted(request.nonce, request.term_ns, *until_ns, *fence);
                if is_mine { Ok(()) } else { Err(Refused::NotMine) }
            }
            _ => Err(Refused::NotMine),
        }
    }

    /// Of what it has.
    pub(super) fn fence(&self) -> Option<Fence> {
        match self {
            Holding::Clock(holder) => holder.lease().map(|lease| lease.fence),
            Holding::Rate(holder) => holder.lease().map(|lease| lease.fence),
            Holding::Primary(primary) => Some(primary.fence()),
            Holding::Naive(holder) => holder.lease().map(|lease| lease.fence),
        }
    }

    /// What it has, in its own words: to renew it, or to give it back.
    pub(super) fn offer(&self, id: HolderId) -> Option<Offer> {
        match self {
            Holding::Clock(holder) => holder.lease().map(Offer::Clock),
            Holding::Rate(holder) => holder.lease().map(Offer::Rate),
            Holding::Primary(primary) => {
                Some(Offer::Vote(primary::Vote { member: 0, candidate: id, ballot: primary.fence() }))
            }
            Holding::Naive(holder) => {
                holder.lease().map(|lease| Offer::Naive { until_ns: lease.until_ns, fence: lease.fence })
            }
        }
    }

    /// What to ask of whom it was granted by.
    pub(super) fn wish(&self, id: HolderId) -> Wish {
        match self {
            Holding::Primary(primary) => Wish::Promise(primary.fence()),
            holder => holder.offer(id).map_or(Wish::New, Wish::Renewal),
        }
    }

    pub(super) fn begin(&self, time: &impl Process) -> Result<Work<'_>, Refused> {
        match self {
            Holding::Clock(holder) => holder.begin(time).map(Work::Clock),
            Holding::Rate(holder) => holder.begin(time).map(Work::Rate),
            Holding::Primary(primary) => primary.begin(time).map(Work::Primary),
            Holding::Naive(holder) if holder.is_held(&time.look()) => Ok(Work::Naive(holder)),
            Holding::Naive(_) => Err(Refused::Expired),
        }
    }

    /// Could it act at the instant of this reading?
    pub(super) fn is_able(&self, at: &Reading) -> bool {
        self.begin(at).is_ok_and(|work| work.confirm(at).is_ok())
    }
}

impl Work<'_> {
    pub(super) fn confirm(self, time: &impl Process) -> Result<(), Refused> {
        match self {
            Work::Clock(guard) => guard.confirm(time).map(|_| ()),
            Work::Rate(guard) => guard.confirm(time),
            Work::Primary(guard) => guard.confirm(time).map(|_| ()),
            Work::Naive(holder) if holder.is_held(&time.look()) => Ok(()),
            Work::Naive(_) => Err(Refused::Expired),
        }
    }
}

/// A refusal in a word, for the count.
pub(super) fn word(refused: &Refused) -> &'static str {
    match refused {
        Refused::Unavailable(_) => "unavailable",
        Refused::Expired => "expired",
        Refused::NewEpoch => "new-epoch",
        Refused::Held { .. } => "held",
        Refused::Superseded(_) => "superseded",
        Refused::Store(_) => "store",
        Refused::NotMine => "not-mine",
        Refused::NotElected => "not-elected",
        _ => "other",
    }
}
