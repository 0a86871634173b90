//! Workloads for the benchmarks: seeded, the same in every run.

#![forbid(unsafe_code)]

use store_core::ingest::Terms;
use store_core::metric::{Aggregation, Catalog, Metric};
use store_loadgen::{BodyWriter, Fleet, FleetOptions, config};

/// Terms under which every sample of a fleet is taken.
pub const TERMS: Terms<'static> = Terms {
    default_cluster: None,
    now: i64::MAX / 4,
    oldest: i64::MIN,
    newest: i64::MAX,
    fixed_phase: false,
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
///
/// # Panics
/// If one of them has no frequency.
pub fn catalog(fleet: &Fleet) -> Catalog {
    Catalog::new(config::catalog(fleet).into_iter().map(|(name, frequency_s, aggregation)| Metric {
        name: name.into(),
        frequency_s: frequency_s.try_into().expect("a metric of the fleet has a frequency"),
        aggregation: match aggregation {
            Some("sum") => Aggregation::Sum,
            Some(_) => Aggregation::Avg,
            None => Aggregation::None,
        },
        served: true,
    }))
}

/// The values of the series of one host, a column each of `rows` values.
pub fn columns(fleet: &Fleet, rows: u32) -> Vec<Vec<f32>> {
    (0..fleet.series_per_host())
        .map(|series| (0..rows).map(|step| fleet.value(0, series, step) as f32).collect())
        .collect()
}
