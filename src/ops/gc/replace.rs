//! Index objects without dead packs, in place of those that name some; and small ones joined.

use std::collections::HashSet;

use super::GcError;
use crate::format::index_object::{INDEX_MAX_PACKS, INDEX_MAX_SUPERSEDED, IndexObject, IndexedPack};
use crate::id::{PackId, SessionId};
use crate::index::ListedObject;
#[cfg(test)]
use crate::repo::flaw::Flaw;
use crate::repo::{RepoError, Repository, parallel};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{Creation, ObjectInfo, Payload};

/// An index object that is written holds about so many chunks; one with less than a quarter of them is small.
pub(in crate::ops) const CHUNKS_PER_OBJECT: u64 = 1 << 16;
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
pub(in crate::ops) fn replace(
    repo: &Repository,
    dead: &HashSet<PackId>,
    chunks_per_object: u64,
) -> Result<u64, GcError> {
    let objects = repo.index().listed_objects().map_err(RepoError::from)?;
    let old = superseded(objects, dead, chunks_per_object / 4);
    if old.is_empty() {
        return Ok(0);
    }
    // What is gone by now was replaced by another collector.
    let mut listed = Vec::new();
    let mut visit = |object: ObjectInfo| {
        if old.contains(&object.key) {
            listed.push(object);
        }
    };
    repo.store().list(Prefix::Index, &mut visit).map_err(RepoError::from)?;
    // What was written together stays together: readers of a snapshot want it together.
    listed.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let session = SessionId::random(jiff::Timestamp::now()).map_err(RepoError::from)?;
    let mut writer = ReplacementWriter::new(repo, session, chunks_per_object);
    let mut replaced = 0;
    let sized = listed.into_iter().map(|ObjectInfo { key, bytes }| ((key, bytes), bytes.unwrap_or(0)));
    let read = |(key, bytes)| Ok::<_, RepoError>((repo.index_object(&key, bytes)?, key));
    parallel::in_order(repo.store().requests_at_once(), BYTES_UNDER_WAY, sized, read, |(object, key)| {
        let Some(object) = object else { return Ok(()) };
        replaced += 1;
        writer.replace(key, object, dead)
    })?;
    writer.finish()?;
    Ok(replaced)
}

/// Puts index objects of these packs in the place of old ones, which are deleted; there may be none.
pub(in crate::ops) fn put_instead(
    repo: &Repository,
    packs: Vec<IndexedPack>,
    old: &[ObjectKey],
) -> Result<(), RepoError> {
    let session = SessionId::random(jiff::Timestamp::now())?;
    let mut writer = ReplacementWriter::new(repo, session, CHUNKS_PER_OBJECT);
    writer.object.supersedes = old.iter().take(INDEX_MAX_SUPERSEDED).map(ToString::to_string).collect();
    writer.replaced = old.to_vec();
    packs.into_iter().try_for_each(|pack| writer.add(pack))?;
    writer.finish()
}

/// Returns the index objects that are to go: those that name dead packs, and small ones if there are many.
fn superseded(objects: Vec<ListedObject>, dead: &HashSet<PackId>, small_chunks: u64) -> HashSet<ObjectKey> {
    let is_small = |object: &ListedObject| object.chunks < small_chunks;
    let joins = objects.iter().filter(|object| is_small(object)).count() >= SMALL_MIN;
    let is_old = |object: &ListedObject| {
        object.packs.iter().any(|id| dead.contains(id)) || (joins && is_small(object))
    };
    let old = objects.into_iter().filter(is_old);
    old.filter_map(|object| ObjectKey::parse(&object.key)).collect()
}

/// Writes index objects of bounded size.
struct ReplacementWriter<'a> {
    repo: &'a Repository,
    session: SessionId,
    chunks_per_object: u64,
    number: u32,
    object: IndexObject,
    chunks: u64,
    /// What the next one replaces, with those that were put before it.
    replaced: Vec<ObjectKey>,
    /// Packs that were put; several index objects may name one.
    seen: HashSet<PackId>,
}

impl<'a> ReplacementWriter<'a> {
    fn new(repo: &'a Repository, session: SessionId, chunks_per_object: u64) -> Self {
        Self {
            repo,
            session,
            chunks_per_object,
            number: 0,
            object: IndexObject::default(),
            chunks: 0,
            replaced: Vec::new(),
            seen: HashSet::new(),
        }
    }

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
            self.chunks >= self.chunks_per_object || self.object.supersedes.len() >= INDEX_MAX_SUPERSEDED;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ops::restore::fixture::{Fixture, noise};
    use crate::repo::testing::indexed_packs;
    use crate::store::ObjectStore;
    use crate::store::fault::Operation;

    const NIGHTS: u64 = 40;
    /// Of such index objects, each takes the place of eight or more of a night.
    const CHUNKS: u64 = 24;

    /// A store to which many sessions have added little: an index object each.
    fn world() -> Fixture {
        let fixture = Fixture::new();
        for night in 0..NIGHTS {
            fixture.commit(|maker| vec![maker.file("file", &noise(night, 100))]);
        }
        fixture
    }

    fn packs(fixture: &Fixture) -> BTreeSet<PackId> {
        indexed_packs(&fixture.repo).into_iter().map(|pack| pack.id).collect()
    }

    fn join(fixture: &Fixture) -> Result<u64, GcError> {
        fixture.repo.refresh_strictly()?;
        replace(&fixture.repo, &HashSet::new(), CHUNKS)
    }

    #[test]
    fn small_index_objects_are_joined_a_few_at_a_time() {
        let fixture = world();
        let all = packs(&fixture);
        fixture.store.clear_calls();
        assert_eq!(join(&fixture).unwrap(), NIGHTS);
        let objects = fixture.keys(Prefix::Index).len();
        assert!((2..=10).contains(&objects), "{objects}");
        let mutating: Vec<_> = fixture
            .store
            .calls()
            .into_iter()
            .map(|call| call.operation)
            .filter(|it| it.is_mutating())
            .collect();
        let switches = mutating.chunk_by(|one, other| one == other).count();
        assert_eq!(switches, 2 * objects, "each is put, then what it replaces is deleted");
        assert_eq!(mutating.iter().filter(|it| **it == Operation::Delete).count(), all.len() / 2);
        let cold = fixture.on_another_host();
        cold.repo.refresh_strictly().unwrap();
        assert_eq!((packs(&fixture), packs(&cold)), (all.clone(), all));
        assert_eq!(join(&cold).unwrap(), 0, "there are few now");
    }

    #[test]
    fn a_death_leaves_at_most_one_too_many() {
        let steps = {
            let fixture = world();
            fixture.store.clear_calls();
            join(&fixture).unwrap();
            fixture.store.calls().iter().filter(|call| call.operation.is_mutating()).count()
        };
        let fixture = world();
        let all = packs(&fixture);
        let objects = |fixture: &Fixture| -> Vec<(ObjectKey, Vec<u8>)> {
            let keys = fixture.keys(Prefix::Index);
            keys.into_iter().map(|key| (key.clone(), fixture.memory.get(&key, None).unwrap())).collect()
        };
        let before = objects(&fixture);
        for mutations in 0..steps {
            let other = fixture.on_another_host();
            other.store.die_after(mutations);
            drop(join(&other).unwrap_err());
            let next = fixture.on_another_host();
            next.repo.refresh_strictly().unwrap();
            assert_eq!(packs(&next), all, "{mutations}");
            join(&next).unwrap();
            next.repo.refresh_strictly().unwrap();
            assert_eq!(packs(&next), all, "{mutations}");
            let named = next.repo.index().listed_objects().unwrap();
            let named: usize = named.iter().map(|object| object.packs.len()).sum();
            let twice = named - all.len();
            // One that is full holds a few more chunks at most, and a pack holds one at least.
            assert!(twice as u64 <= CHUNKS + 2, "{mutations}: {twice} packs are named twice");
            // Back to what there was.
            for (key, _) in objects(&fixture) {
                fixture.memory.delete(&key).unwrap();
            }
            for (key, bytes) in &before {
                fixture.memory.create(key, Payload::Bytes(bytes)).unwrap();
            }
        }
    }
}
