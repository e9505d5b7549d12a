//! The agent's report as JSON, units in the keys; the commands print from the same values.

pub(crate) mod ptp;

use serde_json::{Value, json};
use truebound_client::bound::Edges;
use truebound_core::association::ntp::Discard;
use truebound_core::report::{AgentReport, SourceReport, StampKind};
use truebound_core::units::{FreqError, to_f64};

/// `truebound status --json`.
pub(crate) fn status(report: &AgentReport, disciplined_ns: Option<i64>) -> Value {
    let edges = report.bound.and_then(|bound| bound.edges_at(report.at.as_ns()).ok());
    let half_width_of = |edges: Edges| edges.hi_ns.saturating_sub(edges.lo_ns).div_euclid(2) + 1;
    let bound_ppm = report.bound.map(|bound| {
        let lo = FreqError::from_rate(bound.omega_lo).as_ppm();
        let hi = FreqError::from_rate(bound.omega_hi).as_ppm();
        [lo, hi]
    });
    let asserted = report.asserted.and_then(|bound| bound.edges_at(report.at.as_ns()).ok());
    let (configured, answering, max_liars) = report.groups;
    json!({
        "status": report.status.name(),
        "reason": report.reason.name(),
        "meaning": report.reason.meaning(),
        "epoch": report.epoch,
        "raw_ns": report.at.as_ns(),
        "half_width_ns": edges.map(half_width_of),
        "asserted_half_width_ns": asserted.map(half_width_of),
        "terms_ns": {
            "path": report.terms.path_ns, "claim": report.terms.claim_ns, "cpu": report.terms.cpu_ns,
            "phase": report.terms.phase_ns, "wander": report.terms.wander_ns,
        },
        // Frequency error of the local raw clock: local − true, so the opposite of θ's rate.
        "freq_error_ppm": report.estimate.map(|estimate| -estimate.omega.as_ppm()),
        "freq_error_sigma_ppm": report.estimate.map(|estimate| estimate.omega_sigma.as_ppm()),
        "freq_bound_ppm": bound_ppm.map(|[lo, hi]| [-hi, -lo]),
        "estimate_theta_ns": report.estimate.map(|estimate| estimate.theta_ns),
        "estimate_sigma_ns": report.estimate.map(|estimate| estimate.theta_sigma_ns),
        "disciplined_minus_raw_ns": disciplined_ns.or(report.system.and_then(|system| system.minus_raw_ns)),
        "source": report.source,
        "groups": { "configured": configured, "answering": answering, "max_liars": max_liars },
        "server": report.server.map(|server| json!({
            "answered": server.answered, "interleaved": server.interleaved, "denied": server.denied,
            "limited": server.limited, "kissed": server.kissed, "malformed": server.malformed,
        })),
        "ptp": report.ptp.iter().map(ptp::port).collect::<Vec<_>>(),
        "phcs": report.phcs.iter().map(ptp::phc).collect::<Vec<_>>(),
        "vm_disruption": report.foretold.name(),
        "system": report.system.map(|system| json!({
            "steering": system.steering.name(),
            "ahead_ns": system.ahead_ns,
            "rate_ppm": system.rate.map(|rate| FreqError::from_rate(rate).as_ppm()),
            "offences": system.offences,
            "max_error_ns": system.declared.map(|declared| declared.max_error_ns),
            "synchronised": system.declared.map(|declared| declared.is_synchronised),
        })),
        "realtime": {
            "sets": report.realtime.sets, "last_set_ns": report.realtime.last_set_ns,
            "slews": report.realtime.slews, "rate_ppb": report.realtime.rate_ppb,
        },
    })
}

/// `truebound sources --json`.
pub(crate) fn sources(report: &AgentReport) -> Value {
    report.sources.iter().map(source).collect()
}

/// The best stamps that the last exchange had at both ends.
fn stamps_of(source: &SourceReport) -> StampKind {
    match (source.has_hardware_stamps, source.has_kernel_stamps) {
        (true, _) => StampKind::Hardware,
        (false, true) => StampKind::Kernel,
        (false, false) => StampKind::User,
    }
}

fn source(source: &SourceReport) -> Value {
    json!({
        "name": source.name,
        "address": source.address,
        "status": source.standing.name(),
        "carries": source.carries,
        "trust": source.trust,
        "group": source.group,
        "stratum": source.stratum,
        "reach": source.reach,
        "poll_s": to_f64(source.poll_ns) / 1e9,
        "age_ns": source.age_ns,
        "offset_ns": source.offset_ns,
        "delay_ns": source.delay_ns,
        "delay_min_ns": source.delay_min_ns,
        "pure_ratio": source.pure_ratio,
        "claim_ns": source.claim_ns,
        "half_width_ns": source.half_width_ns,
        "asserted_half_width_ns": source.asserted_half_width_ns,
        "stamps": stamps_of(source).name(),
        "missing_tx_stamps": source.missing_stamps.0,
        "missing_rx_stamps": source.missing_stamps.1,
        "contradicted_stamps": source.contradicted_stamps,
        "sent": source.counters.sent,
        "answers": source.counters.answers,
        "unsent": source.counters.unsent,
        "contradictions": source.counters.contradictions,
        "discarded": ptp::named(&Discard::NAMES, &source.counters.discarded),
    })
}
