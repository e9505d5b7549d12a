//! Where the tree is, and the agent's program: as tests see them. tools/bench/peers has a place of its own.

/// The tree.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The agent under test.
pub(crate) fn truebound() -> &'static str {
    env!("CARGO_BIN_EXE_truebound")
}
