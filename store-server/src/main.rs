//! The program: arguments, exit codes, and the allocator.
//!
//! | exit code | |
//! |---|---|
//! | 0 | stopped as asked, or nothing was left to do |
//! | 1 | did not start, or could not save everything; the reason is the last line on stderr |
//! | 2 | the arguments make no sense |
//! | 130 | ended at once by a second signal |

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use store_server::cli::{self, Args, Command, ConfigAction};
use store_server::config::{self, Config};
use store_server::{lifecycle, telemetry};

/// Gives memory back to the system after it was freed, which the allocator of glibc does not.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = match cli::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Nobody is left to tell if even this cannot be printed.
            drop(error.print());
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    if args.version {
        return say(&format!("store-server {}", env!("CARGO_PKG_VERSION")));
    }
    telemetry::init(args.loglevel.level, args.logdate);
    telemetry::log_panics();
    if let Some(warning) = &args.loglevel.warning {
        tracing::warn!("{warning}");
    }
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            telemetry::critical(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let auto_frequency_s = args.auto_frequency.unwrap_or(config::embedded::FREQUENCY_S);
    let config = config::find(args.config.as_deref(), auto_frequency_s);
    if let Some(Command::Config { action: ConfigAction::Check { as_original } }) = args.command {
        return Ok(check(&config?, as_original));
    }
    let config = config?;
    if args.auto_frequency.is_some() && config.auto_frequency_s.is_none() {
        tracing::warn!("-auto-frequency has no effect: there is a config file");
    }
    if args.gops {
        tracing::warn!("-gops has no effect: it is a debugger of Go programs");
    }
    if args.cleanup_checkpoints { lifecycle::cleanup(&config) } else { lifecycle::run(&config, args.dev) }
}

/// Says what a start would make of the config; 1 if the original is asked about and would refuse it.
fn check(config: &Config, as_original: bool) -> ExitCode {
    let mut text = format!("{}: ok, {} metrics", config.source, config.metrics.len());
    for warning in &config.warnings {
        text += &format!("\nwarning: {warning}");
    }
    let refused: &[&str] = if as_original { &config.new_keys } else { &[] };
    for key in refused {
        text += &format!("\nthe original does not know: {key}");
    }
    let printed = say(&text);
    if refused.is_empty() { printed } else { ExitCode::FAILURE }
}

fn say(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
