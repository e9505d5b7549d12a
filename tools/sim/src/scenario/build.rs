//! From the words of a scenario to its world.

use truebound_core::leap::LeapTable;
use truebound_core::settings::{Discipline, Settings, SourceKind, SourceSettings};
use truebound_core::smear::Smear;

use super::{EventEntry, HostEntry, LinkEntry, Nic, Scenario, SourceEntry};
use crate::link::LinkSpec;
use crate::nic::NicSpec;
use crate::rng::Rng;
use crate::world::{Action, HostSpec, NS_PER_S, TODAY_UNIX_S, World, basis, serving, source};

/// NTP's epoch is so much before Unix's, s.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;

fn ns_of_us(us: f64) -> i64 {
    (us * 1e3) as i64
}

fn ns_of_s(s: f64) -> i64 {
    (s * NS_PER_S as f64) as i64
}

impl Scenario {
    /// Its world, at the start.
    #[must_use]
    pub fn world(&self, seed: u64) -> World {
        let mut world = World::new(seed);
        world.read_every_ns = ns_of_s(self.read_every_ms * 1e-3).max(1_000);
        world.sample_every_ns = ns_of_s(self.sample_every_ms * 1e-3).max(1_000);
        for entry in &self.hosts {
            let mut spec = host_spec(entry);
            if self.leap_after_s.is_some_and(|after_s| after_s <= 0) {
                spec.realtime_error_ns -= NS_PER_S; // it is in the clock already
            }
            let settings = Settings { stamp_error_ns: spec.nic.error_ns(), ..self.settings(entry, &world) };
            let index = world.add(spec, settings);
            world.hosts[index].name.clone_from(&entry.name);
            world.hosts[index].smears = entry.smears;
        }
        for link in &self.links {
            connect(&mut world, link);
        }
        for event in &self.events {
            self.schedule(&mut world, event, seed);
        }
        if let Some(after_s) = self.leap_after_s.filter(|&after_s| after_s > 0) {
            // The kernel steps CLOCK_REALTIME back over the inserted second, and timerfd says so.
            let at = world.now + after_s * NS_PER_S;
            (0..world.hosts.len())
                .for_each(|host| world.act_at(at, host, Action::StepRealtime { ms: -1000.0, noticed: true }));
        }
        world
    }

    fn settings(&self, entry: &HostEntry, world: &World) -> Settings {
        let mut settings = if entry.serves || entry.root.is_some() { serving() } else { basis() };
        settings.oscillator = entry.class.unwrap_or(entry.oscillator).class();
        settings.max_liars = entry.max_liars;
        if let Some(root) = entry.root {
            let kind = SourceKind::Local { shift_ns: ns_of_us(root.shift_us), error_ns: ns_of_us(root.error_us) };
            settings.sources.push(SourceSettings::new("clock", kind));
        }
        settings.sources.extend(entry.sources.iter().map(|line| source_settings(line, world)));
        if entry.disciplines {
            settings.discipline = Discipline::Virtual { offset_ns: 0 };
        } else if entry.steers_realtime {
            settings.discipline = Discipline::System;
        }
        settings.bound.memory_ns = entry.memory_s.map_or(settings.bound.memory_ns, ns_of_s);
        settings.bound.max_holdover_ns = entry.max_holdover_s.map_or(settings.bound.max_holdover_ns, ns_of_s);
        if let Some(after_s) = self.leap_after_s {
            let at = TODAY_UNIX_S + NTP_TO_UNIX_S + after_s;
            let text = format!("#@ 6311433600\n3692217600 37\n{at} 38\n");
            settings.leap = LeapTable::parse(&text).expect("a list of leap seconds");
        }
        settings
    }

    fn schedule(&self, world: &mut World, event: &EventEntry, seed: u64) {
        let mut rng = Rng::new(seed).fork(0x65_7665_6e74 ^ event.at_s.to_bits());
        let until_s = event.until_s.unwrap_or(self.duration_s);
        let mut at_s = event.at_s;
        loop {
            let at = world.start() + ns_of_s(at_s);
            if let (Some(host), Some(action)) = (&event.host, &event.action)
                && let Some(host) = world.host_named(host)
            {
                world.act_at(at, host, action.clone());
            }
            if let (Some([from, to]), Some(change)) = (&event.path, &event.change)
                && let (Some(from), Some(to)) = (world.host_named(from), world.host_named(to))
            {
                world.change_at(at, from, to, change.clone());
            }
            let Some(every_s) = event.every_s else { return };
            at_s += rng.uniform(0.0, 2.0 * every_s).max(1e-6);
            if at_s >= until_s {
                return;
            }
        }
    }
}

fn host_spec(entry: &HostEntry) -> HostSpec {
    let preset = entry.oscillator.spec();
    let class = if entry.within_class { preset.class } else { None };
    let mut oscillator = entry.oscillator_fields.clone().unwrap_or(preset);
    oscillator.ppm += entry.ppm;
    oscillator.class = class;
    HostSpec {
        oscillator,
        nic: entry.nic_fields.unwrap_or(match entry.nic {
            Nic::Software => NicSpec::default(),
            Nic::Prompt => NicSpec::PROMPT,
            Nic::Hardware => NicSpec::HARDWARE,
        }),
        realtime_error_ns: ns_of_us(entry.realtime_error_us),
        realtime_ppb: (entry.realtime_ppm * 1e3) as i64,
        send_ns: ns_of_us(entry.send_us),
        wake_ns: ns_of_us(entry.wake_us),
        cpu_skew_ns: entry.cpu_skew_ns,
        is_checked: entry.checked,
        rounds_down: entry.rounds_down,
    }
}

fn source_settings(line: &SourceEntry, world: &World) -> SourceSettings {
    let base = source(world.host_named(&line.host).unwrap_or_default());
    SourceSettings {
        name: line.host.clone(),
        poll_min_ns: line.poll_s.map(ns_of_s),
        poll_max_ns: line.poll_max_s.map(ns_of_s),
        burst: line.burst.unwrap_or(base.burst),
        pairs: line.pairs,
        interleaved: line.interleaved,
        trust: line.trust,
        group: line.group.clone(),
        claim_floor_ns: Some(ns_of_us(line.claim_floor_us)),
        agent: line.agent,
        smear: if line.smeared { Smear::NoonToNoon } else { Smear::None },
        ..base
    }
}

fn connect(world: &mut World, link: &LinkEntry) {
    let [a, b] = &link.between;
    let (Some(a), Some(b)) = (world.host_named(a), world.host_named(b)) else { return };
    let of = |one: &Option<LinkSpec>| one.clone().or_else(|| link.both.clone()).unwrap_or_default();
    world.connect(a, b, &of(&link.there), &of(&link.back));
}
