//! What can befall a host or a path at an instant of a scenario.

use serde::Deserialize;
use truebound_core::Agent;
use truebound_core::io::Input;
use truebound_core::settings::Settings;

use super::flight::Shift;
use super::settings::root;
use super::{NS_PER_S, US, World};
use crate::link::LinkSpec;
use crate::oscillator::{Oscillator, OscillatorSpec};

/// What befalls a host.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// It sleeps: raw time stands still, CLOCK_REALTIME does not.
    Suspend {
        /// For so long.
        s: f64,
        /// The agent learns of it this much later than readers run again.
        #[serde(default)]
        reader_first_ms: f64,
    },
    /// Its virtual machine does not run.
    Pause {
        /// For so long.
        s: f64,
        /// Raw time stands still meanwhile, and nobody says so.
        #[serde(default)]
        raw_stops: bool,
    },
    /// It boots again: raw time begins anew and the page is gone.
    Reboot {
        /// After so long.
        off_s: f64,
    },
    /// The agent is started again.
    Restart {
        /// It takes over the page of the run before.
        keeps_page: bool,
    },
    /// CLOCK_REALTIME is set.
    StepRealtime {
        /// By this.
        ms: f64,
        /// timerfd notices.
        #[serde(default)]
        noticed: bool,
    },
    /// The rate of CLOCK_REALTIME against raw time is set.
    SlewRealtime {
        /// To this.
        ppm: f64,
    },
    /// Raw time goes on with another clocksource.
    Clocksource {
        /// Which has this frequency error.
        ppm: f64,
    },
    /// The oscillator's frequency changes at once: outside A1.
    FrequencyStep {
        /// By this.
        ppm: f64,
    },
    /// Raw time jumps forward: a server's step.
    JumpRaw {
        /// By this.
        us: f64,
    },
    /// As a server it tells another time than it knows.
    Tell(Shift),
    /// As a root it takes its clock for this wrong.
    Root {
        /// Added to its CLOCK_REALTIME, µs.
        shift_us: f64,
        /// What it claims, µs.
        error_us: f64,
    },
    /// Nothing reaches or leaves it any more.
    Cut,
    /// Or does so again.
    Heal,
}

/// What befalls a path.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// It is another one now.
    Link(LinkSpec),
    /// Somebody on it holds packets back, or drops them.
    Attack {
        /// For so long, µs.
        #[serde(default)]
        delay_us: f64,
        /// With this probability.
        #[serde(default)]
        drop: f64,
    },
}

fn ns_of_s(s: f64) -> i64 {
    (s * NS_PER_S as f64) as i64
}

fn ns_of_us(us: f64) -> i64 {
    (us * US as f64) as i64
}

impl World {
    /// Lets it befall host `index`, as soon as it has nothing in hand.
    pub fn act(&mut self, index: usize, action: &Action) {
        match action {
            Action::Suspend { s, reader_first_ms } => {
                self.suspend_with_reader_first(index, ns_of_s(*s), ns_of_us(reader_first_ms * 1e3));
            }
            Action::Pause { s, raw_stops } => self.pause(index, ns_of_s(*s), *raw_stops),
            Action::Reboot { off_s } => self.reboot(index, ns_of_s(*off_s)),
            Action::Restart { keeps_page } => {
                let settings = self.hosts[index].settings.clone();
                self.restart(index, settings, *keeps_page);
            }
            Action::StepRealtime { ms, noticed } => self.step_realtime(index, ns_of_us(ms * 1e3), *noticed),
            Action::SlewRealtime { ppm } => self.slew_realtime(index, (ppm * 1e3) as i64),
            Action::Clocksource { ppm } => self.change_clocksource(index, &OscillatorSpec::ppm(*ppm)),
            Action::FrequencyStep { ppm } => {
                let t = self.when_free(index);
                self.hosts[index].clock.step_frequency(t, ppm * 1e-6);
            }
            Action::JumpRaw { us } => {
                let t = self.when_free(index);
                self.hosts[index].clock.jump(t, ns_of_us(*us));
            }
            Action::Tell(shift) => self.hosts[index].shift = Some((self.now, *shift)),
            Action::Root { shift_us, error_us } => {
                let new = root(ns_of_us(*shift_us), ns_of_us(*error_us));
                let settings = Settings { sources: new.sources, ..self.hosts[index].settings.clone() };
                self.hosts[index].settings = settings.clone();
                self.input(index, Input::Reconfigured(Box::new(settings)));
            }
            Action::Cut => self.cut(index, true),
            Action::Heal => self.cut(index, false),
        }
    }

    /// Steps CLOCK_REALTIME; timerfd notices or does not.
    pub fn step_realtime(&mut self, index: usize, ns: i64, is_noticed: bool) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        host.realtime.step(host.clock.at(t), ns, is_noticed);
    }

    /// Changes the rate of CLOCK_REALTIME against raw time.
    pub fn slew_realtime(&mut self, index: usize, ppb: i64) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        host.realtime.slew(host.clock.at(t), ppb);
        host.monotonic.slew(host.clock.at(t), ppb);
    }

    /// The host sleeps: raw time stands still, CLOCK_REALTIME does not.
    pub fn suspend(&mut self, index: usize, ns: i64) {
        self.suspend_with_reader_first(index, ns, 0);
    }

    fn suspend_with_reader_first(&mut self, index: usize, ns: i64, reader_first_ns: i64) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        host.clock.hold(t, ns);
        host.realtime.step(host.clock.at(t), ns, false);
        host.asleep = (t, t + ns);
        host.busy_until = t + ns + reader_first_ns;
        host.state.suspended_ns += ns;
        let state = host.state;
        self.input(index, Input::Host(state));
    }

    /// Nothing on the host runs for a while.
    pub fn pause(&mut self, index: usize, ns: i64, raw_stops: bool) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        if raw_stops {
            host.clock.hold(t, ns);
        }
        host.asleep = (t, t + ns);
        host.busy_until = t + ns;
    }

    /// Raw time goes on from here with another crystal.
    pub fn change_clocksource(&mut self, index: usize, spec: &OscillatorSpec) {
        let t = self.when_free(index);
        let host = &mut self.hosts[index];
        host.clock.replace(t, spec);
        host.state.clocksource = *b"hpet\0\0\0\0\0\0\0\0\0\0\0\0";
        let state = host.state;
        self.input(index, Input::Host(state));
    }

    /// The process dies, and none starts. Its page and its kernel stay as they are.
    pub fn kill(&mut self, index: usize) {
        self.when_free(index);
        let host = &mut self.hosts[index];
        host.wake_generation += 1;
        host.is_cut = true;
    }

    /// The process dies and another one starts, with the page's bound or without.
    pub fn restart(&mut self, index: usize, settings: Settings, keeps_page: bool) {
        let t = self.when_free(index);
        self.start_agent(index, t, settings);
        let host = &mut self.hosts[index];
        let page = host.checker.page.as_ref().filter(|_| keeps_page);
        match page.map(|page| Input::Restored { bound: Some(page.bound), epoch: page.epoch }) {
            Some(restored) => self.handle(index, t, restored),
            None => {
                host.checker.reboot();
                host.keep_page(t, None);
            }
        }
        let state = self.hosts[index].state;
        self.input(index, Input::Host(state));
    }

    fn reboot(&mut self, index: usize, off_ns: i64) {
        let t = self.when_free(index);
        let up = t + off_ns;
        let host = &mut self.hosts[index];
        let (real_ns, boot_ns) = (host.real(t).as_ns(), host.rng.between(NS_PER_S, 20 * NS_PER_S));
        host.clock = Oscillator::new(&host.spec.oscillator, t, boot_ns, host.rng.fork(t as u64));
        host.told = None;
        host.realtime = crate::realtime::Realtime::new(boot_ns, real_ns, host.spec.realtime_ppb);
        host.asleep = (t, up);
        host.busy_until = up;
        host.state.suspended_ns = 0;
        host.monotonic = crate::realtime::Realtime::new(boot_ns, boot_ns, host.spec.realtime_ppb);
        host.boots += 1;
        host.checker.reboot();
        host.keep_page(t, None);
        let (settings, state) = (host.settings.clone(), host.state);
        self.start_agent(index, up, settings);
        self.input(index, Input::Host(state));
    }

    fn start_agent(&mut self, index: usize, t: i64, settings: Settings) {
        let host = &mut self.hosts[index];
        let mut seed = [0; 32];
        seed.fill_with(|| host.rng.next() as u8);
        host.settings = settings.clone();
        host.agent = Agent::new(host.raw(t), settings, seed);
        if host.is_tapped {
            host.agent.tap();
        }
    }

    /// Cuts a host off, or lets it back.
    pub fn cut(&mut self, index: usize, is_cut: bool) {
        self.hosts[index].is_cut = is_cut;
    }

    /// Lets it befall the path from one host to another, from the next packet on.
    pub fn change(&mut self, from: usize, to: usize, change: &Change) {
        let path = self.path(from, to);
        let path = &mut self.paths[path];
        match change {
            Change::Link(spec) => path.link.set(spec.clone()),
            Change::Attack { delay_us, drop } => (path.delay_ns, path.drop) = (ns_of_us(*delay_us), *drop),
        }
    }
}
