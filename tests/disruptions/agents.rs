//! A root that defines true time, and an agent that follows it over the loopback, both real; and what the agent's page
//! says, held against the root's.

use std::cell::RefCell;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use truebound_client::page::Publication;
use truebound_client::{Interval, Reader, Unavailable};

use super::scratch::Scratch;

pub(crate) const TRUEBOUND: &str = env!("CARGO_BIN_EXE_truebound");
/// Between two looks: the agents need the processor too.
pub(crate) const PACE: Duration = Duration::from_micros(200);
/// A busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the root claims of its own definition: the rest of its width is doubt about truth.
const ROOT_CLAIM_NS: i64 = 1_000;

/// Looks again and again until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(PACE);
    }
}

/// A process that ends with the test, whatever state it is in.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).expect("a pid")), signal).expect("it runs");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See the module's page.
pub(crate) struct Pair {
    scratch: Scratch,
    root: Process,
    root_page: Reader,
    agent: Process,
    /// The agent's page.
    pub(crate) page: Reader,
    /// What leads into the agent's world: environment, and words before the command.
    world: World,
    /// Reads held against the truth, and those with an interval.
    pub(crate) judged: RefCell<(u64, u64)>,
}

/// Where the agent and its strict readers live.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// LD_PRELOAD and the file that it obeys.
    pub(crate) clocks: Option<(PathBuf, PathBuf)>,
    /// In a mount namespace of its own this file stands for the kernel's clocksource.
    pub(crate) clocksource: Option<PathBuf>,
}

impl World {
    fn preload(&self, command: &mut Command) {
        if let Some((library, obeyed)) = &self.clocks {
            command.env("LD_PRELOAD", library).env("TRUEBOUND_TEST_CLOCKS", obeyed);
        }
    }

    /// The agent's command line begins so.
    fn enter(&self) -> Command {
        let mut command = match &self.clocksource {
            None => Command::new(TRUEBOUND),
            Some(file) => {
                let mut command = Command::new("unshare");
                let script = format!("mount --bind \"$0\" {} && exec \"$@\"", truebound_client::host::CLOCKSOURCE);
                command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &script]);
                command.arg(file).arg(TRUEBOUND);
                command
            }
        };
        self.preload(&mut command);
        command
    }

    /// A reader's does so, once the agent runs as `pid`.
    fn join(&self, pid: u32) -> Command {
        let mut command = if self.clocksource.is_some() {
            let mut command = Command::new("nsenter");
            command.args(["--target", &pid.to_string(), "--mount", "--", TRUEBOUND]);
            command
        } else {
            Command::new(TRUEBOUND)
        };
        self.preload(&mut command);
        command
    }
}

impl Pair {
    /// Both run, and the agent has a bound.
    pub(crate) fn start(name: &str, scratch: Scratch, world: World, config: &str) -> Pair {
        let port = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let root_config = format!(
            "[[source]]\nlocal = true\nerror = \"{ROOT_CLAIM_NS}ns\"\n[server]\nenabled = true\nlisten = \
             [\"127.0.0.1:{port}\"]\nallow = [\"127.0.0.1\"]\n"
        );
        let agent_config = format!(
            "{config}\n[[source]]\nname = \"root\"\nserver = \"127.0.0.1:{port}\"\npoll-min = \"50ms\"\nagent = true\n"
        );
        let root = run(Command::new(TRUEBOUND), &scratch, "root", &root_config);
        let root_page = until("the root's bound", || bounded(&scratch.0.join("root/bound")));
        let agent = run(world.enter(), &scratch, "agent", &agent_config);
        let page = until(&format!("{name}: a bound"), || bounded(&scratch.0.join("agent/bound")));
        Pair { scratch, root, root_page, agent, page, world, judged: RefCell::default() }
    }

    /// The agent can measure no more; or can again.
    pub(crate) fn silence_root(&self, is_silent: bool) {
        self.root.signal(if is_silent { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// The agent notices nothing any more; or does again.
    pub(crate) fn stall_agent(&self, is_stalled: bool) {
        self.agent.signal(if is_stalled { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// A read of the agent's page between two of the root's: what it gives must hold the truth.
    pub(crate) fn read(&self) -> Result<Interval, Unavailable> {
        let before = self.root_page.now().expect("a root defines truth for ever").tai;
        let read = self.page.now();
        let after = self.root_page.now().expect("a root defines truth for ever").tai;
        let mut judged = self.judged.borrow_mut();
        judged.0 += 1;
        if let Ok(interval) = read {
            judged.1 += 1;
            let is_right = interval.tai.earliest_ns <= after.latest_ns - ROOT_CLAIM_NS
                && interval.tai.latest_ns >= before.earliest_ns + ROOT_CLAIM_NS;
            assert!(is_right, "violation: {interval:?}, truth in {before:?} to {after:?}");
        }
        read
    }

    /// Reads until the page says so.
    pub(crate) fn read_until(&self, what: &str, is_meant: impl Fn(&Publication) -> bool) -> Publication {
        until(what, || {
            let _ = self.read();
            self.page.publication().filter(|publication| is_meant(publication))
        })
    }

    /// `truebound COMMAND` in the agent's world.
    pub(crate) fn ask(&self, command: &[&str]) -> Output {
        let mut asking = self.world.join(self.agent.0.id());
        asking.args(command).arg("--json").arg("--runtime-dir").arg(self.scratch.0.join("agent"));
        asking.output().expect("the binary runs")
    }

    /// What `truebound status --json` says.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&self.ask(&["status"]).stdout).expect("JSON")
    }

    /// A strict read in the agent's world: exit code and words.
    pub(crate) fn strict(&self) -> (i32, String) {
        let output = self.ask(&["now", "--strict"]);
        (output.status.code().expect("it ended"), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the agent has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.0.join("agent.log")).expect("its log")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.0.join("agent")
    }
}

/// Does the page at `path` have a bound?
fn bounded(path: &Path) -> Option<Reader> {
    Reader::open(path).ok().filter(|reader| reader.now().is_ok())
}

fn run(mut command: Command, scratch: &Scratch, name: &str, config: &str) -> Process {
    let file = scratch.write(&format!("{name}.toml"), config);
    let log = File::create(scratch.0.join(format!("{name}.log"))).expect("a log");
    command.arg("run").arg("--config").arg(file).arg("--runtime-dir").arg(scratch.0.join(name));
    Process(command.stdin(Stdio::null()).stderr(log).spawn().expect("it starts"))
}

/// Builds the library that turns a process's clocks, and the file that it obeys; or says why it cannot be.
pub(crate) fn turned_clocks(scratch: &Scratch) -> Result<(PathBuf, PathBuf), String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disruptions/clocks.c");
    let library = scratch.0.join("clocks.so");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    let output = cc.output().map_err(|error| format!("no C compiler: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let obeyed = scratch.0.join("clocks");
    std::fs::write(&obeyed, [0; 32]).expect("a scratch file");
    Ok((library, obeyed))
}

/// Puts a number of eight bytes at `word` of a file that others have mapped.
pub(crate) fn put(path: &Path, word: u64, value: i64) {
    let file = File::options().write(true).open(path).expect("a scratch file");
    file.write_all_at(&value.to_le_bytes(), word * 8).expect("it is written");
}
