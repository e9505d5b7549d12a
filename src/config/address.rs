//! Hosts, listening addresses and prefixes, as an operator writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use truebound_core::settings::Prefix;

use super::error::ConfigError;
use super::table::{Entry, string};

/// RFC 5905: the port of NTP.
const NTP_PORT: u16 = 123;

const HOST_USAGE: &str =
    r#"use a name or an address, for example "time.example.net", "192.0.2.1:123" or "[2001:db8::1]:123""#;

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address; the host comes without brackets.
pub(crate) fn host_and_port(entry: &Entry<'_>) -> Result<(String, u16), ConfigError> {
    let text = string(entry)?;
    let (host, port) = split_port(text).ok_or_else(|| entry.error("not a host", HOST_USAGE))?;
    let port = match port {
        None => NTP_PORT,
        Some(digits) => match digits.parse() {
            Ok(port) if port != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => return Err(entry.error(format!("`{digits}` is not a port"), "use a port from 1 to 65535, or none")),
        },
    };
    Ok((host.to_owned(), port))
}

/// The host, and what stands after its colon.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if is_v6(text) {
        return Some((text, None));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        return is_v6(host).then_some((host, port));
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    (is_v4_or_name(host)).then_some((host, port))
}

/// An IPv6 address, with or without a scope such as %eth0.
fn is_v6(text: &str) -> bool {
    let (address, scope) = text.split_once('%').map_or((text, None), |(address, scope)| (address, Some(scope)));
    let is_scope = |scope: &str| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b']');
    address.parse::<Ipv6Addr>().is_ok() && scope.is_none_or(is_scope)
}

/// An IPv4 address, or a name whose last label is not a number (RFC 1123 2.1: it cannot be mistaken for an address).
fn is_v4_or_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or("");
    let is_name = name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit());
    is_name || text.parse::<Ipv4Addr>().is_ok()
}

/// Where to listen: an address and a port.
pub(crate) fn listen_address(entry: &Entry<'_>) -> Result<SocketAddr, ConfigError> {
    let text = string(entry)?;
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => entry.error("the port is missing", format!("write \"{}\"", SocketAddr::new(address, NTP_PORT))),
        Err(_) => {
            entry.error("not an address", r#"use an address and a port, for example "0.0.0.0:123" or "[::]:123""#)
        }
    })
}

/// A prefix such as "192.0.2.0/24", a single address, or "all".
pub(crate) fn prefixes(entry: &Entry<'_>) -> Result<Vec<Prefix>, ConfigError> {
    let text = string(entry)?;
    if text == "all" {
        let everything = |address| Prefix { address, bits: 0 };
        return Ok(vec![everything(Ipv4Addr::UNSPECIFIED.into()), everything(Ipv6Addr::UNSPECIFIED.into())]);
    }
    let usage = r#"use "192.0.2.0/24", "2001:db8::/32", a single address, or "all""#;
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| entry.error("not a prefix", usage))?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(bits) => match bits.parse() {
            Ok(bits) if bits <= width => bits,
            _ => return Err(entry.error(format!("`{bits}` is not a length"), format!("use 0 to {width} bits"))),
        },
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(entry.error("an IPv4 address in IPv6 clothes never matches", format!("write the prefix of {v4}")));
    }
    let network = network(address, bits);
    if network != address {
        return Err(entry.error(format!("bits beyond /{bits} are set"), format!("write \"{network}/{bits}\"")));
    }
    Ok(vec![Prefix { address, bits }])
}

/// `address` with all but the first `bits` cleared.
fn network(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            Ipv4Addr::from(u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from(u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()
        }
    }
}
