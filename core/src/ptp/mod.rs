//! PTP (IEEE 1588-2019): ports, masters and messages. What the messages prove is the association's business.
//!
//! statime runs the protocol: best master clock algorithm, port states, message intervals, the duties of a master. It
//! neither measures nor steers anything here: every measurement is taken from the packets (`Finding`), so that their
//! timestamps keep what statime would throw away (which Sync belongs to which Follow_Up, the corrections, the port they
//! came from). In front of it stands a gate against packets that would make it panic or wrap.

mod counters;
mod engine;
mod gate;
mod protocol;
mod speech;
mod tap;
#[cfg(test)]
mod tests;

use crate::io::{PtpTransmit, TxToken};
use crate::stamps::Stamps;
use crate::time::{RawTime, TaiTime};

pub use counters::Counters;
pub(crate) use engine::Engine;
pub use gate::Gated;

/// Tokens of PTP messages have this bit; those of associations and of the NTP responder do not.
pub(crate) const TOKEN_BIT: u64 = 1 << 62;

/// When an event message passed this host's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct When {
    /// What is proved of the instant.
    pub(crate) stamps: Stamps,
    /// The best guess.
    pub(crate) point: RawTime,
    /// The same instant as this host's bound tells it: what a master says. `None` while there is no bound.
    pub(crate) told: Option<TaiTime>,
}

/// A port of the network: sourcePortIdentity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIdentity {
    /// clockIdentity, an EUI-64.
    pub clock: [u8; 8],
    /// portNumber.
    pub port: u16,
}

impl PortIdentity {
    /// Four bytes that stand for the clock, as a reference id of NTP.
    pub(crate) const fn folded(self) -> [u8; 4] {
        folded(self.clock)
    }
}

/// Four bytes that stand for a clock, as a reference id of NTP.
pub(crate) const fn folded([a, b, c, d, e, f, g, h]: [u8; 8]) -> [u8; 4] {
    [a ^ e, b ^ f, c ^ g, d ^ h]
}

/// correctionField: 2⁻¹⁶ ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Correction(pub(crate) i64);

/// A timestamp of a message, ns since the epoch of its timescale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PtpTime(pub(crate) i64);

/// What a grandmaster and the way to it say of themselves (Announce, IEEE 1588-2019 §13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// grandmasterIdentity.
    pub grandmaster: [u8; 8],
    /// stepsRemoved: boundary clocks between it and us.
    pub steps_removed: u16,
    /// grandmasterClockQuality.clockClass.
    pub clock_class: u8,
    /// grandmasterClockQuality.clockAccuracy, as on the wire.
    pub clock_accuracy: u8,
    /// grandmasterPriority1 and 2.
    pub priority: (u8, u8),
    /// timeSource.
    pub time_source: u8,
    /// Timestamps are TAI (flag ptpTimescale).
    pub is_tai: bool,
    /// currentUtcOffset, s, if the flag says that it is valid.
    pub utc_offset_s: Option<i16>,
    /// A leap second ends this day: +1 or −1.
    pub leap: i8,
    /// timeTraceable and frequencyTraceable.
    pub traceable: (bool, bool),
}

/// What a port learnt from the network. A change of state comes before the change of parent that goes with it, and a
/// new parent before what it last announced. Measurements are told once each; all but [`Finding::PeerDelayed`] are the
/// present parent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The best master clock algorithm chose this port as its parent, or nobody any more.
    Parent(Option<PortIdentity>),
    /// The parent announced itself (or had done so just before it became the parent).
    Announced(Announced),
    /// A Sync of the parent with its origin timestamp, one-step or with its Follow_Up. `correction` is the sum of both
    /// messages', still to be added to `origin`; `least` the sum of their negative ones.
    Synced { arrived: When, origin: PtpTime, correction: Correction, least: Correction },
    /// The parent answered a delay request of ours: when it left, when the parent received it. `correction` is still to
    /// be subtracted from `received`; `least` is its negative part.
    Delayed { left: When, received: PtpTime, correction: Correction, least: Correction },
    /// The neighbour answered a peer delay request: t1..t4 of IEEE 1588-2019 §11.4, with the sum of corrections. The
    /// neighbour's instants are of its own clock and good for a difference only; a one-step answer gives the same one
    /// twice (perhaps 0) and its turnaround as a correction.
    PeerDelayed { left: When, received: PtpTime, sent: PtpTime, arrived: When, correction: Correction },
    /// The port's state changed (its name as in the standard, e.g. `SLAVE`).
    State(PortState),
}

/// portState (IEEE 1588-2019 §8.2.15.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortState {
    /// No link, or not started.
    #[default]
    Initializing,
    /// Waiting for Announces.
    Listening,
    /// Tells the time.
    Master,
    /// A better master is on this link.
    Passive,
    /// Follows its parent.
    Slave,
    /// Out of order.
    Faulty,
}

/// What a master says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quality {
    /// clockClass.
    pub(crate) clock_class: u8,
    /// clockAccuracy, as on the wire: never better than the bound.
    pub(crate) clock_accuracy: u8,
    /// timeSource.
    pub(crate) time_source: u8,
    /// currentUtcOffset, s, if known.
    pub(crate) utc_offset_s: Option<i16>,
    /// A leap second ends this day: +1 or −1.
    pub(crate) leap: i8,
    /// Time and frequency are traceable to a primary reference.
    pub(crate) is_traceable: bool,
}

/// What the ports want done, and what they learnt.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Send this.
    Transmit(PtpTransmit),
    /// This port learnt something.
    Found(crate::io::PtpPort, Finding),
}

/// Names a message of ours.
pub(crate) const fn is_ptp(token: TxToken) -> bool {
    token.0 >> 62 == 1
}
