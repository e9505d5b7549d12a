//! How packets wait: laws that forget the packet before, recorded delays, and queues that remember.
//!
//! A queue that remembers is described by its workload: the time until it would be empty. Other traffic arrives in
//! bursts at instants of a Poisson process, each adding its service time; between them the workload falls by one second
//! a second (Lindley). Our packet, of no length, waits for the workload it finds, so two packets sent close together find
//! nearly the same. After a gap much longer than the queue's memory the workload is drawn from its stationary law instead,
//! so that the cost of a packet does not grow with the gap.

use super::chance::{pareto_three_halves, pareto_two, product};
use super::trace::Trace;
use crate::rng::Rng;
use serde::Deserialize;

/// The law of the waiting time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Nobody waits.
    #[default]
    None,
    /// Exponential, each packet anew.
    Exponential(Exponential),
    /// Normal, each packet anew; a packet may be faster than the base delay, though not faster than 0.
    Normal(Normal),
    /// Exponential, and for some packets another exponential on top.
    Mixture(Mixture),
    /// Bursts of cross traffic at several hops.
    Bursts(Bursts),
    /// One hop with bursts of one length.
    Md1(Md1),
    /// Heavy tail, each packet anew.
    Pareto(Pareto),
    /// Recorded one-way delays.
    Trace(Trace),
}

/// See [`Queue::Exponential`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exponential {
    /// Mean wait, µs.
    pub mean_us: f64,
}

impl Default for Exponential {
    fn default() -> Self {
        Exponential { mean_us: 30.0 }
    }
}

/// See [`Queue::Normal`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Normal {
    /// Standard deviation, µs.
    pub sd_us: f64,
}

impl Default for Normal {
    fn default() -> Self {
        Normal { sd_us: 0.1 }
    }
}

/// See [`Queue::Mixture`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mixture {
    /// Mean wait of every packet, µs.
    pub mean_us: f64,
    /// Share of packets that wait again.
    pub chance: f64,
    /// Mean of that second wait, µs.
    pub tail_us: f64,
}

impl Default for Mixture {
    fn default() -> Self {
        Mixture { mean_us: 30.0, chance: 0.2, tail_us: 500.0 }
    }
}

/// See [`Queue::Bursts`]: the middle hop has the whole load, the others half of it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bursts {
    /// Share of the time the middle hop is busy, below 1.
    pub load: f64,
    /// Number of hops.
    pub hops: usize,
    /// Mean service time of a burst, exponential, µs: 6 µs is 5 packets of 1500 bytes at 10 Gb/s.
    pub burst_us: f64,
    /// Rare long waits on top.
    pub incast: Incast,
}

impl Default for Bursts {
    fn default() -> Self {
        Bursts { load: 0.3, hops: 3, burst_us: 6.0, incast: Incast::default() }
    }
}

/// Many senders at once fill a buffer: a rare wait that drains like any queue. There is none on a path without load.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Incast {
    /// Probability for a packet that comes at least 1 ms after the one before; in proportion for one that comes sooner.
    pub chance: f64,
    /// Scale of the wait, µs: the least for a Pareto tail, the mean for a product.
    pub scale_us: f64,
    /// The longest wait, µs.
    pub cap_us: f64,
    /// Its law.
    pub tail: Tail,
}

impl Default for Incast {
    fn default() -> Self {
        Incast { chance: 0.005, scale_us: 20.0, cap_us: 5000.0, tail: Tail::Pareto }
    }
}

/// The law of an incast's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// Pareto with α = 3/2.
    Pareto,
    /// The product of two exponential variables, in place of a lognormal one.
    Product,
}

/// See [`Queue::Md1`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Md1 {
    /// Share of the time the hop is busy, below 1.
    pub load: f64,
    /// Service time of every burst, µs: 1.2 µs is a packet of 1500 bytes at 10 Gb/s.
    pub service_us: f64,
}

impl Default for Md1 {
    fn default() -> Self {
        Md1 { load: 0.3, service_us: 1.2 }
    }
}

/// See [`Queue::Pareto`]: the wait is `scale · (X − 1)` with P(X > x) = x^(−α).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pareto {
    /// Scale of the wait, µs.
    pub scale_us: f64,
    /// 1.5 or 2.
    pub alpha: Alpha,
    /// The longest wait, µs.
    pub cap_us: f64,
}

impl Default for Pareto {
    fn default() -> Self {
        Pareto { scale_us: 10.0, alpha: Alpha::ThreeHalves, cap_us: 5000.0 }
    }
}

/// The exponents whose Pareto law needs only roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub enum Alpha {
    /// 1.5
    ThreeHalves,
    /// 2
    Two,
}

impl TryFrom<f64> for Alpha {
    type Error = &'static str;

    fn try_from(alpha: f64) -> Result<Self, Self::Error> {
        match alpha {
            1.5 => Ok(Alpha::ThreeHalves),
            2.0 => Ok(Alpha::Two),
            _ => Err("alpha is 1.5 or 2"),
        }
    }
}

/// A queue at work.
#[derive(Clone, Debug)]
pub(super) enum Waits {
    Memoryless(Queue),
    Hops { hops: Vec<Hop>, incast: Option<(Incast, f64)> },
}

impl Waits {
    pub(super) fn new(queue: &Queue) -> Self {
        match queue {
            Queue::Bursts(bursts) => {
                let load = |hop| if hop == bursts.hops / 2 { bursts.load } else { bursts.load / 2.0 };
                let hop = |hop| Hop::new(load(hop), Service::Exponential(bursts.burst_us * 1e3));
                Waits::Hops {
                    hops: (0..bursts.hops).map(hop).collect(),
                    incast: (bursts.load > 0.0).then_some((bursts.incast, 0.0)),
                }
            }
            Queue::Md1(md1) => {
                Waits::Hops { hops: vec![Hop::new(md1.load, Service::Fixed(md1.service_us * 1e3))], incast: None }
            }
            other => Waits::Memoryless(other.clone()),
        }
    }

    /// The wait of a packet that comes `gap_ns` after the one before, ns.
    pub(super) fn next(&mut self, at_ns: i64, gap_ns: f64, rng: &mut Rng) -> f64 {
        match self {
            Waits::Memoryless(queue) => memoryless_us(queue, rng) * 1e3 + recorded_ns(queue, at_ns),
            Waits::Hops { hops, incast } => {
                let (mut total_ns, mut gap_here_ns) = (0.0, gap_ns);
                for hop in hops {
                    let (before_ns, now_ns) = hop.next(gap_here_ns, rng);
                    total_ns += now_ns;
                    gap_here_ns = (gap_here_ns + now_ns - before_ns).max(0.0);
                }
                total_ns + incast.as_mut().map_or(0.0, |(spec, left_ns)| spec.next(left_ns, gap_ns, rng))
            }
        }
    }
}

fn memoryless_us(queue: &Queue, rng: &mut Rng) -> f64 {
    match queue {
        Queue::Exponential(q) => q.mean_us * rng.exponential(),
        Queue::Normal(q) => q.sd_us * rng.normal(),
        Queue::Mixture(q) => {
            let tail_us = if rng.chance(q.chance) { q.tail_us * rng.exponential() } else { 0.0 };
            q.mean_us * rng.exponential() + tail_us
        }
        Queue::Pareto(q) => {
            let x = match q.alpha {
                Alpha::ThreeHalves => pareto_three_halves(rng),
                Alpha::Two => pareto_two(rng),
            };
            (q.scale_us * (x - 1.0)).min(q.cap_us)
        }
        Queue::None | Queue::Trace(_) | Queue::Bursts(_) | Queue::Md1(_) => 0.0,
    }
}

fn recorded_ns(queue: &Queue, at_ns: i64) -> f64 {
    if let Queue::Trace(trace) = queue { trace.delay_ns(at_ns) as f64 } else { 0.0 }
}

impl Incast {
    const APART_NS: f64 = 1e6;

    fn next(&self, left_ns: &mut f64, gap_ns: f64, rng: &mut Rng) -> f64 {
        *left_ns = (*left_ns - gap_ns).max(0.0);
        if rng.chance(self.chance * (gap_ns / Self::APART_NS).min(1.0)) {
            let scale = match self.tail {
                Tail::Pareto => pareto_three_halves(rng),
                Tail::Product => product(rng),
            };
            *left_ns = left_ns.max(1e3 * (self.scale_us * scale).min(self.cap_us));
        }
        *left_ns
    }
}

/// The time a burst takes, ns.
#[derive(Clone, Copy, Debug)]
enum Service {
    Exponential(f64),
    Fixed(f64),
}

impl Service {
    fn mean_ns(self) -> f64 {
        let (Service::Exponential(mean_ns) | Service::Fixed(mean_ns)) = self;
        mean_ns
    }

    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Service::Exponential(mean_ns) => mean_ns * rng.exponential(),
            Service::Fixed(mean_ns) => mean_ns,
        }
    }

    /// What is left of the burst a random instant falls into.
    fn residual(self, rng: &mut Rng) -> f64 {
        match self {
            Service::Exponential(mean_ns) => mean_ns * rng.exponential(),
            Service::Fixed(mean_ns) => mean_ns * rng.unit(),
        }
    }
}

/// One hop: its workload as the last packet found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    load: f64,
    service: Service,
    memory_ns: f64,
    workload_ns: f64,
}

impl Hop {
    /// A busier hop's waits have no useful law.
    const LOAD_MAX: f64 = 0.99;
    /// Gaps up to this many relaxation times are played through; the correlation left after them is below 1 %.
    const RELAXATIONS: f64 = 3.0;
    /// And no more than this many bursts.
    const BURSTS_MAX: f64 = 4096.0;

    fn new(load: f64, service: Service) -> Self {
        let load = load.clamp(0.0, Self::LOAD_MAX);
        let slack = 1.0 - load.sqrt();
        let memory_ns = service.mean_ns() * (Self::RELAXATIONS / (slack * slack)).min(Self::BURSTS_MAX);
        Hop { load, service, memory_ns, workload_ns: 0.0 }
    }

    /// The last packet's wait and that of one which comes `gap_ns` later.
    fn next(&mut self, gap_ns: f64, rng: &mut Rng) -> (f64, f64) {
        let before_ns = self.workload_ns;
        self.workload_ns = if self.load <= 0.0 {
            0.0
        } else if gap_ns > self.memory_ns {
            self.stationary(rng)
        } else {
            self.play(gap_ns, rng)
        };
        (before_ns, self.workload_ns)
    }

    /// Pollaczek–Khinchine: a geometric number of residual bursts.
    fn stationary(&self, rng: &mut Rng) -> f64 {
        let mut workload_ns = 0.0;
        while rng.chance(self.load) {
            workload_ns += self.service.residual(rng);
        }
        workload_ns
    }

    fn play(&self, gap_ns: f64, rng: &mut Rng) -> f64 {
        let between_ns = self.service.mean_ns() / self.load;
        let (mut workload_ns, mut left_ns) = (self.workload_ns, gap_ns);
        loop {
            let until_burst_ns = between_ns * rng.exponential();
            if until_burst_ns >= left_ns {
                return (workload_ns - left_ns).max(0.0);
            }
            workload_ns = (workload_ns - until_burst_ns).max(0.0) + self.service.draw(rng);
            left_ns -= until_burst_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_hop_has_the_whole_load() {
        let loads = |hops| match Waits::new(&Queue::Bursts(Bursts { load: 0.6, hops, ..Bursts::default() })) {
            Waits::Hops { hops, .. } => hops.iter().map(|hop| hop.load).collect(),
            Waits::Memoryless(_) => Vec::new(),
        };
        assert_eq!(loads(2), [0.3, 0.6]);
        assert_eq!(loads(3), [0.3, 0.6, 0.3]);
        assert_eq!(loads(5), [0.3, 0.3, 0.6, 0.3, 0.3]);
    }
}
