//! How a datagram leaves one agent and reaches another, and what is read and stamped on the way.

use std::net::SocketAddr;

use truebound_core::io::{AssociationId, Input, Output, Received, SocketId, Steer, Transmit};
use truebound_core::settings::Discipline;
use truebound_core::time::{RawTime, RealTime};
use truebound_core::units::FreqError;

use super::flight::{self, Bytes, Flight};
use super::queue::What;
use super::settings::{address, index_of};
use super::{MS, NTP_PORT, US, World};
use crate::nic::Stamps;

/// Association n of a host sends from this port + n.
const CLIENT_PORTS: u16 = 10_000;
/// Packets leave a NIC at least this far apart, ns.
const PACKET_NS: i64 = 70;

impl World {
    pub(super) fn handle(&mut self, index: usize, t: i64, input: Input<'_>) {
        let host = &mut self.hosts[index];
        let now = host.raw(t);
        host.agent.handle(now, input);
    }

    /// Does what the agent wants done.
    pub(super) fn drain(&mut self, index: usize, t: &mut i64) {
        loop {
            let output = self.hosts[index].agent.poll();
            if self.hosts[index].is_recorded {
                self.record(index, &output);
            }
            match output {
                Output::Transmit(transmit) => self.transmit(index, t, &transmit),
                Output::ReadCross => self.cross(index, t),
                Output::Resolve { source, host, port } => self.resolve(*t + MS, index, source, &host, port),
                // Simulated hosts have no PTP ports and no PHCs.
                Output::Close(_)
                | Output::PtpTransmit(_)
                | Output::ReadPhc(_)
                | Output::SteerPhc(..)
                | Output::ReadReference(..)
                | Output::Feed(_) => {}
                Output::Declare(declaration) => {
                    let host = &mut self.hosts[index];
                    host.catch_up(*t);
                    host.told = Some((host.real(*t), declaration));
                }
                Output::Steer(steer) if self.hosts[index].settings.discipline == Discipline::System => {
                    self.steer_realtime(index, t, steer);
                }
                Output::Steer(_) => {
                    // Between steering and publishing a reader finds the old page.
                    let host = &mut self.hosts[index];
                    host.catch_up(*t);
                    host.read(*t);
                    *t += 100;
                }
                Output::Publish(publication) => {
                    self.hosts[index].publish(*t, *publication);
                    *t += 100;
                }
                Output::Event(event) => self.hosts[index].events.push((*t, event)),
                Output::WakeAt(deadline) => {
                    self.sleep_until(index, *t, deadline);
                    return;
                }
            }
        }
    }

    /// As the shell does it: the clock is read before and after.
    fn steer_realtime(&mut self, index: usize, t: &mut i64, steer: Steer) {
        self.cross(index, t);
        *t += 1_000;
        let host = &mut self.hosts[index];
        host.catch_up(*t);
        let raw_ns = host.raw(*t).as_ns();
        match steer {
            Steer::Rate { rate } => {
                let ppb = (FreqError::from_rate(rate).as_fraction() * 1e9).round() as i64;
                host.realtime.slew(raw_ns, ppb);
                host.monotonic.slew(raw_ns, ppb);
            }
            Steer::Step { ns } => {
                host.realtime.step(raw_ns, ns, false);
                host.told = None;
            }
        }
        *t += 500;
        self.handle(index, *t, Input::Steered { steer, is_done: true });
        self.cross(index, t);
    }

    fn record(&mut self, index: usize, output: &Output) {
        let record = match output {
            Output::Transmit(transmit) => format!("{transmit:?} {:?}", transmit.data.as_slice()),
            other => format!("{other:?}"),
        };
        self.hosts[index].outputs.push(record);
    }

    fn sleep_until(&mut self, index: usize, t: i64, deadline: RawTime) {
        let host = &mut self.hosts[index];
        let latency = host.rng.between(US, 60 * US);
        host.busy_until = t;
        host.wake_generation = host.wake_generation.wrapping_add(1);
        let generation = host.wake_generation;
        if deadline < RawTime::MAX {
            let at = host.clock.when(deadline.as_ns()).max(t) + latency;
            self.queue.push(at, What::Wake { host: index as u32, generation });
        }
    }

    /// RAW, REALTIME, RAW.
    fn cross(&mut self, index: usize, t: &mut i64) {
        let host = &mut self.hosts[index];
        let step_ns = host.spec.nic.cross_ns;
        let before = host.raw(*t);
        *t += host.rng.between(step_ns, 2 * step_ns + 1);
        let real = host.real(*t);
        *t += host.rng.between(step_ns, 2 * step_ns + 1);
        let after = host.raw(*t).plus_ns(1);
        *t += 10;
        let reading = host.realtime.reading(before, real, after);
        self.handle(index, *t, Input::CrossStamped(reading));
    }

    fn transmit(&mut self, index: usize, t: &mut i64, transmit: &Transmit) {
        let host = &mut self.hosts[index];
        host.digest_bytes(transmit.data.as_slice());
        host.probes += u64::from(matches!(transmit.socket, SocketId::Client(_)));
        self.cross(index, t);
        let host = &mut self.hosts[index];
        let user_before = host.raw(*t);
        *t += host.spec.send_ns + host.rng.between(200, 2_000);
        let (kernel, leaves) = match host.spec.nic.stamps {
            Stamps::Software(_) => {
                let kernel = host.real(*t);
                let leaves = (*t + host.spec.nic.wire_distance_ns(&mut host.rng)).max(host.last_left + PACKET_NS);
                *t += host.rng.between(300, 3_500);
                (kernel, leaves)
            }
            Stamps::Hardware(_) => {
                let leaves = (*t + host.rng.between(300, 2_000)).max(host.last_left + PACKET_NS);
                let at = leaves + host.spec.nic.noise_ns(true, &mut host.rng);
                let kernel = host.real(at);
                *t = leaves + host.rng.between(1_000, 4_000);
                (kernel, leaves)
            }
        };
        host.last_left = leaves;
        let kernel = RealTime::from_ns(host.spec.nic.quantised(kernel.as_ns()));
        let kernel = self.driver_says(index, kernel);
        self.fly(index, leaves, transmit);
        let host = &mut self.hosts[index];
        let user_after = host.raw(*t);
        let is_late = host.spec.nic.is_late;
        if is_late || kernel.is_none() {
            self.handle(
                index,
                *t,
                Input::Sent { token: transmit.token, user_before, user_after, kernel: None, hardware: None },
            );
        }
        if kernel.is_some() {
            self.cross(index, t);
            let user_after = self.hosts[index].raw(*t);
            self.handle(
                index,
                *t,
                Input::Sent { token: transmit.token, user_before, user_after, kernel, hardware: None },
            );
        }
    }

    /// The driver hands the transmit stamp on, loses it, or takes the one of the packet before for it.
    fn driver_says(&mut self, index: usize, stamp: RealTime) -> Option<RealTime> {
        let host = &mut self.hosts[index];
        let before = host.last_stamp.replace(stamp);
        if host.spec.nic.swapped > 0.0 && host.rng.chance(host.spec.nic.swapped) {
            return before;
        }
        (host.spec.nic.tx_lost <= 0.0 || !host.rng.chance(host.spec.nic.tx_lost)).then_some(stamp)
    }

    fn fly(&mut self, from: usize, leaves: i64, transmit: &Transmit) {
        let Some(to) = index_of(transmit.to.ip()).filter(|&to| to < self.hosts.len()) else { return };
        let is_answer = matches!(transmit.socket, SocketId::Server(_));
        let port = match transmit.socket {
            SocketId::Server(_) => NTP_PORT,
            SocketId::Client(id) => CLIENT_PORTS + id.0 as u16,
        };
        let source = SocketAddr::new(address(from), port);
        let mut flight = Flight { from: source, to: transmit.to, data: Bytes::new(transmit.data.as_slice()) };
        if is_answer {
            self.tell(from, leaves, &mut flight);
        }
        if let Some(tamper) = &mut self.tamper {
            tamper(&mut flight);
        }
        if self.hosts[from].is_cut || self.hosts[to].is_cut {
            return;
        }
        let path = self.path(from, to);
        let path = &mut self.paths[path];
        if path.drop > 0.0 && path.rng.chance(path.drop) {
            return;
        }
        for arrives in path.link.carry(leaves) {
            let host = &mut self.hosts[to];
            // The receiver's kernel stamps a little after the wire.
            let at = arrives + path.delay_ns + host.spec.nic.wire_distance_ns(&mut host.rng);
            self.queue.arrive(at, to, flight);
        }
    }

    /// What a server tells that is not what it knows.
    fn tell(&mut self, from: usize, leaves: i64, flight: &mut Flight) {
        let host = &self.hosts[from];
        if host.shift.is_some() || host.smears {
            flight::shift_answer(&mut flight.data, host.shift_ns(leaves));
        }
        if host.spec.rounds_down {
            flight::round_down_header(&mut flight.data);
        }
    }

    pub(super) fn arrive(&mut self, index: usize, slot: u32) {
        let host = &mut self.hosts[index];
        let is_lost = host.spec.nic.rx_lost > 0.0 && host.rng.chance(host.spec.nic.rx_lost);
        let at = self.now + host.spec.nic.noise_ns(false, &mut host.rng);
        let real_ns = host.real(at).as_ns();
        let kernel = RealTime::from_ns(host.spec.nic.quantised(real_ns));
        let wake = 2 * US + (host.rng.exponential() * host.spec.wake_ns as f64) as i64;
        let packet = self.queue.packet(slot);
        packet.kernel = (!is_lost).then_some(kernel);
        if packet.flight.to.port() == NTP_PORT && (host.shift.is_some() || host.smears) {
            flight::unshift_request(&mut packet.flight.data, host.shift_ns(self.now));
        }
        self.queue.push(self.now + wake, What::Deliver { host: index as u32, packet: slot });
    }

    pub(super) fn deliver(&mut self, index: usize, slot: u32) {
        let packet = self.queue.take(slot);
        let mut t = self.now.max(self.hosts[index].busy_until);
        let host = &mut self.hosts[index];
        host.catch_up(t);
        let user_after = host.raw(t);
        self.cross(index, &mut t);
        let flight = &packet.flight;
        let port = flight.to.port();
        let socket = match port {
            NTP_PORT => SocketId::Server(0),
            _ => SocketId::Client(AssociationId(u32::from(port.saturating_sub(CLIENT_PORTS)))),
        };
        let (from, to) = (flight.from, Some(flight.to.ip()));
        let received =
            Received { socket, from, to, data: &flight.data, kernel: packet.kernel, hardware: None, user_after };
        self.handle(index, t, Input::Received(received));
        self.drain(index, &mut t);
    }
}
