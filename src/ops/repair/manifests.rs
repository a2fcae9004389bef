//! Snapshots and objects under `gc/` that do not open: both stop every collection, since nobody knows what they keep.
//!
//! A snapshot's object may be a manifest, or the tombstone that keeps a sleeping session from committing. So it is put back
//! as it was from the copy that this host's index keeps; or its snapshot is copied from another store, which proves that it
//! was a manifest, and then it may go. All else is deleted only if the operator says so. A tombstone takes the place of what
//! goes: else its session would seem to be under way, and collectors would wait for it.

use std::collections::BTreeMap;

use super::{BadObject, RepairError, RepairOptions, RepairStats, Unreadable, look_twice};
use crate::format::collection::Collection;
use crate::format::snapshot::SnapshotObject;
use crate::id::SnapshotId;
use crate::ops::copy::{self, CopyOptions, CopyPlan, ReadBack};
use crate::progress::Progress;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use crate::store::Payload;
use crate::store::key::{ObjectKey, Prefix};

/// Returns the objects under `gc/` that do not open.
pub(super) fn unreadable_collections(repo: &Repository) -> Result<Vec<BadObject>, RepoError> {
    let max_bytes = usize::try_from(Collection::MAX_BYTES).unwrap_or(usize::MAX);
    let mut bad = Vec::new();
    for key in list(repo, Prefix::Gc)? {
        let Some((number, stage)) = key.as_gc() else {
            bad.push(BadObject {
                key,
                what: "its name is none that this version knows".to_owned(),
                is_newer: false,
            });
            continue;
        };
        let open =
            |bytes: &[u8]| Collection::open(repo.config().store, number, stage, repo.keys(), bytes).map(drop);
        bad.extend(look_twice(repo, &key, max_bytes, &open)?);
    }
    Ok(bad)
}

/// Deletes such objects if the operator says so. Packs that they named are found missing, or are collected again.
pub(super) fn discard_collections(
    repo: &Repository,
    bad: &[BadObject],
    options: &RepairOptions,
    stats: &mut RepairStats,
) -> Result<(), RepairError> {
    for object in bad {
        if options.unreadable == Unreadable::Keep || object.is_newer {
            // Nothing can be done while nobody knows which packs are about to go.
            let object = object.key.to_string();
            return Err(RepoError::UnknownCollection { object, source: None }.into());
        }
        discard(repo, object, stats)?;
    }
    Ok(())
}

/// Returns what lies under `snapshots/` and does not open.
pub(super) fn unreadable_snapshots(repo: &Repository) -> Result<Vec<BadObject>, RepoError> {
    let max_bytes = usize::try_from(SnapshotObject::MAX_BYTES).unwrap_or(usize::MAX);
    let mut bad = Vec::new();
    for key in list(repo, Prefix::Snapshots)? {
        let Some(id) = key.as_snapshot() else { continue };
        let open = |bytes: &[u8]| SnapshotObject::open(id, repo.keys(), bytes).map(drop);
        bad.extend(look_twice(repo, &key, max_bytes, &open)?);
    }
    Ok(bad)
}

/// Brings snapshots back.
pub(super) fn bring_back(
    repo: &Repository,
    from: Option<&Repository>,
    bad: &[BadObject],
    options: &RepairOptions,
    stats: &mut RepairStats,
    progress: &dyn Progress,
) -> Result<(), RepairError> {
    if bad.is_empty() {
        return Ok(());
    }
    let mut copies = repo.index().cached_objects(Prefix::Snapshots.as_str()).map_err(RepoError::from)?;
    let elsewhere = elsewhere(from)?;
    for object in bad {
        let Some(id) = object.key.as_snapshot() else { continue };
        let copy = match copies.remove(object.key.as_str()) {
            Some(copy) => Some(copy.bytes),
            None => from.and_then(|from| from.store().get(&object.key, None).ok()),
        };
        // The very object, from here or from a copy of the store that was made file by file.
        if let Some(copy) = copy.filter(|copy| SnapshotObject::open(id, repo.keys(), copy).is_ok()) {
            repo.store().delete(&object.key).map_err(RepoError::from)?;
            repo.store().create(&object.key, Payload::Bytes(&copy)).map_err(RepoError::from)?;
            stats.restored_snapshots.push(id);
            continue;
        }
        let copied = match (from, elsewhere.get(&id)) {
            (Some(from), Some(snapshot)) => copy_back(repo, from, snapshot, options, progress)?,
            _ => None,
        };
        match copied {
            Some(new) => {
                // Another store has it, so that it was committed, and its session is over.
                repo.store().delete(&object.key).map_err(RepoError::from)?;
                repo.fence(id)?;
                stats.copied_snapshots.push((id, new));
            }
            None if options.unreadable == Unreadable::Discard && !object.is_newer => {
                discard(repo, object, stats)?;
                repo.fence(id)?;
            }
            None => stats.left.push(object.clone()),
        }
    }
    Ok(())
}

/// Returns the snapshots of the other store by the ids that they had where they were made.
fn elsewhere(from: Option<&Repository>) -> Result<BTreeMap<SnapshotId, Snapshot>, RepoError> {
    let snapshots = from.map(Repository::snapshots).transpose()?.unwrap_or_default();
    Ok(snapshots.into_iter().map(|snapshot| (snapshot.manifest.identity(), snapshot)).collect())
}

/// Copies a snapshot from the other store; returns its new id, or nothing if it is damaged there as well.
fn copy_back(
    repo: &Repository,
    from: &Repository,
    snapshot: &Snapshot,
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<Option<SnapshotId>, RepairError> {
    if from.config().store == repo.config().store {
        return Ok(None);
    }
    let plan = CopyPlan { missing: vec![snapshot.clone()], ..CopyPlan::default() };
    let copy_options =
        CopyOptions { level: options.level, threads: options.threads, read_back: ReadBack::Bytes };
    let stats = copy::copy(from, repo, &plan, &copy_options, progress).map_err(RepairError::Copy)?;
    Ok(stats.copied.first().map(|(_, copy)| copy.id))
}

fn discard(repo: &Repository, object: &BadObject, stats: &mut RepairStats) -> Result<(), RepairError> {
    repo.store().delete(&object.key).map_err(RepoError::from)?;
    stats.discarded.push(object.key.clone());
    Ok(())
}

fn list(repo: &Repository, prefix: Prefix) -> Result<Vec<ObjectKey>, RepoError> {
    let mut keys = Vec::new();
    repo.store().list(prefix, &mut |object| keys.push(object.key))?;
    keys.sort();
    Ok(keys)
}
