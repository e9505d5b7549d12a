//! `[[source]]`: where the time comes from, and how it is asked for.

use truebound_core::estimate::Filter;
use truebound_core::io::PhcId;
use truebound_core::settings::{PpsEdge, ReferenceClock, SockAccess, SourceKind, SourceSettings, Timescale};
use truebound_core::smear::Smear;

use super::address::host_and_port;
use super::error::ConfigError;
use super::quantity::{DAY, H, MS, S, US, show_duration};
use super::table::{Entry, Table, boolean, choice, duration, integer, string, word};

/// The longest of core's default polling intervals, which depend on the address.
const DEFAULT_POLL_NS: i64 = 16 * S;

/// The words for [`Smear`].
const SMEARS: [(&str, Smear); 2] = [("none", Smear::None), ("noon-to-noon", Smear::NoonToNoon)];

/// The words for [`Timescale`].
pub(crate) const TIMESCALES: [(&str, Timescale); 2] = [("tai", Timescale::Tai), ("utc", Timescale::Utc)];

/// The words for [`SockAccess`].
const ACCESSES: [(&str, SockAccess); 3] =
    [("owner", SockAccess::Owner), ("group", SockAccess::Group), ("all", SockAccess::All)];

/// The words for [`PpsEdge`].
const EDGES: [(&str, PpsEdge); 2] = [("assert", PpsEdge::Assert), ("clear", PpsEdge::Clear)];

/// The sources, in the order of the file, and what the tables after them have to agree with.
#[derive(Default)]
pub(crate) struct Sources {
    /// What core is told.
    pub(crate) settings: Vec<SourceSettings>,
    /// How many there can be when every pool is full.
    pub(crate) members: u32,
    /// The line that names each of them.
    name_lines: Vec<usize>,
}

impl Sources {
    /// Adds a source that `named_by` names; every name stands for one source.
    pub(crate) fn push(&mut self, source: SourceSettings, named_by: &Entry<'_>) -> Result<(), ConfigError> {
        if let Some(first) = self.settings.iter().position(|other| other.name == source.name) {
            let why = format!("the source of line {} is also named `{}`", self.name_lines[first], source.name);
            return Err(named_by.error(why, "give one of them another name = \"...\""));
        }
        if let Some(first) = self.settings.iter().position(|other| is_same_clock(other, &source)) {
            let why = format!("the source of line {} is the same clock", self.name_lines[first]);
            return Err(named_by.error(why, "remove one of the two"));
        }
        self.members += if let SourceKind::Pool { count, .. } = source.kind { count.into() } else { 1 };
        self.settings.push(source);
        self.name_lines.push(named_by.line());
        Ok(())
    }

    /// The line of the source that defines time, if there is one.
    pub(crate) fn local_line(&self) -> Option<usize> {
        let at = self.settings.iter().position(|source| matches!(source.kind, SourceKind::Local { .. }))?;
        self.name_lines.get(at).copied()
    }
}

fn is_same_clock(one: &SourceSettings, other: &SourceSettings) -> bool {
    match (&one.kind, &other.kind) {
        (SourceKind::Reference { clock: one, .. }, SourceKind::Reference { clock: other, .. }) => {
            one.place() == other.place()
        }
        _ => false,
    }
}

/// Every `[[source]]`.
pub(crate) fn read_sources(tables: &[Table<'_>]) -> Result<Sources, ConfigError> {
    let mut sources = Sources::default();
    for table in tables {
        let (kind_entry, mut source) = read_kind(table)?;
        table.set("name", &mut source.name, word)?;
        read_source(table, &mut source)?;
        if matches!(source.kind, SourceKind::Phc { .. }) && table.entry("timescale").is_none() {
            let why = "nobody can tell which timescale it shows, and they are 37 s apart";
            let fix =
                "add timescale = \"utc\" (hypervisors: KVM, Hyper-V, ENA, vmclock) or \"tai\" (a NIC under ptp4l)";
            return Err(kind_entry.error(why, fix));
        }
        let named_by = table.entry("name").unwrap_or(kind_entry);
        if matches!(source.kind, SourceKind::Local { .. }) && tables.len() > 1 {
            let why = "a host that defines time cannot follow other sources";
            return Err(named_by.error(why, "remove the other [[source]] tables, or this one"));
        }
        sources.push(source, &named_by)?;
    }
    Ok(sources)
}

/// Which kind of source it is, with the default of everything else.
fn read_kind<'a>(table: &Table<'a>) -> Result<(Entry<'a>, SourceSettings), ConfigError> {
    let mut stated = ["server", "pool", "local", "phc", "shm", "sock", "pps"]
        .into_iter()
        .filter_map(|key| Some((key, table.entry(key)?)));
    let Some((key, entry)) = stated.next() else {
        let fix = "add server = \"host\", pool = \"name\", phc = \"/dev/ptp0\", shm = 0, sock = \"/run/truebound/gps.sock\", \
                   pps = \"/dev/pps0\" or local = true";
        return Err(table.error("[[source]] without a host", fix));
    };
    if let Some((_, second)) = stated.next() {
        let fix = "give it a [[source]] of its own, or remove it";
        return Err(second.error(format!("this source has a `{key}` already"), fix));
    }
    let (name, kind) = match key {
        "local" => ("local".to_owned(), read_local(table, &entry)?),
        "phc" => read_phc(table, &entry)?,
        "shm" | "sock" | "pps" => read_reference(table, key, &entry)?,
        _ => read_host(table, key, &entry)?,
    };
    refuse_keys_of_others(table, key)?;
    let mut source = SourceSettings::new(name, kind);
    if matches!(key, "phc" | "shm" | "sock" | "pps") {
        // To read it costs a system call, not a packet; and receivers speak once a second.
        source.poll_min_ns = Some(S);
    }
    Ok((entry, source))
}

fn read_local(table: &Table<'_>, entry: &Entry<'_>) -> Result<SourceKind, ConfigError> {
    if !boolean(entry)? {
        return Err(entry.error("not a source", "use true, or server or pool instead"));
    }
    let (mut shift_ns, mut error_ns) = (0, US);
    table.set("shift", &mut shift_ns, duration(-H, H))?;
    table.set("error", &mut error_ns, duration(0, 10 * S))?;
    Ok(SourceKind::Local { shift_ns, error_ns })
}

fn read_phc(table: &Table<'_>, entry: &Entry<'_>) -> Result<(String, SourceKind), ConfigError> {
    let phc = phc_id(entry)?;
    let (mut error_ns, mut timescale) = (None, Timescale::default());
    table.set("error", &mut error_ns, duration(0, 10 * S))?;
    table.set("timescale", &mut timescale, choice(&TIMESCALES))?;
    Ok((format!("phc{}", phc.0), SourceKind::Phc { phc, error_ns, timescale }))
}

/// A reference clock. What it is worth is the operator's word, which nobody can guess.
fn read_reference(table: &Table<'_>, key: &str, entry: &Entry<'_>) -> Result<(String, SourceKind), ConfigError> {
    let (mut access, mut edge, mut timescale) = (SockAccess::default(), PpsEdge::default(), Timescale::Utc);
    table.set("access", &mut access, choice(&ACCESSES))?;
    table.set("edge", &mut edge, choice(&EDGES))?;
    table.set("timescale", &mut timescale, choice(&TIMESCALES))?;
    let (name, clock) = match key {
        "shm" => {
            let unit = integer(0, u8::MAX)(entry)?;
            (format!("shm{unit}"), ReferenceClock::Shm { unit })
        }
        "sock" => ("sock".to_owned(), ReferenceClock::Sock { path: socket_path(entry)?, access }),
        _ => {
            let device = absolute(entry, "/dev/pps0")?;
            let last = device.rsplit('/').next().unwrap_or_default().to_owned();
            (last, ReferenceClock::Pps { device, edge })
        }
    };
    // Beyond half a second a pulse marks no second at all.
    let most_ns = if key == "pps" { S / 2 - 1 } else { 10 * S };
    let Some(error_ns) = table.get("error", duration(1, most_ns))? else {
        let why = "nobody said how wrong it may be";
        return Err(entry.error(why, "add error = \"1ms\", or what its receiver is good for"));
    };
    Ok((name, SourceKind::Reference { clock, error_ns, timescale }))
}

fn absolute(entry: &Entry<'_>, example: &str) -> Result<String, ConfigError> {
    let path = string(entry)?;
    if path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err(entry.error("not an absolute path", format!("for example \"{example}\"")))
    }
}

/// The path of a Unix socket.
pub(super) fn socket_path(entry: &Entry<'_>) -> Result<String, ConfigError> {
    /// sockaddr_un has 108 bytes, one of them for the final zero.
    const MOST: usize = 107;
    let path = absolute(entry, "/run/truebound/gps.sock")?;
    if path.len() > MOST {
        return Err(entry.error(format!("longer than {MOST} bytes"), "use a shorter path"));
    }
    Ok(path)
}

/// `/dev/ptpN`, or `ptpN`.
fn phc_id(entry: &Entry<'_>) -> Result<PhcId, ConfigError> {
    let text = string(entry)?;
    let digits = text.strip_prefix("/dev/").unwrap_or(text).strip_prefix("ptp").unwrap_or("");
    // Only as the kernel writes it: without a sign and without leading zeros.
    let number = digits.parse().ok().filter(|number: &u32| number.to_string() == digits);
    number.map(PhcId).ok_or_else(|| {
        let fix =
            "use its device, such as \"/dev/ptp0\" (`readlink -f` shows what a link like /dev/ptp_ena stands for)";
        entry.error("not a PTP hardware clock", fix)
    })
}

fn read_host(table: &Table<'_>, key: &str, entry: &Entry<'_>) -> Result<(String, SourceKind), ConfigError> {
    let (host, port) = host_and_port(entry)?;
    let mut count = 4;
    table.set("count", &mut count, integer(1, 16))?;
    let name = host.clone();
    let is_pool = key == "pool";
    Ok((name, if is_pool { SourceKind::Pool { host, port, count } } else { SourceKind::Server { host, port } }))
}

/// Keys that would be ignored on this kind of source.
fn refuse_keys_of_others(table: &Table<'_>, kind: &str) -> Result<(), ConfigError> {
    const NETWORK: [&str; 2] = ["server", "pool"];
    const KEYS: [(&str, &[&str]); 17] = [
        ("count", &["pool"]),
        ("shift", &["local"]),
        ("error", &["local", "phc", "shm", "sock", "pps"]),
        ("timescale", &["phc", "shm", "sock"]),
        ("access", &["sock"]),
        ("edge", &["pps"]),
        ("poll-min", &["server", "pool", "phc", "shm", "sock", "pps"]),
        ("poll-max", &["server", "pool", "phc"]),
        ("burst", &NETWORK),
        ("interleaved", &NETWORK),
        ("pairs", &NETWORK),
        ("filter", &NETWORK),
        ("claim-floor", &NETWORK),
        ("agent", &NETWORK),
        ("extfield", &NETWORK),
        ("max-distance", &NETWORK),
        ("smear", &NETWORK),
    ];
    for (key, kinds) in KEYS {
        if let Some(entry) = table.entry(key)
            && !kinds.contains(&kind)
        {
            return Err(entry.error(format!("only for {}, this is a {kind}", enumerate(kinds)), "remove the line"));
        }
    }
    Ok(())
}

/// "a", "a and b", "a, b and c".
fn enumerate(words: &[&str]) -> String {
    match words {
        [first @ .., next_to_last, last] => {
            first.iter().map(|word| format!("{word}, ")).collect::<String>() + &format!("{next_to_last} and {last}")
        }
        _ => words.concat(),
    }
}

fn read_source(table: &Table<'_>, source: &mut SourceSettings) -> Result<(), ConfigError> {
    const FILTERS: [(&str, Filter); 3] =
        [("adaptive", Filter::Adaptive), ("separator", Filter::Separator), ("coded", Filter::Coded)];
    table.set("burst", &mut source.burst, integer(0, 16))?;
    table.set("interleaved", &mut source.interleaved, boolean)?;
    table.set("pairs", &mut source.pairs, boolean)?;
    table.set("filter", &mut source.filter, choice(&FILTERS))?;
    if let Some(entry) = table.entry("filter").filter(|_| source.filter == Filter::Coded && source.pairs == Some(false))
    {
        return Err(
            entry.error("needs pairs, which are switched off", "remove pairs = false, or choose another filter")
        );
    }
    read_word_of_operator(table, source)?;
    table.set("claim-floor", &mut source.claim_floor_ns, duration(0, 10 * S))?;
    table.set("agent", &mut source.agent, boolean)?;
    table.set("extfield", &mut source.fine_root, choice(&[("F323", true)]))?;
    if let Some(entry) = table.entry("extfield").filter(|_| source.agent) {
        return Err(entry.error("an agent is asked for its exact bound, which is finer", "remove the line"));
    }
    table.set("max-distance", &mut source.max_distance_ns, duration(MS, 16 * S))?;
    table.set("smear", &mut source.smear, choice(&SMEARS))?;
    read_polls(table, source)
}

/// What an operator may say of a source's truthfulness, whatever its kind.
pub(crate) fn read_word_of_operator(table: &Table<'_>, source: &mut SourceSettings) -> Result<(), ConfigError> {
    table.set("trust", &mut source.trust, boolean)?;
    table.set("group", &mut source.group, word)
}

fn read_polls(table: &Table<'_>, source: &mut SourceSettings) -> Result<(), ConfigError> {
    /// 128 requests a second: more is a flood.
    const SHORTEST_POLL_NS: i64 = S / 128;
    table.set("poll-min", &mut source.poll_min_ns, duration(SHORTEST_POLL_NS, DAY))?;
    table.set("poll-max", &mut source.poll_max_ns, duration(SHORTEST_POLL_NS, DAY))?;
    let Some((entry, max)) = table.entry("poll-max").zip(source.poll_max_ns) else { return Ok(()) };
    match source.poll_min_ns {
        Some(min) if max < min => {
            let min = show_duration(min);
            Err(entry
                .error(format!("shorter than poll-min, {min}"), format!("use {min} or more, or a shorter poll-min")))
        }
        None if max < DEFAULT_POLL_NS => {
            let why = format!("shorter than poll-min, which is {} unless stated", show_duration(DEFAULT_POLL_NS));
            Err(entry.error(why, "state poll-min too"))
        }
        _ => Ok(()),
    }
}
