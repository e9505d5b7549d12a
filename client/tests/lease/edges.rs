//! The rules at their edges, from both sides; what is stored before what leaves; input that makes no sense.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;

use truebound_client::bound::RATE_BITS;
use truebound_client::lease::rate::Margin;
use truebound_client::lease::{Fence, FenceGate, HolderId, Kind, MemoryStore, Record, Refused, Store, clock, rate};
use truebound_client::{Bound, Interval, Span, Status, Tick, TimeSource, Unavailable};

const PPM: i64 = (1 << RATE_BITS) / 1_000_000;
const S: i64 = 1_000_000_000;
const ME: HolderId = HolderId(1);
const RIVAL: HolderId = HolderId(2);

/// Shows what it is told to.
pub struct Shown {
    tai: Cell<Span>,
    pub epoch: Cell<u64>,
    raw_ns: Cell<i64>,
    slept_ns: Cell<i64>,
    why_not: Cell<Option<Unavailable>>,
}

impl Shown {
    pub fn new() -> Self {
        let tai = Cell::new(Span::new(900, 1_000));
        let (epoch, raw_ns, slept_ns) = (Cell::new(1), Cell::new(5 * S), Cell::new(0));
        Shown { tai, epoch, raw_ns, slept_ns, why_not: Cell::new(None) }
    }

    pub fn show(&self, earliest_ns: i64, latest_ns: i64) {
        self.tai.set(Span::new(earliest_ns, latest_ns));
    }
}

impl TimeSource for Shown {
    /// Leases must not take this one.
    fn now(&self) -> Result<Interval, Unavailable> {
        Err(Unavailable::Malformed)
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        let (tai, epoch) = (self.tai.get(), self.epoch.get());
        let Span { earliest_ns, latest_ns } = tai;
        let interval = Interval { earliest_ns, latest_ns, tai, epoch, status: Status::Locked, tai_offset_s: 37 };
        self.why_not.get().map_or(Ok(interval), Err)
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        let t_ref_ns = self.raw_ns.get();
        let (omega_lo, omega_hi, cap_lo, cap_hi) = (-20 * PPM, 30 * PPM, -50 * PPM, 50 * PPM);
        let rates = Bound { t_ref_ns, omega_lo, omega_hi, cap_lo, cap_hi, ..bound() };
        let tick = Tick::new(t_ref_ns, self.slept_ns.get(), self.epoch.get(), &rates);
        self.why_not.get().map_or(Ok(tick), Err)
    }
}

/// A = 1e-7 /s, half of it per ns.
fn bound() -> Bound {
    Bound { half_wander: 60_446_291, ..Bound::default() }
}

fn clock_lease(time: &Shown, term_ns: i64) -> (clock::Granter<MemoryStore>, clock::Holder) {
    let mut granter = clock::Granter::open(MemoryStore::default(), 10 * S).expect("a new store");
    let holder = clock::Holder::new(ME);
    holder.ask(1);
    holder.granted(&granter.grant(time, ME, 1, term_ns).expect("free")).expect("asked for");
    (granter, holder)
}

fn rate_lease(time: &Shown, term_ns: i64) -> (rate::Granter<MemoryStore>, rate::Holder) {
    let mut granter = rate::Granter::open(MemoryStore::default(), 10 * S).expect("a new store");
    let holder = rate::Holder::new(ME);
    holder.ask(time, 1).expect("a tick");
    holder.granted(&granter.grant(time, ME, 1, term_ns).expect("free")).expect("asked for");
    (granter, holder)
}

#[test]
fn a_clock_lease_is_held_until_latest_and_free_after_earliest() {
    let time = Shown::new();
    let (mut granter, holder) = clock_lease(&time, 500);
    let expires_ns = 1_500; // latest + term
    assert_eq!(holder.lease().map(|lease| lease.expires_tai_ns), Some(expires_ns));
    let guard = holder.begin(&time).expect("held");
    time.show(0, expires_ns - 1);
    assert_eq!(guard.confirm(&time).expect("held"), Span::new(0, expires_ns - 1));
    let guard = holder.begin(&time).expect("held");
    time.show(0, expires_ns);
    assert!(matches!(guard.confirm(&time), Err(Refused::Expired)));
    assert!(matches!(holder.begin(&time), Err(Refused::Expired)));
    time.show(expires_ns, expires_ns + 9);
    assert!(matches!(granter.expect_free(&time), Err(Refused::Held { holder: Some(ME), until_tai_ns: Some(1_500) })));
    time.show(expires_ns + 1, expires_ns + 9);
    granter.expect_free(&time).expect("it has passed");
}

#[test]
fn a_rate_lease_is_held_and_freed_where_its_margin_says() {
    for term_ns in [100_000, S, 10 * S] {
        let time = Shown::new();
        let (mut granter, holder) = rate_lease(&time, term_ns);
        let margin = Margin::of(&time.tick().expect("shown"), term_ns).expect("the rates prove it");
        assert!(margin.holder_raw_ns < term_ns && term_ns < margin.granter_raw_ns, "{margin:?}");
        let at = |raw_ns| time.raw_ns.set(5 * S + raw_ns);
        at(margin.holder_raw_ns);
        holder.begin(&time).expect("held").confirm(&time).expect("held");
        at(margin.holder_raw_ns + 1);
        assert!(matches!(holder.begin(&time), Err(Refused::Expired)));
        at(margin.granter_raw_ns - 1);
        assert!(matches!(granter.expect_free(&time), Err(Refused::Held { .. })));
        at(margin.granter_raw_ns);
        granter.expect_free(&time).expect("it has passed");
    }
}

#[test]
fn the_proved_margin_is_far_below_the_blanket_one() {
    let tick = Shown::new().tick().expect("shown");
    let margin = Margin::of(&tick, 10 * S).expect("the rates prove it");
    // 50 ppm of 10 s, twice ½·1e-7·10 s of wander, and some µs; against 21 ms.
    assert!((500_000..520_000).contains(&margin.idle_ns()), "{margin:?}");
    assert_eq!(Margin::blanket_idle_ns(10 * S), 21_000_000);
    let hopeless = Bound { omega_lo: -(1 << RATE_BITS), cap_lo: -(1 << RATE_BITS), ..bound() };
    assert_eq!(Margin::of(&Tick::new(0, 0, 1, &hopeless), S), None);
    assert_eq!(Margin::of(&tick, i64::MAX), None);
}

#[test]
fn a_new_epoch_voids_confirmations_in_flight() {
    let time = Shown::new();
    let (_, by_clock) = clock_lease(&time, 500);
    let (mut granter, by_rate) = rate_lease(&time, S);
    let (clock_guard, rate_guard) = (by_clock.begin(&time).expect("held"), by_rate.begin(&time).expect("held"));
    time.epoch.set(2);
    assert!(matches!(clock_guard.confirm(&time), Err(Refused::NewEpoch)));
    assert!(matches!(rate_guard.confirm(&time), Err(Refused::NewEpoch)));
    by_clock.begin(&time).expect("an instant is one in every epoch").confirm(&time).expect("held");
    assert!(matches!(by_rate.begin(&time), Err(Refused::Expired)), "nothing is proved since the request");
    // The granter begins to wait when it sees the new epoch, not before.
    time.raw_ns.set(7 * S);
    assert!(granter.expect_free(&time).is_err());
    time.raw_ns.set(8 * S);
    assert!(granter.expect_free(&time).is_err(), "1 s less 20 ppm");
    time.raw_ns.set(8 * S + 100_000);
    granter.expect_free(&time).expect("a term since the new epoch was seen");
}

#[test]
fn a_sleep_ends_a_rate_lease_for_its_holder_only() {
    let time = Shown::new();
    let (mut granter, holder) = rate_lease(&time, S);
    time.slept_ns.set(S);
    assert!(matches!(holder.begin(&time), Err(Refused::Expired)));
    assert!(granter.expect_free(&time).is_err());
}

#[test]
fn without_a_reading_nothing_is_granted_confirmed_or_freed() {
    let time = Shown::new();
    let (mut by_clock, clock_holder) = clock_lease(&time, 500);
    let (mut by_rate, rate_holder) = rate_lease(&time, S);
    let (clock_guard, rate_guard) = (clock_holder.begin(&time).expect("held"), rate_holder.begin(&time).expect("held"));
    let (clock_it, rate_it) = (clock_holder.lease().expect("held"), rate_holder.lease().expect("held"));
    time.why_not.set(Some(Unavailable::Stale));
    let is_unavailable = |refused: Refused| matches!(refused, Refused::Unavailable(Unavailable::Stale));
    assert!(is_unavailable(clock_guard.confirm(&time).expect_err("no bound")));
    assert!(is_unavailable(rate_guard.confirm(&time).expect_err("no tick")));
    assert!(is_unavailable(by_clock.grant(&time, ME, 2, 500).expect_err("no bound")));
    assert!(is_unavailable(by_rate.grant(&time, ME, 2, 500).expect_err("no tick")));
    assert!(is_unavailable(by_clock.renew(&time, &clock_it, 2, 500).expect_err("no bound")));
    assert!(is_unavailable(by_rate.renew(&time, &rate_it, 2, 500).expect_err("no tick")));
    assert!(is_unavailable(by_clock.expect_free(&time).expect_err("no bound")));
    assert!(is_unavailable(by_rate.expect_free(&time).expect_err("no tick")));
}

#[test]
fn a_renewal_keeps_the_fence_and_never_shortens() {
    let time = Shown::new();
    let (mut granter, holder) = clock_lease(&time, 500);
    let lease = holder.lease().expect("held");
    let shorter = granter.renew(&time, &lease, 2, 1).expect("held");
    assert_eq!(shorter, clock::Lease { nonce: 2, ..lease });
    let guard = holder.begin(&time).expect("held");
    let longer = granter.renew(&time, &lease, 3, 600).expect("held");
    assert_eq!((longer.fence, longer.expires_tai_ns), (lease.fence, 1_600));
    time.show(0, 1_599);
    assert!(holder.granted(&longer).is_err(), "nobody asked");
    holder.ask(3);
    holder.granted(&longer).expect("asked for");
    guard.confirm(&time).expect("the renewal serves the work that goes on");

    let time = Shown::new();
    let (mut granter, holder) = rate_lease(&time, S);
    let lease = holder.lease().expect("held");
    holder.ask(&time, 2).expect("a tick");
    holder.granted(&granter.renew(&time, &lease, 2, 1_000).expect("held")).expect("asked for");
    time.raw_ns.set(5 * S + S / 2);
    holder.begin(&time).expect("the earlier promise stands").confirm(&time).expect("held");
    assert!(matches!(granter.grant(&time, RIVAL, 1, S), Err(Refused::Held { holder: Some(ME), .. })));
    let renewed = granter.renew(&time, &lease, 4, S).expect("held");
    assert_eq!(renewed.fence, lease.fence);
    time.raw_ns.set(6 * S + S / 4);
    assert!(granter.expect_free(&time).is_err(), "it waits for the renewal");
}

#[test]
fn what_expired_or_was_given_back_is_not_renewed() {
    let time = Shown::new();
    let (mut granter, mut holder) = clock_lease(&time, 500);
    let lease = holder.lease().expect("held");
    time.show(1_501, 1_600);
    assert!(matches!(granter.renew(&time, &lease, 2, 500), Err(Refused::Expired)));
    let rivals = granter.grant(&time, RIVAL, 1, 500).expect("free");
    assert_eq!(rivals.fence, Fence(2));
    assert!(matches!(granter.renew(&time, &lease, 2, 500), Err(Refused::Superseded(Fence(2)))));
    granter.release(&lease).expect("nothing happens");
    assert!(granter.expect_free(&time).is_err(), "the rival has it");
    assert_eq!(holder.release(), Some(lease));

    let time = Shown::new();
    let (mut granter, mut holder) = rate_lease(&time, S);
    let lease = holder.release().expect("held");
    granter.release(&lease).expect("stored");
    assert!(matches!(granter.renew(&time, &lease, 2, S), Err(Refused::Expired)));
    granter.grant(&time, RIVAL, 1, S).expect("free at once");
    granter.release(&lease).expect("nothing happens");
    assert!(granter.expect_free(&time).is_err(), "the rival has it");
}

#[test]
fn an_answer_under_way_does_not_revive_what_was_given_back() {
    let time = Shown::new();
    let (mut granter, mut holder) = clock_lease(&time, 500);
    holder.ask(2);
    let renewed = granter.renew(&time, &holder.lease().expect("held"), 2, 500).expect("held");
    let _ = holder.release();
    assert!(matches!(holder.granted(&renewed), Err(Refused::NotMine)));
    let (mut granter, mut holder) = rate_lease(&time, S);
    holder.ask(&time, 2).expect("a tick");
    let renewed = granter.renew(&time, &holder.lease().expect("held"), 2, S).expect("held");
    let _ = holder.release();
    assert!(matches!(holder.granted(&renewed), Err(Refused::NotMine)));
}

#[test]
fn a_request_that_is_sent_again_counts_from_the_first_time() {
    let time = Shown::new();
    let mut granter = rate::Granter::open(MemoryStore::default(), S).expect("a new store");
    let holder = rate::Holder::new(ME);
    holder.ask(&time, 1).expect("a tick");
    let lease = granter.grant(&time, ME, 1, S).expect("free");
    time.raw_ns.set(6 * S);
    holder.ask(&time, 1).expect("a tick");
    holder.granted(&lease).expect("asked for");
    assert!(matches!(holder.begin(&time), Err(Refused::Expired)));
}

#[test]
fn work_under_an_older_grant_is_not_confirmed() {
    let time = Shown::new();
    let (mut granter, holder) = clock_lease(&time, 500);
    let guard = holder.begin(&time).expect("held");
    holder.ask(2);
    holder.granted(&granter.grant(&time, ME, 2, 500).expect("its own")).expect("asked for");
    assert!(matches!(guard.confirm(&time), Err(Refused::Expired)));
    let (mut granter, holder) = rate_lease(&time, S);
    let guard = holder.begin(&time).expect("held");
    holder.ask(&time, 2).expect("a tick");
    holder.granted(&granter.grant(&time, ME, 2, S).expect("its own")).expect("asked for");
    assert!(matches!(guard.confirm(&time), Err(Refused::Expired)));
}

#[test]
fn terms_are_positive_bounded_and_end_before_all_time_does() {
    let time = Shown::new();
    let mut by_clock = clock::Granter::open(MemoryStore::default(), 500).expect("a new store");
    let mut by_rate = rate::Granter::open(MemoryStore::default(), 500).expect("a new store");
    for term_ns in [i64::MIN, -1, 0, 501, i64::MAX] {
        assert!(matches!(by_clock.grant(&time, ME, 1, term_ns), Err(Refused::Term(500))), "{term_ns}");
        assert!(matches!(by_rate.grant(&time, ME, 1, term_ns), Err(Refused::Term(500))), "{term_ns}");
    }
    time.show(0, i64::MAX - 499);
    assert!(matches!(by_clock.grant(&time, ME, 1, 500), Err(Refused::Term(500))));
    by_clock.grant(&time, ME, 1, 499).expect("the last instant there is");
    by_rate.grant(&time, ME, 1, 1).expect("one nanosecond is a term");
}

#[test]
fn inverted_intervals_prove_nothing() {
    let time = Shown::new();
    let (mut granter, holder) = clock_lease(&time, 500);
    time.show(1_600, 900);
    assert!(holder.begin(&time).is_err() && granter.expect_free(&time).is_err());
    assert!(granter.grant(&time, RIVAL, 1, 500).is_err());
}

#[test]
fn a_store_of_another_kind_is_refused() {
    let time = Shown::new();
    let (granter, _) = clock_lease(&time, 500);
    assert!(matches!(rate::Granter::open(granter.into_store(), S), Err(Refused::Store(_))));
}

#[test]
fn a_reserve_saves_writes_and_is_waited_for_after_a_crash() {
    let time = Shown::new();
    let mut granter = clock::Granter::open(MemoryStore::default(), 500).expect("a new store").reserving(1_000);
    let lease = granter.grant(&time, ME, 1, 500).expect("free");
    for now_ns in (1_000..2_000).step_by(100) {
        time.show(now_ns - 100, now_ns);
        granter.renew(&time, &lease, 2, 500).expect("held");
    }
    let store = granter.into_store();
    assert_eq!(store.saves, 1);
    let mut granter = clock::Granter::open(store, 500).expect("its own store");
    time.show(2_500, 2_600);
    assert!(matches!(granter.expect_free(&time), Err(Refused::Held { .. })));
    time.show(2_501, 2_600);
    granter.expect_free(&time).expect("all that was stored has passed");
}

/// Else a guard that began before could confirm after, as if nobody had thought the lease free in between.
#[test]
fn what_a_granter_thought_free_or_forgot_is_not_renewed_under_its_fence() {
    let time = Shown::new();
    let (mut granter, holder) = clock_lease(&time, 500);
    let lease = holder.lease().expect("held");
    granter.renew(&time, &lease, 2, 500).expect("held");
    time.show(1_501, 1_600);
    granter.expect_free(&time).expect("it has passed");
    time.show(900, 1_600); // A new epoch, with a wider bound.
    assert!(matches!(granter.renew(&time, &lease, 3, 500), Err(Refused::Expired)));
    let again = granter.grant(&time, ME, 4, 500).expect("its own");
    assert!(again.fence > lease.fence);
    let mut granter = clock::Granter::open(granter.into_store(), 500).expect("its own store");
    assert!(matches!(granter.renew(&time, &again, 5, 500), Err(Refused::Expired)));

    let (mut granter, holder) = rate_lease(&time, S);
    let lease = holder.lease().expect("held");
    granter.renew(&time, &lease, 2, S).expect("held");
    let mut granter = rate::Granter::open(granter.into_store(), S).expect("its own store");
    assert!(matches!(granter.renew(&time, &lease, 3, S), Err(Refused::Expired)));
    granter.grant(&time, ME, 4, S).expect("its own");
}

#[test]
fn a_rate_granter_waits_out_the_longest_term_after_a_crash() {
    let time = Shown::new();
    let (mut granter, holder) = rate_lease(&time, S);
    granter.renew(&time, &holder.lease().expect("held"), 2, 2 * S).expect("held");
    let mut granter = rate::Granter::open(granter.into_store(), 10 * S).expect("its own store");
    time.raw_ns.set(0); // The host was booted.
    assert!(granter.expect_free(&time).is_err());
    time.raw_ns.set(2 * S);
    assert!(granter.expect_free(&time).is_err(), "2 s less 20 ppm");
    time.raw_ns.set(2 * S + 200_000);
    granter.expect_free(&time).expect("two seconds since the first tick");
}

#[test]
fn holders_serve_many_threads() {
    fn expect_sync<T: Send + Sync>() {}
    expect_sync::<clock::Holder>();
    expect_sync::<rate::Holder>();
    expect_sync::<truebound_client::lease::primary::Primary>();
}

#[test]
fn nonces_differ() {
    let nonces: std::collections::BTreeSet<u64> = (0..1_000).map(|_| truebound_client::lease::fresh_nonce()).collect();
    assert_eq!(nonces.len(), 1_000);
}

#[test]
fn a_gate_lets_no_older_fence_pass() {
    let mut gate = FenceGate::new(Fence(3));
    assert!(matches!(gate.admit(Fence(2)), Err(Refused::Superseded(Fence(3)))));
    gate.admit(Fence(3)).expect("the same holder");
    gate.admit(Fence(7)).expect("a later one");
    assert!(gate.admit(Fence(6)).is_err());
    assert_eq!(gate.highest(), Fence(7));
}

#[test]
fn fences_end_before_they_repeat() {
    let time = Shown::new();
    let last = Record { kind: Kind::Clock, fence: Fence(u64::MAX), holder: ME, until_ns: Record::NOTHING };
    let store = MemoryStore { record: Some(last), saves: 0 };
    let mut granter = clock::Granter::open(store, S).expect("a store that loads");
    assert!(matches!(granter.grant(&time, ME, 1, S), Err(Refused::FencesExhausted)));
}

/// Looks into the store at every lease that leaves, and now and then fails.
#[derive(Clone, Default)]
struct Watched<'a> {
    record: Option<Record>,
    fails: Option<&'a Cell<bool>>,
    last: Option<&'a RefCell<Option<Record>>>,
}

impl Store for Watched<'_> {
    fn load(&mut self) -> std::io::Result<Option<Record>> {
        Ok(self.record)
    }

    fn save(&mut self, record: &Record) -> std::io::Result<()> {
        if self.fails.is_some_and(Cell::get) {
            return Err(std::io::Error::other("planted"));
        }
        self.record = Some(*record);
        if let Some(last) = self.last {
            *last.borrow_mut() = self.record;
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn nothing_leaves_that_is_not_stored(
        steps in prop::collection::vec((0u64..3, 1i64..500, any::<bool>(), 1i64..400, 0u8..8), 1..60), reserve in 0i64..900,
    ) {
        let (time, fails, stored) = (Shown::new(), Cell::new(false), RefCell::new(None));
        let store = Watched { record: None, fails: Some(&fails), last: Some(&stored) };
        let mut by_clock = clock::Granter::open(store, 500).expect("a new store").reserving(reserve);
        let rate_stored = RefCell::new(None);
        let store = Watched { record: None, fails: Some(&fails), last: Some(&rate_stored) };
        let mut by_rate = rate::Granter::open(store, 500).expect("a new store");
        let (mut clock_lease, mut rate_lease) = (None, None);
        for (id, term_ns, fail, pass_ns, what) in steps {
            fails.set(fail);
            let tai = time.tai.get().plus(pass_ns, pass_ns);
            time.tai.set(tai);
            time.raw_ns.set(time.raw_ns.get() + pass_ns * 10);
            let clock_reply = match clock_lease {
                Some(lease) if what < 4 => by_clock.renew(&time, &lease, 1, term_ns),
                Some(lease) if what == 4 => { let _ = by_clock.release(&lease); continue },
                _ => by_clock.grant(&time, HolderId(id), 1, term_ns),
            };
            if let Ok(lease) = clock_reply {
                let record: Record = stored.borrow().expect("stored");
                prop_assert!(record.until_ns >= lease.expires_tai_ns && record.fence == lease.fence && record.holder == lease.holder);
                prop_assert!(lease.expires_tai_ns >= tai.latest_ns + term_ns);
                clock_lease = Some(lease);
            }
            let rate_reply = match rate_lease {
                Some(lease) if what < 4 => by_rate.renew(&time, &lease, 1, term_ns),
                _ => by_rate.grant(&time, HolderId(id), 1, term_ns),
            };
            if let Ok(lease) = rate_reply {
                let record: Record = rate_stored.borrow().expect("stored");
                prop_assert!(record.until_ns >= lease.term_ns && record.fence == lease.fence && record.holder == lease.holder);
                rate_lease = Some(lease);
            }
        }
    }

    #[test]
    fn no_reading_or_record_panics(words in prop::array::uniform8(any::<i64>()), fence: u64, kind: bool) {
        let [earliest_ns, latest_ns, until_ns, term_ns, longest_ns, raw_ns, later_ns, slept_ns] = words;
        let time = Shown::new();
        let record = Record { kind: if kind { Kind::Clock } else { Kind::Rate }, fence: Fence(fence), holder: ME, until_ns };
        let store = MemoryStore { record: Some(record), saves: 0 };
        let (clocks, rates) = (clock::Granter::open(store.clone(), longest_ns), rate::Granter::open(store, longest_ns));
        let (clock_holder, rate_holder) = (clock::Holder::new(ME), rate::Holder::new(ME));
        let _ = rate_holder.ask(&time, 1);
        clock_holder.ask(1);
        let _ = rate_holder.granted(&rate::Lease { holder: ME, nonce: 1, fence: Fence(fence), term_ns });
        let _ = clock_holder.granted(&clock::Lease { holder: ME, nonce: 1, fence: Fence(fence), expires_tai_ns: until_ns });
        time.show(earliest_ns, latest_ns);
        time.raw_ns.set(raw_ns);
        let guards = (clock_holder.begin(&time), rate_holder.begin(&time));
        time.raw_ns.set(later_ns);
        time.slept_ns.set(slept_ns);
        let _ = (guards.0.map(|guard| guard.confirm(&time)), guards.1.map(|guard| guard.confirm(&time)));
        let _ = clocks.map(|mut it| (it.grant(&time, RIVAL, 1, term_ns), it.expect_free(&time)));
        let _ = rates.map(|mut it| (it.grant(&time, RIVAL, 1, term_ns), it.expect_free(&time)));
        let _ = Margin::of(&time.tick().expect("shown"), term_ns);
    }
}
