//! PTP of the agent under test: how it is configured here, and what it says of its port.

use serde_json::Value;

use super::agent::Agent;
use super::ptp4l::Transport;

/// The source, and the port, of PTP.
pub(crate) const GRANDMASTER: &str = "gm";

/// A configuration that follows a grandmaster at sixteen Syncs and as many requests a second. ptp4l announces no
/// timescale with kernel stamps; what it tells is UTC.
pub(crate) fn following_ptp(transport: Transport) -> String {
    format!("{}role = \"slave\"\ntimescale = \"utc\"\ngroup = \"{GRANDMASTER}\"\n", port(transport))
}

/// A configuration that tells this host's clock to PTP slaves, and claims to be right within a microsecond.
pub(crate) fn telling_ptp(transport: Transport) -> String {
    let root = "[[source]]\nname = \"own\"\nlocal = true\nerror = \"1us\"\n";
    format!("{root}{}role = \"master\"\n", port(transport))
}

fn port(transport: Transport) -> String {
    let rates = "announce-interval = \"250ms\"\nsync-interval = \"62.5ms\"\ndelay-interval = \"62.5ms\"\n";
    format!(
        "[[ptp]]\nname = \"{GRANDMASTER}\"\ninterface = \"eth0\"\ntransport = \"{}\"\nstamps = \"kernel\"\n{rates}",
        transport.ours()
    )
}

impl Agent {
    /// One field of what `status` says of the only port; null until it is known.
    pub(crate) fn port(&self, field: &str) -> Value {
        self.ask("status").map_or(Value::Null, |status| status["ptp"][0][field].clone())
    }

    /// Is the port in this state, whatever the case of its letters?
    pub(crate) fn port_is(&self, state: &str) -> bool {
        self.port("state").as_str().is_some_and(|now| now.eq_ignore_ascii_case(state))
    }

    /// Does the port follow the clock of this identity, directly?
    pub(crate) fn port_follows(&self, identity: &str) -> bool {
        let is = |field| self.port(field).as_str().is_some_and(|text| digits(text).starts_with(&digits(identity)));
        !identity.is_empty() && is("grandmaster") && is("parent")
    }

    /// The source that carries the bound.
    pub(crate) fn carrier(&self) -> String {
        self.ask("status").and_then(|status| status["source"].as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Programs write the same eight octets of an identity with different marks between them.
pub(crate) fn digits(identity: &str) -> String {
    identity.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
}

/// The identity of a clock whose port has this Ethernet address (EUI-64).
pub(crate) fn identity_of(mac: &str) -> String {
    let (company, rest) = mac.split_at(6);
    format!("{company}fffe{rest}")
}
