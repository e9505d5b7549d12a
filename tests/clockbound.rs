//! ClockBound's own clients, unmodified, on the segments that the real agent writes, in network namespaces beside the
//! real chrony (tools/netns draws the network).
//!
//! Truth is known: the namespaces share one kernel clock, which nobody steers, and chronyd serves it. Where a test needs
//! a wrong CLOCK_REALTIME, agent and clients live by one of its own (clockbound/skew.c) and the kernel's stays the truth.
//!
//! `cargo test --release --test clockbound -- --test-threads=1 --nocapture`; as root, or where user namespaces are
//! allowed.

mod clockbound {
    pub(crate) mod clients;
    pub(crate) mod skew;
}
#[allow(dead_code, reason = "the other tests of namespaces use the rest")]
#[path = "netns"]
mod netns {
    pub(crate) mod agent;
    pub(crate) mod checker;
    pub(crate) mod chrony;
    pub(crate) mod lab;
    pub(crate) mod place;
    pub(crate) mod sandbox;
    pub(crate) mod stats;
    pub(crate) mod tracking;
}

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clockbound::clients::{BUSY, Client, Kind, NO_VMCLOCK, Stretch};
use clockbound::skew::Skew;
use netns::agent::{Agent, following};
use netns::checker::{Checker, realtime_ns};
use netns::chrony::Chrony;
use netns::lab::Lab;
use netns::stats::{heading, row};

/// How long anything may take that ought to happen at once.
const PATIENCE: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(62);
const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;
/// What an operator says of CLOCK_REALTIME.
const WORD_PPM: i64 = 500;
/// A break of that word may be seen this late: a refresh, some scheduling on two busy processors, and a stretch of reads
/// that began before it.
const NOTICED_NS: i64 = 400 * MS;

/// An agent's configuration with both segments in `directory`, and `extra` in [bound].
fn publishing(directory: &Path, extra: &str) -> String {
    format!(
        "[bound]\n{extra}\n[clockbound]\nshm0 = true\nshm1 = true\ndirectory = \"{}\"\nrealtime-slew = \"{WORD_PPM}ppm\"\n{}",
        directory.display(),
        following(&[("s0", "10.77.0.1")], "")
    )
}

fn directory(lab: &Lab, name: &str) -> PathBuf {
    lab.private_dir(name).join("clockbound")
}

/// One client of each kind.
fn all_kinds(lab: &Lab, name: &str, directory: &Path) -> Vec<Client> {
    Kind::ALL.into_iter().map(|kind| Client::start(lab, kind, name, directory, BUSY)).collect()
}

#[track_caller]
fn expect_all(lab: &Lab, clients: &mut [Client], status: &str) {
    clients.iter_mut().for_each(|client| client.expect(lab, status, PATIENCE));
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("a segment").ino()
}

/// Three clients at once, and slow ones; and those of another agent, that was killed at the start.
#[test]
fn a_minute_of_reads_has_no_violation() {
    let Some(lab) = Lab::open("a_minute_of_reads_has_no_violation") else { return };
    let _server = Chrony::serve(&lab, "srv0");
    let (here, dead) = (directory(&lab, "alive"), directory(&lab, "dead"));
    let mut doomed = Agent::start(&lab, "cli1", "dead", &publishing(&dead, ""));
    doomed.expect_status(&lab, "locked");
    let mut orphans = all_kinds(&lab, "orphan", &dead);
    expect_all(&lab, &mut orphans, "synchronized");
    doomed.kill();
    let killed_ns = realtime_ns();

    let mut agent = Agent::start(&lab, "cli0", "alive", &publishing(&here, ""));
    agent.expect_status(&lab, "locked");
    let checker = Checker::start(agent.page());
    let mut clients = all_kinds(&lab, "busy", &here);
    let slow = |kind, pause_s| Client::start(&lab, kind, "slow", &here, Duration::from_secs(pause_s));
    let mut slow = [slow(Kind::Rust2, 4), slow(Kind::Rust3, 7)];
    expect_all(&lab, &mut clients, "synchronized");
    let (start_ns, start) = (realtime_ns(), Instant::now());
    lab.wait("a minute passes", MINUTE + PATIENCE, || start.elapsed() >= MINUTE);

    let ours = checker.tally();
    ours.expect_unbroken();
    heading();
    row("our own page: half-width", &ours.half_widths);
    for client in &clients {
        let tally = client.tally(start_ns);
        row(&format!("{:?}: half-width", client.kind), &tally.half_widths);
        tally.expect_unbroken();
        assert!(tally.reads > 60_000, "only {} reads", tally.reads);
        assert!(tally.synchronized * 1000 >= tally.reads * 999, "a locked agent is synchronized: {tally:?}");
    }
    for client in &mut slow {
        client.expect(&lab, "synchronized", PATIENCE);
        client.tally(0).expect_unbroken();
    }
    // The growth of shm1 is by our edges and their wander, not by CLOCK_REALTIME: it is near our own page's.
    let by_counter = clients[2].tally(start_ns).half_widths.median();
    assert!(by_counter < 2 * ours.half_widths.median(), "{by_counter} ns by the counter");

    for orphan in &mut orphans {
        orphan.expect(&lab, "free-running", PATIENCE);
        let tally = orphan.tally(0);
        tally.expect_unbroken();
        expect_grace(orphan, killed_ns);
        let widths = |stretches: &[Stretch]| stretches.iter().map(|stretch| stretch.half_ns).collect::<Vec<_>>();
        let after: Vec<Stretch> =
            orphan.stretches().into_iter().filter(|one| one.from_ns > killed_ns + S / 5).collect();
        assert!(widths(&after).is_sorted(), "a bound that nobody refreshes grows");
    }
    println!(
        "a minute after its agent's death: {} ns by the counter",
        orphans[2].tally(0).half_widths.last().unwrap_or(0)
    );
}

/// Synchronized for 5 s (2.x) or 60 s (3.x) after the last refresh, and free-running from then on.
#[track_caller]
fn expect_grace(client: &Client, killed_ns: i64) {
    let grace_ns = if client.kind == Kind::Rust3 { 60 * S } else { 5 * S };
    let last = client.stretches().into_iter().rfind(|stretch| stretch.status == "synchronized").expect("it was");
    let lasted_ns = last.to_ns - killed_ns;
    assert!((grace_ns - S / 2..grace_ns + S / 2).contains(&lasted_ns), "{:?}: {lasted_ns} ns", client.kind);
}

/// Clients that were there before the first agent; a clean stop, a restart, a kill, another restart: one file all along.
#[test]
fn clients_stay_attached_while_agents_come_and_go() {
    let Some(lab) = Lab::open("clients_stay_attached_while_agents_come_and_go") else { return };
    let _server = Chrony::serve(&lab, "srv0");
    let here = directory(&lab, "agent");
    let mut clients = all_kinds(&lab, "early", &here);
    // The C client asks the system first.
    for (client, error) in clients.iter_mut().zip(["SegmentNotInitialized", "Syscall", "SegmentNotInitialized"]) {
        client.expect(&lab, error, PATIENCE);
    }
    let config = publishing(&here, "");
    let start = || Agent::start(&lab, "cli0", "agent", &config);
    let mut agent = start();
    expect_all(&lab, &mut clients, "synchronized");
    let inodes = [inode(&here.join("shm0")), inode(&here.join("shm1"))];
    let lines = clients.iter().map(|client| client.stretches().len()).collect::<Vec<_>>();

    for is_clean in [true, false, true] {
        agent.expect_status(&lab, "locked");
        if is_clean {
            agent.terminate();
            expect_all(&lab, &mut clients, "free-running");
        } else {
            agent.kill();
        }
        let restart_ns = realtime_ns();
        agent = start();
        agent.expect_status(&lab, "locked");
        lab.wait("the clients see the next agent's bound", PATIENCE, || {
            clients.iter().all(|client| {
                client.last().is_some_and(|last| last.from_ns > restart_ns + S && last.status == "synchronized")
            })
        });
        assert_eq!([inode(&here.join("shm0")), inode(&here.join("shm1"))], inodes, "another file");
    }
    for (client, lines) in clients.iter().zip(lines) {
        client.tally(0).expect_unbroken();
        let errors: Vec<Stretch> = client.stretches().split_off(lines).into_iter().filter(is_error).collect();
        assert!(errors.is_empty(), "errors after the first read: {errors:?}");
    }
}

fn is_error(stretch: &Stretch) -> bool {
    !matches!(stretch.status.as_str(), "unknown" | "synchronized" | "free-running" | "disrupted")
}

/// Silent sources: free-running while the bound holds, unknown when it is void; and so when the agent is killed.
#[test]
fn a_bound_that_is_void_is_unknown_to_clients() {
    let Some(lab) = Lab::open("a_bound_that_is_void_is_unknown_to_clients") else { return };
    let server = Chrony::serve(&lab, "srv0");
    let here = directory(&lab, "agent");
    let config = publishing(&here, "max-holdover = \"8s\"");
    let mut agent = Agent::start(&lab, "cli0", "agent", &config);
    let mut clients = all_kinds(&lab, "client", &here);
    agent.expect_status(&lab, "locked");
    expect_all(&lab, &mut clients, "synchronized");

    server.kill();
    agent.expect_status(&lab, "holdover");
    expect_all(&lab, &mut clients, "free-running");
    expect_all(&lab, &mut clients, "unknown");
    let _server = Chrony::serve(&lab, "srv0");
    expect_all(&lab, &mut clients, "synchronized");

    agent.kill();
    let killed_ns = realtime_ns();
    expect_all(&lab, &mut clients, "unknown");
    for client in &clients {
        client.tally(0).expect_unbroken();
        let last = client.stretches().into_iter().rfind(Stretch::is_usable).expect("it was");
        assert!(last.to_ns < killed_ns + 8 * S + S / 5, "{:?} used it {} ns", client.kind, last.to_ns - killed_ns);
    }
}

/// An agent and clients that live by a CLOCK_REALTIME of the test's.
struct Skewed {
    skew: Skew,
    agent: Agent,
    clients: Vec<Client>,
    /// True time since which the clock ran within the word.
    calm_since_ns: i64,
    _server: Chrony,
}

impl Skewed {
    fn start(lab: &Lab) -> Skewed {
        let server = Chrony::serve(lab, "srv0");
        let (skew, here) = (Skew::new(lab), directory(lab, "agent"));
        // The kernel stamps packets by its own clock.
        let config = format!("[stamps]\nkernel = false\n{}", publishing(&here, ""));
        let mut agent = Agent::start_under(lab, "cli0", "agent", &config, &skew.environment());
        let start = |kind| Client::start_under(lab, kind, "client", &here, BUSY, NO_VMCLOCK, &skew.environment());
        let mut clients: Vec<Client> = Kind::ALL.into_iter().map(start).collect();
        agent.expect_status(lab, "locked");
        expect_all(lab, &mut clients, "synchronized");
        Skewed { skew, agent, clients, calm_since_ns: 0, _server: server }
    }

    /// Clients of CLOCK_REALTIME noticed what was done at `at_ns` in time, were told that they are disrupted, and read
    /// nothing wrong before that nor after it; the client of the counter never noticed anything.
    #[track_caller]
    fn expect_announced(&mut self, lab: &Lab, at_ns: i64) {
        for client in &self.clients {
            lab.wait("the clients read on", PATIENCE, || client.last().is_some_and(|last| last.from_ns > at_ns + S));
            let (mut stretches, by_realtime) = (client.stretches(), client.kind != Kind::Rust3);
            stretches.retain(|one| one.from_ns >= self.calm_since_ns);
            let told = stretches.iter().find(|one| one.to_ns > at_ns && one.status == "disrupted");
            assert_eq!(told.is_some(), by_realtime, "{:?}", client.kind);
            let told_ns = told.map_or(at_ns, |told| told.from_ns);
            println!("{:?}: disrupted {} ms after it happened", client.kind, (told_ns - at_ns) / MS);
            assert!(told_ns - at_ns < NOTICED_NS, "{:?} was told after {} ns", client.kind, told_ns - at_ns);
            let is_judged = |one: &Stretch| one.to_ns < at_ns || one.from_ns >= told_ns;
            let wrong = stretches.iter().find(|one| one.is_usable() && one.violations > 0 && is_judged(one));
            assert_eq!(wrong, None, "{:?}, {at_ns}", client.kind);
        }
        assert_eq!(self.agent.status().expect("it answers").status, "locked", "raw time knows nothing of it");
    }

    /// From now on the clock runs within the word: the clients may use it again, and nothing is wrong.
    #[track_caller]
    fn expect_calm(&mut self, lab: &Lab) {
        expect_all(lab, &mut self.clients, "synchronized");
        self.calm_since_ns = realtime_ns();
        lab.wait("the clients read on", PATIENCE, || realtime_ns() > self.calm_since_ns + S);
        self.clients.iter().for_each(|client| client.tally(self.calm_since_ns).expect_unbroken());
    }
}

#[test]
fn a_realtime_that_is_off_within_the_operators_word_is_covered() {
    let Some(lab) = Lab::open("a_realtime_that_is_off_within_the_operators_word_is_covered") else { return };
    let mut skewed = Skewed::start(&lab);
    skewed.skew.step(3 * MS);
    let slewing_ns = skewed.skew.slew(100_000);
    expect_all(&lab, &mut skewed.clients, "synchronized");
    let since_ns = realtime_ns() + S;
    lab.wait("it runs fast for a while", PATIENCE, || realtime_ns() > since_ns + 6 * S);
    for client in &skewed.clients {
        let tally = client.tally(since_ns);
        tally.expect_unbroken();
        assert_eq!(tally.synchronized, tally.reads, "100 ppm of {WORD_PPM} break no word");
        let last = client.last().expect("it reads");
        let off_ns = 3 * MS + (last.from_ns - slewing_ns) / 10_000;
        let excess_ns = last.half_ns - if client.kind == Kind::Rust3 { 0 } else { off_ns };
        assert!((0..MS).contains(&excess_ns), "{:?}: {last:?}, off by {off_ns} ns", client.kind);
    }
}

#[test]
fn a_step_of_realtime_is_announced_and_measured_anew() {
    let Some(lab) = Lab::open("a_step_of_realtime_is_announced_and_measured_anew") else { return };
    let mut skewed = Skewed::start(&lab);
    for by_ns in [20 * MS, -40 * MS, S] {
        let at_ns = skewed.skew.step(by_ns);
        skewed.expect_announced(&lab, at_ns);
        skewed.expect_calm(&lab);
    }
}

#[test]
fn a_slew_beyond_the_operators_word_is_announced_for_as_long_as_it_lasts() {
    let Some(lab) = Lab::open("a_slew_beyond_the_operators_word_is_announced_for_as_long_as_it_lasts") else { return };
    let mut skewed = Skewed::start(&lab);
    for rate_ppb in [2_000_000, -600_000] {
        let at_ns = skewed.skew.slew(rate_ppb);
        skewed.expect_announced(&lab, at_ns);
        let told_ns = realtime_ns();
        lab.wait("it goes on", PATIENCE, || realtime_ns() > told_ns + 2 * S);
        let stopped_ns = skewed.skew.slew(0);
        for client in skewed.clients.iter().filter(|client| client.kind != Kind::Rust3) {
            let during = client.stretches().into_iter().filter(|one| one.from_ns > told_ns && one.to_ns < stopped_ns);
            let calm: Vec<Stretch> = during.filter(Stretch::is_usable).collect();
            assert!(calm.is_empty(), "{:?} was told it may use {calm:?}", client.kind);
        }
        skewed.expect_calm(&lab);
    }
}

/// The hypervisor moves the VM: clients know at once, by its page; the agent withdraws, measures, and says so.
#[test]
fn a_moved_vm_is_disrupted_until_the_agent_has_measured_anew() {
    let Some(lab) = Lab::open("a_moved_vm_is_disrupted_until_the_agent_has_measured_anew") else { return };
    let server = Chrony::serve(&lab, "srv0");
    let here = directory(&lab, "agent");
    let vmclock = lab.private_dir("hypervisor").join("vmclock0");
    fs::write(&vmclock, vmclock_page(4, 7)).expect("the lab's directory is writable");
    let config = format!("[clock]\nvmclock = \"{}\"\n{}", vmclock.display(), publishing(&here, ""));
    let mut agent = Agent::start(&lab, "cli0", "agent", &config);
    agent.expect_status(&lab, "locked");
    let path = vmclock.display().to_string();
    let start = |kind| Client::start_under(&lab, kind, "client", &here, BUSY, &path, &[]);
    let mut clients: Vec<Client> = Kind::ALL.into_iter().map(start).collect();
    expect_all(&lab, &mut clients, "synchronized");

    // Without a server the agent cannot measure: whatever clients are told stays.
    server.kill();
    let at_ns = realtime_ns();
    write_in_place(&vmclock, &vmclock_page(6, 8));
    lab.wait("the clients read on", PATIENCE, || {
        clients.iter().all(|client| client.last().is_some_and(|last| last.from_ns > at_ns + S))
    });
    for client in &clients {
        let used = client.stretches().into_iter().filter(|one| one.from_ns > at_ns + MS && one.is_usable()).count();
        assert_eq!(used, 0, "{:?} used a bound of another place", client.kind);
    }
    let _server = Chrony::serve(&lab, "srv0");
    expect_all(&lab, &mut clients, "synchronized");
    clients.iter().for_each(|client| client.tally(0).expect_unbroken());
}

/// struct vmclock_abi, as long as a page of memory: no time, only where the VM is.
fn vmclock_page(sequence: u8, marker: u8) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(b"VCLK");
    page[4..8].copy_from_slice(&4096_u32.to_le_bytes());
    (page[8], page[10], page[12], page[16]) = (1, 0xff, sequence, marker);
    page
}

/// The same file: it is mapped.
fn write_in_place(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.write_all_at(bytes, 0).expect("it is as long");
}
