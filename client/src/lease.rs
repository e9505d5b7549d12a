//! Leases: who may act until when, proved on both sides (Gray and Cheriton, SOSP 1989; BOUND section 6).
//!
//! A *granter* promises a *holder* that nobody else acts for a while. Both judge time alone, each by its own clock, and
//! the network between them may lose, delay and repeat what it carries. Every module here keeps one invariant, in true
//! time, which no participant sees:
//!
//! > There are never two holders at one true instant, and never a granter that thinks expired while a holder thinks
//! > held.
//!
//! | module | the promise ends | the holder holds | the granter frees | needs |
//! | --- | --- | --- | --- | --- |
//! | [`clock`] | at a TAI instant E | `latest < E` | `earliest > E` | a bound on both sides |
//! | [`rate`] | a term D after it was made | `most(since before asking) < D` | `least(since after granting) >= D` | rates on both sides |
//! | [`cache`] | as `clock`, per key, for many readers or one writer | | | |
//! | [`primary`] | as `clock`, promised by enough of several backups | | | |
//!
//! **Clock leases, proof.** A reading contains true time at some instant during its call. The holder confirms with a
//! reading taken at true time τ: τ ≤ latest < E. The granter frees with one taken at γ: E < earliest ≤ γ. So τ < E < γ
//! for every confirmation and every freeing of one lease, whatever E is and however it was reckoned: the two cannot
//! be at one instant, nor in the other order. A renewal replaces E by a later one before the holder learns of it, and
//! the granter frees by the latest E that ever left it, across crashes too, because that is stored before it leaves.
//! A second holder comes after a freeing, hence after the last confirmation of the first.
//!
//! **Rate leases, proof.** The holder reads its tick at τ₀, before it asks; the granter reads its own at γ₀, after it
//! granted: τ₀ ≤ γ₀. The holder confirms at τ only if τ − τ₀ ≤ most < D. The granter frees at γ only if
//! γ − γ₀ ≥ least ≥ D. So τ < τ₀ + D ≤ γ₀ + D ≤ γ. Neither knows what time it is, nor needs to.
//!
//! **What a confirmation is worth.** It says that the lease was held at the instant of its reading, and since it was
//! begun. It says nothing of the next microsecond: the process may be preempted for an hour. So there is deliberately
//! no `is_valid()` to ask *before* the work. A read is served as *begin, read, confirm, reply*: it took effect before
//! the confirmation, when nobody else could write. What acts elsewhere (a write to a disk, a message to a machine)
//! carries the lease's [`Fence`], and the resource refuses fences older than one it has seen: see [`FenceGate`].
//!
//! **Giving back** early ends a promise before its time, so the messages about it must not be mixed up: a granter
//! heeds it only for the fence it granted last, and a holder forgets what it asked for together with what it has.
//!
//! **Epochs.** Where the agent withdraws its bounds (a suspend, a moved VM, sources that contradict each other) the
//! page's epoch changes, and a confirmation across the change is refused: what `begin` relied on was withdrawn.
//!
//! **What it all rests on.** The assumptions of the bound (A1 to A4) on every host that takes part, and for all but rate
//! leases one true time: hosts that each define their own (`local = true`) share none. A [`Store`] that keeps what it
//! said it kept; one process at a time behind a [`HolderId`] and behind a granter (a fork copies both, the store's lock
//! as well: one of the two stops using them), and nonces that it never uses twice. Messages need be nothing but genuine.
#![forbid(unsafe_code)]

pub mod cache;
pub mod clock;
pub mod primary;
pub mod rate;
mod store;

use std::fmt;
use std::io;

use crate::interval::{Interval, Unavailable};
use crate::source::TimeSource;

pub use store::{FileStore, MemoryStore, Store};

/// Fencing token: grows with every grant, survives crashes of the granter. What acts on a resource carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

impl Fence {
    /// The next one.
    ///
    /// # Errors
    /// [`Refused::FencesExhausted`] after 2⁶⁴ − 1.
    pub fn next(self) -> Result<Fence, Refused> {
        self.0.checked_add(1).map(Fence).ok_or(Refused::FencesExhausted)
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asks for a lease: **one process at a time**. A process that takes an id over knows that its former user is gone
/// (it is its own predecessor on this host, say); in doubt choose 64 random bits at every start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub u64);

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// At the resource: lets an effect through unless a later holder was here before (Gray and Cheriton's leases have no
/// such thing; the idea is Burrows's sequencer, Chubby, OSDI 2006, section 2.4).
///
/// The resource keeps [`FenceGate::highest`] with its data, in one transaction: a gate that forgets lets the past in.
/// A new holder passes the gate once *before* it reads the resource, so that nothing of its predecessor's can arrive
/// after that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FenceGate {
    highest: Fence,
}

impl FenceGate {
    /// A gate that has seen `highest`; `Fence(0)` for a new resource.
    #[must_use]
    pub const fn new(highest: Fence) -> Self {
        FenceGate { highest }
    }

    /// Lets an effect with this fence through, and none with an older one from then on.
    ///
    /// # Errors
    /// [`Refused::Superseded`] if a later fence passed before: the effect must not happen.
    pub fn admit(&mut self, fence: Fence) -> Result<(), Refused> {
        if fence < self.highest {
            return Err(Refused::Superseded(self.highest));
        }
        self.highest = fence;
        Ok(())
    }

    /// The highest fence that passed.
    #[must_use]
    pub const fn highest(&self) -> Fence {
        self.highest
    }
}

/// What a granter stores before anything that relies on it leaves the host: enough to forget nothing in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose record, so that none is read as another's.
    pub kind: Kind,
    /// The highest fence (of [`primary`]: ballot) that may have left.
    pub fence: Fence,
    /// Whom it was given to.
    pub holder: HolderId,
    /// High-water mark of what was promised: the latest TAI instant, ns, or of [`Kind::Rate`] the longest term, ns.
    /// [`Record::NOTHING`]: nothing is promised.
    pub until_ns: i64,
}

impl Record {
    /// In `until_ns`: nothing is promised to anybody, the last holder gave it back.
    pub const NOTHING: i64 = i64::MIN;

    /// Before the first grant.
    const fn new(kind: Kind) -> Self {
        Record { kind, fence: Fence(0), holder: HolderId(0), until_ns: Record::NOTHING }
    }
}

/// Which module wrote a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`clock::Granter`].
    Clock,
    /// [`rate::Granter`].
    Rate,
    /// [`cache::Server`].
    Cache,
    /// [`primary::Backup`].
    Primary,
    /// [`crate::order::hlc::Hlc`].
    Hlc,
    /// [`crate::once::AtMostOnce`].
    Once,
    /// [`crate::oracle::Oracle`].
    Oracle,
}

/// Why there is no lease, or no confirmation. In every case: do not act, do not reply with what was read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refused {
    /// There is no bound, or no tick, now. The lease may still be held: begin again later.
    Unavailable(Unavailable),
    /// Nobody can prove any more that this lease is held. Ask for a new one.
    Expired,
    /// The agent withdrew its bounds since the work began. Begin again.
    NewEpoch,
    /// Promised to another.
    Held {
        /// To whom; `None`: a granter after a crash does not know.
        holder: Option<HolderId>,
        /// Free once this TAI instant has certainly passed, ns; `None`: a term of a rate lease runs.
        until_tai_ns: Option<i64>,
    },
    /// A later grant than the one named has been made, with this fence or an earlier one.
    Superseded(Fence),
    /// The term is not above 0, longer than the granter's longest (ns, given here), or ends beyond all time.
    Term(i64),
    /// This answers another question than the one that was asked, or another holder's.
    NotMine,
    /// A writer waits for this key: no new leases to read it.
    WriterWaits,
    /// No room for more leases or writers, and none of them has expired.
    Full,
    /// Too few, or not distinct, votes for a primary.
    NotElected,
    /// 2⁶⁴ − 1 grants have been made: start with an empty store, on a resource with a new gate.
    FencesExhausted,
    /// The store did not keep it, so nothing was granted. What is stored now may be the old or the new record.
    Store(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Unavailable(why) => why.fmt(f),
            Refused::Expired => f.write_str("the lease may have expired: ask for a new one"),
            Refused::NewEpoch => f.write_str("the agent withdrew its bounds during the work: begin again"),
            Refused::Held { holder, until_tai_ns } => {
                match holder {
                    Some(holder) => write!(f, "promised to {holder}")?,
                    None => f.write_str("promised before the granter restarted")?,
                }
                match until_tai_ns {
                    Some(until) => write!(f, " until {until} ns TAI"),
                    None => f.write_str("; its term runs"),
                }
            }
            Refused::Superseded(fence) => write!(f, "a later grant was made (fence {fence}): ask for a new lease"),
            Refused::Term(longest) => write!(f, "the term is not between 1 and {longest} ns"),
            Refused::NotMine => f.write_str("this answers another question: ask again"),
            Refused::WriterWaits => f.write_str("a writer waits for this key: read without a lease, or later"),
            Refused::Full => f.write_str("no room for more leases: try later, or raise the limit"),
            Refused::NotElected => f.write_str("not enough distinct votes for this ballot: hold an election"),
            Refused::FencesExhausted => f.write_str("no fence is left: start with an empty store"),
            Refused::Store(error) => write!(f, "the lease could not be stored: {error}"),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Refused::Unavailable(why) => Some(why),
            Refused::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Unavailable> for Refused {
    fn from(why: Unavailable) -> Self {
        Refused::Unavailable(why)
    }
}

/// 64 random bits, for requests: no secret, but not used before, by this process or any other (but for a chance of
/// 2⁻⁶⁴ each).
#[must_use]
pub fn fresh_nonce() -> u64 {
    // Not from a state of this process, which a fork would double.
    crate::sys::random()
}

/// A reading that leases may stand on, with its ends in order.
fn strict(time: &impl TimeSource) -> Result<Interval, Refused> {
    let now = time.now_strict()?;
    if now.tai.is_valid() { Ok(now) } else { Err(Refused::Unavailable(Unavailable::Malformed)) }
}

/// `term_ns` if it is one.
fn expect_term(term_ns: i64, longest_ns: i64) -> Result<i64, Refused> {
    if (1..=longest_ns).contains(&term_ns) { Ok(term_ns) } else { Err(Refused::Term(longest_ns)) }
}

/// The instant that is certainly not before `term_ns` from now: a promise of at least that long.
fn expiry_after(now: &Interval, term_ns: i64, longest_ns: i64) -> Result<i64, Refused> {
    let term_ns = expect_term(term_ns, longest_ns)?;
    now.tai.latest_ns.checked_add(term_ns).ok_or(Refused::Term(longest_ns))
}

/// What a granter of this kind stored last.
fn load(store: &mut impl Store, kind: Kind) -> Result<Record, Refused> {
    match store.load().map_err(Refused::Store)? {
        None => Ok(Record::new(kind)),
        Some(record) if record.kind == kind => Ok(record),
        Some(record) => {
            let text = format!("the store belongs to a granter of kind {:?}, not {kind:?}", record.kind);
            Err(Refused::Store(io::Error::new(io::ErrorKind::InvalidData, text)))
        }
    }
}
