//! The commands as a person or a script meets them: exit codes, JSON fields, the demonstration and its planted faults.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

mod scratch;

use scratch::Scratch;

const TRUEBOUND: &str = env!("CARGO_BIN_EXE_truebound");

/// An agent that ends with the test.
struct Agent {
    child: Child,
    dir: PathBuf,
}

impl Agent {
    fn start(scratch: &Scratch, name: &str, config: &str, more: &[&str]) -> Self {
        let file = scratch.write(&format!("{name}.toml"), config);
        let dir = scratch.0.join(name);
        let mut command = Command::new(TRUEBOUND);
        command.arg("run").arg("--config").arg(file).arg("--runtime-dir").arg(&dir).args(more);
        let child = command.stderr(Stdio::null()).spawn().expect("the agent starts");
        Agent { child, dir }
    }

    fn ask(&self, command: &[&str]) -> Output {
        run(&[command, &["--runtime-dir", &self.dir.to_string_lossy()]].concat())
    }

    fn json(&self, command: &[&str]) -> Value {
        json(&self.ask(&[command, &["--json"]].concat()))
    }

    /// Asks until the answer pleases.
    fn until(&self, command: &[&str], is_good: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let output = self.ask(&[command, &["--json"]].concat());
            if let Ok(value) = serde_json::from_slice(&output.stdout)
                && is_good(&value)
            {
                return value;
            }
            assert!(Instant::now() < deadline, "{command:?}: {}", String::from_utf8_lossy(&output.stdout));
            std::thread::yield_now();
        }
    }

    fn terminate(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(TRUEBOUND).args(arguments).output().expect("the binary runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

fn demo(more: &[&str]) -> (i32, Value) {
    let output = run(&[&["demo", "--json", "--duration", "6s"], more].concat());
    (output.status.code().expect("an exit code"), json(&output))
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

fn server_config(port: u16) -> String {
    format!(
        "[[source]]\nlocal = true\nerror = \"1us\"\n[server]\nenabled = true\nlisten = [\"127.0.0.1:{port}\"]\nallow = [\"127.0.0.1\"]\n"
    )
}

fn client_config(port: u16) -> String {
    format!("[[source]]\nname = \"root\"\nserver = \"127.0.0.1:{port}\"\npoll-min = \"50ms\"\nagent = true\n")
}

#[test]
fn the_demonstration_holds_its_promise_and_says_so_in_the_agreed_fields() {
    let (code, summary) = demo(&[]);
    assert_eq!(code, 0, "{summary}");
    assert_eq!(summary["violations"], 0);
    assert!(summary["reads"].as_u64().expect("a count") > 6_000, "{summary}");
    assert!(summary["first_bound_ms"].as_f64().expect("a time") < 2_000.0);
    for histogram in ["error_ns", "half_width_ns"] {
        for percentile in ["p50", "p90", "p99", "p999", "max"] {
            assert!(summary[histogram][percentile].is_u64(), "{histogram}.{percentile} in {summary}");
        }
    }
    // The virtual clock runs 10 ppm fast, give or take its wander.
    let ppm = summary["freq_error_ppm"].as_f64().expect("an estimate");
    assert!((ppm - 10.0).abs() < 2.0, "{ppm}");
    assert_eq!(summary["seed"], 1);
}

#[test]
fn truth_within_five_percent_of_an_edge_is_still_inside() {
    let (code, summary) = demo(&["--world", "edge"]);
    let distance = summary["edge_distance_percent"].as_f64().expect("a distance");
    assert_eq!(code, 0, "{summary}");
    assert!((0.0..5.0).contains(&distance), "the world is not what its name says: {summary}");
}

#[test]
fn the_checker_catches_a_half_width_that_is_believed_to_a_hundredth() {
    let (code, summary) = demo(&["--world", "edge", "--break", "half-width"]);
    assert_eq!(code, 1);
    assert!(summary["violations"].as_u64().expect("a count") > 0, "{summary}");
}

#[test]
fn the_checker_catches_a_sole_server_that_lies() {
    let (code, summary) = demo(&["--break", "lying-server"]);
    assert_eq!(code, 1);
    assert!(summary["violations"].as_u64().expect("a count") > 0, "{summary}");
}

#[test]
fn a_refused_configuration_exits_2_and_shows_its_place() {
    let scratch = Scratch::new("refused");
    let file = scratch.write("bad.toml", "[[source]]\nserver = \"10.0.0.1\"\npoll-min = \"5 parsecs\"\n");
    for command in ["check-config", "run"] {
        let path = file.to_string_lossy();
        let arguments: &[&str] = if command == "run" { &["run", "--config", &path] } else { &[command, &path] };
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("bad.toml:3:12") && text.contains("^^^"), "{text}");
    }
    let value = json(&run(&["check-config", &file.to_string_lossy(), "--json"]));
    assert_eq!((&value["error"]["line"], &value["error"]["column"]), (&3.into(), &12.into()));
}

#[test]
fn usage_errors_exit_2() {
    assert_eq!(run(&["now", "--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(&["wait", "--max-error", "5 parsecs"]).status.code(), Some(2));
}

#[test]
fn without_an_agent_the_commands_say_what_to_do() {
    for command in ["now", "status", "sources", "report"] {
        let output = run(&[command, "--runtime-dir", "/nonexistent"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("is the agent running"), "{command}");
    }
}

#[test]
fn a_running_agent_answers_obeys_and_replays() {
    let scratch = Scratch::new("running");
    let port = free_port();
    let server = Agent::start(&scratch, "server", &server_config(port), &[]);
    server.until(&["status"], |status| status["status"] == "locked");
    let journal = scratch.0.join("journal");
    let agent = Agent::start(&scratch, "agent", &client_config(port), &["--journal", &journal.to_string_lossy()]);

    let output = agent.ask(&["wait", "--max-error", "10ms", "--timeout", "20s"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let output = agent.ask(&["wait", "--max-error", "1ns", "--timeout", "50ms"]);
    assert_eq!(output.status.code(), Some(1));

    let now = agent.json(&["now"]);
    for field in [
        "earliest_ns",
        "latest_ns",
        "half_width_ns",
        "status",
        "tai_offset_s",
        "freq_error_ppm",
        "freq_bound_ppm",
        "source",
        "epoch",
    ] {
        assert!(!now[field].is_null(), "{field} in {now}");
    }
    assert_eq!(now["source"], "root");
    assert!(now.get("asserted").is_some_and(Value::is_null), "nothing but NTP here: {now}");
    let status = agent.json(&["status"]);
    for (field, empty) in [("ptp", "[]"), ("phcs", "[]"), ("asserted_half_width_ns", "null")] {
        assert_eq!(status[field].to_string(), empty, "{field} in {status}");
    }
    let sources = agent.until(&["sources"], |sources| sources[0]["answers"].as_u64() > Some(20));
    assert_eq!((&sources[0]["status"], &sources[0]["stamps"]), (&"truechimer".into(), &"kernel".into()));
    assert_eq!(sources[0]["missing_tx_stamps"], 0, "{sources}");

    // The share of pure probes: in percent for people, in the table and in status alike.
    let known = agent.until(&["sources"], |sources| sources[0]["pure_ratio"].is_f64());
    assert!((0.0..=1.0).contains(&known[0]["pure_ratio"].as_f64().expect("a ratio")), "{known}");
    let [table, status] =
        ["sources", "status"].map(|command| String::from_utf8_lossy(&agent.ask(&[command]).stdout).into_owned());
    assert!(table.contains(" pure stamps") && table.contains(" % kernel"), "{table}");
    assert!(status.lines().any(|line| line.contains("root (pure ") && line.ends_with(" %)")), "{status}");

    // Run-time control.
    agent.json(&["control", "burst"]);
    let refused = agent.ask(&["control", "makestep"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing is steered"));
    agent.json(&["control", "add-source", "name = \"second\"", "server = \"127.0.0.2:9\""]);
    agent.until(&["sources"], |sources| sources.as_array().map(Vec::len) == Some(2));
    let again = agent.ask(&["control", "add-source", "name = \"second\"", "server = \"127.0.0.2:9\""]);
    assert_eq!(again.status.code(), Some(1));
    agent.json(&["control", "remove-source", "second"]);
    agent.until(&["sources"], |sources| sources.as_array().map(Vec::len) == Some(1));
    agent.json(&["control", "reload"]);
    agent.until(&["status"], |status| status["status"] == "locked");
    let report = agent.until(&["report"], |report| report["half_width_ns"]["count"].as_u64() > Some(0));
    assert!(report["sources"]["root"]["delay_ns"]["p50"].is_u64(), "{report}");

    let page = agent.dir.join("bound");
    agent.terminate();
    let reader = truebound_client::Reader::open(&page).expect("the page stays");
    assert!(reader.now().is_ok(), "a stopped agent leaves a bound that grows");
    assert_gives_delays(&journal);
    assert_replays(&journal);
}

/// `replay --delays`: what the exchanges measured, divided there and back, and nothing else changes.
fn assert_gives_delays(journal: &Path) {
    let (path, file) = (journal.to_string_lossy(), journal.with_extension("csv"));
    let delays =
        |more: &[&str]| run(&[&["replay", &path, "--json", "--delays", &file.to_string_lossy()], more].concat());
    let value = json(&delays(&[]));
    assert_eq!((&value["equal"], &value["delays"]["source"]), (&true.into(), &"root".into()), "{value}");
    let text = std::fs::read_to_string(&file).expect("the table");
    let mut lines = text.lines().skip_while(|line| line.starts_with('#'));
    assert_eq!(lines.next(), Some("t_s,forward_ns,back_ns"));
    let numbers = |line: &str| line.split(',').map(|x| x.parse().expect("a number")).collect::<Vec<f64>>();
    let rows: Vec<Vec<f64>> = lines.map(numbers).collect();
    assert_eq!(value["delays"]["lines"].as_u64(), u64::try_from(rows.len()).ok(), "{text}");
    assert!(rows.len() > 2 && rows[0][0] == 0.0, "{text}");
    assert!(rows.windows(2).all(|pair| pair[0][0] < pair[1][0]), "{text}");
    assert!(rows.iter().all(|row| row.len() == 3 && row[1] >= 0.0 && row[2] >= 0.0), "{text}");
    // Up to what the clocks drift apart meanwhile, the last line adds up to the last round trip.
    let (last, sum) = (value["sources"][0]["delay_ns"].as_f64().expect("a round trip"), &rows[rows.len() - 1]);
    assert!((sum[1] + sum[2] - last).abs() < 200.0, "{sum:?}, {last}");

    delays(&["--source", "root"]);
    assert_eq!(std::fs::read_to_string(&file).expect("the table"), text, "the same again");
    let refused = delays(&["--source", "nobody"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nobody"));
    assert_eq!(run(&["replay", &path, "--source", "root"]).status.code(), Some(2), "a source of no delays");
}

fn assert_replays(journal: &Path) {
    let output = run(&["replay", &journal.to_string_lossy(), "--json"]);
    let value = json(&output);
    assert_eq!((&value["equal"], &value["whole"]), (&true.into(), &true.into()), "{value}");
    assert!(value["inputs"].as_u64() > Some(50), "{value}");
    // A planted fault: one byte of the last recorded digest.
    let mut bytes = std::fs::read(journal).expect("the journal");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(journal, bytes).expect("the journal");
    let output = run(&["replay", &journal.to_string_lossy(), "--json"]);
    assert_eq!((output.status.code(), &json(&output)["equal"]), (Some(1), &false.into()));
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn secrets_and_the_lock_are_for_the_owner_alone_even_where_they_were_not() {
    let scratch = Scratch::new("modes");
    let (journal, lock) = (scratch.write("journal", "old"), scratch.0.join("agent/bound.lock"));
    std::fs::create_dir(scratch.0.join("agent")).expect("a directory");
    std::fs::write(&lock, "").expect("a lock");
    for path in [&journal, &lock] {
        std::fs::set_permissions(path, Permissions::from_mode(0o644)).expect("ours");
    }
    let agent = Agent::start(&scratch, "agent", "", &["--journal", &journal.to_string_lossy()]);
    agent.until(&["status"], |status| status["status"] == "free-running");
    let modes = [journal, lock, agent.dir.join("control"), agent.dir.join("bound")].map(|path| mode_of(&path));
    assert_eq!(modes, [0o600, 0o600, 0o600, 0o644]);
}

#[test]
fn an_agent_whose_log_nobody_reads_runs_on() {
    let scratch = Scratch::new("log");
    let file = scratch.write("agent.toml", &server_config(free_port()));
    let dir = scratch.0.join("agent");
    let mut command = Command::new(TRUEBOUND);
    command.arg("run").arg("--config").arg(file).arg("--runtime-dir").arg(&dir);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the agent starts");
    drop(child.stderr.take());
    let agent = Agent { child, dir };
    agent.until(&["status"], |status| status["status"] == "locked");
    // A second line for the log: the file is gone.
    std::fs::remove_file(scratch.0.join("agent.toml")).expect("there");
    assert_eq!(agent.ask(&["control", "reload"]).status.code(), Some(1));
    agent.until(&["status"], |status| status["status"] == "locked");
    agent.terminate();
}

#[test]
fn a_restart_continues_the_bound_only_under_the_same_settings_and_the_epochs_always() {
    let scratch = Scratch::new("restart");
    let port = free_port();
    let server = Agent::start(&scratch, "server", &server_config(port), &[]);
    server.until(&["status"], |status| status["status"] == "locked");
    let agent = Agent::start(&scratch, "agent", &client_config(port), &[]);
    let first = agent.until(&["status"], |status| status["status"] == "locked");
    let epoch = |status: &Value| status["epoch"].as_u64().expect("a number");
    agent.terminate();
    server.terminate();

    let again = Agent::start(&scratch, "agent", &client_config(port), &[]);
    let status = again.until(&["status"], |status| status["status"] == "holdover");
    assert_eq!(epoch(&status), epoch(&first), "the same settings: the bound goes on, {status}");
    again.terminate();

    // Nobody answers under the new settings, so a bound could only be the old one.
    let port = free_port();
    let other = Agent::start(&scratch, "agent", &client_config(port), &[]);
    let status = other.until(&["status"], |status| status["status"] == "starting");
    assert!(epoch(&status) >= epoch(&first) && status["half_width_ns"].is_null(), "{status}");
    assert_eq!(other.ask(&["now"]).status.code(), Some(1));
    let _server = Agent::start(&scratch, "other-server", &server_config(port), &[]);
    let status = other.until(&["status"], |status| status["status"] == "locked");
    assert_eq!(epoch(&status), epoch(&first) + 1, "another bound, another epoch: {status}");
}

#[test]
fn a_reload_says_what_it_cannot_do_and_keeps_the_old_where_the_new_fails() {
    let scratch = Scratch::new("reload");
    let port = free_port();
    let server = Agent::start(&scratch, "server", &server_config(port), &[]);
    server.until(&["status"], |status| status["status"] == "locked");
    let text = |output: Output| {
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };

    let journal = format!("journal = \"/nonexistent/journal\"\n{}", server_config(port));
    scratch.write("server.toml", &format!("{journal}[stamps]\nkernel = false\n"));
    let (code, said) = text(server.ask(&["control", "reload"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("not applied before a restart: stamps, journal"), "{said}");

    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    scratch.write("server.toml", &server_config(taken.local_addr().expect("bound").port()));
    let (code, said) = text(server.ask(&["control", "reload"]));
    assert!(code == Some(1) && said.contains("cannot listen on") && said.contains("old settings stay"), "{said}");
    let value = json(&run(&["probe", &format!("127.0.0.1:{port}"), "--duration", "1s", "--json"]));
    assert!(value[0]["answers"].as_u64() > Some(0), "it still serves where it did: {value}");
}

/// Requests as fast as two threads can send them, while the agent's other duties go on.
#[test]
fn a_flood_of_requests_starves_nothing_else() {
    let scratch = Scratch::new("flood");
    let (upstream_port, port) = (free_port(), free_port());
    let upstream = Agent::start(&scratch, "upstream", &server_config(upstream_port), &[]);
    upstream.until(&["status"], |status| status["status"] == "locked");
    let server = server_config(port);
    let (_, server_table) = server.split_once("[server]").expect("it serves");
    let config = format!("{}[server]{server_table}", client_config(upstream_port));
    let agent = Agent::start(&scratch, "agent", &config, &[]);
    agent.until(&["status"], |status| status["status"] == "locked");

    let is_over = Arc::new(AtomicBool::new(false));
    let flood = |is_over: Arc<AtomicBool>| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(("127.0.0.1", port)).expect("connected");
        let mut request = [0; 48];
        request[0] = 0x23; // version 4, a client
        move || {
            while !is_over.load(Ordering::Relaxed) {
                let _ = socket.send(&request);
            }
        }
    };
    let threads = [(); 2].map(|()| std::thread::spawn(flood(Arc::clone(&is_over))));
    let answers = |sources: &Value| sources[0]["answers"].as_u64().expect("a count");
    let before = answers(&agent.json(&["sources"]));
    let sources = agent.until(&["sources"], |sources| answers(sources) > before + 10);
    assert_eq!(sources[0]["status"], "truechimer");
    agent.terminate();
    is_over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
}

#[test]
fn a_probe_measures_once() {
    let scratch = Scratch::new("probe");
    let port = free_port();
    let server = Agent::start(&scratch, "server", &server_config(port), &[]);
    server.until(&["status"], |status| status["status"] == "locked");
    let host = format!("127.0.0.1:{port}");
    let value = json(&run(&["probe", &host, "--duration", "1s", "--json"]));
    let offset = value[0]["offset_ns"].as_i64().expect("an offset");
    assert!(value[0]["answers"].as_u64() > Some(3) && offset.abs() < 1_000_000, "{value}");
    assert_eq!(run(&["probe", "127.0.0.1:9", "--duration", "300ms"]).status.code(), Some(1));
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused() {
    let scratch = Scratch::new("second");
    let agent = Agent::start(&scratch, "agent", "", &[]);
    agent.until(&["status"], |status| status["status"] == "free-running");
    let output = run(&["run", "--runtime-dir", &agent.dir.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another agent"));
}
