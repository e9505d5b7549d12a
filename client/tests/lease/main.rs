//! Leases in worlds in which truth is known.
#![cfg(not(loom))]
#![expect(unreachable_pub, reason = "one test program: its modules share a world")]

mod cache;
mod edges;
mod pair;
mod primary;
mod races;
mod world;
