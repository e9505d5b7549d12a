//! PTP hardware clocks: may they be read and steered, how they compare with raw time, and what their driver states.

use std::fs::File;

use truebound_core::io::PhcId;
use truebound_hw::clock::HostClock;
use truebound_hw::phc::{self, Method, Phc};

use super::Finding;
use crate::recorder::show_ns;

const CHECK: &str = "phc";

/// What was seen of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) id: PhcId,
    /// As its driver calls it.
    pub(crate) name: Option<String>,
    /// Why it cannot be read.
    pub(crate) unreadable: Option<String>,
    pub(crate) is_writable: bool,
    /// How it is read against raw time.
    pub(crate) method: Option<Method>,
    /// What its driver states of its error, ns.
    pub(crate) stated_error_ns: Option<i64>,
}

/// Opens it, and reads it once: the first reading shows which way works.
pub(crate) fn look_at(id: PhcId) -> Clock {
    let is_writable = File::options().write(true).open(device(id)).is_ok();
    let mut clock =
        Clock { id, name: phc::clock_name(id), unreadable: None, is_writable, method: None, stated_error_ns: None };
    let read = |phc: Phc| HostClock::new(None, false).cross_phc(&phc).map(|reading| (phc, reading));
    match Phc::open(id).and_then(read) {
        Ok((phc, reading)) => (clock.method, clock.stated_error_ns) = (Some(phc.method()), reading.stated_error_ns),
        Err(error) => clock.unreadable = Some(error.to_string()),
    }
    clock
}

/// Findings about the clocks that are of none of the interfaces seen.
pub(crate) fn others(seen: &[PhcId]) -> Vec<Finding> {
    let others = phc::list().into_iter().filter(|id| !seen.contains(id));
    others.map(|id| judge_source(&look_at(id))).collect()
}

/// The clock of a NIC.
pub(crate) fn judge(clock: &Clock) -> Finding {
    if let Some(finding) = unreadable(clock) {
        return finding;
    }
    let says = words(clock);
    if clock.is_writable {
        return Finding::ok(CHECK, format!("{says}; phc = \"steer\" is possible"));
    }
    let fix = format!("let the agent write to {} where phc = \"steer\"", device(clock.id));
    Finding::note(CHECK, format!("{says}; it may not be steered")).fix(fix)
}

/// One that somebody else may keep right.
fn judge_source(clock: &Clock) -> Finding {
    if let Some(finding) = unreadable(clock) {
        return finding;
    }
    let (says, path) = (words(clock), device(clock.id));
    match clock.stated_error_ns {
        Some(error) => Finding::ok(CHECK, format!("{says}; it states an error of {}", show_ns(error.unsigned_abs())))
            .fix(format!("use it by [[source]] phc = \"{path}\", timescale = \"{}\"", timescale_of(clock))),
        None => Finding::note(CHECK, format!("{says}; its driver states no error")).fix(format!(
            "use it by [[source]] phc = \"{path}\", timescale = \"{}\" if you can state its error = \"...\"",
            timescale_of(clock)
        )),
    }
}

/// What it shows, as far as its name tells: hypervisors show UTC, NICs what a PTP daemon gives them.
fn timescale_of(clock: &Clock) -> &'static str {
    let name = clock.name.as_deref().unwrap_or_default().to_lowercase();
    let is_hosts = ["kvm", "vmclock", "ena", "hyperv"].iter().any(|host| name.contains(host));
    if is_hosts { "utc" } else { "tai" }
}

fn unreadable(clock: &Clock) -> Option<Finding> {
    let why = clock.unreadable.as_ref()?;
    let fix = "let the agent read it: by a udev rule that gives it a group, and with PrivateDevices=no in its unit";
    Some(Finding::note(CHECK, format!("{}{} cannot be read: {why}", device(clock.id), in_brackets(clock))).fix(fix))
}

fn words(clock: &Clock) -> String {
    let how = match clock.method {
        Some(Method::Precise) => "by PTP_SYS_OFFSET_PRECISE",
        Some(Method::Extended) => "by PTP_SYS_OFFSET_EXTENDED",
        Some(Method::Sandwich) => "between two readings of raw time",
        None => "somehow",
    };
    format!("{}{}, read {how}", device(clock.id), in_brackets(clock))
}

fn in_brackets(clock: &Clock) -> String {
    clock.name.as_ref().map_or(String::new(), |name| format!(" ({name})"))
}

/// Its path.
pub(crate) fn device(id: PhcId) -> String {
    format!("/dev/ptp{}", id.0)
}

/// The word for `--json`.
pub(crate) fn method_word(method: Method) -> &'static str {
    match method {
        Method::Precise => "precise",
        Method::Extended => "extended",
        Method::Sandwich => "sandwich",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn a_clock_of_no_interface_is_a_source_if_its_error_is_stated() {
        let clock = Clock {
            id: PhcId(3),
            name: Some("KVM virtual PTP".into()),
            unreadable: None,
            is_writable: false,
            method: Some(Method::Precise),
            stated_error_ns: None,
        };
        let unstated = judge_source(&clock);
        assert_eq!(unstated.verdict, Outcome::Note);
        assert!(unstated.fix.is_some_and(|fix| fix.contains("phc = \"/dev/ptp3\"") && fix.contains("error =")));
        let stated = judge_source(&Clock { stated_error_ns: Some(900), ..clock.clone() });
        assert_eq!(stated.verdict, Outcome::Ok);
        assert!(stated.says.contains("KVM virtual PTP") && stated.says.contains("900 ns"), "{stated:?}");
        let barred = judge_source(&Clock { unreadable: Some("Permission denied".into()), ..clock });
        assert_eq!(barred.verdict, Outcome::Note);
        assert!(barred.fix.is_some_and(|fix| fix.contains("udev")));
    }

    #[test]
    fn an_absent_clock_cannot_be_read() {
        let clock = look_at(PhcId(1_048_575));
        assert!(clock.unreadable.is_some() && !clock.is_writable && clock.method.is_none());
    }
}
