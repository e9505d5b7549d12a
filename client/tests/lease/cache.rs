//! A server, clients with copies, writers: no confirmed copy is ever stale, no two writers, and writers do not starve.

use std::cell::Cell;
use std::rc::Rc;

use truebound_client::lease::cache::{Client, Given, Lease, Limits, Mode, Revocation, Server, Turn};
use truebound_client::lease::{Fence, HolderId, MemoryStore, Refused};

use crate::edges::Shown;
use crate::world::{Clock, Dice, Disk, Fault, stride};

const TERM_NS: i64 = 1_000;
const CLAIM_NS: i64 = 100;
const KEYS: usize = 2;
const CLIENTS: usize = 3;

/// What is wrong, on purpose.
#[derive(Clone, Copy, Debug)]
struct Faults {
    server: Fault,
    client: Fault,
    forgets: bool,
    /// Clients go on after they gave back.
    keeps: bool,
    repeats_nonces: bool,
}

const NO_FAULT: Faults =
    Faults { server: Fault::None, client: Fault::None, forgets: false, keeps: false, repeats_nonces: false };

/// A client, and the copies that came with its leases.
struct Node {
    client: Client,
    clock: Clock,
    copies: [(Fence, u64); KEYS],
}

enum Message {
    Answer(Lease, u64),
    Revoke(Revocation),
    Given(Given),
    Change(u64, Fence, u64),
}

struct World {
    truth: Rc<Cell<i64>>,
    dice: Dice,
    faults: Faults,
    disk: Disk,
    server: Server<Disk>,
    clock: Clock,
    /// What the server owns.
    data: [u64; KEYS],
    nodes: Vec<Node>,
    mail: Vec<Message>,
    nonce: u64,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    read: u64,
    written: u64,
}

fn limits() -> Limits {
    Limits { longest_ns: 2 * TERM_NS, reserve_ns: TERM_NS / 2, leases: 4 }
}

fn id(i: usize) -> HolderId {
    HolderId(i as u64)
}

fn client(i: usize) -> Client {
    Client::new(id(i), KEYS)
}

impl World {
    fn new(seed: u64, faults: Faults) -> Self {
        let truth = Rc::new(Cell::new(1_000_000));
        let disk = Disk::default();
        let node = |i| Node {
            client: client(i),
            clock: Clock::new(&truth, CLAIM_NS, faults.client),
            copies: [(Fence(0), 0); KEYS],
        };
        World {
            server: Server::open(disk.clone(), limits()).expect("a store that loads"),
            clock: Clock::new(&truth, CLAIM_NS, faults.server),
            nodes: (0..CLIENTS).map(node).collect(),
            dice: Dice(seed),
            faults,
            disk,
            data: [0; KEYS],
            mail: Vec::new(),
            nonce: 0,
            seen: Seen::default(),
            truth,
        }
    }

    fn run(mut self, steps: u32) -> Result<Seen, String> {
        for step in 0..steps {
            self.step();
            for key in 0..KEYS {
                self.check(key).map_err(|what| format!("step {step}, key {key}: {what}"))?;
            }
            let count = self.server.count();
            if count > limits().leases {
                return Err(format!("step {step}: {count} leases"));
            }
        }
        Ok(self.seen)
    }

    fn holds(&self, i: usize, key: usize, mode: Mode) -> bool {
        let Node { client, clock, .. } = &self.nodes[i];
        client.begin(clock, key as u64, mode).is_ok_and(|guard| client.confirm(clock, guard).is_ok())
    }

    fn check(&mut self, key: usize) -> Result<(), String> {
        let writers: Vec<usize> = (0..CLIENTS).filter(|&i| self.holds(i, key, Mode::Write)).collect();
        let holders: Vec<usize> = (0..CLIENTS).filter(|&i| self.holds(i, key, Mode::Read)).collect();
        if !writers.is_empty() && holders.len() > 1 {
            return Err(format!("{writers:?} write, {holders:?} use a copy"));
        }
        for &i in holders.iter().filter(|i| !writers.contains(i)) {
            let (copy, truth) = (self.nodes[i].copies[key].1, self.data[key]);
            if copy != truth {
                return Err(format!("{i} uses copy {copy} of {truth}"));
            }
        }
        self.seen.read += u64::from(!holders.is_empty());
        Ok(())
    }

    fn step(&mut self) {
        let (i, key) = (self.dice.index(CLIENTS), self.dice.index(KEYS));
        match self.dice.below(20) {
            0..5 => self.truth.set(self.truth.get() + stride(&mut self.dice, TERM_NS, CLAIM_NS)),
            5..8 => self.read(i, key),
            8..10 => self.write(i, key),
            10..12 => self.change(i, key),
            12..17 if self.dice.chance(16) => self.give_back(i, key),
            12..17 => self.deliver(),
            17 if self.dice.chance(2) => self.crash(i),
            18 => self.disk.fails.set(Some(self.dice.chance(2))),
            _ => {
                let mut dice = Dice(self.dice.next());
                self.nodes[i].clock.jump(&mut dice);
                self.clock.jump(&mut dice);
                if dice.chance(8) {
                    self.nodes[i].clock.new_epoch(&mut dice);
                }
            }
        }
    }

    fn fresh_nonce(&mut self) -> u64 {
        self.nonce += u64::from(!self.faults.repeats_nonces || self.nonce == 0);
        self.nonce
    }

    fn read(&mut self, i: usize, key: usize) {
        let (nonce, term_ns) = (self.fresh_nonce(), 1 + self.dice.below(2 * TERM_NS));
        let former = self.nodes[i].client.lease(key as u64).copied().filter(|_| !self.dice.chance(3));
        let Ok(request) = self.nodes[i].client.ask(key as u64, nonce) else { return };
        let answer = match former {
            Some(lease) => self.server.renew(&self.clock, &lease, nonce, term_ns),
            None => self.server.read(&self.clock, request, term_ns),
        };
        if let Ok(lease) = answer {
            self.mail.push(Message::Answer(lease, self.data[key]));
        }
    }

    fn write(&mut self, i: usize, key: usize) {
        let nonce = self.fresh_nonce();
        let Ok(request) = self.nodes[i].client.ask(key as u64, nonce) else { return };
        match self.server.write(&self.clock, request, TERM_NS) {
            Ok(Turn::Granted(lease)) => self.mail.push(Message::Answer(lease, self.data[key])),
            Ok(Turn::Wait { revoke, .. }) => self.mail.extend(revoke.into_iter().map(Message::Revoke)),
            Err(_) => {}
        }
        if self.dice.chance(8) {
            self.server.cancel_write(key as u64, id(i));
        }
    }

    fn change(&mut self, i: usize, key: usize) {
        let Node { client, clock, copies } = &mut self.nodes[i];
        let Ok(guard) = client.begin(clock, key as u64, Mode::Write) else { return };
        copies[key].1 += 1;
        self.mail.push(Message::Change(key as u64, guard.fence(), copies[key].1));
        let _ = client.confirm(clock, guard);
    }

    /// Late, out of order, twice, or never.
    fn deliver(&mut self) {
        if self.mail.is_empty() {
            return;
        }
        let recent = self.mail.len().min(if self.dice.chance(8) { usize::MAX } else { 6 });
        let at = self.mail.len() - 1 - self.dice.index(recent);
        let message = match (&self.mail[at], self.dice.chance(4)) {
            (Message::Answer(lease, copy), true) => Message::Answer(*lease, *copy),
            (Message::Given(given), true) => Message::Given(*given),
            _ => self.mail.swap_remove(at),
        };
        match message {
            Message::Answer(lease, copy) => self.answer(lease, copy),
            Message::Revoke(revocation) => {
                let node = &mut self.nodes[usize::try_from(revocation.client.0).expect("small")];
                let kept = Given { key: revocation.key, client: revocation.client, fence: revocation.fence };
                let given = if self.faults.keeps { kept } else { node.client.revoke(&revocation) };
                self.mail.push(Message::Given(given));
            }
            Message::Given(given) => self.server.given(&given),
            Message::Change(key, fence, version) => {
                if self.server.admits(key, fence).is_ok() {
                    self.data[usize::try_from(key).expect("small")] = version;
                    self.seen.written += 1;
                }
            }
        }
    }

    fn answer(&mut self, lease: Lease, copy: u64) {
        let node = &mut self.nodes[usize::try_from(lease.client.0).expect("small")];
        let known = &mut node.copies[usize::try_from(lease.key).expect("small")];
        if node.client.granted(&lease).is_ok() && known.0 != lease.fence {
            *known = (lease.fence, copy);
        }
    }

    fn give_back(&mut self, i: usize, key: usize) {
        self.mail.extend(self.nodes[i].client.release(key as u64).map(Message::Given));
    }

    fn crash(&mut self, i: usize) {
        if self.dice.chance(2) {
            self.nodes[i].client = client(i);
            return;
        }
        if self.faults.forgets {
            self.disk.forget();
        }
        self.server = Server::open(self.disk.clone(), limits()).expect("a store that loads");
    }
}

fn is_found(faults: Faults) -> bool {
    (0..4_000).any(|seed| World::new(seed, faults).run(300).is_err())
}

#[test]
fn no_confirmed_copy_is_ever_stale_and_writers_are_alone() {
    let mut all = Seen::default();
    for seed in 0..600 {
        match World::new(seed, NO_FAULT).run(1_000) {
            Err(violation) => panic!("seed {seed}: {violation}"),
            Ok(Seen { read, written }) => {
                all.read += read;
                all.written += written;
            }
        }
    }
    println!("{all:?}");
    assert!(all.read > 10_000 && all.written > 500, "{all:?}");
}

#[test]
fn clocks_that_lie_are_found_out() {
    assert!(is_found(Faults { server: Fault::LatestForEarliest, ..NO_FAULT }));
    assert!(is_found(Faults { client: Fault::EarliestForLatest, ..NO_FAULT }));
    assert!(is_found(Faults { server: Fault::WorseThanClaimed, client: Fault::WorseThanClaimed, ..NO_FAULT }));
}

#[test]
fn a_server_that_forgets_in_a_crash_is_found_out() {
    assert!(is_found(Faults { forgets: true, ..NO_FAULT }));
}

#[test]
fn a_client_that_keeps_what_it_gave_back_is_found_out() {
    assert!(is_found(Faults { keeps: true, ..NO_FAULT }));
}

#[test]
fn a_client_that_uses_nonces_again_is_found_out() {
    assert!(is_found(Faults { repeats_nonces: true, ..NO_FAULT }));
}

/// Readers who never give back, and ask again at every instant.
#[test]
fn a_writer_waits_for_one_term_at_most() {
    let truth = Rc::new(Cell::new(1_000_000));
    let time = Clock::new(&truth, CLAIM_NS, Fault::None);
    let mut server = Server::open(Disk::default(), limits()).expect("a store that loads");
    let request = |i, nonce| truebound_client::lease::cache::Request { key: 7, client: id(i), nonce };
    let lease = server.read(&time, request(0, 1), TERM_NS).expect("nobody writes");
    let asked_ns = truth.get();
    while !matches!(server.write(&time, request(1, 2), TERM_NS).expect("there is room"), Turn::Granted(_)) {
        assert!(matches!(server.read(&time, request(0, 3), TERM_NS), Err(Refused::WriterWaits)));
        assert!(matches!(server.read(&time, request(2, 4), TERM_NS), Err(Refused::WriterWaits)));
        assert!(matches!(server.renew(&time, &lease, 5, TERM_NS), Err(Refused::WriterWaits)));
        truth.set(truth.get() + 10);
    }
    // The term, and both ends of the interval.
    assert!(truth.get() - asked_ns <= TERM_NS + 2 * CLAIM_NS + 10, "{} ns", truth.get() - asked_ns);
    assert!(matches!(server.read(&time, request(0, 6), TERM_NS), Err(Refused::Held { .. })));
}

/// The first of two waiting writers vanishes: the second has its turn, and readers theirs.
#[test]
fn a_writer_that_vanished_loses_its_place() {
    let truth = Rc::new(Cell::new(1_000_000));
    let time = Clock::new(&truth, CLAIM_NS, Fault::None);
    let mut server = Server::open(Disk::default(), limits()).expect("a store that loads");
    let request = |i, nonce| truebound_client::lease::cache::Request { key: 7, client: id(i), nonce };
    server.read(&time, request(0, 1), TERM_NS).expect("nobody writes");
    assert!(matches!(server.write(&time, request(1, 2), TERM_NS), Ok(Turn::Wait { .. })));
    assert!(matches!(server.write(&time, request(2, 3), TERM_NS), Ok(Turn::Wait { .. })));
    truth.set(truth.get() + TERM_NS + 2 * CLAIM_NS + 1);
    assert!(matches!(server.write(&time, request(2, 4), TERM_NS), Ok(Turn::Wait { .. })), "it is the first one's turn");
    truth.set(truth.get() + TERM_NS + 2 * CLAIM_NS + 1);
    assert!(matches!(server.write(&time, request(2, 5), TERM_NS), Ok(Turn::Granted(_))));
}

#[test]
fn memory_is_bounded_and_what_has_expired_makes_room() {
    let truth = Rc::new(Cell::new(1_000_000));
    let time = Clock::new(&truth, CLAIM_NS, Fault::None);
    let mut server = Server::open(Disk::default(), limits()).expect("a store that loads");
    let request = |key| truebound_client::lease::cache::Request { key, client: id(0), nonce: key };
    for key in 0..4 {
        server.read(&time, request(key), TERM_NS).expect("room for four");
    }
    assert!(matches!(server.read(&time, request(4), TERM_NS), Err(Refused::Full)));
    server.read(&time, request(3), TERM_NS).expect("it has a place already");
    truth.set(truth.get() + TERM_NS + 2 * CLAIM_NS + 1);
    server.read(&time, request(4), TERM_NS).expect("the others have expired");
    assert_eq!(server.count(), 1);
}

#[test]
fn a_copy_is_good_until_latest_in_one_epoch_and_under_one_fence() {
    let time = Shown::new();
    let limits = Limits { longest_ns: TERM_NS, reserve_ns: 0, leases: 9 };
    let mut server = Server::open(MemoryStore::default(), limits).expect("a new store");
    let mut reader = client(0);
    let request = reader.ask(7, 1).expect("room");
    let lease = server.read(&time, request, 500).expect("nobody writes");
    reader.granted(&lease).expect("asked for");
    assert!(matches!(reader.begin(&time, 7, Mode::Write), Err(Refused::Expired)), "it may only read");
    let guard = reader.begin(&time, 7, Mode::Read).expect("held");
    time.show(0, 1_499); // latest was 1000, and 500 ns of term.
    reader.confirm(&time, guard).expect("held");
    let guard = reader.begin(&time, 7, Mode::Read).expect("held");
    time.show(0, 1_500);
    assert!(matches!(reader.confirm(&time, guard), Err(Refused::Expired)));
    time.show(900, 1_000);
    let guard = reader.begin(&time, 7, Mode::Read).expect("held");
    time.epoch.set(2);
    assert!(matches!(reader.confirm(&time, guard), Err(Refused::NewEpoch)));
    let guard = reader.begin(&time, 7, Mode::Read).expect("held");
    let _ = reader.ask(7, 2).expect("known");
    reader.granted(&server.renew(&time, &lease, 2, 500).expect("out")).expect("asked for");
    reader.confirm(&time, guard).expect("the renewal serves the use that goes on");
    let guard = reader.begin(&time, 7, Mode::Read).expect("held");
    let request = reader.ask(7, 3).expect("known");
    reader.granted(&server.read(&time, request, 500).expect("nobody writes")).expect("asked for");
    assert!(matches!(reader.confirm(&time, guard), Err(Refused::Expired)), "another copy came with it");
}

#[test]
fn a_writer_waits_until_the_expiry_is_before_earliest() {
    let time = Shown::new();
    let limits = Limits { longest_ns: TERM_NS, reserve_ns: 0, leases: 9 };
    let mut server = Server::open(MemoryStore::default(), limits).expect("a new store");
    let (mut reader, mut writer) = (client(0), client(1));
    let lease = server.read(&time, reader.ask(7, 1).expect("room"), 500).expect("nobody writes");
    let request = writer.ask(7, 1).expect("room");
    time.show(lease.expires_tai_ns, 1_600);
    assert!(matches!(server.write(&time, request, 500), Ok(Turn::Wait { until_tai_ns: 1_600, .. })));
    time.show(lease.expires_tai_ns + 1, 1_600);
    assert!(matches!(server.write(&time, request, 500), Ok(Turn::Granted(_))));
}

#[test]
fn no_fence_is_given_twice_even_after_a_crash() {
    let time = Shown::new();
    let limits = Limits { longest_ns: TERM_NS, reserve_ns: i64::MAX, leases: 9 };
    let mut server = Server::open(MemoryStore::default(), limits).expect("a new store");
    let mut last = Fence(0);
    for nonce in 1..=70_000 {
        let request = truebound_client::lease::cache::Request { key: 7, client: id(0), nonce };
        let lease = server.read(&time, request, 500).expect("nobody writes");
        assert!(lease.fence > last);
        last = lease.fence;
    }
    let store = server.into_store();
    assert!(store.record.is_some_and(|record| record.fence >= last), "{:?} after fence {last}", store.record);
    assert!(store.saves < 10, "{} writes to the store", store.saves);
}
