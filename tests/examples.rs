//! Every example of the client runs against a live agent, succeeds, and is short enough to be read at once.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use truebound_client::Reader;

mod built;
mod scratch;

use scratch::Scratch;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/client/examples");
const LONGEST: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent whose only source is this host's own clock, with a bound; it ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    fn start(scratch: &Scratch, dir: &Path) -> Self {
        let config = scratch.write("agent.toml", "[[source]]\nlocal = true\nerror = \"1us\"\n");
        let mut command = Command::new(env!("CARGO_BIN_EXE_truebound"));
        command.arg("run").arg("--config").arg(config).arg("--runtime-dir").arg(dir);
        let agent = Agent(command.stderr(Stdio::null()).spawn().expect("the agent starts"));
        let deadline = Instant::now() + PATIENCE;
        while !Reader::open(dir.join("bound")).is_ok_and(|reader| reader.now_strict().is_ok()) {
            assert!(Instant::now() < deadline, "the agent publishes no bound");
            std::thread::yield_now();
        }
        agent
    }
}

/// The examples' sources, by name.
fn sources() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(EXAMPLES).expect("client/examples is there");
    let mut sources: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    sources.sort();
    assert!(!sources.is_empty(), "no example in {EXAMPLES}");
    sources
}

/// What it printed; panics unless it succeeds in time.
fn output_of(example: &Path, page: &Path, scratch: &Scratch) -> String {
    let printed = scratch.0.join("printed");
    let to = std::fs::File::create(&printed).expect("writable");
    let also = to.try_clone().expect("a descriptor");
    let mut child = Command::new(example).arg(page).stdout(to).stderr(also).spawn().expect("just built");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            break None;
        }
        std::thread::yield_now();
    };
    let text = std::fs::read_to_string(&printed).expect("just written");
    assert!(status.is_some_and(|status| status.success()), "{}: {status:?}: {text}", example.display());
    text
}

#[test]
fn every_example_runs_against_a_live_agent() {
    let scratch = Scratch::new("examples");
    let dir = scratch.0.join("run");
    let _agent = Agent::start(&scratch, &dir);
    let built = built::by_cargo(&["--package", "truebound-client", "--examples"]);
    for source in sources() {
        let name = source.file_stem().expect("a name");
        let example = built.iter().find(|file| file.file_name() == Some(name));
        let example = example.unwrap_or_else(|| panic!("cargo built no {}: {built:?}", name.display()));
        let text = output_of(example, &dir.join("bound"), &scratch);
        assert!(!text.is_empty(), "{} says nothing", name.display());
    }
}

#[test]
fn every_example_fits_forty_lines() {
    for source in sources() {
        let lines = std::fs::read_to_string(&source).expect("readable").lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", source.display());
    }
}
