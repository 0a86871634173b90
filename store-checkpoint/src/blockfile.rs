//! Block files, version 3: [`BlockFile`] writes one from front to back, [`index()`] finds what is in one.
//!
//! The layout stands in [`mod@crate::format`]. A file that was cut, torn or flipped anywhere gives up every block that
//! is still whole: its header stands twice, and with both copies lost the frames tell themselves under which
//! seed they were written.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use store_core::Timestamp;
use store_core::block::{Block, BlockError, BlockHeader};
use store_core::pages::Pages;
use store_core::shape::{Shape, ShapeHash};
use store_core::wire::Cursor;
use store_disk::Lineage;
use store_disk::frame;

use crate::format::bin1;

mod identity;
mod index;
mod pages;
mod write;

pub use index::index;
pub(crate) use pages::BlockPages;
pub use pages::{DamageNote, DamageNotes, Opened};
pub use write::{BlockFile, BlockFileError, FloorsFrame, Moved};
pub(crate) use write::{Encoded, Encoder, names};

/// First bytes of each half of the header: `CCBF`.
pub const MAGIC: [u8; 4] = *b"CCBF";

/// The version that this crate writes, and the only one it reads.
pub const VERSION: u16 = 3;

/// Length of one half of the header; the second half is a copy of the first.
pub const HALF_BYTES: usize = 32;

/// Length of the header. The first frame follows it.
pub const HEADER_BYTES: usize = 64;

/// Flag in the header: the file was made by a [`roll`](crate::roll::roll), and may supersede others.
pub const FLAG_ROLLED: u16 = 1;

/// Kind of a frame that holds an encoded shape.
pub const KIND_SHAPE: u8 = 1;

/// Kind of a frame that holds a block.
pub const KIND_BLOCK: u8 = 2;

/// Kind of a frame that holds floors.
pub const KIND_FLOORS: u8 = 3;

/// The upper half of the seed of every frame: `CCBF` read little endian. The lower half is the identity in the
/// header.
pub const SEED_HIGH: u32 = u32::from_le_bytes(MAGIC);

/// Bytes of a floors frame before its floors: shape hash and count.
pub const FLOORS_HEAD_BYTES: usize = 20;

/// Bytes of one floor: column and time.
pub const FLOOR_BYTES: usize = 12;

const _: () = assert!(HEADER_BYTES == 2 * HALF_BYTES);

/// Tells the host that a file belongs to from every other, by its lineage and the names of its two directories.
pub fn identity(lineage: Lineage, host_dir: &Path) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&lineage.0);
    let cluster = host_dir.parent().and_then(Path::file_name);
    for name in [cluster, host_dir.file_name()] {
        hasher.update(b"/");
        hasher.update(name.unwrap_or_default().as_encoded_bytes());
    }
    hasher.finalize()
}

/// The seed of all frames of a file with this identity.
fn seed(identity: u32) -> u64 {
    u64::from(SEED_HIGH) << 32 | u64::from(identity)
}

/// What the header of a block file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    version: u16,
    flags: u16,
    lineage: Lineage,
    identity: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut half = Vec::with_capacity(HALF_BYTES);
        half.extend_from_slice(&MAGIC);
        half.extend_from_slice(&self.version.to_le_bytes());
        half.extend_from_slice(&self.flags.to_le_bytes());
        half.extend_from_slice(&self.lineage.0);
        half.extend_from_slice(&self.identity.to_le_bytes());
        half.extend_from_slice(&crc32fast::hash(&half).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        let (first, second) = header.split_at_mut(HALF_BYTES);
        first.copy_from_slice(&half);
        second.copy_from_slice(&half);
        header
    }

    /// What either half of the header says; `None` for one that is not whole.
    fn halves(bytes: &[u8]) -> [Option<Self>; 2] {
        let mut halves = bytes.chunks_exact(HALF_BYTES).map(Self::decode_half);
        [halves.next().flatten(), halves.next().flatten()]
    }

    fn decode_half(half: &[u8]) -> Option<Self> {
        let (covered, crc) = half.split_last_chunk::<4>()?;
        let mut cursor = Cursor::new(covered);
        let header = cursor.array().filter(|magic: &[u8; 4]| *magic == MAGIC).and_then(|_| {
            Some(Self {
                version: cursor.u16()?,
                flags: cursor.u16()?,
                lineage: Lineage(cursor.array()?),
                identity: cursor.u32()?,
            })
        })?;
        (u32::from_le_bytes(*crc) == crc32fast::hash(covered)).then_some(header)
    }

    /// Whether another release wrote the file, an earlier or a later one: what follows is not ours to read.
    fn is_other(&self) -> bool {
        self.version != VERSION || self.flags & !FLAG_ROLLED != 0
    }
}

/// Whether a `.bin` file that begins with `front`, of which [`HEADER_BYTES`] are enough, says that it is a block
/// file rather than one of version 1.
///
/// A block file whose header is lost does not say so, and yet [`index`] may find frames in it.
pub fn is_block_file(front: &[u8]) -> bool {
    // Version 1 first: a name in it, which anybody may choose, can look like the second half of our header.
    !front.starts_with(&bin1::MAGIC.to_le_bytes())
        && (front.starts_with(&MAGIC) || Header::halves(front).iter().any(Option::is_some))
}

/// What is in a block file, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Length of the file.
    pub file_bytes: u64,
    /// Whose history the file belongs to; `None` if its header is lost.
    pub lineage: Option<Lineage>,
    /// The release that wrote the file, if this one does not read what it writes: nothing but the header was looked at.
    pub other_release: Option<OtherRelease>,
    /// Whether the file says that it was made by a roll.
    pub rolled: bool,
    /// Whether one half of the header at least is whole.
    pub header_good: bool,
    /// Shapes, as [`Shape::encode`] wrote them; their bytes are what was written.
    pub shapes: Vec<(ShapeHash, Bytes)>,
    /// Blocks; only their headers were looked at.
    pub blocks: Vec<Found>,
    /// Floors; their bytes are what was written.
    pub floors: Vec<FoundFloors>,
    /// Everything else.
    pub damage: Vec<DamagedRange>,
    /// Whose file it is: what the header, or without one the frames, were written under.
    identity: Option<u32>,
}

/// What tells that another release wrote a file: it is to be left as it is, whoever's it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherRelease {
    /// Version in the header.
    pub version: u16,
    /// Flags in the header.
    pub flags: u16,
}

/// A block of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The block's header, whose checksum is good.
    pub header: BlockHeader,
    /// The identity of the file that it was found in.
    pub identity: u32,
    /// Offset of the block's frame in the file.
    pub offset: u64,
    /// Where the block's body stands in the file.
    pub body_at: u64,
    /// Whether the file ends inside of the block: a write that did not end, or a file that was cut later.
    pub is_cut: bool,
}

/// Floors of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFloors {
    /// The shape under which the columns were numbered.
    pub shape: ShapeHash,
    /// Columns of the host, and the time below which their samples are hidden.
    pub floors: Vec<(u32, Timestamp)>,
    /// Offset of the frame in the file.
    pub offset: u64,
}

/// A stretch of a file of which nothing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedRange {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// What is wrong with it.
    pub what: BlockFileDamage,
}

/// What is wrong with a stretch of a block file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockFileDamage {
    /// One half of the header, the other is whole: nothing is lost.
    HeaderHalf,
    /// Both halves of the header: lineage and flags are lost, frames need not be.
    Header,
    /// The file was written by another release, which writes this version or flag; nothing of it was read.
    Newer {
        /// Version in the header.
        version: u16,
        /// Flags in the header.
        flags: u16,
    },
    /// The frame is damaged, or none is there.
    Frame(frame::Damage),
    /// The header of the block is damaged, or was written by a newer release.
    Block(BlockError),
    /// The checksum is good and the fields of the frame contradict each other.
    Fields,
    /// A column of the block is not what was written.
    Column {
        /// Number of the column in its buffer.
        column: u32,
    },
    /// A kind of frame that this release does not know.
    UnknownKind(u8),
}

impl fmt::Display for BlockFileDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderHalf => f.write_str("one half of the file header is damaged"),
            Self::Header => f.write_str("the file header is damaged"),
            Self::Newer { version, flags } => {
                write!(f, "written by another release: version {version}, flags {flags:#x}")
            }
            Self::Frame(damage) => damage.fmt(f),
            Self::Block(error) => error.fmt(f),
            Self::Fields => f.write_str("fields of the frame contradict each other"),
            Self::Column { column } => {
                write!(f, "column {column} of the block is not what was written")
            }
            Self::UnknownKind(kind) => write!(f, "unknown kind of frame: {kind}"),
        }
    }
}

impl Found {
    /// The block, with its columns in `pages`, the bytes of its file; nothing of them is read now.
    ///
    /// # Errors
    /// If `shape` is not the one under which the block was written.
    pub fn block(&self, shape: Arc<Shape>, pages: Arc<dyn Pages>) -> Result<Block, BlockError> {
        Block::in_file(self.header, self.identity, pages, self.body_at, shape)
    }
}

impl Index {
    /// Whether the file was written for the host of this directory: by the names of its last two levels, cluster
    /// and host. One that was not was renamed with its directory, or misplaced, or it is what a crash left where a new
    /// file was not written yet.
    ///
    /// Without a header the lineage is not known, and has to be said: `lineage` is that of the store.
    pub fn is_of(&self, host_dir: &Path, lineage: Lineage) -> bool {
        let expected = identity(self.lineage.unwrap_or(lineage), host_dir);
        self.identity.is_none_or(|identity| identity == expected)
    }

    /// For which host the file was written, as far as anything in it tells: see [`identity()`].
    pub fn identity(&self) -> Option<u32> {
        self.identity
    }

    /// Whether everything in the file was written for one host, whichever, by one that came to its end: the header is
    /// whole, and so are all frames as far as their headers tell.
    pub fn is_whole(&self) -> bool {
        self.header_good && self.damage.is_empty() && self.identity.is_some()
    }

    /// What a write that did not end left at the end of the file: a frame that was cut, or bytes that are none.
    pub fn torn_tail(&self) -> Option<DamagedRange> {
        use frame::Damage::{BadHeader, CutShort};
        self.damage.last().copied().filter(|range| {
            range.offset + range.bytes == self.file_bytes
                && matches!(range.what, BlockFileDamage::Frame(BadHeader | CutShort))
        })
    }

    /// Whether nothing in the file may be worth anything but what was found: half a header is none, nor is what a write
    /// left that did not end.
    pub fn is_readable(&self) -> bool {
        let torn = self.torn_tail();
        self.damage.iter().all(|range| range.what == BlockFileDamage::HeaderHalf || Some(*range) == torn)
    }

    /// Whether it holds frames of a kind that this release does not know: then nobody can say what may become of it.
    pub fn has_unknown_kinds(&self) -> bool {
        self.damage.iter().any(|range| matches!(range.what, BlockFileDamage::UnknownKind(_)))
    }

    /// The bytes of a shape, if the file has it.
    pub fn shape(&self, hash: ShapeHash) -> Option<&Bytes> {
        self.shapes.iter().find(|(found, _)| *found == hash).map(|(_, bytes)| bytes)
    }

    fn note(&mut self, range: std::ops::Range<u64>, what: BlockFileDamage) {
        if !range.is_empty() {
            self.damage.push(DamagedRange { offset: range.start, bytes: range.end - range.start, what });
        }
    }
}
