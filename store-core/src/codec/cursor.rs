//! Reading a payload from front to back, every step checked.

use super::CodecError;

/// What is left of a payload, and where in it that begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, offset: 0 }
    }

    /// Where the next byte stands in the payload.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(CodecError::CutShort { offset: self.offset });
        };
        self.rest = rest;
        self.offset += count;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Errs unless everything was read.
    pub(super) fn finish(&self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing { offset: self.offset }) }
    }

    /// The error of a field that began at `offset`.
    pub(super) fn bad(offset: usize, field: &'static str) -> CodecError {
        CodecError::Field { offset, field }
    }
}
