//! Records what several actors do to one store, in the order in which it happened.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::key::{ObjectKey, Prefix};
use crate::store::memory::MemoryStore;
use crate::store::{Creation, ObjectInfo, ObjectStore, Payload, StoreError};

/// Somebody with a view of the store: a host that writes, or a collector.
pub(super) type Actor = usize;

/// What somebody did.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) actor: Actor,
    pub(super) what: What,
}

/// One step, as far as others may notice it or act on it.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// All objects of a kind were listed.
    Listed(Prefix),
    /// An object was created; with its bytes, where they lay in memory.
    Created(ObjectKey, Vec<u8>),
    /// An object was to be created, and there is one.
    Refused(ObjectKey),
    Deleted(ObjectKey),
    /// A collector came to the end of its work, or gave up.
    Ended,
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(prefix) => write!(formatter, "a listing of {prefix}"),
            Self::Created(key, _) => write!(formatter, "creating {key}"),
            Self::Refused(key) => write!(formatter, "finding {key}"),
            Self::Deleted(key) => write!(formatter, "deleting {key}"),
            Self::Ended => write!(formatter, "the end of a collection"),
        }
    }
}

/// The record.
#[derive(Clone, Default)]
pub(super) struct Record(Arc<Mutex<Vec<Event>>>);

impl Record {
    /// Returns what an actor sees of a store, and writes down what it does.
    pub(super) fn view(&self, store: &Arc<MemoryStore>, actor: Actor) -> Arc<dyn ObjectStore> {
        Arc::new(View { store: Arc::clone(store), record: self.clone(), actor })
    }

    pub(super) fn ended(&self, actor: Actor) {
        self.lock().push(Event { actor, what: What::Ended });
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct View {
    store: Arc<MemoryStore>,
    record: Record,
    actor: Actor,
}

impl View {
    /// Does something while nobody else does anything.
    fn step<T>(
        &self,
        act: impl FnOnce(&MemoryStore) -> Result<T, StoreError>,
        what: impl FnOnce(&T) -> What,
    ) -> Result<T, StoreError> {
        let mut events = self.record.lock();
        let done = act(&self.store)?;
        events.push(Event { actor: self.actor, what: what(&done) });
        Ok(done)
    }
}

impl ObjectStore for View {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        let bytes = match payload {
            Payload::Bytes(bytes) => bytes.to_vec(),
            Payload::File { .. } => Vec::new(),
        };
        self.step(
            |store| store.create(key, payload),
            |creation| match creation {
                Creation::Created => What::Created(key.clone(), bytes),
                Creation::AlreadyExists => What::Refused(key.clone()),
            },
        )
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        self.store.get(key, range)
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        self.store.size(key)
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        // The visitor may use the store, so that it is called when others may go on.
        let listed = self.step(
            |store| {
                let mut listed = Vec::new();
                store.list(prefix, &mut |object| listed.push(object))?;
                Ok(listed)
            },
            |_| What::Listed(prefix),
        )?;
        listed.into_iter().for_each(visit);
        Ok(())
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.step(|store| store.delete(key), |()| What::Deleted(key.clone()))
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn requests_at_once(&self) -> usize {
        self.store.requests_at_once()
    }
}
