//! However long a host sends, and at whatever frequency: its files are few, and what is in them is what was sent.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use store_checkpoint::blockfile;
use store_disk::{ManualClock, RealDisk, WholeFile};
use store_server::engine::Engine;

use crate::site::{NOW, Site, fill, filled, stop, values};

/// Files and maps of a host: three long ones, one of which the oldest rows are older than the retention, one that
/// takes more in, and one that is appended to.
const FILES_MAX: usize = 5;

#[test]
fn a_host_never_has_more_than_five_files() {
    // As many rows as there are in 48 hours at 10 s, at 60 s, and at ten minutes.
    for (metric, step, rows) in [("power", 1, 17_280), ("load", 10, 2880), ("disk", 60, 288)] {
        let site = Site::new().with(|options| {
            options.retention_s = rows * step;
            options.checkpoint_interval_s = rows * step / 4;
        });
        let engine = site.start();
        // At least a pass for every head, and one for every part of the retention after which something is due.
        let batch = (rows / 32).min(40);
        let mut most = 0;
        for at in (0..rows * 5 / 2).step_by(usize::try_from(batch).unwrap()) {
            fill(&engine, "h", metric, NOW + at * step, step, batch, at);
            site.clock.set(NOW + (at + batch) * step);
            engine.tick();
            engine.sweep();
            if at % (batch * 8) == 0 {
                engine.clean_up();
            }
            most = most.max(site.host_files().len());
        }
        let status = engine.status().saves;
        assert!((3..=FILES_MAX).contains(&most), "{metric}: {most} files");
        assert!(status.rolls >= 5 && status.rolls_failed == 0, "{metric}: {status:?}");
        let seen = values(&engine, "h", metric);
        assert!(seen.len() as i64 >= rows, "{metric}: {} of {rows}", seen.len());
        assert!(seen.iter().all(|(time, value)| *value == ((time - NOW) / step) as f64), "{metric}");
        stop(engine);
        let engine = site.start();
        assert_eq!(values(&engine, "h", metric), seen, "{metric}");
    }
}

#[test]
fn starts_do_not_add_up_to_files() {
    let site = Site::new().with(|options| options.retention_s = 20_000);
    for start in 0..60 {
        let engine = site.start();
        fill(&engine, "h", "power", NOW + start * 100, 1, 100, start * 100);
        site.clock.set(NOW + start * 100 + 100);
        engine.tick();
        engine.sweep();
        stop(engine);
        let files = site.host_files().len();
        // Those of the starts since the last roll, and what it made.
        assert!(files <= 5, "{files} files after {start} starts");
    }
    let engine = site.start();
    assert_eq!(values(&engine, "h", "power").len(), 6000);
}

#[test]
fn saved_blocks_are_memory_only_where_files_cannot_be_mapped() {
    for maps_max in [0, 10] {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::new().with(|options| options.directory = directory.path().join("store"));
        let disk = Arc::new(RealDisk::new(maps_max));
        let start = || {
            let engine = Engine::open_with(site.options.clone(), disk.clone(), site.clock.clone()).unwrap();
            engine.load_all();
            engine
        };
        let assert_kept = |engine: &Engine| {
            let memory = engine.memory();
            let (kept, other) = match maps_max {
                0 => (memory.saved_block_bytes, memory.mapped_block_bytes),
                _ => (memory.mapped_block_bytes, memory.saved_block_bytes),
            };
            assert!(kept > 0 && other == 0 && memory.unsaved_block_bytes == 0, "{maps_max}: {memory:?}");
            assert_eq!(disk.maps(), usize::from(maps_max > 0));
            assert_eq!(values(engine, "h", "load"), filled(NOW - 2000, 10, 200, 1));
        };
        let engine = start();
        fill(&engine, "h", "load", NOW - 2000, 10, 200, 1);
        site.save(&engine);
        site.save(&engine);
        assert_kept(&engine);
        engine.roll("c", "h");
        assert_kept(&engine);
        stop(engine);
        assert_eq!(disk.maps(), 0);
        let engine = start();
        assert_kept(&engine);
        engine.roll("c", "h");
    }
}

/// Writes a file with three blocks, lets the second one rot, does something, and looks at what is left.
fn rots_in_a_mapped_file(then: impl FnOnce(&Engine)) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new().with(|options| options.directory = dir.path().to_owned());
    let start = || {
        let clock = Arc::<ManualClock>::clone(&site.clock);
        let engine = Engine::open_with(site.options.clone(), Arc::new(RealDisk::default()), clock).unwrap();
        engine.load_all();
        engine
    };
    let engine = start();
    site.clock.set(NOW + 3000);
    fill(&engine, "h", "load", NOW, 10, 300, 1);
    site.save(&engine);
    // Seen through the map, as when the system reads a page again.
    let file = std::fs::read_dir(dir.path().join("c/h")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&file).unwrap();
    let second = blockfile::index(&WholeFile::read(bytes.clone().into())).blocks[1];
    let at = usize::try_from(second.body_at).unwrap() + second.header.body_bytes as usize - 5;
    let written = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    written.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();

    then(&engine);
    engine.roll("c", "h");
    site.save(&engine);
    engine.sweep();
    let sent = filled(NOW, 10, 300, 1);
    let assert_sent = |engine: &Engine| {
        let seen = values(engine, "h", "load");
        let wrong: Vec<_> = seen.iter().filter(|(slot, value)| sent.get(slot) != Some(value)).collect();
        assert!(seen.len() >= 200 && wrong.is_empty(), "{} values, never sent: {wrong:?}", seen.len());
    };
    assert_sent(&engine);
    stop(engine);
    assert_sent(&start());
}

#[test]
fn what_rots_in_a_mapped_file_is_not_saved_again() {
    rots_in_a_mapped_file(|_| {});
}

#[test]
fn a_late_sample_takes_nothing_over_that_rots_in_a_mapped_file() {
    rots_in_a_mapped_file(|engine| {
        // What stands in the block around it must not be written anew.
        fill(engine, "h", "load", NOW + 1000, 10, 1, 101);
    });
}

#[test]
fn late_samples_do_not_add_up_to_files() {
    let site = Site::new().with(|options| options.retention_s = 20_000);
    let engine = site.start();
    let mut most = 0;
    for at in (0..30_000).step_by(100) {
        site.clock.set(NOW + at + 100);
        fill(&engine, "h", "power", NOW + at, 1, 100, at);
        // One that is nearly as old as the retention, now and then, in a block that was saved long ago.
        if at > 15_000 && at % 800 == 0 {
            fill(&engine, "h", "power", NOW + at - 15_000, 1, 1, at);
        }
        engine.tick();
        engine.sweep();
        if at % 800 == 0 {
            engine.clean_up();
        }
        most = most.max(site.host_files().len());
    }
    let status = engine.status().saves;
    // One more: what is rolled with a late sample holds its old block too, and so outlives the others of its age.
    assert!(
        most <= FILES_MAX + 1 && status.rolls >= 10 && status.rolls_failed == 0,
        "{most} files, {status:?}"
    );
    let seen = values(&engine, "h", "power");
    stop(engine);
    assert_eq!(values(&site.start(), "h", "power"), seen);
}
