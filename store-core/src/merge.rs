//! [`Table`]: decoded rows of several blocks, to be patched and sealed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Timestamp;
use crate::block::{BLOCK_ROWS_MAX, Block, BlockHeader};
use crate::codec;
use crate::grid::Grid;
use crate::pages::Present;
use crate::shape::{Shape, ShapeHash};
use crate::stamp::Stamp;

/// Rows of one buffer, decoded column by column.
#[derive(Debug, Clone)]
pub struct Table {
    grid: Grid,
    buffer: u16,
    base: Timestamp,
    rows: u32,
    width: u32,
    /// Columns that are missing throughout are left out: a file may say thousands of series, each at another time.
    columns: BTreeMap<u32, Vec<f32>>,
    as_of: Stamp,
}

impl Table {
    /// A table of `rows` rows from the slot `base` on and `width` columns, all missing.
    ///
    /// # Panics
    /// If `rows` is not 1 to 256.
    pub fn new(grid: Grid, buffer: u16, base: Timestamp, rows: u32, width: u32) -> Self {
        assert!((1..=BLOCK_ROWS_MAX).contains(&rows), "a block has 1 to 256 rows");
        Self { grid, buffer, base, rows, width, columns: BTreeMap::new(), as_of: Stamp::ZERO }
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
        let width = self.width.min(header.columns);
        let present = Present::default();
        block.ensure(0..=width.saturating_sub(1), &present);
        for index in 0..width {
            let filled = block.is_filled(index, &present);
            let column = match self.columns.get_mut(&index) {
                Some(column) => column,
                None if filled => self.columns.entry(index).or_insert_with(|| missing(self.rows)),
                None => continue,
            };
            // Of a damaged column only the range is known, and all of it is missing then: what is older must not show
            // in its place.
            block.decode(index, there..there + rows, &mut column[here..here + rows], &present).ok();
        }
        self.as_of = self.as_of.max(header.as_of);
    }

    /// Lays the columns of a block that are what was written over what is here, and leaves the others as they are: what
    /// was being saved when the process ended, over what was there before.
    pub fn lay_undamaged(&mut self, block: &Block) {
        let damaged: Vec<u32> = block.damaged_columns().into_iter().map(|(column, _)| column).collect();
        let kept: Vec<(u32, Option<Vec<f32>>)> =
            damaged.iter().map(|column| (*column, self.columns.remove(column))).collect();
        self.lay(block);
        for (column, values) in kept {
            match values {
                Some(values) => self.columns.insert(column, values),
                None => self.columns.remove(&column),
            };
        }
    }

    /// Writes one cell; returns whether its bits changed. A slot or a column outside of the table is left alone.
    pub fn write(&mut self, slot: Timestamp, column: u32, value: f32) -> bool {
        let row = slot.saturating_sub(self.base).div_euclid(i64::from(self.grid.frequency_s));
        let Some(row) = usize::try_from(row).ok().filter(|row| *row < self.rows as usize) else {
            return false;
        };
        if column >= self.width || (value.is_nan() && !self.columns.contains_key(&column)) {
            return false;
        }
        let cell = &mut self.columns.entry(column).or_insert_with(|| missing(self.rows))[row];
        let changed = cell.to_bits() != value.to_bits();
        *cell = value;
        changed
    }

    /// Writes the values of consecutive rows from `row` on, but for the missing ones. Returns how many those are not.
    ///
    /// # Panics
    /// If the table has not that many rows, or not the column.
    pub fn write_run(&mut self, row: u32, column: u32, values: &[f32]) -> u64 {
        assert!(column < self.width, "a column of the table");
        let target = &mut self.columns.entry(column).or_insert_with(|| missing(self.rows))[row as usize..];
        let mut written = 0;
        for (cell, value) in
            target[..values.len()].iter_mut().zip(values).filter(|(_, value)| !value.is_nan())
        {
            *cell = *value;
            written += 1;
        }
        written
    }

    /// The table without the rows before its first sample and behind its last, and without the columns behind the
    /// last that has one; `None` if it has none.
    pub fn trimmed(mut self) -> Option<Self> {
        self.columns.retain(|_, column| column.iter().any(|value| !value.is_nan()));
        let first =
            self.columns.values().filter_map(|column| column.iter().position(|v| !v.is_nan())).min()?;
        let last =
            self.columns.values().filter_map(|column| column.iter().rposition(|v| !v.is_nan())).max()?;
        for column in self.columns.values_mut() {
            column.truncate(last + 1);
            column.drain(..first);
        }
        self.width = self.columns.last_key_value()?.0 + 1;
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
            columns: self.width,
            as_of,
            shape: ShapeHash([0; 16]),
            body_bytes: 0,
        };
        Block::seal(header, shape, |index, out| match self.columns.get(&index) {
            Some(column) => out.copy_from_slice(column),
            None => out.fill(f32::NAN),
        })
    }
}

fn missing(rows: u32) -> Vec<f32> {
    vec![f32::NAN; rows as usize]
}

/// Merges blocks of one buffer into as few as possible: blocks of one grid whose ranges touch or overlap become
/// blocks of up to 256 rows. Of overlapping blocks the greater `as_of` wins slot by slot, and the merged block
/// takes the greatest. Gaps between blocks stay gaps. A block that is as it would be made is not made again.
///
/// The result is in the order of time. `columns` is the number of columns of the buffer under `shape`.
pub fn merge(blocks: &[Arc<Block>], shape: &Arc<Shape>, columns: u32) -> Vec<Arc<Block>> {
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
            let until = base + i64::from(rows) * step;
            let mut here =
                laid.iter().filter(|block| block.header().base < until && base < block.header().end());
            let is_made = |block: &&&Arc<Block>| {
                let header = block.header();
                (header.base, header.rows, header.columns) == (base, rows, columns)
                    && (header.codec, header.shape) == (codec::ADAPTIVE, shape.hash())
                    && block.damaged_columns().is_empty()
            };
            merged.push(match (here.next().filter(is_made), here.next()) {
                (Some(made), None) => Arc::clone(made),
                _ => {
                    let mut table = Table::new(grid, first.header().buffer, base, rows, columns);
                    laid.iter().for_each(|block| table.lay(block));
                    Arc::new(table.seal(Arc::clone(shape), table.as_of()))
                }
            });
            base = until;
        }
        rest = &rest[run..];
    }
    merged
}
