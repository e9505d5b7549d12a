//! A clock of its own for one program (virtual_clock.c, preloaded), and the judge who knows its error at any instant.
//!
//! The program disciplines this clock in closed loop as it would the kernel's, which nobody touches: true time is
//! CLOCK_REALTIME, and the clock's error is what its law says now.

use std::f64::consts::TAU;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use truebound_core::units::{to_f64, to_i64};

use super::checker::realtime_ns;
use super::lab::Lab;
use super::place::ROOT;

const SOURCE: &str = "tests/netns/virtual_clock.c";

/// Words of 8 bytes in the file: a sequence number, five of the oscillator, four of the steering, two counters.
const WORDS: usize = 12;

/// How the clock would run if nobody steered it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oscillator {
    pub(crate) offset_ns: i64,
    pub(crate) freq_ppb: i64,
    /// Amplitude of a sine of frequency.
    pub(crate) wander_ppb: i64,
    pub(crate) period_s: i64,
}

impl Oscillator {
    /// The kernel's clock, so far ahead and running as it does.
    pub(crate) fn shifted(offset_ns: i64) -> Oscillator {
        Oscillator { offset_ns, freq_ppb: 0, wander_ppb: 0, period_s: 0 }
    }

    /// A plain computer's crystal, as a daemon meets it at its start.
    pub(crate) fn plain() -> Oscillator {
        Oscillator { offset_ns: 200_000, freq_ppb: 10_000, wander_ppb: 300, period_s: 97 }
    }
}

/// A clock that one program may be started on.
pub(crate) struct VirtualClock {
    oscillator: Oscillator,
    library: PathBuf,
    page: PathBuf,
}

impl VirtualClock {
    /// Compiles the library into the lab and prepares the clock called `name`.
    pub(crate) fn new(lab: &Lab, name: &str, oscillator: Oscillator) -> VirtualClock {
        let dir = lab.private_dir(&format!("clock-{name}"));
        let library = dir.join("virtual_clock.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library);
        let status = compiler
            .arg(Path::new(ROOT).join(SOURCE))
            .args(["-lm", "-ldl"])
            .status()
            .expect("whoever linked this test has a cc");
        assert!(status.success(), "{SOURCE} does not compile");
        let page = dir.join("law");
        let _ = fs::remove_file(&page); // of an earlier clock of this name
        VirtualClock { oscillator, library, page }
    }

    /// The variables under which a program lives by this clock.
    pub(crate) fn environment(&self) -> [String; 3] {
        let Oscillator { offset_ns, freq_ppb, wander_ppb, period_s } = self.oscillator;
        [
            format!("VIRTUAL_CLOCK={offset_ns} {freq_ppb} {wander_ppb} {period_s}"),
            format!("VIRTUAL_CLOCK_FILE={}", self.page.display()),
            format!("LD_PRELOAD={}", self.library.display()),
        ]
    }

    /// How far the clock is ahead of the truth now, ns; `None` before the program has looked at it.
    pub(crate) fn error_ns(&self) -> Option<i64> {
        let law = Law::read(&self.page)?;
        Some(law.error_at(realtime_ns()))
    }

    /// How often the program was refused what no virtual clock can do, such as to steer another one.
    pub(crate) fn refused(&self) -> u64 {
        Law::read(&self.page).map_or(0, |law| law.refused)
    }
}

/// The file's content.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Law {
    origin_ns: i64,
    offset_ns: f64,
    freq: f64,
    wander: f64,
    period_ns: f64,
    since_ns: i64,
    stepped_ns: i64,
    slewed_ns: f64,
    rate: f64,
    refused: u64,
}

impl Law {
    /// A copy under the seqlock: the same even number before and after it.
    fn read(path: &Path) -> Option<Law> {
        let file = File::open(path).ok()?;
        loop {
            let words = read_words(&file)?;
            if words[0].is_multiple_of(2) && read_words(&file)?[0] == words[0] {
                return (words[0] > 0).then(|| Law::from_words(&words));
            }
            std::hint::spin_loop();
        }
    }

    fn from_words(words: &[u64; WORDS]) -> Law {
        let (signed, real) = (|i: usize| words[i].cast_signed(), |i: usize| f64::from_bits(words[i]));
        Law {
            origin_ns: signed(1),
            offset_ns: real(2),
            freq: real(3),
            wander: real(4),
            period_ns: real(5),
            since_ns: signed(6),
            stepped_ns: signed(7),
            slewed_ns: real(8),
            rate: real(9),
            refused: words[11],
        }
    }

    /// V − t, as the head of virtual_clock.c has it.
    fn error_at(&self, t_ns: i64) -> i64 {
        let x = to_f64(t_ns - self.origin_ns);
        let wander = if self.period_ns > 0.0 {
            self.wander * self.period_ns / TAU * (1.0 - (TAU * x / self.period_ns).cos())
        } else {
            0.0
        };
        let natural = self.offset_ns + self.freq * x + wander;
        let slewed = self.slewed_ns + self.rate * to_f64(t_ns - self.since_ns);
        self.stepped_ns + to_i64((natural + slewed).round())
    }
}

fn read_words(file: &File) -> Option<[u64; WORDS]> {
    let mut bytes = [0; WORDS * 8];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn an_unsteered_clock_drifts_by_its_frequency_and_returns_from_its_wander() {
        let law = Law { offset_ns: 200_000.0, freq: 1e-5, wander: 3e-7, period_ns: 97e9, ..Law::default() };
        assert_eq!(law.error_at(0), 200_000);
        assert_eq!(law.error_at(97 * S), 200_000 + 970_000);
        // Half a period: the integral of a half sine, 2·wander·period/2π.
        assert_eq!(law.error_at(97 * S / 2), 200_000 + 485_000 + 9263);
    }

    #[test]
    fn steering_adds_its_steps_and_its_rate() {
        let steered = Law { since_ns: 10 * S, stepped_ns: -7, slewed_ns: 5.0, rate: -1e-6, ..Law::default() };
        assert_eq!(steered.error_at(13 * S), -7 + 5 - 3000);
    }
}
