//! [`Saver`]: blocks and floors of many hosts to their block files, durably.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store_core::Timestamp;
use store_core::block::Block;
use store_core::metric::Catalog;
use store_disk::{Disk, Lineage};

use crate::blockfile::{BlockFile, BlockFileError, DamageNotes, FloorsFrame, Moved};
use crate::durable::DurableDirs;
use crate::files::directory_of;
use crate::parallel::map_hosts;

/// Above so many files one sync of the whole file system is cheaper than one for each.
pub const SYNC_EACH_MAX: usize = 8;

/// What is to be saved of one host.
#[derive(Debug, Clone)]
pub struct HostWork {
    /// The cluster, a name that can be a directory's.
    pub cluster: Box<str>,
    /// The host, a name that can be a directory's.
    pub host: Box<str>,
    /// Blocks to be saved.
    pub blocks: Vec<Arc<Block>>,
    /// Floors to be saved.
    pub floors: Vec<FloorsFrame>,
    /// All floors of the host, those above included: each new file begins with them, so that no file is the only one that
    /// says what was freed.
    pub all_floors: Vec<FloorsFrame>,
}

impl HostWork {
    /// The time that a new file is named after: nothing that is saved now is older.
    fn oldest(&self) -> Option<Timestamp> {
        let blocks = self.blocks.iter().map(|block| block.header().base);
        let floors = self.floors.iter().flat_map(|frame| &frame.floors).map(|(_, before)| *before);
        blocks.min().or(floors.min())
    }
}

/// Why the blocks of a host are not saved. They may be durable all the same, and count as unsaved: the next try
/// goes to a new file, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The directory of the host could not be created, or not be made durable; nothing was written.
    #[error("cannot make {path} durable")]
    Dir {
        /// The host directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The block file could not be written. After `TooLong` and `BadBlock` another try fares no better.
    #[error("cannot write the block file")]
    File(#[from] BlockFileError),
    /// The file system could not be synced. Every host whose file waited for it gets this.
    #[error("cannot sync the file system of {path}")]
    SyncAll {
        /// The checkpoint directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was synced, and is not to be found under its name: somebody removed it, or its directory.
    #[error("{path} is gone")]
    Gone {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name of a new file could not be made durable.
    #[error("cannot sync the names in {path}")]
    SyncDir {
        /// The host directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Saves hosts, each to the block file that it was first given in this process.
///
/// Invariant: every byte of an active file is durable, and so are its name and the names of its directories; a
/// file of which that is not known is not active any more, and never written or synced again.
#[derive(Debug)]
pub struct Saver {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    lineage: Lineage,
    threads: usize,
    open_files_max: usize,
    dirs: Arc<DurableDirs>,
    notes: Arc<DamageNotes>,
    /// Files that the next save of a host appends to, by the host's directory.
    active: HashMap<PathBuf, Active>,
    /// Counts batches; says which files were used least recently.
    now: u64,
    written_bytes: u64,
}

#[derive(Debug)]
struct Active {
    file: BlockFile,
    used: u64,
}

/// One host's part of a batch.
#[derive(Debug)]
struct Job<'w> {
    /// Place of the work, and of its result.
    at: usize,
    dir: PathBuf,
    work: &'w HostWork,
    file: Option<BlockFile>,
    /// Whether `file` has a name that is not durable yet.
    is_new: bool,
    written_bytes: u64,
    moved: Vec<Moved>,
    failed: Option<SaveError>,
}

impl Job<'_> {
    fn append(
        &mut self,
        disk: &dyn Disk,
        lineage: Lineage,
        catalog: &Catalog,
        notes: &Arc<DamageNotes>,
    ) -> Result<(), SaveError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let base = self.work.oldest().unwrap_or_default();
                self.is_new = true;
                self.file.insert(BlockFile::create(disk, &self.dir, base, lineage, notes)?)
            }
        };
        let floors = if self.is_new { &self.work.all_floors } else { &self.work.floors };
        self.written_bytes = file.append(catalog, &self.work.blocks, floors)?;
        Ok(())
    }

    fn sync(&mut self, disk: &dyn Disk) -> Result<(), SaveError> {
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        if self.is_new {
            disk.sync_dir(&self.dir)
                .map_err(|source| SaveError::SyncDir { path: self.dir.clone(), source })?;
        }
        Ok(())
    }

    /// A sync of all says nothing about names that were taken away.
    fn find(&mut self, disk: &dyn Disk) -> Result<(), SaveError> {
        let Some(path) = self.file.as_ref().map(BlockFile::path) else { return Ok(()) };
        let gone = |source| SaveError::Gone { path: path.to_owned(), source };
        disk.identity(path).map(drop).map_err(gone)
    }

    fn map(&mut self) {
        if let Some(file) = self.file.as_mut().filter(|_| self.failed.is_none()) {
            self.moved = file.map_blocks();
        }
    }

    /// Does a step of the work, if those before it succeeded.
    fn step(&mut self, step: impl FnOnce(&mut Self) -> Result<(), SaveError>) {
        if self.failed.is_none() {
            self.failed = step(self).err();
        }
    }
}

impl Saver {
    /// Saves below `directory`, which exists, in files of `lineage`. `threads` may write and sync at once; with
    /// one, calls are made in the order of the work. At most `open_files_max` files, and at least one, stay open.
    pub fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        lineage: Lineage,
        threads: usize,
        open_files_max: usize,
    ) -> Self {
        Self {
            disk,
            directory,
            lineage,
            threads,
            open_files_max: open_files_max.max(1),
            dirs: Arc::default(),
            notes: Arc::default(),
            active: HashMap::new(),
            now: 0,
            written_bytes: 0,
        }
    }

    /// The directories that it knows of, to be shared with who makes some besides.
    pub fn dirs(&self) -> Arc<DurableDirs> {
        Arc::clone(&self.dirs)
    }

    /// What is found damaged in the files that it wrote goes there; to be shared with who opens others.
    pub fn notes(&self) -> Arc<DamageNotes> {
        Arc::clone(&self.notes)
    }

    /// Saves hosts and returns a result for each, in the order of `work`.
    ///
    /// `Ok` says that everything given is durable: content, the file's name, and the names of its directories,
    /// whoever created them. A host with nothing to save is `Ok` at once. With it come the blocks of the host's file,
    /// mapped from it, if the system can do that: see [`BlockFile::map_blocks`].
    ///
    /// More hosts than files may be open are saved in several turns.
    pub fn save(&mut self, catalog: &Catalog, work: &[HostWork]) -> Vec<Result<Vec<Moved>, SaveError>> {
        let mut results: Vec<Result<Vec<Moved>, SaveError>> = work.iter().map(|_| Ok(Vec::new())).collect();
        let todo: Vec<usize> = (0..work.len())
            .filter(|&at| !work[at].blocks.is_empty() || !work[at].floors.is_empty())
            .collect();
        for turn in todo.chunks(self.open_files_max) {
            self.now += 1;
            let jobs = turn.iter().map(|&at| self.job(at, &work[at])).collect();
            for job in self.save_turn(catalog, jobs) {
                self.written_bytes += job.written_bytes;
                if job.failed.is_some() {
                    // It may have been removed under us: made anew, or found, by the next try.
                    self.dirs.forget(&job.dir);
                    self.dirs.forget(directory_of(&job.dir));
                }
                if let Some(file) = job.file {
                    self.keep_or_give_up(job.dir, file, job.is_new, job.failed.as_ref());
                }
                results[job.at] = job.failed.map_or(Ok(job.moved), Err);
            }
        }
        results
    }

    fn job<'w>(&mut self, at: usize, work: &'w HostWork) -> Job<'w> {
        let dir = self.dir_of(&work.cluster, &work.host);
        // Out of the map for the time being: if anything goes wrong it is not put back.
        let file = self.active.remove(&dir).map(|active| active.file);
        Job { at, dir, work, file, is_new: false, written_bytes: 0, moved: Vec::new(), failed: None }
    }

    fn save_turn<'w>(&mut self, catalog: &Catalog, mut jobs: Vec<Job<'w>>) -> Vec<Job<'w>> {
        self.close_least_recent(self.open_files_max - jobs.len());
        self.make_dirs(&mut jobs);
        let (disk, lineage, threads, notes) = (&*self.disk, self.lineage, self.threads, &self.notes);
        let jobs: Vec<Mutex<Job<'w>>> = jobs.into_iter().map(Mutex::new).collect();
        map_hosts(&jobs, threads, |job| locked(job).step(|job| job.append(disk, lineage, catalog, notes)));
        let waiting = jobs.iter().filter(|job| locked(job).failed.is_none()).count();
        let synced = if waiting > SYNC_EACH_MAX { disk.sync_all(&self.directory) } else { Ok(false) };
        match synced {
            Ok(true) => {
                map_hosts(&jobs, threads, |job| locked(job).step(|job| job.find(disk)));
            }
            Ok(false) => {
                map_hosts(&jobs, threads, |job| locked(job).step(|job| job.sync(disk)));
            }
            Err(error) => {
                for job in &jobs {
                    let source = same_error(&error);
                    let path = self.directory.clone();
                    locked(job).step(|_| Err(SaveError::SyncAll { path, source }));
                }
            }
        }
        map_hosts(&jobs, threads, |job| locked(job).map());
        jobs.into_iter().map(|job| job.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    fn keep_or_give_up(&mut self, dir: PathBuf, file: BlockFile, is_new: bool, failed: Option<&SaveError>) {
        let untouched = matches!(
            failed,
            Some(SaveError::File(BlockFileError::TooLong { .. } | BlockFileError::BadBlock { .. }))
        );
        if failed.is_none() || untouched && !is_new {
            self.active.insert(dir, Active { file, used: self.now });
        } else if is_new {
            // Nothing in it was acknowledged; on a full disk each try would leave one more. If it cannot be
            // removed either, a start reads it as what a crash left.
            self.disk.remove(file.path()).ok();
        }
    }

    /// Makes the host directories exist and their names durable, all at once if that works.
    fn make_dirs(&self, jobs: &mut [Job<'_>]) {
        if self.dirs.ensure_all(&*self.disk, jobs.iter().map(|job| &*job.dir)).is_ok() {
            return;
        }
        // One host's trouble is not another's: each by itself.
        for job in jobs {
            job.step(|job| {
                self.dirs
                    .ensure(&*self.disk, &job.dir)
                    .map_err(|source| SaveError::Dir { path: job.dir.clone(), source })
            });
        }
    }

    /// Closes files until at most `open_max` are open, those first that were not written to for longest.
    fn close_least_recent(&mut self, open_max: usize) {
        let Some(surplus) = self.active.len().checked_sub(open_max).filter(|surplus| *surplus > 0) else {
            return;
        };
        let mut by_use: Vec<(u64, PathBuf)> =
            self.active.iter().map(|(dir, active)| (active.used, dir.clone())).collect();
        by_use.sort_unstable();
        for (_, dir) in &by_use[..surplus] {
            self.active.remove(dir);
        }
    }

    /// Closes the file of a host: the next save goes to a new one. For a roll, which takes complete files only.
    pub fn close(&mut self, cluster: &str, host: &str) {
        let dir = self.dir_of(cluster, host);
        self.active.remove(&dir);
    }

    /// Bytes appended so far, whether or not they became durable.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Whether the file at `path`, written as [`new`](Self::new) was given the directory, may still grow.
    pub fn is_active(&self, path: &Path) -> bool {
        path.parent().and_then(|dir| self.active.get(dir)).is_some_and(|active| active.file.path() == path)
    }

    fn dir_of(&self, cluster: &str, host: &str) -> PathBuf {
        self.directory.join(cluster).join(host)
    }
}

fn locked<'a, 'w>(job: &'a Mutex<Job<'w>>) -> MutexGuard<'a, Job<'w>> {
    // Never contended: each is worked on by one thread, and looked at when that is done.
    job.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same error once more, for another host.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
