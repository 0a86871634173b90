//! [`Superseded`]: the one durable step by which files of a host give way to others, all at once.
//!
//! Files are ranked by what they are: a block file outranks a dump, whatever is in them. So where several block files
//! give way to one dump no order of unlinks is right: what is left after a crash outranks the dump, and may be older.
//! Therefore a list of them is written first, atomically; from then on they count as gone, for every reader, because
//! [`HostFiles::list`](crate::files::HostFiles::list) leaves them out. They are unlinked in any order, then the list is.
//!
//! A file on the list is known by its name, its length and its checksum. So a list that a power cut brings back, or that
//! was copied into another directory, says nothing about files that have come under the same names.
//!
//! The layout stands in [`mod@crate::format`].

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use store_disk::Disk;
use store_disk::replace::{ReplaceError, replace};

use crate::blockfile::Opened;
use crate::dump::DumpFormat;
use crate::files::{SetAsideError, set_aside};
use crate::format::bin1;

/// Name of the list in a host directory. The original looks at `.json`, `.bin` and `current.wal` only.
pub const SUPERSEDED: &str = "superseded";

/// The first line.
const FIRST_LINE: &str = "superseded 1";

/// Bytes of a list that is still read: some hundred thousand files.
const LIST_BYTES_MAX: usize = 16 << 20;

/// What becomes of a file that is superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Then {
    /// All that is in it is elsewhere: it is unlinked.
    Remove,
    /// It also holds what could not be read: it is [set aside](set_aside).
    SetAside,
}

/// A file on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: OsString,
    then: Then,
    bytes: u64,
    crc: u32,
}

/// Files of a host directory that do not count any more, and those that say what they said.
///
/// Invariant: while it stands in the directory nobody but [`supersede`] unlinks one of either kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Superseded {
    by: Vec<OsString>,
    files: Vec<Listed>,
}

/// Why files were not superseded, or are still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupersedeError {
    /// A file that was to give way could not be read. Nothing was unlinked.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name cannot stand on a list. Nothing was unlinked.
    #[error("{path} has a name that no list takes")]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// The list could not be put in place. Nothing was unlinked.
    #[error("cannot write {path}")]
    List {
        /// The list.
        path: PathBuf,
        /// At which step, and what the system said.
        source: ReplaceError,
    },
    /// A file could not be unlinked. Where there is a list it counts as gone, else as it did before.
    #[error("cannot remove {path}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be set aside. Where there is a list it counts as gone, else as it did before.
    #[error("cannot set a superseded file aside")]
    SetAside(#[from] SetAsideError),
    /// The files are gone, but a power loss may bring them back; the list, if there is one, stands.
    #[error("cannot sync the names in {path}")]
    SyncDir {
        /// The host directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Superseded {
    /// The list of a host directory: `None` if it is damaged.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (covered, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let crc = u32::from_str_radix(last.strip_prefix("crc ")?, 16).ok()?;
        let mut lines = covered.lines();
        if crc32fast::hash(covered.as_bytes()) != crc || lines.next() != Some(FIRST_LINE) {
            return None;
        }
        let mut list = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let (what, name) = (words.next()?, OsString::from(words.next()?));
            let then = match what {
                "by" => {
                    list.by.push(name);
                    continue;
                }
                "remove" => Then::Remove,
                "aside" => Then::SetAside,
                _ => return None,
            };
            let bytes = words.next()?.parse().ok()?;
            list.files.push(Listed { name, then, bytes, crc: u32::from_str_radix(words.next()?, 16).ok()? });
        }
        Some(list)
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = FIRST_LINE.to_owned();
        for name in &self.by {
            // Names were looked at when the list was made.
            text.push_str(&format!("\nby {}", name.display()));
        }
        for Listed { name, then, bytes, crc } in &self.files {
            let what = if *then == Then::Remove { "remove" } else { "aside" };
            text.push_str(&format!("\n{what} {} {bytes} {crc:08X}", name.display()));
        }
        let crc = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("\ncrc {crc:08X}\n"));
        text.into_bytes()
    }

    /// Reads the list of a host directory whose entries are `names`; leaves out files that are not there any more, or
    /// are others by now. `None` if there is none, or if it is void: damaged, or one of those files is missing or
    /// damaged that say what the others said.
    ///
    /// # Errors
    /// What the system says; the path is that of the file.
    pub(crate) fn read(
        disk: &dyn Disk,
        host_dir: &Path,
        names: &dyn Fn(&OsStr) -> bool,
    ) -> Result<Option<Self>, (PathBuf, io::Error)> {
        let path = host_dir.join(SUPERSEDED);
        let front = disk.read_front(&path, LIST_BYTES_MAX).map_err(|e| (path, e))?;
        let Some(mut list) = Self::decode(&front) else { return Ok(None) };
        for name in &list.by {
            if !names(name) || !is_whole(disk, host_dir, name)? {
                return Ok(None);
            }
        }
        let mut there = Vec::new();
        for file in list.files {
            if names(&file.name) && file.is_at(disk, host_dir)? {
                there.push(file);
            }
        }
        list.files = there;
        Ok(Some(list))
    }

    /// The files that are still there.
    pub fn files(&self, host_dir: &Path) -> Vec<(PathBuf, Then)> {
        self.files.iter().map(|file| (host_dir.join(&file.name), file.then)).collect()
    }

    /// Whether the file of this name does not count any more.
    pub fn has(&self, name: &OsStr) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Ends what was begun: unlinks the files that are left, then the list.
    ///
    /// # Errors
    /// [`SupersedeError`]: what is left goes on not to count. May be tried again.
    pub fn finish(&self, disk: &dyn Disk, host_dir: &Path) -> Result<(), SupersedeError> {
        self.unlink(disk, host_dir)?;
        remove_list(disk, host_dir)
    }

    /// Unlinks all files, durably. Goes on behind one that fails.
    fn unlink(&self, disk: &dyn Disk, host_dir: &Path) -> Result<(), SupersedeError> {
        let mut failed = None;
        for file in &self.files {
            let path = host_dir.join(&file.name);
            let gone = match file.then {
                Then::Remove => disk.remove(&path).map_err(|source| SupersedeError::Remove { path, source }),
                Then::SetAside => set_aside(disk, &path).map(drop).map_err(SupersedeError::from),
            };
            failed = failed.or(gone.err());
        }
        failed.map_or(Ok(()), Err)?;
        sync_dir(disk, host_dir)
    }
}

impl Listed {
    fn describe(path: &Path, then: Then, bytes: &[u8]) -> Result<Self, SupersedeError> {
        let name = path.file_name().filter(|name| is_plain(name));
        let name = name.ok_or_else(|| SupersedeError::Name { path: path.to_owned() })?.to_owned();
        Ok(Self { name, then, bytes: bytes.len() as u64, crc: crc32fast::hash(bytes) })
    }

    /// Whether the file of this name is the one that was listed.
    fn is_at(&self, disk: &dyn Disk, host_dir: &Path) -> Result<bool, (PathBuf, io::Error)> {
        let path = host_dir.join(&self.name);
        // Read rather than mapped: a page that the disk does not give is an error then, and not a signal.
        match disk.read(&path) {
            Ok(bytes) => Ok(bytes.len() as u64 == self.bytes && crc32fast::hash(&bytes) == self.crc),
            Err(e) => Err((path, e)),
        }
    }
}

/// Has `files` of a host directory give way to the files `by`, which are durable, and hold all that is wanted of them:
/// they count as gone from one moment on, whatever happens then. Files that are gone already are passed over.
///
/// To be called again with what is left, and with `by` as it is then, until it succeeds; until then none of `by` may be
/// unlinked otherwise. None of `files` may have a name that is in `by`.
///
/// # Errors
/// See [`SupersedeError`]: each variant says what state is left. May be tried again.
pub fn supersede(
    disk: &dyn Disk,
    host_dir: &Path,
    by: &[PathBuf],
    files: &[(PathBuf, Then)],
) -> Result<(), SupersedeError> {
    let mut list = Superseded::default();
    for path in by {
        let name = path.file_name().filter(|name| is_plain(name));
        list.by.push(name.ok_or_else(|| SupersedeError::Name { path: path.clone() })?.to_owned());
    }
    // The list itself goes last, and by itself.
    for (path, then) in files.iter().filter(|(path, _)| path.file_name() != Some(OsStr::new(SUPERSEDED))) {
        match disk.read(path) {
            Ok(bytes) => list.files.push(Listed::describe(path, *then, &bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SupersedeError::Read { path: path.clone(), source }),
        }
    }
    let path = host_dir.join(SUPERSEDED);
    let is_there = match disk.len(&path) {
        Ok(_) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(SupersedeError::Read { path, source }),
    };
    // One unlink is atomic by itself. A list that is there names files that this one may not know.
    if is_there || list.files.len() > 1 {
        replace(disk, &path, &list.encode()).map_err(|source| SupersedeError::List { path, source })?;
        list.finish(disk, host_dir)
    } else {
        list.unlink(disk, host_dir)
    }
}

/// The list goes last, and its files durably before it: else a power loss might bring back files without it.
fn remove_list(disk: &dyn Disk, host_dir: &Path) -> Result<(), SupersedeError> {
    let path = host_dir.join(SUPERSEDED);
    match disk.remove(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(SupersedeError::Remove { path, source }),
        Ok(()) => {}
    }
    sync_dir(disk, host_dir)
}

fn sync_dir(disk: &dyn Disk, host_dir: &Path) -> Result<(), SupersedeError> {
    disk.sync_dir(host_dir).map_err(|source| SupersedeError::SyncDir { path: host_dir.to_owned(), source })
}

/// Whether a name can stand on a list. Those of checkpoints can.
fn is_plain(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_graphic)
}

/// Whether a dump or block file says all that it was written with.
fn is_whole(disk: &dyn Disk, host_dir: &Path, name: &OsStr) -> Result<bool, (PathBuf, io::Error)> {
    let path = host_dir.join(name);
    let bytes: Bytes = match disk.read(&path) {
        Ok(bytes) => bytes.into(),
        Err(e) => return Err((path, e)),
    };
    if name.as_encoded_bytes().ends_with(b".json") {
        return Ok(DumpFormat::Json.decode(&bytes).is_ok());
    }
    if bin1::is_version_1(&bytes) {
        return Ok(DumpFormat::Bin1.decode(&bytes).is_ok());
    }
    let opened = Opened::of_bytes(bytes, &path, &Arc::default());
    Ok(opened.index.header_good && opened.is_undamaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Superseded {
        let listed = |name: &str, then| Listed::describe(Path::new(name), then, name.as_bytes()).unwrap();
        Superseded {
            by: vec!["100.json".into()],
            files: vec![listed("-5.bin", Then::Remove), listed("current.wal", Then::SetAside)],
        }
    }

    #[test]
    fn a_list_reads_back_as_it_was_written() {
        for list in [list(), Superseded::default()] {
            assert_eq!(Superseded::decode(&list.encode()), Some(list));
        }
    }

    #[test]
    fn a_list_that_was_cut_or_flipped_is_void() {
        let bytes = list().encode();
        for cut in 0..bytes.len() {
            assert_eq!(Superseded::decode(&bytes[..cut]), None, "cut at byte {cut}");
        }
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let read = Superseded::decode(&flipped);
            // A hexadecimal digit may be written in lower case.
            assert!(read.is_none() || read == Some(list()), "bit {at}: {read:?}");
        }
    }

    #[test]
    fn a_name_that_would_break_a_line_is_refused() {
        for name in ["a\nby 1.bin", "a b.bin", "\u{fc}.bin"] {
            let refused = Listed::describe(Path::new(name), Then::Remove, b"");
            assert!(matches!(refused, Err(SupersedeError::Name { .. })), "{name:?}");
        }
    }
}
