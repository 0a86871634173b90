//! Lengths of runs, and a column with the value of each.

use super::{
    CodecError, ROWS_MAX,
    cursor::Cursor,
    pack::{bits_of, pack, packed_bytes, unpack, with_room},
    scheme::{self, Rank, Scheme},
};

/// Appends the lengths; the column of `values` follows.
///
/// There are 2 to 255 runs, of 1 to 256 values each.
pub(super) fn encode_lengths(lengths: &[u16], out: &mut Vec<u8>) {
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let width = bits_of(u32::from(longest) - 1);
    out.extend_from_slice(&[Scheme::Runs.tag(0), lengths.len() as u8, width as u8]);
    pack(lengths.iter().map(|&length| u32::from(length) - 1), width, out);
}

/// Reads `out.len()` values from the `skip`-th on, of `count`.
pub(super) fn decode(
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    let offset = cursor.offset();
    let runs = usize::from(cursor.u8()?);
    if runs == 0 || runs > count {
        return Err(Cursor::bad(offset, "number of runs"));
    }
    let offset = cursor.offset();
    let width = u32::from(cursor.u8()?);
    if width > 8 {
        return Err(Cursor::bad(offset, "width"));
    }
    let offset = cursor.offset();
    let bytes = cursor.take(packed_bytes(runs, width))?;
    with_room(runs, |room| {
        let lengths = unpack(bytes, width, 0, runs, room);
        decode_values(cursor, lengths, offset, count, skip, out)
    })
}

/// Reads what is behind the lengths, which begin at `offset`.
fn decode_values(
    cursor: &mut Cursor<'_>,
    lengths: &[u32],
    offset: usize,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    // At most 255 * 256: no overflow.
    if lengths.iter().map(|&length| length as usize + 1).sum::<usize>() != count {
        return Err(Cursor::bad(offset, "lengths of runs"));
    }
    // The runs from `first` to before `last` reach into the range; that of `first` begins at `begin`.
    let end = skip + out.len();
    let (mut first, mut last, mut begin, mut at) = (0, 0, 0, 0);
    for (run, &length) in lengths.iter().enumerate() {
        if at <= skip {
            (first, begin) = (run, at);
        }
        if at < end {
            last = run + 1;
        }
        at += length as usize + 1;
    }
    let mut values = [0.0; ROWS_MAX];
    let values = &mut values[..last.saturating_sub(first)];
    scheme::decode(cursor, lengths.len(), first, values, Rank::Runs)?;
    let mut at = begin;
    for (&value, &length) in values.iter().zip(&lengths[first..]) {
        let until = (at + length as usize + 1).min(end);
        out[at.max(skip) - skip..until - skip].fill(value);
        at = until;
    }
    Ok(())
}
