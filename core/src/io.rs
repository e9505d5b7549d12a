//! What goes into the core and what comes out: the whole interface between the agent and any world, real or simulated.

use core::net::{IpAddr, SocketAddr};

use truebound_client::bound::Bound;
use truebound_client::host::{Foretold, VmMark};
use truebound_client::page::Publication;

use crate::event::Event;
use crate::settings::{ReferenceClock, Settings, SourceSettings};
use crate::time::{PhcTime, RawTime, RealTime};
use crate::units::FreqError;

/// One relation with one address. Numbers are never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociationId(pub u32);

/// Which socket a datagram came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketId {
    /// The association's own socket, connected to its server; the shell opens it at the first use.
    Client(AssociationId),
    /// A socket of the responder: index of the listening address.
    Server(u16),
}

/// Names one transmission, so that its stamps find back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxToken(pub u64);

/// A PTP hardware clock by the kernel's number: N of /dev/ptpN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhcId(pub u32);

/// What a NIC's own clock showed when a packet passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareStamp {
    /// Which clock.
    pub phc: PhcId,
    /// What it showed.
    pub time: PhcTime,
}

/// One RAW, REALTIME, RAW reading, and what the kernel said of REALTIME's rate around it; or the same of a PHC.
///
/// CLOCK_REALTIME (or the PHC) showed `real` at some raw instant in `[before, after]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossReading<T = RealTime> {
    /// Raw time read just before.
    pub before: RawTime,
    /// CLOCK_REALTIME, or the PHC.
    pub real: T,
    /// Raw time read just after (rounded up, so that the instant is not later).
    pub after: RawTime,
    /// The rate that the kernel gives the clock.
    pub rate: KernelRate,
    /// What the kernel says of settings since the previous reading.
    pub setting: Setting,
}

/// Whether a clock was set, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// It would have told (of CLOCK_REALTIME: a timerfd cancelled by clock_settime(2)), and did not.
    Unset,
    /// It does not tell: of no PHC, and of CLOCK_REALTIME not without that timerfd.
    Untold,
    /// It told.
    Set,
}

/// A PHC was read against raw time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhcReading {
    /// Which.
    pub phc: PhcId,
    /// The reading. `rate` is the frequency last dialled into the clock (clock_adjtime(2)), against its own crystal.
    pub cross: CrossReading<PhcTime>,
    /// The most that its driver can be made to steer it by, ppb.
    pub max_adj_ppb: i64,
    /// What the driver states of its error (vmclock, ENA), ns; `None` if it says nothing.
    pub stated_error_ns: Option<i64>,
}

/// A PTP port: its place in [`Settings::ptp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PtpPort(pub u16);

/// Which of a port's two sockets: UDP 319 and 320. Over Ethernet both are EtherType 0x88F7 and stamps decide nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PtpChannel {
    /// Messages that are stamped.
    Event,
    /// The others.
    General,
}

/// What a PTP port stands on, once its sockets are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtpLink {
    /// EUI-64 of the interface: the clock identity, if it is the domain's first port.
    pub identity: [u8; 8],
    /// The clock of its hardware stamps; `None`: kernel stamps only.
    pub phc: Option<PhcId>,
}

/// A PTP message as it was received.
#[derive(Clone, Copy, Debug)]
pub struct PtpReceived<'a> {
    /// By which port.
    pub port: PtpPort,
    /// Through which socket (over Ethernet: by its message type).
    pub channel: PtpChannel,
    /// Its bytes, from the PTP header on.
    pub data: &'a [u8],
    /// The kernel's receive stamp, if there was one.
    pub kernel: Option<RealTime>,
    /// The NIC's receive stamp, if there was one.
    pub hardware: Option<HardwareStamp>,
    /// Raw time read after it was received.
    pub user_after: RawTime,
}

/// A PTP message to send, by multicast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtpTransmit {
    /// By which port.
    pub port: PtpPort,
    /// Through which socket. Messages of [`PtpChannel::Event`] are stamped: the shell reads the port's PHC and
    /// CLOCK_REALTIME before and after, and on NICs that latch one stamp keeps the next one back until the stamp came.
    pub channel: PtpChannel,
    /// To the peers on the link (224.0.0.107, ff02::6b, 01-80-C2-00-00-0E) rather than to everybody
    /// (224.0.1.129, ff0e::181, 01-1B-19-00-00-00).
    pub is_link_local: bool,
    /// Its bytes, from the PTP header on.
    pub data: Vec<u8>,
    /// Names it in [`Input::Sent`] (event messages only).
    pub token: TxToken,
}

/// How fast the kernel lets CLOCK_REALTIME run against raw time, as adjtimex(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelRate {
    /// Frequency and tick are in force and no phase slew is under way: rate − 1, in parts per billion, rounded.
    Steady {
        /// (tick − nominal)/nominal + freq, ppb.
        ppb: i64,
    },
    /// A phase slew is under way, or adjtimex(2) cannot be read: anything up to the kernel's limits.
    Unknown,
}

/// What the host is, as far as raw time depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// Name of the kernel's clocksource, zero padded.
    pub clocksource: [u8; 16],
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC: time spent suspended, ns.
    pub suspended_ns: i64,
    /// The hypervisor's mark, if its page is watched; else zero.
    pub vm_mark: VmMark,
    /// What the hypervisor foretells.
    pub foretold: Foretold,
}

/// A datagram with its stamps.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Where it arrived.
    pub socket: SocketId,
    /// Who sent it.
    pub from: SocketAddr,
    /// The local address it was sent to, where known.
    pub to: Option<IpAddr>,
    /// Its bytes.
    pub data: &'a [u8],
    /// The kernel's receive stamp, if there was one.
    pub kernel: Option<RealTime>,
    /// The NIC's receive stamp, if there was one.
    pub hardware: Option<HardwareStamp>,
    /// Raw time read after it was received.
    pub user_after: RawTime,
}

/// Somebody looked at a reference clock. CLOCK_REALTIME, in which it stamps, was read again before this is told.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceRead<'a> {
    /// Whose.
    pub association: AssociationId,
    /// Raw time read after it: what it shows was stamped before.
    pub user_after: RawTime,
    /// What was found.
    pub found: Found<'a>,
}

/// What was found of a reference clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A shared memory segment as it stands, copied while nobody wrote.
    Segment(&'a [u8]),
    /// A datagram.
    Datagram(&'a [u8]),
    /// The last pulse.
    Pulse {
        /// Its number.
        sequence: u32,
        /// When it came.
        at: RealTime,
    },
    /// Whenever the segment was copied somebody wrote.
    Torn,
    /// There is no such segment, socket or device, or it may not be used.
    Absent,
}

/// What another daemon of this host is told: how far CLOCK_REALTIME was off when it showed `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSample {
    /// CLOCK_REALTIME.
    pub at: RealTime,
    /// Our estimate of UTC less `at`, ns.
    pub ahead_ns: i64,
    /// A leap second within a day: 0 none, 1 inserted, 2 left out.
    pub leap: u8,
}

/// Something happens to the agent.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram arrived.
    Received(Received<'a>),
    /// A datagram left. A second one with the same token brings a late stamp.
    Sent {
        /// Which.
        token: TxToken,
        /// Raw time read before the send call.
        user_before: RawTime,
        /// Raw time read after the send call (or, with a stamp, after the stamp was read).
        user_after: RawTime,
        /// The kernel's transmit stamp, if it is there.
        kernel: Option<RealTime>,
        /// The NIC's transmit stamp, if it is there. It may come in an input of its own.
        hardware: Option<HardwareStamp>,
    },
    /// A datagram could not be sent.
    Unsent {
        /// Which.
        token: TxToken,
    },
    /// REALTIME was read against raw time.
    CrossStamped(CrossReading),
    /// A PHC was read against raw time.
    PhcCrossed(PhcReading),
    /// A reference clock was looked at, or spoke.
    Reference(ReferenceRead<'a>),
    /// A PTP port's sockets are open, or are not (any more).
    Link {
        /// Which.
        port: PtpPort,
        /// What it stands on; `None`: its interface is gone or down.
        link: Option<PtpLink>,
    },
    /// A PTP message arrived.
    PtpReceived(PtpReceived<'a>),
    /// The host's state, at the start and whenever it changes.
    Host(HostState),
    /// A name was resolved, or was not (no addresses).
    Resolved {
        /// Index of the source in the settings.
        source: u32,
        /// Its addresses.
        addresses: Vec<SocketAddr>,
    },
    /// The operator changed the configuration.
    Reconfigured(Box<Settings>),
    /// The page has publications of a previous run of this boot. The very first input, before [`Input::Host`].
    Restored {
        /// Its bound, if it holds under the assumptions and settings of this run.
        bound: Option<Bound>,
        /// Its epoch: ours are later.
        epoch: u64,
    },
    /// What an earlier run knew of the oscillator's frequency. Moves the estimate's first minutes, no edge.
    Drift(Drift),
    /// The system clock was steered as [`Output::Steer`] said, or could not be. It was read just before, and is read again
    /// after.
    Steered {
        /// What was asked for.
        steer: Steer,
        /// The kernel did it.
        is_done: bool,
    },
    /// A command from the control socket.
    Control(Control),
    /// A deadline passed.
    Wakeup,
}

/// Run-time control.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// Send a burst to every source now.
    Burst,
    /// Step the disciplined clock onto the estimate, if the policy allows it.
    MakeStep,
    /// Add a source.
    AddSource(Box<SourceSettings>),
    /// Remove the source of this name.
    RemoveSource(String),
}

/// The largest datagram the core sends.
pub const MAX_DATAGRAM: usize = 128;

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Through which socket.
    pub socket: SocketId,
    /// To whom.
    pub to: SocketAddr,
    /// From which local address, on a responder's socket.
    pub from: Option<IpAddr>,
    /// Its bytes.
    pub data: Datagram,
    /// Names it in [`Input::Sent`].
    pub token: TxToken,
    /// Eight bytes at this offset of the datagram identify it in the error queue.
    pub cookie_at: usize,
    /// Somebody wants to know when it leaves; otherwise [`Input::Sent`] tells nobody anything, and may be left out.
    pub wants_stamp: bool,
}

/// Bytes of a datagram, inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    bytes: [u8; MAX_DATAGRAM],
    len: usize,
}

impl Datagram {
    /// A copy of `bytes`; what does not fit is cut off.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(MAX_DATAGRAM);
        let mut own = [0; MAX_DATAGRAM];
        own[..len].copy_from_slice(&bytes[..len]);
        Datagram { bytes: own, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for Datagram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Datagram(")?;
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// What to do to the disciplined clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Steer {
    /// Run the clock at `rate` (disciplined seconds per raw second, minus one) from now on.
    Rate {
        /// 2⁻⁴⁰ s/s.
        rate: i64,
    },
    /// Add `ns` to the clock at once.
    Step {
        /// Positive moves it forward.
        ns: i64,
    },
}

/// A frequency as known to an earlier run: true time's rate against raw time, and how far off that may well be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// ω̂.
    pub omega: FreqError,
    /// σ of it.
    pub sigma: FreqError,
}

/// A leap second at the end of this UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeapSecond {
    /// None, or nobody makes one.
    #[default]
    None,
    /// 23:59:60 (STA_INS).
    Insert,
    /// 23:59:59 is left out (STA_DEL).
    Delete,
}

/// What the kernel is to tell of CLOCK_REALTIME to whoever asks (adjtimex(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// maxerror: true time is this near until it is said anew, ns; includes what is still to be slewed.
    pub max_error_ns: i64,
    /// esterror, ns.
    pub est_error_ns: i64,
    /// Not STA_UNSYNC.
    pub is_synchronised: bool,
    /// STA_INS or STA_DEL.
    pub leap: LeapSecond,
    /// TAI − UTC, s.
    pub tai_offset_s: i32,
}

impl Declaration {
    /// The clock may show anything.
    pub const UNKNOWN: Declaration = Declaration {
        max_error_ns: crate::system_clock::UNKNOWN_NS,
        est_error_ns: crate::system_clock::UNKNOWN_NS,
        is_synchronised: false,
        leap: LeapSecond::None,
        tai_offset_s: 0,
    };
}

/// What the agent wants done. Drain until [`Output::WakeAt`].
#[derive(Debug)]
pub enum Output {
    /// Send a datagram, reading CLOCK_REALTIME against raw time before.
    Transmit(Transmit),
    /// Send a PTP message.
    PtpTransmit(Box<PtpTransmit>),
    /// Read CLOCK_REALTIME against raw time and say what it was.
    ReadCross,
    /// Read a PHC against raw time and say what it was.
    ReadPhc(PhcId),
    /// Steer a PHC (`phc = "steer"`).
    SteerPhc(PhcId, Steer),
    /// Look at a reference clock, read CLOCK_REALTIME against raw time, then say what was found. A socket is opened if
    /// it is not open, and speaks by itself.
    ReadReference(AssociationId, ReferenceClock),
    /// Tell another daemon of this host.
    Feed(FeedSample),
    /// Look up a name.
    Resolve {
        /// Index of the source in the settings.
        source: u32,
        /// The name.
        host: String,
        /// The port to put into the addresses.
        port: u16,
    },
    /// Close the association's socket, segment or device.
    Close(AssociationId),
    /// Steer the disciplined clock. If it is the system's, read it before and after, with [`Input::Steered`] between.
    Steer(Steer),
    /// Let the kernel tell this of the system clock.
    Declare(Declaration),
    /// Write this to the page.
    Publish(Box<Publication>),
    /// Tell somebody.
    Event(Event),
    /// Nothing more until an input or this instant.
    WakeAt(RawTime),
}
