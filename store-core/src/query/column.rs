//! [`ColumnPlan`]: one column of a buffer, as a query reads it.

use std::sync::Arc;

use super::samples::{first_in, first_in_block, last_in, last_in_block};
use crate::Timestamp;
use crate::anchors::Anchors;
use crate::block::{BLOCK_ROWS_MAX, Block};
use crate::buffer::Buffer;
use crate::grid::Grid;
use crate::host::HostState;

/// The blocks of a buffer, shared by all columns of it that a query reads.
#[derive(Debug)]
pub(super) struct BufferPlan {
    anchors: Anchors,
    /// In the order of bases.
    blocks: Vec<Arc<Block>>,
    /// Whether a block holds slots that another one holds too, which may know them better.
    overlapping: bool,
}

/// Rows of a head, copied for one column.
#[derive(Debug)]
struct Tail {
    grid: Grid,
    base: Timestamp,
    values: Vec<f32>,
}

/// A column, and the rows of its buffer.
#[derive(Debug)]
pub(super) struct ColumnPlan {
    buffer: Arc<BufferPlan>,
    index: u32,
    /// In the order of time.
    tails: Vec<Tail>,
    floor: Timestamp,
}

impl BufferPlan {
    fn gather(buffer: &Buffer) -> Self {
        let blocks: Vec<Arc<Block>> = buffer.blocks().iter().map(|held| Arc::clone(&held.block)).collect();
        let overlapping = blocks.windows(2).any(|pair| pair[0].header().end() > pair[1].header().base);
        Self { anchors: buffer.anchors().clone(), blocks, overlapping }
    }
}

impl ColumnPlan {
    /// The column of a number; `buffers` has the buffers that are gathered already.
    pub(super) fn gather(state: &HostState, number: u32, buffers: &mut [Option<Arc<BufferPlan>>]) -> Self {
        let column = &state.shape().columns()[number as usize];
        let at = usize::from(column.buffer);
        let buffer = &state.buffers()[at];
        let plan = buffers[at].get_or_insert_with(|| Arc::new(BufferPlan::gather(buffer)));
        let tails = buffer
            .heads()
            .map(|head| Tail {
                grid: head.grid(),
                base: head.base(),
                values: head.column(column.index).collect(),
            })
            .collect();
        Self { buffer: Arc::clone(plan), index: column.index, tails, floor: state.floors().of(number) }
    }

    pub(super) fn frequency_s(&self) -> u32 {
        self.buffer.anchors.frequency_s()
    }

    pub(super) fn anchors(&self) -> &Anchors {
        &self.buffer.anchors
    }

    fn step(&self) -> i64 {
        i64::from(self.frequency_s())
    }

    /// The slot of the oldest sample that is not hidden; any time before `known_by` if it is certain that there is a
    /// sample before that.
    pub(super) fn first(&self, known_by: Timestamp) -> Option<Timestamp> {
        let mut first = self
            .tails
            .iter()
            .filter_map(|tail| {
                first_in(tail.base, tail.grid.frequency_s, tail.values.iter().copied(), self.floor)
            })
            .min();
        for block in &self.buffer.blocks {
            let header = block.header();
            if first.is_some_and(|first| first <= header.base) {
                break;
            }
            if self.buffer.overlapping {
                first = first.into_iter().chain(self.seen(block).next()).min();
            } else if block.payload(self.index).is_some() && header.end() > self.floor {
                if header.base >= self.floor && header.end() <= known_by {
                    return Some(header.base);
                }
                first = first.into_iter().chain(first_in_block(block, self.index, self.floor)).min();
            }
        }
        first
    }

    /// The slot of the newest sample that is not hidden; any time from `known_from` on if it is certain that there is
    /// a sample there.
    pub(super) fn last(&self, known_from: Timestamp) -> Option<Timestamp> {
        let step = self.step();
        let mut last = self
            .tails
            .iter()
            .filter_map(|tail| {
                last_in(tail.base, tail.grid.frequency_s, tail.values.iter().copied(), self.floor)
            })
            .max();
        for block in self.buffer.blocks.iter().rev() {
            let header = block.header();
            if last.is_some_and(|last| header.base + i64::from(BLOCK_ROWS_MAX) * step <= last) {
                break;
            }
            if last.is_some_and(|last| header.end() - step <= last) {
                continue;
            }
            if self.buffer.overlapping {
                last = last.max(self.seen(block).next_back());
            } else if block.payload(self.index).is_some() && header.end() > self.floor {
                if header.base >= self.floor.max(known_from) {
                    return Some(header.end() - step);
                }
                last = last.max(last_in_block(block, self.index, self.floor));
            }
        }
        last
    }

    /// The slots of a block's range that have a sample, whichever block knows them best.
    fn seen(&self, block: &Block) -> impl DoubleEndedIterator<Item = Timestamp> + use<> {
        let header = block.header();
        let mut values = vec![f32::NAN; header.rows as usize];
        self.read_slots(header.grid, header.base, &mut values);
        let (base, step) = (header.base, self.step());
        let seen: Vec<_> = (base..).step_by(step as usize).zip(values).collect();
        seen.into_iter().filter(|(_, value)| !value.is_nan()).map(|(slot, _)| slot)
    }

    /// Fills `out`, which is all missing, with one value per step of the buffer's own frequency from `from` on: each
    /// step takes the slot that contains it.
    pub(super) fn read_on_grid(&self, from: Timestamp, out: &mut [f32]) {
        let step = self.step();
        let mut done = 0;
        while done < out.len() {
            let time = from + done as i64 * step;
            let Some((grid, until)) = self.buffer.anchors.grid_until(time) else { return };
            let steps = (until.saturating_sub(time).saturating_add(step - 1) / step).max(1);
            let steps = usize::try_from(steps).unwrap_or(usize::MAX).min(out.len() - done);
            self.read_slots(grid, grid.slot(time), &mut out[done..done + steps]);
            done += steps;
        }
    }

    /// Consecutive slots of one grid, from `first` on.
    fn read_slots(&self, grid: Grid, first: Timestamp, out: &mut [f32]) {
        let step = self.step();
        let end = first + out.len() as i64 * step;
        let reach = i64::from(BLOCK_ROWS_MAX) * step;
        let blocks = &self.buffer.blocks;
        let from = blocks.partition_point(|block| block.header().base <= first - reach);
        let to = blocks.partition_point(|block| block.header().base < end);
        let mut here: Vec<&Arc<Block>> = blocks[from..to.max(from)]
            .iter()
            .filter(|block| block.header().grid == grid && block.header().end() > first)
            .collect();
        if self.buffer.overlapping {
            here.sort_by_key(|block| block.header().as_of);
        }
        for block in here {
            let header = block.header();
            if self.index >= header.columns {
                continue;
            }
            let (low, high) = (first.max(header.base), end.min(header.end()));
            let at = ((low - first) / step) as usize;
            let rows = ((low - header.base) / step) as usize..((high - header.base) / step) as usize;
            let target = &mut out[at..at + rows.len()];
            // A damaged block still says what it held: an older value must not show in its place.
            if !block.check() || block.decode(self.index, rows, target).is_err() {
                target.fill(f32::NAN);
            }
        }
        for tail in self.tails.iter().filter(|tail| tail.grid == grid && tail.base < end) {
            for (row, value) in tail.values.iter().enumerate() {
                let offset = tail.base + row as i64 * step - first;
                if offset >= 0
                    && let Some(target) = out.get_mut((offset / step) as usize)
                {
                    *target = *value;
                }
            }
        }
        if self.floor > first {
            let hidden = self.floor.saturating_sub(first).saturating_add(step - 1) / step;
            let hidden = usize::try_from(hidden).unwrap_or(usize::MAX).min(out.len());
            out[..hidden].fill(f32::NAN);
        }
    }

    /// Fills `out` with steps of another frequency than the buffer's, counted from `anchors`: each sample goes to the
    /// slot that contains its time, and of several in one slot the newest counts.
    pub(super) fn read_off_grid(&self, anchors: &Anchors, from: Timestamp, out: &mut [f32]) {
        let step = i64::from(anchors.frequency_s());
        let end = from + out.len() as i64 * step;
        let blocks = self.buffer.blocks.iter().map(|block| block.header());
        let mut pieces: Vec<(Grid, Timestamp, usize)> = blocks
            .map(|header| (header.grid, header.base, header.rows as usize))
            .chain(self.tails.iter().map(|tail| (tail.grid, tail.base, tail.values.len())))
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
