//! What the engine is asked and what it answers.

use std::borrow::Cow;

pub use store_core::level::Element as PathElement;
pub use store_core::query::Series;

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
    /// With [`Unavailable`](Durability::Unavailable): lines behind this one were not looked at, because the log does
    /// not work. `None`: all were.
    pub stopped_behind: Option<usize>,
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
    /// Nothing: the log does not work, and the mode is `always` or memory holds all that it may. Mostly nothing was
    /// applied.
    Unavailable,
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
    pub path: Cow<'a, [PathElement]>,
    /// First second asked for.
    pub from: i64,
    /// Second behind the last one asked for.
    pub to: i64,
    /// Seconds per point asked for; ≤ 0 = the metric's frequency.
    pub resolution_s: i64,
    /// Most points that may be read.
    pub points_max: usize,
    /// Most values of single series that may be read for them.
    pub cells_max: u64,
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
    /// More values of single series than allowed would have to be read.
    #[error("too many components, or too long a range: more than {cells_max} values would have to be read")]
    TooManyCells {
        /// Values allowed.
        cells_max: u64,
    },
    /// The host is still being loaded.
    #[error("the store is still loading")]
    Loading,
}

/// The store is still loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is still loading")]
pub struct Unready;

/// What a request to free has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// Blocks and heads of series that were hidden in whole or in part, and were not before.
    pub count: u64,
    /// [`Kept`](Durability::Kept), or [`Memory`](Durability::Memory): a kill brings back what was freed.
    pub durability: Durability,
}

/// Why nothing is promised of what was to be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FreeError {
    /// The store is still loading: nothing was freed.
    #[error("the store is still loading")]
    Loading,
    /// Mode `always` and the log does not work: it is hidden, and a kill brings it back. To be sent again.
    #[error("the log does not work: what was freed would be back after a kill")]
    Unlogged,
}

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
