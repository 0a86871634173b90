//! Samples of hosts that are still to be loaded: they wait in memory, and where they are many, in the log alone.

use std::sync::{MutexGuard, PoisonError};

use store_core::host::{Deferred, Host, HostState};
use store_core::record::{Record, heap_bytes};
use store_core::row::Rows;
use store_core::stamp::Stamp;
use store_wal::{CallError, FrameReader, FrameWalk, Until};

use super::Engine;
use super::load::Loading;
use super::scribe::{position, stamp};

/// Bytes of samples that wait in memory for their hosts. Beyond them the log has to do.
const DEFERRED_BYTES_MAX: usize = 64 << 20;

impl Engine {
    /// Whether more samples wait in memory for their hosts than are to.
    pub(super) fn is_much_deferred(&self) -> bool {
        self.store.deferred_bytes() > DEFERRED_BYTES_MAX
    }

    /// Where many samples wait for their hosts, forgets those that are durable in the log, from which the load of each
    /// host then reads them. While the log does not work they stay, and count as memory.
    pub(super) fn leave_deferred_to_log(&self) {
        if !self.is_much_deferred() {
            return;
        }
        let _one_at_a_time = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_much_deferred() || self.log.is_degraded() || self.log.has_holes() {
            return;
        }
        let durable = stamp(self.log.end());
        if self.log.flush(Until::Synced).is_err() {
            return;
        }
        let reader = self.log.reader();
        for host in self.store.all_hosts() {
            self.leave_to_log(&host, &reader, durable);
        }
    }

    /// Leaves those first messages that wait for a host to the log which are read there as they are in memory: nothing
    /// is forgotten because of what a position should mean.
    fn leave_to_log(&self, host: &Host, reader: &FrameReader, durable: Stamp) {
        let mut state = host.lock();
        let mut walk = reader.walk(&*self.disk);
        let (mut count, mut bytes) = (0, 0);
        for deferred in state.deferred() {
            if let Some(samples) = &deferred.samples {
                let is_logged = |record: Record<'_>| match record {
                    Record::Samples { cluster, host: name, samples: logged } => {
                        (cluster, name) == (host.cluster(), host.name()) && logged == *samples
                    }
                    _ => false,
                };
                let logged = read(&mut walk, deferred.stamp, is_logged);
                if deferred.stamp >= durable || !matches!(logged, Ok(Some(true))) {
                    break;
                }
                bytes += heap_bytes(samples);
            }
            count += 1;
        }
        state.leave_to_log(count);
        drop(state);
        self.store.take_deferred(bytes);
    }
}

impl<'a> Loading<'a> {
    /// Applies what came since the start and was left to the log, and takes the host's mutex at a moment when that is
    /// all. `None` if the log cannot be read.
    pub(super) fn catch_up(&mut self) -> Option<MutexGuard<'a, HostState>> {
        loop {
            let state = self.host.lock();
            let is_left = |deferred: &&Deferred| deferred.samples.is_none();
            let left = state.deferred().iter().filter(is_left).skip(self.left_to_log);
            let stamps: Vec<Stamp> = left.map(|deferred| deferred.stamp).collect();
            if stamps.is_empty() {
                return Some(state);
            }
            drop(state);
            if let Err(e) = self.apply_left(&stamps) {
                self.cannot_read_log(&e);
                return None;
            }
        }
    }

    fn apply_left(&mut self, stamps: &[Stamp]) -> Result<(), CallError> {
        let (engine, host) = (self.engine, self.host);
        let reader = engine.log.reader();
        let mut walk = reader.walk(&*engine.disk);
        let mut rows = Rows::default();
        for &at in stamps {
            let applied = read(&mut walk, at, |record| {
                let Record::Samples { samples, .. } = record else { return };
                rows.clear();
                self.rows_of_samples(&samples, at, &mut rows);
                host.apply(&mut self.state, rows.views(), at, engine.now());
            })?;
            self.left_to_log += 1;
            if applied.is_none() {
                self.note_lost_frames(1);
            }
        }
        Ok(())
    }
}

/// What `visit` makes of the record at a position; `None` if none stands there, or it is not what was written.
fn read<T>(
    walk: &mut FrameWalk<'_>,
    at: Stamp,
    visit: impl FnOnce(Record<'_>) -> T,
) -> Result<Option<T>, CallError> {
    let frame = walk.frame(position(at))?;
    Ok(frame.and_then(|(kind, payload)| Record::decode(kind, payload).ok()).map(visit))
}
