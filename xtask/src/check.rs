//! `check`: what CI runs, in the order in which mistakes are cheapest to find.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::table::Table;
use crate::{tidy, workspace};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leaves out what takes minutes: tests, docs and benches.
    #[arg(long)]
    quick: bool,
}

/// Runs every step; the first that fails ends it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut took = Vec::new();
    step(&mut took, "format", || workspace::run(workspace::cargo().args(["fmt", "--all", "--check"])))?;
    step(&mut took, "tidy", tidy::run)?;
    step(&mut took, "clippy", || cargo("clippy --workspace --all-targets --locked -- -D warnings"))?;
    if !arguments.quick {
        step(&mut took, "tests", || cargo("test --workspace --lib --bins --tests --locked"))?;
        step(&mut took, "doctests", || cargo("test --workspace --doc --locked"))?;
        step(&mut took, "docs", || {
            let mut command = workspace::cargo();
            command.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
            workspace::run(&mut command)
        })?;
        step(&mut took, "benches build", || cargo("bench --workspace --no-run --profile dev --locked"))?;
        if has_deny() {
            // The advisory database has to be fetched, so it is not part of what must pass anywhere.
            step(&mut took, "deny", || cargo("deny --offline check bans licenses sources"))?;
        } else {
            println!("deny: left out, cargo-deny is not installed or there is no deny.toml");
        }
    }
    let mut table = Table::new(&["step", "seconds"]);
    for (name, duration) in &took {
        table.row(vec![(*name).to_owned(), format!("{:.1}", duration.as_secs_f64())]);
    }
    println!("\n{}all steps passed", table.text());
    Ok(())
}

fn step(
    took: &mut Vec<(&'static str, Duration)>,
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    println!("== {name}");
    let begin = Instant::now();
    work()?;
    took.push((name, begin.elapsed()));
    Ok(())
}

fn cargo(arguments: &str) -> anyhow::Result<()> {
    workspace::run(workspace::cargo().args(arguments.split(' ')))
}

fn has_deny() -> bool {
    let installed =
        Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success());
    installed && workspace::root().join("deny.toml").exists()
}
