//! What an operator decides, parsed: every value here is legal, every default is stated here and nowhere else.

use core::net::{IpAddr, SocketAddr};

use crate::estimate::Filter;
use crate::io::PhcId;
use crate::leap::LeapTable;
use crate::smear::Smear;
use crate::time::NS_PER_S;
use crate::units::FreqError;

/// Everything that steers the agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What is assumed of this host's oscillator (BOUND A1).
    pub oscillator: Oscillator,
    /// Terms and limits of the published bound.
    pub bound: BoundSettings,
    /// The sources, in the order of the file.
    pub sources: Vec<SourceSettings>,
    /// The PTP ports. One that may be a slave also has a line among the sources ([`SourceKind::Ptp`]).
    pub ptp: Vec<PtpSettings>,
    /// How many independence groups may lie; `None`: ⌊(n−1)/2⌋.
    pub max_liars: Option<u32>,
    /// The responder, off by default.
    pub server: Option<ServerSettings>,
    /// Which clock is steered.
    pub discipline: Discipline,
    /// How the disciplined clock is steered.
    pub servo: ServoSettings,
    /// TAI − UTC, past and announced.
    pub leap: LeapTable,
    /// e of BOUND §2: kernel stamps may be early or late by so much, ns. 0: one-sided by the kernel's contract (A3).
    pub stamp_error_ns: i64,
    /// The operator stated the oscillator: what he says holds for whatever clocksource the kernel uses (A2).
    pub oscillator_is_stated: bool,
    /// How often another daemon of this host is told our estimate, ns; `None`: nobody is.
    pub feed_interval_ns: Option<i64>,
}

impl Settings {
    /// A digest of what a bound rests on: a restarted agent continues a bound only under the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let basis = format!(
            "{:?}",
            (&self.oscillator, &self.bound, &self.sources, &self.ptp, self.max_liars, self.stamp_error_ns)
        );
        fnv1a(FNV_OFFSET, basis.bytes())
    }
}

/// Where [`fnv1a`] begins.
pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on with an FNV-1a, 64 bits: equal for equal bytes on every machine. Not for adversaries.
pub(crate) fn fnv1a(hash: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A1: what the oscillator under raw time can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Oscillator {
    /// Ω: |dθ/dT| never exceeds this.
    pub freq_limit: FreqError,
    /// A: the frequency changes by at most this per second, 1/s.
    pub wander_per_s: f64,
    /// D: within one boot the frequency stays within this of itself.
    pub freq_spread: FreqError,
    /// J: phase noise, s per √s.
    pub phase_noise_s: f64,
}

impl Oscillator {
    /// An uncompensated crystal in a server: the default class.
    pub const XO: Oscillator = Oscillator::class(1e-7, 50.0);
    /// A temperature-compensated crystal.
    pub const TCXO: Oscillator = Oscillator::class(1e-9, 5.0);
    /// An oven-controlled crystal.
    pub const OCXO: Oscillator = Oscillator::class(1e-9, 0.5);
    /// A virtual machine's clocksource; D is the operator's word.
    pub const VM: Oscillator = Oscillator::class(3e-7, 100.0);

    const fn class(wander_per_s: f64, spread_ppm: f64) -> Self {
        Oscillator {
            freq_limit: FreqError::from_ppm(1000.0),
            wander_per_s,
            freq_spread: FreqError::from_ppm(spread_ppm),
            phase_noise_s: 3e-8,
        }
    }
}

impl Default for Oscillator {
    fn default() -> Self {
        Oscillator::XO
    }
}

/// Terms and limits of the published bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundSettings {
    /// e_cpu: how much raw clocks of different CPUs may differ, ns; charged once per edge.
    pub cpu_error_ns: i64,
    /// The bound is void this long after the last answer it rests on, ns.
    pub max_holdover_ns: i64,
    /// At least this often something is published, ns.
    pub publish_interval_ns: i64,
    /// Constraints older than this, counted from the newest, are forgotten, ns.
    pub memory_ns: i64,
}

impl Default for BoundSettings {
    fn default() -> Self {
        BoundSettings {
            cpu_error_ns: 50,
            max_holdover_ns: 3600 * NS_PER_S,
            publish_interval_ns: NS_PER_S,
            memory_ns: 1024 * NS_PER_S,
        }
    }
}

/// One line of the operator's list of sources.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    /// Unique name, for status and control.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// Shortest polling interval, ns; `None`: 1 s on private addresses, 16 s otherwise.
    pub poll_min_ns: Option<i64>,
    /// Longest polling interval, ns; `None`: the same as the shortest.
    pub poll_max_ns: Option<i64>,
    /// Requests in the burst at the start; 0 for none.
    pub burst: u8,
    /// Ask for interleaved mode (RFC 9769).
    pub interleaved: bool,
    /// Send requests in back-to-back pairs, half as often: the second of a pair finds every path through both hosts
    /// warm and is the faster for it. `None`: where `poll_min_ns` asks for 16 requests a second or more, and from one a
    /// second on while the shortest round trip is below 100 µs and a pair's second is the faster (there it is sent when
    /// the first is answered).
    pub pairs: Option<bool>,
    /// How its exchanges become an estimate. [`Filter::Coded`] needs pairs.
    pub filter: Filter,
    /// The operator's word that this source is truthful (BOUND §4).
    pub trust: bool,
    /// Independence group; `None`: that of its smear, or by (refid, stratum), or by address at stratum 1.
    pub group: Option<String>,
    /// Added to the source's claim, ns; `None`: 0 on loopback and for other agents, 25 µs otherwise.
    pub claim_floor_ns: Option<i64>,
    /// The source is another truebound agent: ask it for its exact half-width in an extension field.
    pub agent: bool,
    /// The source knows chrony's `extfield F323`: ask it for root delay and dispersion in units of 4 ns instead of 15 µs.
    /// Of no effect on an agent.
    pub fine_root: bool,
    /// Answers that claim a root distance beyond this are not used, ns.
    pub max_distance_ns: i64,
    /// What it makes of leap seconds, by the operator's word.
    pub smear: Smear,
}

impl SourceSettings {
    /// A source with every default.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: SourceKind) -> Self {
        SourceSettings {
            name: name.into(),
            kind,
            poll_min_ns: None,
            poll_max_ns: None,
            burst: 8,
            interleaved: true,
            pairs: None,
            filter: Filter::Adaptive,
            trust: false,
            group: None,
            claim_floor_ns: None,
            agent: false,
            fine_root: false,
            max_distance_ns: 1_500_000_000,
            smear: Smear::None,
        }
    }
}

/// What a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// An NTP server, by name or address.
    Server {
        /// Name or address.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// A name with many addresses, of which up to `count` are used, each a source of its own.
    Pool {
        /// Name.
        host: String,
        /// UDP port.
        port: u16,
        /// How many; unresolved ones count as silent groups.
        count: u8,
    },
    /// The grandmaster that a PTP port follows; the address of PTP is a multicast group, so there is none.
    Ptp {
        /// Place in [`Settings::ptp`].
        port: u16,
    },
    /// A PTP hardware clock that somebody else keeps right (a hypervisor, a GNSS card, another daemon).
    Phc {
        /// N of /dev/ptpN.
        phc: PhcId,
        /// How wrong it may be, by the operator's word; `None`: what its driver states, and no vote if that is nothing.
        error_ns: Option<i64>,
        /// What it counts.
        timescale: Timescale,
    },
    /// A reference clock that another program of this host reads, or the kernel.
    Reference {
        /// Where its samples are found.
        clock: ReferenceClock,
        /// How wrong they may be, by the operator's word, ns.
        error_ns: i64,
        /// What they count. Of a pulse this says nothing: seconds begin together in both.
        timescale: Timescale,
    },
    /// This host is the root of an isolated network: true time is *defined* as its CLOCK_REALTIME when the agent
    /// starts, and as raw time from then on. Not beside other sources.
    Local {
        /// Added to CLOCK_REALTIME, ns.
        shift_ns: i64,
        /// Claimed of this definition towards others, ns.
        error_ns: i64,
    },
}

/// Where the samples of a reference clock are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceClock {
    /// A shared memory segment of ntpd's driver 28.
    Shm {
        /// N: its key is 0x4e545030 + N.
        unit: u8,
    },
    /// A datagram socket that we create, to which chrony's SOCK samples are sent.
    Sock {
        /// Its path.
        path: String,
        /// Who may send.
        access: SockAccess,
    },
    /// A pulse each second, stamped by the kernel.
    Pps {
        /// Its device.
        device: String,
        /// Which of its edges marks the second.
        edge: PpsEdge,
    },
}

impl ReferenceClock {
    /// Where its samples are found, in a word.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            ReferenceClock::Shm { unit } => format!("shm{unit}"),
            ReferenceClock::Sock { path, .. } => path.clone(),
            ReferenceClock::Pps { device, .. } => device.clone(),
        }
    }
}

/// Who may send to a socket of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SockAccess {
    /// We, and root.
    #[default]
    Owner,
    /// Our group too.
    Group,
    /// Everybody on this host.
    All,
}

/// An edge of a pulse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PpsEdge {
    /// The signal is asserted.
    #[default]
    Assert,
    /// It is cleared.
    Clear,
}

/// What a clock counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timescale {
    /// TAI, as IEEE 1588 has it. A grandmaster that announces an arbitrary timescale is not used.
    #[default]
    Tai,
    /// UTC, as ptp4l tells it with software stamps (ptpTimescale false).
    Utc,
}

/// How PTP messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PtpTransport {
    /// UDP over IPv4 (IEEE 1588 Annex C).
    #[default]
    Udp4,
    /// UDP over IPv6 (Annex D).
    Udp6,
    /// Ethernet, EtherType 0x88F7 (Annex E).
    Ethernet,
}

/// How the path is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DelayMechanism {
    /// Delay_Req and Delay_Resp with the master.
    #[default]
    EndToEnd,
    /// Pdelay_Req and Pdelay_Resp with the neighbour on the link.
    PeerToPeer,
}

/// What a PTP port may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PtpRole {
    /// Slave only.
    #[default]
    Slave,
    /// Master only: it tells our bound's time.
    Master,
    /// What the best master clock algorithm decides.
    Auto,
}

/// One PTP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtpSettings {
    /// Unique name; that of its source too.
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// domainNumber.
    pub domain: u8,
    /// How messages travel.
    pub transport: PtpTransport,
    /// How the path is measured.
    pub delay: DelayMechanism,
    /// What it may become.
    pub role: PtpRole,
    /// What the timestamps of an arbitrary timescale are taken for.
    pub timescale: Timescale,
    /// priority1 of the data set comparison (roles master and auto).
    pub priority1: u8,
    /// priority2.
    pub priority2: u8,
    /// log2 of the interval between Announces, s.
    pub log_announce: i8,
    /// log2 of the interval between Syncs, s.
    pub log_sync: i8,
    /// log2 of the mean interval between delay requests, s.
    pub log_delay: i8,
    /// Announce intervals without an Announce after which a master counts as gone.
    pub announce_timeout: u8,
    /// Ask the NIC for stamps, where it can; otherwise kernel stamps.
    pub hardware: bool,
    /// e of our hardware stamps after compensation (BOUND A3), ns.
    pub stamp_error_ns: i64,
    /// e of the master's stamps, ns.
    pub remote_stamp_error_ns: i64,
    /// Delay between the wire and the NIC's receive stamp, ns: subtracted.
    pub ingress_latency_ns: i64,
    /// Delay between the NIC's transmit stamp and the wire, ns: added.
    pub egress_latency_ns: i64,
    /// delayAsymmetry of IEEE 1588 §7.4.2: how much longer master to slave takes than the mean, ns. An operator's word:
    /// it moves the estimate, no region.
    pub delay_asymmetry_ns: i64,
    /// How wrong each boundary clock on the way may be, all transparent clocks together, and how late kernel stamps of
    /// peer delays, by the operator's word, ns: for the asserted region.
    pub hop_error_ns: i64,
    /// Discipline the NIC's clock to the estimate (`phc = "steer"`); otherwise it runs free.
    pub steers_phc: bool,
}

impl PtpSettings {
    /// A port with every default.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        let interface = interface.into();
        PtpSettings {
            name: interface.clone(),
            interface,
            domain: 0,
            transport: PtpTransport::default(),
            delay: DelayMechanism::default(),
            role: PtpRole::default(),
            timescale: Timescale::default(),
            priority1: 128,
            priority2: 128,
            log_announce: 0,
            log_sync: 0,
            log_delay: 0,
            announce_timeout: 3,
            hardware: true,
            stamp_error_ns: 1_000,
            remote_stamp_error_ns: 1_000,
            ingress_latency_ns: 0,
            egress_latency_ns: 0,
            delay_asymmetry_ns: 0,
            hop_error_ns: 1_000,
            steers_phc: false,
        }
    }
}

/// The NTPv4 responder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Who is answered; the longest matching prefix of both lists decides.
    pub allow: Vec<Prefix>,
    /// Who is not answered.
    pub deny: Vec<Prefix>,
    /// How often a client is answered; `None`: as often as it asks.
    pub rate_limit: Option<RateLimit>,
}

/// How often one client of the responder is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Once in this time, ns.
    pub min_interval_ns: i64,
    /// So many times at once after a rest; at least 1.
    pub burst: u32,
}

/// An address prefix such as 192.0.2.0/24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Network address.
    pub address: IpAddr,
    /// Significant bits.
    pub bits: u8,
}

impl Prefix {
    /// Does `address` lie in this prefix? IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                let shift = 32u32.saturating_sub(u32::from(self.bits));
                u32::from(net).checked_shr(shift).unwrap_or(0) == u32::from(a).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                let shift = 128u32.saturating_sub(u32::from(self.bits));
                u128::from(net).checked_shr(shift).unwrap_or(0) == u128::from(a).checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

/// Which clock the agent steers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// None: another daemon may.
    #[default]
    Observe,
    /// CLOCK_REALTIME.
    System,
    /// A virtual clock beside the kernel's; truth is known exactly.
    Virtual {
        /// How far it is ahead of CLOCK_REALTIME when it starts, ns.
        offset_ns: i64,
    },
}

/// The servo of the disciplined clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServoSettings {
    /// A phase error is removed in about this time, ns.
    pub time_constant_ns: i64,
    /// Never slew faster than this beyond the frequency correction.
    pub max_slew: FreqError,
    /// Offsets beyond this are stepped away, where [`StepPolicy`] allows it, ns.
    pub step_threshold_ns: i64,
    /// When.
    pub step: StepPolicy,
    /// Who makes a leap second in the system clock.
    pub leap: LeapPolicy,
    /// What to do when somebody else steers the system clock.
    pub rival: RivalPolicy,
}

/// When the disciplined clock may be stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepPolicy {
    /// At the first update after the start.
    #[default]
    First,
    /// At any.
    Always,
    /// Only at the operator's request (`truebound control makestep`).
    Never,
}

/// Who makes a leap second in CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeapPolicy {
    /// The kernel, at the end of the day: 23:59:59 happens twice, or not at all.
    #[default]
    Kernel,
    /// The servo: from then on the clock is a second off, and that is slewed or stepped away like any other offset.
    Servo,
}

/// What to do when somebody else steers the clock that we steer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RivalPolicy {
    /// Say so and leave the clock to him, until a reload or a restart.
    #[default]
    Yield,
    /// Say so and go on.
    Insist,
}

impl Default for ServoSettings {
    fn default() -> Self {
        ServoSettings {
            time_constant_ns: NS_PER_S / 4,
            // With the oscillator's own error below the 500 ppm by which the kernel lets maxerror grow.
            max_slew: FreqError::from_ppm(400.0),
            step_threshold_ns: 1_000_000,
            step: StepPolicy::First,
            leap: LeapPolicy::Kernel,
            rival: RivalPolicy::Yield,
        }
    }
}
