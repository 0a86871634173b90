//! Blocks: what a column costs that is damaged, and what it does not.

use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::grid::Grid;
use crate::metric::{Aggregation, Catalog, Metric, MetricId};
use crate::shape::{NewColumn, ShapeHash};

const IDENTITY: u32 = 0xfeed_beef;

/// A file in memory, whose bytes may change and whose pages may be gone.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Bytes,
    gone: Option<Range<u64>>,
    reports: Mutex<Vec<(u32, ColumnDamage)>>,
}

impl Pages for Memory {
    fn ensure(&self, _: Range<u64>) {}

    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Unavailable> {
        let is_gone = |gone: &Range<u64>| gone.start < range.end && range.start < gone.end;
        let bytes = self.bytes.get(range.start as usize..range.end as usize);
        bytes.filter(|_| !self.gone.as_ref().is_some_and(is_gone)).map(Cow::Borrowed).ok_or(Unavailable)
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Unavailable> {
        self.get(range).map(Cow::into_owned)
    }

    fn report(&self, damaged: &DamagedColumn<'_>) {
        self.reports.lock().unwrap().push((damaged.column, damaged.what));
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

fn shape() -> Arc<Shape> {
    let catalog = Catalog::new([Metric {
        name: "m".into(),
        frequency_s: 10.try_into().unwrap(),
        aggregation: Aggregation::Sum,
        served: true,
    }]);
    let columns: Vec<_> = (0..5)
        .map(|n| NewColumn { path: vec![format!("c{n}").into()].into(), metric: MetricId(0), buffer: 0 })
        .collect();
    Arc::new(Shape::empty(&catalog).extended(&catalog, &[10], &columns))
}

/// Columns 0 and 2 have many values, 1 and 4 none, 3 is constant.
fn value(column: u32, row: usize) -> f32 {
    match column {
        1 | 4 => f32::NAN,
        3 => 7.5,
        _ => (column as f32 + 1.0) * 0.37 + (row as f32).sqrt(),
    }
}

fn sealed(codec: u8) -> Block {
    let header = BlockHeader {
        codec,
        buffer: 0,
        grid: Grid { anchor: 5, frequency_s: 10 },
        base: 105,
        rows: 6,
        columns: 5,
        as_of: Stamp(77),
        shape: ShapeHash([0; 16]),
        body_bytes: 0,
    };
    Block::seal(header, shape(), |column, out| {
        out.iter_mut().enumerate().for_each(|(row, cell)| *cell = value(column, row));
    })
}

/// The block as a file holds it.
fn in_file(block: &Block, identity: u32) -> Vec<u8> {
    let parts = block.to_parts(identity).unwrap();
    [&parts.front[..], &parts.body[..], &parts.behind[..]].concat()
}

fn opened(bytes: Vec<u8>, identity: u32, gone: Option<Range<u64>>) -> (Block, Arc<Memory>) {
    let pages = Arc::new(Memory { bytes: bytes.into(), gone, ..Memory::default() });
    let (header, place) = BlockHeader::decode(&pages.bytes, identity).unwrap();
    assert_eq!(place, HeaderPlace::Front);
    let at = BLOCK_HEADER_BYTES as u64;
    (Block::in_file(header, identity, Arc::clone(&pages) as Arc<dyn Pages>, at, shape()).unwrap(), pages)
}

/// The columns that are not as they were; what is there of them is missing, never another value.
fn differing(block: &Block) -> Vec<u32> {
    let is_same = |column: &u32| {
        block.column(*column).iter().enumerate().all(|(row, cell)| {
            let good = value(*column, row);
            assert!(cell.is_nan() || cell.to_bits() == good.to_bits(), "column {column} is invented");
            cell.is_nan() == good.is_nan()
        })
    };
    (0..5).filter(|column| !is_same(column)).collect()
}

#[test]
fn a_block_reads_back_as_it_was_sealed() {
    for codec in [codec::RAW, codec::ADAPTIVE] {
        let block = sealed(codec);
        let (back, pages) = opened(in_file(&block, IDENTITY), IDENTITY, None);
        assert_eq!(back.header(), block.header());
        assert_eq!(differing(&back), []);
        let filled: Vec<u32> = (0..9).filter(|column| back.is_filled(*column, &Present::default())).collect();
        assert_eq!(filled, [0, 2, 3]);
        assert_eq!(back.sweep(), []);
        assert!(pages.reports.lock().unwrap().is_empty());
        assert_eq!(back.header().end(), 165);
        assert!(back.header().covers(5, 155) && !back.header().covers(5, 165));
        assert!(!back.header().covers(15, 155));
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed_in_either_copy() {
    let good = in_file(&sealed(codec::ADAPTIVE), IDENTITY);
    for start in [0, good.len() - BLOCK_HEADER_BYTES] {
        let header = &good[start..][..BLOCK_HEADER_BYTES];
        assert!(BlockHeader::decode(header, IDENTITY).is_ok());
        assert_eq!(
            BlockHeader::decode(header, IDENTITY ^ 1),
            Err(BlockError::HeaderChecksum),
            "another host"
        );
        for bit in 0..BLOCK_HEADER_BYTES * 8 {
            let mut bad = header.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::decode(&bad, IDENTITY).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_body_costs_its_column_and_no_other() {
    for codec in [codec::RAW, codec::ADAPTIVE] {
        let good = in_file(&sealed(codec), IDENTITY);
        let (mut whole, mut one) = (0, 0);
        for bit in BLOCK_HEADER_BYTES * 8..(good.len() - BLOCK_HEADER_BYTES) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (block, pages) = opened(bad, IDENTITY, None);
            let differing = differing(&block);
            assert!(differing.len() <= 1, "bit {bit} costs {differing:?}");
            let reports = pages.reports.lock().unwrap().clone();
            let damaged = block.damaged_columns();
            assert!(damaged.len() <= 1, "bit {bit}: {damaged:?}");
            assert!(differing.iter().all(|column| reports.iter().any(|(said, _)| said == column)));
            // A column without samples loses none.
            assert!(reports.iter().all(|(column, _)| differing == [*column] || [1, 4].contains(column)));
            whole += u32::from(damaged.is_empty());
            one += u32::from(damaged.len() == 1);
        }
        // The ends are found by the checksums on both sides, and the last is known.
        assert_eq!(whole, 5 * 32, "no bit of an end costs anything");
        assert!(one > 5 * 32);
    }
}

#[test]
fn a_byte_that_changes_after_the_first_use_is_noticed_at_the_next() {
    let block = sealed(codec::ADAPTIVE);
    let mut bytes = in_file(&block, IDENTITY);
    let (before, _) = opened(bytes.clone(), IDENTITY, None);
    assert_eq!(differing(&before), []);
    let last = bytes.len() - BLOCK_HEADER_BYTES - 1;
    bytes[last] ^= 4;
    let pages = Arc::new(Memory { bytes: bytes.into(), ..Memory::default() });
    let at = BLOCK_HEADER_BYTES as u64;
    let after = before.moved_to_file(IDENTITY, Arc::clone(&pages) as Arc<dyn Pages>, at);
    assert_eq!(differing(&after), [3], "whatever was believed of the block before");
    assert!(!pages.reports.lock().unwrap().is_empty());
}

#[test]
fn pages_that_cannot_be_read_cost_the_columns_in_them() {
    let good = in_file(&sealed(codec::RAW), IDENTITY);
    for at in BLOCK_HEADER_BYTES..good.len() - BLOCK_HEADER_BYTES {
        let (block, pages) = opened(good.clone(), IDENTITY, Some(at as u64..at as u64 + 1));
        let differing = differing(&block);
        if at >= BLOCK_HEADER_BYTES + 5 * ENTRY_BYTES {
            assert_eq!(differing.len(), 1, "byte {at}");
            assert!(pages.reports.lock().unwrap().contains(&(differing[0], ColumnDamage::Unavailable)));
        }
        // Its entry, and the end that stands there for the column behind it.
        assert!(differing.len() <= 2, "byte {at} costs {differing:?}");
    }
}

#[test]
fn a_body_that_was_cut_keeps_the_columns_before_the_cut() {
    let good = in_file(&sealed(codec::RAW), IDENTITY);
    let (mut kept, body_end) = (0, good.len() - BLOCK_HEADER_BYTES);
    for cut in BLOCK_HEADER_BYTES..good.len() {
        let (block, _) = opened(good[..cut].to_vec(), IDENTITY, None);
        let differing = differing(&block);
        assert!(3 - differing.len() >= kept, "cut at {cut}");
        kept = 3 - differing.len();
        assert_eq!(block.damaged_columns().is_empty(), cut >= body_end, "cut at {cut}");
    }
    assert_eq!(kept, 3);
}

#[test]
fn a_damaged_block_is_not_written_until_it_is_mended_and_then_wins_over_itself() {
    let mut bytes = in_file(&sealed(codec::ADAPTIVE), IDENTITY);
    bytes[BLOCK_HEADER_BYTES + 5 * ENTRY_BYTES + 3] ^= 1;
    let (block, _) = opened(bytes, IDENTITY, None);
    let damaged = block.to_parts(IDENTITY).unwrap_err();
    assert_eq!(damaged.columns, [(0, ColumnDamage::Checksum)]);
    let mended = block.mended();
    assert_eq!((mended.header().as_of, block.header().as_of), (Stamp(78), Stamp(77)));
    let (back, pages) = opened(in_file(&mended, IDENTITY), IDENTITY, None);
    assert_eq!(differing(&back), [0], "missing, and it says so to nobody any more");
    assert_eq!((back.sweep(), pages.reports.lock().unwrap().len()), (vec![], 0));
    assert!(!back.is_filled(0, &Present::default()));
}

#[test]
fn another_stamp_or_another_host_gives_all_columns_new_checksums_when_they_are_written() {
    let block = sealed(codec::ADAPTIVE);
    let file = in_file(&block, IDENTITY);
    let (found, _) = opened(file.clone(), IDENTITY, None);
    let restamped = found.restamped(Stamp(900));
    assert_eq!(differing(&restamped), [], "read under the old ones until then");
    let (back, _) = opened(in_file(&restamped, 12), 12, None);
    assert_eq!((back.header().as_of, differing(&back)), (Stamp(900), vec![]));
    // The old body behind the new header is not the body of that block.
    let new = in_file(&restamped, IDENTITY);
    let mixed = [&new[..BLOCK_HEADER_BYTES], &file[BLOCK_HEADER_BYTES..]].concat();
    let (mixed, _) = opened(mixed, IDENTITY, None);
    assert_eq!(mixed.damaged_columns().len(), 5, "also those without a byte of their own");
}

#[test]
fn entries_that_lie_never_read_outside() {
    let good = in_file(&sealed(codec::ADAPTIVE), IDENTITY);
    for at in BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + 5 * ENTRY_BYTES {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let (block, _) = opened(bad, IDENTITY, None);
            assert!(differing(&block).len() <= 1);
            block.ensure(0..=u32::MAX, &Present::default());
        }
    }
}

#[test]
fn a_newer_codec_is_named() {
    let header = BlockHeader { codec: 200, ..*sealed(codec::ADAPTIVE).header() };
    let bytes = header.encode(1, HeaderPlace::Front);
    assert_eq!(BlockHeader::decode(&bytes, 1), Err(BlockError::UnknownCodec(200)));
}
