//! One host: an agent, its clocks, its NIC, and the checker of its page.
//!
//! A host is single-threaded: while it works its own cursor runs ahead of the world (every clock reading and every system
//! call takes time), and whatever happens to it meanwhile waits until it is done. Readers of its page are other threads:
//! they read whenever they like, and are caught up with before anything changes what they would see.

use truebound_client::page::Publication;
use truebound_core::Agent;
use truebound_core::event::Event;
use truebound_core::io::{Declaration, HostState};
use truebound_core::settings::Settings;
use truebound_core::time::{RawTime, RealTime, TaiTime, UtcTime};

use super::flight::{self, Shift};
use super::pages::Pages;
use super::{NS_PER_S, US};
use crate::checker::Checker;
use crate::nic::NicSpec;
use crate::oscillator::{Oscillator, OscillatorSpec};
use crate::realtime::Realtime;
use crate::rng::Rng;

/// What a host is made of.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Its oscillator.
    pub oscillator: OscillatorSpec,
    /// Its NIC.
    pub nic: NicSpec,
    /// CLOCK_REALTIME − UTC at the start.
    pub realtime_error_ns: i64,
    /// Rate of CLOCK_REALTIME against raw time, as adjtimex(2) says.
    pub realtime_ppb: i64,
    /// From the send call to the kernel's stamp: a slow server.
    pub send_ns: i64,
    /// From arrival to the process: mean of an exponential.
    pub wake_ns: i64,
    /// Raw clocks of different CPUs differ by up to this.
    pub cpu_skew_ns: i64,
    /// Its page is read and checked.
    pub is_checked: bool,
    /// Its answers carry a dispersion rounded down.
    pub rounds_down: bool,
}

impl HostSpec {
    /// A server whose raw time runs true: a root can promise its error for ever.
    pub const ROOT: HostSpec = HostSpec {
        oscillator: OscillatorSpec::CONSTANT,
        nic: NicSpec::PROMPT,
        realtime_error_ns: 0,
        realtime_ppb: 0,
        send_ns: 2 * US,
        wake_ns: 10 * US,
        cpu_skew_ns: 0,
        is_checked: false,
        rounds_down: false,
    };
    /// A host with a common crystal.
    pub const CLIENT: HostSpec = HostSpec {
        oscillator: OscillatorSpec::ppm(23.0),
        realtime_error_ns: 3_000 * US,
        is_checked: true,
        nic: NicSpec::PROMPT,
        realtime_ppb: 0,
        send_ns: 2 * US,
        wake_ns: 10 * US,
        cpu_skew_ns: 0,
        rounds_down: false,
    };
}

/// See the module's page.
pub struct Host {
    /// Its name in a scenario.
    pub name: String,
    /// The agent.
    pub agent: Agent,
    /// What it is made of.
    pub spec: HostSpec,
    /// The settings it was last started with.
    pub settings: Settings,
    /// Raw time.
    pub clock: Oscillator,
    /// CLOCK_REALTIME.
    pub realtime: Realtime,
    /// CLOCK_MONOTONIC: slewed with CLOCK_REALTIME, never stepped.
    pub monotonic: Realtime,
    /// Others set and slew its CLOCK_REALTIME too, so that nobody can say how far off it is.
    pub has_rival: bool,
    /// What the kernel was told to tell of CLOCK_REALTIME, and what that showed then.
    pub told: Option<(RealTime, Declaration)>,
    /// What the kernel says of itself.
    pub state: HostState,
    /// Its page, read and judged.
    pub checker: Checker,
    /// Its last pages, each from its own instant on; none are kept while this is none.
    pub pages: Option<Pages>,
    /// The agent's events, with true time.
    pub events: Vec<(i64, Event)>,
    /// Everything that came out, when it is recorded.
    pub outputs: Vec<String>,
    /// Record it.
    pub is_recorded: bool,
    /// A digest of everything that came out.
    pub digest: u64,
    /// Requests sent.
    pub probes: u64,
    /// When it was started.
    pub started: i64,
    /// How often it booted since.
    pub boots: u32,
    /// The agent keeps the exchanges that its estimators take.
    pub(super) is_tapped: bool,
    pub(super) rng: Rng,
    /// True time until which it is busy.
    pub(super) busy_until: i64,
    pub(super) wake_generation: u32,
    pub(super) is_cut: bool,
    /// When the last packet left its NIC.
    pub(super) last_left: i64,
    pub(super) last_stamp: Option<RealTime>,
    /// What it adds to the time it tells, and since when.
    pub(super) shift: Option<(i64, Shift)>,
    /// It hides leap seconds from noon to noon in the time that it tells.
    pub smears: bool,
    /// Its paths to others, by their number.
    pub(super) paths: Vec<(u32, u32)>,
    /// Nobody on it runs in this span.
    pub(super) asleep: (i64, i64),
    pub(super) readers: Readers,
}

/// When its page is read.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    pub(super) rng: Rng,
    pub(super) every_ns: i64,
    pub(super) next: i64,
    pub(super) sample_every_ns: i64,
    pub(super) next_sample: i64,
}

impl Host {
    /// Its raw time at true time `t`.
    pub fn raw(&mut self, t: i64) -> RawTime {
        RawTime::from_ns(self.clock.at(t))
    }

    /// Its CLOCK_REALTIME at true time `t`.
    pub fn real(&mut self, t: i64) -> RealTime {
        RealTime::from_ns(self.realtime.at(self.clock.at(t)))
    }

    /// θ = true time − raw time at true time `t`, ns, and its rate: the truth for tools, at most 8 s back.
    pub fn truth(&mut self, t: i64) -> (i64, f64) {
        (t - self.clock.at(t), self.clock.omega(t))
    }

    /// How often an event of this kind happened.
    pub fn count(&self, is_meant: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is_meant(event)).count()
    }

    /// What it adds to the time it tells, at true time `t`, ns.
    pub(super) fn shift_ns(&self, t: i64) -> i64 {
        let smear_ns = if self.smears { flight::smear_ns(&self.settings.leap, t) } else { 0 };
        self.shift.map_or(0, |(since, shift)| shift.at(t - since)) + smear_ns
    }

    /// Lets everybody read who wanted to until true time `t`.
    pub(super) fn catch_up(&mut self, t: i64) {
        if !self.spec.is_checked {
            return;
        }
        if let Some(void_after) = self.checker.unchecked_void_after()
            && self.clock.at(t) >= void_after
        {
            let at = self.clock.when(void_after);
            let raw = [self.clock.at(at - 1), self.clock.at(at)];
            self.checker.read_at_void_after(at, raw, self.state.suspended_ns);
        }
        while self.readers.next <= t {
            let at = self.readers.next;
            self.readers.next += self.readers.rng.between(1, 2 * self.readers.every_ns);
            self.read(at);
        }
        while self.readers.next_sample <= t {
            let at = self.readers.next_sample;
            self.readers.next_sample += self.readers.sample_every_ns;
            if !self.is_asleep(at) {
                let (raw, omega) = (self.clock.at(at), self.clock.omega(at));
                self.checker.sample(at, raw, self.state.suspended_ns, omega);
            }
        }
    }

    pub(super) fn read(&mut self, at: i64) {
        if self.is_asleep(at) || !self.spec.is_checked {
            return;
        }
        let skew_ns = match self.spec.cpu_skew_ns {
            0 => 0,
            skew_ns => self.readers.rng.between(-skew_ns, skew_ns + 1),
        };
        let raw = self.clock.at(at) + skew_ns;
        self.checker.read(at, raw, self.state.suspended_ns);
        self.judge_kernel(at);
    }

    /// Is CLOCK_REALTIME as near to true time as the kernel tells whoever asks it? It adds 500 µs at each of its seconds.
    fn judge_kernel(&mut self, at: i64) {
        let Some((since, told)) = self.told.filter(|(_, told)| told.is_synchronised && !self.has_rival) else { return };
        let utc = self.settings.leap.to_utc(TaiTime::from_ns(at));
        let real = self.real(at);
        let shown = UtcTime::from_ns(real.as_ns());
        if self.settings.leap.is_ambiguous(utc) || self.settings.leap.is_ambiguous(shown) {
            return; // nobody can say what UTC shows in a leap second
        }
        let seconds = real.as_ns().div_euclid(NS_PER_S) - since.as_ns().div_euclid(NS_PER_S);
        // NTP_PHASE_LIMIT: the kernel tells no more.
        let max_error_ns = (told.max_error_ns + 500 * US * seconds.max(0)).min(16 * NS_PER_S);
        self.checker.judge_kernel(at, shown.ns_since(utc).abs(), max_error_ns);
    }

    fn is_asleep(&self, at: i64) -> bool {
        self.asleep.0 < at && at < self.asleep.1
    }

    /// The first instant from true time `at` on at which a process of it may run.
    #[must_use]
    pub fn awake_from(&self, at: i64) -> i64 {
        if self.asleep.0 <= at { at.max(self.asleep.1) } else { at }
    }

    /// From true time `t` on its page is this, or gone.
    pub(super) fn keep_page(&mut self, t: i64, page: Option<&Publication>) {
        if let Some(pages) = &mut self.pages {
            pages.push(t, page.cloned());
        }
    }

    pub(super) fn publish(&mut self, t: i64, publication: Publication) {
        self.digest_publication(&publication);
        self.keep_page(t, Some(&publication));
        if self.spec.is_checked {
            self.catch_up(t - 1);
            let raw = [self.clock.at(t - 1), self.clock.at(t)];
            self.checker.publish(t, raw, self.state.suspended_ns, publication);
        }
    }

    /// FNV-1a, a word at a time.
    pub(super) fn digest(&mut self, word: u64) {
        self.digest = (self.digest ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }

    pub(super) fn digest_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.digest(u64::from_le_bytes(word));
        }
    }

    fn digest_publication(&mut self, new: &Publication) {
        let bound = &new.bound;
        let words = [
            new.status as i64,
            new.reason as i64,
            new.epoch as i64,
            bound.t_ref_ns,
            bound.void_after_ns,
            bound.theta_lo_ns,
            bound.theta_hi_ns,
            bound.omega_lo,
            bound.omega_hi,
            bound.cap_lo,
            bound.cap_hi,
            new.estimate_theta_ns,
            new.estimate_omega,
            new.estimate_sigma_ns,
        ];
        words.into_iter().for_each(|word| self.digest(word as u64));
    }

    /// Seconds it was there.
    #[must_use]
    pub fn seconds(&self, now: i64) -> f64 {
        (now - self.started) as f64 / NS_PER_S as f64
    }
}
