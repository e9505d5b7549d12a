//! Leases: who may act until when, proved on both sides (Gray and Cheriton, 1989; BOUND section 6).
#![forbid(unsafe_code)]
