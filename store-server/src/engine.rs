//! The store as the server sees it: open, write, read, free, stop. Knows no tokio and no HTTP.
//!
//! Stand-in with the final signatures: it keeps nothing and finds nothing.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// When a write is answered, and when the log is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalSync {
    /// Answered after the log was synced.
    Always,
    /// Answered after the log was written; synced every interval.
    Interval,
    /// Answered after the log was written; never synced by intent.
    Write,
    /// Answered from memory; the log is flushed every 5 s.
    None,
}

/// What checkpoints are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Block files behind the log.
    Wal,
    /// One JSON file per host and checkpoint.
    Json,
}

/// What becomes of files that are older than the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// They are deleted.
    Delete,
    /// They stay where they are.
    Keep,
}

/// How values of the levels below are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Added.
    Sum,
    /// Added and divided by their number.
    Avg,
    /// Not at all.
    None,
}

/// One metric of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricOption {
    /// Name as on the wire.
    pub name: String,
    /// Seconds per step, > 0.
    pub frequency_s: u32,
    /// How levels below are combined.
    pub aggregation: Aggregation,
}

/// What names and counts are refused beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Longest name in bytes.
    pub name_bytes: usize,
    /// Most hosts.
    pub hosts: usize,
    /// Most series.
    pub series: usize,
    /// Most metrics, configured and registered ones together.
    pub metrics: usize,
}

/// Everything that the engine is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// How long samples are kept in memory, seconds.
    pub retention_s: i64,
    /// Longest time a row stays unsaved, seconds; 0 = no checkpoints.
    pub checkpoint_interval_s: i64,
    /// Memory above which data is freed early; 0 = none.
    pub memory_cap_bytes: u64,
    /// Threads for loading and saving, > 0.
    pub num_workers: usize,
    /// What checkpoints are written as.
    pub format: FileFormat,
    /// Write binary files that the original reads.
    pub portable: bool,
    /// Directory of the checkpoints and of the log.
    pub directory: PathBuf,
    /// Log bytes per host that trigger saving; 0 = none.
    pub max_wal_bytes: u64,
    /// When a write is answered.
    pub wal_sync: WalSync,
    /// Time between two syncs in mode `interval`.
    pub wal_sync_interval: Duration,
    /// How far ahead of the clock a sample may be, seconds.
    pub max_future_s: i64,
    /// What becomes of old files.
    pub cleanup: Cleanup,
    /// Names and counts.
    pub limits: EngineLimits,
    /// The catalog.
    pub metrics: Vec<MetricOption>,
    /// Frequency, in seconds, at which unknown metrics are registered (aggregation avg); `None`: they are dropped.
    pub auto_register: Option<u32>,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory of the checkpoints cannot be used.
    #[error("cannot use the checkpoint directory {directory}: {what}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        what: String,
    },
}

/// What became of one body of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteReport {
    /// Lines whose sample was taken.
    pub good: u64,
    /// Malformed lines.
    pub bad: u64,
    /// Lines that are well-formed and not stored.
    pub skipped: u64,
    /// Those of the skipped that were refused: names, limits, too old, too new, outside of f32.
    pub refused: u64,
    /// The first malformed line.
    pub first_bad: Option<FirstBad>,
    /// What the acknowledgement may promise.
    pub durability: Durability,
}

/// Where the first malformed line is, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBad {
    /// Line number, from 1.
    pub line: usize,
    /// Byte in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// What the acknowledgement of a write may promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What the mode promises.
    Kept,
    /// The samples are only in memory.
    Memory,
    /// Nothing: mode `always` and the log does not work.
    Unavailable,
}

/// One element of a path below the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathElement<'a> {
    /// Exactly this child.
    Exact(Cow<'a, str>),
    /// Any of these children.
    Group(Vec<Cow<'a, str>>),
    /// Every child.
    Any,
}

/// One series, or an aggregate of several, over a range of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest<'a> {
    /// Cluster.
    pub cluster: &'a str,
    /// Host.
    pub host: &'a str,
    /// Metric.
    pub metric: &'a str,
    /// Levels below the host; empty = the host itself.
    pub path: Vec<PathElement<'a>>,
    /// First second asked for.
    pub from: i64,
    /// Second behind the last one asked for.
    pub to: i64,
    /// Seconds per point asked for; ≤ 0 = the metric's frequency.
    pub resolution_s: i64,
    /// Most points that may be returned.
    pub points_max: usize,
}

/// The answer to a [`ReadRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// One value per step; NaN = missing.
    pub values: Vec<f64>,
    /// Time of the first value.
    pub from: i64,
    /// Time behind the last value.
    pub to: i64,
    /// Seconds per step.
    pub resolution_s: i64,
}

/// Why nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// `from` is behind `to`.
    #[error("invalid time range")]
    InvalidRange,
    /// The metric is not in the catalog.
    #[error("unknown metric: {0}")]
    UnknownMetric(String),
    /// Several series, and the metric has no aggregation.
    #[error("invalid aggregation")]
    InvalidAggregation,
    /// The resolution does not fit the frequency.
    #[error("{0}")]
    Resample(String),
    /// More points than allowed.
    #[error("too many points: {points} asked for, {points_max} allowed")]
    TooManyPoints {
        /// Points asked for.
        points: u64,
        /// Points allowed.
        points_max: usize,
    },
    /// The host is still being loaded.
    #[error("the store is still loading")]
    Loading,
}

/// The store is still loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is still loading")]
pub struct Unready;

/// Why there is no dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DebugError {
    /// Nothing has this selector.
    #[error("not found: {0}")]
    NotFound(String),
    /// The store is still loading.
    #[error("the store is still loading")]
    Loading,
}

/// How a host does, as far as the metrics asked for tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// Every metric is there and fresh.
    Full,
    /// Some are.
    Partial,
    /// None is.
    Failed,
}

/// The health of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthAnswer {
    /// Whether the host exists at all.
    pub found: bool,
    /// The verdict.
    pub state: HealthState,
    /// Metrics with a stale series.
    pub degraded: Vec<String>,
    /// Metrics without a series.
    pub missing: Vec<String>,
}

/// Counters of the engine.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Whether everything is loaded.
    pub ready: bool,
}

/// Where the memory is.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryStatus {
    /// Bytes in heads.
    pub head_bytes: u64,
}

/// How a stop went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopReport {
    /// What could not be saved or ended in time; empty after a clean stop.
    pub problems: Vec<String>,
}

/// What a single pass of the cleanup did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// Files removed.
    pub files: u64,
}

/// The store. Every call may block.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Locks the directory, opens the log and begins to load; returns before loading ends.
    ///
    /// # Errors
    /// The directory cannot be used or another process has it.
    pub fn open(_options: EngineOptions) -> Result<Self, OpenError> {
        Ok(Self)
    }

    /// Removes files older than the retention, once, without serving.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn cleanup_once(_options: EngineOptions) -> Result<CleanupReport, OpenError> {
        Ok(CleanupReport::default())
    }

    /// Starts the background threads.
    pub fn run_background(self: &Arc<Self>) {}

    /// Takes a body of lines.
    pub fn write(&self, body: &[u8], _default_cluster: Option<&str>) -> WriteReport {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
        WriteReport {
            good: 0,
            bad: 0,
            skipped: lines,
            refused: 0,
            first_bad: None,
            durability: Durability::Kept,
        }
    }

    /// Reads one series or aggregate; `None` = no such host or no such series.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, request: &ReadRequest<'_>) -> Result<Option<Series>, ReadError> {
        if request.from > request.to { Err(ReadError::InvalidRange) } else { Ok(None) }
    }

    /// Hosts of a cluster, sorted.
    ///
    /// # Errors
    /// [`ReadError::Loading`].
    pub fn hosts(&self, _cluster: &str) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    /// Frees what is older than `to` below each selector; the number of buffers freed.
    ///
    /// # Errors
    /// The store is still loading.
    pub fn free(&self, _to: i64, _selectors: &[Vec<String>]) -> Result<u64, Unready> {
        Ok(0)
    }

    /// The dump of a level as JSON, `{"data": …}`.
    ///
    /// # Errors
    /// Nothing has this selector, or the store is still loading.
    pub fn debug_json(&self, selector: Option<&str>) -> Result<Vec<u8>, DebugError> {
        match selector {
            None => Ok(b"{\"data\":{}}\n".to_vec()),
            Some(selector) => Err(DebugError::NotFound(selector.to_owned())),
        }
    }

    /// The health of hosts.
    ///
    /// # Errors
    /// [`ReadError::Loading`].
    pub fn health(
        &self,
        _cluster: &str,
        nodes: &[String],
        _metrics: &[String],
    ) -> Result<Vec<(String, HealthAnswer)>, ReadError> {
        let failed = || HealthAnswer {
            found: false,
            state: HealthState::Failed,
            degraded: Vec::new(),
            missing: Vec::new(),
        };
        Ok(nodes.iter().map(|node| (node.clone(), failed())).collect())
    }

    /// Counters.
    pub fn status(&self) -> Status {
        Status { ready: true }
    }

    /// Where the memory is.
    pub fn memory(&self) -> MemoryStatus {
        MemoryStatus::default()
    }

    /// Whether everything is loaded.
    pub fn ready(&self) -> bool {
        true
    }

    /// Saves everything and ends the background threads (they are given 10 s).
    pub fn stop(&self) -> StopReport {
        StopReport::default()
    }
}
