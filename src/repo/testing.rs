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
use crate::format::frame::{self, Encoding, Features, FrameChunk, FrameEntry};
use crate::format::header::{Header, ObjectKind};
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::pack::{self, Directory};
use crate::format::snapshot::{Completeness, Manifest, SnapshotTotals};
use crate::format::tree::{Attributes, TreeBuilder, TreeRef};
use crate::id::{PackId, SessionId};
use crate::index::{PackRecord, PackRow};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::memory::MemoryStore;
use crate::store::{ObjectStore, Payload};

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
        Repository::open(store, &options, &mut || Ok(Some(self.credential()))).unwrap()
    }

    /// Returns what opens the store.
    pub(crate) fn credential(&self) -> Credential {
        Credential::FileKey(self.key.clone())
    }

    /// Commits an empty snapshot of this host, a second younger than the last one.
    pub(crate) fn commit(&self, repo: &Repository, source: &str, completeness: Completeness) -> Manifest {
        let session = SessionWriter::open(repo, SessionOptions { threads: 1, ..SessionOptions::new(source) });
        let session = session.unwrap();
        let manifest = self.manifest(repo, &session, source, completeness);
        session.commit(manifest).unwrap().0
    }

    /// Returns the manifest of a session with an empty tree, which is added to it.
    pub(crate) fn manifest(
        &self,
        repo: &Repository,
        session: &SessionWriter,
        source: &str,
        completeness: Completeness,
    ) -> Manifest {
        let mut emit = |page: Vec<u8>| session.add(ChunkKind::Tree, &page).map_err(Error::Repo);
        let root = TreeBuilder::new(repo.keys().ids().clone()).finish(&mut emit).unwrap();
        self.manifest_of(repo, session.id(), source, completeness, root)
    }

    /// Returns the manifest of a session, a second younger than the last one.
    pub(crate) fn manifest_of(
        &self,
        repo: &Repository,
        id: SessionId,
        source: &str,
        completeness: Completeness,
        root: TreeRef,
    ) -> Manifest {
        let mut second = 1_800_000_000;
        self.store.list(Prefix::Snapshots, &mut |_| second += 1).unwrap();
        let time = Timestamp::from_second(second).unwrap();
        Manifest {
            id,
            time,
            finished: time,
            source: source.to_owned(),
            host: repo.writer().host.clone(),
            tags: Vec::new(),
            paths: Vec::new(),
            command: None,
            completeness,
            root_attributes: Attributes::default(),
            root,
            tree_packs: Vec::new(),
            totals: SnapshotTotals::default(),
            dump: None,
            outputs: Vec::new(),
            program: "test".to_owned(),
            origin: None,
        }
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

/// Returns what an index says of its packs, as an index object would; of those of which it has the key.
pub(crate) fn indexed_packs(repo: &Repository) -> Vec<IndexedPack> {
    let mut packs = Vec::new();
    repo.index().packs(&mut |row, pack| packs.push((row, pack))).unwrap();
    let describe = |(row, pack): (PackRow, PackRecord)| {
        let frames = repo.index().frames_of(row).unwrap().into_iter().map(|frame| frame.entry).collect();
        Some(IndexedPack {
            id: pack.id,
            kind: pack.kind,
            bytes: pack.bytes,
            writer: pack.writer,
            header_hash: pack.header_hash,
            header_bytes: pack.header_bytes,
            key: pack.key?,
            directory: Directory { frames },
        })
    };
    packs.into_iter().filter_map(describe).collect()
}

/// Writes a pack of one frame for each of `frames` (chunk, encoding, encoded bytes), and the index object that names it.
pub(crate) fn put_pack(
    repo: &Repository,
    index_key: &ObjectKey,
    frames: Vec<(FrameChunk, Encoding, Vec<u8>)>,
) {
    let (mut bytes, header_hash, key) =
        Header::create(ObjectKind::DataPack, repo.keys(), repo.writer()).unwrap();
    let header_bytes = u32::try_from(bytes.len()).unwrap();
    let mut directory = Directory::default();
    for (number, (chunk, encoding, mut encoded)) in (0..).zip(frames) {
        frame::seal(&key, &header_hash, number, encoding, &mut encoded).unwrap();
        let stored_length = u32::try_from(encoded.len()).unwrap();
        let is_delta = matches!(encoding, Encoding::Delta { .. });
        let features = (!is_delta).then_some(Features([1, 2, 3]));
        directory.frames.push(FrameEntry { stored_length, encoding, features, chunks: vec![chunk] });
        bytes.append(&mut encoded);
    }
    bytes.append(&mut pack::seal_directory(&key, &header_hash, &directory).unwrap());
    let id = PackId::from_bytes(*blake3::hash(&bytes).as_bytes());
    let indexed = IndexedPack {
        id,
        kind: ObjectKind::DataPack,
        bytes: bytes.len() as u64,
        writer: repo.writer().clone(),
        header_hash,
        header_bytes,
        key,
        directory,
    };
    let object = IndexObject { supersedes: Vec::new(), packs: vec![indexed] };
    let sealed = object.seal(repo.keys(), repo.writer(), index_key.as_str()).unwrap();
    repo.store().create(&ObjectKey::pack(&id), Payload::Bytes(&bytes)).unwrap();
    repo.store().create(index_key, Payload::Bytes(&sealed)).unwrap();
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
