//! [`Cursor`]: reads little-endian numbers from bytes that may end anywhere.

/// A place in a byte string. Every read returns `None` where the bytes end early, and then moves nothing.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a>(&'a [u8]);

macro_rules! number {
    ($name:ident, $type:ty) => {
        /// The next number.
        pub fn $name(&mut self) -> Option<$type> {
            let (head, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            Some(<$type>::from_le_bytes(*head))
        }
    };
}

impl<'a> Cursor<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    number!(u8, u8);
    number!(u16, u16);
    number!(u32, u32);
    number!(u64, u64);
    number!(i64, i64);

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    /// Bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
