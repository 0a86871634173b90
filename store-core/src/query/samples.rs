//! Where the samples of one column of a buffer begin and end.

use crate::Timestamp;
use crate::block::{BLOCK_ROWS_MAX, Block};
use crate::buffer::Buffer;
use crate::head::Head;

/// The slot of the oldest sample among consecutive rows at or above `floor`.
pub(super) fn first_in(
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

/// The slot of the newest sample among consecutive rows at or above `floor`.
pub(super) fn last_in(
    base: Timestamp,
    frequency_s: u32,
    values: impl Iterator<Item = f32>,
    floor: Timestamp,
) -> Option<Timestamp> {
    slots(base, frequency_s)
        .zip(values)
        .filter(|(slot, value)| !value.is_nan() && *slot >= floor)
        .last()
        .map(|(slot, _)| slot)
}

fn slots(base: Timestamp, frequency_s: u32) -> impl Iterator<Item = Timestamp> {
    (0..).map(move |row: i64| base + row * i64::from(frequency_s))
}

pub(super) fn first_in_block(block: &Block, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let header = block.header();
    block.payload(index).filter(|_| header.end() > floor)?;
    first_in(header.base, header.grid.frequency_s, block.column(index).into_iter(), floor)
}

pub(super) fn last_in_block(block: &Block, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let header = block.header();
    block.payload(index).filter(|_| header.end() > floor)?;
    last_in(header.base, header.grid.frequency_s, block.column(index).into_iter(), floor)
}

/// The slot of the newest sample of a column at or above its floor.
pub(crate) fn last_sample(buffer: &Buffer, index: u32, floor: Timestamp) -> Option<Timestamp> {
    let step = i64::from(buffer.frequency_s());
    let in_head = |head: &Head| last_in(head.base(), head.grid().frequency_s, head.column(index), floor);
    let mut last = buffer.heads().filter_map(in_head).max();
    // Mostly the heads know. A block is asked only where it has rows behind what is known already.
    for held in buffer.blocks().iter().rev() {
        let header = held.block.header();
        if last.is_some_and(|last| header.base + i64::from(BLOCK_ROWS_MAX) * step <= last) {
            break;
        }
        if last.is_none_or(|last| header.end() - step > last) {
            last = last.max(last_in_block(&held.block, index, floor));
        }
    }
    last
}

/// How many blocks and heads hold a sample of a column in `[floor, before)`.
pub(crate) fn pieces_with_samples(buffer: &Buffer, index: u32, floor: Timestamp, before: Timestamp) -> u64 {
    let blocks = buffer.blocks().iter().filter_map(|held| first_in_block(&held.block, index, floor));
    let heads = buffer
        .heads()
        .filter_map(|head| first_in(head.base(), head.grid().frequency_s, head.column(index), floor));
    blocks.chain(heads).filter(|slot| *slot < before).count() as u64
}
