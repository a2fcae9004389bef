//! Index objects without dead packs, in place of those that name some; and small ones joined.

use std::collections::HashSet;

use super::GcError;
use crate::format::index_object::{INDEX_MAX_PACKS, INDEX_MAX_SUPERSEDED, IndexObject, IndexedPack};
use crate::id::{PackId, SessionId};
use crate::index::ListedObject;
#[cfg(test)]
use crate::repo::flaw::Flaw;
use crate::repo::{RepoError, Repository, parallel};
use crate::store::key::ObjectKey;
use crate::store::{Creation, Payload};

/// An index object that is written holds about so many chunks.
const CHUNKS_PER_OBJECT: u64 = 1 << 16;
/// An index object with fewer chunks is small.
const SMALL_CHUNKS: u64 = CHUNKS_PER_OBJECT / 4;
/// So many small ones are joined.
const SMALL_MIN: usize = 16;
/// Bytes of index objects that are read at a time.
const BYTES_UNDER_WAY: u64 = 32 << 20;

/// Replaces index objects that name any of the `dead` packs, and joins small ones. Each is put under a session id that is
/// this collector's alone: under a key that it shares, the object of another one would be taken for its own.
///
/// A few are replaced at a time, and deleted before the next few are: whoever dies leaves no more than one of those that
/// it put beside what it was to replace. They name the same packs, which does no harm.
///
/// What they say comes from the store, not from the local index: that is a cache, and may be damaged.
pub(super) fn replace(repo: &Repository, dead: &HashSet<PackId>) -> Result<u64, GcError> {
    let old = superseded(repo.index().listed_objects().map_err(RepoError::from)?, dead);
    if old.is_empty() {
        return Ok(0);
    }
    let session = SessionId::random(jiff::Timestamp::now()).map_err(RepoError::from)?;
    let mut writer = ReplacementWriter {
        repo,
        session,
        number: 0,
        object: IndexObject::default(),
        chunks: 0,
        replaced: Vec::new(),
        seen: HashSet::new(),
    };
    let mut replaced = 0;
    let read = |key: ObjectKey| Ok::<_, RepoError>((repo.index_object(&key)?, key));
    parallel::in_order(repo.store().requests_at_once(), BYTES_UNDER_WAY, old, read, |(object, key)| {
        // Another collector has replaced it where it is gone.
        let Some(object) = object else { return Ok(()) };
        replaced += 1;
        writer.replace(key, object, dead)
    })?;
    writer.finish()?;
    Ok(replaced)
}

/// Returns the index objects that are to go, the oldest first, with what they take, about: those that name dead packs, and
/// small ones if there are many.
fn superseded(objects: Vec<ListedObject>, dead: &HashSet<PackId>) -> Vec<(ObjectKey, u64)> {
    /// What a chunk takes in an index object, about.
    const CHUNK_BYTES: u64 = 64;
    let is_small = |object: &ListedObject| object.chunks < SMALL_CHUNKS;
    let joins = objects.iter().filter(|object| is_small(object)).count() >= SMALL_MIN;
    let is_old = |object: &ListedObject| {
        object.packs.iter().any(|id| dead.contains(id)) || (joins && is_small(object))
    };
    let old = objects.into_iter().filter(is_old);
    let mut old: Vec<_> = old
        .filter_map(|object| {
            Some((ObjectKey::parse(&object.key)?, object.chunks.saturating_mul(CHUNK_BYTES)))
        })
        .collect();
    // What was written together stays together: readers of a snapshot want it together.
    old.sort_unstable();
    old
}

/// Writes index objects of bounded size.
struct ReplacementWriter<'a> {
    repo: &'a Repository,
    session: SessionId,
    number: u32,
    object: IndexObject,
    chunks: u64,
    /// What the next one replaces, with those that were put before it.
    replaced: Vec<ObjectKey>,
    /// Packs that were put; several index objects may name one.
    seen: HashSet<PackId>,
}

impl ReplacementWriter<'_> {
    /// Takes over what is left of an index object. Replaces those that were taken over so far if they are enough for one.
    fn replace(
        &mut self,
        key: ObjectKey,
        object: IndexObject,
        dead: &HashSet<PackId>,
    ) -> Result<(), RepoError> {
        for pack in object.packs {
            if !dead.contains(&pack.id) && self.seen.insert(pack.id) {
                self.add(pack)?;
            }
        }
        self.object.supersedes.push(key.to_string());
        self.replaced.push(key);
        let is_enough =
            self.chunks >= CHUNKS_PER_OBJECT || self.object.supersedes.len() >= INDEX_MAX_SUPERSEDED;
        if is_enough { self.finish() } else { Ok(()) }
    }

    fn add(&mut self, pack: IndexedPack) -> Result<(), RepoError> {
        self.chunks += pack.directory.frames.iter().map(|frame| frame.chunks.len() as u64).sum::<u64>();
        self.object.packs.push(pack);
        if self.object.packs.len() >= INDEX_MAX_PACKS { self.flush() } else { Ok(()) }
    }

    /// Puts what was taken over, and deletes what it replaces.
    fn finish(&mut self) -> Result<(), RepoError> {
        let keys = std::mem::take(&mut self.replaced);
        #[cfg(test)]
        if Flaw::SupersedesFirst.is_back() {
            self.delete(&keys)?;
        }
        self.flush()?;
        self.delete(&keys)
    }

    fn delete(&self, keys: &[ObjectKey]) -> Result<(), RepoError> {
        let store = self.repo.store();
        parallel::each(store.requests_at_once(), keys, |key| Ok::<_, RepoError>(store.delete(key)?))?;
        let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
        Ok(self.repo.index().retract(&names)?)
    }

    fn flush(&mut self) -> Result<(), RepoError> {
        if self.object.packs.is_empty() {
            // Nothing is left of what was taken over.
            self.object.supersedes.clear();
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
