//! From one segment to the next: nothing waits that need not, nothing is acknowledged too early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use store_disk::sim::{Effect, Fault, Keep, Op};
use store_wal::{Appended, CommitError, Log, LogOptions, SwitchError, Until};

use crate::support::{KIND, Probe, append, new_disk, open, open_with, replayed, segment};

#[test]
fn a_segment_asks_to_be_left_at_its_size_and_takes_entries_until_it_is() {
    let disk = new_disk();
    let log = open_with(Arc::new(disk), LogOptions { segment_bytes_max: 200, ..LogOptions::default() });
    append(&log, &[0; 90]);
    assert!(!log.needs_switch());
    append(&log, b"");
    assert!(log.needs_switch(), "{}", log.end());
    append(&log, &[0; 1000]);
    log.switch().unwrap();
    assert!(!log.needs_switch());
    assert_eq!(log.segment(), 2);
}

#[test]
fn an_append_for_the_old_segment_is_told_the_new_one_and_writes_nothing() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let old = log.segment();
    log.switch().unwrap();
    let end = log.end();
    assert_eq!(
        log.append(old, &[(KIND, b"needs what was written once in segment 1")]),
        Appended::NewSegment(2)
    );
    assert_eq!(log.append(7, &[(KIND, b"never was")]), Appended::NewSegment(2));
    assert_eq!(log.end(), end);
    log.flush(Until::Synced).unwrap();
    assert_eq!(replayed(&disk), []);
}

#[test]
fn entries_of_one_append_stand_together_in_one_segment() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let entries: [(u8, &[u8]); 3] = [(KIND, b"shape"), (255, b""), (KIND, b"row")];
    let Appended::At { first, last, logged: true } = log.append(1, &entries) else { panic!("not logged") };
    assert_eq!((first.offset(), last.offset()), (88, 88 + 16 + 5 + 16));
    log.commit(last, Until::Synced).unwrap();
    let mut got = Vec::new();
    let found = crate::support::found(&disk);
    store_wal::replay(&disk, &found, crate::support::LINEAGE, first, &mut |position, kind, bytes| {
        got.push((position.offset(), kind, bytes.to_vec()));
    });
    assert_eq!(got, [(88, KIND, b"shape".to_vec()), (109, 255, Vec::new()), (125, KIND, b"row".to_vec())]);
}

#[test]
fn nothing_in_the_new_segment_is_acknowledged_before_the_old_one_is_synced_to_its_end() {
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    append(&log, b"before");
    let (done, is_done) = mpsc::channel();
    let mut threads = Vec::new();
    let hooked = Arc::clone(&log);
    let old = segment(1);
    // Rows for the old segment come until it is left, so that there is something to write at the end.
    probe.set_hook(move |op, path| {
        if hooked.segment() == 1 {
            append(&hooked, b"late");
        } else if path == old {
            if op == Op::Append {
                let (log, done) = (Arc::clone(&hooked), done.clone());
                threads.push(std::thread::spawn(move || {
                    let position = append(&log, b"in the new segment");
                    log.commit(position, Until::Written).unwrap();
                    done.send(()).unwrap();
                }));
            }
            std::thread::sleep(Duration::from_millis(30));
            assert!(is_done.try_recv().is_err(), "acknowledged while the old segment is not synced");
        }
    });
    log.switch().unwrap();
    probe.clear_hook();
    log.flush(Until::Synced).unwrap();
    let rows = replayed(&disk.after_power_loss(&Keep::Nothing));
    assert!(rows.iter().filter(|(_, row)| row == b"late").count() >= 3, "{rows:?}");
    assert_eq!(rows.last().unwrap().1, b"in the new segment");
}

#[test]
fn a_new_segment_that_cannot_be_opened_leaves_the_old_one_healthy() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let mut rows = vec![(append(&log, b"1"), b"1".to_vec())];
    for (op, name) in
        [(Op::Create, "create"), (Op::Append, "write"), (Op::Sync, "sync"), (Op::SyncDir, "sync dir")]
    {
        for times in [1, 3] {
            log.flush(Until::Synced).unwrap();
            let new = move |call: &store_disk::sim::Call| call.op == op && !call.path.ends_with(segment(1));
            disk.fail(Fault::new(Effect::Error(libc::EIO), new).times(times));
            let error = log.switch().unwrap_err();
            assert!(matches!(error, SwitchError::Open(_)), "{name}: {error:?}");
            assert!(!log.is_degraded());
            let row = name.as_bytes().to_vec();
            rows.push((append(&log, &row), row));
            disk.clear_faults();
            log.flush(Until::Synced).unwrap();
            assert_eq!(log.segment(), 1);
            assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)), rows);
        }
    }
    assert_eq!(log.stats().open_errors, 8);
    log.switch().unwrap();
    rows.push((append(&log, b"at last"), b"at last".to_vec()));
    log.flush(Until::Synced).unwrap();
    assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)), rows);
    assert_eq!(disk.files().len(), 2, "files of failed opens lie about: {:?}", disk.files().keys());
}

#[test]
fn s_does_not_move_while_a_segment_of_a_failed_open_may_come_back_and_name_the_s_of_before() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    append(&log, b"row");
    // The new segment is written and synced; its directory, its removal and all that follows fail.
    disk.fail(
        Fault::new(Effect::Error(libc::EIO), |call| matches!(call.op, Op::SyncDir | Op::Remove)).for_ever(),
    );
    assert!(matches!(log.switch(), Err(SwitchError::Open(_))));
    let retired = log.retire(log.end(), true).unwrap();
    assert_eq!((retired.segments, retired.failed.len()), (0, 1));
    let image = disk.after_kill();
    assert_eq!(replayed(&image).len(), 1, "retired although the stale segment still names the beginning");
    disk.clear_faults();
    let end = log.end();
    assert!(log.retire(end, true).unwrap().failed.is_empty());
    for (_, image) in disk.images(8, 1) {
        assert_eq!(crate::support::found(&image).start(crate::support::LINEAGE), Some(end));
    }
}

#[test]
fn an_old_segment_that_fails_while_it_is_left_costs_no_acknowledged_row() {
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    let first = append(&log, b"synced");
    log.flush(Until::Synced).unwrap();
    let hooked = Arc::clone(&log);
    probe.set_hook(move |op, _| {
        if op == Op::Create {
            append(&hooked, b"late");
        }
    });
    // The first sync of the old segment is the drain, before the new one is opened.
    disk.fail(
        Fault::new(Effect::Lose(libc::EIO), |call| call.op == Op::Sync && call.path == segment(1)).after(1),
    );
    let error = log.switch().unwrap_err();
    assert!(
        matches!(&error, SwitchError::Commit(CommitError::Sync { path, .. }) if *path == segment(1)),
        "{error:?}"
    );
    probe.clear_hook();
    assert!(log.is_degraded());
    log.commit(first, Until::Synced).unwrap();
    assert!(matches!(log.flush(Until::Written), Err(CommitError::Degraded)));
    log.heal_begin().unwrap();
    // Neither the failed segment nor the one that was opened for it is used again.
    assert_eq!(log.segment(), 3);
    let late = append(&log, b"late");
    log.heal_finish().unwrap();
    let rows = replayed(&disk.after_power_loss(&Keep::Nothing));
    assert_eq!(rows, [(first, b"synced".to_vec()), (late, b"late".to_vec())]);
}

#[test]
fn appends_and_commits_go_on_while_the_next_segment_is_opened() {
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    let committed = Arc::new(AtomicBool::new(false));
    let (hooked, seen) = (Arc::clone(&log), Arc::clone(&committed));
    probe.set_hook(move |op, _| {
        if op == Op::Create {
            let position = append(&hooked, b"meanwhile");
            hooked.commit(position, Until::Synced).unwrap();
            seen.store(true, Ordering::SeqCst);
        }
    });
    log.switch().unwrap();
    assert!(committed.load(Ordering::SeqCst));
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared::<Log>(&log);
}
