//! A store in memory with folders of its own, for the tests of this layer and those above.

use std::sync::Arc;

use super::Repository;
use super::open::{CreateOptions, LocalFolders, OpenOptions};
use crate::chunker::ChunkerParams;
use crate::crypto::slot::{Credential, FileKey};
use crate::store::ObjectStore;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::memory::MemoryStore;

/// An encrypted store and what opens it.
pub(crate) struct TestStore {
    pub(crate) store: Arc<MemoryStore>,
    key: FileKey,
    folders: tempfile::TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let key = FileKey::random().unwrap();
        let options = CreateOptions {
            credentials: vec![Credential::FileKey(key.clone())],
            chunker: ChunkerParams::DEFAULT,
        };
        Repository::create(store.as_ref(), &options).unwrap();
        Self { store, key, folders: tempfile::tempdir().unwrap() }
    }

    /// Opens the store with the folders it had before.
    pub(crate) fn open(&self) -> Repository {
        self.open_through(Arc::clone(&self.store) as Arc<dyn ObjectStore>)
    }

    /// Opens the store as a host that never saw it.
    pub(crate) fn open_cold(&mut self) -> Repository {
        self.folders = tempfile::tempdir().unwrap();
        self.open()
    }

    /// Opens the store through a wrapper.
    pub(crate) fn open_through(&self, store: Arc<dyn ObjectStore>) -> Repository {
        let options = OpenOptions {
            folders: LocalFolders {
                cache: self.folders.path().join("cache"),
                state: self.folders.path().join("state"),
            },
            host: "testhost".to_owned(),
            cache_bytes: 64 << 20,
        };
        let key = self.key.clone();
        Repository::open(store, &options, &mut || Ok(Some(Credential::FileKey(key.clone())))).unwrap()
    }

    /// Lists everything that lies in the store.
    pub(crate) fn store_keys(&self) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        for prefix in Prefix::ALL {
            self.store.list(prefix, &mut |object| keys.push(object.key)).unwrap();
        }
        keys.sort();
        keys
    }
}
