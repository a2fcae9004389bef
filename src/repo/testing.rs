//! A store in memory with folders of its own, for the tests of this layer and those above.

use std::sync::Arc;

use jiff::Timestamp;

use super::open::{CreateOptions, LocalFolders, OpenOptions};
use super::session::{SessionOptions, SessionWriter};
use super::{RepoError, Repository};
use crate::chunker::ChunkerParams;
use crate::crypto::hash::ChunkKind;
use crate::crypto::slot::{Credential, FileKey};
use crate::format::FormatError;
use crate::format::snapshot::{Completeness, Manifest, SnapshotTotals};
use crate::format::tree::{Attributes, TreeBuilder};
use crate::store::ObjectStore;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::memory::MemoryStore;

/// An encrypted store and what opens it.
pub(crate) struct TestStore {
    pub(crate) store: Arc<MemoryStore>,
    /// What the store is opened with; nothing at first.
    pub(crate) base_cache_bytes: Option<u64>,
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
        Self { store, base_cache_bytes: None, key, folders: tempfile::tempdir().unwrap() }
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
            base_cache_bytes: self.base_cache_bytes,
        };
        let key = self.key.clone();
        Repository::open(store, &options, &mut || Ok(Some(Credential::FileKey(key.clone())))).unwrap()
    }

    /// Commits an empty snapshot of this host, a second younger than the last one.
    pub(crate) fn commit(&self, repo: &Repository, source: &str, completeness: Completeness) -> Manifest {
        let mut second = 1_800_000_000;
        self.store.list(Prefix::Snapshots, &mut |_| second += 1).unwrap();
        let time = Timestamp::from_second(second).unwrap();
        let session = SessionWriter::open(repo, SessionOptions { threads: 1, ..SessionOptions::new(source) });
        let session = session.unwrap();
        let mut emit = |page: Vec<u8>| session.add(ChunkKind::Tree, &page).map_err(Error::Repo);
        let root = TreeBuilder::new(repo.keys().ids().clone()).finish(&mut emit).unwrap();
        let manifest = Manifest {
            id: session.id(),
            time,
            finished: time,
            source: source.to_owned(),
            host: "testhost".to_owned(),
            tags: Vec::new(),
            paths: Vec::new(),
            command: None,
            completeness,
            root_attributes: Attributes::default(),
            root,
            tree_packs: Vec::new(),
            totals: SnapshotTotals::default(),
            dump: None,
            program: "test".to_owned(),
        };
        session.commit(manifest).unwrap().0
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

/// Why a tree could not be made.
#[derive(Debug)]
enum Error {
    Repo(#[expect(dead_code, reason = "shown by unwrap")] RepoError),
    Format(#[expect(dead_code, reason = "shown by unwrap")] FormatError),
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}
