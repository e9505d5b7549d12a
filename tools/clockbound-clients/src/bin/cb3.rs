//! The client 3.x, judged.

use clock_bound::{Client, ClockStatus};

clockbound_clients::judge!(Client, ClockStatus);
