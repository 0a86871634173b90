//! `tidy`: rules of the workspace that no compiler knows.

mod edges;
mod files;

use anyhow::bail;

use crate::workspace;

/// Checks everything, prints every finding, fails if there is one.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = workspace::root();
    let tree = files::Tree::read(&root)?;
    let mut findings = edges::findings(&workspace::metadata()?)?;
    findings.extend(tree.findings());
    for finding in &findings {
        println!("tidy: {finding}");
    }
    println!("longest files:");
    for (lines, path) in tree.longest(5) {
        println!("{lines:>6} {}", path.display());
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}
