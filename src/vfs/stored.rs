//! Entries of snapshots as they are held in memory, and the bounded cache of them.

use std::sync::{Arc, OnceLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::inodes::Identity;
use crate::format::content::{Content, ContentItem};
use crate::format::tree::{Entry, EntryKind, Value, Xattr};
use crate::recent;
use crate::repo::Repository;
use crate::repo::content::ContentReader;

/// Bound of the cache of entries. What falls out is found again through its page.
const CACHE_BYTES: u64 = 12 << 20;

/// What an entry takes of the cache's own tables.
const CACHE_SLOT_BYTES: usize = 64;

/// Guess of what an entry takes, for sizing the cache's tables.
const TYPICAL_ENTRY_BYTES: u64 = 512;

/// Files up to this size are small: they are handed over, while longer ones are worth a request of their own.
const SMALL_BYTES: u64 = 256 << 10;

/// An entry, and what is costly to know of it.
#[derive(Debug)]
pub(super) struct StoredEntry {
    pub(super) entry: Entry,
    blocks: OnceLock<u64>,
}

impl StoredEntry {
    pub(super) fn new(entry: Entry) -> Self {
        let blocks = OnceLock::new();
        let stored = Self { entry, blocks };
        match &stored.entry.kind {
            EntryKind::File(Content::Inline(items)) => stored.blocks.get_or_init(|| blocks_of(items)),
            EntryKind::File(Content::List { .. }) => return stored,
            _ => stored.blocks.get_or_init(|| 0),
        };
        stored
    }

    /// Returns the content of a file that is small, and not empty.
    pub(super) fn small_content(&self) -> Option<&Content> {
        match &self.entry.kind {
            EntryKind::File(content) if (1..=SMALL_BYTES).contains(&self.entry.size()) => Some(content),
            _ => None,
        }
    }

    /// Returns the units of 512 bytes that are not holes. Walks the content list once, where there is one.
    pub(super) fn blocks(&self, repo: &Repository) -> u64 {
        *self.blocks.get_or_init(|| {
            let EntryKind::File(content) = &self.entry.kind else { return 0 };
            // A damaged list must not hide the file from `ls`: reading it will tell.
            let data = ContentReader::new(content).data_bytes(repo).unwrap_or_else(|error| {
                let name = self.entry.name.to_string();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(name, error, "cannot tell the holes of a file");
                self.entry.size()
            });
            data.div_ceil(512)
        })
    }

    /// Returns about what it takes in memory, with its place in the cache.
    fn weight(&self) -> u64 {
        let attributes = &self.entry.attributes;
        let xattrs = attributes.xattrs.iter().map(|xattr| {
            let value = match &xattr.value {
                Value::Inline(bytes) => allocated(bytes.len()),
                Value::Spilled { .. } => 0,
            };
            size_of::<Xattr>() + allocated(xattr.name.len()) + value
        });
        let owners = [&attributes.user, &attributes.group].into_iter().flatten();
        let kind = match &self.entry.kind {
            EntryKind::File(Content::Inline(items)) => allocated(items.len() * size_of::<ContentItem>()),
            EntryKind::Symlink(target) => allocated(target.len()),
            _ => 0,
        };
        let name = allocated(self.entry.name.as_bytes().len());
        let owners: usize = owners.map(|name| allocated(name.len())).sum();
        (allocated(size_of::<Self>()) + CACHE_SLOT_BYTES + name + owners + kind + xattrs.sum::<usize>())
            as u64
    }
}

/// Returns what an allocation of `bytes` takes of the heap.
fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

fn blocks_of(items: &[ContentItem]) -> u64 {
    let data = items.iter().map(|item| match item {
        ContentItem::Data(_, length) => u64::from(*length),
        ContentItem::Hole(_) => 0,
    });
    data.sum::<u64>().div_ceil(512)
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Identity, Arc<StoredEntry>> for ByBytes {
    fn weight(&self, _identity: &Identity, stored: &Arc<StoredEntry>) -> u64 {
        stored.weight()
    }
}

/// Entries that were seen lately, by the identity of their node.
pub(super) struct EntryCache(Cache<Identity, Arc<StoredEntry>, ByBytes>);

impl EntryCache {
    pub(super) fn new() -> Self {
        Self(recent::cache(CACHE_BYTES, TYPICAL_ENTRY_BYTES, ByBytes))
    }

    pub(super) fn get(&self, identity: Identity) -> Option<Arc<StoredEntry>> {
        self.0.get(&identity)
    }

    pub(super) fn insert(&self, identity: Identity, stored: Arc<StoredEntry>) {
        self.0.insert(identity, stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    #[test]
    fn holes_take_no_blocks() {
        let data = ContentItem::Data(ChunkId::from_bytes([1; 32]), 513);
        assert_eq!(blocks_of(&[]), 0);
        assert_eq!(blocks_of(&[ContentItem::Hole(1 << 40)]), 0);
        assert_eq!(blocks_of(&[data, ContentItem::Hole(4096), data]), 3);
    }
}
