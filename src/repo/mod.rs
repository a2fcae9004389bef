//! A store that was opened with its key: sessions that write, and everything that reads.
//!
//! A [`Repository`] joins the three things that every operation needs: the store, the keys of its domain, and
//! the local index. What the operations do is left to `ops` and `vfs`.

pub mod base_cache;
mod buffers;
mod cache;
pub mod collections;
pub mod content;
mod error;
mod feed;
#[cfg(test)]
pub(crate) mod flaw;
pub mod frames;
#[cfg(test)]
mod frozen;
mod full_hosts;
pub(crate) mod index_objects;
#[cfg(test)]
mod ingest_only;
pub mod keys;
mod local;
pub mod marks;
mod names;
pub mod open;
pub(crate) mod parallel;
pub mod read;
pub mod readers;
pub(crate) mod refresh;
pub mod session;
pub(crate) mod slots;
mod small_objects;
pub mod snapshots;
#[cfg(test)]
pub(crate) mod testing;
pub mod tree;
pub mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::RepoError;

use crate::chunker::ChunkerSetup;
use crate::crypto::secrets::{DomainKeys, Writer};
use crate::format::FormatError;
use crate::format::config::Config;
use crate::id::SlotId;
use crate::index::Index;
use crate::store::ObjectStore;
use crate::store::key::ObjectKey;

/// An open store. May be shared by threads.
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    config: Config,
    keys: DomainKeys,
    /// The key slot that was opened.
    slot: Option<SlotId>,
    writer: Writer,
    chunker: Arc<ChunkerSetup>,
    index: Arc<Index>,
    index_objects: Arc<index_objects::IndexObjects>,
    feed: feed::Feed,
    frames: Arc<frames::FrameReader>,
    readers: readers::Readers,
    spool: PathBuf,
}

impl Repository {
    /// Returns the store below.
    #[must_use]
    pub fn store(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    /// Returns what the store is.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the keys of the store's domain, as far as this host holds them.
    #[must_use]
    pub fn keys(&self) -> &DomainKeys {
        &self.keys
    }

    /// Tells whether this host holds an ingest-only key.
    #[must_use]
    pub fn is_ingest_only(&self) -> bool {
        self.keys.ingest_writer().is_some()
    }

    /// Refuses what takes full keys: reading, and deciding on snapshots.
    ///
    /// # Errors
    /// [`RepoError::IngestOnly`] without them.
    pub fn require_full(&self) -> Result<(), RepoError> {
        self.keys.ingest_writer().map_or(Ok(()), |writer| Err(RepoError::IngestOnly(writer.host.clone())))
    }

    /// Refuses to make backups of a host that the key cannot speak for.
    ///
    /// # Errors
    /// [`RepoError::OtherHost`] if it is an ingest-only key of another host.
    pub fn require_host(&self, asked: &str) -> Result<(), RepoError> {
        match self.keys.ingest_writer() {
            Some(writer) if writer.host != asked => {
                Err(RepoError::OtherHost { own: writer.host.clone(), asked: asked.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Returns how files of this store are cut into chunks.
    #[must_use]
    pub fn chunker(&self) -> &Arc<ChunkerSetup> {
        &self.chunker
    }

    /// Returns the identity under which this host writes.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Returns what reads frames.
    #[must_use]
    pub fn frames(&self) -> &frames::FrameReader {
        &self.frames
    }

    /// Returns the folder for unnamed temporary files.
    #[must_use]
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// Returns the local index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }
}

/// Reads an object, unless it has more bytes than such an object may have; `listed` is its length if a listing told it.
pub(crate) fn get_small(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    listed: Option<u64>,
    max_bytes: usize,
) -> Result<Vec<u8>, RepoError> {
    let length = listed.map_or_else(|| store.size(key), Ok)?;
    if length > max_bytes as u64 {
        let why = format!("it has {length} bytes, more than the {max_bytes} that it may have");
        return Err(RepoError::Damaged {
            object: key.to_string(),
            source: Some(FormatError::malformed("an object", why)),
        });
    }
    Ok(store.get(key, None)?)
}
