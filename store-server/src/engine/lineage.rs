//! Whose store this is: the lineage of the directory, where its log begins, and which releases wrote it.
//!
//! The log decides. What is acknowledged and not saved stands in it alone, so it is never given up for files that lie
//! beside it, however many they are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store_checkpoint::blockfile;
use store_checkpoint::files::{HostDir, HostFiles};
use store_disk::{Disk, Lineage};
use store_wal::{Found, LogPos};

use super::open::front_of;
use super::options::OpenError;

/// How long a start looks through the headers of block files for those of other releases, before it takes samples. What
/// it does not come to is found when the host is loaded.
const LOOK: Duration = Duration::from_millis(300);

/// What the log and the block files say of the directory.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) lineage: Lineage,
    /// Where the replay begins.
    pub(super) start: LogPos,
    /// Segments have greater numbers than this.
    pub(super) number_above: u32,
}

impl Origin {
    /// Finds out whose the directory is.
    ///
    /// # Errors
    /// [`OpenError::Version`]: files of this store were written by another release.
    pub(super) fn find(disk: &dyn Disk, found: &Found, hosts: &[HostDir]) -> Result<Self, OpenError> {
        let origin = match found.lineages()[..] {
            [ours] => Self::of_log(found, ours),
            [] => Self::without_frames(disk, found, hosts),
            // Segments of another store were put beside ours: block files say which are whose.
            ref several => {
                let known = Census::take(disk, hosts);
                let most = several.iter().map(|lineage| known.files_of(*lineage)).max().unwrap_or(0);
                let mut ours = several.iter().filter(|lineage| known.files_of(**lineage) == most);
                match (ours.next(), ours.next()) {
                    (Some(ours), None) => Self::of_log(found, *ours),
                    // Either may hold what is nowhere else.
                    _ => return Err(OpenError::SeveralLogs { directory: found.dir().to_owned() }),
                }
            }
        };
        if let Some((path, version)) = found.other_version(origin.lineage) {
            let reads = store_wal::format::VERSION;
            return Err(OpenError::Version { path: path.to_owned(), version, reads });
        }
        match of_other_release(disk, hosts, origin.lineage, Instant::now() + LOOK) {
            Some(refusal) => Err(refusal),
            None => Ok(origin),
        }
    }

    fn of_log(found: &Found, lineage: Lineage) -> Self {
        Self { lineage, start: found.start(lineage).unwrap_or(LogPos::ZERO), number_above: 0 }
    }

    /// No segment has both a whole header and an intact frame: what is in block files may be all there is.
    fn without_frames(disk: &dyn Disk, found: &Found, hosts: &[HostDir]) -> Self {
        let census = Census::take(disk, hosts);
        // Where only the header rotted, the lineage of the block files opens the frames.
        let opened = census.0.iter().find(|seen| found.start(seen.lineage).is_some());
        let opened = opened.map(|seen| seen.lineage);
        // A header without a frame behind it is what a crash in the very first open leaves.
        let bare = found.lineage().filter(|bare| census.0.is_empty() || census.files_of(*bare) > 0);
        let most = census.0.first().map(|seen| seen.lineage);
        let lineage = opened.or(found.lineage_of_other_version()).or(bare).or(most);
        let lineage = lineage.unwrap_or_else(Lineage::random);
        let newest = census.0.iter().map(|seen| seen.newest).max().unwrap_or(0);
        // Positions go on behind everything that is saved.
        let number_above = u32::try_from(newest >> 32).unwrap_or(u32::MAX);
        let behind = LogPos::from_u64(if newest == 0 { 0 } else { newest + 1 });
        Self { lineage, start: found.start(lineage).unwrap_or(behind), number_above }
    }
}

/// The block files of one lineage.
#[derive(Debug)]
struct Seen {
    lineage: Lineage,
    files: usize,
    /// The greatest `as_of` of them.
    newest: u64,
}

/// The lineages of all block files, the one with the most files first.
#[derive(Debug)]
struct Census(Vec<Seen>);

impl Census {
    fn take(disk: &dyn Disk, hosts: &[HostDir]) -> Self {
        let mut all: Vec<Seen> = Vec::new();
        for host in hosts {
            for (path, _) in block_files(disk, host) {
                let Ok(file) = disk.open(&path) else { continue };
                let index = blockfile::index(&*file);
                let Some(lineage) = index.lineage else { continue };
                let newest = index.blocks.iter().map(|block| block.header.as_of.0).max().unwrap_or(0);
                match all.iter_mut().find(|seen| seen.lineage == lineage) {
                    Some(seen) => (seen.files, seen.newest) = (seen.files + 1, seen.newest.max(newest)),
                    None => all.push(Seen { lineage, files: 1, newest }),
                }
            }
        }
        all.sort_by_key(|seen| std::cmp::Reverse((seen.files, seen.newest)));
        Self(all)
    }

    fn files_of(&self, lineage: Lineage) -> usize {
        self.0.iter().find(|seen| seen.lineage == lineage).map_or(0, |seen| seen.files)
    }
}

/// The first block file of `lineage` that was written in a version which this release does not read, as far as the time
/// goes.
fn of_other_release(
    disk: &dyn Disk,
    hosts: &[HostDir],
    lineage: Lineage,
    until: Instant,
) -> Option<OpenError> {
    hosts.iter().take_while(|_| Instant::now() < until).find_map(|host| {
        block_files(disk, host)
            .into_iter()
            .find_map(|(path, front)| refusal(path, &front_of(&front), lineage))
    })
}

/// Why a start refuses a file, if it is of this store and another release wrote it.
fn refusal(path: PathBuf, index: &blockfile::Index, lineage: Lineage) -> Option<OpenError> {
    let other = index.other_release.filter(|_| index.lineage == Some(lineage))?;
    let (version, reads) = (u32::from(other.version), u32::from(blockfile::VERSION));
    Some(match version == reads {
        true => OpenError::Flags { path, flags: other.flags },
        false => OpenError::Version { path, version, reads },
    })
}

/// The block files of a host directory, with their headers.
fn block_files(disk: &dyn Disk, host: &HostDir) -> Vec<(PathBuf, Vec<u8>)> {
    let files = HostFiles::list(disk, &host.path).map(|files| files.numbered).unwrap_or_default();
    let front = |path: &Path| disk.read_front(path, blockfile::HEADER_BYTES).ok();
    let bins = files.iter().filter(|file| !file.json).map(|file| host.path.join(&file.name));
    bins.filter_map(|path| front(&path).map(|front| (path, front)))
        .filter(|(_, front)| blockfile::is_block_file(front))
        .collect()
}
