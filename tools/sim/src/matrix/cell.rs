//! One experiment: a server whose time is true, a client, a path between them; everybody's estimate on the same exchanges.

use truebound_client::bound::{Bound, RATE_BITS, WANDER_BITS};
use truebound_core::estimate::{Estimator, Exchange, Filter};
use truebound_core::io::AssociationId;
use truebound_core::settings::{Settings, SourceSettings};
use truebound_core::time::RawTime;

use crate::baseline::{Baseline, ChronySettings, Sample};
use crate::link::LinkSpec;
use crate::nic::{Hardware, NicSpec, Software, Stamps};
use crate::oscillator::OscillatorSpec;
use crate::stats::{Errors, Summary};
use crate::world::{Action, Change, HostSpec, NS_PER_S, US, World, following, root, source};

/// How wrong the server may be, by its own words, ns.
const CLAIM_NS: i64 = US;
/// From the send call to the stamp at the client: where there are pairs, their requests are 40 µs apart; those of a real
/// agent are 28 to 180 µs apart.
const SEND_NS: [i64; 2] = [2 * US, 37 * US];
/// Estimates are compared with the truth a little after whole fractions of a second, ns.
const PHASE_NS: i64 = 3_000_000;

/// How packets are stamped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// At the wire, without error.
    Exact,
    /// At the wire, ±8 ns.
    Hardware,
    /// The same, and this share of transmit stamps is 50 to 300 ns late.
    Glitches(f64),
    /// By the kernel, microseconds from the wire.
    Software,
}

impl Kind {
    fn nic(self) -> NicSpec {
        let hardware = |noise_ns, glitch| NicSpec {
            stamps: Stamps::Hardware(Hardware { noise_ns, quantum_ns: 1, glitch }),
            ..NicSpec::HARDWARE
        };
        match self {
            Kind::Exact => hardware(0, 0.0),
            Kind::Hardware => hardware(8, 0.0),
            Kind::Glitches(share) => hardware(8, share),
            Kind::Software => NicSpec { stamps: Stamps::Software(Software::default()), ..NicSpec::PROMPT },
        }
    }

    const fn is_software(self) -> bool {
        matches!(self, Kind::Software)
    }
}

/// See the module's page.
#[derive(Clone, Debug)]
pub struct Cell {
    /// From the client to the server.
    pub there: LinkSpec,
    /// And back.
    pub back: LinkSpec,
    /// Stamps of both.
    pub kind: Kind,
    /// The client's.
    pub oscillator: OscillatorSpec,
    /// Exchanges a second; of pairs, the first exchanges.
    pub rate_hz: f64,
    /// A second request follows each at once.
    pub pairs: bool,
    /// Length, s.
    pub duration_s: i64,
    /// Figures count from here on, s.
    pub from_s: i64,
    /// Comparisons with the truth per second.
    pub samples_hz: i64,
    /// From half of the time on the way there is longer by this, ns.
    pub detour_ns: i64,
    /// At half of the time the frequency steps by this, ppm: A1 does not hold.
    pub step_ppm: f64,
}

/// What one seed of a cell gave.
#[derive(Clone, Debug)]
pub struct Run {
    /// |estimate − truth| by contender, in the order of [`CONTENDERS`].
    pub errors: Vec<Option<Summary>>,
    /// |ω̂ − ω| of the agent, 99 %, ppm.
    pub freq_p99_ppm: f64,
    /// Comparisons whose true ω was outside the proved interval.
    pub freq_outside: u64,
    /// Median half-width, ns.
    pub half_width_ns: f64,
    /// Half the shortest round trip, the server's claim, and the stamps' error and doubt, ns.
    pub floor_ns: f64,
    /// Intervals without true time in them.
    pub violations: u64,
    /// The share of pure probes at the end.
    pub pure_ratio: Option<f64>,
}

/// Who estimates.
pub const CONTENDERS: [&str; 7] = ["agent", "separator", "coded", "chrony", "PI servo", "min of 8", "last"];
/// Index of the chrony-like regression.
pub const CHRONY: usize = 3;

/// Everybody beside the agent.
struct Others {
    filters: [Estimator; 2],
    baselines: Vec<Baseline>,
    last_pair: Option<u32>,
}

impl Others {
    fn new(cell: &Cell) -> Self {
        let drift = -cell.oscillator.ppm * 1e-6;
        let is_software = cell.kind.is_software();
        let precision_s = if is_software { 1e-6 } else { 10e-9 };
        Others {
            filters: [Estimator::new(Filter::Separator), Estimator::new(Filter::Coded)],
            baselines: vec![
                Baseline::chrony(ChronySettings { precision_s, ..ChronySettings::default() }),
                Baseline::pi(cell.rate_hz, !is_software, drift),
                Baseline::min_of_8(drift),
                Baseline::raw(drift),
            ],
            last_pair: None,
        }
    }

    /// The second exchange of a pair is for those who know pairs.
    fn push(&mut self, exchange: &Exchange) {
        self.filters.iter_mut().for_each(|filter| filter.push(exchange));
        if exchange.pair.is_some() && exchange.pair == self.last_pair {
            return;
        }
        self.last_pair = exchange.pair;
        let Exchange { t1, t4, upper_ns, lower_ns, .. } = *exchange;
        let sample = Sample { t1_ns: t1.as_ns(), t4_ns: t4.as_ns(), upper_ns, lower_ns };
        self.baselines.iter_mut().for_each(|baseline| baseline.push(&sample));
    }

    fn thetas(&self, raw: RawTime) -> impl Iterator<Item = Option<i64>> {
        let filters = self.filters.iter().map(move |filter| Some(filter.at(raw)?.theta_ns));
        filters.chain(self.baselines.iter().map(move |baseline| baseline.at(raw.as_ns())))
    }
}

impl Cell {
    /// Runs it with this seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Run {
        let (mut world, client) = self.world(seed);
        world.tap(client);
        let mut others = Others::new(self);
        let mut errors: Vec<Errors> = CONTENDERS.iter().map(|_| Errors::new()).collect();
        let (mut freq, mut widths) = (Errors::new(), Errors::new());
        let mut outside = 0;
        let step = NS_PER_S / self.samples_hz;
        let (start, end) = (world.start(), world.start() + self.duration_s * NS_PER_S);
        let mut doubts = Errors::new();
        let (mut shortest, mut last) = (i64::MAX, None);
        world.run(PHASE_NS);
        while world.now < end {
            world.run(step);
            for (_, exchange) in world.take_exchanges(client) {
                shortest = shortest.min(exchange.strip_ns());
                doubts.record(exchange.stamp_ns);
                others.push(&exchange);
            }
            if world.now - start < self.from_s * NS_PER_S {
                continue;
            }
            let t = world.now;
            let host = &mut world.hosts[client];
            let (raw, (theta_ns, omega)) = (host.raw(t), host.truth(t));
            // While there is no bound the agent says nothing: whoever used its last word carries it on.
            let said = host.agent.estimate_at(raw).map(|now| (raw, now.theta_ns, now.omega.as_fraction()));
            last = said.or(last);
            let Some((at, theta, rate)) = last else { continue };
            errors[0].record(theta + (rate * raw.ns_since(at) as f64) as i64 - theta_ns);
            freq.record(((rate - omega) * 1e15) as i64);
            for (errors, theta) in errors[1..].iter_mut().zip(others.thetas(raw)) {
                errors.extend(theta.map(|theta| theta - theta_ns));
            }
            let Some(bound) = host.checker.page.as_ref().map(|page| page.bound) else { continue };
            let Ok(edges) = bound.edges_at(raw.as_ns()) else { continue };
            widths.record((edges.hi_ns - edges.lo_ns + 1) / 2);
            outside += u64::from(!proves(&bound, raw, omega));
        }
        let doubt = doubts.summary().map_or(0.0, |doubts| doubts.p50_ns);
        let association = world.report(client).sources.into_iter().find(|s| s.association == Some(AssociationId(0)));
        let claim_ns = association.as_ref().map_or(0, |source| source.claim_ns);
        Run {
            errors: errors.iter().map(Errors::summary).collect(),
            freq_p99_ppm: freq.summary().map_or(f64::NAN, |freq| freq.p99_ns * 1e-9),
            freq_outside: outside,
            half_width_ns: widths.summary().map_or(f64::NAN, |widths| widths.p50_ns),
            floor_ns: shortest as f64 / 2.0 + (claim_ns + self.kind.nic().error_ns()) as f64 + doubt,
            violations: world.checker(client).violations,
            pure_ratio: association.and_then(|source| source.pure_ratio),
        }
    }

    fn world(&self, seed: u64) -> (World, usize) {
        let mut world = World::new(seed);
        world.default_link = self.there.clone();
        let nic = self.kind.nic();
        let server = world.add(HostSpec { nic, ..HostSpec::ROOT }, root(0, CLAIM_NS));
        let per_poll = if self.pairs { 2.0 } else { 1.0 };
        let poll_ns = (NS_PER_S as f64 / self.rate_hz / per_poll) as i64;
        let line = SourceSettings {
            poll_min_ns: Some(poll_ns),
            pairs: Some(self.pairs),
            claim_floor_ns: Some(nic.error_ns()),
            ..source(server)
        };
        let settings = Settings { stamp_error_ns: nic.error_ns(), ..following(&[line]) };
        let spec = HostSpec {
            nic,
            oscillator: self.oscillator.clone(),
            realtime_error_ns: 10_000 * US,
            send_ns: SEND_NS[usize::from(self.pairs)],
            ..HostSpec::CLIENT
        };
        let client = world.add(spec, settings);
        world.connect(client, server, &self.there, &self.back);
        let half = world.start() + self.duration_s * NS_PER_S / 2;
        if self.step_ppm != 0.0 {
            world.act_at(half, client, Action::FrequencyStep { ppm: self.step_ppm });
        }
        if self.detour_ns != 0 {
            let detour = LinkSpec { base_us: self.there.base_us + self.detour_ns as f64 * 1e-3, ..self.there.clone() };
            world.change_at(half, client, server, Change::Link(detour));
        }
        (world, client)
    }
}

/// Is the true rate inside what the bound proves of it?
fn proves(bound: &Bound, raw: RawTime, omega: f64) -> bool {
    let unit = 1.0 / (1u64 << RATE_BITS) as f64;
    let age_ns = (raw.as_ns() - bound.t_ref_ns) as f64;
    let aged = 2.0 * age_ns * bound.half_wander as f64 / (1u128 << WANDER_BITS) as f64 + bound.phase_rate as f64 * unit;
    let (lo, hi) = (bound.omega_lo as f64 * unit - aged, bound.omega_hi as f64 * unit + aged);
    (lo..=hi).contains(&omega)
}
