//! What store-core promises, claim by claim.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not covered by allow-unwrap-in-tests")]

mod frequency;
mod ingest;
mod lines;
#[allow(dead_code, reason = "shared by claims that are being added one by one")]
mod support;
