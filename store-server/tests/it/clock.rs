//! A clock that is wrong loses nothing: neither what was acknowledged, nor live samples of nodes whose clock is right.

use std::collections::BTreeMap;

use store_server::engine::{Engine, FileFormat};

use crate::site::{NOW, Site, fill, filled, stop, values};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const RETENTION: i64 = 2 * DAY;
const HOSTS: [&str; 4] = ["h", "i", "j", "k"];

/// What the disk holds: block files, json, the original's binary files.
const FORMATS: [(FileFormat, bool); 3] =
    [(FileFormat::Wal, false), (FileFormat::Json, false), (FileFormat::Wal, true)];

/// Where a wrong clock stands.
const WRONG: [i64; 8] = [
    NOW - HOUR,
    NOW + HOUR,
    NOW + DAY,
    NOW + 3 * DAY,
    100,
    2_147_483_640,
    4_294_967_290,
    NOW + 100 * 365 * DAY,
];

fn site((format, portable): (FileFormat, bool)) -> Site {
    Site::new().with(|options| {
        (options.format, options.portable) = (format, portable);
        (options.retention_s, options.checkpoint_interval_s) = (RETENTION, 12 * HOUR);
    })
}

/// Samples of 40 hours, up to now, of as many hosts.
fn fill_all(engine: &Engine, hosts: usize) {
    for (number, host) in (0..).zip(&HOSTS[..hosts]) {
        fill(engine, host, "disk", NOW - 40 * HOUR, 600, 240, number * 1000);
        fill(engine, host, "load", NOW - 300, 10, 30, number);
    }
}

/// What [`fill_all`] wrote of a host.
fn filled_all(number: i64) -> [BTreeMap<i64, f64>; 2] {
    [filled(NOW - 40 * HOUR, 600, 240, number * 1000), filled(NOW - 300, 10, 30, number)]
}

/// Whether all of it is there; samples of other slots are others.
fn assert_all(engine: &Engine, hosts: usize, when: &str) {
    for (number, host) in (0..).zip(&HOSTS[..hosts]) {
        for (metric, sent) in ["disk", "load"].into_iter().zip(filled_all(number)) {
            let mut seen = values(engine, host, metric);
            seen.retain(|slot, _| sent.contains_key(slot));
            assert_eq!(seen.len(), sent.len(), "{when}: {metric} of {host}");
            assert_eq!(seen, sent, "{when}: {metric} of {host}");
        }
    }
}

/// All that a store does by itself, and more.
fn maintain(engine: &Engine) {
    engine.tick();
    engine.checkpoint();
    engine.sweep();
    engine.roll("c", "h");
    engine.clean_up();
}

fn line(host: &str, value: i64, time: Option<i64>) -> String {
    let time = time.map_or(String::new(), |time| format!(" {time}"));
    format!("load,cluster=c,hostname={host} value={value}{time}\n")
}

/// Whether a sample was taken.
fn takes(engine: &Engine, host: &str, time: Option<i64>) -> bool {
    engine.write(line(host, 7, time).as_bytes(), None).good == 1
}

/// Ends a life, leaves the disk to the next one with another clock.
fn next(site: Site, engine: Engine, clean: bool, clock: i64) -> Site {
    let site = if clean {
        stop(engine);
        site
    } else {
        drop(engine);
        site.killed()
    };
    site.clock.set(clock);
    site
}

#[test]
fn a_start_with_a_wrong_clock_loses_nothing() {
    for format in FORMATS {
        for hosts in [1, 2, 4] {
            for wrong in WRONG {
                for clean in [false, true] {
                    let when = format!("{format:?}, {hosts} hosts, clock {wrong}, clean {clean}");
                    let mut site = site(format);
                    let engine = site.start();
                    fill_all(&engine, hosts);
                    site = next(site, engine, clean, wrong);
                    let engine = site.start();
                    assert_all(&engine, hosts, &when);
                    assert!(takes(&engine, "h", Some(NOW + 20)), "{when}: a live sample");
                    maintain(&engine);
                    assert_all(&engine, hosts, &when);
                    assert!(takes(&engine, "h", Some(NOW + 30)), "{when}: the next one");
                    for clean in [!clean, clean] {
                        let engine = site.start_again(clean, NOW + 60);
                        assert_all(&engine, hosts, &when);
                    }
                }
            }
        }
    }
}

#[test]
fn a_clock_that_jumps_while_it_runs_loses_nothing_whoever_sends() {
    for format in FORMATS {
        for hosts in [1, 2, 4] {
            for wrong in WRONG {
                for no_time in [false, true] {
                    let when = format!("{format:?}, {hosts} hosts, clock {wrong}, no time {no_time}");
                    let site = site(format);
                    let engine = site.start();
                    fill_all(&engine, hosts);
                    maintain(&engine);
                    site.clock.set(wrong);
                    for second in 0..5 {
                        // One line without a time, also of a host that has no other.
                        if no_time {
                            takes(&engine, "h", None);
                            takes(&engine, "new", None);
                        }
                        // A collector beside the store has the store's clock.
                        takes(&engine, "beside", (second == 0).then_some(wrong));
                        assert!(takes(&engine, "h", Some(NOW + 10 * second)), "{when}: a live sample");
                        maintain(&engine);
                        site.clock.advance(20);
                    }
                    assert_all(&engine, hosts, &when);
                    site.clock.set(NOW + 100);
                    maintain(&engine);
                    assert_all(&engine, hosts, &when);
                    drop(engine);
                    assert_all(&site.killed().start(), hosts, &when);
                }
            }
        }
    }
}

#[test]
fn what_our_clock_stamped_does_not_vouch_after_a_start_either() {
    for format in FORMATS {
        let site = site(format);
        let engine = site.start();
        fill_all(&engine, 4);
        maintain(&engine);
        // Many hosts send lines without a time while the clock is three days ahead, and so it is at the next start.
        site.clock.set(NOW + 3 * DAY);
        for host in HOSTS {
            assert!(takes(&engine, host, None));
        }
        maintain(&engine);
        drop(engine);
        let killed = site.killed();
        let engine = killed.start();
        maintain(&engine);
        assert_all(&engine, 4, &format!("{format:?}"));
    }
}

#[test]
fn samples_ahead_of_the_clock_do_not_make_a_later_start_refuse_live_ones() {
    for clean in [false, true] {
        let mut site = site(FORMATS[0]).with(|options| options.max_future_s = 30 * DAY);
        let engine = site.start();
        fill_all(&engine, 4);
        for host in HOSTS {
            assert!(takes(&engine, host, Some(NOW + 20 * DAY)));
        }
        site = next(site, engine, clean, NOW + 60);
        let engine = site.start();
        maintain(&engine);
        assert!(takes(&engine, "h", Some(NOW + 60)), "clean {clean}");
        assert_all(&engine, 4, &format!("clean {clean}"));
    }
}

#[test]
fn a_clock_that_is_behind_takes_live_samples_however_long_the_store_was_down() {
    for down in [60, HOUR, DAY] {
        let site = site(FORMATS[0]);
        let engine = site.start();
        fill_all(&engine, 4);
        stop(engine);
        // As a machine without a battery begins.
        site.clock.set(1000);
        let engine = site.start();
        for at in 0..10 {
            for host in HOSTS {
                assert!(takes(&engine, host, Some(NOW + down + at * 10)), "{host}, down for {down}");
            }
            site.clock.advance(10);
            engine.tick();
        }
        assert!(!takes(&engine, "h", Some(NOW + 10 * DAY)), "but not what is wrong beyond doubt");
    }
}

#[test]
fn what_is_old_goes_once_three_hosts_say_so() {
    for format in FORMATS {
        let site = site(format);
        let engine = site.start();
        fill_all(&engine, 4);
        stop(engine);
        // A month later, and the clock is right.
        site.clock.set(NOW + 30 * DAY);
        let engine = site.start();
        maintain(&engine);
        assert_all(&engine, 4, "nobody has said that it is so late");
        assert!(takes(&engine, "h", Some(NOW + 30 * DAY)));
        assert!(takes(&engine, "i", Some(NOW + 30 * DAY)));
        maintain(&engine);
        assert_all(&engine, 4, "nor have two");
        assert!(takes(&engine, "j", Some(NOW + 30 * DAY)));
        maintain(&engine);
        assert_eq!(values(&engine, "k", "disk"), BTreeMap::new(), "{format:?}");
        assert_eq!(engine.hosts("c").unwrap(), ["h", "i", "j"], "{format:?}");
        assert_eq!(site.files("c/k"), Vec::<std::path::PathBuf>::new(), "{format:?}");
        assert!(!takes(&engine, "h", Some(NOW + 27 * DAY)), "and what is too old is refused");
    }
}

#[test]
fn a_cluster_that_was_dead_for_a_week_comes_back() {
    let site = site(FORMATS[0]);
    let engine = site.start();
    fill_all(&engine, 1);
    // The others live on.
    for hour in 0..7 * 24 {
        site.clock.advance(HOUR);
        for host in ["x", "y", "z"] {
            assert!(takes(&engine, host, Some(NOW + (hour + 1) * HOUR)));
        }
        engine.tick();
    }
    engine.sweep();
    assert_eq!(engine.hosts("c").unwrap(), ["x", "y", "z"]);
    assert!(takes(&engine, "h", Some(NOW + 7 * DAY)));
    engine.sweep();
    assert_eq!(engine.hosts("c").unwrap(), ["h", "x", "y", "z"]);
}

#[test]
fn an_empty_store_refuses_what_is_too_old_and_too_new_by_the_clock() {
    let engine = site(FORMATS[0]).open();
    assert!(!takes(&engine, "h", Some(NOW - RETENTION - 10)));
    assert!(!takes(&engine, "h", Some(NOW + 700)));
    assert!(takes(&engine, "h", Some(NOW - RETENTION + 10)));
    assert!(takes(&engine, "h", Some(NOW + 500)));
}

#[test]
fn while_the_log_is_read_nothing_is_too_old() {
    let site = site(FORMATS[0]);
    let engine = site.start();
    fill_all(&engine, 4);
    drop(engine);
    let site = site.killed();
    site.clock.set(NOW + 5 * DAY);
    let engine = site.open();
    assert!(takes(&engine, "h", Some(NOW + 20)));
    assert!(takes(&engine, "new", Some(NOW + 20)));
    engine.load_all();
    maintain(&engine);
    assert_all(&engine, 4, "after it");
    assert_eq!(values(&engine, "new", "load"), BTreeMap::from([(NOW + 20, 7.0)]));
}

#[test]
fn what_came_while_the_clock_was_ahead_is_saved_when_it_is_right_again() {
    let site = site(FORMATS[0]);
    let engine = site.start();
    site.clock.set(NOW + 100 * 365 * DAY);
    assert!(takes(&engine, "h", Some(NOW)));
    site.clock.set(NOW + 10);
    engine.checkpoint();
    assert_eq!(site.host_files().len(), 1);
}

#[test]
fn a_small_memory_cap_under_a_wrong_clock_keeps_the_newest() {
    let site = site(FORMATS[0]).with(|options| options.memory_cap_bytes = 1);
    let engine = site.start();
    fill_all(&engine, 4);
    maintain(&engine);
    let newest = |engine: &Engine| values(engine, "k", "load");
    let before = newest(&engine);
    assert!(!before.is_empty());
    site.clock.set(NOW + 100 * 365 * DAY);
    maintain(&engine);
    assert_eq!(newest(&engine), before);
}

impl Site {
    /// The next life, after a stop or a kill of none: the engine before must be gone.
    fn start_again(&self, clean: bool, clock: i64) -> Engine {
        let site = self.killed();
        site.clock.set(clock);
        let engine = site.start();
        if clean {
            stop(engine);
            return site.start();
        }
        engine
    }
}
