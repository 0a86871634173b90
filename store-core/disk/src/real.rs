//! The file system of the machine.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, DiskFile, DiskLock, Entry, EntryKind, Identity, Space};
use crate::replace::directory_of;
use crate::view::{FileView, ReadFile};

mod map;
mod sigbus;

use map::MappedFile;

/// Maps that Linux allows a process, unless `vm.max_map_count` says otherwise.
const SYSTEM_MAPS: usize = 65_530;

/// How the bytes of a mapped file are got at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageAccess {
    /// Pages are made present by a call, and then read in place.
    Populate,
    /// They are read into memory at each access, as on kernels that lack that call.
    Read,
}

/// The file system of the machine; a cheap handle, clones share one budget of maps.
///
/// The last component of a path is never followed if it is a symbolic link: such files give `ELOOP` and such
/// directories `NotADirectory`. Who lets the user name a directory resolves it first.
///
/// # Maps
///
/// A [view](ReadFile::view) is the page cache itself. A file may be renamed or unlinked under its map. A disk that refuses
/// a page, and somebody outside who *cuts* the file (`truncate`, `> file`; not `cp` of a new file over a removed one),
/// make an access to the map a signal, SIGBUS; so a range is made present before it is touched, by a call that
/// returns an error instead (`MADV_POPULATE_READ`, Linux 5.14 and later). From then on the file is read
/// (`pread`), and what cannot be read is an error of its own. Older kernels read from the beginning. What can
/// still happen is that a page is lost between the call and the access: then the process ends with a line that
/// names the file. Who overwrites a file changes what is read, which checksums tell. The store itself never cuts or overwrites
/// one. Files on network file systems, where another machine may do so, are read into memory instead
/// of mapped, and so are files beyond the budget of maps.
///
/// # Syncs
///
/// [`sync_all`](Disk::sync_all) is there on Linux 5.8 and later, where `syncfs` reports what failed, and on
/// file systems of this machine (not through an overlay). It reports what failed since its descriptor was
/// opened: by the first [`lock`](Disk::lock), [`create`](Disk::create) or `sync_all` on a file system, once
/// and for all. Where directories below `dir` are mounted from elsewhere, all file systems on which files
/// were created are synced.
#[derive(Debug, Clone)]
pub struct RealDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    maps_max: usize,
    access: PageAccess,
    maps: AtomicUsize,
    /// Whether the kernel's `syncfs` reports errors.
    syncfs_reports: bool,
    /// Guards the list only; never held over a sync.
    file_systems: Mutex<Vec<Arc<FileSystem>>>,
}

/// A file system that something was written to.
#[derive(Debug)]
struct FileSystem {
    device: u64,
    /// Some directory of it, kept open so that no write-back error between two syncs is missed.
    dir: File,
    /// Whether `syncfs` of it can be believed.
    syncs: bool,
}

impl RealDisk {
    /// A disk with at most `maps_max` maps alive at any time; 0: files are always read.
    pub fn new(maps_max: usize) -> Self {
        let access = if kernel_is(POPULATE_SINCE) { PageAccess::Populate } else { PageAccess::Read };
        Self::with_access(maps_max, access)
    }

    /// The same with a choice how the bytes of maps are got at, whatever the kernel can.
    pub fn with_access(maps_max: usize, access: PageAccess) -> Self {
        let shared = Shared {
            maps_max,
            access,
            maps: AtomicUsize::new(0),
            syncfs_reports: kernel_is(SYNCFS_REPORTS_SINCE),
            file_systems: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Maps alive now.
    pub fn maps(&self) -> usize {
        self.shared.maps.load(Ordering::Relaxed)
    }

    /// The file system that holds `dir`; remembered, with an open descriptor.
    fn file_system(&self, dir: &Path) -> io::Result<Arc<FileSystem>> {
        let metadata = fs::metadata(dir)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let device = metadata.dev();
        let find = |list: &[Arc<FileSystem>]| list.iter().find(|one| one.device == device).cloned();
        if let Some(known) = find(&self.known()) {
            return Ok(known);
        }
        let dir = open_dir(dir)?;
        let opened = Arc::new(FileSystem { device, syncs: is_own(&dir), dir });
        let mut list = self.known();
        // Another thread may have been here meanwhile; its descriptor is the older one.
        if let Some(known) = find(&list) {
            return Ok(known);
        }
        list.push(Arc::clone(&opened));
        Ok(opened)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Arc<FileSystem>>> {
        self.shared.file_systems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk with a budget of four fifths of the maps that the system allows a process (`vm.max_map_count`): the
/// allocator and the threads want some too.
impl Default for RealDisk {
    fn default() -> Self {
        let allowed = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
        let allowed = allowed.and_then(|text| text.trim().parse().ok()).unwrap_or(SYSTEM_MAPS);
        Self::new(allowed / 5 * 4)
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        match retry(|| fs::DirBuilder::new().mode(0o755).create(path)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        if !fs::symlink_metadata(dir)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_file() => EntryKind::File,
                Ok(kind) if kind.is_dir() => EntryKind::Dir,
                Ok(_) => EntryKind::Other,
                // Removed since the directory was read, where the kind had to be asked for.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            entries.push(Entry { name: entry.file_name(), kind });
        }
        entries.sort();
        Ok(entries)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (file, len) = open_file(path)?;
        read_whole(file, len)
    }

    fn read_front(&self, path: &Path, len: usize) -> io::Result<Vec<u8>> {
        let (file, whole) = open_file(path)?;
        let len = len as u64;
        read_whole(file.take(len), whole.min(len))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let (file, len) = open_file(path)?;
        Ok(Box::new(OpenedFile { file, len, path: path.to_owned(), shared: Arc::clone(&self.shared) }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_symlink() {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        check_regular(&metadata)?;
        Ok(metadata.len())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Before the file: where no descriptor is left for it, the error leaves nothing behind.
        self.file_system(directory_of(path))?;
        let mut options = OpenOptions::new();
        // Readable, to be mapped.
        options.read(true).append(true).create_new(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        let (file, shared) = (options.open(path)?, Arc::clone(&self.shared));
        Ok(Box::new(RealFile { file, path: path.to_owned(), shared }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        open_file(path)?.0.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match open_dir(dir)?.sync_all() {
            // The file system has no such call (some network file systems): it did not fail either.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    }

    fn sync_all(&self, dir: &Path) -> io::Result<bool> {
        self.file_system(dir)?;
        let known = self.known().clone();
        if !self.shared.syncfs_reports || known.iter().any(|one| !one.syncs) {
            return Ok(false);
        }
        // All of them, also behind an error: each may hold what others wait for.
        let results: Vec<io::Result<()>> = known.iter().map(|one| retry(|| syncfs(&one.dir))).collect();
        results.into_iter().collect::<io::Result<()>>()?;
        Ok(true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match retry(|| rename_new(from, to)) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ENOTSUP)) => {
                rename_where_free(from, to)
            }
            done => done,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the trait meets the system")]
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        retry(|| fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        retry(|| fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        retry(|| fs::remove_dir(path))
    }

    fn resolve(&self, dir: &Path) -> io::Result<PathBuf> {
        let metadata = fs::symlink_metadata(dir)?;
        if metadata.is_symlink() {
            let target = fs::canonicalize(dir)?;
            return if target.is_dir() { Ok(target) } else { Err(io::ErrorKind::NotADirectory.into()) };
        }
        if metadata.is_dir() { Ok(dir.to_owned()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        Ok(identity_of(&fs::symlink_metadata(path)?))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let found = retry(|| Ok(nix::sys::statvfs::statvfs(dir)?))?;
        #[expect(clippy::useless_conversion, reason = "their width differs between systems")]
        let (unit, free, total) = (
            u64::from(found.fragment_size()),
            u64::from(found.blocks_available()),
            u64::from(found.blocks()),
        );
        Ok(Space { free_bytes: free.saturating_mul(unit), total_bytes: total.saturating_mul(unit) })
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DiskLock>> {
        let locked = open_dir(dir)?;
        locked.try_lock().map_err(io::Error::from)?;
        self.file_system(dir)?;
        let identity = identity_of(&locked.metadata()?);
        Ok(Box::new(RealLock { _dir: locked, identity }))
    }
}

/// A file open for appending.
#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        view_of(&self.shared, &self.file, self.file.metadata()?.len(), &self.path)
    }
}

/// A file open for reading.
#[derive(Debug)]
struct OpenedFile {
    file: File,
    len: u64,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl ReadFile for OpenedFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let len = range.end.saturating_sub(range.start);
        if range.end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::new();
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(Cow::Owned(bytes))
    }

    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        // That the system refuses a map says nothing about the file.
        Ok(view_of(&self.shared, &self.file, self.len, &self.path).unwrap_or(None))
    }
}

fn view_of(
    shared: &Arc<Shared>,
    file: &File,
    len: u64,
    path: &Path,
) -> io::Result<Option<Arc<dyn FileView>>> {
    let mapped = MappedFile::open(shared, file, len, path)?;
    Ok(mapped.map(|mapped| Arc::new(mapped) as Arc<dyn FileView>))
}

/// The lock lives as long as its descriptor.
#[derive(Debug)]
struct RealLock {
    _dir: File,
    identity: Identity,
}

impl DiskLock for RealLock {
    fn identity(&self) -> Identity {
        self.identity
    }
}

fn identity_of(metadata: &fs::Metadata) -> Identity {
    Identity { device: metadata.dev(), inode: metadata.ino() }
}

/// One map of the budget, given back when dropped.
#[derive(Debug)]
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let more = |maps: usize| (maps < shared.maps_max).then_some(maps + 1);
        shared.maps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.maps.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Calls again what a signal interrupted; reads, writes and file syncs of std do so themselves.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Opens a regular file for reading, with its length. Never waits, as opening a pipe would.
fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    check_regular(&metadata)?;
    Ok((file, metadata.len()))
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(())
}

fn open_dir(dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(dir)
}

/// Reads to the end; memory that is not there is an error, not the end of the process.
fn read_whole(mut from: impl Read, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// For file systems that cannot refuse to replace. The lock of the directory keeps other stores away, so that
/// the name asked for stays free.
fn rename_where_free(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        #[expect(clippy::disallowed_methods, reason = "this is where the trait meets the system")]
        Err(e) if e.kind() == io::ErrorKind::NotFound => retry(|| fs::rename(from, to)),
        Err(e) => Err(e),
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)?)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn rename_new(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

#[cfg(target_os = "linux")]
fn syncfs(dir: &File) -> io::Result<()> {
    Ok(nix::unistd::syncfs(dir)?)
}

#[cfg(not(target_os = "linux"))]
fn syncfs(_dir: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The Linux from which on `syncfs` reports errors; earlier ones succeed whatever was lost.
const SYNCFS_REPORTS_SINCE: (u32, u32) = (5, 8);

/// The Linux from which on pages can be made present by a call.
const POPULATE_SINCE: (u32, u32) = (5, 14);

/// Whether the running kernel is this Linux or a later one.
fn kernel_is(version: (u32, u32)) -> bool {
    cfg!(target_os = "linux")
        && fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| release_is(&release, version))
}

fn release_is(release: &str, (major, minor): (u32, u32)) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|digits| digits.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Whether nobody but this machine writes to the file system. Network file systems and FUSE, which may stand
/// for one, are not; neither is what cannot be asked.
fn is_mappable(file: &File) -> bool {
    magic(file).is_some_and(|magic| !NETWORK_MAGICS.contains(&magic))
}

/// Whether, besides, the kernel writes it back itself. An overlay leaves that to another file system, and not
/// every kernel passes on what that one reports.
fn is_own(file: &File) -> bool {
    is_mappable(file) && magic(file) != Some(OVERLAY_MAGIC)
}

/// What kind of file system holds the file: a magic of statfs(2).
#[cfg(target_os = "linux")]
fn magic(file: &File) -> Option<u32> {
    let found = nix::sys::statfs::fstatfs(file).ok()?.filesystem_type().0;
    // 32 bits, whatever the width and the sign of the field are on this machine.
    u32::try_from(i128::from(found) & 0xffff_ffff).ok()
}

#[cfg(not(target_os = "linux"))]
fn magic(_file: &File) -> Option<u32> {
    None
}

const OVERLAY_MAGIC: u32 = 0x794c_7630;

const NETWORK_MAGICS: [u32; 15] = [
    0x0000_6969, // nfs
    0x0000_517b, // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x0000_564c, // ncp
    0x5346_414f, // afs
    0x6b41_4653, // kafs
    0x7375_7245, // coda
    0x0102_1997, // 9p
    0x00c3_6400, // ceph
    0x0bd0_0bd0, // lustre
    0x4750_4653, // gpfs
    0x1983_0326, // beegfs
    0x2003_0528, // orangefs
    0x6573_5546, // fuse
];

#[cfg(test)]
mod tests;
