//! Where the tree is, and the agent's program, which cargo builds beside this one.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The tree.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

/// The agent under test.
pub(crate) fn truebound() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let this = std::env::current_exe().expect("a running program has a path");
        this.with_file_name("truebound").display().to_string()
    })
}

/// Builds the agent as this program was built.
pub(crate) fn build() -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(ROOT).args(["build", "--quiet", "--package", "truebound", "--bin", "truebound"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.status().is_ok_and(|status| status.success()) && Path::new(truebound()).exists();
    built.then_some(()).ok_or_else(|| format!("{} cannot be built", truebound()))
}
