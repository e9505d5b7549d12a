//! One round of one scenario: all contestants at once, through one hop, from one server.
//!
//! All run at the same time and not one after the other: each then meets the very queue that the others meet, and what
//! is compared are ratios. What they cost each other on two processors is little (all of them together use a few per
//! cent of one) and the same for all. Ours are on one host and the peers on the other; rounds swap the hosts, for a
//! bridge floods multicast in the order of its ports, which is an asymmetry of the path that each is to meet as often.
//!
//! Every daemon settles on an idle hop: chronyd's samples at 1/s and ptp4l's default servo, which measures the
//! frequency for 48 s before it steers, take about a minute. Then the traffic begins, for ten seconds in which the cost is measured
//! and nobody is asked anything, and then the errors are.
//!
//! What is a contestant's error: of ours, its estimate (`truth.rs`); of chronyd (`-x`), how far the time that it
//! believes in is from the kernel's (`tracking.rs`); of ptp4l, its clock's, a virtual one without any error of its own
//! but 200 µs at the start, for ptp4l has no estimate but the clock that it steers.

use std::fs;
use std::time::{Duration, Instant};

use truebound_client::Reader;
use truebound_core::units::to_f64;

use crate::figures::{Contestant, Figures, Spread, Width};
use crate::netns::agent::{Agent, following_every};
use crate::netns::checker::{Checker, Tally};
use crate::netns::chrony::Chrony;
use crate::netns::lab::{Lab, Process};
use crate::netns::port::{GRANDMASTER, following_ptp};
use crate::netns::ptp4l::{Options, Ptp4l, Servo, Transport};
use crate::netns::stats::{Samples, every};
use crate::netns::traffic::Traffic;
use crate::netns::truth::estimate_error_ns;
use crate::netns::virtual_clock::{Oscillator, VirtualClock};
use crate::scenario::Scenario;

const SERVER: &str = "10.77.0.1";
/// chrony's words for so many questions a second with interleaved answers: what our clients do here.
const CHRONY_1: &str = "minpoll 0 maxpoll 0 xleave extfield F323";
const CHRONY_64: &str = "minpoll -6 maxpoll -6 xleave extfield F323";
/// Ours asks for root values as fine as chronyd does, and adds nothing to them: both stamps of the server are its
/// kernel's, taken outside its own delays.
const OURS: &str = "extfield = \"F323\"\nclaim-floor = \"0ns\"";
/// How long a daemon may take to settle.
const PATIENCE: Duration = Duration::from_secs(100);
/// A ptp4l that steers is this close on an idle hop, and was farther away before.
const CLOSE_NS: i64 = 50_000;
/// How long the hop is loaded before errors count; meanwhile the cost is measured.
const WARM_UP: Duration = Duration::from_secs(10);
const SAMPLING: Duration = Duration::from_millis(50);
/// A reading of the estimate that was interrupted is repeated so often.
const ATTEMPTS: usize = 5;
/// A frame of the bursts takes so much of the hop; a byte of the flow, with its share of the headers, so much.
const FRAME_S: f64 = 100e-6;
const FLOW_BYTE_S: f64 = 8.0 * 1514.0 / 1448.0 / 100e6;

/// All figures of a round; `None` if this machine lets nobody build namespaces.
pub(crate) fn run(scenario: Scenario, round: usize, seconds: u64) -> Option<Vec<Figures>> {
    let lab = Lab::open("peers")?;
    let field = Field::start(&lab, if round.is_multiple_of(2) { ["cli0", "cli1"] } else { ["cli1", "cli0"] });
    field.settle(&lab);
    let traffic = scenario.start(&lab);
    let since = Instant::now();
    let before = field.cpu_ns();
    std::thread::sleep(WARM_UP);
    let spent: Vec<u64> = field.cpu_ns().iter().zip(before).map(|(after, before)| after - before).collect();
    let cpu_s_per_min = spent.iter().map(|ns| per_minute(*ns, since.elapsed())).collect::<Vec<_>>();
    let measured = field.measure(Duration::from_secs(seconds));
    let offered_percent = offered_percent(scenario, &traffic, since.elapsed());
    let faults = field.master.faults() + field.ptp4l.faults();
    if faults > 0 {
        eprintln!("peers: a port of ptp4l broke down {faults} times: its figures say little");
    }
    let memory = field.processes().map(|(_, process)| peak_rss_kib(process));
    let finish = |(index, measured): (usize, Measured)| Figures {
        scenario,
        contestant: measured.contestant,
        error_ns: Spread::of(&measured.errors),
        half_width_ns: measured.width,
        reads: measured.reads,
        violations: measured.violations,
        cpu_s_per_min: cpu_s_per_min[index],
        peak_rss_kib: memory[index],
        offered_percent,
        rounds: 1,
    };
    Some(measured.into_iter().enumerate().map(finish).collect())
}

/// Everybody who runs.
struct Field {
    _server: Chrony,
    master: Ptp4l,
    /// At 1/s and 64/s by NTP, and by PTP.
    ours: [Ours; 3],
    /// At 1/s and 64/s.
    chrony: [Chrony; 2],
    clock: VirtualClock,
    ptp4l: Ptp4l,
}

struct Ours {
    contestant: Contestant,
    agent: Agent,
    source: &'static str,
    checker: Checker,
}

/// One contestant's part of a round.
struct Measured {
    contestant: Contestant,
    errors: Samples,
    width: Option<Width>,
    reads: u64,
    violations: u64,
}

impl Field {
    fn start(lab: &Lab, [our_host, their_host]: [&str; 2]) -> Field {
        let server = Chrony::serve(lab, "srv0");
        let master = Ptp4l::start(lab, "srv0", &Options::master(Transport::Udp4));
        let start_ours = |contestant, name, source, config: String| {
            let agent = Agent::start(lab, our_host, name, &config);
            let checker = Checker::start(agent.page());
            Ours { contestant, agent, source, checker }
        };
        let ntp = |interval| following_every(interval, &[("s0", SERVER)], OURS);
        let ours = [
            start_ours(Contestant::Truebound1, "ours-1", "s0", ntp("1s")),
            start_ours(Contestant::Truebound64, "ours-64", "s0", ntp("15.625ms")),
            start_ours(Contestant::TrueboundPtp, "ours-ptp", GRANDMASTER, following_ptp(Transport::Udp4)),
        ];
        let chrony = [("chronyd-1", CHRONY_1), ("chronyd-64", CHRONY_64)]
            .map(|(name, options)| Chrony::follow_as(lab, their_host, name, SERVER, options));
        let clock = VirtualClock::new(lab, their_host, Oscillator::shifted(200_000));
        let options = Options { servo: Servo::Default, ..Options::slave(Transport::Udp4, &clock) };
        let ptp4l = Ptp4l::start(lab, their_host, &options);
        Field { _server: server, master, ours, chrony, clock, ptp4l }
    }

    fn settle(&self, lab: &Lab) {
        for chrony in &self.chrony {
            lab.wait("chronyd selects its server", PATIENCE, || chrony.follows(SERVER));
        }
        for ours in &self.ours {
            let is_locked = || ours.agent.status().is_some_and(|now| now.status == "locked");
            lab.wait("ours is locked", PATIENCE, is_locked);
        }
        let is_close = || self.clock.error_ns().is_some_and(|ns| ns.abs() < CLOSE_NS);
        lab.wait("ptp4l steers", PATIENCE, || is_close() && self.ptp4l.state() == "SLAVE");
    }

    /// In the order of [`Field::measure`].
    fn processes(&self) -> [(Contestant, &Process); 6] {
        let [one, many, ptp] = &self.ours;
        [
            (one.contestant, one.agent.process()),
            (many.contestant, many.agent.process()),
            (ptp.contestant, ptp.agent.process()),
            (Contestant::Chrony1, self.chrony[0].process()),
            (Contestant::Chrony64, self.chrony[1].process()),
            (Contestant::Ptp4l, self.ptp4l.process()),
        ]
    }

    fn cpu_ns(&self) -> [u64; 6] {
        self.processes().map(|(_, process)| cpu_ns(process))
    }

    fn measure(&self, duration: Duration) -> Vec<Measured> {
        let readers: Vec<Reader> =
            self.ours.iter().map(|ours| Reader::open(ours.agent.page()).expect("it is locked")).collect();
        let start_up: Vec<Tally> = self.ours.iter().map(|ours| ours.checker.take()).collect();
        let mut ours = [(); 3].map(|()| Samples::default());
        let mut theirs = [(); 3].map(|()| Samples::default());
        let mut distances = [(); 2].map(|()| Samples::default());
        every(SAMPLING, duration, || {
            for (reader, errors) in readers.iter().zip(&mut ours) {
                let error_ns = (0..ATTEMPTS).find_map(|_| estimate_error_ns(reader));
                error_ns.into_iter().for_each(|ns| errors.push(ns.abs()));
            }
            for (index, chrony) in self.chrony.iter().enumerate() {
                let tracking = chrony.tracking().expect("chronyd answers");
                theirs[index].push(tracking.error_ns.abs());
                distances[index].push(tracking.root_distance_ns());
            }
            theirs[2].push(self.clock.error_ns().expect("it runs").abs());
        });
        let of_ours =
            self.ours.iter().zip(ours).zip(&start_up).map(|((ours, errors), tally)| ours.finish(errors, tally));
        let widths = distances.map(|said| Some(Width { said: Spread::of(&said), claim: 0 })).into_iter().chain([None]);
        let names = [Contestant::Chrony1, Contestant::Chrony64, Contestant::Ptp4l];
        let of_theirs = names.into_iter().zip(theirs).zip(widths).map(|((contestant, errors), width)| Measured {
            contestant,
            errors,
            width,
            reads: 0,
            violations: 0,
        });
        of_ours.chain(of_theirs).collect()
    }
}

impl Ours {
    /// Reads and violations are all since the start, widths are those of the measurement.
    fn finish(&self, errors: Samples, start_up: &Tally) -> Measured {
        let tally = self.checker.take();
        let claim = self.agent.source(self.source, "claim_ns").as_i64().expect("a source that answers has a claim");
        Measured {
            contestant: self.contestant,
            errors,
            width: Some(Width { said: Spread::of(&tally.half_widths), claim }),
            reads: start_up.reads + tally.reads,
            violations: start_up.all_violations() + tally.all_violations(),
        }
    }
}

/// Time on a processor so far, of all threads.
fn cpu_ns(process: &Process) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).into_iter().flatten().flatten();
    let spent = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(spent).sum()
}

fn per_minute(ns: u64, elapsed: Duration) -> f64 {
    60.0 * Duration::from_nanos(ns).as_secs_f64() / elapsed.as_secs_f64()
}

fn peak_rss_kib(process: &Process) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Of the hop, one way.
fn offered_percent(scenario: Scenario, traffic: &[Traffic], elapsed: Duration) -> f64 {
    let each_s = if scenario == Scenario::Bulk { FLOW_BYTE_S } else { FRAME_S };
    let sent = |traffic: &Traffic| to_f64(i64::try_from(traffic.sent()).unwrap_or(i64::MAX));
    traffic.first().map_or(0.0, |traffic| 100.0 * sent(traffic) * each_s / elapsed.as_secs_f64())
}
