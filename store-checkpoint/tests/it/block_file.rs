//! Whatever happens to a block file, every block of it that is still whole is found, and nothing that was not
//! written; and FORMAT.md says what the code does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use store_checkpoint::blockfile::{
    self, BlockFile, BlockFileDamage, BlockFileError, DamagedRange, FLAG_ROLLED, FLOOR_BYTES,
    FLOORS_HEAD_BYTES, Found, HALF_BYTES, HEADER_BYTES, Index, KIND_BLOCK, KIND_FLOORS, KIND_SHAPE, MAGIC,
    Opened, SEED_HIGH, VERSION, is_block_file,
};
use store_core::block::{BLOCK_HEADER_BYTES, Block, BlockError};
use store_core::pages::Present;
use store_disk::frame::{self, Damage};
use store_disk::sim::{Effect, Fault, Op};
use store_disk::{RealDisk, SimDisk};

use crate::blocks::{FOREIGN, Kit, LINEAGE, index_of as index, is_same, pages_of, put_file};

const HOST: &str = "/data/alpha/n1";
const EIO: i32 = 5;

/// A small file of all kinds of frames: two appends, two shapes.
fn sample(kit: &Kit) -> (Bytes, Vec<Arc<Block>>) {
    let blocks = vec![kit.block(0, 0, 0..5, 1 << 32 | 70), kit.block(0, 0, 5..7, 1 << 32 | 90)];
    let more = vec![kit.block(2, 1, 0..3, 2 << 32), kit.block(2, 0, 2..6, 2 << 32 | 5)];
    let disk = SimDisk::new();
    disk.put_dir(HOST).unwrap();
    let mut file = BlockFile::create(&disk, Path::new(HOST), 0, LINEAGE, &Arc::default()).unwrap();
    let written = file.append(&kit.catalog, &blocks, &[kit.floors(0, &[(1, 20)])]).unwrap();
    let more_written = file.append(&kit.catalog, &more, &[kit.floors(2, &[(0, -5), (3, 30)])]).unwrap();
    let bytes = disk.contents(file.path()).unwrap();
    assert_eq!(bytes.len() as u64, written + more_written);
    (bytes.into(), [blocks, more].concat())
}

/// Where each frame stands.
fn frames(bytes: &[u8]) -> Vec<(u8, Range<usize>)> {
    let identity = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
    let seed = u64::from(SEED_HIGH) << 32 | u64::from(identity);
    let mut at = HEADER_BYTES;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let frame = frame::Frame::at(bytes, seed, at as u64).unwrap();
        assert!(frame.verify());
        let end = usize::try_from(frame.end()).unwrap();
        frames.push((frame.kind, at..end));
        at = end;
    }
    frames
}

/// Blocks by their place, with those of their columns that are damaged.
fn blocks_of(kit: &Kit, found: &Index, bytes: &Bytes) -> BTreeMap<u64, (Block, Vec<u32>)> {
    let (pages, whole) = (pages_of(bytes), [kit.shapes[0].clone(), kit.shapes[2].clone()]);
    let block = |found: &Found| {
        let shape = whole.iter().find(|shape| shape.hash() == found.header.shape).unwrap();
        let block = found.block(Arc::clone(shape), Arc::clone(&pages)).unwrap();
        let damaged = block.damaged_columns().into_iter().map(|(column, _)| column).collect();
        (found.offset, (block, damaged))
    };
    found.blocks.iter().map(block).collect()
}

/// How many columns of a file are damaged.
fn damaged(kit: &Kit, bytes: &Bytes) -> usize {
    blocks_of(kit, &index(bytes), bytes).values().map(|(_, columns)| columns.len()).sum()
}

/// Nothing that is called damaged lies outside of the file, and what is neither found nor damaged is no frame.
fn assert_sound(index: &Index, bytes: &[u8]) {
    let len = bytes.len() as u64;
    assert_eq!(index.file_bytes, len);
    assert!(index.damage.iter().all(|d| d.bytes > 0 && d.offset + d.bytes <= len), "{:?}", index.damage);
    let ends = |found: &Found| found.is_cut || found.body_at + u64::from(found.header.body_bytes) <= len;
    assert!(index.blocks.iter().all(ends));
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let kit = Kit::new();
    let (bytes, blocks) = sample(&kit);
    let index = index(&bytes);
    assert_eq!((index.lineage, index.rolled, index.header_good), (Some(LINEAGE), false, true));
    assert!(index.damage.is_empty() && index.torn_tail().is_none());
    let shapes: Vec<_> = index.shapes.iter().map(|(hash, _)| *hash).collect();
    assert_eq!(shapes, [kit.shapes[0].hash(), kit.shapes[2].hash()], "each shape once");
    for ((back, damaged), block) in blocks_of(&kit, &index, &bytes).values().zip(&blocks) {
        assert!(damaged.is_empty() && is_same(back, block));
    }
    assert_eq!(index.blocks.len(), blocks.len());
    let floors: Vec<_> = index.floors.iter().map(|frame| (frame.shape, frame.floors.clone())).collect();
    assert_eq!(
        floors,
        [(kit.shapes[0].hash(), vec![(1, 20)]), (kit.shapes[2].hash(), vec![(0, -5), (3, 30)])]
    );
    let kinds: Vec<u8> = frames(&bytes).into_iter().map(|(kind, _)| kind).collect();
    let append = [KIND_SHAPE, KIND_FLOORS, KIND_BLOCK, KIND_BLOCK, KIND_SHAPE, KIND_FLOORS];
    assert_eq!(kinds, [append, append].concat(), "shapes and floors stand twice");
    assert_sound(&index, &bytes);
    assert!(
        is_block_file(&bytes[..HEADER_BYTES]) && is_block_file(&bytes[..4]) && !is_block_file(&bytes[..3])
    );
}

/// A file of version 3, made by the release that brought it in and never again.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/block-file-v3.bin");

#[test]
fn a_golden_file_of_this_version_is_read_and_written_as_it_was() {
    let kit = Kit::new();
    let (bytes, blocks) = sample(&kit);
    let golden = Bytes::from(std::fs::read(GOLDEN).unwrap());
    let back = blocks_of(&kit, &index(&golden), &golden);
    assert_eq!(back.len(), blocks.len());
    for ((back, damaged), block) in back.values().zip(&blocks) {
        assert!(damaged.is_empty() && is_same(back, block));
    }
    assert!(bytes == golden, "what is written now differs from what was written then");
}

#[test]
fn the_real_disk_gives_back_the_same() {
    let kit = Kit::new();
    let (_, blocks) = sample(&kit);
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(4);
    let mut file = BlockFile::create(&disk, directory.path(), -40, LINEAGE, &Arc::default()).unwrap();
    file.append(&kit.catalog, &blocks, &[]).unwrap();
    file.sync().unwrap();
    assert_eq!(file.path(), directory.path().join("-40.bin"));
    let opened = Opened::open(&disk, file.path(), &Arc::default()).unwrap();
    assert!(opened.index.damage.is_empty() && opened.pages.is_mapped());
    assert_eq!(opened.index.blocks.len(), blocks.len());
    for (found, block) in opened.index.blocks.iter().zip(&blocks) {
        let there = found.block(Arc::clone(block.shape()), Arc::clone(&opened.pages)).unwrap();
        assert!(is_same(&there, block));
    }
}

#[test]
fn a_new_file_takes_the_next_name_that_is_free() {
    let disk = SimDisk::new();
    for taken in ["100.bin", "101.bin", "103.bin"] {
        disk.put(format!("{HOST}/{taken}"), "x").unwrap();
    }
    let create = |base| BlockFile::create(&disk, Path::new(HOST), base, LINEAGE, &Arc::default());
    assert_eq!(create(100).unwrap().path(), Path::new(HOST).join("102.bin"));
    assert_eq!(create(100).unwrap().path(), Path::new(HOST).join("104.bin"));
    create(i64::MAX).unwrap();
    assert!(matches!(create(i64::MAX), Err(BlockFileError::Create { .. })), "there is no greater number");
}

#[test]
fn every_cut_keeps_the_blocks_before_it_and_the_columns_of_one_that_is_cut() {
    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let whole = index(&bytes);
    let frames = frames(&bytes);
    let whole_blocks = blocks_of(&kit, &whole, &bytes);
    let end_of = |offset: u64| frames.iter().find(|(_, range)| range.start as u64 == offset).unwrap().1.end;
    for cut in 0..bytes.len() {
        let cut_bytes = bytes.slice(..cut);
        let found = index(&cut_bytes);
        assert_sound(&found, &cut_bytes);
        // A block is there as soon as its header is.
        let header = frame::HEADER_BYTES + BLOCK_HEADER_BYTES;
        let expected = whole.blocks.iter().filter(|found| found.offset as usize + header <= cut);
        let offsets: Vec<u64> = found.blocks.iter().map(|found| found.offset).collect();
        assert_eq!(offsets, expected.map(|found| found.offset).collect::<Vec<_>>(), "cut at {cut}");
        for found in &found.blocks {
            assert_eq!(found.is_cut, end_of(found.offset) > cut, "cut at {cut}");
        }
        for (offset, (block, damaged)) in blocks_of(&kit, &found, &cut_bytes) {
            let is_cut = end_of(offset) > cut;
            assert!(is_cut || damaged.is_empty());
            // Columns stand one behind the other; those without values have nothing to lose but their entry.
            let first = damaged.first().copied().unwrap_or(block.header().columns);
            let is_lost = |column: &u32| {
                damaged.contains(column) || !whole_blocks[&offset].0.is_filled(*column, &Present::default())
            };
            assert!((first..block.header().columns).all(|column| is_lost(&column)), "cut at {cut}");
        }
        let at_border = cut == HEADER_BYTES || frames.iter().any(|(_, range)| range.end == cut);
        assert_eq!(found.torn_tail().is_none(), at_border || cut < HEADER_BYTES, "cut at {cut}");
        if cut >= HALF_BYTES {
            assert_eq!(found.lineage, Some(LINEAGE), "cut at {cut}");
        }
    }
}

#[test]
fn every_flipped_bit_costs_at_most_one_column() {
    let kit = Kit::new();
    let (bytes, blocks) = sample(&kit);
    let mut costly = 0;
    for headless in [false, true] {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            if headless {
                flipped[..HEADER_BYTES].fill(0);
            }
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = Bytes::from(flipped);
            let found = index(&flipped);
            assert_sound(&found, &flipped);
            assert_eq!(found.lineage, (!headless).then_some(LINEAGE), "bit {bit}");
            let back = blocks_of(&kit, &found, &flipped);
            assert_eq!(back.len(), blocks.len(), "bit {bit}");
            let damaged: usize = back.values().map(|(_, columns)| columns.len()).sum();
            assert!(damaged <= 1, "bit {bit} costs {damaged} columns");
            costly += damaged;
            for ((back, damaged), block) in back.values().zip(&blocks) {
                assert_eq!(back.header(), block.header());
                for column in (0..block.header().columns).filter(|column| !damaged.contains(column)) {
                    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                    assert_eq!(bits(back.column(column)), bits(block.column(column)), "bit {bit}");
                }
            }
            assert_eq!((found.shapes.len(), found.floors.len()), (2, 2), "bit {bit}: each stands twice");
        }
    }
    assert!(costly > 1000);
}

#[test]
fn bytes_that_come_in_or_go_cost_the_block_that_they_hit() {
    let kit = Kit::new();
    let (bytes, blocks) = sample(&kit);
    let offsets: Vec<Range<usize>> =
        frames(&bytes).into_iter().filter(|(kind, _)| *kind == KIND_BLOCK).map(|(_, range)| range).collect();
    for at in 0..bytes.len() {
        for (out, insert) in [(1, 0), (0, 1), (13, 0), (0, 300), (7, 5)] {
            let end = (at + out).min(bytes.len());
            let mut moved = bytes.to_vec();
            moved.splice(at..end, vec![0xa5; insert]);
            let moved = Bytes::from(moved);
            let found = index(&moved);
            assert_sound(&found, &moved);
            let back = blocks_of(&kit, &found, &moved);
            for (range, block) in offsets.iter().zip(&blocks) {
                // What stood before the bytes or behind them is there.
                let is_hit = range.start <= end && at <= range.end;
                let whole = back.values().any(|(back, damaged)| {
                    damaged.is_empty() && back.header() == block.header() && is_same(back, block)
                });
                assert!(whole || is_hit, "{out} bytes out and {insert} in at {at}: block at {range:?}");
            }
            let kept = (found.shapes.len(), found.floors.len());
            assert_eq!(kept, (2, 2), "{out} bytes out and {insert} in at {at}");
        }
    }
}

#[test]
fn frames_of_another_host_are_none_of_this_one() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let write = |host: &str, rows: Range<i64>, as_of| {
        let blocks = [kit.block(0, 0, rows.clone(), as_of), kit.block(0, 0, rows, as_of + 1)];
        disk.contents(put_file(&disk, &kit, Path::new(host), LINEAGE, &blocks, &[])).unwrap()
    };
    let (mine, other) = (write(HOST, 0..5, 1 << 32), write("/data/alpha/n2", 0..5, 9 << 32));
    assert_eq!(frames(&mine), frames(&other), "the same frames stand at the same places");
    let second = frames(&mine).into_iter().filter(|(kind, _)| *kind == KIND_BLOCK).nth(1).unwrap().1;
    // What a crash may leave where the second block was not written: that place of the other file.
    let mut stale = mine.clone();
    stale[second.clone()].copy_from_slice(&other[second.clone()]);
    let found = index(&stale.clone().into());
    assert_eq!(found.blocks.len(), 1);
    let what = BlockFileDamage::Frame(Damage::BadHeader);
    assert_eq!(
        found.damage,
        [DamagedRange { offset: second.start as u64, bytes: second.len() as u64, what }]
    );
    // And where the whole file was not written, it says that it is not this host's.
    let (mine_dir, other_dir) = (Path::new(HOST), Path::new("/data/alpha/n2"));
    let found = index(&other.clone().into());
    assert!(!found.is_of(mine_dir, LINEAGE) && found.is_of(other_dir, LINEAGE));
    assert!(found.is_of(other_dir, FOREIGN), "its own header says the lineage");
    assert!(!found.is_of(Path::new("/data/beta/n2"), LINEAGE));
    let headless = index(&[&[0; HEADER_BYTES], &other[HEADER_BYTES..]].concat().into());
    assert_eq!(headless.blocks.len(), 2);
    assert!(!headless.is_of(mine_dir, LINEAGE) && headless.is_of(other_dir, LINEAGE));
    // With the header lost as well it is one file or the other, never both.
    stale[..HEADER_BYTES].fill(0xff);
    assert_eq!(index(&stale.into()).blocks.len(), 1);
}

#[test]
fn a_file_of_which_only_frames_are_left_gives_them_up() {
    let kit = Kit::new();
    let (bytes, blocks) = sample(&kit);
    let mut headless = bytes.to_vec();
    headless[..HEADER_BYTES].fill(0xa5);
    let found = index(&Bytes::from(headless.clone()));
    assert_eq!((found.blocks.len(), found.shapes.len(), found.floors.len()), (blocks.len(), 2, 2));
    assert_eq!(found.damage.len(), 1);
    assert!(!is_block_file(&headless), "its front says nothing");
    // Down to a single floors frame.
    let only = &frames(&bytes)[5];
    assert_eq!(only.0, KIND_FLOORS);
    for (_, range) in frames(&bytes).iter().filter(|frame| *frame != only) {
        headless[range.clone()].fill(0);
    }
    let found = index(&headless.into());
    assert_eq!((found.blocks.len(), found.shapes.len(), found.floors.len()), (0, 0, 1));
}

#[test]
fn any_bytes_are_indexed_without_trouble() {
    use rand::rngs::StdRng;
    use rand::{Rng, RngCore, SeedableRng};
    let kit = Kit::new();
    let (bytes, blocks) = sample(&kit);
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..3000 {
        let mut mangled = bytes.to_vec();
        for _ in 0..rng.random_range(1..6) {
            let (from, len) = (rng.random_range(0..mangled.len()), rng.random_range(1..300));
            let to = (from + len).min(mangled.len());
            match rng.random_range(0..4) {
                0 => rng.fill_bytes(&mut mangled[from..to]),
                1 => mangled[from..to].fill(0),
                2 => drop(mangled.drain(from..to)),
                _ => {
                    let copy = mangled[from..to].to_vec();
                    let at = rng.random_range(0..=mangled.len());
                    mangled.splice(at..at, copy);
                }
            }
            if mangled.is_empty() {
                break;
            }
        }
        let mangled = Bytes::from(mangled);
        let found = index(&mangled);
        assert_sound(&found, &mangled);
        for (block, damaged) in blocks_of(&kit, &found, &mangled).values() {
            let original =
                blocks.iter().find(|original| original.header() == block.header()).expect("invented");
            for column in (0..block.header().columns).filter(|column| !damaged.contains(column)) {
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert_eq!(bits(block.column(column)), bits(original.column(column)), "invented");
            }
        }
    }
}

#[test]
fn a_version_1_file_is_none_whatever_its_names_are() {
    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let mut version_1 = store_checkpoint::format::bin1::MAGIC.to_le_bytes().to_vec();
    version_1.resize(HALF_BYTES, 0);
    version_1.extend_from_slice(&bytes[HALF_BYTES..HEADER_BYTES]);
    assert!(!is_block_file(&version_1));
    version_1[0] ^= 1;
    assert!(is_block_file(&version_1), "the second half of the header is whole");
}

#[test]
fn a_file_is_given_up_after_an_error() {
    let kit = Kit::new();
    for op in [Op::Append, Op::Sync] {
        let disk = SimDisk::new();
        disk.put_dir(HOST).unwrap();
        let mut file = BlockFile::create(&disk, Path::new(HOST), 0, LINEAGE, &Arc::default()).unwrap();
        disk.fail(Fault::new(Effect::Error(EIO), move |call| call.op == op));
        let first = file.append(&kit.catalog, &[kit.block(0, 0, 0..2, 1)], &[]).err();
        let first = first.or_else(|| file.sync().err());
        assert!(matches!(first, Some(BlockFileError::Append { .. } | BlockFileError::Sync { .. })));
        let calls = disk.calls();
        let again = file.append(&kit.catalog, &[kit.block(0, 0, 2..4, 2)], &[]);
        assert!(matches!(again, Err(BlockFileError::GivenUp { .. })));
        assert!(matches!(file.sync(), Err(BlockFileError::GivenUp { .. })));
        assert_eq!(disk.calls(), calls);
    }
}

#[test]
fn a_block_that_rotted_is_not_written_again() {
    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let body_at = index(&bytes).blocks[0].body_at;
    let mut rotten = bytes.to_vec();
    // The checksum of its first column.
    rotten[usize::try_from(body_at).unwrap() + 4] ^= 4;
    let rotten = Bytes::from(rotten);
    let found = index(&rotten);
    let block = Arc::new(found.blocks[0].block(Arc::clone(&kit.shapes[0]), pages_of(&rotten)).unwrap());
    let disk = SimDisk::new();
    disk.put_dir(HOST).unwrap();
    let mut file = BlockFile::create(&disk, Path::new(HOST), 0, LINEAGE, &Arc::default()).unwrap();
    let refused = file.append(&kit.catalog, &[block], &[]);
    assert!(matches!(refused, Err(BlockFileError::BadBlock { base: 0, .. })), "{refused:?}");
    file.append(&kit.catalog, &[kit.block(0, 0, 0..2, 1)], &[]).unwrap();
    assert!(index(&disk.contents(file.path()).unwrap().into()).damage.is_empty());
}

const FORMAT: &str = include_str!("../../FORMAT.md");

/// The rows of the table below a heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, section) = FORMAT.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

#[test]
fn the_header_is_the_one_on_the_page() {
    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let rows = table("Version 3: header");
    let mut at = 0;
    let mut fields: BTreeMap<String, &[u8]> = BTreeMap::new();
    for row in &rows {
        assert_eq!(row[0], at.to_string(), "{row:?}");
        let width: usize = row[1].parse().unwrap();
        fields.insert(row[2].clone(), &bytes[at..at + width]);
        at += width;
    }
    assert_eq!(at, HEADER_BYTES);
    assert_eq!(fields["magic"], MAGIC);
    assert!(rows[0][3].contains(std::str::from_utf8(&MAGIC).unwrap()));
    assert_eq!(fields["version"], VERSION.to_le_bytes());
    assert!(rows[1][3].ends_with(&VERSION.to_string()));
    assert_eq!((fields["flags"], FLAG_ROLLED), (&[0, 0][..], 1 << 0));
    assert_eq!(fields["lineage"], LINEAGE.0);
    let identity = crc32fast::hash(&[&LINEAGE.0[..], b"/alpha/n1"].concat());
    assert_eq!(fields["identity"], identity.to_le_bytes());
    assert_eq!(fields["header_crc"], crc32fast::hash(&bytes[..28]).to_le_bytes());
    assert_eq!(fields["copy"], &bytes[..HALF_BYTES]);
    assert_eq!(SEED_HIGH.to_le_bytes(), MAGIC);
}

#[test]
fn the_kinds_the_floors_and_the_limits_are_those_on_the_page() {
    let kinds = table("Version 3: frames");
    let named: Vec<(&str, &str)> = kinds.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let expected = [
        (KIND_SHAPE.to_string(), "shape"),
        (KIND_BLOCK.to_string(), "block"),
        (KIND_FLOORS.to_string(), "floors"),
        (format!("0, {}..256", KIND_FLOORS + 1), "none yet"),
    ];
    assert_eq!(named, expected.each_ref().map(|(kind, name)| (kind.as_str(), *name)));
    let floors = table("Version 3: floors");
    let fixed: usize = floors.iter().filter_map(|row| row[0].parse::<usize>().ok()).sum();
    assert_eq!(fixed, FLOORS_HEAD_BYTES);
    assert_eq!(floors[2][0], format!("{FLOOR_BYTES} * count"));
    let limits = table("Version 3: limits");
    assert_eq!(limits[0][1], frame::PAYLOAD_BYTES_MAX.to_string());

    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let (_, range) = frames(&bytes).into_iter().rfind(|(kind, _)| *kind == KIND_FLOORS).unwrap();
    let payload = &bytes[range.start + frame::HEADER_BYTES..range.end - 4];
    let mut expected = kit.shapes[2].hash().0.to_vec();
    expected.extend_from_slice(&2_u32.to_le_bytes());
    for (column, before) in [(0_u32, -5_i64), (3, 30)] {
        expected.extend_from_slice(&column.to_le_bytes());
        expected.extend_from_slice(&before.to_le_bytes());
    }
    assert_eq!(payload, expected);
}

#[test]
fn a_new_file_gives_up_after_as_many_names_as_the_page_says() {
    let names: i64 = table("Version 3: limits")[1][1].parse().unwrap();
    let disk = SimDisk::new();
    for number in 0..names {
        disk.put(format!("{HOST}/{number}.bin"), "").unwrap();
    }
    let error = BlockFile::create(&disk, Path::new(HOST), 0, LINEAGE, &Arc::default()).unwrap_err();
    assert!(matches!(error, BlockFileError::Create { path, .. } if path == Path::new(HOST).join("0.bin")));
    assert!(BlockFile::create(&disk, Path::new(HOST), 1, LINEAGE, &Arc::default()).is_ok());
}

/// A file with a frame of any kind and payload behind the sample.
fn with_frame(bytes: &[u8], kind: u8, payload: &[u8]) -> Vec<u8> {
    let identity = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
    let mut out = bytes.to_vec();
    let seed = u64::from(SEED_HIGH) << 32 | u64::from(identity);
    frame::encode_into(&mut out, seed, bytes.len() as u64, kind, &[payload]);
    out
}

/// Both halves of the header with other fields, and checksums that fit.
fn with_header(bytes: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for half in out[..HEADER_BYTES].chunks_exact_mut(HALF_BYTES) {
        change(half);
        let crc = crc32fast::hash(&half[..28]);
        half[28..].copy_from_slice(&crc.to_le_bytes());
    }
    out
}

/// What a file is, its bytes, the shapes, blocks and floors that are found, the blocks that fail their check, damage.
type Case = (&'static str, Vec<u8>, (usize, usize, usize), usize, &'static str);

#[test]
fn a_start_finds_in_every_file_what_the_page_says() {
    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let frames = frames(&bytes);
    let frame = |kind: u8| frames.iter().find(|(k, _)| *k == kind).unwrap().1.clone();
    let flipped = |at: usize| {
        let mut out = bytes.to_vec();
        out[at] ^= 0x40;
        out
    };
    let headless = |mut out: Vec<u8>| {
        out[..HEADER_BYTES].fill(0);
        out
    };
    let (shape, block, floors) = (frame(KIND_SHAPE), frame(KIND_BLOCK), frame(KIND_FLOORS));
    let bad_block_headers = {
        let mut payload = bytes[block.start + frame::HEADER_BYTES..block.end - 4].to_vec();
        payload[20] ^= 1;
        let len = payload.len();
        payload[len - 20] ^= 1;
        with_frame(&bytes, KIND_BLOCK, &payload)
    };
    let moved = {
        let mut out = bytes.to_vec();
        out.insert(block.start, 0);
        out
    };
    let both = |kind: u8| {
        let mut out = bytes.to_vec();
        for (_, range) in frames.iter().filter(|(k, _)| *k == kind) {
            out[range.end - 9] ^= 0x40;
        }
        out
    };
    let foreign = {
        let disk = SimDisk::new();
        let blocks = [kit.block(0, 0, 0..5, 3)];
        let other = disk.contents(put_file(&disk, &kit, Path::new(HOST), FOREIGN, &blocks, &[])).unwrap();
        let mut out = bytes.to_vec();
        out[shape.clone()].copy_from_slice(&other[shape.clone()]);
        out
    };
    let whole = (2, 4, 2);
    let cases: Vec<Case> = vec![
        ("a whole file", bytes.to_vec(), whole, 0, "none"),
        ("an empty file", vec![], (0, 0, 0), 0, "none"),
        ("one half of the header bad", flipped(9), whole, 0, "HeaderHalf"),
        ("one half of the header bad", flipped(40), whole, 0, "HeaderHalf"),
        ("both halves bad, a whole block or floors behind", headless(bytes.to_vec()), whole, 0, "Header"),
        (
            "both halves bad, nothing whole behind",
            headless(bytes[..shape.end].to_vec()),
            (0, 0, 0),
            0,
            "Header",
        ),
        ("a file that ends inside a frame", bytes[..bytes.len() - 1].to_vec(), whole, 0, "Frame"),
        (
            "a file that ends inside a block",
            bytes[..block.end - 4 - BLOCK_HEADER_BYTES - 1].to_vec(),
            (1, 1, 1),
            1,
            "Frame",
        ),
        ("a bad frame header", flipped(block.start), whole, 0, "Frame"),
        ("a bad frame header", flipped(shape.start), whole, 0, "Frame"),
        ("one block header bad in a good frame", flipped(block.start + 32), whole, 0, "Block"),
        ("one block header bad in a good frame", flipped(block.end - 24), whole, 0, "none"),
        ("both block headers bad in a good frame", bad_block_headers, whole, 0, "Block"),
        ("a bad payload of a block", flipped(block.end - 4 - BLOCK_HEADER_BYTES - 1), whole, 1, "none"),
        ("a bad payload of a shape or of floors", flipped(shape.end - 9), whole, 0, "Frame"),
        ("a bad payload of a shape or of floors", flipped(floors.end - 9), whole, 0, "Frame"),
        ("a bad payload of both copies", both(KIND_SHAPE), (0, 4, 2), 0, "Frame"),
        ("a bad payload of both copies", both(KIND_FLOORS), (2, 4, 0), 0, "Frame"),
        ("bytes that came in or went", moved, whole, 0, "Frame"),
        ("a kind that it does not know", with_frame(&bytes, 4, b"?"), whole, 0, "UnknownKind"),
        (
            "a version or a flag that it does not know",
            with_header(&bytes, |h| h[4] = 2),
            (0, 0, 0),
            0,
            "Newer",
        ),
        (
            "a version or a flag that it does not know",
            with_header(&bytes, |h| h[6] = 2),
            (0, 0, 0),
            0,
            "Newer",
        ),
        ("a frame of another host's file", foreign, whole, 0, "Frame"),
    ];
    let rows = table("Version 3: recovery");
    for row in &rows {
        assert!(cases.iter().any(|case| case.0 == row[0]), "{row:?} has no test");
    }
    for (meets, content, (shapes, blocks, floors), failing, damage) in cases {
        let row = rows.iter().find(|row| row[0] == meets).unwrap_or_else(|| panic!("{meets}"));
        assert!(row[2].split(", ").any(|said| said.trim_matches('`') == damage), "{meets}");
        let content = Bytes::from(content);
        let found = index(&content);
        assert_sound(&found, &content);
        assert_eq!(
            (found.shapes.len(), found.blocks.len(), found.floors.len()),
            (shapes, blocks, floors),
            "{meets}"
        );
        assert_eq!(damaged(&kit, &content), failing, "{meets}");
        let is_it = |range: &DamagedRange| match range.what {
            BlockFileDamage::HeaderHalf => damage == "HeaderHalf",
            BlockFileDamage::Header => damage == "Header",
            BlockFileDamage::Newer { .. } => damage == "Newer",
            // What stands behind a header without a frame.
            BlockFileDamage::Frame(_) => damage == "Frame" || damage == "Header" && blocks == 0,
            BlockFileDamage::Block(BlockError::HeaderChecksum) => damage == "Block",
            BlockFileDamage::UnknownKind(4) => damage == "UnknownKind",
            _ => false,
        };
        assert_eq!(found.damage.is_empty(), damage == "none", "{meets}: {:?}", found.damage);
        assert!(found.damage.iter().all(is_it), "{meets}: {:?}", found.damage);
    }
}

#[test]
fn fields_that_contradict_each_other_are_damage() {
    let kit = Kit::new();
    let (bytes, _) = sample(&kit);
    let block = frames(&bytes).into_iter().find(|(kind, _)| *kind == KIND_BLOCK).unwrap().1;
    let longer = [&bytes[block.start + frame::HEADER_BYTES..block.end - 4], b"!"].concat();
    let floors = |count: u32, len: usize| {
        let mut payload = vec![0; 16];
        payload.extend_from_slice(&count.to_le_bytes());
        payload.resize(len, 0);
        payload
    };
    let cases = [
        (KIND_BLOCK, longer),
        (KIND_FLOORS, floors(1, 31)),
        (KIND_FLOORS, floors(2, 32)),
        (KIND_FLOORS, floors(u32::MAX, 32)),
        (KIND_FLOORS, vec![0; 19]),
    ];
    for (kind, payload) in cases {
        let found = index(&with_frame(&bytes, kind, &payload).into());
        assert_eq!(found.damage.len(), 1);
        assert_eq!(found.damage[0].what, BlockFileDamage::Fields);
        assert_eq!((found.blocks.len(), found.floors.len()), (4, 2));
    }
}

#[test]
fn every_damage_that_the_page_names_exists_and_the_other_way_round() {
    let source = include_str!("../../src/blockfile.rs");
    let (_, body) = source.split_once("pub enum BlockFileDamage {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants: Vec<&str> = lines
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split([',', '(', ' ']).next().unwrap())
        .collect();
    assert_eq!(variants.len(), 8, "{variants:?}");
    let (_, section) = FORMAT.split_once("## Version 3").unwrap();
    for variant in variants {
        assert!(section.contains(&format!("`{variant}`")), "{variant} is not in FORMAT.md");
    }
    assert_eq!(blockfile::VERSION, 3);
}
