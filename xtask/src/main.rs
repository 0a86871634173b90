//! Tasks of the workspace: what CI runs, what shows that the server keeps its promises, and what measures it.
//!
//! One module per command. Commands that need a server run the release build of `store-server` as a child
//! process with a config and a directory of its own, and talk to it over loopback like any client would.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "tables on standard output are what these commands are for")]

mod alone;
mod bench;
mod check;
mod crash;
mod demo;
mod kill;
mod query;
mod server;
mod table;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the metric store's workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What CI runs: format, tidy, clippy, tests, doctests, docs.
    Check(check::Arguments),
    /// Layer edges, file headers, named paths, long files, words that do not belong.
    Tidy,
    /// Builds and tests each library crate by itself, from its package.
    Alone(alone::Arguments),
    /// The long campaigns of crashes and restarts on a simulated disk.
    Crash(crash::Arguments),
    /// Replays recorded input against the real server, restarts and kills it, and compares every value.
    Demo(demo::Arguments),
    /// Kills the real server in full flight, again and again, and asks for every acknowledged sample.
    Kill(kill::Arguments),
    /// Measures the whole server, and others beside it on the same bytes.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Alone(arguments) => alone::run(&arguments),
        Command::Crash(arguments) => crash::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Kill(arguments) => kill::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
