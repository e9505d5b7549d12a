//! A leap second that the client's table does not know: past its expiry UTC is in doubt by the second, whether or not one
//! comes. So are sources that tell UTC: TAI stays what was measured before and grows as without them, until they matter
//! again when it is a second wide. (A source of TAI keeps it narrow.)

use truebound_client::Interval;
use truebound_core::leap::LeapTable;
use truebound_core::settings::{Settings, SourceSettings};
use truebound_core::smear::Smear;
use truebound_sim::world::{Action, HostSpec, NS_PER_S, World, following, root, source};

/// 2027-07-01T00:00:00Z, s: the first possible leap after the client's table expires.
const POSSIBLE_S: i64 = 1_814_400_000;
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
const MS: i64 = 1_000_000;

fn table(expires_unix_s: i64, more: &str) -> LeapTable {
    let text = format!("#@ {}\n3692217600 37\n{more}", expires_unix_s + NTP_TO_UNIX_S);
    LeapTable::parse(&text).expect("a list of leap seconds")
}

/// What a reader gets now.
fn read(world: &mut World, client: usize) -> Interval {
    let t = world.now;
    let raw_ns = world.hosts[client].raw(t).as_ns();
    let page = world.hosts[client].checker.page.as_ref().expect("it publishes");
    page.interval_at(raw_ns).unwrap_or_else(|why| panic!("no interval: {why:?}"))
}

/// A server that knows whether a leap comes (by `leap_s`), a client that does not: a minute before to five after it.
fn across(seed: u64, leap_s: i32) {
    let mut world = World::starting_at(seed, POSSIBLE_S - 60);
    let known = if leap_s == 0 { String::new() } else { format!("{} {}\n", POSSIBLE_S + NTP_TO_UNIX_S, 37 + leap_s) };
    let server = Settings { leap: table(POSSIBLE_S + 400 * 86_400, &known), ..root(0, 20_000) };
    let server = world.add(HostSpec { is_checked: false, ..HostSpec::ROOT }, server);
    let settings = Settings { leap: table(POSSIBLE_S - 3 * 86_400, ""), ..following(&[source(server)]) };
    let client = world.add(HostSpec::CLIENT, settings);
    if leap_s != 0 {
        let step = Action::StepRealtime { ms: -1000.0 * f64::from(leap_s), noticed: true };
        let at = (POSSIBLE_S + 37 + i64::from(leap_s.min(0))) * NS_PER_S;
        [server, client].into_iter().for_each(|host| world.act_at(at, host, step.clone()));
    }
    // A second that is left out is that before midnight.
    let change_tai_ns = (POSSIBLE_S + 37 + i64::from(leap_s.min(0))) * NS_PER_S;
    let doubt_tai_ns = (POSSIBLE_S + 36) * NS_PER_S;
    world.run(5 * NS_PER_S);
    for _ in 0..710 {
        world.run(NS_PER_S / 2);
        let (t, read) = (world.now, read(&mut world, client));
        let offset_s = if t < change_tai_ns { 37 } else { 37 + i64::from(leap_s) };
        let utc_ns = t - offset_s * NS_PER_S;
        assert!(read.tai.earliest_ns <= t && t <= read.tai.latest_ns, "seed {seed}: {read:?} at {t}");
        assert!(read.earliest_ns <= utc_ns && utc_ns <= read.latest_ns, "seed {seed}: {read:?} at {t}");
        assert!(read.tai.width_ns() < 20 * MS, "seed {seed}: TAI stays tight, {read:?}");
        // Doubt begins with the first instant that the interval cannot exclude.
        let doubt_ns = if read.tai.latest_ns < doubt_tai_ns { 0 } else { 2 * NS_PER_S };
        assert_eq!(read.latest_ns - read.earliest_ns, read.tai.width_ns() + doubt_ns, "seed {seed}: {read:?}");
    }
    let checker = &world.hosts[client].checker;
    assert!(checker.violations == 0 && checker.faults.is_empty(), "seed {seed}: {:?}", checker.faults);
    assert_eq!(checker.epoch(), 1, "seed {seed}: {:?}", checker.history);
    println!(
        "leap by {leap_s} s, seed {seed}: TAI {} ns wide after 5 min, UTC 2 s more",
        read(&mut world, client).tai.width_ns()
    );
}

#[test]
fn an_unknown_leap_widens_utc_by_the_second_and_leaves_tai_tight() {
    for (seed, leap_s) in (1..=3).flat_map(|seed| [(seed, 0), (seed, 1), (seed, -1)]) {
        across(seed, leap_s);
    }
}

/// Three servers that smear and one that does not, as the operator says them to.
fn smearers(seed: u64, change: impl Fn(&mut SourceSettings)) -> (World, usize) {
    const TODAY_S: i64 = POSSIBLE_S - 43_300;
    let mut world = World::starting_at(seed, TODAY_S);
    let leap = table(POSSIBLE_S + 400 * 86_400, &format!("{} 38\n", POSSIBLE_S + NTP_TO_UNIX_S));
    let mut sources = Vec::new();
    for index in 0..4 {
        let spec = HostSpec { is_checked: false, ..HostSpec::ROOT };
        let server = world.add(spec, Settings { leap: leap.clone(), ..root(0, 20_000) });
        world.hosts[server].smears = index < 3;
        let mut line = source(server);
        if index < 3 {
            change(&mut line);
        }
        sources.push(line);
    }
    let client = world.add(HostSpec::CLIENT, Settings { leap, ..following(&sources) });
    world.run(10 * NS_PER_S);
    (world, client)
}

#[test]
fn servers_of_one_smear_are_one_group_unless_the_operator_names_others() {
    let smear = |line: &mut SourceSettings| line.smear = Smear::NoonToNoon;
    let groups = |world: World, client: usize| {
        let report = world.report(client);
        (report.groups.0, report.sources.iter().filter(|source| source.group == "smear noon-to-noon").count())
    };
    let (world, client) = smearers(1, smear);
    assert_eq!(groups(world, client), (2, 3), "three of one smear, and one");
    let (world, client) = smearers(1, |line| {
        smear(line);
        line.group = Some(line.name.clone());
    });
    assert_eq!(groups(world, client), (4, 0), "named apart");
    let (world, client) = smearers(1, |_| ());
    assert_eq!(groups(world, client), (4, 0), "nobody said that they smear");
}
