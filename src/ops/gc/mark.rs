//! Marking: what all snapshots need that are not to go, from fresh listings.
//!
//! It is done twice. The first mark only guesses what is worth condemning. The second one, once every session that may not
//! have seen what was condemned is decided, is what nothing is lost by.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::GcError;
use super::live::{Homes, LivePack, Marker};
use crate::id::{PackId, SnapshotId};
use crate::index::PackRow;
use crate::progress::{Event, Progress};
use crate::repo::collections::Collections;
#[cfg(test)]
use crate::repo::flaw::Flaw;
#[cfg(test)]
use crate::repo::snapshots::Decided;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use crate::store::key::Prefix;
use crate::store::list_with_lengths;

/// A mark is begun anew so often if index objects are replaced under it.
const ATTEMPTS_MAX: usize = 3;

/// What the listings of a mark said, in the order in which they were made.
pub(super) struct Heard {
    /// Snapshots that stay.
    kept: Vec<Snapshot>,
    /// Forgotten snapshots that may go.
    pub(super) dropped: BTreeSet<SnapshotId>,
    /// What other collections say.
    pub(super) collections: Collections,
    /// All packs that the store lists, and their bytes.
    pub(super) packs: HashMap<PackId, u64>,
}

impl Heard {
    /// Lists `marks/`, `snapshots/`, `gc/`, `index/` and `packs/`, in this order.
    ///
    /// # Errors
    /// Fails if anything is listed that cannot be read: it may be what keeps something.
    pub(super) fn listen(repo: &Repository, grace: SignedDuration) -> Result<Self, GcError> {
        // Whoever reads a snapshot says so before it begins.
        let held = repo.readers().held()?;
        let decided = repo.decided();
        #[cfg(test)]
        let decided =
            decided.or_else(|error| Flaw::TakesErrorForEmpty.is_back().then(Decided::default).ok_or(error));
        let decided = decided?;
        let collections = repo.collections()?;
        repo.refresh_strictly()?;
        let mut packs = HashMap::new();
        list_with_lengths(repo.store(), Prefix::Packs, &mut |key, bytes| {
            packs.extend(key.as_pack().map(|id| (id, bytes)));
        })
        .map_err(RepoError::from)?;
        let now = Timestamp::now();
        let gone = collections.dropped_snapshots();
        let (mut kept, mut dropped) = (Vec::new(), BTreeSet::new());
        for snapshot in decided.snapshots {
            let id = snapshot.manifest.id;
            let is_old = snapshot.forgotten_since.is_some_and(|since| now.duration_since(since) >= grace);
            if gone.contains(&id) {
                continue;
            }
            if is_old && !held.contains(&id) {
                dropped.insert(id);
            } else {
                kept.push(snapshot);
            }
        }
        Ok(Self { kept, dropped, collections, packs })
    }

    /// Returns how many forgotten snapshots stay for now.
    pub(super) fn in_grace(&self) -> u64 {
        self.kept.iter().filter(|snapshot| snapshot.forgotten_since.is_some()).count() as u64
    }

    /// Returns what the snapshots that stay need of each pack. What only packs hold that are `leaving` keeps these.
    ///
    /// # Errors
    /// [`GcError::NotWhole`] if one of them needs what is nowhere: nothing is deleted while anything is missing.
    pub(super) fn mark(
        &self,
        repo: &Repository,
        gone: &HashSet<PackId>,
        leaving: &HashSet<PackId>,
        progress: &dyn Progress,
    ) -> Result<HashMap<PackRow, LivePack>, GcError> {
        let snapshots = self.kept.len() as u64;
        progress.event(Event::Found { files: snapshots, bytes: 0 });
        for attempt in 1.. {
            let homes = Homes {
                listed: self.packs.keys().copied().collect(),
                gone: gone.clone(),
                leaving: leaving.clone(),
            };
            let mut marker = Marker::new(repo, homes);
            match self.mark_all(&mut marker, progress) {
                // Another process of this host brought the index up to date.
                Err(GcError::NotWhole { source: RepoError::StaleIndex, .. }) if attempt < ATTEMPTS_MAX => {
                    repo.refresh_strictly()?;
                }
                marked => return marked.map(|()| marker.into_packs()),
            }
        }
        Err(RepoError::StaleIndex.into())
    }

    fn mark_all(&self, marker: &mut Marker<'_>, progress: &dyn Progress) -> Result<(), GcError> {
        for snapshot in &self.kept {
            let id = snapshot.manifest.id;
            marker
                .snapshot(&snapshot.manifest)
                .map_err(|source| GcError::NotWhole { snapshot: id.short(), source })?;
            progress.event(Event::Done { files: 1, bytes: 0 });
        }
        Ok(())
    }
}
