//! The simulated world: real agents with their own clocks, NICs and links, and a checker that knows the truth.

#![forbid(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "worlds are small: ns of some years, and probabilities"
)]

pub mod baseline;
pub mod checker;
pub mod html;
pub mod lease;
pub mod link;
pub mod matrix;
pub mod nic;
pub mod oscillator;
pub mod parallel;
pub mod plot;
pub mod progress;
pub mod random;
pub mod realtime;
pub mod rng;
pub mod scenario;
pub mod stats;
pub mod table;
pub mod world;
