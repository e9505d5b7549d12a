//! Several nodes whose intervals contain true time and little else in common, with messages, bursts and crashes.

use super::*;
use crate::lease::MemoryStore;
use proptest::prelude::*;

const NODES: usize = 3;

#[derive(Clone, Debug)]
struct Step {
    node: usize,
    /// True time since the last event, ns.
    pause_ns: i64,
    /// How far the node's earliest and latest are from true time, ns.
    below_ns: i64,
    above_ns: i64,
    /// The earlier event whose message it receives.
    from: Option<prop::sample::Index>,
    is_crash: bool,
}

fn steps(widest_ns: i64) -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..NODES,
        prop_oneof![Just(0), 0i64..3_000, 0i64..50_000],
        0..=widest_ns,
        0..=widest_ns,
        prop::option::weighted(0.4, any::<prop::sample::Index>()),
        prop::bool::weighted(0.05),
    );
    let step = step.prop_map(|(node, pause_ns, below_ns, above_ns, from, is_crash)| Step {
        node,
        pause_ns,
        below_ns,
        above_ns,
        from,
        is_crash,
    });
    prop::collection::vec(step, 1..120)
}

const START_NS: i64 = 1_700_000_000_000_000_000;

/// Runs the steps and checks each stamp; returns how many events were refused.
fn run(steps: &[Step], step_ns: i64) -> Result<usize, TestCaseError> {
    let mut in_memory = [HlcStamp(0); NODES];
    let mut stores = [const { MemoryStore { record: None, saves: 0 } }; NODES];
    let mut made: Vec<HlcStamp> = Vec::new();
    let mut last = [None; NODES];
    let mut true_ns = START_NS;
    let mut refused = 0;
    for step in steps {
        true_ns += step.pause_ns;
        let now = Span::new(true_ns - step.below_ns, true_ns + step.above_ns);
        let mut clock = Hlc::open(&mut stores[step.node], step_ns).expect("memory");
        // Without a crash the process has what its store does not.
        if !step.is_crash {
            clock.last = in_memory[step.node];
        }
        let from = step.from.filter(|_| !made.is_empty()).map(|from| from.index(made.len()));
        let result = match from {
            Some(from) => clock.receive(made[from], now),
            None => clock.send(now),
        };
        in_memory[step.node] = clock.last;
        let Ok(stamp) = result else {
            refused += 1;
            continue;
        };
        // Its own node's last event, and the one whose message it received.
        for cause in [last[step.node], from].into_iter().flatten() {
            prop_assert!(made[cause] < stamp, "{} caused {}", made[cause], stamp);
        }
        prop_assert!(stamp.tai_ns() <= now.latest_ns, "{} beyond {:?}", stamp, now);
        prop_assert!(stamp.tai_ns() > now.earliest_ns - NS_PER_US, "{} before {:?}", stamp, now);
        last[step.node] = Some(made.len());
        made.push(stamp);
    }
    Ok(refused)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn causes_precede_effects_and_stamps_are_in_their_intervals(steps in steps(200_000), step_ns in 0i64..1_000_000) {
        run(&steps, step_ns)?;
    }

    #[test]
    fn without_crash_and_burst_no_honest_event_is_refused(steps in steps(200_000)) {
        let steps: Vec<_> = steps.into_iter().map(|step| Step { is_crash: false, ..step }).collect();
        prop_assert_eq!(run(&steps, 1_000_000)?, 0);
    }

    /// A peer that sends what it likes, to a clock that is at the end of its µs or anywhere.
    #[test]
    fn no_peer_moves_the_clock_beyond_latest(bits: u64, near in -5_000i64..5_000, width_ns in 0i64..5_000) {
        let now = Span::new(START_NS, START_NS + width_ns);
        let near = HlcStamp(stamp_at(now.latest_ns + near).expect("in range") | (bits & 0xfff));
        for remote in [HlcStamp(bits), near] {
            let mut clock = Hlc::open(MemoryStore::default(), 0).expect("memory");
            match clock.receive(remote, now) {
                Ok(stamp) => prop_assert!(stamp > remote && stamp.tai_ns() <= now.latest_ns),
                Err(HlcError::FromFuture(ns)) => {
                    prop_assert_eq!(ns, remote.tai_ns() - now.latest_ns);
                    prop_assert_eq!(clock.last(), HlcStamp(0));
                }
                Err(HlcError::Ahead(_)) => {
                    prop_assert!(remote.logical() == 0xfff && remote.tai_ns() + NS_PER_US > now.latest_ns);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn any_reading_gives_a_stamp_or_an_error(earliest: i64, latest: i64, bits: u64) {
        let mut clock = Hlc::open(MemoryStore::default(), i64::MAX).expect("memory");
        let now = Span::new(earliest, latest);
        let stamps = [clock.send(now).ok(), clock.receive(HlcStamp(bits), now).ok(), clock.send(now).ok()];
        prop_assert!(stamps.into_iter().flatten().is_sorted());
        prop_assert!(now.is_valid() || stamps == [None; 3]);
    }
}

#[test]
fn the_future_begins_a_nanosecond_after_latest() {
    let remote = HlcStamp(stamp_at(START_NS).expect("in range"));
    let receive =
        |latest_ns| Hlc::open(MemoryStore::default(), 0).expect("memory").receive(remote, Span::new(0, latest_ns));
    assert!(matches!(receive(START_NS - 1), Err(HlcError::FromFuture(1))));
    assert_eq!(receive(START_NS).expect("possible").to_bits(), remote.to_bits() + 1);
}

#[test]
fn a_full_count_carries_as_far_as_latest_and_then_waits() {
    let mut clock = Hlc::open(MemoryStore::default(), 0).expect("memory");
    let now = Span::new(START_NS, START_NS + 1_999);
    let first = clock.send(now).expect("in range");
    // Two µs have begun by latest: 2 · 4096 stamps.
    for expected in 1..2 * 4096 {
        assert_eq!(clock.send(now).expect("room").to_bits(), first.to_bits() + expected);
    }
    assert!(matches!(clock.send(now), Err(HlcError::Ahead(1))));
    assert!(clock.send(now.plus(0, 1)).is_ok());
}

#[test]
fn a_restart_begins_above_its_mark_or_waits_for_it() {
    let mut store = MemoryStore::default();
    let now = Span::new(START_NS, START_NS + 10);
    let before = Hlc::open(&mut store, 5_000).expect("memory").send(now).expect("in range");
    let mut again = Hlc::open(&mut store, 5_000).expect("memory");
    assert!(again.last() > before);
    assert!(matches!(again.send(now), Err(HlcError::Ahead(5_990))));
    assert_eq!(again.send(now.plus(5_990, 5_990)).expect("passed").tai_ns(), START_NS + 6_000);
}

/// Its save fails, though it may have been kept.
struct Broken<'a>(&'a mut MemoryStore, bool);

impl Store for Broken<'_> {
    fn load(&mut self) -> io::Result<Option<Record>> {
        self.0.load()
    }

    fn save(&mut self, record: &Record) -> io::Result<()> {
        if self.1 {
            self.0.save(record)?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

#[test]
fn without_its_mark_no_stamp_is_used() {
    for is_kept in [false, true] {
        let mut store = MemoryStore::default();
        let mut clock = Hlc::open(Broken(&mut store, is_kept), 0).expect("loads");
        assert!(matches!(clock.send(Span::new(START_NS, START_NS)), Err(HlcError::Store(_))));
        assert_eq!(clock.last(), HlcStamp(0));
    }
}
