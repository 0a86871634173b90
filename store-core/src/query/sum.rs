//! Adds many columns of one buffer, block by block.

use super::column::{BufferView, SelectedColumn};
use super::window::{Place, Span};
use crate::Timestamp;
use crate::block::Block;
use crate::grid::Grid;
use crate::head::Head;
use crate::pages::Present;

/// Rows of a head that are added together: each is a chain of additions, which wait for one another.
const ROWS: usize = 4;

/// Adds columns of `buffer` to `sums`, one value per step of the window that has these `spans`; a missing value makes
/// the sum missing. Each sum takes the columns in their order, so that its bits do not depend on where blocks are cut.
///
/// Block by block rather than column by column: what a block needs is found once for all columns, and no column is
/// ever laid out as a whole.
pub(super) fn add(buffer: &BufferView, columns: &[SelectedColumn], spans: &[Span], sums: &mut [f64]) {
    let mut done = 0;
    for Span { steps, slot, place, row } in spans {
        sums[done..steps.start].fill(f64::NAN);
        done = steps.end;
        let sums = &mut sums[steps.clone()];
        match *place {
            Place::Block(at) => add_block(buffer.block(at), columns, *row, sums, buffer.present(at)),
            Place::Head(at) => {
                if let Some(head) = buffer.heads().nth(at) {
                    add_head(head, columns, *row, sums);
                }
            }
            Place::Overlapping(grid) => add_one_by_one(buffer, columns, grid, *slot, sums),
        }
        for column in columns {
            let hidden = column.of(buffer).hidden(*slot).min(sums.len());
            sums[..hidden].fill(f64::NAN);
        }
    }
    sums[done..].fill(f64::NAN);
}

/// For blocks that overlap.
fn add_one_by_one(
    buffer: &BufferView,
    columns: &[SelectedColumn],
    grid: Grid,
    first: Timestamp,
    sums: &mut [f64],
) {
    let mut values = vec![f32::NAN; sums.len()];
    for column in columns {
        values.fill(f32::NAN);
        column.of(buffer).read_slots(grid, first, &mut values);
        sums.iter_mut().zip(&values).for_each(|(sum, &value)| *sum += f64::from(value));
    }
}

fn add_block(block: &Block, columns: &[SelectedColumn], row: usize, sums: &mut [f64], present: &Present) {
    let rows = row..row + sums.len();
    if columns.len() > 1 {
        let numbers = columns.iter().map(|column| column.index);
        let (first, last) = numbers.fold((u32::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
        block.ensure(first..=last, present);
    }
    if !columns.iter().all(|column| block.add_to(column.index, rows.clone(), sums, present)) {
        // What one column lacks the sum lacks.
        sums.fill(f64::NAN);
    }
}

fn add_head(head: &Head, columns: &[SelectedColumn], row: usize, sums: &mut [f64]) {
    let value = |cells: &[f32], column: &SelectedColumn| {
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
