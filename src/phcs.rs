//! The PTP hardware clocks that the core asks for: opened when first used, given up when they fail, tried again when next
//! asked for.

use std::collections::BTreeMap;
use std::io;

use truebound_core::io::{PhcId, PhcReading, Steer};
use truebound_core::time::RawTime;
use truebound_hw::clock::HostClock;
use truebound_hw::phc::Phc;

/// One of them.
#[derive(Default)]
struct Slot {
    phc: Option<Phc>,
    /// The end of the last reading.
    read_at: Option<RawTime>,
    /// What was last complained of.
    complaint: String,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Phcs {
    slots: BTreeMap<PhcId, Slot>,
}

impl Phcs {
    /// Reads one against raw time. An error is told once, until it is another one or none.
    pub(crate) fn read(&mut self, id: PhcId, clock: &HostClock) -> Result<PhcReading, Option<String>> {
        let slot = self.slots.entry(id).or_default();
        let reading = slot.with(id, |phc| clock.cross_phc(phc));
        slot.read_at = reading.as_ref().ok().map(|reading| reading.cross.after);
        slot.told(id, "read", reading)
    }

    /// The end of its last reading.
    pub(crate) fn read_at(&self, id: PhcId) -> Option<RawTime> {
        self.slots.get(&id)?.read_at
    }

    /// Steers one. What was read of it before says nothing of what it shows from now on.
    pub(crate) fn steer(&mut self, id: PhcId, steer: Steer) -> Result<(), Option<String>> {
        let slot = self.slots.entry(id).or_default();
        let done = slot.with(id, |phc| match steer {
            Steer::Rate { rate } => phc.set_rate(rate).map(drop),
            Steer::Step { ns } => phc.step_ns(ns),
        });
        slot.read_at = None;
        slot.told(id, "steer", done)
    }
}

impl Slot {
    /// Does something with the open clock. One that failed may be another device by now: it is opened anew next time.
    fn with<T>(&mut self, id: PhcId, act: impl FnOnce(&Phc) -> io::Result<T>) -> io::Result<T> {
        let phc = match self.phc.take() {
            Some(phc) => phc,
            None => Phc::open(id)?,
        };
        let outcome = act(&phc)?;
        self.phc = Some(phc);
        Ok(outcome)
    }

    fn told<T>(&mut self, id: PhcId, what: &str, outcome: io::Result<T>) -> Result<T, Option<String>> {
        outcome.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "; the agent needs read and write access to the device",
                io::ErrorKind::NotFound => "; no driver offers such a clock",
                _ => "",
            };
            let complaint = format!("cannot {what} /dev/ptp{}: {error}{hint}", id.0);
            let is_new = complaint != self.complaint;
            self.complaint.clone_from(&complaint);
            is_new.then_some(complaint)
        })
    }
}
