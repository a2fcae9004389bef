//! A store in memory, for tests of every layer and for trying things out. Nothing outlives it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::key::{ObjectKey, Prefix};
use super::{Creation, ObjectInfo, ObjectStore, Payload, StoreError, range_within, short_payload};

/// A store in memory. It is durable in so far as it lives.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectKey, Arc<[u8]>>>,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Arc<[u8]>>> {
        // Every change is a single insertion or removal, which no panic leaves half done.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &ObjectKey) -> io::Result<Arc<[u8]>> {
        self.objects().get(key).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl ObjectStore for MemoryStore {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        let bytes =
            read_payload(payload).map_err(|error| StoreError::from_io("create", key.to_string(), error))?;
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Ok(Creation::AlreadyExists);
        }
        objects.insert(key.clone(), bytes);
        Ok(Creation::Created)
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        self.find(key)
            .and_then(|object| slice(&object, range))
            .map_err(|error| StoreError::from_io("read", key.to_string(), error))
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        self.find(key)
            .map(|object| object.len() as u64)
            .map_err(|error| StoreError::from_io("find", key.to_string(), error))
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        // Collected first: the visitor may use this store.
        let found: Vec<_> = self
            .objects()
            .iter()
            .filter(|(key, _)| key.has_prefix(prefix))
            .map(|(key, object)| ObjectInfo { key: key.clone(), bytes: Some(object.len() as u64) })
            .collect();
        found.into_iter().for_each(visit);
        Ok(())
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.objects().remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn requests_at_once(&self) -> usize {
        1
    }
}

fn read_payload(payload: Payload<'_>) -> io::Result<Arc<[u8]>> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes.into()),
        Payload::File { file, bytes } => {
            let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
            file.read_exact_at(&mut buffer, 0).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => short_payload(bytes),
                _ => error,
            })?;
            Ok(buffer.into())
        }
    }
}

fn slice(object: &[u8], range: Option<Range<u64>>) -> io::Result<Vec<u8>> {
    let range = range_within(range, object.len() as u64)?;
    let start = usize::try_from(range.start).map_err(io::Error::other)?;
    let end = usize::try_from(range.end).map_err(io::Error::other)?;
    object.get(start..end).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn conforms() {
        conformance::check(|_| Box::new(MemoryStore::new()));
    }
}
