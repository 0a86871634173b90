//! From what is written in a config file to what it means, and to what is wrong with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};

use super::raw;
use super::{
    Aggregation, Cleanup, Config, DEFAULT_CHECKPOINT_INTERVAL_S, DEFAULT_DIRECTORY, EMBEDDED_RETENTION_S,
    FileFormat, Limits, Main, Metric, Problem, Source, Store, WalSync, default_workers,
};
use crate::duration;
use crate::object::Object;

/// Where a config file that does not say so listens.
const DEFAULT_ADDR: &str = "0.0.0.0:8082";
/// The original's `memory-cap` counts decimal gigabytes.
const GIGABYTE: u64 = 1_000_000_000;
/// Longest time between two samples that makes sense as a frequency: a year.
const FREQUENCY_S_MAX: i64 = 366 * 86_400;
/// Longest name that the formats on disk can hold.
const NAME_BYTES_MAX: i64 = 255;

/// Turns what is written into what it means, and collects what makes no sense.
#[derive(Default)]
pub(super) struct Check {
    pub(super) problems: Vec<Problem>,
    warnings: Vec<String>,
    new_keys: Vec<&'static str>,
}

impl Check {
    fn problem(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), what: what.into() });
    }

    fn warn(&mut self, key: &str, what: &str) {
        self.warnings.push(format!("{key}: {what}"));
    }

    /// Notes a key of ours.
    fn ours<T>(&mut self, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_some() {
            self.new_keys.push(key);
        }
        value
    }

    pub(super) fn config(&mut self, file: raw::File, path: &Path) -> Config {
        self.sections(&file);
        let main = self.main(file.main.unwrap_or_default().0);
        let Object(raw_store) = file.metric_store.unwrap_or_default();
        self.nats(file.nats, raw_store.nats_subscriptions.as_deref());
        let limits = self.limits(raw_store.limits.as_deref());
        let store = self.store(raw_store);
        let metrics = self.metrics(file.metrics, &limits);
        Config {
            source: Source::File(path.to_owned()),
            main,
            metrics,
            store,
            limits,
            auto_frequency_s: None,
            warnings: std::mem::take(&mut self.warnings),
            new_keys: std::mem::take(&mut self.new_keys),
        }
    }

    /// Sections that nobody reads. One that may stand for a missing one, by a slip, is no small thing: without `main` the
    /// server would be open to all.
    fn sections(&mut self, file: &raw::File) {
        let is_there = [
            ("main", file.main.is_some()),
            ("metrics", file.metrics.is_some()),
            ("nats", file.nats.is_some()),
            ("metric-store", file.metric_store.is_some()),
        ];
        for name in &file.others {
            let known = is_there.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            match known
                .or_else(|| is_there.iter().find(|(known, _)| name.strip_suffix("-file") == Some(known)))
            {
                Some((known, false)) => {
                    self.problem(name, format!("unknown section; it has to stand here as \"{known}\""));
                }
                _ => self.warn(name, "unknown section, ignored as the original does"),
            }
        }
        if file.main.is_none() && !file.others.is_empty() {
            self.problem("main", format!("missing, and nobody knows what {:?} is", file.others.join(", ")));
        }
    }

    fn main(&mut self, main: raw::Main) -> Main {
        let addr = main.addr.filter(|addr| !addr.is_empty()).unwrap_or_else(|| DEFAULT_ADDR.to_owned());
        if let Err(what) = check_addr(&addr) {
            self.problem("main.addr", what);
        }
        for (key, value) in
            [("main.https-cert-file", &main.https_cert_file), ("main.https-key-file", &main.https_key_file)]
        {
            if is_set(value) {
                self.problem(key, "HTTPS is not supported yet; leave it empty and put a TLS proxy in front");
            }
        }
        for (key, value) in [("main.user", &main.user), ("main.group", &main.group)] {
            if is_set(value) {
                self.warn(key, "not supported yet, ignored; start the server as the user it shall run as");
            }
        }
        if is_set(&main.backend_url) {
            self.warn(
                "main.backend-url",
                "not supported yet, ignored; data of running jobs is not kept longer",
            );
        }
        self.debug("main.debug", main.debug);
        Main {
            addr,
            jwt_public_key: main.jwt_public_key.filter(|key| !key.is_empty()).and_then(|key| self.key(&key)),
            require_roles: self.ours("main.require-roles", main.require_roles).unwrap_or(true),
        }
    }

    fn key(&mut self, text: &str) -> Option<[u8; 32]> {
        const KEY: &str = "main.jwt-public-key";
        // Go's decoder passes over line ends wherever they stand, and over what the last letter has too much.
        let one_line: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
        if one_line.len() < text.len() {
            self.warn(KEY, "has line ends in it, ignored");
        }
        let as_go = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
        match GeneralPurpose::new(&alphabet::STANDARD, as_go).decode(one_line) {
            Ok(bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
                Ok(key) => return Some(key),
                Err(_) => {
                    self.problem(KEY, format!("an Ed25519 key has 32 bytes, this one has {}", bytes.len()))
                }
            },
            Err(error) => self.problem(KEY, format!("not base64: {error}")),
        }
        None
    }

    fn debug(&mut self, key: &str, debug: Option<Object<raw::Debug>>) {
        let Some(Object(debug)) = debug else { return };
        if is_set(&debug.dump_to_file) {
            self.warn(&format!("{key}.dump-to-file"), "has no effect; GET /api/debug gives the dump");
        }
        if debug.gops == Some(true) {
            self.warn(&format!("{key}.gops"), "has no effect; it is a debugger of Go programs");
        }
    }

    fn nats(
        &mut self,
        nats: Option<std::collections::BTreeMap<String, serde_json::Value>>,
        subscriptions: Option<&[Object<raw::Subscription>]>,
    ) {
        for subscription in subscriptions.unwrap_or_default() {
            self.ours("metric-store.nats-subscriptions[].stream", subscription.stream.as_ref());
        }
        self.new_keys.dedup();
        let nats = nats.unwrap_or_default();
        for key in nats.keys().map(|key| key.to_ascii_lowercase()) {
            let known = ["address", "username", "password", "creds-file-path"];
            if !known.contains(&key.as_str()) && !key.starts_with("nkey") {
                let known = known.join(", ");
                self.problem(
                    format!("nats.{key}"),
                    format!("unknown key, expected one of {known}, nkey-seed-file"),
                );
            }
        }
        let address = nats.iter().find(|(key, _)| key.eq_ignore_ascii_case("address"));
        let address = address.and_then(|(_, value)| value.as_str()).unwrap_or_default();
        if !address.is_empty() || subscriptions.is_some_and(|list| !list.is_empty()) {
            self.warn("nats", "not supported yet, ignored; only what is sent over HTTP is stored");
        }
    }

    fn store(&mut self, store: raw::Store) -> Store {
        let retention_s = match &store.retention_in_memory {
            None => {
                self.problem("metric-store.retention-in-memory", "missing (example: \"48h\")");
                EMBEDDED_RETENTION_S
            }
            Some(text) => {
                let retention_s = self.duration_s("metric-store.retention-in-memory", text);
                if retention_s.is_some_and(|retention_s| retention_s < 1) {
                    self.problem(
                        "metric-store.retention-in-memory",
                        format!("{text:?} is less than a second"),
                    );
                }
                retention_s.unwrap_or(EMBEDDED_RETENTION_S)
            }
        };
        if store.memory_cap.is_none() {
            self.problem("metric-store.memory-cap", "missing (gigabytes, 0 for none)");
        }
        let memory_cap_gb = self.at_least("metric-store.memory-cap", store.memory_cap, 0, 0);
        let num_workers = self.at_least("metric-store.num-workers", store.num_workers, 0, 0);
        let Object(checkpoints) = store.checkpoints.unwrap_or_default();
        let checkpoint_interval_s = self.checkpoint_interval(store.checkpoint_interval, checkpoints.interval);
        let max_wal_bytes =
            self.at_least("metric-store.checkpoints.max-wal-size", checkpoints.max_wal_size, 0, 0);
        const MIN_FREE: &str = "metric-store.checkpoints.min-free-bytes";
        let min_free_bytes = self.ours(MIN_FREE, checkpoints.min_free_bytes);
        let min_free_bytes = min_free_bytes.map(|bytes| self.at_least(MIN_FREE, Some(bytes), 0, 0));
        let portable = self.ours("metric-store.checkpoints.portable", checkpoints.portable).unwrap_or(false);
        let file_format = match checkpoints.file_format {
            None | Some(raw::FileFormat::Wal) => FileFormat::Wal,
            Some(raw::FileFormat::Json) => FileFormat::Json,
            Some(raw::FileFormat::Empty) => {
                self.warn("metric-store.checkpoints.file-format", "is empty, taken for \"wal\"");
                FileFormat::Wal
            }
        };
        if portable && file_format == FileFormat::Json {
            self.warn("metric-store.checkpoints.portable", "has no effect with file-format \"json\"");
        }
        let cleanup = self.cleanup(store.cleanup.unwrap_or_default().0);
        self.debug("metric-store.debug", store.debug);
        let wal_sync = match self.ours("metric-store.wal-sync", store.wal_sync) {
            None | Some(raw::WalSync::Interval) => WalSync::Interval,
            Some(raw::WalSync::Always) => WalSync::Always,
            Some(raw::WalSync::Write) => WalSync::Write,
            Some(raw::WalSync::None) => WalSync::None,
        };
        let max_future = self.ours("metric-store.max-future", store.max_future);
        let max_future_s = max_future.and_then(|text| {
            let max_future_s = self.duration_s("metric-store.max-future", &text)?;
            if max_future_s < 0 {
                self.problem("metric-store.max-future", format!("{text:?} is negative"));
            }
            Some(max_future_s)
        });
        Store {
            retention_s,
            memory_cap_bytes: memory_cap_gb.saturating_mul(GIGABYTE),
            num_workers: match usize::try_from(num_workers) {
                Ok(0) | Err(_) => default_workers(),
                Ok(workers) => workers.min(1024),
            },
            checkpoint_interval_s,
            file_format,
            portable,
            directory: PathBuf::from(
                checkpoints
                    .directory
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| DEFAULT_DIRECTORY.into()),
            ),
            min_free_bytes,
            max_wal_bytes,
            cleanup,
            wal_sync,
            wal_sync_interval: self.wal_sync_interval(store.wal_sync_interval),
            max_future_s: max_future_s.unwrap_or(600),
        }
    }

    fn wal_sync_interval(&mut self, text: Option<String>) -> Duration {
        const KEY: &str = "metric-store.wal-sync-interval";
        let default = Duration::from_secs(1);
        let Some(text) = self.ours(KEY, text) else { return default };
        let Some(ns) = self.duration_ns(KEY, &text) else { return default };
        match u64::try_from(ns) {
            Ok(ns) if ns >= 1_000_000 => Duration::from_nanos(ns),
            _ => {
                self.problem(KEY, format!("{text:?} is less than a millisecond"));
                default
            }
        }
    }

    fn checkpoint_interval(&mut self, newer: Option<String>, older: Option<String>) -> i64 {
        let mut interval_s = |key: &str, text: Option<String>| {
            let ns = self.duration_ns(key, &text.filter(|text| !text.is_empty())?)?;
            // Zero means off; less than a second does not.
            Some(if ns > 0 { (ns / 1_000_000_000).max(1) } else { 0 })
        };
        let newer = interval_s("metric-store.checkpoint-interval", newer);
        let older = interval_s("metric-store.checkpoints.interval", older);
        if let (Some(newer), Some(older)) = (newer, older)
            && newer != older
        {
            self.problem(
                "metric-store.checkpoints.interval",
                "says something else than metric-store.checkpoint-interval; leave one of them out",
            );
        }
        newer.or(older).unwrap_or(DEFAULT_CHECKPOINT_INTERVAL_S)
    }

    fn cleanup(&mut self, cleanup: raw::Cleanup) -> Cleanup {
        if is_set(&cleanup.interval) {
            self.warn("metric-store.cleanup.interval", "has no effect; files live as long as the retention");
        }
        match cleanup.mode {
            None | Some(raw::CleanupMode::Delete) => Cleanup::Delete,
            Some(raw::CleanupMode::Empty) => {
                self.warn("metric-store.cleanup.mode", "is empty, taken for \"delete\"");
                Cleanup::Delete
            }
            Some(raw::CleanupMode::Archive) => {
                if !is_set(&cleanup.directory) {
                    self.problem("metric-store.cleanup.directory", "missing; mode \"archive\" needs it");
                }
                self.warn(
                    "metric-store.cleanup.mode",
                    "\"archive\" is not supported yet; old files stay where they are",
                );
                Cleanup::Keep
            }
        }
    }

    fn limits(&mut self, limits: Option<&raw::Limits>) -> Limits {
        let default = Limits::default();
        let Some(limits) = self.ours("metric-store.limits", limits) else { return default };
        let mut limit = |key: &str, value: Option<i64>, default: usize, max: i64| {
            let key = format!("metric-store.limits.{key}");
            match value {
                None => default,
                Some(value) if (1..=max).contains(&value) => usize::try_from(value).unwrap_or(usize::MAX),
                Some(value) => {
                    self.problem(key, format!("{value} is not between 1 and {max}"));
                    default
                }
            }
        };
        Limits {
            body_bytes: limit("body-bytes", limits.body_bytes, default.body_bytes, 1 << 40),
            decoded_bytes: limit("decoded-bytes", limits.decoded_bytes, default.decoded_bytes, 1 << 40),
            points: limit("points", limits.points, default.points, 1 << 40),
            name_bytes: limit("name-bytes", limits.name_bytes, default.name_bytes, NAME_BYTES_MAX),
            hosts: limit("hosts", limits.hosts, default.hosts, i64::from(u32::MAX)),
            series: limit("series", limits.series, default.series, i64::from(u32::MAX)),
            metrics: limit("metrics", limits.metrics, default.metrics, i64::from(u32::MAX)),
        }
    }

    fn metrics(&mut self, metrics: Option<raw::Metrics>, limits: &Limits) -> Vec<Metric> {
        let Some(raw::Metrics(metrics)) = metrics else {
            self.problem("metrics", "missing; samples of metrics that are not listed are dropped");
            return Vec::new();
        };
        if metrics.is_empty() {
            self.problem("metrics", "empty; samples of metrics that are not listed are dropped");
        }
        if metrics.len() > limits.metrics {
            self.problem("metrics", format!("{} metrics; the limit is {}", metrics.len(), limits.metrics));
        }
        metrics.into_iter().filter_map(|(name, metric)| self.metric(name, &metric, limits)).collect()
    }

    fn metric(&mut self, name: String, metric: &raw::Metric, limits: &Limits) -> Option<Metric> {
        let key = format!("metrics.{name}");
        if name.is_empty() || name.len() > limits.name_bytes || name.chars().any(char::is_control) {
            let most = limits.name_bytes;
            self.problem(key, format!("a name has 1 to {most} bytes and no control characters"));
            return None;
        }
        let frequency_s = u32::try_from(metric.frequency)
            .ok()
            .filter(|frequency_s| (1..=FREQUENCY_S_MAX).contains(&i64::from(*frequency_s)));
        let Some(frequency_s) = frequency_s else {
            let what = format!("{} is not between 1 and {FREQUENCY_S_MAX} seconds", metric.frequency);
            self.problem(format!("{key}.frequency"), what);
            return None;
        };
        let aggregation = match metric.aggregation.as_deref() {
            Some("sum") => Aggregation::Sum,
            Some("avg") => Aggregation::Avg,
            None | Some("") => Aggregation::None,
            Some(other) => {
                let key = format!("{key}.aggregation");
                self.warn(&key, &format!("{other:?} is not known (\"sum\", \"avg\", null), taken for null"));
                Aggregation::None
            }
        };
        Some(Metric { name, frequency_s, aggregation })
    }

    /// A number that may be left out and may not be below `least`.
    fn at_least(&mut self, key: &str, value: Option<i64>, least: u64, default: u64) -> u64 {
        let Some(value) = value else { return default };
        match u64::try_from(value) {
            Ok(value) if value >= least => value,
            _ => {
                self.problem(key, format!("{value} is less than {least}"));
                default
            }
        }
    }

    fn duration_ns(&mut self, key: &str, text: &str) -> Option<i64> {
        match duration::parse(text) {
            Ok(ns) => Some(ns),
            Err(error) => {
                self.problem(key, error.to_string());
                None
            }
        }
    }

    /// Whole seconds, rounded towards the past.
    fn duration_s(&mut self, key: &str, text: &str) -> Option<i64> {
        Some(self.duration_ns(key, text)?.div_euclid(1_000_000_000))
    }
}

fn is_set(value: &Option<String>) -> bool {
    value.as_ref().is_some_and(|text| !text.is_empty())
}

/// `host:port`; whether the host exists is found out when the server binds it.
fn check_addr(addr: &str) -> Result<(), String> {
    let Some((host, port)) = addr.rsplit_once(':') else {
        return Err(format!("{addr:?} has no port (example: \"0.0.0.0:8082\")"));
    };
    if port.parse::<u16>().is_err() {
        return Err(format!("{port:?} in {addr:?} is no port number"));
    }
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match plain {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_err() => {
            Err(format!("{address:?} in {addr:?} is no IPv6 address"))
        }
        None if host.contains([':', '[', ']']) => {
            Err(format!("an IPv6 address stands in brackets: \"[{host}]:{port}\""))
        }
        _ => Ok(()),
    }
}
