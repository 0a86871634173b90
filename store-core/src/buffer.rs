//! [`Buffer`]: the columns of a host that are sampled at the same moments.

mod relog;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Timestamp;
use crate::anchors::Anchors;
use crate::block::{BLOCK_ROWS_MAX, Block, BlockState};
use crate::grid::Grid;
use crate::head::{HEAD_ROWS_MAX, Head};
use crate::merge::Table;
use crate::row::{Row, RowView};
use crate::shape::Shape;
use crate::stamp::Stamp;

pub use relog::Relog;

/// Rows that the next head takes before the frozen one is encoded, so that late samples find it still in rows.
pub const GRACE_ROWS: u32 = 8;

/// Whether a block is encoded once more though no bit of it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rewrite {
    IfChanged,
    Always,
}

/// A block and where else its rows are.
#[derive(Debug, Clone)]
pub struct Held {
    /// The rows.
    pub block: Arc<Block>,
    /// Whether they are in a block file.
    pub state: BlockState,
}

/// Columns of one host that are sampled at the same moments: blocks, then a frozen head, then the head.
///
/// Invariant: `blocks` is sorted by base. Blocks overlap only where files did; the greater `as_of` wins then.
/// Every slot of `frozen` and `head` is newer than every slot of a block of the same grid that was there when
/// they began; `anchors` names the grid of every block, of `frozen` and of `head`.
///
/// The grid is a property of the data and not of where blocks are cut: a sample's slot follows from `anchors`
/// alone.
#[derive(Debug, Default)]
pub struct Buffer {
    frequency_s: u32,
    number: u16,
    anchors: Anchors,
    /// Shared with the queries of the moment; a change then copies the list.
    blocks: Arc<Vec<Held>>,
    /// Whether a block holds slots that another one holds too.
    overlapping: bool,
    frozen: Option<Head>,
    head: Option<Head>,
}

/// What a buffer needs to know of its host to take rows.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The host's shape; the buffer's columns are counted in it.
    pub shape: &'a Arc<Shape>,
    /// The rows of the host's first head, so that not all hosts seal at one moment.
    pub first_head_rows: u32,
    /// The time by the caller's clock.
    pub now: Timestamp,
}

impl Buffer {
    /// An empty buffer, the `number`-th of its host.
    pub fn new(number: u16, frequency_s: u32) -> Self {
        Self { frequency_s, number, anchors: Anchors::new(frequency_s), ..Self::default() }
    }

    /// Seconds per slot.
    pub fn frequency_s(&self) -> u32 {
        self.frequency_s
    }

    /// The moments from which slots are counted.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Sealed rows, in the order of their bases.
    pub fn blocks(&self) -> &[Held] {
        &self.blocks
    }

    /// The same list, to be read later without the host's mutex.
    pub fn share_blocks(&self) -> Arc<Vec<Held>> {
        Arc::clone(&self.blocks)
    }

    /// Whether a block holds slots that another one holds too, which may know them better.
    pub fn is_overlapping(&self) -> bool {
        self.overlapping
    }

    /// The full head that is to be encoded.
    pub fn frozen(&self) -> Option<&Head> {
        self.frozen.as_ref()
    }

    /// The rows that are being written.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Bytes on the heap of its lists, and of each block beside its rows.
    pub fn fixed_bytes(&self) -> usize {
        self.anchors.heap_bytes()
            + size_of::<Vec<Held>>()
            + 2 * size_of::<usize>()
            + self.blocks.capacity() * size_of::<Held>()
            + self.blocks.len() * size_of::<Block>()
    }

    /// The frozen head and the head, in the order of time.
    pub fn heads(&self) -> impl DoubleEndedIterator<Item = &Head> {
        self.frozen.iter().chain(&self.head)
    }

    fn columns(&self, shape: &Shape) -> u32 {
        shape.buffers()[usize::from(self.number)].columns.len() as u32
    }

    /// The grid of a moment: that of the anchor that governs it.
    pub fn grid(&self, time: Timestamp) -> Option<Grid> {
        self.anchors.grid(time)
    }

    /// Whether a new series whose first sample is at `time` belongs here: its phase is that of the grid. A buffer
    /// without rows has none, and the columns that it has may bring any.
    pub fn is_in_phase(&self, time: Timestamp) -> bool {
        let step = i64::from(self.frequency_s);
        self.grid(time).is_some_and(|grid| time.saturating_sub(grid.anchor) % step == 0)
    }

    /// The anchor and the slot of a sample: see [`Anchors::place`].
    pub fn place(&self, time: Timestamp, fixed_phase: bool) -> (Timestamp, Timestamp) {
        self.anchors.place(time, fixed_phase)
    }

    /// Makes an anchor known that a sample sets, or that a row or a block names.
    pub fn note_anchor(&mut self, anchor: Timestamp) {
        self.anchors.note(anchor);
    }

    /// Whether a row of this anchor and slot can be taken as it is: the anchor governs the slot, and if it is new,
    /// no row that is here would be counted from it. Not so for rows of another history of the same host.
    pub fn takes(&self, anchor: Timestamp, slot: Timestamp) -> bool {
        if self.anchors.as_slice().binary_search(&anchor).is_ok() {
            return self.anchors.governs(anchor, slot);
        }
        let mut anchors = self.anchors.clone();
        anchors.note(anchor);
        let at = anchors.as_slice().partition_point(|known| *known < anchor);
        let (from, to) = anchors.range(at);
        let step = i64::from(self.frequency_s);
        // Rows are at base, base + step, … and so the last one a step before the end.
        let meets = |base: Timestamp, end: Timestamp| base < to && from <= end - step;
        anchors.governs(anchor, slot)
            && !self.blocks.iter().any(|held| {
                let header = held.block.header();
                meets(header.base, header.end())
            })
            && !self.heads().any(|head| head.rows() > 0 && meets(head.base(), head.end()))
    }

    /// The slot of the newest row.
    pub fn newest_slot(&self) -> Option<Timestamp> {
        let step = i64::from(self.frequency_s);
        let heads = self.heads().filter(|head| head.rows() > 0).map(|head| head.end() - step);
        // Only blocks that begin so late that they can reach beyond the last one.
        let last = self.blocks.last().map_or(Timestamp::MIN, |held| held.block.header().base);
        let blocks =
            self.blocks[self.near(last, last).start..].iter().map(|held| held.block.header().end() - step);
        heads.chain(blocks).max()
    }

    /// The slot of the oldest row.
    pub fn oldest_slot(&self) -> Option<Timestamp> {
        let heads = self.heads().map(Head::base);
        heads.chain(self.blocks.first().map(|held| held.block.header().base)).min()
    }

    /// Applies a row. One that belongs to neither head, and is not newer than all that is here, is left to
    /// [`apply_late`](Self::apply_late): returns false.
    pub fn apply(&mut self, row: RowView<'_>, stamp: Stamp, context: &Context<'_>) -> bool {
        if let Some(head) = &mut self.head
            && let Some(at) = head.row(row.anchor, row.slot)
        {
            head.write(at, row.cells, stamp);
            if head.is_full() {
                self.freeze(context.shape);
            }
            return true;
        }
        if let Some(frozen) = &mut self.frozen
            && let Some(at) = frozen.written_row(row.anchor, row.slot)
        {
            frozen.write(at, row.cells, stamp);
            return true;
        }
        if self.newest_slot().is_some_and(|newest| row.slot <= newest) {
            return false;
        }
        self.freeze(context.shape);
        self.note_anchor(row.anchor);
        let first_ever = self.blocks.is_empty() && self.frozen.is_none();
        let rows_max = if first_ever { context.first_head_rows } else { HEAD_ROWS_MAX };
        let grid = Grid { anchor: row.anchor, frequency_s: self.frequency_s };
        let mut head = Head::new(grid, row.slot, rows_max, self.columns(context.shape), context.now);
        head.write(0, row.cells, stamp);
        self.head = Some(head);
        true
    }

    /// The head becomes the frozen one; a frozen one that is still there is sealed now.
    pub fn freeze(&mut self, shape: &Arc<Shape>) {
        if self.head.as_ref().is_none_or(|head| head.rows() == 0) {
            return;
        }
        self.seal_frozen(shape);
        self.frozen = self.head.take();
    }

    /// Seals the frozen head, if there is one, here and now.
    pub fn seal_frozen(&mut self, shape: &Arc<Shape>) {
        if let Some(frozen) = self.frozen.take() {
            let block = frozen.seal(self.number, self.columns(shape), Arc::clone(shape));
            self.insert(Arc::new(block), BlockState::Unsaved { first: frozen.first() });
        }
    }

    /// The frozen head, if late samples had their time or `now_or_never`: to be encoded without the lock.
    pub fn ripe(&self, now_or_never: bool) -> Option<Head> {
        let frozen = self.frozen.as_ref()?;
        let waited = self.head.as_ref().is_some_and(|head| head.rows() >= GRACE_ROWS);
        (waited || now_or_never).then(|| frozen.clone())
    }

    /// Puts the block that was encoded from `ripe` in the place of the frozen head, unless that was written to
    /// meanwhile: then nothing happens, and it is to be encoded again.
    pub fn swap(&mut self, ripe: &Head, block: Block) -> bool {
        match &self.frozen {
            Some(frozen) if frozen.is_same(ripe) => {
                self.insert(Arc::new(block), BlockState::Unsaved { first: frozen.first() });
                self.frozen = None;
                true
            }
            _ => false,
        }
    }

    /// Adds a block in its place.
    pub fn insert(&mut self, block: Arc<Block>, state: BlockState) {
        self.note_anchor(block.header().grid.anchor);
        let (base, end) = (block.header().base, block.header().end());
        let at = self.blocks.partition_point(|held| held.block.header().base <= base);
        let reaches_in = |before: &Held| before.block.header().end() > base;
        let is_reached = |behind: &Held| end > behind.block.header().base;
        self.overlapping |=
            self.blocks[..at].last().is_some_and(reaches_in) || self.blocks.get(at).is_some_and(is_reached);
        Arc::make_mut(&mut self.blocks).insert(at, Held { block, state });
    }

    /// To be called after blocks went.
    fn note_removed(&mut self) {
        let mut pairs = self.blocks.windows(2).map(|pair| (pair[0].block.header(), pair[1].block.header()));
        self.overlapping = self.overlapping && pairs.any(|(a, b)| a.end() > b.base);
    }

    /// The blocks that hold, or overlap, slots of `[from, to)`.
    fn near(&self, from: Timestamp, to: Timestamp) -> std::ops::Range<usize> {
        let reach = i64::from(BLOCK_ROWS_MAX) * i64::from(self.frequency_s);
        let first =
            self.blocks.partition_point(|held| held.block.header().base <= from.saturating_sub(reach));
        let last = self.blocks.partition_point(|held| held.block.header().base < to);
        first..last.max(first)
    }

    /// The block that holds a slot: of several the one with the greatest `as_of`.
    pub fn covering(&self, anchor: Timestamp, slot: Timestamp) -> Option<&Held> {
        self.covering_index(anchor, slot).map(|at| &self.blocks[at])
    }

    fn covering_index(&self, anchor: Timestamp, slot: Timestamp) -> Option<usize> {
        self.near(slot, slot.saturating_add(1))
            .filter(|&at| self.blocks[at].block.header().covers(anchor, slot))
            .max_by_key(|&at| (self.blocks[at].block.header().as_of, at))
    }

    /// Applies rows that [`apply`](Self::apply) left: patches the blocks that hold their slots, and puts the others
    /// into as few blocks as possible. However many rows there are, each block is encoded about once.
    pub fn apply_late(&mut self, rows: &[Row], stamp: Stamp, context: &Context<'_>) {
        let mut patches: BTreeMap<usize, Vec<&Row>> = BTreeMap::new();
        let mut uncovered: Vec<&Row> = Vec::new();
        for row in rows {
            self.note_anchor(row.anchor);
            match self.covering_index(row.anchor, row.slot) {
                Some(at) => patches.entry(at).or_default().push(row),
                None => uncovered.push(row),
            }
        }
        // In the order of the blocks: of those that are equally new the later in the list wins, and has to know
        // what was written to the others.
        let patches: Vec<_> =
            patches.into_iter().map(|(at, rows)| (*self.blocks[at].block.header(), rows)).collect();
        for (header, rows) in patches {
            self.patch(header.grid, header.base, header.end(), &rows, stamp, context, Rewrite::IfChanged);
        }
        // Stable: of two rows for one slot the later counts.
        uncovered.sort_by_key(|row| (row.anchor, row.slot));
        self.write_before_head(&mut uncovered, stamp);
        let step = i64::from(self.frequency_s);
        let mut rest = &uncovered[..];
        while let Some(first) = rest.first() {
            let (anchor, slot) = (first.anchor, first.slot);
            let end = self.occupied_from(anchor, slot);
            let run = rest.partition_point(|row| (row.anchor, row.slot) < (anchor, end)).max(1);
            let (here, behind) = rest.split_at(run);
            let end = here.last().map_or(slot, |row| row.slot) + step;
            let (base, end) = self.joined(anchor, slot, end);
            let grid = Grid { anchor, frequency_s: self.frequency_s };
            self.patch(grid, base, end, here, stamp, context, Rewrite::IfChanged);
            rest = behind;
        }
    }

    /// Takes out of `rows`, which are in order, those for which the head can begin earlier: nothing lies between
    /// them and the head, and it has rows to spare.
    fn write_before_head(&mut self, rows: &mut Vec<&Row>, stamp: Stamp) {
        let Some(head) = &self.head else { return };
        let (anchor, base, step) = (head.grid().anchor, head.base(), i64::from(self.frequency_s));
        let spare = base - i64::from(head.spare_rows()) * step;
        let low = self.occupied_to(anchor, base).max(spare);
        let from = rows.partition_point(|row| (row.anchor, row.slot) < (anchor, low));
        let to = rows.partition_point(|row| (row.anchor, row.slot) < (anchor, base));
        let Some(head) = self.head.as_mut().filter(|_| from < to) else { return };
        head.prepend(((base - rows[from].slot) / step) as u32);
        for row in rows.drain(from..to) {
            if let Some(at) = head.row(anchor, row.slot) {
                head.write(at, row.view().cells, stamp);
            }
        }
    }

    /// Base and end of the heads and blocks of a grid that hold slots in `[from, to)`.
    fn pieces(
        &self,
        anchor: Timestamp,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let heads = self.heads().map(|head| (head.grid().anchor, head.base(), head.end()));
        let blocks = self.blocks[self.near(from, to)].iter().map(|held| held.block.header());
        heads
            .chain(blocks.map(|header| (header.grid.anchor, header.base, header.end())))
            .filter(move |&(of, base, end)| of == anchor && base < to && from < end)
            .map(|(_, base, end)| (base, end))
    }

    /// The most seconds that a block spans.
    fn reach(&self) -> i64 {
        i64::from(BLOCK_ROWS_MAX) * i64::from(self.frequency_s)
    }

    /// Up to where a block could hold a slot that none holds and those behind it: the next one that something
    /// holds, or as long as a block may be.
    fn occupied_from(&self, anchor: Timestamp, slot: Timestamp) -> Timestamp {
        let end = slot + self.reach();
        self.pieces(anchor, slot, end).map(|(base, _)| base).fold(end, Timestamp::min)
    }

    /// From where on nothing holds the slots before one, as far back as a block may reach.
    fn occupied_to(&self, anchor: Timestamp, slot: Timestamp) -> Timestamp {
        let begin = slot - self.reach();
        self.pieces(anchor, begin, slot).map(|(_, end)| end).fold(begin, Timestamp::max)
    }

    /// The range of a block that is to hold `[from, to)`, which nothing holds: joined with the blocks before and
    /// behind it where no head lies between and that is not too long.
    fn joined(&self, anchor: Timestamp, from: Timestamp, to: Timestamp) -> (Timestamp, Timestamp) {
        let (before, behind) = (self.occupied_to(anchor, from), self.occupied_from(anchor, to));
        let step = i64::from(self.frequency_s);
        let mut neighbours: Vec<(Timestamp, Timestamp)> = self.blocks[self.near(before - step, behind + 1)]
            .iter()
            .map(|held| held.block.header())
            .filter(|header| {
                header.grid.anchor == anchor && (header.end() == before || header.base == behind)
            })
            .map(|header| (header.base, header.end()))
            .collect();
        neighbours.sort_by_key(|&(base, end)| if end <= from { from - end } else { base - to });
        neighbours.into_iter().fold((from, to), |joined, (base, end)| {
            let longer = (joined.0.min(base), joined.1.max(end));
            if longer.1 - longer.0 <= self.reach() { longer } else { joined }
        })
    }

    /// Puts one block over `[base, end)`: what blocks hold there now, each slot of its winner, with `rows` on
    /// top. Blocks that lie wholly inside go.
    #[expect(clippy::too_many_arguments, reason = "a range, what is put there, and when")]
    fn patch(
        &mut self,
        grid: Grid,
        base: Timestamp,
        end: Timestamp,
        rows: &[&Row],
        stamp: Stamp,
        context: &Context<'_>,
        rewrite: Rewrite,
    ) {
        let slots = ((end - base) / i64::from(grid.frequency_s)) as u32;
        let mut table = Table::new(grid, self.number, base, slots, self.columns(context.shape));
        let mut under: Vec<usize> = self
            .near(base, end)
            .filter(|&at| {
                let header = self.blocks[at].block.header();
                header.grid == grid && header.base < end && base < header.end()
            })
            .collect();
        under.sort_by_key(|&at| self.blocks[at].block.header().as_of);
        let mut first = stamp;
        for &at in &under {
            table.lay(&self.blocks[at].block);
            if let BlockState::Unsaved { first: older } = self.blocks[at].state {
                first = first.min(older);
            }
        }
        let mut changed = rewrite == Rewrite::Always || under.is_empty();
        for row in rows {
            for &(column, value) in &row.cells {
                changed |= table.write(row.slot, column, value);
            }
        }
        if !changed {
            return;
        }
        // A row that is older than what is laid fills what damage has left: the block wins over the damaged one. One
        // that is as old may be of the same record, or of none: several such must not pass over the next record.
        let is_damaged = |at: &usize| !self.blocks[*at].block.damaged_columns().is_empty();
        let fills = Stamp::ZERO < stamp
            && (stamp < table.as_of() || stamp == table.as_of() && under.iter().any(is_damaged));
        let as_of = if fills { Stamp(table.as_of().0.saturating_add(1)) } else { table.as_of().max(stamp) };
        let block = table.seal(Arc::clone(context.shape), as_of);
        let mut inside: Vec<usize> = under
            .into_iter()
            .filter(|&at| {
                let header = self.blocks[at].block.header();
                base <= header.base && header.end() <= end
            })
            .collect();
        inside.sort_unstable();
        for at in inside.into_iter().rev() {
            Arc::make_mut(&mut self.blocks).remove(at);
        }
        self.note_removed();
        self.insert(Arc::new(block), BlockState::Unsaved { first });
    }

    /// Gives the blocks that are not saved the stamp of this moment, up to which everything was applied that they are
    /// to hold. What lies below them in the same slots is taken in, so that nobody need know how it ranked.
    pub fn stamp_anew(&mut self, stamp: Stamp, context: &Context<'_>) {
        let unsaved = self.blocks.iter().filter(|held| held.state != BlockState::Saved);
        let unsaved: Vec<_> = unsaved.map(|held| *held.block.header()).collect();
        for header in unsaved {
            let (base, end) = (header.base, header.end());
            self.patch(header.grid, base, end, &[], stamp, context, Rewrite::Always);
        }
    }

    /// The log is needed from here on for this buffer: the least of head, frozen head and unsaved blocks.
    pub fn safe(&self) -> Stamp {
        let heads = self.heads().map(Head::first);
        let blocks = self.blocks.iter().filter_map(|held| match held.state {
            BlockState::Unsaved { first } => Some(first),
            BlockState::Saved | BlockState::Imported => None,
        });
        heads.chain(blocks).min().unwrap_or(Stamp::MAX)
    }

    /// Notes that a block is in a synced file; does nothing if it is no longer the same block.
    pub fn mark_saved(&mut self, block: &Arc<Block>) {
        self.set_state(block, BlockState::Saved);
    }

    /// Notes that a block found in a file may not be durable: it is to be saved again.
    pub fn mark_unsaved(&mut self, block: &Arc<Block>, first: Stamp) {
        self.set_state(block, BlockState::Unsaved { first });
    }

    /// Puts `to`, the same rows elsewhere, in the place of a block; does nothing if that is not held any more.
    pub fn replace(&mut self, block: &Arc<Block>, to: Arc<Block>) {
        if let Some(at) = self.blocks.iter().position(|held| Arc::ptr_eq(&held.block, block)) {
            Arc::make_mut(&mut self.blocks)[at].block = to;
        }
    }

    fn set_state(&mut self, block: &Arc<Block>, state: BlockState) {
        if let Some(at) = self.blocks.iter().position(|held| Arc::ptr_eq(&held.block, block)) {
            Arc::make_mut(&mut self.blocks)[at].state = state;
        }
    }

    /// Notes that all unsaved blocks come from files of another format, which hold their rows.
    pub fn mark_imported(&mut self) {
        let blocks = Arc::make_mut(&mut self.blocks).iter_mut();
        for held in blocks.filter(|held| held.block.header().as_of == Stamp::ZERO) {
            held.state = BlockState::Imported;
        }
    }

    /// Drops blocks and heads that end before `time`. Returns how many went.
    pub fn drop_before(&mut self, time: Timestamp) -> usize {
        let is_kept = |held: &Held| held.block.header().end() >= time;
        let mut dropped =
            if self.blocks.iter().all(is_kept) { 0 } else { self.retain_blocks(|held| is_kept(held)) };
        for head in [&mut self.frozen, &mut self.head] {
            if head.as_ref().is_some_and(|head| head.end() < time) {
                *head = None;
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.forget_anchors();
        }
        dropped
    }

    /// Drops blocks that `keep` refuses; used when memory runs out and when what they hold is held by others.
    pub fn retain_blocks(&mut self, keep: impl FnMut(&Held) -> bool) -> usize {
        let before = self.blocks.len();
        Arc::make_mut(&mut self.blocks).retain(keep);
        self.note_removed();
        before - self.blocks.len()
    }

    /// Anchors that no row is counted from any more go, so that a start finds the same ones.
    fn forget_anchors(&mut self) {
        let blocks = self.blocks.iter().map(|held| held.block.header().grid.anchor);
        let used: BTreeSet<Timestamp> = blocks.chain(self.heads().map(|head| head.grid().anchor)).collect();
        self.anchors.retain(|anchor| used.contains(&anchor));
    }
}
