//! statime behind an adapter: one PTP instance with its ports, moved through its type states, its timers named.
//!
//! A port of statime borrows its instance; both live and die together in one cell. Our filter measures nothing and our
//! clock refuses to be steered, so that all that comes out of here are messages, timers and states.

use std::sync::{PoisonError, RwLock};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use self_cell::self_cell;
use statime::config::{
    AcceptAnyMaster, ClockIdentity, DelayMechanism as Mechanism, InstanceConfig, PortConfig, PtpMinorVersion, SdoId,
    TimePropertiesDS, TimeSource,
};
use statime::filters::{Filter, FilterEstimate, FilterUpdate};
use statime::observability::port::PortState as ForeignState;
use statime::port::{Measurement, NoForwardedTLVs, PortAction, PortActionIterator, Running, TimestampContext};
use statime::time::{Duration, Interval, Time};
use statime::{Clock, PtpInstance, PtpInstanceState, PtpInstanceStateMutex};

use super::{PortIdentity, PortState};
use crate::settings::{DelayMechanism, PtpRole, PtpSettings};
use crate::time::NS_PER_S;

/// The earliest instant that statime is told, ns: from it a correction of 1 s can be subtracted.
const MIN_TIME_NS: u64 = 2_000_000_000;
/// Raw time begins near 0; statime's times have no sign.
const RAW_SHIFT_NS: i64 = 1_000 * NS_PER_S;

type Instance = PtpInstance<Deaf, Shared>;
type Port<'a> = statime::port::Port<'a, Running, AcceptAnyMaster, ChaCha12Rng, Untouchable, Deaf, Shared>;
type Ports<'a> = Vec<Port<'a>>;

self_cell!(
    struct Cell {
        owner: Instance,
        #[covariant]
        dependent: Ports,
    }
);

/// One instance of PTP: the ports of one domain, by their places in it.
pub(super) struct Protocol(Cell);

/// A timer of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Announce = 0,
    Sync = 1,
    DelayRequest = 2,
    AnnounceReceipt = 3,
    FilterUpdate = 4,
}

impl Timer {
    pub(super) const ALL: [Timer; 5] =
        [Timer::Announce, Timer::Sync, Timer::DelayRequest, Timer::AnnounceReceipt, Timer::FilterUpdate];
}

/// What a port wants.
#[derive(Debug)]
pub(super) enum Want {
    /// Its timer, so many ns from now.
    Arm(Timer, i64),
    /// To send. The context comes back with the transmit stamp of event messages.
    Send { context: Option<TimestampContext>, is_link_local: bool, data: Vec<u8> },
}

impl Protocol {
    /// All ports of a domain, linked or not, in a fixed order: it gives them their numbers.
    pub(super) fn new(
        identity: [u8; 8],
        settings: &[&PtpSettings],
        rng: &mut ChaCha12Rng,
    ) -> (Self, Vec<(usize, Want)>) {
        let properties = TimePropertiesDS::new_arbitrary_time(false, false, TimeSource::InternalOscillator);
        let instance = Instance::new(instance_config(identity, settings), properties);
        let mut wants = Vec::new();
        let cell = Cell::new(instance, |instance| {
            let ports = settings.iter().enumerate().map(|(place, port)| {
                let own_rng = ChaCha12Rng::from_rng(&mut *rng).unwrap_or_else(|_| ChaCha12Rng::seed_from_u64(0));
                let (port, actions) = instance.add_port(port_config(port), (), Untouchable, own_rng).end_bmca();
                wants.extend(collect(actions).into_iter().map(|want| (place, want)));
                port
            });
            ports.collect()
        });
        (Protocol(cell), wants)
    }

    /// How often the best master clock algorithm is to run, ns.
    pub(super) fn bmca_interval_ns(&self) -> i64 {
        to_ns(self.0.borrow_owner().bmca_interval())
    }

    /// Runs the best master clock algorithm over all ports.
    pub(super) fn bmca(&mut self) -> Vec<(usize, Want)> {
        self.0.with_dependent_mut(|instance, ports| {
            let mut stopped: Vec<_> = ports.drain(..).map(Port::start_bmca).collect();
            instance.bmca(&mut stopped.iter_mut().collect::<Vec<_>>());
            let mut wants = Vec::new();
            for (place, port) in stopped.into_iter().enumerate() {
                let (port, actions) = port.end_bmca();
                wants.extend(collect(actions).into_iter().map(|want| (place, want)));
                ports.push(port);
            }
            wants
        })
    }

    pub(super) fn timer(&mut self, place: usize, timer: Timer) -> Vec<Want> {
        self.with(place, |port| match timer {
            Timer::Announce => collect(port.handle_announce_timer(&mut NoForwardedTLVs)),
            Timer::Sync => collect(port.handle_sync_timer()),
            Timer::DelayRequest => collect(port.handle_delay_request_timer()),
            Timer::AnnounceReceipt => collect(port.handle_announce_receipt_timer()),
            Timer::FilterUpdate => collect(port.handle_filter_update_timer()),
        })
    }

    pub(super) fn event(&mut self, place: usize, data: &[u8], time: Time) -> Vec<Want> {
        self.with(place, |port| collect(port.handle_event_receive(data, time)))
    }

    pub(super) fn general(&mut self, place: usize, data: &[u8]) -> Vec<Want> {
        self.with(place, |port| collect(port.handle_general_receive(data)))
    }

    pub(super) fn left(&mut self, place: usize, context: TimestampContext, time: Time) -> Vec<Want> {
        self.with(place, |port| collect(port.handle_send_timestamp(context, time)))
    }

    pub(super) fn state(&self, place: usize) -> PortState {
        match self.0.borrow_dependent()[place].port_ds().port_state {
            ForeignState::Listening => PortState::Listening,
            ForeignState::Master | ForeignState::PreMaster => PortState::Master,
            ForeignState::Passive => PortState::Passive,
            ForeignState::Slave | ForeignState::Uncalibrated => PortState::Slave,
            ForeignState::Faulty | ForeignState::Disabled => PortState::Faulty,
            ForeignState::Initializing => PortState::Initializing,
        }
    }

    /// The parent of the port that is a slave, if one is.
    pub(super) fn parent(&self) -> PortIdentity {
        let identity = self.0.borrow_owner().parent_ds().parent_port_identity;
        PortIdentity { clock: identity.clock_identity.0, port: identity.port_number }
    }

    fn with(&mut self, place: usize, call: impl FnOnce(&mut Port<'_>) -> Vec<Want>) -> Vec<Want> {
        self.0.with_dependent_mut(|_, ports| call(&mut ports[place]))
    }
}

/// Raw time for statime: only differences matter.
pub(super) fn raw_time(raw_ns: i64) -> Time {
    let shifted = u64::try_from(raw_ns.saturating_add(RAW_SHIFT_NS)).unwrap_or(0);
    Time::from_nanos(shifted.max(MIN_TIME_NS))
}

/// Time as we tell it; `None` before 1970, which no master tells.
pub(super) fn told_time(tai_ns: i64) -> Option<Time> {
    u64::try_from(tai_ns).ok().filter(|ns| *ns >= MIN_TIME_NS).map(Time::from_nanos)
}

/// A domain may hold ports of every role, but slave_only is the instance's: with any other port in it, slave ports are
/// kept silent by the engine. statime's slave_only clock announces class 248 to itself and would not follow a master
/// whose priority1 is worse than its own: 255 is never better.
fn instance_config(identity: [u8; 8], settings: &[&PtpSettings]) -> InstanceConfig {
    let speaker = settings.iter().find(|port| port.role != PtpRole::Slave);
    InstanceConfig {
        clock_identity: ClockIdentity(identity),
        priority_1: speaker.map_or(255, |port| port.priority1),
        priority_2: speaker.map_or(255, |port| port.priority2),
        domain_number: settings.first().map_or(0, |port| port.domain),
        slave_only: speaker.is_none(),
        sdo_id: SdoId::default(),
        path_trace: false,
    }
}

fn port_config(settings: &PtpSettings) -> PortConfig<AcceptAnyMaster> {
    let interval = every(settings.log_delay);
    PortConfig {
        acceptable_master_list: AcceptAnyMaster,
        delay_mechanism: match settings.delay {
            DelayMechanism::EndToEnd => Mechanism::E2E { interval },
            DelayMechanism::PeerToPeer => Mechanism::P2P { interval },
        },
        announce_interval: every(settings.log_announce),
        announce_receipt_timeout: settings.announce_timeout.max(1),
        sync_interval: every(settings.log_sync),
        master_only: settings.role == PtpRole::Master,
        delay_asymmetry: Duration::ZERO,
        minor_ptp_version: PtpMinorVersion::One,
    }
}

/// Beyond these limits durations of statime overflow.
fn every(log: i8) -> Interval {
    Interval::from_log_2(log.clamp(-8, 8))
}

/// 2^log s as statime counts it, ns.
pub(super) fn interval_ns(log: i8) -> i64 {
    to_ns(every(log).as_core_duration())
}

/// The iterator borrows the port and its buffer: copied out before the next call. TLVs are not forwarded.
fn collect(actions: PortActionIterator<'_>) -> Vec<Want> {
    let wants = actions.filter_map(|action| {
        Some(match action {
            PortAction::SendEvent { context, data, link_local } => {
                Want::Send { context: Some(context), is_link_local: link_local, data: data.to_vec() }
            }
            PortAction::SendGeneral { data, link_local } => {
                Want::Send { context: None, is_link_local: link_local, data: data.to_vec() }
            }
            PortAction::ResetAnnounceTimer { duration } => Want::Arm(Timer::Announce, to_ns(duration)),
            PortAction::ResetSyncTimer { duration } => Want::Arm(Timer::Sync, to_ns(duration)),
            PortAction::ResetDelayRequestTimer { duration } => Want::Arm(Timer::DelayRequest, to_ns(duration)),
            PortAction::ResetAnnounceReceiptTimer { duration } => Want::Arm(Timer::AnnounceReceipt, to_ns(duration)),
            PortAction::ResetFilterUpdateTimer { duration } => Want::Arm(Timer::FilterUpdate, to_ns(duration)),
            PortAction::ForwardTLV { .. } => return None,
        })
    });
    wants.collect()
}

fn to_ns(duration: core::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A filter that measures nothing: measurements are taken from the packets.
struct Deaf;

impl Filter for Deaf {
    type Config = ();

    fn new((): ()) -> Self {
        Deaf
    }

    fn measurement<C: Clock>(&mut self, _: Measurement, _: &mut C) -> FilterUpdate {
        FilterUpdate::default()
    }

    fn update<C: Clock>(&mut self, _: &mut C) -> FilterUpdate {
        FilterUpdate::default()
    }

    fn demobilize<C: Clock>(self, _: &mut C) {}

    fn current_estimates(&self) -> FilterEstimate {
        FilterEstimate { offset_from_master: Duration::ZERO, mean_delay: Duration::ZERO }
    }
}

/// A clock that nobody steers.
struct Untouchable;

/// Why not.
#[derive(Debug)]
struct NotOurs;

impl Clock for Untouchable {
    type Error = NotOurs;

    fn now(&self) -> Time {
        Time::from_nanos(MIN_TIME_NS)
    }

    fn step_clock(&mut self, _: Duration) -> Result<Time, NotOurs> {
        Err(NotOurs)
    }

    fn set_frequency(&mut self, _: f64) -> Result<Time, NotOurs> {
        Err(NotOurs)
    }

    fn set_properties(&mut self, _: &TimePropertiesDS) -> Result<(), NotOurs> {
        Ok(())
    }
}

/// statime's own cell for one thread would keep the agent from moving between threads. Never contended.
struct Shared(RwLock<PtpInstanceState>);

impl PtpInstanceStateMutex for Shared {
    fn new(state: PtpInstanceState) -> Self {
        Shared(RwLock::new(state))
    }

    fn with_ref<R, F: FnOnce(&PtpInstanceState) -> R>(&self, f: F) -> R {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_mut<R, F: FnOnce(&mut PtpInstanceState) -> R>(&self, f: F) -> R {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
