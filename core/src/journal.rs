//! Every input with its instant, and a digest of the outputs: enough to run the agent again, byte for byte.
//!
//! A journal is a header (magic, version, seed, start instant, the texts of configuration and leap seconds) and entries. An entry is one
//! byte of kind and its fields, integers little-endian. After each batch of outputs comes their digest: FNV-1a over
//! their debug forms, which name every field. A journal holds the seed, so whoever reads it can predict cookies.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use truebound_client::bound::Bound;
use truebound_client::host::{Foretold, VmMark};

use crate::io::{
    AssociationId, Control, CrossReading, Drift, Found, HardwareStamp, HostState, Input, KernelRate, Output, PhcId,
    PhcReading, PtpChannel, PtpLink, PtpPort, PtpReceived, Received, ReferenceRead, Setting, SocketId, Steer, TxToken,
};
use crate::settings::{FNV_OFFSET, fnv1a};
use crate::time::{PhcTime, RawTime, RealTime};
use crate::units::FreqError;

const MAGIC: [u8; 4] = *b"TBJ6";

/// What a journal begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The agent's seed.
    pub seed: [u8; 32],
    /// The instant it was made.
    pub start: RawTime,
    /// The configuration, as text.
    pub config: String,
    /// The leap seconds known then, as [`crate::leap::LeapTable::to_text`] writes them: they come of another file.
    pub leap: String,
}

/// One entry, owning its bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// An input other than the two below.
    Input(RawTime, OwnedInput),
    /// [`Input::Reconfigured`] with the new texts of configuration and leap seconds.
    Reconfigured(RawTime, String, String),
    /// [`Control::AddSource`] with the text of its table.
    AddSource(RawTime, String),
    /// Digest of the outputs since the last one.
    Outputs(u64),
}

/// [`Input`] without borrows.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedInput {
    /// [`Input::Received`].
    Received {
        /// The datagram's bytes.
        data: Vec<u8>,
        /// Where it arrived.
        socket: SocketId,
        /// Who sent it.
        from: SocketAddr,
        /// To which local address.
        to: Option<IpAddr>,
        /// The kernel's stamp.
        kernel: Option<RealTime>,
        /// The NIC's.
        hardware: Option<HardwareStamp>,
        /// Raw time after it was received.
        user_after: RawTime,
    },
    /// [`Input::PtpReceived`].
    PtpReceived {
        /// The message's bytes.
        data: Vec<u8>,
        /// By which port.
        port: PtpPort,
        /// Through which socket.
        channel: PtpChannel,
        /// The kernel's stamp.
        kernel: Option<RealTime>,
        /// The NIC's.
        hardware: Option<HardwareStamp>,
        /// Raw time after it was received.
        user_after: RawTime,
    },
    /// [`Input::PhcCrossed`].
    PhcCrossed(PhcReading),
    /// [`Input::Reference`].
    Reference {
        /// Whose.
        association: AssociationId,
        /// Raw time after it was looked at.
        user_after: RawTime,
        /// What was found.
        found: OwnedFound,
    },
    /// [`Input::Link`].
    Link(PtpPort, Option<PtpLink>),
    /// [`Input::Sent`].
    Sent(TxToken, RawTime, RawTime, Option<RealTime>, Option<HardwareStamp>),
    /// [`Input::Unsent`].
    Unsent(TxToken),
    /// [`Input::CrossStamped`].
    CrossStamped(CrossReading),
    /// [`Input::Host`].
    Host(HostState),
    /// [`Input::Resolved`].
    Resolved(u32, Vec<SocketAddr>),
    /// [`Input::Restored`].
    Restored(Option<Bound>, u64),
    /// [`Input::Control`] without text.
    Burst,
    /// [`Control::MakeStep`].
    MakeStep,
    /// [`Input::Drift`].
    Drift(Drift),
    /// [`Input::Steered`].
    Steered(Steer, bool),
    /// [`Control::RemoveSource`].
    RemoveSource(String),
    /// [`Input::Wakeup`].
    Wakeup,
}

/// [`Found`] without borrows.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedFound {
    /// [`Found::Segment`].
    Segment(Vec<u8>),
    /// [`Found::Datagram`].
    Datagram(Vec<u8>),
    /// [`Found::Pulse`].
    Pulse(u32, RealTime),
    /// [`Found::Torn`].
    Torn,
    /// [`Found::Absent`].
    Absent,
}

impl OwnedFound {
    fn as_found(&self) -> Found<'_> {
        match self {
            OwnedFound::Segment(bytes) => Found::Segment(bytes),
            OwnedFound::Datagram(bytes) => Found::Datagram(bytes),
            OwnedFound::Pulse(sequence, at) => Found::Pulse { sequence: *sequence, at: *at },
            OwnedFound::Torn => Found::Torn,
            OwnedFound::Absent => Found::Absent,
        }
    }
}

impl OwnedInput {
    /// As the agent takes it.
    #[must_use]
    pub fn as_input(&self) -> Input<'_> {
        match self {
            OwnedInput::Received { data, socket, from, to, kernel, hardware, user_after } => {
                Input::Received(Received {
                    socket: *socket,
                    from: *from,
                    to: *to,
                    data,
                    kernel: *kernel,
                    hardware: *hardware,
                    user_after: *user_after,
                })
            }
            OwnedInput::PtpReceived { data, port, channel, kernel, hardware, user_after } => {
                Input::PtpReceived(PtpReceived {
                    port: *port,
                    channel: *channel,
                    data,
                    kernel: *kernel,
                    hardware: *hardware,
                    user_after: *user_after,
                })
            }
            OwnedInput::PhcCrossed(reading) => Input::PhcCrossed(*reading),
            OwnedInput::Reference { association, user_after, found } => Input::Reference(ReferenceRead {
                association: *association,
                user_after: *user_after,
                found: found.as_found(),
            }),
            OwnedInput::Link(port, link) => Input::Link { port: *port, link: *link },
            OwnedInput::Sent(token, user_before, user_after, kernel, hardware) => Input::Sent {
                token: *token,
                user_before: *user_before,
                user_after: *user_after,
                kernel: *kernel,
                hardware: *hardware,
            },
            OwnedInput::Unsent(token) => Input::Unsent { token: *token },
            OwnedInput::CrossStamped(reading) => Input::CrossStamped(*reading),
            OwnedInput::Host(host) => Input::Host(*host),
            OwnedInput::Resolved(source, addresses) => {
                Input::Resolved { source: *source, addresses: addresses.clone() }
            }
            OwnedInput::Restored(bound, epoch) => Input::Restored { bound: *bound, epoch: *epoch },
            OwnedInput::Drift(drift) => Input::Drift(*drift),
            OwnedInput::Steered(steer, is_done) => Input::Steered { steer: *steer, is_done: *is_done },
            OwnedInput::Burst => Input::Control(Control::Burst),
            OwnedInput::MakeStep => Input::Control(Control::MakeStep),
            OwnedInput::RemoveSource(name) => Input::Control(Control::RemoveSource(name.clone())),
            OwnedInput::Wakeup => Input::Wakeup,
        }
    }
}

/// Digest of outputs, FNV-1a.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(FNV_OFFSET)
    }
}

impl Digest {
    /// Adds an output.
    pub fn add(&mut self, output: &Output) {
        self.0 = fnv1a(self.0, format!("{output:?}\n").bytes());
    }

    /// The digest so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

/// Writes a journal into a buffer, which the caller empties into a file.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A journal with its header.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let mut writer = Writer::default();
        writer.bytes.extend(MAGIC);
        writer.bytes.extend(header.seed);
        writer.time(header.start);
        writer.text(&header.config);
        writer.text(&header.leap);
        writer
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// An input; `text` is the configuration or the table that a reconfiguration or an added source came from.
    pub fn input(&mut self, now: RawTime, input: &Input<'_>, text: &str) {
        match input {
            Input::Received(received) => {
                self.head(1, now);
                self.socket(received.socket);
                self.address(received.from);
                self.ip(received.to);
                self.stamp(received.kernel);
                self.hardware(received.hardware);
                self.time(received.user_after);
                self.blob(received.data);
            }
            Input::PtpReceived(received) => {
                self.head(14, now);
                self.u64(u64::from(received.port.0));
                self.bytes.push(u8::from(received.channel == PtpChannel::General));
                self.stamp(received.kernel);
                self.hardware(received.hardware);
                self.time(received.user_after);
                self.blob(received.data);
            }
            Input::PhcCrossed(reading) => {
                self.head(15, now);
                self.phc_reading(reading);
            }
            Input::Reference(read) => {
                self.head(17, now);
                self.u64(u64::from(read.association.0));
                self.time(read.user_after);
                self.found(&read.found);
            }
            Input::Link { port, link } => {
                self.head(16, now);
                self.u64(u64::from(port.0));
                self.link(*link);
            }
            Input::Sent { token, user_before, user_after, kernel, hardware } => {
                self.head(2, now);
                self.u64(token.0);
                self.time(*user_before);
                self.time(*user_after);
                self.stamp(*kernel);
                self.hardware(*hardware);
            }
            Input::Unsent { token } => {
                self.head(3, now);
                self.u64(token.0);
            }
            Input::CrossStamped(reading) => {
                self.head(4, now);
                self.reading(reading);
            }
            Input::Host(host) => {
                self.head(5, now);
                self.bytes.extend(host.clocksource);
                self.i64(host.suspended_ns);
                self.u64(host.vm_mark.disruption_marker);
                self.u64(host.vm_mark.generation);
                self.u64(host.foretold as u64);
            }
            Input::Resolved { source, addresses } => {
                self.head(6, now);
                self.u64(u64::from(*source));
                self.u64(addresses.len() as u64);
                addresses.iter().for_each(|&address| self.address(address));
            }
            Input::Restored { bound, epoch } => {
                self.head(7, now);
                self.u64(*epoch);
                self.bytes.push(u8::from(bound.is_some()));
                bound.iter().for_each(|bound| self.bound(bound));
            }
            Input::Drift(drift) => {
                self.head(20, now);
                self.i64(drift.omega.to_rate_down());
                self.i64(drift.sigma.to_rate_up());
            }
            Input::Steered { steer, is_done } => {
                self.head(21, now);
                let (kind, value) = match steer {
                    Steer::Rate { rate } => (0, *rate),
                    Steer::Step { ns } => (1, *ns),
                };
                self.bytes.extend([kind, u8::from(*is_done)]);
                self.i64(value);
            }
            Input::Control(Control::Burst) => self.head(8, now),
            Input::Control(Control::MakeStep) => self.head(9, now),
            Input::Control(Control::RemoveSource(name)) => {
                self.head(10, now);
                self.text(name);
            }
            Input::Wakeup => self.head(11, now),
            Input::Reconfigured(settings) => {
                self.head(12, now);
                self.text(text);
                self.text(&settings.leap.to_text());
            }
            Input::Control(Control::AddSource(_)) => {
                self.head(13, now);
                self.text(text);
            }
        }
    }

    /// The digest of the outputs since the last input.
    pub fn outputs(&mut self, digest: Digest) {
        self.bytes.push(0);
        self.u64(digest.value());
    }

    fn head(&mut self, kind: u8, now: RawTime) {
        self.bytes.push(kind);
        self.time(now);
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn time(&mut self, at: RawTime) {
        self.i64(at.as_ns());
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    fn stamp(&mut self, stamp: Option<RealTime>) {
        self.bytes.push(u8::from(stamp.is_some()));
        self.i64(stamp.map_or(0, RealTime::as_ns));
    }

    fn socket(&mut self, socket: SocketId) {
        let (kind, number) = match socket {
            SocketId::Client(id) => (0, u64::from(id.0)),
            SocketId::Server(index) => (1, u64::from(index)),
        };
        self.bytes.push(kind);
        self.u64(number);
    }

    fn ip(&mut self, ip: Option<IpAddr>) {
        match ip {
            None => self.bytes.push(0),
            Some(IpAddr::V4(address)) => {
                self.bytes.push(4);
                self.bytes.extend(address.octets());
            }
            Some(IpAddr::V6(address)) => {
                self.bytes.push(6);
                self.bytes.extend(address.octets());
            }
        }
    }

    fn address(&mut self, address: SocketAddr) {
        self.ip(Some(address.ip()));
        self.u64(u64::from(address.port()));
        if let SocketAddr::V6(v6) = address {
            self.u64(u64::from(v6.flowinfo()));
            self.u64(u64::from(v6.scope_id()));
        }
    }

    fn hardware(&mut self, stamp: Option<HardwareStamp>) {
        self.bytes.push(u8::from(stamp.is_some()));
        self.u64(stamp.map_or(0, |stamp| u64::from(stamp.phc.0)));
        self.i64(stamp.map_or(0, |stamp| stamp.time.as_ns()));
    }

    fn link(&mut self, link: Option<PtpLink>) {
        self.bytes.push(u8::from(link.is_some()));
        let Some(PtpLink { identity, phc }) = link else { return };
        self.bytes.extend(identity);
        self.bytes.push(u8::from(phc.is_some()));
        self.u64(phc.map_or(0, |phc| u64::from(phc.0)));
    }

    fn reading(&mut self, reading: &CrossReading) {
        self.cross(reading, reading.real.as_ns());
    }

    fn found(&mut self, found: &Found<'_>) {
        let (kind, bytes) = match *found {
            Found::Segment(bytes) => (0, Some(bytes)),
            Found::Datagram(bytes) => (1, Some(bytes)),
            Found::Pulse { .. } => (2, None),
            Found::Torn => (3, None),
            Found::Absent => (4, None),
        };
        self.bytes.push(kind);
        bytes.into_iter().for_each(|bytes| self.blob(bytes));
        if let Found::Pulse { sequence, at } = *found {
            self.u64(u64::from(sequence));
            self.i64(at.as_ns());
        }
    }

    fn phc_reading(&mut self, PhcReading { phc, cross, max_adj_ppb, stated_error_ns }: &PhcReading) {
        self.u64(u64::from(phc.0));
        self.cross(cross, cross.real.as_ns());
        self.i64(*max_adj_ppb);
        self.bytes.push(u8::from(stated_error_ns.is_some()));
        self.i64(stated_error_ns.unwrap_or(0));
    }

    fn cross<T>(&mut self, reading: &CrossReading<T>, real_ns: i64) {
        self.time(reading.before);
        self.i64(real_ns);
        self.time(reading.after);
        let (kind, ppb) = match reading.rate {
            KernelRate::Steady { ppb } => (1, ppb),
            KernelRate::Unknown => (0, 0),
        };
        let setting = match reading.setting {
            Setting::Unset => 0,
            Setting::Set => 1,
            Setting::Untold => 2,
        };
        self.bytes.extend([kind, setting]);
        self.i64(ppb);
    }

    fn bound(&mut self, b: &Bound) {
        let signed =
            [b.t_ref_ns, b.void_after_ns, b.theta_lo_ns, b.theta_hi_ns, b.omega_lo, b.omega_hi, b.cap_lo, b.cap_hi];
        signed.into_iter().for_each(|word| self.i64(word));
        self.u64(b.half_wander);
        self.i64(b.phase_rate);
    }
}

/// Reads a journal. `None` at any point: it is cut off or damaged from there on.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The header, and a reader of the entries.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<(Header, Self)> {
        let mut reader = Reader { rest: bytes };
        if reader.array::<4>()? != MAGIC {
            return None;
        }
        let header =
            Header { seed: reader.array()?, start: reader.time()?, config: reader.text()?, leap: reader.text()? };
        Some((header, reader))
    }

    /// Is everything read?
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next entry.
    pub fn next_entry(&mut self) -> Option<Entry> {
        let [kind] = self.array()?;
        if kind == 0 {
            return Some(Entry::Outputs(self.u64()?));
        }
        let now = self.time()?;
        Some(match kind {
            12 => Entry::Reconfigured(now, self.text()?, self.text()?),
            13 => Entry::AddSource(now, self.text()?),
            _ => Entry::Input(now, self.input(kind)?),
        })
    }

    fn input(&mut self, kind: u8) -> Option<OwnedInput> {
        Some(match kind {
            1 => OwnedInput::Received {
                socket: self.socket()?,
                from: self.address()?,
                to: self.ip()?,
                kernel: self.stamp()?,
                hardware: self.hardware()?,
                user_after: self.time()?,
                data: self.blob()?.to_vec(),
            },
            2 => OwnedInput::Sent(TxToken(self.u64()?), self.time()?, self.time()?, self.stamp()?, self.hardware()?),
            3 => OwnedInput::Unsent(TxToken(self.u64()?)),
            4 => OwnedInput::CrossStamped(self.reading()?),
            5 => OwnedInput::Host(self.host()?),
            6 => {
                let source = u32::try_from(self.u64()?).ok()?;
                let count = self.u64()?;
                let addresses: Option<Vec<SocketAddr>> = (0..count).map(|_| self.address()).collect();
                OwnedInput::Resolved(source, addresses?)
            }
            7 => {
                let epoch = self.u64()?;
                let bound = if self.array()? == [1] { Some(self.bound()?) } else { None };
                OwnedInput::Restored(bound, epoch)
            }
            8 => OwnedInput::Burst,
            9 => OwnedInput::MakeStep,
            10 => OwnedInput::RemoveSource(self.text()?),
            11 => OwnedInput::Wakeup,
            14 => OwnedInput::PtpReceived {
                port: self.port()?,
                channel: if self.array()? == [1] { PtpChannel::General } else { PtpChannel::Event },
                kernel: self.stamp()?,
                hardware: self.hardware()?,
                user_after: self.time()?,
                data: self.blob()?.to_vec(),
            },
            15 => OwnedInput::PhcCrossed(self.phc_reading()?),
            16 => OwnedInput::Link(self.port()?, self.link()?),
            17 => OwnedInput::Reference {
                association: AssociationId(u32::try_from(self.u64()?).ok()?),
                user_after: self.time()?,
                found: self.found()?,
            },
            20 => OwnedInput::Drift(Drift {
                omega: FreqError::from_rate(self.i64()?),
                sigma: FreqError::from_rate(self.i64()?),
            }),
            21 => {
                let [kind, is_done] = self.array()?;
                let value = self.i64()?;
                let steer = if kind == 1 { Steer::Step { ns: value } } else { Steer::Rate { rate: value } };
                OwnedInput::Steered(steer, is_done == 1)
            }
            _ => return None,
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*first)
    }

    fn host(&mut self) -> Option<HostState> {
        Some(HostState {
            clocksource: self.array()?,
            suspended_ns: self.i64()?,
            vm_mark: VmMark { disruption_marker: self.u64()?, generation: self.u64()? },
            foretold: match self.u64()? {
                0 => Foretold::Nothing,
                1 => Foretold::Soon,
                2 => Foretold::Imminent,
                _ => return None,
            },
        })
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn time(&mut self) -> Option<RawTime> {
        self.i64().map(RawTime::from_ns)
    }

    fn blob(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (first, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(first)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.blob()?.to_vec()).ok()
    }

    fn stamp(&mut self) -> Option<Option<RealTime>> {
        let [is_some] = self.array()?;
        let ns = self.i64()?;
        Some((is_some == 1).then_some(RealTime::from_ns(ns)))
    }

    fn socket(&mut self) -> Option<SocketId> {
        let [kind] = self.array()?;
        let number = self.u64()?;
        Some(match kind {
            0 => SocketId::Client(AssociationId(u32::try_from(number).ok()?)),
            _ => SocketId::Server(u16::try_from(number).ok()?),
        })
    }

    fn ip(&mut self) -> Option<Option<IpAddr>> {
        Some(match self.array()? {
            [4] => Some(IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))),
            [6] => Some(IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))),
            _ => None,
        })
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = self.ip()??;
        let port = u16::try_from(self.u64()?).ok()?;
        Some(match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, port),
            IpAddr::V6(ip) => {
                let (flowinfo, scope_id) = (u32::try_from(self.u64()?).ok()?, u32::try_from(self.u64()?).ok()?);
                SocketAddrV6::new(ip, port, flowinfo, scope_id).into()
            }
        })
    }

    fn port(&mut self) -> Option<PtpPort> {
        u16::try_from(self.u64()?).ok().map(PtpPort)
    }

    fn phc(&mut self) -> Option<PhcId> {
        u32::try_from(self.u64()?).ok().map(PhcId)
    }

    fn hardware(&mut self) -> Option<Option<HardwareStamp>> {
        let [is_some] = self.array()?;
        let stamp = HardwareStamp { phc: self.phc()?, time: PhcTime::from_ns(self.i64()?) };
        Some((is_some == 1).then_some(stamp))
    }

    fn link(&mut self) -> Option<Option<PtpLink>> {
        if self.array()? != [1] {
            return Some(None);
        }
        let (identity, [is_some], phc) = (self.array()?, self.array()?, self.phc()?);
        Some(Some(PtpLink { identity, phc: (is_some == 1).then_some(phc) }))
    }

    fn found(&mut self) -> Option<OwnedFound> {
        Some(match self.array()? {
            [0] => OwnedFound::Segment(self.blob()?.to_vec()),
            [1] => OwnedFound::Datagram(self.blob()?.to_vec()),
            [2] => OwnedFound::Pulse(u32::try_from(self.u64()?).ok()?, RealTime::from_ns(self.i64()?)),
            [3] => OwnedFound::Torn,
            [4] => OwnedFound::Absent,
            _ => return None,
        })
    }

    fn phc_reading(&mut self) -> Option<PhcReading> {
        let (phc, cross, max_adj_ppb) = (self.phc()?, self.cross(PhcTime::from_ns)?, self.i64()?);
        let ([is_some], error_ns) = (self.array()?, self.i64()?);
        Some(PhcReading { phc, cross, max_adj_ppb, stated_error_ns: (is_some == 1).then_some(error_ns) })
    }

    fn reading(&mut self) -> Option<CrossReading> {
        self.cross(RealTime::from_ns)
    }

    fn cross<T>(&mut self, real: impl Fn(i64) -> T) -> Option<CrossReading<T>> {
        let (before, real, after) = (self.time()?, real(self.i64()?), self.time()?);
        let [kind, setting] = self.array()?;
        let ppb = self.i64()?;
        let rate = if kind == 1 { KernelRate::Steady { ppb } } else { KernelRate::Unknown };
        let setting = match setting {
            0 => Setting::Unset,
            1 => Setting::Set,
            _ => Setting::Untold,
        };
        Some(CrossReading { before, real, after, rate, setting })
    }

    fn bound(&mut self) -> Option<Bound> {
        Some(Bound {
            t_ref_ns: self.i64()?,
            void_after_ns: self.i64()?,
            theta_lo_ns: self.i64()?,
            theta_hi_ns: self.i64()?,
            omega_lo: self.i64()?,
            omega_hi: self.i64()?,
            cap_lo: self.i64()?,
            cap_hi: self.i64()?,
            half_wander: self.u64()?,
            phase_rate: self.i64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<OwnedInput> {
        let at = RawTime::from_ns;
        vec![
            OwnedInput::Received {
                data: vec![1, 2, 3],
                socket: SocketId::Client(AssociationId(7)),
                from: "[2001:db8::1]:123".parse().expect("an address"),
                to: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                kernel: Some(RealTime::from_ns(-5)),
                hardware: None,
                user_after: at(99),
            },
            OwnedInput::PtpReceived {
                data: vec![4, 5],
                port: PtpPort(3),
                channel: PtpChannel::General,
                kernel: None,
                hardware: Some(HardwareStamp { phc: PhcId(1), time: PhcTime::from_ns(-6) }),
                user_after: at(98),
            },
            OwnedInput::PhcCrossed(PhcReading {
                phc: PhcId(2),
                cross: CrossReading {
                    before: at(5),
                    real: PhcTime::from_ns(6),
                    after: at(7),
                    rate: KernelRate::Unknown,
                    setting: Setting::Unset,
                },
                max_adj_ppb: 999_999_881,
                stated_error_ns: Some(40),
            }),
            OwnedInput::Reference {
                association: AssociationId(8),
                user_after: at(97),
                found: OwnedFound::Segment(vec![7; 96]),
            },
            OwnedInput::Reference {
                association: AssociationId(9),
                user_after: at(96),
                found: OwnedFound::Datagram(vec![8, 9]),
            },
            OwnedInput::Reference {
                association: AssociationId(10),
                user_after: at(95),
                found: OwnedFound::Pulse(u32::MAX, RealTime::from_ns(-7)),
            },
            OwnedInput::Reference { association: AssociationId(11), user_after: at(94), found: OwnedFound::Torn },
            OwnedInput::Reference { association: AssociationId(12), user_after: at(93), found: OwnedFound::Absent },
            OwnedInput::Link(PtpPort(0), Some(PtpLink { identity: [9; 8], phc: Some(PhcId(0)) })),
            OwnedInput::Link(PtpPort(1), None),
            OwnedInput::Sent(TxToken(1 << 63), at(1), at(2), None, None),
            OwnedInput::Unsent(TxToken(3)),
            OwnedInput::CrossStamped(CrossReading {
                before: at(1),
                real: RealTime::from_ns(2),
                after: at(3),
                rate: KernelRate::Steady { ppb: -83_333_000 },
                setting: Setting::Set,
            }),
            OwnedInput::Host(HostState {
                clocksource: *b"tsc\0\0\0\0\0\0\0\0\0\0\0\0\0",
                suspended_ns: 4,
                vm_mark: VmMark { disruption_marker: 5, generation: 6 },
                foretold: Foretold::Soon,
            }),
            OwnedInput::Resolved(
                2,
                vec![
                    "192.0.2.1:1123".parse().expect("an address"),
                    SocketAddrV6::new("fe80::1".parse().expect("an address"), 123, 5, 7).into(),
                ],
            ),
            OwnedInput::Restored(Some(Bound { t_ref_ns: 1, half_wander: 9, phase_rate: -3, ..Bound::default() }), 12),
            OwnedInput::Restored(None, 13),
            OwnedInput::Drift(Drift { omega: FreqError::from_rate(-5), sigma: FreqError::from_rate(6) }),
            OwnedInput::Steered(Steer::Rate { rate: -7 }, true),
            OwnedInput::Steered(Steer::Step { ns: 8 }, false),
            OwnedInput::Burst,
            OwnedInput::MakeStep,
            OwnedInput::RemoveSource("größe".to_owned()),
            OwnedInput::Wakeup,
        ]
    }

    #[test]
    fn every_input_round_trips() {
        let (config, leap) = ("a = 1\n".to_owned(), "#@ 1\n".to_owned());
        let header = Header { seed: [7; 32], start: RawTime::from_ns(-1), config, leap };
        let mut writer = Writer::new(&header);
        for (now, input) in (0i64..).zip(&inputs()) {
            writer.input(RawTime::from_ns(now), &input.as_input(), "");
        }
        let settings = crate::settings::Settings::default();
        let leap = settings.leap.to_text();
        writer.input(RawTime::from_ns(-2), &Input::Reconfigured(Box::new(settings)), "b = 2\n");
        writer.outputs(Digest(42));
        let bytes = writer.take();
        let (read_header, mut reader) = Reader::new(&bytes).expect("a journal");
        assert_eq!(read_header, header);
        for (now, input) in (0i64..).zip(inputs()) {
            assert_eq!(reader.next_entry(), Some(Entry::Input(RawTime::from_ns(now), input)));
        }
        let reconfigured = Entry::Reconfigured(RawTime::from_ns(-2), "b = 2\n".to_owned(), leap);
        assert_eq!(reader.next_entry(), Some(reconfigured));
        assert_eq!(reader.next_entry(), Some(Entry::Outputs(42)));
        assert!(reader.is_at_end());
    }

    #[test]
    fn a_journal_cut_off_anywhere_is_noticed() {
        let (config, leap) = (String::new(), String::new());
        let mut writer = Writer::new(&Header { seed: [0; 32], start: RawTime::from_ns(0), config, leap });
        inputs().iter().for_each(|input| writer.input(RawTime::from_ns(0), &input.as_input(), ""));
        let bytes = writer.take();
        for length in 0..bytes.len() {
            let Some((_, mut reader)) = Reader::new(&bytes[..length]) else { continue };
            while reader.next_entry().is_some() {}
        }
    }
}
