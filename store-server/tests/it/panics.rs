//! A panic behind the requests: the job goes on, or the process ends and says why.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store_disk::{Disk, DiskFile, DiskLock, Entry, Identity, ManualClock, ReadFile, SimDisk, Space};
use store_server::engine::Engine;

use crate::site::{NOW, Site, fill, filled, stop, values};

/// A disk that panics in calls of one kind below the directory of a host.
#[derive(Clone)]
struct Panicking {
    disk: SimDisk,
    call: &'static str,
    left: Arc<AtomicU64>,
}

impl fmt::Debug for Panicking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk that panics")
    }
}

impl Panicking {
    fn new(site: &Site, call: &'static str, times: u64) -> Self {
        Self { disk: site.disk.clone(), call, left: Arc::new(AtomicU64::new(times)) }
    }

    fn at(&self, call: &str, path: &Path) -> &SimDisk {
        let is_meant = call == self.call && path.starts_with("/var/store/c");
        let left = self.left.load(Ordering::Relaxed);
        if is_meant && left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            panic!("a disk that panics in {call}");
        }
        &self.disk
    }

    fn open(&self, site: &Site) -> Arc<Engine> {
        let clock = Arc::<ManualClock>::clone(&site.clock);
        let engine = Engine::open_with(site.options.clone(), Arc::new(self.clone()), clock).unwrap();
        Arc::new(engine)
    }
}

impl Disk for Panicking {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.at("create_dir", path).create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.at("list", dir).list(dir)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.at("read", path).read(path)
    }
    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        self.at("read_front", path).read_front(path, len)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Disk::open(self.at("open", path), path)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.at("len", path).len(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.at("create", path).create(path)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.at("sync_file", path).sync_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.at("sync_dir", dir).sync_dir(dir)
    }
    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        self.at("sync_all", dir).sync_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("rename", from).rename(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("rename_over", from).rename_over(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at("remove", path).remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.at("remove_dir", path).remove_dir(path)
    }
    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        self.at("resolve", dir).resolve(dir)
    }
    fn identity(&self, path: &Path) -> io::Result<Identity> {
        self.at("identity", path).identity(path)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.at("space", dir).space(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.at("lock", dir).lock(dir)
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn panics_of(engine: &Engine, job: &str) -> u64 {
    engine.jobs().iter().find(|one| one.name == job).unwrap().panics
}

fn assert_reported(engine: &Engine, job: &str) {
    assert_eq!(panics_of(engine, job), 1);
    let problems = engine.status().problems;
    assert!(
        problems.iter().any(|problem| problem.what.contains("panicked") && problem.path == job),
        "{problems:?}"
    );
}

#[test]
fn a_save_that_panics_is_tried_again() {
    for (workers, call) in [(1, "create"), (2, "create"), (1, "sync_dir"), (2, "create_dir")] {
        let site = Site::new().with(|options| options.num_workers = workers);
        let engine = Panicking::new(&site, call, 1).open(&site);
        engine.run_background();
        wait_until("it loads", || engine.ready());
        for host in ["h", "i"] {
            fill(&engine, host, "load", NOW - 100, 10, 5, 1);
        }
        site.clock.advance(site.options.checkpoint_interval_s + 10);
        wait_until("it panics", || panics_of(&engine, "maintain") == 1);
        wait_until("both are saved", || engine.status().saves.blocks_saved >= 2);
        assert_reported(&engine, "maintain");
        assert_eq!(engine.stop().problems, Vec::<String>::new(), "{call}");
        drop(engine);
        for host in ["h", "i"] {
            assert_eq!(values(&site.start(), host, "load"), filled(NOW - 100, 10, 5, 1));
        }
    }
}

#[test]
fn a_host_whose_load_panics_is_loaded_at_the_next_try() {
    for workers in [1, 2] {
        let site = Site::new().with(|options| options.num_workers = workers);
        let engine = site.start();
        for host in ["h", "i"] {
            fill(&engine, host, "load", NOW - 1000, 10, 50, 1);
        }
        stop(engine);
        let disk = Panicking::new(&site, "open", 0);
        let engine = disk.open(&site);
        disk.left.store(1, Ordering::Relaxed);
        engine.run_background();
        wait_until("it loads", || engine.ready());
        assert_reported(&engine, "load");
        for host in ["h", "i"] {
            assert_eq!(values(&engine, host, "load"), filled(NOW - 1000, 10, 50, 1));
        }
        assert_eq!(engine.stop().problems, Vec::<String>::new());
    }
}

/// Names the test below to a process of its own.
const CHILD: &str = "PANICS_FOR_EVER";

#[test]
fn the_third_panic_within_a_minute_ends_the_process_with_a_line_that_names_the_job() {
    if std::env::var_os(CHILD).is_some() {
        let site = Site::new();
        let engine = Panicking::new(&site, "create", u64::MAX).open(&site);
        engine.run_background();
        wait_until("it loads", || engine.ready());
        fill(&engine, "h", "load", NOW - 100, 10, 5, 1);
        site.clock.advance(site.options.checkpoint_interval_s + 10);
        wait_until("the process ends", || false);
    }
    let name = "panics::the_third_panic_within_a_minute_ends_the_process_with_a_line_that_names_the_job";
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(last, "job maintain panicked for the third time within a minute: ending at once");
    let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
    assert_eq!(signal, Some(6), "{}", child.status);
}
