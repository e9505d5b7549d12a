//! Raw time as a function of true time: what A1 of BOUND §1 speaks of.
//!
//! The function is piecewise quadratic, generated as it is asked for. Over a piece of length δ the frequency y goes
//! linearly from one value to the next, so y′ is what the piece says it is; white frequency noise is a random walk of
//! phase, one step σ√δ a piece, drawn as a constant rate over it. Within its class
//!
//! ```text
//! |y′| ≤ 0.995·A      |y − y(boot)| ≤ 0.495·D      σ ≤ J/8      |y| ≤ 999 ppm
//! ```
//! hold exactly for the first two and the last (θ is a function of raw time: at 1000 ppm its derivatives are 0.3 % and
//! 0.2 % larger than those of y, hence the margins; D bounds the distance of *any* two instants of a boot, hence the
//! half), and the noise stays within J√Δ but for eight standard deviations. The sine is made of parabola
//! arcs: within 0.11 % of a true one, its slope at most 6.3·amplitude/period, where a true sine has 2π.

use std::cell::Cell;
use std::collections::VecDeque;

use serde::Deserialize;
use truebound_core::settings::Oscillator as Class;

use crate::rng::Rng;

/// Length of a piece of a restless oscillator, ns: 67 ms.
const PIECE_NS: i64 = 1 << 26;
/// Length of a piece of one that never changes, ns.
const CONSTANT_PIECE_NS: i64 = 1 << 34;
/// How far back questions may go, ns.
const MEMORY_NS: i64 = 8_000_000_000;
/// Shares of A and D that are used.
const WANDER_SHARE: f64 = 0.995;
const SPREAD_SHARE: f64 = 0.495;
/// The largest |y|.
const FASTEST: f64 = 999e-6;

/// What an oscillator does. Frequencies are of raw time against true time: positive runs fast.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OscillatorSpec {
    /// Frequency error at the start, ppm.
    pub ppm: f64,
    /// White frequency noise, s per √s.
    pub white_fm: f64,
    /// Random walk of frequency, 1/√s: 1e-9 is 1 ppb.
    pub random_walk: f64,
    /// Temperature: amplitude of a sinusoid, ppm.
    pub sine_ppm: f64,
    /// Its period, s.
    pub sine_period_s: f64,
    /// A triangle wave that changes frequency by this much per second all the time, 1/s.
    pub triangle_per_s: f64,
    /// Its period, s.
    pub triangle_period_s: f64,
    /// Ageing, 1/s.
    pub ageing_per_s: f64,
    /// Changes of frequency.
    pub steps: Vec<FrequencyStep>,
    /// It stays within these limits, whatever the rest says.
    #[serde(skip)]
    pub class: Option<Class>,
}

/// The frequency moves to another value.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FrequencyStep {
    /// When, s after the oscillator began.
    pub at_s: f64,
    /// By how much, ppm.
    pub ppm: f64,
    /// With this time constant, s; 0: at once.
    #[serde(default)]
    pub tau_s: f64,
}

/// Oscillators by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Raw time is true time plus a constant.
    Perfect,
    /// A crystal in a server.
    #[default]
    Xo,
    /// A good one at a constant temperature.
    Good,
    /// One that meets two changes of temperature.
    Therm,
    /// Temperature-compensated.
    Tcxo,
    /// Oven-controlled.
    Ocxo,
}

impl Preset {
    /// What it does, within its class.
    #[must_use]
    pub fn spec(self) -> OscillatorSpec {
        let class = Some(self.class());
        let of = |white_fm, random_walk, sine_ppm, sine_period_s| OscillatorSpec {
            white_fm,
            random_walk,
            sine_ppm,
            sine_period_s,
            class,
            ..OscillatorSpec::CONSTANT
        };
        match self {
            Preset::Perfect => OscillatorSpec::CONSTANT,
            Preset::Xo => of(1e-9, 1e-9, 0.1, 1200.0),
            Preset::Good => of(1e-9, 8.7e-12, 0.002, 1257.0),
            Preset::Therm => OscillatorSpec {
                steps: vec![
                    FrequencyStep { at_s: 150.0, ppm: 0.5, tau_s: 60.0 },
                    FrequencyStep { at_s: 350.0, ppm: -0.8, tau_s: 30.0 },
                ],
                ..of(1e-9, 1e-10, 0.01, 1200.0)
            },
            Preset::Tcxo => OscillatorSpec { ageing_per_s: 1e-13, ..of(3e-10, 1e-11, 0.05, 1200.0) },
            Preset::Ocxo => OscillatorSpec { ageing_per_s: 1e-15, ..of(1e-11, 1e-13, 0.001, 3600.0) },
        }
    }

    /// The class that an operator states for it.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Preset::Perfect | Preset::Xo | Preset::Good | Preset::Therm => Class::XO,
            Preset::Tcxo => Class::TCXO,
            Preset::Ocxo => Class::OCXO,
        }
    }
}

impl OscillatorSpec {
    /// Runs true for ever.
    pub const CONSTANT: OscillatorSpec = OscillatorSpec::ppm(0.0);

    /// A constant frequency error.
    #[must_use]
    pub const fn ppm(ppm: f64) -> Self {
        OscillatorSpec {
            ppm,
            white_fm: 0.0,
            random_walk: 0.0,
            sine_ppm: 0.0,
            sine_period_s: 0.0,
            triangle_per_s: 0.0,
            triangle_period_s: 0.0,
            ageing_per_s: 0.0,
            steps: Vec::new(),
            class: None,
        }
    }

    fn is_constant(&self) -> bool {
        self.steps.is_empty()
            && [self.white_fm, self.random_walk, self.sine_ppm, self.triangle_per_s, self.ageing_per_s] == [0.0; 5]
    }
}

/// raw(start + τ) = raw + τ + ⌊rest + τ·(rate + half_slope·τ)⌋.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: i64,
    raw: i64,
    rest: f64,
    /// y and the white noise, ns per ns.
    rate: f64,
    /// ½y′, per ns.
    half_slope: f64,
    /// y at the start, without the noise.
    y: f64,
}

impl Piece {
    fn parts(&self, t: i64) -> (i64, f64) {
        let dt = t - self.start;
        let tau = dt as f64;
        let deviation = self.rest + tau * (self.rate + self.half_slope * tau);
        let whole = deviation.floor();
        (self.raw + dt + whole as i64, deviation - whole)
    }

    fn at(&self, t: i64) -> i64 {
        self.parts(t).0
    }
}

/// One oscillator.
#[derive(Clone, Debug)]
pub struct Oscillator {
    pieces: VecDeque<Piece>,
    /// Where [`Oscillator::piece`] found the last one.
    found: Cell<usize>,
    /// Where the last piece ends: true time, raw time and its fraction.
    end: i64,
    end_raw: i64,
    end_rest: f64,
    state: State,
}

/// What generates the pieces.
#[derive(Clone, Debug)]
struct State {
    spec: OscillatorSpec,
    rng: Rng,
    began: i64,
    boot_y: f64,
    y: f64,
    walk: f64,
    /// How much of each step is done, ppm.
    done_ppm: Vec<f64>,
    sine_phase: f64,
    triangle_phase: f64,
}

impl Oscillator {
    /// An oscillator that shows `raw_at_start` at true time `start`.
    #[must_use]
    pub fn new(spec: &OscillatorSpec, start: i64, raw_at_start: i64, rng: Rng) -> Self {
        let state = State::new(spec, start, rng);
        let (pieces, found) = (VecDeque::new(), Cell::new(0));
        let mut oscillator = Oscillator { pieces, found, end: start, end_raw: raw_at_start, end_rest: 0.0, state };
        oscillator.grow();
        oscillator
    }

    /// Raw time at true time `t`, truncated to ns.
    pub fn at(&mut self, t: i64) -> i64 {
        self.ensure(t);
        self.known(t)
    }

    /// The same without generating anything: beyond what was asked for before, the last piece goes on.
    #[must_use]
    pub fn known(&self, t: i64) -> i64 {
        self.piece(t).at(t)
    }

    /// dθ/dT at true time `t`, without the white noise: −y/(1 + y).
    pub fn omega(&mut self, t: i64) -> f64 {
        self.ensure(t);
        let piece = self.piece(t);
        let y = piece.y + 2.0 * piece.half_slope * (t - piece.start) as f64;
        -y / (1.0 + y)
    }

    /// The first true instant that shows `raw_ns`.
    pub fn when(&mut self, raw_ns: i64) -> i64 {
        while self.end_raw <= raw_ns {
            self.grow();
        }
        let index = self.pieces.partition_point(|piece| piece.raw < raw_ns).saturating_sub(1);
        let piece = self.pieces[index];
        let mut t = piece.start + (raw_ns - piece.raw).max(0);
        for _ in 0..4 {
            t += raw_ns - self.known(t);
        }
        while self.known(t) < raw_ns {
            t += 1;
        }
        while t > piece.start && self.known(t - 1) >= raw_ns {
            t -= 1;
        }
        t
    }

    /// From `t` on another crystal, which goes on where this one is.
    pub fn replace(&mut self, t: i64, spec: &OscillatorSpec) {
        self.cut(t);
        let rng = self.state.rng.fork(0x006e_6577);
        self.state = State::new(spec, t, rng);
    }

    /// At `t` the frequency changes at once, whatever the class allows; from then on the class is kept again.
    pub fn step_frequency(&mut self, t: i64, by: f64) {
        self.cut(t);
        self.state.spec.ppm += by * 1e6;
        self.state.boot_y += by;
        self.state.y += by;
    }

    /// From `t` on raw time stands still for `ns`.
    pub fn hold(&mut self, t: i64, ns: i64) {
        self.cut(t);
        let (raw, rest, y) = (self.end_raw, self.end_rest, self.state.y);
        self.pieces.push_back(Piece { start: t, raw, rest, rate: -1.0, half_slope: 0.0, y });
        self.end = t + ns;
    }

    /// At `t` raw time jumps forward by `ns`.
    pub fn jump(&mut self, t: i64, ns: i64) {
        self.cut(t);
        self.end_raw += ns.max(0);
    }

    /// The piece that `t` lies in, looked for from where the last one was found: questions come nearly in order.
    fn piece(&self, t: i64) -> &Piece {
        let mut index = self.found.get().min(self.pieces.len() - 1);
        while index > 0 && self.pieces[index].start > t {
            index -= 1;
        }
        while self.pieces.get(index + 1).is_some_and(|piece| piece.start <= t) {
            index += 1;
        }
        self.found.set(index);
        &self.pieces[index]
    }

    fn ensure(&mut self, t: i64) {
        while self.end <= t {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let length = if self.state.spec.is_constant() { CONSTANT_PIECE_NS } else { PIECE_NS };
        let (start, raw, rest, y) = (self.end, self.end_raw, self.end_rest, self.state.y);
        let (y_end, noise) = self.state.next(start + length, length);
        let half_slope = (y_end - y) / (2.0 * length as f64);
        let piece = Piece { start, raw, rest, rate: y + noise, half_slope, y };
        self.end = start + length;
        (self.end_raw, self.end_rest) = piece.parts(self.end);
        self.pieces.push_back(piece);
        while self.pieces.len() > 2 && self.pieces[1].start < start - MEMORY_NS {
            self.pieces.pop_front();
        }
    }

    /// Forgets what was generated beyond `t`.
    fn cut(&mut self, t: i64) {
        self.ensure(t);
        while self.pieces.len() > 1 && self.pieces.back().is_some_and(|piece| piece.start > t) {
            self.pieces.pop_back();
        }
        let piece = *self.piece(t);
        self.state.y = piece.y + 2.0 * piece.half_slope * (t - piece.start) as f64;
        self.end = t;
        (self.end_raw, self.end_rest) = piece.parts(t);
    }
}

impl State {
    fn new(spec: &OscillatorSpec, began: i64, mut rng: Rng) -> Self {
        let boot_y = (spec.ppm * 1e-6).clamp(-FASTEST, FASTEST);
        let (sine_phase, triangle_phase) = (rng.unit(), rng.unit());
        let done_ppm = vec![0.0; spec.steps.len()];
        State { spec: spec.clone(), rng, began, boot_y, y: boot_y, walk: 0.0, done_ppm, sine_phase, triangle_phase }
    }

    /// y at the end of a piece that ends at `t`, and the rate that white noise adds over it.
    fn next(&mut self, t: i64, length: i64) -> (f64, f64) {
        if self.spec.is_constant() {
            return (self.y, 0.0);
        }
        let seconds = length as f64 * 1e-9;
        let root = seconds.sqrt();
        if self.spec.random_walk > 0.0 {
            self.walk += self.spec.random_walk * root * self.normal();
        }
        let mut y = self.wished((t - self.began) as f64 * 1e-9, seconds).clamp(-FASTEST, FASTEST);
        let mut white = self.spec.white_fm;
        if let Some(class) = self.spec.class {
            let (change, spread) =
                (WANDER_SHARE * class.wander_per_s * seconds, SPREAD_SHARE * class.freq_spread.as_fraction());
            y = y.clamp(self.y - change, self.y + change).clamp(self.boot_y - spread, self.boot_y + spread);
            white = white.min(class.phase_noise_s / 8.0);
        }
        self.y = y;
        let noise = if white > 0.0 { white * root * self.normal() / seconds } else { 0.0 };
        (y, noise)
    }

    /// The frequency that the specification asks for, `s` after the beginning.
    fn wished(&mut self, s: f64, seconds: f64) -> f64 {
        let spec = &self.spec;
        let mut ppm = spec.ppm;
        for (step, done) in spec.steps.iter().zip(&mut self.done_ppm) {
            if s > step.at_s {
                // e′ = (1 − e)/τ, one implicit step.
                let ratio = if step.tau_s > 0.0 { seconds / step.tau_s } else { f64::MAX };
                *done += (step.ppm - *done) * (ratio / (1.0 + ratio));
            }
            ppm += *done;
        }
        if spec.sine_period_s > 0.0 {
            ppm += spec.sine_ppm * (sine(self.sine_phase + s / spec.sine_period_s) - sine(self.sine_phase));
        }
        let mut y = ppm * 1e-6 + self.walk + spec.ageing_per_s * s;
        if spec.triangle_period_s > 0.0 {
            let swing = spec.triangle_per_s * spec.triangle_period_s / 4.0;
            y += swing * triangle(self.triangle_phase + s / spec.triangle_period_s);
        }
        y
    }

    /// Normal, at most five standard deviations.
    fn normal(&mut self) -> f64 {
        self.rng.normal().clamp(-5.0, 5.0)
    }
}

/// sin(2π·phase) within 0.0011: two parabola arcs a period, p, mixed with p·|p| in the shares that fit best. Its slope
/// is at most 6.3 a period.
fn sine(phase: f64) -> f64 {
    let v = phase - phase.floor();
    let p = if v < 0.5 { 16.0 * v * (0.5 - v) } else { -16.0 * (v - 0.5) * (1.0 - v) };
    p * (0.775 + 0.225 * p.abs())
}

/// From −1 to 1 and back.
fn triangle(phase: f64) -> f64 {
    let v = phase - phase.floor();
    if v < 0.5 { 4.0 * v - 1.0 } else { 3.0 - 4.0 * v }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn oscillator(spec: &OscillatorSpec, seed: u64) -> Oscillator {
        Oscillator::new(spec, 1_000 * S, 77 * S, Rng::new(seed))
    }

    #[test]
    fn a_constant_one_is_exact() {
        let mut fast = oscillator(&OscillatorSpec::ppm(100.0), 1);
        assert_eq!(fast.at(1_000 * S), 77 * S);
        let after = fast.at(1_100 * S) - 177 * S;
        assert!((after - 10_000_000).abs() <= 1, "{after}");
    }

    #[test]
    fn raw_time_never_goes_back_and_when_inverts_it() {
        for (seed, preset) in (1..).zip([Preset::Xo, Preset::Therm, Preset::Ocxo, Preset::Perfect]) {
            let spec = OscillatorSpec { ppm: -900.0, ..preset.spec() };
            let (mut clock, mut rng) = (oscillator(&spec, seed), Rng::new(seed));
            let (mut t, mut last) = (1_000 * S, 0);
            while t < 1_600 * S {
                let raw = clock.at(t);
                assert!(raw >= last && clock.at(t - 1) <= raw, "seed {seed} at {t}");
                last = raw;
                let ahead = raw + rng.between(0, S);
                let when = clock.when(ahead);
                assert!(clock.at(when) >= ahead && clock.at(when - 1) < ahead, "seed {seed}: {ahead} at {when}");
                t += rng.between(1, S / 10);
            }
        }
    }

    /// Second differences of raw time over 1 s show y′, and over steps of 1 s the noise.
    #[test]
    fn presets_stay_within_their_class() {
        for seed in 1..=5 {
            for preset in [Preset::Xo, Preset::Good, Preset::Therm, Preset::Tcxo, Preset::Ocxo] {
                let (spec, class) = (preset.spec(), preset.class());
                // Restless beyond measure: the clamp must hold.
                let wild = OscillatorSpec { random_walk: 1e-6, sine_ppm: 40.0, sine_period_s: 60.0, ..spec.clone() };
                for spec in [spec, wild] {
                    let mut clock = oscillator(&spec, seed);
                    let omega: Vec<f64> = (0..600).map(|k| clock.omega(1_000 * S + k * S)).collect();
                    let spread = class.freq_spread.as_fraction();
                    assert!(omega.windows(2).all(|w| (w[1] - w[0]).abs() <= class.wander_per_s));
                    let (low, high) = omega.iter().fold((1.0f64, -1.0f64), |(l, h), w| (l.min(*w), h.max(*w)));
                    assert!(high - low <= spread, "seed {seed} {preset:?}: {low} {high}");
                }
            }
        }
    }

    #[test]
    fn a_hold_stands_still_and_a_jump_jumps() {
        let mut clock = oscillator(&Preset::Xo.spec(), 3);
        let before = clock.at(1_010 * S);
        clock.hold(1_010 * S, 30 * S);
        assert_eq!((clock.at(1_025 * S), clock.at(1_040 * S)), (before, before));
        let later = clock.when(before + S);
        assert!((1_041 * S - later).abs() < S / 1000, "{later}");
        let before = clock.at(1_050 * S - 1);
        clock.jump(1_050 * S, 500);
        assert!((clock.at(1_050 * S) - before - 501).abs() <= 1);
    }

    #[test]
    fn a_step_of_frequency_is_there_at_once() {
        let mut clock = oscillator(&Preset::Xo.spec(), 4);
        let before = clock.omega(1_010 * S);
        clock.at(1_020 * S);
        clock.step_frequency(1_010 * S, 20e-6);
        assert!((before - clock.omega(1_010 * S + 1) - 20e-6).abs() < 1e-8);
    }
}
