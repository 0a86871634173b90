//! [`supersedes`]: whether a file says everything that another one says.

use std::cell::RefCell;
use std::collections::HashMap;

use store_core::block::BlockHeader;
use store_core::metric::MetricId;
use store_core::shape::{Shape, ShapeHash};
use store_disk::frame::Damage;

use crate::blockfile::{BlockFileDamage, FoundFloors, Index};

/// Whether the file `other` of the same host ([`Index::is_of`]) may be unlinked, once the directory was synced, because a roll has put
/// all that it holds into the file `rolled`: every slot of its blocks, as of the same stamp or a later one, and its
/// floors.
///
/// Only headers are compared: the caller then makes sure that no column of `rolled`
/// [is damaged](store_core::block::Block::damaged_columns). Never true in both directions, nor around a circle of files: whatever is
/// unlinked by this, a file stays that holds it.
pub fn supersedes(rolled: &Index, other: &Index) -> bool {
    says_all(rolled, other) && !says_all(other, rolled)
}

fn says_all(rolled: &Index, other: &Index) -> bool {
    let known =
        rolled.rolled && rolled.damage.is_empty() && other.header_good && rolled.lineage == other.lineage;
    // Bytes of which nothing is known may be worth something. Those of a frame that was cut are not.
    let harmless =
        |what| matches!(what, BlockFileDamage::HeaderHalf | BlockFileDamage::Frame(Damage::CutShort));
    if !known || !other.damage.iter().all(|range| harmless(range.what)) {
        return false;
    }
    let shapes = Prefixes::new(rolled, other);
    let has_block = |block: &BlockHeader| {
        let newer = rolled.blocks.iter().map(|found| &found.header).filter(|by| {
            by.as_of >= block.as_of && by.columns >= block.columns && shapes.extends(by.shape, block.shape)
        });
        is_covered(block, newer)
    };
    // What of a block was cut off was never acknowledged, or is lost.
    other.blocks.iter().filter(|found| !found.is_cut).all(|found| has_block(&found.header))
        && other.floors.iter().all(|frame| has_floors(rolled, frame, &shapes))
}

fn has_floors(rolled: &Index, frame: &FoundFloors, shapes: &Prefixes) -> bool {
    frame.floors.iter().all(|(column, before)| {
        rolled
            .floors
            .iter()
            .filter(|by| shapes.extends(by.shape, frame.shape))
            .flat_map(|by| &by.floors)
            .any(|(by_column, by_before)| by_column == column && by_before >= before)
    })
}

/// Whether blocks hold every slot of another one between them.
pub(super) fn is_covered<'a>(block: &BlockHeader, by: impl Iterator<Item = &'a BlockHeader>) -> bool {
    let mut by: Vec<&BlockHeader> =
        by.filter(|by| (by.buffer, by.grid) == (block.buffer, block.grid)).collect();
    by.sort_unstable_by_key(|by| by.base);
    let mut covered_to = block.base;
    for by in by {
        if by.base > covered_to {
            break;
        }
        covered_to = covered_to.max(by.end());
    }
    covered_to >= block.end()
}

/// The shapes of two files, decoded with numbers of metrics of their own.
struct Prefixes(HashMap<ShapeHash, Shape>);

impl Prefixes {
    fn new(rolled: &Index, other: &Index) -> Self {
        let metrics: RefCell<HashMap<Box<str>, MetricId>> = RefCell::default();
        let number = |name: &str, _frequency_s: std::num::NonZeroU32| {
            let mut metrics = metrics.borrow_mut();
            // Fewer names than bytes of files that fit into memory.
            let next = MetricId(u32::try_from(metrics.len()).unwrap_or(u32::MAX));
            *metrics.entry(name.into()).or_insert(next)
        };
        let shapes = rolled.shapes.iter().chain(&other.shapes);
        let decoded = shapes.filter_map(|(hash, bytes)| Some((*hash, Shape::decode(bytes, number).ok()?)));
        Self(decoded.collect())
    }

    fn extends(&self, newer: ShapeHash, older: ShapeHash) -> bool {
        newer == older
            || self.0.get(&newer).zip(self.0.get(&older)).is_some_and(|(newer, older)| newer.extends(older))
    }
}
