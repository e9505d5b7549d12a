//! Reference clocks that other programs of this host read, or the kernel: looked at, never waited for; and the same two
//! doors in the other direction, through which another daemon is told our estimate.
//!
//! * [`shm`]: the shared memory of ntpd's driver 28, which gpsd and many others write;
//! * [`sock`]: the datagrams of chrony's SOCK;
//! * [`pps`]: pulses that the kernel stamps (RFC 2783).
//!
//! Nothing of what they hold is believed here. It goes to the core as it is.

pub mod pps;
pub mod shm;
pub mod sock;
