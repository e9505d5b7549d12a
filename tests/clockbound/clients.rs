//! ClockBound's own clients, unmodified, each in a process of its own, and what their judges wrote down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use truebound_core::units::to_i64;

use crate::netns::lab::{Lab, Process, output_of};
use crate::netns::place::truebound;
use crate::netns::stats::Samples;

/// Well over 1000 reads a second.
pub(crate) const BUSY: Duration = Duration::from_micros(400);
/// Where nobody has a hypervisor's page.
pub(crate) const NO_VMCLOCK: &str = "/nonexistent/vmclock0";

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// clock-bound-client 2.0.3.
    Rust2,
    /// clock-bound-ffi 2.0.3, from C.
    C2,
    /// clock-bound 3.0.0-rc.0.
    Rust3,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Rust2, Kind::C2, Kind::Rust3];

    fn segment(self) -> &'static str {
        match self {
            Kind::Rust2 | Kind::C2 => "shm0",
            Kind::Rust3 => "shm1",
        }
    }

    fn program(self) -> PathBuf {
        let built = built();
        match self {
            Kind::Rust2 => built.join("cb2"),
            Kind::Rust3 => built.join("cb3"),
            Kind::C2 => built.join("client2"),
        }
    }
}

/// One stretch of reads with one status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from_ns: i64,
    pub(crate) to_ns: i64,
    pub(crate) status: String,
    pub(crate) reads: u64,
    pub(crate) violations: u64,
    pub(crate) miss_ns: i64,
    pub(crate) half_ns: i64,
    pub(crate) widest_ns: i64,
}

impl Stretch {
    /// Its interval may be used, says the client.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.status.as_str(), "synchronized" | "free-running")
    }
}

/// A running client.
pub(crate) struct Client {
    pub(crate) kind: Kind,
    name: String,
    log: PathBuf,
    process: Process,
}

impl Client {
    /// Reads the segment in `directory`, pausing so long between reads.
    pub(crate) fn start(lab: &Lab, kind: Kind, name: &str, directory: &Path, pause: Duration) -> Client {
        Client::start_under(lab, kind, name, directory, pause, NO_VMCLOCK, &[])
    }

    /// The same beside a hypervisor's page, with variables (`NAME=value`) in its environment.
    pub(crate) fn start_under(
        lab: &Lab,
        kind: Kind,
        name: &str,
        directory: &Path,
        pause: Duration,
        vmclock: &str,
        environment: &[String],
    ) -> Client {
        let program = kind.program().display().to_string();
        let segment = directory.join(kind.segment()).display().to_string();
        let (pause_us, offset_s) = (pause.as_micros().to_string(), tai_offset_s().to_string());
        let mut args: Vec<&str> = environment.iter().map(String::as_str).collect();
        args.extend([program.as_str(), &segment, vmclock, &pause_us, &offset_s]);
        let name = format!("{name}-{kind:?}");
        let process = lab.start("sink", &name, "env".as_ref(), &args);
        Client { kind, log: lab.log_of(&name), name, process }
    }

    /// All that its judge wrote so far.
    pub(crate) fn stretches(&self) -> Vec<Stretch> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| stretch(&serde_json::from_str(line).ok()?)).collect()
    }

    pub(crate) fn last(&self) -> Option<Stretch> {
        self.stretches().pop()
    }

    /// Waits until its newest stretch has this status; fails at once if it ends.
    #[track_caller]
    pub(crate) fn expect(&mut self, lab: &Lab, status: &str, limit: Duration) {
        let what = format!("{} reads {status}", self.name);
        lab.wait(&what, limit, || {
            self.process.expect_running();
            self.last().is_some_and(|last| last.status == status)
        });
    }

    /// What it read since true time `since_ns`.
    pub(crate) fn tally(&self, since_ns: i64) -> Tally {
        let mut tally = Tally { name: self.name.clone(), ..Tally::default() };
        self.stretches().iter().filter(|stretch| stretch.from_ns >= since_ns).for_each(|stretch| tally.add(stretch));
        tally
    }
}

/// Sums over stretches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    name: String,
    pub(crate) reads: u64,
    pub(crate) synchronized: u64,
    pub(crate) free_running: u64,
    /// With a status that lets the interval be used.
    pub(crate) violations: u64,
    miss_ns: i64,
    pub(crate) half_widths: Samples,
    widest_ns: i64,
}

impl Tally {
    fn add(&mut self, stretch: &Stretch) {
        self.reads += stretch.reads;
        match stretch.status.as_str() {
            "synchronized" => self.synchronized += stretch.reads,
            "free-running" => self.free_running += stretch.reads,
            _ => return,
        }
        self.violations += stretch.violations;
        self.miss_ns = self.miss_ns.max(stretch.miss_ns);
        self.half_widths.push(stretch.half_ns);
        self.widest_ns = self.widest_ns.max(stretch.widest_ns);
    }

    /// Says what was read, and fails the test if a usable interval missed true time, or there was none.
    #[track_caller]
    pub(crate) fn expect_unbroken(&self) {
        let Tally { name, reads, synchronized, free_running, violations, miss_ns, half_widths, widest_ns } = self;
        println!(
            "{name}: {reads} reads, {synchronized} synchronized, {free_running} free-running, {violations} violations, \
             half-width median {} ns, widest {widest_ns} ns",
            half_widths.median()
        );
        assert!(synchronized + free_running > 0, "{name} never had an interval");
        assert_eq!(*violations, 0, "{name} missed true time, by {miss_ns} ns at worst");
    }
}

fn stretch(line: &Value) -> Option<Stretch> {
    let number = |key: &str| line[key].as_i64();
    Some(Stretch {
        from_ns: number("from_ns")?,
        to_ns: number("to_ns")?,
        status: line["status"].as_str()?.to_owned(),
        reads: line["reads"].as_u64()?,
        violations: line["violations"].as_u64()?,
        miss_ns: number("miss_ns")?,
        half_ns: number("half_ns")?,
        widest_ns: number("widest_ns")?,
    })
}

/// CLOCK_TAI − CLOCK_REALTIME of this kernel, s: whatever it was told, 0 by default.
fn tai_offset_s() -> i64 {
    let read = |clock| clock_gettime(clock).map(Duration::from).expect("every Linux has both").as_secs_f64();
    to_i64((read(ClockId::CLOCK_TAI) - read(ClockId::CLOCK_REALTIME)).round())
}

/// Builds the clients once, beside the agent: the Rust ones and the C library by cargo, the C one by cc.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(truebound()).parent().expect("a file is in a directory");
        let target = dir.parent().expect("cargo builds in target/PROFILE");
        let mut build = cargo("build");
        build.args(["--quiet", "-p", "clockbound-clients", "-p", "clock-bound-ffi", "--target-dir"]).arg(target);
        if dir.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs this").success(), "the clients do not compile");
        let (source, header) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clockbound/client2.c"), header_dir());
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(dir.join("client2"))
            .arg(source)
            .arg("-I")
            .arg(header);
        cc.arg(dir.join("libclockbound.a")).args(["-lpthread", "-ldl", "-lm"]);
        assert!(cc.status().expect("whoever linked this test has a cc").success(), "{source} does not compile");
        dir.to_owned()
    })
}

/// Where clockbound.h is.
fn header_dir() -> PathBuf {
    let facts = output_of(cargo("metadata").args(["--format-version", "1"])).expect("cargo knows its packages");
    let facts: Value = serde_json::from_str(&facts).expect("cargo prints JSON");
    let packages = facts["packages"].as_array().expect("a list");
    let ffi = packages.iter().find(|package| package["name"] == "clock-bound-ffi").expect("a dependency");
    let manifest = Path::new(ffi["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a file is in a directory").join("include")
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg(command);
    cargo
}
