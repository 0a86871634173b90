#![doc = include_str!("../FORMAT.md")]
//!
//! # In this module
//! One module per format, each with `encode` and `decode`; what they share stands here.

pub mod bin1;
pub mod json;

mod collect;
mod levels;

use crate::run::Dump;

/// Bytes of a metric's or a level's name at most.
pub const NAME_BYTES_MAX: usize = u16::MAX as usize;

/// Levels below the host at most. The original makes two.
pub const LEVELS_MAX: usize = 16;

/// A decoded file, with what had to be changed to hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What the file says.
    pub dump: Dump,
    /// Values that were infinite, or beyond f32, and are missing in the dump.
    pub infinite: u64,
    /// Names that were not UTF-8; each broken sequence in them became U+FFFD, as the original does in JSON.
    pub names_mended: u64,
}
