//! A new run on a page of an old one: what may go on, and what ends.

use truebound_client::host::VmMark;
use truebound_client::page::Publication;
use truebound_client::{Bound, Reason, Status};
use truebound_core::Agent;
use truebound_core::io::{HostState, Input, Output};
use truebound_core::leap::LeapTable;
use truebound_core::settings::{Settings, SourceKind, SourceSettings};
use truebound_core::time::{RawTime, TaiTime};

const S: i64 = 1_000_000_000;

/// This host, as its hypervisor marked it.
fn host(disruption_marker: u64) -> HostState {
    let vm_mark = VmMark { disruption_marker, generation: 0 };
    HostState { clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0", vm_mark, ..HostState::default() }
}

fn agent(now_ns: i64) -> Agent {
    let server = SourceKind::Server { host: "10.0.0.1".to_owned(), port: 123 };
    let settings = Settings { sources: vec![SourceSettings::new("a".to_owned(), server)], ..Settings::default() };
    Agent::new(RawTime::from_ns(now_ns), settings, [1; 32])
}

/// What it publishes on this input.
fn said(agent: &mut Agent, now_ns: i64, input: Input<'_>) -> Vec<Publication> {
    agent.handle(RawTime::from_ns(now_ns), input);
    let mut pages = Vec::new();
    loop {
        match agent.poll() {
            Output::Publish(page) => pages.push(*page),
            Output::WakeAt(_) => return pages,
            _ => {}
        }
    }
}

/// The agent was killed, the VM stood for an hour and was moved, and raw time stood with it. The page cannot be continued;
/// nor can a tick of the run before be compared with one of this run.
#[test]
fn a_vm_that_moved_while_no_agent_ran_breaks_ticks() {
    let before = said(&mut agent(100 * S), 100 * S, Input::Host(host(1))).pop().expect("a page");
    let asked = before.tick_at(100 * S, 0).expect("a tick");
    let mut next = agent(100 * S + 1);
    said(&mut next, 100 * S + 1, Input::Restored { bound: None, epoch: before.epoch });
    let after = said(&mut next, 100 * S + 2, Input::Host(host(2))).pop().expect("a page");
    assert!(after.epoch > before.epoch);
    assert_eq!(after.tick_at(101 * S, 0).expect("a tick").since(&asked).most_ns, None);
}

/// Between its start and the first word of its host an agent may stall for longer than a publication takes.
#[test]
fn a_restored_bound_is_published_for_this_host_or_not_at_all() {
    let bound = Bound { t_ref_ns: 4 * S, void_after_ns: 900 * S, theta_hi_ns: 1_000, ..Bound::default() };
    let mut agent = agent(5 * S);
    let mut pages = said(&mut agent, 7 * S, Input::Restored { bound: Some(bound), epoch: 7 });
    pages.extend(said(&mut agent, 7 * S + 1, Input::Host(host(1))));
    assert!(pages.iter().any(|page| page.status.has_bound()), "it goes on");
    assert!(pages.iter().all(|page| !page.status.has_bound() || page.clocksource == host(1).clocksource));
}

/// Seconds were inserted at the ends of June and December 2027, and nobody brought a newer list.
#[test]
fn utc_holds_after_two_leap_seconds_that_no_table_told() {
    let (unix_ns, offset_ns) = (1_843_430_400 * S, 39 * S); // 2028-06-01
    let tai_ns = unix_ns + offset_ns;
    let any = said(&mut agent(1), 1, Input::Host(host(1))).pop().expect("a page");
    let bound = Bound { void_after_ns: i64::MAX, theta_lo_ns: tai_ns, theta_hi_ns: tai_ns, ..Bound::default() };
    let utc = LeapTable::default().around(TaiTime::from_ns(tai_ns));
    let page = Publication { status: Status::Locked, reason: Reason::Majority, bound, utc, ..any };
    let now = page.interval_at(0).expect("a bound");
    assert!(now.contains(unix_ns), "{now:?}");
    assert!(now.tai.width_ns() <= 1);
}
