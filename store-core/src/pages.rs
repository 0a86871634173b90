//! [`Pages`]: the bytes of a file, as this crate sees them.
//!
//! This crate knows no files. Who does gives the blocks that stand in one such an object. Every access says what it
//! wants and may be refused: a page that cannot be read, or a file that was cut, is an error and not the end of the
//! process.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{BlockHeader, ColumnDamage};
use crate::shape::Shape;

/// Bytes that are made present together, at least: four pages. One call costs as much as two columns to decode.
const WINDOW_BYTES: usize = 16 << 10;

/// A range of a file that cannot be read: the disk refuses, or the file ends before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes cannot be read")]
pub struct Unavailable;

/// The bytes of one file, and the place where damage in it is told.
pub trait Pages: Send + Sync + fmt::Debug {
    /// Makes a range present: [`get`](Self::get) gives it soon afterwards without waiting for a disk. To be called
    /// once for a run of pages of a request, not for each column. What cannot be made present `get` says.
    fn ensure(&self, range: Range<u64>);

    /// The bytes of a range that [`ensure`](Self::ensure) was called for.
    ///
    /// # Errors
    /// They cannot be read.
    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Unavailable>;

    /// A copy of the bytes of a range, read rather than mapped: for those that look at everything once.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Unavailable>;

    /// Takes the report of a column that is damaged. Called at every use of it: who reports it on does so once.
    fn report(&self, damaged: &DamagedColumn<'_>);

    /// Whether the bytes are those of a mapped file, rather than memory of this process.
    fn is_mapped(&self) -> bool;
}

/// A column of a block in a file that is not what was written.
#[derive(Debug, Clone, Copy)]
pub struct DamagedColumn<'a> {
    /// The block.
    pub header: &'a BlockHeader,
    /// The shape under which its columns are numbered.
    pub shape: &'a Arc<Shape>,
    /// Number of the column in the buffer.
    pub column: u32,
    /// What is wrong with it.
    pub what: ColumnDamage,
    /// Where the block's body stands in the file.
    pub at: u64,
}

/// Which parts of one block a request has made present.
#[derive(Debug, Default, Clone)]
pub struct Present(Cell<u64>);

/// The bytes of a block behind its header.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// In memory of this process.
    Heap(Bytes),
    /// In a file, from this byte on.
    File(Arc<dyn Pages>, u64),
}

impl Body {
    /// Makes a range present; `len` is that of the body.
    pub(crate) fn ensure(&self, range: Range<usize>, len: usize, present: &Present) {
        let Self::File(pages, at) = self else { return };
        if range.is_empty() {
            return;
        }
        let window = WINDOW_BYTES.max(len.div_ceil(64));
        let (first, last) = ((range.start / window).min(63), ((range.end - 1) / window).min(63));
        let wanted = (u64::MAX << first) & (u64::MAX >> (63 - last)) & !present.0.get();
        if wanted == 0 {
            return;
        }
        // One call for the whole run, whatever of it is there already.
        let (first, last) = (wanted.trailing_zeros() as usize, 63 - wanted.leading_zeros() as usize);
        let run = first * window..((last + 1) * window).min(len);
        pages.ensure(at + run.start as u64..at + run.end as u64);
        present.0.set(present.0.get() | wanted);
    }

    /// The bytes of a range, made present if they are not yet.
    pub(crate) fn get(
        &self,
        range: Range<usize>,
        len: usize,
        present: &Present,
    ) -> Result<Cow<'_, [u8]>, Unavailable> {
        match self {
            Self::Heap(bytes) => bytes.get(range).map(Cow::Borrowed).ok_or(Unavailable),
            Self::File(pages, at) => {
                self.ensure(range.clone(), len, present);
                pages.get(at + range.start as u64..at + range.end as u64)
            }
        }
    }

    /// A range, read rather than mapped.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Unavailable> {
        match self {
            Self::Heap(bytes) => bytes.get(range).map(Cow::Borrowed).ok_or(Unavailable),
            Self::File(pages, at) => {
                pages.read(at + range.start as u64..at + range.end as u64).map(Cow::Owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Gives what was ensured and nothing else.
    #[derive(Debug, Default)]
    struct Strict {
        bytes: Vec<u8>,
        ensured: Mutex<Vec<Range<u64>>>,
    }

    impl Pages for Strict {
        fn ensure(&self, range: Range<u64>) {
            self.ensured.lock().unwrap().push(range);
        }

        fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Unavailable> {
            let ensured = self.ensured.lock().unwrap();
            let is_in = (range.start..range.end).all(|at| ensured.iter().any(|run| run.contains(&at)));
            assert!(is_in, "{range:?} was not made present: {ensured:?}");
            Ok(Cow::Borrowed(&self.bytes[range.start as usize..range.end as usize]))
        }

        fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Unavailable> {
            Ok(self.bytes[range.start as usize..range.end as usize].to_vec())
        }

        fn report(&self, _: &DamagedColumn<'_>) {}

        fn is_mapped(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_run_of_pages_is_made_present_once_a_request() {
        for (len, most) in [(10_000, 1), (100_000, 7), (3_000_001, 64)] {
            let pages = Arc::new(Strict { bytes: vec![7; len + 50], ..Strict::default() });
            let body = Body::File(Arc::clone(&pages) as Arc<dyn Pages>, 50);
            let present = Present::default();
            for at in (0..len - 20).step_by(777).chain([len - 20]) {
                assert_eq!(body.get(at..at + 20, len, &present).unwrap().len(), 20);
            }
            let calls = pages.ensured.lock().unwrap().len();
            assert!(calls <= most, "{calls} calls for {len} bytes");
            let whole = Present::default();
            body.ensure(0..len, len, &whole);
            body.get(len / 2..len, len, &whole).unwrap();
            assert_eq!(pages.ensured.lock().unwrap().len(), calls + 1, "one call for one run");
        }
    }
}
