//! Integration tests of store-disk: one module for each claim.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its disk fails")]

mod images;
mod random;
mod same;
