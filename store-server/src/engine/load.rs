//! Loading: what lies in the directory of a host, then what the log holds of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use store_checkpoint::blockfile;
use store_checkpoint::files::{self, CURRENT_WAL, HostFiles};
use store_checkpoint::load::load_listed;
use store_checkpoint::superseded::{SUPERSEDED, Then};
use store_core::Timestamp;
use store_core::block::Block;
use store_core::buffer::Buffer;
use store_core::host::{Deferred, Host, HostState};
use store_core::import::{Import, ImportRun};
use store_core::record::{RawSample, heap_bytes};
use store_core::row::Rows;
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_disk::is_shortage;
use store_wal::{CallError, Found, LogPos, v1};

use super::Engine;
use super::on_disk::OnDisk;
use super::open::{cause, describe, front_of};
use super::problems::Grade;
use super::tail::{LogTail, Patience};
use super::waiting::Phase;

/// A host while it is read.
pub(super) struct Loading<'a> {
    pub(super) engine: &'a Engine,
    pub(super) host: &'a Host,
    pub(super) tail: &'a LogTail,
    pub(super) state: HostState,
    pub(super) on_disk: OnDisk,
    pub(super) shapes: HashMap<ShapeHash, Option<Arc<Shape>>>,
    pub(super) bytes: HashMap<ShapeHash, Bytes>,
    /// By buffer: blocks as files hold them, whether or not memory holds them still.
    pub(super) blocks: Vec<Vec<Arc<Block>>>,
    /// Blocks of other histories of this host: they were numbered, or their slots counted, independently of each
    /// other. Taken by name and time, like values of another format.
    pub(super) strangers: Vec<Arc<Block>>,
    /// Blocks over which the log has rows that are older, and which of their columns are damaged.
    pub(super) looked_at: RefCell<HashMap<*const Block, Arc<[u32]>>>,
    /// Rolled files that are damaged, beside files that they were made of.
    pub(super) contested: Vec<PathBuf>,
    /// Files that the disk does not give just now.
    pub(super) unreadable: Vec<PathBuf>,
    /// Whether the disk does not give what the log holds of the host just now.
    is_log_unread: bool,
    /// Messages of this process that were left to the log, and that are applied.
    pub(super) left_to_log: usize,
    /// Whether what cannot be read is tried again.
    pub(super) patience: Patience,
    /// What of files ends before this time is not read; the whole host is read by one and the same.
    pub(super) from: Timestamp,
    /// The greatest position of a lost log that was found.
    pub(super) lost: Option<LogPos>,
    /// Nobody can say now what lies in the directory: the disk does not list it, or another release wrote there.
    pub(super) unlisted: bool,
}

/// How often the files of a host are tried to be read, while samples for it wait.
const LOAD_TRIES: u32 = 40;

/// Time between two tries.
const LOAD_PAUSE: Duration = Duration::from_millis(250);

impl Engine {
    /// Reads everything, on this thread.
    pub fn load_all(&self) {
        let tail = Arc::new(self.index_log());
        while self.load_next(&tail) {}
        self.finish_loading(&tail);
    }

    /// Reads the log's tail; every host is known afterwards.
    pub(super) fn index_log(&self) -> LogTail {
        let start = self.log.start();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = store_wal::sync_found(&*self.disk, &found, start) {
            // The kernel may have lost what a kill left unsynced: once it is in memory it is logged again.
            self.counters.problem("log segment of an earlier process cannot be synced", &e.path);
            self.found_unsynced.store(true, Ordering::Relaxed);
        }
        let mut tail = LogTail::index(&*self.disk, &found, self.lineage, start);
        let mut tries_left = LOAD_TRIES;
        while tail.is_unread_for_now(tries_left == 0) && !self.background.is_ending() {
            // Nothing of it was applied yet.
            self.clock.pause(LOAD_PAUSE);
            tries_left = tries_left.saturating_sub(1);
            tail = LogTail::index(&*self.disk, &found, self.lineage, start);
        }
        // From here on frames are read where they stand.
        *found = Found::default();
        drop(found);
        self.counters.replayed(&tail);
        for (cluster, host) in tail.hosts() {
            if self.store.found_host(cluster, host).is_err() {
                let dir = self.options.directory.join(cluster).join(host);
                let what = "more hosts than there are numbers: its log rows are not replayed";
                self.counters.trouble(Grade::Error, what, &dir, "2^32 hosts");
            }
        }
        self.begin_time(&tail);
        self.store.set_hosts_begin_loading(false);
        let hosts = self.store.all_hosts().into_iter().filter(|host| host.lock().is_loading()).collect();
        self.waiting.begin(hosts);
        tail
    }

    /// Loads one host; false if none is left.
    pub(super) fn load_next(&self, tail: &LogTail) -> bool {
        let Some(under_way) = self.waiting.next() else { return false };
        let host = &under_way.host;
        if host.lock().is_loading() {
            self.load_host(host, tail);
        }
        self.jobs.step();
        true
    }

    /// To be called once when every host is loaded.
    pub(super) fn finish_loading(&self, tail: &Arc<LogTail>) {
        self.keep_trying(tail);
        self.begin_time_again();
        if self.found_unsynced.load(Ordering::Relaxed) {
            self.log.degrade("segments of an earlier process could not be synced");
        }
        self.waiting.finish();
        self.tell_problems();
        self.look_at_time();
        self.drop_old();
        self.claim();
        let (hosts, series) = (self.store.host_count(), self.store.series());
        tracing::info!(hosts, series, "everything is loaded");
    }

    /// Loads a host; false if its directory cannot be listed: then it goes on to be one that is loading.
    pub(super) fn load_host(&self, host: &Arc<Host>, tail: &LogTail) -> bool {
        let mut tries_left = LOAD_TRIES;
        let mut loading = loop {
            tries_left -= 1;
            let patience = if tries_left == 0 { Patience::RunOut } else { Patience::Left };
            let mut loading = Loading::new(self, host, tail, patience);
            loading.read_files();
            if patience == Patience::RunOut && !loading.unlisted {
                // Blocks that are made without them would count as complete: they must not come back later.
                let went = |path: PathBuf| self.set_aside(&path, "cannot be read");
                loading.unlisted = !loading.unreadable.drain(..).all(went);
            }
            if loading.is_all_read() {
                loading.replay();
            }
            if loading.unlisted {
                return false;
            }
            if loading.is_all_read() {
                break loading;
            }
            self.background.pause(LOAD_PAUSE);
        };
        let Some(mut state) = loading.catch_up() else { return false };
        let Loading { state: loaded, on_disk, lost, .. } = loading;
        if lost.is_some() || on_disk.is_renamed {
            self.unsettled().enter(host, lost);
        }
        if !on_disk.is_empty() {
            self.on_disk().insert(host.number(), on_disk);
        }

        let before = state.shape().columns().len();
        state.adopt(loaded);
        let (fixed_phase, now) = (self.is_dumping(), self.now());
        for Deferred { stamp, samples } in state.finish_loading() {
            // Those that are in the log alone were applied with the rest of it.
            let Some(samples) = samples else { continue };
            self.store.take_deferred(heap_bytes(&samples));
            self.store.apply_deferred(host, &mut state, &samples, stamp, fixed_phase, now);
        }
        self.store.add_series(state.shape().columns().len() - before);
        drop(state);
        host.notify_loaded();
        true
    }

    /// Puts a host ahead in the queue if it still waits.
    pub(super) fn hurry(&self, host: &Arc<Host>) {
        if self.waiting.phase() != Phase::Ready && host.lock().is_loading() {
            self.waiting.hurry(host);
        }
    }

    /// Renames a file of which nothing can be made, in its directory. False if it is still there.
    pub(super) fn set_aside(&self, path: &Path, why: &str) -> bool {
        let aside = files::set_aside(&*self.disk, path);
        match &aside {
            Ok(aside) => {
                self.counters.trouble(Grade::Warning, "set aside", aside, why);
            }
            Err(e) => {
                let what = "could not be set aside";
                self.counters.trouble(Grade::Error, what, path, &format!("{why}; {}", describe(e)));
            }
        }
        self.counters.files_set_aside.add(1);
        aside.is_ok()
    }
}

/// The slot of the newest row of a host.
pub(super) fn newest_slot(state: &HostState) -> Option<i64> {
    state.buffers().iter().filter_map(Buffer::newest_slot).max()
}

impl<'a> Loading<'a> {
    fn new(engine: &'a Engine, host: &'a Host, tail: &'a LogTail, patience: Patience) -> Self {
        Self {
            engine,
            host,
            tail,
            state: HostState::new(engine.store.intern(Shape::empty(engine.store.catalog()))),
            on_disk: OnDisk::default(),
            shapes: HashMap::new(),
            bytes: HashMap::new(),
            blocks: Vec::new(),
            strangers: Vec::new(),
            looked_at: RefCell::default(),
            contested: Vec::new(),
            unreadable: Vec::new(),
            is_log_unread: false,
            left_to_log: 0,
            patience,
            from: engine.horizon.keep_from(host.cluster(), host.name()),
            lost: None,
            unlisted: false,
        }
    }

    /// The disk does not give a file: its bytes may be fine, so that it is tried again.
    pub(super) fn cannot_read(&mut self, path: &Path, why: &dyn std::error::Error) {
        let what = "cannot be read: tried again";
        self.engine.counters.trouble(Grade::Warning, what, path, &describe(why));
        self.unreadable.push(path.to_owned());
        self.wait_if_short(why);
    }

    /// The same of the log: its segments are not the host's, and stay where they are.
    pub(super) fn cannot_read_log(&mut self, why: &CallError) {
        let what = "log cannot be read: tried again";
        self.engine.counters.trouble(Grade::Warning, what, &why.path, &describe(why));
        self.is_log_unread = true;
        self.wait_if_short(why);
    }

    /// Where it is the process that lacks something, nothing can be said of a file, however often it is tried.
    fn wait_if_short(&mut self, why: &dyn std::error::Error) {
        self.unlisted |= self.patience == Patience::RunOut && cause(why).is_some_and(is_shortage);
    }

    /// Whether the disk gave everything that was asked of it so far.
    pub(super) fn is_all_read(&self) -> bool {
        self.unreadable.is_empty() && !self.is_log_unread && !self.unlisted
    }

    fn read_files(&mut self) {
        let dir = self.engine.host_dir(self.host);
        let disk = &*self.engine.disk;
        // An error may be one of a moment: descriptors that others hold.
        let listed = match HostFiles::list(disk, &dir).or_else(|_| HostFiles::list(disk, &dir)) {
            Ok(listed) => listed,
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => return,
            Err(e) => {
                tracing::warn!(path = %dir.display(), error = %describe(&e), "directory cannot be listed: tried again");
                self.unlisted = true;
                return;
            }
        };
        self.remove_own_tmp(&dir, &listed);
        self.finish_superseding(&dir, &listed);
        self.engine.counters.foreign_files.add((listed.foreign.len() + listed.unnumbered.len()) as u64);
        let oldest = self.from;
        let loaded = load_listed(disk, &dir, &listed, oldest);
        let mut runs = Vec::new();
        for unreadable in &loaded.unreadable {
            let why = describe(unreadable);
            if unreadable.is_damage() {
                self.engine.set_aside(unreadable.path(), &why);
            } else {
                self.cannot_read(unreadable.path(), unreadable);
            }
        }
        for file in loaded.files {
            self.engine.counters.infinite_values.add(file.content.infinite);
            self.on_disk.sources.push(file.path);
            runs.extend(file.content.dump.runs);
        }
        let files = self.index_block_files(&loaded.not_version_1, !runs.is_empty());
        if self.unlisted {
            return;
        }
        self.take_shapes(&files, oldest);
        let mut import = Import::default();
        self.import_below(&files, &mut import, oldest);
        // Dumps of ours, or of the original: above what is of other stores.
        for run in runs {
            // Values without a frequency have no times.
            let Some(frequency_s) = NonZeroU32::new(run.frequency_s) else { continue };
            let metric = self.engine.store.metric_from_file(&run.metric, frequency_s);
            let (base, frequency_s, values) = (run.base, run.frequency_s, run.values);
            import.push(ImportRun { path: run.path.into(), metric, base, frequency_s, values });
        }
        self.take_blocks(&files, oldest, &mut import);
        // Behind the blocks: those of other histories say which columns there are.
        self.take_floors_of_files(&files, oldest);
        let taken = import.build(&self.engine.store, &mut self.state, oldest);
        self.blocks.resize_with(self.state.buffers().len(), Vec::new);
        self.engine.counters.imported_values.add(taken);
        if listed.current_wal {
            self.import_current_wal(&dir.join(CURRENT_WAL), oldest);
        }
    }

    /// Ends what a crash interrupted: the files do not count any more, and go now or with the next checkpoint.
    fn finish_superseding(&mut self, dir: &Path, listed: &HostFiles) {
        let list = dir.join(SUPERSEDED);
        if listed.void_list {
            self.engine.set_aside(&list, "void list of superseded files");
        }
        let Some(superseded) = &listed.superseded else { return };
        if let Err(e) = superseded.finish(&*self.engine.disk, dir) {
            tracing::warn!(directory = %dir.display(), error = %describe(&e), "superseded files are passed over, but still there");
            self.engine.counters.problem("superseded files could not be removed: passed over", &list);
            self.on_disk.superseded = superseded.files(dir);
            // Without a file there is still the list.
            self.on_disk.superseded.push((list, Then::Remove));
        }
    }

    /// Removes what a save of ours left half written; what others left stays.
    fn remove_own_tmp(&self, dir: &Path, listed: &HostFiles) {
        for name in &listed.tmp {
            let path = dir.join(name);
            let front = self.engine.disk.read_front(&path, blockfile::HEADER_BYTES).unwrap_or_default();
            let is_list = name.as_encoded_bytes().strip_prefix(SUPERSEDED.as_bytes());
            let is_list = is_list.is_some_and(|rest| rest.starts_with(b"."));
            let index = front_of(&front);
            let is_ours = index.lineage == Some(self.engine.lineage) && index.other_release.is_none();
            if is_list || is_ours {
                if let Err(e) = self.engine.disk.remove(&path) {
                    let what = "half-written file could not be removed";
                    self.engine.counters.trouble(Grade::Warning, what, &path, &e.to_string());
                }
            } else {
                self.engine.counters.foreign_files.add(1);
            }
        }
    }

    /// The original's log: its records are samples like any other, below everything of ours.
    fn import_current_wal(&mut self, path: &Path, oldest: i64) {
        let bytes = match self.engine.disk.read(path) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.cannot_read(path, &e);
                return;
            }
        };
        let mut samples: Vec<RawSample> = Vec::new();
        let mut infinite = 0;
        let report = v1::replay(&bytes, &mut |record| {
            if !record.value.is_finite() {
                infinite += u64::from(record.value.is_infinite());
            } else if record.timestamp >= oldest {
                samples.push(RawSample {
                    path: record.selector.iter().map(|&name| name.into()).collect(),
                    metric: record.metric.into(),
                    time: record.timestamp,
                    value: record.value,
                });
            }
        });
        if !report.intact {
            tracing::warn!(path = %path.display(), records = report.records, bytes_damaged = report.bytes_damaged,
                "log of the original is damaged: what is intact is taken");
            self.engine.counters.problem("damaged in part: log of the original", path);
        }
        self.engine.counters.infinite_values.add(infinite);
        self.engine.counters.imported_values.add(samples.len() as u64);
        self.on_disk.current_wal = Some((path.to_owned(), report.intact));
        let mut rows = Rows::default();
        self.rows_of_samples(&samples, Stamp::ZERO, &mut rows);
        self.host.apply(&mut self.state, rows.views(), Stamp::ZERO, self.engine.now());
        let shape = Arc::clone(self.state.shape());
        for buffer in self.state.buffers_mut() {
            buffer.freeze(&shape);
            buffer.seal_frozen(&shape);
            buffer.mark_imported();
        }
    }
}
