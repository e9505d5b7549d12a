//! What happened, as types; the shell puts them into words.

use core::net::SocketAddr;

use truebound_client::host::Foretold;
use truebound_client::{Reason, Status};

use crate::association::ptp::PtpVote;
use crate::io::{AssociationId, PhcId};
use crate::ptp::{PortIdentity, PortState};
use crate::system_clock::Offence;

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The status or its reason changed.
    Status {
        /// Now.
        status: Status,
        /// Why.
        reason: Reason,
    },
    /// Earlier intervals are withdrawn.
    NewEpoch {
        /// The new number.
        epoch: u64,
        /// Why.
        reason: Reason,
    },
    /// An association began.
    Added {
        /// Which.
        association: AssociationId,
        /// The source's name.
        name: String,
        /// Its address, where it has one.
        address: Option<SocketAddr>,
    },
    /// A PTP port's state changed.
    PtpState {
        /// The port's name.
        port: String,
        /// Now.
        state: PortState,
    },
    /// A PTP port has another parent, or none any more.
    PtpParent {
        /// The port's name.
        port: String,
        /// Now.
        parent: Option<PortIdentity>,
    },
    /// What a master's word counts for changed.
    PtpVote {
        /// The port's name.
        port: String,
        /// Now.
        vote: PtpVote,
    },
    /// A grandmaster announces a UTC offset that the list of leap seconds contradicts. The bound does not rest on it.
    UtcOffset {
        /// The port's name.
        port: String,
        /// Announced, s.
        announced_s: i32,
        /// By the list, s.
        listed_s: i32,
    },
    /// A PTP port's link came or went.
    PtpLink {
        /// The port's name.
        port: String,
        /// Is it there?
        is_up: bool,
        /// Its stamps are the NIC's.
        is_hardware: bool,
    },
    /// An association ended.
    Removed {
        /// Which.
        association: AssociationId,
    },
    /// A source answers (again), or no longer does.
    Reachable {
        /// Which.
        association: AssociationId,
        /// Does it?
        reachable: bool,
    },
    /// The vote turned against a source, or back.
    Verdict {
        /// Which.
        association: AssociationId,
        /// Falseticker now?
        falseticker: bool,
        /// How far its interval is from the voted region, ns; 0 when it touches it.
        distance_ns: i64,
    },
    /// A source contradicts its own past.
    SelfContradiction {
        /// Which.
        association: AssociationId,
        /// By how much the constraints exclude each other, ns.
        by_ns: i64,
    },
    /// What a source asserts contradicts itself: the operator's word about the way to it does not hold.
    AssertedContradiction {
        /// Which.
        association: AssociationId,
        /// By how much the constraints exclude each other, ns.
        by_ns: i64,
    },
    /// The server asked us to poll less, or to go away.
    KissOfDeath {
        /// Which.
        association: AssociationId,
        /// The four characters of the kiss code.
        code: [u8; 4],
    },
    /// CLOCK_REALTIME was stepped or slewed under a stamp; the stamp was not used.
    StampDropped {
        /// Which association's.
        association: AssociationId,
    },
    /// An audit of BOUND §7 failed.
    Audit {
        /// Which one.
        what: Audit,
        /// By how much: ns, or 2⁻⁴⁰ s/s for frequencies.
        by: i64,
    },
    /// A source's name has no address.
    Unresolved {
        /// The source's name.
        name: String,
    },
    /// A PHC that we steer was stepped.
    PhcStepped {
        /// Which.
        phc: PhcId,
        /// By how much, ns.
        ns: i64,
    },
    /// The hypervisor foretells a disruption, or takes it back.
    Foretold {
        /// Now.
        what: Foretold,
    },
    /// Somebody set CLOCK_REALTIME. The bound does not rest on it. Told once a minute at most.
    RealtimeSet {
        /// By about how much, ns.
        by_ns: i64,
    },
    /// Somebody turned CLOCK_REALTIME's rate by more than a locked daemon does. The bound does not rest on it. Told once
    /// a minute at most.
    RealtimeSlewed {
        /// Its rate against raw time now, ppb; `None`: a phase is slewed away.
        ppb: Option<i64>,
    },
    /// Somebody else turned or moved the system clock, which we steer.
    Rival {
        /// What he did.
        offence: Offence,
        /// It was once too often: we leave the clock to him.
        we_yield: bool,
    },
    /// The kernel refused to steer the system clock.
    SteerRefused,
    /// The disciplined clock was stepped.
    Stepped {
        /// By how much, ns.
        ns: i64,
    },
}

/// The permanent audits of BOUND §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// The estimated frequency left the proved interval.
    Frequency,
    /// The region from user stamps alone excludes the published one.
    KernelFree,
    /// The joint region is suspiciously narrow.
    Narrow,
    /// The estimate lies outside the region.
    Estimate,
    /// The frequency left the spread of this boot (D).
    Spread,
}
