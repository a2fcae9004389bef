//! Index objects: read from the store several at a time, opened, and put into the index by one writer.
//!
//! When that is done, and how much of it, is left to `refresh` and `feed`.

use std::sync::Arc;

use super::{RepoError, get_small, parallel};
use crate::crypto::secrets::{DomainKeys, Writer, WriterClass};
use crate::format::FormatError;
use crate::format::header::Header;
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::id::PackId;
use crate::index::Index;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectStore, StoreErrorKind};

/// Bytes of index objects that are under way at a time: eight of those that a session of many small chunks writes.
const BYTES_UNDER_WAY: u64 = 32 << 20;
/// Chunks that are put into the index by one transaction. Its tables are in random order, so that many small transactions
/// write most of its pages again and again.
const CHUNKS_AT_ONCE: usize = 1 << 17;

/// What becomes of an index object that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damaged {
    /// It is left out, with a warning.
    LeftOut,
    /// It is an error.
    Refused,
}

/// Whether every index object that was listed was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    All,
    /// Some were superseded since, and what replaces them may not have been listed.
    NotAll,
}

impl Brought {
    pub(super) fn and(self, other: Self) -> Self {
        if other == Self::NotAll { other } else { self }
    }
}

/// How many index objects may wait to be put into the index together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// As many as make that cheap.
    None,
    /// Somebody waits for what is in them: the first alone, and then as many as there were so far.
    First,
}

/// An index object as it was listed, with its length if the listing told it.
pub(super) type ListedObject = (ObjectKey, Option<u64>);

/// The index objects of a store, and the index that they go to.
pub(super) struct IndexObjects {
    store: Arc<dyn ObjectStore>,
    keys: DomainKeys,
    index: Arc<Index>,
}

impl IndexObjects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, keys: DomainKeys, index: Arc<Index>) -> Self {
        Self { store, keys, index }
    }

    /// Compares the index with the index objects that the store lists: takes out what is gone, and returns what is new,
    /// in the order of keys. An ingest-only host can open none, so that nothing is new to it.
    pub(super) fn list_new(&self) -> Result<Vec<ListedObject>, RepoError> {
        // In this order: what a session of this host applies in between is listed, and is not taken for gone.
        let mut gone = self.index.applied()?;
        let mut new = Vec::new();
        self.store.list(Prefix::Index, &mut |object| {
            if !gone.remove(object.key.as_str()) {
                new.push((object.key, object.bytes));
            }
        })?;
        if !gone.is_empty() {
            self.index.retract(&gone.into_iter().collect::<Vec<_>>())?;
        }
        if self.keys.ingest_writer().is_some() {
            new.clear();
        }
        new.sort_unstable();
        Ok(new)
    }

    /// Reads index objects and puts them into the index, in their order; calls `applied` whenever some are in.
    pub(super) fn bring(
        &self,
        objects: impl IntoIterator<Item = ListedObject>,
        damaged: Damaged,
        haste: Haste,
        applied: &mut dyn FnMut(),
    ) -> Result<Brought, RepoError> {
        let sized = objects.into_iter().map(|(key, length)| {
            // Those that tell no lengths in a listing are near. What fails here fails again below.
            let bytes = length.or_else(|| self.store.size(&key).ok());
            ((key, bytes), bytes.unwrap_or(0))
        });
        let fetch = |(key, length)| self.fetch(key, length, damaged);
        let mut brought = Brought::All;
        let mut batch = Batch { index: &self.index, haste, objects: Vec::new(), chunks: 0, chunks_before: 0 };
        parallel::in_order(self.store.requests_at_once(), BYTES_UNDER_WAY, sized, fetch, |fetched| {
            match fetched {
                Fetched::Opened(key, object) => {
                    if batch.add(key, object)? {
                        applied();
                    }
                }
                Fetched::LeftOut => {}
                Fetched::Gone => brought = Brought::NotAll,
            }
            Ok::<_, RepoError>(())
        })?;
        if batch.flush()? {
            applied();
        }
        Ok(brought)
    }

    fn fetch(&self, key: ObjectKey, length: Option<u64>, damaged: Damaged) -> Result<Fetched, RepoError> {
        match self.open(&key, length, damaged) {
            Ok(object) => Ok(Fetched::Opened(key, object)),
            // Superseded since it was listed.
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => Ok(Fetched::Gone),
            Err(RepoError::Damaged { object, source }) if damaged == Damaged::LeftOut => {
                let why = source.map(|source| format!(": {source}")).unwrap_or_default();
                tracing::warn!("{object} is damaged and was left out{why}; run `yester verify`");
                Ok(Fetched::LeftOut)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads an index object from the store.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if it does not open, else any failure of the store.
    pub(super) fn open(
        &self,
        key: &ObjectKey,
        length: Option<u64>,
        damaged: Damaged,
    ) -> Result<IndexObject, RepoError> {
        let max_bytes = usize::try_from(IndexObject::MAX_BYTES).unwrap_or(usize::MAX);
        let bytes = get_small(self.store.as_ref(), key, length, max_bytes)?;
        let (writer, mut object) = IndexObject::open(&self.keys, key.as_str(), &bytes)
            .map_err(|error| RepoError::Damaged { object: key.to_string(), source: Some(error) })?;
        let false_claims = self.false_claims(&writer, &object)?;
        if let Some(pack) = false_claims.first() {
            if damaged == Damaged::Refused {
                return Err(RepoError::Damaged { object: key.to_string(), source: Some(not_its_own(pack)) });
            }
            tracing::warn!(
                "{key} was made on host {:?} and lists packs that are not its own: they were left out",
                writer.host
            );
            object.packs.retain(|pack| !false_claims.contains(&pack.id));
        }
        Ok(object)
    }

    /// Returns the packs that an ingest-only writer lists as its own and that are not, as their headers prove. What it
    /// said of them would stand beside what their writers say, and they might be deleted for it.
    ///
    /// # Errors
    /// Any failure of the store but that a pack is not there, or cut short: nothing of it can be read then.
    pub(super) fn false_claims(
        &self,
        writer: &Writer,
        object: &IndexObject,
    ) -> Result<Vec<PackId>, RepoError> {
        let mut found = Vec::new();
        if writer.class == WriterClass::Full {
            return Ok(found);
        }
        let is_false = |pack: &IndexedPack| Ok::<_, RepoError>((pack.id, self.is_false_claim(writer, pack)?));
        let packs = object.packs.iter().map(|pack| (pack, 0));
        parallel::in_order(self.store.requests_at_once(), u64::MAX, packs, is_false, |(id, is_false)| {
            found.extend(is_false.then_some(id));
            Ok(())
        })?;
        Ok(found)
    }

    fn is_false_claim(&self, writer: &Writer, pack: &IndexedPack) -> Result<bool, RepoError> {
        let header = match self.store.get(&ObjectKey::pack(&pack.id), Some(0..u64::from(pack.header_bytes))) {
            Err(error) if matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Truncated) => {
                return Ok(false);
            }
            header => header?,
        };
        Ok(!Header::decode(&header).is_ok_and(|(header, hash, _)| {
            let key = header.open(pack.kind, &self.keys);
            header.writer == *writer
                && hash == pack.header_hash
                && key.is_ok_and(|key| key.expose() == pack.key.expose())
        }))
    }
}

enum Fetched {
    Opened(ObjectKey, IndexObject),
    LeftOut,
    Gone,
}

/// Index objects that are put into the index together.
struct Batch<'a> {
    index: &'a Index,
    haste: Haste,
    objects: Vec<(ObjectKey, IndexObject)>,
    chunks: usize,
    /// Chunks of the batches before.
    chunks_before: usize,
}

impl Batch<'_> {
    /// Adds an object; tells whether it is in the index now, with those before it.
    fn add(&mut self, key: ObjectKey, object: IndexObject) -> Result<bool, RepoError> {
        let frames = object.packs.iter().flat_map(|pack| &pack.directory.frames);
        self.chunks += frames.map(|frame| frame.chunks.len()).sum::<usize>();
        self.objects.push((key, object));
        let due = match self.haste {
            Haste::None => CHUNKS_AT_ONCE,
            Haste::First => self.chunks_before.min(CHUNKS_AT_ONCE),
        };
        if self.chunks >= due { self.flush() } else { Ok(false) }
    }

    /// Puts into the index what is not there yet; tells whether there was anything.
    fn flush(&mut self) -> Result<bool, RepoError> {
        if self.objects.is_empty() {
            return Ok(false);
        }
        self.index.apply_all(self.objects.iter().map(|(key, object)| (key.as_str(), object)))?;
        self.objects.clear();
        self.chunks_before = self.chunks_before.saturating_add(std::mem::take(&mut self.chunks));
        Ok(true)
    }
}

/// Describes an index object of which one pack is not its writer's.
pub(crate) fn not_its_own(pack: &PackId) -> FormatError {
    FormatError::malformed("an index object", format!("it lists pack {pack}, which its writer did not make"))
}
