//! The configuration file: from what an operator wrote to what it means, or to an error that says how to write it.
//!
//! Parsing has two stages. TOML becomes values that know where they stand ([`toml::de::DeTable`]); each table is then
//! read key by key into typed settings, every unknown key refused and every range enforced. Defaults are those of
//! core's [`Settings`]; what core does not know has its default here, in the `Default` of its struct.

#[path = "config/address.rs"]
mod address;
#[path = "config/clockbound.rs"]
mod clockbound;
#[path = "config/error.rs"]
mod error;
#[path = "config/feed.rs"]
mod feed;
#[path = "config/ptp.rs"]
mod ptp;
#[path = "config/quantity.rs"]
pub(crate) mod quantity;
#[path = "config/source.rs"]
mod source;
#[path = "config/table.rs"]
mod table;

use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use truebound_client::host::VM_PATH_BYTES;
use truebound_core::leap::LeapTable;
use truebound_core::settings::{
    BoundSettings, Discipline, LeapPolicy, Oscillator, RateLimit, RivalPolicy, ServerSettings, ServoSettings, Settings,
    StepPolicy,
};
use truebound_core::units::{FreqError, to_f64, to_i64};

use address::{listen_address, prefixes};
pub(crate) use clockbound::ClockBoundConfig;
use clockbound::read_clockbound;
pub(crate) use error::ConfigError;
use error::Document;
pub(crate) use feed::FeedConfig;
use feed::read_feed;
use ptp::read_ports;
use quantity::{DAY, H, MIN, MS, S, US, show_duration, show_frequency};
use source::read_sources;
use table::{Entry, Table, boolean, choice, duration, frequency, integer, list, path, phase_noise, string, wander};

/// The file as a whole, in [`TABLES`].
pub(crate) const ROOT: &str = "";

/// Every table and its keys: what else the file says is refused.
pub(crate) const TABLES: [(&str, &[&str]); 13] = [
    (
        ROOT,
        &[
            "runtime-dir",
            "journal",
            "clock",
            "virtual",
            "bound",
            "selection",
            "servo",
            "stamps",
            "server",
            "leap",
            "clockbound",
            "feed",
            "source",
            "ptp",
        ],
    ),
    (
        "clock",
        &["discipline", "drift-file", "oscillator", "freq-limit", "wander", "freq-spread", "phase-noise", "vmclock"],
    ),
    ("virtual", &["offset", "freq", "wander", "period", "jitter", "seed", "break-assumptions"]),
    ("bound", &["cpu-error", "max-holdover", "publish-interval", "memory"]),
    ("selection", &["max-liars"]),
    ("servo", &["time-constant", "max-slew", "step-threshold", "step", "leap", "rival"]),
    ("stamps", &["kernel", "watch-steps", "error"]),
    ("server", &["enabled", "listen", "allow", "deny", "min-interval", "burst"]),
    ("leap", &["file"]),
    ("clockbound", &["shm0", "shm1", "directory", "realtime-slew"]),
    ("feed", &["sock", "shm"]),
    (
        "source",
        &[
            "name",
            "server",
            "pool",
            "local",
            "phc",
            "shm",
            "sock",
            "pps",
            "poll-min",
            "poll-max",
            "burst",
            "interleaved",
            "pairs",
            "filter",
            "trust",
            "group",
            "claim-floor",
            "agent",
            "extfield",
            "max-distance",
            "smear",
            "count",
            "shift",
            "error",
            "timescale",
            "access",
            "edge",
        ],
    ),
    (
        "ptp",
        &[
            "interface",
            "name",
            "domain",
            "transport",
            "delay",
            "role",
            "timescale",
            "priority1",
            "priority2",
            "announce-interval",
            "sync-interval",
            "delay-interval",
            "announce-timeout",
            "stamps",
            "stamp-error",
            "remote-stamp-error",
            "ingress-latency",
            "egress-latency",
            "delay-asymmetry",
            "hop-error",
            "phc",
            "trust",
            "group",
            "filter",
        ],
    ),
];

/// Read if `[leap]` names no other file; it may be missing.
const LEAP_FILE: &str = "/usr/share/zoneinfo/leap-seconds.list";
/// A list of leap seconds is a few kB.
const LEAP_FILE_LIMIT: u64 = 1 << 20;

/// Requests of one client that a server answers at once after a rest: more than any client's burst at its start.
const DEFAULT_BURST: u32 = 16;

/// Everything the file decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// What core is told.
    pub(crate) settings: Settings,
    /// Files, devices and seed of the agent.
    pub(crate) agent: AgentConfig,
    /// The virtual clock, with `discipline = "virtual"`.
    pub(crate) virtual_clock: Option<VirtualClockConfig>,
    /// How packets and steps are observed.
    pub(crate) stamps: StampConfig,
    /// What ClockBound's clients get.
    pub(crate) clockbound: ClockBoundConfig,
    /// Where our estimate goes besides.
    pub(crate) feed: FeedConfig,
}

/// Files, devices and seed of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentConfig {
    /// Where the page and the control socket live.
    pub(crate) runtime_dir: PathBuf,
    /// Where every input is recorded, if anywhere.
    pub(crate) journal: Option<PathBuf>,
    /// The hypervisor's page that is watched.
    pub(crate) vmclock: VmClockChoice,
    /// Where the frequency is kept between runs, while CLOCK_REALTIME is steered.
    pub(crate) drift_file: PathBuf,
    /// Not in the file, since packets' cookies come of it: for tests and demonstrations.
    pub(crate) seed: Option<u64>,
}

/// Which page of a hypervisor (linux/vmclock-abi.h) is watched for disruptions of this VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum VmClockChoice {
    /// [`VM_CLOCK`], if there is one.
    #[default]
    Auto,
    /// None.
    Off,
    /// This one, or the agent does not start.
    At(PathBuf),
}

/// Where the kernel puts the first such page.
pub(crate) const VM_CLOCK: &str = "/dev/vmclock0";

impl Default for AgentConfig {
    fn default() -> Self {
        let runtime_dir = PathBuf::from("/run/truebound");
        let drift_file = PathBuf::from("/var/lib/truebound/drift");
        AgentConfig { runtime_dir, journal: None, vmclock: VmClockChoice::Auto, drift_file, seed: None }
    }
}

/// How packets and steps are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StampConfig {
    /// Ask the kernel for stamps; otherwise only user stamps are used.
    pub(crate) kernel: bool,
    /// Notice when CLOCK_REALTIME is stepped.
    pub(crate) watch_steps: bool,
}

impl Default for StampConfig {
    fn default() -> Self {
        StampConfig { kernel: true, watch_steps: true }
    }
}

/// How the virtual clock deviates from CLOCK_MONOTONIC_RAW, which is true time to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct VirtualClockConfig {
    /// Initial deviation, ns.
    pub(crate) offset_ns: i64,
    /// Constant frequency error; positive runs fast.
    pub(crate) freq: FreqError,
    /// Amplitude of the triangle wave of frequency.
    pub(crate) wander: FreqError,
    /// Its period, ns.
    pub(crate) period_ns: i64,
    /// Random variation of readings of the disciplined clock, ns.
    pub(crate) jitter_ns: i64,
    /// Of phase and variation.
    pub(crate) seed: u64,
}

impl Default for VirtualClockConfig {
    fn default() -> Self {
        VirtualClockConfig {
            offset_ns: 200 * US,
            freq: FreqError::from_ppm(10.0),
            wander: FreqError::from_ppm(0.3),
            period_ns: 97 * S,
            jitter_ns: 100,
            seed: 1,
        }
    }
}

/// What an empty file means.
impl Default for Config {
    fn default() -> Self {
        Config {
            settings: Settings { leap: default_leap_table(), ..Settings::default() },
            agent: AgentConfig::default(),
            virtual_clock: None,
            stamps: StampConfig::default(),
            clockbound: ClockBoundConfig::default(),
            feed: FeedConfig::default(),
        }
    }
}

impl Config {
    /// Reads the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
        Config::load_text(path).map(|(config, _)| config)
    }

    /// The same, and the text it was read from.
    pub(crate) fn load_text(path: &Path) -> Result<(Config, String), ConfigError> {
        let cannot_read = |error| {
            ConfigError::of_file(path, format!("cannot be read: {error}"), "check the path and its permissions")
        };
        let bytes = std::fs::read(path).map_err(cannot_read)?;
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = std::str::from_utf8(&bytes) {
            let at = error.valid_up_to();
            let document = Document { path, text: &text };
            return Err(document.error(at..at, "not UTF-8".to_owned(), "save the file as UTF-8"));
        }
        Ok((Config::parse(&text, path)?, text.into_owned()))
    }

    /// Reads `text`; `path` is for errors only. Opens no file but the list of leap seconds.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        Config::parse_with(text, path, None)
    }

    /// The same, with `leap` in place of any list of leap seconds: opens no file at all.
    pub(crate) fn parse_with(text: &str, path: &Path, leap: Option<LeapTable>) -> Result<Config, ConfigError> {
        let document = Document { path, text };
        let entries = DeTable::parse(text).map_err(|error| syntax_error(document, &error))?;
        let root = Table::root(document, entries.get_ref())?;
        let clock = root.table("clock")?;
        let (discipline, oscillator) = read_clock(&clock)?;
        let mut sources = read_sources(&root.tables("source")?)?;
        let ptp = read_ports(&root.tables("ptp")?, &mut sources)?;
        let servo = read_servo(&root.table("servo")?)?;
        let virtual_clock = read_virtual(&root, discipline, &oscillator)?;
        let is_virtual = virtual_clock.is_some();
        let feed = read_feed(&root.table("feed")?, &sources.settings, discipline)?;
        // The disciplined clock starts as far off as the clock under it.
        let discipline =
            virtual_clock.as_ref().map_or(discipline, |clock| Discipline::Virtual { offset_ns: clock.offset_ns });
        Ok(Config {
            agent: read_agent(&root)?,
            virtual_clock,
            stamps: read_stamps(&root.table("stamps")?)?,
            clockbound: read_clockbound(&root.table("clockbound")?, discipline, servo.max_slew)?,
            settings: Settings {
                feed_interval_ns: feed.interval_ns(),
                oscillator,
                bound: read_bound(&root.table("bound")?)?,
                max_liars: read_max_liars(&root.table("selection")?, sources.members)?,
                sources: sources.settings,
                ptp,
                stamp_error_ns: root.table("stamps")?.get("error", duration(0, MS))?.unwrap_or_default(),
                server: read_server(&root.table("server")?)?,
                discipline,
                servo,
                leap: leap.map_or_else(|| root.table("leap").and_then(|table| read_leap(&table)), Ok)?,
                // To a virtual clock CLOCK_MONOTONIC_RAW is true time, whatever drives it.
                oscillator_is_stated: clock.entry("oscillator").is_some() || is_virtual,
            },
            feed,
        })
    }
}

/// What toml says, and the fix for the commonest mistakes.
fn syntax_error(document: Document<'_>, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    let fix = match document.slice(span.clone()) {
        "" if message.starts_with("string values must be quoted") => "the value is missing".to_owned(),
        value if message.starts_with("string values must be quoted") => format!("write \"{value}\""),
        _ if message.starts_with("duplicate key") => "remove one of the two".to_owned(),
        _ => "correct the TOML here; lines are `[table]` or `key = value`, with text in quotes".to_owned(),
    };
    document.error(span, message.escape_debug().to_string().replace("\\\"", "\""), fix)
}

fn read_agent(root: &Table<'_>) -> Result<AgentConfig, ConfigError> {
    let mut agent = AgentConfig::default();
    root.set("runtime-dir", &mut agent.runtime_dir, path)?;
    root.set("journal", &mut agent.journal, path)?;
    let clock = root.table("clock")?;
    clock.set("vmclock", &mut agent.vmclock, read_vmclock)?;
    clock.set("drift-file", &mut agent.drift_file, path)?;
    Ok(agent)
}

fn read_vmclock(entry: &Entry<'_>) -> Result<VmClockChoice, ConfigError> {
    match string(entry)? {
        "auto" => Ok(VmClockChoice::Auto),
        "off" => Ok(VmClockChoice::Off),
        device if device.starts_with('/') && device.len() <= VM_PATH_BYTES => Ok(VmClockChoice::At(device.into())),
        device if device.starts_with('/') => {
            Err(entry.error(format!("longer than {VM_PATH_BYTES} bytes"), "link to it from a shorter path"))
        }
        _ => Err(entry.error("not the path of a device", format!("use \"auto\", \"off\" or \"{VM_CLOCK}\""))),
    }
}

fn read_clock(clock: &Table<'_>) -> Result<(Discipline, Oscillator), ConfigError> {
    const CLASSES: [(&str, Oscillator); 4] =
        [("xo", Oscillator::XO), ("tcxo", Oscillator::TCXO), ("ocxo", Oscillator::OCXO), ("vm", Oscillator::VM)];
    const MIN_SPREAD: FreqError = FreqError::from_ppm(0.01);
    let mut discipline = Discipline::default();
    clock.set("discipline", &mut discipline, read_discipline)?;
    let mut oscillator = Oscillator::default();
    clock.set("oscillator", &mut oscillator, choice(&CLASSES))?;
    clock.set("freq-limit", &mut oscillator.freq_limit, frequency(from_ppm(1.0), from_ppm(100_000.0)))?;
    clock.set("freq-spread", &mut oscillator.freq_spread, frequency(MIN_SPREAD, oscillator.freq_limit))?;
    clock.set("wander", &mut oscillator.wander_per_s, wander(1e-12, 1e-4))?;
    clock.set("phase-noise", &mut oscillator.phase_noise_s, phase_noise)?;
    if let Some(entry) = clock.entry("freq-limit")
        && oscillator.freq_limit < oscillator.freq_spread
    {
        let spread = show_frequency(oscillator.freq_spread);
        let why = format!("below the oscillator's freq-spread of {spread}");
        return Err(entry.error(why, format!("use {spread} or more, or state a smaller freq-spread too")));
    }
    Ok((discipline, oscillator))
}

fn read_discipline(entry: &Entry<'_>) -> Result<Discipline, ConfigError> {
    choice(&[
        ("observe", Discipline::Observe),
        ("system", Discipline::System),
        ("virtual", Discipline::Virtual { offset_ns: 0 }),
    ])(entry)
}

fn read_virtual(
    root: &Table<'_>,
    discipline: Discipline,
    oscillator: &Oscillator,
) -> Result<Option<VirtualClockConfig>, ConfigError> {
    let table = root.table("virtual")?;
    if !matches!(discipline, Discipline::Virtual { .. }) {
        let fix = "set discipline = \"virtual\" in [clock], or remove [virtual]";
        return root.entry("virtual").map_or(Ok(None), |_| Err(table.error("[virtual] without a virtual clock", fix)));
    }
    let mut config = VirtualClockConfig::default();
    table.set("offset", &mut config.offset_ns, duration(-H, H))?;
    table.set("freq", &mut config.freq, frequency(from_ppm(-1000.0), from_ppm(1000.0)))?;
    table.set("wander", &mut config.wander, frequency(from_ppm(0.0), from_ppm(100.0)))?;
    table.set("period", &mut config.period_ns, duration(S, DAY))?;
    table.set("jitter", &mut config.jitter_ns, duration(0, S))?;
    table.set("seed", &mut config.seed, integer(0, u64::MAX >> 1))?;
    if table.get("break-assumptions", boolean)? != Some(true)
        && let Some(broken) = broken_assumption(&config, oscillator)
    {
        let clock = root.table("clock")?;
        let of_virtual = broken.keys.iter().find_map(|key| table.entry(key));
        let of_clock = || [broken.assumption, "oscillator", "discipline"].iter().find_map(|key| clock.entry(key));
        let fix = format!("{}, or break-assumptions = true in [virtual]", broken.fix);
        return Err(match of_virtual.or_else(of_clock) {
            Some(entry) => entry.error(broken.why, fix),
            None => table.error(broken.why, fix),
        });
    }
    Ok(Some(config))
}

/// A limit of A1 that the virtual clock would exceed.
struct Broken {
    /// What in [virtual] is to blame, the likeliest first.
    keys: &'static [&'static str],
    /// The key in [clock] that states the limit.
    assumption: &'static str,
    why: String,
    fix: String,
}

/// The first of A1's limits that the virtual clock would exceed.
///
/// raw′ runs at 1 + f against true time, with f within freq ± wander and |f′| ≤ 4·wander/period. So true time runs at
/// 1/(1 + f) against raw′, and per second of raw′ that changes by at most |f′|/(1 + f)³.
fn broken_assumption(config: &VirtualClockConfig, oscillator: &Oscillator) -> Option<Broken> {
    let (freq, wander) = (config.freq.as_fraction(), config.wander.as_fraction());
    let (slowest, fastest) = (1.0 + freq - wander, 1.0 + freq + wander);
    let limit = FreqError::from_fraction((1.0 / slowest - 1.0).abs().max((1.0 / fastest - 1.0).abs()));
    if limit > oscillator.freq_limit {
        let (limit, assumed) = (show_frequency(limit), show_frequency(oscillator.freq_limit));
        let why = format!("true time would run up to {limit} off the virtual clock, freq-limit is {assumed}");
        let fix = "use a smaller freq".to_owned();
        return Some(Broken { keys: &["freq", "wander"], assumption: "freq-limit", why, fix });
    }
    let spread = FreqError::from_fraction(1.0 / slowest - 1.0 / fastest);
    if spread > oscillator.freq_spread {
        let (spread, assumed) = (show_frequency(spread), show_frequency(oscillator.freq_spread));
        let why = format!("the frequency would move by {spread}, freq-spread is {assumed}");
        let fix = "use less wander".to_owned();
        return Some(Broken { keys: &["wander"], assumption: "freq-spread", why, fix });
    }
    let change_ns = 4.0 * wander * 1e9 / (slowest * slowest * slowest);
    let shortest_period_ns = to_i64((change_ns / oscillator.wander_per_s).ceil());
    if config.period_ns < shortest_period_ns {
        let (change, assumed) = (change_ns / to_f64(config.period_ns), oscillator.wander_per_s);
        let why = format!("the frequency would change by {change:.3e}/s, the oscillator's by {assumed:e}/s");
        let whole_s = shortest_period_ns.div_euclid(S).saturating_add(1).saturating_mul(S);
        let longer = if whole_s <= DAY { format!(", a period of {}", show_duration(whole_s)) } else { String::new() };
        let fix = format!("use less wander{longer}");
        return Some(Broken { keys: &["wander", "period"], assumption: "wander", why, fix });
    }
    None
}

fn read_bound(table: &Table<'_>) -> Result<BoundSettings, ConfigError> {
    let mut bound = BoundSettings::default();
    table.set("cpu-error", &mut bound.cpu_error_ns, duration(0, MS))?;
    table.set("max-holdover", &mut bound.max_holdover_ns, duration(S, 7 * DAY))?;
    table.set("publish-interval", &mut bound.publish_interval_ns, duration(10 * MS, MIN))?;
    table.set("memory", &mut bound.memory_ns, duration(8 * S, DAY))?;
    if bound.publish_interval_ns > bound.max_holdover_ns
        && let Some(entry) = table.entry("publish-interval").or_else(|| table.entry("max-holdover"))
    {
        let fix = "use a publish-interval that is not longer than max-holdover";
        return Err(entry.error("every bound would be void before the next one", fix));
    }
    Ok(bound)
}

/// `members` is how many sources there can be, every one of a pool counted.
fn read_max_liars(table: &Table<'_>, members: u32) -> Result<Option<u32>, ConfigError> {
    let max_liars = table.get("max-liars", integer(0, 64))?;
    match (table.entry("max-liars"), max_liars) {
        (Some(entry), Some(liars)) if members > 0 && liars >= members => {
            let fix = format!("use less than {members}, or add sources");
            Err(entry.error(format!("with {members} sources, all could lie"), fix))
        }
        _ => Ok(max_liars),
    }
}

fn read_servo(table: &Table<'_>) -> Result<ServoSettings, ConfigError> {
    let mut servo = ServoSettings::default();
    table.set("time-constant", &mut servo.time_constant_ns, duration(100 * MS, H))?;
    table.set("max-slew", &mut servo.max_slew, frequency(from_ppm(1.0), from_ppm(100_000.0)))?;
    table.set("step-threshold", &mut servo.step_threshold_ns, duration(US, 365 * DAY))?;
    let steps = [("first", StepPolicy::First), ("always", StepPolicy::Always), ("never", StepPolicy::Never)];
    table.set("step", &mut servo.step, choice(&steps))?;
    table.set("leap", &mut servo.leap, choice(&[("kernel", LeapPolicy::Kernel), ("servo", LeapPolicy::Servo)]))?;
    table.set("rival", &mut servo.rival, choice(&[("yield", RivalPolicy::Yield), ("insist", RivalPolicy::Insist)]))?;
    Ok(servo)
}

fn read_stamps(table: &Table<'_>) -> Result<StampConfig, ConfigError> {
    let mut stamps = StampConfig::default();
    table.set("kernel", &mut stamps.kernel, boolean)?;
    table.set("watch-steps", &mut stamps.watch_steps, boolean)?;
    Ok(stamps)
}

fn read_server(table: &Table<'_>) -> Result<Option<ServerSettings>, ConfigError> {
    let everywhere = [(Ipv4Addr::UNSPECIFIED, 123).into(), (Ipv6Addr::UNSPECIFIED, 123).into()];
    let mut server =
        ServerSettings { listen: everywhere.to_vec(), allow: Vec::new(), deny: Vec::new(), rate_limit: None };
    let enabled = table.get("enabled", boolean)? == Some(true);
    table.set("listen", &mut server.listen, list(listen_address))?;
    server.allow = table.get("allow", list(prefixes))?.unwrap_or_default().concat();
    server.deny = table.get("deny", list(prefixes))?.unwrap_or_default().concat();
    let min_interval_ns = table.get("min-interval", duration(0, MIN))?.unwrap_or_default();
    let burst = table.get("burst", integer(1, 1024))?.unwrap_or(DEFAULT_BURST);
    server.rate_limit = (min_interval_ns > 0).then_some(RateLimit { min_interval_ns, burst });
    if let Some(entry) = table.entry("listen")
        && repeats(&server.listen)
    {
        return Err(entry.error("an address twice", "remove one of the two"));
    }
    if let Some(entry) = table.entry("listen")
        && enabled
        && server.listen.is_empty()
    {
        return Err(entry.error("a server that listens nowhere", "remove the line, or set enabled = false"));
    }
    if let Some(entry) = table.entry("deny")
        && let Some(both) = server.deny.iter().find(|prefix| server.allow.contains(prefix))
    {
        let both = format!("{}/{}", both.address, both.bits);
        return Err(entry.error(format!("{both} is in allow too"), "remove it from one of the two"));
    }
    Ok(enabled.then_some(server))
}

fn repeats(addresses: &[SocketAddr]) -> bool {
    addresses.iter().enumerate().any(|(at, address)| addresses[..at].contains(address))
}

/// The built-in table or that of the file, whichever expires later.
fn read_leap(table: &Table<'_>) -> Result<LeapTable, ConfigError> {
    let Some((entry, file)) = table.entry("file").zip(table.get("file", path)?) else {
        return Ok(default_leap_table());
    };
    match read_leap_file(&file) {
        Ok(Some(table)) => Ok(later_expiry(table)),
        Ok(None) => Err(entry.error(
            "not a list of leap seconds",
            "name a leap-seconds.list as the IERS publishes it, or remove the line",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound && file == Path::new(LEAP_FILE) => {
            Ok(LeapTable::default())
        }
        Err(error) => {
            Err(entry.error(format!("cannot be read: {error}"), "name a file that exists, or remove the line"))
        }
    }
}

fn default_leap_table() -> LeapTable {
    read_leap_file(Path::new(LEAP_FILE)).ok().flatten().map_or_else(LeapTable::default, later_expiry)
}

fn read_leap_file(path: &Path) -> io::Result<Option<LeapTable>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LEAP_FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(LeapTable::parse(&String::from_utf8_lossy(&bytes)))
}

fn later_expiry(table: LeapTable) -> LeapTable {
    let built_in = LeapTable::default();
    if table.expiry() > built_in.expiry() { table } else { built_in }
}

const fn from_ppm(ppm: f64) -> FreqError {
    FreqError::from_ppm(ppm)
}
