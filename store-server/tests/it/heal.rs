//! The log works again: however much memory holds that it does not, and whoever writes meanwhile.

use store_disk::sim::{Effect, Fault, Keep, Op};
use store_server::engine::{Durability, Engine, FileFormat, WalSync};

use crate::site::{NOW, Site, fill, filled, line, values};

const ENOSPC: i32 = 28;

const T: i64 = NOW - 30_000;

/// A disk that takes nothing more, until its faults are cleared.
fn full() -> Fault {
    Fault::new(Effect::Error(ENOSPC), |call| matches!(call.op, Op::Append | Op::Create)).for_ever()
}

/// Fails the log by one message that it cannot take.
fn fail_log(engine: &Engine, time: i64) {
    engine.write(line("load", 0, time).as_bytes(), None);
    assert!(engine.status().log.degraded);
}

#[test]
fn a_heal_of_more_than_the_buffer_holds_ends_within_one_look_in_every_format() {
    for (format, portable) in [(FileFormat::Json, false), (FileFormat::Wal, true), (FileFormat::Wal, false)] {
        let site = Site::new().with(|options| {
            (options.format, options.portable) = (format, portable);
            (options.log_buffer_bytes, options.log_segment_bytes) = (4 << 10, 2 << 10);
        });
        let engine = site.start();
        // Many blocks of each host that no file holds: some twenty times what the buffer takes.
        for host in ["h", "i", "j"] {
            fill(&engine, host, "load", T, 10, 2000, 1);
        }
        site.disk.fail(full());
        fail_log(&engine, T + 20_000);
        site.disk.clear_faults();
        engine.tick();
        let log = engine.status().log;
        assert!(!log.degraded, "{format:?} {portable}: {log:?}");
        assert_eq!(engine.write(line("load", 1, T + 20_010).as_bytes(), None).durability, Durability::Kept);
        let after = site.on(site.disk.after_power_loss(&Keep::Everything));
        for host in ["h", "i", "j"] {
            let mut seen = values(&after.start(), host, "load");
            seen.retain(|time, _| *time < T + 20_000);
            assert_eq!(seen, filled(T, 10, 2000, 1), "{format:?} {portable} {host}");
        }
    }
}

#[test]
fn what_comes_while_the_log_heals_is_logged_behind_what_was_there() {
    let site = Site::new().with(|options| {
        (options.format, options.log_buffer_bytes, options.log_segment_bytes) =
            (FileFormat::Json, 4 << 10, 2 << 10);
    });
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 1500, 1);
    site.disk.fail(full());
    fail_log(&engine, T + 15_000);
    site.disk.clear_faults();
    std::thread::scope(|scope| {
        let healed = scope.spawn(|| engine.tick());
        // Each slot of the host once more, old and new ones, while its blocks are logged again.
        fill(&engine, "h", "load", T, 10, 1500, 5001);
        healed.join().unwrap();
    });
    engine.tick();
    assert!(!engine.status().log.degraded);
    engine.sync_log().unwrap();
    let mut seen = values(&site.on(site.disk.after_power_loss(&Keep::Nothing)).start(), "h", "load");
    seen.retain(|time, _| *time < T + 15_000);
    assert_eq!(seen, filled(T, 10, 1500, 5001));
}

#[test]
fn in_mode_always_nothing_is_applied_while_the_log_does_not_work() {
    let site = Site::new().with(|options| options.wal_sync = WalSync::Always);
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    site.disk.fail(full());
    fail_log(&engine, T + 100);
    let report = engine.write(line("load", 99, T + 200).as_bytes(), None);
    assert_eq!((report.good, report.durability), (0, Durability::Unavailable));
    assert!(!values(&engine, "h", "load").contains_key(&(T + 200)), "applied, and refused");
}

/// A site whose log has room for a message or two, and where nothing writes it but what the test calls.
fn tight() -> Site {
    Site::new().with(|options| {
        (options.wal_sync, options.log_buffer_bytes) = (WalSync::None, 400);
    })
}

#[test]
fn what_the_log_has_no_room_for_is_said_to_be_in_memory_alone_and_logged_by_the_next_look() {
    let site = tight();
    let engine = site.start();
    let mut durabilities = Vec::new();
    for at in 0..20 {
        durabilities.push(engine.write(line("load", at + 1, T + at * 10).as_bytes(), None).durability);
    }
    assert_eq!(durabilities[0], Durability::Kept);
    assert_eq!(durabilities[19], Durability::Memory);
    let status = engine.status();
    assert!(!status.ready && status.log.degraded, "{}", status.condition);
    assert!(status.condition.contains("the log had no room"), "{}", status.condition);
    assert_eq!(status.at_risk.hosts, 1);
    engine.tick();
    let status = engine.status();
    assert!(status.ready && status.at_risk.is_nothing(), "{}", status.condition);
    assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 20, 1));
}

#[test]
fn a_block_of_rows_that_were_not_logged_hides_no_row_that_was_logged_behind_them() {
    let site = tight();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 40, 1);
    assert!(engine.status().log.degraded, "rows were passed");
    // The head with them is saved; the next record is that of a late sample in the same block.
    engine.sync_log().unwrap();
    site.save(&engine);
    assert_eq!(engine.write(line("load", 99, T + 50).as_bytes(), None).durability, Durability::Kept);
    engine.sync_log().unwrap();
    let mut expected = filled(T, 10, 40, 1);
    expected.insert(T + 50, 99.0);
    // The same of late samples, several of which have nothing between them in the log.
    for (at, durability) in
        [(1, Durability::Kept), (2, Durability::Memory), (3, Durability::Memory), (4, Durability::Memory)]
    {
        let report = engine.write(line("load", 100 + at, T + at * 10).as_bytes(), None);
        assert_eq!(report.durability, durability, "{at}");
        expected.insert(T + at * 10, (100 + at) as f64);
    }
    site.save(&engine);
    assert_eq!(engine.write(line("load", 200, T + 60).as_bytes(), None).durability, Durability::Kept);
    engine.sync_log().unwrap();
    expected.insert(T + 60, 200.0);
    assert_eq!(values(&engine, "h", "load"), expected);
    assert_eq!(values(&site.killed().start(), "h", "load"), expected);
}

#[test]
fn a_message_that_is_longer_than_all_room_is_taken_alone() {
    let site = tight().with(|options| options.wal_sync = WalSync::Always);
    let engine = site.start();
    // Longer than all the room there is: it comes when nobody else does.
    let long: String = (0..50).map(|at| line("load", at + 1, T + at * 10)).collect();
    let report = engine.write(long.as_bytes(), None);
    assert_eq!((report.good, report.durability), (50, Durability::Kept));
    assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 50, 1));
}

#[test]
fn in_mode_always_a_message_waits_for_the_heal_and_is_then_kept() {
    let site = Site::new().with(|options| options.wal_sync = WalSync::Always);
    let engine = std::sync::Arc::new(site.start());
    fill(&engine, "h", "load", T, 10, 10, 1);
    site.disk.fail(full());
    fail_log(&engine, T + 100);
    engine.run_background();
    let waits = std::thread::spawn({
        let engine = std::sync::Arc::clone(&engine);
        move || engine.write(line("load", 12, T + 110).as_bytes(), None)
    });
    // A collector of the ecosystem gives a message up that is answered with 503.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!waits.is_finished(), "answered while the log does not work");
    site.disk.clear_faults();
    let report = waits.join().unwrap();
    assert_eq!((report.good, report.durability), (1, Durability::Kept));
    assert_eq!(values(&site.killed().start(), "h", "load").get(&(T + 110)), Some(&12.0));
    engine.stop();
}

#[test]
fn without_room_in_memory_nothing_is_taken_that_the_log_does_not_take() {
    let site = Site::new().with(|options| options.memory_cap_bytes = 1);
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    site.disk.fail(full());
    fail_log(&engine, T + 100);
    engine.tick();
    let report = engine.write(line("load", 12, T + 110).as_bytes(), None);
    assert_eq!((report.good, report.durability), (0, Durability::Unavailable));
    site.disk.clear_faults();
    engine.tick();
    let report = engine.write(line("load", 12, T + 110).as_bytes(), None);
    assert_eq!((report.good, report.durability), (1, Durability::Kept), "once the log works again");
}

#[test]
fn a_silent_host_does_not_keep_the_log_of_everybody() {
    let site = Site::new().with(|options| {
        (options.log_segment_bytes, options.checkpoint_interval_s) = (8 << 10, 100_000);
    });
    let engine = site.start();
    // One falls silent after a few rows, one after rows that are worth a block; another one had its rows freed.
    fill(&engine, "short", "load", T, 10, 5, 1);
    fill(&engine, "long", "load", T, 10, 40, 1);
    fill(&engine, "freed", "load", T, 10, 5, 1);
    engine.free(T + 20, &[vec!["c".to_owned(), "freed".to_owned()]]).unwrap();
    let mut most = 0;
    for round in 0..60 {
        for host in ["h", "i", "j"] {
            fill(&engine, host, "load", T + round * 400, 10, 40, 1 + round * 40);
        }
        site.clock.advance(400);
        engine.tick();
        most = most.max(engine.status().log.retained_bytes);
    }
    let log = engine.status().log;
    assert!(log.frame_bytes > 400 << 10, "too little happened: {log:?}");
    // Twice what is logged while a head of 256 of the 2,400 rows fills, and some segments on top.
    let fill = log.frame_bytes * 256 / 2_400;
    assert!(most < 2 * fill + (4 << 13), "{most} bytes of log were kept, a fill is {fill}");
    let killed = site.killed();
    let again = killed.start();
    assert_eq!(values(&again, "short", "load"), filled(T, 10, 5, 1));
    assert_eq!(values(&again, "long", "load"), filled(T, 10, 40, 1));
    assert_eq!(values(&again, "freed", "load"), filled(T + 20, 10, 3, 3));
    for host in ["h", "i", "j"] {
        assert_eq!(values(&again, host, "load"), filled(T, 10, 2400, 1));
    }
}
