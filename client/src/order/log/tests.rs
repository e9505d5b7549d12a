//! Everything that a log tells, against its definition over all pairs.

use super::*;
use proptest::prelude::*;

fn span() -> impl Strategy<Value = Span> {
    (0i64..40, -1i64..12).prop_map(|(earliest_ns, width_ns)| Span::new(earliest_ns, earliest_ns + width_ns))
}

/// Few instants, nodes and stamps, so that ties and contradictions are common.
fn log() -> impl Strategy<Value = Log> {
    let event = (0u64..3, 0u64..40, span(), prop::option::of(0u64..12));
    let cause = any::<(prop::sample::Index, prop::sample::Index)>();
    (prop::collection::vec(event, 0..24), prop::collection::vec(cause, 0..8)).prop_map(|(events, causes)| {
        let mut seen = std::collections::BTreeSet::new();
        let events: Vec<Event> = events
            .into_iter()
            .filter(|(node, sequence, ..)| seen.insert((*node, *sequence)))
            .map(|(node, sequence, span, logical)| Event { node, sequence, span, logical })
            .collect();
        let n = events.len();
        let causes = if n == 0 { Vec::new() } else { causes.iter().map(|(a, b)| (a.index(n), b.index(n))).collect() };
        Log::new(events, causes).expect("no copies, and every cause is there")
    })
}

/// (i, j): i certainly first.
fn certain(log: &Log) -> Vec<(usize, usize)> {
    let n = log.events.len();
    let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
    pairs.filter(|(i, j)| log.events[*i].span.is_certainly_before(log.events[*j].span)).collect()
}

/// Says `basis` that `a` comes before `b`?
fn says_before(log: &Log, basis: Basis, a: usize, b: usize) -> bool {
    let (e, f) = (log.events[a], log.events[b]);
    match basis {
        Basis::Log => a < b,
        Basis::Sequence => e.node == f.node && e.sequence < f.sequence,
        Basis::Logical => matches!((e.logical, f.logical), (Some(e), Some(f)) if e < f),
        Basis::Cause => log.causes.contains(&(a, b)),
    }
}

fn inverted(log: &Log, basis: Basis) -> Vec<Inverted> {
    let pairs = certain(log).into_iter().filter(|(first, second)| says_before(log, basis, *second, *first));
    pairs.map(|(first, second)| Inverted { first, second }).collect()
}

const LINES: [Basis; 3] = [Basis::Log, Basis::Sequence, Basis::Logical];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn counts_are_those_over_all_pairs(log in log()) {
        let counts = log.counts();
        let n = log.events.len() as u64;
        prop_assert_eq!(counts.certain, certain(&log).len() as u64);
        prop_assert_eq!(counts.certain + counts.possible, n * n.saturating_sub(1) / 2);
        let found = [counts.inverted_log, counts.inverted_sequence, counts.inverted_logical];
        prop_assert_eq!(found, LINES.map(|basis| inverted(&log, basis).len() as u64));
        // A cause that is stated twice counts twice.
        let causes = log.causes.iter().filter(|(a, b)| log.events[*b].span.is_certainly_before(log.events[*a].span));
        prop_assert_eq!(counts.inverted_causes, causes.count() as u64);
    }

    #[test]
    fn listings_are_exact_and_stop_at_their_limit(log in log(), limit in 0usize..30) {
        for basis in LINES {
            let mut all = log.inverted(basis, usize::MAX);
            prop_assert_eq!(log.inverted(basis, limit), all.iter().copied().take(limit).collect::<Vec<_>>());
            all.sort_unstable();
            prop_assert_eq!(all, inverted(&log, basis));
        }
        let mut causes = log.inverted(Basis::Cause, usize::MAX);
        causes.sort_unstable();
        causes.dedup();
        prop_assert_eq!(causes, inverted(&log, Basis::Cause));
    }

    #[test]
    fn a_line_agrees_with_all_that_is_said_or_none_does(log in log()) {
        let n = log.events.len();
        let certain = certain(&log);
        let reaches = reachable(&log);
        match log.total_order() {
            Ok(line) => {
                let mut place = vec![n; n];
                line.iter().enumerate().for_each(|(at, index)| place[*index] = at);
                prop_assert!(line.len() == n && !place.contains(&n));
                for (a, b) in certain.iter().copied().chain(stated(&log)) {
                    prop_assert!(place[a] < place[b], "{} before {} in {:?}", a, b, line);
                }
            }
            Err(Contradiction::Pair(Inverted { first, second })) => {
                prop_assert!(certain.contains(&(first, second)) && reaches[second][first]);
            }
            Err(Contradiction::Circle(event)) => prop_assert!(reaches[event][event]),
        }
    }

    #[test]
    fn without_causes_and_with_one_event_a_node_a_line_always_exists(spans in prop::collection::vec(span(), 0..40)) {
        let event = |(node, span)| Event { node, sequence: 0, span, logical: None };
        let log = Log::new((0u64..).zip(spans).map(event).collect(), Vec::new()).expect("no copies");
        prop_assert!(log.total_order().is_ok());
    }
}

/// Pairs that sequences and causes state.
fn stated(log: &Log) -> impl Iterator<Item = (usize, usize)> + '_ {
    let n = log.events.len();
    let pairs = (0..n).flat_map(move |a| (0..n).map(move |b| (a, b)));
    pairs.filter(|(a, b)| says_before(log, Basis::Sequence, *a, *b) || says_before(log, Basis::Cause, *a, *b))
}

/// The transitive closure (Warshall).
fn reachable(log: &Log) -> Vec<Vec<bool>> {
    let n = log.events.len();
    let mut reaches = vec![vec![false; n]; n];
    stated(log).for_each(|(a, b)| reaches[a][b] = true);
    for via in 0..n {
        for a in 0..n {
            for b in 0..n {
                reaches[a][b] |= reaches[a][via] && reaches[via][b];
            }
        }
    }
    reaches
}

fn event(node: u64, sequence: u64, earliest_ns: i64, latest_ns: i64) -> Event {
    Event { node, sequence, span: Span::new(earliest_ns, latest_ns), logical: None }
}

#[test]
fn touching_spans_are_possible_and_the_next_nanosecond_is_certain() {
    let touching = Log::new(vec![event(1, 1, 5, 9), event(2, 1, 1, 5)], Vec::new()).expect("no copies").counts();
    assert_eq!((touching.certain, touching.possible, touching.inverted_log), (0, 1, 0));
    let apart = Log::new(vec![event(1, 1, 6, 9), event(2, 1, 1, 5)], Vec::new()).expect("no copies").counts();
    assert_eq!((apart.certain, apart.possible, apart.inverted_log), (1, 0, 1));
}

#[test]
fn an_inverted_span_proves_nothing() {
    let log = Log::new(vec![event(1, 1, 9, 8), event(2, 1, 1, 2), event(3, 1, 20, 30)], Vec::new()).expect("no copies");
    assert_eq!((log.counts().certain, log.counts().possible), (1, 2));
}

#[test]
fn contradictions_name_their_pair() {
    // 2 → 0 by a chain that overlaps at each step, and 0 was over before 2 began.
    let events = vec![event(1, 1, 0, 10), event(2, 1, 5, 25), event(3, 1, 20, 30)];
    let log = Log::new(events.clone(), vec![(2, 1), (1, 0)]).expect("known events");
    assert_eq!(log.counts().inverted_causes, 0);
    assert_eq!(log.total_order(), Err(Contradiction::Pair(Inverted { first: 0, second: 2 })));
    let circle = Log::new(events.clone(), vec![(0, 1), (1, 0)]).expect("known events");
    assert!(matches!(circle.total_order(), Err(Contradiction::Circle(0 | 1))));
    assert_eq!(Log::new(events, vec![(0, 3)]).err(), Some(LogError::UnknownEvent(3)));
    let copies = vec![event(1, 7, 0, 1), event(1, 7, 2, 3)];
    assert_eq!(Log::new(copies, Vec::new()).err(), Some(LogError::DuplicateSequence(0, 1)));
}
