//! Packets: bytes checked first, meaning second.

pub mod ntp;
