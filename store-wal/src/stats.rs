//! What the log counts.

/// Counters since the log was opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) frames: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) unlogged_frames: u64,
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) write_errors: u64,
    pub(crate) sync_errors: u64,
    pub(crate) open_errors: u64,
    pub(crate) segments_opened: u64,
    pub(crate) poisoned_segments: u64,
    pub(crate) degradations: u64,
    pub(crate) segments: u64,
    pub(crate) retained_before_bytes: u64,
    pub(crate) last_error: Option<String>,
}

/// What a log has done since it was opened, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogStats {
    /// Frames appended and taken into the buffer.
    pub frames: u64,
    /// Their length on disk in bytes.
    pub frame_bytes: u64,
    /// Positions given out for frames that were not logged.
    pub unlogged_frames: u64,
    /// Calls of `write` that succeeded, the first of each segment left out.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Syncs of a segment that succeeded, the first of each segment left out.
    pub syncs: u64,
    /// Calls of `write` that failed.
    pub write_errors: u64,
    /// Syncs of a segment that failed.
    pub sync_errors: u64,
    /// Segments that could not be opened.
    pub open_errors: u64,
    /// Segments that were opened.
    pub segments_opened: u64,
    /// Segments that were given up.
    pub poisoned_segments: u64,
    /// How often the log became degraded.
    pub degradations: u64,
    /// Nothing is logged, or nothing is acknowledged because a heal has not finished.
    pub degraded: bool,
    /// A heal has begun and not finished.
    pub relogging: bool,
    /// Something is only in memory, because there was no room, and was not logged since.
    pub holes: bool,
    /// Segments on disk.
    pub segments: u64,
    /// Their length in bytes, what is still buffered for the last one included.
    pub retained_bytes: u64,
    /// Bytes that wait to be written.
    pub buffered_bytes: u64,
    /// The last error and its causes.
    pub last_error: Option<String>,
}
