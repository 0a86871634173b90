//! A roll shows what its sources showed, refuses what it cannot carry over, and takes sources away only for a file
//! that holds all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use store_checkpoint::blockfile::{BlockFile, BlockFileError, HEADER_BYTES, Index};
use store_checkpoint::roll::{RollError, Rolled, roll, supersedes};
use store_core::block::Block;
use store_core::metric::Catalog;
use store_disk::frame;
use store_disk::sim::{Effect, Fault, Keep, Op};
use store_disk::{Disk, RealDisk, SimDisk};

use crate::blocks::{Cells, FOREIGN, Kit, LINEAGE, Probe, Probed, Seen, index_of, lay, put_file};

const HOST: &str = "/data/alpha/n1";
const EIO: i32 = 5;

pub(crate) fn host() -> &'static Path {
    Path::new(HOST)
}

pub(crate) fn at(segment: u64, offset: u64) -> u64 {
    segment << 32 | offset
}

fn roll_from(
    disk: &dyn Disk,
    kit: &Kit,
    sources: &[PathBuf],
    keep_from: i64,
    floors: &[(u32, i64)],
) -> Result<Rolled, RollError> {
    let resolve = |hash, bytes: &[u8]| kit.resolve(hash, bytes);
    roll(
        disk,
        host(),
        sources,
        LINEAGE,
        &kit.catalog,
        kit.newest(),
        &resolve,
        keep_from,
        floors,
        &Arc::default(),
    )
}

pub(crate) fn roll_all(disk: &dyn Disk, kit: &Kit, sources: &[PathBuf]) -> Result<Rolled, RollError> {
    roll_from(disk, kit, sources, i64::MIN, &[])
}

/// Three files of one host: blocks that touch, that overlap, of older shapes, on two grids, in two buffers.
pub(crate) fn sources(disk: &SimDisk, kit: &Kit) -> Vec<PathBuf> {
    vec![
        put_file(
            disk,
            kit,
            host(),
            LINEAGE,
            &[kit.block(0, 0, 0..64, at(1, 70)), kit.block(0, 0, 64..100, at(1, 900))],
            &[kit.floors(0, &[(1, 300)])],
        ),
        put_file(
            disk,
            kit,
            host(),
            LINEAGE,
            &[
                kit.block(2, 0, 100..300, at(2, 8)),
                kit.block(2, 1, 3..20, at(2, 8)),
                kit.block_on(2, 0, 7, 500..560, at(2, 80)),
            ],
            &[],
        ),
        // Late samples: on top of what is there, beside a gap, before all of it.
        put_file(
            disk,
            kit,
            host(),
            LINEAGE,
            &[
                kit.block(1, 0, 32..96, at(3, 4)),
                kit.block(2, 0, 305..310, at(3, 9)),
                kit.block(2, 0, -40..0, at(3, 11)),
            ],
            &[kit.floors(2, &[(3, 60), (1, 200)])],
        ),
    ]
}

fn assert_shows(before: &Seen, after: &Seen, what: &str) {
    assert_eq!(before.cells, after.cells, "{what}");
    assert_eq!(before.floors, after.floors, "{what}");
}

#[test]
fn a_rolled_host_shows_what_it_showed() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let before = kit.look(&disk, host());
    let rolled = roll_all(&disk, &kit, &sources).unwrap();
    let after = kit.look(&disk, host());
    assert_shows(&before, &after, "after the roll");
    assert_eq!(before.floors, BTreeMap::from([(1, 300), (3, 60)]));

    let path = rolled.path.unwrap();
    assert_eq!(path, host().join("-400.bin"));
    assert_eq!(after.files.keys().collect::<Vec<_>>(), [&path]);
    let file = &after.files[&path];
    assert!(file.rolled && file.damage.is_empty() && file.lineage == Some(LINEAGE));
    assert_eq!(rolled.bytes, file.file_bytes);
    let ranges: Vec<_> = rolled
        .blocks
        .iter()
        .map(|block| block.header())
        .map(|h| (h.buffer, h.grid.anchor, h.base, h.rows, h.as_of.0, h.columns))
        .collect();
    assert_eq!(
        ranges,
        [
            (0, 0, -400, 256, at(3, 11), 3),
            (0, 0, 2160, 84, at(2, 8), 3),
            (0, 0, 3050, 5, at(3, 9), 3),
            (0, 7, 5007, 60, at(2, 80), 3),
            (1, 0, 180, 17, at(2, 8), 2),
        ]
    );
    let mut cells = Cells::new();
    rolled.blocks.iter().for_each(|block| lay(&mut cells, block));
    assert_eq!(cells, before.cells, "the blocks that are returned show the same");
    assert!(rolled.left.is_empty() && rolled.set_aside.is_empty());
    assert!(disk.unsynced().is_empty(), "{:?}", disk.unsynced());
}

#[test]
fn a_rolled_host_can_be_rolled_again_with_what_came_later() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let mut files = vec![roll_all(&disk, &kit, &sources).unwrap().path.unwrap()];
    for round in 0..5_i64 {
        let later = [
            kit.block(2, 0, 310 + round * 10..320 + round * 10, at(9, round.unsigned_abs())),
            kit.block(2, 0, 20 * round..20 * round + 30, at(10, round.unsigned_abs())),
        ];
        files.push(put_file(&disk, &kit, host(), LINEAGE, &later, &[]));
        let before = kit.look(&disk, host());
        let rolled = roll_all(&disk, &kit, &files).unwrap();
        assert_shows(&before, &kit.look(&disk, host()), "after the roll");
        files = vec![rolled.path.unwrap()];
        assert!(matches!(roll_all(&disk, &kit, &files), Err(RollError::Nothing)));
    }
    assert_eq!(kit.look(&disk, host()).files.len(), 1);
}

#[test]
fn nothing_to_merge_is_no_work() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    assert!(matches!(roll_all(&disk, &kit, &[]), Err(RollError::Nothing)));
    let one = put_file(&disk, &kit, host(), LINEAGE, &[kit.block(0, 0, 0..30, at(1, 1))], &[]);
    let rolled = roll_all(&disk, &kit, &[one]).unwrap().path.unwrap();
    let changes = disk.changes();
    assert!(matches!(roll_all(&disk, &kit, std::slice::from_ref(&rolled)), Err(RollError::Nothing)));
    assert!(matches!(
        roll_from(&disk, &kit, std::slice::from_ref(&rolled), 300, &[]),
        Err(RollError::Nothing)
    ));
    assert_eq!(disk.changes(), changes);
    // But what is too old is dropped from a rolled file, too.
    assert_eq!(roll_from(&disk, &kit, &[rolled], 301, &[]).unwrap().path, None);
    assert!(disk.files().is_empty());
}

#[test]
fn blocks_that_end_before_the_retention_are_left_out() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let blocks = [kit.block(0, 0, 0..10, at(1, 1)), kit.block(0, 0, 20..30, at(1, 2))];
    let source = put_file(&disk, &kit, host(), LINEAGE, &blocks, &[]);
    let rolled = roll_from(&disk, &kit, &[source], 101, &[]).unwrap();
    assert_eq!(rolled.blocks.len(), 1);
    assert_eq!(rolled.path.unwrap(), host().join("200.bin"));
    assert_eq!(kit.look(&disk, host()).cells.keys().map(|key| key.2).min(), Some(200));
}

#[test]
fn an_old_block_that_hides_older_samples_of_a_kept_one_stays() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let kept = kit.block(0, 0, 5..40, at(1, 1));
    // Late samples over its begin, and over theirs.
    let hiding =
        [kit.block(0, 0, 3..8, at(1, 2)), kit.block(0, 0, 0..4, at(1, 3)), kit.block(0, 0, -9..-5, at(1, 9))];
    let first = put_file(&disk, &kit, host(), LINEAGE, &[kept], &[]);
    let second = put_file(&disk, &kit, host(), LINEAGE, &hiding, &[]);
    let mut before = kit.look(&disk, host()).cells;
    roll_from(&disk, &kit, &[first, second], 150, &[]).unwrap();
    let after = kit.look(&disk, host()).cells;
    before.retain(|key, _| key.2 >= 0);
    assert_eq!(before, after);
}

#[test]
fn sources_without_anything_that_is_kept_go_without_a_new_file() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let rolled = roll_from(&disk, &kit, &sources, 1 << 40, &[]).unwrap();
    assert_eq!((rolled.path, rolled.blocks.len(), rolled.bytes), (None, 0, 0));
    assert!(disk.files().is_empty() && disk.unsynced().is_empty());
}

#[test]
fn floors_are_copied_as_long_as_they_hide_something() {
    let kit = Kit::new();
    for (keep_from, given, expected) in [
        (i64::MIN, &[][..], vec![(1, 300), (3, 60)]),
        (60, &[(1, 250), (0, 77)][..], vec![(0, 77), (1, 300)]),
        (0, &[(3, 90)], vec![(1, 300), (3, 90)]),
    ] {
        let disk = SimDisk::new();
        let sources = sources(&disk, &kit);
        roll_from(&disk, &kit, &sources, keep_from, given).unwrap();
        assert_eq!(kit.look(&disk, host()).floors.into_iter().collect::<Vec<_>>(), expected);
    }
    // Also if nothing else is left.
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let rolled = roll_from(&disk, &kit, &sources, 1 << 40, &[(2, 1 << 41), (0, 1 << 42)]).unwrap();
    assert_eq!(rolled.path, Some(host().join(format!("{}.bin", 1_i64 << 41))));
    assert_eq!(kit.look(&disk, host()).floors, BTreeMap::from([(0, 1 << 42), (2, 1 << 41)]));
}

#[test]
fn another_lineage_ranks_below_ours_and_keeps_its_order() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let foreign = [kit.block(2, 0, 0..50, at(900, 1)), kit.block(2, 0, 40..60, at(900, 2))];
    let imported = [kit.block(2, 0, 20..30, 0)];
    let ours = [kit.block(2, 0, 45..55, at(1, 1))];
    let sources = [
        put_file(&disk, &kit, host(), LINEAGE, &ours, &[]),
        put_file(&disk, &kit, host(), FOREIGN, &foreign, &[]),
        put_file(&disk, &kit, host(), LINEAGE, &imported, &[]),
    ];
    let before = kit.look(&disk, host());
    let rolled = roll_all(&disk, &kit, &sources).unwrap();
    assert_shows(&before, &kit.look(&disk, host()), "after the roll");
    assert_eq!(rolled.blocks.iter().map(|b| b.header().as_of.0).collect::<Vec<_>>(), [at(1, 1)]);
    // On its own it stays below every position of our log.
    let disk = SimDisk::new();
    let source = put_file(&disk, &kit, host(), FOREIGN, &foreign, &[]);
    let rolled = roll_all(&disk, &kit, &[source]).unwrap();
    assert!(rolled.blocks.iter().all(|block| (1..1 << 32).contains(&block.header().as_of.0)));
}

/// Bytes of a file with one changed.
fn flip(disk: &SimDisk, path: &Path, at: u64) {
    disk.flip(path, usize::try_from(at).unwrap() * 8).unwrap();
}

pub(crate) fn found(disk: &SimDisk, path: &Path) -> Index {
    index_of(&disk.contents(path).unwrap().into())
}

#[test]
fn a_damaged_source_is_refused_and_named() {
    let kit = Kit::new();
    type Spoil = fn(&SimDisk, &Path);
    let cases: [(&str, Spoil); 5] = [
        ("column 1 of the block is not what was written", |disk, path| {
            let body = found(disk, path).blocks[1].body_at;
            // The checksum in the second entry.
            flip(disk, path, body + 12);
        }),
        ("checksum of the block's header is wrong", |disk, path| {
            let offset = found(disk, path).blocks[0].offset;
            flip(disk, path, offset + frame::HEADER_BYTES as u64 + 20);
        }),
        ("bad frame header", |disk, path| flip(disk, path, found(disk, path).blocks[0].offset)),
        ("the file header is damaged", |disk, path| {
            disk.patch(path, |bytes| bytes[..HEADER_BYTES].fill(1)).unwrap();
        }),
        ("bad payload checksum", |disk, path| flip(disk, path, HEADER_BYTES as u64 + 40)),
    ];
    for (what, spoil) in cases {
        let disk = SimDisk::new();
        let sources = sources(&disk, &kit);
        spoil(&disk, &sources[1]);
        let files = disk.files();
        match roll_all(&disk, &kit, &sources) {
            Err(error @ RollError::Damaged { .. }) => {
                assert!(error.to_string().ends_with(what), "{error}");
                assert!(matches!(error, RollError::Damaged { path, .. } if path == sources[1]));
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(disk.files(), files);
    }
}

#[test]
fn half_a_header_is_no_loss() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    flip(&disk, &sources[0], 12);
    let before = kit.look(&disk, host());
    roll_all(&disk, &kit, &sources).unwrap();
    assert_shows(&before, &kit.look(&disk, host()), "after the roll");
}

#[test]
fn a_torn_end_is_left_out_and_kept_if_it_might_be_rot() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let mut sources = sources(&disk, &kit);
    let (cut, garbage) = (sources[0].clone(), sources[1].clone());
    disk.patch(&cut, |bytes| bytes.truncate(bytes.len() - 5)).unwrap();
    disk.patch(&garbage, |bytes| bytes.extend_from_slice(&[0; 700])).unwrap();
    let spoiled = disk.contents(&garbage).unwrap();
    // What a kill leaves between creating a file and writing to it.
    sources.push(host().join("77.bin"));
    disk.put(&sources[3], "").unwrap();
    let before = kit.look(&disk, host());
    let rolled = roll_all(&disk, &kit, &sources).unwrap();
    assert_shows(&before, &kit.look(&disk, host()), "after the roll");
    let aside = PathBuf::from(format!("{}.corrupt-1", garbage.display()));
    assert_eq!(rolled.set_aside, std::slice::from_ref(&aside));
    assert_eq!(disk.contents(&aside), Some(spoiled));
    let names: BTreeSet<PathBuf> = disk.files().into_keys().collect();
    assert_eq!(names, BTreeSet::from([rolled.path.unwrap(), aside]));
}

#[test]
fn a_source_of_another_host_is_refused() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let mut sources = sources(&disk, &kit);
    let other =
        put_file(&disk, &kit, Path::new("/data/alpha/n2"), LINEAGE, &[kit.block(0, 0, 0..9, at(9, 9))], &[]);
    sources.push(host().join("5.bin"));
    disk.put(&sources[3], disk.contents(other).unwrap()).unwrap();
    match roll_all(&disk, &kit, &sources) {
        Err(RollError::Misplaced { path }) => assert_eq!(path, sources[3]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_shape_that_is_not_a_prefix_or_not_known_is_refused() {
    let kit = Kit::new();
    let resolve = |hash, bytes: &[u8]| kit.resolve(hash, bytes);
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let shape = &kit.shapes[1];
    let result =
        roll(&disk, host(), &sources, LINEAGE, &kit.catalog, shape, &resolve, i64::MIN, &[], &Arc::default());
    assert!(matches!(result, Err(RollError::Shape { path, .. }) if path == sources[0] || path == sources[1]));
    // A shape whose frame is nowhere is asked for without its bytes.
    let empty = Catalog::default();
    let from = |known: bool| {
        let resolve = |hash, bytes: &[u8]| {
            let found = kit.shapes.iter().find(|shape| shape.hash() == hash).cloned();
            if known || !bytes.is_empty() { found } else { None }
        };
        let disk = SimDisk::new();
        let sources = self::sources(&disk, &kit);
        let path = sources[0].clone();
        // The shape's frames become those of another shape, whole.
        disk.patch(&path, |bytes| {
            let identity = u32::from_le_bytes(bytes[24..28].try_into().unwrap());
            let seed = u64::from(store_checkpoint::blockfile::SEED_HIGH) << 32 | u64::from(identity);
            let mut at = HEADER_BYTES as u64;
            while let Ok(found) = frame::Frame::at(bytes, seed, at) {
                let (end, is_shape, len) = (found.end(), found.kind == 1, found.payload.len());
                if is_shape {
                    let mut other = Vec::new();
                    frame::encode_into(&mut other, seed, at, 1, &[&vec![0; len]]);
                    bytes.splice(usize::try_from(at).unwrap()..usize::try_from(end).unwrap(), other);
                }
                at = end;
            }
        })
        .unwrap();
        roll(
            &disk,
            host(),
            &sources,
            LINEAGE,
            &kit.catalog,
            kit.newest(),
            &resolve,
            i64::MIN,
            &[],
            &Arc::default(),
        )
    };
    assert!(matches!(from(false), Err(RollError::Shape { .. })));
    from(true).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn a_misread_source_is_never_taken_for_a_torn_one() {
    let kit = Kit::new();
    let simulated = SimDisk::new();
    let sources = sources(&simulated, &kit);
    let (files, before) = (simulated.files(), kit.look(&simulated, host()));
    for path in &sources {
        for byte in HEADER_BYTES..files[path].len() {
            let disk = simulated.fork();
            let once = std::sync::atomic::AtomicBool::new(true);
            let bad = path.clone();
            let misread = move |path: &Path, bytes: &mut Vec<u8>| {
                if path == bad && once.swap(false, std::sync::atomic::Ordering::Relaxed) {
                    bytes[byte] ^= 1;
                }
            };
            let probe = Probe { read: Box::new(misread), ..Probe::new(&disk) };
            let result = roll_all(&Probed(Arc::new(probe)), &kit, &sources);
            match result {
                Err(RollError::Damaged { .. }) => assert_eq!(disk.files(), files),
                // What nobody needs: the second header of a block, and the checksum of its frame.
                Ok(_) => assert_shows(&before, &kit.look(&disk, host()), &format!("byte {byte}")),
                other => panic!("byte {byte}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_not_written_as_it_was_given_supersedes_nothing() {
    let kit = Kit::new();
    let simulated = SimDisk::new();
    let sources = sources(&simulated, &kit);
    let files = simulated.files();
    for byte in [0, 40, 70, 200, 500, 900] {
        let disk = simulated.fork();
        let scribble = move |_: &Path, bytes: &mut Vec<u8>| bytes[byte] ^= 1;
        let probe = Probe { write: Box::new(scribble), ..Probe::new(&disk) };
        let result = roll_all(&Probed(Arc::new(probe)), &kit, &sources);
        assert!(matches!(result, Err(RollError::Differs { .. })), "byte {byte}: {result:?}");
        assert_eq!(disk.files(), files);
    }
}

#[test]
fn a_neighbour_that_would_be_hidden_by_older_samples_is_asked_for() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    // The neighbour is newer than the first half of the source, and older than its second.
    let source = [kit.block(2, 0, 0..64, at(1, 5)), kit.block(2, 0, 64..128, at(1, 20))];
    let source = put_file(&disk, &kit, host(), LINEAGE, &source, &[]);
    let neighbour = put_file(&disk, &kit, host(), LINEAGE, &[kit.block(2, 0, 10..32, at(1, 10))], &[]);
    let before = kit.look(&disk, host());
    match roll_all(&disk, &kit, std::slice::from_ref(&source)) {
        Err(RollError::Overlaps { path }) => assert_eq!(path, neighbour),
        other => panic!("{other:?}"),
    }
    // Nor may what is newer hide a column that it does not have.
    let elsewhere = SimDisk::new();
    let fewer = put_file(&elsewhere, &kit, host(), LINEAGE, &[kit.block(0, 0, 0..64, at(2, 1))], &[]);
    put_file(&elsewhere, &kit, host(), LINEAGE, &[kit.block(1, 0, 10..32, at(1, 10))], &[]);
    assert!(matches!(roll_all(&elsewhere, &kit, &[fewer]), Err(RollError::Overlaps { .. })));
    // The other half does not care, nor does a neighbour in another place, buffer, grid or file format.
    disk.put(host().join("9.bin"), &b"\x01\x00\x5b\xccwhatever"[..]).unwrap();
    put_file(&disk, &kit, host(), LINEAGE, &[kit.block_on(2, 0, 3, 10..32, at(1, 10))], &[]);
    put_file(&disk, &kit, host(), LINEAGE, &[kit.block(2, 1, 10..32, at(1, 10))], &[]);
    put_file(&disk, &kit, host(), LINEAGE, &[kit.block(2, 0, 100..120, at(1, 10))], &[]);
    let with_others = kit.look(&disk, host());
    roll_all(&disk, &kit, &[source, neighbour]).unwrap();
    assert_shows(&with_others, &kit.look(&disk, host()), "after the roll");
    assert!(before.cells.len() < with_others.cells.len());
}

#[test]
fn whatever_call_fails_the_host_shows_what_it_showed() {
    let kit = Kit::new();
    let mut failures = 0;
    for effect in [Effect::Error(EIO), Effect::Lose(EIO), Effect::Done(EIO)] {
        for times in [1, 2, u64::MAX] {
            for number in 0.. {
                let disk = SimDisk::new();
                let sources = sources(&disk, &kit);
                let before = kit.look(&disk, host());
                let first = disk.calls() + number;
                disk.fail(Fault::new(effect, move |call| call.number >= first).times(times));
                let result = roll_all(&disk, &kit, &sources);
                if disk.fault_hits() == 0 {
                    break;
                }
                failures += 1;
                let what = format!("{effect:?} at {number}, {times} times: {result:?}");
                assert_shows(&before, &kit.look(&disk, host()), &what);
                for keep in [Keep::Nothing, Keep::Everything, Keep::Random(number)] {
                    let image = disk.after_power_loss(&keep);
                    assert_shows(&before, &kit.look(&image, host()), &format!("{what}, {keep:?}"));
                }
                disk.clear_faults();
                if result.is_err() {
                    let rest: Vec<PathBuf> = kit.look(&disk, host()).files.into_keys().collect();
                    roll_all(&disk, &kit, &rest).unwrap();
                }
                let after = kit.look(&disk, host());
                assert_shows(&before, &after, &what);
            }
        }
    }
    println!("{failures} rolls with a failure");
    assert!(failures > 100, "{failures}");
}

#[test]
fn each_failure_is_named() {
    let kit = Kit::new();
    let failing = |op: Op, skip: u64| {
        let disk = SimDisk::new();
        let sources = sources(&disk, &kit);
        disk.fail(Fault::new(Effect::Error(EIO), move |call| call.op == op).after(skip));
        let result = roll_all(&disk, &kit, &sources);
        assert_eq!(disk.fault_hits(), 1, "{op:?}");
        (result, disk.files().len())
    };
    assert!(matches!(failing(Op::Read, 0), (Err(RollError::Read { .. }), 3)));
    assert!(matches!(failing(Op::List, 0), (Err(RollError::Read { .. }), 3)));
    assert!(matches!(failing(Op::Create, 0), (Err(RollError::File(BlockFileError::Create { .. })), 3)));
    assert!(matches!(failing(Op::Append, 0), (Err(RollError::File(BlockFileError::Append { .. })), 3)));
    assert!(matches!(failing(Op::Sync, 0), (Err(RollError::File(BlockFileError::Sync { .. })), 3)));
    assert!(matches!(failing(Op::Rename, 0), (Err(RollError::Rename { .. }), 3)));
    assert!(matches!(failing(Op::SyncDir, 0), (Err(RollError::SyncDir { .. }), 3)));
    assert!(matches!(failing(Op::Map, 0), (Err(RollError::Read { .. }), 3)));
    // From here on the roll is done.
    let (result, files) = failing(Op::Remove, 1);
    assert_eq!((result.unwrap().left.len(), files), (1, 2));
    let (result, files) = failing(Op::SyncDir, 1);
    assert_eq!((result.unwrap().left.len(), files), (0, 1));
}

#[test]
fn a_temporary_file_that_somebody_left_is_not_touched() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let left = host().join("-400.bin.tmp");
    disk.put(&left, "somebody's").unwrap();
    disk.put(host().join("-400.bin"), "somebody's").unwrap();
    let rolled = roll_all(&disk, &kit, &sources).unwrap();
    assert_eq!(rolled.path, Some(host().join("-399.bin")));
    assert_eq!(disk.contents(left).unwrap(), b"somebody's");
}

#[test]
fn a_real_disk_rolls_and_keeps_the_blocks_mapped() {
    let kit = Kit::new();
    let directory = tempfile::tempdir().unwrap();
    let host_dir = directory.path().join("alpha/n1");
    let disk = RealDisk::new(8);
    for dir in [host_dir.parent().unwrap(), &host_dir] {
        disk.create_dir(dir).unwrap();
    }
    let mut sources = Vec::new();
    let blocks: Vec<_> =
        (0..4).map(|n| kit.block(2, 0, n * 64..n * 64 + 64, at(1, n.unsigned_abs() + 1))).collect();
    for block in &blocks {
        let mut file =
            BlockFile::create(&disk, &host_dir, block.header().base, LINEAGE, &Arc::default()).unwrap();
        file.append(&kit.catalog, std::slice::from_ref(block), &[]).unwrap();
        file.sync().unwrap();
        sources.push(file.path().to_owned());
    }
    let resolve = |hash, bytes: &[u8]| kit.resolve(hash, bytes);
    let rolled = roll(
        &disk,
        &host_dir,
        &sources,
        LINEAGE,
        &kit.catalog,
        kit.newest(),
        &resolve,
        0,
        &[],
        &Arc::default(),
    )
    .unwrap();
    assert_eq!(disk.list(&host_dir).unwrap().len(), 1);
    assert_eq!((rolled.blocks.len(), disk.maps()), (1, 1), "one map for the new file, none for the sources");
    let mut before = Cells::new();
    blocks.iter().for_each(|block| lay(&mut before, block));
    let mut after = Cells::new();
    lay(&mut after, &rolled.blocks[0]);
    assert_eq!(before, after);
    drop(rolled);
    assert_eq!(disk.maps(), 0);
}

/// Random blocks: shape, buffer, anchor, first row, rows, and the file they go to.
fn any_blocks() -> impl Strategy<Value = Vec<(usize, bool, bool, i64, i64, usize)>> {
    let block = (0..3_usize, any::<bool>(), prop::bool::weighted(0.2), -40..400_i64, 1..120_i64, 0..4_usize);
    prop::collection::vec(block, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn any_files_rolled_show_what_they_showed(
        blocks in any_blocks(),
        order in any::<u64>(),
        keep_from in prop_oneof![Just(i64::MIN), -400..4000_i64],
        taken in prop::collection::vec(any::<bool>(), 4),
        take_all in any::<bool>(),
    ) {
        let kit = Kit::new();
        let disk = SimDisk::new();
        let mut files: BTreeMap<usize, Vec<Arc<Block>>> = BTreeMap::new();
        for (n, (shape, slow, odd, first, rows, file)) in blocks.iter().enumerate() {
            let buffer = u16::from(*slow && *shape == 2);
            let anchor = if *odd { 3 } else { 0 };
            // Stamps in any order, each once.
            let stamp = at(1, (n as u64).wrapping_mul(order | 1) % 1_000_003 * 16 + n as u64);
            files.entry(*file).or_default().push(kit.block_on(*shape, buffer, anchor, *first..first + rows, stamp));
        }
        let paths: BTreeMap<usize, PathBuf> = files
            .iter()
            .map(|(n, blocks)| (*n, put_file(&disk, &kit, host(), LINEAGE, blocks, &[])))
            .collect();
        let sources: Vec<PathBuf> =
            paths.iter().filter(|(n, _)| take_all || taken[**n]).map(|(_, path)| path.clone()).collect();
        let before = kit.look(&disk, host());
        match roll_from(&disk, &kit, &sources, keep_from, &[]) {
            Ok(rolled) => {
                let after = kit.look(&disk, host());
                // What is kept is as it was; of what is not, whole blocks go.
                let kept = |cells: &Cells| -> Cells {
                    cells.iter().filter(|(key, _)| key.2 >= keep_from).map(|(k, v)| (*k, *v)).collect()
                };
                prop_assert_eq!(kept(&before.cells), kept(&after.cells));
                if take_all {
                    for (key, bits) in &after.cells {
                        prop_assert_eq!(before.cells.get(key), Some(bits));
                    }
                }
                for (a, b) in rolled.blocks.iter().zip(rolled.blocks.iter().skip(1)) {
                    let (a, b) = (a.header(), b.header());
                    prop_assert!((a.buffer, a.grid) != (b.buffer, b.grid) || a.end() <= b.base);
                }
                if keep_from == i64::MIN {
                    let rolled = kit.look(&disk, host()).files.remove(&rolled.path.unwrap()).unwrap();
                    for source in &sources {
                        prop_assert!(supersedes(&rolled, &before.files[source]));
                    }
                }
            }
            Err(RollError::Overlaps { path }) => {
                prop_assert!(!sources.contains(&path));
                prop_assert_eq!(before.cells, kit.look(&disk, host()).cells);
            }
            Err(RollError::Nothing) => prop_assert!(sources.is_empty()),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
