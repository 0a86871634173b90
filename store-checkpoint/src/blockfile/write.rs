//! Writing a block file: [`Encoder`] makes the bytes, [`BlockFile`] puts them on disk.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use store_core::Timestamp;
use store_core::block::{BLOCK_HEADER_BYTES, Block, Parts};
use store_core::metric::Catalog;
use store_core::shape::{Shape, ShapeHash};
use store_disk::{Disk, DiskFile, Lineage, frame};

use super::{
    BlockPages, DamageNotes, FLAG_ROLLED, Header, KIND_BLOCK, KIND_FLOORS, KIND_SHAPE, VERSION, identity,
    seed,
};

/// Names that are tried for a new file before giving up.
pub(crate) const NAMES_MAX: usize = 10_000;

/// Floors of a host that are to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorsFrame {
    /// The shape under which the columns are numbered.
    pub shape: Arc<Shape>,
    /// Columns of the host, and the time below which their samples are hidden.
    pub floors: Vec<(u32, Timestamp)>,
}

/// Why a block file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFileError {
    /// The file could not be created. There may be an empty one.
    #[error("cannot create {path}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said; `AlreadyExists` after ten thousand names.
        source: io::Error,
    },
    /// A block, or the encoding of a shape, is longer than a frame may be. Nothing was written.
    #[error("{bytes} bytes are too many for a frame of {path}")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Length of the payload.
        bytes: usize,
    },
    /// Columns of a block are not what was written. Nothing was written: under a new
    /// checksum the damage would never be noticed again. See [`Block::mended`].
    #[error("the block from {base} on is damaged and is not written to {path}")]
    BadBlock {
        /// The file.
        path: PathBuf,
        /// Time of the block's first row.
        base: Timestamp,
    },
    /// The append failed; part of it may be in the file, which takes nothing more.
    #[error("cannot append to {path}")]
    Append {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The sync failed; what was appended since the last one may be lost, and the file takes nothing more.
    #[error("cannot sync {path}")]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier append or sync of the file failed.
    #[error("{path} is given up after an error")]
    GivenUp {
        /// The file.
        path: PathBuf,
    },
}

/// A block whose body was put into a file: the one that holds it in memory, and the one that has it mapped.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The block as it was.
    pub from: Arc<Block>,
    /// The same block with its body in the file.
    pub to: Arc<Block>,
}

/// What an [`Encoder`] made.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Where each block stands in the file, in the order given.
    pub(crate) places: Vec<Place>,
}

/// Where the body of a block stands in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) identity: u32,
    pub(crate) body_at: u64,
}

/// Makes the bytes of one block file, append by append.
#[derive(Debug)]
pub(crate) struct Encoder {
    header: Header,
    /// Where the next frame stands; 0 before the header is written.
    offset: u64,
    /// Shapes that the file has.
    shapes: HashSet<ShapeHash>,
}

impl Encoder {
    /// For a file in `host_dir`.
    pub(crate) fn new(host_dir: &Path, lineage: Lineage, rolled: bool) -> Self {
        let flags = if rolled { FLAG_ROLLED } else { 0 };
        let header = Header { version: VERSION, flags, lineage, identity: identity(lineage, host_dir) };
        Self { header, offset: 0, shapes: HashSet::new() }
    }

    /// The bytes that come next: the file's header if these are the first, shapes that the file lacks, floors,
    /// blocks, then shapes and floors once more: what stands in one place only one bad page could take, and with a shape
    /// all that is numbered by it.
    ///
    /// # Errors
    /// `TooLong` and `BadBlock`, with `path`; the encoder is as it was then.
    pub(crate) fn encode(
        &mut self,
        path: &Path,
        catalog: &Catalog,
        blocks: &[Arc<Block>],
        floors: &[FloorsFrame],
    ) -> Result<Encoded, BlockFileError> {
        let mut parts: Vec<Parts<'_>> = Vec::with_capacity(blocks.len());
        for block in blocks {
            let damaged = |_| BlockFileError::BadBlock { path: path.to_owned(), base: block.header().base };
            parts.push(block.to_parts(self.header.identity).map_err(damaged)?);
        }
        let mut shapes: Vec<(ShapeHash, Vec<u8>)> = Vec::new();
        for shape in blocks.iter().map(|block| block.shape()).chain(floors.iter().map(|frame| &frame.shape)) {
            let hash = shape.hash();
            if !self.shapes.contains(&hash) && shapes.iter().all(|(other, _)| *other != hash) {
                shapes.push((hash, shape.encode(catalog)));
            }
        }
        let floors: Vec<Vec<u8>> = floors.iter().map(encode_floors).collect();
        let twice = shapes.iter().map(|(_, bytes)| bytes.len()).chain(floors.iter().map(Vec::len));
        let once = blocks.iter().map(|block| block.header().block_bytes());
        let lengths: Vec<usize> = twice.clone().chain(twice).chain(once).collect();
        if let Some(&bytes) = lengths.iter().find(|&&bytes| bytes > frame::PAYLOAD_BYTES_MAX) {
            return Err(BlockFileError::TooLong { path: path.to_owned(), bytes });
        }

        let whole = lengths.iter().map(|bytes| bytes + frame::OVERHEAD_BYTES).sum::<usize>();
        let mut out = Vec::with_capacity(whole + super::HEADER_BYTES);
        if self.offset == 0 {
            out.extend_from_slice(&self.header.encode());
        }
        let (start, identity) = (self.offset, self.header.identity);
        let push = |out: &mut Vec<u8>, kind, payload: &[&[u8]]| {
            let offset = start + out.len() as u64;
            frame::encode_into(out, seed(identity), offset, kind, payload);
        };
        let push_shared = |out: &mut Vec<u8>| {
            shapes.iter().for_each(|(_, bytes)| push(out, KIND_SHAPE, &[bytes]));
            floors.iter().for_each(|bytes| push(out, KIND_FLOORS, &[bytes]));
        };
        push_shared(&mut out);
        let mut places = Vec::with_capacity(blocks.len());
        for Parts { front, body, behind } in &parts {
            let frame_at = start + out.len() as u64;
            push(&mut out, KIND_BLOCK, &[front, body, behind]);
            let body_at = frame_at + (frame::HEADER_BYTES + BLOCK_HEADER_BYTES) as u64;
            places.push(Place { identity, body_at });
        }
        push_shared(&mut out);
        self.shapes.extend(shapes.iter().map(|(hash, _)| *hash));
        self.offset += out.len() as u64;
        Ok(Encoded { bytes: out, places })
    }
}

fn encode_floors(frame: &FloorsFrame) -> Vec<u8> {
    let mut out = Vec::with_capacity(super::FLOORS_HEAD_BYTES + frame.floors.len() * super::FLOOR_BYTES);
    out.extend_from_slice(&frame.shape.hash().0);
    // A count that does not fit belongs to a payload that is too long anyway.
    out.extend_from_slice(&u32::try_from(frame.floors.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (column, before) in &frame.floors {
        out.extend_from_slice(&column.to_le_bytes());
        out.extend_from_slice(&before.to_le_bytes());
    }
    out
}

/// A block file that this process writes from front to back.
///
/// After an error of [`append`](Self::append) or [`sync`](Self::sync) the file takes nothing more: behind a tear
/// nothing would be found reliably, and after a failed sync a later one proves nothing.
#[derive(Debug)]
pub struct BlockFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    encoder: Encoder,
    /// The blocks in the file, as memory holds them, and where they stand.
    placed: Vec<(Weak<Block>, Place)>,
    notes: Arc<DamageNotes>,
    given_up: bool,
}

impl BlockFile {
    /// Creates `<base>.bin` in `host_dir`, or the file of the next number that is free. It is empty until the
    /// first [`append`](Self::append). What is damaged when it is read back goes into `notes`.
    ///
    /// # Errors
    /// [`BlockFileError::Create`].
    pub fn create(
        disk: &dyn Disk,
        host_dir: &Path,
        base: Timestamp,
        lineage: Lineage,
        notes: &Arc<DamageNotes>,
    ) -> Result<Self, BlockFileError> {
        for number in names(base) {
            let path = host_dir.join(format!("{number}.bin"));
            match disk.create(&path) {
                Ok(file) => {
                    let encoder = Encoder::new(host_dir, lineage, false);
                    let notes = Arc::clone(notes);
                    return Ok(Self { path, file, encoder, placed: Vec::new(), notes, given_up: false });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(BlockFileError::Create { path, source }),
            }
        }
        let path = host_dir.join(format!("{base}.bin"));
        Err(BlockFileError::Create { path, source: io::ErrorKind::AlreadyExists.into() })
    }

    /// Appends blocks and floors in one write, with the shapes that the file lacks in front of them. Returns the
    /// bytes written.
    ///
    /// # Errors
    /// `TooLong` and `BadBlock` leave the file as it was, `Append` gives it up, `GivenUp` says that it was.
    pub fn append(
        &mut self,
        catalog: &Catalog,
        blocks: &[Arc<Block>],
        floors: &[FloorsFrame],
    ) -> Result<u64, BlockFileError> {
        self.check_not_given_up()?;
        let Encoded { bytes, places } = self.encoder.encode(&self.path, catalog, blocks, floors)?;
        self.file.append(&bytes).map_err(|source| {
            self.given_up = true;
            BlockFileError::Append { path: self.path.clone(), source }
        })?;
        self.placed.extend(blocks.iter().map(Arc::downgrade).zip(places));
        Ok(bytes.len() as u64)
    }

    /// Makes what was appended durable. Says nothing about the file's name.
    ///
    /// # Errors
    /// `Sync` gives the file up, `GivenUp` says that it was.
    pub fn sync(&mut self) -> Result<(), BlockFileError> {
        self.check_not_given_up()?;
        self.file.sync().map_err(|source| {
            self.given_up = true;
            BlockFileError::Sync { path: self.path.clone(), source }
        })
    }

    /// Maps the file, if the system can, and returns the blocks in it that somebody still holds, with their bodies
    /// mapped: whoever puts these in the place of the others has that memory back, and one map keeps all of them.
    ///
    /// To be called when all that was appended is durable.
    pub fn map_blocks(&mut self) -> Vec<Moved> {
        // Where it cannot be mapped the blocks stay where they are.
        let Ok(Some(view)) = self.file.view() else { return Vec::new() };
        let file_bytes = view.len();
        let pages = BlockPages::shared(view, &self.path, &self.notes);
        let mut moved = Vec::new();
        self.placed.retain_mut(|(block, place)| {
            let Some(from) = block.upgrade() else { return false };
            if place.body_at + from.bytes() as u64 <= file_bytes {
                let to = Arc::new(from.moved_to_file(place.identity, Arc::clone(&pages), place.body_at));
                *block = Arc::downgrade(&to);
                moved.push(Moved { from, to });
            }
            true
        });
        moved
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_not_given_up(&self) -> Result<(), BlockFileError> {
        if self.given_up { Err(BlockFileError::GivenUp { path: self.path.clone() }) } else { Ok(()) }
    }
}

/// The numbers that a file of this base may have in its name.
pub(crate) fn names(base: Timestamp) -> impl Iterator<Item = Timestamp> {
    (base..=Timestamp::MAX).take(NAMES_MAX)
}
