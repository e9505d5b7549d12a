//! `[feed]`: another daemon of this host that is told our estimate, as if we were a reference clock of its.

use truebound_core::settings::{Discipline, ReferenceClock, SourceKind, SourceSettings};

use super::error::ConfigError;
use super::quantity::S;
use super::source::socket_path;
use super::table::{Table, integer};

/// Where our estimate goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FeedConfig {
    /// A socket that the other daemon makes.
    pub(crate) sock: Option<String>,
    /// A unit of ntpd's shared memory.
    pub(crate) shm: Option<u8>,
}

impl FeedConfig {
    /// How often somebody is told, if anybody is.
    pub(crate) fn interval_ns(&self) -> Option<i64> {
        (*self != FeedConfig::default()).then_some(S)
    }
}

pub(crate) fn read_feed(
    table: &Table<'_>,
    sources: &[SourceSettings],
    discipline: Discipline,
) -> Result<FeedConfig, ConfigError> {
    let mut feed = FeedConfig::default();
    table.set("sock", &mut feed.sock, socket_path)?;
    table.set("shm", &mut feed.shm, integer(0, u8::MAX))?;
    let entries = ["sock", "shm"].into_iter().filter_map(|key| table.entry(key));
    if let Some(entry) = entries.into_iter().next().filter(|_| discipline == Discipline::System) {
        let why = "we steer CLOCK_REALTIME, and whoever is fed would steer it too";
        return Err(entry.error(why, "remove the line, or set discipline = \"observe\" in [clock]"));
    }
    let places = [("sock", feed.sock.clone()), ("shm", feed.shm.map(|unit| ReferenceClock::Shm { unit }.place()))];
    for (key, place) in places {
        let is_ours = |source: &&SourceSettings| match &source.kind {
            SourceKind::Reference { clock, .. } => Some(clock.place()) == place,
            _ => false,
        };
        if let Some((entry, source)) = table.entry(key).zip(sources.iter().find(is_ours)) {
            let why = format!("the source `{}` reads it: the agent would follow itself", source.name);
            return Err(entry.error(why, "feed another one, or remove that source"));
        }
    }
    Ok(feed)
}
