//! The config file: what it may say, what it means, and what is wrong with it.
//!
//! Keys and layouts are those of the original, so that its files work unchanged, plus a few keys of our own (listed
//! in [`Config::new_keys`]), in any case. A key that nobody knows is refused by its path: a misspelt retention is not
//! silently the default. A section that nobody knows is passed over with a warning, as long as all that are needed are
//! there. All that is wrong is reported at once, in one line.

mod check;
pub mod embedded;
mod raw;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::check::Check;
pub use crate::engine::{Aggregation, Cleanup, FileFormat, WalSync};
use crate::engine::{
    EngineLimits, EngineOptions, LOG_BUFFER_BYTES, LOG_SEGMENT_BYTES, MetricOption, OPEN_FILES,
};

/// The file that is read if none is named and it exists.
pub const DEFAULT_PATH: &str = "./config.json";
/// Where the embedded default listens: nobody asked for more than this machine.
const EMBEDDED_ADDR: &str = "127.0.0.1:8082";
const DEFAULT_DIRECTORY: &str = "./var/checkpoints";
const DEFAULT_CHECKPOINT_INTERVAL_S: i64 = 12 * 3600;
const EMBEDDED_RETENTION_S: i64 = 48 * 3600;

/// Where the config came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This file.
    File(PathBuf),
    /// No file: the embedded default.
    Embedded,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Embedded => f.write_str("embedded default"),
        }
    }
}

/// One metric of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Name as on the wire.
    pub name: String,
    /// Seconds per step, > 0.
    pub frequency_s: u32,
    /// How levels below are combined.
    pub aggregation: Aggregation,
}

/// Section `main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Main {
    /// `host:port` to listen on; an empty host is every address of the machine.
    pub addr: String,
    /// The key that tokens are signed with; without it no token is needed.
    pub jwt_public_key: Option<[u8; 32]>,
    /// Whether `free` and `debug` ask for a role.
    pub require_roles: bool,
}

/// Section `metric-store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// How long samples are kept, seconds, > 0.
    pub retention_s: i64,
    /// Memory above which data is freed early, bytes; 0 = none.
    pub memory_cap_bytes: u64,
    /// Threads for loading and saving, > 0.
    pub num_workers: usize,
    /// Longest time a row stays unsaved, seconds; 0 = no checkpoints.
    pub checkpoint_interval_s: i64,
    /// What checkpoints are written as.
    pub file_format: FileFormat,
    /// Whether binary checkpoints are written so that the original reads them.
    pub portable: bool,
    /// Directory of the checkpoints and of the log.
    pub directory: PathBuf,
    /// Free bytes of the file system below which the log counts as full; `None`: 64 MiB, or a twentieth of a smaller
    /// file system.
    pub min_free_bytes: Option<u64>,
    /// Log bytes per host that trigger saving; 0 = none.
    pub max_wal_bytes: u64,
    /// What becomes of old files.
    pub cleanup: Cleanup,
    /// When a write is answered.
    pub wal_sync: WalSync,
    /// Time between two syncs of the log in mode `interval`.
    pub wal_sync_interval: Duration,
    /// How far ahead of the clock a sample may be, seconds.
    pub max_future_s: i64,
}

/// `metric-store.limits`: what a request or a name is refused beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest body as it comes over the wire, bytes.
    pub body_bytes: usize,
    /// Longest body after decompression, bytes.
    pub decoded_bytes: usize,
    /// Most points in the answer to one request.
    pub points: usize,
    /// Longest name, bytes.
    pub name_bytes: usize,
    /// Most hosts.
    pub hosts: usize,
    /// Most series.
    pub series: usize,
    /// Most metrics, configured and registered ones together.
    pub metrics: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            decoded_bytes: 256 << 20,
            points: 10_000_000,
            name_bytes: 255,
            hosts: 100_000,
            series: 20_000_000,
            metrics: 4_096,
        }
    }
}

/// A config that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it came from.
    pub source: Source,
    /// Section `main`.
    pub main: Main,
    /// Section `metrics`, sorted by name.
    pub metrics: Vec<Metric>,
    /// Section `metric-store`.
    pub store: Store,
    /// Its limits.
    pub limits: Limits,
    /// Frequency, in seconds, at which unknown metrics are registered; `None`: they are dropped.
    pub auto_frequency_s: Option<u32>,
    /// What was accepted and has no effect, one sentence each.
    pub warnings: Vec<String>,
    /// Paths of the keys in use that the original refuses.
    pub new_keys: Vec<&'static str>,
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no JSON, or a key is unknown or of another type.
    #[error("{path}{}", at(key))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Path of the key, empty for the whole file.
        key: String,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// Values make no sense.
    #[error("{path}: {}", join(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that was found, at least one.
        problems: Vec<Problem>,
    },
}

fn at(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(": {key}") }
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

/// One value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// Finds the config: the file that is named, else `./config.json` if it exists, else the embedded default.
///
/// `auto_frequency_s` is the step at which the embedded default registers unknown metrics.
///
/// # Errors
/// A file that is named is missing, or a file is not what it should be.
pub fn find(named: Option<&Path>, auto_frequency_s: u32) -> Result<Config, ConfigError> {
    match named {
        Some(path) => load(path),
        None if Path::new(DEFAULT_PATH).exists() => load(Path::new(DEFAULT_PATH)),
        None => Ok(Config::embedded(auto_frequency_s)),
    }
}

/// Reads a config file.
///
/// # Errors
/// As [`parse`], and if the file cannot be read.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// Reads the text of a config file; `path` is for the messages.
///
/// # Errors
/// It is no JSON, has unknown keys, lacks required ones or holds values that make no sense.
pub fn parse(text: &[u8], path: &Path) -> Result<Config, ConfigError> {
    let syntax = |key: String, source| ConfigError::Syntax { path: path.to_owned(), key, source };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let file: raw::File = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // The whole file is `.`, and what is no name (yet) is `?`.
        let key = error.path().to_string();
        let key = key.strip_suffix('?').unwrap_or(&key).trim_end_matches('.').to_owned();
        syntax(key, error.into_inner())
    })?;
    deserializer.end().map_err(|source| syntax(String::new(), source))?;
    let mut check = Check::default();
    let config = check.config(file, path);
    if check.problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Invalid { path: path.to_owned(), problems: check.problems })
    }
}

impl Config {
    /// The config that is used when there is no file.
    pub fn embedded(auto_frequency_s: u32) -> Self {
        let limits = Limits::default();
        Self {
            source: Source::Embedded,
            main: Main { addr: EMBEDDED_ADDR.to_owned(), jwt_public_key: None, require_roles: true },
            metrics: embedded::metrics(),
            store: Store {
                retention_s: EMBEDDED_RETENTION_S,
                memory_cap_bytes: 0,
                num_workers: default_workers(),
                checkpoint_interval_s: DEFAULT_CHECKPOINT_INTERVAL_S,
                file_format: FileFormat::Wal,
                portable: false,
                directory: PathBuf::from(DEFAULT_DIRECTORY),
                min_free_bytes: None,
                max_wal_bytes: 0,
                cleanup: Cleanup::Delete,
                wal_sync: WalSync::Interval,
                wal_sync_interval: Duration::from_secs(1),
                max_future_s: 600,
            },
            limits,
            auto_frequency_s: Some(auto_frequency_s),
            warnings: Vec::new(),
            new_keys: Vec::new(),
        }
    }

    /// What the engine is told.
    pub fn engine_options(&self) -> EngineOptions {
        let store = &self.store;
        EngineOptions {
            retention_s: store.retention_s,
            checkpoint_interval_s: store.checkpoint_interval_s,
            memory_cap_bytes: store.memory_cap_bytes,
            num_workers: store.num_workers,
            format: store.file_format,
            portable: store.portable,
            directory: store.directory.clone(),
            min_free_bytes: store.min_free_bytes,
            max_wal_bytes: store.max_wal_bytes,
            log_segment_bytes: LOG_SEGMENT_BYTES,
            log_buffer_bytes: LOG_BUFFER_BYTES,
            open_files_max: OPEN_FILES,
            wal_sync: store.wal_sync,
            wal_sync_interval: store.wal_sync_interval,
            max_future_s: store.max_future_s,
            cleanup: store.cleanup,
            limits: EngineLimits {
                name_bytes: self.limits.name_bytes,
                hosts: self.limits.hosts,
                series: self.limits.series,
                metrics: self.limits.metrics,
            },
            metrics: self
                .metrics
                .iter()
                .map(|metric| MetricOption {
                    name: metric.name.clone(),
                    frequency_s: metric.frequency_s,
                    aggregation: metric.aggregation,
                })
                .collect(),
            auto_register: self.auto_frequency_s,
        }
    }
}

/// The original's rule for `num-workers: 0`.
fn default_workers() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cpus / 2 + 1).min(10)
}
