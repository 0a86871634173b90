//! Tests of the crate from outside, one module per claim.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "tests print their counts")]

use std::path::{Path, PathBuf};

use store_checkpoint::{Dump, Run};

mod block_file;
mod blocks;
mod cleanup;
mod damage;
mod directory;
mod dump;
mod golden;
mod layout;
mod load;
mod roll;
mod roll_crash;
mod round_trip;
mod save;
mod supersede;

/// A file below `tests/golden`.
fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden(name: &str) -> Vec<u8> {
    let path = golden_path(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn run(path: &[&str], metric: &str, base: i64, frequency_s: u32, values: &[f32]) -> Run {
    let path = path.iter().map(|&name| name.into()).collect();
    Run { path, metric: metric.into(), base, frequency_s, values: values.to_vec() }
}

/// A small dump with everything in it that the formats have.
fn sample() -> Dump {
    Dump {
        from: 1000,
        to: 1100,
        runs: vec![
            run(&[], "cpu_load", 1000, 10, &[1.5, f32::NAN, -0.0]),
            run(&[], "flops", 1005, 30, &[3.4e38]),
            run(&["socket0"], "mem_bw", 1000, 20, &[1.0e-40, 0.1]),
            run(&["socket0", "core1"], "ipc", 1010, 60, &[f32::NAN, 2.0]),
            run(&["socket1"], "mem_bw", 1000, 20, &[f32::NAN]),
        ],
    }
}
