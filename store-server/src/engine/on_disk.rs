//! [`OnDisk`]: what lies in the directory of a host beside the block files that stay.

use std::path::PathBuf;

use store_checkpoint::superseded::Then;

use super::checkpoint::DumpFile;
use super::roll::Unrolled;

/// What lies in the directory of a host and is to go once something else holds it.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// Files of other formats whose values are in memory; they stay until those are saved.
    pub(super) sources: Vec<PathBuf>,
    /// The original's log, and whether every byte of it was an intact record.
    pub(super) current_wal: Option<(PathBuf, bool)>,
    /// Whether some of these were written under another name of the host.
    pub(super) is_renamed: bool,
    /// Block files, while dumps are written in their place, and what is to become of them then.
    pub(super) block_files: Vec<(PathBuf, Then)>,
    /// Files that others took the place of, and that are to go: until they did the host counts as unsaved in json and
    /// portable mode, and is neither rolled nor cleaned up.
    pub(super) superseded: Vec<(PathBuf, Then)>,
    /// Dumps of this process, in the order of time.
    pub(super) dumps: Vec<DumpFile>,
    /// What is in files that were not rolled yet.
    pub(super) unrolled: Unrolled,
    /// Length of the newest file that was.
    pub(super) rolled_bytes: u64,
    /// Block files with damage, that go aside once what could be read of them is saved elsewhere.
    pub(super) damaged: Vec<PathBuf>,
}

impl OnDisk {
    fn lists(&self) -> [&Vec<PathBuf>; 2] {
        [&self.sources, &self.damaged]
    }

    fn replaced(&self) -> [&Vec<(PathBuf, Then)>; 2] {
        [&self.block_files, &self.superseded]
    }

    /// What was loaded of other formats: it gives way to what is made of it.
    pub(super) fn loaded(&self) -> impl Iterator<Item = (PathBuf, Then)> {
        let sources = self.sources.iter().map(|path| (path.clone(), Then::Remove));
        let then = |intact: bool| if intact { Then::Remove } else { Then::SetAside };
        let current_wal = self.current_wal.iter().map(move |(path, intact)| (path.clone(), then(*intact)));
        sources.chain(current_wal)
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let of_dumps = self.dumps.iter().map(|dump| &dump.path);
        self.lists()
            .into_iter()
            .flatten()
            .chain(self.replaced().into_iter().flatten().map(|(path, _)| path))
            .chain(of_dumps)
            .chain(self.current_wal.iter().map(|(path, _)| path))
    }

    /// Whether nothing is left of what was to go.
    pub(super) fn is_settled(&self) -> bool {
        self.loaded().next().is_none() && self.superseded.is_empty() && self.damaged.is_empty()
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.paths().next().is_none() && self.unrolled.is_empty() && self.rolled_bytes == 0
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.lists().iter().map(|list| list.capacity() * size_of::<PathBuf>()).sum::<usize>()
            + self.replaced().iter().map(|list| list.capacity() * size_of::<(PathBuf, Then)>()).sum::<usize>()
            + self.dumps.capacity() * size_of::<DumpFile>()
            + self.paths().map(|path| path.capacity()).sum::<usize>()
    }
}
