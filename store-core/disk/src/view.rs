//! [`FileView`] and [`ReadFile`]: reading a file where it stands, with an error where the disk does not give it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// A file that was opened for reading.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Length of the file, as it was when it was opened.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range, read.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` if the file ends before.
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;

    /// A view of the file that lives on when this is closed: mapped; `None` where all of it would have to be read.
    ///
    /// # Errors
    /// What the system says.
    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>>;
}

/// A file that stays at hand without being open: mapped where the system can.
///
/// No access ends the process where the disk refuses a page or somebody has cut the file: a range is made present by a
/// call that returns an error where an access would be a signal. What may still go wrong between the call and the access
/// see [`RealDisk`](crate::RealDisk).
pub trait FileView: Send + Sync + fmt::Debug {
    /// Length of the file, as it was when it was mapped.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes a range present, in one call for all of its pages. Whether that went well [`get`](Self::get) tells.
    fn ensure(&self, range: Range<u64>);

    /// The bytes of a range that [`ensure`](Self::ensure) was called for a moment ago. They are read into memory of this
    /// process where the system has no call to make pages present, and where that failed once.
    ///
    /// # Errors
    /// The disk does not give them, or the file ends before them.
    fn get(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;

    /// A copy of the bytes of a range, read from the file and not through the map.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// Whether it is mapped, rather than memory of this process.
    fn is_mapped(&self) -> bool;
}

/// The bytes of a file in memory of this process.
#[derive(Clone)]
pub struct WholeFile {
    bytes: Bytes,
    counts_as_mapped: bool,
}

impl WholeFile {
    /// A file that was read.
    pub fn read(bytes: Bytes) -> Self {
        Self { bytes, counts_as_mapped: false }
    }

    /// A file of a simulation, where a copy stands for a map.
    pub fn simulated(bytes: Bytes) -> Self {
        Self { bytes, counts_as_mapped: true }
    }

    fn slice(&self, range: Range<u64>) -> io::Result<&[u8]> {
        slice(&self.bytes, range)
    }
}

impl fmt::Debug for WholeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WholeFile({} bytes)", self.bytes.len())
    }
}

/// A range of bytes that stand for a file.
pub(crate) fn slice(bytes: &[u8], range: Range<u64>) -> io::Result<&[u8]> {
    let from = usize::try_from(range.start).ok();
    let range = from.zip(usize::try_from(range.end).ok()).map(|(from, to)| from..to);
    range.and_then(|range| bytes.get(range)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

impl ReadFile for WholeFile {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        self.slice(range).map(Cow::Borrowed)
    }

    fn view(&self) -> io::Result<Option<Arc<dyn FileView>>> {
        Ok(self.counts_as_mapped.then(|| Arc::new(self.clone()) as Arc<dyn FileView>))
    }
}

impl FileView for WholeFile {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn ensure(&self, _: Range<u64>) {}

    fn get(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        self.slice(range).map(Cow::Borrowed)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.slice(range).map(<[u8]>::to_vec)
    }

    fn is_mapped(&self) -> bool {
        self.counts_as_mapped
    }
}
