//! The CPU's counter, which clients of ClockBound 3.x read in place of a clock: x86's TSC, arm64's CNTVCT_EL0.
//!
//! It means something only where the kernel's clocksource is that counter: then CLOCK_MONOTONIC_RAW is linear in it.

use truebound_client::clock::{MonotonicRaw, RawClock};
use truebound_core::clockbound::counter::CounterReading;
use truebound_core::time::RawTime;

use crate::sys;

/// Brackets per reading at the most: an interrupt hits one of four, hardly all.
const TRIES: usize = 4;
/// A bracket this wide, ns, was not interrupted.
const GOOD_ENOUGH_NS: i64 = 150;

/// The counter now, in the order of the program; `None` on a CPU without one that programs may read.
#[inline]
#[must_use]
pub fn read() -> Option<u64> {
    sys::counter::read()
}

/// Does the counter run at one rate for ever, whatever the CPU's frequency and sleep states? arm64's does by its
/// architecture; x86's says so (CPUID 80000007, EDX bit 8, which Linux shows as two flags).
#[must_use]
pub fn is_invariant() -> bool {
    match std::env::consts::ARCH {
        "aarch64" => true,
        "x86_64" => std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| all_have_invariant_tsc(&text)),
        _ => false,
    }
}

fn all_have_invariant_tsc(cpuinfo: &str) -> bool {
    let mut cpus = cpuinfo.lines().filter_map(|line| line.strip_prefix("flags")).peekable();
    let has = |flags: &str, name: &str| flags.split_whitespace().any(|flag| flag == name);
    cpus.peek().is_some() && cpus.all(|flags| has(flags, "constant_tsc") && has(flags, "nonstop_tsc"))
}

/// The counter between two readings of CLOCK_MONOTONIC_RAW, the narrowest of a few.
#[must_use]
pub fn bracket() -> Option<CounterReading> {
    let mut best = triple()?;
    for _ in 1..TRIES {
        if width_ns(&best) <= GOOD_ENOUGH_NS {
            break;
        }
        let next = triple()?;
        if width_ns(&next) < width_ns(&best) {
            best = next;
        }
    }
    Some(best)
}

fn triple() -> Option<CounterReading> {
    let before = RawTime::from_ns(MonotonicRaw.now_ns());
    let counter = read()?;
    // A reading is truncated to ns: the instant was before the next one.
    let after = RawTime::from_ns(MonotonicRaw.now_ns().saturating_add(1));
    Some(CounterReading { before, counter, after })
}

fn width_ns(reading: &CounterReading) -> i64 {
    reading.after.ns_since(reading.before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use truebound_core::clockbound::counter::CounterLine;

    #[test]
    fn every_cpu_must_say_that_its_counter_is_invariant() {
        let good = "flags\t\t: fpu constant_tsc rep_good nonstop_tsc\n";
        assert!(all_have_invariant_tsc(&good.repeat(2)));
        assert!(!all_have_invariant_tsc(&format!("{good}flags\t: fpu constant_tsc nonstop_tsc_s3\n")));
        assert!(!all_have_invariant_tsc("model name : x\n"));
    }

    #[test]
    fn brackets_are_in_order_and_the_counter_does_not_go_back() {
        let Some(first) = bracket() else { return };
        for _ in 0..1_000 {
            let next = bracket().expect("as before");
            assert!(next.before <= next.after && first.before <= next.before && first.counter <= next.counter);
        }
    }

    /// Where the kernel's clocksource is this counter, raw time is linear in it as far as brackets can tell.
    #[test]
    fn raw_time_is_a_line_in_the_counter() {
        let clocksource = truebound_client::host::ClocksourceFile::open().name();
        if !clocksource.starts_with(b"tsc\0") && !clocksource.starts_with(b"arch_sys_counter") {
            return;
        }
        let mut line = CounterLine::default();
        let begin = MonotonicRaw.now_ns();
        while MonotonicRaw.now_ns() - begin < 300_000_000 {
            let reading = bracket().expect("that clocksource is the counter").widened(1_000);
            assert!(line.push(reading), "a bracket beside the line: {reading:?} {line:?}");
        }
        assert!(line.period().is_some());
    }
}
