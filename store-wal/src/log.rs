//! [`Log`]: segments are opened, left for the next one, replaced after errors, and retired.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store_disk::{Disk, DiskFile, Lineage};

use crate::commit::{Core, Mode, describe};
use crate::error::{CallError, CommitError, OpenError, RemoveError, SwitchError};
use crate::scan::{self, Found};
use crate::stats::LogStats;
use crate::{LogPos, format};

/// Offset of the first position of a log without a segment: behind everything that the last segment of an
/// earlier process can hold, with room for half a thousand million appends.
const UNOPENED_OFFSET: u32 = 0xE000_0000;

/// Numbers that are tried for a new segment while their names turn out to be taken.
const NUMBERS_TRIED_MAX: u32 = 100;

const _: () = assert!(UNOPENED_OFFSET > format::SEGMENT_BYTES_LIMIT);

/// Limits of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment of at least so many bytes asks to be left for the next one ([`Log::needs_switch`]).
    pub segment_bytes_max: u64,
    /// Frames that wait to be written: beyond so many bytes the log becomes degraded, because the disk hangs.
    pub buffer_bytes_max: u64,
}

impl Default for LogOptions {
    /// 64 MiB and 512 MiB.
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, buffer_bytes_max: 512 << 20 }
    }
}

/// How durable a commit makes a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// `write` returned: a kill of the process loses nothing.
    Written,
    /// The file was synced: a power loss loses nothing.
    Synced,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Every entry has a position.
    At {
        /// Of the first entry.
        first: LogPos,
        /// Of the last entry; the one to commit.
        last: LogPos,
        /// Whether the entries will be written. If not, the log is degraded: the positions only order.
        logged: bool,
    },
    /// The segment named by the caller is not the current one: this is. Nothing was appended.
    NewSegment(u32),
}

/// What [`Log::retire`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Retired {
    /// Segments that were unlinked.
    pub segments: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Segments that could not be read at the start and were renamed instead: their new names.
    pub set_aside: Vec<PathBuf>,
    /// Files that are still there; they are tried again the next time.
    pub failed: Vec<CallError>,
}

/// An append-only log in one directory.
///
/// All methods take `&self` and may be called by any number of threads. Only [`commit`](Log::commit),
/// [`flush`](Log::flush) and what opens, heals or removes segments wait for the disk.
///
/// Locks, in the order in which they are taken: `ops` (one switch, heal or retirement at a time; held while the
/// disk works), then the mutex of `core` (memory only).
#[derive(Debug)]
pub struct Log {
    core: Core,
    ops: Mutex<Ops>,
}

/// What opening and retiring segments needs to know.
#[derive(Debug)]
struct Ops {
    /// Greatest number taken so far, by any process.
    number: u32,
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
    /// Bytes lie in it that could not be read: it is renamed rather than unlinked.
    unreadable: bool,
}

impl Log {
    /// Opens the first segment of this process in `dir`, which is created if needed.
    ///
    /// The segment's number is the next one above `found` and `number_above`; `number_above` is for the case
    /// that positions are known from elsewhere whose segments are gone. The segment begins with a LogStart that
    /// names `start`: the S of before ([`Found::start`]).
    /// Nothing is appended to segments that were found. They are unlinked when S has passed them.
    ///
    /// # Errors
    /// [`OpenError`]; [`open_degraded`](Log::open_degraded) still gives a log.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        found: &Found,
        lineage: Lineage,
        number_above: u32,
        start: LogPos,
        options: LogOptions,
    ) -> Result<Self, OpenError> {
        let mut ops = Ops::new(found, lineage, number_above);
        let (number, file) = ops.open_segment(disk.as_ref(), &dir, lineage, start)?;
        let at = LogPos::new(number, format::FIRST_BYTES as u32);
        let core = Core::new(disk, dir, lineage, options, at, Some(file), start);
        let log = Self { core, ops: Mutex::new(ops) };
        log.opened(&log.ops());
        Ok(log)
    }

    /// A log for which no segment could be opened: it is degraded, and [`heal_begin`](Log::heal_begin) may open
    /// one later. Takes the arguments of [`open`](Log::open), and makes no call on the disk.
    ///
    /// Until then [`is_open`](Log::is_open) is false: positions are given out whose number no file carries, so
    /// that a later process may give them out again. Nothing that holds one may be saved.
    pub fn open_degraded(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        found: &Found,
        lineage: Lineage,
        number_above: u32,
        start: LogPos,
        options: LogOptions,
    ) -> Self {
        let ops = Ops::new(found, lineage, number_above);
        let at = LogPos::new(ops.number, UNOPENED_OFFSET);
        let core = Core::new(disk, dir, lineage, options, at, None, start);
        Self { core, ops: Mutex::new(ops) }
    }

    /// The segment in which positions are given out now. Says to a caller whether what it wrote once per
    /// segment is still in the current one.
    pub fn segment(&self) -> u32 {
        self.core.lock().segment
    }

    /// Appends entries of a kind and a payload each, in consecutive frames, if `segment` is the current one.
    ///
    /// Copies into a buffer and never waits for the disk; [`commit`](Log::commit) makes it durable. All of the
    /// entries stand in one segment, none if it is another one.
    ///
    /// # Panics
    /// If there are no entries, a kind is below [`KIND_USER_MIN`](format::KIND_USER_MIN), or a payload is longer than
    /// [`PAYLOAD_BYTES_MAX`](store_disk::frame::PAYLOAD_BYTES_MAX).
    pub fn append(&self, segment: u32, entries: &[(u8, &[u8])]) -> Appended {
        self.core.append(segment, entries)
    }

    /// Waits until everything up to and including the frame at `position` is durable, in the sense of `until`.
    ///
    /// One of the threads that wait writes for all of them.
    ///
    /// # Errors
    /// [`CommitError`]; at once while the log is degraded, unless the position was synced before.
    pub fn commit(&self, position: LogPos, until: Until) -> Result<(), CommitError> {
        self.core.commit(Some(position), until)
    }

    /// Position of the next append.
    pub fn end(&self) -> LogPos {
        self.core.lock().end_pos()
    }

    /// Commits everything appended so far.
    ///
    /// # Errors
    /// As [`commit`](Log::commit).
    pub fn flush(&self, until: Until) -> Result<(), CommitError> {
        self.core.commit(None, until)
    }

    /// S: the log is needed from here on, as far as [`retire`](Log::retire) was told.
    pub fn start(&self) -> LogPos {
        self.core.lock().start
    }

    /// Whether a segment of this process was opened: only then are the positions it gives out protected from
    /// being given out again by a later process, and only then may anything be saved that holds one.
    pub fn is_open(&self) -> bool {
        self.core.lock().opened
    }

    /// Whether nothing is acknowledged at present: after an error, until a heal has finished.
    pub fn is_degraded(&self) -> bool {
        self.core.lock().mode != Mode::Healthy
    }

    /// Whether the current segment has reached its size. Also while a heal is under way.
    pub fn needs_switch(&self) -> bool {
        let state = self.core.lock();
        state.mode != Mode::Degraded && u64::from(state.end) >= self.core.options.segment_bytes_max
    }

    /// Goes on to the next segment.
    ///
    /// Appends go on in the old segment while the new one is opened, and in the new one while the rest of the
    /// old one is written. Nothing in the new one is acknowledged before the old one is synced to its end.
    ///
    /// # Errors
    /// [`SwitchError::Open`]: still in the old segment, which is as good as before. [`SwitchError::Commit`]: degraded.
    pub fn switch(&self) -> Result<(), SwitchError> {
        let mut ops = self.ops();
        self.core.drain()?;
        let (old, old_end, start) = {
            let state = self.core.lock();
            (state.segment, state.end, state.start)
        };
        let (number, file) = self.open_segment(&mut ops, start)?;
        // Not exact if the flip fails: the end is only counted.
        ops.measured(old, old_end);
        let flipped = self.core.flip(number, file).map(|old_end| ops.measured(old, old_end));
        self.opened(&ops);
        Ok(flipped?)
    }

    /// Makes the log degraded, as an error would: what is in the current segment is not relied upon any more.
    ///
    /// For a start that could not [sync](crate::sync_found) what it replays: all of it is to be logged again.
    pub fn degrade(&self, why: &str) {
        self.core.degrade(why.to_owned());
    }

    /// Begins to heal a degraded log: opens a new segment, in which appends are logged again.
    ///
    /// The caller then appends everything that is not durable elsewhere, with [`switch`](Log::switch) whenever
    /// [`needs_switch`](Log::needs_switch) says so, and calls [`heal_finish`](Log::heal_finish). Does nothing if the log is not
    /// degraded, or a heal has begun already.
    ///
    /// # Errors
    /// [`OpenError`]: still degraded.
    pub fn heal_begin(&self) -> Result<(), OpenError> {
        let mut ops = self.ops();
        let (old, old_end, start) = {
            let state = self.core.lock();
            if state.mode != Mode::Degraded {
                return Ok(());
            }
            (state.segment, state.logged_end, state.start)
        };
        let (number, file) = self.open_segment(&mut ops, start)?;
        if self.is_open() {
            ops.measured(old, old_end);
        }
        self.core.relog(number, file);
        self.opened(&ops);
        Ok(())
    }

    /// Ends a heal: writes and syncs everything appended since [`heal_begin`](Log::heal_begin). The log is healthy then.
    ///
    /// # Errors
    /// [`CommitError`]: degraded again, or it was not relogging.
    pub fn heal_finish(&self) -> Result<(), CommitError> {
        let _ops = self.ops();
        if self.core.lock().mode == Mode::Healthy {
            return Ok(());
        }
        self.core.healed()
    }

    /// Says that everything before `safe` is durable elsewhere: moves S there, never back and never beyond the
    /// end of the log. If S has passed a segment, or by `force`, a LogStart that names S is appended and synced;
    /// then the segments wholly before S are unlinked, found ones too.
    ///
    /// Does nothing while the log is degraded. Nothing else moves S.
    ///
    /// # Errors
    /// [`CommitError`]: the LogStart could not be made durable. Nothing was unlinked; the log is degraded.
    pub fn retire(&self, safe: LogPos, force: bool) -> Result<Retired, CommitError> {
        let mut ops = self.ops();
        self.retire_with(&mut ops, safe, force)
    }

    /// What the log has done and how it is. Does not wait for the disk.
    pub fn stats(&self) -> LogStats {
        let state = self.core.lock();
        let counters = state.counters.clone();
        LogStats {
            frames: counters.frames,
            frame_bytes: counters.frame_bytes,
            unlogged_frames: counters.unlogged_frames,
            writes: counters.writes,
            written_bytes: counters.written_bytes,
            syncs: counters.syncs,
            write_errors: counters.write_errors,
            sync_errors: counters.sync_errors,
            open_errors: counters.open_errors,
            segments_opened: counters.segments_opened,
            poisoned_segments: counters.poisoned_segments,
            degradations: counters.degradations,
            degraded: state.mode != Mode::Healthy,
            relogging: state.mode == Mode::Relogging,
            segments: counters.segments,
            retained_bytes: counters.retained_before_bytes
                + match (state.opened, state.mode) {
                    (false, _) => 0,
                    (true, Mode::Degraded) => u64::from(state.logged_end),
                    (true, _) => u64::from(state.end),
                },
            buffered_bytes: state.buffered_bytes() as u64,
            last_error: counters.last_error,
        }
    }

    /// Removes the log: everything in it is durable elsewhere. Unlinks all segments and the directory, and syncs
    /// its parent. A crash in between leaves a log that ends like this one and says so by its LogStart.
    ///
    /// # Errors
    /// [`RemoveError`] says what is left.
    pub fn remove_all(&self) -> Result<(), RemoveError> {
        let disk = Arc::clone(&self.core.disk);
        let dir = self.core.dir.clone();
        let end = self.end();
        let mut ops = self.ops();
        // Says that nothing is needed. If that cannot be said any more, the order of the names does: what is left
        // after a crash is the end of the log, whole.
        self.retire_with(&mut ops, end, true).ok();
        let sync = || match disk.sync_dir(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(CallError { call: "sync directory", path: dir.clone(), source })
            }
            _ => Ok(()),
        };
        for file in std::mem::take(&mut ops.files).into_values() {
            // The names before it are gone for good: among them those that the LogStart in this file covers.
            sync()?;
            if file.unreadable {
                scan::rename_aside(disk.as_ref(), &file.path)?;
            } else {
                remove(disk.as_ref(), &file.path)?;
            }
        }
        sync()?;
        match disk.remove_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) if disk.list(&dir).is_ok_and(|entries| !entries.is_empty()) => {
                return Err(RemoveError::NotEmpty { path: dir, source });
            }
            Err(source) => return Err(CallError { call: "remove directory", path: dir, source }.into()),
        }
        let parent = parent(&dir);
        disk.sync_dir(&parent).map_err(|source| CallError {
            call: "sync directory",
            path: parent,
            source,
        })?;
        Ok(())
    }

    fn ops(&self) -> MutexGuard<'_, Ops> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retire_with(&self, ops: &mut Ops, safe: LogPos, force: bool) -> Result<Retired, CommitError> {
        let start = {
            let mut state = self.core.lock();
            if state.mode != Mode::Healthy {
                return Ok(Retired::default());
            }
            state.start = state.start.max(safe.min(state.end_pos()));
            state.start
        };
        let passed = ops.files.range(..start.segment()).next().is_some();
        if !force && !passed {
            return Ok(Retired::default());
        }
        if let Err(error) = ops.clear_stale(self.core.disk.as_ref(), &self.core.dir) {
            return Ok(Retired { failed: vec![error], ..Retired::default() });
        }
        if start > ops.logged_start {
            let position = {
                let mut state = self.core.lock();
                if state.mode != Mode::Healthy {
                    return Ok(Retired::default());
                }
                state.push_log_start(start)
            };
            self.core.commit(Some(position), Until::Synced)?;
            ops.logged_start = start;
        }
        let retired = ops.unlink_before(self.core.disk.as_ref());
        self.counted(ops);
        Ok(retired)
    }

    fn open_segment(&self, ops: &mut Ops, start: LogPos) -> Result<(u32, Box<dyn DiskFile>), OpenError> {
        let core = &self.core;
        ops.open_segment(core.disk.as_ref(), &core.dir, core.lineage, start).inspect_err(|error| {
            let mut state = core.lock();
            state.counters.open_errors += 1;
            state.counters.last_error = Some(describe(error));
        })
    }

    fn opened(&self, ops: &Ops) {
        self.core.lock().counters.segments_opened += 1;
        self.counted(ops);
    }

    fn counted(&self, ops: &Ops) {
        let mut state = self.core.lock();
        let current = state.opened.then_some(state.segment);
        let before = ops.files.iter().filter(|(number, _)| Some(**number) != current);
        state.counters.retained_before_bytes = before.map(|(_, file)| file.file_bytes).sum();
        state.counters.segments = ops.files.len() as u64;
    }
}

impl Ops {
    fn new(found: &Found, lineage: Lineage, number_above: u32) -> Self {
        let ours = found.segments().filter(|(_, segment)| segment.may_be_of(lineage));
        let files = ours.map(|(number, segment)| {
            let unreadable = segment.is_unreadable(lineage, number);
            (number, SegmentFile { path: segment.path.clone(), file_bytes: segment.file_bytes, unreadable })
        });
        let number = found.greatest().max(number_above);
        Self {
            number,
            current: number,
            parent_synced: false,
            stale: false,
            files: files.collect(),
            logged_start: LogPos::ZERO,
        }
    }

    /// Opens the next segment. When this returns its header, its LogStart, its name and the directory's name
    /// are durable, in that order or before.
    fn open_segment(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        lineage: Lineage,
        start: LogPos,
    ) -> Result<(u32, Box<dyn DiskFile>), OpenError> {
        let directory = |call| move |source| OpenError::Directory { call, path: dir.to_owned(), source };
        let created = disk.create_dir(dir).map_err(directory("create"))?;
        // Whoever created it: an earlier process may have been killed before its sync.
        if created || !self.parent_synced {
            self.parent_synced = false;
            let parent = parent(dir);
            disk.sync_dir(&parent).map_err(|source| OpenError::SyncDir { path: parent, source })?;
            self.parent_synced = true;
        }
        // The names are asked for every time: a position must not be given out twice, whoever put a file there.
        let named = scan::greatest_number(disk, dir).map_err(directory("list"))?;
        self.number = self.number.max(named);
        let (path, file) = self.create_segment(disk, dir)?;
        let number = self.number;
        let segment =
            SegmentFile { path: path.clone(), file_bytes: format::FIRST_BYTES as u64, unreadable: false };
        self.files.insert(number, segment);
        self.stale = true;
        match write_first(disk, dir, &path, file, &format::first_bytes(lineage, number, start)) {
            Ok(file) => {
                // Its LogStart outranks those of all segments that were not opened to the end.
                self.stale = false;
                self.current = number;
                self.logged_start = self.logged_start.max(start);
                Ok((number, file))
            }
            Err(error) => {
                // A full disk would otherwise collect a file with every try.
                self.clear_stale(disk, dir).ok();
                Err(error)
            }
        }
    }

    fn create_segment(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
    ) -> Result<(PathBuf, Box<dyn DiskFile>), OpenError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let Some(number) = self.number.checked_add(1).filter(|number| *number <= format::NUMBER_MAX)
            else {
                return Err(OpenError::NoNumber { path: dir.to_owned() });
            };
            self.number = number;
            let path = format::segment_path(dir, number);
            match disk.create(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < NUMBERS_TRIED_MAX => {}
                Err(source) => return Err(OpenError::Segment { call: "create", path, source }),
            }
        }
    }

    /// Removes for good the segments that were not opened to the end.
    fn clear_stale(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), CallError> {
        if !self.stale {
            return Ok(());
        }
        while let Some((number, path)) =
            self.files.range(self.current + 1..).next().map(|(number, file)| (*number, file.path.clone()))
        {
            remove(disk, &path)?;
            self.files.remove(&number);
        }
        disk.sync_dir(dir).map_err(|source| CallError {
            call: "sync directory",
            path: dir.to_owned(),
            source,
        })?;
        self.stale = false;
        Ok(())
    }

    /// Unlinks the segments wholly before the S of the last synced LogStart.
    fn unlink_before(&mut self, disk: &dyn Disk) -> Retired {
        let mut retired = Retired::default();
        // Nobody appends to a segment before S: S is at most the end of the current one.
        let kept = self.files.split_off(&self.logged_start.segment());
        for (number, file) in std::mem::replace(&mut self.files, kept) {
            let gone = if file.unreadable {
                scan::rename_aside(disk, &file.path).map(|aside| retired.set_aside.push(aside))
            } else {
                remove(disk, &file.path).map(|()| {
                    retired.segments += 1;
                    retired.bytes += file.file_bytes;
                })
            };
            if let Err(error) = gone {
                retired.failed.push(error);
                self.files.insert(number, file);
            }
        }
        retired
    }

    fn measured(&mut self, number: u32, end: u32) {
        if let Some(file) = self.files.get_mut(&number) {
            file.file_bytes = u64::from(end);
        }
    }
}

/// Writes the first bytes of a new segment and makes them and its name durable.
fn write_first(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    mut file: Box<dyn DiskFile>,
    bytes: &[u8],
) -> Result<Box<dyn DiskFile>, OpenError> {
    let failed = |call| move |source| OpenError::Segment { call, path: path.to_owned(), source };
    file.append(bytes).map_err(failed("write"))?;
    file.sync().map_err(failed("sync"))?;
    disk.sync_dir(dir).map_err(|source| OpenError::SyncDir { path: dir.to_owned(), source })?;
    Ok(file)
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
