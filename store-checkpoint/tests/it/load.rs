//! Which files of a host are loaded, in which order, and what becomes of the others: the recovery table of
//! FORMAT.md, row by row.

use std::path::{Path, PathBuf};

use store_checkpoint::files::{HostFiles, set_aside};
use store_checkpoint::format::{bin1, json};
use store_checkpoint::{Dump, DumpFormat, LoadError, LoadedDumps, load_dumps, load_listed};
use store_disk::sim::{Effect, Fault, Op};
use store_disk::{Disk, RealDisk, SimDisk};

use crate::{golden, golden_path, run};

const HOST: &str = "data/alpha/n1";

fn path(name: &str) -> PathBuf {
    Path::new(HOST).join(name)
}

/// A dump of one series from `from` on, every 10 s, up to just before `to`.
fn dump(from: i64, to: i64, value: f32) -> Dump {
    let count = usize::try_from((to - from) / 10).unwrap();
    Dump { from, to, runs: vec![run(&[], "m", from, 10, &vec![value; count])] }
}

fn put(disk: &SimDisk, name: &str, dump: &Dump) {
    let format = if name.ends_with(".json") { DumpFormat::Json } else { DumpFormat::Bin1 };
    disk.put(path(name), format.encode(dump).unwrap()).unwrap();
}

fn load(disk: &dyn Disk, from: i64) -> LoadedDumps {
    load_dumps(disk, Path::new(HOST), from).unwrap()
}

/// Names of the loaded files in the order of precedence.
fn names(loaded: &LoadedDumps) -> Vec<String> {
    loaded.files.iter().map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_file_that_ended_before_the_time_asked_for_is_passed_over() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", &dump(1000, 1100, 1.0));
    put(&disk, "1200.json", &dump(1200, 1300, 2.0));
    let loaded = load(&disk, 1301);
    assert!(loaded.files.is_empty());
    assert_eq!(loaded.outdated, [path("1000.bin"), path("1200.json")]);
    assert_eq!(names(&load(&disk, 1300)), ["1200.json"], "`to` is the last moment that counts");
}

#[test]
fn a_file_that_does_not_say_its_end_is_loaded() {
    let disk = SimDisk::new();
    put(&disk, "1000.json", &Dump { to: 0, ..dump(1000, 1100, 1.0) });
    put(&disk, "1200.bin", &dump(1200, 1300, 2.0));
    assert_eq!(names(&load(&disk, 5000)), ["1000.json"]);
    assert_eq!(names(&load(&disk, 1250)), ["1000.json", "1200.bin"], "below all that do say it");
}

#[test]
fn a_file_that_reaches_to_the_time_asked_for_is_loaded_whatever_its_number() {
    let disk = SimDisk::new();
    for (name, to) in [("1000.bin", 2000), ("1100.bin", 1200), ("1150.json", 1900), ("1160.json", 1170)] {
        let from = name.split('.').next().unwrap().parse().unwrap();
        put(&disk, name, &dump(from, to, 1.0));
    }
    put(&disk, "1300.bin", &dump(1300, 1400, 1.0));
    // The rule by names takes 1300.bin only: the last before 1800, and none from there on.
    let loaded = load(&disk, 1800);
    assert_eq!(names(&loaded), ["1150.json", "1000.bin"]);
    let outdated = ["1100.bin", "1160.json", "1300.bin"].map(path);
    assert_eq!(loaded.outdated, outdated);
}

#[test]
fn the_newest_file_is_loaded_though_its_name_lies_before_the_time_asked_for() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", &dump(1000, 9000, 1.0));
    assert_eq!(names(&load(&disk, 5000)), ["1000.bin"]);
}

#[test]
fn precedence_goes_by_the_format_then_the_end_the_number_and_the_name() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", &dump(1000, 3000, 1.0));
    put(&disk, "1100.json", &dump(1100, 2000, 2.0));
    put(&disk, "1100.bin", &dump(1100, 2000, 3.0));
    put(&disk, "900.bin", &dump(900, 2000, 4.0));
    put(&disk, "-50.bin", &dump(-50, 1500, 5.0));
    let order = ["1100.json", "-50.bin", "900.bin", "1100.bin", "1000.bin"];
    assert_eq!(names(&load(&disk, 0)), order);
}

#[test]
fn a_damaged_file_is_reported_and_set_aside_whole() {
    let disk = SimDisk::new();
    let mut bytes = bin1::encode(&dump(1000, 1100, 1.0)).unwrap();
    bytes.truncate(bytes.len() - 1);
    disk.put(path("1000.bin"), bytes.clone()).unwrap();
    disk.put(path("900.json"), &b"[1,2]"[..]).unwrap();
    put(&disk, "1100.bin", &dump(1100, 1200, 2.0));

    let loaded = load(&disk, 1050);
    assert_eq!(names(&loaded), ["1100.bin"]);
    let reported: Vec<&Path> = loaded.unreadable.iter().map(LoadError::path).collect();
    assert_eq!(
        reported,
        [path("1000.bin"), path("900.json")],
        "also the one that the rule by names leaves out"
    );
    assert!(loaded.unreadable.iter().all(LoadError::is_damage));

    let aside = set_aside(&disk, &path("1000.bin")).unwrap();
    assert_eq!(aside, path("1000.bin.corrupt-1"));
    assert_eq!(disk.contents(&aside), Some(bytes));
    assert_eq!(load(&disk, 1050).unreadable.len(), 1);
}

#[test]
fn a_file_that_the_system_does_not_give_is_reported_and_left() {
    for op in [Op::Read, Op::ReadFront] {
        for at in ["1000.bin", "1000.json", "500.bin", "500.json"] {
            let disk = SimDisk::new();
            for name in ["1000.bin", "1000.json", "500.bin", "500.json"] {
                put(&disk, name, &dump(name.split('.').next().unwrap().parse().unwrap(), 1100, 1.0));
            }
            let file = path(at);
            disk.fail(Fault::new(Effect::Error(5), move |call| call.op == op && call.path == file));
            let loaded = load(&disk, 900);
            let used = disk.fault_hits() > 0;
            assert_eq!(loaded.unreadable.len(), usize::from(used), "{op:?} {at}");
            assert_eq!(loaded.files.len(), 4 - usize::from(used), "{op:?} {at}");
            assert!(!loaded.unreadable.iter().any(LoadError::is_damage));
            assert_eq!(used, op == Op::Read || at.ends_with(".bin"), "{op:?} {at}");
        }
    }
}

#[test]
fn a_bin_with_another_magic_is_left_to_the_reader_of_block_files() {
    let disk = SimDisk::new();
    let mut bytes = bin1::encode(&dump(1000, 1100, 1.0)).unwrap();
    bytes[0] ^= 0x10;
    disk.put(path("1000.bin"), bytes).unwrap();
    disk.put(path("1001.bin"), Vec::new()).unwrap();
    let loaded = load(&disk, 0);
    assert!(loaded.files.is_empty() && loaded.unreadable.is_empty());
    assert_eq!(loaded.not_version_1, [path("1000.bin"), path("1001.bin")]);
}

#[test]
fn names_and_things_that_do_not_belong_are_left() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", &dump(1000, 1100, 1.0));
    put(&disk, "backup.bin", &dump(1000, 1100, 2.0));
    put(&disk, "1000.bin.tmp", &dump(1000, 1100, 3.0));
    put(&disk, "1000.bin.corrupt-1", &dump(1000, 1100, 3.0));
    disk.put_dir(path("1005.json")).unwrap();
    disk.put_other(path("1006.json")).unwrap();
    let changes = disk.changes();
    let loaded = load(&disk, 0);
    assert_eq!(names(&loaded), ["1000.bin"]);
    assert_eq!(loaded.unreadable.len() + loaded.outdated.len() + loaded.not_version_1.len(), 0);
    assert_eq!(disk.changes(), changes, "loading changes nothing");
}

#[test]
fn a_directory_listed_before_loads_the_same() {
    let disk = SimDisk::new();
    put(&disk, "1000.bin", &dump(1000, 1100, 1.0));
    put(&disk, "1100.json", &dump(1100, 1200, 1.0));
    let listed = HostFiles::list(&disk, Path::new(HOST)).unwrap();
    assert_eq!(load_listed(&disk, Path::new(HOST), &listed, 0).files, load(&disk, 0).files);
    assert!(load_dumps(&disk, Path::new("data/alpha/none"), 0).unwrap().files.is_empty(), "no directory");
    assert!(load_dumps(&disk, &path("1000.bin"), 0).is_err(), "a file");
}

#[test]
fn the_runs_of_the_original_load_with_json_below_the_others() {
    let disk = RealDisk::new(4);
    let loaded = load_dumps(&disk, &golden_path("multi/m01"), 1_700_003_000).unwrap();
    assert_eq!(names(&loaded), ["1700006600.json", "1700000000.bin", "1700003600.bin"]);
    let json = json::decode(&golden("multi/m01/1700006600.json")).unwrap();
    assert_eq!(loaded.files[0].content, json);
    let later = load_dumps(&disk, &golden_path("multi/m01"), 1_700_004_000).unwrap();
    assert_eq!(names(&later), ["1700006600.json", "1700003600.bin"]);
    assert_eq!(later.outdated, [golden_path("multi/m01/1700000000.bin")]);
}
