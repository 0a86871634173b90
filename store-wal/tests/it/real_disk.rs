//! The same on a real file system, as far as that can be shown without a power loss.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use store_disk::{Disk, Lineage, RealDisk};
use store_wal::{Log, LogOptions, LogPos, Until, replay, scan, sync_found};

use crate::support::append;

fn open(disk: &Arc<dyn Disk>, dir: &Path, lineage: Lineage) -> (Log, Vec<(LogPos, Vec<u8>)>) {
    let found = scan(disk.as_ref(), dir).unwrap();
    let start = found.start(lineage).unwrap_or_default();
    let options = LogOptions { segment_bytes_max: 1 << 16, ..LogOptions::default() };
    let log = Log::open(Arc::clone(disk), dir.to_owned(), &found, lineage, 0, start, options).unwrap();
    sync_found(disk.as_ref(), &found, start).unwrap();
    let mut rows = Vec::new();
    let report = replay(disk.as_ref(), &found, lineage, start, &mut |position, _, bytes| {
        rows.push((position, bytes.to_vec()))
    });
    assert_eq!((report.damaged_bytes, report.unreadable.len()), (0, 0));
    (log, rows)
}

#[test]
fn rows_come_back_over_starts_switches_and_retirements() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join(".wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(16));
    let lineage = Lineage::random();
    let mut expected: Vec<(LogPos, Vec<u8>)> = Vec::new();
    for life in 0..4u8 {
        let (log, rows) = open(&disk, &dir, lineage);
        assert_eq!(rows, expected, "life {life}");
        for number in 0..200u32 {
            let row = [&number.to_le_bytes()[..], &vec![life; 997]].concat();
            expected.push((append(&log, &row), row));
            let until = if number % 10 == 9 { Until::Synced } else { Until::Written };
            log.flush(until).unwrap();
            if log.needs_switch() {
                log.switch().unwrap();
            }
        }
        let safe = expected[expected.len() / 2].0;
        log.retire(safe, true).unwrap();
        expected.retain(|(position, _)| *position >= safe);
        let stats = log.stats();
        let names = std::fs::read_dir(&dir).unwrap().count() as u64;
        assert_eq!(stats.segments, names);
        let bytes: u64 =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(stats.retained_bytes, bytes);
    }
    let (log, _) = open(&disk, &dir, lineage);
    log.remove_all().unwrap();
    assert!(!dir.exists());
}

#[test]
fn a_directory_that_takes_no_file_degrades_the_log_until_it_does() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join(".wal");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(16));
    let lineage = Lineage::random();
    let (log, _) = open(&disk, &dir, lineage);
    append(&log, b"row");
    // A file where the directory should be: nothing can be created in it, by root either.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let aside = temp.path().join("aside");
    disk.rename(&dir, &aside).unwrap();
    std::fs::File::create(&dir).unwrap();
    assert!(log.switch().is_err());
    assert!(!log.is_degraded(), "the old segment is as good as before");
    log.degrade("for the test");
    assert!(log.heal_begin().is_err());
    std::fs::remove_file(&dir).unwrap();
    disk.rename(&aside, &dir).unwrap();
    log.heal_begin().unwrap();
    append(&log, b"again");
    log.heal_finish().unwrap();
    drop(log);
    assert_eq!(
        open(&disk, &dir, lineage).1.iter().map(|(_, row)| &row[..]).collect::<Vec<_>>(),
        [&b"row"[..], b"again"]
    );
}
