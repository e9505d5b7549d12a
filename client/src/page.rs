//! The page: a latch of two slots in shared memory, so that a writer killed at any instant strands nobody.
//!
//! `generation` counts publications; readers use slot `generation & 1`. The writer fills the *other* slot and only then
//! counts up. Orders, in the terms of the C++ memory model:
//!
//! ```text
//! writer, publication n + 1                        reader
//!   fence(Release)                        (a)        g  = generation.load(Acquire)          (d)
//!   slot[(n + 1) & 1].words.store(Relaxed)(b)        raw = clock()
//!   generation.store(n + 1, Release)      (c)        words = slot[g & 1].load(Relaxed)      (e)
//!                                                    fence(Acquire)                         (f)
//!                                                    generation.load(Relaxed) == g, or again(g)
//! ```
//! (c)→(d): a reader that sees n + 1 sees the whole slot. If (e) of a reader of generation n − 1 reads a word written
//! at (b), which is the same slot, then (a) synchronises with (f), so (g) sees at least n, written before (a): the
//! reader tries again. The generation is checked after the clock is read, so a page withdrawn before the reading of
//! the clock is never used. `tests/loom.rs` searches the interleavings.
//!
//! Words are 64-bit atomics: there are no torn words. Until (g) has agreed, only arithmetic is done with them, and nothing
//! that came of it is given away: no word is an index, a length or an address.

use crate::bound::Bound;
use crate::clock::ClockKind;
use crate::host::{Foretold, VmMark};
use crate::status::{Reason, Status};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// First word of every page: the bytes `TRUBOUND` on a little-endian host.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"TRUBOUND");
/// Version of this layout.
pub const LAYOUT_VERSION: u64 = 2;
/// Size of the page in 64-bit words.
pub const PAGE_WORDS: usize = 512;
/// Size of the page in bytes.
pub const PAGE_BYTES: usize = PAGE_WORDS * 8;
/// How often a read starts again when publications keep overtaking it. A publication takes an answer from the network,
/// a read tens of nanoseconds.
pub(crate) const MAX_TRIES: u32 = 1_000;

/// Word numbers of the header.
pub mod header {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::LAYOUT_VERSION`].
    pub const VERSION: usize = 1;
    /// Number of the newest publication; 0: nothing was ever published.
    pub const GENERATION: usize = 2;
    /// Two words: the kernel's boot id, its 16 bytes in order.
    pub const BOOT_ID: usize = 3;
    /// [`super::ClockKind`] as a number.
    pub const CLOCK: usize = 5;
    /// Six words: parameters of a virtual clock.
    pub const VIRTUAL_CLOCK: usize = 6;
    /// Inode of the agent's time namespace; 0: the kernel has none.
    pub const TIME_NAMESPACE: usize = 12;
    /// Eight words: path of the hypervisor's page that the agent watches, zero padded; all zero: none.
    pub const VMCLOCK: usize = 13;
}

const SLOT_START: usize = 64;
const SLOT_WORDS: usize = 64;
/// How many of a slot's words are stored and loaded at all. loom tries every value of every word; three show the latch.
const TOUCHED_WORDS: usize = if cfg!(loom) { 3 } else { SLOT_WORDS };

/// Word numbers within a slot.
mod slot {
    pub(super) const STATUS: usize = 0;
    pub(super) const EPOCH: usize = 1;
    pub(super) const BOUND: usize = 2; // ten words
    pub(super) const UTC_OFFSETS: usize = 12;
    pub(super) const UTC_CHANGE_AT: usize = 13;
    pub(super) const VM_MARK: usize = 14; // two words
    pub(super) const WANDER: usize = 16;
    pub(super) const PHASE_NOISE: usize = 17;
    pub(super) const SPREAD: usize = 18;
    pub(super) const OMEGA_LIMIT: usize = 19;
    pub(super) const CLOCKSOURCE: usize = 20; // two words
    pub(super) const SUSPENDED: usize = 22;
    pub(super) const LEAP_EXPIRY: usize = 23;
    pub(super) const ASSERTED: usize = 24; // five words
    pub(super) const ESTIMATE: usize = 29; // three words
    pub(super) const SOURCE: usize = 32; // four words
    pub(super) const GROUPS: usize = 36;
    pub(super) const ASSUMPTIONS: usize = 37;
}

/// How UTC follows from TAI around the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtcOffset {
    /// TAI − UTC until `change_at_ns`, s.
    pub offset_s: i32,
    /// TAI − UTC from `change_at_ns` on, s; [`UtcOffset::unknown`] where no leap table reaches so far.
    pub after_s: i32,
    /// TAI instant of the next known or possible change, ns since 1970; `i64::MAX` for never.
    pub change_at_ns: i64,
}

impl UtcOffset {
    /// In `after_s`: an offset that nobody announced yet, one second of doubt on either side.
    pub const UNKNOWN: i32 = i32::MIN;
    /// The most seconds of doubt that there are numbers for.
    const MOST_DOUBT_S: i32 = 1_000;

    /// In `after_s`: as [`UtcOffset::UNKNOWN`] with `doubt_s` seconds of doubt on either side, of 1 to 1000: more possible
    /// leap seconds than one may have been since the table ended.
    #[must_use]
    pub const fn unknown(doubt_s: i32) -> i32 {
        let beyond_one = if doubt_s < 1 { 0 } else { doubt_s - 1 };
        let most = UtcOffset::MOST_DOUBT_S - 1;
        UtcOffset::UNKNOWN + if beyond_one > most { most } else { beyond_one }
    }

    /// From `change_at_ns` on the offset is in doubt by so many seconds on either side; `None`: it is `after_s`.
    #[inline]
    #[must_use]
    pub const fn doubt_s(&self) -> Option<i32> {
        let beyond_one = self.after_s.wrapping_sub(UtcOffset::UNKNOWN);
        // An ordinary offset is far above, and wraps to a negative number or a large one.
        if 0 <= beyond_one && beyond_one < UtcOffset::MOST_DOUBT_S { Some(beyond_one + 1) } else { None }
    }
}

/// Numbers that an operator asserted, beside the guaranteed ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asserted {
    /// Lower edge of θ, ns.
    pub theta_lo_ns: i64,
    /// Upper edge of θ, ns.
    pub theta_hi_ns: i64,
    /// Lower edge of dθ/dT, 2⁻⁴⁰ s/s.
    pub omega_lo: i64,
    /// Upper edge of dθ/dT, 2⁻⁴⁰ s/s.
    pub omega_hi: i64,
}

impl Default for Publication {
    /// Says nothing: what a page tells of an agent that has not heard anything yet.
    fn default() -> Self {
        Publication {
            status: Status::Starting,
            reason: Reason::NoAnswerYet,
            epoch: 0,
            bound: Bound::default(),
            utc: UtcOffset { offset_s: 0, after_s: UtcOffset::UNKNOWN, change_at_ns: i64::MAX },
            wander_fs_per_s2: 0,
            phase_noise_fs: 0,
            spread: 0,
            omega_limit: 0,
            clocksource: [0; 16],
            suspended_ns: 0,
            vm_mark: VmMark::default(),
            foretold: Foretold::Nothing,
            leap_expiry_ns: i64::MAX,
            asserted: None,
            estimate_theta_ns: 0,
            estimate_omega: 0,
            estimate_sigma_ns: 0,
            source: [0; 32],
            groups: (0, 0),
            assumptions: 0,
        }
    }
}

impl Publication {
    /// The asserted edges with the growth of the guaranteed ones: a bound that holds if the operator's word does too.
    #[must_use]
    pub fn asserted_bound(&self) -> Option<Bound> {
        let Asserted { theta_lo_ns, theta_hi_ns, omega_lo, omega_hi } = self.asserted?;
        Some(Bound { theta_lo_ns, theta_hi_ns, omega_lo, omega_hi, ..self.bound })
    }
}

/// Everything the agent says in one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// State of the bound.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// Changes when earlier intervals were withdrawn.
    pub epoch: u64,
    /// The guaranteed bound. All zero while there is none.
    pub bound: Bound,
    /// TAI − UTC.
    pub utc: UtcOffset,
    /// A: largest change of frequency, 10⁻¹⁵ s/s per s.
    pub wander_fs_per_s2: u64,
    /// J: phase noise, 10⁻¹⁵ s per √s.
    pub phase_noise_fs: u64,
    /// D: the frequency stays within this of itself during one boot, 2⁻⁴⁰ s/s.
    pub spread: i64,
    /// Ω: largest frequency error, 2⁻⁴⁰ s/s.
    pub omega_limit: i64,
    /// The kernel's clocksource, at most 16 bytes.
    pub clocksource: [u8; 16],
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC when this was published, ns.
    pub suspended_ns: i64,
    /// The hypervisor's mark when this was published, if the agent watches its page; else zero.
    pub vm_mark: VmMark,
    /// A disruption that the hypervisor foretells.
    pub foretold: Foretold,
    /// TAI instant at which the leap table expires, ns.
    pub leap_expiry_ns: i64,
    /// The asserted region, where one exists.
    pub asserted: Option<Asserted>,
    /// Best estimate of θ at `bound.t_ref_ns`, ns. Not a bound.
    pub estimate_theta_ns: i64,
    /// Best estimate of dθ/dT, 2⁻⁴⁰ s/s. Not a bound.
    pub estimate_omega: i64,
    /// Standard uncertainty of the estimate, ns. Not a bound.
    pub estimate_sigma_ns: i64,
    /// Which source carries the bound, at most 32 bytes of UTF-8.
    pub source: [u8; 32],
    /// Independence groups: configured, and answering now.
    pub groups: (u32, u32),
    /// Digest of the settings this bound rests on; a restarted agent continues it only if equal.
    pub assumptions: u64,
}

/// A slot's words: a copy of them, or the page itself.
///
/// Straight from the page a field is good only if [`Page::is_still`] agrees afterwards, and until then any number may be
/// met: nothing but arithmetic may be done with it.
pub(crate) trait Slot {
    fn word(&self, index: usize) -> u64;
}

impl Slot for [u64; SLOT_WORDS] {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self[index]
    }
}

/// A slot on the page.
pub(crate) struct LiveSlot<'a> {
    words: &'a [AtomicU64],
    start: usize,
}

impl Slot for LiveSlot<'_> {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words[self.start + index].load(Ordering::Relaxed)
    }
}

/// The fields that those words make.
pub(crate) struct Fields<W>(W);

impl<W: Slot> Fields<W> {
    #[inline]
    pub(crate) fn status(&self) -> Option<Status> {
        Status::from_number(self.0.word(slot::STATUS).to_ne_bytes()[0])
    }

    pub(crate) fn reason(&self) -> Reason {
        let bytes = self.0.word(slot::STATUS).to_ne_bytes();
        Reason::from_number(u16::from_ne_bytes([bytes[2], bytes[3]]))
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.0.word(slot::EPOCH)
    }

    #[inline]
    pub(crate) fn vm_mark(&self) -> VmMark {
        VmMark { disruption_marker: self.0.word(slot::VM_MARK), generation: self.0.word(slot::VM_MARK + 1) }
    }

    /// Numbers above those known mean what the last known one does.
    fn foretold(&self) -> Foretold {
        match self.0.word(slot::STATUS).to_ne_bytes()[1] {
            0 => Foretold::Nothing,
            1 => Foretold::Soon,
            _ => Foretold::Imminent,
        }
    }

    #[inline]
    pub(crate) fn bound(&self) -> Bound {
        let word = |i: usize| self.0.word(slot::BOUND + i).cast_signed();
        Bound {
            t_ref_ns: word(0),
            void_after_ns: word(1),
            theta_lo_ns: word(2),
            theta_hi_ns: word(3),
            omega_lo: word(4),
            omega_hi: word(5),
            cap_lo: word(6),
            cap_hi: word(7),
            half_wander: self.0.word(slot::BOUND + 8),
            phase_rate: word(9),
        }
    }

    #[inline]
    pub(crate) fn utc(&self) -> UtcOffset {
        let [a, b, c, d, e, f, g, h] = self.0.word(slot::UTC_OFFSETS).to_ne_bytes();
        UtcOffset {
            offset_s: i32::from_ne_bytes([a, b, c, d]),
            after_s: i32::from_ne_bytes([e, f, g, h]),
            change_at_ns: self.0.word(slot::UTC_CHANGE_AT).cast_signed(),
        }
    }
}

/// A page as atomic words, wherever they live.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Page<'a> {
    /// The page over `words`, if there are enough of them.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() >= SLOT_START + 2 * SLOT_WORDS).then_some(Page { words })
    }

    /// One word of the header.
    #[must_use]
    pub fn header(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Acquire)
    }

    /// Number of the newest publication.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.words[header::GENERATION].load(Ordering::Acquire)
    }

    /// The fields of the slot that `generation` points at, each read when it is asked for.
    #[inline]
    pub(crate) fn fields(&self, generation: u64) -> Fields<LiveSlot<'a>> {
        Fields(LiveSlot { words: self.words, start: slot_start(generation) })
    }

    /// The words of the slot that `generation` points at. Only good if [`Page::is_still`] agrees afterwards.
    fn copy(&self, generation: u64) -> [u64; SLOT_WORDS] {
        let start = slot_start(generation);
        let mut copy = [0; SLOT_WORDS];
        for (to, from) in copy.iter_mut().zip(&self.words[start..start + TOUCHED_WORDS]) {
            *to = from.load(Ordering::Relaxed);
        }
        copy
    }

    /// Has nothing been published since `generation` was read?
    #[inline]
    pub(crate) fn is_still(&self, generation: u64) -> bool {
        fence(Ordering::Acquire);
        self.words[header::GENERATION].load(Ordering::Relaxed) == generation
    }

    /// The newest publication, whole; `None` if there is none, if its status is not one this client knows, or if the
    /// generation never stood still (a writer that is no agent).
    #[must_use]
    pub fn publication(&self) -> Option<Publication> {
        for _ in 0..MAX_TRIES {
            let generation = self.generation();
            if generation == 0 {
                return None;
            }
            let words = self.copy(generation);
            if self.is_still(generation) {
                return decode(words);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Publishes. One writer only.
    #[cfg(feature = "publish")]
    pub fn publish(&self, publication: &Publication) {
        let next = self.words[header::GENERATION].load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.publish_as(next, publication);
    }

    #[cfg(feature = "publish")]
    fn publish_as(&self, next: u64, publication: &Publication) {
        let start = slot_start(next);
        fence(Ordering::Release);
        for (to, word) in self.words[start..start + TOUCHED_WORDS].iter().zip(encode(publication)) {
            to.store(word, Ordering::Relaxed);
        }
        self.words[header::GENERATION].store(next, Ordering::Release);
    }

    /// Writes one word of the header. Only while nobody else can see the page, or for words that never change twice.
    #[cfg(feature = "publish")]
    pub fn set_header(&self, index: usize, word: u64) {
        self.words[index].store(word, Ordering::Release);
    }
}

/// What `tests/loom.rs` needs: one try of a read, and a writer that knows its generation. (loom's search remembers only
/// the last access to an atomic: a writer's own load of the generation would hide the reader's, and with it most
/// interleavings.)
#[cfg(all(loom, feature = "publish"))]
#[doc(hidden)]
impl Page<'_> {
    #[must_use]
    pub fn model_read(&self) -> Option<(Status, u64, Bound)> {
        let generation = self.generation();
        if generation == 0 {
            return None;
        }
        let fields = Fields(self.copy(generation));
        self.is_still(generation).then_some((fields.status()?, fields.epoch(), fields.bound()))
    }

    pub fn model_publish(&self, generation: u64, publication: &Publication) {
        self.publish_as(generation, publication);
    }
}

#[inline]
fn slot_start(generation: u64) -> usize {
    if generation & 1 == 0 { SLOT_START } else { SLOT_START + SLOT_WORDS }
}

fn decode(words: [u64; SLOT_WORDS]) -> Option<Publication> {
    let fields = Fields(words);
    let signed = |i: usize| words[i].cast_signed();
    let asserted = Asserted {
        theta_lo_ns: signed(slot::ASSERTED),
        theta_hi_ns: signed(slot::ASSERTED + 1),
        omega_lo: signed(slot::ASSERTED + 2),
        omega_hi: signed(slot::ASSERTED + 3),
    };
    let mut clocksource = [0; 16];
    copy_out(&words[slot::CLOCKSOURCE..slot::CLOCKSOURCE + 2], &mut clocksource);
    let mut source = [0; 32];
    copy_out(&words[slot::SOURCE..slot::SOURCE + 4], &mut source);
    let [a, b, c, d, e, f, g, h] = words[slot::GROUPS].to_ne_bytes();
    Some(Publication {
        status: fields.status()?,
        reason: fields.reason(),
        epoch: fields.epoch(),
        bound: fields.bound(),
        utc: fields.utc(),
        wander_fs_per_s2: words[slot::WANDER],
        phase_noise_fs: words[slot::PHASE_NOISE],
        spread: signed(slot::SPREAD),
        omega_limit: signed(slot::OMEGA_LIMIT),
        clocksource,
        suspended_ns: signed(slot::SUSPENDED),
        vm_mark: fields.vm_mark(),
        foretold: fields.foretold(),
        leap_expiry_ns: signed(slot::LEAP_EXPIRY),
        asserted: (words[slot::ASSERTED + 4] == 1).then_some(asserted),
        estimate_theta_ns: signed(slot::ESTIMATE),
        estimate_omega: signed(slot::ESTIMATE + 1),
        estimate_sigma_ns: signed(slot::ESTIMATE + 2),
        source,
        groups: (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])),
        assumptions: words[slot::ASSUMPTIONS],
    })
}

pub(crate) fn copy_out(words: &[u64], bytes: &mut [u8]) {
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
}

#[cfg(feature = "publish")]
fn encode(publication: &Publication) -> [u64; SLOT_WORDS] {
    let mut words = [0u64; SLOT_WORDS];
    let [r0, r1] = (publication.reason as u16).to_ne_bytes();
    words[slot::STATUS] =
        u64::from_ne_bytes([publication.status as u8, publication.foretold as u8, r0, r1, 0, 0, 0, 0]);
    words[slot::EPOCH] = publication.epoch;
    let bound = &publication.bound;
    let bound_words = [
        bound.t_ref_ns.cast_unsigned(),
        bound.void_after_ns.cast_unsigned(),
        bound.theta_lo_ns.cast_unsigned(),
        bound.theta_hi_ns.cast_unsigned(),
        bound.omega_lo.cast_unsigned(),
        bound.omega_hi.cast_unsigned(),
        bound.cap_lo.cast_unsigned(),
        bound.cap_hi.cast_unsigned(),
        bound.half_wander,
        bound.phase_rate.cast_unsigned(),
    ];
    words[slot::BOUND..slot::BOUND + 10].copy_from_slice(&bound_words);
    words[slot::UTC_OFFSETS] = pair(publication.utc.offset_s.cast_unsigned(), publication.utc.after_s.cast_unsigned());
    words[slot::UTC_CHANGE_AT] = publication.utc.change_at_ns.cast_unsigned();
    words[slot::WANDER] = publication.wander_fs_per_s2;
    words[slot::PHASE_NOISE] = publication.phase_noise_fs;
    words[slot::SPREAD] = publication.spread.cast_unsigned();
    words[slot::OMEGA_LIMIT] = publication.omega_limit.cast_unsigned();
    copy_in(&publication.clocksource, &mut words[slot::CLOCKSOURCE..slot::CLOCKSOURCE + 2]);
    words[slot::VM_MARK] = publication.vm_mark.disruption_marker;
    words[slot::VM_MARK + 1] = publication.vm_mark.generation;
    words[slot::SUSPENDED] = publication.suspended_ns.cast_unsigned();
    words[slot::LEAP_EXPIRY] = publication.leap_expiry_ns.cast_unsigned();
    if let Some(asserted) = publication.asserted {
        words[slot::ASSERTED] = asserted.theta_lo_ns.cast_unsigned();
        words[slot::ASSERTED + 1] = asserted.theta_hi_ns.cast_unsigned();
        words[slot::ASSERTED + 2] = asserted.omega_lo.cast_unsigned();
        words[slot::ASSERTED + 3] = asserted.omega_hi.cast_unsigned();
        words[slot::ASSERTED + 4] = 1;
    }
    words[slot::ESTIMATE] = publication.estimate_theta_ns.cast_unsigned();
    words[slot::ESTIMATE + 1] = publication.estimate_omega.cast_unsigned();
    words[slot::ESTIMATE + 2] = publication.estimate_sigma_ns.cast_unsigned();
    copy_in(&publication.source, &mut words[slot::SOURCE..slot::SOURCE + 4]);
    words[slot::GROUPS] = pair(publication.groups.0, publication.groups.1);
    words[slot::ASSUMPTIONS] = publication.assumptions;
    words
}

#[cfg(feature = "publish")]
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(any(feature = "publish", test))]
pub(crate) fn copy_in(bytes: &[u8], words: &mut [u64]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
}

/// The clock that `word` of the header names.
pub(crate) fn clock_kind(word: u64) -> Option<ClockKind> {
    [ClockKind::MonotonicRaw, ClockKind::Virtual].into_iter().find(|&kind| kind as u64 == word)
}
