//! A world in which truth is known: clocks at the worst edges of what they claim, a store that may fail, dice.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use truebound_client::bound::RATE_BITS;
use truebound_client::lease::{MemoryStore, Record, Store};
use truebound_client::{Bound, Interval, Reason, Span, Status, Tick, TimeSource, Unavailable};

/// What is wrong with a node, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Thinks it is already the latest that it may be: frees too early.
    LatestForEarliest,
    /// Thinks it is only the earliest that it may be: holds too long.
    EarliestForLatest,
    /// Its clock errs twice as much as it claims.
    WorseThanClaimed,
    /// Does not see that its agent withdrew everything.
    BlindToEpochs,
    /// Does not see that it slept.
    BlindToSleep,
}

/// Claimed: true time runs within ±2 % of raw time. Far more than of any oscillator, so that edges are met often.
const CLAIMED_PPM: i64 = 20_000;

/// A host's clock. Its interval and its rate are at an edge of what is claimed, and change edges when told to.
pub struct Clock {
    truth: Rc<Cell<i64>>,
    pub fault: Fault,
    claim_ns: i64,
    below_ns: Cell<i64>,
    above_ns: Cell<i64>,
    /// True time minus raw time grows by this, ppm.
    omega_ppm: Cell<i64>,
    /// 10⁻⁶ ns, as of `seen_ns`.
    raw: Cell<i128>,
    seen_ns: Cell<i64>,
    slept_ns: Cell<i64>,
    epoch: Cell<u64>,
    /// No bound, no tick.
    pub is_out: Cell<bool>,
    /// Slept or moved, and the agent has not noticed.
    is_stale: Cell<bool>,
    is_asleep: Cell<bool>,
}

impl Clock {
    pub fn new(truth: &Rc<Cell<i64>>, claim_ns: i64, fault: Fault) -> Self {
        Clock {
            truth: Rc::clone(truth),
            fault,
            claim_ns,
            below_ns: Cell::new(claim_ns),
            above_ns: Cell::new(claim_ns),
            omega_ppm: Cell::new(0),
            raw: Cell::new(0),
            seen_ns: Cell::new(truth.get()),
            slept_ns: Cell::new(0),
            epoch: Cell::new(1),
            is_out: Cell::new(false),
            is_stale: Cell::new(false),
            is_asleep: Cell::new(false),
        }
    }

    /// Lets raw time follow truth up to now.
    pub fn catch_up(&self) {
        let passed_ns = self.truth.get() - self.seen_ns.replace(self.truth.get());
        if self.is_asleep.get() {
            self.slept_ns.set(self.slept_ns.get() + passed_ns);
        } else {
            let rate = i128::from(1_000_000 + self.omega_ppm.get());
            self.raw.set(self.raw.get() + i128::from(passed_ns) * 1_000_000_000_000 / rate);
        }
    }

    /// To other edges.
    pub fn jump(&self, dice: &mut Dice) {
        self.catch_up();
        let scale = if self.fault == Fault::WorseThanClaimed { 2 } else { 1 };
        self.omega_ppm.set(dice.pick(&[-CLAIMED_PPM, 0, CLAIMED_PPM]) * scale);
        let width_ns = 2 * self.claim_ns;
        let below_ns = dice.pick(&[0, self.claim_ns, width_ns]);
        // Truth at an end, or beyond it.
        let beyond_ns = if scale == 2 { dice.pick(&[-self.claim_ns, 0, self.claim_ns]) } else { 0 };
        self.below_ns.set(below_ns + beyond_ns);
        self.above_ns.set(width_ns - below_ns - beyond_ns);
    }

    /// Falls asleep, or wakes up: raw time stands still between.
    pub fn nod(&self) {
        self.catch_up();
        self.is_asleep.set(!self.is_asleep.get());
        self.is_stale.set(true);
    }

    pub fn is_asleep(&self) -> bool {
        self.is_asleep.get()
    }

    /// Raw time is another clock from now on, and the agent has noticed.
    pub fn new_epoch(&self, dice: &mut Dice) {
        self.catch_up();
        self.raw.set(i128::from(dice.below(1 << 40)) * 1_000);
        self.epoch.set(self.epoch.get() + 1);
        self.is_stale.set(false);
    }

    fn shown_epoch(&self) -> u64 {
        if self.fault == Fault::BlindToEpochs { 1 } else { self.epoch.get() }
    }
}

const NOTHING: Unavailable = Unavailable::NoBound(Status::Void, Reason::SourcesDisagree);

impl TimeSource for Clock {
    fn now(&self) -> Result<Interval, Unavailable> {
        self.now_strict()
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        if self.is_out.get() {
            return Err(NOTHING);
        }
        if self.is_stale.get() {
            return Err(Unavailable::Slept);
        }
        let (earliest_ns, latest_ns) = (self.truth.get() - self.below_ns.get(), self.truth.get() + self.above_ns.get());
        let tai = match self.fault {
            Fault::LatestForEarliest => Span::new(latest_ns, latest_ns),
            Fault::EarliestForLatest => Span::new(earliest_ns, earliest_ns),
            _ => Span::new(earliest_ns, latest_ns),
        };
        let (earliest_ns, latest_ns, epoch) = (tai.earliest_ns, tai.latest_ns, self.shown_epoch());
        Ok(Interval { earliest_ns, latest_ns, tai, epoch, status: Status::Locked, tai_offset_s: 37 })
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        if self.is_out.get() {
            return Err(NOTHING);
        }
        self.catch_up();
        let limit = (CLAIMED_PPM << RATE_BITS) / 1_000_000 + 1;
        let rates = Bound { omega_lo: -limit, omega_hi: limit, cap_lo: -limit, cap_hi: limit, ..Bound::default() };
        let rates = match self.fault {
            Fault::LatestForEarliest => Bound { omega_lo: limit, ..rates },
            Fault::EarliestForLatest => Bound { omega_hi: -limit, ..rates },
            _ => rates,
        };
        let raw_ns = i64::try_from(self.raw.get() / 1_000_000).expect("less than 292 years");
        let slept_ns = if self.fault == Fault::BlindToSleep { 0 } else { self.slept_ns.get() };
        Ok(Tick::new(raw_ns, slept_ns, self.shown_epoch(), &rates))
    }
}

/// What survives a crash; it may fail, and have kept the record or not.
#[derive(Clone, Default)]
pub struct Disk {
    kept: Rc<RefCell<MemoryStore>>,
    /// The next save fails: having kept the record, or not.
    pub fails: Rc<Cell<Option<bool>>>,
}

impl Disk {
    pub fn forget(&self) {
        self.kept.borrow_mut().record = None;
    }
}

impl Store for Disk {
    fn load(&mut self) -> io::Result<Option<Record>> {
        self.kept.borrow_mut().load()
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        let fails = self.fails.take();
        if fails != Some(false) {
            self.kept.borrow_mut().save(record)?;
        }
        if fails.is_some() { Err(io::Error::other("planted")) } else { Ok(()) }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: i64) -> i64 {
        (self.next() >> 1).cast_signed() % limit
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(i64::try_from(len).expect("small"))).expect("not negative")
    }

    pub fn pick(&mut self, of: &[i64]) -> i64 {
        of[self.index(of.len())]
    }

    pub fn chance(&mut self, one_in: i64) -> bool {
        self.below(one_in) == 0
    }
}

/// A step in time that likes the edges of a term and of a claim.
pub fn stride(dice: &mut Dice, term_ns: i64, claim_ns: i64) -> i64 {
    match dice.below(4) {
        0 => 1 + dice.below(3),
        1 => 1 + dice.below(claim_ns.max(1)),
        2 => 1 + dice.below(term_ns / 4),
        _ => 1 + dice.below(term_ns),
    }
}
