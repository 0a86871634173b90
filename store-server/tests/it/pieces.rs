//! A long message is taken in pieces; what its answer says holds for all of it.

use std::collections::BTreeMap;

use store_core::ingest::PIECE_LINES_MAX;
use store_disk::sim::{Call, Effect, Fault, Op};
use store_server::engine::{Durability, WalSync};

use crate::site::{NOW, Site, line, values};

const ENOSPC: i32 = 28;
const T: i64 = NOW - 5000;
const PIECES: i64 = 3;

/// So many pieces, each with one sample; its other lines are of a metric that nobody knows.
fn message() -> String {
    let piece = |n: i64| "q value=1\n".repeat(PIECE_LINES_MAX - 1) + &line("load", n, T + 10 * n);
    (0..PIECES).map(piece).collect()
}

/// The samples of the first pieces.
fn samples(pieces: i64) -> BTreeMap<i64, f64> {
    (0..pieces).map(|n| (T + 10 * n, n as f64)).collect()
}

fn writes_the_log(call: &Call) -> bool {
    call.path.starts_with("/var/store/.wal") && matches!(call.op, Op::Append)
}

#[test]
fn each_piece_is_in_the_log_before_the_next_one_is_taken() {
    for mode in [WalSync::Always, WalSync::Interval, WalSync::Write] {
        let site = Site::new().with(|options| options.wal_sync = mode);
        let engine = site.start();
        let before = site.disk.calls_of(Op::Append);
        let report = engine.write(message().as_bytes(), None);
        assert_eq!((report.durability, report.good, report.stopped_behind), (Durability::Kept, 3, None));
        assert_eq!(report.skipped, (PIECES as u64) * (PIECE_LINES_MAX as u64 - 1));
        assert!(site.disk.calls_of(Op::Append) >= before + PIECES as u64, "{mode:?}");
        assert_eq!(values(&site.killed().start(), "h", "load"), samples(PIECES));
    }
}

#[test]
fn in_mode_always_a_message_ends_with_the_first_piece_that_the_log_does_not_take() {
    let site = Site::new().with(|options| options.wal_sync = WalSync::Always);
    let engine = site.start();
    site.disk.fail(Fault::new(Effect::Error(ENOSPC), writes_the_log).after(1).for_ever());
    let report = engine.write(message().as_bytes(), None);
    assert_eq!(report.durability, Durability::Unavailable);
    assert_eq!((report.good, report.stopped_behind), (2, Some(2 * PIECE_LINES_MAX)));
    assert_eq!(values(&engine, "h", "load"), samples(2));
    assert_eq!(values(&site.killed().start(), "h", "load"), samples(1));
    // It is sent again when the disk works, and nothing is there twice.
    site.disk.clear_faults();
    engine.tick();
    assert_eq!(engine.write(message().as_bytes(), None).durability, Durability::Kept);
    assert_eq!(values(&site.killed().start(), "h", "load"), samples(PIECES));
}

#[test]
fn in_the_other_modes_a_piece_that_is_only_in_memory_marks_the_whole_message() {
    for mode in [WalSync::Interval, WalSync::Write] {
        for failing in 0..PIECES as u64 {
            let site = Site::new().with(|options| options.wal_sync = mode);
            let engine = site.start();
            // The log is degraded from then on: it heals with a tick.
            site.disk.fail(Fault::new(Effect::Error(ENOSPC), writes_the_log).after(failing));
            let report = engine.write(message().as_bytes(), None);
            assert_eq!((report.durability, report.good), (Durability::Memory, 3), "{mode:?}, {failing}");
            assert_eq!(report.stopped_behind, None);
            assert_eq!(values(&engine, "h", "load"), samples(PIECES));
            engine.tick();
            engine.sync_log().unwrap();
            assert_eq!(values(&site.killed().start(), "h", "load"), samples(PIECES));
        }
    }
}

#[test]
fn a_kill_amid_a_message_leaves_whole_pieces_and_all_of_them_if_it_was_answered() {
    for mode in [WalSync::Always, WalSync::Write] {
        let mut answered = 0;
        for call in 0.. {
            let site = Site::new().with(|options| options.wal_sync = mode);
            let engine = site.start();
            let begun = site.disk.calls();
            // Whatever would be done from that call on is never done.
            site.disk
                .fail(Fault::new(Effect::Error(ENOSPC), move |now| now.number >= begun + call).for_ever());
            let report = engine.write(message().as_bytes(), None);
            let found = values(&site.killed().start(), "h", "load");
            assert!((0..=PIECES).any(|pieces| found == samples(pieces)), "{mode:?}, call {call}: {found:?}");
            if report.durability == Durability::Kept {
                assert_eq!(found, samples(PIECES), "{mode:?}, call {call}");
                answered += 1;
            }
            if answered == 2 {
                assert!(call >= PIECES as u64, "it was one write");
                break;
            }
        }
    }
}
