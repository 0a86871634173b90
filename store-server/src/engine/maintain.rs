//! Maintenance: what is done now and then, and when it is due.

use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use store_checkpoint::blockfile;
use store_checkpoint::cleanup::{Holds, Limits};
use store_checkpoint::files::HostDirs;
use store_checkpoint::load::LoadError;
use store_core::Timestamp;
use store_core::block::BlockState;
use store_wal::LogPos;

use super::Engine;
use super::open::describe;
use super::options::Cleanup;
use super::problems::Grade;
use super::roll::ROLL_BYTES_MAX;
use super::save::{Saved, Seal};
use super::scribe::stamp;
use super::waiting::Phase;

/// Seconds between two saves of blocks that were sealed.
const SAVE_EVERY_S: i64 = 5;

/// Bytes of blocks, sealed since the last save, that are saved before their time: they are on the heap until then.
const SEALED_BYTES_MAX: usize = 16 << 20;

/// Seconds between two looks for what is older than the retention, or to be rolled.
const SWEEP_EVERY_S: i64 = 60;

/// Longest time between two tries to get below a memory cap that cannot be reached, seconds.
const RELIEF_EVERY_MAX_S: i64 = 86_400;

/// Bytes of blocks that one sweep verifies, beyond those that were read before.
const VERIFY_BYTES_MAX: usize = 64 << 20;

/// Bytes of log that a start replays in ten seconds on one core, by a cautious guess.
const REPLAY_BYTES_MAX: u64 = 800 << 20;

const NOT_CLEANED: &str = "directory could not be cleaned up: tried again";

/// Takes back that something was done, where a panic came in between: it is due still.
struct Undo<'a> {
    engine: &'a Engine,
    before: LastDone,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.engine.last.lock().unwrap_or_else(PoisonError::into_inner) = self.before;
        }
    }
}

/// When what was done last, by the clock, seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastDone {
    saved: Option<Timestamp>,
    checkpoint: Option<Timestamp>,
    swept: Option<Timestamp>,
    cleaned: Option<Timestamp>,
}

/// Tries to get below the memory cap that were in vain.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// How many one after the other.
    tries: u32,
    /// When the last one was, by the clock, seconds.
    last: Timestamp,
}

impl Relief {
    /// Whether it is time to try again: a minute after the first try, then each time twice as long, up to a day.
    fn is_due(&self, now: Timestamp) -> bool {
        let wait_s = SWEEP_EVERY_S << self.tries.min(11);
        self.tries == 0 || now < self.last || now - self.last >= wait_s.min(RELIEF_EVERY_MAX_S)
    }

    fn failed(&mut self, now: Timestamp) {
        *self = Self { tries: self.tries.saturating_add(1), last: now };
    }
}

/// Whether `interval_s` passed since `last`, which is set to `now` then. A clock that went back counts as passed.
fn is_due(last: &mut Option<Timestamp>, interval_s: i64, now: Timestamp) -> bool {
    let due = last.is_none_or(|last| now < last || now - last >= interval_s);
    if due {
        *last = Some(now);
    }
    due
}

impl Engine {
    /// Does what is due. Called twice a second in the background; a harness calls it when it likes.
    pub fn tick(&self) {
        let now = self.clock.now_s();
        self.report_damage();
        self.maintain(now);
        self.tell_problems();
    }

    fn maintain(&self, now: Timestamp) {
        let may_log = self.look_around(now);
        if may_log {
            self.heal();
        }
        self.heed_memory_while_degraded();
        if may_log
            && self.log.needs_switch()
            && let Err(e) = self.log.switch()
        {
            tracing::error!(error = %describe(&e), "the log could not go on to its next segment");
        }
        if self.waiting.phase() != Phase::Ready {
            return;
        }
        let before = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let _undo = Undo { engine: self, before };
        self.try_unlisted(now);
        self.look_at_time();
        let (save, checkpoint, sweep, clean) = self.due(now);
        self.seal(Seal::Ripe);
        let save = save || self.sealed_bytes.load(Ordering::Relaxed) >= SEALED_BYTES_MAX;
        if checkpoint {
            self.checkpoint();
        } else if !self.is_dumping() && (save || self.relieve_log()) {
            if self.options.checkpoint_interval_s > 0 {
                self.seal(Seal::BegunBefore(now - self.options.checkpoint_interval_s));
            }
            let lagging = self.seal_laggards();
            self.save(!self.is_settled());
            if let Some(bound) = lagging {
                self.log_laggards_again(bound);
            }
            self.retire(false);
        } else if self.is_dumping() && self.log_is_long() {
            self.checkpoint();
        }
        if sweep {
            self.sweep();
        }
        if clean {
            self.clean_up();
        }
    }

    fn due(&self, now: Timestamp) -> (bool, bool, bool, bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let interval_s = self.options.checkpoint_interval_s;
        // The first checkpoint comes one interval after the start, the first cleanup after a part of the retention.
        last.checkpoint.get_or_insert(now);
        last.cleaned.get_or_insert(now);
        let clean_every_s = self.horizon.part_s(8).clamp(1, 3600);
        (
            is_due(&mut last.saved, SAVE_EVERY_S, now),
            interval_s > 0 && is_due(&mut last.checkpoint, interval_s, now),
            is_due(&mut last.swept, SWEEP_EVERY_S, now),
            is_due(&mut last.cleaned, clean_every_s, now),
        )
    }

    /// A checkpoint: everything that is sealed, or that other formats hold, goes into files, and the log behind it.
    pub fn checkpoint(&self) {
        if self.options.checkpoint_interval_s > 0 {
            self.seal(Seal::BegunBefore(self.clock.now_s() - self.options.checkpoint_interval_s));
        }
        let saved = self.save_all();
        self.retire(false);
        tracing::info!(blocks = saved.blocks, failed = saved.failed, "checkpoint written");
    }

    /// Saves all sealed blocks in the format that is configured, imported ones too.
    pub(super) fn save_all(&self) -> Saved {
        if self.is_dumping() { self.dump() } else { self.save(true) }
    }

    fn log_bytes_max(&self) -> u64 {
        let replay = REPLAY_BYTES_MAX * self.options.num_workers.max(1) as u64;
        match self.options.max_wal_bytes {
            0 => replay,
            per_host => replay.min(per_host.saturating_mul(self.store.host_count().max(1) as u64)),
        }
    }

    fn log_is_long(&self) -> bool {
        // Nothing of it can go while hosts are still to be loaded.
        !self.is_pending() && self.log.stats().retained_bytes > self.log_bytes_max()
    }

    /// Seals the heads that hold a log that is too long, so that half of it can go. Returns whether it did.
    fn relieve_log(&self) -> bool {
        let (bytes, bytes_max) = (self.log.stats().retained_bytes, self.log_bytes_max());
        if bytes <= bytes_max {
            return false;
        }
        let segments = self.log.stats().segments.max(1);
        let keep = (bytes_max / 2 / (bytes / segments).max(1)).min(segments);
        let number = u64::from(self.log.segment()).saturating_sub(keep);
        let behind = LogPos::new(u32::try_from(number).unwrap_or(u32::MAX), 0);
        tracing::warn!(bytes, bytes_max, "the log is long: heads are sealed early");
        self.seal(Seal::NeededBefore(stamp(behind)));
        true
    }

    /// Drops what is older than the retention or more than memory may hold, and rolls block files.
    pub fn sweep(&self) {
        self.report_half_changed();
        self.look_at_time();
        self.drop_old();
        self.verify_blocks();
        self.report_damage();
        self.heed_memory_cap();
        if !self.is_dumping() {
            let mut rolled_bytes = 0;
            for host in self.store.all_hosts() {
                self.set_damaged_aside(&host);
                if rolled_bytes < ROLL_BYTES_MAX && self.is_worth_a_roll(&host) {
                    rolled_bytes += self.roll_host(&host);
                }
            }
        }
    }

    /// Hosts that a panic left half-changed are not saved, and keep the log: the next start reads them anew.
    fn report_half_changed(&self) {
        let hosts = self.store.all_hosts().iter().filter(|host| host.is_poisoned()).count();
        if hosts > 0 {
            tracing::error!(
                hosts,
                "a panic left hosts half-changed: nothing of them is saved, and the log is kept; restart the server"
            );
            self.counters
                .problem("hosts that a panic left half-changed: restart the server", &self.options.directory);
        }
    }

    /// Reads blocks that nobody has read yet, some at a time and not through a map: damage is reported before it is
    /// missed.
    fn verify_blocks(&self) {
        let mut bytes = 0;
        for host in self.store.all_hosts() {
            self.jobs.step();
            let blocks: Vec<_> = {
                let state = host.lock();
                let held = state.buffers().iter().flat_map(|buffer| buffer.blocks());
                held.filter(|held| held.state == BlockState::Saved)
                    .map(|held| Arc::clone(&held.block))
                    .collect()
            };
            for block in blocks {
                if !block.is_swept() {
                    bytes += block.bytes();
                    // Its damage is noted, and told below.
                    block.sweep();
                }
                if bytes >= VERIFY_BYTES_MAX {
                    return;
                }
            }
        }
    }

    /// Tells of columns that were found damaged since the last time, wherever they were read.
    pub(super) fn report_damage(&self) {
        for note in self.damage_notes.take() {
            let metric = self.store.catalog().get(note.metric);
            let metric = metric.as_ref().map_or("a metric", |metric| &metric.name);
            let series = note.level.join("/");
            let (from, to, why) = (note.from, note.to, describe(&note.what));
            let why = format!("{metric} of {series:?} from {from} to {to}: {why}");
            let what = "damaged column of a block: its samples are missing";
            self.counters.columns_damaged.add(1);
            self.counters.trouble(Grade::Error, what, &note.path, &why);
        }
    }

    /// Drops what is too old, and hosts of which nothing is left.
    pub(super) fn drop_old(&self) {
        let mut dropped = 0;
        for host in self.store.all_hosts() {
            self.jobs.step();
            let mut state = host.lock();
            if state.is_loading() {
                continue;
            }
            dropped += state.drop_before(self.horizon.keep_from(host.cluster(), host.name()));
        }
        self.counters.blocks_dropped.add(dropped as u64);
        self.prune();
    }

    /// Lets go of hosts of which nothing is left, of what is known of their directories, and of their open files: the
    /// cleanup spares what may still grow.
    pub(super) fn prune(&self) {
        for host in self.store.prune() {
            self.saver().close(host.cluster(), host.name());
            self.on_disk().remove(&host.number());
            self.durable_dirs.forget(&self.host_dir(&host));
        }
    }

    /// Above the cap: what is unsaved is saved, then the oldest quarters of the retention go, one after the other.
    ///
    /// Where that is not enough, because names, heads and tables alone are more than the cap, it is said once, and
    /// tried again after longer and longer times: each try seals and saves everything.
    fn heed_memory_cap(&self) {
        let cap = self.options.memory_cap_bytes;
        if cap == 0 {
            return;
        }
        let used = self.memory().total_bytes;
        let mut relief = self.relief.lock().unwrap_or_else(PoisonError::into_inner);
        if used <= cap {
            *relief = Relief::default();
            return;
        }
        let now = self.clock.now_s();
        if !relief.is_due(now) {
            return;
        }
        if relief.tries == 0 {
            tracing::warn!(cap, used, "memory is above its cap: the oldest data goes");
        }
        let left = self.free_memory(cap);
        if left <= cap {
            *relief = Relief::default();
            return;
        }
        if relief.tries == 0 {
            tracing::warn!(
                cap,
                used = left,
                "memory stays above metric-store.memory-cap though all that is saved was let go: the cap is too small \
                 for the series that there are; raise it, or send fewer series"
            );
        }
        relief.failed(now);
    }

    /// Saves all and lets go of the oldest until memory is below the cap. Returns what is still used.
    fn free_memory(&self, cap: u64) -> u64 {
        self.seal(Seal::All);
        self.save_all();
        self.retire(false);
        let mut left = u64::MAX;
        for quarters in [3, 2, 1] {
            self.drop_saved_quarters(quarters);
            left = self.memory().total_bytes;
            if left <= cap {
                break;
            }
        }
        left
    }

    /// What is in memory alone is bounded by the cap, too: beyond it messages are refused that the log does not take.
    fn heed_memory_while_degraded(&self) {
        let cap = self.options.memory_cap_bytes;
        let alone = cap > 0 && (self.log.is_degraded() || self.log.has_holes());
        let is_full = alone && self.memory().total_bytes > cap;
        if is_full != self.memory_is_full.swap(is_full, Ordering::Relaxed) && is_full {
            tracing::error!(cap, "memory is at its cap and the log does not work: messages are refused");
        }
    }

    /// Drops blocks on the heap that are older than so many quarters of what is kept, and in a file. What could not be
    /// saved stays.
    fn drop_saved_quarters(&self, quarters: i64) {
        let mut dropped = 0;
        for host in self.store.all_hosts() {
            let time = self.horizon.older_than_quarters(host.cluster(), host.name(), quarters);
            for buffer in host.lock().buffers_mut() {
                dropped += buffer.retain_blocks(|held| {
                    held.state != BlockState::Saved
                        || held.block.is_in_file()
                        || held.block.header().end() >= time
                });
            }
        }
        self.counters.blocks_dropped.add(dropped as u64);
    }

    /// Removes files that hold nothing within the retention. Returns how many went.
    pub fn clean_up(&self) -> u64 {
        if self.options.cleanup == Cleanup::Keep || self.waiting.phase() != Phase::Ready {
            return 0;
        }
        let saver = self.saver();
        let holds = |path: &Path| -> Result<Holds, LoadError> {
            if saver.is_active(path) {
                return Ok(Holds::Newest(Timestamp::MAX));
            }
            let file =
                self.disk.open(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
            let index = blockfile::index(&*file);
            if index.has_unknown_kinds() || index.other_release.is_some() {
                return Ok(Holds::Newest(Timestamp::MAX));
            }
            // One that was written under another name waits to be taken under this one.
            let is_ours = index.is_whole() || path.parent().is_some_and(|dir| index.is_of(dir, self.lineage));
            // Floors too: what they hide may be in other files.
            let floors = index.floors.iter().flat_map(|found| &found.floors).map(|(_, before)| *before);
            let newest = index.blocks.iter().map(|found| found.header.end()).chain(floors);
            let newest = newest.filter(|_| is_ours).max();
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            Ok(newest.map_or(Holds::Unknown { number }, Holds::Newest))
        };
        let mut removed = 0;
        let dirs = match HostDirs::list(&*self.disk, &self.options.directory) {
            Ok(dirs) => dirs.hosts,
            Err(e) => {
                self.counters.trouble(Grade::Warning, NOT_CLEANED, &self.options.directory, &describe(&e));
                Vec::new()
            }
        };
        for dir in dirs {
            let limits = Limits {
                wanted_from: self.horizon.keep_from(&dir.cluster, &dir.host),
                checkpoint_interval_s: self.options.checkpoint_interval_s,
            };
            match self.cleaner.clean_host(&*self.disk, &dir.path, limits, &holds) {
                Ok(cleaned) => {
                    removed += cleaned.removed.len() as u64;
                    for (path, e) in cleaned.failed {
                        let what = "old file could not be removed: tried again";
                        self.counters.trouble(Grade::Warning, what, &path, &e.to_string());
                    }
                }
                Err(e) => {
                    self.counters.trouble(Grade::Warning, NOT_CLEANED, &dir.path, &describe(&e));
                }
            }
        }
        self.counters.files_removed.add(removed);
        removed
    }
}
