//! NTPv4.
