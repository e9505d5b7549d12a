//! A timestamp oracle whose failover is fenced by the bound.
#![forbid(unsafe_code)]
