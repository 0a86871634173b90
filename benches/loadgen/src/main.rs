//! Command line of the load generator: sends a fleet to a running store, prints what it took.

#![expect(clippy::print_stdout, reason = "the figures on standard output are what this program is for")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use store_loadgen::config::{ConfigOptions, catalog, config_text};
use store_loadgen::{Fleet, FleetOptions, RunOptions, process, run};

/// Loads a metric store with a fleet of simulated compute nodes.
///
/// 100 hosts are 54,000 series; 1852 hosts are 1,000,080.
#[derive(Debug, Parser)]
#[command(name = "store-loadgen", version)]
struct Arguments {
    /// Where the store listens.
    #[arg(long, default_value = "127.0.0.1:8082")]
    addr: SocketAddr,
    /// Path and query of the POSTs.
    #[arg(long, default_value = "/api/write")]
    path: String,
    /// Hosts of the fleet.
    #[arg(long, default_value_t = 100)]
    hosts: u32,
    /// Hardware threads of a host: 8 series each.
    #[arg(long, default_value_t = 64)]
    hwthreads: u32,
    /// Accelerators of a host: 4 series each.
    #[arg(long, default_value_t = 4)]
    accelerators: u32,
    /// Steps to send.
    #[arg(long, default_value_t = 600)]
    steps: u32,
    /// The first step to send, to go on where another run ended.
    #[arg(long, default_value_t = 0)]
    first_step: u32,
    /// Time of step 0 in seconds since the epoch; by default the last step is now.
    #[arg(long, allow_hyphen_values = true)]
    start: Option<i64>,
    /// Seconds between two steps.
    #[arg(long, default_value_t = 10)]
    frequency: u32,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Sends the lines of each POST in a random order.
    #[arg(long)]
    shuffled: bool,
    /// Sends a fleet without jobs.
    #[arg(long)]
    idle: bool,
    /// The seed of all values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server's process: its CPU time and memory are reported.
    #[arg(long)]
    pid: Option<u32>,
    /// Prints the config of a store with the fleet's metrics, which keeps its data in this directory, and ends.
    #[arg(long, value_name = "DIRECTORY")]
    print_config: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.frequency == 0 || arguments.accelerators > 64 {
        bail!("--frequency is at least one second, --accelerators at most 64");
    }
    let end = arguments.first_step.saturating_add(arguments.steps);
    let fleet = Fleet::new(FleetOptions {
        seed: arguments.seed,
        hosts: arguments.hosts,
        hwthreads: arguments.hwthreads,
        accelerators: arguments.accelerators,
        start_s: match arguments.start {
            Some(start) => start,
            None => now_s()? - i64::from(end) * i64::from(arguments.frequency),
        },
        frequency_s: arguments.frequency,
        idle: arguments.idle,
        ..FleetOptions::default()
    });
    if let Some(directory) = &arguments.print_config {
        let options = ConfigOptions {
            addr: arguments.addr,
            directory,
            retention: "48h",
            checkpoint_interval: "12h",
            wal_sync: None,
        };
        print!("{}", config_text(&catalog(&fleet), &options));
        return Ok(());
    }

    println!(
        "{} hosts x {} series x {} steps from {}; lossless floor {:.2} B/sample",
        arguments.hosts,
        fleet.series_per_host(),
        arguments.steps,
        fleet.time_s(arguments.first_step),
        fleet.floor_bytes_per_sample(),
    );
    let cpu_before = arguments.pid.map(process::cpu_time).transpose().context("cannot watch the server")?;
    let own_before = process::cpu_time(std::process::id())?;
    let report = run(
        &fleet,
        &RunOptions {
            addr: arguments.addr,
            path: arguments.path,
            connections: arguments.connections,
            steps: arguments.first_step..end,
            shuffle: arguments.shuffled.then_some(arguments.seed),
            timeout: Duration::from_secs(60),
        },
    )
    .with_context(|| format!("cannot load the store at {}", arguments.addr))?;
    let own = process::cpu_time(std::process::id())?.saturating_sub(own_before);

    println!(
        "{} samples in {:.2} s: {:.0} samples/s, {:.1} MB/s; POST p50 {:?} p99 {:?} max {:?}; generator {:.2} CPU s",
        report.lines,
        report.wall.as_secs_f64(),
        report.lines_per_second(),
        report.bytes as f64 / 1e6 / report.wall.as_secs_f64(),
        report.latency(0.5),
        report.latency(0.99),
        report.latency(1.0),
        own.as_secs_f64(),
    );
    if let (Some(pid), Some(before)) = (arguments.pid, cpu_before) {
        let cpu = process::cpu_time(pid)?.saturating_sub(before);
        let memory = process::memory(pid)?;
        println!(
            "server: {:.2} CPU s, {:.0} samples per CPU s; RSS {:.1} MB, anonymous {:.1} MB, peak {:.1} MB",
            cpu.as_secs_f64(),
            report.lines as f64 / cpu.as_secs_f64().max(0.01),
            memory.rss_bytes as f64 / 1e6,
            memory.anonymous_bytes as f64 / 1e6,
            memory.peak_rss_bytes as f64 / 1e6,
        );
    }
    if report.posts_failed + report.lines_bad + report.lines_refused + report.memory_only > 0 {
        bail!(
            "{} POSTs failed (first status {:?}), {} lines bad, {} refused, {} answers only from memory",
            report.posts_failed,
            report.first_failure,
            report.lines_bad,
            report.lines_refused,
            report.memory_only,
        );
    }
    Ok(())
}

fn now_s() -> anyhow::Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_secs())?)
}
