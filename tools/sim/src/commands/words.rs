//! A scenario and what happens in it, in words.

use truebound_core::event::{Audit, Event};
use truebound_sim::link::{LinkSpec, Queue};
use truebound_sim::scenario::{Assumption, Break, EventEntry, Scenario};
use truebound_sim::table::time;
use truebound_sim::world::{Action, Change, Shift};

/// What the assumptions of the bound say, by their number.
pub(super) const ASSUMPTIONS: [(Assumption, &str, &str); 4] = [
    (Assumption::A1, "oscillator", "frequency, wander and noise stay within the class that the agent is told"),
    (Assumption::A2, "clocksource", "raw time is one clock, and a change of it is announced"),
    (Assumption::A3, "stamps", "the kernel's stamps lie on the side of the wire that its contract says"),
    (Assumption::A4, "source claims", "enough groups of sources are as close to true time as they claim"),
];

/// A violation without the page it was read from.
pub(super) fn brief(what: &str) -> &str {
    what.split_once(", page Some").map_or(what, |(brief, _)| brief)
}

/// A time from microseconds.
fn us(us: f64) -> String {
    time(us * 1e3)
}

fn s(s: f64) -> String {
    time(s * 1e9)
}

/// "A1 A2", or that there are none.
pub(super) fn assumptions(scenario: &Scenario) -> String {
    let names: Vec<String> = scenario.assumptions.iter().map(|assumption| format!("{assumption:?}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// "A4 at 60.0 s", all of them.
pub(super) fn breaks(scenario: &Scenario) -> String {
    let one = |b: &Break| {
        let undetectable = if b.detectable { "" } else { ", undetectable" };
        format!("{:?} at {} s{undetectable}", b.assumption, b.at_s)
    };
    if scenario.breaks.is_empty() {
        return "nothing".to_owned();
    }
    scenario.breaks.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// What must come of it.
pub(super) fn expected(scenario: &Scenario) -> String {
    let expect = &scenario.expect;
    let is_detectable = !scenario.breaks.is_empty() && scenario.breaks.iter().all(|b| b.detectable);
    let mut parts = Vec::new();
    if is_detectable {
        parts.push(expect.notice_s.map_or("a notice of the break".to_owned(), |limit_s| {
            format!("a notice of the break within {}", s(limit_s))
        }));
    }
    parts.push(
        match (expect.violations, is_detectable, expect.still_wrong) {
            (true, ..) => "violations that were planted and must be caught",
            (_, true, true) => "what broke stays broken, so who relies on it alone stays wrong, having said so",
            (_, true, false) => "no violation after it",
            (_, false, _) if scenario.breaks.is_empty() => "no violation",
            _ => "violations that nobody could announce",
        }
        .to_owned(),
    );
    parts.extend((!expect.reasons.is_empty()).then(|| format!("reason {}", expect.reasons.join(" or "))));
    parts.extend(expect.status.as_ref().map(|status| format!("{status} at the end")));
    parts.extend(expect.half_width_us.map(|limit| format!("a half-width of {} at most at the end", us(limit))));
    parts.extend(expect.calm.then(|| "one epoch throughout".to_owned()));
    parts.join("; ")
}

/// Who, and what befalls it.
pub(super) fn befalls(event: &EventEntry) -> (String, String) {
    let (who, what) = match (&event.host, &event.action, &event.path, &event.change) {
        (Some(host), Some(action), ..) => (host.clone(), self::action(action)),
        (.., Some([from, to]), Some(change)) => (format!("{from} → {to}"), self::change(change)),
        _ => (String::new(), String::new()),
    };
    match event.every_s {
        Some(every_s) => (who, format!("{what}; again about every {}", s(every_s))),
        None => (who, what),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::Suspend { s: span, reader_first_ms } if *reader_first_ms > 0.0 => {
            format!("sleeps for {}; readers run {} before the agent", s(*span), us(reader_first_ms * 1e3))
        }
        Action::Suspend { s: span, .. } => format!("sleeps for {}", s(*span)),
        Action::Pause { s: span, raw_stops: true } => format!("its VM is paused for {}, raw time with it", s(*span)),
        Action::Pause { s: span, raw_stops: false } => format!("its VM is paused for {}", s(*span)),
        Action::Reboot { off_s } => format!("boots again after {}", s(*off_s)),
        Action::Restart { keeps_page: true } => "its agent starts again and takes over the page".to_owned(),
        Action::Restart { keeps_page: false } => "its agent starts again without a page".to_owned(),
        Action::StepRealtime { ms, noticed } => {
            let noticed = if *noticed { "" } else { ", unannounced" };
            format!("CLOCK_REALTIME is set by {}{noticed}", us(ms * 1e3))
        }
        Action::SlewRealtime { ppm } => format!("CLOCK_REALTIME is slewed at {ppm} ppm"),
        Action::Clocksource { ppm } => format!("another clocksource, {ppm} ppm off"),
        Action::FrequencyStep { ppm } => format!("its oscillator's frequency jumps by {ppm} ppm"),
        Action::JumpRaw { us: by } => format!("its clock steps by {}", us(*by)),
        Action::Tell(shift) => tells(shift),
        Action::Root { shift_us, error_us } => {
            format!("takes its clock for {} wrong at most, shifted by {}", us(*error_us), us(*shift_us))
        }
        Action::Cut => "nothing reaches or leaves it".to_owned(),
        Action::Heal => "packets reach and leave it again".to_owned(),
    }
}

fn tells(shift: &Shift) -> String {
    let mut parts = Vec::new();
    if shift.constant_us != 0.0 {
        parts.push(format!("{} off", us(shift.constant_us)));
    }
    if shift.alternating_us != 0.0 {
        parts.push(format!("{} off in every other half of {}", us(shift.alternating_us), s(shift.period_s)));
    }
    if shift.ramp_ppm != 0.0 {
        let limit = match shift.ramp_limit_us > 0.0 {
            true => format!(", up to {} and back", us(shift.ramp_limit_us)),
            false => String::new(),
        };
        parts.push(format!("drifting at {} ppm{limit}", shift.ramp_ppm));
    }
    match parts.is_empty() {
        true => "tells the time it knows again".to_owned(),
        false => format!("tells a time that is {}", parts.join(" and ")),
    }
}

fn change(change: &Change) -> String {
    match change {
        Change::Link(link) => format!("becomes {}", path(link)),
        Change::Attack { delay_us: 0.0, drop: 0.0 } => "the attack ends".to_owned(),
        Change::Attack { delay_us, drop: 0.0 } => format!("an attacker holds packets back by {}", us(*delay_us)),
        Change::Attack { delay_us, drop } => {
            format!("an attacker holds packets back by {} and drops {:.0} %", us(*delay_us), drop * 1e2)
        }
    }
}

/// One direction of a path.
pub(super) fn path(link: &LinkSpec) -> String {
    let percent = |share: f64| format!("{} %", (share * 1e3).round() / 10.0);
    let queue = match &link.queue {
        Queue::None => "idle".to_owned(),
        Queue::Exponential(law) => format!("waits of {} on average", us(law.mean_us)),
        Queue::Normal(law) => format!("normal, ±{}", us(law.sd_us)),
        Queue::Mixture(law) => {
            format!("waits of {}, for {} of packets {} more", us(law.mean_us), percent(law.chance), us(law.tail_us))
        }
        Queue::Bursts(law) => format!("{} hops with bursts, {} load", law.hops, percent(law.load)),
        Queue::Md1(law) => format!("one hop, {} load", percent(law.load)),
        Queue::Pareto(law) => format!("Pareto waits from {}, up to {}", us(law.scale_us), us(law.cap_us)),
        Queue::Trace(_) => "recorded delays".to_owned(),
    };
    let mut text = format!("{}, {queue}", us(link.base_us));
    if link.standing.depth_us > 0.0 {
        text += &format!(", standing queue of {}", us(link.standing.depth_us));
    }
    for (what, share) in [("lost", link.loss), ("twice", link.duplicate), ("late", link.reorder)] {
        if share > 0.0 {
            text += &format!(", {} {what}", percent(share));
        }
    }
    text
}

/// An event of an agent; none of those that happen all the time. `name` knows the sources.
pub(super) fn said(event: &Event, name: impl Fn(u32) -> String) -> Option<String> {
    Some(match event {
        Event::Status { status, reason } => format!("{status}: {}", reason.meaning()),
        Event::NewEpoch { epoch, reason } => format!("epoch {epoch}: {}", reason.meaning()),
        Event::Reachable { association, reachable } => {
            format!("{} {}", name(association.0), if *reachable { "answers" } else { "is silent" })
        }
        Event::Verdict { association, falseticker: true, distance_ns } => {
            format!("{} is a falseticker: {} outside the vote", name(association.0), time(*distance_ns as f64))
        }
        Event::Verdict { association, .. } => format!("{} agrees with the vote again", name(association.0)),
        Event::SelfContradiction { association, by_ns } => {
            format!("{} contradicts its own past by {}", name(association.0), time(*by_ns as f64))
        }
        Event::KissOfDeath { association, code } => {
            format!("{} says {}", name(association.0), String::from_utf8_lossy(code).trim_end_matches('\0'))
        }
        Event::Audit { what, .. } => format!("audit: {}", audit(*what)),
        Event::Unresolved { name } => format!("{name} has no address"),
        Event::Foretold { what } => format!("the hypervisor foretells a disruption: {}", what.name()),
        Event::RealtimeSet { by_ns } => format!("somebody set CLOCK_REALTIME by about {}", time(*by_ns as f64)),
        Event::RealtimeSlewed { ppb: Some(ppb) } => format!("CLOCK_REALTIME runs {} ppm fast", *ppb as f64 * 1e-3),
        Event::RealtimeSlewed { ppb: None } => "somebody slews CLOCK_REALTIME".to_owned(),
        Event::Stepped { ns } => format!("steps the disciplined clock by {}", time(*ns as f64)),
        Event::Rival { we_yield: false, .. } => "somebody else steers the system clock".to_owned(),
        Event::Rival { we_yield: true, .. } => "leaves the system clock to somebody else".to_owned(),
        Event::SteerRefused => "may not steer the system clock".to_owned(),
        Event::Added { .. } | Event::Removed { .. } | Event::StampDropped { .. } => return None,
        // Simulated hosts have no PTP ports.
        Event::PtpState { .. }
        | Event::AssertedContradiction { .. }
        | Event::PtpParent { .. }
        | Event::PtpVote { .. }
        | Event::PtpLink { .. }
        | Event::UtcOffset { .. }
        | Event::PhcStepped { .. } => return None,
    })
}

fn audit(audit: Audit) -> &'static str {
    match audit {
        Audit::Frequency => "the estimated frequency left the proved interval",
        Audit::KernelFree => "user stamps alone exclude the published interval",
        Audit::Narrow => "the region is suspiciously narrow",
        Audit::Estimate => "the estimate left the region and was led back",
        Audit::Spread => "the frequency left the spread of this boot",
    }
}
