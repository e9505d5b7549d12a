//! Packets: bytes checked first, meaning second.

pub mod ntp;
pub(crate) mod ptp;
pub mod reference;
