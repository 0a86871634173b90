//! The ways to write a column, and which may stand inside which.

use super::{
    CodecError, constant,
    cursor::Cursor,
    dictionary, frame,
    image::Image,
    raw, runs,
    sparse::{self, Hole},
};

/// What the lower half of a tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Scheme {
    /// The floats as they are.
    Raw = 0,
    /// One float for all.
    Constant = 1,
    /// A frame over integers.
    Frame = 2,
    /// A frame over differences of integers.
    Delta = 3,
    /// Lengths of runs, and a column of one value a run.
    Runs = 4,
    /// Numbers of entries, and a column of entries.
    Dictionary = 5,
    /// The places of one value, and a column of the others.
    Sparse = 6,
}

impl Scheme {
    /// The tag: `upper` is what the scheme puts into the upper half.
    pub(super) const fn tag(self, upper: u8) -> u8 {
        self as u8 | upper << 4
    }
}

/// How deep a scheme may stand: a column stands only within one of a greater rank, so that nesting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Dictionary; raw, constants and frames may stand in it, and have nothing inside.
    Dictionary,
    /// Runs.
    Runs,
    /// Sparse with a value.
    Sparse,
    /// Sparse with missing values.
    Missing,
    /// The payload itself.
    Payload,
}

/// Reads `out.len()` values from the `skip`-th on, of a column of `count` that takes the rest of the payload and
/// stands within one of rank `within`.
pub(super) fn decode(
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
    within: Rank,
) -> Result<(), CodecError> {
    let offset = cursor.offset();
    let tag = cursor.u8()?;
    let upper = tag >> 4;
    match tag & 0x0f {
        0 if upper == 0 => raw::decode(cursor, count, skip, out),
        1 if upper <= 1 => constant::decode(upper == 1, cursor, out),
        2 if let Some(image) = Image::from_code(upper) => frame::decode(image, cursor, count, skip, out),
        3 if let Some(image) = Image::from_code(upper) => {
            frame::decode_delta(image, cursor, count, skip, out)
        }
        4 if upper == 0 && within > Rank::Runs => runs::decode(cursor, count, skip, out),
        5 if upper == 0 && within > Rank::Dictionary => dictionary::decode(cursor, count, skip, out),
        6 if let Some((hole, listed)) = Hole::from_code(upper)
            && within > hole.rank() =>
        {
            sparse::decode(hole, listed, cursor, count, skip, out)
        }
        _ => Err(CodecError::Tag { offset, tag }),
    }
}
