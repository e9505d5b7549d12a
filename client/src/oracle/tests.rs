//! Several oracles alive at once, each interrupted by the others in the middle of its calls, on clocks that are wrong
//! within their bounds and a store that fails in every way it may.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::*;
use crate::interval::Interval;
use crate::status::Status;
use crate::tick::Tick;

const NODES: usize = 3;
const WINDOW_NS: i64 = 100;
const WIDEST_NS: i64 = 40;

/// What is planted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fault {
    /// The store takes records from whoever comes.
    is_unconditional: bool,
    /// Clocks are further from true time than their bounds say, ns.
    lie_ns: i64,
}

struct Call {
    /// Among all beginnings and ends.
    begin: u64,
    end: u64,
    batch: Batch,
}

struct State {
    random: u64,
    fault: Fault,
    /// Of twenty saves so many fail in one of three ways.
    failing: u64,
    true_ns: i64,
    record: Option<Record>,
    /// Saves that were given up and arrive all the same.
    late: Vec<Record>,
    calls: Vec<Call>,
    events: u64,
    handovers: u64,
    owner: usize,
    mistakes: Vec<String>,
}

impl State {
    /// SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn ns_below(&mut self, end_ns: i64) -> i64 {
        i64::try_from(self.below(end_ns.unsigned_abs().max(1))).expect("small")
    }

    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn put(&mut self, record: Record) -> io::Result<()> {
        let next = self.record.map_or(1, |stored| stored.fence.0 + 1);
        if record.fence.0 != next && !self.fault.is_unconditional {
            return Err(io::Error::other("somebody came between"));
        }
        self.record = Some(record);
        Ok(())
    }
}

struct World {
    oracles: [RefCell<Option<Oracle<Clock, Shared>>>; NODES],
    state: RefCell<State>,
}

struct Clock(Weak<World>, i64);
struct Shared(Weak<World>);

impl World {
    fn new(seed: u64, fault: Fault) -> Rc<Self> {
        let state = State {
            random: seed,
            fault,
            failing: 3 + seed % 3 * 6,
            true_ns: 0,
            record: None,
            late: Vec::new(),
            calls: Vec::new(),
            events: 0,
            handovers: 0,
            owner: 0,
            mistakes: Vec::new(),
        };
        Rc::new(World { oracles: Default::default(), state: RefCell::new(state) })
    }

    /// Between any two things that an oracle does: time passes, late saves arrive, another one runs.
    fn interrupt(self: &Rc<Self>) {
        let node = {
            let mut state = self.state.borrow_mut();
            let pause_ns = if state.below(40) == 0 { 2 * WINDOW_NS } else { 4 };
            state.true_ns += state.ns_below(pause_ns);
            if !state.late.is_empty() && state.below(8) == 0 {
                let record = state.late.remove(0);
                // Nobody waits for the answer.
                let _ = state.put(record);
            }
            (state.below(4) == 0).then(|| usize::try_from(state.below(NODES as u64)).expect("small"))
        };
        if let Some(node) = node {
            self.step(node);
        }
    }

    /// One thing that `node` does, unless it is in the middle of another.
    fn step(self: &Rc<Self>, node: usize) {
        let Ok(mut slot) = self.oracles[node].try_borrow_mut() else { return };
        let choice = self.state.borrow_mut().below(30);
        if choice == 0 {
            *slot = None;
        } else if choice == 1
            && let Some(oracle) = slot.take()
        {
            let _ = oracle.retire();
        }
        let Some(oracle) = &mut *slot else {
            let lie_ns = self.state.borrow().fault.lie_ns * if node == 0 { -1 } else { 1 };
            let here = Rc::downgrade(self);
            *slot = Oracle::open(Clock(here.clone(), lie_ns), Shared(here), WINDOW_NS).ok();
            return;
        };
        let (begin, count) = {
            let mut state = self.state.borrow_mut();
            (state.event(), u32::try_from(state.below(5)).expect("small"))
        };
        let result = oracle.allocate(count);
        let mut state = self.state.borrow_mut();
        let end = state.event();
        if let Ok(batch) = result {
            state.handovers += u64::from(state.owner != node);
            state.owner = node;
            let is_small = batch.first_ns <= batch.last_ns && batch.count() <= u64::from(count.max(1));
            // Commit wait comes to an end: not later than true time will be in one width.
            let is_near = batch.last_ns <= state.true_ns + WIDEST_NS;
            if !is_small || !is_near && state.fault == Fault::default() {
                let mistake = format!("{batch:?} for {count} at {}", state.true_ns);
                state.mistakes.push(mistake);
            }
            state.calls.push(Call { begin, end, batch });
        }
    }
}

impl TimeSource for Clock {
    fn now(&self) -> Result<Interval, Unavailable> {
        Err(Unavailable::Stale)
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        let world = self.0.upgrade().expect("the world is there");
        world.interrupt();
        let tai = {
            let mut state = world.state.borrow_mut();
            if state.below(50) == 0 {
                return Err(Unavailable::Stale);
            }
            let true_ns = state.true_ns + self.1;
            Span::new(true_ns - state.ns_below(WIDEST_NS), true_ns + state.ns_below(WIDEST_NS))
        };
        world.interrupt();
        let (earliest_ns, latest_ns) = (tai.earliest_ns, tai.latest_ns);
        Ok(Interval { earliest_ns, latest_ns, tai, epoch: 1, status: Status::Locked, tai_offset_s: 0 })
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        Err(Unavailable::Stale)
    }
}

impl Store for Shared {
    fn load(&mut self) -> io::Result<Option<Record>> {
        let world = self.0.upgrade().expect("the world is there");
        world.interrupt();
        let record = world.state.borrow().record;
        world.interrupt();
        Ok(record)
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        let world = self.0.upgrade().expect("the world is there");
        world.interrupt();
        let result = {
            let mut state = world.state.borrow_mut();
            let way = state.below(20);
            match way % 3 {
                _ if way >= state.failing => state.put(*record),
                0 => Err(io::ErrorKind::TimedOut.into()),
                1 => state.put(*record).and(Err(io::ErrorKind::TimedOut.into())),
                _ => {
                    state.late.push(*record);
                    Err(io::ErrorKind::TimedOut.into())
                }
            }
        };
        world.interrupt();
        result
    }
}

/// The first breach of the guarantee among these calls, by its definition.
fn breach(calls: &[Call]) -> Option<String> {
    let mut by_value: Vec<&Call> = calls.iter().collect();
    by_value.sort_by_key(|call| call.batch.first_ns);
    if let Some(pair) = by_value.windows(2).find(|pair| pair[0].batch.last_ns >= pair[1].batch.first_ns) {
        return Some(format!("twice: {:?} and {:?}", pair[0].batch, pair[1].batch));
    }
    let is_wrong = |a: &Call, b: &Call| a.end < b.begin && a.batch.last_ns >= b.batch.first_ns;
    let pairs = calls.iter().flat_map(|a| calls.iter().map(move |b| (a, b)));
    let wrong = pairs.into_iter().find(|(a, b)| is_wrong(a, b));
    wrong.map(|(a, b)| format!("{:?} was given before {:?} was asked for", a.batch, b.batch))
}

struct Tally {
    breach: Option<String>,
    calls: usize,
    handovers: u64,
}

fn run(seed: u64, fault: Fault) -> Tally {
    let world = World::new(seed, fault);
    for _ in 0..400 {
        let node = world.state.borrow_mut().below(NODES as u64);
        world.step(usize::try_from(node).expect("small"));
        let mut state = world.state.borrow_mut();
        state.true_ns += state.ns_below(30);
    }
    let state = world.state.borrow();
    let breach = breach(&state.calls).or_else(|| state.mistakes.first().cloned());
    Tally { breach, calls: state.calls.len(), handovers: state.handovers }
}

#[test]
fn no_timestamp_is_given_twice_and_none_goes_back() {
    let (mut calls, mut handovers) = (0, 0);
    for seed in 0..400 {
        let tally = run(seed, Fault::default());
        assert_eq!(tally.breach, None, "seed {seed}");
        calls += tally.calls;
        handovers += tally.handovers;
    }
    // Else it would prove little.
    assert!(calls > 40_000 && handovers > 2_000, "{calls} calls, {handovers} handovers");
}

#[test]
fn a_store_without_condition_and_a_bound_that_lies_are_found_out() {
    for fault in [Fault { is_unconditional: true, lie_ns: 0 }, Fault { is_unconditional: false, lie_ns: 60 }] {
        let found = (0..400).filter(|seed| run(*seed, fault).breach.is_some()).count();
        assert!(found > 0, "{fault:?} passes");
    }
}

/// What one clock says.
struct At(Span);

impl TimeSource for At {
    fn now(&self) -> Result<Interval, Unavailable> {
        self.now_strict()
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        let Span { earliest_ns, latest_ns } = self.0;
        Ok(Interval { earliest_ns, latest_ns, tai: self.0, epoch: 1, status: Status::Locked, tai_offset_s: 0 })
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        Err(Unavailable::Stale)
    }
}

#[test]
fn a_burst_is_as_wide_as_the_interval_and_then_waits() {
    let mut store = crate::lease::MemoryStore::default();
    let mut oracle = Oracle::open(At(Span::new(1_000, 1_009)), &mut store, 100).expect("memory");
    assert_eq!(oracle.allocate(4).expect("room"), Batch { first_ns: 1_000, last_ns: 1_003 });
    assert_eq!(oracle.allocate(100).expect("room"), Batch { first_ns: 1_004, last_ns: 1_009 });
    assert!(matches!(oracle.allocate(1), Err(OracleError::TooFast(1))));
    oracle.time.0 = Span::new(1_001, 1_010);
    assert_eq!(oracle.allocate(0).expect("room").count(), 1);
    assert_eq!((store.saves, store.record.map(|record| record.until_ns)), (1, Some(1_109)));
}

#[test]
fn a_successor_gives_from_the_nanosecond_its_predecessors_window_ends() {
    let mut store = crate::lease::MemoryStore::default();
    let mut first = Oracle::open(At(Span::new(0, 9)), &mut store, 100).expect("memory");
    first.allocate(1).expect("room");
    // Until 108 it may; at 109 it must not, and asks for a new window.
    assert!(!first.must_extend(Span::new(50, 59)) && first.must_extend(Span::new(51, 60)));
    let mut second = Oracle::open(At(Span::new(108, 200)), &mut store, 100).expect("memory");
    assert!(matches!(second.allocate(1), Err(OracleError::PredecessorMayLive(109))));
    second.time.0 = Span::new(109, 200);
    assert_eq!(second.allocate(1).expect("passed").first_ns, 109);
    second.retire().expect("memory");
    let mut third = Oracle::open(At(Span::new(110, 120)), &mut store, 100).expect("memory");
    assert_eq!(third.allocate(1).expect("retired").first_ns, 110);
}

/// Keeps its first record and refuses every other.
struct Once(Option<Record>);

impl Store for Once {
    fn load(&mut self) -> io::Result<Option<Record>> {
        Ok(self.0)
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        if self.0.is_some() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0 = Some(*record);
        Ok(())
    }
}

#[test]
fn an_owner_that_cannot_extend_gives_until_the_nanosecond_before_its_ceiling() {
    let mut oracle = Oracle::open(At(Span::new(0, 9)), Once(None), 100).expect("loads");
    oracle.allocate(1).expect("the first window, until 109");
    oracle.time.0 = Span::new(100, 108);
    assert_eq!(oracle.allocate(100).expect("still its own"), Batch { first_ns: 100, last_ns: 108 });
    oracle.time.0 = Span::new(100, 109);
    assert!(matches!(oracle.allocate(1), Err(OracleError::Store(_))));
    // Its own successor.
    assert!(matches!(oracle.allocate(1), Err(OracleError::PredecessorMayLive(109))));
}
