//! `alone`: each library crate builds and passes its tests by itself, from its package.
//!
//! What `cargo package` would publish is unpacked into a directory of its own, outside the workspace, with the
//! crates it depends on unpacked beside it and put in their place by `[patch.crates-io]`. So a file that is not
//! packaged, a feature that only another member switches on, or a path that leads out of the crate shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::workspace;

/// The libraries that stand for themselves, lowest first.
const CRATES: [&str; 5] = ["store-disk", "store-core", "store-wal", "store-checkpoint", "store-loadgen"];

/// Arguments of `alone`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these crates; all libraries when there are none.
    crates: Vec<String>,
    /// Builds and does not test.
    #[arg(long)]
    no_test: bool,
}

/// A member of the workspace, as far as packaging goes.
#[derive(Debug, Clone, Default)]
struct Member {
    version: String,
    /// Members that it depends on, in any way.
    needs: BTreeSet<String>,
}

/// Packages, unpacks, builds and tests each crate.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let members = members(&metadata);
    let target = PathBuf::from(metadata["target_directory"].as_str().context("no target directory")?);
    let wanted: Vec<String> = match arguments.crates.as_slice() {
        [] => CRATES.iter().map(|&name| name.to_owned()).collect(),
        given => given.to_vec(),
    };
    for name in &wanted {
        if !members.contains_key(name) {
            bail!("`{name}` is no member of the workspace");
        }
        let closure = closure(&members, name);
        println!("== {name}, with {closure:?}");
        let directory = tempfile::Builder::new().prefix("alone-").tempdir()?;
        let mut package = workspace::cargo();
        // A lock file in the package would need the other members to be found in a registry.
        package.args(["package", "--no-verify", "--allow-dirty", "--exclude-lockfile", "--quiet"]);
        package.args(["--package", name]);
        for other in &closure {
            package.args(["--package", other]);
        }
        workspace::run(&mut package)?;
        for member in closure.iter().chain([name]) {
            unpack(&target, member, &members[member].version, directory.path())?;
        }
        build(name, &closure, &members, directory.path(), &target, arguments.no_test)?;
    }
    println!("{} crates build and pass their tests alone", wanted.len());
    Ok(())
}

fn members(metadata: &Value) -> BTreeMap<String, Member> {
    let packages = || metadata["packages"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = packages().map(|package| text(&package["name"])).collect();
    packages()
        .map(|package| {
            let needs = package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|dependency| text(&dependency["name"]))
                .filter(|name| names.contains(name))
                .collect();
            (text(&package["name"]), Member { version: text(&package["version"]), needs })
        })
        .collect()
}

/// The members below `name`, without itself.
fn closure(members: &BTreeMap<String, Member>, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        for other in members.get(&next).map(|member| &member.needs).into_iter().flatten() {
            if other != name && found.insert(other.clone()) {
                open.push(other.clone());
            }
        }
    }
    found
}

fn unpack(target: &Path, name: &str, version: &str, into: &Path) -> anyhow::Result<()> {
    let archive = target.join("package").join(format!("{name}-{version}.crate"));
    workspace::run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into))
}

fn build(
    name: &str,
    closure: &BTreeSet<String>,
    members: &BTreeMap<String, Member>,
    directory: &Path,
    target: &Path,
    no_test: bool,
) -> anyhow::Result<()> {
    let unpacked = |member: &str| directory.join(format!("{member}-{}", members[member].version));
    let home = unpacked(name);
    let mut manifest = fs::OpenOptions::new().append(true).open(home.join("Cargo.toml"))?;
    // An own workspace: cargo would otherwise look for one in the directories above.
    writeln!(manifest, "\n[workspace]")?;
    if !closure.is_empty() {
        writeln!(manifest, "\n[patch.crates-io]")?;
    }
    for other in closure {
        writeln!(manifest, "{other} = {{ path = {:?} }}", unpacked(other))?;
    }
    // The versions of the workspace, so that nothing has to be looked up.
    fs::copy(workspace::root().join("Cargo.lock"), home.join("Cargo.lock"))?;
    let verbs: &[&str] = if no_test { &["build"] } else { &["build", "test"] };
    for verb in verbs {
        let mut command = workspace::cargo();
        command.current_dir(&home).arg(verb).args(["--offline", "--quiet"]);
        command.env("CARGO_TARGET_DIR", target.join("alone"));
        workspace::run(&mut command).with_context(|| format!("{name} alone"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_closure_holds_what_is_needed_over_several_steps_and_not_the_crate_itself() {
        let package = |name: &str, needs: &[&str]| {
            let needs: Vec<Value> = needs.iter().map(|name| json!({ "name": name })).collect();
            json!({ "name": name, "version": "1.0.0", "dependencies": needs })
        };
        let members = members(&json!({ "packages": [
            package("top", &["middle", "serde"]), package("middle", &["low", "top"]), package("low", &[]),
        ] }));
        let found: Vec<String> = closure(&members, "top").into_iter().collect();
        assert_eq!(found, ["low", "middle"]);
        assert!(closure(&members, "low").is_empty());
        assert_eq!(members["top"].version, "1.0.0");
    }
}
