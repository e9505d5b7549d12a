//! What a log of events with intervals proves: which pairs were certainly in one order, and who says otherwise.
//!
//! Events carry spans that contain their true instants (TAI). Of two events one is *certainly* first when its latest is
//! before the other's earliest; else either may be: the pair is *possible*. A pair is *inverted* when it is certain and
//! something else says the opposite: its place in the log, the sequence of its node, its logical stamps, or a stated
//! cause. Intervals prove order between nodes that never exchanged a message; a vector clock cannot.
//!
//! The certain pairs are an interval order, so on their own they always fit one line. Together with sequences and causes
//! they need not: [`Log::total_order`] gives a line, or the pair that forbids every line. With n events and e causes
//! everything here takes O((n + e) log n) time and O(n + e) memory; a listing adds O(log n) for each pair listed.
//!
//! Why one pair suffices: let m have the lowest latest among the events that no line has taken yet. Nothing is certainly
//! before m, so if m cannot go next, an untaken event must precede it by sequence or cause; follow these back. Either
//! they run in a circle, or they end at an event c that waits only for the intervals, and then for m: m certainly came
//! before c, and c is said to lead to m.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use crate::interval::Span;

/// One event of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it happened.
    pub node: u64,
    /// Grows from event to event of one node.
    pub sequence: u64,
    /// Contains the event's true instant, TAI. Nothing is certain about an inverted one.
    pub span: Span,
    /// A logical timestamp, if it has one: Lamport's count or [`super::hlc::HlcStamp::to_bits`].
    pub logical: Option<u64>,
}

/// What a log says of the order of events, beside its spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The place in the log.
    Log,
    /// The sequence numbers of one node.
    Sequence,
    /// The logical timestamps, of events that have one. Lamport's may invert without fault, between events that no
    /// message joins; an HLC's only within one µs.
    Logical,
    /// The stated causes, each by itself.
    Cause,
}

/// A certain pair that something says the opposite of. Indices into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inverted {
    /// Certainly happened first.
    pub first: usize,
    /// Certainly happened later, and is said to be the earlier.
    pub second: usize,
}

/// How many pairs of events there are of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Their order is certain.
    pub certain: u64,
    /// Either may have been first.
    pub possible: u64,
    /// Certain, and opposite in the log.
    pub inverted_log: u64,
    /// Certain, and opposite by sequence.
    pub inverted_sequence: u64,
    /// Certain, and opposite by logical stamps.
    pub inverted_logical: u64,
    /// Stated causes whose effect certainly came first.
    pub inverted_causes: u64,
}

/// Why events are no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// Two events of one node have one sequence number. Indices into the log.
    DuplicateSequence(usize, usize),
    /// A cause or effect (its index) is not in the log.
    UnknownEvent(usize),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::DuplicateSequence(a, b) => {
                write!(f, "events {a} and {b} have one node and one sequence number: drop the copy")
            }
            LogError::UnknownEvent(index) => write!(f, "a cause speaks of event {index}, which the log does not have"),
        }
    }
}

impl std::error::Error for LogError {}

/// Why no line holds all that is certain and all that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// `first` certainly happened first, and sequences and causes lead from `second` to it: a clock's bound was false,
    /// or the log's word is.
    Pair(Inverted),
    /// Sequences and causes run in a circle through this event, whatever the clocks say.
    Circle(usize),
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contradiction::Pair(Inverted { first, second }) => write!(
                f,
                "event {first} certainly came before event {second}, which is said to have led to it: a bound was false, or the log is"
            ),
            Contradiction::Circle(event) => write!(f, "event {event} is said to have led to itself"),
        }
    }
}

impl std::error::Error for Contradiction {}

/// A log that can be asked.
#[derive(Clone, Debug)]
pub struct Log {
    events: Vec<Event>,
    /// (cause, effect), as stated.
    causes: Vec<(usize, usize)>,
    /// Indices by node, then sequence.
    by_sequence: Vec<usize>,
}

impl Log {
    /// Events in the log's order, and the (cause, effect) pairs that are known of them.
    ///
    /// # Errors
    /// [`LogError`] names the events that are at fault.
    pub fn new(events: Vec<Event>, causes: Vec<(usize, usize)>) -> Result<Self, LogError> {
        if let Some(unknown) = causes.iter().flat_map(|(a, b)| [*a, *b]).find(|index| *index >= events.len()) {
            return Err(LogError::UnknownEvent(unknown));
        }
        let mut by_sequence: Vec<usize> = (0..events.len()).collect();
        by_sequence.sort_by_key(|index| (events[*index].node, events[*index].sequence));
        let key = |index: usize| (events[index].node, events[index].sequence);
        if let Some(pair) = by_sequence.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
            return Err(LogError::DuplicateSequence(pair[0], pair[1]));
        }
        Ok(Log { events, causes, by_sequence })
    }

    /// The events, as given.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many pairs there are of each kind.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut ends: Vec<i64> = self.events.iter().map(|event| proved(event.span).latest_ns).collect();
        ends.sort_unstable();
        let before = |event: &Event| ends.partition_point(|end| *end < proved(event.span).earliest_ns) as u64;
        let certain = self.events.iter().map(before).sum();
        let n = self.events.len() as u64;
        Counts {
            certain,
            possible: (n.saturating_mul(n.saturating_sub(1)) / 2).saturating_sub(certain),
            inverted_log: self.count(Basis::Log),
            inverted_sequence: self.count(Basis::Sequence),
            inverted_logical: self.count(Basis::Logical),
            inverted_causes: self.inverted_causes().count() as u64,
        }
    }

    /// At most `limit` inverted pairs, in the order in which `basis` lists their second event.
    #[must_use]
    pub fn inverted(&self, basis: Basis, limit: usize) -> Vec<Inverted> {
        if basis == Basis::Cause {
            return self.inverted_causes().take(limit).collect();
        }
        let mut found = Vec::new();
        for line in self.lines(basis) {
            let ends: Vec<i64> = line.iter().map(|(_, index)| self.span(*index).latest_ns).collect();
            let ends = LeastTree::new(&ends);
            for (place, (key, second)) in line.iter().enumerate() {
                let start_ns = self.span(*second).earliest_ns;
                let mut next = place + line[place..].partition_point(|(other, _)| other <= key);
                while found.len() < limit
                    && let Some(at) = ends.first_below(next, start_ns)
                {
                    found.push(Inverted { first: line[at].1, second: *second });
                    next = at + 1;
                }
            }
        }
        found
    }

    /// All events in one line that agrees with every certain pair, every sequence and every cause. Of the lines that do,
    /// one that takes events by their earliest instant where it may.
    ///
    /// # Errors
    /// [`Contradiction`]: there is none, and why.
    pub fn total_order(&self) -> Result<Vec<usize>, Contradiction> {
        let stated = Stated::new(self);
        let mut waits_for = stated.waits_for();
        let mut by_end: Vec<usize> = (0..self.events.len()).collect();
        by_end.sort_by_key(|index| self.span(*index).latest_ns);
        let mut untaken = by_end.iter().copied().peekable();
        let mut is_taken = vec![false; self.events.len()];
        let entry = |index: usize| Reverse((self.span(index).earliest_ns, index));
        let mut ready: BinaryHeap<_> =
            (0..self.events.len()).filter(|index| waits_for[*index] == 0).map(entry).collect();
        let mut line = Vec::with_capacity(self.events.len());
        while let Some(&first_to_end) = untaken.peek() {
            if is_taken[first_to_end] {
                untaken.next();
                continue;
            }
            // Whoever starts after it ended must let it go first; if even the first to start does, nobody can go.
            let can_go = |entry: &Reverse<(i64, usize)>| entry.0.0 <= self.span(first_to_end).latest_ns;
            let Some(Reverse((_, next))) = ready.pop().filter(can_go) else {
                return Err(stated.contradiction(first_to_end, &is_taken));
            };
            is_taken[next] = true;
            line.push(next);
            for effect in stated.effects_of(next) {
                waits_for[effect] -= 1;
                if waits_for[effect] == 0 {
                    ready.push(entry(effect));
                }
            }
        }
        Ok(line)
    }

    fn span(&self, index: usize) -> Span {
        proved(self.events[index].span)
    }

    fn inverted_causes(&self) -> impl Iterator<Item = Inverted> + '_ {
        let is_inverted = |(cause, effect): &&(usize, usize)| self.span(*effect).is_certainly_before(self.span(*cause));
        self.causes.iter().filter(is_inverted).map(|(cause, effect)| Inverted { first: *effect, second: *cause })
    }

    /// The lines in which `basis` lists events, each as (key, index) by ascending key.
    fn lines(&self, basis: Basis) -> Vec<Vec<(u64, usize)>> {
        match basis {
            Basis::Log => vec![(0u64..).zip(0..self.events.len()).collect()],
            Basis::Sequence => self
                .by_sequence
                .chunk_by(|a, b| self.events[*a].node == self.events[*b].node)
                .map(|node| node.iter().map(|index| (self.events[*index].sequence, *index)).collect())
                .collect(),
            Basis::Logical => {
                let mut line: Vec<_> =
                    self.events.iter().enumerate().filter_map(|(i, event)| Some((event.logical?, i))).collect();
                line.sort_unstable();
                vec![line]
            }
            Basis::Cause => Vec::new(),
        }
    }

    fn count(&self, basis: Basis) -> u64 {
        self.lines(basis).iter().map(|line| self.count_in(line)).sum()
    }

    /// Pairs of `line` with the greater key certainly first: events come in the order of their starts, and all that
    /// ended before are in the tree by the place of their key.
    fn count_in(&self, line: &[(u64, usize)]) -> u64 {
        let spans: Vec<Span> = line.iter().map(|(_, index)| self.span(*index)).collect();
        let mut by_start: Vec<usize> = (0..line.len()).collect();
        by_start.sort_by_key(|place| spans[*place].earliest_ns);
        let mut by_end: Vec<usize> = (0..line.len()).collect();
        by_end.sort_by_key(|place| spans[*place].latest_ns);
        let mut ended = CountTree::new(line.len());
        let mut next_to_end = by_end.into_iter().peekable();
        let mut inverted = 0;
        for place in by_start {
            while let Some(end) = next_to_end.next_if(|end| spans[*end].latest_ns < spans[place].earliest_ns) {
                ended.add(end);
            }
            let above = line.partition_point(|(key, _)| *key <= line[place].0);
            inverted += ended.total - ended.below(above);
        }
        inverted
    }
}

/// An inverted span proves nothing: its event may have been at any time.
const fn proved(span: Span) -> Span {
    if span.is_valid() { span } else { Span::new(i64::MIN, i64::MAX) }
}

/// Sequences and causes as one graph: effects by cause, and the reverse, each in one vector.
struct Stated {
    /// (cause, effect), ascending.
    forward: Vec<(usize, usize)>,
    /// (effect, cause), ascending.
    backward: Vec<(usize, usize)>,
    events: usize,
    spans: Vec<Span>,
}

impl Stated {
    fn new(log: &Log) -> Self {
        let events = &log.events;
        let neighbours = log.by_sequence.windows(2).filter(|pair| events[pair[0]].node == events[pair[1]].node);
        let mut forward: Vec<_> = neighbours.map(|pair| (pair[0], pair[1])).chain(log.causes.iter().copied()).collect();
        forward.sort_unstable();
        forward.dedup();
        let mut backward: Vec<_> = forward.iter().map(|(cause, effect)| (*effect, *cause)).collect();
        backward.sort_unstable();
        let spans = events.iter().map(|event| proved(event.span)).collect();
        Stated { forward, backward, events: events.len(), spans }
    }

    fn waits_for(&self) -> Vec<usize> {
        let mut waits_for = vec![0; self.events];
        self.forward.iter().for_each(|(_, effect)| waits_for[*effect] += 1);
        waits_for
    }

    fn effects_of(&self, cause: usize) -> impl Iterator<Item = usize> + '_ {
        let from = self.forward.partition_point(|(other, _)| *other < cause);
        self.forward[from..].iter().take_while(move |(other, _)| *other == cause).map(|(_, effect)| *effect)
    }

    /// Back from an untaken event that nothing is certainly before, to one that it is certainly before: see the top of
    /// the file.
    fn contradiction(&self, stuck: usize, is_taken: &[bool]) -> Contradiction {
        let mut at = stuck;
        // A way without a circle is shorter than that.
        for _ in 0..self.events {
            if self.spans[stuck].is_certainly_before(self.spans[at]) {
                return Contradiction::Pair(Inverted { first: stuck, second: at });
            }
            let from = self.backward.partition_point(|(effect, _)| *effect < at);
            let causes = self.backward[from..].iter().take_while(|(effect, _)| *effect == at);
            match causes.map(|(_, cause)| *cause).find(|cause| !is_taken[*cause]) {
                Some(cause) => at = cause,
                None => break,
            }
        }
        Contradiction::Circle(at)
    }
}

/// Counts by place, with sums of prefixes (P. M. Fenwick, 1994).
struct CountTree {
    nodes: Vec<u64>,
    total: u64,
}

impl CountTree {
    fn new(places: usize) -> Self {
        CountTree { nodes: vec![0; places + 1], total: 0 }
    }

    fn add(&mut self, place: usize) {
        self.total += 1;
        let mut node = place + 1;
        while node < self.nodes.len() {
            self.nodes[node] += 1;
            node += node & node.wrapping_neg();
        }
    }

    /// Of the places below `end`.
    fn below(&self, end: usize) -> u64 {
        let mut node = end;
        let mut sum = 0;
        while node > 0 {
            sum += self.nodes[node];
            node &= node - 1;
        }
        sum
    }
}

/// The least value of every aligned range, to find the next one below a limit.
struct LeastTree {
    /// The root at 1, the children of i at 2i and 2i + 1, leaves in the upper half.
    nodes: Vec<i64>,
    leaves: usize,
}

impl LeastTree {
    fn new(values: &[i64]) -> Self {
        let leaves = values.len().next_power_of_two();
        let mut nodes = vec![i64::MAX; 2 * leaves];
        nodes[leaves..leaves + values.len()].copy_from_slice(values);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].min(nodes[2 * node + 1]);
        }
        LeastTree { nodes, leaves }
    }

    /// The first place from `from` on whose value is below `limit`.
    fn first_below(&self, from: usize, limit: i64) -> Option<usize> {
        if from >= self.leaves {
            return None;
        }
        let mut node = self.leaves + from;
        // Up, until a range to the right holds one...
        while self.nodes[node] >= limit {
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        // ...then down to its first leaf.
        while node < self.leaves {
            node = if self.nodes[2 * node] < limit { 2 * node } else { 2 * node + 1 };
        }
        Some(node - self.leaves)
    }
}

#[cfg(test)]
mod tests;
