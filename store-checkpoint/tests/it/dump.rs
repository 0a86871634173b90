//! A dump replaces a file at one moment, and survives whatever ends the process; so does a file set aside.

use std::io;
use std::path::Path;

use store_checkpoint::files::set_aside;
use store_checkpoint::format::bin1;
use store_checkpoint::{Dump, DumpError, DumpFormat, DurableDirs, EncodeError, dump_host};
use store_disk::sim::{Effect, Fault, Torn};
use store_disk::{Disk, DiskFile, DiskLock, Entry, SimDisk};

use crate::{run, sample};

const HOST: &str = "data/alpha/n1";
const FILE: &str = "data/alpha/n1/1000.bin";
const EIO: i32 = 5;

fn dump_to(disk: &dyn Disk, dump: &Dump) -> Result<Option<std::path::PathBuf>, DumpError> {
    dump_host(disk, &DurableDirs::new(), Path::new(HOST), dump, DumpFormat::Bin1)
}

fn empty_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir("data").unwrap();
    disk
}

#[test]
fn a_dump_is_durable_when_it_is_done() {
    let disk = empty_disk();
    let path = dump_to(&disk, &sample()).unwrap().unwrap();
    assert_eq!(path, Path::new(FILE));
    let mut images = 0;
    for (crash, image) in disk.images(20, 1) {
        let bytes = image.contents(FILE).unwrap_or_else(|| panic!("{crash:?}"));
        assert_eq!(bin1::decode(&bytes).unwrap().dump, sample(), "{crash:?}");
        images += 1;
    }
    assert!(images > 0);
}

#[test]
fn a_crash_at_any_call_leaves_the_old_file_or_the_new_one_whole() {
    let old = Dump { runs: vec![run(&[], "cpu_load", 1000, 10, &[7.0])], ..sample() };
    let (old_bytes, new_bytes) = (bin1::encode(&old).unwrap(), bin1::encode(&sample()).unwrap());
    let (mut images, mut with_old, mut with_new, mut calls) = (0, 0, 0, 0);
    loop {
        let disk = empty_disk();
        disk.put(FILE, old_bytes.clone()).unwrap();
        disk.crash_at(calls, Torn::Bytes(100));
        let done = dump_to(&disk, &sample()).is_ok();
        for (crash, image) in disk.images(20, calls) {
            let found =
                image.contents(FILE).unwrap_or_else(|| panic!("no file after {crash:?} at call {calls}"));
            assert!(found == old_bytes || found == new_bytes, "{crash:?} at call {calls}");
            with_old += u32::from(found == old_bytes);
            with_new += u32::from(found == new_bytes);
            images += 1;
        }
        if done {
            break;
        }
        calls += 1;
    }
    println!("{calls} calls, {images} images, {with_old} old, {with_new} new");
    assert!(calls >= 8 && with_old > 0 && with_new > 0, "{calls} calls, {with_old} old, {with_new} new");
}

#[test]
fn a_failure_at_any_call_is_an_error_and_the_next_try_succeeds() {
    let old_bytes = bin1::encode(&Dump { runs: vec![run(&[], "m", 1000, 10, &[7.0])], ..sample() }).unwrap();
    let mut number = 0;
    loop {
        let disk = empty_disk();
        disk.put(FILE, old_bytes.clone()).unwrap();
        disk.fail(Fault::at(Effect::Error(EIO), number));
        let result = dump_to(&disk, &sample());
        if disk.fault_hits() == 0 {
            assert!(result.is_ok());
            break;
        }
        assert!(result.is_err(), "call {number} failed unnoticed");
        disk.clear_faults();
        dump_to(&disk, &sample()).unwrap();
        assert_eq!(bin1::decode(&disk.contents(FILE).unwrap()).unwrap().dump, sample());
        number += 1;
    }
    assert!(number >= 8, "{number} calls failed");
}

#[test]
fn directories_are_created_once_and_their_parents_synced_once() {
    let disk = empty_disk();
    let dirs = DurableDirs::new();
    let hosts = ["data/alpha/n1", "data/alpha/n2", "data/beta/n1"].map(Path::new);
    dirs.ensure_all(&disk, hosts).unwrap();
    assert!(disk.unsynced().is_empty(), "{:?}", disk.unsynced());
    assert_eq!(disk.calls_of(store_disk::sim::Op::SyncDir), 3, "data, alpha, beta");
    let calls = disk.calls();
    dirs.ensure_all(&disk, hosts).unwrap();
    assert_eq!(disk.calls(), calls, "all known");

    // A directory that an earlier process created and did not sync.
    let killed = empty_disk();
    killed.create_dir(Path::new("data/alpha")).unwrap();
    killed.create_dir(Path::new("data/alpha/n1")).unwrap();
    let disk = killed.after_kill();
    DurableDirs::new().ensure(&disk, Path::new(HOST)).unwrap();
    assert!(disk.unsynced().is_empty(), "{:?}", disk.unsynced());
}

#[test]
fn a_directory_that_failed_to_sync_is_not_taken_for_durable() {
    let disk = empty_disk();
    let dirs = DurableDirs::new();
    let is_sync = |call: &store_disk::sim::Call| call.op == store_disk::sim::Op::SyncDir;
    disk.fail(Fault::new(Effect::Error(EIO), is_sync));
    assert!(dirs.ensure(&disk, Path::new(HOST)).is_err());
    dirs.ensure(&disk, Path::new(HOST)).unwrap();
    assert!(disk.unsynced().is_empty(), "{:?}", disk.unsynced());
}

#[test]
fn nothing_to_say_makes_no_file() {
    let disk = empty_disk();
    let empty = Dump { runs: vec![run(&[], "m", 1000, 10, &[])], ..sample() };
    assert_eq!(dump_to(&disk, &empty).unwrap(), None);
    assert_eq!(disk.changes(), 0);
}

#[test]
fn a_dump_that_no_reader_takes_is_refused_before_anything_is_written() {
    let disk = empty_disk();
    let twice = Dump { runs: vec![run(&[], "m", 1000, 10, &[1.0]); 2], ..sample() };
    match dump_to(&disk, &twice) {
        Err(DumpError::Encode { source: EncodeError::Series { series, .. }, .. }) => assert_eq!(series, "m"),
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.changes(), 0);
}

#[test]
fn a_disk_that_gives_back_other_bytes_is_noticed() {
    let disk = Rotten(empty_disk());
    match dump_to(&disk, &sample()) {
        Err(DumpError::Differs { path }) => assert_eq!(path, Path::new(FILE)),
        other => panic!("{other:?}"),
    }
}

/// A disk that flips the last bit of what it is asked to read.
#[derive(Debug)]
struct Rotten(SimDisk);

impl Disk for Rotten {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = self.0.read(path)?;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        Ok(bytes)
    }
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.0.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }
    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        self.0.read_front(path, len)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.0.len(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.create(path)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.0.sync_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        self.0.sync_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_over(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn resolve(&self, dir: &Path) -> io::Result<std::path::PathBuf> {
        self.0.resolve(dir)
    }
    fn identity(&self, path: &Path) -> io::Result<store_disk::Identity> {
        self.0.identity(path)
    }
    fn space(&self, dir: &Path) -> io::Result<store_disk::Space> {
        self.0.space(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock(dir)
    }
}

#[test]
fn a_file_set_aside_keeps_its_bytes_though_a_dump_takes_its_name() {
    let bad = b"not a checkpoint".to_vec();
    let (mut calls, mut images) = (0, 0);
    loop {
        let disk = empty_disk();
        disk.put(FILE, bad.clone()).unwrap();
        disk.put(format!("{FILE}.corrupt-1"), b"an older one".to_vec()).unwrap();
        disk.crash_at(calls, Torn::Nothing);
        let aside = set_aside(&disk, Path::new(FILE));
        let done = aside.is_ok() && dump_to(&disk, &sample()).is_ok();
        if let Ok(aside) = aside {
            assert_eq!(aside, Path::new("data/alpha/n1/1000.bin.corrupt-2"));
        }
        for (crash, image) in disk.images(20, calls) {
            let files = image.files();
            assert!(files.values().any(|content| *content == bad), "{crash:?} at call {calls}: {files:?}");
            assert!(files.values().any(|content| *content == b"an older one"), "{crash:?} at call {calls}");
            images += 1;
        }
        if done {
            break;
        }
        calls += 1;
    }
    println!("{calls} calls, {images} images");
    assert!(calls >= 10, "{calls} calls");
}

#[test]
fn a_file_that_cannot_be_renamed_is_said_to_be_where_it_was() {
    let disk = empty_disk();
    let missing = set_aside(&disk, Path::new(FILE)).unwrap_err();
    assert_eq!(missing.to_string(), format!("cannot set {FILE} aside"));
}
