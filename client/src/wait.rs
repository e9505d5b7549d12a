//! Commit wait: returns once an instant has certainly passed (Corbett et al., Spanner, OSDI 2012, section 4.1.2).
#![forbid(unsafe_code)]
