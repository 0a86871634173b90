//! The identity of a file whose header is lost, from any frame that is still whole.
//!
//! The files of every host have a seed of their own, or the bytes of another host's file, which a crash can leave
//! in a hole of this one, would be frames here too. A frame's header checksum covers the seed; with all else that it covers
//! known, the 32 unknown bits follow from its 32 bits. Whether they are right the payload says: that of floors by its checksum,
//! a block by its own header.

use std::collections::BTreeMap;

use store_core::block::{BLOCK_HEADER_BYTES, BLOCK_OVERHEAD_BYTES, BlockHeader};
use store_core::wire::Cursor;
use store_disk::frame::{self, Frame, HEADER_BYTES as FRAME_HEADER_BYTES};

use super::{FLOOR_BYTES, FLOORS_HEAD_BYTES, HEADER_BYTES, KIND_BLOCK, KIND_FLOORS, seed};

/// Where the header of a block says how long its body is.
const BODY_BYTES_AT: usize = 56;

/// The identity that most whole frames of the file were written under.
///
/// Most rather than first: a hole may hold frames of another file at the places where they stood there.
pub(super) fn of_frames(file: &[u8]) -> Option<u32> {
    let mut frames: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    let mut at = HEADER_BYTES;
    while at < file.len() {
        match frame_at(file, at) {
            Some((identity, is_certain, end)) => {
                let (certain, all) = frames.entry(identity).or_default();
                (*certain, *all) = (*certain + usize::from(is_certain), *all + 1);
                at = end;
            }
            None => at += 1,
        }
    }
    frames.into_iter().max_by_key(|(_, count)| *count).map(|(identity, _)| identity)
}

/// The identity under which the bytes at `at` are a frame of it, and the frame's end.
///
/// Blocks and floors only: they can be told by a glance, so that not every byte of a file is taken for the begin
/// of a long payload and summed up; and without them the rest is worth nothing. A block is known by its own header: its
/// columns may be damaged.
///
/// Whether it is certain: both headers of a block say so. What other frames say is true only where they were written.
fn frame_at(file: &[u8], at: usize) -> Option<(u32, bool, usize)> {
    let bytes = file.get(at..)?;
    let (front, rest) = bytes.split_first_chunk::<8>()?;
    let (header_crc, rest) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d, kind, zero @ ..] = *front;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let payload = rest.get(..len)?;
    let plausible = zero == [0; 3]
        && match kind {
            KIND_BLOCK => payload
                .get(BODY_BYTES_AT..)
                .and_then(|rest| Cursor::new(rest).u32())
                .is_some_and(|body_bytes| len.checked_sub(BLOCK_OVERHEAD_BYTES) == Some(body_bytes as usize)),
            KIND_FLOORS => payload.get(16..).and_then(|rest| Cursor::new(rest).u32()).is_some_and(|count| {
                Some(payload.len() - FLOORS_HEAD_BYTES) == (count as usize).checked_mul(FLOOR_BYTES)
            }),
            _ => false,
        };
    if !plausible {
        return None;
    }
    let end = at + FRAME_HEADER_BYTES + len + 4;
    if kind == KIND_BLOCK
        && let Some(identity) = of_block(payload)
    {
        return Some((identity, true, end));
    }
    let identity = solve(u32::from_le_bytes(*header_crc), at as u64, *front)?;
    let frame = Frame::at(file, seed(identity), at as u64).ok()?;
    let is_whole = match kind {
        KIND_BLOCK => BlockHeader::decode(payload, identity).is_ok(),
        _ => frame.verify(),
    };
    is_whole.then_some((identity, false, end))
}

/// The identity under which a block was written, if both of its headers are whole: wherever it stands, also where bytes
/// came in or went before it.
fn of_block(payload: &[u8]) -> Option<u32> {
    let (front, behind) =
        (payload.first_chunk::<BLOCK_HEADER_BYTES>()?, payload.last_chunk::<BLOCK_HEADER_BYTES>()?);
    let (covered, crc) = front.split_last_chunk::<4>()?;
    let identity = frame::solve(u32::from_le_bytes(*crc), |identity| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&identity.to_le_bytes());
        hasher.update(covered);
        hasher.finalize()
    })?;
    let (one, other) =
        (BlockHeader::decode(front, identity).ok()?, BlockHeader::decode(behind, identity).ok()?);
    (one.0 == other.0).then_some(identity)
}

/// The identity under which a frame's header has this checksum.
fn solve(header_crc: u32, offset: u64, front: [u8; 8]) -> Option<u32> {
    frame::solve(header_crc, |identity| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&seed(identity).to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(&front);
        hasher.finalize()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_a_frame_follows_from_its_checksum() {
        for (identity, offset) in [(0, 64), (1, 64), (0xdead_beef, 70_000), (u32::MAX, 5 << 32)] {
            let mut bytes = Vec::new();
            frame::encode_into(&mut bytes, seed(identity), offset, KIND_FLOORS, &[&[0; 20]]);
            let front = *bytes.first_chunk::<8>().unwrap();
            let crc = Cursor::new(&bytes[8..]).u32().unwrap();
            assert_eq!(solve(crc, offset, front), Some(identity));
        }
    }
}
