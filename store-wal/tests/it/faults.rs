//! Calls that fail: no false acknowledgement, no second try on the same file, and healthy again afterwards.

use std::sync::{Arc, Mutex};

use rand::SeedableRng;
use rand::rngs::StdRng;
use store_disk::SimDisk;
use store_disk::sim::{Crash, Effect, Fault, Keep, Op, Torn};
use store_wal::{Appended, CommitError, Log, LogOptions, LogPos, Until, sync_found};

use crate::engine::{Engine, Ledger, Mistake, judge};
use crate::support::{
    DIR, KIND, LINEAGE, Probe, append, found, new_disk, open, open_with, replayed, segment,
};

/// A fixed life: what a small engine does with `seed`, then the end of all faults, then a heal.
fn live(disk: &SimDisk, ledger: Ledger, seed: u64) -> Ledger {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut engine = match Engine::start(disk, ledger, Mistake::None, &mut rng) {
        Ok(engine) => engine,
        // The directory could not be listed, or a file not mapped: the caller tries again.
        Err(ledger) => {
            disk.clear_faults();
            let Ok(engine) = Engine::start(disk, *ledger, Mistake::None, &mut rng) else {
                panic!("cannot list")
            };
            engine
        }
    };
    for _ in 0..12 {
        engine.step(&mut rng);
    }
    // What was acknowledged meanwhile holds although something failed.
    let ledger = engine.ledger();
    for (crash, image) in disk.images(2, seed) {
        if let Err(error) = judge(&image, &ledger, crash == Crash::Kill, Mistake::None) {
            panic!("seed {seed}, {crash:?}: {error}");
        }
    }
    disk.clear_faults();
    engine.heal(&mut rng);
    assert!(!engine.log.is_degraded(), "not healed after the fault ended");
    engine.write(&mut rng);
    engine.log.flush(Until::Synced).unwrap();
    engine.acknowledge_all();
    engine.ledger()
}

#[test]
fn every_call_may_fail_in_every_way_once_a_few_times_or_until_the_end() {
    let effects = [
        Effect::Error(libc::EIO),
        Effect::Error(libc::ENOSPC),
        Effect::Error(libc::EMFILE),
        Effect::Error(libc::EROFS),
        Effect::Error(libc::EACCES),
        Effect::Short(Torn::Bytes(7), libc::ENOSPC),
        Effect::Lose(libc::EIO),
        Effect::Done(libc::EIO),
    ];
    let mut lives = 0;
    for seed in 0..3 {
        let base = new_disk();
        let ledger = live(&base, Ledger::default(), seed);
        // A second life, so that there is something to find.
        let base = base.after_kill();
        let whole = base.fork();
        live(&whole, ledger.clone(), seed + 100);
        for number in 0..whole.calls() {
            for effect in effects {
                for times in [1, 3, u64::MAX] {
                    let disk = base.fork();
                    disk.fail(Fault::new(effect, move |call| call.number >= number).times(times));
                    let ledger = live(&disk, ledger.clone(), seed + 100);
                    lives += 1;
                    let image = disk.after_power_loss(&Keep::Nothing);
                    judge(&image, &ledger, false, Mistake::None).unwrap_or_else(|error| {
                        panic!("seed {seed}, call {number}, {effect:?} × {times}: {error}")
                    });
                }
            }
        }
    }
    println!("{lives} lives with a failing call");
    assert!(lives > 1_000, "{lives}");
}

#[test]
fn a_failed_segment_is_never_written_or_synced_again_and_only_its_synced_part_counts() {
    for effect in [Effect::Lose(libc::EIO), Effect::Error(libc::EIO), Effect::Done(libc::EIO)] {
        let disk = new_disk();
        // The probe fails the test at a second try.
        let log = open(Probe::arc(&disk));
        let synced = append(&log, b"synced");
        log.flush(Until::Synced).unwrap();
        let written = append(&log, b"written");
        log.commit(written, Until::Written).unwrap();
        disk.fail(Fault::new(effect, |call| call.op == Op::Sync));
        let failed = append(&log, b"failed");
        let error = log.commit(failed, Until::Synced).unwrap_err();
        assert!(matches!(&error, CommitError::Sync { path, .. } if *path == segment(1)), "{error:?}");
        assert!(log.is_degraded());

        // At once, and for all but what was synced before.
        for until in [Until::Written, Until::Synced] {
            log.commit(synced, until).unwrap();
            for position in [written, failed] {
                assert!(matches!(log.commit(position, until), Err(CommitError::Degraded)));
            }
            assert!(matches!(log.flush(until), Err(CommitError::Degraded)));
        }
        assert!(log.switch().is_err());
        assert!(log.heal_finish().is_err(), "there is no heal to finish");

        log.heal_begin().unwrap();
        let again = append(&log, b"failed");
        assert!(
            matches!(log.commit(again, Until::Written), Err(CommitError::Degraded)),
            "before the heal has finished"
        );
        log.heal_finish().unwrap();
        log.commit(again, Until::Synced).unwrap();
        log.commit(synced, Until::Synced).unwrap();
        // Healthy again, but what was lost does not become true.
        for position in [written, failed] {
            let error = log.commit(position, Until::Written).unwrap_err();
            assert!(matches!(error, CommitError::NotLogged(lost) if lost == position), "{error:?}");
        }
        let stats = log.stats();
        assert_eq!((stats.degradations, stats.poisoned_segments, stats.sync_errors), (1, 1, 1));
        assert!(stats.last_error.unwrap().starts_with(&format!("cannot sync {}: ", segment(1).display())));
    }
}

#[test]
fn while_degraded_nothing_is_logged_and_nothing_is_tried() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    disk.fail(Fault::new(Effect::Short(Torn::Bytes(10), libc::ENOSPC), |call| call.op == Op::Append));
    append(&log, b"too much");
    assert!(matches!(log.flush(Until::Written), Err(CommitError::Write { .. })));
    let calls = disk.calls();
    let mut last = LogPos::ZERO;
    for _ in 0..100 {
        let Appended::At { first, logged: false, .. } = log.append(1, &[(KIND, b"unlogged")]) else {
            panic!("logged")
        };
        assert!(first > last);
        last = first;
        assert!(log.commit(first, Until::Written).is_err());
    }
    assert!(!log.needs_switch());
    assert_eq!(disk.calls(), calls);
    let stats = log.stats();
    assert_eq!((stats.unlogged_frames, stats.write_errors, stats.buffered_bytes), (100, 1, 0));
    assert!(stats.degraded && !stats.relogging);
}

#[test]
fn a_heal_may_fail_at_every_step_and_be_tried_again() {
    let disk = new_disk();
    let log = open(Probe::arc(&disk));
    log.degrade("what was found could not be synced");
    let mut rows = Vec::new();
    for (op, in_begin) in [
        (Op::List, true),
        (Op::Create, true),
        (Op::Append, true),
        (Op::Sync, true),
        (Op::SyncDir, true),
        (Op::Append, false),
        (Op::Sync, false),
    ] {
        if in_begin {
            disk.fail(Fault::new(Effect::Lose(libc::EIO), move |call| call.op == op));
            assert!(log.heal_begin().is_err(), "{op:?}");
        } else {
            log.heal_begin().unwrap();
            // A second one has nothing to do.
            let current = log.segment();
            log.heal_begin().unwrap();
            assert_eq!(log.segment(), current);
            append(&log, b"row");
            disk.fail(Fault::new(Effect::Lose(libc::EIO), move |call| call.op == op));
            assert!(log.heal_finish().is_err(), "{op:?}");
        }
        assert!(log.is_degraded());
        disk.clear_faults();
    }
    log.heal_begin().unwrap();
    rows.push((append(&log, b"row"), b"row".to_vec()));
    log.heal_finish().unwrap();
    log.heal_finish().unwrap();
    assert!(!log.is_degraded());
    let got = replayed(&disk.after_power_loss(&Keep::Nothing));
    assert!(got.ends_with(&rows), "{got:?}");
    assert_eq!(log.stats().poisoned_segments, 3);
}

#[test]
fn a_heal_may_take_more_than_one_segment() {
    let disk = new_disk();
    let log = open_with(Probe::arc(&disk), LogOptions { segment_bytes_max: 200, ..LogOptions::default() });
    log.degrade("for the test");
    log.heal_begin().unwrap();
    let mut rows = Vec::new();
    for number in 0..20u32 {
        if log.needs_switch() {
            log.switch().unwrap();
            assert!(log.is_degraded(), "healthy before the heal has finished");
        }
        let row = number.to_le_bytes().to_vec();
        rows.push((append(&log, &row), row));
    }
    assert!(log.segment() > 4);
    log.heal_finish().unwrap();
    assert_eq!(replayed(&disk.after_power_loss(&Keep::Nothing)), rows);
    log.commit(rows[0].0, Until::Synced).unwrap();
}

#[test]
fn what_was_found_and_cannot_be_synced_is_an_error_after_all_were_tried() {
    let disk = new_disk();
    for _ in 0..3 {
        let log = open(Arc::new(disk.clone()));
        append(&log, b"written");
        log.flush(Until::Written).unwrap();
    }
    let disk = disk.after_kill();
    let found = found(&disk);
    disk.record();
    disk.fail(Fault::new(Effect::Lose(libc::EIO), |call| call.path == segment(2)));
    let error = sync_found(&disk, &found, LogPos::new(2, 88)).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot sync {}", segment(2).display()));
    let synced: Vec<_> = disk.trace().into_iter().map(|call| (call.op, call.path)).collect();
    assert_eq!(synced, [(Op::SyncFile, segment(2)), (Op::SyncFile, segment(3))], "segment 1 is not needed");
    // The log begins degraded then, and everything is logged again.
    let log = Log::open(
        Arc::new(disk.clone()),
        DIR.into(),
        &found,
        LINEAGE,
        0,
        LogPos::ZERO,
        LogOptions::default(),
    )
    .unwrap();
    log.degrade(&error.to_string());
    assert!(log.is_degraded() && log.is_open());
    assert_eq!(log.stats().last_error, Some(error.to_string()));
    log.heal_begin().unwrap();
    log.heal_finish().unwrap();
    assert_eq!(log.segment(), 5);
}

#[test]
fn a_panic_of_the_disk_gives_the_segment_up_and_lets_the_others_go_on() {
    let disk = new_disk();
    let probe = Probe::arc(&disk);
    let log = Arc::new(open(probe.clone()));
    append(&log, b"row");
    probe.set_hook(|op, _| assert!(op != Op::Append, "the disk panics"));
    let leader = Arc::clone(&log);
    assert!(std::thread::spawn(move || leader.flush(Until::Written)).join().is_err());
    probe.clear_hook();
    assert!(log.is_degraded());
    assert!(log.flush(Until::Written).is_err());
    log.heal_begin().unwrap();
    let again = append(&log, b"row");
    log.heal_finish().unwrap();
    assert_eq!(replayed(&disk), [(again, b"row".to_vec())]);
}

#[test]
fn positions_that_were_never_given_out_are_not_committed() {
    let disk = new_disk();
    let log = open(Arc::new(disk.clone()));
    let row = append(&log, b"row");
    for position in [log.end(), LogPos::new(2, 88), LogPos::new(u32::MAX, u32::MAX), LogPos::ZERO] {
        let error = log.commit(position, Until::Written).unwrap_err();
        assert!(matches!(error, CommitError::NotLogged(never) if never == position), "{error:?}");
    }
    log.commit(row, Until::Written).unwrap();
}

#[test]
fn a_leader_that_is_overtaken_by_a_heal_says_so_and_leaves_the_new_segment_alone() {
    for op in [Op::Append, Op::Sync] {
        let disk = new_disk();
        let probe = Probe::arc(&disk);
        let log = Arc::new(open(probe.clone()));
        let old = append(&log, b"old");
        // The disk hangs in this call; meanwhile somebody gives the segment up and logs everything again.
        let healer = Arc::clone(&log);
        let healed = Arc::new(Mutex::new(None));
        let report = Arc::clone(&healed);
        probe.set_hook(move |called, _| {
            let mut healed = report.lock().unwrap();
            if called == op && healed.is_none() {
                healer.degrade("the disk hangs");
                healer.heal_begin().unwrap();
                *healed = Some(append(&healer, b"again"));
                healer.heal_finish().unwrap();
            }
        });
        let error = log.commit(old, Until::Synced).unwrap_err();
        assert!(matches!(error, CommitError::Degraded | CommitError::NotLogged(_)), "{error:?}");
        probe.clear_hook();
        assert!(!log.is_degraded());
        let again = healed.lock().unwrap().unwrap();
        let calls = disk.calls();
        for until in [Until::Written, Until::Synced] {
            log.commit(again, until).unwrap();
        }
        assert_eq!(disk.calls(), calls, "{op:?}: it was synced by the heal, and the mark has moved back");
        assert!(matches!(log.commit(old, Until::Written), Err(CommitError::NotLogged(lost)) if lost == old));
        let last = append(&log, b"last");
        log.commit(last, Until::Synced).unwrap();
        let rows = replayed(&disk.after_power_loss(&Keep::Nothing));
        assert!(rows.ends_with(&[(again, b"again".to_vec()), (last, b"last".to_vec())]), "{rows:?}");
    }
}
