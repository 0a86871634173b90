//! [`DurableDirs`]: which host directories outlive a power cut.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use store_disk::Disk;

use crate::files::directory_of;
use crate::save::SYNC_EACH_MAX;

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

    /// As [`ensure`](Self::ensure) for many. Where more than [`SYNC_EACH_MAX`] directories got new names, one sync of
    /// the whole file system takes the place of one for each of them, if the system has such a call.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure); the first error ends the work, what was made durable before stays known.
    pub fn ensure_all<'p>(
        &self,
        disk: &dyn Disk,
        host_dirs: impl IntoIterator<Item = &'p Path>,
    ) -> io::Result<()> {
        let clusters = self.unknown_by_cluster(host_dirs);
        let Some((first, _)) = clusters.first() else { return Ok(()) };
        let fresh: Vec<&Path> = clusters.iter().map(|(dir, _)| *dir).filter(|dir| !self.knows(dir)).collect();
        if clusters.len() > SYNC_EACH_MAX {
            let all =
                || fresh.iter().copied().chain(clusters.iter().flat_map(|(_, hosts)| hosts.iter().copied()));
            all().try_for_each(|dir| disk.create_dir(dir).map(drop))?;
            if disk.sync_all(directory_of(first))? {
                self.note(all());
                return Ok(());
            }
        }
        create_and_sync(disk, &fresh)?;
        self.note(fresh.iter().copied());
        for (_, hosts) in &clusters {
            create_and_sync(disk, hosts)?;
            self.note(hosts.iter().copied());
        }
        Ok(())
    }

    /// The host directories that it does not know, by the directory of their cluster. The order is that of the
    /// argument, so that the order of calls on the disk is too.
    fn unknown_by_cluster<'p>(
        &self,
        host_dirs: impl IntoIterator<Item = &'p Path>,
    ) -> Vec<(&'p Path, Vec<&'p Path>)> {
        let mut clusters: Vec<(&Path, Vec<&Path>)> = Vec::new();
        let mut places: HashMap<&Path, usize> = HashMap::new();
        for host_dir in host_dirs.into_iter().filter(|dir| !self.knows(dir)) {
            let cluster = directory_of(host_dir);
            let place = *places.entry(cluster).or_insert_with(|| {
                clusters.push((cluster, Vec::new()));
                clusters.len() - 1
            });
            clusters[place].1.push(host_dir);
        }
        clusters
    }

    /// Forgets a directory: its host is gone, and may never come again.
    pub fn forget(&self, host_dir: &Path) {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).remove(host_dir);
    }

    fn knows(&self, dir: &Path) -> bool {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(dir)
    }

    fn note<'p>(&self, dirs: impl IntoIterator<Item = &'p Path>) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.extend(dirs.into_iter().map(Path::to_owned));
    }
}

/// Creates directories that share a parent where they are missing, then syncs the parent.
fn create_and_sync(disk: &dyn Disk, dirs: &[&Path]) -> io::Result<()> {
    for dir in dirs {
        disk.create_dir(dir)?;
    }
    dirs.first().map_or(Ok(()), |dir| disk.sync_dir(directory_of(dir)))
}

#[cfg(test)]
mod tests {
    use store_disk::SimDisk;
    use store_disk::sim::{Effect, Fault, Op};

    use super::*;

    const EIO: i32 = 5;

    fn disk() -> SimDisk {
        let disk = SimDisk::new();
        disk.put_dir("/data").unwrap();
        disk
    }

    fn host_dirs(clusters: usize) -> Vec<PathBuf> {
        (0..2 * clusters).map(|at| format!("/data/c{}/n{at}", at % clusters).into()).collect()
    }

    fn ensure(dirs: &DurableDirs, disk: &SimDisk, wanted: &[PathBuf]) -> io::Result<()> {
        dirs.ensure_all(disk, wanted.iter().map(PathBuf::as_path))
    }

    /// Whether all of them outlive a power loss that keeps nothing that was not synced.
    fn outlive(disk: &SimDisk, wanted: &[PathBuf]) -> bool {
        let left = disk.after_power_loss(&store_disk::sim::Keep::Nothing).dirs();
        wanted.iter().all(|dir| left.contains(dir))
    }

    #[test]
    fn the_directories_of_many_clusters_cost_one_sync_of_the_file_system() {
        for (clusters, each, all) in [(SYNC_EACH_MAX, SYNC_EACH_MAX as u64 + 1, 0), (300, 0, 1)] {
            let (dirs, disk, wanted) = (DurableDirs::new(), disk(), host_dirs(clusters));
            ensure(&dirs, &disk, &wanted).unwrap();
            assert_eq!((disk.calls_of(Op::SyncDir), disk.calls_of(Op::SyncAll)), (each, all), "{clusters}");
            assert!(outlive(&disk, &wanted), "{clusters}");
            let calls = disk.calls();
            ensure(&dirs, &disk, &wanted).unwrap();
            assert_eq!(disk.calls(), calls, "what is known asks nobody");
        }
    }

    #[test]
    fn without_a_sync_of_the_file_system_each_directory_is_synced() {
        let (dirs, disk, wanted) = (DurableDirs::new(), disk(), host_dirs(40));
        disk.set_sync_all(false);
        ensure(&dirs, &disk, &wanted).unwrap();
        assert_eq!(disk.calls_of(Op::SyncDir), 41);
        assert!(outlive(&disk, &wanted));
    }

    #[test]
    fn nothing_is_known_to_be_durable_after_a_sync_of_the_file_system_that_failed() {
        let (dirs, disk, wanted) = (DurableDirs::new(), disk(), host_dirs(40));
        disk.fail(Fault::new(Effect::Error(EIO), |call| call.op == Op::SyncAll));
        ensure(&dirs, &disk, &wanted).unwrap_err();
        assert_eq!(dirs.durable.lock().unwrap().len(), 0);
        ensure(&dirs, &disk, &wanted).unwrap();
        assert!(outlive(&disk, &wanted));
    }
}
