//! The configuration: what it means, and what an operator reads when it is refused.

#[path = "../src/config.rs"]
#[allow(dead_code, reason = "the binary uses the rest")]
mod config;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, ROOT, TABLES, VirtualClockConfig};
use truebound_core::estimate::Filter;
use truebound_core::leap::LeapTable;
use truebound_core::settings::{Discipline, Oscillator, Prefix, ServerSettings, Settings, SourceKind, SourceSettings};
use truebound_core::units::FreqError;

const EXAMPLE: &str = include_str!("../config/truebound.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("truebound.toml"))
}

fn accepted(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn refused(text: &str) -> ConfigError {
    let Err(error) = parse(text) else { panic!("accepted: {text}") };
    error
}

/// What the caret line marks, by its columns.
fn marked(error: &ConfigError) -> String {
    let report = error.to_string();
    let lines: Vec<&str> = report.lines().collect();
    let start = lines[3].find('^').expect("a caret");
    let carets = lines[3][start..].chars().take_while(|c| *c == '^').count();
    let skip = lines[3][..start].chars().count();
    lines[2].chars().skip(skip).take(carets).collect()
}

fn one_source(rest: &str) -> SourceSettings {
    accepted(&format!("[[source]]\n{rest}\n")).settings.sources.remove(0)
}

#[test]
fn an_empty_file_is_the_default() {
    let default = Config::default();
    assert_eq!(accepted(""), default);
    assert_eq!(accepted("\n# nothing\n"), default);
    let built_in = LeapTable::default();
    assert!(default.settings.leap.expiry() >= built_in.expiry());
    assert_eq!(Settings { leap: built_in, ..default.settings }, Settings::default());
}

/// The example file without the `#` of its `#key = value` lines and headers, cut into [virtual], [[source]]s and the rest.
fn uncommented() -> (String, String, Vec<String>) {
    let (mut rest, mut virtual_table, mut sources) = (String::new(), String::new(), Vec::new());
    let mut place = "";
    for line in EXAMPLE.lines() {
        let code = line.strip_prefix('#').filter(|code| !code.starts_with(' ')).unwrap_or(line);
        if code.starts_with('[') {
            place = code;
        }
        match place {
            "[virtual]" => virtual_table.push_str(&format!("{code}\n")),
            "[[source]]" if code == place => sources.push(format!("{code}\n")),
            "[[source]]" => sources.last_mut().expect("after its header").push_str(&format!("{code}\n")),
            _ => rest.push_str(&format!("{code}\n")),
        }
    }
    (rest, virtual_table, sources)
}

#[test]
fn the_example_file_states_the_defaults() {
    assert_eq!(parse(EXAMPLE).as_ref(), Ok(&Config::default()));
    let (rest, virtual_table, sources) = uncommented();
    // With the defaults written out, the oscillator is stated: the one difference.
    let mut stated = Config::default();
    stated.settings.oscillator_is_stated = true;
    assert_eq!(accepted(&rest), stated);

    let virtual_file = rest.replace("\"observe\"", "\"virtual\"") + &virtual_table;
    let virtual_config = accepted(&virtual_file);
    assert_eq!(virtual_config.virtual_clock, Some(VirtualClockConfig::default()));
    assert_eq!(virtual_config, accepted("clock.discipline = \"virtual\""));

    let kinds = [
        SourceKind::Server { host: "time.example.net".into(), port: 123 },
        SourceKind::Pool { host: "pool.example.net".into(), port: 123, count: 4 },
        SourceKind::Local { shift_ns: 0, error_ns: 1_000 },
    ];
    let names = ["time.example.net", "pool.example.net", "local"];
    let expected: Vec<_> = names.into_iter().zip(kinds).map(|(name, kind)| SourceSettings::new(name, kind)).collect();
    // The root of an isolated network is the only source.
    let (others, root) = sources.split_at(2);
    assert_eq!(accepted(&others.concat()).settings.sources, expected[..2]);
    assert_eq!(accepted(&root.concat()).settings.sources, expected[2..]);
}

#[test]
fn the_example_file_has_every_key_with_its_default_and_range() {
    for (table, keys) in TABLES {
        for key in keys.iter().filter(|key| table != ROOT || !TABLES.iter().any(|(name, _)| name == *key)) {
            assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} of [{table}] is not explained");
        }
    }
    // A value out of range is answered with the range, and the file states the same.
    for (table, key, value) in [
        ("[clock]", "freq-limit", "\"0ppm\""),
        ("[clock]", "wander", "\"0/s\""),
        ("[clock]", "phase-noise", "\"1s\""),
        ("[bound]", "cpu-error", "\"-1ns\""),
        ("[bound]", "max-holdover", "\"0s\""),
        ("[bound]", "publish-interval", "\"0s\""),
        ("[bound]", "memory", "\"0s\""),
        ("[selection]", "max-liars", "-1"),
        ("[servo]", "time-constant", "\"0s\""),
        ("[servo]", "max-slew", "\"0ppm\""),
        ("[servo]", "step-threshold", "\"0s\""),
        ("clock.discipline = \"virtual\"\n[virtual]", "offset", "\"2h\""),
        ("clock.discipline = \"virtual\"\n[virtual]", "freq", "\"-1001ppm\""),
        ("clock.discipline = \"virtual\"\n[virtual]", "wander", "\"-1ppm\""),
        ("clock.discipline = \"virtual\"\n[virtual]", "period", "\"0s\""),
        ("clock.discipline = \"virtual\"\n[virtual]", "jitter", "\"-1ns\""),
        ("clock.discipline = \"virtual\"\n[virtual]", "seed", "-1"),
        ("[[source]]\nserver = \"a\"", "poll-min", "\"0s\""),
        ("[[source]]\nserver = \"a\"", "burst", "17"),
        ("[[source]]\nserver = \"a\"", "claim-floor", "\"-1ns\""),
        ("[[source]]\nserver = \"a\"", "max-distance", "\"0s\""),
        ("[[source]]\npool = \"a\"", "count", "0"),
        ("[[source]]\nlocal = true", "shift", "\"2h\""),
        ("[[source]]\nlocal = true", "error", "\"-1ns\""),
    ] {
        let value = if key == "phase-noise" { "\"2ms/sqrt(s)\"" } else { value };
        let error = refused(&format!("{table}\n{key} = {value}\n"));
        assert!(error.message().ends_with("out of range"), "{error}");
        let range = error.fix().strip_prefix("use ").expect("a range");
        let header = table.lines().find(|line| line.starts_with('[')).expect("a header");
        let section = &EXAMPLE[EXAMPLE.find(&format!("{header}\n")).expect("a header")..];
        let at = section.find(&format!("{key} = ")).expect("explained above");
        let nearby = &section[at.saturating_sub(300)..section.len().min(at + 200)];
        assert!(nearby.contains(range), "{table} {key}: the file does not say `{range}`");
    }
}

#[test]
fn every_key_reaches_its_setting() {
    let config = accepted(
        r#"
        runtime-dir = "/tmp/t"
        journal = "j"
        [clock]
        oscillator = "vm"
        freq-limit = "2000ppm"
        wander = "2e-7/s"
        freq-spread = "60000ppb"
        phase-noise = "0.04us/sqrt(s)"
        [bound]
        cpu-error = "1us"
        max-holdover = "2h"
        publish-interval = "500ms"
        memory = "10min"
        [selection]
        max-liars = 2
        [servo]
        time-constant = "0.5s"
        max-slew = "100ppm"
        step-threshold = "10ms"
        [stamps]
        kernel = false
        watch-steps = false
        error = "1us"
        [server]
        enabled = true
        listen = ["127.0.0.1:0"]
        allow = ["all"]
        deny = ["192.0.2.0/24", "2001:db8::1"]
        [[source]]
        server = "192.0.2.1:1123"
        name = "rack"
        poll-min = "15.625ms"
        poll-max = "1s"
        burst = 0
        interleaved = false
        pairs = false
        filter = "separator"
        trust = true
        group = "gps"
        claim-floor = "25us"
        agent = true
        max-distance = "100ms"
        [[source]]
        pool = "pool.example.net"
        count = 16
        "#,
    );
    let root = accepted("[[source]]\nlocal = true\nshift = \"-5ms\"\nerror = \"0.1ms\"\n");
    let [local] = &root.settings.sources[..] else { panic!("one source") };
    assert_eq!(config.agent.runtime_dir, PathBuf::from("/tmp/t"));
    assert_eq!(config.agent.journal, Some(PathBuf::from("j")));
    assert_eq!(config.agent.seed, None);
    assert!(!config.stamps.kernel && !config.stamps.watch_steps);
    let settings = config.settings;
    let oscillator = Oscillator {
        freq_limit: FreqError::from_ppm(2000.0),
        wander_per_s: 2e-7,
        freq_spread: FreqError::from_ppm(60.0),
        phase_noise_s: 4e-8,
    };
    assert_eq!(settings.oscillator, oscillator);
    assert_eq!((settings.bound.cpu_error_ns, settings.bound.max_holdover_ns), (1_000, 7_200_000_000_000));
    assert_eq!((settings.bound.publish_interval_ns, settings.bound.memory_ns), (500_000_000, 600_000_000_000));
    assert_eq!((settings.max_liars, settings.stamp_error_ns), (Some(2), 1_000));
    assert_eq!((settings.servo.time_constant_ns, settings.servo.step_threshold_ns), (500_000_000, 10_000_000));
    assert_eq!(settings.servo.max_slew, FreqError::from_ppm(100.0));
    let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    let prefix = |address: &str, bits| Prefix { address: address.parse().expect("an address"), bits };
    let server = ServerSettings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        allow: vec![Prefix { address: v4, bits: 0 }, Prefix { address: v6, bits: 0 }],
        deny: vec![prefix("192.0.2.0", 24), prefix("2001:db8::1", 128)],
    };
    assert_eq!(settings.server, Some(server));
    let [rack, pool] = &settings.sources[..] else { panic!("two sources") };
    let expected = SourceSettings {
        name: "rack".into(),
        kind: SourceKind::Server { host: "192.0.2.1".into(), port: 1123 },
        poll_min_ns: Some(15_625_000),
        poll_max_ns: Some(1_000_000_000),
        burst: 0,
        interleaved: false,
        pairs: Some(false),
        filter: Filter::Separator,
        trust: true,
        group: Some("gps".into()),
        claim_floor_ns: Some(25_000),
        agent: true,
        max_distance_ns: 100_000_000,
    };
    assert_eq!(rack, &expected);
    assert_eq!(pool.kind, SourceKind::Pool { host: "pool.example.net".into(), port: 123, count: 16 });
    assert_eq!(local.kind, SourceKind::Local { shift_ns: -5_000_000, error_ns: 100_000 });
}

#[test]
fn the_report_is_what_the_design_shows() {
    let text = "\n\n[[source]]\nserver = \"a\"\n\n\n\n\n\n\n\n\n\npoll-min = \"5 parsecs\"\n";
    let expected = "\
error: truebound.toml:14:12: `poll-min = \"5 parsecs\"`: unknown unit `parsecs`
   |
14 | poll-min = \"5 parsecs\"
   |            ^^^^^^^^^^^ use ns, us, ms, s, min or h, for example \"16s\"";
    assert_eq!(refused(text).to_string(), expected);
}

/// (text, line, column, what the caret marks, in the message, in the fix)
type Refusal = (&'static str, usize, usize, &'static str, &'static str, &'static str);

const REFUSALS: &[Refusal] = &[
    // TOML itself.
    ("[bound]\nmemory = 16s\n", 2, 10, "16s", "must be quoted", "write \"16s\""),
    ("journal =\n", 1, 10, "", "must be quoted", "the value is missing"),
    ("[bound\n", 1, 7, "", "unclosed table", "correct the TOML"),
    ("[bound]\nmemory = \"8s\"\nmemory = \"9s\"\n", 3, 1, "memory", "duplicate key", "remove one"),
    // Keys.
    ("sources = 1\n", 1, 1, "sources", "unknown key `sources`", "did you mean `source`?"),
    (
        "[bound]\ncpu_error = \"1ns\"",
        2,
        1,
        "cpu_error",
        "in [bound]",
        "did you mean `cpu-error`? the keys in [bound] are",
    ),
    ("discipline = \"observe\"", 1, 1, "discipline", "unknown key", "`discipline` belongs in [clock]"),
    ("[clock]\njournal = \"j\"", 2, 1, "journal", "in [clock]", "stands above the first [table]"),
    ("[[source]]\nserver = \"a\"\nsever = \"b\"", 3, 1, "sever", "in [[source]]", "did you mean `server`?"),
    ("[stamps]\n\u{20}\u{20}xyzzy = 1", 2, 3, "xyzzy", "unknown", "the keys in [stamps] are kernel, watch-steps"),
    ("[bound.extra]\n", 1, 8, "extra", "unknown key `extra`", "the keys in [bound] are"),
    // Types.
    ("bound = 3", 1, 9, "3", "not a table", "write [bound]"),
    ("[[bound]]", 1, 1, "[[bound]]", "not a table", "write [bound]"),
    ("[source]\nserver = \"a\"", 1, 1, "[source]", "not a list of tables", "write [[source]]"),
    ("source = [1]", 1, 11, "1", "not a list of tables", "write [[source]]"),
    ("[bound]\nmemory = 16", 2, 10, "16", "expected a duration, found an integer", "for example \"16s\""),
    (
        "[[source]]\nserver = \"a\"\npairs = false\nfilter = \"coded\"",
        4,
        10,
        "\"coded\"",
        "needs pairs",
        "remove pairs",
    ),
    ("[[source]]\nserver = \"a\"\nfilter = \"median\"", 3, 10, "\"median\"", "unknown value", "\"adaptive\""),
    ("[stamps]\nkernel = \"yes\"", 2, 10, "\"yes\"", "expected a boolean, found a string", "true or false"),
    ("journal = true", 1, 11, "true", "expected a string, found a boolean", "quotes"),
    ("journal = \"\"", 1, 11, "\"\"", "empty", "remove the line"),
    ("selection.max-liars = \"1\"", 1, 23, "\"1\"", "expected an integer, found a string", "without quotes"),
    ("server.listen = \"[::]:123\"", 1, 17, "\"[::]:123\"", "expected a list", "[ ]"),
    ("clock.discipline = 1", 1, 20, "1", "expected a string", "\"observe\", \"virtual\""),
    // Words.
    ("clock.discipline = \"system\"", 1, 20, "\"system\"", "not in this release", "use \"observe\""),
    ("clock.discipline = \"none\"", 1, 20, "\"none\"", "unknown value", "use \"observe\", \"virtual\""),
    ("clock.oscillator = \"qz\"", 1, 20, "\"qz\"", "unknown value", "use \"xo\", \"tcxo\", \"ocxo\", \"vm\""),
    // Quantities.
    ("bound.memory = \"16\"", 1, 16, "\"16\"", "the unit is missing", "use ns, us, ms, s, min or h"),
    ("bound.memory = \"long\"", 1, 16, "\"long\"", "does not start with a number", "use ns"),
    ("bound.memory = \"1..5s\"", 1, 16, "\"1..5s\"", "`1..5` is not a decimal number", "use ns"),
    ("bound.memory = \"1e3s\"", 1, 16, "\"1e3s\"", "`1e3` is not a decimal number", "use ns"),
    ("bound.memory = \"9.0000000001s\"", 1, 16, "\"9.0000000001s\"", "finer than 1 ns", "use ns"),
    ("bound.memory = \"99999999999999999999h\"", 1, 16, "\"99999999999999999999h\"", "out of range", "8s to 24h"),
    ("clock.freq-limit = \"5%\"", 1, 20, "\"5%\"", "unknown unit `%`", "use ppm or ppb"),
    ("clock.freq-limit = \"1e999ppm\"", 1, 20, "\"1e999ppm\"", "out of range", "1ppm to 100000ppm"),
    ("clock.wander = \"1e-7\"", 1, 16, "\"1e-7\"", "the unit is missing", "1e-7/s"),
    ("clock.phase-noise = \"30ns\"", 1, 21, "\"30ns\"", "unknown unit `ns`", "30ns/sqrt(s)"),
    ("bound.cpu-error = \"2ms\" # µ", 1, 19, "\"2ms\"", "out of range", "use 0ns to 1ms"),
    // One setting against another.
    ("clock.freq-spread = \"1001ppm\"", 1, 21, "\"1001ppm\"", "out of range", "0.01ppm to 1000ppm"),
    ("clock.freq-limit = \"20ppm\"", 1, 20, "\"20ppm\"", "freq-spread of 50ppm", "state a smaller freq-spread"),
    (
        "bound.publish-interval = \"5s\"\nbound.max-holdover = \"4s\"",
        1,
        26,
        "\"5s\"",
        "void",
        "not longer than max-holdover",
    ),
    ("selection.max-liars = 1\n[[source]]\nserver = \"a\"", 1, 23, "1", "all could lie", "less than 1"),
    // Sources.
    ("[[source]]\nburst = 8", 1, 1, "[[source]]", "without a host", "add server = \"host\""),
    ("[[source]]\nserver = \"a\"\npool = \"b\"", 3, 8, "\"b\"", "has a `server` already", "of its own"),
    ("[[source]]\nlocal = false", 2, 9, "false", "not a source", "use true"),
    (
        "[[source]]\nserver = \"a\"\n[[source]]\nserver = \"a\"",
        4,
        10,
        "\"a\"",
        "line 2 is also named `a`",
        "another name",
    ),
    (
        "[[source]]\nserver = \"a\"\nname = \"x\"\n[[source]]\nserver = \"b\"\nname = \"x\"",
        6,
        8,
        "\"x\"",
        "line 3 is also named `x`",
        "another name",
    ),
    ("[[source]]\nserver = \"a\"\nname = \"a b\"", 3, 8, "\"a b\"", "not a name", "without spaces"),
    ("[[source]]\nserver = \"a\"\ncount = 2", 3, 9, "2", "only for pool, this is a server", "remove"),
    ("[[source]]\nserver = \"a\"\nerror = \"1us\"", 3, 9, "\"1us\"", "only for local", "remove"),
    ("[[source]]\nlocal = true\nburst = 2", 3, 9, "2", "only for server and pool, this is a local", "remove"),
    (
        "[[source]]\nserver = \"a\"\npoll-min = \"2s\"\npoll-max = \"1s\"",
        4,
        12,
        "\"1s\"",
        "shorter than poll-min, 2s",
        "use 2s or more",
    ),
    ("[[source]]\nserver = \"a\"\npoll-max = \"15s\"", 3, 12, "\"15s\"", "16s unless stated", "state poll-min"),
    ("[[source]]\nserver = \"a b\"", 2, 10, "\"a b\"", "not a host", "for example"),
    ("[[source]]\nserver = \"a:0\"", 2, 10, "\"a:0\"", "`0` is not a port", "1 to 65535"),
    ("[[source]]\nserver = \"a:65536\"", 2, 10, "\"a:65536\"", "`65536` is not a port", "1 to 65535"),
    ("[[source]]\nserver = \"192.0.2.256\"", 2, 10, "\"192.0.2.256\"", "not a host", "for example"),
    ("[[source]]\nserver = \"[::1\"", 2, 10, "\"[::1\"", "not a host", "[2001:db8::1]:123"),
    // The server.
    ("server.listen = [\"0.0.0.0\"]", 1, 18, "\"0.0.0.0\"", "port is missing", "write \"0.0.0.0:123\""),
    ("server.listen = [\"::\"]", 1, 18, "\"::\"", "port is missing", "write \"[::]:123\""),
    ("server.listen = [\"here\"]", 1, 18, "\"here\"", "in `listen`", "use an address"),
    ("server = { enabled = true, listen = [] }", 1, 37, "[]", "listens nowhere", "enabled = false"),
    ("server.listen = [\"[::]:1\", \"[::]:1\"]", 1, 17, "[\"[::]:1\", \"[::]:1\"]", "twice", "remove one"),
    ("server.allow = [\"10.0.0.1/8\"]", 1, 17, "\"10.0.0.1/8\"", "beyond /8", "write \"10.0.0.0/8\""),
    ("server.allow = [\"10.0.0.0/33\"]", 1, 17, "\"10.0.0.0/33\"", "`33`", "0 to 32"),
    ("server.allow = [\"::/129\"]", 1, 17, "\"::/129\"", "`129`", "0 to 128"),
    ("server.allow = [\"::ffff:10.0.0.0/104\"]", 1, 17, "\"::ffff:10.0.0.0/104\"", "never matches", "10.0.0.0"),
    ("server.allow = [\"host\"]", 1, 17, "\"host\"", "not a prefix", "192.0.2.0/24"),
    ("server.allow = [\"all\"]\nserver.deny = [\"::/0\"]", 2, 15, "[\"::/0\"]", "::/0 is in allow too", "remove"),
    // Leap seconds.
    ("leap.file = \"/nonexistent/list\"", 1, 13, "\"/nonexistent/list\"", "cannot be read", "remove the line"),
    ("leap.file = \"/etc/passwd\"", 1, 13, "\"/etc/passwd\"", "not a list of leap seconds", "leap-seconds.list"),
    // The virtual clock.
    ("[virtual]\nseed = 1", 1, 1, "[virtual]", "without a virtual clock", "discipline = \"virtual\""),
    (
        "clock.discipline = \"virtual\"\n[virtual]\nwander = \"3ppm\"",
        3,
        10,
        "\"3ppm\"",
        "change by 1.237e-7/s, the oscillator's by 1e-7/s",
        "use less wander, a period of 2min, or break-assumptions",
    ),
    (
        "clock.discipline = \"virtual\"\nclock.oscillator = \"ocxo\"",
        2,
        20,
        "\"ocxo\"",
        "move by 0.599988ppm, freq-spread is 0.5ppm",
        "less wander",
    ),
    (
        "clock.discipline = \"virtual\"\n[virtual]\nfreq = \"-1000ppm\"",
        3,
        8,
        "\"-1000ppm\"",
        "up to 1001.3016",
        "smaller freq",
    ),
];

#[test]
fn a_refusal_says_where_what_and_what_instead() {
    for &(text, line, column, value, message, fix) in REFUSALS {
        let error = refused(text);
        assert_eq!((error.line(), error.column()), (Some(line), Some(column)), "{text}\n{error}");
        assert_eq!(marked(&error), value, "{text}\n{error}");
        assert!(error.message().contains(message), "{text}\n{error}");
        assert!(error.fix().contains(fix), "{text}\n{error}");
        assert!(error.to_string().starts_with(&format!("error: truebound.toml:{line}:{column}: ")), "{error}");
    }
}

#[test]
fn the_caret_stands_below_the_value_whatever_stands_before() {
    let after_tab = refused("[bound]\n\tmemory = \"1s\"\n").to_string();
    assert!(after_tab.ends_with("2 | \tmemory = \"1s\"\n  | \t         ^^^^ use 8s to 24h"), "{after_tab}");
    let after_umlaut = refused("server.allow = [\"all\", \"ä\", 'x']\r\n");
    assert_eq!((after_umlaut.column(), marked(&after_umlaut)), (Some(24), "\"ä\"".to_owned()));
    let several_lines = refused("server.allow = 1\nserver.deny = [\n 1,\n]\nserver.listen = true");
    assert_eq!((several_lines.line(), several_lines.column()), (Some(5), Some(17)));
    let control = refused("runtime-dir = \"\u{1b}[31m\"");
    assert!(!control.to_string().contains('\u{1b}'), "{control:?}");
}

#[test]
fn the_edges_of_ranges_are_legal_and_one_beyond_is_not() {
    let virtual_clock = "clock.discipline = \"virtual\"\n[virtual]\nbreak-assumptions = true\n";
    let server = "[[source]]\nserver = \"a\"\n";
    for (before, key, low, min, max, high) in [
        ("[bound]\n", "cpu-error", "-1ns", "0ns", "1ms", "1.000001ms"),
        ("[bound]\n", "max-holdover", "0.999999999s", "1s", "168h", "168.01h"),
        ("[bound]\n", "publish-interval", "9.999999ms", "10ms", "60s", "60000000001ns"),
        ("[bound]\n", "memory", "7999999us", "8s", "24h", "1440.1min"),
        ("[servo]\n", "time-constant", "99.999ms", "100ms", "1h", "3600.000001s"),
        ("[servo]\n", "max-slew", "999.999ppb", "1ppm", "100000ppm", "100000.1ppm"),
        ("[servo]\n", "step-threshold", "999ns", "1us", "8760h", "8761h"),
        ("[clock]\n", "wander", "9.99e-13/s", "1e-12/s", "1e-4/s", "1.01e-4/s"),
        ("[clock]\n", "freq-spread", "0.0099ppm", "0.01ppm", "1000ppm", "1000.001ppm"),
        ("[clock]\n", "phase-noise", "-1ns/sqrt(s)", "0ns/sqrt(s)", "1ms/sqrt(s)", "1.1ms/sqrt(s)"),
        ("clock.freq-spread = \"0.5ppm\"\n[other]\n", "freq-limit", "0.99ppm", "1ppm", "100000ppm", "100001ppm"),
        (virtual_clock, "offset", "-3600000000001ns", "-1h", "1h", "1.0001h"),
        (virtual_clock, "freq", "-1000.1ppm", "-1000ppm", "1000ppm", "1000001ppb"),
        (virtual_clock, "wander", "-1ppb", "0ppm", "100ppm", "100.1ppm"),
        (virtual_clock, "period", "999ms", "1s", "24h", "25h"),
        (virtual_clock, "jitter", "-1ns", "0ns", "1s", "2s"),
        (server, "poll-min", "7812499ns", "7.8125ms", "24h", "86400000000001ns"),
        (server, "claim-floor", "-1ns", "0s", "10s", "10.000000001s"),
        (server, "max-distance", "999us", "1ms", "16s", "17s"),
        ("[[source]]\nlocal = true\n", "error", "-1ns", "0s", "10s", "10001ms"),
        ("[[source]]\nlocal = true\n", "shift", "-61min", "-60min", "60min", "3601s"),
    ] {
        let before = before.strip_suffix("[other]\n").map_or(before.to_owned(), |clock| format!("{clock}clock."));
        for value in [min, max] {
            accepted(&format!("{before}{key} = \"{value}\"\n"));
        }
        for value in [low, high] {
            let error = refused(&format!("{before}{key} = \"{value}\"\n"));
            assert!(error.message().ends_with("out of range"), "{error}");
        }
    }
    for (before, key, low, min, max, high) in [
        (server, "burst", -1, 0, 16, 17),
        ("[[source]]\npool = \"a\"\n", "count", 0, 1, 16, 17),
        ("[selection]\n", "max-liars", -1, 0, 64, 65),
    ] {
        for value in [min, max] {
            accepted(&format!("{before}{key} = {value}\n"));
        }
        for value in [low, high] {
            assert!(refused(&format!("{before}{key} = {value}\n")).message().ends_with("out of range"));
        }
    }
    for (relation, legal, beyond) in [
        ("[[source]]\nserver = \"a\"\npoll-min = \"2s\"\npoll-max = ", "2s", "1.999999999s"),
        ("[[source]]\nserver = \"a\"\npoll-max = ", "16s", "15.999999999s"),
        ("bound.publish-interval = \"2s\"\nbound.max-holdover = ", "2s", "1.999999999s"),
        ("clock.freq-limit = \"100ppm\"\nclock.freq-spread = ", "100ppm", "100.001ppm"),
        // |f′| = 4 · 2.5 ppm / 100 s is the oscillator's 1e-7 /s; freq 10 ppm makes it a little less against raw′.
        ("clock.discipline = \"virtual\"\n[virtual]\nwander = \"2.5ppm\"\nperiod = ", "100s", "99.99s"),
        ("clock.discipline = \"virtual\"\n[virtual]\nperiod = \"1h\"\nwander = ", "25ppm", "25.01ppm"),
    ] {
        accepted(&format!("{relation}\"{legal}\"\n"));
        refused(&format!("{relation}\"{beyond}\"\n"));
    }
}

#[test]
fn units_say_the_same_thing() {
    let memory = |text: &str| accepted(&format!("bound.memory = \"{text}\"")).settings.bound.memory_ns;
    for text in
        ["60s", "1min", "60000ms", "60000000us", "60000000000ns", "+60.000s", "060. s", "0.016666666666666666666h"]
    {
        match parse(&format!("bound.memory = \"{text}\"")) {
            Ok(config) => assert_eq!(config.settings.bound.memory_ns, 60_000_000_000, "{text}"),
            Err(error) => assert!(text.ends_with('h') && error.message().contains("finer than 1 ns"), "{error}"),
        }
    }
    assert_eq!(memory("0.0025h"), 9_000_000_000);
    assert_eq!(memory("8.000000001s"), 8_000_000_001);
    let limit = |text: &str| accepted(&format!("clock.freq-limit = \"{text}\"")).settings.oscillator.freq_limit;
    for text in ["500ppm", "500000ppb", "5e2 ppm", "+500.0ppm"] {
        assert_eq!(limit(text), FreqError::from_ppm(500.0), "{text}");
    }
    let wander = |text: &str| accepted(&format!("clock.wander = \"{text}\"")).settings.oscillator.wander_per_s;
    for text in ["1e-7/s", "0.0000001/s", "0.1ppm/s", "100ppb/s"] {
        assert!((wander(text) / 1e-7 - 1.0).abs() < 1e-15, "{text}");
    }
}

#[test]
fn hosts_come_without_brackets_and_with_a_port() {
    for (text, host, port) in [
        ("time.example.net", "time.example.net", 123),
        ("time.example.net.:1123", "time.example.net.", 1123),
        ("ntp_1", "ntp_1", 123),
        ("192.0.2.1", "192.0.2.1", 123),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
        ("2001:db8::1", "2001:db8::1", 123),
        ("[2001:db8::1]", "2001:db8::1", 123),
        ("[2001:db8::1]:1", "2001:db8::1", 1),
        ("[fe80::1%eth0]:123", "fe80::1%eth0", 123),
    ] {
        let source = one_source(&format!("server = \"{text}\""));
        assert_eq!(source.kind, SourceKind::Server { host: host.into(), port }, "{text}");
        assert_eq!(source.name, host);
    }
    for text in ["a..b", ".", "-:", ":123", "[::1]x", "[::1]:", "[a]:1", "a:+1", "fe80::1%", "1:2:3", "http://a", "ä"]
    {
        refused(&format!("[[source]]\nserver = \"{text}\""));
    }
}

#[test]
fn a_virtual_clock_may_break_assumptions_only_by_word() {
    let broken = "clock.discipline = \"virtual\"\n[virtual]\nwander = \"90ppm\"\n";
    refused(broken);
    refused(&format!("{broken}break-assumptions = false"));
    let config = accepted(&format!("{broken}break-assumptions = true"));
    assert!(matches!(config.settings.discipline, Discipline::Virtual { .. }));
    assert_eq!(config.virtual_clock.map(|clock| clock.wander), Some(FreqError::from_ppm(90.0)));
}

#[test]
fn the_leap_table_that_expires_later_wins() {
    let directory = tempdir("leap");
    let file = directory.join("list");
    let table_of = |expiry_unix_s: i64| {
        let list = format!("#@\t{}\n3692217600\t37\n", expiry_unix_s + 2_208_988_800);
        std::fs::write(&file, &list).expect("writable");
        let config = accepted(&format!("leap.file = {:?}", file.display().to_string()));
        (config.settings.leap, LeapTable::parse(&list).expect("well formed"))
    };
    let (later, of_file) = table_of(4_000_000_000);
    assert_eq!(later, of_file);
    let (earlier, _) = table_of(1_600_000_000);
    assert_eq!(earlier, LeapTable::default());
    std::fs::remove_dir_all(directory).expect("ours");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_without_a_line() {
    let error = Config::load(Path::new("/nonexistent/truebound.toml")).expect_err("there is none");
    assert_eq!((error.line(), error.column()), (None, None));
    let report = error.to_string();
    assert!(report.starts_with("error: /nonexistent/truebound.toml: cannot be read: No such file"), "{report}");
}

#[test]
fn a_file_is_loaded_and_must_be_utf_8() {
    let directory = tempdir("load");
    let file = directory.join("truebound.toml");
    std::fs::write(&file, "bound.memory = \"16s\"").expect("writable");
    assert_eq!(Config::load(&file).expect("legal").settings.bound.memory_ns, 16_000_000_000);
    std::fs::write(&file, b"[bound]\n# \xff\n").expect("writable");
    let error = Config::load(&file).expect_err("not UTF-8");
    assert_eq!((error.line(), error.column(), error.message()), (Some(2), Some(3), "not UTF-8"));
    std::fs::remove_dir_all(directory).expect("ours");
}

fn tempdir(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("truebound-config-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("writable");
    directory
}

#[test]
fn json_has_place_message_and_fix() {
    let json = serde_json::to_value(refused("bound.memory = \"1s\"")).expect("serialisable");
    let expected = serde_json::json!({
        "path": "truebound.toml", "line": 1, "column": 16,
        "message": "`memory = \"1s\"`: out of range", "fix": "use 8s to 24h",
    });
    assert_eq!(json, expected);
}

/// SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }
}

const SCRAPS: [&str; 24] = [
    "\"",
    "'",
    "[",
    "]",
    "[[source]]\n",
    "=",
    "\n",
    "\r\n",
    "\t",
    "#",
    ".",
    "-",
    "999999999999999999999",
    "e9",
    "ns",
    "µs",
    "\u{0}",
    "\u{1f600}",
    "\"\"\"",
    "{ ",
    " }",
    "true",
    "%",
    "/",
];

/// One change: another digit, a scrap or a space put in, a stretch removed, or a stretch copied elsewhere.
fn mutate(text: &mut Vec<char>, random: &mut Random) {
    let at = random.below(text.len() + 1);
    let stretch = at..(at + random.below(30)).min(text.len());
    match random.below(5) {
        0 => text.iter_mut().skip(at).find(|c| c.is_ascii_digit()).into_iter().for_each(|digit| *digit = '1'),
        1 => drop(text.splice(at..at, SCRAPS[random.below(SCRAPS.len())].chars())),
        2 => drop(text.splice(at..at, [' '])),
        3 => drop(text.drain(stretch)),
        _ => {
            let copy: Vec<char> = text[stretch].to_vec();
            let to = random.below(text.len() + 1);
            text.splice(to..to, copy);
        }
    }
}

#[test]
fn no_text_makes_it_panic_and_every_refusal_has_a_caret() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (rest, virtual_table, sources) = uncommented();
    let whole = rest.replace("\"observe\"", "\"virtual\"") + &virtual_table + &sources[..2].concat();
    let code: String = whole.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    accepted(&code);
    println!("SEED={seed}");
    let mut random = Random(seed);
    let (mut legal, mut illegal) = (0, 0);
    for round in 0..10_000 {
        let mut text: Vec<char> = code.chars().collect();
        for _ in 0..=random.below(4) {
            mutate(&mut text, &mut random);
        }
        let text: String = text.into_iter().collect();
        match std::panic::catch_unwind(|| parse(&text)) {
            Ok(Ok(_)) => legal += 1,
            Ok(Err(error)) => {
                illegal += 1;
                let report = error.to_string();
                assert_eq!(report.lines().count(), 4, "SEED={seed} round {round}\n{text}\n{report}");
                let indent = report.lines().nth(3).and_then(|line| line.find('^'));
                let gutter = error.line().map_or(0, |line| line.to_string().len()) + 3;
                assert_eq!(indent.map(|indent| indent + 1), error.column().map(|column| column + gutter), "{report}");
            }
            Err(_) => panic!("SEED={seed} round {round} panics:\n{text}"),
        }
    }
    assert!(legal > 500 && illegal > 500, "SEED={seed}: {legal} legal, {illegal} illegal");
}

#[test]
fn a_host_that_defines_time_follows_nobody() {
    let text = "[[source]]\nserver = \"a\"\n[[source]]\nlocal = true\n";
    let error = Config::parse(text, Path::new("t.toml")).expect_err("two roots of time");
    assert_eq!((error.line(), error.column()), (Some(4), Some(9)));
    assert!(error.message().contains("cannot follow other sources"), "{error}");
}
