//! The config file as it is written: every key, its type, and nothing about what it means.
//!
//! Every value may be `null`, which says the same as leaving the key out. Keys that are not here are refused, but for
//! whole sections: the original looks only for its own.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::object::Object;

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) main: Option<Object<Main>>,
    pub(super) metrics: Option<Metrics>,
    /// Checked by hand: the original knows keys of several ways to log in.
    pub(super) nats: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) metric_store: Option<Object<Store>>,
    /// Names of sections that nobody reads, in their order.
    pub(super) others: Vec<String>,
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut file = File::default();
        let mut seen: Vec<String> = Vec::new();
        // Names of sections are the one place where the original looks at the case.
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(A::Error::custom(format_args!("section `{name}` stands here twice")));
            }
            match name.as_str() {
                "main" => file.main = map.next_value()?,
                "metrics" => file.metrics = map.next_value()?,
                "nats" => file.nats = map.next_value()?,
                "metric-store" => file.metric_store = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    file.others.push(name.clone());
                }
            }
            seen.push(name);
        }
        Ok(file)
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Main {
    pub(super) addr: Option<String>,
    pub(super) https_cert_file: Option<String>,
    pub(super) https_key_file: Option<String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) backend_url: Option<String>,
    pub(super) jwt_public_key: Option<String>,
    pub(super) debug: Option<Object<Debug>>,
    pub(super) require_roles: Option<bool>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Debug {
    pub(super) dump_to_file: Option<String>,
    pub(super) gops: Option<bool>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Metric {
    pub(super) frequency: i64,
    /// Any text: the original takes one that it does not know for none.
    #[serde(default)]
    pub(super) aggregation: Option<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Store {
    pub(super) retention_in_memory: Option<String>,
    pub(super) memory_cap: Option<i64>,
    pub(super) num_workers: Option<i64>,
    pub(super) checkpoint_interval: Option<String>,
    pub(super) checkpoints: Option<Object<Checkpoints>>,
    pub(super) cleanup: Option<Object<Cleanup>>,
    pub(super) debug: Option<Object<Debug>>,
    pub(super) nats_subscriptions: Option<Vec<Object<Subscription>>>,
    pub(super) wal_sync: Option<WalSync>,
    pub(super) wal_sync_interval: Option<String>,
    pub(super) max_future: Option<String>,
    pub(super) limits: Option<Object<Limits>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Checkpoints {
    pub(super) file_format: Option<FileFormat>,
    pub(super) directory: Option<String>,
    pub(super) max_wal_size: Option<i64>,
    pub(super) min_free_bytes: Option<i64>,
    pub(super) portable: Option<bool>,
    /// Where the older layout has `checkpoint-interval`.
    pub(super) interval: Option<String>,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileFormat {
    Wal,
    Json,
    /// The original takes an empty text.
    #[serde(rename = "")]
    Empty,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Cleanup {
    pub(super) mode: Option<CleanupMode>,
    pub(super) directory: Option<String>,
    /// Of the older layout; the interval is the retention since.
    pub(super) interval: Option<String>,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CleanupMode {
    Delete,
    Archive,
    /// The original takes an empty text.
    #[serde(rename = "")]
    Empty,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Subscription {
    #[serde(rename = "subscribe-to")]
    pub(super) _subscribe_to: String,
    #[serde(rename = "cluster-tag", default)]
    pub(super) _cluster_tag: Option<String>,
    #[serde(default)]
    pub(super) stream: Option<String>,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WalSync {
    Always,
    Interval,
    Write,
    None,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Limits {
    pub(super) body_bytes: Option<i64>,
    pub(super) decoded_bytes: Option<i64>,
    pub(super) points: Option<i64>,
    pub(super) name_bytes: Option<i64>,
    pub(super) hosts: Option<i64>,
    pub(super) series: Option<i64>,
    pub(super) metrics: Option<i64>,
}

/// The metrics in the order of their names; a name that stands twice is an error, not a silent choice.
#[derive(Debug, Default)]
pub(super) struct Metrics(pub(super) BTreeMap<String, Object<Metric>>);

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetricsVisitor)
    }
}

struct MetricsVisitor;

impl<'de> Visitor<'de> for MetricsVisitor {
    type Value = Metrics;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
        let mut metrics = BTreeMap::new();
        while let Some((name, metric)) = map.next_entry::<String, Object<Metric>>()? {
            if metrics.contains_key(&name) {
                return Err(A::Error::custom(format_args!("metric `{name}` stands here twice")));
            }
            metrics.insert(name, metric);
        }
        Ok(Metrics(metrics))
    }
}
