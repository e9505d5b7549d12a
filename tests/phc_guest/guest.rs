//! One guest, one scenario, one console (tools/phc-guest).
//!
//! A test that finds no guest built says so and passes as skipped: building one takes minutes, and
//! `tools/phc-guest/build` does it once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Instant;

use super::console::Console;

/// `skip`: not now (tools/test runs these tests as a step of their own).
const MODE: &str = "TRUEBOUND_GUEST";
/// How tools/phc-guest/build ends where it would have to build more than the image.
const CANNOT: i32 = 77;

/// The right to boot guests, whose image has today's programs.
pub(crate) struct Guest {
    test: &'static str,
}

impl Guest {
    /// `None`: the test is skipped and has said so.
    pub(crate) fn open(test: &'static str) -> Option<Guest> {
        if std::env::var(MODE).is_ok_and(|mode| mode == "skip") {
            return skip(test, "TRUEBOUND_GUEST=skip");
        }
        match image() {
            Ok(()) => Some(Guest { test }),
            Err(reason) => skip(test, reason),
        }
    }

    /// Two cards on one wire.
    pub(crate) fn run(&self, scenario: &str, words: &str) -> Console {
        self.boot(2, scenario, words)
    }

    /// Four cards: somebody stands between.
    pub(crate) fn run_with_four_cards(&self, scenario: &str, words: &str) -> Console {
        self.boot(4, scenario, words)
    }

    fn boot(&self, cards: u8, scenario: &str, words: &str) -> Console {
        let start = Instant::now();
        let mut command = tool("run");
        command.env("NICS", cards.to_string()).arg(scenario).args(words.split_whitespace());
        let output = command.output().expect("tools/phc-guest/run is part of the tree");
        let console = Console::new(format!("{}: {scenario} {words}", self.test), &output);
        console.expect_done();
        println!("{} ({:.1} s)\n    {}", console.title(), start.elapsed().as_secs_f64(), console.summary());
        console
    }
}

/// Made once per process; every test shares it.
fn image() -> Result<(), &'static str> {
    static IMAGE: OnceLock<Result<(), String>> = OnceLock::new();
    IMAGE.get_or_init(build_image).as_ref().copied().map_err(String::as_str)
}

fn build_image() -> Result<(), String> {
    let built = tool("build").arg("--if-cached").output().expect("tools/phc-guest/build is part of the tree");
    match built.status.code() {
        Some(0) => Ok(()),
        Some(CANNOT) => Err(complaint(&built)),
        _ => panic!("tools/phc-guest/build: {}", complaint(&built)),
    }
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// A script of tools/phc-guest, with the directory that this test was built into.
fn tool(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools/phc-guest").join(name);
    // TARGET/PROFILE/truebound
    let target = Path::new(env!("CARGO_BIN_EXE_truebound")).ancestors().nth(2);
    let mut command = Command::new(path);
    command.env("CARGO_TARGET_DIR", target.expect("cargo's directories are two deep"));
    command
}

fn skip(test: &str, reason: &str) -> Option<Guest> {
    println!("skipped: {test}: {reason}");
    None
}
