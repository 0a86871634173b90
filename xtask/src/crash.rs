//! `crash`: the long campaigns of the simulated disk, and of the property tests that restart.
//!
//! The harnesses are tests of the crates; CI runs them with a short budget. Here they run in a release build with a
//! budget of choice, one crate after the other.

use std::time::Instant;

use anyhow::Context as _;

use crate::table::Table;
use crate::workspace;

/// Arguments of `crash`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Histories of each mode, each crashed at every call.
    #[arg(long, default_value_t = 100)]
    histories: u32,
    /// The seed of the first history; each further one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Sequences per property and file format that must give the same answers with and without restarts.
    #[arg(long, default_value_t = 1000)]
    restarts: u32,
}

/// Runs each campaign; the first that finds something ends it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut table = Table::new(&["campaign", "seconds"]);
    for (title, package, filter) in [
        ("the log alone", "store-wal", "crash::"),
        ("the engine", "store-server", "crash::"),
        ("restarts", "store-server", "restart::"),
    ] {
        println!("== {title}: {package}, {filter}");
        let begin = Instant::now();
        let mut command = workspace::cargo();
        command.args(["test", "--release", "--quiet", "--package", package, "--test", "it", filter]);
        command.args(["--", "--nocapture"]);
        command.env("CRASH_HISTORIES", arguments.histories.to_string());
        command.env("CRASH_SEED", arguments.seed.to_string());
        command.env("PROPTEST_CASES", arguments.restarts.to_string());
        workspace::run(&mut command).with_context(|| format!("campaign over {title} found something"))?;
        table.row(vec![title.to_owned(), format!("{:.1}", begin.elapsed().as_secs_f64())]);
    }
    println!("\n{}nothing found", table.text());
    Ok(())
}
