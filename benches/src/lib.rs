//! Workloads for the benchmarks: seeded, the same in every run.

use std::path::PathBuf;

use store_core::metric::{Aggregation, Catalog, Metric};
use store_loadgen::{BodyWriter, Fleet, FleetOptions, config};
use store_server::engine::{
    Aggregation as OptionAggregation, Cleanup, EngineLimits, EngineOptions, FileFormat, LOG_SEGMENT_BYTES,
    MetricOption, WalSync,
};

/// A fleet of `hosts` nodes with 540 series each.
pub fn fleet(hosts: u32) -> Fleet {
    Fleet::new(FleetOptions { hosts, ..FleetOptions::default() })
}

/// The messages of one step, one for each host.
pub fn messages(fleet: &Fleet, step: u32) -> Vec<Vec<u8>> {
    let mut writer = BodyWriter::new(fleet);
    (0..fleet.options().hosts)
        .map(|host| {
            let mut body = Vec::new();
            writer.write_step(host, step, None, &mut body);
            body
        })
        .collect()
}

/// The fleet's metrics.
pub fn catalog(fleet: &Fleet) -> Catalog {
    Catalog::new(config::catalog(fleet).into_iter().map(|(name, frequency_s, aggregation)| Metric {
        name: name.into(),
        frequency_s,
        aggregation: match aggregation {
            Some("sum") => Aggregation::Sum,
            Some(_) => Aggregation::Avg,
            None => Aggregation::None,
        },
        served: true,
    }))
}

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
        max_wal_bytes: 0,
        log_segment_bytes: LOG_SEGMENT_BYTES,
        wal_sync: WalSync::Write,
        wal_sync_interval: std::time::Duration::from_secs(1),
        max_future_s: 1 << 40,
        cleanup: Cleanup::Keep,
        limits: EngineLimits { name_bytes: 255, hosts: 100_000, series: 10_000_000, metrics: 1000 },
        metrics: metrics.collect(),
        auto_register: None,
    }
}
