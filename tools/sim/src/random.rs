//! A world drawn from a seed, everything in it at random but within the assumptions: then no page may ever be wrong.
//!
//! Roots know their time within a claim, lean anywhere inside it and move inside it; some of them lie. Relays follow roots
//! and serve; clients follow both. Whoever follows f liars follows at least 2f + 1 roots, so liars never outvote the
//! truth, however the groups are counted. Oscillators stay within the class that their agent is told. Another daemon
//! steps and slews CLOCK_REALTIME, but not there and back within one exchange, which is outside A3. What happens on
//! roots leaves their CLOCK_REALTIME right, for that is what they take for the truth when they start.

use truebound_core::leap::LeapTable;
use truebound_core::settings::{Discipline, LeapPolicy, RivalPolicy, Settings, SourceSettings, StepPolicy};
use truebound_core::units::FreqError;

use crate::link::{Bursts, Exponential, LinkSpec, Md1, Mixture, Pareto, Queue, Standing};
use crate::nic::{Hardware, NicSpec, Software, Stamps};
use crate::oscillator::{OscillatorSpec, Preset};
use crate::rng::Rng;
use crate::scenario::{Outcome, outcome_of};
use crate::world::{Action, Change, HostSpec, NS_PER_S, Shift, TODAY_UNIX_S, US, World, basis, root, serving, source};

/// Share of clients that send 64 requests a second and more.
const FAST_CLIENTS: f64 = 0.37;
/// Whoever does something to CLOCK_REALTIME or to a path does the next thing later than this, s: longer than a packet
/// is under way.
const CALM_S: f64 = 3.0;

/// See the module's page.
pub struct RandomWorld {
    /// The world, at its start.
    pub world: World,
    /// How long it lasts, ns.
    pub duration_ns: i64,
    /// Its seed.
    pub seed: u64,
}

impl RandomWorld {
    /// The world of `seed`, long enough for about `node_seconds` of all hosts together.
    #[must_use]
    pub fn new(seed: u64, node_seconds: f64) -> Self {
        let mut draw = Draw::new(seed, node_seconds);
        draw.add_roots();
        draw.add_followers();
        draw.add_events();
        RandomWorld { duration_ns: (draw.duration_s * NS_PER_S as f64) as i64, world: draw.world, seed }
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.world.run(self.duration_ns);
        outcome_of(&self.world, self.seed, &[])
    }
}

/// A host as the others need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Root { may_move_ns: i64 },
    Liar,
    Relay,
    Client,
}

struct Draw {
    rng: Rng,
    world: World,
    roles: Vec<Role>,
    duration_s: f64,
    roots: usize,
    relays: usize,
    clients: usize,
    leap: Option<LeapTable>,
    leap_s: i64,
}

impl Draw {
    fn new(seed: u64, node_seconds: f64) -> Self {
        let mut rng = Rng::new(seed).fork(0x7261_6e64_6f6d);
        let roots = 1 + rng.below(5);
        let relays = rng.below(7 - roots).min(2);
        let clients = 1 + rng.below(4);
        let duration_s = node_seconds / (roots + relays + clients) as f64;
        let leap_s = (duration_s * rng.uniform(0.2, 0.8)) as i64;
        let leap = rng.chance(0.1).then(|| {
            let at = TODAY_UNIX_S + 2_208_988_800 + leap_s;
            LeapTable::parse(&format!("#@ 6311433600\n3692217600 37\n{at} 38\n")).expect("a list of leap seconds")
        });
        let world = World::new(seed);
        Draw { rng, world, roles: Vec::new(), duration_s, roots, relays, clients, leap, leap_s }
    }

    // ---- hosts ----------------------------------------------------------------------------------------------------

    fn add_roots(&mut self) {
        let liars = if self.rng.chance(0.6) { self.rng.below((self.roots - 1) / 2 + 1) } else { 0 };
        for index in 0..self.roots {
            let error_ns = *self.pick(&[300, 1_000, 5_000, 20_000, 100_000, 1_000_000, 5_000_000]);
            // Some stand still at the very end of their claim.
            let is_extreme = self.rng.chance(0.3);
            let lean = if is_extreme { *self.pick(&[-0.99, 0.99]) } else { self.rng.uniform(-0.3, 0.3) };
            let spec = HostSpec {
                realtime_error_ns: (error_ns as f64 * lean) as i64,
                is_checked: true,
                ..self.machine(OscillatorSpec::CONSTANT)
            };
            let settings = Settings { stamp_error_ns: spec.nic.error_ns(), ..self.with_leap(root(0, error_ns)) };
            let host = self.world.add(spec, settings);
            let is_liar = index < liars;
            let may_move_ns = if is_extreme { 0 } else { error_ns };
            self.roles.push(if is_liar { Role::Liar } else { Role::Root { may_move_ns } });
            let shift = if is_liar { self.lie() } else { self.movement(may_move_ns) };
            let from_s = *self.pick(&[0.0, 0.0, 0.3, 0.6]) * self.duration_s;
            self.act(from_s, host, Action::Tell(shift));
        }
    }

    fn add_followers(&mut self) {
        for index in 0..self.relays + self.clients {
            let is_relay = index < self.relays;
            let sources = self.sources(is_relay);
            let (oscillator, class) = self.oscillator();
            let spec = HostSpec {
                realtime_error_ns: self.rng.between(-NS_PER_S, NS_PER_S),
                realtime_ppb: self.rng.between(-100_000, 100_001) * i64::from(self.rng.chance(0.5)),
                cpu_skew_ns: self.rng.between(0, 51),
                is_checked: true,
                ..self.machine(oscillator)
            };
            let mut settings = if is_relay { serving() } else { basis() };
            settings.oscillator = class.class();
            settings.stamp_error_ns = spec.nic.error_ns();
            settings.sources = sources;
            settings.bound.memory_ns = *self.pick(&[1024, 1024, 128, 16]) * NS_PER_S;
            settings.bound.max_holdover_ns = *self.pick(&[3600, 600, 30]) * NS_PER_S;
            if self.rng.chance(0.2) {
                settings.discipline = Discipline::Virtual { offset_ns: 0 };
            } else if self.rng.chance(0.4) {
                self.steer_realtime(&mut settings);
            }
            let settings = self.with_leap(settings);
            let host = self.world.add(spec, settings);
            self.roles.push(if is_relay { Role::Relay } else { Role::Client });
            for server in 0..host {
                let (there, back) = (self.link(), self.link());
                self.world.connect(host, server, &there, &back);
            }
        }
    }

    /// CLOCK_REALTIME is steered, in one way or another.
    fn steer_realtime(&mut self, settings: &mut Settings) {
        settings.discipline = Discipline::System;
        settings.servo.leap = *self.pick(&[LeapPolicy::Kernel, LeapPolicy::Servo]);
        settings.servo.rival = *self.pick(&[RivalPolicy::Yield, RivalPolicy::Insist]);
        settings.servo.step = *self.pick(&[StepPolicy::First, StepPolicy::Always, StepPolicy::Never]);
        settings.servo.max_slew = FreqError::from_ppm(*self.pick(&[400.0, 400.0, 50.0]));
        settings.servo.time_constant_ns = *self.pick(&[250, 250, 4_000]) * 1_000 * US;
    }

    /// CPU, kernel and NIC.
    fn machine(&mut self, oscillator: OscillatorSpec) -> HostSpec {
        HostSpec {
            oscillator,
            nic: self.nic(),
            send_ns: *self.pick(&[2, 2, 20, 500]) * US,
            wake_ns: *self.pick(&[5, 10, 100, 3_000]) * US,
            rounds_down: self.rng.chance(0.3),
            ..HostSpec::ROOT
        }
    }

    fn nic(&mut self) -> NicSpec {
        let hardware = Hardware { noise_ns: 8, quantum_ns: *self.pick(&[1, 8]), glitch: *self.pick(&[0.0, 0.01]) };
        let base = match self.rng.below(4) {
            0 => NicSpec::PROMPT,
            1 => NicSpec { stamps: Stamps::Hardware(hardware), ..NicSpec::HARDWARE },
            _ => NicSpec { stamps: Stamps::Software(Software::default()), ..NicSpec::PROMPT },
        };
        let tx_lost = *self.pick(&[0.0, 0.0, 0.1, 0.5, 1.0]);
        let rx_lost = *self.pick(&[0.0, 0.0, 0.1, 0.5, 1.0]);
        NicSpec { tx_lost, rx_lost, is_late: self.rng.chance(0.3), swapped: *self.pick(&[0.0, 0.0, 0.05]), ..base }
    }

    /// An oscillator within a class: as it comes, or as restless as the class allows.
    fn oscillator(&mut self) -> (OscillatorSpec, Preset) {
        let preset = *self.pick(&[Preset::Xo, Preset::Xo, Preset::Therm, Preset::Good, Preset::Tcxo, Preset::Ocxo]);
        let class = preset.class();
        let ppm = if self.rng.chance(0.3) { self.rng.uniform(-900.0, 900.0) } else { self.rng.uniform(-50.0, 50.0) };
        let period_s = self.rng.uniform(10.0, 2000.0);
        let spec = preset.spec();
        let spec = match self.rng.below(4) {
            0 => OscillatorSpec { triangle_per_s: class.wander_per_s, triangle_period_s: period_s, ..spec },
            1 => OscillatorSpec { random_walk: class.wander_per_s, sine_period_s: period_s, sine_ppm: 1.0, ..spec },
            _ => spec,
        };
        (OscillatorSpec { ppm, ..spec }, preset)
    }

    /// Whom a host follows: roots, among them fewer liars than half, and relays.
    fn sources(&mut self, is_relay: bool) -> Vec<SourceSettings> {
        let mut servers: Vec<usize> = (0..self.roots).filter(|_| self.rng.chance(0.75)).collect();
        let honest = servers.iter().filter(|&&server| self.roles[server] != Role::Liar).count();
        let mut liars_left = honest.saturating_sub(1);
        servers.retain(|&server| {
            let stays = self.roles[server] != Role::Liar || liars_left > 0;
            liars_left -= usize::from(stays && self.roles[server] == Role::Liar);
            stays
        });
        if !is_relay {
            servers.extend((self.roots..self.roots + self.relays).filter(|_| self.rng.chance(0.6)));
        }
        if servers.is_empty() {
            servers.push(self.roots - 1);
        }
        let is_fast = !is_relay && self.rng.chance(FAST_CLIENTS);
        let mut lines = Vec::new();
        for (place, &server) in servers.iter().enumerate() {
            let poll_ns = match is_fast && place == 0 {
                true => NS_PER_S / 64,
                false => *self.pick(&[NS_PER_S / 4, NS_PER_S, NS_PER_S, 4 * NS_PER_S, 16 * NS_PER_S, 64 * NS_PER_S]),
            };
            let may_adapt = !is_fast && self.rng.chance(0.3);
            lines.push(SourceSettings {
                poll_min_ns: Some(poll_ns),
                poll_max_ns: may_adapt.then_some(4 * poll_ns),
                burst: *self.pick(&[0, 4, 8]),
                interleaved: self.rng.chance(0.7),
                pairs: *self.pick(&[None, Some(true), Some(false)]),
                agent: self.rng.chance(0.7),
                group: self.rng.chance(0.2).then(|| format!("g{server}")),
                trust: self.roles[server] != Role::Liar && self.rng.chance(0.1),
                ..source(server)
            });
        }
        lines
    }

    fn with_leap(&self, settings: Settings) -> Settings {
        match &self.leap {
            Some(leap) => Settings { leap: leap.clone(), ..settings },
            None => settings,
        }
    }

    // ---- paths and servers ----------------------------------------------------------------------------------------

    fn link(&mut self) -> LinkSpec {
        let base_us = *self.pick(&[1.0, 5.0, 10.0, 50.0, 200.0, 2_000.0, 20_000.0]);
        let load = self.rng.uniform(0.05, 0.9);
        let queue = match self.rng.below(8) {
            0 => Queue::Exponential(Exponential { mean_us: 100.0 }),
            1 => Queue::Mixture(Mixture::default()),
            2 => Queue::Md1(Md1 { load, ..Md1::default() }),
            3 => Queue::Pareto(Pareto::default()),
            4 | 5 => Queue::Bursts(Bursts { load, ..Bursts::default() }),
            _ => Queue::None,
        };
        let standing = match self.rng.chance(0.2) {
            true => Standing { depth_us: 300.0, period_s: self.rng.uniform(1.0, 300.0), ramp_s: 0.2 },
            false => Standing::default(),
        };
        LinkSpec {
            base_us,
            queue,
            standing,
            loss: *self.pick(&[0.0, 0.0, 0.0, 0.01, 0.1, 0.3]),
            duplicate: *self.pick(&[0.0, 0.0, 0.1]),
            reorder: *self.pick(&[0.0, 0.0, 0.05]),
            straggle_us: *self.pick(&[1e3, 1e5, 2e6]),
        }
    }

    /// How an honest server's error moves inside its claim: 0.25 of it at most.
    fn movement(&mut self, may_move_ns: i64) -> Shift {
        let limit_us = 0.25e-3 * may_move_ns as f64;
        let sign = if self.rng.chance(0.5) { 1.0 } else { -1.0 };
        match self.rng.below(if limit_us > 0.0 { 4 } else { 1 }) {
            0 => Shift { constant_us: sign * limit_us, ..Shift::default() },
            1 => Shift { alternating_us: sign * limit_us, period_s: self.rng.uniform(0.5, 200.0), ..Shift::default() },
            2 => {
                let ramp_ppm = self.rng.uniform(0.01, 100.0);
                Shift { ramp_ppm, ramp_limit_us: limit_us, ..Shift::default() }
            }
            _ => Shift::default(),
        }
    }

    fn lie(&mut self) -> Shift {
        let sign = if self.rng.chance(0.5) { 1.0 } else { -1.0 };
        let us = sign * *self.pick(&[1.0, 20.0, 300.0, 5_000.0, 200_000.0]) * self.rng.uniform(1.0, 3.0);
        match self.rng.below(4) {
            0 => Shift { constant_us: us, ..Shift::default() },
            1 => Shift { alternating_us: us, period_s: self.rng.uniform(0.2, 60.0), ..Shift::default() },
            2 => Shift { alternating_us: us, period_s: self.rng.uniform(1000.0, 4000.0), ..Shift::default() },
            _ => Shift { ramp_ppm: sign * self.rng.uniform(0.1, 500.0), ..Shift::default() },
        }
    }

    // ---- events ---------------------------------------------------------------------------------------------------

    fn add_events(&mut self) {
        for host in 0..self.roles.len() {
            match self.roles[host] {
                Role::Root { may_move_ns } => self.befall_root(host, may_move_ns),
                Role::Liar => {}
                Role::Relay | Role::Client => self.befall_follower(host),
            }
            // Whoever steers the clock may have told the kernel not to.
            let settings = &self.world.hosts[host].settings;
            let is_kernels = settings.discipline != Discipline::System || settings.servo.leap == LeapPolicy::Kernel;
            if self.leap.is_some() && is_kernels {
                let action = Action::StepRealtime { ms: -1000.0, noticed: true };
                self.act(self.leap_s as f64, host, action);
            }
        }
    }

    /// Steps inside the claim, 0.4 of it together; sleep and boots where no leap is near.
    fn befall_root(&mut self, host: usize, may_move_ns: i64) {
        for _ in 0..self.rng.below(4) {
            let us = self.rng.uniform(0.0, 0.13e-3 * may_move_ns as f64);
            self.sometime(host, Action::JumpRaw { us });
        }
        if self.leap.is_none() && self.rng.chance(0.2) {
            let action = self.disruption();
            self.sometime(host, action);
        }
    }

    fn befall_follower(&mut self, host: usize) {
        if self.rng.chance(0.3) {
            self.another_daemon(host);
        }
        for _ in 0..self.rng.below(3) {
            let action = self.disruption();
            self.sometime(host, action);
        }
        if self.rng.chance(0.2) {
            let from_s = self.rng.uniform(0.0, 0.8) * self.duration_s;
            self.act(from_s, host, Action::Cut);
            let until_s = from_s + self.rng.uniform(1.0, 200.0);
            self.act(until_s, host, Action::Heal);
        }
        for _ in 0..self.rng.below(4) {
            let (server, at_s) = (self.rng.below(host), self.rng.unit() * self.duration_s);
            let change = match self.rng.chance(0.6) {
                true => Change::Link(self.link()),
                false => Change::Attack { delay_us: self.rng.uniform(0.0, 5_000.0), drop: self.rng.unit() },
            };
            let at = self.world.start() + (at_s * NS_PER_S as f64) as i64;
            let (from, to) = if self.rng.chance(0.5) { (host, server) } else { (server, host) };
            self.world.change_at(at, from, to, change);
        }
    }

    fn disruption(&mut self) -> Action {
        match self.rng.below(5) {
            0 => Action::Suspend {
                s: self.rng.uniform(0.01, 100.0),
                reader_first_ms: *self.pick(&[0.0, 0.0, 5.0, 500.0]),
            },
            1 => Action::Pause { s: self.rng.uniform(0.01, 30.0), raw_stops: false },
            2 => Action::Reboot { off_s: self.rng.uniform(1.0, 30.0) },
            3 => Action::Restart { keeps_page: true },
            _ => Action::Restart { keeps_page: false },
        }
    }

    fn another_daemon(&mut self, host: usize) {
        self.world.hosts[host].has_rival = true;
        let mut at_s = CALM_S;
        while at_s < self.duration_s {
            let action = match self.rng.chance(0.5) {
                true => Action::StepRealtime { ms: self.rng.uniform(-100.0, 100.0), noticed: self.rng.chance(0.9) },
                false => Action::SlewRealtime { ppm: *self.pick(&[0.0, 500.0, -500.0, 83_333.0, -83_333.0]) },
            };
            self.act(at_s, host, action);
            at_s += CALM_S + self.rng.uniform(0.0, 60.0);
        }
    }

    fn sometime(&mut self, host: usize, action: Action) {
        let at_s = self.rng.unit() * self.duration_s;
        self.act(at_s, host, action);
    }

    fn act(&mut self, at_s: f64, host: usize, action: Action) {
        let at = self.world.start() + (at_s * NS_PER_S as f64) as i64;
        self.world.act_at(at, host, action);
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.rng.below(of.len())]
    }
}
