//! The snapshots of a store, and what people call them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{RepoError, Repository, get_small};
use crate::crypto::seal::SealKey;
use crate::format::FormatError;
use crate::format::header::{ObjectKind, object_key};
use crate::format::snapshot::{
    Completeness, MARK_MAX_BYTES, Manifest, Mark, MarkState, Marks, SnapshotObject,
};
use crate::id::SnapshotId;
use crate::index::CachedObject;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{Creation, Payload, StoreErrorKind};

/// A mark is tried under so many numbers while others take them.
const MARK_ATTEMPTS: usize = 16;

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

/// What the marks of one snapshot say together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Said {
    marks: Marks,
    forgotten_since: Option<Timestamp>,
}

impl FromIterator<Mark> for Said {
    /// Joins all marks of a snapshot, that with the lowest number first.
    fn from_iter<I: IntoIterator<Item = Mark>>(all: I) -> Self {
        let mut said = Self::default();
        for mark in all {
            said.marks.add(mark.state);
            said.forgotten_since =
                said.marks.is_forgotten().then(|| said.forgotten_since.unwrap_or(mark.time));
        }
        said
    }
}

/// Which snapshots are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
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

/// A small object that was listed.
enum Small<T> {
    Opened(T),
    /// It was deleted since.
    Gone,
    Damaged(FormatError),
}

impl<T> Small<T> {
    /// Leaves out what does not open, with a warning.
    fn or_warn(self, key: &ObjectKey) -> Option<T> {
        match self {
            Self::Opened(value) => Some(value),
            Self::Gone => None,
            Self::Damaged(error) => {
                tracing::warn!("{key} is damaged and was left out: {error}; run `yester verify`");
                None
            }
        }
    }
}

/// Copies of small objects that the index holds, by store key.
type Copies = BTreeMap<String, CachedObject>;

/// The marks of a snapshot as the store lists them: their lengths, if it tells them, by their numbers.
type ListedMarks = BTreeMap<u32, Option<u64>>;

/// Whether it took a mark to have something said of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marking {
    /// A mark was made.
    Made,
    /// The marks that there are say so already.
    Stood,
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
        format!("{}-{}", self.manifest.time.strftime("%Y-%m-%dT%H-%M-%SZ"), self.manifest.id.short())
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
        self.list_or_mend(Which::Kept)
    }

    /// Lists the snapshots that are forgotten and not gone yet, oldest first, as [`Self::snapshots`] does the others.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or read.
    pub fn forgotten_snapshots(&self) -> Result<Vec<Snapshot>, RepoError> {
        self.list_or_mend(Which::Forgotten)
    }

    /// Returns how many snapshots an ingest-only host cannot list besides: those of others, and those of its own that are
    /// older than its index. Tombstones look like snapshots to it.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or the index not be read.
    pub fn snapshots_of_others(&self) -> Result<usize, RepoError> {
        let own = self.index.cached_objects(Prefix::Snapshots.as_str())?;
        let mut others = 0;
        self.store.list(Prefix::Snapshots, &mut |object| {
            others += usize::from(!own.contains_key(object.key.as_str()));
        })?;
        Ok(others)
    }

    fn list_or_mend(&self, which: Which) -> Result<Vec<Snapshot>, RepoError> {
        match self.list_snapshots(which) {
            Err(error) if self.mend(&error)? => self.list_snapshots(which),
            other => other,
        }
    }

    fn list_snapshots(&self, which: Which) -> Result<Vec<Snapshot>, RepoError> {
        let marks = self.marks()?;
        // A mark may say anything of a snapshot that a collection has dropped, and that is being taken apart.
        let is_contested = |said: &Said| said.marks.forgotten && said.marks.protected;
        let dropped = match which == Which::Forgotten || marks.values().any(is_contested) {
            true => self.collections()?.dropped_snapshots(),
            false => BTreeSet::new(),
        };
        let (listed, mut copies) = self.list_decided()?;
        let mut snapshots = Vec::new();
        for (id, length) in listed {
            let Said { marks, forgotten_since } = marks.get(&id).copied().unwrap_or_default();
            if marks.is_forgotten() != (which == Which::Forgotten) || dropped.contains(&id) {
                continue;
            }
            let object = self.open_decided(id, length, &mut copies)?;
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
        let mut said = BTreeMap::new();
        let (marks, mut copies) = self.list_all_marks()?;
        for (id, listed) in marks {
            let mut states = BTreeMap::new();
            let mut all_open = true;
            for (number, length) in &listed {
                match self.open_mark(id, *number, *length, &mut copies)? {
                    Small::Opened(mark) => drop(states.insert(*number, mark)),
                    Small::Gone => {}
                    Small::Damaged(_) => all_open = false,
                }
            }
            let marks = states.into_values().collect::<Said>();
            said.insert(id, if all_open { marks } else { Said::default() });
        }
        let mut decided = Decided::default();
        let (listed, mut copies) = self.list_decided()?;
        for (id, length) in listed {
            let Said { marks, forgotten_since } = said.get(&id).copied().unwrap_or_default();
            match self.open_decided(id, length, &mut copies)? {
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

    /// Lists what lies under `snapshots/`, with lengths, and returns the copies of it that the index holds.
    fn list_decided(&self) -> Result<(BTreeMap<SnapshotId, Option<u64>>, Copies), RepoError> {
        let mut listed = BTreeMap::new();
        self.store.list(Prefix::Snapshots, &mut |object| {
            listed.extend(object.key.as_snapshot().map(|id| (id, object.bytes)));
        })?;
        let keys = listed.keys().map(|id| ObjectKey::snapshot(*id).to_string()).collect();
        let copies = self.copies(Prefix::Snapshots, &keys)?;
        Ok((listed, copies))
    }

    fn open_decided(
        &self,
        id: SnapshotId,
        length: Option<u64>,
        copies: &mut Copies,
    ) -> Result<Small<SnapshotObject>, RepoError> {
        let open =
            |key: &SealKey, bytes: &[u8]| SnapshotObject::open(id, key, bytes).map(|(_, object)| object);
        let max_bytes = usize::try_from(SnapshotObject::MAX_BYTES).unwrap_or(usize::MAX);
        self.small_object(ObjectKind::Snapshot, &ObjectKey::snapshot(id), length, max_bytes, copies, open)
    }

    /// Finds the one snapshot that `name` means: `latest`, `latest:SOURCE`, `latest:HOST/SOURCE`, the beginning of
    /// an id, a time to the second (`2026-11-21T05:31:06Z`), or the name it has in a mount.
    ///
    /// # Errors
    /// [`RepoError::NoSnapshot`]; [`RepoError::ForgottenSnapshot`] where only forgotten ones have that name;
    /// [`RepoError::AmbiguousSnapshot`], which lists the candidates; or [`RepoError::OnlySuspicious`] where the latest
    /// of several is meant and none may be that.
    pub fn find_snapshot(&self, name: &str) -> Result<Snapshot, RepoError> {
        let snapshots = self.snapshots()?;
        if name == "latest" {
            return only_series(name, snapshots);
        }
        if let Some(series) = name.strip_prefix("latest:") {
            return self.latest_of(snapshots, name, series);
        }
        let mut found = named(snapshots, name);
        let name = name.to_owned();
        match found.len() {
            0 => Err(match named(self.forgotten_snapshots()?, &name) {
                none if none.is_empty() => RepoError::NoSnapshot(name),
                forgotten => RepoError::ForgottenSnapshot { name, candidates: display_names(&forgotten) },
            }),
            1 => Ok(found.swap_remove(0)),
            _ => Err(RepoError::AmbiguousSnapshot { name, candidates: display_names(&found) }),
        }
    }

    /// Finds the one forgotten snapshot that `name` means: the beginning of an id, a time to the second, or the name
    /// that it had in a mount.
    ///
    /// # Errors
    /// [`RepoError::NoForgotten`], or [`RepoError::AmbiguousForgotten`], which lists the candidates.
    pub fn find_forgotten(&self, name: &str) -> Result<Snapshot, RepoError> {
        let mut found = named(self.forgotten_snapshots()?, name);
        let name = name.to_owned();
        match found.len() {
            0 => Err(RepoError::NoForgotten(name)),
            1 => Ok(found.swap_remove(0)),
            _ => Err(RepoError::AmbiguousForgotten { name, candidates: display_names(&found) }),
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
        only_series(name, found)
    }

    /// Makes a mark that says `state` of a snapshot, unless its marks say so already.
    ///
    /// This may be done while garbage is collected: a collector reads the marks again before anything may be deleted.
    ///
    /// # Errors
    /// [`RepoError::TooNew`] if this program must not write here, [`RepoError::NoFreeMark`] if others took every number
    /// that was tried, [`RepoError::Encode`] if this host may not make such a mark, [`RepoError::IngestOnly`] if it cannot
    /// read those that there are.
    pub fn mark(&self, id: SnapshotId, state: MarkState) -> Result<Marking, RepoError> {
        self.require_full()?;
        self.config
            .require_writable()
            .map_err(|source| RepoError::TooNew { location: self.store.location(), source })?;
        for _ in 0..MARK_ATTEMPTS {
            let listed = self.list_marks(Some(id))?.remove(&id).unwrap_or_default();
            let mut copies = self.index.cached_objects(&format!("{}{id}.", Prefix::Marks.as_str()))?;
            let states = self.open_marks(id, &listed, &mut copies)?;
            if states.values().map(|mark| mark.state).collect::<Marks>().say(state) {
                return Ok(Marking::Stood);
            }
            let number =
                free_number(&listed, &states).ok_or_else(|| RepoError::NoFreeMark(id.to_string()))?;
            let key = ObjectKey::mark(id, number);
            let sealed = Mark { time: Timestamp::now(), state }
                .seal(id, number, &self.keys, &self.writer)
                .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
            match self.store.create(&key, Payload::Bytes(&sealed))? {
                Creation::Created => return Ok(Marking::Made),
                // Somebody else was faster, and may have said the same.
                Creation::AlreadyExists => {}
            }
        }
        Err(RepoError::NoFreeMark(id.to_string()))
    }

    /// Returns what the marks of each marked snapshot say.
    fn marks(&self) -> Result<BTreeMap<SnapshotId, Said>, RepoError> {
        if self.is_ingest_only() {
            return Ok(BTreeMap::new());
        }
        let (marks, mut copies) = self.list_all_marks()?;
        let mut said = BTreeMap::new();
        for (id, listed) in marks {
            said.insert(id, self.open_marks(id, &listed, &mut copies)?.into_values().collect());
        }
        Ok(said)
    }

    /// Lists all marks, and returns the copies of them that the index holds.
    fn list_all_marks(&self) -> Result<(BTreeMap<SnapshotId, ListedMarks>, Copies), RepoError> {
        let marks = self.list_marks(None)?;
        let numbered = |(id, numbers): (&SnapshotId, &ListedMarks)| {
            numbers.keys().map(|number| ObjectKey::mark(*id, *number).to_string()).collect::<Vec<_>>()
        };
        let copies = self.copies(Prefix::Marks, &marks.iter().flat_map(numbered).collect())?;
        Ok((marks, copies))
    }

    /// Lists the numbers and lengths of the marks of all snapshots, or of one.
    fn list_marks(&self, of: Option<SnapshotId>) -> Result<BTreeMap<SnapshotId, ListedMarks>, RepoError> {
        let mut marks: BTreeMap<SnapshotId, ListedMarks> = BTreeMap::new();
        self.store.list(Prefix::Marks, &mut |object| {
            if let Some((id, number)) = object.key.as_mark()
                && of.is_none_or(|wanted| wanted == id)
            {
                marks.entry(id).or_default().insert(number, object.bytes);
            }
        })?;
        Ok(marks)
    }

    /// Returns what the marks of a snapshot say, each from `copies` or from the store. A mark that does not open counts
    /// for nothing, on no axis, so that rubbish under a high number hides none below it.
    fn open_marks(
        &self,
        id: SnapshotId,
        listed: &ListedMarks,
        copies: &mut Copies,
    ) -> Result<BTreeMap<u32, Mark>, RepoError> {
        let mut states = BTreeMap::new();
        for (number, length) in listed {
            let mark = self.open_mark(id, *number, *length, copies)?;
            if let Some(mark) = mark.or_warn(&ObjectKey::mark(id, *number)) {
                states.insert(*number, mark);
            }
        }
        Ok(states)
    }

    fn open_mark(
        &self,
        id: SnapshotId,
        number: u32,
        length: Option<u64>,
        copies: &mut Copies,
    ) -> Result<Small<Mark>, RepoError> {
        let open = |key: &SealKey, bytes: &[u8]| Mark::open(id, number, key, bytes).map(|(_, mark)| mark);
        self.small_object(
            ObjectKind::Mark,
            &ObjectKey::mark(id, number),
            length,
            MARK_MAX_BYTES,
            copies,
            open,
        )
    }

    /// Returns the copies that the index holds of objects that the store lists, and drops the others.
    fn copies(&self, prefix: Prefix, listed: &BTreeSet<String>) -> Result<Copies, RepoError> {
        let copies = self.index.cached_objects(prefix.as_str())?;
        // Most often nothing is gone, and then no writer need be waited for.
        if copies.keys().any(|key| !listed.contains(key)) {
            self.index.retain_objects(prefix.as_str(), listed)?;
        }
        Ok(copies)
    }

    /// Returns a small immutable object as `open` reads it, from `copies` or from the store. Only what opens is kept in
    /// the index.
    fn small_object<T>(
        &self,
        kind: ObjectKind,
        key: &ObjectKey,
        length: Option<u64>,
        max_bytes: usize,
        copies: &mut Copies,
        open: impl Fn(&SealKey, &[u8]) -> Result<T, FormatError>,
    ) -> Result<Small<T>, RepoError> {
        if let Some(copy) = copies.remove(key.as_str())
            && let Ok(value) = open(&copy.key, &copy.bytes)
        {
            return Ok(Small::Opened(value));
        }
        if self.is_ingest_only() {
            return Ok(Small::Gone);
        }
        let opened = match get_small(self.store.as_ref(), key, length, max_bytes) {
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => {
                return Ok(Small::Gone);
            }
            Err(RepoError::Damaged { source: Some(error), .. }) => Err(error),
            other => {
                let bytes = other?;
                let opened = object_key(kind, &self.keys, &bytes)
                    .and_then(|object_key| open(&object_key, &bytes).map(|value| (object_key, value)));
                if let Ok((object_key, _)) = &opened {
                    self.index.cache_object(key.as_str(), &bytes, object_key)?;
                }
                opened.map(|(_, value)| value)
            }
        };
        Ok(opened.map_or_else(Small::Damaged, Small::Opened))
    }
}

/// Returns the number of the next mark: that behind all others, so that it counts. Where rubbish has taken the last
/// number that there is, the first free one behind the marks that open does.
fn free_number(listed: &ListedMarks, states: &BTreeMap<u32, Mark>) -> Option<u32> {
    match listed.last_key_value() {
        None => Some(0),
        Some((highest, _)) if *highest < u32::MAX => Some(highest + 1),
        Some(_) => {
            let first = states.last_key_value().map_or(Some(0), |(highest, _)| highest.checked_add(1))?;
            (first..u32::MAX).find(|number| !listed.contains_key(number))
        }
    }
}

/// Returns the snapshots that have this name: the beginning of an id, a time to the second, or the name in a mount.
fn named(mut snapshots: Vec<Snapshot>, name: &str) -> Vec<Snapshot> {
    let time: Option<Timestamp> = name.parse().ok();
    snapshots.retain(|snapshot| {
        let hex_prefix =
            name.len() >= 4 && snapshot.manifest.id.hex().starts_with(&name.to_ascii_lowercase());
        let same_second = time.is_some_and(|time| time.as_second() == snapshot.manifest.time.as_second());
        hex_prefix
            || same_second
            || snapshot.display_name() == name
            || snapshot.manifest.id.to_string() == name
    });
    snapshots
}

fn display_names(snapshots: &[Snapshot]) -> String {
    snapshots.iter().map(Snapshot::display_name).collect::<Vec<_>>().join(", ")
}

/// Returns the newest of `snapshots` (sorted by time) if all are of one series; `name` is what was asked for.
fn only_series(name: &str, snapshots: Vec<Snapshot>) -> Result<Snapshot, RepoError> {
    let series: BTreeSet<String> = snapshots
        .iter()
        .map(|snapshot| format!("latest:{}/{}", snapshot.manifest.host, snapshot.manifest.source))
        .collect();
    if series.len() > 1 {
        let candidates = series.into_iter().collect::<Vec<_>>().join(", ");
        return Err(RepoError::AmbiguousSnapshot { name: name.to_owned(), candidates });
    }
    let newest = snapshots.last().map(Snapshot::display_name);
    snapshots.into_iter().rev().find(Snapshot::may_be_latest).ok_or_else(|| match newest {
        Some(newest) => RepoError::OnlySuspicious { name: name.to_owned(), newest },
        None => RepoError::NoSnapshot(name.to_owned()),
    })
}

#[cfg(test)]
mod tests;
