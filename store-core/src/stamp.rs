//! [`Stamp`]: when a record was accepted, in the order of the log.

use std::fmt;

/// Says which of two writes came later. Given out with each record, grows over restarts.
///
/// In truth the position of the record in the log, which this crate does not know; the caller converts.
/// Zero is below every record: what was imported from files without positions carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Below every record.
    pub const ZERO: Self = Self(0);
    /// Above every record: "nothing needs the log".
    pub const MAX: Self = Self(u64::MAX);
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}
