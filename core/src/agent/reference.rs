//! Reference clocks in the agent: samples are placed in raw time, pulses are numbered by the other sources, and another
//! daemon of this host is told our estimate as if we were such a clock.

use super::Agent;
use crate::association::Peer;
use crate::association::ntp::Discard;
use crate::association::reference::{MAX_AGE_NS, only_second, uncut};
use crate::correlation::Mapped;
use crate::event::Event;
use crate::io::{AssociationId, CrossReading, FeedSample, Found, Output, ReferenceRead};
use crate::settings::Timescale;
use crate::synthesis::World;
use crate::time::{NS_PER_S, RawSpan, RawTime, TaiTime, UtcTime};
use crate::units::{to_f64, to_i64};
use crate::wire::reference::{Said, Sample};

/// More than phase noise makes of the few seconds between a pulse and now, ns.
const PHASE_NS: i64 = 1_000;
/// A leap second is announced to others for so long before it comes, ns.
const LEAP_NOTICE_NS: i64 = 86_400 * NS_PER_S;

/// When another daemon is told next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    pub(super) next: RawTime,
    interval_ns: i64,
    /// The next reading of CLOCK_REALTIME is for it.
    is_due: bool,
}

impl Feed {
    /// The first time at once; never without an interval.
    pub(super) fn beginning(now: RawTime, interval_ns: Option<i64>) -> Self {
        let next = interval_ns.map_or(RawTime::MAX, |_| now);
        Feed { next, interval_ns: interval_ns.unwrap_or(i64::MAX).max(1), is_due: false }
    }
}

impl Agent {
    // ---- in ------------------------------------------------------------------------------------------------------

    /// A reference clock was looked at, or spoke.
    pub(super) fn referenced(&mut self, read: &ReferenceRead<'_>) {
        let now = self.now;
        let Some(association) = self.associations.iter_mut().find(|a| a.id == read.association) else { return };
        let Peer::Reference(reference) = &mut association.peer else { return };
        let taken = reference.take(read);
        // Datagrams come by themselves.
        let is_paced = !matches!(read.found, Found::Datagram(_));
        let Ok(Some(sample)) = taken else {
            if is_paced {
                association.next_poll = reference.pace.missed(now);
            }
            if let Err(discard) = taken {
                association.counters.discarded[discard as usize] += 1;
            }
            return;
        };
        let mapped = self.clocks.referenced(sample.at, read.user_after, MAX_AGE_NS);
        if let (true, Mapped::Span(at)) = (is_paced, mapped) {
            association.next_poll = reference.pace.found(now, at.middle());
        }
        match mapped {
            Mapped::Span(at) => self.sampled(read.association, &sample, uncut(at, sample.cut_ns)),
            Mapped::Unbracketed => association.counters.discarded[Discard::Stale as usize] += 1,
            Mapped::Contradicted => {
                reference.contradicted += 1;
                self.events.push(Event::StampDropped { association: read.association });
            }
        }
    }

    /// A reference clock said something some time within `at`.
    fn sampled(&mut self, id: AssociationId, sample: &Sample, at: RawSpan) {
        let said = match sample.said {
            Said::Time(ns) => Some((ns, None)),
            Said::Second(second_ns) => {
                self.second_at(id, at, second_ns, sample.doubt_ns).map(|ns| (ns, Some(Timescale::Tai)))
            }
        };
        let wander = self.synthesis.wander(&self.settings);
        let Some(association) = self.associations.iter_mut().find(|a| a.id == id) else { return };
        let Peer::Reference(reference) = &association.peer else { return };
        let told = said.ok_or(Discard::Unnumbered).and_then(|(ns, timescale)| {
            let timescale = timescale.unwrap_or(reference.timescale);
            reference.told(ns, timescale, sample.doubt_ns, &self.settings.leap).ok_or(Discard::NearLeap)
        });
        match told {
            Err(discard) => association.counters.discarded[discard as usize] += 1,
            Ok(told) => {
                if association.reach == 0 || association.counters.answers == 0 {
                    self.events.push(Event::Reachable { association: id, reachable: true });
                }
                association.referenced(at, &told, &wander);
                self.synthesise();
            }
        }
    }

    /// TAI at a pulse within `at`, ns, if the other sources leave no choice.
    fn second_at(&mut self, id: AssociationId, at: RawSpan, second_ns: i64, doubt_ns: i64) -> Option<i64> {
        let association = self.associations.iter().find(|a| a.id == id)?;
        let Peer::Reference(reference) = &association.peer else { return None };
        let error_ns = reference.error_ns.saturating_add(doubt_ns);
        let region = self.synthesis.without_pulses(&mut World {
            asked_at: self.responder.as_ref().map(|responder| &responder.asked_at),
            identities: &self.ports.identities,
            now: self.now,
            settings: &self.settings,
            associations: &mut self.associations,
            local: self.local,
            events: &mut self.events,
        })?;
        // θ is known now; it was another one at the pulse, by Ω a second.
        let age_ns = to_f64(self.now.ns_since(at.early).max(0));
        let drift_ns =
            to_i64((self.settings.oscillator.freq_limit.as_fraction() * age_ns).ceil()).saturating_add(PHASE_NS);
        let lo_ns = at.early.as_ns().saturating_add(region.theta_lo_ns).saturating_sub(drift_ns);
        let hi_ns = at.late.as_ns().saturating_add(region.theta_hi_ns).saturating_add(drift_ns);
        only_second(lo_ns, hi_ns, error_ns, second_ns)
    }

    // ---- out -----------------------------------------------------------------------------------------------------

    /// It is time to tell: CLOCK_REALTIME is read first.
    pub(super) fn run_feed(&mut self) {
        if self.now < self.feed.next {
            return;
        }
        self.feed.next = self.now.plus_ns(self.feed.interval_ns);
        self.feed.is_due = true;
        self.outputs.push_back(Output::ReadCross);
    }

    /// Tells how far CLOCK_REALTIME is off, if there is a bound to know it by.
    pub(super) fn feed_others(&mut self, reading: &CrossReading) {
        if std::mem::take(&mut self.feed.is_due)
            && let Some(sample) = self.feed_sample(reading)
        {
            self.outputs.push_back(Output::Feed(sample));
        }
    }

    fn feed_sample(&self, reading: &CrossReading) -> Option<FeedSample> {
        let estimate = self.estimate_at(self.now).filter(|_| self.status.0.has_bound())?;
        let at = RawSpan { early: reading.before, late: reading.after }.middle();
        let run_ns = to_i64((estimate.omega.as_fraction() * to_f64(at.ns_since(self.now))).round());
        let tai = TaiTime::from_ns(at.as_ns().saturating_add(estimate.theta_ns).saturating_add(run_ns));
        let leap = &self.settings.leap;
        let utc = leap.to_utc(tai);
        if leap.is_ambiguous(utc) || leap.doubt_s(utc, 0) > 0 {
            return None;
        }
        let is_soon = |from_unix_s: i64| {
            let ahead_ns = UtcTime::from_ns(from_unix_s.saturating_mul(NS_PER_S)).ns_since(utc);
            (1..=LEAP_NOTICE_NS).contains(&ahead_ns)
        };
        let coming = leap.changes().find(|&(from_unix_s, ..)| is_soon(from_unix_s));
        let indicator = coming.map_or(0, |(_, before_s, after_s)| if after_s > before_s { 1 } else { 2 });
        let ahead_ns = utc.as_ns().saturating_sub(reading.real.as_ns());
        Some(FeedSample { at: reading.real, ahead_ns, leap: indicator })
    }
}
