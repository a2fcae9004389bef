//! Builds content from pieces as they come, cutting long lists into nodes where the pieces themselves say so.
//!
//! Cuts depend on the ids near them alone, so an edit in the middle of a huge file changes a few nodes only.

use super::super::FormatError;
use super::{
    Content, ContentItem, FILE_MAX_BYTES, INLINE_MAX_ITEMS, ListNode, NODE_MAX_ITEMS, NODE_MAX_LEVEL,
    NODE_MIN_ITEMS,
};
use crate::id::ChunkId;

/// A node ends after an id that this divides, on average.
const CUT_DIVISOR: u64 = 128;

/// Builds content from pieces as they come, in bounded memory.
///
/// The result depends on the pieces alone, however holes were split. Nodes go to `emit`, which stores a chunk
/// of kind list and returns its id.
#[derive(Debug, Default)]
pub struct ContentBuilder {
    /// Zeros at the end so far, not yet an item: more may follow.
    hole: u64,
    length: u64,
    /// The items of a list that may yet stay inline; of a longer one, those of the last node.
    items: Vec<ContentItem>,
    /// Whether the list is too long to stay inline.
    long: bool,
    /// Unfinished nodes from level 1 up. The last place takes the reference to a root of the greatest level.
    levels: [Level; NODE_MAX_LEVEL as usize + 1],
}

/// An unfinished node above the pieces.
#[derive(Debug, Default)]
struct Level {
    children: Vec<(ChunkId, u64)>,
    /// Whether a node of this level was emitted before.
    emitted: bool,
}

impl Level {
    /// Returns the root of the list, if there is nothing but it on this level.
    fn root(&self) -> Option<ChunkId> {
        match self.children.as_slice() {
            [(node, _)] if !self.emitted => Some(*node),
            _ => None,
        }
    }
}

impl ContentBuilder {
    /// Starts an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a piece; neighbouring holes are merged.
    ///
    /// A node ends after a chunk whose id's first 8 bytes (little endian) are a multiple of 128, if it has at
    /// least 16 items, and always at 1,024.
    ///
    /// # Errors
    /// Refuses an empty or too long chunk and a file of more than [`FILE_MAX_BYTES`]; passes on what `emit`
    /// fails with.
    pub fn push<E: From<FormatError>>(
        &mut self,
        item: ContentItem,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        item.check().map_err(|why| FormatError::malformed("content", why))?;
        self.length = self
            .length
            .checked_add(item.length())
            .filter(|length| *length <= FILE_MAX_BYTES)
            .ok_or_else(|| FormatError::malformed("content", "a file is too long"))?;
        match item {
            ContentItem::Hole(length) => self.hole += length,
            ContentItem::Data(..) => {
                self.end_hole(emit)?;
                self.append(item, emit)?;
            }
        }
        Ok(())
    }

    /// Ends the list.
    ///
    /// # Errors
    /// Passes on what `emit` fails with.
    pub fn finish<E: From<FormatError>>(
        mut self,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<Content, E> {
        self.end_hole(emit)?;
        if !self.long {
            return Ok(Content::Inline(self.items));
        }
        self.end_items(emit)?;
        for index in 0..self.levels.len() {
            if let Some(node) = self.levels.get(index).and_then(Level::root) {
                return Ok(Content::List { node, length: self.length });
            }
            self.end_level(index, emit)?;
        }
        Err(too_deep().into())
    }

    fn end_hole<E: From<FormatError>>(
        &mut self,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            length => self.append(ContentItem::Hole(length), emit),
        }
    }

    fn append<E: From<FormatError>>(
        &mut self,
        item: ContentItem,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        if self.long {
            return self.append_to_node(item, emit);
        }
        self.items.push(item);
        if self.items.len() > INLINE_MAX_ITEMS {
            self.long = true;
            for item in std::mem::take(&mut self.items) {
                self.append_to_node(item, emit)?;
            }
        }
        Ok(())
    }

    fn append_to_node<E: From<FormatError>>(
        &mut self,
        item: ContentItem,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        self.items.push(item);
        let cut = match item {
            ContentItem::Data(id, _) => ends_node(self.items.len(), &id),
            ContentItem::Hole(_) => self.items.len() >= NODE_MAX_ITEMS,
        };
        if cut { self.end_items(emit) } else { Ok(()) }
    }

    fn end_items<E: From<FormatError>>(
        &mut self,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        if self.items.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.items);
        let length = items.iter().map(ContentItem::length).sum();
        let node = emit(ListNode::Items(items).encode())?;
        self.append_child(0, (node, length), emit)
    }

    fn append_child<E: From<FormatError>>(
        &mut self,
        index: usize,
        child: (ChunkId, u64),
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        let level = self.levels.get_mut(index).ok_or_else(too_deep)?;
        level.children.push(child);
        if ends_node(level.children.len(), &child.0) { self.end_level(index, emit) } else { Ok(()) }
    }

    fn end_level<E: From<FormatError>>(
        &mut self,
        index: usize,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        let Some(unfinished) = self.levels.get_mut(index).filter(|level| !level.children.is_empty()) else {
            return Ok(());
        };
        let level =
            u8::try_from(index + 1).ok().filter(|level| *level <= NODE_MAX_LEVEL).ok_or_else(too_deep)?;
        unfinished.emitted = true;
        let children = std::mem::take(&mut unfinished.children);
        let length = children.iter().map(|(_, length)| *length).sum();
        let node = emit(ListNode::Children { level, children }.encode())?;
        self.append_child(index + 1, (node, length), emit)
    }
}

fn too_deep() -> FormatError {
    FormatError::malformed("content", "its list is nested too deep")
}

/// Tells whether a node of `items` items ends after the one named `id`.
fn ends_node(items: usize, id: &ChunkId) -> bool {
    let cut = id
        .as_bytes()
        .first_chunk()
        .is_some_and(|first| u64::from_le_bytes(*first).is_multiple_of(CUT_DIVISOR));
    items >= NODE_MAX_ITEMS || (items >= NODE_MIN_ITEMS && cut)
}
