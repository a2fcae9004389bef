//! Index objects without dead packs, in place of those that name some; and small ones joined.

use std::collections::HashSet;

use super::GcError;
use crate::format::index_object::{INDEX_MAX_PACKS, INDEX_MAX_SUPERSEDED, IndexObject, IndexedPack};
use crate::id::{PackId, SessionId};
use crate::index::ListedObject;
#[cfg(test)]
use crate::repo::flaw::Flaw;
use crate::repo::{RepoError, Repository};
use crate::store::key::ObjectKey;
use crate::store::{Creation, Payload};

/// An index object that is written holds about so many chunks.
const CHUNKS_PER_OBJECT: u64 = 1 << 16;
/// An index object with fewer chunks is small.
const SMALL_CHUNKS: u64 = CHUNKS_PER_OBJECT / 4;
/// So many small ones are joined.
const SMALL_MIN: usize = 16;

/// Replaces index objects that name any of the `dead` packs, and joins small ones. Each is put under a session id that is
/// this collector's alone: under a key that it shares, the object of another one would be taken for its own.
///
/// What they say comes from the store, not from the local index: that is a cache, and may be damaged.
pub(super) fn replace(repo: &Repository, dead: &HashSet<PackId>) -> Result<u64, GcError> {
    let old = superseded(repo.index().listed_objects().map_err(RepoError::from)?, dead);
    if old.is_empty() {
        return Ok(0);
    }
    let session = SessionId::random(jiff::Timestamp::now()).map_err(RepoError::from)?;
    let mut writer =
        ReplacementWriter { repo, session, number: 0, object: IndexObject::default(), chunks: 0 };
    let mut seen = HashSet::new();
    let mut keys = Vec::new();
    for key in old {
        // Another collector has replaced it.
        let Some(object) = repo.index_object(&key)? else { continue };
        for pack in object.packs {
            if !dead.contains(&pack.id) && seen.insert(pack.id) {
                writer.add(pack)?;
            }
        }
        writer.object.supersedes.push(key.to_string());
        keys.push(key);
    }
    #[cfg(test)]
    if Flaw::SupersedesFirst.is_back() {
        delete(repo, &keys)?;
    }
    writer.flush()?;
    delete(repo, &keys)?;
    let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
    repo.index().retract(&names).map_err(RepoError::from)?;
    Ok(keys.len() as u64)
}

fn delete(repo: &Repository, keys: &[ObjectKey]) -> Result<(), RepoError> {
    keys.iter().try_for_each(|key| Ok(repo.store().delete(key)?))
}

/// Returns the index objects that are to go: those that name dead packs, and small ones if there are many.
fn superseded(objects: Vec<ListedObject>, dead: &HashSet<PackId>) -> Vec<ObjectKey> {
    let is_small = |object: &ListedObject| object.chunks < SMALL_CHUNKS;
    let joins = objects.iter().filter(|object| is_small(object)).count() >= SMALL_MIN;
    let is_old = |object: &ListedObject| {
        object.packs.iter().any(|id| dead.contains(id)) || (joins && is_small(object))
    };
    let old = objects.into_iter().filter(is_old).take(INDEX_MAX_SUPERSEDED);
    old.filter_map(|object| ObjectKey::parse(&object.key)).collect()
}

/// Writes index objects of bounded size.
struct ReplacementWriter<'a> {
    repo: &'a Repository,
    session: SessionId,
    number: u32,
    object: IndexObject,
    chunks: u64,
}

impl ReplacementWriter<'_> {
    fn add(&mut self, pack: IndexedPack) -> Result<(), RepoError> {
        self.chunks += pack.directory.frames.iter().map(|frame| frame.chunks.len() as u64).sum::<u64>();
        self.object.packs.push(pack);
        let is_full = self.chunks >= CHUNKS_PER_OBJECT || self.object.packs.len() >= INDEX_MAX_PACKS;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), RepoError> {
        if self.object.packs.is_empty() {
            return Ok(());
        }
        let mut object = std::mem::take(&mut self.object);
        object.packs.sort_by_key(|pack| pack.id);
        let key = ObjectKey::index(self.session, self.number);
        let bytes = object
            .seal(self.repo.keys(), self.repo.writer(), key.as_str())
            .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
        // Somebody who saw the name of the one before may have taken this one.
        if self.repo.store().create(&key, Payload::Bytes(&bytes))? == Creation::AlreadyExists
            && self.repo.store().get(&key, None)? != bytes
        {
            return Err(RepoError::NoFreeIndexName(self.session.to_string()));
        }
        self.repo.index().apply(key.as_str(), &object)?;
        self.number += 1;
        self.chunks = 0;
        Ok(())
    }
}
