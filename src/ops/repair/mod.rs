//! Repair: brings back what is damaged or missing, from a second store where there is one, and takes out of the index what
//! nothing can bring back, so that the next backup stores it anew.
//!
//! A repair may run beside sessions and collectors. What it does is what these do at any time, in an order that keeps the
//! same promises:
//!
//! - A pack is put under its own name with its own bytes. Whoever relied on it is served; a collection that names it may
//!   delete it as it may delete any pack, since what `gc/` names is left alone here.
//! - Index objects are replaced as a collector replaces them: the new ones first, under names of their own.
//! - What is left of a pack that nothing can bring back is written anew by an ordinary session, which stays undecided until
//!   the pack has left the index. A collector that condemned the new packs meanwhile waits for it, looks once more, and
//!   finds the chunks nowhere else.
//! - No snapshot and nothing under `gc/` is deleted on a guess: see [`manifests`].

mod index_objects;
mod manifests;
mod packs;
#[cfg(test)]
mod tests;

use crate::format::FormatError;
use crate::id::{PackId, SnapshotId};
use crate::ops::copy::CopyError;
use crate::ops::gc::GcError;
use crate::ops::reach::{self, Below};
use crate::progress::{Event, Progress, error_chain};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository, get_small};
use crate::store::key::ObjectKey;

/// How a store is repaired.
#[derive(Debug, Clone, Copy)]
pub struct RepairOptions {
    /// Which packs are read to see whether they are whole.
    pub read: ReadPacks,
    /// What becomes of snapshots and objects under `gc/` that do not open and that nothing can bring back.
    pub unreadable: Unreadable,
    /// Level of zstd, for what is written anew.
    pub level: i32,
    /// Threads that compress, at least 1.
    pub threads: usize,
}

/// Which packs are read to see whether they are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPacks {
    /// Those that this host found damaged before.
    Suspects,
    /// All.
    All,
}

/// What becomes of snapshots and objects under `gc/` that do not open and that nothing can bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// They stay, and no garbage is collected.
    Keep,
    /// They are deleted: the operator says that nobody else uses the store just now, and that no newer program wrote them.
    Discard,
}

/// An object that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadObject {
    /// Its key.
    pub key: ObjectKey,
    /// What is wrong, for people.
    pub what: String,
    /// Whether a newer program may have written it, so that it is left alone.
    pub is_newer: bool,
}

impl BadObject {
    fn new(key: ObjectKey, error: &RepoError) -> Self {
        let is_newer = matches!(error, RepoError::Damaged { source: Some(FormatError::TooNew { .. }), .. });
        Self { key, what: error_chain(error), is_newer }
    }
}

/// A pack that is not what an index object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPack {
    /// The pack.
    pub id: PackId,
    /// What is wrong, for people.
    pub what: &'static str,
}

/// What is to be repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Objects under `gc/` that do not open.
    pub collections: Vec<BadObject>,
    /// Index objects that do not open.
    pub index_objects: Vec<BadObject>,
    /// Packs that no index object names and that no collection is about to delete: leftovers of sessions, or what a lost
    /// index object named.
    pub unnamed: Vec<PackId>,
    /// Packs that are damaged or missing.
    pub packs: Vec<BadPack>,
    /// Snapshots that do not open.
    pub snapshots: Vec<BadObject>,
    /// Packs that were read.
    pub packs_read: u64,
}

impl RepairPlan {
    /// Looks at the store, and changes nothing in it.
    ///
    /// # Errors
    /// Any failure of the store or the index.
    pub fn new(
        repo: &Repository,
        options: &RepairOptions,
        progress: &dyn Progress,
    ) -> Result<Self, RepairError> {
        repo.require_full()?;
        let collections = manifests::unreadable_collections(repo)?;
        let index_objects = index_objects::unreadable(repo)?;
        repo.refresh()?;
        let mut plan = Self { collections, index_objects, ..Self::default() };
        packs::survey(repo, options, progress, &mut plan)?;
        plan.snapshots = manifests::unreadable_snapshots(repo)?;
        Ok(plan)
    }

    /// Tells whether nothing is amiss. What no index object names is no damage by itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.collections.is_empty()
            && self.index_objects.is_empty()
            && self.packs.is_empty()
            && self.snapshots.is_empty()
    }

    /// Repairs, with what `from`, another store of the domain, has.
    ///
    /// # Errors
    /// See [`RepairError`]; what was repaired before stays so.
    pub fn execute(
        &self,
        repo: &Repository,
        from: Option<&Repository>,
        options: &RepairOptions,
        progress: &dyn Progress,
    ) -> Result<RepairStats, RepairError> {
        let location = || repo.store().location();
        repo.config()
            .require_writable()
            .map_err(|source| RepoError::TooNew { location: location(), source })?;
        if let Some(from) = from {
            require_same_domain(repo, from)?;
            from.refresh()?;
        }
        let mut stats = RepairStats::default();
        manifests::discard_collections(repo, &self.collections, options, &mut stats)?;
        index_objects::rebuild(repo, self, &mut stats, progress)?;
        packs::bring_back(repo, from, self, options, &mut stats, progress)?;
        manifests::bring_back(repo, from, &self.snapshots, options, &mut stats, progress)?;
        let is_lossy = !stats.lost_packs.is_empty() || !self.index_objects.is_empty();
        if is_lossy {
            stats.damaged_snapshots = damaged_snapshots(repo)?;
        }
        Ok(stats)
    }
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairStats {
    /// Packs that were brought back from the other store.
    pub restored_packs: Vec<PackId>,
    /// Packs that turned out to be whole when they were read once more.
    pub whole_packs: Vec<PackId>,
    /// Packs that nothing could bring back: they were taken out of the index.
    pub lost_packs: Vec<PackId>,
    /// Frames of such packs that were written anew.
    pub rescued_frames: u64,
    /// Chunks of such packs that are lost.
    pub lost_chunks: u64,
    /// Index objects that were replaced since they did not open.
    pub replaced_index_objects: Vec<ObjectKey>,
    /// Packs that an index object names again.
    pub named_packs: u64,
    /// Snapshots whose objects were put back as they were.
    pub restored_snapshots: Vec<SnapshotId>,
    /// Snapshots that were copied from the other store under another id: the old one and the new one.
    pub copied_snapshots: Vec<(SnapshotId, SnapshotId)>,
    /// Objects that did not open and were deleted.
    pub discarded: Vec<ObjectKey>,
    /// Objects that do not open and stay.
    pub left: Vec<BadObject>,
    /// Snapshots that need what is lost.
    pub damaged_snapshots: Vec<Snapshot>,
}

impl RepairStats {
    /// Tells whether anything stays lost or unreadable.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged_snapshots.is_empty() && self.left.is_empty() && self.lost_chunks == 0
    }
}

/// Why a repair did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The other store has other keys.
    #[error("the store at {0} is of another domain: its packs are of no use here")]
    OtherDomain(String),
    /// The store or the index failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A snapshot could not be copied.
    #[error("cannot copy a snapshot from the other store")]
    Copy(#[source] CopyError),
    /// Index objects could not be replaced.
    #[error("cannot replace index objects")]
    Replace(#[source] Box<GcError>),
}

/// Refuses a store of other keys.
///
/// # Errors
/// [`RepairError::OtherDomain`].
pub fn require_same_domain(repo: &Repository, from: &Repository) -> Result<(), RepairError> {
    match repo.config().domain == from.config().domain {
        true => Ok(()),
        false => Err(RepairError::OtherDomain(from.store().location())),
    }
}

/// Returns the snapshots that need what is nowhere.
fn damaged_snapshots(repo: &Repository) -> Result<Vec<Snapshot>, RepoError> {
    let mut damaged = Vec::new();
    for snapshot in repo.snapshots()? {
        let mut seen = std::collections::HashSet::new();
        let mut is_whole = true;
        let walked = reach::each_chunk(repo, &snapshot.manifest, &mut |_, id| {
            if !is_whole || !seen.insert(*id) {
                return Ok(Below::Skip);
            }
            is_whole = !repo.index().homes(id)?.is_empty();
            Ok(if is_whole { Below::Visit } else { Below::Skip })
        });
        match walked {
            Ok(()) if is_whole => {}
            Ok(()) => damaged.push(snapshot),
            Err(error) if error.is_damage() => damaged.push(snapshot),
            Err(error) => return Err(error),
        }
    }
    Ok(damaged)
}

/// Reads a small object and looks at it, twice if it does not open the first time: what is deleted for it has to be damaged
/// in the store, and not on its way here. Nothing if it opens, or is gone.
fn look_twice(
    repo: &Repository,
    key: &ObjectKey,
    max_bytes: usize,
    open: &dyn Fn(&[u8]) -> Result<(), FormatError>,
) -> Result<Option<BadObject>, RepoError> {
    let look = || {
        let bytes = get_small(repo.store(), key, None, max_bytes)?;
        open(&bytes).map_err(|error| RepoError::Damaged { object: key.to_string(), source: Some(error) })
    };
    let mut bad = None;
    for _ in 0..2 {
        match look() {
            Ok(()) => return Ok(None),
            Err(error @ RepoError::Damaged { .. }) => bad = Some(BadObject::new(key.clone(), &error)),
            Err(RepoError::Store(error)) if error.kind() == crate::store::StoreErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bad)
}

/// Tells people of something that was found or done.
fn tell(progress: &dyn Progress, text: &str) {
    progress.event(Event::Warning(text));
}
