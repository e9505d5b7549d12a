//! Interfaces: what stamps their packets, what would be used of it, and what hinders more.

use std::io;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde::Serialize;
use truebound_hw::hwtstamp::{StampConfig, StampControl};
use truebound_hw::nic::{Facts, Interface, Kind, StampCaps, rx_filter_name};

use super::Finding;
use super::phc::{self, Clock, device};
use super::privilege::{Capabilities, Capability};

/// HWTSTAMP_TX_ON.
const TX_ON: u32 = 1;
/// Filters that let PTP event messages through, in the order in which they are tried; the names of ethtool.
const FILTERS: [&str; 4] = ["ptpv2-event", "ptpv2-l4-event", "ptpv2-l2-event", "all"];

/// What was seen of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) facts: Facts,
    pub(crate) caps: StampCaps,
    /// What it stamps now; `None`: its driver does not tell.
    pub(crate) stamps_now: Option<StampConfig>,
    pub(crate) clock: Option<Clock>,
}

/// One interface, for `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct InterfaceReport {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) driver: Option<String>,
    pub(crate) is_up: bool,
    pub(crate) is_running: bool,
    pub(crate) mac: Option<String>,
    /// The best stamps that would be used: hardware, kernel or user.
    pub(crate) stamps: &'static str,
    /// N of the /dev/ptpN of its stamps.
    pub(crate) phc: Option<u32>,
    pub(crate) phc_readable: Option<bool>,
    pub(crate) phc_writable: Option<bool>,
    /// How that clock is read against raw time: precise, extended or sandwich.
    pub(crate) cross: Option<&'static str>,
    /// What the NIC stamps on receipt now.
    pub(crate) rx_filter: Option<&'static str>,
    /// What it can be told to stamp; empty if its driver does not say.
    pub(crate) rx_filters: Vec<&'static str>,
    /// The same in words.
    pub(crate) would_use: String,
}

/// The interface of that name, or all that are up and not lo.
pub(crate) fn look(name: Option<&str>) -> (Vec<Nic>, Vec<Finding>) {
    const CHECK: &str = "interface";
    let names = name.map_or_else(names_up, |name| vec![name.to_owned()]);
    let (mut nics, mut findings) = (Vec::new(), Vec::new());
    for name in names {
        match look_at(&name) {
            Ok(nic) => nics.push(nic),
            Err(error) => {
                let fix = "name one that `ip link` shows in this network namespace";
                findings.push(Finding::problem(CHECK, format!("{name}: {error}"), fix).of(&name));
            }
        }
    }
    if nics.is_empty() && findings.is_empty() {
        let fix = "set one up (`ip link set NAME up`), or look at one with `truebound doctor NAME`";
        findings.push(Finding::problem(CHECK, "no interface is up in this network namespace, besides lo", fix));
    }
    (nics, findings)
}

fn names_up() -> Vec<String> {
    let is_wanted =
        |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK);
    let addresses = getifaddrs().into_iter().flatten();
    let mut names: Vec<String> =
        addresses.filter(|address| is_wanted(address.flags)).map(|address| address.interface_name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn look_at(name: &str) -> io::Result<Nic> {
    let interface = Interface::new(name)?;
    let (facts, caps) = (interface.facts()?, interface.stamp_caps()?);
    let clock = caps.phc.map(phc::look_at);
    Ok(Nic { name: name.to_owned(), facts, caps, stamps_now: interface.get().ok(), clock })
}

/// What would be used of it, and findings about it.
pub(crate) fn judge(nic: &Nic, held: Capabilities) -> (InterfaceReport, Vec<Finding>) {
    let is_candidate = nic.caps.hardware() && nic.facts.kind != Kind::Bond;
    let obstacles = if is_candidate { obstacles(nic, held) } else { Vec::new() };
    let mut findings = vec![link(nic)];
    findings.extend(kind(nic));
    findings.push(stamps(nic, held, &obstacles));
    if nic.caps.hardware() {
        findings.push(filter(nic));
    }
    findings.extend(nic.clock.as_ref().map(phc::judge));
    let findings = findings.into_iter().map(|finding| finding.of(&nic.name)).collect();
    (report(nic, held, obstacles.is_empty()), findings)
}

/// Why its hardware stamps would not be used, each with what to do.
fn obstacles(nic: &Nic, held: Capabilities) -> Vec<(String, &'static str)> {
    let mut obstacles = Vec::new();
    if filter_to_use(nic, held).is_none() {
        obstacles.push(match best_known_filter(nic) {
            None => (
                "its driver has no filter that lets PTP event messages through".to_owned(),
                "look for a newer driver or firmware",
            ),
            Some(filter) => (
                format!("its filter has to be set to {filter}, which needs CAP_NET_ADMIN"),
                "start the agent with CAP_NET_ADMIN (AmbientCapabilities= in its unit)",
            ),
        });
    }
    if let Some(Clock { id, unreadable: Some(why), .. }) = &nic.clock {
        let fix = "let the agent read it: by a udev rule that gives it a group, and with PrivateDevices=no in its unit";
        obstacles.push((format!("{} cannot be read: {why}", device(*id)), fix));
    }
    obstacles
}

/// The filter that would be in force: what is, if it does, otherwise the first that we may set.
fn filter_to_use(nic: &Nic, held: Capabilities) -> Option<&'static str> {
    let now = nic.stamps_now.filter(|now| now.tx_type == TX_ON).map(|now| rx_filter_name(now.rx_filter));
    let suffices = now.filter(|now| FILTERS.contains(now));
    suffices.or_else(|| best_known_filter(nic).filter(|_| held.has(Capability::NetAdmin)))
}

/// The first that the driver lists; the first of all if it lists none.
fn best_known_filter(nic: &Nic) -> Option<&'static str> {
    let known = nic.caps.rx_filter_names();
    FILTERS.into_iter().find(|filter| known.is_empty() || known.contains(filter))
}

fn link(nic: &Nic) -> Finding {
    const CHECK: &str = "link";
    let up = format!("ip link set {} up", nic.name);
    match nic.facts.link {
        link if link.is_running => Finding::ok(CHECK, "up, with a carrier"),
        link if link.is_up => Finding::missing(CHECK, "up, without a carrier", "plug the cable in at both ends"),
        _ => Finding::missing(CHECK, "down", up),
    }
}

/// What its kind means for its stamps.
fn kind(nic: &Nic) -> Option<Finding> {
    const CHECK: &str = "kind";
    match &nic.facts.kind {
        Kind::Loopback => Some(Finding::note(CHECK, "loopback: it reaches this host only")),
        Kind::Veth => Some(Finding::note(CHECK, "veth: a virtual cable, without a NIC or a PHC")),
        Kind::Vlan { below } => {
            let below = below.as_deref().unwrap_or("the interface below");
            Some(Finding::note(CHECK, format!("VLAN: its stamps are those of {below}, whose filter it shares")))
        }
        Kind::Bond => {
            let says = "bond: kernel stamps only, for the NIC's clock changes at failover";
            let fix = "for hardware stamps give each member a [[ptp]] of its own with transport = \"ethernet\"";
            Some(Finding::note(CHECK, says).fix(fix))
        }
        Kind::Bridge => {
            let fix = "name a port of the bridge in [[ptp]] with transport = \"ethernet\", and keep the bridge from taking \
                       its frames: ebtables -t broute -A BROUTING -p 0x88F7 -j DROP";
            Some(Finding::note(CHECK, "bridge: it has no stamps of a NIC, and queues before its ports").fix(fix))
        }
        Kind::Other if nic.facts.is_bond_member => {
            let fix = "use transport = \"ethernet\" on it: what comes by UDP is the bond's";
            Some(Finding::note(CHECK, "member of a bond").fix(fix))
        }
        Kind::Other => None,
    }
}

fn stamps(nic: &Nic, held: Capabilities, obstacles: &[(String, &'static str)]) -> Finding {
    const CHECK: &str = "stamps";
    let used = stamps_word(nic, obstacles.is_empty());
    if !obstacles.is_empty() {
        let says: Vec<&str> = obstacles.iter().map(|(says, _)| says.as_str()).collect();
        let fixes: Vec<&str> = obstacles.iter().map(|&(_, fix)| fix).collect();
        let says = format!("{used} stamps, though the NIC can: {}", says.join("; "));
        return Finding::missing(CHECK, says, fixes.join("; "));
    }
    match used {
        "hardware" => {
            let filter = filter_to_use(nic, held).unwrap_or("?");
            Finding::ok(CHECK, format!("hardware stamps of {}, filter {filter}", clock_words(nic)))
        }
        "kernel" => {
            let finding = Finding::note(CHECK, "kernel stamps; it has no hardware stamps with a clock");
            let can_be_better = nic.facts.kind == Kind::Other;
            if can_be_better {
                finding.fix("a NIC with hardware stamps and a PHC gives a narrower bound")
            } else {
                finding
            }
        }
        _ => {
            let what = if nic.caps.software_rx() { "on transmission" } else { "at all" };
            let says = format!("user stamps: its driver does not stamp {what}");
            Finding::missing(CHECK, says, "use another interface, or a newer driver; the bound is wider until then")
        }
    }
}

/// What the NIC stamps now, and what it can be told to.
fn filter(nic: &Nic) -> Finding {
    const CHECK: &str = "rx-filter";
    let now = nic.stamps_now.map_or("not told", |now| rx_filter_name(now.rx_filter));
    let known = nic.caps.rx_filter_names();
    let known = if known.is_empty() { "not told".to_owned() } else { known.join(", ") };
    let says = format!("now {now}; possible: {known}");
    match best_known_filter(nic) {
        Some("all") => Finding::ok(CHECK, says),
        Some("ptpv2-event") => Finding::ok(CHECK, format!("{says}; NTP gets kernel stamps")),
        Some("ptpv2-l4-event") => Finding::note(CHECK, format!("{says}; PTP over UDP only")).fix("use udp4 or udp6"),
        Some(_) => Finding::note(CHECK, format!("{says}; PTP over Ethernet only")).fix("use transport = \"ethernet\""),
        None => Finding::note(CHECK, format!("{says}; none lets PTP event messages through")),
    }
}

fn report(nic: &Nic, held: Capabilities, is_unhindered: bool) -> InterfaceReport {
    let stamps = stamps_word(nic, is_unhindered);
    let would_use = match stamps {
        "hardware" => {
            let filter = filter_to_use(nic, held).unwrap_or("?");
            format!("hardware stamps of {}, filter {filter}", clock_words(nic))
        }
        other => format!("{other} stamps"),
    };
    let method = nic.clock.as_ref().and_then(|clock| clock.method);
    InterfaceReport {
        name: nic.name.clone(),
        kind: kind_word(&nic.facts.kind),
        driver: nic.facts.driver.clone(),
        is_up: nic.facts.link.is_up,
        is_running: nic.facts.link.is_running,
        mac: nic.facts.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")),
        stamps,
        phc: nic.clock.as_ref().map(|clock| clock.id.0),
        phc_readable: nic.clock.as_ref().map(|clock| clock.unreadable.is_none()),
        phc_writable: nic.clock.as_ref().map(|clock| clock.is_writable),
        cross: method.map(phc::method_word),
        rx_filter: nic.stamps_now.map(|now| rx_filter_name(now.rx_filter)),
        rx_filters: nic.caps.rx_filter_names(),
        would_use,
    }
}

/// The best stamps that would be used.
fn stamps_word(nic: &Nic, is_unhindered: bool) -> &'static str {
    if nic.caps.hardware() && is_unhindered && nic.facts.kind != Kind::Bond {
        "hardware"
    } else if nic.caps.software_rx() && nic.caps.software_tx() {
        "kernel"
    } else {
        "user"
    }
}

fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Loopback => "loopback",
        Kind::Veth => "veth",
        Kind::Vlan { .. } => "vlan",
        Kind::Bond => "bond",
        Kind::Bridge => "bridge",
        Kind::Other => "other",
    }
}

fn clock_words(nic: &Nic) -> String {
    nic.clock.as_ref().map_or("no clock".to_owned(), |clock| device(clock.id))
}

#[cfg(test)]
mod tests {
    use truebound_core::io::PhcId;
    use truebound_hw::nic::LinkState;
    use truebound_hw::phc::Method;

    use super::*;
    use crate::doctor::Outcome;

    const NONE: u32 = 0;
    const V1: u32 = 4;
    const V2_EVENT: u32 = 12;

    /// An 82576, as `ethtool -T` and the kernel show it.
    fn igb() -> Nic {
        Nic {
            name: "eth0".into(),
            facts: Facts {
                kind: Kind::Other,
                driver: Some("igb".into()),
                is_bond_member: false,
                link: LinkState { is_up: true, is_running: true },
                mac: Some([2, 0, 0, 0, 0, 1]),
            },
            caps: StampCaps { flags: 0x5f, phc: Some(PhcId(0)), tx_types: 0b11, rx_filters: 0x1031 },
            stamps_now: Some(StampConfig { tx_type: 0, rx_filter: NONE }),
            clock: Some(Clock {
                id: PhcId(0),
                name: Some("82576".into()),
                unreadable: None,
                is_writable: true,
                method: Some(Method::Extended),
                stated_error_ns: None,
            }),
        }
    }

    fn all() -> Capabilities {
        Capabilities::all()
    }

    fn none() -> Capabilities {
        Capabilities::default()
    }

    /// The stamps that would be used, and how the check of that name came out.
    fn outcome(nic: &Nic, held: Capabilities, check: &str) -> (&'static str, Option<Outcome>) {
        let (report, findings) = judge(nic, held);
        assert!(findings.iter().all(|finding| finding.interface.as_deref() == Some("eth0")));
        (report.stamps, findings.iter().find(|finding| finding.check == check).map(|finding| finding.verdict))
    }

    #[test]
    fn a_nic_that_stamps_is_used_where_we_may() {
        assert_eq!(outcome(&igb(), all(), "stamps"), ("hardware", Some(Outcome::Ok)));
        let (report, _) = judge(&igb(), all());
        assert_eq!(report.would_use, "hardware stamps of /dev/ptp0, filter ptpv2-event");
        assert_eq!((report.phc, report.cross, report.rx_filter), (Some(0), Some("extended"), Some("none")));
        assert_eq!(outcome(&igb(), none(), "stamps"), ("kernel", Some(Outcome::Missing)));
    }

    #[test]
    fn a_filter_that_is_set_needs_no_privilege() {
        let set = |rx_filter, tx_type| Nic { stamps_now: Some(StampConfig { tx_type, rx_filter }), ..igb() };
        assert_eq!(outcome(&set(V2_EVENT, TX_ON), none(), "stamps"), ("hardware", Some(Outcome::Ok)));
        for (rx_filter, tx_type) in [(V2_EVENT, 0), (V1, TX_ON), (NONE, TX_ON)] {
            assert_eq!(outcome(&set(rx_filter, tx_type), none(), "stamps").1, Some(Outcome::Missing), "{rx_filter}");
        }
    }

    #[test]
    fn a_nic_without_a_filter_for_ptp_is_not_used() {
        let caps = StampCaps { rx_filters: 1 << NONE | 1 << V1, ..igb().caps };
        let nic = Nic { caps, ..igb() };
        assert_eq!(outcome(&nic, all(), "stamps"), ("kernel", Some(Outcome::Missing)));
        assert_eq!(outcome(&nic, all(), "rx-filter").1, Some(Outcome::Note));
        let (_, findings) = judge(&nic, all());
        let stamps = findings.iter().find(|finding| finding.check == "stamps").and_then(|finding| finding.fix.as_ref());
        assert!(stamps.is_some_and(|fix| fix.contains("driver")), "{findings:?}");
        // A driver that lists none may know all.
        let nic = Nic { caps: StampCaps { rx_filters: 0, ..igb().caps }, ..igb() };
        assert_eq!(judge(&nic, all()).0.would_use, "hardware stamps of /dev/ptp0, filter ptpv2-event");
    }

    #[test]
    fn a_clock_that_cannot_be_read_hinders_and_one_that_cannot_be_written_does_not() {
        let clock = |unreadable: Option<&str>, is_writable| {
            let unreadable = unreadable.map(str::to_owned);
            Nic { clock: igb().clock.map(|clock| Clock { unreadable, is_writable, ..clock }), ..igb() }
        };
        let barred = clock(Some("Permission denied"), false);
        assert_eq!(outcome(&barred, all(), "stamps"), ("kernel", Some(Outcome::Missing)));
        let read_only = clock(None, false);
        assert_eq!(outcome(&read_only, all(), "stamps"), ("hardware", Some(Outcome::Ok)));
        assert_eq!(outcome(&read_only, all(), "phc").1, Some(Outcome::Note));
        assert_eq!(outcome(&igb(), all(), "phc").1, Some(Outcome::Ok));
    }

    #[test]
    fn without_a_nic_that_stamps_nothing_is_hindered() {
        let software = StampCaps { flags: 0x1a, ..StampCaps::default() };
        let kind = |kind| Facts { kind, ..igb().facts };
        let veth = Nic { caps: software, facts: kind(Kind::Veth), clock: None, ..igb() };
        assert_eq!(outcome(&veth, none(), "stamps"), ("kernel", Some(Outcome::Note)));
        assert_eq!(outcome(&veth, none(), "kind").1, Some(Outcome::Note));
        assert_eq!(outcome(&veth, none(), "rx-filter").1, None);
        let only_rx = Nic { caps: StampCaps { flags: 0x18, ..software }, ..veth.clone() };
        assert_eq!(outcome(&only_rx, all(), "stamps"), ("user", Some(Outcome::Missing)));
        let below = Some("eth1".to_owned());
        for kind in [kind(Kind::Vlan { below }), kind(Kind::Bond), kind(Kind::Bridge), kind(Kind::Loopback)] {
            assert_eq!(outcome(&Nic { facts: kind, ..veth.clone() }, all(), "kind").1, Some(Outcome::Note));
        }
    }

    #[test]
    fn a_link_that_is_down_is_missing() {
        for (is_up, is_running, expected) in
            [(true, true, Outcome::Ok), (true, false, Outcome::Missing), (false, false, Outcome::Missing)]
        {
            let facts = Facts { link: LinkState { is_up, is_running }, ..igb().facts };
            assert_eq!(outcome(&Nic { facts, ..igb() }, all(), "link").1, Some(expected));
        }
    }
}
