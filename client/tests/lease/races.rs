//! Messages that overtake each other, requests that are sent once more, processes that fork: each of these once gave two
//! holders at one instant. Clocks are exact here.

use std::cell::Cell;

use truebound_client::lease::primary::{Backup, Primary, Quorums};
use truebound_client::lease::{Fence, HolderId, MemoryStore, Refused, cache, clock, fresh_nonce, primary, rate};
use truebound_client::{Bound, Interval, Span, Status, Tick, TimeSource, Unavailable};

const A: HolderId = HolderId(1);
const B: HolderId = HolderId(2);

/// Shows true time, ns, which is its raw time too.
struct Exact(Cell<i64>);

impl Exact {
    fn new() -> Self {
        Exact(Cell::new(1_000))
    }
}

impl TimeSource for Exact {
    fn now(&self) -> Result<Interval, Unavailable> {
        self.now_strict()
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        let (now, epoch, status) = (self.0.get(), 1, Status::Locked);
        Ok(Interval { earliest_ns: now, latest_ns: now, tai: Span::new(now, now), epoch, status, tai_offset_s: 0 })
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        Ok(Tick::new(self.0.get(), 0, 1, &Bound::default()))
    }
}

/// Somebody copied the lease to renew it, gave it up (the message is slow), and asked. The answer revives nothing.
#[test]
fn a_renewal_that_overtakes_the_release_of_a_clock_lease_revives_nothing() {
    let time = Exact::new();
    let mut granter = clock::Granter::open(MemoryStore::default(), 1_000).expect("a new store");
    let mut holder = clock::Holder::new(A);
    holder.ask(1);
    holder.granted(&granter.grant(&time, A, 1, 500).expect("free")).expect("asked for");
    let copied = holder.lease().expect("held");
    let given = holder.release().expect("held");
    holder.ask(2);
    let renewed = granter.renew(&time, &copied, 2, 500).expect("nobody knows better");
    assert!(matches!(holder.granted(&renewed), Err(Refused::NotMine)));
    granter.release(&given).expect("stored");
    granter.grant(&time, B, 9, 500).expect("free");
    assert!(holder.begin(&time).is_err());
    // What is granted afterwards is another lease.
    time.0.set(2_000);
    holder.ask(3);
    holder.granted(&granter.grant(&time, A, 3, 500).expect("free")).expect("a new fence");
}

#[test]
fn a_renewal_that_overtakes_the_release_of_a_rate_lease_revives_nothing() {
    let time = Exact::new();
    let mut granter = rate::Granter::open(MemoryStore::default(), 1_000_000).expect("a new store");
    let mut holder = rate::Holder::new(A);
    holder.ask(&time, 1).expect("a tick");
    holder.granted(&granter.grant(&time, A, 1, 500_000).expect("free")).expect("asked for");
    let copied = holder.lease().expect("held");
    let given = holder.release().expect("held");
    holder.ask(&time, 2).expect("a tick");
    let renewed = granter.renew(&time, &copied, 2, 500_000).expect("nobody knows better");
    assert!(matches!(holder.granted(&renewed), Err(Refused::NotMine)));
    granter.release(&given).expect("stored");
    granter.grant(&time, B, 9, 500_000).expect("free");
    assert!(holder.begin(&time).is_err());
}

#[test]
fn a_renewal_that_overtakes_what_a_client_gave_back_revives_no_copy() {
    let time = Exact::new();
    let limits = cache::Limits { longest_ns: 1_000, reserve_ns: 0, leases: 9 };
    let mut server = cache::Server::open(MemoryStore::default(), limits).expect("a new store");
    let mut client = cache::Client::new(A, 9);
    let asked = client.ask(7, 1).expect("room");
    client.granted(&server.read(&time, asked, 500).expect("free")).expect("asked for");
    let copied = *client.lease(7).expect("held");
    let given = client.release(7).expect("held");
    let asked = client.ask(7, 2).expect("room");
    let renewed = server.renew(&time, &copied, asked.nonce, 500).expect("nobody knows better");
    assert!(matches!(client.granted(&renewed), Err(Refused::NotMine)));
    server.given(&given);
    assert!(client.begin(&time, 7, cache::Mode::Read).is_err());
}

/// A retry timer that raced with the answer asks again with the same nonce; then the network's copy of the answer comes.
#[test]
fn a_request_sent_once_more_after_its_answer_does_not_move_the_start_of_the_term() {
    let time = Exact::new();
    let mut granter = rate::Granter::open(MemoryStore::default(), 1_000_000).expect("a new store");
    let holder = rate::Holder::new(A);
    holder.ask(&time, 1).expect("a tick");
    let answer = granter.grant(&time, A, 1, 500_000).expect("free");
    holder.granted(&answer).expect("asked for");
    time.0.set(400_000);
    holder.ask(&time, 1).expect("a tick");
    assert!(matches!(holder.granted(&answer), Err(Refused::NotMine)));
    time.0.set(600_000);
    granter.grant(&time, B, 9, 500_000).expect("the term has passed");
    assert!(holder.begin(&time).is_err());
}

fn elect(time: &Exact, members: &mut [Backup<MemoryStore>], who: HolderId, ballot: u64) -> Result<Primary, Refused> {
    let quorums = Quorums::new(3, 2, 2).expect("they intersect");
    let vote = |member: &mut Backup<_>| member.vote(time, who, Fence(ballot));
    let votes: Vec<primary::Vote> = members.iter_mut().take(2).map(vote).collect::<Result<_, _>>()?;
    let primary = Primary::new(quorums, who, Fence(ballot), &votes)?;
    for member in members.iter_mut().take(2) {
        primary.promised(&member.promise(time, who, Fence(ballot), 500)?)?;
    }
    Ok(primary)
}

/// It thought that it might have lost the first, was elected again, and steps down; workers of the first go on.
#[test]
fn stepping_down_from_a_later_ballot_does_not_free_what_an_earlier_one_was_promised() {
    let time = Exact::new();
    let open = |member| Backup::open(member, MemoryStore::default(), 1_000).expect("a new store");
    let mut members: Vec<_> = (0..3).map(open).collect();
    let first = elect(&time, &mut members, A, 1).expect("free");
    let (who, ballot) = elect(&time, &mut members, A, 2).expect("its own").release();
    members.iter_mut().for_each(|member| member.release(who, ballot).expect("stored"));
    first.begin(&time).expect("promised").confirm(&time).expect("promised");
    assert!(matches!(elect(&time, &mut members, B, 3), Err(Refused::Held { .. })));
    time.0.set(1_501);
    elect(&time, &mut members, B, 3).expect("all promises have passed");
    assert!(first.begin(&time).is_err());
}

#[test]
fn nonces_differ_across_a_fork() {
    let _ = fresh_nonce();
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child does nothing but two system calls and leaves.
    if unsafe { libc::fork() } == 0 {
        let nonce = fresh_nonce();
        // SAFETY: eight bytes of `nonce` are there.
        let _ = unsafe { libc::write(ends[1], (&raw const nonce).cast(), 8) };
        // SAFETY: takes an integer.
        unsafe { libc::_exit(0) };
    }
    let mut childs = 0u64;
    // SAFETY: eight bytes of `childs` may be written.
    assert_eq!(unsafe { libc::read(ends[0], (&raw mut childs).cast(), 8) }, 8);
    assert_ne!(childs, fresh_nonce());
}
