//! Where the samples of one column of a buffer begin and end.

use crate::Timestamp;
use crate::block::{BLOCK_ROWS_MAX, Block};
use crate::buffer::Buffer;
use crate::head::Head;
use crate::pages::Present;

/// The slot of the oldest sample among consecutive rows at or above `floor`.
fn first_in(
    base: Timestamp,
    frequency_s: u32,
    values: impl Iterator<Item = f32>,
    floor: Timestamp,
) -> Option<Timestamp> {
    slots(base, frequency_s)
        .zip(values)
        .find(|(slot, value)| !value.is_nan() && *slot >= floor)
        .map(|(slot, _)| slot)
}

/// The slot of the newest sample among consecutive rows at or above `floor`; looks at the newest first.
fn last_in(
    base: Timestamp,
    frequency_s: u32,
    mut values: impl DoubleEndedIterator<Item = f32> + ExactSizeIterator,
    floor: Timestamp,
) -> Option<Timestamp> {
    let newest = values.rposition(|value| !value.is_nan())?;
    Some(base + newest as i64 * i64::from(frequency_s)).filter(|slot| *slot >= floor)
}

pub(super) fn first_in_head(head: &Head, index: u32, floor: Timestamp) -> Option<Timestamp> {
    first_in(head.base(), head.grid().frequency_s, head.column(index), floor)
}

pub(super) fn last_in_head(head: &Head, index: u32, floor: Timestamp) -> Option<Timestamp> {
    last_in(head.base(), head.grid().frequency_s, head.column(index), floor)
}

fn slots(base: Timestamp, frequency_s: u32) -> impl Iterator<Item = Timestamp> {
    (0..).map(move |row: i64| base + row * i64::from(frequency_s))
}

pub(super) fn first_in_block(
    block: &Block,
    index: u32,
    floor: Timestamp,
    present: &Present,
) -> Option<Timestamp> {
    let mut room = [f32::NAN; BLOCK_ROWS_MAX as usize];
    let values = column_of(block, index, floor, present, &mut room)?;
    first_in(block.header().base, block.header().grid.frequency_s, values.iter().copied(), floor)
}

pub(super) fn last_in_block(
    block: &Block,
    index: u32,
    floor: Timestamp,
    present: &Present,
) -> Option<Timestamp> {
    let mut room = [f32::NAN; BLOCK_ROWS_MAX as usize];
    let values = column_of(block, index, floor, present, &mut room)?;
    last_in(block.header().base, block.header().grid.frequency_s, values.iter().copied(), floor)
}

/// The values of a column if it has any, and some may lie above the floor. One that is damaged counts as if it had a value
/// in every row: its samples are missing from an answer, which neither begins later nor ends earlier for it.
fn column_of<'r>(
    block: &Block,
    index: u32,
    floor: Timestamp,
    present: &Present,
    room: &'r mut [f32; BLOCK_ROWS_MAX as usize],
) -> Option<&'r [f32]> {
    let header = block.header();
    if header.end() <= floor || !block.is_filled(index, present) {
        return None;
    }
    let values = &mut room[..header.rows as usize];
    if block.decode(index, 0..values.len(), values, present).is_err() {
        values.fill(0.0);
    }
    Some(values)
}

/// The slot of the newest sample of a column at or above its floor.
pub(crate) fn last_sample(buffer: &Buffer, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let step = i64::from(buffer.frequency_s());
    let mut last = buffer.heads().filter_map(|head| last_in_head(head, index, floor)).max();
    // Mostly the heads know. A block is asked only where it has rows behind what is known already.
    for held in buffer.blocks().iter().rev() {
        let header = held.block.header();
        if last.is_some_and(|last| header.base + i64::from(BLOCK_ROWS_MAX) * step <= last) {
            break;
        }
        if last.is_none_or(|last| header.end() - step > last) {
            last = last.max(last_in_block(&held.block, index, floor, &Present::default()));
        }
    }
    last
}

/// How many blocks and heads hold a sample of a column in `[floor, before)`.
pub(crate) fn pieces_with_samples(buffer: &Buffer, index: u32, floor: Timestamp, before: Timestamp) -> u64 {
    let blocks = buffer.blocks().iter();
    let blocks = blocks.filter_map(|held| first_in_block(&held.block, index, floor, &Present::default()));
    let heads = buffer.heads().filter_map(|head| first_in_head(head, index, floor));
    blocks.chain(heads).filter(|slot| *slot < before).count() as u64
}
