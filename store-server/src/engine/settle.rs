//! [`Unsettled`]: hosts of which something was found that the log must not be relied upon for before it is written again.
//!
//! Blocks of a lost log carry positions that this log may give out itself one day, or that count as retired once S has
//! moved. So until they stand in files under positions of this log, S does not move and nobody claims anything: every start
//! in between finds what this one found, and judges it the same way.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use store_core::host::Host;
use store_wal::{LogPos, Until};

use super::Engine;
use super::on_disk::OnDisk;
use super::open::describe;
use super::scribe::stamp;
use super::waiting::Phase;

/// Hosts by number.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// The greatest position of a lost log under which something of the host is saved.
    lost: BTreeMap<u32, LogPos>,
    /// Hosts whose blocks are only to be saved.
    unsaved: BTreeMap<u32, Arc<Host>>,
}

impl Unsettled {
    /// Notes a host that was loaded.
    pub(super) fn enter(&mut self, host: &Arc<Host>, lost: Option<LogPos>) {
        self.lost.extend(lost.map(|lost| (host.number(), lost)));
        self.unsaved.insert(host.number(), Arc::clone(host));
    }

    fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.unsaved.is_empty()
    }
}

impl Engine {
    pub(super) fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether S may move.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled().is_empty()
    }

    /// To be called before anything is saved. False if nothing may be: blocks hold what a lost log said, and this log cannot
    /// go on to where positions for them are free.
    pub(super) fn may_save(&self) -> bool {
        // No position may be in a file before the log knows that it was given out. If that fails the log says so itself.
        self.log.flush(Until::Written).ok();
        self.restamp_lost()
    }

    /// Gives blocks that hold what a lost log said positions of this log, above all that were found. False if the log
    /// cannot go on to where they are free.
    fn restamp_lost(&self) -> bool {
        let mut unsettled = self.unsettled();
        let Some(newest) = unsettled.lost.values().max().copied() else { return true };
        if self.log.is_degraded() {
            return false;
        }
        if self.log.segment() <= newest.segment() {
            self.log.open_above(newest.segment());
            if let Err(e) = self.log.switch() {
                tracing::error!(error = %describe(&e), "the log cannot go on behind what a lost log has saved");
                return false;
            }
        }
        for number in std::mem::take(&mut unsettled.lost).into_keys() {
            let Some(host) = unsettled.unsaved.get(&number).filter(|host| !host.is_poisoned()) else {
                continue;
            };
            let mut state = host.lock();
            // Read under the host's mutex: everything of this host before it is applied.
            let end = stamp(self.log.end());
            host.stamp_anew(&mut state, end, self.now());
        }
        true
    }

    /// To be called after a save: lets go of the hosts of which everything is in files now, and of their old files. Once
    /// none is left the next start may rely on what is saved.
    pub(super) fn settle(&self) {
        let unsaved: Vec<Arc<Host>> = {
            let unsettled = self.unsettled();
            if !unsettled.lost.is_empty() {
                return;
            }
            unsettled.unsaved.values().cloned().collect()
        };
        for host in unsaved {
            if host.is_poisoned() || !host.lock().is_saved() {
                continue;
            }
            self.set_damaged_aside(&host);
            self.remove_sources(&host);
            if self.on_disk().get(&host.number()).is_none_or(OnDisk::is_settled) {
                self.unsettled().unsaved.remove(&host.number());
            }
        }
        self.claim();
    }

    /// Says in the log that what is saved carries its positions, once that is so of all hosts.
    pub(super) fn claim(&self) {
        if self.waiting.phase() == Phase::Ready && self.is_settled() && !self.is_pending() {
            self.log.claim();
        }
    }
}
