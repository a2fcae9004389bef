//! Readers while a collector replaces index objects.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::*;
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::store::key::Prefix;
use crate::store::memory::MemoryStore;
use crate::store::{Creation, ObjectInfo, ObjectStore, StoreError};

/// What a listing shows that runs while an index object is replaced: the place of the new one was passed before it was
/// there, that of the old one before it went or after.
#[derive(Debug, Clone, Copy)]
enum Shows {
    OnlyOld,
    Neither,
}

/// A store where an index object is replaced during each of the next listings.
struct Moving {
    below: Arc<MemoryStore>,
    shows: Shows,
    /// The names that it has one after the other, the current one first, and its bytes under each.
    names: Mutex<Vec<(ObjectKey, Vec<u8>)>>,
}

impl ObjectStore for Moving {
    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let mut names = self.names.lock().unwrap();
        if prefix != Prefix::Index || names.len() < 2 {
            return self.below.list(prefix, visit);
        }
        let (old, _) = names.remove(0);
        let (new, bytes) = &names[0];
        if let Shows::OnlyOld = self.shows {
            self.below.list(prefix, visit)?;
        }
        self.below.create(new, Payload::Bytes(bytes))?;
        self.below.delete(&old)
    }

    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        self.below.create(key, payload)
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        self.below.get(key, range)
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        self.below.size(key)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.below.delete(key)
    }

    fn location(&self) -> String {
        self.below.location()
    }

    fn requests_at_once(&self) -> usize {
        self.below.requests_at_once()
    }
}

/// Reads a chunk on a host that knows nothing yet, while the index object that names its pack is replaced so often.
fn read_while_it_moves(shows: Shows, times: usize) -> Result<Vec<u8>, RepoError> {
    let mut test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let id = session.add(ChunkKind::Data, b"a chunk").unwrap();
    session.abandon().unwrap();
    let mut listed = Vec::new();
    test.store.list(Prefix::Index, &mut |object| listed.push(object.key)).unwrap();
    let object = repo.index_object(&listed[0], None).unwrap().unwrap();
    let renamed = (0..times).map(|_| {
        let session = SessionId::random("2026-11-22T00:00:00Z".parse().unwrap()).unwrap();
        let key = ObjectKey::index(session, 0);
        let bytes = object.seal(repo.keys(), repo.writer(), key.as_str()).unwrap();
        (key, bytes)
    });
    let names = std::iter::once((listed[0].clone(), Vec::new())).chain(renamed).collect();
    let _ = test.open_cold();
    let moving = Moving { below: Arc::clone(&test.store), shows, names: Mutex::new(names) };
    let cold = test.open_through(Arc::new(moving));
    cold.chunk(ChunkKind::Data, &id).map(|chunk| chunk.to_vec())
}

/// A restore that ran beside a collection once failed with a chunk that is in no pack, which was there.
#[test]
fn a_chunk_whose_index_object_is_replaced_is_found() {
    for (shows, times) in [(Shows::OnlyOld, 1), (Shows::OnlyOld, 3), (Shows::Neither, 1)] {
        assert_eq!(read_while_it_moves(shows, times).unwrap(), b"a chunk", "{shows:?} {times}");
    }
}

#[test]
fn a_chunk_that_never_stands_still_is_given_up() {
    let error = read_while_it_moves(Shows::OnlyOld, 1000).unwrap_err();
    assert!(matches!(error, RepoError::MissingChunk(_)), "{error:?}");
}
