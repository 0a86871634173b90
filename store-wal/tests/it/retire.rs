//! Segments go when a durable LogStart says that nothing in them is needed, and not before.

use std::path::Path;
use std::sync::{Arc, Mutex};

use store_disk::SimDisk;
use store_disk::sim::{Effect, Fault, Keep, Op, Torn};
use store_wal::{Log, LogPos, RemoveError, Until};

use crate::support::{DIR, LINEAGE, Probe, append, found, new_disk, open, replayed, segment};

/// A log of `segments` segments with one synced row in each; the rows' positions.
fn log_of(disk: Arc<dyn store_disk::Disk>, segments: u32) -> (Log, Vec<LogPos>) {
    let log = open(disk);
    let mut rows = Vec::new();
    for number in 1..=segments {
        rows.push(append(&log, &number.to_le_bytes()));
        if number < segments {
            log.switch().unwrap();
        }
    }
    log.flush(Until::Synced).unwrap();
    (log, rows)
}

fn segments_of(disk: &SimDisk) -> Vec<u32> {
    (1..20).filter(|number| disk.contents(segment(*number)).is_some()).collect()
}

#[test]
fn the_segments_wholly_before_s_are_unlinked_and_no_other() {
    let disk = new_disk();
    let (log, rows) = log_of(Arc::new(disk.clone()), 5);
    for (safe, left) in [
        (LogPos::ZERO, vec![1, 2, 3, 4, 5]),
        (rows[0], vec![1, 2, 3, 4, 5]),
        (LogPos::new(1, u32::MAX), vec![1, 2, 3, 4, 5]),
        (LogPos::new(2, 0), vec![2, 3, 4, 5]),
        (rows[2], vec![3, 4, 5]),
        (rows[1], vec![3, 4, 5]),
        (log.end(), vec![5]),
        (LogPos::new(99, 0), vec![5]),
    ] {
        let before = log.start();
        let end = log.end();
        log.retire(safe, false).unwrap();
        assert_eq!(segments_of(&disk), left, "retired to {safe}");
        assert_eq!(
            log.start(),
            before.max(safe.min(end)),
            "S moves to {safe}, not back, and not beyond the end"
        );
        let expected: Vec<LogPos> =
            rows.iter().copied().filter(|row| *row >= found(&disk).start(LINEAGE).unwrap()).collect();
        let got: Vec<LogPos> = replayed(&disk).into_iter().map(|(position, _)| position).collect();
        assert_eq!(got, expected, "retired to {safe}");
    }
    assert_eq!(log.stats().segments, 1);
    assert_eq!(log.stats().retained_bytes, disk.contents(segment(5)).unwrap().len() as u64);
}

#[test]
fn a_segment_goes_only_after_the_log_start_behind_it_is_durable() {
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let (log, rows) = log_of(probe.clone(), 4);
    let safe = rows[2];
    let seen = Arc::new(Mutex::new(0));
    let (counted, watched) = (Arc::clone(&seen), disk.clone());
    probe.set_hook(move |op, _| {
        if op == Op::Remove {
            *counted.lock().unwrap() += 1;
            for keep in [Keep::Nothing, Keep::Everything, Keep::Random(3)] {
                let image = watched.after_power_loss(&keep);
                assert_eq!(found(&image).start(LINEAGE), Some(safe));
                assert_eq!(replayed(&image).len(), 2);
            }
        }
    });
    assert_eq!(log.retire(safe, false).unwrap().segments, 2);
    assert_eq!(*seen.lock().unwrap(), 2);
    // Whatever part of the unlinks persists: S holds.
    for (crash, image) in disk.images(20, 5) {
        assert_eq!(replayed(&image).len(), 2, "{crash:?}");
    }
}

#[test]
fn a_log_start_that_cannot_be_synced_unlinks_nothing() {
    for op in [Op::Append, Op::Sync] {
        let disk = new_disk();
        let (log, _) = log_of(Arc::new(disk.clone()), 3);
        disk.fail(Fault::new(Effect::Lose(libc::EIO), move |call| call.op == op));
        assert!(log.retire(log.end(), false).is_err());
        assert!(log.is_degraded());
        assert_eq!(segments_of(&disk), [1, 2, 3]);
        assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)).len(), 3);
        // Nothing while degraded, nor while a heal is under way.
        let start = log.start();
        assert_eq!(log.retire(log.end(), true).unwrap().segments, 0);
        log.heal_begin().unwrap();
        assert_eq!(log.retire(log.end(), true).unwrap().segments, 0);
        assert_eq!(log.start(), start);
        assert_eq!(segments_of(&disk), [1, 2, 3, 4]);
        log.heal_finish().unwrap();
        assert_eq!(log.retire(log.end(), false).unwrap().segments, 3);
        assert_eq!(segments_of(&disk), [4]);
    }
}

#[test]
fn s_is_written_down_by_force_also_within_a_segment() {
    let disk = new_disk();
    let (log, rows) = log_of(Arc::new(disk.clone()), 2);
    log.retire(rows[1], false).unwrap();
    let second = append(&log, b"second");
    let written = disk.calls_of(Op::Append);
    log.retire(second, false).unwrap();
    assert_eq!(disk.calls_of(Op::Append), written, "S has passed no segment");
    assert_eq!(log.start(), second);
    log.retire(second, true).unwrap();
    assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)), [(second, b"second".to_vec())]);
    // What stands there already is not said again.
    let written = disk.calls_of(Op::Append);
    log.retire(second, true).unwrap();
    assert_eq!(disk.calls_of(Op::Append), written);
}

#[test]
fn a_new_segment_names_the_s_of_before_and_not_itself() {
    let disk = new_disk();
    let (log, rows) = log_of(Arc::new(disk.clone()), 2);
    let s = |disk: &SimDisk| found(disk).start(LINEAGE);
    assert_eq!(s(&disk), Some(LogPos::ZERO));
    log.retire(rows[1], false).unwrap();
    log.switch().unwrap();
    assert_eq!(s(&disk), Some(rows[1]));
    log.degrade("for the test");
    log.heal_begin().unwrap();
    assert_eq!(s(&disk), Some(rows[1]));
    log.heal_finish().unwrap();
    drop(log);
    let log = open(Arc::new(disk.clone()));
    assert_eq!((s(&disk), log.start()), (Some(rows[1]), rows[1]));
    assert_eq!(replayed(&disk).len(), 1);
}

#[test]
fn a_file_that_cannot_be_unlinked_is_tried_again() {
    let disk = new_disk();
    let (log, _) = log_of(Arc::new(disk.clone()), 3);
    disk.fail(Fault::new(Effect::Error(libc::EACCES), |call| call.op == Op::Remove).times(2));
    let retired = log.retire(log.end(), false).unwrap();
    assert_eq!((retired.segments, retired.failed.len()), (0, 2));
    assert_eq!(retired.failed[0].to_string(), format!("cannot remove {}", segment(1).display()));
    assert_eq!(segments_of(&disk), [1, 2, 3]);
    // Without S moving any further.
    assert_eq!(log.retire(LogPos::ZERO, false).unwrap().segments, 2);
    assert_eq!(segments_of(&disk), [3]);
}

#[test]
fn segments_of_earlier_processes_go_as_well_and_leftovers_before_s_at_once() {
    let disk = new_disk();
    let (log, rows) = log_of(Arc::new(disk.clone()), 3);
    log.retire(rows[2], false).unwrap();
    drop(log);
    // An unlink that did not persist, and a crash in an open.
    disk.put(segment(1), store_disk::Disk::read(&disk, &segment(3)).unwrap()).unwrap();
    disk.put(segment(4), b"CCWL").unwrap();
    let log = open(Arc::new(disk.clone()));
    assert_eq!(log.segment(), 5);
    let retired = log.retire(LogPos::ZERO, false).unwrap();
    // A file that calls itself by another number than its name does holds nothing of ours.
    assert_eq!((retired.segments, segments_of(&disk)), (0, vec![3, 4, 5]));
    assert_eq!(retired.set_aside, [Path::new(DIR).join("00000000000000000001.wal.corrupt-1")]);
}

#[test]
fn the_log_is_removed_whole_or_ends_where_it_ended() {
    let disk = new_disk();
    drop(log_of(Arc::new(disk.clone()), 3));
    let run = |disk: &SimDisk| {
        let log = open(Arc::new(disk.clone()));
        let last = append(&log, b"last");
        log.flush(Until::Synced).unwrap();
        (log.remove_all(), last)
    };
    let whole = disk.fork();
    run(&whole).0.unwrap();
    let calls = whole.calls();
    assert!(whole.files().is_empty() && !whole.dirs().contains(&DIR.into()), "{:?}", whole.dirs());
    let gone = whole.after_power_loss(&Keep::Nothing);
    assert!(gone.files().is_empty() && !gone.dirs().contains(&DIR.into()), "the parent is not synced");

    let mut images = 0;
    let opened = {
        let disk = disk.fork();
        let log = open(Arc::new(disk.clone()));
        append(&log, b"last");
        log.flush(Until::Synced).unwrap();
        disk.calls()
    };
    for number in opened..calls {
        for torn in [Torn::Nothing, Torn::All] {
            let disk = disk.fork();
            disk.crash_at(number, torn);
            assert!(run(&disk).0.is_err());
            for (crash, image) in disk.images(5, number) {
                images += 1;
                let rows = replayed(&image);
                let whole = rows.len() == 4;
                assert!(whole || rows.is_empty(), "call {number}, {crash:?}: {rows:?}");
            }
        }
    }
    assert!(images > 50, "{images}");
}

#[test]
fn a_log_that_could_not_be_removed_is_removed_later_and_logs_nothing_meanwhile() {
    let disk = new_disk();
    let (log, _) = log_of(Arc::new(disk.clone()), 3);
    disk.fail(Fault::new(Effect::Error(libc::EACCES), |call| call.op == Op::Remove).after(2).times(2));
    let error = log.remove_all().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot remove {}", segment(3).display()));
    assert!(log.is_degraded());
    assert_eq!(segments_of(&disk), [3]);
    assert!(log.remove_all().is_err());
    log.remove_all().unwrap();
    assert!(disk.files().is_empty());
    assert_eq!((log.stats().segments, log.stats().retained_bytes), (0, 0));
    // A heal begins it anew.
    log.heal_begin().unwrap();
    log.heal_finish().unwrap();
    assert_eq!((segments_of(&disk), log.segment()), (vec![4], 4));
    assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)), []);
}

#[test]
fn a_degraded_log_is_removed_from_its_front_so_that_its_end_stays_whole() {
    let disk = new_disk();
    let removed = |disk: &SimDisk| {
        let (log, rows) = log_of(Arc::new(disk.clone()), 4);
        log.degrade("for the test");
        disk.record();
        (log.remove_all(), rows)
    };
    let whole = disk.fork();
    let (result, rows) = removed(&whole);
    result.unwrap();
    let trace = whole.trace();
    for call in trace {
        let disk = disk.fork();
        disk.crash_at(call.number, Torn::All);
        assert!(removed(&disk).0.is_err());
        for (crash, image) in disk.images(5, call.number) {
            let left: Vec<LogPos> = replayed(&image).into_iter().map(|(position, _)| position).collect();
            assert!(rows.ends_with(&left), "{call:?}, {crash:?}: {left:?}");
        }
    }
}

#[test]
fn what_is_not_the_logs_keeps_the_directory() {
    let disk = new_disk();
    disk.put(format!("{DIR}/notes.txt"), b"mine").unwrap();
    let log = open(Arc::new(disk.clone()));
    let error = log.remove_all().unwrap_err();
    assert!(matches!(&error, RemoveError::NotEmpty { path, .. } if path == Path::new(DIR)), "{error}");
    assert_eq!(disk.files().len(), 1);
    assert_eq!(disk.contents(format!("{DIR}/notes.txt")).unwrap(), b"mine");
}
