//! Who else works at this host's time: daemons that steer its clocks, and sockets at the ports of NTP and PTP.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::process::{Daemon, Owner, Steers, owners};
use super::{Finding, Outcome};

/// NTP, PTP event messages, PTP general messages.
const PORTS: [u16; 3] = [123, 319, 320];

/// A UDP socket of this network namespace at one of [`PORTS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoundPort {
    port: u16,
    address: IpAddr,
    /// Who holds it, if we may look.
    owner: Option<Owner>,
}

/// One finding for each kind of daemon and place, or that there is none.
pub(crate) fn judge_daemons(daemons: &[Daemon], wants_hardware: bool) -> Vec<Finding> {
    const CHECK: &str = "daemons";
    let mut rivals: Vec<(&Daemon, Vec<String>)> = Vec::new();
    for daemon in daemons.iter().filter(|daemon| daemon.steers != Steers::Nothing) {
        let is_like =
            |(other, _): &&mut (&Daemon, _)| (other.name, other.shares_network) == (daemon.name, daemon.shares_network);
        match rivals.iter_mut().find(is_like) {
            Some((_, pids)) => pids.push(daemon.pid.to_string()),
            None => rivals.push((daemon, vec![daemon.pid.to_string()])),
        }
    }
    if rivals.is_empty() {
        return vec![Finding::ok(CHECK, "no other time daemon runs")];
    }
    rivals.iter().map(|(daemon, pids)| judge_daemon(CHECK, daemon, &pids.join(", "), wants_hardware)).collect()
}

fn judge_daemon(check: &'static str, daemon: &Daemon, pid: &str, wants_hardware: bool) -> Finding {
    let Daemon { name, steers, shares_network, .. } = daemon;
    let place = match shares_network {
        Some(true) => "",
        Some(false) => ", in another network namespace",
        None => ", in a network namespace that we may not see",
    };
    if *steers == Steers::System {
        let fix = "it may go on beside discipline = \"observe\" and \"virtual\", which steer no clock of the host; stop it \
                   before discipline = \"system\"";
        let says = format!("{name} (pid {pid}{place}) steers CLOCK_REALTIME");
        return Finding::note(check, says).fix(fix);
    }
    // A NIC is of one network namespace.
    let is_at_our_nics = wants_hardware && *shares_network != Some(false);
    let outcome = if is_at_our_nics { Outcome::Missing } else { Outcome::Note };
    let says = format!("{name} (pid {pid}{place}) may steer a PHC and set a NIC's stamp filter");
    let fix = format!("stop {name} where truebound uses that NIC's stamps, and always before phc = \"steer\"");
    Finding::new(check, outcome, says).fix(fix)
}

/// One finding for each port that somebody else has, or that all are free.
pub(crate) fn judge_ports(bound: &[BoundPort]) -> Vec<Finding> {
    const CHECK: &str = "ports";
    let mut findings: Vec<Finding> = bound.iter().map(|port| judge_port(CHECK, port)).collect();
    findings.dedup();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "UDP 123, 319 and 320 are free in this network namespace"));
    }
    findings
}

fn judge_port(check: &'static str, bound: &BoundPort) -> Finding {
    let BoundPort { port, address, owner } = bound;
    let (who, name) = match owner {
        Some(Owner { name, pid, is_ours: true }) => {
            return Finding::ok(check, format!("UDP {port} is ours: {name} (pid {pid})"));
        }
        Some(Owner { name, pid, .. }) => (format!("{name} (pid {pid})"), name.clone()),
        None => ("another process".to_owned(), format!("it (`ss -ulnp sport = :{port}` names it)")),
    };
    let says = format!("UDP {port} of {address} is bound by {who}");
    let fix = match port {
        123 => format!("stop {name}, or let [server] listen elsewhere; NTP sources work beside it"),
        _ => format!("stop {name}, or use transport = \"ethernet\" in [[ptp]]"),
    };
    Finding::missing(check, says, fix)
}

/// Who listens at our ports, in this network namespace.
pub(crate) fn bound_ports() -> Vec<BoundPort> {
    let tables =
        ["/proc/self/net/udp", "/proc/self/net/udp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let bound: Vec<(u16, IpAddr, u64)> = tables.iter().flat_map(|table| table.lines()).filter_map(bound_port).collect();
    let inodes: Vec<u64> = bound.iter().map(|(_, _, inode)| *inode).collect();
    let owners = owners(&inodes);
    let owned = |(port, address, inode)| BoundPort { port, address, owner: owners.get(&inode).cloned() };
    bound.into_iter().map(owned).collect()
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …` of one of our ports.
fn bound_port(line: &str) -> Option<(u16, IpAddr, u64)> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|port| PORTS.contains(port))?;
    Some((port, hex_address(address)?, fields.nth(7)?.parse().ok()?))
}

/// The kernel prints 32-bit words as it holds them in memory.
fn hex_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(name: &'static str, steers: Steers, shares_network: Option<bool>) -> Daemon {
        Daemon { name, pid: 7, steers, shares_network }
    }

    #[test]
    fn only_who_contests_a_nic_hinders() {
        use Outcome::{Missing, Note, Ok};
        let outcome = |daemon: Daemon, wants| judge_daemons(&[daemon], wants)[0].verdict;
        assert_eq!(judge_daemons(&[], true)[0].verdict, Ok);
        assert_eq!(outcome(daemon("truebound", Steers::Nothing, Some(true)), true), Ok);
        assert_eq!(outcome(daemon("chronyd", Steers::System, Some(true)), true), Note);
        assert_eq!(outcome(daemon("ptp4l", Steers::Phc, Some(true)), true), Missing);
        assert_eq!(outcome(daemon("ptp4l", Steers::Phc, None), true), Missing);
        assert_eq!(outcome(daemon("ptp4l", Steers::Phc, Some(false)), true), Note);
        assert_eq!(outcome(daemon("ptp4l", Steers::Phc, Some(true)), false), Note);
    }

    #[test]
    fn daemons_of_one_kind_and_place_are_told_together() {
        let ptp4l = |pid, shares_network| Daemon { pid, ..daemon("ptp4l", Steers::Phc, Some(shares_network)) };
        let findings = judge_daemons(&[ptp4l(3, false), ptp4l(4, true), ptp4l(5, false)], true);
        let says: Vec<&str> = findings.iter().map(|finding| finding.says.as_str()).collect();
        assert_eq!(says.len(), 2, "{says:?}");
        assert!(says[0].starts_with("ptp4l (pid 3, 5, in another network namespace)"), "{says:?}");
        assert!(says[1].starts_with("ptp4l (pid 4) "), "{says:?}");
    }

    #[test]
    fn a_port_of_somebody_else_is_missing_and_ours_is_not() {
        let at = |port, owner| judge_ports(&[BoundPort { port, address: Ipv4Addr::UNSPECIFIED.into(), owner }]);
        let owner = |name: &str, is_ours| Some(Owner { name: name.to_owned(), pid: 4, is_ours });
        assert_eq!(judge_ports(&[])[0].verdict, Outcome::Ok);
        assert_eq!(at(319, owner("truebound", true))[0].verdict, Outcome::Ok);
        let chrony = &at(123, owner("chronyd", false))[0];
        assert_eq!(chrony.verdict, Outcome::Missing);
        assert!(
            chrony.says.contains("chronyd (pid 4)") && chrony.fix.as_ref().is_some_and(|fix| fix.contains("[server]"))
        );
        let unknown = &at(320, None)[0];
        assert!(
            unknown.says.contains("another process") && unknown.fix.as_ref().is_some_and(|fix| fix.contains("ss "))
        );
    }

    #[test]
    fn the_kernels_table_is_read() {
        let heading =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(bound_port(heading), None);
        let v4 = format!(
            " 1: {:08X}:007B 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4242 2 0 0",
            u32::from_ne_bytes([127, 0, 0, 1])
        );
        assert_eq!(bound_port(&v4), Some((123, Ipv4Addr::LOCALHOST.into(), 4242)));
        let word = u32::from_ne_bytes([0, 0, 0, 1]);
        let v6 = format!(" 2: 000000000000000000000000{word:08X}:013F 0:0 07 0:0 00:0 0 0 0 77 2 0 0");
        assert_eq!(bound_port(&v6), Some((319, Ipv6Addr::LOCALHOST.into(), 77)));
        assert_eq!(bound_port(&v4.replace(":007B", ":007C")), None, "not a port of ours");
        for broken in ["", "1:", "1: 0100007F", "1: 01:007B x", "1: éé00007F:007B a b c d e f g 1"] {
            assert_eq!(bound_port(broken), None, "{broken}");
        }
    }
}
