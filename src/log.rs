//! Events in words: one line each on standard error, `key=value`, units in the keys.

use std::fmt::Display;
use std::io::{self, Write};

use truebound_core::event::Event;
use truebound_core::ptp::PortState;
use truebound_core::system_clock::Offence;

use crate::view::ptp;

/// Says what happened.
pub(crate) fn event(event: &Event) {
    say(words(event));
}

/// Something went wrong that the core need not know.
pub(crate) fn warn(subject: &str, message: &str) {
    say(format_args!("level=warn subject={subject} message={message:?}"));
}

/// A line on standard error. Nobody may be there any more to read it: that is no reason to stop.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on standard output, in the same way.
pub(crate) fn print(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn words(event: &Event) -> String {
    match event {
        Event::Status { status, reason } => {
            format!("level=info event=status status={status} reason={reason} meaning={:?}", reason.meaning())
        }
        Event::NewEpoch { epoch, reason } => format!("level=warn event=new-epoch epoch={epoch} reason={reason}"),
        Event::Added { association, name, address } => {
            let address = address.map_or("-".to_owned(), |address| address.to_string());
            format!("level=info event=source-added association={} name={name} address={address}", association.0)
        }
        Event::Removed { association } => format!("level=info event=source-removed association={}", association.0),
        Event::Reachable { association, reachable } => {
            format!("level=info event=reachable association={} reachable={reachable}", association.0)
        }
        Event::Verdict { association, falseticker, distance_ns } => format!(
            "level=warn event=verdict association={} falseticker={falseticker} distance_ns={distance_ns}",
            association.0
        ),
        Event::SelfContradiction { association, by_ns } => {
            format!("level=warn event=self-contradiction association={} by_ns={by_ns}", association.0)
        }
        Event::AssertedContradiction { association, by_ns } => {
            format!("level=warn event=asserted-contradiction association={} by_ns={by_ns}", association.0)
        }
        Event::KissOfDeath { association, code } => format!(
            "level=warn event=kiss-of-death association={} code={}",
            association.0,
            String::from_utf8_lossy(code).escape_debug()
        ),
        Event::StampDropped { association } => {
            format!("level=info event=stamp-dropped association={}", association.0)
        }
        Event::Audit { what, by } => format!("level=warn event=audit what={what:?} by={by}"),
        Event::PtpState { .. }
        | Event::PtpParent { .. }
        | Event::PtpVote { .. }
        | Event::PtpLink { .. }
        | Event::UtcOffset { .. } => ptp_words(event),
        Event::Unresolved { name } => format!("level=warn event=unresolved name={name}"),
        Event::PhcStepped { phc, ns } => format!("level=info event=phc-stepped phc={} by_ns={ns}", phc.0),
        Event::Foretold { what } => format!("level=warn event=vm-disruption-foretold what={}", what.name()),
        Event::RealtimeSet { by_ns } => format!("level=warn event=realtime-set by_about_ns={by_ns}"),
        Event::RealtimeSlewed { ppb: Some(ppb) } => format!("level=warn event=realtime-slewed rate_ppb={ppb}"),
        Event::RealtimeSlewed { ppb: None } => "level=warn event=realtime-slewed rate_ppb=-".to_owned(),
        Event::Stepped { ns } => format!("level=info event=stepped by_ns={ns}"),
        Event::Rival { offence, we_yield } => {
            let act = match offence {
                Offence::Rate { ppb } => format!("act=rate rate_ppb={ppb}"),
                Offence::Phase => "act=phase".to_owned(),
                Offence::Moved { by_ns } => format!("act=moved by_ns={by_ns}"),
            };
            format!("level=warn event=rival {act} yield={we_yield}")
        }
        Event::SteerRefused => "level=error event=steer-refused fix=\"grant CAP_SYS_TIME and restart\"".to_owned(),
    }
}

fn ptp_words(event: &Event) -> String {
    match event {
        Event::PtpState { port, state } => {
            let level = if *state == PortState::Faulty { "warn" } else { "info" };
            format!("level={level} event=ptp-state port={port} state={}", ptp::state_word(*state))
        }
        Event::PtpParent { port, parent: Some(parent) } => {
            format!("level=info event=ptp-parent port={port} parent={}", ptp::port_identity(parent))
        }
        Event::PtpParent { port, parent: None } => format!("level=warn event=ptp-parent port={port} parent=-"),
        Event::PtpVote { port, vote } => match ptp::vote_words(*vote) {
            (vote, None) => format!("level=info event=ptp-vote port={port} vote={vote}"),
            (vote, Some(why)) => format!("level=warn event=ptp-vote port={port} vote={vote} why={why:?}"),
        },
        Event::PtpLink { port, is_up: true, is_hardware } => {
            let stamps = if *is_hardware { "hardware" } else { "kernel" };
            format!("level=info event=ptp-link port={port} up=true stamps={stamps}")
        }
        Event::PtpLink { port, .. } => format!("level=warn event=ptp-link port={port} up=false"),
        Event::UtcOffset { port, announced_s, listed_s } => {
            format!("level=warn event=utc-offset port={port} announced_s={announced_s} listed_s={listed_s}")
        }
        // Not of PTP.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use truebound_core::association::ptp::{PtpDoubt, PtpVote};
    use truebound_core::ptp::PortIdentity;

    use super::*;

    #[test]
    fn what_ptp_loses_is_a_warning_and_what_it_gains_is_not() {
        let port = || "gm".to_owned();
        let parent = Some(PortIdentity { clock: [2, 0, 0, 0xff, 0xfe, 0, 0, 1], port: 1 });
        let doubt = PtpVote::Asserted(PtpDoubt::BoundaryClock);
        for (event, line) in [
            (
                Event::PtpState { port: port(), state: PortState::Slave },
                "level=info event=ptp-state port=gm state=slave",
            ),
            (
                Event::PtpState { port: port(), state: PortState::Faulty },
                "level=warn event=ptp-state port=gm state=faulty",
            ),
            (
                Event::PtpParent { port: port(), parent },
                "level=info event=ptp-parent port=gm parent=020000.fffe.000001-1",
            ),
            (Event::PtpParent { port: port(), parent: None }, "level=warn event=ptp-parent port=gm parent=-"),
            (
                Event::PtpVote { port: port(), vote: PtpVote::Guaranteed },
                "level=info event=ptp-vote port=gm vote=guaranteed",
            ),
            (
                Event::PtpVote { port: port(), vote: doubt },
                "level=warn event=ptp-vote port=gm vote=asserted why=\"a boundary clock is on the way, and nothing \
                 bounds its own error\"",
            ),
            (
                Event::PtpLink { port: port(), is_up: true, is_hardware: true },
                "level=info event=ptp-link port=gm up=true stamps=hardware",
            ),
            (
                Event::PtpLink { port: port(), is_up: false, is_hardware: false },
                "level=warn event=ptp-link port=gm up=false",
            ),
            (
                Event::UtcOffset { port: port(), announced_s: 36, listed_s: 37 },
                "level=warn event=utc-offset port=gm announced_s=36 listed_s=37",
            ),
        ] {
            assert_eq!(words(&event), line);
        }
    }
}
