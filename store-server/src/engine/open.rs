//! Opening: the lock, the log, the names of hosts. What they hold is read behind it.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use store_checkpoint::blockfile::{self, Index};
use store_checkpoint::cleanup::Cleaner;
use store_checkpoint::files::{HostDir, HostDirs, LOG_DIR};
use store_checkpoint::save::Saver;
use store_core::line;
use store_core::metric::{Aggregation as CoreAggregation, Catalog, Metric};
use store_core::store::{Limits, Store};
use store_disk::{Clock, Disk, HeldDisk, Lineage, RealDisk, SystemClock, WholeFile, is_shortage};
use store_wal::{ForeignKind, Found, Log, LogOptions};

use super::answer::CleanupReport;
use super::background::Background;
use super::ground::{self, Ground};
use super::heal::Heals;
use super::horizon::{FoundTime, Horizon};
use super::jobs::Jobs;
use super::laggard::Laggards;
use super::lineage::Origin;
use super::options::{Aggregation, EngineOptions, MetricOption, OpenError};
use super::scribe::Announced;
use super::status::Counters;
use super::unlisted::Pending;
use super::waiting::Waiting;
use super::watched::Watched;
use super::{Engine, maintain};

/// Time between the first two looks at a segment that cannot be read; each further one is twice as long.
const SCAN_PAUSE_FIRST: Duration = Duration::from_millis(2);

/// The longest: about eight seconds in all.
const SCAN_PAUSE_LAST: Duration = Duration::from_millis(4_096);

impl Engine {
    /// Locks the directory, opens the log and learns which hosts there are: writes are accepted from here on.
    /// [`run_background`](Self::run_background) or [`load_all`](Self::load_all) reads what they hold.
    ///
    /// # Errors
    /// A metric has no frequency, the directory cannot be used or not be written to, or another process has it. Nothing else refuses a start:
    /// on a full disk, without descriptors, or after an I/O error it serves from memory until the log works.
    pub fn open(options: EngineOptions) -> Result<Self, OpenError> {
        Self::open_with(options, Arc::new(RealDisk::default()), Arc::new(SystemClock))
    }

    /// As [`open`](Self::open), on a given disk and clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        mut options: EngineOptions,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let catalog = catalog(&options)?;
        let named = options.directory.clone();
        let unusable = |what: String| OpenError::Directory { directory: named.clone(), what };
        let directory = settle(&*disk, &named).map_err(|e| refusal(&named, &e))?;
        options.directory.clone_from(&directory);
        let lock = disk.lock(&directory).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { directory: directory.clone() },
            _ => unusable(e.to_string()),
        })?;
        let held = Arc::new(HeldDisk::new(disk, directory.clone(), lock));
        let jobs = Arc::new(Jobs::default());
        let watched = |shared| -> Arc<dyn Disk> {
            Arc::new(Watched::new(Arc::<HeldDisk>::clone(&held), Arc::clone(&jobs), shared))
        };
        let (log_disk, disk) = (watched(true), watched(false));
        match ground::probe(&*disk, &directory) {
            Err(e) if forbids(&e) => return Err(refusal(&named, &e)),
            // Full, out of descriptors, an I/O error: that passes.
            _ => {}
        }
        let mut listed = HostDirs::list(&*disk, &directory).map_err(|e| unusable(e.source.to_string()))?;
        if !listed.unlisted.is_empty() {
            // Hosts that are not seen now are taken for new ones: worth a second look.
            listed = HostDirs::list(&*disk, &directory).map_err(|e| unusable(e.source.to_string()))?;
        }
        let log_dir = directory.join(LOG_DIR);
        let mut found = scan_log(&*disk, &*clock, &log_dir).map_err(unusable)?;

        let counters = Counters::new(Arc::clone(&clock));
        let Origin { lineage, start, number_above } = Origin::find(&*disk, &found, &listed.hosts)?;
        let given = found.given(&*disk, lineage, start);
        let aside = store_wal::set_aside(&*disk, &found, lineage);
        if !aside.is_empty() {
            // What has another name now is neither to be synced nor to be replayed.
            found = scan_log(&*disk, &*clock, &log_dir).map_err(unusable)?;
        }
        for aside in aside {
            match aside {
                Ok(path) => counters.problem("log segment of another store set aside", &path),
                Err(e) => counters.problem("log segment of another store could not be set aside", &e.path),
            }
        }
        report_foreign(&counters, &found, lineage);
        let log_options = LogOptions {
            segment_bytes_max: options.log_segment_bytes,
            buffer_bytes_max: options.log_buffer_bytes,
        };
        let opened = Log::open(
            Arc::clone(&log_disk),
            log_dir.clone(),
            &found,
            lineage,
            number_above,
            start,
            log_options,
        );
        let log = match opened {
            Ok(log) => log,
            Err(e) if cause(&e).is_some_and(forbids) => {
                return Err(OpenError::NotWritable { directory: named, what: describe(&e) });
            }
            Err(e) => {
                tracing::error!(error = %describe(&e), "the log cannot be opened: samples are only in memory until it can");
                Log::open_degraded(log_disk, log_dir, &found, lineage, number_above, start, log_options)
            }
        };

        let auto_frequency_s = options.auto_register.and_then(NonZeroU32::new);
        let store = Store::new(catalog, limits(&options), auto_frequency_s);
        store.set_hosts_begin_loading(true);
        for stray in &listed.strays {
            counters.problem("neither cluster nor host directory: ignored", stray);
        }
        let pending = Pending::of(&store, &counters, &listed);
        for host in &listed.hosts {
            enter(&store, &counters, host);
        }
        let horizon = Horizon::new(&options, Arc::clone(&clock));
        if listed.hosts.is_empty() && found.lineage().is_none() {
            horizon.begin(FoundTime::Nothing);
        }
        let (threads, open_files_max) = (options.num_workers, options.open_files_max);
        let saver = Saver::new(Arc::clone(&disk), directory.clone(), lineage, threads, open_files_max);
        let (durable_dirs, damage_notes) = (saver.dirs(), saver.notes());
        Ok(Self {
            began: log.end(),
            disk,
            clock,
            store,
            log,
            announced: Announced::default(),
            lineage,
            found: Mutex::new(found),
            given,
            unsettled: Mutex::default(),
            found_unsynced: AtomicBool::new(false),
            waiting: Waiting::new(),
            pending: Mutex::new(pending),
            counters,
            on_disk: Mutex::new(HashMap::new()),
            saver: Mutex::new(saver),
            leaving: Mutex::new(()),
            durable_dirs,
            damage_notes,
            cleaner: Cleaner::new(),
            horizon,
            time_noted: Mutex::default(),
            sealed_bytes: AtomicUsize::new(0),
            heals: Heals::default(),
            laggards: Laggards::default(),
            memory_is_full: AtomicBool::new(false),
            last: Mutex::new(maintain::LastDone::default()),
            relief: Mutex::default(),
            background: Background::default(),
            jobs,
            stopped: AtomicBool::new(false),
            ground: Ground::new(held, directory, options.min_free_bytes),
            options,
        })
    }
}

impl Engine {
    /// Removes files older than the retention, once, without serving.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn cleanup_once(options: EngineOptions) -> Result<CleanupReport, OpenError> {
        // Loaded, because what is old is judged by the samples there are, not by the clock alone.
        let engine = Self::open(options)?;
        engine.load_all();
        Ok(CleanupReport { files: engine.clean_up() })
    }
}

/// Looks at the log's directory. A segment that cannot be read just now may be all that there is of what it holds: it is
/// tried again for some seconds.
///
/// # Errors
/// One line, if the directory cannot be listed, or if a segment cannot be read for want of rights, descriptors or memory.
/// What the disk never gives is left out later, and its file is kept.
fn scan_log(disk: &dyn Disk, clock: &dyn Clock, dir: &Path) -> Result<Found, String> {
    let mut pause = SCAN_PAUSE_FIRST;
    loop {
        let found = store_wal::scan(disk, dir).map_err(|e| describe(&e))?;
        let unreadable = found.unreadable();
        if unreadable.is_empty() {
            return Ok(found);
        }
        if pause > SCAN_PAUSE_LAST {
            let passes = |e: &io::Error| !forbids(e) && !is_shortage(e);
            let refused = unreadable.iter().find_map(|path| Some((path, disk.read(path).err()?)));
            return match refused.filter(|(_, e)| !passes(e)) {
                Some((path, e)) => Err(format!("log segment {} cannot be read: {e}", path.display())),
                None => Ok(found),
            };
        }
        tracing::warn!(path = %unreadable[0].display(), segments = unreadable.len(), "log segment cannot be read: tried again");
        clock.pause(pause);
        pause *= 2;
    }
}

/// Enters a host that was found on disk, if its name is one that a host may have.
pub(super) fn enter(store: &Store, counters: &Counters, found: &HostDir) {
    let name_bytes = store.limits().name_bytes;
    let named = line::check_path_name(&found.cluster, name_bytes)
        .and_then(|()| line::check_path_name(&found.host, name_bytes));
    if named.is_err() {
        counters.problem("not a name of a cluster or host: ignored", &found.path);
    } else if store.found_host(&found.cluster, &found.host).is_err() {
        counters.problem("more hosts than there are numbers: not loaded", &found.path);
    }
}

/// Whether no other try can succeed before somebody gives the right to write.
fn forbids(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What the system said, below an error of another crate.
pub(super) fn cause(error: &dyn std::error::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

/// Why a start is refused.
fn refusal(directory: &Path, error: &io::Error) -> OpenError {
    let (directory, what) = (directory.to_owned(), error.to_string());
    if forbids(error) {
        OpenError::NotWritable { directory, what }
    } else {
        OpenError::Directory { directory, what }
    }
}

/// Creates a directory and those above it. Returns where it is: if it is a symbolic link, where that leads to.
fn settle(disk: &dyn Disk, directory: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    for dir in directory.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        match disk.resolve(dir) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(dir),
            Err(e) => return Err(e),
        }
    }
    for dir in missing.into_iter().rev() {
        match disk.create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let what = format!("{} is a symbolic link to nothing that exists", dir.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
            created => created?,
        };
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A link cannot be synced as a directory; what it leads to can.
        disk.sync_dir(&disk.resolve(parent)?)?;
    }
    let directory = disk.resolve(directory)?;
    disk.list(&directory)?;
    Ok(directory)
}

/// Lists what lies in the log's directory and is none of its segments: it is not read, and stays.
fn report_foreign(counters: &Counters, found: &Found, lineage: Lineage) {
    for foreign in found.foreign(lineage) {
        let what = match foreign.what {
            // Renamed and listed already, or it could not be.
            ForeignKind::Lineage(_) => continue,
            ForeignKind::Version(_) => "log segment of another store, in another version: left as it is",
            ForeignKind::Name => "beside the log's segments, with a name that is none of theirs: not read",
            _ => "beside the log's segments, and no file: not read",
        };
        tracing::error!(path = %foreign.path.display(), "{what}");
        counters.foreign_files.add(1);
        counters.problem(what, &foreign.path);
    }
}

fn catalog(options: &EngineOptions) -> Result<Catalog, OpenError> {
    let metric = |metric: &MetricOption| {
        let name = &metric.name;
        let frequency_s = NonZeroU32::new(metric.frequency_s);
        Ok(Metric {
            name: name.as_str().into(),
            frequency_s: frequency_s.ok_or_else(|| OpenError::Frequency { name: name.clone() })?,
            aggregation: match metric.aggregation {
                Aggregation::Sum => CoreAggregation::Sum,
                Aggregation::Avg => CoreAggregation::Avg,
                Aggregation::None => CoreAggregation::None,
            },
            served: true,
        })
    };
    Ok(Catalog::new(options.metrics.iter().map(metric).collect::<Result<Vec<_>, _>>()?))
}

fn limits(options: &EngineOptions) -> Limits {
    let limits = &options.limits;
    Limits {
        name_bytes: limits.name_bytes,
        hosts: limits.hosts,
        series: limits.series,
        metrics: limits.metrics,
    }
}

/// What the header of a block file says.
pub(super) fn front_of(front: &[u8]) -> Index {
    let front = Bytes::copy_from_slice(&front[..front.len().min(blockfile::HEADER_BYTES)]);
    blockfile::index(&WholeFile::read(front))
}

/// An error and what caused it, in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
