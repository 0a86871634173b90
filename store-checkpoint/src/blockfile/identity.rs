//! The identity of a file whose header is lost, from any frame that is still whole.
//!
//! The files of every host have a seed of their own, or the bytes of another host's file, which a crash can leave
//! in a hole of this one, would be frames here too. A frame's header checksum covers the seed; with all else that it covers
//! known, the 32 unknown bits follow from its 32 bits. Whether a frame is whole its payload checksum says,
//! which does not need the seed.

use std::collections::BTreeMap;

use store_core::block::{BLOCK_HEADER_BYTES, BlockHeader};
use store_core::wire::Cursor;
use store_disk::frame::{Frame, HEADER_BYTES as FRAME_HEADER_BYTES};

use super::{FLOOR_BYTES, FLOORS_HEAD_BYTES, HEADER_BYTES, KIND_BLOCK, KIND_FLOORS, seed};

/// The identity that most whole frames of the file were written under.
///
/// Most rather than first: a hole may hold frames of another file at the places where they stood there.
pub(super) fn of_frames(file: &[u8]) -> Option<u32> {
    let mut frames: BTreeMap<u32, usize> = BTreeMap::new();
    let mut at = HEADER_BYTES;
    while at < file.len() {
        match frame_at(file, at) {
            Some((identity, end)) => {
                *frames.entry(identity).or_default() += 1;
                at = end;
            }
            None => at += 1,
        }
    }
    frames.into_iter().max_by_key(|(_, count)| *count).map(|(identity, _)| identity)
}

/// The identity under which the bytes at `at` are a whole frame, and the frame's end.
///
/// Blocks and floors only: they can be told by a glance, so that not every byte of a file is taken for the begin
/// of a long payload and summed up; and without them the rest is worth nothing.
fn frame_at(file: &[u8], at: usize) -> Option<(u32, usize)> {
    let bytes = file.get(at..)?;
    let (front, rest) = bytes.split_first_chunk::<8>()?;
    let (header_crc, rest) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d, kind, zero @ ..] = *front;
    let payload = rest.get(..u32::from_le_bytes([a, b, c, d]) as usize)?;
    let plausible = zero == [0; 3]
        && match kind {
            KIND_BLOCK => BlockHeader::decode(payload)
                .is_ok_and(|header| payload.len() - BLOCK_HEADER_BYTES == header.body_bytes as usize),
            KIND_FLOORS => payload.get(16..).and_then(|rest| Cursor::new(rest).u32()).is_some_and(|count| {
                Some(payload.len() - FLOORS_HEAD_BYTES) == (count as usize).checked_mul(FLOOR_BYTES)
            }),
            _ => false,
        };
    if !plausible {
        return None;
    }
    let identity = solve(u32::from_le_bytes(*header_crc), at as u64, *front)?;
    let frame = Frame::at(file, seed(identity), at as u64).ok().filter(Frame::verify)?;
    Some((identity, at + FRAME_HEADER_BYTES + frame.payload.len() + 4))
}

/// The identity under which a frame's header has this checksum.
fn solve(header_crc: u32, offset: u64, front: [u8; 8]) -> Option<u32> {
    let crc_of = |identity: u32| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&seed(identity).to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(&front);
        hasher.finalize()
    };
    // A checksum is linear in its input, but for a constant: each bit of the identity flips a fixed set of bits.
    let constant = crc_of(0);
    let mut basis: Vec<(u32, u32)> = Vec::with_capacity(32);
    for bit in 0..32 {
        let flips = reduce(&basis, (crc_of(1 << bit) ^ constant, 1 << bit));
        if flips.0 != 0 {
            basis.push(flips);
            basis.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
    let (left, identity) = reduce(&basis, (header_crc ^ constant, 0));
    (left == 0).then_some(identity)
}

/// Clears the leading bit of each element of the basis, greatest first.
fn reduce(basis: &[(u32, u32)], vector: (u32, u32)) -> (u32, u32) {
    basis.iter().fold(vector, |(flips, bits), (element, its_bits)| {
        if flips ^ element < flips { (flips ^ element, bits ^ its_bits) } else { (flips, bits) }
    })
}

#[cfg(test)]
mod tests {
    use store_disk::frame;

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
