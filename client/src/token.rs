//! Validity of tokens and authenticators under uncertainty.
#![forbid(unsafe_code)]
