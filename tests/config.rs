//! The configuration: what it means, and what an operator reads when it is refused.

#[path = "../src/config.rs"]
#[allow(dead_code, reason = "the binary uses the rest")]
mod config;
#[path = "config/refusals.rs"]
mod refusals;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use config::{ClockBoundConfig, Config, ConfigError, FeedConfig, ROOT, TABLES, VirtualClockConfig, VmClockChoice};
use truebound_core::estimate::Filter;
use truebound_core::io::PhcId;
use truebound_core::leap::LeapTable;
use truebound_core::settings::{
    DelayMechanism, Discipline, LeapPolicy, Oscillator, PpsEdge, Prefix, PtpRole, PtpSettings, PtpTransport, RateLimit,
    ReferenceClock, RivalPolicy, ServerSettings, Settings, SockAccess, SourceKind, SourceSettings, StepPolicy,
    Timescale,
};
use truebound_core::smear::Smear;
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

fn clock(clock: ReferenceClock, error_ns: i64) -> SourceKind {
    SourceKind::Reference { clock, error_ns, timescale: Timescale::Utc }
}

/// The example file without the `#` of its `#key = value` lines and headers, cut up.
#[derive(Default)]
struct Example {
    virtual_table: String,
    sources: Vec<String>,
    port: String,
    rest: String,
}

fn uncommented() -> Example {
    let mut example = Example::default();
    let mut place = "";
    for line in EXAMPLE.lines() {
        let code = line.strip_prefix('#').filter(|code| !code.starts_with(' ')).unwrap_or(line);
        if code.starts_with('[') {
            place = code;
        }
        if place == "[[source]]" && code == place {
            example.sources.push(String::new());
        }
        let part = match place {
            "[virtual]" => &mut example.virtual_table,
            "[[source]]" => example.sources.last_mut().expect("pushed with its header"),
            "[[ptp]]" => &mut example.port,
            _ => &mut example.rest,
        };
        part.push_str(&format!("{code}\n"));
    }
    example
}

#[test]
fn the_example_file_states_the_defaults() {
    assert_eq!(parse(EXAMPLE).as_ref(), Ok(&Config::default()));
    let Example { virtual_table, sources, port, rest } = uncommented();
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
        SourceKind::Phc { phc: PhcId(0), error_ns: None, timescale: Timescale::Tai },
        clock(ReferenceClock::Shm { unit: 2 }, 1_000_000),
        clock(ReferenceClock::Sock { path: "/run/truebound/gps.sock".into(), access: SockAccess::Owner }, 1_000_000),
        clock(ReferenceClock::Pps { device: "/dev/pps0".into(), edge: PpsEdge::Assert }, 10_000),
        SourceKind::Local { shift_ns: 0, error_ns: 1_000 },
    ];
    let names = ["time.example.net", "pool.example.net", "phc0", "shm2", "sock", "pps0", "local"];
    let mut expected: Vec<_> =
        names.into_iter().zip(kinds).map(|(name, kind)| SourceSettings::new(name, kind)).collect();
    expected[2..6].iter_mut().for_each(|local| local.poll_min_ns = Some(1_000_000_000));
    // The root of an isolated network is the only source.
    let (others, root) = sources.split_at(6);
    assert_eq!(accepted(&others.concat()).settings.sources, expected[..6]);
    assert_eq!(accepted(&root.concat()).settings.sources, expected[6..]);

    let of_port = accepted(&port).settings;
    assert_eq!(of_port.ptp, [PtpSettings::new("eth0")]);
    assert_eq!(of_port.sources, [SourceSettings::new("eth0", SourceKind::Ptp { port: 0 })]);
    assert_eq!(of_port, accepted("[[ptp]]\ninterface = \"eth0\"").settings);
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
        ("[server]", "min-interval", "\"-1ns\""),
        ("[server]", "burst", "0"),
        ("[clockbound]", "realtime-slew", "\"0ppm\""),
        ("[[source]]\nserver = \"a\"", "poll-min", "\"0s\""),
        ("[[source]]\nserver = \"a\"", "burst", "17"),
        ("[[source]]\nserver = \"a\"", "claim-floor", "\"-1ns\""),
        ("[[source]]\nserver = \"a\"", "max-distance", "\"0s\""),
        ("[[source]]\npool = \"a\"", "count", "0"),
        ("[[source]]\nlocal = true", "shift", "\"2h\""),
        ("[[source]]\nlocal = true", "error", "\"-1ns\""),
        ("[[source]]\nphc = \"ptp0\"", "error", "\"-1ns\""),
        ("[[ptp]]\ninterface = \"a\"", "domain", "128"),
        ("[[ptp]]\ninterface = \"a\"", "priority1", "256"),
        ("[[ptp]]\ninterface = \"a\"", "priority2", "-1"),
        ("[[ptp]]\ninterface = \"a\"", "announce-timeout", "1"),
        ("[[ptp]]\ninterface = \"a\"", "stamp-error", "\"-1ns\""),
        ("[[ptp]]\ninterface = \"a\"", "remote-stamp-error", "\"2ms\""),
        ("[[ptp]]\ninterface = \"a\"", "ingress-latency", "\"2ms\""),
        ("[[ptp]]\ninterface = \"a\"", "egress-latency", "\"-2ms\""),
        ("[[ptp]]\ninterface = \"a\"", "delay-asymmetry", "\"-2s\""),
        ("[[ptp]]\ninterface = \"a\"", "hop-error", "\"2s\""),
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
        drift-file = "/d"
        vmclock = "/dev/vmclock1"
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
        step = "always"
        leap = "servo"
        rival = "insist"
        [stamps]
        kernel = false
        watch-steps = false
        error = "1us"
        [server]
        enabled = true
        listen = ["127.0.0.1:0"]
        allow = ["all"]
        deny = ["192.0.2.0/24", "2001:db8::1"]
        min-interval = "10ms"
        burst = 32
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
        smear = "noon-to-noon"
        [[source]]
        pool = "pool.example.net"
        count = 16
        extfield = "F323"
        "#,
    );
    let root = accepted("[[source]]\nlocal = true\nshift = \"-5ms\"\nerror = \"0.1ms\"\n");
    let [local] = &root.settings.sources[..] else { panic!("one source") };
    assert_eq!(config.agent.runtime_dir, PathBuf::from("/tmp/t"));
    assert_eq!(config.agent.journal, Some(PathBuf::from("j")));
    assert_eq!(config.agent.seed, None);
    assert_eq!(config.agent.vmclock, VmClockChoice::At(PathBuf::from("/dev/vmclock1")));
    assert_eq!(accepted("clock.vmclock = \"off\"").agent.vmclock, VmClockChoice::Off);
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
    let words = (settings.servo.step, settings.servo.leap, settings.servo.rival);
    assert_eq!(words, (StepPolicy::Always, LeapPolicy::Servo, RivalPolicy::Insist));
    assert_eq!(config.agent.drift_file, PathBuf::from("/d"));
    let (v4, v6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    let prefix = |address: &str, bits| Prefix { address: address.parse().expect("an address"), bits };
    let server = ServerSettings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        allow: vec![Prefix { address: v4, bits: 0 }, Prefix { address: v6, bits: 0 }],
        deny: vec![prefix("192.0.2.0", 24), prefix("2001:db8::1", 128)],
        rate_limit: Some(RateLimit { min_interval_ns: 10_000_000, burst: 32 }),
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
        fine_root: false,
        max_distance_ns: 100_000_000,
        smear: Smear::NoonToNoon,
    };
    assert_eq!(rack, &expected);
    assert_eq!(pool.kind, SourceKind::Pool { host: "pool.example.net".into(), port: 123, count: 16 });
    assert!(pool.fine_root && !pool.agent);
    assert_eq!(local.kind, SourceKind::Local { shift_ns: -5_000_000, error_ns: 100_000 });
}

#[test]
fn whoever_steers_the_clock_need_not_be_told_how_fast_it_is_slewed() {
    let shm0 = "[servo]\nmax-slew = \"300ppm\"\n[clockbound]\nshm0 = true\n";
    assert!(refused(shm0).message().contains("nobody said how fast"));
    let config = accepted(&format!("clock.discipline = \"system\"\n{shm0}"));
    assert_eq!((config.settings.discipline, config.virtual_clock), (Discipline::System, None));
    assert!(config.clockbound.realtime_slew.is_some_and(|slew| (slew.as_ppm() - 400.0).abs() < 1e-9));
    let table = "clock.discipline = \"system\"\n[virtual]\n";
    assert!(refused(table).message().contains("without a virtual clock"));
}

#[test]
fn reference_clocks_and_feeds_reach_their_settings() {
    let config = accepted(
        "[[source]]\nshm = 255\nname = \"gps\"\nerror = \"2ms\"\ntimescale = \"tai\"\npoll-min = \"4s\"\ntrust = true\n\
         [[source]]\nsock = \"/x\"\nerror = \"1ns\"\naccess = \"all\"\ngroup = \"g\"\n\
         [[source]]\npps = \"/dev/gps/pps1\"\nerror = \"499.999999ms\"\nedge = \"clear\"\n\
         [feed]\nshm = 0\nsock = \"/run/chrony/tb.sock\"\n",
    );
    let [gps, sock, pps] = &config.settings.sources[..] else { panic!("three sources") };
    let shm = ReferenceClock::Shm { unit: 255 };
    assert_eq!(gps.kind, SourceKind::Reference { clock: shm, error_ns: 2_000_000, timescale: Timescale::Tai });
    assert_eq!((gps.name.as_str(), gps.poll_min_ns, gps.trust), ("gps", Some(4_000_000_000), true));
    assert_eq!(sock.kind, clock(ReferenceClock::Sock { path: "/x".into(), access: SockAccess::All }, 1));
    assert_eq!(sock.group.as_deref(), Some("g"));
    let device = ReferenceClock::Pps { device: "/dev/gps/pps1".into(), edge: PpsEdge::Clear };
    assert_eq!((pps.kind.clone(), pps.name.as_str()), (clock(device, 499_999_999), "pps1"));
    assert_eq!(config.feed, FeedConfig { sock: Some("/run/chrony/tb.sock".into()), shm: Some(0) });
    assert_eq!(config.settings.feed_interval_ns, Some(1_000_000_000));
    assert_eq!(accepted("").settings.feed_interval_ns, None);
}

#[test]
fn a_rate_is_limited_by_an_interval_and_not_by_a_burst_alone() {
    let limit =
        |rest: &str| accepted(&format!("server.enabled = true\n{rest}")).settings.server.expect("on").rate_limit;
    assert_eq!(limit(""), None);
    assert_eq!(limit("server.burst = 4"), None);
    assert_eq!(limit("server.min-interval = \"0ns\""), None);
    assert_eq!(limit("server.min-interval = \"1ns\""), Some(RateLimit { min_interval_ns: 1, burst: 16 }));
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

#[test]
fn a_refusal_says_where_what_and_what_instead() {
    for &(text, line, column, value, message, fix) in refusals::REFUSALS {
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
    let port = "[[ptp]]\ninterface = \"a\"\n";
    for (before, key, low, min, max, high) in [
        ("[bound]\n", "cpu-error", "-1ns", "0ns", "1ms", "1.000001ms"),
        ("[bound]\n", "max-holdover", "0.999999999s", "1s", "168h", "168.01h"),
        ("[bound]\n", "publish-interval", "9.999999ms", "10ms", "60s", "60000000001ns"),
        ("[bound]\n", "memory", "7999999us", "8s", "24h", "1440.1min"),
        ("[server]\n", "min-interval", "-1ns", "0ns", "1min", "60000000001ns"),
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
        ("[[source]]\nphc = \"ptp0\"\ntimescale = \"tai\"\n", "error", "-1ns", "0s", "10s", "10001ms"),
        (port, "stamp-error", "-1ns", "0s", "1ms", "1000001ns"),
        (port, "remote-stamp-error", "-1ns", "0s", "1ms", "1000001ns"),
        (port, "ingress-latency", "-1000001ns", "-1ms", "1ms", "1000001ns"),
        (port, "egress-latency", "-1000001ns", "-1ms", "1ms", "1000001ns"),
        (port, "delay-asymmetry", "-1000000001ns", "-1s", "1s", "1000000001ns"),
        (port, "hop-error", "-1ns", "0s", "1s", "1000000001ns"),
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
        ("[server]\n", "burst", 0, 1, 1024, 1025),
        ("[[source]]\npool = \"a\"\n", "count", 0, 1, 16, 17),
        ("[selection]\n", "max-liars", -1, 0, 64, 65),
        (port, "domain", -1, 0, 127, 128),
        (port, "priority1", -1, 0, 255, 256),
        (port, "priority2", -1, 0, 255, 256),
        (port, "announce-timeout", 1, 2, 10, 11),
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
    let Example { virtual_table, sources, port, rest } = uncommented();
    let whole = rest.replace("\"observe\"", "\"virtual\"") + &virtual_table + &sources[..3].concat() + &port;
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
fn every_key_of_a_port_and_of_a_phc_reaches_its_setting() {
    let settings = accepted(
        r#"
        [[ptp]]
        interface = "eth0.7"
        name = "gm"
        domain = 24
        transport = "ethernet"
        delay = "p2p"
        role = "auto"
        timescale = "utc"
        priority1 = 1
        priority2 = 2
        announce-interval = "2s"
        sync-interval = "15.625ms"
        delay-interval = "0.125s"
        announce-timeout = 5
        stamps = "hardware"
        stamp-error = "20ns"
        remote-stamp-error = "30ns"
        ingress-latency = "-4ns"
        egress-latency = "5ns"
        delay-asymmetry = "-400us"
        hop-error = "70ns"
        phc = "steer"
        trust = true
        group = "roof"
        filter = "separator"
        [[ptp]]
        interface = "eth1"
        transport = "udp6"
        role = "master"
        stamps = "kernel"
        [[source]]
        phc = "/dev/ptp12"
        error = "100ns"
        timescale = "utc"
        poll-min = "0.5s"
        poll-max = "4s"
        trust = true
        group = "host"
        [[ptp]]
        interface = "eth1"
        name = "back"
        "#,
    )
    .settings;
    let gm = PtpSettings {
        name: "gm".into(),
        interface: "eth0.7".into(),
        domain: 24,
        transport: PtpTransport::Ethernet,
        delay: DelayMechanism::PeerToPeer,
        role: PtpRole::Auto,
        timescale: Timescale::Utc,
        priority1: 1,
        priority2: 2,
        log_announce: 1,
        log_sync: -6,
        log_delay: -3,
        announce_timeout: 5,
        hardware: true,
        stamp_error_ns: 20,
        remote_stamp_error_ns: 30,
        ingress_latency_ns: -4,
        egress_latency_ns: 5,
        delay_asymmetry_ns: -400_000,
        hop_error_ns: 70,
        steers_phc: true,
    };
    let serving = PtpSettings {
        transport: PtpTransport::Udp6,
        role: PtpRole::Master,
        hardware: false,
        ..PtpSettings::new("eth1")
    };
    let back = PtpSettings { name: "back".into(), ..PtpSettings::new("eth1") };
    assert_eq!(settings.ptp, [gm, serving, back]);

    // The sources of the ports come after those with tables of their own; a master is nobody's source.
    let clock = SourceKind::Phc { phc: PhcId(12), error_ns: Some(100), timescale: Timescale::Utc };
    let words = |group: &str, source| SourceSettings { trust: true, group: Some(group.into()), ..source };
    let phc = SourceSettings {
        poll_min_ns: Some(500_000_000),
        poll_max_ns: Some(4_000_000_000),
        ..words("host", SourceSettings::new("phc12", clock))
    };
    let of_gm = SourceSettings {
        filter: Filter::Separator,
        ..words("roof", SourceSettings::new("gm", SourceKind::Ptp { port: 0 }))
    };
    assert_eq!(settings.sources, [phc, of_gm, SourceSettings::new("back", SourceKind::Ptp { port: 2 })]);
}

#[test]
fn an_interval_is_a_power_of_two_and_the_nearest_is_proposed() {
    let file = |interval: &str| format!("[[ptp]]\ninterface = \"a\"\nsync-interval = \"{interval}\"");
    let legal = ["15.625ms", "31.25ms", "62.5ms", "125ms", "250ms", "500ms", "1s", "2s", "4s", "8s", "16s"].into_iter();
    for (log, text) in (-6..).zip(legal) {
        assert_eq!(accepted(&file(text)).settings.ptp[0].log_sync, log, "{text}");
    }
    for (text, nearest) in [
        ("3s", "4s"),
        ("2.8s", "2s"),
        ("2.83s", "4s"),
        ("1.000000001s", "1s"),
        ("0.1s", "125ms"),
        ("20ms", "15.625ms"),
        ("15.624ms", "15.625ms"),
        ("0s", "15.625ms"),
        ("-4s", "15.625ms"),
        ("12s", "16s"),
        ("32s", "16s"),
        ("99999999999999h", "16s"),
    ] {
        let error = refused(&file(text));
        assert!(error.message().ends_with("not a power of two of 1s from 15.625ms to 16s"), "{error}");
        assert_eq!(error.fix(), format!("use \"{nearest}\""), "{text}");
    }
    for key in ["announce-interval", "delay-interval"] {
        assert_eq!(refused(&file("3s").replace("sync-interval", key)).fix(), "use \"4s\"", "{key}");
    }
}

#[test]
fn what_a_master_does_not_need_is_not_refused() {
    // Its name is no source's.
    let settings = accepted("[[source]]\nserver = \"a\"\n[[ptp]]\ninterface = \"a\"\nrole = \"master\"").settings;
    assert_eq!((settings.sources.len(), settings.ptp.len()), (1, 1));
    // A host that defines time may tell it.
    let root = accepted("[[source]]\nlocal = true\n[[ptp]]\ninterface = \"a\"\nrole = \"master\"").settings;
    assert_eq!((root.sources.len(), root.ptp.len()), (1, 1));
    // The same interface, with another domain or another transport.
    let first = "[[ptp]]\ninterface = \"a\"\n";
    for difference in ["domain = 1", "transport = \"udp6\""] {
        assert_eq!(accepted(&format!("{first}{first}name = \"b\"\n{difference}")).settings.ptp.len(), 2);
    }
}

#[test]
fn a_host_that_defines_time_follows_nobody() {
    let text = "[[source]]\nserver = \"a\"\n[[source]]\nlocal = true\n";
    let error = Config::parse(text, Path::new("t.toml")).expect_err("two roots of time");
    assert_eq!((error.line(), error.column()), (Some(4), Some(9)));
    assert!(error.message().contains("cannot follow other sources"), "{error}");
}

#[test]
fn every_key_of_clockbound_reaches_its_setting() {
    let config =
        accepted("[clockbound]\nshm0 = true\nshm1 = true\ndirectory = \"/run/cb\"\nrealtime-slew = \"83333ppm\"\n");
    let expected = ClockBoundConfig {
        shm0: true,
        shm1: true,
        directory: "/run/cb".into(),
        realtime_slew: Some(FreqError::from_ppm(83_333.0)),
    };
    assert_eq!(config.clockbound, expected);
    assert_eq!(config.settings, accepted("").settings, "no bound depends on it");
    // The counter's clients need no word, and without a segment nobody minds a virtual clock.
    assert!(accepted("clockbound.shm1 = true").clockbound.shm1);
    accepted("clock.discipline = \"virtual\"\nclockbound.shm0 = false\nclockbound.shm1 = false");
}
