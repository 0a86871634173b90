//! [`Shape`]: the levels and columns of a host, shared by all hosts that look alike.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use hashbrown::HashMap;

use sha2::{Digest as _, Sha256};

use crate::level::Level;
use crate::metric::{Catalog, MetricId};
use crate::row::Row;
use crate::wire::Cursor;

/// The content hash of a [`Shape`]: the first 16 bytes of the SHA-256 of its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShapeHash(pub [u8; 16]);

impl fmt::Display for ShapeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where the values of one series stand: a component, a metric, and a place in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The levels below the host, from the top; empty for the host itself.
    pub path: Box<[Box<str>]>,
    /// The metric.
    pub metric: MetricId,
    /// The buffer that the column belongs to.
    pub buffer: u16,
    /// The column's number within its buffer.
    pub index: u32,
}

/// A column that is to be added to a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewColumn<'a> {
    /// The levels below the host.
    pub path: Cow<'a, [Box<str>]>,
    /// The metric.
    pub metric: MetricId,
    /// An existing buffer, or one of those that are added at the same time.
    pub buffer: u16,
}

/// The columns of one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferShape {
    /// Seconds per slot.
    pub frequency_s: u32,
    /// The columns by their index in the buffer.
    pub columns: Vec<u32>,
}

/// A host's levels, columns and buffers.
///
/// Invariant: columns are appended and never renumbered, within the shape and within each buffer, so a block
/// that was written under an older shape is a prefix of the same buffer under a newer one.
///
/// Equal shapes are stored once and found by content hash, rather than a column table per host: a fleet has a
/// handful of kinds of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    root: Level,
    columns: Vec<Column>,
    buffers: Vec<BufferShape>,
    hash: ShapeHash,
    /// Length of the encoding.
    encoded_bytes: usize,
}

/// Why bytes are not a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The bytes end early, or go on behind the end.
    #[error("shape is cut short or too long")]
    Length,
    /// A name is not UTF-8.
    #[error("a name in the shape is not UTF-8")]
    Name,
    /// A column names a buffer that does not exist, or a frequency is zero.
    #[error("a column of the shape is in no buffer")]
    Buffer,
}

/// The most levels below a host.
pub const DEPTH_MAX: usize = 16;

/// The most columns of a host. Its shape is written down again with each new one, and a block of all of them stays
/// far below the 4 GiB of its offsets.
pub const COLUMNS_MAX: usize = 1 << 17;

impl Shape {
    /// The shape of a host of which nothing is known yet.
    pub fn empty(catalog: &Catalog) -> Self {
        let hash = ShapeHash([0; 16]);
        let (root, columns, buffers) = (Level::default(), Vec::new(), Vec::new());
        let mut shape = Self { root, columns, buffers, hash, encoded_bytes: 0 };
        shape.extend(catalog, &[], &[]);
        shape
    }

    /// Adds buffers (given by their frequencies) and columns behind those it has.
    ///
    /// # Panics
    /// If a column names a buffer that neither exists nor is added.
    pub fn extend(&mut self, catalog: &Catalog, frequencies_s: &[u32], added: &[NewColumn<'_>]) {
        let buffers = frequencies_s.iter();
        self.buffers.extend(buffers.map(|&frequency_s| BufferShape { frequency_s, columns: Vec::new() }));
        for column in added {
            self.push(column.path.as_ref().into(), column.metric, column.buffer);
        }
        let encoded = self.encode(catalog);
        (self.hash, self.encoded_bytes) = (Self::hash_of(&encoded), encoded.len());
    }

    /// This shape [with more](Self::extend) buffers and columns.
    ///
    /// # Panics
    /// As [`extend`](Self::extend).
    #[must_use]
    pub fn extended(&self, catalog: &Catalog, frequencies_s: &[u32], added: &[NewColumn<'_>]) -> Self {
        let mut shape = self.clone();
        shape.extend(catalog, frequencies_s, added);
        shape
    }

    /// Whether this is what `older` becomes when it is [extended](Self::extended) so.
    pub fn is_extension(&self, older: &Shape, frequencies_s: &[u32], added: &[NewColumn<'_>]) -> bool {
        let (columns, buffers) = (older.columns.len(), older.buffers.len());
        self.columns.len() == columns + added.len()
            && self.buffers.len() == buffers + frequencies_s.len()
            && self.buffers[buffers..]
                .iter()
                .map(|buffer| buffer.frequency_s)
                .eq(frequencies_s.iter().copied())
            && self.columns[columns..].iter().zip(added).all(|(column, new)| {
                (column.metric, column.buffer) == (new.metric, new.buffer) && *column.path == *new.path
            })
            && self.extends(older)
    }

    /// Whether a shape can hold a column of this path and metric: what cannot be written down must not be taken.
    pub fn can_name(path: &[Box<str>], metric: &str) -> bool {
        let fits = |name: &str| u16::try_from(name.len()).is_ok();
        path.len() <= DEPTH_MAX && path.iter().all(|name| fits(name)) && fits(metric)
    }

    /// A shape of just the columns that `rows` have, and the rows numbered by it. Cells of no column are left out.
    pub fn of_rows(&self, catalog: &Catalog, rows: &[Row]) -> (Self, Vec<Row>) {
        let (mut buffers, mut added) = (Vec::new(), Vec::new());
        let mut indices: Vec<HashMap<u32, u32>> = Vec::new();
        let mut renumbered = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(own) = self.buffers.get(usize::from(row.buffer)) else { continue };
            let at = buffers.iter().position(|&buffer| buffer == row.buffer).unwrap_or_else(|| {
                buffers.push(row.buffer);
                indices.push(HashMap::new());
                buffers.len() - 1
            });
            let buffer = at as u16;
            let mut cells = Vec::with_capacity(row.cells.len());
            for &(index, value) in &row.cells {
                let Some(&number) = own.columns.get(index as usize) else { continue };
                let next = indices[at].len() as u32;
                let index = *indices[at].entry(index).or_insert_with(|| {
                    let Column { path, metric, .. } = &self.columns[number as usize];
                    added.push(NewColumn { path: Cow::Borrowed(path), metric: *metric, buffer });
                    next
                });
                cells.push((index, value));
            }
            renumbered.push(Row { buffer, anchor: row.anchor, slot: row.slot, cells });
        }
        let frequencies_s: Vec<u32> =
            buffers.iter().map(|&buffer| self.buffers[usize::from(buffer)].frequency_s).collect();
        (Self::empty(catalog).extended(catalog, &frequencies_s, &added), renumbered)
    }

    fn push(&mut self, path: Box<[Box<str>]>, metric: MetricId, buffer: u16) {
        let number = u32::try_from(self.columns.len()).expect("fewer than 2^32 columns");
        let columns = &mut self.buffers[usize::from(buffer)].columns;
        let index = u32::try_from(columns.len()).expect("fewer than 2^32 columns");
        columns.push(number);
        self.root.enter(&path, metric, number);
        self.columns.push(Column { path, metric, buffer, index });
    }

    /// The content hash of an encoded shape.
    pub fn hash_of(encoded: &[u8]) -> ShapeHash {
        let digest = Sha256::digest(encoded);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        ShapeHash(hash)
    }

    /// The content hash.
    pub fn hash(&self) -> ShapeHash {
        self.hash
    }

    /// Length of the [encoding](Self::encode), in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    /// The tree, with the host itself at its root.
    pub fn root(&self) -> &Level {
        &self.root
    }

    /// All columns by their numbers.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// All buffers by their numbers.
    pub fn buffers(&self) -> &[BufferShape] {
        &self.buffers
    }

    /// Whether every column and buffer of `older` stands in this shape at the same place.
    pub fn extends(&self, older: &Shape) -> bool {
        if self.hash == older.hash {
            return true;
        }
        self.columns.starts_with(&older.columns)
            && self.buffers.len() >= older.buffers.len()
            && self.buffers.iter().zip(&older.buffers).all(|(a, b)| a.frequency_s == b.frequency_s)
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let names = self.columns.iter().flat_map(|column| column.path.iter());
        let names: usize = names.map(|name| size_of::<Box<str>>() + name.len().next_multiple_of(8)).sum();
        let buffers = self.buffers.iter().map(|buffer| buffer.columns.capacity() * size_of::<u32>());
        self.columns.capacity() * size_of::<Column>()
            + self.buffers.capacity() * size_of::<BufferShape>()
            + buffers.sum::<usize>()
            + names
            + self.root.heap_bytes()
    }

    /// The shape as bytes: names rather than numbers of metrics, which differ from process to process.
    ///
    /// `u16` buffers, each `u32` frequency; `u32` columns, each `u16` buffer, `u8` depth, the path's names and
    /// the metric's name, each `u16` length and bytes. All little endian.
    pub fn encode(&self, catalog: &Catalog) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.columns.len() * 40);
        out.extend_from_slice(&u16::try_from(self.buffers.len()).unwrap_or(u16::MAX).to_le_bytes());
        for buffer in &self.buffers {
            out.extend_from_slice(&buffer.frequency_s.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.columns.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut metric: Option<(MetricId, std::sync::Arc<crate::metric::Metric>)> = None;
        for column in &self.columns {
            out.extend_from_slice(&column.buffer.to_le_bytes());
            out.push(u8::try_from(column.path.len()).unwrap_or(u8::MAX));
            for name in &column.path {
                push_name(&mut out, name);
            }
            if metric.as_ref().is_none_or(|(id, _)| *id != column.metric) {
                metric = Some((column.metric, catalog.of(column.metric)));
            }
            if let Some((_, metric)) = &metric {
                push_name(&mut out, &metric.name);
            }
        }
        out
    }

    /// Reads an encoded shape. `metric` gives the number of a metric of a name and frequency, registering it if
    /// need be.
    ///
    /// # Errors
    /// If the bytes are not exactly one shape.
    pub fn decode(
        bytes: &[u8],
        mut metric: impl FnMut(&str, NonZeroU32) -> MetricId,
    ) -> Result<Self, ShapeError> {
        let mut cursor = Cursor::new(bytes);
        let buffers = cursor.u16().ok_or(ShapeError::Length)?;
        let mut shape = Self {
            root: Level::default(),
            columns: Vec::new(),
            buffers: Vec::new(),
            hash: Self::hash_of(bytes),
            encoded_bytes: bytes.len(),
        };
        for _ in 0..buffers {
            let frequency_s = cursor.u32().ok_or(ShapeError::Length)?;
            if frequency_s == 0 {
                return Err(ShapeError::Buffer);
            }
            shape.buffers.push(BufferShape { frequency_s, columns: Vec::new() });
        }
        let columns = cursor.u32().ok_or(ShapeError::Length)?;
        for _ in 0..columns {
            let buffer = cursor.u16().ok_or(ShapeError::Length)?;
            let depth = usize::from(cursor.u8().ok_or(ShapeError::Length)?);
            let named = shape.buffers.get(usize::from(buffer)).ok_or(ShapeError::Buffer)?;
            let frequency_s = NonZeroU32::new(named.frequency_s).ok_or(ShapeError::Buffer)?;
            if depth > DEPTH_MAX {
                return Err(ShapeError::Length);
            }
            let mut path = Vec::with_capacity(depth);
            for _ in 0..depth {
                path.push(name(&mut cursor)?.into());
            }
            let metric = metric(name(&mut cursor)?, frequency_s);
            shape.push(path.into(), metric, buffer);
        }
        if cursor.is_empty() { Ok(shape) } else { Err(ShapeError::Length) }
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    let bytes = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, ShapeError> {
    let len = cursor.u16().ok_or(ShapeError::Length)?;
    let bytes = cursor.bytes(usize::from(len)).ok_or(ShapeError::Length)?;
    std::str::from_utf8(bytes).map_err(|_| ShapeError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Aggregation, Metric};

    fn catalog() -> Catalog {
        Catalog::new(["a", "b"].map(|name| Metric {
            name: name.into(),
            frequency_s: NonZeroU32::new(10).unwrap(),
            aggregation: Aggregation::Sum,
            served: true,
        }))
    }

    fn column(path: &[&str], metric: u32, buffer: u16) -> NewColumn<'static> {
        NewColumn { path: path.iter().map(|&p| p.into()).collect(), metric: MetricId(metric), buffer }
    }

    fn sample(catalog: &Catalog) -> Shape {
        Shape::empty(catalog).extended(
            catalog,
            &[10, 60],
            &[column(&[], 0, 0), column(&["socket0"], 1, 1), column(&["socket0", "die1"], 0, 0)],
        )
    }

    #[test]
    fn a_shape_reads_back_as_it_was_written() {
        let catalog = catalog();
        let shape = sample(&catalog);
        let bytes = shape.encode(&catalog);
        let back = Shape::decode(&bytes, |name, _| catalog.id(name).unwrap()).unwrap();
        assert_eq!(back, shape);
        assert_eq!(back.columns()[2].index, 1);
    }

    #[test]
    fn an_extended_shape_keeps_all_places() {
        let catalog = catalog();
        let shape = sample(&catalog);
        let more = shape.extended(&catalog, &[], &[column(&["socket1"], 1, 1)]);
        assert!(more.extends(&shape) && !shape.extends(&more));
        assert_eq!(more.columns()[3].index, 1);
        assert_ne!(more.hash(), shape.hash());
    }

    #[test]
    fn an_extension_is_known_by_all_that_was_added() {
        let catalog = catalog();
        let old = sample(&catalog);
        let (columns, frequencies) = ([column(&["socket1"], 1, 1), column(&["socket1"], 0, 2)], [30]);
        let new = old.extended(&catalog, &frequencies, &columns);
        assert!(new.is_extension(&old, &frequencies, &columns));
        let other = Shape::empty(&catalog).extended(
            &catalog,
            &[10, 60],
            &[column(&[], 0, 0), column(&["socket0"], 1, 1), column(&["socket0", "die2"], 0, 0)],
        );
        assert!(!new.is_extension(&other, &frequencies, &columns));
        assert!(!new.is_extension(&old, &[31], &columns));
        assert!(!new.is_extension(&old, &frequencies, &columns[..1]));
        for changed in [column(&["socket2"], 0, 2), column(&["socket1"], 1, 2), column(&["socket1"], 0, 1)] {
            assert!(!new.is_extension(&old, &frequencies, &[columns[0].clone(), changed]));
        }
    }

    #[test]
    fn rows_get_a_shape_of_just_their_columns() {
        let catalog = catalog();
        let shape = sample(&catalog).extended(&catalog, &[], &[column(&["socket1"], 0, 0)]);
        let row = |buffer, slot, cells: &[(u32, f32)]| Row { buffer, anchor: 7, slot, cells: cells.to_vec() };
        let rows = [
            row(1, 60, &[(0, 1.0)]),
            row(0, 10, &[(2, 2.0), (0, 3.0), (2, 4.0), (9, 5.0)]),
            row(0, 20, &[(0, 6.0)]),
            row(5, 30, &[(0, 7.0)]),
        ];
        let (part, renumbered) = shape.of_rows(&catalog, &rows);
        let frequencies: Vec<u32> = part.buffers().iter().map(|buffer| buffer.frequency_s).collect();
        assert_eq!(frequencies, [60, 10]);
        let named: Vec<_> =
            part.columns().iter().map(|c| (c.path.join("/"), c.metric.0, c.buffer, c.index)).collect();
        assert_eq!(
            named,
            [("socket0".into(), 1, 0, 0), ("socket1".into(), 0, 1, 0), (String::new(), 0, 1, 1)]
        );
        assert_eq!(
            renumbered,
            [row(0, 60, &[(0, 1.0)]), row(1, 10, &[(0, 2.0), (1, 3.0), (0, 4.0)]), row(1, 20, &[(1, 6.0)]),]
        );
    }

    #[test]
    fn the_hash_does_not_depend_on_the_numbers_of_metrics() {
        let (one, other) = (catalog(), Catalog::default());
        for name in ["b", "a"] {
            other.register(Metric { name: name.into(), ..(*one.of(MetricId(0))).clone() });
        }
        let bytes = sample(&one).encode(&one);
        let there = Shape::decode(&bytes, |name, _| other.id(name).unwrap()).unwrap();
        assert_eq!(there.hash(), sample(&one).hash());
        assert_eq!(there.encode(&other), bytes);
    }

    #[test]
    fn every_cut_of_a_shape_is_an_error() {
        let catalog = catalog();
        let bytes = sample(&catalog).encode(&catalog);
        for cut in 0..bytes.len() {
            assert_eq!(
                Shape::decode(&bytes[..cut], |_, _| MetricId(0)),
                Err(ShapeError::Length),
                "cut at {cut}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Shape::decode(&longer, |_, _| MetricId(0)), Err(ShapeError::Length));
    }
}
