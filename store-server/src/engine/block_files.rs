//! [`Indexed`]: a block file of a host at a start, and what of its blocks counts.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use store_checkpoint::blockfile::{self, Index, Opened};
use store_checkpoint::roll;
use store_checkpoint::superseded::Then;
use store_core::anchors::Anchors;
use store_core::block::{Block, BlockError, BlockState};
use store_core::import::{Import, ImportRun};
use store_core::merge::Table;
use store_core::pages::Pages;
use store_core::shape::{Column, Shape};

use super::load::Loading;
use super::problems::Grade;
use super::scribe::stamp;

/// A block file of the host, indexed.
pub(super) struct Indexed {
    pub(super) path: PathBuf,
    /// What is in it; of the blocks only those that rank among ours by their `as_of`.
    pub(super) index: Index,
    /// The bytes for its blocks.
    pages: Arc<dyn Pages>,
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

    /// A block of it, if its shape is known.
    pub(super) fn block(&self, found: &blockfile::Found, shape: &Arc<Shape>) -> Result<Block, BlockError> {
        found.block(Arc::clone(shape), Arc::clone(&self.pages))
    }
}

impl Loading<'_> {
    pub(super) fn index_block_files(&mut self, paths: &[PathBuf], are_dumps: bool) -> Vec<Indexed> {
        let mut files = Vec::new();
        for path in paths {
            let Opened { index, pages } =
                match Opened::open(&*self.engine.disk, path, &self.engine.damage_notes) {
                    Ok(opened) => opened,
                    Err(e) => {
                        self.cannot_read(path, &e);
                        continue;
                    }
                };
            if index.file_bytes == 0 {
                // Created, and never written to: a kill in its first save. After a stop that cannot be.
                self.engine.counters.foreign_files.add(1);
                if self.tail.is_empty() {
                    let why = "somebody has cut it: what was in it is gone";
                    self.engine.counters.trouble(Grade::Warning, "empty block file", path, why);
                }
                continue;
            }
            if self.is_to_be_left(path, &index) {
                continue;
            }
            let renamed = !index.is_of(&self.engine.host_dir(self.host), self.engine.lineage);
            if renamed && !self.may_be_taken(path, &index) {
                continue;
            }
            let is_empty = index.shapes.is_empty() && index.blocks.is_empty() && index.floors.is_empty();
            if is_empty && !index.header_good {
                self.engine.set_aside(path, "no block file");
                continue;
            }
            for damage in &index.damage {
                self.engine.counters.stretches_damaged.add(1);
                let why = format!("{} bytes at byte {}", damage.bytes, damage.offset);
                self.engine.counters.trouble(Grade::Warning, "damaged in part", path, &why);
            }
            if is_empty {
                self.engine.counters.foreign_files.add(1);
                continue;
            }
            files.push(self.sorted(Indexed {
                path: path.clone(),
                index,
                pages,
                below: Vec::new(),
                floors_below: Vec::new(),
                renamed,
            }));
        }
        self.note_renamed(&files);
        self.rank_renamed(&mut files, are_dumps);
        self.drop_superseded(&mut files);
        files
    }

    /// Unlinks files that a rolled one replaces: a crash came between its rename and their removal.
    fn drop_superseded(&mut self, files: &mut Vec<Indexed>) {
        let dir = self.engine.host_dir(self.host);
        if files.len() < 2 {
            return;
        }
        let ours = || files.iter().filter(|file| !file.is_source());
        // By their headers first: to read all of a rolled file takes long.
        let by_headers = |rolled: &Indexed| {
            let by = ours().filter(|file| roll::supersedes(&rolled.index, &file.index));
            by.map(|file| file.path.clone()).collect::<Vec<_>>()
        };
        let rolled: Vec<(&Indexed, Vec<PathBuf>)> = ours()
            .filter(|file| file.index.rolled)
            .map(|rolled| (rolled, by_headers(rolled)))
            .filter(|(_, superseded)| !superseded.is_empty())
            .collect();
        let mut superseded = Vec::new();
        for (rolled, paths) in rolled {
            if self.is_undamaged(rolled) {
                superseded.extend(paths);
            } else {
                self.contested.push(rolled.path.clone());
            }
        }
        if superseded.is_empty() || self.engine.disk.sync_dir(&dir).is_err() {
            return;
        }
        for path in superseded {
            if self.engine.disk.remove(&path).is_ok() {
                files.retain(|file| file.path != path);
            }
        }
    }

    /// Reads every column of a file's blocks.
    fn is_undamaged(&mut self, file: &Indexed) -> bool {
        for (hash, bytes) in &file.index.shapes {
            self.bytes.insert(*hash, bytes.clone());
        }
        file.index.blocks.iter().all(|found| {
            let shape = self.shape(found.header.shape);
            shape.is_some_and(|shape| file.block(found, &shape).is_ok_and(|block| block.sweep().is_empty()))
        })
    }

    /// Notes a file that stays; `newest` is the end of the newest one that was rolled.
    fn note_stays(&mut self, file: &Indexed, newest: &mut i64) {
        let then = if file.index.is_readable() { Then::Remove } else { Then::SetAside };
        self.on_disk.block_files.push((file.path.clone(), then));
        let (blocks, bytes) = (&file.index.blocks, file.index.file_bytes);
        if !file.index.rolled {
            self.on_disk.unrolled.add_file(blocks.len(), bytes, self.engine.clock.now_s());
        } else if let Some(end) = blocks.iter().map(|found| found.header.end()).max()
            && end > *newest
        {
            (*newest, self.on_disk.rolled_bytes) = (end, bytes);
        }
    }

    pub(super) fn take_blocks(&mut self, files: &[Indexed], oldest: i64, import: &mut Import) {
        let s = stamp(self.engine.log.start());
        let mut found: Vec<Arc<Block>> = Vec::new();
        // What is to be saved again, because its file goes or is damaged.
        let mut again: HashSet<*const Block> = HashSet::new();
        let mut newest = i64::MIN;
        for file in files {
            if file.is_source() {
                // It goes before anything is rolled.
                self.note_source(file);
            } else {
                self.note_stays(file, &mut newest);
            }
            let goes_again = file.is_source() || self.contested.contains(&file.path);
            for entry in &file.index.blocks {
                if entry.header.end() < oldest {
                    continue;
                }
                let Some(shape) = self.shape(entry.header.shape) else {
                    let (what, why) = ("block whose shape is nowhere", format!("at byte {}", entry.offset));
                    self.engine.counters.trouble(Grade::Error, what, &file.path, &why);
                    continue;
                };
                match file.block(entry, &shape) {
                    Ok(block) => {
                        let block = Arc::new(block);
                        if goes_again {
                            again.insert(Arc::as_ptr(&block));
                        }
                        found.push(block);
                    }
                    Err(e) => {
                        let why = format!("at byte {}: {e}", entry.offset);
                        self.engine.counters.trouble(Grade::Error, "block cannot be used", &file.path, &why);
                    }
                }
            }
        }
        self.blocks = self.state.buffers().iter().map(|_| Vec::new()).collect();
        // A block that was made without knowing of another one must not hide by what it lacks.
        let are_parted = files.iter().any(|file| file.renamed && !file.below.is_empty());
        let extends = |block: &Arc<Block>| self.state.shape().extends(block.shape());
        if are_parted || !found.iter().all(extends) || !is_one_history(&found) {
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
            // Where two overlap, the later one wins, also with columns that are damaged.
            for (at, block) in blocks.iter().enumerate() {
                let covered = blocks[at + 1..].iter().any(|newer| covers(newer, block));
                if covered {
                    continue;
                }
                let held = &mut self.state.buffers_mut()[buffer];
                let is_half = block.header().as_of >= s;
                if !is_half && !again.contains(&Arc::as_ptr(block)) {
                    held.insert(Arc::clone(block), BlockState::Saved);
                    continue;
                }
                // The page cache may be all there is of a block that was saved while the power went.
                let state = BlockState::Unsaved { first: s };
                if block.damaged_columns().is_empty() {
                    held.insert(Arc::clone(block), state);
                } else {
                    // Half of a save that was under way: what it lacks is in older blocks, and in the log. Or it was
                    // rolled, and the blocks that it was made of are still there. Or its file goes.
                    self.engine.counters.blocks_damaged.add(u64::from(is_half));
                    held.insert(Arc::new(completed(block, blocks)), state);
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
}

/// A block with damaged columns, which are taken from those of `others` that are no newer. These are in the order of
/// their `as_of`.
fn completed(block: &Arc<Block>, others: &[Arc<Block>]) -> Block {
    let header = block.header();
    let mut table = Table::new(header.grid, header.buffer, header.base, header.rows, header.columns);
    let older = others.iter().filter(|other| !Arc::ptr_eq(other, block));
    older.filter(|other| other.header().as_of <= header.as_of).for_each(|other| table.lay(other));
    table.lay_undamaged(block);
    table.seal(Arc::clone(block.shape()), header.as_of)
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

/// Whether a block holds all slots of another one, as of the same or a later moment: what it has lost is lost, and nothing
/// older shows in its place.
fn covers(newer: &Block, older: &Block) -> bool {
    let (a, b) = (newer.header(), older.header());
    a.grid == b.grid && a.base <= b.base && b.end() <= a.end() && a.as_of >= b.as_of && a.columns >= b.columns
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
