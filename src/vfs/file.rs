//! Files that are read: random access, and being read ahead.
//!
//! The kernel opens and closes files without a word, so that what is known of those who read a file is kept by the
//! file, for as long as others do not push it out.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::inodes::Identity;
use super::node::Node;
use super::pages::Pages;
use super::streams::{Advice, Streams};
use super::{VfsError, lock};
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem};
use crate::format::tree::EntryKind;
use crate::recent;
use crate::repo::content::{ContentReader, Piece};
use crate::repo::{RepoError, Repository};

/// Bound of the files that are kept, by weight.
const FILES_WEIGHT: u64 = 512;
/// Weight of a file with a list of its own, whose reader keeps decoded nodes of it.
const LIST_WEIGHT: u64 = 16;

/// A regular file of a snapshot, and how it is being read.
pub(super) struct ReadFile {
    reader: ContentReader,
    node: Node,
    streams: Mutex<Streams>,
}

impl ReadFile {
    /// Prepares to read a node.
    ///
    /// # Errors
    /// Fails if it is no regular file.
    pub(super) fn new(node: Node) -> Result<Self, VfsError> {
        let reader = ContentReader::new(content_of(&node)?);
        Ok(Self { reader, node, streams: Mutex::default() })
    }

    pub(super) fn reader(&self) -> &ContentReader {
        &self.reader
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Returns its path, for messages.
    pub(super) fn label(&self) -> String {
        self.node.label()
    }

    /// Takes note of a read; returns what should be done about it.
    pub(super) fn note_read(&self, offset: u64, bytes: usize) -> Option<Advice> {
        let end = offset.saturating_add(bytes as u64);
        lock(&self.streams).note(offset..end, self.reader.length())
    }

    /// Brings the chunks of `range` into the cache of frames. Errors are left to the read that meets them.
    pub(super) fn touch(&self, repo: &Repository, range: Range<u64>) {
        let mut offset = range.start;
        while offset < range.end {
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

    /// Offers the kernel the whole pages of the chunk around `offset`. Errors are left to the read that meets them.
    pub(super) fn hand_over_around(&self, repo: &Repository, pages: &Pages, inode: u64, offset: u64) {
        let Some(pages) = pages.get() else { return };
        let Ok(Some(Piece { offset: start, item: ContentItem::Data(id, length) })) =
            self.reader.piece_at(repo, offset)
        else {
            return;
        };
        let Ok(chunk) = repo.chunk(ChunkKind::Data, &id) else { return };
        let end = start.saturating_add(length.into());
        let whole = whole_pages(start..end, self.reader.length());
        let part = usize::try_from(whole.start - start).ok().zip(usize::try_from(whole.end - start).ok());
        // A chunk of another length than the list says is damaged.
        if let Some(bytes) =
            part.and_then(|(from, to)| chunk.get(from..to)).filter(|_| chunk.len() as u64 == end - start)
        {
            pages.store(inode, whole.start, bytes);
        }
    }

    fn weight(&self) -> u64 {
        match content_of(&self.node) {
            Ok(Content::List { .. }) => LIST_WEIGHT,
            Ok(Content::Inline(_)) | Err(_) => 1,
        }
    }
}

/// Returns the pages that lie in `range` of a file of `length` bytes; its last one may be shorter.
fn whole_pages(range: Range<u64>, length: u64) -> Range<u64> {
    let page = rustix::param::page_size() as u64;
    let start = range.start.next_multiple_of(page);
    let end = if range.end == length { range.end } else { range.end - range.end % page };
    start.min(end)..end
}

fn content_of(node: &Node) -> Result<&Content, VfsError> {
    match node {
        Node::Entry { stored, .. } => match &stored.entry.kind {
            EntryKind::File(content) => Ok(content),
            EntryKind::Directory(_) => Err(VfsError::IsADirectory(node.label())),
            _ => Err(VfsError::NotAFile(node.label())),
        },
        Node::View { .. } | Node::Root(_) => Err(VfsError::IsADirectory(node.label())),
        Node::Link(_) => Err(VfsError::NotAFile(node.label())),
    }
}

#[derive(Clone)]
struct ByLists;

impl Weighter<Identity, Arc<ReadFile>> for ByLists {
    fn weight(&self, _identity: &Identity, file: &Arc<ReadFile>) -> u64 {
        file.weight()
    }
}

/// Files that were read lately, by the identity of their node.
pub(super) struct ReadFiles(Cache<Identity, Arc<ReadFile>, ByLists>);

impl ReadFiles {
    pub(super) fn new() -> Self {
        Self(recent::cache(FILES_WEIGHT, 1, ByLists))
    }

    pub(super) fn get(&self, identity: Identity) -> Option<Arc<ReadFile>> {
        self.0.get(&identity)
    }

    pub(super) fn insert(&self, identity: Identity, file: Arc<ReadFile>) {
        self.0.insert(identity, file);
    }
}
