//! Orders of events: logical, hybrid, and what a log of intervals proves.
#![forbid(unsafe_code)]
