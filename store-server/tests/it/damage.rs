//! Whatever happens to a block file, while it lies there or while it is in use: every answer is what it was, or lacks exactly
//! the cells of a damaged column; no older value shows in their place; and it is said.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_checkpoint::blockfile::{self, Index};
use store_disk::{ManualClock, PageAccess, RealDisk, WholeFile};
use store_server::engine::Engine;

use crate::site::{self, Site, fill, filled, stop, values};

/// The time of the first sample.
const NOW: i64 = site::NOW - 10_000;

/// The series of the host, and seconds per slot.
const SERIES: [(&str, i64); 3] = [("load", 10), ("net", 10), ("disk", 60)];

/// Values by series and slot.
type Answers = BTreeMap<&'static str, BTreeMap<i64, f64>>;

fn answers(engine: &Engine) -> Answers {
    SERIES.iter().map(|(metric, _)| (*metric, values(engine, "h", metric))).collect()
}

/// Two saves of all series, the second one with late samples for the first.
fn two_saves(site: &Site, engine: &Engine) {
    for (metric, step) in SERIES {
        fill(engine, "h", metric, NOW, step, 20, 1);
    }
    site.save(engine);
    for (metric, step) in SERIES {
        fill(engine, "h", metric, NOW + 20 * step, step, 12, 1000);
        fill(engine, "h", metric, NOW + 3 * step, step, 4, 5000);
    }
    site.save(engine);
}

/// A site with one host, whose log says nothing of it any more.
fn saved() -> Site {
    let site = Site::new();
    let engine = site.start();
    two_saves(&site, &engine);
    stop(engine);
    assert_eq!(site.host_files().len(), 1);
    site
}

fn index(bytes: &[u8]) -> Index {
    blockfile::index(&WholeFile::read(bytes.to_vec().into()))
}

/// The slots of each block of a file.
fn ranges(index: &Index) -> Vec<(i64, i64)> {
    index.blocks.iter().map(|found| (found.header.base, found.header.end())).collect()
}

/// The series that lack something. What is there is what was sent last, and what is missing is a block of one column.
fn lacking(whole: &Answers, seen: &Answers, ranges: &[(i64, i64)]) -> Vec<&'static str> {
    let mut lacking = Vec::new();
    for (metric, whole) in whole {
        let seen = &seen[metric];
        for (slot, value) in seen {
            assert_eq!(whole.get(slot), Some(value), "{metric} at {slot} is invented, or older");
        }
        let missing: Vec<i64> = whole.keys().filter(|slot| !seen.contains_key(slot)).copied().collect();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let is_one = |&(from, to): &(i64, i64)| {
                let all = whole.range(from..to).count();
                (from..to).contains(first) && (from..to).contains(last) && all >= missing.len()
            };
            assert!(ranges.iter().any(is_one), "{metric} lacks {missing:?}");
            lacking.push(*metric);
        }
    }
    lacking
}

#[test]
fn a_flipped_bit_anywhere_costs_a_start_one_column_of_a_block_and_is_told() {
    let site = saved();
    let file = site.host_files().remove(0);
    let bytes = site.disk.contents(&file).unwrap();
    let (whole, ranges) = (answers(&site.start()), ranges(&index(&bytes)));
    let mut costly = 0;
    for byte in 0..bytes.len() {
        let flipped = site.on(site.disk.fork());
        flipped.disk.flip(&file, byte * 8 + byte % 8).unwrap();
        let engine = flipped.start();
        let lacking = lacking(&whole, &answers(&engine), &ranges);
        assert!(lacking.len() <= 1, "byte {byte} costs {lacking:?}");
        engine.sweep();
        let damage = engine.status().damage;
        assert!(lacking.is_empty() || damage.columns == 1, "byte {byte}: {damage:?}");
        costly += lacking.len();
    }
    assert!(costly > 100, "{costly} of {} bytes", bytes.len());
}

#[test]
fn a_cut_anywhere_costs_a_start_what_is_behind_it_and_is_told() {
    let site = saved();
    let file = site.host_files().remove(0);
    let bytes = site.disk.contents(&file).unwrap();
    let whole = answers(&site.start());
    for cut in (0..bytes.len()).step_by(3) {
        let torn = site.on(site.disk.fork());
        torn.disk.cut(&file, cut).unwrap();
        let engine = torn.start();
        let index = index(&bytes[..cut]);
        let complete = index.blocks.iter().filter(|found| !found.is_cut).count();
        for (metric, seen) in answers(&engine) {
            for (slot, value) in &seen {
                // What stood in the first save may show where nothing is left that is newer: the second one begins with
                // two blocks of one buffer, then the other's patched block.
                let sent = whole[metric].get(slot) == Some(value) || complete < 5;
                assert!(sent, "cut at {cut}: {metric} at {slot} is {value}");
            }
        }
        let damaged = index.damage.iter().any(|range| range.bytes > 0);
        engine.sweep();
        let damage = engine.status().damage;
        assert!(!damaged || cut < 100 || damage.stretches > 0, "cut at {cut}: {damage:?}");
    }
}

/// A site on the machine's disk, with two hosts that are saved.
struct OnDisk {
    site: Site,
    access: PageAccess,
    _dir: tempfile::TempDir,
    file: PathBuf,
}

impl OnDisk {
    fn new(access: PageAccess) -> (Self, Engine) {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::new().with(|options| options.directory = dir.path().to_owned());
        let mut on_disk = Self { site, access, file: PathBuf::new(), _dir: dir };
        let engine = on_disk.start();
        two_saves(&on_disk.site, &engine);
        fill(&engine, "g", "load", NOW, 10, 30, 1);
        on_disk.site.save(&engine);
        stop(engine);
        let engine = on_disk.start();
        let host = on_disk.site.options.directory.join("c/h");
        on_disk.file = std::fs::read_dir(host).unwrap().next().unwrap().unwrap().path();
        assert!(engine.memory().mapped_block_bytes > 0);
        (on_disk, engine)
    }

    fn start(&self) -> Engine {
        let disk = Arc::new(RealDisk::with_access(100, self.access));
        let clock = Arc::<ManualClock>::clone(&self.site.clock);
        let engine = Engine::open_with(self.site.options.clone(), disk, clock).unwrap();
        engine.load_all();
        engine
    }
}

fn write_at(file: &Path, bytes: &[u8], at: usize) {
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

/// Both ways to the bytes of a map.
const WAYS: [PageAccess; 2] = [PageAccess::Populate, PageAccess::Read];

#[test]
fn a_byte_that_changes_after_its_first_use_is_never_served() {
    for access in WAYS {
        let (on_disk, engine) = OnDisk::new(access);
        let whole = answers(&engine);
        let bytes = std::fs::read(&on_disk.file).unwrap();
        let index = index(&bytes);
        let ranges = ranges(&index);
        let mut costly = 0;
        for found in &index.blocks {
            let body = usize::try_from(found.body_at).unwrap();
            for (at, byte) in bytes.iter().enumerate().skip(body).take(found.header.body_bytes as usize) {
                write_at(&on_disk.file, &[byte ^ 0x20], at);
                let lacking = lacking(&whole, &answers(&engine), &ranges);
                assert!(lacking.len() <= 1, "{access:?}, byte {at}: {lacking:?}");
                costly += lacking.len();
                write_at(&on_disk.file, &[*byte], at);
            }
        }
        assert!(costly > 50, "{costly}");
        assert!(engine.status().damage.columns > 0);
        assert_eq!(answers(&engine), whole, "what is good again is served again");
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_in_use_costs_its_columns_and_not_the_process() {
    for access in WAYS {
        for part in [0, 3, 7] {
            let (on_disk, engine) = OnDisk::new(access);
            let whole = answers(&engine);
            let len = std::fs::metadata(&on_disk.file).unwrap().len();
            std::fs::OpenOptions::new()
                .write(true)
                .open(&on_disk.file)
                .unwrap()
                .set_len(len * part / 8)
                .unwrap();
            for (metric, seen) in answers(&engine) {
                let sent = |(slot, value): (&i64, &f64)| whole[metric].get(slot) == Some(value);
                assert!(seen.iter().all(sent), "{access:?}: {metric}");
            }
            assert_eq!(values(&engine, "g", "load"), filled(NOW, 10, 30, 1), "the other host");
            let status = engine.status();
            assert!(status.damage.columns > 0, "{:?}", status.damage);
            assert!(status.problems.iter().any(|problem| problem.what.starts_with("damaged column")));
            engine.sweep();
            engine.roll("c", "h");
            on_disk.site.save(&engine);
            fill(&engine, "h", "load", NOW + 1000, 10, 3, 1);
            stop(engine);
            let engine = on_disk.start();
            assert_eq!(values(&engine, "h", "load").range(NOW + 1000..).count(), 3);
            assert_eq!(values(&engine, "g", "load"), filled(NOW, 10, 30, 1));
        }
    }
}

#[test]
fn what_a_damaged_column_lacks_comes_from_the_log_and_the_others_from_the_block() {
    let site = Site::new();
    let engine = site.start();
    two_saves(&site, &engine);
    let whole = answers(&engine);
    drop(engine);
    let site = site.killed();
    let file = site.host_files().remove(0);
    let bytes = site.disk.contents(&file).unwrap();
    for found in index(&bytes).blocks {
        for column in 0..found.header.columns {
            let damaged = site.on(site.disk.fork());
            // The checksum in the column's entry.
            let at = usize::try_from(found.body_at).unwrap() + column as usize * 8 + 4;
            damaged.disk.flip(&file, at * 8).unwrap();
            let engine = damaged.start();
            assert_eq!(answers(&engine), whole, "column {column} of the block at {}", found.offset);
            stop(engine);
            assert_eq!(answers(&damaged.start()), whole, "after a stop");
        }
    }
}

#[test]
fn floors_survive_any_one_bad_byte() {
    let site = Site::new();
    let engine = site.start();
    fill(&engine, "h", "load", NOW, 10, 30, 1);
    site.save(&engine);
    assert!(engine.free(NOW + 100, &[vec!["c".into(), "h".into()]]).unwrap().count > 0);
    stop(engine);
    let engine = site.start();
    fill(&engine, "h", "load", NOW + 300, 10, 30, 31);
    stop(engine);
    let expected: BTreeMap<i64, f64> = filled(NOW, 10, 60, 1).split_off(&(NOW + 100));
    assert_eq!(values(&site.start(), "h", "load"), expected);
    for file in site.host_files() {
        for byte in 0..site.disk.contents(&file).unwrap().len() {
            let flipped = site.on(site.disk.fork());
            flipped.disk.flip(&file, byte * 8 + 3).unwrap();
            let seen = values(&flipped.start(), "h", "load");
            assert!(seen.keys().all(|slot| *slot >= NOW + 100), "byte {byte}: freed samples are back");
        }
    }
}
