//! The places of one value that is often there, or of missing ones, and a column with all the others.

use super::{
    CANONICAL_NAN, CodecError,
    cursor::Cursor,
    scheme::{self, Rank, Scheme},
};

/// What stands at the places that the column inside leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hole {
    /// No value.
    Missing,
    /// Plus zero.
    Zero,
    /// Another value, which follows the tag.
    Value(u32),
}

impl Hole {
    /// The hole of floats with these bits.
    pub(super) fn of(bits: u32) -> Self {
        match bits {
            CANONICAL_NAN => Self::Missing,
            0 => Self::Zero,
            _ => Self::Value(bits),
        }
    }

    /// What the upper half of a tag says: the hole, a value still to be read, and whether places are listed.
    pub(super) fn from_code(code: u8) -> Option<(Self, bool)> {
        let hole = match code & 0b1110 {
            0 => Self::Missing,
            2 => Self::Zero,
            4 => Self::Value(0),
            _ => return None,
        };
        Some((hole, code & 1 != 0))
    }

    fn code(self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Zero => 2,
            Self::Value(_) => 4,
        }
    }

    /// Where a column with such holes may stand.
    pub(super) fn rank(self) -> Rank {
        match self {
            Self::Missing => Rank::Missing,
            Self::Zero | Self::Value(_) => Rank::Sparse,
        }
    }
}

/// Which of up to 256 places are holes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Places([u64; 4]);

impl Places {
    /// Adds a place, which is below 256, or does not.
    #[inline]
    pub(super) fn add_if(&mut self, is_hole: bool, place: usize) {
        self.0[place / 64 % 4] |= u64::from(is_hole) << (place % 64);
    }

    /// Whether the place, below 256, is a hole.
    #[inline]
    fn has(&self, place: usize) -> bool {
        self.0[place / 64 % 4] >> (place % 64) & 1 != 0
    }

    /// Holes before `place`, which is at most 256.
    fn before(&self, place: usize) -> usize {
        let mut holes = 0;
        for (index, &word) in self.0.iter().enumerate() {
            let kept = match place.saturating_sub(64 * index) {
                0 => 0,
                bits @ 1..64 => word & ((1 << bits) - 1),
                _ => word,
            };
            holes += kept.count_ones() as usize;
        }
        holes
    }
}

/// Appends the places of the `holes` of `count` values; the column of the others follows.
///
/// There is at least one hole, and at least one other value.
pub(super) fn encode_places(hole: Hole, places: &Places, holes: usize, count: usize, out: &mut Vec<u8>) {
    let bitmap_bytes = count.div_ceil(8);
    let listed = holes < bitmap_bytes;
    out.push(Scheme::Sparse.tag(hole.code() | u8::from(listed)));
    if let Hole::Value(bits) = hole {
        out.extend_from_slice(&bits.to_le_bytes());
    }
    if listed {
        out.push(holes as u8);
        out.extend((0..count).filter(|&place| places.has(place)).map(|place| place as u8));
    } else {
        let bytes = places.0.iter().flat_map(|word| word.to_le_bytes());
        out.extend(bytes.take(bitmap_bytes));
    }
}

fn read_places(listed: bool, cursor: &mut Cursor<'_>, count: usize) -> Result<Places, CodecError> {
    let mut places = Places::default();
    let offset = cursor.offset();
    if listed {
        let holes = usize::from(cursor.u8()?);
        let list = cursor.take(holes)?;
        if !list.is_sorted_by(|a, b| a < b) || list.last().is_some_and(|&last| usize::from(last) >= count) {
            return Err(Cursor::bad(offset, "places"));
        }
        for &place in list {
            places.add_if(true, usize::from(place));
        }
    } else {
        for (index, &byte) in cursor.take(count.div_ceil(8))?.iter().enumerate() {
            places.0[index / 8] |= u64::from(byte) << (index % 8 * 8);
        }
        if places.before(256) != places.before(count) {
            return Err(Cursor::bad(offset, "places"));
        }
    }
    let holes = places.before(count);
    if holes == 0 || holes >= count {
        return Err(Cursor::bad(offset, "number of places"));
    }
    Ok(places)
}

/// Reads `out.len()` values from the `skip`-th on, of `count`.
pub(super) fn decode(
    hole: Hole,
    listed: bool,
    cursor: &mut Cursor<'_>,
    count: usize,
    skip: usize,
    out: &mut [f32],
) -> Result<(), CodecError> {
    let value = f32::from_bits(match hole {
        Hole::Missing => CANONICAL_NAN,
        Hole::Zero => 0,
        Hole::Value(_) => cursor.u32()?,
    });
    let places = read_places(listed, cursor, count)?;
    let end = skip + out.len();
    let inside = skip - places.before(skip);
    let len = end - places.before(end) - inside;
    scheme::decode(cursor, count - places.before(count), inside, &mut out[..len], hole.rank())?;
    // From the back, so that no value is overwritten before it has moved to its place.
    let mut left = len;
    for index in (0..out.len()).rev() {
        if left == index + 1 {
            // No hole is left before here: all values stand where they belong.
            break;
        }
        out[index] = if places.has(skip + index) {
            value
        } else {
            left -= 1;
            out[left]
        };
    }
    Ok(())
}
