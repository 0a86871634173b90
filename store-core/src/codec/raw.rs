//! Values as they are: four bytes each, little endian.

use super::{CANONICAL_NAN, CodecError, cursor::Cursor};

/// Appends the values.
pub(super) fn encode(values: &[f32], out: &mut Vec<u8>) {
    out.reserve(4 * values.len());
    for &value in values {
        let bits = if value.is_nan() { CANONICAL_NAN } else { value.to_bits() };
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

/// Reads `out.len()` values from the `skip`-th on, of `count` values of which nothing may follow.
pub(super) fn decode(
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    let bytes = cursor.take(4 * count)?;
    cursor.finish()?;
    let (words, _) = bytes.as_chunks::<4>();
    for (slot, word) in out.iter_mut().zip(&words[skip..]) {
        *slot = f32::from_le_bytes(*word);
    }
    Ok(())
}
