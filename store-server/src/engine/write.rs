//! Taking messages: into memory and the log, then as far towards the disk as the mode promises.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use store_core::ingest::{Ingested, Message, Scratch, Terms};
use store_wal::{CommitError, LogPos, RoomFor, Until};

use super::answer::{Durability, FirstBad, WriteReport};
use super::options::WalSync;
use super::scribe::Admission;
use super::{Engine, Scribe};

/// How long a thread that has other things to do waits for another one that writes the log.
const PATIENCE: Duration = Duration::from_millis(1);

/// How long a message waits for a log that has no room for it, or in mode `always` does not work, before it is answered
/// without.
pub const HELD_MAX: Duration = Duration::from_secs(4);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How far [`Engine::try_write`] came.
#[derive(Debug)]
pub enum TryWrite {
    /// All that the mode promises is done.
    Done(WriteReport),
    /// The samples are in memory and in the log's buffer: [`Engine::finish_write`] waits for the disk.
    Taken(Taken),
    /// Nothing is taken: [`Engine::write`] may block.
    Busy,
}

/// A message that is taken, and not yet as durable as promised.
#[derive(Debug)]
pub struct Taken {
    /// What is known of it, as if it were only in memory.
    pub report: WriteReport,
    records: Records,
}

/// What a message, or another request, put into the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Records {
    /// The newest one, if there was one.
    last: Option<LogPos>,
    /// Whether one is only in memory, because the log is degraded.
    unlogged: bool,
}

impl Records {
    pub(super) fn of(scribe: &Scribe<'_>) -> Self {
        Self { last: scribe.last(), unlogged: scribe.is_unlogged() }
    }

    /// With one that another request put there: if that was lost its commit says so, where there is one.
    pub(super) fn and(self, earlier: Option<LogPos>, is_in_memory: bool) -> Self {
        Self { last: self.last.max(earlier), unlogged: self.unlogged || is_in_memory }
    }
}

impl Engine {
    /// Takes a message in line protocol, and returns when what the mode promises is done.
    ///
    /// While the log has no room for it, or in mode `always` while the log does not work, it waits for at most
    /// [`HELD_MAX`], and applies nothing before. A long one is taken in pieces, and each waits so. It ends with the
    /// first that is not to be taken.
    pub fn write(&self, body: &[u8], default_cluster: Option<&str>) -> WriteReport {
        self.write_until(body, default_cluster, self.held_until())
    }

    /// Until when a message that comes now waits for a log that does not take it. Nobody waits where nothing heals the
    /// log in the background.
    pub fn held_until(&self) -> Instant {
        let held = if self.background.is_running() { HELD_MAX } else { Duration::ZERO };
        Instant::now() + held
    }

    /// [`write`](Self::write), but waits no longer than until `when` for a log that does not take the message.
    pub fn write_until(&self, body: &[u8], default_cluster: Option<&str>, when: Instant) -> WriteReport {
        self.leave_deferred_to_log();
        let is_full = self.memory_is_full.load(Ordering::Relaxed);
        let admission =
            Admission::Until { when, what: self.room_for(is_full), or_pass: self.passes() && !is_full };
        let (terms, mut scribe) = (self.terms(default_cluster), self.scribe().admitted(admission));
        let mut message = self.store.message(body, &terms);
        let unlogged = SCRATCH.with_borrow_mut(|scratch| {
            let unlogged = self.take_pieces(&mut message, &mut scribe, scratch, when);
            scratch.rest();
            unlogged
        });
        let stopped_behind = message.has_more().then(|| message.lines_taken());
        let mut taken = self.taken(message.into_report(), body.len(), &scribe);
        // Others may wait for what is left of its room.
        drop(scribe);
        taken.records.unlogged |= unlogged;
        let durability = if stopped_behind.is_some() {
            self.counters.unavailable.add(1);
            Durability::Unavailable
        } else {
            self.acknowledge_until(taken.records, when)
        };
        WriteReport { stopped_behind, durability, ..taken.report }
    }

    /// Takes a message piece by piece. What a piece has put into the log is written before the next one is taken, so
    /// that of a long message no more than that is in its buffer. Says whether that went wrong; in mode `always` nothing
    /// is taken behind it before the log is healed.
    fn take_pieces(
        &self,
        message: &mut Message<'_>,
        scribe: &mut Scribe<'_>,
        scratch: &mut Scratch,
        when: Instant,
    ) -> bool {
        let mut failed = false;
        while message.take_piece(scribe, scratch) {
            let Some(last) = scribe.last().filter(|_| message.has_more() && self.until().is_some()) else {
                continue;
            };
            if !scribe.is_unlogged() && self.log.commit(last, Until::Written).is_ok() {
                continue;
            }
            if self.passes() {
                failed = true;
            } else if self.log.wait_healed(when) {
                scribe.was_healed();
            } else {
                return true;
            }
        }
        failed
    }

    /// Whether messages that the log has no room for are taken in memory.
    fn passes(&self) -> bool {
        self.options.wal_sync != WalSync::Always
    }

    /// What a message needs of the log, before it is applied. Without room in memory it may not be there alone.
    fn room_for(&self, memory_is_full: bool) -> RoomFor {
        if self.passes() && !memory_is_full { RoomFor::Anything } else { RoomFor::Acknowledged }
    }

    /// The same on a thread that has other things to do: works as long as a common message takes, at most writes
    /// the log once, and waits for nothing that a thread holds for long.
    pub fn try_write(&self, body: &[u8], default_cluster: Option<&str>) -> TryWrite {
        if self.is_much_deferred() {
            return TryWrite::Busy;
        }
        let admission = Admission::AtOnce(self.room_for(self.memory_is_full.load(Ordering::Relaxed)));
        let (terms, mut scribe) = (self.terms(default_cluster), self.scribe().admitted(admission));
        let ingested =
            SCRATCH.with_borrow_mut(|scratch| self.store.try_ingest(body, &terms, &mut scribe, scratch));
        let Some(ingested) = ingested else { return TryWrite::Busy };
        let mut taken = self.taken(ingested, body.len(), &scribe);
        // Others may wait for what is left of its room.
        drop(scribe);
        let committed = match (self.until(), taken.records) {
            (Some(Until::Synced), _) => return TryWrite::Taken(taken),
            (Some(until), Records { last: Some(last), unlogged: false }) => {
                let committed = self.log.commit_within(last, until, PATIENCE);
                let Some(committed) = committed else { return TryWrite::Taken(taken) };
                Some(committed)
            }
            _ => None,
        };
        taken.report.durability = self.durability(taken.records, committed);
        TryWrite::Done(taken.report)
    }

    /// Waits until a message that was taken is as durable as the mode promises.
    pub fn finish_write(&self, taken: Taken) -> WriteReport {
        WriteReport { durability: self.acknowledge(taken.records), ..taken.report }
    }

    /// Waits until records are where the mode wants them.
    pub(super) fn acknowledge(&self, records: Records) -> Durability {
        self.acknowledge_until(records, self.held_until())
    }

    fn acknowledge_until(&self, records: Records, when: Instant) -> Durability {
        let mut committed = match (self.until(), records) {
            (Some(until), Records { last: Some(last), unlogged: false }) => {
                Some(self.log.commit(last, until))
            }
            _ => None,
        };
        let mut records = records;
        let failed = records.unlogged || committed.as_ref().is_some_and(Result::is_err);
        if self.options.wal_sync == WalSync::Always && failed && self.log.wait_healed(when) {
            // They were in memory before the heal ended, which logs and syncs all that no file holds.
            (committed, records.unlogged) = (None, false);
        }
        self.durability(records, committed)
    }

    fn terms<'a>(&self, default_cluster: Option<&'a str>) -> Terms<'a> {
        Terms {
            default_cluster,
            now: self.now(),
            oldest: self.horizon.keep_from_of_any(),
            newest: self.horizon.accept_to(),
            fixed_phase: self.is_dumping(),
        }
    }

    fn taken(&self, ingested: Ingested, body_bytes: usize, scribe: &Scribe<'_>) -> Taken {
        self.counters.count(&ingested, body_bytes);
        let refused = ingested.refused.iter().sum::<u64>() + ingested.freed;
        let skipped = ingested.skipped.iter().sum::<u64>() + refused;
        let report = WriteReport {
            good: ingested.good,
            bad: ingested.bad,
            skipped,
            refused,
            first_bad: ingested.first_bad.map(|(line, column, what)| FirstBad { line, column, what }),
            durability: Durability::Memory,
            stopped_behind: None,
        };
        Taken { report, records: Records::of(scribe) }
    }

    /// What an answer waits for.
    pub(super) fn until(&self) -> Option<Until> {
        match self.options.wal_sync {
            WalSync::Always => Some(Until::Synced),
            WalSync::Interval | WalSync::Write => Some(Until::Written),
            WalSync::None => None,
        }
    }

    /// How durable records are that were `committed`, or need not be.
    fn durability(&self, records: Records, committed: Option<Result<(), CommitError>>) -> Durability {
        let logged = !records.unlogged && committed.is_none_or(|done| done.is_ok());
        if logged || records.last.is_none() {
            return Durability::Kept;
        }
        if self.options.wal_sync == WalSync::Always {
            self.counters.unavailable.add(1);
            return Durability::Unavailable;
        }
        self.counters.memory_only.add(1);
        Durability::Memory
    }
}
