//! Which hosts a start knows, whatever the limits say and whatever the disk refuses to list.

use store_disk::sim::{Effect, Fault, Op};
use store_server::engine::{DebugError, Durability, Engine, ReadError};

use crate::site::{NOW, Site, fill, filled, path, request, stop, values, values_of};

const T: i64 = NOW - 5_000;
const EIO: i32 = 5;

/// The directory `below` cannot be listed from now on.
fn refuse_list(site: &Site, below: &str) {
    let dir = path(below);
    let is_it = move |call: &store_disk::sim::Call| call.op == Op::List && call.path == dir;
    site.disk.fail(Fault::new(Effect::Error(EIO), is_it).for_ever());
}

fn lists(engine: &Engine, what: &str, below: &str) -> bool {
    let path = path(below).display().to_string();
    engine.status().problems.iter().any(|problem| problem.what.contains(what) && problem.path == path)
}

#[test]
fn hosts_that_are_on_the_disk_or_in_the_log_are_taken_whatever_the_limit_is_now() {
    let site = Site::new();
    let engine = site.start();
    for host in ["a", "b", "c", "d"] {
        fill(&engine, host, "load", T, 10, 5, 1);
    }
    site.save(&engine);
    for host in ["e", "f", "g"] {
        fill(&engine, host, "load", T, 10, 5, 1);
    }
    drop(engine);
    let site = site.killed().with(|options| options.limits.hosts = 2);
    let engine = site.start();
    for host in ["a", "b", "c", "d", "e", "f", "g"] {
        assert_eq!(values(&engine, host, "load"), filled(T, 10, 5, 1), "host {host}");
    }
    let report = engine.write(format!("load,cluster=c,hostname=new value=1 {T}\n").as_bytes(), None);
    assert_eq!((report.good, report.refused), (0, 1), "the limit still bounds what senders add");
    stop(engine);
    let engine = site.start();
    assert_eq!(engine.hosts("c").unwrap(), ["a", "b", "c", "d", "e", "f", "g"]);
}

#[test]
fn a_directory_that_was_set_aside_is_never_a_host_nor_a_cluster() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 5, 1);
    stop(engine);
    for file in site.host_files() {
        let bytes = site.disk.contents(&file).unwrap();
        let name = file.file_name().unwrap();
        site.disk.put(path("c/h.corrupt-1").join(name), bytes.clone()).unwrap();
        site.disk.put(path("c.corrupt-12/h").join(name), bytes).unwrap();
    }
    let before = site.files("c/h.corrupt-1").len() + site.files("c.corrupt-12").len();
    let engine = site.start();
    assert_eq!(engine.hosts("c").unwrap(), ["h"]);
    assert_eq!(engine.hosts("c.corrupt-12").unwrap(), Vec::<String>::new());
    assert!(lists(&engine, "ignored", "c/h.corrupt-1"), "{:?}", engine.status().problems);
    // Nor can anybody make one: its files would not be found by the next start.
    for line in ["load,cluster=c,hostname=x.corrupt-3 value=1", "load,cluster=x.corrupt-3,hostname=h value=1"]
    {
        let report = engine.write(format!("{line} {NOW}\n").as_bytes(), None);
        assert_eq!((report.good, report.refused), (0, 1), "{line}");
    }
    stop(engine);
    assert_eq!(before, site.files("c/h.corrupt-1").len() + site.files("c.corrupt-12").len());
    assert!(before >= 2);
}

/// Whether the engine says that it does not know yet.
fn is_unknown(engine: &Engine, host: &str) -> bool {
    engine.read(&request(host, "load", &[], T, NOW)).is_err_and(|e| matches!(e, ReadError::Loading))
}

#[test]
fn a_directory_that_cannot_be_listed_is_never_renamed_and_its_host_comes_when_it_can_be() {
    let site = Site::new().with(|options| options.log_segment_bytes = 600);
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    fill(&engine, "other", "load", T, 10, 20, 1);
    site.save(&engine);
    fill(&engine, "h", "load", T + 200, 10, 5, 21);
    drop(engine);
    let site = site.killed();
    let before = site.host_files();
    refuse_list(&site, "c/h");
    let engine = site.start();
    assert!(lists(&engine, "tried again", "c/h"), "{:?}", engine.status().problems);
    assert_eq!(engine.status().start.files_set_aside, 0);
    // The others are served, and this one is not said to be gone, nor to have less than it has.
    assert_eq!(values(&engine, "other", "load"), filled(T, 10, 20, 1));
    assert!(is_unknown(&engine, "h"));
    assert!(engine.hosts("c").unwrap().contains(&"h".to_owned()));
    assert!(engine.free(NOW, &[vec!["c".to_owned(), "h".to_owned()]]).is_err());
    assert!(matches!(engine.debug_json(Some("c:h")), Err(DebugError::Loading)));
    assert!(matches!(engine.debug_json(None), Err(DebugError::Loading)));
    // Samples are taken, and kept in the log, which nothing shortens meanwhile.
    fill(&engine, "h", "load", T + 250, 10, 5, 26);
    fill(&engine, "other", "load", T + 200, 10, 200, 21);
    site.save(&engine);
    engine.tick();
    assert_eq!(site.host_files(), before, "nothing is written beside what nobody can see");
    let all = filled(T, 10, 30, 1);
    assert_eq!(values(&site.killed().start(), "h", "load"), all, "after a kill");

    site.disk.clear_faults();
    site.clock.advance(10);
    engine.tick();
    assert_eq!(values(&engine, "h", "load"), all);
    assert_eq!(engine.status().hosts_loading, 0);
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), all);
    assert_eq!(values(&site.start(), "other", "load"), filled(T, 10, 220, 1));
}

#[test]
fn a_stop_says_that_a_directory_could_not_be_listed_and_loses_nothing() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    drop(engine);
    let site = site.killed();
    site.disk.put_dir(path("c/h")).unwrap();
    refuse_list(&site, "c/h");
    let engine = site.start();
    fill(&engine, "h", "load", T + 200, 10, 20, 21);
    let problems = engine.stop().problems;
    assert!(problems.iter().any(|problem| problem.contains("could not be listed")), "{problems:?}");
    drop(engine);
    site.disk.clear_faults();
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 40, 1));
}

#[test]
fn while_a_cluster_cannot_be_listed_nobody_is_told_that_a_host_of_it_does_not_exist() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    fill(&engine, "quiet", "load", T, 10, 20, 1);
    stop(engine);
    refuse_list(&site, "c");
    let engine = site.start();
    assert!(lists(&engine, "tried again", "c"), "{:?}", engine.status().problems);
    assert!(is_unknown(&engine, "h") && is_unknown(&engine, "quiet"));
    assert!(matches!(engine.hosts("c"), Err(ReadError::Loading)));
    assert!(matches!(engine.debug_json(Some("c:quiet")), Err(DebugError::Loading)));
    assert!(engine.free(NOW, &[vec!["c".to_owned()]]).is_err());
    // One that sends is known by its name, and so is what lies in its directory.
    fill(&engine, "h", "load", T + 200, 10, 20, 21);
    assert!(is_unknown(&engine, "h"));
    site.clock.advance(10);
    engine.tick();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 40, 1));
    assert!(is_unknown(&engine, "quiet"));
    site.disk.clear_faults();
    site.clock.advance(10);
    engine.tick();
    assert_eq!(values(&engine, "quiet", "load"), filled(T, 10, 20, 1));
    assert_eq!(engine.hosts("c").unwrap(), ["h", "quiet"]);
    stop(engine);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 40, 1));
    assert_eq!(values(&engine, "quiet", "load"), filled(T, 10, 20, 1));
}

/// The segments of the log cannot be opened from the load on: the pass that indexes them reads them whole.
fn refuse_log(site: &Site, code: i32, times: Option<u64>) {
    let is_it = |call: &store_disk::sim::Call| {
        call.op == Op::Map && call.path.extension().is_some_and(|extension| extension == "wal")
    };
    let fault = Fault::new(Effect::Error(code), is_it);
    site.disk.fail(match times {
        Some(times) => fault.times(times),
        None => fault.for_ever(),
    });
}

#[test]
fn a_segment_that_cannot_be_read_for_a_moment_when_the_directory_is_opened_is_tried_again() {
    const EACCES: i32 = 13;
    let is_segment = |call: &store_disk::sim::Call| {
        matches!(call.op, Op::Read | Op::ReadFront)
            && call.path.extension().is_some_and(|extension| extension == "wal")
    };
    for (code, times) in [(EIO, 5), (24, 5), (EACCES, 5), (EIO, 1)] {
        let site = with_log();
        site.disk.fail(Fault::new(Effect::Error(code), is_segment).times(times));
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 40, 1), "error {code}, {times} times");
        stop(engine);
        assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 40, 1));
        assert!(site.disk.files().into_keys().all(|path| !path.to_string_lossy().contains("corrupt")));
    }
    for code in [EACCES, 24] {
        let site = with_log();
        site.disk.fail(Fault::new(Effect::Error(code), is_segment).for_ever());
        let refused = site.refusal().to_string();
        assert!(refused.contains("00000000000000000001.wal cannot be read"), "{refused}");
    }
}

/// A site that was killed with everything of host `h` in the log.
fn with_log() -> Site {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 40, 1);
    drop(engine);
    site.killed()
}

#[test]
fn a_log_that_cannot_be_read_for_a_moment_costs_nothing() {
    let site = with_log();
    // The first one is that of the pass that asks what time it is.
    refuse_log(&site, EIO, Some(2));
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 40, 1));
    assert!(lists(&engine, "tried again", ".wal/00000000000000000001.wal"), "{:?}", engine.status().problems);
}

#[test]
fn without_descriptors_to_read_the_log_a_host_waits_as_long_as_it_takes() {
    const EMFILE: i32 = 24;
    let site = with_log();
    refuse_log(&site, EMFILE, None);
    let engine = site.start();
    assert!(is_unknown(&engine, "h"));
    fill(&engine, "h", "load", T + 400, 10, 5, 41);
    site.save(&engine);
    site.disk.clear_faults();
    site.clock.advance(10);
    engine.tick();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 45, 1));
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 45, 1));
}

#[test]
fn frames_that_the_disk_never_gives_are_reported_and_their_segment_is_kept() {
    let site = with_log();
    let segment = site.segments()[0].clone();
    let bytes = site.disk.contents(&segment).unwrap();
    refuse_log(&site, EIO, None);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 0, 1));
    assert!(lists(&engine, "frames of the log cannot be read", "c/h"), "{:?}", engine.status().problems);
    fill(&engine, "h", "load", T + 400, 10, 5, 41);
    site.disk.clear_faults();
    stop(engine);
    assert!(site.disk.files().values().any(|kept| *kept == bytes), "the bytes are still somewhere");
    assert_eq!(values(&site.start(), "h", "load"), filled(T + 400, 10, 5, 41));
}

#[test]
fn what_waits_for_a_host_is_left_to_the_log_where_it_is_much() {
    let site = Site::new().with(|options| options.log_segment_bytes = 4 << 20);
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 5, 1);
    stop(engine);
    refuse_list(&site, "c/h");
    let engine = site.start();
    // Each one takes as much memory as its long name.
    const SENT: i64 = 260_000;
    let (first, name) = (NOW - 70_000, "x".repeat(240));
    let message = |from: i64| {
        let line = |at| {
            let (core, time) = (at % 40, first + at / 40 * 10);
            format!("load,cluster=c,hostname=h,type=core,type-id={name}{core} value={at} {time}\n")
        };
        (from..from + 2_000).map(line).collect::<String>()
    };
    let mut most = 0;
    for from in (0..SENT).step_by(2_000) {
        let report = engine.write(message(from).as_bytes(), None);
        assert_eq!((report.good, report.durability), (2_000, Durability::Kept));
        most = most.max(engine.status().memory.deferred_bytes);
    }
    assert!(most > 48 << 20, "{most}: the test sends too little");
    assert!(most < 66 << 20, "{most}");
    let check = |engine: &Engine| {
        for core in [0, 17, 39] {
            let expected = (0..SENT / 40).map(|row| (first + row * 10, (row * 40 + core) as f64)).collect();
            assert_eq!(
                values_of(engine, "h", "load", &[&format!("core{name}{core}")]),
                expected,
                "core {core}"
            );
        }
        assert_eq!(values(engine, "h", "load"), filled(T, 10, 5, 1));
    };
    check(&site.killed().start());
    site.disk.clear_faults();
    site.clock.advance(10);
    engine.tick();
    check(&engine);
    assert_eq!(engine.status().memory.deferred_bytes, 0);
    stop(engine);
    check(&site.start());
}
