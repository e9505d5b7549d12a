//! chronyd as the peer: a server that serves the kernel's clock as it is, a client that disciplines nothing (`-x`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::{Lab, Process, output_of};
use super::stats::{Samples, half, ns_from_seconds};

/// A running chronyd with its command socket.
pub(crate) struct Chrony {
    process: Process,
    dir: PathBuf,
    chronyc: PathBuf,
}

/// What `chronyc tracking` says, ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracking {
    pub(crate) stratum: u32,
    /// Its estimate of the error at the last update; its clock is the server's, so all of it is error.
    pub(crate) last_offset_ns: i64,
    pub(crate) root_delay_ns: i64,
    pub(crate) root_dispersion_ns: i64,
}

impl Tracking {
    /// The bound that the field derives from chrony (ClockBound's recipe).
    pub(crate) fn root_distance_ns(&self) -> i64 {
        half(self.root_delay_ns) + self.root_dispersion_ns
    }
}

/// One line of measurements.log.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) address: String,
    pub(crate) delay_ns: i64,
    /// Transmit and receive stamps: daemon, kernel or hardware.
    pub(crate) stamps: (char, char),
}

impl Chrony {
    /// A stratum-1 server whose time is CLOCK_REALTIME: the truth in a lab.
    pub(crate) fn serve(lab: &Lab, host: &str) -> Chrony {
        Chrony::start(lab, host, "local stratum 1\nallow 10.77.0.0/24\nallow fd77::/64\n")
    }

    /// A client of `server` with chrony's `options`.
    pub(crate) fn follow(lab: &Lab, host: &str, server: &str, options: &str) -> Chrony {
        Chrony::start(lab, host, &format!("server {server} iburst {options}\nlog measurements\n"))
    }

    /// A client of one reference clock, named TB: `refclock` is chrony's driver and its parameter.
    pub(crate) fn listen(lab: &Lab, host: &str, refclock: &str) -> Chrony {
        Chrony::start(lab, host, &format!("refclock {refclock} refid TB poll 0\nlog refclocks\n"))
    }

    fn start(lab: &Lab, host: &str, config: &str) -> Chrony {
        let name = format!("chronyd-{host}");
        let dir = lab.private_dir(&name);
        let at = |file: &str| dir.join(file).display().to_string();
        let socket = at("chronyd.sock");
        let common =
            format!("user root\ncmdport 0\nbindcmdaddress {socket}\npidfile {}\nlogdir {}\n", at("pid"), dir.display());
        fs::write(dir.join("chrony.conf"), format!("{config}{common}")).expect("the lab's directory is writable");
        let process = lab.start(host, &name, &lab.peer("chronyd"), &["-x", "-d", "-f", &at("chrony.conf")]);
        Chrony { process, dir, chronyc: lab.peer("chronyc") }
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// `None` until the daemon answers.
    pub(crate) fn tracking(&self) -> Option<Tracking> {
        let line = self.ask("tracking")?;
        let fields: Vec<&str> = line.trim().split(',').collect();
        let ns = |index: usize| ns_from_seconds(fields.get(index)?);
        Some(Tracking {
            stratum: fields.get(2)?.parse().ok()?,
            last_offset_ns: ns(5)?,
            root_delay_ns: ns(10)?,
            root_dispersion_ns: ns(11)?,
        })
    }

    /// Has it selected `address`?
    pub(crate) fn follows(&self, address: &str) -> bool {
        self.ask("sources").is_some_and(|lines| lines.lines().any(|line| line.starts_with(&format!("^,*,{address},"))))
    }

    /// Has it selected its reference clock?
    pub(crate) fn follows_refclock(&self) -> bool {
        self.ask("sources").is_some_and(|lines| lines.lines().any(|line| line.starts_with("#,*,TB,")))
    }

    /// What its reference clock said of the kernel's clock, each time: reference − clock, ns.
    pub(crate) fn refclock_offsets(&self) -> Samples {
        let text = fs::read_to_string(self.dir.join("refclocks.log")).unwrap_or_default();
        let mut samples = Samples::default();
        text.lines().filter_map(refclock_offset).for_each(|ns| samples.push(ns));
        samples
    }

    /// All lines of measurements.log so far.
    pub(crate) fn measurements(&self) -> Vec<Measurement> {
        let text = fs::read_to_string(self.dir.join("measurements.log")).unwrap_or_default();
        text.lines().filter_map(measurement).collect()
    }

    /// Round trips by its stamps, without the first `skipped`.
    pub(crate) fn delays(&self, skipped: usize) -> Samples {
        let mut samples = Samples::default();
        self.measurements().iter().skip(skipped).for_each(|measurement| samples.push(measurement.delay_ns));
        samples
    }

    fn ask(&self, question: &str) -> Option<String> {
        let socket: &Path = &self.dir.join("chronyd.sock");
        output_of(Command::new(&self.chronyc).arg("-h").arg(socket).args(["-n", "-c", question]))
    }
}

/// `date time address L St 123 567 ABCD LP RP score offset delay dispersion rootdelay rootdisp refid mode Tx Rx`
fn measurement(line: &str) -> Option<Measurement> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, address, .., tx, rx] = fields.as_slice() else { return None };
    let stamp = |text: &str| text.chars().next().filter(|c| "DKH".contains(*c));
    Some(Measurement {
        address: (*address).to_owned(),
        delay_ns: ns_from_exponential(fields.get(12)?)?,
        stamps: (stamp(tx)?, stamp(rx)?),
    })
}

/// `date time refid DP L P raw-offset cooked-offset dispersion`; lines without DP are filtered ones.
fn refclock_offset(line: &str) -> Option<i64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, "TB", number, _, _, raw, ..] = fields.as_slice() else { return None };
    number.parse::<u32>().ok()?;
    let negative = raw.strip_prefix('-');
    let ns = ns_from_exponential(negative.unwrap_or(raw))?;
    Some(if negative.is_some() { -ns } else { ns })
}

/// Nanoseconds from `1.234e-05` seconds.
fn ns_from_exponential(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok()?;
    i64::try_from(std::time::Duration::try_from_secs_f64(seconds).ok()?.as_nanos()).ok()
}
