//! Content of a simulated file: what each append wrote, and whether it is on disk.

use bytes::Bytes;

#[derive(Clone, Default)]
pub(super) struct FileNode {
    pub(super) chunks: Vec<Chunk>,
    /// Write-back errors so far.
    pub(super) errors: u32,
    /// Whether somebody was told of the last one; descriptors opened before still are, later ones are not.
    pub(super) reported: bool,
}

/// What one append wrote.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) state: Page,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Page {
    Durable,
    Dirty,
    /// Clean, and not on disk: a sync has failed.
    Lost,
}

impl FileNode {
    /// A file whose content is durable.
    pub(super) fn durable(bytes: Bytes) -> Self {
        Self { chunks: vec![Chunk { bytes, state: Page::Durable }], ..Self::default() }
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.chunks.iter().map(|chunk| chunk.bytes.len()).sum());
        for chunk in &self.chunks {
            content.extend_from_slice(&chunk.bytes);
        }
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
    }

    pub(super) fn has_unreported_error(&self) -> bool {
        self.errors_on_open() != self.errors
    }

    /// Errors that a descriptor opened now takes as reported.
    pub(super) fn errors_on_open(&self) -> u32 {
        if self.reported { self.errors } else { self.errors.saturating_sub(1) }
    }

    /// Moves dirty pages on to `state`; whether there were any.
    pub(super) fn settle(&mut self, state: Page) -> bool {
        let mut dirty = false;
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.state == Page::Dirty) {
            chunk.state = state;
            dirty = true;
        }
        dirty
    }
}
