//! PTP ports and PHCs: as JSON, as lines of `truebound status`, and the words that the log shares with both.

use serde_json::{Map, Value, json};
use truebound_core::association::ptp::{PtpVote, accuracy_ns};
use truebound_core::io::PhcId;
use truebound_core::phc::PhcRelation;
use truebound_core::ptp::{Counters, Gated, PortIdentity, PortState};
use truebound_core::report::PtpPortReport;

use crate::recorder::{show_ns, show_signed_ns};

/// One port, for `status --json`.
pub(crate) fn port(port: &PtpPortReport) -> Value {
    let announced = port.announced.as_ref();
    // Who follows nobody has nobody's word to weigh.
    let (vote, why) = port.parent.map_or(("none", None), |_| vote_words(port.vote));
    json!({
        "name": port.name,
        "interface": port.interface,
        "domain": port.domain,
        "is_up": port.is_up,
        "state": state_word(port.state),
        "parent": port.parent.as_ref().map(port_identity),
        "grandmaster": announced.map(|announced| clock_identity(announced.grandmaster)),
        "steps_removed": announced.map(|announced| announced.steps_removed),
        "clock_class": announced.map(|announced| announced.clock_class),
        "clock_accuracy": announced.map(|announced| announced.clock_accuracy),
        "clock_accuracy_ns": announced.and_then(|announced| accuracy_ns(announced.clock_accuracy)),
        "priority1": announced.map(|announced| announced.priority.0),
        "priority2": announced.map(|announced| announced.priority.1),
        "utc_offset_s": announced.and_then(|announced| announced.utc_offset_s),
        "is_tai": announced.map(|announced| announced.is_tai),
        "stamps": port.stamps.name(),
        "vote": vote,
        "why": why,
        "peer_delay_ns": port.peer_delay_ns,
        "missing_tx_stamps": port.missing_stamps.0,
        "missing_rx_stamps": port.missing_stamps.1,
        "contradicted_stamps": port.contradicted_stamps,
        "sent": port.counters.sent,
        "silenced": port.counters.silenced,
        "received": named(&Counters::RECEIVED_NAMES, &port.counters.received),
        "gated": named(&Gated::NAMES, &port.counters.gated),
        "unstamped": port.counters.unstamped,
        "unmatched": port.counters.unmatched,
        "repeated": port.counters.repeated,
        "foreign": port.counters.foreign,
        "many_responders": port.counters.many_responders,
    })
}

/// Those counts that are not zero, by name.
pub(crate) fn named(names: &[&str], counts: &[u64]) -> Value {
    let named = names.iter().zip(counts).filter(|&(_, &count)| count > 0);
    named.map(|(name, count)| ((*name).to_owned(), json!(count))).collect::<Map<String, Value>>().into()
}

/// One PHC against raw time, for `status --json`.
pub(crate) fn phc((id, relation): &(PhcId, PhcRelation)) -> Value {
    json!({
        "phc": id.0,
        "offset_ns": relation.offset_ns,
        "drift_ppm": relation.drift.as_ppm(),
        "error_ns": relation.error_ns,
        "window_ns": relation.window_ns,
        "readings": relation.readings,
    })
}

/// The state, as in the standard.
pub(crate) fn state_word(state: PortState) -> &'static str {
    match state {
        PortState::Initializing => "initializing",
        PortState::Listening => "listening",
        PortState::Master => "master",
        PortState::Passive => "passive",
        PortState::Slave => "slave",
        PortState::Faulty => "faulty",
    }
}

/// What a master's word counts for, and why not for more.
pub(crate) fn vote_words(vote: PtpVote) -> (&'static str, Option<&'static str>) {
    match vote {
        PtpVote::Guaranteed => ("guaranteed", None),
        PtpVote::Asserted(doubt) => ("asserted", Some(doubt.meaning())),
        PtpVote::None(doubt) => ("none", Some(doubt.meaning())),
        PtpVote::Unknown => ("none", Some("it has not announced itself yet")),
    }
}

/// As linuxptp writes it: "001122.fffe.334455-1".
pub(crate) fn port_identity(identity: &PortIdentity) -> String {
    format!("{}-{}", clock_identity(identity.clock), identity.port)
}

fn clock_identity([a, b, c, d, e, f, g, h]: [u8; 8]) -> String {
    format!("{a:02x}{b:02x}{c:02x}.{d:02x}{e:02x}.{f:02x}{g:02x}{h:02x}")
}

/// Ports and PHCs of a status, for people.
pub(crate) fn text(status: &Value) -> Vec<String> {
    let ports = status["ptp"].as_array().into_iter().flatten().flat_map(port_text);
    let phcs = status["phcs"].as_array().into_iter().flatten().map(phc_text);
    ports.chain(phcs).collect()
}

fn port_text(port: &Value) -> Vec<String> {
    let word = |key: &str| port[key].as_str().unwrap_or("-");
    let why = port["why"].as_str().map_or(String::new(), |why| format!(" ({why})"));
    let link = if port["is_up"] == false { ", no link" } else { "" };
    let vote = if port["parent"].is_string() { format!(", vote {}{why}", word("vote")) } else { String::new() };
    let mut lines = vec![format!(
        "ptp         {}: {} on {}{link}, {} stamps{vote}",
        word("name"),
        word("state"),
        word("interface"),
        word("stamps"),
    )];
    if port["grandmaster"].is_string() {
        let accuracy = port["clock_accuracy_ns"].as_u64().map_or("unknown".to_owned(), show_ns);
        let scale = if port["is_tai"] == true { "TAI" } else { "an arbitrary timescale" };
        let offset = port["utc_offset_s"].as_i64().map_or(String::new(), |s| format!(", TAI − UTC {s} s"));
        lines.push(format!(
            "            grandmaster {} by {}, {} removed, class {}, accuracy {accuracy}, {scale}{offset}",
            word("grandmaster"),
            word("parent"),
            port["steps_removed"],
            port["clock_class"],
        ));
    }
    lines
}

fn phc_text(phc: &Value) -> String {
    let ns = |key: &str| phc[key].as_i64().map_or("-".to_owned(), |ns| show_ns(ns.unsigned_abs()));
    format!(
        "phc         /dev/ptp{}: {} from raw time, {:+.4} ppm, error {}, window {}",
        phc["phc"],
        phc["offset_ns"].as_i64().map_or("-".to_owned(), show_signed_ns),
        phc["drift_ppm"].as_f64().unwrap_or_default(),
        ns("error_ns"),
        ns("window_ns"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_written_as_linuxptp_does() {
        let identity = PortIdentity { clock: [0, 0x11, 0x22, 0xff, 0xfe, 0x33, 4, 0x55], port: 12 };
        assert_eq!(port_identity(&identity), "001122.fffe.330455-12");
    }

    #[test]
    fn a_port_tells_its_grandmaster_once_it_has_one() {
        let mut port = json!({
            "name": "gm", "interface": "eth0", "is_up": true, "state": "listening", "stamps": "kernel",
            "vote": "none", "why": null, "parent": null, "grandmaster": null,
        });
        assert_eq!(port_text(&port), ["ptp         gm: listening on eth0, kernel stamps"]);
        let more = json!({
            "state": "slave", "vote": "guaranteed", "why": null, "grandmaster": "a", "parent": "a-1",
            "steps_removed": 0, "clock_class": 6, "clock_accuracy_ns": 100, "is_tai": true, "utc_offset_s": 37,
        });
        for (key, value) in more.as_object().expect("an object") {
            port[key] = value.clone();
        }
        let lines = port_text(&port);
        assert_eq!(lines[0], "ptp         gm: slave on eth0, kernel stamps, vote guaranteed");
        assert_eq!(
            lines[1],
            "            grandmaster a by a-1, 0 removed, class 6, accuracy 100 ns, TAI, TAI − UTC 37 s"
        );
    }
}
