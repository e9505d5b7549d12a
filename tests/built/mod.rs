//! What cargo builds besides this package: libraries and examples, where it says that it put them.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The files of `cargo build ARGUMENTS`, with the tests' own profile.
pub(crate) fn by_cargo(arguments: &[&str]) -> Vec<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--message-format=json"]).args(arguments);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().flat_map(files).collect()
}

/// What one message names of this workspace: a program, or else all its files.
fn files(message: &str) -> Vec<PathBuf> {
    let message: Value = serde_json::from_str(message).expect("a message of cargo's");
    let is_ours = message["manifest_path"].as_str().is_some_and(|path| path.starts_with(env!("CARGO_MANIFEST_DIR")));
    if message["reason"] != "compiler-artifact" || !is_ours {
        return Vec::new();
    }
    let names = message["filenames"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(PathBuf::from)).collect()
}
