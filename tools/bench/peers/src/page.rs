//! The figures as one HTML file with plots: nothing fetched, no script.

use truebound_sim::html::{Block, Section, page};
use truebound_sim::plot::{Range, Ranges};

use crate::claims::Claim;
use crate::figures::{Contestant, Figures, Spread};
use crate::report;

const KINDS: [&str; 3] = ["truebound", "chronyd", "ptp4l"];

/// The whole file.
pub(crate) fn html(medians: &[Figures], claims: &[Claim]) -> String {
    let rounds = medians.iter().map(|figures| figures.rounds).min().unwrap_or(0);
    let method = format!(
        "All contestants at once through one hop of 100 Mbit/s in network namespaces, from one server; medians of \
         {rounds} rounds or more, hosts swapped between rounds. The kernel's clock, which nobody steers, is the truth. \
         The error is that of truebound's estimate, of the time that chronyd (-x) believes in, and of the virtual clock \
         that ptp4l steers."
    );
    let verdict = Block::Verdict { is_good: !claims.iter().any(Claim::is_broken), text: report::summary(claims) };
    let figure = |svg: String, caption: &str| Block::Figure { svg, caption: caption.to_owned() };
    let dots = "Diamond: median. Bar: to the 99th percentile. Whisker: to the greatest.";
    let sections = [
        Section { title: "What was measured".to_owned(), blocks: vec![verdict, Block::Text(method)] },
        Section { title: "Error by NTP".to_owned(), blocks: vec![figure(errors(medians, is_ntp), dots)] },
        Section { title: "Error by PTP".to_owned(), blocks: vec![figure(errors(medians, |who| !is_ntp(who)), dots)] },
        Section {
            title: "What each says of its own error".to_owned(),
            blocks: vec![figure(
                widths(medians),
                "Truebound's half-width less E, the server's own claim, beside chronyd's root distance, which has no such term. \
                 The first is proved; the second is a custom.",
            )],
        },
        Section { title: "Targets".to_owned(), blocks: vec![Block::Words(report::verdicts(claims))] },
        Section { title: "All figures".to_owned(), blocks: vec![Block::Table(report::table(medians))] },
    ];
    page("Truebound beside chronyd and ptp4l", &sections)
}

fn is_ntp(contestant: Contestant) -> bool {
    !matches!(contestant, Contestant::TrueboundPtp | Contestant::Ptp4l)
}

fn errors(medians: &[Figures], is_shown: impl Fn(Contestant) -> bool) -> String {
    let groups = groups(medians, |figures| is_shown(figures.contestant).then_some(figures.error_ns));
    Ranges { quantity: "magnitude of the error", kinds: &KINDS, groups: &groups }.svg()
}

fn widths(medians: &[Figures]) -> String {
    let groups = groups(medians, |figures| {
        let width = figures.half_width_ns.filter(|_| is_ntp(figures.contestant))?;
        let less = |ns| ns - width.claim;
        let Spread { p50, p95, p99, max } = width.said;
        Some(Spread { p50: less(p50), p95: less(p95), p99: less(p99), max: less(max) })
    });
    Ranges { quantity: "half-width − E, and root distance", kinds: &KINDS, groups: &groups }.svg()
}

/// A group for each scenario, a row for each contestant that has such a spread.
fn groups(medians: &[Figures], spread: impl Fn(&Figures) -> Option<Spread>) -> Vec<(String, Vec<Range>)> {
    let scenarios = medians.chunk_by(|a, b| a.scenario == b.scenario);
    let row = |figures: &Figures| {
        let spread = spread(figures)?;
        Some(Range {
            name: figures.contestant.name().to_owned(),
            colour: kind(figures.contestant),
            p50_ns: spread.p50,
            p99_ns: spread.p99,
            max_ns: spread.max,
        })
    };
    scenarios.map(|all| (all[0].scenario.name().to_owned(), all.iter().filter_map(row).collect())).collect()
}

/// Its place among [`KINDS`].
fn kind(contestant: Contestant) -> usize {
    match contestant {
        Contestant::Truebound1 | Contestant::Truebound64 | Contestant::TrueboundPtp => 0,
        Contestant::Chrony1 | Contestant::Chrony64 => 1,
        Contestant::Ptp4l => 2,
    }
}
