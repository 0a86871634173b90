//! Rolling: the short blocks of a host's files become long ones, and its files few.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_checkpoint::blockfile;
use store_checkpoint::files::HostFiles;
use store_checkpoint::roll::{self, RollError, Rolled};
use store_core::Timestamp;
use store_core::block::{Block, BlockHeader, BlockState};
use store_core::host::Host;
use store_core::shape::Shape;

use super::Engine;
use super::on_disk::OnDisk;
use super::open::{describe, front_of};
use super::problems::Grade;
use super::scribe::stamp;

/// Blocks of one buffer in files that were not rolled yet, from which a roll is worth its while: four blocks of
/// 256 rows come out.
const ROLL_BLOCKS: usize = 16;

/// Block files of one host that were not rolled yet, from which a roll is worth its while.
const ROLL_FILES: usize = 4;

/// A rolled file takes more in until its rows are this part of the retention. Together with the part that is older than
/// it, and the file that is appended to, these are five files of a host, whatever its frequency.
const SPANS: i64 = 3;

/// A file that is rolled again is at most so many times as long as what it takes in: so often a byte is written anew
/// on its way to a long file, whatever the frequency.
const REWRITTEN_MAX: u64 = 8;

/// Bytes of rolled files that one sweep makes; the hosts that come behind have to wait for the next one. Seals and
/// saves wait meanwhile.
pub(super) const ROLL_BYTES_MAX: u64 = 64 << 20;

/// What is not rolled after this part of the retention is rolled however little it is.
const AGES: i64 = 4;

/// What of a host was not rolled yet.
#[derive(Debug, Default)]
pub(super) struct Unrolled {
    blocks: usize,
    bytes: u64,
    files: usize,
    /// When this process came to know of the first of it, by the clock.
    since: Option<Timestamp>,
}

impl Unrolled {
    /// Notes blocks that were appended to a file.
    pub(super) fn add(&mut self, blocks: usize, bytes: u64, now: Timestamp) {
        self.blocks += blocks;
        self.bytes += bytes;
        self.since.get_or_insert(now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks == 0 && self.files == 0
    }

    /// Notes a file that was found.
    pub(super) fn add_file(&mut self, blocks: usize, bytes: u64, now: Timestamp) {
        self.files += 1;
        self.add(blocks, bytes, now);
    }
}

impl Engine {
    pub(super) fn is_worth_a_roll(&self, host: &Host) -> bool {
        let buffers = host.lock().buffers().len().max(1);
        let (now, long_s) = (self.clock.now_s(), self.horizon.part_s(AGES));
        let on_disk = self.on_disk();
        on_disk.get(&host.number()).is_some_and(|on_disk| {
            let unrolled = &on_disk.unrolled;
            let many = unrolled.blocks >= ROLL_BLOCKS * buffers;
            many && unrolled.bytes * REWRITTEN_MAX >= on_disk.rolled_bytes
                || unrolled.files >= ROLL_FILES
                || unrolled.since.is_some_and(|since| !(0..long_s).contains(&now.saturating_sub(since)))
        })
    }

    /// Merges the block files of a host now, whether or not it is worth it.
    pub fn roll(&self, cluster: &str, host: &str) {
        if let Some(host) = self.store.host(cluster, host) {
            self.roll_host(&host);
        }
    }

    /// Merges block files of a host. Only while everything of it is saved. Returns the bytes that were written.
    pub(super) fn roll_host(&self, host: &Host) -> u64 {
        let mut saver = self.saver();
        let is_replaced =
            |on_disk: &OnDisk| on_disk.loaded().next().is_some() || !on_disk.superseded.is_empty();
        if self.on_disk().get(&host.number()).is_some_and(is_replaced) {
            // Which files count is decided first.
            return 0;
        }
        if host.is_poisoned() {
            return 0;
        }
        let (shape, floors) = {
            let state = host.lock();
            let all_saved = state.floors().unsaved().is_empty() && state.blocks_are_saved();
            let goes = self.on_disk().get(&host.number()).is_some_and(|on_disk| !on_disk.sources.is_empty());
            if state.is_loading() || !all_saved || goes {
                return 0;
            }
            let floors: Vec<_> = state.floors().iter().map(|floor| (floor.column, floor.before)).collect();
            (Arc::clone(state.shape()), floors)
        };
        saver.close(host.cluster(), host.name());
        let dir = self.host_dir(host);
        let mut sources = self.sources(&dir);
        let resolve = |hash, bytes: &[u8]| -> Option<Arc<Shape>> {
            if shape.hash() == hash {
                return Some(Arc::clone(&shape));
            }
            let metric = |name: &str, frequency_s| self.store.metric_from_file(name, frequency_s);
            Shape::decode(bytes, metric).ok().map(|shape| self.store.intern(shape))
        };
        let keep_from = self.horizon.keep_from(host.cluster(), host.name());
        let roll_them = |sources: &[PathBuf]| {
            roll::roll(
                &*self.disk,
                &dir,
                sources,
                self.lineage,
                self.store.catalog(),
                &shape,
                &resolve,
                keep_from,
                &floors,
                &self.damage_notes,
            )
        };
        let headers = self.headers_in(&sources);
        let mut rolled = roll_them(&sources);
        while let Err(RollError::Overlaps { path }) = &rolled {
            // A file that was rolled before holds newer slots of the same range: it is rolled again with these.
            if sources.contains(path) {
                break;
            }
            sources.push(path.clone());
            rolled = roll_them(&sources);
        }
        let mut bytes = None;
        match rolled {
            Ok(rolled) => {
                bytes = Some(rolled.bytes);
                self.take_rolled(host, rolled, &headers);
                self.counters.rolls.add(1);
            }
            Err(RollError::Nothing) => {}
            Err(RollError::Damaged { path, offset, what }) => {
                self.counters.rolls_failed.add(1);
                let why = format!("{what:?} at byte {offset}");
                let said = "damaged block file: what can be read is saved again";
                self.counters.trouble(Grade::Error, said, &path, &why);
                self.save_again(host, &self.headers_in(&[&path]));
                self.on_disk().entry(host.number()).or_default().damaged.push(path);
            }
            Err(e) => {
                self.counters.rolls_failed.add(1);
                self.counters.trouble(Grade::Error, "block files could not be rolled", &dir, &describe(&e));
            }
        }
        // Also after an error: the next try comes when more is to be gained.
        if let Some(on_disk) = self.on_disk().get_mut(&host.number()) {
            on_disk.unrolled = Unrolled::default();
            on_disk.rolled_bytes = bytes.unwrap_or(on_disk.rolled_bytes);
        }
        bytes.unwrap_or_default()
    }

    /// Puts rolled blocks in the place of those that they hold. A block that was patched meanwhile stays, and has
    /// the greater `as_of`; one whose frame was torn has no file any more and is saved again.
    fn take_rolled(&self, host: &Host, rolled: Rolled, sources: &[BlockHeader]) {
        for (path, e) in &rolled.left {
            let what = "rolled file could not be removed";
            self.counters.trouble(Grade::Warning, what, path, &e.to_string());
        }
        let keep_from = self.horizon.keep_from(host.cluster(), host.name());
        let mut state = host.lock();
        let mut torn = Vec::new();
        for buffer in state.buffers_mut() {
            buffer
                .retain_blocks(|held| held.state != BlockState::Saved || !rolled.covers(held.block.header()));
            torn.extend(
                buffer
                    .blocks()
                    .iter()
                    .filter(|held| {
                        let header = held.block.header();
                        held.state == BlockState::Saved
                            && sources.contains(header)
                            && header.end() >= keep_from
                    })
                    .map(|held| *held.block.header()),
            );
        }
        for merged in rolled.blocks {
            state.buffers_mut()[usize::from(merged.header().buffer)].insert(merged, BlockState::Saved);
        }
        drop(state);
        self.save_again(host, &torn);
    }

    /// Marks saved blocks as unsaved: their file goes, or is not to be trusted.
    pub(super) fn save_again(&self, host: &Host, headers: &[BlockHeader]) {
        let first = stamp(self.log.start());
        let mut state = host.lock();
        for buffer in state.buffers_mut() {
            let again: Vec<Arc<Block>> = buffer
                .blocks()
                .iter()
                .filter(|held| held.state == BlockState::Saved && headers.contains(held.block.header()))
                .map(|held| Arc::clone(&held.block))
                .collect();
            for block in again {
                buffer.mark_unsaved(&block, first);
                // The good columns go on without those that are damaged.
                if !block.sweep().is_empty() {
                    buffer.replace(&block, Arc::new(block.mended()));
                }
            }
        }
    }

    /// The blocks of files, as their headers say.
    fn headers_in(&self, paths: &[impl AsRef<Path>]) -> Vec<BlockHeader> {
        let files = paths.iter().filter_map(|path| self.disk.open(path.as_ref()).ok());
        let indices = files.map(|file| blockfile::index(&*file));
        indices.flat_map(|index| index.blocks).map(|found| found.header).collect()
    }

    /// Sets damaged block files aside once everything that could be read of them is saved elsewhere.
    pub(super) fn set_damaged_aside(&self, host: &Host) {
        let damaged = self.on_disk().get(&host.number()).map(|on_disk| on_disk.damaged.clone());
        let damaged = damaged.unwrap_or_default();
        if damaged.is_empty() || host.is_poisoned() {
            return;
        }
        let _one_at_a_time = self.saver();
        if host.lock().blocks_are_saved() {
            let left =
                damaged.into_iter().filter(|path| !self.set_aside(path, "damaged block file")).collect();
            if let Some(on_disk) = self.on_disk().get_mut(&host.number()) {
                on_disk.damaged = left;
            }
        }
    }

    /// The files that a roll merges: those that were not rolled, and the newest that was if it is not long yet.
    fn sources(&self, dir: &Path) -> Vec<PathBuf> {
        let files = HostFiles::list(&*self.disk, dir).map(|files| files.numbered).unwrap_or_default();
        let mut sources = Vec::new();
        let mut newest: Option<(i64, Timestamp, PathBuf)> = None;
        for file in files.iter().filter(|file| !file.json) {
            let path = dir.join(&file.name);
            let Ok(front) = self.disk.read_front(&path, blockfile::HEADER_BYTES) else { continue };
            let index = front_of(&front);
            // What is of another store or release, or was written under another name, is none of ours to merge.
            let is_known =
                |path| self.disk.open(path).is_ok_and(|file| !blockfile::index(&*file).has_unknown_kinds());
            let ours = index.lineage.is_none_or(|lineage| lineage == self.lineage)
                && index.other_release.is_none()
                && index.is_of(dir, self.lineage);
            if !blockfile::is_block_file(&front) || !ours || !is_known(&path) {
                continue;
            }
            if !index.rolled {
                sources.push(path);
            } else if let Some((seconds, to)) = self.span(&path)
                && newest.as_ref().is_none_or(|(_, known, _)| to > *known)
            {
                newest = Some((seconds, to, path));
            }
        }
        if !sources.is_empty() {
            let is_short = |seconds: i64| seconds < self.horizon.part_s(SPANS);
            sources.extend(newest.filter(|(seconds, ..)| is_short(*seconds)).map(|(.., path)| path));
        }
        sources
    }

    /// The seconds that the rows of a block file are of, and the time behind the last one. Not from the first one to
    /// there: a late sample would make each file long in which it lies.
    fn span(&self, path: &Path) -> Option<(i64, Timestamp)> {
        let headers = self.headers_in(&[path]);
        let mut seconds: HashMap<u16, i64> = HashMap::new();
        for header in &headers {
            *seconds.entry(header.buffer).or_default() += header.end() - header.base;
        }
        Some((seconds.into_values().max()?, headers.iter().map(BlockHeader::end).max()?))
    }
}
