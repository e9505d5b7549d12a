//! Who may build namespaces, and how to become one who may.
//!
//! Root builds them directly. Anybody else runs the test again inside `unshare --user --map-root-user`, where that
//! user is root of a user namespace with a network and a /run of its own. Where the kernel forbids even that, the test
//! says so and passes as skipped.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::place::ROOT;

/// `skip`: not now (tools/test runs these tests as a step of their own). `inside`: already in a user namespace.
const MODE: &str = "TRUEBOUND_NETNS";
/// Where the programs of chrony and linuxptp are, when somebody has looked already.
const PEERS: &str = "TRUEBOUND_PEERS";

/// One lab at a time: they measure microseconds on the same processors.
static TURN: Mutex<()> = Mutex::new(());

/// The right to build namespaces in this process, now.
pub(crate) struct Permit {
    pub(crate) peers: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// A permit, or `None` when the test has passed elsewhere or is skipped.
pub(crate) fn permit(test: &str) -> Option<Permit> {
    let mode = std::env::var(MODE).unwrap_or_default();
    if mode == "skip" {
        return skip(test, "TRUEBOUND_NETNS=skip");
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let peers = match peers() {
        Ok(peers) => peers,
        Err(reason) => return skip(test, reason),
    };
    if *CAN_BUILD_HERE.get_or_init(can_build_here) {
        return Some(Permit { peers: peers.clone(), _turn: turn });
    }
    if mode == "inside" || !succeeds(&mut in_user_namespace("true")) {
        return skip(test, "namespaces need root or unprivileged user namespaces");
    }
    run_again_in_user_namespace(test, peers);
    None
}

/// Is this process the first of its kind, outside any user namespace of ours?
pub(crate) fn is_outside() -> bool {
    std::env::var(MODE).unwrap_or_default() != "inside"
}

/// Goes on as one who may build namespaces: this process, or in its place one with the same arguments in a user
/// namespace. For programs; tests have [`permit`].
pub(crate) fn become_root() -> Result<(), String> {
    if *CAN_BUILD_HERE.get_or_init(can_build_here) {
        return Ok(());
    }
    if !is_outside() {
        return Err("namespaces need root or unprivileged user namespaces".to_owned());
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut again = in_user_namespace("mount -t tmpfs tmpfs /run && exec \"$@\"");
    again.arg(this).args(std::env::args_os().skip(1)).env(MODE, "inside").env(PEERS, peers()?);
    Err(again.exec().to_string())
}

static CAN_BUILD_HERE: OnceLock<bool> = OnceLock::new();

fn can_build_here() -> bool {
    let name = format!("tb{}-probe", std::process::id());
    succeeds(ip().args(["netns", "add", &name])) && succeeds(ip().args(["netns", "del", &name]))
}

fn run_again_in_user_namespace(test: &str, peers: &PathBuf) {
    let this = std::env::current_exe().expect("a running program has a path");
    let mut again = in_user_namespace("mount -t tmpfs tmpfs /run && exec \"$@\"");
    again.arg(this).args(["--exact", test, "--nocapture"]).env(MODE, "inside").env(PEERS, peers);
    let status = again.status().expect("unshare has just been run");
    assert!(status.success(), "{test} failed inside a user namespace: its output is above");
}

fn in_user_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", script, "sh"]);
    command
}

/// Looked up once: unpacking needs the network, which a user namespace does not have.
fn peers() -> Result<&'static PathBuf, &'static String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| std::env::var_os(PEERS).map_or_else(unpack_peers, |path| Ok(path.into()))).as_ref()
}

fn unpack_peers() -> Result<PathBuf, String> {
    let output = Command::new(tool()).arg("peers").output().map_err(|error| format!("tools/netns peers: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    Err(format!("no peers: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The script that builds and removes the network.
pub(crate) fn tool() -> PathBuf {
    PathBuf::from(ROOT).join("tools/netns")
}

/// iproute2, also where the caller's PATH lacks the system directories.
pub(crate) fn ip() -> Command {
    Command::new(["/usr/sbin/ip", "/sbin/ip"].into_iter().find(|path| PathBuf::from(path).exists()).unwrap_or("ip"))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn skip(test: &str, reason: impl std::fmt::Display) -> Option<Permit> {
    println!("skipped: {test}: {reason}");
    None
}
