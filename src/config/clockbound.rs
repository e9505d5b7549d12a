//! `[clockbound]`: the segments for ClockBound's clients.

use std::path::PathBuf;

use truebound_core::settings::Discipline;
use truebound_core::units::FreqError;

use super::error::ConfigError;
use super::table::{Table, boolean, frequency, path};

/// What is written for ClockBound's clients, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClockBoundConfig {
    /// For clients 2.x, which read CLOCK_REALTIME.
    pub(crate) shm0: bool,
    /// For clients 3.x, which read the CPU's counter.
    pub(crate) shm1: bool,
    /// Where both files are.
    pub(crate) directory: PathBuf,
    /// Nobody runs CLOCK_REALTIME faster or slower than this against true time, by the operator's word.
    pub(crate) realtime_slew: Option<FreqError>,
}

impl Default for ClockBoundConfig {
    fn default() -> Self {
        let directory = PathBuf::from("/var/run/clockbound");
        ClockBoundConfig { shm0: false, shm1: false, directory, realtime_slew: None }
    }
}

/// What the rate of a clock that we steer may be off by, besides the slew: the estimate's error while it settles. More
/// than that is announced.
const OWN_ERROR: FreqError = FreqError::from_ppm(100.0);

/// `max_slew`: of the servo, if it steers the host's clock.
pub(crate) fn read_clockbound(
    table: &Table<'_>,
    discipline: Discipline,
    max_slew: FreqError,
) -> Result<ClockBoundConfig, ConfigError> {
    let is_virtual = matches!(discipline, Discipline::Virtual { .. });
    let mut config = ClockBoundConfig::default();
    table.set("shm0", &mut config.shm0, boolean)?;
    table.set("shm1", &mut config.shm1, boolean)?;
    table.set("directory", &mut config.directory, path)?;
    let range = (FreqError::from_ppm(1.0), FreqError::from_ppm(100_000.0));
    config.realtime_slew = table.get("realtime-slew", frequency(range.0, range.1))?;
    if discipline == Discipline::System && config.realtime_slew.is_none() {
        config.realtime_slew = Some(FreqError::from_fraction(max_slew.as_fraction() + OWN_ERROR.as_fraction()));
    }
    for (key, is_on) in [("shm0", config.shm0), ("shm1", config.shm1)] {
        if let Some(entry) = table.entry(key).filter(|_| is_on && is_virtual) {
            let fix = "set discipline = \"observe\" in [clock], or remove the line";
            return Err(entry.error("its clients read this host's clocks, not the virtual one", fix));
        }
    }
    if let Some(entry) = table.entry("directory").filter(|_| !config.directory.is_absolute()) {
        return Err(entry.error("not an absolute path", "use \"/var/run/clockbound\", where clients look"));
    }
    if let Some(entry) = table.entry("shm0").filter(|_| config.shm0 && config.realtime_slew.is_none()) {
        let why = "nobody said how fast others slew CLOCK_REALTIME, which its clients read";
        let fix = "add realtime-slew = \"500ppm\", or more if its daemon may slew faster (chrony's maxslewrate), \
                   or use shm1 alone";
        return Err(entry.error(why, fix));
    }
    Ok(config)
}
