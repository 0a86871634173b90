//! What lies in a checkpoint directory: names, their kinds, and which files a start needs.
//!
//! ```text
//! <directory>/<cluster>/<host>/<number>.json | <number>.bin | current.wal | superseded | *.tmp | *.corrupt-<n>
//! <directory>/.wal/                              the log's own; not a cluster
//! ```
//!
//! Nothing here is an error because of a name: whatever does not belong is classified, so that a caller can
//! count and show it, and left alone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use store_disk::{Disk, Entry, EntryKind};

use crate::superseded::{SUPERSEDED, Superseded};

/// Directory of the log in a checkpoint directory; no cluster can have this name.
pub const LOG_DIR: &str = ".wal";

/// The original's log in a host directory.
pub const CURRENT_WAL: &str = "current.wal";

/// Why a directory was not listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {path}")]
pub struct ListError {
    /// The directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What a file of a host directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// `<number>.json`.
    Json(i64),
    /// `<number>.bin`: version 1 or a block file; its first bytes say which.
    Bin(i64),
    /// `current.wal`, the original's log.
    CurrentWal,
    /// `superseded`, the list of files that do not count any more.
    Superseded,
    /// `*.tmp`: what a crash left of a file that was being written, by us or by others.
    Tmp,
    /// `*.corrupt-<n>`: set aside because it could not be read. The number is that of the name it had.
    SetAside(Option<i64>),
    /// `*.json` or `*.bin` whose name is no number.
    Unnumbered,
    /// Anything else.
    Foreign,
}

/// Classifies the name of a file in a host directory.
pub fn name_kind(name: &OsStr) -> NameKind {
    let bytes = name.as_encoded_bytes();
    if bytes == CURRENT_WAL.as_bytes() {
        return NameKind::CurrentWal;
    }
    if bytes == SUPERSEDED.as_bytes() {
        return NameKind::Superseded;
    }
    if bytes.ends_with(b".tmp") {
        return NameKind::Tmp;
    }
    if let Some(first) = set_aside_name(bytes) {
        return NameKind::SetAside(match numbered(first) {
            Some(NameKind::Json(number) | NameKind::Bin(number)) => Some(number),
            _ => None,
        });
    }
    numbered(bytes).unwrap_or(NameKind::Foreign)
}

/// The name without `.corrupt-<n>`, if it ends so.
fn set_aside_name(name: &[u8]) -> Option<&[u8]> {
    let mark = b".corrupt-";
    let at = name.windows(mark.len()).rposition(|part| part == mark)?;
    let (first, rest) = name.split_at(at);
    let digits = rest.get(mark.len()..)?;
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(first)
}

/// Whether a directory has the name of something that was set aside: it is neither cluster nor host.
fn is_set_aside(name: &str) -> bool {
    set_aside_name(name.as_bytes()).is_some()
}

/// The kind of a `.json` or `.bin`; `None` for every other ending.
fn numbered(name: &[u8]) -> Option<NameKind> {
    let (stem, kind): (_, fn(i64) -> NameKind) = match name.strip_suffix(b".json") {
        Some(stem) => (stem, NameKind::Json),
        None => (name.strip_suffix(b".bin")?, NameKind::Bin),
    };
    // As the original parses: a sign and leading zeros are fine.
    let number = str::from_utf8(stem).ok().and_then(|digits| digits.parse().ok());
    Some(number.map_or(NameKind::Unnumbered, kind))
}

/// A file whose name is a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numbered {
    /// The time in the name, seconds since the epoch: nothing in the file is older.
    pub number: i64,
    /// The whole name.
    pub name: OsString,
    /// True for `.json`, false for `.bin`.
    pub json: bool,
}

/// The files that a start from `t` needs as far as their names tell, in order of number, then name.
///
/// With `more_recent`: all from `t` on, and the last before `t`, which may reach beyond it; where several
/// share that number, all of them. Without: all up to `t`, except number 0.
///
/// The original takes the last file before `t` only if another one follows behind `t`, and so loses the newest
/// file of a host that was silent for a while. A file that is left out may reach beyond `t` all the same where
/// ranges overlap; only its header can tell.
pub fn find_files(files: &[Numbered], t: i64, more_recent: bool) -> Vec<&Numbered> {
    let mut files: Vec<&Numbered> = files.iter().collect();
    files.sort();
    let last_before = files.iter().map(|file| file.number).filter(|&number| number < t).max();
    files.retain(|file| {
        if more_recent {
            file.number >= t || Some(file.number) == last_before
        } else {
            file.number <= t && file.number != 0
        }
    });
    files
}

/// The content of one host directory, by kind. Each list is in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFiles {
    /// `.json` and `.bin` files with a number.
    pub numbered: Vec<Numbered>,
    /// Whether there is a `current.wal`.
    pub current_wal: bool,
    /// The list of [superseded](crate::superseded) files, if one stands. They are in no other field.
    pub superseded: Option<Superseded>,
    /// Whether there is such a list that is void, damaged or without those files that superseded the others: all files
    /// count. It is to be [set aside](set_aside), before it says something about files to come.
    pub void_list: bool,
    /// Files that an interrupted write left.
    pub tmp: Vec<OsString>,
    /// Files that were set aside, with the number their name had.
    pub set_aside: Vec<(OsString, Option<i64>)>,
    /// `.json` and `.bin` files without a number; nobody loads or deletes them.
    pub unnumbered: Vec<OsString>,
    /// Everything else: directories, links, names that nobody knows.
    pub foreign: Vec<OsString>,
}

impl HostFiles {
    /// Lists a host directory; one that does not exist is empty.
    ///
    /// # Errors
    /// [`ListError`] with what the system says, also of the list of superseded files and what it names.
    pub fn list(disk: &dyn Disk, host_dir: &Path) -> Result<Self, ListError> {
        let mut found = Self::classify(list_or_empty(disk, host_dir)?);
        if found.void_list {
            let is_there = |name: &OsStr| found.has(name);
            let list = Superseded::read(disk, host_dir, &is_there)
                .map_err(|(path, source)| ListError { path, source })?;
            if let Some(list) = list {
                found.leave_out(list);
            }
        }
        Ok(found)
    }

    fn has(&self, name: &OsStr) -> bool {
        self.numbered.iter().any(|file| file.name == name) || self.current_wal && name == CURRENT_WAL
    }

    /// Leaves out what does not count any more.
    fn leave_out(&mut self, list: Superseded) {
        self.numbered.retain(|file| !list.has(&file.name));
        self.current_wal &= !list.has(OsStr::new(CURRENT_WAL));
        (self.superseded, self.void_list) = (Some(list), false);
    }

    /// Sorts the entries of a host directory into kinds, by their names alone: a list of superseded files is void.
    pub fn classify(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut found = Self::default();
        for Entry { name, kind } in entries {
            if kind != EntryKind::File {
                found.foreign.push(name);
                continue;
            }
            match name_kind(&name) {
                NameKind::Json(number) => found.numbered.push(Numbered { number, name, json: true }),
                NameKind::Bin(number) => found.numbered.push(Numbered { number, name, json: false }),
                NameKind::CurrentWal => found.current_wal = true,
                NameKind::Superseded => found.void_list = true,
                NameKind::Tmp => found.tmp.push(name),
                NameKind::SetAside(number) => found.set_aside.push((name, number)),
                NameKind::Unnumbered => found.unnumbered.push(name),
                NameKind::Foreign => found.foreign.push(name),
            }
        }
        found
    }
}

/// A host directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostDir {
    /// Name of the cluster.
    pub cluster: Box<str>,
    /// Name of the host.
    pub host: Box<str>,
    /// `<directory>/<cluster>/<host>`.
    pub path: PathBuf,
}

/// The host directories of a checkpoint directory, and what lies between them that should not.
#[derive(Debug, Default)]
pub struct HostDirs {
    /// In the order of cluster, then host. The names are as the disk has them; whether a store takes them is
    /// for the caller to check.
    pub hosts: Vec<HostDir>,
    /// Files, links, names that are not UTF-8 and `*.corrupt-<n>`, where a cluster or a host directory is expected.
    pub strays: Vec<PathBuf>,
    /// Cluster directories that could not be listed.
    pub unlisted: Vec<ListError>,
}

impl HostDirs {
    /// Lists a checkpoint directory; one that does not exist is empty.
    ///
    /// # Errors
    /// [`ListError`] if `dir` itself cannot be listed; a cluster that cannot is among the results.
    pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Self, ListError> {
        let mut found = Self::default();
        for Entry { name, kind } in list_or_empty(disk, dir)? {
            let path = dir.join(&name);
            match (kind, name.into_string()) {
                (EntryKind::Dir, Ok(name)) if name == LOG_DIR => {}
                (EntryKind::Dir, Ok(name)) if is_set_aside(&name) => found.strays.push(path),
                (EntryKind::Dir, Ok(cluster)) => found.list_cluster(disk, &cluster, &path),
                _ => found.strays.push(path),
            }
        }
        Ok(found)
    }

    fn list_cluster(&mut self, disk: &dyn Disk, cluster: &str, dir: &Path) {
        let entries = match list_or_empty(disk, dir) {
            Ok(entries) => entries,
            Err(e) => return self.unlisted.push(e),
        };
        for Entry { name, kind } in entries {
            let path = dir.join(&name);
            match (kind, name.into_string()) {
                (EntryKind::Dir, Ok(host)) if !is_set_aside(&host) => {
                    self.hosts.push(HostDir { cluster: cluster.into(), host: host.into(), path });
                }
                _ => self.strays.push(path),
            }
        }
    }
}

/// The directory that holds `path`; `.` for a bare name.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn list_or_empty(disk: &dyn Disk, dir: &Path) -> Result<Vec<Entry>, ListError> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(ListError { path: dir.to_owned(), source }),
    }
}

/// Why a file was not set aside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetAsideError {
    /// The file could not be renamed and is where it was.
    #[error("cannot set {path} aside")]
    Rename {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has its new name, but a power loss may bring the old one back: nothing may be written under
    /// the old name until the directory is synced.
    #[error("{path} was set aside, but its directory was not synced")]
    Sync {
        /// The new name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Numbers tried for `.corrupt-<n>` before giving up.
const SET_ASIDE_MAX: u32 = 10_000;

/// Renames a file that cannot be read to `<name>.corrupt-<n>`, the first `n` from 1 on that is free, and syncs
/// the directory. Returns the new path.
///
/// # Errors
/// See [`SetAsideError`]: each variant says under which name the file stands.
pub fn set_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, SetAsideError> {
    let refused = |source| SetAsideError::Rename { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| refused(io::ErrorKind::InvalidInput.into()))?;
    for n in 1..=SET_ASIDE_MAX {
        let mut aside = name.to_owned();
        aside.push(format!(".corrupt-{n}"));
        let aside = path.with_file_name(aside);
        match disk.rename(path, &aside) {
            Ok(()) => {
                // Before anything takes the old name: the rename away and the rename onto it may reach the
                // disk in either order, and then the old bytes would be gone.
                return match disk.sync_dir(directory_of(path)) {
                    Ok(()) => Ok(aside),
                    Err(source) => Err(SetAsideError::Sync { path: aside, source }),
                };
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(refused(e)),
        }
    }
    Err(refused(io::ErrorKind::AlreadyExists.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> NameKind {
        name_kind(OsStr::new(name))
    }

    fn files(names: &[&str]) -> Vec<Numbered> {
        let entry = |name: &&str| Entry { name: name.into(), kind: EntryKind::File };
        HostFiles::classify(names.iter().map(entry)).numbered
    }

    fn found(names: &[&str], t: i64, more_recent: bool) -> Vec<String> {
        let files = files(names);
        let found = find_files(&files, t, more_recent);
        found.into_iter().map(|file| file.name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_name_has_one_kind() {
        let cases = [
            ("1700000000.json", NameKind::Json(1_700_000_000)),
            ("-5.bin", NameKind::Bin(-5)),
            ("+007.bin", NameKind::Bin(7)),
            ("current.wal", NameKind::CurrentWal),
            ("superseded", NameKind::Superseded),
            ("superseded.tmp", NameKind::Tmp),
            ("superseded.corrupt-1", NameKind::SetAside(None)),
            ("1700000000.bin.tmp", NameKind::Tmp),
            (".tmp", NameKind::Tmp),
            ("1700000000.bin.corrupt-1", NameKind::SetAside(Some(1_700_000_000))),
            ("1.json.corrupt-2.corrupt-13", NameKind::SetAside(None)),
            ("current.wal.corrupt-1", NameKind::SetAside(None)),
            ("1.bin.corrupt-", NameKind::Foreign),
            ("1.bin.corrupt-x", NameKind::Foreign),
            ("backup.bin", NameKind::Unnumbered),
            (".json", NameKind::Unnumbered),
            ("9223372036854775808.bin", NameKind::Unnumbered),
            ("1_0.json", NameKind::Unnumbered),
            ("1700000000.avro", NameKind::Foreign),
            ("1700000000", NameKind::Foreign),
            ("other.wal", NameKind::Foreign),
        ];
        for (name, expected) in cases {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn a_start_takes_the_files_from_t_on_and_the_one_that_reaches_up_to_it() {
        let names = ["300.bin", "100.json", "200.bin", "400.json"];
        assert_eq!(found(&names, 250, true), ["200.bin", "300.bin", "400.json"]);
        assert_eq!(found(&names, 50, true), ["100.json", "200.bin", "300.bin", "400.json"]);
        assert!(found(&[], 250, true).is_empty());
    }

    #[test]
    fn the_newest_file_is_taken_though_its_name_lies_before_t() {
        assert_eq!(found(&["100.bin", "200.bin"], 900, true), ["200.bin"]);
        assert_eq!(found(&["200.bin"], 900, true), ["200.bin"]);
        assert_eq!(found(&["100.bin", "200.bin", "300.bin"], 300, true), ["200.bin", "300.bin"]);
    }

    #[test]
    fn files_of_one_number_are_taken_together() {
        assert_eq!(found(&["100.bin", "200.json", "200.bin"], 250, true), ["200.bin", "200.json"]);
    }

    #[test]
    fn the_other_direction_takes_all_up_to_t_but_number_0() {
        let names = ["0.bin", "-10.bin", "100.json", "200.bin", "300.bin"];
        assert_eq!(found(&names, 200, false), ["-10.bin", "100.json", "200.bin"]);
        assert!(found(&names, -11, false).is_empty());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(found(&["9.bin", "10.bin", "-1.bin"], -5, true), ["-1.bin", "9.bin", "10.bin"]);
    }

    #[test]
    fn only_plain_files_are_checkpoints() {
        let entries = [
            ("1.json", EntryKind::Dir),
            ("2.json", EntryKind::File),
            ("3.json", EntryKind::Other),
            ("backup.bin", EntryKind::File),
            ("current.wal", EntryKind::Dir),
            ("x.tmp", EntryKind::File),
            ("2.bin.corrupt-3", EntryKind::File),
        ];
        let found = HostFiles::classify(entries.map(|(name, kind)| Entry { name: name.into(), kind }));
        let expected = HostFiles {
            numbered: files(&["2.json"]),
            current_wal: false,
            superseded: None,
            void_list: false,
            tmp: vec!["x.tmp".into()],
            set_aside: vec![("2.bin.corrupt-3".into(), Some(2))],
            unnumbered: vec!["backup.bin".into()],
            foreign: ["1.json", "3.json", "current.wal"].map(OsString::from).to_vec(),
        };
        assert_eq!(found, expected);
    }
}
