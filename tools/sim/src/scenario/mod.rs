//! A scenario: a world as a TOML file, with the assumptions that it claims to hold, those that it breaks, and what is
//! expected of it.
//!
//! ```toml
//! name = "pair"
//! about = "one server, one client"
//! duration-s = 60
//! assumptions = ["A1", "A2", "A3", "A4"]
//!
//! [[hosts]]
//! name = "server"
//! oscillator = "perfect"
//! root.error-us = 10.0
//!
//! [[hosts]]
//! name = "client"
//! ppm = 23.0
//! sources = [{ host = "server", poll-s = 1.0 }]
//!
//! [[links]]
//! between = ["client", "server"]
//! both.base-us = 50.0
//! ```

mod build;
mod outcome;

use serde::{Deserialize, Serialize};

pub use outcome::{FreqError, HostOutcome, Outcome, judge, merged, outcome_of};

use crate::link::LinkSpec;
use crate::nic::NicSpec;
use crate::oscillator::{OscillatorSpec, Preset};
use crate::world::{Action, Change};

/// See the module's page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What happens in it, in a sentence.
    pub about: String,
    /// How long it lasts.
    pub duration_s: f64,
    /// What it claims to hold throughout, but for its breaks.
    #[serde(default)]
    pub assumptions: Vec<Assumption>,
    /// Pages are read at random, this far apart on average.
    #[serde(default = "thousand")]
    pub read_every_ms: f64,
    /// Estimates are compared with the truth this often.
    #[serde(default = "thousand")]
    pub sample_every_ms: f64,
    /// Everybody's table announces a leap second this long after the start; negative: before it.
    #[serde(default)]
    pub leap_after_s: Option<i64>,
    /// Hosts, servers before their clients.
    pub hosts: Vec<HostEntry>,
    /// Paths between them; others are 50 µs long and idle.
    #[serde(default)]
    pub links: Vec<LinkEntry>,
    /// What befalls hosts and paths.
    #[serde(default)]
    pub events: Vec<EventEntry>,
    /// Assumptions that do not hold from some instant on.
    #[serde(default)]
    pub breaks: Vec<Break>,
    /// What must come of it.
    #[serde(default)]
    pub expect: Expect,
}

/// The assumptions of BOUND §1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Assumption {
    /// Oscillator.
    A1,
    /// Clocksource.
    A2,
    /// Stamps.
    A3,
    /// Source claims.
    A4,
    /// Undetectable in time.
    A5,
}

/// One host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostEntry {
    /// Its name.
    pub name: String,
    /// Its oscillator.
    #[serde(default)]
    pub oscillator: Preset,
    /// Constant frequency error, on top, ppm.
    #[serde(default)]
    pub ppm: f64,
    /// An oscillator by its numbers, in place of a preset.
    #[serde(default)]
    pub oscillator_fields: Option<OscillatorSpec>,
    /// The class of the preset is kept, whatever the numbers say.
    #[serde(default = "yes")]
    pub within_class: bool,
    /// The agent is told the class of this preset in place of its own.
    #[serde(default)]
    pub class: Option<Preset>,
    /// Its NIC.
    #[serde(default)]
    pub nic: Nic,
    /// A NIC by its numbers.
    #[serde(default)]
    pub nic_fields: Option<NicSpec>,
    /// CLOCK_REALTIME − UTC at the start, µs.
    #[serde(default)]
    pub realtime_error_us: f64,
    /// Rate of CLOCK_REALTIME, ppm.
    #[serde(default)]
    pub realtime_ppm: f64,
    /// From the send call to the stamp, µs.
    #[serde(default = "two")]
    pub send_us: f64,
    /// Mean time from arrival to the process, µs.
    #[serde(default = "ten")]
    pub wake_us: f64,
    /// Raw clocks of its CPUs differ by up to this, ns.
    #[serde(default)]
    pub cpu_skew_ns: i64,
    /// Its page is read and checked.
    #[serde(default = "yes")]
    pub checked: bool,
    /// Its answers carry a dispersion rounded down.
    #[serde(default)]
    pub rounds_down: bool,
    /// It takes its own clock for true.
    #[serde(default)]
    pub root: Option<RootEntry>,
    /// Whom it follows.
    #[serde(default)]
    pub sources: Vec<SourceEntry>,
    /// It answers requests; roots always do.
    #[serde(default)]
    pub serves: bool,
    /// It hides leap seconds from noon to noon in the time that it tells.
    #[serde(default)]
    pub smears: bool,
    /// It steers a virtual clock.
    #[serde(default)]
    pub disciplines: bool,
    /// It steers CLOCK_REALTIME.
    #[serde(default)]
    pub steers_realtime: bool,
    /// How many groups may lie.
    #[serde(default)]
    pub max_liars: Option<u32>,
    /// Constraints are remembered for so long.
    #[serde(default)]
    pub memory_s: Option<f64>,
    /// Holdover lasts at most this long.
    #[serde(default)]
    pub max_holdover_s: Option<f64>,
}

/// NICs by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// Stamps of the kernel, 2 µs and more from the wire.
    #[default]
    Software,
    /// The same, a microsecond from the wire.
    Prompt,
    /// Stamps of the NIC.
    Hardware,
}

/// A root of time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RootEntry {
    /// Added to its CLOCK_REALTIME, µs.
    #[serde(default)]
    pub shift_us: f64,
    /// What it claims, µs.
    pub error_us: f64,
}

/// One source of a host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SourceEntry {
    /// Which host.
    pub host: String,
    /// Polling interval, s.
    #[serde(default)]
    pub poll_s: Option<f64>,
    /// The longest, s.
    #[serde(default)]
    pub poll_max_s: Option<f64>,
    /// Requests in the burst at the start.
    #[serde(default)]
    pub burst: Option<u8>,
    /// Back-to-back pairs.
    #[serde(default)]
    pub pairs: Option<bool>,
    /// Interleaved mode.
    #[serde(default = "yes")]
    pub interleaved: bool,
    /// The operator's word for it.
    #[serde(default)]
    pub trust: bool,
    /// Independence group.
    #[serde(default)]
    pub group: Option<String>,
    /// Floor of its claim, µs.
    #[serde(default)]
    pub claim_floor_us: f64,
    /// It is asked for its exact half-width.
    #[serde(default = "yes")]
    pub agent: bool,
    /// The operator says that it smears leap seconds from noon to noon.
    #[serde(default)]
    pub smeared: bool,
}

/// A path and the way back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinkEntry {
    /// From the first to the second is there, the other direction is back.
    pub between: [String; 2],
    /// Both directions.
    #[serde(default)]
    pub both: Option<LinkSpec>,
    /// This direction.
    #[serde(default)]
    pub there: Option<LinkSpec>,
    /// The other one.
    #[serde(default)]
    pub back: Option<LinkSpec>,
}

/// Something that happens: to a host (`host`, `action`) or to a path (`path`, `change`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventEntry {
    /// When.
    pub at_s: f64,
    /// And again, at random, this far apart on average.
    #[serde(default)]
    pub every_s: Option<f64>,
    /// Until then; the end of the scenario.
    #[serde(default)]
    pub until_s: Option<f64>,
    /// To whom.
    #[serde(default)]
    pub host: Option<String>,
    /// What.
    #[serde(default)]
    pub action: Option<Action>,
    /// From whom to whom.
    #[serde(default)]
    pub path: Option<[String; 2]>,
    /// What.
    #[serde(default)]
    pub change: Option<Change>,
}

/// An assumption that does not hold from some instant on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Break {
    /// Which.
    pub assumption: Assumption,
    /// From when on.
    pub at_s: f64,
    /// Somebody who sees only packets and clocks could notice.
    pub detectable: bool,
    /// Why not, or how.
    #[serde(default)]
    pub why: String,
    /// Whose notice counts; any checked client's.
    #[serde(default)]
    pub host: Option<String>,
}

/// What must come of a scenario, beside: no violation where nothing breaks, none after the notice of a break, and a
/// notice of every break that is detectable.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// The break is noticed within this, s.
    pub notice_s: Option<f64>,
    /// One of these reasons is published.
    pub reasons: Vec<String>,
    /// What the checked clients say at the end.
    pub status: Option<String>,
    /// Nobody ever begins a second epoch.
    pub calm: bool,
    /// There are violations: the checker must catch what was planted.
    pub violations: bool,
    /// What broke stays broken, and who relies on it stays wrong after the notice.
    pub still_wrong: bool,
    /// Half-width of the last read at the end, at most, µs.
    pub half_width_us: Option<f64>,
}

/// Why a file is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not of the form; the message names line and column.
    #[error("{0}")]
    Form(#[from] toml::de::Error),
    /// A name is not the name of a host.
    #[error("{place} names \"{name}\", which is no host above it")]
    NoSuchHost {
        /// Where.
        place: &'static str,
        /// The name.
        name: String,
    },
    /// An event says neither what befalls a host nor what befalls a path.
    #[error("the event at {at_s} s needs host and action, or path and change")]
    IncompleteEvent {
        /// Which.
        at_s: f64,
    },
    /// An undetectable break has to say why.
    #[error("the break of {assumption:?} at {at_s} s is undetectable and does not say why")]
    NoReason {
        /// Which assumption.
        assumption: Assumption,
        /// When.
        at_s: f64,
    },
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text)?;
        scenario.check_names()?;
        for event in &scenario.events {
            let is_of_host = event.host.is_some() && event.action.is_some();
            let is_of_path = event.path.is_some() && event.change.is_some();
            if is_of_host == is_of_path {
                return Err(ScenarioError::IncompleteEvent { at_s: event.at_s });
            }
        }
        match scenario.breaks.iter().find(|b| !b.detectable && b.why.is_empty()) {
            Some(&Break { assumption, at_s, .. }) => Err(ScenarioError::NoReason { assumption, at_s }),
            None => Ok(scenario),
        }
    }

    fn check_names(&self) -> Result<(), ScenarioError> {
        let is_known = |hosts: &[HostEntry], name: &String| hosts.iter().any(|host| host.name == *name);
        let check = |place, hosts: &[HostEntry], name: &String| match is_known(hosts, name) {
            true => Ok(()),
            false => Err(ScenarioError::NoSuchHost { place, name: name.clone() }),
        };
        for (index, host) in self.hosts.iter().enumerate() {
            host.sources.iter().try_for_each(|line| check("a source", &self.hosts[..index], &line.host))?;
        }
        self.links.iter().flat_map(|link| &link.between).try_for_each(|name| check("a link", &self.hosts, name))?;
        let of_events = self.events.iter().flat_map(|event| event.host.iter().chain(event.path.iter().flatten()));
        of_events.into_iter().try_for_each(|name| check("an event", &self.hosts, name))?;
        self.breaks.iter().filter_map(|b| b.host.as_ref()).try_for_each(|name| check("a break", &self.hosts, name))
    }
}

fn thousand() -> f64 {
    1000.0
}

fn two() -> f64 {
    2.0
}

fn ten() -> f64 {
    10.0
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: &str = r#"
        name = "pair"
        about = "one server, one client"
        duration-s = 20
        [[hosts]]
        name = "server"
        oscillator = "perfect"
        root.error-us = 10.0
        [[hosts]]
        name = "client"
        ppm = 23.0
        sources = [{ host = "server", poll-s = 1.0 }]
        [[links]]
        between = ["client", "server"]
        both.base-us = 50.0
        [[events]]
        at-s = 5.0
        host = "client"
        action.suspend.s = 3.0
    "#;

    #[test]
    fn a_pair_runs_the_same_every_time() {
        let scenario = Scenario::parse(PAIR).expect("it is one");
        let [one, again, other] = [1, 1, 2].map(|seed| scenario.run(seed));
        assert_eq!((one.violations, &one.faults[..]), (0, &[][..]));
        assert!(one.answered > 10 && one.probes > 15, "{one:?}");
        assert_eq!(one.digest, again.digest);
        assert_ne!(one.digest, other.digest);
    }

    #[test]
    fn errors_say_where() {
        let error = Scenario::parse(&PAIR.replace("ppm = 23.0", "pmp = 23.0")).expect_err("no such key").to_string();
        assert!(error.contains("line 11") && error.contains("pmp"), "{error}");
        let error = Scenario::parse(&PAIR.replace("host = \"server\"", "host = \"sever\"")).expect_err("no such host");
        assert_eq!(error.to_string(), "a source names \"sever\", which is no host above it");
        let error = Scenario::parse(&PAIR.replace("action.suspend.s = 3.0", "")).expect_err("no action").to_string();
        assert!(error.contains("5 s"), "{error}");
    }
}
