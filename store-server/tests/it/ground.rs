//! What the engine stands on: a directory that goes away, a disk that is full, rights that are missing; and that what
//! it says of it is true.

use std::path::Path;

use store_disk::Disk as _;
use store_disk::sim::{Effect, Fault, Op};
use store_server::engine::{AtRisk, Durability, Engine, FileFormat, OpenError, WalSync};

use crate::site::{DIRECTORY, NOW, Site, fill, filled, line, stop, values};

const EIO: i32 = 5;
const EACCES: i32 = 13;
const EPERM: i32 = 1;
const ENOSPC: i32 = 28;
const EMFILE: i32 = 24;
const EROFS: i32 = 30;
const T: i64 = NOW - 5000;
const MODES: [WalSync; 4] = [WalSync::Always, WalSync::Interval, WalSync::Write, WalSync::None];

fn dir() -> &'static Path {
    Path::new(DIRECTORY)
}

fn away() -> &'static Path {
    Path::new("/var/away")
}

fn site(mode: WalSync) -> Site {
    Site::new().with(|options| options.wal_sync = mode)
}

/// Writes one sample; what the answer promises. One that is refused is mostly not taken either.
fn write(engine: &Engine, value: i64, time: i64) -> Durability {
    let report = engine.write(line("load", value, time).as_bytes(), None);
    assert!(report.good == 1 || report.durability == Durability::Unavailable);
    report.durability
}

/// What a mode answers while nothing can be kept.
fn nothing_kept(mode: WalSync) -> Durability {
    if mode == WalSync::Always { Durability::Unavailable } else { Durability::Memory }
}

#[test]
fn a_directory_that_is_removed_is_noticed_and_when_it_is_back_all_that_memory_holds_is_kept() {
    for mode in MODES {
        let site = site(mode);
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 5, 1);
        site.disk.rename(dir(), away()).unwrap();
        engine.tick();
        assert_eq!(write(&engine, 6, T + 50), nothing_kept(mode), "{mode:?}");
        let status = engine.status();
        assert!(!status.ready && status.loaded && status.log.degraded, "{mode:?}");
        // In mode `always` nothing is applied while the log does not work.
        let is_applied = mode != WalSync::Always;
        assert_eq!(
            status.at_risk,
            AtRisk { hosts: 1, rows: 5 + u64::from(is_applied) },
            "{mode:?}: nobody knows what became of the log"
        );
        assert!(status.condition.contains("was removed, renamed or unmounted"), "{}", status.condition);
        assert!(!site.disk.dirs().contains(&DIRECTORY.into()), "{mode:?}: nothing is made in its place");

        site.disk.rename(away(), dir()).unwrap();
        engine.tick();
        assert_eq!(write(&engine, 7, T + 60), Durability::Kept, "{mode:?}");
        let status = engine.status();
        assert!(status.ready && status.at_risk.is_nothing(), "{mode:?}: {}", status.condition);
        engine.sync_log().unwrap();
        drop(engine);
        let mut expected = filled(T, 10, 7, 1);
        expected.retain(|time, _| is_applied || *time != T + 50);
        assert_eq!(values(&site.killed().start(), "h", "load"), expected, "{mode:?}");
    }
}

#[test]
fn mode_always_acknowledges_nothing_from_the_first_sync_on_after_the_directory_went() {
    let site = site(WalSync::Always);
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 5, 1);
    site.disk.rename(dir(), away()).unwrap();
    assert_eq!(write(&engine, 6, T + 50), Durability::Unavailable, "without any tick");
}

#[test]
fn another_directory_under_the_name_is_left_as_it_is_by_everything_and_the_stop_says_what_is_lost() {
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Wal, true), (FileFormat::Json, false)] {
        let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 300, 1);
        site.save(&engine);
        fill(&engine, "h", "load", T + 3000, 10, 5, 301);
        let other = site.disk.contents(site.segments().last().unwrap()).unwrap();
        site.disk.rename(dir(), away()).unwrap();
        // Of somebody else, with names like ours.
        for number in 1..5 {
            site.disk.put(dir().join(format!(".wal/{number:020}.wal")), other.clone()).unwrap();
        }
        site.disk.put(dir().join("c/h/1.bin"), "of somebody else").unwrap();
        site.disk.put(dir().join("c/h/2.json"), "{}").unwrap();
        let before = site.files("");
        for _ in 0..3 {
            site.clock.advance(4000);
            engine.tick();
            engine.checkpoint();
            engine.sweep();
            engine.roll("c", "h");
            engine.clean_up();
        }
        let problems = engine.stop().problems;
        assert_eq!(site.files(""), before, "{format:?} {portable}");
        assert_eq!(site.disk.contents(dir().join("c/h/1.bin")).unwrap(), b"of somebody else");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        for words in ["replaced by another one", "LOST: up to", "of 1 host,", "Nothing was written"] {
            assert!(problem.contains(words), "{problem}");
        }
    }
}

#[test]
fn a_log_that_is_removed_under_us_is_begun_anew() {
    for mode in [WalSync::Always, WalSync::Write] {
        let site = site(mode);
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 5, 1);
        for segment in site.segments() {
            site.disk.take(segment).unwrap();
        }
        if mode == WalSync::Always {
            assert_eq!(write(&engine, 6, T + 50), Durability::Unavailable);
        } else {
            assert_eq!(write(&engine, 6, T + 50), Durability::Kept, "this mode never syncs");
            engine.sync_log().unwrap_err();
        }
        engine.tick();
        assert_eq!(write(&engine, 7, T + 60), Durability::Kept, "{mode:?}");
        drop(engine);
        assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 7, 1), "{mode:?}");
    }
}

#[test]
fn a_host_directory_that_is_removed_under_us_is_made_and_filled_again() {
    for hosts in [1, 12] {
        let site = Site::new();
        let engine = site.start();
        let name = |at: i64| format!("h{at}");
        (0..hosts).for_each(|at| fill(&engine, &name(at), "load", T, 10, 30, 1));
        site.save(&engine);
        site.disk.rename(&dir().join("c/h0"), away()).unwrap();
        for round in 0..2 {
            (0..hosts)
                .for_each(|at| fill(&engine, &name(at), "load", T + 300 + round * 10, 10, 1, 31 + round));
            site.save(&engine);
        }
        site.save(&engine);
        drop(engine);
        let engine = site.killed().start();
        assert_eq!(values(&engine, "h0", "load"), filled(T, 10, 32, 1), "{hosts} hosts");
    }
}

#[test]
fn a_start_without_the_right_to_write_is_refused_in_one_line() {
    for code in [EACCES, EPERM, EROFS] {
        for below in ["", ".wal"] {
            let site = Site::new();
            stop(site.start());
            let refused = dir().join(below);
            site.disk.fail(
                Fault::new(Effect::Error(code), move |call| {
                    call.op == Op::Create && call.path.parent() == Some(&refused)
                })
                .for_ever(),
            );
            let before = site.files("");
            let refusal = site.try_open().unwrap_err();
            assert!(matches!(refusal, OpenError::NotWritable { .. }), "{code} in {below:?}: {refusal:?}");
            let said = refusal.to_string();
            assert!(said.contains(DIRECTORY) && !said.contains('\n'), "{said}");
            assert_eq!(site.files(""), before, "{code} in {below:?}: as it was");
            site.disk.clear_faults();
            drop(site.start());
        }
    }
}

#[test]
fn a_start_that_finds_what_will_pass_serves_from_memory_and_says_so() {
    for code in [ENOSPC, EMFILE, EIO] {
        let site = Site::new();
        site.disk.fail(Fault::new(Effect::Error(code), |call| call.op == Op::Create).for_ever());
        let engine = site.start();
        assert!(engine.ready() && !engine.status().ready, "loaded, and not sound");
        assert_eq!(write(&engine, 1, T), Durability::Memory, "error {code}");
        assert_eq!(engine.status().at_risk, AtRisk { hosts: 1, rows: 1 }, "error {code}");
        site.disk.clear_faults();
        engine.tick();
        assert!(engine.status().ready, "error {code}");
        stop(engine);
        assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 1, 1), "error {code}");
    }
}

#[test]
fn below_the_reserve_the_log_counts_as_full_while_saves_and_the_stop_use_the_rest() {
    let site = Site::new().with(|options| options.min_free_bytes = Some(20_000));
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    let used = |site: &Site| site.disk.files().values().map(|content| content.len() as u64).sum::<u64>();
    site.disk.set_capacity(Some(used(&site) + 19_000));
    engine.tick();
    assert_eq!(write(&engine, 21, T + 200), Durability::Memory);
    let status = engine.status();
    assert!(!status.ready && status.condition.contains("the disk is full"), "{}", status.condition);
    assert!(status.at_risk.rows >= 1, "{:?}", status.at_risk);
    site.save(&engine);
    assert!(!site.host_files().is_empty(), "a save may use the rest");
    assert!(engine.at_risk().is_nothing(), "what is in a file is not at risk");
    fill(&engine, "h", "load", T + 210, 10, 9, 22);
    stop(engine);
    let site = site.killed();
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 30, 1), "the stop saved all");
}

#[test]
fn a_log_that_gave_up_for_room_goes_on_when_there_is_some() {
    let site = Site::new().with(|options| options.min_free_bytes = Some(20_000));
    let engine = site.start();
    site.disk.set_capacity(Some(30_000));
    engine.tick();
    assert_eq!(write(&engine, 1, T), Durability::Kept);
    site.disk.set_capacity(Some(20_000));
    engine.tick();
    assert_eq!(write(&engine, 2, T + 10), Durability::Memory);
    site.disk.set_capacity(Some(21_500));
    engine.tick();
    assert_eq!(write(&engine, 3, T + 20), Durability::Memory, "not at the very edge, or it gives up at once");
    site.disk.set_capacity(Some(60_000));
    engine.tick();
    assert_eq!(write(&engine, 4, T + 30), Durability::Kept);
    drop(engine);
    assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 4, 1));
}

#[test]
fn a_disk_full_of_expired_files_is_cleaned_up_at_once() {
    let site = Site::new().with(|options| options.retention_s = 10_000);
    let engine = site.start();
    fill(&engine, "old", "load", NOW - 9000, 10, 300, 1);
    stop(engine);
    site.clock.advance(20_000);
    let now = NOW + 20_000;
    let used: u64 = site.disk.files().values().map(|content| content.len() as u64).sum();
    site.disk.set_capacity(Some(used));
    let engine = site.start();
    assert!(!engine.status().ready && !site.files("c/old").is_empty());
    engine.tick();
    assert_eq!(write(&engine, 1, now - 20), Durability::Memory);
    for _ in 0..4 {
        site.clock.advance(5);
        engine.tick();
    }
    assert_eq!(site.files("c/old"), Vec::<std::path::PathBuf>::new(), "within half a minute, not an hour");
    assert_eq!(write(&engine, 2, now - 10), Durability::Kept);
}

#[test]
fn a_full_disk_at_the_stop_is_called_by_its_name_with_what_is_lost() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    site.disk.fail(
        Fault::new(Effect::Error(ENOSPC), |call| matches!(call.op, Op::Append | Op::Create)).for_ever(),
    );
    fill(&engine, "h", "load", T + 200, 10, 3, 21);
    fill(&engine, "g", "load", T, 10, 1, 1);
    let problems = engine.stop().problems;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(
        problem.starts_with("LOST: up to 24 rows of 2 hosts, which could be written neither"),
        "{problem}"
    );
    assert!(!problem.contains("the log holds"), "{problem}");
}

#[test]
fn hosts_that_cannot_be_saved_while_the_log_works_are_said_to_be_in_the_log_and_are() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    site.disk.fail(
        Fault::new(Effect::Error(EIO), |call| {
            call.op == Op::Create && call.path.extension().is_some_and(|e| e == "bin")
        })
        .for_ever(),
    );
    let problems = engine.stop().problems;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("1 hosts could not be saved to files; nothing is lost"), "{problem}");
    assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 20, 1));
}

#[test]
fn what_fails_for_every_host_is_listed_with_its_count_and_reason() {
    let site = Site::new();
    let engine = site.start();
    for at in 0..20 {
        fill(&engine, &format!("h{at}"), "load", T, 10, 3, 1);
    }
    site.disk.fail(
        Fault::new(Effect::Error(EIO), |call| {
            call.op == Op::Create && call.path.extension().is_some_and(|e| e == "bin")
        })
        .for_ever(),
    );
    site.save(&engine);
    site.save(&engine);
    let problems = engine.status().problems;
    let unsaved: Vec<_> =
        problems.iter().filter(|problem| problem.what == "host could not be saved: tried again").collect();
    assert_eq!(unsaved.len(), 20);
    for problem in unsaved {
        assert_eq!((problem.count, problem.last - problem.first), (2, site.options.checkpoint_interval_s));
        assert!(problem.why.as_ref().is_some_and(|why| why.contains("os error 5")), "{problem:?}");
    }
}

#[test]
fn a_probe_that_was_killed_leaves_nothing() {
    let site = Site::new();
    site.disk.put(dir().join(".probe.tmp"), "probe").unwrap();
    stop(site.start());
    assert!(site.disk.contents(dir().join(".probe.tmp")).is_none());
}

#[test]
fn a_disk_that_cannot_be_asked_is_believed_to_have_room() {
    let site = Site::new();
    site.disk.fail(Fault::new(Effect::Error(EIO), |call| call.op == Op::Space).on_looks().for_ever());
    let engine = site.start();
    engine.tick();
    assert_eq!(write(&engine, 1, T), Durability::Kept);
}
