//! Numbers of entries, and a column with the entries.

use super::{
    CodecError, ROWS_MAX,
    cursor::Cursor,
    pack::{bits_of, pack, packed_bytes, unpack, with_room},
    scheme::{self, Rank, Scheme},
};

/// Entries that a dictionary has at most.
pub(super) const ENTRIES_MAX: usize = 255;

/// Appends the number of each value's entry; the column of `entries` follows.
///
/// There are 2 to [`ENTRIES_MAX`] entries.
pub(super) fn encode_numbers(numbers: &[u8], entries: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[Scheme::Dictionary.tag(0), entries as u8]);
    pack(numbers.iter().map(|&number| u32::from(number)), width(entries), out);
}

/// Bits of an entry's number.
pub(super) fn width(entries: usize) -> u32 {
    bits_of(entries.saturating_sub(1) as u32)
}

/// Reads `out.len()` values from the `skip`-th on, of `count`.
pub(super) fn decode(
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    let offset = cursor.offset();
    let entries = usize::from(cursor.u8()?);
    if entries == 0 || entries > count {
        return Err(Cursor::bad(offset, "number of entries"));
    }
    let width = width(entries);
    let offset = cursor.offset();
    let bytes = cursor.take(packed_bytes(count, width))?;
    with_room(out.len(), |room| {
        let numbers = unpack(bytes, width, skip, out.len(), room);
        if numbers.iter().fold(0, |greatest, &number| number.max(greatest)) as usize >= entries {
            return Err(Cursor::bad(offset, "number of an entry"));
        }
        let mut values = [0.0; ROWS_MAX];
        scheme::decode(cursor, entries, 0, &mut values[..entries], Rank::Dictionary)?;
        for (slot, &number) in out.iter_mut().zip(&*numbers) {
            *slot = values[(number & 0xff) as usize];
        }
        Ok(())
    })
}
