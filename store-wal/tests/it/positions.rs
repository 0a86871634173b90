//! Positions grow for ever, and are given out in open segments only.

use std::path::Path;
use std::sync::Arc;

use store_disk::sim::{Effect, Fault, Op};
use store_wal::{Appended, Log, LogOptions, LogPos, OpenError, Until, scan};

use crate::support::{DIR, KIND, LINEAGE, Probe, append, found, new_disk, open, replayed, segment};

fn open_above(disk: &store_disk::SimDisk, number_above: u32) -> Result<Log, OpenError> {
    let found = found(disk);
    let options = LogOptions::default();
    Log::open(Arc::new(disk.clone()), DIR.into(), &found, LINEAGE, number_above, LogPos::ZERO, options)
}

#[test]
fn every_start_opens_the_segment_above_all_that_were_there() {
    let disk = new_disk();
    for number in 1..5 {
        let log = open(Arc::new(disk.clone()));
        assert_eq!((log.segment(), log.end()), (number, LogPos::new(number, 88)));
        assert_eq!(disk.files().len(), number as usize);
    }
}

#[test]
fn a_log_that_was_lost_goes_on_above_the_positions_known_from_elsewhere() {
    let disk = new_disk();
    assert_eq!(open_above(&disk, 41).unwrap().segment(), 42);
    // The greater of both counts.
    assert_eq!(open_above(&disk, 7).unwrap().segment(), 43);
    assert_eq!(open_above(&disk, 99).unwrap().segment(), 100);
}

#[test]
fn a_name_counts_whatever_stands_behind_it() {
    let disk = new_disk();
    disk.put(segment(3), b"").unwrap();
    disk.put_dir(segment(5)).unwrap();
    disk.put_other(segment(8)).unwrap();
    disk.put(format!("{DIR}/notes.txt"), b"99").unwrap();
    disk.put(format!("{DIR}/00000000004000000001.wal"), b"beyond the numbers").unwrap();
    assert_eq!(found(&disk).greatest(), 8);
    assert_eq!(open(Arc::new(disk)).segment(), 9);
}

#[test]
fn a_name_that_appears_after_the_scan_is_not_taken() {
    let disk = new_disk();
    let found = found(&disk);
    disk.put(segment(1), b"somebody's").unwrap();
    disk.put(segment(6), b"somebody's").unwrap();
    let options = LogOptions::default();
    let log =
        Log::open(Arc::new(disk.clone()), DIR.into(), &found, LINEAGE, 0, LogPos::ZERO, options).unwrap();
    assert_eq!(log.segment(), 7);
    assert_eq!(disk.contents(segment(1)).unwrap(), b"somebody's");
}

#[test]
fn numbers_end_with_an_error_and_not_from_the_beginning_again() {
    let error = open_above(&new_disk(), 4_000_000_000).unwrap_err();
    assert!(matches!(&error, OpenError::NoNumber { path } if path == Path::new(DIR)), "{error}");
    assert!(open_above(&new_disk(), u32::MAX).is_err());
    // A file that somebody gave the last number is none of ours, and the greatest that may be leaves enough.
    for (number, next) in [(4_000_000_000, 1), (3_999_000_000, 3_999_000_001)] {
        let disk = new_disk();
        disk.put(segment(number), b"").unwrap();
        assert_eq!(open_above(&disk, 0).unwrap().segment(), next);
    }
}

#[test]
fn no_position_is_given_out_in_a_segment_before_its_open_is_complete() {
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    append(&log, b"first");
    // (call, file, segment of the position that was given out before it)
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (hooked, record) = (Arc::clone(&log), Arc::clone(&seen));
    probe.set_hook(move |op, path| {
        let position = append(&hooked, b"in between");
        record.lock().unwrap().push((op, path.to_owned(), position.segment()));
    });
    log.switch().unwrap();
    probe.clear_hook();
    let seen = seen.lock().unwrap();
    let opened = seen.iter().position(|(op, path, _)| *op == Op::SyncDir && path == Path::new(DIR)).unwrap();
    assert!(seen[..=opened].iter().all(|(_, _, number)| *number == 1), "{seen:?}");
    // Its header and name were durable before: the calls on the new file and the directory come first.
    let calls: Vec<Op> = seen.iter().filter(|(_, path, _)| *path == segment(2)).map(|(op, ..)| *op).collect();
    assert_eq!(calls, [Op::Create, Op::Append, Op::Sync]);
    // Appends went on in the new segment while the rest of the old one was written.
    assert!(
        seen[opened + 1..].iter().all(|(_, _, number)| *number == 2) && seen.len() > opened + 1,
        "{seen:?}"
    );
    log.flush(Until::Synced).unwrap();
    let rows = replayed(&disk.after_power_loss(&store_disk::sim::Keep::Nothing));
    assert_eq!(rows.len(), 1 + seen.len());
}

#[test]
fn the_directory_above_is_synced_once_a_process_whoever_created_it() {
    let disk = new_disk();
    let parent_syncs = |disk: &store_disk::SimDisk| {
        disk.trace().iter().filter(|call| call.op == Op::SyncDir && call.path == Path::new("/data")).count()
    };
    for life in 1..4 {
        disk.record();
        let log = open(Arc::new(disk.clone()));
        for _ in 0..3 {
            log.switch().unwrap();
        }
        assert_eq!(parent_syncs(&disk), 1, "life {life}");
    }
    // Taken away and created again, its name is not durable any more.
    let log = open(Arc::new(disk.clone()));
    for path in disk.files().keys() {
        disk.take(path).unwrap();
    }
    store_disk::Disk::remove_dir(&disk, Path::new(DIR)).unwrap();
    disk.record();
    log.switch().unwrap();
    assert_eq!(parent_syncs(&disk), 1);
}

#[test]
fn positions_grow_through_errors_and_heals() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let mut last = append(&log, b"healthy");
    let mut grows = |position: LogPos| {
        assert!(position > last, "{position} behind {last}");
        last = position;
    };
    let give = |logged| {
        let Appended::At { first, last, logged: was } =
            log.append(log.segment(), &[(KIND, b"a"), (KIND, b"b")])
        else {
            panic!("another segment")
        };
        assert_eq!(was, logged);
        [first, last]
    };
    for round in 0..3 {
        disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::Sync));
        give(true).into_iter().for_each(&mut grows);
        assert!(log.flush(Until::Synced).is_err());
        give(false).into_iter().for_each(&mut grows);
        give(false).into_iter().for_each(&mut grows);
        // A heal that fails takes a number and gives out no position in it.
        disk.fail(Fault::new(Effect::Error(libc::ENOSPC), |call| call.op == Op::Append));
        let before = log.segment();
        assert!(log.heal_begin().is_err());
        assert_eq!(log.segment(), before);
        give(false).into_iter().for_each(&mut grows);
        log.heal_begin().unwrap();
        assert!(log.segment() > before);
        give(true).into_iter().for_each(&mut grows);
        log.heal_finish().unwrap();
        give(true).into_iter().for_each(&mut grows);
        log.flush(Until::Synced).unwrap();
        assert_eq!(log.stats().degradations, round + 1);
    }
}

#[test]
fn a_log_without_a_segment_gives_positions_above_all_found_ones_and_says_that_they_are_not_to_be_saved() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let before = append(&log, b"kept");
    log.flush(Until::Synced).unwrap();
    drop(log);

    disk.fail(Fault::new(Effect::Error(libc::EROFS), |call| call.op == Op::Create).for_ever());
    let found = found(&disk);
    let args =
        |disk: &store_disk::SimDisk| (Arc::new(disk.clone()), DIR.into(), LINEAGE, LogOptions::default());
    let (arc, dir, lineage, options) = args(&disk);
    let error = Log::open(arc, dir, &found, lineage, 0, LogPos::ZERO, options).unwrap_err();
    assert!(
        matches!(&error, OpenError::Segment { call: "create", path, .. } if *path == segment(2)),
        "{error}"
    );
    let (arc, dir, lineage, options) = args(&disk);
    let calls = disk.calls();
    let log = Log::open_degraded(arc, dir, &found, lineage, 0, LogPos::ZERO, options);
    assert_eq!(disk.calls(), calls, "made a call on the disk");
    assert!(log.is_degraded() && !log.is_open());
    let Appended::At { first, logged: false, .. } = log.append(log.segment(), &[(KIND, b"unlogged")]) else {
        panic!("logged")
    };
    assert!(first > before);
    assert!(log.commit(first, Until::Written).is_err());
    assert!(log.heal_begin().is_err() && !log.is_open());

    disk.clear_faults();
    log.heal_begin().unwrap();
    assert!(log.is_open() && log.is_degraded());
    let again = append(&log, b"unlogged");
    assert!(again > first);
    log.heal_finish().unwrap();
    assert!(!log.is_degraded());
    let rows = replayed(&disk);
    assert_eq!(rows, [(before, b"kept".to_vec()), (again, b"unlogged".to_vec())]);
}

#[test]
fn a_directory_that_cannot_be_listed_is_an_error_and_not_an_empty_log() {
    let disk = new_disk();
    drop(open(Arc::new(disk.clone())));
    disk.fail(Fault::new(Effect::Error(libc::EMFILE), |call| call.op == Op::List).times(2));
    let error = scan(&disk, Path::new(DIR)).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot list {DIR}"));
    // Neither is a number taken without looking.
    let nothing = scan(&new_disk(), Path::new(DIR)).unwrap();
    let options = LogOptions::default();
    let open = |disk: &store_disk::SimDisk| {
        Log::open(Arc::new(disk.clone()), DIR.into(), &nothing, LINEAGE, 0, LogPos::ZERO, options)
    };
    assert!(matches!(open(&disk), Err(OpenError::Directory { call: "list", .. })));
    assert_eq!(open(&disk).unwrap().segment(), 2);
}

#[test]
fn positions_are_known_as_given_out_once_somebody_claimed_them() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let first = append(&log, b"one");
    log.flush(Until::Synced).unwrap();
    let given = |disk: &dyn store_disk::Disk| {
        let found = found(disk);
        found.given(disk, LINEAGE, found.start(LINEAGE).unwrap_or(LogPos::ZERO))
    };
    assert!(!given(&disk).contains(first), "nobody has said yet what is saved");
    log.claim();
    log.claim();
    log.flush(Until::Written).unwrap();
    let end = log.end();
    assert!(given(&disk).contains(first) && given(&disk).contains(LogPos::new(1, 0)));
    assert!(!given(&disk).contains(end), "behind the end of the segment");
    assert!(!given(&disk).contains(LogPos::new(9, 100)), "no such segment");

    // Each later segment of the process says it too.
    log.switch().unwrap();
    log.flush(Until::Written).unwrap();
    let second = append(&log, b"two");
    log.flush(Until::Written).unwrap();
    assert!(given(&disk).contains(second));

    // The next process has to say it for itself; what it found is known all the same.
    drop(log);
    let next = open(Arc::new(disk.clone()));
    let third = append(&next, b"three");
    next.flush(Until::Written).unwrap();
    assert!(given(&disk).contains(second) && !given(&disk).contains(third));
    // Another one behind it that claims speaks for it as well.
    drop(next);
    let last = open(Arc::new(disk.clone()));
    last.claim();
    last.flush(Until::Written).unwrap();
    assert!(given(&disk).contains(third));

    // What lies before S is known, though no segment is left.
    let safe = last.end();
    last.retire(safe, true).unwrap();
    assert!(given(&disk).contains(first) && given(&disk).contains(second));
    last.open_above(40);
    last.switch().unwrap();
    assert_eq!(last.segment(), 41);
}
