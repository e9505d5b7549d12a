//! The heart of truebound, free of clocks, sockets, threads and files.
#![forbid(unsafe_code)]

pub(crate) mod correlation;
pub mod event;
pub mod io;
pub mod leap;
pub mod region;
pub mod settings;
pub mod time;
pub mod units;
pub mod wire;
