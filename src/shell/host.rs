//! What the agent stands on: the hypervisor's page, and what a page of the run before is worth on this host.

use std::path::{Path, PathBuf};

use truebound_client::host::VmPage;
use truebound_client::page::Publication;
use truebound_core::io::HostState;
use truebound_core::settings::Settings;
use truebound_core::units;
use truebound_hw::clock::SUSPEND_RESOLUTION_NS;

use super::StartError;
use crate::config::{VM_CLOCK, VmClockChoice};

/// The page that the operator wants to be watched, and its path.
pub(super) fn open_vm(choice: &VmClockChoice) -> Result<(Option<VmPage>, Option<PathBuf>), StartError> {
    let opened = match choice {
        VmClockChoice::Off => None,
        VmClockChoice::Auto => VmPage::open(Path::new(VM_CLOCK)).ok().map(|page| (page, PathBuf::from(VM_CLOCK))),
        VmClockChoice::At(path) => {
            let page = VmPage::open(path).map_err(|error| StartError::VmClock(path.clone(), error))?;
            Some((page, path.clone()))
        }
    };
    Ok(opened.unzip())
}

/// Does the page of the previous run still hold a bound under the assumptions and settings of this one?
pub(super) fn restorable(last: &Publication, host: &HostState, settings: &Settings) -> bool {
    let oscillator = &settings.oscillator;
    let slept_ns = host.suspended_ns.saturating_sub(last.suspended_ns);
    last.status.has_bound()
        && last.clocksource == host.clocksource
        && last.vm_mark == host.vm_mark
        && slept_ns.saturating_abs() < SUSPEND_RESOLUTION_NS
        && last.assumptions == settings.digest()
        && last.bound.half_wander >= units::half_wander(oscillator.wander_per_s)
        && last.spread >= oscillator.freq_spread.to_rate_up()
        && last.omega_limit >= oscillator.freq_limit.to_rate_up()
}
