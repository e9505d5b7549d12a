//! The commands that ask a running agent, or measure once: they print and exit.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use truebound_client::page::{Publication, UtcOffset};
use truebound_client::{Interval, MonotonicRaw, OpenError, RawClock, Reader, Unavailable, VirtualClock};
use truebound_core::units::FreqError;

use crate::cli::{ControlAction, Running};
use crate::recorder::{show_ns, show_signed_ns};
use crate::view::ptp;

/// Why a command failed, worded for the person who typed it.
pub(crate) type Failure = String;

/// A page, whichever clock it ages by.
pub(crate) enum AnyReader {
    Raw(Reader<MonotonicRaw>),
    Virtual(Reader<VirtualClock>),
}

impl AnyReader {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        match Reader::open(path) {
            Ok(reader) => Ok(AnyReader::Raw(reader)),
            Err(OpenError::OtherClock(_)) => Reader::open_virtual(path).map(AnyReader::Virtual),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn now(&self) -> Result<Interval, Unavailable> {
        match self {
            AnyReader::Raw(reader) => reader.now(),
            AnyReader::Virtual(reader) => reader.now(),
        }
    }

    pub(crate) fn now_strict(&self) -> Result<Interval, Unavailable> {
        match self {
            AnyReader::Raw(reader) => reader.now_strict(),
            AnyReader::Virtual(reader) => reader.now_strict(),
        }
    }

    pub(crate) fn publication(&self) -> Option<Publication> {
        match self {
            AnyReader::Raw(reader) => reader.publication(),
            AnyReader::Virtual(reader) => reader.publication(),
        }
    }

    /// This page's raw time when CLOCK_MONOTONIC_RAW shows `raw_ns`.
    pub(crate) fn raw_at(&self, raw_ns: i64) -> i64 {
        match self {
            AnyReader::Raw(_) => raw_ns,
            AnyReader::Virtual(reader) => reader.clock().at(raw_ns),
        }
    }
}

/// CLOCK_MONOTONIC_RAW, ns.
pub(crate) fn raw_ns() -> i64 {
    MonotonicRaw.now_ns()
}

/// Prints a value as JSON, or the text.
fn print(json: bool, value: &Value, text: impl FnOnce() -> String) {
    let mut out = std::io::stdout().lock();
    // Whoever reads us may have closed the pipe; then there is nobody to tell.
    let _ = if json { writeln!(out, "{value}") } else { writeln!(out, "{}", text().trim_end()) };
}

/// `truebound now`.
pub(crate) fn now(running: &Running, is_strict: bool) -> Result<bool, Failure> {
    let reader = AnyReader::open(&running.runtime_dir.join("bound")).map_err(|error| error.to_string())?;
    match if is_strict { reader.now_strict() } else { reader.now() } {
        Ok(interval) => {
            let publication = reader.publication();
            let asserted = asserted_json(&reader, publication.as_ref());
            let mut value = now_json(&interval, publication.as_ref());
            value["asserted"] = asserted.clone();
            print(running.json, &value, || now_text(&interval) + &asserted_text(&asserted));
            Ok(true)
        }
        Err(unavailable) => {
            let asserted = asserted_json(&reader, reader.publication().as_ref());
            let value = json!({ "error": unavailable.to_string(), "asserted": asserted });
            print(running.json, &value, || unavailable.to_string() + &asserted_text(&asserted));
            Ok(false)
        }
    }
}

fn now_json(interval: &Interval, publication: Option<&Publication>) -> Value {
    let rates = publication.map(|p| {
        let ppm = |rate: i64| FreqError::from_rate(rate).as_ppm();
        (-ppm(p.estimate_omega), [-ppm(p.bound.omega_hi), -ppm(p.bound.omega_lo)])
    });
    json!({
        "earliest_ns": interval.earliest_ns,
        "latest_ns": interval.latest_ns,
        "half_width_ns": interval.half_width_ns(),
        "status": interval.status.name(),
        "reason": publication.map(|p| p.reason.name()),
        "tai_offset_s": interval.tai_offset_s,
        "earliest_tai_ns": interval.tai.earliest_ns,
        "latest_tai_ns": interval.tai.latest_ns,
        "leap": publication.map(|p| leap_json(&p.utc)),
        "vm_disruption": publication.map(|p| p.foretold.name()),
        "freq_error_ppm": rates.map(|(estimate, _)| estimate),
        "freq_bound_ppm": rates.map(|(_, bound)| bound),
        "source": publication.map(|p| text_of(&p.source)),
        "epoch": interval.epoch,
    })
}

/// TAI − UTC now, and from when on it is (or may be: `null`) another.
fn leap_json(utc: &UtcOffset) -> Value {
    let after_s = utc.doubt_s().is_none().then_some(utc.after_s);
    json!({ "utc_offset_s": utc.offset_s, "after_s": after_s, "change_at_tai_ns": utc.change_at_ns })
}

fn now_text(interval: &Interval) -> String {
    let seconds = |ns: i64| format!("{}.{:09}", ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let half_width = show_ns(interval.half_width_ns().unsigned_abs());
    format!(
        "earliest {} s (Unix time)\nlatest   {} s\nhalf-width {half_width}, {}, epoch {}",
        seconds(interval.earliest_ns),
        seconds(interval.latest_ns),
        interval.status,
        interval.epoch,
    )
}

/// What holds if the operator's word does too; `null` where nothing is asserted.
fn asserted_json(reader: &AnyReader, publication: Option<&Publication>) -> Value {
    let asserted = publication.and_then(|publication| publication.asserted_at(reader.raw_at(raw_ns())));
    let Some((earliest_ns, latest_ns)) = asserted else { return Value::Null };
    let half_width_ns = latest_ns.saturating_sub(earliest_ns).saturating_add(1) / 2;
    json!({ "earliest_ns": earliest_ns, "latest_ns": latest_ns, "half_width_ns": half_width_ns })
}

fn asserted_text(asserted: &Value) -> String {
    let half_width = asserted["half_width_ns"].as_i64();
    half_width.map_or(String::new(), |ns| {
        format!("\nhalf-width {} asserted: it rests on your word too", show_ns(ns.unsigned_abs()))
    })
}

fn text_of(padded: &[u8]) -> String {
    String::from_utf8_lossy(padded).trim_end_matches('\0').to_owned()
}

/// `truebound wait`: looks at the page until its half-width is small enough.
pub(crate) fn wait(running: &Running, max_error_ns: i64, timeout_ns: i64) -> Result<bool, Failure> {
    let path = running.runtime_dir.join("bound");
    let deadline = Instant::now() + Duration::from_nanos(timeout_ns.unsigned_abs());
    let mut why;
    loop {
        match AnyReader::open(&path).map_err(|error| error.to_string()).map(|reader| reader.now()) {
            Ok(Ok(interval)) if interval.half_width_ns() <= max_error_ns => {
                let value = json!({ "reached": true, "half_width_ns": interval.half_width_ns() });
                print(running.json, &value, || {
                    format!("half-width {}", show_ns(interval.half_width_ns().unsigned_abs()))
                });
                return Ok(true);
            }
            Ok(Ok(interval)) => why = format!("half-width {}", show_ns(interval.half_width_ns().unsigned_abs())),
            Ok(Err(unavailable)) => why = unavailable.to_string(),
            Err(error) => why = error,
        }
        if Instant::now() >= deadline {
            print(running.json, &json!({ "reached": false, "why": why }), || format!("not reached: {why}"));
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks a running agent over its control socket.
pub(crate) fn ask(runtime_dir: &Path, request: &Value) -> Result<Value, Failure> {
    let path = runtime_dir.join("control");
    let explain =
        |error: std::io::Error| format!("{}: {error}; is the agent running, and is this its owner?", path.display());
    let mut stream = UnixStream::connect(&path).map_err(explain)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(explain)?;
    writeln!(stream, "{request}").map_err(explain)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(explain)?;
    let mut answer: Value = serde_json::from_str(&line).map_err(|error| format!("{}: {error}", path.display()))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["ok"].take()),
    }
}

/// `truebound status`.
pub(crate) fn status(running: &Running) -> Result<bool, Failure> {
    let value = ask(&running.runtime_dir, &json!({ "command": "status" }))?;
    // What is said of the carrying source, for people; a script asks itself.
    let sources = if running.json { Value::Null } else { ask(&running.runtime_dir, &json!({ "command": "sources" }))? };
    print(running.json, &value, || status_text(&value, &sources));
    Ok(true)
}

fn status_text(value: &Value, sources: &Value) -> String {
    let ns = |key: &Value| key.as_i64().map_or("none".to_owned(), |ns| show_ns(ns.unsigned_abs()));
    let word = |key: &str| value[key].as_str().unwrap_or("none").to_owned();
    let terms = &value["terms_ns"];
    let carrier = sources.as_array().into_iter().flatten().find(|source| source["carries"] == true);
    let pure = carrier.map_or("-".to_owned(), |source| percent(&source["pure_ratio"]));
    let ppm = |key: &Value| key.as_f64().map_or("unknown".to_owned(), |ppm| format!("{ppm:+.3} ppm"));
    let mut lines = vec![
        format!("status      {} ({}: {})", word("status"), word("reason"), word("meaning")),
        format!("half-width  {}", ns(&value["half_width_ns"])),
        format!(
            "  of which  path {}, claim {}, cpu {}, phase {}, wander and the rest {}",
            ns(&terms["path"]),
            ns(&terms["claim"]),
            ns(&terms["cpu"]),
            ns(&terms["phase"]),
            ns(&terms["wander"]),
        ),
        format!(
            "frequency   {} estimated, {} to {} proved",
            ppm(&value["freq_error_ppm"]),
            ppm(&value["freq_bound_ppm"][0]),
            ppm(&value["freq_bound_ppm"][1]),
        ),
        format!("source      {} (pure {pure})", word("source")),
        format!(
            "groups      {} configured, {} answering, {} may lie",
            value["groups"]["configured"], value["groups"]["answering"], value["groups"]["max_liars"]
        ),
        format!("epoch       {}", value["epoch"]),
    ];
    if let Some(page) = value["vmclock"].as_str() {
        lines.push(format!("hypervisor  {page}: foretells {}", word("vm_disruption")));
    }
    if value["realtime"]["sets"].as_u64().is_some_and(|sets| sets > 0) {
        let by = value["realtime"]["last_set_ns"].as_i64().map_or_else(String::new, show_signed_ns);
        lines.push(format!("realtime    set by others {} times, by about {by} at the last", value["realtime"]["sets"]));
    }
    if let Some(steering) = value["system"]["steering"].as_str() {
        lines.push(match steering {
            "ours" => format!(
                "steered     CLOCK_REALTIME is {} from the estimate at {}; the kernel says within {}",
                ns(&value["system"]["ahead_ns"]),
                ppm(&value["system"]["rate_ppm"]),
                ns(&value["system"]["max_error_ns"]),
            ),
            "yielded" => {
                "steered     CLOCK_REALTIME by somebody else: stop him, then `truebound control makestep`".to_owned()
            }
            _ => "steered     CLOCK_REALTIME not yet: there is no estimate".to_owned(),
        });
    }
    if !value["asserted_half_width_ns"].is_null() {
        lines.insert(2, format!("asserted    {} (it rests on your word too)", ns(&value["asserted_half_width_ns"])));
    }
    lines.extend(ptp::text(value));
    lines.join("\n")
}

/// A share, in percent.
fn percent(share: &Value) -> String {
    share.as_f64().map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// `truebound sources`.
pub(crate) fn sources(running: &Running) -> Result<bool, Failure> {
    let value = ask(&running.runtime_dir, &json!({ "command": "sources" }))?;
    print(running.json, &value, || sources_text(&value));
    Ok(true)
}

/// A table of sources.
pub(crate) fn sources_text(value: &Value) -> String {
    let mut text = format!(
        "  {:<20} {:<22} {:<11} {:>3} {:>6} {:>11} {:>11} {:>11} {:>11} {:>6} {:<6}\n",
        "name", "address", "status", "st", "reach", "offset", "round trip", "claim", "half-width", "pure", "stamps"
    );
    let signed = |key: &Value| key.as_i64().map_or("-".to_owned(), show_signed_ns);
    let ns = |key: &Value| key.as_i64().map_or("-".to_owned(), |ns| show_ns(ns.unsigned_abs()));
    for source in value.as_array().into_iter().flatten() {
        text += &format!(
            "{} {:<20} {:<22} {:<11} {:>3} {:>6} {:>11} {:>11} {:>11} {:>11} {:>6} {:<6}\n",
            if source["carries"] == true { '*' } else { ' ' },
            source["name"].as_str().unwrap_or("-"),
            source["address"].as_str().unwrap_or("-"),
            source["status"].as_str().unwrap_or("-"),
            source["stratum"],
            format!("{:03o}", source["reach"].as_u64().unwrap_or(0)),
            signed(&source["offset_ns"]),
            ns(&source["delay_ns"]),
            ns(&source["claim_ns"]),
            half_width(source),
            percent(&source["pure_ratio"]),
            source["stamps"].as_str().unwrap_or("-"),
        );
    }
    text
}

/// What it proves; in brackets what it only asserts.
fn half_width(source: &Value) -> String {
    let ns = |key: &str| source[key].as_i64().map(|ns| show_ns(ns.unsigned_abs()));
    let asserted = || ns("asserted_half_width_ns").map(|asserted| format!("({asserted})"));
    ns("half_width_ns").or_else(asserted).unwrap_or_else(|| "-".to_owned())
}

/// `truebound report`.
pub(crate) fn report(running: &Running) -> Result<bool, Failure> {
    let mut value = ask(&running.runtime_dir, &json!({ "command": "report" }))?;
    let text = value.as_object_mut().and_then(|object| object.remove("text"));
    print(running.json, &value, || text.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned());
    Ok(true)
}

/// `truebound control`.
pub(crate) fn control(running: &Running, action: &ControlAction) -> Result<bool, Failure> {
    let request = match action {
        ControlAction::Burst => json!({ "command": "burst" }),
        ControlAction::Makestep => json!({ "command": "makestep" }),
        ControlAction::Reload => json!({ "command": "reload" }),
        ControlAction::AddSource { lines } => json!({ "command": "add-source", "text": lines.join("\n") }),
        ControlAction::RemoveSource { name } => json!({ "command": "remove-source", "name": name }),
    };
    let value = ask(&running.runtime_dir, &request)?;
    print(running.json, &value, || value.as_str().unwrap_or("done").to_owned());
    Ok(true)
}
