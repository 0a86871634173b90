//! [`Gathered`]: what is in the sources of a roll, verified.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_core::Timestamp;
use store_core::block::{Block, BlockHeader};
use store_core::shape::{Shape, ShapeHash};
use store_core::stamp::Stamp;
use store_disk::frame::Damage;
use store_disk::{Disk, EntryKind, Lineage};

use super::{Resolve, RollError};
use crate::blockfile::{self, BlockFileDamage, DamageNotes, Found, HEADER_BYTES, Opened};
use crate::files::{NameKind, name_kind};

/// Stamps below this one are no log positions: the log's segments are numbered from 1. Here imported blocks and
/// those of other lineages are ranked.
const FIRST_POSITION: u64 = 1 << 32;

/// How a source ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Whole,
    /// In a frame that was cut off: its header is good and says so, or there was no room for one.
    Cut,
    /// In bytes that are no frame: torn, or rot.
    Garbage,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) tail: Tail,
    file: Opened,
}

/// A block of a source.
#[derive(Debug)]
struct Piece {
    /// Stamped so that blocks of another lineage are below ours.
    block: Arc<Block>,
    /// Whether it is of our lineage, and its stamp in the file.
    rank: (bool, Stamp),
}

/// Everything that is in the sources.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) sources: Vec<Source>,
    pieces: Vec<Piece>,
    floors: BTreeMap<u32, Timestamp>,
    /// Whether blocks were left out: see [`Shapes::decode`].
    left_out: bool,
}

impl Gathered {
    /// Reads the sources and verifies every block of them.
    #[expect(clippy::too_many_arguments, reason = "those of the roll")]
    pub(super) fn read(
        disk: &dyn Disk,
        host_dir: &Path,
        paths: &[PathBuf],
        lineage: Lineage,
        shape: &Arc<Shape>,
        resolve: &Resolve<'_>,
        keep_from: Timestamp,
        notes: &Arc<DamageNotes>,
    ) -> Result<Self, RollError> {
        let sources: Vec<Source> =
            paths.iter().map(|path| Source::read(disk, path, notes)).collect::<Result<_, _>>()?;
        if let Some(source) = sources.iter().find(|source| !source.file.index.is_of(host_dir, lineage)) {
            return Err(RollError::Misplaced { path: source.path.clone() });
        }
        let shapes = Shapes { sources: &sources, host: shape, resolve, known: HashMap::new() };
        let (pieces, floors) = shapes.decode(lineage, keep_from)?;
        let left_out = pieces.len() < sources.iter().map(|source| source.blocks().count()).sum();
        Ok(Self { sources, pieces: rank(pieces), floors, left_out })
    }

    /// Whether there is nothing to merge.
    pub(super) fn is_one_rolled(&self) -> bool {
        matches!(&*self.sources, [source] if source.file.index.rolled && source.tail == Tail::Whole)
    }

    /// Drops blocks that end before `keep_from`; returns whether there were any in the sources.
    pub(super) fn drop_before(&mut self, keep_from: Timestamp) -> bool {
        let before = self.pieces.len();
        let (mut kept, mut old): (Vec<Piece>, Vec<Piece>) =
            std::mem::take(&mut self.pieces).into_iter().partition(|piece| piece.header().end() >= keep_from);
        // One that hides samples of another that is kept stays too, or the older ones would come back.
        loop {
            let hides = |piece: &Piece| {
                kept.iter()
                    .any(|under| under.rank < piece.rank && overlap(piece.header(), under.header()).is_some())
            };
            let (hiding, rest): (Vec<Piece>, Vec<Piece>) = old.into_iter().partition(hides);
            old = rest;
            if hiding.is_empty() {
                break;
            }
            kept.extend(hiding);
        }
        self.pieces = kept;
        self.left_out || self.pieces.len() < before
    }

    /// The blocks of a buffer.
    pub(super) fn blocks_of(&self, buffer: u16) -> Vec<Arc<Block>> {
        let of_buffer = self.pieces.iter().filter(|piece| piece.header().buffer == buffer);
        of_buffer.map(|piece| Arc::clone(&piece.block)).collect()
    }

    /// The floors of the sources that hide something that is kept, and those of the host.
    pub(super) fn floors(&self, keep_from: Timestamp, host: &[(u32, Timestamp)]) -> Vec<(u32, Timestamp)> {
        let mut floors = self.floors.clone();
        floors.retain(|_, before| *before > keep_from);
        for &(column, before) in host {
            raise(&mut floors, column, before);
        }
        floors.into_iter().collect()
    }

    /// Refuses if a file that is not rolled now would be hidden where it is newer: a merged block has the stamp
    /// of its newest part, and would hide it with an older one.
    pub(super) fn check_neighbours(
        &self,
        disk: &dyn Disk,
        host_dir: &Path,
        lineage: Lineage,
        merged: &[Arc<Block>],
    ) -> Result<(), RollError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            |source| RollError::Read { path, source }
        };
        for entry in disk.list(host_dir).map_err(read(host_dir))? {
            let path = host_dir.join(&entry.name);
            let is_candidate = entry.kind == EntryKind::File
                && matches!(name_kind(&entry.name), NameKind::Bin(_))
                && self.sources.iter().all(|source| source.path != path);
            if !is_candidate
                || !blockfile::is_block_file(&disk.read_front(&path, HEADER_BYTES).map_err(read(&path))?)
            {
                continue;
            }
            let index = blockfile::index(&*disk.open(&path).map_err(read(&path))?);
            let ours = index.lineage == Some(lineage);
            // What belongs to another host is not shown with this one.
            if index.is_of(host_dir, lineage)
                && index
                    .blocks
                    .iter()
                    .any(|found| self.hides(merged, (ours, found.header.as_of), &found.header))
            {
                return Err(RollError::Overlaps { path });
            }
        }
        Ok(())
    }

    /// Whether a merged block would hide slots of `other` with older ones, or with columns that no source had there.
    fn hides(&self, merged: &[Arc<Block>], rank: (bool, Stamp), other: &BlockHeader) -> bool {
        merged.iter().filter(|block| (true, block.header().as_of) > rank).any(|block| {
            overlap(block.header(), other).is_some_and(|(from, to)| {
                self.pieces.iter().any(|piece| {
                    let header = piece.header();
                    let is_newer = piece.rank >= rank && header.columns >= other.columns;
                    !is_newer && is_same_grid(header, other) && header.base < to && from < header.end()
                })
            })
        })
    }
}

impl Piece {
    fn header(&self) -> &BlockHeader {
        self.block.header()
    }
}

impl Source {
    fn read(disk: &dyn Disk, path: &Path, notes: &Arc<DamageNotes>) -> Result<Self, RollError> {
        let unread = |source| RollError::Read { path: path.to_owned(), source };
        let file = Opened::read(disk, path, notes).map_err(unread)?;
        let index = &file.index;
        let torn = index.torn_tail();
        let tail = match torn.map(|range| range.what) {
            None => Tail::Whole,
            Some(BlockFileDamage::Frame(Damage::CutShort)) => Tail::Cut,
            Some(_) => Tail::Garbage,
        };
        let harmless = |what| matches!(what, BlockFileDamage::HeaderHalf);
        let bad = index.damage.iter().find(|range| !harmless(range.what) && Some(**range) != torn);
        if let Some(bad) = bad {
            return Err(RollError::Damaged { path: path.to_owned(), offset: bad.offset, what: bad.what });
        }
        if let Some(torn) = torn {
            // Read once more: a frame that was misread looks the same, and its block would be lost for good.
            let again = blockfile::index(&*disk.open(path).map_err(unread)?);
            if again.torn_tail() != Some(torn) {
                return Err(RollError::Damaged {
                    path: path.to_owned(),
                    offset: torn.offset,
                    what: torn.what,
                });
            }
        }
        Ok(Self { path: path.to_owned(), tail, file })
    }

    /// Its blocks, but for one that was cut: nothing of it was acknowledged, or memory knows it and saves it again.
    fn blocks(&self) -> impl Iterator<Item = &Found> {
        self.file.index.blocks.iter().filter(|found| !found.is_cut)
    }
}

/// Finds the shapes that the sources were written under.
struct Shapes<'a> {
    sources: &'a [Source],
    host: &'a Arc<Shape>,
    resolve: &'a Resolve<'a>,
    known: HashMap<ShapeHash, Option<Arc<Shape>>>,
}

impl Shapes<'_> {
    /// All blocks and floors of the sources, but for those that end before `keep_from` and are numbered in another way
    /// than the host: it was gone, and its series came back in another order.
    fn decode(
        mut self,
        lineage: Lineage,
        keep_from: Timestamp,
    ) -> Result<(Vec<Piece>, BTreeMap<u32, Timestamp>), RollError> {
        let mut pieces = Vec::new();
        let mut floors = BTreeMap::new();
        for source in self.sources {
            let no_shape = |offset| RollError::Shape { path: source.path.clone(), offset };
            let ours = source.file.index.lineage == Some(lineage);
            for found in source.blocks() {
                let Some(shape) = self.prefix(found.header.shape) else {
                    if found.header.end() < keep_from {
                        continue;
                    }
                    return Err(no_shape(found.offset));
                };
                let block = verified(source, found, shape).map_err(|what| {
                    let (path, offset) = (source.path.clone(), found.offset);
                    RollError::Damaged { path, offset, what }
                })?;
                pieces.push(Piece { block: Arc::new(block), rank: (ours, found.header.as_of) });
            }
            for found in &source.file.index.floors {
                let Some(shape) = self.prefix(found.shape) else {
                    if found.floors.iter().all(|(_, before)| *before <= keep_from) {
                        continue;
                    }
                    return Err(no_shape(found.offset));
                };
                for &(column, before) in &found.floors {
                    if column as usize >= shape.columns().len() {
                        return Err(no_shape(found.offset));
                    }
                    raise(&mut floors, column, before);
                }
            }
        }
        Ok((pieces, floors))
    }

    /// The shape of this hash, if its columns stand at the same places in the host's present one.
    fn prefix(&mut self, hash: ShapeHash) -> Option<Arc<Shape>> {
        let (sources, host, resolve) = (self.sources, self.host, self.resolve);
        let find = || {
            if hash == host.hash() {
                return Some(Arc::clone(host));
            }
            let encoded = sources.iter().find_map(|source| source.file.index.shape(hash));
            resolve(hash, encoded.map_or(&[], |bytes| bytes))
                .filter(|shape| shape.hash() == hash && host.extends(shape))
        };
        self.known.entry(hash).or_insert_with(find).clone()
    }
}

/// The block, if every value of it can be read: merging takes what cannot be for missing.
fn verified(source: &Source, found: &Found, shape: Arc<Shape>) -> Result<Block, BlockFileDamage> {
    let block = found.block(shape, Arc::clone(&source.file.pages)).map_err(BlockFileDamage::Block)?;
    match block.sweep().first() {
        Some(&(column, _)) => Err(BlockFileDamage::Column { column }),
        None => Ok(block),
    }
}

/// Stamps the blocks of other lineages below all of ours, in their order; what of ours has no position moves up
/// to make room.
fn rank(mut pieces: Vec<Piece>) -> Vec<Piece> {
    let mut foreign: Vec<Stamp> =
        pieces.iter().filter(|piece| !piece.rank.0).map(|piece| piece.rank.1).collect();
    if foreign.is_empty() {
        return pieces;
    }
    foreign.sort_unstable();
    foreign.dedup();
    let room = foreign.len() as u64;
    for piece in &mut pieces {
        let stamp = match piece.rank {
            (true, Stamp(stamp)) if stamp >= FIRST_POSITION => continue,
            (true, Stamp(stamp)) => (stamp + room).min(FIRST_POSITION - 1),
            (false, stamp) => foreign.partition_point(|other| *other < stamp) as u64 + 1,
        };
        piece.block = Arc::new(piece.block.restamped(Stamp(stamp)));
    }
    pieces
}

fn raise(floors: &mut BTreeMap<u32, Timestamp>, column: u32, before: Timestamp) {
    let floor = floors.entry(column).or_insert(before);
    *floor = before.max(*floor);
}

fn is_same_grid(a: &BlockHeader, b: &BlockHeader) -> bool {
    (a.buffer, a.grid) == (b.buffer, b.grid)
}

/// The slots that both blocks have: from, and the end.
fn overlap(a: &BlockHeader, b: &BlockHeader) -> Option<(Timestamp, Timestamp)> {
    let (from, to) = (a.base.max(b.base), a.end().min(b.end()));
    (is_same_grid(a, b) && from < to).then_some((from, to))
}
