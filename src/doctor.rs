//! `truebound doctor`: what this host can do, what would be used, what is missing, and what to do about it.
//!
//! Every check looks at one thing and makes findings of what it saw. Looking and judging are apart: the judgement is a
//! function of plain facts. Nothing is changed, no packet leaves the host, and what may not be looked at is said.
//!
//! *Ready*: all that this host can do would be used. *Degraded*: something that it could do is hindered; there is a
//! bound without it. *Unable*: there is no bound until a problem is solved.

mod agent;
mod interface;
mod kernel;
mod oscillator;
mod phc;
mod privilege;
mod process;
mod rivals;
mod view;

use std::io::IsTerminal;

use serde::Serialize;
use truebound_core::io::PhcId;

use crate::cli::DoctorArgs;
use crate::commands::Failure;
use crate::log;

use interface::InterfaceReport;

/// How a check came out, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing that this host could do is hindered by it.
    Note,
    /// Hinders something; the rest works.
    Missing,
    /// There is no bound before this is solved.
    Problem,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The check.
    pub(crate) check: &'static str,
    /// The interface it is about; `None`: the host.
    pub(crate) interface: Option<String>,
    /// How it came out.
    pub(crate) verdict: Outcome,
    /// What there is.
    pub(crate) says: String,
    /// What to do about it.
    pub(crate) fix: Option<String>,
}

impl Finding {
    pub(crate) fn new(check: &'static str, verdict: Outcome, says: impl Into<String>) -> Self {
        Finding { check, interface: None, verdict, says: says.into(), fix: None }
    }

    /// It is as it should be.
    pub(crate) fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Finding::new(check, Outcome::Ok, says)
    }

    /// It is worth knowing.
    pub(crate) fn note(check: &'static str, says: impl Into<String>) -> Self {
        Finding::new(check, Outcome::Note, says)
    }

    /// It is missing, and `fix` provides it.
    pub(crate) fn missing(check: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding::new(check, Outcome::Missing, says).fix(fix)
    }

    /// It must be solved.
    pub(crate) fn problem(check: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding::new(check, Outcome::Problem, says).fix(fix)
    }

    /// What to do about it.
    pub(crate) fn fix(self, fix: impl Into<String>) -> Self {
        Finding { fix: Some(fix.into()), ..self }
    }

    /// It is about this interface.
    pub(crate) fn of(self, interface: &str) -> Self {
        Finding { interface: Some(interface.to_owned()), ..self }
    }
}

/// The host as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ready,
    Degraded,
    Unable,
}

impl Verdict {
    fn of(findings: &[Finding]) -> Verdict {
        match findings.iter().map(|finding| finding.verdict).max() {
            Some(Outcome::Problem) => Verdict::Unable,
            Some(Outcome::Missing) => Verdict::Degraded,
            _ => Verdict::Ready,
        }
    }
}

/// Everything that `doctor` says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Diagnosis {
    verdict: Verdict,
    interfaces: Vec<InterfaceReport>,
    findings: Vec<Finding>,
}

/// True unless this host is unable.
pub(crate) fn run(args: &DoctorArgs) -> Result<bool, Failure> {
    let diagnosis = diagnose(args);
    if args.running.json {
        log::print(serde_json::to_string(&diagnosis).map_err(|error| error.to_string())?);
    } else {
        log::print(view::text(&diagnosis, std::io::stdout().is_terminal()).trim_end());
    }
    Ok(diagnosis.verdict != Verdict::Unable)
}

fn diagnose(args: &DoctorArgs) -> Diagnosis {
    let capabilities = privilege::Capabilities::of_this_process();
    let (nics, mut findings) = interface::look(args.interface.as_deref());
    let mut interfaces = Vec::new();
    for nic in &nics {
        let (report, of_nic) = interface::judge(nic, capabilities);
        interfaces.push(report);
        findings.extend(of_nic);
    }
    if args.interface.is_none() {
        let seen: Vec<PhcId> = nics.iter().filter_map(|nic| nic.caps.phc).collect();
        findings.extend(phc::others(&seen));
    }
    let wants_hardware = nics.iter().any(|nic| nic.caps.hardware());
    findings.extend(privilege::judge(capabilities, privilege::first_free_port(), wants_hardware));
    findings.extend(kernel::check());
    findings.extend(oscillator::check());
    let daemons = process::daemons();
    findings.extend(rivals::judge_daemons(&daemons, wants_hardware));
    findings.extend(rivals::judge_ports(&rivals::bound_ports()));
    findings.extend(agent::check(&args.running.runtime_dir, &nics));
    Diagnosis { verdict: Verdict::of(&findings), interfaces, findings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let ok = || Finding::ok("a", "");
        let note = || Finding::note("b", "");
        let missing = || Finding::missing("c", "", "");
        let problem = || Finding::problem("d", "", "");
        assert_eq!(Verdict::of(&[]), Verdict::Ready);
        assert_eq!(Verdict::of(&[ok(), note()]), Verdict::Ready);
        assert_eq!(Verdict::of(&[missing(), ok()]), Verdict::Degraded);
        assert_eq!(Verdict::of(&[problem(), missing(), note()]), Verdict::Unable);
    }
}
