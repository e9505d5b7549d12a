//! Events in words: one line each on standard error, `key=value`, units in the keys.

use std::fmt::Display;
use std::io::{self, Write};

use truebound_core::event::Event;

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
        Event::KissOfDeath { association, code } => format!(
            "level=warn event=kiss-of-death association={} code={}",
            association.0,
            String::from_utf8_lossy(code).escape_debug()
        ),
        Event::StampDropped { association } => {
            format!("level=info event=stamp-dropped association={}", association.0)
        }
        Event::Audit { what, by } => format!("level=warn event=audit what={what:?} by={by}"),
        Event::Unresolved { name } => format!("level=warn event=unresolved name={name}"),
        Event::Stepped { ns } => format!("level=info event=stepped by_ns={ns}"),
    }
}
