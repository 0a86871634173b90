//! The columns of an encoded block: where each stands, and whether it is what was written.

use std::borrow::Cow;
use std::ops::Range;

use super::{BlockHeader, ENTRY_BYTES};
use crate::codec::{self, CodecError};
use crate::pages::Unavailable;
use crate::wire::Cursor;

/// Why a column of a block cannot be read. The others can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnDamage {
    /// Its bytes are not those that were written.
    #[error("checksum of the column is wrong")]
    Checksum,
    /// Its bytes cannot be read.
    #[error("the column cannot be read")]
    Unavailable,
    /// Its bytes are those that were written, and are no values.
    #[error("the column cannot be decoded")]
    Codec(#[source] CodecError),
}

/// Spreads the number of a column over 32 bits: no column is taken for another one.
const COLUMN_FACTOR: u32 = 0x9E37_79B1;

/// The checksum of a column: CRC-32/IEEE that goes on from the one of the block's header over the payload, with the number of
/// the column laid over it.
pub(super) fn checksum(seed: u32, column: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(payload);
    hasher.finalize() ^ column.wrapping_mul(COLUMN_FACTOR)
}

/// Bytes of a body, by whatever way they are read.
pub(super) type Read<'b> = Result<Cow<'b, [u8]>, Unavailable>;

/// Finds columns in the body of a block: entries of [`ENTRY_BYTES`] each, the end of the payload and its checksum, then
/// the payloads one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    count: u32,
    seed: u32,
    body_bytes: usize,
    payload_bytes_max: usize,
}

/// Begin and end of a payload among the payloads, and its checksum.
struct Entry {
    from: usize,
    to: usize,
    crc: u32,
}

impl Columns {
    pub(super) fn new(header: &BlockHeader, seed: u32) -> Self {
        Self {
            count: header.columns,
            seed,
            body_bytes: header.body_bytes as usize,
            payload_bytes_max: codec::payload_bytes_max(header.rows as usize),
        }
    }

    /// Where the payloads begin in the body.
    pub(super) fn payloads_at(self) -> usize {
        self.count as usize * ENTRY_BYTES
    }

    /// Where the entries of columns stand in the body, with the one before the first.
    pub(super) fn entries(self, columns: Range<u32>) -> Range<usize> {
        columns.start.saturating_sub(1) as usize * ENTRY_BYTES..columns.end as usize * ENTRY_BYTES
    }

    /// The entry of a column as it stands there, true or not.
    fn entry<'b>(
        self,
        column: u32,
        source: &impl Fn(Range<usize>) -> Read<'b>,
    ) -> Result<Entry, Unavailable> {
        let bytes = source(self.entries(column..column + 1))?;
        let mut cursor = Cursor::new(&bytes);
        let read = (|| {
            // The first begins with the payloads, whatever stands there, and the last ends with them.
            let from = if column == 0 { 0 } else { cursor.u32().zip(cursor.u32())?.0 as usize };
            let (end, crc) = (cursor.u32()? as usize, cursor.u32()?);
            let to = if column + 1 == self.count { self.body_bytes - self.payloads_at() } else { end };
            Some(Entry { from, to, crc })
        })();
        read.ok_or(Unavailable)
    }

    /// Where the payloads of columns stand in the body, if the entries make sense.
    pub(super) fn payloads<'b>(
        self,
        first: u32,
        last: u32,
        source: &impl Fn(Range<usize>) -> Read<'b>,
    ) -> Option<Range<usize>> {
        let (from, to) = (self.entry(first, source).ok()?.from, self.entry(last, source).ok()?.to);
        let at = self.payloads_at();
        (from < to && at + to <= self.body_bytes).then(|| at + from..at + to)
    }

    /// The payload between two places, if they make sense.
    fn payload<'b>(
        self,
        from: usize,
        to: usize,
        source: &impl Fn(Range<usize>) -> Read<'b>,
    ) -> Option<Result<Cow<'b, [u8]>, Unavailable>> {
        let at = self.payloads_at();
        let in_range = from <= to && to - from <= self.payload_bytes_max && at + to <= self.body_bytes;
        in_range.then(|| if from == to { Ok(Cow::Borrowed(&[][..])) } else { source(at + from..at + to) })
    }

    /// The encoded values of a column, which are what was written; empty if it has none.
    ///
    /// # Errors
    /// They are not, or cannot be read.
    pub(super) fn find<'b>(
        self,
        column: u32,
        source: &impl Fn(Range<usize>) -> Read<'b>,
    ) -> Result<Cow<'b, [u8]>, ColumnDamage> {
        let entry = self.entry(column, source).map_err(|Unavailable| ColumnDamage::Unavailable)?;
        let mut what = ColumnDamage::Checksum;
        match self.payload(entry.from, entry.to, source) {
            Some(Ok(payload)) if checksum(self.seed, column, &payload) == entry.crc => return Ok(payload),
            Some(Err(Unavailable)) => what = ColumnDamage::Unavailable,
            Some(Ok(_)) | None => {}
        }
        self.find_by_checksum(column, source).ok_or(what)
    }

    /// Whether the entry of a column says that it has values. A column without any needs no page but that of the entry to
    /// be sure; one that has some is not looked at, and one that may have some counts as if it had.
    pub(super) fn is_filled<'b>(self, column: u32, source: &impl Fn(Range<usize>) -> Read<'b>) -> bool {
        match self.entry(column, source) {
            Ok(Entry { from, to, .. }) if from < to && to - from <= self.payload_bytes_max => true,
            _ => self.find(column, source).map_or(true, |payload| !payload.is_empty()),
        }
    }

    /// The payload of a column where a border between two columns is not what was written: one place is right if both
    /// checksums say so. So a damaged border costs neither of them.
    #[cold]
    fn find_by_checksum<'b>(
        self,
        column: u32,
        source: &impl Fn(Range<usize>) -> Read<'b>,
    ) -> Option<Cow<'b, [u8]>> {
        let (front, behind) = (column.checked_sub(1), column + 1);
        if let Some(front) = front
            && let Some(border) = self.border(front, source)
        {
            return self.payload(border, self.entry(column, source).ok()?.to, source)?.ok();
        }
        let border = if behind < self.count { self.border(column, source)? } else { return None };
        self.payload(self.entry(column, source).ok()?.from, border, source)?.ok()
    }

    /// Where column `front` ends and the one behind it begins, found by their checksums.
    fn border<'b>(self, front: u32, source: &impl Fn(Range<usize>) -> Read<'b>) -> Option<usize> {
        let (a, b) = (self.entry(front, source).ok()?, self.entry(front + 1, source).ok()?);
        let (from, to) = (a.from, b.to);
        let at = self.payloads_at();
        if from > to || to - from > 2 * self.payload_bytes_max || at + to > self.body_bytes {
            return None;
        }
        let both = source(at + from..at + to).ok()?;
        let is_right = |border: usize| {
            let (x, y) = both.split_at(border);
            checksum(self.seed, front, x) == a.crc && checksum(self.seed, front + 1, y) == b.crc
        };
        (0..=both.len()).find(|&border| is_right(border)).map(|border| from + border)
    }
}
