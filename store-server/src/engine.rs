//! The store as the server sees it: open, write, read, free, tick, stop. Knows no tokio and no HTTP.
//!
//! Composes the crates below: rows go to memory ([`store_core`]) and to the log ([`store_wal`]) under one mutex per
//! host; sealed blocks go to block files, or dumps to portable ones ([`store_checkpoint`]).
//!
//! **The key invariant lives here: the log is retired only below the least [`safe`] of all hosts**, and only
//! after every host was loaded.
//!
//! All disk access goes through one [`Disk`], all time through one [`Clock`]; with one worker every call is made
//! on the calling thread in an order that the inputs decide, so that a crash harness can drive it.
//!
//! [`safe`]: store_core::host::HostState::safe

mod answer;
mod ask;
mod background;
mod block_files;
mod checkpoint;
mod deferred;
mod ground;
mod heal;
mod horizon;
mod jobs;
mod laggard;
mod lineage;
mod load;
mod maintain;
mod numbering;
mod on_disk;
mod open;
mod options;
mod problems;
mod replay;
mod roll;
mod save;
mod scribe;
mod settle;
mod status;
mod tail;
mod unlisted;
mod vouching;
mod waiting;
mod watched;
mod whose;
mod write;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use store_checkpoint::blockfile::DamageNotes;
use store_checkpoint::cleanup::Cleaner;
use store_checkpoint::durable::DurableDirs;
use store_checkpoint::save::Saver;
use store_core::host::{Host, Placing};
use store_core::{Store, Timestamp};
use store_disk::{Clock, Disk, Lineage};
use store_wal::{Found, Given, Log, LogPos, Until};

pub use answer::{
    CleanupReport, DebugError, Durability, FirstBad, FreeError, Freed, HealthAnswer, HealthState,
    PathElement, ReadError, ReadRequest, Series, StopReport, Unready, WriteReport,
};
pub use ask::LastHosts;
pub use ground::AtRisk;
pub use jobs::{JobStatus, Watch};
pub use options::{
    Aggregation, Cleanup, EngineLimits, EngineOptions, FileFormat, LOG_BUFFER_BYTES, LOG_SEGMENT_BYTES,
    MetricOption, OPEN_FILES, OpenError, WalSync,
};
pub use problems::Problem;
pub use status::{MemoryStatus, Status};
pub use write::{HELD_MAX, Taken, TryWrite};

use self::background::Background;
use self::ground::Ground;
use self::heal::Heals;
use self::horizon::Horizon;
use self::jobs::Jobs;
use self::laggard::Laggards;
use self::on_disk::OnDisk;
use self::scribe::{Announced, Scribe};
use self::settle::Unsettled;
use self::status::Counters;
use self::unlisted::Pending;
use self::waiting::Waiting;

/// The store. Every call may block.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    store: Store,
    log: Log,
    announced: Announced,
    lineage: Lineage,
    /// Where the positions of this process begin.
    began: LogPos,
    /// Log segments of earlier processes, until they are indexed.
    found: Mutex<Found>,
    /// Positions that what lies in files of ours may carry; others are of a log that is lost.
    given: Given,
    /// Hosts of which something was found that is to be written again before the log is relied upon.
    unsettled: Mutex<Unsettled>,
    /// Whether the found segments could not be synced: the log is then written again once all is replayed.
    found_unsynced: AtomicBool,
    waiting: Waiting,
    /// What could not be listed at the start. Taken before any other lock.
    pending: Mutex<Pending>,
    counters: Counters,
    /// What lies in the directories of hosts, by number. Taken after no other lock.
    on_disk: Mutex<HashMap<u32, OnDisk>>,
    /// Held for the whole of a save, a roll, a dump or a cleanup: one of them writes files at a time.
    saver: Mutex<Saver>,
    /// Held while samples that wait are left to the log. Taken before the mutex of any host.
    leaving: Mutex<()>,
    durable_dirs: Arc<DurableDirs>,
    /// What was found damaged while columns were read.
    damage_notes: Arc<DamageNotes>,
    cleaner: Cleaner,
    horizon: Horizon,
    /// The segment that was told the vouched time last, and which.
    time_noted: Mutex<Option<(u32, Timestamp)>>,
    /// Bytes of blocks that were sealed since the last save.
    sealed_bytes: AtomicUsize,
    /// Whether what the log does not take is refused: memory holds all that it may.
    memory_is_full: AtomicBool,
    heals: Heals,
    laggards: Laggards,
    last: Mutex<maintain::LastDone>,
    /// Tries to get below the memory cap. Held for the whole of one.
    relief: Mutex<maintain::Relief>,
    background: Background,
    jobs: Arc<Jobs>,
    stopped: AtomicBool,
    /// The directory, locked.
    ground: Ground,
}

impl Engine {
    /// The time by the clock: that of samples that bring none. What is too old and what too new is not judged by it
    /// alone.
    pub fn now(&self) -> Timestamp {
        self.horizon.now()
    }

    /// Ends a pass over many hosts: what failed in it is said in one line a kind.
    pub(super) fn tell_problems(&self) {
        self.counters.tell();
    }

    /// Whether blocks are saved as portable dumps rather than into block files.
    fn is_dumping(&self) -> bool {
        self.options.format == FileFormat::Json || self.options.portable
    }

    fn placing(&self) -> Placing {
        Placing { oldest: Timestamp::MIN, fixed_phase: self.is_dumping() }
    }

    fn host_dir(&self, host: &Host) -> PathBuf {
        self.options.directory.join(host.cluster()).join(host.name())
    }

    fn scribe(&self) -> Scribe<'_> {
        Scribe::new(&self.log, &self.announced, self.store.catalog())
    }

    fn saver(&self) -> std::sync::MutexGuard<'_, Saver> {
        self.saver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_disk(&self) -> std::sync::MutexGuard<'_, HashMap<u32, OnDisk>> {
        self.on_disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the work behind the requests goes.
    pub fn jobs(&self) -> Vec<JobStatus> {
        self.jobs.status()
    }

    /// Syncs the log up to here.
    ///
    /// # Errors
    /// The log is degraded, or becomes so.
    pub fn sync_log(&self) -> Result<(), store_wal::CommitError> {
        self.log.flush(Until::Synced)
    }
}
