//! Content lists: what a file's bytes are made of, and their CBOR.
//!
//! Owns the types, their rules and codecs; how a long list is cut into nodes is `builder`'s.

mod builder;
#[cfg(test)]
pub(super) mod tests;

use super::FormatError;
use super::cbor::{self, CborReader, CborWriter, Encoded};
use super::frame::FRAME_MAX_BYTES;
use crate::id::ChunkId;

pub use builder::ContentBuilder;

/// Most items of one list node.
pub const NODE_MAX_ITEMS: usize = 1024;
/// A node is not cut by content before it has this many items.
pub const NODE_MIN_ITEMS: usize = 16;
/// Greatest level of a list node.
pub const NODE_MAX_LEVEL: u8 = 8;
/// Longest list that stands in the entry itself.
pub const INLINE_MAX_ITEMS: usize = 32;
/// Most bytes of a file: what a signed 64-bit file size can say.
pub const FILE_MAX_BYTES: u64 = i64::MAX as u64;

const INLINE: u8 = 0;
const LIST: u8 = 1;

/// One piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentItem {
    /// A data chunk and its length, at least 1.
    Data(ChunkId, u32),
    /// Zeros that were never written, at least 1.
    Hole(u64),
}

impl ContentItem {
    /// Returns the length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match *self {
            Self::Data(_, length) => length.into(),
            Self::Hole(length) => length,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        match *self {
            Self::Data(_, 0) | Self::Hole(0) => Err("a piece is empty"),
            Self::Data(_, length) if length as usize > FRAME_MAX_BYTES => Err("a chunk is too long"),
            _ => Ok(()),
        }
    }
}

/// The content of a file as its entry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All pieces, in order; at most [`INLINE_MAX_ITEMS`]; empty for an empty file.
    Inline(Vec<ContentItem>),
    /// The root node of a longer list, and the length of everything below it.
    List {
        /// A chunk of kind list.
        node: ChunkId,
        /// Bytes of the file.
        length: u64,
    },
}

impl Content {
    /// Returns the bytes of the file.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(items) => items.iter().fold(0, |sum, item| sum.saturating_add(item.length())),
            Self::List { length, .. } => *length,
        }
    }

    /// Checks the rules that every content follows, decoded or about to be encoded.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Inline(items) if items.len() > INLINE_MAX_ITEMS => Err("too many pieces stand in an entry"),
            Self::Inline(items) => check_items(items),
            Self::List { length, .. } => check_file_length(*length),
        }
    }

    /// Writes `[0, [item…]]` or `[1, [node, length]]`.
    pub(super) fn write(&self, writer: &mut CborWriter<'_>) -> Encoded {
        match self {
            Self::Inline(items) => {
                writer.array(2)?.u8(INLINE)?;
                cbor::write_list(writer, items, write_item)
            }
            Self::List { node, length } => {
                writer.array(2)?.u8(LIST)?;
                write_node_ref(writer, &(*node, *length))
            }
        }
    }

    /// Reads what [`Self::write`] wrote; the caller checks it.
    pub(super) fn read(reader: &mut CborReader<'_>) -> Result<Self, FormatError> {
        reader.record(2, |reader| match reader.u8()? {
            INLINE => reader.list(0, INLINE_MAX_ITEMS, read_item).map(Self::Inline),
            LIST => read_node_ref(reader).map(|(node, length)| Self::List { node, length }),
            form => Err(reader.malformed(format!("{form} is no form of content"))),
        })
    }
}

/// A node of a long list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListNode {
    /// Level 0: pieces.
    Items(Vec<ContentItem>),
    /// A level above: child nodes and the bytes below each. Depth at most 8.
    Children {
        /// 1 to 8; the children are of one level less.
        level: u8,
        /// Children and the bytes each covers, at least 1.
        children: Vec<(ChunkId, u64)>,
    },
}

impl ListNode {
    /// Encodes as CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(|writer| match self {
            Self::Items(items) => {
                writer.array(2)?.u8(0)?;
                cbor::write_list(writer, items, write_item)
            }
            Self::Children { level, children } => {
                writer.array(2)?.u8(*level)?;
                cbor::write_list(writer, children, write_node_ref)
            }
        })
    }

    /// Decodes and checks.
    ///
    /// # Errors
    /// Refuses what breaks a rule of list nodes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = CborReader::new("content list", bytes)?;
        let node = reader.record(2, |reader| match reader.u8()? {
            0 => reader.list(1, NODE_MAX_ITEMS, read_item).map(Self::Items),
            level @ 1..=NODE_MAX_LEVEL => {
                let children = reader.list(1, NODE_MAX_ITEMS, read_node_ref)?;
                Ok(Self::Children { level, children })
            }
            level => Err(reader.malformed(format!("its level {level} is too great"))),
        })?;
        node.check().map_err(|why| reader.malformed(why))?;
        Ok(node)
    }

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Items(items) => check_items(items),
            Self::Children { children, .. } => {
                if children.iter().any(|(_, length)| *length == 0) {
                    return Err("a child covers nothing");
                }
                check_sum(children.iter().map(|(_, length)| *length))
            }
        }
    }
}

fn check_items(items: &[ContentItem]) -> Result<(), &'static str> {
    items.iter().try_for_each(ContentItem::check)?;
    let holes = |pair: &[ContentItem]| pair.iter().all(|item| matches!(item, ContentItem::Hole(_)));
    if items.windows(2).any(holes) {
        return Err("neighbouring holes are not merged");
    }
    check_sum(items.iter().map(ContentItem::length))
}

fn check_sum(mut lengths: impl Iterator<Item = u64>) -> Result<(), &'static str> {
    let sum = lengths.try_fold(0_u64, u64::checked_add).ok_or("the lengths of its pieces overflow")?;
    check_file_length(sum)
}

fn check_file_length(length: u64) -> Result<(), &'static str> {
    if length > FILE_MAX_BYTES { Err("a file is too long") } else { Ok(()) }
}

fn write_item(writer: &mut CborWriter<'_>, item: &ContentItem) -> Encoded {
    match item {
        ContentItem::Data(id, length) => writer.array(2)?.bytes(id.as_bytes())?.u32(*length)?.ok(),
        ContentItem::Hole(length) => writer.u64(*length)?.ok(),
    }
}

fn read_item(reader: &mut CborReader<'_>) -> Result<ContentItem, FormatError> {
    if reader.next_is_array()? {
        return reader.record(2, |reader| Ok(ContentItem::Data(read_id(reader)?, reader.u32()?)));
    }
    reader.u64().map(ContentItem::Hole)
}

/// Writes `[node, length]`.
fn write_node_ref(writer: &mut CborWriter<'_>, (node, length): &(ChunkId, u64)) -> Encoded {
    writer.array(2)?.bytes(node.as_bytes())?.u64(*length)?.ok()
}

fn read_node_ref(reader: &mut CborReader<'_>) -> Result<(ChunkId, u64), FormatError> {
    reader.record(2, |reader| Ok((read_id(reader)?, reader.u64()?)))
}

fn read_id(reader: &mut CborReader<'_>) -> Result<ChunkId, FormatError> {
    reader.array_of().map(ChunkId::from_bytes)
}
