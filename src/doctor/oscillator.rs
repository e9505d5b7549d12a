//! What raw time is made of: the clocksource, and what a hypervisor tells of it.

use std::path::Path;
use std::{fs, io};

use truebound_hw::vmclock::{VmClock, VmClockPage, VmClockStatus};

use super::Finding;
use crate::recorder::show_ns;

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0";

/// What the kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// The clocksource; empty if it cannot be read.
    current: String,
    /// Those that could be chosen.
    available: String,
    /// Flags of the first processor; empty where there are none of that kind.
    flags: String,
}

/// Looks and judges.
pub(crate) fn check() -> Vec<Finding> {
    let read = |name: &str| fs::read_to_string(format!("{CLOCKSOURCE}/{name}")).unwrap_or_default().trim().to_owned();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let facts = Facts {
        current: read("current_clocksource"),
        available: read("available_clocksource"),
        flags: flags(&processors).to_owned(),
    };
    let mut findings = vec![judge(&facts)];
    findings.extend(vmclock());
    findings
}

fn flags(processors: &str) -> &str {
    let line = processors.lines().find(|line| line.starts_with("flags"));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, flags)| flags.trim())
}

fn judge(facts: &Facts) -> Finding {
    const CHECK: &str = "clocksource";
    const STATE: &str = "state oscillator = \"...\" in [clock]: without your word there is no bound then";
    let has = |flag: &str| facts.flags.split_whitespace().any(|word| word == flag);
    match facts.current.as_str() {
        // The core takes it for a known one.
        "" => Finding::note(CHECK, "the kernel does not tell its clocksource")
            .fix("state oscillator = \"...\" in [clock]"),
        "arch_sys_counter" => Finding::ok(CHECK, "arch_sys_counter"),
        "tsc" if has("constant_tsc") && has("nonstop_tsc") => Finding::ok(CHECK, "tsc, constant and never stopping"),
        "tsc" => {
            let says = "tsc; the processor does not promise that it is constant and never stops";
            Finding::note(CHECK, says).fix("state oscillator = \"vm\" in [clock] if this is a virtual machine")
        }
        other if facts.available.split_whitespace().any(|word| word == "tsc") => {
            let says = format!("{other}, and nothing is known of its oscillator; tsc is available");
            Finding::missing(CHECK, says, format!("choose tsc (kernel parameter clocksource=tsc), or {STATE}"))
        }
        other => Finding::missing(CHECK, format!("{other}, and nothing is known of its oscillator"), STATE),
    }
}

/// What a hypervisor offers, if it does.
fn vmclock() -> Option<Finding> {
    const DEVICE: &str = "vmclock0";
    if !Path::new("/dev").join(DEVICE).exists() {
        return None;
    }
    Some(judge_vmclock(VmClock::open(DEVICE).and_then(|clock| clock.read())))
}

fn judge_vmclock(page: io::Result<VmClockPage>) -> Finding {
    const CHECK: &str = "vmclock";
    match page {
        Err(error) => {
            let fix =
                "let the agent read it: by a udev rule that gives it a group, and with PrivateDevices=no in its unit";
            Finding::note(CHECK, format!("/dev/vmclock0 cannot be read: {error}")).fix(fix)
        }
        Ok(page) => {
            let status = match page.status {
                VmClockStatus::Synchronized => "synchronised",
                VmClockStatus::FreeRunning => "running free",
                VmClockStatus::Initializing => "not yet set",
                VmClockStatus::Unreliable => "not to be used",
                VmClockStatus::Unknown => "of unknown state",
            };
            match page.max_error_ns {
                Some(error) => Finding::ok(CHECK, format!("the hypervisor's clock is {status}, to {}", show_ns(error))),
                None => Finding::note(CHECK, format!("the hypervisor's clock is {status}; it states no error"))
                    .fix("state error = \"...\" where a [[source]] has its PHC"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    fn facts(current: &str, available: &str, flags: &str) -> Facts {
        Facts { current: current.into(), available: available.into(), flags: flags.into() }
    }

    #[test]
    fn a_clocksource_is_known_or_needs_a_word() {
        for (facts, outcome) in [
            (facts("tsc", "tsc hpet", "fpu constant_tsc nonstop_tsc"), Outcome::Ok),
            (facts("tsc", "tsc", "fpu constant_tsc"), Outcome::Note),
            (facts("tsc", "tsc", "nonstop_tsc_x constant_tsc"), Outcome::Note),
            (facts("arch_sys_counter", "arch_sys_counter", ""), Outcome::Ok),
            (facts("kvm-clock", "kvm-clock acpi_pm", "constant_tsc"), Outcome::Missing),
            (facts("hpet", "tsc hpet", ""), Outcome::Missing),
            (facts("", "", ""), Outcome::Note),
        ] {
            let finding = judge(&facts);
            assert_eq!(finding.verdict, outcome, "{facts:?} {finding:?}");
            assert_eq!(finding.fix.is_some(), outcome != Outcome::Ok, "{finding:?}");
        }
        assert!(judge(&facts("hpet", "tsc hpet", "")).fix.is_some_and(|fix| fix.contains("clocksource=tsc")));
    }

    #[test]
    fn the_flags_of_the_first_processor_are_read() {
        assert_eq!(flags("processor\t: 0\nflags\t\t: a b\n\nprocessor\t: 1\nflags\t\t: c\n"), "a b");
        assert_eq!(flags("Features\t: fp\n"), "");
    }
}
