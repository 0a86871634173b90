//! [`LogPos`]: where a frame stands in the log.

use std::fmt;

/// The position of a frame: its segment, and its offset in bytes in that segment's file.
///
/// Positions of one directory grow for ever, over restarts, errors and lost directories: a later append
/// has a greater position than any earlier one.
/// They need not lie at a frame: a position that was given out while nothing could be logged names no bytes.
///
/// One integer rather than a pair, so that a caller can keep it in files and compare it without knowing what
/// it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LogPos(u64);

impl LogPos {
    /// Before every frame.
    pub const ZERO: Self = Self(0);

    /// The position `offset` bytes into segment `segment`.
    pub const fn new(segment: u32, offset: u32) -> Self {
        // Widening only: `u64::from` is not const.
        Self((segment as u64) << 32 | offset as u64)
    }

    /// The position that [`to_u64`](Self::to_u64) gave.
    pub const fn from_u64(position: u64) -> Self {
        Self(position)
    }

    /// The position as an integer of the same order.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// Number of the segment.
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Offset in the segment's file, in bytes.
    pub const fn offset(self) -> u32 {
        (self.0 & 0xFFFF_FFFF) as u32
    }
}

/// `segment:offset`, both decimal.
impl fmt::Display for LogPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

/// With both parts, as `Display`.
impl fmt::Debug for LogPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPos({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::LogPos;

    #[test]
    fn positions_order_by_segment_and_then_by_offset() {
        let sorted = [
            LogPos::ZERO,
            LogPos::new(0, u32::MAX),
            LogPos::new(1, 0),
            LogPos::new(1, 88),
            LogPos::new(2, 0),
            LogPos::new(u32::MAX, u32::MAX),
        ];
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "{sorted:?}");
    }

    #[test]
    fn a_position_survives_the_way_through_an_integer_and_prints_both_parts() {
        let position = LogPos::new(7, 4096);
        assert_eq!(LogPos::from_u64(position.to_u64()), position);
        assert_eq!((position.segment(), position.offset()), (7, 4096));
        assert_eq!(position.to_string(), "7:4096");
        assert_eq!(position.to_u64(), 7 << 32 | 4096);
    }
}
