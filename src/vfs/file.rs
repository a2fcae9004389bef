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
use crate::repo::content::ContentReader;
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
        let Ok(Some(piece)) = self.reader.piece_at(repo, offset) else { return };
        let ContentItem::Data(id, length) = piece.item else { return };
        let Ok(chunk) = repo.chunk(ChunkKind::Data, &id) else { return };
        let end = piece.offset.saturating_add(length.into());
        let Some(whole) = whole_pages(piece.offset..end, self.reader.length()) else { return };
        // A chunk of another length than the list says is damaged.
        if chunk.len() as u64 == u64::from(length)
            && let Ok(from) = usize::try_from(whole.start - piece.offset)
            && let Ok(to) = usize::try_from(whole.end - piece.offset)
            && let Some(bytes) = chunk.get(from..to)
        {
            lock(&self.streams).note_handed_over(&whole);
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

/// Returns the pages that lie in `range` of a file of `length` bytes, if any do; its last one may be shorter.
fn whole_pages(range: Range<u64>, length: u64) -> Option<Range<u64>> {
    let page = rustix::param::page_size() as u64;
    let start = range.start.checked_next_multiple_of(page)?;
    let end = if range.end == length { range.end } else { range.end - range.end % page };
    (start < end).then_some(start..end)
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

#[cfg(test)]
mod tests {
    use super::super::pages::testing::Kept;
    use super::super::support::{Sandbox, Sketch, directory, find};
    use super::*;

    #[test]
    fn only_whole_pages_are_handed_over() {
        let page = rustix::param::page_size() as u64;
        let length = 10 * page + 5;
        assert_eq!(whole_pages(1..3 * page + 1, length), Some(page..3 * page));
        assert_eq!(whole_pages(page..2 * page, length), Some(page..2 * page));
        assert_eq!(whole_pages(9 * page + 1..length, length), Some(10 * page..length));
        assert_eq!(whole_pages(page + 1..page + 9, length), None, "it lies within one page");
        assert_eq!(whole_pages(page + 1..2 * page - 1, length), None);
        assert_eq!(whole_pages(u64::MAX - 1..u64::MAX, u64::MAX), None, "there is no page behind it");
    }

    #[test]
    fn what_is_handed_over_is_what_stands_there() {
        let sandbox = Sandbox::new();
        let bytes: Vec<u8> =
            (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
        let manifest = sandbox.commit("etc", directory([("dump", Sketch::File(bytes.clone()))]));
        let vfs = sandbox.only(&manifest);
        let inode = find(&vfs, "dump").inode;
        let file = vfs.file(inode).unwrap();
        let (kept, pages) = (Kept::default(), Pages::default());
        pages.attach(Box::new(kept.clone()));
        for offset in [0, 1 << 20, 2_000_001, bytes.len() as u64 - 1, bytes.len() as u64] {
            file.hand_over_around(&vfs.repo, &pages, inode, offset);
        }
        let handed = kept.take();
        assert_eq!(handed.len(), 4, "nothing lies behind the end");
        for (number, offset, piece) in handed {
            let start = usize::try_from(offset).unwrap();
            assert_eq!((number, piece.is_empty()), (inode, false));
            assert!(bytes[start..start + piece.len()] == piece, "at {offset}");
        }
    }
}
