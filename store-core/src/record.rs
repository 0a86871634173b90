//! [`Record`]: what a frame of the log says.

use crate::Timestamp;
use crate::row::{Cells, Row, Rows};
use crate::shape::ShapeHash;
use crate::wire::Cursor;

/// The kinds of frames that records are written in, as the log's first free numbers.
pub mod kind {
    /// [`super::Record::Shape`]
    pub const SHAPE: u8 = 16;
    /// [`super::Record::Rows`]
    pub const ROWS: u8 = 17;
    /// [`super::Record::Floors`]
    pub const FLOORS: u8 = 18;
    /// [`super::Record::Samples`]
    pub const SAMPLES: u8 = 19;
    /// [`super::Record::NamedRows`]
    pub const NAMED_ROWS: u8 = 20;
    /// [`super::Record::Vouched`]
    pub const VOUCHED: u8 = 21;
}

/// A sample that names its series by path and metric.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSample {
    /// The levels below the host.
    pub path: Box<[Box<str>]>,
    /// The metric's name.
    pub metric: Box<str>,
    /// When it was measured.
    pub time: Timestamp,
    /// Its value.
    pub value: f32,
}

/// Bytes on the heap of samples that are kept for later.
pub fn heap_bytes(samples: &[RawSample]) -> usize {
    let of_names = |sample: &RawSample| {
        let levels = sample.path.iter().map(|level| size_of_val(level) + level.len());
        levels.sum::<usize>() + sample.metric.len()
    };
    size_of_val(samples) + samples.iter().map(of_names).sum::<usize>()
}

/// What one frame of the log says. All numbers are little endian; names are `u16` length and UTF-8 bytes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// An encoded shape, found by its content hash.
    Shape(&'a [u8]),
    /// Rows of one host: cluster, host, 16 bytes hash of its shape, then rows up to the end; see [`push_rows`].
    ///
    /// Each frame names its host, rather than a number given out in an earlier frame: one rotten frame must not
    /// cost the rows of others.
    Rows {
        /// The cluster.
        cluster: &'a str,
        /// The host.
        host: &'a str,
        /// The shape under which buffers and columns are numbered.
        shape: ShapeHash,
        /// The encoded rows, for [`read_rows`].
        rows: &'a [u8],
    },
    /// Rows of one host that bring the names of their columns: cluster, host, `u32` length and an encoded shape of
    /// just these columns, then rows as in [`Record::Rows`], numbered by that shape.
    NamedRows {
        /// The cluster.
        cluster: &'a str,
        /// The host.
        host: &'a str,
        /// The encoded shape.
        shape: &'a [u8],
        /// The encoded rows, for [`read_rows`].
        rows: &'a [u8],
    },
    /// Columns of one host were freed: cluster, host, hash of its shape, `u32` count, each `u32` column, `i64`
    /// before.
    Floors {
        /// The cluster.
        cluster: &'a str,
        /// The host.
        host: &'a str,
        /// The shape under which columns are numbered.
        shape: ShapeHash,
        /// Column, and the time below which it is hidden.
        floors: Vec<(u32, Timestamp)>,
    },
    /// Samples of a host whose state was not loaded yet: cluster, host, `u32` count, each `u8` depth, names of
    /// the path, metric, `i64` time, `f32` value.
    Samples {
        /// The cluster.
        cluster: &'a str,
        /// The host.
        host: &'a str,
        /// The samples in the order in which they came.
        samples: Vec<RawSample>,
    },
    /// The time that hosts had vouched for when this was written: `i64`. The rows themselves cannot say it: they do
    /// not tell times that senders wrote from those that our own clock put there.
    Vouched(Timestamp),
}

/// The greatest length of what a record is cut to, in bytes: what one message brings of a host may be longer.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes that a row takes at most besides its cells, and that each of its cells takes at most.
const ROW_BYTES: usize = 23;
const CELL_BYTES: usize = 8;

const _: () = assert!(ROW_BYTES + 2 * crate::row::ROW_CELLS_MAX * CELL_BYTES <= RECORD_BYTES_MAX);

/// Rows in pieces of which each fits into one record, in their order; mostly that is one.
pub fn cut_rows(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    cut(rows, |row| ROW_BYTES + row.cells.len() * CELL_BYTES)
}

/// The same for samples that name their series.
pub fn cut_samples(samples: &[RawSample]) -> impl Iterator<Item = &[RawSample]> {
    cut(samples, |sample| {
        let names: usize = sample.path.iter().map(|name| name.len() + 2).sum();
        names + sample.metric.len() + 15
    })
}

/// Pieces of at most [`RECORD_BYTES_MAX`], or of one item.
fn cut<T>(items: &[T], bytes_of: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |item: &&T| {
            bytes += bytes_of(item);
            bytes <= RECORD_BYTES_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (piece, behind) = rest.split_at(count);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A frame whose payload is not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The payload ends early, goes on behind its end, or holds a name that is not UTF-8.
    #[error("payload of a frame of kind {0} does not parse")]
    Malformed(u8),
    /// Written by a newer version.
    #[error("frame of kind {0}, which this version does not know")]
    UnknownKind(u8),
}

impl Record<'_> {
    /// The kind of frame that the record goes into.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Shape(_) => kind::SHAPE,
            Self::Rows { .. } => kind::ROWS,
            Self::Floors { .. } => kind::FLOORS,
            Self::Samples { .. } => kind::SAMPLES,
            Self::NamedRows { .. } => kind::NAMED_ROWS,
            Self::Vouched(_) => kind::VOUCHED,
        }
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Shape(bytes) => out.extend_from_slice(bytes),
            Self::Vouched(time) => out.extend_from_slice(&time.to_le_bytes()),
            Self::Rows { cluster, host, shape, rows } => {
                push_rows_front(out, cluster, host, *shape);
                out.extend_from_slice(rows);
            }
            Self::NamedRows { cluster, host, shape, rows } => {
                push_name(out, cluster);
                push_name(out, host);
                push_count(out, shape.len());
                out.extend_from_slice(shape);
                out.extend_from_slice(rows);
            }
            Self::Floors { cluster, host, shape, floors } => {
                push_rows_front(out, cluster, host, *shape);
                push_count(out, floors.len());
                for (column, before) in floors {
                    out.extend_from_slice(&column.to_le_bytes());
                    out.extend_from_slice(&before.to_le_bytes());
                }
            }
            Self::Samples { cluster, host, samples } => {
                push_name(out, cluster);
                push_name(out, host);
                push_count(out, samples.len());
                for sample in samples {
                    out.push(sample.path.len() as u8);
                    sample.path.iter().for_each(|name| push_name(out, name));
                    push_name(out, &sample.metric);
                    out.extend_from_slice(&sample.time.to_le_bytes());
                    out.extend_from_slice(&sample.value.to_le_bytes());
                }
            }
        }
    }
}

impl<'a> Record<'a> {
    /// Reads the payload of a frame.
    ///
    /// # Errors
    /// If the payload is not what the kind says. The frame's checksum was good, so this is another version's
    /// record, or a mistake of ours; it costs that frame.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, RecordError> {
        let mut cursor = Cursor::new(payload);
        let record = match kind {
            kind::SHAPE => return Ok(Self::Shape(payload)),
            kind::ROWS => rows(&mut cursor),
            kind::FLOORS => floors(&mut cursor),
            kind::SAMPLES => samples(&mut cursor),
            kind::NAMED_ROWS => named_rows(&mut cursor),
            kind::VOUCHED => cursor.i64().map(Self::Vouched),
            _ => return Err(RecordError::UnknownKind(kind)),
        };
        let whole = matches!(kind, kind::ROWS | kind::NAMED_ROWS) || cursor.is_empty();
        record.filter(|_| whole).ok_or(RecordError::Malformed(kind))
    }
}

fn rows<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (cluster, host) = (name(cursor)?, name(cursor)?);
    Some(Record::Rows { cluster, host, shape: ShapeHash(cursor.array()?), rows: cursor.rest() })
}

fn named_rows<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (cluster, host) = (name(cursor)?, name(cursor)?);
    let shape_bytes = cursor.u32()? as usize;
    Some(Record::NamedRows { cluster, host, shape: cursor.bytes(shape_bytes)?, rows: cursor.rest() })
}

fn floors<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (cluster, host) = (name(cursor)?, name(cursor)?);
    let shape = ShapeHash(cursor.array()?);
    let count = cursor.u32()? as usize;
    let mut floors = Vec::with_capacity(count.min(cursor.rest().len() / 12));
    for _ in 0..count {
        floors.push((cursor.u32()?, cursor.i64()?));
    }
    Some(Record::Floors { cluster, host, shape, floors })
}

fn samples<'a>(cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let (cluster, host) = (name(cursor)?, name(cursor)?);
    let count = cursor.u32()? as usize;
    let mut samples = Vec::with_capacity(count.min(cursor.rest().len() / 15));
    for _ in 0..count {
        let depth = cursor.u8()?;
        let path: Option<Box<[Box<str>]>> = (0..depth).map(|_| name(cursor).map(Into::into)).collect();
        let (path, metric) = (path?, name(cursor)?.into());
        let (time, value) = (cursor.i64()?, f32::from_bits(cursor.u32()?));
        samples.push(RawSample { path, metric, time, value });
    }
    Some(Record::Samples { cluster, host, samples })
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let len = cursor.u16()?;
    std::str::from_utf8(cursor.bytes(usize::from(len))?).ok()
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    // Names are at most 255 bytes at the door.
    let len = u16::try_from(name.len()).unwrap_or(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&name.as_bytes()[..usize::from(len)]);
}

/// Appends what stands before the rows in the payload of [`Record::Rows`].
pub fn push_rows_front(out: &mut Vec<u8>, cluster: &str, host: &str, shape: ShapeHash) {
    push_name(out, cluster);
    push_name(out, host);
    out.extend_from_slice(&shape.0);
}

fn push_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

const MASK_FIRST: u8 = 0;
const MASK_BITS: u8 = 1;
const MASK_LIST: u8 = 2;

/// Appends rows: each `u16` buffer, `i64` slot, `i64` anchor, `u8` mask, `u32` n, what the mask needs, `f32`
/// values. Mask 0: columns 0 to n. Mask 1: a bitmap of n columns, ⌈n/8⌉ bytes, the lowest bit first. Mask 2: n
/// column numbers, u32 each.
///
/// A row says its slot and anchor itself, so replay never decides anything.
pub fn push_rows(out: &mut Vec<u8>, rows: &[Row]) {
    for row in rows {
        out.extend_from_slice(&row.buffer.to_le_bytes());
        out.extend_from_slice(&row.slot.to_le_bytes());
        out.extend_from_slice(&row.anchor.to_le_bytes());
        let ascending = row.cells.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let span = row.cells.last().map_or(0, |(index, _)| *index as usize + 1);
        if ascending && span == row.cells.len() {
            out.push(MASK_FIRST);
            push_count(out, span);
        } else if ascending && span.div_ceil(8) < row.cells.len() * 4 {
            out.push(MASK_BITS);
            push_count(out, span);
            let at = out.len();
            out.resize(at + span.div_ceil(8), 0);
            for (index, _) in &row.cells {
                out[at + *index as usize / 8] |= 1 << (index % 8);
            }
        } else {
            out.push(MASK_LIST);
            push_count(out, row.cells.len());
            for (index, _) in &row.cells {
                out.extend_from_slice(&index.to_le_bytes());
            }
        }
        for (_, value) in &row.cells {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Reads what [`push_rows`] wrote, into `rows`, behind what is there.
///
/// # Errors
/// If the bytes are not whole rows; what was read before stays in `rows`.
pub fn read_rows(bytes: &[u8], rows: &mut Rows) -> Result<(), RecordError> {
    for logged in logged_rows(bytes) {
        let logged = logged?;
        logged.unpack(&mut rows.add(logged.buffer, logged.anchor, logged.slot).cells);
    }
    Ok(())
}

/// What [`push_rows`] wrote, row by row; it ends behind an error.
pub fn logged_rows(bytes: &[u8]) -> impl Iterator<Item = Result<LoggedRow<'_>, RecordError>> {
    let mut cursor = Cursor::new(bytes);
    std::iter::from_fn(move || {
        if cursor.is_empty() {
            return None;
        }
        let row = logged_row(&mut cursor);
        if row.is_none() {
            cursor = Cursor::new(&[]);
        }
        Some(row.ok_or(RecordError::Malformed(kind::ROWS)))
    })
}

/// A row as its record says it.
#[derive(Debug, Clone, Copy)]
pub struct LoggedRow<'a> {
    /// The buffer of the host.
    pub buffer: u16,
    /// From which the buffer's slots were counted.
    pub anchor: Timestamp,
    /// The slot's time.
    pub slot: Timestamp,
    columns: Columns<'a>,
    values: &'a [[u8; 4]],
}

/// Which columns the values of a row are of.
#[derive(Debug, Clone, Copy)]
enum Columns<'a> {
    First,
    Bits(&'a [u8]),
    List(&'a [[u8; 4]]),
}

impl<'a> LoggedRow<'a> {
    /// The cells as they stand in the record, if they are those of the first columns and none is missing.
    pub fn first_cells(&self) -> Option<Cells<'a>> {
        let is_missing = |value: &[u8; 4]| f32::from_le_bytes(*value).is_nan();
        // Without a way out in the middle, so that many are looked at in one step.
        let missing = || self.values.iter().fold(false, |any, value| any | is_missing(value));
        (matches!(self.columns, Columns::First) && !missing()).then_some(Cells::First(self.values))
    }

    /// Appends the cells, each with its column.
    pub fn unpack(&self, cells: &mut Vec<(u32, f32)>) {
        let values = self.values.iter().map(|value| f32::from_le_bytes(*value));
        match self.columns {
            Columns::First => cells.extend((0..).zip(values)),
            Columns::Bits(bits) => {
                let is_set = |column: &u32| bits[*column as usize / 8] >> (column % 8) & 1 == 1;
                cells.extend((0..(bits.len() as u32).saturating_mul(8)).filter(is_set).zip(values));
            }
            Columns::List(list) => {
                cells.extend(list.iter().map(|column| u32::from_le_bytes(*column)).zip(values));
            }
        }
    }
}

fn logged_row<'a>(cursor: &mut Cursor<'a>) -> Option<LoggedRow<'a>> {
    let buffer = cursor.u16()?;
    let (slot, anchor) = (cursor.i64()?, cursor.i64()?);
    let mask = cursor.u8()?;
    let n = cursor.u32()? as usize;
    let (columns, count) = match mask {
        MASK_FIRST => (Columns::First, n),
        MASK_BITS => {
            let bits = cursor.bytes(n.div_ceil(8))?;
            (Columns::Bits(bits), ones(bits, n))
        }
        MASK_LIST => (Columns::List(words(cursor, n)?), n),
        _ => return None,
    };
    Some(LoggedRow { buffer, anchor, slot, columns, values: words(cursor, count)? })
}

/// How many of the first `n` bits are set.
fn ones(bits: &[u8], n: usize) -> usize {
    let (whole, rest) = bits.split_at(n / 8);
    let rest = rest.first().map_or(0, |last| last & ((1 << (n % 8)) - 1));
    whole.iter().chain([&rest]).map(|byte| byte.count_ones() as usize).sum()
}

/// The next `count` numbers of four bytes.
fn words<'a>(cursor: &mut Cursor<'a>, count: usize) -> Option<&'a [[u8; 4]]> {
    Some(cursor.bytes(count.checked_mul(4)?)?.as_chunks().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |buffer, slot, cells: &[(u32, f32)]| Row { buffer, anchor: 3, slot, cells: cells.to_vec() };
        vec![
            row(0, 60, &[(0, 1.0), (1, -0.0), (2, f32::MIN_POSITIVE)]),
            row(1, -60, &[(1, 2.0), (9, 3.0)]),
            row(7, i64::MAX, &[(100_000, 4.0)]),
            row(0, 120, &[(5, 1.0), (2, 2.0), (5, 3.0)]),
        ]
    }

    #[test]
    fn rows_read_back_whatever_mask_they_take() {
        let mut bytes = Vec::new();
        push_rows(&mut bytes, &rows());
        let mut back = Rows::default();
        read_rows(&bytes, &mut back).unwrap();
        assert_eq!(back.as_slice(), rows());
    }

    #[test]
    fn a_whole_row_is_copied_and_others_are_not() {
        let missing = Row { cells: vec![(0, 1.0), (1, f32::NAN)], ..rows().remove(0) };
        let mut bytes = Vec::new();
        push_rows(&mut bytes, &rows());
        push_rows(&mut bytes, &[missing]);
        let mut read = Vec::new();
        for logged in logged_rows(&bytes).map(Result::unwrap) {
            let mut row = [f32::NAN; 4];
            read.push(logged.first_cells().map(|cells| {
                cells.write_to(&mut row);
                (cells.span(), row.map(f32::to_bits))
            }));
        }
        let whole = [1.0, -0.0, f32::MIN_POSITIVE, f32::NAN].map(f32::to_bits);
        assert_eq!(read, [Some((3, whole)), None, None, None, None]);
    }

    #[test]
    fn rows_and_samples_are_cut_where_a_record_is_full_and_none_is_left_out() {
        let row = |slot| Row { buffer: 0, anchor: 0, slot, cells: (0..500_000).map(|c| (c, 1.0)).collect() };
        let rows: Vec<Row> = (0..10).map(row).collect();
        let pieces: Vec<&[Row]> = cut_rows(&rows).collect();
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(pieces.concat(), rows);
        let mut bytes = Vec::new();
        push_rows(&mut bytes, pieces[0]);
        assert!(bytes.len() <= RECORD_BYTES_MAX);
        assert_eq!(cut_rows(&[]).count(), 0);

        let name: Box<str> = "n".repeat(255).into();
        let sample =
            |time| RawSample { path: vec![name.clone(); 8].into(), metric: name.clone(), time, value: 1.0 };
        let samples: Vec<RawSample> = (0..10_000).map(sample).collect();
        let pieces: Vec<&[RawSample]> = cut_samples(&samples).collect();
        assert_eq!((pieces.len(), pieces.concat().len()), (2, samples.len()));
        let mut bytes = Vec::new();
        Record::Samples { cluster: "c", host: "h", samples: pieces[0].to_vec() }.encode(&mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX + 100, "{}", bytes.len());
    }

    #[test]
    fn bits_behind_the_columns_of_a_row_mean_nothing() {
        let mut bytes = Vec::new();
        push_rows(&mut bytes, &[Row { cells: vec![(1, 2.0), (9, 3.0)], ..rows().remove(0) }]);
        let mask = bytes.len() - 9;
        bytes[mask] |= 0xf0;
        let mut back = Rows::default();
        read_rows(&bytes, &mut back).unwrap();
        assert_eq!(back.as_slice()[0].cells, [(1, 2.0), (9, 3.0)]);
    }

    #[test]
    fn a_whole_row_costs_little_more_than_its_values() {
        let row = Row { buffer: 0, anchor: 0, slot: 0, cells: (0..540).map(|i| (i, 1.0)).collect() };
        let mut bytes = Vec::new();
        push_rows(&mut bytes, &[row]);
        assert_eq!(bytes.len(), 540 * 4 + 23);
    }

    #[test]
    fn every_cut_of_rows_is_an_error_or_a_prefix_of_whole_rows() {
        let mut bytes = Vec::new();
        let mut whole = vec![0];
        for row in rows() {
            push_rows(&mut bytes, &[row]);
            whole.push(bytes.len());
        }
        for cut in 0..bytes.len() {
            let mut back = Rows::default();
            assert_eq!(read_rows(&bytes[..cut], &mut back).is_ok(), whole.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn a_count_that_lies_allocates_nothing() {
        let mut bytes = vec![0; 18];
        bytes.push(MASK_FIRST);
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read_rows(&bytes, &mut Rows::default()), Err(RecordError::Malformed(kind::ROWS)));
    }

    #[test]
    fn records_read_back() {
        let sample = RawSample { path: ["socket0".into()].into(), metric: "m".into(), time: -5, value: 1.5 };
        let records = [
            Record::Shape(b"abc"),
            Record::Rows { cluster: "c", host: "h", shape: ShapeHash([9; 16]), rows: b"xyz" },
            Record::Floors {
                cluster: "c",
                host: "h",
                shape: ShapeHash([9; 16]),
                floors: vec![(0, 5), (8, -1)],
            },
            Record::Samples { cluster: "c", host: "h", samples: vec![sample] },
            Record::NamedRows { cluster: "c", host: "h", shape: b"abc", rows: b"" },
            Record::NamedRows { cluster: "c", host: "h", shape: b"abc", rows: b"xyz" },
            Record::Vouched(-1_700_000_000),
        ];
        for record in records {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(record.kind(), &bytes), Ok(record.clone()));
            // Where rows begin the record may end.
            let needed = match record {
                Record::Shape(_) | Record::Rows { .. } => 0,
                Record::NamedRows { rows, .. } => bytes.len() - rows.len(),
                _ => bytes.len(),
            };
            if needed > 0 {
                for cut in 0..needed {
                    let cut_off = Record::decode(record.kind(), &bytes[..cut]);
                    assert_eq!(cut_off, Err(RecordError::Malformed(record.kind())));
                }
            }
        }
        assert_eq!(Record::decode(99, b""), Err(RecordError::UnknownKind(99)));
    }
}
