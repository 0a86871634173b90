//! Adds many columns of one buffer, block by block.

use super::column::{BufferPlan, ColumnPlan};
use crate::Timestamp;
use crate::block::Block;
use crate::codec;
use crate::grid::Grid;
use crate::head::Head;

/// Rows of a head that are added together: each is a chain of additions, which wait for one another.
const ROWS: usize = 4;

/// Consecutive rows of a buffer.
enum Piece<'p> {
    Block(&'p Block),
    Head(&'p Head),
}

impl Piece<'_> {
    fn range(&self) -> (Timestamp, Timestamp) {
        match self {
            Self::Block(block) => (block.header().base, block.header().end()),
            Self::Head(head) => (head.base(), head.end()),
        }
    }
}

/// Adds columns of `buffer` to `sums`, one value per step of the buffer's own frequency from `from` on; a missing
/// value makes the sum missing. Each sum takes the columns in their order, so that its bits do not depend on where
/// blocks are cut.
///
/// Block by block rather than column by column: what a block needs is found once for all columns, and no column is
/// ever laid out as a whole.
pub(super) fn add(buffer: &BufferPlan, columns: &[ColumnPlan<'_>], from: Timestamp, sums: &mut [f64]) {
    let mut done = 0;
    buffer.each_grid(from, sums.len(), |grid, first, part| {
        done = part.end;
        add_slots(buffer, columns, grid, first, &mut sums[part]);
    });
    sums[done..].fill(f64::NAN);
}

/// The same for slots of one grid, from `first` on.
fn add_slots(
    buffer: &BufferPlan,
    columns: &[ColumnPlan<'_>],
    grid: Grid,
    first: Timestamp,
    sums: &mut [f64],
) {
    let step = buffer.step();
    let end = first + sums.len() as i64 * step;
    let pieces = || {
        let is_here = |head: &&Head| head.grid() == grid && head.base() < end && head.end() > first;
        let heads = buffer.heads().filter(is_here).map(Piece::Head);
        buffer.blocks_within(grid, first, end).map(Piece::Block).chain(heads)
    };
    let mut behind = Timestamp::MIN;
    let is_in_turn = |piece: Piece<'_>| {
        let (base, end) = piece.range();
        std::mem::replace(&mut behind, end) <= base
    };
    if !pieces().all(is_in_turn) {
        return add_one_by_one(columns, grid, first, sums);
    }
    let mut done = 0;
    for piece in pieces() {
        let (base, behind) = piece.range();
        let (low, high) = (base.max(first), behind.min(end));
        let (at, until) = (((low - first) / step) as usize, ((high - first) / step) as usize);
        sums[done..at].fill(f64::NAN);
        let row = ((low - base) / step) as usize;
        match piece {
            Piece::Block(block) => add_block(block, columns, row, &mut sums[at..until]),
            Piece::Head(head) => add_head(head, columns, row, &mut sums[at..until]),
        }
        done = until;
    }
    sums[done..].fill(f64::NAN);
    for column in columns {
        let hidden = column.hidden(first).min(sums.len());
        sums[..hidden].fill(f64::NAN);
    }
}

/// For blocks that overlap: which of them knows a slot best is decided column by column.
fn add_one_by_one(columns: &[ColumnPlan<'_>], grid: Grid, first: Timestamp, sums: &mut [f64]) {
    let mut values = vec![f32::NAN; sums.len()];
    for column in columns {
        values.fill(f32::NAN);
        column.read_slots(grid, first, &mut values);
        sums.iter_mut().zip(&values).for_each(|(sum, &value)| *sum += f64::from(value));
    }
}

fn add_block(block: &Block, columns: &[ColumnPlan<'_>], row: usize, sums: &mut [f64]) {
    let header = block.header();
    let rows = row..row + sums.len();
    let is_added = block.check()
        && columns.iter().all(|column| {
            block.payload(column.index).is_some_and(|payload| {
                codec::sum_into(header.codec, payload, header.rows as usize, rows.clone(), sums).is_ok()
            })
        });
    if !is_added {
        // What one column lacks the sum lacks.
        sums.fill(f64::NAN);
    }
}

fn add_head(head: &Head, columns: &[ColumnPlan<'_>], row: usize, sums: &mut [f64]) {
    let value = |cells: &[f32], column: &ColumnPlan<'_>| {
        f64::from(cells.get(column.index as usize).copied().unwrap_or(f32::NAN))
    };
    let (together, single) = sums.as_chunks_mut::<ROWS>();
    let mut row = row as u32;
    for sums in together {
        let cells: [&[f32]; ROWS] = std::array::from_fn(|n| head.cells(row + n as u32));
        for column in columns {
            for (sum, cells) in sums.iter_mut().zip(cells) {
                *sum += value(cells, column);
            }
        }
        row += ROWS as u32;
    }
    for sum in single {
        let cells = head.cells(row);
        columns.iter().for_each(|column| *sum += value(cells, column));
        row += 1;
    }
}
