//! Which files of a host may go because what they hold is too old.
//!
//! A file goes by the newest sample in it. Its name says only where it begins, and the end in its header may be
//! years behind the last sample of a host that fell silent, or, in a format without checksum, simply be wrong.
//! Files that cannot say what they hold are given one checkpoint interval from the time in their name, which is
//! how far a file reaches at most in the original; without such a time they stay.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use store_disk::Disk;

use crate::files::{HostFiles, ListError, Numbered};
use crate::format::bin1;
use crate::load::{LoadError, read_whole};

/// What is known of the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Its newest sample is of this time, seconds since the epoch.
    Newest(i64),
    /// It cannot be read, was set aside, or holds no sample; `number` is the time in its name, if it has one.
    Unknown {
        /// Seconds since the epoch.
        number: Option<i64>,
    },
}

/// How old is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Samples before this time, seconds since the epoch, are no longer wanted.
    pub wanted_from: i64,
    /// How far a file reaches beyond the time in its name if it cannot say, in seconds.
    pub checkpoint_interval_s: i64,
}

impl Limits {
    /// True if nothing in a file is wanted any more.
    pub fn let_go(&self, holds: Holds) -> bool {
        match holds {
            Holds::Newest(newest) => newest < self.wanted_from,
            Holds::Unknown { number: Some(number) } => {
                number.saturating_add(self.checkpoint_interval_s.max(0)) < self.wanted_from
            }
            Holds::Unknown { number: None } => false,
        }
    }
}

/// What [`Cleaner::expired`] found out about a host.
#[derive(Debug, Default)]
pub struct Expired {
    /// Files that may go, in the order of their names, set-aside ones last.
    pub paths: Vec<PathBuf>,
    /// Files that could not be read for a reason that is not theirs; they stay.
    pub unread: Vec<LoadError>,
    /// Number of files looked at that stay.
    pub kept: usize,
}

/// What [`Cleaner::clean_host`] did.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// Files that were removed.
    pub removed: Vec<PathBuf>,
    /// Files that were to go and did not, and what the system said.
    pub failed: Vec<(PathBuf, io::Error)>,
    /// Files that could not be read for a reason that is not theirs; they stay.
    pub unread: Vec<LoadError>,
    /// Number of files that stay because they are still wanted, or cannot say that they are not.
    pub kept: usize,
}

/// Finds and deletes files whose samples are all too old, pass after pass.
///
/// Remembers the newest sample of each dump, so that a pass does not decode every file again. A remembered time
/// only ever keeps a file: before one goes it is read anew, because another of the same name may have come.
///
/// While a host is looked at nobody may write dumps or block files into its directory.
#[derive(Debug, Default)]
pub struct Cleaner {
    /// By host directory and name. Held for look-ups only, never while the disk works.
    newest: Mutex<HashMap<PathBuf, HashMap<OsString, i64>>>,
}

impl Cleaner {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The files of a host that may go. `block_file` says what a `.bin` holds that is not version 1.
    ///
    /// `.tmp` files, `current.wal` and names without a number are not looked at: others decide on those.
    ///
    /// # Errors
    /// [`ListError`] if the host directory cannot be listed.
    pub fn expired(
        &self,
        disk: &dyn Disk,
        host_dir: &Path,
        limits: Limits,
        block_file: &dyn Fn(&Path) -> Result<Holds, LoadError>,
    ) -> Result<Expired, ListError> {
        let listed = HostFiles::list(disk, host_dir)?;
        if listed.superseded.is_some() || listed.void_list {
            // Which files count is decided first: one that others gave way to must not go before them.
            return Ok(Expired { kept: listed.numbered.len(), ..Expired::default() });
        }
        let remembered = self.take(host_dir);
        let mut remember = HashMap::new();
        let mut expired = Expired::default();
        for file in &listed.numbered {
            // Nothing in a file is older than its name.
            let known = remembered.get(&file.name).copied();
            if file.number >= limits.wanted_from || known.is_some_and(|t| t >= limits.wanted_from) {
                remember.extend(known.map(|t| (file.name.clone(), t)));
                expired.kept += 1;
                continue;
            }
            match holds(disk, host_dir, file, block_file) {
                Ok(holds) if limits.let_go(holds) => expired.paths.push(host_dir.join(&file.name)),
                Ok(holds) => {
                    if let Holds::Newest(newest) = holds {
                        remember.insert(file.name.clone(), newest);
                    }
                    expired.kept += 1;
                }
                Err(e) => expired.unread.push(e),
            }
        }
        for (name, number) in &listed.set_aside {
            if limits.let_go(Holds::Unknown { number: *number }) {
                expired.paths.push(host_dir.join(name));
            } else {
                expired.kept += 1;
            }
        }
        self.put(host_dir, remember);
        Ok(expired)
    }

    /// Deletes the files of a host that may go; arguments as for [`expired`](Self::expired).
    ///
    /// The directory is not synced: a file that a power cut brings back goes at the next pass.
    ///
    /// # Errors
    /// [`ListError`] if the host directory cannot be listed; files that could not be removed are in the result.
    pub fn clean_host(
        &self,
        disk: &dyn Disk,
        host_dir: &Path,
        limits: Limits,
        block_file: &dyn Fn(&Path) -> Result<Holds, LoadError>,
    ) -> Result<Cleaned, ListError> {
        let Expired { paths, unread, kept } = self.expired(disk, host_dir, limits, block_file)?;
        let mut cleaned = Cleaned { unread, kept, ..Cleaned::default() };
        for path in paths {
            match disk.remove(&path) {
                Ok(()) => cleaned.removed.push(path),
                Err(source) => cleaned.failed.push((path, source)),
            }
        }
        Ok(cleaned)
    }

    fn take(&self, host_dir: &Path) -> HashMap<OsString, i64> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.remove(host_dir).unwrap_or_default()
    }

    fn put(&self, host_dir: &Path, remember: HashMap<OsString, i64>) {
        if !remember.is_empty() {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest.insert(host_dir.to_owned(), remember);
        }
    }
}

/// Reads what a file holds.
fn holds(
    disk: &dyn Disk,
    host_dir: &Path,
    file: &Numbered,
    block_file: &dyn Fn(&Path) -> Result<Holds, LoadError>,
) -> Result<Holds, LoadError> {
    let unknown = Holds::Unknown { number: Some(file.number) };
    let path = host_dir.join(&file.name);
    if !file.json {
        match disk.read_front(&path, size_of_val(&bin1::MAGIC)) {
            Ok(front) if bin1::is_version_1(&front) => {}
            Ok(_) => return block_file(&path),
            Err(source) => return Err(LoadError::Io { path, source }),
        }
    }
    match read_whole(disk, host_dir, file) {
        Ok(read) => Ok(read.content.dump.newest().map_or(unknown, Holds::Newest)),
        Err(LoadError::Format { .. }) => Ok(unknown),
        Err(e) => Err(e),
    }
}
