//! The agent that runs here, if one does: what keeps its PTP ports from a better vote.

use std::path::Path;

use serde_json::{Value, json};

use super::Finding;
use super::interface::Nic;
use crate::commands::ask;
use crate::config::VM_CLOCK;

const CHECK: &str = "agent";
const PTP: &str = "ptp-port";
const VMCLOCK: &str = "vmclock";

/// Asks the agent of `runtime_dir`.
pub(crate) fn check(runtime_dir: &Path, nics: &[Nic]) -> Vec<Finding> {
    if !runtime_dir.join("control").exists() {
        let says = format!("no agent runs with {} as its directory", runtime_dir.display());
        return vec![
            Finding::note(CHECK, says).fix("start one: truebound run --config FILE; or name its --runtime-dir"),
        ];
    }
    match ask(runtime_dir, &json!({ "command": "status" })) {
        Err(error) => vec![Finding::note(CHECK, error).fix("run this as the user of the agent")],
        Ok(status) => {
            let mut findings =
                judge(&status, |interface| nics.iter().any(|nic| nic.name == interface && nic.caps.hardware()));
            findings.extend(judge_vmclock(&status, Path::new(VM_CLOCK).exists()));
            findings
        }
    }
}

/// What its status tells. `can_stamp`: has an interface hardware stamps?
fn judge(status: &Value, can_stamp: impl Fn(&str) -> bool) -> Vec<Finding> {
    let word = |key: &str| status[key].as_str().unwrap_or("unknown").to_owned();
    let says = format!("{} ({})", word("status"), word("meaning"));
    let mut findings = vec![if status["half_width_ns"].is_i64() {
        Finding::ok(CHECK, says)
    } else {
        Finding::missing(CHECK, says, "see `truebound sources` for who answers")
    }];
    for port in status["ptp"].as_array().into_iter().flatten() {
        let interface = port["interface"].as_str().unwrap_or_default();
        findings.push(judge_vote(port).of(interface));
        if port["stamps"] != "hardware" && can_stamp(interface) {
            let says =
                format!("{}: {} stamps, though the NIC can", name(port), port["stamps"].as_str().unwrap_or("no"));
            let fix = "use stamps = \"hardware\" in its [[ptp]], and see the check `stamps`";
            findings.push(Finding::missing(PTP, says, fix).of(interface));
        }
    }
    findings
}

/// Which page of a hypervisor tells when this VM is moved.
fn judge_vmclock(status: &Value, has_device: bool) -> Option<Finding> {
    let foretells = status["vm_disruption"].as_str().unwrap_or("nothing");
    match status["vmclock"].as_str() {
        Some(page) if foretells == "nothing" => Some(Finding::ok(VMCLOCK, format!("{page} is watched"))),
        Some(page) => {
            let fix = "drain leases from this VM and grant it none: its time will be withdrawn";
            Some(Finding::note(VMCLOCK, format!("{page} foretells a disruption: {foretells}")).fix(fix))
        }
        None if has_device => {
            let fix = "let the agent read it and do not switch `vmclock` off in [clock]: only it tells of migrations";
            Some(Finding::missing(VMCLOCK, format!("{VM_CLOCK} is there, but the agent does not watch it"), fix))
        }
        None => None,
    }
}

fn name(port: &Value) -> &str {
    port["name"].as_str().unwrap_or("?")
}

/// What the master's word counts for on this port, and what keeps it from more.
fn judge_vote(port: &Value) -> Finding {
    let (name, state) = (name(port), port["state"].as_str().unwrap_or("unknown"));
    match state {
        "master" => return Finding::ok(PTP, format!("{name}: master")),
        "passive" => return Finding::ok(PTP, format!("{name}: passive, a better master is on its link")),
        "slave" => {}
        "initializing" | "faulty" => {
            let fix = "see the checks `link` and `stamps`, and the agent's log";
            return Finding::missing(PTP, format!("{name}: {state}"), fix);
        }
        _ => {
            let fix = "compare its domain, transport and VLAN with the master's";
            return Finding::missing(PTP, format!("{name}: {state}, no master is heard"), fix);
        }
    }
    let hops = port["steps_removed"].as_u64().unwrap_or(0);
    let why = port["why"].as_str().unwrap_or("nothing is known of it yet");
    match port["vote"].as_str().unwrap_or("none") {
        "guaranteed" => Finding::ok(PTP, format!("{name}: the bound rests on its grandmaster")),
        vote if hops > 0 => {
            let says = format!("{name}: {hops} boundary clock(s) upstream, so its vote is {vote}: {why}");
            let fix = "follow the grandmaster itself; or state hop-error in its [[ptp]] and read what is asserted";
            Finding::missing(PTP, says, fix)
        }
        vote => {
            let fix = "mend that at the master or in its [[ptp]]; until then the bound rests on other sources";
            Finding::missing(PTP, format!("{name}: vote {vote}: {why}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    fn port(state: &str, steps_removed: u64, vote: &str) -> Value {
        json!({
            "name": "gm", "interface": "eth0", "state": state, "steps_removed": steps_removed, "stamps": "kernel",
            "vote": vote, "why": if vote == "guaranteed" { Value::Null } else { "because".into() },
        })
    }

    fn of_port(port: &Value, can_stamp: bool) -> Vec<Outcome> {
        let status = json!({ "status": "locked", "meaning": "m", "half_width_ns": 5, "ptp": [port] });
        judge(&status, |_| can_stamp).iter().skip(1).map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_boundary_clock_upstream_cannot_vote_and_that_is_said_with_the_fix() {
        let finding = judge_vote(&port("slave", 1, "asserted"));
        assert_eq!(finding.verdict, Outcome::Missing);
        assert!(finding.says.contains("1 boundary clock(s)"), "{finding:?}");
        let fix = finding.fix.expect("a fix");
        assert!(fix.contains("hop-error") && fix.contains("grandmaster itself"), "{fix}");
    }

    #[test]
    fn ports_are_judged_by_state_and_vote() {
        use Outcome::{Missing, Ok};
        assert_eq!(of_port(&port("slave", 0, "guaranteed"), false), [Ok]);
        assert_eq!(of_port(&port("slave", 0, "guaranteed"), true), [Ok, Missing], "the NIC could stamp");
        assert_eq!(of_port(&port("slave", 0, "asserted"), false), [Missing]);
        assert_eq!(of_port(&port("master", 0, "none"), false), [Ok]);
        assert_eq!(of_port(&port("passive", 0, "none"), false), [Ok]);
        assert_eq!(of_port(&port("listening", 0, "none"), false), [Missing]);
        assert_eq!(of_port(&port("faulty", 0, "none"), false), [Missing]);
    }

    #[test]
    fn a_watched_vmclock_is_named_and_what_it_foretells_is_said() {
        use Outcome::{Missing, Note, Ok};
        let page = "/dev/vmclock0";
        let verdict = |vmclock: Value, foretells: &str, has_device| {
            let status = json!({ "vmclock": vmclock, "vm_disruption": foretells });
            judge_vmclock(&status, has_device).map(|finding| finding.verdict)
        };
        assert_eq!(verdict(page.into(), "nothing", true), Some(Ok));
        assert_eq!(verdict(page.into(), "imminent", true), Some(Note));
        assert_eq!(verdict(Value::Null, "nothing", true), Some(Missing), "there, and not watched");
        assert_eq!(verdict(Value::Null, "nothing", false), None, "no such hypervisor");
    }

    #[test]
    fn an_agent_without_a_bound_is_told() {
        let verdict = |status: Value| judge(&status, |_| false)[0].verdict;
        assert_eq!(verdict(json!({ "status": "locked", "half_width_ns": 5 })), Outcome::Ok);
        assert_eq!(verdict(json!({ "status": "free-running", "half_width_ns": null })), Outcome::Missing);
        assert_eq!(verdict(json!({})), Outcome::Missing);
    }
}
