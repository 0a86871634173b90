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
use store_core::block::{Block, BlockState};
use store_core::host::Host;
use store_wal::LogPos;

use super::Engine;
use super::load::newest_slot;
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

/// Bytes of blocks that one sweep verifies, beyond those that were read before.
const VERIFY_BYTES_MAX: usize = 64 << 20;

/// Bytes of log that a start replays in ten seconds on one core, by a cautious guess.
const REPLAY_BYTES_MAX: u64 = 800 << 20;

const NOT_CLEANED: &str = "directory could not be cleaned up: tried again";

/// When what was done last, by the clock, seconds.
#[derive(Debug, Default)]
pub(super) struct LastDone {
    saved: Option<Timestamp>,
    checkpoint: Option<Timestamp>,
    swept: Option<Timestamp>,
    cleaned: Option<Timestamp>,
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
        self.maintain(now);
        self.tell_problems();
    }

    fn maintain(&self, now: Timestamp) {
        let may_log = self.look_around(now);
        if may_log && self.log.is_degraded() {
            self.heal();
        }
        if may_log
            && self.log.needs_switch()
            && let Err(e) = self.log.switch()
        {
            tracing::error!(error = %describe(&e), "the log could not go on to its next segment");
        }
        if self.waiting.phase() != Phase::Ready {
            return;
        }
        self.try_unlisted(now);
        let (save, checkpoint, sweep, clean) = self.due(now);
        self.seal(Seal::Ripe);
        let save = save || self.sealed_bytes.load(Ordering::Relaxed) >= SEALED_BYTES_MAX;
        if checkpoint {
            self.checkpoint();
        } else if !self.is_dumping() && (save || self.relieve_log()) {
            if self.options.checkpoint_interval_s > 0 {
                self.seal(Seal::BegunBefore(now - self.options.checkpoint_interval_s));
            }
            self.save(!self.is_settled());
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
        let clean_every_s = (self.options.retention_s / 8).clamp(1, 3600);
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

    pub(super) fn find_newest(&self) {
        let newest = self.store.all_hosts().iter().filter_map(|host| newest_slot(&host.lock())).max();
        self.newest.store(newest.unwrap_or(Timestamp::MIN), Ordering::Relaxed);
    }

    /// Drops what is older than the retention or more than memory may hold, and rolls block files.
    pub fn sweep(&self) {
        self.find_newest();
        self.drop_before(self.wanted_from());
        self.verify_blocks();
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

    /// Reads blocks that nobody has read yet, some at a time: a rotten one is reported before it is missed.
    fn verify_blocks(&self) {
        let mut bytes = 0;
        for host in self.store.all_hosts() {
            let blocks: Vec<_> = {
                let state = host.lock();
                let held = state.buffers().iter().flat_map(|buffer| buffer.blocks());
                held.filter(|held| held.state == BlockState::Saved)
                    .map(|held| Arc::clone(&held.block))
                    .collect()
            };
            for block in blocks {
                if !block.is_checked() {
                    bytes += block.bytes();
                }
                if !block.check() {
                    let number = usize::from(block.header().buffer);
                    host.lock().buffers_mut()[number].retain_blocks(|held| !Arc::ptr_eq(&held.block, &block));
                    self.report_rotten(&host, &block);
                }
                if bytes >= VERIFY_BYTES_MAX {
                    return;
                }
            }
        }
    }

    /// Counts and lists a block that does not hold what was written.
    pub(super) fn report_rotten(&self, host: &Host, block: &Block) {
        let (cluster, name, header) = (host.cluster(), host.name(), block.header());
        let (from, to, columns) = (header.base, header.end(), header.columns);
        let why = format!("{columns} columns of {cluster}/{name} from {from} to {to}");
        let what = "block fails its checksum: what only it held is lost";
        self.counters.blocks_damaged.add(1);
        self.counters.trouble(Grade::Error, what, &self.host_dir(host), &why);
    }

    fn drop_before(&self, time: Timestamp) {
        let mut dropped = 0;
        for host in self.store.all_hosts() {
            let mut state = host.lock();
            if state.is_loading() {
                continue;
            }
            dropped += state.drop_before(time);
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
    fn heed_memory_cap(&self) {
        let cap = self.options.memory_cap_bytes;
        if cap == 0 || self.memory().total_bytes <= cap {
            return;
        }
        tracing::warn!(
            cap,
            used = self.memory().total_bytes,
            "memory is above its cap: the oldest data goes"
        );
        self.seal(Seal::All);
        self.save_all();
        self.retire(false);
        for quarters in [3, 2, 1] {
            let time = self.now().saturating_sub(self.options.retention_s / 4 * quarters);
            self.drop_saved_before(time);
            if self.memory().total_bytes <= cap {
                return;
            }
        }
    }

    /// Drops blocks on the heap that end before `time` and are in a file. What could not be saved stays.
    fn drop_saved_before(&self, time: Timestamp) {
        let mut dropped = 0;
        for host in self.store.all_hosts() {
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
        let limits = Limits {
            wanted_from: self.wanted_from(),
            checkpoint_interval_s: self.options.checkpoint_interval_s,
        };
        let holds = |path: &Path| -> Result<Holds, LoadError> {
            if saver.is_active(path) {
                return Ok(Holds::Newest(Timestamp::MAX));
            }
            let bytes =
                self.disk.map(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
            let index = blockfile::index(&bytes);
            if index.other_release.is_some() {
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
