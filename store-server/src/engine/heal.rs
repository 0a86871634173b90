//! After a log error: a new segment, and everything in it that no file holds.
//!
//! What is logged again may be any amount, and comes from hosts that go on being written to: it goes piece by piece,
//! each under the host's mutex and none longer, and what is in the log's buffer goes to the disk between them.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use store_core::buffer::Relog;
use store_core::host::Host;
use store_core::journal::Journal;
use store_core::stamp::Stamp;
use store_wal::{CommitError, Until};

use super::Engine;
use super::open::describe;
use super::scribe::{Scribe, stamp};
use super::waiting::Phase;

/// Bytes of records of one host that are logged again under its mutex at a time, or one piece.
const HELD_BYTES_MAX: u64 = 1 << 20;

/// What was said of tries to heal, so that it is said once.
#[derive(Debug, Default)]
pub(super) struct Heals {
    told: Mutex<Option<String>>,
}

impl Heals {
    /// Whether this is something else than what was said last.
    fn is_news(&self, text: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.as_deref() != Some(text);
        if is_news {
            *told = Some(text.to_owned());
        }
        is_news
    }

    fn ended(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Engine {
    /// Opens a new segment and logs again all rows and floors that are not in a saved block or file. Only then
    /// are acknowledgements given again. Returns whether the log is healthy, and has everything.
    pub(super) fn heal(&self) -> bool {
        if !self.log.is_degraded() {
            return self.fill_holes();
        }
        if let Err(e) = self.log.heal_begin() {
            self.tell_of_heal("the log cannot be opened again yet", &describe(&e));
            return false;
        }
        // Whatever stands before this is in a segment that is given up, or in none.
        let all = Stamp::ZERO..stamp(self.log.end());
        match self.log_again(&all).and_then(|()| self.log.heal_finish()) {
            Ok(()) => {
                self.heals.ended();
                tracing::warn!("the log works again");
                self.counters.healed.add(1);
                self.fill_holes()
            }
            Err(e) => {
                self.tell_of_heal("the log failed again", &describe(&e));
                false
            }
        }
    }

    /// Says why the log does not work yet, if that was not said before: it is tried twice a second.
    fn tell_of_heal(&self, what: &str, error: &str) {
        if self.heals.is_news(&format!("{what}: {error}")) {
            tracing::warn!(error, "{what}: it is tried again, and said again once something changes");
        }
    }

    /// Logs what was taken in memory alone while the log had no room for it. Not before all hosts are loaded: samples
    /// that wait for that are logged in the order in which they came, or not at all.
    fn fill_holes(&self) -> bool {
        if !self.log.has_holes() {
            return true;
        }
        if self.waiting.phase() != Phase::Ready {
            return false;
        }
        let Some((first, last)) = self.log.fill_holes() else { return true };
        let missing = stamp(first)..Stamp(stamp(last).0.saturating_add(1));
        match self.log_again(&missing).and_then(|()| self.log.flush(Until::Synced)) {
            Ok(()) => {
                self.log.holes_filled();
                tracing::warn!("the log has room again, and what was in memory alone");
                self.counters.healed.add(1);
                !self.log.has_holes()
            }
            Err(e) => {
                self.tell_of_heal("the log failed while it took what was in memory alone", &describe(&e));
                false
            }
        }
    }

    /// Logs everything again whose record stands, or would stand, within a range.
    fn log_again(&self, within: &Range<Stamp>) -> Result<(), CommitError> {
        let mut scribe = self.scribe();
        for host in self.store.all_hosts() {
            self.log_host_again(&mut scribe, &host, within)?;
        }
        Ok(())
    }

    /// The same of one host. Its mutex is free between two pieces, while the log's buffer goes to the disk.
    pub(super) fn log_host_again(
        &self,
        scribe: &mut Scribe<'_>,
        host: &Arc<Host>,
        within: &Range<Stamp>,
    ) -> Result<(), CommitError> {
        let mut progress = Vec::new();
        loop {
            self.jobs.step();
            let more = log_part_again(scribe, host, within, &mut progress);
            self.log.relieve()?;
            if !more {
                return Ok(());
            }
        }
    }
}

/// Logs a part of a host again, under one hold of its mutex. Returns whether there is more.
fn log_part_again(
    scribe: &mut Scribe<'_>,
    host: &Arc<Host>,
    within: &Range<Stamp>,
    progress: &mut Vec<Relog>,
) -> bool {
    let until = scribe.bytes() + HELD_BYTES_MAX;
    let mut state = host.lock();
    while state.restamp_deferred(within.end, |samples| scribe.samples(host, samples)) {
        if scribe.bytes() >= until {
            return true;
        }
    }
    if state.floors().safe() < within.end {
        let floors: Vec<_> =
            state.floors().unsaved().iter().map(|floor| (floor.column, floor.before)).collect();
        let at = scribe.floors(host, &mut state, &floors);
        state.floors_mut().restamp(at);
    }
    let shape = Arc::clone(state.shape());
    progress.resize_with(state.buffers().len().max(progress.len()), Relog::default);
    for (buffer, progress) in state.buffers_mut().iter_mut().zip(progress) {
        while buffer.relog(within, progress, |rows| scribe.rows_of(host, &shape, rows)) {
            if scribe.bytes() >= until {
                return true;
            }
        }
    }
    false
}
