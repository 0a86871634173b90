//! What can go wrong, one enum per operation.

use std::io;
use std::path::PathBuf;

use crate::LogPos;

/// Why the directory of a log could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The directory could not be listed. Nothing is known of the log; the caller may try again, and must not
    /// take it for empty.
    #[error("cannot list {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A call on one file or directory that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} {path}")]
pub struct CallError {
    /// What was tried: `sync`, `rename`.
    pub call: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why a new segment could not be opened.
///
/// No position was given out in it and its file was removed if that was possible. The call may be repeated; it
/// then takes a greater number.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory could not be created or listed.
    #[error("cannot {call} directory {path}")]
    Directory {
        /// `create` or `list`.
        call: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory could not be synced, so that a power loss might take the new segment away.
    #[error("cannot sync directory {path}")]
    SyncDir {
        /// The directory: that of the log, or its parent.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of the segment could not be created, written or synced.
    #[error("cannot {call} {path}")]
    Segment {
        /// `create`, `write` or `sync`.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// All numbers of segments are used up.
    #[error("{path}: no number is left for a new segment")]
    NoNumber {
        /// The directory.
        path: PathBuf,
    },
}

/// Why a position cannot be called durable.
///
/// Whatever the variant, what was appended may or may not be found by a later replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The segment could not be written. The log is degraded now.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The segment could not be synced. The log is degraded now; the segment is never synced again.
    #[error("cannot sync {path}")]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log is degraded, or became so while the call waited.
    #[error("the log is degraded")]
    Degraded,
    /// The position was given out while nothing was logged, was lost with a segment that failed, or was never
    /// given out. What stood there may have been logged again under another one.
    #[error("position {0} was not logged")]
    NotLogged(LogPos),
}

/// Why the log did not go on to a new segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// The new segment could not be opened. The log goes on in the old one, unharmed.
    #[error("cannot open the next segment")]
    Open(#[from] OpenError),
    /// The old segment could not be written or synced to its end. The log is degraded.
    #[error("cannot finish the old segment")]
    Commit(#[from] CommitError),
}

/// Why a log was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// A call failed. What is left of the log is whole from some position on, and may be removed later.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The directory is not empty: other files lie there. All segments are gone.
    #[error("{path} holds other files")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
