//! [`Head`]: the rows that are being written.

use std::sync::Arc;

use crate::Timestamp;
use crate::block::{Block, BlockHeader};
use crate::codec;
use crate::grid::Grid;
use crate::row::Cells;
use crate::shape::{Shape, ShapeHash};
use crate::stamp::Stamp;

/// The rows of a full head.
pub const HEAD_ROWS_MAX: u32 = 64;

const ROWS_AT_FIRST: u32 = 16;

/// The newest rows of one buffer: row-major, one row per slot, one cell per column, NaN where nothing was sent.
///
/// Rows of all columns rather than a tail per series: a host's batch writes one contiguous row, missing values
/// need no bookkeeping, and a series costs nothing beyond its cells.
#[derive(Debug, Clone)]
pub struct Head {
    grid: Grid,
    base: Timestamp,
    rows: u32,
    rows_max: u32,
    stride: u32,
    /// Shared with whoever encodes the rows at the moment; a write then copies them. Room is made for many rows
    /// at once, but the cells of one are there only when it or a later one is written: memory that was never
    /// touched costs nothing.
    cells: Arc<Vec<f32>>,
    first: Stamp,
    last: Stamp,
    /// The time, by the caller's clock, at which the head was begun.
    begun: Timestamp,
}

impl Head {
    /// An empty head whose row 0 is the slot `base`, for at most `rows_max` rows of `columns` columns.
    pub fn new(grid: Grid, base: Timestamp, rows_max: u32, columns: u32, begun: Timestamp) -> Self {
        let rows_max = rows_max.clamp(1, HEAD_ROWS_MAX);
        Self {
            grid,
            base,
            rows: 0,
            rows_max,
            stride: columns,
            cells: Arc::default(),
            first: Stamp::MAX,
            last: Stamp::ZERO,
            begun,
        }
    }

    /// The slots, and how they are counted.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Time of row 0.
    pub fn base(&self) -> Timestamp {
        self.base
    }

    /// Columns that the rows have room for.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// Rows up to the newest that was written.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Stamp of the oldest row that was applied.
    pub fn first(&self) -> Stamp {
        self.first
    }

    /// Stamp of the newest row that was applied.
    pub fn last(&self) -> Stamp {
        self.last
    }

    /// When the head was begun, by the caller's clock.
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// The first moment behind the last written row: base + rows · frequency.
    pub fn end(&self) -> Timestamp {
        self.base + i64::from(self.rows) * i64::from(self.grid.frequency_s)
    }

    /// The row of a slot if this head has, or may grow to, that row.
    pub fn row(&self, anchor: Timestamp, slot: Timestamp) -> Option<u32> {
        if anchor != self.grid.anchor || slot < self.base {
            return None;
        }
        let row = slot.saturating_sub(self.base) / i64::from(self.grid.frequency_s);
        u32::try_from(row).ok().filter(|row| *row < self.rows_max)
    }

    /// The row of a slot if it lies among the rows that were written.
    pub fn written_row(&self, anchor: Timestamp, slot: Timestamp) -> Option<u32> {
        self.row(anchor, slot).filter(|row| *row < self.rows)
    }

    /// Whether no row is left to be written.
    pub fn is_full(&self) -> bool {
        self.rows == self.rows_max
    }

    /// Rows that are left to be written, or to be put in front.
    pub fn spare_rows(&self) -> u32 {
        self.rows_max - self.rows
    }

    /// Writes cells of one row.
    ///
    /// # Panics
    /// If `row` is not below the head's greatest number of rows.
    pub fn write(&mut self, row: u32, cells: Cells<'_>, stamp: Stamp) {
        assert!(row < self.rows_max, "a row of the head");
        let columns = cells.span() as u32;
        if columns > self.stride {
            self.widen(columns);
        }
        cells.write_to(self.row_mut(row));
        self.rows = self.rows.max(row + 1);
        self.first = self.first.min(stamp);
        self.last = self.last.max(stamp);
    }

    /// The cells of a row, to be written, and nobody else's.
    fn row_mut(&mut self, row: u32) -> &mut [f32] {
        let stride = self.stride as usize;
        let end = (row as usize + 1) * stride;
        let mut capacity = self.cells.capacity();
        if end > capacity {
            let rows = (capacity / stride) as u32 * 2;
            capacity = rows.max(ROWS_AT_FIRST).max(row + 1).min(self.rows_max) as usize * stride;
        }
        if Arc::get_mut(&mut self.cells).is_none() {
            // Rather than as they are: a copy without room would be copied again at the next row.
            let mut copy = Vec::with_capacity(capacity);
            copy.extend_from_slice(&self.cells);
            self.cells = Arc::new(copy);
        }
        let all = Arc::make_mut(&mut self.cells);
        if end > all.len() {
            all.reserve_exact(capacity - all.len());
            all.resize(end, f32::NAN);
        }
        &mut all[end - stride..end]
    }

    /// Puts `rows` empty rows in front.
    ///
    /// # Panics
    /// If the head has not that many to spare.
    pub fn prepend(&mut self, rows: u32) {
        assert!(rows <= self.spare_rows(), "rows to spare");
        let stride = self.stride as usize;
        let all = Arc::make_mut(&mut self.cells);
        all.truncate(self.rows as usize * stride);
        all.splice(0..0, std::iter::repeat_n(f32::NAN, rows as usize * stride));
        self.base -= i64::from(rows) * i64::from(self.grid.frequency_s);
        self.rows += rows;
    }

    /// Room for more columns, and some to spare: new series come in groups.
    fn widen(&mut self, columns: u32) {
        let stride = if self.cells.is_empty() { columns } else { columns + columns / 8 };
        let mut wider = vec![f32::NAN; self.rows.max(1) as usize * stride as usize];
        for row in 0..self.rows as usize {
            let old = &self.cells[row * self.stride as usize..][..self.stride as usize];
            wider[row * stride as usize..][..old.len()].copy_from_slice(old);
        }
        self.cells = Arc::new(wider);
        self.stride = stride;
    }

    /// The value of a column in a row; NaN if it was never written.
    pub fn value(&self, row: u32, column: u32) -> f32 {
        if row >= self.rows || column >= self.stride {
            return f32::NAN;
        }
        self.cells[row as usize * self.stride as usize + column as usize]
    }

    /// The cells of a row that was written, those of the first columns; columns behind them have no value.
    ///
    /// # Panics
    /// If the row was not written.
    pub fn cells(&self, row: u32) -> &[f32] {
        assert!(row < self.rows, "a row that was written");
        &self.cells[row as usize * self.stride as usize..][..self.stride as usize]
    }

    /// The written rows of a column.
    pub fn column(&self, column: u32) -> impl DoubleEndedIterator<Item = f32> + ExactSizeIterator + '_ {
        (0..self.rows).map(move |row| self.value(row, column))
    }

    /// Whether `other` holds the same cells in the same memory: nothing was written since one was cloned.
    pub fn is_same(&self, other: &Head) -> bool {
        Arc::ptr_eq(&self.cells, &other.cells)
            && self.rows == other.rows
            && self.last == other.last
            && self.first == other.first
    }

    /// Notes that all rows stand in records from `first` to `last` again, or in later ones.
    pub fn logged_again(&mut self, first: Stamp, last: Stamp) {
        (self.first, self.last) = (first, self.last.max(last));
    }

    /// Encodes the rows. `columns` is how many columns the buffer has under `shape`.
    ///
    /// # Panics
    /// If no row was written.
    pub fn seal(&self, buffer: u16, columns: u32, shape: Arc<Shape>) -> Block {
        let header = BlockHeader {
            codec: codec::ADAPTIVE,
            buffer,
            grid: self.grid,
            base: self.base,
            rows: self.rows,
            columns,
            as_of: self.last,
            shape: ShapeHash([0; 16]),
            body_bytes: 0,
        };
        Block::seal(header, shape, |column, out| match self.cells.get(column as usize..) {
            Some(cells) if column < self.stride => {
                let cells = cells.iter().step_by(self.stride as usize);
                out.iter_mut().zip(cells).for_each(|(value, cell)| *value = *cell);
            }
            _ => out.fill(f32::NAN),
        })
    }

    /// Bytes on the heap, those of the shared list's front included.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Vec<f32>>() + 2 * size_of::<usize>() + self.cells.capacity() * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(rows_max: u32) -> Head {
        Head::new(Grid { anchor: 0, frequency_s: 10 }, 100, rows_max, 2, 0)
    }

    #[test]
    fn skipped_rows_and_unwritten_columns_are_missing() {
        let mut head = head(64);
        head.write(2, Cells::Listed(&[(1, 5.0)]), Stamp(9));
        assert_eq!((head.rows(), head.end()), (3, 130));
        assert_eq!(head.column(1).filter(|v| !v.is_nan()).collect::<Vec<_>>(), [5.0]);
        assert!(head.value(2, 0).is_nan() && head.value(2, 7).is_nan() && head.value(3, 1).is_nan());
    }

    #[test]
    fn a_head_grows_to_its_limit_and_no_further() {
        let mut head = head(20);
        for row in 0..20 {
            head.write(row, Cells::Listed(&[(0, row as f32)]), Stamp(u64::from(row) + 1));
        }
        assert!(head.is_full());
        assert_eq!(head.row(0, 290), Some(19));
        assert_eq!(head.row(0, 300), None);
        assert_eq!(head.column(0).collect::<Vec<_>>(), (0..20).map(|n| n as f32).collect::<Vec<_>>());
        assert_eq!((head.first(), head.last()), (Stamp(1), Stamp(20)));
        assert_eq!(head.heap_bytes(), 40 + 20 * 2 * 4);
    }

    #[test]
    fn a_new_column_keeps_what_was_written() {
        let mut head = head(64);
        head.write(0, Cells::Listed(&[(0, 1.0), (1, 2.0)]), Stamp(1));
        head.write(1, Cells::Listed(&[(9, 3.0)]), Stamp(2));
        assert_eq!((head.value(0, 0), head.value(0, 1), head.value(1, 9)), (1.0, 2.0, 3.0));
        assert!(head.value(0, 9).is_nan());
    }

    #[test]
    fn prepended_rows_move_the_others_back() {
        let mut head = head(4);
        head.write(1, Cells::Listed(&[(0, 1.0)]), Stamp(1));
        head.prepend(2);
        assert_eq!(head.spare_rows(), 0);
        assert_eq!((head.base(), head.rows(), head.value(3, 0)), (80, 4, 1.0));
        head.write(0, Cells::Listed(&[(0, 7.0)]), Stamp(2));
        assert_eq!(head.value(0, 0), 7.0);
    }

    #[test]
    fn a_write_while_the_rows_are_encoded_is_noticed() {
        let mut head = head(64);
        head.write(0, Cells::Listed(&[(0, 1.0)]), Stamp(1));
        let encoding = head.clone();
        assert!(head.is_same(&encoding));
        head.write(0, Cells::Listed(&[(0, 2.0)]), Stamp(2));
        assert!(!head.is_same(&encoding));
        assert_eq!((encoding.value(0, 0), head.value(0, 0)), (1.0, 2.0));
    }
}
