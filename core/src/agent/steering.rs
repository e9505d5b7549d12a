//! Steering the disciplined clock: readings in, commands out, and what the kernel is to tell of it.
//!
//! A virtual clock does exactly as it is told, so it is never read. CLOCK_REALTIME is read before and after each command
//! (the shell sees to that): kernel stamps of packets under way are then mapped to raw time by readings on either side of
//! the change. A command is given at the end of an exchange, so few packets are under way. Around a leap second nothing
//! is concluded from a reading and nothing is commanded: the kernel may be about to move the clock by a second.

use truebound_client::Status;
use truebound_client::bound::Bound;
use truebound_client::page::UtcOffset;

use super::Agent;
use crate::correlation::Margins;
use crate::event::Event;
use crate::foreign::Foreign;
use crate::io::{CrossReading, Declaration, Drift, KernelRate, LeapSecond, Output, Setting, Steer};
use crate::report::SystemReport;
use crate::servo::{Action, Servo};
use crate::settings::{Discipline, LeapPolicy, ServoSettings};
use crate::system_clock::{Offence, Steering, SystemClock, UNKNOWN_NS, leap_today, max_error_ns};
use crate::time::{NS_PER_S, RawTime, TaiTime, UtcTime};
use crate::units::{FreqError, to_f64};

/// Commands to the system clock are at least so far apart, ns: each costs readings of clocks around it.
const COMMAND_INTERVAL_NS: i64 = NS_PER_S / 8;
/// Without news the last command stands for so long, ns: more than the second that is usual between two exchanges.
const COMMAND_STANDS_NS: i64 = NS_PER_S * 3 / 2;
/// A leap second is declared so long before, ns: near it nothing is declared.
const SOON_NS: i64 = 8 * NS_PER_S;
/// A frequency known no better than this is not worth saving.
const WORTH_SAVING: FreqError = FreqError::from_ppm(1.0);

/// The disciplined clock, if there is one.
#[derive(Debug)]
pub(super) struct Disciplined {
    /// `None` until the clock was read.
    pub(super) servo: Option<Servo>,
    /// Only of the kernel's clock.
    pub(super) system: Option<SystemClock>,
    /// What an earlier run knew.
    drift: Option<Drift>,
    /// True time's rate as last estimated.
    omega: Option<FreqError>,
    /// When news were last turned into commands.
    last_command: Option<RawTime>,
    /// What the clock showed at the last reading from which something was concluded.
    shown: UtcTime,
    /// How far apart the two ends of the last reading were, ns.
    width_ns: i64,
}

impl Disciplined {
    pub(super) fn new(discipline: Discipline) -> Self {
        let system = (discipline == Discipline::System).then(SystemClock::default);
        Disciplined {
            servo: None,
            system,
            drift: None,
            omega: None,
            last_command: None,
            shown: UtcTime::from_ns(0),
            width_ns: 0,
        }
    }

    /// Raw time is another clock now, or the clock was moved: it has to be read anew.
    pub(super) fn forget(&mut self) {
        (self.servo, self.omega) = (None, None);
    }

    /// The operator changed the settings: we steer again, if we had yielded.
    pub(super) fn adopt(&mut self, settings: ServoSettings) {
        self.servo.iter_mut().for_each(|servo| servo.adopt(settings));
        self.system.iter_mut().for_each(SystemClock::resume);
    }

    pub(super) fn is_steered(&self, steering: Steering) -> bool {
        self.system.as_ref().is_some_and(|system| system.steering == steering)
    }
}

impl Agent {
    /// CLOCK_REALTIME was read.
    pub(super) fn cross_stamped(&mut self, reading: CrossReading) {
        let is_ours = self.disciplined.system.as_ref().is_some_and(|system| system.is_ours(reading.rate));
        // A rate that is not ours while we steer says that a rival is at work, and nothing of what it was a moment ago.
        let is_foreign = self.disciplined.is_steered(Steering::Ours) && !is_ours;
        let rate = if is_foreign { KernelRate::Unknown } else { reading.rate };
        self.clocks.limit_real(Margins { is_ours: self.disciplined.is_steered(Steering::Ours), ..Margins::REALTIME });
        self.clocks.real_read(CrossReading { rate, ..reading });
        let was_set = self.watch_others(reading, is_ours);
        if let Some(responder) = &mut self.responder {
            responder.bracketed(&self.clocks.real);
        }
        if self.local.is_none() {
            self.adopt_local_clock(&reading);
        }
        self.feed_others(&reading);
        match self.settings.discipline {
            Discipline::Observe => {}
            Discipline::System => self.system_clock_read(&reading, was_set),
            Discipline::Virtual { offset_ns } if self.disciplined.servo.is_none() => {
                self.begin_virtual(&reading, offset_ns);
            }
            Discipline::Virtual { .. } => {}
        }
    }

    /// Tells what others did to the clock; true if they set it.
    fn watch_others(&mut self, reading: CrossReading, is_ours: bool) -> bool {
        let mut was_set = reading.setting == Setting::Set;
        for foreign in self.realtime.push(reading, is_ours).into_iter().flatten() {
            was_set |= matches!(foreign, Foreign::Set { .. });
            self.events.push(told(foreign));
        }
        was_set
    }

    fn begin_virtual(&mut self, reading: &CrossReading, ahead_ns: i64) {
        let tai = self.settings.leap.to_tai(UtcTime::from_ns(reading.real.as_ns()));
        let offset_ns = tai.as_ns().saturating_sub(reading.before.as_ns()).saturating_add(ahead_ns);
        self.disciplined.servo = Some(Servo::new(self.now, offset_ns, 0, self.settings.servo));
        self.outputs.push_back(Output::Steer(Steer::Step { ns: offset_ns }));
    }

    fn system_clock_read(&mut self, reading: &CrossReading, was_set: bool) {
        let utc = UtcTime::from_ns(reading.real.as_ns());
        if self.settings.leap.is_ambiguous(utc) {
            return;
        }
        // A leap second that nobody made in the clock is none of a rival's doing.
        let leapt = self.settings.leap.offset_s(self.disciplined.shown) != self.settings.leap.offset_s(utc);
        self.disciplined.shown = utc;
        let tai_ns = self.settings.leap.to_tai(utc).as_ns();
        // A reading is truncated to ns.
        let least_ns = tai_ns.saturating_sub(reading.after.as_ns());
        let most_ns = tai_ns.saturating_add(1).saturating_sub(reading.before.as_ns());
        let width_ns = most_ns.saturating_sub(least_ns);
        let at = reading.before.plus_ns(reading.after.ns_since(reading.before) / 2);
        let Disciplined { servo, system: Some(system), drift, width_ns: last_width_ns, .. } = &mut self.disciplined
        else {
            return;
        };
        let rate = rate_of(reading.rate);
        let Some(servo) = servo else {
            let middle_ns = least_ns.saturating_add(width_ns / 2);
            let mut begun = Servo::new(at, middle_ns, rate.unwrap_or(0), self.settings.servo).confirmed();
            let first = drift.and_then(|drift| begun.hold(self.now, drift.omega));
            self.outputs.extend(first.filter(|_| system.steering != Steering::Yielded).map(Output::Steer));
            *servo = Some(begun);
            return;
        };
        let elapsed_ns = at.ns_since(servo.known_at());
        let beyond_ns = servo.observe(at, least_ns, most_ns);
        *last_width_ns = width_ns;
        let offence = system.read(at, reading.rate, elapsed_ns, if was_set || leapt { 0 } else { beyond_ns });
        if system.steering != Steering::Ours || matches!(offence, Some(Offence::Rate { .. } | Offence::Phase)) {
            rate.into_iter().for_each(|rate| servo.runs_at(at, rate));
        }
        if let Some(offence) = offence {
            let we_yield = system.yields(self.settings.servo.rival);
            self.events.push(Event::Rival { offence, we_yield });
        }
    }

    /// What became of a command.
    pub(super) fn steered(&mut self, steer: Steer, is_done: bool) {
        let Some(system) = &mut self.disciplined.system else { return };
        match steer {
            _ if !is_done => {
                system.steering = Steering::Yielded;
                self.disciplined.forget();
                self.events.push(Event::SteerRefused);
            }
            Steer::Rate { rate } => {
                system.commanded(rate);
                // The reading before the first command may have told the servo of a former rate.
                self.disciplined.servo.iter_mut().for_each(|servo| servo.obeyed(self.now, rate));
            }
            // Nothing maps across it, and the kernel has forgotten what it was told.
            Steer::Step { ns } => {
                self.disciplined.servo.iter_mut().for_each(|servo| servo.stepped(self.now, ns));
                system.declared = None;
                self.clocks.forget_real();
                let set = self.realtime.set_by_us();
                self.events.extend(set.map(told));
            }
        }
    }

    /// What an earlier run knew of the frequency.
    pub(super) fn drifts(&mut self, drift: Drift) {
        self.disciplined.drift = Some(drift);
    }

    /// Steers the clock towards an estimate that is new.
    pub(super) fn steer(&mut self) {
        if self.may_command(COMMAND_INTERVAL_NS) {
            self.disciplined.last_command = Some(self.now);
            self.command();
        }
    }

    /// Nothing is new, but the clock may have left the estimate. That must not make news wait, which often come next.
    pub(super) fn steer_on(&mut self) {
        if self.may_command(COMMAND_STANDS_NS) {
            self.command();
        }
    }

    /// May the clock be told something so long after the last news? A virtual one always.
    fn may_command(&self, after_ns: i64) -> bool {
        let Disciplined { servo: Some(_), system, last_command, .. } = &self.disciplined else { return false };
        let Some(system) = system else { return true };
        let is_due = last_command.is_none_or(|last| self.now >= last.plus_ns(after_ns));
        is_due && system.steering != Steering::Yielded && !self.is_leaping()
    }

    fn command(&mut self) {
        let (now, drift, estimate) = (self.now, self.disciplined.drift, self.estimate());
        let Disciplined { servo: Some(servo), omega, .. } = &mut self.disciplined else { return };
        let action = match (estimate, *omega) {
            (Some(estimate), _) => {
                *omega = Some(estimate.omega);
                servo.update(now, &estimate, drift)
            }
            // Nobody knows how far off it is any more; it goes on at the best rate that was known.
            (None, Some(omega)) => Action { step: None, rate: servo.hold(now, omega) },
            (None, None) => return,
        };
        if let Some(Steer::Step { ns }) = action.step {
            self.events.push(Event::Stepped { ns });
        }
        self.outputs.extend([action.step, action.rate].into_iter().flatten().map(Output::Steer));
    }

    /// When the clock is to be told something though nothing else happens.
    pub(super) fn next_steering(&self) -> Option<RawTime> {
        self.disciplined
            .servo
            .as_ref()
            .and_then(Servo::slew_end)
            .filter(|_| !self.disciplined.is_steered(Steering::Yielded))
    }

    /// Ends a slew whose time has come.
    pub(super) fn end_slew(&mut self) {
        if self.next_steering().is_some_and(|end| end <= self.now) {
            let ended = self.disciplined.servo.as_mut().and_then(|servo| servo.end_slew(self.now));
            self.outputs.extend(ended.map(Output::Steer));
        }
    }

    /// Is CLOCK_REALTIME near a known or possible leap second, or not read since one?
    fn is_leaping(&self) -> bool {
        let Disciplined { servo: Some(servo), system: Some(_), shown, .. } = &self.disciplined else { return false };
        let tai = TaiTime::from_ns(self.now.as_ns().saturating_add(servo.offset_at(self.now)));
        let (leap, utc) = (&self.settings.leap, self.settings.leap.to_utc(tai));
        leap.is_ambiguous(utc) || leap.offset_s(utc) != leap.offset_s(*shown)
    }

    /// Steps the clock onto the estimate: the operator asked for it, so we steer again, if we had yielded.
    pub(super) fn make_step(&mut self) {
        let (now, estimate) = (self.now, self.estimate());
        let Some((servo, estimate)) = self.disciplined.servo.as_mut().zip(estimate) else { return };
        let step = servo.make_step(now, &estimate);
        if let Some(system) = &mut self.disciplined.system {
            system.resume();
        }
        if let Steer::Step { ns } = step {
            self.events.push(Event::Stepped { ns });
        }
        self.outputs.push_back(Output::Steer(step));
    }

    /// Lets the kernel tell what is true of the clock now.
    pub(super) fn declare(&mut self, status: Status, bound: Option<&Bound>, utc: UtcOffset) {
        if self.disciplined.system.is_none() {
            return;
        }
        let (now, is_leaping) = (self.now, self.is_leaping());
        let known = bound.filter(|_| status.has_bound()).and_then(|bound| self.declaration(bound, utc));
        // The kernel cannot tell more than that.
        let known = known.filter(|known| known.max_error_ns < UNKNOWN_NS);
        let Some(system) = &mut self.disciplined.system else { return };
        let declaration = match known {
            // The kernel is making it: what it was told stays as it is.
            Some(_) if is_leaping => return,
            Some(known) => known,
            None => {
                let leap = system.declared.map_or(LeapSecond::None, |(_, last)| last.leap);
                Declaration { leap, tai_offset_s: utc.offset_s, ..Declaration::UNKNOWN }
            }
        };
        self.outputs.extend(system.declare(now, declaration).map(Output::Declare));
    }

    fn declaration(&self, bound: &Bound, utc: UtcOffset) -> Option<Declaration> {
        let (servo, estimate) = (self.disciplined.servo.as_ref()?, self.estimate()?);
        let ahead_ns = servo.offset_at(self.now);
        let lines = [(ahead_ns, servo.rate()), (estimate.theta_ns, estimate.omega.to_rate_down())];
        let max_error_ns = max_error_ns(bound, self.now, lines)?;
        let x_ns = ahead_ns.saturating_sub(estimate.theta_ns).saturating_abs();
        let tai_ns = self.now.as_ns().saturating_add(ahead_ns);
        let to_change_ns = utc.change_at_ns.saturating_sub(tai_ns);
        let change_s = utc.after_s.checked_sub(utc.offset_s);
        // What the kernel does not do by itself: the clock is off by a leap second from then on, or may be.
        let (leap, off_by_s) = match (utc.doubt_s(), self.settings.servo.leap) {
            (Some(doubt_s), _) => (LeapSecond::None, doubt_s),
            (None, LeapPolicy::Servo) => (LeapSecond::None, change_s.unwrap_or(0)),
            (None, LeapPolicy::Kernel) => (leap_today(change_s, to_change_ns), 0),
        };
        let off_by_ns = if to_change_ns < SOON_NS { i64::from(off_by_s.saturating_abs()) * NS_PER_S } else { 0 };
        Some(Declaration {
            max_error_ns: max_error_ns.saturating_add(self.disciplined.width_ns).saturating_add(off_by_ns),
            est_error_ns: x_ns.saturating_add(estimate.theta_sigma_ns),
            is_synchronised: true,
            leap,
            tai_offset_s: utc.offset_s,
        })
    }

    /// CLOCK_REALTIME as we steer it.
    pub(super) fn system_report(&self, now: RawTime) -> Option<SystemReport> {
        let system = self.disciplined.system.as_ref()?;
        let servo = self.disciplined.servo.as_ref();
        let minus_raw_ns = servo.map(|servo| servo.offset_at(now));
        let estimate = self.estimate_at(now);
        Some(SystemReport {
            steering: system.steering,
            minus_raw_ns,
            ahead_ns: minus_raw_ns.zip(estimate).map(|(clock, estimate)| clock.saturating_sub(estimate.theta_ns)),
            rate: servo.map(Servo::rate),
            offences: system.offence_count,
            declared: system.declared.map(|(_, declaration)| declaration),
        })
    }

    /// What the next run may begin with; `None` while the frequency is not known well.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        let estimate = self.estimate()?;
        let drift = Drift { omega: estimate.omega, sigma: estimate.omega_sigma };
        (drift.sigma <= WORTH_SAVING).then_some(drift)
    }

    /// The agent ends: the clock is left at true time's rate, with no slew under way.
    pub fn leave_clock(&mut self) -> Option<Steer> {
        let Disciplined { servo: Some(servo), system: Some(system), omega: Some(omega), .. } = &mut self.disciplined
        else {
            return None;
        };
        servo.hold(self.now, *omega).filter(|_| system.steering == Steering::Ours)
    }
}

fn told(foreign: Foreign) -> Event {
    match foreign {
        Foreign::Set { by_ns } => Event::RealtimeSet { by_ns },
        Foreign::Slewed { ppb } => Event::RealtimeSlewed { ppb },
    }
}

fn rate_of(rate: KernelRate) -> Option<i64> {
    match rate {
        KernelRate::Steady { ppb } => Some(FreqError::from_fraction(to_f64(ppb) * 1e-9).to_rate_down()),
        KernelRate::Unknown => None,
    }
}
