//! The default filter: one-way minima in adaptive blocks feed the two-state filter (ALGORITHM §6.2, "H4").
//!
//! Queueing only ever delays, so the least U and the least L of a block are its purest points, and they need not come
//! from the same exchange: at a load where one packet in thirty meets no queue, one exchange in a thousand is pure in
//! both directions. The block's midpoint z = (u − v)/2 can be wrong by at most half of what its strip u + v exceeds the
//! shortest known one, so that excess is its noise. A block ends when it is clean, or when waiting longer would cost
//! more than it could gain because the clock wanders (`wander` ≥ 0.35 `noise`).
//!
//! Where the noise of the stamps themselves is two-sided ([`super::strips`]), minima are the worst choice and block
//! means the best: then z is the mean midpoint of the block's ordinary exchanges, with σ learned from the strips.

use super::Exchange;
use super::block::{Smallest, Veto, purest};
use super::first_line::FirstLine;
use super::floor::{Floor, Short};
use super::kalman::{Covariance, Kalman};
use super::purity::Purity;
use super::route::Route;
use super::strips::Strips;
use crate::time::RawTime;
use crate::units::to_f64;

/// Share of the excess strip that counts as noise of the midpoint: 1/√12 of a uniform law; up to so much is learned.
const EXCESS_SHARE: f64 = 0.3;
const EXCESS_SHARE_MAX: f64 = 1.2;
/// Of what the n-th block is shorter than all before it, so much over n may be missing still.
const RECORD_SHARE: f64 = 4.0;
/// A floor is half of the shortest strip about a midpoint that no block knows better than to a share of its excess: a packet
/// is below it beyond so many times the usual one.
const FLOOR_DOUBT: f64 = 6.0;
/// Where a packet came short of its floor, θ is where it says up to this share of the shortness.
const SHORT_SHARE: f64 = 0.1;
/// Below this share of clean blocks, queues have no floor that blocks meet: then clean ones are chance.
const CLEAN_SHARE: f64 = 0.1;
/// Smoothed surprise beyond which q doubles, and what it is then.
const SURPRISE_MAX: f64 = 2.0;
const SURPRISE_RESET: f64 = 1.3;
/// An exchange whose stamps are in doubt by so many times what is usual, and by so much more, ns, is left out: a stamp is
/// missing, and what stands in its place says nothing of the path. Unless they all are, so many in a row.
const VAGUE_TIMES: i64 = 4;
const VAGUE_NS: i64 = 250;
const VAGUE_MAX: u32 = 16;
/// A normalised innovation beyond this is none of the noise's, however long its tails.
const OUTLIER_MAX: f64 = 100.0;
/// A block waits while wander is below this share of its noise; in the prototype's rules below that one.
const WANDER_SHARE: f64 = 0.35;
const WANDER_SHARE_PLAIN: f64 = 0.5;
/// Exchanges whose stamps are in doubt by no more are precise, ns.
const PRECISE_STAMP_NS: i64 = 20;
/// Longest block, s.
const BLOCK_MAX_S: f64 = 32.0;
/// Least and greatest sub-block, and how many exchanges it should have.
const SUB_BLOCK_S: (f64, f64) = (0.1, 0.5);
const SUB_BLOCK_EXCHANGES: f64 = 16.0;
/// Stamps too early by less than this are glitches of a NIC, by more another path, s.
const GLITCH_MAX: f64 = 500e-9;
/// Stamps this close confirm each other, s.
const COMPANY: f64 = 32e-9;
/// Exchanges and seconds before the first line is drawn; fewer exchanges do when it took long.
const START_EXCHANGES: usize = 16;
const START_S: f64 = 2.0;
const START_FEW: usize = 4;
const START_LONG_S: f64 = 32.0;
/// Exchanges kept for the first line at most.
const START_MAX: usize = 4096;
/// Without a line from so many times as many exchanges, the older half goes.
const START_TRIES: usize = 2;
/// The line is drawn anew when there are twice as many exchanges, the last time before there are twice as many as this,
/// and not from so long ago, s.
const LINE_MAX: usize = 128;
const LINE_MAX_S: f64 = 64.0;
/// The greatest random walk of frequency that is learned.
const WALK_MAX: f64 = 1e-14;

/// What depends on the kind of stamps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Noise of the purest points, s.
    pub sigma: f64,
    /// Stamps are good to tens of ns: changes of path show, lone early stamps are glitches.
    pub is_precise: bool,
    /// Only the rules of ALGORITHM §6.2, for comparison with its prototype: no means, no kinks, q from clean blocks.
    pub is_plain: bool,
    /// Least random walk of frequency, (s/s)²/s, and the first guess.
    pub walk_min: f64,
    /// Length of a sub-block, s; `None`: from the rate of the first exchanges.
    pub sub_block_s: Option<f64>,
}

impl Tuning {
    /// By the stamps of the first exchanges: the median of their doubt decides.
    fn learned(median: i64) -> Self {
        let mut tuning = Tuning::of_stamps(median <= PRECISE_STAMP_NS);
        if !tuning.is_precise {
            tuning.sigma += to_f64(median) * 1e-9;
        }
        tuning
    }

    /// For stamps good to some ns (hardware), or others.
    #[must_use]
    pub const fn of_stamps(is_precise: bool) -> Self {
        let sigma = if is_precise { 5e-9 } else { 30e-9 };
        Tuning { sigma, is_precise, is_plain: false, walk_min: 2e-18, sub_block_s: None }
    }
}

/// See the module's page.
#[derive(Clone, Debug)]
pub struct Adaptive {
    tuning: Option<Tuning>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Gathering(Vec<Exchange>),
    Running(Box<Running>),
}

#[derive(Clone, Debug)]
struct Running {
    tuning: Tuning,
    /// How far stamps are in doubt as a rule, and how many in a row were far beyond.
    usual_doubt_ns: i64,
    vague: u32,
    kalman: Kalman,
    route: Route,
    strips: Strips,
    block: Block,
    /// All exchanges, while they are few, and how many call for another line.
    early: Vec<Exchange>,
    draw_at: usize,
    floor: Floor,
    /// Length of a sub-block, s.
    sub_block: f64,
    /// When the sub-block began, and the least u and v since.
    sub_since: RawTime,
    sub_least: (f64, f64),
    /// How much of a block's excess is noise of its midpoint.
    excess_share: f64,
    /// Smoothed excess of concluded blocks, s.
    usual_excess: f64,
    /// Smoothed normalised innovation squared: 1 when the model fits.
    surprise: f64,
    /// Smoothed product of successive normalised innovations, and the last of them.
    correlation: f64,
    last_nu: f64,
    /// The innovation of the last block, if it was an outlier; else 0.
    outlier: f64,
    /// Smoothed share of clean blocks.
    clean_share: f64,
    /// Clean blocks so far, and all.
    clean: u32,
    blocks: u32,
}

/// What the present block has seen.
#[derive(Clone, Debug)]
struct Block {
    since: RawTime,
    upper: Smallest,
    lower: Smallest,
    /// The shortest strip of a single sub-block.
    own_strip: f64,
    /// Sum of the de-skewed midpoints of the ordinary exchanges, and how many they are of how many.
    middles: f64,
    ordinary: u32,
    exchanges: u32,
}

impl Block {
    fn starting(since: RawTime) -> Self {
        Block {
            since,
            upper: Smallest::EMPTY,
            lower: Smallest::EMPTY,
            own_strip: f64::INFINITY,
            middles: 0.0,
            ordinary: 0,
            exchanges: 0,
        }
    }
}

/// What a block says of θ.
struct Measured {
    /// Midpoint relative to the base, uncorrected for the path, s.
    middle: f64,
    /// Strip of the purest pair.
    strip: f64,
    /// How far it exceeds the shortest.
    excess: f64,
    /// Standard deviation of the midpoint.
    noise: f64,
    is_clean: bool,
}

impl Measured {
    /// R: of the midpoint, and of what the clock may have wandered within the block (its share is that of a uniform law).
    fn variance(&self, wander: f64) -> f64 {
        self.noise * self.noise + 0.09 * wander * wander
    }
}

impl Adaptive {
    /// A filter that has seen nothing; without a tuning, the first exchanges tell it.
    #[must_use]
    pub const fn new(tuning: Option<Tuning>) -> Self {
        Adaptive { tuning, stage: Stage::Gathering(Vec::new()) }
    }

    /// Takes an exchange; [`Adaptive::settle`] draws conclusions. Both packets of a pair come before it.
    pub fn insert(&mut self, exchange: &Exchange) {
        self.insert_pure(exchange, Purity::BOTH);
    }

    /// Takes the pure directions of an exchange only; for the first line both have to be.
    pub(crate) fn insert_pure(&mut self, exchange: &Exchange, purity: Purity) {
        match &mut self.stage {
            Stage::Running(running) => running.insert(exchange, purity),
            Stage::Gathering(exchanges) if purity == Purity::BOTH && exchanges.len() < START_MAX => {
                exchanges.push(*exchange);
            }
            Stage::Gathering(_) => {}
        }
    }

    /// Draws conclusions from what was inserted up to `t`.
    pub fn settle(&mut self, t: RawTime) {
        match &mut self.stage {
            Stage::Gathering(exchanges) => match start(exchanges, t, self.tuning) {
                Some(running) => self.stage = Stage::Running(Box::new(running)),
                // No line fits them: something stepped meanwhile, and the older half is of before.
                None if has_enough(exchanges, t, START_TRIES) => drop(exchanges.drain(..exchanges.len() / 2)),
                None => {}
            },
            Stage::Running(running) => running.settle(t),
        }
    }

    /// The state, once there is one.
    pub(crate) fn kalman(&self) -> Option<&Kalman> {
        match &self.stage {
            Stage::Gathering(_) => None,
            Stage::Running(running) => Some(&running.kalman),
        }
    }

    pub(crate) fn kalman_mut(&mut self) -> Option<&mut Kalman> {
        match &mut self.stage {
            Stage::Gathering(_) => None,
            Stage::Running(running) => Some(&mut running.kalman),
        }
    }

    /// Before the first line: the exchange with the shortest strip so far.
    pub(crate) fn first_guess(&self) -> Option<&Exchange> {
        match &self.stage {
            Stage::Gathering(exchanges) => exchanges.iter().min_by_key(|exchange| exchange.strip_ns()),
            Stage::Running(_) => None,
        }
    }

    /// The shortest strip believed at `t`, s.
    pub(crate) fn shortest_strip(&self, t: RawTime) -> Option<f64> {
        match &self.stage {
            Stage::Gathering(_) => self.first_guess().map(|exchange| to_f64(exchange.strip_ns()) * 1e-9),
            Stage::Running(running) => Some(running.route.shortest_at(t)),
        }
    }

    /// Clean blocks so far: what σ means is known after some.
    pub(crate) fn clean_blocks(&self) -> u32 {
        match &self.stage {
            Stage::Gathering(_) => 0,
            Stage::Running(running) => running.clean,
        }
    }

    /// Did this exchange's packets meet no queue, forward and back, as far as the state knows?
    pub(crate) fn purity(&self, exchange: &Exchange) -> Option<Purity> {
        let Stage::Running(running) = &self.stage else { return None };
        Some(running.purity(exchange))
    }

    /// θ − raw in ns, ω and the variance of θ (s²) at `t`: what tools compare.
    #[must_use]
    pub fn state_at(&self, t: RawTime) -> Option<(i64, f64, f64)> {
        let kalman = self.kalman()?;
        Some((kalman.theta_ns_at(t), kalman.omega, kalman.covariance_after(kalman.since(t).max(0.0)).p00))
    }
}

/// Are there `times` as many exchanges, over as many times the seconds, as the first line needs?
fn has_enough(exchanges: &[Exchange], t: RawTime, times: usize) -> bool {
    let Some(first) = exchanges.first() else { return false };
    let span = to_f64(t.ns_since(first.t1)) * 1e-9;
    let factor = f64::from(u32::try_from(times).unwrap_or(u32::MAX));
    let is_enough = |count: usize, seconds: f64| exchanges.len() >= count * times && span >= seconds * factor;
    is_enough(START_EXCHANGES, START_S) || is_enough(START_FEW, START_LONG_S) || exchanges.len() >= START_MAX
}

/// The first state: the widest strip that separates both directions (ALGORITHM §1, k = 1).
fn start(exchanges: &[Exchange], t: RawTime, tuning: Option<Tuning>) -> Option<Running> {
    if !has_enough(exchanges, t, 1) {
        return None;
    }
    let usual_doubt_ns = median_doubt_ns(exchanges);
    let exchanges: Vec<Exchange> = exchanges.iter().filter(|e| !is_vague(e, usual_doubt_ns)).copied().collect();
    let tuning = tuning.unwrap_or_else(|| Tuning::learned(usual_doubt_ns));
    let FirstLine { mut kalman, margin_s, span_s } = FirstLine::new(&exchanges, t, tuning.sigma, tuning.walk_min)?;
    if tuning.is_plain {
        let (p00, p11) =
            (margin_s * margin_s / 16.0 + tuning.sigma * tuning.sigma, (margin_s / span_s) * (margin_s / span_s));
        kalman.p = Covariance { p00, p01: 0.5 * (p00 * p11).sqrt(), p11 };
    }
    let rate_hz = f64::from(u32::try_from(exchanges.len()).unwrap_or(u32::MAX)) / span_s;
    Some(Running {
        tuning,
        usual_doubt_ns,
        vague: 0,
        kalman,
        route: Route::new(t, margin_s),
        strips: Strips::new(),
        block: Block::starting(t),
        floor: Floor::new(t),
        draw_at: 2 * exchanges.len(),
        early: if exchanges.len() < 2 * LINE_MAX { exchanges } else { Vec::new() },
        sub_block: tuning.sub_block_s.unwrap_or((SUB_BLOCK_EXCHANGES / rate_hz).clamp(SUB_BLOCK_S.0, SUB_BLOCK_S.1)),
        sub_since: t,
        sub_least: (f64::INFINITY, f64::INFINITY),
        usual_excess: 0.0,
        excess_share: EXCESS_SHARE,
        surprise: 1.0,
        correlation: 0.0,
        last_nu: 0.0,
        outlier: 0.0,
        clean_share: 1.0,
        clean: 0,
        blocks: 0,
    })
}

fn median_doubt_ns(exchanges: &[Exchange]) -> i64 {
    let mut doubts: Vec<i64> = exchanges.iter().map(|exchange| exchange.stamp_ns).collect();
    doubts.sort_unstable();
    doubts.get(doubts.len() / 2).copied().unwrap_or(i64::MAX)
}

fn is_vague(exchange: &Exchange, usual_ns: i64) -> bool {
    exchange.stamp_ns > usual_ns.saturating_mul(VAGUE_TIMES).saturating_add(VAGUE_NS)
}

impl Running {
    fn purity(&self, exchange: &Exchange) -> Purity {
        let Exchange { t1, t4, upper_ns, lower_ns, .. } = *exchange;
        let half = 0.5 * self.route.shortest_at(t4);
        let excess = |theta: f64, ns: i64, floor: f64| (self.kalman.residual(ns) - theta).abs() - floor;
        let (forward, back) = (half + self.route.correction, half - self.route.correction);
        let limit = match self.strips.two_sided() {
            Some(noise) => 3.0 * noise.sigma,
            None => 4.0 * self.tuning.sigma,
        } + 2.0 * self.kalman.p.p00.max(0.0).sqrt();
        Purity {
            forward: excess(self.kalman.theta_at(t1), upper_ns, forward) <= limit,
            reverse: excess(self.kalman.theta_at(t4), lower_ns, back) <= limit,
        }
    }

    fn insert(&mut self, exchange: &Exchange, purity: Purity) {
        if self.leaves_out(exchange) {
            return;
        }
        let (since, omega) = (self.block.since, self.kalman.omega);
        let deskewed = |t: RawTime, ns: i64| self.kalman.residual(ns) - omega * to_f64(t.ns_since(since)) * 1e-9;
        let u = deskewed(exchange.t1, exchange.upper_ns);
        let v = -deskewed(exchange.t4, exchange.lower_ns);
        if purity.forward {
            self.block.upper.insert(u);
            self.sub_least.0 = self.sub_least.0.min(u);
        }
        if purity.reverse {
            self.block.lower.insert(v);
            self.sub_least.1 = self.sub_least.1.min(v);
        }
        if purity == Purity::BOTH && !self.tuning.is_plain {
            self.block.exchanges += 1;
            if self.strips.two_sided().is_none_or(|noise| noise.is_ordinary(u + v)) {
                self.block.ordinary += 1;
                self.block.middles += 0.5 * (u - v);
            }
            self.strips.push(u + v);
            if !self.early.is_empty() {
                self.early.push(*exchange);
            }
        }
    }

    /// While exchanges are few, the line through all of them may be better than what blocks made of them.
    fn draw_again(&mut self, t: RawTime) {
        let Some(first) = self.early.first() else { return };
        let is_young = to_f64(t.ns_since(first.t1)) * 1e-9 <= LINE_MAX_S;
        if !is_young || self.early.len() >= 4 * LINE_MAX {
            self.early = Vec::new();
        } else if self.early.len() >= self.draw_at && self.strips.two_sided().is_none() {
            self.draw_at = 2 * self.early.len();
            self.draw(t);
            if self.draw_at > LINE_MAX {
                self.early = Vec::new();
            }
        }
    }

    fn draw(&mut self, t: RawTime) {
        let Some(line) = FirstLine::new(&self.early, t, self.tuning.sigma, self.kalman.q) else { return };
        self.kalman.predict(t);
        let apart = self.kalman.residual(line.kalman.base_ns) + line.kalman.theta - self.kalman.theta;
        let doubt = self.kalman.p.p00 + line.kalman.p.p00;
        let is_better = !self.route.is_confirmed() || line.kalman.p.p00 < self.kalman.p.p00;
        if is_better && apart * apart <= 25.0 * doubt {
            self.kalman = line.kalman;
            self.route.shorten(t, line.margin_s);
            self.restart_block(t);
        }
    }

    fn leaves_out(&mut self, exchange: &Exchange) -> bool {
        if !is_vague(exchange, self.usual_doubt_ns) {
            self.vague = 0;
            return false;
        }
        self.vague += 1;
        if self.vague == VAGUE_MAX {
            (self.usual_doubt_ns, self.vague) = (exchange.stamp_ns, 0);
        }
        self.vague > 0
    }

    fn settle(&mut self, t: RawTime) {
        self.draw_again(t);
        let (sigma, is_precise) = (self.strip_sigma(), self.tuning.is_precise);
        let b = to_f64(t.ns_since(self.block.since)) * 1e-9;
        if to_f64(t.ns_since(self.sub_since)) * 1e-9 < self.sub_block
            || self.block.upper.is_empty()
            || self.block.lower.is_empty()
        {
            return;
        }
        let (u, v) = std::mem::replace(&mut self.sub_least, (f64::INFINITY, f64::INFINITY));
        self.sub_since = t;
        if is_precise && u + v < f64::INFINITY {
            let middle = 0.5 * (u - v) + self.kalman.omega * b - self.route.correction;
            let doubt = (self.kalman.p.p00 + self.kalman.p.p11 * 25.0).max(0.0).sqrt();
            if self.route.watch(t, u + v, middle - self.kalman.theta_at(t), sigma, doubt) {
                self.kalman.p.p00 += 100.0 * sigma * sigma;
                self.strips.clear();
                self.early = Vec::new();
                self.restart_block(t);
                return;
            }
        }
        self.block.own_strip = self.block.own_strip.min(u + v);
        if let Some(short) = self.short_of_floor(t, b, (u, v)) {
            return self.follow(t, short);
        }
        let wander = self.kalman.p.p11.max(0.0).sqrt() * b / 2.0 + (self.kalman.q * b * b * b / 3.0).sqrt();
        let measured = self.measure(t, b);
        if !self.tuning.is_plain && u + v < f64::INFINITY && self.is_bent(t, wander, &measured) {
            return self.straighten(t, b, (u, v), &measured);
        }
        let share = if self.tuning.is_plain { WANDER_SHARE_PLAIN } else { WANDER_SHARE };
        if measured.is_clean
            || wander >= share * measured.noise
            || b >= BLOCK_MAX_S
            || self.is_surprising(t, wander, &measured)
        {
            self.conclude(t, b, wander, &measured);
        }
    }

    /// Noise of the shortest strips: that of the purest points, or what was learned of two-sided noise.
    fn strip_sigma(&self) -> f64 {
        self.strips.two_sided().map_or(self.tuning.sigma, |noise| noise.sigma.max(self.tuning.sigma))
    }

    /// How much shorter the shortest path may be than the shortest strip seen, s: of n blocks whose excess has a density
    /// that rises from 0, the least exceeds it by about 1/√n of the usual one. An early block that is shorter than all
    /// before it is not clean because nothing is known below it. (A late one is bent.)
    /// Nothing once clean blocks confirmed the path.
    fn path_doubt(&self, shorter_by: f64) -> f64 {
        if self.tuning.is_plain || self.route.is_confirmed() {
            return 0.0;
        }
        let blocks = f64::from(self.blocks.max(1));
        self.usual_excess / blocks.sqrt() + RECORD_SHARE * shorter_by.max(0.0) / blocks
    }

    /// Waiting for purer points makes no sense when those that came exclude the state already.
    fn is_surprising(&self, t: RawTime, wander: f64, measured: &Measured) -> bool {
        let innovation = measured.middle - self.route.correction - self.kalman.theta_at(t);
        let p00 = self.kalman.covariance_after(self.kalman.since(t)).p00;
        let r = measured.variance(wander);
        !self.tuning.is_plain && innovation * innovation > 25.0 * (p00 + r)
    }

    /// A strip far shorter than the shortest, put together from points of different sub-blocks while none of them is
    /// short by itself: no path is that short, so ω changed within the block and bent it.
    fn is_bent(&self, t: RawTime, wander: f64, measured: &Measured) -> bool {
        let limit = self.route.shortest_at(t) - 6.0 * self.strip_sigma();
        let slack = 4.0 * wander + 2.0 * self.usual_excess;
        measured.strip < limit - slack && self.block.own_strip >= limit
    }

    /// Did a packet of the sub-block come short of its floor?
    fn short_of_floor(&mut self, t: RawTime, b: f64, (u, v): (f64, f64)) -> Option<Short> {
        let shortest = self.route.shortest_at(t);
        let is_path_shorter = self.route.is_confirmed() && u + v < shortest - 6.0 * self.tuning.sigma;
        if self.tuning.is_plain || self.strips.two_sided().is_some() || is_path_shorter {
            return None;
        }
        // Both were de-skewed to the beginning of the block.
        let theta = self.kalman.theta_at(t) - self.kalman.omega * b;
        let forward = 0.5 * shortest + self.route.correction - (u - theta);
        let back = 0.5 * shortest - self.route.correction - (v + theta);
        let p00 = self.kalman.covariance_after(self.kalman.since(t)).p00;
        self.floor.watch(t, forward, back, p00.max(0.0).sqrt(), FLOOR_DOUBT * self.usual_excess + GLITCH_MAX)
    }

    /// θ is where the packet says, or beyond; after a surprise it goes on as it moved, as far as anybody knows.
    fn follow(&mut self, t: RawTime, short: Short) {
        self.kalman.predict(t);
        if let Some(since) = short.since {
            let seconds = (to_f64(t.ns_since(since)) * 1e-9).max(self.sub_block);
            self.kalman.open(short.by, short.by / seconds);
            self.early = Vec::new();
        }
        let noise = self.tuning.sigma + SHORT_SHARE * short.by.abs();
        self.kalman.correct(-short.by, noise * noise);
        self.restart_block(t);
    }

    /// Of a bent block only the last sub-block counts, and ω may be wrong by what the strip is short.
    fn straighten(&mut self, t: RawTime, b: f64, (u, v): (f64, f64), measured: &Measured) {
        self.early = Vec::new();
        let shortest = self.route.shortest_at(t);
        let short = shortest - measured.strip;
        let middle = 0.5 * (u - v) + self.kalman.omega * b - self.route.correction;
        let noise = self.tuning.sigma + EXCESS_SHARE * (u + v - shortest).max(0.0);
        self.kalman.predict(t);
        self.kalman.p.p00 += short * short;
        self.kalman.doubt_rate(short / b);
        self.kalman.correct(middle - self.kalman.theta, noise * noise);
        self.restart_block(t);
    }

    fn restart_block(&mut self, t: RawTime) {
        self.block = Block::starting(t);
        self.kalman.rebase();
    }

    fn measure(&self, t: RawTime, b: f64) -> Measured {
        let sigma = self.tuning.sigma;
        let shortest = self.route.shortest_at(t);
        let is_glitch_known = self.tuning.is_precise && self.route.is_confirmed();
        let veto = Veto {
            least: shortest - 4.0 * sigma,
            glitch_floor: if is_glitch_known { shortest - GLITCH_MAX } else { shortest },
            company: COMPANY,
        };
        let (u, v) = purest(&self.block.upper, &self.block.lower, &veto);
        let (strip, skew) = (u + v, self.kalman.omega * b);
        let excess = (strip - shortest).max(0.0);
        let Block { middles, ordinary, exchanges, .. } = self.block;
        let two_sided = self.strips.two_sided();
        match two_sided {
            Some(noise) if ordinary > 0 && 2 * ordinary >= exchanges => {
                let n = f64::from(ordinary);
                Measured {
                    middle: middles / n + skew,
                    strip,
                    excess,
                    noise: noise.sigma / 2.0 / n.sqrt(),
                    is_clean: true,
                }
            }
            _ => {
                let share = self.excess_share * (excess + self.path_doubt(shortest - strip));
                // A short strip of stamps that err both ways is chance, and its midpoint errs as any other.
                let least = two_sided.map_or(sigma, |noise| sigma.max(noise.sigma / 2.0));
                let noise = (least * least + share * share).sqrt();
                Measured { middle: 0.5 * (u - v) + skew, strip, excess, noise, is_clean: excess <= 3.0 * sigma }
            }
        }
    }

    fn conclude(&mut self, t: RawTime, b: f64, wander: f64, measured: &Measured) {
        let sigma = self.strip_sigma();
        let delta = self.kalman.since(t);
        self.kalman.predict(t);
        // De-skewing with a wrong ω can only fake a shorter strip: what wander could have done is added.
        let candidate = measured.strip + if wander > 0.5 * sigma { wander } else { 0.0 };
        let is_shorter = candidate < self.route.shortest_at(t) - 6.0 * sigma;
        if is_shorter && self.tuning.is_precise {
            self.route.recall(measured.strip, sigma);
        }
        let r = measured.variance(wander);
        let innovation = measured.middle - self.route.correction - self.kalman.theta;
        let normalised = innovation * innovation / (self.kalman.p.p00 + r);
        // A block that surprises may be bent: it teaches nothing of the path.
        if normalised <= 16.0 || self.tuning.is_plain {
            self.route.measured(t, candidate, is_shorter, measured.excess <= 4.0 * sigma);
        }
        self.learn(innovation, self.kalman.p.p00 + r, measured.is_clean);
        let r = if self.is_outlier(innovation, normalised) {
            // It counts for as much as the last one that would not have surprised.
            (innovation * innovation / 25.0 - self.kalman.p.p00).max(r)
        } else {
            r
        };
        if normalised > 25.0 && self.outlier == 0.0 {
            // A block errs by at most half its excess, so it is the state that is wrong: open the filter.
            let rate = innovation / delta.max(b);
            self.kalman.p.p00 += innovation * innovation;
            self.kalman.doubt_rate(rate / 2.0);
        }
        self.kalman.correct(innovation, r);
        if !self.tuning.is_plain {
            self.route.concluded(t, measured.strip);
        }
        self.blocks = self.blocks.saturating_add(1);
        self.usual_excess += 0.1 * (measured.excess - self.usual_excess);
        self.clean = self.clean.saturating_add(u32::from(measured.is_clean));
        self.restart_block(t);
    }

    /// Two-sided noise has tails, and one exchange in them says nothing of the clock; the next one on the same side does.
    /// (A block of minima errs by at most half its excess: there a surprise is the state's.)
    fn is_outlier(&mut self, innovation: f64, normalised: f64) -> bool {
        let is_surprising = normalised > 25.0 && normalised <= OUTLIER_MAX;
        let is_alone = self.outlier * innovation <= 0.0;
        let is_outlier = is_surprising && is_alone && self.strips.two_sided().is_some();
        self.outlier = if is_outlier { innovation } else { 0.0 };
        is_outlier
    }

    /// Learns from how surprising a block was: how much of its excess is noise, and how restless the oscillator is.
    fn learn(&mut self, innovation: f64, variance: f64, is_clean: bool) {
        let normalised = (innovation * innovation / variance).min(9.0);
        let nu = (innovation / variance.sqrt()).clamp(-2.0, 2.0);
        self.correlation += 0.05 * (nu * self.last_nu - self.correlation);
        self.last_nu = nu;
        let Tuning { is_plain, is_precise, .. } = self.tuning;
        self.clean_share += 0.05 * (f64::from(u8::from(is_clean)) - self.clean_share);
        let has_clean_blocks = is_precise && (is_plain || self.clean_share > CLEAN_SHARE);
        if has_clean_blocks && !is_clean {
            return;
        }
        if !is_plain && !is_clean {
            let growth = 1.0 + 0.02 * (normalised - 1.0).min(4.0);
            self.excess_share = (self.excess_share * growth).clamp(EXCESS_SHARE, EXCESS_SHARE_MAX);
        }
        self.surprise += 0.1 * (normalised - self.surprise);
        if is_plain || (has_clean_blocks && self.strips.two_sided().is_none()) {
            self.adapt_by_surprise(is_clean);
        } else {
            self.adapt_by_colour();
        }
    }

    /// With good stamps clean blocks tell the oscillator from the queues: their normalised innovations should be 1.
    fn adapt_by_surprise(&mut self, is_clean: bool) {
        if is_clean && self.surprise > SURPRISE_MAX {
            self.scale_walk(2.0);
            self.surprise = SURPRISE_RESET;
        } else if is_clean && self.surprise < 0.7 {
            self.scale_walk(0.95);
        }
    }

    /// Where queues dominate, surprise says little of q. But the innovations of the right filter are white: what is left
    /// in them of the one before tells in which direction q is wrong. Two-sided noise is measured, so nothing but the
    /// oscillator is left to be learned, and that slowly.
    fn adapt_by_colour(&mut self) {
        let (doubling, growth) = if self.strips.two_sided().is_some() { (1.2, 1.02) } else { (2.0, 1.1) };
        if self.surprise > SURPRISE_MAX {
            self.scale_walk(doubling);
            self.surprise = SURPRISE_RESET;
        } else if self.correlation > 0.2 {
            self.scale_walk(growth);
        } else if self.correlation < 0.05 {
            self.scale_walk(0.95);
        }
    }

    fn scale_walk(&mut self, factor: f64) {
        self.kalman.q = (self.kalman.q * factor).clamp(self.tuning.walk_min, WALK_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::noise::Noise;

    /// How many exchanges are kept after so many at one a second, and at most meanwhile.
    fn kept(count: i64, delay_ns: impl Fn(&mut Noise) -> f64) -> (usize, usize) {
        let (mut noise, mut filter, mut most, mut now) = (Noise::new(1), Adaptive::new(None), 0, 0);
        for k in 0..count {
            let t = RawTime::from_ns(k * 1_000_000_000);
            let mut delay = || crate::units::to_i64(delay_ns(&mut noise));
            let (upper_ns, lower_ns) = (delay(), -delay());
            filter.insert(&Exchange { t1: t, t4: t, upper_ns, lower_ns, stamp_ns: 0, pair: None });
            filter.settle(t);
            if let Stage::Running(running) = &filter.stage {
                now = running.early.len();
                most = most.max(now);
            }
        }
        (now, most)
    }

    /// Once, an exchange of two early stamps passed for one that met no queue, and moved the clock by its whole error.
    #[test]
    fn a_short_strip_of_stamps_that_err_both_ways_is_no_better_than_others() {
        let (mut noise, mut filter) = (Noise::new(2), Adaptive::new(None));
        let mut told = |k: i64, there_ns: i64, back_ns: i64| {
            let t = RawTime::from_ns(k * 1_000_000_000);
            filter.insert(&Exchange { t1: t, t4: t, upper_ns: there_ns, lower_ns: -back_ns, stamp_ns: 0, pair: None });
            filter.settle(t);
            filter.kalman().map_or(0, |kalman| kalman.theta_ns_at(t))
        };
        let mut before_ns = 0;
        for k in 0..1_000 {
            let mut delay_ns = || crate::units::to_i64(2_000.0 + 100.0 * noise.normal());
            let (there_ns, back_ns) = (delay_ns(), delay_ns());
            before_ns = told(k, there_ns, back_ns);
        }
        // 4.2 σ shorter together, and 200 ns from the middle.
        let moved_ns = told(1_000, 1_500, 1_900) - before_ns;
        assert!((-60..0).contains(&moved_ns), "{moved_ns} ns");
    }

    #[test]
    fn exchanges_are_kept_for_a_line_and_no_longer() {
        for (of, (now, most)) in [
            ("queues", kept(2_000, |noise| 100_000.0 + 30_000.0 * noise.exponential())),
            ("stamps", kept(2_000, |noise| 2_000.0 + 100.0 * noise.normal())),
        ] {
            assert!(now == 0 && (START_EXCHANGES..=4 * LINE_MAX).contains(&most), "{of}: {now}, {most} at most");
        }
    }
}
