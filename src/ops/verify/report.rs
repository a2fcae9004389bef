//! Collects damage while a verification runs: what is wrong where, which frames are bad, and what that touches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DAMAGE_MAX, Damage, FILES_MAX};
use crate::id::{ChunkId, SnapshotId};
use crate::index::FrameRef;
use crate::path::TreePath;

/// A record of a [`Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DamageId(usize);

/// Damage as far as it is known. May be shared by threads.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    damage: Vec<Damage>,
    bad_frames: HashMap<FrameRef, Cause>,
    bad_chunks: HashMap<ChunkId, DamageId>,
}

/// Why a frame is bad.
#[derive(Debug, Clone)]
enum Cause {
    /// Something is damaged.
    Noted(DamageId),
    /// A collection took what it stands on, so that it is damage only if anything needs it.
    Left(Arc<LeftFrame>),
}

/// A frame that a collection left behind.
#[derive(Debug)]
struct LeftFrame {
    object: String,
    what: String,
}

impl Report {
    /// Notes that an object is damaged.
    pub(super) fn damage(&self, object: impl Into<String>, what: impl Into<String>) -> DamageId {
        self.lock().note(object.into(), what.into())
    }

    /// Notes that an object is damaged, and that these frames cannot be read because of it.
    pub(super) fn bad_frames(
        &self,
        object: impl Into<String>,
        what: impl Into<String>,
        frames: impl IntoIterator<Item = FrameRef>,
    ) {
        let mut found = self.lock();
        let id = found.note(object.into(), what.into());
        found.bad_frames.extend(frames.into_iter().map(|frame| (frame, Cause::Noted(id))));
    }

    /// Notes that frames of an object cannot be read, which is damage only if anything needs one of them.
    pub(super) fn left_frames(
        &self,
        object: impl Into<String>,
        what: impl Into<String>,
        frames: impl IntoIterator<Item = FrameRef>,
    ) {
        let left = Arc::new(LeftFrame { object: object.into(), what: what.into() });
        let frames = frames.into_iter().map(|frame| (frame, Cause::Left(Arc::clone(&left))));
        self.lock().bad_frames.extend(frames);
    }

    /// Notes that a chunk is missing or bad, though no bad frame explains it; once for each chunk.
    pub(super) fn bad_chunk(&self, chunk: &ChunkId, what: impl Into<String>) -> DamageId {
        let mut found = self.lock();
        if let Some(known) = found.bad_chunks.get(chunk) {
            return *known;
        }
        let id = found.note(format!("chunk {chunk}"), what.into());
        found.bad_chunks.insert(*chunk, id);
        id
    }

    /// Tells why none of the frames `homes` of a chunk can be read; nothing if one of them can. Those that were not
    /// read count as whole.
    pub(super) fn why_all_bad(&self, homes: impl IntoIterator<Item = FrameRef>) -> Option<DamageId> {
        let mut found = self.lock();
        let mut why = None;
        for frame in homes {
            why = Some((frame, found.bad_frames.get(&frame)?.clone()));
        }
        match why? {
            (_, Cause::Noted(id)) => Some(id),
            (frame, Cause::Left(left)) => {
                let id = found.note(left.object.clone(), left.what.clone());
                found.bad_frames.insert(frame, Cause::Noted(id));
                Some(id)
            }
        }
    }

    /// Notes that a file or directory of a snapshot cannot be read whole because of `damage`.
    pub(super) fn touches(&self, damage: DamageId, snapshot: SnapshotId, path: &TreePath) {
        let mut found = self.lock();
        let Some(damage) = found.damage.get_mut(damage.0) else { return };
        damage.files_touched += 1;
        if damage.snapshots.last() != Some(&snapshot) {
            damage.snapshots.push(snapshot);
        }
        if damage.files.len() < FILES_MAX {
            damage.files.push((snapshot, path.clone()));
        }
    }

    /// Notes that a snapshot as such cannot be read because of `damage`.
    pub(super) fn loses(&self, damage: DamageId, snapshot: SnapshotId) {
        if let Some(damage) = self.lock().damage.get_mut(damage.0) {
            damage.snapshots.push(snapshot);
        }
    }

    /// Tells whether there are frames that are bad because something is damaged.
    pub(super) fn has_damaged_frames(&self) -> bool {
        self.lock().bad_frames.values().any(|cause| matches!(cause, Cause::Noted(_)))
    }

    /// Tells whether there are frames that cannot be read.
    pub(super) fn has_bad_frames(&self) -> bool {
        !self.lock().bad_frames.is_empty()
    }

    /// Tells whether a frame is known to be bad.
    pub(super) fn is_bad(&self, frame: FrameRef) -> bool {
        self.lock().bad_frames.contains_key(&frame)
    }

    /// Returns all frames that are known to be bad.
    pub(super) fn known_bad_frames(&self) -> Vec<FrameRef> {
        self.lock().bad_frames.keys().copied().collect()
    }

    /// Forgets what a walk found, and keeps what reading frames found.
    pub(super) fn only_bad_frames(self) -> Self {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Found::default();
        let mut moved: HashMap<usize, DamageId> = HashMap::new();
        for (frame, cause) in found.bad_frames {
            let Cause::Noted(old) = cause else {
                kept.bad_frames.insert(frame, cause);
                continue;
            };
            let id = *moved.entry(old.0).or_insert_with(|| match found.damage.get(old.0) {
                Some(damage) => kept.note(damage.object.clone(), damage.what.clone()),
                None => kept.note("a pack".into(), "it is damaged".into()),
            });
            kept.bad_frames.insert(frame, Cause::Noted(id));
        }
        Self { found: Mutex::new(kept) }
    }

    /// Returns all damage, sorted by object.
    pub(super) fn into_damage(self) -> Vec<Damage> {
        let mut damage = self.found.into_inner().unwrap_or_else(PoisonError::into_inner).damage;
        for one in &mut damage {
            one.snapshots.sort_unstable();
            one.snapshots.dedup();
        }
        damage.sort_by(|a, b| a.object.cmp(&b.object).then_with(|| a.what.cmp(&b.what)));
        damage
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn note(&mut self, object: String, what: String) -> DamageId {
        let (object, what) = match self.damage.len() {
            full if full > DAMAGE_MAX => return DamageId(DAMAGE_MAX),
            DAMAGE_MAX => ("further objects".into(), "there is more damage than is listed".into()),
            _ => (object, what),
        };
        self.damage.push(Damage { object, what, snapshots: Vec::new(), files: Vec::new(), files_touched: 0 });
        DamageId(self.damage.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SnapshotId {
        SnapshotId::random(jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn files_are_named_up_to_a_bound_and_counted_beyond() {
        let report = Report::default();
        let damage = report.damage("packs/00/00", "it is missing");
        let snapshot = id();
        for _ in 0..FILES_MAX + 5 {
            report.touches(damage, snapshot, &TreePath::root());
        }
        let [damage] = &report.into_damage()[..] else { panic!("one object is damaged") };
        assert_eq!(damage.files.len(), FILES_MAX);
        assert_eq!(damage.files_touched, FILES_MAX as u64 + 5);
        assert_eq!(damage.snapshots, [snapshot]);
    }

    #[test]
    fn damage_without_end_takes_bounded_memory() {
        let report = Report::default();
        for number in 0..DAMAGE_MAX + 50 {
            report.damage(format!("packs/{number}"), "it is missing");
        }
        assert_eq!(report.into_damage().len(), DAMAGE_MAX + 1);
    }

    #[test]
    fn a_chunk_is_reported_once() {
        let report = Report::default();
        let chunk = ChunkId::from_bytes([7; 32]);
        assert_eq!(report.bad_chunk(&chunk, "missing"), report.bad_chunk(&chunk, "missing"));
        assert_eq!(report.into_damage().len(), 1);
    }
}
