//! [`Relog`]: logging again what a buffer holds, piece by piece.

use std::ops::Range;
use std::sync::Arc;

use super::Buffer;
use crate::Timestamp;
use crate::block::{Block, BlockState};
use crate::grid::Grid;
use crate::head::Head;
use crate::merge::Table;
use crate::row::Row;
use crate::stamp::Stamp;

/// Cells of a block or head that are logged again at a time: about 1 MiB of log, and some milliseconds.
const PIECE_CELLS: u32 = 1 << 17;

/// How far a buffer was logged again. To be kept between the pieces, during which rows may come in.
#[derive(Debug, Default)]
pub struct Relog {
    under_way: Option<UnderWay>,
}

/// A block or head of which some columns were logged again, and others not yet.
#[derive(Debug)]
struct UnderWay {
    what: What,
    /// The columns up to this one were.
    columns: u32,
    /// The least and the greatest stamp that they were given.
    first: Stamp,
    last: Stamp,
}

#[derive(Debug, Clone)]
enum What {
    Block(Arc<Block>),
    /// The head, or frozen head, of this anchor and base.
    Head(Timestamp, Timestamp),
}

impl UnderWay {
    fn new(what: What) -> Self {
        Self { what, columns: 0, first: Stamp::MAX, last: Stamp::ZERO }
    }

    /// The rows of the next columns that have any; `None` behind the last one. Nobody writes between columns that have
    /// none and the next ones, so that `first` is before everything that is written from then on.
    fn next(
        &mut self,
        rows: u32,
        width: u32,
        mut rows_of: impl FnMut(Range<u32>) -> Vec<Row>,
    ) -> Option<Vec<Row>> {
        let each = (PIECE_CELLS / rows.max(1)).max(1);
        while self.columns < width {
            let from = self.columns;
            self.columns = from.saturating_add(each).min(width);
            let rows = rows_of(from..self.columns);
            if !rows.is_empty() {
                return Some(rows);
            }
        }
        None
    }

    fn note(&mut self, stamp: Stamp) {
        (self.first, self.last) = (self.first.min(stamp), self.last.max(stamp));
    }
}

impl Buffer {
    /// Logs again one piece of what has rows whose stamps lie `within`, if there is any: calls `visit` with rows that
    /// fit into one record, and takes the stamp that it returns for theirs. Whether there was any; to be called until
    /// there is none.
    ///
    /// No value is logged behind one that came after it, so that a kill between two pieces changes nothing: a block is
    /// cut to the slots at which it wins first.
    ///
    /// Pieces are some columns of all rows, rather than all columns of some rows: a block gives its columns one by one.
    pub fn relog(
        &mut self,
        within: &Range<Stamp>,
        progress: &mut Relog,
        mut visit: impl FnMut(&[Row]) -> Stamp,
    ) -> bool {
        let started = progress.under_way.take().filter(|under_way| self.is_here(&under_way.what));
        let Some(mut under_way) = started.or_else(|| self.next_within(within).map(UnderWay::new)) else {
            return false;
        };
        let number = self.number;
        let rows = match under_way.what.clone() {
            What::Block(block) => {
                if self.overlapping && self.cut_to_what_wins(&block) {
                    return true;
                }
                let header = block.header();
                under_way.next(header.rows, header.columns, |columns| rows_of_block(number, &block, columns))
            }
            What::Head(anchor, base) => self.head_at(anchor, base).and_then(|head| {
                under_way.next(head.rows(), head.stride(), |columns| rows_of_head(number, head, columns))
            }),
        };
        match rows {
            Some(rows) => {
                under_way.note(visit(&rows));
                progress.under_way = Some(under_way);
            }
            None => self.note_logged(&under_way),
        }
        true
    }

    /// The next block or head with rows whose stamps lie within a range.
    fn next_within(&self, within: &Range<Stamp>) -> Option<What> {
        let meets = |first: Stamp, last: Stamp| first < within.end && last >= within.start;
        let block = self.blocks.iter().find(|held| match held.state {
            BlockState::Unsaved { first } => meets(first, held.block.header().as_of),
            BlockState::Saved | BlockState::Imported => false,
        });
        let head = || self.heads().find(|head| meets(head.first(), head.last()));
        block
            .map(|held| What::Block(Arc::clone(&held.block)))
            .or_else(|| head().map(|head| What::Head(head.grid().anchor, head.base())))
    }

    fn is_here(&self, what: &What) -> bool {
        match what {
            What::Block(block) => self.blocks.iter().any(|held| {
                Arc::ptr_eq(&held.block, block) && matches!(held.state, BlockState::Unsaved { .. })
            }),
            What::Head(anchor, base) => self.head_at(*anchor, *base).is_some(),
        }
    }

    fn head_at(&self, anchor: Timestamp, base: Timestamp) -> Option<&Head> {
        self.heads().find(|head| (head.grid().anchor, head.base()) == (anchor, base))
    }

    /// Everything in it was logged again.
    fn note_logged(&mut self, UnderWay { what, first, last, .. }: &UnderWay) {
        match what {
            What::Block(block) => {
                let Some(at) = self.blocks.iter().position(|held| Arc::ptr_eq(&held.block, block)) else {
                    return;
                };
                let held = &mut Arc::make_mut(&mut self.blocks)[at];
                // It wins wherever it did before, for nothing overlaps it now. A start takes a block for half-saved
                // unless the log is not needed before its stamp.
                held.block = Arc::new(block.restamped(block.header().as_of.max(*last)));
                held.state = BlockState::Unsaved { first: *first };
            }
            What::Head(anchor, base) => {
                let mut heads = [&mut self.frozen, &mut self.head].into_iter().flatten();
                let head = heads.find(|head| (head.grid().anchor, head.base()) == (*anchor, *base));
                if let Some(head) = head {
                    head.logged_again(*first, *last);
                }
            }
        }
    }

    /// Puts in the place of a block the runs of its slots that no other block knows better. Whether there are others.
    fn cut_to_what_wins(&mut self, block: &Arc<Block>) -> bool {
        let header = *block.header();
        let step = i64::from(header.grid.frequency_s);
        let wins = |row: &u32| {
            let slot = header.base + i64::from(*row) * step;
            let winner = self.covering(header.grid.anchor, slot);
            winner.is_some_and(|winner| Arc::ptr_eq(&winner.block, block))
        };
        let won: Vec<u32> = (0..header.rows).filter(wins).collect();
        if won.len() == header.rows as usize {
            return false;
        }
        let Some(at) = self.blocks.iter().position(|held| Arc::ptr_eq(&held.block, block)) else {
            return false;
        };
        let held = Arc::make_mut(&mut self.blocks).remove(at);
        for run in won.chunk_by(|a, b| a + 1 == *b) {
            let base = header.base + i64::from(run[0]) * step;
            let mut table = Table::new(header.grid, self.number, base, run.len() as u32, header.columns);
            table.lay(block);
            let part = table.seal(Arc::clone(block.shape()), header.as_of);
            self.insert(Arc::new(part), held.state);
        }
        self.note_removed();
        true
    }
}

fn rows_of_block(buffer: u16, block: &Block, columns: Range<u32>) -> Vec<Row> {
    let header = block.header();
    let values: Vec<(u32, Vec<f32>)> = columns.map(|index| (index, block.column(index))).collect();
    let cells = |row: u32| values.iter().map(move |(index, of)| (*index, of[row as usize]));
    rows_of(buffer, header.grid, header.base, header.rows, cells)
}

fn rows_of_head(buffer: u16, head: &Head, columns: Range<u32>) -> Vec<Row> {
    let cells = |row: u32| columns.clone().map(move |column| (column, head.value(row, column)));
    rows_of(buffer, head.grid(), head.base(), head.rows(), cells)
}

/// Rows without what is missing.
fn rows_of<C: Iterator<Item = (u32, f32)>>(
    buffer: u16,
    grid: Grid,
    base: Timestamp,
    rows: u32,
    cells_of: impl Fn(u32) -> C,
) -> Vec<Row> {
    let rows = (0..rows).map(|row| Row {
        buffer,
        anchor: grid.anchor,
        slot: base + i64::from(row) * i64::from(grid.frequency_s),
        cells: cells_of(row).filter(|(_, value)| !value.is_nan()).collect(),
    });
    rows.filter(|row| !row.cells.is_empty()).collect()
}
