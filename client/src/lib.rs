//! Reads the interval that a `truebound` agent publishes: while the agent's stated assumptions hold, true time
//! lies in `[earliest, latest]` at the instant of the read.
//!
//! ```no_run
//! let reader = truebound_client::Reader::open("/run/truebound/bound")?;
//! let now = reader.now()?;
//! // Certain order of two readings, on this host or on two: compare ends, never midpoints.
//! # let earlier = now;
//! if earlier.latest_ns < now.earliest_ns { /* `earlier` happened before `now` */ }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! How it holds together: the agent writes a [`Bound`] (two edges of *true time − raw time*, and how fast they may
//! move apart) into a page in shared memory ([`page`]); a reader reads this host's CLOCK_MONOTONIC_RAW and the page,
//! checks that nothing newer was published *meanwhile*, and ages the edges by integer arithmetic that only ever rounds
//! outward ([`bound`]). No system call, no allocation, no lock, no panic. Steps and slews of
//! CLOCK_REALTIME cannot touch it.
//!
//! The byte layout is documented in `client/PAGE.md`.

#![deny(unsafe_code)]
// loom's atomics are no memory of another process: under loom only the latch is there, and its helpers lie idle.
#![cfg_attr(loom, allow(dead_code))]

pub mod bound;
pub mod clock;
mod high_water;
pub mod host;
pub mod interval;
pub mod lease;
pub mod once;
pub mod oracle;
pub mod order;
pub mod page;
#[cfg(all(feature = "publish", not(loom)))]
mod publish;
#[cfg(not(loom))]
pub mod reader;
pub mod source;
pub mod status;
mod sys;
pub mod tick;
pub mod token;
pub mod wait;

pub use bound::{Bound, Edges};
pub use clock::{MonotonicRaw, RawClock, VirtualClock};
pub use interval::{Interval, Order, Span, Unavailable};
#[cfg(not(loom))]
pub use reader::{OpenError, Reader};
pub use source::TimeSource;
pub use status::{Reason, Status};
pub use tick::{Elapsed, Tick};

#[cfg(all(feature = "publish", not(loom)))]
pub use publish::{PublishError, Publisher};

/// Where the agent publishes unless it is told otherwise.
pub const DEFAULT_PAGE: &str = "/run/truebound/bound";
