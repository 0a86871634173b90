//! [`Watched`]: a disk whose calls count as steps of the job that makes them.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_disk::{Disk, DiskFile, DiskLock, Entry, FileView, Identity, ReadFile, Space};

use super::jobs::{InCall, Jobs};

/// A disk, and the jobs that call it.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    disk: Arc<dyn Disk>,
    jobs: Arc<Jobs>,
    /// Whether threads of requests call it too: then only those count that know whose they are.
    shared: bool,
}

/// A file of it.
#[derive(Debug)]
struct WatchedFile {
    file: Box<dyn DiskFile>,
    disk: Watched,
}

/// A file of it that is read.
#[derive(Debug)]
struct WatchedRead {
    file: Box<dyn ReadFile>,
    disk: Watched,
}

impl Watched {
    pub(super) fn new(disk: Arc<dyn Disk>, jobs: Arc<Jobs>, shared: bool) -> Self {
        Self { disk, jobs, shared }
    }

    fn call(&self) -> InCall<'_> {
        self.jobs.enter_disk(self.shared)
    }
}

impl Disk for Watched {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let _call = self.call();
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let _call = self.call();
        self.disk.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let _call = self.call();
        self.disk.read(path)
    }

    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        let _call = self.call();
        self.disk.read_front(path, len)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let _call = self.call();
        let file = self.disk.open(path)?;
        Ok(Box::new(WatchedRead { file, disk: self.clone() }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let _call = self.call();
        self.disk.len(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let _call = self.call();
        let file = self.disk.create(path)?;
        Ok(Box::new(WatchedFile { file, disk: self.clone() }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let _call = self.call();
        self.disk.sync_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let _call = self.call();
        self.disk.sync_dir(dir)
    }

    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        let _call = self.call();
        self.disk.sync_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _call = self.call();
        self.disk.rename(from, to)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _call = self.call();
        self.disk.rename_over(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let _call = self.call();
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let _call = self.call();
        self.disk.remove_dir(path)
    }

    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        let _call = self.call();
        self.disk.resolve(dir)
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        let _call = self.call();
        self.disk.identity(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let _call = self.call();
        self.disk.space(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        let _call = self.call();
        self.disk.lock(dir)
    }
}

impl DiskFile for WatchedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _call = self.disk.call();
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let _call = self.disk.call();
        self.file.sync()
    }

    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        let _call = self.disk.call();
        self.file.view()
    }
}

impl ReadFile for WatchedRead {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let _call = self.disk.call();
        self.file.read_at(range)
    }

    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        let _call = self.disk.call();
        self.file.view()
    }
}
