//! Opening: the lock, the log, the names of hosts. What they hold is read behind it.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use store_checkpoint::blockfile::{self, BlockFileDamage, Index};
use store_checkpoint::cleanup::Cleaner;
use store_checkpoint::files::{HostDir, HostDirs, HostFiles, LOG_DIR};
use store_checkpoint::save::Saver;
use store_core::line;
use store_core::metric::{Aggregation as CoreAggregation, Catalog, Metric};
use store_core::store::{Limits, Store};
use store_disk::{Clock, Disk, HeldDisk, Lineage, RealDisk, SystemClock, WholeFile};
use store_wal::{Log, LogOptions, LogPos};

use super::answer::CleanupReport;
use super::background::Background;
use super::ground::{self, Ground};
use super::horizon::{FoundTime, Horizon};
use super::jobs::Jobs;
use super::options::{Aggregation, EngineOptions, MetricOption, OpenError};
use super::scribe::Announced;
use super::status::Counters;
use super::waiting::Waiting;
use super::watched::Watched;
use super::{Engine, maintain};

/// Block files that are asked for their lineage before the log's is believed.
const LINEAGE_SAMPLES: usize = 8;

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
        let mut found = store_wal::scan(&*disk, &log_dir).map_err(|e| unusable(describe(&e)))?;

        let sample = sample(&*disk, &listed.hosts);
        if let Some(refused) = other_release(&sample, found.lineage()) {
            return Err(refused);
        }
        let counters = Counters::new(Arc::clone(&clock));
        let (lineage, is_ours) = lineage_of(&sample, found.lineage());
        let mut number_above = 0;
        let mut start = found.start(lineage).filter(|_| is_ours);
        if start.is_none() {
            // No log of ours: what is in block files is all there is, and positions go on behind it.
            let newest = greatest_as_of(&*disk, &listed.hosts);
            number_above = u32::try_from(newest >> 32).unwrap_or(u32::MAX);
            start = Some(LogPos::from_u64(if newest == 0 { 0 } else { newest + 1 }));
        }
        let aside = store_wal::set_aside(&*disk, &found, lineage);
        if !aside.is_empty() {
            // What has another name now is neither to be synced nor to be replayed.
            found = store_wal::scan(&*disk, &log_dir).map_err(|e| unusable(describe(&e)))?;
        }
        for aside in aside {
            match aside {
                Ok(path) => counters.problem("log segment of another store set aside", &path),
                Err(e) => counters.problem("log segment of another store could not be set aside", &e.path),
            }
        }
        let start = start.unwrap_or(LogPos::ZERO);
        let log_options =
            LogOptions { segment_bytes_max: options.log_segment_bytes, ..LogOptions::default() };
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
        for unlisted in &listed.unlisted {
            counters.problem("directory cannot be listed", &unlisted.path);
        }
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
            found,
            found_unsynced: AtomicBool::new(false),
            waiting: Waiting::new(),
            counters,
            on_disk: Mutex::new(HashMap::new()),
            saver: Mutex::new(saver),
            durable_dirs,
            damage_notes,
            cleaner: Cleaner::new(),
            horizon,
            time_noted: Mutex::default(),
            sealed_bytes: AtomicUsize::new(0),
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

/// Enters a host that was found on disk, if its name is one that a host may have.
fn enter(store: &Store, counters: &Counters, found: &HostDir) {
    let name_bytes = store.limits().name_bytes;
    let named = line::check_path_name(&found.cluster, name_bytes)
        .and_then(|()| line::check_path_name(&found.host, name_bytes));
    if named.is_err() {
        counters.problem("not a name of a cluster or host: ignored", &found.path);
    } else if store.found_host(&found.cluster, &found.host).is_err() {
        counters.problem("more hosts than allowed: not loaded", &found.path);
    }
}

/// Whether no other try can succeed before somebody gives the right to write.
fn forbids(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// What the system said, below an error of another crate.
fn cause(error: &dyn std::error::Error) -> Option<&io::Error> {
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

/// The block files of a host directory, with their first bytes.
fn block_files(disk: &dyn Disk, host: &HostDir, len: usize) -> Vec<(PathBuf, Vec<u8>)> {
    let files = HostFiles::list(disk, &host.path).map(|files| files.numbered).unwrap_or_default();
    files
        .iter()
        .filter(|file| !file.json)
        .filter_map(|file| {
            let path = host.path.join(&file.name);
            let front = disk.read_front(&path, len).ok()?;
            blockfile::is_block_file(&front).then_some((path, front))
        })
        .collect()
}

/// What the headers of the first block files say, as many as give [`LINEAGE_SAMPLES`] lineages, and all of the last
/// host.
fn sample(disk: &dyn Disk, hosts: &[HostDir]) -> Vec<(PathBuf, Index)> {
    let (mut sample, mut lineages) = (Vec::new(), 0);
    for host in hosts {
        for (path, front) in block_files(disk, host, blockfile::HEADER_BYTES) {
            let front = front_of(&front);
            lineages += usize::from(front.lineage.is_some());
            sample.push((path, front));
        }
        if lineages >= LINEAGE_SAMPLES {
            break;
        }
    }
    sample
}

/// The refusal, if one of the first block files was written by another release for this store: it is neither read nor
/// renamed. Without a log whatever stands there is of this store.
fn other_release(sample: &[(PathBuf, Index)], log: Option<Lineage>) -> Option<OpenError> {
    sample.iter().find_map(|(path, front)| {
        let is_ours = front.lineage.is_some_and(|lineage| log.is_none_or(|log| log == lineage));
        front.damage.iter().find_map(|damage| match damage.what {
            BlockFileDamage::Newer { version, .. } if is_ours && version != blockfile::VERSION => {
                Some(OpenError::Version { path: path.clone(), version, reads: blockfile::VERSION })
            }
            _ => None,
        })
    })
}

/// The lineage of this directory, and whether the log is of it. Where block files know another than the log does,
/// the log is not ours: a directory was restored without it, or it was brought from elsewhere.
fn lineage_of(sample: &[(PathBuf, Index)], log: Option<Lineage>) -> (Lineage, bool) {
    let seen: Vec<Lineage> = sample.iter().filter_map(|(_, front)| front.lineage).collect();
    match log {
        Some(log) if seen.is_empty() || seen.contains(&log) => (log, true),
        _ => {
            let most = seen.iter().max_by_key(|one| seen.iter().filter(|other| other == one).count());
            (most.copied().unwrap_or_else(Lineage::random), false)
        }
    }
}

/// The greatest `as_of` of all block files.
fn greatest_as_of(disk: &dyn Disk, hosts: &[HostDir]) -> u64 {
    let mut greatest = 0;
    for host in hosts {
        for (path, _) in block_files(disk, host, blockfile::HEADER_BYTES) {
            if let Ok(file) = disk.open(&path) {
                let index = blockfile::index(&*file);
                if !index.is_of(&host.path, index.lineage.unwrap_or_else(Lineage::random)) {
                    continue;
                }
                greatest =
                    index.blocks.iter().map(|block| block.header.as_of.0).max().unwrap_or(0).max(greatest);
            }
        }
    }
    greatest
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
