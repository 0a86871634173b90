//! [`DurableDirs`]: which host directories outlive a power cut.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use store_disk::Disk;

use crate::files::directory_of;

/// Host directories whose names are known to be durable: their parents were synced, successfully, by this
/// process, whoever created them.
///
/// A directory that lies there at start may have been created by a process that was killed before it synced
/// the parent; what is written into it would vanish with it. So everything that writes into host directories
/// shares one of these, and asks it first.
#[derive(Debug, Default)]
pub struct DurableDirs {
    /// Cluster and host directories. Held for look-ups only, never while the disk works.
    durable: Mutex<HashSet<PathBuf>>,
}

impl DurableDirs {
    /// Knows of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        // A byte an entry besides the entries.
        durable.capacity() * (size_of::<PathBuf>() + 1) + durable.iter().map(PathBuf::capacity).sum::<usize>()
    }

    /// Makes `host_dir`, `<directory>/<cluster>/<host>`, exist and its name durable. `<directory>` exists.
    ///
    /// # Errors
    /// What the system says; nothing may be promised of files in the directory then. May be tried again.
    pub fn ensure(&self, disk: &dyn Disk, host_dir: &Path) -> io::Result<()> {
        self.ensure_all(disk, [host_dir])
    }

    /// As [`ensure`](Self::ensure) for many, with one sync for each cluster that has new ones and one for the
    /// directory of the clusters.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure); the first error ends the work, what was made durable before stays known.
    pub fn ensure_all<'p>(
        &self,
        disk: &dyn Disk,
        host_dirs: impl IntoIterator<Item = &'p Path>,
    ) -> io::Result<()> {
        // Grouped by hand rather than in a map, so that the order of calls is that of the argument.
        let mut clusters: Vec<(&Path, Vec<&Path>)> = Vec::new();
        for host_dir in host_dirs.into_iter().filter(|dir| !self.knows(dir)) {
            let cluster = directory_of(host_dir);
            match clusters.iter_mut().find(|(dir, _)| *dir == cluster) {
                Some((_, hosts)) => hosts.push(host_dir),
                None => clusters.push((cluster, vec![host_dir])),
            }
        }
        let fresh: Vec<&Path> = clusters.iter().map(|(dir, _)| *dir).filter(|dir| !self.knows(dir)).collect();
        create_and_sync(disk, &fresh)?;
        self.note(&fresh);
        for (_, hosts) in clusters {
            create_and_sync(disk, &hosts)?;
            self.note(&hosts);
        }
        Ok(())
    }

    /// Forgets a directory: its host is gone, and may never come again.
    pub fn forget(&self, host_dir: &Path) {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).remove(host_dir);
    }

    fn knows(&self, dir: &Path) -> bool {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(dir)
    }

    fn note(&self, dirs: &[&Path]) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.extend(dirs.iter().map(|&dir| dir.to_owned()));
    }
}

/// Creates directories that share a parent where they are missing, then syncs the parent.
fn create_and_sync(disk: &dyn Disk, dirs: &[&Path]) -> io::Result<()> {
    for dir in dirs {
        disk.create_dir(dir)?;
    }
    dirs.first().map_or(Ok(()), |dir| disk.sync_dir(directory_of(dir)))
}
