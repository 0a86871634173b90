//! The threads behind the engine do their work in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store_disk::sim::Keep;
use store_server::engine::{Durability, WalSync};

use crate::site::{NOW, Site, fill, filled, line, values};

/// Waits until something holds; fails after ten seconds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    begin.elapsed()
}

#[test]
fn mode_none_writes_the_log_every_five_seconds() {
    let site = Site::new().with(|options| options.wal_sync = WalSync::None);
    let engine = Arc::new(site.open());
    engine.run_background();
    wait_until("it loads", || engine.ready());
    let report = engine.write(line("load", 1, NOW - 100).as_bytes(), None);
    assert_eq!((report.good, report.durability), (1, Durability::Kept), "the mode promises no more");
    let is_there = || !values(&site.killed().start(), "h", "load").is_empty();
    assert!(!is_there(), "what is only in memory is lost by a kill");
    let took = wait_until("the log is written", is_there);
    assert!(took < Duration::from_secs(6), "it took {took:?}");
    assert_eq!(engine.stop().problems, Vec::<String>::new());
}

#[test]
fn mode_interval_syncs_the_log_every_interval() {
    let site = Site::new().with(|options| {
        options.wal_sync = WalSync::Interval;
        options.wal_sync_interval = Duration::from_millis(100);
    });
    let engine = Arc::new(site.open());
    engine.run_background();
    wait_until("it loads", || engine.ready());
    fill(&engine, "h", "load", NOW - 100, 10, 5, 1);
    let on_power_loss = || values(&site.on(site.disk.after_power_loss(&Keep::Nothing)).start(), "h", "load");
    let took = wait_until("the log is synced", || on_power_loss() == filled(NOW - 100, 10, 5, 1));
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert_eq!(engine.stop().problems, Vec::<String>::new());
}

#[test]
fn maintenance_saves_what_has_waited_for_the_checkpoint_interval() {
    let site = Site::new();
    let engine = Arc::new(site.open());
    engine.run_background();
    wait_until("it loads", || engine.ready());
    fill(&engine, "h", "load", NOW - 100, 10, 5, 1);
    assert!(site.host_files().is_empty());
    site.clock.advance(site.options.checkpoint_interval_s + 10);
    wait_until("the host is saved", || !site.host_files().is_empty());
    assert_eq!(engine.stop().problems, Vec::<String>::new());
}

#[test]
fn a_clean_stop_leaves_next_to_no_log() {
    let site = Site::new();
    for life in 0..3 {
        let engine = site.start();
        fill(&engine, "h", "load", NOW - 9000 + life * 2000, 10, 200, 1);
        let bytes = |site: &Site| {
            site.segments().iter().map(|path| site.disk.contents(path).unwrap().len()).sum::<usize>()
        };
        assert!(bytes(&site) > 10_000, "{}", bytes(&site));
        assert_eq!(engine.stop().problems, Vec::<String>::new());
        assert!(bytes(&site) < 500, "{}", bytes(&site));
        assert_eq!(site.segments().len(), 1);
    }
}
