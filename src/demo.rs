//! `truebound demo`: the whole product on loopback, without root, against a truth that is known.
//!
//! Servers are agents of their own whose local clock is the root: true time is raw time plus a constant, and the
//! constant stands on their page. The agent under test runs on a virtual clock with a frequency error and wander at the
//! limit of its class, and a third process reads its page through the real client and compares with truth.

mod check;
mod forward;
mod view;

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::net::UdpSocket;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) use check::check;

use crate::cli::{DemoArgs, DemoFault, DemoWorld};
use crate::commands::{AnyReader, Failure, ask};
use crate::log;
use crate::recorder::Ns;
use check::invert;

/// How often the live view is painted.
const FRAME: Duration = Duration::from_millis(250);
/// How long the parts may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The edge world's servers claim this and lean by almost all of it, ns.
const EDGE_CLAIM_NS: i64 = 10_000_000;
const EDGE_LEAN_NS: i64 = 9_950_000;
/// The lying server is off by this and claims a microsecond, ns.
const LIE_NS: i64 = 500_000;

/// What one server is told to be.
struct ServerPlan {
    shift_ns: i64,
    error_ns: i64,
    /// Requests reach it this much later than they might; answers do not.
    request_delay: Option<Duration>,
}

/// A directory that goes away.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that goes away.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the demonstration. True if there was a bound and no violation.
pub(crate) fn run(args: &DemoArgs) -> Result<bool, Failure> {
    let scratch = Scratch(scratch_dir()?);
    let plans = server_plans(args);
    let mut parts = Vec::new();
    let mut addresses = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        let (part, address) = start_server(&scratch.0, index, plan)?;
        parts.push(part);
        addresses.push(match plan.request_delay {
            Some(delay) => forward::start(&address, delay).map_err(|error| format!("forwarder: {error}"))?,
            None => address,
        });
    }
    let truth_page = scratch.0.join("server0/bound");
    wait_until("the servers", || AnyReader::open(&truth_page).is_ok_and(|reader| reader.now().is_ok()))?;
    let checker = start_checker(&scratch.0, args, &plans[0])?;
    parts.push(start_agent(&scratch.0, args, &addresses)?);
    watch(args, &scratch.0, checker, plans[0].shift_ns)
}

fn scratch_dir() -> Result<PathBuf, Failure> {
    let [a, b, c, d, ..] = crate::random_seed().map_err(|error| format!("/dev/urandom: {error}"))?;
    let random = u32::from_ne_bytes([a, b, c, d]);
    let dir = std::env::temp_dir().join(format!("truebound-demo-{}-{random:08x}", std::process::id()));
    // Of this user alone, and nobody's before: the directory above is everybody's.
    fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(dir)
}

fn server_plans(args: &DemoArgs) -> Vec<ServerPlan> {
    if args.fault == Some(DemoFault::LyingServer) {
        return vec![ServerPlan { shift_ns: LIE_NS, error_ns: 1_000, request_delay: None }];
    }
    match args.world {
        DemoWorld::Fair => {
            let fair = || ServerPlan { shift_ns: 0, error_ns: 20_000, request_delay: None };
            vec![fair(), fair(), fair()]
        }
        DemoWorld::Edge => {
            let request_delay = Some(Duration::from_millis(10));
            vec![ServerPlan { shift_ns: EDGE_LEAN_NS, error_ns: EDGE_CLAIM_NS, request_delay }]
        }
    }
}

fn start_server(scratch: &Path, index: usize, plan: &ServerPlan) -> Result<(Part, String), Failure> {
    let ip = format!("127.0.0.{}", 11 + index);
    // The port is free now; nobody else asks for it in the moment until the server has it.
    let probe = UdpSocket::bind((ip.as_str(), 0)).map_err(|error| format!("{ip}: {error}"))?;
    let port = probe.local_addr().map_err(|error| format!("{ip}: {error}"))?.port();
    drop(probe);
    let address = format!("{ip}:{port}");
    let config = format!(
        "[clock]\noscillator = \"xo\"\n\n[[source]]\nlocal = true\nshift = \"{}ns\"\nerror = \"{}ns\"\n\n[server]\nenabled = true\nlisten = [\"{address}\"]\nallow = [\"127.0.0.0/8\"]\n",
        plan.shift_ns, plan.error_ns
    );
    Ok((start(scratch, &format!("server{index}"), &config, &[])?, address))
}

fn start_agent(scratch: &Path, args: &DemoArgs, addresses: &[String]) -> Result<Part, Failure> {
    let mut config = format!(
        "[clock]\ndiscipline = \"virtual\"\n\n[virtual]\noffset = \"200us\"\nfreq = \"10ppm\"\nwander = \"0.3ppm\"\nperiod = \"97s\"\nseed = {}\n",
        args.seed
    );
    for address in addresses {
        config += &format!(
            "\n[[source]]\nserver = \"{address}\"\npoll-min = \"125ms\"\npoll-max = \"125ms\"\nagent = true\n"
        );
    }
    let seed = args.seed.to_string();
    start(scratch, "agent", &config, &["--seed", &seed])
}

/// Starts `truebound run` with a configuration of its own; its log goes beside it.
fn start(scratch: &Path, name: &str, config: &str, more: &[&str]) -> Result<Part, Failure> {
    let (dir, file) = (scratch.join(name), scratch.join(format!("{name}.toml")));
    let explain = |error: std::io::Error| format!("{name}: {error}");
    fs::write(&file, config).map_err(explain)?;
    let log = fs::File::create(scratch.join(format!("{name}.log"))).map_err(explain)?;
    let mut command = own_command()?;
    command.args(["run", "--config"]).arg(file).arg("--runtime-dir").arg(dir).args(more);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(explain)?;
    Ok(Part(child))
}

fn own_command() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe().map_err(|error| error.to_string())?))
}

fn start_checker(scratch: &Path, args: &DemoArgs, root: &ServerPlan) -> Result<Part, Failure> {
    let believe = if args.fault == Some(DemoFault::HalfWidth) { 1 } else { 100 };
    let mut command = own_command()?;
    command.arg("check").arg("--page").arg(scratch.join("agent/bound"));
    command.arg("--truth").arg(scratch.join("server0/bound"));
    command.args(["--shift-ns", &root.shift_ns.to_string(), "--claim-ns", &root.error_ns.to_string()]);
    command.args(["--believe-percent", &believe.to_string()]);
    command.args(["--duration-ns", &args.duration.to_string()]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    child.map(Part).map_err(|error| format!("checker: {error}"))
}

fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > deadline {
            return Err(format!("{what} did not come up within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Paints until the checker is done, then sums up.
fn watch(args: &DemoArgs, scratch: &Path, mut checker: Part, shift_ns: i64) -> Result<bool, Failure> {
    let lines = lines_of(&mut checker)?;
    let mut clock_error = Ns::new();
    let mut status = Value::Null;
    let mut view = view::View::new(!args.json, std::io::stdout().is_terminal());
    let deadline = Instant::now() + Duration::from_nanos(args.duration.unsigned_abs()) + PATIENCE;
    let last = loop {
        match lines.recv_timeout(FRAME) {
            Ok(line) if line["final"] == true => break line,
            Ok(line) => {
                if let Ok(now) = ask(&scratch.join("agent"), &json!({ "command": "status" })) {
                    clock_error_now(scratch, &now, shift_ns).into_iter().for_each(|ns| clock_error.record(ns));
                    status = now;
                }
                view.paint(&line, &status);
            }
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => return Err(format!("the checker ended early; {}", logs(scratch))),
        }
    };
    let summary = summary(args, &last, &status, &clock_error);
    if args.json {
        log::print(summary);
    } else {
        view.sum_up(&summary, &last);
    }
    Ok(last["violations"] == 0 && last["reads"].as_u64().unwrap_or(0) > 0)
}

fn lines_of(checker: &mut Part) -> Result<mpsc::Receiver<Value>, Failure> {
    let output = checker.0.stdout.take().ok_or("the checker has no output")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let Ok(value) = serde_json::from_str(&line) else { continue };
            if sender.send(value).is_err() {
                break;
            }
        }
    });
    Ok(lines)
}

/// How far the disciplined clock was from truth when the agent was asked, ns.
fn clock_error_now(scratch: &Path, status: &Value, shift_ns: i64) -> Option<i64> {
    let (raw_ns, offset_ns) = (status["raw_ns"].as_i64()?, status["disciplined_minus_raw_ns"].as_i64()?);
    let agent = AnyReader::open(&scratch.join("agent/bound")).ok()?;
    let truth = AnyReader::open(&scratch.join("server0/bound")).ok()?.publication()?;
    let true_theta = truth.bound.theta_lo_ns.midpoint(truth.bound.theta_hi_ns) - shift_ns;
    let kernel_raw_ns = invert(&agent, raw_ns);
    Some(raw_ns + offset_ns - (kernel_raw_ns + true_theta))
}

fn summary(args: &DemoArgs, last: &Value, status: &Value, clock_error: &Ns) -> Value {
    json!({
        "reads": last["reads"],
        "violations": last["violations"],
        "error_ns": last["error_ns"],
        "half_width_ns": last["half_width_ns"],
        "clock_error_ns": clock_error.to_json(),
        "edge_distance_percent": last["edge_distance_percent"],
        "freq_error_ppm": status["freq_error_ppm"],
        "freq_bound_ppm": status["freq_bound_ppm"],
        "first_bound_ms": last["first_bound_ms"],
        "unavailable": last["unavailable"],
        "world": format!("{:?}", args.world).to_lowercase(),
        "seed": args.seed,
    })
}

fn logs(scratch: &Path) -> String {
    let read = |name: &str| fs::read_to_string(scratch.join(name)).unwrap_or_default();
    format!("the agent said:\n{}", read("agent.log"))
}
