//! [`Table`]: decoded rows of several blocks, to be patched and sealed again.

use std::sync::Arc;

use crate::block::{BLOCK_ROWS_MAX, Block, BlockHeader};
use crate::codec;
use crate::grid::Grid;
use crate::shape::{Shape, ShapeHash};
use crate::stamp::Stamp;
use crate::Timestamp;

/// Rows of one buffer, decoded column by column.
#[derive(Debug, Clone)]
pub struct Table {
    grid: Grid,
    buffer: u16,
    base: Timestamp,
    rows: u32,
    columns: Vec<Vec<f32>>,
    as_of: Stamp,
}

impl Table {
    /// A table of `rows` rows from the slot `base` on, all missing.
    ///
    /// # Panics
    /// If `rows` is not 1 to 256.
    pub fn new(grid: Grid, buffer: u16, base: Timestamp, rows: u32, columns: u32) -> Self {
        assert!((1..=BLOCK_ROWS_MAX).contains(&rows), "a block has 1 to 256 rows");
        let columns = vec![vec![f32::NAN; rows as usize]; columns as usize];
        Self { grid, buffer, base, rows, columns, as_of: Stamp::ZERO }
    }

    /// Lays a block over what is here: it is complete for its range, so its missing values count too.
    /// Blocks are to be laid in the order of their `as_of`.
    pub fn lay(&mut self, block: &Block) {
        let header = block.header();
        let (from, to) = (self.base.max(header.base), self.end().min(header.end()));
        if header.grid != self.grid || from >= to {
            return;
        }
        let step = i64::from(self.grid.frequency_s);
        let (here, there) = (((from - self.base) / step) as usize, ((from - header.base) / step) as usize);
        let rows = ((to - from) / step) as usize;
        for (index, column) in self.columns.iter_mut().enumerate().take(header.columns as usize) {
            let values = block.column(index as u32);
            column[here..here + rows].copy_from_slice(&values[there..there + rows]);
        }
        self.as_of = self.as_of.max(header.as_of);
    }

    /// Writes one cell; returns whether its bits changed. A slot outside of the table is left alone.
    pub fn write(&mut self, slot: Timestamp, column: u32, value: f32) -> bool {
        let row = (slot - self.base) / i64::from(self.grid.frequency_s);
        let cell = usize::try_from(row)
            .ok()
            .and_then(|row| self.columns.get_mut(column as usize)?.get_mut(row));
        match cell {
            Some(cell) if cell.to_bits() != value.to_bits() => {
                *cell = value;
                true
            }
            _ => false,
        }
    }

    /// The table without the rows before its first sample and behind its last; `None` if it has none.
    pub fn trimmed(mut self) -> Option<Self> {
        let filled = |row: &usize| self.columns.iter().any(|column| !column[*row].is_nan());
        let first = (0..self.rows as usize).find(filled)?;
        let last = (0..self.rows as usize).rfind(filled)?;
        for column in &mut self.columns {
            column.truncate(last + 1);
            column.drain(..first);
        }
        self.base += first as i64 * i64::from(self.grid.frequency_s);
        self.rows = (last + 1 - first) as u32;
        Some(self)
    }

    /// Time behind the last row.
    pub fn end(&self) -> Timestamp {
        self.base + i64::from(self.rows) * i64::from(self.grid.frequency_s)
    }

    /// The greatest `as_of` of the blocks that were laid.
    pub fn as_of(&self) -> Stamp {
        self.as_of
    }

    /// Seals the rows under `shape`, as of `as_of`.
    pub fn seal(&self, shape: Arc<Shape>, as_of: Stamp) -> Block {
        let header = BlockHeader {
            codec: codec::ADAPTIVE,
            buffer: self.buffer,
            grid: self.grid,
            base: self.base,
            rows: self.rows,
            columns: self.columns.len() as u32,
            as_of,
            shape: ShapeHash([0; 16]),
            body_bytes: 0,
        };
        Block::seal(header, shape, |column, out| out.copy_from_slice(&self.columns[column as usize]))
    }
}

/// Merges blocks of one buffer into as few as possible: blocks of one grid whose ranges touch or overlap become
/// blocks of up to 256 rows. Of overlapping blocks the greater `as_of` wins slot by slot, and the merged block
/// takes the greatest. Gaps between blocks stay gaps.
///
/// The result is in the order of time. `columns` is the number of columns of the buffer under `shape`.
pub fn merge(blocks: &[Arc<Block>], shape: &Arc<Shape>, columns: u32) -> Vec<Block> {
    let mut ordered: Vec<&Arc<Block>> = blocks.iter().collect();
    ordered.sort_by_key(|block| (block.header().grid.anchor, block.header().base));
    let mut merged = Vec::new();
    let mut rest = &ordered[..];
    while let Some(first) = rest.first() {
        let (grid, mut end) = (first.header().grid, first.header().end());
        let run = rest
            .iter()
            .take_while(|block| {
                let header = block.header();
                let joins = header.grid == grid && header.base <= end;
                if joins {
                    end = end.max(header.end());
                }
                joins
            })
            .count();
        let mut laid: Vec<&Arc<Block>> = rest[..run].to_vec();
        laid.sort_by_key(|block| block.header().as_of);
        let step = i64::from(grid.frequency_s);
        let mut base = first.header().base;
        while base < end {
            let rows = ((end - base) / step).min(i64::from(BLOCK_ROWS_MAX)) as u32;
            let mut table = Table::new(grid, first.header().buffer, base, rows, columns);
            laid.iter().for_each(|block| table.lay(block));
            merged.push(table.seal(Arc::clone(shape), table.as_of()));
            base = table.end();
        }
        rest = &rest[run..];
    }
    merged
}
