//! `truebound-sim run --html`: a page about one run for somebody who does not believe us.
//!
//! The figures come from a second run of the same world in which readers read more often. Readers change nothing, and
//! the digest of everything that the agents sent and published shows it.

use truebound_sim::checker::{Given, Reading};
use truebound_sim::html::{self, Block, Section};
use truebound_sim::link::LinkSpec;
use truebound_sim::plot::{Distribution, Errors, Interval, Line, Mark};
use truebound_sim::scenario::{Assumption, Break, HostEntry, Scenario};
use truebound_sim::table::{Table, time};
use truebound_sim::world::{Host, World};

use super::figures::Figures;
use super::run::{Run, hosts, quantiles, run_world, verdict};
use super::timeline::Happening;
use super::words;

/// Readers of the figures read this often at least, on average, ms.
const READ_EVERY_MS: f64 = 50.0;
/// Rows of the table of events.
const EVENTS: usize = 120;

/// The page.
pub(super) fn page(run: &Run, shrink: Option<f64>) -> String {
    let scenario = &run.scenario;
    let read_every_ms = scenario.read_every_ms.min(READ_EVERY_MS);
    let recorded = run_world(&Scenario { read_every_ms, ..scenario.clone() }, run.outcome.seed, |checker| {
        (checker.shrink, checker.trace) = (shrink, Some(Vec::new()));
    });
    let mut sections = vec![summary(run), assumptions(scenario), setting(scenario)];
    for host in recorded.hosts.iter().filter(|host| host.spec.is_checked && host.probes > 0) {
        sections.push(client(host, &recorded, &run.happenings));
    }
    sections.extend([happened(&run.happenings), checked(run, &recorded, read_every_ms)]);
    html::page(&format!("{}: {}", scenario.name, scenario.about), &sections)
}

fn section(title: &str, blocks: Vec<Block>) -> Section {
    Section { title: title.to_owned(), blocks }
}

fn summary(run: &Run) -> Section {
    let Run { scenario, outcome, wrong, again, .. } = run;
    let text = verdict(scenario, outcome, wrong).replacen("as expected", "As expected", usize::from(wrong.is_empty()));
    let mut blocks = vec![Block::Verdict { is_good: wrong.is_empty(), text }];
    blocks.push(Block::Text(format!("Expected: {}.", words::expected(scenario))));
    blocks.extend(wrong.iter().map(|what| Block::Text(words::brief(what).to_owned())));
    blocks.push(Block::Table(quantiles(&Figures::of(outcome))));
    blocks.push(Block::Table(hosts(&outcome.hosts)));
    blocks.push(Block::Text("The same run again, to the byte:".to_owned()));
    blocks.push(Block::Command(again.clone()));
    section("Verdict", blocks)
}

fn assumptions(scenario: &Scenario) -> Section {
    let mut table = Table::new(["", "assumption", "says", "here"]);
    for (assumption, name, says) in words::ASSUMPTIONS {
        let breaks: Vec<&Break> = scenario.breaks.iter().filter(|b| b.assumption == assumption).collect();
        let is_claimed = scenario.assumptions.contains(&assumption);
        let here = match (breaks.is_empty(), is_claimed) {
            (false, _) => breaks.iter().map(|b| broken(b)).collect::<Vec<_>>().join("; "),
            (true, true) => "holds".to_owned(),
            (true, false) => "is not claimed".to_owned(),
        };
        table.row([format!("{assumption:?}"), name.to_owned(), says.to_owned(), here]);
    }
    for b in scenario.breaks.iter().filter(|b| b.assumption == Assumption::A5) {
        table.row(["A5", "undetectable", "what no reader could know in time does not happen", &broken(b)]);
    }
    let promise = "While these hold, true time must lie inside every interval that a reader is given. When one breaks, \
                   the agent must say so as soon as anybody who sees only packets and clocks could know.";
    section("What the bound assumes", vec![Block::Text(promise.to_owned()), Block::Words(table)])
}

fn broken(b: &Break) -> String {
    let word = if b.detectable { "breaks" } else { "breaks, undetectably," };
    format!("{word} at {} s. {}", b.at_s, b.why)
}

fn setting(scenario: &Scenario) -> Section {
    let mut table = Table::new(["host", "oscillator", "clock at the start", "takes its time from"]);
    for host in &scenario.hosts {
        let oscillator = match host.ppm {
            0.0 => format!("{:?}", host.oscillator).to_lowercase(),
            ppm => format!("{:?}, {ppm:+} ppm", host.oscillator).to_lowercase(),
        };
        table.row([host.name.clone(), oscillator, clock(host), sources(host)]);
    }
    let mut paths = Table::new(["path", "one way"]);
    for link in &scenario.links {
        let [a, b] = &link.between;
        let one = |own: &Option<LinkSpec>| words::path(&own.clone().or(link.both.clone()).unwrap_or_default());
        match (one(&link.there), one(&link.back)) {
            (there, back) if there == back => paths.row([format!("{a} ↔ {b}"), there]),
            (there, back) => {
                paths.row([format!("{a} → {b}"), there]);
                paths.row([format!("{b} → {a}"), back]);
            }
        }
    }
    let mut blocks = vec![Block::Words(table)];
    blocks.extend((!paths.rows().is_empty()).then_some(Block::Words(paths)));
    section("The world", blocks)
}

fn clock(host: &HostEntry) -> String {
    match host.realtime_error_us {
        0.0 => "right".to_owned(),
        us => format!("{} {}", time(us.abs() * 1e3), if us > 0.0 { "fast" } else { "slow" }),
    }
}

fn sources(host: &HostEntry) -> String {
    if let Some(root) = host.root {
        return format!("itself; claims to be right within {}", time(root.error_us * 1e3));
    }
    let one = |source: &truebound_sim::scenario::SourceEntry| {
        let every = source.poll_s.map_or(String::new(), |s| format!(" every {}", time(s * 1e9)));
        format!("{}{every}{}", source.host, if source.trust { ", trusted" } else { "" })
    };
    host.sources.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What readers on one host saw.
fn client(host: &Host, world: &World, happenings: &[Happening]) -> Section {
    let readings = host.checker.trace.as_deref().unwrap_or_default();
    let t_s: Vec<f64> = readings.iter().map(|reading| (reading.t - world.start()) as f64 * 1e-9).collect();
    let of = |value: fn(&Given) -> i64| -> Vec<f64> {
        let one = |reading: &Reading| reading.given.as_ref().map_or(f64::NAN, |given| value(given) as f64);
        readings.iter().map(one).collect()
    };
    let estimate_ns = of(|given| given.estimate_ns);
    let interval = Interval {
        t_s: &t_s,
        earliest_ns: &of(|given| given.earliest_ns),
        latest_ns: &of(|given| given.latest_ns),
        lines: &[Line { name: "estimate", error_ns: &estimate_ns }],
    };
    let shown = |happening: &&Happening| happening.is_cause || happening.who == host.name;
    let mark = |(number, happening): (usize, &Happening)| Mark {
        t_s: happening.at_s,
        label: (number + 1).to_string(),
        is_cause: happening.is_cause,
    };
    let numbered = happenings.iter().take(EVENTS).enumerate();
    let marks: Vec<Mark> = numbered.filter(|(_, happening)| shown(happening)).map(mark).collect();
    let checker = &host.checker;
    let is_astray = |given: &Given| given.estimate_ns < given.earliest_ns || given.estimate_ns > given.latest_ns;
    let astray = readings.iter().filter(|reading| reading.given.as_ref().is_some_and(is_astray)).count();
    let caption = format!(
        "Above, everything less true time: what a reader is given is right where the band spans zero. {} of {} intervals \
         missed it{}. Below, the estimate at its own scale; {astray} times it lay outside its \
         own interval. Nothing is drawn while the page gave no interval ({} of \
         {} reads). Numbers are those of the events below; the orange ones were done to the world.",
        checker.violations,
        checker.answered,
        if checker.violations > 0 { ", marked red at the bottom" } else { "" },
        checker.reads - checker.answered,
        checker.reads,
    );
    let figure = Block::Figure { svg: interval.svg_with(&marks), caption };
    section(&format!("What readers saw on {}", host.name), vec![figure, distribution(readings)])
}

fn distribution(readings: &[Reading]) -> Block {
    let given = || readings.iter().filter_map(|reading| reading.given.as_ref());
    let error_ns: Vec<i64> = given().map(|given| given.estimate_ns).collect();
    let half_width_ns: Vec<i64> = given().map(|given| (given.latest_ns - given.earliest_ns + 1) / 2).collect();
    let series = [
        Errors { name: "error of the estimate", error_ns: &error_ns },
        Errors { name: "half-width", error_ns: &half_width_ns },
    ];
    let svg = Distribution { quantity: "magnitude", series: &series }.svg();
    let caption = "How large the error was and how large it was promised to be at most, over the same reads. The \
                   distance between the two is the price of a promise instead of a guess.";
    Block::Figure { svg, caption: caption.to_owned() }
}

fn happened(happenings: &[Happening]) -> Section {
    let mut table = Table::new(["", "time", "who", "what"]);
    for (number, happening) in happenings.iter().take(EVENTS).enumerate() {
        let at = format!("{:.3} s", happening.at_s);
        table.row([(number + 1).to_string(), at, happening.who.clone(), happening.what.clone()]);
    }
    if happenings.len() > EVENTS {
        table.row([String::new(), String::new(), String::new(), format!("and {} more", happenings.len() - EVENTS)]);
    }
    let text = "What befell the world, and what the checked agents said, with true time since the start.";
    section("What happened", vec![Block::Text(text.to_owned()), Block::Words(table)])
}

fn checked(run: &Run, recorded: &World, read_every_ms: f64) -> Section {
    let outcome = &run.outcome;
    let digest = format!("{:016x}", recorded.digest());
    let same = match digest == outcome.digest {
        true => format!("its agents sent and published the same to the byte (digest {digest})"),
        false => format!("BUT its agents did not do the same (digests {} and {digest})", outcome.digest),
    };
    let text = format!(
        "Agents are the shipped code; clocks, kernels, NICs and paths are simulated, so true time is known. Readers read at \
         random instants, {} apart on average, on both sides of every publication, and at the instant from which a bound \
         is void: {} reads in all. Each interval must contain true time; publications of one epoch must lie inside those \
         before them. The figures above come from a second run in which readers read every {} on average; {same}.",
        time(run.scenario.read_every_ms * 1e6),
        outcome.reads,
        time(read_every_ms * 1e6),
    );
    section("How it was checked", vec![Block::Text(text)])
}
