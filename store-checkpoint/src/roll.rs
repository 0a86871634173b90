//! [`roll`]: the block files of a host become one, with blocks as long as they may be.
//!
//! Sources go only after the new file is synced, has its name durably, and was read back. A crash anywhere before
//! the last of them is gone leaves files that overlap; [`supersedes`] tells a start which of them say nothing more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_core::Timestamp;
use store_core::block::{Block, BlockHeader};
use store_core::merge::merge;
use store_core::metric::Catalog;
use store_core::shape::{Shape, ShapeHash};
use store_disk::{Disk, Lineage, WholeFile};

use crate::blockfile::{
    self, BlockFileDamage, BlockFileError, BlockPages, DamageNotes, Encoded, Encoder, FloorsFrame,
};
use crate::files::{SetAsideError, set_aside};

mod cover;
mod gather;

pub use cover::supersedes;

use gather::{Gathered, Tail};

/// Gives the shape of a content hash and its encoding, as [`Shape::decode`] would. The bytes are empty where no
/// source of a roll has that shape.
pub type Resolve<'a> = dyn Fn(ShapeHash, &[u8]) -> Option<Arc<Shape>> + 'a;

/// Temporary names that are tried before giving up.
const TMP_NAMES_MAX: u32 = 16;

/// What a roll has made.
#[derive(Debug)]
pub struct Rolled {
    /// The new file; `None` if nothing was left to be kept.
    pub path: Option<PathBuf>,
    /// Its blocks, mapped from it and checked, by buffer and then by time.
    pub blocks: Vec<Arc<Block>>,
    /// Its length.
    pub bytes: u64,
    /// Sources that were renamed rather than removed: they end in bytes of which nothing could be made.
    pub set_aside: Vec<PathBuf>,
    /// Sources that could not be removed. The new file supersedes them; the next roll of the host may take them.
    pub left: Vec<(PathBuf, io::Error)>,
}

impl Rolled {
    /// Whether the new file holds every slot of a block of the same host, as of the same stamp or a later one: the
    /// block in memory may be replaced by the merged ones.
    ///
    /// A saved block in memory for which this is false has no file any more, and is to be saved again, unless it
    /// is older than what is kept: its frame was torn.
    pub fn covers(&self, block: &BlockHeader) -> bool {
        let blocks = self.blocks.iter().map(|block| block.header());
        cover::is_covered(block, blocks.filter(|by| by.as_of >= block.as_of && by.columns >= block.columns))
    }
}

/// Why a host was not rolled. The sources are all there; no other file of the host was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollError {
    /// There is nothing to merge and nothing to drop.
    #[error("nothing to roll")]
    Nothing,
    /// A file could not be read, or the directory not be listed.
    #[error("cannot read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A source holds something that is damaged or unknown, other than a torn end. It would be lost for good.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: BlockFileDamage,
    },
    /// A source was written for another host.
    #[error("{path} belongs to another host")]
    Misplaced {
        /// The file.
        path: PathBuf,
    },
    /// What stands at this place was written under a shape that is not known, or is not a prefix of the host's.
    #[error("{path} holds columns at byte {offset} that are not those of the host")]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// A file that is not among the sources holds slots that are newer than those of one source, and would be
    /// older than the merged block: it has to be rolled with them.
    #[error("{path} overlaps the files that were to be rolled")]
    Overlaps {
        /// The file.
        path: PathBuf,
    },
    /// The new file could not be written; it was removed if that was possible.
    #[error("cannot write the rolled file")]
    File(#[from] BlockFileError),
    /// The new file could not be given its name; it was removed if that was possible.
    #[error("cannot rename to {path}")]
    Rename {
        /// The name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new file's name could not be made durable; the file was removed if that was possible.
    #[error("cannot sync the names in {path}")]
    SyncDir {
        /// The host directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new file does not read back as it was written; it was removed if that was possible.
    #[error("{path} does not read back as it was written")]
    Differs {
        /// The file.
        path: PathBuf,
    },
}

/// Merges block files of a host into one, and removes them.
///
/// To be called only while all blocks of the host are saved, and none of the files may still grow.
///
/// * `sources` are files in `host_dir`; blocks of them that are of another lineage than `lineage` rank below all
///   others.
/// * `shape` is the host's present one, under which the merged blocks are written; `resolve` gives those
///   of the sources.
/// * Blocks that end before `keep_from` are left out, unless they hide older samples of one that is kept.
/// * `floors`, the saved ones of the host by column, go into the new file, and so do those of the sources that hide
///   something at or behind `keep_from`.
///
/// * Columns that are found damaged go into `notes`, and so do those of the new file later on.
///
/// What a torn write left at the end of a source was never acknowledged and is not carried over. If it might as
/// well be rot, the source is set aside rather than removed.
///
/// # Errors
/// See [`RollError`]: after any of them all is as it was, but for a file that could not be removed. It may be tried
/// again, though after `Damaged`, `Misplaced` and `Shape` not with better luck.
#[expect(clippy::too_many_arguments, reason = "all different, and given once")]
pub fn roll(
    disk: &dyn Disk,
    host_dir: &Path,
    sources: &[PathBuf],
    lineage: Lineage,
    catalog: &Catalog,
    shape: &Arc<Shape>,
    resolve: &Resolve<'_>,
    keep_from: Timestamp,
    floors: &[(u32, Timestamp)],
    notes: &Arc<DamageNotes>,
) -> Result<Rolled, RollError> {
    let mut gathered = Gathered::read(disk, host_dir, sources, lineage, shape, resolve, keep_from, notes)?;
    let dropped = gathered.drop_before(keep_from);
    if sources.is_empty() || !dropped && gathered.is_one_rolled() {
        return Err(RollError::Nothing);
    }
    let merged = merge_buffers(&gathered, shape);
    gathered.check_neighbours(disk, host_dir, lineage, &merged)?;
    let floors = gathered.floors(keep_from, floors);

    let mut rolled = match name_base(&merged, &floors) {
        None => Rolled { path: None, blocks: Vec::new(), bytes: 0, set_aside: Vec::new(), left: Vec::new() },
        Some(base) => {
            let floors = if floors.is_empty() {
                vec![]
            } else {
                vec![FloorsFrame { shape: Arc::clone(shape), floors }]
            };
            let (path, written) = put(disk, host_dir, base, lineage, catalog, &merged, &floors)?;
            let read = read_back(disk, &path, &written, shape, &merged, notes);
            let blocks = read.inspect_err(|_| remove(disk, &path))?;
            let bytes = written.len() as u64;
            Rolled { path: Some(path), blocks, bytes, set_aside: Vec::new(), left: Vec::new() }
        }
    };
    remove_sources(disk, host_dir, &gathered, &mut rolled);
    Ok(rolled)
}

fn merge_buffers(gathered: &Gathered, shape: &Arc<Shape>) -> Vec<Arc<Block>> {
    let mut merged = Vec::new();
    for (number, buffer) in (0..=u16::MAX).zip(shape.buffers()) {
        let blocks = gathered.blocks_of(number);
        // A shape has fewer than 2^32 columns.
        let columns = u32::try_from(buffer.columns.len()).unwrap_or(u32::MAX);
        merged.extend(merge(&blocks, shape, columns));
    }
    merged
}

/// The time that the new file is named after; `None` if there is nothing to put into one.
fn name_base(merged: &[Arc<Block>], floors: &[(u32, Timestamp)]) -> Option<Timestamp> {
    let blocks = merged.iter().map(|block| block.header().base).min();
    blocks.or(floors.iter().map(|(_, before)| *before).min())
}

/// Writes the new file and gives it its name, durably. Returns the path and what was written.
fn put(
    disk: &dyn Disk,
    host_dir: &Path,
    base: Timestamp,
    lineage: Lineage,
    catalog: &Catalog,
    merged: &[Arc<Block>],
    floors: &[FloorsFrame],
) -> Result<(PathBuf, Vec<u8>), RollError> {
    let (tmp, mut file) = create_tmp(disk, host_dir, base)?;
    // Sync before the rename: the name may reach the disk before the bytes do. After an error there is no second
    // try on this file, and no rename.
    let written = Encoder::new(host_dir, lineage, true).encode(&tmp, catalog, merged, floors).and_then(
        |Encoded { bytes, .. }| {
            file.append(&bytes).map_err(|source| BlockFileError::Append { path: tmp.clone(), source })?;
            file.sync().map_err(|source| BlockFileError::Sync { path: tmp.clone(), source })?;
            Ok(bytes)
        },
    );
    drop(file);
    let bytes = written.inspect_err(|_| remove(disk, &tmp))?;
    let path = rename(disk, &tmp, host_dir, base).inspect_err(|_| remove(disk, &tmp))?;
    // Before any source goes: its unlink may reach the disk before the rename does.
    if let Err(source) = disk.sync_dir(host_dir) {
        remove(disk, &path);
        return Err(RollError::SyncDir { path: host_dir.to_owned(), source });
    }
    Ok((path, bytes))
}

fn create_tmp(
    disk: &dyn Disk,
    host_dir: &Path,
    base: Timestamp,
) -> Result<(PathBuf, Box<dyn store_disk::DiskFile>), BlockFileError> {
    let mut number = 0;
    loop {
        // A file that somebody left is not overwritten; whether it may go is for the start to say.
        let tmp = host_dir.join(match number {
            0 => format!("{base}.bin.tmp"),
            _ => format!("{base}.bin.{number}.tmp"),
        });
        match disk.create(&tmp) {
            Ok(file) => return Ok((tmp, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number + 1 < TMP_NAMES_MAX => number += 1,
            Err(source) => return Err(BlockFileError::Create { path: tmp, source }),
        }
    }
}

/// Renames to `<base>.bin`, or the next number that is free; the sources still have theirs.
fn rename(disk: &dyn Disk, tmp: &Path, host_dir: &Path, base: Timestamp) -> Result<PathBuf, RollError> {
    for number in blockfile::names(base) {
        let path = host_dir.join(format!("{number}.bin"));
        match disk.rename(tmp, &path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(RollError::Rename { path, source }),
        }
    }
    let path = host_dir.join(format!("{base}.bin"));
    Err(RollError::Rename { path, source: io::ErrorKind::AlreadyExists.into() })
}

/// The blocks of the new file, mapped from it, if it holds what was written and nothing else.
fn read_back(
    disk: &dyn Disk,
    path: &Path,
    written: &[u8],
    shape: &Arc<Shape>,
    merged: &[Arc<Block>],
    notes: &Arc<DamageNotes>,
) -> Result<Vec<Arc<Block>>, RollError> {
    let unread = |source| RollError::Read { path: path.to_owned(), source };
    let differs = || RollError::Differs { path: path.to_owned() };
    // Compared as it is read, and mapped for good afterwards: a page of a map that nobody looked at takes no memory.
    let file = disk.open(path).map_err(unread)?;
    let bytes = file.read_at(0..file.len()).map_err(unread)?.into_owned();
    if bytes != written {
        return Err(differs());
    }
    // Both: the bytes to catch the disk, what they say to catch ourselves.
    let whole = WholeFile::read(bytes.into());
    let index = blockfile::index(&whole);
    if !index.rolled || !index.damage.is_empty() || index.blocks.len() != merged.len() {
        return Err(differs());
    }
    let view = file.view().map_err(unread)?;
    let read = BlockPages::shared(Arc::new(whole), path, notes);
    let kept = view.map_or_else(|| Arc::clone(&read), |view| BlockPages::shared(view, path, notes));
    let blocks = index.blocks.iter().zip(merged).map(|(found, block)| {
        let back = found.block(Arc::clone(shape), Arc::clone(&read)).ok()?;
        (back.header() == block.header() && back.damaged_columns().is_empty())
            .then(|| Arc::new(back.moved_to_file(found.identity, Arc::clone(&kept), found.body_at)))
    });
    blocks.collect::<Option<_>>().ok_or_else(differs)
}

/// Clears up after an error. That it fails is no further news: a start can tell what the file is.
fn remove(disk: &dyn Disk, path: &Path) {
    disk.remove(path).ok();
}

fn remove_sources(disk: &dyn Disk, host_dir: &Path, gathered: &Gathered, rolled: &mut Rolled) {
    for source in &gathered.sources {
        let path = source.path.clone();
        if source.tail == Tail::Garbage {
            match set_aside(disk, &path) {
                Ok(aside) | Err(SetAsideError::Sync { path: aside, .. }) => rolled.set_aside.push(aside),
                Err(SetAsideError::Rename { source, .. }) => rolled.left.push((path, source)),
            }
        } else if let Err(error) = disk.remove(&path) {
            rolled.left.push((path, error));
        }
    }
    // If this fails they may come back, and a start finds that the new file supersedes them.
    disk.sync_dir(host_dir).ok();
}
