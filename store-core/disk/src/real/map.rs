//! [`MappedFile`]: a file of the machine, mapped, whose pages are asked for before they are touched.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sigbus::Registered;
use super::{PageAccess, Shared, Slot, is_mappable, open_file};
use crate::view::{FileView, slice};

/// A mapped file. The map goes before its slot of the budget.
pub(super) struct MappedFile {
    _registered: Registered,
    map: memmap2::Mmap,
    path: PathBuf,
    /// Device and inode: what stands at the path may be another file by now.
    identity: (u64, u64),
    access: PageAccess,
    /// Whether the system refused a range once: no byte of the map is touched any more.
    refused: AtomicBool,
    _slot: Slot,
}

impl MappedFile {
    /// The first `len` bytes of a file, which has as many; `None` where they would have to be read.
    pub(super) fn open(shared: &Arc<Shared>, file: &File, len: u64, path: &Path) -> io::Result<Option<Self>> {
        // A map of no bytes is an error to the system, and would take a slot of the budget.
        if len == 0 || !is_mappable(file) {
            return Ok(None);
        }
        let Some(slot) = Slot::take(shared) else { return Ok(None) };
        let metadata = file.metadata()?;
        let map = map_file(file, len)?;
        Ok(Some(Self {
            _registered: Registered::new(&map, path),
            map,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            access: shared.access,
            refused: AtomicBool::new(false),
            _slot: slot,
        }))
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The file once more, by its name; `None` if that is gone, or another file's.
    fn reopen(&self) -> io::Result<Option<File>> {
        let file = match open_file(&self.path) {
            Ok((file, _)) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        Ok(((metadata.dev(), metadata.ino()) == self.identity).then_some(file))
    }
}

impl FileView for MappedFile {
    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn ensure(&self, range: Range<u64>) {
        if self.access == PageAccess::Read || self.is_refused() {
            return;
        }
        let range = range.start.min(self.len())..range.end.min(self.len());
        // Both fit: the map has that length.
        if !range.is_empty() && !populate(&self.map, range.start as usize, (range.end - range.start) as usize)
        {
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    fn get(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        if self.access == PageAccess::Populate && !self.is_refused() {
            return slice(&self.map, range).map(Cow::Borrowed);
        }
        self.read(range).map(Cow::Owned)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let wanted = slice(&self.map, range.clone())?;
        let Some(file) = self.reopen()? else {
            // Unlinked by a roll, while somebody still reads it: nobody can cut it by its name any more.
            self.ensure(range);
            if self.is_refused() {
                return Err(io::ErrorKind::NotFound.into());
            }
            return Ok(wanted.to_vec());
        };
        let mut bytes = vec![0; wanted.len()];
        if self.is_refused() {
            read_singly(&file);
        }
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({}, {} bytes)", self.path.display(), self.map.len())
    }
}

/// Tells the system not to read ahead: around a bad sector that takes good pages with it.
#[cfg(target_os = "linux")]
fn read_singly(file: &File) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    // It is advice: without it the bytes are the same.
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM).ok();
}

#[cfg(not(target_os = "linux"))]
fn read_singly(_file: &File) {}

/// Makes pages present, and says whether they are. Where the system knows no such call they are not.
#[cfg(target_os = "linux")]
fn populate(map: &memmap2::Mmap, offset: usize, len: usize) -> bool {
    loop {
        match map.advise_range(memmap2::Advice::PopulateRead, offset, len) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done.is_ok(),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn populate(_map: &memmap2::Mmap, _offset: usize, _len: usize) -> bool {
    false
}

/// Maps without advice to the system: what reads a column mostly reads its neighbours, and a cold disk takes ten times as
/// long for that page by page.
fn map_file(file: &File, len: u64) -> io::Result<memmap2::Mmap> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the map is read-only and private to this process, and nothing here overwrites or cuts what is
    // mapped: files are created exclusively, and appended to by one owner behind the `len` bytes that they
    // had (the trait's contract). What remains is somebody outside who does, and a disk that does not give a page:
    // pages are made present before they are touched, by a call that fails instead; a page that is lost between that
    // call and the access ends in SIGBUS, whose handler names the file, and not in a stray read. A file that is
    // overwritten changes bytes behind a shared slice, which the readers stand because they check bounds at each
    // access and trust no content that a checksum did not vouch for. See the documentation of `RealDisk`.
    #[expect(unsafe_code, reason = "the only map of the project; no safe way to map exists")]
    unsafe {
        memmap2::MmapOptions::new().len(len).map(file)
    }
}
