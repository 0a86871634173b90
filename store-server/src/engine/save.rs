//! Sealing heads, saving blocks into block files, and retiring the log behind them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use store_checkpoint::blockfile::{self, BlockFileError, FloorsFrame, Moved};
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
use super::open::describe;
use super::problems::Grade;
use super::scribe::position;
use super::waiting::Phase;
use store_wal::Until;

/// Bytes of blocks that one call of the saver is given at most.
const SAVE_BYTES_MAX: usize = 256 << 20;

/// Which heads are sealed before their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// None: those that are full and had their grace.
    Ripe,
    /// Those begun before this time too.
    BegunBefore(Timestamp),
    /// Those that need the log before this stamp too.
    NeededBefore(Stamp),
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
        let mut state = host.lock();
        if state.is_loading() {
            return;
        }
        let shape = Arc::clone(state.shape());
        for buffer in state.buffers_mut() {
            let early = buffer.heads().any(|head| match which {
                Seal::Ripe => false,
                Seal::BegunBefore(time) => head.begun() <= time,
                Seal::NeededBefore(stamp) => head.first() < stamp,
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
        // No position may be in a file before the log knows that it was given out. If that fails the log says so itself.
        self.log.flush(Until::Written).ok();
        if !self.restamp_lost() {
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
                        self.drop_bad_blocks(&unsaved.host);
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

    /// Drops blocks that do not hold what was written in the file that they come from: no try could save them.
    fn drop_bad_blocks(&self, host: &Host) {
        let mut state = host.lock();
        let bad: usize = state
            .buffers_mut()
            .iter_mut()
            .map(|buffer| buffer.retain_blocks(|held| held.block.check()))
            .sum();
        drop(state);
        self.counters.blocks_damaged.add(bad as u64);
        self.counters.problem("block fails its checksum: lost", &self.host_dir(host));
    }

    /// Unlinks segments that hold nothing that memory alone holds besides.
    pub(super) fn retire(&self, force: bool) {
        if self.waiting.phase() != Phase::Ready || self.log.is_degraded() || !self.is_settled() {
            return;
        }
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
        if replaced.is_empty() {
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
        let wanted: Vec<_> = state
            .buffers()
            .iter()
            .flat_map(|buffer| buffer.blocks())
            .map(|held| *held.block.header())
            .collect();
        drop(state);
        let dir = self.host_dir(host);
        let files = HostFiles::list(&*self.disk, &dir).ok()?;
        let (mut there, mut holding) = (Vec::new(), Vec::new());
        for file in files.numbered.iter().filter(|file| !file.json) {
            let path = dir.join(&file.name);
            let is_replaced = replaced.iter().any(|(other, _)| *other == path);
            if let Some(bytes) = self.disk.map(&path).ok().filter(|_| !is_replaced) {
                let index = blockfile::index(&bytes);
                if index.header_good && index.is_of(&dir, self.lineage) {
                    there.extend(index.blocks.iter().filter(|found| found.check()).map(|found| found.header));
                    holding.push(path);
                }
            }
        }
        wanted.iter().all(|header| there.contains(header)).then_some(holding)
    }
}

/// From where on the log is needed for a host: all of it, if nobody has read yet what the log holds of the host.
pub(super) fn safe(host: &Host) -> Stamp {
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
    let floors = if unsaved.floors.is_empty() {
        Vec::new()
    } else {
        let shape = Arc::clone(unsaved.host.lock().shape());
        let floors = unsaved.floors.iter().map(|floor| (floor.column, floor.before)).collect();
        vec![FloorsFrame { shape, floors }]
    };
    HostWork {
        cluster: unsaved.host.cluster().into(),
        host: unsaved.host.name().into(),
        blocks: unsaved.blocks.clone(),
        floors,
    }
}
