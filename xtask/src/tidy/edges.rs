//! Which crate may depend on which: the layers, as a table.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

/// Edges inside the workspace. A crate that is not named here is a finding: a new crate is a decision.
const EDGES: [(&str, &[&str]); 9] = [
    ("store-core", &[]),
    ("store-disk", &[]),
    ("store-wal", &["store-disk"]),
    ("store-checkpoint", &["store-core", "store-disk"]),
    ("store-server", &["store-core", "store-disk", "store-wal", "store-checkpoint"]),
    // Black-box tools: a fault of the store must not be able to hide in what measures it.
    ("store-loadgen", &[]),
    ("xtask", &["store-loadgen"]),
    ("store-workloads", &["store-core", "store-loadgen"]),
    (
        "store-benches",
        &["store-core", "store-disk", "store-checkpoint", "store-server", "store-loadgen", "store-workloads"],
    ),
];

/// Crates from outside that have few homes.
const HOMES: [(&str, &[&str]); 9] = [
    ("tokio", &["store-server"]),
    ("axum", &["store-server"]),
    ("hyper", &["store-server"]),
    ("hyper-util", &["store-server"]),
    ("tower", &["store-server"]),
    ("tower-http", &["store-server"]),
    ("anyhow", &["store-server", "store-loadgen", "xtask", "store-benches"]),
    ("memmap2", &["store-disk"]),
    ("bincode", &["store-checkpoint"]),
];

/// What of `metadata` (of `cargo metadata --no-deps`) is not in the tables. Edges of tests and builds count too:
/// a crate that needs its upper neighbour for its tests cannot be tested alone.
pub(crate) fn findings(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let edges: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let homes: BTreeMap<&str, &[&str]> = HOMES.into_iter().collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let Some(allowed) = edges.get(name) else {
            findings.push(format!("{name}: no row in the table of layers"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            if members.contains(target) && target != name && !allowed.contains(&target) {
                findings.push(format!("{name} depends on {target}: no such edge between layers"));
            }
            if homes.get(target).is_some_and(|homes| !homes.contains(&name)) {
                findings.push(format!("{name} depends on {target}: its home is elsewhere"));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let list: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "packages": [
            { "name": name, "dependencies": list },
            { "name": "store-server", "dependencies": [] },
            { "name": "store-disk", "dependencies": [] },
        ] })
    }

    #[test]
    fn an_edge_of_the_table_is_silent_and_any_other_is_found() {
        assert!(findings(&metadata("store-wal", &[("store-disk", None)])).unwrap().is_empty());
        for kind in [None, Some("dev"), Some("build")] {
            let found = findings(&metadata("store-wal", &[("store-server", kind)])).unwrap();
            assert_eq!(found, ["store-wal depends on store-server: no such edge between layers"]);
        }
    }

    #[test]
    fn crates_from_outside_stay_in_their_homes() {
        let found = findings(&metadata("store-core", &[("tokio", None), ("bytes", None)])).unwrap();
        assert_eq!(found, ["store-core depends on tokio: its home is elsewhere"]);
        assert!(findings(&metadata("xtask", &[("anyhow", None)])).unwrap().is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let found = findings(&metadata("store-new", &[])).unwrap();
        assert_eq!(found, ["store-new: no row in the table of layers"]);
    }
}
