//! The C ABI against a live agent: C, C++ and Python programs read what Rust reads, while the agent runs, stands still
//! and is dead; and every mistake has its code.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use truebound_client::{Interval, Reader};

mod built;
mod scratch;

use scratch::Scratch;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c_abi");
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/client/c");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/client/python/truebound.py");
const STATIC_NEEDS: &[&str] = &["-lpthread", "-ldl", "-lm", "-lgcc_s"];

/// An agent whose only source is this host's own clock, with a bound; it ends with the test.
struct Agent {
    child: Child,
    page: PathBuf,
}

impl Agent {
    fn start(scratch: &Scratch) -> Self {
        let config = scratch.write("agent.toml", "[[source]]\nlocal = true\nerror = \"1us\"\n");
        let dir = scratch.0.join("run");
        let mut command = Command::new(env!("CARGO_BIN_EXE_truebound"));
        command.arg("run").arg("--config").arg(config).arg("--runtime-dir").arg(&dir);
        let child = command.stderr(Stdio::null()).spawn().expect("the agent starts");
        let agent = Agent { child, page: dir.join("bound") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !Reader::open(&agent.page).is_ok_and(|reader| reader.now_strict().is_ok()) {
            assert!(Instant::now() < deadline, "the agent publishes no bound");
            std::thread::yield_now();
        }
        agent
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("it runs");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The libraries as cargo built them, with the name by which programs load the shared one.
struct Libraries {
    directory: PathBuf,
    archive: PathBuf,
}

impl Libraries {
    fn new(scratch: &Scratch) -> Self {
        let files = built::by_cargo(&["--package", "truebound-c"]);
        let ending = |end: &str| {
            let is_it = |file: &&PathBuf| file.file_name().is_some_and(|name| name == end);
            files.iter().find(is_it).unwrap_or_else(|| panic!("cargo built no {end}: {files:?}")).clone()
        };
        let directory = scratch.0.join("lib");
        std::fs::create_dir_all(&directory).expect("writable");
        let place = |from: &Path, name: &str| std::fs::copy(from, directory.join(name)).expect("writable");
        place(&ending("libtruebound.so"), "libtruebound.so.1");
        place(&ending("libtruebound.so"), "libtruebound.so");
        Libraries { directory, archive: ending("libtruebound.a") }
    }

    fn shared(&self) -> PathBuf {
        self.directory.join("libtruebound.so")
    }
}

fn is_here(program: &str) -> bool {
    let is_here = Command::new(program).arg("--version").output().is_ok();
    if !is_here {
        println!("skipped: no {program} here");
    }
    is_here
}

/// Compilers, each with the standard it must satisfy.
fn compilers() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let all: [(&str, &[&str]); 2] = [("cc", &["-std=c99", "-xc"]), ("g++", &["-std=c++17", "-xc++"])];
    all.into_iter().filter(|(compiler, _)| is_here(compiler))
}

/// `tests/c_abi/NAME.c`, by every compiler, linked statically and dynamically.
fn programs(scratch: &Scratch, name: &str) -> Vec<PathBuf> {
    let libraries = Libraries::new(scratch);
    let mut programs = Vec::new();
    for (compiler, standard) in compilers() {
        for is_static in [true, false] {
            let program = scratch.0.join(format!("{name}-{compiler}-{is_static}"));
            let mut command = Command::new(compiler);
            command.args(standard).args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-I", INCLUDE]);
            command.arg(Path::new(SOURCES).join(format!("{name}.c"))).arg("-o").arg(&program).arg("-xnone");
            if is_static {
                command.arg(&libraries.archive).args(STATIC_NEEDS);
            } else {
                command.arg("-L").arg(&libraries.directory).arg("-ltruebound").arg("-lpthread");
                command.arg(format!("-Wl,-rpath,{}", libraries.directory.display()));
            }
            let built = command.output().expect("a compiler");
            assert!(built.status.success(), "{command:?}: {}", String::from_utf8_lossy(&built.stderr));
            programs.push(program);
        }
    }
    programs
}

fn run(program: &Path, arguments: &[&Path]) -> Output {
    Command::new(program).args(arguments).output().expect("just built")
}

/// The numbers that a program printed, one to a line; what it said if it failed.
fn numbers(output: &Output) -> Vec<i128> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Three readings in this order: certainty may not contradict it, and they are of one scale and epoch.
fn expect_between(before: &Interval, theirs: &[i128], after: &Interval) {
    let [earliest, latest, tai_earliest, tai_latest, epoch, offset_s] = theirs[..6] else { panic!("{theirs:?}") };
    assert!(earliest <= latest && tai_earliest <= tai_latest, "{theirs:?}");
    assert!(
        earliest <= after.latest_ns.into() && latest >= before.earliest_ns.into(),
        "{before:?} {theirs:?} {after:?}"
    );
    assert!(tai_earliest >= before.tai.earliest_ns.into() && tai_earliest <= after.tai.earliest_ns.into());
    assert_eq!((epoch, offset_s), (before.epoch.into(), before.tai_offset_s.into()));
    assert_eq!((earliest - tai_earliest, latest - tai_latest), (-offset_s * 1_000_000_000, -offset_s * 1_000_000_000));
}

#[test]
fn c_and_cpp_read_what_rust_reads_whatever_happens_to_the_agent() {
    let scratch = Scratch::new("c-abi-live");
    let agent = Agent::start(&scratch);
    let reader = Reader::open(&agent.page).expect("it publishes");
    let programs = programs(&scratch, "read");
    let compare = |when: &str| {
        for program in &programs {
            let before = reader.now().unwrap_or_else(|error| panic!("{when}: {error}"));
            let theirs = numbers(&run(program, &[&agent.page]));
            expect_between(&before, &theirs, &reader.now().expect("as before"));
        }
    };
    compare("running");
    agent.signal(Signal::SIGSTOP);
    compare("stopped");
    agent.signal(Signal::SIGCONT);
    agent.signal(Signal::SIGKILL);
    compare("killed");
}

#[test]
fn mistakes_and_bad_pages_have_their_codes() {
    let scratch = Scratch::new("c-abi-errors");
    let agent = Agent::start(&scratch);
    let page = std::fs::read(&agent.page).expect("there");
    let write = |name: &str, bytes: &[u8]| {
        let path = scratch.0.join(name);
        std::fs::write(&path, bytes).expect("writable");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        path
    };
    let changed = |name: &str, at: usize, bytes: &[u8]| {
        let mut page = page.clone();
        page[at..at + bytes.len()].copy_from_slice(bytes);
        write(name, &page)
    };
    let writable = write("writable", &page);
    std::fs::set_permissions(&writable, Permissions::from_mode(0o666)).expect("ours");
    // Expected: how opening ends, then how reading does; codes as in truebound.h.
    let cases = [
        ("-2 1", scratch.0.join("absent")),
        ("2 1", write("short", &page[..4095])),
        ("3 1", writable),
        ("5 1", changed("magic", 0, b"x")),
        ("6 1", changed("layout", 8, &[9])),
        ("7 1", changed("boot", 24, &[page[24] ^ 1])),
        ("8 1", changed("clock", 40, &[2])),
        ("9 1", changed("namespace", 96, &[page[96] ^ 1])),
        ("0 20", changed("empty", 16, &[0; 8])),
        ("0 24", both_slots(&page, 0, &[77], &write)),
        ("0 20", both_slots(&page, 0, &[5, 0, 10, 0], &write)),
        ("0 21", both_slots(&page, 24, &1_i64.to_ne_bytes(), &write)),
        ("0 22", both_slots(&page, 16, &(i64::MAX - 1).to_ne_bytes(), &write)),
        ("0 0", agent.page.clone()),
    ];
    for program in programs(&scratch, "errors") {
        for (expected, path) in &cases {
            let output = run(&program, &[path]);
            assert!(output.status.success(), "{path:?}: {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), *expected, "{path:?}");
        }
    }
}

/// The page with `bytes` at this offset of both slots.
fn both_slots(page: &[u8], at: usize, bytes: &[u8], write: &dyn Fn(&str, &[u8]) -> PathBuf) -> PathBuf {
    let mut page = page.to_vec();
    for slot in [512, 1024] {
        page[slot + at..][..bytes.len()].copy_from_slice(bytes);
    }
    write(&format!("slots-{at}-{}", bytes.len()), &page)
}

#[test]
fn python_reads_what_rust_reads_and_says_why_not() {
    let scratch = Scratch::new("c-abi-python");
    if !is_here("python3") {
        return;
    }
    let agent = Agent::start(&scratch);
    let reader = Reader::open(&agent.page).expect("it publishes");
    let libraries = Libraries::new(&scratch);
    let python = |program: &[&str], page: &Path| {
        let mut command = Command::new("python3");
        command.args(["-B", "-Werror"]).args(program).arg(page).env("TRUEBOUND_LIBRARY", libraries.shared());
        command.env("PYTHONPATH", Path::new(PYTHON).parent().expect("a directory")).output().expect("python3")
    };
    let before = reader.now().expect("a bound");
    let output = python(&[PYTHON], &agent.page);
    let (after, printed) = (reader.now().expect("a bound"), numbers(&output));
    assert!(printed[0] <= after.latest_ns.into() && printed[1] >= before.earliest_ns.into(), "{printed:?}");
    assert!(String::from_utf8_lossy(&output.stdout).trim().ends_with("locked"), "{output:?}");

    let fields = "import sys, truebound; r = truebound.Reader(sys.argv[1]); n = r.now_strict(); \
         print(n.earliest_ns, n.latest_ns, n.tai_earliest_ns, n.tai_latest_ns, n.epoch, n.tai_offset_s)";
    let before = reader.now().expect("a bound");
    let theirs = numbers(&python(&["-c", fields], &agent.page));
    expect_between(&before, &theirs, &reader.now().expect("a bound"));

    let output = python(&[PYTHON], &scratch.0.join("absent"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the agent running?"), "{output:?}");
}
