//! Linux under truebound: reading the clocks against each other, and sockets whose packets the kernel stamps.
//!
//! The core never touches the system; the shell feeds it. This crate is what the shell holds in its hands:
//!
//! * [`clock::HostClock`] reads raw time, CLOCK_REALTIME against raw time, and what the host is;
//! * [`discipline::SystemClock`] steers CLOCK_REALTIME;
//! * [`socket::StampSocket`] sends and receives UDP datagrams and returns the kernel's stamps of both, and the NIC's;
//! * [`ptp_socket::PtpSocket`] does the same for PTP messages, over UDP or Ethernet;
//! * [`nic::Interface`] tells what an interface is and can do, [`hwtstamp::HardwareStamps`] makes its NIC stamp packets;
//! * [`phc::Phc`] reads and steers a PTP hardware clock; [`vmclock`] reads what a hypervisor states of its own;
//! * [`reference`] looks at reference clocks that other programs read, and feeds such programs in the same ways;
//! * [`clockbound`] writes the segments that ClockBound's clients read, one of them by the CPU's [`counter`].
//!
//! Nothing here is mandatory for the kernel to offer. What it lacks (stamps, a watch for clock steps, CLOCK_BOOTTIME)
//! is absent from the results, not an error: the core copes with that by a wider bound, and a simulated kernel may lack
//! a lot. For the same reason every clock is read through libc, never by rdtsc, but for clients who do so themselves.
//!
//! The layouts read here are those of 64-bit Linux. Unsafe code lives in `sys` only.
#![deny(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("truebound-hw knows the kernel's layouts on 64-bit Linux only");

pub mod clock;
pub mod clockbound;
mod control;
pub mod counter;
pub mod discipline;
pub mod hwtstamp;
mod inbox;
pub mod nic;
pub mod phc;
pub mod ptp_socket;
pub mod reference;
pub mod socket;
mod sys;
pub mod vmclock;
