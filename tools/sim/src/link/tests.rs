use super::*;

const MS: i64 = 1_000_000;

/// Load, gap in ns; correlation of the two waits, P(second pure | first pure), P(gap kept within 40 ns).
const REFERENCE_PAIRS: [(f64, i64, f64, f64, f64); 6] = [
    (0.3, 2_000, 0.897, 0.844, 0.430),
    (0.3, 20_000, 0.299, 0.543, 0.277),
    (0.6, 20_000, 0.606, 0.272, 0.056),
    (0.6, 100_000, 0.150, 0.201, 0.042),
    (0.9, 20_000, 0.953, 0.130, 0.0056),
    (0.9, 100_000, 0.839, 0.058, 0.0028),
];

fn link(spec: &LinkSpec, seed: u64) -> Link {
    println!("seed {seed}");
    Link::new(spec, Rng::new(seed))
}

fn without_incast(load: f64) -> LinkSpec {
    let incast = Incast { chance: 0.0, ..Incast::default() };
    LinkSpec { queue: Queue::Bursts(Bursts { load, incast, ..Bursts::default() }), ..LinkSpec::default() }
}

/// Waits of packets `gap_ns` apart, ns.
fn waits(spec: &LinkSpec, gap_ns: i64, n: usize, seed: u64) -> Vec<f64> {
    let mut link = link(spec, seed);
    let wait = |departs_ns: i64, arrives_ns: i64| (arrives_ns - departs_ns) as f64 - spec.base_us * 1e3;
    (0..n as i64).map(|i| wait(i * gap_ns, link.carry(i * gap_ns).next().expect("no loss"))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn share(values: &[f64], of: impl Fn(f64) -> bool) -> f64 {
    values.iter().filter(|x| of(**x)).count() as f64 / values.len() as f64
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (ma, mb) = (mean(&a), mean(&b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|(x, y)| f(x - ma, y - mb)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x).sqrt() * sum(&|_, y| y * y).sqrt())
}

#[test]
fn purity_falls_with_load_as_in_the_model() {
    for (load, one_way) in [(0.0, 1.0), (0.3, 0.506), (0.6, 0.196), (0.9, 0.030)] {
        let spec = networks::bursts(load);
        let (forward, back) = (waits(&spec, 100 * MS, 60_000, 1), waits(&spec, 100 * MS, 60_000, 2));
        let pure = share(&forward, |wait| wait == 0.0);
        let both = forward.iter().zip(&back).filter(|(f, b)| **f + **b == 0.0).count() as f64 / forward.len() as f64;
        assert!((pure - one_way).abs() < 0.01, "load {load}: {pure}, not {one_way}");
        let expected = one_way * one_way;
        assert!((0.5..=2.0).contains(&(both / expected)), "load {load}: both ways {both}, not {expected}");
    }
}

#[test]
fn mean_wait_is_that_of_queues_in_series() {
    for load in [0.3, 0.6, 0.9] {
        let hop_us = |load: f64| 6.0 * load / (1.0 - load);
        let expected_us = 2.0 * hop_us(load / 2.0) + hop_us(load);
        for gap_ns in [50 * MS, 300_000] {
            let mean_us = mean(&waits(&without_incast(load), gap_ns, 400_000, 3)) / 1e3;
            assert!((mean_us / expected_us - 1.0).abs() < 0.06, "{load} {gap_ns}: {mean_us}, not {expected_us}");
        }
    }
}

/// The figures are those of the reference network, worked out with 400,000 pairs at each of load and gap.
#[test]
fn packets_of_a_pair_find_nearly_the_same_queue() {
    for (load, gap_ns, rho, pure_again, kept) in REFERENCE_PAIRS {
        let spec = without_incast(load);
        let mut link = link(&spec, 4);
        let mut carry = |departs_ns: i64| (link.carry(departs_ns).next().expect("no loss") - departs_ns) as f64 - 1e4;
        let pairs: Vec<(f64, f64)> = (0..60_000).map(|i| (carry(i * 50 * MS), carry(i * 50 * MS + gap_ns))).collect();
        let seconds: Vec<f64> = pairs.iter().filter(|(first, _)| *first == 0.0).map(|(_, second)| *second).collect();
        let again = share(&seconds, |wait| wait < 1.0);
        let near = share(&pairs.iter().map(|(a, b)| b - a).collect::<Vec<_>>(), |x| x.abs() < 40.0);
        let r = correlation(&pairs);
        assert!((r - rho).abs() < 0.02, "{load} {gap_ns}: correlation {r}, not {rho}");
        assert!((again - pure_again).abs() < 0.03, "{load} {gap_ns}: pure again {again}, not {pure_again}");
        assert!((near - kept).abs() < 0.02, "{load} {gap_ns}: gap kept {near}, not {kept}");
    }
}

/// Played through or drawn anew, the law of the wait is the same on both sides of the queue's memory.
#[test]
fn long_gaps_have_the_law_of_short_ones() {
    for load in [0.3, 0.6] {
        let spec = without_incast(load);
        let by_gap: Vec<Vec<f64>> = [10_000, 100_000, 200_000, 400_000, 10 * MS]
            .into_iter()
            .map(|gap_ns| waits(&spec, gap_ns, 400_000, 5))
            .collect();
        for limit_ns in [0.0, 10e3, 30e3, 60e3] {
            let shares: Vec<f64> = by_gap.iter().map(|waits| share(waits, |wait| wait <= limit_ns)).collect();
            let spread = shares.iter().fold(0.0f64, |most, share| most.max((share - shares[0]).abs()));
            assert!(spread < 0.012, "load {load}, limit {limit_ns}: {shares:?}");
        }
    }
}

#[test]
fn incast_is_rare_long_bounded_and_drains() {
    let spec = networks::bursts(0.01);
    let long = waits(&spec, 20 * MS, 400_000, 6);
    let p = share(&long, |wait| wait >= 20e3);
    assert!((0.004..0.0065).contains(&p), "{p}");
    assert!(long.iter().all(|wait| *wait <= 5.1e6));
    let close = waits(&spec, 20_000, 400_000, 7);
    let p = share(&close, |wait| wait >= 20e3);
    assert!(p < 0.003, "{p}: incast comes as often in time, however many packets look");
    let falls = close.windows(2).filter(|pair| pair[0] > 1e6 && pair[1] < pair[0] - 21e3).count();
    assert_eq!(falls, 0, "a queue cannot drain faster than time passes");
}

#[test]
fn means_of_the_laws_without_memory() {
    let of = |spec: &LinkSpec| mean(&waits(spec, MS * 20, 200_000, 8)) / 1e3;
    for (spec, expected_us, within_us) in [
        (networks::exponential(), 30.0, 0.4),
        (networks::normal(), 0.0, 0.005),
        (networks::mixture(), 130.0, 3.0),
        (LinkSpec { queue: Queue::Md1(Md1 { load: 0.5, service_us: 2.0 }), ..LinkSpec::default() }, 1.0, 0.02),
        // scale · E[min(X − 1, c)] = 10 · 2 · (1 − 1/√(1 + c)) with c = 500
        (LinkSpec { queue: Queue::Pareto(Pareto::default()), ..LinkSpec::default() }, 19.1, 1.0),
    ] {
        let mean_us = of(&spec);
        assert!((mean_us - expected_us).abs() < within_us, "{spec:?}: {mean_us}");
    }
}

#[test]
fn nobody_overtakes_but_stragglers() {
    let gaps = |spec: &LinkSpec| {
        let (mut link, mut rng, mut departs_ns) = (link(spec, 9), Rng::new(10), 0);
        let arrivals: Vec<i64> = (0..50_000)
            .filter_map(|_| {
                departs_ns += rng.between(0, 40_000);
                link.carry(departs_ns).next()
            })
            .collect();
        arrivals.windows(2).filter(|pair| pair[1] < pair[0] + PACKET_NS).count()
    };
    for spec in [networks::exponential(), networks::mixture(), networks::bursts(0.9), networks::long_path(0.6)] {
        assert_eq!(gaps(&spec), 0, "{spec:?}");
        assert!(gaps(&LinkSpec { reorder: 0.1, ..spec.clone() }) > 1000, "{spec:?}");
    }
}

#[test]
fn losses_and_duplicates_come_as_often_as_said_and_change_no_other_packet() {
    let clean = networks::bursts(0.6);
    let lossy = LinkSpec { loss: 0.1, duplicate: 0.2, ..clean.clone() };
    let (mut clean, mut lossy) = (link(&clean, 12), link(&lossy, 12));
    let mut counts = [0; 3];
    for departs_ns in (0..20_000).map(|i| i * MS) {
        let (expected, arrivals): (Vec<i64>, Vec<i64>) =
            (clean.carry(departs_ns).collect(), lossy.carry(departs_ns).collect());
        counts[arrivals.len()] += 1;
        assert!(arrivals.is_sorted() && arrivals.iter().all(|at| *at >= expected[0]));
        assert!(arrivals.len() != 2 || arrivals[0] == expected[0]);
    }
    for (count, expected) in counts.into_iter().zip([0.1 * 0.8, 0.9 * 0.8 + 0.1 * 0.2, 0.9 * 0.2]) {
        assert!((f64::from(count) / 20_000.0 - expected).abs() < 0.01, "{counts:?}");
    }
}

#[test]
fn same_seed_same_arrivals() {
    let arrivals = |seed| {
        let mut link = link(&LinkSpec { loss: 0.01, ..networks::bursts(0.6) }, seed);
        (0..5000).flat_map(|i| link.carry(i * 30_000)).collect::<Vec<_>>()
    };
    assert_eq!(arrivals(13), arrivals(13));
    assert_ne!(arrivals(13), arrivals(14));
}

#[test]
fn another_route_takes_effect_with_the_next_packet() {
    let mut link = link(&LinkSpec { base_us: 500.0, ..LinkSpec::default() }, 15);
    assert_eq!(link.carry(0).next(), Some(500_000));
    link.set(LinkSpec { base_us: 3.0, ..LinkSpec::default() });
    assert_eq!(link.carry(1000).next(), Some(4000), "it may overtake what took the old route");
    assert_eq!(link.carry(1010).next(), Some(4070));
    assert_eq!(link.carry(900).next(), Some(3900), "a late call is held up by nobody");
}

#[test]
fn a_standing_queue_stands_half_of_each_period() {
    let standing = Standing { depth_us: 40.0, period_s: 100.0, ramp_s: 10.0 };
    for (at_s, expected_us) in
        [(0, 0.0), (5, 20.0), (10, 40.0), (50, 40.0), (55, 20.0), (60, 0.0), (99, 0.0), (105, 20.0)]
    {
        let extra_us = standing.extra_ns(at_s * 1000 * MS) / 1e3;
        assert!((extra_us - expected_us).abs() < 1e-6, "at {at_s} s: {extra_us}");
    }
    assert_eq!(Standing { depth_us: 7.0, ..Standing::default() }.extra_ns(123), 7e3);
}

#[test]
fn a_scenario_states_a_link_in_a_few_words() {
    let parse = toml::from_str::<LinkSpec>;
    assert_eq!(parse("").expect("empty"), LinkSpec::default());
    assert_eq!(parse("queue.bursts.load = 0.6").expect("bursts"), networks::bursts(0.6));
    assert_eq!(parse("base-us = 100.0\nqueue.exponential.mean-us = 30.0").expect("A"), networks::exponential());
    assert_eq!(parse("base-us = 2.0\nqueue.normal = {}").expect("C"), networks::normal());
    let long = "base-us = 25.0\n[queue.bursts]\nload = 0.3\nhops = 5\nburst-us = 12.0\n\
                incast = { chance = 0.02, scale-us = 60.0, tail = \"product\" }";
    assert_eq!(parse(long).expect("long"), networks::long_path(0.3));
    assert_eq!(parse("queue = \"none\"\nstanding.depth-us = 3.0").expect("standing").standing.depth_us, 3.0);
    let pareto = parse("queue.pareto = { alpha = 2.0, scale-us = 5.0 }").expect("pareto");
    assert_eq!(pareto.queue, Queue::Pareto(Pareto { alpha: Alpha::Two, scale_us: 5.0, ..Pareto::default() }));
    for (wrong, says) in [
        ("bass-us = 1.0", "unknown field `bass-us`"),
        ("queue.bursts.lode = 0.6", "unknown field `lode`"),
        ("queue.pareto.alpha = 1.7", "alpha is 1.5 or 2"),
        ("queue.trace.file = \"/nonexistent.csv\"", "/nonexistent.csv"),
    ] {
        let error = parse(wrong).expect_err(wrong).to_string();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}
