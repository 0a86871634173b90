#![doc = include_str!("../FORMAT.md")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use store_disk::{Lineage, frame};

use crate::LogPos;

/// First bytes of each half of a segment's header: `CCWL`.
pub const MAGIC: [u8; 4] = *b"CCWL";

/// The version of segments that this crate writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Length of one half of the header; the second half is a copy of the first.
pub const HALF_BYTES: usize = 32;

/// Length of the header of a segment. The first frame follows it.
pub const HEADER_BYTES: usize = 64;

/// Frames of lesser kinds belong to the log itself; a caller's frames have kinds from here to 255.
pub const KIND_USER_MIN: u8 = 16;

/// Kind of the frame that says where a replay begins.
pub const KIND_LOG_START: u8 = 1;

/// Length of the payload of a LogStart frame.
pub const LOG_START_BYTES: usize = 8;

/// Bytes of a segment into which nothing was appended yet: header and first LogStart.
pub const FIRST_BYTES: usize = HEADER_BYTES + frame::OVERHEAD_BYTES + LOG_START_BYTES;

/// No segment grows beyond this; positions have 32 bits for the offset, and need room above.
pub const SEGMENT_BYTES_LIMIT: u32 = 3 << 30;

/// Greatest number of a segment. A file with a greater number in its name is not ours.
pub const NUMBER_MAX: u32 = 4_000_000_000;

/// Greatest number in a name that a start takes for one of a segment: a file that somebody put there, with the greatest
/// number, must not leave the log without any.
pub const NUMBER_FOUND_MAX: u32 = NUMBER_MAX - 1_000_000;

/// Digits of the number in a segment's name, leading zeros included.
pub const NAME_DIGITS: usize = 20;

const _: () = assert!(HEADER_BYTES == 2 * HALF_BYTES);
const _: () = assert!(FIRST_BYTES == 88);
const _: () = assert!(SEGMENT_BYTES_LIMIT as u64 + frame::PAYLOAD_BYTES_MAX as u64 <= u32::MAX as u64);

const SUFFIX: &str = ".wal";
const CORRUPT: &str = ".corrupt-";

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) number: u32,
    pub(crate) lineage: Lineage,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut half = Vec::with_capacity(HALF_BYTES);
        half.extend_from_slice(&MAGIC);
        half.extend_from_slice(&self.version.to_le_bytes());
        half.extend_from_slice(&self.number.to_le_bytes());
        half.extend_from_slice(&self.lineage.0);
        half.extend_from_slice(&crc32fast::hash(&half).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        let (first, second) = header.split_at_mut(HALF_BYTES);
        first.copy_from_slice(&half);
        second.copy_from_slice(&half);
        header
    }

    /// The header at the front of `bytes`, from whichever half is whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk::<HALF_BYTES>()?;
        Self::decode_half(first).or_else(|| Self::decode_half(rest.first_chunk::<HALF_BYTES>()?))
    }

    fn decode_half(half: &[u8; HALF_BYTES]) -> Option<Self> {
        let (covered, crc) = half.split_last_chunk::<4>()?;
        let (magic, rest) = covered.split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let lineage = rest.first_chunk::<16>()?;
        (*magic == MAGIC && u32::from_le_bytes(*crc) == crc32fast::hash(covered)).then_some(Self {
            version: u32::from_le_bytes(*version),
            number: u32::from_le_bytes(*number),
            lineage: Lineage(*lineage),
        })
    }
}

/// Header and first LogStart of a new segment, as one write.
pub(crate) fn first_bytes(lineage: Lineage, number: u32, start: LogPos) -> Vec<u8> {
    let mut out = Header { version: VERSION, number, lineage }.encode().to_vec();
    push_log_start(&mut out, seed(lineage, number), HEADER_BYTES as u64, start);
    out
}

/// Appends a LogStart frame that names `start`.
pub(crate) fn push_log_start(out: &mut Vec<u8>, seed: u64, offset: u64, start: LogPos) {
    frame::encode_into(out, seed, offset, KIND_LOG_START, &[&start.to_u64().to_le_bytes()]);
}

/// The position that a LogStart frame names.
pub(crate) fn decode_log_start(payload: &[u8]) -> Option<LogPos> {
    Some(LogPos::from_u64(u64::from_le_bytes(payload.try_into().ok()?)))
}

/// The seed of all frames of a segment.
pub(crate) fn seed(lineage: Lineage, number: u32) -> u64 {
    lineage.seed(u64::from(number))
}

/// The file of segment `number`.
pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:0width$}{SUFFIX}", width = NAME_DIGITS))
}

/// The number in the name of a segment; `None` if it is not the name of one.
pub(crate) fn segment_number(name: &OsStr) -> Option<u32> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    if digits.len() != NAME_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u64>().ok().and_then(|number| u32::try_from(number).ok())?;
    (1..=NUMBER_FOUND_MAX).contains(&number).then_some(number)
}

/// Whether the name says that its file was set aside, by this crate or another part of the store.
pub(crate) fn is_set_aside(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.rsplit_once(CORRUPT))
        .is_some_and(|(_, count)| !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The `count`-th name under which the file at `path` may be set aside.
pub(crate) fn set_aside_path(path: &Path, count: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{CORRUPT}{count}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
