//! [`FrameReader`]: frames that a replay has seen, once more, one by one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store_disk::frame::{FrameHead, HEADER_BYTES, OVERHEAD_BYTES};
use store_disk::{Disk, Lineage, ReadFile};

use crate::error::CallError;
use crate::scan::Found;
use crate::{LogPos, format};

/// Bytes that are read at once: most frames are shorter, and of many small ones the next are had without a call.
const WINDOW_BYTES: u64 = 8 << 10;

/// Segments that stay open: readers walk them side by side, from the first to the last.
const OPEN_MAX: usize = 4;

/// Reads frames of segments where they stand, so that nobody need keep them in memory: those of earlier processes behind
/// a [`replay`](crate::replay()), and those that this one has written until now.
#[derive(Debug)]
pub struct FrameReader {
    dir: PathBuf,
    lineage: Lineage,
    /// Whether somebody could not read a segment of an earlier process. Shared with the log, which must not unlink it
    /// then.
    unread: BTreeMap<u32, Arc<AtomicBool>>,
    /// The last ones that were opened.
    opened: Mutex<Vec<(u32, Arc<dyn ReadFile>)>>,
}

impl FrameReader {
    /// Of the segments of earlier processes that may be of `lineage`. Holds none of their bytes.
    pub fn new(found: &Found, lineage: Lineage) -> Self {
        let segments = found.segments().filter(|(_, segment)| segment.may_be_of(lineage));
        let unread = segments.map(|(number, segment)| (number, segment.unread(lineage, number)));
        Self { unread: unread.collect(), ..Self::of_log(found.dir().to_owned(), lineage) }
    }

    /// Of the segments that a log has written until now.
    pub(crate) fn of_log(dir: PathBuf, lineage: Lineage) -> Self {
        Self { dir, lineage, unread: BTreeMap::new(), opened: Mutex::default() }
    }

    /// A walk over frames on `disk`.
    pub fn walk<'a>(&'a self, disk: &'a dyn Disk) -> FrameWalk<'a> {
        FrameWalk { reader: self, disk, file: None, window: Vec::new(), window_at: 0 }
    }

    /// Says that something in a segment of an earlier process could not be read: the log keeps its file then, under
    /// another name once it does not need it any more.
    pub fn give_up(&self, at: LogPos) {
        if let Some(unread) = self.unread.get(&at.segment()) {
            unread.store(true, Ordering::Relaxed);
        }
    }

    fn opened(&self) -> MutexGuard<'_, Vec<(u32, Arc<dyn ReadFile>)>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if there is no such segment.
    fn open(&self, disk: &dyn Disk, number: u32) -> Result<Option<Arc<dyn ReadFile>>, CallError> {
        let known =
            self.opened().iter().find(|(other, _)| *other == number).map(|(_, file)| Arc::clone(file));
        if known.is_some() {
            return Ok(known);
        }
        let path = format::segment_path(&self.dir, number);
        let file: Arc<dyn ReadFile> = match disk.open(&path) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CallError { call: "open", path, source }),
        };
        let mut opened = self.opened();
        opened.truncate(OPEN_MAX - 1);
        opened.insert(0, (number, Arc::clone(&file)));
        Ok(Some(file))
    }
}

/// A walk over frames; cheapest in the order of positions.
#[derive(Debug)]
pub struct FrameWalk<'a> {
    reader: &'a FrameReader,
    disk: &'a dyn Disk,
    file: Option<(u32, Arc<dyn ReadFile>)>,
    window: Vec<u8>,
    /// Where the window begins in the file.
    window_at: u64,
}

impl FrameWalk<'_> {
    /// The kind and the payload of the frame at a position; `None` if none stands there, or it is not what was written.
    ///
    /// # Errors
    /// The segment cannot be opened or read.
    pub fn frame(&mut self, at: LogPos) -> Result<Option<(u8, &[u8])>, CallError> {
        if self.file.as_ref().is_none_or(|(number, _)| *number != at.segment()) {
            let Some(file) = self.reader.open(self.disk, at.segment())? else { return Ok(None) };
            (self.file, self.window) = (Some((at.segment(), file)), Vec::new());
        }
        let offset = u64::from(at.offset());
        let seed = format::seed(self.reader.lineage, at.segment());
        let Some(head) = self.bytes(offset, HEADER_BYTES as u64)? else { return Ok(None) };
        let head = head.first_chunk().and_then(|head| FrameHead::decode(head, seed, offset));
        let Some(head) = head else { return Ok(None) };
        let len = head.len as usize;
        let Some(frame) = self.bytes(offset, (len + OVERHEAD_BYTES) as u64)? else { return Ok(None) };
        let (payload, crc) = frame[HEADER_BYTES..].split_at(len);
        let is_good = crc.first_chunk().is_some_and(|crc| head.is_payload(payload, u32::from_le_bytes(*crc)));
        Ok(is_good.then_some((head.kind, payload)))
    }

    /// Bytes of the segment; `None` if it is shorter.
    fn bytes(&mut self, from: u64, len: u64) -> Result<Option<&[u8]>, CallError> {
        let Some((number, file)) = &self.file else { return Ok(None) };
        let to = from + len;
        if file.len() < to {
            return Ok(None);
        }
        if from < self.window_at || to > self.window_at + self.window.len() as u64 {
            let end = to.max(from + WINDOW_BYTES).min(file.len());
            let path = || format::segment_path(&self.reader.dir, *number);
            let read = file.read_at(from..end);
            let window =
                read.map_err(|source| CallError { call: "read", path: path(), source })?.into_owned();
            (self.window, self.window_at) = (window, from);
        }
        let start = (from - self.window_at) as usize;
        Ok(self.window.get(start..start + len as usize))
    }
}
