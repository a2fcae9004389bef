//! Index objects that do not open, or are gone: what they named is found again by what the packs say of themselves.

use super::{BadObject, RepairError, RepairPlan, RepairStats, look_twice, tell};
use crate::format::index_object::IndexObject;
use crate::ops::gc::replace;
use crate::progress::{Progress, error_chain};
use crate::repo::whole::WholePack;
use crate::repo::{RepoError, Repository};
use crate::store::StoreErrorKind;
use crate::store::key::{ObjectKey, Prefix};

/// Returns the index objects that do not open.
pub(super) fn unreadable(repo: &Repository) -> Result<Vec<BadObject>, RepoError> {
    let mut keys = Vec::new();
    repo.store().list(Prefix::Index, &mut |object| keys.push(object.key))?;
    keys.sort();
    let max_bytes = usize::try_from(IndexObject::MAX_BYTES).unwrap_or(usize::MAX);
    let mut bad = Vec::new();
    for key in keys {
        let open = |bytes: &[u8]| IndexObject::open(repo.keys(), key.as_str(), bytes).map(drop);
        bad.extend(look_twice(repo, &key, max_bytes, &open)?);
    }
    Ok(bad)
}

/// Names anew the packs that no index object names, and deletes the index objects that do not open. A pack that does not
/// have its bytes, or that is no pack, stays where it is, and without a name.
pub(super) fn rebuild(
    repo: &Repository,
    plan: &RepairPlan,
    stats: &mut RepairStats,
    progress: &dyn Progress,
) -> Result<(), RepairError> {
    let gone = repo.collections()?.gone_packs();
    let mut packs = Vec::new();
    for id in plan.unnamed.iter().filter(|id| !gone.contains(id)) {
        let described =
            WholePack::fetch(repo.store(), id, repo.spool()).and_then(|pack| pack.describe(repo.keys()));
        match described {
            Ok(pack) => packs.push(pack),
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) if error.is_damage() => {
                tell(
                    progress,
                    &format!("pack {id} is in no index, and is of no use: {}", error_chain(&error)),
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (newer, old): (Vec<_>, Vec<_>) = plan.index_objects.iter().cloned().partition(|bad| bad.is_newer);
    stats.left.extend(newer);
    if packs.is_empty() && old.is_empty() {
        return Ok(());
    }
    stats.named_packs += packs.len() as u64;
    let keys: Vec<ObjectKey> = old.into_iter().map(|bad| bad.key).collect();
    let named: Vec<_> = packs.iter().map(|pack| pack.id).collect();
    replace::put_instead(repo, packs, &keys)?;
    // Their bytes were just held against their names.
    repo.index().trust(&named).map_err(RepoError::from)?;
    stats.replaced_index_objects = keys;
    Ok(())
}
