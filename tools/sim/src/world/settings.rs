//! Settings of the agents of a world, by few words.

use std::net::{IpAddr, Ipv4Addr};

use truebound_core::leap::LeapTable;
use truebound_core::settings::{Prefix, ServerSettings, Settings, SourceKind, SourceSettings};

use super::NTP_PORT;

/// The address of host `index`: its number in 10.0.0.0/8.
#[must_use]
pub fn address(index: usize) -> IpAddr {
    let [_, a, b, c] = (index as u32).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, a, b, c))
}

/// The host that has this address.
pub(super) fn index_of(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 10 => Some((v4.to_bits() & 0xff_ffff) as usize),
        _ => None,
    }
}

/// An isolated root: its CLOCK_REALTIME plus `shift_ns`, wrong by at most `error_ns`. It answers everybody.
#[must_use]
pub fn root(shift_ns: i64, error_ns: i64) -> Settings {
    let kind = SourceKind::Local { shift_ns, error_ns };
    Settings { sources: vec![SourceSettings::new("clock", kind)], ..serving() }
}

/// Answers everybody.
#[must_use]
pub fn serving() -> Settings {
    let everybody = Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), bits: 0 };
    let server = ServerSettings { listen: Vec::new(), allow: vec![everybody], deny: Vec::new(), rate_limit: None };
    Settings { server: Some(server), ..basis() }
}

/// Follows these sources.
#[must_use]
pub fn following(sources: &[SourceSettings]) -> Settings {
    Settings { sources: sources.to_vec(), ..basis() }
}

/// The defaults, with a list of leap seconds that reaches into the next century, and the operator's word that the
/// oscillator is of its class whatever the kernel calls its clocksource.
#[must_use]
pub fn basis() -> Settings {
    let leap = LeapTable::parse("#@ 6311433600\n2272060800 10\n3692217600 37\n").expect("a list of leap seconds");
    Settings { leap, oscillator_is_stated: true, ..Settings::default() }
}

/// Host `index` as a source, believed to the nanosecond: no floor, the exact claim.
#[must_use]
pub fn source(index: usize) -> SourceSettings {
    let kind = SourceKind::Server { host: address(index).to_string(), port: NTP_PORT };
    let name = format!("s{index}");
    SourceSettings { agent: true, claim_floor_ns: Some(0), ..SourceSettings::new(name, kind) }
}

/// A pool of up to `count` addresses.
#[must_use]
pub fn pool(name: &str, count: u8) -> SourceSettings {
    let kind = SourceKind::Pool { host: name.to_owned(), port: NTP_PORT, count };
    SourceSettings { agent: true, claim_floor_ns: Some(0), ..SourceSettings::new(name, kind) }
}
