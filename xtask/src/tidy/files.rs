//! What is wrong with single files: headers, lengths, words, and paths that documents name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// No Rust file is longer.
const LINES_MAX: usize = 800;
/// Directories that hold what tools made.
const SKIPPED: [&str; 5] = ["target", "var", ".git", "corpus", "artifacts"];
/// Texts that belong to one machine or to unfinished work. Cut in two, so that this list does not find itself.
const DENIED: [(&str, &str); 8] = [
    ("/ho", "me/"),
    ("/ro", "ot/"),
    ("/wo", "rk/"),
    ("/Us", "ers/"),
    ("to", "do!("),
    ("unimple", "mented!("),
    ("#[ig", "nore"),
    ("TO", "DO"),
];
/// Words of the server's sources that have few homes: the word, and how the paths begin below `store-server/src` where it
/// may stand. What compares a time with the retention by itself goes by the clock, and the clock may be wrong.
const HOMES: [(&str, &[&str]); 2] = [
    ("retention_s", &["engine/horizon", "engine/options.rs", "config"]),
    ("max_future_s", &["engine/horizon", "engine/options.rs", "config"]),
];
/// Files that are looked at as text.
const TEXT: [&str; 7] = ["rs", "md", "toml", "json", "yml", "sh", "service"];

/// The text files of the workspace.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    /// Path below the root, and content.
    files: Vec<(PathBuf, String)>,
    /// All files below the root, for documents that name one by the end of its path.
    paths: Vec<PathBuf>,
}

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { root: root.to_owned(), files: Vec::new(), paths: Vec::new() };
        tree.walk(root)?;
        tree.files.sort_unstable();
        Ok(tree)
    }

    fn walk(&mut self, directory: &Path) -> anyhow::Result<()> {
        for entry in
            fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?
        {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type()?.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    self.walk(&path)?;
                }
                continue;
            }
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let is_script = path.parent().and_then(Path::file_name).is_some_and(|parent| parent == ".ci");
            if TEXT.contains(&extension.as_str()) || is_script {
                let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                // Fixtures may hold any bytes.
                if let Ok(text) = String::from_utf8(bytes) {
                    self.files.push((path.strip_prefix(&self.root)?.to_owned(), text));
                }
            }
            self.paths.push(path);
        }
        Ok(())
    }

    /// The longest Rust files, longest first.
    pub(crate) fn longest(&self, count: usize) -> Vec<(usize, &Path)> {
        let mut lengths: Vec<(usize, &Path)> =
            self.rust().map(|(path, text)| (text.lines().count(), path)).collect();
        lengths.sort_unstable_by(|left, right| right.cmp(left));
        lengths.truncate(count);
        lengths
    }

    /// Everything that is wrong.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (path, text) in self.rust() {
            let shown = path.display();
            // A format has its description in a document of its own, which is the header of its module.
            if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!(") {
                findings.push(format!("{shown}: does not open with `//!` and what it owns"));
            }
            let lines = text.lines().count();
            if lines > LINES_MAX {
                findings.push(format!("{shown}: {lines} lines; which second noun lives here?"));
            }
            let Ok(below) = path.strip_prefix("store-server/src") else { continue };
            for (word, homes) in HOMES {
                if text.contains(word) && !homes.iter().any(|home| below.to_string_lossy().starts_with(home))
                {
                    findings.push(format!("{shown}: `{word}` has its home in {}", homes[0]));
                }
            }
        }
        for (path, text) in &self.files {
            if is_fixture(path) {
                continue;
            }
            for (index, line) in text.lines().enumerate() {
                for (head, tail) in DENIED {
                    let word = format!("{head}{tail}");
                    if line.contains(&word) {
                        findings.push(format!("{}:{}: `{word}` does not belong", path.display(), index + 1));
                    }
                }
            }
            if path.extension().is_some_and(|extension| extension == "md") {
                for named in named_paths(text) {
                    if !self.exists(path, &named) {
                        findings.push(format!("{}: names `{named}`, which does not exist", path.display()));
                    }
                }
            }
        }
        findings
    }

    fn rust(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// Whether a document at `from` names something that is there: below the root, beside the document, or
    /// anywhere by the end of its path (`engine/load.rs`).
    fn exists(&self, from: &Path, named: &str) -> bool {
        let beside = self.root.join(from).parent().map(Path::to_owned).unwrap_or_default();
        let ends = |path: &PathBuf| path.ends_with(named.trim_start_matches("./"));
        self.root.join(named).exists() || beside.join(named).exists() || self.paths.iter().any(ends)
    }
}

fn is_fixture(path: &Path) -> bool {
    path.components().any(|part| ["golden", "data", "fixtures"].iter().any(|name| part.as_os_str() == *name))
}

/// Paths that a document names in code spans and as targets of links; not those in code blocks, which are
/// examples.
fn named_paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            paths.extend(line.split('`').skip(1).step_by(2).filter(|span| is_path(span)).map(str::to_owned));
            for piece in line.split("](").skip(1) {
                let target = piece.split([')', '#', ' ']).next().unwrap_or_default();
                if !target.is_empty()
                    && !target.contains("::")
                    && !target.contains("://")
                    && !target.starts_with("mailto:")
                {
                    paths.push(target.to_owned());
                }
            }
        }
    }
    paths
}

/// Whether a code span is a path of the repository rather than a route, a type, a pattern or a file of a user.
fn is_path(span: &str) -> bool {
    let plain = span.chars().all(|char| char.is_ascii_alphanumeric() || "._-/".contains(char));
    let source = [".rs", ".md"].iter().any(|end| span.len() > end.len() && span.ends_with(end));
    let below = ["store-", "xtask/", "benches/", "fuzz/", "docs/", ".ci/", ".cargo/"]
        .iter()
        .any(|start| span.starts_with(start) && span.contains('/'));
    plain && !span.starts_with('/') && (source || below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            io_write(&path, text);
        }
        let tree = Tree::read(directory.path()).unwrap();
        (directory, tree)
    }

    fn io_write(path: &Path, text: &str) {
        use std::io::Write as _;
        fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_tidy_tree_has_no_findings() {
        let (_directory, tree) = tree(&[
            ("a/src/lib.rs", "//! A.\n"),
            (
                "a/README.md",
                "See `lib.rs`, [the code](src/lib.rs#L1) and `GET /api/x.rs`.\n```\n`gone.rs`\n```\n",
            ),
            ("target/debug/x.rs", "fn no_header() {}\n"),
        ]);
        assert_eq!(tree.findings(), Vec::<String>::new());
    }

    #[test]
    fn missing_headers_long_files_and_denied_words_are_found_with_their_place() {
        let long = format!("//! Long.\n{}", "//\n".repeat(LINES_MAX));
        let denied = format!("//! D.\n// see {}{}me\n", "/ho", "me/");
        let (_directory, tree) =
            tree(&[("a.rs", "fn a() {}\n"), ("b.rs", &long), ("c.rs", &denied), ("golden/d.json", &denied)]);
        let findings = tree.findings();
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].starts_with("a.rs: does not open"), "{findings:?}");
        assert!(findings[1].starts_with("b.rs: 801 lines"), "{findings:?}");
        assert!(findings[2].starts_with("c.rs:2: "), "{findings:?}");
        assert_eq!(tree.longest(1), [(801, Path::new("b.rs"))]);
    }

    #[test]
    fn nobody_but_the_horizon_and_the_options_names_the_retention() {
        let text = "//! X.\nfn f() { retention_s; }\n";
        let (_directory, tree) = tree(&[
            ("store-server/src/engine/horizon.rs", text),
            ("store-server/src/engine/horizon/tests.rs", text),
            ("store-server/src/config/check.rs", text),
            ("store-server/tests/it/roll.rs", text),
            ("store-server/src/engine/sweep.rs", text),
        ]);
        let findings = tree.findings();
        assert_eq!(
            findings,
            ["store-server/src/engine/sweep.rs: `retention_s` has its home in engine/horizon"]
        );
    }

    #[test]
    fn paths_that_documents_name_and_that_do_not_exist_are_found() {
        let (_directory, tree) = tree(&[
            (
                "ARCHITECTURE.md",
                "`store-x/src/gone.rs`, `lib.rs`, `gone.rs`, [x](docs/gone.md), `a.b.rs()`\n",
            ),
            ("store-x/src/lib.rs", "//! X.\n"),
        ]);
        let findings = tree.findings();
        assert_eq!(findings.len(), 3, "{findings:?}");
        for gone in ["store-x/src/gone.rs", "`gone.rs`", "docs/gone.md"] {
            assert!(findings.iter().any(|finding| finding.contains(gone)), "{gone}: {findings:?}");
        }
    }
}
