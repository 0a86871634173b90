//! Reading the dumps of a host: which files, in which order.

use std::io;
use std::path::{Path, PathBuf};

use store_disk::Disk;

use crate::dump::DumpFormat;
use crate::error::FormatError;
use crate::files::{HostFiles, ListError, Numbered, find_files};
use crate::format::{Decoded, bin1, json};
use crate::run::range_ends_before;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The system did not give its bytes. They may be fine: leave the file where it is and try again later.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its bytes are no checkpoint: set it aside.
    #[error("{path} is unreadable")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
}

impl LoadError {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::Format { path, .. } => path,
        }
    }

    /// True if the bytes are at fault, so that the file is to be set aside; false if the disk is.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Format { .. })
    }
}

/// A dump that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The time in its name.
    pub number: i64,
    /// In which format.
    pub format: DumpFormat,
    /// What it says.
    pub content: Decoded,
}

/// The dumps of one host.
#[derive(Debug, Default)]
pub struct LoadedDumps {
    /// In the order of precedence, JSON before version 1, then by end of range, number and name: where two have
    /// a value for one slot, the later one in this list wins.
    pub files: Vec<LoadedFile>,
    /// Files that could not be read. Nothing was done to them yet.
    pub unreadable: Vec<LoadError>,
    /// Files that end before the time asked for, by their own word.
    pub outdated: Vec<PathBuf>,
    /// `.bin` files that are not version 1: block files, or what is left of them.
    pub not_version_1: Vec<PathBuf>,
}

/// Reads the dumps of a host that reach to `from` or beyond.
///
/// # Errors
/// [`ListError`] if the directory cannot be listed; a file that cannot be read is among the results.
pub fn load_dumps(disk: &dyn Disk, host_dir: &Path, from: i64) -> Result<LoadedDumps, ListError> {
    Ok(load_listed(disk, host_dir, &HostFiles::list(disk, host_dir)?, from))
}

/// As [`load_dumps`], for a directory that was listed already.
pub fn load_listed(disk: &dyn Disk, host_dir: &Path, listed: &HostFiles, from: i64) -> LoadedDumps {
    let mut loaded = LoadedDumps::default();
    let (dumps, others) = split_by_version(disk, host_dir, &listed.numbered, &mut loaded.unreadable);
    loaded.not_version_1 = others;
    let selected = find_files(&dumps, from, true);
    for file in &dumps {
        // Those that the rule takes are most likely needed: decode at once. The others are asked first.
        let read = if selected.contains(&file) {
            read_whole(disk, host_dir, file).map(Some)
        } else {
            read_if_reaching(disk, host_dir, file, from)
        };
        match read {
            Ok(Some(read)) if !read.content.dump.ends_before(from) => loaded.files.push(read),
            Ok(_) => loaded.outdated.push(host_dir.join(&file.name)),
            Err(e) => loaded.unreadable.push(e),
        }
    }
    loaded.files.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
    loaded
}

/// JSON ranks below version 1, because the original keeps one decimal in it. A file that does not say its end
/// ranks below those of its kind that do.
fn precedence(file: &LoadedFile) -> (bool, Option<i64>, i64, &Path) {
    let to = file.content.dump.to;
    (file.format == DumpFormat::Bin1, (to != 0).then_some(to), file.number, &file.path)
}

/// Version 1 and JSON files, and the paths of the other `.bin` files.
fn split_by_version(
    disk: &dyn Disk,
    host_dir: &Path,
    files: &[Numbered],
    unreadable: &mut Vec<LoadError>,
) -> (Vec<Numbered>, Vec<PathBuf>) {
    let (mut dumps, mut others) = (Vec::new(), Vec::new());
    for file in files {
        let path = host_dir.join(&file.name);
        if file.json {
            dumps.push(file.clone());
            continue;
        }
        match disk.read_front(&path, size_of_val(&bin1::MAGIC)) {
            Ok(front) if bin1::is_version_1(&front) => dumps.push(file.clone()),
            Ok(_) => others.push(path),
            Err(source) => unreadable.push(LoadError::Io { path, source }),
        }
    }
    (dumps, others)
}

/// Decodes a file.
pub(crate) fn read_whole(disk: &dyn Disk, host_dir: &Path, file: &Numbered) -> Result<LoadedFile, LoadError> {
    let path = host_dir.join(&file.name);
    // Read, not mapped: a page that cannot be read is an error.
    let format = if file.json { DumpFormat::Json } else { DumpFormat::Bin1 };
    match disk.read(&path) {
        Ok(bytes) => decode(path, file.number, format, &bytes),
        Err(source) => Err(LoadError::Io { path, source }),
    }
}

/// Decodes a file whose range, by its own word, reaches to `from`; `None` if it does not.
///
/// A file whose range cannot be told is decoded, which says why.
fn read_if_reaching(
    disk: &dyn Disk,
    host_dir: &Path,
    file: &Numbered,
    from: i64,
) -> Result<Option<LoadedFile>, LoadError> {
    let path = host_dir.join(&file.name);
    let ended = |range: Option<(i64, i64)>| range.is_some_and(|(_, to)| range_ends_before(to, from));
    if file.json {
        return match disk.read(&path) {
            Ok(bytes) if ended(json::peek_range(&bytes)) => Ok(None),
            Ok(bytes) => decode(path, file.number, DumpFormat::Json, &bytes).map(Some),
            Err(source) => Err(LoadError::Io { path, source }),
        };
    }
    match disk.read_front(&path, bin1::HEADER_BYTES) {
        Ok(front) if ended(bin1::peek_range(&front)) => Ok(None),
        Ok(_) => read_whole(disk, host_dir, file).map(Some),
        Err(source) => Err(LoadError::Io { path, source }),
    }
}

fn decode(path: PathBuf, number: i64, format: DumpFormat, bytes: &[u8]) -> Result<LoadedFile, LoadError> {
    match format.decode(bytes) {
        Ok(content) => Ok(LoadedFile { path, number, format, content }),
        Err(source) => Err(LoadError::Format { path, source }),
    }
}
