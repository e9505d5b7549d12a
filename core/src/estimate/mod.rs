//! The point estimate of θ and ω for one source, with an honest standard uncertainty. Not a bound: it chooses the
//! midpoint that tools show and what the servo steers to, never an edge.
//!
//! Exchanges come from the association; a [`Filter`] turns them into a state of [`kalman`]:
//!
//! * [`adaptive`]: one-way minima in adaptive blocks, means where the stamp noise is two-sided (the default);
//! * the same blocks of those points only that coded probes show to be pure ([`purity`]);
//! * [`window`]: the separating line over a sliding window ([`separator`]).

pub mod adaptive;
mod block;
mod first_line;
mod floor;
mod kalman;
#[cfg(test)]
mod noise;
pub mod purity;
mod recent;
mod route;
pub mod separator;
mod strips;
pub mod svm;
mod window;

use crate::region::Region;
use crate::time::RawTime;
use crate::units::{FreqError, to_f64, to_i64};

use adaptive::Adaptive;
use kalman::Kalman;
use purity::{Codes, PureRatio};
use window::Window;

/// A filter that is so much behind the adaptive one gets nothing to go on with: two of the longest blocks, ns.
const STARVED_NS: i64 = 64_000_000_000;
/// Clean blocks (or lines) before the frequency is audited.
const AUDIT_AFTER: u32 = 16;

/// One complete exchange, in the words of the derivation: θ(T1) ≤ U = t2 − T1 and θ(T4) ≥ L = t3 − T4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the request left.
    pub t1: RawTime,
    /// When the answer arrived.
    pub t4: RawTime,
    /// U, ns.
    pub upper_ns: i64,
    /// L, ns.
    pub lower_ns: i64,
    /// How much in doubt its stamps are, ns.
    pub stamp_ns: i64,
    /// The pair of back-to-back requests that it belongs to, if it was sent in one.
    pub pair: Option<u32>,
}

impl Exchange {
    /// U − L: the round trip without the server's part, ns.
    #[must_use]
    pub const fn strip_ns(&self) -> i64 {
        self.upper_ns.saturating_sub(self.lower_ns)
    }
}

/// How exchanges become an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// One-way minima in adaptive blocks, whatever the probes.
    #[default]
    Adaptive,
    /// Coded probes: the same blocks, of the pure points of pairs only. Needs pairs.
    Coded,
    /// The separating line between all points.
    Separator,
}

/// θ and ω with their uncertainty, at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// θ, ns.
    pub theta_ns: i64,
    /// Standard uncertainty of θ, ns.
    pub theta_sigma_ns: i64,
    /// ω.
    pub omega: FreqError,
    /// Standard uncertainty of ω.
    pub omega_sigma: FreqError,
}

impl Estimate {
    /// Raw time itself, without doubt.
    pub(crate) const fn exact() -> Self {
        let none = FreqError::from_fraction(0.0);
        Estimate { theta_ns: 0, theta_sigma_ns: 0, omega: none, omega_sigma: none }
    }
}

/// One source's estimator.
#[derive(Clone, Debug)]
pub struct Estimator {
    filter: Filter,
    /// Runs whatever the filter: it knows the shortest path, and what is pure without codes.
    adaptive: Adaptive,
    /// The one from before a silence, while the new one knows nothing.
    before: Option<Adaptive>,
    /// Where the filter is the separating line.
    window: Option<Window>,
    /// Where it is coded probes: takes pure points only.
    pure: Option<Adaptive>,
    codes: Codes,
    ratio: PureRatio,
    /// The first of a pair waits for the second.
    held: Option<Exchange>,
    newest: Option<RawTime>,
}

impl Estimator {
    /// An estimator that has seen nothing.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Estimator {
            filter,
            adaptive: Adaptive::new(None),
            before: None,
            window: (filter == Filter::Separator).then(Window::new),
            pure: (filter == Filter::Coded).then(|| Adaptive::new(None)),
            codes: Codes::new(),
            ratio: PureRatio::default(),
            held: None,
            newest: None,
        }
    }

    /// Forgets everything: raw time is another clock now, or nothing can be trusted.
    pub(crate) fn clear(&mut self) {
        *self = Estimator::new(self.filter);
    }

    /// After a silence until `now` longer than `silence_ns` the filters begin anew: what blocks tell one by one of a clock
    /// that wandered off meanwhile, a line through the first exchanges tells at once.
    pub(crate) fn renew_after(&mut self, silence_ns: i64, now: RawTime) {
        if self.newest.is_some_and(|newest| now.ns_since(newest) > silence_ns) {
            let before = std::mem::replace(self, Estimator::new(self.filter));
            self.before = before.adaptive.kalman().is_some().then_some(before.adaptive);
        }
    }

    /// Takes one exchange. One that ended before another is dropped: a straggler says nothing new.
    pub fn push(&mut self, exchange: &Exchange) {
        if self.newest.is_some_and(|newest| exchange.t4 < newest) {
            return;
        }
        self.newest = Some(exchange.t4);
        match self.held.take() {
            Some(first) if first.pair == exchange.pair => return self.take_pair(&first, exchange),
            Some(alone) => self.take_single(&alone),
            None => {}
        }
        if exchange.pair.is_some() {
            self.held = Some(*exchange);
        } else {
            self.take_single(exchange);
        }
    }

    fn take_pair(&mut self, first: &Exchange, second: &Exchange) {
        let purity = self.codes.judge(first, second);
        [purity.forward, purity.reverse].into_iter().for_each(|is_pure| self.ratio.count(is_pure));
        for exchange in [first, second] {
            self.insert(exchange);
            if let Some(window) = &mut self.window {
                window.insert(exchange);
            }
            if let Some(pure) = &mut self.pure {
                pure.insert_pure(exchange, purity);
            }
        }
        self.settle(second.t4);
    }

    fn take_single(&mut self, exchange: &Exchange) {
        if let Some(purity) = self.adaptive.purity(exchange) {
            [purity.forward, purity.reverse].into_iter().for_each(|is_pure| self.ratio.count(is_pure));
        }
        self.insert(exchange);
        if let Some(window) = &mut self.window {
            window.insert(exchange);
        }
        self.settle(exchange.t4);
    }

    fn insert(&mut self, exchange: &Exchange) {
        self.adaptive.insert(exchange);
        self.before.iter_mut().for_each(|before| before.insert(exchange));
    }

    fn settle(&mut self, t: RawTime) {
        self.adaptive.settle(t);
        self.before.iter_mut().for_each(|before| before.settle(t));
        if self.adaptive.kalman().is_some() {
            self.before = None;
        }
        if let Some(window) = &mut self.window {
            window.settle(t);
        }
        if let Some(pure) = &mut self.pure {
            pure.settle(t);
        }
    }

    /// The filter's state; until it has one, or while it gets nothing to go on with, that of the adaptive filter.
    fn state(&self) -> Option<&Kalman> {
        let own = self.window.as_ref().and_then(Window::kalman).or(self.pure.as_ref().and_then(Adaptive::kalman));
        let adaptive = self.adaptive.kalman().or(self.before.as_ref().and_then(Adaptive::kalman));
        own.filter(|own| !is_starved(own, adaptive)).or(adaptive)
    }

    fn state_mut(&mut self) -> Option<&mut Kalman> {
        let own = self.window.as_mut().and_then(Window::kalman_mut);
        let own = own.or(self.pure.as_mut().and_then(Adaptive::kalman_mut));
        let own = own.filter(|own| !is_starved(own, self.adaptive.kalman()));
        own.or(self.adaptive.kalman_mut()).or(self.before.as_mut().and_then(Adaptive::kalman_mut))
    }

    /// The estimate at `now`; `None` before the first exchange.
    #[must_use]
    pub fn at(&self, now: RawTime) -> Option<Estimate> {
        let Some(state) = self.state() else { return self.first_guess(now) };
        let p = state.covariance_after(state.since(now).max(0.0));
        Some(Estimate {
            theta_ns: state.theta_ns_at(now),
            theta_sigma_ns: to_i64((p.p00.max(0.0).sqrt() * 1e9).ceil()),
            omega: FreqError::from_fraction(state.omega),
            omega_sigma: FreqError::from_fraction(p.p11.max(0.0).sqrt()),
        })
    }

    /// From the exchange with the shortest strip: its middle, wrong by at most half the strip, at an unknown rate.
    fn first_guess(&self, now: RawTime) -> Option<Estimate> {
        let held = self.held.as_ref();
        let best = self.adaptive.first_guess().into_iter().chain(held).min_by_key(|exchange| exchange.strip_ns())?;
        let age_ns = to_f64(now.ns_since(best.t4).max(0));
        let rate = FreqError::from_ppm(100.0);
        Some(Estimate {
            theta_ns: best.lower_ns.saturating_add(best.strip_ns() / 2),
            theta_sigma_ns: to_i64(to_f64(best.strip_ns()) / 4.0 + rate.as_fraction() * age_ns).max(1),
            omega: FreqError::from_fraction(0.0),
            omega_sigma: rate,
        })
    }

    /// What is proved outranks what is likely: an estimate outside the region at `now` moves to the nearer edge, in θ
    /// and in ω, with half the width as its uncertainty. Returns how far outside θ was, ns; 0 before the first line.
    pub(crate) fn confine(&mut self, now: RawTime, region: &Region) -> i64 {
        let Some(state) = self.state_mut().filter(|state| now >= state.t) else { return 0 };
        let Region { theta_lo_ns: lo_ns, theta_hi_ns: hi_ns, .. } = *region;
        let [slow, fast] = [region.omega_lo, region.omega_hi].map(|rate| FreqError::from_rate(rate).as_fraction());
        if slow > fast || lo_ns > hi_ns {
            return 0;
        }
        let theta_ns = state.theta_ns_at(now);
        let outside_ns = lo_ns.saturating_sub(theta_ns).max(theta_ns.saturating_sub(hi_ns)).max(0);
        if state.omega < slow || state.omega > fast {
            state.omega = state.omega.clamp(slow, fast);
            state.p.p11 = state.p.p11.max((fast - slow) * (fast - slow) / 4.0);
        }
        if outside_ns > 0 {
            // The state stays at its own instant, the last block's: only what it says of `now` moves.
            let half_width = to_f64(hi_ns.saturating_sub(lo_ns)) * 0.5e-9;
            let wanted = state.residual(theta_ns.clamp(lo_ns, hi_ns));
            state.theta = wanted - state.omega * state.since(now);
            state.p.p00 = state.p.p00.max(half_width * half_width);
        }
        outside_ns
    }

    /// The rate at `now` that the audit of BOUND §7 compares: ω̂ ± (6σ + A·lag), where lag = P₀₀/P₀₁ is how far the filter
    /// trails a steadily changing frequency (α/β of an α-β filter). `None` until enough blocks were clean: before that
    /// σ does not know the queues.
    pub(crate) fn rates_for_audit(&self, now: RawTime, wander_per_s: f64) -> Option<(f64, f64)> {
        let filter = self.pure.as_ref().unwrap_or(&self.adaptive);
        let clean = self.window.as_ref().map_or(filter.clean_blocks(), Window::lines);
        let state = self.state().filter(|state| clean >= AUDIT_AFTER && state.p.p01 > 0.0)?;
        let age = state.since(now).max(0.0);
        let lag = state.p.p00 / state.p.p01 + age;
        let doubt = 6.0 * state.covariance_after(age).p11.max(0.0).sqrt() + wander_per_s * lag;
        Some((state.omega - doubt, state.omega + doubt))
    }

    /// The shortest strip believed at `now`, ns: the minimum round trip as the stamps saw it.
    pub(crate) fn least_strip_ns(&self, now: RawTime) -> Option<i64> {
        self.adaptive.shortest_strip(now).map(|strip| to_i64((strip * 1e9).round()))
    }

    /// The share of recent one-way probes that met no queue: by codes where probes are paired, else by the shortest
    /// path. `None` before it can be told.
    #[must_use]
    pub fn pure_ratio(&self) -> Option<f64> {
        self.ratio.value()
    }
}

/// Codes may find nothing pure for long, or pairs may be forbidden.
fn is_starved(own: &Kalman, adaptive: Option<&Kalman>) -> bool {
    adaptive.is_some_and(|adaptive| adaptive.t.ns_since(own.t) > STARVED_NS)
}

#[cfg(test)]
mod tests {
    use super::noise::Noise;
    use super::*;

    const S: i64 = 1_000_000_000;

    fn exchange(t: i64, theta_ns: i64, forward_ns: i64, back_ns: i64) -> Exchange {
        let t = RawTime::from_ns(t);
        let (upper_ns, lower_ns) = (theta_ns + forward_ns, theta_ns - back_ns);
        Exchange { t1: t, t4: t, upper_ns, lower_ns, stamp_ns: 20, pair: None }
    }

    /// |error| in ns a minute after a silence of 3,000 s, in which the clock wandered off by 300 µs and 100 ppb.
    fn error_after_silence_ns(seed: u64, renews: bool) -> i64 {
        let (mut noise, mut estimator) = (Noise::new(seed), Estimator::new(Filter::Adaptive));
        let theta = |k: i64| if k < 600 { 0 } else { 300_000 + 100 * (k - 3_600) };
        for k in (0..600).chain(3_600..3_660) {
            let mut delay_ns = || 100_000 + to_i64(30_000.0 * noise.exponential());
            let (forward, back) = (delay_ns(), delay_ns());
            let exchange = exchange(k * S, theta(k), forward, back);
            if renews {
                estimator.renew_after(600 * S, exchange.t4);
            }
            estimator.push(&exchange);
            assert!(k < 16 || estimator.at(exchange.t4).is_some_and(|now| now.omega_sigma.as_ppm() < 50.0), "at {k} s");
        }
        let end = 3_660;
        (estimator.at(RawTime::from_ns(end * S)).expect("a line").theta_ns - theta(end)).abs()
    }

    #[test]
    fn after_a_silence_the_clock_is_found_as_fast_as_at_first() {
        let errors = |renews| {
            let mut errors: Vec<i64> = (0..20).map(|seed| error_after_silence_ns(seed, renews)).collect();
            errors.sort_unstable();
            errors
        };
        let (renewed, continued) = (errors(true), errors(false));
        assert!(renewed[17] < 4_000, "{renewed:?} ns");
        assert!(continued[10] > 2 * renewed[10], "it is of use: {renewed:?}, {continued:?} ns");
    }

    #[test]
    fn offset_and_frequency_are_found_under_queueing_by_every_filter() {
        for (seed, filter) in (1..=5).flat_map(|seed| [(seed, Filter::Adaptive), (seed, Filter::Separator)]) {
            let mut noise = Noise::new(seed);
            let mut estimator = Estimator::new(filter);
            let theta = |t: i64| 7_000_000 + t / 50_000; // 20 ppm
            for k in 0..600i64 {
                // Half of the packets meet a queue of up to 200 µs.
                let mut queue = || if noise.uniform() < 0.5 { 0 } else { to_i64(noise.uniform() * 200_000.0) };
                estimator.push(&exchange(k * S, theta(k * S), 50_000 + queue(), 50_000 + queue()));
            }
            let estimate = estimator.at(RawTime::from_ns(600 * S)).expect("600 samples");
            let error = estimate.theta_ns - theta(600 * S);
            assert!(error.abs() < 300, "seed {seed}, {filter:?}: {error} ns");
            assert!((estimate.omega.as_ppm() - 20.0).abs() < 0.02, "seed {seed}, {filter:?}: {:?}", estimate.omega);
        }
    }

    /// A bulk flow keeps a queue that never empties: a saw as symmetric as the noise of stamps, but not white.
    #[test]
    fn a_standing_queue_is_not_taken_for_noise_of_the_stamps() {
        for rate in [1, 16, 64] {
            let (mut noise, mut estimator) = (Noise::new(rate), Estimator::new(Filter::Adaptive));
            let rate = i64::try_from(rate).expect("small");
            for k in 0..180 * rate {
                let t = k * S / rate;
                let mut stamp = || to_i64(noise.uniform() * 2_000.0);
                let (forward, back) = (4_000 + stamp(), 4_000 + stamp());
                // From 16.8 ms to 24 ms in 1.3 s.
                let saw = if t < 60 * S { 0 } else { 16_800_000 + (t % 1_300_000_000) * 72 / 13_000 };
                estimator.push(&Exchange { stamp_ns: 1_000, ..exchange(t, 0, forward, back + saw) });
            }
            let error = estimator.at(RawTime::from_ns(180 * S)).expect("180 s of exchanges").theta_ns;
            assert!(error.abs() < 3_000, "{rate}/s: {error} ns");
        }
    }

    /// Queues of 30 µs hide 10 µs a second for some seconds from a block, not from the first packet that meets none.
    #[test]
    fn a_step_of_frequency_shows_in_the_first_packet_below_its_floor() {
        let (mut worst, step) = (Vec::new(), 3_000);
        for seed in 1..=20 {
            let (mut noise, mut estimator) = (Noise::new(seed), Estimator::new(Filter::Adaptive));
            let theta = |k: i64| (k - step).max(0) * 10_000;
            let mut greatest = 0;
            for k in 0..step + 60 {
                let mut delay = || 100_000 + to_i64(30_000.0 * noise.exponential());
                let exchange = exchange(k * S, theta(k), delay(), delay());
                let error = estimator.at(exchange.t1).map_or(0, |estimate| estimate.theta_ns - theta(k));
                greatest = if k < step { 0 } else { greatest.max(error.abs()) };
                estimator.push(&exchange);
            }
            worst.push(greatest);
        }
        worst.sort_unstable();
        let mean = worst.iter().sum::<i64>() / 20;
        assert!(mean < 40_000, "{mean}: {worst:?}");
    }

    /// The way there becomes shorter by 3 µs: no client can tell the half of it from a step of the clock, but no more.
    #[test]
    fn a_path_that_becomes_shorter_one_way_costs_half_of_that() {
        for (seed, stamp_ns) in (1..=10).flat_map(|seed| [(seed, 4), (seed, 1_000)]) {
            let (mut noise, mut estimator) = (Noise::new(seed), Estimator::new(Filter::Adaptive));
            for k in 0..4_000i64 {
                let mut delay = |floor: i64| {
                    let queue = if noise.uniform() < 0.5 { 0.0 } else { 6_000.0 * noise.exponential() };
                    floor + to_i64(queue + 10.0 * noise.uniform())
                };
                let (forward, back) = (delay(if k < 2_000 { 10_000 } else { 7_000 }), delay(10_000));
                estimator.push(&Exchange { stamp_ns, ..exchange(k * S / 8, 0, forward, back) });
            }
            let error = estimator.at(RawTime::from_ns(500 * S)).expect("exchanges").theta_ns;
            assert!(error.abs() < 1_700, "seed {seed}, stamps {stamp_ns} ns: {error} ns");
        }
    }

    #[test]
    fn an_estimate_outside_what_is_proved_moves_to_the_edge() {
        let mut estimator = Estimator::new(Filter::Adaptive);
        (0..=20i64).for_each(|k| estimator.push(&exchange(k * S, 0, 50_000, 50_000)));
        let now = RawTime::from_ns(20 * S + 10);
        let region = |lo, hi, slow| Region { theta_lo_ns: lo, theta_hi_ns: hi, omega_lo: slow, omega_hi: 1 << 30 };
        assert_eq!(estimator.confine(now, &region(-100, 100, -1)), 0);
        assert_eq!(estimator.confine(now, &region(1_000, 3_000, 1 << 20)), 1_000);
        let estimate = estimator.at(now).expect("a sample");
        assert_eq!((estimate.theta_ns, estimate.omega.to_rate_up()), (1_000, 1 << 20));
    }

    #[test]
    fn uncertainty_grows_without_exchanges() {
        let mut estimator = Estimator::new(Filter::Adaptive);
        (0..20i64).for_each(|k| estimator.push(&exchange(k * S, 0, 50_000, 50_000)));
        let at = |s: i64| estimator.at(RawTime::from_ns(s * S)).expect("20 samples").theta_sigma_ns;
        assert!(at(20) < at(60) && at(60) < at(600));
    }

    #[test]
    fn the_first_exchange_is_an_estimate_already() {
        let mut estimator = Estimator::new(Filter::Adaptive);
        estimator.push(&exchange(0, 5_000, 60_000, 40_000));
        let estimate = estimator.at(RawTime::from_ns(10)).expect("one");
        assert!((estimate.theta_ns - 5_000).abs() <= 50_000 && estimate.theta_sigma_ns >= 10_000, "{estimate:?}");
    }

    #[test]
    fn stragglers_and_lost_halves_of_pairs_do_no_harm() {
        let mut estimator = Estimator::new(Filter::Coded);
        for k in 0..400i64 {
            let first =
                Exchange { pair: Some(u32::try_from(k).expect("small")), ..exchange(k * S / 8, 0, 9_000, 9_000) };
            let second = Exchange { t4: first.t4.plus_ns(20_000), t1: first.t1.plus_ns(20_000), ..first };
            estimator.push(&first);
            if k % 7 != 0 {
                estimator.push(&second);
            }
            estimator.push(&first);
        }
        assert!(estimator.at(RawTime::from_ns(50 * S)).expect("400 pairs").theta_ns.abs() < 20);
        assert!(estimator.pure_ratio().expect("pairs") > 0.99);
    }

    #[test]
    fn a_step_before_the_first_line_is_forgotten() {
        let mut estimator = Estimator::new(Filter::Adaptive);
        for k in 0..600i64 {
            let theta = if k < 6 { 0 } else { S };
            estimator.push(&exchange(k * S / 16, theta, 50_000, 50_000));
        }
        let error = estimator.at(RawTime::from_ns(38 * S)).expect("600 exchanges").theta_ns - S;
        assert!(error.abs() < 1_000, "{error} ns");
    }

    #[test]
    fn codes_that_are_pure_one_way_only_never_give_nonsense() {
        for seed in 1..=200 {
            let (mut noise, mut estimator, mut theta) = (Noise::new(seed), Estimator::new(Filter::Coded), 0);
            for k in 0..1500i64 {
                theta += if noise.uniform() < 0.01 { to_i64(noise.uniform() * 6_000.0) - 3_000 } else { 0 };
                let mut queue = || if noise.uniform() < 0.5 { 0 } else { to_i64(noise.uniform() * 20_000.0) };
                let t = k * S / 16;
                for gap in [0, 20_000] {
                    let next = exchange(t + gap, theta, 9_000 + queue(), 9_000 + queue());
                    estimator.push(&Exchange { stamp_ns: 4, pair: u32::try_from(k).ok(), ..next });
                }
                let Some(now) = estimator.at(RawTime::from_ns(t + 30_000)) else { continue };
                assert!(now.omega.as_fraction().is_finite() && now.theta_sigma_ns > 0, "seed {seed}, {k}: {now:?}");
            }
        }
    }
}
