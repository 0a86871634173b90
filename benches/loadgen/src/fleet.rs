//! The fleet: which hosts, metrics and series there are, and when they are sampled.

use crate::value::{Kind, Point, mix};

/// Where below a host a metric is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The host itself (`type=node`).
    Node,
    /// One series per hardware thread (`type=hwthread,type-id=N`).
    Hwthread,
    /// One series per accelerator (`type=accelerator,type-id=PCI address`).
    Accelerator,
}

impl Scope {
    /// The word of the line protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scope::Node => "node",
            Scope::Hwthread => "hwthread",
            Scope::Accelerator => "accelerator",
        }
    }
}

/// A metric of the fleet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name on the wire and in the config.
    pub name: &'static str,
    /// Where it is measured.
    pub scope: Scope,
    /// How its values come about.
    pub kind: Kind,
    /// What the config says about several series: `"sum"`, `"avg"`, or `None`.
    pub aggregation: Option<&'static str>,
}

const fn metric(name: &'static str, scope: Scope, kind: Kind, aggregation: Option<&'static str>) -> Metric {
    Metric { name, scope, kind, aggregation }
}

const fn rate(level: u32, spread_16ths: u32, idle_16ths: u32) -> Kind {
    Kind::Rate { level, spread_16ths, idle_16ths }
}

const fn decimal(low: u32, range: u32, digits: u32) -> Kind {
    Kind::Decimal { low, range, digits }
}

/// The metrics of a busy fleet: 12 of the node, 8 of a hardware thread, 4 of an accelerator.
pub const METRICS: [Metric; 24] = [
    metric("load_one", Scope::Node, decimal(10, 6400, 2), None),
    metric("mem_used", Scope::Node, Kind::Memory { low_kb: 16_000_000, range: 8192 }, None),
    metric("mem_total", Scope::Node, Kind::Constant { value: 263_853_972 }, None),
    metric("disk_free", Scope::Node, Kind::Memory { low_kb: 40_000_000, range: 256 }, None),
    metric("proc_run", Scope::Node, decimal(1, 128, 0), None),
    metric("proc_total", Scope::Node, decimal(800, 512, 0), None),
    metric("node_power", Scope::Node, decimal(180, 4000, 1), Some("sum")),
    metric("net_bytes_in", Scope::Node, rate(120_000, 16, 0), Some("sum")),
    metric("net_bytes_out", Scope::Node, rate(90_000, 16, 0), Some("sum")),
    metric("ib_recv", Scope::Node, Kind::Counter { increment: 4096 }, Some("sum")),
    metric("ib_xmit", Scope::Node, Kind::Counter { increment: 4096 }, Some("sum")),
    metric("lustre_read", Scope::Node, rate(2000, 16, 8), Some("sum")),
    metric("flops_any", Scope::Hwthread, rate(1500, 12, 0), Some("sum")),
    metric("flops_dp", Scope::Hwthread, rate(900, 12, 0), Some("sum")),
    metric("flops_sp", Scope::Hwthread, rate(40, 8, 8), Some("sum")),
    metric("mem_bw", Scope::Hwthread, rate(300, 8, 0), Some("sum")),
    metric("clock", Scope::Hwthread, rate(1700, 2, 0), Some("avg")),
    metric("cpu_user", Scope::Hwthread, decimal(90, 1000, 2), Some("avg")),
    metric("ctx_switch", Scope::Hwthread, Kind::Counter { increment: 256 }, Some("sum")),
    metric("core_temp", Scope::Hwthread, decimal(48, 8, 0), Some("avg")),
    metric("acc_utilization", Scope::Accelerator, decimal(0, 100, 0), Some("avg")),
    metric("acc_mem_used", Scope::Accelerator, Kind::Memory { low_kb: 4_000_000, range: 1024 }, Some("sum")),
    metric("acc_power", Scope::Accelerator, decimal(60, 3000, 1), Some("sum")),
    metric("acc_temp", Scope::Accelerator, decimal(35, 16, 0), Some("avg")),
];

/// What a fleet is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetOptions {
    /// Two fleets of one seed say the same.
    pub seed: u64,
    /// The number of hosts.
    pub hosts: u32,
    /// Hardware threads of a host; with accelerators this scales the series of a host.
    pub hwthreads: u32,
    /// Accelerators of a host, at most 64.
    pub accelerators: u32,
    /// The name of the cluster.
    pub cluster: String,
    /// The time of step 0, seconds since the epoch.
    pub start_s: i64,
    /// Seconds from one step to the next.
    pub frequency_s: u32,
    /// Nothing moves below the hosts: a fleet without jobs.
    pub idle: bool,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            hosts: 100,
            hwthreads: 64,
            accelerators: 4,
            cluster: "hpc".to_owned(),
            start_s: 1_700_000_000,
            frequency_s: 10,
            idle: false,
        }
    }
}

/// One series of every host: the metric and the number of the thread or accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Index into [`METRICS`].
    pub metric: usize,
    /// Which hardware thread or accelerator; 0 for the node.
    pub id: u32,
}

/// Hosts that all have the same series and report at the same times.
#[derive(Debug, Clone)]
pub struct Fleet {
    options: FleetOptions,
    series: Vec<Series>,
    /// How the values of each series come about; looked up for every line.
    kinds: Vec<Kind>,
    host_digits: usize,
}

impl Fleet {
    /// A fleet as `options` say.
    ///
    /// # Panics
    ///
    /// When there are more than 64 accelerators, or the frequency is 0: mistakes of the caller.
    #[must_use]
    pub fn new(options: FleetOptions) -> Self {
        assert!(options.accelerators <= 64, "at most 64 accelerators have an address");
        assert!(options.frequency_s > 0, "the frequency is at least one second");
        // In the order of a collector: all metrics of a thread are not together, all threads of a metric are.
        let mut series = Vec::new();
        for (index, metric) in METRICS.iter().enumerate() {
            let count = match metric.scope {
                Scope::Node => 1,
                Scope::Hwthread => options.hwthreads,
                Scope::Accelerator => options.accelerators,
            };
            series.extend((0..count).map(|id| Series { metric: index, id }));
        }
        let host_digits = (options.hosts.max(1).ilog10() as usize + 1).max(4);
        let kinds = series.iter().map(|series| kind(&METRICS[series.metric], options.idle)).collect();
        Self { options, series, kinds, host_digits }
    }

    /// What the fleet was made from.
    #[must_use]
    pub fn options(&self) -> &FleetOptions {
        &self.options
    }

    /// The series of a host, in the order of the lines of a POST.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// How many series a host has.
    #[must_use]
    pub fn series_per_host(&self) -> usize {
        self.series.len()
    }

    /// How many series the fleet has.
    #[must_use]
    pub fn series_total(&self) -> u64 {
        self.series.len() as u64 * u64::from(self.options.hosts)
    }

    /// The name of a host; all names of a fleet are equally long.
    #[must_use]
    pub fn host_name(&self, host: u32) -> String {
        format!("n{host:0width$}", width = self.host_digits)
    }

    /// The time of a step, seconds since the epoch.
    #[must_use]
    pub fn time_s(&self, step: u32) -> i64 {
        self.options.start_s + i64::from(step) * i64::from(self.options.frequency_s)
    }

    /// The type-id of a series; empty for the node.
    #[must_use]
    pub fn type_id(&self, series: Series) -> String {
        match METRICS[series.metric].scope {
            Scope::Node => String::new(),
            Scope::Hwthread => series.id.to_string(),
            Scope::Accelerator => format!("00000000:{:02x}:00.0", 0x21 + series.id),
        }
    }

    /// What stands before the space of a line of this series, for a host.
    #[must_use]
    pub fn prefix(&self, host: u32, series: Series) -> String {
        let metric = METRICS[series.metric];
        let (name, kind) = (metric.name, metric.scope.name());
        let (cluster, host) = (&self.options.cluster, self.host_name(host));
        match metric.scope {
            Scope::Node => format!("{name},cluster={cluster},hostname={host},type={kind}"),
            _ => {
                let id = self.type_id(series);
                format!("{name},cluster={cluster},hostname={host},type={kind},type-id={id}")
            }
        }
    }

    /// A source of the values of one host at one step.
    #[must_use]
    pub fn step(&self, host: u32, step: u32) -> Step<'_> {
        let host_word = mix(self.options.seed.wrapping_add(1) ^ mix(u64::from(host) << 24));
        Step {
            fleet: self,
            host_word,
            step_word: mix(host_word ^ (u64::from(step) << 17)),
            slow_seed: mix(host_word ^ (u64::from(step / 8) << 17) ^ 0x5151),
            step,
        }
    }

    /// The value of a sample as a receiver reads it from the wire.
    ///
    /// # Panics
    ///
    /// When the generator printed something that is no number, which its tests exclude.
    #[must_use]
    pub fn value(&self, host: u32, series_index: usize, step: u32) -> f64 {
        let mut text = Vec::with_capacity(24);
        self.step(host, step).push(series_index, &mut text);
        let text = std::str::from_utf8(&text).unwrap_or_default();
        match text.trim_end_matches('i').parse() {
            Ok(value) => value,
            Err(error) => panic!("the generator printed `{text}`: {error}"),
        }
    }

    /// Bytes per sample that no lossless codec of f32 values can go below, over the whole mix.
    #[must_use]
    pub fn floor_bytes_per_sample(&self) -> f64 {
        let bits: f64 = self.kinds.iter().map(|kind| kind.floor_bits()).sum();
        bits / 8.0 / self.series.len() as f64
    }
}

/// How the values of a metric come about in a busy or an idle fleet.
fn kind(metric: &Metric, idle: bool) -> Kind {
    match metric.kind {
        kind if !idle || metric.scope == Scope::Node => kind,
        Kind::Rate { .. } => Kind::Constant { value: 0 },
        Kind::Decimal { low, .. } => Kind::Constant { value: low },
        Kind::Counter { .. } => Kind::Constant { value: 1000 },
        Kind::Memory { low_kb, .. } => Kind::Constant { value: low_kb },
        constant @ Kind::Constant { .. } => constant,
    }
}

/// The values of one host at one step.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    fleet: &'a Fleet,
    host_word: u64,
    step_word: u64,
    slow_seed: u64,
    step: u32,
}

impl Step<'_> {
    /// Appends the text of the value of the series at `series_index`.
    ///
    /// # Panics
    ///
    /// When the host has no such series.
    pub fn push(&self, series_index: usize, out: &mut Vec<u8>) {
        let key = (series_index as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let point = Point {
            series_word: mix(self.host_word ^ key),
            step_word: mix(self.step_word ^ key),
            slow_seed: self.slow_seed ^ key,
            step: self.step,
        };
        self.fleet.kinds[series_index].push(point, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_540_series_and_1852_hosts_have_a_million() {
        let fleet = Fleet::new(FleetOptions { hosts: 1852, ..FleetOptions::default() });
        assert_eq!(fleet.series_per_host(), 540);
        assert_eq!(fleet.series_total(), 1_000_080);
    }

    #[test]
    fn the_mix_of_a_busy_fleet_has_the_floor_of_a_real_one_and_an_idle_one_has_next_to_none() {
        let busy = Fleet::new(FleetOptions::default()).floor_bytes_per_sample();
        assert!((1.6..2.1).contains(&busy), "{busy}");
        let idle =
            Fleet::new(FleetOptions { idle: true, ..FleetOptions::default() }).floor_bytes_per_sample();
        assert!(idle < 0.05, "{idle}");
    }

    #[test]
    fn values_depend_on_seed_host_series_and_step_and_on_nothing_else() {
        let fleet = Fleet::new(FleetOptions::default());
        let again = Fleet::new(FleetOptions { hosts: 7, ..FleetOptions::default() });
        let other = Fleet::new(FleetOptions { seed: 2, ..FleetOptions::default() });
        let index =
            fleet.series().iter().position(|series| METRICS[series.metric].name == "flops_any").unwrap();
        let value = fleet.value(3, index, 9);
        assert_eq!(value.to_bits(), again.value(3, index, 9).to_bits());
        assert_ne!(value.to_bits(), other.value(3, index, 9).to_bits());
        assert_ne!(value.to_bits(), fleet.value(4, index, 9).to_bits());
        assert_ne!(value.to_bits(), fleet.value(3, index + 1, 9).to_bits());
        assert_ne!(value.to_bits(), fleet.value(3, index, 10).to_bits());
    }

    #[test]
    fn metric_names_are_unique() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
