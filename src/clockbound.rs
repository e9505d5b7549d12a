//! The segments for ClockBound's clients: reads the clocks ten times a second, lets core compose, and stores.
//!
//! What the agent publishes on its own page is only aged here; what it withdraws is withdrawn here at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use truebound_client::Status;
use truebound_client::host::VmPage;
use truebound_client::page::Publication;
use truebound_core::clockbound::counter::{self as by_counter, CounterLine, Shm1};
use truebound_core::clockbound::realtime::{self as by_realtime, Sample, Shm0, SlewWatch, Word};
use truebound_core::clockbound::{ClockStatus, Marker, status_of};
use truebound_core::io::{CrossReading, HostState};
use truebound_hw::clock::HostClock;
use truebound_hw::clockbound::{Directory, MarkerFile, SHM0, SHM1, Segment, SegmentError, coarse_ns, coarse_tick_ns};
use truebound_hw::counter;

use crate::config::{ClockBoundConfig, VM_CLOCK};
use crate::log;

/// Clients 2.x call a snapshot of 5 s free-running, and 16 bits of generations must last 1000 s: 33 updates a second.
pub(crate) const REFRESH: Duration = Duration::from_millis(100);

/// The open segments.
pub(crate) struct ClockBound {
    /// Holds the lock.
    _directory: Directory,
    clock: HostClock,
    marker: MarkerSource,
    shm0: Option<ByRealtime>,
    shm1: Option<ByCounter>,
    /// Of the last refresh: what it says of the agent.
    last: Option<(Status, u64)>,
}

/// What clients compare with the hypervisor's page.
struct MarkerSource {
    is_watched: bool,
    file: Option<MarkerFile>,
}

struct ByRealtime {
    output: Output,
    watch: SlewWatch,
    word: Word,
    tick_ns: i64,
}

struct ByCounter {
    output: Output,
    line: CounterLine,
    clocksource: [u8; 16],
    cpu_error_ns: i64,
    is_invariant: bool,
}

/// A segment until somebody else writes to it.
struct Output {
    segment: Option<Segment>,
    /// `None` before the first: whatever a former run left is passed over.
    status: Option<ClockStatus>,
}

impl ClockBound {
    /// `None`: nobody asked for any. `vm_path`: the hypervisor's page that the agent watches.
    pub(crate) fn open(
        config: &ClockBoundConfig,
        watch_steps: bool,
        cpu_error_ns: i64,
        vm_path: Option<&Path>,
    ) -> Result<Option<ClockBound>, SegmentError> {
        if !config.shm0 && !config.shm1 {
            return Ok(None);
        }
        let directory = Directory::open(&config.directory)?;
        let clock = HostClock::new(None, watch_steps).watching(vm_path.and_then(|path| VmPage::open(path).ok()));
        let shm0 = match config.realtime_slew.filter(|_| config.shm0) {
            Some(slew) => Some(ByRealtime {
                output: Output::new(directory.segment(SHM0)?),
                watch: SlewWatch::default(),
                word: Word(slew),
                tick_ns: coarse_tick_ns(),
            }),
            None => None,
        };
        let clocksource = clock.host_state().clocksource;
        let shm1 = if config.shm1 {
            let output = Output::new(directory.segment(SHM1)?);
            let mut line = CounterLine::default();
            // The period takes two brackets: the sooner the first, the sooner there is something to say.
            let _ = counter::bracket().map(|reading| line.push(reading.widened(cpu_error_ns)));
            let shm1 = ByCounter { output, line, clocksource, cpu_error_ns, is_invariant: counter::is_invariant() };
            shm1.say_if_useless();
            Some(shm1)
        } else {
            None
        };
        // Last: from now on what lies there counts as of this boot.
        let is_watched = directory.is_vmclock_watched(vm_path.is_some())?;
        let marker_path = vm_path.map_or(PathBuf::from(VM_CLOCK), Path::to_owned);
        let marker = MarkerSource { is_watched, file: MarkerFile::open(&marker_path).ok().filter(|_| is_watched) };
        Ok(Some(ClockBound { _directory: directory, clock, marker, shm0, shm1, last: None }))
    }

    /// The agent published. What only ages waits for the next refresh; a change does not.
    pub(crate) fn published(&mut self, publication: &Publication) {
        if self.last != Some((publication.status, publication.epoch)) {
            self.refresh(publication);
        }
    }

    /// CLOCK_REALTIME is about to be stepped: its readers are told first.
    pub(crate) fn withdraw(&mut self, publication: &Publication) {
        if let Some(shm0) = &mut self.shm0 {
            shm0.watch.expect_step();
        }
        self.refresh(publication);
    }

    /// Reads the clocks and stores both segments.
    pub(crate) fn refresh(&mut self, publication: &Publication) {
        self.last = Some((publication.status, publication.epoch));
        let coarse_ns = coarse_ns();
        let cross = self.clock.cross();
        let reading = self.shm1.as_ref().and_then(|_| counter::bracket());
        // Last: what befell the host before the readings is seen here.
        let marker = self.marker.read();
        let host = self.clock.host_state();
        let at = Instant { publication, cross: &cross, host: &host, marker };
        if let Some(shm0) = &mut self.shm0 {
            shm0.refresh(&at, coarse_ns);
        }
        if let Some((shm1, reading)) = self.shm1.as_mut().zip(reading) {
            shm1.refresh(&at, reading);
        }
    }
}

/// What both segments are made of.
struct Instant<'a> {
    publication: &'a Publication,
    cross: &'a CrossReading,
    host: &'a HostState,
    marker: Option<Marker>,
}

impl Instant<'_> {
    /// The marker; where it cannot be read, one that the agent has never handled: that is a disruption.
    fn marker(&self) -> Marker {
        let unreadable = !self.publication.vm_mark.disruption_marker;
        self.marker.unwrap_or(Marker { is_watched: true, real: unreadable, seen: unreadable })
    }
}

impl MarkerSource {
    /// `None`: clients look at it and we cannot.
    fn read(&self) -> Option<Marker> {
        if self.is_watched { self.file.as_ref()?.read().ok() } else { Some(Marker::default()) }
    }
}

impl ByRealtime {
    fn refresh(&mut self, at: &Instant<'_>, coarse_ns: i64) {
        let broken = self.watch.is_broken(at.publication, at.cross, self.word);
        let sample = Sample { coarse_ns, cross: *at.cross, tick_ns: self.tick_ns };
        let shm0 = Shm0::new(at.publication, &sample, at.host, at.marker(), self.word, broken);
        let now_ns = at.cross.after.as_ns();
        self.output.publish(&shm0.words(), &by_realtime::STORE_ORDER, shm0.common.status, now_ns);
    }
}

impl ByCounter {
    fn refresh(&mut self, at: &Instant<'_>, reading: by_counter::CounterReading) {
        if at.host.clocksource != self.clocksource || !self.is_invariant {
            (self.clocksource, self.line) = (at.host.clocksource, CounterLine::default());
        }
        let reading = reading.widened(self.cpu_error_ns);
        // What contradicts the line leaves it without a period, and the segment without a bound.
        let _ = self.line.push(reading);
        let shm1 = Shm1::new(at.publication, &reading, &self.line, at.host, at.marker(), at.cross.real);
        let is_live = matches!(
            status_of(at.publication, at.host, at.marker()),
            ClockStatus::Synchronized | ClockStatus::FreeRunning
        );
        let is_measuring = self.line.period().is_none() && self.is_useful() && is_live;
        if is_measuring && self.output.status.is_none() {
            // What a former run left is good by its own terms, until there is more to say: a tenth of a second.
            return;
        }
        let now_ns = at.cross.after.as_ns();
        self.output.publish(&shm1.words(), &by_counter::STORE_ORDER, shm1.common.status, now_ns);
    }

    fn is_useful(&self) -> bool {
        self.is_invariant && by_counter::is_counter(&self.clocksource)
    }

    fn say_if_useless(&self) {
        if !self.is_useful() {
            let name = String::from_utf8_lossy(&self.clocksource).trim_end_matches('\0').to_owned();
            let words = format!(
                "shm1 will say unknown: the kernel's clocksource is `{name}`, and clients 3.x need tsc or \
                 arch_sys_counter at an invariant rate"
            );
            log::warn("clockbound", &words);
        }
    }
}

impl Output {
    fn new(segment: Segment) -> Self {
        Output { segment: Some(segment), status: None }
    }

    fn publish(&mut self, words: &[u64], order: &[usize], status: ClockStatus, now_ns: i64) {
        let Some(segment) = &mut self.segment else { return };
        let is_break = self.status != Some(status);
        self.status = Some(status);
        if let Err(error) = segment.publish(words, order, is_break, now_ns) {
            log::warn("clockbound", &error.to_string());
            self.segment = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use truebound_client::Reason;
    use truebound_client::bound::Bound;
    use truebound_client::clock::{MonotonicRaw, RawClock};
    use truebound_client::page::UtcOffset;

    /// A page of this host that is live from now on.
    fn live() -> Publication {
        let host = HostClock::new(None, false).host_state();
        let t_ref_ns = MonotonicRaw.now_ns();
        let theta_ns = 1_800_000_000_000_000_000;
        Publication {
            status: Status::Locked,
            reason: Reason::Majority,
            epoch: 1,
            bound: Bound {
                t_ref_ns,
                void_after_ns: i64::MAX,
                theta_lo_ns: theta_ns,
                theta_hi_ns: theta_ns,
                ..Bound::default()
            },
            utc: UtcOffset { offset_s: 37, after_s: UtcOffset::UNKNOWN, change_at_ns: i64::MAX },
            omega_limit: 1 << 30,
            clocksource: host.clocksource,
            suspended_ns: host.suspended_ns,
            groups: (1, 1),
            ..Publication::default()
        }
    }

    /// Refreshes until the segment's status is `wanted`, or for `limit` beats. Gives the last one.
    fn refreshed(pages: &mut ClockBound, page: &Publication, path: &Path, wanted: u8, limit: usize) -> u8 {
        const STATUS: usize = 92;
        let mut status = u8::MAX;
        for beat in 0..limit {
            if beat > 0 {
                std::thread::sleep(REFRESH);
            }
            pages.refresh(page);
            status = std::fs::read(path).expect("a segment")[STATUS];
            if status == wanted {
                break;
            }
        }
        status
    }

    #[test]
    fn what_a_former_run_left_is_withdrawn_at_once_when_the_host_is_another() {
        let directory = std::env::temp_dir().join(format!("truebound-former-run-{}", std::process::id()));
        let config = ClockBoundConfig { shm1: true, directory: directory.clone(), ..ClockBoundConfig::default() };
        let (path, mut page) = (directory.join("shm1"), live());
        let open = || ClockBound::open(&config, false, 50, None).expect("ours").expect("asked for");
        let first = refreshed(&mut open(), &page, &path, 1, 50);
        if first == 1 {
            page.vm_mark.disruption_marker = 9;
            let second = refreshed(&mut open(), &page, &path, 3, 1);
            assert_eq!(second, 3, "still what the former run left");
        } else {
            println!("skipped: the counter of this host is no clocksource: status {first}");
        }
        let _ = std::fs::remove_dir_all(&directory);
    }
}
