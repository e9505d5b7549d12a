//! The real agent on reference clocks that others write, and as the reference clock of the real chronyd.
//!
//! Truth is known: nobody steers this machine's clock, and a sample says what that clock says plus a known shift. So a
//! clock is right within its claim exactly if the shift is.

#[allow(dead_code, reason = "tests/netns.rs uses the rest")]
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

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use netns::agent::Agent;
use netns::checker::{Checker, realtime_ns};
use netns::chrony::Chrony;
use netns::lab::Lab;
use netns::place::truebound;
use truebound_core::io::FeedSample;
use truebound_core::time::RealTime;
use truebound_core::wire::reference::{SHM_KEY, shm_segment, sock_datagram};
use truebound_hw::reference::shm::ShmFeed;
use truebound_hw::reference::sock::SockFeed;

const PATIENCE: Duration = Duration::from_secs(20);
/// How often the clocks of these tests speak.
const INTERVAL: Duration = Duration::from_millis(100);
const US: i64 = 1_000;
const MS: i64 = 1_000_000;

/// Units that nobody else has, and whose segments go with the test.
struct Unit(u8);

impl Unit {
    /// `which` of one test's units, from 0 to 4.
    fn take(which: u8) -> Unit {
        let ours = u8::try_from(std::process::id() % 20).expect("small");
        Unit(150 + 5 * ours + which)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let key = format!("{:#x}", SHM_KEY + i32::from(self.0));
        let _ = Command::new("ipcrm").args(["-M", &key]).output();
    }
}

/// A receiver's daemon: says what the kernel's clock says plus a shift, until dropped.
struct Daemon {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start(shift_ns: i64, mut say: impl FnMut(&FeedSample) + Send + 'static) -> Daemon {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                say(&FeedSample { at: RealTime::from_ns(realtime_ns()), ahead_ns: shift_ns, leap: 0 });
                std::thread::sleep(INTERVAL);
            }
        });
        Daemon { stop, thread: Some(thread) }
    }

    fn of_segment(unit: &Unit, shift_ns: i64) -> Daemon {
        let mut segment = ShmFeed::new(unit.0);
        Daemon::start(shift_ns, move |sample| segment.write(&shm_segment(sample)).expect("our own segment"))
    }

    /// Nobody may be there yet, or any more.
    fn of_socket(path: &Path, shift_ns: i64) -> Daemon {
        let socket = SockFeed::new(path).expect("a socket");
        Daemon::start(shift_ns, move |sample| drop(socket.send(&sock_datagram(sample))))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn segment_source(unit: &Unit) -> String {
    format!("[[source]]\nname = \"gps\"\nshm = {}\nerror = \"1ms\"\npoll-min = \"100ms\"\n", unit.0)
}

fn socket_source(path: &Path) -> String {
    format!("[[source]]\nname = \"radio\"\nsock = \"{}\"\nerror = \"1ms\"\npoll-min = \"100ms\"\n", path.display())
}

fn socket_of(lab: &Lab) -> PathBuf {
    lab.private_dir("sockets").join("radio.sock")
}

#[test]
fn clocks_within_their_claims_hold_the_truth_and_the_run_replays() {
    let Some(lab) = Lab::open("clocks_within_their_claims_hold_the_truth_and_the_run_replays") else { return };
    let (unit, path) = (Unit::take(0), socket_of(&lab));
    let journal = lab.private_dir("journal").join("journal");
    let config = format!("journal = \"{}\"\n{}{}", journal.display(), segment_source(&unit), socket_source(&path));
    // Before there is a clock: absence stops nobody.
    let mut agent = Agent::start(&lab, "cli0", "agent", &config);
    let absent = |agent: &Agent| agent.source("gps", "discarded")["absent"].as_u64().unwrap_or(0);
    lab.wait("a missing segment is counted", PATIENCE, || absent(&agent) > 0);
    let checker = Checker::start(agent.page());
    let _segment = Daemon::of_segment(&unit, 900 * US);
    let _socket = Daemon::of_socket(&path, -900 * US);
    agent.expect_status(&lab, "locked");
    lab.wait("both are believed", PATIENCE, || {
        ["gps", "radio"].iter().all(|name| agent.source(name, "status") == "truechimer")
    });
    lab.wait("a thousand reads", PATIENCE, || checker.tally().reads > 1_000);
    let tally = checker.tally();
    tally.expect_unbroken();
    println!("half-width {} ns, claim 1 ms; error {} ns of 900 µs", tally.half_widths.median(), tally.errors.median());
    // Without a liar among two the bound is what both allow: 0.1 ms to either side, stamps and wander beside it.
    assert!(tally.half_widths.median() < 400 * US);
    for name in ["gps", "radio"] {
        let width = agent.source(name, "delay_ns").as_i64().expect("a sample");
        println!("{name}: the last stamp was mapped within {width} ns");
    }
    agent.terminate();
    let replayed = Command::new(truebound()).arg("replay").arg(&journal).arg("--json").output().expect("it runs");
    let replayed: serde_json::Value = serde_json::from_slice(&replayed.stdout).expect("a report");
    assert_eq!((&replayed["equal"], &replayed["whole"]), (&true.into(), &true.into()), "{replayed}");
}

#[test]
fn the_judge_convicts_a_clock_beyond_its_claim() {
    let Some(lab) = Lab::open("the_judge_convicts_a_clock_beyond_its_claim") else { return };
    let unit = Unit::take(1);
    let mut agent = Agent::start(&lab, "cli0", "agent", &segment_source(&unit));
    let checker = Checker::start(agent.page());
    let _segment = Daemon::of_segment(&unit, 5 * MS);
    agent.expect_status(&lab, "locked");
    lab.wait("a hundred reads", PATIENCE, || checker.tally().reads > 100);
    let tally = checker.tally();
    assert_eq!(tally.all_violations(), tally.reads, "5 ms are not 1 ms");
}

#[test]
fn a_clock_that_goes_leaves_a_bound_that_grows_and_one_that_comes_back_is_believed() {
    let Some(lab) = Lab::open("a_clock_that_goes_leaves_a_bound_that_grows_and_one_that_comes_back_is_believed") else {
        return;
    };
    let unit = Unit::take(2);
    let mut agent = Agent::start(&lab, "cli0", "agent", &segment_source(&unit));
    let checker = Checker::start(agent.page());
    let daemon = Daemon::of_segment(&unit, 0);
    agent.expect_status(&lab, "locked");
    drop(daemon);
    agent.expect_status(&lab, "holdover");
    let answers = |agent: &Agent| agent.source("gps", "answers").as_u64().unwrap_or(0);
    let before = answers(&agent);
    // Its segment stands there with its last sample, which counts no more.
    lab.wait("a second passes", PATIENCE, || checker.tally().reads > 3_000);
    assert_eq!(answers(&agent), before);
    let _daemon = Daemon::of_segment(&unit, 0);
    agent.expect_status(&lab, "locked");
    checker.tally().expect_unbroken();
}

#[test]
fn chronyd_follows_us_as_its_reference_clock() {
    let Some(lab) = Lab::open("chronyd_follows_us_as_its_reference_clock") else { return };
    let (unit, path) = (Unit::take(3), lab.private_dir("feed").join("tb.sock"));
    // True time is defined as this machine's clock plus 3 ms: what a chronyd is told is known.
    let config =
        format!("[feed]\nsock = \"{}\"\nshm = {}\n[[source]]\nlocal = true\nshift = \"3ms\"\n", path.display(), unit.0);
    // Before there is anybody to tell.
    let mut agent = Agent::start(&lab, "srv0", "agent", &config);
    agent.expect_status(&lab, "locked");
    let by_socket = Chrony::listen(&lab, "cli0", &format!("SOCK {}", path.display()));
    let by_segment = Chrony::listen(&lab, "cli1", &format!("SHM {}", unit.0));
    for (what, chrony) in [("SOCK", &by_socket), ("SHM", &by_segment)] {
        lab.wait(what, PATIENCE, || chrony.follows_refclock());
        let offsets = chrony.refclock_offsets();
        println!("{what}: {} samples, median {} ns, max {} ns", offsets.len(), offsets.median(), offsets.max());
        assert!((offsets.median() - 3 * MS).abs() < 10 * US, "{what}: {} ns", offsets.median());
    }
    // Another one in its place, at the same socket.
    by_socket.kill();
    let again = Chrony::listen(&lab, "cli0", &format!("SOCK {}", path.display()));
    lab.wait("a new one is told too", PATIENCE, || again.follows_refclock());
    agent.expect_status(&lab, "locked");
}
