//! A lab: the network of tools/netns, a directory for files and logs, and the processes that run in it.
//!
//! Everything ends with its guard, the network last. When a test fails, the lab prints the tail of every log.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sandbox::{self, Permit, ip};

/// How often a condition is looked at while a test waits for it.
const POLL: Duration = Duration::from_millis(50);
/// How much of each log a failed test shows.
const LOG_LINES: usize = 60;

/// See the module.
pub(crate) struct Lab {
    prefix: String,
    dir: PathBuf,
    permit: Permit,
}

impl Lab {
    /// `None`: the test passed elsewhere or is skipped, and has said so.
    pub(crate) fn open(test: &str) -> Option<Lab> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let permit = sandbox::permit(test)?;
        let prefix = format!("tb{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&prefix);
        fs::create_dir_all(&dir).expect("the temporary directory is writable");
        let lab = Lab { prefix, dir, permit };
        expect_success(Command::new(sandbox::tool()).args(["up", &lab.prefix]));
        eprintln!("in {}", lab.prefix);
        Some(lab)
    }

    /// A program of the peers' directory.
    pub(crate) fn peer(&self, program: &str) -> PathBuf {
        self.permit.peers.join(program)
    }

    /// A directory for `name`'s files that only its owner may enter, as chronyd demands for its socket.
    pub(crate) fn private_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).expect("the lab's directory is writable");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("the directory is ours");
        dir
    }

    /// Starts a program inside `host`'s namespace; its output goes to `name.log`.
    pub(crate) fn start(&self, host: &str, name: &str, program: &Path, args: &[&str]) -> Process {
        let log = File::options().create(true).append(true).open(self.log_of(name));
        let log = log.expect("the lab's directory is writable");
        // The parent-death signal survives every exec on the way: nothing outlives a killed test.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(ip().get_program())
            .args(["netns", "exec", &self.namespace(host)])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a file handle can be copied"))
            .stdout(log)
            .spawn();
        Process { name: name.to_owned(), child: child.expect("setpriv is part of every Debian") }
    }

    /// Where the output of the process called `name` goes.
    pub(crate) fn log_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Pulls or plugs the cable of `host`, at the switch's end.
    pub(crate) fn set_cable(&self, host: &str, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        expect_success(ip().args(["-n", &self.namespace("sw"), "link", "set", host, state]));
    }

    /// A command that runs inside `host`'s namespace, to its end.
    pub(crate) fn command(&self, host: &str, program: &str) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// The Ethernet address of `host`, as twelve hexadecimal digits.
    pub(crate) fn mac(&self, host: &str) -> String {
        let shown = output_of(ip().args(["-n", &self.namespace(host), "-o", "link", "show", "dev", "eth0"]));
        let shown = shown.expect("every host has an eth0");
        let address = shown.split_once("link/ether ").and_then(|(_, rest)| rest.split_whitespace().next());
        address.expect("a veth has an address").replace(':', "")
    }

    /// A socket of `host`; it keeps its namespace wherever it is used.
    pub(crate) fn socket(&self, host: &str) -> UdpSocket {
        self.inside(host, || UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a free port"))
    }

    /// What `open` opens inside `host`'s namespace.
    pub(crate) fn inside<T: Send + 'static>(&self, host: &str, open: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace(host))).expect("the namespace is up");
        let enter_and_open = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("whoever built the namespace may enter it");
            open()
        };
        // Only the thread that calls setns moves; it ends at once.
        std::thread::spawn(enter_and_open).join().expect("the thread ended well")
    }

    /// Waits until `condition` holds; fails the test after `limit`.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !condition() {
            assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
            std::thread::sleep(POLL);
        }
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn print_logs(&self) {
        let mut logs: Vec<PathBuf> =
            fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for path in logs {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("── {} ({} lines)", path.display(), lines.len());
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                println!("   {line}");
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        let down = Command::new(sandbox::tool()).args(["down", &self.prefix]).status();
        if !down.is_ok_and(|status| status.success()) {
            println!("tools/netns down {} failed", self.prefix);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A child of this test; killed with its guard.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Its number: every program on the way execs the next, so it is the daemon's own.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails the test if the process has ended.
    #[track_caller]
    pub(crate) fn expect_running(&mut self) {
        let ended = self.child.try_wait().expect("our own child");
        assert!(ended.is_none(), "{} ended: {}", self.name, ended.map_or(String::new(), |status| status.to_string()));
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// SIGKILL: no chance to say goodbye.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("our own child");
            self.child.wait().expect("our own child");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a command to its end; its output, if it succeeded.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => panic!("{command:?}: {error}"),
        other => other.ok()?,
    };
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[track_caller]
fn expect_success(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
