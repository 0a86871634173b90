//! Whose files and whose log a directory holds: other stores, logs that are older than the files, hosts that were
//! renamed, other releases. What was acknowledged and stands in our log alone is there afterwards, whatever else lies
//! in the directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_checkpoint::blockfile;
use store_disk::sim::{Keep, Torn};
use store_disk::{Disk, SimDisk, WholeFile};
use store_server::engine::{Engine, FileFormat, OpenError, ReadRequest};

use crate::site::{NOW, Site, fill, filled, line, path, request, set_version, stop, values};

/// Before which the tests write.
const T: i64 = NOW - 10_000;

/// Puts the files below a directory of another site into this one, by another name.
fn copy(from: &Site, below: &str, to: &Site, new: &str) {
    for file in from.files(below) {
        let name = file.strip_prefix(path(below)).unwrap();
        to.disk.put(path(new).join(name), from.disk.contents(&file).unwrap()).unwrap();
    }
}

/// Takes everything below a directory away.
fn take(site: &Site, below: &str) {
    for file in site.files(below) {
        site.disk.take(file).unwrap();
    }
}

/// A store that was stopped, with hosts that have other values in the same slots.
fn other_store(hosts: &[&str]) -> Site {
    let other = Site::new();
    for (batch, first) in [(0, 5001), (1, 6001)] {
        let engine = other.start();
        for host in hosts {
            fill(&engine, host, "load", T + batch * 100, 10, 20, first);
        }
        stop(engine);
    }
    other
}

/// What [`other_store`] holds of each host.
fn of_other() -> BTreeMap<i64, f64> {
    let mut all = filled(T, 10, 20, 5001);
    all.extend(filled(T + 100, 10, 20, 6001));
    all
}

/// Everything with `above` on top.
fn over(below: &BTreeMap<i64, f64>, above: &BTreeMap<i64, f64>) -> BTreeMap<i64, f64> {
    let mut all = below.clone();
    all.extend(above);
    all
}

/// Starts on every disk that a crash leaves of what `life` does on `site`, and checks each: at every call, killed and
/// without power; then once more.
fn at_every_crash(site: &Site, life: impl Fn(&Site), check: impl Fn(&Engine, &str)) -> u64 {
    // What was there before the life is durable.
    let site = site.on(site.disk.after_power_loss(&Keep::Everything));
    let whole = site.on(site.disk.fork());
    let before = whole.disk.calls();
    life(&whole);
    let mut images = 0;
    for number in before..whole.disk.calls() {
        let torn = if number.is_multiple_of(2) { Torn::Nothing } else { Torn::Bytes(9) };
        let crashed = site.on(site.disk.fork());
        crashed.disk.crash_at(number, torn);
        life(&crashed);
        for crash in crashed.disk.crashes(1, number) {
            let label = format!("call {number}, {crash:?}");
            let next = site.on(crashed.disk.after(&crash));
            let engine = next.start();
            check(&engine, &label);
            drop(engine);
            let after = next.killed();
            let engine = after.start();
            check(&engine, &format!("{label}, once more"));
            // As far as a stop, which is what puts everything right.
            engine.stop();
            drop(engine);
            check(&after.start(), &format!("{label}, after a stop"));
            images += 1;
        }
    }
    images
}

#[test]
fn a_host_directory_of_another_store_beside_ours_costs_nothing_of_our_log() {
    for hosts in [1, 8] {
        // They sort before ours.
        let names: Vec<String> = (0..hosts).map(|at| at.to_string()).collect();
        let other = other_store(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let site = Site::new();
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 30, 1);
        drop(engine);
        let site = site.killed();
        copy(&other, "c", &site, "c");
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
        assert!(
            engine.status().problems.iter().all(|problem| !problem.what.contains("another store set aside"))
        );
        fill(&engine, "h", "load", T + 300, 10, 30, 31);
        drop(engine);
        let site = site.killed();
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 60, 1));
        assert_eq!(values(&engine, "0", "load"), of_other(), "what was brought is served");
        assert_eq!(engine.hosts("c").unwrap().len(), hosts + 1);
        stop(engine);
    }
}

#[test]
fn blocks_of_another_store_rank_below_ours_and_among_themselves_as_they_did() {
    let other = other_store(&["h"]);
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T + 150, 10, 5, 1);
    site.save(&engine);
    fill(&engine, "h", "load", T + 250, 10, 10, 101);
    drop(engine);
    let site = site.killed();
    copy(&other, "c/h", &site, "c/h");
    let foreign: Vec<PathBuf> = other.files("c/h");
    assert!(foreign.len() >= 2, "the order among the files is what matters");
    let ours = over(&filled(T + 150, 10, 5, 1), &filled(T + 250, 10, 10, 101));
    let all = over(&of_other(), &ours);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), all);
    site.save(&engine);
    assert_eq!(values(&engine, "h", "load"), all);
    stop(engine);
    // They are ours now: no file of another store is left.
    let lineages: Vec<_> = site
        .host_files()
        .iter()
        .map(|file| blockfile::index(&WholeFile::read(site.disk.contents(file).unwrap().into())).lineage)
        .collect();
    assert!(lineages.windows(2).all(|pair| pair[0] == pair[1]), "{lineages:?}");
    assert_eq!(values(&site.start(), "h", "load"), all);
}

/// Life after life: a log with rows, and block files that know more. The log is then put back to what it was.
fn with_an_older_log() -> (Site, BTreeMap<i64, f64>, BTreeMap<i64, f64>) {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 20, 1);
    fill(&engine, "quiet", "load", T, 10, 20, 1);
    drop(engine);
    let site = site.killed();
    let old: Vec<(PathBuf, Vec<u8>)> =
        site.segments().into_iter().map(|at| (at.clone(), site.disk.contents(&at).unwrap())).collect();
    // Other values for the same slots, and newer ones: in files, under positions that the older log does not know.
    for (life, first) in [(0, 5001), (1, 6001)] {
        let engine = site.start();
        fill(&engine, "h", "load", T + 100 + life * 50, 10, 20, first);
        stop(engine);
    }
    take(&site, ".wal");
    for (at, bytes) in old {
        site.disk.put(at, bytes).unwrap();
    }
    let mut lost = filled(T + 100, 10, 20, 5001);
    lost.extend(filled(T + 150, 10, 20, 6001));
    (site, filled(T, 10, 20, 1), lost)
}

#[test]
fn beside_a_log_that_is_older_than_the_files_no_row_of_it_is_skipped_and_none_that_comes_is_lost() {
    let (site, log, lost) = with_an_older_log();
    let all = over(&lost, &log);
    // Samples for slots that the files hold, before anybody has looked into them.
    let engine = site.open();
    fill(&engine, "h", "load", T + 120, 10, 10, 901);
    engine.load_all();
    let all = over(&all, &filled(T + 120, 10, 10, 901));
    assert_eq!(values(&engine, "h", "load"), all);
    drop(engine);
    let site = site.killed();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), all, "after a kill before anything was saved");
    site.save(&engine);
    assert_eq!(values(&engine, "h", "load"), all);
    fill(&engine, "h", "load", T + 200, 10, 10, 801);
    let all = over(&all, &filled(T + 200, 10, 10, 801));
    drop(engine);
    let site = site.killed();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), all);
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), all);
    assert_eq!(values(&site.start(), "quiet", "load"), filled(T, 10, 20, 1));
}

#[test]
fn a_crash_anywhere_in_putting_a_lost_log_right_changes_no_answer() {
    let (site, log, lost) = with_an_older_log();
    let before = over(&lost, &log);
    let late = filled(T + 120, 10, 10, 901);
    let life = |site: &Site| {
        let clock = Arc::clone(&site.clock);
        let disk = Arc::new(site.disk.clone());
        let Ok(engine) = Engine::open_with(site.options.clone(), disk, clock) else { return };
        for (slot, value) in &late {
            engine.write(line("load", value, *slot).as_bytes(), None);
        }
        engine.load_all();
        engine.checkpoint();
        engine.tick();
        engine.roll("c", "h");
        engine.stop();
    };
    let images = at_every_crash(&site, life, |engine, label| {
        let seen = values(engine, "h", "load");
        for (slot, value) in &before {
            let late = late.get(slot);
            assert!(
                seen.get(slot) == Some(value) || seen.get(slot) == late,
                "{label}: {slot} is {:?}",
                seen.get(slot)
            );
        }
        assert!(
            seen.iter()
                .all(|(slot, value)| { before.get(slot) == Some(value) || late.get(slot) == Some(value) }),
            "{label}: invented"
        );
        assert_eq!(values(engine, "quiet", "load"), filled(T, 10, 20, 1), "{label}");
    });
    assert!(images > 20, "{images}");
    let last = site.on(site.disk.fork());
    life(&last);
    assert_eq!(values(&last.start(), "h", "load"), over(&before, &late));
}

#[test]
fn files_of_a_copy_of_this_store_that_went_another_way_hide_nothing_that_is_in_our_log() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    stop(engine);
    let twin = site.on(site.disk.fork());
    let engine = twin.start();
    // The same segment and greater positions than ours.
    fill(&engine, "h", "load", T + 50, 10, 100, 5001);
    stop(engine);
    let engine = site.start();
    // So few that no block of the twin is from before the end of this log.
    fill(&engine, "h", "load", T + 50, 10, 4, 101);
    drop(engine);
    let site = site.killed();
    for file in twin.files("c/h") {
        if site.disk.contents(&file).is_none() {
            site.disk.put(&file, twin.disk.contents(&file).unwrap()).unwrap();
        }
    }
    let ours = over(&filled(T, 10, 10, 1), &filled(T + 50, 10, 4, 101));
    let all = over(&filled(T + 50, 10, 100, 5001), &ours);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), all);
    drop(engine);
    let site = site.killed();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), all);
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), all);
}

#[test]
fn the_whole_directory_of_another_store_beside_ours_costs_nothing_of_ours() {
    let other = other_store(&["h", "x"]);
    // Killed: its log has something to say too, and its segments have greater numbers.
    let engine = other.start();
    fill(&engine, "x", "load", T + 500, 10, 5, 7001);
    drop(engine);
    let other = other.killed();
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    site.save(&engine);
    fill(&engine, "h", "load", T + 100, 10, 10, 11);
    drop(engine);
    let site = site.killed();
    for way in ["beside", "below", "its log"] {
        let site = site.on(site.disk.fork());
        match way {
            "beside" => copy(&other, "c", &site, "c2"),
            "below" => copy(&other, "", &site, "copy"),
            _ => {
                for segment in other.segments() {
                    if site.disk.contents(&segment).is_none() {
                        site.disk.put(&segment, other.disk.contents(&segment).unwrap()).unwrap();
                    }
                }
            }
        }
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 20, 1), "{way}");
        let problems = engine.status().problems;
        let aside = problems.iter().any(|problem| problem.what.contains("another store set aside"));
        assert_eq!(aside, way == "its log", "{way}");
        drop(engine);
        assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 20, 1), "{way}");
    }
}

#[test]
fn a_header_that_rotted_in_the_only_segment_costs_no_row() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    site.save(&engine);
    fill(&engine, "h", "load", T + 100, 10, 10, 11);
    drop(engine);
    let site = site.killed();
    let segments = site.segments();
    assert_eq!(segments.len(), 1);
    site.disk.patch(&segments[0], |bytes| bytes[..64].fill(0x5A)).unwrap();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 20, 1));
}

/// Moves what lies below a directory of the checkpoint directory.
fn rename(site: &Site, from: &str, to: &str) {
    copy(site, from, site, to);
    take(site, from);
    site.disk.remove_dir(&path(from)).ok();
}

#[test]
fn the_history_of_a_renamed_host_is_taken_under_the_name_of_its_directory_and_written_again() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "old", "load", T, 10, 30, 1);
    fill(&engine, "old", "disk", T, 60, 30, 1);
    let selector = ["c", "old"].map(str::to_owned).to_vec();
    engine.free(T + 50, &[selector]).unwrap();
    stop(engine);
    let load = filled(T + 50, 10, 25, 6);
    let disk = filled(T + 60, 60, 29, 2);
    rename(&site, "c/old", "c/new.example.org");
    let before = site.files("c/new.example.org");
    let engine = site.start();
    assert_eq!(values(&engine, "new.example.org", "load"), load);
    assert_eq!(engine.hosts("c").unwrap(), ["new.example.org"]);
    assert_eq!(engine.status().start.files_set_aside, 0);
    // A kill before anything is written again, and after.
    assert_eq!(values(&site.killed().start(), "new.example.org", "load"), load);
    fill(&engine, "new.example.org", "load", T + 300, 10, 10, 31);
    let load = over(&load, &filled(T + 300, 10, 10, 31));
    site.save(&engine);
    let now = site.files("c/new.example.org");
    assert!(before.iter().all(|file| !now.contains(file)), "{now:?}");
    for file in &now {
        let index = blockfile::index(&WholeFile::read(site.disk.contents(file).unwrap().into()));
        assert!(index.is_of(&path("c/new.example.org"), index.lineage.unwrap()), "{}", file.display());
    }
    assert_eq!(values(&site.killed().start(), "new.example.org", "load"), load);
    stop(engine);
    let engine = site.start();
    assert_eq!(values(&engine, "new.example.org", "load"), load);
    assert_eq!(values(&engine, "new.example.org", "disk"), disk);
}

#[test]
fn a_crash_anywhere_in_taking_a_renamed_host_loses_none_of_it() {
    let site = Site::new();
    for life in 0..3 {
        let engine = site.start();
        fill(&engine, "old", "load", T + life * 100, 10, 10, 1 + life * 10);
        stop(engine);
    }
    rename(&site, "c/old", "c/h");
    let all = filled(T, 10, 10, 1);
    let all = over(&all, &over(&filled(T + 100, 10, 10, 11), &filled(T + 200, 10, 10, 21)));
    let life = |site: &Site| {
        let clock = Arc::clone(&site.clock);
        let disk = Arc::new(site.disk.clone());
        let Ok(engine) = Engine::open_with(site.options.clone(), disk, clock) else { return };
        engine.load_all();
        engine.checkpoint();
        engine.roll("c", "h");
        engine.stop();
    };
    let images = at_every_crash(&site, life, |engine, label| {
        assert_eq!(values(engine, "h", "load"), all, "{label}");
    });
    assert!(images > 10, "{images}");
}

#[test]
fn a_host_that_was_renamed_after_a_kill_is_told_what_stays_under_its_old_name_and_comes_after_a_stop() {
    for format in [FileFormat::Wal, FileFormat::Json] {
        let site = Site::new();
        let engine = site.start();
        fill(&engine, "old", "load", T, 10, 30, 1);
        site.save(&engine);
        fill(&engine, "old", "load", T + 300, 10, 10, 31);
        drop(engine);
        let site = site.killed().with(|options| options.format = format);
        rename(&site, "c/old", "c/new");
        let files = site.files("c/new");
        let engine = site.start();
        let old = values(&engine, "old", "load");
        assert!(
            filled(T + 300, 10, 10, 31).iter().all(|(slot, value)| old.get(slot) == Some(value)),
            "{old:?}"
        );
        assert_eq!(values(&engine, "new", "load"), BTreeMap::new());
        let problems = engine.status().problems;
        assert!(problems.iter().any(|problem| problem.what.contains("clean stop")), "{problems:?}");
        assert!(problems.iter().all(|problem| !problem.what.contains("unreadable")), "{problems:?}");
        // Newer values for slots that the files have, and a backfill that knows only one of their series.
        fill(&engine, "new", "load", T + 100, 10, 30, 1001);
        fill(&engine, "new", "net", T, 10, 30, 1);
        stop(engine);
        assert!(files.iter().all(|file| site.files("c/new").contains(file)), "they stay where they are");
        let all = over(&filled(T, 10, 30, 1), &filled(T + 100, 10, 30, 1001));
        for _ in 0..2 {
            let engine = site.start();
            assert_eq!(values(&engine, "new", "load"), all, "{format:?}");
            assert_eq!(values(&engine, "new", "net"), filled(T, 10, 30, 1), "{format:?}");
            assert_eq!(values(&engine, "old", "load"), old, "{format:?}");
            stop(engine);
        }
    }
}

#[test]
fn a_host_that_was_renamed_and_then_killed_before_it_was_saved_keeps_its_history() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "old", "load", T, 10, 30, 1);
    stop(engine);
    rename(&site, "c/old", "c/new");
    let engine = site.start();
    fill(&engine, "new", "load", T + 200, 10, 20, 1001);
    let all = over(&filled(T, 10, 30, 1), &filled(T + 200, 10, 20, 1001));
    let killed = site.killed();
    drop(engine);
    for site in [&killed, &killed.killed()] {
        let engine = site.start();
        assert_eq!(values(&engine, "new", "load"), all);
        assert_eq!(engine.hosts("c").unwrap(), ["new"]);
    }
    let engine = killed.start();
    assert_eq!(engine.free(T + 100, &[vec!["c".to_owned(), "new".to_owned()]]).unwrap().count, 1);
    stop(engine);
    let left = all.into_iter().filter(|(slot, _)| *slot >= T + 100).collect();
    assert_eq!(values(&killed.start(), "new", "load"), left);
}

#[test]
fn of_two_logs_the_one_with_most_block_files_counts_and_a_tie_refuses_the_start() {
    let other = other_store(&["x"]);
    for saved in [true, false] {
        let site = Site::new();
        let engine = site.start();
        for host in ["a", "b", "h"] {
            fill(&engine, host, "load", T, 10, 30, 1);
        }
        if saved {
            site.save(&engine);
            fill(&engine, "h", "load", T + 300, 10, 10, 31);
        }
        drop(engine);
        let site = site.killed();
        if saved {
            copy(&other, "c/x", &site, "c/x");
        }
        let ours = site.segments();
        let theirs: Vec<_> = other.segments().into_iter().filter(|at| !ours.contains(at)).collect();
        assert!(theirs.last() > ours.last(), "{ours:?}, {theirs:?}");
        for segment in theirs {
            site.disk.put(&segment, other.disk.contents(&segment).unwrap()).unwrap();
        }
        if saved {
            let engine = site.start();
            assert_eq!(values(&engine, "h", "load"), filled(T, 10, 40, 1));
            assert_eq!(values(&engine, "x", "load"), of_other());
        } else {
            let refused = site.refusal();
            assert!(matches!(refused, OpenError::SeveralLogs { .. }), "{refused:?}");
        }
    }
}

#[test]
fn a_block_file_of_another_store_changes_nothing_that_a_dump_says() {
    for (format, portable) in [(FileFormat::Json, false), (FileFormat::Wal, true)] {
        let other = other_store(&["h"]);
        let site = Site::new().with(|options| (options.format, options.portable) = (format, portable));
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 10, 1);
        engine.checkpoint();
        fill(&engine, "h", "load", T + 100, 10, 5, 11);
        drop(engine);
        let site = site.killed();
        copy(&other, "c/h", &site, "c/h");
        let all = over(&of_other(), &filled(T, 10, 15, 1));
        for _ in 0..2 {
            let engine = site.start();
            assert_eq!(values(&engine, "h", "load"), all, "portable: {portable}");
            stop(engine);
        }
    }
}

#[test]
fn a_renamed_cluster_comes_whole_in_every_format() {
    use store_server::engine::FileFormat;
    for (format, portable) in [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)] {
        let site = Site::new();
        let engine = site.start();
        for host in ["a", "b"] {
            fill(&engine, host, "load", T, 10, 30, 1);
        }
        stop(engine);
        for file in site.files("c") {
            let name = file.strip_prefix(path("c")).unwrap();
            site.disk.put(path("moved").join(name), site.disk.contents(&file).unwrap()).unwrap();
        }
        take(&site, "c");
        rename(&site, "moved", "c2");
        let site = site.with(|options| (options.format, options.portable) = (format, portable));
        for _ in 0..2 {
            let engine = site.start();
            assert_eq!(engine.hosts("c2").unwrap(), ["a", "b"]);
            let asked = ReadRequest { cluster: "c2", ..request("b", "load", &[], T, NOW) };
            let seen = engine.read(&asked).unwrap().unwrap();
            let expected: Vec<f64> = filled(T, 10, 30, 1).into_values().collect();
            assert_eq!(seen.values, expected, "{format:?}, portable: {portable}");
            assert_eq!(engine.status().start.files_set_aside, 0);
            stop(engine);
        }
    }
}

/// Makes another release of the header of a block file or segment.
fn of_other_release(disk: &SimDisk, file: &Path) {
    disk.patch(file, |bytes| {
        let next = u16::from(bytes[4]) + 1;
        set_version(bytes, next);
    })
    .unwrap();
}

/// That a start refuses in one line that names the file, and changes nothing.
fn assert_refused(site: &Site, file: &Path) {
    let error = site.refusal();
    assert!(matches!(&error, OpenError::Version { path, .. } if path == file), "{error:?}");
    let line = error.to_string();
    assert!(line.contains(file.to_str().unwrap()) && line.contains("version"), "{line}");
}

#[test]
fn files_of_this_store_that_another_release_wrote_refuse_the_start_and_nothing_is_changed() {
    let site = Site::new();
    for life in 0..3 {
        let engine = site.start();
        fill(&engine, "g", "load", T + life * 100, 10, 10, 1);
        fill(&engine, "h", "load", T + life * 100, 10, 10, 1);
        stop(engine);
    }
    for file in site.files("c") {
        let site = site.on(site.disk.fork());
        of_other_release(&site.disk, &file);
        assert_refused(&site, &file);
    }
    let engine = site.start();
    fill(&engine, "h", "load", T + 300, 10, 10, 1);
    drop(engine);
    let site = site.killed();
    for segment in site.segments() {
        let site = site.on(site.disk.fork());
        of_other_release(&site.disk, &segment);
        assert_refused(&site, &segment);
    }
    // All of them, as after a downgrade.
    for file in site.files("c").iter().chain(&site.segments()) {
        of_other_release(&site.disk, file);
    }
    assert_refused(&site, &site.segments()[0]);
}

#[test]
fn files_of_another_store_that_another_release_wrote_are_left_and_counted() {
    let other = other_store(&["h"]);
    for file in other.files("c").iter().chain(&other.segments()) {
        of_other_release(&other.disk, file);
    }
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 10, 1);
    drop(engine);
    let site = site.killed();
    copy(&other, "c/h", &site, "c/h");
    copy(&other, ".wal", &site, ".wal/sub");
    for segment in other.segments() {
        let name = "00000000000000000077.wal";
        site.disk.put(path(".wal").join(name), other.disk.contents(segment).unwrap()).unwrap();
    }
    let foreign: Vec<_> = site
        .disk
        .files()
        .into_iter()
        .filter(|(at, _)| {
            other.disk.contents(at).is_some() && at.starts_with(path("c"))
                || at.ends_with("00000000000000000077.wal")
        })
        .collect();
    assert!(foreign.len() >= 2);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 10, 1));
    assert!(engine.status().start.foreign_files as usize >= foreign.len());
    site.save(&engine);
    engine.roll("c", "h");
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 10, 1));
    for (at, bytes) in foreign {
        assert_eq!(site.disk.contents(&at), Some(bytes), "{}", at.display());
    }
}

#[test]
fn a_log_segment_that_cannot_be_read_for_its_name_or_its_number_is_reported() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 100, 1);
    drop(engine);
    let site = site.killed();
    let segment = site.disk.contents(&site.segments()[0]).unwrap();
    let wrong =
        [".wal/2.wal", ".wal/00000000000000000007.wal", ".wal/00000000009999999999.wal", ".wal/notes"];
    for name in wrong {
        site.disk.put(path(name), segment.clone()).unwrap();
    }
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 100, 1));
    for name in wrong {
        let at = path(name).display().to_string();
        let problems = engine.status().problems;
        assert!(problems.iter().any(|problem| problem.path == at), "{name}: {problems:?}");
    }
}
