//! What store-core promises, claim by claim.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not covered by allow-unwrap-in-tests")]

mod aggregate;
mod frequency;
mod golden;
mod hostile;
mod import;
mod ingest;
mod lines;
mod model;
mod pieces;
mod relog;
mod support;
