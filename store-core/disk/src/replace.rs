//! The one way to replace a file atomically: temporary file, sync, rename, sync of the directory.
//!
//! The file is written under `<name>.tmp` in the same directory, or `<name>.<n>.tmp` where that name is
//! taken: a file that somebody left is never overwritten here, and whether it may go is for its owner to say.
//! After a crash the name holds the old content or the new one, whole, and at most a `.tmp` more lies about.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Disk, DiskFile};

/// Temporary names that are tried before giving up.
const TMP_NAMES_MAX: u32 = 16;

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The temporary file could not be created, written or synced. It was removed if that was possible; the
    /// name is as it was. May be tried again.
    #[error("cannot write {path}")]
    Tmp {
        /// The temporary file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The rename failed. The temporary file was removed if that was possible; the name is as it was. May be
    /// tried again; `AlreadyExists` where the name was to be new.
    #[error("cannot rename to {path}")]
    Rename {
        /// The name that was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new content stands under the name, but a power loss may bring the old state back.
    #[error("cannot sync directory {path}")]
    SyncDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Puts `bytes` under `path` durably, replacing what was there.
///
/// # Errors
/// See [`ReplaceError`]: each variant says what state is left.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), ReplaceError> {
    replace_with(disk, path, |file| file.append(bytes))
}

/// As [`replace`], with content that `write` appends piece by piece.
///
/// # Errors
/// See [`ReplaceError`]; an error of `write` is [`ReplaceError::Tmp`].
pub fn replace_with(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn DiskFile) -> io::Result<()>,
) -> Result<(), ReplaceError> {
    put(disk, path, write, |tmp| disk.rename_over(tmp, path))
}

/// Puts `bytes` under `path` durably; the name must be free.
///
/// # Errors
/// See [`ReplaceError`]; [`ReplaceError::Rename`] with `AlreadyExists` if the name is taken.
pub fn create(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), ReplaceError> {
    create_with(disk, path, |file| file.append(bytes))
}

/// As [`create`], with content that `write` appends piece by piece.
///
/// # Errors
/// See [`ReplaceError`]; an error of `write` is [`ReplaceError::Tmp`].
pub fn create_with(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn DiskFile) -> io::Result<()>,
) -> Result<(), ReplaceError> {
    put(disk, path, write, |tmp| disk.rename(tmp, path))
}

fn put(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn DiskFile) -> io::Result<()>,
    rename: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), ReplaceError> {
    let (tmp, mut file) = create_tmp(disk, path)?;
    // Sync before the rename: the name may reach the disk before the bytes do. After an error there is no
    // second try on this file: its pages may count as clean and yet not be on disk.
    let written = write(&mut *file).and_then(|()| file.sync());
    drop(file);
    if let Err(source) = written {
        remove_tmp(disk, &tmp);
        return Err(ReplaceError::Tmp { path: tmp, source });
    }
    if let Err(source) = rename(&tmp) {
        remove_tmp(disk, &tmp);
        return Err(ReplaceError::Rename { path: path.to_owned(), source });
    }
    let dir = directory_of(path);
    disk.sync_dir(dir).map_err(|source| ReplaceError::SyncDir { path: dir.to_owned(), source })
}

fn create_tmp(disk: &dyn Disk, path: &Path) -> Result<(PathBuf, Box<dyn DiskFile>), ReplaceError> {
    let mut number = 0;
    loop {
        let tmp = tmp_path(path, number);
        match disk.create(&tmp) {
            Ok(file) => return Ok((tmp, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number + 1 < TMP_NAMES_MAX => number += 1,
            Err(source) => return Err(ReplaceError::Tmp { path: tmp, source }),
        }
    }
}

/// `<name>.tmp`, and for `number` > 0 `<name>.<number>.tmp`.
fn tmp_path(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.push(".tmp");
    path.with_file_name(name)
}

/// Clears up after an error. That it fails is no further news: the start after next finds the file.
fn remove_tmp(disk: &dyn Disk, tmp: &Path) {
    drop(disk.remove(tmp));
}

/// The directory that holds `path`; `.` for a bare name.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
