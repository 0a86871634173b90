//! [`Row`] and [`Rows`]: cells of one host on their way into memory and into the log.

use crate::Timestamp;

/// Cells of one slot of one buffer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The buffer of the host.
    pub buffer: u16,
    /// From which the buffer's slots are counted at this moment.
    pub anchor: Timestamp,
    /// The slot's time.
    pub slot: Timestamp,
    /// Columns of the buffer and their values; of two for one column the later counts.
    pub cells: Vec<(u32, f32)>,
}

/// A row whose cells stand somewhere else: in a [`Row`], or in a record that is read back.
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    /// The buffer of the host.
    pub buffer: u16,
    /// From which the buffer's slots are counted at this moment.
    pub anchor: Timestamp,
    /// The slot's time.
    pub slot: Timestamp,
    /// Columns of the buffer and their values.
    pub cells: Cells<'a>,
}

/// The cells of a row.
#[derive(Debug, Clone, Copy)]
pub enum Cells<'a> {
    /// Columns and their values; of two for one column the later counts.
    Listed(&'a [(u32, f32)]),
    /// Values of the first columns, little endian. Most rows of a log are that, and are copied as they are.
    First(&'a [[u8; 4]]),
}

impl Cells<'_> {
    /// How many columns a row needs to have these: the greatest number and one; 0 if there are no cells.
    pub fn span(self) -> usize {
        match self {
            Self::Listed(cells) => cells.iter().map(|(column, _)| *column as usize + 1).max().unwrap_or(0),
            Self::First(values) => values.len(),
        }
    }

    /// Writes the cells into a row.
    ///
    /// # Panics
    /// If `row` is shorter than the [span](Self::span).
    pub fn write_to(self, row: &mut [f32]) {
        match self {
            Self::Listed(cells) => cells.iter().for_each(|&(column, value)| row[column as usize] = value),
            Self::First(values) => {
                for (cell, bytes) in row[..values.len()].iter_mut().zip(values) {
                    *cell = f32::from_le_bytes(*bytes);
                }
            }
        }
    }
}

impl Row {
    /// The row as a view.
    pub fn view(&self) -> RowView<'_> {
        let Self { buffer, anchor, slot, .. } = *self;
        RowView { buffer, anchor, slot, cells: Cells::Listed(&self.cells) }
    }
}

impl RowView<'_> {
    /// The row with cells of its own.
    pub fn to_row(self) -> Row {
        let Self { buffer, anchor, slot, .. } = self;
        let cells = match self.cells {
            Cells::Listed(cells) => cells.to_vec(),
            Cells::First(values) => {
                (0..).zip(values.iter().map(|bytes| f32::from_le_bytes(*bytes))).collect()
            }
        };
        Row { buffer, anchor, slot, cells }
    }
}

/// The rows of a host's batch, in the order in which they are to be applied.
///
/// Kept and used again, because a batch's allocations would otherwise be most of its cost; but not what only one
/// huge batch needed.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    len: usize,
    /// Per buffer, the row that is being filled.
    open: Vec<usize>,
}

const ROWS_KEPT: usize = 1024;
const CELLS_KEPT: usize = 1 << 15;

/// Cells that a row is given before the next one of the same slot begins: a record holds whole rows, and a message may
/// say one slot as often as it likes.
pub const ROW_CELLS_MAX: usize = 1 << 18;

impl Rows {
    /// Forgets all rows, and keeps the memory of as many as a common batch has.
    pub fn clear(&mut self) {
        self.len = 0;
        let mut cells = 0;
        let kept = self.rows.iter().take(ROWS_KEPT).take_while(|row| {
            cells += row.cells.capacity();
            cells <= CELLS_KEPT
        });
        let kept = kept.count();
        self.rows.truncate(kept);
        self.rows.shrink_to(ROWS_KEPT);
        self.open.fill(usize::MAX);
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let cells: usize = self.rows.iter().map(|row| row.cells.capacity()).sum();
        self.rows.capacity() * size_of::<Row>()
            + cells * size_of::<(u32, f32)>()
            + self.open.capacity() * size_of::<usize>()
    }

    /// The rows.
    pub fn as_slice(&self) -> &[Row] {
        &self.rows[..self.len]
    }

    /// The rows as views.
    pub fn views(&self) -> impl Iterator<Item = RowView<'_>> {
        self.as_slice().iter().map(Row::view)
    }

    /// The rows, to be changed. One that is left without cells is none to whoever applies it.
    pub fn as_mut_slice(&mut self) -> &mut [Row] {
        &mut self.rows[..self.len]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row that cells of a slot are added to, at most [`ROW_CELLS_MAX`] at a time: the buffer's last one if that is
    /// the same slot and has room, else a new one.
    pub fn row(&mut self, buffer: u16, anchor: Timestamp, slot: Timestamp) -> &mut Row {
        let at = usize::from(buffer);
        if at >= self.open.len() {
            self.open.resize(at + 1, usize::MAX);
        }
        let open = self.open[at];
        let goes_on = |row: &Row| row.slot == slot && row.anchor == anchor && row.cells.len() < ROW_CELLS_MAX;
        if open < self.len && goes_on(&self.rows[open]) {
            return &mut self.rows[open];
        }
        self.open[at] = self.len;
        self.add(buffer, anchor, slot)
    }

    /// Adds an empty row.
    pub fn add(&mut self, buffer: u16, anchor: Timestamp, slot: Timestamp) -> &mut Row {
        if self.len == self.rows.len() {
            self.rows.push(Row::default());
        }
        let row = &mut self.rows[self.len];
        self.len += 1;
        (row.buffer, row.anchor, row.slot) = (buffer, anchor, slot);
        row.cells.clear();
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_one_slot_share_a_row_also_when_buffers_alternate() {
        let mut rows = Rows::default();
        for (buffer, slot, index) in [(0, 10, 0), (1, 60, 0), (0, 10, 1), (1, 60, 2), (0, 20, 0), (0, 10, 3)]
        {
            rows.row(buffer, 0, slot).cells.push((index, 1.0));
        }
        let seen: Vec<_> = rows.as_slice().iter().map(|r| (r.buffer, r.slot, r.cells.len())).collect();
        assert_eq!(seen, [(0, 10, 2), (1, 60, 2), (0, 20, 1), (0, 10, 1)]);
        rows.clear();
        rows.row(0, 0, 20).cells.push((4, 2.0));
        assert_eq!(rows.as_slice(), [Row { buffer: 0, anchor: 0, slot: 20, cells: vec![(4, 2.0)] }]);
    }
}
