//! Which files a rolled file, and which blocks in memory a merged block, stands for.

use std::path::Path;

use store_checkpoint::blockfile::{BlockFileDamage, DamagedRange, Index};
use store_checkpoint::roll::supersedes;
use store_core::block::BlockHeader;
use store_core::stamp::Stamp;
use store_disk::SimDisk;
use store_disk::frame::Damage;

use crate::blocks::{FOREIGN, Kit, LINEAGE, put_file};
use crate::roll::{at, found, host, roll_all, sources};

#[test]
fn a_rolled_file_supersedes_its_sources_and_nothing_else() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let before = kit.look(&disk, host());
    roll_all(&disk, &kit, &sources).unwrap();
    let rolled = kit.look(&disk, host()).files.into_values().next().unwrap();
    for source in before.files.values() {
        assert!(supersedes(&rolled, source));
        assert!(!supersedes(source, &rolled));
        let mut unmarked = rolled.clone();
        unmarked.rolled = false;
        assert!(!supersedes(&unmarked, source), "only what is marked");
    }
    assert!(!supersedes(&rolled, &rolled), "never each other");

    let source = &before.files[&sources[1]];
    let changed = |change: &dyn Fn(&mut BlockHeader)| {
        let mut other = source.clone();
        change(&mut other.blocks[0].header);
        supersedes(&rolled, &other)
    };
    assert!(changed(&|_| {}));
    assert!(!changed(&|header| header.as_of = Stamp(at(2, 9))), "newer");
    assert!(changed(&|header| header.as_of = Stamp(at(2, 7))));
    assert!(!changed(&|header| header.rows += 1), "a slot more behind");
    assert!(!changed(&|header| header.base -= 14_010), "a slot more before");
    assert!(!changed(&|header| header.grid.anchor = 1), "another grid");
    assert!(!changed(&|header| header.buffer = 1), "another buffer");
    assert!(!changed(&|header| header.columns += 1), "more columns");
    assert!(!changed(&|header| header.shape.0[0] ^= 1), "another shape");
    let spoiled = |change: &dyn Fn(&mut Index)| {
        let mut other = source.clone();
        change(&mut other);
        supersedes(&rolled, &other)
    };
    let damaged = |what| DamagedRange { offset: 900, bytes: 3, what };
    assert!(spoiled(&|other| other.damage.push(damaged(BlockFileDamage::Frame(Damage::CutShort)))));
    assert!(spoiled(&|other| other.damage.push(damaged(BlockFileDamage::HeaderHalf))));
    for what in [
        BlockFileDamage::Frame(Damage::BadHeader),
        BlockFileDamage::Frame(Damage::BadPayload),
        BlockFileDamage::UnknownKind(9),
        BlockFileDamage::Header,
    ] {
        assert!(!spoiled(&|other| other.damage.push(damaged(what))), "{what}");
    }
    assert!(!spoiled(&|other| other.lineage = Some(FOREIGN)));
    assert!(!spoiled(&|other| other.header_good = false));
    // Floors.
    let floored = &before.files[&sources[0]];
    let floor = |floor: (u32, i64)| {
        let mut other = floored.clone();
        other.floors[0].floors = vec![floor];
        supersedes(&rolled, &other)
    };
    assert!(floor((1, 300)) && floor((1, 299)) && !floor((1, 301)) && !floor((0, 1)));
    // A rolled file that is damaged may have lost what it superseded.
    let mut bad = rolled.clone();
    bad.damage.push(damaged(BlockFileDamage::HeaderHalf));
    assert!(!supersedes(&bad, source));
}

#[test]
fn a_shape_is_a_prefix_by_its_names() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let older = put_file(&disk, &kit, host(), LINEAGE, &[kit.block(0, 0, 0..20, at(1, 1))], &[]);
    let other_dir = Path::new("/elsewhere/alpha/n1");
    let newer = put_file(&disk, &kit, other_dir, LINEAGE, &[kit.block(2, 0, 0..20, at(1, 2))], &[]);
    let (mut older, mut newer) = (found(&disk, &older), found(&disk, &newer));
    newer.rolled = true;
    assert!(supersedes(&newer, &older));
    let shapes = std::mem::take(&mut newer.shapes);
    assert!(!supersedes(&newer, &older), "nothing says what its columns are");
    // The other way round it is no prefix, however new it is.
    newer.shapes = shapes;
    older.rolled = true;
    older.blocks[0].header.as_of = Stamp(at(1, 3));
    older.blocks[0].header.columns = 3;
    assert!(!supersedes(&older, &newer));
}

#[test]
fn a_merged_block_stands_for_those_in_memory_that_it_covers() {
    let kit = Kit::new();
    let disk = SimDisk::new();
    let sources = sources(&disk, &kit);
    let before = kit.look(&disk, host());
    let rolled = roll_all(&disk, &kit, &sources).unwrap();
    assert!(before.blocks.iter().all(|block| rolled.covers(block.header())));
    let patched = kit.block(2, 0, 100..300, at(2, 9));
    assert!(!rolled.covers(patched.header()), "patched while the host was rolled");
    assert!(!rolled.covers(kit.block(2, 0, 301..303, at(1, 1)).header()), "in a gap");
}
