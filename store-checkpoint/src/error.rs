//! What can be wrong with a file, and with a dump that is to become one.

/// What is wrong at one place of a `.json` or `.bin` version 1 file.
///
/// Writers refuse a dump for the same reasons, so that nothing is written that is not read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The magic is not that of version 1.
    #[error("not a version 1 file")]
    NotVersion1,
    /// The file ends inside a field.
    #[error("cut short")]
    CutShort,
    /// More entries are announced than the rest of the file can hold.
    #[error("more entries announced than the file can hold")]
    CountTooLarge,
    /// Bytes follow behind the last level.
    #[error("bytes behind the end")]
    TrailingBytes,
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    EmptyRange,
    /// Levels are nested deeper than [`LEVELS_MAX`](crate::format::LEVELS_MAX).
    #[error("levels nested too deep")]
    TooDeep,
    /// A name is longer than [`NAME_BYTES_MAX`](crate::format::NAME_BYTES_MAX).
    #[error("name too long")]
    NameTooLong,
    /// One level holds the same name twice.
    #[error("a name stands twice in one level")]
    Duplicate,
    /// A frequency is not between 1 and `u32::MAX` seconds.
    #[error("frequency out of bounds")]
    Frequency,
    /// The times of a series leave the range of `i64`.
    #[error("times overflow")]
    TimeOverflow,
    /// A series begins or ends outside the range of its file.
    #[error("series outside the range of its file")]
    OutsideRange,
    /// More values than a count of 32 bits can say.
    #[error("too many values")]
    TooManyValues,
    /// A value is neither a number nor missing.
    #[error("not a number")]
    NotANumber,
    /// Names repeated for every series would take far more memory than the file has bytes.
    #[error("decoded size out of proportion")]
    OutOfProportion,
}

/// Why bytes are not a checkpoint. Nothing of them was handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes break a rule of the format.
    #[error("damaged at byte {offset}: {damage}")]
    Damaged {
        /// Where, counted from the begin of the file.
        offset: u64,
        /// What.
        damage: Damage,
    },
    /// The bytes are not JSON, or not of the expected kind.
    #[error("no JSON checkpoint")]
    Json(#[source] serde_json::Error),
}

impl FormatError {
    /// What is damaged, unless the bytes are not even JSON.
    pub fn damage(&self) -> Option<Damage> {
        match self {
            Self::Damaged { damage, .. } => Some(*damage),
            Self::Json(_) => None,
        }
    }
}

/// Why a dump was not encoded. No byte was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The dump's range is one that readers refuse.
    #[error("cannot write the range {from} to {to}: {damage}")]
    Range {
        /// Begin of the range.
        from: i64,
        /// End of the range.
        to: i64,
        /// What readers would say.
        damage: Damage,
    },
    /// A series is one that readers refuse.
    #[error("cannot write {series}: {damage}")]
    Series {
        /// The series, its levels separated by slashes.
        series: String,
        /// What readers would say.
        damage: Damage,
    },
    /// The JSON writer failed.
    #[error("cannot write JSON")]
    Json(#[source] serde_json::Error),
    /// The binary writer failed.
    #[error("cannot write binary")]
    Binary(#[source] bincode::error::EncodeError),
}
