//! What a start finds: one test per row of the table, each on a simulated disk.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use store_checkpoint::blockfile;
use store_checkpoint::format::{bin1, json};
use store_checkpoint::run::{Dump, Run};
use store_disk::WholeFile;
use store_disk::sim::{Effect, Fault, Op};
use store_server::engine::{Durability, Engine};
use store_wal::v1;

use crate::site::{NOW, Site, fill, filled, line, path, set_version, stop, values};

/// Before which the tests write.
const T: i64 = NOW - 10_000;

/// Whether the engine lists a problem that says `what`.
fn lists(engine: &Engine, what: &str) -> bool {
    engine.status().problems.iter().any(|problem| problem.what.contains(what))
}

fn run(metric: &str, base: i64, frequency_s: u32, values: &[f32]) -> Run {
    Run { path: Vec::new(), metric: metric.into(), base, frequency_s, values: values.to_vec() }
}

fn dump(from: i64, to: i64, runs: Vec<Run>) -> Dump {
    Dump { from, to, runs }
}

#[test]
fn on_nothing_the_first_segment_is_opened() {
    let site = Site::new();
    let engine = site.start();
    assert_eq!(site.segments(), [path(".wal/00000000000000000001.wal")]);
    assert_eq!(engine.hosts("c").unwrap(), Vec::<String>::new());
    fill(&engine, "h", "load", T, 10, 3, 1);
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 3, 1));
    assert_eq!(engine.status().problems, []);
}

#[test]
fn whole_segments_are_replayed() {
    let site = Site::new();
    fill(&site.start(), "h", "load", T, 10, 50, 1);
    let site = site.killed();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 50, 1));
    let start = engine.status().start;
    assert!(
        start.frames_replayed >= 50 && start.bytes_damaged == 0 && start.torn_tail_bytes == 0,
        "{start:?}"
    );
    assert_eq!(site.segments().len(), 2, "never behind what an earlier process wrote");
}

#[test]
fn a_torn_tail_of_the_log_costs_the_record_that_was_torn() {
    for garbage in [None, Some(vec![0_u8; 100]), Some((0..=255).collect())] {
        let site = Site::new();
        fill(&site.start(), "h", "load", T, 10, 50, 1);
        let site = site.killed();
        let segment = &site.segments()[0];
        let len = site.disk.contents(segment).unwrap().len();
        let left = match &garbage {
            None => {
                site.disk.cut(segment, len - 3).unwrap();
                49
            }
            Some(garbage) => {
                site.disk.patch(segment, |bytes| bytes.extend(garbage)).unwrap();
                50
            }
        };
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, left, 1));
        let start = engine.status().start;
        assert!(start.torn_tail_bytes + start.bytes_damaged > 0, "{start:?}");
        // What comes now is not behind the tear.
        fill(&engine, "h", "load", T + 1000, 10, 5, 1);
        drop(engine);
        let mut all = filled(T, 10, left, 1);
        all.extend(filled(T + 1000, 10, 5, 1));
        assert_eq!(values(&site.killed().start(), "h", "load"), all);
    }
}

#[test]
fn garbage_in_the_middle_of_the_log_costs_the_records_it_hit() {
    let site = Site::new();
    fill(&site.start(), "h", "load", T, 10, 100, 1);
    let site = site.killed();
    let segment = &site.segments()[0];
    let middle = site.disk.contents(segment).unwrap().len() / 2;
    site.disk.patch(segment, |bytes| bytes[middle..middle + 8].fill(0xA5)).unwrap();
    let engine = site.start();
    let seen = values(&engine, "h", "load");
    let all = filled(T, 10, 100, 1);
    assert!(seen.iter().all(|(slot, value)| all[slot] == *value), "invented: {seen:?}");
    assert!((97..100).contains(&seen.len()), "{} of 100 are left", seen.len());
    assert!(engine.status().start.bytes_damaged > 0);
    assert!(lists(&engine, "log segment"));
}

#[test]
fn a_segment_without_a_whole_header_is_passed_over_and_its_number_is_not_used_again() {
    for len in [0, 10, 63] {
        let site = Site::new();
        fill(&site.start(), "h", "load", T, 10, 20, 1);
        let site = site.killed();
        drop(site.open());
        site.disk.cut(&site.segments()[1], len).unwrap();
        let site = site.killed();
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 20, 1));
        assert_eq!(engine.status().log.segment, 3);
        fill(&engine, "h", "load", T + 200, 10, 20, 21);
        drop(engine);
        assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 40, 1));
    }
}

#[test]
fn segments_before_the_start_of_the_log_are_not_replayed_and_go() {
    let site = Site::new().with(|options| options.log_segment_bytes = 600);
    let engine = site.start();
    for batch in 0..6 {
        fill(&engine, "h", "load", T + batch * 100, 10, 10, 1 + batch * 10);
        engine.tick();
    }
    let old: Vec<_> =
        site.segments().into_iter().map(|at| (at.clone(), site.disk.contents(at).unwrap())).collect();
    assert!(old.len() > 3, "the log has only {} segments", old.len());
    site.save(&engine);
    fill(&engine, "h", "load", T + 600, 10, 10, 61);
    drop(engine);
    let site = site.killed();
    assert!(!site.segments().contains(&old[0].0), "nothing was retired");
    // Every other unlink did not reach the disk.
    for (path, bytes) in old.iter().take(3).step_by(2) {
        site.disk.put(path, bytes.clone()).unwrap();
    }
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 70, 1));
    let replayed = engine.status().start.frames_replayed;
    assert!(replayed < 40, "{replayed} frames replayed");
    stop(engine);
    assert!(old.iter().take(3).all(|(path, _)| !site.segments().contains(path)), "{:?}", site.segments());
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 70, 1));
}

#[test]
fn without_a_log_positions_go_on_behind_the_block_files() {
    let site = Site::new();
    for batch in 0..5 {
        let engine = site.start();
        fill(&engine, "h", "load", T + batch * 100, 10, 10, 1 + batch * 10);
        stop(engine);
    }
    for segment in site.segments() {
        site.disk.take(segment).unwrap();
    }
    let engine = site.start();
    assert!(engine.status().log.segment > 5, "segment {}", engine.status().log.segment);
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 50, 1));
    // Newer than what the files hold, and so it must rank above it.
    fill(&engine, "h", "load", T, 10, 50, 1001);
    drop(engine);
    let site = site.killed();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 50, 1001));
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 50, 1001));
}

#[test]
fn segments_of_another_lineage_are_set_aside() {
    let other = Site::new();
    for _ in 0..3 {
        let engine = other.start();
        fill(&engine, "h", "load", T, 10, 30, 5001);
        fill(&engine, "stranger", "load", T, 10, 30, 5001);
    }
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    stop(engine);
    let foreign = other.segments().split_off(2);
    assert!(site.segments().iter().all(|ours| !foreign.contains(ours)) && !foreign.is_empty());
    let foreign: Vec<Vec<u8>> = foreign
        .iter()
        .map(|at| {
            let bytes = other.disk.contents(at).unwrap();
            site.disk.put(at, bytes.clone()).unwrap();
            bytes
        })
        .collect();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
    assert_eq!(engine.hosts("c").unwrap(), ["h"]);
    assert!(lists(&engine, "another store"), "{:?}", engine.status().problems);
    fill(&engine, "h", "load", T, 10, 30, 101);
    drop(engine);
    let site = site.killed();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 101));
    stop(engine);
    let left = site.disk.files();
    assert!(foreign.iter().all(|bytes| left.values().any(|left| left == bytes)), "foreign bytes are gone");
}

#[test]
fn a_log_with_whole_frames_is_the_one_of_the_directory_whatever_lies_beside_it() {
    let other = Site::new();
    let engine = other.start();
    fill(&engine, "h", "load", T, 10, 30, 5001);
    fill(&engine, "only", "load", T, 10, 30, 5001);
    drop(engine);
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T + 200, 10, 30, 1);
    stop(engine);
    for segment in site.segments() {
        site.disk.take(segment).unwrap();
    }
    for segment in other.segments() {
        site.disk.put(&segment, other.disk.contents(&segment).unwrap()).unwrap();
    }
    // What only the log holds cannot be had anywhere else; what the files hold stays, below it.
    let mut all = filled(T + 200, 10, 30, 1);
    all.extend(filled(T, 10, 30, 5001));
    for _ in 0..2 {
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), all);
        assert_eq!(values(&engine, "only", "load"), filled(T, 10, 30, 5001));
        stop(engine);
    }
}

#[test]
fn a_torn_last_frame_of_a_block_file_is_made_good_by_the_log() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    site.save(&engine);
    fill(&engine, "h", "load", T + 300, 10, 30, 31);
    site.save(&engine);
    drop(engine);
    let site = site.killed();
    let files = site.host_files();
    assert_eq!(files.len(), 1);
    let len = site.disk.contents(&files[0]).unwrap().len();
    for cut in [1, 40, len / 2 - 70] {
        let torn = site.on(site.disk.fork());
        torn.disk.cut(&files[0], len - cut).unwrap();
        assert_eq!(values(&torn.start(), "h", "load"), filled(T, 10, 60, 1), "{cut} bytes cut");
        // The frames before the tear load from the file.
        let torn = site.on(site.disk.fork());
        torn.disk.cut(&files[0], len - cut).unwrap();
        torn.segments().iter().for_each(|segment| torn.disk.take(segment).unwrap());
        let engine = torn.start();
        // And so does a block of which only the second header is cut.
        let kept = if cut < 80 { 60 } else { 30 };
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, kept, 1), "{cut} bytes cut, without the log");
        assert!(lists(&engine, "damaged in part"));
    }
}

/// Flips a bit in the middle of the last block of a block file.
fn flip_in_last_block(site: &Site, file: &Path) {
    let bytes = Bytes::from(site.disk.contents(file).unwrap());
    let index = blockfile::index(&WholeFile::read(bytes));
    let last = index.blocks.last().unwrap();
    let at = last.body_at + u64::from(last.header.body_bytes) - 1;
    site.disk.flip(file, usize::try_from(at).unwrap() * 8).unwrap();
}

#[test]
fn a_rotten_block_whose_rows_are_in_the_log_is_replayed() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    site.save(&engine);
    drop(engine);
    let site = site.killed();
    flip_in_last_block(&site, &site.host_files()[0]);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 30, 1), "it was saved again");
}

#[test]
fn a_rotten_block_whose_rows_are_gone_is_lost_and_reported_and_nothing_else() {
    let site = Site::new();
    for batch in 0..2 {
        let engine = site.start();
        fill(&engine, "h", "load", T + batch * 300, 10, 30, 1 + batch * 30);
        fill(&engine, "g", "load", T + batch * 300, 10, 30, 1 + batch * 30);
        stop(engine);
    }
    let files = site.host_files();
    assert_eq!(files.len(), 2);
    flip_in_last_block(&site, &files[1]);
    let rotten = site.disk.contents(&files[1]).unwrap();
    for start in 0..3 {
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
        assert_eq!(values(&engine, "g", "load"), filled(T, 10, 60, 1));
        engine.sweep();
        let status = engine.status();
        assert_eq!(status.damage.columns, u64::from(start == 0), "told once, also over starts");
        assert_eq!(lists(&engine, "damaged column"), start == 0, "{:?}", status.problems);
        engine.roll("c", "h");
        site.save(&engine);
        engine.sweep();
        engine.roll("c", "h");
        stop(engine);
    }
    assert!(site.disk.files().values().any(|bytes| *bytes == rotten), "what nothing supersedes is gone");
}

#[test]
fn a_block_file_without_a_header_gives_up_its_frames() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    stop(engine);
    let file = &site.host_files()[0];
    site.disk.patch(file, |bytes| bytes[..blockfile::HEADER_BYTES].fill(0)).unwrap();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
    assert!(lists(&engine, "damaged in part"));
}

#[test]
fn a_block_file_that_was_cut_to_nothing_is_told() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 1000, 10, 50, 1);
    stop(engine);
    let file = site.host_files().remove(0);
    site.disk.patch(&file, Vec::clear).unwrap();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(NOW, 10, 0, 1));
    let problems = engine.status().problems;
    let path = file.display().to_string();
    assert!(
        problems.iter().any(|problem| problem.what.contains("empty") && problem.path == path),
        "{problems:?}"
    );
}

#[test]
fn a_block_file_without_header_and_frames_is_set_aside() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    stop(engine);
    let garbage = vec![0x5A_u8; 3000];
    site.disk.put(path("c/h/123.bin"), garbage.clone()).unwrap();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
    assert_eq!(engine.status().start.files_set_aside, 1);
    assert_eq!(site.disk.contents(path("c/h/123.bin.corrupt-1")).unwrap(), garbage);
    stop(engine);
    assert_eq!(site.start().status().start.files_set_aside, 0, "once is enough");
}

#[test]
fn of_two_blocks_over_one_range_the_later_wins_slot_by_slot() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 40, 1);
    site.save(&engine);
    fill(&engine, "h", "load", T + 100, 10, 5, 901);
    site.save(&engine);
    stop(engine);
    let mut expected = filled(T, 10, 40, 1);
    expected.extend(filled(T + 100, 10, 5, 901));
    let bytes = Bytes::from(site.disk.contents(&site.host_files()[0]).unwrap());
    assert_eq!(blockfile::index(&WholeFile::read(bytes)).blocks.len(), 2, "one block patched");
    for segment in site.segments() {
        site.disk.take(segment).unwrap();
    }
    assert_eq!(values(&site.start(), "h", "load"), expected);
}

#[test]
fn a_block_that_was_saved_when_the_power_went_is_saved_again() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    site.save(&engine);
    drop(engine);
    let site = site.killed();
    assert_eq!(site.host_files().len(), 1);
    let engine = site.start();
    stop(engine);
    // To a new file; now the old one may go.
    let files = site.host_files();
    assert_eq!(files.len(), 2);
    site.disk.take(&files[0]).unwrap();
    for segment in site.segments() {
        site.disk.take(segment).unwrap();
    }
    assert_eq!(values(&site.start(), "h", "load"), filled(T, 10, 30, 1));
}

#[test]
fn sources_of_a_rolled_file_go() {
    let site = Site::new();
    for batch in 0..3 {
        let engine = site.start();
        fill(&engine, "h", "load", T + batch * 300, 10, 30, 1 + batch * 30);
        stop(engine);
    }
    let sources: Vec<_> =
        site.host_files().into_iter().map(|at| (at.clone(), site.disk.contents(at).unwrap())).collect();
    assert_eq!(sources.len(), 3);
    let engine = site.start();
    assert_eq!(site.host_files().len(), 3, "only a file marked as rolled supersedes others");
    engine.roll("c", "h");
    assert_eq!(engine.status().saves.rolls, 1, "{:?}", engine.status().saves);
    stop(engine);
    let rolled = site.host_files();
    assert_eq!(rolled.len(), 1);
    // The crash came between the rename and the unlinks.
    for (path, bytes) in sources.iter().filter(|(path, _)| !rolled.contains(path)) {
        site.disk.put(path, bytes.clone()).unwrap();
    }
    assert!(site.host_files().len() > 1);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 90, 1));
    assert_eq!(site.host_files(), rolled);
}

#[test]
fn sources_of_a_rolled_file_that_is_rotten_stay() {
    let site = Site::new();
    for batch in 0..3 {
        let engine = site.start();
        fill(&engine, "h", "load", T + batch * 300, 10, 30, 1 + batch * 30);
        stop(engine);
    }
    let sources: Vec<_> =
        site.host_files().into_iter().map(|at| (at.clone(), site.disk.contents(at).unwrap())).collect();
    let engine = site.start();
    engine.roll("c", "h");
    stop(engine);
    let rolled = site.host_files();
    for (path, bytes) in sources.iter().filter(|(path, _)| !rolled.contains(path)) {
        site.disk.put(path, bytes.clone()).unwrap();
    }
    flip_in_last_block(&site, &rolled[0]);
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 90, 1));
}

#[test]
fn temporary_files_of_ours_are_removed_and_those_of_others_are_left() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    stop(engine);
    let ours = site.disk.contents(&site.host_files()[0]).unwrap()[..100].to_vec();
    site.disk.put(path("c/h/1.bin.tmp"), ours).unwrap();
    site.disk.put(path("c/h/2.json.tmp"), "{\"met").unwrap();
    site.disk.put(path("c/h/3.bin.tmp"), "").unwrap();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
    assert_eq!(engine.status().start.foreign_files, 2);
    stop(engine);
    let left = site.disk.files();
    assert!(!left.contains_key(&path("c/h/1.bin.tmp")));
    assert!(left.contains_key(&path("c/h/2.json.tmp")) && left.contains_key(&path("c/h/3.bin.tmp")));
}

#[test]
fn files_of_other_formats_are_merged_by_slot_below_everything_of_ours() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T + 300, 10, 10, 4001);
    stop(engine);
    let ramp = |first: u16, count: u16| (0..count).map(|at| f32::from(first + at)).collect::<Vec<_>>();
    // By `to`: the binary one ends last and so wins where both have a value.
    let json = dump(T, T + 200, vec![run("load", T, 10, &ramp(1001, 20))]);
    let mut holed = ramp(2001, 30);
    holed[5] = f32::NAN;
    let bin = dump(T + 100, T + 400, vec![run("load", T + 100, 10, &holed)]);
    let logged: Vec<_> = (0..3_i16)
        .map(|at| v1::Record {
            timestamp: T + 390 + i64::from(at) * 10,
            metric: "load",
            selector: vec![],
            value: 3001.0 + f32::from(at),
        })
        .collect();
    site.disk.put(path(&format!("c/h/{T}.json")), json::encode(&json).unwrap()).unwrap();
    site.disk.put(path(&format!("c/h/{}.bin", T + 100)), bin1::encode(&bin).unwrap()).unwrap();
    site.disk.put(path("c/h/current.wal"), v1::encode(&logged)).unwrap();
    let mut expected = filled(T, 10, 20, 1001);
    let mut above = filled(T + 100, 10, 30, 2001);
    above.remove(&(T + 150));
    expected.extend(above);
    expected.extend(filled(T + 390, 10, 3, 3001));
    expected.extend(filled(T + 300, 10, 10, 4001));
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), expected);
    assert_eq!(engine.status().start.imported_values, 20 + 29 + 3);
    // The first checkpoint converts them; until it is synced they stay.
    stop(engine);
    let names: Vec<_> = site.host_files();
    assert!(names.iter().all(|at| at.extension().is_some_and(|kind| kind == "bin")), "{names:?}");
    for file in names {
        assert!(blockfile::is_block_file(&site.disk.contents(file).unwrap()));
    }
    assert_eq!(values(&site.start(), "h", "load"), expected);
}

#[test]
fn strays_are_left_and_counted() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", T, 10, 30, 1);
    stop(engine);
    let strays = [
        "README",
        "current.wal",
        "c/notes.txt",
        "c/current.wal",
        "c/h/notes.txt",
        "c/h/x.bin",
        "c/h/sub/1.bin",
    ];
    for stray in strays {
        site.disk.put(path(stray), "stray").unwrap();
    }
    for link in ["link", "c/link", "c/h/5.bin", "c/h/link"] {
        site.disk.put_other(path(link)).unwrap();
    }
    site.disk.put_dir(path("c/h/1700000005.json")).unwrap();
    site.disk.put_dir(path("empty/none")).unwrap();
    let engine = site.start();
    assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1));
    let status = engine.status();
    assert!(status.start.foreign_files >= 5, "{:?}", status.start);
    assert!(status.problems.len() >= 6, "{:?}", status.problems);
    assert_eq!(status.start.files_set_aside, 0);
    stop(engine);
    for stray in strays {
        assert_eq!(site.disk.contents(path(stray)).unwrap(), b"stray", "{stray}");
    }
}

#[test]
fn samples_newer_than_the_clock_are_loaded_and_do_not_move_the_deletion_time() {
    let site = Site::new().with(|options| options.retention_s = 20_000);
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 10_000, 10, 30, 1);
    stop(engine);
    // Another host's clock ran years ahead.
    let far = NOW + 100_000_000;
    let ahead = dump(far, far + 600, vec![run("load", far, 10, &[1.0, 2.0, 3.0])]);
    site.disk.put(path(&format!("c/ahead/{far}.json")), json::encode(&ahead).unwrap()).unwrap();
    let engine = site.start();
    let request = crate::site::request("ahead", "load", &[], far - 100, far + 100);
    assert_eq!(engine.read(&request).unwrap().unwrap().values, [1.0, 2.0, 3.0]);
    engine.sweep();
    engine.clean_up();
    assert_eq!(values(&engine, "h", "load"), filled(NOW - 10_000, 10, 30, 1));
    stop(engine);
    assert_eq!(values(&site.start(), "h", "load"), filled(NOW - 10_000, 10, 30, 1));
}

#[test]
fn on_a_disk_that_takes_nothing_it_starts_serves_and_heals() {
    const ENOSPC: i32 = 28;
    const EMFILE: i32 = 24;
    let ops: [(i32, &'static [Op]); 2] =
        [(ENOSPC, &[Op::Append, Op::CreateDir]), (EMFILE, &[Op::Create, Op::SyncFile, Op::SyncDir])];
    for (error, ops) in ops {
        let site = Site::new();
        let engine = site.start();
        fill(&engine, "h", "load", T, 10, 30, 1);
        drop(engine);
        let site = site.killed();
        site.disk.fail(Fault::new(Effect::Error(error), move |call| ops.contains(&call.op)).for_ever());
        let engine = site.start();
        assert_eq!(values(&engine, "h", "load"), filled(T, 10, 30, 1), "error {error}");
        assert!(engine.status().log.degraded, "error {error}");
        let report = engine.write(line("load", 31, T + 300).as_bytes(), None);
        assert_eq!((report.good, report.durability), (1, Durability::Memory), "error {error}");
        engine.tick();
        site.disk.clear_faults();
        engine.tick();
        assert!(!engine.status().log.degraded, "error {error}: {:?}", engine.status().log);
        let report = engine.write(line("load", 32, T + 310).as_bytes(), None);
        assert_eq!(report.durability, Durability::Kept, "error {error}");
        drop(engine);
        assert_eq!(values(&site.killed().start(), "h", "load"), filled(T, 10, 32, 1), "error {error}");
    }
}

#[test]
fn every_cut_of_a_small_log_costs_only_what_was_cut() {
    let site = Site::new();
    fill(&site.start(), "h", "load", T, 10, 8, 1);
    let site = site.killed();
    let segment = &site.segments()[0];
    let all = filled(T, 10, 8, 1);
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for len in 0..site.disk.contents(segment).unwrap().len() {
        let cut = site.on(site.disk.fork());
        cut.disk.cut(segment, len).unwrap();
        let left = values(&cut.start(), "h", "load");
        assert!(all.iter().take(left.len()).eq(&left), "cut to {len}: {left:?}");
        seen.insert(len, left.len());
    }
    assert!(seen.values().is_sorted(), "{seen:?}");
    assert_eq!(seen.values().max(), Some(&7));
}

#[test]
fn block_files_of_this_store_in_another_version_refuse_the_start_and_nothing_is_changed() {
    for version in [blockfile::VERSION - 1, blockfile::VERSION + 1] {
        for keeps_log in [true, false] {
            let site = Site::new();
            let engine = site.start();
            fill(&engine, "h", "load", NOW - 1000, 10, 50, 1);
            stop(engine);
            if !keeps_log {
                let segments =
                    site.disk.files().into_keys().filter(|path| path.starts_with("/var/store/.wal"));
                segments.for_each(|path| site.disk.take(path).unwrap());
            }
            let file = site.host_files().remove(0);
            site.disk.patch(&file, |bytes| set_version(bytes, version)).unwrap();
            let refused = site.refusal().to_string();
            assert!(refused.contains(&format!("was written in version {version}")), "{refused}");
            assert!(refused.contains(&file.display().to_string()), "{refused}");
            // The release that wrote it finds everything.
            site.disk.patch(&file, |bytes| set_version(bytes, blockfile::VERSION)).unwrap();
            assert_eq!(values(&site.start(), "h", "load"), filled(NOW - 1000, 10, 50, 1));
        }
    }
}
