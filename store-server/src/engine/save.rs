//! Sealing heads, saving blocks into block files, and retiring the log behind them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use store_checkpoint::blockfile::{BlockFileError, FloorsFrame, Moved, Opened};
use store_checkpoint::files::HostFiles;
use store_checkpoint::parallel::map_hosts;
use store_checkpoint::save::{HostWork, SaveError};
use store_checkpoint::superseded::{Then, supersede};
use store_core::Timestamp;
use store_core::block::{Block, BlockState};
use store_core::floor::Floor;
use store_core::host::Host;
use store_core::stamp::Stamp;

use super::Engine;
use super::laggard::LAGGARD_ROWS_MIN;
use super::open::describe;
use super::problems::Grade;
use super::scribe::position;
use super::waiting::Phase;

/// Bytes of blocks that one call of the saver is given at most.
const SAVE_BYTES_MAX: usize = 256 << 20;

/// Seconds by which a clock may be set back without heads counting as begun in the future.
const CLOCK_STEP_S: i64 = 60;

/// Which heads are sealed before their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// None: those that are full and had their grace.
    Ripe,
    /// Those begun before this time too.
    BegunBefore(Timestamp),
    /// Those that need the log before this stamp too.
    NeededBefore(Stamp),
    /// The same, but of a silent host only those that are worth a block.
    LaggingBefore(Stamp),
    /// All.
    All,
}

/// How a pass of saving went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) blocks: u64,
    pub(super) failed: u64,
    /// Hosts that are saved, while files in whose place others came could not be removed.
    pub(super) left: u64,
}

/// What a host has to be saved.
struct Unsaved {
    host: Arc<Host>,
    blocks: Vec<Arc<Block>>,
    floors: Vec<Floor>,
}

impl Engine {
    /// Seals heads into blocks: ripe ones without the host's lock, the others under it.
    pub(super) fn seal(&self, which: Seal) {
        let hosts = self.store.all_hosts();
        if which == Seal::All {
            // Somebody waits for it, and no ingest is in its way.
            map_hosts(&hosts, self.options.num_workers, |host| self.seal_host(host, which));
        } else {
            hosts.iter().for_each(|host| self.seal_host(host, which));
        }
    }

    pub(super) fn seal_host(&self, host: &Host, which: Seal) {
        self.jobs.step();
        if host.is_poisoned() {
            return;
        }
        let mut state = host.lock();
        if state.is_loading() {
            return;
        }
        let shape = Arc::clone(state.shape());
        let ahead = self.now().saturating_add(CLOCK_STEP_S);
        for buffer in state.buffers_mut() {
            let early = buffer.heads().any(|head| match which {
                Seal::Ripe => false,
                // One that was begun while the clock was ahead is as old as anybody can tell.
                Seal::BegunBefore(time) => head.begun() <= time || head.begun() > ahead,
                Seal::NeededBefore(stamp) => head.first() < stamp,
                Seal::LaggingBefore(stamp) => head.first() < stamp && head.rows() >= LAGGARD_ROWS_MIN,
                Seal::All => true,
            });
            if early {
                buffer.freeze(&shape);
            }
        }
        let now_or_never = which != Seal::Ripe;
        let ripe: Vec<_> = state
            .buffers()
            .iter()
            .enumerate()
            .filter_map(|(number, buffer)| Some((number, buffer.ripe(now_or_never)?)))
            .collect();
        drop(state);
        for (number, head) in ripe {
            let columns = shape.buffers()[number].columns.len() as u32;
            let block = head.seal(number as u16, columns, Arc::clone(&shape));
            let bytes = block.bytes();
            // Refused if a late sample came meanwhile: the next pass encodes it again.
            let swapped = host.lock().buffers_mut()[number].swap(&head, block);
            if swapped {
                if which == Seal::Ripe {
                    self.laggards.filled(head.first());
                }
                self.counters.blocks_sealed.add(1);
                self.sealed_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            if !swapped && which == Seal::All {
                host.lock().buffers_mut()[number].seal_frozen(&shape);
            }
        }
    }

    /// Appends what is unsaved to block files and syncs them. `imported`: also what other formats hold, whose
    /// files go afterwards.
    pub(super) fn save(&self, imported: bool) -> Saved {
        let mut saved = Saved::default();
        // Without an open segment no position may reach a file; before all is replayed S must not move.
        if self.waiting.phase() != Phase::Ready || !self.log.is_open() {
            return saved;
        }
        if !self.may_save() {
            return saved;
        }
        let mut saver = self.saver();
        self.sealed_bytes.store(0, Ordering::Relaxed);
        let hosts = self.store.all_hosts();
        let mut rest = &hosts[..];
        while !rest.is_empty() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some((host, behind)) = rest.split_first() {
                if bytes >= SAVE_BYTES_MAX {
                    break;
                }
                rest = behind;
                self.jobs.step();
                if host.is_poisoned() {
                    saved.failed += 1;
                    continue;
                }
                if let Some(unsaved) = unsaved_of(host, imported) {
                    bytes += unsaved.blocks.iter().map(|block| block.bytes()).sum::<usize>();
                    batch.push(unsaved);
                }
            }
            let of_batch = self.save_batch(&mut saver, &batch);
            saved.blocks += of_batch.blocks;
            saved.failed += of_batch.failed;
        }
        self.ground.note_saves(saved.failed);
        if imported {
            saved.left = hosts.iter().filter(|host| !self.remove_sources(host)).count() as u64;
        }
        drop(saver);
        self.settle();
        saved
    }

    fn save_batch(&self, saver: &mut store_checkpoint::save::Saver, batch: &[Unsaved]) -> Saved {
        let mut saved = Saved::default();
        if batch.is_empty() {
            return saved;
        }
        let work: Vec<HostWork> = batch.iter().map(work_of).collect();
        let results = saver.save(self.store.catalog(), &work);
        for (unsaved, result) in batch.iter().zip(results) {
            match result {
                Ok(moved) => {
                    let mut state = unsaved.host.lock();
                    for block in &unsaved.blocks {
                        state.buffers_mut()[usize::from(block.header().buffer)].mark_saved(block);
                    }
                    // From here on the file is their memory.
                    for Moved { from, to } in moved {
                        state.buffers_mut()[usize::from(from.header().buffer)].replace(&from, to);
                    }
                    state.floors_mut().mark_saved(&unsaved.floors);
                    drop(state);
                    saved.blocks += unsaved.blocks.len() as u64;
                    let mut on_disk = self.on_disk();
                    let on_disk = on_disk.entry(unsaved.host.number()).or_default();
                    let bytes = unsaved.blocks.iter().map(|block| block.bytes() as u64).sum();
                    on_disk.unrolled.add(unsaved.blocks.len(), bytes, self.clock.now_s());
                }
                Err(e) => {
                    saved.failed += 1;
                    if matches!(&e, SaveError::File(BlockFileError::BadBlock { .. })) {
                        self.mend_blocks(&unsaved.host);
                    }
                    self.save_again_if_gone(&unsaved.host);
                    let what = "host could not be saved: tried again";
                    self.counters.trouble(Grade::Error, what, &self.host_dir(&unsaved.host), &describe(&e));
                }
            }
        }
        self.counters.blocks_saved.add(saved.blocks);
        self.counters.saves_failed.add(saved.failed);
        self.counters.saves.add(1);
        saved
    }

    /// Where the directory of a host was removed under us, its files went with it: all that memory has of them is saved
    /// again.
    fn save_again_if_gone(&self, host: &Host) {
        let found = self.disk.identity(&self.host_dir(host));
        if !found.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return;
        }
        let headers: Vec<_> = {
            let state = host.lock();
            let held = state.buffers().iter().flat_map(|buffer| buffer.blocks());
            held.map(|held| *held.block.header()).collect()
        };
        self.save_again(host, &headers);
    }

    /// Takes damaged columns out of blocks that are to be saved: no try could save them. They are missing from then on, and
    /// what is older does not show in their place.
    pub(super) fn mend_blocks(&self, host: &Host) {
        let mut state = host.lock();
        for buffer in state.buffers_mut() {
            let unsaved = buffer.blocks().iter().filter(|held| held.state != BlockState::Saved);
            let unsaved: Vec<Arc<Block>> = unsaved.map(|held| Arc::clone(&held.block)).collect();
            for block in unsaved {
                let damaged = block.sweep();
                if !damaged.is_empty() {
                    // Those of a file are counted when they are reported.
                    if !block.is_in_file() {
                        self.counters.columns_damaged.add(damaged.len() as u64);
                    }
                    buffer.replace(&block, Arc::new(block.mended()));
                }
            }
        }
        drop(state);
        self.report_damage();
    }

    /// Unlinks segments that hold nothing that memory alone holds besides.
    pub(super) fn retire(&self, force: bool) {
        if self.waiting.phase() != Phase::Ready || self.log.is_degraded() || !self.is_settled() {
            return;
        }
        self.note_time();
        // Read before the first host: what is logged meanwhile lies behind it.
        let end = self.log.end();
        let safe = self.store.all_hosts().iter().map(|host| safe(host)).min().unwrap_or(Stamp::MAX);
        match self.log.retire(position(safe).min(end), force) {
            Ok(retired) => self.counters.segments_retired.add(retired.segments),
            Err(e) => tracing::error!(error = %describe(&e), "the log could not be retired"),
        }
    }

    /// Removes files of other formats, and of other histories, once every block of the host is in verified block files:
    /// all at one moment, for files of another history could outrank what was made of them. Returns false if they are
    /// still there: tried again.
    pub(super) fn remove_sources(&self, host: &Host) -> bool {
        let replaced: Vec<(PathBuf, Then)> = {
            let on_disk = self.on_disk();
            let Some(found) = on_disk.get(&host.number()) else { return true };
            found.loaded().chain(found.superseded.iter().cloned()).collect()
        };
        if replaced.is_empty() || host.is_poisoned() {
            return true;
        }
        let Some(by) = self.block_files_that_hold(host, &replaced) else { return true };
        if let Err(e) = supersede(&*self.disk, &self.host_dir(host), &by, &replaced) {
            let what = "converted files could not be removed: tried again";
            self.counters.trouble(Grade::Error, what, &self.host_dir(host), &describe(&e));
            return false;
        }
        if let Some(found) = self.on_disk().get_mut(&host.number()) {
            found.sources.clear();
            found.superseded.clear();
            found.current_wal = None;
        }
        true
    }

    /// The block files of the host's directory, without those that are to be replaced, if every block in memory stands
    /// in one of them with a good checksum, and every floor in one that is synced.
    fn block_files_that_hold(&self, host: &Host, replaced: &[(PathBuf, Then)]) -> Option<Vec<PathBuf>> {
        let state = host.lock();
        if !state.blocks_are_saved() || !state.floors().unsaved().is_empty() {
            return None;
        }
        let held: Vec<_> = state.buffers().iter().flat_map(|buffer| buffer.blocks()).cloned().collect();
        drop(state);
        let wanted: Vec<_> = held.iter().map(|held| *held.block.header()).collect();
        let mut shapes: Vec<_> = held.iter().map(|held| held.block.shape()).collect();
        shapes.sort_unstable_by_key(|shape| shape.hash());
        shapes.dedup_by_key(|shape| shape.hash());
        let dir = self.host_dir(host);
        let files = HostFiles::list(&*self.disk, &dir).ok()?;
        let (mut there, mut holding) = (Vec::new(), Vec::new());
        for file in files.numbered.iter().filter(|file| !file.json) {
            let path = dir.join(&file.name);
            if replaced.iter().any(|(other, _)| *other == path) {
                continue;
            }
            let Ok(opened) = Opened::read(&*self.disk, &path, &self.damage_notes) else { continue };
            if !opened.index.header_good || !opened.index.is_of(&dir, self.lineage) {
                continue;
            }
            for found in &opened.index.blocks {
                let block = shapes
                    .iter()
                    .find(|shape| shape.hash() == found.header.shape)
                    .and_then(|shape| found.block(Arc::clone(shape), Arc::clone(&opened.pages)).ok());
                there.extend(block.filter(|block| block.sweep().is_empty()).map(|block| *block.header()));
            }
            holding.push(path);
        }
        wanted.iter().all(|header| there.contains(header)).then_some(holding)
    }
}

/// From where on the log is needed for a host: all of it, if nobody has read yet what the log holds of the host, or if a
/// panic left the host half-changed: it may lack rows that only the log holds.
pub(super) fn safe(host: &Host) -> Stamp {
    if host.is_poisoned() {
        return Stamp::ZERO;
    }
    let state = host.lock();
    if state.is_loading() { Stamp::ZERO } else { state.safe() }
}

fn unsaved_of(host: &Arc<Host>, imported: bool) -> Option<Unsaved> {
    let state = host.lock();
    let wanted = |state: BlockState| match state {
        BlockState::Saved => false,
        BlockState::Unsaved { .. } => true,
        BlockState::Imported => imported,
    };
    let blocks: Vec<_> = state
        .buffers()
        .iter()
        .flat_map(|buffer| buffer.blocks())
        .filter(|held| wanted(held.state))
        .map(|held| Arc::clone(&held.block))
        .collect();
    let floors = state.floors().unsaved();
    (!blocks.is_empty() || !floors.is_empty()).then(|| Unsaved { host: Arc::clone(host), blocks, floors })
}

fn work_of(unsaved: &Unsaved) -> HostWork {
    let state = unsaved.host.lock();
    let frames_of = |floors: Vec<(u32, Timestamp)>| {
        let shape = Arc::clone(state.shape());
        if floors.is_empty() { Vec::new() } else { vec![FloorsFrame { shape, floors }] }
    };
    let floors = frames_of(unsaved.floors.iter().map(|floor| (floor.column, floor.before)).collect());
    let all_floors = frames_of(state.floors().iter().map(|floor| (floor.column, floor.before)).collect());
    drop(state);
    HostWork {
        cluster: unsaved.host.cluster().into(),
        host: unsaved.host.name().into(),
        blocks: unsaved.blocks.clone(),
        floors,
        all_floors,
    }
}

#[cfg(test)]
mod tests {
    use store_core::host::HostState;
    use store_core::shape::Shape;
    use store_disk::{ManualClock, SimDisk};

    use super::*;
    use crate::config::Config;
    use crate::engine::{EngineOptions, ReadRequest};

    const NOW: i64 = 1_700_000_000;
    const ROWS: i64 = 60;

    fn start(disk: &SimDisk, options: &EngineOptions) -> Engine {
        let (disk, clock) = (Arc::new(disk.clone()), Arc::new(ManualClock::at(NOW)));
        let engine = Engine::open_with(options.clone(), disk, clock).unwrap();
        engine.load_all();
        engine
    }

    fn samples(engine: &Engine, host: &str, metric: &str) -> usize {
        let request = ReadRequest {
            cluster: "c",
            host,
            metric,
            path: Vec::new().into(),
            from: NOW - 50_000,
            to: NOW + 50_000,
            resolution_s: 0,
            points_max: 1_000_000,
            cells_max: u64::MAX,
        };
        let series = engine.read(&request).unwrap();
        series.map_or(0, |series| series.values.iter().filter(|value| !value.is_nan()).count())
    }

    #[test]
    fn a_host_that_a_panic_left_half_changed_is_not_saved_and_keeps_the_log() {
        let disk = SimDisk::new();
        let options = EngineOptions {
            directory: "/var/store".into(),
            log_segment_bytes: 700,
            num_workers: 1,
            ..Config::embedded(60).engine_options()
        };
        let (metric, step) = (options.metrics[0].name.as_str(), i64::from(options.metrics[0].frequency_s));
        let engine = start(&disk, &options);
        for (host, at) in ["h", "i"].into_iter().flat_map(|host| (0..ROWS).map(move |at| (host, at))) {
            let line =
                format!("{metric},cluster=c,hostname={host} value={at} {}\n", NOW - (ROWS - at) * step);
            assert_eq!(engine.write(line.as_bytes(), None).good, 1);
        }
        let host = engine.store.host("c", "h").unwrap();
        let empty = HostState::new(engine.store.intern(Shape::empty(engine.store.catalog())));
        let panicked = std::thread::scope(|scope| {
            let half_change = || {
                host.lock().adopt(empty);
                let _state = host.lock();
                panic!("in the midst of it");
            };
            scope.spawn(half_change).join()
        });
        assert!(panicked.is_err() && host.is_poisoned() && samples(&engine, "h", metric) == 0);
        engine.checkpoint();
        engine.sweep();
        assert_eq!(engine.stop().problems.len(), 1, "that it could not be saved is said");
        drop(engine);
        let engine = start(&disk, &options);
        for host in ["h", "i"] {
            assert_eq!(samples(&engine, host, metric), ROWS as usize, "{host}");
        }
    }
}
