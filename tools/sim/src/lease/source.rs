//! What a process on a simulated host reads: the library's source of time, made of the world.
//!
//! A [`Reading`] is the host at one true instant. A [`Desk`] reads live: between two readings of one call into the library
//! true time goes on, agents publish, hosts fall asleep, for whoever is preempted there is preempted in the world.

use std::cell::{Cell, RefCell};

use truebound_client::page::Publication;
use truebound_client::tick::SUSPEND_RESOLUTION_NS;
use truebound_client::{Bound, Interval, Reason, Span, Status, Tick, TimeSource, Unavailable};
use truebound_core::io::HostState;

use super::{Break, Certainty};
use crate::rng::Rng;
use crate::world::{MS, US, World};

/// Of what is proved, the planted fault `rate` believes this share.
const BELIEVED: f64 = 0.5;

/// An interval that is no wider than this, ns, is a tight one.
const TIGHT_NS: i64 = 200 * US;

/// One host at one true instant, as a process on it can see it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) raw_ns: i64,
    pub(super) real_ns: i64,
    pub(super) monotonic_ns: i64,
    state: HostState,
    page: Option<Publication>,
    fault: Option<Break>,
}

impl Reading {
    /// At true time `t`: now, or a little later if nothing happens until then.
    pub(super) fn of(world: &mut World, host: usize, t: i64, fault: Option<Break>) -> Self {
        let host = &mut world.hosts[host];
        let raw_ns = host.clock.at(t);
        Reading {
            raw_ns,
            real_ns: host.realtime.at(raw_ns),
            monotonic_ns: host.monotonic.at(raw_ns),
            state: host.state,
            page: host.pages.as_ref().and_then(|pages| pages.at(t)).cloned(),
            fault,
        }
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.page.as_ref().map(|page| page.epoch)
    }

    pub(super) fn certainty(&self) -> Certainty {
        match self.now().map(|now| now.tai.width_ns()) {
            Ok(width_ns) if width_ns <= TIGHT_NS => Certainty::Tight,
            Ok(_) => Certainty::Wide,
            Err(_) => Certainty::None,
        }
    }

    fn page(&self) -> Result<&Publication, Unavailable> {
        self.page.as_ref().ok_or(Unavailable::NoBound(Status::Starting, Reason::NoAnswerYet))
    }

    fn suspended_ns(&self) -> i64 {
        if self.fault == Some(Break::IgnoreSuspend) { 0 } else { self.state.suspended_ns }
    }

    /// What speaks against the page, as `Reader::now_strict` looks for it.
    fn objection(&self, page: &Publication) -> Option<Unavailable> {
        let slept_ns = self.suspended_ns() - page.suspended_ns;
        if slept_ns.abs() >= SUSPEND_RESOLUTION_NS && self.fault != Some(Break::IgnoreSuspend) {
            return Some(Unavailable::Slept);
        }
        (self.state.clocksource != page.clocksource).then_some(Unavailable::ClocksourceChanged)
    }
}

impl TimeSource for Reading {
    fn now(&self) -> Result<Interval, Unavailable> {
        let interval = self.page()?.interval_at(self.raw_ns)?;
        Ok(if self.fault == Some(Break::Rate) { narrowed(interval) } else { interval })
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        let page = self.page()?;
        self.objection(page).map_or(Ok(()), Err)?;
        self.now()
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        let page = self.page()?;
        if self.state.clocksource != page.clocksource {
            return Err(Unavailable::ClocksourceChanged);
        }
        let tick = page.tick_at(self.raw_ns, self.suspended_ns())?;
        Ok(if self.fault == Some(Break::Rate) { slowed(tick) } else { tick })
    }
}

/// Both ends nearer to the middle.
fn narrowed(interval: Interval) -> Interval {
    let lost_ns = (interval.tai.width_ns() as f64 * (1.0 - BELIEVED) / 2.0) as i64;
    let Span { earliest_ns, latest_ns } = interval.tai.plus(lost_ns, -lost_ns);
    Interval {
        earliest_ns: interval.earliest_ns + lost_ns,
        latest_ns: interval.latest_ns - lost_ns,
        tai: Span::new(earliest_ns, latest_ns),
        ..interval
    }
}

/// Rates that leave out the fast and the slow ones among the possible.
fn slowed(tick: Tick) -> Tick {
    let Bound { omega_lo, omega_hi, cap_lo, cap_hi, .. } = tick.rates;
    let nearer = |edge: i64, other: i64| {
        let middle = edge.midpoint(other);
        middle + ((edge - middle) as f64 * BELIEVED) as i64
    };
    let rates = Bound {
        omega_lo: nearer(omega_lo, omega_hi),
        omega_hi: nearer(omega_hi, omega_lo),
        cap_lo: nearer(cap_lo, cap_hi),
        cap_hi: nearer(cap_hi, cap_lo),
        phase_rate: 0,
        ..tick.rates
    };
    Tick { rates, ..tick }
}

/// A process on a host, in the middle of its work.
pub(super) struct Desk<'a> {
    pub(super) world: &'a RefCell<World>,
    pub(super) host: usize,
    pub(super) fault: Option<Break>,
    /// Readings made in this call.
    pub(super) readings: Cell<u32>,
    /// How long it takes from one to the next.
    pub(super) chance: &'a RefCell<Rng>,
}

impl Desk<'_> {
    /// The host now. All but the first reading of a call come later than the call, seldom much later.
    pub(super) fn look(&self) -> Reading {
        let readings = self.readings.replace(self.readings.get() + 1);
        let mut world = self.world.borrow_mut();
        if readings > 0 {
            let mut chance = self.chance.borrow_mut();
            let pause_ns = if chance.chance(0.02) { chance.between(0, 20 * MS) } else { chance.between(0, 2 * US) };
            let mut until = world.now + pause_ns;
            // While it was asleep, something more may have befallen it.
            loop {
                let now = world.now;
                world.run(until - now);
                let awake = world.hosts[self.host].awake_from(until);
                if awake == until {
                    break;
                }
                until = awake;
            }
        }
        let now = world.now;
        Reading::of(&mut world, self.host, now, self.fault)
    }
}

impl TimeSource for Desk<'_> {
    fn now(&self) -> Result<Interval, Unavailable> {
        self.look().now()
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        self.look().now_strict()
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        self.look().tick()
    }
}
