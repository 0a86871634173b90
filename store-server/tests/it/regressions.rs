//! Mistakes of the original, one test for each that concerns the engine.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use store_checkpoint::blockfile;
use store_checkpoint::format::{bin1, json};
use store_checkpoint::run::{Dump, Run};
use store_disk::sim::{Effect, Fault, Op};
use store_server::engine::{Durability, Engine, FileFormat, PathElement, ReadError, ReadRequest, WalSync};
use store_wal::v1;

use crate::site::{NOW, Site, fill, filled, line, path, request, series, stop, values, values_of};

const T: i64 = NOW - 20_000;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// Sets a flag when dropped: also when the test fails, or its other thread would go on for ever.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn dump(metric: &str, from: i64, step: u32, count: u16, first: u16) -> Dump {
    let values: Vec<f32> = (0..count).map(|at| f32::from(first + at)).collect();
    let run = Run { path: Vec::new(), metric: metric.into(), base: from, frequency_s: step, values };
    Dump { from, to: from + i64::from(step) * i64::from(count), runs: vec![run] }
}

fn refused(engine: &Engine) -> u64 {
    engine.status().lines.refused.values().sum()
}

#[test]
fn replayed_data_is_unsaved_and_survives_the_next_crashes() {
    let mut site = Site::new();
    fill(&site.start(), "h", "load", T, 10, 120, 1);
    for life in 0..4 {
        site = site.killed();
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 120, 1), "life {life}");
        site.save(&engine);
        engine.tick();
    }
}

#[test]
fn what_arrives_during_a_checkpoint_is_protected() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 300, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                site.save(&engine);
                engine.tick();
            }
        });
        let _done = Done(&done);
        fill(&engine, "h", "load", T + 3000, 10, 700, 301);
    });
    let killed = site.killed();
    assert_eq!(values(&killed.start(), "h", "load"), filled(T, 10, 1000, 1));
}

#[test]
fn nothing_is_appended_behind_a_tear() {
    let mut site = Site::new();
    fill(&site.start(), "h", "load", T, 10, 9, 1);
    for life in 0..3 {
        site = site.killed();
        let segment = site.segments().pop().unwrap();
        site.disk.patch(&segment, |bytes| bytes.extend([0x77; 9])).unwrap();
        let torn = site.disk.contents(&segment).unwrap();
        let engine = site.start();
        fill(&engine, "h", "load", T + 90 + life * 3000, 10, 300, 10 + life * 300);
        assert_eq!(site.disk.contents(&segment).unwrap(), torn, "an earlier segment was changed");
    }
    assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 909, 1));
}

#[test]
fn one_flipped_bit_in_a_log_of_the_original_costs_one_record() {
    let records: Vec<_> = (0..1000_i16)
        .map(|at| v1::Record {
            timestamp: T + i64::from(at) * 10,
            metric: "load",
            selector: Vec::new(),
            value: f32::from(at) + 1.0,
        })
        .collect();
    let whole = v1::encode(&records);
    let all = filled(T, 10, 1000, 1);
    for bit in [4 * 8, 40 * 8 + 3, whole.len() * 4, whole.len() * 4 + 77, whole.len() * 8 - 2] {
        let site = Site::new();
        site.disk.put(path("c/h/current.wal"), whole.clone()).unwrap();
        site.disk.flip(path("c/h/current.wal"), bit).unwrap();
        let rotten = site.disk.contents(path("c/h/current.wal")).unwrap();
        let engine = site.start();
        let seen = values(&engine, "h", "load");
        assert_eq!(seen.len(), 999, "bit {bit}");
        assert!(seen.iter().all(|(slot, value)| all[slot] == *value), "bit {bit}");
        stop(engine);
        // No intact log: its bytes are kept.
        assert_eq!(site.disk.contents(path("c/h/current.wal.corrupt-1")).unwrap(), rotten);
        assert_eq!(values(&site.start(), "h", "load"), seen);
    }
}

#[test]
fn a_host_that_cannot_be_saved_is_saved_later_and_holds_up_no_other() {
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)] {
        let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
        let engine = site.start();
        fill(&engine, "bad", "load", T, 10, 20, 1);
        fill(&engine, "good", "load", T, 10, 20, 1);
        site.disk.fail(
            Fault::new(Effect::Error(EIO), |call| {
                call.op == Op::Create && call.path.starts_with("/var/store/c/bad")
            })
            .for_ever(),
        );
        site.save(&engine);
        assert!(site.files("c/bad").is_empty(), "{format:?}: {:?}", site.files("c/bad"));
        assert_eq!(site.files("c/good").len(), 1, "{format:?}");
        // The log goes on holding what no file holds.
        let killed = site.killed().start();
        assert_eq!(values(&killed, "bad", "load"), filled(T, 10, 20, 1));
        assert_eq!(values(&killed, "good", "load"), filled(T, 10, 20, 1));
        assert!(engine.status().saves.failed > 0);
        site.disk.clear_faults();
        site.save(&engine);
        assert_eq!(site.files("c/bad").len(), 1, "{format:?}");
    }
}

#[test]
fn a_late_sample_at_the_edge_of_a_checkpoint_is_in_a_file() {
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)] {
        let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
        let engine = site.start();
        fill(&engine, "h", "load", NOW, 10, 18, 1);
        site.clock.advance(180);
        engine.checkpoint();
        // One slot of the middle never came until now; the next ones are in time.
        fill(&engine, "h", "load", NOW + 180, 10, 2, 19);
        fill(&engine, "h", "load", NOW - 10, 10, 1, 0);
        stop(engine);
        assert_eq!(values(&site.start(), "h", "load"), filled(NOW - 10, 10, 21, 0), "{format:?}, {portable}");
    }
}

#[test]
fn a_full_disk_is_admitted_and_healed() {
    for (mode, durability) in [
        (WalSync::Always, Durability::Unavailable),
        (WalSync::Interval, Durability::Memory),
        (WalSync::Write, Durability::Memory),
    ] {
        let site = Site::new().with(|options| options.wal_sync = mode);
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 100, 1);
        site.disk.fail(
            Fault::new(Effect::Error(ENOSPC), |call| matches!(call.op, Op::Append | Op::Create)).for_ever(),
        );
        for at in 100..200 {
            let report = engine.write(line("load", at + 1, T + at * 10).as_bytes(), None);
            // In mode `always` nothing is applied once the log is known not to work.
            let good = u64::from(mode != WalSync::Always || at == 100);
            assert_eq!((report.good, report.durability), (good, durability), "{mode:?}");
            if at % 10 == 0 {
                engine.tick();
            }
        }
        let status = engine.status();
        assert!(status.log.degraded && status.log.last_error.is_some());
        assert_eq!(status.lines.memory_only + status.lines.unavailable, 100);
        site.disk.clear_faults();
        engine.tick();
        assert!(!engine.status().log.degraded, "{mode:?}");
        let report = engine.write(line("load", 201, T + 2000).as_bytes(), None);
        assert_eq!(report.durability, Durability::Kept);
        // Healed: also what came while nothing could be logged.
        let mut expected = filled(T, 10, 201, 1);
        expected.retain(|time, _| mode != WalSync::Always || !(T + 1010..T + 2000).contains(time));
        assert_eq!(values(&site.killed().start(), "h", "load"), expected, "{mode:?}");
    }
}

#[test]
fn a_file_whose_name_is_older_than_the_retention_is_loaded_for_what_is_in_it() {
    let site = Site::new().with(|options| options.retention_s = 15_000);
    // 900 samples, of which the last 650 lie within the retention.
    let from = NOW - 15_000 - 250 * 10;
    site.disk
        .put(path(&format!("c/h/{from}.bin")), bin1::encode(&dump("load", from, 10, 900, 1)).unwrap())
        .unwrap();
    let engine = site.start();
    let expected = filled(from + 2500, 10, 650, 251);
    assert_eq!(values(&engine, "h", "load").split_off(&(NOW - 15_000)), expected);
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load").split_off(&(NOW - 15_000)), expected);
}

#[test]
fn a_reload_shifts_no_sample_and_overlapping_files_are_merged() {
    let site = Site::new();
    let (a, b) = (T, T + 100 * 60);
    site.disk
        .put(path(&format!("c/h/{a}.bin")), bin1::encode(&dump("disk", a, 60, 130, 1)).unwrap())
        .unwrap();
    site.disk
        .put(path(&format!("c/h/{b}.json")), json::encode(&dump("disk", b, 60, 100, 101)).unwrap())
        .unwrap();
    for _ in 0..5 {
        let engine = site.start();
        assert_eq!(values(&engine, "h", "disk"), filled(T, 60, 200, 1));
        let answer = series(&engine, "h", "disk", &[]).unwrap();
        assert_eq!((answer.from, answer.to, answer.values.len()), (T, T + 200 * 60, 200));
        stop(engine);
    }
}

#[test]
fn json_files_keep_every_digit_and_what_f32_cannot_hold_is_refused() {
    let site = Site::new().with(|options| options.format = FileFormat::Json);
    let engine = site.start();
    let body =
        [line("load", "0.1234567", T), line("load", "3.4028235e38", T + 10), line("load", "-1e-45", T + 20)];
    assert_eq!(engine.write(body.concat().as_bytes(), None).good, 3);
    for beyond in ["1e39", "-3.5e38", "1e308"] {
        let report = engine.write(line("load", beyond, T + 30).as_bytes(), None);
        assert_eq!((report.good, report.bad, report.refused), (0, 0, 1), "{beyond}");
    }
    let before = values(&engine, "h", "load");
    assert_eq!(before[&T], f64::from(0.123_456_7_f32));
    assert_eq!(before.len(), 3);
    stop(engine);
    for _ in 0..3 {
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), before);
        stop(engine);
    }
}

#[test]
fn any_flipped_bit_of_a_block_file_is_noticed() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 24, 1);
    fill(&engine, "h", "disk", T, 60, 24, 1);
    stop(engine);
    let file = &site.host_files()[0];
    let bits = site.disk.contents(file).unwrap().len() * 8;
    let (load, disk) = (filled(T, 10, 24, 1), filled(T, 60, 24, 1));
    let mut lost = 0;
    for bit in (0..bits).step_by(5) {
        let rotten = site.on(site.disk.fork());
        rotten.disk.flip(file, bit).unwrap();
        let engine = rotten.start();
        for (metric, all) in [("load", &load), ("disk", &disk)] {
            let seen = values(&engine, "h", metric);
            assert!(seen == *all || seen.is_empty(), "bit {bit}: {metric}: {seen:?}");
            lost += usize::from(seen.is_empty());
        }
    }
    assert!(lost > 0, "no flip hit a value");
}

#[test]
fn a_count_that_rot_made_huge_allocates_nothing() {
    let site = Site::new();
    let mut bytes = bin1::encode(&dump("load", T, 10, 100, 1)).unwrap();
    // Magic, range, number of metrics, name, frequency, start: then the number of values.
    let at = 4 + 16 + 4 + 2 + 4 + 8 + 8;
    assert_eq!(bytes[at..at + 4], 100_u32.to_le_bytes());
    bytes[at + 3] = 0x7F;
    site.disk.put(path(&format!("c/h/{T}.bin")), bytes.clone()).unwrap();
    let engine = site.start();
    assert_eq!(engine.status().start.files_set_aside, 1);
    stop(engine);
    assert_eq!(site.disk.contents(path(&format!("c/h/{T}.bin.corrupt-1"))).unwrap(), bytes);
}

#[test]
fn one_bad_file_keeps_nothing_else_from_being_loaded() {
    let site = Site::new();
    site.disk.put(path(&format!("c/h/{T}.bin")), bin1::encode(&dump("load", T, 10, 50, 1)).unwrap()).unwrap();
    site.disk.put(path(&format!("c/h/{}.json", T + 500)), "{\"metrics\": {").unwrap();
    site.disk.put(path(&format!("c/h/{}.bin", T + 600)), "").unwrap();
    site.disk
        .put(path(&format!("c/g/{T}.json")), json::encode(&dump("load", T, 10, 50, 1)).unwrap())
        .unwrap();
    site.disk.put(path("c/current.wal"), "of a line without a host").unwrap();
    let engine = site.start();
    for host in ["g", "h"] {
        assert_eq!(values(&engine, host, "load"), filled(T, 10, 50, 1), "{host}");
    }
    let status = engine.status();
    assert_eq!(status.start.files_set_aside, 1, "{:?}", status.problems);
    assert!(
        status.problems.iter().any(|problem| problem.path.ends_with(".json.corrupt-1")),
        "{:?}",
        status.problems
    );
}

#[test]
fn a_timestamp_in_the_future_poisons_no_series() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 100, 10, 10, 1);
    let report = engine.write(line("load", 99, NOW + 601).as_bytes(), None);
    assert_eq!((report.good, report.bad, report.refused), (0, 0, 1));
    assert_eq!(refused(&engine), 1);
    fill(&engine, "h", "load", NOW, 10, 10, 11);
    assert_eq!(values(&engine, "h", "load"), filled(NOW - 100, 10, 20, 1));
    assert_eq!(engine.write(line("load", 99, NOW + 600).as_bytes(), None).good, 1, "within what is allowed");
}

#[test]
fn samples_older_than_everything_known_are_taken_within_the_retention() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 100, 101);
    site.save(&engine);
    fill(&engine, "h", "load", T - 1000, 10, 100, 1);
    assert_eq!(values(&engine, "h", "load"), filled(T - 1000, 10, 200, 1));
    // Counted from the second newest word of the only host, which is earlier than the clock.
    let too_old = T + 980 - site.options.retention_s - 11;
    let report = engine.write(line("load", 1, too_old).as_bytes(), None);
    assert_eq!((report.good, report.refused), (0, 1));
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), filled(T - 1000, 10, 200, 1));
}

fn socket(metric: &str, id: u32, from: i64, step: i64, count: i64, first: i64) -> String {
    let line = |at| {
        let (value, time) = (first + at, from + at * step);
        format!("{metric},cluster=c,hostname=h,type=socket,type-id={id} value={value} {time}\n")
    };
    (0..count).map(line).collect()
}

#[test]
fn a_child_that_started_later_or_is_missing_fails_no_aggregate() {
    let engine = Site::new().start();
    engine.write(socket("disk", 0, T, 60, 10, 1).as_bytes(), None);
    engine.write(socket("disk", 1, T + 300, 60, 10, 101).as_bytes(), None);
    let answer = series(&engine, "h", "disk", &[]).unwrap();
    let sums: Vec<f64> = answer.values.iter().copied().filter(|value| !value.is_nan()).collect();
    // Slots that one of them lacks are null; where both have one it is their sum.
    assert_eq!(sums, [107.0, 109.0, 111.0, 113.0, 115.0]);
    let group = vec![PathElement::Group(vec!["socket0".into(), "socket9".into()])];
    let asked = ReadRequest { path: group.into(), ..request("h", "disk", &[], T, T + 600) };
    assert_eq!(engine.read(&asked).unwrap().unwrap().values.len(), 10);
}

#[test]
fn an_aggregate_does_not_depend_on_the_order_of_ids() {
    let engine = Site::new().start();
    for (id, offset, value) in [(0, 0, 1), (1, 7, 10_000_019), (2, 133, 3)] {
        engine.write(socket("disk", id, T + offset, 60, 20, value).as_bytes(), None);
    }
    let ask = |ids: [u32; 3]| {
        let group = PathElement::Group(ids.iter().map(|id| format!("socket{id}").into()).collect());
        let asked = ReadRequest { path: vec![group].into(), ..request("h", "disk", &[], T - 1000, T + 9000) };
        engine.read(&asked).unwrap().unwrap()
    };
    let bits = |ids| {
        let answer = ask(ids);
        (answer.from, answer.to, answer.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
    };
    let first = bits([0, 1, 2]);
    assert!(ask([0, 1, 2]).values.iter().any(|value| !value.is_nan()));
    for ids in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(bits(ids), first, "{ids:?}");
    }
}

#[test]
fn a_malformed_line_costs_only_itself() {
    let engine = Site::new().start();
    let body = [line("load", 1, T), line("load", "1.2.3", T + 10), line("load", 3, T + 20)].concat();
    let report = engine.write(body.as_bytes(), None);
    assert_eq!((report.good, report.bad, report.skipped), (2, 1, 0));
    assert_eq!(report.first_bad.unwrap().line, 2);
    assert_eq!(values(&engine, "h", "load").into_iter().collect::<Vec<_>>(), [(T, 1.0), (T + 20, 3.0)]);
}

#[test]
fn a_line_without_a_hostname_is_stored_under_no_host() {
    let engine = Site::new().start();
    let body =
        format!("{}load,cluster=c value=66 {}\n{}", line("load", 1, T), T + 10, line("load", 3, T + 20));
    let report = engine.write(body.as_bytes(), None);
    assert_eq!((report.good, report.refused + report.bad), (2, 1));
    assert_eq!(engine.hosts("c").unwrap(), ["h"]);
    assert_eq!(values(&engine, "h", "load").into_iter().collect::<Vec<_>>(), [(T, 1.0), (T + 20, 3.0)]);
}

#[test]
fn freeing_and_pruning_take_nothing_from_a_writer() {
    let site = Site::new().with(|options| (options.retention_s, options.limits.hosts) = (5000, 1000));
    let engine = site.start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                engine.free(NOW - 1000, &[vec!["c".to_owned()]]).unwrap();
                engine.sweep();
                engine.tick();
            }
        });
        let _done = Done(&done);
        for host in 0..200 {
            // Something to be freed at once, so that the host is empty, and something to stay.
            let name = format!("n{host}");
            engine.write(format!("load,cluster=c,hostname={name} value=1 {}\n", NOW - 2000).as_bytes(), None);
            fill(&engine, &name, "load", NOW - 500, 10, 10, 1);
        }
    });
    for host in 0..200 {
        let mut seen = values(&engine, &format!("n{host}"), "load");
        seen.remove(&(NOW - 2000));
        assert_eq!(seen.len(), 10, "n{host}: {seen:?}");
    }
}

#[test]
fn a_stop_during_a_checkpoint_leaves_whole_files() {
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)] {
        for _ in 0..5 {
            let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
            let engine = site.start();
            for host in ["a", "b", "h"] {
                fill(&engine, host, "load", T, 10, 70, 1);
            }
            std::thread::scope(|scope| {
                scope.spawn(|| site.save(&engine));
                scope.spawn(|| engine.checkpoint());
                assert_eq!(engine.stop().problems, Vec::<String>::new());
            });
            drop(engine);
            let engine = site.start();
            for host in ["a", "b", "h"] {
                assert_eq!(
                    values(&engine, host, "load"),
                    filled(T, 10, 70, 1),
                    "{format:?}, {portable}: {host}"
                );
            }
            let status = engine.status();
            assert_eq!(
                (status.problems.len(), status.start.files_set_aside),
                (0, 0),
                "{:?}",
                status.problems
            );
        }
    }
}

#[test]
fn writes_behind_a_stop_are_harmless() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    assert_eq!(engine.stop().problems, Vec::<String>::new());
    let report = engine.write(line("load", 11, T + 100).as_bytes(), None);
    assert_eq!(report.good, 1);
    engine.tick();
    engine.checkpoint();
    assert_eq!(engine.stop().problems, Vec::<String>::new());
    drop(engine);
    let seen = values(&site.start(), "h", "load");
    let acknowledged = if report.durability == Durability::Kept { 11 } else { 10 };
    assert!(seen.len() >= acknowledged, "{seen:?}");
}

#[test]
fn a_clock_that_goes_back_panics_nothing_and_deletes_nothing() {
    let site = Site::new().with(|options| options.retention_s = 10_000);
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 2000, 10, 200, 1);
    for jump in [-1, -50_000, -1_000_000_000, -2_000_000_000, 3_000_000_000, 0] {
        site.clock.set(NOW + jump);
        engine.tick();
        engine.checkpoint();
        engine.sweep();
        engine.clean_up();
        assert_eq!(values(&engine, "h", "load"), filled(NOW - 2000, 10, 200, 1), "{jump}");
        let health = engine.health("c", &["h".to_owned()], &["load".to_owned()]).unwrap();
        assert!(health[0].1.found);
    }
    stop(engine);
    site.clock.set(NOW - 40_000);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(NOW - 2000, 10, 200, 1));
}

#[test]
fn a_memory_cap_of_zero_frees_nothing_and_a_small_one_saves_first() {
    let free = Site::new();
    let engine = free.start();
    fill(&engine, "h", "load", NOW - 9000, 10, 900, 1);
    engine.sweep();
    assert_eq!(values(&engine, "h", "load").len(), 900);

    let capped = Site::new().with(|options| {
        (options.memory_cap_bytes, options.retention_s) = (1, 10_000);
        options.checkpoint_interval_s = 1_000_000;
    });
    // Where files can be mapped, blocks leave the heap when they are saved.
    capped.disk.fail(Fault::new(Effect::Error(EIO), |call| call.op == Op::Map).for_ever());
    let engine = capped.start();
    for batch in 0..30 {
        fill(&engine, "h", "load", NOW - 9000 + batch * 300, 10, 30, 1 + batch * 30);
        engine.tick();
    }
    // The first try, at the first tick, was in vain, as any is with such a cap.
    capped.clock.advance(120);
    engine.sweep();
    let memory = engine.memory();
    assert_eq!((memory.head_bytes, memory.unsaved_block_bytes), (0, 0), "above the cap: {memory:?}");
    assert!(engine.status().saves.blocks_dropped > 0);
    drop(engine);
    capped.disk.clear_faults();
    // Nothing is lost: what memory could not hold is in files or in the log.
    let roomy = capped.killed().with(|options| options.memory_cap_bytes = 0);
    assert_eq!(values(&roomy.start(), "h", "load"), filled(NOW - 9000, 10, 900, 1));
}

#[test]
fn no_range_is_too_long_to_be_refused() {
    let engine = Site::new().start();
    fill(&engine, "h", "power", NOW - 1000, 1, 100, 1);
    fill(&engine, "h", "power", NOW - 900_000, 1, 1, 1);
    let ask = |from, to, points_max| {
        engine.read(&ReadRequest { points_max, ..request("h", "power", &[], from, to) })
    };
    assert!(matches!(ask(i64::MIN, i64::MAX, 1000), Err(ReadError::TooManyPoints { points_max: 1000, .. })));
    let all = ask(i64::MIN, i64::MAX, 1_000_000).unwrap().unwrap();
    assert_eq!((all.from, all.to), (NOW - 900_000, NOW - 900));
    assert_eq!(ask(NOW - 1000, i64::MAX, 1000).unwrap().unwrap().values.len(), 100);
    assert!(matches!(ask(i64::MAX, i64::MIN, 1000), Err(ReadError::InvalidRange)));
    for (from, to) in [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX), (i64::MAX - 1, i64::MAX)] {
        let answer = ask(from, to, 1000).unwrap();
        assert!(answer.is_none_or(|answer| answer.values.iter().all(|value| value.is_nan())));
    }
}

#[test]
fn freeing_unknown_selectors_makes_no_levels() {
    let engine = Site::new().start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    let before = engine.debug_json(None).unwrap();
    let selectors: Vec<Vec<String>> =
        [&["x"][..], &["c", "x"], &["c", "h", "x"], &["c", "h", "x", "y"], &["x", "y", "z"]]
            .iter()
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect())
            .collect();
    assert_eq!(engine.free(NOW, &selectors).unwrap().count, 0);
    assert_eq!(engine.debug_json(None).unwrap(), before);
    assert_eq!(engine.hosts("x").unwrap(), Vec::<String>::new());
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 10, 1));
}

#[test]
fn writes_are_taken_before_anything_is_loaded() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 50, 1);
    stop(engine);
    let engine = site.open();
    assert!(!engine.ready());
    fill(&engine, "h", "load", T + 500, 10, 50, 51);
    assert_eq!(engine.read(&request("h", "load", &[], T, NOW)), Err(ReadError::Loading), "no partial answer");
    let site = site.killed();
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 100, 1));
    engine.load_all();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 100, 1));
}

#[test]
fn cleanup_goes_by_the_newest_sample_in_a_file() {
    let site = Site::new().with(|options| {
        options.retention_s = 15_000;
        // Nothing is converted before the cleanup looks.
        options.checkpoint_interval_s = 1000;
    });
    // Old by name, and new inside; old in both ways.
    let long = NOW - 30_000;
    let old = NOW - 40_000;
    site.disk
        .put(path(&format!("c/h/{long}.bin")), bin1::encode(&dump("load", long, 10, 2900, 1)).unwrap())
        .unwrap();
    site.disk
        .put(path(&format!("c/h/{old}.bin")), bin1::encode(&dump("load", old, 10, 100, 1)).unwrap())
        .unwrap();
    let engine = site.start();
    engine.sweep();
    engine.clean_up();
    let files = site.host_files();
    assert!(files.contains(&path(&format!("c/h/{long}.bin"))), "{files:?}");
    assert!(!files.contains(&path(&format!("c/h/{old}.bin"))), "{files:?}");
    assert_eq!(values(&engine, "h", "load").last_key_value(), Some((&(long + 28_990), &2900.0)));
}

#[test]
fn a_file_that_cannot_say_what_it_holds_stays_an_interval_longer() {
    let site = Site::new().with(|options| {
        (options.retention_s, options.checkpoint_interval_s) = (15_000, 1000);
    });
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 100, 10, 11, 1);
    let (younger, older) = (NOW - 15_500, NOW - 16_500);
    for name in [younger, older] {
        site.disk.put(path(&format!("c/h/{name}.json")), "{\"metrics\": {").unwrap();
    }
    engine.sweep();
    engine.clean_up();
    let files = site.host_files();
    assert!(files.contains(&path(&format!("c/h/{younger}.json"))), "{files:?}");
    assert!(!files.contains(&path(&format!("c/h/{older}.json"))), "{files:?}");
}

#[test]
fn a_single_cleanup_ends_with_any_number_of_workers() {
    let directory = tempfile::tempdir().unwrap();
    let host = directory.path().join("c/h");
    std::fs::create_dir_all(&host).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    for workers in [1, 4] {
        for (from, count) in [(now - 90_000, 10), (now - 1000, 100)] {
            let mut file = std::fs::File::create(host.join(format!("{from}.bin"))).unwrap();
            file.write_all(&bin1::encode(&dump("load", from, 10, count, 1)).unwrap()).unwrap();
        }
        let mut options = Site::new().options;
        (options.retention_s, options.num_workers) = (15_000, workers);
        options.directory = directory.path().to_owned();
        assert_eq!(Engine::cleanup_once(options).unwrap().files, 1, "{workers} workers");
    }
}

#[test]
fn a_component_name_that_is_too_long_is_refused() {
    let site = Site::new();
    let engine = site.start();
    for (length, good) in [(245, 1), (300, 0)] {
        let name = "z".repeat(length);
        let line = format!("load,cluster=c,hostname=h,type={name},type-id=0 value=1 {T}\n");
        let report = engine.write(line.as_bytes(), None);
        assert_eq!((report.good, report.refused), (good, 1 - good), "{length}");
    }
    stop(engine);
    let engine = site.start();
    let (long, cut) = (format!("{}0", "z".repeat(245)), "z".repeat(300 % 256));
    assert_eq!(values_of(&engine, "h", "load", &[&long]).len(), 1);
    assert_eq!(values_of(&engine, "h", "load", &[&cut]).len(), 0);
}

#[test]
fn loaded_data_counts_as_unsaved_until_the_first_checkpoint_has_written_it() {
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)] {
        let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
        let loaded = path(&format!("c/h/{T}.json"));
        site.disk.put(&loaded, json::encode(&dump("load", T, 10, 50, 1)).unwrap()).unwrap();
        let engine = site.start();
        fill(&engine, "h", "load", T + 500, 10, 50, 51);
        let before = site.host_files();
        assert_eq!(before, [loaded.as_path()]);
        site.disk.record();
        site.save(&engine);
        // From the oldest slot on, and the file that was loaded goes only when the new one is read back.
        let trace = site.disk.trace();
        let of = |op, name: &Path| trace.iter().position(|call| call.op == op && call.path == name);
        let files = site.host_files();
        assert_eq!(files.len(), 1, "{format:?}: {files:?}");
        if files[0] != loaded {
            let removed = of(Op::Remove, &loaded).unwrap();
            assert!(
                [Op::Map, Op::Read].into_iter().filter_map(|op| of(op, &files[0])).any(|read| read < removed)
            );
        }
        assert_eq!(
            values(&site.killed().start(), "h", "load"),
            filled(T, 10, 100, 1),
            "{format:?}, {portable}"
        );
        stop(engine);
        assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 100, 1), "{format:?}, {portable}");
        let ours = site.disk.contents(&site.host_files()[0]).unwrap();
        assert_eq!(blockfile::is_block_file(&ours), (format, portable) == (FileFormat::Wal, false));
    }
}

#[test]
fn a_slot_that_begins_before_its_time_does_not_put_the_clock_forward() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "disk", NOW - 3575, 60, 60, 1);
    // The slot of this sample is 25 s ahead of the clock.
    fill(&engine, "h", "disk", NOW - 1, 60, 1, 61);
    assert_eq!(values(&engine, "h", "disk").last_key_value(), Some((&(NOW + 25), &61.0)));
    stop(engine);
    assert_eq!(site.start().now(), NOW);
    // Samples of now are taken all the same by a clock that is behind all data.
    site.clock.set(NOW - 1000);
    let engine = site.start();
    assert_eq!(engine.now(), NOW - 1000);
    fill(&engine, "h", "disk", NOW + 60, 60, 1, 62);
}

#[test]
fn a_host_of_which_everything_was_freed_is_none() {
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)] {
        let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
        let mut engine = site.start();
        fill(&engine, "h", "load", T, 10, 20, 1);
        fill(&engine, "stays", "load", T, 10, 20, 1);
        assert!(engine.free(NOW, &[vec!["c".to_owned(), "h".to_owned()]]).unwrap().count > 0);
        for _ in 0..2 {
            assert_eq!(engine.hosts("c").unwrap(), ["stays"], "{format:?}, {portable}");
            let health = engine.health("c", &["h".to_owned()], &["load".to_owned()]).unwrap();
            assert!(!health[0].1.found);
            stop(engine);
            engine = site.start();
        }
    }
}

#[test]
fn series_that_come_one_by_one_are_not_all_named_in_the_log_each_time() {
    const SERIES: i64 = 400;
    let site = Site::new();
    let engine = site.start();
    let write = |engine: &Engine, series: i64, time: i64| {
        let kind = format!("type=socket,type-id={series}");
        let line = format!("power,cluster=c,hostname=h,{kind} value={series} {time}\n");
        assert_eq!(engine.write(line.as_bytes(), None).good, 1);
    };
    let log_bytes = |site: &Site| {
        let files = site.disk.files();
        site.segments().iter().map(|path| files[path].len()).sum::<usize>()
    };
    let check = |engine: &Engine, time: i64| {
        for series in 0..SERIES {
            let path = format!("socket{series}");
            assert_eq!(values_of(engine, "h", "power", &[&path])[&time], series as f64, "{path}");
        }
    };
    (0..SERIES).for_each(|series| write(&engine, series, T));
    let of_names = log_bytes(&site);
    assert!(of_names < SERIES as usize * 150, "{of_names} bytes");
    // Both of what names and of what a shape says: a sender who takes turns gets it no longer either.
    (0..SERIES).for_each(|series| {
        write(&engine, series, T + 1);
        write(&engine, SERIES + series, T + 1);
    });
    let of_both = log_bytes(&site) - of_names;
    assert!(of_both < 2 * SERIES as usize * 150, "{of_both} bytes");
    for engine in [&site.killed().start(), &engine] {
        check(engine, T);
        check(engine, T + 1);
    }
    stop(engine);
    check(&site.start(), T + 1);
}
