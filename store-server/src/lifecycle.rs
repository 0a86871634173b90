//! Start, serve, stop.
//!
//! A start takes the port, then the directory, and serves at once; what lies on disk is loaded behind. A refusal is one
//! line and comes within a second. A stop (SIGINT, SIGTERM) gives requests under way 5 s, then has the engine save
//! everything; a second signal ends the process where it stands, which costs nothing that was acknowledged.

use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use store_disk::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::auth::Auth;
use crate::config::{Config, Source};
use crate::engine::{Engine, EngineOptions, Watch};
use crate::http::serve::serve;
use crate::http::{self, App, Store, Timeouts};
use crate::listen::listen;

/// Threads that may be inside the engine at once: writes that wait for the log, queries, and a reserve.
const BLOCKING_THREADS_MAX: usize = 512;
/// Descriptors that are for neither connections nor block files that stay open: the log, files that are read, standard
/// streams. Half of all, within these bounds.
const DESCRIPTORS_RESERVED: RangeInclusive<u64> = 24..=512;
/// What a process has where nobody says how many descriptors it may have.
const DESCRIPTORS_USUAL: u64 = 1024;
/// Connections that are served however few descriptors there are, and however many.
const CONNECTIONS: RangeInclusive<u64> = 3..=32_768;
/// Least and most block files that are kept open.
const FILES: RangeInclusive<u64> = 1..=65_536;
/// How often systemd may be told how the store does.
const CONDITION_EVERY: Duration = Duration::from_secs(5);
/// Exit code after a second signal: as a shell gives it for a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Serves until a signal says to stop; the exit code of the process.
///
/// # Errors
/// The server does not start: the port or the directory cannot be had.
pub fn run(config: &Config, dev: bool) -> anyhow::Result<ExitCode> {
    let shares = Shares::of(raise_descriptor_limit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // One may be held up by a disk, while it writes the log.
        .worker_threads(std::thread::available_parallelism().map_or(1, NonZero::get).max(2))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("store-http")
        .build()
        .context("cannot start threads")?;
    let code = runtime.block_on(async {
        let (stop, end) = watch_signals().context("cannot catch signals")?;
        let _file_size = outlive_file_size_limit().context("cannot catch signals")?;
        tokio::select! {
            code = serve_and_save(config, dev, shares, stop) => code,
            Ok(name) = end => {
                tracing::warn!("{name} again: ending at once; what was acknowledged is in the log");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    });
    // Threads that still block are not waited for: the engine has stopped, or a second signal said not to.
    runtime.shutdown_background();
    code
}

/// Removes files older than the retention, once.
///
/// # Errors
/// The directory cannot be used, or a running server has it.
pub fn cleanup(config: &Config) -> anyhow::Result<ExitCode> {
    announce(config);
    let report = Engine::cleanup_once(config.engine_options())?;
    tracing::info!("{} files removed", report.files);
    Ok(ExitCode::SUCCESS)
}

async fn serve_and_save(
    config: &Config,
    dev: bool,
    shares: Shares,
    stop: oneshot::Receiver<&'static str>,
) -> anyhow::Result<ExitCode> {
    announce(config);
    let listener = listen(&config.main.addr).await?;
    let address = listener.local_addr().context("cannot tell the address")?;
    let options = EngineOptions { open_files_max: shares.files, ..config.engine_options() };
    let engine =
        tokio::task::spawn_blocking(move || Engine::open(options)).await.context("the start failed")?;
    let engine = Arc::new(engine?);
    engine.run_background();

    let auth = Auth::new(config.main.jwt_public_key, config.main.require_roles);
    let store: Arc<dyn Store> = Arc::<Engine>::clone(&engine);
    let app = App::new(store, auth, config.limits, Timeouts::default(), Arc::new(SystemClock));
    let app = Arc::new(app);
    let router = http::router(Arc::clone(&app), dev);
    tracing::info!(
        "listening on http://{address}{}",
        if dev { "; the API is described at /docs" } else { "" }
    );
    notify(NotifyState::Ready);
    let watchdog = tokio::spawn(feed_watchdog(Arc::clone(&engine)));
    let status = tokio::spawn(tell_condition(Arc::clone(&engine)));
    let served = serve(listener, router, app, shares.connections, async {
        // The sender is gone only when the runtime ends.
        let name = stop.await.unwrap_or("end of the runtime");
        tracing::info!("{name}: stopping");
        notify(NotifyState::Stopping);
    })
    .await;
    if served.cut > 0 {
        tracing::warn!("{} connections did not end in time and were cut", served.cut);
    }
    let report = tokio::task::spawn_blocking(move || engine.stop())
        .await
        .map_err(|_| anyhow!("the stop failed; what was acknowledged is in the log"))?;
    watchdog.abort();
    status.abort();
    let Some((last, others)) = report.problems.split_last() else {
        tracing::info!("stopped");
        return Ok(ExitCode::SUCCESS);
    };
    for problem in others {
        tracing::error!("{problem}");
    }
    notify(NotifyState::Status(last));
    // The last line says why it was no clean stop.
    crate::telemetry::critical(&format!("stopped: {last}"));
    Ok(ExitCode::FAILURE)
}

/// Says what the server is about to do, and what in the config has no effect.
fn announce(config: &Config) {
    tracing::info!("store-server {}, config: {}", env!("CARGO_PKG_VERSION"), config.source);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if config.source == Source::Embedded {
        tracing::warn!("no config file: using the embedded default, good for trying things out");
    }
    if let Some(frequency_s) = config.auto_frequency_s {
        let most = config.limits.metrics;
        tracing::info!(
            "unknown metrics are registered when they are sent: avg, every {frequency_s} s, {most} at most"
        );
    }
    if config.main.jwt_public_key.is_none() {
        tracing::warn!("no main.jwt-public-key: everybody who reaches the port may write and read");
    }
}

/// The first SIGINT or SIGTERM, and the second one.
fn watch_signals() -> io::Result<(oneshot::Receiver<&'static str>, oneshot::Receiver<&'static str>)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stop_told) = oneshot::channel();
    let (end, end_told) = oneshot::channel();
    tokio::spawn(async move {
        for told in [stop, end] {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            // Nobody listens only if the process is about to end.
            told.send(name).ok();
        }
    });
    Ok((stop_told, end_told))
}

/// Makes a write beyond the limit on the size of files an error of that write (`EFBIG`), from which the log heals.
/// Unless somebody listens to it, the signal that the system sends with it ends the process.
fn outlive_file_size_limit() -> io::Result<Signal> {
    signal(SignalKind::from_raw(nix::libc::SIGXFSZ))
}

/// Tells systemd, if it is there.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Tells systemd that we live, twice as often as it asks for: while every job is idle, has moved since the last look, or
/// waits for the disk, which is said. A job that is stuck otherwise ends the process that way, and a new one begins.
async fn feed_watchdog(engine: Arc<Engine>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(limit / 2);
    let mut watch = Watch::default();
    let mut was_waiting = false;
    loop {
        ticks.tick().await;
        match watch.look(&engine.jobs()) {
            Ok(waiting) => {
                if !waiting.is_empty() {
                    notify(NotifyState::Status(&format!("waiting for the disk: {}", waiting.join(", "))));
                } else if was_waiting {
                    let asked = Arc::clone(&engine);
                    let Ok(now) = tokio::task::spawn_blocking(move || asked.condition()).await else {
                        return;
                    };
                    notify(NotifyState::Status(&now));
                }
                was_waiting = !waiting.is_empty();
                notify(NotifyState::Watchdog);
            }
            Err(job) => {
                tracing::error!(job, "a job behind the requests does not move: the watchdog is not fed")
            }
        }
    }
}

/// Tells systemd how the store does, whenever that changes.
async fn tell_condition(engine: Arc<Engine>) {
    let mut told = String::new();
    let mut ticks = tokio::time::interval(CONDITION_EVERY);
    loop {
        ticks.tick().await;
        let asked = Arc::clone(&engine);
        // It may ask the disk.
        let Ok(now) = tokio::task::spawn_blocking(move || asked.condition()).await else { return };
        if now != told {
            notify(NotifyState::Status(&now));
            told = now;
        }
    }
}

/// As many descriptors as the machine allows, as the original's runtime does too; the number there are now.
fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        },
        Ok((soft, _)) => soft,
        Err(_) => DESCRIPTORS_USUAL,
    }
}

/// Who may have how many descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    connections: usize,
    /// Files that are appended to.
    files: usize,
}

impl Shares {
    /// Half each of what is not reserved.
    fn of(descriptors: u64) -> Self {
        let reserved = (descriptors / 2).clamp(*DESCRIPTORS_RESERVED.start(), *DESCRIPTORS_RESERVED.end());
        // One connection more is open while it waits for its turn.
        let half = descriptors.saturating_sub(reserved + 1) / 2;
        let within = |range: RangeInclusive<u64>| {
            usize::try_from(half.clamp(*range.start(), *range.end())).unwrap_or(usize::MAX)
        };
        Self { connections: within(CONNECTIONS), files: within(FILES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_files() {
        assert_eq!(Shares::of(32), Shares { connections: 3, files: 3 });
        assert_eq!(Shares::of(256), Shares { connections: 63, files: 63 });
        assert_eq!(Shares::of(1024), Shares { connections: 255, files: 255 });
        assert_eq!(Shares::of(1 << 20), Shares { connections: 32_768, files: 65_536 });
    }
}
