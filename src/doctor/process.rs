//! The time daemons that run on this host, as /proc shows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a daemon does to the clocks of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steers {
    /// CLOCK_REALTIME.
    System,
    /// The NIC's clock, or CLOCK_REALTIME from it; it sets the NIC's stamp filter too.
    Phc,
    /// Nothing: it is one of us.
    Nothing,
}

/// Process names (of which the kernel keeps fifteen bytes), and what these daemons do.
const KNOWN: [(&str, Steers); 11] = [
    ("chronyd", Steers::System),
    ("ntpd", Steers::System),
    ("ntp-daemon", Steers::System),
    ("systemd-timesyncd", Steers::System),
    // From 3.0 on.
    ("clockbound", Steers::System),
    ("ptp4l", Steers::Phc),
    ("phc2sys", Steers::Phc),
    ("timemaster", Steers::Phc),
    ("statime", Steers::Phc),
    ("statime-linux", Steers::Phc),
    ("truebound", Steers::Nothing),
];

/// The most that the kernel keeps of a process's name.
const COMM_BYTES: usize = 15;

/// One that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    pub(crate) steers: Steers,
    /// In our network namespace? `None`: we may not look.
    pub(crate) shares_network: Option<bool>,
}

/// Those that run, without ourselves.
pub(crate) fn daemons() -> Vec<Daemon> {
    daemons_in(Path::new("/proc"), std::process::id())
}

fn daemons_in(proc: &Path, own_pid: u32) -> Vec<Daemon> {
    let own_network = network_of(proc, own_pid);
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut daemons: Vec<Daemon> = pids
        .filter(|&pid| pid != own_pid)
        .filter_map(|pid: u32| {
            let comm = fs::read_to_string(proc.join(pid.to_string()).join("comm")).ok()?;
            let (name, steers) = known(comm.trim_end_matches('\n'))?;
            let shares_network = network_of(proc, pid).zip(own_network.as_ref()).map(|(its, own)| its == *own);
            Some(Daemon { name, pid, steers, shares_network })
        })
        .collect();
    daemons.sort_by_key(|daemon| daemon.pid);
    daemons
}

fn known(comm: &str) -> Option<(&'static str, Steers)> {
    let kept = |name: &'static str| name.get(..COMM_BYTES).unwrap_or(name);
    KNOWN.into_iter().find(|(name, _)| kept(name) == comm)
}

/// The network namespace, as the kernel names it: "net:[4026531840]".
fn network_of(proc: &Path, pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(proc.join(pid.to_string()).join("ns/net")).ok()
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// It is one of us, whatever its name.
    pub(crate) is_ours: bool,
}

/// Who holds each of these sockets, by inode, as far as we may look.
pub(crate) fn owners(inodes: &[u64]) -> BTreeMap<u64, Owner> {
    let mut owners = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    // Nobody asked, nobody looked at.
    let pids = entries.filter(|_| !inodes.is_empty()).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids {
        for inode in sockets_of(pid).into_iter().filter(|inode| inodes.contains(inode)) {
            owners.entry(inode).or_insert_with(|| owner(pid));
        }
    }
    owners
}

fn owner(pid: u32) -> Owner {
    let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).ok();
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let name =
        read("comm").map_or("a process".to_owned(), |comm| comm.trim_end_matches('\n').escape_debug().to_string());
    let runs_us = program(&pid.to_string()).is_some_and(|its| program("self") == Some(its));
    Owner { is_ours: runs_us || name == "truebound", name, pid }
}

/// The socket inodes that a process holds open, as far as we may look.
fn sockets_of(pid: u32) -> Vec<u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |target: &Path| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    targets.filter_map(|target| inode(&target)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_as_far_as_the_kernel_keeps_them() {
        assert_eq!(known("chronyd"), Some(("chronyd", Steers::System)));
        assert_eq!(known("systemd-timesyn"), Some(("systemd-timesyncd", Steers::System)));
        assert_eq!(known("ptp4l"), Some(("ptp4l", Steers::Phc)));
        for other in ["chronyd2", "ntp", "systemd-timesyncd", "bash", ""] {
            assert_eq!(known(other), None, "{other}");
        }
    }

    #[test]
    fn daemons_are_found_with_their_networks_and_without_ourselves() {
        let proc = std::env::temp_dir().join(format!("truebound-doctor-proc-{}", std::process::id()));
        for (pid, comm, network) in [
            ("7", "truebound", Some("net:[1]")),
            ("42", "chronyd", Some("net:[1]")),
            ("9", "ptp4l", Some("net:[2]")),
            ("11", "ntpd", None),
            ("12", "bash", Some("net:[1]")),
        ] {
            fs::create_dir_all(proc.join(pid).join("ns")).expect("a scratch directory");
            fs::write(proc.join(pid).join("comm"), format!("{comm}\n")).expect("a scratch file");
            if let Some(network) = network {
                std::os::unix::fs::symlink(network, proc.join(pid).join("ns/net")).expect("a link");
            }
        }
        fs::create_dir_all(proc.join("sys")).expect("no process");
        let found = daemons_in(&proc, 7);
        fs::remove_dir_all(&proc).expect("ours");
        let seen: Vec<_> = found.iter().map(|daemon| (daemon.pid, daemon.name, daemon.shares_network)).collect();
        assert_eq!(seen, [(9, "ptp4l", Some(false)), (11, "ntpd", None), (42, "chronyd", Some(true))]);
    }

    #[test]
    fn the_owner_of_a_socket_is_found_and_we_know_ourselves() {
        use std::os::fd::AsRawFd;
        use std::os::linux::fs::MetadataExt;

        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let inode = fs::metadata(path).expect("an open socket").st_ino();
        let owners = owners(&[inode]);
        let owner = owners.get(&inode).expect("ours");
        assert_eq!((owner.pid, owner.is_ours), (std::process::id(), true));
        assert_eq!(super::owners(&[]), BTreeMap::new());
    }
}
