//! Dumps: blocks saved as files that the original reads, in json and portable mode.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_checkpoint::dump::{DumpFormat, dump_host};
use store_checkpoint::parallel::map_hosts;
use store_checkpoint::run::{Dump, Run};
use store_checkpoint::superseded::{Then, supersede};
use store_core::Timestamp;
use store_core::block::{Block, BlockState};
use store_core::floor::Floor;
use store_core::host::Host;
use store_core::journal::Journal;
use store_core::level::Level;
use store_core::query::Reader;

use super::Engine;
use super::on_disk::OnDisk;
use super::open::describe;
use super::options::FileFormat;
use super::problems::Grade;
use super::save::{Saved, Seal};
use super::waiting::Phase;

/// A dump that this process has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DumpFile {
    pub(super) path: PathBuf,
    /// It holds the slots from here on; the first one those before too.
    pub(super) from: Timestamp,
    /// Up to here, exclusive.
    pub(super) to: Timestamp,
}

/// What dumps take the place of.
#[derive(Debug, Default)]
struct ToReplace {
    /// Files whose values are in memory, block files too, while no dump holds them.
    loaded: Vec<(PathBuf, Then)>,
    /// Those that dumps took the place of, and that are still there.
    superseded: Vec<(PathBuf, Then)>,
    dumps: Vec<DumpFile>,
}

impl ToReplace {
    fn of(on_disk: &OnDisk) -> Self {
        Self {
            loaded: on_disk.loaded().chain(on_disk.block_files.iter().cloned()).collect(),
            superseded: on_disk.superseded.clone(),
            dumps: on_disk.dumps.clone(),
        }
    }

    fn supersede(&mut self, files: impl IntoIterator<Item = (PathBuf, Then)>) {
        for (path, then) in files {
            let is_kept = self.dumps.iter().any(|dump| dump.path == path);
            if !is_kept && self.superseded.iter().all(|(other, _)| *other != path) {
                self.superseded.push((path, then));
            }
        }
    }

    /// The greatest number up to `from` under which a dump destroys none of several files that give way to it: a rename
    /// over one of them would let the others outrank the dump before it is decided that none of them counts.
    fn free_number(&self, dir: &Path, from: Timestamp, format: DumpFormat) -> Timestamp {
        if self.loaded.len() + self.superseded.len() <= 1 {
            return from;
        }
        let is_taken = |number: Timestamp| {
            let path = dir.join(format!("{number}.{}", format.extension()));
            self.loaded.iter().chain(&self.superseded).any(|(taken, _)| *taken == path)
        };
        let mut number = from;
        while is_taken(number) {
            number -= 1;
        }
        number
    }
}

/// One file to be written, and the series it is to hold.
struct Wanted {
    from: Timestamp,
    to: Timestamp,
    /// Whether it is the oldest: it also holds what comes late, from before `from`.
    first: bool,
    /// The file that it replaces.
    replaces: Option<PathBuf>,
}

/// One series of a host.
struct Series {
    path: Vec<Box<str>>,
    metric: Box<str>,
    frequency_s: u32,
    columns: Vec<u32>,
}

/// A host's state at one moment, for its files.
struct Snapshot {
    reader: Reader,
    series: Vec<Series>,
    blocks: Vec<Arc<Block>>,
    floors: Vec<Floor>,
    oldest: Timestamp,
    newest: Timestamp,
}

impl Engine {
    /// Writes everything that is unsaved into dumps: state is per host, one that fails is tried again.
    pub(super) fn dump(&self) -> Saved {
        let mut saved = Saved::default();
        if self.waiting.phase() != Phase::Ready {
            return saved;
        }
        if !self.may_save() {
            return saved;
        }
        self.seal(Seal::All);
        let one_at_a_time = self.saver();
        let hosts = self.store.all_hosts();
        let written = map_hosts(&hosts, self.options.num_workers, |host| self.dump_one(host));
        for (host, written) in hosts.iter().zip(written) {
            match written {
                Ok(blocks) => saved.blocks += blocks,
                Err(e) => {
                    saved.failed += 1;
                    let what = "host could not be dumped: tried again";
                    self.counters.trouble(Grade::Error, what, &self.host_dir(host), &e);
                }
            }
        }
        self.ground.note_saves(saved.failed);
        self.counters.blocks_saved.add(saved.blocks);
        self.counters.saves_failed.add(saved.failed);
        self.counters.saves.add(1);
        self.log_floors_again(&hosts);
        drop(one_at_a_time);
        self.settle();
        saved
    }

    /// No file can say what was freed: before the log is retired its end says it once more, or a kill would forget it.
    fn log_floors_again(&self, hosts: &[Arc<Host>]) {
        let mut scribe = self.scribe();
        for host in hosts {
            // Of many hosts that is much. An error is of the log, and seen when it is retired.
            self.log.relieve().ok();
            let mut state = host.lock();
            let floors: Vec<_> = state.floors().iter().map(|floor| (floor.column, floor.before)).collect();
            if !floors.is_empty() {
                let at = scribe.floors(host, &mut state, &floors);
                state.floors_mut().log_again(at);
            }
        }
    }

    /// Writes the files of one host that lack something. Returns how many blocks are saved thereby.
    fn dump_one(&self, host: &Arc<Host>) -> Result<u64, String> {
        self.jobs.step();
        if host.is_poisoned() {
            return Err("a panic left it half-changed".to_owned());
        }
        // A copy: what is known of the directory must outlast whatever happens here.
        let mut on_disk = self.on_disk().get(&host.number()).map(ToReplace::of).unwrap_or_default();
        let snapshot = self.snapshot(host);
        let replaces_loaded = !on_disk.loaded.is_empty();
        if !replaces_loaded
            && on_disk.superseded.is_empty()
            && snapshot.blocks.is_empty()
            && snapshot.floors.is_empty()
        {
            return Ok(0);
        }
        let dir = self.host_dir(host);
        let written = self.write_dumps(host, &snapshot, &mut on_disk);
        if written.is_ok() {
            let loaded = std::mem::take(&mut on_disk.loaded);
            on_disk.supersede(loaded);
        }
        self.know(host, replaces_loaded && written.is_ok(), &on_disk);
        written?;
        // Before anything is called saved: what outranks the dumps must be gone, or be known not to count.
        let by: Vec<PathBuf> = on_disk.dumps.iter().map(|dump| dump.path.clone()).collect();
        if !on_disk.superseded.is_empty() {
            supersede(&*self.disk, &dir, &by, &on_disk.superseded).map_err(|e| describe(&e))?;
            on_disk.superseded.clear();
            self.know(host, false, &on_disk);
        }
        let mut state = host.lock();
        for block in &snapshot.blocks {
            state.buffers_mut()[usize::from(block.header().buffer)].mark_saved(block);
        }
        state.floors_mut().mark_applied(&snapshot.floors);
        Ok(snapshot.blocks.len() as u64)
    }

    /// Notes what lies in the directory of a host.
    fn know(&self, host: &Host, has_replaced_loaded: bool, now: &ToReplace) {
        let mut on_disk = self.on_disk();
        let on_disk = on_disk.entry(host.number()).or_default();
        on_disk.dumps.clone_from(&now.dumps);
        on_disk.superseded.clone_from(&now.superseded);
        if has_replaced_loaded {
            on_disk.sources.clear();
            on_disk.block_files.clear();
            on_disk.current_wal = None;
        }
    }

    /// Writes the dumps that are wanted. Those in whose place another one was written are superseded.
    fn write_dumps(&self, host: &Host, snapshot: &Snapshot, on_disk: &mut ToReplace) -> Result<(), String> {
        let dir = &self.host_dir(host);
        let format = match self.options.format {
            FileFormat::Json => DumpFormat::Json,
            FileFormat::Wal => DumpFormat::Bin1,
        };
        let wanted = if on_disk.loaded.is_empty() {
            wanted(&on_disk.dumps, snapshot)
        } else {
            vec![Wanted { from: snapshot.oldest, to: snapshot.newest + 1, first: true, replaces: None }]
        };
        for file in wanted {
            let low = if file.first { Timestamp::MIN } else { file.from };
            let kept = self.horizon.keep_from(host.cluster(), host.name());
            let runs = snapshot.runs(low.max(kept), file.to);
            let from = if file.first {
                runs.iter().map(|run| run.base).min().unwrap_or(file.from)
            } else {
                file.from
            };
            let number = on_disk.free_number(dir, from, format);
            let dump = Dump::covering(number, file.to, runs);
            let path =
                dump_host(&*self.disk, &self.durable_dirs, dir, &dump, format).map_err(|e| describe(&e))?;
            on_disk.dumps.retain(|dump| Some(&dump.path) != file.replaces.as_ref());
            on_disk.supersede(file.replaces.map(|old| (old, Then::Remove)));
            if let Some(path) = path {
                // Where a single file gave way to it, under its own name.
                on_disk.loaded.retain(|(old, _)| *old != path);
                on_disk.superseded.retain(|(old, _)| *old != path);
                on_disk.dumps.push(DumpFile { path, from, to: file.to });
            }
        }
        on_disk.dumps.sort_by_key(|dump| dump.from);
        Ok(())
    }

    fn snapshot(&self, host: &Host) -> Snapshot {
        let state = host.lock();
        let mut series = Vec::new();
        self.push_series(state.shape().root(), &mut Vec::new(), &mut series);
        let held = || state.buffers().iter().flat_map(|buffer| buffer.blocks());
        let blocks = held()
            .filter(|held| held.state != BlockState::Saved)
            .map(|held| Arc::clone(&held.block))
            .collect();
        let oldest = held().map(|held| held.block.header().base).min().unwrap_or_default();
        let newest = super::load::newest_slot(&state).unwrap_or_default();
        let (reader, floors) = (Reader::new(&state), state.floors().unapplied());
        Snapshot { reader, series, blocks, floors, oldest, newest }
    }

    fn push_series(&self, level: &Level, path: &mut Vec<Box<str>>, series: &mut Vec<Series>) {
        for (id, columns) in level.metrics() {
            let Some(metric) = self.store.catalog().get(id) else { continue };
            let frequency_s = metric.frequency_s.get();
            let (path, metric, columns) = (path.clone(), metric.name.clone(), columns.to_vec());
            series.push(Series { path, metric, frequency_s, columns });
        }
        for (name, child) in level.children() {
            path.push(name.into());
            self.push_series(child, path, series);
            path.pop();
        }
    }
}

impl Snapshot {
    fn runs(&self, from: Timestamp, to: Timestamp) -> Vec<Run> {
        self.series
            .iter()
            .filter_map(|series| {
                let (base, values) = self.reader.run(&series.columns, series.frequency_s, from, to)?;
                let (path, metric) = (series.path.clone(), series.metric.clone());
                Some(Run { path, metric, base, frequency_s: series.frequency_s, values })
            })
            .collect()
    }
}

/// The files that lack something: those into which unsaved rows fall, or which a floor touches, and one behind
/// them for what is newer.
fn wanted(dumps: &[DumpFile], snapshot: &Snapshot) -> Vec<Wanted> {
    let falls_into = |low: Timestamp, high: Timestamp| {
        snapshot.blocks.iter().any(|block| block.header().base < high && low < block.header().end())
    };
    let touched = |low: Timestamp| snapshot.floors.iter().any(|floor| low < floor.before);
    let mut wanted = Vec::new();
    for (at, dump) in dumps.iter().enumerate() {
        let low = if at == 0 { Timestamp::MIN } else { dump.from };
        if falls_into(low, dump.to) || touched(low) {
            let replaces = Some(dump.path.clone());
            wanted.push(Wanted { from: dump.from, to: dump.to, first: at == 0, replaces });
        }
    }
    let behind = dumps.last().map_or(snapshot.oldest, |dump| dump.to);
    if falls_into(behind, Timestamp::MAX) {
        let first = dumps.is_empty();
        wanted.push(Wanted { from: behind, to: snapshot.newest + 1, first, replaces: None });
    }
    wanted
}
