//! What the engine stands on: whether its directory is there and has room, and what would be lost without it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use store_core::Timestamp;
use store_core::block::BlockState;
use store_core::host::HostState;
use store_core::stamp::Stamp;
use store_disk::{Disk, HeldDisk, Space};

use super::Engine;
use super::problems::Grade;
use super::scribe::position;
use super::waiting::Phase;

/// The reserve, unless the config says otherwise, is at most so many bytes,
const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// and at most this part of the file system.
const RESERVE_PART: u64 = 20;

/// Seconds between two cleanups that are to make room.
const ROOM_EVERY_S: i64 = 10;

/// Where the engine writes, and how it is there.
#[derive(Debug)]
pub(super) struct Ground {
    held: Arc<HeldDisk>,
    directory: PathBuf,
    /// `checkpoints.min-free-bytes`.
    min_free_bytes: Option<u64>,
    /// Whether the last look found less room than the reserve.
    short: AtomicBool,
    /// Whether hosts could not be saved the last time.
    saves_fail: AtomicBool,
    /// When room was made last, by the clock.
    cleaned: Mutex<Option<Timestamp>>,
}

/// What a kill at this moment would cost of what is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AtRisk {
    /// Hosts with rows, or frees, that are in no file and not in the log.
    pub hosts: u64,
    /// Their rows, at most: a head of which the log has a part counts whole.
    pub rows: u64,
}

impl AtRisk {
    /// Whether nothing is.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for AtRisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self { hosts, rows } = *self;
        write!(f, "up to {rows} row{} of {hosts} host{}", plural(rows), plural(hosts))
    }
}

impl Ground {
    pub(super) fn new(held: Arc<HeldDisk>, directory: PathBuf, min_free_bytes: Option<u64>) -> Self {
        Self {
            held,
            directory,
            min_free_bytes,
            short: AtomicBool::new(false),
            saves_fail: AtomicBool::new(false),
            cleaned: Mutex::new(None),
        }
    }

    /// Why the directory cannot be written to by its name, if so.
    pub(super) fn lost(&self) -> Option<String> {
        self.held.check().err().map(|e| e.to_string())
    }

    pub(super) fn note_saves(&self, failed: u64) {
        self.saves_fail.store(failed > 0, Ordering::Relaxed);
    }

    fn room(&self) -> Option<Room> {
        let space = self.held.space(&self.directory).ok()?;
        Some(Room { space, reserve_bytes: reserve_bytes(self.min_free_bytes, space) })
    }
}

/// The room there is, and how much of it the log leaves alone.
#[derive(Debug, Clone, Copy)]
struct Room {
    space: Space,
    reserve_bytes: u64,
}

fn reserve_bytes(min_free_bytes: Option<u64>, space: Space) -> u64 {
    min_free_bytes.unwrap_or(RESERVE_BYTES_MAX.min(space.total_bytes / RESERVE_PART))
}

impl Room {
    fn is_short(self) -> bool {
        self.space.free_bytes < self.reserve_bytes
    }

    /// Whether a log that gave up has room again for `bytes` that are to be logged anew: with a margin, or it would
    /// give up at once.
    fn takes(self, bytes: u64) -> bool {
        let needed = self.reserve_bytes.saturating_add(self.reserve_bytes / 4).saturating_add(bytes);
        self.space.free_bytes >= needed
    }
}

impl Engine {
    /// Looks at the directory and at the room there is: the log gives up where nothing would come of it, and old files
    /// go at once where there is no room. Returns whether the log may be written, switched and healed.
    pub(super) fn look_around(&self, now: Timestamp) -> bool {
        if let Some(why) = self.ground.lost() {
            self.log.degrade(&why);
            self.counters.trouble(
                Grade::Error,
                "nothing can be kept: if the directory was moved, move it back, and all goes on; else stop the server \
                 and start it anew, which loses what is only in memory",
                &self.options.directory,
                &why,
            );
            return false;
        }
        let room = self.ground.room();
        let short = room.is_some_and(Room::is_short);
        self.ground.short.store(short, Ordering::Relaxed);
        if let Some(room) = room.filter(|_| short) {
            let (free, reserve) = (room.space.free_bytes, room.reserve_bytes);
            let why = format!("the disk is full: {free} bytes are free, the last {reserve} are for saves");
            self.log.degrade(&why);
            let what = "the disk is full, and samples are not logged: make room";
            self.counters.trouble(Grade::Error, what, &self.options.directory, &why);
        }
        if short || self.log.is_degraded() || self.ground.saves_fail.load(Ordering::Relaxed) {
            self.make_room(now);
        }
        if !self.log.is_degraded() {
            return true;
        }
        self.ground.room().is_none_or(|room| room.takes(self.unsaved_bytes()))
    }

    /// Removes files that hold nothing within the retention, if that was not tried just now.
    fn make_room(&self, now: Timestamp) {
        if self.waiting.phase() != Phase::Ready {
            return;
        }
        {
            let mut last = self.ground.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| (0..ROOM_EVERY_S).contains(&(now - last))) {
                return;
            }
            *last = Some(now);
        }
        // What is old is judged by what hosts have said by now.
        self.look_at_time();
        let removed = self.clean_up();
        if removed > 0 {
            tracing::info!(removed, "files beyond the retention were removed to make room");
        }
    }

    /// Bytes of memory that a heal would log again.
    fn unsaved_bytes(&self) -> u64 {
        let memory = self.memory();
        memory.head_bytes + memory.unsaved_block_bytes
    }

    /// What a kill would cost: nothing while the log works and has had room for everything.
    pub fn at_risk(&self) -> AtRisk {
        if self.log_has_all() {
            return AtRisk::default();
        }
        // Of a directory that is gone nobody knows what is still in its log.
        let lost = self.ground.lost().is_some();
        let works = !self.log.is_degraded();
        let is_logged = |at| if works { !self.log.is_hole(at) } else { self.log.is_synced(at) };
        let is_kept = |stamp: Stamp| !lost && is_logged(position(stamp));
        let mut at_risk = AtRisk::default();
        for host in self.store.all_hosts() {
            if let Some(rows) = rows_at_risk(&host.lock(), &is_kept) {
                at_risk.hosts += 1;
                at_risk.rows += rows;
            }
        }
        at_risk
    }

    /// How the store does, in one line for a person.
    pub fn condition(&self) -> String {
        let loading = match self.waiting.phase() {
            Phase::Ready => String::new(),
            Phase::Indexing => "loading; ".to_owned(),
            Phase::Loading => format!("loading, {} hosts to go; ", self.waiting.left()),
        };
        if self.log_has_all() {
            return format!("{loading}all that is acknowledged is kept");
        }
        if !self.log.is_degraded() {
            let at_risk = self.at_risk();
            return format!(
                "{loading}DEGRADED, the disk is slow and the log had no room; only in memory: {at_risk}"
            );
        }
        let why = self.ground.lost().or_else(|| self.log.stats().last_error);
        let why = why.unwrap_or_else(|| "it was never opened".to_owned());
        format!("{loading}DEGRADED, the log does not work ({why}); only in memory: {}", self.at_risk())
    }

    /// Whether everything is loaded, and what is acknowledged is kept.
    pub(super) fn is_sound(&self) -> bool {
        self.waiting.phase() == Phase::Ready && self.log_has_all()
    }

    /// Whether the log works, and nothing was taken without it that it still lacks.
    fn log_has_all(&self) -> bool {
        !self.log.is_degraded() && !self.log.has_holes()
    }
}

/// The rows of a host that neither a file nor the log has; `None` if there is nothing, not even a free.
fn rows_at_risk(state: &HostState, is_kept: &impl Fn(Stamp) -> bool) -> Option<u64> {
    let mut rows = 0;
    for buffer in state.buffers() {
        let heads = buffer.heads().filter(|head| !is_kept(head.last()));
        rows += heads.map(|head| u64::from(head.rows())).sum::<u64>();
        let blocks = buffer.blocks().iter().filter(|held| matches!(held.state, BlockState::Unsaved { .. }));
        let blocks = blocks.map(|held| held.block.header()).filter(|header| !is_kept(header.as_of));
        rows += blocks.map(|header| u64::from(header.rows)).sum::<u64>();
    }
    rows += state.deferred().iter().filter(|deferred| !is_kept(deferred.stamp)).count() as u64;
    let freed = state.floors().unsaved().iter().any(|floor| !is_kept(floor.at));
    (rows > 0 || freed).then_some(rows)
}

/// The file of a probe. Ends like one that may go at any time.
const PROBE: &str = ".probe.tmp";

/// Whether files can be made in a directory, by making one.
///
/// # Errors
/// What the system says; the file is gone all the same, if it can go.
pub(super) fn probe(disk: &dyn Disk, directory: &Path) -> std::io::Result<()> {
    let path = directory.join(PROBE);
    // Of a process that was killed in its probe. What cannot be removed is said by the next call.
    disk.remove(&path).ok();
    let written = disk.create(&path).and_then(|mut file| file.append(b"probe"));
    let removed = match &written {
        Ok(()) => disk.remove(&path),
        Err(_) => {
            disk.remove(&path).ok();
            Ok(())
        }
    };
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_64_mib_or_a_twentieth_of_a_small_disk_or_what_the_config_says() {
        let disk = |total_bytes| Space { free_bytes: 0, total_bytes };
        assert_eq!(reserve_bytes(None, disk(1 << 40)), 64 << 20);
        assert_eq!(reserve_bytes(None, disk(100 << 20)), 5 << 20);
        assert_eq!(reserve_bytes(Some(7), disk(1 << 40)), 7);
        assert_eq!(reserve_bytes(Some(0), disk(1 << 40)), 0);
    }

    #[test]
    fn what_is_at_risk_is_said_with_numbers() {
        assert_eq!(AtRisk { hosts: 1, rows: 1 }.to_string(), "up to 1 row of 1 host");
        assert_eq!(AtRisk { hosts: 2, rows: 17 }.to_string(), "up to 17 rows of 2 hosts");
    }
}
