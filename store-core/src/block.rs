//! [`Block`]: rows of one buffer, sealed.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec;
use crate::pages::{Body, DamagedColumn, Pages, Present, Unavailable};
use crate::shape::Shape;
use crate::stamp::Stamp;

mod columns;
mod header;
#[cfg(test)]
mod tests;

pub use columns::ColumnDamage;
pub use header::{
    BLOCK_HEADER_BYTES, BLOCK_OVERHEAD_BYTES, BlockError, BlockHeader, HeaderPlace, NO_IDENTITY,
};

use columns::Columns;

/// The most rows of a block.
pub const BLOCK_ROWS_MAX: u32 = 256;

/// Bytes of the entry that a block has for each of its columns.
pub const ENTRY_BYTES: usize = 8;

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

/// Rows of one buffer of one host, sealed and immutable.
///
/// Invariant: complete for its range of slots up to `as_of`; where two blocks overlap, the greater `as_of` wins,
/// also with its missing values. A missing sample is NaN, never absent.
///
/// Invariant: no value is handed out whose bytes are not those that were written. Each column has a checksum of its own,
/// which is looked at whenever the column is decoded: a column that is damaged is missing, reported, and still wins over what
/// is older; the others are as they were. One checksum for all of them would be cheaper to keep and would have to be believed
/// after the first look, since a query of one series cannot read the whole block.
///
/// A block is a header of 64 bytes, a body, and the header once more, which says that it is the second one; in memory
/// the body stands alone. The body is an entry of 8 bytes for each column, then a payload for each column. A column
/// without a sample has no bytes.
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
/// |     54 |     2 | place      | 0 in front of the body, 1 behind it               |
/// |     56 |     4 | body_bytes | u32: bytes between the headers                    |
/// |     60 |     4 | header_crc | CRC-32/IEEE of the identity (u32) and bytes 0 to 60 |
///
/// The identity is that of the file: it says which host the block is of. A block that no file has given one has 0.
///
/// | bytes | field of an entry | encoding                                               |
/// |------:|-------------------|--------------------------------------------------------|
/// |     4 | end               | u32: where the payload ends, counted from the first payload |
/// |     4 | crc               | CRC-32/IEEE of the identity, bytes 0 to 60 of the header in front, and the payload; then exclusive or with 9E3779B1 times the number of the column, modulo 2³² |
///
/// The first payload begins behind the entries, the last one ends with the body, whatever the entries say. Where an end
/// between two columns is damaged, it is the place at which both checksums are right.
#[derive(Debug)]
pub struct Block {
    header: BlockHeader,
    /// What the checksums of the columns begin with: that of the header as it was written.
    seed: u32,
    body: Body,
    shape: Arc<Shape>,
    /// Whether a sweep has looked at all columns.
    swept: AtomicBool,
}

/// A block as it stands in a file.
#[derive(Debug)]
pub struct Parts<'b> {
    /// The header in front.
    pub front: [u8; BLOCK_HEADER_BYTES],
    /// Entries and payloads.
    pub body: Cow<'b, [u8]>,
    /// The copy of the header.
    pub behind: [u8; BLOCK_HEADER_BYTES],
}

/// Columns of a block that cannot be written as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} columns of the block are damaged", .columns.len())]
pub struct DamagedBlock {
    /// Their numbers, and what is wrong with each.
    pub columns: Vec<(u32, ColumnDamage)>,
}

/// Lays entries and payloads one behind the other.
struct BodyBuilder {
    bytes: Vec<u8>,
    payloads_at: usize,
    seed: u32,
}

impl BodyBuilder {
    fn new(columns: u32, seed: u32) -> Self {
        let payloads_at = columns as usize * ENTRY_BYTES;
        Self { bytes: vec![0; payloads_at], payloads_at, seed }
    }

    /// Ends a column whose payload is what was appended since the last one. `from` is where it began.
    fn end_column(&mut self, column: u32, from: usize) {
        let end = u32::try_from(self.bytes.len() - self.payloads_at).expect("a block is smaller than 4 GiB");
        let crc = columns::checksum(self.seed, column, &self.bytes[from..]);
        let entry = &mut self.bytes[column as usize * ENTRY_BYTES..][..ENTRY_BYTES];
        entry[..4].copy_from_slice(&end.to_le_bytes());
        entry[4..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Puts the checksums of another seed in the place of those that are there.
    fn reseed(&mut self, columns: u32, seed: u32) {
        let mut from = self.payloads_at;
        for column in 0..columns {
            let entry = &self.bytes[column as usize * ENTRY_BYTES..][..4];
            let end = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
            let to = self.payloads_at + end;
            let crc = columns::checksum(seed, column, &self.bytes[from..to]);
            self.bytes[column as usize * ENTRY_BYTES + 4..][..4].copy_from_slice(&crc.to_le_bytes());
            from = to;
        }
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
        let mut values = [f32::NAN; BLOCK_ROWS_MAX as usize];
        let values = &mut values[..header.rows as usize];
        // The checksums begin with that of the header, which says how long all of this is.
        let mut body = BodyBuilder::new(header.columns, 0);
        for index in 0..header.columns {
            let from = body.bytes.len();
            column(index, values);
            codec::encode_with(header.codec, values, &mut body.bytes);
            body.end_column(index, from);
        }
        header.body_bytes = u32::try_from(body.bytes.len()).expect("a block is smaller than 4 GiB");
        let seed = header.seed(NO_IDENTITY);
        body.reseed(header.columns, seed);
        body.bytes.shrink_to_fit();
        Self { header, seed, body: Body::Heap(body.bytes.into()), shape, swept: AtomicBool::new(true) }
    }

    /// A block in a file: its header as it was found there, its body at byte `at` of `pages`, or as much of it as
    /// there is. Nothing of the body is read now. `identity` is that of the file.
    ///
    /// # Errors
    /// If the header does not go with `shape`.
    pub fn in_file(
        header: BlockHeader,
        identity: u32,
        pages: Arc<dyn Pages>,
        at: u64,
        shape: Arc<Shape>,
    ) -> Result<Self, BlockError> {
        let buffer = shape.buffers().get(usize::from(header.buffer)).ok_or(BlockError::Shape)?;
        if shape.hash() != header.shape
            || buffer.frequency_s != header.grid.frequency_s
            || buffer.columns.len() < header.columns as usize
        {
            return Err(BlockError::Shape);
        }
        let (seed, body) = (header.seed(identity), Body::File(pages, at));
        Ok(Self { header, seed, body, shape, swept: AtomicBool::new(false) })
    }

    /// The header.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The shape under which the columns were numbered.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The block as it stands in a file of this identity, if every column is what was written: under a new checksum
    /// damage would never be noticed again. What is in a file is read from there once more.
    ///
    /// # Errors
    /// The columns that are not: see [`mended`](Self::mended).
    pub fn to_parts(&self, identity: u32) -> Result<Parts<'_>, DamagedBlock> {
        let body = self.body.read(0..self.body_bytes()).ok();
        let damaged = match &body {
            Some(body) => self.damaged_in(body),
            None => self.damaged_columns(),
        };
        let Some(mut body) = body.filter(|_| damaged.is_empty()) else {
            return Err(DamagedBlock { columns: damaged });
        };
        let seed = self.header.seed(identity);
        if seed != self.seed {
            body = Cow::Owned(self.rebuilt(&self.header, identity));
        }
        let front = self.header.encode(identity, HeaderPlace::Front);
        Ok(Parts { front, body, behind: self.header.encode(identity, HeaderPlace::Behind) })
    }

    /// The body of these columns under `header` and `identity`, those that are damaged without values.
    fn rebuilt(&self, header: &BlockHeader, identity: u32) -> Vec<u8> {
        let whole = self.body.read(0..self.body_bytes()).ok();
        let mut body = BodyBuilder::new(header.columns, header.seed(identity));
        for column in 0..header.columns {
            let from = body.bytes.len();
            let payload = match &whole {
                Some(whole) => self.columns().find(column, &slice_of(whole)),
                None => self.columns().find(column, &|range| self.body.read(range)),
            };
            body.bytes.extend_from_slice(&payload.unwrap_or_default());
            body.end_column(column, from);
        }
        body.bytes
    }

    /// The same rows without the columns that are damaged, which are missing now and win as such: in memory, to be
    /// saved anew. A stamp later, so that it wins over the damaged one wherever both are found.
    #[must_use]
    pub fn mended(&self) -> Self {
        let mut header = BlockHeader { as_of: Stamp(self.header.as_of.0.saturating_add(1)), ..self.header };
        // Once for the length, which the seed covers.
        header.body_bytes = u32::try_from(self.rebuilt(&header, NO_IDENTITY).len()).unwrap_or(u32::MAX);
        let body = Body::Heap(self.rebuilt(&header, NO_IDENTITY).into());
        let (seed, shape) = (header.seed(NO_IDENTITY), Arc::clone(&self.shape));
        Self { header, seed, body, shape, swept: AtomicBool::new(true) }
    }

    /// The same rows, stamped anew. The checksums of its columns are made anew when it is written.
    #[must_use]
    pub fn restamped(&self, as_of: Stamp) -> Self {
        Self {
            header: BlockHeader { as_of, ..self.header },
            seed: self.seed,
            body: self.body.clone(),
            shape: Arc::clone(&self.shape),
            swept: AtomicBool::new(self.is_swept()),
        }
    }

    /// The same block with its body in a file of this identity, at byte `at`, that its [parts](Self::to_parts) were
    /// written to.
    #[must_use]
    pub fn moved_to_file(&self, identity: u32, pages: Arc<dyn Pages>, at: u64) -> Self {
        Self {
            header: self.header,
            seed: self.header.seed(identity),
            body: Body::File(pages, at),
            shape: Arc::clone(&self.shape),
            // What a write gave to the system is what it gives back.
            swept: AtomicBool::new(true),
        }
    }

    /// Whether a [sweep](Self::sweep) has looked at it, or it came from memory.
    pub fn is_swept(&self) -> bool {
        self.swept.load(Ordering::Relaxed)
    }

    /// Reads all columns, not through a map, and reports those that are damaged. Returns them.
    pub fn sweep(&self) -> Vec<(u32, ColumnDamage)> {
        self.swept.store(true, Ordering::Relaxed);
        let damaged = self.damaged_columns();
        damaged.iter().for_each(|(column, what)| self.report(*column, *what));
        damaged
    }

    /// The columns that are not what was written; reads all of them, not through a map.
    pub fn damaged_columns(&self) -> Vec<(u32, ColumnDamage)> {
        if let Ok(body) = self.body.read(0..self.body_bytes()) {
            return self.damaged_in(&body);
        }
        // One page is enough that the whole cannot be read.
        self.damaged_by(|column| self.columns().find(column, &|range| self.body.read(range)))
    }

    fn damaged_in(&self, body: &[u8]) -> Vec<(u32, ColumnDamage)> {
        self.damaged_by(|column| self.columns().find(column, &slice_of(body)))
    }

    fn damaged_by<'b>(
        &self,
        find: impl Fn(u32) -> Result<Cow<'b, [u8]>, ColumnDamage>,
    ) -> Vec<(u32, ColumnDamage)> {
        let rows = self.header.rows as usize;
        let mut values = [f32::NAN; BLOCK_ROWS_MAX as usize];
        let mut is_damaged = |column: u32| {
            find(column).map_or_else(Some, |payload| {
                let decoded =
                    codec::decode_with(self.header.codec, &payload, rows, 0..rows, &mut values[..rows]);
                decoded.err().map(ColumnDamage::Codec)
            })
        };
        (0..self.header.columns).filter_map(|column| Some((column, is_damaged(column)?))).collect()
    }

    fn columns(&self) -> Columns {
        Columns::new(&self.header, self.seed)
    }

    fn body_bytes(&self) -> usize {
        self.header.body_bytes as usize
    }

    fn get(&self, range: std::ops::Range<usize>, present: &Present) -> Result<Cow<'_, [u8]>, Unavailable> {
        self.body.get(range, self.body_bytes(), present)
    }

    #[cold]
    fn report(&self, column: u32, what: ColumnDamage) {
        if let Body::File(pages, at) = &self.body {
            pages.report(&DamagedColumn { header: &self.header, shape: &self.shape, column, what, at: *at });
        }
    }

    /// Makes what several columns need present, in one run for their entries and one for their payloads: for a request
    /// that is going to decode them.
    pub fn ensure(&self, columns: std::ops::RangeInclusive<u32>, present: &Present) {
        let (first, last) = columns.into_inner();
        if !matches!(self.body, Body::File(..)) || self.header.columns == 0 {
            return;
        }
        let (first, last) = (first.min(self.header.columns - 1), last.min(self.header.columns - 1));
        let of = self.columns();
        self.body.ensure(of.entries(first..last + 1), self.body_bytes(), present);
        let source = |range| self.get(range, present);
        if let Some(payloads) = of.payloads(first, last, &source) {
            self.body.ensure(payloads, self.body_bytes(), present);
        }
    }

    /// Whether a column has a sample, or may have: what it holds is not looked at. False if it came later than this
    /// block.
    pub fn is_filled(&self, index: u32, present: &Present) -> bool {
        index < self.header.columns && self.columns().is_filled(index, &|range| self.get(range, present))
    }

    /// The encoded values of a column, which are what was written; `None` if it has no sample here, or came later than
    /// this block.
    fn payload(&self, index: u32, present: &Present) -> Result<Option<Cow<'_, [u8]>>, ColumnDamage> {
        if index >= self.header.columns {
            return Ok(None);
        }
        let payload = self.columns().find(index, &|range| self.get(range, present))?;
        Ok(Some(payload).filter(|payload| !payload.is_empty()))
    }

    /// Decodes rows `rows` of a column into `out`, whose length is that of the range. NaN where it has no sample.
    ///
    /// # Errors
    /// If the column is damaged, which is reported; `out` is NaN then.
    pub fn decode(
        &self,
        index: u32,
        rows: std::ops::Range<usize>,
        out: &mut [f32],
        present: &Present,
    ) -> Result<(), ColumnDamage> {
        let decoded = self.payload(index, present).and_then(|payload| match payload {
            None => {
                out.fill(f32::NAN);
                Ok(())
            }
            Some(payload) => {
                codec::decode_with(self.header.codec, &payload, self.header.rows as usize, rows, out)
                    .map_err(ColumnDamage::Codec)
            }
        });
        if let Err(what) = decoded {
            out.fill(f32::NAN);
            self.report(index, what);
        }
        decoded
    }

    /// Adds rows `rows` of a column to `sums`, missing values making NaN of what they are added to. Returns whether the
    /// column has samples here that can be read; else `sums` is as it was.
    pub fn add_to(
        &self,
        index: u32,
        rows: std::ops::Range<usize>,
        sums: &mut [f64],
        present: &Present,
    ) -> bool {
        let added = self.payload(index, present).and_then(|payload| {
            let Some(payload) = payload else { return Ok(false) };
            codec::sum_into(self.header.codec, &payload, self.header.rows as usize, rows, sums)
                .map(|()| true)
                .map_err(ColumnDamage::Codec)
        });
        added.unwrap_or_else(|what| {
            self.report(index, what);
            false
        })
    }

    /// All rows of a column; NaN where it has no sample, and where it is damaged.
    pub fn column(&self, index: u32) -> Vec<f32> {
        let mut values = vec![f32::NAN; self.header.rows as usize];
        // A column that does not decode has NaN in `values`: as if the samples were missing.
        self.decode(index, 0..values.len(), &mut values, &Present::default()).ok();
        values
    }

    /// Whether the bytes are those of a mapped file, rather than memory of this process.
    pub fn is_in_file(&self) -> bool {
        matches!(&self.body, Body::File(pages, _) if pages.is_mapped())
    }

    /// Bytes that the block keeps alive, on the heap or mapped.
    pub fn bytes(&self) -> usize {
        self.body_bytes()
    }
}

/// A body that was read as a whole.
fn slice_of<'b>(body: &'b [u8]) -> impl Fn(std::ops::Range<usize>) -> Result<Cow<'b, [u8]>, Unavailable> {
    move |range| body.get(range).map(Cow::Borrowed).ok_or(Unavailable)
}
