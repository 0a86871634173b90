//! [`Window`]: where the rows of consecutive steps stand.

use std::ops::Range;

use super::column::BufferView;
use crate::Timestamp;
use crate::grid::Grid;

/// The rows of a buffer that consecutive steps take their values from, found once for all series that are read there.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Number of the buffer, the first step and how many there are.
    place: Option<(u16, Timestamp, usize)>,
    spans: Vec<Span>,
}

/// Steps whose values stand together.
#[derive(Debug)]
pub(super) struct Span {
    /// The steps, counted from the first of the window.
    pub(super) steps: Range<usize>,
    /// The slot of the first of them.
    pub(super) slot: Timestamp,
    pub(super) place: Place,
    /// The row of the first of them in its block or head.
    pub(super) row: usize,
}

/// Where values stand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the block at this place of the list.
    Block(usize),
    /// In this one of the heads.
    Head(usize),
    /// In several that overlap: which of them knows a slot best is decided column by column.
    Overlapping(Grid),
}

impl Window {
    /// The spans of `steps` steps of the buffer's own frequency from `from` on, in their order. What lies between
    /// them holds no values.
    pub(super) fn open(&mut self, buffer: &BufferView, from: Timestamp, steps: usize) -> &[Span] {
        let place = Some((buffer.number, from, steps));
        if self.place != place {
            self.place = place;
            self.spans.clear();
            buffer.each_grid(from, steps, |grid, first, part| self.push_spans(buffer, grid, first, part));
        }
        &self.spans
    }

    /// The spans of `part`, whose steps have one grid and begin with the slot `first`.
    fn push_spans(&mut self, buffer: &BufferView, grid: Grid, first: Timestamp, part: Range<usize>) {
        let step = buffer.step();
        let end = first + part.len() as i64 * step;
        let begin = self.spans.len();
        let blocks = buffer
            .blocks_within(grid, first, end)
            .map(|(at, block)| (block.header().base, block.header().end(), Place::Block(at)));
        let heads = buffer
            .heads()
            .enumerate()
            .filter(|(_, head)| head.grid() == grid && head.base() < end && head.end() > first)
            .map(|(at, head)| (head.base(), head.end(), Place::Head(at)));
        let (mut behind, mut all_in_turn) = (Timestamp::MIN, true);
        for (base, until, place) in blocks.chain(heads) {
            all_in_turn &= behind <= base;
            behind = until;
            let (low, high) = (base.max(first), until.min(end));
            let at = |slot: Timestamp| part.start + ((slot - first) / step) as usize;
            let row = ((low - base) / step) as usize;
            self.spans.push(Span { steps: at(low)..at(high), slot: low, place, row });
        }
        if !all_in_turn {
            self.spans.truncate(begin);
            self.spans.push(Span { steps: part, slot: first, place: Place::Overlapping(grid), row: 0 });
        }
    }
}
