//! Checksummed frames: the unit that log segments and block files are made of.
//!
//! | offset | bytes | field       | encoding                                              |
//! |-------:|------:|-------------|-------------------------------------------------------|
//! |      0 |     4 | payload_len | u32 little endian, at most [`PAYLOAD_BYTES_MAX`]      |
//! |      4 |     1 | kind        | u8, chosen by the format that uses frames             |
//! |      5 |     3 | zero        | 0                                                     |
//! |      8 |     4 | header_crc  | CRC-32/IEEE over seed (u64 LE), offset of the frame in its file (u64 LE), bytes 0..8 |
//! |     12 |     n | payload     |                                                       |
//! |   12+n |     4 | payload_crc | CRC-32/IEEE over header_crc (4 bytes LE) and payload  |
//!
//! CRC-32/IEEE of `123456789` is `CBF43926`; both checksums are stored little endian.
//!
//! The header checksum covers the offset and a seed of the file, so that a frame is valid only where it was
//! written: a copy of a frame inside a payload, or stale bytes of another file, is never taken for one. (Two
//! offsets of one file less than 4 GiB apart never give the same checksum: they differ in a burst of at most
//! 32 bits. The seed of another file gives the same one with a chance of 2⁻³².) Checksums are no signatures:
//! who knows the seed can forge a frame.
//!
//! A header of its own checksum is what tells a flipped length from a torn tail, and a damaged payload from a
//! damaged frame chain: the first costs the bytes up to the next whole frame, the second that frame only.
//!
//! ```
//! use store_disk::frame::{self, Check, Frames, Item};
//!
//! let (seed, mut file) = (7, b"header".to_vec());
//! let offset = file.len() as u64;
//! frame::encode_into(&mut file, seed, offset, 1, &[b"a ", b"payload"]);
//! let mut frames = Frames::new(&file, seed, offset, Check::Payload);
//! let Some(Item::Frame(frame)) = frames.next() else { panic!("no frame") };
//! assert_eq!((frame.kind, frame.payload), (1, &b"a payload"[..]));
//! assert!(frames.next().is_none());
//! ```

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 12;

/// Bytes of a frame that are not payload: the header and the checksum behind the payload.
pub const OVERHEAD_BYTES: usize = 16;

/// Greatest length of a payload in bytes; a header that names a longer one is damaged.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(HEADER_BYTES + 4 == OVERHEAD_BYTES && PAYLOAD_BYTES_MAX <= u32::MAX as usize);

/// Appends one frame to `out`; the payload is given in parts, to spare a copy.
///
/// `offset` is where the frame will stand in its file; `seed` is that file's.
///
/// # Panics
/// If the payload is longer than [`PAYLOAD_BYTES_MAX`]: callers bound what they write, readers would refuse
/// it.
pub fn encode_into(out: &mut Vec<u8>, seed: u64, offset: u64, kind: u8, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    assert!(len <= PAYLOAD_BYTES_MAX, "a payload of {len} bytes, {PAYLOAD_BYTES_MAX} are allowed");
    out.reserve(len + OVERHEAD_BYTES);
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let front = [a, b, c, d, kind, 0, 0, 0];
    let header_crc = header_crc(seed, offset, front);
    out.extend_from_slice(&front);
    out.extend_from_slice(&header_crc.to_le_bytes());
    for part in payload {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&payload_crc(header_crc, payload).to_le_bytes());
}

fn header_crc(seed: u64, offset: u64, front: [u8; 8]) -> u32 {
    let mut covered = [0; 24];
    let (head, tail) = covered.split_at_mut(8);
    head.copy_from_slice(&seed.to_le_bytes());
    let (middle, end) = tail.split_at_mut(8);
    middle.copy_from_slice(&offset.to_le_bytes());
    end.copy_from_slice(&front);
    crc32fast::hash(&covered)
}

fn payload_crc(header_crc: u32, payload: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header_crc.to_le_bytes());
    for part in payload {
        hasher.update(part);
    }
    hasher.finalize()
}

/// A frame whose header is good.
///
/// Its payload is good too where it was read with [`Check::Payload`]; with [`Check::HeaderOnly`] that is for
/// [`verify`](Frame::verify) to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is; chosen by the format that uses frames.
    pub kind: u8,
    /// Offset of the frame in its file.
    pub offset: u64,
    /// The bytes that were given to [`encode_into`].
    pub payload: &'a [u8],
    header_crc: u32,
    payload_crc: u32,
}

impl<'a> Frame<'a> {
    /// The frame at `offset` of a file whose bytes are `bytes`; its payload is not checked.
    ///
    /// # Errors
    /// [`Damage::BadHeader`] or [`Damage::CutShort`].
    pub fn at(bytes: &'a [u8], seed: u64, offset: u64) -> Result<Self, Damage> {
        let at = usize::try_from(offset).map_err(|_| Damage::CutShort)?;
        let rest = bytes.get(at..).ok_or(Damage::CutShort)?;
        let (front, rest) = rest.split_first_chunk::<8>().ok_or(Damage::CutShort)?;
        let (stored, rest) = rest.split_first_chunk::<4>().ok_or(Damage::CutShort)?;
        let [a, b, c, d, kind, zero @ ..] = *front;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let header_crc = u32::from_le_bytes(*stored);
        if zero != [0; 3] || len > PAYLOAD_BYTES_MAX || header_crc != self::header_crc(seed, offset, *front) {
            return Err(Damage::BadHeader);
        }
        let (payload, rest) = rest.split_at_checked(len).ok_or(Damage::CutShort)?;
        let payload_crc = u32::from_le_bytes(*rest.first_chunk::<4>().ok_or(Damage::CutShort)?);
        Ok(Self { kind, offset, payload, header_crc, payload_crc })
    }

    /// Whether the payload is the one that was written.
    pub fn verify(&self) -> bool {
        payload_crc(self.header_crc, &[self.payload]) == self.payload_crc
    }

    /// Bytes of the whole frame in its file.
    pub fn bytes(&self) -> u64 {
        (self.payload.len() + OVERHEAD_BYTES) as u64
    }

    /// Offset of the first byte behind the frame.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes()
    }

    /// Where the payload stands in the file.
    pub fn payload_range(&self) -> Range<u64> {
        let start = self.offset + HEADER_BYTES as u64;
        start..start + self.payload.len() as u64
    }
}

/// Leaves the payload out.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame(kind {}, {} bytes at {})", self.kind, self.payload.len(), self.offset)
    }
}

/// The front of a frame whose checksum is good, for who does not hold the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// What the payload is.
    pub kind: u8,
    /// Length of the payload.
    pub len: u32,
    header_crc: u32,
}

impl FrameHead {
    /// The head of the frame that was written at `offset` of a file with this seed.
    pub fn decode(head: &[u8; HEADER_BYTES], seed: u64, offset: u64) -> Option<Self> {
        let (head, front) = Self::parse(head)?;
        (head.header_crc == header_crc(seed, offset, front)).then_some(head)
    }

    /// The head of a frame that was written somewhere else in its file, and the offset there: bytes came in or went before it.
    /// At most `moved_max` bytes away from `at`, and in the same 4 GiB.
    ///
    /// This proves little: one of 2³² / (2 · `moved_max`) heads of garbage looks so. Its payload has to say the rest.
    pub fn decode_moved(
        head: &[u8; HEADER_BYTES],
        seed: u64,
        at: u64,
        moved_max: u64,
    ) -> Option<(Self, u64)> {
        let (head, front) = Self::parse(head)?;
        let high = at & !u64::from(u32::MAX);
        let low = solve(head.header_crc, |low| header_crc(seed, high | u64::from(low), front))?;
        let written = high | u64::from(low);
        (written.abs_diff(at) <= moved_max).then_some((head, written))
    }

    fn parse(head: &[u8; HEADER_BYTES]) -> Option<(Self, [u8; 8])> {
        let (front, stored) = head.split_first_chunk::<8>()?;
        let [a, b, c, d, kind, zero @ ..] = *front;
        let len = u32::from_le_bytes([a, b, c, d]);
        let header_crc = u32::from_le_bytes(*stored.first_chunk()?);
        (zero == [0; 3] && len as usize <= PAYLOAD_BYTES_MAX)
            .then_some((Self { kind, len, header_crc }, *front))
    }

    /// Whether these are the payload of the frame and the checksum behind it.
    pub fn is_payload(&self, payload: &[u8], crc: u32) -> bool {
        payload_crc(self.header_crc, &[payload]) == crc
    }
}

/// The 32 unknown bits that a checksum covers, from what the checksum is with each value of them.
///
/// A checksum is linear in its input, but for a constant: each unknown bit flips a fixed set of bits of it.
pub fn solve(checksum: u32, checksum_with: impl Fn(u32) -> u32) -> Option<u32> {
    let constant = checksum_with(0);
    let mut basis: Vec<(u32, u32)> = Vec::with_capacity(32);
    for bit in 0..32 {
        let flips = reduce(&basis, (checksum_with(1 << bit) ^ constant, 1 << bit));
        if flips.0 != 0 {
            basis.push(flips);
            basis.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
    let (left, unknown) = reduce(&basis, (checksum ^ constant, 0));
    (left == 0).then_some(unknown)
}

/// Clears the leading bit of each element of the basis, greatest first.
fn reduce(basis: &[(u32, u32)], vector: (u32, u32)) -> (u32, u32) {
    basis.iter().fold(vector, |(flips, bits), (element, its_bits)| {
        if flips ^ element < flips { (flips ^ element, bits ^ its_bits) } else { (flips, bits) }
    })
}

/// How much [`Frames`] checks of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Header and payload: a frame that is handed out is as it was written.
    Payload,
    /// The header only; the payload's bytes are not touched, so that a mapped file is indexed without being
    /// read. A payload is checked by [`Frame::verify`] before its first use.
    HeaderOnly,
}

/// What is wrong with a stretch of a file.
///
/// [`CutShort`](Damage::CutShort), or [`BadHeader`](Damage::BadHeader) that goes on until the end of the
/// file, is what a crash while writing leaves: a torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Damage {
    /// No good header where one was due, nor, up to the end of the stretch, any whole frame.
    BadHeader,
    /// The header is good and the payload is not: this frame is lost, the next is found.
    BadPayload,
    /// The file ends inside a frame.
    CutShort,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadHeader => "bad frame header",
            Self::BadPayload => "bad payload checksum",
            Self::CutShort => "file ends inside a frame",
        })
    }
}

/// A frame, or a stretch of the file that holds none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Bytes that belong to no frame that is handed out.
    Damage {
        /// Where the stretch begins in the file.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// What is wrong with it.
        what: Damage,
    },
}

/// Reads the frames of a file in order, and finds the next whole one behind damage.
///
/// The items cover the file from `start` to its end without gap or overlap.
///
/// Behind a bad header the reader goes on byte by byte until header *and payload* of a frame are good,
/// whatever the [`Check`]: while nothing says where a frame should begin, a header alone is too little
/// evidence to skip by.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    seed: u64,
    at: usize,
    check: Check,
}

impl<'a> Frames<'a> {
    /// Reads the file whose whole content is `bytes`; the first frame stands at `start`, behind the file's
    /// header.
    pub fn new(bytes: &'a [u8], seed: u64, start: u64, check: Check) -> Self {
        let at = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
        Self { bytes, seed, at, check }
    }

    /// The first whole frame at or behind `from`, or the end of the file.
    fn resynchronise(&self, from: usize) -> usize {
        for at in from..self.bytes.len() {
            let Some(window) = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<OVERHEAD_BYTES>) else {
                break;
            };
            // The cheap tests first. Sixteen zero bytes, what a lost page reads as, are never a frame: an
            // empty payload behind a header checksum of 0 has the checksum 2144DF1C.
            if window[5..8] == [0; 3] && *window != [0; OVERHEAD_BYTES] {
                match Frame::at(self.bytes, self.seed, at as u64) {
                    Ok(frame) if frame.verify() => return at,
                    _ => {}
                }
            }
        }
        self.bytes.len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let offset = self.at as u64;
        let (end, what) = match Frame::at(self.bytes, self.seed, offset) {
            Ok(frame) => {
                let end = self.at + frame.payload.len() + OVERHEAD_BYTES;
                if self.check == Check::HeaderOnly || frame.verify() {
                    self.at = end;
                    return Some(Item::Frame(frame));
                }
                (end, Damage::BadPayload)
            }
            // The header is good, or there is no room for one: what follows belongs to the frame that was
            // cut.
            Err(Damage::CutShort) => (self.bytes.len(), Damage::CutShort),
            Err(what) => (self.resynchronise(self.at + 1), what),
        };
        self.at = end;
        Some(Item::Damage { offset, bytes: end as u64 - offset, what })
    }
}

impl FusedIterator for Frames<'_> {}

#[cfg(test)]
mod tests;
