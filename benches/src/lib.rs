//! What the benchmarks of the whole engine run on.

use std::path::PathBuf;

use store_loadgen::{Fleet, config};
use store_server::engine::{
    Aggregation as OptionAggregation, Cleanup, EngineLimits, EngineOptions, FileFormat, LOG_BUFFER_BYTES,
    LOG_SEGMENT_BYTES, MetricOption, OPEN_FILES, WalSync,
};

pub use store_workloads::{TERMS, catalog, columns, fleet, messages};

/// An engine for the fleet in `directory`, with a log that is written and not synced.
pub fn options(fleet: &Fleet, directory: PathBuf) -> EngineOptions {
    let metrics = config::catalog(fleet).into_iter().map(|(name, frequency_s, aggregation)| MetricOption {
        name: name.to_owned(),
        frequency_s,
        aggregation: match aggregation {
            Some("sum") => OptionAggregation::Sum,
            Some(_) => OptionAggregation::Avg,
            None => OptionAggregation::None,
        },
    });
    EngineOptions {
        retention_s: 1 << 40,
        checkpoint_interval_s: 43_200,
        memory_cap_bytes: 0,
        num_workers: 1,
        format: FileFormat::Wal,
        portable: false,
        directory,
        min_free_bytes: None,
        max_wal_bytes: 0,
        log_segment_bytes: LOG_SEGMENT_BYTES,
        log_buffer_bytes: LOG_BUFFER_BYTES,
        open_files_max: OPEN_FILES,
        wal_sync: WalSync::Write,
        wal_sync_interval: std::time::Duration::from_secs(1),
        max_future_s: 1 << 40,
        cleanup: Cleanup::Keep,
        limits: EngineLimits { name_bytes: 255, hosts: 100_000, series: 10_000_000, metrics: 1000 },
        metrics: metrics.collect(),
        auto_register: None,
    }
}
