//! [`History`]: what a store goes through in one life, decided by a seed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_disk::{ManualClock, SimDisk};
use store_server::engine::{
    Aggregation, Cleanup, Durability, Engine, EngineLimits, EngineOptions, FileFormat, MetricOption,
    ReadRequest, TryWrite, WalSync,
};

use super::ledger::{Key, Ledger};

const START: i64 = 1_700_000_000;
const HOSTS: [&str; 2] = ["n1", "n2"];
const METRICS: [(&str, u32); 3] = [("load", 10), ("temp", 10), ("disk", 60)];

/// How much happens in a life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    steps: usize,
}

impl Lengths {
    pub(crate) const FIRST: Self = Self { steps: 14 };
    const NEXT: Self = Self { steps: 6 };
}

/// One life of a store, and the ledger of all its lives.
#[derive(Debug, Clone)]
pub(crate) struct History {
    seed: u64,
    mode: WalSync,
    /// Bytes that may wait to be written to the log.
    buffer_bytes: u64,
    lengths: Lengths,
    ledger: Ledger,
    now: i64,
}

/// Buffers of the log: one for all that comes, and two that are full after a message or some.
const BUFFER_BYTES: [u64; 3] = [1 << 20, 3000, 100];

pub(crate) fn options(mode: WalSync, log_buffer_bytes: u64) -> EngineOptions {
    let metric = |(name, frequency_s): (&str, u32)| MetricOption {
        name: name.to_owned(),
        frequency_s,
        aggregation: Aggregation::Sum,
    };
    EngineOptions {
        retention_s: 1_000_000,
        checkpoint_interval_s: 40,
        memory_cap_bytes: 0,
        num_workers: 1,
        format: FileFormat::Wal,
        portable: false,
        directory: PathBuf::from("/var/store"),
        min_free_bytes: None,
        max_wal_bytes: 0,
        log_segment_bytes: 700,
        log_buffer_bytes,
        open_files_max: 8,
        wal_sync: mode,
        wal_sync_interval: Duration::from_secs(1),
        max_future_s: 1_000_000,
        cleanup: Cleanup::Delete,
        limits: EngineLimits { name_bytes: 255, hosts: 100, series: 1000, metrics: 100 },
        metrics: METRICS.map(metric).to_vec(),
        auto_register: None,
    }
}

impl History {
    pub(crate) fn new(seed: u64, mode: WalSync, lengths: Lengths) -> Self {
        let buffer_bytes = BUFFER_BYTES[(seed % BUFFER_BYTES.len() as u64) as usize];
        Self { seed, mode, buffer_bytes, lengths, ledger: Ledger::default(), now: START }
    }

    /// The life after a crash of this one.
    pub(crate) fn next_life(&self, kill: bool, seed: u64) -> Self {
        let mut next = Self { seed, lengths: Lengths::NEXT, ..self.clone() };
        next.ledger.survive(kill);
        next
    }

    /// Lives on `disk` until the end or the crash. The same seed makes the same calls.
    pub(crate) fn run(&mut self, disk: &SimDisk) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut at = 0;
        while at < self.lengths.steps && !disk.crashed() {
            let clock = Arc::new(ManualClock::at(self.now));
            let opened = Engine::open_with(
                options(self.mode, self.buffer_bytes),
                Arc::new(disk.clone()),
                Arc::<ManualClock>::clone(&clock),
            );
            let Ok(engine) = opened else {
                at += 1;
                continue;
            };
            if rng.random_bool(0.5) {
                self.write(&engine, &mut rng);
            }
            engine.load_all();
            while at < self.lengths.steps && !disk.crashed() {
                at += 1;
                if self.step(&engine, &clock, &mut rng) {
                    break;
                }
            }
            self.now = self.now.max(store_disk::Clock::now_s(&*clock));
        }
    }

    /// Does one thing; true if the engine was stopped.
    fn step(&mut self, engine: &Engine, clock: &ManualClock, rng: &mut StdRng) -> bool {
        match rng.random_range(0..100) {
            0..55 => {
                for _ in 0..rng.random_range(1..4) {
                    self.write(engine, rng);
                }
            }
            55..75 => {
                clock.advance(rng.random_range(1..30));
                self.now = store_disk::Clock::now_s(clock);
                engine.tick();
            }
            75..80 => engine.checkpoint(),
            80..86 => {
                if engine.sync_log().is_ok() {
                    self.ledger.sync();
                }
            }
            86..91 => {
                engine.checkpoint();
                for host in HOSTS {
                    engine.roll("c", host);
                }
            }
            91..95 => {
                let (host, _metric) = (rng.random_range(0..2), rng.random_range(0..3));
                let before = self.now - rng.random_range(0..200);
                // Every metric of the host is freed, whichever was meant.
                for other in 0..METRICS.len() {
                    self.ledger.free(host, other, before);
                }
                let selector = vec!["c".to_owned(), HOSTS[host].to_owned()];
                engine.free(before, &[selector]).ok();
            }
            _ => {
                engine.stop();
                return true;
            }
        }
        false
    }

    /// Sends a message of samples of one host, most of them new, some late, some again.
    fn write(&mut self, engine: &Engine, rng: &mut StdRng) {
        let host = rng.random_range(0..HOSTS.len());
        let mut sent: Vec<(Key, u32)> = Vec::new();
        let mut body = String::new();
        for _ in 0..rng.random_range(1..5) {
            let metric = rng.random_range(0..METRICS.len());
            let (name, frequency_s) = METRICS[metric];
            let step = i64::from(frequency_s);
            let late = if rng.random_bool(0.3) { rng.random_range(0..30) } else { 0 };
            let slot = self.now.div_euclid(step) * step - late * step;
            let key = (host, metric, slot);
            let value = self.ledger.send(key);
            sent.push((key, value));
            body.push_str(&format!("{name},cluster=c,hostname={} value={value} {slot}\n", HOSTS[host]));
        }
        self.now += rng.random_range(0..12);
        // As the server does it: at once if that is possible.
        let report = match engine.try_write(body.as_bytes(), None) {
            TryWrite::Done(report) => report,
            TryWrite::Taken(taken) => engine.finish_write(taken),
            TryWrite::Busy => engine.write(body.as_bytes(), None),
        };
        // Samples below a floor are refused; which ones the answer does not say, and the ledger lets them go.
        if report.durability == Durability::Kept && report.bad == 0 {
            self.ledger.acknowledge(&sent, self.mode == WalSync::Always);
        }
    }

    /// Starts on what a crash left, twice, and holds both answers against the ledger. Returns how many samples
    /// were asked for.
    pub(crate) fn judge(&self, image: &SimDisk, kill: bool, label: &str) -> u64 {
        let first = self.recover(image, label);
        let asked = self.ledger.check(&first, kill, label);
        let second = self.recover(image, label);
        assert_eq!(first, second, "{label}: a second recovery differs");
        asked
    }

    fn recover(&self, image: &SimDisk, label: &str) -> BTreeMap<Key, u32> {
        let clock = Arc::new(ManualClock::at(self.now));
        let engine = Engine::open_with(options(self.mode, self.buffer_bytes), Arc::new(image.clone()), clock)
            .unwrap_or_else(|e| panic!("{label}: no start: {e}"));
        engine.load_all();
        let mut seen = BTreeMap::new();
        for (host, host_name) in HOSTS.iter().enumerate() {
            for (metric, &(name, frequency_s)) in METRICS.iter().enumerate() {
                let request = ReadRequest {
                    cluster: "c",
                    host: host_name,
                    metric: name,
                    path: Vec::new().into(),
                    from: START - 60_000,
                    to: self.now + 60_000,
                    resolution_s: 0,
                    points_max: 1_000_000,
                    cells_max: u64::MAX,
                };
                let Some(series) = engine.read(&request).unwrap() else { continue };
                for (at, value) in series.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                    let slot = series.from + at as i64 * i64::from(frequency_s);
                    seen.insert((host, metric, slot), *value as u32);
                }
            }
        }
        seen
    }
}
