//! One value throughout.

use super::{CodecError, cursor::Cursor, scheme::Scheme};

/// Appends the one value.
pub(super) fn encode(bits: u32, out: &mut Vec<u8>) {
    out.push(Scheme::Constant.tag(u8::from(bits == 0)));
    if bits != 0 {
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

/// Reads it; zero has no bytes.
pub(super) fn decode(zero: bool, cursor: &mut Cursor<'_>, out: &mut [f32]) -> Result<(), CodecError> {
    let bits = if zero { 0 } else { cursor.u32()? };
    cursor.finish()?;
    out.fill(f32::from_bits(bits));
    Ok(())
}
