//! From what the sources prove, each for itself, to the one bound: groups, vote, trust, join, audits (BOUND §4, §7).

pub(crate) mod asserted;
mod groups;

use core::net::IpAddr;
use std::collections::BTreeSet;

use truebound_client::Reason;
use truebound_client::bound::Bound;

use crate::association::Association;
use crate::bound::{Composer, Joined, RateCaps, growth_per_s_ns, join, width_ns};
use crate::estimate::Estimate;
use crate::event::{Audit, Event};
use crate::io::AssociationId;
use crate::region::Region;
use crate::region::hull::Wander;
use crate::region::polygon::{Limits, Verdict};
use crate::region::vote::{Vote, vote};
use crate::settings::Settings;
use crate::status::Broken;
use crate::time::RawTime;
use crate::units::{FreqError, to_f64, to_i64};

use asserted::{Asserted, Round};
use groups::{Group, Roster};
pub(crate) use groups::{follows_us, group_of};

/// A sole source whose constraints miss each other by less may have met a restless oscillator instead.
const OSCILLATOR_PLAUSIBLE_NS: i64 = 100_000;
/// Updates in a row that a joint region may be suspiciously narrow.
const NARROW_UPDATES: u32 = 8;
/// Updates in a row that the frequency audit has to fail.
const FREQUENCY_UPDATES: u32 = 3;
/// Both regions were rounded outward on their own: so much is no finding, ns.
const KERNEL_FREE_SLACK_NS: i64 = 8;
/// A is widened tenfold when the oscillator breaks its class, at most this often.
const MAX_WIDENINGS: u32 = 2;

/// This host's clock as a root: raw time plus a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalSource {
    pub(crate) source: u32,
    pub(crate) region: Region,
}

/// What the synthesis found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// All groups, heard or not.
    pub(crate) groups: usize,
    pub(crate) max_liars: usize,
    pub(crate) live_groups: usize,
    pub(crate) uses_trust: bool,
    /// Region of each association that was heard.
    pub(crate) regions: Regions,
    /// The association that carries the estimate.
    pub(crate) best: Option<AssociationId>,
}

/// The regions of the associations that were heard, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions(Vec<(AssociationId, Region)>);

impl Regions {
    pub(crate) fn get(&self, id: AssociationId) -> Option<&Region> {
        let at = self.0.binary_search_by_key(&id, |&(of, _)| of).ok()?;
        self.0.get(at).map(|(_, region)| region)
    }

    fn contains(&self, id: AssociationId) -> bool {
        self.get(id).is_some()
    }

    fn narrowest(&self) -> Option<AssociationId> {
        self.0.iter().min_by_key(|(_, region)| region.half_width_ns()).map(|&(id, _)| id)
    }

    /// Associations are numbered as they come, and visited in that order.
    fn push(&mut self, id: AssociationId, region: Region) {
        debug_assert!(self.0.last().is_none_or(|&(last, _)| last < id), "out of order");
        self.0.push((id, region));
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// One independence group in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Voter {
    /// It counts: somebody belongs to it.
    is_present: bool,
    /// One of its members answered lately.
    is_live: bool,
    /// What it allows; a silent one allows everything.
    region: Option<Region>,
}

impl Voter {
    /// Inside a group the hull counts.
    fn hears(&mut self, region: Region) {
        self.region = Some(self.region.map_or(region, |other| other.hull(region)));
    }
}

/// The state that outlives one synthesis.
#[derive(Clone, Debug)]
pub(crate) struct Synthesis {
    /// What was published last, as a function; `None` when there is nothing to be inside of.
    pub(crate) previous: Option<Bound>,
    /// The previous bound is another run's: it ages, but nothing is joined with it.
    pub(crate) is_restored: bool,
    pub(crate) epoch: u64,
    /// An epoch of this run has begun.
    has_own_epoch: bool,
    /// The published bound rests on a trusted source, though that one may be silent now.
    pub(crate) carries_trust: bool,
    /// Why the present epoch began.
    pub(crate) epoch_reason: Reason,
    pub(crate) broken: Option<Broken>,
    pub(crate) had_bound: bool,
    pub(crate) findings: Findings,
    /// What holds if the operator's word does too.
    pub(crate) asserted: Asserted,
    caps: RateCaps,
    /// ±Ω: nothing proved.
    widest_caps: RateCaps,
    widenings: u32,
    narrow_updates: u32,
    frequency_updates: u32,
    kernel_free_fails: bool,
    estimate_fails: bool,
    roster: Roster,
    /// By the roster's numbers: what [`Synthesis::hear`] heard, kept for its memory only.
    voters: Vec<Voter>,
}

/// What surrounds a synthesis.
pub(crate) struct World<'a> {
    pub(crate) now: RawTime,
    pub(crate) settings: &'a Settings,
    pub(crate) associations: &'a mut [Association],
    pub(crate) local: Option<LocalSource>,
    /// Addresses at which our server was asked: others may name us by them as their upstream.
    pub(crate) asked_at: Option<&'a BTreeSet<IpAddr>>,
    /// The clocks that our PTP ports are.
    pub(crate) identities: &'a BTreeSet<[u8; 8]>,
    pub(crate) events: &'a mut Vec<Event>,
}

impl Synthesis {
    pub(crate) fn new(settings: &Settings) -> Self {
        Synthesis {
            previous: None,
            is_restored: false,
            epoch: 0,
            has_own_epoch: false,
            carries_trust: false,
            epoch_reason: Reason::NewEpoch,
            broken: None,
            had_bound: false,
            findings: Findings::default(),
            asserted: Asserted::default(),
            caps: RateCaps::of(&settings.oscillator),
            widest_caps: RateCaps::of(&settings.oscillator),
            widenings: 0,
            narrow_updates: 0,
            frequency_updates: 0,
            kernel_free_fails: false,
            estimate_fails: false,
            roster: Roster::default(),
            voters: Vec::new(),
        }
    }

    /// The same with nothing learnt; epochs go on counting.
    pub(crate) fn restarted(&self, settings: &Settings) -> Self {
        Synthesis {
            epoch: self.epoch,
            has_own_epoch: self.has_own_epoch,
            had_bound: self.had_bound,
            ..Synthesis::new(settings)
        }
    }

    /// What the oscillator may do, after what it did.
    pub(crate) fn wander(&self, settings: &Settings) -> Wander {
        Wander::new(self.wander_per_s(settings), settings.oscillator.phase_noise_s)
    }

    pub(crate) fn wander_per_s(&self, settings: &Settings) -> f64 {
        (0..self.widenings).fold(settings.oscillator.wander_per_s, |a, _| a * 10.0)
    }

    fn limits(&self, settings: &Settings) -> Limits {
        Limits { wander: self.wander(settings), omega: settings.oscillator.freq_limit.as_fraction() }
    }

    pub(crate) fn composer(&self, settings: &Settings) -> Composer {
        let oscillator =
            crate::settings::Oscillator { wander_per_s: self.wander_per_s(settings), ..settings.oscillator };
        Composer { oscillator, settings: settings.bound }
    }

    /// Withdraws everything published so far, and what was learnt of the rate: it may have been a lie, or another
    /// clock's.
    pub(crate) fn new_epoch(&mut self, reason: Reason, events: &mut Vec<Event>) {
        self.previous = None;
        self.asserted.clear();
        self.caps = self.widest_caps;
        self.is_restored = false;
        self.narrow_updates = 0;
        self.epoch += 1;
        self.has_own_epoch = true;
        self.carries_trust = false;
        self.epoch_reason = reason;
        events.push(Event::NewEpoch { epoch: self.epoch, reason });
    }

    /// Raw time is another clock now: nothing that was learnt of it holds.
    pub(crate) fn disrupt(&mut self, reason: Reason, events: &mut Vec<Event>) {
        self.widenings = 0;
        self.new_epoch(reason, events);
        self.broken = Some(Broken::Disrupted(reason));
    }

    /// Starts as another run left off: its bound ages until the first one of ours.
    pub(crate) fn restore(&mut self, bound: Option<Bound>, epoch: u64, events: &mut Vec<Event>) {
        self.epoch = epoch;
        if bound.is_none() {
            // Nobody knows what became of raw time meanwhile: ticks of the run before prove nothing.
            return self.new_epoch(Reason::NewEpoch, events);
        }
        self.previous = bound;
        self.is_restored = bound.is_some();
        self.had_bound = bound.is_some();
    }

    /// The settings are others: who speaks for whom has to be worked out anew.
    pub(crate) fn forget_roster(&mut self) {
        self.roster.forget();
    }

    /// Works out the bound at `now`. Returns whether bounds published so far had to be withdrawn.
    pub(crate) fn update(&mut self, world: &mut World<'_>) -> bool {
        let epoch_before = self.epoch;
        self.roster.refresh(world);
        let mut voters = std::mem::take(&mut self.voters);
        self.hear(world, &mut voters);
        let voted = self.voted(world, &voters);
        self.voters = voters;
        match voted {
            Some(region) => self.accept(world, region),
            None => self.hold_over(world.now),
        }
        self.had_bound |= self.previous.is_some();
        self.update_asserted(world);
        self.epoch != epoch_before
    }

    /// What the sources that say which second it is allow at `now`, by the same vote: the others may not number themselves.
    /// As many of them may lie as of all together.
    pub(crate) fn without_pulses(&mut self, world: &mut World<'_>) -> Option<Region> {
        self.roster.refresh(world);
        let (limits, memory_ns) = (self.limits(world.settings), world.settings.bound.memory_ns);
        let mut voters = vec![Voter::default(); self.roster.groups];
        self.roster.missing.iter().for_each(|&group| voters[group].is_present = true);
        let mut all: BTreeSet<usize> = self.roster.missing.iter().copied().collect();
        for (association, member) in world.associations.iter_mut().zip(&self.roster.members) {
            let mut group = member.silent;
            let may_number = !member.follows_us && !association.is_pulse() && !association.is_proving_itself();
            if may_number && let Verdict::Region(region) = association.verdict(world.now, &limits, memory_ns) {
                group = member.voice;
                voters[group].hears(region);
            }
            all.insert(group);
            voters[group].is_present |= !association.is_pulse();
        }
        let groups = voters.iter().filter(|voter| voter.is_present).count();
        let regions: Vec<Region> = voters.iter().filter_map(|voter| voter.region).collect();
        match vote(&regions, groups, max_liars(world.settings, all.len())) {
            Vote::Region(region) => Some(region),
            Vote::Unbounded | Vote::Empty => None,
        }
    }

    fn update_asserted(&mut self, world: &mut World<'_>) {
        let round = Round {
            now: world.now,
            limits: self.limits(world.settings),
            memory_ns: world.settings.bound.memory_ns,
            composer: self.composer(world.settings),
            groups: self.findings.groups,
            max_liars: self.findings.max_liars,
            guaranteed: &self.findings.regions,
            bound: self.previous,
        };
        let voices = self.roster.members.iter().map(|member| (!member.follows_us).then_some(member.voice));
        self.asserted.update(&round, world.associations, voices, self.roster.groups, world.events);
    }

    /// The association with the narrowest region that counts for anything: guaranteed, or else asserted.
    pub(crate) fn carrier(&self) -> Option<AssociationId> {
        self.findings.best.or_else(|| self.asserted.bound.and(self.asserted.regions.narrowest()))
    }

    /// Each association's verdict on itself, by group.
    fn hear(&mut self, world: &mut World<'_>, voters: &mut Vec<Voter>) {
        let (limits, memory_ns) = (self.limits(world.settings), world.settings.bound.memory_ns);
        voters.clear();
        voters.resize(self.roster.groups, Voter::default());
        self.roster.missing.iter().for_each(|&group| voters[group].is_present = true);
        let mut contradicted = 0;
        let mut by_ns_max = 0;
        let mut trust_broke = false;
        self.findings.regions.clear();
        for (association, member) in world.associations.iter_mut().zip(&self.roster.members) {
            // A member that says nothing is silent by itself: what another claims of its upstream cannot speak for it.
            let mut group = member.silent;
            if !member.follows_us {
                match association.verdict(world.now, &limits, memory_ns) {
                    Verdict::Silent => {}
                    Verdict::Empty { by_ns } => {
                        contradicted += 1;
                        by_ns_max = by_ns_max.max(by_ns);
                        trust_broke |= is_trusted(association, world.settings);
                        association.contradicted_itself();
                        world.events.push(Event::SelfContradiction { association: association.id, by_ns });
                    }
                    Verdict::Region(_) if association.is_proving_itself() => {}
                    Verdict::Region(region) => {
                        group = member.voice;
                        voters[group].hears(region);
                        voters[group].is_live |= association.proves(world.now);
                        self.findings.regions.push(association.id, region);
                    }
                }
            }
            voters[group].is_present = true;
        }
        if let Some((local, group)) = world.local.zip(self.roster.local) {
            voters[group] = Voter { is_present: true, is_live: true, region: Some(local.region) };
        }
        let groups = voters.iter().filter(|voter| voter.is_present).count();
        self.findings.groups = groups;
        self.findings.live_groups = voters.iter().filter(|voter| voter.is_live).count();
        self.findings.max_liars = max_liars(world.settings, groups);
        if contradicted > 0 && self.judge_contradictions(world, by_ns_max) {
            voters.iter_mut().for_each(|voter| voter.region = None);
        } else if trust_broke {
            self.breaks(Reason::TrustContradicted, world.events);
        }
    }

    /// More than f groups lost themselves: the bound goes, and perhaps it was our oscillator. Returns whether so.
    fn judge_contradictions(&mut self, world: &mut World<'_>, by_ns: i64) -> bool {
        let proving = world.associations.iter().filter(|association| association.is_proving_itself());
        let lost: BTreeSet<Group> = proving.map(|a| group_of(a, world.settings)).collect();
        if lost.len() <= self.findings.max_liars {
            return false;
        }
        let is_sole = self.findings.groups == 1;
        if (!is_sole || by_ns < OSCILLATOR_PLAUSIBLE_NS) && self.widenings < MAX_WIDENINGS {
            self.widenings += 1;
        }
        let reason = if is_sole { Reason::SourceJumped } else { Reason::OscillatorBroke };
        self.broken = Some(Broken::Void(reason));
        self.new_epoch(reason, world.events);
        // What the others remember was learnt from the same oscillator.
        if !is_sole {
            world.associations.iter_mut().for_each(Association::forget_proofs);
        }
        self.findings.regions.clear();
        self.findings.best = None;
        true
    }

    /// The region that n − f groups, and the trusted sources, allow.
    fn voted(&mut self, world: &mut World<'_>, voters: &[Voter]) -> Option<Region> {
        let regions: Vec<Region> = voters.iter().filter_map(|voter| voter.region).collect();
        let voted = match vote(&regions, self.findings.groups, self.findings.max_liars) {
            Vote::Unbounded => {
                self.findings.best = None;
                return None;
            }
            Vote::Empty => {
                self.breaks(Reason::SourcesDisagree, world.events);
                return None;
            }
            Vote::Region(region) => region,
        };
        self.judge_sources(world, voted);
        self.with_trust(world, voted)
    }

    fn with_trust(&mut self, world: &mut World<'_>, voted: Region) -> Option<Region> {
        self.findings.uses_trust = false;
        let mut region = voted;
        for association in world.associations.iter().filter(|a| is_trusted(a, world.settings)) {
            let Some(&trusted) = self.findings.regions.get(association.id) else { continue };
            self.findings.uses_trust = true;
            let Some(both) = region.intersect(trusted) else {
                self.breaks(Reason::TrustContradicted, world.events);
                return None;
            };
            region = both;
        }
        Some(region)
    }

    /// Truechimers touch the voted region; the narrowest of them carries the estimate.
    fn judge_sources(&mut self, world: &mut World<'_>, voted: Region) {
        let mut best: Option<(i64, AssociationId)> = None;
        for association in world.associations.iter_mut() {
            let Some(region) = self.findings.regions.get(association.id) else { continue };
            let below = voted.theta_lo_ns.saturating_sub(region.theta_hi_ns);
            let above = region.theta_lo_ns.saturating_sub(voted.theta_hi_ns);
            let distance_ns = below.max(above).max(0);
            let is_falseticker = distance_ns > 0;
            if is_falseticker != association.is_falseticker {
                association.is_falseticker = is_falseticker;
                let verdict = Event::Verdict { association: association.id, falseticker: is_falseticker, distance_ns };
                world.events.push(verdict);
            }
            let candidate = (region.half_width_ns(), association.id);
            if !is_falseticker && best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        self.findings.best = best.map(|(_, id)| id);
    }

    /// The sources contradict each other: nothing is published until they agree again.
    fn breaks(&mut self, reason: Reason, events: &mut Vec<Event>) {
        if self.broken != Some(Broken::Void(reason)) {
            self.broken = Some(Broken::Void(reason));
            self.new_epoch(reason, events);
        }
        self.previous = None;
    }

    /// A region was voted: publishes it joined with the previous bound, or in a new epoch.
    fn accept(&mut self, world: &mut World<'_>, region: Region) {
        let composer = self.composer(world.settings);
        self.narrow_caps(world, &region);
        if !self.audit(world, &region) {
            return;
        }
        let mut fresh = composer.fresh(world.now, &region, self.caps);
        // Holdover begins with the last answer, not with the last publication: constraints age on their own.
        fresh.void_after_ns = self.last_heard(world).plus_ns(world.settings.bound.max_holdover_ns).as_ns();
        if fresh.void_after_ns <= world.now.as_ns() {
            return self.hold_over(world.now);
        }
        if self.broken.take().is_some() || !self.has_own_epoch {
            self.start_epoch_with(fresh, Reason::NewEpoch, world.events);
            return;
        }
        self.carries_trust |= self.findings.uses_trust;
        let previous = self.previous.and_then(|previous| previous.carried_to(world.now.as_ns()).ok());
        self.previous = match previous.map(|previous| (previous, join(&fresh, &previous))) {
            None => Some(fresh),
            Some((previous, Joined::Inside(joined))) if !self.is_too_narrow(&joined, &fresh, &previous) => Some(joined),
            Some((_, Joined::Disjoint)) => {
                // What both rest on cannot all be true, and nobody knows which part: it is earned anew.
                world.associations.iter_mut().for_each(Association::forget_proofs);
                self.findings.regions.clear();
                self.broken = Some(Broken::Disrupted(Reason::NewEpoch));
                self.new_epoch(Reason::NewEpoch, world.events);
                None
            }
            Some((_, Joined::Inside(_))) => {
                world.events.push(Event::Audit { what: Audit::Narrow, by: width_ns(&fresh) });
                self.new_epoch(Reason::NewEpoch, world.events);
                Some(fresh)
            }
        };
        // Once both edges come from the present region, what was trusted before no longer counts.
        let edges = |bound: &Bound| (bound.theta_lo_ns, bound.theta_hi_ns);
        if self.previous.as_ref().map(edges) == Some(edges(&fresh)) {
            self.carries_trust = self.findings.uses_trust;
        }
    }

    /// The newest answer that the region rests on.
    fn last_heard(&self, world: &World<'_>) -> RawTime {
        let heard = world.associations.iter().filter(|a| self.findings.regions.contains(a.id));
        let newest = heard.filter_map(|association| association.last_proof).max();
        newest.filter(|_| world.local.is_none()).unwrap_or(world.now)
    }

    /// An epoch that was already counted when the old one broke, or the first of this run.
    fn start_epoch_with(&mut self, fresh: Bound, reason: Reason, events: &mut Vec<Event>) {
        if !self.has_own_epoch {
            self.new_epoch(reason, events);
        }
        self.previous = Some(fresh);
    }

    fn narrow_caps(&mut self, world: &mut World<'_>, region: &Region) {
        match self.caps.narrowed(region, world.settings.oscillator.freq_spread) {
            Some(caps) => self.caps = caps,
            None => {
                world.events.push(Event::Audit { what: Audit::Spread, by: region.omega_hi });
                self.caps = RateCaps::of(&world.settings.oscillator);
                self.new_epoch(Reason::OscillatorBroke, world.events);
            }
        }
    }

    /// A joint region far narrower than both its parents, again and again, is a sign of a lie within the widths.
    fn is_too_narrow(&mut self, joined: &Bound, fresh: &Bound, previous: &Bound) -> bool {
        let narrower = width_ns(fresh).min(width_ns(previous));
        self.narrow_updates = if width_ns(joined) < narrower / 4 { self.narrow_updates + 1 } else { 0 };
        self.narrow_updates >= NARROW_UPDATES
    }

    /// BOUND §7: the estimated frequency must meet the proved interval, and the region from user stamps alone must
    /// contain the published one.
    /// Returns whether the region may be published.
    fn audit(&mut self, world: &mut World<'_>, region: &Region) -> bool {
        let best = self.findings.best.and_then(|id| world.associations.iter().find(|a| a.id == id));
        let wander = self.wander_per_s(world.settings);
        let rates = best.and_then(|best| best.estimator.rates_for_audit(world.now, wander));
        let miss = rates.map_or(0, |(low, high)| {
            let (low, high) =
                (FreqError::from_fraction(low).to_rate_down(), FreqError::from_fraction(high).to_rate_up());
            let (proved_lo, proved_hi) = (region.omega_lo.max(self.caps.lo), region.omega_hi.min(self.caps.hi));
            low.saturating_sub(proved_hi).max(proved_lo.saturating_sub(high))
        });
        self.frequency_updates = if miss > 0 { self.frequency_updates + 1 } else { 0 };
        if self.frequency_updates >= FREQUENCY_UPDATES {
            self.frequency_updates = 0;
            world.events.push(Event::Audit { what: Audit::Frequency, by: miss });
            self.widenings = (self.widenings + 1).min(MAX_WIDENINGS);
            // All that is remembered was learnt under the assumption that just broke.
            world.associations.iter_mut().for_each(Association::forget_proofs);
            self.findings.regions.clear();
            self.broken = Some(Broken::Disrupted(Reason::FrequencyAudit));
            self.new_epoch(Reason::FrequencyAudit, world.events);
            return false;
        }
        self.confine_estimates(world, region);
        self.audit_kernel_free(world, region);
        true
    }

    /// The estimates must lie inside the region. One that left it a little was misled by queues and is led back; one that
    /// left it by more than its width is a finding.
    fn confine_estimates(&mut self, world: &mut World<'_>, region: &Region) {
        let width_ns = region.theta_hi_ns.saturating_sub(region.theta_lo_ns);
        let truechimers =
            world.associations.iter_mut().filter(|a| !a.is_falseticker && self.findings.regions.contains(a.id));
        let outside = truechimers.map(|a| a.estimator.confine(world.now, region)).max();
        let fails = outside.is_some_and(|outside| outside > width_ns);
        if fails && !self.estimate_fails {
            world.events.push(Event::Audit { what: Audit::Estimate, by: outside.unwrap_or(0) });
        }
        self.estimate_fails = fails;
    }

    /// The region from user stamps alone needs no assumption about stamps, so it must contain the tighter one.
    fn audit_kernel_free(&mut self, world: &mut World<'_>, region: &Region) {
        let (limits, memory_ns) = (self.limits(world.settings), world.settings.bound.memory_ns);
        let mut voters = std::mem::take(&mut self.voters);
        voters.clear();
        voters.resize(self.roster.groups, Voter::default());
        let members = world.associations.iter_mut().zip(&self.roster.members);
        for (association, member) in members.filter(|(a, _)| self.findings.regions.contains(a.id)) {
            if let Verdict::Region(free) = association.kernel_free_verdict(world.now, &limits, memory_ns) {
                voters[member.voice].hears(free);
            }
        }
        let mut regions: Vec<Region> = voters.iter().filter_map(|voter| voter.region).collect();
        self.voters = voters;
        regions.extend(world.local.map(|local| local.region));
        let Vote::Region(free) = vote(&regions, self.findings.groups, self.findings.max_liars) else { return };
        let below = free.theta_lo_ns.saturating_sub(region.theta_lo_ns);
        let outside = below.max(region.theta_hi_ns.saturating_sub(free.theta_hi_ns));
        // A trusted source narrows the region further: then only a region outside is a finding.
        let is_outside = region.theta_lo_ns > free.theta_hi_ns || region.theta_hi_ns < free.theta_lo_ns;
        let fails = is_outside || (outside > KERNEL_FREE_SLACK_NS && !self.findings.uses_trust);
        if fails && !self.kernel_free_fails {
            world.events.push(Event::Audit { what: Audit::KernelFree, by: outside });
        }
        self.kernel_free_fails = fails;
    }

    /// The truechimers' estimates at `now`, each weighted by the inverse square of its region's half-width: their claims
    /// weigh as much as their paths, and no source takes over from another in a jump.
    pub(crate) fn combined(&self, associations: &[Association], now: RawTime) -> Option<Estimate> {
        // Too few to vote are too few to follow.
        self.carrier()?;
        let heard = associations.iter().filter(|association| !association.is_falseticker);
        let mut all = heard.filter_map(|association| {
            let region = self.findings.regions.get(association.id).or_else(|| self.asserted.region(association.id));
            let half_width = to_f64(region?.half_width_ns()).max(1.0);
            Some((association.estimator.at(now)?, 1.0 / (half_width * half_width)))
        });
        let (first, weight) = all.next()?;
        let (mut weights, mut offset, mut omega) = (weight, 0.0, weight * first.omega.as_fraction());
        let mut sigma = first;
        for (estimate, weight) in all {
            weights += weight;
            offset += weight * to_f64(estimate.theta_ns.saturating_sub(first.theta_ns));
            omega += weight * estimate.omega.as_fraction();
            // Errors of several sources may be common: the mean is no better than the best.
            sigma.theta_sigma_ns = sigma.theta_sigma_ns.min(estimate.theta_sigma_ns);
            if estimate.omega_sigma < sigma.omega_sigma {
                sigma.omega_sigma = estimate.omega_sigma;
            }
        }
        let theta_ns = first.theta_ns.saturating_add(to_i64((offset / weights).round()));
        Some(Estimate { theta_ns, omega: FreqError::from_fraction(omega / weights), ..sigma })
    }

    /// Too few are heard: the previous bound ages, until it expires.
    fn hold_over(&mut self, now: RawTime) {
        self.previous = self.previous.and_then(|previous| previous.carried_to(now.as_ns()).ok());
    }

    /// How fast the published bound grows, ns per s.
    pub(crate) fn growth_per_s_ns(&self) -> i64 {
        self.previous.as_ref().map_or(0, growth_per_s_ns)
    }
}

/// f of so many groups.
fn max_liars(settings: &Settings, groups: usize) -> usize {
    settings.max_liars.map_or(groups.saturating_sub(1) / 2, |f| f as usize).min(groups.saturating_sub(1))
}

fn is_trusted(association: &Association, settings: &Settings) -> bool {
    settings.sources.get(association.source as usize).is_some_and(|line| line.trust)
}
