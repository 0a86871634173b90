//! A file goes when its newest sample is too old, and never for any other word of it.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use store_checkpoint::cleanup::{Cleaner, Holds, Limits};
use store_checkpoint::{Dump, DumpFormat, LoadError};
use store_disk::sim::{Effect, Fault, Op};
use store_disk::{Disk, SimDisk};

use crate::run;

const HOST: &str = "data/alpha/n1";
const INTERVAL_S: i64 = 500;

fn path(name: &str) -> PathBuf {
    Path::new(HOST).join(name)
}

fn limits(wanted_from: i64) -> Limits {
    Limits { wanted_from, checkpoint_interval_s: INTERVAL_S }
}

/// A dump of the range `[from, to)` with samples from `from` to `newest`, every 10 s.
fn put(disk: &SimDisk, name: &str, from: i64, newest: i64, to: i64) {
    let mut values = vec![1.0; usize::try_from((newest - from) / 10 + 1).unwrap()];
    // What is missing is no sample.
    values.push(f32::NAN);
    let dump = Dump { from, to, runs: vec![run(&[], "m", from, 10, &values)] };
    let format = if name.contains(".json") { DumpFormat::Json } else { DumpFormat::Bin1 };
    disk.put(path(name), format.encode(&dump).unwrap()).unwrap();
}

fn no_block_file(path: &Path) -> Result<Holds, LoadError> {
    panic!("{} is no block file", path.display())
}

fn clean(disk: &dyn Disk, wanted_from: i64) -> Vec<PathBuf> {
    clean_with(&Cleaner::new(), disk, wanted_from)
}

fn clean_with(cleaner: &Cleaner, disk: &dyn Disk, wanted_from: i64) -> Vec<PathBuf> {
    let cleaned = cleaner.clean_host(disk, Path::new(HOST), limits(wanted_from), &no_block_file).unwrap();
    assert!(cleaned.failed.is_empty() && cleaned.unread.is_empty(), "{cleaned:?}");
    cleaned.removed
}

#[test]
fn a_file_goes_when_its_newest_sample_is_older_than_what_is_wanted() {
    for name in ["1000.bin", "1000.json"] {
        let disk = SimDisk::new();
        put(&disk, name, 1000, 1090, 1100);
        assert!(clean(&disk, 1090).is_empty(), "{name}");
        assert_eq!(clean(&disk, 1091), [path(name)]);
        assert!(disk.files().is_empty(), "{name}");
    }
}

#[test]
fn neither_the_end_in_the_header_nor_the_interval_decides_about_a_file_that_says_what_it_holds() {
    let disk = SimDisk::new();
    // A host that fell silent: the file's range goes on.
    put(&disk, "1000.bin", 1000, 1050, 9000);
    // A file that reaches further than an interval.
    put(&disk, "900.json", 900, 3000, 3001);
    assert_eq!(clean(&disk, 2000), [path("1000.bin")]);
    assert_eq!(clean(&disk, 3001), [path("900.json")]);
}

#[test]
fn a_file_that_cannot_say_what_it_holds_lives_one_checkpoint_interval_longer_than_its_name() {
    for name in ["1000.bin", "1000.json", "1000.bin.corrupt-1", "1000.json.corrupt-12"] {
        let disk = SimDisk::new();
        put(&disk, name, 1000, 1000, 1010);
        disk.patch(path(name), |bytes| bytes.truncate(bytes.len() / 2)).unwrap();
        assert!(clean(&disk, 1000 + INTERVAL_S).is_empty(), "{name}");
        assert_eq!(clean(&disk, 1000 + INTERVAL_S + 1), [path(name)]);
    }
}

#[test]
fn a_file_without_a_single_sample_goes_by_the_interval() {
    let disk = SimDisk::new();
    let dump = Dump { from: 1000, to: 1100, runs: vec![run(&[], "m", 1000, 10, &[f32::NAN])] };
    disk.put(path("1000.bin"), DumpFormat::Bin1.encode(&dump).unwrap()).unwrap();
    assert!(clean(&disk, 1000 + INTERVAL_S).is_empty());
    assert_eq!(clean(&disk, 1000 + INTERVAL_S + 1), [path("1000.bin")]);
}

#[test]
fn what_has_no_number_is_never_deleted() {
    let disk = SimDisk::new();
    for name in ["backup.bin", "x.json", "current.wal", "current.wal.corrupt-1", "1.bin.tmp", "notes.txt"] {
        disk.put(path(name), &b"?"[..]).unwrap();
    }
    disk.put_dir(path("1.json")).unwrap();
    assert!(clean(&disk, i64::MAX).is_empty());
    assert_eq!(disk.changes(), 0);
}

#[test]
fn block_files_are_judged_by_who_can_read_them() {
    let disk = SimDisk::new();
    disk.put(path("1000.bin"), &b"block file"[..]).unwrap();
    disk.put(path("1100.bin"), &b"block file"[..]).unwrap();
    let asked = Cell::new(0);
    let judge = |file: &Path| {
        asked.set(asked.get() + 1);
        Ok(if file == path("1000.bin") { Holds::Newest(1999) } else { Holds::Unknown { number: Some(1100) } })
    };
    let cleaner = Cleaner::new();
    let cleaned = cleaner.clean_host(&disk, Path::new(HOST), limits(1999), &judge).unwrap();
    assert_eq!((cleaned.removed, cleaned.kept, asked.get()), (vec![path("1100.bin")], 1, 2));
    let cleaned = cleaner.clean_host(&disk, Path::new(HOST), limits(2000), &judge).unwrap();
    assert_eq!((cleaned.removed, cleaned.kept, asked.get()), (vec![path("1000.bin")], 0, 3));
}

#[test]
fn a_file_that_the_disk_does_not_give_stays() {
    for (op, at) in [(Op::Read, "1000.json"), (Op::ReadFront, "1000.bin"), (Op::Read, "1000.bin")] {
        let disk = SimDisk::new();
        put(&disk, "1000.bin", 1000, 1090, 1100);
        put(&disk, "1000.json", 1000, 1090, 1100);
        disk.fail(Fault::new(Effect::Error(5), move |call| call.op == op && call.path == path(at)));
        let cleaned =
            Cleaner::new().clean_host(&disk, Path::new(HOST), limits(9000), &no_block_file).unwrap();
        assert_eq!((cleaned.unread.len(), cleaned.removed.len()), (1, 1), "{op:?}");
        assert!(disk.contents(cleaned.unread[0].path()).is_some());
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_reported() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", 1000, 1090, 1100);
    disk.fail(Fault::new(Effect::Error(13), |call| call.op == Op::Remove));
    let cleaned = Cleaner::new().clean_host(&disk, Path::new(HOST), limits(9000), &no_block_file).unwrap();
    assert_eq!(cleaned.failed.len(), 1);
    assert_eq!(cleaned.failed[0].0, path("1000.bin"));
}

#[test]
fn a_pass_does_not_read_again_what_an_earlier_one_found_wanted() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", 1000, 5000, 5001);
    let cleaner = Cleaner::new();
    assert!(clean_with(&cleaner, &disk, 1500).is_empty());
    let reads = disk.calls_of(Op::Read);
    assert_eq!(reads, 1);
    for wanted_from in [1600, 3000, 5000] {
        assert!(clean_with(&cleaner, &disk, wanted_from).is_empty());
    }
    assert_eq!(disk.calls_of(Op::Read), reads);
    assert_eq!(clean_with(&cleaner, &disk, 5001), [path("1000.bin")]);
}

#[test]
fn what_is_remembered_of_a_file_never_deletes_the_one_that_replaced_it() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", 1000, 2000, 2001);
    let cleaner = Cleaner::new();
    assert!(clean_with(&cleaner, &disk, 1500).is_empty());
    put(&disk, "1000.bin", 1000, 4000, 4001);
    assert!(clean_with(&cleaner, &disk, 3000).is_empty());
    assert_eq!(clean_with(&cleaner, &disk, 4001), [path("1000.bin")]);
}

#[test]
fn the_seeds_interval_rule_is_kept_for_files_that_cannot_say() {
    // now − retention − interval, as the original computes it: older names go, that one and newer ones stay.
    let (now, retention) = (100_000, 10_000);
    let wanted_from = now - retention;
    let limits = limits(wanted_from);
    for (number, goes) in [(89_499, true), (89_500, false), (90_000, false), (i64::MAX, false)] {
        assert_eq!(limits.let_go(Holds::Unknown { number: Some(number) }), goes, "{number}");
    }
    assert!(!limits.let_go(Holds::Unknown { number: None }));
    // Checkpoints switched off: an interval of 0 or less never makes a file older than its name.
    let off = Limits { checkpoint_interval_s: -500, ..limits };
    assert!(!off.let_go(Holds::Unknown { number: Some(wanted_from) }));
}
