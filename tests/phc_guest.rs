//! PTP with hardware stamps, in a deterministic guest: a real kernel, a real driver, emulated cards whose clocks one
//! judge can read at once. Card A's clock is true time by definition; it runs fast of the guest's own by 20 ppm.
//!
//! `tools/phc-guest/build`, then `cargo test --release --test phc_guest -- --nocapture`. Needs no privilege.

mod phc_guest {
    pub(crate) mod console;
    pub(crate) mod guest;
}

use serde_json::Value;

use phc_guest::console::Console;
use phc_guest::guest::Guest;

/// What anybody may be off by, who has hardware stamps at both ends of a symmetric wire.
const HARDWARE_NS: i64 = 50;

/// What a card is off by that is corrected once a second in steps of 119 ppb.
const STEERED_NS: i64 = 200;

/// What CLOCK_REALTIME is off by, which is read against raw time within so much.
const SYSTEM_NS: i64 = 500;

/// ptp4l's servo needs this long for its last microsecond; both play as long.
const TIMES: &str = "seconds=40 settle=25";

/// The link that delays by 500 µs there and 100 µs back.
const ASYMMETRIC: &str = "seconds=40 settle=25 forward=500 backward=100";
/// What nobody can see of it from the stamps.
const HALF_ASYMMETRY_NS: i64 = 200_000;
/// It forwards by software, in some time of its own, and now and then much later: medians only.
const FORWARDING_NS: i64 = 2_000;

/// What the boundary clock does not say of itself.
const HIDDEN_NS: i64 = 20_000;

/// The judge looks fifty times a second.
const MANY_READS: i64 = 1000;

const E2E_ETHERNET: &str = "transport=ethernet delay=e2e";
const E2E_UDP4: &str = "transport=udp4 delay=e2e";
const P2P_UDP4: &str = "transport=udp4 delay=p2p";

// ── linuxptp alone: what this lab resolves, and what we are measured by ──

#[test]
fn ptp4l_follows_ptp4l_over_ethernet() {
    let Some(guest) = Guest::open("ptp4l_follows_ptp4l_over_ethernet") else { return };
    let console = guest.run("ptp4l-pair", &format!("{TIMES} {E2E_ETHERNET}"));
    expect_within(&console, "b_p99_ns", 0, HARDWARE_NS);
}

#[test]
fn ptp4l_follows_ptp4l_over_udp4() {
    let Some(guest) = Guest::open("ptp4l_follows_ptp4l_over_udp4") else { return };
    let console = guest.run("ptp4l-pair", &format!("{TIMES} {E2E_UDP4}"));
    expect_within(&console, "b_p99_ns", 0, HARDWARE_NS);
}

#[test]
fn ptp4l_follows_ptp4l_by_peer_delay() {
    let Some(guest) = Guest::open("ptp4l_follows_ptp4l_by_peer_delay") else { return };
    let console = guest.run("ptp4l-pair", &format!("{TIMES} {P2P_UDP4}"));
    expect_within(&console, "b_p99_ns", 0, HARDWARE_NS);
}

#[test]
fn ptp4l_is_deceived_by_half_of_an_asymmetry() {
    let Some(guest) = Guest::open("ptp4l_is_deceived_by_half_of_an_asymmetry") else { return };
    let console = guest.run_with_four_cards("ptp4l-pair", &format!("{ASYMMETRIC} {E2E_ETHERNET}"));
    expect_within(&console, "b_median_ns", -HALF_ASYMMETRY_NS, FORWARDING_NS);
}

#[test]
fn ptp4l_is_deceived_by_a_boundary_clock() {
    let Some(guest) = Guest::open("ptp4l_is_deceived_by_a_boundary_clock") else { return };
    let console = guest.run_with_four_cards("boundary-clock", &format!("{TIMES} hidden_ns={HIDDEN_NS} follower=ptp4l"));
    expect_within(&console, "c_p99_ns", 0, HARDWARE_NS);
    expect_within(&console, "b_median_ns", HIDDEN_NS, HARDWARE_NS);
}

#[test]
fn ptp4l_runs_the_same_twice() {
    let Some(guest) = Guest::open("ptp4l_runs_the_same_twice") else { return };
    expect_equal([(); 2].map(|()| guest.run("ptp4l-pair", "seconds=15 settle=8")));
}

// ── our agent ──

#[test]
fn agent_follows_ptp4l_over_ethernet() {
    let Some(guest) = Guest::open("agent_follows_ptp4l_over_ethernet") else { return };
    expect_follows(&guest.run("agent-slave", &format!("{TIMES} {E2E_ETHERNET}")), "guaranteed");
}

#[test]
fn agent_follows_ptp4l_over_udp4() {
    let Some(guest) = Guest::open("agent_follows_ptp4l_over_udp4") else { return };
    expect_follows(&guest.run("agent-slave", &format!("{TIMES} {E2E_UDP4}")), "guaranteed");
}

/// Nothing that one measures by peer delay is guaranteed.
#[test]
fn agent_follows_ptp4l_by_peer_delay() {
    let Some(guest) = Guest::open("agent_follows_ptp4l_by_peer_delay") else { return };
    let console = guest.run("agent-slave", &format!("{TIMES} {P2P_UDP4}"));
    expect_follows(&console, "asserted");
    expect_within(&console, "guaranteed_reads", 0, 0);
}

/// A card that we keep on time is as close as its steps of 119 ppb let it be; what we publish does not notice.
#[test]
fn agent_steers_its_card() {
    let Some(guest) = Guest::open("agent_steers_its_card") else { return };
    let console = guest.run("agent-slave", &format!("{TIMES} {E2E_ETHERNET} phc=steer"));
    expect_unbroken(&console, "guaranteed");
    expect_within(&console, "error_p99_ns", 0, HARDWARE_NS);
    expect_within(&console, "b_p99_ns", 0, STEERED_NS);
}

/// CLOCK_REALTIME of a real kernel, an hour off and 20 ppm slow: stepped once, then slewed. What the kernel tells of it is
/// true at every look, and what we publish does not notice.
#[test]
fn agent_steers_the_system_clock() {
    let Some(guest) = Guest::open("agent_steers_the_system_clock") else { return };
    let console = guest.run("agent-slave", &format!("{TIMES} {E2E_ETHERNET} discipline=system"));
    expect_unbroken(&console, "guaranteed");
    expect_within(&console, "error_p99_ns", 0, HARDWARE_NS);
    expect_within(&console, "realtime_p99_ns", 0, SYSTEM_NS);
    let reads = console.figure("kernel_reads");
    console.expect(reads >= MANY_READS, &format!("the kernel said {reads} times only that the clock is synchronised"));
    expect_within(&console, "kernel_violations", 0, 0);
}

#[test]
fn doctor_knows_the_card() {
    let Some(guest) = Guest::open("doctor_knows_the_card") else { return };
    let console = guest.run("doctor", &format!("seconds=2 settle=1 {E2E_UDP4}"));
    let [alone, beside] = ["alone", "beside"].map(|when| diagnosis(&console, when));
    let card = &alone["interfaces"][0];
    console.expect(alone["verdict"] == "ready", "the doctor finds the host ready");
    console.expect(card["stamps"] == "hardware" && card["driver"] == "igb", "the doctor knows the card");
    console.expect(card["phc"].is_u64() && card["cross"] == "extended", "the doctor knows its clock");
    let names_rival = |finding: &Value| finding["says"].as_str().is_some_and(|says| says.contains("ptp4l"));
    let rivals: Vec<&Value> = beside["findings"].as_array().into_iter().flatten().filter(|f| names_rival(f)).collect();
    console.expect(beside["verdict"] == "degraded", "the doctor finds the rival in the way");
    console.expect(rivals.iter().any(|finding| finding["fix"].is_string()), "the doctor says what to do about ptp4l");
}

/// The doctor's answer in JSON.
fn diagnosis(console: &Console, when: &str) -> Value {
    let line = console.text().lines().find_map(|line| line.trim().strip_prefix(&format!("{when}: "))?.into());
    let answer = line.and_then(|line: &str| serde_json::from_str(line).ok());
    console.expect(answer.is_some(), &format!("no diagnosis {when}"));
    answer.unwrap_or_default()
}

/// The estimate is deceived like anybody's; the guaranteed bound is not.
#[test]
fn agent_contains_the_truth_of_an_asymmetric_link() {
    let Some(guest) = Guest::open("agent_contains_the_truth_of_an_asymmetric_link") else { return };
    let console = guest.run_with_four_cards("agent-slave", &format!("{ASYMMETRIC} {E2E_ETHERNET}"));
    expect_unbroken(&console, "guaranteed");
    expect_within(&console, "error_median_ns", -HALF_ASYMMETRY_NS, FORWARDING_NS);
}

#[test]
fn agent_guarantees_nothing_by_a_boundary_clock() {
    let Some(guest) = Guest::open("agent_guarantees_nothing_by_a_boundary_clock") else { return };
    let console = guest.run_with_four_cards("boundary-clock", &format!("{TIMES} hidden_ns={HIDDEN_NS} follower=agent"));
    expect_within(&console, "d_p99_ns", 0, HARDWARE_NS);
    expect_within(&console, "guaranteed_reads", 0, 0);
}

/// That the judge can see a violation at all: a sole source is believed.
#[test]
fn agent_believes_a_grandmaster_that_lies() {
    let Some(guest) = Guest::open("agent_believes_a_grandmaster_that_lies") else { return };
    let console = guest.run("agent-slave", &format!("{TIMES} {E2E_ETHERNET} lie_ns=5000"));
    expect_within(&console, "error_median_ns", 5000, HARDWARE_NS);
    let [reads, violations] = ["reads", "violations"].map(|kind| console.figure(&format!("guaranteed_{kind}")));
    console.expect(violations * 10 > reads * 9, &format!("the judge saw {violations} violations in {reads} reads"));
}

// As close as ptp4l follows ptp4l by the same way: see above.

#[test]
fn agent_leads_ptp4l_over_ethernet() {
    let Some(guest) = Guest::open("agent_leads_ptp4l_over_ethernet") else { return };
    expect_leads(&guest.run("agent-master", &format!("{TIMES} {E2E_ETHERNET}")));
}

#[test]
fn agent_leads_ptp4l_over_udp4() {
    let Some(guest) = Guest::open("agent_leads_ptp4l_over_udp4") else { return };
    expect_leads(&guest.run("agent-master", &format!("{TIMES} {E2E_UDP4}")));
}

#[test]
fn agent_leads_ptp4l_by_peer_delay() {
    let Some(guest) = Guest::open("agent_leads_ptp4l_by_peer_delay") else { return };
    expect_leads(&guest.run("agent-master", &format!("{TIMES} {P2P_UDP4}")));
}

#[test]
fn agent_runs_the_same_twice() {
    let Some(guest) = Guest::open("agent_runs_the_same_twice") else { return };
    expect_equal([(); 2].map(|()| guest.run("agent-slave", "seconds=15 settle=8")));
}

/// The estimate is close, the region unbroken, and every packet had its stamps.
fn expect_follows(console: &Console, region: &str) {
    expect_unbroken(console, region);
    expect_within(console, "error_p99_ns", 0, HARDWARE_NS);
    for kind in ["missing_tx_stamps", "missing_rx_stamps"] {
        console.expect(console.has_line(&format!("\"{kind}\":0")), &format!("the agent counts {kind}"));
    }
}

/// The leader's own bound holds, and who follows it is close.
fn expect_leads(console: &Console) {
    expect_unbroken(console, "guaranteed");
    expect_within(console, "b_p99_ns", 0, HARDWARE_NS);
}

/// One of the page's regions was there, and contained the truth whenever it was.
fn expect_unbroken(console: &Console, region: &str) {
    let reads = console.figure(&format!("{region}_reads"));
    console.expect(reads >= MANY_READS, &format!("only {reads} reads had a {region} region"));
    expect_within(console, &format!("{region}_violations"), 0, 0);
}

fn expect_within(console: &Console, figure: &str, wanted: i64, tolerance: i64) {
    let found = console.figure(figure);
    console.expect((found - wanted).abs() <= tolerance, &format!("{figure} is {found}, wanted {wanted} ± {tolerance}"));
}

fn expect_equal([first, second]: [Console; 2]) {
    let mut lines = first.text().lines().zip(second.text().lines());
    let differing = lines.find(|(one, other)| one != other);
    first.expect(first.text() == second.text(), &format!("ran differently again, first here: {differing:?}"));
}
