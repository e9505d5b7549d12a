//! At-most-once delivery without a handshake (Liskov, Shrira and Wroclawski, 1991): a receiver that survives a crash.
#![forbid(unsafe_code)]
