//! Reading the log back: [`replay`] hands out what is intact, in order of position, and reports the rest.

use std::io;
use std::path::PathBuf;

use store_disk::frame::{Check, Damage, Frames, Item};
use store_disk::{Disk, Lineage};

use crate::scan::{Found, HeaderState, Segment};
use crate::{LogPos, format};

/// Damaged stretches that a report lists; more are only counted.
const DAMAGED_LISTED_MAX: usize = 1_000;

/// What a replay met.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Frames handed out.
    pub frames: u64,
    /// Their payloads, in bytes.
    pub payload_bytes: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Intact frames of kinds below 16 that this release does not know; not handed out.
    pub unknown_frames: u64,
    /// Damaged stretches with intact frames behind them in the same segment: rot, or sectors that a crash lost.
    /// At most the first 1,000.
    pub damaged: Vec<DamagedRange>,
    /// How many there were.
    pub damaged_ranges: u64,
    /// Their length in bytes, together.
    pub damaged_bytes: u64,
    /// Bytes at ends of segments behind the last intact frame: what a crash in a write leaves.
    pub torn_tail_bytes: u64,
    /// Segments whose header is damaged although there are intact frames behind it.
    pub damaged_headers: u64,
    /// Segments that could not be read; what is in them is not replayed. They are not removed either, but set
    /// aside once the log does not need their range any more.
    pub unreadable: Vec<Unreadable>,
}

/// A stretch of a segment that holds no intact frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment's file.
    pub path: PathBuf,
    /// Where the stretch begins, in bytes from the front of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// What is wrong with its beginning.
    pub what: Damage,
}

/// A segment that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Its file.
    pub path: PathBuf,
    /// What the system said; `InvalidData` if there are bytes and nothing intact among them.
    pub source: io::Error,
}

/// Hands the frames of `lineage` from `from` on to `sink`, in order of position, each with its kind.
///
/// Segments are read one by one, and none is kept: what `sink` wants to see once more it can have from a
/// [`FrameReader`](crate::FrameReader).
/// The log's own frames are not handed out. A damaged frame costs that frame; the report says where.
/// A segment that [`scan`](crate::scan()) could not read is tried once more.
pub fn replay(
    disk: &dyn Disk,
    found: &Found,
    lineage: Lineage,
    from: LogPos,
    sink: &mut dyn FnMut(LogPos, u8, &[u8]),
) -> ReplayReport {
    let mut report = ReplayReport::default();
    for (number, segment) in found.segments().filter(|(number, _)| *number >= from.segment()) {
        if !segment.may_be_of(lineage) {
            continue;
        }
        let bytes = match &segment.bytes {
            Some(bytes) => bytes.clone(),
            None => match segment.read(disk) {
                Ok(bytes) => bytes,
                Err(source) => {
                    report.unreadable.push(Unreadable { path: segment.path.clone(), source });
                    continue;
                }
            },
        };
        let first = if number == from.segment() { from.offset() } else { 0 };
        replay_segment(segment, &bytes, lineage, LogPos::new(number, first), &mut report, sink);
    }
    report
}

/// Replays one segment from `from` on, a position in it.
fn replay_segment(
    segment: &Segment,
    bytes: &[u8],
    lineage: Lineage,
    from: LogPos,
    report: &mut ReplayReport,
    sink: &mut dyn FnMut(LogPos, u8, &[u8]),
) {
    let number = from.segment();
    let seed = format::seed(lineage, number);
    // Damage is reported once something intact follows it: until then it may be the torn tail.
    let mut pending: Vec<DamagedRange> = Vec::new();
    let mut pending_bytes = 0;
    let mut pending_ranges = 0;
    let mut intact = false;
    for item in Frames::new(bytes, seed, format::HEADER_BYTES as u64, Check::Payload) {
        match item {
            Item::Frame(frame) => {
                intact = true;
                report.damaged.append(&mut pending);
                report.damaged_bytes += std::mem::take(&mut pending_bytes);
                report.damaged_ranges += std::mem::take(&mut pending_ranges);
                let Ok(offset) = u32::try_from(frame.offset) else { continue };
                if offset < from.offset() || frame.kind == format::KIND_LOG_START {
                    continue;
                }
                if frame.kind < format::KIND_USER_MIN {
                    report.unknown_frames += 1;
                    continue;
                }
                report.frames += 1;
                report.payload_bytes += frame.payload.len() as u64;
                sink(LogPos::new(number, offset), frame.kind, frame.payload);
            }
            Item::Damage { offset, bytes: length, what } => {
                // What lies before the start is needed no more, damaged or not.
                let skipped = u64::from(from.offset()).saturating_sub(offset);
                if skipped >= length {
                    continue;
                }
                pending_bytes += length - skipped;
                pending_ranges += 1;
                if report.damaged.len() + pending.len() < DAMAGED_LISTED_MAX {
                    let path = segment.path.clone();
                    pending.push(DamagedRange {
                        path,
                        offset: offset + skipped,
                        bytes: length - skipped,
                        what,
                    });
                }
            }
        }
    }
    report.segments += 1;
    if segment.header == HeaderState::Damaged && intact {
        report.damaged_headers += 1;
    }
    if !intact && segment.header == HeaderState::Damaged && bytes.len() > format::FIRST_BYTES {
        // Longer than anything that a crash while opening leaves, and nothing in it is ours.
        let source = io::Error::new(io::ErrorKind::InvalidData, "neither a header nor an intact frame");
        report.unreadable.push(Unreadable { path: segment.path.clone(), source });
    } else {
        report.torn_tail_bytes += pending_bytes;
    }
}
