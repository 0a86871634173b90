//! The codec as its callers see it: what goes in comes out, in few bytes, and nothing it reads can hurt it.

mod columns;
mod damage;
mod golden;
mod lossless;
mod size;

use super::{CANONICAL_NAN, ROWS_MAX, decode, encode, payload_bytes_max};

/// The encoded column.
fn payload_of(values: &[f32]) -> Vec<u8> {
    let mut payload = vec![0xee];
    encode(values, &mut payload);
    assert_eq!(payload[0], 0xee, "what stood there before stays");
    payload.remove(0);
    payload
}

/// The bits that must come back for these values.
fn canonical(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { CANONICAL_NAN } else { value.to_bits() }).collect()
}

/// The bits of the decoded rows.
fn bits_of(
    payload: &[u8],
    rows: usize,
    range: std::ops::Range<usize>,
) -> Result<Vec<u32>, super::CodecError> {
    let mut out = [-77.0; ROWS_MAX];
    let out = &mut out[..range.len()];
    decode(payload, rows, range, out)?;
    Ok(out.iter().map(|value| value.to_bits()).collect())
}

/// Encodes, decodes, compares bit for bit, and gives the payload.
fn assert_lossless(values: &[f32]) -> Vec<u8> {
    let payload = payload_of(values);
    assert!(payload.len() <= payload_bytes_max(values.len()), "{} bytes for {values:?}", payload.len());
    assert_eq!(bits_of(&payload, values.len(), 0..values.len()).unwrap(), canonical(values));
    payload
}
