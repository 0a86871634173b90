//! What a start must not leave out: of hosts that were gone and came back with their series in another order, of more
//! series than may be, and of what was freed.

use std::path::Path;

use store_core::record::kind;
use store_server::engine::Engine;
use store_wal::LogPos;

use crate::site::{DIRECTORY, NOW, Site, fill, filled, stop, values, values_of};

const RETENTION: i64 = 1000;

/// One sample of each of these sockets of host `h`, each in a message of its own. Returns how many were taken.
fn send(engine: &Engine, sockets: &[u32], time: i64) -> u64 {
    let line =
        |socket| format!("power,cluster=c,hostname=h,type=socket,type-id={socket} value={socket} {time}\n");
    sockets.iter().map(|&socket| engine.write(line(socket).as_bytes(), None).good).sum()
}

fn seen(engine: &Engine, socket: u32) -> Vec<(i64, f64)> {
    values_of(engine, "h", "power", &[&format!("socket{socket}")]).into_iter().collect()
}

/// A site whose host `h` had the sockets 0 and 1, which were saved and are gone, and has 1 and 0 now, saved as well.
fn returned() -> (Site, Engine) {
    let site = Site::new().with(|options| (options.retention_s, options.max_future_s) = (RETENTION, 5000));
    let engine = site.start();
    assert_eq!(send(&engine, &[0, 1], NOW), 2);
    site.save(&engine);
    site.clock.set(NOW + 2 * RETENTION);
    fill(&engine, "other", "power", NOW + 2 * RETENTION, 1, 2, 7);
    engine.sweep();
    assert_eq!(engine.hosts("c").unwrap(), ["other"]);
    assert_eq!(send(&engine, &[1, 0], NOW + 2 * RETENTION), 2);
    site.save(&engine);
    assert_eq!(site.host_files().len(), 2, "a new file, for the one before is closed");
    (site, engine)
}

#[test]
fn what_was_freed_of_a_host_that_came_back_in_another_order_stays_freed() {
    let time = NOW + 2 * RETENTION;
    // With a longer retention its first history is seen again, and both are put together by name.
    for retention_s in [RETENTION, 100 * RETENTION] {
        let (site, engine) = returned();
        let h = [vec!["c".to_owned(), "h".to_owned()]];
        assert_eq!(engine.free(time + 1, &h).unwrap().count, 2);
        site.save(&engine);
        stop(engine);
        let site = site.with(|options| options.retention_s = retention_s);
        for start in 0..3 {
            let engine = site.start();
            let since: Vec<_> = (0..start).map(|start| (time + 50 + start, 0.0)).collect();
            assert_eq!(
                [0, 1].map(|socket| seen(&engine, socket)),
                [since, vec![]],
                "start {start}, {retention_s}"
            );
            assert_eq!(send(&engine, &[0, 1], time), 0, "sent again at start {start}, {retention_s}");
            assert_eq!(send(&engine, &[0], time + 50 + start), 1);
            site.save(&engine);
            stop(engine);
        }
    }
}

#[test]
fn a_host_that_came_back_in_another_order_is_rolled_and_its_old_file_goes() {
    let (site, engine) = returned();
    let time = NOW + 2 * RETENTION;
    engine.roll("c", "h");
    let saves = engine.status().saves;
    assert_eq!((saves.rolls, saves.rolls_failed), (1, 0));
    assert_eq!(site.host_files().len(), 1);
    for engine in [&engine, &site.killed().start()] {
        assert_eq!([0, 1].map(|socket| seen(engine, socket)), [vec![(time, 0.0)], vec![(time, 1.0)]]);
        assert_eq!(engine.status().problems, []);
    }
}

#[test]
fn a_kill_moves_no_sample_of_a_host_that_came_back_in_another_order() {
    const RETENTION: i64 = 10_000;
    let site =
        Site::new().with(|options| (options.retention_s, options.max_future_s) = (RETENTION, 5 * RETENTION));
    let engine = site.start();
    let send = |names: [&str; 2], time: i64| {
        for name in names {
            let line = format!("load,cluster=c,hostname=h,type=socket,type-id={name} value=1 {time}\n");
            assert_eq!(engine.write(line.as_bytes(), None).good, 1);
        }
    };
    send(["a", "b"], NOW);
    site.save(&engine);
    site.clock.set(NOW + 2 * RETENTION);
    fill(&engine, "other", "load", NOW + 2 * RETENTION, 10, 2, 7);
    engine.sweep();
    assert_eq!(engine.hosts("c").unwrap(), ["other"]);
    // Half a step off the grid of the first sample, and so late that it has one of its own.
    let time = NOW + 2 * RETENTION;
    send(["b", "a"], time);
    site.clock.set(time + 5125);
    send(["b", "a"], time + 5125);
    site.save(&engine);
    let all =
        |engine: &Engine| ["a", "b"].map(|name| values_of(engine, "h", "load", &[&format!("socket{name}")]));
    let before = all(&engine);
    assert_eq!(before[0].keys().copied().collect::<Vec<_>>(), [time, time + 5120]);
    // The log still has rows of the first order.
    let killed = site.killed();
    let engine = killed.start();
    assert_eq!(all(&engine), before);
    stop(engine);
    assert_eq!(all(&killed.start()), before);
}

#[test]
fn a_kill_brings_back_no_series_of_the_time_before_a_host_was_gone() {
    const RETENTION: i64 = 10_000;
    let site =
        Site::new().with(|options| (options.retention_s, options.max_future_s) = (RETENTION, 5 * RETENTION));
    let engine = site.start();
    let send = |name: &str, time: i64| {
        let line = format!("load,cluster=c,hostname=h,type=socket,type-id={name} value=1 {time}\n");
        assert_eq!(engine.write(line.as_bytes(), None).good, 1);
    };
    ["a", "b", "z"].into_iter().for_each(|name| send(name, NOW));
    site.save(&engine);
    site.clock.set(NOW + 2 * RETENTION);
    fill(&engine, "other", "load", NOW + 2 * RETENTION, 10, 2, 7);
    engine.sweep();
    assert_eq!(engine.hosts("c").unwrap(), ["other"]);
    ["b", "a"].into_iter().for_each(|name| send(name, NOW + 2 * RETENTION));
    site.save(&engine);
    // The log still has rows of the third series.
    let again = site.killed().start();
    assert_eq!((engine.status().series, again.status().series), (3, 3));
}

#[test]
fn nothing_stays_on_the_disk_of_a_host_that_is_gone() {
    let (site, engine) = returned();
    site.clock.set(NOW + 4 * RETENTION);
    fill(&engine, "other", "power", NOW + 4 * RETENTION, 1, 2, 7);
    engine.sweep();
    assert_eq!(engine.hosts("c").unwrap(), ["other"]);
    engine.clean_up();
    assert_eq!(site.host_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_was_acknowledged_is_taken_whatever_the_limit_of_series_is_now() {
    let site = Site::new();
    let engine = site.start();
    // All series at once, and one by one: the log says them in two ways. The first fill the limit of the next start.
    for host in 0..3 {
        fill(&engine, &format!("a{host}"), "power", NOW, 1, 3, host);
    }
    assert_eq!(send(&engine, &[0, 1, 2], NOW), 3);
    let small = |site: Site| site.with(|options| options.limits.series = 2);
    let check = |engine: &Engine, sockets: u32| {
        for host in 0..3 {
            assert_eq!(values(engine, &format!("a{host}"), "power"), filled(NOW, 1, 3, host));
        }
        for socket in 0..sockets {
            assert_eq!(seen(engine, socket), [(NOW, f64::from(socket))]);
        }
    };
    let site = small(site.killed());
    // Two more are acknowledged before anybody can know how many there are.
    let engine = site.open();
    assert_eq!(send(&engine, &[3, 4], NOW), 2);
    engine.load_all();
    check(&engine, 5);
    assert_eq!(send(&engine, &[9], NOW), 0, "now the limit holds");
    let killed = site.killed();
    check(&killed.start(), 5);
    site.save(&engine);
    stop(engine);
    check(&site.start(), 5);
}

#[test]
fn no_single_rotten_frame_undoes_that_something_was_freed() {
    let site = Site::new();
    let engine = site.start();
    assert_eq!(send(&engine, &[0, 1, 2, 3, 4, 5], NOW), 6);
    assert_eq!(engine.free(NOW + 1, &[vec!["c".to_owned()]]).unwrap().count, 6);
    let site = site.killed();
    let dir = Path::new(DIRECTORY).join(".wal");
    let found = store_wal::scan(&site.disk, &dir).unwrap();
    let lineage = found.lineage().unwrap();
    let mut shapes = Vec::new();
    store_wal::replay(&site.disk, &found, lineage, LogPos::new(0, 0), &mut |position, kind, _| {
        if kind == kind::SHAPE {
            shapes.push(position);
        }
    });
    assert!(shapes.len() >= 2, "{shapes:?}");
    for position in shapes {
        let site = site.killed();
        let segment = site.segments().into_iter().find(|path| {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stem.and_then(|stem| stem.parse().ok()) == Some(position.segment())
        });
        site.disk.flip(segment.unwrap(), 8 * (position.offset() as usize + 40)).unwrap();
        let engine = site.start();
        assert_eq!(engine.status().problems.len(), 1, "{position:?}");
        for socket in 0..6 {
            assert_eq!(seen(&engine, socket), [], "{position:?}: socket {socket}");
        }
    }
}
