//! Open files: reading at any offset, and being read ahead.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lock;
use super::prefetch::Stream;
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem};
use crate::repo::content::ContentReader;
use crate::repo::{RepoError, Repository};

/// A regular file of a snapshot that somebody has open.
pub(super) struct OpenFile {
    reader: ContentReader,
    label: String,
    stream: Mutex<Stream>,
    released: AtomicBool,
}

impl OpenFile {
    /// Opens the file with this content; `label` names it in messages.
    pub(super) fn new(content: &Content, label: String) -> Self {
        Self {
            reader: ContentReader::new(content),
            label,
            stream: Mutex::new(Stream::new()),
            released: AtomicBool::new(false),
        }
    }

    pub(super) fn reader(&self) -> &ContentReader {
        &self.reader
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Takes note of a read; returns what should be read ahead now.
    pub(super) fn note_read(&self, offset: u64, bytes: usize) -> Option<Range<u64>> {
        let end = offset.saturating_add(bytes as u64);
        lock(&self.stream).note(offset..end, self.reader.length())
    }

    /// Stops reading ahead.
    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// Brings the chunks of `range` into the cache of frames, unless the file is closed meanwhile. Errors are
    /// left to the read that meets them.
    pub(super) fn touch(&self, repo: &Repository, range: Range<u64>) {
        let mut offset = range.start;
        while offset < range.end && !self.released.load(Ordering::Relaxed) {
            match self.touch_piece(repo, offset) {
                Ok(Some(next)) if next > offset => offset = next,
                _ => return,
            }
        }
    }

    /// Returns where the next piece begins.
    fn touch_piece(&self, repo: &Repository, offset: u64) -> Result<Option<u64>, RepoError> {
        let Some(piece) = self.reader.piece_at(repo, offset)? else { return Ok(None) };
        if let ContentItem::Data(id, _) = &piece.item {
            repo.chunk(ChunkKind::Data, id)?;
        }
        Ok(Some(piece.offset.saturating_add(piece.item.length())))
    }
}
