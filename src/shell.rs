//! The IO shell: waits for a socket, a deadline, a signal or a request, hands it to the core, and does what the core
//! says. It decides nothing about time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use truebound_client::page::Publication;
use truebound_client::{Publisher, Reason, Status, VirtualClock};
use truebound_core::Agent;
use truebound_core::event::Event;
use truebound_core::io::{HostState, Input, Output, Received, SocketId, Transmit, TxToken};
use truebound_core::journal;
use truebound_core::report::AgentReport;
use truebound_core::settings::Settings;
use truebound_core::time::RawTime;
use truebound_hw::clock::HostClock;
use truebound_hw::socket::Batch;

use crate::config::{Config, VirtualClockConfig};
use crate::control::{self, Request};
use crate::discipline::{VirtualDiscipline, splitmix};
use crate::log;
use crate::recorder::Recorder;
use crate::sockets::Sockets;

/// Datagrams taken from a socket at once.
const BATCH: usize = 16;
/// A reading of both clocks this recent brackets the next transmission too, ns.
const FRESH_CROSS_NS: i64 = 200_000;
/// The host's clocksource and suspend counter are looked at this often.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What stops the agent before it runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The page.
    #[error("{0}")]
    Publish(#[from] truebound_client::PublishError),
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
    batch: Batch,
    publisher: Option<Publisher>,
    last_publication: Option<Box<Publication>>,
    pub(crate) discipline: Option<VirtualDiscipline>,
    pub(crate) recorder: Recorder,
    journal: Option<Journal>,
    resolved: mpsc::UnboundedSender<(u32, Vec<SocketAddr>)>,
    host: HostState,
    last_cross: RawTime,
    wants_cross: bool,
    outbox: VecDeque<Transmit>,
    wake_at: RawTime,
    use_kernel_stamps: bool,
    plan_path: Option<PathBuf>,
    is_quiet: bool,
}

/// A journal being written.
struct Journal {
    writer: journal::Writer,
    digest: journal::Digest,
    file: std::fs::File,
}

/// What the tasks send to the shell.
struct Inboxes {
    ready: mpsc::UnboundedReceiver<SocketId>,
    resolved: mpsc::UnboundedReceiver<(u32, Vec<SocketAddr>)>,
}

impl Shell {
    fn open(plan: &Plan) -> Result<(Shell, Inboxes), StartError> {
        let kernel_raw = HostClock::new(None, false).raw_now();
        let virtual_clock = plan.config.virtual_clock.as_ref().map(|clock| virtual_clock_at(kernel_raw, clock));
        let clock = HostClock::new(virtual_clock, plan.config.stamps.watch_steps);
        let now = clock.raw_now();
        let publisher = if plan.is_agent { Some(open_page(&plan.config, virtual_clock)?) } else { None };
        let (ready_sender, ready) = mpsc::unbounded_channel();
        let (resolved_sender, resolved) = mpsc::unbounded_channel();
        let mut sockets = Sockets::new(ready_sender);
        if let Some(server) = &plan.config.settings.server {
            sockets.listen(&server.listen).map_err(|(address, error)| StartError::Listen(address, error))?;
        }
        let settings = plan.config.settings.clone();
        let shell = Shell {
            agent: Agent::new(now, settings, plan.seed),
            discipline: plan.config.virtual_clock.as_ref().map(|c| VirtualDiscipline::new(now, c.jitter_ns, c.seed)),
            host: clock.host_state(),
            clock,
            sockets,
            batch: Batch::new(BATCH),
            publisher,
            last_publication: None,
            recorder: Recorder::new(),
            journal: open_journal(plan, now)?,
            resolved: resolved_sender,
            last_cross: RawTime::from_ns(i64::MIN),
            wants_cross: false,
            outbox: VecDeque::new(),
            wake_at: now,
            use_kernel_stamps: plan.config.stamps.kernel,
            plan_path: plan.path.clone(),
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
            } else if let Some(transmit) = self.outbox.pop_front() {
                self.transmit(&transmit);
            } else {
                break;
            }
        }
    }

    /// One input and its outputs, but for the datagrams to send.
    fn step(&mut self, input: Input<'_>, text: &str) {
        let now = self.clock.raw_now();
        if let Some(journal) = &mut self.journal {
            journal.writer.input(now, &input, text);
        }
        self.agent.handle(now, input);
        loop {
            let output = self.agent.poll();
            if let Some(journal) = &mut self.journal {
                journal.digest.add(&output);
            }
            match output {
                Output::Transmit(transmit) => self.outbox.push_back(transmit),
                Output::ReadCross => self.wants_cross = true,
                Output::Resolve { source, host, port } => self.resolve(source, host, port),
                Output::Close(association) => self.sockets.close(SocketId::Client(association)),
                Output::Steer(steer) => {
                    self.discipline.iter_mut().for_each(|clock| clock.steer(now, steer));
                }
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

    fn transmit(&mut self, transmit: &Transmit) {
        if self.clock.raw_now().ns_since(self.last_cross) > FRESH_CROSS_NS {
            self.cross();
        }
        let to = matches!(transmit.socket, SocketId::Server(_)).then_some(transmit.to);
        let watched = match self.sockets.get_or_open(transmit.socket, transmit.to) {
            Ok(watched) => watched,
            Err(_) => return self.step(Input::Unsent { token: transmit.token }, ""),
        };
        let user_before = self.clock.raw_now();
        let sent = watched.get().send(transmit.data.as_slice(), to, transmit.from);
        let user_after = self.clock.raw_now();
        if sent.is_err() {
            return self.step(Input::Unsent { token: transmit.token }, "");
        }
        let token = transmit.token;
        if self.use_kernel_stamps {
            watched.await_stamp(transmit, user_before);
        }
        self.step(Input::Sent { token, user_before, user_after, kernel: None }, "");
        self.collect_stamps(transmit.socket);
    }

    /// Stamps of what was sent, as they come.
    fn collect_stamps(&mut self, id: SocketId) {
        let Some(watched) = self.sockets.get_mut(id) else { return };
        let stamps = watched.stamps();
        let user_after = self.clock.raw_now();
        for stamped in stamps {
            let (token, user_before): (TxToken, RawTime) = (stamped.token, stamped.user_before);
            let sent = Input::Sent { token, user_before, user_after, kernel: Some(stamped.kernel) };
            self.step(sent, "");
        }
    }

    /// A socket is ready: stamps first, then datagrams until there are none.
    fn socket_ready(&mut self, id: SocketId) {
        self.collect_stamps(id);
        while self.receive(id) {}
        self.settle();
    }

    /// One batch; false when there was nothing.
    fn receive(&mut self, id: SocketId) -> bool {
        let Some(watched) = self.sockets.get_mut(id) else { return false };
        let local = watched.local.filter(|_| matches!(id, SocketId::Client(_)));
        match watched.get().receive(&mut self.batch) {
            Ok(0) => return false,
            Ok(_) => {}
            // A refused connection is reported once and then gone: look again.
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionRefused,
        }
        let user_after = self.clock.raw_now();
        self.cross();
        let batch = std::mem::replace(&mut self.batch, Batch::new(1));
        for datagram in batch.datagrams().filter(|datagram| !datagram.truncated) {
            let received = Received {
                socket: id,
                from: datagram.from,
                to: datagram.to.or(local),
                data: datagram.data,
                kernel: datagram.kernel.filter(|_| self.use_kernel_stamps),
                user_after,
            };
            self.step(Input::Received(received), "");
        }
        self.batch = batch;
        true
    }

    fn keep_house(&mut self) {
        let host = self.clock.host_state();
        if host != self.host {
            self.host = host;
            self.handle(Input::Host(host));
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
        self.last_publication = Some(publication);
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

    /// Reads the configuration file again. What cannot change while running is said.
    pub(crate) fn reload(&mut self) -> Result<(), String> {
        let Some(path) = &self.plan_path else {
            return Err("started without --config: nothing to read again".to_owned());
        };
        let config = Config::load(path).map_err(|error| error.to_string())?;
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let settings: Settings = config.settings;
        if settings.server != self.agent.settings().server {
            let listen = settings.server.as_ref().map(|server| server.listen.clone()).unwrap_or_default();
            self.sockets.listen(&listen).map_err(|(address, error)| format!("cannot listen on {address}: {error}"))?;
        }
        self.handle_text(Input::Reconfigured(Box::new(settings)), &text);
        Ok(())
    }

    /// Says good-bye on the page: the bound stays right and grows, but nobody looks after it.
    fn stop(&mut self) {
        if let (Some(publisher), Some(last)) = (&self.publisher, &mut self.last_publication)
            && last.status.has_bound()
        {
            last.status = Status::Holdover;
            last.reason = Reason::AgentStopped;
            publisher.publish(last);
        }
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }
}

impl Journal {
    /// The digest of what came out, then everything to the file.
    fn flush(&mut self) {
        use std::io::Write;
        self.writer.outputs(std::mem::take(&mut self.digest));
        if let Err(error) = self.file.write_all(&self.writer.take()) {
            log::warn("journal", &error.to_string());
        }
    }
}

fn open_journal(plan: &Plan, start: RawTime) -> Result<Option<Journal>, StartError> {
    let Some(path) = &plan.config.agent.journal else { return Ok(None) };
    let file = std::fs::File::create(path).map_err(|error| StartError::Path(path.clone(), error))?;
    let header = journal::Header { seed: plan.seed, start, config: plan.text.clone() };
    Ok(Some(Journal { writer: journal::Writer::new(&header), digest: journal::Digest::default(), file }))
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

fn open_page(config: &Config, virtual_clock: Option<VirtualClock>) -> Result<Publisher, StartError> {
    let dir = &config.agent.runtime_dir;
    std::fs::create_dir_all(dir).map_err(|error| StartError::Path(dir.clone(), error))?;
    Ok(Publisher::open(&dir.join("bound"), virtual_clock)?)
}

/// Does the page of the previous run still hold a bound under the assumptions of this one?
fn restorable(last: &Publication, host: &HostState, settings: &Settings) -> bool {
    let oscillator = &settings.oscillator;
    last.status.has_bound()
        && last.clocksource == host.clocksource
        && last.suspended_ns == host.suspended_ns
        && last.bound.half_wander >= truebound_core::units::half_wander(oscillator.wander_per_s)
        && last.spread >= oscillator.freq_spread.to_rate_up()
        && last.omega_limit >= oscillator.freq_limit.to_rate_up()
}

/// Runs until a signal, or for the planned duration. Gives the last report.
pub(crate) async fn run(plan: Plan) -> Result<AgentReport, StartError> {
    let (mut shell, mut inboxes) = Shell::open(&plan)?;
    let (request_sender, mut requests) = mpsc::unbounded_channel::<Request>();
    if plan.is_agent {
        let path = plan.config.agent.runtime_dir.join("control");
        control::listen(&path, request_sender.clone()).map_err(|error| StartError::Path(path, error))?;
    }
    begin(&mut shell);
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut house = tokio::time::interval(HOUSEKEEPING);
    let end = plan.duration.map(|duration| tokio::time::Instant::now() + duration);
    if plan.is_agent {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }
    loop {
        let sleep = tokio::time::sleep(Duration::from_nanos(shell.clock.sleep_ns(shell.wake_at)));
        tokio::select! {
            biased;
            Some(id) = inboxes.ready.recv() => shell.socket_ready(id),
            Some((source, addresses)) = inboxes.resolved.recv() => shell.handle(Input::Resolved { source, addresses }),
            () = sleep => shell.handle(Input::Wakeup),
            Some(request) = requests.recv() => control::serve(&mut shell, request),
            _ = house.tick() => shell.keep_house(),
            _ = hang_up.recv() => {
                if let Err(error) = shell.reload() {
                    log::warn("reload", &error);
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = tokio::time::sleep_until(end.unwrap_or_else(far_away)), if end.is_some() => break,
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    shell.stop();
    Ok(shell.report())
}

fn far_away() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(86_400)
}

/// First words to the core: what is left of the previous run, and what this host is.
fn begin(shell: &mut Shell) {
    let last = shell.publisher.as_ref().and_then(Publisher::last);
    let host = shell.host;
    match last.filter(|last| restorable(last, &host, shell.agent.settings())) {
        Some(last) => shell.handle(Input::Restored { bound: last.bound, epoch: last.epoch }),
        None => shell.handle(Input::Wakeup),
    }
    shell.handle(Input::Host(host));
}
