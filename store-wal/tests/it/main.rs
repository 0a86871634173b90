//! What the log promises, one module per claim.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a failed one should end the test")]
#![expect(clippy::print_stdout, reason = "campaigns print what they counted")]

mod crash;
mod damage;
mod engine;
mod faults;
mod golden_v1;
mod group_commit;
mod positions;
mod reader;
mod real_disk;
mod retire;
mod room;
mod support;
mod switch;
