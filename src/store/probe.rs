//! Finds out whether a place keeps what collecting garbage rests on.
//!
//! Backups work without it, but collecting garbage does not. A session and the collector that fences it race to create
//! one object, of which one must win: some servers ignore the condition silently, others check it but not atomically.
//! And what a listing leaves out looks like what nobody needs: caches and replicas show what was there a while ago.

use std::io;
use std::sync::{PoisonError, RwLock};
use std::thread;

use super::key::{ObjectKey, Prefix};
use super::{Creation, ObjectStore, Payload, StoreError};

const RACERS: usize = 16;

/// Tells whether exactly one of 16 racing creations of a fresh key wins, and the object is the winner's.
///
/// The object is deleted afterwards if the store lets us; what is left under `probe/` means nothing.
///
/// # Errors
/// Fails if a racer's creation fails, or the object cannot be read: then nothing was found out.
pub fn conditional_create(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    let key = fresh_key(store)?;
    let outcome = race(store, &key);
    if let Err(error) = store.delete(&key) {
        // A store may rightly forbid this host to delete.
        tracing::debug!(%key, error = &error as &dyn std::error::Error, "the probe's object stays");
    }
    outcome
}

/// Tells whether a listing shows an object as soon as it was created, and no longer once it was deleted.
///
/// # Errors
/// Fails if the object cannot be created, or the store not be listed: then nothing was found out.
pub fn current_listing(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    let key = fresh_key(store)?;
    store.create(&key, Payload::Bytes(&payload(0)))?;
    let shown = is_listed(store, &key)?;
    // Where this host may not delete, the rest remains unknown.
    Ok(shown && (store.delete(&key).is_err() || !is_listed(store, &key)?))
}

fn is_listed(store: &dyn ObjectStore, key: &ObjectKey) -> Result<bool, StoreError> {
    let mut found = false;
    store.list(Prefix::Probe, &mut |object| found |= object.key == *key)?;
    Ok(found)
}

fn fresh_key(store: &dyn ObjectStore) -> Result<ObjectKey, StoreError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)
        .map_err(|error| StoreError::from_io("probe", store.location(), io::Error::other(error)))?;
    Ok(ObjectKey::probe(u128::from_be_bytes(nonce)))
}

fn race(store: &dyn ObjectStore, key: &ObjectKey) -> Result<bool, StoreError> {
    let start = RwLock::new(());
    let creations = thread::scope(|scope| -> Result<Vec<_>, StoreError> {
        // Held until all racers wait for it; given up too if one of them cannot be started.
        let hold = start.write().unwrap_or_else(PoisonError::into_inner);
        let mut racers = Vec::new();
        for number in 0..RACERS {
            let start = &start;
            let run = move || {
                drop(start.read().unwrap_or_else(PoisonError::into_inner));
                store.create(key, Payload::Bytes(&payload(number)))
            };
            let racer = thread::Builder::new()
                .spawn_scoped(scope, run)
                .map_err(|error| StoreError::from_io("probe", store.location(), error))?;
            racers.push((number, racer));
        }
        drop(hold);
        racers.into_iter().map(|(number, racer)| Ok((number, joined(racer)?))).collect()
    })?;
    let mut winners = creations.into_iter().filter(|(_, creation)| *creation == Creation::Created);
    let (Some((winner, _)), None) = (winners.next(), winners.next()) else { return Ok(false) };
    Ok(store.get(key, None)? == payload(winner))
}

fn joined(racer: thread::ScopedJoinHandle<'_, Result<Creation, StoreError>>) -> Result<Creation, StoreError> {
    racer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn payload(racer: usize) -> Vec<u8> {
    format!("yester probe, racer {racer}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::store::fault::{Fault, FaultStore, Operation};
    use crate::store::memory::MemoryStore;
    use crate::store::{ObjectInfo, StoreErrorKind};

    /// Lets every racer win, as servers do that do not know the condition.
    struct Unconditional(MemoryStore);

    impl ObjectStore for Unconditional {
        fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
            self.0.delete(key)?;
            self.0.create(key, payload)?;
            Ok(Creation::Created)
        }
        fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
            self.0.get(key, range)
        }
        fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
            self.0.size(key)
        }
        fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
            self.0.list(prefix, visit)
        }
        fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
            self.0.delete(key)
        }
        fn location(&self) -> String {
            "unconditional".to_owned()
        }

        fn requests_at_once(&self) -> usize {
            1
        }
    }

    fn leftovers(store: &dyn ObjectStore) -> usize {
        let mut count = 0;
        store.list(Prefix::Probe, &mut |_| count += 1).unwrap();
        count
    }

    #[test]
    fn a_conforming_store_passes() {
        let store = MemoryStore::new();
        assert!(conditional_create(&store).unwrap());
        assert!(current_listing(&store).unwrap());
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn a_store_that_ignores_the_condition_fails() {
        let store = Unconditional(MemoryStore::new());
        assert!(!conditional_create(&store).unwrap());
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn an_error_is_no_answer() {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        store.script(|call| {
            (call.operation == Operation::Create && call.earlier == 7)
                .then_some(Fault::Fail(StoreErrorKind::Unavailable))
        });
        let error = conditional_create(&store).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn a_store_that_forbids_deletion_passes() {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        store.script(|call| {
            (call.operation == Operation::Delete).then_some(Fault::Fail(StoreErrorKind::Denied))
        });
        assert!(conditional_create(&store).unwrap());
        assert_eq!(leftovers(&store), 1);
        assert!(current_listing(&store).unwrap());
    }
}
