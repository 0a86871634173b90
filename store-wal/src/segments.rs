//! [`Segments`]: the files of a log: opened one after the other, and removed when they are not needed.
//!
//! Knows no buffer and no position but S; everything here waits for the disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store_disk::{Disk, DiskFile, Lineage};

use crate::error::{CallError, OpenError, RemoveError};
use crate::log::Retired;
use crate::scan::{self, Found};
use crate::{LogPos, format};

/// Numbers that are tried for a new segment while their names turn out to be taken.
const NUMBERS_TRIED_MAX: u32 = 100;

/// What opening and retiring segments needs to know.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lineage: Lineage,
    /// Greatest number taken so far, by any process.
    greatest: u32,
    /// Number of the last segment that was opened to the end, or the greatest found.
    current: u32,
    /// Whether this process has synced the parent of the directory since it was last created.
    parent_synced: bool,
    /// A segment that was not opened to the end may come back with a power loss. Its LogStart would stand at
    /// the greatest position and name an S of the past, so S must not move before it is gone for good.
    stale: bool,
    /// The segments on disk, the current one included.
    files: BTreeMap<u32, SegmentFile>,
    /// What the last synced LogStart names.
    logged_start: LogPos,
}

#[derive(Debug)]
struct SegmentFile {
    path: PathBuf,
    /// Length in bytes; of the current segment: not kept up to date.
    file_bytes: u64,
    /// Bytes lie in it that nobody could read: it is renamed rather than unlinked. A replay may yet change it.
    unread: Arc<AtomicBool>,
}

impl Segments {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        found: &Found,
        lineage: Lineage,
        number_above: u32,
    ) -> Self {
        let ours = found.segments().filter(|(_, segment)| segment.may_be_of(lineage));
        let files = ours.map(|(number, segment)| {
            let (path, file_bytes) = (segment.path.clone(), segment.file_bytes);
            (number, SegmentFile { path, file_bytes, unread: segment.unread(lineage, number) })
        });
        let greatest = found.greatest().max(number_above);
        Self {
            disk,
            dir,
            lineage,
            greatest,
            current: greatest,
            parent_synced: false,
            stale: false,
            files: files.collect(),
            logged_start: LogPos::ZERO,
        }
    }

    pub(crate) fn greatest(&self) -> u32 {
        self.greatest
    }

    /// No number up to this one is taken any more.
    pub(crate) fn open_above(&mut self, number: u32) {
        self.greatest = self.greatest.max(number);
    }

    pub(crate) fn count(&self) -> u64 {
        self.files.len() as u64
    }

    /// Length of all segments but that of number `current`, in bytes.
    pub(crate) fn bytes_but_of(&self, current: Option<u32>) -> u64 {
        let others = self.files.iter().filter(|(number, _)| Some(**number) != current);
        others.map(|(_, file)| file.file_bytes).sum()
    }

    /// Number and length of each segment, the current one's as it is told.
    pub(crate) fn lengths(&self, current: (u32, u64)) -> Vec<(u32, u64)> {
        let length = |(number, file): (&u32, &SegmentFile)| {
            (*number, if *number == current.0 { current.1 } else { file.file_bytes })
        };
        self.files.iter().map(length).collect()
    }

    /// Says how long a segment is, once nothing is appended to it any more.
    pub(crate) fn measured(&mut self, number: u32, end: u32) {
        if let Some(file) = self.files.get_mut(&number) {
            file.file_bytes = u64::from(end);
        }
    }

    /// What the last synced LogStart names.
    pub(crate) fn logged_start(&self) -> LogPos {
        self.logged_start
    }

    /// A LogStart that names `start` was synced.
    pub(crate) fn logged(&mut self, start: LogPos) {
        self.logged_start = self.logged_start.max(start);
    }

    /// Whether there is a segment wholly before `start`.
    pub(crate) fn any_before(&self, start: LogPos) -> bool {
        self.files.range(..start.segment()).next().is_some()
    }

    /// Opens the next segment. When this returns its header, its LogStart, its name and the directory's name
    /// are durable, in that order or before.
    pub(crate) fn open_next(&mut self, start: LogPos) -> Result<(u32, Box<dyn DiskFile>), OpenError> {
        let directory = |call| {
            let path = self.dir.clone();
            move |source| OpenError::Directory { call, path, source }
        };
        let created = self.disk.create_dir(&self.dir).map_err(directory("create"))?;
        // Whoever created it: an earlier process may have been killed before its sync.
        if created || !self.parent_synced {
            self.parent_synced = false;
            let parent = parent(&self.dir);
            self.disk.sync_dir(&parent).map_err(|source| OpenError::SyncDir { path: parent, source })?;
            self.parent_synced = true;
        }
        // The names are asked for every time: a position must not be given out twice, whoever put a file there.
        let named = scan::greatest_number(self.disk.as_ref(), &self.dir).map_err(directory("list"))?;
        self.greatest = self.greatest.max(named);
        let (path, file) = self.create_next()?;
        let (number, file_bytes) = (self.greatest, format::FIRST_BYTES as u64);
        self.files.insert(number, SegmentFile { path: path.clone(), file_bytes, unread: Arc::default() });
        self.stale = true;
        match self.write_first(&path, file, &format::first_bytes(self.lineage, number, start)) {
            Ok(file) => {
                // Its LogStart outranks those of all segments that were not opened to the end.
                self.stale = false;
                self.current = number;
                self.logged(start);
                Ok((number, file))
            }
            Err(error) => {
                // A full disk would otherwise collect a file with every try.
                self.clear_stale().ok();
                Err(error)
            }
        }
    }

    fn create_next(&mut self) -> Result<(PathBuf, Box<dyn DiskFile>), OpenError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let next = self.greatest.checked_add(1).filter(|number| *number <= format::NUMBER_MAX);
            let Some(number) = next else { return Err(OpenError::NoNumber { path: self.dir.clone() }) };
            self.greatest = number;
            let path = format::segment_path(&self.dir, number);
            match self.disk.create(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < NUMBERS_TRIED_MAX => {}
                Err(source) => return Err(OpenError::Segment { call: "create", path, source }),
            }
        }
    }

    /// Writes the first bytes of a new segment and makes them and its name durable.
    fn write_first(
        &self,
        path: &Path,
        mut file: Box<dyn DiskFile>,
        bytes: &[u8],
    ) -> Result<Box<dyn DiskFile>, OpenError> {
        let failed = |call| move |source| OpenError::Segment { call, path: path.to_owned(), source };
        file.append(bytes).map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(|source| OpenError::SyncDir { path: self.dir.clone(), source })?;
        Ok(file)
    }

    /// Removes for good the segments that were not opened to the end.
    pub(crate) fn clear_stale(&mut self) -> Result<(), CallError> {
        if !self.stale {
            return Ok(());
        }
        while let Some(last) = self.files.last_entry().filter(|last| *last.key() > self.current) {
            remove(self.disk.as_ref(), &last.get().path)?;
            last.remove();
        }
        sync_dir(self.disk.as_ref(), &self.dir)?;
        self.stale = false;
        Ok(())
    }

    /// Renames the segments wholly before `start` that nobody could read, durably.
    pub(crate) fn set_unread_aside(&mut self, start: LogPos, retired: &mut Retired) -> Result<(), CallError> {
        let unread = |file: &SegmentFile| file.unread.load(Ordering::Relaxed);
        let numbers: Vec<u32> = self
            .files
            .range(..start.segment())
            .filter(|(_, file)| unread(file))
            .map(|(number, _)| *number)
            .collect();
        for number in &numbers {
            if let Some(file) = self.files.get(number) {
                retired.set_aside.push(scan::rename_aside(self.disk.as_ref(), &file.path)?);
                self.files.remove(number);
            }
        }
        if numbers.is_empty() { Ok(()) } else { sync_dir(self.disk.as_ref(), &self.dir) }
    }

    /// Unlinks the segments wholly before the S of the last synced LogStart.
    pub(crate) fn unlink_before(&mut self, retired: &mut Retired) {
        // Nobody appends to a segment before S: S is at most the end of the current one.
        let kept = self.files.split_off(&self.logged_start.segment());
        for (number, file) in std::mem::replace(&mut self.files, kept) {
            match remove(self.disk.as_ref(), &file.path) {
                Ok(()) => {
                    retired.segments += 1;
                    retired.bytes += file.file_bytes;
                }
                Err(error) => {
                    retired.failed.push(error);
                    self.files.insert(number, file);
                }
            }
        }
    }

    /// Removes all segments and the directory. What a crash leaves is the end of the log, whole.
    pub(crate) fn remove_all(&mut self) -> Result<(), RemoveError> {
        while let Some(first) = self.files.first_entry() {
            // The names before it are gone for good: among them those that the LogStart in this file covers.
            sync_dir(self.disk.as_ref(), &self.dir)?;
            let file = first.get();
            if file.unread.load(Ordering::Relaxed) {
                scan::rename_aside(self.disk.as_ref(), &file.path)?;
            } else {
                remove(self.disk.as_ref(), &file.path)?;
            }
            first.remove();
        }
        sync_dir(self.disk.as_ref(), &self.dir)?;
        let path = self.dir.clone();
        match self.disk.remove_dir(&path) {
            Err(source) if self.disk.list(&path).is_ok_and(|entries| !entries.is_empty()) => {
                return Err(RemoveError::NotEmpty { path, source });
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CallError { call: "remove directory", path, source }.into());
            }
            _ => {}
        }
        let path = parent(&path);
        let synced = self.disk.sync_dir(&path);
        Ok(synced.map_err(|source| CallError { call: "sync directory", path, source })?)
    }
}

/// Syncs the directory; one that is gone needs no sync.
fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), CallError> {
    match disk.sync_dir(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CallError { call: "sync directory", path: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a file; one that is gone already was removed.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), CallError> {
    match disk.remove(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CallError { call: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn parent(dir: &Path) -> PathBuf {
    match dir.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
