//! The snapshots of a store, and what people call them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{RepoError, Repository, get_small};
use crate::format::FormatError;
use crate::format::snapshot::{Completeness, MARK_MAX_BYTES, Manifest, Mark, MarkState, SnapshotObject};
use crate::id::{SessionId, SnapshotId};
use crate::store::StoreErrorKind;
use crate::store::key::{ObjectKey, Prefix};

/// A committed snapshot and what its marks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What was committed.
    pub manifest: Manifest,
    /// The state of its highest mark.
    pub mark: Option<MarkState>,
}

impl Snapshot {
    /// Tells whether `latest` may mean this snapshot: not if it is suspicious and nobody accepted it.
    #[must_use]
    pub fn may_be_latest(&self) -> bool {
        self.manifest.completeness != Completeness::Suspicious || self.mark == Some(MarkState::Accepted)
    }

    /// Returns the name it has in lists and mounts: `<time>-<id8>`, with a time that is safe in file names.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}-{}", self.manifest.time.strftime("%Y-%m-%dT%H-%M-%SZ"), self.manifest.id.short())
    }
}

impl Repository {
    /// Lists the committed snapshots that are not forgotten, oldest first. Reads from the store only what was
    /// not read before. A manifest or mark that does not open is left out with a warning; `verify` reports it.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RepoError> {
        match self.list_snapshots() {
            Err(error) if self.mend(&error)? => self.list_snapshots(),
            other => other,
        }
    }

    fn list_snapshots(&self) -> Result<Vec<Snapshot>, RepoError> {
        let marks = self.marks()?;
        let mut listed = BTreeMap::new();
        self.store.list(Prefix::Snapshots, &mut |object| {
            listed.extend(object.key.as_snapshot().map(|id| (id, object.bytes)));
        })?;
        let keys = listed.keys().map(|id| ObjectKey::snapshot(*id).to_string()).collect();
        self.index.retain_objects("snapshots/", &keys)?;
        let mut snapshots = Vec::new();
        for (id, length) in listed {
            let mark = marks.get(&id).copied();
            if mark == Some(MarkState::Forgotten) {
                continue;
            }
            let open = |bytes: &[u8]| SnapshotObject::open(id, &self.keys, bytes).map(|(_, object)| object);
            let max_bytes = usize::try_from(SnapshotObject::MAX_BYTES).unwrap_or(usize::MAX);
            if let Some(SnapshotObject::Manifest(manifest)) =
                self.small_object(&ObjectKey::snapshot(id), length, max_bytes, open)?
            {
                snapshots.push(Snapshot { manifest: *manifest, mark });
            }
        }
        snapshots.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.manifest.id));
        Ok(snapshots)
    }

    /// Finds the one snapshot that `name` means: `latest`, `latest:SOURCE`, `latest:HOST/SOURCE`, the beginning of
    /// an id, a time to the second (`2026-11-21T05:31:06Z`), or the name it has in a mount.
    ///
    /// # Errors
    /// [`RepoError::NoSnapshot`] or [`RepoError::AmbiguousSnapshot`], which lists the candidates.
    pub fn find_snapshot(&self, name: &str) -> Result<Snapshot, RepoError> {
        let snapshots = self.snapshots()?;
        if name == "latest" {
            return only_series(snapshots);
        }
        if let Some(series) = name.strip_prefix("latest:") {
            return self.latest_of(snapshots, name, series);
        }
        let time: Option<Timestamp> = name.parse().ok();
        let is_meant = |snapshot: &Snapshot| {
            let hex_prefix =
                name.len() >= 4 && snapshot.manifest.id.hex().starts_with(&name.to_ascii_lowercase());
            let same_second = time.is_some_and(|time| time.as_second() == snapshot.manifest.time.as_second());
            hex_prefix
                || same_second
                || snapshot.display_name() == name
                || snapshot.manifest.id.to_string() == name
        };
        let mut found: Vec<Snapshot> = snapshots.into_iter().filter(is_meant).collect();
        match found.len() {
            0 => Err(RepoError::NoSnapshot(name.to_owned())),
            1 => Ok(found.swap_remove(0)),
            _ => Err(RepoError::AmbiguousSnapshot {
                name: name.to_owned(),
                candidates: found.iter().map(Snapshot::display_name).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// This host's series first, else the only host that has one of that name.
    fn latest_of(&self, snapshots: Vec<Snapshot>, name: &str, series: &str) -> Result<Snapshot, RepoError> {
        let wanted: Box<dyn Fn(&Manifest) -> bool> = match series.rsplit_once('/') {
            Some((host, source)) => {
                Box::new(move |manifest| manifest.host == host && manifest.source == source)
            }
            None => {
                let here = &self.writer.host;
                let own = snapshots
                    .iter()
                    .any(|found| found.manifest.source == series && found.manifest.host == *here);
                Box::new(move |manifest| manifest.source == series && (!own || manifest.host == *here))
            }
        };
        let found: Vec<Snapshot> =
            snapshots.into_iter().filter(|snapshot| wanted(&snapshot.manifest)).collect();
        if found.is_empty() { Err(RepoError::NoSnapshot(name.to_owned())) } else { only_series(found) }
    }

    /// Returns the state of the highest mark of each marked snapshot. A mark that does not open counts for nothing,
    /// so that rubbish under a high number hides none below it.
    fn marks(&self) -> Result<BTreeMap<SnapshotId, MarkState>, RepoError> {
        let mut marks: BTreeMap<SessionId, BTreeMap<u32, u64>> = BTreeMap::new();
        let mut listed = BTreeSet::new();
        self.store.list(Prefix::Marks, &mut |object| {
            if let Some((id, number)) = object.key.as_mark() {
                marks.entry(id).or_default().insert(number, object.bytes);
                listed.insert(object.key.to_string());
            }
        })?;
        self.index.retain_objects("marks/", &listed)?;
        let mut states = BTreeMap::new();
        for (id, numbers) in marks {
            for (number, length) in numbers.into_iter().rev() {
                let open =
                    |bytes: &[u8]| Mark::open(id, number, &self.keys, bytes).map(|(_, mark)| mark.state);
                let key = ObjectKey::mark(id, number);
                if let Some(state) = self.small_object(&key, length, MARK_MAX_BYTES, open)? {
                    states.insert(id, state);
                    break;
                }
            }
        }
        Ok(states)
    }

    /// Returns a small immutable object as `open` reads it, from the index or from the store; nothing if it is gone
    /// by now or damaged. Only what opens is kept in the index.
    fn small_object<T>(
        &self,
        key: &ObjectKey,
        length: u64,
        max_bytes: usize,
        open: impl Fn(&[u8]) -> Result<T, FormatError>,
    ) -> Result<Option<T>, RepoError> {
        if let Some(value) = self.index.cached_object(key.as_str())?.and_then(|bytes| open(&bytes).ok()) {
            return Ok(Some(value));
        }
        let opened = match get_small(self.store.as_ref(), key, length, max_bytes) {
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
            Err(RepoError::Damaged { source: Some(error), .. }) => Err(error),
            other => {
                let bytes = other?;
                let opened = open(&bytes);
                if opened.is_ok() {
                    self.index.cache_object(key.as_str(), &bytes)?;
                }
                opened
            }
        };
        opened.map(Some).or_else(|error| {
            tracing::warn!("{key} is damaged and was left out: {error}; run `yester verify`");
            Ok(None)
        })
    }
}

/// Returns the newest of `snapshots` (sorted by time) if all are of one series.
fn only_series(snapshots: Vec<Snapshot>) -> Result<Snapshot, RepoError> {
    let series: BTreeSet<String> = snapshots
        .iter()
        .map(|snapshot| format!("latest:{}/{}", snapshot.manifest.host, snapshot.manifest.source))
        .collect();
    if series.len() > 1 {
        let candidates = series.into_iter().collect::<Vec<_>>().join(", ");
        return Err(RepoError::AmbiguousSnapshot { name: "latest".to_owned(), candidates });
    }
    snapshots
        .into_iter()
        .rev()
        .find(Snapshot::may_be_latest)
        .ok_or_else(|| RepoError::NoSnapshot("latest".to_owned()))
}
