//! The index: one SQLite file per store and host that says where every chunk is.
//!
//! Owns the rows: packs and frames as index objects list them, what change detection remembers, and copies of
//! small objects. It is a cache: everything in it can be read again from the store, it never asserts that
//! something exists there, and what is damaged is thrown away. Reading the store, opening index objects and
//! deciding which of them count are left to `repo`.
//!
//! Several processes may use one file at the same time. A process that forks must not use the index on both
//! sides.

mod apply;
mod distrust;
mod error;
mod filter;
mod known_files;
mod lookup;
mod objects;
mod places;
mod pool;
mod rows;
mod schema;
mod similar;
#[cfg(test)]
mod tests;
mod totals;
mod wrapped_key;

use std::path::Path;

use crate::crypto::hash::IdKeys;
use crate::crypto::seal::SealKey;
use crate::crypto::secrets::{DomainKeys, Writer};
use crate::format::content::Content;
use crate::format::frame::{FrameChunk, FrameEntry};
use crate::format::header::{HeaderHash, ObjectKind};
use crate::format::tree::Time;
use crate::id::{PackId, StoreId};

pub use error::IndexError;
pub use objects::{CachedObject, NewObject};
pub use places::{ChunkPlace, ListedObject};
pub use similar::SimilarFrame;
pub use totals::{FrameSums, IndexTotals, Sum};

/// Row number of a pack in this index; meaningless elsewhere.
///
/// Numbers are never used twice: an index that was made anew counts from another random start, so that what
/// was cached under an old number cannot be taken for another pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackRow(i64);

/// One frame, by pack and number: small, the key of caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameRef {
    /// The pack.
    pub pack: PackRow,
    /// Position of the frame in its pack, from 0.
    pub number: u32,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHome {
    /// The frame.
    pub frame: FrameRef,
    /// Offset in the plain bytes of the frame.
    pub offset: u32,
    /// Length in plain bytes.
    pub length: u32,
}

/// The frame of a chunk's home, with all its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourHome {
    /// The frame.
    pub frame: FrameRef,
    /// Its chunks in order.
    pub chunks: Vec<FrameChunk>,
    /// Whether it stands on others.
    pub is_delta: bool,
}

/// All that is needed to read a frame.
#[derive(Clone)]
pub struct FrameRecord {
    /// The pack that holds it.
    pub pack: PackRecord,
    /// Position of the frame in its pack, from 0.
    pub number: u32,
    /// Offset of the stored frame in the pack, in bytes.
    pub offset: u64,
    /// What the pack's directory says of it.
    pub entry: FrameEntry,
}

/// What the index knows of a pack.
#[derive(Clone)]
pub struct PackRecord {
    /// Its name.
    pub id: PackId,
    /// `DataPack` or `TreePack`.
    pub kind: ObjectKind,
    /// Its whole length in bytes.
    pub bytes: u64,
    /// Who made it.
    pub writer: Writer,
    /// The hash of its header.
    pub header_hash: HeaderHash,
    /// The length of its header: where frame 0 begins.
    pub header_bytes: u32,
    /// Its key; nothing where this host holds an ingest-only key and another process wrote the pack.
    pub key: Option<SealKey>,
}

/// What change detection remembers of a regular file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Length in bytes.
    pub bytes: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Inode number.
    pub inode: u64,
    /// What its bytes were made of.
    pub content: Content,
}

/// The path of one directory and the known files in it by name, as raw bytes.
pub type KnownDirectory = (Vec<u8>, Vec<(Vec<u8>, KnownFile)>);

/// The index. All methods may be called from any thread.
pub struct Index {
    pool: pool::Pool,
    filter: filter::Filter,
    distrust: distrust::Distrust,
    ids: IdKeys,
    cache_key: SealKey,
    pack_keys: wrapped_key::PackKeys,
    rebuilt: bool,
}

impl Index {
    /// Opens the index of `store` at `path`, or creates it.
    ///
    /// A file that is damaged, that belongs to another store or domain, or that a newer program wrote is
    /// deleted and made anew; [`Index::was_rebuilt`] tells. The folder is created where it is missing.
    ///
    /// # Errors
    /// Fails if the file cannot be created or used: permissions, a full disk, a lock held for a minute; or if the system
    /// has no randomness to give.
    pub fn open(path: &Path, store: StoreId, keys: &DomainKeys) -> Result<Self, IndexError> {
        let cache_key = keys.cache_key();
        let identity = schema::Identity::new(store, keys.domain(), &cache_key);
        let (pool, rebuilt) = pool::Pool::open(path, identity)?;
        let filter = filter::Filter::new(filter::MISSES_BEFORE_BUILDING);
        let pack_keys = wrapped_key::PackKeys::new(keys)?;
        let distrust = distrust::Distrust::default();
        Ok(Self { pool, filter, distrust, ids: keys.ids().clone(), cache_key, pack_keys, rebuilt })
    }

    /// Tells whether [`Index::open`] found a file that it could not use and made it anew, so that the index is
    /// empty though it existed.
    #[must_use]
    pub fn was_rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Throws all rows away: the answer to an error that [`IndexError::is_corrupt`]. The caller fills the
    /// index again from the store.
    ///
    /// # Errors
    /// Fails as [`Index::open`] does.
    pub fn reset(&self) -> Result<(), IndexError> {
        self.pool.reset()?;
        self.filter.clear();
        self.clear_distrust();
        Ok(())
    }
}
