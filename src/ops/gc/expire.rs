//! What goes in the end: marks of sessions that are decided, snapshots that were dropped with their marks; and after 30
//! days tombstones, and the objects under `gc/` that kept sleepers from harm.
//!
//! The order counts: see `docs/decisions/0014-what-a-collection-leaves-behind.md`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::GcError;
use crate::format::collection::{Collection, Stage};
use crate::id::{PackId, SessionId};
use crate::repo::{RepoError, Repository, parallel};
use crate::store::ObjectStore;
use crate::store::key::{ObjectKey, Prefix};

/// What warns sleepers is kept for so long: longer than any session may commit, or any process sleeps in earnest.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Deletes what nobody needs any more; returns how many snapshots went.
pub(super) fn expire(repo: &Repository) -> Result<u64, GcError> {
    let store = repo.store();
    let now = Timestamp::now();
    // Marks of sessions first listed, then what decides them: a session that is decided stays so.
    let sessions = listed(store, Prefix::Sessions, ObjectKey::as_session)?;
    let decided = repo.decided()?;
    let collections = repo.collections()?;
    let mut there: BTreeSet<SessionId> =
        decided.snapshots.iter().map(|snapshot| snapshot.manifest.id).collect();
    let snapshots = there.clone();
    there.extend(decided.tombstones.iter().map(|(id, _)| *id));
    delete_all(store, &sessions, |id| there.contains(&id))?;

    let old: HashSet<SessionId> = decided
        .tombstones
        .iter()
        .filter(|(_, time)| now.duration_since(*time) > KEPT)
        .map(|(id, _)| *id)
        .collect();
    let dropped = collections.dropped_snapshots();
    let going: BTreeSet<SessionId> =
        there.iter().filter(|id| old.contains(id) || dropped.contains(id)).copied().collect();
    parallel::each(store.requests_at_once(), &going, |id| {
        store.delete(&ObjectKey::snapshot(*id)).map_err(RepoError::from)
    })?;
    there.retain(|id| !going.contains(id));

    // The marks were there before: a mark of a snapshot that was committed since has no place in this list.
    let marks = listed(store, Prefix::Marks, ObjectKey::as_mark)?;
    let now_there: BTreeSet<_> =
        listed(store, Prefix::Snapshots, |key| key.as_snapshot().map(|id| (id, 0)))?.into_keys().collect();
    delete_all(store, &marks, |id| !now_there.contains(&id))?;

    for collection in outlived(repo, collections.finals().collect(), now)? {
        store.delete(&ObjectKey::gc(collection, Stage::Final)).map_err(RepoError::from)?;
    }
    Ok(going.iter().filter(|id| snapshots.contains(id)).count() as u64)
}

/// Returns the collections that nobody can remember any more. One whose packs are named still stays, since they would
/// count as usable; and so does the last one, so that no number comes twice.
fn outlived(repo: &Repository, finals: Vec<&Collection>, now: Timestamp) -> Result<Vec<u32>, GcError> {
    let Some((_, earlier)) = finals.split_last() else { return Ok(Vec::new()) };
    let objects = repo.index().listed_objects().map_err(RepoError::from)?;
    let named: HashSet<PackId> = objects.into_iter().flat_map(|object| object.packs).collect();
    let is_over = |collection: &&&Collection| {
        now.duration_since(collection.time) > KEPT && !collection.packs.iter().any(|id| named.contains(id))
    };
    Ok(earlier.iter().filter(is_over).map(|collection| collection.number).collect())
}

/// Lists objects whose keys belong to a session, by session.
fn listed<N>(
    store: &dyn ObjectStore,
    prefix: Prefix,
    owner: impl Fn(&ObjectKey) -> Option<(SessionId, N)>,
) -> Result<BTreeMap<SessionId, Vec<ObjectKey>>, RepoError> {
    let mut keys: BTreeMap<SessionId, Vec<ObjectKey>> = BTreeMap::new();
    store.list(prefix, &mut |object| {
        if let Some((id, _)) = owner(&object.key) {
            keys.entry(id).or_default().push(object.key);
        }
    })?;
    Ok(keys)
}

fn delete_all(
    store: &dyn ObjectStore,
    keys: &BTreeMap<SessionId, Vec<ObjectKey>>,
    goes: impl Fn(SessionId) -> bool,
) -> Result<(), RepoError> {
    let going = keys.iter().filter(|(id, _)| goes(**id)).flat_map(|(_, keys)| keys);
    parallel::each(store.requests_at_once(), going, |key| Ok(store.delete(key)?))
}
