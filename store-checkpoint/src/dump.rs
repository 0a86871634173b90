//! Writing the dump of a host as one file that the original reads.

use std::io;
use std::path::{Path, PathBuf};

use store_disk::Disk;
use store_disk::replace::{ReplaceError, replace};

use crate::durable::DurableDirs;
use crate::error::{EncodeError, FormatError};
use crate::format::{Decoded, bin1, json};
use crate::run::Dump;

/// The formats in which a host is dumped whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DumpFormat {
    /// `.json`.
    Json,
    /// `.bin` version 1.
    Bin1,
}

impl DumpFormat {
    /// The ending of the file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Bin1 => "bin",
        }
    }

    /// The bytes of a file that holds `dump`.
    ///
    /// # Errors
    /// Names what a reader would refuse.
    pub fn encode(self, dump: &Dump) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Json => json::encode(dump),
            Self::Bin1 => bin1::encode(dump),
        }
    }

    /// What the bytes of a file say.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn decode(self, bytes: &[u8]) -> Result<Decoded, FormatError> {
        match self {
            Self::Json => json::decode(bytes),
            Self::Bin1 => bin1::decode(bytes),
        }
    }
}

/// Why a host was not dumped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The dump holds what no reader takes; nothing was written.
    #[error("cannot encode {path}")]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What is wrong with the dump.
        source: EncodeError,
    },
    /// The host directory could not be made durable; nothing was written.
    #[error("cannot make {path} durable")]
    Dir {
        /// The host directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be put in place; the source says what stands under its name.
    #[error("cannot write {path}")]
    Replace {
        /// The file.
        path: PathBuf,
        /// At which step, and what the system said.
        source: ReplaceError,
    },
    /// The file is in place but could not be read back: nothing that it was to supersede may go.
    #[error("cannot read back {path}")]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is in place but does not say what was dumped: nothing that it was to supersede may go.
    #[error("{path} does not read back as it was written")]
    Differs {
        /// The file.
        path: PathBuf,
    },
}

/// Writes `dump` to `<host_dir>/<dump.from>.<extension>`, durably, replacing a file of that name at one moment,
/// and reads it back. Returns the path, or `None` if the dump has no series: nothing to say, no file.
///
/// After `Ok` the file supersedes every other that holds nothing else.
///
/// # Errors
/// See [`DumpError`]: each variant says what state is left. May be tried again.
pub fn dump_host(
    disk: &dyn Disk,
    dirs: &DurableDirs,
    host_dir: &Path,
    dump: &Dump,
    format: DumpFormat,
) -> Result<Option<PathBuf>, DumpError> {
    if dump.runs.iter().all(|run| run.values.is_empty()) {
        return Ok(None);
    }
    let path = host_dir.join(format!("{}.{}", dump.from, format.extension()));
    let bytes = format.encode(dump).map_err(|source| DumpError::Encode { path: path.clone(), source })?;
    dirs.ensure(disk, host_dir).map_err(|source| DumpError::Dir { path: host_dir.to_owned(), source })?;
    replace(disk, &path, &bytes).map_err(|source| DumpError::Replace { path: path.clone(), source })?;
    let back = disk.read(&path).map_err(|source| DumpError::ReadBack { path: path.clone(), source })?;
    // Both: the bytes to catch the disk, what they say to catch ourselves.
    if back != bytes || !says(format, &back, dump) {
        return Err(DumpError::Differs { path });
    }
    Ok(Some(path))
}

/// True if the file decodes to `dump`, whose runs may be in another order.
fn says(format: DumpFormat, bytes: &[u8], dump: &Dump) -> bool {
    let Ok(Decoded { dump: back, infinite: 0, names_mended: 0 }) = format.decode(bytes) else { return false };
    let mut runs: Vec<_> = dump.runs.iter().filter(|run| !run.values.is_empty()).collect();
    runs.sort_by(|a, b| a.place().cmp(&b.place()));
    (back.from, back.to) == (dump.from, dump.to) && back.runs.iter().eq(runs)
}
