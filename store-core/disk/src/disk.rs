//! The [`Disk`] trait: every call that the store makes to a file system.
//!
//! The contract is that of a file system weaker than ext4: what was written and not synced may be lost in
//! any part; a new name is durable only after its directory was synced; after a failed sync the pages count
//! as clean but need not be on disk, so a caller never syncs the same file again and believes it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::view::{FileView, ReadFile, WholeFile};

/// What a directory entry is. Symbolic links are reported as such and never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: symbolic links, sockets, devices.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without its directory. Need not be UTF-8.
    pub name: OsString,
    /// What stands behind the name.
    pub kind: EntryKind,
}

/// Which file or directory it is, whatever its name: two are equal only for the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Number of the file system.
    pub device: u64,
    /// Number within it. Not given out again while somebody has the file or directory open.
    pub inode: u64,
}

/// The room on a file system, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What this process may still use.
    pub free_bytes: u64,
    /// What there is in all.
    pub total_bytes: u64,
}

/// A file that was created by this process and is written from front to back.
pub trait DiskFile: Send + std::fmt::Debug {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// Any part of `bytes` may have reached the file; the caller must not append behind it.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable (`fdatasync`). Says nothing about the file's name.
    ///
    /// # Errors
    /// What was not durable before may be lost for good; a later success says nothing about it.
    fn sync(&mut self) -> io::Result<()>;

    /// A view of the bytes that were appended so far, mapped; `None` where they would have to be read. More may be
    /// appended behind them while the view lives.
    ///
    /// # Errors
    /// What the system says.
    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        Ok(None)
    }
}

/// Holds the lock of a directory until it is dropped.
pub trait DiskLock: Send + Sync + std::fmt::Debug {
    /// Which directory is locked, whatever its name is now. Its number is not given out again while it is locked.
    fn identity(&self) -> Identity;
}

/// Whether an error says that the process or the machine has no descriptors or no memory left, and so nothing of what was
/// asked for.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// A file system as the store uses it.
///
/// All paths are absolute or relative to the process, exactly as given in the config.
/// Implementations retry `EINTR` and short writes themselves.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Creates one directory (mode 0755); its parent exists. `Ok(true)` if it was created, `Ok(false)` if it
    /// was there already.
    ///
    /// # Errors
    /// Any error of `mkdir` but "exists as a directory".
    fn create_dir(&self, path: &Path) -> io::Result<bool>;

    /// Lists a directory in the order of names.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, and what the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Reads a whole file into memory.
    ///
    /// # Errors
    /// What the system says; symbolic links are refused.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Reads at most `len` bytes from the front of a file.
    ///
    /// # Errors
    /// As [`read`](Disk::read).
    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>>;

    /// Opens a file to read parts of it, or to keep it at hand. Of one that is still appended to, what is in it now.
    /// The file may be unlinked or renamed meanwhile. Where nothing better is known, as much as to read all of it: a copy
    /// that stands for the file.
    ///
    /// # Errors
    /// As [`read`](Disk::read).
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(WholeFile::simulated(self.read(path)?.into())))
    }

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Creates a new file (mode 0644); fails with `AlreadyExists` if the name is taken.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Syncs the content of a file that an earlier process wrote.
    ///
    /// # Errors
    /// As [`DiskFile::sync`].
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says; the names may or may not be durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Syncs everything written so far to the file system that holds `dir`, contents and names, and reports
    /// earlier write-back errors (`syncfs` of Linux 5.8 and later). `Ok(false)`: not available here, nothing
    /// was done.
    ///
    /// # Errors
    /// Something that was written may be lost; nothing tells what.
    fn sync_all(&self, dir: &Path) -> io::Result<bool>;

    /// Renames a file within one file system, without replacing: fails with `AlreadyExists`.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, replacing `to` if it exists (atomic).
    ///
    /// # Errors
    /// What the system says.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the system says, also that it is not empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The path of a directory that exists: where its last component is a symbolic link, the path that it leads to;
    /// otherwise the path as it was given.
    ///
    /// # Errors
    /// `NotFound` where the path, or what the link names, does not exist; `NotADirectory`; what the system says.
    fn resolve(&self, dir: &Path) -> io::Result<PathBuf>;

    /// Which file or directory the path leads to now. A symbolic link at its end is not followed.
    ///
    /// # Errors
    /// What the system says.
    fn identity(&self, path: &Path) -> io::Result<Identity>;

    /// The room on the file system that holds `dir`.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Takes the exclusive lock (flock) of a directory; fails with `WouldBlock` if another process has it.
    ///
    /// # Errors
    /// `WouldBlock`, and what the system says.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>>;
}
