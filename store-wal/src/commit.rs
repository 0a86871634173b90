//! Who writes and who waits: the buffer of appended frames, and the one leader that takes it to the disk.
//!
//! [`Core`] has one mutex, held for memory work only. A thread that wants a position durable becomes the leader
//! if there is none: it takes the buffer and the file, lets go of the mutex, writes (and syncs) for all, and
//! wakes the others. Who appends meanwhile waits for the next leader.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store_disk::frame::{self, OVERHEAD_BYTES};
use store_disk::{DiskFile, Lineage};

use crate::error::CommitError;
use crate::log::{Appended, LogOptions, Until};
use crate::room::{Holes, Ledger};
use crate::stats::Counters;
use crate::{LogPos, format};

/// A buffer that grew beyond this is given back to the allocator after its write.
const SPARE_BYTES_MAX: usize = 8 << 20;

/// Ranges of lost positions that are told apart; the oldest two become one beyond that.
const LOST_RANGES_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Healthy,
    /// A new segment takes what is logged again; nothing in it is acknowledged before all of it is synced.
    Relogging,
    /// Positions are given out and nothing is logged.
    Degraded,
}

/// What the mutex guards.
///
/// Invariant: `buffer` holds the frames between the last hand-over to a leader and `end`; `synced <= written <=
/// end`; unless degraded, either `file` is there or `busy` says that a leader has it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mode: Mode,
    /// A segment of this process was opened: the number in all positions given out has a durable name.
    pub(crate) opened: bool,
    pub(crate) segment: u32,
    seed: u64,
    /// Offset of the next frame. While degraded it only counts, so that positions go on growing.
    pub(crate) end: u32,
    /// `end` when the log became degraded.
    pub(crate) logged_end: u32,
    buffer: Vec<u8>,
    spare: Vec<u8>,
    /// Who may append how much: see [`Ledger`].
    pub(crate) room: Ledger,
    /// What only memory holds although the log works: see [`pass`](State::pass).
    pub(crate) holes: Holes,
    file: Option<Box<dyn DiskFile>>,
    busy: bool,
    sync_waiters: usize,
    /// Threads that wait for `changed`: telling nobody would be a call of the system each time.
    waiters: usize,
    /// Goes up when a segment is given up: a leader of an earlier epoch has nothing to say any more.
    epoch: u64,
    written: LogPos,
    synced: LogPos,
    /// Where the positions of this process begin.
    first: LogPos,
    /// Positions below `synced` that were never synced, in order.
    lost: Vec<Range<LogPos>>,
    /// S: the log is needed from here on.
    pub(crate) start: LogPos,
    /// Whether this process claims what is saved.
    claimed: bool,
    pub(crate) counters: Counters,
}

impl State {
    pub(crate) fn end_pos(&self) -> LogPos {
        LogPos::new(self.segment, self.end)
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends one frame of the log's own to the buffer.
    pub(crate) fn push_log_start(&mut self, start: LogPos) -> LogPos {
        let at = self.end_pos();
        format::push_log_start(&mut self.buffer, self.seed, u64::from(self.end), start);
        self.end = self.end.saturating_add(LOG_START_FRAME_BYTES);
        at
    }

    /// A position for what only memory holds although the log works: behind the newest frame and before the next one.
    /// That is inside of the newest frame, where none begins: who has seen it has not seen the next frame.
    pub(crate) fn pass(&mut self) -> LogPos {
        let at = LogPos::new(self.segment, self.end - 1);
        // A heal logs it anyway, once it begins.
        if self.mode != Mode::Degraded {
            self.holes.add(at);
        }
        self.counters.unlogged_frames += 1;
        at
    }

    /// Whether there is something to write, and nobody who does.
    pub(crate) fn can_be_led(&self) -> bool {
        self.mode == Mode::Healthy && !self.busy && !self.buffer.is_empty()
    }

    /// Positions for `count` frames that are not logged. They stop growing where 32 bits end, after some days of
    /// that; equal positions are harmless there, for no row of them is in the log.
    fn unlogged(&mut self, count: usize) -> Appended {
        let step = |by: usize| u32::try_from(by).unwrap_or(u32::MAX);
        let first = self.end_pos();
        let last = LogPos::new(self.segment, self.end.saturating_add(step(count - 1)));
        self.end = self.end.saturating_add(step(count));
        self.counters.unlogged_frames += count as u64;
        Appended::At { first, last, logged: false }
    }

    /// Whether the frame at `position` is on disk for certain: in a segment of an earlier process, or synced.
    pub(crate) fn is_synced(&self, position: LogPos) -> bool {
        let was_written = position < self.first || position < self.synced && !self.is_lost(position);
        was_written && !self.holes.contains(position)
    }

    fn is_lost(&self, position: LogPos) -> bool {
        position < self.first || self.lost.iter().any(|range| range.contains(&position))
    }

    /// Gives up the current segment: it is never written or synced again.
    fn give_up(&mut self, why: String) {
        if self.mode == Mode::Healthy {
            self.counters.degradations += 1;
        }
        self.mode = Mode::Degraded;
        self.logged_end = self.end;
        self.epoch += 1;
        self.busy = false;
        self.file = None;
        self.buffer = Vec::new();
        self.room.given_up();
        // What was written and not synced may be dropped from the page cache by the failed sync.
        self.written = self.synced;
        self.counters.poisoned_segments += 1;
        self.counters.last_error = Some(why);
    }

    /// Makes `number` the segment in which positions are given out.
    fn begin(&mut self, number: u32, seed: u64) {
        self.segment = number;
        self.seed = seed;
        self.end = FIRST_END;
        self.opened = true;
        if self.claimed {
            self.push_log_start(self.start);
        }
    }

    /// Says that what is saved may be relied upon: a LogStart that is not the first frame of its segment does. Later
    /// segments say it too.
    pub(crate) fn claim(&mut self) {
        if !std::mem::replace(&mut self.claimed, true) && self.mode != Mode::Degraded {
            self.push_log_start(self.start);
        }
    }

    /// Remembers that no position from the last synced one to `until` is in the log.
    fn lose_unsynced(&mut self, until: LogPos) {
        let lost = self.synced..until;
        match self.lost.last_mut() {
            // Only a header lies between: one heal after the other failed.
            Some(last) if lost.start <= LogPos::new(last.end.segment(), FIRST_END) => last.end = lost.end,
            _ => self.lost.push(lost),
        }
        if self.lost.len() > LOST_RANGES_MAX {
            // Calling something lost that was synced is the honest side to err on.
            let oldest = self.lost.remove(0);
            if let Some(next) = self.lost.first_mut() {
                next.start = oldest.start;
            }
        }
    }
}

const FIRST_END: u32 = format::FIRST_BYTES as u32;
const LOG_START_FRAME_BYTES: u32 = (OVERHEAD_BYTES + format::LOG_START_BYTES) as u32;

/// The log's memory and its current file.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) dir: PathBuf,
    pub(crate) lineage: Lineage,
    pub(crate) options: LogOptions,
    state: Mutex<State>,
    changed: Condvar,
}

/// The leader's hold on the current file.
///
/// If it is dropped without [`finish`](Turn::finish), by a panic of the disk, the segment is given up: nobody
/// knows what was written.
struct Turn<'a> {
    core: &'a Core,
    file: Option<Box<dyn DiskFile>>,
    epoch: u64,
    segment: u32,
}

impl Core {
    /// A core whose current segment is `number` with `file`, or that is degraded at `end` if there is no file.
    pub(crate) fn new(
        dir: PathBuf,
        lineage: Lineage,
        options: LogOptions,
        at: LogPos,
        file: Option<Box<dyn DiskFile>>,
        start: LogPos,
    ) -> Self {
        let opened = file.is_some();
        let state = State {
            mode: if opened { Mode::Healthy } else { Mode::Degraded },
            opened,
            segment: at.segment(),
            seed: format::seed(lineage, at.segment()),
            end: at.offset(),
            logged_end: at.offset(),
            buffer: Vec::new(),
            spare: Vec::new(),
            room: Ledger::default(),
            holes: Holes::default(),
            file,
            busy: false,
            sync_waiters: 0,
            waiters: 0,
            epoch: 0,
            written: at,
            synced: at,
            first: at,
            lost: Vec::new(),
            start,
            claimed: false,
            counters: Counters { degradations: u64::from(!opened), ..Counters::default() },
        };
        Self { dir, lineage, options, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs between two states that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiters += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        state
    }

    /// [`wait`](Self::wait), but not beyond `until`; `None` once that has passed.
    pub(crate) fn wait_until<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Instant,
    ) -> Option<MutexGuard<'a, State>> {
        let left = until.checked_duration_since(Instant::now())?;
        state.waiters += 1;
        let (mut state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        Some(state)
    }

    pub(crate) fn tell(&self, state: &State) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// Appends entries; what `reserved` has room for counts against the limit of the buffer.
    pub(crate) fn append(
        &self,
        segment: u32,
        entries: &[(u8, &[u8])],
        reserved: Option<&mut u64>,
    ) -> Appended {
        assert!(!entries.is_empty(), "nothing to append");
        let mut bytes = 0;
        for (kind, payload) in entries {
            assert!(*kind >= format::KIND_USER_MIN, "kind {kind} is the log's own");
            if payload.len() > frame::PAYLOAD_BYTES_MAX {
                return Appended::TooLong;
            }
            bytes += (payload.len() + OVERHEAD_BYTES) as u64;
        }
        let mut state = self.lock();
        let state = &mut *state;
        if state.segment != segment {
            return Appended::NewSegment(state.segment);
        }
        if state.mode == Mode::Degraded {
            return state.unlogged(entries.len());
        }
        if u64::from(state.end) + bytes > u64::from(u32::MAX) {
            // A thousand million bytes beyond where room ends: only what reserves none comes here. It is in memory
            // alone then, until all is logged again.
            let at = state.pass();
            return Appended::At { first: at, last: at, logged: false };
        }
        if let Some(reserved) = reserved {
            state.room.append(reserved, bytes);
        }
        let first = state.end_pos();
        let mut last = first;
        for (kind, payload) in entries {
            last = state.end_pos();
            frame::encode_into(&mut state.buffer, state.seed, u64::from(state.end), *kind, &[payload]);
            // Cannot truncate: the sum was compared with the limit above.
            state.end += (payload.len() + OVERHEAD_BYTES) as u32;
        }
        state.counters.frames += entries.len() as u64;
        state.counters.frame_bytes += bytes;
        Appended::At { first, last, logged: true }
    }

    /// Waits until `asked`, or everything appended so far, is durable as far as `until` says; leads if nobody does.
    pub(crate) fn commit(&self, asked: Option<LogPos>, until: Until) -> Result<(), CommitError> {
        // Without a patience there is always an answer.
        self.commit_within(asked, until, None).unwrap_or(Err(CommitError::Degraded))
    }

    /// The same, but waits for another leader no longer than `patience`; `None` if that was too short.
    pub(crate) fn commit_within(
        &self,
        asked: Option<LogPos>,
        until: Until,
        patience: Option<Duration>,
    ) -> Option<Result<(), CommitError>> {
        let mut deadline = None;
        let mut state = self.lock();
        if let Some(position) = asked
            && position >= state.end_pos()
        {
            return Some(Err(CommitError::NotLogged(position)));
        }
        let target = match asked {
            Some(position) => LogPos::from_u64(position.to_u64().saturating_add(1)),
            None => state.end_pos(),
        };
        loop {
            let mark = match until {
                Until::Written => state.written,
                Until::Synced => state.synced,
            };
            if target <= mark {
                return Some(match asked {
                    Some(position) if state.is_lost(position) => Err(CommitError::NotLogged(position)),
                    _ => Ok(()),
                });
            }
            if state.mode != Mode::Healthy {
                return Some(Err(CommitError::Degraded));
            }
            if !state.busy {
                // Who has no time to wait does not sync for others either: they are told, and lead next.
                let sync = until == Until::Synced || (patience.is_none() && state.sync_waiters > 0);
                state = match self.lead(state, sync) {
                    Ok(state) => state,
                    Err(error) => return Some(Err(error)),
                };
                continue;
            }
            if let Some(patience) = patience {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                state = self.wait_until(state, deadline)?;
                continue;
            }
            let waits = usize::from(until == Until::Synced);
            state.sync_waiters += waits;
            state = self.wait(state);
            state.sync_waiters -= waits;
        }
    }

    /// Writes everything appended so far, also while relogging.
    pub(crate) fn write_out(&self) -> Result<(), CommitError> {
        let state = self.idle()?;
        self.lead(state, false).map(drop)
    }

    /// Writes and syncs everything appended so far, also while relogging.
    pub(crate) fn drain(&self) -> Result<(), CommitError> {
        let state = self.idle()?;
        self.lead(state, true).map(drop)
    }

    /// The state, at a moment without a leader.
    fn idle(&self) -> Result<MutexGuard<'_, State>, CommitError> {
        let mut state = self.lock();
        while state.busy {
            state = self.wait(state);
        }
        if state.mode == Mode::Degraded { Err(CommitError::Degraded) } else { Ok(state) }
    }

    /// One turn of the leader. Nobody else leads, and the mode is not degraded.
    pub(crate) fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sync: bool,
    ) -> Result<MutexGuard<'a, State>, CommitError> {
        let mut turn = self.turn(&mut state);
        let (bytes, end) = (state.take_buffer(), state.end_pos());
        drop(state);
        turn.put(bytes, end, sync)?;
        Ok(turn.finish())
    }

    fn turn(&self, state: &mut State) -> Turn<'_> {
        debug_assert!(!state.busy && state.file.is_some(), "two leaders");
        state.busy = true;
        Turn { core: self, file: state.file.take(), epoch: state.epoch, segment: state.segment }
    }

    /// Makes the segment `number` the current one, after `file` was opened for it: from here on positions are
    /// given out in it, and acknowledged once the old one is written and synced to its end.
    ///
    /// Yields where the old one ends.
    pub(crate) fn flip(&self, number: u32, file: Box<dyn DiskFile>) -> Result<u32, CommitError> {
        let mut state = self.idle()?;
        let mut turn = self.turn(&mut state);
        let (bytes, end) = (state.take_buffer(), state.end_pos());
        state.begin(number, format::seed(self.lineage, number));
        drop(state);
        turn.put(bytes, end, true)?;
        turn.file = Some(file);
        let epoch = turn.epoch;
        let mut state = turn.finish();
        if state.epoch != epoch {
            return Err(CommitError::Degraded);
        }
        state.written = LogPos::new(number, FIRST_END);
        state.synced = state.written;
        Ok(end.offset())
    }

    /// Goes from degraded to relogging, in the segment `number` that was opened for it.
    pub(crate) fn relog(&self, number: u32, file: Box<dyn DiskFile>) {
        let mut state = self.lock();
        state.lose_unsynced(LogPos::new(number, 0));
        state.begin(number, format::seed(self.lineage, number));
        state.mode = Mode::Relogging;
        // All of it is logged again now.
        state.holes = Holes::default();
        state.file = Some(file);
        state.written = LogPos::new(number, FIRST_END);
        state.synced = state.written;
    }

    /// Goes from relogging to healthy, after everything is synced.
    pub(crate) fn healed(&self) -> Result<(), CommitError> {
        self.drain()?;
        let mut state = self.lock();
        if state.mode == Mode::Degraded {
            return Err(CommitError::Degraded);
        }
        state.mode = Mode::Healthy;
        self.tell(&state);
        Ok(())
    }

    /// Gives up the current segment, for a reason that is not in it.
    pub(crate) fn degrade(&self, why: String) {
        let mut state = self.lock();
        if state.mode != Mode::Degraded {
            state.give_up(why);
            self.tell(&state);
        }
    }
}

impl State {
    fn take_buffer(&mut self) -> Vec<u8> {
        self.room.taken();
        std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare))
    }
}

impl<'a> Turn<'a> {
    /// Writes `bytes`, which end at `end`, and syncs if asked. The marks move as far as it went; after an error
    /// the segment is given up.
    fn put(&mut self, mut bytes: Vec<u8>, end: LogPos, sync: bool) -> Result<(), CommitError> {
        let Some(file) = self.file.as_mut() else { return Err(CommitError::Degraded) };
        if !bytes.is_empty() {
            let written = file.append(&bytes);
            let mut state = self.core.lock();
            if let Err(source) = written {
                state.counters.write_errors += 1;
                let path = self.path();
                return Err(self.give_up(state, CommitError::Write { path, source }));
            }
            state.counters.writes += 1;
            state.counters.written_bytes += bytes.len() as u64;
            if state.epoch != self.epoch {
                return Err(CommitError::Degraded);
            }
            state.room.written();
            bytes.clear();
            if bytes.capacity() <= SPARE_BYTES_MAX {
                state.spare = bytes;
            }
            state.written = end;
            if sync {
                // Who waits for the write alone need not wait for the sync.
                self.core.tell(&state);
            }
        }
        if sync {
            let synced = file.sync();
            let mut state = self.core.lock();
            if let Err(source) = synced {
                state.counters.sync_errors += 1;
                let path = self.path();
                return Err(self.give_up(state, CommitError::Sync { path, source }));
            }
            state.counters.syncs += 1;
            if state.epoch != self.epoch {
                return Err(CommitError::Degraded);
            }
            state.written = end;
            state.synced = end;
        }
        Ok(())
    }

    fn give_up(&self, mut state: MutexGuard<'_, State>, error: CommitError) -> CommitError {
        if state.epoch == self.epoch {
            state.give_up(describe(&error));
            self.core.tell(&state);
        }
        error
    }

    /// Gives the file back, and the state, at the moment in which another leader may begin.
    fn finish(mut self) -> MutexGuard<'a, State> {
        let mut state = self.core.lock();
        let file = self.file.take();
        if state.epoch == self.epoch {
            state.file = file;
            state.busy = false;
        }
        self.core.tell(&state);
        state
    }

    fn path(&self) -> PathBuf {
        format::segment_path(&self.core.dir, self.segment)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            let mut state = self.core.lock();
            if state.epoch == self.epoch {
                state.give_up(format!("writing {} was broken off", self.path().display()));
                self.core.tell(&state);
            }
        }
    }
}

/// The error and its source, for the status page.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn degraded_at(offset: u32) -> Core {
        let at = LogPos::new(3, offset);
        Core::new("/log".into(), Lineage([0; 16]), LogOptions::default(), at, None, LogPos::ZERO)
    }

    #[test]
    fn positions_that_are_not_logged_stop_growing_at_the_end_of_the_offsets_and_stay_in_their_segment() {
        let core = degraded_at(u32::MAX - 3);
        let mut last = LogPos::ZERO;
        for _ in 0..4 {
            let Appended::At { first, last: end, logged: false } =
                core.append(3, &[(16, b"a"), (16, b"b")], None)
            else {
                panic!("logged")
            };
            assert!(last <= first && first <= end && end.segment() == 3, "{last} {first} {end}");
            last = end;
        }
        assert_eq!(last, LogPos::new(3, u32::MAX));
        assert!(core.commit(Some(last), Until::Written).is_err());
    }

    #[test]
    fn many_lost_ranges_become_few_and_forget_no_lost_position() {
        let core = degraded_at(0);
        let mut lost = Vec::new();
        for number in (10..2000).step_by(10) {
            let mut state = core.lock();
            lost.push(state.synced);
            state.lose_unsynced(LogPos::new(number, 0));
            lost.push(LogPos::new(number - 1, 7));
            // Synced for a while in the new segment.
            state.synced = LogPos::new(number, 5000);
        }
        let state = core.lock();
        assert!(state.lost.len() <= LOST_RANGES_MAX && state.lost.is_sorted_by_key(|range| range.start));
        assert!(lost.iter().all(|position| state.is_lost(*position)));
        assert!(!state.is_lost(LogPos::new(1990, 100)), "what was synced last is known");
    }

    #[test]
    fn heals_that_fail_one_after_the_other_lose_one_range() {
        let core = degraded_at(500);
        for number in 4..200 {
            let mut state = core.lock();
            state.lose_unsynced(LogPos::new(number, 0));
            state.synced = LogPos::new(number, FIRST_END);
        }
        assert_eq!(core.lock().lost, [LogPos::new(3, 500)..LogPos::new(199, 0)]);
    }

    #[derive(Debug)]
    struct Accepting;

    impl DiskFile for Accepting {
        fn append(&mut self, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }

        fn sync(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_has_little_patience_writes_itself_or_goes_elsewhere() {
        let at = LogPos::new(3, FIRST_END);
        let file: Box<dyn DiskFile> = Box::new(Accepting);
        let core = Core::new("/log".into(), Lineage([0; 16]), LogOptions::default(), at, Some(file), at);
        let append = || match core.append(3, &[(16, b"a")], None) {
            Appended::At { last, logged: true, .. } => last,
            other => panic!("{other:?}"),
        };
        let commit =
            |position| core.commit_within(Some(position), Until::Written, Some(Duration::from_millis(5)));
        let first = append();
        assert!(matches!(commit(first), Some(Ok(()))), "nobody else writes");
        let second = append();
        let mut turn = core.turn(&mut core.lock());
        assert!(commit(second).is_none(), "somebody else writes and does not end");
        assert!(matches!(commit(first), Some(Ok(()))), "what is written needs no patience");
        thread::scope(|scope| {
            let waits = scope.spawn(|| core.commit(Some(second), Until::Synced));
            let (bytes, end) = {
                let mut state = core.lock();
                while state.waiters == 0 {
                    drop(state);
                    thread::yield_now();
                    state = core.lock();
                }
                (state.take_buffer(), state.end_pos())
            };
            turn.put(bytes, end, true).unwrap();
            drop(turn.finish());
            assert!(waits.join().unwrap().is_ok(), "who waits is told");
        });
        assert!(matches!(commit(second), Some(Ok(()))));
    }
}
