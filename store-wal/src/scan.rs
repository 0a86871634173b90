//! What lies in the directory of a log: [`scan`], [`Found`], and what is done with what is not ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use store_disk::frame::{Check, Frame, Frames, Item};
use store_disk::{Disk, EntryKind, Lineage};

use crate::LogPos;
use crate::error::{CallError, ScanError};
use crate::format::{self, Header};

/// Names that are tried for a file that is set aside.
const ASIDE_NAMES_MAX: u32 = 10_000;

/// The segments that lie in a directory, by number, and the names that are none.
///
/// It holds the bytes of the segments that it had to read; drop it when the replay is over.
///
/// A picture of one moment, before this process opened a segment of its own: nobody writes any of these files.
#[derive(Debug, Default)]
pub struct Found {
    dir: PathBuf,
    segments: BTreeMap<u32, Segment>,
    foreign: Vec<Foreign>,
    /// Greatest number in any name, also of what is not a regular file.
    greatest: u32,
    set_aside: u64,
}

/// One file with the name of a segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Length of the file; 0 if that could not be asked.
    pub(crate) file_bytes: u64,
    pub(crate) header: HeaderState,
    /// The whole file, if it was read.
    pub(crate) bytes: Option<Bytes>,
    /// Nobody could read it so far. Shared with the log, which must not unlink it then.
    unread: Arc<AtomicBool>,
}

/// What the front of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderState {
    Whole(Lineage),
    /// Written by another release: its lineage stands where ours does, the rest is not ours to read.
    Other(u32, Lineage),
    /// Neither half is whole, it names another number, or it could not be read. Frames behind it are found by
    /// the lineage of the other segments.
    Damaged,
}

/// Something in the log's directory that is not a segment of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub what: ForeignKind,
}

/// Why something is not a segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignKind {
    /// A segment of another lineage: a restored backup, a copied directory.
    Lineage(Lineage),
    /// A segment in a version that this release does not read.
    Version(u32),
    /// A file with another name.
    Name,
    /// A directory, a symbolic link or a device; left where it is.
    NotAFile,
}

/// Positions that processes of this log gave out and may have saved something under.
///
/// A process claims them once it has found nothing that is saved under a position of another log, or has put that right.
/// What is saved under any other position is of a log that is lost: a log was restored that is older than the files
/// beside it, or files came from a store that had gone another way since. It says nothing of this log's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What lies before is not in the log any more.
    start: LogPos,
    /// The length of each segment that somebody claimed.
    ends: BTreeMap<u32, u64>,
}

impl Given {
    /// Whether `position` is one of them.
    pub fn contains(&self, position: LogPos) -> bool {
        position < self.start
            || self.ends.get(&position.segment()).is_some_and(|end| u64::from(position.offset()) < *end)
    }
}

/// Looks at the directory of a log; a directory that is missing holds nothing.
///
/// Reads the front of every segment, and the greatest ones whole, as far as it takes to find where a replay begins.
/// A segment that cannot be read is kept in mind and does not fail the scan.
///
/// # Errors
/// [`ScanError::List`]: the directory is there and cannot be listed.
pub fn scan(disk: &dyn Disk, dir: &Path) -> Result<Found, ScanError> {
    let mut found = Found {
        dir: dir.to_owned(),
        segments: BTreeMap::new(),
        foreign: Vec::new(),
        greatest: 0,
        set_aside: 0,
    };
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(ScanError::List { path: dir.to_owned(), source }),
    };
    for entry in entries {
        let path = dir.join(&entry.name);
        let number = format::segment_number(&entry.name);
        found.greatest = found.greatest.max(number.unwrap_or(0));
        match (entry.kind, number) {
            (EntryKind::File, Some(number)) => {
                let segment = Segment::look_at(disk, path, number);
                found.segments.insert(number, segment);
            }
            (EntryKind::File, None) if format::is_set_aside(&entry.name) => found.set_aside += 1,
            (EntryKind::File, None) => found.foreign.push(Foreign { path, what: ForeignKind::Name }),
            _ => found.foreign.push(Foreign { path, what: ForeignKind::NotAFile }),
        }
    }
    let mut lineages: Vec<Lineage> = found.segments.values().filter_map(Segment::lineage).collect();
    lineages.sort_unstable();
    lineages.dedup();
    for lineage in lineages {
        for (&number, segment) in found.segments.iter_mut().rev() {
            if segment.lineage() == Some(lineage) && segment.bytes.is_none() {
                segment.bytes = segment.read(disk).ok();
            }
            if segment.may_be_of(lineage) && segment.log_start(lineage, number).is_some() {
                break;
            }
        }
    }
    Ok(found)
}

impl Segment {
    fn look_at(disk: &dyn Disk, path: PathBuf, number: u32) -> Self {
        let state = |front: &[u8]| match Header::decode(front) {
            Some(header) if header.version != format::VERSION => {
                HeaderState::Other(header.version, header.lineage)
            }
            Some(header) if header.number == number => HeaderState::Whole(header.lineage),
            _ => HeaderState::Damaged,
        };
        let header =
            disk.read_front(&path, format::HEADER_BYTES).map_or(HeaderState::Damaged, |front| state(&front));
        let file_bytes = disk.len(&path).unwrap_or(0);
        let mut segment = Self { path, file_bytes, header, bytes: None, unread: Arc::default() };
        if header == HeaderState::Damaged
            && let Ok(bytes) = segment.read(disk)
        {
            // Whose it is, only its frames can say, unless the front could not be read before.
            segment.header = state(&bytes);
            segment.bytes = Some(bytes);
        }
        segment
    }

    /// Reads the whole file, and remembers whether that went well.
    pub(crate) fn read(&self, disk: &dyn Disk) -> io::Result<Bytes> {
        // Read rather than mapped: a log is read once, from front to back, after a reboot from a cold cache,
        // where page faults cost seven times as much; and a page that cannot be read is an error.
        let bytes = disk.read(&self.path).map(Bytes::from);
        self.unread.store(bytes.is_err(), Ordering::Relaxed);
        bytes
    }

    fn lineage(&self) -> Option<Lineage> {
        match self.header {
            HeaderState::Whole(lineage) => Some(lineage),
            HeaderState::Other(..) | HeaderState::Damaged => None,
        }
    }

    /// The frames of the segment under the seed of `lineage`, if it was read.
    fn frames(&self, lineage: Lineage, number: u32, check: Check) -> impl Iterator<Item = Frame<'_>> {
        let bytes = self.bytes.as_deref();
        bytes.into_iter().flat_map(move |bytes| frames_of(bytes, lineage, number, check))
    }

    /// What the last LogStart of the segment names, if it was read and there is one.
    fn log_start(&self, lineage: Lineage, number: u32) -> Option<LogPos> {
        self.frames(lineage, number, Check::HeaderOnly)
            .filter(|frame| frame.kind == format::KIND_LOG_START && frame.verify())
            .filter_map(|frame| format::decode_log_start(frame.payload))
            .last()
    }

    /// Whether the process that wrote the segment claimed what it and those before it saved. One that cannot be
    /// read says nothing.
    fn claims(&self, disk: &dyn Disk, lineage: Lineage, number: u32) -> bool {
        let Some(bytes) = self.bytes.clone().or_else(|| self.read(disk).ok()) else { return false };
        frames_of(&bytes, lineage, number, Check::HeaderOnly).any(|frame| {
            frame.kind == format::KIND_LOG_START
                && frame.offset > format::HEADER_BYTES as u64
                && frame.verify()
        })
    }

    /// Whether the segment is, or may be, one of `lineage`.
    pub(crate) fn may_be_of(&self, lineage: Lineage) -> bool {
        match self.header {
            HeaderState::Whole(whose) => whose == lineage,
            HeaderState::Damaged => true,
            HeaderState::Other(..) => false,
        }
    }

    /// Whether the file holds bytes of which this release can make nothing, and more of them than a crash while
    /// the segment was being opened can leave; as a flag that changes if a later try to read it ends otherwise.
    pub(crate) fn unread(&self, lineage: Lineage, number: u32) -> Arc<AtomicBool> {
        let garbage = self.header == HeaderState::Damaged
            && self.bytes.as_ref().is_some_and(|bytes| bytes.len() > format::FIRST_BYTES)
            && self.frames(lineage, number, Check::Payload).next().is_none();
        if garbage {
            self.unread.store(true, Ordering::Relaxed);
        }
        Arc::clone(&self.unread)
    }
}

/// The intact frames of a segment's bytes.
fn frames_of(bytes: &[u8], lineage: Lineage, number: u32, check: Check) -> impl Iterator<Item = Frame<'_>> {
    let frames = Frames::new(bytes, format::seed(lineage, number), format::HEADER_BYTES as u64, check);
    frames.filter_map(|item| match item {
        Item::Frame(frame) => Some(frame),
        Item::Damage { .. } => None,
    })
}

impl Found {
    /// The directory that was looked at.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether there is no segment, whole or not.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Number of files with the name of a segment.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// The lineage of the segment with the greatest number among those whose header is whole.
    pub fn lineage(&self) -> Option<Lineage> {
        self.segments.values().rev().find_map(Segment::lineage)
    }

    /// The lineages of which there is an intact frame, the one with the greatest number first.
    pub fn lineages(&self) -> Vec<Lineage> {
        let mut found = Vec::new();
        for (&number, segment) in self.segments.iter().rev() {
            if let Some(lineage) = segment.lineage()
                && !found.contains(&lineage)
                && segment.frames(lineage, number, Check::Payload).next().is_some()
            {
                found.push(lineage);
            }
        }
        found
    }

    /// The first segment of `lineage` that was written in a version which this release does not read: its path and the
    /// version.
    pub fn other_version(&self, lineage: Lineage) -> Option<(&Path, u32)> {
        self.segments.values().find_map(|segment| match segment.header {
            HeaderState::Other(version, whose) if whose == lineage => Some((&*segment.path, version)),
            _ => None,
        })
    }

    /// The lineage of the segment with the greatest number among those of versions which this release does not read.
    pub fn lineage_of_other_version(&self) -> Option<Lineage> {
        self.segments.values().rev().find_map(|segment| match segment.header {
            HeaderState::Other(_, lineage) => Some(lineage),
            HeaderState::Whole(_) | HeaderState::Damaged => None,
        })
    }

    /// The positions of `lineage` that what was saved may carry, for a log that begins at `start`: see [`Given`].
    ///
    /// Reads segments from the greatest back to the first that claims, mostly one that was read already.
    pub fn given(&self, disk: &dyn Disk, lineage: Lineage, start: LogPos) -> Given {
        let ours = || self.segments.iter().filter(|(_, segment)| segment.may_be_of(lineage));
        // What lies before S is known whether or not anybody claimed it.
        let claimed = ours()
            .rev()
            .take_while(|(number, _)| **number >= start.segment())
            .find(|(number, segment)| segment.claims(disk, lineage, **number))
            .map_or(0, |(number, _)| *number);
        let ends = ours().filter(|(number, _)| **number <= claimed).map(|(&number, segment)| {
            // A length that nobody could ask for is no bound.
            (number, if segment.file_bytes == 0 { u64::MAX } else { segment.file_bytes })
        });
        Given { start, ends: ends.collect() }
    }

    /// The greatest number that any name carries, whatever stands behind it; 0 if there is none.
    pub fn greatest(&self) -> u32 {
        self.greatest
    }

    /// Where a replay begins: what the LogStart at the greatest position names.
    ///
    /// `None` if there is no frame of `lineage`. If there are some, or a segment could not be read, and no
    /// LogStart is to be seen: [`LogPos::ZERO`], which replays too much rather than too little.
    pub fn start(&self, lineage: Lineage) -> Option<LogPos> {
        let mut some = None;
        for (&number, segment) in self.segments.iter().rev() {
            if !segment.may_be_of(lineage) {
                continue;
            }
            let named = segment.log_start(lineage, number);
            if named.is_some() {
                return named;
            }
            let unread = segment.unread.load(Ordering::Relaxed);
            if unread || segment.frames(lineage, number, Check::HeaderOnly).next().is_some() {
                some = Some(LogPos::ZERO);
            }
        }
        some
    }

    /// The segments that could not be read. [`replay`](crate::replay()) tries them once more; if that fails too,
    /// what is in them is not served, and their files are kept ([`Log::retire`](crate::Log::retire) renames them).
    /// Where the system lacks descriptors or memory, it is better to wait and scan again before anything is opened.
    pub fn unreadable(&self) -> Vec<&Path> {
        let unread = self.segments.values().filter(|segment| segment.unread.load(Ordering::Relaxed));
        unread.map(|segment| segment.path.as_path()).collect()
    }

    /// What lies in the directory and is no segment of `lineage`, in the order of names within each kind.
    ///
    /// Files that were set aside before are only counted ([`set_aside_before`](Found::set_aside_before)).
    pub fn foreign(&self, lineage: Lineage) -> Vec<Foreign> {
        let segments = self.segments.values().filter_map(|segment| {
            let what = match segment.header {
                HeaderState::Whole(whose) if whose != lineage => ForeignKind::Lineage(whose),
                HeaderState::Other(version, _) => ForeignKind::Version(version),
                _ => return None,
            };
            Some(Foreign { path: segment.path.clone(), what })
        });
        segments.chain(self.foreign.iter().cloned()).collect()
    }

    /// Files that an earlier start set aside.
    pub fn set_aside_before(&self) -> u64 {
        self.set_aside
    }

    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = (u32, &Segment)> {
        self.segments.iter().map(|(&number, segment)| (number, segment))
    }
}

/// Syncs the segments from `from` on, which an earlier process may have written without syncing them.
///
/// To be called before what a replay yields is relied upon: what is read may come from the page cache alone.
///
/// # Errors
/// The first call that failed, after all were tried. What it was called for may then be lost in a power loss:
/// log all of it again ([`Log::degrade`](crate::Log::degrade), then heal).
pub fn sync_found(disk: &dyn Disk, found: &Found, from: LogPos) -> Result<(), CallError> {
    let mut first = Ok(());
    for segment in found.segments.range(from.segment()..).map(|(_, segment)| segment) {
        if let Err(source) = disk.sync_file(&segment.path) {
            let error = CallError { call: "sync", path: segment.path.clone(), source };
            first = first.and(Err(error));
        }
    }
    first
}

/// Renames the segments of other lineages to `<name>.corrupt-<n>`, so that no later start takes them for its own; those
/// of other releases and foreign names are left as they are. Yields, for each, the new path or the error.
pub fn set_aside(disk: &dyn Disk, found: &Found, lineage: Lineage) -> Vec<Result<PathBuf, CallError>> {
    let foreign = found.foreign(lineage);
    let ours = |foreign: &&Foreign| matches!(foreign.what, ForeignKind::Lineage(_));
    let mut done: Vec<_> =
        foreign.iter().filter(ours).map(|foreign| rename_aside(disk, &foreign.path)).collect();
    if done.iter().any(Result::is_ok)
        && let Err(source) = disk.sync_dir(&found.dir)
    {
        done.push(Err(CallError { call: "sync directory", path: found.dir.clone(), source }));
    }
    done
}

/// Renames one file to the first free `<name>.corrupt-<n>`.
pub(crate) fn rename_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, CallError> {
    let failed = |source| CallError { call: "set aside", path: path.to_owned(), source };
    for count in 1..=ASIDE_NAMES_MAX {
        let to = format::set_aside_path(path, count);
        match disk.rename(path, &to) {
            Ok(()) => return Ok(to),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// The greatest number that a name in `dir` carries; 0 if there is none.
pub(crate) fn greatest_number(disk: &dyn Disk, dir: &Path) -> io::Result<u32> {
    let number = |name: OsString| format::segment_number(&name).unwrap_or(0);
    Ok(disk.list(dir)?.into_iter().map(|entry| number(entry.name)).max().unwrap_or(0))
}
