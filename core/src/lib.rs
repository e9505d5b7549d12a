//! The heart of truebound, free of clocks, sockets, threads and files.
#![forbid(unsafe_code)]

pub mod event;
pub mod io;
pub mod leap;
pub mod settings;
pub mod time;
pub mod units;
pub mod wire;
