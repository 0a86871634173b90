//! Loading: what lies in the directory of a host, then what the log holds of it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use store_checkpoint::blockfile::{self, Index};
use store_checkpoint::files::{self, CURRENT_WAL, HostFiles};
use store_checkpoint::load::load_listed;
use store_checkpoint::roll;
use store_checkpoint::superseded::{SUPERSEDED, Then};
use store_core::anchors::Anchors;
use store_core::block::{Block, BlockState};
use store_core::buffer::Buffer;
use store_core::host::{Host, HostState};
use store_core::import::{Import, ImportRun};
use store_core::record::RawSample;
use store_core::row::Rows;
use store_core::shape::{Column, Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_wal::{LogPos, v1};

use super::Engine;
use super::open::{describe, front_of};
use super::problems::Grade;
use super::roll::Unrolled;
use super::scribe::stamp;
use super::tail::{Frame, LogTail};
use super::waiting::Phase;

/// What lies in the directory of a host and is to go once something else holds it.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// Files of other formats whose values are in memory; they stay until those are saved.
    pub(super) sources: Vec<PathBuf>,
    /// The original's log, and whether every byte of it was an intact record.
    pub(super) current_wal: Option<(PathBuf, bool)>,
    /// Whether some of these were written under another name of the host.
    pub(super) is_renamed: bool,
    /// Block files, while dumps are written in their place, and what is to become of them then.
    pub(super) block_files: Vec<(PathBuf, Then)>,
    /// Files that others took the place of, and that are to go: until they did the host counts as unsaved in json and
    /// portable mode, and is neither rolled nor cleaned up.
    pub(super) superseded: Vec<(PathBuf, Then)>,
    /// Dumps of this process, in the order of time.
    pub(super) dumps: Vec<super::checkpoint::DumpFile>,
    /// What is in files that were not rolled yet.
    pub(super) unrolled: Unrolled,
    /// Length of the newest file that was.
    pub(super) rolled_bytes: u64,
    /// Block files with damage, that go aside once what could be read of them is saved elsewhere.
    pub(super) damaged: Vec<PathBuf>,
}

impl OnDisk {
    fn lists(&self) -> [&Vec<PathBuf>; 2] {
        [&self.sources, &self.damaged]
    }

    fn replaced(&self) -> [&Vec<(PathBuf, Then)>; 2] {
        [&self.block_files, &self.superseded]
    }

    /// What was loaded of other formats: it gives way to what is made of it.
    pub(super) fn loaded(&self) -> impl Iterator<Item = (PathBuf, Then)> {
        let sources = self.sources.iter().map(|path| (path.clone(), Then::Remove));
        let then = |intact: bool| if intact { Then::Remove } else { Then::SetAside };
        let current_wal = self.current_wal.iter().map(move |(path, intact)| (path.clone(), then(*intact)));
        sources.chain(current_wal)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let of_dumps = self.dumps.iter().map(|dump| &dump.path);
        self.lists()
            .into_iter()
            .flatten()
            .chain(self.replaced().into_iter().flatten().map(|(path, _)| path))
            .chain(of_dumps)
            .chain(self.current_wal.iter().map(|(path, _)| path))
    }

    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        self.paths().next().is_none() && self.unrolled.is_empty() && self.rolled_bytes == 0
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.lists().iter().map(|list| list.capacity() * size_of::<PathBuf>()).sum::<usize>()
            + self.replaced().iter().map(|list| list.capacity() * size_of::<(PathBuf, Then)>()).sum::<usize>()
            + self.dumps.capacity() * size_of::<super::checkpoint::DumpFile>()
            + self.paths().map(|path| path.capacity()).sum::<usize>()
    }
}

/// A block file of the host, indexed.
pub(super) struct Indexed {
    pub(super) path: PathBuf,
    /// What is in it; of the blocks only those that rank among ours by their `as_of`.
    pub(super) index: Index,
    /// Whether it is mapped rather than read.
    pub(super) mapped: bool,
    /// Blocks of other stores, or of a log that is lost: they rank below everything of ours.
    pub(super) below: Vec<blockfile::Found>,
    /// Floors of another store: they hide what is in that store's blocks.
    pub(super) floors_below: Vec<blockfile::FoundFloors>,
    /// Whether it was written under another name: the directory was renamed since.
    pub(super) renamed: bool,
}

impl Indexed {
    /// Whether the file is to be written again, and goes then.
    pub(super) fn is_source(&self) -> bool {
        self.renamed || !self.below.is_empty() || !self.floors_below.is_empty()
    }
}

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
    /// The greatest position of a lost log that was found.
    pub(super) lost: Option<LogPos>,
    /// Files that the disk does not give just now.
    pub(super) unreadable: Vec<PathBuf>,
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
        if let Err(e) = store_wal::sync_found(&*self.disk, &self.found, start) {
            // The kernel may have lost what a kill left unsynced: once it is in memory it is logged again.
            self.counters.problem("log segment of an earlier process cannot be synced", &e.path);
            self.found_unsynced.store(true, Ordering::Relaxed);
        }
        let tail = LogTail::read(&*self.disk, &self.found, self.lineage, start);
        self.counters.replayed(&tail);
        for (cluster, host) in tail.hosts() {
            if self.store.found_host(cluster, host).is_err() {
                let dir = self.options.directory.join(cluster).join(host);
                let what = "more hosts than there are numbers: its log rows are not replayed";
                self.counters.trouble(Grade::Error, what, &dir, "2^32 hosts");
            }
        }
        self.store.set_hosts_begin_loading(false);
        let hosts = self.store.all_hosts().into_iter().filter(|host| host.lock().is_loading()).collect();
        self.waiting.begin(hosts);
        tail
    }

    /// Loads one host; false if none is left.
    pub(super) fn load_next(&self, tail: &LogTail) -> bool {
        let Some(host) = self.waiting.next() else { return false };
        if host.lock().is_loading() {
            self.load_host(&host, tail);
        }
        self.waiting.done();
        true
    }

    /// To be called once when every host is loaded.
    pub(super) fn finish_loading(&self, tail: &Arc<LogTail>) {
        self.keep_trying(tail);
        self.find_newest();
        self.stand_in_for_clock();
        if self.found_unsynced.load(Ordering::Relaxed) {
            self.log.degrade("segments of an earlier process could not be synced");
        }
        self.waiting.finish();
        self.tell_problems();
        self.vouch();
        self.prune();
        let (hosts, series) = (self.store.host_count(), self.store.series());
        tracing::info!(hosts, series, "everything is loaded");
    }

    /// Where the clock is behind nine of ten hosts' newest samples, their median stands in for it.
    fn stand_in_for_clock(&self) {
        let clock = self.clock.now_s();
        // A sample of this second may have a slot that lies half a step ahead of it.
        let begun = |buffer: &Buffer| Some(buffer.newest_slot()? - i64::from(buffer.frequency_s() / 2));
        let newest_of = |host: &Arc<Host>| host.lock().buffers().iter().filter_map(begun).max();
        let mut newest: Vec<i64> = self.store.all_hosts().iter().filter_map(newest_of).collect();
        newest.sort_unstable();
        let ahead = newest.iter().filter(|slot| **slot > clock).count();
        if !newest.is_empty() && ahead * 10 >= newest.len() * 9 {
            let median = newest[newest.len() / 2];
            tracing::warn!(
                clock,
                median,
                "the clock is behind the data: the median of the hosts' newest samples stands in"
            );
            self.stand_in.store(median, Ordering::Relaxed);
        }
    }

    /// Loads a host; false if its directory cannot be listed: then it goes on to be one that is loading.
    pub(super) fn load_host(&self, host: &Arc<Host>, tail: &LogTail) -> bool {
        let mut loading = Loading::new(self, host, tail);
        for tries_left in (0..LOAD_TRIES).rev() {
            loading.read_files();
            if loading.unlisted {
                return false;
            }
            if loading.unreadable.is_empty() {
                break;
            }
            if tries_left == 0 {
                // Blocks that are made without them would count as complete: they must not come back later.
                loading.unreadable.iter().for_each(|path| self.set_aside(path, "cannot be read"));
            } else {
                self.background.pause(LOAD_PAUSE);
                loading = Loading::new(self, host, tail);
            }
        }
        loading.replay();
        let Loading { state: loaded, on_disk, lost, .. } = loading;
        if lost.is_some() || on_disk.is_renamed {
            self.unsettled().enter(host, lost);
        }
        if !on_disk.is_empty() {
            self.on_disk().insert(host.number(), on_disk);
        }

        let mut state = host.lock();
        let before = state.shape().columns().len();
        state.adopt(loaded);
        let (fixed_phase, now) = (self.is_dumping(), self.now());
        for (stamp, samples) in state.finish_loading() {
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

    /// Renames a file that cannot be read, in its directory.
    pub(super) fn set_aside(&self, path: &Path, why: &str) {
        match files::set_aside(&*self.disk, path) {
            Ok(aside) => {
                self.counters.trouble(Grade::Warning, "unreadable: set aside", &aside, why);
            }
            Err(e) => {
                let what = "unreadable, and could not be set aside";
                self.counters.trouble(Grade::Error, what, path, &format!("{why}; {}", describe(&e)));
            }
        }
        self.counters.files_set_aside.add(1);
    }
}

/// The slot of the newest row of a host.
pub(super) fn newest_slot(state: &HostState) -> Option<i64> {
    state.buffers().iter().filter_map(Buffer::newest_slot).max()
}

impl<'a> Loading<'a> {
    fn new(engine: &'a Engine, host: &'a Host, tail: &'a LogTail) -> Self {
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
            lost: None,
            unreadable: Vec::new(),
            unlisted: false,
        }
    }

    /// The disk does not give a file: its bytes may be fine, so that it is tried again.
    fn cannot_read(&mut self, path: &Path, why: &dyn std::error::Error) {
        let what = "cannot be read: tried again";
        self.engine.counters.trouble(Grade::Warning, what, path, &describe(why));
        self.unreadable.push(path.to_owned());
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
        let oldest = self.engine.oldest();
        let loaded = load_listed(disk, &dir, &listed, oldest);
        let mut import = Import::default();
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
            for run in file.content.dump.runs {
                let metric = self.engine.store.metric_from_file(&run.metric, run.frequency_s);
                let (base, frequency_s, values) = (run.base, run.frequency_s, run.values);
                import.push(ImportRun { path: run.path.into(), metric, base, frequency_s, values });
            }
        }
        let files = self.index_block_files(&loaded.not_version_1);
        if self.unlisted {
            return;
        }
        self.take_shapes(&files, oldest);
        self.import_below(&files, &mut import, oldest);
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

    fn index_block_files(&mut self, paths: &[PathBuf]) -> Vec<Indexed> {
        let mut files = Vec::new();
        for path in paths {
            let disk = &self.engine.disk;
            let found = disk.try_map(path).and_then(|mapped| match mapped {
                Some(bytes) => Ok((bytes, true)),
                None => Ok((disk.read(path)?.into(), false)),
            });
            let (bytes, mapped) = match found {
                Ok(found) => found,
                Err(e) => {
                    self.cannot_read(path, &e);
                    continue;
                }
            };
            if bytes.is_empty() {
                // Created, and never written to: a kill in its first save.
                self.engine.counters.foreign_files.add(1);
                continue;
            }
            let index = blockfile::index(&bytes);
            if let Some(other) = index.other_release {
                self.note_other_release(path, index.lineage, other);
                continue;
            }
            let renamed = !index.is_of(&self.engine.host_dir(self.host), self.engine.lineage);
            if renamed && !self.may_be_taken(path, &index) {
                continue;
            }
            if index.shapes.is_empty() && index.blocks.is_empty() && index.floors.is_empty() {
                if !index.header_good {
                    self.engine.set_aside(path, "no block file");
                } else {
                    self.engine.counters.foreign_files.add(1);
                }
                continue;
            }
            for damage in &index.damage {
                let why = format!("{} bytes at byte {}", damage.bytes, damage.offset);
                self.engine.counters.trouble(Grade::Warning, "damaged in part", path, &why);
            }
            files.push(self.sorted(Indexed {
                path: path.clone(),
                index,
                mapped,
                below: Vec::new(),
                floors_below: Vec::new(),
                renamed,
            }));
        }
        self.note_renamed(&files);
        self.drop_superseded(&mut files);
        files
    }

    /// Unlinks files that a rolled one replaces: a crash came between its rename and their removal.
    fn drop_superseded(&self, files: &mut Vec<Indexed>) {
        let dir = self.engine.host_dir(self.host);
        if files.len() < 2 {
            return;
        }
        let is_whole = |file: &&Indexed| file.index.rolled && file.index.first_bad_block().is_none();
        let ours = || files.iter().filter(|file| !file.is_source());
        let whole: Vec<&Indexed> = ours().filter(is_whole).collect();
        let superseded: Vec<PathBuf> = ours()
            .filter(|file| whole.iter().any(|rolled| roll::supersedes(&rolled.index, &file.index)))
            .map(|file| file.path.clone())
            .collect();
        if superseded.is_empty() || self.engine.disk.sync_dir(&dir).is_err() {
            return;
        }
        for path in superseded {
            if self.engine.disk.remove(&path).is_ok() {
                files.retain(|file| file.path != path);
            }
        }
    }

    pub(super) fn frames(&self) -> &'a [Frame] {
        self.tail.frames(self.host.cluster(), self.host.name())
    }

    fn take_blocks(&mut self, files: &[Indexed], oldest: i64, import: &mut Import) {
        let s = stamp(self.engine.log.start());
        let mut found: Vec<Arc<Block>> = Vec::new();
        // What is to be saved again, because its file goes.
        let mut again: Vec<Arc<Block>> = Vec::new();
        let mut newest = i64::MIN;
        for file in files {
            let then = if file.index.is_readable() { Then::Remove } else { Then::SetAside };
            let (blocks, bytes) = (&file.index.blocks, file.index.file_bytes);
            if file.is_source() {
                self.note_source(file);
            } else {
                self.on_disk.block_files.push((file.path.clone(), then));
            }
            if file.is_source() {
                // It goes before anything is rolled.
            } else if !file.index.rolled {
                self.on_disk.unrolled.add_file(blocks.len(), bytes, self.engine.clock.now_s());
            } else if let Some(end) = blocks.iter().map(|found| found.header.end()).max()
                && end > newest
            {
                (newest, self.on_disk.rolled_bytes) = (end, bytes);
            }
            for entry in &file.index.blocks {
                if entry.header.end() < oldest {
                    continue;
                }
                let Some(shape) = self.shape(entry.header.shape) else {
                    let (what, why) = ("block whose shape is nowhere", format!("at byte {}", entry.offset));
                    self.engine.counters.trouble(Grade::Error, what, &file.path, &why);
                    continue;
                };
                let block = entry.block(shape).map(|block| if file.mapped { block } else { block.on_heap() });
                match block {
                    // Half of a save that was under way: what it says is in the log, and in older blocks.
                    Ok(block) if block.header().as_of >= s && !block.check() => {
                        self.engine.counters.blocks_damaged.add(1);
                    }
                    Ok(block) => {
                        found.push(Arc::new(block));
                        if file.is_source() {
                            again.extend(found.last().cloned());
                        }
                    }
                    Err(e) => {
                        let why = format!("at byte {}: {e}", entry.offset);
                        self.engine.counters.trouble(Grade::Error, "block cannot be used", &file.path, &why);
                    }
                }
            }
        }
        self.blocks = self.state.buffers().iter().map(|_| Vec::new()).collect();
        if !found.iter().all(|block| self.state.shape().extends(block.shape())) || !is_one_history(&found) {
            tracing::warn!(
                cluster = self.host.cluster(),
                host = self.host.name(),
                "block files of more than one history: taken together by name and time"
            );
            self.import_strangers(found, files, import);
            return;
        }
        for block in found {
            self.blocks[usize::from(block.header().buffer)].push(block);
        }
        for (buffer, blocks) in self.blocks.iter_mut().enumerate() {
            blocks.sort_by_key(|block| block.header().as_of);
            // Where two overlap, the later one wins: not if it is rotten.
            let overlaps = |a: &Arc<Block>, b: &Arc<Block>| {
                let (x, y) = (a.header(), b.header());
                !Arc::ptr_eq(a, b) && x.base < y.end() && y.base < x.end()
            };
            let rotten: Vec<Arc<Block>> = blocks
                .iter()
                .filter(|block| blocks.iter().any(|other| overlaps(block, other)) && !block.check())
                .cloned()
                .collect();
            for block in rotten {
                self.engine.report_rotten(self.host, &block);
                blocks.retain(|other| !Arc::ptr_eq(other, &block));
            }
            for (at, block) in blocks.iter().enumerate() {
                let covered = blocks[at + 1..].iter().any(|newer| covers(newer, block));
                if !covered {
                    let goes = again.iter().any(|other| Arc::ptr_eq(other, block));
                    // The page cache may be all there is of a block that was saved while the power went.
                    let state = if goes || block.header().as_of >= s {
                        BlockState::Unsaved { first: s }
                    } else {
                        BlockState::Saved
                    };
                    self.state.buffers_mut()[buffer].insert(Arc::clone(block), state);
                }
            }
        }
    }

    /// Blocks of several histories become values of another format, the newest `as_of` above the others. Their
    /// files go when what was made of them is saved.
    fn import_strangers(&mut self, mut blocks: Vec<Arc<Block>>, files: &[Indexed], import: &mut Import) {
        blocks.sort_by_key(|block| block.header().as_of);
        for block in &blocks {
            push_runs(import, block, |_, _| ());
        }
        self.strangers = blocks;
        let others = files.iter().filter(|file| !file.is_source());
        self.on_disk.sources.extend(others.map(|file| file.path.clone()));
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

/// Adds the values of a block by the names of its series, once `change` has seen each column and its values.
pub(super) fn push_runs(import: &mut Import, block: &Block, mut change: impl FnMut(&Column, &mut [f32])) {
    let (header, shape) = (block.header(), block.shape());
    for index in 0..header.columns {
        let number = shape.buffers()[usize::from(header.buffer)].columns[index as usize];
        let column = &shape.columns()[number as usize];
        let mut values = block.column(index);
        change(column, &mut values);
        import.push(ImportRun {
            path: column.path.clone(),
            metric: column.metric,
            base: header.base,
            frequency_s: header.grid.frequency_s,
            values,
        });
    }
}

/// Whether a block says all that another one says, as of the same or a later moment.
fn covers(newer: &Block, older: &Block) -> bool {
    let (a, b) = (newer.header(), older.header());
    a.grid == b.grid && a.base <= b.base && b.end() <= a.end() && a.as_of >= b.as_of && newer.check()
}

/// Whether the slots of blocks were counted by one store: each block lies where its anchor governs.
fn is_one_history(blocks: &[Arc<Block>]) -> bool {
    let mut by_buffer: HashMap<u16, Anchors> = HashMap::new();
    for block in blocks {
        let (buffer, grid) = (block.header().buffer, block.header().grid);
        by_buffer.entry(buffer).or_insert_with(|| Anchors::new(grid.frequency_s)).note(grid.anchor);
    }
    blocks.iter().all(|block| {
        let header = block.header();
        let anchors = &by_buffer[&header.buffer];
        let last = header.end() - i64::from(header.grid.frequency_s);
        anchors.governs(header.grid.anchor, header.base) && anchors.governs(header.grid.anchor, last)
    })
}
