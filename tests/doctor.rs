//! `truebound doctor` on hosts of which everything is known: network namespaces of the tests' own, with and without
//! privileges, beside other daemons, and beside agents that say what a test wants them to say.
//!
//! What the machine below is like (its clocksource, daemons elsewhere on it) is not the tests' business: the overall
//! verdict is compared with the findings, and the findings of interest with what was built.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod scratch;

use scratch::Scratch;

const TRUEBOUND: &str = env!("CARGO_BIN_EXE_truebound");
/// How long a daemon may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);
const WITH_LOOPBACK: &str = "ip link set lo up\n";
/// With both ends up: the kernel takes note of a carrier when it finds the time.
const WITH_VETH: &str = "ip link set lo up
ip link add tbd0 type veth peer name tbd1
ip link set tbd0 up
ip link set tbd1 up
for end in tbd0 tbd1; do for i in $(seq 5000); do ! ip link show $end | grep -q 'state UP' || break; done; done
";
const UNPLUGGED: &str = "ip link set tbd1 down
for i in $(seq 5000); do ip link show tbd0 | grep -q 'state UP' || break; done
";

/// A child that goes away.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A network namespace of its own, in a user namespace unless we are root; it ends with its last process.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--net");
    command
}

/// `script`, then the program with its arguments, in a namespace of its own.
fn namespace(script: &str) -> Command {
    let mut command = unshare();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.args(["sh", "-c", &format!("set -e\n{script}exec \"$@\""), "sh"]);
    command
}

/// Says so and gives true where namespaces cannot be built.
fn skips(test: &str) -> bool {
    let works = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !works {
        println!("skipped: {test}: network namespaces need root or unprivileged user namespaces");
    }
    !works
}

/// An agent's directory in which none runs.
const NO_AGENT: [&str; 3] = ["--json", "--runtime-dir", "/nonexistent"];

fn diagnosis(output: &Output) -> Value {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    let worst = findings(&value).map(|finding| severity(&finding["verdict"])).max().expect("findings");
    let verdict = ["ready", "ready", "degraded", "unable"][worst];
    assert_eq!(value["verdict"], verdict, "{value:#}");
    assert_eq!(output.status.code(), Some(if verdict == "unable" { 1 } else { 0 }));
    for finding in findings(&value) {
        assert!(severity(&finding["verdict"]) < 2 || finding["fix"].is_string(), "without a fix: {finding:#}");
    }
    value
}

fn findings(diagnosis: &Value) -> impl Iterator<Item = &Value> {
    diagnosis["findings"].as_array().into_iter().flatten()
}

fn severity(verdict: &Value) -> usize {
    let known = ["ok", "note", "missing", "problem"];
    known.iter().position(|word| verdict == word).unwrap_or_else(|| panic!("{verdict} is no verdict"))
}

/// The only finding of this check.
#[track_caller]
fn finding<'a>(diagnosis: &'a Value, check: &str) -> &'a Value {
    let mut found = findings(diagnosis).filter(|finding| finding["check"] == check);
    let first = found.next().unwrap_or_else(|| panic!("no {check} in {diagnosis:#}"));
    assert!(found.next().is_none(), "{check} twice in {diagnosis:#}");
    first
}

/// The worst of what is of this namespace and process, as the machine below has no part in it.
fn worst_here(diagnosis: &Value) -> usize {
    let of_machine = ["clocksource", "vmclock", "daemons", "phc"];
    let here = findings(diagnosis).filter(|finding| !of_machine.iter().any(|check| finding["check"] == *check));
    here.map(|finding| severity(&finding["verdict"])).max().unwrap_or(0)
}

/// The program under another name, where everybody may run it.
fn program(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.0.join(name);
    std::fs::copy(TRUEBOUND, &path).expect("a copy");
    path
}

#[test]
fn on_lo_everything_that_lo_can_do_is_used() {
    if skips("on_lo_everything_that_lo_can_do_is_used") {
        return;
    }
    let output = namespace(WITH_LOOPBACK).args([TRUEBOUND, "doctor", "lo"]).args(NO_AGENT).output().expect("it runs");
    let value = diagnosis(&output);
    let [lo] = &value["interfaces"].as_array().expect("a list")[..] else { panic!("{value:#}") };
    assert_eq!((&lo["name"], &lo["kind"], &lo["stamps"]), (&json!("lo"), &json!("loopback"), &json!("kernel")));
    assert_eq!((&lo["phc"], &lo["would_use"]), (&Value::Null, &json!("kernel stamps")));
    assert_eq!(finding(&value, "kernel-stamps")["verdict"], "ok");
    assert_eq!(finding(&value, "ports")["verdict"], "ok");
    assert_eq!(finding(&value, "low-ports")["verdict"], "ok");
    assert_eq!(worst_here(&value), 1, "notes only: {value:#}");
}

#[test]
fn a_veth_is_found_by_itself_and_its_link_is_watched() {
    if skips("a_veth_is_found_by_itself_and_its_link_is_watched") {
        return;
    }
    let doctor = |script: &str| {
        let output = namespace(script).args([TRUEBOUND, "doctor"]).args(NO_AGENT).output().expect("it runs");
        diagnosis(&output)
    };
    let value = doctor(WITH_VETH);
    let names: Vec<&Value> = value["interfaces"].as_array().into_iter().flatten().map(|nic| &nic["name"]).collect();
    assert_eq!(names, ["tbd0", "tbd1"], "all that are up, without lo");
    let veth = &value["interfaces"][0];
    assert_eq!((&veth["kind"], &veth["driver"], &veth["stamps"]), (&json!("veth"), &json!("veth"), &json!("kernel")));
    assert_eq!(worst_here(&value), 1, "{value:#}");

    let unplugged = doctor(&format!("{WITH_VETH}{UNPLUGGED}"));
    let link = finding(&unplugged, "link");
    assert_eq!((&link["interface"], &link["verdict"]), (&json!("tbd0"), &json!("missing")), "{unplugged:#}");
    assert!(link["says"].as_str().is_some_and(|says| says.contains("without a carrier")));
}

#[test]
fn a_host_without_an_interface_is_unable_and_an_absent_one_is_a_problem() {
    if skips("a_host_without_an_interface_is_unable_and_an_absent_one_is_a_problem") {
        return;
    }
    for interface in [None, Some("tb-absent")] {
        let mut command = namespace("");
        command.args([TRUEBOUND, "doctor"]).args(interface).args(NO_AGENT);
        let value = diagnosis(&command.output().expect("it runs"));
        assert_eq!(value["verdict"], "unable");
        assert_eq!(finding(&value, "interface")["interface"], json!(interface));
        // lo is down here: nothing can be said of the kernel's stamps, and that is said.
        let stamps = finding(&value, "kernel-stamps");
        assert_eq!((&stamps["verdict"], &stamps["fix"]), (&json!("note"), &json!("ip link set lo up")), "{value:#}");
    }
}

#[test]
fn without_privileges_what_is_hindered_is_named_with_its_fix() {
    if skips("without_privileges_what_is_hindered_is_named_with_its_fix") {
        return;
    }
    let scratch = Scratch::new("nobody");
    let nobody: &[&str] = if is_root() {
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        &["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    };
    let mut command = namespace(WITH_LOOPBACK);
    command.args(nobody).arg(program(&scratch, "truebound")).args(["doctor", "lo"]).args(NO_AGENT);
    let value = diagnosis(&command.output().expect("it runs"));
    assert_eq!(value["verdict"], "degraded");
    let ports = finding(&value, "low-ports");
    assert_eq!(ports["verdict"], "missing");
    assert!(ports["fix"].as_str().is_some_and(|fix| fix.contains("CAP_NET_BIND_SERVICE")), "{ports:#}");
    assert_eq!(finding(&value, "cap-net-raw")["verdict"], "note");
    assert_eq!(finding(&value, "cap-net-admin")["verdict"], "ok", "no NIC here stamps");
    // What needs no privilege is looked at all the same.
    assert_eq!(value["interfaces"][0]["stamps"], "kernel");
    assert_eq!(finding(&value, "step-watch")["verdict"], "ok");
}

/// A daemon in a namespace of its own.
fn start_alone(command: &[&str]) -> Process {
    let child = namespace(WITH_LOOPBACK).args(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Process(child.expect("unshare works"))
}

/// Asks the doctor inside the namespace of `process` until the answer pleases.
fn until_beside(process: &mut Process, is_good: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", process.0.id())).arg("--net");
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let output = command.args([TRUEBOUND, "doctor", "lo"]).args(NO_AGENT).output().expect("nsenter runs");
        // The namespace may still be our own: nothing of it is looked at until the answer pleases.
        match serde_json::from_slice(&output.stdout) {
            Ok(value) if is_good(&value) => return diagnosis(&output),
            other => {
                let ended = process.0.try_wait().expect("our own child");
                assert!(ended.is_none() && Instant::now() < deadline, "{ended:?} {other:?}");
            }
        }
        std::thread::yield_now();
    }
}

fn says(diagnosis: &Value, check: &str, text: &str) -> bool {
    findings(diagnosis)
        .any(|finding| finding["check"] == check && finding["says"].as_str().is_some_and(|says| says.contains(text)))
}

/// `process` is a chronyd that answers on port 123.
fn assert_is_told_of_chronyd(process: &mut Process) {
    let pid = process.0.id();
    let by_chronyd = format!("is bound by chronyd (pid {pid})");
    let value = until_beside(process, |value| says(value, "ports", &by_chronyd));
    assert_eq!(value["verdict"], "degraded");
    let steers = format!("chronyd (pid {pid}) steers CLOCK_REALTIME");
    for finding in findings(&value) {
        let text = finding["says"].as_str().expect("a text");
        let fix = finding["fix"].as_str().unwrap_or_default();
        if text == steers {
            // In our namespace, and welcome to go on.
            assert!(finding["verdict"] == "note" && fix.contains("it may go on"), "{finding:#}");
        } else if text.ends_with(&by_chronyd) {
            assert!(finding["verdict"] == "missing" && fix.contains("stop chronyd"), "{finding:#}");
        }
    }
    assert!(says(&value, "daemons", &steers), "{value:#}");
    assert_eq!(worst_here(&value), 2);
}

#[test]
fn whatever_is_called_chronyd_and_has_its_port_is_a_rival() {
    if skips("whatever_is_called_chronyd_and_has_its_port_is_a_rival") {
        return;
    }
    let scratch = Scratch::new("rival");
    // Port 123 of a daemon of that name, for machines where chrony cannot be had.
    let config = scratch.write(
        "rival.toml",
        "[[source]]\nlocal = true\n[server]\nenabled = true\nlisten = [\"0.0.0.0:123\"]\nallow = [\"all\"]\n",
    );
    let (program, dir) = (program(&scratch, "chronyd"), scratch.0.join("run"));
    let [program, config, dir] = [&program, &config, &dir].map(|path| path.to_str().expect("a plain path"));
    assert_is_told_of_chronyd(&mut start_alone(&[program, "run", "--config", config, "--runtime-dir", dir]));
}

#[test]
fn chronyd_itself_is_a_rival() {
    const TEST: &str = "chronyd_itself_is_a_rival";
    if skips(TEST) {
        return;
    }
    let Some(program) = chronyd() else {
        println!("skipped: {TEST}: there is no chronyd, or TRUEBOUND_NETNS=skip");
        return;
    };
    let scratch = Scratch::new("chronyd");
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o700)).expect("ours");
    let at = |file: &str| scratch.0.join(file).display().to_string();
    let config = format!(
        "local stratum 1\nallow all\nuser root\ncmdport 0\nbindcmdaddress {}\npidfile {}\n",
        at("chronyd.sock"),
        at("pid")
    );
    scratch.write("chrony.conf", &config);
    let program = program.to_str().expect("a plain path");
    assert_is_told_of_chronyd(&mut start_alone(&[program, "-x", "-d", "-f", &at("chrony.conf")]));
}

/// Debian's, unpacked by tools/netns.
fn chronyd() -> Option<PathBuf> {
    if std::env::var("TRUEBOUND_NETNS").is_ok_and(|mode| mode == "skip") {
        return None;
    }
    let unpack = || {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/netns");
        let output = Command::new(tool).arg("peers").output().ok().filter(|output| output.status.success())?;
        Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    };
    let peers = std::env::var_os("TRUEBOUND_PEERS").map(PathBuf::from).or_else(unpack)?;
    Some(peers.join("chronyd")).filter(|program| program.exists())
}

/// An agent that answers every request with this status; its directory.
fn agent_that_says(scratch: &Scratch, status: Value) -> PathBuf {
    let listener = UnixListener::bind(scratch.0.join("control")).expect("a socket");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = writeln!(stream, "{}", json!({ "ok": status }));
        }
    });
    scratch.0.clone()
}

fn ask_beside(dir: &Path) -> Value {
    let output = Command::new(TRUEBOUND).args(["doctor", "lo", "--json", "--runtime-dir"]).arg(dir).output();
    diagnosis(&output.expect("it runs"))
}

#[test]
fn a_boundary_clock_upstream_that_cannot_vote_is_told_with_the_fix() {
    let scratch = Scratch::new("boundary");
    let port = json!({
        "name": "gm", "interface": "lo", "state": "slave", "steps_removed": 1, "stamps": "kernel", "vote": "asserted",
        "why": "a boundary clock is on the way",
    });
    let status = json!({ "status": "free-running", "meaning": "m", "half_width_ns": null, "ptp": [port] });
    let value = ask_beside(&agent_that_says(&scratch, status));
    let told = finding(&value, "ptp-port");
    assert_eq!((&told["interface"], &told["verdict"]), (&json!("lo"), &json!("missing")));
    assert!(told["says"].as_str().is_some_and(|says| says.contains("1 boundary clock(s)")), "{told:#}");
    assert!(told["fix"].as_str().is_some_and(|fix| fix.contains("hop-error")), "{told:#}");
    assert_eq!(finding(&value, "agent")["verdict"], "missing", "it has no bound");
}

#[test]
fn an_agent_with_a_bound_is_well() {
    let scratch = Scratch::new("agent");
    let config = scratch.write("agent.toml", "clock.oscillator = \"xo\"\n[[source]]\nlocal = true\n");
    let dir = scratch.0.join("run");
    let mut command = Command::new(TRUEBOUND);
    command.arg("run").arg("--config").arg(config).arg("--runtime-dir").arg(&dir).stderr(Stdio::null());
    let _agent = Process(command.spawn().expect("the agent starts"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = ask_beside(&dir);
        let told = finding(&value, "agent");
        if told["verdict"] == "ok" {
            assert!(told["says"].as_str().is_some_and(|says| says.starts_with("locked")), "{told:#}");
            return;
        }
        assert!(Instant::now() < deadline, "{told:#}");
        std::thread::yield_now();
    }
}

#[test]
fn people_read_aligned_lines_without_colours_in_a_pipe() {
    let output = Command::new(TRUEBOUND).args(["doctor", "lo", "--runtime-dir", "/nonexistent"]).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("UTF-8");
    assert!(text.starts_with("lo  kernel stamps (loopback)\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let marked: Vec<&str> = text.lines().filter(|line| line.starts_with(['✓', '•', '✗', '‼'])).collect();
    assert!(marked.len() >= 10, "{text}");
    assert!(text.lines().any(|line| line.trim_start().starts_with("→ ")), "{text}");
    let last = text.lines().last().expect("a conclusion");
    assert!(["ready: ", "degraded: "].iter().any(|verdict| last.starts_with(verdict)), "{text}");
}
