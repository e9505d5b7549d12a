//! What this process may do. An agent that runs under another user or unit may do something else.

use super::Finding;

/// The privileges that something here may need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

/// Bits of the capability sets (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    SysTime = 25,
}

impl Capabilities {
    /// Those in force.
    pub(crate) fn of_this_process() -> Self {
        std::fs::read_to_string("/proc/self/status").ok().and_then(|text| Self::from_status(&text)).unwrap_or_default()
    }

    fn from_status(text: &str) -> Option<Self> {
        let set = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(set.trim(), 16).ok().map(Capabilities)
    }

    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Capabilities(u64::MAX)
    }

    pub(crate) fn has(self, capability: Capability) -> bool {
        self.0 >> (capability as u32) & 1 == 1
    }
}

/// Ports from this one on are for everybody.
pub(crate) fn first_free_port() -> u16 {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    std::fs::read_to_string(SETTING).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// One finding for each privilege.
pub(crate) fn judge(held: Capabilities, first_free_port: u16, wants_hardware: bool) -> Vec<Finding> {
    vec![
        low_ports(held, first_free_port),
        net_admin(held, wants_hardware),
        net_raw(held),
        // Whoever may write to /dev/ptpN may steer it: that is of the check `phc`.
        Finding::ok(
            "cap-sys-time",
            match held.has(Capability::SysTime) {
                true => "CAP_SYS_TIME is held and not used: nothing steers CLOCK_REALTIME",
                false => "CAP_SYS_TIME is not needed: nothing steers CLOCK_REALTIME",
            },
        ),
    ]
}

fn low_ports(held: Capabilities, first_free_port: u16) -> Finding {
    const CHECK: &str = "low-ports";
    const FIX: &str = "start the agent with CAP_NET_BIND_SERVICE (AmbientCapabilities= in its unit), or set \
                       net.ipv4.ip_unprivileged_port_start to 123";
    if held.has(Capability::NetBindService) || first_free_port <= 123 {
        return Finding::ok(CHECK, "UDP 123 (NTP server), 319 and 320 (PTP) may be bound");
    }
    let barred = if first_free_port <= 319 { "123 (NTP server)" } else { "123 (NTP server), 319 and 320 (PTP)" };
    Finding::missing(CHECK, format!("this process may not bind UDP {barred}; NTP sources work"), FIX)
}

fn net_admin(held: Capabilities, wants_hardware: bool) -> Finding {
    const CHECK: &str = "cap-net-admin";
    match (held.has(Capability::NetAdmin), wants_hardware) {
        (true, _) => Finding::ok(CHECK, "CAP_NET_ADMIN is held: a NIC may be told what to stamp"),
        (false, false) => Finding::ok(CHECK, "CAP_NET_ADMIN is not needed: no NIC here stamps"),
        (false, true) => {
            let fix = "start the agent with CAP_NET_ADMIN (AmbientCapabilities= in its unit)";
            Finding::missing(CHECK, "without CAP_NET_ADMIN no NIC can be told what to stamp", fix)
        }
    }
}

fn net_raw(held: Capabilities) -> Finding {
    const CHECK: &str = "cap-net-raw";
    if held.has(Capability::NetRaw) {
        return Finding::ok(CHECK, "CAP_NET_RAW is held: PTP over Ethernet is possible");
    }
    let fix = "start the agent with CAP_NET_RAW where a [[ptp]] has transport = \"ethernet\"";
    Finding::note(CHECK, "without CAP_NET_RAW PTP goes over UDP only").fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    fn outcomes(held: Capabilities, first_free_port: u16, wants_hardware: bool) -> Vec<Outcome> {
        judge(held, first_free_port, wants_hardware).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn the_set_in_force_is_read() {
        let text = "Name:\tx\nCapPrm:\t00000000ffffffff\nCapEff:\t0000000000001400\nCapBnd:\t0\n";
        let held = Capabilities::from_status(text).expect("a set");
        assert!(held.has(Capability::NetAdmin) && held.has(Capability::NetBindService));
        assert!(!held.has(Capability::NetRaw) && !held.has(Capability::SysTime));
        assert_eq!(Capabilities::from_status("Name:\tx\n"), None);
        assert_eq!(Capabilities::from_status("CapEff:\tzz\n"), None);
    }

    #[test]
    fn what_is_needed_and_not_held_is_missing() {
        use Outcome::{Missing, Note, Ok};
        let none = Capabilities::default();
        assert_eq!(outcomes(Capabilities(u64::MAX), 1024, true), [Ok, Ok, Ok, Ok]);
        assert_eq!(outcomes(none, 1024, false), [Missing, Ok, Note, Ok]);
        assert_eq!(outcomes(none, 1024, true), [Missing, Missing, Note, Ok]);
        assert_eq!(outcomes(none, 123, false), [Ok, Ok, Note, Ok]);
    }

    #[test]
    fn only_the_barred_ports_are_named() {
        let says = |first| low_ports(Capabilities::default(), first).says;
        assert!(says(1024).contains("319") && says(320).contains("319"));
        assert!(says(319).contains("123") && !says(319).contains("319"));
    }
}
