//! One world of leases: who asks, grants, holds, acts, gives back and crashes when.

mod act;
mod ask;
mod elect;
mod watch;

use std::cell::{Cell, RefCell};
use std::mem;

use truebound_client::lease::primary::{Quorums, Vote};
use truebound_client::lease::{Fence, FenceGate, HolderId};

use super::agenda::Agenda;
use super::arena::Keeper;
use super::judge::{Judge, Rule};
use super::net::Net;
use super::place::{NODES, ROOTS, place};
use super::rules::{Disk, Granter, Holding, Offer, Outlook, Request, Terms, Work, naive_clock};
use super::source::{Desk, Reading};
use super::{Kind, Settings, Tally};
use crate::rng::Rng;
use crate::world::{MS, NS_PER_S, US, World};

/// Terms, ns, and how many objects of a world have them.
const TERMS: [(i64, usize); 4] = [(50 * MS, 12), (200 * MS, 12), (NS_PER_S, 10), (10 * NS_PER_S, 6)];
/// The longest of them.
const LONGEST_NS: i64 = 10 * NS_PER_S;
/// Leases begin when hosts have had so long to find their time and their rates, s.
const SETTLED_S: [i64; 4] = [4, 4, 30, 120];
/// And last so long at most, s.
const WORLD_S: i64 = 120;
/// The processes of a host crash this often on average, s.
const CRASH_S: f64 = 10.0;
/// What is kept of an object's history.
const HISTORY: usize = 60;

/// What happens to lease processes. Holders and members are counted per object.
#[derive(Debug)]
enum Event {
    /// A holder asks: for a lease, or to renew the one in its hands.
    Ask { object: usize, holder: usize },
    /// A request reaches a granter.
    Request { object: usize, member: usize, holder: usize, request: Request },
    /// An answer reaches the process that asked.
    Answer { object: usize, holder: usize, request: Request, offer: Offer, grant: u64 },
    /// A holder begins to work.
    Begin { object: usize, holder: usize, fence: u64 },
    /// It is done.
    Confirm { object: usize, holder: usize, work: u64 },
    /// What it did has its effect elsewhere.
    Effect { object: usize, fence: u64 },
    /// It gives its lease back.
    Release { object: usize, holder: usize },
    /// And a granter hears of it.
    Released { object: usize, member: usize, holder: HolderId, offer: Offer },
    /// The granter looks whether this grant has expired.
    Check { object: usize, member: usize, grant: u64 },
    /// Everybody is asked at one instant.
    Probe { object: usize },
    /// All lease processes of a host crash.
    Crash { node: usize },
}

/// One resource and everybody around it.
struct Object<'a> {
    term_ns: i64,
    /// One granter, or all backups of a primary lease.
    members: Vec<Member>,
    /// Of a primary lease; and how many promises make one.
    quorums: Option<(Quorums, usize)>,
    holders: Vec<Seat<'a>>,
    /// Grants so far.
    grants: u64,
    /// The last one.
    granted: Option<Granted>,
    /// The last ballot, and who stood.
    ballot: (u64, usize),
    judge: Judge,
    gate: FenceGate,
    history: Vec<String>,
}

/// A granter's process and its disk.
struct Member {
    node: usize,
    terms: Terms,
    disk: Disk,
    /// None: its process could not start.
    granter: Option<Granter>,
}

/// What the granter promised last.
#[derive(Clone, Copy, Debug)]
struct Granted {
    holder: usize,
    grant: u64,
    /// The true instant.
    at: i64,
    outlook: Option<Outlook>,
    /// When it will think that expired, if nothing befalls it until then.
    foreseen: i64,
    /// It has thought so.
    is_over: bool,
}

/// One who would like to hold.
struct Seat<'a> {
    node: usize,
    id: HolderId,
    /// Nonce of the last request, and the true instant of it.
    asked: Option<(u64, i64)>,
    election: Option<(Fence, Vec<Vote>)>,
    /// The last ballot with which it stood, whoever it was then.
    stood: u64,
    /// None: of a primary lease, before it is elected.
    holding: Option<&'a Holding>,
    /// The last grant that it took up, and the true time at which that was asked for.
    grant: u64,
    asked_at: i64,
    work: Option<InWork<'a>>,
}

struct InWork<'a> {
    number: u64,
    began: i64,
    fence: u64,
    work: Work<'a>,
}

/// See the module's page.
pub(super) struct Lab<'a> {
    world: RefCell<World>,
    chance: RefCell<Rng>,
    rng: Rng,
    net: Net,
    agenda: Agenda<Event>,
    keeper: Keeper<'a, Holding>,
    objects: Vec<Object<'a>>,
    boots: [u32; NODES],
    settings: Settings,
    tally: Tally,
    seed: u64,
    works: u64,
}

impl<'a> Lab<'a> {
    pub(super) fn new(seed: u64, settings: Settings, keeper: Keeper<'a, Holding>) -> Self {
        let root = Rng::new(seed).fork(0x006c_6162);
        let mut rng = root.fork(3);
        let settled_s = SETTLED_S[rng.below(SETTLED_S.len())];
        let mut world = place(seed, settled_s as f64, (settled_s + WORLD_S) as f64);
        world.run_s(settled_s);
        let mut lab = Lab {
            net: Net::new(root.fork(1), NODES, world.now, WORLD_S * NS_PER_S),
            boots: std::array::from_fn(|node| world.hosts[ROOTS + node].boots),
            world: RefCell::new(world),
            chance: RefCell::new(root.fork(2)),
            rng,
            agenda: Agenda::new(),
            keeper,
            objects: Vec::new(),
            settings,
            tally: Tally::default(),
            seed,
            works: 0,
        };
        for (term_ns, count) in TERMS {
            (0..count).for_each(|_| lab.add_object(term_ns, &root));
        }
        for node in 0..NODES {
            let at = lab.after(CRASH_S);
            lab.agenda.push(at, Event::Crash { node });
        }
        lab
    }

    fn add_object(&mut self, term_ns: i64, root: &Rng) {
        let Settings { kind, fault, .. } = self.settings;
        let object = self.objects.len();
        let is_elected = kind == Kind::Primary && naive_clock(fault).is_none();
        let nodes = if is_elected { 0..NODES } else { object % NODES..object % NODES + 1 };
        let reserve_ns = if self.rng.chance(0.5) { term_ns } else { 0 };
        let members: Vec<Member> = nodes
            .enumerate()
            .map(|(member, node)| {
                let disk = Disk::new(root.fork(1000 + (object * NODES + node) as u64));
                let terms = Terms { kind, fault, longest_ns: LONGEST_NS, reserve_ns, member };
                Member { node, terms, granter: Granter::open(&terms, &disk).ok(), disk }
            })
            .collect();
        let holders: Vec<Seat<'a>> =
            (0..NODES).filter(|node| is_elected || members[0].node != *node).map(Seat::new).collect();
        for holder in 0..holders.len() {
            let at = self.after(term_ns as f64 * 1e-9);
            self.agenda.push(at, Event::Ask { object, holder });
        }
        let at = self.after(term_ns as f64 * 1e-9);
        self.agenda.push(at, Event::Probe { object });
        let elect = 1 + self.rng.below(NODES);
        let promises = NODES + 1 - elect;
        let quorums = Quorums::new(NODES, promises, elect).filter(|_| is_elected).map(|quorums| (quorums, promises));
        self.objects.push(Object {
            term_ns,
            members,
            quorums,
            judge: Judge::new(holders.len()),
            holders,
            grants: 0,
            granted: None,
            ballot: (0, 0),
            gate: FenceGate::default(),
            history: Vec::new(),
        });
    }

    /// Until it has granted its terms or is over.
    pub(super) fn run(mut self) -> Tally {
        let start = self.now();
        let end = start + WORLD_S * NS_PER_S;
        while self.tally.terms < self.settings.terms {
            let Some((at, event)) = self.agenda.pop().filter(|&(at, _)| at <= end) else { break };
            let world = self.world.get_mut();
            let ns = (at - world.now).max(0);
            world.run(ns);
            self.happen(event);
        }
        self.tally.object_seconds = (self.now() - start) as f64 * 1e-9 * self.objects.len() as f64;
        let world = self.world.get_mut();
        self.tally.bound_violations = world.hosts.iter().map(|host| host.checker.violations).sum();
        self.tally
    }

    fn now(&mut self) -> i64 {
        self.world.get_mut().now
    }

    /// A true instant so many seconds from now on average.
    fn after(&mut self, s: f64) -> i64 {
        let ns = (self.rng.exponential() * s * NS_PER_S as f64) as i64;
        self.now() + ns.max(1)
    }

    /// The host that has to be awake for it.
    fn node_of(&self, event: &Event) -> Option<usize> {
        match *event {
            Event::Ask { object, holder }
            | Event::Answer { object, holder, .. }
            | Event::Begin { object, holder, .. }
            | Event::Confirm { object, holder, .. }
            | Event::Release { object, holder } => Some(self.objects[object].holders[holder].node),
            Event::Request { object, member, .. }
            | Event::Released { object, member, .. }
            | Event::Check { object, member, .. } => Some(self.objects[object].members[member].node),
            Event::Crash { node } => Some(node),
            Event::Effect { .. } | Event::Probe { .. } => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(node) = self.node_of(&event) {
            let now = self.now();
            let host = &self.world.get_mut().hosts[ROOTS + node];
            let (awake, boots) = (host.awake_from(now), host.boots);
            if awake > now {
                // Some run at once, before the agent has noticed anything.
                let late_ns = *[10 * US, MS, 10 * MS].get(self.rng.below(3)).unwrap_or(&MS);
                let at = awake + self.rng.between(0, late_ns);
                return self.agenda.push(at, event);
            }
            if boots != self.boots[node] {
                self.boots[node] = boots;
                self.crash(node, true);
            }
        }
        match event {
            Event::Ask { object, holder } => self.ask(object, holder),
            Event::Request { object, member, holder, request } => self.request(object, member, holder, request),
            Event::Answer { object, holder, request, offer, grant } => {
                self.answer(object, holder, &request, offer, grant);
            }
            Event::Begin { object, holder, fence } => self.begin(object, holder, fence),
            Event::Confirm { object, holder, work } => self.confirm(object, holder, work),
            Event::Effect { object, fence } => self.effect(object, fence),
            Event::Release { object, holder } => self.release(object, holder),
            Event::Released { object, member, holder, offer } => self.released(object, member, holder, &offer),
            Event::Check { object, member, grant } => self.check(object, member, grant),
            Event::Probe { object } => self.probe_at_random(object),
            Event::Crash { node } => {
                self.crash(node, false);
                let at = self.after(CRASH_S);
                self.agenda.push(at, Event::Crash { node });
            }
        }
    }

    /// Calls into the library on a host. `None`: the host went down meanwhile, and the process with it.
    fn call<T>(&mut self, node: usize, what: impl FnOnce(&mut Self, &Desk<'_>) -> T) -> Option<T> {
        // The world leaves the lab for the call, so that the process may read it while the lab lends it the rest.
        let world = mem::replace(&mut self.world, RefCell::new(World::new(0)));
        let chance = mem::replace(&mut self.chance, RefCell::new(Rng::new(0)));
        let fault = self.settings.fault;
        let desk = Desk { world: &world, host: ROOTS + node, fault, readings: Cell::new(0), chance: &chance };
        let result = what(self, &desk);
        (self.world, self.chance) = (world, chance);
        let has_died = self.world.get_mut().hosts[ROOTS + node].boots != self.boots[node];
        (!has_died).then_some(result)
    }

    fn reading(&mut self, node: usize, t: i64) -> Reading {
        Reading::of(self.world.get_mut(), ROOTS + node, t, self.settings.fault)
    }

    /// A host that is awake, and whose processes are those that we know.
    fn is_up(&mut self, node: usize, t: i64) -> bool {
        let host = &self.world.get_mut().hosts[ROOTS + node];
        host.awake_from(t) == t && host.boots == self.boots[node]
    }

    fn violated(&mut self, object: usize, rule: Rule, what: &str) {
        *match rule {
            Rule::TwoHolders => &mut self.tally.two_holders,
            Rule::FreeWhileHeld => &mut self.tally.free_while_held,
            Rule::LateEffect => &mut self.tally.late_effects,
        } += 1;
        if self.tally.first.is_none() {
            let (now, seed, kind) = (self.now(), self.seed, self.settings.kind.name());
            let history = self.objects[object].history.join("\n");
            self.tally.first =
                Some(format!("{kind} leases, seed {seed}, object {object}, {rule:?} at {now}: {what}\n{history}"));
        }
    }

    fn tell(&mut self, object: usize, what: impl FnOnce() -> String) {
        if self.settings.is_told && self.tally.first.is_none() {
            let line = format!("{} {}", self.now(), what());
            let history = &mut self.objects[object].history;
            if history.len() == HISTORY {
                history.remove(0);
            }
            history.push(line);
        }
    }
}

impl Seat<'_> {
    fn new(node: usize) -> Self {
        Seat {
            node,
            id: HolderId((node as u64) << 32),
            asked: None,
            election: None,
            stood: 0,
            holding: None,
            grant: 0,
            asked_at: 0,
            work: None,
        }
    }

    /// What a process forgets when it ends.
    fn forget(&mut self) {
        (self.asked, self.election, self.holding, self.work) = (None, None, None, None);
    }
}
