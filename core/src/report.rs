//! What the agent believes, for status: a snapshot, nothing that changes it.

use core::net::SocketAddr;

use truebound_client::bound::Bound;
use truebound_client::host::Foretold;
use truebound_client::{Reason, Status};

use crate::association::Counters;
use crate::association::ptp::PtpVote;
use crate::bound::Terms;
use crate::estimate::Estimate;
use crate::foreign::RealtimeReport;
use crate::io::{AssociationId, Declaration, PhcId};
use crate::phc::PhcRelation;
use crate::ptp::{Announced, Counters as PtpCounters, PortIdentity, PortState};
use crate::responder::ServerCounters;
use crate::system_clock::Steering;
use crate::time::RawTime;

/// The agent as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentReport {
    /// When.
    pub at: RawTime,
    /// State of the bound.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// Epoch of the bound.
    pub epoch: u64,
    /// The bound, if there is one.
    pub bound: Option<Bound>,
    /// Its terms.
    pub terms: Terms,
    /// The best estimate.
    pub estimate: Option<Estimate>,
    /// Name of the source that carries it.
    pub source: Option<String>,
    /// Independence groups: configured, answering, and how many may lie.
    pub groups: (usize, usize, usize),
    /// The sources.
    pub sources: Vec<SourceReport>,
    /// The responder, where it is on.
    pub server: Option<ServerCounters>,
    /// The PTP ports.
    pub ptp: Vec<PtpPortReport>,
    /// What holds if the operator's word does too.
    pub asserted: Option<Bound>,
    /// The PHCs against raw time.
    pub phcs: Vec<(PhcId, PhcRelation)>,
    /// What others did to CLOCK_REALTIME.
    pub realtime: RealtimeReport,
    /// CLOCK_REALTIME, where we steer it.
    pub system: Option<SystemReport>,
    /// What the hypervisor foretells.
    pub foretold: Foretold,
}

/// CLOCK_REALTIME as we steer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemReport {
    /// Who steers it.
    pub steering: Steering,
    /// TAI as it shows it, less raw time, ns.
    pub minus_raw_ns: Option<i64>,
    /// How far it is ahead of the estimate, ns: what is still to be slewed.
    pub ahead_ns: Option<i64>,
    /// The rate that it was given against raw time, 2⁻⁴⁰.
    pub rate: Option<i64>,
    /// How often somebody else turned or moved it.
    pub offences: u64,
    /// What the kernel tells of it.
    pub declared: Option<Declaration>,
}

/// What stamps a PTP port's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampKind {
    /// The NIC.
    Hardware,
    /// The kernel.
    Kernel,
    /// Nobody: raw time is read before and after.
    User,
}

impl StampKind {
    /// The word used in JSON, logs and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StampKind::Hardware => "hardware",
            StampKind::Kernel => "kernel",
            StampKind::User => "user",
        }
    }
}

/// One PTP port.
#[derive(Clone, Debug, PartialEq)]
pub struct PtpPortReport {
    /// The operator's name for it.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// domainNumber.
    pub domain: u8,
    /// Is its link there?
    pub is_up: bool,
    /// Its state.
    pub state: PortState,
    /// Whom it follows.
    pub parent: Option<PortIdentity>,
    /// What the parent says.
    pub announced: Option<Announced>,
    /// What stamps its messages.
    pub stamps: StampKind,
    /// What the parent's messages may enter.
    pub vote: PtpVote,
    /// Mean delay of the link, where it is measured peer to peer, ns.
    pub peer_delay_ns: Option<i64>,
    /// Messages whose stamps were missing: transmit, receive.
    pub missing_stamps: (u64, u64),
    /// Stamps dropped because a clock was set or slewed under them.
    pub contradicted_stamps: u64,
    /// What came and went.
    pub counters: PtpCounters,
}

/// What the vote says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No answer yet, or its name has no address.
    Waiting,
    /// It no longer answers.
    Unreachable,
    /// It agrees with the quorum.
    Truechimer,
    /// It does not.
    Falseticker,
    /// It contradicted its own past and has to prove itself.
    Proving,
    /// It has no vote: it follows us, or nothing bounds its error (a boundary clock; a PHC that states none).
    NoVote,
    /// It told us to go away.
    Forbidden,
}

impl Standing {
    /// The word used in JSON, logs and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Unreachable => "unreachable",
            Standing::Truechimer => "truechimer",
            Standing::Falseticker => "falseticker",
            Standing::Proving => "proving",
            Standing::NoVote => "no-vote",
            Standing::Forbidden => "forbidden",
        }
    }
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceReport {
    /// Its association, where it has one.
    pub association: Option<AssociationId>,
    /// The operator's name for it.
    pub name: String,
    /// Its address, where it has one.
    pub address: Option<SocketAddr>,
    /// What the vote says of it.
    pub standing: Standing,
    /// Is it declared truthful?
    pub trust: bool,
    /// Does it carry the estimate?
    pub carries: bool,
    /// Its independence group.
    pub group: String,
    /// Stratum it claims.
    pub stratum: u8,
    /// Shift register of the last eight polls.
    pub reach: u8,
    /// Polling interval, ns.
    pub poll_ns: i64,
    /// ns since the last usable answer.
    pub age_ns: Option<i64>,
    /// Estimated offset of the agent's time (middle of the bound) from this source, ns; local − source.
    pub offset_ns: Option<i64>,
    /// Last round trip, ns.
    pub delay_ns: i64,
    /// Least round trip, ns.
    pub delay_min_ns: Option<i64>,
    /// Share of recent one-way probes that met no queue, where it is known.
    pub pure_ratio: Option<f64>,
    /// E: what it claims of itself, ns.
    pub claim_ns: i64,
    /// Half-width of its own region, ns; `None`: it proves nothing.
    pub half_width_ns: Option<i64>,
    /// Half-width of what it asserts, ns, where it may assert something.
    pub asserted_half_width_ns: Option<i64>,
    /// Did both ends of the last exchange have kernel stamps, or the NIC's?
    pub has_kernel_stamps: bool,
    /// Were they the NIC's?
    pub has_hardware_stamps: bool,
    /// Kernel stamps that were missing: transmit, receive.
    pub missing_stamps: (u64, u64),
    /// Kernel stamps dropped because REALTIME moved under them.
    pub contradicted_stamps: u64,
    /// Everything that was counted.
    pub counters: Counters,
}
