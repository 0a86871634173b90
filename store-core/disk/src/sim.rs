//! A simulated file system that keeps what is written apart from what is durable, fails where it is told to,
//! and shows what a kill or a power loss would leave at any moment.
//!
//! The model is weaker than ext4, the same as the contract of [`Disk`]:
//!
//! * Every append, and every change of a name, is an operation that persists by itself or not, in any
//!   combination, until a sync covers it. Moving a name between directories is two of them.
//! * [`sync`](DiskFile::sync) makes a file's content durable, not its name; [`sync_dir`](Disk::sync_dir) a
//!   directory's names, not the contents nor the directory's own name; [`sync_all`](Disk::sync_all) everything.
//! * After a sync that failed with [`Effect::Lose`] the content counts as clean: it can be read until the power
//!   fails, a later sync succeeds, and it is not on disk. Other descriptors of the file, and the next
//!   `sync_all`, report the error once, as Linux does.
//! * Where a lost append is followed by one that persisted, its bytes read as zeros ([`Keep::Random`]: or as
//!   garbage, or as bytes of another file); at the end the file is shorter.
//!
//! Everything is deterministic: the same calls give the same images. Not modelled: links, permissions (inject
//! `EACCES`), the space that names take ([`set_capacity`](SimDisk::set_capacity) bounds contents), and processes that share a directory, but for its lock.
//!
//! ```
//! use std::path::Path;
//! use store_disk::sim::{Keep, Torn};
//! use store_disk::{Disk, SimDisk};
//!
//! let disk = SimDisk::new();
//! let mut file = disk.create(Path::new("/a"))?;
//! file.append(b"synced ")?;
//! file.sync()?;
//! disk.sync_dir(Path::new("/"))?;
//! file.append(b"not")?;
//!
//! assert_eq!(disk.after_kill().read(Path::new("/a"))?, b"synced not");
//! assert_eq!(disk.after_power_loss(&Keep::Nothing).read(Path::new("/a"))?, b"synced ");
//!
//! disk.crash_at(disk.calls(), Torn::Bytes(2));
//! assert!(SimDisk::is_crash(&file.append(b"torn").unwrap_err()));
//! assert_eq!(disk.after_kill().read(Path::new("/a"))?, b"synced notto");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, DiskLock, Entry, Identity, Space};
use crate::view::{FileView, ReadFile, WholeFile};

mod fault;
mod file;
mod inspect;
mod loss;
mod state;

pub use fault::{Call, Effect, Fault, Op, Torn};
pub use loss::{Crash, Keep, Unsynced};

use fault::Verdict;
use state::{Ino, State, errno};

/// A handle to a simulated disk; clones are handles to the same disk, [`fork`](SimDisk::fork) makes another.
///
/// A new disk holds an empty root directory, which is durable. Relative and absolute paths mean the same.
#[derive(Clone, Default)]
pub struct SimDisk {
    /// Guards the whole disk; held for one call at a time.
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An independent copy of this disk at this moment, with its faults, counters and locks. Cheap: contents
    /// are shared until one side changes them. Open files and locks go on belonging to the original.
    pub fn fork(&self) -> Self {
        Self::from_state(self.state().clone())
    }

    fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked inside a predicate leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call, lets faults and the crash have their say, and does the work.
    fn call<T>(
        &self,
        op: Op,
        path: &Path,
        to: Option<&Path>,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        match state.script.begin(op, path, to, 0) {
            Verdict::Go => work(&mut state),
            Verdict::Done(error) => work(&mut state).and(Err(error)),
            Verdict::Fail(error) | Verdict::Lose(error) | Verdict::Short(_, error) => Err(error),
        }
    }

    /// Looks at something without being counted as a call: between two calls that are counted nothing changes that a
    /// crash could show.
    fn look<T>(&self, op: Op, path: &Path, work: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.script.look(op, path).into_result()?;
        work(&state)
    }
}

/// The number of files only: contents help nobody in a failed assertion.
impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(f, "SimDisk({} inodes, {} calls)", state.inodes(), state.script.calls)
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.call(Op::CreateDir, path, None, |state| state.create_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.call(Op::List, dir, None, |state| state.list(dir))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(Op::Read, path, None, |state| Ok(state.file(path)?.1.content()))
    }

    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        self.call(Op::ReadFront, path, None, |state| {
            let mut content = state.file(path)?.1.content();
            content.truncate(len);
            Ok(content)
        })
    }

    /// A copy: what happens to the file afterwards does not reach it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let content = self.call(Op::Map, path, None, |state| Ok(state.file(path)?.1.content()))?;
        Ok(Box::new(WholeFile::simulated(content.into())))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.call(Op::Len, path, None, |state| Ok(state.file(path)?.1.len()))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let ino = self.call(Op::Create, path, None, |state| state.create(path))?;
        Ok(Box::new(SimFile { disk: self.clone(), ino, path: path.to_owned(), errors_seen: 0 }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let verdict = state.script.begin(Op::SyncFile, path, None, 0);
        match state.file(path) {
            Ok((ino, file)) => {
                let mut errors_seen = file.errors_on_open();
                state.sync(ino, &mut errors_seen, verdict)
            }
            Err(error) => verdict.into_result().and(Err(error)),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Op::SyncDir, dir, None, |state| state.sync_dir(dir))
    }

    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        let mut state = self.state();
        let verdict = state.script.begin(Op::SyncAll, dir, None, 0);
        state.sync_all(dir, verdict)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Op::Rename, from, Some(to), |state| state.rename(from, to, false))
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Op::RenameOver, from, Some(to), |state| state.rename(from, to, true))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Op::Remove, path, None, |state| state.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Op::RemoveDir, path, None, |state| state.remove_dir(path))
    }

    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        self.look(Op::Resolve, dir, |state| state.dir(dir).map(|_| dir.to_owned()))
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        self.look(Op::Identity, path, |state| Ok(identity_of(state.resolve(path)?)))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.look(Op::Space, dir, |state| state.dir(dir).map(|_| state.space()))
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        let ino = self.call(Op::Lock, dir, None, |state| {
            let ino = state.dir(dir)?;
            if state.locks.insert(ino) { Ok(ino) } else { Err(errno(libc::EWOULDBLOCK)) }
        })?;
        Ok(Box::new(SimLock { disk: self.clone(), ino }))
    }
}

/// A file open for appending.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    ino: Ino,
    path: PathBuf,
    /// Write-back errors of the file that this descriptor has reported.
    errors_seen: u32,
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let (bytes, result) = match state.script.begin(Op::Append, &self.path, None, bytes.len()) {
            Verdict::Go => (bytes, Ok(())),
            Verdict::Done(error) => (bytes, Err(error)),
            Verdict::Short(torn, error) => {
                let len = torn.len(state.len_of(self.ino), bytes.len());
                (bytes.get(..len).unwrap_or(bytes), Err(error))
            }
            Verdict::Fail(error) | Verdict::Lose(error) => (&[][..], Err(error)),
        };
        let room = usize::try_from(state.space().free_bytes).unwrap_or(usize::MAX);
        if let Some(fits) = bytes.get(..room).filter(|fits| fits.len() < bytes.len()) {
            state.append(self.ino, fits);
            return Err(errno(libc::ENOSPC));
        }
        state.append(self.ino, bytes);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let verdict = state.script.begin(Op::Sync, &self.path, None, 0);
        state.sync(self.ino, &mut self.errors_seen, verdict)
    }

    /// A copy, as that of [`Disk::open`].
    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        let mut state = self.disk.state();
        state.script.begin(Op::Map, &self.path, None, 0).into_result()?;
        Ok(Some(Arc::new(WholeFile::simulated(state.content_of(self.ino).into()))))
    }
}

/// Gives the lock back when dropped.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    ino: Ino,
}

impl DiskLock for SimLock {
    fn identity(&self) -> Identity {
        identity_of(self.ino)
    }
}

fn identity_of(ino: Ino) -> Identity {
    Identity { device: 0, inode: ino }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.ino);
    }
}

#[cfg(test)]
mod tests;
