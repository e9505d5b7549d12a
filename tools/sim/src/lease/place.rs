//! The world that leases live in: every clock as wrong as its assumptions allow, differently on different hosts, and
//! whatever can befall a host within them.
//!
//! Two roots stand at the two ends of their claim, or move from one end to the other as fast as they like. A host follows
//! one of them over a path with all its delay in one direction, so true time is near one edge of its bound, on another
//! host near the other. Some hosts never reach their root, so all they know of their rate is ±Ω, and their crystal is
//! there. A rival slews CLOCK_REALTIME and CLOCK_MONOTONIC by up to 20 % and steps CLOCK_REALTIME.

use truebound_core::settings::Settings;

use crate::link::LinkSpec;
use crate::nic::NicSpec;
use crate::oscillator::{OscillatorSpec, Preset};
use crate::rng::Rng;
use crate::world::{Action, HostSpec, NS_PER_S, Pages, Shift, US, World, following, root, source};

/// Hosts without leases, which are the first.
pub(super) const ROOTS: usize = 2;
/// Hosts that grant and hold.
pub(super) const NODES: usize = 5;
/// Within this nothing is done again to the same CLOCK_REALTIME, s: longer than a packet is under way.
const CALM_S: f64 = 3.0;
/// Disruptions of one host come this far apart on average, s.
const QUIET_S: f64 = 12.0;

/// The world of `seed`, with everything scheduled that befalls it from `settled_s` on within `duration_s`.
pub(super) fn place(seed: u64, settled_s: f64, duration_s: f64) -> World {
    let rng = Rng::new(seed).fork(0x6c65_6173_6573);
    let mut draw = Draw { rng, world: World::new(seed), settled_s, duration_s };
    draw.world.read_every_ns = 10 * NS_PER_S;
    draw.world.sample_every_ns = i64::MAX / 4;
    draw.add_roots();
    for node in ROOTS..ROOTS + NODES {
        draw.add_node(node);
        draw.befall(node);
    }
    draw.world
}

struct Draw {
    rng: Rng,
    world: World,
    settled_s: f64,
    duration_s: f64,
}

impl Draw {
    /// One ahead, one behind.
    fn add_roots(&mut self) {
        for sign in [1.0, -1.0] {
            let error_ns = *self.pick(&[500, 5 * US, 50 * US, 1_000 * US]);
            let ramps = self.rng.chance(0.4);
            // From one end of the claim to the other: then the proved rate, too, is off by all that is allowed.
            let lean = if ramps { -0.98 } else { 0.98 * sign };
            let spec = HostSpec { realtime_error_ns: (lean * error_ns as f64) as i64, ..HostSpec::ROOT };
            let host = self.world.add(spec, root(0, error_ns));
            if ramps {
                let ramp_limit_us = 1.96e-3 * error_ns as f64;
                let shift = Shift { ramp_ppm: self.rng.uniform(0.1, 100.0), ramp_limit_us, ..Shift::default() };
                self.act(0.0, host, Action::Tell(shift));
            }
        }
    }

    fn add_node(&mut self, node: usize) {
        let preset = *self.pick(&[Preset::Xo, Preset::Xo, Preset::Tcxo, Preset::Perfect]);
        let class = preset.class();
        let is_ahead = self.rng.chance(0.5);
        let sign = if is_ahead { 1.0 } else { -1.0 };
        let ppm = sign * *self.pick(&[998.0, 998.0, 300.0, 23.0]);
        let period_s = self.rng.uniform(2.0, 500.0);
        let oscillator = OscillatorSpec {
            ppm,
            triangle_per_s: class.wander_per_s,
            triangle_period_s: period_s,
            white_fm: class.phase_noise_s / 8.0,
            class: Some(class),
            ..preset.spec()
        };
        let spec = HostSpec {
            oscillator,
            realtime_error_ns: self.rng.between(-NS_PER_S, NS_PER_S),
            nic: NicSpec::PROMPT,
            cpu_skew_ns: 0,
            ..HostSpec::CLIENT
        };
        // Mostly the root that errs to the same side as the path does.
        let server = usize::from(is_ahead == self.rng.chance(0.15));
        let mut upstream = source(server);
        upstream.poll_min_ns = Some(*self.pick(&[NS_PER_S / 4, NS_PER_S, 4 * NS_PER_S]));
        let settings = Settings { oscillator: class, stamp_error_ns: spec.nic.error_ns(), ..following(&[upstream]) };
        let added = self.world.add(spec, settings);
        debug_assert_eq!(added, node);
        self.world.hosts[node].pages = Some(Pages::default());
        self.connect(node, server, is_ahead);
    }

    /// All the delay in one direction.
    fn connect(&mut self, node: usize, server: usize, is_ahead: bool) {
        let long = LinkSpec { base_us: *self.pick(&[5.0, 60.0, 400.0]), ..LinkSpec::default() };
        let short = LinkSpec { base_us: 0.2, ..LinkSpec::default() };
        let (there, back) = if is_ahead { (&long, &short) } else { (&short, &long) };
        self.world.connect(node, server, there, back);
        let is_alone = self.rng.chance(0.15);
        if is_alone {
            self.act(0.0, node, Action::Cut);
        }
    }

    fn befall(&mut self, node: usize) {
        if self.rng.chance(0.6) {
            self.rival(node);
        }
        let mut is_replaced = false;
        let mut at_s = self.settled_s + self.rng.exponential() * QUIET_S;
        while at_s < self.duration_s {
            let action = if self.rng.chance(0.03) && !is_replaced {
                // Once: nobody could tell the second change from none.
                is_replaced = true;
                Action::Clocksource { ppm: *self.pick(&[-998.0, 50.0, 998.0]) }
            } else {
                self.disruption()
            };
            let is_cut = action == Action::Cut;
            self.act(at_s, node, action);
            if is_cut {
                at_s += self.rng.uniform(0.5, 20.0);
                self.act(at_s, node, Action::Heal);
            }
            at_s += self.rng.exponential() * QUIET_S;
        }
    }

    fn disruption(&mut self) -> Action {
        match self.rng.below(7) {
            0 | 1 => Action::Suspend {
                s: *self.pick(&[0.01, 0.1, 1.0, 5.0]) * self.rng.uniform(0.5, 1.5),
                reader_first_ms: *self.pick(&[0.0, 5.0, 500.0]),
            },
            2 | 3 => Action::Pause { s: self.rng.uniform(0.01, 3.0), raw_stops: false },
            4 => Action::Reboot { off_s: self.rng.uniform(0.5, 5.0) },
            5 => Action::Restart { keeps_page: true },
            _ => Action::Cut,
        }
    }

    /// Somebody else may set this host's clocks.
    fn rival(&mut self, node: usize) {
        let mut at_s = CALM_S;
        while at_s < self.duration_s {
            let action = match self.rng.chance(0.5) {
                true => Action::StepRealtime { ms: self.rng.uniform(-3000.0, 3000.0), noticed: self.rng.chance(0.9) },
                false => Action::SlewRealtime { ppm: *self.pick(&[0.0, 500.0, 200_000.0, -200_000.0]) },
            };
            self.act(at_s, node, action);
            at_s += CALM_S + self.rng.exponential() * CALM_S;
        }
    }

    fn act(&mut self, at_s: f64, host: usize, action: Action) {
        let at = self.world.start() + (at_s * NS_PER_S as f64) as i64;
        self.world.act_at(at, host, action);
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.rng.below(of.len())]
    }
}
