//! The judge in each client's process: reads as fast as it is told to, and holds every interval against true time.
//!
//! True time is CLOCK_TAI less a constant, which the tests' preloaded library leaves as it is. It is read before and
//! after each read: the interval has to reach from the later of them down to the earlier. One line of JSON tells of a
//! stretch of reads with one status, a tenth of a second at the most:
//!
//! ```text
//! {"from_ns":…,"to_ns":…,"status":"synchronized","reads":…,"violations":…,"miss_ns":…,"half_ns":…,"widest_ns":…}
//! ```
//! `miss_ns` is by how much the worst read missed, `half_ns` the half-width of the last. What cannot be opened or read
//! is a status of its own, by the client's words.

use std::fmt::Write;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

const NS_PER_S: i64 = 1_000_000_000;
/// The longest stretch that one line tells of, ns.
const STRETCH_NS: i64 = NS_PER_S / 10;

/// What a client gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Unix time, ns.
    pub earliest_ns: i64,
    /// Unix time, ns.
    pub latest_ns: i64,
    /// In lower case.
    pub status: &'static str,
}

/// How a client is run: SEGMENT VMCLOCK PAUSE_US TAI_OFFSET_S.
pub struct Task {
    segment: String,
    vmclock: String,
    pause: Duration,
    tai_offset_ns: i64,
}

impl Task {
    /// From the command line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_args() -> Result<Task, String> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [segment, vmclock, pause_us, tai_offset_s] = args.as_slice() else {
            return Err("usage: SEGMENT VMCLOCK PAUSE_US TAI_OFFSET_S".to_owned());
        };
        let pause_us = pause_us.parse().map_err(|error| format!("{pause_us}: {error}"))?;
        let offset_s: i64 = tai_offset_s.parse().map_err(|error| format!("{tai_offset_s}: {error}"))?;
        let (segment, vmclock, pause) = (segment.clone(), vmclock.clone(), Duration::from_micros(pause_us));
        Ok(Task { segment, vmclock, pause, tai_offset_ns: offset_s * NS_PER_S })
    }

    /// Opens with `open` until that works, then reads with `read` until the process is killed.
    pub fn run<C>(
        &self,
        open: impl Fn(&str, &str) -> Result<C, String>,
        mut read: impl FnMut(&mut C) -> Result<Reading, String>,
    ) {
        let mut stretch = Stretch::default();
        let mut client = None;
        loop {
            let before_ns = self.truth_ns();
            let outcome = match &mut client {
                Some(client) => read(client),
                None => match open(&self.segment, &self.vmclock) {
                    Ok(opened) => {
                        client = Some(opened);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let after_ns = self.truth_ns();
            let status = outcome.as_ref().map_or_else(Clone::clone, |reading| reading.status.to_owned());
            if stretch.reads > 0 && (stretch.status != status || after_ns - stretch.from_ns > STRETCH_NS) {
                println!("{}", stretch.line());
                stretch = Stretch::default();
            }
            stretch.add(before_ns, status, outcome.ok().as_ref(), after_ns);
            std::thread::sleep(self.pause);
        }
    }

    fn truth_ns(&self) -> i64 {
        let now = clock_gettime(ClockId::CLOCK_TAI).expect("every Linux has it");
        now.tv_sec() * NS_PER_S + now.tv_nsec() - self.tai_offset_ns
    }
}

/// Reads with one status.
#[derive(Default)]
struct Stretch {
    status: String,
    from_ns: i64,
    to_ns: i64,
    reads: u64,
    violations: u64,
    miss_ns: i64,
    half_ns: i64,
    widest_ns: i64,
}

impl Stretch {
    fn add(&mut self, before_ns: i64, status: String, reading: Option<&Reading>, after_ns: i64) {
        if self.reads == 0 {
            self.from_ns = before_ns;
        }
        (self.status, self.to_ns, self.reads) = (status, after_ns, self.reads + 1);
        let Some(reading) = reading else { return };
        self.half_ns = (reading.latest_ns - reading.earliest_ns + 1) / 2;
        self.widest_ns = self.widest_ns.max(self.half_ns);
        let miss_ns = (reading.earliest_ns - after_ns).max(before_ns - reading.latest_ns);
        if miss_ns > 0 {
            self.violations += 1;
            self.miss_ns = self.miss_ns.max(miss_ns);
        }
    }

    fn line(&self) -> String {
        let mut line = String::new();
        let Stretch { from_ns, to_ns, reads, violations, miss_ns, half_ns, widest_ns, .. } = self;
        let _ =
            write!(line, "{{\"from_ns\":{from_ns},\"to_ns\":{to_ns},\"status\":{:?},\"reads\":{reads}", self.status);
        let _ = write!(line, ",\"violations\":{violations},\"miss_ns\":{miss_ns}");
        let _ = write!(line, ",\"half_ns\":{half_ns},\"widest_ns\":{widest_ns}}}");
        line
    }
}

/// Seconds and nanoseconds in one number.
#[must_use]
pub fn unix_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds * NS_PER_S + nanoseconds
}

/// The `main` of a Rust client's judge: both generations have these names, though not these types, in common.
#[macro_export]
macro_rules! judge {
    ($client:ty, $status:ident) => {
        fn main() -> std::process::ExitCode {
            let task = match $crate::Task::from_args() {
                Ok(task) => task,
                Err(error) => {
                    eprintln!("{error}");
                    return std::process::ExitCode::from(2);
                }
            };
            let open = |segment: &str, vmclock: &str| {
                <$client>::new_with_paths(segment, vmclock).map_err(|error| format!("{:?}", error.kind))
            };
            task.run(open, |client| {
                let now = client.now().map_err(|error| format!("{:?}", error.kind))?;
                Ok($crate::Reading {
                    earliest_ns: $crate::unix_ns(now.earliest.tv_sec(), now.earliest.tv_nsec()),
                    latest_ns: $crate::unix_ns(now.latest.tv_sec(), now.latest.tv_nsec()),
                    status: match now.clock_status {
                        $status::Unknown => "unknown",
                        $status::Synchronized => "synchronized",
                        $status::FreeRunning => "free-running",
                        $status::Disrupted => "disrupted",
                    },
                })
            });
            std::process::ExitCode::SUCCESS
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_finds_against_an_interval_beside_true_time() {
        let verdict = |earliest_ns, latest_ns| {
            let mut stretch = Stretch::default();
            let reading = Reading { earliest_ns, latest_ns, status: "synchronized" };
            stretch.add(1_000, "synchronized".to_owned(), Some(&reading), 1_010);
            (stretch.violations, stretch.miss_ns)
        };
        assert_eq!(verdict(900, 999), (1, 1));
        assert_eq!(verdict(1_015, 1_100), (1, 5));
        assert_eq!((verdict(900, 1_000), verdict(1_010, 1_100)), ((0, 0), (0, 0)));
    }
}
