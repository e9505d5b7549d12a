//! chronyd as the peer: a server that serves the kernel's clock as it is, a client that disciplines nothing (`-x`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::lab::{Lab, Process, output_of};
use super::stats::Samples;
use super::tracking::Tracking;

/// The command socket, in the daemon's directory.
const SOCKET: &str = "chronyd.sock";

/// A running chronyd with its command socket.
pub(crate) struct Chrony {
    process: Process,
    dir: PathBuf,
    chronyc: PathBuf,
}

/// One line of measurements.log.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) address: String,
    pub(crate) delay_ns: i64,
    /// As the server told it.
    pub(crate) root_dispersion_ns: i64,
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

    /// The same as one of several on a host, called `name`, that writes no log: what its clock costs, and no more.
    pub(crate) fn follow_as(lab: &Lab, host: &str, name: &str, server: &str, options: &str) -> Chrony {
        Chrony::start_as(lab, host, name, &format!("server {server} iburst {options}\n"))
    }

    /// A client of one reference clock, named TB: `refclock` is chrony's driver and its parameter.
    pub(crate) fn listen(lab: &Lab, host: &str, refclock: &str) -> Chrony {
        Chrony::start(lab, host, &format!("refclock {refclock} refid TB poll 0\nlog refclocks\n"))
    }

    fn start(lab: &Lab, host: &str, config: &str) -> Chrony {
        Chrony::start_as(lab, host, &format!("chronyd-{host}"), config)
    }

    fn start_as(lab: &Lab, host: &str, name: &str, config: &str) -> Chrony {
        let dir = lab.private_dir(name);
        let at = |file: &str| dir.join(file).display().to_string();
        let socket = at(SOCKET);
        let common =
            format!("user root\ncmdport 0\nbindcmdaddress {socket}\npidfile {}\nlogdir {}\n", at("pid"), dir.display());
        fs::write(dir.join("chrony.conf"), format!("{config}{common}")).expect("the lab's directory is writable");
        let process = lab.start(host, name, &lab.peer("chronyd"), &["-x", "-d", "-f", &at("chrony.conf")]);
        Chrony { process, dir, chronyc: lab.peer("chronyc") }
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// `None` until the daemon answers.
    pub(crate) fn tracking(&self) -> Option<Tracking> {
        Tracking::ask(&self.dir.join(SOCKET), &self.dir.join("judge.sock"))
    }

    /// Its process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
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
        output_of(Command::new(&self.chronyc).arg("-h").arg(self.dir.join(SOCKET)).args(["-n", "-c", question]))
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
        root_dispersion_ns: ns_from_exponential(fields.get(15)?)?,
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
