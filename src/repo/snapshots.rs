//! The snapshots of a store, as manifests, tombstones and marks tell of them.
//!
//! What people call them is left to `names`, and marks by themselves to `marks`.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::marks::Said;
use super::small_objects::{Form, Listed, Small};
use super::{RepoError, Repository, parallel};
use crate::format::header::ObjectKind;
use crate::format::snapshot::{Completeness, Manifest, Marks, SnapshotObject};
use crate::id::SnapshotId;
use crate::store::StoreErrorKind;
use crate::store::key::{ObjectKey, Prefix};

const FORM: Form =
    Form { prefix: Prefix::Snapshots, kind: ObjectKind::Snapshot, max_bytes: SnapshotObject::MAX_BYTES };

/// A committed snapshot and what its marks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What was committed.
    pub manifest: Manifest,
    /// What its marks say together.
    pub marks: Marks,
    /// Since when it has been forgotten, by the clock of who forgot it, or ended its protection; nothing if it is not.
    pub forgotten_since: Option<Timestamp>,
}

/// Which snapshots are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that are not forgotten.
    Kept,
    /// Those that are.
    Forgotten,
}

/// All that lies under `snapshots/`.
#[derive(Debug, Clone, Default)]
pub struct Decided {
    /// Every snapshot, forgotten ones included, in the order of their ids.
    pub snapshots: Vec<Snapshot>,
    /// Sessions that never commit, and when that was decided.
    pub tombstones: Vec<(SnapshotId, Timestamp)>,
}

impl Snapshot {
    /// Tells whether it was committed as suspicious, accepted or not.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.manifest.completeness == Completeness::Suspicious
    }

    /// Tells whether `latest` may mean this snapshot: not if it is suspicious and nobody accepted it.
    #[must_use]
    pub fn may_be_latest(&self) -> bool {
        !self.is_suspicious() || self.marks.accepted
    }

    /// Returns the name it has in lists and mounts: `<time>-<id8>`, with a time that is safe in file names.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.display_name_of(self.manifest.id)
    }

    /// Returns the name it would have under another id.
    pub(super) fn display_name_of(&self, id: SnapshotId) -> String {
        format!("{}-{}", self.manifest.time.strftime("%Y-%m-%dT%H-%M-%SZ"), id.short())
    }
}

impl Repository {
    /// Lists the committed snapshots that are not forgotten, oldest first. Reads from the store only what was
    /// not read before. A manifest or mark that does not open is left out with a warning; `verify` reports it.
    ///
    /// An ingest-only host lists those that it made itself since its index began, whatever marks say of them.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RepoError> {
        self.list_or_mend(Which::Kept, &|_| true)
    }

    /// Lists the snapshots that are forgotten and not gone yet, oldest first, as [`Self::snapshots`] does the others.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or read.
    pub fn forgotten_snapshots(&self) -> Result<Vec<Snapshot>, RepoError> {
        self.list_or_mend(Which::Forgotten, &|_| true)
    }

    /// Returns how many snapshots an ingest-only host cannot list besides: those of others, and those of its own that are
    /// older than its index. Tombstones look like snapshots to it.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or the index not be read.
    pub fn snapshots_of_others(&self) -> Result<usize, RepoError> {
        let own = self.index.cached_keys(Prefix::Snapshots.as_str())?;
        let mut others = 0;
        self.store.list(Prefix::Snapshots, &mut |object| {
            others += usize::from(!own.contains(object.key.as_str()));
        })?;
        Ok(others)
    }

    /// Lists the snapshots of whose ids `is_meant` is true; of the others nothing is read.
    pub(super) fn list_or_mend(
        &self,
        which: Which,
        is_meant: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<Vec<Snapshot>, RepoError> {
        match self.list_snapshots(which, is_meant) {
            Err(error) if self.mend(&error)? => self.list_snapshots(which, is_meant),
            other => other,
        }
    }

    fn list_snapshots(
        &self,
        which: Which,
        is_meant: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<Vec<Snapshot>, RepoError> {
        let marks = self.marks(is_meant)?;
        // A mark may say anything of a snapshot that a collection has dropped, and that is being taken apart.
        let is_contested = |said: &Said| said.marks.forgotten && said.marks.protected;
        let dropped = match which == Which::Forgotten || marks.values().any(is_contested) {
            true => self.collections()?.dropped_snapshots(),
            false => BTreeSet::new(),
        };
        let mut listed = self.list_decided()?;
        listed.retain(|object| {
            let said = marks.get(&object.what).copied().unwrap_or_default();
            let is_listed =
                said.marks.is_forgotten() == (which == Which::Forgotten) && !dropped.contains(&object.what);
            is_listed && is_meant(object.what)
        });
        let mut snapshots = Vec::new();
        for (id, object) in self.open_decided(listed)? {
            let Said { marks, forgotten_since } = marks.get(&id).copied().unwrap_or_default();
            if let Some(SnapshotObject::Manifest(manifest)) = object.or_warn(&ObjectKey::snapshot(id)) {
                snapshots.push(Snapshot { manifest: *manifest, marks, forgotten_since });
            }
        }
        snapshots.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.manifest.id));
        Ok(snapshots)
    }

    /// Returns all that decides what stays in the store: `marks/` are listed first, then `snapshots/`.
    ///
    /// A snapshot with a mark that does not open counts as not forgotten, since nobody knows what the mark says.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if a snapshot does not open: nobody knows what it needs. Else any failure of the store.
    pub fn decided(&self) -> Result<Decided, RepoError> {
        let said = self.marks_that_all_open()?;
        let mut decided = Decided::default();
        for (id, object) in self.open_decided(self.list_decided()?)? {
            let Said { marks, forgotten_since } = said.get(&id).copied().unwrap_or_default();
            match object {
                Small::Opened(SnapshotObject::Manifest(manifest)) => {
                    decided.snapshots.push(Snapshot { manifest: *manifest, marks, forgotten_since });
                }
                Small::Opened(SnapshotObject::Tombstone { time }) => decided.tombstones.push((id, time)),
                Small::Gone => {}
                Small::Damaged(source) => {
                    let object = ObjectKey::snapshot(id).to_string();
                    return Err(RepoError::Damaged { object, source: Some(source) });
                }
            }
        }
        Ok(decided)
    }

    /// Lists what lies under `snapshots/`, in the order of ids.
    fn list_decided(&self) -> Result<Vec<Listed<SnapshotId>>, RepoError> {
        // Before the listing, so that it shows all of them.
        let mut unlisted = self.index.cached_keys(Prefix::Snapshots.as_str())?;
        let mut listed = Vec::new();
        self.store.list(Prefix::Snapshots, &mut |object| {
            unlisted.remove(object.key.as_str());
            if let Some(id) = object.key.as_snapshot() {
                listed.push(Listed { what: id, key: object.key, bytes: object.bytes });
            }
        })?;
        self.require_gone(&unlisted)?;
        listed.sort_unstable_by_key(|object| object.what);
        self.retain_copies(FORM, &listed)?;
        Ok(listed)
    }

    /// Fails if one of these objects is in the store, whose listing did not show them: it is short or old, and what else it
    /// leaves out would be taken for gone.
    fn require_gone(&self, unlisted: &BTreeSet<String>) -> Result<(), RepoError> {
        let keys = unlisted.iter().filter_map(|key| ObjectKey::parse(key)).map(|key| (key, 0));
        let look = |key: ObjectKey| match self.store.size(&key) {
            Ok(_) => {
                Err(RepoError::ShortListing { location: self.store.location(), object: key.to_string() })
            }
            // Who may only list and create cannot look.
            Err(error) if matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Denied) => Ok(()),
            Err(error) => Err(error.into()),
        };
        parallel::in_order(self.store.requests_at_once(), u64::MAX, keys, look, |()| Ok(()))
    }

    fn open_decided(
        &self,
        listed: Vec<Listed<SnapshotId>>,
    ) -> Result<Vec<(SnapshotId, Small<SnapshotObject>)>, RepoError> {
        self.small_objects(FORM, listed, |id, key, bytes| {
            SnapshotObject::open(*id, key, bytes).map(|(_, object)| object)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::repo::testing::TestStore;
    use crate::store::ObjectStore;
    use crate::store::fault::{Fault, FaultStore, Operation};

    #[test]
    fn a_listing_without_a_snapshot_that_is_there_is_an_error() {
        let test = TestStore::new();
        let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
        let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
        let (one, two) = (
            test.commit(&repo, "db", Completeness::Complete),
            test.commit(&repo, "db", Completeness::Complete),
        );
        assert_eq!(repo.snapshots().unwrap().len(), 2);
        let left_out = ObjectKey::snapshot(one.id);
        faulty.script(move |call| {
            let concerns = call.operation == Operation::List && call.object == "snapshots/";
            concerns.then(|| Fault::LeaveOut(left_out.clone()))
        });
        for refused in [repo.snapshots().map(drop), repo.decided().map(drop)] {
            let Err(RepoError::ShortListing { object, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!(object, format!("snapshots/{}", one.id));
        }
        faulty.clear_script();
        test.store.delete(&ObjectKey::snapshot(one.id)).unwrap();
        let left: Vec<_> = repo.snapshots().unwrap().into_iter().map(|found| found.manifest.id).collect();
        assert_eq!(left, [two.id]);
    }
}
