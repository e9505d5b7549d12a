//! One-way delays of a recorded run, as a table that the simulator plays back as a link.
//!
//! True delays are unknown. What an exchange measures is U = θ(T1) + there and L = θ(T4) − back, so with the agent's
//! estimate θ̂ of that moment there = U − θ̂(T1) and back = θ̂(T4) − L. Their sum is measured; how it is divided rests
//! on θ̂, which takes the shortest path to be as long there as back; a source that is not θ̂'s own adds its clock's
//! error.
//!
//! Two passes: while θ̂ converges it divides badly, and only the whole recording tells when it had converged.

use std::collections::BTreeMap;

use truebound_core::Agent;
use truebound_core::estimate::{Estimate, Exchange};
use truebound_core::io::AssociationId;
use truebound_core::time::RawTime;
use truebound_core::units::{to_f64, to_i64};

/// θ̂ counts as converged once its standard uncertainty is at most so many times the recording's median.
const SETTLED: i64 = 2;
/// The simulator repeats a recording from the start when it ends, and one point has no length.
const LINES_MIN: usize = 2;

/// The first pass: every exchange with the estimate when its answer was taken.
#[derive(Debug, Default)]
pub(super) struct Recording {
    of: BTreeMap<AssociationId, OfAssociation>,
}

#[derive(Debug)]
struct OfAssociation {
    source: String,
    points: Vec<Point>,
}

/// One exchange, its delays in ns.
#[derive(Clone, Copy, Debug)]
struct Point {
    t1: RawTime,
    forward_ns: i64,
    back_ns: i64,
    sigma_ns: i64,
}

/// The second pass: one association's table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) source: String,
    pub(super) lines: usize,
    /// Exchanges before the estimate had converged.
    pub(super) left_out: usize,
    pub(super) text: String,
}

impl Recording {
    /// Takes what the agent's estimators took since the last call. Exchanges before the first bound have no estimate.
    pub(super) fn take(&mut self, agent: &mut Agent, now: RawTime) {
        for (id, exchange) in agent.take_exchanges() {
            let Some(estimate) = agent.estimate_at(now) else { continue };
            let fresh = || OfAssociation { source: source_of(agent, id, now), points: Vec::new() };
            self.of.entry(id).or_insert_with(fresh).points.push(Point::new(&exchange, &estimate, now));
        }
    }

    /// The table of the association with the most exchanges, of this source if one is named.
    pub(super) fn into_table(self, source: Option<&str>) -> Result<Table, String> {
        let candidates = self.of.into_values().filter(|of| source.is_none_or(|name| name == of.source));
        // Of equal ones the first.
        let best = candidates.reduce(|best, of| if of.points.len() > best.points.len() { of } else { best });
        let OfAssociation { source: name, mut points } = best.ok_or_else(|| match source {
            Some(name) => format!("no exchange of a source named {name:?} in which the agent had an estimate"),
            None => "no exchange in which the agent had an estimate".to_owned(),
        })?;
        let all = points.len();
        points.drain(..converged_from(&points));
        let left_out = all - points.len();
        // Answers may overtake each other; a table is in order of departure.
        points.sort_by_key(|point| point.t1);
        points.dedup_by_key(|point| point.t1);
        if points.len() < LINES_MIN {
            return Err(format!("{name}: {} exchanges are too few for a table", points.len()));
        }
        let text = text_of(&name, &points, left_out);
        Ok(Table { source: name, lines: points.len(), left_out, text })
    }
}

impl Point {
    fn new(exchange: &Exchange, estimate: &Estimate, now: RawTime) -> Self {
        let theta_ns = |at: RawTime| {
            let drift_ns = to_i64((estimate.omega.as_fraction() * to_f64(now.ns_since(at))).round());
            estimate.theta_ns.saturating_sub(drift_ns)
        };
        let forward_ns = exchange.upper_ns.saturating_sub(theta_ns(exchange.t1));
        let back_ns = theta_ns(exchange.t4).saturating_sub(exchange.lower_ns);
        // The sum is measured and stays; a delay below 0 is an error of θ̂, so it is divided again.
        let sum_ns = forward_ns.saturating_add(back_ns).max(0);
        let forward_ns = forward_ns.clamp(0, sum_ns);
        Point { t1: exchange.t1, forward_ns, back_ns: sum_ns - forward_ns, sigma_ns: estimate.theta_sigma_ns }
    }
}

fn source_of(agent: &Agent, id: AssociationId, now: RawTime) -> String {
    let mut sources = agent.report(now).sources.into_iter();
    sources.find(|source| source.association == Some(id)).map_or_else(String::new, |source| source.name)
}

/// The first exchange at which the estimate had converged.
fn converged_from(points: &[Point]) -> usize {
    let mut sigmas: Vec<i64> = points.iter().map(|point| point.sigma_ns).collect();
    sigmas.sort_unstable();
    let median_ns = sigmas.get(sigmas.len() / 2).copied().unwrap_or(0);
    points.iter().take_while(|point| point.sigma_ns > median_ns.saturating_mul(SETTLED)).count()
}

fn text_of(source: &str, points: &[Point], left_out: usize) -> String {
    let mut text = format!(
        "# One-way delays to and from {source:?}, from a journal: t_s is raw time at departure, 0 in the first line.\n\
         # forward_ns + back_ns is measured. Its division is not: forward = U - theta(T1), back = theta(T4) - L with\n\
         # the agent's estimate theta, which assumes that the shortest path is as long there as back.\n\
         # {left_out} exchanges before the estimate had converged are left out.\n\
         t_s,forward_ns,back_ns\n"
    );
    let start = points.first().map(|point| point.t1);
    for point in points {
        let ns = start.map_or(0, |start| point.t1.ns_since(start));
        let (s, rest) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
        text += &format!("{s}.{rest:09},{},{}\n", point.forward_ns, point.back_ns);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use truebound_core::units::FreqError;

    const S: i64 = 1_000_000_000;

    /// There 30 µs and back 50 µs, on a clock 100 ppm slow, with an estimate that errs.
    fn point(t1_ns: i64, error_ns: i64, sigma_ns: i64) -> Point {
        let theta_ns = |at_ns: i64| 7_000 + at_ns / 10_000;
        let (t4_ns, now_ns) = (t1_ns + 10_000_000, t1_ns + 20_000_000);
        let exchange = Exchange {
            t1: RawTime::from_ns(t1_ns),
            t4: RawTime::from_ns(t4_ns),
            upper_ns: theta_ns(t1_ns) + 30_000,
            lower_ns: theta_ns(t4_ns) - 50_000,
            stamp_ns: 0,
            pair: None,
        };
        let (omega, omega_sigma) = (FreqError::from_ppm(100.0), FreqError::from_ppm(1.0));
        let estimate = Estimate { theta_ns: theta_ns(now_ns) + error_ns, theta_sigma_ns: sigma_ns, omega, omega_sigma };
        Point::new(&exchange, &estimate, RawTime::from_ns(now_ns))
    }

    fn recording(of: &[(u32, &str, &[Point])]) -> Recording {
        let entry = |&(id, source, points): &(u32, &str, &[Point])| {
            (AssociationId(id), OfAssociation { source: source.to_owned(), points: points.to_vec() })
        };
        Recording { of: of.iter().map(entry).collect() }
    }

    fn lines(table: &Table) -> Vec<&str> {
        table.text.lines().skip_while(|line| line.starts_with('#')).collect()
    }

    #[test]
    fn an_exact_estimate_gives_the_delays_and_an_error_moves_from_one_to_the_other() {
        for (error_ns, expected) in [(0, (30_000, 50_000)), (-400, (30_400, 49_600)), (31_000, (0, 80_000))] {
            let point = point(5 * S, error_ns, 10);
            assert_eq!((point.forward_ns, point.back_ns), expected, "error {error_ns} ns");
        }
    }

    #[test]
    fn the_table_begins_when_the_estimate_has_converged_and_is_in_order_of_departure() {
        let at = |t_s: i64, sigma_ns| point(t_s * S, 0, sigma_ns);
        let points = [at(1, 900), at(2, 300), at(5, 20), at(4, 10), at(4, 10), at(6, 10), at(7, 900)];
        let table = recording(&[(1, "a", &points)]).into_table(None).expect("enough");
        assert_eq!((table.lines, table.left_out), (4, 2));
        let expected = ["t_s,forward_ns,back_ns", "0.000000000,30000,50000", "1.000000000,30000,50000"];
        assert_eq!(lines(&table)[..3], expected);
        assert!(table.text.contains("# 2 exchanges before"), "{}", table.text);
    }

    #[test]
    fn one_association_is_kept_the_longest_or_that_of_the_named_source() {
        let points: Vec<Point> = (1..9).map(|t_s| point(t_s * S, 0, 10)).collect();
        let all = || recording(&[(1, "a", &points[..3]), (2, "b", &points[..5]), (3, "a", &points[..4])]);
        let of = |source| all().into_table(source).map(|table| (table.source, table.lines));
        assert_eq!(of(None), Ok(("b".to_owned(), 5)));
        assert_eq!(of(Some("a")), Ok(("a".to_owned(), 4)));
        assert!(of(Some("c")).is_err_and(|error| error.contains("\"c\"")));
        assert!(recording(&[(1, "a", &points[..1])]).into_table(None).is_err_and(|error| error.contains("too few")));
        assert!(Recording::default().into_table(None).is_err());
    }
}
