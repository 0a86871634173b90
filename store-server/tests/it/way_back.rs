//! From block files to dumps, and from several histories to one: wherever it is interrupted, and whichever call fails,
//! the newest value is there after the next start, in every format.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use store_disk::sim::{Call, Effect, Fault, Op, Torn};
use store_disk::{ManualClock, SimDisk};
use store_server::engine::{Engine, FileFormat};

use crate::site::{NOW, Site, fill, stop, values};

const EPERM: i32 = 1;
const EIO: i32 = 5;

/// The formats that a store may be started in.
const FORMATS: [(FileFormat, bool); 3] =
    [(FileFormat::Wal, false), (FileFormat::Wal, true), (FileFormat::Json, false)];

type Values = BTreeMap<i64, f64>;

fn site() -> Site {
    Site::new().with(|options| options.retention_s = 100_000)
}

fn as_format(site: &Site, (format, portable): (FileFormat, bool)) -> Site {
    site.clone().with(|options| (options.format, options.portable) = (format, portable))
}

/// Lives in block files: each writes the same slots anew, and older ones besides, so that there are as many files
/// with different rows for the same slots. Returns what is to be there.
fn live_in_block_files(site: &Site, lives: i64) -> Values {
    let mut expected = Values::new();
    for life in 0..lives {
        let engine = site.start();
        let from = NOW - 600 - life * 300;
        for (from, count) in [(from, 40), (NOW - 600, 30)] {
            fill(&engine, "h", "load", from, 10, count, 1 + life * 1000);
        }
        expected = values(&engine, "h", "load");
        stop(engine);
    }
    assert_eq!(site.host_files().len() as i64, lives);
    let newest = (1 + (lives - 1) * 1000) as f64;
    assert_eq!(expected[&(NOW - 600)], newest, "the last life wrote it last");
    expected
}

/// Starts, and stops, as far as the disk lets it.
fn go_back(site: &Site) -> Vec<String> {
    let (disk, clock) = (Arc::new(site.disk.clone()), Arc::<ManualClock>::clone(&site.clock));
    let engine = match Engine::open_with(site.options.clone(), disk, clock) {
        Ok(engine) => engine,
        Err(e) => return vec![e.to_string()],
    };
    engine.load_all();
    engine.stop().problems
}

/// Starts in every format, twice each, and looks for what is to be there.
fn assert_kept(site: &Site, expected: &Values, label: &str) {
    for format in FORMATS {
        let site = as_format(&site.on(site.disk.fork()), format);
        for start in 1..=2 {
            let engine = site.start();
            assert_eq!(values(&engine, "h", "load"), *expected, "{label}; then start {start} as {format:?}");
            stop(engine);
        }
        let list = site.host_files().into_iter().find(|path| path.ends_with("superseded"));
        assert_eq!(list, None, "{label}: a list outlives a clean stop as {format:?}");
    }
}

/// Crashes the way back at every call that changes something. Returns the number of images that were looked at.
fn crash_everywhere(from: &Site, expected: &Values, label: &str) -> usize {
    let whole = from.on(from.disk.fork());
    let before = whole.disk.calls();
    assert_eq!(go_back(&whole), Vec::<String>::new());
    assert_kept(&whole, expected, label);
    let mut images = HashSet::new();
    for number in before..whole.disk.calls() {
        let crashed = from.on(from.disk.fork());
        crashed.disk.crash_at(number, if number % 2 == 0 { Torn::Nothing } else { Torn::All });
        go_back(&crashed);
        for crash in crashed.disk.crashes(2, number) {
            let image = crashed.disk.after(&crash);
            if images.insert(image.image_hash()) {
                assert_kept(&from.on(image), expected, &format!("{label}, call {number}, {crash:?}"));
            }
        }
    }
    images.len()
}

#[test]
fn a_crash_on_the_way_back_from_several_block_files_leaves_no_older_value() {
    for format in [FORMATS[1], FORMATS[2]] {
        for lives in 2..=4 {
            let site = site();
            let expected = live_in_block_files(&site, lives);
            let label = format!("{lives} block files, {format:?}");
            let images = crash_everywhere(&as_format(&site, format), &expected, &label);
            assert!(images > 20, "{label}: {images} images");
        }
    }
}

/// Every call of some kinds fails on the way back, once or from there on: the log is kept and the stop says so, unless
/// all was done at a later try.
#[test]
fn a_call_that_fails_on_the_way_back_leaves_no_older_value() {
    let mut failed = 0;
    for format in [FORMATS[1], FORMATS[2]] {
        let site = site();
        let expected = live_in_block_files(&site, 3);
        let from = as_format(&site, format);
        let whole = from.on(from.disk.fork());
        let before = whole.disk.calls();
        assert_eq!(go_back(&whole), Vec::<String>::new());
        for number in before..whole.disk.calls() {
            for (times, code) in [(1, EPERM), (1, EIO), (u64::MAX, EIO)] {
                let ops =
                    [Op::Create, Op::Append, Op::Sync, Op::SyncDir, Op::Rename, Op::RenameOver, Op::Remove];
                let faulty = from.on(from.disk.fork());
                let fault = Fault::new(Effect::Error(code), move |call| {
                    call.number >= number
                        && (call.number == number || times > 1)
                        && ops.contains(&call.op)
                        && call.path.starts_with("/var/store/c")
                });
                faulty.disk.fail(fault.for_ever());
                let problems = go_back(&faulty);
                let label = format!("{format:?}, call {number} fails with {code}, {times} times");
                if !problems.is_empty() {
                    failed += 1;
                    assert!(!faulty.segments().is_empty(), "{label}: {problems:?}, and the log is gone");
                }
                faulty.disk.clear_faults();
                assert_kept(&faulty, &expected, &label);
                assert_kept(&faulty.on(faulty.disk.after_kill()), &expected, &label);
            }
        }
    }
    assert!(failed > 50, "{failed} failed");
}

#[test]
fn a_block_file_that_cannot_be_removed_fails_the_stop_and_is_passed_over() {
    for format in [FORMATS[1], FORMATS[2]] {
        let site = site();
        let expected = live_in_block_files(&site, 3);
        let stuck = site.host_files()[1].clone();
        let back = as_format(&site, format);
        let fault = move |call: &Call| call.op == Op::Remove && call.path == stuck;
        back.disk.fail(Fault::new(Effect::Error(EPERM), fault).for_ever());
        for start in 0..3 {
            let problems = go_back(&back);
            assert_eq!(problems.len(), 1, "{format:?}, start {start}: {problems:?}");
            assert!(!back.segments().is_empty(), "the log is kept");
            let engine = back.on(back.disk.after_kill()).start();
            assert_eq!(values(&engine, "h", "load"), expected, "{format:?}, start {start}");
        }
        back.disk.clear_faults();
        assert_eq!(go_back(&back), Vec::<String>::new());
        assert_eq!(back.host_files().len(), 1, "{:?}", back.host_files());
        assert_kept(&back, &expected, "healed");
    }
}

/// Files of two histories become one: while some of them are gone the others must not outrank it.
#[test]
fn a_crash_while_two_histories_become_one_leaves_no_older_value() {
    for format in FORMATS {
        // The log is lost, and a host of the same name begins anew in the same directory.
        let site = site();
        let first = live_in_block_files(&site, 2);
        for segment in site.segments() {
            site.disk.take(&segment).unwrap();
        }
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), first);
        fill(&engine, "h", "load", NOW - 600, 10, 20, 7000);
        let expected = values(&engine, "h", "load");
        assert_eq!(expected[&(NOW - 600)], 7000.0);
        stop(engine);
        let images = crash_everywhere(&as_format(&site, format), &expected, &format!("{format:?}"));
        assert!(images > 3, "{format:?}: {images} images");
    }
}

#[test]
fn a_floor_in_a_file_of_old_blocks_outlives_the_cleanup() {
    let site = site();
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 99_000, 10, 40, 1);
    fill(&engine, "h", "load", NOW - 3000, 10, 300, 1);
    stop(engine);
    let engine = site.start();
    let selector = ["c", "h"].map(str::to_owned).to_vec();
    fill(&engine, "h", "disk", NOW - 98_000, 60, 1, 1);
    assert!(engine.free(NOW - 1500, &[selector]).unwrap().count > 0);
    let kept = values(&engine, "h", "load");
    assert_eq!(kept.first_key_value().map(|(slot, _)| *slot), Some(NOW - 1500));
    stop(engine);
    site.clock.advance(1000);
    let engine = site.start();
    fill(&engine, "h", "load", NOW, 10, 100, 1);
    engine.checkpoint();
    site.clock.advance(8000);
    fill(&engine, "h", "load", NOW + 1000, 10, 700, 1);
    engine.sweep();
    engine.clean_up();
    stop(engine);
    let engine = site.start();
    let seen = values(&engine, "h", "load");
    assert_eq!(seen.first_key_value().map(|(slot, _)| *slot), Some(NOW - 1500), "what was freed is back");
}

#[test]
fn a_list_without_the_file_that_took_the_place_is_void() {
    let site = site();
    let expected = live_in_block_files(&site, 3);
    let back = as_format(&site, FORMATS[2]);
    let image: SimDisk = {
        let stuck = |call: &Call| call.op == Op::Remove && call.path.starts_with("/var/store/c");
        back.disk.fail(Fault::new(Effect::Error(EPERM), stuck).for_ever());
        assert_eq!(go_back(&back).len(), 1);
        back.disk.clear_faults();
        back.disk.after_kill()
    };
    let lost = back.on(image);
    let dump =
        lost.host_files().into_iter().find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    store_disk::Disk::remove(&lost.disk, &dump).unwrap();
    let engine = lost.start();
    assert_eq!(values(&engine, "h", "load"), expected, "the block files are all there, and nothing else");
    let problems = engine.status().problems;
    assert!(problems.iter().any(|problem| problem.path.contains("superseded")), "{problems:?}");
    stop(engine);
}
