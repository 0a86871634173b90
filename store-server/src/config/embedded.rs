//! What runs without a config file: the usual metrics of HPC nodes, on loopback, data below `./var`.

use super::{Aggregation, Metric};

/// Seconds per step of every metric of the embedded catalog.
pub const FREQUENCY_S: u32 = 10;

/// Rates, volumes and powers: the node's value is the sum over its parts.
const SUM: &[&str] = &[
    "acc_bw_mem",
    "acc_mem_used",
    "acc_power",
    "acc_power_usage",
    "core_power",
    "cpu_power",
    "disk_read_bw",
    "disk_write_bw",
    "dram_power",
    "flops_any",
    "flops_dp",
    "flops_sp",
    "ib_bw",
    "ib_recv",
    "ib_recv_pkts",
    "ib_total",
    "ib_total_pkts",
    "ib_xmit",
    "ib_xmit_pkts",
    "job_mem_used",
    "l2_bw",
    "l3_bw",
    "lustre_close",
    "lustre_open",
    "lustre_read_bw",
    "lustre_statfs",
    "lustre_write_bw",
    "mem_bw",
    "mem_power",
    "mem_read_bw",
    "mem_used",
    "mem_write_bw",
    "net_bw",
    "net_bytes_in",
    "net_bytes_out",
    "net_pkts_in",
    "net_pkts_out",
    "nfs4_read",
    "nfs4_total",
    "nfs4_write",
    "node_power",
    "rapl_power",
    "vectorization_bw",
];

/// Shares, states and temperatures: the node's value is the mean over its parts.
const AVG: &[&str] = &[
    "acc_ecc_errors",
    "acc_fan_speed",
    "acc_mem_clock",
    "acc_mem_util",
    "acc_sm_clock",
    "acc_temp",
    "acc_util",
    "acc_utilization",
    "branch_miss_rate",
    "clock",
    "core_temp",
    "cpi",
    "cpu_idle",
    "cpu_iowait",
    "cpu_irq",
    "cpu_system",
    "cpu_temp",
    "cpu_user",
    "cpu_used",
    "fan_speed",
    "ipc",
    "memoryutilization",
    "temp",
    "vectorization_ratio",
];

/// Values of the node as a whole; there is nothing to combine.
const NONE: &[&str] = &[
    "cpu_load",
    "disk_free",
    "load_fifteen",
    "load_five",
    "load_one",
    "mem_available",
    "mem_buffers",
    "mem_cached",
    "mem_free",
    "mem_total",
    "proc_run",
    "proc_total",
    "swap_free",
    "swap_total",
    "uptime",
];

/// The embedded catalog, sorted by name.
pub fn metrics() -> Vec<Metric> {
    let kinds = [(SUM, Aggregation::Sum), (AVG, Aggregation::Avg), (NONE, Aggregation::None)];
    let mut metrics: Vec<Metric> = kinds
        .into_iter()
        .flat_map(|(names, aggregation)| {
            names.iter().map(move |name| Metric {
                name: (*name).to_owned(),
                frequency_s: FREQUENCY_S,
                aggregation,
            })
        })
        .collect();
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_has_the_usual_metrics_once_each() {
        let metrics = metrics();
        assert!(metrics.windows(2).all(|pair| pair[0].name < pair[1].name), "a name stands twice");
        let aggregation =
            |name: &str| metrics.iter().find(|metric| metric.name == name).map(|m| m.aggregation);
        assert_eq!(aggregation("cpu_load"), Some(Aggregation::None));
        assert_eq!(aggregation("cpu_user"), Some(Aggregation::Avg));
        for name in
            ["mem_used", "mem_bw", "flops_any", "flops_dp", "flops_sp", "net_bw", "ib_recv", "acc_power"]
        {
            assert_eq!(aggregation(name), Some(Aggregation::Sum), "{name}");
        }
        assert!(metrics.iter().all(|metric| metric.frequency_s == FREQUENCY_S));
    }
}
