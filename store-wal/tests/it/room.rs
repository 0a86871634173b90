//! Room in the buffer: who gets it, who waits for it, and what needs none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store_disk::sim::{Effect, Fault, Op};
use store_wal::{Appended, Log, LogOptions, Room, RoomFor, Until};

use crate::support::{KIND, append, new_disk, open_with, replayed};

fn small(disk: &store_disk::SimDisk) -> Log {
    open_with(Arc::new(disk.clone()), LogOptions { buffer_bytes_max: 1000, ..LogOptions::default() })
}

fn put(log: &Log, room: &mut Room<'_>, bytes: usize) {
    let Appended::At { logged: true, .. } = room.append(log.segment(), &[(KIND, &vec![0; bytes])]) else {
        panic!("not logged")
    };
}

#[test]
fn room_ends_at_the_limit_and_a_write_makes_it_again() {
    let disk = new_disk();
    let log = small(&disk);
    let mut first = log.try_reserve(600, RoomFor::Anything).unwrap();
    assert!(log.try_reserve(401, RoomFor::Anything).is_none(), "reserved, and not used yet");
    put(&log, &mut first, 284);
    drop(first);
    assert!(log.try_reserve(701, RoomFor::Anything).is_none(), "300 wait to be written");
    assert!(log.try_reserve(700, RoomFor::Anything).is_some(), "what was not used is given back");
    // Who waits writes, where nobody else does.
    let soon = Instant::now() + Duration::from_secs(60);
    assert!(log.reserve(701, RoomFor::Acknowledged, soon).is_some());
    assert_eq!((log.stats().buffered_bytes, log.stats().writes, log.is_degraded()), (0, 1, false));
}

#[test]
fn what_is_longer_than_all_room_comes_alone() {
    let disk = new_disk();
    let log = small(&disk);
    let room = log.try_reserve(5000, RoomFor::Anything).unwrap();
    assert!(log.try_reserve(1, RoomFor::Anything).is_none());
    assert!(log.reserve(1, RoomFor::Anything, Instant::now()).is_none(), "nothing to write, and no time");
    drop(room);
    assert!(log.try_reserve(1, RoomFor::Anything).is_some());
}

#[test]
fn who_waits_for_room_is_told_when_it_is_given_back() {
    let disk = new_disk();
    let log = small(&disk);
    let room = log.try_reserve(1000, RoomFor::Anything).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            log.reserve(1000, RoomFor::Anything, Instant::now() + Duration::from_secs(60)).is_some()
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(room);
        assert!(waits.join().unwrap());
    });
}

#[test]
fn what_is_logged_again_needs_no_room_and_takes_none_from_others() {
    let disk = new_disk();
    let log = small(&disk);
    for _ in 0..100 {
        append(&log, &[0; 84]);
    }
    assert!(!log.is_degraded(), "a log does not give itself up");
    assert!(log.try_reserve(1000, RoomFor::Anything).is_some());
    log.flush(Until::Synced).unwrap();
    assert_eq!(replayed(&disk).len(), 100);
}

#[test]
fn while_the_log_does_not_work_there_is_room_for_what_may_be_in_memory_alone() {
    let disk = new_disk();
    let log = small(&disk);
    append(&log, b"a");
    disk.fail(Fault::new(Effect::Error(libc::ENOSPC), |call| call.op == Op::Append));
    log.flush(Until::Written).unwrap_err();
    assert!(log.try_reserve(1 << 40, RoomFor::Anything).is_some(), "nothing of it is buffered");
    assert!(log.try_reserve(1, RoomFor::Acknowledged).is_none());
    assert!(log.reserve(1, RoomFor::Acknowledged, Instant::now()).is_none());
    log.heal_begin().unwrap();
    assert!(log.try_reserve(1, RoomFor::Acknowledged).is_none(), "not before the heal has finished");
    assert!(log.try_reserve(1, RoomFor::Anything).is_some());
    let until = || Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| log.reserve(1, RoomFor::Acknowledged, until()).is_some());
        let healthy = scope.spawn(|| log.wait_healed(until()));
        std::thread::sleep(Duration::from_millis(20));
        log.heal_finish().unwrap();
        assert!(waits.join().unwrap() && healthy.join().unwrap());
    });
}

#[test]
fn what_was_passed_is_a_hole_until_all_is_logged_again() {
    let disk = new_disk();
    let log = small(&disk);
    let before = append(&log, b"before");
    let passed = log.pass();
    assert!(log.has_holes() && log.stats().holes && !log.is_degraded());
    let behind = append(&log, b"behind");
    // A block as of the passed position has not seen what came behind: a replay must not leave that out for it.
    assert!(before < passed && passed < behind, "{before} {passed} {behind}");
    let again = log.pass();
    assert_eq!(log.fill_holes(), Some((passed, again)));
    assert!(log.has_holes() && log.is_hole(passed) && log.is_hole(again), "until all of it was appended");
    log.holes_filled();
    assert!(!log.has_holes() && !log.is_hole(passed));
    log.flush(Until::Synced).unwrap();
    assert_eq!(replayed(&disk).len(), 2, "it is in memory alone");
    // What was begun to be filled, and not filled, is to be filled with what was passed later.
    let first = log.pass();
    log.fill_holes();
    append(&log, b"more");
    let last = log.pass();
    assert_eq!(log.fill_holes(), Some((first, last)));
    log.holes_filled();
    // While a heal is under way nobody knows whether it has passed by already.
    log.degrade("as an error would");
    log.pass();
    assert!(!log.has_holes(), "the heal logs it");
    log.heal_begin().unwrap();
    log.pass();
    log.heal_finish().unwrap();
    assert!(log.has_holes());
}

#[test]
fn a_payload_that_no_frame_can_hold_is_refused_and_nothing_else_happens() {
    let disk = new_disk();
    let log = small(&disk);
    let end = log.end();
    let long = vec![0; store_disk::frame::PAYLOAD_BYTES_MAX + 1];
    assert_eq!(log.append(log.segment(), &[(KIND, b"a"), (KIND, &long)]), Appended::TooLong);
    assert_eq!(log.end(), end);
}
