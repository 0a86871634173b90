//! What was freed stays freed, or nobody was told so.

use store_disk::sim::{Call, Effect, Fault, Op};
use store_server::engine::{Durability, Engine, FileFormat, FreeError, WalSync};

use crate::site::{NOW, Site, fill, filled, line, stop, values};

const ENOSPC: i32 = 28;

fn selector() -> Vec<Vec<String>> {
    vec![["c", "h"].map(str::to_owned).to_vec()]
}

/// The log cannot be written any more, until the faults are cleared.
fn fill_disk(site: &Site, engine: &Engine) {
    let writes =
        |call: &Call| call.path.starts_with("/var/store/.wal") && matches!(call.op, Op::Append | Op::Create);
    site.disk.fail(Fault::new(Effect::Error(ENOSPC), writes).for_ever());
    engine.write(line("disk", 1, NOW - 60).as_bytes(), None);
}

#[test]
fn a_free_that_is_not_in_the_log_is_not_acknowledged_at_the_second_try() {
    // Whether a lower floor was logged already makes no difference.
    for earlier in [false, true] {
        let site = Site::new().with(|options| options.wal_sync = WalSync::Always);
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 1000, 10, 50, 1);
        if earlier {
            assert_eq!(engine.free(NOW - 900, &selector()).unwrap().durability, Durability::Kept);
        }
        fill_disk(&site, &engine);
        for attempt in 1..=3 {
            let refused = engine.free(NOW - 700, &selector());
            assert_eq!(refused, Err(FreeError::Unlogged), "attempt {attempt}, earlier: {earlier}");
        }
        site.disk.clear_faults();
        engine.tick();
        let freed = engine.free(NOW - 700, &selector()).unwrap();
        assert_eq!((freed.count, freed.durability), (0, Durability::Kept), "healed: it is logged again");
        let killed = site.killed().start();
        assert_eq!(values(&killed, "h", "load"), filled(NOW - 700, 10, 20, 31));
    }
}

#[test]
fn a_free_on_a_degraded_log_says_that_it_is_only_in_memory() {
    for mode in [WalSync::Interval, WalSync::Write, WalSync::None] {
        let site = Site::new().with(|options| options.wal_sync = mode);
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 1000, 10, 50, 1);
        fill_disk(&site, &engine);
        // Mode none learns it from the flush.
        engine.sync_log().unwrap_err();
        for count in [1, 0] {
            let freed = engine.free(NOW - 700, &selector()).unwrap();
            assert_eq!((freed.count, freed.durability), (count, Durability::Memory), "{mode:?}");
        }
    }
}

#[test]
fn a_free_that_an_earlier_process_logged_is_acknowledged() {
    let site = Site::new().with(|options| options.wal_sync = WalSync::Always);
    let engine = site.start();
    fill(&engine, "h", "load", NOW - 1000, 10, 50, 1);
    engine.free(NOW - 700, &selector()).unwrap();
    let killed = site.killed().start();
    let freed = killed.free(NOW - 700, &selector()).unwrap();
    assert_eq!((freed.count, freed.durability), (0, Durability::Kept));
}

#[test]
fn a_kill_forgets_no_floor_in_json_and_portable_mode() {
    for (format, portable) in [(FileFormat::Json, false), (FileFormat::Wal, true)] {
        let site = Site::new().with(|options| {
            (options.format, options.portable) = (format, portable);
            options.log_segment_bytes = 700;
        });
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 3000, 10, 100, 1);
        engine.free(NOW - 2500, &selector()).unwrap();
        for _ in 0..3 {
            site.save(&engine);
            fill(&engine, "i", "load", NOW - 900, 10, 60, 1);
            engine.tick();
        }
        site.save(&engine);
        assert!(site.segments().len() < 3, "the log goes on: {:?}", site.segments());
        let killed = site.killed();
        for start in 1..=2 {
            let engine = killed.start();
            let late = engine.write(line("load", 9, NOW - 2800).as_bytes(), None);
            assert_eq!((late.good, late.refused), (0, 1), "start {start}: {format:?}, portable: {portable}");
            assert_eq!(values(&engine, "h", "load"), filled(NOW - 2500, 10, 50, 51));
            site.save(&engine);
            // Killed once more.
        }
        stop(killed.start());
    }
}
