//! [`EngineOptions`]: what the engine is told at start, and why it may refuse.

use std::path::PathBuf;
use std::time::Duration;

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

/// Bytes after which the log goes on to its next segment, unless somebody says otherwise.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes of records that may wait to be written to the log, unless somebody says otherwise.
pub const LOG_BUFFER_BYTES: u64 = 512 << 20;

/// Block files that are kept open for appending, unless somebody says otherwise.
pub const OPEN_FILES: usize = 4096;

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
    /// Free bytes of the file system below which the log counts as full, while saves may use them; `None`: 64 MiB, or a
    /// twentieth of a smaller file system.
    pub min_free_bytes: Option<u64>,
    /// Log bytes per host that trigger saving; 0 = none.
    pub max_wal_bytes: u64,
    /// Bytes after which the log goes on to its next segment.
    pub log_segment_bytes: u64,
    /// Bytes of records that may wait to be written to the log: beyond that messages wait, before anything of them is
    /// taken.
    pub log_buffer_bytes: u64,
    /// Block files that are kept open for appending, > 0: of more hosts than that each save begins a new file.
    pub open_files_max: usize,
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
    /// Frequency, in seconds, at which unknown metrics are registered (aggregation avg); `None` or 0: they are dropped.
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
    /// The directory, or that of the log, may not be written to by this user, or lies on a file system that is
    /// read-only: nothing would be kept.
    #[error(
        "cannot write to the checkpoint directory {directory}: {what}; nothing would be kept. Give it, with all that is \
         in it, to the user that the server runs as, or name another directory"
    )]
    NotWritable {
        /// The directory.
        directory: PathBuf,
        /// What was tried, and what the system says.
        what: String,
    },
    /// A file of this store was written by another release, and this one cannot read it. Nothing was changed.
    #[error(
        "{path} was written in version {version}, and this release reads version {reads}: start the release that wrote \
         it, or name another directory; nothing was changed"
    )]
    Version {
        /// The first such file that was found.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version that this release reads and writes.
        reads: u32,
    },
    /// A block file of this store has flags that this release does not know. Nothing was changed.
    #[error(
        "{path} was written by a later release, with flags {flags:#06x} of which this one does not know all: start the \
         release that wrote it, or name another directory; nothing was changed"
    )]
    Flags {
        /// The first such file that was found.
        path: PathBuf,
        /// Its flags.
        flags: u16,
    },
    /// Segments of several stores lie in the log's directory, and the block files do not tell which is this one's.
    #[error(
        "{directory} holds the logs of several stores, and the block files do not tell which of them is this one's: move \
         the segments of the others away; nothing was changed"
    )]
    SeveralLogs {
        /// The log's directory.
        directory: PathBuf,
    },
    /// Another process has the directory.
    #[error("the checkpoint directory {directory} is in use by another process")]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// A metric has a frequency of 0 seconds.
    #[error("the metric {name} has a frequency of 0 seconds")]
    Frequency {
        /// The metric.
        name: String,
    },
}
