//! Orders of events: logical, hybrid, and what a log of intervals proves.
//!
//! | what | costs | tells |
//! | --- | --- | --- |
//! | [`lamport`] | 16 bytes | e → f implies L(e) < L(f); nothing the other way |
//! | [`vector`] | 16 bytes for each member | e → f exactly when V(e) < V(f) |
//! | [`hlc`] | 8 bytes | as Lamport's, and the stamp is the time, within the interval |
//! | [`log`] | a span for each event | what must have come first, without any message between |
//!
//! e → f: e happened before f, in one process or by way of messages (Lamport 1978).
#![forbid(unsafe_code)]

pub mod hlc;
pub mod lamport;
pub mod log;
pub mod vector;

use std::fmt;

/// Why bytes are not a stamp of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// So many bytes came, so many belong there.
    Length {
        /// Bytes that came.
        found: usize,
        /// Bytes that belong there.
        expected: usize,
    },
    /// More members than this reader allows.
    TooManyMembers {
        /// Members that came.
        found: usize,
        /// Members that this reader allows.
        limit: usize,
    },
    /// Members are not in strictly ascending order, or one has counted nothing: no writer of this crate does that.
    NotCanonical,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Length { found, expected } => write!(f, "{found} bytes where {expected} belong"),
            ParseError::TooManyMembers { found, limit } => write!(f, "{found} members, at most {limit} are read here"),
            ParseError::NotCanonical => f.write_str("members are not in ascending order, or one has counted nothing"),
        }
    }
}

impl std::error::Error for ParseError {}
