//! The adaptive filter against the prototype of ALGORITHM §6.2 on identical traces.
//!
//! A fixture is a line of parameters, then in order of time `x T1 T1b U U2 T4 T4b L L2` (a pair of exchanges, ns) and
//! `e t theta_ns omega dmin_ns q`: what the prototype estimated at raw time t.

use truebound_core::estimate::Exchange;
use truebound_core::estimate::adaptive::{Adaptive, Tuning};
use truebound_core::time::RawTime;

/// A fixture's parameters.
struct Parameters {
    is_precise: bool,
    is_paired: bool,
    sub_block_s: f64,
    walk_min: f64,
}

impl Parameters {
    fn parse(line: &str) -> Self {
        let value = |key: &str| {
            let pair = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            pair.unwrap_or_else(|| panic!("no {key} in {line}"))
        };
        Parameters {
            is_precise: value("hw") == "1",
            is_paired: value("pairmode") == "0",
            sub_block_s: value("bmin").parse().expect("s"),
            walk_min: value("qmin").parse().expect("q"),
        }
    }

    fn filter(&self) -> Adaptive {
        let like_ours = Tuning::of_stamps(self.is_precise);
        let (sub_block_s, walk_min) = (Some(self.sub_block_s), self.walk_min);
        Adaptive::new(Some(Tuning { is_plain: true, sub_block_s, walk_min, ..like_ours }))
    }
}

fn numbers<T: std::str::FromStr>(line: &str) -> Vec<T> {
    line.split_whitespace().skip(1).map(|word| word.parse().ok().unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Feeds the two exchanges of a line, or the first of them; conclusions are drawn when the second is over.
fn feed(filter: &mut Adaptive, line: &str, is_paired: bool) {
    let [t1, t1b, u, u2, t4, t4b, l, l2] = numbers::<i64>(line)[..] else { panic!("{line}") };
    let exchange = |t1, upper_ns, t4, lower_ns| Exchange {
        t1: RawTime::from_ns(t1),
        t4: RawTime::from_ns(t4),
        upper_ns,
        lower_ns,
        stamp_ns: 0,
        pair: None,
    };
    filter.insert(&exchange(t1, u, t4, l));
    if is_paired {
        filter.insert(&exchange(t1b, u2, t4b, l2));
    }
    filter.settle(RawTime::from_ns(t4b));
}

/// The largest differences to the prototype: θ in ns, ω in ppb.
fn compare(name: &str, fixture: &str) -> (f64, f64) {
    let parameters = Parameters::parse(fixture.lines().next().expect("parameters"));
    let mut filter = parameters.filter();
    let (mut worst, mut compared): ((f64, f64), u32) = ((0.0, 0.0), 0);
    for line in fixture.lines() {
        if line.starts_with("x ") {
            feed(&mut filter, line, parameters.is_paired);
        } else if line.starts_with("e ") {
            let [t, theta_ns, omega, ..] = numbers::<f64>(line)[..] else { panic!("{line}") };
            let at = RawTime::from_ns(truebound_core::units::to_i64(t));
            let (ours_ns, our_omega, _) = filter.state_at(at).unwrap_or_else(|| panic!("{name}: no estimate at {t}"));
            let difference = (truebound_core::units::to_f64(ours_ns) - theta_ns).abs();
            worst = (worst.0.max(difference), worst.1.max((our_omega - omega).abs() * 1e9));
            compared += 1;
        }
    }
    println!("{name}: {compared} instants, θ within {:.3} ns, ω within {:.4} ppb", worst.0, worst.1);
    assert!(compared > 50, "{name}: too little to compare");
    worst
}

macro_rules! agrees {
    ($name:ident, $file:literal) => {
        #[test]
        fn $name() {
            let (theta_ns, omega_ppb) = compare($file, include_str!(concat!("fixtures/h4/", $file, ".txt")));
            assert!(theta_ns <= 1.0, "θ differs by {theta_ns} ns");
            assert!(omega_ppb <= 0.1, "ω differs by {omega_ppb} ppb");
        }
    };
}

agrees!(one_exchange_a_second, "hw-1-load30-single");
agrees!(sixty_percent_load, "hw-8-load60-single");
agrees!(ninety_percent_load, "hw-8-load90-single");
agrees!(ninety_percent_load_in_pairs, "hw-8-load90-pairs");
agrees!(software_stamps, "sw-8-load60-single");
agrees!(a_longer_route_one_way, "hw-64-route-single");
