//! [`HeldDisk`]: a disk that is used through one directory, and notices when its name leads elsewhere.
//!
//! A directory can be removed, renamed, or covered by a mount while a process works in it. Whoever goes by its path
//! then writes into somebody else's files, or into none; whoever has a file open goes on writing to one that nobody
//! will find.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, DiskLock, Entry, Identity, Space};
use crate::view::{FileView, ReadFile};

/// Why a call was refused: a name does not lead any more to what this process holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathLost {
    /// Nothing has the name of the directory any more.
    #[error("the directory {0} was removed, renamed or unmounted while it was in use")]
    DirectoryGone(PathBuf),
    /// The name of the directory leads to another one, which is left alone.
    #[error("the directory {0} was replaced by another one while it was in use")]
    DirectoryReplaced(PathBuf),
    /// A file that was just synced cannot be found under its name.
    #[error("the file {0} was removed or replaced while it was in use")]
    FileGone(PathBuf),
}

impl PathLost {
    /// The reason in an error, if it is one of these.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<PathLost> for io::Error {
    /// Never `NotFound`: who removes a file may take that for done.
    fn from(lost: PathLost) -> Self {
        Self::new(io::ErrorKind::StaleNetworkFileHandle, lost)
    }
}

/// A disk below one locked directory. Every call by a path is refused with [`PathLost`] once the path of the directory
/// leads to another one, and a sync succeeds only if the directory is still there afterwards, and the file under
/// its name. When the directory is back all is as before.
///
/// Looking and acting are two calls, so a moment is left between them. To go by descriptors (`openat`) would close
/// it, and every reader of a path would have to carry one.
#[derive(Debug)]
pub struct HeldDisk {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    identity: Identity,
    _lock: Box<dyn DiskLock>,
}

impl HeldDisk {
    /// Holds `directory`, which `lock` has locked.
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf, lock: Box<dyn DiskLock>) -> Self {
        Self { disk, directory, identity: lock.identity(), _lock: lock }
    }

    /// Whether the path still leads to the directory that is locked.
    ///
    /// # Errors
    /// [`PathLost`] in it if it does not, and what the system says.
    pub fn check(&self) -> io::Result<()> {
        match self.disk.identity(&self.directory) {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(PathLost::DirectoryReplaced(self.directory.clone()).into()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(PathLost::DirectoryGone(self.directory.clone()).into())
            }
            Err(e) => Err(e),
        }
    }

    /// The disk, if the directory is there.
    fn checked(&self) -> io::Result<&dyn Disk> {
        self.check()?;
        Ok(&*self.disk)
    }
}

impl Disk for HeldDisk {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.checked()?.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.checked()?.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.checked()?.read(path)
    }

    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        self.checked()?.read_front(path, len)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.checked()?.open(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.checked()?.len(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.checked()?.create(path)?;
        let named = Named { disk: Arc::clone(&self.disk), path: path.to_owned() };
        let identity = named.disk.identity(path)?;
        let directory = (self.directory.clone(), self.identity);
        Ok(Box::new(HeldFile { file, named, identity, directory }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.checked()?.sync_file(path)?;
        self.check()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.checked()?.sync_dir(dir)?;
        self.check()
    }

    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        let done = self.checked()?.sync_all(dir)?;
        self.check()?;
        Ok(done)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.checked()?.rename(from, to)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.checked()?.rename_over(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.checked()?.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.checked()?.remove_dir(path)
    }

    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        self.checked()?.resolve(dir)
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        self.checked()?.identity(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.checked()?.space(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.checked()?.lock(dir)
    }
}

/// A name on a disk.
#[derive(Debug)]
struct Named {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// A file that counts as synced only under its name.
#[derive(Debug)]
struct HeldFile {
    file: Box<dyn DiskFile>,
    named: Named,
    identity: Identity,
    directory: (PathBuf, Identity),
}

impl HeldFile {
    /// Whether the file is still under its name. Its path leads through the directory, so one look is enough while it
    /// is.
    fn check(&self) -> io::Result<()> {
        match self.named.disk.identity(&self.named.path) {
            Ok(found) if found == self.identity => return Ok(()),
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(e);
            }
            _ => {}
        }
        let (directory, identity) = &self.directory;
        Err(match self.named.disk.identity(directory) {
            Ok(found) if found == *identity => PathLost::FileGone(self.named.path.clone()),
            Ok(_) => PathLost::DirectoryReplaced(directory.clone()),
            Err(_) => PathLost::DirectoryGone(directory.clone()),
        }
        .into())
    }
}

impl DiskFile for HeldFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.check()
    }

    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        self.file.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;

    const DIR: &str = "/var/store";

    fn held(disk: &SimDisk) -> HeldDisk {
        disk.put_dir(DIR).unwrap();
        HeldDisk::new(Arc::new(disk.clone()), DIR.into(), disk.lock(Path::new(DIR)).unwrap())
    }

    fn why(result: io::Result<impl std::fmt::Debug>) -> PathLost {
        PathLost::of(&result.unwrap_err()).unwrap().clone()
    }

    #[test]
    fn a_directory_that_was_removed_takes_nothing_and_syncs_nothing_until_it_is_back() {
        let disk = SimDisk::new();
        let held = held(&disk);
        let (file, other) = (Path::new("/var/store/a"), Path::new("/var/store/b"));
        let mut open = held.create(file).unwrap();
        open.append(b"x").unwrap();
        open.sync().unwrap();
        disk.rename(Path::new(DIR), Path::new("/var/away")).unwrap();
        assert_eq!(why(open.sync()), PathLost::DirectoryGone(DIR.into()));
        assert_eq!(why(held.create(other)), PathLost::DirectoryGone(DIR.into()));
        assert_eq!(why(held.sync_all(Path::new(DIR))), PathLost::DirectoryGone(DIR.into()));
        disk.rename(Path::new("/var/away"), Path::new(DIR)).unwrap();
        open.sync().unwrap();
        held.create(other).unwrap();
    }

    #[test]
    fn another_directory_under_the_name_is_neither_written_nor_read_nor_removed_from() {
        let disk = SimDisk::new();
        let held = held(&disk);
        let file = Path::new("/var/store/a");
        let mut open = held.create(file).unwrap();
        disk.rename(Path::new(DIR), Path::new("/var/away")).unwrap();
        disk.put(file, "of somebody else").unwrap();
        let before = disk.files();
        let replaced = PathLost::DirectoryReplaced(DIR.into());
        assert_eq!(why(open.sync()), replaced);
        assert_eq!(why(held.remove(file)), replaced);
        assert_eq!(why(held.read(file)), replaced);
        assert_eq!(why(held.create_dir(Path::new("/var/store/c"))), replaced);
        assert_eq!(why(held.rename(file, Path::new("/var/store/z"))), replaced);
        assert_eq!(disk.files(), before);
    }

    #[test]
    fn a_file_without_its_name_is_not_synced() {
        let disk = SimDisk::new();
        let held = held(&disk);
        let path = Path::new("/var/store/a");
        let mut open = held.create(path).unwrap();
        disk.take(path).unwrap();
        assert_eq!(why(open.sync()), PathLost::FileGone(path.into()));
        disk.put(path, "another").unwrap();
        assert_eq!(why(open.sync()), PathLost::FileGone(path.into()));
    }

    #[test]
    fn a_removed_name_is_never_an_error_that_counts_as_done() {
        let error = io::Error::from(PathLost::DirectoryGone(DIR.into()));
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
    }
}
