//! The IO shell: waits for a socket, a deadline, a signal or a request, hands it to the core, and does what the core
//! says. It decides nothing about time.

mod host;
mod journal;
mod ptp;
mod reference;

use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use truebound_client::host::HostIdentity;
use truebound_client::page::Publication;
use truebound_client::{Publisher, Reason, Status, VirtualClock};
use truebound_core::Agent;
use truebound_core::event::Event;
use truebound_core::io::{
    AssociationId, Declaration, HostState, Input, Output, PhcId, PtpTransmit, Received, SocketId, Steer, Transmit,
};
use truebound_core::report::AgentReport;
use truebound_core::settings::{Discipline, ReferenceClock, Settings};
use truebound_core::time::RawTime;
use truebound_hw::clock::HostClock;
use truebound_hw::discipline::SystemClock;
use truebound_hw::socket::{Batch, Outgoing};

use crate::clockbound::{self, ClockBound};
use crate::config::{AgentConfig, ClockBoundConfig, Config, StampConfig, VirtualClockConfig};
use crate::control::{self, Request};
use crate::discipline::{VirtualDiscipline, splitmix};
use crate::drift::DriftFile;
use crate::feed::Feed;
use crate::log;
use crate::phcs::Phcs;
use crate::ptp_ports::PtpPorts;
use crate::recorder::Recorder;
use crate::references::References;
use crate::sockets::{Sockets, Stamped};
use crate::watch::Ready;
use journal::Journal;

/// Datagrams taken from a socket at once. Both clocks are read once for all of them.
const BATCH: usize = 64;
/// Of these, so many are handed to the core before what comes of them leaves: answers tell the instant at which they are
/// composed, so they should not wait long.
const HELPING: usize = 16;
/// Batches taken from a socket before everything else has its turn: half a millisecond's work.
const MAX_BATCHES: usize = 2;
/// A reading of both clocks this recent brackets the next transmission too, ns.
const FRESH_CROSS_NS: i64 = 200_000;
/// Epochs of a fresh page begin with raw time in this unit: no agent withdraws its bounds a thousand times a second.
const NS_PER_MS: u64 = 1_000_000;
/// What a former daemon left under way in the kernel's clock ends first. (In the field's simulator all clocks stutter by
/// microseconds for their first tenth of a second.)
const TAKING_OVER: Duration = Duration::from_millis(120);
/// The host's clocksource and suspend counter are looked at this often.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What stops the agent before it runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The page.
    #[error("{0}")]
    Publish(#[from] truebound_client::PublishError),
    /// The system clock.
    #[error(
        "cannot steer CLOCK_REALTIME: {0}; run as root or with CAP_SYS_TIME (not possible in most containers), or use \
         discipline = \"observe\" in [clock]"
    )]
    Clock(std::io::Error),
    /// The hypervisor's page.
    #[error("{0}: {1}; not a vmclock page that can be read: correct `vmclock` in [clock], or use \"auto\"")]
    VmClock(PathBuf, std::io::Error),
    /// A segment of ClockBound's.
    #[error("{0}")]
    ClockBound(#[from] truebound_hw::clockbound::SegmentError),
    /// A directory or socket of the runtime dir, or the journal.
    #[error("{0}: {1}")]
    Path(PathBuf, std::io::Error),
    /// A listening address.
    #[error(
        "cannot listen on {0}: {1}; another server may hold the port, or the privilege is missing (CAP_NET_BIND_SERVICE)"
    )]
    Listen(SocketAddr, std::io::Error),
    /// The runtime itself.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// How to run.
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// The configuration's text and where it came from, for reloads and the journal.
    pub(crate) text: String,
    pub(crate) path: Option<PathBuf>,
    /// Of the file, before the command line had its say.
    pub(crate) as_written: AgentConfig,
    pub(crate) seed: [u8; 32],
    /// Publish and take requests; a probe does neither.
    pub(crate) is_agent: bool,
    /// Stop after this long.
    pub(crate) duration: Option<Duration>,
}

/// The running agent.
pub(crate) struct Shell {
    agent: Agent,
    clock: HostClock,
    sockets: Sockets,
    ptp: PtpPorts,
    phcs: Phcs,
    references: References,
    feed: Feed,
    /// The buffers of the last batch, while nobody reads them.
    batch: Option<Batch>,
    /// Buffers for transmit stamps.
    stamp_batch: Batch,
    publisher: Option<Publisher>,
    clockbound: Option<ClockBound>,
    last_publication: Option<Box<Publication>>,
    pub(crate) discipline: Option<VirtualDiscipline>,
    system: Option<SystemClock>,
    /// What to tell it, one after the other.
    steers: VecDeque<Steer>,
    drift: DriftFile,
    pub(crate) recorder: Recorder,
    journal: Option<Journal>,
    resolved: mpsc::UnboundedSender<(u32, Vec<SocketAddr>)>,
    host: HostState,
    last_cross: RawTime,
    wants_cross: bool,
    wants_phc: BTreeSet<PhcId>,
    wants_reference: VecDeque<(AssociationId, ReferenceClock)>,
    outbox: VecDeque<Transmit>,
    ptp_outbox: VecDeque<Box<PtpTransmit>>,
    wake_at: RawTime,
    use_kernel_stamps: bool,
    /// The hypervisor's page that is watched.
    pub(crate) vm_path: Option<PathBuf>,
    plan_path: Option<PathBuf>,
    fixed: Fixed,
    is_quiet: bool,
}

/// What the file said at the start and what stays so while running.
struct Fixed {
    agent: AgentConfig,
    stamps: StampConfig,
    clockbound: ClockBoundConfig,
    virtual_clock: Option<VirtualClockConfig>,
}

/// What the tasks send to the shell.
struct Inboxes {
    ready: mpsc::UnboundedReceiver<Ready>,
    resolved: mpsc::UnboundedReceiver<(u32, Vec<SocketAddr>)>,
}

impl Shell {
    fn open(plan: &Plan) -> Result<(Shell, Inboxes), StartError> {
        let kernel_raw = HostClock::new(None, false).raw_now();
        let virtual_clock = plan.config.virtual_clock.as_ref().map(|clock| virtual_clock_at(kernel_raw, clock));
        let (vm, vm_path) = host::open_vm(&plan.config.agent.vmclock)?;
        let clock = HostClock::new(virtual_clock, plan.config.stamps.watch_steps).watching(vm);
        let now = clock.raw_now();
        let identity = HostIdentity::here(vm_path.clone());
        let publisher = if plan.is_agent { Some(open_page(&plan.config, virtual_clock, &identity)?) } else { None };
        let (ready_sender, ready) = mpsc::unbounded_channel();
        let (resolved_sender, resolved) = mpsc::unbounded_channel();
        let mut sockets = Sockets::new(ready_sender.clone());
        if let Some(server) = &plan.config.settings.server {
            sockets.listen(&server.listen).map_err(|(address, error)| StartError::Listen(address, error))?;
        }
        let settings = plan.config.settings.clone();
        let shell = Shell {
            agent: Agent::new(now, settings, plan.seed),
            discipline: plan.config.virtual_clock.as_ref().map(|c| VirtualDiscipline::new(now, c.jitter_ns, c.seed)),
            system: open_system(plan)?,
            steers: VecDeque::new(),
            drift: DriftFile::new(&plan.config.agent.drift_file),
            host: clock.host_state(),
            clock,
            sockets,
            ptp: PtpPorts::new(&plan.config.settings.ptp, ready_sender.clone()),
            phcs: Phcs::default(),
            references: References::new(ready_sender),
            feed: Feed::new(&plan.config.feed),
            batch: None,
            stamp_batch: Batch::new(HELPING),
            publisher,
            clockbound: open_clockbound(plan, vm_path.as_deref())?,
            last_publication: None,
            recorder: Recorder::new(),
            journal: Journal::open(plan, now)?,
            resolved: resolved_sender,
            last_cross: RawTime::from_ns(i64::MIN),
            wants_cross: false,
            wants_phc: BTreeSet::new(),
            wants_reference: VecDeque::new(),
            outbox: VecDeque::new(),
            ptp_outbox: VecDeque::new(),
            wake_at: now,
            use_kernel_stamps: plan.config.stamps.kernel,
            vm_path,
            plan_path: plan.path.clone(),
            fixed: Fixed {
                agent: plan.as_written.clone(),
                stamps: plan.config.stamps,
                clockbound: plan.config.clockbound.clone(),
                virtual_clock: plan.config.virtual_clock,
            },
            is_quiet: !plan.is_agent,
        };
        Ok((shell, Inboxes { ready, resolved }))
    }

    pub(crate) fn report(&self) -> AgentReport {
        self.agent.report(self.now())
    }

    pub(crate) fn now(&self) -> RawTime {
        self.clock.raw_now()
    }

    // ---- inputs ----------------------------------------------------------------------------------------------------

    /// Hands an input to the core, then does all that comes of it.
    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.handle_text(input, "");
    }

    /// The same for an input that came from `text`.
    pub(crate) fn handle_text(&mut self, input: Input<'_>, text: &str) {
        self.step(input, text);
        self.settle();
    }

    /// Sends what is to be sent and reads what is to be read, until the core wants nothing more.
    fn settle(&mut self) {
        loop {
            if std::mem::take(&mut self.wants_cross) {
                self.cross();
            } else if let Some(steer) = self.steers.pop_front() {
                self.steer(steer);
            } else if let Some(phc) = self.wants_phc.pop_first() {
                self.read_phc(phc);
            } else if let Some((association, clock)) = self.wants_reference.pop_front() {
                self.read_reference(association, &clock);
            } else if let Some(transmit) = self.outbox.front() {
                match transmit.socket {
                    SocketId::Client(_) => self.transmit(),
                    SocketId::Server(_) => self.transmit_answers(transmit.socket),
                }
            } else if let Some(transmit) = self.ptp_outbox.pop_front() {
                self.ptp_transmit(transmit);
            } else {
                break;
            }
        }
    }

    /// One input and its outputs, but for the datagrams to send.
    fn step(&mut self, input: Input<'_>, text: &str) {
        let now = match input {
            Input::Host(_) | Input::Restored { .. } => self.clock.raw_now(),
            _ => self.look_around(),
        };
        self.feed(now, input, text);
    }

    /// That the host slept, or was moved, comes before anything that came after it, or the core would take the two sides
    /// of the break for one. Gives the instant of this look, for inputs that were there before it: what they hold was
    /// read before it, so if anything broke between two readings the core knows by then. A break after it is found by
    /// the next look, which comes before anything that is read later.
    fn look_around(&mut self) -> RawTime {
        let (suspended_ns, vm_mark) = (self.clock.suspended_ns(), self.clock.vm_mark());
        if (suspended_ns, vm_mark) != (self.host.suspended_ns, self.host.vm_mark) {
            self.host = HostState { suspended_ns, vm_mark, ..self.host };
            self.feed(self.clock.raw_now(), Input::Host(self.host), "");
        }
        self.clock.raw_now()
    }

    fn feed(&mut self, now: RawTime, input: Input<'_>, text: &str) {
        if let Some(journal) = &mut self.journal {
            journal.input(now, &input, text);
        }
        self.agent.handle(now, input);
        loop {
            let output = self.agent.poll();
            if let Some(journal) = &mut self.journal {
                journal.output(&output);
            }
            match output {
                Output::Transmit(transmit) => self.outbox.push_back(transmit),
                Output::ReadCross => self.wants_cross = true,
                Output::PtpTransmit(transmit) => self.ptp_outbox.push_back(transmit),
                Output::ReadPhc(phc) => drop(self.wants_phc.insert(phc)),
                Output::SteerPhc(phc, steer) => self.steer_phc(phc, steer),
                Output::Resolve { source, host, port } => self.resolve(source, host, port),
                Output::ReadReference(association, clock) => self.wants_reference.push_back((association, clock)),
                Output::Feed(sample) => self.feed.tell(&sample),
                Output::Close(association) => {
                    self.sockets.close(SocketId::Client(association));
                    self.references.close(association);
                }
                Output::Steer(steer) => match &mut self.discipline {
                    Some(clock) => clock.steer(now, steer),
                    None => self.steers.push_back(steer),
                },
                Output::Declare(declaration) => self.declare(&declaration),
                Output::Publish(publication) => self.publish(publication),
                Output::Event(event) => self.tell(&event),
                Output::WakeAt(at) => {
                    self.wake_at = at;
                    break;
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }

    fn cross(&mut self) {
        let reading = self.clock.cross();
        self.last_cross = reading.after;
        self.step(Input::CrossStamped(reading), "");
    }

    /// Steers the system clock, read before and after. Whoever reads that clock by a segment of ours is told first that
    /// it is about to be stepped.
    fn steer(&mut self, steer: Steer) {
        let Some(system) = self.system else { return };
        let done = match steer {
            Steer::Rate { rate } => {
                self.cross();
                system.set_rate(rate)
            }
            Steer::Step { ns } => {
                if let (Some(clockbound), Some(last)) = (&mut self.clockbound, &self.last_publication) {
                    clockbound.withdraw(last);
                }
                let done = system.step_ns(ns);
                self.clock.forget_step();
                done
            }
        };
        self.step(Input::Steered { steer, is_done: done.is_ok() }, "");
        self.cross();
    }

    fn declare(&self, declaration: &Declaration) {
        if let Some(Err(error)) = self.system.as_ref().map(|system| system.declare(declaration)) {
            log::warn("discipline", &format!("the kernel does not take what it is to tell: {error}"));
        }
    }

    /// Is there a clock that we steer?
    pub(crate) fn steers(&self) -> bool {
        self.discipline.is_some() || self.system.is_some()
    }

    /// The oldest datagram to send, one of ours to a server.
    fn transmit(&mut self) {
        let Some(transmit) = self.outbox.pop_front() else { return };
        self.freshen(None);
        let watched = match self.sockets.get_or_open(transmit.socket, transmit.to) {
            Ok(watched) => watched,
            Err(_) => return self.step(Input::Unsent { token: transmit.token }, ""),
        };
        let user_before = self.clock.raw_now();
        let sent = watched.get().send(&outgoing(&transmit, None, self.use_kernel_stamps));
        let user_after = self.clock.raw_now();
        if sent.is_err() {
            return self.step(Input::Unsent { token: transmit.token }, "");
        }
        let token = transmit.token;
        if self.use_kernel_stamps {
            watched.await_stamps(&transmit, user_before);
        }
        self.step(Input::Sent { token, user_before, user_after, kernel: None, hardware: None }, "");
        self.collect_stamps(transmit.socket);
    }

    /// The oldest datagrams to send, answers that all leave through this socket. The core waits for no word of an answer
    /// but its stamp, so what does not leave is as what is lost on the way.
    fn transmit_answers(&mut self, id: SocketId) {
        let count = self.outbox.iter().take(HELPING).take_while(|transmit| transmit.socket == id).count();
        let wants_stamps = self.use_kernel_stamps && self.outbox.range(..count).any(|transmit| transmit.wants_stamp);
        if wants_stamps {
            self.freshen(None);
        }
        let answers = &self.outbox.make_contiguous()[..count];
        if let Some(watched) = self.sockets.get_mut(id) {
            let user_before = self.clock.raw_now();
            let datagrams: Vec<Outgoing<'_>> =
                answers.iter().map(|transmit| outgoing(transmit, Some(transmit.to), wants_stamps)).collect();
            for index in watched.get().send_many(&datagrams) {
                if datagrams[index].wants_stamp {
                    watched.await_stamps(&answers[index], user_before);
                }
            }
        }
        self.outbox.drain(..count);
        if wants_stamps {
            self.collect_stamps(id);
        }
    }

    /// Stamps of what was sent, as they come.
    fn collect_stamps(&mut self, id: SocketId) {
        let Some(watched) = self.sockets.get_mut(id) else { return };
        let stamps = watched.stamps(&mut self.stamp_batch);
        if stamps.is_empty() {
            return;
        }
        let user_after = self.clock.raw_now();
        let now = self.look_around();
        for Stamped { token, user_before, kernel } in stamps {
            let kernel = Some(kernel);
            self.feed(now, Input::Sent { token, user_before, user_after, kernel, hardware: None }, "");
        }
    }

    /// A socket is ready: stamps first, then datagrams, each batch answered before the next. True if the socket may
    /// hold more: whoever floods one must not keep the agent from everything else.
    fn socket_ready(&mut self, id: SocketId) -> bool {
        let Some(watched) = self.sockets.get_mut(id) else { return false };
        watched.look();
        self.collect_stamps(id);
        let may_hold_more = self.drain(|shell| shell.receive(id));
        if may_hold_more && let Some(watched) = self.sockets.get_mut(id) {
            watched.look_again();
        }
        may_hold_more
    }

    /// Takes batch after batch from a socket and does what comes of it. True if there may be more.
    fn drain(&mut self, receive: impl Fn(&mut Shell) -> std::io::Result<()>) -> bool {
        let mut may_hold_more = false;
        for _ in 0..MAX_BATCHES {
            match receive(self) {
                Ok(()) => may_hold_more = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    may_hold_more = false;
                    break;
                }
                // An error of an earlier datagram is reported once and then gone: there may be answers behind it. One
                // that stays is not asked for ever.
                Err(_) => may_hold_more = false,
            }
            self.settle();
        }
        self.settle();
        may_hold_more
    }

    /// One batch of at least one datagram.
    fn receive(&mut self, id: SocketId) -> std::io::Result<()> {
        let Some(watched) = self.sockets.get_mut(id) else { return Err(ErrorKind::WouldBlock.into()) };
        let local = watched.local;
        let mut batch = self.batch.take().unwrap_or_else(|| Batch::new(BATCH));
        let received = watched.get().receive(&mut batch);
        if !matches!(received, Ok(1..)) {
            self.batch = Some(batch);
            return Err(received.err().unwrap_or_else(|| ErrorKind::WouldBlock.into()));
        }
        let user_after = self.clock.raw_now();
        self.cross();
        let mut datagrams = batch.datagrams().filter(|datagram| !datagram.truncated).peekable();
        while datagrams.peek().is_some() {
            let now = self.look_around();
            for datagram in datagrams.by_ref().take(HELPING) {
                let received = Received {
                    socket: id,
                    from: datagram.from,
                    to: datagram.to.or(local),
                    data: datagram.data,
                    kernel: datagram.kernel.filter(|_| self.use_kernel_stamps),
                    hardware: None,
                    user_after,
                };
                self.feed(now, Input::Received(received), "");
            }
            self.settle();
        }
        drop(datagrams);
        self.batch = Some(batch);
        Ok(())
    }

    fn keep_house(&mut self) {
        let host = self.clock.host_state();
        if host != self.host {
            self.host = host;
            self.handle(Input::Host(host));
        }
        self.tend_ptp();
        if self.system.is_some() && self.drift.is_due(self.now()) {
            self.save_drift();
        }
        let report = self.report();
        self.recorder.sample(&report);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }

    // ---- outputs ---------------------------------------------------------------------------------------------------

    fn publish(&mut self, publication: Box<Publication>) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(&publication);
        }
        if let Some(clockbound) = &mut self.clockbound {
            clockbound.published(&publication);
        }
        self.last_publication = Some(publication);
    }

    fn refresh_clockbound(&mut self) {
        if let (Some(clockbound), Some(last)) = (&mut self.clockbound, &self.last_publication) {
            clockbound.refresh(last);
        }
    }

    fn resolve(&self, source: u32, host: String, port: u16) {
        let resolved = self.resolved.clone();
        tokio::task::spawn_local(async move {
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            let addresses = found.map(Iterator::collect).unwrap_or_default();
            let _ = resolved.send((source, addresses));
        });
    }

    fn tell(&self, event: &Event) {
        if !self.is_quiet {
            log::event(event);
        }
    }

    /// Reads the configuration file again and says so, with what cannot change while running. After an error nothing
    /// has changed.
    pub(crate) fn reload(&mut self) -> Result<String, String> {
        let outcome = self.apply_file();
        match &outcome {
            Ok(None) => return Ok("reloaded".to_owned()),
            Ok(Some(words)) | Err(words) => log::warn("reload", words),
        }
        outcome.map(|ignored| format!("reloaded; {}", ignored.unwrap_or_default()))
    }

    /// Gives what of the file is not applied.
    fn apply_file(&mut self) -> Result<Option<String>, String> {
        let Some(path) = &self.plan_path else {
            return Err("started without --config: nothing to read again".to_owned());
        };
        let (config, text) = Config::load_text(path).map_err(|error| error.to_string())?;
        let ignored = self.fixed.ignored(&config, self.agent.settings());
        // Replay does the same: the clock that is steered stays what it was.
        let settings = Settings { discipline: self.agent.settings().discipline, ..config.settings };
        let (old, new) = (listening(self.agent.settings()), listening(&settings));
        if old != new
            && let Err((address, error)) = self.sockets.listen(&new)
        {
            return Err(format!("cannot listen on {address}: {error}; the old settings stay in force"));
        }
        self.close_changed_ptp(&settings.ptp);
        self.feed = Feed::new(&config.feed);
        self.handle_text(Input::Reconfigured(Box::new(settings)), &text);
        self.tend_ptp();
        Ok(ignored)
    }

    fn save_drift(&mut self) {
        if let Some(drift) = self.agent.drift()
            && let Err(error) = self.drift.save(self.now(), drift, &self.host)
        {
            log::warn("drift-file", &error);
        }
    }

    /// Leaves the clock to itself, at the best rate that is known.
    fn leave_clock(&mut self) {
        if self.system.is_none() {
            return;
        }
        self.save_drift();
        if let Some(Steer::Rate { rate }) = self.agent.leave_clock()
            && let Some(system) = &self.system
        {
            let _ = system.set_rate(rate);
        }
    }

    /// Says good-bye on the page: the bound stays right and grows, but nobody looks after it.
    fn stop(&mut self) {
        self.leave_clock();
        if let (Some(publisher), Some(last)) = (&self.publisher, &mut self.last_publication)
            && last.status.has_bound()
        {
            last.status = Status::Holdover;
            last.reason = Reason::AgentStopped;
            publisher.publish(last);
        }
        self.refresh_clockbound();
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }
}

impl Fixed {
    /// Which settings of the file are not as they were, though they cannot change while running.
    fn ignored(&self, config: &Config, settings: &Settings) -> Option<String> {
        let changed = [
            ("stamps", config.stamps != self.stamps),
            ("clockbound", config.clockbound != self.clockbound),
            ("runtime-dir", config.agent.runtime_dir != self.agent.runtime_dir),
            ("journal", config.agent.journal != self.agent.journal),
            ("vmclock", config.agent.vmclock != self.agent.vmclock),
            ("drift-file", config.agent.drift_file != self.agent.drift_file),
            ("virtual", config.virtual_clock != self.virtual_clock),
            ("discipline", config.settings.discipline != settings.discipline),
        ];
        let names: Vec<&str> =
            changed.into_iter().filter_map(|(name, has_changed)| has_changed.then_some(name)).collect();
        (!names.is_empty()).then(|| format!("changed, but not applied before a restart: {}", names.join(", ")))
    }
}

/// CLOCK_REALTIME, if we are to steer it.
fn open_system(plan: &Plan) -> Result<Option<SystemClock>, StartError> {
    if plan.config.settings.discipline != Discipline::System || !plan.is_agent {
        return Ok(None);
    }
    SystemClock::take().map(Some).map_err(StartError::Clock)
}

fn outgoing(transmit: &Transmit, to: Option<SocketAddr>, use_stamps: bool) -> Outgoing<'_> {
    let Transmit { data, from, wants_stamp, .. } = transmit;
    Outgoing { data: data.as_slice(), to, from: *from, wants_stamp: *wants_stamp && use_stamps }
}

fn listening(settings: &Settings) -> Vec<SocketAddr> {
    settings.server.as_ref().map(|server| server.listen.clone()).unwrap_or_default()
}

fn open_clockbound(plan: &Plan, vm_path: Option<&Path>) -> Result<Option<ClockBound>, StartError> {
    let Config { clockbound, stamps, settings, .. } = &plan.config;
    if !plan.is_agent {
        return Ok(None);
    }
    Ok(ClockBound::open(clockbound, stamps.watch_steps, settings.bound.cpu_error_ns, vm_path)?)
}

/// The virtual clock, beginning at CLOCK_MONOTONIC_RAW `origin`; the seed chooses where in its swing it begins.
fn virtual_clock_at(origin: RawTime, config: &VirtualClockConfig) -> VirtualClock {
    VirtualClock {
        origin_ns: origin.as_ns(),
        offset_ns: config.offset_ns,
        freq: config.freq.to_rate_down(),
        wander: config.wander.to_rate_down(),
        period_ns: config.period_ns,
        phase_ns: i64::try_from(splitmix(config.seed) >> 1).unwrap_or(0).checked_rem(config.period_ns).unwrap_or(0),
    }
}

fn open_page(
    config: &Config,
    virtual_clock: Option<VirtualClock>,
    identity: &HostIdentity,
) -> Result<Publisher, StartError> {
    let dir = &config.agent.runtime_dir;
    std::fs::create_dir_all(dir).map_err(|error| StartError::Path(dir.clone(), error))?;
    Ok(Publisher::open(&dir.join("bound"), virtual_clock, identity)?)
}

/// Runs until a signal, or for the planned duration. Gives the last report.
pub(crate) async fn run(plan: Plan) -> Result<AgentReport, StartError> {
    let (mut shell, mut inboxes) = Shell::open(&plan)?;
    let (request_sender, mut requests) = mpsc::unbounded_channel::<Request>();
    if plan.is_agent {
        let path = plan.config.agent.runtime_dir.join("control");
        control::listen(&path, request_sender.clone()).map_err(|error| StartError::Path(path, error))?;
    }
    if shell.system.is_some() {
        tokio::time::sleep(TAKING_OVER).await;
    }
    begin(&mut shell);
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut house = tokio::time::interval(HOUSEKEEPING);
    let mut beat = tokio::time::interval(clockbound::REFRESH);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut end = pin!(tokio::time::sleep(plan.duration.unwrap_or_default()));
    if plan.is_agent {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }
    loop {
        let sleep_ns = shell.clock.sleep_ns(shell.next_deadline());
        // Sockets come last: strangers decide how often they are ready, and nobody else's turn may depend on that.
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // It says itself how it went.
            _ = hang_up.recv() => drop(shell.reload()),
            () = &mut end, if plan.duration.is_some() => break,
            _ = house.tick() => shell.keep_house(),
            _ = beat.tick(), if shell.clockbound.is_some() => shell.refresh_clockbound(),
            () = pause(sleep_ns) => shell.woken(),
            Some((source, addresses)) = inboxes.resolved.recv() => shell.handle(Input::Resolved { source, addresses }),
            Some(request) = requests.recv() => control::serve(&mut shell, request),
            Some(ready) = inboxes.ready.recv() => {
                let may_hold_more = match ready {
                    Ready::Ntp(id) => shell.socket_ready(id),
                    Ready::Ptp(port, channel) => shell.ptp_ready(port, channel),
                    Ready::Reference(association) => shell.reference_ready(association),
                };
                if may_hold_more {
                    // Lets the runtime look at timers, signals and the other sockets.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    shell.stop();
    Ok(shell.report())
}

/// Sleeps; not at all if the time has come. (A new timer of tokio's is never due at its first look, and while sockets
/// are ready there is no second.)
async fn pause(ns: u64) {
    if ns == 0 {
        // Ready, but not for ever without letting the runtime do its work.
        tokio::task::coop::consume_budget().await;
    } else {
        tokio::time::sleep(Duration::from_nanos(ns)).await;
    }
}

/// First words to the core: what is left of the previous run, and what this host is.
fn begin(shell: &mut Shell) {
    let host = shell.host;
    // NICs are set before the first packet leaves.
    let ports = shell.ptp.tend();
    match shell.publisher.as_ref().and_then(Publisher::last) {
        Some(last) => {
            let bound = host::restorable(&last, &host, shell.agent.settings()).then_some(last.bound);
            shell.handle(Input::Restored { bound, epoch: last.epoch });
        }
        // A fresh page: readers may remember the epochs of one that was removed, and raw time never comes again.
        None if shell.publisher.is_some() => {
            let epoch = shell.now().as_ns().unsigned_abs() / NS_PER_MS;
            shell.handle(Input::Restored { bound: None, epoch });
        }
        None => shell.handle(Input::Wakeup),
    }
    if let Some(drift) = shell.system.as_ref().and_then(|_| shell.drift.load(&host, shell.agent.settings())) {
        shell.handle(Input::Drift(drift));
    }
    shell.handle(Input::Host(host));
    shell.tell_ports(ports);
}
