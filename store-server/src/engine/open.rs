//! Opening: the lock, the log, the names of hosts. What they hold is read behind it.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use store_checkpoint::blockfile;
use store_checkpoint::cleanup::Cleaner;
use store_checkpoint::files::{HostDir, HostDirs, HostFiles, LOG_DIR};
use store_checkpoint::save::Saver;
use store_core::Timestamp;
use store_core::line;
use store_core::metric::{Aggregation as CoreAggregation, Catalog, Metric};
use store_core::store::{Limits, Store};
use store_disk::{Clock, Disk, Lineage, RealDisk, SystemClock};
use store_wal::{Log, LogOptions, LogPos};

use super::answer::CleanupReport;
use super::background::Background;
use super::options::{Aggregation, EngineOptions, MetricOption, OpenError};
use super::scribe::Announced;
use super::status::Counters;
use super::waiting::Waiting;
use super::{Engine, maintain};

/// Block files that are asked for their lineage before the log's is believed.
const LINEAGE_SAMPLES: usize = 8;

impl Engine {
    /// Locks the directory, opens the log and learns which hosts there are: writes are accepted from here on.
    /// [`run_background`](Self::run_background) or [`load_all`](Self::load_all) reads what they hold.
    ///
    /// # Errors
    /// A metric has no frequency, the directory cannot be used, or another process has it. Nothing else refuses a start.
    pub fn open(options: EngineOptions) -> Result<Self, OpenError> {
        Self::open_with(options, Arc::new(RealDisk::default()), Arc::new(SystemClock))
    }

    /// As [`open`](Self::open), on a given disk and clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        options: EngineOptions,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let catalog = catalog(&options)?;
        let directory = options.directory.clone();
        let unusable = |what: String| OpenError::Directory { directory: directory.clone(), what };
        create_all(&*disk, &directory).map_err(|e| unusable(e.to_string()))?;
        let lock = disk.lock(&directory).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { directory: directory.clone() },
            _ => unusable(e.to_string()),
        })?;
        let mut listed = HostDirs::list(&*disk, &directory).map_err(|e| unusable(e.source.to_string()))?;
        if !listed.unlisted.is_empty() {
            // Hosts that are not seen now are taken for new ones: worth a second look.
            listed = HostDirs::list(&*disk, &directory).map_err(|e| unusable(e.source.to_string()))?;
        }
        let log_dir = directory.join(LOG_DIR);
        let mut found = store_wal::scan(&*disk, &log_dir).map_err(|e| unusable(describe(&e)))?;

        let counters = Counters::default();
        let (lineage, is_ours) = lineage_of(&*disk, found.lineage(), &listed.hosts);
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
        let opened =
            Log::open(Arc::clone(&disk), log_dir.clone(), &found, lineage, number_above, start, log_options);
        let log = opened.unwrap_or_else(|e| {
            tracing::error!(error = %describe(&e), "the log cannot be opened: samples are only in memory until it can");
            Log::open_degraded(Arc::clone(&disk), log_dir, &found, lineage, number_above, start, log_options)
        });

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
        let (threads, open_files_max) = (options.num_workers, options.open_files_max);
        let saver = Saver::new(Arc::clone(&disk), directory.clone(), lineage, threads, open_files_max);
        let durable_dirs = saver.dirs();
        Ok(Self {
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
            cleaner: Cleaner::new(),
            stand_in: AtomicI64::new(0),
            sealed_bytes: AtomicUsize::new(0),
            newest: AtomicI64::new(Timestamp::MIN),
            last: Mutex::new(maintain::LastDone::default()),
            background: Background::default(),
            stopped: AtomicBool::new(false),
            options,
            _lock: lock,
        })
    }
}

impl Engine {
    /// Removes files older than the retention, once, without serving.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn cleanup_once(options: EngineOptions) -> Result<CleanupReport, OpenError> {
        // Loaded, because what is old is judged by the newest sample there is, not by the clock alone.
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

/// Creates a directory and those above it.
fn create_all(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for dir in directory.ancestors() {
        if dir.as_os_str().is_empty() || disk.list(dir).is_ok() {
            break;
        }
        missing.push(dir);
    }
    for dir in missing.into_iter().rev() {
        disk.create_dir(dir)?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    disk.list(directory).map(drop)
}

/// The block files of a host directory, with their first bytes.
fn block_files(disk: &dyn Disk, host: &HostDir, len: usize) -> Vec<(std::path::PathBuf, Vec<u8>)> {
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

/// The lineage of this directory, and whether the log is of it. Where block files know another than the log does,
/// the log is not ours: a directory was restored without it, or it was brought from elsewhere.
fn lineage_of(disk: &dyn Disk, log: Option<Lineage>, hosts: &[HostDir]) -> (Lineage, bool) {
    let mut seen: Vec<Lineage> = Vec::new();
    for host in hosts {
        let files = block_files(disk, host, blockfile::HEADER_BYTES);
        seen.extend(files.iter().filter_map(|(_, front)| front_of(front).lineage));
        if seen.len() >= LINEAGE_SAMPLES {
            break;
        }
    }
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
            if let Ok(bytes) = disk.map(&path) {
                let index = blockfile::index(&bytes);
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
pub(super) fn front_of(front: &[u8]) -> blockfile::Index {
    blockfile::index(&Bytes::copy_from_slice(&front[..front.len().min(blockfile::HEADER_BYTES)]))
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
