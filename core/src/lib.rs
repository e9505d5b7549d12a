//! The heart of truebound, free of clocks, sockets, threads and files: how stamped packets become an interval that
//! contains true time.
//!
//! Let T be this host's raw time (CLOCK_MONOTONIC_RAW: nobody slews or steps it) and θ(T) = true time − T. A request
//! that left at T1, was received by a truthful server at its t2, answered at t3 and received by us at T4 proves
//!
//! ```text
//! θ(T1) ≤ t2 − T1 + E        the packet cannot arrive before it left
//! θ(T4) ≥ t3 − T4 − E        nor can the answer
//! ```
//! where E is how wrong the server says it may be. θ moves only as fast as the oscillator under raw time can make it, so
//! old constraints count too, a little looser: [`region`] keeps the few that matter and finds the extreme θ and rate
//! that satisfy all of them. Several sources vote, so that a minority of liars moves nothing. The result, rounded
//! outward and never outside what was published before, goes to the page that applications read.
//!
//! Everything flows one way: [`io::Input`] → association → region → vote → bound → [`io::Output::Publish`]. The point
//! estimate ([`estimate`]) runs beside it, steers, and never touches an edge.

#![forbid(unsafe_code)]

pub mod agent;
pub mod association;
pub mod bound;
pub mod clockbound;
pub(crate) mod clocks;
pub(crate) mod correlation;
pub mod estimate;
pub mod event;
pub mod foreign;
pub mod io;
pub mod journal;
pub mod leap;
pub mod phc;
pub(crate) mod phc_servo;
pub mod ptp;
pub mod region;
pub mod report;
pub mod responder;
pub(crate) mod servo;
pub mod settings;
pub mod smear;
pub(crate) mod stamps;
pub(crate) mod status;
pub(crate) mod synthesis;
pub mod system_clock;
pub mod time;
pub mod units;
pub mod wire;

pub use agent::Agent;
