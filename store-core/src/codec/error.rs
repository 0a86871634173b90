//! Why a payload cannot be decoded.

/// A payload that no encoder has written, or a request that it cannot answer.
///
/// The output may hold some values already; they mean nothing. Offsets count from the start of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The block names a codec that this version does not have.
    #[error("unknown codec {codec}")]
    UnknownCodec {
        /// The number in the block's header.
        codec: u8,
    },
    /// More rows than a block can have.
    #[error("a column of {rows} rows, where a block has at most 256")]
    TooManyRows {
        /// The number of rows asked for.
        rows: usize,
    },
    /// The rows asked for are not in the block.
    #[error("rows {start}..{end} of a column of {rows}")]
    Range {
        /// First row asked for.
        start: usize,
        /// Row behind the last one asked for.
        end: usize,
        /// Rows of the block.
        rows: usize,
    },
    /// The payload ends before what it announces.
    #[error("the payload ends within the field at byte {offset}")]
    CutShort {
        /// Where the field begins that is not there.
        offset: usize,
    },
    /// The payload goes on behind the last value.
    #[error("the payload goes on behind its end at byte {offset}")]
    Trailing {
        /// Where it should have ended.
        offset: usize,
    },
    /// No scheme has this tag, or none may have it in this place.
    #[error("tag {tag:#04x} at byte {offset} is not possible there")]
    Tag {
        /// Where the tag stands.
        offset: usize,
        /// The tag.
        tag: u8,
    },
    /// A field has a value that contradicts the number of rows or its own limits.
    #[error("impossible {field} at byte {offset}")]
    Field {
        /// Where the field begins.
        offset: usize,
        /// Its name, as the format page calls it.
        field: &'static str,
    },
}
