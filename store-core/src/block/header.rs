//! [`BlockHeader`]: what stands in front of the columns of a block, and once more behind them.

use super::{BLOCK_ROWS_MAX, ENTRY_BYTES};
use crate::Timestamp;
use crate::codec;
use crate::grid::{Grid, TIMES};
use crate::shape::ShapeHash;
use crate::stamp::Stamp;
use crate::wire::Cursor;

/// Bytes of an encoded block's header.
pub const BLOCK_HEADER_BYTES: usize = 64;

/// Bytes of an encoded block besides its body: the header and its copy.
pub const BLOCK_OVERHEAD_BYTES: usize = 2 * BLOCK_HEADER_BYTES;

/// The identity of a block that was sealed and that no file has given another one yet.
pub const NO_IDENTITY: u32 = 0;

/// The fixed part of an encoded block: see [`Block`](super::Block) for the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Which codec the columns are written in.
    pub codec: u8,
    /// The buffer of the host.
    pub buffer: u16,
    /// The slots, and how they are counted.
    pub grid: Grid,
    /// Time of row 0.
    pub base: Timestamp,
    /// Number of rows, 1 to 256.
    pub rows: u32,
    /// Number of columns: the first so many of the buffer.
    pub columns: u32,
    /// Stamp of the newest row that was applied.
    pub as_of: Stamp,
    /// The shape under which the columns were numbered.
    pub shape: ShapeHash,
    /// Bytes between the header and its copy: entries and payloads.
    pub body_bytes: u32,
}

/// Which of the two headers of a block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderPlace {
    /// The one in front of the body.
    Front,
    /// The copy behind it.
    Behind,
}

/// Why bytes are not a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Fewer bytes than a header has, or than the entries of its columns need.
    #[error("block is cut short")]
    CutShort,
    /// The header's checksum is wrong.
    #[error("checksum of the block's header is wrong")]
    HeaderChecksum,
    /// A field is outside of its range.
    #[error("a field of the block's header is out of range")]
    Field,
    /// A codec that this version does not know: written by a newer one.
    #[error("block is written in codec {0}, which this version does not know")]
    UnknownCodec(u8),
    /// The shape is not the one that the header names, or has fewer columns.
    #[error("block was written under another shape")]
    Shape,
}

impl BlockHeader {
    /// Reads either header of a block that was written under `identity`.
    ///
    /// # Errors
    /// If the bytes are no header, or one of a newer version.
    pub fn decode(bytes: &[u8], identity: u32) -> Result<(Self, HeaderPlace), BlockError> {
        let header = bytes.get(..BLOCK_HEADER_BYTES).ok_or(BlockError::CutShort)?;
        let (covered, crc) = header.split_last_chunk::<4>().ok_or(BlockError::CutShort)?;
        if u32::from_le_bytes(*crc) != checksum(identity, covered) {
            return Err(BlockError::HeaderChecksum);
        }
        let mut cursor = Cursor::new(covered);
        let parsed = (|| {
            let codec = cursor.u8()?;
            let width = cursor.u8()?;
            let rows = u32::from(cursor.u16()?);
            let frequency_s = cursor.u32()?;
            let base = cursor.i64()?;
            let anchor = cursor.i64()?;
            let as_of = Stamp(cursor.u64()?);
            let shape = ShapeHash(cursor.array()?);
            let columns = cursor.u32()?;
            let buffer = cursor.u16()?;
            let place = cursor.u16()?;
            let body_bytes = cursor.u32()?;
            let grid = Grid { anchor, frequency_s };
            let header = Self { codec, buffer, grid, base, rows, columns, as_of, shape, body_bytes };
            Some((width, place, header))
        })();
        let (width, place, header) = parsed.ok_or(BlockError::CutShort)?;
        let in_range = width == 4
            && (1..=BLOCK_ROWS_MAX).contains(&header.rows)
            && header.grid.frequency_s > 0
            && TIMES.contains(&header.base)
            && TIMES.contains(&header.grid.anchor)
            && (header.base - header.grid.anchor) % i64::from(header.grid.frequency_s) == 0
            && u64::from(header.columns) * ENTRY_BYTES as u64 <= u64::from(header.body_bytes);
        let place = match place {
            0 => HeaderPlace::Front,
            1 => HeaderPlace::Behind,
            _ => return Err(BlockError::Field),
        };
        if !in_range {
            return Err(BlockError::Field);
        }
        if !codec::is_known(header.codec) {
            return Err(BlockError::UnknownCodec(header.codec));
        }
        Ok((header, place))
    }

    /// The header as bytes, in a file of this identity.
    pub fn encode(&self, identity: u32, place: HeaderPlace) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = Vec::with_capacity(BLOCK_HEADER_BYTES);
        out.push(self.codec);
        out.push(4);
        out.extend_from_slice(&u16::try_from(self.rows).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&self.grid.frequency_s.to_le_bytes());
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.grid.anchor.to_le_bytes());
        out.extend_from_slice(&self.as_of.0.to_le_bytes());
        out.extend_from_slice(&self.shape.0);
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.buffer.to_le_bytes());
        out.extend_from_slice(&u16::from(place == HeaderPlace::Behind).to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        let crc = checksum(identity, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut header = [0; BLOCK_HEADER_BYTES];
        header.copy_from_slice(&out);
        header
    }

    /// What the checksums of the columns begin with: the checksum of the header in front, so that they cover host,
    /// time, stamp and shape.
    pub(super) fn seed(&self, identity: u32) -> u32 {
        let [.., a, b, c, d] = self.encode(identity, HeaderPlace::Front);
        u32::from_le_bytes([a, b, c, d])
    }

    /// Bytes of the whole block: header, body, copy of the header.
    pub fn block_bytes(&self) -> usize {
        BLOCK_OVERHEAD_BYTES + self.body_bytes as usize
    }

    /// The first moment behind the last row's slot time: base + rows · frequency.
    pub fn end(&self) -> Timestamp {
        self.base + i64::from(self.rows) * i64::from(self.grid.frequency_s)
    }

    /// Whether the slot of this time, on a grid with this anchor, lies in the block's range.
    pub fn covers(&self, anchor: Timestamp, slot: Timestamp) -> bool {
        self.grid.anchor == anchor && self.base <= slot && slot < self.end()
    }
}

fn checksum(identity: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&identity.to_le_bytes());
    hasher.update(covered);
    hasher.finalize()
}
