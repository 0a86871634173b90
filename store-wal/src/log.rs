//! [`Log`]: the facade over the buffer that is committed and the segments that are opened and retired.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store_disk::{Disk, DiskFile, Lineage};

use crate::commit::{Core, Mode, describe};
use crate::error::{CallError, CommitError, OpenError, RemoveError, SwitchError};
use crate::reader::FrameReader;
use crate::scan::Found;
use crate::segments::Segments;
use crate::stats::LogStats;
use crate::{LogPos, format};

/// Offset of the first position of a log without a segment: behind everything that the last segment of an
/// earlier process can hold, with room for half a thousand million appends.
const UNOPENED_OFFSET: u32 = 0xE000_0000;

const _: () = assert!(UNOPENED_OFFSET > format::SEGMENT_BYTES_LIMIT);

/// Limits of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment of at least so many bytes asks to be left for the next one ([`Log::needs_switch`]).
    pub segment_bytes_max: u64,
    /// Frames that wait to be written: beyond so many bytes there is no [room](Log::reserve) for more.
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
    /// A payload is longer than [`PAYLOAD_BYTES_MAX`](store_disk::frame::PAYLOAD_BYTES_MAX). Nothing was appended.
    TooLong,
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
/// Locks, in the order in which they are taken: `segments` (one switch, heal or retirement at a time; held while the
/// disk works), then the mutex of `core` (memory only).
#[derive(Debug)]
pub struct Log {
    pub(crate) core: Core,
    segments: Mutex<Segments>,
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
        let mut segments = Segments::new(disk, dir.clone(), found, lineage, number_above);
        let (number, file) = segments.open_next(start)?;
        let at = LogPos::new(number, format::FIRST_BYTES as u32);
        let core = Core::new(dir, lineage, options, at, Some(file), start);
        let log = Self { core, segments: Mutex::new(segments) };
        log.opened(&log.segments());
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
        let segments = Segments::new(disk, dir.clone(), found, lineage, number_above);
        let at = LogPos::new(segments.greatest(), UNOPENED_OFFSET);
        let core = Core::new(dir, lineage, options, at, None, start);
        Self { core, segments: Mutex::new(segments) }
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
    /// Whoever appends what comes from outside [reserves](Log::reserve) room before; this takes anything, and is for what
    /// is logged again.
    ///
    /// # Panics
    /// If there are no entries, or a kind is below [`KIND_USER_MIN`](format::KIND_USER_MIN).
    pub fn append(&self, segment: u32, entries: &[(u8, &[u8])]) -> Appended {
        self.core.append(segment, entries, None)
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

    /// [`commit`](Log::commit) for a thread that has other things to do: writes (and syncs) itself if nobody does, but
    /// waits no longer than `patience` for another thread that does. `None` if that was too short: commit elsewhere.
    ///
    /// # Errors
    /// As [`commit`](Log::commit).
    pub fn commit_within(
        &self,
        position: LogPos,
        until: Until,
        patience: Duration,
    ) -> Option<Result<(), CommitError>> {
        self.core.commit_within(Some(position), until, Some(patience))
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

    /// Whether the frame at `position` is on disk for certain, also while the log is degraded: it was synced, or it is of
    /// an earlier process.
    pub fn is_synced(&self, position: LogPos) -> bool {
        self.core.lock().is_synced(position)
    }

    /// The segments on disk in the order of their numbers, each with its length in bytes; the current one with what is
    /// buffered for it.
    pub fn segment_lengths(&self) -> Vec<(u32, u64)> {
        let segments = self.segments();
        let current = {
            let state = self.core.lock();
            (state.segment, u64::from(state.end))
        };
        segments.lengths(current)
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

    /// A reader of what this log has written until now: frames that were committed until [`Until::Written`] at least.
    pub fn reader(&self) -> FrameReader {
        FrameReader::of_log(self.core.dir.clone(), self.core.lineage)
    }

    /// Says that nothing is saved under a position that this log did not give out: what is saved from here on may be
    /// relied upon by the next start ([`Found::given`]). Need not be durable; the next start does more work without.
    ///
    /// Later segments of this process say it too. To be called before the first [`retire`](Log::retire), which says the
    /// same.
    pub fn claim(&self) {
        self.core.lock().claim();
    }

    /// Makes sure that every segment that is opened from now on has a greater number than this: positions up to there
    /// are known from elsewhere.
    pub fn open_above(&self, number: u32) {
        self.segments().open_above(number);
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
        let mut segments = self.segments();
        self.core.drain()?;
        let (old, old_end, start) = {
            let state = self.core.lock();
            (state.segment, state.end, state.start)
        };
        let (number, file) = self.open_next(&mut segments, start)?;
        // Not exact if the flip fails: the end is only counted.
        segments.measured(old, old_end);
        let flipped = self.core.flip(number, file).map(|old_end| segments.measured(old, old_end));
        self.opened(&segments);
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
        let mut segments = self.segments();
        let (old, old_end, start) = {
            let state = self.core.lock();
            if state.mode != Mode::Degraded {
                return Ok(());
            }
            (state.segment, state.logged_end, state.start)
        };
        let (number, file) = self.open_next(&mut segments, start)?;
        if self.is_open() {
            segments.measured(old, old_end);
        }
        self.core.relog(number, file);
        self.opened(&segments);
        Ok(())
    }

    /// Ends a heal: writes and syncs everything appended since [`heal_begin`](Log::heal_begin). The log is healthy then.
    ///
    /// # Errors
    /// [`CommitError`]: degraded again, or it was not relogging.
    pub fn heal_finish(&self) -> Result<(), CommitError> {
        let _segments = self.segments();
        if self.core.lock().mode == Mode::Healthy {
            return Ok(());
        }
        self.core.healed()
    }

    /// Says that everything before `safe` is durable elsewhere: moves S there, never back and never beyond the
    /// end of the log. If S has passed a segment, or by `force`, a LogStart that names S is appended and synced;
    /// then the segments wholly before S are unlinked, found ones too. One that nobody could read is renamed to
    /// `<name>.corrupt-<n>` before S moves past it.
    ///
    /// Does nothing while the log is degraded. Nothing else moves S.
    ///
    /// # Errors
    /// [`CommitError`]: the LogStart could not be made durable. Nothing was unlinked; the log is degraded.
    pub fn retire(&self, safe: LogPos, force: bool) -> Result<Retired, CommitError> {
        let mut segments = self.segments();
        self.retire_with(&mut segments, safe, force)
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
            holes: !state.holes.is_empty(),
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
    /// The log is degraded afterwards; a heal would begin it anew.
    ///
    /// # Errors
    /// [`RemoveError`] says what is left.
    pub fn remove_all(&self) -> Result<(), RemoveError> {
        let mut segments = self.segments();
        // Says that nothing is needed. If that cannot be said any more, the order of the names does: what is left
        // after a crash is the end of the log, whole.
        self.retire_with(&mut segments, self.end(), true).ok();
        self.core.degrade("the log was removed".to_owned());
        let removed = segments.remove_all();
        if removed.is_ok() {
            self.core.lock().logged_end = 0;
        }
        self.counted(&segments);
        removed
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retire_with(
        &self,
        segments: &mut Segments,
        safe: LogPos,
        force: bool,
    ) -> Result<Retired, CommitError> {
        let start = {
            let mut state = self.core.lock();
            if state.mode != Mode::Healthy {
                return Ok(Retired::default());
            }
            state.start = state.start.max(safe.min(state.end_pos()));
            state.start
        };
        if !force && !segments.any_before(start) {
            return Ok(Retired::default());
        }
        let mut retired = Retired::default();
        // Before S moves, for whatever lies before S counts as not needed: a segment that nobody could read must
        // not be called that.
        if let Err(error) =
            segments.clear_stale().and_then(|()| segments.set_unread_aside(start, &mut retired))
        {
            retired.failed.push(error);
            return Ok(retired);
        }
        if start > segments.logged_start() {
            let position = {
                let mut state = self.core.lock();
                if state.mode != Mode::Healthy {
                    return Ok(retired);
                }
                state.push_log_start(start)
            };
            self.core.commit(Some(position), Until::Synced)?;
            segments.logged(start);
        }
        segments.unlink_before(&mut retired);
        self.counted(segments);
        Ok(retired)
    }

    fn open_next(
        &self,
        segments: &mut Segments,
        start: LogPos,
    ) -> Result<(u32, Box<dyn DiskFile>), OpenError> {
        segments.open_next(start).inspect_err(|error| {
            let mut state = self.core.lock();
            state.counters.open_errors += 1;
            state.counters.last_error = Some(describe(error));
        })
    }

    fn opened(&self, segments: &Segments) {
        self.core.lock().counters.segments_opened += 1;
        self.counted(segments);
    }

    fn counted(&self, segments: &Segments) {
        let mut state = self.core.lock();
        let current = state.opened.then_some(state.segment);
        state.counters.retained_before_bytes = segments.bytes_but_of(current);
        state.counters.segments = segments.count();
    }
}
