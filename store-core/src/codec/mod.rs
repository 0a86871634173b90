//! One column of a block as bytes: at most 256 values of one series, oldest first, NaN where one is missing.
//!
//! [`encode`] and [`decode`] are the adaptive codec; the `_with` functions take the codec's number as it stands in
//! the header of a block, so that older blocks stay readable when a better codec comes.
//! Both codecs give back every bit pattern of an `f32` except that every NaN becomes the canonical one, `0x7fc0_0000`.
//! A column without any value has no bytes at all.
//!
//! Decoding trusts nothing: any bytes give values or a [`CodecError`], never a panic, and it allocates nothing.
//!
//! ```
//! use store_core::codec;
//!
//! let values: Vec<f32> = (0..256_u16).map(|i| f32::from(i % 7) / 100.0).collect();
//! let mut payload = Vec::new();
//! codec::encode(&values, &mut payload);
//! assert!(payload.len() < 150);
//!
//! let mut some = [0.0; 3];
//! codec::decode(&payload, values.len(), 100..103, &mut some)?;
//! assert_eq!(some, values[100..103]);
//! # Ok::<(), codec::CodecError>(())
//! ```

use std::ops::Range;

mod choose;
mod constant;
mod cursor;
mod dictionary;
mod error;
mod fit;
pub mod format;
mod frame;
mod image;
mod pack;
mod raw;
mod runs;
mod scheme;
mod sparse;
#[cfg(test)]
mod tests;

pub use error::CodecError;

/// The codec that stores values as they are.
pub const RAW: u8 = 0;

/// The adaptive codec: see [`mod@format`].
pub const ADAPTIVE: u8 = 1;

/// Rows that a column has at most.
pub const ROWS_MAX: usize = 256;

/// The bits of the one NaN that is stored: a missing value.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// Bytes that a payload of `rows` rows has at most, whatever the codec and the values.
pub const fn payload_bytes_max(rows: usize) -> usize {
    4 * rows + 1
}

/// Whether this version has a codec of that number.
pub const fn is_known(codec: u8) -> bool {
    codec <= ADAPTIVE
}

/// Appends the column, encoded adaptively.
///
/// Nothing is appended if every value is NaN, and never more than [`payload_bytes_max`].
///
/// # Panics
/// If there are more than [`ROWS_MAX`] values.
pub fn encode(values: &[f32], out: &mut Vec<u8>) {
    encode_with(ADAPTIVE, values, out);
}

/// Appends the column with the codec of that number, as [`encode`] does.
///
/// # Panics
/// If there are more than [`ROWS_MAX`] values, or the codec is not [known](is_known).
pub fn encode_with(codec: u8, values: &[f32], out: &mut Vec<u8>) {
    assert!(is_known(codec), "there is no codec {codec} to encode with");
    assert!(values.len() <= ROWS_MAX, "a block has at most {ROWS_MAX} rows, not {}", values.len());
    if values.iter().all(|value| value.is_nan()) {
        return;
    }
    match codec {
        RAW => raw::encode(values, out),
        _ => choose::encode(values, out),
    }
}

/// Decodes the rows `range` of a column of `rows` rows that [`encode`] has written.
///
/// # Errors
/// What is wrong with the payload or the range. Damage outside of the range may go unnoticed.
///
/// # Panics
/// If `out` is not as long as the range.
pub fn decode(payload: &[u8], rows: usize, range: Range<usize>, out: &mut [f32]) -> Result<(), CodecError> {
    decode_with(ADAPTIVE, payload, rows, range, out)
}

/// Decodes with the codec of that number, as [`decode`] does.
///
/// # Errors
/// As [`decode`], and [`CodecError::UnknownCodec`].
///
/// # Panics
/// If `out` is not as long as the range.
pub fn decode_with(
    codec: u8,
    payload: &[u8],
    rows: usize,
    range: Range<usize>,
    out: &mut [f32],
) -> Result<(), CodecError> {
    if !is_known(codec) {
        return Err(CodecError::UnknownCodec { codec });
    }
    if rows > ROWS_MAX {
        return Err(CodecError::TooManyRows { rows });
    }
    if range.start > range.end || range.end > rows {
        return Err(CodecError::Range { start: range.start, end: range.end, rows });
    }
    assert_eq!(out.len(), range.len(), "the output is as long as the range");
    if payload.is_empty() {
        out.fill(f32::from_bits(CANONICAL_NAN));
        return Ok(());
    }
    let mut cursor = cursor::Cursor::new(payload);
    match codec {
        RAW => raw::decode(&mut cursor, rows, range.start, out),
        _ => scheme::decode(&mut cursor, rows, range.start, out, scheme::Rank::Payload),
    }
}

/// Adds the rows `range` of a column to `sums`, missing values making NaN of what they are added to.
///
/// # Errors
/// As [`decode_with`]; then `sums` is as it was.
///
/// # Panics
/// If `sums` is not as long as the range.
pub fn sum_into(
    codec: u8,
    payload: &[u8],
    rows: usize,
    range: Range<usize>,
    sums: &mut [f64],
) -> Result<(), CodecError> {
    let mut add = |values: &mut [f32]| {
        decode_with(codec, payload, rows, range.clone(), values)?;
        assert_eq!(sums.len(), values.len(), "the sums are as long as the range");
        for (sum, &value) in sums.iter_mut().zip(&*values) {
            *sum += f64::from(value);
        }
        Ok(())
    };
    match range.len() {
        len @ ..=pack::SHORT => add(&mut [0.0; pack::SHORT][..len]),
        len => add(&mut [0.0; ROWS_MAX][..len.min(ROWS_MAX)]),
    }
}
