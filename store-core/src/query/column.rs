//! [`BufferView`] and [`ColumnView`]: a buffer and one of its columns, as a query reads them.

use std::cell::OnceCell;
use std::sync::Arc;

use super::samples::{first_in_block, first_in_head, last_in_block, last_in_head};
use crate::Timestamp;
use crate::anchors::Anchors;
use crate::block::{BLOCK_ROWS_MAX, Block};
use crate::buffer::{Buffer, Held};
use crate::grid::Grid;
use crate::head::Head;
use crate::pages::Present;

/// What a buffer holds at one moment, shared with it rather than copied.
#[derive(Debug)]
pub(super) struct BufferView {
    /// Its number in the host.
    pub(super) number: u16,
    anchors: Anchors,
    /// In the order of bases.
    blocks: Arc<Vec<Held>>,
    /// What of each block this request has made present.
    present: OnceCell<Box<[Present]>>,
    /// Whether a block holds slots that another one holds too, which may know them better.
    overlapping: bool,
    /// In the order of time.
    heads: [Option<Head>; 2],
    /// The moment by which every sample ends: its slot has half a step behind its time.
    pub(super) ends_by: Timestamp,
}

/// A column that was selected.
#[derive(Debug, Clone, Copy)]
pub(super) struct SelectedColumn {
    /// Which of the selected series it belongs to.
    pub(super) series: u32,
    /// Its buffer's number.
    pub(super) buffer: u16,
    /// Its place in the buffer.
    pub(super) index: u32,
    /// What is older is hidden.
    pub(super) floor: Timestamp,
}

/// A column, and the rows of its buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnView<'p> {
    pub(super) buffer: &'p BufferView,
    pub(super) index: u32,
    pub(super) floor: Timestamp,
}

impl BufferView {
    pub(super) fn new(buffer: &Buffer, number: u16) -> Self {
        let mut heads = buffer.heads().cloned();
        let mut view = Self {
            number,
            anchors: buffer.anchors().clone(),
            blocks: buffer.share_blocks(),
            present: OnceCell::new(),
            overlapping: buffer.is_overlapping(),
            heads: [heads.next(), heads.next()],
            ends_by: Timestamp::MIN,
        };
        view.ends_by = view.last_end().saturating_sub(view.step() / 2);
        view
    }

    pub(super) fn frequency_s(&self) -> u32 {
        self.anchors.frequency_s()
    }

    pub(super) fn step(&self) -> i64 {
        i64::from(self.frequency_s())
    }

    /// Where the newest row ends.
    fn last_end(&self) -> Timestamp {
        let step = self.step();
        let mut end = self.heads().map(Head::end).max().unwrap_or(Timestamp::MIN);
        for header in self.blocks().rev().map(Block::header) {
            if header.base.saturating_add(i64::from(BLOCK_ROWS_MAX) * step) <= end {
                break;
            }
            end = end.max(header.end());
        }
        end
    }

    pub(super) fn heads(&self) -> impl Iterator<Item = &Head> {
        self.heads.iter().flatten()
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter().map(|held| &*held.block)
    }

    /// The blocks, and their places in the list.
    fn placed_blocks(&self) -> impl DoubleEndedIterator<Item = (usize, &Block)> {
        self.blocks.iter().map(|held| &*held.block).enumerate()
    }

    /// What of the block at a place of the list this request has made present.
    pub(super) fn present(&self, at: usize) -> &Present {
        &self.present.get_or_init(|| vec![Present::default(); self.blocks.len()].into())[at]
    }

    /// The block at a place of the list.
    pub(super) fn block(&self, at: usize) -> &Block {
        &self.blocks[at].block
    }

    /// The blocks of a grid that hold slots of `[from, to)`, and their places in the list, in the order of bases.
    pub(super) fn blocks_within(
        &self,
        grid: Grid,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (usize, &Block)> {
        let reach = i64::from(BLOCK_ROWS_MAX) * self.step();
        let first = self.blocks.partition_point(|held| held.block.header().base <= from - reach);
        (first..)
            .zip(&self.blocks[first..])
            .map(|(at, held)| (at, &*held.block))
            .take_while(move |(_, block)| block.header().base < to)
            .filter(move |(_, block)| block.header().grid == grid && block.header().end() > from)
    }

    /// Calls `visit` with each part of `steps` steps from `from` on that has one grid: the grid, the slot of the
    /// first step, and the part.
    pub(super) fn each_grid(
        &self,
        from: Timestamp,
        steps: usize,
        mut visit: impl FnMut(Grid, Timestamp, std::ops::Range<usize>),
    ) {
        let step = self.step();
        let mut done = 0;
        while done < steps {
            let time = from + done as i64 * step;
            let Some((grid, until)) = self.anchors.grid_until(time) else { return };
            let part = (until.saturating_sub(time).saturating_add(step - 1) / step).max(1);
            let part = usize::try_from(part).unwrap_or(usize::MAX).min(steps - done);
            visit(grid, grid.slot(time), done..done + part);
            done += part;
        }
    }
}

impl SelectedColumn {
    /// The column and its buffer.
    pub(super) fn of(self, buffer: &BufferView) -> ColumnView<'_> {
        ColumnView { buffer, index: self.index, floor: self.floor }
    }
}

impl<'p> ColumnView<'p> {
    pub(super) fn frequency_s(self) -> u32 {
        self.buffer.frequency_s()
    }

    pub(super) fn anchors(self) -> &'p Anchors {
        &self.buffer.anchors
    }

    fn step(self) -> i64 {
        self.buffer.step()
    }

    /// The slot of the oldest sample that is not hidden; any time before `known_by` if it is certain that there is a
    /// sample before that.
    pub(super) fn first(self, known_by: Timestamp) -> Option<Timestamp> {
        // The row just before the range lies next to those that will be read; the oldest block does not.
        let step = self.step();
        for head in self.buffer.heads().filter(|head| head.base() < known_by) {
            let rows = (known_by.saturating_sub(head.base()) / step).min(i64::from(head.rows()));
            let slot = head.base() + (rows - 1) * step;
            if rows > 0 && slot >= self.floor && !head.value(rows as u32 - 1, self.index).is_nan() {
                return Some(slot);
            }
        }
        let mut first: Option<Timestamp> = None;
        for (at, block) in self.buffer.placed_blocks() {
            let (header, present) = (block.header(), self.buffer.present(at));
            if first.is_some_and(|first| first <= header.base) {
                break;
            }
            if self.buffer.overlapping {
                first = first.into_iter().chain(self.seen(block).next()).min();
            } else if header.end() > self.floor && block.is_filled(self.index, present) {
                if header.base >= self.floor && header.end() <= known_by {
                    return Some(header.base);
                }
                first = first.into_iter().chain(first_in_block(block, self.index, self.floor, present)).min();
            }
        }
        let heads = self.buffer.heads().filter(|head| first.is_none_or(|first| head.base() < first));
        let in_heads = heads.filter_map(|head| first_in_head(head, self.index, self.floor)).min();
        first.into_iter().chain(in_heads).min()
    }

    /// The slot of the newest sample that is not hidden; any time from `known_from` on if it is certain that there is
    /// a sample there.
    pub(super) fn last(self, known_from: Timestamp) -> Option<Timestamp> {
        let step = self.step();
        let in_heads = self.buffer.heads().filter_map(|head| last_in_head(head, self.index, self.floor));
        let mut last = in_heads.max();
        // Mostly the newest row has a value.
        if last.is_some_and(|last| last + step - step / 2 == self.buffer.ends_by) {
            return last;
        }
        for (at, block) in self.buffer.placed_blocks().rev() {
            let (header, present) = (block.header(), self.buffer.present(at));
            if last.is_some_and(|last| header.base + i64::from(BLOCK_ROWS_MAX) * step <= last) {
                break;
            }
            if last.is_some_and(|last| header.end() - step <= last) {
                continue;
            }
            if self.buffer.overlapping {
                last = last.max(self.seen(block).next_back());
            } else if header.end() > self.floor && block.is_filled(self.index, present) {
                if header.base >= self.floor.max(known_from) {
                    return Some(header.end() - step);
                }
                last = last.max(last_in_block(block, self.index, self.floor, present));
            }
        }
        last
    }

    /// The slots of a block's range that have a sample, whichever block knows them best.
    fn seen(self, block: &Block) -> impl DoubleEndedIterator<Item = Timestamp> + use<> {
        let header = block.header();
        let mut values = vec![f32::NAN; header.rows as usize];
        self.read_slots(header.grid, header.base, &mut values);
        let (base, step) = (header.base, self.step());
        let seen: Vec<_> = (base..).step_by(step as usize).zip(values).collect();
        seen.into_iter().filter(|(_, value)| !value.is_nan()).map(|(slot, _)| slot)
    }

    /// Fills `out`, which is all missing, with one value per step of the buffer's own frequency from `from` on: each
    /// step takes the slot that contains it.
    pub(super) fn read_on_grid(self, from: Timestamp, out: &mut [f32]) {
        self.buffer
            .each_grid(from, out.len(), |grid, first, part| self.read_slots(grid, first, &mut out[part]));
    }

    /// Consecutive slots of one grid, from `first` on.
    pub(super) fn read_slots(self, grid: Grid, first: Timestamp, out: &mut [f32]) {
        let step = self.step();
        let end = first + out.len() as i64 * step;
        let read = |(place, block): (usize, &Block), out: &mut [f32]| {
            let header = block.header();
            if self.index >= header.columns {
                return;
            }
            let (low, high) = (first.max(header.base), end.min(header.end()));
            let at = ((low - first) / step) as usize;
            let rows = ((low - header.base) / step) as usize..((high - header.base) / step) as usize;
            let target = &mut out[at..at + rows.len()];
            // A damaged column is missing, and says so: an older value must not show in its place.
            block.decode(self.index, rows, target, self.buffer.present(place)).ok();
        };
        let here = self.buffer.blocks_within(grid, first, end);
        if self.buffer.overlapping {
            let mut here: Vec<(usize, &Block)> = here.collect();
            here.sort_by_key(|(_, block)| block.header().as_of);
            here.into_iter().for_each(|block| read(block, out));
        } else {
            here.for_each(|block| read(block, out));
        }
        for head in self.buffer.heads().filter(|head| head.grid() == grid && head.base() < end) {
            for (row, value) in head.column(self.index).enumerate() {
                let offset = head.base() + row as i64 * step - first;
                if offset >= 0
                    && let Some(target) = out.get_mut((offset / step) as usize)
                {
                    *target = value;
                }
            }
        }
        let hidden = self.hidden(first).min(out.len());
        out[..hidden].fill(f32::NAN);
    }

    /// How many of the slots from `first` on the floor hides.
    pub(super) fn hidden(self, first: Timestamp) -> usize {
        if self.floor <= first {
            return 0;
        }
        let step = self.step();
        let hidden = self.floor.saturating_sub(first).saturating_add(step - 1) / step;
        usize::try_from(hidden).unwrap_or(usize::MAX)
    }

    /// Fills `out` with steps of another frequency than the buffer's, counted from `anchors`: each sample goes to the
    /// slot that contains its time, and of several in one slot the newest counts.
    pub(super) fn read_off_grid(self, anchors: &Anchors, from: Timestamp, out: &mut [f32]) {
        let step = i64::from(anchors.frequency_s());
        let end = from + out.len() as i64 * step;
        let blocks = self.buffer.blocks().map(Block::header);
        let heads = self.buffer.heads().map(|head| (head.grid(), head.base(), head.rows() as usize));
        let mut pieces: Vec<(Grid, Timestamp, usize)> = blocks
            .map(|header| (header.grid, header.base, header.rows as usize))
            .chain(heads)
            .filter(|&(_, base, rows)| base < end + step && from - step < base + rows as i64 * self.step())
            .collect();
        pieces.sort_unstable_by_key(|(_, base, _)| *base);
        let mut samples: Vec<(Timestamp, f32)> = Vec::new();
        let mut values = Vec::new();
        for (grid, base, rows) in pieces {
            values.clear();
            values.resize(rows, f32::NAN);
            self.read_slots(grid, base, &mut values);
            let slots = (base..).step_by(self.step() as usize).zip(&values);
            samples.extend(slots.filter(|(_, value)| !value.is_nan()).map(|(slot, value)| (slot, *value)));
        }
        // Blocks that overlap have said the same slots several times.
        samples.sort_by_key(|(slot, _)| *slot);
        for (time, value) in samples {
            let Some(grid) = anchors.grid(time) else { return };
            let begin = grid.slot(time) - step / 2;
            let at = (begin - from + step - 1).div_euclid(step);
            let same_grid = |at: i64| anchors.grid(from + at * step) == Some(grid);
            if let Some(target) = usize::try_from(at).ok().and_then(|at| out.get_mut(at))
                && same_grid(at)
            {
                *target = value;
            }
        }
    }
}
