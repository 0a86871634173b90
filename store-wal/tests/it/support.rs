//! A disk that watches its caller, and short hands for what every test does.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use store_disk::sim::Op;
use store_disk::{Disk, DiskFile, DiskLock, Entry, Lineage, ReadFile, SimDisk};
use store_wal::{Appended, Found, Log, LogOptions, LogPos, ReplayReport, replay, scan};

pub(crate) const DIR: &str = "/data/.wal";
pub(crate) const LINEAGE: Lineage = Lineage([0xA5; 16]);
pub(crate) const KIND: u8 = 16;

type Hook = Box<dyn FnMut(Op, &Path) + Send>;
type Lie = Box<dyn Fn(Op, &Path) -> bool + Send>;

/// A [`SimDisk`] that tells a hook of every call before it is made, may lie about calls (say that they were
/// done and not do them), and fails the test when a file is touched after a write or sync of it failed.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) disk: SimDisk,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    hook: Option<Hook>,
    lie: Option<Lie>,
    poisoned: HashSet<PathBuf>,
    failed: bool,
}

impl Probe {
    pub(crate) fn new(disk: &SimDisk) -> Self {
        Self { disk: disk.clone(), inner: Arc::default() }
    }

    pub(crate) fn arc(disk: &SimDisk) -> Arc<Self> {
        Arc::new(Self::new(disk))
    }

    pub(crate) fn set_hook(&self, hook: impl FnMut(Op, &Path) + Send + 'static) {
        self.inner.lock().unwrap().hook = Some(Box::new(hook));
    }

    pub(crate) fn clear_hook(&self) {
        self.inner.lock().unwrap().hook = None;
    }

    pub(crate) fn set_lie(&self, lie: impl Fn(Op, &Path) -> bool + Send + 'static) {
        self.inner.lock().unwrap().lie = Some(Box::new(lie));
    }

    /// Tells the hook; calls that the hook makes are not told. Whether to lie about the call.
    fn enter(&self, op: Op, path: &Path) -> bool {
        let hook = self.inner.lock().unwrap().hook.take();
        if let Some(mut hook) = hook {
            hook(op, path);
            self.inner.lock().unwrap().hook.get_or_insert(hook);
        }
        self.inner.lock().unwrap().lie.as_ref().is_some_and(|lie| lie(op, path))
    }

    /// Whether a write or sync has failed, other than by the crash, since the last call of this.
    pub(crate) fn take_failed(&self) -> bool {
        std::mem::take(&mut self.inner.lock().unwrap().failed)
    }

    fn check(&self, path: &Path) {
        assert!(
            !self.inner.lock().unwrap().poisoned.contains(path),
            "{} used after it failed",
            path.display()
        );
    }

    fn result<T>(&self, path: &Path, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let mut inner = self.inner.lock().unwrap();
            inner.poisoned.insert(path.to_owned());
            inner.failed |= !SimDisk::is_crash(error);
        }
        result
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Disk for Probe {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.enter(Op::CreateDir, path);
        self.disk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.enter(Op::List, dir);
        self.disk.list(dir)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.enter(Op::Read, path);
        self.disk.read(path)
    }
    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        self.enter(Op::ReadFront, path);
        self.disk.read_front(path, len)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.enter(Op::Map, path);
        self.disk.open(path)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.enter(Op::Len, path);
        self.disk.len(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.enter(Op::Create, path);
        let file = self.disk.create(path)?;
        // Another file of the same name.
        self.inner.lock().unwrap().poisoned.remove(path);
        Ok(Box::new(ProbeFile { probe: self.clone(), path: path.to_owned(), file }))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        if self.enter(Op::SyncFile, path) {
            return Ok(());
        }
        let result = self.disk.sync_file(path);
        self.result(path, result)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.enter(Op::SyncDir, dir) { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        self.enter(Op::SyncAll, dir);
        self.disk.sync_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter(Op::Rename, from);
        self.disk.rename(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter(Op::RenameOver, from);
        self.disk.rename_over(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.enter(Op::Remove, path);
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.enter(Op::RemoveDir, path);
        self.disk.remove_dir(path)
    }
    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        self.disk.resolve(dir)
    }
    fn identity(&self, path: &Path) -> io::Result<store_disk::Identity> {
        self.disk.identity(path)
    }
    fn space(&self, dir: &Path) -> io::Result<store_disk::Space> {
        self.disk.space(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.enter(Op::Lock, dir);
        self.disk.lock(dir)
    }
}

#[derive(Debug)]
struct ProbeFile {
    probe: Probe,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl DiskFile for ProbeFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.probe.check(&self.path);
        self.probe.enter(Op::Append, &self.path);
        let result = self.file.append(bytes);
        self.probe.result(&self.path, result)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.probe.check(&self.path);
        if self.probe.enter(Op::Sync, &self.path) {
            return Ok(());
        }
        let result = self.file.sync();
        self.probe.result(&self.path, result)
    }
}

/// The file of a segment.
pub(crate) fn segment(number: u32) -> PathBuf {
    PathBuf::from(format!("{DIR}/{number:020}.wal"))
}

/// A disk with the parent of the log's directory, as a config names it.
pub(crate) fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir("/data").unwrap();
    disk
}

pub(crate) fn found(disk: &dyn Disk) -> Found {
    scan(disk, Path::new(DIR)).unwrap()
}

/// Opens the log of the next process, above what lies there, with the S that it finds.
pub(crate) fn open(disk: Arc<dyn Disk>) -> Log {
    open_with(disk, LogOptions::default())
}

pub(crate) fn open_with(disk: Arc<dyn Disk>, options: LogOptions) -> Log {
    let found = found(disk.as_ref());
    let start = found.start(LINEAGE).unwrap_or_default();
    Log::open(disk, DIR.into(), &found, LINEAGE, 0, start, options).unwrap()
}

/// Appends one entry, which must be logged, to the current segment.
pub(crate) fn append(log: &Log, payload: &[u8]) -> LogPos {
    match log.append(log.segment(), &[(KIND, payload)]) {
        Appended::At { first, last, logged: true } => {
            assert_eq!(first, last);
            last
        }
        other => panic!("{other:?}"),
    }
}

/// What a replay from `from` hands out.
pub(crate) fn replay_from(disk: &dyn Disk, from: LogPos) -> (Vec<(LogPos, Vec<u8>)>, ReplayReport) {
    let mut got = Vec::new();
    let report = replay(disk, &found(disk), LINEAGE, from, &mut |position, kind, bytes| {
        assert_eq!(kind, KIND);
        got.push((position, bytes.to_vec()));
    });
    (got, report)
}

/// What a replay from the S that is found hands out.
pub(crate) fn replayed(disk: &dyn Disk) -> Vec<(LogPos, Vec<u8>)> {
    replay_from(disk, found(disk).start(LINEAGE).unwrap_or_default()).0
}
