//! [`Block`]: rows of one buffer, sealed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use crate::Timestamp;
use crate::codec::{self, CodecError};
use crate::grid::{Grid, TIMES};
use crate::shape::{Shape, ShapeHash};
use crate::stamp::Stamp;
use crate::wire::Cursor;

/// The most rows of a block.
pub const BLOCK_ROWS_MAX: u32 = 256;

/// Bytes of an encoded block's header.
pub const BLOCK_HEADER_BYTES: usize = 64;

/// Whether the rows of a block are anywhere but in memory and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// In a synced block file.
    Saved,
    /// Not yet. `first` is the stamp of the oldest row that is only here and in the log.
    Unsaved {
        /// The log is needed from here on.
        first: Stamp,
    },
    /// Read from files of another format, which stay until the block is saved.
    Imported,
}

/// The fixed part of an encoded block: see [`Block`] for the layout.
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
    /// Bytes behind the header: offsets and payloads.
    pub body_bytes: u32,
}

/// Rows of one buffer of one host, sealed and immutable.
///
/// Invariant: complete for its range of slots up to `as_of`; where two blocks overlap, the greater `as_of` wins,
/// also with its missing values. A missing sample is NaN, never absent.
///
/// The bytes in memory, in the block file and mapped back after a restart are the same: a header of 64 bytes,
/// then `columns + 1` offsets (u32) into what follows, then a payload for each column. A column without a sample
/// has no bytes.
///
/// | offset | bytes | field      | encoding                                          |
/// |-------:|------:|------------|---------------------------------------------------|
/// |      0 |     1 | codec      | id of the codec of the payloads                   |
/// |      1 |     1 | width      | bytes of a decoded value: 4 (f32)                 |
/// |      2 |     2 | rows       | u16, 1 to 256                                     |
/// |      4 |     4 | frequency  | u32, seconds, at least 1                          |
/// |      8 |     8 | base       | i64, seconds: time of row 0                       |
/// |     16 |     8 | anchor     | i64, seconds: from which slots are counted        |
/// |     24 |     8 | as_of      | u64, stamp                                        |
/// |     32 |    16 | shape      | content hash                                      |
/// |     48 |     4 | columns    | u32                                               |
/// |     52 |     2 | buffer     | u16                                               |
/// |     54 |     2 | zero       | 0                                                 |
/// |     56 |     4 | body_bytes | u32: bytes behind the header                      |
/// |     60 |     4 | header_crc | CRC-32/IEEE of bytes 0 to 60                      |
#[derive(Debug)]
pub struct Block {
    header: BlockHeader,
    body: Bytes,
    shape: Arc<Shape>,
    /// Set when `body` is that of a file, under this checksum.
    checksum: Option<Checksum>,
    /// Whether `body` is of a file.
    in_file: bool,
    checked: AtomicU8,
}

/// What the bytes of a block must add up to: CRC-32/IEEE over `prefix`, then the encoded block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// Bytes in front.
    pub prefix: [u8; 4],
    /// The checksum.
    pub crc: u32,
}

const UNCHECKED: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// Why bytes are not a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Fewer bytes than the header says, or than a header has.
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
    /// Offsets that go backwards or beyond the end.
    #[error("offset of column {column} is out of range")]
    Offset {
        /// The column.
        column: u32,
    },
    /// The shape is not the one that the header names, or has fewer columns.
    #[error("block was written under another shape")]
    Shape,
}

impl BlockHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// If the bytes are no header, or one of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let header = bytes.get(..BLOCK_HEADER_BYTES).ok_or(BlockError::CutShort)?;
        let mut tail = Cursor::new(&header[60..]);
        if tail.u32() != Some(crc32fast::hash(&header[..60])) {
            return Err(BlockError::HeaderChecksum);
        }
        let mut cursor = Cursor::new(header);
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
            cursor.u16()?;
            let body_bytes = cursor.u32()?;
            let grid = Grid { anchor, frequency_s };
            Some((width, Self { codec, buffer, grid, base, rows, columns, as_of, shape, body_bytes }))
        })();
        let (width, header) = parsed.ok_or(BlockError::CutShort)?;
        let in_range = width == 4
            && (1..=BLOCK_ROWS_MAX).contains(&header.rows)
            && header.grid.frequency_s > 0
            && TIMES.contains(&header.base)
            && TIMES.contains(&header.grid.anchor)
            && (header.base - header.grid.anchor) % i64::from(header.grid.frequency_s) == 0
            && u64::from(header.columns) < u64::from(header.body_bytes);
        if !in_range {
            return Err(BlockError::Field);
        }
        if !codec::is_known(header.codec) {
            return Err(BlockError::UnknownCodec(header.codec));
        }
        Ok(header)
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
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
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut header = [0; BLOCK_HEADER_BYTES];
        header.copy_from_slice(&out);
        header
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

impl Block {
    /// Seals rows: `column(c, out)` fills the `rows` values of column `c`.
    ///
    /// # Panics
    /// If the rows are not 1 to 256, or the block would be larger than 4 GiB.
    pub fn seal(mut header: BlockHeader, shape: Arc<Shape>, mut column: impl FnMut(u32, &mut [f32])) -> Self {
        assert!((1..=BLOCK_ROWS_MAX).contains(&header.rows), "a block has 1 to 256 rows");
        header.shape = shape.hash();
        let offsets_bytes = (header.columns as usize + 1) * 4;
        let mut body = vec![0; offsets_bytes];
        let mut values = [f32::NAN; BLOCK_ROWS_MAX as usize];
        let values = &mut values[..header.rows as usize];
        for index in 0..header.columns {
            let offset = u32::try_from(body.len() - offsets_bytes).expect("a block is smaller than 4 GiB");
            body[index as usize * 4..][..4].copy_from_slice(&offset.to_le_bytes());
            column(index, values);
            codec::encode_with(header.codec, values, &mut body);
        }
        let end = u32::try_from(body.len() - offsets_bytes).expect("a block is smaller than 4 GiB");
        body[offsets_bytes - 4..offsets_bytes].copy_from_slice(&end.to_le_bytes());
        header.body_bytes = u32::try_from(body.len()).expect("a block is smaller than 4 GiB");
        body.shrink_to_fit();
        let checked = AtomicU8::new(GOOD);
        Self { header, body: body.into(), shape, checksum: None, in_file: false, checked }
    }

    /// A block as it stands in a file: header and body in `bytes`.
    ///
    /// With a `checksum` the body is not read now; [`check`](Self::check) does that before its first use. Then the
    /// bytes are taken for those of a mapped file, unless somebody [says otherwise](Self::on_heap).
    ///
    /// # Errors
    /// If the header is damaged, or does not go with `bytes` or `shape`.
    pub fn from_bytes(
        bytes: Bytes,
        shape: Arc<Shape>,
        checksum: Option<Checksum>,
    ) -> Result<Self, BlockError> {
        let header = BlockHeader::decode(&bytes)?;
        if bytes.len() - BLOCK_HEADER_BYTES != header.body_bytes as usize {
            return Err(BlockError::CutShort);
        }
        let offsets_bytes = (u64::from(header.columns) + 1) * 4;
        if offsets_bytes > u64::from(header.body_bytes) {
            return Err(BlockError::CutShort);
        }
        let buffer = shape.buffers().get(usize::from(header.buffer)).ok_or(BlockError::Shape)?;
        if shape.hash() != header.shape
            || buffer.frequency_s != header.grid.frequency_s
            || buffer.columns.len() < header.columns as usize
        {
            return Err(BlockError::Shape);
        }
        let checked = AtomicU8::new(if checksum.is_some() { UNCHECKED } else { GOOD });
        let (body, in_file) = (bytes.slice(BLOCK_HEADER_BYTES..), checksum.is_some());
        Ok(Self { header, body, shape, checksum, in_file, checked })
    }

    /// The header.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The shape under which the columns were numbered.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Offsets and payloads, as they stand behind the header.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Header and body: the block as a file holds it.
    pub fn to_parts(&self) -> ([u8; BLOCK_HEADER_BYTES], Bytes) {
        (self.header.encode(), self.body.clone())
    }

    /// The same rows, stamped anew.
    #[must_use]
    pub fn restamped(&self, as_of: Stamp) -> Self {
        Self {
            header: BlockHeader { as_of, ..self.header },
            body: self.body.clone(),
            shape: Arc::clone(&self.shape),
            checksum: None,
            in_file: self.in_file,
            checked: AtomicU8::new(if self.check() { GOOD } else { BAD }),
        }
    }

    /// The same block with its body in a file that it was written to, under `checksum`.
    ///
    /// What a write gave to the system is what it gives back; that a disk forgets is found when the file is rolled,
    /// or read by the next start, or when the rows are to be written once more: see
    /// [`check_again`](Self::check_again).
    ///
    /// # Panics
    /// If `body` has not the length of the body.
    #[must_use]
    pub fn moved_to_file(&self, body: Bytes, checksum: Checksum) -> Self {
        assert_eq!(body.len(), self.body.len(), "the body as it was written");
        Self {
            header: self.header,
            body,
            shape: Arc::clone(&self.shape),
            checksum: Some(checksum),
            in_file: true,
            checked: AtomicU8::new(if self.check() { GOOD } else { BAD }),
        }
    }

    /// Whether [`check`](Self::check) knows its answer already.
    pub fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed) != UNCHECKED
    }

    /// Whether the bytes are what was written; reads all of them the first time it is asked.
    pub fn check(&self) -> bool {
        match self.checked.load(Ordering::Relaxed) {
            GOOD => true,
            BAD => false,
            _ => {
                let good = self.checksum.is_none_or(|checksum| {
                    let mut hasher = crc32fast::Hasher::new();
                    hasher.update(&checksum.prefix);
                    hasher.update(&self.header.encode());
                    hasher.update(&self.body);
                    hasher.finalize() == checksum.crc
                });
                self.checked.store(if good { GOOD } else { BAD }, Ordering::Relaxed);
                good
            }
        }
    }

    /// The same, and reads them once more if they are those of a file, which may have rotted since: to be asked
    /// before the rows get a new checksum, under which that would never be noticed.
    pub fn check_again(&self) -> bool {
        if self.checksum.is_some() {
            self.checked.store(UNCHECKED, Ordering::Relaxed);
        }
        self.check()
    }

    /// The encoded values of a column; `None` if it has no sample here, or came later than this block.
    pub fn payload(&self, index: u32) -> Option<&[u8]> {
        let payloads = self.body.get((self.header.columns as usize + 1) * 4..)?;
        let (from, to) = (self.offset(index)?, self.offset(index + 1)?);
        payloads.get(from..to).filter(|payload| !payload.is_empty())
    }

    fn offset(&self, index: u32) -> Option<usize> {
        if index > self.header.columns {
            return None;
        }
        Cursor::new(self.body.get(index as usize * 4..)?).u32().map(|offset| offset as usize)
    }

    /// Decodes rows `rows` of a column into `out`, whose length is that of the range. NaN where it has no sample.
    ///
    /// # Errors
    /// If the payload is damaged; `out` is NaN then.
    pub fn decode(
        &self,
        index: u32,
        rows: std::ops::Range<usize>,
        out: &mut [f32],
    ) -> Result<(), CodecError> {
        match self.payload(index) {
            None => out.fill(f32::NAN),
            Some(payload) => {
                let decoded =
                    codec::decode_with(self.header.codec, payload, self.header.rows as usize, rows, out);
                if decoded.is_err() {
                    out.fill(f32::NAN);
                    return decoded;
                }
            }
        }
        Ok(())
    }

    /// All rows of a column; NaN where it has no sample, and where the payload is damaged.
    pub fn column(&self, index: u32) -> Vec<f32> {
        let mut values = vec![f32::NAN; self.header.rows as usize];
        if self.check() {
            // A payload that does not decode has NaN in `values`: as if the samples were missing.
            self.decode(index, 0..values.len(), &mut values).ok();
        }
        values
    }

    /// The same block, whose bytes were read into memory.
    #[must_use]
    pub fn on_heap(self) -> Self {
        Self { in_file: false, ..self }
    }

    /// Whether the bytes are those of a mapped file, rather than memory of this process.
    pub fn is_in_file(&self) -> bool {
        self.in_file
    }

    /// Bytes that the block keeps alive, on the heap or mapped.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Aggregation, Catalog, Metric, MetricId};
    use crate::shape::NewColumn;

    fn shape() -> Arc<Shape> {
        let catalog = Catalog::new([Metric {
            name: "m".into(),
            frequency_s: 10.try_into().unwrap(),
            aggregation: Aggregation::Sum,
            served: true,
        }]);
        let columns: Vec<_> = (0..3)
            .map(|n| NewColumn { path: vec![format!("c{n}").into()].into(), metric: MetricId(0), buffer: 0 })
            .collect();
        Arc::new(Shape::empty(&catalog).extended(&catalog, &[10], &columns))
    }

    fn sealed() -> Block {
        let header = BlockHeader {
            codec: codec::RAW,
            buffer: 0,
            grid: Grid { anchor: 5, frequency_s: 10 },
            base: 105,
            rows: 4,
            columns: 3,
            as_of: Stamp(77),
            shape: ShapeHash([0; 16]),
            body_bytes: 0,
        };
        Block::seal(header, shape(), |column, out| {
            for (row, value) in out.iter_mut().enumerate() {
                *value = if column == 1 { f32::NAN } else { column as f32 * 10.0 + row as f32 };
            }
        })
    }

    fn bytes(block: &Block) -> Bytes {
        let (header, body) = block.to_parts();
        [&header[..], &body[..]].concat().into()
    }

    #[test]
    fn a_block_reads_back_as_it_was_sealed() {
        let block = sealed();
        let back = Block::from_bytes(bytes(&block), shape(), None).unwrap();
        assert_eq!(back.header(), block.header());
        assert_eq!(back.column(2), [20.0, 21.0, 22.0, 23.0]);
        assert!(back.column(1).iter().all(|value| value.is_nan()));
        assert!(back.payload(1).is_none() && back.payload(9).is_none());
        assert_eq!(back.header().end(), 145);
        assert!(
            back.header().covers(5, 135) && !back.header().covers(5, 145) && !back.header().covers(15, 135)
        );
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_noticed() {
        let good = bytes(&sealed());
        for bit in 0..BLOCK_HEADER_BYTES * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::from_bytes(bad.into(), shape(), None).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_body_that_was_changed_fails_its_check_and_reads_as_missing() {
        let good = bytes(&sealed());
        let checksum = Checksum { prefix: *b"abcd", crc: crc32fast::hash(&[b"abcd", &good[..]].concat()) };
        assert!(Block::from_bytes(good.clone(), shape(), Some(checksum)).unwrap().check());
        let mut bad = good.to_vec();
        *bad.last_mut().unwrap() ^= 1;
        let block = Block::from_bytes(bad.into(), shape(), Some(checksum)).unwrap();
        assert!(!block.check());
        assert!(block.column(2).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn offsets_that_lie_never_read_outside() {
        let good = bytes(&sealed());
        for at in BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + 16 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.to_vec();
                bad[at] = value;
                let block = Block::from_bytes(bad.into(), shape(), None).unwrap();
                for column in 0..4 {
                    assert_eq!(block.column(column).len(), 4);
                }
            }
        }
    }

    #[test]
    fn a_newer_codec_is_named() {
        let header = BlockHeader { codec: 200, ..*sealed().header() };
        assert_eq!(BlockHeader::decode(&header.encode()), Err(BlockError::UnknownCodec(200)));
    }
}
