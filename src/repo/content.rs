//! Reading files: random access over content lists.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{RepoError, Repository};
use crate::crypto::hash::ChunkKind;
use crate::format::FormatError;
use crate::format::content::{Content, ContentItem, ListNode};
use crate::id::ChunkId;

/// How many decoded list nodes a reader keeps: enough for one path from the root and a neighbour on each level.
const NODES_KEPT: usize = 8;

/// A piece of a file with its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// What stands there.
    pub item: ContentItem,
}

/// A file's bytes with random access; may be shared by threads.
pub struct ContentReader {
    root: Root,
    length: u64,
    /// Nodes that were used last, newest at the end.
    nodes: Mutex<Vec<(ChunkId, Arc<Node>)>>,
}

enum Root {
    Inline(Node),
    List(ChunkId),
}

/// A node with the offset at which each of its items ends, relative to the node.
struct Node {
    ends: Vec<u64>,
    body: ListNode,
}

impl Node {
    fn new(body: ListNode) -> Self {
        let mut end = 0_u64;
        let mut add = |length: u64| {
            end = end.saturating_add(length);
            end
        };
        let ends = match &body {
            ListNode::Items(items) => items.iter().map(|item| add(item.length())).collect(),
            ListNode::Children { children, .. } => children.iter().map(|(_, length)| add(*length)).collect(),
        };
        Self { ends, body }
    }

    fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the position of the item that covers `offset`, and where that item starts.
    fn position(&self, offset: u64) -> (usize, u64) {
        let at = self.ends.partition_point(|end| *end <= offset);
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        (at, start)
    }
}

impl ContentReader {
    /// Prepares to read `content`; reads nothing yet.
    #[must_use]
    pub fn new(content: &Content) -> Self {
        let (root, length) = match content {
            Content::Inline(items) => {
                let node = Node::new(ListNode::Items(items.clone()));
                let length = node.length();
                (Root::Inline(node), length)
            }
            Content::List { node, length } => (Root::List(*node), *length),
        };
        Self { root, length, nodes: Mutex::new(Vec::new()) }
    }

    /// Returns the number of bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the piece that covers `offset`, nothing at or beyond the end.
    ///
    /// # Errors
    /// Fails if a node of the list cannot be read whole.
    pub fn piece_at(&self, repo: &Repository, offset: u64) -> Result<Option<Piece>, RepoError> {
        if offset >= self.length {
            return Ok(None);
        }
        let mut id = match &self.root {
            Root::Inline(node) => {
                let (at, start) = node.position(offset);
                return Ok(item_of(node, at).map(|item| Piece { offset: start, item }));
            }
            Root::List(id) => *id,
        };
        let mut node = self.node(repo, &id, self.length, None)?;
        let mut base = 0;
        loop {
            let (at, start) = node.position(offset - base);
            base += start;
            match &node.body {
                ListNode::Items(_) => {
                    let item = item_of(&node, at).ok_or_else(|| damaged(&id, "it ends too early"))?;
                    return Ok(Some(Piece { offset: base, item }));
                }
                ListNode::Children { level, children } => {
                    let (child, length) =
                        *children.get(at).ok_or_else(|| damaged(&id, "it ends too early"))?;
                    let below = level.checked_sub(1);
                    id = child;
                    node = self.node(repo, &id, length, below)?;
                }
            }
        }
    }

    /// Returns the range around `offset` of which nothing is known where [`Self::piece_at`] met damage: what the
    /// damaged node of the list stands for.
    #[must_use]
    pub fn unreadable_range(&self, repo: &Repository, offset: u64) -> Range<u64> {
        let mut range = 0..self.length;
        let Root::List(mut id) = self.root else { return range };
        let mut level = None;
        while let Ok(node) = self.node(repo, &id, range.end - range.start, level) {
            let (at, start) = node.position(offset.saturating_sub(range.start));
            let ListNode::Children { level: above, children } = &node.body else { break };
            let Some((child, length)) = children.get(at) else { break };
            range = range.start + start..range.start + start + length;
            (id, level) = (*child, above.checked_sub(1));
        }
        range
    }

    /// Fills `buffer` from `offset` and returns how many bytes it now holds: fewer only at the end of the file.
    /// Holes read as zeros.
    ///
    /// # Errors
    /// Fails if a chunk or a node of the list cannot be read whole; the buffer's content is unspecified then.
    pub fn read_at(&self, repo: &Repository, offset: u64, buffer: &mut [u8]) -> Result<usize, RepoError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let Some(piece) = self.piece_at(repo, at)? else { break };
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            filled += copy_piece(repo, &piece, at - piece.offset, rest)?;
        }
        Ok(filled)
    }

    /// Returns the first offset at or after `offset` that lies in data; nothing if only a hole follows.
    ///
    /// # Errors
    /// Fails if a node of the list cannot be read whole.
    pub fn seek_data(&self, repo: &Repository, offset: u64) -> Result<Option<u64>, RepoError> {
        self.seek(repo, offset, |item| matches!(item, ContentItem::Data(..)))
    }

    /// Returns the first offset at or after `offset` that lies in a hole, the end of the file being one;
    /// nothing beyond the end.
    ///
    /// # Errors
    /// Fails if a node of the list cannot be read whole.
    pub fn seek_hole(&self, repo: &Repository, offset: u64) -> Result<Option<u64>, RepoError> {
        if offset >= self.length {
            return Ok(None);
        }
        let hole = self.seek(repo, offset, |item| matches!(item, ContentItem::Hole(_)))?;
        Ok(Some(hole.unwrap_or(self.length)))
    }

    /// Returns the number of bytes that are not in holes.
    ///
    /// # Errors
    /// Fails if a node of the list cannot be read whole.
    pub fn data_bytes(&self, repo: &Repository) -> Result<u64, RepoError> {
        match &self.root {
            Root::Inline(node) => self.data_bytes_below(repo, node),
            Root::List(id) => self.data_bytes_below(repo, &*self.node(repo, id, self.length, None)?),
        }
    }

    /// Adds up the pieces below a node. Levels fall with each step down.
    fn data_bytes_below(&self, repo: &Repository, node: &Node) -> Result<u64, RepoError> {
        match &node.body {
            ListNode::Items(items) => {
                let data = items.iter().filter(|item| matches!(item, ContentItem::Data(..)));
                Ok(data.map(ContentItem::length).fold(0, u64::saturating_add))
            }
            ListNode::Children { level, children } => {
                children.iter().try_fold(0_u64, |bytes, (id, length)| {
                    let child = self.node(repo, id, *length, level.checked_sub(1))?;
                    Ok(bytes.saturating_add(self.data_bytes_below(repo, &child)?))
                })
            }
        }
    }

    fn seek(
        &self,
        repo: &Repository,
        mut offset: u64,
        wanted: impl Fn(&ContentItem) -> bool,
    ) -> Result<Option<u64>, RepoError> {
        while let Some(piece) = self.piece_at(repo, offset)? {
            if wanted(&piece.item) {
                return Ok(Some(offset));
            }
            offset = piece.offset + piece.item.length();
        }
        Ok(None)
    }

    /// Returns a node that must cover `length` bytes and, below another one, be of the given level.
    fn node(
        &self,
        repo: &Repository,
        id: &ChunkId,
        length: u64,
        level: Option<u8>,
    ) -> Result<Arc<Node>, RepoError> {
        let node = match self.kept_node(id) {
            Some(node) => node,
            None => self.read_node(repo, id)?,
        };
        let actual = match &node.body {
            ListNode::Items(_) => 0,
            ListNode::Children { level, .. } => *level,
        };
        if node.length() != length || level.is_some_and(|level| level != actual) {
            return Err(damaged(id, "its length or level is not what its parent says"));
        }
        Ok(node)
    }

    /// Returns a node that was used lately, and makes it the newest.
    fn kept_node(&self, id: &ChunkId) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let at = nodes.iter().position(|(kept, _)| kept == id)?;
        let kept = nodes.remove(at);
        let node = Arc::clone(&kept.1);
        nodes.push(kept);
        Some(node)
    }

    fn read_node(&self, repo: &Repository, id: &ChunkId) -> Result<Arc<Node>, RepoError> {
        let bytes = repo.chunk(ChunkKind::List, id)?;
        let body = ListNode::decode(&bytes).map_err(|error| RepoError::Damaged {
            object: format!("list chunk {id}"),
            source: Some(error),
        })?;
        let node = Arc::new(Node::new(body));
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= NODES_KEPT {
            nodes.remove(0);
        }
        nodes.push((*id, Arc::clone(&node)));
        Ok(node)
    }
}

fn item_of(node: &Node, at: usize) -> Option<ContentItem> {
    match &node.body {
        ListNode::Items(items) => items.get(at).copied(),
        ListNode::Children { .. } => None,
    }
}

/// Copies a piece from `skip` on into `buffer`, as far as both reach; returns the number of bytes, at least 1.
fn copy_piece(repo: &Repository, piece: &Piece, skip: u64, buffer: &mut [u8]) -> Result<usize, RepoError> {
    let available = usize::try_from(piece.item.length() - skip).unwrap_or(usize::MAX);
    let count = available.min(buffer.len());
    let target = buffer.get_mut(..count).unwrap_or_default();
    match piece.item {
        ContentItem::Hole(_) => target.fill(0),
        ContentItem::Data(id, length) => {
            let chunk = repo.chunk(ChunkKind::Data, &id)?;
            let from = usize::try_from(skip).unwrap_or(usize::MAX);
            let source = chunk
                .get(from..from.saturating_add(count))
                .filter(|_| chunk.len() == length as usize)
                .ok_or_else(|| damaged(&id, "it has another length than the file's list says"))?;
            target.copy_from_slice(source);
        }
    }
    Ok(count)
}

fn damaged(id: &ChunkId, why: &str) -> RepoError {
    RepoError::Damaged {
        object: format!("chunk {id}"),
        source: Some(FormatError::malformed("a content list", why)),
    }
}
