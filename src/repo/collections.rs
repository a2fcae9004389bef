//! The collections of garbage that a store lists: which packs may not be relied on, and which snapshots are gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{RepoError, Repository, get_small, parallel};
use crate::format::collection::{Collection, Stage};
use crate::id::{PackId, SnapshotId};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{Creation, ObjectInfo, Payload, StoreErrorKind};

/// Bytes of collections that are read at a time.
const BYTES_UNDER_WAY: u64 = 32 << 20;

/// What lies under `gc/`, opened.
#[derive(Debug, Clone, Default)]
pub struct Collections {
    by_number: BTreeMap<u32, Stages>,
}

/// The objects of one collection.
#[derive(Debug, Clone, Default)]
struct Stages {
    condemned: Option<Collection>,
    last: Option<Collection>,
}

impl Stages {
    /// Returns the packs that nobody may begin to rely on.
    fn gone(&self) -> &[PackId] {
        self.last.as_ref().or(self.condemned.as_ref()).map_or(&[], |collection| &collection.packs)
    }
}

impl Collections {
    /// Returns the packs that nobody may begin to rely on: those that a collection may delete.
    #[must_use]
    pub fn gone_packs(&self) -> HashSet<PackId> {
        self.by_number.values().flat_map(Stages::gone).copied().collect()
    }

    /// Returns the packs that collections other than `number` may delete.
    #[must_use]
    pub fn gone_by_others(&self, number: u32) -> HashSet<PackId> {
        let others = self.by_number.iter().filter(|(other, _)| **other != number);
        others.flat_map(|(_, stages)| stages.gone()).copied().collect()
    }

    /// Returns the packs that any `.final` names: an index object that names one is out of date.
    #[must_use]
    pub fn dead_packs(&self) -> HashSet<PackId> {
        self.finals().flat_map(|collection| &collection.packs).copied().collect()
    }

    /// Returns the snapshots that are gone.
    #[must_use]
    pub fn dropped_snapshots(&self) -> BTreeSet<SnapshotId> {
        self.finals().flat_map(|collection| &collection.snapshots).copied().collect()
    }

    /// Returns the number of the first collection that is not done.
    #[must_use]
    pub fn unfinished(&self) -> Option<u32> {
        self.by_number.iter().find(|(_, stages)| stages.condemned.is_some()).map(|(number, _)| *number)
    }

    /// Returns what a collection condemned, if it is not done.
    #[must_use]
    pub fn condemned(&self, number: u32) -> Option<&Collection> {
        self.by_number.get(&number)?.condemned.as_ref()
    }

    /// Returns what a collection decided, if it has.
    #[must_use]
    pub fn decided(&self, number: u32) -> Option<&Collection> {
        self.by_number.get(&number)?.last.as_ref()
    }

    /// Returns the number of a new collection; none after 2^32 of them.
    #[must_use]
    pub fn next_number(&self) -> Option<u32> {
        self.by_number.keys().next_back().map_or(Some(0), |last| last.checked_add(1))
    }

    /// Returns every `.final`, the oldest first.
    pub fn finals(&self) -> impl DoubleEndedIterator<Item = &Collection> {
        self.by_number.values().filter_map(|stages| stages.last.as_ref())
    }
}

impl Repository {
    /// Lists and opens all collections.
    ///
    /// # Errors
    /// [`RepoError::UnknownCollection`] if there is something that does not open: a newer program may have condemned
    /// packs by it.
    pub fn collections(&self) -> Result<Collections, RepoError> {
        let mut listed = Vec::new();
        self.store.list(Prefix::Gc, &mut |object| listed.push(object))?;
        let mut collections = Collections::default();
        let sized = listed.into_iter().map(|ObjectInfo { key, bytes }| ((key, bytes), bytes.unwrap_or(0)));
        let open = |(key, bytes)| self.open_collection(&key, bytes);
        parallel::in_order(self.store.requests_at_once(), BYTES_UNDER_WAY, sized, open, |opened| {
            // Nothing where one ended since it was listed.
            if let Some(collection) = opened {
                let stages = collections.by_number.entry(collection.number).or_default();
                match collection.stage {
                    Stage::Condemned => stages.condemned = Some(collection),
                    Stage::Final => stages.last = Some(collection),
                }
            }
            Ok::<_, RepoError>(())
        })?;
        Ok(collections)
    }

    fn open_collection(&self, key: &ObjectKey, bytes: Option<u64>) -> Result<Option<Collection>, RepoError> {
        let unknown = |source| RepoError::UnknownCollection { object: key.to_string(), source };
        let Some((number, stage)) = key.as_gc() else { return Err(unknown(None)) };
        let max_bytes = usize::try_from(Collection::MAX_BYTES).unwrap_or(usize::MAX);
        let bytes = match get_small(self.store.as_ref(), key, bytes, max_bytes) {
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
            Err(RepoError::Damaged { source, .. }) => return Err(unknown(source)),
            other => other?,
        };
        Collection::open(self.config.store, number, stage, &self.keys, &bytes)
            .map(Some)
            .map_err(|source| unknown(Some(source)))
    }

    /// Says of an error in reading a snapshot whether it comes of a collection that has dropped the snapshot.
    #[must_use]
    pub fn explain(&self, snapshot: SnapshotId, error: RepoError) -> RepoError {
        let is_dropped = || {
            let collections = self.collections();
            collections.is_ok_and(|collections| collections.dropped_snapshots().contains(&snapshot))
        };
        if error.is_damage() && is_dropped() { RepoError::Collected(snapshot.short()) } else { error }
    }

    /// Creates an object of a collection, unless it is there.
    ///
    /// # Errors
    /// [`RepoError::Encode`] without the full keys, or a failure of the store.
    pub fn put_collection(&self, collection: &Collection) -> Result<Creation, RepoError> {
        let key = ObjectKey::gc(collection.number, collection.stage);
        let bytes = collection
            .seal(&self.keys)
            .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
        Ok(self.store.create(&key, Payload::Bytes(&bytes))?)
    }
}
