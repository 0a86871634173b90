//! After a log error: a new segment, and everything in it that no file holds.

use std::sync::Arc;

use store_core::journal::Journal;

use super::Engine;
use super::open::describe;

impl Engine {
    /// Opens a new segment and logs again all rows and floors that are not in a saved block or file. Only then
    /// are acknowledgements given again. Returns whether the log is healthy.
    pub(super) fn heal(&self) -> bool {
        if !self.log.is_degraded() {
            return true;
        }
        if let Err(e) = self.log.heal_begin() {
            tracing::warn!(error = %describe(&e), "the log cannot be opened again yet");
            return false;
        }
        let mut scribe = self.scribe();
        for host in self.store.all_hosts() {
            self.jobs.step();
            let mut state = host.lock();
            state.restamp_deferred(|samples| scribe.samples(&host, samples));
            let floors: Vec<_> =
                state.floors().unsaved().iter().map(|floor| (floor.column, floor.before)).collect();
            if !floors.is_empty() {
                let at = scribe.floors(&host, &mut state, &floors);
                state.floors_mut().restamp(at);
            }
            let shape = Arc::clone(state.shape());
            for buffer in state.buffers_mut() {
                buffer.relog(|rows| scribe.rows_of(&host, &shape, rows));
            }
        }
        match self.log.heal_finish() {
            Ok(()) => {
                tracing::warn!("the log works again");
                self.counters.healed.add(1);
                true
            }
            Err(e) => {
                tracing::warn!(error = %describe(&e), "the log failed again");
                false
            }
        }
    }
}
