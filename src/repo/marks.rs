//! Marks of snapshots: what they say together, and how a new one finds its number.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::small_objects::{Form, Listed, Small};
use super::{RepoError, Repository, parallel};
use crate::format::header::ObjectKind;
use crate::format::snapshot::{MARK_MAX_BYTES, Mark, MarkState, Marks};
use crate::id::SnapshotId;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{Creation, Payload};

/// A mark is tried under so many numbers while others take them.
const MARK_ATTEMPTS: usize = 16;
const FORM: Form = Form { prefix: Prefix::Marks, kind: ObjectKind::Mark, max_bytes: MARK_MAX_BYTES as u64 };

/// Whether it took a mark to have something said of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marking {
    /// A mark was made.
    Made,
    /// The marks that there are say so already.
    Stood,
}

/// What the marks of one snapshot say together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) marks: Marks,
    pub(super) forgotten_since: Option<Timestamp>,
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

/// A mark by its snapshot and number.
type Name = (SnapshotId, u32);

impl Repository {
    /// Makes a mark that says `state` of a snapshot, unless its marks say so already.
    ///
    /// # Errors
    /// As [`Self::mark_all`].
    pub fn mark(&self, id: SnapshotId, state: MarkState) -> Result<Marking, RepoError> {
        let made = self.mark_all(&BTreeSet::from([id]), state)?;
        Ok(if made.contains(&id) { Marking::Made } else { Marking::Stood })
    }

    /// Makes a mark that says `state` of each of these snapshots, unless its marks say so already. Returns those of which
    /// one was made.
    ///
    /// This may be done while garbage is collected: a collector reads the marks again before anything may be deleted.
    ///
    /// # Errors
    /// [`RepoError::TooNew`] if this program must not write here, [`RepoError::NoFreeMark`] if others took every number
    /// that was tried, [`RepoError::Encode`] if this host may not make such a mark, [`RepoError::IngestOnly`] if it cannot
    /// read those that there are. Some marks may have been made then.
    pub fn mark_all(
        &self,
        ids: &BTreeSet<SnapshotId>,
        state: MarkState,
    ) -> Result<BTreeSet<SnapshotId>, RepoError> {
        self.require_full()?;
        self.config
            .require_writable()
            .map_err(|source| RepoError::TooNew { location: self.store.location(), source })?;
        let mut left = ids.clone();
        let mut made = BTreeSet::new();
        for _ in 0..MARK_ATTEMPTS {
            let listed = self.list_marks(|id| left.contains(&id))?;
            let numbers = numbers(&listed);
            let mut marks = self.open_marks(listed)?;
            let mut new = Vec::new();
            for id in &left {
                let states = marks.remove(id).unwrap_or_default();
                if states.values().map(|mark| mark.state).collect::<Marks>().say(state) {
                    continue;
                }
                let taken = numbers.get(id).cloned().unwrap_or_default();
                let number =
                    free_number(&taken, &states).ok_or_else(|| RepoError::NoFreeMark(id.to_string()))?;
                new.push(((*id, number), 0));
            }
            left = new.iter().map(|((id, _), _)| *id).collect();
            let create = |name| Ok::<_, RepoError>((name, self.create_mark(name, state)?));
            parallel::in_order(
                self.store.requests_at_once(),
                u64::MAX,
                new,
                create,
                |((id, _), creation)| {
                    // Where somebody else was faster, he may have said the same.
                    if creation == Creation::Created {
                        left.remove(&id);
                        made.insert(id);
                    }
                    Ok(())
                },
            )?;
            if left.is_empty() {
                return Ok(made);
            }
        }
        Err(RepoError::NoFreeMark(left.first().map(ToString::to_string).unwrap_or_default()))
    }

    fn create_mark(&self, (id, number): Name, state: MarkState) -> Result<Creation, RepoError> {
        let key = ObjectKey::mark(id, number);
        let sealed = Mark { time: Timestamp::now(), state }
            .seal(id, number, &self.keys, &self.writer)
            .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
        Ok(self.store.create(&key, Payload::Bytes(&sealed))?)
    }

    /// Returns what the marks of each marked snapshot say that `is_meant`.
    pub(super) fn marks(
        &self,
        is_meant: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<BTreeMap<SnapshotId, Said>, RepoError> {
        if self.is_ingest_only() {
            return Ok(BTreeMap::new());
        }
        let mut listed = self.list_marks(|_| true)?;
        self.retain_copies(FORM, &listed)?;
        listed.retain(|mark| is_meant(mark.what.0));
        let marks = self.open_marks(listed)?;
        Ok(marks.into_iter().map(|(id, marks)| (id, marks.into_values().collect())).collect())
    }

    /// Returns what the marks of each marked snapshot say. One with a mark that does not open counts as having none, since
    /// nobody knows what that says.
    pub(super) fn marks_that_all_open(&self) -> Result<BTreeMap<SnapshotId, Said>, RepoError> {
        let listed = self.list_marks(|_| true)?;
        self.retain_copies(FORM, &listed)?;
        let mut marks: BTreeMap<SnapshotId, Vec<Mark>> = BTreeMap::new();
        let mut damaged = BTreeSet::new();
        for ((id, _), mark) in self.small_marks(listed)? {
            match mark {
                Small::Opened(mark) => marks.entry(id).or_default().push(mark),
                Small::Gone => {}
                Small::Damaged(_) => drop(damaged.insert(id)),
            }
        }
        marks.retain(|id, _| !damaged.contains(id));
        Ok(marks.into_iter().map(|(id, marks)| (id, marks.into_iter().collect())).collect())
    }

    /// Lists the marks of the snapshots that are meant, in the order of their names.
    fn list_marks(&self, is_meant: impl Fn(SnapshotId) -> bool) -> Result<Vec<Listed<Name>>, RepoError> {
        let mut marks = Vec::new();
        self.store.list(Prefix::Marks, &mut |object| {
            if let Some((id, number)) = object.key.as_mark()
                && is_meant(id)
            {
                marks.push(Listed { what: (id, number), key: object.key, bytes: object.bytes });
            }
        })?;
        marks.sort_unstable_by_key(|mark| mark.what);
        Ok(marks)
    }

    /// Returns marks by their snapshots and numbers. One that does not open counts for nothing, on no axis, so that rubbish
    /// under a high number hides none below it.
    fn open_marks(
        &self,
        listed: Vec<Listed<Name>>,
    ) -> Result<BTreeMap<SnapshotId, BTreeMap<u32, Mark>>, RepoError> {
        let mut marks: BTreeMap<SnapshotId, BTreeMap<u32, Mark>> = BTreeMap::new();
        for ((id, number), mark) in self.small_marks(listed)? {
            if let Some(mark) = mark.or_warn(&ObjectKey::mark(id, number)) {
                marks.entry(id).or_default().insert(number, mark);
            }
        }
        Ok(marks)
    }

    fn small_marks(&self, listed: Vec<Listed<Name>>) -> Result<Vec<(Name, Small<Mark>)>, RepoError> {
        self.small_objects(FORM, listed, |(id, number), key, bytes| {
            Mark::open(*id, *number, key, bytes).map(|(_, mark)| mark)
        })
    }
}

/// Returns the numbers of each snapshot's marks.
fn numbers(listed: &[Listed<Name>]) -> BTreeMap<SnapshotId, BTreeSet<u32>> {
    let mut numbers: BTreeMap<SnapshotId, BTreeSet<u32>> = BTreeMap::new();
    for Listed { what: (id, number), .. } in listed {
        numbers.entry(*id).or_default().insert(*number);
    }
    numbers
}

/// Returns the number of the next mark: that behind all others, so that it counts. Where rubbish has taken the last
/// number that there is, the first free one behind the marks that open does.
fn free_number(taken: &BTreeSet<u32>, states: &BTreeMap<u32, Mark>) -> Option<u32> {
    match taken.last() {
        None => Some(0),
        Some(highest) if *highest < u32::MAX => Some(highest + 1),
        Some(_) => {
            let first = states.last_key_value().map_or(Some(0), |(highest, _)| highest.checked_add(1))?;
            (first..u32::MAX).find(|number| !taken.contains(number))
        }
    }
}

#[cfg(test)]
mod tests;
