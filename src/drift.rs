//! The drift file: the oscillator's frequency as the last run knew it, for the first minutes of the next one.
//!
//! It moves the clock's rate until the estimate is better, and no edge of the bound: a file proves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use truebound_core::io::{Drift, HostState};
use truebound_core::settings::Settings;
use truebound_core::time::{NS_PER_S, RawTime};
use truebound_core::units::FreqError;

/// Saved so often, and the first time after [`FIRST_NS`], ns.
const EVERY_NS: i64 = 3600 * NS_PER_S;
const FIRST_NS: i64 = 600 * NS_PER_S;
/// The counter's own frequency is measured anew at each boot, and is off by another amount then.
const OTHER_BOOT: FreqError = FreqError::from_ppm(2.0);
/// Within a boot a crystal at rest does not wander further, whatever its class allows.
const AT_REST: FreqError = FreqError::from_ppm(1.0);

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Saved {
    /// Local − true, ppb.
    freq_error_ppb: f64,
    sigma_ppb: f64,
    saved_unix_s: i64,
    boot_id: String,
    clocksource: String,
}

/// See the module's page.
pub(crate) struct DriftFile {
    path: PathBuf,
    due: Option<RawTime>,
}

impl DriftFile {
    pub(crate) fn new(path: &Path) -> Self {
        DriftFile { path: path.to_owned(), due: None }
    }

    /// Is it time to save it?
    pub(crate) fn is_due(&mut self, now: RawTime) -> bool {
        now >= *self.due.get_or_insert(now.plus_ns(FIRST_NS))
    }

    /// What it says of this host; `None` if it says nothing that can be believed.
    pub(crate) fn load(&self, host: &HostState, settings: &Settings) -> Option<Drift> {
        let saved: Saved = toml::from_str(&fs::read_to_string(&self.path).ok()?).ok()?;
        let omega = FreqError::from_fraction(-saved.freq_error_ppb * 1e-9);
        let limit = settings.oscillator.freq_limit.as_fraction();
        let is_sane = omega.as_fraction().abs() <= limit && saved.sigma_ppb >= 0.0;
        if !is_sane || saved.clocksource != name_of(host) {
            return None;
        }
        let age_s = unix_s().saturating_sub(saved.saved_unix_s).max(0);
        let wandered = truebound_core::units::to_f64(age_s) * settings.oscillator.wander_per_s;
        let other = if boot_id() == Some(saved.boot_id) { 0.0 } else { OTHER_BOOT.as_fraction() };
        let sigma = saved.sigma_ppb * 1e-9 + wandered.min(AT_REST.as_fraction()) + other;
        Some(Drift { omega, sigma: FreqError::from_fraction(sigma) })
    }

    /// Replaces the file as a whole.
    pub(crate) fn save(&mut self, now: RawTime, drift: Drift, host: &HostState) -> Result<(), String> {
        self.due = Some(now.plus_ns(EVERY_NS));
        let saved = Saved {
            freq_error_ppb: -drift.omega.as_ppm() * 1e3,
            sigma_ppb: drift.sigma.as_ppm() * 1e3,
            saved_unix_s: unix_s(),
            boot_id: boot_id().unwrap_or_default(),
            clocksource: name_of(host),
        };
        let text = toml::to_string(&saved).map_err(|error| error.to_string())?;
        let new = self.path.with_extension("new");
        let directory = self.path.parent().map_or(Ok(()), fs::create_dir_all);
        directory
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(|error| format!("{}: {error}; name another with drift-file in [clock]", self.path.display()))
    }
}

fn unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

fn name_of(host: &HostState) -> String {
    String::from_utf8_lossy(&host.clocksource).trim_end_matches('\0').to_owned()
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(clocksource: &str) -> HostState {
        let mut name = [0; 16];
        name[..clocksource.len()].copy_from_slice(clocksource.as_bytes());
        HostState { clocksource: name, ..HostState::default() }
    }

    #[test]
    fn what_was_saved_is_read_back_on_the_same_host_only() {
        let path = std::env::temp_dir().join(format!("truebound-drift-{}/drift", std::process::id()));
        let mut file = DriftFile::new(&path);
        let settings = Settings::default();
        assert_eq!(file.load(&host("tsc"), &settings), None, "there is none");
        let drift = Drift { omega: FreqError::from_ppm(-12.5), sigma: FreqError::from_ppm(0.01) };
        let now = RawTime::from_ns(0);
        assert!(!file.is_due(now) && file.is_due(now.plus_ns(FIRST_NS)));
        file.save(now, drift, &host("tsc")).expect("a scratch directory");
        assert!(!file.is_due(now.plus_ns(EVERY_NS - 1)) && file.is_due(now.plus_ns(EVERY_NS)));
        let read = file.load(&host("tsc"), &settings).expect("just written");
        assert!((read.omega.as_ppm() + 12.5).abs() < 1e-6);
        assert!((0.01..2.5).contains(&read.sigma.as_ppm()), "{read:?}");
        assert_eq!(file.load(&host("hpet"), &settings), None, "another clock");
        for nonsense in ["", "freq-error-ppb = 1", "\0", &"[".repeat(1000)] {
            fs::write(&path, nonsense).expect("ours");
            assert_eq!(file.load(&host("tsc"), &settings), None, "{nonsense:?}");
        }
        let text = toml::to_string(&Saved {
            freq_error_ppb: f64::NAN,
            sigma_ppb: 1.0,
            saved_unix_s: i64::MIN,
            boot_id: String::new(),
            clocksource: "tsc".to_owned(),
        });
        fs::write(&path, text.expect("toml has nan")).expect("ours");
        assert_eq!(file.load(&host("tsc"), &settings), None, "no number");
        let _ = fs::remove_dir_all(path.parent().expect("a directory"));
    }
}
