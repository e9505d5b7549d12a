//! What breaks time under a running agent, each break by itself, with the real binary: the old bound is withdrawn first,
//! then time is measured again, then published in a new epoch; a strict reader refuses before the agent has noticed.
//!
//! Nothing of this machine is touched. A sleep, a step of CLOCK_REALTIME and its slewing come from a library under
//! LD_PRELOAD (`disruptions/clocks.c`); the hypervisor's page is a mock, a file of the same form; clocksource and time
//! namespace are those of namespaces of the test's own. In all of them CLOCK_MONOTONIC_RAW goes on as it was, so the
//! truth is known throughout: it is what an undisturbed root says, whose raw clock is the same.

#[path = "disruptions/agents.rs"]
mod agents;
mod scratch;

use std::path::{Path, PathBuf};
use std::process::Command;

use truebound_client::page::Publication;
use truebound_client::{MonotonicRaw, RawClock, Reason, Status, Unavailable};

use agents::{PACE, Pair, TRUEBOUND, World, put, turned_clocks, until};
use scratch::Scratch;

const S: i64 = 1_000_000_000;

/// Says that a test cannot be done here, and why.
fn skip(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
}

/// Can this process have a namespace of its own? `None`: yes.
fn lacks_namespace(flag: &str) -> Option<String> {
    match Command::new("unshare").args([flag, "--", "true"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// The order that every disruption must keep. The agent cannot measure while the break is noticed, so the withdrawn page
/// stays to be seen; afterwards a new bound comes, in a later epoch.
fn expect_withdrawal_then_new_epoch(pair: &Pair, reason: Reason, disrupt: impl FnOnce()) {
    let before = pair.read_until("a bound", |page| page.status.has_bound());
    pair.silence_root(true);
    disrupt();
    let is_withdrawn =
        |page: &Publication| page.status == Status::Disrupted && page.reason == reason && !page.status.has_bound();
    let withdrawn = pair.read_until(&format!("withdrawn: {reason:?}"), is_withdrawn);
    assert_eq!(pair.page.now(), Err(Unavailable::NoBound(Status::Disrupted, reason)));
    assert_eq!(pair.strict().0, 1, "nor by a strict read");
    assert!(withdrawn.epoch > before.epoch, "{} then {}", before.epoch, withdrawn.epoch);
    pair.silence_root(false);
    let again = pair.read_until("a bound again", |page| page.status.has_bound());
    assert!(again.epoch >= withdrawn.epoch, "{} then {}", withdrawn.epoch, again.epoch);
    // The page is published before its line is written: whoever read the page waits for the line.
    let why = format!("reason={reason}");
    let log = until("the log says so", || Some(pair.log()).filter(|log| log.rfind(&why) < log.rfind("status=locked")));
    let line_of = |words: &str| log.rfind(words).unwrap_or_else(|| panic!("no {words:?} in {log}"));
    assert!(line_of(&why) < line_of("status=locked"), "{log}");
    let (reads, answered) = *pair.judged.borrow();
    println!(
        "{reason}: epoch {} then {}, {answered} of {reads} reads answered, 0 violations",
        before.epoch, again.epoch
    );
}

#[test]
fn a_host_that_slept_withdraws_first_and_a_strict_reader_refuses_before() {
    let scratch = Scratch::new("slept");
    let clocks = match turned_clocks(&scratch) {
        Ok(clocks) => clocks,
        Err(reason) => return skip("suspend", &reason),
    };
    let obeyed = clocks.1.clone();
    let sleep = |so_far_s: i64| put(&obeyed, 0, so_far_s * S);
    let pair = Pair::start("suspend", scratch, World { clocks: Some(clocks), ..World::default() }, "");
    assert_eq!(pair.strict().0, 0, "nobody slept yet");
    expect_withdrawal_then_new_epoch(&pair, Reason::Suspended, || sleep(5));
    // Again, with an agent that does not run yet after the sleep: readers run first.
    assert_eq!(until("a strict read", || Some(pair.strict()).filter(|strict| strict.0 == 0)).0, 0);
    expect_withdrawal_then_new_epoch(&pair, Reason::Suspended, || {
        pair.stall_agent(true);
        sleep(10);
        let (code, words) = pair.strict();
        assert_eq!(code, 1, "{words}");
        assert!(words.contains(&Unavailable::Slept.to_string()), "{words}");
        pair.stall_agent(false);
    });
}

#[test]
fn another_clocksource_withdraws_and_a_strict_reader_refuses_before() {
    if let Some(reason) = lacks_namespace("--mount") {
        return skip("clocksource", &reason);
    }
    let scratch = Scratch::new("clocksource");
    let file = scratch.write("clocksource", "tsc\n");
    let world = World { clocksource: Some(file.clone()), ..World::default() };
    // What else raw time may be made of: with the operator's word there is a bound on any clocksource.
    let pair = Pair::start("clocksource", scratch, world, "[clock]\noscillator = \"xo\"");
    assert_eq!(pair.strict().0, 0);
    expect_withdrawal_then_new_epoch(&pair, Reason::ClocksourceChanged, || {
        pair.stall_agent(true);
        std::fs::write(&file, "hpet\n").expect("a scratch file");
        let (code, words) = pair.strict();
        assert_eq!(code, 1, "{words}");
        assert!(words.contains(&Unavailable::ClocksourceChanged.to_string()), "{words}");
        pair.stall_agent(false);
    });
}

#[test]
fn a_publisher_that_stalls_leaves_a_bound_that_grows_and_stays_right() {
    let pair = Pair::start("stall", Scratch::new("stall"), World::default(), "");
    let settled = |page: &Publication| page.status.has_bound() && page.interval_at(page.bound.t_ref_ns).is_ok();
    pair.read_until("a bound", settled);
    pair.stall_agent(true);
    let (last, first) = (pair.page.publication().expect("a bound"), pair.read().expect("it ages"));
    let end_ns = MonotonicRaw.now_ns() + 3 * S;
    let mut width_ns = first.tai.width_ns();
    while MonotonicRaw.now_ns() < end_ns {
        let read = pair.read().expect("it ages");
        assert!(read.tai.width_ns() >= width_ns, "it only grows");
        assert_eq!(pair.page.publication().as_ref(), Some(&last), "nobody publishes");
        width_ns = read.tai.width_ns();
        std::thread::sleep(PACE);
    }
    assert!(width_ns > first.tai.width_ns(), "by wander alone");
    pair.stall_agent(false);
    let next = pair.read_until("an update", |page| *page != last);
    assert_eq!(next.epoch, last.epoch, "nothing broke");
    let at = next.bound.t_ref_ns;
    let (old, new) = (last.interval_at(at).expect("a bound"), next.interval_at(at).expect("a bound"));
    let is_inside = old.tai.earliest_ns <= new.tai.earliest_ns && new.tai.latest_ns <= old.tai.latest_ns;
    assert!(is_inside, "{new:?} is not inside {old:?}");
    let (reads, answered) = *pair.judged.borrow();
    println!("stall: {} to {width_ns} ns wide in 3 s, {answered} of {reads} reads, 0 violations", first.tai.width_ns());
}

#[test]
fn somebody_who_steps_and_slews_realtime_does_not_touch_the_bound_and_is_told() {
    let scratch = Scratch::new("rival");
    let clocks = match turned_clocks(&scratch) {
        Ok(clocks) => clocks,
        Err(reason) => return skip("rival", &reason),
    };
    let obeyed = clocks.1.clone();
    // Kernel stamps are in the machine's CLOCK_REALTIME, which nobody turns here.
    let world = World { clocks: Some(clocks), ..World::default() };
    let pair = Pair::start("rival", scratch, world, "[stamps]\nkernel = false");
    let epoch = pair.read_until("a bound", |page| page.status.has_bound()).epoch;
    let told = |is_told: &dyn Fn(&serde_json::Value) -> bool| {
        until("it is counted", || {
            for _ in 0..100 {
                assert!(pair.read().is_ok(), "nothing done to REALTIME withdraws a bound");
            }
            Some(pair.status()["realtime"].clone()).filter(is_told)
        })
    };
    put(&obeyed, 1, 1_500_000_000);
    let realtime = told(&|realtime| realtime["sets"].as_u64() > Some(0));
    let by_ns = realtime["last_set_ns"].as_i64().expect("a size");
    assert!((by_ns - 1_500_000_000).abs() < 20_000_000, "about 1.5 s: {by_ns} ns");
    // 5 % fast from now on, as fast as a tick can make it; no step, only a rate that the kernel tells.
    put(&obeyed, 3, MonotonicRaw.now_ns());
    put(&obeyed, 2, 50_000);
    let realtime = told(&|realtime| realtime["slews"].as_u64() > Some(0));
    assert!(realtime["rate_ppb"].as_i64() > Some(40_000_000), "{realtime}");
    assert_eq!(pair.page.publication().map(|page| page.epoch), Some(epoch), "nothing was withdrawn");
    let log = pair.log();
    assert!(
        log.contains("event=realtime-set by_about_ns=1") && log.contains("event=realtime-slewed rate_ppb="),
        "{log}"
    );
    let (reads, answered) = *pair.judged.borrow();
    println!("rival: {answered} of {reads} reads answered, 0 violations");
}

/// A mock of a hypervisor's page (struct vmclock_abi), all of it that matters here.
fn mock_vmclock(path: &Path) {
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(b"VCLK");
    page[4..8].copy_from_slice(&4096u32.to_le_bytes());
    page[8..10].copy_from_slice(&1u16.to_le_bytes());
    std::fs::write(path, page).expect("a scratch file");
}

/// Words of that page.
const DISRUPTION_MARKER: u64 = 2;
const FLAGS: u64 = 3;
const GENERATION: u64 = 13;
/// Their bits.
const SOON: i64 = 1 << 1;
const IMMINENT: i64 = 1 << 2;
const HAS_GENERATION: i64 = 1 << 8;

fn vm_pair(name: &str) -> (Pair, PathBuf) {
    let scratch = Scratch::new(name);
    let vmclock = scratch.0.join("vmclock0");
    mock_vmclock(&vmclock);
    let config = format!("[clock]\nvmclock = \"{}\"", vmclock.display());
    (Pair::start(name, scratch, World::default(), &config), vmclock)
}

#[test]
fn a_moved_or_restored_vm_is_refused_by_every_reader_at_once_and_withdrawn() {
    let (pair, vmclock) = vm_pair("vm");
    assert_eq!(pair.status()["vmclock"], vmclock.display().to_string());
    put(&vmclock, FLAGS, HAS_GENERATION);
    for (word, value) in [(DISRUPTION_MARKER, 7), (GENERATION, 1)] {
        expect_withdrawal_then_new_epoch(&pair, Reason::VmMoved, || {
            pair.stall_agent(true);
            assert!(pair.read().is_ok(), "not moved yet");
            put(&vmclock, word, value);
            assert_eq!(pair.page.now(), Err(Unavailable::VmMoved), "by a plain read too");
            assert_eq!(pair.page.now_strict(), Err(Unavailable::VmMoved));
            assert_eq!(pair.page.tick().err(), Some(Unavailable::VmMoved));
            pair.stall_agent(false);
        });
    }
}

#[test]
fn a_disruption_that_the_hypervisor_foretells_is_passed_on_and_withdraws_nothing() {
    let (pair, vmclock) = vm_pair("foretold");
    let epoch = pair.page.publication().expect("a bound").epoch;
    for (flags, word) in [(SOON, "soon"), (SOON | IMMINENT, "imminent"), (0, "nothing")] {
        put(&vmclock, FLAGS, flags);
        let page = pair.read_until(word, |page| page.foretold.name() == word);
        assert!(page.status.has_bound() && page.epoch == epoch, "{page:?}");
        assert_eq!(pair.status()["vm_disruption"], word);
        let now: serde_json::Value = serde_json::from_slice(&pair.ask(&["now"]).stdout).expect("JSON");
        assert_eq!(now["vm_disruption"], word, "{now}");
        assert!(pair.log().contains(&format!("event=vm-disruption-foretold what={word}")));
    }
}

#[test]
fn a_vmclock_that_the_operator_names_must_be_one() {
    let scratch = Scratch::new("no-vmclock");
    let not_one = scratch.write("vmclock0", &"no page of a hypervisor ".repeat(200));
    let config = format!("[clock]\nvmclock = \"{}\"\n[[source]]\nlocal = true\n", not_one.display());
    let file = scratch.write("a.toml", &config);
    let mut command = Command::new(TRUEBOUND);
    command.arg("run").arg("--config").arg(file).arg("--runtime-dir").arg(scratch.0.join("run"));
    let output = command.output().expect("the binary runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("vmclock0") && words.contains("use \"auto\""), "{words}");
}

#[test]
fn a_reader_in_another_time_namespace_is_refused_with_the_reason() {
    if let Some(reason) = lacks_namespace("--time") {
        return skip("time namespace", &reason);
    }
    let pair = Pair::start("namespace", Scratch::new("namespace"), World::default(), "");
    let mut command = Command::new("unshare");
    command.args(["--time", "--monotonic", "1000", "--", TRUEBOUND, "now", "--runtime-dir"]).arg(pair.dir());
    let output = command.output().expect("unshare runs");
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("another time namespace"), "{words}");
    // The same words without the namespace give an interval.
    assert_eq!(pair.ask(&["now"]).status.code(), Some(0));
}

#[test]
fn a_strict_read_says_all_that_a_plain_one_says_on_both_timescales() {
    let pair = Pair::start("fields", Scratch::new("fields"), World::default(), "");
    for command in [&["now"][..], &["now", "--strict"]] {
        let output = pair.ask(command);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        let now: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let ns = |key: &str| now[key].as_i64().unwrap_or_else(|| panic!("no {key} in {now}"));
        let offset_ns = now["leap"]["utc_offset_s"].as_i64().expect("an offset") * S;
        assert_eq!(ns("earliest_tai_ns") - ns("earliest_ns"), offset_ns, "{now}");
        assert_eq!(ns("latest_tai_ns") - ns("latest_ns"), offset_ns, "{now}");
        assert!(now["leap"]["change_at_tai_ns"].as_i64() > Some(ns("latest_tai_ns")), "{now}");
        // No list knows a leap second to come: whether there is one at its end is not known.
        assert!(now["leap"].as_object().is_some_and(|leap| leap.contains_key("after_s")), "{now}");
        assert_eq!(now["vm_disruption"], "nothing");
    }
}
