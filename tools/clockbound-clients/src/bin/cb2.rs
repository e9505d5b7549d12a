//! The Rust client 2.x, judged.

use clock_bound_client::{ClockBoundClient, ClockStatus};

clockbound_clients::judge!(ClockBoundClient, ClockStatus);
