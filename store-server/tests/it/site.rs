//! [`Site`]: what an engine runs on in a test: a simulated disk, a clock that the test sets, options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use store_disk::{ManualClock, SimDisk};
use store_server::engine::{
    Aggregation, Cleanup, Engine, EngineLimits, EngineOptions, FileFormat, MetricOption, OpenError,
    PathElement, ReadRequest, Series, WalSync,
};

/// When the clock of a new site stands: a moment on no grid.
pub(crate) const NOW: i64 = 1_700_000_003;

/// The directory of the checkpoints.
pub(crate) const DIRECTORY: &str = "/var/store";

/// Name, seconds per slot, aggregation.
pub(crate) const METRICS: [(&str, u32, Aggregation); 4] = [
    ("power", 1, Aggregation::Sum),
    ("load", 10, Aggregation::Avg),
    ("net", 10, Aggregation::None),
    ("disk", 60, Aggregation::Sum),
];

/// What an engine runs on.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: EngineOptions,
}

impl Site {
    pub(crate) fn new() -> Self {
        let metric = |(name, frequency_s, aggregation): (&str, u32, Aggregation)| MetricOption {
            name: name.to_owned(),
            frequency_s,
            aggregation,
        };
        let options = EngineOptions {
            retention_s: 1_000_000,
            checkpoint_interval_s: 100,
            memory_cap_bytes: 0,
            num_workers: 1,
            format: FileFormat::Wal,
            portable: false,
            directory: DIRECTORY.into(),
            min_free_bytes: None,
            max_wal_bytes: 0,
            log_segment_bytes: 1 << 20,
            log_buffer_bytes: 64 << 20,
            open_files_max: 8,
            wal_sync: WalSync::Write,
            wal_sync_interval: Duration::from_secs(1),
            max_future_s: 600,
            cleanup: Cleanup::Delete,
            limits: EngineLimits { name_bytes: 255, hosts: 100, series: 1000, metrics: 100 },
            metrics: METRICS.map(metric).to_vec(),
            auto_register: None,
        };
        Self { disk: SimDisk::new(), clock: Arc::new(ManualClock::at(NOW)), options }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut EngineOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// An engine that has not loaded anything yet.
    pub(crate) fn open(&self) -> Engine {
        self.try_open().unwrap()
    }

    /// The same, if the start is not refused.
    pub(crate) fn try_open(&self) -> Result<Engine, OpenError> {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        Engine::open_with(self.options.clone(), Arc::new(self.disk.clone()), clock)
    }

    /// Why the start is refused, in one line and without any change to the disk.
    pub(crate) fn refusal(&self) -> OpenError {
        let before = self.disk.files();
        let refused = self.try_open().unwrap_err();
        assert_eq!(self.disk.files(), before, "a refusal changes nothing: {refused}");
        assert!(!refused.to_string().contains('\n'), "{refused}");
        refused
    }

    /// An engine that has loaded everything.
    pub(crate) fn start(&self) -> Engine {
        let engine = self.open();
        engine.load_all();
        assert!(engine.ready());
        engine
    }

    /// The same surroundings with another disk.
    pub(crate) fn on(&self, disk: SimDisk) -> Self {
        Self { disk, ..self.clone() }
    }

    /// What the next process finds when this one was killed.
    pub(crate) fn killed(&self) -> Self {
        self.on(self.disk.after_kill())
    }

    /// Seals and saves all that is old enough, which everything is after the interval.
    pub(crate) fn save(&self, engine: &Engine) {
        self.clock.advance(self.options.checkpoint_interval_s);
        engine.checkpoint();
    }

    /// The files below a directory of the checkpoint directory, in the order of their names.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        let dir = path(below);
        self.disk.files().into_keys().filter(|path| path.starts_with(&dir)).collect()
    }

    /// The files of host `h` in cluster `c`.
    pub(crate) fn host_files(&self) -> Vec<PathBuf> {
        self.files("c/h")
    }

    /// The segments of the log.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        self.files(".wal")
    }
}

/// What lies below the directory of the checkpoints.
pub(crate) fn path(below: &str) -> PathBuf {
    Path::new(DIRECTORY).join(below)
}

/// Stops an engine that is to stop without a problem.
pub(crate) fn stop(engine: Engine) {
    assert_eq!(engine.stop().problems, Vec::<String>::new());
}

/// A line for host `h` of cluster `c`.
pub(crate) fn line(metric: &str, value: impl std::fmt::Display, time: i64) -> String {
    format!("{metric},cluster=c,hostname=h value={value} {time}\n")
}

/// Writes one sample per step: the value of the n-th, counted from 0, is `first + n`.
pub(crate) fn fill(engine: &Engine, host: &str, metric: &str, from: i64, step: i64, count: i64, first: i64) {
    // Sample by sample, as a collector does: each has a record of its own in the log.
    for at in 0..count {
        let line = format!("{metric},cluster=c,hostname={host} value={} {}\n", first + at, from + at * step);
        let report = engine.write(line.as_bytes(), None);
        assert_eq!((report.good, report.bad, report.skipped), (1, 0, 0), "{line}");
    }
}

/// What [`fill`] wrote.
pub(crate) fn filled(from: i64, step: i64, count: i64, first: i64) -> BTreeMap<i64, f64> {
    (0..count).map(|at| (from + at * step, (first + at) as f64)).collect()
}

pub(crate) fn request<'a>(
    host: &'a str,
    metric: &'a str,
    path: &[&'a str],
    from: i64,
    to: i64,
) -> ReadRequest<'a> {
    let path = path.iter().map(|name| PathElement::Exact((*name).into())).collect();
    ReadRequest {
        cluster: "c",
        host,
        metric,
        path,
        from,
        to,
        resolution_s: 0,
        points_max: 10_000_000,
        cells_max: u64::MAX,
    }
}

/// Answer to a query over the whole time.
pub(crate) fn series(engine: &Engine, host: &str, metric: &str, path: &[&str]) -> Option<Series> {
    engine.read(&request(host, metric, path, NOW - 900_000, NOW + 900_000)).unwrap()
}

/// The samples of a series of a host, by slot.
pub(crate) fn values(engine: &Engine, host: &str, metric: &str) -> BTreeMap<i64, f64> {
    values_of(engine, host, metric, &[])
}

/// The samples of a series below a host, by slot.
pub(crate) fn values_of(engine: &Engine, host: &str, metric: &str, path: &[&str]) -> BTreeMap<i64, f64> {
    let Some(series) = series(engine, host, metric, path) else { return BTreeMap::new() };
    let times = (0..).map(|at| series.from + at * series.resolution_s);
    times
        .zip(&series.values)
        .filter(|(_, value)| !value.is_nan())
        .map(|(time, value)| (time, *value))
        .collect()
}

/// Puts another version into the header of a block file or segment: both halves, with good checksums.
pub(crate) fn set_version(bytes: &mut [u8], version: u16) {
    for half in [0, 32] {
        bytes[half + 4..half + 6].copy_from_slice(&version.to_le_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[half..half + 28]);
        bytes[half + 28..half + 32].copy_from_slice(&crc.sum().to_le_bytes());
    }
}
