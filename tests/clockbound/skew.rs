//! The test's hand on a CLOCK_REALTIME of its own (skew.c): sets it and slews it for the programs that live by it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use crate::netns::checker::realtime_ns;
use crate::netns::lab::Lab;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clockbound/skew.c");

/// A clock beside the kernel's.
pub(crate) struct Skew {
    library: PathBuf,
    path: PathBuf,
    file: File,
    sequence: u64,
    origin_ns: i64,
    offset_ns: i64,
    rate_ppb: i64,
}

impl Skew {
    /// The kernel's clock, until it is changed.
    pub(crate) fn new(lab: &Lab) -> Skew {
        let dir = lab.private_dir("skew");
        let (library, path) = (dir.join("skew.so"), dir.join("law"));
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).args([SOURCE, "-ldl"]);
        assert!(cc.status().expect("whoever linked this test has a cc").success(), "{SOURCE} does not compile");
        fs::write(&path, [0; 32]).expect("the lab's directory is writable");
        let file = File::options().write(true).open(&path).expect("just made");
        Skew { library, path, file, sequence: 0, origin_ns: realtime_ns(), offset_ns: 0, rate_ppb: 0 }
    }

    /// The variables under which a program lives by this clock.
    pub(crate) fn environment(&self) -> [String; 2] {
        [format!("SKEW_FILE={}", self.path.display()), format!("LD_PRELOAD={}", self.library.display())]
    }

    /// Sets the clock by so much; it goes on at its rate. True time when that was done, ns.
    pub(crate) fn step(&mut self, by_ns: i64) -> i64 {
        self.change(by_ns, self.rate_ppb)
    }

    /// From now on the clock gains so much, without a step. True time when that was done, ns.
    pub(crate) fn slew(&mut self, rate_ppb: i64) -> i64 {
        self.change(0, rate_ppb)
    }

    fn change(&mut self, by_ns: i64, rate_ppb: i64) -> i64 {
        let store =
            |file: &File, at: u64, value: i64| file.write_all_at(&value.to_ne_bytes(), at).expect("a small file");
        let even = |sequence: u64| i64::try_from(sequence).expect("few changes");
        store(&self.file, 0, even(self.sequence + 1));
        let now_ns = realtime_ns();
        let gained = i128::from(now_ns - self.origin_ns) * i128::from(self.rate_ppb) / 1_000_000_000;
        self.offset_ns += i64::try_from(gained).expect("a short test") + by_ns;
        (self.origin_ns, self.rate_ppb) = (now_ns, rate_ppb);
        for (at, value) in [(8, self.origin_ns), (16, self.offset_ns), (24, self.rate_ppb)] {
            store(&self.file, at, value);
        }
        self.sequence += 2;
        store(&self.file, 0, even(self.sequence));
        now_ns
    }
}
