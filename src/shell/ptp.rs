//! The shell's part in PTP: ports that come and go, event messages that are stamped, PHCs that are read and steered.
//!
//! The core places a stamp in raw time by readings of the stamping clock from before and after it. So both clocks are
//! read before an event message is sent, and again when its stamps (or those of a received one) are there, before the
//! core sees them.

use std::io::{self, ErrorKind};

use truebound_core::io::{HardwareStamp, Input, PhcId, PtpChannel, PtpPort, PtpReceived, PtpTransmit, Steer};
use truebound_core::settings::PtpSettings;
use truebound_core::time::RawTime;
use truebound_hw::socket::Batch;

use super::{BATCH, FRESH_CROSS_NS, Shell};
use crate::log;
use crate::ptp_ports::Changes;

impl Shell {
    // ---- ports -----------------------------------------------------------------------------------------------------

    /// Opens ports whose interface came, closes those whose interface went.
    pub(super) fn tend_ptp(&mut self) {
        let changes = self.ptp.tend();
        self.tell_ports(changes);
    }

    /// Before other settings hold: closes the ports that they change.
    pub(super) fn close_changed_ptp(&mut self, settings: &[PtpSettings]) {
        let changes = self.ptp.configure(settings);
        self.tell_ports(changes);
    }

    /// Tells what became of the ports.
    pub(super) fn tell_ports(&mut self, changes: Changes) {
        for (name, complaint) in changes.complaints {
            log::warn("ptp", &format!("{name}: {complaint}"));
        }
        for token in changes.lost {
            self.step(Input::Unsent { token }, "");
        }
        for (port, link) in changes.links {
            self.step(Input::Link { port, link }, "");
        }
        self.settle();
    }

    // ---- clocks ----------------------------------------------------------------------------------------------------

    pub(super) fn read_phc(&mut self, phc: PhcId) {
        match self.phcs.read(phc, &self.clock) {
            Ok(reading) => self.step(Input::PhcCrossed(reading), ""),
            Err(complaint) => complain(complaint),
        }
    }

    pub(super) fn steer_phc(&mut self, phc: PhcId, steer: Steer) {
        if let Err(complaint) = self.phcs.steer(phc, steer) {
            complain(complaint);
        }
    }

    /// Reads CLOCK_REALTIME and this PHC, unless they were read just now.
    pub(super) fn freshen(&mut self, phc: Option<PhcId>) {
        let now = self.clock.raw_now();
        let is_stale = |read_at: RawTime| now.ns_since(read_at) > FRESH_CROSS_NS;
        let is_phc_stale = |&phc: &PhcId| self.phcs.read_at(phc).is_none_or(is_stale);
        let stale_phc = phc.filter(is_phc_stale);
        if is_stale(self.last_cross) {
            self.cross();
        }
        if let Some(phc) = stale_phc {
            self.read_phc(phc);
        }
    }

    // ---- sending -----------------------------------------------------------------------------------------------------

    pub(super) fn ptp_transmit(&mut self, transmit: Box<PtpTransmit>) {
        if transmit.channel == PtpChannel::General {
            if let Some(open) = self.ptp.get(transmit.port) {
                // One that does not leave is as one that is lost on the way.
                let _ = open.watch(PtpChannel::General).get().send(&transmit.data, transmit.is_link_local);
            }
            return;
        }
        match self.ptp.take_turn(transmit) {
            Ok(Some(transmit)) => self.send_event(&transmit),
            Ok(None) => {}
            Err(token) => self.step(Input::Unsent { token }, ""),
        }
    }

    fn send_event(&mut self, transmit: &PtpTransmit) {
        let (port, token) = (transmit.port, transmit.token);
        // A tenth of a millisecond at most, and seldom: not worth a timer.
        while self.ptp.is_close(port, self.clock.raw_now()) {
            std::hint::spin_loop();
        }
        let phc = self.ptp.get(port).and_then(|open| open.phc());
        self.freshen(phc);
        let wants_kernel = self.use_kernel_stamps;
        let user_before = self.clock.raw_now();
        let sent = match self.ptp.get(port) {
            Some(open) => open.watch(PtpChannel::Event).get().send(&transmit.data, transmit.is_link_local),
            None => Err(ErrorKind::NotConnected.into()),
        };
        let user_after = self.clock.raw_now();
        if sent.is_err() {
            self.ptp_outbox.extend(self.ptp.ended(port, token));
            return self.step(Input::Unsent { token }, "");
        }
        if let Some(open) = self.ptp.get_mut(port) {
            open.await_stamps(transmit, (user_before, user_after), wants_kernel);
        }
        if phc.is_some() {
            self.ptp.began(port, token, user_after);
        } else {
            self.step(Input::Sent { token, user_before, user_after, kernel: None, hardware: None }, "");
        }
        self.collect_ptp_stamps(port);
    }

    /// Stamps of what was sent, as they come, each by itself.
    fn collect_ptp_stamps(&mut self, port: PtpPort) {
        let Some(open) = self.ptp.get_mut(port) else { return };
        let (stamps, phc) = (open.stamps(), open.phc());
        let user_after = self.clock.raw_now();
        if stamps.iter().any(|stamped| stamped.kernel.is_some()) {
            self.cross();
        }
        if let Some(phc) = phc.filter(|_| stamps.iter().any(|stamped| stamped.hardware.is_some())) {
            self.read_phc(phc);
        }
        for stamped in stamps {
            let (token, user_before, kernel) = (stamped.token, stamped.user_before, stamped.kernel);
            let hardware = stamped.hardware.zip(phc).map(|(time, phc)| HardwareStamp { phc, time });
            if hardware.is_some() {
                self.ptp_outbox.extend(self.ptp.ended(port, token));
            }
            self.step(Input::Sent { token, user_before, user_after, kernel, hardware }, "");
        }
    }

    // ---- receiving ---------------------------------------------------------------------------------------------------

    /// As [`Shell::socket_ready`].
    pub(super) fn ptp_ready(&mut self, port: PtpPort, channel: PtpChannel) -> bool {
        let Some(open) = self.ptp.get(port) else { return false };
        open.watch(channel).look();
        if channel == PtpChannel::Event {
            self.collect_ptp_stamps(port);
        }
        let may_hold_more = self.drain(|shell| shell.ptp_receive(port, channel));
        if may_hold_more && let Some(open) = self.ptp.get(port) {
            open.watch(channel).look_again();
        }
        may_hold_more
    }

    /// One batch of at least one message.
    fn ptp_receive(&mut self, port: PtpPort, channel: PtpChannel) -> io::Result<()> {
        let Some(open) = self.ptp.get(port) else { return Err(ErrorKind::WouldBlock.into()) };
        let phc = open.phc();
        let mut batch = self.batch.take().unwrap_or_else(|| Batch::new(BATCH));
        let socket = open.watch(channel).get();
        let received = socket.receive(&mut batch);
        if !matches!(received, Ok(1..)) {
            self.batch = Some(batch);
            return Err(received.err().unwrap_or_else(|| ErrorKind::WouldBlock.into()));
        }
        let messages = socket.messages(&batch);
        let user_after = self.clock.raw_now();
        if channel == PtpChannel::Event {
            self.cross();
            if let Some(phc) = phc {
                self.read_phc(phc);
            }
        }
        for message in messages {
            let received = PtpReceived {
                port,
                channel: message.channel,
                data: message.data,
                kernel: message.kernel.filter(|_| self.use_kernel_stamps),
                hardware: message.hardware.zip(phc).map(|(time, phc)| HardwareStamp { phc, time }),
                user_after,
            };
            self.step(Input::PtpReceived(received), "");
        }
        self.batch = Some(batch);
        Ok(())
    }

    // ---- time --------------------------------------------------------------------------------------------------------

    /// When something is to be done without an input.
    pub(super) fn next_deadline(&self) -> RawTime {
        self.ptp.deadline().map_or(self.wake_at, |stamp| stamp.min(self.wake_at))
    }

    /// It is that time: of a stamp that did not come, or of the core's.
    pub(super) fn woken(&mut self) {
        if self.ptp.deadline().is_some_and(|stamp| stamp < self.wake_at) {
            self.give_stamps_up();
            self.settle();
        } else {
            self.handle(Input::Wakeup);
        }
    }

    /// Messages whose NIC's stamp did not come are told without it, and the next ones have their turn.
    fn give_stamps_up(&mut self) {
        let now = self.clock.raw_now();
        for port in self.ptp.late_ports(now) {
            // It may have come this very moment.
            self.collect_ptp_stamps(port);
        }
        while let Some((overdue, next)) = self.ptp.give_up(now) {
            self.ptp_outbox.extend(next);
            if let Some(late) = overdue {
                let (token, user_before, user_after) = (late.token, late.user_before, late.user_after);
                self.step(Input::Sent { token, user_before, user_after, kernel: None, hardware: None }, "");
            }
        }
    }
}

fn complain(complaint: Option<String>) {
    if let Some(complaint) = complaint {
        log::warn("phc", &complaint);
    }
}
