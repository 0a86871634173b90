//! [`Room`]: how much may be appended before something is written, and who waits for it.
//!
//! Back-pressure, and never a log that gives itself up: whoever brings much asks for room before, at a moment at which
//! nobody waits for a lock of theirs. What the log's owner logs again needs none, so that no writer can keep a heal from
//! its end; nor does it count against theirs.

use std::time::{Duration, Instant};

use crate::commit::{Core, Mode, State};
use crate::error::CommitError;
use crate::log::{Appended, Until};
use crate::{Log, LogPos, format};

/// What writers may append, and what they have appended and is not written yet.
///
/// Invariant: `reserved` is the sum of what all [`Room`]s have left.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    reserved: u64,
    /// Of what stands in the buffer: what had room.
    buffered: u64,
    /// Of what a leader writes at the moment: the same.
    in_flight: u64,
}

impl Ledger {
    /// Bytes that have room, or had it and are not written yet.
    pub(crate) fn used(&self) -> u64 {
        self.reserved + self.buffered + self.in_flight
    }

    /// Bytes are appended by somebody who has room for `left` more; what goes beyond is taken, too.
    pub(crate) fn append(&mut self, left: &mut u64, bytes: u64) {
        let covered = bytes.min(*left);
        *left -= covered;
        self.reserved -= covered;
        self.buffered += bytes;
    }

    /// The buffer goes to a leader.
    pub(crate) fn taken(&mut self) {
        self.in_flight += std::mem::take(&mut self.buffered);
    }

    /// What a leader had is written, or given up.
    pub(crate) fn written(&mut self) {
        self.in_flight = 0;
    }

    /// Everything in the buffer is given up.
    pub(crate) fn given_up(&mut self) {
        (self.buffered, self.in_flight) = (0, 0);
    }
}

/// Where something was [passed](Log::pass), and is not logged yet. Frames may stand between the first and the last.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// Since the last time that somebody began to fill them.
    fresh: Option<(LogPos, LogPos)>,
    /// What is being filled.
    filling: Option<(LogPos, LogPos)>,
}

impl Holes {
    pub(crate) fn add(&mut self, at: LogPos) {
        self.fresh = Some(self.fresh.map_or((at, at), |(first, _)| (first, at)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_none() && self.filling.is_none()
    }

    pub(crate) fn contains(&self, position: LogPos) -> bool {
        let mut ranges = self.fresh.iter().chain(&self.filling);
        ranges.any(|(first, last)| (*first..=*last).contains(&position))
    }

    /// What is to be filled now: also what somebody began to fill and did not.
    fn fill(&mut self) -> Option<(LogPos, LogPos)> {
        let fresh = self.fresh.take();
        self.filling = match (self.filling, fresh) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (one, other) => one.or(other),
        };
        self.filling
    }
}

/// What has to be so for room to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomFor {
    /// Entries that count also where they are only in memory: while the log is degraded there is always room, for
    /// nothing is logged.
    Anything,
    /// Entries that are worth nothing unless they are synced: there is no room before the log is healthy.
    Acknowledged,
}

/// Room for entries that somebody is about to append with [`Room::append`]; what is left of it is given back when it is
/// dropped.
#[derive(Debug)]
pub struct Room<'a> {
    core: &'a Core,
    left: u64,
    /// Whether somebody may wait for what this has.
    counts: bool,
}

impl Room<'_> {
    /// Appends entries as [`Log::append`] does. They may be more than there was room for: then others wait longer.
    pub fn append(&mut self, segment: u32, entries: &[(u8, &[u8])]) -> Appended {
        self.core.append(segment, entries, Some(&mut self.left))
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.counts {
            let mut state = self.core.lock();
            state.room.reserved -= self.left;
            self.core.tell(&state);
        }
    }
}

/// What a look for room found.
enum Look<'a> {
    Room(Room<'a>),
    /// None before somebody writes.
    Full,
    /// None before the log is healthy, or has gone on to its next segment.
    NotNow,
}

impl Core {
    fn look(&self, state: &mut State, bytes: u64, what: RoomFor) -> Look<'_> {
        match (state.mode, what) {
            (Mode::Healthy, _) | (Mode::Relogging, RoomFor::Anything) => {}
            (Mode::Degraded, RoomFor::Anything) => {
                return Look::Room(Room { core: self, left: 0, counts: false });
            }
            (Mode::Relogging | Mode::Degraded, RoomFor::Acknowledged) => return Look::NotNow,
        }
        let used = state.room.used();
        // What is longer than all the room there is comes when nobody else does.
        let fits = used == 0 || used.saturating_add(bytes) <= self.options.buffer_bytes_max;
        let end = u64::from(state.end) + state.room.reserved;
        if end > u64::from(format::SEGMENT_BYTES_LIMIT) {
            return Look::NotNow;
        }
        if !fits {
            return Look::Full;
        }
        state.room.reserved += bytes;
        Look::Room(Room { core: self, left: bytes, counts: true })
    }

    fn reserve(&self, bytes: u64, what: RoomFor, until: Instant) -> Option<Room<'_>> {
        let mut state = self.lock();
        loop {
            match self.look(&mut state, bytes, what) {
                Look::Room(room) => return Some(room),
                // Whoever waits for room makes it where nobody else does.
                Look::Full if state.can_be_led() && Instant::now() < until => {
                    drop(state);
                    // An error is of the log, and seen by the next look.
                    self.commit_within(None, Until::Written, Some(Duration::ZERO));
                    state = self.lock();
                }
                Look::Full | Look::NotNow => state = self.wait_until(state, until)?,
            }
        }
    }
}

impl Log {
    /// Reserves room for entries of `bytes` bytes together in the buffer; `None` if there is none now. Waits for nothing.
    pub fn try_reserve(&self, bytes: u64, what: RoomFor) -> Option<Room<'_>> {
        match self.core.look(&mut self.core.lock(), bytes, what) {
            Look::Room(room) => Some(room),
            Look::Full | Look::NotNow => None,
        }
    }

    /// The same, but waits for room, or for the log to be healed, until `until`; it writes the buffer itself if nobody
    /// does. To be called without a lock that others need to append.
    pub fn reserve(&self, bytes: u64, what: RoomFor, until: Instant) -> Option<Room<'_>> {
        self.core.reserve(bytes, what, until)
    }

    /// A position for what is not to be logged now, though the log may work: there was no room. It is only in memory, and
    /// [`has_holes`](Log::has_holes) from then on.
    pub fn pass(&self) -> LogPos {
        self.core.lock().pass()
    }

    /// Whether something is only in memory although the log works. [`fill_holes`](Log::fill_holes) begins to log it.
    pub fn has_holes(&self) -> bool {
        !self.core.lock().holes.is_empty()
    }

    /// Whether what has this position may be only in memory although the log works.
    pub fn is_hole(&self, position: LogPos) -> bool {
        self.core.lock().holes.contains(position)
    }

    /// The first and the last position that were [passed](Log::pass), if there are any. The caller appends what has
    /// these, or one between them, and calls [`holes_filled`](Log::holes_filled). What is passed meanwhile is not among
    /// them.
    pub fn fill_holes(&self) -> Option<(LogPos, LogPos)> {
        self.core.lock().holes.fill()
    }

    /// Says that everything that [`fill_holes`](Log::fill_holes) named last was appended, and [synced](Log::flush).
    pub fn holes_filled(&self) {
        let mut state = self.core.lock();
        state.holes.filling = None;
        self.core.tell(&state);
    }

    /// Writes what is buffered, if that is much, and goes on to the next segment if it is time: to be called now and
    /// then, and without a lock, by who logs much at once, as a heal does. Also while a heal is under way.
    ///
    /// # Errors
    /// [`CommitError`]: the log is degraded.
    pub fn relieve(&self) -> Result<(), CommitError> {
        if self.needs_switch() {
            match self.switch() {
                Ok(()) => return Ok(()),
                Err(crate::SwitchError::Commit(error)) => return Err(error),
                // Still in the old segment, which is as good as before.
                Err(crate::SwitchError::Open(_)) => {}
            }
        }
        // Writers may wait for the same buffer.
        let much = RELIEF_BYTES.min(self.core.options.buffer_bytes_max / 2);
        if self.core.lock().buffered_bytes() as u64 >= much { self.core.write_out() } else { Ok(()) }
    }

    /// Waits until the log is healthy and nothing is [only in memory](Log::has_holes); false if it is not by `until`.
    ///
    /// A heal logs everything again that is not durable elsewhere, so that what could not be logged or committed before
    /// is durable once this is true.
    pub fn wait_healed(&self, until: Instant) -> bool {
        let mut state = self.core.lock();
        while state.mode != Mode::Healthy || !state.holes.is_empty() {
            let Some(waited) = self.core.wait_until(state, until) else { return false };
            state = waited;
        }
        true
    }
}

/// Bytes that are worth a write of their own while much is logged at once.
const RELIEF_BYTES: u64 = 8 << 20;
