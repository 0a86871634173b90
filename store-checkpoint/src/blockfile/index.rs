//! [`index`]: what is in a block file, frame by frame, and behind damage wherever something proves itself.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use store_core::block::{BLOCK_HEADER_BYTES, BLOCK_OVERHEAD_BYTES, BlockError, BlockHeader, HeaderPlace};
use store_core::shape::{Shape, ShapeHash};
use store_core::wire::Cursor;
use store_disk::ReadFile;
use store_disk::frame::{self, FrameHead, HEADER_BYTES as FRAME_HEADER_BYTES};

use super::{
    BlockFileDamage, FLAG_ROLLED, FLOOR_BYTES, Found, FoundFloors, HALF_BYTES, HEADER_BYTES, Header, Index,
    KIND_BLOCK, KIND_FLOORS, KIND_SHAPE, OtherRelease, identity, seed,
};

/// Bytes behind the payload of a frame.
const FRAME_TAIL_BYTES: u64 = (frame::OVERHEAD_BYTES - FRAME_HEADER_BYTES) as u64;

/// How far a frame may have been moved by bytes that came in or went before it.
const MOVED_MAX: u64 = 1 << 20;

/// What a lost page is read as, page by page.
const PAGE_BYTES: u64 = 4096;

/// Finds what is in a block file: frames, and the headers of blocks. Payloads of blocks are not read, unless
/// something has to be looked for behind damage.
///
/// Any bytes are fine. What it finds, with what it calls damaged and the header, covers the whole file.
pub fn index(file: &dyn ReadFile) -> Index {
    let mut index = Index { file_bytes: file.len(), ..Index::default() };
    let header_end = index.file_bytes.min(HEADER_BYTES as u64);
    let halves = Header::halves(&read_lossy(file, 0..header_end));
    index.identity = match halves[0].or(halves[1]) {
        Some(header) if header.is_other() => {
            let Header { version, flags, lineage, .. } = header;
            (index.lineage, index.other_release) = (Some(lineage), Some(OtherRelease { version, flags }));
            index.note(0..index.file_bytes, BlockFileDamage::Newer { version, flags });
            return index;
        }
        Some(header) => {
            index.header_good = true;
            index.lineage = Some(header.lineage);
            index.rolled = header.flags & FLAG_ROLLED != 0;
            for (half, start) in halves.iter().zip([0, HALF_BYTES as u64]) {
                if half.is_none() {
                    let end = (start + HALF_BYTES as u64).min(header_end);
                    index.note(start..end, BlockFileDamage::HeaderHalf);
                }
            }
            Some(header.identity)
        }
        None => {
            index.note(0..header_end, BlockFileDamage::Header);
            identity::of_frames(&read_lossy(file, 0..index.file_bytes))
        }
    };
    let Some(identity) = index.identity else {
        index.note(header_end..index.file_bytes, BlockFileDamage::Frame(frame::Damage::BadHeader));
        return index;
    };
    Walk { file, identity, moved: 0, index: &mut index }.run(header_end);
    index
}

/// The bytes of a range; what the disk does not give reads as zeros, of which nothing is made.
fn read_lossy(file: &dyn ReadFile, range: Range<u64>) -> Cow<'_, [u8]> {
    if let Ok(bytes) = file.read_at(range.clone()) {
        return bytes;
    }
    let mut bytes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = (at / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES).min(range.end);
        match file.read_at(at..end) {
            Ok(page) => bytes.extend_from_slice(&page),
            Err(_) => bytes.resize(bytes.len() + (end - at) as usize, 0),
        }
        at = end;
    }
    Cow::Owned(bytes)
}

/// Why there is no frame where one was due.
enum NoFrame {
    /// Its header is bad, or cannot be read.
    Bad,
    /// The file ends inside of it.
    CutShort(Option<Found>),
}

/// Something that proved itself behind damage: where it begins, and how far it was moved.
struct Proven {
    at: u64,
    moved: i64,
    /// A block whose frame has no good header, and where the next frame begins.
    bare: Option<(Found, u64)>,
}

/// Goes from frame to frame.
struct Walk<'a> {
    file: &'a dyn ReadFile,
    identity: u32,
    /// How far the frames here stand behind the place that they were written for.
    moved: i64,
    index: &'a mut Index,
}

impl Walk<'_> {
    fn run(mut self, start: u64) {
        let len = self.file.len();
        let (mut at, mut last) = (start, start);
        while at < len {
            match self.take(at) {
                Ok(end) => (last, at) = (at, end),
                Err(NoFrame::CutShort(block)) => {
                    self.index.blocks.extend(block);
                    self.index.note(at..len, BlockFileDamage::Frame(frame::Damage::CutShort));
                    return;
                }
                Err(NoFrame::Bad) => {
                    // Bytes that went out of the last frame have the next one begin inside of it.
                    let found = self.find_behind(last + 1, at);
                    let to = found.as_ref().map_or(len, |found| found.at);
                    let damage = BlockFileDamage::Frame(frame::Damage::BadHeader);
                    self.index.note(if to > at { at..to } else { to..at.max(to + 1) }, damage);
                    let Some(found) = found else { return };
                    self.moved = found.moved;
                    last = found.at;
                    at = match found.bare {
                        Some((block, end)) => {
                            self.index.blocks.push(block);
                            end.min(len)
                        }
                        None => found.at,
                    };
                }
            }
        }
    }

    /// The head of the frame at a place, if it is good.
    fn head(&self, at: u64) -> Result<FrameHead, NoFrame> {
        let len = self.file.len();
        let written = at.checked_add_signed(-self.moved).ok_or(NoFrame::Bad)?;
        if at + frame::OVERHEAD_BYTES as u64 > len {
            return Err(NoFrame::CutShort(None));
        }
        let front = self.file.read_at(at..at + FRAME_HEADER_BYTES as u64).map_err(|_| NoFrame::Bad)?;
        let head =
            front.first_chunk().and_then(|front| FrameHead::decode(front, seed(self.identity), written));
        head.ok_or(NoFrame::Bad)
    }

    /// Takes the frame at a place. Returns where the next one is due.
    fn take(&mut self, at: u64) -> Result<u64, NoFrame> {
        let head = self.head(at)?;
        let payload = at + FRAME_HEADER_BYTES as u64..at + FRAME_HEADER_BYTES as u64 + u64::from(head.len);
        let end = payload.end + FRAME_TAIL_BYTES;
        if end > self.file.len() {
            let block = (head.kind == KIND_BLOCK).then(|| self.block(at, payload).ok()).flatten();
            return Err(NoFrame::CutShort(block.map(|(found, _)| Found { is_cut: true, ..found })));
        }
        let taken = match head.kind {
            KIND_BLOCK => self.block(at, payload).map(|(found, damage)| {
                self.index.blocks.push(found);
                if let Some((range, what)) = damage {
                    self.index.note(range, what);
                }
            }),
            _ => self.small(head, at, payload),
        };
        if let Err(what) = taken {
            self.index.note(at..end, what);
        }
        Ok(end)
    }

    /// The block in a frame whose header is good, by either of its own headers.
    #[expect(clippy::type_complexity, reason = "a block and what is wrong beside it")]
    fn block(
        &self,
        at: u64,
        payload: Range<u64>,
    ) -> Result<(Found, Option<(Range<u64>, BlockFileDamage)>), BlockFileDamage> {
        let bytes = BLOCK_HEADER_BYTES as u64;
        let len = payload.end - payload.start;
        if len < BLOCK_OVERHEAD_BYTES as u64 {
            return Err(BlockFileDamage::Fields);
        }
        let fits = |header: &BlockHeader| header.block_bytes() as u64 == len;
        let found = |header| Found {
            header,
            identity: self.identity,
            offset: at,
            body_at: payload.start + bytes,
            is_cut: false,
        };
        let front = payload.start..payload.start + bytes;
        let error = match self.block_header(front.clone()) {
            Ok((header, HeaderPlace::Front)) if fits(&header) => return Ok((found(header), None)),
            Ok(_) => return Err(BlockFileDamage::Fields),
            Err(error) => error,
        };
        match self.block_header(payload.end - bytes..payload.end) {
            Ok((header, HeaderPlace::Behind)) if fits(&header) => {
                Ok((found(header), Some((front, BlockFileDamage::Block(error)))))
            }
            _ => Err(BlockFileDamage::Block(error)),
        }
    }

    fn block_header(&self, range: Range<u64>) -> Result<(BlockHeader, HeaderPlace), BlockError> {
        let bytes = self.file.read_at(range).map_err(|_| BlockError::CutShort)?;
        BlockHeader::decode(&bytes, self.identity)
    }

    /// A frame that is read as a whole.
    fn small(&mut self, head: FrameHead, at: u64, payload: Range<u64>) -> Result<(), BlockFileDamage> {
        let bad = BlockFileDamage::Frame(frame::Damage::BadPayload);
        let read =
            self.file.read_at(payload.start..payload.end + FRAME_TAIL_BYTES).map_err(|_: io::Error| bad)?;
        let (payload, crc) = read.split_last_chunk::<4>().ok_or(bad)?;
        if !head.is_payload(payload, u32::from_le_bytes(*crc)) {
            return Err(bad);
        }
        match head.kind {
            KIND_SHAPE => {
                let hash = Shape::hash_of(payload);
                if self.index.shape(hash).is_none() {
                    self.index.shapes.push((hash, payload.to_vec().into()));
                }
            }
            KIND_FLOORS => {
                let found = found_floors(payload, at)?;
                let is_known =
                    |known: &FoundFloors| (known.shape, &known.floors) == (found.shape, &found.floors);
                if !self.index.floors.iter().any(is_known) {
                    self.index.floors.push(found);
                }
            }
            kind => return Err(BlockFileDamage::UnknownKind(kind)),
        }
        Ok(())
    }

    /// The first thing from `from` on that proves itself. `due` is where a frame should have begun.
    fn find_behind(&self, from: u64, due: u64) -> Option<Proven> {
        let rest = read_lossy(self.file, from..self.file.len());
        let known = self.index.blocks.last();
        (0..rest.len()).find_map(|n| {
            let at = from + n as u64;
            let proven = self.frame_in(&rest, n, at).or_else(|| self.bare_block_in(&rest, n, at));
            proven.filter(|proven| {
                let is_last =
                    |(found, _): &(Found, u64)| known.is_some_and(|known| known.header == found.header);
                // The copy behind the last block belongs to that one.
                at >= due || proven.at > from && !proven.bare.as_ref().is_some_and(is_last)
            })
        })
    }

    /// A frame at `n` of `rest`, where it was written or moved from there, whose content proves it.
    fn frame_in(&self, rest: &[u8], n: usize, at: u64) -> Option<Proven> {
        let front: &[u8; FRAME_HEADER_BYTES] = rest[n..].first_chunk()?;
        // The cheap test first; and a frame of nothing, as lost pages may read, proves nothing.
        if front[5..8] != [0; 3] || front[..5] == [0; 5] {
            return None;
        }
        let written = at.checked_add_signed(-self.moved);
        let seed = seed(self.identity);
        let as_written =
            written.and_then(|written| Some((FrameHead::decode(front, seed, written)?, written)));
        let (head, written) = as_written.or_else(|| FrameHead::decode_moved(front, seed, at, MOVED_MAX))?;
        let payload = rest.get(n + FRAME_HEADER_BYTES..)?;
        let whole = payload.split_at_checked(head.len as usize);
        let proven = match (head.kind, whole) {
            // A block that is cut by the end of the file is one all the same.
            (KIND_BLOCK, _) => BlockHeader::decode(payload, self.identity).is_ok_and(|(header, place)| {
                place == HeaderPlace::Front && header.block_bytes() == head.len as usize
            }),
            (_, Some((payload, tail))) => {
                tail.first_chunk::<4>().is_some_and(|crc| head.is_payload(payload, u32::from_le_bytes(*crc)))
            }
            (_, None) => false,
        };
        let moved = i64::try_from(at).ok()? - i64::try_from(written).ok()?;
        proven.then_some(Proven { at, moved, bare: None })
    }

    /// A block whose frame has no good header, by either of its own.
    fn bare_block_in(&self, rest: &[u8], n: usize, at: u64) -> Option<Proven> {
        let bytes = rest.get(n..n + BLOCK_HEADER_BYTES)?;
        // The width of a value, and the two bytes that say which header it is.
        if bytes[1] != 4 || bytes[55] != 0 || bytes[54] > 1 {
            return None;
        }
        let (header, place) = BlockHeader::decode(bytes, self.identity).ok()?;
        let (own, body) = (BLOCK_HEADER_BYTES as u64, u64::from(header.body_bytes));
        let body_at = match place {
            HeaderPlace::Front => at + own,
            HeaderPlace::Behind => at.checked_sub(body)?,
        };
        let end = body_at + body + own + FRAME_TAIL_BYTES;
        let is_cut = end > self.file.len();
        let offset = body_at.checked_sub(own + FRAME_HEADER_BYTES as u64)?;
        let found = Found { header, identity: self.identity, offset, body_at, is_cut };
        Some(Proven { at, moved: self.moved, bare: Some((found, end)) })
    }
}

fn found_floors(payload: &[u8], offset: u64) -> Result<FoundFloors, BlockFileDamage> {
    let mut cursor = Cursor::new(payload);
    let fields = (|| Some((ShapeHash(cursor.array()?), cursor.u32()?)))();
    let (shape, count) = fields.ok_or(BlockFileDamage::Fields)?;
    if cursor.rest().len() as u64 != u64::from(count) * FLOOR_BYTES as u64 {
        return Err(BlockFileDamage::Fields);
    }
    let floors = std::iter::from_fn(|| Some((cursor.u32()?, cursor.i64()?))).collect();
    Ok(FoundFloors { shape, floors, offset })
}
