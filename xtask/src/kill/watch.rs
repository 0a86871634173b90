//! What a store is doing, seen from outside: by the files that grow in its directory.
//!
//! Counters of the server cannot be asked any more once it is killed, and asking them before would tell of
//! another moment. A file that has grown within the last millisecond or two tells what the kill hit.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What happened in the directory between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A block file grew or appeared: a save.
    pub(crate) save: bool,
    /// A `.tmp` is there, or a block file vanished: a roll.
    pub(crate) roll: bool,
    /// A segment of the log appeared or vanished: a switch or a retirement.
    pub(crate) segment: bool,
}

/// Looks at a checkpoint directory again and again.
#[derive(Debug)]
pub(crate) struct Watch {
    directory: PathBuf,
    files: BTreeMap<PathBuf, u64>,
}

impl Watch {
    /// Takes a first look.
    pub(crate) fn new(directory: &Path) -> Self {
        let mut watch = Self { directory: directory.to_owned(), files: BTreeMap::new() };
        watch.look();
        watch
    }

    /// What happened since the last look. Files that vanish while one looks are no errors.
    pub(crate) fn look(&mut self) -> Seen {
        let mut files = BTreeMap::new();
        // An unreadable directory is one that is not there yet.
        drop(list(&self.directory, 0, &mut files));
        let is = |path: &Path, ending: &str| path.extension().is_some_and(|extension| extension == ending);
        let mut seen = Seen::default();
        for (path, length) in &files {
            let before = self.files.get(path);
            seen.roll |= is(path, "tmp");
            seen.save |= is(path, "bin") && before.is_none_or(|before| before < length);
            seen.segment |= is(path, "wal") && before.is_none();
        }
        for path in self.files.keys().filter(|path| !files.contains_key(*path)) {
            seen.roll |= is(path, "bin");
            seen.segment |= is(path, "wal");
        }
        self.files = files;
        seen
    }
}

fn list(directory: &Path, depth: u32, files: &mut BTreeMap<PathBuf, u64>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(data) = entry.metadata() else { continue };
        if !data.is_dir() {
            files.insert(entry.path(), data.len());
        } else if depth < 3 {
            drop(list(&entry.path(), depth + 1, files));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn growth_of_block_files_new_segments_and_temporary_files_are_seen_once() {
        let directory = tempfile::tempdir().unwrap();
        let host = directory.path().join("c/h");
        let log = directory.path().join(".wal");
        fs::create_dir_all(&host).unwrap();
        fs::create_dir_all(&log).unwrap();
        let mut watch = Watch::new(directory.path());
        assert_eq!(watch.look(), Seen::default());
        let mut block = fs::File::create(host.join("1.bin")).unwrap();
        assert_eq!(watch.look(), Seen { save: true, ..Seen::default() });
        block.write_all(b"more").unwrap();
        fs::File::create(log.join("7.wal")).unwrap();
        assert_eq!(watch.look(), Seen { save: true, segment: true, ..Seen::default() });
        assert_eq!(watch.look(), Seen::default());
        fs::remove_file(host.join("1.bin")).unwrap();
        assert_eq!(watch.look(), Seen { roll: true, ..Seen::default() });
    }
}
