//! ptp4l as the peer, by kernel stamps, and what `pmc` says of it.
//!
//! No ptp4l of this lab can steer the kernel's clock: it runs free, or on a virtual clock of its own; and it lacks the
//! capability in either case.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::lab::{Lab, Process, output_of};
use super::stats::Samples;
use super::virtual_clock::VirtualClock;

/// log2 of the seconds between Syncs and between delay requests: sixteen of each a second.
const LOG_INTERVAL: i8 = -4;

/// How PTP messages travel here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Ethernet,
    Udp4,
    Udp6,
}

impl Transport {
    pub(crate) const ALL: [Transport; 3] = [Transport::Ethernet, Transport::Udp4, Transport::Udp6];

    /// ptp4l's word.
    fn theirs(self) -> &'static str {
        match self {
            Transport::Ethernet => "L2",
            Transport::Udp4 => "UDPv4",
            Transport::Udp6 => "UDPv6",
        }
    }

    /// Our word.
    pub(crate) fn ours(self) -> &'static str {
        match self {
            Transport::Ethernet => "ethernet",
            Transport::Udp4 => "udp4",
            Transport::Udp6 => "udp6",
        }
    }
}

/// How a slave steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servo {
    /// Its default for kernel stamps. At our rate that one measures the frequency for 48 s before it steers.
    Default,
    /// Steers after two seconds; for tests that do not ask how well.
    Quick,
}

/// What one ptp4l is to be.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    pub(crate) is_master: bool,
    pub(crate) transport: Transport,
    pub(crate) peer_to_peer: bool,
    pub(crate) priority1: u8,
    pub(crate) servo: Servo,
    /// The clock to live by; else the kernel's, which it then only watches: such a slave stays UNCALIBRATED.
    pub(crate) clock: Option<&'a VirtualClock>,
}

impl<'a> Options<'a> {
    /// A slave that asks as often, quick to lock, and steers this clock.
    pub(crate) fn slave(transport: Transport, clock: &'a VirtualClock) -> Self {
        Options { is_master: false, servo: Servo::Quick, clock: Some(clock), ..Options::master(transport) }
    }

    /// A grandmaster that shows the kernel's clock, the truth in a lab, sixteen times a second.
    pub(crate) fn master(transport: Transport) -> Self {
        let (peer_to_peer, priority1, servo) = (false, 128, Servo::Default);
        Options { is_master: true, transport, peer_to_peer, priority1, servo, clock: None }
    }

    /// The file of one ptp4l. A master claims a primary reference that is right within 100 ns; by its class it stands
    /// aside (PASSIVE) for a better one.
    fn config(&self, socket: &str) -> String {
        let master = "clockClass 6\nclockAccuracy 0x21\noffsetScaledLogVariance 0x4E5D";
        let quick = "pi_proportional_const 0.2\npi_integral_const 0.01";
        let lines = [
            format!("time_stamping software\nnetwork_transport {}", self.transport.theirs()),
            format!("delay_mechanism {}", if self.peer_to_peer { "P2P" } else { "E2E" }),
            format!("priority1 {}", self.priority1),
            format!("logAnnounceInterval -2\nlogSyncInterval {LOG_INTERVAL}\nlogMinDelayReqInterval {LOG_INTERVAL}"),
            format!("logMinPdelayReqInterval {LOG_INTERVAL}\nsummary_interval {LOG_INTERVAL}"),
            // A busy machine takes longer than the default millisecond, and one fault stops a port for 16 s.
            "tx_timestamp_timeout 200\nfault_reset_interval -2".to_owned(),
            if self.is_master { master } else { "slaveOnly 1" }.to_owned(),
            if self.servo == Servo::Quick { quick } else { "" }.to_owned(),
            // A grandmaster has nothing to follow; a slave without a clock of its own must not steer.
            format!("free_running {}", u8::from(self.is_master || self.clock.is_none())),
            format!("uds_address {socket}\n"),
        ];
        "[global]\n".to_owned() + &lines.join("\n")
    }
}

/// A running ptp4l with its management socket.
pub(crate) struct Ptp4l {
    process: Process,
    dir: PathBuf,
    log: PathBuf,
    pmc: PathBuf,
}

impl Ptp4l {
    pub(crate) fn start(lab: &Lab, host: &str, options: &Options) -> Ptp4l {
        let name = format!("ptp4l-{host}");
        let dir = lab.private_dir(&name);
        let (file, socket) = (dir.join("ptp4l.conf").display().to_string(), dir.join("uds").display().to_string());
        fs::write(&file, options.config(&socket)).expect("the lab's directory is writable");
        let mut args: Vec<String> = ["--bounding-set=-sys_time", "--inh-caps=-sys_time", "env"].map(Into::into).into();
        args.extend(options.clock.map(VirtualClock::environment).into_iter().flatten());
        args.push(lab.peer("ptp4l").display().to_string());
        args.extend(["-f", &file, "-i", "eth0", "-m", "-q"].map(Into::into));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let process = lab.start(host, &name, "setpriv".as_ref(), &args);
        Ptp4l { process, dir, log: lab.log_of(&name), pmc: lab.peer("pmc") }
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Its process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    #[track_caller]
    pub(crate) fn expect_running(&mut self) {
        self.process.expect_running();
    }

    /// The state of its only port, in the standard's capitals; empty until it answers.
    pub(crate) fn state(&self) -> String {
        self.get("PORT_DATA_SET", "portState").unwrap_or_default()
    }

    pub(crate) fn identity(&self) -> String {
        self.get("DEFAULT_DATA_SET", "clockIdentity").unwrap_or_default()
    }

    pub(crate) fn grandmaster(&self) -> String {
        self.get("PARENT_DATA_SET", "grandmasterIdentity").unwrap_or_default()
    }

    pub(crate) fn steps_removed(&self) -> Option<u32> {
        self.get("CURRENT_DATA_SET", "stepsRemoved")?.parse().ok()
    }

    /// One field of a data set, as `pmc` prints it.
    pub(crate) fn get(&self, data_set: &str, field: &str) -> Option<String> {
        let (server, client) = (self.dir.join("uds"), self.dir.join("pmc"));
        let mut pmc = Command::new(&self.pmc);
        pmc.args(["-u", "-b", "0", "-s"]).arg(server).arg("-i").arg(client).arg(format!("GET {data_set}"));
        fields(&output_of(&mut pmc)?).remove(field)
    }

    /// How often its port broke down, and neither told nor followed the time for a while.
    pub(crate) fn faults(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().matches("to FAULTY").count()
    }

    /// The offsets that it measured, without the first `skipped`, ns.
    pub(crate) fn offsets(&self, skipped: usize) -> Samples {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut samples = Samples::default();
        text.lines().filter_map(offset).skip(skipped).for_each(|ns| samples.push(ns));
        samples
    }
}

/// `ptp4l[1.234]: master offset       -123 s2 freq    +456 path delay      789`
fn offset(line: &str) -> Option<i64> {
    line.split_once("master offset")?.1.split_whitespace().next()?.parse().ok()
}

/// The indented `name value` lines of pmc's answer.
fn fields(answer: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.strip_prefix("\t\t")?.split_once(char::is_whitespace).map(owned);
    answer.lines().filter_map(pair).collect()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.trim().to_owned(), value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_from_the_log() {
        let line = "ptp4l[1.234]: master offset       -123 s2 freq    +456 path delay      789";
        assert_eq!(offset(line), Some(-123));
        assert_eq!(offset("ptp4l[1.234]: port 1: LISTENING to UNCALIBRATED on RS_SLAVE"), None);
    }

    #[test]
    fn fields_of_a_data_set_are_read() {
        let answer = "sending: GET PORT_DATA_SET\n\t02aa.fffe.01-1 seq 0 RESPONSE MANAGEMENT PORT_DATA_SET \n\
                      \t\tportState               MASTER\n\t\tdelayMechanism          1\n";
        assert_eq!(fields(answer).remove("portState").as_deref(), Some("MASTER"));
    }
}
