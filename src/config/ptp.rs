//! `[[ptp]]`: one PTP port each, and the source that a port which may be a slave listens to.

use truebound_core::estimate::Filter;
use truebound_core::settings::{DelayMechanism, PtpRole, PtpSettings, PtpTransport, SourceKind, SourceSettings};

use super::error::ConfigError;
use super::quantity::{DURATION, MS, S, duration_ns, show_duration};
use super::source::{Sources, TIMESCALES, read_word_of_operator};
use super::table::{Entry, Table, choice, duration, integer, string, word};

const TRANSPORTS: [(&str, PtpTransport); 3] =
    [("udp4", PtpTransport::Udp4), ("udp6", PtpTransport::Udp6), ("ethernet", PtpTransport::Ethernet)];
const DELAYS: [(&str, DelayMechanism); 2] = [("e2e", DelayMechanism::EndToEnd), ("p2p", DelayMechanism::PeerToPeer)];
const ROLES: [(&str, PtpRole); 3] = [("slave", PtpRole::Slave), ("master", PtpRole::Master), ("auto", PtpRole::Auto)];
/// Does the NIC stamp, where it can?
const STAMPS: [(&str, bool); 2] = [("hardware", true), ("kernel", false)];
/// Is the NIC's clock steered?
const PHCS: [(&str, bool); 2] = [("free", false), ("steer", true)];
/// Without the one that needs probes in pairs, which PTP does not send.
const FILTERS: [(&str, Filter); 2] = [("adaptive", Filter::Adaptive), ("separator", Filter::Separator)];

/// IEEE 1588-2019 table 2: higher numbers are not for profiles such as the default one.
const MAX_DOMAIN: u8 = 127;
/// log2 of the shortest and the longest interval between messages, s.
const LOG_INTERVALS: [i8; 2] = [-6, 4];

/// Every `[[ptp]]`; those that may be slaves add to `sources`.
pub(crate) fn read_ports(tables: &[Table<'_>], sources: &mut Sources) -> Result<Vec<PtpSettings>, ConfigError> {
    let mut ports: Vec<(PtpSettings, usize)> = Vec::new();
    for table in tables {
        let (interface_entry, port) = read_port(table)?;
        let named_by = table.entry("name").unwrap_or_else(|| interface_entry.clone());
        refuse_twice(&port, &named_by, &interface_entry, &ports)?;
        let source = read_source_of(table, &port, u16::try_from(ports.len()).unwrap_or(u16::MAX))?;
        if let Some(source) = source {
            refuse_beside_local(&table.entry("role").unwrap_or(interface_entry), sources)?;
            sources.push(source, &named_by)?;
        }
        ports.push((port, named_by.line()));
    }
    Ok(ports.into_iter().map(|(port, _)| port).collect())
}

fn read_port<'a>(table: &Table<'a>) -> Result<(Entry<'a>, PtpSettings), ConfigError> {
    let Some(interface_entry) = table.entry("interface") else {
        return Err(table.error("[[ptp]] without an interface", "add interface = \"eth0\""));
    };
    let mut port = PtpSettings::new(interface(&interface_entry)?);
    table.set("name", &mut port.name, word)?;
    table.set("domain", &mut port.domain, integer(0, MAX_DOMAIN))?;
    table.set("transport", &mut port.transport, choice(&TRANSPORTS))?;
    table.set("delay", &mut port.delay, choice(&DELAYS))?;
    table.set("role", &mut port.role, choice(&ROLES))?;
    table.set("timescale", &mut port.timescale, choice(&TIMESCALES))?;
    table.set("priority1", &mut port.priority1, integer(0, u8::MAX))?;
    table.set("priority2", &mut port.priority2, integer(0, u8::MAX))?;
    table.set("announce-interval", &mut port.log_announce, log_interval)?;
    table.set("sync-interval", &mut port.log_sync, log_interval)?;
    table.set("delay-interval", &mut port.log_delay, log_interval)?;
    table.set("announce-timeout", &mut port.announce_timeout, integer(2, 10))?;
    read_stamps_of(table, &mut port)?;
    Ok((interface_entry, port))
}

/// What stamps the messages, and how exactly.
fn read_stamps_of(table: &Table<'_>, port: &mut PtpSettings) -> Result<(), ConfigError> {
    table.set("stamps", &mut port.hardware, choice(&STAMPS))?;
    table.set("stamp-error", &mut port.stamp_error_ns, duration(0, MS))?;
    table.set("remote-stamp-error", &mut port.remote_stamp_error_ns, duration(0, MS))?;
    table.set("ingress-latency", &mut port.ingress_latency_ns, duration(-MS, MS))?;
    table.set("egress-latency", &mut port.egress_latency_ns, duration(-MS, MS))?;
    table.set("delay-asymmetry", &mut port.delay_asymmetry_ns, duration(-S, S))?;
    table.set("hop-error", &mut port.hop_error_ns, duration(0, S))?;
    table.set("phc", &mut port.steers_phc, choice(&PHCS))?;
    match table.entry("phc") {
        Some(entry) if port.steers_phc && !port.hardware => {
            let fix = "use stamps = \"hardware\", or phc = \"free\"";
            Err(entry.error("what kernel stamps tell is too coarse to steer a PHC", fix))
        }
        _ => Ok(()),
    }
}

/// The source that the port's grandmaster is; none for a port that is never a slave.
fn read_source_of(table: &Table<'_>, port: &PtpSettings, index: u16) -> Result<Option<SourceSettings>, ConfigError> {
    if port.role == PtpRole::Master {
        return match ["trust", "group", "filter"].into_iter().find_map(|key| table.entry(key)) {
            Some(entry) => Err(entry.error("only for roles slave and auto, this is a master", "remove the line")),
            None => Ok(None),
        };
    }
    let mut source = SourceSettings::new(port.name.clone(), SourceKind::Ptp { port: index });
    table.set("filter", &mut source.filter, choice(&FILTERS))?;
    read_word_of_operator(table, &mut source)?;
    Ok(Some(source))
}

/// Two ports need two names, and hear the same messages if they share interface, transport and domain.
fn refuse_twice(
    port: &PtpSettings,
    named_by: &Entry<'_>,
    interface_entry: &Entry<'_>,
    others: &[(PtpSettings, usize)],
) -> Result<(), ConfigError> {
    let hears = |port: &PtpSettings| (port.interface.clone(), port.domain, port.transport);
    if let Some((_, line)) = others.iter().find(|(other, _)| hears(other) == hears(port)) {
        let why = format!("the port of line {line} has the same interface, domain and transport");
        return Err(interface_entry.error(why, "remove one of the two, or change its domain or transport"));
    }
    match others.iter().find(|(other, _)| other.name == port.name) {
        Some((_, line)) => {
            let why = format!("the port of line {line} is also named `{}`", port.name);
            Err(named_by.error(why, "give one of them another name = \"...\""))
        }
        None => Ok(()),
    }
}

fn refuse_beside_local(role: &Entry<'_>, sources: &Sources) -> Result<(), ConfigError> {
    let Some(line) = sources.local_line() else { return Ok(()) };
    let why = format!("a host that defines time (line {line}) cannot follow a grandmaster");
    Err(role.error(why, "use role = \"master\", or remove that [[source]]"))
}

/// The name of a network interface, as the kernel allows it and a line of log can hold it.
fn interface(entry: &Entry<'_>) -> Result<String, ConfigError> {
    let text = string(entry)?;
    let bad = |b: u8| !b.is_ascii_graphic() || matches!(b, b'/' | b':' | b'"' | b'=');
    if text.len() > 15 || text.bytes().any(bad) || matches!(text, "." | "..") {
        return Err(entry.error("not the name of an interface", "use a name that `ip link` shows, such as \"eth0\""));
    }
    Ok(text.to_owned())
}

/// The interval 2ⁿ s, ns; exact down to 2⁻⁹ s.
fn interval_ns(log: i8) -> i64 {
    if log < 0 { S >> log.unsigned_abs() } else { S << log }
}

/// log2 of an interval in seconds: messages carry nothing else.
fn log_interval(entry: &Entry<'_>) -> Result<i8, ConfigError> {
    let ns = entry.quantity(&DURATION, duration_ns)?;
    let [min, max] = LOG_INTERVALS;
    if let Some(log) = (min..=max).find(|&log| interval_ns(log) == ns) {
        return Ok(log);
    }
    // By ratio: 3 s is nearer to 4 s than to 2 s. Squares, since there is no root to round then.
    let is_nearer_above = |&log: &i8| {
        let square = i128::from(ns) * i128::from(ns);
        ns > 0 && square >= i128::from(interval_ns(log)) * i128::from(interval_ns(log + 1))
    };
    let nearest = (min..max).rev().find(is_nearer_above).map_or(min, |log| log + 1);
    let [shortest, longest] = [min, max].map(|log| show_duration(interval_ns(log)));
    let why = format!("not a power of two of 1s from {shortest} to {longest}");
    Err(entry.error(why, format!("use \"{}\"", show_duration(interval_ns(nearest)))))
}
