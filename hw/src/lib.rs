//! Linux under truebound: reading the clocks against each other, and sockets whose packets the kernel stamps.
//!
//! The core never touches the system; the shell feeds it. This crate is what the shell holds in its hands:
//!
//! * [`clock::HostClock`] reads raw time, CLOCK_REALTIME against raw time, and what the host is;
//! * [`socket::StampSocket`] sends and receives UDP datagrams and returns the kernel's stamps of both.
//!
//! Nothing here is mandatory for the kernel to offer. What it lacks (stamps, a watch for clock steps, CLOCK_BOOTTIME)
//! is absent from the results, not an error: the core copes with that by a wider bound, and a simulated kernel may lack
//! a lot. For the same reason every clock is read through libc, never by rdtsc.
//!
//! The layouts read here are those of 64-bit Linux. Unsafe code lives in `sys.rs` only.
#![deny(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("truebound-hw knows the kernel's layouts on 64-bit Linux only");

pub mod clock;
mod control;
pub mod socket;
mod sys;
