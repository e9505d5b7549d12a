//! Packets: bytes checked first, meaning second.

pub mod claim;
pub mod ntp;
pub(crate) mod ptp;
pub mod reference;
