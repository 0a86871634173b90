//! Hosts and series that come and go for long leave nothing behind.

use crate::site::{NOW, Site, stop};

/// Bytes of memory, bytes of files, hosts, and series at one moment.
fn held(site: &Site, engine: &store_server::engine::Engine) -> [u64; 4] {
    let status = engine.status();
    let files: usize = site.disk.files().values().map(Vec::len).sum();
    [status.memory.total_bytes, files as u64, status.hosts as u64, status.series as u64]
}

#[test]
fn what_comes_and_goes_for_long_leaves_nothing_behind() {
    const ROUNDS: i64 = 60;
    let site = Site::new().with(|options| {
        options.retention_s = 2000;
        options.checkpoint_interval_s = 300;
        options.log_segment_bytes = 16 << 10;
    });
    let mut engine = site.start();
    let mut early = [0; 4];
    for round in 0..ROUNDS {
        for host in 0..8 {
            let mut lines = String::new();
            for step in 0..10 {
                for series in 0..6 {
                    // Hosts, components and with them shapes that are never seen again.
                    lines += &format!(
                        "load,cluster=c,hostname=n{round}x{host},type=hwthread,type-id={round}y{series} value={series} {}\n",
                        NOW + round * 500 + step * 10
                    );
                }
            }
            let report = engine.write(lines.as_bytes(), None);
            assert_eq!((report.good, report.skipped + report.bad), (60, 0), "round {round}, host {host}");
        }
        for _ in 0..5 {
            site.clock.advance(100);
            engine.tick();
        }
        engine.sweep();
        // Not later on: a start forgets whatever there is.
        if round == 5 || round == 10 {
            stop(engine);
            engine = site.start();
        }
        let now = held(&site, &engine);
        if round <= 15 {
            // The log grows and goes in turns.
            early = std::array::from_fn(|at| early[at].max(now[at]));
        } else {
            for (at, what) in ["bytes of memory", "bytes of files", "hosts", "series"].iter().enumerate() {
                let bound = early[at] + early[at] / 2;
                assert!(
                    now[at] <= bound,
                    "round {round}: {} {what}, {} at most up to round 15",
                    now[at],
                    early[at]
                );
            }
        }
    }
    // There was something to be left behind.
    assert!(early[2] >= 8 && early[2] < 8 * 10, "{early:?}");
    stop(engine);
}

#[test]
fn tags_that_name_no_series_do_not_fill_memory() {
    let site = Site::new();
    let engine = site.start();
    let write = |lines: String, what: &str| {
        let report = engine.write(lines.as_bytes(), None);
        assert_eq!((report.skipped, report.bad), (0, 0), "{what}");
    };
    let mut bytes = Vec::new();
    for round in 0..12 {
        // A series in 50,000 ways to write it.
        let jobs = round * 50_000..(round + 1) * 50_000;
        write(
            jobs.map(|job| format!("load,cluster=c,hostname=n1,jobid={job} value=1 {NOW}\n")).collect(),
            "jobs",
        );
        bytes.push(engine.memory().resolver_bytes);
    }
    assert_eq!(engine.status().series, 1);
    // A table grows once more where what went left no room in its groups: by luck, for it is hashed with a random key.
    assert!(bytes[11] <= 2 * bytes[2], "four times the lines, and {bytes:?}");
    assert!(bytes[11] < 4 << 20, "{bytes:?}");
    stop(engine);
}

#[test]
fn a_memory_cap_that_cannot_be_kept_costs_no_save_a_minute() {
    let site = Site::new().with(|options| {
        options.memory_cap_bytes = 1;
        options.checkpoint_interval_s = 0;
        options.retention_s = 1_000_000;
    });
    let engine = site.start();
    let mut passes = Vec::new();
    for hour in 0..24 {
        for minute in 0..60 {
            let time = NOW + hour * 3600 + minute * 60;
            engine.write(format!("load,cluster=c,hostname=n1 value={minute} {time}\n").as_bytes(), None);
            site.clock.set(time);
            engine.sweep();
        }
        passes.push(engine.status().saves.passes);
    }
    // After 0, 2, 4, 8, ... minutes: eleven in a day.
    assert!((8..=12).contains(&passes[23]), "{passes:?}");
    assert!(passes[0] >= 4, "{passes:?}");
    stop(engine);
}
