//! What the agent believes, for status and tools: reads everything, changes nothing.

use truebound_client::Edges;
use truebound_client::bound::Bound;

use super::Agent;
use crate::association::{Association, Counters};
use crate::bound::Terms;
use crate::estimate::{Estimate, Exchange};
use crate::io::AssociationId;
use crate::region::Region;
use crate::report::{AgentReport, SourceReport, Standing};
use crate::settings::{Settings, SourceSettings};
use crate::synthesis::{follows_us, group_of};
use crate::time::RawTime;
use crate::units::FreqError;

impl Agent {
    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the agent believes at `now`.
    #[must_use]
    pub fn report(&self, now: RawTime) -> AgentReport {
        let findings = &self.synthesis.findings;
        AgentReport {
            at: now,
            status: self.status.0,
            reason: self.status.1,
            epoch: self.synthesis.epoch,
            bound: self.synthesis.previous.filter(|_| self.status.0.has_bound()),
            terms: self.terms(),
            estimate: self.estimate_at(now),
            source: self.source_name().map(str::to_owned),
            groups: (findings.groups, findings.live_groups, findings.max_liars),
            sources: self.source_reports(now),
            server: self.responder.as_ref().map(|responder| responder.counters),
            ptp: self.port_reports(),
            asserted: self.asserted_at(now),
            phcs: self.clocks.relations(),
            realtime: self.realtime.report,
            system: self.system_report(now),
            foretold: self.host.map(|host| host.foretold).unwrap_or_default(),
        }
    }

    /// The estimate at `now`, kept inside the bound in θ and ω, so that carrying it on keeps it there; `None` without a
    /// bound.
    #[must_use]
    pub fn estimate_at(&self, now: RawTime) -> Option<Estimate> {
        let bound = self.synthesis.previous.or(self.synthesis.asserted.bound)?;
        self.estimate_within(now, &bound, bound.edges_at(now.as_ns()).ok()?)
    }

    /// What holds at `now` if the operator's word does too.
    fn asserted_at(&self, now: RawTime) -> Option<Bound> {
        self.synthesis.asserted.bound?.carried_to(now.as_ns()).ok()
    }

    /// The same within a bound whose edges at `now` are known already.
    pub(super) fn estimate_within(&self, now: RawTime, bound: &Bound, edges: Edges) -> Option<Estimate> {
        let middle = edges.lo_ns.saturating_add(edges.hi_ns.saturating_sub(edges.lo_ns) / 2);
        let estimate = match (self.synthesis.combined(&self.associations, now), self.local) {
            (Some(estimate), _) => estimate,
            (None, Some(_)) => Estimate { theta_ns: middle, ..Estimate::exact() },
            (None, None) => return None,
        };
        let [slow, fast] = [bound.omega_lo, bound.omega_hi].map(|rate| FreqError::from_rate(rate).as_fraction());
        let omega = FreqError::from_fraction(estimate.omega.as_fraction().max(slow).min(fast));
        Some(Estimate { theta_ns: estimate.theta_ns.clamp(edges.lo_ns, edges.hi_ns), omega, ..estimate })
    }

    /// From now on keeps the exchanges that estimators take, for tools: see [`Agent::take_exchanges`].
    pub fn tap(&mut self) {
        self.is_tapped = true;
        self.associations.iter_mut().for_each(|association| association.exchanges = Some(Vec::new()));
    }

    /// The exchanges since the last call, by association, in the order of their answers. Empty without [`Agent::tap`].
    pub fn take_exchanges(&mut self) -> Vec<(AssociationId, Exchange)> {
        let mut taken = Vec::new();
        for association in &mut self.associations {
            let exchanges = association.exchanges.iter_mut().flat_map(|exchanges| exchanges.drain(..));
            taken.extend(exchanges.map(|exchange| (association.id, exchange)));
        }
        taken
    }

    fn terms(&self) -> Terms {
        let Some(bound) = self.synthesis.previous else { return Terms::default() };
        let half_width_ns = bound.theta_hi_ns.saturating_sub(bound.theta_lo_ns).saturating_add(1) / 2;
        let best = self.best();
        let path_ns = best.and_then(|best| best.least_round_trip_ns(self.now)).map_or(0, |strip| strip / 2);
        let claim_ns = best.map_or(0, |best| best.upstream.claim_ns);
        let cpu_ns = self.settings.bound.cpu_error_ns;
        let phase_ns = self.synthesis.composer(&self.settings).phase_ns();
        let wander_ns = half_width_ns - path_ns - claim_ns - cpu_ns - phase_ns;
        Terms { path_ns, claim_ns, cpu_ns, phase_ns, wander_ns }
    }

    fn source_reports(&self, now: RawTime) -> Vec<SourceReport> {
        let mut reports = Vec::new();
        for (index, line) in (0u32..).zip(&self.settings.sources) {
            let mut associations = self.associations.iter().filter(|a| a.source == index).peekable();
            if associations.peek().is_none() {
                reports.push(self.report_without_address(index, line));
            }
            reports.extend(associations.map(|association| self.report_of(now, association, line)));
        }
        reports
    }

    fn report_without_address(&self, index: u32, line: &SourceSettings) -> SourceReport {
        let local = self.local.filter(|local| local.source == index);
        SourceReport {
            association: None,
            name: line.name.clone(),
            address: None,
            standing: if local.is_some() { Standing::Truechimer } else { Standing::Waiting },
            trust: line.trust,
            carries: local.is_some() && self.synthesis.findings.best.is_none(),
            group: line.group.clone().unwrap_or_default(),
            stratum: 0,
            reach: 0,
            poll_ns: 0,
            age_ns: None,
            offset_ns: local.map(|_| 0),
            delay_ns: 0,
            delay_min_ns: None,
            pure_ratio: None,
            claim_ns: 0,
            half_width_ns: local.map(|local| local.region.half_width_ns()),
            asserted_half_width_ns: None,
            has_kernel_stamps: false,
            has_hardware_stamps: false,
            missing_stamps: (0, 0),
            contradicted_stamps: 0,
            counters: Counters::default(),
        }
    }

    fn report_of(&self, now: RawTime, association: &Association, line: &SourceSettings) -> SourceReport {
        let estimate = association.estimator.at(now);
        let own = self.estimate_at(now);
        SourceReport {
            association: Some(association.id),
            name: line.name.clone(),
            address: association.address(),
            standing: self.standing(now, association),
            trust: line.trust,
            carries: self.synthesis.carrier() == Some(association.id),
            group: group_of(association, &self.settings).to_string(),
            stratum: association.upstream.stratum,
            reach: association.reach,
            poll_ns: association.poll.now_ns,
            age_ns: association.last_answer.map(|at| now.ns_since(at)),
            offset_ns: own.zip(estimate).map(|(own, theirs)| own.theta_ns.saturating_sub(theirs.theta_ns)),
            delay_ns: association.delay_ns,
            delay_min_ns: association.least_round_trip_ns(now),
            pure_ratio: association.estimator.pure_ratio(),
            claim_ns: association.upstream.claim_ns,
            half_width_ns: self.synthesis.findings.regions.get(association.id).map(Region::half_width_ns),
            asserted_half_width_ns: self.synthesis.asserted.region(association.id).map(Region::half_width_ns),
            has_kernel_stamps: association.has_kernel_stamps,
            has_hardware_stamps: association.has_hardware_stamps,
            missing_stamps: self.missing_stamps_of(association),
            contradicted_stamps: self.contradicted_stamps_of(association),
            counters: association.counters,
        }
    }

    fn standing(&self, now: RawTime, association: &Association) -> Standing {
        let own = self.own_addresses();
        if association.is_forbidden {
            Standing::Forbidden
        } else if association.counters.answers == 0 {
            Standing::Waiting
        } else if association.is_proving_itself() {
            Standing::Proving
        } else if !association.is_reachable(now) {
            Standing::Unreachable
        } else if follows_us(association, &own, &self.ports.identities) || !association.may_vote() {
            Standing::NoVote
        } else if association.is_falseticker {
            Standing::Falseticker
        } else {
            Standing::Truechimer
        }
    }
}
