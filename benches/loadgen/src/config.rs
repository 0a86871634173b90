//! The config file with a fleet's metrics, in the layout that the original store reads as well.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::fleet::{Fleet, METRICS};

/// What of the config is not a matter of the fleet.
#[derive(Debug, Clone)]
pub struct ConfigOptions<'a> {
    /// Where the server listens.
    pub addr: SocketAddr,
    /// The checkpoint directory.
    pub directory: &'a Path,
    /// `metric-store.retention-in-memory`, in Go's spelling (`48h`).
    pub retention: &'a str,
    /// `metric-store.checkpoint-interval`.
    pub checkpoint_interval: &'a str,
    /// `metric-store.wal-sync`; `None` leaves the key out, because the original refuses it.
    pub wal_sync: Option<&'a str>,
}

/// One entry of the catalog: name, frequency in seconds, aggregation.
pub type CatalogEntry<'a> = (&'a str, u32, Option<&'a str>);

/// The catalog of a fleet.
#[must_use]
pub fn catalog(fleet: &Fleet) -> Vec<CatalogEntry<'static>> {
    METRICS.iter().map(|metric| (metric.name, fleet.options().frequency_s, metric.aggregation)).collect()
}

/// The text of a config file with `catalog` as its metrics.
#[must_use]
pub fn config_text(catalog: &[CatalogEntry<'_>], options: &ConfigOptions<'_>) -> String {
    let mut metrics = String::new();
    for (index, (name, frequency_s, aggregation)) in catalog.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let aggregation = aggregation.map_or_else(|| "null".to_owned(), quoted);
        // Writing to a String does not fail.
        let _infallible = write!(
            metrics,
            "{comma}\n    {}: {{ \"frequency\": {frequency_s}, \"aggregation\": {aggregation} }}",
            quoted(name)
        );
    }
    let wal_sync =
        options.wal_sync.map_or_else(String::new, |mode| format!("\n    \"wal-sync\": {},", quoted(mode)));
    format!(
        r#"{{
  "main": {{ "addr": {addr} }},
  "metric-store": {{
    "retention-in-memory": {retention},
    "memory-cap": 0,
    "checkpoint-interval": {interval},{wal_sync}
    "checkpoints": {{ "file-format": "wal", "directory": {directory} }}
  }},
  "metrics": {{{metrics}
  }}
}}
"#,
        addr = quoted(&options.addr.to_string()),
        retention = quoted(options.retention),
        interval = quoted(options.checkpoint_interval),
        directory = quoted(&options.directory.to_string_lossy()),
    )
}

/// A JSON string; the names here hold nothing that needs more than quotes and backslashes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::FleetOptions;

    #[test]
    fn the_config_names_every_metric_and_leaves_new_keys_out_unless_asked() {
        let fleet = Fleet::new(FleetOptions::default());
        let mut options = ConfigOptions {
            addr: ([127, 0, 0, 1], 8082).into(),
            directory: Path::new("/tmp/a \"b\""),
            retention: "48h",
            checkpoint_interval: "12h",
            wal_sync: None,
        };
        let text = config_text(&catalog(&fleet), &options);
        for metric in &METRICS {
            assert!(text.contains(&format!("\"{}\": {{ \"frequency\": 10", metric.name)), "{text}");
        }
        assert!(text.contains(r#""directory": "/tmp/a \"b\"""#), "{text}");
        assert!(!text.contains("wal-sync"));
        options.wal_sync = Some("always");
        assert!(config_text(&catalog(&fleet), &options).contains(r#""wal-sync": "always","#));
    }
}
